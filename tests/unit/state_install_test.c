/* Snapshots sent and received: the stream of one store becomes the state of another, through
 * interruptions at every chunk, chunks of other snapshots, damage and crashes. */
#include <fcntl.h>
#include <sys/stat.h>

#include "raft/util/crc32c.h"
#include "tests/unit/state_kit.h"

#define CHUNK     300
#define N_RECORDS 60

/* The chunks of a snapshot, one after the other. */
struct stream {
    struct buf chunks[200];
    uint64_t offsets[200];
    size_t n;
    struct io_snapshot snapshot;
};

static void stream_fini(struct stream *stream)
{
    for (size_t i = 0; i < stream->n; i++) {
        buf_fini(&stream->chunks[i]);
    }
    stream->n = 0;
}

/* Opens a snapshot, which must be of that index (0: of any). */
static void stream_open(struct stream *stream, struct kit *kit, raft_index index)
{
    kit->io->ops->snapshot_open(kit->io, &stream->snapshot);
    assert_true(stream->snapshot.index > 0);
    assert_true(index == 0 || stream->snapshot.index == index);
    assert_true(slice_equal(stream->snapshot.extra, slice_text("extra")));
    stream->n = 0;
}

/* Reads the open snapshot to its end. */
static void stream_read_rest(struct stream *stream, struct kit *kit, size_t max_bytes)
{
    uint64_t offset = 0;
    bool done = false;

    while (!done) {
        struct kit_event *event = kit_read_chunk(kit, stream->snapshot.id, offset, max_bytes);

        assert_int_equal(event->event.snapshot.status, ST_OK);
        assert_int_equal(event->event.snapshot.id, stream->snapshot.id);
        assert_int_equal(event->event.snapshot.token, offset + 1000);
        assert_true(stream->n < 200);
        stream->offsets[stream->n] = offset;
        offset += event->event.snapshot.data.len;
        stream->chunks[stream->n++] = buf_take(&event->bytes);
        done = event->event.snapshot.done;
        kit_free_event(&event);
    }
    kit->io->ops->snapshot_close(kit->io, stream->snapshot.id);
}

/* Reads a whole snapshot of the store's last checkpoint. */
static void stream_read(struct stream *stream, struct kit *kit, size_t max_bytes)
{
    stream_open(stream, kit, 0);
    stream_read_rest(stream, kit, max_bytes);
}

/* A store with records in ranges 0, 5 and 9, one checkpoint at the index, and a record in range 6
 * that is no part of it. */
static void fill_source(struct kit *kit, raft_index index, const char *mark)
{
    const uint64_t ranges[] = {5, 9};

    for (int i = 0; i < N_RECORDS; i++) {
        char key[32], value[64];

        snprintf(key, sizeof(key), "key%03d", i);
        snprintf(value, sizeof(value), "%s value of %d", mark, i);
        kit_put(kit, (uint64_t[]){0, 5, 9}[i % 3], key, value);
    }
    kit_put(kit, 6, "foreign", "not in the list");
    kit_checkpoint(kit, index, ranges, 2);
}

static void expect_source(struct kit *kit, const char *mark)
{
    for (int i = 0; i < N_RECORDS; i++) {
        char key[32], value[64];

        snprintf(key, sizeof(key), "key%03d", i);
        snprintf(value, sizeof(value), "%s value of %d", mark, i);
        kit_expect(kit, (uint64_t[]){0, 5, 9}[i % 3], key, value);
    }
    kit_expect(kit, 6, "foreign", NULL);
    kit_expect(kit, 0, "old", NULL);
}

/* A store that holds something else. */
static void fill_old(struct kit *kit)
{
    kit_put(kit, 0, "old", "state");
    kit_put(kit, 4, "old", "range");
    kit_checkpoint(kit, 10, (uint64_t[]){4}, 1);
}

static void expect_old(struct kit *kit)
{
    kit_expect(kit, 0, "old", "state");
    kit_expect(kit, 4, "old", "range");
    kit_expect(kit, 0, "key000", NULL);
}

/* Sends a chunk and expects the durable offset in the answer. */
static void send_chunk(struct kit *kit, const struct stream *stream, size_t i, uint64_t durable,
                       enum status status)
{
    struct kit_event *event;

    kit->io->ops->install_chunk(kit->io, 100, 3, stream->offsets[i], buf_slice(&stream->chunks[i]),
                                i + 1 == stream->n);
    event = kit_wait(kit, IO_EVENT_INSTALL_CHUNK);
    assert_int_equal(event->event.install.status, status);
    assert_int_equal(event->event.install.index, 100);
    assert_int_equal(event->event.install.term, 3);
    assert_int_equal(event->event.install.offset, durable);
    kit_free_event(&event);
}

