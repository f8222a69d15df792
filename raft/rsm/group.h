/* Inside of a group: the one struct that the files of raft/rsm share, and what each offers the
 * others. Reading order: update.c (how an update of the core is carried out), persist.c, apply.c,
 * proposal.c, read.c, checkpoint.c, sender.c, receiver.c, change.c, peers.c, then group.c, which
 * joins them.
 *
 * Two rules keep it simple. The core is stepped by rsm_step_raft only, never from within the
 * carrying out of an update. And nobody outside is called back from there either: callbacks run
 * from apply and from the settling at the end of group_step, when the core is at rest.
 */
#ifndef RAFT_RSM_GROUP_H
#define RAFT_RSM_GROUP_H

#include <bsd/sys/tree.h>
#include <sys/queue.h>

#include "raft/rsm.h"
#include "raft/rsm/codec.h"
#include "raft/util/assert.h"
#include "raft/util/mem.h"

#define RSM_APPLY_MAX_ENTRIES     4096         /* in one turn */
#define RSM_APPLY_MAX_BYTES       (4u << 20)   /* in one turn */
#define RSM_APPEND_MAX_BYTES      (4u << 20)   /* of proposals in one turn */
#define RSM_APPEND_FULL_BYTES     (128u << 10) /* of proposals: waits for no company */
#define RSM_LARGE_RUNNING_BYTES   (4u << 20)   /* of such ones appended and not ended: or one */
#define RSM_LARGE_PATIENCE_MS     1000         /* longer none of them waits for room */
#define RSM_CHECKPOINT_RETRY_MS   1000         /* after one that found no space */
#define RSM_DROP_LOG_MS           8000 /* the log of one is kept no longer for those that lag */
#define RSM_READ_ONLY_TRANSFER_MS 5000 /* between tries to hand leadership over */
#define RSM_ENTRY_OVERHEAD        64   /* bytes of an entry in memory besides its data */

/* ---- Persisting (persist.c) ---- */

/* A write handed to the log and not yet known durable. Writes are durable in order. */
struct rsm_write {
    STAILQ_ENTRY(rsm_write) next;
    uint64_t number;      /* its token */
    uint64_t persist_seq; /* the core's; 0: none of its */
    raft_index first;     /* entries from here on are replaced; 0: no entries */
    raft_index last;      /* the log's last index once it is durable; 0: unchanged */
};

/* A message that promises what the writes up to `number` hold. */
struct rsm_held {
    STAILQ_ENTRY(rsm_held) next;
    uint64_t number;
    raft_id to;
    enum io_class class;
    struct buf bytes;
};

/* Invariants: durable <= queued; writes holds exactly the numbers durable+1..queued; held messages
 * ascend by number and all have number > durable. */
struct rsm_persist {
    uint64_t queued;  /* number of the newest write handed out */
    uint64_t durable; /* number of the newest durable one */
    uint64_t flushed; /* number of the newest that the disk was given before its turn's end */
    struct raft_hard_state hard_state;
    raft_index durable_index; /* last index of the durable log */
    STAILQ_HEAD(, rsm_write) writes;
    STAILQ_HEAD(, rsm_held) held;
};

void rsm_persist_init(struct group *group, const struct raft_hard_state *hard_state,
                      raft_index durable_index);
void rsm_persist_fini(struct group *group);
void rsm_persist_update(struct group *group, const struct raft_update *update);
/* The log begins again after (index, term), with what the core's log holds behind it; at create,
 * when there is no core yet, with nothing. */
void rsm_persist_reset(struct group *group, raft_index index, raft_term term, uint64_t persist_seq);
/* Sends once all writes handed out so far are durable. Takes the bytes over. */
void rsm_persist_hold(struct group *group, raft_id to, enum io_class class, struct buf *bytes);
void rsm_persist_written(struct group *group, uint64_t token, enum status status);
/* The highest index up to which the own log is durable as it stands. */
raft_index rsm_persist_durable_index(const struct group *group);

/* ---- Company (company.c) ---- */

/* How many proposals and reads were under way at once lately: what decides how long one waits for
 * others to share a round with. */
struct rsm_company {
    uint32_t most;     /* it fades, by an eighth a millisecond */
    uint64_t faded_ms; /* until then */
    uint64_t round_ms; /* the last round began */
    uint32_t pace_ms;  /* on a busy machine: one round in so many milliseconds; 0: no pace */
};

