/* ctrler_sm_state: the records of the controller's state, written and read; restore.
 *
 * The latest configuration and the owners are kept in memory, written through at each change, and
 * read anew after a start or an installed snapshot. Incarnations learnt after a join are not
 * written into the configurations (those never change) but beside them, and filled in whenever a
 * configuration is read.
 */
#include "raft/util/assert.h"
#include "raft/util/mem.h"
#include "shardctrler/ctrler_sm_private.h"

#define CLUSTER_FORMAT  1
#define REPLICAS_FORMAT 1

/* ---- Writing ---- */

void ctrler_sm_write_cluster(struct ctrler_sm *sm)
{
    struct buf record = {0};
    struct io_key key = {.kind = KIND_CLUSTER};

    ASSERT(shard_count_is_valid(sm->latest.n_shards));
    buf_put_u8(&record, CLUSTER_FORMAT);
    buf_put(&record, sm->latest.cluster_id, sizeof(sm->latest.cluster_id));
    buf_put_u32(&record, sm->latest.n_shards);
    buf_put_u64(&record, sm->latest.num);
    sm->state->ops->put(sm->state, key, buf_slice(&record));
    buf_fini(&record);
}

void ctrler_sm_write_owner(struct ctrler_sm *sm, shard_id shard)
{
    uint8_t bytes[2] = {(uint8_t)(shard >> 8), (uint8_t)shard};
    struct io_key key = {.kind = KIND_OWNER, .key = slice_of(bytes, sizeof(bytes))};
    struct buf record = {0};

    ASSERT(shard < sm->owners.n_shards && shard < SHARD_MAX_COUNT);
    shard_owner_encode(&sm->owners.shards[shard], &record);
    sm->state->ops->put(sm->state, key, buf_slice(&record));
    buf_fini(&record);
}

/* The key of what is known of a group since it joined. */
static struct io_key group_key(uint8_t kind, uint32_t gid, config_num joined_at, uint8_t bytes[12])
{
    for (int i = 0; i < 4; i++) {
        bytes[i] = (uint8_t)(gid >> (24 - 8 * i));
    }
    set_u64_be(bytes + 4, joined_at);
    return (struct io_key){.kind = kind, .key = slice_of(bytes, 12)};
}

static struct io_key incarnation_key(const struct config_group *group, uint8_t bytes[12])
{
    return group_key(KIND_INCARNATION, group->gid, group->joined_at, bytes);
}

void ctrler_sm_write_incarnation(struct ctrler_sm *sm, const struct config_group *group)
{
    uint8_t key[12], value[8];

    ASSERT(group->incarnation != 0);
    set_u64(value, group->incarnation);
    sm->state->ops->put(sm->state, incarnation_key(group, key), slice_of(value, sizeof(value)));
}

/* Fills in what was learnt of a group after its join. */
static enum status read_incarnation(struct ctrler_sm *sm, struct config_group *group)
{
    struct buf value = {0};
    uint8_t key[12];
    enum status status = sm->state->ops->get(sm->state, incarnation_key(group, key), &value);

    if (status == ST_OK && value.len == 8) {
        group->incarnation = get_u64(value.data);
    } else if (status == ST_OK) {
        status = ST_CORRUPT;
    }
    buf_fini(&value);
    return status == ST_NOT_FOUND ? ST_OK : status;
}

enum status ctrler_sm_read_replicas(const struct ctrler_sm *sm, uint32_t gid, config_num joined_at,
                                    struct ctrler_replicas *said)
{
    struct buf record = {0};
    uint8_t key[12];
    struct reader reader;
    enum status status =
        sm->state->ops->get(sm->state, group_key(KIND_REPLICAS, gid, joined_at, key), &record);

    *said = (struct ctrler_replicas){0};
    if (status == ST_OK) {
        reader = reader_of(buf_slice(&record));
        if (reader_u8(&reader) != REPLICAS_FORMAT) {
            status = record.len == 0 ? ST_CORRUPT : ST_VERSION;
        }
        said->term = reader_u64(&reader);
        said->index = reader_u64(&reader);
        if (status == ST_OK && (!spec_decode(&reader, &said->replicas) || !reader_done(&reader))) {
            status = ST_CORRUPT;
        }
    }
    buf_fini(&record);
    return status;
}

void ctrler_sm_write_replicas(struct ctrler_sm *sm, uint32_t gid, config_num joined_at,
                              const struct ctrler_replicas *said)
{
    struct buf record = {0};
    uint8_t key[12];

    ASSERT(said->replicas.n >= 1);
    buf_put_u8(&record, REPLICAS_FORMAT);
    buf_put_u64(&record, said->term);
    buf_put_u64(&record, said->index);
    spec_encode(&said->replicas, &record);
    sm->state->ops->put(sm->state, group_key(KIND_REPLICAS, gid, joined_at, key),
                        buf_slice(&record));
    buf_fini(&record);
}

/* ---- Reading configurations ---- */

/* Reads a configuration that must be there. */
static enum status read_config(struct ctrler_sm *sm, config_num num, struct shard_config *config)
{
    enum status status = config_history_get(&sm->history, num, config);

    for (size_t i = 0; status == ST_OK && i < config->n_groups; i++) {
        if (config->groups[i].incarnation == 0) {
            status = read_incarnation(sm, &config->groups[i]);
        }
    }
    if (status != ST_OK) {
        shard_config_fini(config);
        trace_error(sm->trace, "can't read a configuration num=%llu status=%s",
                    (unsigned long long)num, status_name(status));
    } else {
        config->ctrlers = sm->latest.ctrlers; /* of today: those of then may be gone */
    }
    return status == ST_NOT_FOUND ? ST_CORRUPT : status;
}

