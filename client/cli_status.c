/* The verbs that look at the whole cluster: status, moves (which also pauses and resumes them) and
 * wait. */
#include <string.h>
#include <unistd.h>

#include "client/cli_moves.h"
#include "client/cli_progress.h"

#define STATUS_TIMEOUT_MS   2000 /* for one replica: a dead one must not hold up the others' rows */
#define LEARNERS_TIMEOUT_MS 1000
#define WAIT_PAUSE_MS       100

static void look_at_all(struct cli *cli, struct survey *survey)
{
    survey_make(cli, cli->timeout_ms < STATUS_TIMEOUT_MS ? cli->timeout_ms : STATUS_TIMEOUT_MS,
                survey);
}

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

static const struct shardkv_node *node_of(const struct survey_row *row)
{
    return row->result == NULL || row->result->code != SHARDKV_OK ? NULL : row->result->node;
}

static bool is_learner(const struct survey_row *row)
{
    return node_of(row) != NULL && node_of(row)->role == SHARDKV_LEARNER;
}

/* How many entries of its leader's log a replica does not have yet, as far as is known. */
static uint64_t behind(const struct survey *survey, const struct survey_row *row)
{
    const struct shardkv_node *leader = survey_leader(survey, row->gid);

    return leader != NULL && leader->last_index > node_of(row)->last_index
               ? leader->last_index - node_of(row)->last_index
               : 0;
}

static void print_status_json(const struct survey *survey)
{
    json_t *nodes = json_array();

    for (size_t i = 0; i < survey->n_rows; i++) {
        const struct survey_row *row = &survey->rows[i];
        json_t *node = cli_node_json(row->gid, row->id, row->url, node_of(row));

        if (is_learner(row)) {
            json_object_set_new(node, "behind", json_integer((json_int_t)behind(survey, row)));
        }
        json_array_append_new(nodes, node);
    }
    cli_print_json(json_pack("{s:I,s:o,s:o,s:o,s:b}", "config",
                             (json_int_t)(survey->config == NULL ? 0 : survey->config->num),
                             "nodes", nodes, "shards", shards_json(survey), "moves",
                             moves_json(survey), "moves_paused",
                             survey->config != NULL && survey->config->moves_paused));
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
        printf("%-5u %-3u %-28s %-10s %6llu %10llu %10llu %8.1fM %8.1fM", row->gid, row->id,
               row->url, cli_role_name(node->role), (unsigned long long)node->term,
               (unsigned long long)node->commit_index, (unsigned long long)node->applied_index,
               (double)node->db_bytes / 1e6, (double)node->log_bytes / 1e6);
        if (is_learner(row)) {
            printf("  %llu entries behind", (unsigned long long)behind(survey, row));
        }
        printf("\n");
    }
}

/* Who takes no writes, and what that holds up. */
static void print_read_only(const struct survey *survey)
{
    for (size_t i = 0; i < survey->n_rows; i++) {
        const struct survey_row *row = &survey->rows[i];
        const struct shardkv_node *node = node_of(row);

        if (node != NULL && node->read_only) {
            printf("\ngroup %u, replica %u: read-only for lack of disk space%s", row->gid, row->id,
                   node->role != SHARDKV_LEADER ? ""
                   : row->gid == 0              ? "; it leads: no changes are taken"
                                   : "; it leads: writes, and moves to the group, wait");
        }
    }
}

static void print_groups(const struct survey *survey)
{
    const struct shardkv_config *config = survey->config;

    printf("\nconfiguration %llu, %u shards%s\n", (unsigned long long)config->num, config->n_shards,
           config->moves_paused ? ", moves are paused" : "");
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
    look_at_all(cli, &survey);
    survey_add_learners(cli, LEARNERS_TIMEOUT_MS, &survey);
    if (cli->json) {
        print_status_json(&survey);
    } else {
        print_nodes(&survey);
        print_read_only(&survey);
        if (survey.config != NULL) {
            print_groups(&survey);
            moves_print(stdout, &survey);
        } else {
            printf("\nno configuration: the controllers don't answer\n");
        }
    }
    survey_fini(&survey);
    return CLI_DONE;
}

/* ---- Moves ---- */

