/* The verbs that change the cluster: config (which only reads it), join, leave, move, transfer; and
 * the dry runs of join, leave and move. */
#include <stdlib.h>
#include <string.h>

#include "client/cli_dry_run.h"

#define MAX_GROUPS        64   /* in one change */
#define STATUS_TIMEOUT_MS 2000 /* for one replica, as in status */
#define MAX_TRIES         5    /* against others who change the configuration meanwhile */

/* ---- Config ---- */

static void print_config(const struct shardkv_config *config)
{
    printf("configuration %llu, %u shards%s\n", (unsigned long long)config->num, config->n_shards,
           config->moves_paused ? ", moves are paused" : "");
    for (size_t i = 0; i < config->n_ctrlers; i++) {
        printf("%scontroller %u  %s\n", i == 0 ? "controllers\n  " : "  ", config->ctrlers[i].id,
               config->ctrlers[i].url);
    }
    for (size_t g = 0; g < config->n_groups; g++) {
        const struct shardkv_group *group = &config->groups[g];
        bool first = true;

        if (!group->member) {
            continue;
        }
        printf("group %u\n", group->gid);
        for (size_t i = 0; i < group->n_replicas; i++) {
            printf("  replica %u  %s\n", group->replicas[i].id, group->replicas[i].url);
        }
        printf("  shards    ");
        for (uint32_t s = 0; s < config->n_shards; s++) {
            uint32_t end = s;
            if (config->shards[s] != group->gid) {
                continue;
            }
            while (end + 1 < config->n_shards && config->shards[end + 1] == group->gid) {
                end++;
            }
            printf(end > s ? "%s%u-%u" : "%s%u", first ? "" : ",", s, end);
            first = false;
            s = end;
        }
        printf("%s\n", first ? "none" : "");
    }
}

int cli_config(struct cli *cli, int argc, char **argv)
{
    struct shardkv_result *result = NULL;
    uint64_t num = SHARDKV_CONFIG_LATEST;
    int code = CLI_DONE;

    if (argc > 1 || (argc == 1 && !cli_number(argv[0], 0, UINT64_MAX, &num))) {
        return cli_usage_error("config", "takes at most the number of a configuration");
    }
    if (cli_open(cli) == NULL) {
        return CLI_USAGE;
    }
    shardkv_config(cli->kv, num, cli->timeout_ms, &result);
    if (result->code != SHARDKV_OK) {
        code = cli_failed("config", argc > 0 ? argv[0] : "", result, true);
    } else if (cli->json) {
        cli_print_json(cli_config_json(result->config));
    } else {
        print_config(result->config);
    }
    shardkv_result_free(result);
    return code;
}

/* ---- Changes ---- */

int cli_end_change(struct cli *cli, const char *verb, const char *subject,
                   struct shardkv_result *result)
{
    int code = CLI_DONE;

    if (result->code != SHARDKV_OK) {
        code = cli_failed(verb, subject, result, false);
    } else if (cli->json) {
        cli_print_json(json_pack("{s:I}", "num", (json_int_t)result->config_num));
    } else {
        printf("configuration %llu\n", (unsigned long long)result->config_num);
    }
    shardkv_result_free(result);
    return code;
}

/* ---- Dry runs ---- */

/* Asks for the plan of a change, as the library's shardkv_plan_... */
typedef void (*plan_ask)(struct cli *cli, const void *change, struct shardkv_result **result);

/* Looks at the cluster and prints the plan. The exit code, or -1: the configuration changed
 * meanwhile, ask again. */
static int show_plan(struct cli *cli, const char *verb, const struct shardkv_config *planned)
{
    struct survey survey;
    struct dry_run plan = {0};
    int code = CLI_DONE;

    survey_make(cli, cli->timeout_ms < STATUS_TIMEOUT_MS ? cli->timeout_ms : STATUS_TIMEOUT_MS,
                &survey);
    if (survey.config == NULL) {
        fprintf(stderr, "shardkv-cli: %s: the controllers don't answer; try again\n", verb);
        code = CLI_REFUSED;
    } else if (!dry_run_make(&survey, planned, &plan)) {
        code = -1;
    } else if (cli->json) {
        cli_print_json(dry_run_json(&plan));
    } else {
        dry_run_print(stdout, &plan);
    }
    dry_run_fini(&plan);
    survey_fini(&survey);
    return code;
}

/* `refused`, unless NULL: what to say of arguments that the library does not take. */
static int run_dry(struct cli *cli, const char *verb, const char *subject, const char *refused,
                   plan_ask ask, const void *change)
{
    cli->is_read = true;
    for (int i = 0; i < MAX_TRIES; i++) {
        struct shardkv_result *result = NULL;
        int code;

        ask(cli, change, &result);
        if (result->code == SHARDKV_INVALID && refused != NULL) {
            code = cli_usage_error(verb, refused);
        } else if (result->code != SHARDKV_OK) {
            code = cli_failed(verb, subject, result, true);
        } else {
            code = show_plan(cli, verb, result->config);
        }
        shardkv_result_free(result);
        if (code >= 0) {
            return code;
        }
    }
    fprintf(stderr, "shardkv-cli: %s: others change the configuration all the time; try again\n",
            verb);
    return CLI_REFUSED;
}

/* ---- Join, leave, move ---- */

static bool parse_gid(const char *text, uint32_t *gid)
{
    uint64_t number;

    if (!cli_number(text, 1, 0x7fffffff, &number)) {
        return false;
    }
    *gid = (uint32_t)number;
    return true;
}

