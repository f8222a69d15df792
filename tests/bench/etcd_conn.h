/* One connection to an etcd server: gRPC over HTTP/2, many calls outstanding, driven by epoll.
 *
 * Only what a load generator needs: Put and Range of one key, and whether the answer was
 * grpc-status 0. One thread owns all connections of an epoll set. A call's memory is its owner's,
 * from etcd_conn_submit until on_end; on_end may submit it again.
 */
#ifndef BENCH_ETCD_CONN_H
#define BENCH_ETCD_CONN_H

#include <netinet/in.h>
#include <nghttp2/nghttp2.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ETCD_MAX_KEY 64

struct etcd_call {
    bool is_read; /* Range, linearizable; else Put */
    char key[ETCD_MAX_KEY];
    size_t key_len;
    const char *value; /* of a Put */
    size_t value_len;

    /* Of the connection, while the call is outstanding. */
    uint8_t *body; /* a gRPC message, kept from call to call; freed by etcd_call_fini */
    size_t body_len, body_cap, body_sent;
    int grpc_status; /* -1: none yet */
};

struct etcd_conn {
    int fd; /* -1: closed */
    int epoll_fd;
    bool writable_wanted;
    nghttp2_session *session;
    char authority[32];
    uint8_t *out; /* what the socket did not take yet */
    size_t out_len, out_sent, out_cap;
    void (*on_end)(void *context, struct etcd_call *call, bool ok);
    void *context;
};

/* Connects and adds itself to the epoll set, with itself as the data. False: not reachable, and
 * the connection is closed. on_end and context are set by the caller before. */
bool etcd_conn_open(struct etcd_conn *conn, const struct sockaddr_in *address, int epoll_fd);
/* Drops calls without an end; does nothing to a closed one. */
void etcd_conn_close(struct etcd_conn *conn);
void etcd_conn_submit(struct etcd_conn *conn, struct etcd_call *call);
/* What epoll saw; ends calls. False: the connection is lost, to be closed by the caller. */
bool etcd_conn_turn(struct etcd_conn *conn, uint32_t events);
/* Sends what was submitted. False likewise. */
bool etcd_conn_flush(struct etcd_conn *conn);

void etcd_call_fini(struct etcd_call *call);

#endif
