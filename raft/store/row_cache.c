/* Row cache: see row_cache.h. A key's hash names the set of eight places where it may stand, with
 * a tag of the hash beside each: another key's row is hardly ever looked at. So there is no chain
 * to follow, and nothing to move.
 *
 * Who goes is found by second chance (Corbato 1969): a hand goes around, over a set that is full
 * or over all of them if there are too many bytes, and takes the first row that nobody has read
 * since it last came by.
 */
#include "raft/store/row_cache.h"

#include "raft/store/key_hash.h"
#include "raft/util/assert.h"
#include "raft/util/mem.h"

#define ROW_CACHE_WAYS      8u
#define ROW_CACHE_ROW_BYTES 256u /* as many places as there would be rows of this size */
#define ROW_CACHE_MALLOC    16u  /* what an allocation takes besides, about */

struct row {
    uint64_t range;
    uint32_t key_len, value_len;
    uint8_t kind;
    uint8_t bytes[]; /* key, value */
};

struct row_set {
    uint32_t tags[ROW_CACHE_WAYS];
    uint8_t read; /* a bit for each row: since the hand came by */
    uint8_t hand; /* the way that it looks at next */
    struct row *rows[ROW_CACHE_WAYS];
};

struct row_cache {
    size_t max_bytes, bytes;
    uint64_t seed;
    struct row_set *sets; /* NULL until something is kept */
    size_t n_sets;        /* a power of two */
    size_t hand;          /* the set that gives a row up next */
    size_t n;             /* rows */
};

static size_t row_bytes(const struct row *row)
{
    return sizeof(*row) + row->key_len + row->value_len + ROW_CACHE_MALLOC;
}

static bool row_is_of(const struct row *row, struct io_key key)
{
    return row->range == key.range && row->kind == key.kind &&
           slice_equal(slice_of(row->bytes, row->key_len), key.key);
}

static struct row *row_create(struct io_key key, struct slice value)
{
    struct row *row = mem_alloc(sizeof(*row) + key.key.len + value.len);

    *row = (struct row){.range = key.range,
                        .kind = key.kind,
                        .key_len = (uint32_t)key.key.len,
                        .value_len = (uint32_t)value.len};
    if (key.key.len > 0) {
        memcpy(row->bytes, key.key.data, key.key.len);
    }
    if (value.len > 0) {
        memcpy(row->bytes + key.key.len, value.data, value.len);
    }
    return row;
}

struct row_cache *row_cache_create(size_t max_bytes)
{
    struct row_cache *cache = mem_zalloc(sizeof(*cache));

    cache->max_bytes = max_bytes;
    cache->seed = key_hash_seed();
    cache->n_sets = 1;
    while (cache->n_sets * ROW_CACHE_WAYS * ROW_CACHE_ROW_BYTES < max_bytes) {
        cache->n_sets *= 2;
    }
    return cache;
}

static void drop(struct row_cache *cache, struct row_set *set, uint32_t way)
{
    ASSERT(cache->n > 0 && cache->bytes >= row_bytes(set->rows[way]));
    cache->n--;
    cache->bytes -= row_bytes(set->rows[way]);
    mem_free(set->rows[way]);
    set->rows[way] = NULL;
}

void row_cache_destroy(struct row_cache **cache)
{
    struct row_cache *self = *cache;

    if (self == NULL) {
        return;
    }
    for (size_t i = 0; self->n > 0; i++) {
        for (uint32_t way = 0; way < ROW_CACHE_WAYS; way++) {
            if (self->sets[i].rows[way] != NULL) {
                drop(self, &self->sets[i], way);
            }
        }
    }
    mem_free(self->sets);
    mem_free(self);
    *cache = NULL;
}

static struct row_set *set_of(const struct row_cache *cache, uint64_t hash)
{
    return &cache->sets[(size_t)hash & (cache->n_sets - 1)];
}

/* The way of this key in its set, or ROW_CACHE_WAYS. */
static uint32_t find(const struct row_set *set, struct io_key key, uint64_t hash)
{
    uint32_t tag = (uint32_t)(hash >> 32);

    for (uint32_t way = 0; way < ROW_CACHE_WAYS; way++) {
        if (set->tags[way] == tag && set->rows[way] != NULL && row_is_of(set->rows[way], key)) {
            return way;
        }
    }
    return ROW_CACHE_WAYS;
}

/* The set that has the key's row, and its way there; NULL: it is not here. */
static struct row_set *look_up(const struct row_cache *cache, struct io_key key, uint32_t *way)
{
    struct row_set *set;
    uint64_t hash;

    if (cache->n == 0) {
        return NULL;
    }
    hash = key_hash(cache->seed, key);
    set = set_of(cache, hash);
    *way = find(set, key, hash);
    return *way < ROW_CACHE_WAYS ? set : NULL;
}

bool row_cache_get(struct row_cache *cache, struct io_key key, struct buf *value)
{
    uint32_t way;
    struct row_set *set = look_up(cache, key, &way);
    const struct row *row;

    if (set == NULL) {
        return false;
    }
    row = set->rows[way];
    set->read |= (uint8_t)(1u << way);
    buf_put_slice(value, slice_of(row->bytes + row->key_len, row->value_len));
    return true;
}

/* ---- What goes ---- */

/* The hand goes over the next way of the set: takes the row that stands there, if nobody read it
 * since the last time. */
static void hand_passes(struct row_cache *cache, struct row_set *set)
{
    uint32_t way = set->hand;
    uint8_t bit = (uint8_t)(1u << way);

    set->hand = (uint8_t)((way + 1) % ROW_CACHE_WAYS);
    if (set->rows[way] != NULL && (set->read & bit) == 0) {
        drop(cache, set, way);
    }
    set->read &= (uint8_t)~bit;
}

static void make_room(struct row_cache *cache, size_t bytes)
{
    while (cache->n > 0 && cache->bytes + bytes > cache->max_bytes) {
        for (uint32_t i = 0; i < ROW_CACHE_WAYS; i++) {
            hand_passes(cache, &cache->sets[cache->hand]);
        }
        cache->hand = (cache->hand + 1) & (cache->n_sets - 1);
    }
}

/* A way of the set without a row. */
static uint32_t free_way(struct row_cache *cache, struct row_set *set)
{
    for (;;) {
        for (uint32_t way = 0; way < ROW_CACHE_WAYS; way++) {
            if (set->rows[way] == NULL) {
                return way;
            }
        }
        hand_passes(cache, set);
    }
}

void row_cache_keep(struct row_cache *cache, struct io_key key, struct slice value)
{
    uint64_t hash = key_hash(cache->seed, key);
    struct row_set *set;
    struct row *row;
    uint32_t way;

    if (value.len > ROW_CACHE_LARGEST || cache->max_bytes == 0) {
        return;
    }
    if (cache->sets == NULL) {
        cache->sets = mem_zalloc(cache->n_sets * sizeof(*cache->sets));
    }
    row = row_create(key, value);
    make_room(cache, row_bytes(row));
    set = set_of(cache, hash);
    ASSERT(find(set, key, hash) == ROW_CACHE_WAYS);
    way = free_way(cache, set);
    set->tags[way] = (uint32_t)(hash >> 32);
    set->rows[way] = row;
    set->read &= (uint8_t) ~(1u << way);
    cache->n++;
    cache->bytes += row_bytes(row);
}

void row_cache_forget(struct row_cache *cache, struct io_key key)
{
    uint32_t way;
    struct row_set *set = look_up(cache, key, &way);

    if (set != NULL) {
        drop(cache, set, way);
    }
}

size_t row_cache_bytes(const struct row_cache *cache)
{
    return cache->bytes;
}
