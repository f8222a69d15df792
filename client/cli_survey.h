/* survey: what every replica of the cluster says of itself, asked all at once. */
#ifndef CLIENT_CLI_SURVEY_H
#define CLIENT_CLI_SURVEY_H

#include "client/cli.h"

struct survey_row {
    uint32_t gid, id; /* id of a controller that is down: its place in --ctrlers */
    char url[256];
    struct shardkv_result *result; /* of shardkv_status; its node is NULL if it is down */
};

struct survey {
    struct shardkv_result *config_result; /* its config is NULL if no controller answered */
    const struct shardkv_config *config;
    struct survey_row *rows;
    size_t n_rows;
};

/* Asks the controllers, then everybody that the latest configuration names, groups that have left
 * included, each for at most timeout_ms. Always ends; who does not answer is down. */
void survey_make(struct cli *cli, uint32_t timeout_ms, struct survey *survey);
/* Adds those that the leaders know as members, but the configuration does not list (yet): learners
 * above all. */
void survey_add_learners(struct cli *cli, uint32_t timeout_ms, struct survey *survey);
void survey_fini(struct survey *survey);

/* The leader of a group as far as the rows tell: of the highest term; NULL if there is none. */
const struct shardkv_node *survey_leader(const struct survey *survey, uint32_t gid);
/* Whether every group of the configuration, and the controllers, have a leader that serves. */
bool survey_all_lead(const struct survey *survey);
/* What is not there yet: shards, and about how many bytes of them are still to come. */
struct survey_left {
    uint32_t shards;
    uint64_t bytes;
};
/* Whether every shard is served by its owner and nothing is on its way. That an old owner still
 * deletes what it handed over does not count. */
bool survey_all_settled(const struct survey *survey, struct survey_left *left);
/* All moves that the leaders tell of, with totals from their sources where the takers don't know
 * them; release it with free. */
struct shardkv_move_status *survey_moves(const struct survey *survey, size_t *n);
/* The status row of a shard: its owner's, else that of whoever holds it; NULL if nobody told. *gid:
 * whose. */
const struct shardkv_shard_status *survey_shard(const struct survey *survey, uint32_t shard,
                                                uint32_t *gid);

#endif
