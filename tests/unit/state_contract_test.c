/* The contract of struct io_state (raft/io.h), kept by both who implement it: every script runs
 * against the real store and against the simulator's state, and both must answer with the same
 * words. */
#include "tests/unit/state_contract.h"

/* ---- Reading and writing ---- */

static void what_was_written_is_read(void **state)
{
    struct subject *s = *state;

    get(s, 0, "a");
    put(s, 0, "a", "1");
    put(s, 0, "", "empty key");
    put(s, 0, "b", "");
    get(s, 0, "a");
    get(s, 0, "");
    get(s, 0, "b");
    put(s, 0, "a", "2");
    s->io->ops->remove(s->io, kit_key(0, 1, "b"));
    s->io->ops->remove(s->io, kit_key(0, 1, "never there"));
    get(s, 0, "a");
    get(s, 0, "b");
    get(s, 1, "a");
    begin_checkpoint(s, 5, "x", NULL, 0);
    put(s, 0, "a", "3"); /* while it is written */
    s->io->ops->remove(s->io, kit_key(0, 1, ""));
    get(s, 0, "a");
    get(s, 0, "");
    expect(s, "0/a: value='+' NOT_FOUND\n"
              "0/a: value='+1' OK\n"
              "0/: value='+empty key' OK\n"
              "0/b: value='+' OK\n"
              "0/a: value='+2' OK\n"
              "0/b: value='+' NOT_FOUND\n"
              "1/a: value='+' NOT_FOUND\n"
              "0/a: value='+3' OK\n"
              "0/: value='+' NOT_FOUND\n"
              "CHECKPOINT group=7 number=1 index=5 OK\n");
    get(s, 0, "a");
    get(s, 0, "");
    expect(s, "0/a: value='+3' OK\n"
              "0/: value='+' NOT_FOUND\n");
    crash(s);
    get(s, 0, "a");
    get(s, 0, "");
    get(s, 0, "b");
    expect(s, "found checkpoint=1 index=5 term=3 extra='x'\n"
              "0/a: value='+2' OK\n"
              "0/: value='+empty key' OK\n"
              "0/b: value='+' NOT_FOUND\n");
}

static void an_iteration_is_in_order_and_of_one_kind(void **state)
{
    struct subject *s = *state;
    const char *keys[] = {"b", "ba", "a", "c", "", "b\xff", "bz"}; /* bytes have no sign */

    for (size_t i = 0; i < 7; i++) {
        put(s, 2, keys[i], "1");
    }
    put(s, 1, "z", "no");
    put(s, 3, "a", "no");
    s->io->ops->put(s->io, kit_key(2, 0, "b"), slice_text("no"));
    s->io->ops->put(s->io, kit_key(2, 2, "b"), slice_text("other"));
    begin_checkpoint(s, 5, "x", (uint64_t[]){1, 2, 3}, 3);
    settle(s);
    put(s, 2, "bb", "2");
    begin_checkpoint(s, 6, "x", (uint64_t[]){1, 2, 3}, 3);
    put(s, 2, "ba", "3"); /* in memory, over the one being written, over the one on disk */
    s->io->ops->remove(s->io, kit_key(2, 1, "c"));
    put(s, 2, "bc", "3");
    list(s, 2, 1, "");
    list(s, 2, 1, "b");
    list(s, 2, 1, "bab");
    list(s, 2, 2, "");
    list(s, 2, 3, "");
    list(s, 4, 1, "");
    expect(s, "CHECKPOINT group=7 number=1 index=5 OK\n"
              "list 2/1: ''='1' 'a'='1' 'b'='1' 'ba'='3' 'bb'='2' 'bc'='3' 'bz'='1' 'b?'='1' OK\n"
              "list 2/1: 'b'='1' 'ba'='3' 'bb'='2' 'bc'='3' 'bz'='1' 'b?'='1' OK\n"
              "list 2/1: 'bb'='2' 'bc'='3' 'bz'='1' 'b?'='1' OK\n"
              "list 2/2: 'b'='other' OK\n"
              "list 2/3: OK\n"
              "list 4/1: OK\n"
              "CHECKPOINT group=7 number=2 index=6 OK\n");
    list(s, 2, 1, "ba");
    crash(s);
    list(s, 2, 1, "ba");
    expect(s, "list 2/1: 'ba'='3' 'bb'='2' 'bc'='3' 'bz'='1' 'b?'='1' OK\n"
              "found checkpoint=2 index=6 term=3 extra='x'\n"
              "list 2/1: 'ba'='1' 'bb'='2' 'bz'='1' 'b?'='1' 'c'='1' OK\n");
}

