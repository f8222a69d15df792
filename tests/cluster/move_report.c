/* The figures as JSON and as a table, and the verdict. */
#include <stdlib.h>
#include <string.h>

#include "tests/cluster/move_load.h"

#define MIB 1048576.0

static const char *const class_names[] = {"moving", "others", "tokens"};
static const char *const kind_names[] = {"get", "write"};

/* What the issue wants; told beside what was measured. */
#define AIM_PAUSE_P50_MS   10.0
#define AIM_PAUSE_WORST_MS 100.0
#define AIM_P99_RATIO      2.0
#define AIM_COPY_RATIO     0.5
#define AIM_MEMORY_MIB     256.0

struct aim {
    const char *name;
    double aim, measured;
    bool least; /* at least, else at most */
    bool measured_at_all;
};

#define MAX_AIMS 12

struct report {
    struct load *load;
    FILE *out;
    struct aim aims[MAX_AIMS];
    size_t n_aims;
    uint64_t errors, unknown; /* in phases without faults */
};

/* ---- Figures ---- */

static void tally_phase(struct load *load, const struct phase *phase, enum load_class class,
                        struct tally *tally)
{
    struct records *records =
        class == LOAD_TOKENS ? &load->token_records : &load->lanes[class].records;
    uint64_t to_ns = phase->end_ns != 0 ? phase->end_ns : cli_now_ns();
    uint64_t begin_ns = class == LOAD_TOKENS ? 0 : load->load_start_ns;

    if (load->load_end_ns != 0 && phase->start_ns >= load->load_end_ns) {
        begin_ns = 0;
    }
    records_tally(records, begin_ns, phase->start_ns, to_ns, tally);
}

static double copy_rate(const struct load *load, const struct change *change)
{
    double seconds = (double)(change->served_ns - change->start_ns) / 1e9;

    return change->done && change->from != change->to && seconds > 0
               ? (double)load->fill_bytes / 1e6 / seconds
               : 0;
}

void report_change(struct load *load, const struct change *change, char *line, size_t size)
{
    struct tally moving, others;

    tally_phase(load, &load->phases[change->phase], LOAD_MOVING, &moving);
    tally_phase(load, &load->phases[change->phase], LOAD_OTHERS, &others);
    snprintf(line, size,
             "from=%u to=%u served_s=%.3f settled_s=%.3f mb_per_s=%.2f pause_ms=%.1f errors=%llu "
             "unknown=%llu shards=%u",
             (unsigned)change->from, (unsigned)change->to,
             (double)(change->served_ns - change->start_ns) / 1e9,
             (double)(change->settled_ns - change->start_ns) / 1e9, copy_rate(load, change),
             change->load ? moving.pause_ms : 0.0,
             (unsigned long long)(moving.errors + others.errors),
             (unsigned long long)(moving.unknown + others.unknown), (unsigned)change->shards_moved);
}

/* ---- JSON ---- */

static json_t *real(double number)
{
    return json_real((double)(int64_t)(number * 1000 + (number < 0 ? -0.5 : 0.5)) / 1000);
}

static json_t *integer(uint64_t number)
{
    return json_integer((json_int_t)number);
}

static json_t *tally_json(const struct tally *tally)
{
    return json_pack("{s:o,s:o,s:o,s:o,s:o,s:o,s:o,s:o,s:o,s:o,s:o}", "ops", integer(tally->ops),
                     "ok", integer(tally->ok), "errors", integer(tally->errors), "unknown",
                     integer(tally->unknown), "p50_ms", real(tally->p50_ms), "p99_ms",
                     real(tally->p99_ms), "p999_ms", real(tally->p999_ms), "max_ms",
                     real(tally->max_ms), "longest_without_success_ms", real(tally->pause_ms),
                     "longest_without_read_ms", real(tally->pause_reads_ms),
                     "longest_without_write_ms", real(tally->pause_writes_ms));
}

static void print_tally(FILE *out, const char *name, const char *class, double seconds,
                        const struct tally *tally)
{
    fprintf(out, "%-24s %7.1f %-7s %8llu %9.1f %8.2f %8.2f %8.2f %9.1f %6llu %7llu\n", name,
            seconds, class, (unsigned long long)tally->ops, tally->pause_ms, tally->p50_ms,
            tally->p99_ms, tally->p999_ms, tally->max_ms, (unsigned long long)tally->errors,
            (unsigned long long)tally->unknown);
}

