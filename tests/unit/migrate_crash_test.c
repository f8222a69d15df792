/* A crash at every step of a move, by enumeration. A shard moves from one group to another and back
 * while clients write to it, in small pieces, without faults; each step forward of a leader's log,
 * commit or state in that time is a moment. Then the same again, many times: at one moment somebody
 * loses power (in the middle of the event after it, every other time), and comes back soon, or
 * late, or never. Always everything comes to rest, and what clients saw is linearizable: nothing is
 * lost, nothing done twice. The checkers of tests/sim/check_*.h look on all the time.
 *
 * CRASH_STEP=1 in the environment tries every moment instead of every n-th; CRASH_STEP=n, others.
 */
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

static void make_keys(struct story *story)
{
    unsigned n = 0;

    for (unsigned i = 0; n < N_KEYS; i++) {
        snprintf(story->keys[n], sizeof(story->keys[n]), "k%u", i);
        n += shard_of_key(slice_text(story->keys[n]), SHARD_MIN_COUNT) == S;
    }
}

static void worker_begin(struct story *story, struct worker *worker)
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

static void pump_workers(struct story *story)
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

static bool workers_are_idle(void *context)
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

static enum phase phase_of(struct story *story)
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

static void note_moment(struct story *story)
{
    struct plan *plan = story->plan;

    if (plan != NULL) {
        assert_true(story->moments < MAX_MOMENTS);
        plan->phases[story->moments] = (uint8_t)phase_of(story);
        plan->n = story->moments + 1;
    }
}

static void count_moments(struct story *story)
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

static void start_move(struct story *story, size_t to)
{
    uint64_t now_ms = world_now_ms(story->world);

    story->n_moves++;
    story->change = (struct kv_change){0};
    ctrler_clerk_move(kv_client_admin(story->admin), S, kv_cluster_gid(to), now_ms, now_ms + 60000,
                      kv_change_on_end, &story->change);
    world_reschedule(story->world, kv_client_number(story->admin));
}

static bool move_is_over(struct story *story)
{
    size_t to = story->n_moves % 2;
    const struct shard *source = shard_at(story, 1 - to), *taker = shard_at(story, to);

    return story->change.ended && source != NULL && taker != NULL &&
           taker->state == SHARD_SERVING && shard_is_settled(taker) && taker->n_queue == 0 &&
           source->state == SHARD_ABSENT && shard_is_settled(source);
}

static bool is_at_home(void *context)
{
    return move_is_over(context);
}

/* There and back. */
static bool moves_are_over(struct story *story)
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

static bool crash_is_due_or_all_over(void *context)
{
    struct story *story = context;

    pump_workers(story);
    count_moments(story);
    return story->moments >= story->crash_at || moves_are_over(story);
}

static bool all_is_over(void *context)
{
    pump_workers(context);
    return moves_are_over(context);
}

static bool nothing_ends_this(void *context)
{
    pump_workers(context);
    (void)moves_are_over(context);
    return false;
}

static bool nothing_at_all_ends_this(void *context)
{
    pump_workers(context);
    return false;
}

/* ---- Begin and end ---- */

static void begin(struct story *story, uint64_t seed, bool snapshots)
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

static void end(struct story *story)
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

static void add_victim(struct victims *victims, size_t node)
{
    if (node != SIZE_MAX) {
        victims->nodes[victims->n++] = node;
    }
}

static void add_group(struct story *story, struct victims *victims, size_t group)
{
    for (size_t i = 0; i < N_REPLICAS; i++) {
        add_victim(victims, kv_cluster_node(story->c, group, i));
    }
}

static void add_follower(struct story *story, struct victims *victims, size_t group)
{
    size_t i = 0;

    while (kv_cluster_node(story->c, group, i) == kv_cluster_leader(story->c, group)) {
        i++;
    }
    add_victim(victims, kv_cluster_node(story->c, group, i));
}

static struct victims find_victims(struct story *story, enum victim victim)
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

static void crash(struct story *story, const struct victims *victims, bool amid)
{
    for (size_t i = 0; i < victims->n; i++) {
        if (amid) {
            world_crash_amid(story->world, victims->nodes[i]);
        } else {
            world_crash(story->world, victims->nodes[i]);
        }
    }
}

static void start_again(struct story *story, const struct victims *victims)
{
    for (size_t i = 0; i < victims->n; i++) {
        if (world_is_running(story->world,
                             victims->nodes[i])) { /* it had nothing to do meanwhile */
            world_crash(story->world, victims->nodes[i]);
        }
        world_start(story->world, victims->nodes[i]);
    }
}

/* ---- Moments ---- */

/* One for runs with small checkpoints and compacted logs, one for runs without. */
static struct plan plans[2];

