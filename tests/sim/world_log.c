/* The Raft log of a node: mem_log, or the shipped WAL on a faulty disk in memory.
 *
 * The WAL runs without a thread: a flush writes and syncs at once. So the flush waits for the
 * disk's time to pass, and what the WAL posts to its loop is run after it. A crash before that
 * finds the write not begun, or (by seed) in its middle: then the disk stops after one of the next
 * changes, and power loss keeps any of the sectors that were not synced. After 20 ms without a
 * write comes an idle moment, as on the WAL's own thread.
 */
#include <errno.h>
#include <stdio.h>

#include "raft/util/assert.h"
#include "raft/util/mem.h"
#include "tests/sim/world_internal.h"

#define WAL_SEGMENT_BYTES (64u << 10)
#define WAL_IDLE_US       20000
#define CRASH_CHANGES     4  /* a flush seldom has more */
#define FLIP_TRIES        20 /* of bits whose loss would not show */

/* ---- The table: passes on and counts ---- */

static struct world_log *log_of(struct io_log *io)
{
    return (struct world_log *)io;
}

static struct io_log *inner(struct io_log *io)
{
    return wal_io(log_of(io)->wal);
}

static void op_write(struct io_log *io, const struct io_log_write *write)
{
    log_of(io)->n_writes++;
    inner(io)->ops->write(inner(io), write);
}

static void op_compact(struct io_log *io, group_id group, raft_index index, raft_term term)
{
    log_of(io)->n_notes++;
    inner(io)->ops->compact(inner(io), group, index, term);
}

static void op_reset(struct io_log *io, raft_index index, raft_term term,
                     const struct io_log_write *write)
{
    log_of(io)->n_writes++;
    inner(io)->ops->reset(inner(io), index, term, write);
}

static void op_checkpoint(struct io_log *io, group_id group, uint64_t number, raft_index index)
{
    log_of(io)->n_notes++;
    inner(io)->ops->checkpoint(inner(io), group, number, index);
}

static uint64_t op_bytes(struct io_log *io)
{
    return inner(io)->ops->bytes(inner(io));
}

static const struct io_log_ops counting_ops = {
    .write = op_write,
    .compact = op_compact,
    .reset = op_reset,
    .checkpoint = op_checkpoint,
    .bytes = op_bytes,
};

/* ---- The mail ---- */

static void mail_post(void *context, void (*run)(void *arg), void *arg)
{
    struct world_log *log = &((struct world_node *)context)->log;

    MEM_GROW(log->posted, log->posted_capacity, log->n_posted + 1);
    log->posted[log->n_posted++] = (struct posted){run, arg};
}

static void mail_deliver(void *context, struct io_event *event)
{
    struct world_node *node = context;

    if (node->server != NULL) {
        world_deliver(node->world, node, event);
    }
}

/* An event may end the process, which then runs what is left, for nobody. */
static void run_posted(struct world_log *log)
{
    while (log->n_posted > 0) {
        struct posted first = log->posted[0];
        log->n_posted--;
        memmove(log->posted, log->posted + 1, log->n_posted * sizeof(first));
        first.run(first.arg);
    }
}

/* ---- From start to end ---- */

static void on_trace(void *context, enum trace_level level, const char *line)
{
    struct world_node *node = context;

    node->world->counts.torn += strstr(line, "dropped a torn write") != NULL;
    if (node->trace.emit != NULL) {
        node->trace.emit(node, level, line);
    }
}

static void wal_options_of(struct world_node *node, struct faulty_files *files,
                           struct wal_options *options)
{
    wal_options_default(options, "data/wal");
    options->identity = (uint64_t)node->incarnation << 32 | (node->number + 1);
    options->segment_bytes = WAL_SEGMENT_BYTES;
    options->threaded = false;
    options->files = &files->files;
    options->mail = (struct store_mail){node, mail_post, mail_deliver};
    options->trace = &node->log.trace;
}

void world_log_init(struct world_node *node, bool use_wal, uint64_t seed)
{
    struct world_log *log = &node->log;

    *log = (struct world_log){.io.ops = &counting_ops, .trace = {TRACE_WARN, node, on_trace}};
    if (!use_wal) {
        log->mem = mem_log_create();
        return;
    }
    log->files = mem_zalloc(sizeof(*log->files));
    faulty_files_init(log->files, seed);
    log->files->block = node->number % 2 == 0 ? 0 : 512; /* half of the disks take direct writes */
}

/* Whatever the process still wanted to write is not. */
static void close_dead(struct world_log *log)
{
    if (log->wal != NULL) {
        log->files->crashed = true;
        wal_close(&log->wal);
        run_posted(log);
    }
}

void world_log_fini(struct world_node *node)
{
    struct world_log *log = &node->log;

    mem_log_destroy(&log->mem);
    if (log->files != NULL) {
        close_dead(log);
        faulty_files_fini(log->files);
        mem_free(log->files);
    }
    mem_free(log->posted);
    *log = (struct world_log){0};
}

void world_log_wipe(struct world_node *node)
{
    bool use_wal = node->log.files != NULL;
    uint64_t seed = use_wal ? rng_next(&node->log.files->rng) : 0;

    world_log_fini(node);
    world_log_init(node, use_wal, seed);
}

