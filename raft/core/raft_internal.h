/* The inside of the core: its state, and what its files offer each other. Each group of functions
 * below is one file; only step.c knows them all. */
#ifndef RAFT_CORE_RAFT_INTERNAL_H
#define RAFT_CORE_RAFT_INTERNAL_H

#include "raft/core/membership.h"
#include "raft/core/progress.h"
#include "raft/core/quorum.h"
#include "raft/core/raft_log.h"
#include "raft/raft.h"
#include "raft/util/assert.h"
#include "raft/util/rng.h"

/* No honest term, index or offset gets near: a message with a greater one is refused, so that sums
 * don't run over. */
#define RAFT_MAX_NUMBER (UINT64_MAX / 4)

/* A write that was handed out and is not yet reported durable. Once it is, `hard_state` is durable
 * and the log as it is now is durable up to last_index: a truncation lowers the last_index of the
 * writes before it. */
struct pending_write {
    uint64_t seq;
    struct raft_hard_state hard_state;
    raft_index last_index;
    uint64_t started_ms;
};

/* A linearizable read that waits. */
struct read_wait {
    uint64_t id;
    uint64_t round;   /* the confirmation round it may use; 0: begins with the next one */
    raft_index index; /* the commit index when its round began; 0: the leader was not ready */
};

struct read_index {
    uint64_t round; /* the last one begun; never falls, in any term */
    struct read_wait *waits;
    size_t n_waits;
    size_t capacity;
    size_t n_assigned; /* the first so many have a round; rounds ascend */
};

struct transfer {
    raft_id to; /* 0: none under way */
    uint64_t deadline_ms;
    uint64_t next_send_ms;       /* TIMEOUT_NOW is repeated, it may be lost */
    uint64_t slow_disk_retry_ms; /* no further hand-over for a slow disk before */
};

/* A snapshot that is being received. */
struct snapshot_receive {
    raft_index index; /* 0: none */
    raft_term term;
    uint64_t durable; /* the offset below which everything is stored */
    uint64_t next;    /* the offset below which everything was handed out to store */
    uint32_t storing; /* chunks handed out and not yet answered, of whichever snapshot */
    bool installing;  /* the last chunk was handed out: the state may be switched any moment */
    raft_id from;     /* the leader that sends it */
};

/* What the step under way will say in its update. */
struct outbox {
    struct raft_message *messages;
    size_t n_messages, messages_capacity;
    struct raft_message *after;
    size_t n_after, after_capacity;
    struct raft_read_state *reads;
    size_t n_reads, reads_capacity;
    struct raft_chunk_request *chunk_requests;
    size_t n_chunk_requests, chunk_requests_capacity;
    struct raft_install_snapshot chunk; /* to store */
    bool has_chunk;
    raft_index persist_from; /* the first entry to persist; 0: none */
    raft_index log_reset_index;
    enum status status;
    const char *reason;
    raft_index first_index;
};

/* Invariants are those that raft_check asserts (check.c). */
struct raft {
    struct raft_options options;
    struct rng rng;
    uint64_t now_ms;

    struct raft_hard_state hard_state;
    struct raft_log log;
    struct membership membership;
    raft_index commit_index;

    struct raft_hard_state durable_hard_state;
    raft_index durable_index;     /* the log is durable up to here */
    struct pending_write *writes; /* in the order they were handed out */
    size_t n_writes, writes_capacity;
    uint64_t last_seq;

    enum raft_role role;
    raft_id leader;             /* of the current term; 0: not known */
    uint64_t leader_contact_ms; /* when it was last heard; means something while leader != 0 */
    uint64_t election_deadline_ms;
    struct id_set granted; /* of the pre-vote or vote under way */
    struct id_set rejected;
    bool transfer_election; /* this candidacy follows TIMEOUT_NOW */

    /* Leader: one per other server, ascending by id; those just removed are still told. */
    struct progress *progress;
    size_t n_progress;
    bool retiring; /* leader: it is no member any more and looks for a successor */
    uint64_t heartbeat_deadline_ms;
    uint64_t uncommitted_bytes; /* leader: of the entries above commit_index */
    struct read_index reads;
    struct transfer transfer;
    struct snapshot_receive receive;

    uint64_t created_ms;
    uint64_t heard_ms[SPEC_MAX_ID + 1]; /* by replica: when its last message came; 0: none did */

    struct outbox out;
};

/* ---- outbox.c: messages and writes of the step under way ---- */
void outbox_clear(struct raft *raft);
void outbox_fini(struct raft *raft);
/* A new message, header filled; the caller fills the rest before it asks for another one. At once:
 * it promises nothing that is not durable. */
struct raft_message *outbox_send(struct raft *raft, enum raft_message_type type, raft_id to);
/* After everything handed out so far is durable. */
struct raft_message *outbox_send_after_persist(struct raft *raft, enum raft_message_type type,
                                               raft_id to);
/* A reply that promises no more than that this term was seen: held back only while the term itself
 * is not durable. */
struct raft_message *outbox_reply(struct raft *raft, enum raft_message_type type, raft_id to);
void outbox_fill(struct raft *raft, struct raft_update *update);

/* ---- persist.c: what is durable ---- */
/* Entries from `from` on changed in this step. */
void persist_entries(struct raft *raft, raft_index from);
/* Hands out one write if the hard state or the log changed in this step. */
void persist_fill(struct raft *raft, struct raft_update *update);
void persist_done(struct raft *raft, uint64_t seq);
/* Whether this replica voted, for itself or another, and that is not durable yet. */
bool persist_holds_vote(const struct raft *raft);
/* The log was replaced by a snapshot that is durable by itself. */
void persist_log_reset(struct raft *raft, raft_index snapshot_index);
/* How long the oldest write has been under way. */
uint64_t persist_oldest_age_ms(const struct raft *raft);

