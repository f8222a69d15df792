/* Replicas come and go in a hostile world, hundreds of seeds: leaders add, remove and take back
 * while messages are lost, repeated and reordered, links are cut, disks are slow and replicas
 * crash. One that was removed loses its disk and comes back under its id as another one. The
 * checkers of the harness look at every step; in the end, with all faults off, the members must
 * converge. */
#include <stdlib.h>

#include "tests/sim/core_harness.h"

#define ACTIONS  9000
#define REPLICAS 6

struct sums {
    uint64_t committed, leaders, added, removed, promoted, wiped, self_removed;
};

/* What the committed configuration is, as far as any running replica knows it: that of the highest
 * commit index. NULL: nobody runs. */
static const struct raft_configuration *committed_configuration(struct cores *cores,
                                                                struct raft_configuration *out)
{
    raft_index best = 0;

    for (raft_id id = 1; id <= cores->n; id++) {
        struct raft *raft = cores->nodes[id].raft;

        if (raft != NULL && raft_commit_index(raft) > best) {
            best = raft_commit_index(raft);
            raft_configuration_at(raft, best, out);
        }
    }
    return best > 0 ? out : NULL;
}

/* A replica that nobody can count any more: its removal is committed, and no log has it back. */
static bool is_out(struct cores *cores, raft_id id)
{
    struct raft_configuration committed;

    if (committed_configuration(cores, &committed) == NULL ||
        raft_configuration_find(&committed, id) != NULL ||
        raft_configuration_is_joint(&committed)) {
        return false;
    }
    for (raft_id other = 1; other <= cores->n; other++) {
        const struct core_node *node = &cores->nodes[other];

        if (other != id && (node->raft == NULL || cores_flags(cores, other, id) != 0)) {
            return false;
        }
    }
    return true;
}

static void wipe_if_out(struct cores *cores, raft_id id, struct sums *sums)
{
    if (is_out(cores, id)) {
        if (cores->nodes[id].raft != NULL) {
            cores_crash(cores, id);
        }
        cores_wipe(cores, id);
        cores_start(cores, id);
        sums->wiped++;
    }
}

static void change_something(struct cores *cores, struct rng *rng, raft_id at, struct sums *sums)
{
    raft_id id = (raft_id)rng_between(rng, 1, cores->n);
    bool is_member = cores_flags(cores, at, id) != 0;
    enum raft_change_kind kind = is_member ? RAFT_CHANGE_REMOVE : RAFT_CHANGE_ADD;

    if (is_member && raft_latest_configuration(core_of(cores, at))->n <= 3 &&
        rng_below(rng, 4) != 0) {
        return;
    }
    if (cores_configure(cores, at, kind, id) == ST_OK) {
        sums->added += !is_member;
        sums->removed += is_member;
        sums->self_removed += is_member && id == at;
    }
}

static void random_action(struct cores *cores, struct rng *rng, struct sums *sums)
{
    raft_id id = (raft_id)rng_between(rng, 1, cores->n);
    struct core_node *node = &cores->nodes[id];
    uint64_t dice = rng_below(rng, 1000);

    if (node->raft == NULL) {
        if (dice < 200) {
            cores_start(cores, id);
        }
        cores_deliver_any(cores, rng, false, 4, 4);
    } else if (dice < 4) {
        cores_crash(cores, id);
    } else if (dice < 8) {
        cores_heal(cores);
        if (rng_below(rng, 2) == 0) {
            cores_isolate(cores, id);
        }
    } else if (dice < 12) {
        wipe_if_out(cores, id, sums);
    } else if (dice < 600) {
        cores_deliver_any(cores, rng, false, 4, 4);
    } else if (dice < 800) {
        cores_work(cores, id);
    } else if (dice < 870) {
        cores->now_ms += rng_below(rng, 25);
        cores_tick(cores, id);
    } else if (dice < 910) {
        cores_propose_sized(cores, id, 1 + rng_below(rng, 3), 8 + rng_below(rng, 60));
    } else if (dice < 925) {
        cores_read_more(cores, id);
    } else if (dice < 930) {
        cores_transfer(cores, id, 0);
    } else if (dice < 960) {
        change_something(cores, rng, id, sums);
    } else if (dice < 970) {
        cores_link(cores, id, (raft_id)(id % cores->n + 1), RAFT_EVENT_PEER_UP + rng_below(rng, 3));
    } else if (dice < 985) {
        cores_checkpoint(cores, id);
    } else {
        for (int i = 0; i < 20; i++) { /* a calm moment */
            cores_settle(cores);
            cores->now_ms += 5;
            cores_tick(cores, id);
        }
    }
}

