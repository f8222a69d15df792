/* A little world for the Raft core: a few replicas, their disks, the messages between them and the
 * time, all moved by hand. Nothing happens by itself: a test says what is delivered, what becomes
 * durable and how far the clock goes, or lets cores_run do all of it in order.
 *
 * Messages travel as bytes, so every test also exercises the wire format, and one can be repeated.
 * After each step of any replica the checkers (core_harness_check.c) look at all of them: election
 * safety, log matching, leader completeness, state-machine safety (paper, Figure 3), that what is
 * committed is durable on a majority, and that no read is older than what was committed before it.
 */
#ifndef TESTS_SIM_CORE_HARNESS_H
#define TESTS_SIM_CORE_HARNESS_H

#include "raft/util/assert.h"
#include "raft/util/mem.h"
#include "raft/util/rng.h"
#include "raft/wire.h"
#include "tests/cmocka.h"

#define CORES_NODES    7 /* ids 1..7 at most */
#define CORES_INDEXES  20000
#define CORES_TERMS    5000
#define CORES_READS    4096
#define SNAPSHOT_BYTES 100 /* of a snapshot's stream */
#define CHUNK_BYTES    32

/* A write on its way to the disk. */
struct core_disk_write {
    uint64_t seq;
    bool reset;
    raft_index reset_index;
    raft_term reset_term;
    struct raft_hard_state hard_state;
    bool has_hard_state;
    struct raft_entry *entries;
    size_t n_entries;
};

/* What survives a crash. */
struct core_disk {
    struct raft_hard_state hard_state;
    raft_index begin_index;
    raft_term begin_term;
    struct raft_entry *entries; /* begin_index + 1 ... */
    size_t n_entries;
    /* The state as of its last checkpoint or installed snapshot. */
    raft_index state_index;
    raft_term state_term;
    uint64_t state_digest;
    struct raft_configuration state_configuration;
    /* A snapshot being received. */
    raft_index receive_index;
    raft_term receive_term;
    uint64_t receive_offset;
    uint8_t receive_bytes[SNAPSHOT_BYTES];
};

struct chunk_store {
    struct raft_install_snapshot chunk;
};

struct held_message {
    uint64_t after_seq;
    struct buf bytes;
};

struct core_node {
    raft_id id;
    uint64_t incarnation; /* another one after cores_wipe */
    bool joins;           /* starts without the bootstrap configuration */
    struct raft *raft;    /* NULL: down */
    struct core_disk disk;
    struct core_disk_write *writes; /* not yet durable, in order */
    size_t n_writes, writes_capacity;
    struct held_message *held; /* wait for writes, in order */
    size_t n_held, held_capacity;
    struct chunk_store *stores;
    size_t n_stores, stores_capacity;
    struct raft_chunk_request *reads; /* chunks the leader wants read */
    size_t n_reads, reads_capacity;
    raft_index stepped_last_index; /* of what its last step appended; 0: nothing */
    bool slow_disk;                /* cores_settle leaves its writes alone */
    raft_index applied_index;
    uint64_t digest;
    uint64_t snapshots_installed;
    uint64_t link_up; /* bit per peer: messages from here to there pass */
};

struct flying {
    raft_id from, to;
    enum raft_message_type type;
    uint64_t incarnation; /* of the sender */
    struct buf bytes;
};

struct committed {
    raft_term term;
    uint64_t data;   /* digest of the entry's data */
    uint64_t digest; /* of the state after applying it */
};

/* The first entry ever seen with an index and a term; all others must be the same. */
struct seen_entry {
    raft_index index;
    raft_term term, prev_term;
    uint64_t data;
};

struct read_issued {
    raft_index committed_before;
    bool answered;
    enum status status;
    raft_index index;
};

struct cores {
    size_t n;
    struct core_node nodes[CORES_NODES + 1]; /* by id */
    struct raft_configuration bootstrap;
    struct raft_options options; /* of every replica, but for id and seed */
    uint64_t seed;
    uint64_t now_ms;
    struct flying *flying; /* in the order they were sent */
    size_t n_flying, flying_capacity;
    uint64_t n_sent[16]; /* by type */
    uint64_t bytes_sent;
    uint64_t last_command;
    struct read_issued reads[CORES_READS]; /* by id */
    size_t n_reads;
    struct raft_update last; /* of the last step; entries and messages are gone */

    raft_id leader_of_term[CORES_TERMS];
    struct committed committed[CORES_INDEXES];
    raft_index committed_max;
    struct seen_entry *seen;
    size_t seen_capacity;
    bool static_members; /* the configuration is the bootstrap's, unless leaders change it */
    bool forced;         /* a replica was left alone: nothing is known of what others committed */
};

/* ---- Steps and time: core_harness.c ---- */
struct raft *core_of(struct cores *cores, raft_id id);
void cores_step(struct cores *cores, raft_id id, struct raft_event *event);
void cores_tick(struct cores *cores, raft_id id);
/* Makes the oldest write of a replica durable and lets go what waited for it. */
void cores_persist_one(struct cores *cores, raft_id id);
void cores_persist(struct cores *cores, raft_id id);
/* The oldest write, the oldest chunk to store and the oldest to read, of what there is. */
void cores_work(struct cores *cores, raft_id id);
/* Writes, stores, reads and messages until nothing is left to do; time stands still. */
void cores_settle(struct cores *cores);
/* Lets time pass millisecond by millisecond; everything happens at once when it is due. */
void cores_run(struct cores *cores, uint64_t ms);