static uint64_t chunk_end(const struct stream *stream, size_t i)
{
    return stream->offsets[i] + stream->chunks[i].len;
}

static void send_last(struct kit *kit, const struct stream *stream, enum status status)
{
    struct kit_event *event;

    kit->io->ops->install_chunk(kit->io, 100, 3, stream->offsets[stream->n - 1],
                                buf_slice(&stream->chunks[stream->n - 1]), true);
    event = kit_wait(kit, IO_EVENT_INSTALLED);
    assert_int_equal(event->event.install.status, status);
    assert_int_equal(event->event.install.index, 100);
    assert_int_equal(event->event.install.term, 3);
    if (status == ST_OK) {
        assert_true(slice_equal(event->event.install.extra, slice_text("extra")));
    }
    kit_free_event(&event);
}

static void send_from(struct kit *kit, const struct stream *stream, size_t from)
{
    for (size_t i = from; i + 1 < stream->n; i++) {
        send_chunk(kit, stream, i, chunk_end(stream, i), ST_OK);
    }
    send_last(kit, stream, ST_OK);
}

static int count_databases(const struct kit *kit)
{
    int n = 0;

    for (int i = 0; i < 50; i++) {
        char path[120];

        snprintf(path, sizeof(path), "%s/db-%d", kit->state, i);
        n += access(path, F_OK) == 0;
    }
    return n;
}

struct pair {
    struct kit source, target;
    struct stream stream;
};

static void pair_init(struct pair *pair)
{
    kit_init(&pair->source);
    kit_open(&pair->source);
    fill_source(&pair->source, 100, "first");
    stream_read(&pair->stream, &pair->source, CHUNK);
    assert_true(pair->stream.n > 5);
    kit_init(&pair->target);
    kit_open(&pair->target);
    fill_old(&pair->target);
}

static void pair_fini(struct pair *pair)
{
    stream_fini(&pair->stream);
    kit_fini(&pair->source);
    kit_fini(&pair->target);
}

static void a_stream_becomes_the_state_of_another_store(void **state)
{
    struct pair pair;

    (void)state;
    pair_init(&pair);
    send_from(&pair.target, &pair.stream, 0);
    expect_source(&pair.target, "first");
    kit_expect(&pair.target, 4, "old", NULL);

    /* It is durable at once, ahead of what the log knows, and goes on being a state. */
    kit_close(&pair.target);
    assert_int_equal(kit_try_open(&pair.target, 1, 10), ST_OK);
    assert_int_equal(pair.target.meta.index, 100);
    assert_int_equal(pair.target.meta.term, 3);
    assert_int_equal(pair.target.meta.checkpoint, 2);
    assert_true(slice_equal(buf_slice(&pair.target.meta.extra), slice_text("extra")));
    expect_source(&pair.target, "first");
    kit_put(&pair.target, 5, "more", "later");
    assert_int_equal(kit_checkpoint(&pair.target, 120, (uint64_t[]){5, 9}, 2), 3);
    kit_close(&pair.target);
    assert_int_equal(kit_try_open(&pair.target, 3, 120), ST_OK);
    kit_expect(&pair.target, 5, "more", "later");
    assert_int_equal(count_databases(&pair.target), 1);
    pair_fini(&pair);
}

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

/* Cut off after every chunk in turn, by a crash: the old state stands, and the transfer goes on
 * where it was. */
static void goes_on_after_a_crash_at_every_chunk(void **state)
{
    struct pair pair;

    (void)state;
    pair_init(&pair);
    for (size_t i = 0; i + 1 < pair.stream.n; i++) {
        send_chunk(&pair.target, &pair.stream, i, chunk_end(&pair.stream, i), ST_OK);
        expect_old(&pair.target);
        kit_close(&pair.target);
        assert_int_equal(kit_try_open(&pair.target, 1, 10), ST_OK);
        assert_int_equal(pair.target.meta.index, 10);
        expect_old(&pair.target);
        /* The sender does not know and repeats an earlier one: told where to go on. */
        send_chunk(&pair.target, &pair.stream, 0, chunk_end(&pair.stream, i), ST_OK);
    }
    send_last(&pair.target, &pair.stream, ST_OK);
    expect_source(&pair.target, "first");
    pair_fini(&pair);
}