static void dirty_is_what_no_checkpoint_has_begun_to_write(void **state)
{
    struct subject *s = *state;

    assert_true(s->io->ops->dirty_bytes(s->io) == 0);
    put(s, 0, "a", "1");
    assert_true(s->io->ops->dirty_bytes(s->io) > 0);
    begin_checkpoint(s, 5, "x", NULL, 0);
    assert_true(s->io->ops->dirty_bytes(s->io) == 0);
    s->io->ops->remove(s->io, kit_key(0, 1, "a"));
    assert_true(s->io->ops->dirty_bytes(s->io) > 0);
    settle(s);
    assert_true(s->io->ops->dirty_bytes(s->io) > 0);
    fill_disk(s, true);
    begin_checkpoint(s, 6, "x", NULL, 0);
    settle(s);
    assert_true(s->io->ops->dirty_bytes(s->io) == 0); /* it did begin */
}

/* ---- Checkpoints ---- */

static void a_checkpoint_is_what_a_start_finds(void **state)
{
    struct subject *s = *state;

    crash(s);
    open_snapshot(s);
    begin_checkpoint(s, 5, "first", NULL, 0);
    expect(s, "found checkpoint=0 index=0 term=0 extra=''\n"
              "opened #0 index=0 term=0 extra=''\n"
              "CHECKPOINT group=7 number=1 index=5 OK\n");
    begin_checkpoint(s, 5, "same index", NULL, 0);
    settle(s);
    begin_checkpoint(s, 9, "", NULL, 0);
    settle(s);
    put(s, 0, "a", "never durable");
    crash(s);
    get(s, 0, "a");
    begin_checkpoint(s, 10, "again", NULL, 0);
    settle(s);
    crash(s);
    expect(s, "CHECKPOINT group=7 number=2 index=5 OK\n"
              "CHECKPOINT group=7 number=3 index=9 OK\n"
              "found checkpoint=3 index=9 term=3 extra=''\n"
              "0/a: value='+' NOT_FOUND\n"
              "CHECKPOINT group=7 number=4 index=10 OK\n"
              "found checkpoint=4 index=10 term=3 extra='again'\n");
}

/* What found no space is what the next one writes, whatever was asked for then. */
static void a_checkpoint_that_finds_no_space_is_kept(void **state)
{
    struct subject *s = *state;

    put(s, 0, "a", "1");
    begin_checkpoint(s, 5, "five", NULL, 0);
    settle(s);
    put(s, 0, "a", "2");
    fill_disk(s, true);
    begin_checkpoint(s, 8, "eight", NULL, 0);
    settle(s);
    put(s, 0, "a", "3");
    begin_checkpoint(s, 9, "nine", NULL, 0);
    get(s, 0, "a");
    settle(s);
    open_snapshot(s);
    expect(s, "CHECKPOINT group=7 number=1 index=5 OK\n"
              "CHECKPOINT group=7 number=1 index=5 NO_SPACE\n"
              "0/a: value='+3' OK\n"
              "CHECKPOINT group=7 number=1 index=5 NO_SPACE\n"
              "opened #0 index=5 term=3 extra='five'\n");
    fill_disk(s, false);
    begin_checkpoint(s, 12, "twelve", NULL, 0);
    settle(s);
    open_snapshot(s);
    get(s, 0, "a");
    crash(s);
    get(s, 0, "a");
    expect(s, "CHECKPOINT group=7 number=2 index=8 OK\n"
              "opened #1 index=8 term=3 extra='eight'\n"
              "0/a: value='+3' OK\n"
              "found checkpoint=2 index=8 term=3 extra='eight'\n"
              "0/a: value='+2' OK\n");
    put(s, 0, "a", "4");
    begin_checkpoint(s, 13, "thirteen", NULL, 0);
    settle(s);
    crash(s);
    get(s, 0, "a");
    expect(s, "CHECKPOINT group=7 number=3 index=13 OK\n"
              "found checkpoint=3 index=13 term=3 extra='thirteen'\n"
              "0/a: value='+4' OK\n");
}

