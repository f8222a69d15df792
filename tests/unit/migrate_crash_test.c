/* A crash at every step of a move, by enumeration. A shard moves from one group to another and back
 * while clients write to it, in small pieces, without faults; each step forward of a leader's log,
 * commit or state in that time is a moment. Then the same again, many times: at one moment somebody
 * loses power (in the middle of the event after it, every other time), and comes back soon, or
 * late, or never. Always everything comes to rest, and what clients saw is linearizable: nothing is
 * lost, nothing done twice. The checkers of tests/sim/check_*.h look on all the time.
 *
 * CRASH_STEP=1 in the environment tries every moment instead of every n-th; CRASH_STEP=n, others.
 */
#include "tests/unit/migrate_crash_story.h"

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
