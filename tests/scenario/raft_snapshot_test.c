/* The public Raft suite, part D (snapshots), on the simulated world, with its numbers. */
#include "tests/cmocka.h"

#include "raft/util/assert.h"
#include "tests/sim/raft_cluster.h"

#define MAX_LOG_BYTES 2000

static struct raft_cluster *cluster_of(const char *name, bool unreliable)
{
    struct raft_cluster_options options = {
        .n = 3, .unreliable = unreliable, .snapshots = true, .seed = 3000};
    return raft_cluster_create(name, &options);
}

static uint64_t draw(struct raft_cluster *c, uint64_t bound)
{
    return rng_below(world_rng(raft_cluster_world(c)), bound);
}

static void submit_some(struct raft_cluster *c, size_t sender)
{
    uint64_t n = 5 + draw(c, 10), number;
    raft_term term;

    for (uint64_t i = 0; i < n; i++) {
        raft_cluster_submit_u64(c, sender, draw(c, UINT64_MAX), &number, &term);
    }
}

enum victim_fate { NOTHING, CUT, CRASH };

/* 30 rounds: a victim is away while the others commit 5 to 15 commands, and comes back; in some
 * round what it missed is in nobody's log any more, and a snapshot brings it. */
static void snapshot_rounds(const char *name, enum victim_fate fate, bool unreliable)
{
    struct raft_cluster *c = cluster_of(name, unreliable);
    bool installed = false;
    size_t leader;

    raft_cluster_agree_u64(c, 1, 3, true);
    leader = raft_cluster_check_leader(c);
    for (int i = 0; i < 30; i++) {
        size_t victim = i % 3 == 1 ? leader : (leader + 1) % 3;
        size_t sender = i % 3 == 1 ? (leader + 1) % 3 : leader;

        if (fate == CUT) {
            raft_cluster_disconnect(c, victim);
        } else if (fate == CRASH) {
            raft_cluster_crash(c, victim);
        }
        if (fate != NOTHING) {
            raft_cluster_agree_u64(c, draw(c, UINT64_MAX), 2, true);
        }
        submit_some(c, sender);
        raft_cluster_agree_u64(c, draw(c, UINT64_MAX), fate == NOTHING ? 3 : 2, true);
        assert_true(raft_cluster_max_log_bytes(c) < MAX_LOG_BYTES);
        if (fate != NOTHING) {
            raft_cluster_revive(c, victim);
            raft_cluster_agree_u64(c, draw(c, UINT64_MAX), 3, true);
            installed |= raft_cluster_snapshots_installed(c, victim) > 0;
            leader = raft_cluster_check_leader(c);
        }
    }
    assert_true(installed || fate == NOTHING);
    raft_cluster_destroy(&c);
}

static void snapshot_basic(void **state)
{
    (void)state;
    snapshot_rounds("SnapshotBasic", NOTHING, false);
}

static void snapshot_install(void **state)
{
    (void)state;
    snapshot_rounds("SnapshotInstall", CUT, false);
}

static void snapshot_install_unreliable(void **state)
{
    (void)state;
    snapshot_rounds("SnapshotInstallUnreliable", CUT, true);
}

static void snapshot_install_crash(void **state)
{
    (void)state;
    snapshot_rounds("SnapshotInstallCrash", CRASH, false);
}

static void snapshot_install_unreliable_crash(void **state)
{
    (void)state;
    snapshot_rounds("SnapshotInstallUnCrash", CRASH, true);
}

static void restart_all(struct raft_cluster *c)
{
    for (size_t i = 0; i < 3; i++) {
        raft_cluster_crash(c, i);
    }
    for (size_t i = 0; i < 3; i++) {
        raft_cluster_revive(c, i);
    }
}

static void snapshot_all_crash(void **state)
{
    struct raft_cluster *c = cluster_of("SnapshotAllCrash", false);

    (void)state;
    raft_cluster_agree_u64(c, 1, 3, true);
    for (int round = 0; round < 5; round++) {
        uint64_t n = 5 + draw(c, 10), before;
        for (uint64_t i = 0; i < n; i++) {
            raft_cluster_agree_u64(c, draw(c, UINT64_MAX), 3, true);
        }
        before = raft_cluster_agree_u64(c, draw(c, UINT64_MAX), 3, true);
        restart_all(c);
        assert_true(raft_cluster_agree_u64(c, draw(c, UINT64_MAX), 3, true) >= before + 1);
    }
    raft_cluster_destroy(&c);
}

static void snapshot_init(void **state)
{
    struct raft_cluster *c = cluster_of("SnapshotInit", false);

    (void)state;
    for (int i = 0; i < 12; i++) {
        raft_cluster_agree_u64(c, draw(c, UINT64_MAX), 3, true);
    }
    for (size_t i = 0; i < 3; i++) { /* each restarts from a snapshot */
        assert_true(world_state_bytes(raft_cluster_world(c), i) > 0);
    }
    restart_all(c);
    raft_cluster_agree_u64(c, draw(c, UINT64_MAX), 3, true);
    restart_all(c);
    raft_cluster_agree_u64(c, draw(c, UINT64_MAX), 3, true);
    raft_cluster_destroy(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(snapshot_basic),
        cmocka_unit_test(snapshot_install),
        cmocka_unit_test(snapshot_install_unreliable),
        cmocka_unit_test(snapshot_install_crash),
        cmocka_unit_test(snapshot_install_unreliable_crash),
        cmocka_unit_test(snapshot_all_crash),
        cmocka_unit_test(snapshot_init),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
