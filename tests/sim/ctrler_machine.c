/* ctrler_machine: see ctrler_machine.h. */
#include "tests/sim/ctrler_machine.h"

#include <stdio.h>

#include "raft/util/assert.h"
#include "raft/util/mem.h"

#define MAX_KIND 4 /* the kinds of the controller's records; 5 are the sessions */

void ctrler_machine_init(struct ctrler_machine *machine, uint32_t n_shards)
{
    struct ctrler_command init = {
        .kind = CTRLER_INIT, .cluster_id = "0123456789abcde", .n_shards = n_shards};

    memset(machine, 0, sizeof(*machine));
    machine->state = mem_state_create(0);
    machine->sm = ctrler_sm_create(mem_state_io(machine->state), NULL);
    ASSERT(ctrler_sm_service_ops(machine->sm)->restore(machine->sm) == ST_OK);
    if (n_shards != 0) {
        ASSERT(ctrler_machine_apply(machine, &init).status == ST_OK);
    }
}

void ctrler_machine_fini(struct ctrler_machine *machine)
{
    ctrler_sm_destroy(&machine->sm);
    mem_state_destroy(&machine->state);
}

enum status ctrler_machine_restart(struct ctrler_machine *machine)
{
    ctrler_sm_destroy(&machine->sm);
    machine->sm = ctrler_sm_create(mem_state_io(machine->state), NULL);
    return ctrler_sm_service_ops(machine->sm)->restore(machine->sm);
}

struct spec ctrler_machine_spec(uint32_t gid)
{
    struct spec spec;
    char text[200];

    snprintf(text, sizeof(text), "1=tcp://g%u-a:1,2=tcp://g%u-b:1,7=tcp://g%u-c:1", gid, gid, gid);
    ASSERT(spec_parse(text, &spec) == NULL);
    return spec;
}

enum status ctrler_machine_apply_bytes(struct ctrler_machine *machine, struct slice bytes,
                                       struct ctrler_result *result)
{
    struct rsm_command command = {.index = ++machine->index, .term = 1, .bytes = bytes};
    struct buf out = {0};
    enum status status;

    command.stamp = machine->stamp += 1000;
    status = ctrler_sm_service_ops(machine->sm)->apply(machine->sm, &command, &out);
    ASSERT(status != ST_OK || ctrler_result_decode(buf_slice(&out), result));
    ASSERT(out.len <= SESSION_MAX_RESULT);
    buf_fini(&out);
    return status;
}

struct ctrler_result ctrler_machine_apply(struct ctrler_machine *machine,
                                          const struct ctrler_command *command)
{
    struct ctrler_result result;
    struct buf bytes = {0};

    ctrler_command_encode(command, &bytes);
    ASSERT(ctrler_machine_apply_bytes(machine, buf_slice(&bytes), &result) == ST_OK);
    buf_fini(&bytes);
    return result;
}

struct session_key ctrler_machine_session(uint8_t client, uint64_t seq)
{
    return (struct session_key){
        .client = {{client}}, .seq = seq, .acked_seq = seq - 1, .issued_at = 1};
}

struct ctrler_result ctrler_machine_join(struct ctrler_machine *machine, size_t n,
                                         const uint32_t *gids)
{
    struct proto_join_group *groups = mem_zalloc(n * sizeof(*groups));
    struct ctrler_command command = {.kind = CTRLER_JOIN, .n = (uint32_t)n, .groups = groups};
    struct ctrler_result result;

    for (size_t i = 0; i < n; i++) {
        groups[i].gid = gids[i];
        groups[i].replicas = ctrler_machine_spec(gids[i]);
    }
    command.session = ctrler_machine_session(1, ++machine->seq);
    result = ctrler_machine_apply(machine, &command);
    mem_free(groups);
    return result;
}

struct ctrler_result ctrler_machine_leave(struct ctrler_machine *machine, size_t n,
                                          const uint32_t *gids)
{
    struct ctrler_command command = {
        .kind = CTRLER_LEAVE, .n = (uint32_t)n, .gids = (uint32_t *)gids};

    command.session = ctrler_machine_session(1, ++machine->seq);
    return ctrler_machine_apply(machine, &command);
}

struct ctrler_result ctrler_machine_join_one(struct ctrler_machine *machine, uint32_t gid,
                                             uint64_t incarnation)
{
    struct proto_join_group group = {
        .gid = gid, .incarnation = incarnation, .replicas = ctrler_machine_spec(gid)};
    struct ctrler_command command = {.kind = CTRLER_JOIN, .n = 1, .groups = &group};

    command.session = ctrler_machine_session(1, ++machine->seq);
    return ctrler_machine_apply(machine, &command);
}

