/* Snapshot transfer (paper 7): in chunks, at the pace of the follower's disk, resumable, and never
 * backwards. A snapshot's stream in this world is 100 bytes in chunks of 32. */
#include "raft/util/crc32c.h"
#include "tests/sim/core_harness.h"

/* Replica 3 is cut off, the others commit n commands and compact; then it is heard again. */
static struct cores *with_one_far_behind(uint64_t seed, int n)
{
    struct cores *cores = cores_create(3, seed);

    cores_elect(cores, 1);
    cores_isolate(cores, 3);
    for (int i = 0; i < n; i++) {
        assert_int_equal(cores_propose(cores, 1), ST_OK);
        cores_settle(cores);
    }
    cores_checkpoint(cores, 1);
    cores_checkpoint(cores, 2);
    assert_int_equal(raft_first_index(core_of(cores, 1)), n + 3);
    cores_heal(cores);
    return cores;
}

/* Heartbeats and Appends back and forth until the leader asks for the first chunk. */
static void until_chunk_is_wanted(struct cores *cores)
{
    for (int i = 0; i < 100 && cores->nodes[1].n_reads == 0; i++) {
        if (cores->n_flying > 0) {
            cores_deliver(cores, 0, false);
        } else {
            cores->now_ms += 60;
            cores_tick(cores, 1);
        }
        cores_persist(cores, 3);
    }
    assert_int_equal(cores->nodes[1].n_reads, 1);
    cores_drop_all(cores);
}

static struct raft_message chunk_message(raft_index index, raft_term term, uint64_t offset,
                                         const char *text, bool done)
{
    struct raft_message message = {
        .type = RAFT_MESSAGE_INSTALL_SNAPSHOT, .from = 1, .to = 3, .term = 2};

    message.install_snapshot.meta.index = index;
    message.install_snapshot.meta.term = term;
    message.install_snapshot.meta.configuration.n = 1;
    message.install_snapshot.meta.configuration.servers[0] =
        (struct raft_server){.id = 1, .flags = RAFT_VOTER};
    message.install_snapshot.offset = offset;
    message.install_snapshot.done = done;
    message.install_snapshot.checksum = crc32c(0, text, strlen(text));
    message.install_snapshot.data = blob_create(slice_text(text));
    return message;
}

static void inject_chunk(struct cores *cores, struct raft_message message)
{
    cores_inject(cores, &message);
    cores_deliver_one(cores, RAFT_MESSAGE_INSTALL_SNAPSHOT, 1, 3);
    raft_message_fini(&message);
}

static void a_follower_behind_the_log_gets_the_snapshot(void **state)
{
    struct cores *cores = with_one_far_behind(1, 20);

    (void)state;
    cores_run(cores, 500);
    assert_int_equal(cores->nodes[3].snapshots_installed, 1);
    assert_int_equal(cores->n_sent[RAFT_MESSAGE_INSTALL_SNAPSHOT], 4); /* each chunk once */
    assert_int_equal(raft_first_index(core_of(cores, 3)), 23);
    assert_int_equal(cores->nodes[3].disk.begin_index, 22); /* the log on disk, too */
    assert_int_equal(cores_propose(cores, 1), ST_OK);
    cores_run(cores, 100);
    cores_assert_converged(cores);
    cores_destroy(cores);
}

