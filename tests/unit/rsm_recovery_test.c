/* Unit tests of what a group does with its disk: checkpoints, compaction, restarts, log and state
 * that a crash left apart, failures, a full disk, stopping. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka needs the four above first */
#include <cmocka.h>

#include "raft/rsm/codec.h"
#include "raft/util/mem.h"
#include "raft/util/rng.h"
#include "tests/sim/rsm_bench.h"

#define GROUP 5 /* of the bench */

static struct bench *checkpointing(size_t n, uint64_t seed, uint64_t log_bytes)
{
    struct bench *bench = bench_create(n, seed);

    bench_options(bench)->checkpoint_log_bytes = log_bytes;
    bench_options(bench)->log_keep_bytes = 0;
    bench_start_all(bench);
    bench_leader(bench);
    return bench;
}

static const struct group_stats *stats(struct bench *bench, raft_id id)
{
    return group_statistics(bench_replica(bench, id)->group);
}

/* ---- Checkpoints and compaction ---- */

static void a_checkpoint_lets_the_log_go(void **state)
{
    struct bench *bench = checkpointing(1, 1, 1000);
    const struct raft *raft = group_raft(bench_replica(bench, 1)->group);
    struct io_log *log = mem_log_io(bench_replica(bench, 1)->log);

    (void)state;
    for (int64_t i = 1; i <= 100; i++) {
        assert_int_equal(bench_inc(bench), i);
        assert_true(raft_log_bytes(raft) < 3000);
        assert_true(log->ops->bytes(log) < 3000);
    }
    assert_true(stats(bench, 1)->checkpoints > 5);
    assert_true(stats(bench, 1)->checkpoint_index > 80);
    assert_true(raft_first_index(raft) <= stats(bench, 1)->checkpoint_index + 1);
    bench_destroy(&bench);
}

static void some_log_is_kept_behind_a_checkpoint(void **state)
{
    struct bench *bench = bench_create(1, 2);
    const struct raft *raft;

    (void)state;
    bench_options(bench)->checkpoint_log_bytes = 1000;
    bench_options(bench)->log_keep_bytes = 5000;
    bench_start_all(bench);
    for (int64_t i = 1; i <= 200; i++) {
        bench_inc(bench);
    }
    raft = group_raft(bench_replica(bench, 1)->group);
    assert_true(raft_log_bytes(raft) >= 5000 && raft_log_bytes(raft) < 8000);
    assert_true(raft_first_index(raft) > 1);
    bench_destroy(&bench);
}

static void dirty_bytes_cause_a_checkpoint_too(void **state)
{
    struct bench *bench = bench_create(1, 3);

    (void)state;
    bench_options(bench)->checkpoint_dirty_bytes = 100;
    bench_start_all(bench);
    for (int64_t i = 1; i <= 50; i++) {
        bench_inc(bench);
    }
    assert_true(stats(bench, 1)->checkpoints >= 5);
    bench_destroy(&bench);
}

static void only_one_checkpoint_runs_at_a_time(void **state)
{
    struct bench *bench = checkpointing(1, 4, 1);

    (void)state;
    bench_run(bench, 5);
    bench_replica(bench, 1)->hold_state = true;
    for (int64_t i = 1; i <= 20; i++) {
        assert_int_equal(bench_inc(bench), i); /* applying goes on meanwhile */
        assert_int_equal(mem_state_n_work(bench_replica(bench, 1)->state), 1);
    }
    bench_replica(bench, 1)->hold_state = false;
    bench_run(bench, 5);
    assert_true(stats(bench, 1)->checkpoint_index ==
                group_applied_index(bench_replica(bench, 1)->group));
    bench_destroy(&bench);
}

/* ---- Restarts ---- */

