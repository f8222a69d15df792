/* For migrate_crash_test: a shard that moves there and back while clients write to it, the moments
 * of that, and who may lose power. */
#ifndef TESTS_UNIT_MIGRATE_CRASH_STORY_H
#define TESTS_UNIT_MIGRATE_CRASH_STORY_H

#include "client/ctrler_clerk.h"
#include "raft/util/assert.h"
#include "raft/util/mem.h"
#include "shardkv/kv_server.h"
#include "tests/cmocka.h"
#include "tests/seeds.h"
#include "tests/sim/check_rest.h"
#include "tests/sim/kv_cluster.h"

#define N_WORKERS   3
#define N_KEYS      10
#define N_REPLICAS  3
#define S           3u /* the shard that moves, and the only one that is written to */
#define PAUSE_MS    8  /* of a client */
#define PIECE_BYTES 80
#define LATE_MS     2000 /* the move is over by then */

struct worker {
    struct kv_client *client;
    struct kv_outcome outcome;
    bool is_busy;
    uint64_t next_ms;
};

/* How far a leader's log and state are. */
struct progress {
    size_t node;
    raft_index last, committed, applied;
};

struct story {
    struct kv_cluster *c;
    struct world *world;
    struct kv_client *admin;
    struct worker workers[N_WORKERS];
    struct rng rng;
    char keys[N_KEYS][16];
    bool is_stopping;
    uint64_t n_begun;
    size_t n_moves; /* made; each but the first begins when the last one is over */
    struct kv_change change;
    struct progress progress[2];
    unsigned moments, crash_at;
    struct plan *plan; /* being made; or NULL */
};

enum phase {
    PHASE_QUIET,  /* nothing has begun, or all is over */
    PHASE_SWEEP,  /* a copy has begun */
    PHASE_ROUNDS, /* all is swept */
    PHASE_FROZEN,
    PHASE_INSTALLED, /* and the source still has it */
    PHASE_DROPPED,   /* and the taker does not know that */
    PHASE_UNKNOWN    /* a leader is missing */
};

/* What a run without faults went through. */
#define MAX_MOMENTS 5000
struct plan {
    uint8_t phases[MAX_MOMENTS]; /* by moment */
    unsigned n;
};

/* ---- Clients ---- */

static inline void make_keys(struct story *story)
{
    unsigned n = 0;

    for (unsigned i = 0; n < N_KEYS; i++) {
        snprintf(story->keys[n], sizeof(story->keys[n]), "k%u", i);
        n += shard_of_key(slice_text(story->keys[n]), SHARD_MIN_COUNT) == S;
    }
}

static inline void worker_begin(struct story *story, struct worker *worker)
{
    const char *key = story->keys[rng_below(&story->rng, N_KEYS)];
    char text[24];

    snprintf(text, sizeof(text), "%llu;", (unsigned long long)++story->n_begun);
    worker->is_busy = true;
    switch (rng_below(&story->rng, 4)) {
    case 0:
        kv_client_get(worker->client, key, 5000, &worker->outcome);
        break;
    case 1:
        kv_client_put(worker->client, key, slice_text(text), 5000, &worker->outcome);
        break;
    default:
        kv_client_append(worker->client, key, slice_text(text), 5000, &worker->outcome);
        break;
    }
}

static inline void pump_workers(struct story *story)
{
    uint64_t now_ms = world_now_ms(story->world);

    for (size_t i = 0; i < N_WORKERS; i++) {
        struct worker *worker = &story->workers[i];

        if (worker->is_busy && worker->outcome.ended) {
            kv_outcome_fini(&worker->outcome);
            worker->is_busy = false;
            worker->next_ms = now_ms + PAUSE_MS;
        }
        if (!worker->is_busy && !story->is_stopping && now_ms >= worker->next_ms) {
            worker_begin(story, worker);
        }
    }
}

static inline bool workers_are_idle(void *context)
{
    struct story *story = context;

    pump_workers(story);
    for (size_t i = 0; i < N_WORKERS; i++) {
        if (story->workers[i].is_busy) {
            return false;
        }
    }
    return true;
}

/* ---- Where the move is ---- */

/* The shard as the group's leader has it; NULL: it has none. */
static const struct shard *shard_at(struct story *story, size_t group)
{
    size_t leader = kv_cluster_leader(story->c, group);
    const struct kv_server *server = leader != SIZE_MAX ? world_server(story->world, leader) : NULL;
    const struct kv_sm *sm = server != NULL ? kv_server_sm(server) : NULL;

    return sm != NULL ? kv_sm_shard(sm, S) : NULL;
}

