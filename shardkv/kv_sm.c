/* kv_sm: what the state machine keeps, how it is written through to the state and read back. The
 * commands are in kv_apply.c. */
#include <stdlib.h>

#include "raft/util/assert.h"
#include "raft/util/mem.h"
#include "shardkv/kv_sm_internal.h"

#define META_FORMAT     1
#define MAX_NOTED_BYTES (16u << 20) /* for each shard that goes out */

static struct io_key root_key(uint8_t kind, struct slice key)
{
    return (struct io_key){0, kind, key};
}

/* Big-endian, so that the state's order is that of the numbers. */
static struct slice number_key(uint32_t number, uint8_t memory[4])
{
    memory[0] = (uint8_t)(number >> 24);
    memory[1] = (uint8_t)(number >> 16);
    memory[2] = (uint8_t)(number >> 8);
    memory[3] = (uint8_t)number;
    return slice_of(memory, 4);
}

static uint32_t number_of_key(struct slice key)
{
    ASSERT(key.len == 4);
    return (uint32_t)key.data[0] << 24 | (uint32_t)key.data[1] << 16 | (uint32_t)key.data[2] << 8 |
           key.data[3];
}

static const struct slice no_key = {NULL, 0};

/* ---- Life ---- */

static void forget(struct kv_sm *sm)
{
    for (uint32_t i = 0; sm->shards != NULL && i < sm->meta.n_shards; i++) {
        session_table_destroy(&sm->shards[i].live);
        session_table_destroy(&sm->shards[i].staged);
        noted_destroy(&sm->shards[i].noted);
        shard_fini(&sm->shards[i].life);
    }
    mem_free(sm->shards);
    mem_free(sm->groups);
    shard_config_fini(&sm->config);
    buf_fini(&sm->kept);
    *sm = (struct kv_sm){.options = sm->options, .changes = sm->changes + 1};
    sm->meta.next_range = 1;
}

struct kv_sm *kv_sm_create(const struct kv_sm_options *options)
{
    struct kv_sm *sm = mem_zalloc(sizeof(*sm));

    ASSERT(options->gid != 0);
    ASSERT(options->state != NULL);
    ASSERT(options->max_sessions > 0);
    sm->options = *options;
    sm->meta.next_range = 1;
    return sm;
}

void kv_sm_destroy(struct kv_sm **sm)
{
    if (*sm == NULL) {
        return;
    }
    forget(*sm);
    mem_free(*sm);
    *sm = NULL;
}

/* ---- Writing through ---- */

static void put_root(struct kv_sm *sm, uint8_t kind, struct slice key, struct buf *value)
{
    sm->options.state->ops->put(sm->options.state, root_key(kind, key), buf_slice(value));
    buf_fini(value);
}

void kv_sm_write_meta(struct kv_sm *sm)
{
    struct buf value = {0};

    ASSERT(sm->meta.is_init);
    buf_put_u8(&value, META_FORMAT);
    buf_put_u64(&value, sm->meta.incarnation);
    buf_put(&value, sm->meta.cluster_id, sizeof(sm->meta.cluster_id));
    buf_put_u32(&value, sm->meta.n_shards);
    buf_put_u64(&value, sm->meta.adopted);
    buf_put_u64(&value, sm->meta.next_range);
    put_root(sm, KV_ROOT_META, no_key, &value);
}

void kv_sm_write_shard(struct kv_sm *sm, shard_id id)
{
    struct buf value = {0};
    uint8_t key[4];

    shard_encode(&sm->shards[id].life, &value);
    put_root(sm, KV_ROOT_SHARD, number_key(id, key), &value);
    sm->shards[id].is_unsaved = false;
    sm->changes++;
}

void kv_sm_write_version(struct kv_sm *sm, struct kv_shard *shard)
{
    struct io_state *state = sm->options.state;
    uint8_t value[8];

    ASSERT(shard->life.range != 0);
    set_u64(value, shard->version);
    state->ops->put(state, (struct io_key){shard->life.range, KV_KIND_COUNTER, no_key},
                    slice_of(value, sizeof(value)));
    shard->saved_version = shard->version;
}

void kv_sm_forget_version(struct kv_shard *shard)
{
    shard->version = 0;
    shard->saved_version = 0;
}

void kv_sm_save(struct kv_sm *sm)
{
    sm->next_saved = 0;
    for (uint32_t i = 0; sm->shards != NULL && i < sm->meta.n_shards; i++) {
        struct kv_shard *shard = &sm->shards[i];

        if (shard->live != NULL) {
            session_table_save(shard->live);
        }
        if (shard->version != shard->saved_version) {
            kv_sm_write_version(sm, shard);
        }
        if (shard->is_unsaved) {
            kv_sm_write_shard(sm, i);
        }
    }
}

