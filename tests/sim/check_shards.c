/* The state of each group, taken from its most advanced replica, and what holds between groups; see
 * check_shards.h. */
#include "tests/sim/check_shards.h"

#include <stdarg.h>
#include <stdio.h>

#include "raft/rsm/codec.h"
#include "raft/util/assert.h"
#include "raft/util/crc32c.h"
#include "raft/util/mem.h"
#include "shardkv/kv_server.h"
#include "shardkv/kv_sm.h"
#include "tests/sim/check.h"
#include "tests/sim/check_sessions.h"
#include "tests/sim/world_internal.h"

/* A shard in one group's state. */
struct shard_view {
    enum shard_state state;
    config_num epoch;
    uint64_t version, floor;
    uint64_t rest; /* a sum of what else must be equal on all replicas */
};

struct state_view {
    raft_index applied;
    config_num adopted;
    uint32_t n_shards;
    struct shard_view *shards;
};

struct config_entry {
    raft_index index;
    config_num num;
};

struct shard_group {
    group_id gid;
    struct state_view state; /* the most advanced that was seen */
    uint64_t *sums;          /* by applied index: of the state there; 0: not seen */
    size_t n_sums;
    struct config_entry *configs; /* committed entries */
    size_t n_configs, configs_capacity;
};

/* A shard in the whole cluster. */
struct shard_owner {
    group_id server, last; /* who serves it; who did so last; 0: nobody */
    config_num epoch;
    uint64_t version, floor;
};

struct shard_node {
    bool looked;
    raft_index applied;
    config_num adopted;
};

struct check_shards {
    struct world *world;
    struct check_sessions *sessions;
    struct shard_group groups[WORLD_MAX_NODES];
    size_t n_groups;
    struct shard_node nodes[WORLD_MAX_NODES];
    struct shard_owner *owners; /* n_shards */
    uint32_t n_shards;
    struct state_view now; /* of the replica that is being looked at */
    uint64_t *rises;       /* n_shards */
    uint64_t *config_sums; /* by number; 0: not seen */
    size_t n_config_sums;
};

/* What is being looked at, for messages. */
struct look {
    struct check_shards *check;
    struct shard_group *group;
    size_t node;
    const struct kv_sm *sm;
};

__attribute__((format(printf, 3, 4))) _Noreturn static void
fail(const struct look *look, const char *invariant, const char *format, ...)
{
    char details[384];
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(details, sizeof(details), format, arguments);
    va_end(arguments);
    check_fail(invariant, "group %u node %zu at entry %llu, %.6f s: %s", look->group->gid,
               look->node, (unsigned long long)look->check->now.applied,
               (double)world_now_us(look->check->world) / 1e6, details);
}

static uint64_t mix(uint64_t sum, uint64_t value)
{
    sum = (sum ^ value) * 0x9e3779b97f4a7c15u;
    return sum ^ sum >> 32;
}

static const char *state_name(enum shard_state state)
{
    return state == SHARD_SERVING ? "serving" : state == SHARD_FROZEN ? "frozen" : "absent";
}

/* ---- Reading a replica's state ---- */

static void size_views(struct check_shards *check, uint32_t n_shards)
{
    if (n_shards <= check->n_shards) {
        return;
    }
    check->now.shards = mem_realloc(check->now.shards, n_shards * sizeof(check->now.shards[0]));
    check->rises = mem_realloc(check->rises, n_shards * sizeof(check->rises[0]));
    check->owners = mem_realloc(check->owners, n_shards * sizeof(check->owners[0]));
    memset(check->owners + check->n_shards, 0,
           (n_shards - check->n_shards) * sizeof(check->owners[0]));
    check->n_shards = n_shards;
}

static uint64_t rest_of(const struct kv_sm *sm, shard_id id, const struct shard *shard)
{
    const struct session_table *sessions = kv_sm_sessions(sm, id);
    uint64_t sum = mix(shard->range, shard->copy.range);

    sum = mix(sum, shard->copy.copy_id + shard->copy.next_piece);
    sum = mix(sum, shard->copy.records.low);
    sum = mix(sum, shard->outgoing.range + shard->outgoing.is_swept);
    sum = mix(sum, shard->outgoing.copy_id + shard->outgoing.n_noted);
    sum = mix(sum, shard->outgoing.records.low);
    sum = mix(sum, sessions != NULL ? session_count(sessions) : 0);
    for (size_t i = 0; i < shard->n_queue; i++) {
        sum = mix(sum, shard->queue[i].num << 8 | shard->queue[i].kind);
        sum = mix(sum, shard->queue[i].gid);
    }
    for (size_t i = 0; i < shard->n_releases; i++) {
        sum = mix(sum, shard->releases[i].num ^ (uint64_t)shard->releases[i].gid << 32);
    }
    return sum;
}

