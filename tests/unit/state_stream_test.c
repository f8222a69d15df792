/* The stream of a snapshot: that it is the same from the same state, that it can be read again from
 * every chunk, and that a stream that breaks a rule is refused. */
#include "raft/util/crc32c.h"
#include "tests/unit/state_stream.h"

static void the_installed_store_gives_the_same_stream(void **state)
{
    struct pair pair;
    struct stream again;

    (void)state;
    pair_init(&pair);
    send_from(&pair.target, &pair.stream, 0);
    stream_read(&again, &pair.target, CHUNK);
    assert_int_equal(again.n, pair.stream.n);
    for (size_t i = 0; i < again.n; i++) {
        assert_true(slice_equal(buf_slice(&again.chunks[i]), buf_slice(&pair.stream.chunks[i])));
    }
    stream_fini(&again);
    pair_fini(&pair);
}

static void the_same_offset_always_gives_the_same_bytes(void **state)
{
    struct pair pair;
    struct io_snapshot snapshot;
    struct rng rng;

    (void)state;
    pair_init(&pair);
    pair.source.io->ops->snapshot_open(pair.source.io, &snapshot);
    rng_init(&rng, 4);
    for (int i = 0; i < 200; i++) {
        size_t at = rng_below(&rng, pair.stream.n);
        struct kit_event *event =
            kit_read_chunk(&pair.source, snapshot.id, pair.stream.offsets[at], CHUNK);

        assert_int_equal(event->event.snapshot.status, ST_OK);
        assert_int_equal(event->event.snapshot.done, at + 1 == pair.stream.n);
        assert_true(slice_equal(event->event.snapshot.data, buf_slice(&pair.stream.chunks[at])));
        kit_free_event(&event);
        if (i == 100) { /* what is written later does not show */
            fill_source(&pair.source, 200, "second");
        }
    }
    pair_fini(&pair);
}

static void only_places_between_records_can_be_read(void **state)
{
    struct pair pair;
    struct io_snapshot snapshot;
    struct kit_event *event;
    uint64_t total;

    (void)state;
    pair_init(&pair);
    total = chunk_end(&pair.stream, pair.stream.n - 1);
    pair.source.io->ops->snapshot_open(pair.source.io, &snapshot);
    event = kit_read_chunk(&pair.source, snapshot.id, pair.stream.offsets[2] + 1, CHUNK);
    assert_int_equal(event->event.snapshot.status, ST_INVALID);
    assert_int_equal(event->event.snapshot.data.len, 0);
    kit_free_event(&event);
    event = kit_read_chunk(&pair.source, snapshot.id, total + 5, CHUNK);
    assert_int_equal(event->event.snapshot.status, ST_INVALID);
    kit_free_event(&event);
    event = kit_read_chunk(&pair.source, snapshot.id, total, CHUNK);
    assert_int_equal(event->event.snapshot.status, ST_OK);
    assert_true(event->event.snapshot.done);
    assert_int_equal(event->event.snapshot.data.len, 0);
    kit_free_event(&event);
    pair.source.io->ops->snapshot_close(pair.source.io, snapshot.id);
    event = kit_read_chunk(&pair.source, snapshot.id, 0, CHUNK);
    assert_int_equal(event->event.snapshot.status, ST_INVALID);
    kit_free_event(&event);
    pair_fini(&pair);
}

static void a_large_record_travels_in_one_chunk(void **state)
{
    struct pair pair;
    struct buf large = {0};
    struct stream stream;

    (void)state;
    pair_init(&pair);
    memset(buf_extend(&large, 1u << 20), 'L', 1u << 20);
    pair.source.io->ops->put(pair.source.io, kit_key(9, 1, "zlarge"), buf_slice(&large));
    kit_checkpoint(&pair.source, 100, (uint64_t[]){5, 9}, 2);
    stream_read(&stream, &pair.source, 5000);
    assert_true(stream.n < 5);
    send_from(&pair.target, &stream, 0);
    stream_fini(&stream);
    buf_clear(&pair.target.meta.extra);
    assert_int_equal(
        pair.target.io->ops->get(pair.target.io, kit_key(9, 1, "zlarge"), &pair.target.meta.extra),
        ST_OK);
    assert_true(slice_equal(buf_slice(&pair.target.meta.extra), buf_slice(&large)));
    buf_fini(&large);
    pair_fini(&pair);
}