static void make_plan(bool snapshots)
{
    struct story story;

    begin(&story, 7, snapshots);
    story.plan = &plans[snapshots];
    start_move(&story, 1);
    assert_true(world_run_until(story.world, 30000, crash_is_due_or_all_over, &story));
    end(&story);
}

static int make_plans(void **state)
{
    unsigned seen = 0;

    (void)state;
    for (int i = 0; i < 2; i++) {
        make_plan(i == 1);
        for (unsigned moment = 1; moment < plans[i].n; moment++) {
            seen |= 1u << plans[i].phases[moment];
        }
    }
    return (seen & ((1u << PHASE_UNKNOWN) - 1)) == (1u << PHASE_UNKNOWN) - 1 ? 0 : -1;
}

static unsigned step_or(unsigned usual)
{
    uint64_t asked = seeds_asked("CRASH", "_STEP");

    return asked != 0 ? (unsigned)asked : usual;
}

/* The end of a phase or its beginning. */
static bool is_edge(const struct plan *plan, unsigned moment)
{
    return plan->phases[moment] != plan->phases[moment - 1] ||
           (moment + 1 < plan->n && plan->phases[moment] != plan->phases[moment + 1]);
}

/* The next moment that is tried; 0: there is none. From the freeze on they lie closer. */
static unsigned next_moment(const struct plan *plan, unsigned moment, unsigned step)
{
    while (++moment < plan->n) {
        unsigned here = plan->phases[moment] >= PHASE_FROZEN ? 1 + step / 8 : step;

        if (moment % here == 0 || is_edge(plan, moment)) {
            return moment;
        }
    }
    return 0;
}

/* Goes on to that moment of the story that the plan tells. */
static void run_to(struct story *story, bool snapshots, unsigned moment)
{
    begin(story, 7, snapshots);
    story->crash_at = moment;
    start_move(story, 1);
    assert_true(world_run_until(story->world, 30000, crash_is_due_or_all_over, story));
    assert_int_equal(story->moments, moment);
    assert_int_equal(phase_of(story), plans[snapshots].phases[moment]);
}

static void run_to_end(struct story *story)
{
    assert_true(world_run_until(story->world, 60000, all_is_over, story));
    end(story);
}

/* ---- Crashes ---- */

static void crash_once(enum victim victim, bool snapshots, unsigned moment, uint64_t away_ms)
{
    struct victims victims;
    struct story story;

    fprintf(stderr, "victim %d moment %u of phase %u away %u ms\n", (int)victim, moment,
            plans[snapshots].phases[moment], (unsigned)away_ms);
    run_to(&story, snapshots, moment);
    victims = find_victims(&story, victim);
    crash(&story, &victims, moment % 2 == 1);
    world_run_until(story.world, away_ms, nothing_ends_this, &story);
    start_again(&story, &victims);
    run_to_end(&story);
}

static void crash_at_every_moment(enum victim victim, unsigned usual_step, uint64_t away_ms)
{
    bool snapshots = victim % 2 == 0;
    const struct plan *plan = &plans[snapshots];
    unsigned step = step_or(usual_step), moment = 0;

    while ((moment = next_moment(plan, moment, step)) != 0) {
        crash_once(victim, snapshots, moment, away_ms);
    }
}

static void anybody_may_lose_power_at_any_moment_of_a_move(void **state)
{
    (void)state;
    for (enum victim victim = 0; victim < N_VICTIMS; victim++) {
        crash_at_every_moment(victim, 50, 100);
    }
}

static void and_may_stay_away_until_the_move_is_over(void **state)
{
    (void)state;
    for (enum victim victim = VICTIM_LEADER_0; victim <= VICTIM_GROUP_1; victim++) {
        bool snapshots = victim % 2 == 1;
        unsigned n = 0, every = step_or(5), moment = 0;

        while ((moment = next_moment(&plans[snapshots], moment, 60)) != 0) {
            if (n++ % every == victim % every) {
                crash_once(victim, snapshots, moment, LATE_MS);
            }
        }
    }
}

/* ---- A target that never comes back ---- */

