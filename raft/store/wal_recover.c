/* Recovery: which bytes are the log.
 *
 * One write is in flight at a time, so only the last whole write and what follows it may not be
 * durable; everything before was synced, and if it can't be read, it is damaged. What stands behind
 * the last whole write number n is taken for a torn write n+1 only if no header of a write above
 * n+1 is anywhere behind it, in the rest of the file or in files made later: such a header says
 * that n+1 was durable once. It is refused then: throwing acknowledged entries away would let the
 * group lose what it committed (PAR, section 3).
 *
 * Every segment's header repeats the state of all groups and says where the segment before ends, so
 * each step from segment to segment is checked twice: against its own checksums and against what
 * the earlier segments add up to.
 */
#include "raft/store/wal_recover.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "raft/util/assert.h"
#include "raft/util/mem.h"

/* ---- Errors ---- */

static enum status recovery_refuse(struct wal_recovery *recovery, enum status status, uint64_t id,
                                   uint64_t offset, const char *what, const char *advice)
{
    char path[WAL_PATH_BYTES];

    ASSERT(status != ST_OK);
    snprintf(recovery->disk->error, STORE_ERROR_BYTES,
             "write-ahead log: %s at offset %" PRIu64 ": %s; %s",
             wal_disk_path(recovery->disk, id, WAL_SUFFIX_SEGMENT, path), offset, what, advice);
    return status;
}

enum status wal_recovery_corrupt(struct wal_recovery *recovery, uint64_t id, uint64_t offset,
                                 const char *what)
{
    return recovery_refuse(recovery, ST_CORRUPT, id, offset, what,
                           "nothing was changed: " STORE_REBUILD);
}

static enum status recovery_unreadable(struct wal_recovery *recovery, uint64_t id, uint64_t offset,
                                       int error)
{
    return recovery_refuse(recovery, ST_IO, id, offset, strerror(-error),
                           "repair the disk or " STORE_REBUILD);
}

/* ---- The files ---- */

struct listing {
    struct wal_recovery *recovery;
    uint64_t *unmade; /* ids of .new files */
    size_t n_unmade;
    size_t capacity;
};

static void list_each(void *arg, const char *name)
{
    struct listing *listing = arg;
    struct wal_recovery *recovery = listing->recovery;
    struct wal_disk *disk = recovery->disk;
    enum wal_suffix suffix;
    uint64_t id;

    if (!wal_name_parse(name, &id, &suffix)) {
        return; /* not ours */
    }
    if (suffix != WAL_SUFFIX_NEW && id > disk->highest_id) {
        disk->highest_id = id;
    }
    if (suffix == WAL_SUFFIX_FREE) {
        wal_disk_add_spare(disk, id);
    } else if (suffix == WAL_SUFFIX_NEW) {
        MEM_GROW(listing->unmade, listing->capacity, listing->n_unmade + 1);
        listing->unmade[listing->n_unmade++] = id;
    } else {
        MEM_GROW(recovery->found, recovery->capacity, recovery->n_found + 1);
        recovery->found[recovery->n_found++] = (struct wal_found){.id = id};
    }
}

static int compare_found(const void *a, const void *b)
{
    const struct wal_found *x = a, *y = b;

    return (x->id > y->id) - (x->id < y->id);
}

static enum status recovery_list(struct wal_recovery *recovery)
{
    const struct wal_files *files = recovery->disk->files;
    struct listing listing = {.recovery = recovery};
    char path[WAL_PATH_BYTES];
    enum status status = ST_OK;
    int error = files->list(files->context, recovery->disk->path, list_each, &listing);

    if (error != 0) {
        snprintf(recovery->disk->error, STORE_ERROR_BYTES,
                 "write-ahead log: listing %s failed: %s; repair the disk or " STORE_REBUILD,
                 recovery->disk->path, strerror(-error));
        status = ST_IO;
    }
    for (size_t i = 0; i < listing.n_unmade && status == ST_OK; i++) {
        error = files->unlink(
            files->context, wal_disk_path(recovery->disk, listing.unmade[i], WAL_SUFFIX_NEW, path));
        if (error != 0) {
            status = recovery_unreadable(recovery, listing.unmade[i], 0, error);
        }
    }
    mem_free(listing.unmade);
    if (recovery->n_found > 0) {
        qsort(recovery->found, recovery->n_found, sizeof(recovery->found[0]), compare_found);
    }
    return status;
}

size_t wal_recovery_find(const struct wal_recovery *recovery, uint64_t id)
{
    for (size_t i = 0; i < recovery->n_found; i++) {
        if (recovery->found[i].id == id) {
            return i;
        }
    }
    return WAL_NOT_FOUND;
}

