/* After recovery: making what was accepted durable.
 *
 * Bytes that were read may still be only in the page cache, and after a failed fsync in an earlier
 * process a further one on the same pages proves nothing. So the last whole write, unless a later
 * one proves it durable, is written again, into a new segment, and synced before anybody hears of
 * it. The new segment follows the last write that is proven; whatever stands behind that in the old
 * one is not looked at again. Until the new segment's first write is whole, nothing that the next
 * recovery needs is changed, and the numbers of writes are the same in each attempt: a crash
 * anywhere in between changes nothing.
 *
 * A log that ends in a sync point with nothing behind it has nothing to rewrite: it goes on there.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include "raft/store/wal_recover.h"
#include "raft/util/assert.h"

/* Whether a later write proves the held one durable. */
static bool held_is_proven(const struct wal_recovery *recovery)
{
    return recovery->highest == recovery->last + 1;
}

static void release_held(struct wal_recovery *recovery)
{
    ASSERT(recovery->disk->n_segments > 0 || recovery->held.number == 0);
    if (recovery->held.number > 0) {
        wal_disk_apply(recovery->disk, recovery->disk->n_segments - 1,
                       buf_slice(&recovery->held.records));
    }
}

/* Files that are no part of the log become spare ones. While the log has no other segment behind an
 * END, the file it names must stay. */
static enum status recycle_rest(struct wal_recovery *recovery, bool above_head_only, uint64_t but)
{
    enum status status = ST_OK;
    size_t first = above_head_only ? recovery->head + 1 : 0;

    for (size_t i = first; i < recovery->n_found && status == ST_OK; i++) {
        struct wal_found *found = &recovery->found[i];
        if (!found->chained && !found->gone && found->id != but) {
            status = wal_disk_recycle(recovery->disk, found->id, found->size);
            found->gone = true;
        }
    }
    return status;
}

static enum status trim_spare(struct wal_disk *disk)
{
    char path[WAL_PATH_BYTES];

    while (disk->poison == ST_OK && disk->n_spare > disk->max_recycled) {
        uint64_t id = disk->spare[disk->n_spare - 1];
        int error = disk->files->unlink(disk->files->context,
                                        wal_disk_path(disk, id, WAL_SUFFIX_FREE, path));
        if (error != 0) {
            return wal_disk_fail(disk, error, "removal", id, WAL_SUFFIX_FREE);
        }
        disk->n_spare--;
        disk->spare_bytes -= disk->segment_bytes;
    }
    return disk->poison;
}

/* ---- Going on in place ---- */

/* Behind the sync point there must be nothing: of a torn write, records could later pass for those
 * of the next one, which gets the same number. */
static bool may_continue(const struct wal_recovery *recovery)
{
    return recovery->held.only == WAL_SYNC_POINT && recovery->highest_here == 0;
}

static enum status restart_in_place(struct wal_recovery *recovery)
{
    struct wal_disk *disk = recovery->disk;
    char path[WAL_PATH_BYTES];
    uint64_t id = recovery->found[recovery->head].id;
    int error, fd;

    fd = disk->files->open(disk->files->context, wal_disk_path(disk, id, WAL_SUFFIX_SEGMENT, path),
                           false);
    if (fd < 0) {
        return wal_disk_fail(disk, fd, "opening", id, WAL_SUFFIX_SEGMENT);
    }
    ASSERT(recovery->held.number == recovery->last && !recovery->held.begins_segment);
    disk->offset = recovery->held.offset;
    error = wal_writer_adopt(&disk->writer, fd, path, disk->offset, &disk->file);
    if (error != 0) {
        return wal_disk_fail(disk, error, "reading", id, WAL_SUFFIX_SEGMENT);
    }
    disk->write_number = recovery->last - 1;
    return wal_disk_sync_point(disk); /* the same bytes again: they may have been only in memory */
}

/* ---- Into a new segment ---- */

/* Where the proven part of the log ends. */
struct proven_end {
    uint64_t segment; /* 0: there is none */
    uint64_t offset;
    uint64_t write;
    bool drops_head; /* nothing of the head is proven */
};

static struct proven_end proven_end_find(const struct wal_recovery *recovery)
{
    const struct wal_found *head;

    if (recovery->head == WAL_NOT_FOUND) {
        return (struct proven_end){0};
    }
    head = &recovery->found[recovery->head];
    if (held_is_proven(recovery)) {
        return (struct proven_end){head->id, recovery->tail, recovery->last, false};
    }
    if (recovery->held.begins_segment) {
        return (struct proven_end){head->prev, head->prev_end, head->prev_write, true};
    }
    return (struct proven_end){head->id, recovery->held.offset, recovery->last - 1, false};
}

/* Gives back what the old head does not need any more, if that is most of it: restarts would fill
 * the disk with segments of hardly any content, until a checkpoint lets them go. It is sure by now
 * that nothing behind the MOVED record will be asked for. */
static enum status shorten_moved(struct wal_disk *disk, const struct wal_file *file,
                                 struct wal_segment *segment, uint64_t end)
{
    uint64_t bytes = wal_disk_whole(end);
    int error;

