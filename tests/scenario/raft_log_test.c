/* The public Raft suite, parts A (elections) and B (log), on the simulated world, with its numbers.
 */
#include "tests/cmocka.h"

#include "raft/util/assert.h"
#include "raft/util/mem.h"
#include "tests/sim/raft_cluster.h"

static struct raft_cluster *cluster_of(const char *name, size_t n)
{
    struct raft_cluster_options options = {.n = n, .seed = 1000 + n};
    return raft_cluster_create(name, &options);
}

static uint64_t submit(struct raft_cluster *c, size_t i, uint64_t command)
{
    uint64_t number = 0;
    raft_term term;

    assert_true(raft_cluster_submit_u64(c, i, command, &number, &term));
    return number;
}

static void initial_election(void **state)
{
    struct raft_cluster *c = cluster_of("InitialElection", 3);
    raft_term term;

    (void)state;
    raft_cluster_check_leader(c);
    raft_cluster_sleep(c, 50);
    term = raft_cluster_check_terms(c);
    assert_true(term >= 1);
    raft_cluster_sleep(c, 2000);
    /* The public suite only warns here; a stable network must keep its leader. */
    assert_int_equal(raft_cluster_check_terms(c), term);
    raft_cluster_check_leader(c);
    raft_cluster_destroy(&c);
}

static void re_election(void **state)
{
    struct raft_cluster *c = cluster_of("ReElection", 3);
    size_t leader = raft_cluster_check_leader(c), second;

    (void)state;
    raft_cluster_disconnect(c, leader);
    raft_cluster_check_leader(c);
    raft_cluster_connect(c, leader);
    second = raft_cluster_check_leader(c);
    raft_cluster_disconnect(c, second);
    raft_cluster_disconnect(c, (second + 1) % 3);
    raft_cluster_sleep(c, 2000);
    raft_cluster_check_no_leader(c);
    raft_cluster_connect(c, (second + 1) % 3);
    raft_cluster_check_leader(c);
    raft_cluster_connect(c, second);
    raft_cluster_check_leader(c);
    raft_cluster_destroy(&c);
}

static void many_elections(void **state)
{
    struct raft_cluster *c = cluster_of("ManyElections", 7);

    (void)state;
    raft_cluster_check_leader(c);
    for (int round = 0; round < 9; round++) {
        size_t cut[3];
        for (int i = 0; i < 3; i++) {
            cut[i] = rng_below(world_rng(raft_cluster_world(c)), 7);
            raft_cluster_disconnect(c, cut[i]);
        }
        raft_cluster_check_leader(c);
        for (int i = 0; i < 3; i++) {
            raft_cluster_connect(c, cut[i]);
        }
    }
    raft_cluster_check_leader(c);
    raft_cluster_destroy(&c);
}

static void basic_agree(void **state)
{
    struct raft_cluster *c = cluster_of("BasicAgree", 3);

    (void)state;
    for (uint64_t number = 1; number <= 3; number++) {
        assert_int_equal(raft_cluster_applied(c, number), 0);
        assert_int_equal(raft_cluster_agree_u64(c, number * 100, 3, false), number);
    }
    raft_cluster_destroy(&c);
}

static void rpc_bytes(void **state)
{
    struct raft_cluster *c = cluster_of("RPCBytes", 3);
    uint8_t command[5000];
    uint64_t before;

    (void)state;
    raft_cluster_agree_u64(c, 99, 3, false);
    before = raft_cluster_bytes(c);
    for (uint64_t number = 2; number < 12; number++) {
        memset(command, (int)number, sizeof(command));
        assert_int_equal(raft_cluster_agree(c, slice_of(command, sizeof(command)), 3, false),
                         number);
    }
    assert_true(raft_cluster_bytes(c) - before <= 3 * 50000 + 50000);
    raft_cluster_destroy(&c);
}

static void follower_failure(void **state)
{
    struct raft_cluster *c = cluster_of("FollowerFailure", 3);
    size_t leader;

    (void)state;
    raft_cluster_agree_u64(c, 101, 3, false);
    leader = raft_cluster_check_leader(c);
    raft_cluster_disconnect(c, (leader + 1) % 3);
    raft_cluster_agree_u64(c, 102, 2, false);
    raft_cluster_sleep(c, 1000);
    raft_cluster_agree_u64(c, 103, 2, false);
    leader = raft_cluster_check_leader(c);
    raft_cluster_disconnect(c, (leader + 1) % 3);
    raft_cluster_disconnect(c, (leader + 2) % 3);
    assert_int_equal(submit(c, leader, 104), 4);
    raft_cluster_sleep(c, 2000);
    assert_int_equal(raft_cluster_applied(c, 4), 0);
    raft_cluster_destroy(&c);
}

