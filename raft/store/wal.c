/* wal: the Raft log of all groups of a process, on disk.
 *
 * The loop thread encodes what it is asked to write into `pending`. wal_flush, at the end of a
 * turn, hands that over to the disk thread as a batch; while a write is in flight, batches gather
 * into one, which becomes the next single write and sync (group commit). When a batch is durable,
 * its tokens go back to the loop thread through the mail, and become IO_EVENT_LOG_WRITTEN there.
 *
 * Only the loop thread touches pending, queued, content; only the disk thread, disk. They share,
 * under the lock: the batches, n_wanted, blocked, an empty batch, stop, stats, bytes, begun_us.
 *
 * Files in reading order: wal_format (bytes), wal_table (what records add up to), wal_writer
 * (durable bytes), wal_disk and wal_dir (segments), wal_scan, wal_recover and wal_restart
 * (opening), wal_batch, this one, wal_files. WAL.md has the whole story.
 */
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <time.h>

#include "raft/store/wal_batch.h"
#include "raft/store/wal_disk.h"
#include "raft/util/assert.h"
#include "raft/util/mem.h"

#define WAL_IDLE_MS  20   /* without a write: a sync point follows */
#define WAL_RETRY_MS 200  /* between tries to get room on a full disk */
#define WAL_REFILL   1024 /* writes without an idle moment, after which the reserve is tended */
#define WAL_SEGMENT  (64u << 20) /* default size of a segment */

struct wal {
    struct io_log io;
    struct store_mail mail;
    const struct trace *trace;
    bool threaded;

    struct wal_batch *pending; /* of this turn; never NULL */
    struct wal_table queued;   /* the groups as of everything written so far */
    struct wal_table content;  /* what recovery found */

    struct wal_disk disk;

    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    struct wal_batch *first; /* waiting, oldest first */
    struct wal_batch *last;
    struct wal_batch *empty; /* for the next turn: memory that was used before; or NULL */
    size_t n_wanted; /* tokens in them: batches without wait for others, or an idle moment */
    bool blocked;    /* the first one waits for room on the disk */
    bool stop;
    struct wal_stats stats;
    uint64_t bytes;
    uint64_t begun_us; /* when the disk thread last went to work; 0: it waits */

    bool failure_told; /* the disk's side: what ended the log was said */
};

/* ---- Completions ---- */

/* On its way from the disk thread to the loop thread. Does not refer to the wal, which may be
 * closed before it arrives. */
struct completion {
    struct store_mail mail;
    const struct trace *trace;
    enum status status;
    char *failure; /* or NULL: a line that says what failed, or that the disk is full */
    size_t n;
    struct wal_token tokens[];
};

static void completion_run(void *arg)
{
    struct completion *completion = arg;

    if (completion->failure != NULL) {
        trace_error(completion->trace, "%s", completion->failure);
    }
    for (size_t i = 0; i < completion->n; i++) {
        struct io_event event = {.type = IO_EVENT_LOG_WRITTEN};
        event.log.group = completion->tokens[i].group;
        event.log.token = completion->tokens[i].token;
        event.log.status = completion->status;
        completion->mail.deliver(completion->mail.context, &event);
    }
    mem_free(completion->failure);
    mem_free(completion);
}

static void batch_complete(struct wal *wal, const struct wal_batch *batch, enum status status)
{
    struct completion *completion;

    if (batch->n_tokens == 0) {
        return;
    }
    completion = mem_alloc(sizeof(*completion) + batch->n_tokens * sizeof(batch->tokens[0]));
    *completion = (struct completion){
        .mail = wal->mail, .trace = wal->trace, .status = status, .n = batch->n_tokens};
    memcpy(completion->tokens, batch->tokens, batch->n_tokens * sizeof(batch->tokens[0]));
    wal->mail.post(wal->mail.context, completion_run, completion);
}

