/* Frames and what opens a connection: frame headers, batches, fragments, hellos, refusals, and the
 * inbox that puts fragments together. The first byte says which, and whether checksums are put
 * right first: no fuzzer guesses one. */
#include "raft/net/inbox.h"
#include "raft/util/crc32c.h"
#include "tests/fuzz/fuzz.h"

/* Gives every frame of the bytes, as far as they are some, the checksum that it should have. */
static void mend_checksums(uint8_t *bytes, size_t len)
{
    while (len >= FRAME_HEADER_BYTES) {
        size_t body = get_u32(bytes + 12);

        if (body > len - FRAME_HEADER_BYTES) {
            return;
        }
        set_u32(bytes + 16, crc32c(crc32c(0, bytes, 16), bytes + FRAME_HEADER_BYTES, body));
        bytes += FRAME_HEADER_BYTES + body;
        len -= FRAME_HEADER_BYTES + body;
    }
}

static void check_batch(struct slice body)
{
    struct reader reader = reader_of(body);
    struct slice message;
    uint32_t group;
    uint8_t type;
    struct buf again = {0};

    while (frame_next_message(&reader, &group, &type, &message)) {
        frame_put_message(&again, group, type, message);
    }
    if (reader_ok(&reader)) {
        ASSERT(slice_equal(body, buf_slice(&again)));
    }
    buf_fini(&again);
}

static void check_fragment(const struct frame *frame)
{
    struct frame_fragment fragment;
    struct buf again = {0};

    if (!frame_decode_fragment(frame->body, &fragment)) {
        return;
    }
    ASSERT(fragment.total <= FRAME_MAX_MESSAGE && fragment.offset < fragment.total);
    ASSERT(fragment.bytes.len > 0 && fragment.bytes.len <= fragment.total - fragment.offset);
    frame_put_fragment(&again, &fragment);
    ASSERT(slice_equal(frame->body,
                       slice_of(again.data + FRAME_HEADER_BYTES, again.len - FRAME_HEADER_BYTES)));
    buf_fini(&again);
}

/* What is known of a frame before all of it is there must not be taken back later. */
static void check_prefixes(struct slice bytes, enum frame_result whole, size_t whole_need)
{
    for (size_t len = 0; len < bytes.len && len < 64; len++) {
        struct frame frame;
        size_t taken, need;
        enum status reason;
        enum frame_result result =
            frame_decode(slice_of(bytes.data, len), &frame, &taken, &need, &reason);

        ASSERT(result != FRAME_BAD || whole == FRAME_BAD);
        ASSERT(result != FRAME_OK || (whole == FRAME_OK && taken == whole_need));
        ASSERT(result != FRAME_NEED_MORE ||
               (need > len && need <= FRAME_HEADER_BYTES + FRAME_MAX_BODY));
    }
}

static void fuzz_frames(struct slice bytes)
{
    struct frame frame;
    size_t taken, need;
    enum status reason;
    enum frame_result result = frame_decode(bytes, &frame, &taken, &need, &reason);

    check_prefixes(bytes, result, need);
    while (result == FRAME_OK) {
        struct buf again = {0};
        size_t at = frame_begin(&again, frame.kind, frame.group);

        ASSERT(taken == FRAME_HEADER_BYTES + frame.body.len && taken <= bytes.len);
        buf_put_slice(&again, frame.body);
        frame_end(&again, at);
        ASSERT(slice_equal(slice_of(bytes.data, taken), buf_slice(&again)));
        buf_fini(&again);
        check_batch(frame.body);
        check_fragment(&frame);
        bytes = slice_of(bytes.data + taken, bytes.len - taken);
        result = frame_decode(bytes, &frame, &taken, &need, &reason);
    }
}

static void fuzz_hello(struct slice bytes)
{
    struct hello hello;
    struct hello self = {.who = HELLO_SERVER,
                         .protocol_low = HELLO_PROTOCOL_LOW,
                         .protocol_high = HELLO_PROTOCOL_HIGH,
                         .cluster_id = "the cluster's id",
                         .gid = 1,
                         .id = 1,
                         .spec_fingerprint = 7};
    struct buf again = {0};
    const char *why = NULL;
    size_t len;

    if (!hello_decode(bytes, &hello)) {
        return;
    }
    hello_encode(&hello, &again);
    len = again.len;
    if (len > bytes.len) { /* an older server's call: it does not say whom it called */
        ASSERT((hello.flags & HELLO_SERVICE) != 0 && hello.called == 0);
        len -= sizeof(hello.called);
    }
    ASSERT(len <= bytes.len && memcmp(again.data, bytes.data, len) == 0);
    buf_fini(&again);
    hello_check(&self, &hello, 0, &why);
    ASSERT(why != NULL);
    if (hello.who == HELLO_PEER && hello_check(&self, &hello, 5, &why) == ST_OK) {
        ASSERT(hello.gid == 1 && hello.id != 1);
        ASSERT(hello.incarnation == 5 || hello.spec_fingerprint == 0); /* or one that joined */
    }
    hello_check(&hello, &self, 0, &why);
    ASSERT(why != NULL);
}