static void read_state(struct look *look, raft_index applied)
{
    struct check_shards *check = look->check;
    const struct kv_meta *meta = kv_sm_meta(look->sm);

    size_views(check, meta->n_shards);
    check->now.applied = applied;
    check->now.adopted = meta->adopted;
    check->now.n_shards = meta->n_shards;
    for (shard_id s = 0; s < meta->n_shards; s++) {
        const struct shard *shard = kv_sm_shard(look->sm, s);
        const struct session_table *sessions = kv_sm_sessions(look->sm, s);

        check->now.shards[s] =
            (struct shard_view){.state = shard->state,
                                .epoch = shard->epoch,
                                .version = kv_sm_version(look->sm, s),
                                .floor = sessions != NULL ? session_floor(sessions) : 0,
                                .rest = rest_of(look->sm, s, shard)};
    }
}

/* ---- Replicas of a group are equal ---- */

static uint64_t sum_of(const struct state_view *state)
{
    uint64_t sum = mix(state->n_shards, state->adopted);

    for (uint32_t s = 0; s < state->n_shards; s++) {
        const struct shard_view *shard = &state->shards[s];

        sum = mix(sum, shard->epoch << 2 | shard->state);
        sum = mix(sum, shard->version);
        sum = mix(sum, shard->floor);
        sum = mix(sum, shard->rest);
    }
    return sum | 1;
}

static void check_equal(const struct look *look)
{
    struct shard_group *group = look->group;
    raft_index applied = look->check->now.applied;
    uint64_t sum = sum_of(&look->check->now);

    if (applied >= group->n_sums) {
        size_t n = 2 * (size_t)applied + 64;

        group->sums = mem_realloc(group->sums, n * sizeof(group->sums[0]));
        memset(group->sums + group->n_sums, 0, (n - group->n_sums) * sizeof(group->sums[0]));
        group->n_sums = n;
    }
    if (group->sums[applied] != 0 && group->sums[applied] != sum) {
        fail(look, "equal states", "another replica's shards were different at this entry");
    }
    group->sums[applied] = sum;
}

/* ---- Configurations ---- */

/* All but the groups' incarnations: they are filled in once they are known. */
static uint64_t config_sum(const struct shard_config *config)
{
    uint64_t sum = crc32c(0, config->cluster_id, sizeof(config->cluster_id));

    sum = mix(sum, crc32c(0, config->shards, config->n_shards * sizeof(config->shards[0])));
    sum = mix(sum, crc32c(0, config->from, config->n_shards * sizeof(config->from[0])));
    for (size_t i = 0; i < config->n_groups; i++) {
        const struct config_group *group = &config->groups[i];
        struct buf spec = {0};

        spec_encode(&group->replicas, &spec);
        sum = mix(sum, (uint64_t)group->gid << 1 | group->member);
        sum = mix(sum, group->joined_at);
        sum = mix(sum, crc32c(0, spec.data, spec.len));
        buf_fini(&spec);
    }
    return sum | 1;
}

static void check_config(const struct look *look, const struct shard_config *config)
{
    struct check_shards *check = look->check;
    uint64_t sum = config_sum(config);
    config_num num = config->num;

    if (num >= check->n_config_sums) {
        size_t n = 2 * (size_t)num + 64;

        check->config_sums = mem_realloc(check->config_sums, n * sizeof(check->config_sums[0]));
        memset(check->config_sums + check->n_config_sums, 0,
               (n - check->n_config_sums) * sizeof(check->config_sums[0]));
        check->n_config_sums = n;
    }
    if (check->config_sums[num] != 0 && check->config_sums[num] != sum) {
        fail(look, "configurations", "configuration %llu is not what it was elsewhere",
             (unsigned long long)num);
    }
    check->config_sums[num] = sum;
}

static void check_own_config(const struct look *look)
{
    const struct shard_config *config = kv_sm_config(look->sm);

    if (config == NULL || config->num != look->check->now.adopted) {
        fail(look, "configurations", "it adopted %llu and has another",
             (unsigned long long)look->check->now.adopted);
    }
    check_config(look, config);
}

static bool was_committed(const struct shard_group *group, config_num num, raft_index after,
                          raft_index upto)
{
    for (size_t i = group->n_configs; i-- > 0 && group->configs[i].index > after;) {
        if (group->configs[i].num == num && group->configs[i].index <= upto) {
            return true;
        }
    }
    return false;
}

