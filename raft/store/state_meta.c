/* state_meta: where the state stands, written with every checkpoint, and the chain of checkpoint
 * numbers by which a lost one is noticed.
 *
 *   "mmeta"       u16 version = 1, u32 group, u64 number, u64 begin, u64 index, u64 term,
 *                 ranges (u32 count, u64 each), extra (u32 length, bytes)
 *   "mckpt"+slot  u64 number, u64 index; slot = number mod 64, one byte
 *
 * Each checkpoint is one batch, and LevelDB keeps batches in its log file until it writes them to a
 * table. When it opens a log file whose end was torn, or that is damaged, it can drop batches; one
 * dropped from the middle shows as a gap in the last 64 numbers, because the log file is made to
 * begin anew in time (state_worker.c, state_worker_flush); those dropped from
 * the end show as a number or an index below what the Raft log recorded as durable.
 */
#include "raft/store/state_private.h"
#include "raft/util/assert.h"
#include "raft/util/mem.h"

#define STATE_META_VERSION 1

static const char meta_key[] = "mmeta";

void state_meta_fini(struct state_meta *meta)
{
    buf_fini(&meta->extra);
    mem_free(meta->ranges);
    *meta = (struct state_meta){0};
}

void state_meta_copy(struct state_meta *to, const struct state_meta *from)
{
    *to = *from;
    to->extra = (struct buf){0};
    buf_put_slice(&to->extra, buf_slice(&from->extra));
    to->ranges = mem_copy(from->ranges, from->n_ranges * sizeof(*from->ranges));
}

bool state_meta_has_range(const struct state_meta *meta, uint64_t range)
{
    size_t low = 0, high = meta->n_ranges;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (meta->ranges[middle] == range) {
            return true;
        }
        if (meta->ranges[middle] < range) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return false;
}

void state_meta_put_ranges(struct buf *out, const uint64_t *ranges, size_t n)
{
    ASSERT(n <= UINT32_MAX);
    buf_put_u32(out, (uint32_t)n);
    for (size_t i = 0; i < n; i++) {
        ASSERT(ranges[i] > (i > 0 ? ranges[i - 1] : 0));
        buf_put_u64(out, ranges[i]);
    }
}

bool state_meta_get_ranges(struct reader *reader, uint64_t **ranges, size_t *n)
{
    uint32_t count = reader_u32(reader);

    *ranges = NULL;
    *n = 0;
    if (!reader_ok(reader) || count > reader_left(reader) / 8) {
        return false;
    }
    *ranges = mem_alloc(count * sizeof(**ranges));
    *n = count;
    for (uint32_t i = 0; i < count; i++) {
        (*ranges)[i] = reader_u64(reader);
        if ((*ranges)[i] <= (i > 0 ? (*ranges)[i - 1] : 0)) {
            return false;
        }
    }
    return true;
}

static struct slice state_meta_slot(uint64_t number, uint8_t key[6])
{
    memcpy(key, "mckpt", 5);
    key[5] = (uint8_t)(number % STATE_CHAIN);
    return slice_of(key, 6);
}

void state_meta_put(const struct state_meta *meta, leveldb_writebatch_t *batch)
{
    struct buf value = {0};
    struct buf chain = {0};
    uint8_t slot[6];

    ASSERT(meta->number >= meta->begin && meta->begin > 0);
    buf_put_u16(&value, STATE_META_VERSION);
    buf_put_u32(&value, meta->group);
    buf_put_u64(&value, meta->number);
    buf_put_u64(&value, meta->begin);
    buf_put_u64(&value, meta->index);
    buf_put_u64(&value, meta->term);
    state_meta_put_ranges(&value, meta->ranges, meta->n_ranges);
    buf_put_bytes(&value, buf_slice(&meta->extra));
    leveldb_writebatch_put(batch, meta_key, sizeof(meta_key) - 1, (const char *)value.data,
                           value.len);
    buf_put_u64(&chain, meta->number);
    buf_put_u64(&chain, meta->index);
    leveldb_writebatch_put(batch, (const char *)state_meta_slot(meta->number, slot).data,
                           sizeof(slot), (const char *)chain.data, chain.len);
    buf_fini(&value);
    buf_fini(&chain);
}

