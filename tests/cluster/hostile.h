/* What the parts of hostile_client share: sockets with patience that ends, bytes that are right to
 * begin with, and what is expected of a server. Whatever is not as expected ends the program.
 */
#ifndef TESTS_CLUSTER_HOSTILE_H
#define TESTS_CLUSTER_HOSTILE_H

#include "client/proto.h"
#include "raft/util/frame.h"
#include "raft/util/rng.h"

#define HOSTILE_DEADLINE_MS 500 /* of requests: afterwards the server gives up on them */

extern uint16_t hostile_port;         /* of the server, on loopback */
extern const char *hostile_owner_url; /* of a member group's replica */
extern struct rng hostile_rng;

/* A line on stderr, exit 1. */
void hostile_die(const char *what) __attribute__((noreturn));
uint64_t hostile_now_ms(void);
void hostile_pause_ms(long ms);

int hostile_dial(void);
/* The same after both hellos. */
int hostile_dial_as_client(void);
/* False if the other side has closed, or takes nothing for 2 s; put_buf releases the bytes. */
bool hostile_put(int fd, struct slice bytes);
bool hostile_put_buf(int fd, struct buf *bytes);
/* Sends an encoded request in a frame, and releases it. */
bool hostile_put_request(int fd, struct buf *request);
/* Closes, now and then by a reset. */
void hostile_drop(int fd);

struct hello hostile_client_hello(void);
struct buf hostile_hello_frame(const struct hello *hello);
struct buf hostile_frame_around(enum frame_kind kind, struct slice body);
struct buf hostile_batch_of(uint32_t group, uint8_t type, struct slice message);
struct buf hostile_encode(struct proto_request request);

/* The server must close this connection; await_all_closed waits for all of them. */
void hostile_expect_closed(int fd, const char *what);
void hostile_await_all_closed(void);
/* Reads until `n` answers came. */
struct hostile_answers {
    uint32_t n, ok;
};
struct hostile_answers hostile_await(int fd, uint32_t n, const char *what);
/* Somebody else is served at once. */
void hostile_expect_service(const char *what);

/* ---- Attacks ---- */

void hostile_send_garbage(void);  /* hostile_frames.c */
void hostile_send_frames(void);   /* headers, lengths, checksums, fragments */
void hostile_send_hellos(void);   /* of strangers, of other versions, at the wrong time */
void hostile_send_messages(void); /* hostile_requests.c: types and lengths of messages */
void hostile_send_requests(void); /* truncated, flipped, past the limits, of wrong shards */

#endif