static void a_stream_cut_short_is_refused(void **state)
{
    struct pair pair;

    (void)state;
    pair_init(&pair);
    for (size_t cut = 0; cut < pair.stream.chunks[0].len; cut += 7) {
        struct kit_event *event;

        pair.target.io->ops->install_chunk(pair.target.io, 100, 3, 0,
                                           slice_of(pair.stream.chunks[0].data, cut), true);
        event = kit_wait(&pair.target, IO_EVENT_INSTALLED);
        assert_int_equal(event->event.install.status, ST_CORRUPT);
        kit_free_event(&event);
    }
    expect_old(&pair.target);
    pair_fini(&pair);
}

static void a_snapshot_never_shows_a_checkpoint_that_is_not_finished(void **state)
{
    struct pair pair;
    struct stream again;
    struct kit_event *event;

    (void)state;
    pair_init(&pair);
    event = kit_read_chunk(&pair.source, 12345, 0, 1); /* the mailbox is empty after this */
    kit_free_event(&event);
    kit_put(&pair.source, 5, "key001", "overwritten");
    kit_remove(&pair.source, 9, "key002");
    kit_begin_checkpoint(&pair.source, 101, 3, "other", (uint64_t[]){5}, 1);
    kit_await_letter(&pair.source);
    stream_open(&again, &pair.source, 100);
    event = kit_wait(&pair.source, IO_EVENT_CHECKPOINT);
    kit_free_event(&event);
    stream_read_rest(&again, &pair.source, CHUNK);
    assert_int_equal(again.n, pair.stream.n);
    for (size_t i = 0; i < again.n; i++) {
        assert_true(slice_equal(buf_slice(&again.chunks[i]), buf_slice(&pair.stream.chunks[i])));
    }
    stream_fini(&again);
    pair_fini(&pair);
}

/* ---- Streams that nobody sends ---- */

struct forgery {
    struct buf bytes;
    uint64_t count;
};

static void forge_header(struct forgery *forgery, uint32_t group, raft_index index)
{
    const uint64_t ranges[] = {5, 9};

    *forgery = (struct forgery){0};
    buf_put(&forgery->bytes, "SKSS", 4);
    buf_put_u16(&forgery->bytes, 1);
    buf_put_u16(&forgery->bytes, 0);
    buf_put_u32(&forgery->bytes, group);
    buf_put_u64(&forgery->bytes, index);
    buf_put_u64(&forgery->bytes, 3);
    buf_put_u32(&forgery->bytes, 2);
    buf_put_u64(&forgery->bytes, ranges[0]);
    buf_put_u64(&forgery->bytes, ranges[1]);
    buf_put_bytes(&forgery->bytes, slice_text("extra"));
}

static void forge_record(struct forgery *forgery, uint64_t range, const char *key)
{
    buf_put_u8(&forgery->bytes, 1);
    buf_put_u64(&forgery->bytes, range);
    buf_put_u8(&forgery->bytes, 1);
    buf_put_bytes(&forgery->bytes, slice_text(key));
    buf_put_bytes(&forgery->bytes, slice_text("value"));
    forgery->count++;
}

static enum status send_forgery(struct kit *kit, struct forgery *forgery, uint64_t count,
                                uint32_t crc, const char *after)
{
    struct kit_event *event;
    enum status status;

    buf_put_u8(&forgery->bytes, 2);
    buf_put_u64(&forgery->bytes, forgery->count + count);
    buf_put_u32(&forgery->bytes, crc ^ crc32c(0, forgery->bytes.data, forgery->bytes.len));
    buf_put_slice(&forgery->bytes, slice_text(after));
    kit->io->ops->install_chunk(kit->io, 100, 3, 0, buf_slice(&forgery->bytes), true);
    event = kit_wait(kit, IO_EVENT_INSTALLED);
    status = event->event.install.status;
    kit_free_event(&event);
    buf_fini(&forgery->bytes);
    return status;
}

