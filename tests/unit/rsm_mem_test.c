/* Unit tests of the in-memory worlds themselves: what is durable when, what a crash loses, and that
 * they keep the contract of raft/io.h. */
#include <stdio.h>

#include "raft/util/mem.h"
#include "raft/util/rng.h"
#include "tests/cmocka.h"
#include "tests/sim/mem_log.h"
#include "tests/sim/mem_map.h"
#include "tests/sim/mem_state.h"

/* ---- The map ---- */

#define KEYS 50

static struct slice key_of(uint64_t i, char *text)
{
    snprintf(text, 16, "%c%u", (char)('a' + i % 7), (unsigned)i / 7);
    return slice_text(text);
}

static void assert_equals_model(const struct mem_map *map, const uint32_t *model)
{
    struct slice key = slice_of(NULL, 0), value, last = slice_of(NULL, 0);
    size_t n = 0, present = 0;
    bool after = false;
    char text[16];

    for (uint64_t i = 0; i < KEYS; i++) {
        bool there = mem_map_get(map, key_of(i, text), &value);
        assert_true(there == (model[i] != 0));
        assert_true(!there || get_u32(value.data) == model[i]);
        present += there;
    }
    while (mem_map_seek(map, key, after, &key, &value)) {
        assert_true(n == 0 || slice_compare(last, key) < 0);
        last = key;
        after = true;
        n++;
    }
    assert_true(n == present && map->n == n);
}

static void a_map_equals_its_model_and_its_copies_stay(void **state)
{
    struct mem_map map = {0}, copy = {0};
    uint32_t model[KEYS] = {0}, copied[KEYS] = {0};
    struct rng rng;
    char text[16];

    (void)state;
    rng_init(&rng, 3);
    for (int i = 0; i < 5000; i++) {
        uint64_t which = rng_below(&rng, KEYS);
        uint8_t value[4];
        switch (rng_below(&rng, 10)) {
        case 0:
            mem_map_fini(&copy);
            copy = mem_map_copy(&map);
            memcpy(copied, model, sizeof(model));
            break;
        case 1:
        case 2:
        case 3:
            assert_true(mem_map_remove(&map, key_of(which, text)) == (model[which] != 0));
            model[which] = 0;
            break;
        default:
            model[which] = 1 + (uint32_t)i;
            set_u32(value, model[which]);
            mem_map_put(&map, key_of(which, text), slice_of(value, 4));
            break;
        }
        if (i % 20 == 0) {
            assert_equals_model(&map, model);
            assert_equals_model(&copy, copied);
        }
    }
    mem_map_fini(&map);
    assert_equals_model(&copy, copied);
    mem_map_fini(&copy);
}

/* ---- The state ---- */

static void put(struct mem_state *store, uint64_t range, const char *key, const char *value)
{
    struct io_state *io = mem_state_io(store);

    io->ops->put(io, (struct io_key){range, 1, slice_text(key)}, slice_text(value));
}

static bool holds(struct mem_state *store, uint64_t range, const char *key, const char *value)
{
    struct io_state *io = mem_state_io(store);
    struct buf found = {0};
    enum status status = io->ops->get(io, (struct io_key){range, 1, slice_text(key)}, &found);
    bool equal = status == ST_OK && slice_equal(buf_slice(&found), slice_text(value));

    buf_fini(&found);
    return equal;
}

static void begin_checkpoint(struct mem_state *store, raft_index index, const uint64_t *ranges,
                             size_t n)
{
    struct io_state *io = mem_state_io(store);
    struct io_checkpoint checkpoint = {
        .index = index, .term = 1, .extra = slice_text("extra"), .ranges = ranges, .n_ranges = n};

    io->ops->checkpoint(io, &checkpoint);
}

static raft_index durable_index(struct mem_state *store)
{
    struct io_state_meta meta;

    mem_state_meta(store, &meta);
    buf_fini(&meta.extra);
    return meta.index;
}

static void a_crash_goes_back_to_the_last_finished_checkpoint(void **state)
{
    struct mem_state *store = mem_state_create(1);
    struct io_event event;

    (void)state;
    put(store, 0, "a", "1");
    begin_checkpoint(store, 5, NULL, 0);
    put(store, 0, "a", "2");
    assert_true(durable_index(store) == 0); /* begun is not finished */
    assert_true(mem_state_work(store));
    assert_true(durable_index(store) == 5);
    assert_true(mem_state_take(store, &event));
    assert_int_equal(event.type, IO_EVENT_CHECKPOINT);
    assert_true(event.checkpoint.index == 5 && event.checkpoint.number == 1);
    begin_checkpoint(store, 6, NULL, 0);
    mem_state_crash(store);
    assert_false(mem_state_work(store) || mem_state_take(store, &event));
    assert_true(holds(store, 0, "a", "1"));
    /* Durable, but its completion was never heard of. */
    put(store, 0, "a", "3");
    begin_checkpoint(store, 7, NULL, 0);
    assert_true(mem_state_work(store));
    mem_state_crash(store);
    assert_true(holds(store, 0, "a", "3") && durable_index(store) == 7);
    mem_state_destroy(&store);
}