struct ctrler_result ctrler_machine_leave_one(struct ctrler_machine *machine, uint32_t gid)
{
    return ctrler_machine_leave(machine, 1, &gid);
}

struct ctrler_result ctrler_machine_move(struct ctrler_machine *machine, shard_id shard,
                                         uint32_t gid)
{
    struct ctrler_command command = {.kind = CTRLER_MOVE, .shard = shard, .gid = gid};

    command.session = ctrler_machine_session(1, ++machine->seq);
    return ctrler_machine_apply(machine, &command);
}

struct ctrler_result ctrler_machine_pause(struct ctrler_machine *machine, bool paused)
{
    struct ctrler_command command = {.kind = CTRLER_PAUSE, .paused = paused};

    command.session = ctrler_machine_session(1, ++machine->seq);
    return ctrler_machine_apply(machine, &command);
}

struct ctrler_result ctrler_machine_bind(struct ctrler_machine *machine, uint32_t gid,
                                         uint64_t incarnation)
{
    struct ctrler_command command = {.kind = CTRLER_BIND, .gid = gid, .incarnation = incarnation};

    return ctrler_machine_apply(machine, &command);
}

struct ctrler_result ctrler_machine_confirm(struct ctrler_machine *machine, uint32_t gid,
                                            uint64_t incarnation, shard_id shard, config_num epoch)
{
    struct proto_confirm confirm = {shard, epoch};
    struct ctrler_command command = {.kind = CTRLER_CONFIRM,
                                     .gid = gid,
                                     .incarnation = incarnation,
                                     .n = 1,
                                     .confirms = &confirm};

    return ctrler_machine_apply(machine, &command);
}

static uint64_t mix(uint64_t sum, struct slice bytes)
{
    for (size_t i = 0; i < bytes.len; i++) {
        sum = (sum ^ bytes.data[i]) * 0x100000001b3u; /* FNV-1a */
    }
    return (sum ^ bytes.len) * 0x100000001b3u;
}

uint64_t ctrler_machine_sum_without_sessions(struct ctrler_machine *machine)
{
    struct io_state *state = mem_state_io(machine->state);
    uint64_t sum = 0xcbf29ce484222325u;

    for (uint8_t kind = 1; kind <= MAX_KIND; kind++) {
        struct io_iter *iter = state->ops->iter_open(state, (struct io_key){.kind = kind});
        struct slice key, value;

        while (state->ops->iter_next(iter, &key, &value)) {
            sum = mix(mix(sum, key), value);
        }
        ASSERT(state->ops->iter_close(iter) == ST_OK);
    }
    return sum;
}

uint32_t ctrler_machine_load(const struct shard_config *config, uint32_t gid)
{
    uint32_t load = 0;

    for (uint32_t s = 0; s < config->n_shards; s++) {
        load += config->shards[s] == gid;
    }
    return load;
}

void ctrler_machine_check_members(const struct shard_config *config, size_t n, const uint32_t *gids)
{
    size_t members = 0;

    for (size_t i = 0; i < config->n_groups; i++) {
        members += config->groups[i].member;
        ASSERT(i == 0 || config->groups[i - 1].gid < config->groups[i].gid);
    }
    ASSERT(members == n);
    for (size_t i = 0; i < n; i++) {
        const struct config_group *group = shard_config_find(config, gids[i]);
        struct spec spec = ctrler_machine_spec(gids[i]);

        ASSERT(group != NULL && group->member);
        ASSERT(spec_fingerprint(&group->replicas) == spec_fingerprint(&spec));
    }
    for (uint32_t s = 0; s < config->n_shards; s++) {
        const struct config_group *owner = shard_config_find(config, config->shards[s]);

        ASSERT(n == 0 ? config->shards[s] == 0 : owner != NULL && owner->member);
    }
}

void ctrler_machine_check(struct ctrler_machine *machine, size_t n, const uint32_t *gids)
{
    const struct shard_config *config = ctrler_sm_latest(machine->sm);
    uint32_t low = UINT32_MAX, high = 0;

    ctrler_machine_check_members(config, n, gids);
    for (size_t i = 0; i < n; i++) {
        uint32_t load = ctrler_machine_load(config, gids[i]);

        low = load < low ? load : low;
        high = load > high ? load : high;
    }
    ASSERT(n == 0 || high - low <= 1);
}