/* GID SPEC pairs; NULL, or what is wrong. The library checks the specs. */
static const char *parse_groups(int n, char **argv, struct shardkv_join *groups)
{
    for (int i = 0; i < n; i++) {
        groups[i].replicas = argv[2 * i + 1];
        if (!parse_gid(argv[2 * i], &groups[i].gid)) {
            return "a GID is a number from 1 to 2147483647";
        }
    }
    return NULL;
}

struct join_change {
    struct shardkv_join groups[MAX_GROUPS];
    size_t n;
};

static void plan_join(struct cli *cli, const void *change, struct shardkv_result **result)
{
    const struct join_change *join = change;

    shardkv_plan_join(cli->kv, join->groups, join->n, cli->timeout_ms, result);
}

int cli_join(struct cli *cli, int argc, char **argv)
{
    static const char *const spec_rule =
        "a SPEC is ID=URL,ID=URL,... of 1 to 9 replicas, IDs from 1 to 255, URLs as "
        "tcp://host:port, each once";
    bool dry_run = cli_take_flag(&argc, argv, "--dry-run");
    struct join_change join = {.n = (size_t)argc / 2};
    struct shardkv_result *result = NULL;
    const char *wrong;

    if (argc < 2 || argc % 2 != 0 || argc / 2 > MAX_GROUPS) {
        return cli_usage_error("join", "needs GID SPEC, one or more times");
    }
    wrong = parse_groups(argc / 2, argv, join.groups);
    if (wrong != NULL) {
        return cli_usage_error("join", wrong);
    }
    if (cli_open(cli) == NULL) {
        return CLI_USAGE;
    }
    if (dry_run) {
        return run_dry(cli, "join", argv[0], spec_rule, plan_join, &join);
    }
    shardkv_join(cli->kv, join.groups, join.n, cli->timeout_ms, &result);
    if (result->code == SHARDKV_INVALID) {
        shardkv_result_free(result);
        return cli_usage_error("join", spec_rule);
    }
    return cli_end_change(cli, "join", argv[0], result);
}

struct leave_change {
    uint32_t gids[MAX_GROUPS];
    size_t n;
};

static void plan_leave(struct cli *cli, const void *change, struct shardkv_result **result)
{
    const struct leave_change *leave = change;

    shardkv_plan_leave(cli->kv, leave->gids, leave->n, cli->timeout_ms, result);
}

int cli_leave(struct cli *cli, int argc, char **argv)
{
    bool dry_run = cli_take_flag(&argc, argv, "--dry-run");
    struct leave_change leave = {.n = (size_t)argc};
    struct shardkv_result *result = NULL;

    if (argc < 1 || argc > MAX_GROUPS) {
        return cli_usage_error("leave", "needs 1 to 64 GIDs");
    }
    for (int i = 0; i < argc; i++) {
        if (!parse_gid(argv[i], &leave.gids[i])) {
            return cli_usage_error("leave", "a GID is a number from 1 to 2147483647");
        }
    }
    if (cli_open(cli) == NULL) {
        return CLI_USAGE;
    }
    if (dry_run) {
        return run_dry(cli, "leave", argv[0], NULL, plan_leave, &leave);
    }
    shardkv_leave(cli->kv, leave.gids, leave.n, cli->timeout_ms, &result);
    return cli_end_change(cli, "leave", argv[0], result);
}

struct move_change {
    uint32_t shard, gid;
};

static void plan_move(struct cli *cli, const void *change, struct shardkv_result **result)
{
    const struct move_change *move = change;

    shardkv_plan_move(cli->kv, move->shard, move->gid, cli->timeout_ms, result);
}

int cli_move(struct cli *cli, int argc, char **argv)
{
    bool dry_run = cli_take_flag(&argc, argv, "--dry-run");
    struct shardkv_result *result = NULL;
    struct move_change move;
    uint64_t shard;

    if (argc != 2 || !cli_number(argv[0], 0, UINT32_MAX, &shard) ||
        !parse_gid(argv[1], &move.gid)) {
        return cli_usage_error("move", "needs the number of a shard and a GID");
    }
    move.shard = (uint32_t)shard;
    if (cli_open(cli) == NULL) {
        return CLI_USAGE;
    }
    if (dry_run) {
        return run_dry(cli, "move", argv[0], NULL, plan_move, &move);
    }
    shardkv_move(cli->kv, move.shard, move.gid, cli->timeout_ms, &result);
    return cli_end_change(cli, "move", argv[0], result);
}

int cli_transfer(struct cli *cli, int argc, char **argv)
{
    struct shardkv_result *result = NULL;
    uint64_t gid, id;
    int code = CLI_DONE;

    if (argc != 2 || !cli_number(argv[0], 0, 0x7fffffff, &gid) ||
        !cli_number(argv[1], 0, 255, &id)) {
        return cli_usage_error("transfer", "needs a GID (0: the controllers) and a replica's ID");
    }
    if (cli_open(cli) == NULL) {
        return CLI_USAGE;
    }
    shardkv_transfer(cli->kv, (uint32_t)gid, (uint32_t)id, cli->timeout_ms, &result);
    if (result->code != SHARDKV_OK) {
        code = cli_failed("transfer", argv[0], result, false);
    } else if (cli->json) {
        cli_print_json(json_pack("{s:b}", "begun", 1));
    }
    shardkv_result_free(result);
    return code;
}