static void a_checkpoint_without_space_is_forgotten_by_a_crash(void **state)
{
    struct subject *s = *state;

    begin_checkpoint(s, 5, "five", NULL, 0);
    settle(s);
    put(s, 0, "a", "2");
    fill_disk(s, true);
    begin_checkpoint(s, 8, "eight", NULL, 0);
    settle(s);
    fill_disk(s, false);
    crash(s);
    get(s, 0, "a");
    begin_checkpoint(s, 6, "six", NULL, 0);
    expect(s, "CHECKPOINT group=7 number=1 index=5 OK\n"
              "CHECKPOINT group=7 number=1 index=5 NO_SPACE\n"
              "found checkpoint=1 index=5 term=3 extra='five'\n"
              "0/a: value='+' NOT_FOUND\n"
              "CHECKPOINT group=7 number=2 index=6 OK\n");
}

/* Any other failure leaves it open what is on disk: nothing more is written. */
static void a_checkpoint_that_fails_is_the_last(void **state)
{
    struct subject *s = *state;
    struct stream stream;

    make_stream(s->is_store, 100, "sent", &stream);
    name_stream(s, &stream);
    put(s, 0, "a", "1");
    begin_checkpoint(s, 5, "five", NULL, 0);
    send_part(s, &stream, 0);
    settle(s);
    put(s, 0, "a", "2");
    break_disk(s, true);
    begin_checkpoint(s, 8, "eight", NULL, 0);
    settle(s);
    break_disk(s, false);
    get(s, 0, "a");
    put(s, 0, "a", "3");
    begin_checkpoint(s, 9, "nine", NULL, 0);
    settle(s);
    get(s, 0, "a");
    open_snapshot(s);
    send_part(s, &stream, 1);
    send_part(s, &stream, 3);
    settle(s);
    crash(s);
    get(s, 0, "a");
    send_part(s, &stream, 1);
    begin_checkpoint(s, 6, "six", NULL, 0);
    expect(s, "CHECKPOINT group=7 number=1 index=5 OK\n"
              "INSTALL_CHUNK group=7 index=100 term=3 offset=part1 extra='' OK\n"
              "CHECKPOINT group=7 number=1 index=5 IO\n"
              "0/a: value='+2' OK\n"
              "CHECKPOINT group=7 number=1 index=5 IO\n"
              "0/a: value='+3' OK\n"
              "opened #0 index=0 term=0 extra=''\n"
              "INSTALL_CHUNK group=7 index=100 term=3 offset=part1 extra='' IO\n"
              "INSTALL_CHUNK group=7 index=100 term=3 offset=part1 extra='' IO\n"
              "found checkpoint=1 index=5 term=3 extra='five'\n"
              "0/a: value='+1' OK\n"
              "INSTALL_CHUNK group=7 index=100 term=3 offset=part2 extra='' OK\n"
              "CHECKPOINT group=7 number=2 index=6 OK\n");
    stream_fini(&stream);
}

/* ---- Ranges ---- */

