/* What the tests of sending and installing share: the chunks of a snapshot, and a pair of stores,
 * one that sends and one that receives.
 */
#ifndef TESTS_UNIT_STATE_STREAM_H
#define TESTS_UNIT_STATE_STREAM_H

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

static inline void stream_fini(struct stream *stream)
{
    for (size_t i = 0; i < stream->n; i++) {
        buf_fini(&stream->chunks[i]);
    }
    stream->n = 0;
}

/* Opens a snapshot, which must be of that index (0: of any). */
static inline void stream_open(struct stream *stream, struct kit *kit, raft_index index)
{
    kit->io->ops->snapshot_open(kit->io, &stream->snapshot);
    assert_true(stream->snapshot.index > 0);
    assert_true(index == 0 || stream->snapshot.index == index);
    assert_true(slice_equal(stream->snapshot.extra, slice_text("extra")));
    stream->n = 0;
}

/* Reads the open snapshot to its end. */
static inline void stream_read_rest(struct stream *stream, struct kit *kit, size_t max_bytes)
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
static inline void stream_read(struct stream *stream, struct kit *kit, size_t max_bytes)
{
    stream_open(stream, kit, 0);
    stream_read_rest(stream, kit, max_bytes);
}

/* A store with records in ranges 0, 5 and 9, one checkpoint at the index, and a record in range 6
 * that is no part of it. */
static inline void fill_source(struct kit *kit, raft_index index, const char *mark)
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

static inline void expect_source(struct kit *kit, const char *mark)
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
static inline void fill_old(struct kit *kit)
{
    kit_put(kit, 0, "old", "state");
    kit_put(kit, 4, "old", "range");
    kit_checkpoint(kit, 10, (uint64_t[]){4}, 1);
}

static inline void expect_old(struct kit *kit)
{
    kit_expect(kit, 0, "old", "state");
    kit_expect(kit, 4, "old", "range");
    kit_expect(kit, 0, "key000", NULL);
}

/* Sends a chunk and expects the durable offset in the answer. */
static inline void send_chunk(struct kit *kit, const struct stream *stream, size_t i,
                              uint64_t durable, enum status status)
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

static inline uint64_t chunk_end(const struct stream *stream, size_t i)
{
    return stream->offsets[i] + stream->chunks[i].len;
}

static inline void send_last(struct kit *kit, const struct stream *stream, enum status status)
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
        assert_int_equal(event->event.install.offset, chunk_end(stream, stream->n - 1));
    }
    kit_free_event(&event);
}

static inline void send_from(struct kit *kit, const struct stream *stream, size_t from)
{
    for (size_t i = from; i + 1 < stream->n; i++) {
        send_chunk(kit, stream, i, chunk_end(stream, i), ST_OK);
    }
    send_last(kit, stream, ST_OK);
}

static inline int count_databases(const struct kit *kit)
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

static inline void pair_init(struct pair *pair)
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

static inline void pair_fini(struct pair *pair)
{
    stream_fini(&pair->stream);
    kit_fini(&pair->source);
    kit_fini(&pair->target);
}

#endif