/* Somebody else gets the shard, or its source keeps it, with all that was written. */
static void lose_target(unsigned moment, bool to_third)
{
    struct story story;
    struct victims victims;
    size_t to = to_third ? 2 : 0;
    const struct shard *life;
    uint64_t n_begun;

    fprintf(stderr, "target lost at moment %u of phase %u, third %d\n", moment,
            plans[0].phases[moment], to_third);
    run_to(&story, false, moment);
    victims = find_victims(&story, VICTIM_GROUP_1);
    crash(&story, &victims, false);
    world_run_until(story.world, 300, nothing_at_all_ends_this, &story);
    life = shard_at(&story, 0);
    if (life != NULL && life->state == SHARD_SERVING) {
        if (to_third) {
            kv_cluster_join_now(story.c, 2);
        }
        story.n_moves = 2; /* what follows is another story */
        ASSERT(kv_cluster_move(story.c, S, kv_cluster_gid(to), NULL) == ST_OK);
        n_begun = story.n_begun;
        world_run_until(story.world, 8000, nothing_at_all_ends_this, &story);
        assert_int_equal(shard_at(&story, to)->state, SHARD_SERVING);
        assert_true(story.n_begun > n_begun + 50);
    }
    start_again(&story, &victims);
    world_run_until(story.world, 1000, nothing_at_all_ends_this, &story);
    end(&story);
}

static void a_target_may_be_lost_for_good_before_the_freeze(void **state)
{
    unsigned moment = 0, n = 0, step = step_or(8);

    (void)state;
    while ((moment = next_moment(&plans[0], moment, step)) != 0 &&
           plans[0].phases[moment] < PHASE_FROZEN) {
        lose_target(moment, n++ % 2 == 0);
    }
    assert_true(n > 5);
}

/* ---- Disks and networks ---- */

static void fill_disks(struct story *story, bool full)
{
    struct world_disk disk = {.full = full};

    for (size_t i = 0; i < N_REPLICAS; i++) {
        world_set_disk(story->world, kv_cluster_node(story->c, 1, i), &disk);
    }
}

/* A replica whose write was under way when the disk got full has ended. */
static void start_ended(struct story *story)
{
    for (size_t i = 0; i < world_node_count(story->world); i++) {
        if (!world_is_running(story->world, i)) {
            world_start(story->world, i);
        }
    }
}

/* The move waits, the source serves; when there is room it goes on. */
static void a_full_disk_at_the_target_holds_up_only_the_move(void **state)
{
    unsigned moment = 0, n = 0, every = step_or(2);

    (void)state;
    while ((moment = next_moment(&plans[0], moment, 12)) != 0 &&
           plans[0].phases[moment] <= PHASE_FROZEN) {
        struct story story;
        uint64_t n_begun;

        if (n++ % every != 0) {
            continue;
        }
        fprintf(stderr, "disk full at moment %u of phase %u\n", moment, plans[0].phases[moment]);
        run_to(&story, false, moment);
        n_begun = story.n_begun;
        fill_disks(&story, true);
        world_run_until(story.world, 3000, nothing_ends_this, &story);
        if (plans[0].phases[moment] <= PHASE_SWEEP) {
            assert_int_equal(story.n_moves, 1);
            assert_int_equal(shard_at(&story, 0)->state, SHARD_SERVING);
            assert_true(story.n_begun > n_begun + 50);
        }
        fill_disks(&story, false);
        start_ended(&story);
        run_to_end(&story);
    }
    assert_true(n > 5);
}

/* Party 0 and 1: the groups; 2: the controller. */
static size_t party_node(const struct story *story, unsigned party, size_t i)
{
    return party == 2 ? kv_cluster_ctrler(story->c, i) : kv_cluster_node(story->c, party, i);
}

static void cut_parties(struct story *story, unsigned a, unsigned b, bool cut)
{
    for (size_t i = 0; i < N_REPLICAS; i++) {
        for (size_t j = 0; j < N_REPLICAS; j++) {
            world_cut_pair(story->world, party_node(story, a, i), party_node(story, b, j), cut);
        }
    }
}

static void groups_may_not_hear_of_each_other_for_a_while(void **state)
{
    (void)state;
    for (unsigned party = 0; party < 3; party++) {
        unsigned moment = 0, n = 0, every = step_or(5);

        while ((moment = next_moment(&plans[1], moment, 60)) != 0) {
            struct story story;

            if (n++ % every != party % every) {
                continue;
            }
            fprintf(stderr, "cut without %u at moment %u of phase %u\n", party, moment,
                    plans[1].phases[moment]);
            run_to(&story, true, moment);
            cut_parties(&story, (party + 1) % 3, (party + 2) % 3, true);
            world_run_until(story.world, 1500, nothing_ends_this, &story);
            cut_parties(&story, (party + 1) % 3, (party + 2) % 3, false);
            run_to_end(&story);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(anybody_may_lose_power_at_any_moment_of_a_move),
        cmocka_unit_test(and_may_stay_away_until_the_move_is_over),
        cmocka_unit_test(a_target_may_be_lost_for_good_before_the_freeze),
        cmocka_unit_test(a_full_disk_at_the_target_holds_up_only_the_move),
        cmocka_unit_test(groups_may_not_hear_of_each_other_for_a_while),
    };

    return cmocka_run_group_tests(tests, make_plans, NULL);
}
