/* The verbs that look at the whole cluster: status and wait. */
#include <string.h>
#include <unistd.h>

#include "client/cli_survey.h"

#define STATUS_TIMEOUT_MS 2000 /* for one replica: a dead one must not hold up the others' rows */
#define WAIT_PAUSE_MS     100

/* ---- Status ---- */

static json_t *shards_json(const struct survey *survey)
{
    json_t *rows = json_array();

    for (uint32_t s = 0; survey->config != NULL && s < survey->config->n_shards; s++) {
        uint32_t gid;
        const struct shardkv_shard_status *row = survey_shard(survey, s, &gid);

        json_array_append_new(
            rows, json_pack("{s:i,s:i,s:s,s:I,s:I}", "shard", (int)s, "gid", (int)gid, "state",
                            row == NULL ? "unknown" : cli_shard_state_name(row->state), "keys",
                            (json_int_t)(row == NULL ? 0 : row->keys), "bytes",
                            (json_int_t)(row == NULL ? 0 : row->bytes)));
    }
    return rows;
}

static json_t *moves_json(const struct survey *survey)
{
    json_t *rows = json_array();

    for (size_t g = 0; survey->config != NULL && g < survey->config->n_groups; g++) {
        const struct shardkv_node *leader = survey_leader(survey, survey->config->groups[g].gid);
        for (size_t i = 0; leader != NULL && i < leader->n_moves; i++) {
            const struct shardkv_move_status *move = &leader->moves[i];
            json_array_append_new(
                rows,
                json_pack("{s:i,s:i,s:i,s:s,s:I,s:I,s:I,s:I,s:I}", "shard", (int)move->shard,
                          "from", (int)move->from, "to", (int)move->to, "phase",
                          cli_shard_state_name(move->phase), "config", (json_int_t)move->config,
                          "bytes_done", (json_int_t)move->bytes_done, "bytes_total",
                          (json_int_t)move->bytes_total, "keys_done", (json_int_t)move->keys_done,
                          "keys_total", (json_int_t)move->keys_total));
        }
    }
    return rows;
}

static const struct shardkv_node *node_of(const struct survey_row *row)
{
    return row->result == NULL || row->result->code != SHARDKV_OK ? NULL : row->result->node;
}

static void print_status_json(const struct survey *survey)
{
    json_t *nodes = json_array();

    for (size_t i = 0; i < survey->n_rows; i++) {
        const struct survey_row *row = &survey->rows[i];
        json_array_append_new(nodes, cli_node_json(row->gid, row->id, row->url, node_of(row)));
    }
    cli_print_json(json_pack("{s:I,s:o,s:o,s:o}", "config",
                             (json_int_t)(survey->config == NULL ? 0 : survey->config->num),
                             "nodes", nodes, "shards", shards_json(survey), "moves",
                             moves_json(survey)));
}

static void print_nodes(const struct survey *survey)
{
    printf("%-5s %-3s %-28s %-10s %6s %10s %10s %9s %9s\n", "GROUP", "ID", "URL", "ROLE", "TERM",
           "COMMIT", "APPLIED", "DB", "LOG");
    for (size_t i = 0; i < survey->n_rows; i++) {
        const struct survey_row *row = &survey->rows[i];
        const struct shardkv_node *node = node_of(row);

        if (node == NULL) {
            printf("%-5u %-3u %-28s %s\n", row->gid, row->id, row->url, "down");
            continue;
        }
        printf("%-5u %-3u %-28s %-10s %6llu %10llu %10llu %8.1fM %8.1fM\n", row->gid, row->id,
               row->url, cli_role_name(node->role), (unsigned long long)node->term,
               (unsigned long long)node->commit_index, (unsigned long long)node->applied_index,
               (double)node->db_bytes / 1e6, (double)node->log_bytes / 1e6);
    }
}

