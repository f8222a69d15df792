/* rsm: the replicated state machine runtime. It joins the Raft core, the log on disk and the state
 * of one group, and gives a service four things: propose (with a precise end), linearizable reads,
 * snapshots, and exactly-once sessions. The controller and the shard servers are services of it.
 *
 * It is deterministic: events in (raft/io.h), operations out; no I/O of its own.
 */
#ifndef RAFT_RSM_H
#define RAFT_RSM_H

#include "raft/io.h"
#include "raft/raft.h"
#include "raft/util/histogram.h"
#include "raft/util/rng.h"

/* ---- Entries ------------------------------------------------------------------------------------
 */

/* Every command entry begins with this header. Format (20 bytes): u8 format = 1, u8 flags = 0,
 * u16 kind = 0, u64 stamp, u64 trace_id. An entry of an unknown format halts the replica. */
#define RSM_ENTRY_HEADER_BYTES 20

/* A command as the service sees it at apply. */
struct rsm_command {
    raft_index index;
    raft_term term;
    uint64_t stamp;    /* cluster time, microseconds: strictly growing from entry to entry */
    uint64_t trace_id; /* 0: none */
    struct slice bytes;
};

/* ---- The service ---- */

struct group;

struct rsm_service_ops {
    /* Applies one committed command to the state (through the group's io_state). Deterministic: the
     * same state and command give the same state and result on every replica. Appends its result.
     * Returns ST_OK, or what stops this replica (an unknown command: ST_VERSION; the state can't be
     * read: ST_IO, ST_CORRUPT). A refusal that is the command's outcome is part of the result. */
    enum status (*apply)(void *service, const struct rsm_command *command, struct buf *result);

    /* The ranges that are part of the state now, ascending, without 0. Appends to the array. */
    void (*ranges)(void *service, uint64_t **ranges, size_t *n, size_t *capacity);

    /* The state was opened or replaced by a snapshot: forget what was cached and read it anew.
     * ST_OK, or what stops this replica. */
    enum status (*restore)(void *service);

    /* The lowest stamp that the next entry may have: one above the floor of every shard held. */
    uint64_t (*stamp_floor)(void *service);

    /* Role, term or known leader changed. May propose only from a later event. */
    void (*role_changed)(void *service, enum raft_role role, raft_term term, raft_id leader);

    /* A checkpoint is about to take the state: what is in memory only is to be written there now.
     * NULL: there never is anything. */
    void (*save)(void *service);

    /* One comes near: a part of that is to be written, which takes a fraction of a millisecond.
     * True: there are more parts. What has changed again since its part is left to `save`. NULL: it
     * never is much. */
    bool (*save_part)(void *service);
};

/* ---- The group ---- */

struct group_options {
    group_id group;
    struct raft_options raft;
    /* For an empty replica: the configuration that its group begins with, the same on all of them.
     * n == 0: it joins an existing group. Then it writes no first entry and never stands for
     * election, as no configuration that it knows has it as a voter; it waits for a leader of its
     * group to send it the log or a snapshot. */
    struct raft_configuration bootstrap;
    uint64_t checkpoint_log_bytes;   /* checkpoint when so much was applied since the last */
    uint64_t checkpoint_dirty_bytes; /* or so much, give or take a quarter, is dirty */
    uint32_t checkpoint_rest_ms;     /* or a 16th of that, so long after the last began */
    uint64_t max_dirty_bytes;        /* beyond, applying waits for a checkpoint */
    uint32_t large_bytes;            /* a larger proposal lets others go first */
    uint32_t drop_checkpoint_ms;     /* a dropped range waits no longer for a checkpoint */
    uint64_t log_keep_bytes; /* entries kept behind a checkpoint for followers that lag a little */
    /* Beyond, proposals get ST_BUSY, and a follower that has committed entries to apply takes no
     * further ones, until a checkpoint frees some. */
    uint64_t max_log_bytes;
    uint32_t company_ms;    /* how long proposals and reads wait for others to share a round with */
    uint32_t max_proposals; /* waiting for their end; beyond: ST_BUSY */
    uint32_t max_reads;     /* waiting for confirmation; beyond: ST_BUSY */
    uint32_t snapshot_chunk_bytes;
    bool check_invariants; /* raft_check after each step */
    const struct trace *trace;
};

