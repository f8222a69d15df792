/* Unit tests of a group in trouble: failing disks, full disks, stopping, and a storm of faults. */
#include "raft/rsm/codec.h"
#include "raft/util/mem.h"
#include "raft/util/rng.h"
#include "tests/unit/rsm_story.h"

/* ---- Failures ---- */

/* Runs into a halted replica and checks that it is silent from then on (the bench asserts that it
 * sends nothing) and answers everything. */
static void assert_halted(struct bench *bench, raft_id id, enum status status)
{
    struct bench_replica *replica = bench_replica(bench, id);
    uint32_t sent = replica->sent;
    struct bench_call proposal, read;

    assert_true(replica->halted);
    assert_int_equal(replica->halt_status, status);
    bench_run(bench, 2000);
    assert_int_equal(replica->sent, sent);
    bench_propose(bench, id, "inc", &proposal);
    bench_read(bench, id, &read);
    assert_int_equal(proposal.status, ST_SHUTDOWN);
    assert_int_equal(read.status, ST_SHUTDOWN);
    assert_false(group_is_leader(replica->group));
    assert_true(group_next_deadline_ms(replica->group) == UINT64_MAX);
}

static void a_failed_log_write_halts(void **state)
{
    struct bench *bench = checkpointing(3, 11, 100000);
    raft_id leader = bench_leader(bench);
    struct bench_call call;

    (void)state;
    bench_replica(bench, bench_other(bench, leader))->cut = true;
    mem_log_fail(bench_replica(bench, leader)->log, ST_IO);
    bench_propose(bench, leader, "inc", &call);
    assert_true(bench_run_until_ended(bench, &call, 100));
    assert_int_equal(call.status, ST_UNKNOWN); /* it may be on its way */
    assert_halted(bench, leader, ST_IO);
    bench_replica(bench, bench_other(bench, leader))->cut = false;
    bench_run(bench, 3000);
    assert_true(bench_leader(bench) != leader);
    bench_destroy(&bench);
}

static void a_failed_checkpoint_halts(void **state)
{
    struct bench *bench = checkpointing(1, 12, 1);
    struct bench_call call;

    (void)state;
    mem_state_fail(bench_replica(bench, 1)->state, MEM_STATE_FAIL_CHECKPOINT, ST_IO, 1);
    bench_propose(bench, 1, "inc", &call);
    bench_run(bench, 5);
    assert_halted(bench, 1, ST_IO);
    bench_destroy(&bench);
}

static void an_unreadable_state_halts(void **state)
{
    struct bench *bench = checkpointing(1, 13, 100000);
    struct bench_call call;

    (void)state;
    bench_propose(bench, 1, "inc", &call);
    mem_state_fail(bench_replica(bench, 1)->state, MEM_STATE_FAIL_GET, ST_CORRUPT, 1);
    assert_true(bench_run_until_ended(bench, &call, 100));
    assert_int_equal(call.status, ST_UNKNOWN);
    assert_halted(bench, 1, ST_CORRUPT);
    bench_destroy(&bench);
}

static void a_command_the_service_does_not_know_halts_and_is_not_skipped(void **state)
{
    struct bench *bench = checkpointing(3, 14, 100000);
    raft_id leader = bench_leader(bench);
    raft_index before = group_applied_index(bench_replica(bench, leader)->group);
    struct bench_call call;

    (void)state;
    bench_propose(bench, leader, "bad", &call);
    assert_true(bench_run_until_ended(bench, &call, 100));
    assert_int_equal(call.status, ST_UNKNOWN);
    assert_true(group_applied_index(bench_replica(bench, leader)->group) == before);
    assert_halted(bench, leader, ST_VERSION);
    bench_destroy(&bench);
}

static void an_entry_of_an_unknown_format_halts(void **state)
{
    struct bench *bench = bench_create(1, 15);
    struct mem_log *log = bench_replica(bench, 1)->log;
    struct raft_entry entries[2] = {{.index = 1, .term = 1, .type = RAFT_ENTRY_CONFIGURATION},
                                    {.index = 2, .term = 1, .type = RAFT_ENTRY_COMMAND}};
    struct io_log_write write = {.group = GROUP,
                                 .token = 1,
                                 .has_hard_state = true,
                                 .hard_state = {.term = 1},
                                 .entries = entries,
                                 .n_entries = 2};
    struct buf bytes = {0};
    struct io_event event;

    (void)state;
    raft_configuration_encode(&bench_options(bench)->bootstrap, &bytes);
    entries[0].data = blob_create(buf_slice(&bytes));
    entries[1].data = blob_create(slice_text("\7 an entry of the far future, long enough"));
    mem_log_io(log)->ops->write(mem_log_io(log), &write);
    assert_true(mem_log_sync(log) && mem_log_take(log, &event));
    blob_unref(&entries[0].data);
    blob_unref(&entries[1].data);
    bench_start(bench, 1);
    bench_run(bench, 2000);
    assert_halted(bench, 1, ST_VERSION);
    buf_fini(&bytes);
    bench_destroy(&bench);
}