static void chunks_leave_as_the_follower_takes_them(void **state)
{
    struct cores *cores = with_one_far_behind(2, 20);

    (void)state;
    until_chunk_is_wanted(cores);
    assert_int_equal(cores->nodes[1].reads[0].snapshot_index, 0); /* the newest */
    assert_int_equal(cores_progress(cores, 1, 3).state, RAFT_SNAPSHOT);
    cores_read_chunk(cores, 1);
    assert_int_equal(cores->nodes[1].reads[0].snapshot_index, 22);
    assert_int_equal(cores->nodes[1].reads[0].offset, 32);
    cores_read_chunk(cores, 1);
    assert_int_equal(cores->nodes[1].n_reads, 0); /* two in flight */
    cores_deliver_one(cores, RAFT_MESSAGE_INSTALL_SNAPSHOT, 1, 3);
    assert_int_equal(cores_count(cores, RAFT_MESSAGE_INSTALL_SNAPSHOT_REPLY, 3, 1), 0);
    cores_store_chunk(cores, 3);
    cores_persist(cores, 3);
    cores_deliver_one(cores, RAFT_MESSAGE_INSTALL_SNAPSHOT_REPLY, 3, 1);
    assert_int_equal(cores_progress(cores, 1, 3).snapshot_offset, 32);
    assert_int_equal(cores->nodes[1].n_reads, 1); /* one was taken */
    cores_run(cores, 500);
    cores_assert_converged(cores);
    cores_destroy(cores);
}

static void a_broken_link_resumes_where_the_follower_is(void **state)
{
    struct cores *cores = with_one_far_behind(3, 20);

    (void)state;
    until_chunk_is_wanted(cores);
    cores_read_chunk(cores, 1);
    cores_read_chunk(cores, 1);
    cores_deliver_one(cores, RAFT_MESSAGE_INSTALL_SNAPSHOT, 1, 3);
    cores_store_chunk(cores, 3);
    cores_persist(cores, 3);
    cores_deliver_one(cores, RAFT_MESSAGE_INSTALL_SNAPSHOT_REPLY, 3, 1);
    cores_drop_all(cores); /* the second chunk */
    cores_link(cores, 1, 3, RAFT_EVENT_PEER_DOWN);
    cores_read_chunk(cores, 1); /* what was asked for before; its chunk is lost, too */
    cores_drop_all(cores);
    assert_int_equal(cores->nodes[1].n_reads, 0); /* nothing is read for a link that is down */
    cores_link(cores, 1, 3, RAFT_EVENT_PEER_UP);
    assert_int_equal(cores->nodes[1].n_reads, 1);
    assert_int_equal(cores->nodes[1].reads[0].offset, 32);
    cores_run(cores, 1000);
    assert_int_equal(cores->nodes[3].snapshots_installed, 1);
    assert_true(cores->n_sent[RAFT_MESSAGE_INSTALL_SNAPSHOT] <= 6);
    cores_destroy(cores);
}

static void a_new_leader_goes_on_where_the_old_one_stopped(void **state)
{
    struct cores *cores = with_one_far_behind(4, 20);
    uint64_t sent;

    (void)state;
    until_chunk_is_wanted(cores);
    for (int i = 0; i < 2; i++) {
        cores_read_chunk(cores, 1);
        cores_deliver_one(cores, RAFT_MESSAGE_INSTALL_SNAPSHOT, 1, 3);
        cores_store_chunk(cores, 3);
    }
    assert_int_equal(cores->nodes[3].disk.receive_offset, 64);
    cores_crash(cores, 1);
    cores_drop_all(cores);
    sent = cores->n_sent[RAFT_MESSAGE_INSTALL_SNAPSHOT];
    cores_run(cores, 3000);
    assert_int_equal(cores_leader(cores), 2);
    assert_int_equal(cores->nodes[3].snapshots_installed, 1);
    /* The first chunk again, to be told what is there; then only the rest. */
    assert_true(cores->n_sent[RAFT_MESSAGE_INSTALL_SNAPSHOT] - sent <= 4);
    cores_destroy(cores);
}