static enum status source_open(struct wal_recovery *recovery, uint64_t id,
                               struct wal_source *source)
{
    char path[WAL_PATH_BYTES];
    int error = wal_source_open(source, recovery->disk->files,
                                wal_disk_path(recovery->disk, id, WAL_SUFFIX_SEGMENT, path),
                                recovery->disk->identity, id);

    return error == 0 ? ST_OK : recovery_unreadable(recovery, id, 0, error);
}

/* Preamble and header record of one file. Neither there: it was not begun, or a first write is
 * torn, or it is damaged; which of these shows later. */
static enum status found_inspect(struct wal_recovery *recovery, struct wal_found *found,
                                 struct wal_source *source)
{
    const uint8_t *bytes = wal_source_bytes(source, 0, WAL_PREAMBLE_BYTES);
    uint64_t identity, segment;
    struct wal_record record;
    enum wal_preamble preamble;
    struct reader reader;

    found->size = source->size;
    if (bytes == NULL) {
        return ST_OK;
    }
    preamble = wal_preamble_parse(bytes, &identity, &segment);
    if (preamble == WAL_PREAMBLE_NONE) {
        return ST_OK;
    }
    if (preamble == WAL_PREAMBLE_NEWER) {
        return recovery_refuse(recovery, ST_VERSION, found->id, 0, "written in a newer format",
                               "start the version that wrote it, or a later one");
    }
    if (identity != recovery->disk->identity) {
        return wal_recovery_corrupt(recovery, found->id, 0, "a segment of another replica's log");
    }
    if (segment != found->id) {
        return wal_recovery_corrupt(recovery, found->id, 0, "a misplaced segment of this log");
    }
    if (!wal_source_record(source, WAL_PREAMBLE_BYTES, &record) || record.kind != WAL_SEGMENT) {
        return ST_OK;
    }
    reader = reader_of(record.payload);
    found->first_write = record.write;
    found->prev = reader_u64(&reader);
    found->prev_end = reader_u64(&reader);
    found->prev_write = reader_u64(&reader);
    if (!reader_ok(&reader) || found->prev >= found->id ||
        found->prev_write + 1 != found->first_write) {
        return wal_recovery_corrupt(recovery, found->id, WAL_PREAMBLE_BYTES, "a malformed header");
    }
    found->begun = true;
    return ST_OK;
}

static enum status recovery_inspect(struct wal_recovery *recovery)
{
    enum status status = ST_OK;

    for (size_t i = 0; i < recovery->n_found && status == ST_OK; i++) {
        struct wal_source source;

        status = source_open(recovery, recovery->found[i].id, &source);
        if (status != ST_OK) {
            break;
        }
        status = found_inspect(recovery, &recovery->found[i], &source);
        if (status == ST_OK && source.error != 0) {
            status = recovery_unreadable(recovery, recovery->found[i].id, 0, source.error);
        }
        wal_source_close(&source);
    }
    return status;
}

/* ---- The chain ---- */

/* The head is the newest segment whose first write is whole. */
static enum status recovery_find_head(struct wal_recovery *recovery)
{
    enum status status = ST_OK;

    recovery->head = WAL_NOT_FOUND;
    for (size_t i = recovery->n_found; i-- > 0 && status == ST_OK;) {
        struct wal_write write = {0};
        struct wal_source source;
        uint64_t bad;

        if (!recovery->found[i].begun) {
            continue;
        }
        status = source_open(recovery, recovery->found[i].id, &source);
        if (status != ST_OK) {
            break;
        }
        if (wal_source_write(&source, WAL_PREAMBLE_BYTES, recovery->found[i].first_write, &write,
                             &bad)) {
            recovery->head = i;
        } else if (source.error != 0) {
            status = recovery_unreadable(recovery, recovery->found[i].id, bad, source.error);
        }
        wal_write_fini(&write);
        wal_source_close(&source);
        if (recovery->head != WAL_NOT_FOUND) {
            break;
        }
    }
    return status;
}

/* From the head back to the oldest segment that is there. */
static enum status recovery_chain(struct wal_recovery *recovery)
{
    size_t at = recovery->head;
    uint64_t prev;

    if (at == WAL_NOT_FOUND) {
        /* The first file of a log keeps its name until a segment is whole. */
        recovery->oldest = WAL_NOT_FOUND;
        if ((recovery->n_found == 0 && recovery->disk->n_spare > 0) ||
            (recovery->n_found > 0 && recovery->found[0].id != 1)) {
            return wal_recovery_corrupt(recovery, 1, 0, "the segments of the log are missing");
        }
        return ST_OK;
    }
    for (;;) {
        size_t before;

        recovery->found[at].chained = true;
        recovery->oldest = at;
        prev = recovery->found[at].prev;
        before = prev == 0 ? WAL_NOT_FOUND : wal_recovery_find(recovery, prev);
        if (before == WAL_NOT_FOUND) {
            break;
        }
        if (!recovery->found[before].begun) {
            return wal_recovery_corrupt(recovery, prev, 0, "the beginning is damaged");
        }
        ASSERT(before < at);
        at = before;
    }
    /* Segments go oldest first: what is older than a missing one shows that it should be there. */
    if (recovery->found[0].id < prev) {
        return wal_recovery_corrupt(recovery, prev, 0, "the segment is missing");
    }
    return ST_OK;
}

