/* config_history: see the header for the format. Differences are made by walking both
 * configurations side by side (shards by number, groups by gid) and applied the same way. */
#include "shardctrler/config_history.h"

#include "raft/util/assert.h"
#include "raft/util/mem.h"

#define RECORD_FORMAT          2
#define RECORD_FORMAT_NO_PAUSE 1
#define RECORD_WHOLE           1
#define RECORD_DIFFERENCE      2

#define RUN_BYTES       (2 + 2 + 4)
#define GROUP_MIN_BYTES (4 + 1 + 8 + 8 + 1)

void config_present_owners(const struct shard_config *config, uint32_t *out)
{
    ASSERT(config->n_shards > 0);
    for (uint32_t s = 0; s < config->n_shards; s++) {
        out[s] = config->shards[s] != 0 ? config->shards[s] : config->from[s];
    }
}

/* ---- Making a difference ---- */

static bool groups_equal(const struct config_group *a, const struct config_group *b)
{
    return a->gid == b->gid && a->member == b->member && a->joined_at == b->joined_at &&
           a->incarnation == b->incarnation && spec_equal(&a->replicas, &b->replicas);
}

/* Begins a counted list; list_end writes its count. */
static size_t list_begin(struct buf *out)
{
    buf_put_u32(out, 0);
    return out->len - 4;
}

static void encode_runs(const struct shard_config *previous, const struct shard_config *next,
                        struct buf *out)
{
    size_t at = list_begin(out);
    uint32_t n = 0;

    for (uint32_t s = 0; s < next->n_shards;) {
        uint32_t first = s;

        if (previous->shards[s] == next->shards[s]) {
            s++;
            continue;
        }
        while (s < next->n_shards && previous->shards[s] != next->shards[s] &&
               next->shards[s] == next->shards[first]) {
            s++;
        }
        ASSERT(s > first && s - first <= SHARD_MAX_COUNT);
        buf_put_u16(out, (uint16_t)first);
        buf_put_u16(out, (uint16_t)(s - first - 1));
        buf_put_u32(out, next->shards[first]);
        n++;
    }
    buf_set_u32(out, at, n);
}

static void encode_gone(const struct shard_config *previous, const struct shard_config *next,
                        struct buf *out)
{
    size_t at = list_begin(out);
    uint32_t n = 0;

    for (size_t i = 0; i < previous->n_groups; i++) {
        if (shard_config_find(next, previous->groups[i].gid) == NULL) {
            buf_put_u32(out, previous->groups[i].gid);
            n++;
        }
    }
    buf_set_u32(out, at, n);
}

static void encode_group(const struct config_group *group, struct buf *out)
{
    ASSERT(group->gid >= 1 && group->gid <= CONFIG_MAX_GID);
    buf_put_u32(out, group->gid);
    buf_put_u8(out, group->member ? 1 : 0);
    buf_put_u64(out, group->joined_at);
    buf_put_u64(out, group->incarnation);
    spec_encode(&group->replicas, out);
}

static void encode_changed(const struct shard_config *previous, const struct shard_config *next,
                           struct buf *out)
{
    size_t at = list_begin(out);
    uint32_t n = 0;

    for (size_t i = 0; i < next->n_groups; i++) {
        const struct config_group *old = shard_config_find(previous, next->groups[i].gid);

        if (old == NULL || !groups_equal(old, &next->groups[i])) {
            encode_group(&next->groups[i], out);
            n++;
        }
    }
    buf_set_u32(out, at, n);
}

void config_difference_encode(const struct shard_config *previous, const struct shard_config *next,
                              struct buf *out)
{
    ASSERT(previous->n_shards == next->n_shards);
    ASSERT(previous->num + 1 == next->num);
    ASSERT(memcmp(previous->cluster_id, next->cluster_id, sizeof(next->cluster_id)) == 0);
    encode_runs(previous, next, out);
    encode_gone(previous, next, out);
    encode_changed(previous, next, out);
    buf_put_u8(out, next->moves_paused ? 1 : 0);
}

/* ---- Applying one ---- */

static bool apply_runs(struct reader *reader, struct shard_config *config)
{
    uint32_t n = reader_u32(reader);

    if (n > reader_left(reader) / RUN_BYTES) {
        return false;
    }
    for (uint32_t i = 0; i < n; i++) {
        uint32_t first = reader_u16(reader);
        uint32_t end = first + reader_u16(reader) + 1;
        uint32_t gid = reader_u32(reader);

        if (end > config->n_shards || gid > CONFIG_MAX_GID) {
            return false;
        }
        for (uint32_t s = first; s < end; s++) {
            config->shards[s] = gid;
        }
    }
    return true;
}

/* Where the group with that gid is, or would be. */
static size_t group_position(const struct shard_config *config, uint32_t gid)
{
    size_t at = 0;

    while (at < config->n_groups && config->groups[at].gid < gid) {
        at++;
    }
    return at;
}

static bool apply_gone(struct reader *reader, struct shard_config *config)
{
    uint32_t n = reader_u32(reader);

    if (n > reader_left(reader) / sizeof(uint32_t)) {
        return false;
    }
    for (uint32_t i = 0; i < n; i++) {
        uint32_t gid = reader_u32(reader);
        size_t at = group_position(config, gid);

        if (at == config->n_groups || config->groups[at].gid != gid) {
            return false;
        }
        memmove(&config->groups[at], &config->groups[at + 1],
                (config->n_groups - at - 1) * sizeof(config->groups[0]));
        config->n_groups--;
    }
    return true;
}

