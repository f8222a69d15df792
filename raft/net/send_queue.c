#include "raft/net/send_queue.h"

#include "raft/util/assert.h"
#include "raft/util/mem.h"

struct send_queue_message {
    struct send_queue_message *next;
    uint32_t group;
    uint8_t type;
    struct buf bytes;
    uint32_t stream; /* its number among the fragmented ones; 0: no fragment left yet */
    uint32_t sent;   /* bytes that left in fragments */
};

/* The send being built. */
struct send_queue_send {
    struct buf *out;
    size_t start; /* of the send in out */
    size_t batch; /* offset of the open BATCH frame; SIZE_MAX: none is open */
    struct send_queue_filled filled;
};

static size_t message_cost(const struct send_queue_message *message)
{
    return FRAME_MESSAGE_HEADER + message->bytes.len;
}

static void lane_init(struct send_lane *lane)
{
    lane->first = NULL;
    lane->last = &lane->first;
}

/* Unlinks and frees the first message. */
static void lane_drop_first(struct send_queue *queue, struct send_lane *lane)
{
    struct send_queue_message *first = lane->first;

    lane->first = first->next;
    if (lane->first == NULL) {
        lane->last = &lane->first;
    }
    ASSERT(queue->bytes >= message_cost(first));
    queue->bytes -= message_cost(first);
    buf_fini(&first->bytes);
    mem_free(first);
}

void send_queue_init(struct send_queue *queue)
{
    *queue = (struct send_queue){.next_stream = 1};
    for (int i = 0; i < SEND_QUEUE_CLASSES; i++) {
        lane_init(&queue->lanes[i]);
    }
}

void send_queue_fini(struct send_queue *queue)
{
    for (int i = 0; i < SEND_QUEUE_CLASSES; i++) {
        while (queue->lanes[i].first != NULL) {
            lane_drop_first(queue, &queue->lanes[i]);
        }
    }
    ASSERT(queue->bytes == 0);
    buf_fini(&queue->control);
}

void send_queue_put(struct send_queue *queue, enum io_class class, uint32_t group,
                    enum frame_message_type type, struct buf *bytes)
{
    struct send_lane *lane = &queue->lanes[class];
    struct send_queue_message *message = mem_zalloc(sizeof(*message));

    ASSERT(class >= IO_URGENT && class <= IO_BULK);
    ASSERT(bytes->len <= FRAME_MAX_MESSAGE);
    message->group = group;
    message->type = (uint8_t)type;
    message->bytes = buf_take(bytes);
    *lane->last = message;
    lane->last = &message->next;
    queue->bytes += message_cost(message);
}

void send_queue_put_control(struct send_queue *queue, enum frame_kind kind, struct slice body)
{
    size_t offset = frame_begin(&queue->control, kind, 0);

    buf_put_slice(&queue->control, body);
    frame_end(&queue->control, offset);
}

bool send_queue_is_empty(const struct send_queue *queue)
{
    ASSERT((queue->bytes == 0) ==
           (queue->lanes[IO_URGENT].first == NULL && queue->lanes[IO_NORMAL].first == NULL &&
            queue->lanes[IO_BULK].first == NULL));
    return queue->bytes == 0 && queue->control.len == 0;
}

static size_t send_len(const struct send_queue_send *send)
{
    return send->out->len - send->start;
}

static void send_close_batch(struct send_queue_send *send)
{
    if (send->batch != SIZE_MAX) {
        frame_end(send->out, send->batch);
        send->batch = SIZE_MAX;
    }
}

static void send_put_small(struct send_queue_send *send, const struct send_queue_message *message)
{
    if (send->batch != SIZE_MAX &&
        send->out->len - send->batch - FRAME_HEADER_BYTES + message_cost(message) >
            FRAME_MAX_BODY) {
        send_close_batch(send);
    }
    if (send->batch == SIZE_MAX) {
        send->batch = frame_begin(send->out, FRAME_BATCH, message->group);
        send->filled.frames++;
    }
    frame_put_message(send->out, message->group, message->type, buf_slice(&message->bytes));
    send->filled.messages++;
}

/* Puts the next fragment; true if it was the message's last. */
static bool send_put_fragment(struct send_queue *queue, struct send_queue_send *send,
                              struct send_queue_message *message)
{
    size_t left = message->bytes.len - message->sent;
    struct frame_fragment fragment = {
        .group = message->group,
        .type = message->type,
        .total = (uint32_t)message->bytes.len,
        .offset = message->sent,
        .bytes = slice_of(message->bytes.data + message->sent,
                          left < FRAME_FRAGMENT_BYTES ? left : FRAME_FRAGMENT_BYTES)};

    if (message->stream == 0) {
        message->stream = queue->next_stream++;
        queue->next_stream += queue->next_stream == 0;
    }
    fragment.stream = message->stream;
    send_close_batch(send);
    frame_put_fragment(send->out, &fragment);
    message->sent += (uint32_t)fragment.bytes.len;
    send->filled.frames++;
    send->filled.messages += message->sent == message->bytes.len;
    return message->sent == message->bytes.len;
}

/* Fills from one class while the send has room, and at least once. */
static void send_put_class(struct send_queue *queue, struct send_queue_send *send,
                           struct send_lane *lane)
{
    for (bool first = true; lane->first != NULL; first = false) {
        struct send_queue_message *message = lane->first;
        bool small = message->bytes.len <= FRAME_FRAGMENT_BYTES;
        size_t cost = small ? message_cost(message)
                            : FRAME_HEADER_BYTES + FRAME_FRAGMENT_HEADER + FRAME_FRAGMENT_BYTES;

        if (!first && send_len(send) + cost > SEND_QUEUE_SEND_BYTES) {
            return;
        }
        if (small) {
            send_put_small(send, message);
        } else if (!send_put_fragment(queue, send, message)) {
            continue;
        }
        lane_drop_first(queue, lane);
    }
}

struct send_queue_filled send_queue_fill(struct send_queue *queue, bool urgent_only,
                                         struct buf *out)
{
    struct send_queue_send send = {.out = out, .start = out->len, .batch = SIZE_MAX};
    size_t expected = urgent_only ? 0 : queue->control.len + queue->bytes;

    if (expected > 0) {
        expected += FRAME_HEADER_BYTES;
        buf_reserve(out, expected < SEND_QUEUE_SEND_BYTES ? expected : SEND_QUEUE_SEND_BYTES);
    }
    buf_put_slice(out, buf_slice(&queue->control));
    buf_fini(&queue->control);
    for (int i = IO_URGENT; i <= (urgent_only ? IO_URGENT : IO_BULK); i++) {
        send_put_class(queue, &send, &queue->lanes[i]);
    }
    send_close_batch(&send);
    ASSERT(send_len(&send) <= SEND_QUEUE_SEND_BYTES + 4 * (FRAME_FRAGMENT_BYTES + 1024));
    return send.filled;
}

void send_queue_move(struct send_queue *to, struct send_queue *from)
{
    for (int i = 0; i < SEND_QUEUE_CLASSES; i++) {
        if (from->lanes[i].first != NULL) {
            *to->lanes[i].last = from->lanes[i].first;
            to->lanes[i].last = from->lanes[i].last;
            lane_init(&from->lanes[i]);
        }
    }
    ASSERT(from->control.len == 0);
    to->bytes += from->bytes;
    from->bytes = 0;
}