static void a_dropped_range_waits_for_a_checkpoint_without_it(void **state)
{
    struct subject *s = *state;

    put(s, 5, "a", "1");
    put(s, 6, "a", "1");
    begin_checkpoint(s, 5, "x", (uint64_t[]){5, 6}, 2);
    settle(s);
    note_drops(s);
    s->io->ops->drop_range(s->io, 5);
    note_drops(s);
    crash(s); /* it never was */
    note_drops(s);
    get(s, 5, "a");
    expect(s, "CHECKPOINT group=7 number=1 index=5 OK\n"
              "drops wait: 0\n"
              "drops wait: 1\n"
              "found checkpoint=1 index=5 term=3 extra='x'\n"
              "drops wait: 0\n"
              "5/a: value='+1' OK\n");
    s->io->ops->drop_range(s->io, 5);
    s->io->ops->drop_range(s->io, 6);
    begin_checkpoint(s, 6, "x", (uint64_t[]){6}, 1); /* 6 is in it still */
    note_drops(s);
    settle(s);
    note_drops(s);
    begin_checkpoint(s, 7, "x", NULL, 0);
    note_drops(s);
    settle(s);
    note_drops(s);
    expect(s, "drops wait: 1\n"
              "CHECKPOINT group=7 number=2 index=6 OK\n"
              "drops wait: 1\n"
              "drops wait: 0\n"
              "CHECKPOINT group=7 number=3 index=7 OK\n"
              "drops wait: 0\n");
}

static void drops_that_found_no_space_are_tried_again(void **state)
{
    struct subject *s = *state;

    put(s, 5, "a", "1");
    put(s, 6, "a", "1");
    begin_checkpoint(s, 5, "x", (uint64_t[]){5, 6}, 2);
    settle(s);
    s->io->ops->drop_range(s->io, 5);
    fill_disk(s, true);
    begin_checkpoint(s, 6, "x", (uint64_t[]){6}, 1);
    settle(s);
    note_drops(s);
    s->io->ops->drop_range(s->io, 6);
    note_drops(s);
    fill_disk(s, false);
    begin_checkpoint(s, 7, "x", NULL, 0); /* writes the one of 6 */
    note_drops(s);
    settle(s);
    note_drops(s);
    begin_checkpoint(s, 7, "x", NULL, 0);
    settle(s);
    note_drops(s);
    expect(s, "CHECKPOINT group=7 number=1 index=5 OK\n"
              "CHECKPOINT group=7 number=1 index=5 NO_SPACE\n"
              "drops wait: 0\n"
              "drops wait: 1\n"
              "drops wait: 1\n"
              "CHECKPOINT group=7 number=2 index=6 OK\n"
              "drops wait: 1\n"
              "CHECKPOINT group=7 number=3 index=7 OK\n"
              "drops wait: 0\n");
}

static void what_is_not_kept_waits_if_the_checkpoint_holds_it(void **state)
{
    struct subject *s = *state;

    put(s, 5, "a", "1");
    put(s, 6, "a", "1");
    put(s, 8, "a", "1");
    begin_checkpoint(s, 5, "x", (uint64_t[]){5, 6}, 2);
    settle(s);
    crash(s);
    s->io->ops->keep_ranges(s->io, (uint64_t[]){5, 6, 7}, 3); /* 8 is no part of it */
    note_drops(s);
    s->io->ops->keep_ranges(s->io, (uint64_t[]){6}, 1);
    note_drops(s);
    get(s, 6, "a");
    begin_checkpoint(s, 6, "x", (uint64_t[]){6}, 1);
    note_drops(s);
    settle(s);
    crash(s);
    s->io->ops->keep_ranges(s->io, (uint64_t[]){6}, 1);
    note_drops(s);
    get(s, 6, "a");
    expect(s, "CHECKPOINT group=7 number=1 index=5 OK\n"
              "found checkpoint=1 index=5 term=3 extra='x'\n"
              "drops wait: 0\n"
              "drops wait: 1\n"
              "6/a: value='+1' OK\n"
              "drops wait: 0\n"
              "CHECKPOINT group=7 number=2 index=6 OK\n"
              "found checkpoint=2 index=6 term=3 extra='x'\n"
              "drops wait: 0\n"
              "6/a: value='+1' OK\n");
}

/* ---- Sending ---- */

