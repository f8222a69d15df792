/* Raft: the consensus core as a step function.
 *
 * raft_step() takes one event (a message, the passing of time, a proposal, a finished disk write)
 * and fills in one update: what to persist, what to send, what is committed. The core has no clock,
 * thread, socket, file or static state; time and the random seed come in from outside, so the same
 * events give the same updates, always. Whoever drives it (raft/rsm) carries the update out, in the
 * order that struct raft_update states.
 *
 * Sources: "paper" is Ongaro & Ousterhout, In Search of an Understandable Consensus Algorithm
 * (extended version); "thesis" is Ongaro's dissertation. Names are those of the paper's Figure 2.
 */
#ifndef RAFT_RAFT_H
#define RAFT_RAFT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "raft/util/blob.h"
#include "raft/util/bytes.h"
#include "raft/util/spec.h"
#include "raft/util/status.h"
#include "raft/util/trace.h"

typedef uint64_t raft_term;  /* 0: before any election */
typedef uint64_t raft_index; /* of a log entry; the first is 1, 0 is none */
typedef uint32_t raft_id;    /* of a replica in its group, 1..255; 0 is none */
typedef uint32_t group_id;   /* 0 is the controller group */

/* ---- Log entries ------------------------------------------------------------------------------
 */

enum raft_entry_type {
    RAFT_ENTRY_NOOP = 1,         /* a new leader's first entry (thesis 6.4, step 1); no data */
    RAFT_ENTRY_COMMAND = 2,      /* a service command; the data means nothing to the core */
    RAFT_ENTRY_CONFIGURATION = 3 /* an encoded struct raft_configuration */
};

struct raft_entry {
    raft_index index;
    raft_term term;
    enum raft_entry_type type;
    struct blob *data; /* NULL for a no-op; whoever holds the entry holds a reference */
};

/* ---- Configurations (thesis 4) -----------------------------------------------------------------
 */

#define RAFT_MAX_SERVERS 18 /* 9 old and 9 new ones while a joint configuration is in force */

enum {
    RAFT_VOTER = 1 << 0,     /* votes in the (new) configuration */
    RAFT_VOTER_OLD = 1 << 1, /* votes in the outgoing one: set only while joint */
    RAFT_LEARNER = 1 << 2    /* receives the log, does not vote */
};

struct raft_server {
    raft_id id;
    uint8_t flags;                  /* RAFT_VOTER, RAFT_VOTER_OLD, RAFT_LEARNER */
    uint64_t incarnation;           /* 0: not known yet */
    char address[SPEC_MAX_URL + 1]; /* its URL; opaque to the core */
};

/* Servers in ascending order of id. Joint while any server has RAFT_VOTER_OLD: then a decision
 * needs a majority of the voters and a majority of the old voters (thesis 4.3). */
struct raft_configuration {
    size_t n;
    struct raft_server servers[RAFT_MAX_SERVERS];
};

/* Whether decisions need two majorities. */
bool raft_configuration_is_joint(const struct raft_configuration *configuration);

/* Format: u8 version = 1, u8 count, then per server u8 id, u8 flags, u64 incarnation, u32 length
 * and address. Decoding checks order, flags and bounds; false means malformed. */
void raft_configuration_encode(const struct raft_configuration *configuration, struct buf *out);
bool raft_configuration_decode(struct slice bytes, struct raft_configuration *configuration);
/* All the replicas of a SPEC as voters. */
void raft_configuration_from_spec(const struct spec *spec, struct raft_configuration *out);
const struct raft_server *raft_configuration_find(const struct raft_configuration *configuration,
                                                  raft_id id);

/* ---- Messages between the replicas of a group ---- */

enum raft_message_type {
    RAFT_MESSAGE_REQUEST_VOTE = 1,
    RAFT_MESSAGE_VOTE_REPLY = 2,
    RAFT_MESSAGE_APPEND = 3,
    RAFT_MESSAGE_APPEND_REPLY = 4,
    RAFT_MESSAGE_HEARTBEAT = 5,
    RAFT_MESSAGE_HEARTBEAT_REPLY = 6,
    RAFT_MESSAGE_INSTALL_SNAPSHOT = 7,
    RAFT_MESSAGE_INSTALL_SNAPSHOT_REPLY = 8,
    RAFT_MESSAGE_TIMEOUT_NOW = 9
};

struct raft_request_vote {
    raft_index last_log_index;
    raft_term last_log_term;
    bool pre_vote; /* asks only whether a vote would be given (thesis 9.6); term is the one to come
                    */
    bool transfer; /* follows TIMEOUT_NOW: overrides leader stickiness (thesis 3.10, 4.2.3) */
};

struct raft_vote_reply {
    bool granted;
    bool pre_vote;
};