/* Has the loop thread trace a line. */
static void tell_loop(struct wal *wal, const char *line)
{
    struct completion *completion = mem_zalloc(sizeof(*completion));

    completion->mail = wal->mail;
    completion->trace = wal->trace;
    completion->failure = mem_copy_string(line);
    wal->mail.post(wal->mail.context, completion_run, completion);
}

/* ---- The disk's side ---- */

/* Says once, and before anybody is told that his write failed, what ended the log: that may have
 * happened between the batches. */
static void tell_failure(struct wal *wal)
{
    if (wal->disk.poison != ST_OK && !wal->failure_told) {
        wal->failure_told = true;
        tell_loop(wal, wal->disk.error);
    }
}

/* waits: the first batch still waits for room, if it did. */
static void share_statistics(struct wal *wal, bool waits)
{
    struct wal_stats stats = wal->disk.stats;

    stats.segments = wal->disk.n_segments;
    pthread_mutex_lock(&wal->lock);
    wal->blocked = wal->blocked && waits;
    stats.no_room = wal->blocked || wal->disk.next.failed;
    wal->stats = stats;
    wal->bytes = wal_disk_bytes(&wal->disk);
    pthread_mutex_unlock(&wal->lock);
}

/* The disk is full: the batch waits, in front of all others, for room. It was not begun, so nobody
 * is told anything: to the group this is a disk that stalls. */
static void batch_put_back(struct wal *wal, struct wal_batch *batch)
{
    bool told;

    ASSERT(wal->disk.poison == ST_OK && batch->next == NULL);
    pthread_mutex_lock(&wal->lock);
    batch->next = wal->first;
    wal->first = batch;
    wal->last = wal->last == NULL ? batch : wal->last;
    wal->n_wanted += batch->n_tokens;
    told = wal->blocked;
    wal->blocked = true;
    pthread_mutex_unlock(&wal->lock);
    if (!told) {
        snprintf(wal->disk.error, STORE_ERROR_BYTES,
                 "write-ahead log: no room on the disk for a segment in %s; writes wait for some",
                 wal->disk.path);
        tell_loop(wal, wal->disk.error);
    }
    share_statistics(wal, true);
}

/* A batch that was answered serves a later turn. */
static void batch_give_back(struct wal *wal, struct wal_batch *batch)
{
    wal_batch_clear(batch);
    pthread_mutex_lock(&wal->lock);
    if (wal->empty == NULL) {
        wal->empty = batch;
        batch = NULL;
    }
    pthread_mutex_unlock(&wal->lock);
    if (batch != NULL) {
        wal_batch_destroy(&batch);
    }
}

/* Writes a batch and answers it; then does what may follow an answer. False: the disk is full, and
 * the batch was put back. */
static bool batch_run(struct wal *wal, struct wal_batch *batch)
{
    struct wal_disk *disk = &wal->disk;
    enum status status =
        batch->records.len > 0 ? wal_disk_write(disk, &batch->records) : disk->poison;

    if (status == ST_NO_SPACE) {
        batch_put_back(wal, batch);
        return false;
    }
    ASSERT(status == disk->poison);
    share_statistics(wal, false); /* whoever gets the answer can see how long it took */
    tell_failure(wal);
    batch_complete(wal, batch, status);
    batch_give_back(wal, batch);
    wal_disk_release(disk);
    wal_disk_prepare(disk, false);
    wal_disk_zero_ahead(disk);
    tell_failure(wal);
    if (disk->stats.writes % WAL_REFILL == 0) {
        store_reserve_refill(disk->reserve);
    }
    share_statistics(wal, true);
    return true;
}

/* One step of what there is to do; true: there is more, for the next idle moment. */
static bool disk_idle(struct wal *wal)
{
    bool more;

    wal_disk_sync_point(&wal->disk);
    wal_disk_prepare(&wal->disk, true);
    more = wal_disk_zero_ahead(&wal->disk);
    tell_failure(wal);
    store_reserve_refill(wal->disk.reserve);
    share_statistics(wal, true);
    return more;
}

static struct wal_batch *batch_take(struct wal *wal)
{
    struct wal_batch *batch = wal->first;