/* Half of the increments are in the checkpoint, the others are replayed; none twice. */
static void a_restart_replays_what_the_checkpoint_lacks(void **state)
{
    struct bench *bench = checkpointing(1, 5, 100000);
    struct bench_replica *replica = bench_replica(bench, 1);
    struct bench_call call;

    (void)state;
    for (int64_t i = 1; i <= 50; i++) {
        bench_inc(bench);
    }
    bench_propose(bench, 1, "pad 200000", &call);
    assert_true(bench_run_until_ended(bench, &call, 100));
    bench_run(bench, 10);
    assert_int_equal(stats(bench, 1)->checkpoints, 1);
    for (int64_t i = 51; i <= 100; i++) {
        bench_inc(bench);
    }
    bench_crash(bench, 1, 0);
    assert_int_equal(bench_counter(bench, 1), 50);
    bench_start(bench, 1);
    assert_int_equal(replica->restores, 2);
    assert_int_equal(bench_inc(bench), 101);
    assert_int_equal(stats(bench, 1)->entries_applied, 52); /* 50, a no-op, and the new one */
    bench_destroy(&bench);
}

static void what_did_not_reach_the_disk_is_gone(void **state)
{
    struct bench *bench = checkpointing(1, 6, 100000);
    struct bench_call first, second, third;

    (void)state;
    bench_replica(bench, 1)->hold_log = true;
    bench_propose(bench, 1, "inc", &first);
    bench_turn(bench);
    bench_propose(bench, 1, "inc", &second);
    bench_turn(bench);
    bench_propose(bench, 1, "inc", &third);
    bench_turn(bench);
    bench_crash(bench, 1, 2); /* the third write was lost */
    assert_int_equal(third.status, ST_UNKNOWN);
    bench_replica(bench, 1)->hold_log = false;
    bench_start(bench, 1);
    assert_int_equal(bench_inc(bench), 3);
    bench_destroy(&bench);
}

/* ---- Log and state apart ---- */

static void set_extra(struct bench *bench, uint64_t stamp, struct buf *bytes)
{
    struct rsm_extra extra = {.stamp = stamp, .configuration = bench_options(bench)->bootstrap};

    rsm_extra_encode(&extra, bytes);
}

/* Makes the durable state of a replica that is down stand at (index, term) with that counter. */
static void set_state(struct bench *bench, raft_id id, raft_index index, raft_term term,
                      int64_t counter, struct slice extra)
{
    struct io_state *io = mem_state_io(bench_replica(bench, id)->state);
    struct io_checkpoint checkpoint = {.index = index, .term = term, .extra = extra};
    struct io_event event;
    uint8_t bytes[8];

    set_u64(bytes, (uint64_t)counter);
    io->ops->put(io, (struct io_key){0, 1, slice_text("counter")}, slice_of(bytes, 8));
    io->ops->checkpoint(io, &checkpoint);
    assert_true(mem_state_work(bench_replica(bench, id)->state));
    assert_true(mem_state_take(bench_replica(bench, id)->state, &event));
}

/* The crash hit between the switch to an installed snapshot and the log's reset. */
static void a_state_ahead_of_the_log_begins_the_log_anew(void **state)
{
    struct bench *bench = checkpointing(3, 7, 100000);
    struct buf extra = {0};
    struct io_log_content content;
    raft_id victim;
    raft_index index;

    (void)state;
    victim = bench_other(bench, bench_leader(bench));
    bench_inc(bench);
    bench_crash(bench, victim, 0);
    for (int64_t i = 2; i <= 20; i++) {
        bench_inc(bench);
    }
    /* The others' state as a snapshot would have brought it. */
    bench_converge(bench);
    index = group_applied_index(bench_replica(bench, bench_leader(bench))->group);
    set_extra(bench, group_last_stamp(bench_replica(bench, bench_leader(bench))->group), &extra);
    set_state(bench, victim, index,
              raft_term_at(group_raft(bench_replica(bench, bench_leader(bench))->group), index), 20,
              buf_slice(&extra));
    bench_start(bench, victim);
    assert_true(group_applied_index(bench_replica(bench, victim)->group) == index);
    assert_true(raft_first_index(group_raft(bench_replica(bench, victim)->group)) == index + 1);
    for (int64_t i = 21; i <= 30; i++) {
        assert_int_equal(bench_inc(bench), i);
    }
    bench_converge(bench);
    assert_int_equal(bench_counter(bench, victim), 30);
    /* The log on disk begins there, too. */
    mem_log_content(bench_replica(bench, victim)->log, GROUP, &content);
    assert_true(content.begin_index == index);
    for (size_t i = 0; i < content.n_entries; i++) {
        blob_unref(&content.entries[i].data);
    }
    mem_free(content.entries);
    buf_fini(&extra);
    bench_destroy(&bench);
}