/* ---- A full disk ---- */

static void disk_space(struct bench *bench, raft_id id, bool low)
{
    struct io_event event = {.type = IO_EVENT_DISK_SPACE};

    event.disk.low = low;
    bench_event(bench, id, &event);
}

static void a_checkpoint_without_space_makes_read_only_and_is_tried_again(void **state)
{
    struct bench *bench = checkpointing(1, 16, 1);
    struct group *group = bench_replica(bench, 1)->group;
    struct bench_call call, read;

    (void)state;
    mem_state_fail(bench_replica(bench, 1)->state, MEM_STATE_FAIL_CHECKPOINT, ST_NO_SPACE, 2);
    bench_inc(bench);
    bench_run(bench, 5);
    assert_true(group_is_read_only(group));
    bench_propose(bench, 1, "inc", &call);
    assert_int_equal(call.status, ST_READ_ONLY);
    bench_read(bench, 1, &read); /* reads go on */
    assert_true(bench_run_until_ended(bench, &read, 100));
    assert_int_equal(read.status, ST_OK);
    bench_run(bench, 5000);
    assert_false(group_is_read_only(group));
    assert_int_equal(bench_inc(bench), 2);
    bench_destroy(&bench);
}

static void a_leader_short_of_space_gives_leadership_up(void **state)
{
    struct bench *bench = checkpointing(3, 17, 100000);
    raft_id full = bench_leader(bench);
    struct bench_call call;

    (void)state;
    disk_space(bench, full, true);
    bench_propose(bench, full, "inc", &call);
    assert_int_equal(call.status, ST_READ_ONLY);
    bench_run(bench, 100); /* well below an election timeout: handed over, not timed out */
    assert_true(bench_leader(bench) != full);
    assert_int_equal(bench_inc(bench), 1);
    bench_converge(bench); /* it still follows */
    disk_space(bench, full, false);
    assert_false(group_is_read_only(bench_replica(bench, full)->group));
    bench_destroy(&bench);
}

static void when_all_are_short_of_space_leadership_does_not_go_in_circles(void **state)
{
    struct bench *bench = checkpointing(3, 18, 100000);
    struct bench_call read;
    raft_term before, after;

    (void)state;
    before = raft_current_term(group_raft(bench_replica(bench, 1)->group));
    for (raft_id id = 1; id <= 3; id++) {
        disk_space(bench, id, true);
    }
    bench_run(bench, 10000);
    after = raft_current_term(group_raft(bench_replica(bench, 1)->group));
    assert_true(after - before < 12);
    for (int i = 0; i < 10 && (i == 0 || read.status != ST_OK); i++) {
        bench_read(bench, bench_leader(bench), &read);
        assert_true(bench_run_until_ended(bench, &read, 1000));
    }
    assert_int_equal(read.status, ST_OK);
    bench_destroy(&bench);
}

/* Two of three are full. Neither knows of the other; the third must get its turn. */
static void leadership_finds_the_one_that_has_room(void **state)
{
    (void)state;
    for (raft_id room = 1; room <= 3; room++) {
        struct bench *bench = checkpointing(3, 40 + room, 100000);

        for (raft_id id = 1; id <= 3; id++) {
            disk_space(bench, id, id != room);
        }
        bench_run(bench, 1000);
        assert_int_equal(bench_leader(bench), room);
        assert_int_equal(bench_inc(bench), 1);
        bench_destroy(&bench);
    }
}

/* Applying stops when much is dirty and the checkpoint takes long. When that then finds no space,
 * no more is taken, and what is committed is applied: who waits for it, and reads, must not hang.
 */
