/* ctrler_machine: the controller's state machine on an in-memory state, driven command by command
 * as a group would after committing them, for tests. One client by default; each command is its
 * next operation.
 */
#ifndef TESTS_SIM_CTRLER_MACHINE_H
#define TESTS_SIM_CTRLER_MACHINE_H

#include "shardctrler/ctrler_sm.h"
#include "tests/sim/mem_state.h"

struct ctrler_machine {
    struct mem_state *state;
    struct ctrler_sm *sm;
    raft_index index;
    uint64_t stamp;
    uint64_t seq; /* of the last command of the default client */
};

/* Without INIT if n_shards is 0. */
void ctrler_machine_init(struct ctrler_machine *machine, uint32_t n_shards);
void ctrler_machine_fini(struct ctrler_machine *machine);
/* A machine of its own that restores from everything the state holds now; the old one goes. */
enum status ctrler_machine_restart(struct ctrler_machine *machine);

/* The replicas that group `gid` has in tests: three, at URLs of its own. */
struct spec ctrler_machine_spec(uint32_t gid);

/* Applies one encoded command; gives what apply gave, and on ST_OK the result. */
enum status ctrler_machine_apply_bytes(struct ctrler_machine *machine, struct slice bytes,
                                       struct ctrler_result *result);
/* Applies a command that this program knows. */
struct ctrler_result ctrler_machine_apply(struct ctrler_machine *machine,
                                          const struct ctrler_command *command);
/* The same, as the next operation of client number `client`. */
struct session_key ctrler_machine_session(uint8_t client, uint64_t seq);

struct ctrler_result ctrler_machine_join(struct ctrler_machine *machine, size_t n,
                                         const uint32_t *gids);
struct ctrler_result ctrler_machine_leave(struct ctrler_machine *machine, size_t n,
                                          const uint32_t *gids);
struct ctrler_result ctrler_machine_join_one(struct ctrler_machine *machine, uint32_t gid,
                                             uint64_t incarnation);
struct ctrler_result ctrler_machine_leave_one(struct ctrler_machine *machine, uint32_t gid);
struct ctrler_result ctrler_machine_move(struct ctrler_machine *machine, shard_id shard,
                                         uint32_t gid);
struct ctrler_result ctrler_machine_pause(struct ctrler_machine *machine, bool paused);
struct ctrler_result ctrler_machine_bind(struct ctrler_machine *machine, uint32_t gid,
                                         uint64_t incarnation);
struct ctrler_result ctrler_machine_confirm(struct ctrler_machine *machine, uint32_t gid,
                                            uint64_t incarnation, shard_id shard, config_num epoch);

/* A sum over all records of the state but those of sessions. */
uint64_t ctrler_machine_sum_without_sessions(struct ctrler_machine *machine);

/* The standing check of the public suites: exactly these members, each with its replicas in order,
 * no shard elsewhere, loads within one of each other. ASSERTs. */
void ctrler_machine_check(struct ctrler_machine *machine, size_t n, const uint32_t *gids);
/* The same for members alone, whatever the loads. */
void ctrler_machine_check_members(const struct shard_config *config, size_t n,
                                  const uint32_t *gids);
uint32_t ctrler_machine_load(const struct shard_config *config, uint32_t gid);

#endif