/* `n` are under way now. */
void rsm_company_note(struct rsm_company *company, uint32_t n, uint64_t now_ms);
/* When a round with the n that were gathered is to begin: now, or a little later. */
uint64_t rsm_company_deadline_ms(const struct rsm_company *company, uint32_t n, bool one_is_running,
                                 uint32_t patience_ms, uint64_t now_ms);

/* The same for the group: one more was gathered; a round began; when what is gathered, proposals
 * and reads together, is to be flushed (UINT64_MAX: there is nothing). */
void rsm_round_gathered(struct group *group);
void rsm_round_began(struct group *group);
uint64_t rsm_round_deadline_ms(const struct group *group);

/* ---- Proposals (proposal.c) ---- */

/* Gathered until the turn ends (index 0), then waiting for its (index, term) to be decided. A large
 * one is put back before it is gathered, until there is room for it. */
struct rsm_proposal {
    STAILQ_ENTRY(rsm_proposal) next;
    RB_ENTRY(rsm_proposal) by_place;
    raft_index index;
    raft_term term;
    uint64_t min_stamp;
    uint64_t begun_us;
    struct blob *entry;   /* header and command; NULL once appended */
    size_t len;           /* of the entry */
    uint64_t patience_ms; /* a large one that was put back: it waits no longer */
    bool is_running;      /* a large one that was gathered since */
    group_proposal_done done;
    void *context;
};

STAILQ_HEAD(rsm_proposal_list, rsm_proposal);
RB_HEAD(rsm_proposal_tree, rsm_proposal);

struct rsm_proposals {
    struct rsm_proposal_list large; /* put back */
    struct rsm_proposal_list gathered;
    struct rsm_proposal_tree waiting; /* by (index, term); all above the applied index */
    uint32_t n_large;
    uint32_t n_gathered;
    uint32_t n_waiting;
    uint64_t gathered_bytes;
    uint64_t large_bytes;      /* of those put back */
    uint64_t running_bytes;    /* of the large ones that wait for their end */
    bool hurry;                /* the gathered ones wait for no company */
    raft_index appended_index; /* the last one appended, in appended_term */
    raft_term appended_term;
    uint64_t last_stamp;    /* the newest given to an entry here */
    raft_term applied_term; /* the highest applied: nothing of a lower one waits */
};

void rsm_proposals_init(struct group *group);
/* All that have no end yet. */
uint32_t rsm_proposals_count(const struct group *group);
void rsm_proposals_flush(struct group *group);
/* Gathers the large ones for which there is room, or that waited long enough. */
void rsm_proposals_admit_large(struct group *group);
/* When one of them has waited long enough; UINT64_MAX: there is none. */
uint64_t rsm_proposals_deadline_ms(const struct group *group);
/* Some were appended and are not committed yet. */
bool rsm_proposals_are_running(const struct group *group);
/* The gathered ones wait for no company. */
bool rsm_proposals_hurry(const struct group *group);
/* The entry (index, term) was applied; ends what waited for it and what can't happen any more. */
void rsm_proposals_applied(struct group *group, raft_index index, raft_term term,
                           struct slice result);
/* The state jumped to (index, term) by a snapshot: what is at or below is not known. */
void rsm_proposals_jumped(struct group *group, raft_index index, raft_term term);
/* Ends the gathered ones and those put back with `status`; the waiting ones with ST_UNKNOWN. */
void rsm_proposals_refuse_gathered(struct group *group, enum status status);
void rsm_proposals_abandon_waiting(struct group *group);
void rsm_proposals_check(struct group *group);

/* ---- Reads (read.c) ---- */

struct rsm_read {
    group_read_done done;
    void *context;
    uint64_t begun_us;
};

enum rsm_round_state { RSM_ROUND_ASKED, RSM_ROUND_CONFIRMED, RSM_ROUND_FAILED };

/* The reads of one turn, confirmed together. */
struct rsm_round {
    TAILQ_ENTRY(rsm_round) next;
    uint64_t id;
    enum rsm_round_state state;
    raft_index index;   /* CONFIRMED: serve once this is applied */
    enum status status; /* FAILED: why */
    struct rsm_read *reads;
    size_t n, capacity;
};

struct rsm_reads {
    struct rsm_round *gathering; /* NULL: none */
    TAILQ_HEAD(rsm_rounds, rsm_round) rounds;
    uint64_t last_id;
    uint32_t n; /* reads in all rounds */
};