static void a_follower_that_restarts_resumes_from_its_disk(void **state)
{
    struct cores *cores = with_one_far_behind(5, 20);

    (void)state;
    until_chunk_is_wanted(cores);
    cores_read_chunk(cores, 1);
    cores_read_chunk(cores, 1);
    for (int i = 0; i < 2; i++) {
        cores_deliver_one(cores, RAFT_MESSAGE_INSTALL_SNAPSHOT, 1, 3);
        cores_store_chunk(cores, 3);
    }
    assert_int_equal(cores->nodes[3].disk.receive_offset, 64);
    cores_crash(cores, 3);
    cores_drop_all(cores);
    cores_start(cores, 3);
    cores_run(cores, 2000);
    assert_int_equal(cores->nodes[3].snapshots_installed, 1);
    cores_assert_converged(cores);
    cores_destroy(cores);
}

static void a_lost_chunk_is_sent_again(void **state)
{
    struct cores *cores = with_one_far_behind(6, 20);

    (void)state;
    until_chunk_is_wanted(cores);
    cores_read_chunk(cores, 1);
    cores_read_chunk(cores, 1);
    cores_drop(cores, cores_find(cores, RAFT_MESSAGE_INSTALL_SNAPSHOT, 1, 3)); /* the first */
    cores_run(cores, 2000);
    assert_int_equal(cores->nodes[3].snapshots_installed, 1);
    cores_assert_converged(cores);
    cores_destroy(cores);
}

static void a_damaged_chunk_is_not_stored(void **state)
{
    struct cores *cores = cores_create(3, 7);
    struct raft_message message = chunk_message(10, 2, 0, "hello", false);

    (void)state;
    message.install_snapshot.checksum ^= 1;
    inject_chunk(cores, message);
    assert_int_equal(cores->nodes[3].n_stores, 0);
    inject_chunk(cores, chunk_message(10, 2, 0, "hello", false));
    assert_int_equal(cores->nodes[3].n_stores, 1);
    cores_destroy(cores);
}

static void older_snapshots_and_foreign_chunks_are_refused(void **state)
{
    struct cores *cores = cores_create(3, 8);
    struct raft_message reply;

    (void)state;
    inject_chunk(cores, chunk_message(10, 2, 0, "first", false));
    cores_store_chunk(cores, 3);
    inject_chunk(cores, chunk_message(10, 2, 99, "gap", false)); /* not the next one */
    inject_chunk(cores, chunk_message(9, 2, 0, "older", false));
    inject_chunk(cores, chunk_message(9, 2, 5, "older", false));
    assert_int_equal(cores->nodes[3].n_stores, 0);
    cores_persist(cores, 3);
    while (cores_count(cores, RAFT_MESSAGE_INSTALL_SNAPSHOT_REPLY, 3, 1) > 1) {
        cores_drop(cores, cores_find(cores, RAFT_MESSAGE_INSTALL_SNAPSHOT_REPLY, 3, 1));
    }
    reply = cores_peek(cores, cores_find(cores, RAFT_MESSAGE_INSTALL_SNAPSHOT_REPLY, 3, 1));
    assert_int_equal(reply.install_snapshot_reply.index, 10);
    assert_int_equal(reply.install_snapshot_reply.offset, 5); /* where to go on */
    assert_false(reply.install_snapshot_reply.installed);
    inject_chunk(cores, chunk_message(11, 2, 0, "newer", false)); /* a newer one takes over */
    assert_int_equal(cores->nodes[3].n_stores, 1);
    cores_destroy(cores);
}

static void a_snapshot_of_what_is_committed_is_answered_at_once(void **state)
{
    struct cores *cores = cores_create(3, 9);
    struct raft_message reply;

    (void)state;
    cores_elect(cores, 1);
    inject_chunk(cores, chunk_message(2, 2, 0, "old", false));
    assert_int_equal(cores->nodes[3].n_stores, 0);
    reply = cores_peek(cores, cores_find(cores, RAFT_MESSAGE_INSTALL_SNAPSHOT_REPLY, 3, 1));
    assert_true(reply.install_snapshot_reply.installed);
    assert_int_equal(reply.install_snapshot_reply.index, 2);
    cores_destroy(cores);
}