static void leader_failure(void **state)
{
    struct raft_cluster *c = cluster_of("LeaderFailure", 3);
    size_t leader;
    uint64_t number;
    raft_term term;

    (void)state;
    raft_cluster_agree_u64(c, 101, 3, false);
    leader = raft_cluster_check_leader(c);
    raft_cluster_disconnect(c, leader);
    raft_cluster_agree_u64(c, 102, 2, false);
    raft_cluster_sleep(c, 1000);
    raft_cluster_agree_u64(c, 103, 2, false);
    raft_cluster_disconnect(c, raft_cluster_check_leader(c));
    for (size_t i = 0; i < 3; i++) {
        raft_cluster_submit_u64(c, i, 104, &number, &term);
    }
    raft_cluster_sleep(c, 2000);
    assert_int_equal(raft_cluster_applied(c, 4), 0);
    raft_cluster_destroy(&c);
}

static void fail_agree(void **state)
{
    struct raft_cluster *c = cluster_of("FailAgree", 3);
    size_t leader;

    (void)state;
    raft_cluster_agree_u64(c, 101, 3, false);
    leader = raft_cluster_check_leader(c);
    raft_cluster_disconnect(c, (leader + 1) % 3);
    raft_cluster_agree_u64(c, 102, 2, false);
    raft_cluster_agree_u64(c, 103, 2, false);
    raft_cluster_sleep(c, 1000);
    raft_cluster_agree_u64(c, 104, 2, false);
    raft_cluster_agree_u64(c, 105, 2, false);
    raft_cluster_connect(c, (leader + 1) % 3);
    raft_cluster_agree_u64(c, 106, 3, true);
    raft_cluster_sleep(c, 1000);
    raft_cluster_agree_u64(c, 107, 3, true);
    raft_cluster_destroy(&c);
}

static void fail_no_agree(void **state)
{
    struct raft_cluster *c = cluster_of("FailNoAgree", 5);
    size_t leader;
    uint64_t number;

    (void)state;
    raft_cluster_agree_u64(c, 10, 5, false);
    leader = raft_cluster_check_leader(c);
    for (size_t i = 1; i <= 3; i++) {
        raft_cluster_disconnect(c, (leader + i) % 5);
    }
    assert_int_equal(submit(c, leader, 20), 2);
    raft_cluster_sleep(c, 2000);
    assert_int_equal(raft_cluster_applied(c, 2), 0);
    for (size_t i = 1; i <= 3; i++) {
        raft_cluster_connect(c, (leader + i) % 5);
    }
    number = submit(c, raft_cluster_check_leader(c), 30);
    assert_in_range(number, 2, 3);
    raft_cluster_agree_u64(c, 1000, 5, true);
    raft_cluster_destroy(&c);
}

static void concurrent_starts(void **state)
{
    struct raft_cluster *c = cluster_of("ConcurrentStarts", 3);
    bool success = false;

    (void)state;
    for (int attempt = 0; attempt < 5 && !success; attempt++) {
        raft_term term, other;
        uint64_t numbers[5], first;
        size_t leader;

        if (attempt > 0) {
            raft_cluster_sleep(c, 3000);
        }
        leader = raft_cluster_check_leader(c);
        if (!raft_cluster_submit_u64(c, leader, 1, &first, &term)) {
            continue;
        }
        success = true;
        for (uint64_t i = 0; i < 5; i++) {
            success &=
                raft_cluster_submit_u64(c, leader, 100 + i, &numbers[i], &other) && other == term;
        }
        for (uint64_t i = 0; success && i < 5; i++) {
            success = raft_cluster_wait(c, numbers[i], 3, term) &&
                      get_u64(raft_cluster_command(c, numbers[i]).data) == 100 + i;
        }
    }
    assert_true(success);
    raft_cluster_destroy(&c);
}

static void rejoin(void **state)
{
    struct raft_cluster *c = cluster_of("Rejoin", 3);
    size_t first, second;

    (void)state;
    raft_cluster_agree_u64(c, 101, 3, true);
    first = raft_cluster_check_leader(c);
    raft_cluster_disconnect(c, first);
    for (uint64_t doomed = 102; doomed <= 104; doomed++) {
        submit(c, first, doomed);
    }
    raft_cluster_agree_u64(c, 103, 2, true);
    second = raft_cluster_check_leader(c);
    raft_cluster_disconnect(c, second);
    raft_cluster_connect(c, first);
    raft_cluster_agree_u64(c, 104, 2, true);
    raft_cluster_connect(c, second);
    raft_cluster_agree_u64(c, 105, 3, true);
    raft_cluster_destroy(&c);
}