void rsm_reads_init(struct group *group);
void rsm_reads_flush(struct group *group);
/* A round is asked for and not confirmed yet. */
bool rsm_reads_are_running(const struct group *group);
void rsm_reads_update(struct group *group, const struct raft_update *update);
/* Ends the rounds that failed or whose index is applied. */
void rsm_reads_settle(struct group *group);
void rsm_reads_refuse_all(struct group *group, enum status status);

/* ---- Applying (apply.c) ---- */

struct rsm_apply {
    raft_index index; /* the last applied */
    raft_term term;   /* of that entry */
    uint64_t stamp;   /* of the last applied command */
    uint32_t turn_entries;
    uint64_t turn_bytes;
    bool turn_over; /* the next event begins a new turn, with a new budget */
    struct buf result;
};

void rsm_apply_committed(struct group *group);
/* There is something that may be applied at once, but for the turn's budget. */
bool rsm_apply_has_work(const struct group *group);
/* Applying waits for a checkpoint that is under way, or for the space that it needs. */
bool rsm_apply_is_full(const struct group *group);

/* ---- Checkpoints and compaction (checkpoint.c) ---- */

struct rsm_checkpoint {
    bool running;
    bool wanted;            /* a follower needs a snapshot and there is none */
    bool no_space;          /* the last one found the disk full */
    bool bound_hit;         /* compaction was kept back for a snapshot in flight */
    uint64_t retry_ms;      /* not before, after one that failed */
    uint64_t drop_ms;       /* by then, since ranges were dropped; 0: none were */
    raft_index begun_index; /* of the one that runs, if ranges were dropped before it; else 0 */
    raft_index let_go;      /* the log is not kept for others up to here: it tells of the dropped */
    uint64_t let_go_ms;     /* but for those that lag until then */
    uint64_t applied_bytes; /* of entries, since the last one began */
    raft_index last_index;  /* of the last durable one, or of the state at start */
    uint64_t begun_us;      /* the one that runs, or ran last */
    struct rng rng;         /* for what follows */
    uint32_t dirty_share;   /* of the usual dirty bytes, what makes the next one due */
    uint32_t parts;         /* that the service has saved for the next one; 0: it is not due */
    uint64_t part_us;       /* when the last of them was */
    bool is_saved;          /* no more parts: the next one begins as soon as it may */
};

void rsm_checkpoint_init(struct group *group);
/* One should begin now; apply goes on only as far as it could cover. */
bool rsm_checkpoint_due(const struct group *group);
void rsm_checkpoint_maybe_start(struct group *group);
void rsm_checkpoint_done(struct group *group, const struct io_event *event);
/* At start, when the core has begun: does what may have been lost behind the state's checkpoint,
 * whose number is `number`; the log knows of those up to `noted`. */
void rsm_checkpoint_open(struct group *group, uint64_t number, uint64_t noted);
void rsm_checkpoint_tick(struct group *group);
/* When it wants a tick; UINT64_MAX: not by itself. */
uint64_t rsm_checkpoint_deadline_ms(const struct group *group);

/* ---- Sending snapshots (sender.c) ---- */

/* A snapshot held open for a follower. */
struct rsm_sender {
    TAILQ_ENTRY(rsm_sender) next;
    raft_id to;
    uint64_t snapshot; /* the state's number for it */
    struct raft_snapshot_meta meta;
};

/* A chunk being read. */
struct rsm_chunk_read {
    TAILQ_ENTRY(rsm_chunk_read) next;
    uint64_t token;
    raft_id to;
};

struct rsm_senders {
    TAILQ_HEAD(, rsm_sender) open;
    TAILQ_HEAD(, rsm_chunk_read) reads;
    uint64_t last_token;
    raft_id refused[RAFT_MAX_SERVERS]; /* asked for a snapshot when there was none to open */
    size_t n_refused;
};

void rsm_senders_init(struct group *group);
void rsm_senders_fini(struct group *group);
void rsm_senders_update(struct group *group, const struct raft_update *update);
void rsm_senders_chunk(struct group *group, const struct io_event *event);
/* Tells the core of requests that could not be met, and closes what no follower needs. */
void rsm_senders_settle(struct group *group);

/* ---- Receiving snapshots (receiver.c) ---- */

