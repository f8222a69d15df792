/* clerk: the client's brain. It keeps the shard configuration, finds the group and the leader for
 * each key, retries, follows hints, and knows how every operation ended. Pure; the library (kv.c)
 * gives it time and sockets, the simulator virtual ones.
 *
 * One clerk is one session: its writes carry (client_id, seq) and are applied at most once.
 * Operations outstanding at the same time are concurrent: no order among them.
 */
#ifndef CLIENT_CLERK_H
#define CLIENT_CLERK_H

#include "client/caller.h"

struct clerk_options {
    struct spec ctrlers;
    uint8_t client_id[16];         /* random, never used before */
    char prefer[SPEC_MAX_URL + 1]; /* send to that replica first for as long as it answers at all */
    uint32_t max_outstanding;      /* writes at once (at most SESSION_SEQ_WINDOW / 2); more wait */
    struct caller_options caller;
};
void clerk_options_default(struct clerk_options *options);

struct clerk;
struct clerk *clerk_create(const struct clerk_options *options);
/* Outstanding operations end with ST_CANCELLED (reads, and writes never sent) or ST_UNKNOWN first.
 */
void clerk_destroy(struct clerk **clerk);

/* The end of an operation, exactly once.
 *   ST_OK, ST_NOT_FOUND, ST_MISMATCH, ST_TOO_LARGE, ST_INVALID   it ran, or can't run
 *   ST_UNKNOWN                                                    a write whose end is not known
 *   everything else                                               certainly not applied, now or
 * later reason: the last refusal, for people ("g2 unavailable: connection refused"); never NULL. */
struct clerk_end {
    enum status status;
    const char *reason;
    struct slice value;                   /* get */
    uint64_t version;                     /* get */
    const struct kv_write_result *result; /* write; NULL unless OK, MISMATCH or TOO_LARGE */
    size_t n_records;                     /* scan */
    const struct proto_record *records;
    bool more;
};
typedef void (*clerk_done)(void *context, const struct clerk_end *end);

/* Keys and values are checked against the limits first (ST_INVALID, ST_TOO_LARGE); all are copied.
 * done never runs before the call returns. The result is an id for clerk_cancel. Nothing may
 * destroy the clerk from within a done; everything else is allowed there. */
uint64_t clerk_get(struct clerk *clerk, struct slice key, uint64_t now_ms, uint64_t deadline_ms,
                   clerk_done done, void *context);
/* All keys must lie in one shard (else ST_INVALID). shard and session of `write` are filled in. */
uint64_t clerk_write(struct clerk *clerk, const struct kv_write *write, uint64_t now_ms,
                     uint64_t deadline_ms, clerk_done done, void *context);
/* The same without a copy: `write` and its bytes stay as they are until done. */
uint64_t clerk_write_lent(struct clerk *clerk, struct kv_write *write, uint64_t now_ms,
                          uint64_t deadline_ms, clerk_done done, void *context);
/* Up to `limit` records whose key has the prefix and is above `after` (empty: from the beginning),
 * in bytewise order over all shards. Each record linearizable, the whole not one snapshot. */
#define CLERK_SCAN_BYTES (32u << 20) /* a result that would be larger is cut, with `more` set */
uint64_t clerk_scan(struct clerk *clerk, struct slice prefix, struct slice after, uint32_t limit,
                    uint64_t now_ms, uint64_t deadline_ms, clerk_done done, void *context);
/* Ends the operation, as at the end of its deadline but with ST_CANCELLED if it was certainly not
 * applied, before this returns; unknown ids are ignored. */
void clerk_cancel(struct clerk *clerk, uint64_t operation, uint64_t now_ms);

void clerk_on_message(struct clerk *clerk, uint64_t now_ms, struct slice message);
void clerk_on_down(struct clerk *clerk, uint64_t now_ms, const char *url);
void clerk_on_unreachable(struct clerk *clerk, uint64_t now_ms, const char *url);
void clerk_tick(struct clerk *clerk, uint64_t now_ms);
uint64_t clerk_next_deadline_ms(const struct clerk *clerk);

/* The configuration it works with; NULL before the first was read. */
const struct shard_config *clerk_config(const struct clerk *clerk);
/* For programs that also ask something else of the servers (status, administration). */
struct caller *clerk_caller(struct clerk *clerk);
/* Gets, writes and scans that have not ended. */
size_t clerk_outstanding(const struct clerk *clerk);

#endif