static void submit_doomed(struct raft_cluster *c, size_t leader, uint64_t from)
{
    uint64_t number;
    raft_term term;

    for (uint64_t i = 0; i < 50; i++) {
        raft_cluster_submit_u64(c, leader, from + i, &number, &term);
    }
    raft_cluster_sleep(c, 500);
}

static void commit_fifty(struct raft_cluster *c, uint64_t from)
{
    for (uint64_t i = 0; i < 50; i++) {
        raft_cluster_agree_u64(c, from + i, 3, true);
    }
}

static void backup(void **state)
{
    struct raft_cluster *c = cluster_of("Backup", 5);
    size_t first, second, other;

    (void)state;
    raft_cluster_agree_u64(c, 1, 5, true);
    first = raft_cluster_check_leader(c);
    for (size_t i = 2; i <= 4; i++) {
        raft_cluster_disconnect(c, (first + i) % 5);
    }
    submit_doomed(c, first, 1000);
    raft_cluster_disconnect(c, first);
    raft_cluster_disconnect(c, (first + 1) % 5);
    for (size_t i = 2; i <= 4; i++) {
        raft_cluster_connect(c, (first + i) % 5);
    }
    commit_fifty(c, 2000);

    second = raft_cluster_check_leader(c);
    other = (first + 2) % 5 == second ? (second + 1) % 5 : (first + 2) % 5;
    raft_cluster_disconnect(c, other);
    submit_doomed(c, second, 3000);
    for (size_t i = 0; i < 5; i++) {
        raft_cluster_disconnect(c, i);
    }
    raft_cluster_connect(c, first);
    raft_cluster_connect(c, (first + 1) % 5);
    raft_cluster_connect(c, other);
    commit_fifty(c, 4000);

    for (size_t i = 0; i < 5; i++) {
        raft_cluster_connect(c, i);
    }
    raft_cluster_agree_u64(c, 5000, 5, true);
    raft_cluster_destroy(&c);
}

/* One try of the burst; false if the term moved. */
static bool count_burst(struct raft_cluster *c, uint64_t *rpcs)
{
    size_t leader = raft_cluster_check_leader(c);
    uint64_t before = raft_cluster_rpcs(c), first, number;
    raft_term term, other;

    if (!raft_cluster_submit_u64(c, leader, 1, &first, &term)) {
        return false;
    }
    for (uint64_t i = 1; i < 12; i++) {
        if (!raft_cluster_submit_u64(c, leader, i * 1000, &number, &other) || other != term) {
            return false;
        }
        assert_int_equal(number, first + i);
    }
    for (uint64_t i = 0; i < 12; i++) {
        if (!raft_cluster_wait(c, first + i, 3, term)) {
            return false;
        }
        assert_int_equal(get_u64(raft_cluster_command(c, first + i).data), i == 0 ? 1 : i * 1000);
    }
    *rpcs = raft_cluster_rpcs(c) - before;
    return true;
}

static void count(void **state)
{
    struct raft_cluster *c = cluster_of("Count", 3);
    uint64_t rpcs = 0, before;
    bool success = false;

    (void)state;
    raft_cluster_check_leader(c);
    rpcs = raft_cluster_rpcs(c);
    assert_in_range(rpcs, 1, 30);
    for (int attempt = 0; attempt < 5 && !success; attempt++) {
        if (attempt > 0) {
            raft_cluster_sleep(c, 3000);
        }
        success = count_burst(c, &rpcs);
    }
    assert_true(success);
    assert_true(rpcs <= (10 + 1 + 3) * 3);
    before = raft_cluster_rpcs(c);
    raft_cluster_sleep(c, 1000);
    assert_true(raft_cluster_rpcs(c) - before <= 3 * 20);
    raft_cluster_destroy(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(initial_election),
        cmocka_unit_test(re_election),
        cmocka_unit_test(many_elections),
        cmocka_unit_test(basic_agree),
        cmocka_unit_test(rpc_bytes),
        cmocka_unit_test(follower_failure),
        cmocka_unit_test(leader_failure),
        cmocka_unit_test(fail_agree),
        cmocka_unit_test(fail_no_agree),
        cmocka_unit_test(concurrent_starts),
        cmocka_unit_test(rejoin),
        cmocka_unit_test(backup),
        cmocka_unit_test(count),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