/* Faults off: within a few seconds there is one leader, no change is left half done, learners are
 * promoted, and one more command is on all members. */
static void converge(struct cores *cores)
{
    raft_id leader;

    cores_recover(cores);
    cores_run(cores, 9000);
    leader = cores_leader(cores);
    assert_true(leader != 0);
    assert_int_equal(cores_propose(cores, leader), ST_OK);
    cores_run(cores, 500);
    assert_false(raft_configuration_is_joint(raft_latest_configuration(core_of(cores, leader))));
    for (raft_id id = 1; id <= cores->n; id++) {
        uint8_t flags = cores_flags(cores, leader, id);

        assert_true(flags == 0 || flags == RAFT_VOTER);
    }
    cores_assert_converged(cores);
}

static void sum_up(struct cores *cores, struct sums *sums)
{
    const struct raft_configuration *latest =
        raft_latest_configuration(core_of(cores, cores_leader(cores)));

    sums->committed += cores->committed_max;
    sums->leaders += cores_count_leaders(cores);
    for (size_t i = 0; i < latest->n; i++) { /* only a promotion names an incarnation */
        sums->promoted += latest->servers[i].incarnation != 0;
    }
}

static void run_seed(uint64_t seed, struct sums *sums)
{
    struct cores *cores = cores_create_empty(1 + seed % 4, seed);
    struct rng rng;

    rng_init(&rng, seed);
    cores->options.max_message_bytes = 400;
    cores->options.max_inflight_messages = 4;
    while (cores->n < REPLICAS) {
        cores_add_node(cores);
    }
    cores_start_all(cores);
    for (int i = 0; i < ACTIONS; i++) {
        random_action(cores, &rng, sums);
    }
    converge(cores);
    sum_up(cores, sums);
    cores_destroy(cores);
}

static void safety_holds_while_replicas_come_and_go(void **state)
{
    const char *only = getenv("CORE_SEED"), *many = getenv("CORE_SEEDS");
    uint64_t seeds = many != NULL ? strtoull(many, NULL, 0) : 150;
    struct sums sums = {0};

    (void)state;
    for (uint64_t seed = 1; seed <= seeds; seed++) {
        if (only == NULL || strtoull(only, NULL, 0) == seed) {
            print_message("seed %llu\r", (unsigned long long)seed);
            run_seed(seed, &sums);
        }
    }
    if (only != NULL && strtoull(only, NULL, 0) > seeds) {
        run_seed(strtoull(only, NULL, 0), &sums);
    }
    print_message(
        "%llu seeds: %llu committed, %llu leaders, %llu added, %llu removed (%llu of them "
        "the leader), %llu came back, %llu members were promoted\n",
        (unsigned long long)seeds, (unsigned long long)sums.committed,
        (unsigned long long)sums.leaders, (unsigned long long)sums.added,
        (unsigned long long)sums.removed, (unsigned long long)sums.self_removed,
        (unsigned long long)sums.wiped, (unsigned long long)sums.promoted);
    assert_true(only != NULL || (sums.committed > 20 * seeds && sums.leaders > 2 * seeds));
    assert_true(only != NULL || (sums.added > 2 * seeds && sums.removed > 2 * seeds));
    assert_true(only != NULL || (sums.promoted > seeds && sums.self_removed > seeds / 4));
    assert_true(only != NULL || sums.wiped > seeds / 4);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(safety_holds_while_replicas_come_and_go),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