static json_t *phases_json(struct report *report)
{
    struct load *load = report->load;
    json_t *phases = json_array();

    fprintf(report->out, "%-24s %7s %-7s %8s %9s %8s %8s %8s %9s %6s %7s\n", "phase", "s", "ops on",
            "ops", "pause ms", "p50 ms", "p99 ms", "p99.9 ms", "max ms", "errors", "unknown");
    for (size_t i = 0; i < load->n_phases; i++) {
        const struct phase *phase = &load->phases[i];
        uint64_t to_ns = phase->end_ns != 0 ? phase->end_ns : cli_now_ns();
        double seconds = (double)(to_ns - phase->start_ns) / 1e9;
        json_t *row = json_pack("{s:s,s:b,s:o,s:o}", "name", phase->name, "faults", phase->faults,
                                "seconds", real(seconds), "client_late_max_ms",
                                real((double)phase->pacer_late_ns / 1e6));
        bool any = false;

        for (size_t class = 0; class < LOAD_CLASSES; class ++) {
            struct tally tally;

            tally_phase(load, phase, (enum load_class) class, &tally);
            if (tally.ops == 0) {
                continue;
            }
            any = true;
            print_tally(report->out, class == 0 ? phase->name : "", class_names[class], seconds,
                        &tally);
            json_object_set_new(row, class_names[class], tally_json(&tally));
            if (!phase->faults) {
                report->errors += tally.errors;
                report->unknown += tally.unknown;
            }
        }
        if (any) {
            json_array_append_new(phases, row);
        } else {
            json_decref(row);
        }
    }
    return phases;
}

/* One row for each (phase, class, kind, message). */
static json_t *failures_json(struct report *report)
{
    struct load *load = report->load;
    json_t *rows = json_array();

    for (size_t i = 0; i < load->failures.n; i++) {
        const struct failure *failure = &load->failures.items[i];
        const char *phase = "";
        json_t *row = NULL;
        size_t at = 0;

        for (size_t p = 0; p < load->n_phases; p++) {
            if (load->phases[p].start_ns <= failure->start_ns) {
                phase = load->phases[p].name;
            }
        }
        for (; at < json_array_size(rows) && row == NULL; at++) {
            json_t *other = json_array_get(rows, at);
            const char *text, *name, *kind, *class;

            json_unpack(other, "{s:s,s:s,s:s,s:s}", "phase", &name, "class", &class, "kind", &kind,
                        "message", &text);
            if (strcmp(text, failure->message) == 0 && strcmp(name, phase) == 0 &&
                strcmp(kind, kind_names[failure->kind]) == 0 &&
                strcmp(class, class_names[failure->class]) == 0) {
                row = other;
            }
        }
        if (row != NULL) {
            json_object_set_new(
                row, "count", json_integer(json_integer_value(json_object_get(row, "count")) + 1));
        } else {
            json_array_append_new(rows, json_pack("{s:s,s:s,s:s,s:s,s:s,s:i}", "phase", phase,
                                                  "class", class_names[failure->class], "kind",
                                                  kind_names[failure->kind], "code",
                                                  shardkv_err_name(failure->code), "message",
                                                  failure->message, "count", 1));
        }
    }
    if (load->failures.n == LOAD_MAX_FAILURES) {
        fprintf(report->out, "\nof the failures only the first %d were kept with their reasons:",
                LOAD_MAX_FAILURES);
    }
    for (size_t i = 0; i < json_array_size(rows); i++) {
        const char *phase, *class, *kind, *code, *message;
        int count;

        json_unpack(json_array_get(rows, i), "{s:s,s:s,s:s,s:s,s:s,s:i}", "phase", &phase, "class",
                    &class, "kind", &kind, "code", &code, "message", &message, "count", &count);
        fprintf(report->out, "%s%6d times in %s, %s of %s: %s: %s\n", i == 0 ? "\nfailures\n" : "",
                count, phase, kind, class, code, message);
    }
    return rows;
}