static void a_chunk_out_of_turn_changes_nothing(void **state)
{
    struct pair pair;

    (void)state;
    pair_init(&pair);
    send_chunk(&pair.target, &pair.stream, 1, 0, ST_OK);
    send_chunk(&pair.target, &pair.stream, pair.stream.n - 1, 0, ST_OK);
    send_chunk(&pair.target, &pair.stream, 0, chunk_end(&pair.stream, 0), ST_OK);
    send_chunk(&pair.target, &pair.stream, 2, chunk_end(&pair.stream, 0), ST_OK);
    send_chunk(&pair.target, &pair.stream, 0, chunk_end(&pair.stream, 0), ST_OK);
    send_from(&pair.target, &pair.stream, 1);
    expect_source(&pair.target, "first");
    pair_fini(&pair);
}

static void another_snapshot_begins_anew(void **state)
{
    struct pair pair;
    struct stream newer;
    struct kit_event *event;

    (void)state;
    pair_init(&pair);
    send_chunk(&pair.target, &pair.stream, 0, chunk_end(&pair.stream, 0), ST_OK);
    send_chunk(&pair.target, &pair.stream, 1, chunk_end(&pair.stream, 1), ST_OK);
    fill_source(&pair.source, 200, "second");
    stream_read(&newer, &pair.source, CHUNK);
    for (size_t i = 0; i < newer.n; i++) {
        pair.target.io->ops->install_chunk(pair.target.io, 200, 3, newer.offsets[i],
                                           buf_slice(&newer.chunks[i]), i + 1 == newer.n);
        event =
            kit_wait(&pair.target, i + 1 == newer.n ? IO_EVENT_INSTALLED : IO_EVENT_INSTALL_CHUNK);
        assert_int_equal(event->event.install.status, ST_OK);
        kit_free_event(&event);
    }
    expect_source(&pair.target, "second");
    /* The older one is refused now: a follower never goes back. */
    send_chunk(&pair.target, &pair.stream, 0, 0, ST_CONFLICT);
    expect_source(&pair.target, "second");
    stream_fini(&newer);
    pair_fini(&pair);
}

static void an_unfinished_one_goes_when_the_state_has_passed_it(void **state)
{
    struct pair pair;

    (void)state;
    pair_init(&pair);
    send_chunk(&pair.target, &pair.stream, 0, chunk_end(&pair.stream, 0), ST_OK);
    assert_int_equal(count_databases(&pair.target), 2);
    kit_checkpoint(&pair.target, 150, NULL, 0);
    assert_int_equal(count_databases(&pair.target), 1);
    send_chunk(&pair.target, &pair.stream, 1, 0, ST_CONFLICT);
    pair_fini(&pair);
}

/* One flipped bit anywhere is noticed at the latest at the end; the old state stands, also after a
 * restart, and a good transfer then succeeds. */