bool kv_sm_save_part(struct kv_sm *sm)
{
    uint32_t left = KV_SM_SAVED_IN_PART;

    for (; sm->shards != NULL && sm->next_saved < sm->meta.n_shards; sm->next_saved++) {
        struct session_table *live = sm->shards[sm->next_saved].live;

        left -= live == NULL ? 0 : session_table_save_some(live, left);
        if (left == 0) {
            return true;
        }
    }
    sm->next_saved = 0;
    return false;
}

void kv_sm_raise_floor(struct kv_sm *sm, const struct session_table *table)
{
    uint64_t floor = session_floor(table);

    if (floor > sm->floor) {
        sm->floor = floor;
    }
}

void kv_sm_make_shards(struct kv_sm *sm)
{
    ASSERT(sm->shards == NULL);
    sm->shards = mem_zalloc(sm->meta.n_shards * sizeof(sm->shards[0]));
    for (uint32_t i = 0; i < sm->meta.n_shards; i++) {
        sm->shards[i].sm = sm;
    }
}

static struct session_table *new_table(const struct kv_sm *sm, uint64_t range)
{
    struct session_table *table =
        session_table_create(sm->options.state, range, KV_KIND_SESSION, sm->options.max_sessions);

    session_table_defer(table);
    return table;
}

/* What is noted is known by heart as long as something can be: while the shard is served and a copy
 * of it goes out. */
static void settle_noted(const struct kv_sm *sm, struct kv_shard *shard)
{
    const struct shard_outgoing *outgoing = &shard->life.outgoing;
    size_t max = sm->options.max_noted_bytes;

    if (outgoing->copy_id == 0 || shard->life.state != SHARD_SERVING) {
        noted_destroy(&shard->noted);
    } else if (shard->noted == NULL) {
        shard->noted = noted_create(max != 0 ? max : MAX_NOTED_BYTES, outgoing->copy_id,
                                    outgoing->n_noted == 0);
    }
}

/* Tables follow their ranges: staging that became live brings its table along. */
static void settle_tables(struct kv_sm *sm, struct kv_shard *shard)
{
    const struct shard *life = &shard->life;

    if (shard->live_range != life->range) {
        session_table_destroy(&shard->live);
        shard->live_range = life->range;
        if (life->range != 0 && life->range == shard->staged_range) {
            shard->live = shard->staged;
            shard->staged = NULL;
            shard->staged_range = 0;
        } else if (life->range != 0) {
            shard->live = new_table(sm, life->range);
        }
    }
    if (shard->staged_range != life->copy.range) {
        session_table_destroy(&shard->staged);
        shard->staged_range = life->copy.range;
        shard->staged = life->copy.range != 0 ? new_table(sm, life->copy.range) : NULL;
    }
    settle_noted(sm, shard);
    if (shard->live != NULL) {
        session_table_watch(shard->live,
                            life->outgoing.copy_id != 0 ? kv_copy_session_changed : NULL, shard);
    }
    ASSERT((shard->live != NULL) == (life->range != 0));
    ASSERT((shard->staged != NULL) == (life->copy.range != 0));
}

void kv_sm_carry_out(struct kv_sm *sm, shard_id id, const struct shard_effect *effect)
{
    struct kv_shard *shard = &sm->shards[id];
    struct io_state *state = sm->options.state;

    ASSERT(id < sm->meta.n_shards);
    if (!effect->changed) {
        return;
    }
    settle_tables(sm, shard);
    for (size_t i = 0; i < effect->n_dropped; i++) {
        state->ops->drop_range(state, effect->dropped[i]);
    }
    kv_sm_write_shard(sm, id);
}

/* ---- Groups ---- */