enum status world_log_open(struct world_node *node, struct io_log_content *content, char *error)
{
    struct world_log *log = &node->log;
    struct wal_options options;
    enum status status;

    log->n_flushes++;
    if (log->files == NULL) {
        mem_log_content(log->mem, node->gid, content);
        return ST_OK;
    }
    wal_options_of(node, log->files, &options);
    status = wal_open(&options, &log->wal, error);
    if (status == ST_OK) {
        wal_content(log->wal, node->gid, content);
        log->n_writes = log->n_notes = 0;
    } else {
        faulty_files_kill(log->files); /* that process ends too */
    }
    return status;
}

struct io_log *world_log_io(struct world_node *node)
{
    return node->log.files == NULL ? mem_log_io(node->log.mem) : &node->log.io;
}

size_t world_log_n_writes(const struct world_node *node)
{
    return node->log.files == NULL ? mem_log_n_writes(node->log.mem) : node->log.n_writes;
}

/* Power is lost, or the process alone is killed; if something waited, perhaps in its middle. */
static void crash_wal(struct world *world, struct world_log *log)
{
    bool power_loss = rng_below(&world->rng, 2) == 0;

    if (log->n_writes > 0 && rng_below(&world->rng, 2) == 0) {
        log->files->crash_in = 1 + rng_below(&world->rng, CRASH_CHANGES);
        wal_flush(log->wal);
    }
    close_dead(log);
    if (power_loss) {
        faulty_files_power_loss(log->files);
    } else {
        faulty_files_kill(log->files);
    }
}

void world_log_end(struct world *world, struct world_node *node, bool orderly)
{
    struct world_log *log = &node->log;

    if (log->files == NULL && orderly) {
        while (mem_log_sync(log->mem)) {
        }
    }
    if (log->files == NULL) {
        mem_log_crash(log->mem, rng_below(&world->rng, mem_log_n_writes(log->mem) + 1));
        return;
    }
    if (orderly) {
        wal_close(&log->wal);
        run_posted(log);
        faulty_files_kill(log->files);
    } else {
        crash_wal(world, log);
    }
    log->n_writes = log->n_notes = 0;
}

/* ---- Work ---- */

/* Once for each flush: the moment is 20 ms after it, unless there is another one before. */
void world_log_schedule_idle(struct world *world, struct world_node *node)
{
    struct world_log *log = &node->log;
    struct item item = {.type = ITEM_LOG_IDLE,
                        .node = node->number,
                        .owner = (owner_id)log->n_flushes,
                        .life = node->life};

    if (log->idle_after != log->n_flushes) {
        log->idle_after = log->n_flushes;
        world_schedule(world, WAL_IDLE_US, &item);
    }
}

bool world_log_has_notes(const struct world_node *node)
{
    return (node->log.files == NULL ? mem_log_n_notes(node->log.mem) : node->log.n_notes) > 0;
}

/* Everything that waited when the write began becomes durable with it: group commit. */
void world_log_work(struct world *world, struct world_node *node)
{
    struct world_log *log = &node->log;
    uint64_t life = node->life;
    struct io_event event;

    log->n_flushes++;
    if (log->files != NULL) {
        log->n_writes = log->n_notes = 0;
        wal_flush(log->wal);
        world_log_schedule_idle(world, node);
        run_posted(log);
        return;
    }
    while (mem_log_sync(log->mem)) {
    }
    while (node->life == life && mem_log_take(log->mem, &event)) {
        world_deliver(world, node, &event);
    }
}

void world_log_idle(struct world *world, struct world_node *node, struct item *item)
{
    struct world_log *log = &node->log;

    (void)world;
    if (node->server == NULL || node->life != item->life || world_log_n_writes(node) > 0 ||
        (owner_id)log->n_flushes != item->owner) {
        return;
    }
    log->n_flushes++;
    if (node->disk.stuck) {
        return;
    }
    if (log->files == NULL) {
        mem_log_write_notes(log->mem);
        return;
    }
    log->n_notes = 0;
    wal_flush(log->wal); /* what waited for company, a compaction */
    wal_flush(log->wal); /* and with nothing left, the moment itself */
    run_posted(log);
}

uint64_t world_log_size(const struct world_node *node)
{
    const struct world_log *log = &node->log;
    uint64_t bytes = 0;

    if (log->files == NULL) {
        struct io_log *io = mem_log_io(log->mem);
        return io->ops->bytes(io);
    }
    for (size_t i = 0; i < faulty_files_count(log->files, ".wal"); i++) {
        size_t len;
        faulty_files_bytes(log->files, faulty_files_name(log->files, ".wal", i), &len);
        bytes += len;
    }
    return bytes;
}

/* ---- Faults ---- */

static enum faulty_op op_of(const struct faulty_files *files, enum world_disk_fault fault)
{
    return fault == WORLD_DISK_SYNC_ERROR && files->block == 0 ? FAULTY_SYNC : FAULTY_WRITE;
}

bool world_log_fails(const struct world_node *node, enum world_disk_fault fault)
{
    return node->log.files != NULL && node->log.files->fail_in[op_of(node->log.files, fault)] > 0;
}

