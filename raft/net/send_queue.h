/* send_queue: what waits to be sent on one connection, and how it becomes frames. Pure: no I/O.
 *
 * Messages wait in three classes; within a class they leave in the order given. One call of
 * send_queue_fill makes the bytes of one send: first control frames (hello, keep-alives), then
 * urgent, then normal, then bulk messages. Small messages share BATCH frames; a message above
 * FRAME_FRAGMENT_BYTES leaves in fragments. A send holds about SEND_QUEUE_SEND_BYTES at most, so
 * that is what an urgent message waits for; each class that has something gets at least one message
 * or fragment into each send, so none is starved.
 */
#ifndef RAFT_NET_SEND_QUEUE_H
#define RAFT_NET_SEND_QUEUE_H

#include "raft/io.h"
#include "raft/util/frame.h"

#define SEND_QUEUE_CLASSES    3
#define SEND_QUEUE_SEND_BYTES (260u << 10) /* two fragments and their headers */

/* The messages of one class, first to leave first. */
struct send_queue_message;
struct send_lane {
    struct send_queue_message *first, **last;
};

struct send_queue {
    struct send_lane lanes[SEND_QUEUE_CLASSES]; /* by enum io_class */
    struct buf control;                         /* whole frames */
    size_t bytes;                               /* of the messages waiting, headers included */
    uint32_t next_stream;                       /* number of the next fragmented message */
};

void send_queue_init(struct send_queue *queue);
void send_queue_fini(struct send_queue *queue);

/* Takes the message over. */
void send_queue_put(struct send_queue *queue, enum io_class class, uint32_t group,
                    enum frame_message_type type, struct buf *message);
/* A frame ahead of all messages. */
void send_queue_put_control(struct send_queue *queue, enum frame_kind kind, struct slice body);
bool send_queue_is_empty(const struct send_queue *queue);

struct send_queue_filled {
    uint32_t frames, messages; /* messages whose last byte is in this send */
};
/* Appends the bytes of the next send, with `urgent_only` those of control frames and urgent
 * messages alone; nothing if there are none. */
struct send_queue_filled send_queue_fill(struct send_queue *queue, bool urgent_only,
                                         struct buf *out);

/* Moves all messages of `from`, which was never filled from, behind those of `to`. */
void send_queue_move(struct send_queue *to, struct send_queue *from);

#endif