static json_t *changes_json(struct report *report)
{
    struct load *load = report->load;
    json_t *rows = json_array();

    fprintf(report->out, "\n%-24s %-8s %6s %9s %9s %8s %9s %9s\n", "change", "from-to", "shards",
            "served s", "settled s", "MB/s", "before ms", "pause ms");
    for (size_t i = 0; i < load->n_changes; i++) {
        const struct change *change = &load->changes[i];
        double served =
            change->served_ns == 0 ? -1 : (double)(change->served_ns - change->start_ns) / 1e9;
        double settled = !change->done ? -1 : (double)(change->settled_ns - change->start_ns) / 1e9;
        struct tally tally, before;
        char way[32];
        json_t *row;

        tally_phase(load, &load->phases[change->phase], LOAD_MOVING, &tally);
        tally_phase(load, &load->phases[change->phase - 1], LOAD_MOVING, &before);
        snprintf(way, sizeof(way), "%u-%u", (unsigned)change->from, (unsigned)change->to);
        fprintf(report->out, "%-24s %-8s %6u %9.2f %9.2f %8.1f ", change->name, way,
                (unsigned)change->shards_moved, served, settled, copy_rate(load, change));
        if (change->load) {
            fprintf(report->out, "%9.1f %9.1f", before.pause_ms, tally.pause_ms);
        }
        fprintf(report->out, "%s\n", change->failed ? "  NOT OVER IN TIME" : "");
        row = json_pack("{s:s,s:s,s:i,s:i,s:i,s:b,s:b,s:b,s:o,s:o,s:o,s:o}", "name", change->name,
                        "verb", change->verb, "from", (int)change->from, "to", (int)change->to,
                        "shards_moved", (int)change->shards_moved, "faults", change->faults, "load",
                        change->load, "done", change->done, "acknowledged_s",
                        real((double)(change->acked_ns - change->start_ns) / 1e9), "served_s",
                        real(served), "settled_s", real(settled), "copy_mb_per_s",
                        real(copy_rate(load, change)));
        json_object_set_new(row, "pause_before_ms",
                            change->load ? real(before.pause_ms) : json_null());
        json_object_set_new(row, "pause_ms", change->load ? real(tally.pause_ms) : json_null());
        json_array_append_new(rows, row);
    }
    return rows;
}

static json_t *memory_json(struct report *report)
{
    struct load *load = report->load;
    json_t *rows = json_array();

    fprintf(report->out, "\n%-10s %10s %10s %10s %10s %10s %10s\n", "MiB", "RSS rest", "RSS max",
            "HWM", "anon fill", "anon rest", "anon max");
    pthread_mutex_lock(&load->watch_mutex);
    for (size_t i = 0; i < load->n_processes; i++) {
        const struct process *process = &load->processes[i];

        fprintf(report->out, "%-10s %10.1f %10.1f %10.1f %10.1f %10.1f %10.1f\n", process->name,
                (double)process->rest_rss / 1024, (double)process->max_rss / 1024,
                (double)process->high_water / 1024, (double)process->fill_anon / 1024,
                (double)process->rest_anon / 1024, (double)process->max_anon / 1024);
        json_array_append_new(
            rows, json_pack("{s:s,s:o,s:o,s:o,s:o,s:o,s:o}", "process", process->name,
                            "rss_rest_mib", real((double)process->rest_rss / 1024), "rss_max_mib",
                            real((double)process->max_rss / 1024), "rss_high_water_mib",
                            real((double)process->high_water / 1024), "anon_fill_mib",
                            real((double)process->fill_anon / 1024), "anon_rest_mib",
                            real((double)process->rest_anon / 1024), "anon_max_mib",
                            real((double)process->max_anon / 1024)));
    }
    pthread_mutex_unlock(&load->watch_mutex);
    return rows;
}

/* ---- Aims ---- */

static void add_aim(struct report *report, const char *name, double aim, bool least,
                    double measured, bool measured_at_all)
{
    if (report->n_aims < MAX_AIMS) {
        report->aims[report->n_aims++] = (struct aim){name, aim, measured, least, measured_at_all};
    }
}

static int by_size(const void *left, const void *right)
{
    double a = *(const double *)left, b = *(const double *)right;

    return a < b ? -1 : a > b;
}

static void sort(double *numbers, size_t n)
{
    qsort(numbers, n, sizeof(*numbers), by_size);
}

static double median(const double *sorted, size_t n)
{
    return n == 0 ? 0 : (sorted[(n - 1) / 2] + sorted[n / 2]) / 2;
}

/* Pauses of single moves, or of leaves and joins that moved the big shard: without faults, loaded.
 */
static size_t collect_pauses(struct load *load, bool single, double *pauses, double *ratios)
{
    size_t n = 0;

    for (size_t i = 0; i < load->n_changes; i++) {
        const struct change *change = &load->changes[i];
        struct tally moving, others, before;

        if (change->faults || !change->load || change->from == change->to ||
            (strcmp(change->verb, "move") == 0) != single) {
            continue;
        }
        tally_phase(load, &load->phases[change->phase], LOAD_MOVING, &moving);
        tally_phase(load, &load->phases[change->phase], LOAD_OTHERS, &others);
        tally_phase(load, &load->phases[change->phase - 1], LOAD_OTHERS, &before);
        pauses[n] = moving.pause_ms;
        ratios[n++] = before.p99_ms > 0 ? others.p99_ms / before.p99_ms : 0;
    }
    sort(pauses, n);
    sort(ratios, n);
    return n;
}