void world_log_fail(struct world *world, struct world_node *node, enum world_disk_fault fault)
{
    struct faulty_files *files = node->log.files;
    enum faulty_op op;

    if (files == NULL) {
        mem_log_fail(node->log.mem, ST_IO);
        return;
    }
    op = op_of(files, fault);
    files->fail_in[op] = 1;
    files->fail_errno[op] = EIO;
    files->short_write = rng_below(&world->rng, 2) == 0;
}

void world_log_forget_errors(struct world_node *node)
{
    struct faulty_files *files = node->log.files;

    if (files != NULL) {
        memset(files->fail_in, 0, sizeof(files->fail_in));
    } else {
        mem_log_heal(node->log.mem);
    }
}

static uint64_t used_bytes(const struct faulty_files *files)
{
    uint64_t bytes = 0;

    for (size_t i = 0; i < faulty_files_count(files, ""); i++) {
        size_t len;
        faulty_files_bytes((struct faulty_files *)(uintptr_t)files, faulty_files_name(files, "", i),
                           &len);
        bytes += len;
    }
    return bytes;
}

void world_log_set_full(struct world_node *node, bool full)
{
    if (node->log.files != NULL) {
        node->log.files->quota_bytes = full ? used_bytes(node->log.files) + 1 : 0;
    } else {
        mem_log_set_full(node->log.mem, full);
    }
}

/* ---- Flipped bits ---- */

static void content_fini(struct io_log_content *content)
{
    for (size_t i = 0; i < content->n_entries; i++) {
        blob_unref(&content->entries[i].data);
    }
    mem_free(content->entries);
}

static bool entry_same(const struct raft_entry *a, const struct raft_entry *b)
{
    return a->index == b->index && a->term == b->term && a->type == b->type &&
           slice_equal(blob_slice(a->data), blob_slice(b->data));
}

static bool content_same(const struct io_log_content *a, const struct io_log_content *b)
{
    bool same = a->hard_state.term == b->hard_state.term &&
                a->hard_state.voted_for == b->hard_state.voted_for &&
                a->begin_index == b->begin_index && a->begin_term == b->begin_term &&
                a->checkpoint == b->checkpoint && a->checkpoint_index == b->checkpoint_index &&
                a->n_entries == b->n_entries;

    for (size_t i = 0; same && i < a->n_entries; i++) {
        same = entry_same(&a->entries[i], &b->entries[i]);
    }
    return same;
}

/* What a start would find, tried on a copy of the disk. */
static enum status peek(struct world_node *node, struct io_log_content *content)
{
    struct faulty_files *copy = mem_zalloc(sizeof(*copy));
    struct wal_options options;
    struct wal *wal = NULL;
    enum status status;

    faulty_files_init(copy, 1);
    for (size_t i = 0; i < faulty_files_count(node->log.files, ""); i++) {
        const char *name = faulty_files_name(node->log.files, "", i);
        faulty_files_copy(node->log.files, name, copy, name);
    }
    wal_options_of(node, copy, &options);
    options.trace = NULL;
    status = wal_open(&options, &wal, NULL);
    if (status == ST_OK) {
        wal_content(wal, node->gid, content);
        wal_close(&wal);
        run_posted(&node->log);
    }
    faulty_files_fini(copy);
    mem_free(copy);
    return status;
}

/* A bit of what was written into the file; false if nothing was. */
static bool draw_bit(struct world *world, struct faulty_files *files, const char *name,
                     size_t *offset, uint8_t *bits)
{
    size_t len;
    const uint8_t *bytes = faulty_files_bytes(files, name, &len);

    while (len > 0 && bytes[len - 1] == 0) {
        len--;
    }
    if (len == 0) {
        return false;
    }
    *offset = rng_below(&world->rng, len);
    *bits = (uint8_t)(1u << rng_below(&world->rng, 8));
    return true;
}

/* Whether the damage is found at the start, or changes nothing. */
static bool flip_is_fair(struct world_node *node, const struct io_log_content *before)
{
    struct io_log_content after = {0};
    enum status status = peek(node, &after);
    bool fair = status != ST_OK || content_same(before, &after);

    content_fini(&after);
    return fair;
}

bool world_log_flip(struct world *world, struct world_node *node)
{
    struct faulty_files *files = node->log.files;
    struct io_log_content before = {0};
    bool flipped = false;

    if (files == NULL || faulty_files_count(files, ".wal") == 0) {
        return false;
    }
    if (peek(node, &before) == ST_OK) {
        for (int i = 0; i < FLIP_TRIES && !flipped; i++) {
            size_t n = rng_below(&world->rng, faulty_files_count(files, ".wal")), offset;
            const char *name = faulty_files_name(files, ".wal", n);
            uint8_t bits;

            if (!draw_bit(world, files, name, &offset, &bits)) {
                continue;
            }
            faulty_files_flip(files, name, offset, bits);
            flipped = flip_is_fair(node, &before);
            if (!flipped) {
                faulty_files_flip(files, name, offset, bits);
            }
        }
    }
    content_fini(&before);
    return flipped;
}
