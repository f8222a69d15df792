/* Snapshots as they arrive: a stream of chunks for the state store, on LevelDB, made of a header,
 * records and an end, right ones and wrong ones, cut into chunks anywhere and at wrong offsets. The
 * store lives on from input to input, each a newer snapshot.
 *
 * What is installed is exactly the records of the stream, which ascended and were all of its
 * ranges; a stream that is refused leaves the state as it was. Each chunk is answered once. */
#include "raft/store/state_private.h"
#include "raft/util/crc32c.h"
#include "tests/fuzz/fuzz.h"
#include "tests/unit/state_kit.h"

#define GROUP       7
#define MAX_RECORDS 16

struct story {
    struct kit kit;
    raft_index index; /* of the last snapshot */
};

static struct story story;

static void close_at_exit(void)
{
    kit_fini(&story.kit);
}

static void begin(void)
{
    kit_init(&story.kit);
    story.kit.options.trace = NULL;
    kit_open(&story.kit);
    kit_put(&story.kit, 0, "mark", "first");
    story.index = 10;
    kit_checkpoint(&story.kit, story.index, NULL, 0);
    atexit(close_at_exit);
}

/* ---- The stream ---- */

static void put_header(struct script *script, struct buf *out, raft_index index)
{
    uint8_t dice = fuzz_u8(script);
    const uint64_t ranges[] = {3, 5};
    size_t at = out->len;

    buf_put_u32(out, STATE_STREAM_MAGIC);
    buf_put_u16(out, STATE_STREAM_VERSION);
    buf_put_u16(out, 0);
    buf_put_u32(out, GROUP);
    buf_put_u64(out, index);
    buf_put_u64(out, 2);
    state_meta_put_ranges(out, ranges, 2);
    buf_put_bytes(out, fuzz_take(script, dice % 8));
    if (dice > 240) {
        out->data[at + fuzz_u8(script) % (out->len - at)] ^= fuzz_u8(script);
    }
}

/* Keys ascend, mostly: the n-th is n in text. */
static void put_record(struct script *script, struct buf *out, uint32_t n)
{
    uint8_t dice = fuzz_u8(script);
    uint64_t range = n < 4 ? 0 : n < 8 ? 3 : 5;
    size_t at = out->len;
    uint8_t key[2] = {'k', (uint8_t)n};

    buf_put_u8(out, STATE_STREAM_RECORD);
    buf_put_u64(out, dice > 250 ? dice : range);
    buf_put_u8(out, 1 + (dice > 245));
    buf_put_bytes(out, slice_of(key, dice % 4 == 0 ? 1 : 2));
    buf_put_bytes(out, fuzz_take(script, dice % 16));
    if (dice == 244) {
        out->data[at + fuzz_u8(script) % (out->len - at)] ^= fuzz_u8(script);
    }
}

static void put_end(struct script *script, struct buf *out, uint32_t n)
{
    uint8_t dice = fuzz_u8(script);
    uint32_t crc;

    buf_put_u8(out, STATE_STREAM_END);
    buf_put_u64(out, n + (dice > 250));
    crc = crc32c(0, out->data, out->len);
    buf_put_u32(out, crc ^ (dice == 250));
    if (dice > 240 && dice < 246) {
        buf_put_slice(out, fuzz_take(script, 4));
    }
}

static void make_stream(struct script *script, struct buf *out, raft_index index)
{
    uint32_t n = fuzz_below(script, MAX_RECORDS);

    put_header(script, out, index);
    for (uint32_t i = 0; i < n; i++) {
        put_record(script, out, i);
    }
    put_end(script, out, n);
    if (fuzz_u8(script) > 250) {
        buf_put_slice(out, fuzz_rest(script));
    }
}

/* ---- What was installed ---- */

