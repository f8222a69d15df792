/* plan: what a dry run of join, leave or move tells: the shards that would change hands, with what
 * is known of their size, and sums for each pair of groups.
 */
#ifndef CLIENT_CLI_PLAN_H
#define CLIENT_CLI_PLAN_H

#include "client/cli_survey.h"

/* One shard, or all that go from one group to another. */
struct plan_row {
    uint32_t shard; /* sums: how many */
    uint32_t from,
        to;     /* gids; from 0: it is created empty; to 0: nobody serves it, from keeps it */
    bool known; /* keys and bytes; false: who holds it did not tell */
    uint64_t keys, bytes; /* that go over, estimates; 0 where nothing is copied */
};

struct plan {
    bool changes;       /* false: the change would make no configuration */
    uint64_t base, num; /* the present configuration, and the one that would follow it */
    size_t n_rows, n_sums;
    struct plan_row *rows; /* by shard */
    struct plan_row *sums; /* by (from, to) */
};

/* The plan by which the configuration that the survey found becomes `planned`. False: the one did
 * not come from the other, so somebody else made a change in between; then *plan is {0}. The survey
 * has a configuration. */
bool plan_make(const struct survey *survey, const struct shardkv_config *planned,
               struct plan *plan);
void plan_fini(struct plan *plan);

json_t *plan_json(const struct plan *plan);
void plan_print(FILE *file, const struct plan *plan);

/* One dry run; as the library's shardkv_plan_... */
typedef void (*plan_ask)(struct cli *cli, const void *change, struct shardkv_result **result);
/* Asks, looks at the cluster, and prints the plan. Returns the exit code. `refused`, unless NULL:
 * what to say of arguments that the library does not take. */
int plan_run(struct cli *cli, const char *verb, const char *subject, const char *refused,
             plan_ask ask, const void *change);

#endif