size_t kv_sm_group_position(const struct kv_sm *sm, uint32_t gid)
{
    size_t low = 0, high = sm->n_groups;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (sm->groups[middle].gid < gid) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

static struct kv_group *add_group(struct kv_sm *sm, uint32_t gid)
{
    size_t position = kv_sm_group_position(sm, gid);

    if (position == sm->n_groups || sm->groups[position].gid != gid) {
        MEM_GROW(sm->groups, sm->groups_capacity, sm->n_groups + 1);
        memmove(sm->groups + position + 1, sm->groups + position,
                (sm->n_groups - position) * sizeof(sm->groups[0]));
        sm->groups[position] = (struct kv_group){.gid = gid};
        sm->n_groups++;
    }
    return &sm->groups[position];
}

void kv_sm_put_group(struct kv_sm *sm, uint32_t gid, const struct spec *spec)
{
    struct buf value = {0};
    uint8_t key[4];

    add_group(sm, gid)->spec = *spec;
    spec_encode(spec, &value);
    put_root(sm, KV_ROOT_GROUP, number_key(gid, key), &value);
}

void kv_sm_remove_group(struct kv_sm *sm, size_t position)
{
    struct io_state *state = sm->options.state;
    uint8_t key[4];

    ASSERT(position < sm->n_groups);
    state->ops->remove(state, root_key(KV_ROOT_GROUP, number_key(sm->groups[position].gid, key)));
    sm->n_groups--;
    memmove(sm->groups + position, sm->groups + position + 1,
            (sm->n_groups - position) * sizeof(sm->groups[0]));
}

/* ---- Reading back ---- */

static enum status restore_meta(struct kv_sm *sm)
{
    struct io_state *state = sm->options.state;
    struct kv_meta *meta = &sm->meta;
    struct buf value = {0};
    struct reader reader;
    enum status status = state->ops->get(state, root_key(KV_ROOT_META, no_key), &value);

    if (status == ST_OK) {
        reader = reader_of(buf_slice(&value));
        status = reader_u8(&reader) == META_FORMAT ? ST_OK : ST_VERSION;
        meta->incarnation = reader_u64(&reader);
        for (size_t i = 0; i < sizeof(meta->cluster_id); i++) {
            meta->cluster_id[i] = reader_u8(&reader);
        }
        meta->n_shards = reader_u32(&reader);
        meta->adopted = reader_u64(&reader);
        meta->next_range = reader_u64(&reader);
        meta->is_init = true;
        if (status == ST_OK && (!reader_done(&reader) || !shard_count_is_valid(meta->n_shards))) {
            status = ST_CORRUPT;
        }
    }
    buf_fini(&value);
    if (status != ST_OK) {
        *meta = (struct kv_meta){.next_range = 1};
    }
    return status;
}

static enum status restore_config(struct kv_sm *sm)
{
    struct io_state *state = sm->options.state;
    struct buf value = {0};
    struct reader reader;
    enum status status = state->ops->get(state, root_key(KV_ROOT_CONFIG, no_key), &value);

    if (status == ST_OK) {
        reader = reader_of(buf_slice(&value));
        sm->has_config = shard_config_decode(&reader, &sm->config);
        if (!sm->has_config || !reader_done(&reader) || sm->config.num != sm->meta.adopted ||
            sm->config.n_shards != sm->meta.n_shards) {
            status = ST_CORRUPT;
        }
    } else if (status == ST_NOT_FOUND && sm->meta.adopted == 0) {
        status = ST_OK;
    }
    buf_fini(&value);
    return status == ST_NOT_FOUND ? ST_CORRUPT : status;
}

static bool restore_group(struct kv_sm *sm, struct slice key, struct slice value)
{
    struct reader reader = reader_of(value);

    return key.len == 4 && spec_decode(&reader, &add_group(sm, number_of_key(key))->spec) &&
           reader_done(&reader);
}

static bool restore_shard(struct kv_sm *sm, struct slice key, struct slice value)
{
    struct reader reader = reader_of(value);
    uint32_t id;

    if (key.len != 4) {
        return false;
    }
    id = number_of_key(key);
    return id < sm->meta.n_shards && shard_decode(&reader, &sm->shards[id].life) &&
           reader_done(&reader);
}

static enum status restore_kind(struct kv_sm *sm, uint8_t kind,
                                bool (*restore)(struct kv_sm *, struct slice, struct slice))
{
    struct io_state *state = sm->options.state;
    struct io_iter *iter = state->ops->iter_open(state, root_key(kind, no_key));
    struct slice key, value;
    bool ok = true;
    enum status status;

    while (ok && state->ops->iter_next(iter, &key, &value)) {
        ok = restore(sm, key, value);
    }
    status = state->ops->iter_close(iter);
    return status == ST_OK && !ok ? ST_CORRUPT : status;
}

static enum status restore_version(struct kv_sm *sm, struct kv_shard *shard)
{
    struct io_state *state = sm->options.state;
    struct io_key key = {shard->life.range, KV_KIND_COUNTER, no_key};
    struct buf value = {0};
    enum status status = state->ops->get(state, key, &value);

    if (status == ST_OK && value.len != 8) {
        status = ST_CORRUPT;
    } else if (status == ST_OK) {
        shard->version = get_u64(value.data);
        shard->saved_version = shard->version;
    } else if (status == ST_NOT_FOUND) { /* not written to yet */
        status = ST_OK;
    }
    buf_fini(&value);
    return status;
}

static enum status restore_data(struct kv_sm *sm, struct kv_shard *shard)
{
    enum status status = ST_OK;

    settle_tables(sm, shard);
    if (shard->live != NULL) {
        status = session_table_load(shard->live);
        kv_sm_raise_floor(sm, shard->live);
    }
    if (status == ST_OK && shard->staged != NULL) {
        status = session_table_load(shard->staged);
    }
    if (status == ST_OK && shard->life.range != 0) {
        status = restore_version(sm, shard);
    }
    return status;
}

enum status kv_sm_restore(struct kv_sm *sm)
{
    enum status status;

    forget(sm);
    status = restore_meta(sm);
    if (status == ST_NOT_FOUND) {
        return ST_OK; /* a new group */
    }
    if (status != ST_OK) {
        return status;
    }
    kv_sm_make_shards(sm);
    status = restore_config(sm);
    if (status == ST_OK) {
        status = restore_kind(sm, KV_ROOT_GROUP, restore_group);
    }
    if (status == ST_OK) {
        status = restore_kind(sm, KV_ROOT_SHARD, restore_shard);
    }
    for (uint32_t i = 0; i < sm->meta.n_shards && status == ST_OK; i++) {
        status = restore_data(sm, &sm->shards[i]);
    }
    return status;
}

/* ---- What it knows ---- */

static int compare_ranges(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return x < y ? -1 : x > y;
}

void kv_sm_ranges(const struct kv_sm *sm, uint64_t **ranges, size_t *n, size_t *capacity)
{
    size_t first = *n;

    for (uint32_t i = 0; i < sm->meta.n_shards; i++) {
        const struct shard *life = &sm->shards[i].life;

        MEM_GROW(*ranges, *capacity, *n + 3);
        if (life->range != 0) {
            (*ranges)[(*n)++] = life->range;
        }
        if (life->copy.range != 0) {
            (*ranges)[(*n)++] = life->copy.range;
        }
        if (life->outgoing.range != 0) {
            (*ranges)[(*n)++] = life->outgoing.range;
        }
    }
    if (*n > first) {
        qsort(*ranges + first, *n - first, sizeof(**ranges), compare_ranges);
    }
}

uint64_t kv_sm_stamp_floor(const struct kv_sm *sm)
{
    return sm->floor + 1;
}

const struct kv_meta *kv_sm_meta(const struct kv_sm *sm)
{
    return &sm->meta;
}

uint32_t kv_sm_gid(const struct kv_sm *sm)
{
    return sm->options.gid;
}

const struct shard_config *kv_sm_config(const struct kv_sm *sm)
{
    return sm->has_config ? &sm->config : NULL;
}

const struct spec *kv_sm_find_group(const struct kv_sm *sm, uint32_t gid)
{
    size_t position = kv_sm_group_position(sm, gid);

    return position < sm->n_groups && sm->groups[position].gid == gid ? &sm->groups[position].spec
                                                                      : NULL;
}

const struct shard *kv_sm_shard(const struct kv_sm *sm, shard_id shard)
{
    return shard < sm->meta.n_shards ? &sm->shards[shard].life : NULL;
}

bool kv_sm_serves(const struct kv_sm *sm, shard_id id, uint32_t *gid_hint)
{
    const struct shard *shard = kv_sm_shard(sm, id);
    const struct shard_transition *head = shard != NULL ? shard_head(shard) : NULL;

    *gid_hint = 0;
    if (shard == NULL || shard->state == SHARD_SERVING) {
        return shard != NULL;
    }
    /* RECEIVE: its source has it still; SEND: the taker is about to. */
    if (head != NULL) {
        *gid_hint = head->gid;
    } else if (sm->has_config && sm->config.shards[id] != sm->options.gid) {
        *gid_hint = sm->config.shards[id];
    }
    return false;
}

struct kv_piece_source kv_sm_piece_source(const struct kv_sm *sm, shard_id id)
{
    const struct kv_shard *shard = &sm->shards[id];

    ASSERT(id < sm->meta.n_shards && shard->life.outgoing.copy_id != 0);
    return (struct kv_piece_source){.state = sm->options.state,
                                    .shard = &shard->life,
                                    .sessions = shard->live,
                                    .version = shard->version};
}

const struct session_table *kv_sm_sessions(const struct kv_sm *sm, shard_id id)
{
    return id < sm->meta.n_shards ? sm->shards[id].live : NULL;
}

uint64_t kv_sm_version(const struct kv_sm *sm, shard_id id)
{
    return id < sm->meta.n_shards ? sm->shards[id].version : 0;
}

uint64_t kv_sm_changes(const struct kv_sm *sm)
{
    return sm->changes;
}
