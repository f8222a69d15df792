/* Inside of the session table: what session.c and session_codec.c share. */
#ifndef RAFT_RSM_SESSION_TABLE_H
#define RAFT_RSM_SESSION_TABLE_H

#include <bsd/sys/tree.h>
#include <sys/queue.h>

#include "raft/rsm.h"
#include "raft/rsm/session_index.h"
#include "raft/util/assert.h"
#include "raft/util/mem.h"

#define SESSION_RECORD_VERSION   1
#define SESSION_RESULT_HEADER    9   /* u64 seq, u8 length */
#define SESSION_RESULTS_A_CLIENT 16  /* kept results per record, on average over a full table */
#define SESSION_MAX_EVICTIONS    8   /* in one commit: bounds its time */
#define SESSION_MAX_UNSAVED      256 /* in a deferred table: bounds the time of saving */

/* What is known of one client, in one allocation: there may be 65,536 of them a shard. Invariants:
 * the results' seqs ascend, are all above acked_seq and at most SESSION_SEQ_WINDOW above it;
 * activity is at least the issued_at of everything applied for the client. */
struct session_record {
    struct session_id client;
    uint64_t activity; /* the stamp of its newest applied operation */
    uint64_t acked_seq;
    uint32_t n_results;
    uint32_t results_len;
    uint32_t capacity; /* bytes of results */
    bool is_unsaved;   /* the state has an older record of the client, or none */
    uint64_t ranked;   /* the activity under which it stands in the tree: never more than it has */
    TAILQ_ENTRY(session_record) unsaved;
    RB_ENTRY(session_record) by_activity;
    uint8_t results[]; /* packed as they are encoded: u64 seq, u8 length, bytes */
};

static inline struct slice session_record_results(const struct session_record *record)
{
    return slice_of(record->results, record->results_len);
}

/* A record with these results, n of them packed, and room for more_bytes of others; in no index
 * yet. Released by mem_free. */
struct session_record *session_record_create(const void *client, struct slice results, size_t n,
                                             size_t more_bytes);

/* Appends one packed result. */
void session_result_append(struct buf *results, uint64_t seq, struct slice result);

void session_record_encode(const struct session_record *record, struct buf *out);
/* Makes the client's record. ST_OK, ST_CORRUPT, or ST_VERSION of a newer format: then none. */
enum status session_record_decode(struct slice bytes, const void *client,
                                  struct session_record **record);
void session_floor_encode(uint64_t floor, struct buf *out);
enum status session_floor_decode(struct slice bytes, uint64_t *floor);

#endif