/* ---- Replay ---- */

enum status wal_recovery_apply_held(struct wal_recovery *recovery)
{
    struct wal_record record;
    size_t at = 0;

    ASSERT(recovery->held.number == 0 || recovery->held.segment < recovery->disk->n_segments);
    while (wal_record_next(buf_slice(&recovery->held.records), &at, &record)) {
        if (!wal_table_apply(recovery->content, &record)) {
            return wal_recovery_corrupt(recovery,
                                        recovery->disk->segments[recovery->held.segment].id,
                                        recovery->held.offset, "a write contradicts earlier ones");
        }
    }
    return ST_OK;
}

/* A further whole write proves the held one durable, and is held itself. */
static enum status recovery_hold(struct wal_recovery *recovery, struct wal_write *write)
{
    enum status status = wal_recovery_apply_held(recovery);

    ASSERT(write->number == recovery->last + 1 && recovery->disk->n_segments > 0);
    if (status == ST_OK && recovery->held.number > 0) {
        wal_disk_apply(recovery->disk, recovery->held.segment, buf_slice(&recovery->held.records));
    }
    wal_write_fini(&recovery->held);
    recovery->held = *write;
    recovery->held.segment = recovery->disk->n_segments - 1;
    recovery->last = write->number;
    *write = (struct wal_write){0};
    return status;
}

/* The table in a segment's header: where the log begins, or a repetition of what is known. */
static enum status replay_header(struct wal_recovery *recovery, const struct wal_found *found,
                                 struct wal_source *source, bool oldest)
{
    struct wal_table table = {0};
    struct wal_record record;
    struct reader reader;
    bool good = wal_source_record(source, WAL_PREAMBLE_BYTES, &record);

    reader = reader_of(record.payload);
    reader_take(&reader, 24);
    good = good && wal_table_decode(&reader, &table) && reader_done(&reader);
    if (good && oldest) {
        wal_table_fini(&recovery->disk->table);
        wal_table_fini(recovery->content);
        wal_table_copy(&table, &recovery->disk->table);
        wal_table_copy(&table, recovery->content);
        recovery->content->keeps_entries = true;
    } else if (good) {
        good = wal_table_equal(&table, &recovery->disk->table);
    }
    wal_table_fini(&table);
    return good ? ST_OK
                : wal_recovery_corrupt(recovery, found->id, WAL_PREAMBLE_BYTES,
                                       "the header contradicts the segments before");
}

/* The writes of one segment, up to where the next one says that it ends; in the head, as far as
 * they are whole. */
static enum status replay_writes(struct wal_recovery *recovery, const struct wal_found *found,
                                 const struct wal_found *next, struct wal_source *source)
{
    uint64_t offset = WAL_PREAMBLE_BYTES;
    enum status status = ST_OK;

    recovery->bad = offset;
    while (status == ST_OK && (next == NULL || offset < next->prev_end)) {
        struct wal_write write;
        bool first = offset == WAL_PREAMBLE_BYTES;

        if (!wal_source_write(source, offset, recovery->last + 1, &write, &recovery->bad)) {
            break;
        }
        if (write.begins_segment != first) {
            status = wal_recovery_corrupt(recovery, found->id, offset, "a header out of place");
            wal_write_fini(&write);
            break;
        }
        offset = recovery->bad = write.end;
        status = recovery_hold(recovery, &write);
        if (status == ST_OK && first) {
            status =
                replay_header(recovery, found, source, found == &recovery->found[recovery->oldest]);
        }
        if (next == NULL && (recovery->held.only == WAL_END || recovery->held.only == WAL_MOVED)) {
            break;
        }
    }
    if (source->error != 0) {
        return recovery_unreadable(recovery, found->id, recovery->bad, source->error);
    }
    if (status == ST_OK && next != NULL &&
        (offset != next->prev_end || recovery->last != next->prev_write)) {
        return wal_recovery_corrupt(recovery, found->id, recovery->bad, "a damaged record");
    }
    recovery->tail = offset;
    return status;
}