struct raft_append {
    raft_index prev_log_index;
    raft_term prev_log_term;
    raft_index commit_index; /* the leader's */
    uint64_t read_round;     /* the ReadIndex round this message may confirm; 0 for none */
    struct raft_entry *entries;
    size_t n_entries;
};

struct raft_append_reply {
    bool rejected;
    raft_index match_index;    /* accepted: the log is durable and equals the leader's up to here */
    raft_index rejected_index; /* rejected: the prev_log_index that did not match */
    raft_index hint_index;     /* rejected: where the logs may still agree, and the term there */
    raft_term hint_term;
    uint64_t read_round; /* echo */
};

struct raft_heartbeat {
    raft_index commit_index; /* min(leader's commit index, that follower's match_index) */
    uint64_t read_round;
};

struct raft_heartbeat_reply {
    uint64_t read_round; /* echo */
};

/* What a snapshot stands for: the state after applying `index`. */
struct raft_snapshot_meta {
    raft_index index;
    raft_term term;
    struct raft_configuration configuration;
};

struct raft_install_snapshot {
    struct raft_snapshot_meta meta;
    uint64_t offset;   /* of data in the snapshot's stream, bytes */
    bool done;         /* data ends the stream */
    uint32_t checksum; /* CRC32C of data */
    struct blob *data;
};

struct raft_install_snapshot_reply {
    raft_index index; /* of the snapshot the reply is about */
    uint64_t offset;  /* all bytes below are durable; the next chunk wanted begins here */
    bool installed;   /* the state is switched: match_index is at least `index` */
};

struct raft_message {
    enum raft_message_type type;
    raft_id from;
    raft_id to;
    raft_term term; /* the sender's */
    union {
        struct raft_request_vote request_vote;
        struct raft_vote_reply vote_reply;
        struct raft_append append;
        struct raft_append_reply append_reply;
        struct raft_heartbeat heartbeat;
        struct raft_heartbeat_reply heartbeat_reply;
        struct raft_install_snapshot install_snapshot;
        struct raft_install_snapshot_reply install_snapshot_reply;
    };
};

/* Releases what a message owns (entries and their data, the chunk) and zeroes it. */
void raft_message_fini(struct raft_message *message);

/* ---- Options and start ---- */

enum raft_role { RAFT_FOLLOWER, RAFT_PRE_CANDIDATE, RAFT_CANDIDATE, RAFT_LEADER };

/* Durable before any message of the same update that promises it leaves. */
struct raft_hard_state {
    raft_term term;
    raft_id voted_for; /* in `term`; 0: nobody */
};

struct raft_options {
    raft_id id;
    uint64_t incarnation; /* this replica's own; 0: not known */
    uint64_t seed;
    uint32_t election_timeout_ms;   /* E: followers wait E..2E, drawn anew each time */
    uint32_t heartbeat_ms;          /* well below E */
    uint32_t commit_delay_ms;       /* a follower hears of a small commit so late, if only of it */
    uint32_t max_message_bytes;     /* of entries in one Append; one entry may exceed it alone */
    uint32_t max_inflight_messages; /* Appends not yet answered, per follower */
    uint64_t max_inflight_bytes;    /* of them, per follower */
    uint64_t max_uncommitted_bytes; /* proposals beyond get ST_BUSY */
    uint32_t max_chunks_inflight;   /* snapshot chunks not yet answered, per follower */
    const struct trace *trace;      /* may be NULL; outlives the raft */
};

/* 300 ms / 50 ms, 256 KiB, 64 messages, 16 MiB, 64 MiB, 2 chunks. */
void raft_options_default(struct raft_options *options, raft_id id, uint64_t seed);

/* What the disk holds at start. An empty replica: hard state zero, a snapshot of index 0 with the
 * configuration from its SPEC, no entries: raft_create then begins the log with that configuration
 * as entry 1 of term 1, the same on every replica (bootstrap). An empty configuration: it joins an
 * existing group, whose leader will tell. So did one that has been in a term and has no entries. */
struct raft_start {
    struct raft_hard_state hard_state;
    struct raft_snapshot_meta snapshot; /* the log begins after it; index 0: at the beginning */
    /* snapshot.index+1 ... without a gap. The references of their data pass to the core; the array
     * stays the caller's. */
    const struct raft_entry *entries;
    size_t n_entries;
    raft_index applied_index; /* what the state holds, at least snapshot.index: known committed */
};

/* ---- Events -------------------------------------------------------------------------------------
 */