    if (batch != NULL) {
        wal->first = batch->next;
        wal->last = wal->first == NULL ? NULL : wal->last;
        ASSERT(wal->n_wanted >= batch->n_tokens);
        wal->n_wanted -= batch->n_tokens;
        batch->next = NULL;
    }
    return batch;
}

/* What a quiet log, or one that is blocked, looks again for from time to time. */
static bool disk_lacks_room(const struct wal *wal)
{
    return wal->blocked || wal->disk.next.failed || store_reserve_is_short(wal->disk.reserve);
}

/* Waits, locked, for a wanted batch, for the end, or, unless `quiet`, for an idle moment; true in
 * that last case. */
static bool disk_wait(struct wal *wal, bool quiet)
{
    bool retry = disk_lacks_room(wal) && (quiet || wal->blocked);
    long wait_ms = retry ? WAL_RETRY_MS : WAL_IDLE_MS;
    struct timespec until;
    int result = 0;

    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_nsec += wait_ms * 1000000L;
    until.tv_sec += until.tv_nsec / 1000000000L;
    until.tv_nsec %= 1000000000L;
    while ((wal->n_wanted == 0 || wal->blocked) && !wal->stop && result != ETIMEDOUT) {
        result = quiet && wal->first == NULL && !retry
                     ? pthread_cond_wait(&wal->wake, &wal->lock)
                     : pthread_cond_timedwait(&wal->wake, &wal->lock, &until);
    }
    return wal->n_wanted == 0 && !wal->stop;
}

static void *disk_main(void *arg)
{
    struct wal *wal = arg;
    bool quiet = false, over = false;

    while (!over) {
        struct wal_batch *batch;
        bool idle, stop;

        pthread_mutex_lock(&wal->lock);
        wal->begun_us = 0;
        idle = disk_wait(wal, quiet);
        wal->begun_us = wal_now_us();
        batch = batch_take(wal);
        stop = wal->stop;
        pthread_mutex_unlock(&wal->lock);

        if (batch != NULL) {
            quiet = false;
            over = !batch_run(wal, batch) && stop; /* what waits for room was never acknowledged */
        } else if (idle || stop) {
            quiet = !disk_idle(wal);
            over = stop;
        }
    }
    return NULL;
}

/* Without a thread: all that waits, as far as there is room. */
static void disk_run(struct wal *wal)
{
    struct wal_batch *batch;

    while ((batch = batch_take(wal)) != NULL && batch_run(wal, batch)) {
    }
}

/* ---- The loop's side ---- */

static struct wal *wal_of(struct io_log *log)
{
    return (struct wal *)log; /* its first member */
}

/* Applies what was just encoded, from `at` on: writing a log that contradicts itself would be worse
 * than stopping. */
static void pending_check(struct wal *wal, size_t at)
{
    struct slice records = buf_slice(&wal->pending->records);
    struct wal_record record;

    while (wal_record_next(records, &at, &record)) {
        bool applied = wal_table_apply(&wal->queued, &record);
        ASSERT(applied);
    }
}

static void pending_write(struct wal *wal, const struct io_log_write *write)
{
    struct wal_batch *batch = wal->pending;

    ASSERT(write->n_entries == 0 || write->entries != NULL);
    if (write->has_hard_state) {
        wal_encode_hard_state(&batch->records, write->group, &write->hard_state);
    }
    wal_encode_entries(&batch->records, write->group, write->entries, write->n_entries);
    MEM_GROW(batch->tokens, batch->capacity, batch->n_tokens + 1);
    batch->tokens[batch->n_tokens++] = (struct wal_token){write->group, write->token};
}

static void wal_write(struct io_log *log, const struct io_log_write *write)
{
    struct wal *wal = wal_of(log);
    size_t at = wal->pending->records.len;

    pending_write(wal, write);
    pending_check(wal, at);
}