static enum status replay_segment(struct wal_recovery *recovery, const struct wal_found *found,
                                  const struct wal_found *next)
{
    struct wal_source source;
    enum status status = source_open(recovery, found->id, &source);

    ASSERT(found->begun && found->chained);
    ASSERT(next == NULL || (next->chained && next->prev == found->id));
    if (status != ST_OK) {
        return status;
    }
    if (found == &recovery->found[recovery->oldest]) {
        recovery->last = found->prev_write;
    }
    wal_disk_add_segment(recovery->disk, found->id, found->size);
    status = replay_writes(recovery, found, next, &source);
    if (status == ST_OK && next == NULL) {
        recovery->highest = recovery->highest_here = wal_source_highest(&source, recovery->tail);
    }
    if (status == ST_OK && source.error != 0) {
        status = recovery_unreadable(recovery, found->id, recovery->tail, source.error);
    }
    wal_source_close(&source);
    return status;
}

static enum status recovery_replay(struct wal_recovery *recovery)
{
    enum status status = ST_OK;

    ASSERT(recovery->oldest <= recovery->head && recovery->head < recovery->n_found);
    for (size_t i = recovery->oldest; i <= recovery->head && status == ST_OK; i++) {
        const struct wal_found *next = NULL;

        if (!recovery->found[i].chained) {
            continue; /* superseded by an earlier recovery */
        }
        for (size_t j = i + 1; j <= recovery->head && next == NULL; j++) {
            next = recovery->found[j].chained ? &recovery->found[j] : NULL;
        }
        status = replay_segment(recovery, &recovery->found[i], next);
    }
    return status;
}

/* ---- Judgement ---- */

/* Files above the head: not begun, or their first write is torn, or their beginning is damaged. */
static enum status judge_later_files(struct wal_recovery *recovery)
{
    size_t first = recovery->head == WAL_NOT_FOUND ? 0 : recovery->head + 1;
    enum status status = ST_OK;

    for (size_t i = first; i < recovery->n_found && status == ST_OK; i++) {
        struct wal_source source;
        uint64_t highest;

        status = source_open(recovery, recovery->found[i].id, &source);
        if (status != ST_OK) {
            break;
        }
        highest = wal_source_highest(&source, 0);
        if (source.error != 0) {
            status = recovery_unreadable(recovery, recovery->found[i].id, 0, source.error);
        } else if (highest > recovery->last + 1 &&
                   (recovery->last == 0 || recovery->held.only == WAL_END)) {
            status = wal_recovery_corrupt(recovery, recovery->found[i].id, 0,
                                          "the beginning is damaged");
        }
        recovery->highest = highest > recovery->highest ? highest : recovery->highest;
        wal_source_close(&source);
    }
    return status;
}

static enum status judge_tail(struct wal_recovery *recovery)
{
    const struct wal_write *held = &recovery->held;
    enum status status = judge_later_files(recovery);

    if (status != ST_OK) {
        return status;
    }
    ASSERT(recovery->head != WAL_NOT_FOUND || recovery->last == 0);
    if (recovery->highest > recovery->last + 1) {
        return wal_recovery_corrupt(recovery, recovery->found[recovery->head].id, recovery->bad,
                                    "a damaged record, with later ones behind it");
    }
    if (held->only == WAL_MOVED) {
        return wal_recovery_corrupt(recovery, held->next, 0,
                                    "the segment is missing or its beginning is damaged");
    }
    if (held->only == WAL_END && wal_recovery_find(recovery, held->next) == WAL_NOT_FOUND) {
        return wal_recovery_corrupt(recovery, held->next, 0, "the segment is missing");
    }
    return ST_OK;
}

/* Recycled segments must have been dispensable. */
static enum status judge_entries(struct wal_recovery *recovery)
{
    for (size_t i = 0; i < recovery->content->n; i++) {
        const struct wal_group *group = &recovery->content->groups[i];
        if (group->last_index - group->begin_index != group->n_entries) {
            return wal_recovery_corrupt(recovery, recovery->found[recovery->oldest].prev, 0,
                                        "the segment is missing, and entries with it");
        }
    }
    return ST_OK;
}

enum status wal_recover(struct wal_disk *disk, struct wal_table *content)
{
    struct wal_recovery recovery = {.disk = disk, .content = content};
    enum status status;

    ASSERT(disk->n_segments == 0 && content->n == 0);
    content->keeps_entries = true;
    status = recovery_list(&recovery);
    status = status == ST_OK ? recovery_inspect(&recovery) : status;
    status = status == ST_OK ? recovery_find_head(&recovery) : status;
    status = status == ST_OK ? recovery_chain(&recovery) : status;
    if (status == ST_OK && recovery.head != WAL_NOT_FOUND) {
        status = recovery_replay(&recovery);
    }
    status = status == ST_OK ? judge_tail(&recovery) : status;
    status = status == ST_OK ? wal_recovery_apply_held(&recovery) : status;
    status = status == ST_OK ? judge_entries(&recovery) : status;
    status = status == ST_OK ? wal_restart(&recovery) : status;
    disk->stats = (struct wal_stats){0}; /* they begin now that the log is open */
    wal_write_fini(&recovery.held);
    mem_free(recovery.found);
    return status;
}
