/* What a leader knows of one follower, and how it feeds it. */
#ifndef RAFT_CORE_PROGRESS_H
#define RAFT_CORE_PROGRESS_H

#include "raft/raft.h"

#define SNAPSHOT_MAX_CHUNKS_INFLIGHT 16

/* An Append that left and is not yet answered. */
struct inflight {
    raft_index last_index; /* of its entries */
    uint64_t bytes;
};

/* A snapshot that is being sent. */
struct snapshot_send {
    raft_index index; /* 0: the first chunk is not yet read */
    raft_term term;
    uint64_t acked; /* durable at the follower */
    uint64_t next;  /* offset of the next chunk to read, at least acked */
    bool reading;   /* a chunk request is out */
    bool all_read;  /* the chunk at `next` does not exist: the last one left */
    uint32_t n_inflight;
    uint64_t ends[SNAPSHOT_MAX_CHUNKS_INFLIGHT]; /* of the chunks in flight, ascending */
    uint64_t retry_ms;                           /* no request before: the last one failed */
    uint64_t last_sent_ms;
    uint64_t last_progress_ms; /* when acked last grew */
};

/* What was written while a snapshot travelled, and since: entries that the follower still needs. */
struct tail {
    raft_index target; /* kept until it has everything up to here; 0: nothing is kept for it */
    uint64_t left;     /* how many entries it lacked when that was decided */
};

/* How a learner catches up, in rounds (thesis 4.2.1). */
struct catch_up {
    raft_index target;   /* the round ends when it has everything up to here; 0: none began */
    uint64_t started_ms; /* the round */
    uint32_t n_rounds;   /* that took too long, since the last pause */
    uint64_t pause_ms;   /* no round before */
};

/* Invariants: match_index < next_index; match_index never falls while this leader leads; nothing is
 * in flight unless in state RAFT_REPLICATE; inflights ascend by last_index, all above match_index
 * and below next_index; no tail is kept in state RAFT_SNAPSHOT. */
struct progress {
    raft_id id;
    enum raft_progress_state state;
    raft_index match_index; /* durable at the follower and equal to this log up to here */
    raft_index next_index;  /* the next entry to send */

    bool probe_sent;  /* RAFT_PROBE: one Append is out, wait for its answer */
    bool probe_empty; /* RAFT_PROBE: that one was lost or is slow: ask again, without entries */
    bool gap_check;   /* RAFT_REPLICATE: ask, without entries, whether everything arrived */
    bool heartbeat_due;

    struct inflight *inflights;
    size_t n_inflights;
    size_t capacity;
    uint64_t inflight_bytes;

    raft_index commit_sent; /* the highest commit index that the follower was told and could use */
    uint64_t read_round;    /* the highest confirmation round it echoed */

    uint64_t last_heard_ms;   /* any message of this term */
    uint64_t last_sent_ms;    /* an Append or heartbeat */
    uint64_t last_append_ms;  /* an Append */
    uint64_t last_durable_ms; /* when match_index last grew; 0: not in this term */

    struct snapshot_send snapshot; /* RAFT_SNAPSHOT */
    struct tail tail;              /* after it */

    uint64_t incarnation;      /* that it was met as, by this leader; 0: not known */
    bool heard;                /* an answer of it came in this term */
    struct catch_up catch_up;  /* a learner's */
    raft_index leaving_index;  /* of the configuration without it; 0: it is a member */
    uint64_t leaving_until_ms; /* it is told of its removal so long; 0: that is not committed */
};

void progress_init(struct progress *progress, raft_id id, raft_index next_index, uint64_t now_ms);
void progress_fini(struct progress *progress);

/* One Append at a time, from next_index on, until the follower's log is found to match. */
void progress_become_probe(struct progress *progress, raft_index next_index);
/* The log matches up to match_index: stream. */
void progress_become_replicate(struct progress *progress);
/* The entries that the follower needs are gone: send a snapshot. */
void progress_become_snapshot(struct progress *progress, uint64_t now_ms);

/* An Append with the entries up to last_index left (last_index = next_index - 1: none). */
void progress_sent(struct progress *progress, raft_index last_index, uint64_t bytes);
/* Whether no more Appends with entries may leave before an answer comes. */
bool progress_is_full(const struct progress *progress, const struct raft_options *options);
/* The follower's log is durable up to match_index; false if that is no news. */
bool progress_acked(struct progress *progress, raft_index match_index, uint64_t now_ms);
/* The follower's log does not match at rejected_index, but may at `agree`; false if this is stale.
 */
bool progress_rejected(struct progress *progress, raft_index rejected_index, raft_index agree);
/* What was in flight may be lost: ask anew from what is known. */
void progress_link_lost(struct progress *progress);

/* Forgets the chunks in flight and goes on from `offset`. */
void progress_rewind_snapshot(struct progress *progress, uint64_t offset);

void progress_check(const struct progress *progress, raft_index last_index);

#endif