static void pause_aims(struct report *report)
{
    double pauses[LOAD_MAX_CHANGES], ratios[LOAD_MAX_CHANGES];
    size_t n = collect_pauses(report->load, true, pauses, ratios);

    add_aim(report, "pause of a move, median, ms", AIM_PAUSE_P50_MS, false, median(pauses, n),
            n > 0);
    add_aim(report, "pause of a move, worst, ms", AIM_PAUSE_WORST_MS, false,
            n > 0 ? pauses[n - 1] : 0, n > 0);
    add_aim(report, "p99 of others, during / before, median", AIM_P99_RATIO, false,
            median(ratios, n), n > 0);
    add_aim(report, "p99 of others, during / before, worst", AIM_P99_RATIO, false,
            n > 0 ? ratios[n - 1] : 0, n > 0);
    n = collect_pauses(report->load, false, pauses, ratios);
    add_aim(report, "pause in leave and join, worst, ms", AIM_PAUSE_WORST_MS, false,
            n > 0 ? pauses[n - 1] : 0, n > 0);
}

static void copy_aim(struct report *report)
{
    const struct load *load = report->load;
    double best = 0;

    for (size_t i = 0; i < load->n_changes; i++) {
        if (!load->changes[i].load && !load->changes[i].faults) {
            double rate = copy_rate(load, &load->changes[i]);
            best = rate > best ? rate : best;
        }
    }
    add_aim(report, "copy rate when idle / bulk load", AIM_COPY_RATIO, true,
            load->fill_seconds > 0 ? best / ((double)load->fill_bytes / 1e6 / load->fill_seconds)
                                   : 0,
            best > 0 && load->fill_seconds > 0);
}

static void memory_aims(struct report *report)
{
    struct load *load = report->load;
    double rss = 0, anon = 0;

    pthread_mutex_lock(&load->watch_mutex);
    for (size_t i = 0; i < load->n_processes; i++) {
        const struct process *process = &load->processes[i];
        double more_rss = ((double)process->high_water - (double)process->rest_rss) / 1024;
        double more_anon = ((double)process->max_anon - (double)process->rest_anon) / 1024;

        rss = more_rss > rss ? more_rss : rss;
        anon = more_anon > anon ? more_anon : anon;
    }
    pthread_mutex_unlock(&load->watch_mutex);
    add_aim(report, "memory over rest, anonymous, MiB", AIM_MEMORY_MIB, false, anon,
            load->n_processes > 0);
    add_aim(report, "memory over rest, resident, MiB", AIM_MEMORY_MIB, false, rss,
            load->n_processes > 0);
}

static json_t *aims_json(struct report *report, bool *all_met)
{
    const json_t *left = json_object_get(report->load->notes, "left_bytes");
    json_t *rows = json_array();

    pause_aims(report);
    copy_aim(report);
    memory_aims(report);
    add_aim(report, "bytes left after a leave", 0, false, (double)json_integer_value(left),
            left != NULL);
    *all_met = true;
    fprintf(report->out, "\n%-42s %12s %12s\n", "aim", "wanted", "measured");
    for (size_t i = 0; i < report->n_aims; i++) {
        const struct aim *aim = &report->aims[i];
        bool met = aim->least ? aim->measured >= aim->aim : aim->measured <= aim->aim;
        json_t *row = json_pack("{s:s,s:o,s:s}", "name", aim->name, "aim", real(aim->aim), "wanted",
                                aim->least ? "at least" : "at most");

        json_object_set_new(row, "measured",
                            aim->measured_at_all ? real(aim->measured) : json_null());
        json_object_set_new(row, "met", aim->measured_at_all ? json_boolean(met) : json_null());
        json_array_append_new(rows, row);
        if (aim->measured_at_all) {
            *all_met &= met;
            fprintf(report->out, "%-42s %2s %9.1f %12.2f  %s\n", aim->name,
                    aim->least ? ">=" : "<=", aim->aim, aim->measured, met ? "met" : "MISSED");
        } else {
            fprintf(report->out, "%-42s %2s %9.1f %12s\n", aim->name,
                    aim->least ? ">=" : "<=", aim->aim, "-");
        }
    }
    return rows;
}

/* ---- The verdict ---- */

struct verdict {
    const char *name;
    uint64_t count; /* must be 0 */
};

