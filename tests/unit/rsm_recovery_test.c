/* Unit tests of what a group does with its disk: checkpoints, compaction, restarts, log and state
 * that a crash left apart. */
#include "raft/rsm/codec.h"
#include "raft/util/mem.h"
#include "raft/util/rng.h"
#include "tests/unit/rsm_story.h"

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

/* They apply the same, but who makes a checkpoint is slow for as long. */
static void replicas_make_checkpoints_at_different_times(void **state)
{
    struct bench *bench = bench_create(3, 4);
    bool was_same = true;

    (void)state;
    bench_options(bench)->checkpoint_dirty_bytes = 2000;
    bench_options(bench)->checkpoint_rest_ms = 1000000;
    bench_start_all(bench);
    for (int64_t i = 1; i <= 1000; i++) {
        bench_inc(bench);
    }
    bench_run(bench, 100);
    for (raft_id id = 1; id <= 3; id++) {
        assert_true(stats(bench, id)->checkpoints >= 3);
        was_same &= stats(bench, id)->checkpoint_index == stats(bench, 1)->checkpoint_index;
    }
    assert_false(was_same);
    bench_destroy(&bench);
}

/* The less is written, the smaller they are: what is dirty after a rest is not worth waiting for
 * more. */
static void checkpoints_are_small_when_there_is_time(void **state)
{
    struct bench *bench = bench_create(1, 4);
    struct io_state *io = mem_state_io(bench_replica(bench, 1)->state);

    (void)state;
    bench_options(bench)->checkpoint_dirty_bytes = 10000;
    bench_options(bench)->checkpoint_rest_ms = 2000;
    bench_start_all(bench);
    bench_leader(bench);
    bench_run(bench, 2000);
    while (stats(bench, 1)->checkpoints == 0) {
        bench_inc(bench);
    }
    assert_true(stats(bench, 1)->checkpoint_index < 500);
    while (io->ops->dirty_bytes(io) < 4000) { /* soon after, that would not do */
        bench_inc(bench);
    }
    assert_int_equal(stats(bench, 1)->checkpoints, 1);
    bench_run(bench, 2000);
    bench_inc(bench);
    bench_run(bench, 10);
    assert_int_equal(stats(bench, 1)->checkpoints, 2);
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

/* While a checkpoint does not end, applying stops before memory is full, and goes on after it. */
static void what_is_dirty_in_memory_is_bounded(void **state)
{
    struct bench *bench = bench_create(1, 20);
    struct io_state *io = mem_state_io(bench_replica(bench, 1)->state);
    struct bench_call calls[100];

    (void)state;
    bench_options(bench)->checkpoint_dirty_bytes = 200;
    bench_options(bench)->max_dirty_bytes = 400;
    bench_start_all(bench);
    bench_leader(bench);
    bench_replica(bench, 1)->hold_state = true;
    for (size_t i = 0; i < 100; i++) {
        bench_propose(bench, 1, "inc", &calls[i]);
        bench_turn(bench);
        assert_true(io->ops->dirty_bytes(io) <= 200 * 2 + 30);
    }
    assert_int_equal(calls[99].ended, 0);
    bench_replica(bench, 1)->hold_state = false;
    assert_true(bench_run_until_ended(bench, &calls[99], 1000));
    assert_string_equal(calls[99].result, "100");
    bench_destroy(&bench);
}

/* ---- Restarts ---- */

/* Fifty increments, and a command that makes the log large enough for a checkpoint of them. */
static void count_to_a_checkpoint(struct bench *bench)
{
    struct bench_call call;

    for (int64_t i = 1; i <= 50; i++) {
        bench_inc(bench);
    }
    bench_propose(bench, 1, "pad 200000", &call);
    assert_true(bench_run_until_ended(bench, &call, 100));
    bench_run(bench, 10);
    assert_int_equal(stats(bench, 1)->checkpoints, 1);
}

/* Half of the increments are in the checkpoint, the others are replayed; none twice. */
static void a_restart_replays_what_the_checkpoint_lacks(void **state)
{
    struct bench *bench = checkpointing(1, 5, 100000);
    struct bench_replica *replica = bench_replica(bench, 1);

    (void)state;
    count_to_a_checkpoint(bench);
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

/* The service keeps its state in memory until a checkpoint begins: each one holds all of it, as of
 * its index, and a start replays what came after. */
static void what_a_service_saves_late_is_in_the_checkpoint(void **state)
{
    struct bench *bench = bench_create(1, 5);
    struct bench_replica *replica = bench_replica(bench, 1);

    (void)state;
    bench_options(bench)->checkpoint_log_bytes = 100000;
    replica->late = true;
    bench_start_all(bench);
    for (int64_t round = 1; round <= 3; round++) {
        count_to_a_checkpoint(bench);
        for (int64_t i = 51; i <= 99; i++) {
            bench_inc(bench);
        }
        bench_crash(bench, 1, 0);
        bench_start(bench, 1);
        assert_int_equal(bench_counter(bench, 1), 100 * round - 50);
        assert_int_equal(bench_inc(bench), 100 * round);
    }
    bench_destroy(&bench);
}

/* What a service saves late can be much: it is saved in parts, and meanwhile commits go on. A
 * checkpoint does not wait for more than 32 of them, and an idle group gets on with it, too. */
static void a_checkpoint_begins_when_the_parts_are_saved(void **state)
{
    struct bench *bench = bench_create(1, 5);
    struct bench_replica *replica = bench_replica(bench, 1);
    raft_index before;
    uint64_t begun_ms;

    (void)state;
    bench_options(bench)->checkpoint_dirty_bytes = 1000;
    bench_start_all(bench);
    replica->parts = 10;
    for (int i = 0; replica->parts_saved == 0; i++) {
        assert_true(i < 200);
        bench_inc(bench);
    }
    before = group_applied_index(replica->group);
    begun_ms = bench_now_ms(bench);
    while (replica->parts > 0) { /* one more with each, at least */
        assert_int_equal(stats(bench, 1)->checkpoints, 0);
        bench_inc(bench);
        assert_true(replica->parts_saved <= 2 + 2 * (bench_now_ms(bench) - begun_ms));
    }
    bench_run(bench, 5);
    assert_int_equal(stats(bench, 1)->checkpoints, 1);
    assert_true(stats(bench, 1)->checkpoint_index > before); /* with what came meanwhile */
    replica->parts = 1000;
    for (int i = 0; replica->parts_saved == 10; i++) {
        assert_true(i < 200);
        bench_inc(bench);
    }
    bench_run(bench, 40);
    assert_int_equal(stats(bench, 1)->checkpoints, 2);
    assert_int_equal(replica->parts_saved, 10 + 32);
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

/* ---- Notes of a checkpoint that a crash lost ---- */

/* Where the log on disk begins, and the checkpoint of which it knows. */
static struct io_log_content log_content(struct bench *bench, raft_id id)
{
    struct io_log_content content;

    mem_log_content(bench_replica(bench, id)->log, GROUP, &content);
    for (size_t i = 0; i < content.n_entries; i++) {
        blob_unref(&content.entries[i].data);
    }
    mem_free(content.entries);
    content.entries = NULL;
    return content;
}

static uint64_t state_checkpoint(struct bench *bench, raft_id id, raft_index *index)
{
    struct io_state_meta meta;

    mem_state_meta(bench_replica(bench, id)->state, &meta);
    buf_fini(&meta.extra);
    *index = meta.index;
    return meta.checkpoint;
}

/* Increments until the first checkpoint is durable, and nothing was written to the log since. */
static void checkpoint_and_crash(struct bench *bench)
{
    while (stats(bench, 1)->checkpoints == 0) {
        bench_inc(bench);
        bench_run(bench, 10);
    }
    bench_crash(bench, 1, 0);
}

static void a_start_compacts_what_a_lost_note_left(void **state)
{
    struct bench *bench = checkpointing(1, 22, 1000);
    raft_index index;
    uint64_t number;
    int64_t counter;

    (void)state;
    checkpoint_and_crash(bench);
    number = state_checkpoint(bench, 1, &index);
    counter = bench_counter(bench, 1);
    assert_true(number > 0 && index > 5);
    assert_true(log_content(bench, 1).begin_index == 0); /* the notes are lost */
    assert_true(log_content(bench, 1).checkpoint == 0);

    /* Memory is free of it at once, and a crash before any write changes nothing. */
    for (int i = 0; i < 2; i++) {
        bench_start(bench, 1);
        assert_true(raft_first_index(group_raft(bench_replica(bench, 1)->group)) == index + 1);
        bench_crash(bench, 1, 0);
        assert_true(log_content(bench, 1).begin_index == 0);
    }
    /* The disk is, with the next write: the vote. */
    bench_start(bench, 1);
    bench_leader(bench);
    assert_true(log_content(bench, 1).begin_index == index);
    assert_true(log_content(bench, 1).checkpoint == number);
    assert_int_equal(stats(bench, 1)->checkpoints, 0);
    assert_int_equal(bench_inc(bench), counter + 1);
    bench_destroy(&bench);
}

/* The log knows again of the checkpoint, so an older state is noticed. */
static void a_start_notes_the_checkpoint_again(void **state)
{
    struct bench *bench = checkpointing(1, 23, 1000);
    struct bench_replica *replica = bench_replica(bench, 1);
    struct mem_state *older = mem_state_create(GROUP), *whole = replica->state;

    (void)state;
    bench_options(bench)->log_keep_bytes = 100000; /* that the log begins later does not tell */
    bench_crash(bench, 1, 0);
    bench_start(bench, 1);
    checkpoint_and_crash(bench);
    bench_start(bench, 1);
    bench_leader(bench);
    assert_true(raft_first_index(group_raft(replica->group)) == 1);
    bench_crash(bench, 1, 0);
    replica->state = older;
    assert_int_equal(bench_try_start(bench, 1), ST_CORRUPT);
    replica->state = whole;
    bench_start(bench, 1);
    mem_state_destroy(&older);
    bench_destroy(&bench);
}

static void a_start_keeps_the_log_that_is_to_be_kept(void **state)
{
    struct bench *bench = bench_create(1, 24);
    const struct raft *raft;

    (void)state;
    bench_options(bench)->checkpoint_log_bytes = 1000;
    bench_options(bench)->log_keep_bytes = 5000;
    bench_start_all(bench);
    for (int64_t i = 1; i <= 200; i++) {
        bench_inc(bench);
    }
    bench_run(bench, 10);
    bench_crash(bench, 1, 0);
    bench_start(bench, 1);
    raft = group_raft(bench_replica(bench, 1)->group);
    assert_true(raft_log_bytes(raft) >= 5000 && raft_log_bytes(raft) < 8000);
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
    bench_run(bench, 3); /* the reset is durable, and nothing else happened since */
    bench_crash(bench, 1, 0);
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

/* The log still begins before it, but says that a later one was durable. */
static void a_state_older_than_a_durable_checkpoint_is_damage(void **state)
{
    struct bench *bench = bench_create(1, 21);
    struct bench_replica *replica = bench_replica(bench, 1);
    struct mem_state *older = mem_state_create(GROUP), *whole = replica->state;
    struct buf extra = {0};
    raft_term term;

    (void)state;
    bench_options(bench)->checkpoint_log_bytes = 500;
    bench_start_all(bench);
    for (int64_t i = 1; i <= 50; i++) {
        bench_inc(bench);
    }
    term = raft_current_term(group_raft(replica->group));
    assert_int_equal(raft_first_index(group_raft(replica->group)), 1);
    bench_crash(bench, 1, 0);
    set_extra(bench, 100, &extra);
    replica->state = older; /* somebody put a copy of it back */
    set_state(bench, 1, 10, term, 8, buf_slice(&extra));
    assert_int_equal(bench_try_start(bench, 1), ST_CORRUPT);
    assert_null(replica->group);
    replica->state = whole;
    bench_start(bench, 1);
    assert_int_equal(bench_inc(bench), 51);
    buf_fini(&extra);
    mem_state_destroy(&older);
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_checkpoint_lets_the_log_go),
        cmocka_unit_test(some_log_is_kept_behind_a_checkpoint),
        cmocka_unit_test(dirty_bytes_cause_a_checkpoint_too),
        cmocka_unit_test(replicas_make_checkpoints_at_different_times),
        cmocka_unit_test(checkpoints_are_small_when_there_is_time),
        cmocka_unit_test(only_one_checkpoint_runs_at_a_time),
        cmocka_unit_test(what_is_dirty_in_memory_is_bounded),
        cmocka_unit_test(a_restart_replays_what_the_checkpoint_lacks),
        cmocka_unit_test(what_a_service_saves_late_is_in_the_checkpoint),
        cmocka_unit_test(a_checkpoint_begins_when_the_parts_are_saved),
        cmocka_unit_test(what_did_not_reach_the_disk_is_gone),
        cmocka_unit_test(a_start_compacts_what_a_lost_note_left),
        cmocka_unit_test(a_start_notes_the_checkpoint_again),
        cmocka_unit_test(a_start_keeps_the_log_that_is_to_be_kept),
        cmocka_unit_test(a_state_ahead_of_the_log_begins_the_log_anew),
        cmocka_unit_test(a_state_of_another_term_voids_the_log),
        cmocka_unit_test(a_state_behind_the_log_is_damage),
        cmocka_unit_test(a_state_older_than_a_durable_checkpoint_is_damage),
        cmocka_unit_test(damaged_extra_bytes_are_noticed),
        cmocka_unit_test(entry_headers_are_checked),
    };

    return cmocka_run_group_tests_name("rsm_recovery", tests, NULL, NULL);
}