static int list_moves(struct cli *cli)
{
    struct survey survey;
    int code = CLI_DONE;

    cli->is_read = true;
    look_at_all(cli, &survey);
    if (survey.config == NULL) {
        fprintf(stderr, "shardkv-cli: moves: the controllers don't answer; try again\n");
        code = CLI_REFUSED;
    } else if (cli->json) {
        cli_print_json(json_pack("{s:b,s:o}", "moves_paused", (int)survey.config->moves_paused,
                                 "moves", moves_json(&survey)));
    } else {
        if (survey.config->moves_paused) {
            printf("moves are paused\n");
        }
        moves_print(stdout, &survey);
    }
    survey_fini(&survey);
    return code;
}

int cli_moves(struct cli *cli, int argc, char **argv)
{
    struct shardkv_result *result = NULL;
    bool pause = argc == 1 && strcmp(argv[0], "pause") == 0;

    if (argc > 1 || (argc == 1 && !pause && strcmp(argv[0], "resume") != 0)) {
        return cli_usage_error("moves", "takes pause, resume or nothing");
    }
    if (cli_open(cli) == NULL) {
        return CLI_USAGE;
    }
    if (argc == 0) {
        return list_moves(cli);
    }
    shardkv_pause_moves(cli->kv, pause, cli->timeout_ms, &result);
    return cli_end_change(cli, "moves", argv[0], result);
}

/* ---- Wait ---- */

struct waiting {
    bool shards; /* wait for shards too, not for leaders alone */
    bool shown;  /* on a terminal: what is still missing, over and over on one line */
    bool lead, settled, paused;
    struct progress progress;
};

#define CLEAR_LINE "\r\033[K"

static void look(struct cli *cli, uint32_t timeout_ms, struct waiting *waiting)
{
    struct survey survey;
    struct survey_left left;

    survey_make(cli, timeout_ms, &survey);
    waiting->lead = survey_all_lead(&survey);
    waiting->settled = survey_all_settled(&survey, &left);
    waiting->paused = survey.config != NULL && survey.config->moves_paused;
    if (waiting->lead) {
        progress_update(&waiting->progress, cli_now_ms(), left.shards, left.bytes);
    }
    survey_fini(&survey);
}

static void show(const struct waiting *waiting)
{
    char line[160];

    if (!waiting->shown) {
        return;
    }
    if (!waiting->lead) {
        fputs(CLEAR_LINE "waiting for leaders ...", stderr);
    } else {
        progress_line(&waiting->progress, waiting->paused, line, sizeof(line));
        fprintf(stderr, CLEAR_LINE "%s", line);
    }
}

static int give_up(const struct waiting *waiting)
{
    fprintf(stderr, "shardkv-cli: wait: timed out: %s; see shardkv-cli status\n",
            !waiting->lead    ? "a group has no leader that serves"
            : waiting->paused ? "shards are still to move, and moves are paused"
                              : "shards are still moving");
    return CLI_REFUSED;
}

static int wait_until(struct cli *cli, uint64_t end_ms, struct waiting *waiting)
{
    for (;;) {
        uint64_t now = cli_now_ms();
        uint64_t remaining = end_ms > now ? end_ms - now : 1;

        look(cli, remaining < STATUS_TIMEOUT_MS ? (uint32_t)remaining : STATUS_TIMEOUT_MS, waiting);
        if (waiting->lead && (!waiting->shards || waiting->settled)) {
            return CLI_DONE;
        }
        if (cli_now_ms() + WAIT_PAUSE_MS >= end_ms) {
            return CLI_REFUSED;
        }
        show(waiting);
        usleep(WAIT_PAUSE_MS * 1000);
    }
}

int cli_wait(struct cli *cli, int argc, char **argv)
{
    struct waiting waiting = {.shards = cli_take_flag(&argc, argv, "--shards"),
                              .shown = !cli->json && isatty(STDERR_FILENO)};
    uint64_t end_ms = cli_now_ms() + (cli->timeout_given ? cli->timeout_ms : 30000);
    int code;

    if (argc > 0) {
        return cli_usage_error("wait", "takes only --shards and --timeout MS");
    }
    if (cli_open(cli) == NULL) {
        return CLI_USAGE;
    }
    code = wait_until(cli, end_ms, &waiting);
    if (waiting.shown) {
        fputs(CLEAR_LINE, stderr);
    }
    if (code != CLI_DONE) {
        return give_up(&waiting);
    }
    if (cli->json) {
        cli_print_json(json_pack("{s:b}", "ready", 1));
    }
    return CLI_DONE;
}