/* The group went on to another configuration: every one on the way was an entry. A new group begins
 * with the one of its join. */
static void check_adoption(const struct look *look)
{
    const struct state_view *before = &look->group->state, *now = &look->check->now;
    config_num first = before->adopted == 0 ? now->adopted : before->adopted + 1;

    if (now->adopted < before->adopted) {
        fail(look, "configurations", "adopted %llu after %llu", (unsigned long long)now->adopted,
             (unsigned long long)before->adopted);
    }
    for (config_num num = first; num <= now->adopted; num++) {
        if (!was_committed(look->group, num, before->applied, now->applied)) {
            fail(look, "configurations", "it went from %llu to %llu without %llu",
                 (unsigned long long)before->adopted, (unsigned long long)now->adopted,
                 (unsigned long long)num);
        }
    }
}

/* ---- Who serves ---- */

static void check_counters(const struct look *look, shard_id id, struct shard_owner *owner,
                           const struct shard_view *now)
{
    if (now->version < owner->version) {
        fail(look, "shard counters", "shard %u: version %llu after %llu", id,
             (unsigned long long)now->version, (unsigned long long)owner->version);
    }
    if (now->floor < owner->floor) {
        fail(look, "shard counters", "shard %u: floor %llu after %llu", id,
             (unsigned long long)now->floor, (unsigned long long)owner->floor);
    }
    owner->version = now->version;
    owner->floor = now->floor;
}

/* The group serves the shard, or did so since the last look. */
static void check_server(const struct look *look, shard_id id, struct shard_owner *owner,
                         const struct shard_view *now)
{
    group_id gid = look->group->gid;

    if (owner->server != 0 && owner->server != gid) {
        fail(look, "one server a shard",
             "shard %u is served by group %u under %llu, here under %llu", id, owner->server,
             (unsigned long long)owner->epoch, (unsigned long long)now->epoch);
    }
    if (now->epoch < owner->epoch || now->epoch > look->check->now.adopted ||
        (now->epoch == owner->epoch && owner->last != gid)) {
        fail(look, "shard epochs", "shard %u: installed under %llu, group %u had it under %llu", id,
             (unsigned long long)now->epoch, owner->last, (unsigned long long)owner->epoch);
    }
    owner->epoch = now->epoch;
    owner->last = gid;
    owner->server = now->state == SHARD_SERVING ? gid : 0;
}

static void check_shard(const struct look *look, shard_id id, const struct shard_view *before,
                        const struct shard_view *now)
{
    struct shard_owner *owner = &look->check->owners[id];
    group_id gid = look->group->gid;
    bool same_life = now->epoch == before->epoch;

    if (now->epoch < before->epoch) {
        fail(look, "shard epochs", "shard %u: epoch %llu after %llu", id,
             (unsigned long long)now->epoch, (unsigned long long)before->epoch);
    }
    if (same_life && before->state != SHARD_SERVING && now->state != SHARD_SERVING &&
        now->version > before->version && look->group->state.adopted == look->check->now.adopted) {
        fail(look, "frozen is immutable", "shard %u is %s: version %llu after %llu", id,
             state_name(now->state), (unsigned long long)now->version,
             (unsigned long long)before->version);
    }
    if (now->state == SHARD_SERVING || !same_life) {
        check_server(look, id, owner, now);
    } else if (owner->server == gid) {
        owner->server = 0;
    }
    if (owner->last == gid && now->state != SHARD_ABSENT) {
        check_counters(look, id, owner, now);
    }
}

/* How much the version counter rose by writes, for check_sessions. */
static uint64_t rise_of(const struct shard_view *before, const struct shard_view *now)
{
    if (now->epoch != before->epoch || now->version < before->version) {
        return now->epoch != before->epoch ? CHECK_SESSIONS_UNKNOWN : 0;
    }
    return now->version - before->version;
}

static const struct shard_view no_view; /* before anything was applied */