struct rsm_receiver {
    bool deferred;  /* the last chunk waits for a checkpoint to end */
    bool switching; /* the last chunk is with the state: nothing is applied until it answers */
    uint32_t outstanding;               /* chunks with the state, which answers them in order */
    struct raft_install_snapshot chunk; /* while deferred */
};

void rsm_receiver_fini(struct group *group);
void rsm_receiver_update(struct group *group, const struct raft_update *update);
/* A checkpoint ended: a last chunk that waited for it goes to the state. */
void rsm_receiver_resume(struct group *group);
void rsm_receiver_stored(struct group *group, const struct io_event *event);
void rsm_receiver_installed(struct group *group, const struct io_event *event);

/* ---- Changes of the configuration (change.c) ---- */

/* The one that was asked for here and is under way. */
struct rsm_change {
    group_change_done done; /* NULL: none */
    void *context;
    struct group_change change; /* its url is not kept */
    raft_index index;           /* of its first entry */
    raft_term term;             /* of that entry */
    raft_term led_term;         /* in which this replica led when it began */
};

void rsm_change_init(struct group *group);
/* Ends it if it is decided, or can't be known here any more. */
void rsm_change_settle(struct group *group);
void rsm_change_abandon(struct group *group);

/* ---- The links to the peers (peers.c) ---- */

/* One that the configuration in force has no more: it may still have to be told so. */
struct rsm_leaver {
    struct raft_server server;
    uint64_t until_ms; /* 0: its removal is not committed yet */
};

struct rsm_peers {
    struct raft_configuration configuration; /* the last one that the links were set by */
    raft_index index;
    raft_term term;
    bool known;      /* it was set once */
    bool open;       /* who they are may be out of date */
    uint64_t led_ms; /* when a leader was last known */
    struct rsm_leaver leavers[RAFT_MAX_SERVERS];
    size_t n_leavers;
};

/* The links follow the configuration in force; after each step of the core, and with time. */
void rsm_peers_follow(struct group *group);
uint64_t rsm_peers_deadline_ms(const struct group *group);

/* ---- The group ---- */

struct group {
    struct group_options options;
    struct group_world world;
    const struct rsm_service_ops *ops;
    void *service;
    struct raft *raft;
    uint64_t now_ms;
    uint64_t awake_ms; /* the core's time: see struct io_event */
    uint64_t now_us;   /* for statistics */
    uint64_t wall_us;

    bool halted;   /* for good: nothing is sent, written or applied any more */
    bool stopping; /* asked to end */
    bool disk_low;
    bool was_read_only;
    uint64_t give_up_ms; /* next try to hand leadership over while read-only */
    raft_id give_up_to;  /* whom the last try chose; 0: none yet */

    bool role_changed; /* the service is to be told */
    raft_id known_leader;
    bool was_candidate;

    uint64_t pinned[SPEC_MAX_ID + 1];    /* by peer: the incarnation that was met first */
    uint64_t away[SPEC_MAX_ID / 64 + 1]; /* bit by peer: its link is down */

    struct rsm_persist persist;
    struct rsm_company company;
    struct rsm_proposals proposals;
    struct rsm_reads reads;
    struct rsm_apply apply;
    struct rsm_checkpoint checkpoint;
    struct rsm_senders senders;
    struct rsm_receiver receiver;
    struct rsm_change change;
    struct rsm_peers peers;
    struct group_stats stats;
};

/* One step of the core, and everything its update asks for (update.c). Returns the update's status
 * and, for PROPOSE, the place of the first command. */
struct rsm_answer {
    enum status status;
    const char *reason;
    raft_index first_index;
    raft_term term;
};
struct rsm_answer rsm_step_raft(struct group *group, struct raft_event *event);
void rsm_begin_raft(struct group *group);

/* A peer whose link is known to be down is sent nothing: the transport would drop it. Known until
 * the link is up, or the peer is heard. */
void rsm_set_away(struct group *group, raft_id peer, bool away);
bool rsm_is_away(struct group *group, raft_id peer);

/* The replica stops for good; only the first reason is told. */
void rsm_halt(struct group *group, enum status status, const char *reason);

/* Asserts every invariant that can be seen from inside, at rest (check.c). */
void rsm_check(struct group *group);

/* Opens the core on what was found (open.c). */
enum status rsm_open(struct group *group, struct io_log_content *log,
                     const struct io_state_meta *meta, uint64_t now_ms);
/* Has the service read its state anew, after an open or an install. */
enum status rsm_restore_service(struct group *group);

#endif