    if (bytes > segment->bytes / 2) {
        return ST_OK;
    }
    error = disk->files->truncate(disk->files->context, file->fd, bytes);
    error = error == 0 ? disk->files->fdatasync(disk->files->context, file->fd) : error;
    if (error != 0) {
        return wal_disk_fail(disk, error, "truncation", segment->id, WAL_SUFFIX_SEGMENT);
    }
    segment->bytes = bytes;
    return ST_OK;
}

/* Says in the old head that the log went on elsewhere, so that a loss of the new segment shows. */
static enum status mark_moved(struct wal_recovery *recovery, const struct proven_end *end)
{
    struct wal_disk *disk = recovery->disk;
    const struct wal_found *head = &recovery->found[recovery->head];
    struct buf bytes = {0};
    char path[WAL_PATH_BYTES];
    struct wal_file file = {.fd = -1};
    enum status status;

    ASSERT(end->segment == head->id);
    if (end->offset + WAL_END_BYTES > head->size) {
        return ST_OK; /* it ends in an END */
    }
    file.fd = disk->files->open(disk->files->context,
                                wal_disk_path(disk, head->id, WAL_SUFFIX_SEGMENT, path), false);
    if (file.fd < 0) {
        return wal_disk_fail(disk, file.fd, "opening", head->id, WAL_SUFFIX_SEGMENT);
    }
    wal_encode_number(&bytes, WAL_MOVED, disk->segments[disk->n_segments - 1].id);
    status = wal_disk_put(disk, &file, head->id, &bytes, 0, end->offset, end->write + 1);
    if (status == ST_OK) {
        ASSERT(disk->segments[disk->n_segments - 2].id == head->id);
        status = shorten_moved(disk, &file, &disk->segments[disk->n_segments - 2],
                               end->offset + WAL_END_BYTES);
    }
    wal_writer_close(&disk->writer, &file);
    buf_fini(&bytes);
    return status;
}

static enum status write_new_segment(struct wal_recovery *recovery, const struct proven_end *end)
{
    struct wal_disk *disk = recovery->disk;
    uint64_t id = disk->highest_id + 1, bytes = disk->segment_bytes, need;
    struct buf out = {0};
    enum status status;

    wal_disk_encode_header(disk, &disk->table, id, end->segment, end->offset, end->write, &out);
    if (!held_is_proven(recovery)) {
        buf_put_slice(&out, buf_slice(&recovery->held.records));
    }
    ASSERT(disk->n_segments == 0 || disk->segments[disk->n_segments - 1].id < id);
    need = out.len + WAL_RESERVED_BYTES;
    bytes = need > bytes ? need : bytes;
    status = wal_disk_create_least(disk, id, bytes, need, &disk->file, &bytes);
    if (status == ST_NO_SPACE) {
        wal_disk_fail(disk, -ENOSPC, "making a new segment", id, WAL_SUFFIX_SEGMENT);
    }
    if (status == ST_OK) {
        status = wal_disk_put(disk, &disk->file, id, &out, WAL_PREAMBLE_BYTES, 0, end->write + 1);
    }
    if (status == ST_OK) {
        if (end->drops_head) {
            disk->n_segments--; /* nothing of it was noted: its only write is held */
            ASSERT(disk->segments[disk->n_segments].n_spans == 0);
        }
        wal_disk_add_segment(disk, id, bytes);
        disk->offset = out.len;
        disk->write_number = end->write + 1;
    }
    buf_fini(&out);
    return status;
}

static enum status restart_in_new_segment(struct wal_recovery *recovery)
{
    struct proven_end end = proven_end_find(recovery);
    struct wal_disk *disk = recovery->disk;
    enum status status = ST_OK;

    if (held_is_proven(recovery)) {
        release_held(recovery);
    }
    if (recovery->head != WAL_NOT_FOUND) {
        /* A full disk must not keep the log from starting: files not begun can be used. */
        uint64_t but = recovery->held.only == WAL_END ? recovery->held.next : 0;
        status = recycle_rest(recovery, true, but);
    }
    status = status == ST_OK ? write_new_segment(recovery, &end) : status;
    if (status != ST_OK) {
        return status;
    }
    if (!held_is_proven(recovery)) {
        release_held(recovery);
    }
    status = wal_disk_sync_point(disk);
    if (end.drops_head) {
        recovery->found[recovery->head].chained = false;
    } else if (status == ST_OK && end.segment != 0) {
        status = mark_moved(recovery, &end);
    }
    return status;
}

enum status wal_restart(struct wal_recovery *recovery)
{
    struct wal_disk *disk = recovery->disk;
    bool in_place = may_continue(recovery);
    enum status status = in_place ? restart_in_place(recovery) : restart_in_new_segment(recovery);

    status = status == ST_OK ? recycle_rest(recovery, false, 0) : status;
    status = status == ST_OK ? trim_spare(disk) : status;
    status = status == ST_OK ? wal_disk_release(disk) : status;
    if (status == ST_OK && !in_place && recovery->bad > recovery->tail) {
        trace_warn(disk->trace,
                   "write-ahead log: dropped a torn write segment=%" PRIu64 " offset=%" PRIu64,
                   recovery->found[recovery->head].id, recovery->tail);
    }
    ASSERT(status != ST_OK || (disk->n_segments > 0 && disk->file.fd >= 0 && disk->proven));
    return status;
}
