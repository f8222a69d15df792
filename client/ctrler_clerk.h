/* ctrler_clerk: the controller's verbs for programs: query, join, leave, move, pause, plan,
 * confirm, report, bind. Pure, on top of caller. The changing verbs carry a session, so a retry is
 * never taken for a second change. */
#ifndef CLIENT_CTRLER_CLERK_H
#define CLIENT_CTRLER_CLERK_H

#include "client/caller.h"

#define CONFIG_LATEST UINT64_MAX

struct ctrler_clerk;

/* ctrlers: the controller's replicas at first; the clerk follows every configuration that it
 * learns. client_id: 16 random bytes, never used before. The caller outlives the clerk. */
struct ctrler_clerk *ctrler_clerk_create(struct caller *caller, const struct spec *ctrlers,
                                         const uint8_t client_id[16]);
/* What is outstanding ends with ST_CANCELLED or ST_UNKNOWN first. */
void ctrler_clerk_destroy(struct ctrler_clerk **clerk);

/* config is NULL unless status is ST_OK; it belongs to the clerk and holds during the call. */
typedef void (*ctrler_clerk_config)(void *context, enum status status,
                                    const struct shard_config *config);
/* num: CONFIG_LATEST or a number; a number above the last gives the latest. gid and incarnation: of
 * the group that asks, or 0. Linearizable. */
void ctrler_clerk_query(struct ctrler_clerk *clerk, config_num num, uint32_t gid,
                        uint64_t incarnation, uint64_t now_ms, uint64_t deadline_ms,
                        ctrler_clerk_config done, void *context);

/* The end of a change: ST_OK with the number of the configuration made; a refusal with the server's
 * text; ST_UNKNOWN. Without an answer the text says what the last try met. */
typedef void (*ctrler_clerk_changed)(void *context, enum status status, config_num num,
                                     const char *text);
/* 1 to PROTO_MAX_GROUPS groups, each with replicas; likewise gids. */
void ctrler_clerk_join(struct ctrler_clerk *clerk, const struct proto_join_group *groups,
                       uint32_t n, uint64_t now_ms, uint64_t deadline_ms, ctrler_clerk_changed done,
                       void *context);
void ctrler_clerk_leave(struct ctrler_clerk *clerk, const uint32_t *gids, uint32_t n,
                        uint64_t now_ms, uint64_t deadline_ms, ctrler_clerk_changed done,
                        void *context);
void ctrler_clerk_move(struct ctrler_clerk *clerk, shard_id shard, uint32_t gid, uint64_t now_ms,
                       uint64_t deadline_ms, ctrler_clerk_changed done, void *context);
/* Stops the copies of shards that move (paused), or lets them go on. */
void ctrler_clerk_pause(struct ctrler_clerk *clerk, bool paused, uint64_t now_ms,
                        uint64_t deadline_ms, ctrler_clerk_changed done, void *context);

/* The end of a dry run: ST_OK with the configuration that the change would make (the present one if
 * it would make none), which belongs to the clerk and holds during the call; or what the change
 * itself would be refused with. */
typedef void (*ctrler_clerk_planned)(void *context, enum status status,
                                     const struct shard_config *config, const char *text);
/* change: a JOIN, LEAVE or MOVE without a session, whose arrays are copied. A linearizable read:
 * nothing is changed, and it never ends as ST_UNKNOWN. */
void ctrler_clerk_plan(struct ctrler_clerk *clerk, const struct proto_request *change,
                       uint64_t now_ms, uint64_t deadline_ms, ctrler_clerk_planned done,
                       void *context);

/* Idempotent by themselves: no session. */
void ctrler_clerk_confirm(struct ctrler_clerk *clerk, uint32_t gid, uint64_t incarnation,
                          const struct proto_confirm *shards, uint32_t n, uint64_t now_ms,
                          uint64_t deadline_ms, ctrler_clerk_changed done, void *context);

/* Likewise: who the group's voters are, by the configuration entry at `index`, as its leader of
 * `term` says. */
void ctrler_clerk_report(struct ctrler_clerk *clerk, uint32_t gid, uint64_t incarnation,
                         uint64_t term, uint64_t index, const struct spec *replicas,
                         uint64_t now_ms, uint64_t deadline_ms, ctrler_clerk_changed done,
                         void *context);

/* Idempotent as well: the group shows its incarnation. */
void ctrler_clerk_bind(struct ctrler_clerk *clerk, uint32_t gid, uint64_t incarnation,
                       uint64_t now_ms, uint64_t deadline_ms, ctrler_clerk_changed done,
                       void *context);

/* The controllers changed, as somebody else learnt: the next calls go to these. */
void ctrler_clerk_follow(struct ctrler_clerk *clerk, const struct spec *ctrlers);
const struct spec *ctrler_clerk_ctrlers(const struct ctrler_clerk *clerk);

/* The highest cluster time heard of. */
uint64_t ctrler_clerk_time(const struct ctrler_clerk *clerk);
/* Within a done: what the last try met, for people; never NULL. */
const char *ctrler_clerk_reason(const struct ctrler_clerk *clerk);

#endif