/* What must be 0, whatever happened. */
static bool judge(struct report *report, json_t *document)
{
    struct load *load = report->load;
    const struct key_table *moving = &load->lanes[0].keys, *others = &load->lanes[1].keys;
    uint64_t not_over = 0;
    json_t *check = json_pack("{s:o,s:o}", "keys_read", integer(load->keys_read), "tokens_acked",
                              integer(load->tokens_acked));
    bool right = load->checked;

    for (size_t i = 0; i < load->n_changes; i++) {
        not_over += !load->changes[i].done;
    }
    const struct verdict verdicts[] = {
        {"errors_without_faults", report->errors},
        {"unknown_without_faults", report->unknown},
        {"changes_not_over", not_over},
        {"keys_missing", load->keys_missing},
        {"keys_wrong", load->keys_wrong},
        {"keys_unread", load->keys_unread},
        {"wrong_reads", moving->wrong_reads + others->wrong_reads},
        {"stale_reads", moving->stale_reads + others->stale_reads},
        {"missing_reads", moving->missing_reads + others->missing_reads},
        {"tokens_missing", load->tokens_missing},
        {"tokens_twice", load->tokens_twice},
        {"tokens_out_of_order", load->tokens_unordered},
        {"tokens_refused_but_there", load->tokens_refused_there},
        {"tokens_strange", load->tokens_strange},
    };

    fprintf(report->out, "\n%llu keys read back, %llu acknowledged tokens%s\n",
            (unsigned long long)load->keys_read, (unsigned long long)load->tokens_acked,
            load->checked ? "" : "; NOT CHECKED");
    for (size_t i = 0; i < sizeof(verdicts) / sizeof(verdicts[0]); i++) {
        json_object_set_new(check, verdicts[i].name, integer(verdicts[i].count));
        right &= verdicts[i].count == 0;
        if (verdicts[i].count > 0) {
            fprintf(report->out, "WRONG: %s: %llu\n", verdicts[i].name,
                    (unsigned long long)verdicts[i].count);
        }
    }
    json_object_set_new(document, "check", check);
    return right;
}

static json_t *head_json(struct report *report)
{
    const struct load *load = report->load;
    double fill_rate =
        load->fill_seconds > 0 ? (double)load->fill_bytes / 1e6 / load->fill_seconds : 0;
    double intervals[2];

    for (size_t i = 0; i < 2; i++) {
        intervals[i] = load->lanes[i].interval_ns / 1e6;
    }
    fprintf(report->out,
            "shard %u of %u: %u keys, %.1f MiB, filled at %.1f MB/s; peak %.0f operations/s, load "
            "%.0f/s\n",
            (unsigned)load->shard, (unsigned)load->n_shards, (unsigned)load->lanes[0].keys.n_keys,
            (double)load->fill_bytes / MIB, fill_rate, load->peak_ops, load->rate);
    if (load->rate > 0) {
        fprintf(report->out,
                "an operation on it every %.2f ms, on others every %.2f ms; a pause is the time "
                "between two successes,\nas measured: the interval of arrivals is not taken "
                "off, and the phases before show what it is without a move\n\n",
                intervals[0], intervals[1]);
    }
    return json_pack("{s:i,s:i,s:i,s:o,s:o,s:o,s:o,s:o,s:o,s:o,s:o,s:i,s:i}", "shard",
                     (int)load->shard, "shards", (int)load->n_shards, "keys",
                     (int)load->lanes[0].keys.n_keys, "bytes", integer(load->fill_bytes),
                     "value_bytes", integer(load->options.value_bytes), "fill_seconds",
                     real(load->fill_seconds), "fill_mb_per_s", real(fill_rate), "peak_ops_per_s",
                     real(load->peak_ops), "load_ops_per_s", real(load->rate), "moving_interval_ms",
                     real(intervals[0]), "others_interval_ms", real(intervals[1]), "read_percent",
                     (int)load->options.read_percent, "timeout_ms", (int)load->options.timeout_ms);
}

bool report_write(struct load *load, const char *file, FILE *out, bool *speed)
{
    struct report report = {.load = load, .out = out};
    json_t *document = head_json(&report);
    bool right;

    json_object_set_new(document, "phases", phases_json(&report));
    json_object_set_new(document, "failures", failures_json(&report));
    json_object_set_new(document, "changes", changes_json(&report));
    json_object_set_new(document, "memory", memory_json(&report));
    json_object_update(document, load->notes);
    json_object_set_new(document, "aims", aims_json(&report, speed));
    right = judge(&report, document);
    json_object_set_new(document, "right", json_boolean(right));
    json_object_set_new(document, "aims_met", json_boolean(*speed));
    if (file != NULL && json_dump_file(document, file, JSON_INDENT(1)) != 0) {
        load_die("%s can't be written", file);
    }
    json_decref(document);
    return right;
}