/* The records of a stream that was taken are in the state, in that order, and nothing else is. */
static void check_installed(struct slice stream)
{
    struct reader reader = reader_of(stream);
    struct io_state *io = story.kit.io;
    uint64_t *ranges;
    size_t n_ranges, found = 0;
    uint64_t count = 0;

    reader_take(&reader, 28);
    ASSERT(state_meta_get_ranges(&reader, &ranges, &n_ranges));
    reader_bytes(&reader, 100);
    while (reader_u8(&reader) == STATE_STREAM_RECORD) {
        struct io_key key = {.range = reader_u64(&reader), .kind = reader_u8(&reader)};
        struct slice value;
        struct buf got = {0};

        key.key = reader_bytes(&reader, 100);
        value = reader_bytes(&reader, 1000);
        ASSERT(reader_ok(&reader));
        ASSERT(io->ops->get(io, key, &got) == ST_OK);
        ASSERT(slice_equal(buf_slice(&got), value));
        buf_fini(&got);
        count++;
    }
    ASSERT(reader_u64(&reader) == count);
    for (uint64_t range = 0; range <= 5; range++) {
        for (uint32_t kind = 0; kind < 256; kind += kind < 2 ? 1 : 254) {
            struct io_iter *iter =
                io->ops->iter_open(io, (struct io_key){range, (uint8_t)kind, {NULL, 0}});
            struct slice key, value;

            while (io->ops->iter_next(iter, &key, &value)) {
                found++;
            }
            ASSERT(io->ops->iter_close(iter) == ST_OK);
        }
    }
    ASSERT(found <= count); /* kinds of damaged records may be others */
    mem_free(ranges);
}

static uint64_t sum_of_state(void)
{
    struct io_state *io = story.kit.io;
    uint64_t sum = 0;

    for (uint64_t range = 0; range <= 5; range++) {
        struct io_iter *iter = io->ops->iter_open(io, (struct io_key){range, 1, {NULL, 0}});
        struct slice key, value;

        while (io->ops->iter_next(iter, &key, &value)) {
            sum = sum * 31 + crc32c(crc32c(0, key.data, key.len), value.data, value.len);
        }
        ASSERT(io->ops->iter_close(iter) == ST_OK);
    }
    return sum;
}

/* ---- Chunks ---- */

/* The next event, however long this process is stopped meanwhile. */
static struct kit_event *await_event(void)
{
    struct kit_event *event;
    int patience = 10;

    while ((event = kit_take_event(&story.kit)) == NULL) {
        ASSERT(kit_pump(&story.kit, KIT_PATIENCE_S) || patience-- > 0);
    }
    return event;
}

/* Sends one; true if the snapshot was installed. *offset: where it says to go on. */
static bool send_chunk(raft_index index, uint64_t *offset, struct slice data, bool done)
{
    struct kit_event *event;
    bool installed;

    story.kit.io->ops->install_chunk(story.kit.io, index, 2, *offset, data, done);
    event = await_event();
    ASSERT(event->event.type == IO_EVENT_INSTALL_CHUNK || event->event.type == IO_EVENT_INSTALLED);
    ASSERT(event->event.install.index == index && event->event.install.term == 2);
    installed = event->event.type == IO_EVENT_INSTALLED && event->event.install.status == ST_OK;
    ASSERT(!installed || done);
    if (event->event.type == IO_EVENT_INSTALL_CHUNK) {
        *offset = event->event.install.offset;
    }
    ASSERT(event->event.install.status == ST_OK || event->event.install.status == ST_CORRUPT);
    ASSERT(event->event.install.status == ST_OK || event->event.install.offset == 0);
    kit_free_event(&event);
    return installed;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct script script = script_of(data, size);
    struct buf stream = {0};
    uint64_t offset = 0, sum;
    raft_index index;
    bool installed = false;

    if (story.index == 0) {
        begin();
    }
    index = story.index + 1;
    make_stream(&script, &stream, index);
    sum = sum_of_state();
    for (int i = 0; i < 12 && !installed; i++) {
        uint8_t dice = fuzz_u8(&script);
        uint64_t at = dice > 250 ? dice - 251u : offset;
        size_t left = at < stream.len ? stream.len - at : 0;
        size_t len = dice < 100 || i == 11 ? left : dice % 64 < left ? dice % 64 : left;

        installed =
            send_chunk(index, &at, slice_of(stream.data + (left > 0 ? stream.len - left : 0), len),
                       len == left && dice % 32 != 31);
        offset = at;
        ASSERT(installed || sum_of_state() == sum);
    }
    if (installed) {
        check_installed(buf_slice(&stream));
        story.index = index;
        if (fuzz_u8(&script) < 20) {
            sum = sum_of_state();
            kit_close(&story.kit);
            kit_open(&story.kit);
            ASSERT(story.kit.meta.index == index && sum_of_state() == sum);
        }
    } else {
        story.index = index; /* a newer one makes it forget the half of this one */
    }
    buf_fini(&stream);
    return 0;
}