static void a_leader_without_space_applies_what_is_committed(void **state)
{
    struct bench *bench = bench_create(1, 21);
    struct bench_replica *replica = bench_replica(bench, 1);
    struct bench_call calls[6], read;

    (void)state;
    bench_options(bench)->checkpoint_dirty_bytes = 1;
    bench_options(bench)->max_dirty_bytes = 2; /* full from the first write on */
    bench_start_all(bench);
    bench_leader(bench);
    mem_state_fail(replica->state, MEM_STATE_FAIL_CHECKPOINT, ST_NO_SPACE, UINT32_MAX);
    replica->hold_state = true;
    for (int i = 0; i < 6; i++) {
        bench_propose(bench, 1, "inc", &calls[i]);
        bench_run(bench, 5);
    }
    assert_true(group_applied_index(replica->group) <
                raft_commit_index(group_raft(replica->group)));
    replica->hold_state = false;
    for (int i = 0; i < 6; i++) {
        assert_true(bench_run_until_ended(bench, &calls[i], 1000));
        assert_int_equal(calls[i].status, ST_OK);
    }
    assert_true(group_is_read_only(replica->group));
    bench_read(bench, 1, &read);
    assert_true(bench_run_until_ended(bench, &read, 100));
    assert_int_equal(read.status, ST_OK);
    bench_destroy(&bench);
}

/* ---- Stopping ---- */

static void stopping_hands_over_and_refuses(void **state)
{
    struct bench *bench = checkpointing(3, 19, 100000);
    raft_id old = bench_leader(bench);
    struct io_event stop = {.type = IO_EVENT_STOP};
    struct bench_call gathered, later, read;

    (void)state;
    bench_propose(bench, old, "inc", &gathered);
    bench_event(bench, old, &stop);
    assert_int_equal(gathered.status, ST_SHUTDOWN);
    bench_propose(bench, old, "inc", &later);
    bench_read(bench, old, &read);
    assert_int_equal(later.status, ST_SHUTDOWN);
    assert_int_equal(read.status, ST_SHUTDOWN);
    bench_run(bench, 100);
    assert_false(group_is_leader(bench_replica(bench, old)->group));
    assert_true(bench_leader(bench) != old);
    assert_int_equal(bench_inc(bench), 1);
    bench_destroy(&bench);
}

/* Nobody has answered it yet, so it does not know to whom: it hands over as soon as it does. */
static void a_leader_just_elected_hands_over_too(void **state)
{
    struct bench *bench = bench_create(3, 22);
    struct io_event stop = {.type = IO_EVENT_STOP};
    raft_id old = 0;

    (void)state;
    bench_start_all(bench);
    for (int ms = 0; ms < 5000 && old == 0; ms++) {
        bench_turn(bench);
        for (raft_id id = 1; id <= 3; id++) {
            old = raft_role(group_raft(bench_replica(bench, id)->group)) == RAFT_LEADER ? id : old;
        }
    }
    assert_true(old != 0);
    bench_event(bench, old, &stop);
    bench_run(bench, 150); /* below an election timeout */
    assert_true(raft_role(group_raft(bench_replica(bench, old)->group)) != RAFT_LEADER);
    assert_true(bench_leader(bench) != old);
    bench_destroy(&bench);
}

/* ---- Everything at once ---- */

#define STORM_CALLS 2000
#define STORM_READS 500

struct storm {
    struct bench *bench;
    raft_id n; /* replicas */
    struct rng rng;
    struct bench_call calls[STORM_CALLS];
    size_t n_calls;
    struct bench_call reads[STORM_READS];
    int64_t acked_before[STORM_READS]; /* increments acknowledged before the read was asked for */
    size_t n_reads;
};

static int64_t storm_acked(const struct storm *storm)
{
    int64_t acked = 0;

    for (size_t i = 0; i < storm->n_calls; i++) {
        acked += storm->calls[i].ended == 1 && storm->calls[i].status == ST_OK;
    }
    return acked;
}

static void storm_call(struct storm *storm)
{
    raft_id id = 1 + (raft_id)rng_below(&storm->rng, storm->n);

    if (bench_replica(storm->bench, id)->group == NULL) {
        return;
    }
    if (rng_below(&storm->rng, 3) > 0 && storm->n_calls < STORM_CALLS) {
        bench_propose(storm->bench, id, "inc", &storm->calls[storm->n_calls++]);
    } else if (storm->n_reads < STORM_READS) {
        storm->acked_before[storm->n_reads] = storm_acked(storm);
        bench_read(storm->bench, id, &storm->reads[storm->n_reads++]);
    }
}