static void a_damaged_stream_is_refused_and_the_old_state_stands(void **state)
{
    struct pair pair;
    struct rng rng;

    (void)state;
    pair_init(&pair);
    rng_init(&rng, 11);
    for (int round = 0; round < 60; round++) {
        size_t victim = rng_below(&rng, pair.stream.n);
        size_t byte = rng_below(&rng, pair.stream.chunks[victim].len);
        uint8_t bit = (uint8_t)(1u << rng_below(&rng, 8));
        bool refused = false;

        pair.stream.chunks[victim].data[byte] ^= bit;
        for (size_t i = 0; i < pair.stream.n && !refused; i++) {
            struct kit_event *event = NULL;

            pair.target.io->ops->install_chunk(pair.target.io, 100, 3, pair.stream.offsets[i],
                                               buf_slice(&pair.stream.chunks[i]),
                                               i + 1 == pair.stream.n);
            while (event == NULL) {
                assert_true(kit_pump(&pair.target, KIT_PATIENCE_S));
                event = kit_take_event(&pair.target);
            }
            refused = event->event.install.status == ST_CORRUPT;
            assert_true(refused || event->event.install.status == ST_OK);
            assert_true(refused || event->event.type == IO_EVENT_INSTALL_CHUNK);
            assert_true(!refused || i >= victim);
            kit_free_event(&event);
        }
        assert_true(refused);
        pair.stream.chunks[victim].data[byte] ^= bit;
        expect_old(&pair.target);
        assert_int_equal(count_databases(&pair.target), 1);
        if (round % 20 == 0) {
            kit_close(&pair.target);
            assert_int_equal(kit_try_open(&pair.target, 1, 10), ST_OK);
            expect_old(&pair.target);
        }
    }
    send_from(&pair.target, &pair.stream, 0);
    expect_source(&pair.target, "first");
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

/* Runs "verb from to". */
static void run(const char *verb, const char *from, const char *to)
{
    char command[300];

    snprintf(command, sizeof(command), "%s %s %s", verb, from, to);
    assert_int_equal(system(command), 0);
}

/* A crash when the new database was complete, but CURRENT not yet switched: the old state, and the
 * new database is of no use any more. */
static void a_crash_before_the_switch_leaves_the_old_state(void **state)
{
    struct pair pair;
    char kept[100], from[120], to[120];

    (void)state;
    pair_init(&pair);
    for (size_t i = 0; i + 1 < pair.stream.n; i++) {
        send_chunk(&pair.target, &pair.stream, i, chunk_end(&pair.stream, i), ST_OK);
    }
    kit_close(&pair.target);
    snprintf(kept, sizeof(kept), "%s.kept", pair.target.state);
    run("cp -r", pair.target.state, kept);
    kit_open(&pair.target);
    send_last(&pair.target, &pair.stream, ST_OK);
    kit_close(&pair.target);
    snprintf(from, sizeof(from), "%s/db-2", pair.target.state);
    snprintf(to, sizeof(to), "%s/db-2", kept);
    run("rm -r", to, "");
    run("mv", from, to);
    run("rm -r", pair.target.state, "");
    run("mv", kept, pair.target.state);
    assert_int_equal(kit_try_open(&pair.target, 1, 10), ST_OK);
    assert_int_equal(pair.target.meta.index, 10);
    expect_old(&pair.target);
    /* The transfer begins anew. */
    send_chunk(&pair.target, &pair.stream, 3, 0, ST_OK);
    assert_int_equal(count_databases(&pair.target), 1);
    send_from(&pair.target, &pair.stream, 0);
    expect_source(&pair.target, "first");
    pair_fini(&pair);
}

/* What a crash right after the switch leaves: the old database, and odds and ends. */
static void left_overs_of_a_crash_after_the_switch_are_removed(void **state)
{
    struct pair pair;
    char path[120], from[120];

    (void)state;
    pair_init(&pair);
    send_from(&pair.target, &pair.stream, 0);
    kit_close(&pair.target);
    snprintf(path, sizeof(path), "%s/CURRENT.tmp", pair.target.state);
    close(open(path, O_WRONLY | O_CREAT, 0600));
    snprintf(path, sizeof(path), "%s/db-1", pair.target.state);
    snprintf(from, sizeof(from), "%s/db-2", pair.target.state);
    run("cp -r", from, path);
    snprintf(path, sizeof(path), "%s/db-9", pair.target.state);
    assert_int_equal(mkdir(path, 0700), 0);
    kit_open(&pair.target);
    expect_source(&pair.target, "first");
    kit_checkpoint(&pair.target, 200, NULL, 0); /* queued behind the cleaning up */
    assert_int_equal(count_databases(&pair.target), 1);
    pair_fini(&pair);
}

static void an_open_snapshot_outlives_an_install(void **state)
{
    struct pair pair;
    struct io_snapshot snapshot;
    struct kit_event *event;
    size_t first;

    (void)state;
    pair_init(&pair);
    pair.target.io->ops->snapshot_open(pair.target.io, &snapshot);
    event = kit_read_chunk(&pair.target, snapshot.id, 0, 1);
    first = event->event.snapshot.data.len;
    kit_free_event(&event);
    send_from(&pair.target, &pair.stream, 0);
    expect_source(&pair.target, "first");
    event = kit_read_chunk(&pair.target, snapshot.id, first, 1000);
    assert_int_equal(event->event.snapshot.status, ST_OK);
    assert_true(event->event.snapshot.done);
    assert_non_null(
        memmem(event->event.snapshot.data.data, event->event.snapshot.data.len, "state", 5));
    kit_free_event(&event);
    pair.target.io->ops->snapshot_close(pair.target.io, snapshot.id);
    pair_fini(&pair);
}

static void a_checkpoint_overtaken_by_an_install_is_cancelled(void **state)
{
    struct pair pair;
    struct kit_event *event;
    size_t last;

    (void)state;
    pair_init(&pair);
    last = pair.stream.n - 1;
    for (size_t i = 0; i < last; i++) {
        send_chunk(&pair.target, &pair.stream, i, chunk_end(&pair.stream, i), ST_OK);
    }
    pair.target.io->ops->install_chunk(pair.target.io, 100, 3, pair.stream.offsets[last],
                                       buf_slice(&pair.stream.chunks[last]), true);
    kit_put(&pair.target, 0, "old", "newer");
    kit_begin_checkpoint(&pair.target, 11, 2, "x", NULL, 0);
    kit_put(&pair.target, 0, "old", "newest");
    event = kit_wait(&pair.target, IO_EVENT_INSTALLED);
    assert_int_equal(event->event.install.status, ST_OK);
    kit_free_event(&event);
    expect_source(&pair.target, "first");
    event = kit_wait(&pair.target, IO_EVENT_CHECKPOINT);
    assert_int_equal(event->event.checkpoint.status, ST_CANCELLED);
    kit_free_event(&event);
    expect_source(&pair.target, "first");
    assert_int_equal(kit_checkpoint(&pair.target, 101, (uint64_t[]){5, 9}, 2), 3);
    kit_close(&pair.target);
    assert_int_equal(kit_try_open(&pair.target, 3, 101), ST_OK);
    expect_source(&pair.target, "first");
    pair_fini(&pair);
}

/* The checkpoint is on disk, but not yet known to be finished: a snapshot shows the one before. */
static void a_snapshot_never_shows_a_checkpoint_that_is_not_finished(void **state)
{
    struct pair pair;
    struct stream again;
    struct kit_event *event;

    (void)state;
    pair_init(&pair);
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

/* Ends it, with everything right but what is asked to be wrong, sends it, gives the answer. */
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

/* Arbitrary bytes are refused, whatever they are. */
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

/* ---- Closing ---- */

static void closing_while_work_is_under_way_leaks_nothing(void **state)
{
    struct pair pair;
    struct io_snapshot snapshot;

    (void)state;
    pair_init(&pair);
    for (int round = 0; round < 20; round++) {
        kit_put(&pair.target, 0, "old", "state");
        pair.target.io->ops->snapshot_open(pair.target.io, &snapshot);
        kit_begin_checkpoint(&pair.target, 10, 2, "x", (uint64_t[]){4}, 1);
        pair.target.io->ops->snapshot_read(pair.target.io, snapshot.id, 0, 100, 1);
        pair.target.io->ops->keep_ranges(pair.target.io, (uint64_t[]){4}, 1);
        for (size_t i = 0; i + (round % 2) < pair.stream.n; i++) {
            pair.target.io->ops->install_chunk(pair.target.io, 100, 3, pair.stream.offsets[i],
                                               buf_slice(&pair.stream.chunks[i]),
                                               i + 1 == pair.stream.n);
        }
        pair.target.io->ops->snapshot_close(pair.target.io, snapshot.id);
        kit_close(&pair.target);
        kit_open(&pair.target);
        if (pair.target.meta.index == 100) { /* it came through: begin again with an old one */
            expect_source(&pair.target, "first");
            kit_fini(&pair.target);
            kit_init(&pair.target);
            kit_open(&pair.target);
            fill_old(&pair.target);
        }
        expect_old(&pair.target);
    }
    pair_fini(&pair);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_stream_becomes_the_state_of_another_store),
        cmocka_unit_test(the_installed_store_gives_the_same_stream),
        cmocka_unit_test(the_same_offset_always_gives_the_same_bytes),
        cmocka_unit_test(only_places_between_records_can_be_read),
        cmocka_unit_test(a_large_record_travels_in_one_chunk),
        cmocka_unit_test(goes_on_after_a_crash_at_every_chunk),
        cmocka_unit_test(a_chunk_out_of_turn_changes_nothing),
        cmocka_unit_test(another_snapshot_begins_anew),
        cmocka_unit_test(an_unfinished_one_goes_when_the_state_has_passed_it),
        cmocka_unit_test(a_damaged_stream_is_refused_and_the_old_state_stands),
        cmocka_unit_test(a_stream_cut_short_is_refused),
        cmocka_unit_test(a_crash_before_the_switch_leaves_the_old_state),
        cmocka_unit_test(left_overs_of_a_crash_after_the_switch_are_removed),
        cmocka_unit_test(an_open_snapshot_outlives_an_install),
        cmocka_unit_test(a_checkpoint_overtaken_by_an_install_is_cancelled),
        cmocka_unit_test(a_snapshot_never_shows_a_checkpoint_that_is_not_finished),
        cmocka_unit_test(a_stream_that_breaks_a_rule_is_refused),
        cmocka_unit_test(random_bytes_are_refused),
        cmocka_unit_test(closing_while_work_is_under_way_leaks_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