static void wal_reset(struct io_log *log, raft_index index, raft_term term,
                      const struct io_log_write *write)
{
    struct wal *wal = wal_of(log);
    size_t at = wal->pending->records.len;

    wal_encode_pair(&wal->pending->records, WAL_RESET, write->group, index, term);
    pending_write(wal, write);
    pending_check(wal, at);
}

static void wal_compact(struct io_log *log, group_id group, raft_index index, raft_term term)
{
    struct wal *wal = wal_of(log);
    size_t at = wal->pending->records.len;

    if (index > wal_table_group(&wal->queued, group)->begin_index) {
        wal_encode_pair(&wal->pending->records, WAL_COMPACT, group, index, term);
        pending_check(wal, at);
    }
}

static void wal_checkpoint(struct io_log *log, group_id group, uint64_t number, raft_index index)
{
    struct wal *wal = wal_of(log);
    size_t at = wal->pending->records.len;

    if (number > wal_table_group(&wal->queued, group)->checkpoint) {
        wal_encode_pair(&wal->pending->records, WAL_CHECKPOINT, group, number, index);
        pending_check(wal, at);
    }
}

static uint64_t wal_bytes(struct io_log *log)
{
    struct wal *wal = wal_of(log);
    uint64_t bytes;

    pthread_mutex_lock(&wal->lock);
    bytes = wal->bytes;
    pthread_mutex_unlock(&wal->lock);
    return bytes;
}

/* Returns an empty batch for the next turn. */
static struct wal_batch *batch_hand_over(struct wal *wal, struct wal_batch *batch)
{
    struct wal_batch *empty = batch;

    ASSERT(batch->next == NULL);
    pthread_mutex_lock(&wal->lock);
    ASSERT(!wal->stop && (wal->first == NULL) == (wal->last == NULL));
    wal->n_wanted += batch->n_tokens;
    if (wal_batch_join(wal->last, batch)) {
        wal_batch_clear(batch);
    } else {
        if (wal->last == NULL) {
            wal->first = batch;
        } else {
            wal->last->next = batch;
        }
        wal->last = batch;
        empty = wal->empty;
        wal->empty = NULL;
    }
    pthread_cond_signal(&wal->wake);
    pthread_mutex_unlock(&wal->lock);
    return empty != NULL ? empty : wal_batch_create();
}

void wal_flush(struct wal *wal)
{
    struct wal_batch *batch = wal->pending;

    ASSERT(batch != NULL && batch->records.len % 8 == 0);
    if (batch->records.len == 0 && batch->n_tokens == 0) {
        if (!wal->threaded && wal->first == NULL) {
            disk_idle(wal);
        } else if (!wal->threaded) {
            disk_run(wal);
        }
        return;
    }
    wal->pending = batch_hand_over(wal, batch);
    if (!wal->threaded) {
        disk_run(wal);
    }
}

/* Without a thread there is nothing to be gained: the write would be carried out here. */
static void wal_flush_early(struct io_log *log)
{
    if (wal_of(log)->threaded) {
        wal_flush(wal_of(log));
    }
}

static const struct io_log_ops wal_ops = {
    .write = wal_write,
    .compact = wal_compact,
    .reset = wal_reset,
    .checkpoint = wal_checkpoint,
    .bytes = wal_bytes,
    .flush = wal_flush_early,
};

struct io_log *wal_io(struct wal *wal)
{
    return &wal->io;
}

void wal_statistics(const struct wal *wal, struct wal_stats *stats)
{
    struct wal *shared = (struct wal *)(uintptr_t)wal;
    uint64_t begun_us;

    pthread_mutex_lock(&shared->lock);
    *stats = shared->stats;
    stats->waiting = shared->n_wanted;
    begun_us = shared->begun_us;
    pthread_mutex_unlock(&shared->lock);
    stats->in_flight_us = begun_us == 0 ? 0 : wal_now_us() - begun_us + 1;
}

