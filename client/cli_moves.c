/* moves: rows of moves; see cli_moves.h. */
#include "client/cli_moves.h"

#include <stdlib.h>

/* ---- JSON ---- */

static json_t *number_or_null(uint64_t value)
{
    return value == SHARDKV_NOT_KNOWN ? json_null() : json_integer((json_int_t)value);
}

static json_t *move_json(const struct shardkv_move_status *move)
{
    return json_pack(
        "{s:I,s:I,s:I,s:s,s:I,s:I,s:I,s:I,s:I,s:I,s:o,s:o}", "shard", (json_int_t)move->shard,
        "from", (json_int_t)move->from, "to", (json_int_t)move->to, "phase",
        cli_move_phase_name(move->phase), "config", (json_int_t)move->config, "bytes_done",
        (json_int_t)move->bytes_done, "bytes_total", (json_int_t)move->bytes_total, "keys_done",
        (json_int_t)move->keys_done, "keys_total", (json_int_t)move->keys_total, "rate_bytes_per_s",
        (json_int_t)move->rate_bytes_per_s, "seconds_left", number_or_null(move->seconds_left),
        "pause_us", number_or_null(move->pause_us));
}

json_t *moves_json(const struct survey *survey)
{
    json_t *rows = json_array();
    size_t n;
    struct shardkv_move_status *moves = survey_moves(survey, &n);

    for (size_t i = 0; i < n; i++) {
        json_array_append_new(rows, move_json(&moves[i]));
    }
    free(moves);
    return rows;
}

/* ---- Text ---- */

/* What may be unknown: a number with its unit, or a dash. */
static const char *with_unit(char text[24], bool known, double value, const char *unit)
{
    if (known) {
        snprintf(text, 24, "%.1f%s", value, unit);
    } else {
        snprintf(text, 24, "-");
    }
    return text;
}

static void print_move(FILE *file, const struct shardkv_move_status *move)
{
    char total[24], rate[24], left[24], pause[24];

    fprintf(
        file, "%-6u %6u %6u %-13s %9.1fM %10s %10llu %10s %8s %9s\n", move->shard, move->from,
        move->to, cli_move_phase_name(move->phase), (double)move->bytes_done / 1e6,
        with_unit(total, move->bytes_total > 0, (double)move->bytes_total / 1e6, "M"),
        (unsigned long long)move->keys_done,
        with_unit(rate, move->rate_bytes_per_s > 0, (double)move->rate_bytes_per_s / 1e6, "M/s"),
        with_unit(left, move->seconds_left != SHARDKV_NOT_KNOWN, (double)move->seconds_left, "s"),
        with_unit(pause, move->pause_us != SHARDKV_NOT_KNOWN, (double)move->pause_us / 1e3, "ms"));
}

void moves_print(FILE *file, const struct survey *survey)
{
    size_t n;
    struct shardkv_move_status *moves = survey_moves(survey, &n);

    if (n > 0) {
        fprintf(file, "%-6s %6s %6s %-13s %10s %10s %10s %10s %8s %9s\n", "SHARD", "FROM", "TO",
                "PHASE", "DONE", "TOTAL", "KEYS", "RATE", "LEFT", "PAUSE");
    }
    for (size_t i = 0; i < n; i++) {
        print_move(file, &moves[i]);
    }
    free(moves);
}