static void iteration_stays_within_range_and_kind_in_order(void **state)
{
    struct mem_state *store = mem_state_create(1);
    struct io_state *io = mem_state_io(store);
    const char *expected[] = {"b", "ba", "c"};
    struct slice key, value;
    struct io_iter *iter;
    size_t n = 0;

    (void)state;
    put(store, 1, "z", "no");
    put(store, 2, "c", "3");
    put(store, 2, "a", "no");
    put(store, 2, "ba", "2");
    put(store, 2, "b", "1");
    put(store, 3, "a", "no");
    io->ops->put(io, (struct io_key){2, 2, slice_text("a")}, slice_text("no"));
    iter = io->ops->iter_open(io, (struct io_key){2, 1, slice_text("b")});
    while (io->ops->iter_next(iter, &key, &value)) {
        assert_true(n < 3 && slice_equal(key, slice_text(expected[n])));
        n++;
    }
    assert_int_equal(io->ops->iter_close(iter), ST_OK);
    assert_int_equal(n, 3);
    assert_int_equal(mem_state_range_keys(store, 2), 5);
    mem_state_destroy(&store);
}

static void dropped_ranges_come_back_with_a_crash_and_not_after_a_checkpoint(void **state)
{
    struct mem_state *store = mem_state_create(1);
    struct io_state *io = mem_state_io(store);
    uint64_t ranges[] = {7, 8};

    (void)state;
    put(store, 7, "a", "1");
    put(store, 8, "a", "1");
    begin_checkpoint(store, 1, ranges, 2);
    mem_state_work(store);
    io->ops->drop_range(io, 7);
    assert_int_equal(mem_state_range_keys(store, 7), 0);
    mem_state_crash(store);
    assert_int_equal(mem_state_range_keys(store, 7), 1);
    io->ops->drop_range(io, 7);
    begin_checkpoint(store, 2, ranges + 1, 1);
    mem_state_work(store);
    mem_state_crash(store);
    assert_int_equal(mem_state_range_keys(store, 7), 0);
    put(store, 9, "stray", "1");
    io->ops->keep_ranges(io, ranges + 1, 1);
    assert_int_equal(mem_state_range_keys(store, 9), 0);
    assert_int_equal(mem_state_range_keys(store, 8), 1);
    mem_state_destroy(&store);
}

/* Reads the stream of an open snapshot in chunks and feeds it to another store. */
static enum io_event_type transfer(struct mem_state *from, struct mem_state *to, size_t max_bytes,
                                   struct io_event *last)
{
    struct io_state *source = mem_state_io(from), *target = mem_state_io(to);
    struct io_snapshot snapshot;
    struct io_event chunk;
    uint64_t offset = 0;

    source->ops->snapshot_open(source, &snapshot);
    assert_true(snapshot.index > 0 && slice_equal(snapshot.extra, slice_text("extra")));
    do {
        source->ops->snapshot_read(source, snapshot.id, offset, max_bytes, 77);
        assert_true(mem_state_work(from) && mem_state_take(from, &chunk));
        assert_int_equal(chunk.type, IO_EVENT_SNAPSHOT_READ);
        assert_true(chunk.snapshot.token == 77 && chunk.snapshot.offset == offset);
        offset += chunk.snapshot.data.len;
        target->ops->install_chunk(target, snapshot.index, snapshot.term, chunk.snapshot.offset,
                                   chunk.snapshot.data, chunk.snapshot.done);
        assert_true(mem_state_work(to) && mem_state_take(to, last));
        assert_int_equal(last->install.status, ST_OK);
    } while (!chunk.snapshot.done);
    source->ops->snapshot_close(source, snapshot.id);
    return last->type;
}