static void a_snapshot_is_of_the_last_checkpoint_that_was_told(void **state)
{
    struct subject *s = *state;
    size_t first, second;
    struct buf before = {0}, after = {0};
    bool done;

    put(s, 0, "a", "1");
    begin_checkpoint(s, 5, "five", NULL, 0);
    do_unheard(s);
    open_snapshot(s);
    settle(s);
    first = open_snapshot(s);
    read_snapshot(s, first, 0, 1000, 21);
    take_event(s, &before, &done);
    name_offset(s, 5, before.len, "end");
    name_offset(s, 5, before.len + 1000, "beyond");
    put(s, 0, "a", "2");
    begin_checkpoint(s, 6, "six", NULL, 0);
    settle(s);
    second = open_snapshot(s);
    read_snapshot(s, second, 0, 1000, 22);
    read_snapshot(s, first, before.len, 1000, 23); /* nothing is behind the end */
    read_snapshot(s, first, before.len + 1000, 1000, 24);
    settle(s);
    read_snapshot(s, first, 0, 1000, 25);
    take_event(s, &after, &done);
    assert_true(slice_equal(buf_slice(&before), buf_slice(&after))); /* whatever came later */
    expect(s, "opened #0 index=0 term=0 extra=''\n"
              "CHECKPOINT group=7 number=1 index=5 OK\n"
              "opened #1 index=5 term=3 extra='five'\n"
              "SNAPSHOT_READ group=7 id=#1 token=21 offset=0 done=1 data=some OK\n"
              "CHECKPOINT group=7 number=2 index=6 OK\n"
              "opened #2 index=6 term=3 extra='six'\n"
              "SNAPSHOT_READ group=7 id=#2 token=22 offset=0 done=1 data=some OK\n"
              "SNAPSHOT_READ group=7 id=#1 token=23 offset=end done=1 data=none OK\n"
              "SNAPSHOT_READ group=7 id=#1 token=24 offset=beyond done=0 data=none INVALID\n"
              "SNAPSHOT_READ group=7 id=#1 token=25 offset=0 done=1 data=some OK\n");
    close_snapshot(s, first);
    close_snapshot(s, second);
    buf_fini(&before);
    buf_fini(&after);
}

static void reads_of_a_closed_snapshot_are_not_answered(void **state)
{
    struct subject *s = *state;
    size_t first;

    begin_checkpoint(s, 5, "x", NULL, 0);
    settle(s);
    first = open_snapshot(s);
    read_snapshot(s, first, 0, 1000, 1);
    close_snapshot(s, first);
    begin_checkpoint(s, 6, "x", NULL, 0);
    settle(s);
    first = open_snapshot(s);
    read_snapshot(s, first, 0, 1000, 2);
    do_unheard(s);
    close_snapshot(s, first);
    begin_checkpoint(s, 7, "x", NULL, 0);
    expect(s, "CHECKPOINT group=7 number=1 index=5 OK\n"
              "opened #0 index=5 term=3 extra='x'\n"
              "CHECKPOINT group=7 number=2 index=6 OK\n"
              "opened #1 index=6 term=3 extra='x'\n"
              "CHECKPOINT group=7 number=3 index=7 OK\n");
}

int main(void)
{
    const struct CMUnitTest scripts[] = {
        SCRIPT(what_was_written_is_read),
        SCRIPT(an_iteration_is_in_order_and_of_one_kind),
        SCRIPT(dirty_is_what_no_checkpoint_has_begun_to_write),
        SCRIPT(a_checkpoint_is_what_a_start_finds),
        SCRIPT(a_checkpoint_that_finds_no_space_is_kept),
        SCRIPT(a_checkpoint_without_space_is_forgotten_by_a_crash),
        SCRIPT(a_checkpoint_that_fails_is_the_last),
        SCRIPT(a_dropped_range_waits_for_a_checkpoint_without_it),
        SCRIPT(drops_that_found_no_space_are_tried_again),
        SCRIPT(what_is_not_kept_waits_if_the_checkpoint_holds_it),
        SCRIPT(a_snapshot_is_of_the_last_checkpoint_that_was_told),
        SCRIPT(reads_of_a_closed_snapshot_are_not_answered),
    };

    return run_both(scripts, sizeof(scripts) / sizeof(scripts[0]));
}