void group_options_default(struct group_options *options, group_id group, raft_id id,
                           uint64_t seed);

struct group_world {
    struct io_net *net;
    struct io_log *log;
    struct io_state *state;
    /* This replica must stop serving, now and for good; says why. The group sends nothing
     * afterwards, and ends what waits: appended proposals with ST_UNKNOWN, all else with
     * ST_SHUTDOWN. Called from group_step: the group must not be destroyed from here. */
    void (*halt)(void *context, enum status status, const char *reason);
    void *halt_context;
};

/* Opens a group on what the disk holds: reconciles log and state (a state ahead of the log, or of
 * another term, means that the log begins again at the state's index), restores the service. Takes
 * the references of log->entries over. ST_OK, or ST_CORRUPT with a reason in the trace. */
enum status group_create(const struct group_options *options, const struct group_world *world,
                         const struct rsm_service_ops *service_ops, void *service,
                         struct io_log_content *log, const struct io_state_meta *state_meta,
                         uint64_t now_ms, struct group **group);
void group_destroy(struct group **group);

/* One event: those about this group (PEER_*, LOG_WRITTEN, CHECKPOINT, SNAPSHOT_READ, INSTALL*),
 * TICK, TURN_END, DISK_SPACE and STOP. Others are ignored. */
void group_step(struct group *group, const struct io_event *event);

/* The machine is busy: unless many are gathered, one round begins in each span of so many
 * milliseconds, counted from 0. 0: it is not. */
void group_set_pace(struct group *group, uint32_t ms);

/* When the next TICK is due. */
uint64_t group_next_deadline_ms(const struct group *group);

/* The end of a proposal, exactly once.
 *   ST_OK          applied; result is what the service's apply appended
 *   ST_NOT_LEADER, ST_BUSY, ST_READ_ONLY, ST_SHUTDOWN, ST_TOO_LARGE, and ST_INVALID for a
 *                  min_stamp more than SESSION_MAX_AHEAD_US ahead of cluster time:
 *                  certainly not applied, now or later
 *                  (ST_NOT_LEADER of an appended one: an entry of another term was applied at its
 *                  index, or one of a later term below it, so it can't be committed any more)
 *   ST_UNKNOWN     it was appended and its end can't be known here any more
 * Called from group_step or, for an immediate refusal, from group_propose itself. */
typedef void (*group_proposal_done)(void *context, enum status status, struct slice result);

/* Proposes a command (copied). min_stamp: the entry's stamp will be above it (0: no bound; a
 * session's issued_at). Appended at the turn's end, together with all others. */
void group_propose(struct group *group, struct slice command, uint64_t min_stamp, uint64_t trace_id,
                   group_proposal_done done, void *context);

/* What was proposed so far is appended when this turn ends: it does not wait for company. */
void group_hurry(struct group *group);

/* Calls done(ST_OK) once the state holds everything that was committed when this was called, as
 * confirmed by a majority afterwards (ReadIndex, thesis 6.4): what is then read is linearizable.
 * Else ST_NOT_LEADER, ST_BUSY, ST_SHUTDOWN. */
typedef void (*group_read_done)(void *context, enum status status);
void group_read(struct group *group, group_read_done done, void *context);

/* Hands leadership over; 0: to the most caught-up voter. ST_OK: begun. ST_NOT_LEADER, ST_INVALID.
 */
enum status group_transfer(struct group *group, raft_id to);

/* ---- Replicas come and go ---- */

enum group_change_kind {
    GROUP_ADD_REPLICA = 1,    /* as a learner; it catches up and is promoted by itself */
    GROUP_REMOVE_REPLICA = 2, /* a voter, by a joint configuration, or a learner */
    /* For a group that has lost its majority for good, by an operator's explicit order only: this
     * replica's configuration becomes itself alone, in a term above all it saw, without asking
     * anybody. What only the others had acknowledged is lost; if they live, they are a second group
     * under the same name from then on, and must not be started again. */
    GROUP_FORCE_ALONE = 3
};