static void a_snapshot_is_one_state_however_it_is_cut(void **state)
{
    uint64_t ranges[] = {7};

    (void)state;
    for (size_t max_bytes = 1; max_bytes < 100; max_bytes += 7) {
        struct mem_state *from = mem_state_create(1), *to = mem_state_create(1);
        struct io_event event;

        put(from, 0, "own", "1");
        put(from, 7, "part", "2");
        put(from, 8, "not part", "3");
        begin_checkpoint(from, 5, ranges, 1);
        mem_state_work(from);
        mem_state_take(from, &event);
        put(from, 7, "part", "later");
        put(to, 0, "old", "x");
        assert_int_equal(transfer(from, to, max_bytes, &event), IO_EVENT_INSTALLED);
        assert_true(slice_equal(event.install.extra, slice_text("extra")));
        assert_true(holds(to, 0, "own", "1") && holds(to, 7, "part", "2"));
        assert_false(holds(to, 8, "not part", "3") || holds(to, 0, "old", "x"));
        mem_state_crash(to);
        assert_true(holds(to, 7, "part", "2") && durable_index(to) == 5);
        mem_state_destroy(&from);
        mem_state_destroy(&to);
    }
}

static void chunks_that_do_not_fit_change_nothing(void **state)
{
    struct mem_state *store = mem_state_create(1);
    struct io_state *io = mem_state_io(store);
    struct io_event event;

    (void)state;
    io->ops->install_chunk(io, 9, 1, 0, slice_text("12345"), false);
    io->ops->install_chunk(io, 9, 1, 0, slice_text("12345"), false); /* again */
    io->ops->install_chunk(io, 9, 1, 7, slice_text("x"), true);      /* a gap */
    for (int i = 0; i < 3; i++) {
        assert_true(mem_state_work(store) && mem_state_take(store, &event));
        assert_int_equal(event.type, IO_EVENT_INSTALL_CHUNK);
        assert_true(event.install.offset == 5 && event.install.status == ST_OK);
    }
    mem_state_crash(store);
    assert_true(mem_state_staged_bytes(store) == 5);
    io->ops->install_chunk(io, 10, 1, 0, slice_text("12"), false); /* another one begins anew */
    assert_true(mem_state_work(store) && mem_state_take(store, &event));
    assert_true(event.install.offset == 2);
    /* A stream that is none ends with an error and leaves the state alone. */
    put(store, 0, "a", "1");
    io->ops->install_chunk(io, 10, 1, 2, slice_text("garbage garbage"), true);
    assert_true(mem_state_work(store) && mem_state_take(store, &event));
    assert_int_equal(event.type, IO_EVENT_INSTALLED);
    assert_int_equal(event.install.status, ST_CORRUPT);
    assert_true(holds(store, 0, "a", "1"));
    mem_state_destroy(&store);
}

static void faults_hit_as_often_as_told(void **state)
{
    struct mem_state *store = mem_state_create(1);
    struct io_event event;

    (void)state;
    put(store, 0, "a", "1");
    mem_state_fail(store, MEM_STATE_FAIL_CHECKPOINT, ST_NO_SPACE, 1);
    begin_checkpoint(store, 1, NULL, 0);
    assert_true(mem_state_work(store) && mem_state_take(store, &event));
    assert_int_equal(event.checkpoint.status, ST_NO_SPACE);
    assert_true(durable_index(store) == 0);
    begin_checkpoint(store, 2, NULL, 0);
    assert_true(mem_state_work(store) && mem_state_take(store, &event));
    assert_int_equal(event.checkpoint.status, ST_OK);
    assert_true(event.checkpoint.index == 1 && durable_index(store) == 1); /* the kept one */
    mem_state_destroy(&store);
}

/* ---- The log ---- */

static void write_entries(struct mem_log *log, group_id group, uint64_t token, raft_index first,
                          size_t n, raft_term term)
{
    struct raft_entry entries[10] = {0};
    struct io_log_write write = {.group = group,
                                 .token = token,
                                 .has_hard_state = true,
                                 .hard_state = {.term = term, .voted_for = 1},
                                 .entries = entries,
                                 .n_entries = n};

    for (size_t i = 0; i < n; i++) {
        entries[i] = (struct raft_entry){first + i, term, RAFT_ENTRY_COMMAND,
                                         blob_create(slice_text("data"))};
    }
    mem_log_io(log)->ops->write(mem_log_io(log), &write);
    for (size_t i = 0; i < n; i++) {
        blob_unref(&entries[i].data);
    }
}

/* "begin: term term …" of what is durable. */
static const char *show(struct mem_log *log, group_id group, char *text)
{
    struct io_log_content content;
    int len;

    mem_log_content(log, group, &content);
    len = snprintf(text, 100, "%u:", (unsigned)content.begin_index);
    for (size_t i = 0; i < content.n_entries; i++) {
        len += snprintf(text + len, 100 - (size_t)len, " %u", (unsigned)content.entries[i].term);
        assert_true(content.entries[i].index == content.begin_index + 1 + i);
        blob_unref(&content.entries[i].data);
    }
    mem_free(content.entries);
    return text;
}

