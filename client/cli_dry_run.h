/* dry_run: what a dry run of join, leave or move tells: the shards that would change hands, with
 * what is known of their size, and sums for each pair of groups.
 */
#ifndef CLIENT_CLI_DRY_RUN_H
#define CLIENT_CLI_DRY_RUN_H

#include "client/cli_survey.h"

/* One shard, or all that go from one group to another. */
struct dry_run_row {
    uint32_t shard; /* sums: how many */
    uint32_t from,
        to;     /* gids; from 0: it is created empty; to 0: nobody serves it, from keeps it */
    bool known; /* keys and bytes; false: who holds it did not tell */
    uint64_t keys, bytes; /* that go over, estimates; 0 where nothing is copied */
};

struct dry_run {
    bool changes;       /* false: the change would make no configuration */
    uint64_t base, num; /* the present configuration, and the one that would follow it */
    size_t n_rows, n_sums;
    struct dry_run_row *rows; /* by shard */
    struct dry_run_row *sums; /* by (from, to) */
};

/* The plan by which the configuration that the survey found becomes `planned`. False: the one did
 * not come from the other, so somebody else made a change in between; then *plan is {0}. The survey
 * has a configuration. */
bool dry_run_make(const struct survey *survey, const struct shardkv_config *planned,
                  struct dry_run *plan);
void dry_run_fini(struct dry_run *plan);

json_t *dry_run_json(const struct dry_run *plan);
void dry_run_print(FILE *file, const struct dry_run *plan);

#endif