struct group_change {
    enum group_change_kind kind;
    raft_id id;      /* FORCE_ALONE: this replica's own */
    const char *url; /* ADD: where it listens; borrowed for the call. Else NULL */
    /* Which configuration is to be changed, by the index of its entry; 0: whichever is in force. */
    raft_index configuration_index;
};

/* The end of a change, exactly once; from group_step, or for an immediate refusal from
 * group_change_replicas itself.
 *   ST_OK           committed: for ADD the entry with the learner, for REMOVE the final (not joint)
 *                   configuration; configuration_index is that entry's
 *   ST_NOT_LEADER, ST_SHUTDOWN
 *   ST_BUSY         another change is under way, or the leader has not committed in its term yet
 *   ST_INVALID      id or URL in use, unknown id, the last voter, more than SPEC_MAX_REPLICAS;
 *                   FORCE_ALONE: a majority is heard from, or this replica is no voter
 *   ST_CONFLICT     another configuration is in force than the one that the change means
 *   ST_UNAVAILABLE  a majority of the voters that would be left was not heard from within an
 *                   election timeout: the change would break the quorum
 *   ST_UNKNOWN      it was begun, and its end can't be known here any more
 * All but the first and the last: certainly without effect. configuration_index is 0 for them.
 * reason: one static clause for people, never NULL. */
typedef void (*group_change_done)(void *context, enum status status, const char *reason,
                                  raft_index configuration_index);
void group_change_replicas(struct group *group, const struct group_change *change,
                           group_change_done done, void *context);

/* What a replica may go on believing of a peer's incarnation: that which the configuration in force
 * names; else, unless its removal is committed, `pinned`, met at first contact; else 0, nothing:
 * then another one may come under the id. */
uint64_t group_pinned_incarnation(const struct group *group, raft_id id, uint64_t pinned);
/* Which incarnation was met first under an id; 0: none. What another one answers does not count, as
 * long as the configuration names none and does not call it a learner, which is whom the leader
 * meets first. May be called at any time. */
void group_pin_incarnation(struct group *group, raft_id id, uint64_t pinned);

const struct raft *group_raft(const struct group *group);
struct io_state *group_state(const struct group *group);
raft_index group_applied_index(const struct group *group);
uint64_t group_last_stamp(const struct group *group); /* cluster time now */
bool group_is_leader(const struct group *group);
/* Leads, has committed in its term and applied everything up to that: its state is current enough
 * to act on (start migrations, propose INIT). Not a licence to serve reads. */
bool group_is_ready(const struct group *group);
bool group_is_read_only(const struct group *group); /* the disk is nearly full */
bool group_is_halted(const struct group *group);    /* it told world.halt: the end */

#define GROUP_STATUSES 64 /* above every enum status */

struct group_stats {
    uint64_t proposals_ok, proposals_refused, proposals_unknown;
    uint64_t reads_ok, reads_refused;
    uint64_t entries_applied, elections_started, leader_changes;
    uint64_t snapshots_sent, snapshots_installed, checkpoints;
    uint64_t messages_sent, messages_received;
    raft_index checkpoint_index; /* of the last durable checkpoint */

    uint64_t refused[GROUP_STATUSES]; /* proposals_refused, by enum status */
    uint64_t read_rounds;             /* confirmations asked for; each of all reads that gathered */
    uint64_t checkpoints_no_space;    /* that failed for lack of space */
    uint64_t snapshot_bytes_sent, snapshot_bytes_received;
    struct histogram proposal_us;   /* from group_propose to applied */
    struct histogram read_us;       /* from group_read to confirmed and applied */
    struct histogram checkpoint_us; /* of those that succeeded */
};
const struct group_stats *group_statistics(const struct group *group);