static void only_what_was_synced_survives(void **state)
{
    struct mem_log *log = mem_log_create();
    struct io_event event;
    char text[100];

    (void)state;
    write_entries(log, 1, 11, 1, 3, 1);
    write_entries(log, 1, 12, 3, 2, 2); /* replaces from 3 on */
    write_entries(log, 1, 13, 5, 1, 2);
    write_entries(log, 2, 14, 1, 1, 1); /* another group */
    assert_string_equal(show(log, 1, text), "0:");
    assert_true(mem_log_sync(log));
    assert_string_equal(show(log, 1, text), "0: 1 1 1");
    assert_true(mem_log_take(log, &event));
    assert_true(event.type == IO_EVENT_LOG_WRITTEN && event.log.token == 11);
    assert_false(mem_log_take(log, &event));
    mem_log_crash(log, 1); /* 12 had reached the disk, the rest had not */
    assert_string_equal(show(log, 1, text), "0: 1 1 2 2");
    assert_string_equal(show(log, 2, text), "0:");
    assert_int_equal(mem_log_n_writes(log), 0);
    mem_log_destroy(&log);
}

static void compaction_and_checkpoints_ride_with_the_next_write(void **state)
{
    struct mem_log *log = mem_log_create();
    struct io_log *io = mem_log_io(log);
    struct io_log_content content;
    char text[100];

    (void)state;
    write_entries(log, 1, 1, 1, 4, 1);
    mem_log_sync(log);
    io->ops->checkpoint(io, 1, 3, 3);
    io->ops->compact(io, 1, 2, 1);
    assert_false(mem_log_sync(log));
    assert_string_equal(show(log, 1, text), "0: 1 1 1 1");
    write_entries(log, 1, 2, 5, 1, 2);
    assert_true(mem_log_sync(log));
    assert_string_equal(show(log, 1, text), "2: 1 1 2");
    mem_log_content(log, 3, &content);
    assert_true(content.n_entries == 0 && content.hard_state.term == 0);
    mem_log_destroy(&log);
}

static void a_reset_begins_anew(void **state)
{
    struct mem_log *log = mem_log_create();
    struct io_log *io = mem_log_io(log);
    struct io_log_write write = {.group = 1, .token = 9};
    char text[100];

    (void)state;
    write_entries(log, 1, 1, 1, 4, 1);
    io->ops->reset(io, 100, 7, &write);
    mem_log_sync(log);
    assert_string_equal(show(log, 1, text), "0: 1 1 1 1");
    mem_log_sync(log);
    assert_string_equal(show(log, 1, text), "100:");
    write_entries(log, 1, 10, 101, 1, 8);
    mem_log_crash(log, 5);
    assert_string_equal(show(log, 1, text), "100: 8");
    mem_log_destroy(&log);
}

static void after_a_failure_nothing_becomes_durable(void **state)
{
    struct mem_log *log = mem_log_create();
    struct io_event event;
    char text[100];

    (void)state;
    mem_log_fail(log, ST_IO);
    write_entries(log, 1, 1, 1, 1, 1);
    write_entries(log, 1, 2, 2, 1, 1);
    assert_true(mem_log_sync(log) && mem_log_sync(log));
    assert_true(mem_log_take(log, &event) && event.log.status == ST_IO);
    assert_true(mem_log_take(log, &event) && event.log.status == ST_IO);
    mem_log_crash(log, 0);
    assert_string_equal(show(log, 1, text), "0:");
    mem_log_destroy(&log);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_map_equals_its_model_and_its_copies_stay),
        cmocka_unit_test(a_crash_goes_back_to_the_last_finished_checkpoint),
        cmocka_unit_test(iteration_stays_within_range_and_kind_in_order),
        cmocka_unit_test(dropped_ranges_come_back_with_a_crash_and_not_after_a_checkpoint),
        cmocka_unit_test(a_snapshot_is_one_state_however_it_is_cut),
        cmocka_unit_test(chunks_that_do_not_fit_change_nothing),
        cmocka_unit_test(faults_hit_as_often_as_told),
        cmocka_unit_test(only_what_was_synced_survives),
        cmocka_unit_test(compaction_and_checkpoints_ride_with_the_next_write),
        cmocka_unit_test(a_reset_begins_anew),
        cmocka_unit_test(after_a_failure_nothing_becomes_durable),
    };

    return cmocka_run_group_tests_name("rsm_mem", tests, NULL, NULL);
}
