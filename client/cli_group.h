/* cli_group: one group's replicas, as its leader tells them and as each of them tells. */
#ifndef CLIENT_CLI_GROUP_H
#define CLIENT_CLI_GROUP_H

#include "client/cli.h"

#define GROUP_MAX_ROWS 32

struct group_row {
    uint32_t id; /* as the configuration lists it, or as it says of itself; 0: not known */
    char url[256];
    struct shardkv_result *result; /* of shardkv_members; its members are NULL if it is silent */
};

struct group_view {
    struct shardkv_result *config_result; /* its config is NULL if no controller answered */
    struct group_row rows[GROUP_MAX_ROWS];
    size_t n_rows;
};

/* Asks the controllers for the configuration, then all replicas of the group that it lists (gid 0:
 * the controllers that it lists, and those of --ctrlers), then those that these name, at most
 * timeout_ms each time. */
void group_view_make(struct cli *cli, uint32_t gid, uint32_t timeout_ms, struct group_view *view);
void group_view_fini(struct group_view *view);

/* What a row told; NULL: nothing. */
const struct shardkv_members *group_row_members(const struct group_row *row);
/* What the leader of the highest term says; NULL: no leader was heard of. */
const struct shardkv_members *group_view_leader(const struct group_view *view);
const struct shardkv_member *group_find_member(const struct shardkv_members *members, uint32_t id);
/* Whether the configuration lists that replica of the group under that URL (NULL: under any). */
bool group_view_lists(const struct group_view *view, uint32_t gid, uint32_t id, const char *url);
/* Whether the configuration lists the group at all. */
bool group_view_is_listed(const struct group_view *view, uint32_t gid);
/* "voter", "learner" or "leaving". */
const char *group_member_role(const struct shardkv_member *member);

#endif