static bool decode_group(struct reader *reader, config_num num, struct config_group *group)
{
    uint8_t member;

    memset(group, 0, sizeof(*group));
    group->gid = reader_u32(reader);
    member = reader_u8(reader);
    group->member = member == 1;
    group->joined_at = reader_u64(reader);
    group->incarnation = reader_u64(reader);
    return spec_decode(reader, &group->replicas) && member <= 1 && group->gid >= 1 &&
           group->gid <= CONFIG_MAX_GID && group->joined_at >= 1 && group->joined_at <= num;
}

static bool apply_changed(struct reader *reader, struct shard_config *config)
{
    uint32_t n = reader_u32(reader);

    if (n > reader_left(reader) / GROUP_MIN_BYTES) {
        return false;
    }
    config->groups =
        mem_realloc(config->groups, (config->n_groups + n) * sizeof(config->groups[0]));
    for (uint32_t i = 0; i < n; i++) {
        struct config_group group;
        size_t at;

        if (!decode_group(reader, config->num, &group)) {
            return false;
        }
        at = group_position(config, group.gid);
        if (at == config->n_groups || config->groups[at].gid != group.gid) {
            memmove(&config->groups[at + 1], &config->groups[at],
                    (config->n_groups - at) * sizeof(config->groups[0]));
            config->n_groups++;
        }
        config->groups[at] = group;
        ASSERT(at == 0 || config->groups[at - 1].gid < group.gid);
    }
    return config->n_groups <= CONFIG_MAX_LISTED;
}

static bool apply_pause(struct reader *reader, struct shard_config *config)
{
    uint8_t paused = reader_u8(reader);

    config->moves_paused = paused == 1;
    return reader_ok(reader) && paused <= 1;
}

/* What all formats of a difference have. */
static bool apply_common(struct reader *reader, struct shard_config *config)
{
    uint32_t *present = mem_alloc(config->n_shards * sizeof(*present));

    config_present_owners(config, present);
    mem_free(config->from);
    config->from = present;
    config->num++;
    return apply_runs(reader, config) && apply_gone(reader, config) &&
           apply_changed(reader, config) && reader_ok(reader);
}

bool config_difference_apply(struct reader *reader, struct shard_config *config)
{
    return apply_common(reader, config) && apply_pause(reader, config);
}

/* ---- The history ---- */

static struct io_key history_key(const struct config_history *history, config_num num,
                                 uint8_t bytes[8])
{
    set_u64_be(bytes, num);
    return (struct io_key){history->range, history->kind, slice_of(bytes, 8)};
}

static bool is_whole(config_num num)
{
    return num % CONFIG_FULL_EVERY == 0;
}

void config_history_put(const struct config_history *history, const struct shard_config *previous,
                        const struct shard_config *next)
{
    struct buf record = {0};
    uint8_t key[8];

    ASSERT((previous == NULL) == (next->num == 0));
    ASSERT(shard_count_is_valid(next->n_shards));
    buf_put_u8(&record, RECORD_FORMAT);
    if (is_whole(next->num)) {
        buf_put_u8(&record, RECORD_WHOLE);
        shard_config_encode(next, &record);
    } else {
        buf_put_u8(&record, RECORD_DIFFERENCE);
        config_difference_encode(previous, next, &record);
    }
    history->state->ops->put(history->state, history_key(history, next->num, key),
                             buf_slice(&record));
    buf_fini(&record);
}

/* Takes *config from number num - 1 to num, or from nothing to a whole one. */
static enum status apply_record(struct slice record, config_num num, struct shard_config *config)
{
    struct reader reader = reader_of(record);
    uint8_t format = reader_u8(&reader);
    uint8_t type = reader_u8(&reader);

    if (reader_ok(&reader) && format != RECORD_FORMAT && format != RECORD_FORMAT_NO_PAUSE) {
        return ST_VERSION;
    }
    if (type != (is_whole(num) ? RECORD_WHOLE : RECORD_DIFFERENCE)) {
        return ST_CORRUPT;
    }
    if (type == RECORD_WHOLE               ? !shard_config_decode(&reader, config)
        : format == RECORD_FORMAT_NO_PAUSE ? !apply_common(&reader, config)
                                           : !config_difference_apply(&reader, config)) {
        return ST_CORRUPT;
    }
    return reader_done(&reader) && config->num == num ? ST_OK : ST_CORRUPT;
}

static enum status load_record(const struct config_history *history, config_num num,
                               struct shard_config *config)
{
    struct buf record = {0};
    uint8_t key[8];
    enum status status =
        history->state->ops->get(history->state, history_key(history, num, key), &record);

    if (status == ST_OK) {
        status = apply_record(buf_slice(&record), num, config);
    }
    buf_fini(&record);
    return status;
}

enum status config_history_get(const struct config_history *history, config_num num,
                               struct shard_config *config)
{
    enum status status = ST_OK;

    ASSERT(history->state != NULL);
    memset(config, 0, sizeof(*config));
    for (config_num n = num - num % CONFIG_FULL_EVERY; n <= num && status == ST_OK; n++) {
        status = load_record(history, n, config);
    }
    if (status != ST_OK) {
        shard_config_fini(config);
    }
    ASSERT(status != ST_OK || config->num == num);
    return status;
}