static inline enum phase phase_of(struct story *story)
{
    size_t to = story->n_moves % 2, from = 1 - to;
    const struct shard *source = shard_at(story, from), *taker = shard_at(story, to);

    if (source == NULL || taker == NULL) {
        return PHASE_UNKNOWN;
    }
    if (taker->state == SHARD_SERVING && source->state == SHARD_FROZEN) {
        return PHASE_INSTALLED;
    }
    if (taker->n_releases > 0) {
        return PHASE_DROPPED;
    }
    if (source->state == SHARD_FROZEN) {
        return PHASE_FROZEN;
    }
    return source->outgoing.copy_id == 0 ? PHASE_QUIET
           : source->outgoing.is_swept   ? PHASE_ROUNDS
                                         : PHASE_SWEEP;
}

static inline void note_moment(struct story *story)
{
    struct plan *plan = story->plan;

    if (plan != NULL) {
        assert_true(story->moments < MAX_MOMENTS);
        plan->phases[story->moments] = (uint8_t)phase_of(story);
        plan->n = story->moments + 1;
    }
}

static inline void count_moments(struct story *story)
{
    for (size_t group = 0; group < 2; group++) {
        size_t leader = kv_cluster_leader(story->c, group);
        struct group *runtime = leader != SIZE_MAX ? world_group(story->world, leader) : NULL;
        struct progress now = {.node = leader};

        if (runtime == NULL) {
            continue;
        }
        now.last = raft_last_index(group_raft(runtime));
        now.committed = raft_commit_index(group_raft(runtime));
        now.applied = group_applied_index(runtime);
        if (memcmp(&now, &story->progress[group], sizeof(now)) != 0) {
            story->progress[group] = now;
            story->moments++;
            note_moment(story);
        }
    }
}

/* ---- Moves ---- */

static inline void start_move(struct story *story, size_t to)
{
    uint64_t now_ms = world_now_ms(story->world);

    story->n_moves++;
    story->change = (struct kv_change){0};
    ctrler_clerk_move(kv_client_admin(story->admin), S, kv_cluster_gid(to), now_ms, now_ms + 60000,
                      kv_change_on_end, &story->change);
    world_reschedule(story->world, kv_client_number(story->admin));
}

static inline bool move_is_over(struct story *story)
{
    size_t to = story->n_moves % 2;
    const struct shard *source = shard_at(story, 1 - to), *taker = shard_at(story, to);

    return story->change.ended && source != NULL && taker != NULL &&
           taker->state == SHARD_SERVING && shard_is_settled(taker) && taker->n_queue == 0 &&
           source->state == SHARD_ABSENT && shard_is_settled(source);
}

static inline bool is_at_home(void *context)
{
    return move_is_over(context);
}

/* There and back. */
static inline bool moves_are_over(struct story *story)
{
    if (!move_is_over(story)) {
        return false;
    }
    if (story->n_moves == 1) {
        ASSERT(story->change.status == ST_OK);
        start_move(story, 0);
        return false;
    }
    return true;
}

static inline bool crash_is_due_or_all_over(void *context)
{
    struct story *story = context;

    pump_workers(story);
    count_moments(story);
    return story->moments >= story->crash_at || moves_are_over(story);
}

static inline bool all_is_over(void *context)
{
    pump_workers(context);
    return moves_are_over(context);
}

static inline bool nothing_ends_this(void *context)
{
    pump_workers(context);
    (void)moves_are_over(context);
    return false;
}

static inline bool nothing_at_all_ends_this(void *context)
{
    pump_workers(context);
    return false;
}

/* ---- Begin and end ---- */

static inline void begin(struct story *story, uint64_t seed, bool snapshots)
{
    struct kv_cluster_options options = {.n_ctrlers = 3,
                                         .n_groups = 3,
                                         .n_replicas = N_REPLICAS,
                                         .snapshots = snapshots,
                                         .piece_bytes = PIECE_BYTES,
                                         .record = true,
                                         .quiet = true,
                                         .seed = seed};
    struct kv_client *client;

    *story = (struct story){.crash_at = UINT32_MAX};
    rng_init(&story->rng, seed);
    make_keys(story);
    story->c = kv_cluster_create("crash", &options);
    story->world = kv_cluster_world(story->c);
    kv_cluster_join_now(story->c, 0);
    kv_cluster_join_now(story->c, 1);
    story->admin = kv_client_create(story->c);
    client = kv_client_create(story->c);
    for (size_t i = 0; i < N_KEYS; i++) {
        kv_put_now(client, story->keys[i], "a first value of some length;");
    }
    kv_client_destroy(&client);
    ASSERT(kv_cluster_move(story->c, S, kv_cluster_gid(0), NULL) == ST_OK);
    story->change.ended = true;
    assert_true(world_run_until(story->world, 30000, is_at_home, story));
    for (size_t i = 0; i < N_WORKERS; i++) {
        story->workers[i].client = kv_client_create(story->c);
    }
}