enum raft_event_type {
    RAFT_EVENT_TICK,               /* only time passed */
    RAFT_EVENT_MESSAGE,            /* a peer's message arrived */
    RAFT_EVENT_PROPOSE,            /* append commands: leader only */
    RAFT_EVENT_PERSISTED,          /* a write is durable */
    RAFT_EVENT_READ,               /* when may a linearizable read be served? leader only */
    RAFT_EVENT_TRANSFER,           /* hand leadership over (thesis 3.10) */
    RAFT_EVENT_CONFIGURE,          /* change the configuration (thesis 4) */
    RAFT_EVENT_COMPACT,            /* the state holds everything up to an index durably */
    RAFT_EVENT_CHUNK_READ,         /* sender: a chunk that chunk_requests asked for */
    RAFT_EVENT_CHUNK_STORED,       /* receiver: chunks are durable up to an offset */
    RAFT_EVENT_SNAPSHOT_INSTALLED, /* receiver: the state is switched, or that failed */
    RAFT_EVENT_PEER_UP,            /* a link to a peer came up: probe it at once */
    RAFT_EVENT_PEER_DOWN,          /* a link broke: what was in flight may be lost */
    RAFT_EVENT_PEER_GONE           /* a peer's process has ended, by all appearances */
};

enum raft_change_kind {
    RAFT_CHANGE_ADD = 1,    /* as a learner, which is promoted once it has caught up */
    RAFT_CHANGE_REMOVE = 2, /* a voter, by a joint configuration, or a learner */
    /* This replica becomes the only member, in a term above all it saw, without a majority: the
     * last resort when one is lost for good. Not only for a leader. */
    RAFT_CHANGE_FORCE_ALONE = 3
};

struct raft_change {
    enum raft_change_kind kind;
    raft_id id;
    const char *address; /* ADD */
    /* The configuration that the change means, by the index of its entry: refused as ST_CONFLICT if
     * another one is in force. 0: whichever is. */
    raft_index configuration_index;
};

struct raft_event {
    enum raft_event_type type;
    uint64_t now_ms; /* monotonic; never below that of an earlier event */
    /* MESSAGE, PEER_UP: of the peer, as its link showed it, and the one that was met first under
     * its id, which holds where the configuration names none (of a voter: a learner is whom the
     * leader meets first); 0: not known. What another incarnation answers does not count. */
    uint64_t incarnation, pinned;
    union {
        struct raft_message *message; /* may be emptied: the core takes over references it keeps */
        struct {
            struct blob **commands; /* a reference of each is taken on success only */
            size_t n;
        } propose;
        struct {
            uint64_t seq; /* everything up to this persist_seq is durable */
        } persisted;
        struct {
            /* Comes back in raft_read_state, exactly once, if update.status is ST_OK. Reads that
             * are given while a confirmation round is under way share the next one. */
            uint64_t id;
        } read;
        struct {
            raft_id to; /* 0: the most caught-up voter */
        } transfer;
        struct raft_change change;          /* CONFIGURE */
        struct raft_snapshot_meta *compact; /* entries up to index may go from the log */
        struct {
            raft_id to;
            struct raft_install_snapshot chunk; /* its data's reference is taken */
            enum status status;                 /* not OK: could not be read, try again later */
        } chunk_read;
        struct {
            raft_index index; /* of the snapshot */
            uint64_t offset;  /* durable so far: the next one wanted */
            enum status status;
        } chunk_stored;
        struct {
            struct raft_snapshot_meta meta;
            enum status status;
        } installed;
        raft_id peer;
    };
};

/* ---- Updates ------------------------------------------------------------------------------------
 */

struct raft_read_state {
    uint64_t id;
    enum status
        status;       /* ST_OK, or ST_NOT_LEADER when leadership was lost before it was confirmed */
    raft_index index; /* serve the read once this index is applied */
};

struct raft_chunk_request {
    raft_id to;
    raft_index snapshot_index; /* 0: open the newest snapshot; else go on with that one */
    uint64_t offset;
};

/* What to do after a step, in the order of the fields. All pointers belong to the core and hold
 * until the next raft_step() or raft_destroy() of the same raft. */
struct raft_update {
    /* 1. Persist this in one write, after all earlier ones, and report RAFT_EVENT_PERSISTED(seq)
     * when it is synced. 0: nothing to persist. entries replace everything from entries[0].index
     * on. */
    uint64_t persist_seq;
    bool hard_state_changed;
    struct raft_hard_state hard_state;
    const struct raft_entry *entries;
    size_t n_entries;

    /* 2. Send these at once: they promise nothing that is not durable (a leader sends Appends in
     * parallel with its own write, thesis 10.2.1). The caller may empty each with fini. */
    struct raft_message *messages;
    size_t n_messages;

    /* 3. Send these once everything handed out to persist so far is durable; in this order. */
    struct raft_message *messages_after_persist;
    size_t n_messages_after_persist;

    /* 4. Entries up to here are committed: apply them in order (raft_entry_at). Never falls. */
    raft_index commit_index;

    /* 5. Reads that are confirmed or failed. */
    const struct raft_read_state *reads;
    size_t n_reads;