static void storm_fault(struct storm *storm)
{
    raft_id id = 1 + (raft_id)rng_below(&storm->rng, storm->n);
    struct bench_replica *replica = bench_replica(storm->bench, id);

    if (replica->group == NULL) {
        bench_start(storm->bench, id);
        return;
    }
    switch (rng_below(&storm->rng, 8)) {
    case 0:
        bench_crash(storm->bench, id, (size_t)rng_below(&storm->rng, 4));
        break;
    case 1:
        replica->cut = !replica->cut;
        break;
    case 2:
        replica->deaf = !replica->deaf;
        break;
    case 3:
        replica->hold_log = !replica->hold_log;
        break;
    case 4:
        replica->hold_state = !replica->hold_state;
        break;
    case 5:
        mem_state_fail(replica->state,
                       rng_below(&storm->rng, 2) == 0 ? MEM_STATE_FAIL_INSTALL
                                                      : MEM_STATE_FAIL_INSTALL_WRITE,
                       ST_NO_SPACE, 1);
        break;
    case 6:
        mem_state_fail(replica->state, MEM_STATE_FAIL_CHECKPOINT, ST_NO_SPACE, 1);
        mem_state_fail(replica->state, MEM_STATE_FAIL_SNAPSHOT_READ, ST_BUSY, 1);
        break;
    default:
        replica->skew_us = (int64_t)rng_below(&storm->rng, 1000000) - 500000;
        break;
    }
}

static void storm_calm(struct storm *storm)
{
    for (raft_id id = 1; id <= storm->n; id++) {
        struct bench_replica *replica = bench_replica(storm->bench, id);
        replica->cut = replica->deaf = replica->hold_log = replica->hold_state = false;
    }
    bench_start_all(storm->bench);
}

static void storm_run(uint64_t seed, uint64_t *applied, uint64_t *unknown, uint64_t *snapshots)
{
    struct storm *storm = mem_zalloc(sizeof(*storm));
    int64_t ok, maybe = 0, last;

    rng_init(&storm->rng, seed);
    storm->n = (raft_id)(1 + 2 * (seed % 3));
    storm->bench = bench_create(storm->n, seed);
    bench_options(storm->bench)->checkpoint_log_bytes = 1 + rng_below(&storm->rng, 2000);
    bench_options(storm->bench)->log_keep_bytes = rng_below(&storm->rng, 2000);
    bench_options(storm->bench)->snapshot_chunk_bytes = 20;
    bench_start_all(storm->bench);
    for (int step = 0; step < 1500; step++) {
        storm_call(storm);
        if (rng_below(&storm->rng, 25) == 0) {
            storm_fault(storm);
        }
        bench_run(storm->bench, rng_below(&storm->rng, 20));
    }
    storm_calm(storm);
    bench_converge(storm->bench);
    last = bench_inc(storm->bench);
    bench_converge(storm->bench);
    for (size_t i = 0; i < storm->n_calls; i++) {
        assert_int_equal(storm->calls[i].ended, 1); /* nobody waits for ever */
        maybe += storm->calls[i].status == ST_UNKNOWN;
    }
    for (size_t i = 0; i < storm->n_reads; i++) { /* no read is stale */
        assert_int_equal(storm->reads[i].ended, 1);
        assert_true(storm->reads[i].status != ST_OK ||
                    storm->reads[i].value >= storm->acked_before[i]);
    }
    /* Nothing acknowledged is lost, nothing refused was applied. */
    ok = storm_acked(storm);
    assert_true(last - 1 >= ok && last - 1 <= ok + maybe);
    for (raft_id id = 1; id <= storm->n; id++) {
        *snapshots += stats(storm->bench, id)->snapshots_installed;
    }
    *applied += (uint64_t)ok;
    *unknown += (uint64_t)maybe;
    bench_destroy(&storm->bench);
    mem_free(storm);
}

static void crashes_partitions_and_slow_disks_lose_and_double_nothing(void **state)
{
    uint64_t applied = 0, unknown = 0, snapshots = 0;

    (void)state;
    for (uint64_t seed = 1; seed <= 60; seed++) {
        storm_run(seed, &applied, &unknown, &snapshots);
    }
    assert_true(applied > 2000 && unknown > 20 && snapshots > 5);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_failed_log_write_halts),
        cmocka_unit_test(a_failed_checkpoint_halts),
        cmocka_unit_test(an_unreadable_state_halts),
        cmocka_unit_test(a_command_the_service_does_not_know_halts_and_is_not_skipped),
        cmocka_unit_test(an_entry_of_an_unknown_format_halts),
        cmocka_unit_test(a_checkpoint_without_space_makes_read_only_and_is_tried_again),
        cmocka_unit_test(a_leader_short_of_space_gives_leadership_up),
        cmocka_unit_test(when_all_are_short_of_space_leadership_does_not_go_in_circles),
        cmocka_unit_test(leadership_finds_the_one_that_has_room),
        cmocka_unit_test(a_leader_without_space_applies_what_is_committed),
        cmocka_unit_test(stopping_hands_over_and_refuses),
        cmocka_unit_test(a_leader_just_elected_hands_over_too),
        cmocka_unit_test(crashes_partitions_and_slow_disks_lose_and_double_nothing),
    };

    return cmocka_run_group_tests_name("rsm_failure", tests, NULL, NULL);
}
