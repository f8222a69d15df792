/* caller: one request to a group of replicas, tried until it has a definite end or its deadline
 * passes. Pure: time comes in, messages go out through the transport.
 *
 * It knows what a retry may mean. Each try ends in one of three ways: answered definitely,
 * certainly not applied (refused before it was appended: NOT_LEADER, BUSY, …), or unknown (sent,
 * and the connection broke, or no answer came in time). The whole call is "certainly not applied"
 * only if every one of its tries was.
 *
 * For all calls it remembers which replica of each group (known by its SPEC) answered last as
 * leader, and asks that one first.
 */
#ifndef CLIENT_CALLER_H
#define CLIENT_CALLER_H

#include "client/proto.h"
#include "raft/util/trace.h"

/* How messages leave. send takes the buffer over, never calls back, never fails: a server that
 * can't be reached shows as caller_on_down, later. */
struct caller_transport {
    void *context;
    void (*send)(void *context, uint32_t gid, const char *url, struct buf *message);
    /* Takes a message back that has not left yet: true if it never will. May be NULL: every message
     * is taken for sent. */
    bool (*withdraw)(void *context, const char *url, uint64_t request_id);
};

struct caller_options {
    uint64_t seed;
    uint32_t try_timeout_ms; /* without an answer for so long, another replica is tried */
    uint32_t backoff_min_ms; /* pause after a refusal: doubles up to max, with jitter */
    uint32_t backoff_max_ms;
    /* The most that it pauses while a group elects a leader; after a second without one, the above.
     */
    uint32_t election_pause_ms;
    struct caller_transport transport;
    const struct trace *trace;
};
void caller_options_default(struct caller_options *options); /* 1000, 5, 200, 40 ms */

struct caller;
struct caller *caller_create(const struct caller_options *options);
/* Outstanding calls end with ST_CANCELLED first. */
void caller_destroy(struct caller **caller);

/* The end of a call, exactly once. */
struct caller_end {
    /* The definite answer's status (OK, NOT_FOUND, MISMATCH, WRONG_GROUP, SESSION_*, INVALID, …);
     * or ST_TIMEOUT / ST_UNAVAILABLE: certainly not applied; ST_UNKNOWN; ST_CANCELLED. */
    enum status status;
    bool maybe_applied;                    /* an earlier try of this call has an unknown end */
    const struct proto_response *response; /* the answer, valid during the call; NULL if none */
    const char *url;                       /* who answered; NULL if none */
    uint64_t now_ms;                       /* of the event that ended it */
    const char *reason; /* for people: the last refusal or failure of a try; never NULL */
};
typedef void (*caller_done)(void *context, const struct caller_end *end);

struct caller_target {
    uint32_t gid; /* whose replicas; 0: the controllers'. Clients, who deal with any server, need
                   * not say it */
    struct spec replicas;
    char prefer[SPEC_MAX_URL + 1]; /* asked first for as long as it answers at all; "" for none */
    bool only_prefer; /* ask nobody else: every answer of it is the call's end, and so is a
                       * connection that can't be made */
};

/* Starts a call. The request's request_id and deadline_ms are the caller's to fill in; everything
 * else is copied. is_read: repeating it can't do harm, so its end is never ST_UNKNOWN. The first
 * try is sent before this returns; done never runs before it returns. */
uint64_t caller_start(struct caller *caller, const struct caller_target *target,
                      const struct proto_request *request, bool is_read, uint64_t now_ms,
                      uint64_t deadline_ms, caller_done done, void *context);
/* The call ends at once with ST_CANCELLED; unknown ids are ignored. */
void caller_cancel(struct caller *caller, uint64_t call);

/* A message from a server. False: not an answer to a call of this caller. */
bool caller_on_message(struct caller *caller, uint64_t now_ms, struct slice message);
/* The connection to that server broke: what was sent before will not be answered, but may have been
 * received. */
void caller_on_down(struct caller *caller, uint64_t now_ms, const char *url);
/* No connection to that server could be made, and nothing of what was sent since the last on_down
 * left this process. */
void caller_on_unreachable(struct caller *caller, uint64_t now_ms, const char *url);
void caller_tick(struct caller *caller, uint64_t now_ms);
uint64_t caller_next_deadline_ms(const struct caller *caller); /* UINT64_MAX: none */
size_t caller_outstanding(const struct caller *caller);
/* The highest number of a configuration that any server's answer told. */
uint64_t caller_config_heard(const struct caller *caller);
/* Whether the call, if it is outstanding, goes to just these replicas. */
bool caller_goes_to(const struct caller *caller, uint64_t call, const struct spec *replicas);
/* The highest cluster time that any server's answer told. */
uint64_t caller_cluster_time(const struct caller *caller);

#endif