static void a_stream_that_breaks_a_rule_is_refused(void **state)
{
    struct forgery forgery;
    struct pair pair;
    struct kit *kit = &pair.target;

    (void)state;
    pair_init(&pair);
    forge_header(&forgery, 7, 100);
    forge_record(&forgery, 5, "b");
    forge_record(&forgery, 5, "a"); /* out of order */
    assert_int_equal(send_forgery(kit, &forgery, 0, 0, ""), ST_CORRUPT);
    forge_header(&forgery, 7, 100);
    forge_record(&forgery, 5, "a");
    forge_record(&forgery, 5, "a"); /* twice */
    assert_int_equal(send_forgery(kit, &forgery, 0, 0, ""), ST_CORRUPT);
    forge_header(&forgery, 7, 100);
    forge_record(&forgery, 6, "a"); /* a range that is not listed */
    assert_int_equal(send_forgery(kit, &forgery, 0, 0, ""), ST_CORRUPT);
    forge_header(&forgery, 8, 100); /* another group's */
    assert_int_equal(send_forgery(kit, &forgery, 0, 0, ""), ST_CORRUPT);
    forge_header(&forgery, 7, 101); /* not the snapshot that it is said to be */
    assert_int_equal(send_forgery(kit, &forgery, 0, 0, ""), ST_CORRUPT);
    forge_header(&forgery, 7, 100);
    assert_int_equal(send_forgery(kit, &forgery, 1, 0, ""), ST_CORRUPT); /* count */
    forge_header(&forgery, 7, 100);
    assert_int_equal(send_forgery(kit, &forgery, 0, 1, ""), ST_CORRUPT); /* checksum */
    forge_header(&forgery, 7, 100);
    assert_int_equal(send_forgery(kit, &forgery, 0, 0, "x"),
                     ST_CORRUPT); /* goes on after its end */
    expect_old(kit);
    /* And so that it is known that the forger knows his trade: */
    forge_header(&forgery, 7, 100);
    forge_record(&forgery, 0, "a");
    forge_record(&forgery, 9, "b");
    assert_int_equal(send_forgery(kit, &forgery, 0, 0, ""), ST_OK);
    kit_expect(kit, 9, "b", "value");
    pair_fini(&pair);
}

static void random_bytes_are_refused(void **state)
{
    struct pair pair;
    struct rng rng;

    (void)state;
    pair_init(&pair);
    rng_init(&rng, 77);
    for (int round = 0; round < 300; round++) {
        struct forgery forgery;
        struct kit_event *event;
        size_t flips = rng_between(&rng, 1, 4);

        forge_header(&forgery, 7, 100);
        forge_record(&forgery, 0, "a");
        forge_record(&forgery, 5, "b");
        for (size_t i = 0; i < flips; i++) {
            forgery.bytes.data[rng_below(&rng, forgery.bytes.len)] = (uint8_t)rng_next(&rng);
        }
        pair.target.io->ops->install_chunk(pair.target.io, 100, 3, 0, buf_slice(&forgery.bytes),
                                           true);
        event = kit_wait(&pair.target, IO_EVENT_INSTALLED);
        assert_int_equal(event->event.install.status, ST_CORRUPT);
        kit_free_event(&event);
        buf_fini(&forgery.bytes);
    }
    expect_old(&pair.target);
    pair_fini(&pair);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_installed_store_gives_the_same_stream),
        cmocka_unit_test(the_same_offset_always_gives_the_same_bytes),
        cmocka_unit_test(only_places_between_records_can_be_read),
        cmocka_unit_test(a_large_record_travels_in_one_chunk),
        cmocka_unit_test(a_stream_cut_short_is_refused),
        cmocka_unit_test(a_snapshot_never_shows_a_checkpoint_that_is_not_finished),
        cmocka_unit_test(a_stream_that_breaks_a_rule_is_refused),
        cmocka_unit_test(random_bytes_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