void wal_content(struct wal *wal, group_id group, struct io_log_content *content)
{
    struct wal_group *found = wal_table_find(&wal->content, group);

    *content = (struct io_log_content){0};
    if (found == NULL) {
        return;
    }
    *content = (struct io_log_content){.hard_state = found->hard_state,
                                       .begin_index = found->begin_index,
                                       .begin_term = found->begin_term,
                                       .entries = found->entries,
                                       .n_entries = found->n_entries,
                                       .checkpoint = found->checkpoint,
                                       .checkpoint_index = found->checkpoint_index};
    found->entries = NULL;
    found->n_entries = found->capacity = 0;
}

/* ---- Open and close ---- */

void wal_options_default(struct wal_options *options, const char *path)
{
    *options = (struct wal_options){.path = path,
                                    .segment_bytes = WAL_SEGMENT,
                                    .max_recycled = 2,
                                    .threaded = true,
                                    .files = wal_posix_files()};
}

static void wal_free(struct wal *wal)
{
    struct wal_batch *batch;

    while ((batch = batch_take(wal)) != NULL) {
        wal_batch_destroy(&batch);
    }
    wal_disk_fini(&wal->disk);
    wal_table_fini(&wal->content);
    wal_table_fini(&wal->queued);
    wal_batch_destroy(&wal->pending);
    if (wal->empty != NULL) {
        wal_batch_destroy(&wal->empty);
    }
    pthread_cond_destroy(&wal->wake);
    pthread_mutex_destroy(&wal->lock);
    mem_free(wal);
}

static struct wal *wal_create(const struct wal_options *options)
{
    struct wal *wal = mem_zalloc(sizeof(*wal));
    pthread_condattr_t attributes;

    wal->io.ops = &wal_ops;
    wal->mail = options->mail;
    wal->trace = options->trace;
    wal->threaded = options->threaded;
    wal->pending = wal_batch_create();
    pthread_mutex_init(&wal->lock, NULL);
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&wal->wake, &attributes);
    pthread_condattr_destroy(&attributes);
    wal_disk_init(&wal->disk, options);
    return wal;
}

/* How the log is written here: something was, at the end of recovery. */
static void tell_way(const struct wal *wal)
{
    uint32_t block = wal->disk.file.block;

    if (block > 0) {
        trace_info(wal->trace, "log writes: direct, in blocks of %" PRIu32 " bytes", block);
    } else {
        trace_info(wal->trace, "log writes: buffered, because direct ones are refused: %s",
                   strerror(-wal->disk.writer.refusal));
    }
}

enum status wal_open(const struct wal_options *options, struct wal **out, char *error)
{
    struct wal *wal;
    enum status status;

    ASSERT(options->mail.post != NULL && options->mail.deliver != NULL);
    *out = NULL;
    wal = wal_create(options);
    status = wal_disk_make_directory(&wal->disk);
    status = status == ST_OK ? wal_recover(&wal->disk, &wal->content) : status;
    if (status != ST_OK) {
        ASSERT(wal->disk.error[0] != '\0');
        if (error != NULL) {
            memcpy(error, wal->disk.error, STORE_ERROR_BYTES);
        }
        wal_free(wal);
        return status;
    }
    tell_way(wal);
    wal_table_copy(&wal->disk.table, &wal->queued);
    share_statistics(wal, true);
    if (wal->threaded && pthread_create(&wal->thread, NULL, disk_main, wal) != 0) {
        if (error != NULL) {
            snprintf(error, STORE_ERROR_BYTES, "write-ahead log: no thread could be started");
        }
        wal_free(wal);
        return ST_IO;
    }
    *out = wal;
    return ST_OK;
}

void wal_close(struct wal **out)
{
    struct wal *wal = *out;

    *out = NULL;
    if (wal == NULL) {
        return;
    }
    wal_flush(wal);
    if (wal->threaded) {
        pthread_mutex_lock(&wal->lock);
        wal->stop = true;
        pthread_cond_signal(&wal->wake);
        pthread_mutex_unlock(&wal->lock);
        pthread_join(wal->thread, NULL);
    } else if (wal->first == NULL) {
        disk_idle(wal);
    }
    ASSERT(wal->first == NULL || wal->blocked);
    wal_free(wal);
}