/* The same when the log no longer holds the entry at its index. */
static void a_snapshot_older_than_the_log_is_answered_at_once(void **state)
{
    struct cores *cores = with_one_far_behind(16, 20);

    (void)state;
    cores_run(cores, 500);
    assert_int_equal(raft_first_index(core_of(cores, 3)), 23);
    cores_drop_all(cores);
    inject_chunk(cores, chunk_message(10, 2, 0, "old", false));
    assert_int_equal(cores->nodes[3].n_stores, 0);
    assert_int_equal(cores_count(cores, RAFT_MESSAGE_INSTALL_SNAPSHOT_REPLY, 3, 1), 1);
    cores_run(cores, 500);
    cores_assert_converged(cores);
    cores_destroy(cores);
}

/* A log that already has the snapshot's last entry keeps what follows it: it only learns that all
 * up to there is committed. */
static void a_log_that_holds_the_snapshots_entry_needs_none(void **state)
{
    struct cores *cores = cores_create(3, 10);

    (void)state;
    cores_elect(cores, 1);
    cores_cut(cores, 3, 1); /* 3 hears, but its answers are lost: it is not told of commits */
    assert_int_equal(cores_propose(cores, 1), ST_OK);
    assert_int_equal(cores_propose(cores, 1), ST_OK);
    cores_deliver_one(cores, RAFT_MESSAGE_APPEND, 1, 3);
    cores_deliver_one(cores, RAFT_MESSAGE_APPEND, 1, 3);
    cores_drop(cores, cores_find(cores, RAFT_MESSAGE_APPEND, 1, 2));
    cores_persist(cores, 3);
    cores_persist(cores, 1);
    cores_heal(cores);
    assert_int_equal(raft_commit_index(core_of(cores, 3)), 2);
    inject_chunk(cores, chunk_message(3, 2, 0, "state", false));
    assert_int_equal(cores->nodes[3].n_stores, 0);
    assert_int_equal(raft_commit_index(core_of(cores, 3)), 3);
    assert_int_equal(raft_last_index(core_of(cores, 3)), 4); /* the tail stays */
    cores_destroy(cores);
}

/* A replica that was told nothing at its start, and whose first entries are compacted away. */
static void a_snapshot_tells_the_configuration(void **state)
{
    struct cores *cores = cores_create_empty(3, 17);

    (void)state;
    for (raft_id id = 1; id <= 2; id++) {
        cores_start(cores, id);
        cores_persist(cores, id);
    }
    cores_elect(cores, 1);
    for (int i = 0; i < 20; i++) {
        assert_int_equal(cores_propose(cores, 1), ST_OK);
        cores_settle(cores);
    }
    cores_checkpoint(cores, 1);
    cores_checkpoint(cores, 2);
    cores->bootstrap.n = 0;
    cores_start(cores, 3);
    assert_int_equal(raft_latest_configuration(core_of(cores, 3))->n, 0);
    cores_run(cores, 1000);
    assert_int_equal(cores->nodes[3].snapshots_installed, 1);
    assert_int_equal(raft_latest_configuration(core_of(cores, 3))->n, 3);
    cores_assert_converged(cores);
    cores_destroy(cores);
}

/* Replica 3 has a tail of another history at and beyond the snapshot's index: all of it goes. */
static void a_tail_of_another_history_is_discarded(void **state)
{
    struct cores *cores = cores_create(3, 11);

    (void)state;
    cores_elect(cores, 3); /* term 2 */
    cores_isolate(cores, 3);
    assert_int_equal(cores_propose_sized(cores, 3, 40, 8), ST_OK); /* doomed: 3..42 */
    cores_persist(cores, 3);
    cores_drop_all(cores);
    cores_elect(cores, 1);
    for (int i = 0; i < 20; i++) {
        assert_int_equal(cores_propose(cores, 1), ST_OK);
        cores_settle(cores);
    }
    cores_checkpoint(cores, 1);
    cores_checkpoint(cores, 2);
    cores_heal(cores);
    cores_run(cores, 1000);
    assert_int_equal(cores->nodes[3].snapshots_installed, 1);
    assert_int_equal(raft_last_index(core_of(cores, 3)), raft_last_index(core_of(cores, 1)));
    cores_assert_converged(cores);
    /* And it is so after a restart. */
    cores_crash(cores, 3);
    cores_start(cores, 3);
    assert_int_equal(raft_last_index(core_of(cores, 3)), raft_last_index(core_of(cores, 1)));
    cores_run(cores, 500);
    cores_assert_converged(cores);
    cores_destroy(cores);
}