enum status ctrler_sm_config(struct ctrler_sm *sm, config_num num, struct shard_config *config)
{
    memset(config, 0, sizeof(*config));
    if (!ctrler_sm_is_initialized(sm)) {
        return ST_NOT_READY;
    }
    if (num >= sm->latest.num) {
        shard_config_copy(config, &sm->latest);
        return ST_OK;
    }
    return read_config(sm, num, config);
}

enum status ctrler_sm_config_bytes(struct ctrler_sm *sm, config_num num, struct slice *encoded)
{
    struct shard_config config;
    enum status status;

    *encoded = slice_of(NULL, 0);
    if (!ctrler_sm_is_initialized(sm)) {
        return ST_NOT_READY;
    }
    if (num >= sm->latest.num) {
        ASSERT(sm->owners.n_shards == sm->latest.n_shards);
        if (sm->latest_bytes.len == 0) {
            shard_config_encode(&sm->latest, &sm->latest_bytes);
        }
        *encoded = buf_slice(&sm->latest_bytes);
        return ST_OK;
    }
    status = read_config(sm, num, &config);
    if (status == ST_OK) {
        buf_clear(&sm->query_bytes);
        shard_config_encode(&config, &sm->query_bytes);
        *encoded = buf_slice(&sm->query_bytes);
        shard_config_fini(&config);
    }
    return status;
}

/* ---- Restore ---- */

/* ST_NOT_FOUND: the cluster has not begun. */
static enum status read_cluster(struct ctrler_sm *sm, config_num *last, uint32_t *n_shards,
                                uint8_t cluster_id[16])
{
    struct io_key key = {.kind = KIND_CLUSTER};
    struct buf record = {0};
    enum status status = sm->state->ops->get(sm->state, key, &record);
    struct reader reader = reader_of(buf_slice(&record));
    struct slice id;

    if (status != ST_OK) {
        buf_fini(&record);
        return status;
    }
    if (reader_u8(&reader) != CLUSTER_FORMAT) {
        status = record.len == 0 ? ST_CORRUPT : ST_VERSION;
    }
    id = reader_take(&reader, 16);
    *n_shards = reader_u32(&reader);
    *last = reader_u64(&reader);
    if (status == ST_OK && (!reader_done(&reader) || !shard_count_is_valid(*n_shards))) {
        status = ST_CORRUPT;
    }
    if (status == ST_OK) {
        memcpy(cluster_id, id.data, id.len);
    }
    buf_fini(&record);
    return status;
}

/* An owner's record can't know configurations that are still to come. */
static bool owner_is_possible(const struct ctrler_sm *sm, const struct shard_owner *owner)
{
    config_num last = owner->n_claims > 0 ? owner->claims[owner->n_claims - 1].num : owner->epoch;

    return last <= sm->latest.num;
}

/* Everything that decoding a configuration checks: what was put together from differences must pass
 * for one that came from elsewhere. */
static enum status check_latest(struct ctrler_sm *sm)
{
    struct shard_config check;
    struct reader reader;
    bool good;

    ASSERT(sm->latest_bytes.len == 0);
    shard_config_encode(&sm->latest, &sm->latest_bytes);
    reader = reader_of(buf_slice(&sm->latest_bytes));
    good = shard_config_decode(&reader, &check) && reader_done(&reader);
    shard_config_fini(&check);
    return good ? ST_OK : ST_CORRUPT;
}

static enum status read_owners(struct ctrler_sm *sm)
{
    struct io_key from = {.kind = KIND_OWNER};
    struct io_iter *iter = sm->state->ops->iter_open(sm->state, from);
    struct slice key, value;
    enum status status = ST_OK;
    enum status end;

    while (status == ST_OK && sm->state->ops->iter_next(iter, &key, &value)) {
        shard_id shard =
            key.len == 2 ? (shard_id)key.data[0] << 8 | (shard_id)key.data[1] : UINT32_MAX;

        if (shard >= sm->owners.n_shards || !shard_owner_decode(value, &sm->owners.shards[shard]) ||
            !owner_is_possible(sm, &sm->owners.shards[shard])) {
            status = ST_CORRUPT;
        }
    }
    end = sm->state->ops->iter_close(iter);
    return status != ST_OK ? status : end;
}

static enum status read_ctrlers(struct ctrler_sm *sm)
{
    struct ctrler_replicas said;
    enum status status = ctrler_sm_read_replicas(sm, 0, 0, &said);

    sm->latest.ctrlers = said.replicas;
    return status == ST_NOT_FOUND ? ST_OK : status;
}

enum status ctrler_sm_read_cache(struct ctrler_sm *sm)
{
    config_num last = 0;
    uint32_t n_shards = 0;
    uint8_t cluster_id[16];
    enum status status = read_cluster(sm, &last, &n_shards, cluster_id);

    if (status != ST_OK) {
        return status == ST_NOT_FOUND ? ST_OK : status;
    }
    status = read_config(sm, last, &sm->latest);
    if (status != ST_OK) {
        return status;
    }
    if (sm->latest.n_shards != n_shards ||
        memcmp(sm->latest.cluster_id, cluster_id, sizeof(cluster_id)) != 0) {
        return ST_CORRUPT;
    }
    shard_owners_init(&sm->owners, n_shards);
    status = read_ctrlers(sm);
    if (status == ST_OK) {
        status = check_latest(sm);
    }
    return status == ST_OK ? read_owners(sm) : status;
}

void ctrler_sm_clear_cache(struct ctrler_sm *sm)
{
    shard_config_fini(&sm->latest);
    shard_owners_fini(&sm->owners);
    buf_clear(&sm->latest_bytes);
}