/* ---- What a replica's disk holds: core_harness_disk.c ---- */
raft_index core_disk_last_index(const struct core_disk *disk);
raft_term core_disk_term_at(const struct core_disk *disk, raft_index index);

/* ---- Replicas come and go: core_harness_life.c ---- */
/* Starts a replica from its disk. A state ahead of the log, or of another history, means that the
 * log begins again at it. */
void cores_start(struct cores *cores, raft_id id);
/* Ends all faults: links work again, and who is down starts. */
void cores_recover(struct cores *cores);
/* Forgets everything that is not on the disk. */
void cores_crash(struct cores *cores, raft_id id);
/* Loses the disk of a replica that is down: it comes back as another one, which joins. */
void cores_wipe(struct cores *cores, raft_id id);
/* One more replica, down and empty, that will join; its id. */
raft_id cores_add_node(struct cores *cores);
/* n voters, none started. */
struct cores *cores_create_empty(size_t n, uint64_t seed);
/* Starts all; what they write at once is durable. */
void cores_start_all(struct cores *cores);
struct cores *cores_create(size_t n, uint64_t seed);
void cores_destroy(struct cores *cores);

/* ---- The network: core_harness_net.c ---- */
void cores_drop(struct cores *cores, size_t at);
/* Delivers one flying message, or loses it if the link is cut or the receiver down. */
void cores_deliver(struct cores *cores, size_t at, bool keep_copy);
/* One of the oldest flying messages, or with in_order the oldest, is lost (`lose` of 100) or
 * delivered, and may come again (`repeat` of 100). More than 300 are never on their way. */
void cores_deliver_any(struct cores *cores, struct rng *rng, bool in_order, unsigned lose,
                       unsigned repeat);
/* The position of the first flying message of that kind, or SIZE_MAX. 0 stands for any. */
size_t cores_find(const struct cores *cores, enum raft_message_type type, raft_id from, raft_id to);
void cores_deliver_one(struct cores *cores, enum raft_message_type type, raft_id from, raft_id to);
size_t cores_count(const struct cores *cores, enum raft_message_type type, raft_id from,
                   raft_id to);
/* A flying message, decoded for a look; the caller releases it. */
struct raft_message cores_peek(const struct cores *cores, size_t at);
void cores_drop_all(struct cores *cores);
/* A message from outside the group's own doing. */
void cores_inject(struct cores *cores, const struct raft_message *message);
void cores_cut(struct cores *cores, raft_id from, raft_id to);
void cores_isolate(struct cores *cores, raft_id id);
void cores_heal(struct cores *cores);

/* ---- Snapshots, chunk by chunk: core_harness_snapshot.c ---- */
/* Answers the oldest chunk request of a leader from its checkpoint. */
void cores_read_chunk(struct cores *cores, raft_id id);
/* Stores the oldest chunk that a follower was given. */
void cores_store_chunk(struct cores *cores, raft_id id);
/* The state as it is becomes durable, as far as the own log is, and the log is compacted. */
void cores_checkpoint(struct cores *cores, raft_id id);

/* ---- What tests say: core_harness_say.c ---- */
/* The clock passes the replica's timeout (and everyone's minimum); only this one acts on it. */
void cores_timeout(struct cores *cores, raft_id id);
/* Makes a replica the leader, if the others let it. */
void cores_elect(struct cores *cores, raft_id id);
/* The leader of the highest term among the running, or 0. */
raft_id cores_leader(struct cores *cores);
/* In how many terms somebody led. */
uint64_t cores_count_leaders(const struct cores *cores);
/* Proposes n commands of len bytes in one step; gives the status. */
enum status cores_propose_sized(struct cores *cores, raft_id id, size_t n, size_t len);
enum status cores_propose(struct cores *cores, raft_id id);
/* Issues a read; gives its id. Its answer will be in cores->reads. */
uint64_t cores_read(struct cores *cores, raft_id id);
/* The same, while there is room for one more. */
void cores_read_more(struct cores *cores, raft_id id);
enum status cores_transfer(struct cores *cores, raft_id from, raft_id to);
/* Asks a replica to change the configuration; gives the status. Its entry's index: cores->last. */
enum status cores_configure(struct cores *cores, raft_id at, enum raft_change_kind kind,
                            raft_id id);
/* The flags of a server in the configuration that a replica has in force; 0: it is not in it. */
uint8_t cores_flags(struct cores *cores, raft_id at, raft_id id);
void cores_link(struct cores *cores, raft_id id, raft_id peer, enum raft_event_type type);
struct raft_progress_info cores_progress(struct cores *cores, raft_id leader, raft_id id);
/* All running replicas have the same log and applied all of it. */
void cores_assert_converged(struct cores *cores);

#endif
