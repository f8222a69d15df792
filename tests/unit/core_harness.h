/* A little world for the Raft core: a few replicas, their disks, the messages between them and the
 * time, all moved by hand. Nothing happens by itself: a test says what is delivered, what becomes
 * durable and how far the clock goes, or lets world_run do all of it in order.
 *
 * Messages travel as bytes, so every test also exercises the wire format, and one can be repeated.
 * After each step of any replica the checkers at the end of this file look at all of them: election
 * safety, log matching, leader completeness, state-machine safety (paper, Figure 3), that what is
 * committed is durable on a majority, and that no read is older than what was committed before it.
 */
#ifndef TESTS_UNIT_CORE_HARNESS_H
#define TESTS_UNIT_CORE_HARNESS_H

#include <stdio.h>
#include <stdlib.h>

#include "raft/util/assert.h"
#include "raft/util/mem.h"
#include "raft/util/rng.h"
#include "raft/wire.h"
#include "tests/cmocka.h"

#define WORLD_NODES    7 /* ids 1..7 at most */
#define WORLD_INDEXES  20000
#define WORLD_TERMS    5000
#define WORLD_READS    4096
#define SNAPSHOT_BYTES 100 /* of a snapshot's stream */
#define CHUNK_BYTES    32

/* A write on its way to the disk. */
struct disk_write {
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
struct disk {
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

struct node {
    raft_id id;
    struct raft *raft; /* NULL: down */
    struct disk disk;
    struct disk_write *writes; /* not yet durable, in order */
    size_t n_writes, writes_capacity;
    struct held_message *held; /* wait for writes, in order */
    size_t n_held, held_capacity;
    struct chunk_store *stores;
    size_t n_stores, stores_capacity;
    struct raft_chunk_request *reads; /* chunks the leader wants read */
    size_t n_reads, reads_capacity;
    bool slow_disk; /* world_settle leaves its writes alone */
    raft_index applied_index;
    uint64_t digest;
    uint64_t snapshots_installed;
    uint64_t link_up; /* bit per peer: messages from here to there pass */
};

struct flying {
    raft_id from, to;
    enum raft_message_type type;
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

struct world {
    size_t n;
    struct node nodes[WORLD_NODES + 1]; /* by id */
    struct raft_configuration bootstrap;
    struct raft_options options; /* of every replica, but for id and seed */
    uint64_t seed;
    uint64_t now_ms;
    struct flying *flying; /* in the order they were sent */
    size_t n_flying, flying_capacity;
    uint64_t n_sent[16]; /* by type */
    uint64_t bytes_sent;
    uint64_t last_command;
    struct read_issued reads[WORLD_READS]; /* by id */
    size_t n_reads;
    struct raft_update last; /* of the last step; entries and messages are gone */