    /* 6. Snapshot work: chunks to read for followers; at most one chunk to store, answered by
     * RAFT_EVENT_CHUNK_STORED, and for the last one also (or only) by
     * RAFT_EVENT_SNAPSHOT_INSTALLED after the atomic switch. The chunk's checksum has been checked.
     * A request is answered by RAFT_EVENT_CHUNK_READ, unless the follower needs no snapshot any
     * more or the next request for it came. Further chunks may be handed out before the first is
     * answered; they are stored, and each is answered, in that order. While the state is being
     * switched, commit_index does not pass the snapshot. */
    const struct raft_chunk_request *chunk_requests;
    size_t n_chunk_requests;
    const struct raft_install_snapshot *chunk_to_store; /* NULL: none */

    /* 7. After RAFT_EVENT_SNAPSHOT_INSTALLED: the log now begins after this index; the log on disk
     * must be reset to it, keeping only the entries that raft_entry_at still has. The reset is the
     * write of this update: persist_seq is not 0, hard_state is given, entries are those kept. 0:
     * no reset. */
    raft_index log_reset_index;

    /* The answer to PROPOSE (ST_OK, ST_NOT_LEADER, ST_BUSY), READ, TRANSFER and CONFIGURE (those of
     * rsm.h, GROUP_*, but SHUTDOWN and UNKNOWN). Commands of a PROPOSE got the indices first_index,
     * first_index+1, … of `term`; a change's entry is at first_index. */
    enum status status;
    const char *reason; /* CONFIGURE: a clause for people, static; never NULL */
    raft_index first_index;
    raft_term term;

    bool role_changed; /* role, term or leader differ from before the step */
};

/* ---- The core ---- */

struct raft;

/* Never fails on its own start data: damage is found by the store before. */
struct raft *raft_create(const struct raft_options *options, const struct raft_start *start,
                         uint64_t now_ms);
void raft_destroy(struct raft **raft);

/* One step. Not thread-safe: one thread owns a raft. */
void raft_step(struct raft *raft, const struct raft_event *event, struct raft_update *update);

/* What a freshly created core wants done before its first event: an empty replica's bootstrap entry
 * must be persisted like any other. Call once, right after raft_create. */
void raft_begin(struct raft *raft, struct raft_update *update);

/* When the next TICK is due, on the clock of now_ms. */
uint64_t raft_next_deadline_ms(const struct raft *raft);

raft_id raft_self(const struct raft *raft);
enum raft_role raft_role(const struct raft *raft);
raft_term raft_current_term(const struct raft *raft);
raft_id raft_leader(const struct raft *raft); /* 0: not known */
/* Who will lead next, as far as is known: whom this leader hands over to, else who leads now. */
raft_id raft_next_leader(const struct raft *raft);
raft_index raft_commit_index(const struct raft *raft);
raft_index raft_first_index(const struct raft *raft); /* of the log; last_index+1 when empty */
raft_index raft_last_index(const struct raft *raft);
uint64_t raft_log_bytes(const struct raft *raft); /* of entries in memory */
/* Whether the leader has committed an entry of its own term (needed before configuration changes).
 */
bool raft_leader_ready(const struct raft *raft);
/* The entry, or NULL if the log does not hold that index. Valid until the next step. */
const struct raft_entry *raft_entry_at(const struct raft *raft, raft_index index);
/* The term of an index in the log or of the snapshot before it; 0 if not known. */
raft_term raft_term_at(const struct raft *raft, raft_index index);
/* The configuration in force (the latest in the log), and the one as of an index at or below the
 * last and not below the snapshot: what a checkpoint at that index must record. */
const struct raft_configuration *raft_latest_configuration(const struct raft *raft);
/* The index of the entry that brought the configuration in force; of one that a snapshot brought,
 * or that the log begins with, the snapshot's. 0: none is known. */
raft_index raft_configuration_index(const struct raft *raft);
void raft_configuration_at(const struct raft *raft, raft_index index,
                           struct raft_configuration *configuration);
/* Compaction must not pass this index: a follower is receiving a snapshot of it, or received one
 * and needs the entries from there on (else UINT64_MAX). */
raft_index raft_compaction_bound(const struct raft *raft);

enum raft_progress_state { RAFT_PROBE, RAFT_REPLICATE, RAFT_SNAPSHOT };

struct raft_progress_info {
    raft_id id;
    enum raft_progress_state state;
    raft_index match_index;
    raft_index next_index;
    uint64_t snapshot_offset;
    bool recent_active; /* heard from within the last election timeout, or not known for so long */
};
/* What a leader knows of a follower, for status; false if it does not lead or there is no such. */
bool raft_progress(const struct raft *raft, raft_id id, struct raft_progress_info *info);

/* Asserts every invariant that can be seen from inside one replica. For tests after each step, and
 * in production by option. */
void raft_check(const struct raft *raft);

#endif