/* This replica is ahead of all that was seen of its group: its state is the group's now. */
static void advance(const struct look *look)
{
    struct check_shards *check = look->check;
    struct state_view *state = &look->group->state;

    if (check->now.adopted != state->adopted) {
        check_adoption(look);
    }
    for (shard_id s = 0; s < check->now.n_shards; s++) {
        const struct shard_view *before = s < state->n_shards ? &state->shards[s] : &no_view;

        check_shard(look, s, before, &check->now.shards[s]);
        check->rises[s] = rise_of(before, &check->now.shards[s]);
    }
    check_sessions_applied(check->sessions, look->group->gid, check->now.applied, check->rises,
                           check->now.n_shards);
    if (state->n_shards < check->now.n_shards) {
        state->shards = mem_realloc(state->shards, check->now.n_shards * sizeof(state->shards[0]));
    }
    if (check->now.n_shards > 0) {
        memcpy(state->shards, check->now.shards, check->now.n_shards * sizeof(state->shards[0]));
    }
    state->applied = check->now.applied;
    state->adopted = check->now.adopted;
    state->n_shards = check->now.n_shards;
}

/* ---- The observer ---- */

static struct shard_group *find_group(struct check_shards *check, group_id gid)
{
    for (size_t i = 0; i < check->n_groups; i++) {
        if (check->groups[i].gid == gid) {
            return &check->groups[i];
        }
    }
    check->groups[check->n_groups].gid = gid;
    return &check->groups[check->n_groups++];
}

static void look_at(struct check_shards *check, struct world *world, size_t number)
{
    const struct group *group = world_group(world, number);
    struct shard_node *node = &check->nodes[number];
    struct look look = {.check = check, .node = number};
    raft_index applied;

    if (group == NULL || world_is_wiped(world, number) || group_is_halted(group)) {
        return;
    }
    applied = group_applied_index(group);
    if (node->looked && node->applied == applied) {
        return;
    }
    look.sm = kv_server_sm(world_server(world, number));
    look.group = find_group(check, kv_sm_gid(look.sm));
    read_state(&look, applied);
    check_equal(&look);
    if (check->now.adopted != node->adopted && check->now.adopted != 0) {
        check_own_config(&look);
    }
    if (applied > look.group->state.applied) {
        advance(&look);
    }
    *node = (struct shard_node){true, applied, check->now.adopted};
}

static bool is_shard_group(const struct check_shards *check, size_t node)
{
    return check->world->nodes[node]->gid != 0;
}

static void on_started(void *context, struct world *world, size_t node)
{
    struct check_shards *check = context;

    if (is_shard_group(check, node)) {
        check->nodes[node] = (struct shard_node){0};
        look_at(check, world, node);
    }
}

static void on_stepped(void *context, struct world *world, size_t node,
                       const struct io_event *event)
{
    (void)event;
    if (is_shard_group(context, node)) {
        look_at(context, world, node);
    }
}

static void on_committed(void *context, group_id gid, const struct raft_entry *entry)
{
    struct check_shards *check = context;
    struct look look = {.check = check};
    struct rsm_entry_header header;
    struct kv_command command;
    struct shard_config config = {0};
    struct reader reader;
    struct slice bytes;

    if (gid == 0) {
        return;
    }
    look.group = find_group(check, gid);
    check_sessions_committed(check->sessions, gid, entry);
    if (entry->type != RAFT_ENTRY_COMMAND ||
        rsm_entry_header_read(blob_slice(entry->data), &header, &bytes) != ST_OK || bytes.len < 2 ||
        bytes.data[1] != KV_COMMAND_CONFIG || kv_command_decode(bytes, &command) != ST_OK) {
        return;
    }
    reader = reader_of(command.config);
    if (shard_config_decode(&reader, &config)) {
        MEM_GROW(look.group->configs, look.group->configs_capacity, look.group->n_configs + 1);
        look.group->configs[look.group->n_configs++] =
            (struct config_entry){entry->index, config.num};
        check_config(&look, &config);
    }
    shard_config_fini(&config);
}

struct check_shards *check_shards_create(struct world *world, struct check_raft *raft)
{
    struct check_shards *check = mem_zalloc(sizeof(*check));
    struct world_observer observer = {
        .context = check, .started = on_started, .stepped = on_stepped};

    check->world = world;
    check->sessions = check_sessions_create(world);
    check_raft_on_committed(raft, on_committed, check);
    world_observe(world, &observer);
    return check;
}

void check_shards_destroy(struct check_shards **check)
{
    struct check_shards *c = *check;

    if (c == NULL) {
        return;
    }
    check_sessions_destroy(&c->sessions);
    for (size_t i = 0; i < c->n_groups; i++) {
        mem_free(c->groups[i].state.shards);
        mem_free(c->groups[i].sums);
        mem_free(c->groups[i].configs);
    }
    mem_free(c->owners);
    mem_free(c->now.shards);
    mem_free(c->rises);
    mem_free(c->config_sums);
    mem_free(c);
    *check = NULL;
}