/* The switch of the state and the reset of the log are two writes: a crash between them. */
static void a_crash_between_the_switch_and_the_reset_is_harmless(void **state)
{
    struct cores *cores = with_one_far_behind(12, 20);

    (void)state;
    cores->nodes[3].slow_disk = true;
    cores_run(cores, 500);
    assert_int_equal(cores->nodes[3].snapshots_installed, 1);
    assert_int_equal(cores->nodes[3].disk.begin_index, 0); /* the log is not yet reset */
    /* Nothing was promised yet. */
    assert_int_equal(cores_progress(cores, 1, 3).match_index, 2);
    cores_crash(cores, 3);
    cores->nodes[3].slow_disk = false;
    cores_start(cores, 3);
    assert_int_equal(raft_commit_index(core_of(cores, 3)), 22);
    cores_run(cores, 500);
    cores_assert_converged(cores);
    cores_destroy(cores);
}

static void the_log_behind_a_snapshot_in_flight_is_kept_for_a_bounded_time(void **state)
{
    struct cores *cores = with_one_far_behind(13, 20);

    (void)state;
    assert_true(raft_compaction_bound(core_of(cores, 1)) == UINT64_MAX);
    until_chunk_is_wanted(cores);
    cores_read_chunk(cores, 1);
    assert_int_equal(raft_compaction_bound(core_of(cores, 1)), 22);
    for (int i = 0; i < 10; i++) {
        assert_int_equal(cores_propose(cores, 1), ST_OK);
        cores_deliver_one(cores, RAFT_MESSAGE_APPEND, 1, 2);
        cores_persist(cores, 1);
        cores_persist(cores, 2);
        cores_deliver_one(cores, RAFT_MESSAGE_APPEND_REPLY, 2, 1);
    }
    cores_checkpoint(cores, 1);
    assert_int_equal(raft_first_index(core_of(cores, 1)), 23); /* not compacted beyond */
    /* The follower falls silent. */
    cores_isolate(cores, 3);
    cores_run(cores, 5000);
    assert_true(raft_compaction_bound(core_of(cores, 1)) != UINT64_MAX);
    cores_run(cores, 2000);
    assert_true(raft_compaction_bound(core_of(cores, 1)) == UINT64_MAX);
    cores_heal(cores);
    cores_run(cores, 2000);
    cores_assert_converged(cores);
    cores_destroy(cores);
}

static void a_chunk_that_cannot_be_read_is_asked_for_again(void **state)
{
    struct cores *cores = with_one_far_behind(14, 20);
    struct raft_event event = {.type = RAFT_EVENT_CHUNK_READ};

    (void)state;
    until_chunk_is_wanted(cores);
    cores->nodes[1].n_reads = 0;
    event.chunk_read.to = 3;
    event.chunk_read.status = ST_IO;
    cores_step(cores, 1, &event);
    assert_int_equal(cores->nodes[1].n_reads, 0); /* not in a hot loop */
    cores_run(cores, 500);
    assert_int_equal(cores->nodes[3].snapshots_installed, 1);
    cores_destroy(cores);
}

static void chunk_stored(struct cores *cores, raft_index index, uint64_t offset)
{
    struct raft_event event = {.type = RAFT_EVENT_CHUNK_STORED};

    event.chunk_stored.index = index;
    event.chunk_stored.offset = offset;
    cores_step(cores, 3, &event);
}