    raft_id leader_of_term[WORLD_TERMS];
    struct committed committed[WORLD_INDEXES];
    raft_index committed_max;
    struct seen_entry *seen;
    size_t seen_capacity;
    bool static_members; /* the durable-majority check applies */
};

/* ---- Small things ---- */

static inline uint64_t mix(uint64_t a, uint64_t b)
{
    struct rng rng;

    rng_init(&rng, a * 31 + b);
    return rng_next(&rng);
}

static inline uint64_t digest_of(struct slice bytes)
{
    uint64_t digest = bytes.len;

    for (size_t i = 0; i < bytes.len; i++) {
        digest = mix(digest, bytes.data[i]);
    }
    return digest;
}

static inline struct node *node_of(struct world *world, raft_id id)
{
    ASSERT(id >= 1 && id <= world->n);
    return &world->nodes[id];
}

static inline struct raft *core_of(struct world *world, raft_id id)
{
    ASSERT(node_of(world, id)->raft != NULL);
    return node_of(world, id)->raft;
}

static inline void entries_free(struct raft_entry *entries, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        blob_unref(&entries[i].data);
    }
    mem_free(entries);
}

static inline struct raft_entry *entries_copy(const struct raft_entry *entries, size_t n)
{
    struct raft_entry *copy = mem_alloc(n * sizeof(*copy));

    for (size_t i = 0; i < n; i++) {
        copy[i] = entries[i];
        if (copy[i].data != NULL) {
            copy[i].data = blob_create(blob_slice(entries[i].data));
        }
    }
    return copy;
}

/* Removes the first `gone` of n items. */
#define SHIFT(items, n, gone)                                                                      \
    do {                                                                                           \
        (n) -= (gone);                                                                             \
        if ((gone) > 0 && (n) > 0) {                                                               \
            memmove((items), (items) + (gone), (n) * sizeof(*(items)));                            \
        }                                                                                          \
    } while (0)

/* ---- The disk ---- */

static inline raft_index disk_last_index(const struct disk *disk)
{
    return disk->begin_index + disk->n_entries;
}

static inline raft_term disk_term_at(const struct disk *disk, raft_index index)
{
    if (index == disk->begin_index) {
        return disk->begin_term;
    }
    if (index < disk->begin_index || index > disk_last_index(disk)) {
        return 0;
    }
    return disk->entries[index - disk->begin_index - 1].term;
}

static inline void disk_truncate(struct disk *disk, raft_index from)
{
    while (disk->n_entries > 0 && disk_last_index(disk) >= from) {
        blob_unref(&disk->entries[--disk->n_entries].data);
    }
}

static inline void disk_compact(struct disk *disk, raft_index index)
{
    size_t gone = 0;

    if (index <= disk->begin_index) {
        return;
    }
    ASSERT(index <= disk_last_index(disk));
    disk->begin_term = disk_term_at(disk, index);
    for (; disk->begin_index < index; disk->begin_index++) {
        blob_unref(&disk->entries[gone++].data);
    }
    SHIFT(disk->entries, disk->n_entries, gone);
}

static inline void disk_apply(struct disk *disk, struct disk_write *write)
{
    if (write->has_hard_state) {
        disk->hard_state = write->hard_state;
    }
    if (write->reset) {
        disk_truncate(disk, disk->begin_index + 1);
        disk->begin_index = write->reset_index;
        disk->begin_term = write->reset_term;
    }
    if (write->n_entries > 0) {
        size_t n;

        disk_truncate(disk, write->entries[0].index);
        assert_true(write->entries[0].index == disk_last_index(disk) + 1);
        n = disk->n_entries + write->n_entries;
        disk->entries = mem_realloc(disk->entries, n * sizeof(*disk->entries));
        memcpy(disk->entries + disk->n_entries, write->entries,
               write->n_entries * sizeof(*write->entries));
        disk->n_entries = n;
    }
    mem_free(write->entries); /* their data belong to the disk now */
    *write = (struct disk_write){0};
}

/* ---- Checkers ---- */

static inline void check_seen(struct world *world, const struct raft_entry *entry, raft_term prev)
{
    uint64_t data = digest_of(blob_slice(entry->data));
    size_t at = mix(entry->index, entry->term) & (world->seen_capacity - 1);

    for (;; at = (at + 1) & (world->seen_capacity - 1)) {
        struct seen_entry *seen = &world->seen[at];

        if (seen->index == 0) {
            *seen = (struct seen_entry){entry->index, entry->term, prev, data};
            return;
        }
        if (seen->index == entry->index && seen->term == entry->term) {
            /* Log matching: same index and term, same entry and same entry before. */
            assert_true(seen->data == data && seen->prev_term == prev);
            return;
        }
    }
}

static inline void check_leader(struct world *world, const struct node *node)
{
    raft_term term = raft_current_term(node->raft);

    if (raft_role(node->raft) != RAFT_LEADER) {
        return;
    }
    assert_true(term < WORLD_TERMS);
    if (world->leader_of_term[term] == node->id) {
        return;
    }
    /* Election safety: at most one leader a term. */
    assert_int_equal(world->leader_of_term[term], 0);
    world->leader_of_term[term] = node->id;
    /* Leader completeness: it has everything that was committed before. */
    assert_true(raft_last_index(node->raft) >= world->committed_max);
    for (raft_index i = raft_first_index(node->raft); i <= world->committed_max; i++) {
        assert_true(raft_term_at(node->raft, i) == world->committed[i].term);
    }
}

/* An entry is newly committed: a majority must hold it durably. */
static inline void check_durable_majority(struct world *world, raft_index index, raft_term term)
{
    size_t holders = 0;

    for (raft_id id = 1; id <= world->n; id++) {
        const struct disk *disk = &world->nodes[id].disk;

        holders += disk_term_at(disk, index) == term || disk->begin_index >= index ||
                   disk->state_index >= index;
    }
    assert_true(!world->static_members || holders > world->n / 2);
}

static inline void apply_one(struct world *world, struct node *node, raft_index index)
{
    const struct raft_entry *entry = raft_entry_at(node->raft, index);
    struct committed *committed = &world->committed[index];
    uint64_t data;

    assert_non_null(entry);
    data = digest_of(blob_slice(entry->data));
    node->digest = mix(node->digest, mix(entry->term, data));
    node->applied_index = index;
    if (index > world->committed_max) {
        assert_true(index == world->committed_max + 1 && index < WORLD_INDEXES);
        check_durable_majority(world, index, entry->term);
        *committed = (struct committed){entry->term, data, node->digest};
        world->committed_max = index;
    }
    /* State-machine safety: nobody applies another entry at this index. */
    assert_true(committed->term == entry->term && committed->data == data);
    assert_true(committed->digest == node->digest);
}

/* ---- Steps ---- */

static inline void world_send(struct world *world, struct buf bytes)
{
    struct raft_message message;
    bool decoded = wire_decode_message(buf_slice(&bytes), &message);

    assert_true(decoded);
    MEM_GROW(world->flying, world->flying_capacity, world->n_flying + 1);
    world->flying[world->n_flying++] =
        (struct flying){message.from, message.to, message.type, bytes};
    world->n_sent[message.type]++;
    world->bytes_sent += bytes.len;
    raft_message_fini(&message);
}

static inline struct buf encode(const struct raft_message *message)
{
    struct buf bytes = {0};

    wire_encode_message(message, &bytes);
    return bytes;
}

static inline void queue_write(struct node *node, const struct raft_update *update)
{
    MEM_GROW(node->writes, node->writes_capacity, node->n_writes + 1);
    node->writes[node->n_writes++] = (struct disk_write){
        .seq = update->persist_seq,
        .reset = update->log_reset_index != 0,
        .reset_index = update->log_reset_index,
        .reset_term = raft_term_at(node->raft, update->log_reset_index),
        .has_hard_state = update->hard_state_changed,
        .hard_state = update->hard_state,
        .entries = entries_copy(update->entries, update->n_entries),
        .n_entries = update->n_entries,
    };
}

static inline void carry_out(struct world *world, struct node *node,
                             const struct raft_update *update)
{
    uint64_t last_seq = node->n_writes > 0 ? node->writes[node->n_writes - 1].seq : 0;

    for (size_t i = 0; i < update->n_entries; i++) {
        const struct raft_entry *entry = &update->entries[i];

        check_seen(world, entry, raft_term_at(node->raft, entry->index - 1));
    }
    assert_true(update->log_reset_index == 0 || update->persist_seq != 0);
    if (update->persist_seq != 0) {
        queue_write(node, update);
        last_seq = update->persist_seq;
    }
    for (size_t i = 0; i < update->n_messages; i++) {
        world_send(world, encode(&update->messages[i]));
    }
    for (size_t i = 0; i < update->n_messages_after_persist; i++) {
        struct buf bytes = encode(&update->messages_after_persist[i]);

        if (node->n_writes == 0) {
            world_send(world, bytes);
            continue;
        }
        MEM_GROW(node->held, node->held_capacity, node->n_held + 1);
        node->held[node->n_held++] = (struct held_message){last_seq, bytes};
    }
    for (size_t i = 0; i < update->n_reads; i++) {
        struct read_issued *read = &world->reads[update->reads[i].id];

        assert_true(!read->answered);
        read->answered = true;
        read->status = update->reads[i].status;
        read->index = update->reads[i].index;
        assert_true(read->status != ST_OK || read->index >= read->committed_before);
    }
    for (size_t i = 0; i < update->n_chunk_requests; i++) {
        MEM_GROW(node->reads, node->reads_capacity, node->n_reads + 1);
        node->reads[node->n_reads++] = update->chunk_requests[i];
    }
    if (update->chunk_to_store != NULL) {
        MEM_GROW(node->stores, node->stores_capacity, node->n_stores + 1);
        node->stores[node->n_stores] = (struct chunk_store){*update->chunk_to_store};
        blob_ref(node->stores[node->n_stores++].chunk.data);
    }
    /* A reset follows a switch of the state: what is applied was set by world_store. */
    while (node->applied_index < update->commit_index) {
        apply_one(world, node, node->applied_index + 1);
    }
    check_leader(world, node);
    raft_check(node->raft);
    world->last = *update;
}

static inline void world_step(struct world *world, raft_id id, struct raft_event *event)
{
    struct node *node = node_of(world, id);
    struct raft_update update;

    event->now_ms = world->now_ms;
    raft_step(core_of(world, id), event, &update);
    carry_out(world, node, &update);
}

static inline void world_tick(struct world *world, raft_id id)
{
    world_step(world, id, &(struct raft_event){.type = RAFT_EVENT_TICK});
}

/* Makes the oldest write of a replica durable and lets go what waited for it. */
static inline void world_persist_one(struct world *world, raft_id id)
{
    struct node *node = node_of(world, id);
    struct raft_event event = {.type = RAFT_EVENT_PERSISTED};
    size_t free_messages = 0;

    ASSERT(node->n_writes > 0);
    event.persisted.seq = node->writes[0].seq;
    disk_apply(&node->disk, &node->writes[0]);
    SHIFT(node->writes, node->n_writes, 1);
    while (free_messages < node->n_held &&
           node->held[free_messages].after_seq <= event.persisted.seq) {
        world_send(world, node->held[free_messages++].bytes);
    }
    SHIFT(node->held, node->n_held, free_messages);
    world_step(world, id, &event);
}

static inline void world_persist(struct world *world, raft_id id)
{
    while (node_of(world, id)->n_writes > 0) {
        world_persist_one(world, id);
    }
}

/* ---- Snapshots: the stream is (index, term, digest, configuration's digest) and filler ---- */

static inline void snapshot_stream(raft_index index, uint64_t digest, uint8_t out[SNAPSHOT_BYTES])
{
    for (size_t i = 0; i < SNAPSHOT_BYTES; i++) {
        out[i] = (uint8_t)mix(index, i);
    }
    set_u64(out, index);
    set_u64(out + 8, digest);
}

/* Answers the oldest chunk request of a leader from its checkpoint. */
static inline void world_read_chunk(struct world *world, raft_id id)
{
    struct node *node = node_of(world, id);
    struct raft_chunk_request request = node->reads[0];
    struct raft_event event = {.type = RAFT_EVENT_CHUNK_READ};
    uint8_t stream[SNAPSHOT_BYTES];
    struct raft_install_snapshot *chunk = &event.chunk_read.chunk;
    size_t len = SNAPSHOT_BYTES - request.offset;

    SHIFT(node->reads, node->n_reads, 1);
    event.chunk_read.to = request.to;
    if (node->disk.state_index == 0 ||
        (request.snapshot_index != 0 && request.snapshot_index != node->disk.state_index)) {
        event.chunk_read.status = ST_NOT_FOUND; /* a newer checkpoint replaced it */
        world_step(world, id, &event);
        return;
    }
    assert_true(request.offset < SNAPSHOT_BYTES);
    len = len < CHUNK_BYTES ? len : CHUNK_BYTES;
    snapshot_stream(node->disk.state_index, node->disk.state_digest, stream);
    chunk->meta.index = node->disk.state_index;
    chunk->meta.term = node->disk.state_term;
    chunk->meta.configuration = node->disk.state_configuration;
    chunk->offset = request.offset;
    chunk->done = request.offset + len == SNAPSHOT_BYTES;
    chunk->data = blob_create(slice_of(stream + request.offset, len));
    world_step(world, id, &event);
}

/* The state is switched to the snapshot that was received in full. */
static inline void switch_state(struct world *world, struct node *node,
                                const struct raft_snapshot_meta *meta)
{
    struct raft_event event = {.type = RAFT_EVENT_SNAPSHOT_INSTALLED};
    struct disk *disk = &node->disk;

    assert_true(get_u64(disk->receive_bytes) == meta->index);
    assert_true(meta->index > disk->state_index && meta->index >= node->applied_index);
    disk->state_index = meta->index;
    disk->state_term = meta->term;
    disk->state_digest = get_u64(disk->receive_bytes + 8);
    disk->state_configuration = meta->configuration;
    disk->receive_index = 0;
    assert_true(world->committed[meta->index].digest == disk->state_digest);
    node->applied_index = meta->index;
    node->digest = disk->state_digest;
    node->snapshots_installed++;
    event.installed.meta = *meta;
    world_step(world, node->id, &event);
}

/* Stores the oldest chunk that a follower was given. */
static inline void world_store_chunk(struct world *world, raft_id id)
{
    struct node *node = node_of(world, id);
    struct raft_install_snapshot chunk = node->stores[0].chunk;
    struct slice data = blob_slice(chunk.data);
    struct disk *disk = &node->disk;
    struct raft_event event = {.type = RAFT_EVENT_CHUNK_STORED};

    SHIFT(node->stores, node->n_stores, 1);
    if (disk->receive_index != chunk.meta.index || disk->receive_term != chunk.meta.term) {
        disk->receive_index = chunk.meta.index;
        disk->receive_term = chunk.meta.term;
        disk->receive_offset = 0;
    }
    if (chunk.offset == disk->receive_offset) {
        memcpy(disk->receive_bytes + chunk.offset, data.data, data.len);
        disk->receive_offset += data.len;
    }
    if (chunk.done && disk->receive_offset == SNAPSHOT_BYTES) {
        switch_state(world, node, &chunk.meta);
    } else {
        event.chunk_stored.index = chunk.meta.index;
        event.chunk_stored.offset = disk->receive_offset;
        world_step(world, id, &event);
    }
    blob_unref(&chunk.data);
}

/* The state as it is becomes durable, as far as the own log is, and the log is compacted. */
static inline void world_checkpoint(struct world *world, raft_id id)
{
    struct node *node = node_of(world, id);
    struct raft_snapshot_meta meta = {.index = node->applied_index};
    raft_index bound = raft_compaction_bound(node->raft);

    if (meta.index <= node->disk.state_index ||
        disk_term_at(&node->disk, meta.index) != raft_term_at(node->raft, meta.index) ||
        node->n_stores > 0) {
        return;
    }
    meta.term = raft_term_at(node->raft, meta.index);
    raft_configuration_at(node->raft, meta.index, &meta.configuration);
    node->disk.state_index = meta.index;
    node->disk.state_term = meta.term;
    node->disk.state_digest = node->digest;
    node->disk.state_configuration = meta.configuration;
    world_step(world, id, &(struct raft_event){.type = RAFT_EVENT_COMPACT, .compact = &meta});
    if (node->n_writes == 0) {
        disk_compact(&node->disk, meta.index < bound ? meta.index : bound);
    }
}

/* ---- The network ---- */

static inline void flying_remove(struct world *world, size_t at)
{
    world->n_flying--;
    memmove(world->flying + at, world->flying + at + 1,
            (world->n_flying - at) * sizeof(*world->flying));
}

static inline void world_drop(struct world *world, size_t at)
{
    buf_fini(&world->flying[at].bytes);
    flying_remove(world, at);
}

/* Delivers one flying message, or loses it if the link is cut or the receiver down. */
static inline void world_deliver(struct world *world, size_t at, bool keep_copy)
{
    struct flying flying = world->flying[at];
    struct raft_event event = {.type = RAFT_EVENT_MESSAGE};
    struct raft_message message;
    bool passes = node_of(world, flying.to)->raft != NULL &&
                  (node_of(world, flying.from)->link_up >> flying.to) & 1;

    ASSERT(at < world->n_flying);
    if (passes) {
        assert_true(wire_decode_message(buf_slice(&flying.bytes), &message));
    }
    if (!keep_copy) {
        world_drop(world, at);
    }
    if (passes) {
        event.message = &message;
        world_step(world, flying.to, &event);
        raft_message_fini(&message);
    }
}

/* The position of the first flying message of that kind, or SIZE_MAX. 0 stands for any. */
static inline size_t world_find(const struct world *world, enum raft_message_type type,
                                raft_id from, raft_id to)
{
    for (size_t i = 0; i < world->n_flying; i++) {
        const struct flying *flying = &world->flying[i];

        if ((type == 0 || flying->type == type) && (from == 0 || flying->from == from) &&
            (to == 0 || flying->to == to)) {
            return i;
        }
    }
    return SIZE_MAX;
}

static inline void world_deliver_one(struct world *world, enum raft_message_type type, raft_id from,
                                     raft_id to)
{
    size_t at = world_find(world, type, from, to);

    assert_true(at != SIZE_MAX);
    world_deliver(world, at, false);
}

static inline size_t world_count(const struct world *world, enum raft_message_type type,
                                 raft_id from, raft_id to)
{
    size_t n = 0;

    for (size_t i = 0; i < world->n_flying; i++) {
        const struct flying *flying = &world->flying[i];

        n += (type == 0 || flying->type == type) && (from == 0 || flying->from == from) &&
             (to == 0 || flying->to == to);
    }
    return n;
}

/* A flying message, decoded for a look; the caller releases it. */
static inline struct raft_message world_peek(const struct world *world, size_t at)
{
    struct raft_message message;

    ASSERT(at < world->n_flying);
    assert_true(wire_decode_message(buf_slice(&world->flying[at].bytes), &message));
    return message;
}

static inline void world_drop_all(struct world *world)
{
    while (world->n_flying > 0) {
        world_drop(world, 0);
    }
}

/* A message from outside the group's own doing. */
static inline void world_inject(struct world *world, const struct raft_message *message)
{
    world_send(world, encode(message));
}

static inline void world_cut(struct world *world, raft_id from, raft_id to)
{
    node_of(world, from)->link_up &= ~(1ull << to);
}

static inline void world_isolate(struct world *world, raft_id id)
{
    for (raft_id other = 1; other <= world->n; other++) {
        world_cut(world, id, other);
        world_cut(world, other, id);
    }
}

static inline void world_heal(struct world *world)
{
    for (raft_id id = 1; id <= world->n; id++) {
        world->nodes[id].link_up = UINT64_MAX;
    }
}

/* ---- Time and order ---- */

/* Writes, stores, reads and messages until nothing is left to do; time stands still. */
static inline void world_settle(struct world *world)
{
    for (int bound = 0; bound < 200000; bound++) {
        bool busy = false;

        for (raft_id id = 1; id <= world->n; id++) {
            struct node *node = &world->nodes[id];

            if (node->raft == NULL) {
                continue;
            }
            if (node->n_writes > 0 && !node->slow_disk) {
                world_persist_one(world, id);
                busy = true;
            }
            if (node->n_stores > 0) {
                world_store_chunk(world, id);
                busy = true;
            }
            if (node->n_reads > 0) {
                world_read_chunk(world, id);
                busy = true;
            }
        }
        if (world->n_flying > 0) {
            world_deliver(world, 0, false);
            busy = true;
        }
        if (!busy) {
            return;
        }
    }
    fail_msg("the world does not come to rest");
}

/* Lets time pass millisecond by millisecond; everything happens at once when it is due. */
static inline void world_run(struct world *world, uint64_t ms)
{
    for (uint64_t end = world->now_ms + ms; world->now_ms < end;) {
        world->now_ms++;
        for (raft_id id = 1; id <= world->n; id++) {
            struct node *node = &world->nodes[id];

            if (node->raft != NULL && raft_next_deadline_ms(node->raft) <= world->now_ms) {
                world_tick(world, id);
            }
        }
        world_settle(world);
    }
}

/* ---- Replicas come and go ---- */

/* Starts a replica from its disk. A state ahead of the log, or of another history, means that the
 * log begins again at it. */
static inline void world_start(struct world *world, raft_id id)
{
    struct node *node = node_of(world, id);
    struct disk *disk = &node->disk;
    struct raft_options options = world->options;
    struct raft_start start = {0};
    struct raft_update update;

    ASSERT(node->raft == NULL);
    if (disk->state_index > disk_last_index(disk) ||
        (disk->state_index > disk->begin_index &&
         disk_term_at(disk, disk->state_index) != disk->state_term)) {
        disk_truncate(disk, disk->begin_index + 1);
        disk->begin_index = disk->state_index;
        disk->begin_term = disk->state_term;
    }
    start.hard_state = disk->hard_state;
    start.snapshot.index = disk->begin_index;
    start.snapshot.term = disk->begin_term;
    start.snapshot.configuration =
        disk->begin_index == 0 ? world->bootstrap : disk->state_configuration;
    start.entries = entries_copy(disk->entries, disk->n_entries);
    start.n_entries = disk->n_entries;
    start.applied_index = disk->state_index;
    options.id = id;
    options.seed = mix(world->seed++, id);
    node->raft = raft_create(&options, &start, world->now_ms);
    mem_free((void *)(uintptr_t)start.entries); /* the references are the core's */
    node->applied_index = disk->state_index;
    node->digest = disk->state_digest;
    raft_begin(node->raft, &update);
    carry_out(world, node, &update);
}

/* Forgets everything that is not on the disk. */
static inline void world_crash(struct world *world, raft_id id)
{
    struct node *node = node_of(world, id);

    raft_destroy(&node->raft);
    for (size_t i = 0; i < node->n_writes; i++) {
        entries_free(node->writes[i].entries, node->writes[i].n_entries);
    }
    for (size_t i = 0; i < node->n_held; i++) {
        buf_fini(&node->held[i].bytes);
    }
    for (size_t i = 0; i < node->n_stores; i++) {
        blob_unref(&node->stores[i].chunk.data);
    }
    node->n_writes = node->n_held = node->n_stores = node->n_reads = 0;
}

/* n voters, none started. */
static inline struct world *world_create_empty(size_t n, uint64_t seed)
{
    struct world *world = mem_zalloc(sizeof(*world));

    ASSERT(n <= WORLD_NODES);
    world->n = n;
    world->seed = seed;
    world->now_ms = 1000;
    world->static_members = true;
    world->seen_capacity = 1u << 17;
    world->seen = mem_zalloc(world->seen_capacity * sizeof(*world->seen));
    raft_options_default(&world->options, 1, 0);
    for (raft_id id = 1; id <= n; id++) {
        struct raft_server *server = &world->bootstrap.servers[world->bootstrap.n++];

        world->nodes[id].id = id;
        server->id = id;
        server->flags = RAFT_VOTER;
        snprintf(server->address, sizeof(server->address), "tcp://node%u:7000", id);
    }
    world_heal(world);
    return world;
}

static inline struct world *world_create(size_t n, uint64_t seed)
{
    struct world *world = world_create_empty(n, seed);

    for (raft_id id = 1; id <= n; id++) {
        world_start(world, id);
    }
    for (raft_id id = 1; id <= n; id++) {
        world_persist(world, id);
    }
    return world;
}

static inline void world_destroy(struct world *world)
{
    for (raft_id id = 1; id <= world->n; id++) {
        struct node *node = &world->nodes[id];

        if (node->raft != NULL) {
            world_crash(world, id);
        }
        entries_free(node->disk.entries, node->disk.n_entries);
        mem_free(node->writes);
        mem_free(node->held);
        mem_free(node->stores);
        mem_free(node->reads);
    }
    world_drop_all(world);
    mem_free(world->flying);
    mem_free(world->seen);
    mem_free(world);
}

/* ---- What tests say ---- */

/* The clock passes the replica's timeout (and everyone's minimum); only this one acts on it. */
static inline void world_timeout(struct world *world, raft_id id)
{
    uint64_t quiet = world->now_ms + world->options.election_timeout_ms;
    uint64_t deadline = raft_next_deadline_ms(core_of(world, id));

    world->now_ms = deadline > quiet ? deadline : quiet;
    world_tick(world, id);
}

/* Makes a replica the leader, if the others let it. */
static inline void world_elect(struct world *world, raft_id id)
{
    world_timeout(world, id);
    world_settle(world);
    assert_int_equal(raft_role(core_of(world, id)), RAFT_LEADER);
}

/* The leader of the highest term among the running, or 0. */
static inline raft_id world_leader(struct world *world)
{
    raft_id leader = 0;

    for (raft_id id = 1; id <= world->n; id++) {
        struct raft *raft = world->nodes[id].raft;

        if (raft != NULL && raft_role(raft) == RAFT_LEADER &&
            (leader == 0 ||
             raft_current_term(raft) > raft_current_term(world->nodes[leader].raft))) {
            leader = id;
        }
    }
    return leader;
}

/* Proposes n commands of len bytes in one step; gives the status. */
static inline enum status world_propose_sized(struct world *world, raft_id id, size_t n, size_t len)
{
    struct blob **commands = mem_zalloc(n * sizeof(*commands));
    struct raft_event event = {.type = RAFT_EVENT_PROPOSE};
    enum status status;

    for (size_t i = 0; i < n; i++) {
        commands[i] = blob_create_uninitialized((uint32_t)(len < 8 ? 8 : len));
        memset(commands[i]->data, 'x', commands[i]->len);
        set_u64(commands[i]->data, ++world->last_command);
    }
    event.propose.commands = commands;
    event.propose.n = n;
    world_step(world, id, &event);
    status = world->last.status;
    for (size_t i = 0; i < n && status != ST_OK; i++) {
        blob_unref(&commands[i]);
    }
    mem_free(commands);
    return status;
}

static inline enum status world_propose(struct world *world, raft_id id)
{
    return world_propose_sized(world, id, 1, 8);
}

/* Issues a read; gives its id. Its answer will be in world->reads. */
static inline uint64_t world_read(struct world *world, raft_id id)
{
    struct raft_event event = {.type = RAFT_EVENT_READ};
    uint64_t read = world->n_reads++;

    ASSERT(world->n_reads <= WORLD_READS);
    world->reads[read].committed_before = world->committed_max;
    event.read.id = read;
    world_step(world, id, &event);
    if (world->last.status != ST_OK) {
        world->reads[read].answered = true;
        world->reads[read].status = world->last.status;
    }
    return read;
}

static inline enum status world_transfer(struct world *world, raft_id from, raft_id to)
{
    struct raft_event event = {.type = RAFT_EVENT_TRANSFER};

    event.transfer.to = to;
    world_step(world, from, &event);
    return world->last.status;
}

static inline void world_link(struct world *world, raft_id id, raft_id peer, bool up)
{
    struct raft_event event = {.type = up ? RAFT_EVENT_PEER_UP : RAFT_EVENT_PEER_DOWN};

    event.peer = peer;
    world_step(world, id, &event);
}

static inline struct raft_progress_info world_progress(struct world *world, raft_id leader,
                                                       raft_id id)
{
    struct raft_progress_info info;

    assert_true(raft_progress(core_of(world, leader), id, &info));
    return info;
}

/* All running replicas have the same log and applied all of it. */
static inline void world_assert_converged(struct world *world)
{
    raft_id leader = world_leader(world);

    assert_true(leader != 0);
    for (raft_id id = 1; id <= world->n; id++) {
        struct node *node = &world->nodes[id];

        if (node->raft != NULL) {
            assert_true(raft_last_index(node->raft) == raft_last_index(core_of(world, leader)));
            assert_true(node->applied_index == raft_last_index(node->raft));
            assert_true(node->digest == world->nodes[leader].digest);
        }
    }
}

#endif