/* What waits now. */
struct group_queues {
    uint32_t proposals, reads;  /* for their end */
    uint64_t unsynced_writes;   /* writes handed to the log, not durable yet */
    uint32_t snapshots_sending; /* followers that are being sent one */
    bool snapshot_receiving;    /* the last chunk came, the state is being switched */
};
void group_queues(const struct group *group, struct group_queues *queues);
/* The time of the last event, io_event.now_us, for durations that begin and end with events. An
 * event that does not reach group_step tells it by itself, before something is proposed or read. */
uint64_t group_now_us(const struct group *group);
void group_tell_time(struct group *group, const struct io_event *event);

/* ---- Sessions: exactly once ---- */

/* A writing operation's identity, equal in all its tries. */
struct session_id {
    uint8_t bytes[16]; /* random */
};

struct session_key {
    struct session_id client;
    uint64_t seq;       /* 1, 2, … in the client */
    uint64_t acked_seq; /* all up to it are answered or given up */
    uint64_t issued_at; /* the cluster time the client last heard of */
};

#define SESSION_MAX_RESULT   64
#define SESSION_SEQ_WINDOW   1024
#define SESSION_MAX_RECORDS  65536
#define SESSION_KEY_BYTES    40
#define SESSION_MAX_AHEAD_US (24ull * 3600 * 1000000)

/* 16 bytes of id, then u64 seq, acked_seq, issued_at. */
void session_key_encode(const struct session_key *key, struct buf *out);
bool session_key_decode(struct reader *reader, struct session_key *key);

enum session_verdict {
    SESSION_APPLY,     /* new: apply it, then session_commit */
    SESSION_DUPLICATE, /* applied before: answer the kept result, apply nothing */
    SESSION_STALE,     /* answered and forgotten, or too far ahead: refuse, apply nothing */
    SESSION_EXPIRED    /* issued_at at or below the floor: refuse, apply nothing */
};

/* The sessions of one shard (or of the controller): one record a client, kept in memory and written
 * through to (range, kind, client id) of the state; the floor under the empty key. A deferred table
 * writes records of commits later: at the latest in session_table_save, which must come before
 * whatever reads them in the state, a checkpoint above all. While it is watched it puts nothing
 * off. */
struct session_table;

struct session_table *session_table_create(struct io_state *state, uint64_t range, uint8_t kind,
                                           uint32_t max_records);
void session_table_destroy(struct session_table **table);
void session_table_defer(struct session_table *table);
void session_table_save(struct session_table *table);
/* Of at most so many records, the longest unsaved first; how many there were. */
uint32_t session_table_save_some(struct session_table *table, uint32_t most);
/* Reads all records from the state, replacing what is in memory. */
enum status session_table_load(struct session_table *table);

/* The rule, in its order. For SESSION_DUPLICATE, *result is the kept result (valid until the next
 * change). Changes nothing. */
enum session_verdict session_check(const struct session_table *table, const struct session_key *key,
                                   struct slice *result);
/* After applying: records the result (at most SESSION_MAX_RESULT bytes), extends the client's
 * activity to `stamp`, forgets what acked_seq covers; evicts the least recently active client and
 * raises the floor when the table is full. */
void session_commit(struct session_table *table, const struct session_key *key, uint64_t stamp,
                    struct slice result);
uint64_t session_floor(const struct session_table *table);
uint32_t session_count(const struct session_table *table);

/* Moving a shard: records travel as (client id, encoded record) pairs. The floor travels by itself:
 * none of these raises it, or evicts. */

/* `changed` is told of each client whose record session_commit changes or evicts, after that; NULL:
 * nobody is. */
typedef void (*session_changed)(void *context, struct slice client);
void session_table_watch(struct session_table *table, session_changed changed, void *context);
/* All records, in the order of their activity. */
typedef void (*session_visit)(void *context, struct slice client, struct slice record);
void session_table_each(const struct session_table *table, session_visit visit, void *context);
/* Makes the client's record this one. ST_OK, or ST_MALFORMED, ST_CORRUPT, ST_VERSION: then nothing
 * was changed. */
enum status session_put(struct session_table *table, struct slice client, struct slice record);
/* No record of the client any more; there need not be one. */
void session_remove(struct session_table *table, struct slice client);
void session_raise_floor(struct session_table *table, uint64_t floor);

#endif