static enum status state_meta_decode(struct slice value, struct state_meta *meta)
{
    struct reader reader = reader_of(value);
    uint16_t version = reader_u16(&reader);
    bool ranges_ok;

    if (reader_ok(&reader) && version > STATE_META_VERSION) {
        return ST_VERSION;
    }
    meta->group = reader_u32(&reader);
    meta->number = reader_u64(&reader);
    meta->begin = reader_u64(&reader);
    meta->index = reader_u64(&reader);
    meta->term = reader_u64(&reader);
    ranges_ok = state_meta_get_ranges(&reader, &meta->ranges, &meta->n_ranges);
    buf_put_slice(&meta->extra, reader_bytes(&reader, reader_left(&reader)));
    if (!ranges_ok || !reader_done(&reader) || meta->begin == 0 || meta->number < meta->begin) {
        return ST_CORRUPT;
    }
    return ST_OK;
}

/* Every number of the last 64 is there, with an index that did not go back. */
static enum status state_meta_check_chain(struct state_db *db, const struct state_meta *meta,
                                          char *error)
{
    uint64_t number = meta->number;
    raft_index above = meta->index;

    for (unsigned i = 0; i < STATE_CHAIN && number >= meta->begin; i++, number--) {
        struct buf value = {0};
        uint8_t slot[6];
        enum status status =
            state_db_get(db, db->read, state_meta_slot(number, slot), &value, error);
        bool good = status == ST_OK && value.len == 16 && get_u64(value.data) == number &&
                    get_u64(value.data + 8) <= above;

        above = good ? get_u64(value.data + 8) : above;
        buf_fini(&value);
        if (status != ST_OK && status != ST_NOT_FOUND) {
            return status;
        }
        if (!good) {
            disk_format_error(
                error, "%s is damaged: checkpoint %llu of %llu is missing; " STORE_REBUILD,
                db->path, (unsigned long long)number, (unsigned long long)meta->number);
            return ST_CORRUPT;
        }
    }
    return ST_OK;
}

/* A database without meta has had no checkpoint: there can be nothing in it. */
static enum status state_meta_check_empty(struct state_db *db, char *error)
{
    leveldb_iterator_t *iter = leveldb_create_iterator(db->db, db->read);
    enum status status;
    bool any;

    leveldb_iter_seek_to_first(iter);
    any = leveldb_iter_valid(iter);
    status = state_db_iter_status(db, iter, error);
    leveldb_iter_destroy(iter);
    if (status == ST_OK && any) {
        disk_format_error(error, "%s is damaged: it holds keys, but no checkpoint; " STORE_REBUILD,
                          db->path);
        return ST_CORRUPT;
    }
    return status;
}

enum status state_meta_load(struct state_db *db, group_id group, uint64_t durable,
                            raft_index durable_index, struct state_meta *meta, char *error)
{
    struct buf value = {0};
    enum status status = state_db_get(db, db->read, slice_text(meta_key), &value, error);

    *meta = (struct state_meta){.group = group};
    if (status == ST_NOT_FOUND) {
        status = state_meta_check_empty(db, error);
    } else if (status == ST_OK) {
        status = state_meta_decode(buf_slice(&value), meta);
        if (status != ST_OK) {
            disk_format_error(error, "%s: meta is %s", db->path,
                              status == ST_VERSION ? "of a newer format"
                                                   : "damaged; " STORE_REBUILD);
        } else if (meta->group != group) {
            disk_format_error(error, "%s holds the state of group %u, not of group %u", db->path,
                              meta->group, group);
            status = ST_WRONG_NODE;
        } else {
            status = state_meta_check_chain(db, meta, error);
        }
    }
    buf_fini(&value);
    if (status == ST_OK && (meta->number < durable || meta->index < durable_index)) {
        disk_format_error(error,
                          "%s is damaged: it stands at checkpoint %llu, index %llu, but the log "
                          "says that %llu, index %llu was durable; " STORE_REBUILD,
                          db->path, (unsigned long long)meta->number,
                          (unsigned long long)meta->index, (unsigned long long)durable,
                          (unsigned long long)durable_index);
        status = ST_CORRUPT;
    }
    if (status != ST_OK) {
        state_meta_fini(meta);
    }
    return status;
}