static inline void end(struct story *story)
{
    struct check_rest rest = {.cluster = story->c};
    struct kv_client *reader;

    story->is_stopping = true;
    assert_true(world_run_until(story->world, 30000, workers_are_idle, story));
    check_rest_settle(&rest, 60000);
    check_rest_states(&rest);
    reader = kv_client_create(story->c);
    for (size_t i = 0; i < N_KEYS; i++) {
        struct buf value = {0};

        assert_true(kv_get_now(reader, story->keys[i], &value));
        buf_fini(&value);
    }
    kv_client_destroy(&reader);
    for (size_t i = 0; i < N_WORKERS; i++) {
        kv_client_destroy(&story->workers[i].client);
    }
    kv_client_destroy(&story->admin);
    kv_cluster_destroy(&story->c); /* checks the history */
}

/* ---- Victims ---- */

enum victim {
    VICTIM_LEADER_0,
    VICTIM_LEADER_1,
    VICTIM_BOTH_LEADERS,
    VICTIM_FOLLOWER_0,
    VICTIM_FOLLOWER_1,
    VICTIM_GROUP_0,
    VICTIM_GROUP_1,
    VICTIM_CTRLER,
    VICTIM_ALL,
    N_VICTIMS
};

struct victims {
    size_t nodes[WORLD_MAX_NODES];
    size_t n;
};

static inline void add_victim(struct victims *victims, size_t node)
{
    if (node != SIZE_MAX) {
        victims->nodes[victims->n++] = node;
    }
}

static inline void add_group(struct story *story, struct victims *victims, size_t group)
{
    for (size_t i = 0; i < N_REPLICAS; i++) {
        add_victim(victims, kv_cluster_node(story->c, group, i));
    }
}

static inline void add_follower(struct story *story, struct victims *victims, size_t group)
{
    size_t i = 0;

    while (kv_cluster_node(story->c, group, i) == kv_cluster_leader(story->c, group)) {
        i++;
    }
    add_victim(victims, kv_cluster_node(story->c, group, i));
}

static inline struct victims find_victims(struct story *story, enum victim victim)
{
    struct victims found = {.n = 0};

    switch (victim) {
    case VICTIM_LEADER_0:
    case VICTIM_LEADER_1:
        add_victim(&found, kv_cluster_leader(story->c, victim == VICTIM_LEADER_1));
        break;
    case VICTIM_BOTH_LEADERS:
        add_victim(&found, kv_cluster_leader(story->c, 0));
        add_victim(&found, kv_cluster_leader(story->c, 1));
        break;
    case VICTIM_FOLLOWER_0:
    case VICTIM_FOLLOWER_1:
        add_follower(story, &found, victim == VICTIM_FOLLOWER_1);
        break;
    case VICTIM_GROUP_0:
    case VICTIM_GROUP_1:
        add_group(story, &found, victim == VICTIM_GROUP_1);
        break;
    case VICTIM_CTRLER:
        add_victim(&found, kv_cluster_ctrler_leader(story->c));
        break;
    case VICTIM_ALL:
    case N_VICTIMS:
        for (size_t i = 0; i < world_node_count(story->world); i++) {
            add_victim(&found, i);
        }
        break;
    }
    return found;
}

static inline void crash(struct story *story, const struct victims *victims, bool amid)
{
    for (size_t i = 0; i < victims->n; i++) {
        if (amid) {
            world_crash_amid(story->world, victims->nodes[i]);
        } else {
            world_crash(story->world, victims->nodes[i]);
        }
    }
}

static inline void start_again(struct story *story, const struct victims *victims)
{
    for (size_t i = 0; i < victims->n; i++) {
        if (world_is_running(story->world,
                             victims->nodes[i])) { /* it had nothing to do meanwhile */
            world_crash(story->world, victims->nodes[i]);
        }
        world_start(story->world, victims->nodes[i]);
    }
}

#endif