static void fuzz_refuse(struct slice bytes)
{
    enum status status;
    char text[REFUSE_MAX_TEXT + 1];

    if (refuse_decode(bytes, &status, text)) {
        size_t len = strlen(text);

        ASSERT(status != ST_OK && status_is_valid((uint32_t)status) && len <= REFUSE_MAX_TEXT);
        for (size_t i = 0; i < len; i++) {
            ASSERT(text[i] >= ' ' && text[i] <= '~');
        }
    }
}

/* ---- The inbox, with a model of it ---- */

#define LIMIT 1000u

struct model {
    bool open;
    uint32_t stream, group, received, total;
    uint8_t type;
    uint8_t bytes[LIMIT];
};

static struct model *model_find(struct model models[], uint32_t n, uint32_t stream)
{
    for (uint32_t i = 0; i < n; i++) {
        if (models[i].open && models[i].stream == stream) {
            return &models[i];
        }
    }
    return NULL;
}

static uint64_t model_used(const struct model models[], uint32_t n)
{
    uint64_t used = 0;

    for (uint32_t i = 0; i < n; i++) {
        used += models[i].open ? models[i].total : 0;
    }
    return used;
}

/* Returns what the inbox should say; a finished message stays in *done. */
static enum status model_receive(struct model models[], uint32_t n,
                                 const struct frame_fragment *fragment, struct model **done)
{
    struct model *model = model_find(models, n, fragment->stream);

    *done = NULL;
    if (model == NULL) {
        if (fragment->offset != 0) {
            return ST_MALFORMED;
        }
        if (fragment->total > LIMIT - model_used(models, n)) {
            return ST_BUSY;
        }
        for (model = models; model->open; model++) {
        }
        *model = (struct model){
            true, fragment->stream, fragment->group, 0, fragment->total, fragment->type, {0}};
    }
    if (fragment->group != model->group || fragment->type != model->type ||
        fragment->total != model->total || fragment->offset != model->received) {
        return ST_MALFORMED;
    }
    memcpy(model->bytes + model->received, fragment->bytes.data, fragment->bytes.len);
    model->received += (uint32_t)fragment->bytes.len;
    if (model->received == model->total) {
        model->open = false;
        *done = model;
    }
    return ST_OK;
}

static void fuzz_inbox(struct slice bytes)
{
    static struct model models[FRAME_MAX_STREAMS + 1];
    struct script script = script_of(bytes.data, bytes.len);
    struct inbox_pool pool = {.limit = LIMIT};
    struct inbox inbox;

    memset(models, 0, sizeof(models));
    inbox_init(&inbox, LIMIT, &pool);
    while (!script_is_over(&script)) {
        struct frame_fragment fragment = {0};
        struct model *known, *done;
        struct inbox_message message;
        bool finished;
        enum status status;

        fragment.stream = fuzz_u8(&script) % 8;
        known = model_find(models, FRAME_MAX_STREAMS, fragment.stream);
        fragment.type = fuzz_u8(&script) & 1;
        fragment.total = known != NULL && fuzz_u8(&script) < 200 ? known->total
                                                                 : fuzz_u16(&script) % (2 * LIMIT);
        fragment.offset = known != NULL && fuzz_u8(&script) < 200
                              ? known->received
                              : fuzz_u16(&script) % 4 * fuzz_u8(&script);
        fragment.bytes = fuzz_short(&script);
        if (fragment.bytes.len == 0 || fragment.offset >= fragment.total ||
            fragment.bytes.len > fragment.total - fragment.offset) {
            continue; /* frame_decode_fragment lets no such one through */
        }
        status = inbox_receive(&inbox, &fragment, 0, &finished, &message);
        ASSERT(status == model_receive(models, FRAME_MAX_STREAMS, &fragment, &done));
        ASSERT((status == ST_OK && finished) == (done != NULL));
        if (done != NULL) {
            ASSERT(message.total == done->total);
            ASSERT(memcmp(message.bytes, done->bytes, done->total) == 0);
            inbox_release(&message);
        }
        ASSERT(pool.used == inbox.used && inbox.used <= LIMIT);
        ASSERT(inbox.used == model_used(models, FRAME_MAX_STREAMS));
        if (status != ST_OK) {
            break; /* the connection is closed */
        }
    }
    inbox_fini(&inbox);
    ASSERT(pool.used == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct script script = script_of(data, size);
    uint32_t which = fuzz_below(&script, 6);
    struct slice rest = fuzz_rest(&script);
    uint8_t *bytes;

    switch (which) {
    case 0:
        fuzz_frames(rest);
        break;
    case 1:
    case 2:
        bytes = mem_copy(rest.data, rest.len);
        mend_checksums(bytes, rest.len);
        fuzz_frames(slice_of(bytes, rest.len));
        mem_free(bytes);
        break;
    case 3:
        fuzz_hello(rest);
        break;
    case 4:
        fuzz_refuse(rest);
        break;
    default:
        fuzz_inbox(rest);
    }
    return 0;
}