/* The log goes on beyond the state's index, but with another history: it is void. */
static void a_state_of_another_term_voids_the_log(void **state)
{
    struct bench *bench = checkpointing(1, 8, 100000);
    struct buf extra = {0};

    (void)state;
    for (int64_t i = 1; i <= 10; i++) {
        bench_inc(bench);
    }
    bench_crash(bench, 1, 0);
    set_extra(bench, UINT32_MAX, &extra);
    set_state(bench, 1, 5, 77, 1000, buf_slice(&extra));
    bench_forget_history(bench);
    bench_start(bench, 1);
    assert_int_equal(bench_inc(bench), 1001);
    assert_true(raft_current_term(group_raft(bench_replica(bench, 1)->group)) > 77);
    /* Not even a crash before the reset was durable brings the old entries back. */
    bench_crash(bench, 1, 0);
    bench_start(bench, 1);
    assert_int_equal(bench_inc(bench), 1002);
    buf_fini(&extra);
    bench_destroy(&bench);
}

static void a_state_behind_the_log_is_damage(void **state)
{
    struct bench *bench = checkpointing(1, 9, 500);
    struct bench_replica *replica = bench_replica(bench, 1);
    struct mem_state *empty = mem_state_create(GROUP), *whole = replica->state;

    (void)state;
    for (int64_t i = 1; i <= 50; i++) {
        bench_inc(bench);
    }
    bench_crash(bench, 1, 0);
    replica->state = empty; /* somebody lost the database */
    assert_int_equal(bench_try_start(bench, 1), ST_CORRUPT);
    assert_null(replica->group);
    replica->state = whole;
    bench_start(bench, 1);
    assert_int_equal(bench_inc(bench), 51);
    mem_state_destroy(&empty);
    bench_destroy(&bench);
}

static void damaged_extra_bytes_are_noticed(void **state)
{
    struct bench *bench = checkpointing(1, 10, 100000);
    struct buf extra = {0};

    (void)state;
    bench_inc(bench);
    bench_crash(bench, 1, 0);
    set_extra(bench, 100, &extra);
    for (size_t len = 0; len < extra.len; len++) {
        set_state(bench, 1, 5, 77, 1000, slice_of(extra.data, len));
        assert_int_equal(bench_try_start(bench, 1), ST_CORRUPT);
    }
    extra.data[0] = 9;
    set_state(bench, 1, 5, 77, 1000, buf_slice(&extra));
    assert_int_equal(bench_try_start(bench, 1), ST_VERSION);
    buf_fini(&extra);
    bench_destroy(&bench);
}

static void entry_headers_are_checked(void **state)
{
    struct rsm_entry_header header = {.stamp = 7, .trace_id = 8}, back;
    uint8_t bytes[RSM_ENTRY_HEADER_BYTES + 3] = {0};
    struct slice command;

    (void)state;
    rsm_entry_header_write(&header, bytes);
    assert_int_equal(rsm_entry_header_read(slice_of(bytes, sizeof(bytes)), &back, &command), ST_OK);
    assert_true(back.stamp == 7 && back.trace_id == 8 && command.len == 3);
    for (size_t len = 0; len < RSM_ENTRY_HEADER_BYTES; len++) {
        assert_int_equal(rsm_entry_header_read(slice_of(bytes, len), &back, &command), ST_CORRUPT);
    }
    for (size_t i = 0; i < 4; i++) { /* format, flags, kind */
        bytes[i] ^= 2;
        assert_int_equal(rsm_entry_header_read(slice_of(bytes, sizeof(bytes)), &back, &command),
                         ST_VERSION);
        bytes[i] ^= 2;
    }
}

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

/* ---- Everything at once ---- */

struct storm {
    struct bench *bench;
    struct rng rng;
    struct bench_call calls[2000];
    size_t n_calls;
};