/* ---- election.c: roles ---- */
void election_reset_deadline(struct raft *raft);
/* This replica as a voter of a configuration that is, or may yet be, in force; NULL: of none. */
const struct raft_server *election_find_self(const struct raft *raft);
/* Whether this replica may stand for election. */
bool election_is_eligible(const struct raft *raft);
void election_tick(struct raft *raft);
/* Takes over a higher term, or loses a role; leader 0: not known. */
void election_become_follower(struct raft *raft, raft_term term, raft_id leader);
/* A message of the current term's leader came: false if that can't be (two leaders in a term). */
bool election_heard_leader(struct raft *raft, raft_id from);
void election_begin_candidacy(struct raft *raft, bool transfer);
void election_count_votes(struct raft *raft);
/* The link to a peer came up: what was asked of it is asked again. */
void election_peer_up(struct raft *raft, raft_id peer);
/* The peer's process has ended, by all appearances: if it led, nobody waits for it. */
void election_peer_gone(struct raft *raft, raft_id peer);

/* ---- recv_vote.c ---- */
void recv_request_vote(struct raft *raft, const struct raft_message *message);
void recv_vote_reply(struct raft *raft, const struct raft_message *message);

/* ---- recv_append.c: the follower's side ---- */
void recv_append(struct raft *raft, struct raft_message *message);
void recv_heartbeat(struct raft *raft, const struct raft_message *message);
/* Raises a follower's commit index, at most to `index` and to what the log holds. */
void recv_commit(struct raft *raft, raft_index index);

/* ---- recv_snapshot.c: the follower's side ---- */
void recv_install_snapshot(struct raft *raft, struct raft_message *message);
void recv_chunk_stored(struct raft *raft, const struct raft_event *event);
void recv_snapshot_installed(struct raft *raft, const struct raft_event *event);
/* Forgets a transfer that a new leader may not go on with. */
void recv_snapshot_forget(struct raft *raft);

/* ---- replicate.c: the leader's side ---- */
void replicate_begin(struct raft *raft); /* became leader */
void replicate_end(struct raft *raft);   /* no longer leads */
void replicate_append_own(struct raft *raft, enum raft_entry_type type, struct blob *data);
void replicate_propose(struct raft *raft, const struct raft_event *event);
void replicate_tick(struct raft *raft);
/* When this leader wants a tick. */
uint64_t replicate_next_deadline_ms(const struct raft *raft);
void replicate_advance_commit(struct raft *raft);
/* Sends every follower what it may get now; the last thing a leader's step does. */
void replicate_flush(struct raft *raft);
struct progress *replicate_find(const struct raft *raft, raft_id id);
void replicate_peer_up(struct raft *raft, const struct raft_event *event);
void replicate_peer_down(struct raft *raft, raft_id peer);

/* The configuration in force changed: followers come, and those that left will go. */
void replicate_follow_configuration(struct raft *raft);
/* Those that left go once they were told. */
void replicate_forget_told(struct raft *raft);

/* ---- change.c: changes of the configuration ---- */
void change_begin(struct raft *raft, const struct raft_change *change);
/* What follows from what is committed and heard: the second half of a joint change, promotions, the
 * end of those that left. Leadership may end here. */
void change_advance(struct raft *raft);
/* Whether this incarnation of a server is the one whose answers count. */
bool change_is_known_incarnation(const struct raft *raft, raft_id id,
                                 const struct raft_event *event);

/* ---- recv_reply.c: the leader's side of the answers ---- */
void recv_append_reply(struct raft *raft, const struct raft_message *message);
void recv_heartbeat_reply(struct raft *raft, const struct raft_message *message);

/* ---- send_snapshot.c: the leader's side ---- */
void send_snapshot_chunk_read(struct raft *raft, const struct raft_event *event);
void send_snapshot_flush(struct raft *raft, struct progress *progress);
void send_snapshot_tick(struct raft *raft, struct progress *progress);
/* Whether the log is still to be kept for a follower that installed one. */
void send_snapshot_tick_tail(struct raft *raft, struct progress *progress);
void recv_install_snapshot_reply(struct raft *raft, const struct raft_message *message);

/* ---- read_index.c ---- */
void read_index_add(struct raft *raft, uint64_t id);
/* Answers what is confirmed, begins the next round when reads wait for one. */
void read_index_settle(struct raft *raft);
void read_index_tick(struct raft *raft);
void read_index_fail_all(struct raft *raft);
/* The round that a message leaving now may confirm; 0: none is wanted. */
uint64_t read_index_round(const struct raft *raft);

/* ---- transfer.c ---- */
enum status transfer_begin(struct raft *raft, raft_id to);
/* Sends TIMEOUT_NOW if the target has caught up. */
void transfer_advance(struct raft *raft);
void transfer_tick(struct raft *raft);
void recv_timeout_now(struct raft *raft, const struct raft_message *message);

static inline raft_index last_index_of(const struct raft *raft)
{
    return raft_log_last_index(&raft->log);
}

/* Whether its vote counts, in the old configuration or the new. */
static inline bool is_voter(const struct raft_server *server)
{
    return (server->flags & (RAFT_VOTER | RAFT_VOTER_OLD)) != 0;
}

static inline const struct raft_configuration *configuration_of(const struct raft *raft)
{
    return membership_latest(&raft->membership);
}

#endif