static void print_groups(const struct survey *survey)
{
    const struct shardkv_config *config = survey->config;

    printf("\nconfiguration %llu, %u shards\n", (unsigned long long)config->num, config->n_shards);
    for (size_t g = 0; g < config->n_groups; g++) {
        uint32_t owns = 0, serves = 0;
        uint64_t keys = 0, bytes = 0;

        for (uint32_t s = 0; s < config->n_shards; s++) {
            uint32_t gid;
            const struct shardkv_shard_status *row = survey_shard(survey, s, &gid);
            owns += config->shards[s] == config->groups[g].gid;
            if (row != NULL && gid == config->groups[g].gid &&
                row->state == SHARDKV_SHARD_SERVING) {
                serves++;
                keys += row->keys;
                bytes += row->bytes;
            }
        }
        printf("group %-5u %s %u shards, serves %u, about %llu keys, %.1f MB\n",
               config->groups[g].gid, config->groups[g].member ? "owns" : "has left; owns", owns,
               serves, (unsigned long long)keys, (double)bytes / 1e6);
    }
}

static void print_moves(const struct survey *survey)
{
    for (size_t g = 0; g < survey->config->n_groups; g++) {
        const struct shardkv_node *leader = survey_leader(survey, survey->config->groups[g].gid);
        for (size_t i = 0; leader != NULL && i < leader->n_moves; i++) {
            const struct shardkv_move_status *move = &leader->moves[i];
            printf("moving shard %u: group %u to %u, %s, %.1f MB done\n", move->shard, move->from,
                   move->to, cli_shard_state_name(move->phase), (double)move->bytes_done / 1e6);
        }
    }
}

int cli_status(struct cli *cli, int argc, char **argv)
{
    struct survey survey;

    (void)argv;
    if (argc > 0) {
        return cli_usage_error("status", "takes no arguments");
    }
    if (cli_open(cli) == NULL) {
        return CLI_USAGE;
    }
    survey_make(cli, cli->timeout_ms < STATUS_TIMEOUT_MS ? cli->timeout_ms : STATUS_TIMEOUT_MS,
                &survey);
    if (cli->json) {
        print_status_json(&survey);
    } else {
        print_nodes(&survey);
        if (survey.config != NULL) {
            print_groups(&survey);
            print_moves(&survey);
        } else {
            printf("\nno configuration: the controllers don't answer\n");
        }
    }
    survey_fini(&survey);
    return CLI_DONE;
}

/* ---- Wait ---- */

/* Says what is still missing, on a terminal, over and over on one line. */
static void show_waiting(bool lead, uint32_t left)
{
    if (!isatty(STDERR_FILENO)) {
        return;
    }
    if (!lead) {
        fprintf(stderr, "\rwaiting for leaders ...                ");
    } else {
        fprintf(stderr, "\rwaiting for %u shards to arrive ...     ", left);
    }
}

int cli_wait(struct cli *cli, int argc, char **argv)
{
    bool shards = cli_take_flag(&argc, argv, "--shards"), lead = false, settled = false;
    uint64_t end_ms = cli_now_ms() + (cli->timeout_given ? cli->timeout_ms : 30000);
    uint32_t left = 0;

    if (argc > 0) {
        return cli_usage_error("wait", "takes only --shards and --timeout MS");
    }
    if (cli_open(cli) == NULL) {
        return CLI_USAGE;
    }
    for (;;) {
        struct survey survey;
        uint64_t now = cli_now_ms();
        uint64_t remaining = end_ms > now ? end_ms - now : 1;

        survey_make(cli, remaining < STATUS_TIMEOUT_MS ? (uint32_t)remaining : STATUS_TIMEOUT_MS,
                    &survey);
        lead = survey_all_lead(&survey);
        settled = survey_all_settled(&survey, &left);
        survey_fini(&survey);
        if (lead && (!shards || settled)) {
            break;
        }
        if (cli_now_ms() + WAIT_PAUSE_MS >= end_ms) {
            fprintf(stderr, "shardkv-cli: wait: timed out: %s; see shardkv-cli status\n",
                    !lead ? "a group has no leader that serves" : "shards are still moving");
            return CLI_REFUSED;
        }
        show_waiting(lead, left);
        usleep(WAIT_PAUSE_MS * 1000);
    }
    if (isatty(STDERR_FILENO)) {
        fprintf(stderr, "\r                                        \r");
    }
    if (cli->json) {
        cli_print_json(json_pack("{s:b}", "ready", 1));
    }
    return CLI_DONE;
}