static void storm_fault(struct storm *storm)
{
    raft_id id = 1 + (raft_id)rng_below(&storm->rng, 3);
    struct bench_replica *replica = bench_replica(storm->bench, id);

    if (replica->group == NULL) {
        bench_start(storm->bench, id);
        return;
    }
    switch (rng_below(&storm->rng, 6)) {
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
    default:
        replica->skew_us = (int64_t)rng_below(&storm->rng, 1000000) - 500000;
        break;
    }
}

static void storm_calm(struct storm *storm)
{
    for (raft_id id = 1; id <= 3; id++) {
        struct bench_replica *replica = bench_replica(storm->bench, id);
        replica->cut = replica->deaf = replica->hold_log = replica->hold_state = false;
    }
    bench_start_all(storm->bench);
}

static void storm_run(uint64_t seed, uint64_t *applied, uint64_t *unknown, uint64_t *snapshots)
{
    struct storm *storm = mem_zalloc(sizeof(*storm));
    int64_t ok = 0, maybe = 0, last;

    rng_init(&storm->rng, seed);
    storm->bench = bench_create(3, seed);
    bench_options(storm->bench)->checkpoint_log_bytes = 1 + rng_below(&storm->rng, 2000);
    bench_options(storm->bench)->log_keep_bytes = rng_below(&storm->rng, 2000);
    bench_options(storm->bench)->snapshot_chunk_bytes = 20;
    bench_start_all(storm->bench);
    for (int step = 0; step < 1500; step++) {
        raft_id id = 1 + (raft_id)rng_below(&storm->rng, 3);
        if (bench_replica(storm->bench, id)->group != NULL && storm->n_calls < 2000) {
            bench_propose(storm->bench, id, "inc", &storm->calls[storm->n_calls++]);
        }
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
        ok += storm->calls[i].status == ST_OK;
        maybe += storm->calls[i].status == ST_UNKNOWN;
    }
    /* Nothing acknowledged is lost, nothing refused was applied. */
    assert_true(last - 1 >= ok && last - 1 <= ok + maybe);
    for (raft_id id = 1; id <= 3; id++) {
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
    for (uint64_t seed = 1; seed <= 40; seed++) {
        storm_run(seed, &applied, &unknown, &snapshots);
    }
    assert_true(applied > 2000 && unknown > 20 && snapshots > 10);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_checkpoint_lets_the_log_go),
        cmocka_unit_test(some_log_is_kept_behind_a_checkpoint),
        cmocka_unit_test(dirty_bytes_cause_a_checkpoint_too),
        cmocka_unit_test(only_one_checkpoint_runs_at_a_time),
        cmocka_unit_test(a_restart_replays_what_the_checkpoint_lacks),
        cmocka_unit_test(what_did_not_reach_the_disk_is_gone),
        cmocka_unit_test(a_state_ahead_of_the_log_begins_the_log_anew),
        cmocka_unit_test(a_state_of_another_term_voids_the_log),
        cmocka_unit_test(a_state_behind_the_log_is_damage),
        cmocka_unit_test(damaged_extra_bytes_are_noticed),
        cmocka_unit_test(entry_headers_are_checked),
        cmocka_unit_test(a_failed_log_write_halts),
        cmocka_unit_test(a_failed_checkpoint_halts),
        cmocka_unit_test(an_unreadable_state_halts),
        cmocka_unit_test(a_command_the_service_does_not_know_halts_and_is_not_skipped),
        cmocka_unit_test(an_entry_of_an_unknown_format_halts),
        cmocka_unit_test(a_checkpoint_without_space_makes_read_only_and_is_tried_again),
        cmocka_unit_test(a_leader_short_of_space_gives_leadership_up),
        cmocka_unit_test(when_all_are_short_of_space_leadership_does_not_go_in_circles),
        cmocka_unit_test(stopping_hands_over_and_refuses),
        cmocka_unit_test(crashes_partitions_and_slow_disks_lose_and_double_nothing),
    };

    return cmocka_run_group_tests_name("rsm_recovery", tests, NULL, NULL);
}