/* Chunks of an earlier term are still being stored when a new leader goes on: their late answers
 * say nothing about its last chunk. */
static void a_late_answer_is_not_taken_for_that_of_the_last_chunk(void **state)
{
    struct cores *cores = cores_create(3, 16);
    struct raft_message message = chunk_message(10, 2, 0, "first", false);

    (void)state;
    inject_chunk(cores, message); /* of term 2 */
    for (int i = 0; i < 2; i++) {
        message = chunk_message(10, 2, (uint64_t)i * 5, i == 0 ? "first" : "last", i == 1);
        message.term = 3;
        inject_chunk(cores, message);
        if (i == 0) {
            chunk_stored(cores, 10, 5); /* answers that of term 2 */
        }
    }
    assert_int_equal(cores->nodes[3].n_stores, 3);
    chunk_stored(cores, 10, 5); /* answers the first one of term 3 */
    cores_timeout(cores, 3);
    assert_int_equal(raft_role(core_of(cores, 3)), RAFT_FOLLOWER); /* still being switched */
    chunk_stored(cores, 10, 5); /* the last one was not taken: nothing is being switched */
    cores_timeout(cores, 3);
    assert_int_equal(raft_role(core_of(cores, 3)), RAFT_PRE_CANDIDATE);
    cores_destroy(cores);
}

static void an_install_that_fails_is_tried_again(void **state)
{
    struct cores *cores = cores_create(3, 15);
    struct raft_event event = {.type = RAFT_EVENT_SNAPSHOT_INSTALLED};

    (void)state;
    inject_chunk(cores, chunk_message(10, 2, 0, "all of it", true));
    cores->nodes[3].n_stores--;
    blob_unref(&cores->nodes[3].stores[0].chunk.data);
    cores_timeout(cores, 3); /* while the state is being switched it does not stand */
    assert_int_equal(raft_role(core_of(cores, 3)), RAFT_FOLLOWER);
    event.installed.meta.index = 10;
    event.installed.status = ST_IO;
    cores_step(cores, 3, &event);
    assert_int_equal(raft_first_index(core_of(cores, 3)), 1);
    inject_chunk(cores, chunk_message(10, 2, 0, "all of it", true));
    assert_int_equal(cores->nodes[3].n_stores, 1);
    cores_destroy(cores);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_follower_behind_the_log_gets_the_snapshot),
        cmocka_unit_test(chunks_leave_as_the_follower_takes_them),
        cmocka_unit_test(a_broken_link_resumes_where_the_follower_is),
        cmocka_unit_test(a_new_leader_goes_on_where_the_old_one_stopped),
        cmocka_unit_test(a_follower_that_restarts_resumes_from_its_disk),
        cmocka_unit_test(a_lost_chunk_is_sent_again),
        cmocka_unit_test(a_damaged_chunk_is_not_stored),
        cmocka_unit_test(older_snapshots_and_foreign_chunks_are_refused),
        cmocka_unit_test(a_snapshot_of_what_is_committed_is_answered_at_once),
        cmocka_unit_test(a_snapshot_older_than_the_log_is_answered_at_once),
        cmocka_unit_test(a_log_that_holds_the_snapshots_entry_needs_none),
        cmocka_unit_test(a_snapshot_tells_the_configuration),
        cmocka_unit_test(a_tail_of_another_history_is_discarded),
        cmocka_unit_test(a_crash_between_the_switch_and_the_reset_is_harmless),
        cmocka_unit_test(the_log_behind_a_snapshot_in_flight_is_kept_for_a_bounded_time),
        cmocka_unit_test(a_chunk_that_cannot_be_read_is_asked_for_again),
        cmocka_unit_test(a_late_answer_is_not_taken_for_that_of_the_last_chunk),
        cmocka_unit_test(an_install_that_fails_is_tried_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
