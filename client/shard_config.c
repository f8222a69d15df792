/* The shard configuration as a value: copy, search, bytes; and the shard of a key.
 *
 * Format: u8 format = 3, u64 num, 16 bytes cluster id, u32 n_shards, u16 n_groups, then the groups
 * in ascending order of gid, each u32 gid, u8 member, u64 joined_at, u64 incarnation and its SPEC
 * (raft/util/spec.h); then u32 n_runs and the runs, each u32 length, u32 shards, u32 from; then u8
 * moves_paused; then the controllers as a SPEC. A run is as long as it can be, so that a
 * configuration has one encoding only.
 *
 * Format 2 is the same without the controllers, for when they are not known; format 1 without
 * moves_paused as well: it is read, not written. */
#include "client/shard_config.h"

#include "raft/util/assert.h"
#include "raft/util/mem.h"

#define FORMAT            3
#define FORMAT_NO_CTRLERS 2
#define FORMAT_NO_PAUSE   1

bool shard_count_is_valid(uint32_t n_shards)
{
    return n_shards >= SHARD_MIN_COUNT && n_shards <= SHARD_MAX_COUNT &&
           (n_shards & (n_shards - 1)) == 0;
}

void shard_config_init(struct shard_config *config, uint32_t n_shards)
{
    ASSERT(shard_count_is_valid(n_shards));
    *config = (struct shard_config){.n_shards = n_shards};
    config->shards = mem_zalloc(n_shards * sizeof(config->shards[0]));
    config->from = mem_zalloc(n_shards * sizeof(config->from[0]));
}

void shard_config_fini(struct shard_config *config)
{
    mem_free(config->shards);
    mem_free(config->from);
    mem_free(config->groups);
    *config = (struct shard_config){0};
}

void shard_config_copy(struct shard_config *to, const struct shard_config *from)
{
    *to = *from;
    if (from->shards != NULL) {
        to->shards = mem_copy(from->shards, from->n_shards * sizeof(from->shards[0]));
        to->from = mem_copy(from->from, from->n_shards * sizeof(from->from[0]));
    }
    if (from->groups != NULL) {
        to->groups = mem_copy(from->groups, from->n_groups * sizeof(from->groups[0]));
    }
}

const struct config_group *shard_config_find(const struct shard_config *config, uint32_t gid)
{
    size_t low = 0, high = config->n_groups;

    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (config->groups[middle].gid < gid) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low < config->n_groups && config->groups[low].gid == gid ? &config->groups[low] : NULL;
}

/* ---- Bytes ---- */

/* The number of shards from `first` on that have the same (shards, from) as it. */
static uint32_t run_length(const struct shard_config *config, uint32_t first)
{
    uint32_t next = first + 1;

    while (next < config->n_shards && config->shards[next] == config->shards[first] &&
           config->from[next] == config->from[first]) {
        next++;
    }
    return next - first;
}

static void encode_runs(const struct shard_config *config, struct buf *out)
{
    size_t count_at = out->len;
    uint32_t runs = 0;

    buf_put_u32(out, 0);
    for (uint32_t shard = 0; shard < config->n_shards;) {
        uint32_t length = run_length(config, shard);

        buf_put_u32(out, length);
        buf_put_u32(out, config->shards[shard]);
        buf_put_u32(out, config->from[shard]);
        shard += length;
        runs++;
    }
    buf_set_u32(out, count_at, runs);
}

void shard_config_encode(const struct shard_config *config, struct buf *out)
{
    ASSERT(shard_count_is_valid(config->n_shards));
    ASSERT(config->n_groups <= CONFIG_MAX_LISTED);
    buf_put_u8(out, config->ctrlers.n > 0 ? FORMAT : FORMAT_NO_CTRLERS);
    buf_put_u64(out, config->num);
    buf_put(out, config->cluster_id, sizeof(config->cluster_id));
    buf_put_u32(out, config->n_shards);
    buf_put_u16(out, (uint16_t)config->n_groups);
    for (size_t i = 0; i < config->n_groups; i++) {
        const struct config_group *group = &config->groups[i];

        ASSERT(i == 0 || config->groups[i - 1].gid < group->gid);
        buf_put_u32(out, group->gid);
        buf_put_u8(out, group->member);
        buf_put_u64(out, group->joined_at);
        buf_put_u64(out, group->incarnation);
        spec_encode(&group->replicas, out);
    }
    encode_runs(config, out);
    buf_put_u8(out, config->moves_paused ? 1 : 0);
    if (config->ctrlers.n > 0) {
        spec_encode(&config->ctrlers, out);
    }
}

static bool decode_group(struct reader *reader, struct config_group *group, uint32_t above)
{
    uint8_t member;

    *group = (struct config_group){.gid = reader_u32(reader)};
    member = reader_u8(reader);
    group->member = member == 1;
    group->joined_at = reader_u64(reader);
    group->incarnation = reader_u64(reader);
    return reader_ok(reader) && member <= 1 && group->gid > above && group->gid <= CONFIG_MAX_GID &&
           spec_decode(reader, &group->replicas);
}

/* The array grows with what was really read: no allocation by the number that the bytes claim. */
static bool decode_groups(struct reader *reader, struct shard_config *config)
{
    uint16_t n = reader_u16(reader);
    size_t capacity = 0, members = 0;

    if (n > CONFIG_MAX_LISTED) {
        return false;
    }
    for (uint16_t i = 0; i < n; i++) {
        uint32_t above = i == 0 ? 0 : config->groups[i - 1].gid;

        MEM_GROW(config->groups, capacity, (size_t)i + 1);
        if (!decode_group(reader, &config->groups[i], above)) {
            return false;
        }
        config->n_groups++;
        members += config->groups[i].member;
    }
    return members <= CONFIG_MAX_GROUPS;
}

/* shards names members only; from may name a group that has left. 0 is nobody. */
static bool run_is_valid(const struct shard_config *config, uint32_t gid, uint32_t from)
{
    const struct config_group *owner = shard_config_find(config, gid);

    return (gid == 0 || (owner != NULL && owner->member)) &&
           (from == 0 || shard_config_find(config, from) != NULL);
}

static bool decode_runs(struct reader *reader, struct shard_config *config)
{
    uint32_t n = reader_u32(reader);
    uint32_t shard = 0;

    for (uint32_t i = 0; i < n; i++) {
        uint32_t length = reader_u32(reader);
        uint32_t gid = reader_u32(reader);
        uint32_t from = reader_u32(reader);

        if (!reader_ok(reader) || length == 0 || length > config->n_shards - shard ||
            !run_is_valid(config, gid, from)) {
            return false;
        }
        if (shard > 0 && config->shards[shard - 1] == gid && config->from[shard - 1] == from) {
            return false; /* it should have been part of the run before */
        }
        for (; length > 0; length--, shard++) {
            config->shards[shard] = gid;
            config->from[shard] = from;
        }
    }
    return reader_ok(reader) && shard == config->n_shards;
}

static bool decode_pause(struct reader *reader, uint8_t format, struct shard_config *config)
{
    uint8_t paused = format == FORMAT_NO_PAUSE ? 0 : reader_u8(reader);

    config->moves_paused = paused == 1;
    return reader_ok(reader) && paused <= 1;
}

static bool decode_content(struct reader *reader, struct shard_config *config)
{
    uint8_t format = reader_u8(reader);
    config_num num;
    struct slice cluster_id;
    uint32_t n_shards;

    if (format < FORMAT_NO_PAUSE || format > FORMAT) {
        return false;
    }
    num = reader_u64(reader);
    cluster_id = reader_take(reader, sizeof(config->cluster_id));
    n_shards = reader_u32(reader);
    if (!reader_ok(reader) || !shard_count_is_valid(n_shards)) {
        return false;
    }
    shard_config_init(config, n_shards);
    config->num = num;
    memcpy(config->cluster_id, cluster_id.data, sizeof(config->cluster_id));
    return decode_groups(reader, config) && decode_runs(reader, config) &&
           decode_pause(reader, format, config) &&
           (format != FORMAT || spec_decode(reader, &config->ctrlers));
}

bool shard_config_decode(struct reader *reader, struct shard_config *config)
{
    *config = (struct shard_config){0};
    if (decode_content(reader, config)) {
        return true;
    }
    shard_config_fini(config);
    return false;
}

/* ---- The shard of a key ---- */

/* CRC16/XMODEM: polynomial 0x1021, initial value 0, most significant bit first. The table holds the
 * polynomial times the eight bits that a step shifts out. */
static const uint16_t crc16_table[256] = {
    0x0000, 0x1021, 0x2042, 0x3063, 0x4084, 0x50a5, 0x60c6, 0x70e7, 0x8108, 0x9129, 0xa14a, 0xb16b,
    0xc18c, 0xd1ad, 0xe1ce, 0xf1ef, 0x1231, 0x0210, 0x3273, 0x2252, 0x52b5, 0x4294, 0x72f7, 0x62d6,
    0x9339, 0x8318, 0xb37b, 0xa35a, 0xd3bd, 0xc39c, 0xf3ff, 0xe3de, 0x2462, 0x3443, 0x0420, 0x1401,
    0x64e6, 0x74c7, 0x44a4, 0x5485, 0xa56a, 0xb54b, 0x8528, 0x9509, 0xe5ee, 0xf5cf, 0xc5ac, 0xd58d,
    0x3653, 0x2672, 0x1611, 0x0630, 0x76d7, 0x66f6, 0x5695, 0x46b4, 0xb75b, 0xa77a, 0x9719, 0x8738,
    0xf7df, 0xe7fe, 0xd79d, 0xc7bc, 0x48c4, 0x58e5, 0x6886, 0x78a7, 0x0840, 0x1861, 0x2802, 0x3823,
    0xc9cc, 0xd9ed, 0xe98e, 0xf9af, 0x8948, 0x9969, 0xa90a, 0xb92b, 0x5af5, 0x4ad4, 0x7ab7, 0x6a96,
    0x1a71, 0x0a50, 0x3a33, 0x2a12, 0xdbfd, 0xcbdc, 0xfbbf, 0xeb9e, 0x9b79, 0x8b58, 0xbb3b, 0xab1a,
    0x6ca6, 0x7c87, 0x4ce4, 0x5cc5, 0x2c22, 0x3c03, 0x0c60, 0x1c41, 0xedae, 0xfd8f, 0xcdec, 0xddcd,
    0xad2a, 0xbd0b, 0x8d68, 0x9d49, 0x7e97, 0x6eb6, 0x5ed5, 0x4ef4, 0x3e13, 0x2e32, 0x1e51, 0x0e70,
    0xff9f, 0xefbe, 0xdfdd, 0xcffc, 0xbf1b, 0xaf3a, 0x9f59, 0x8f78, 0x9188, 0x81a9, 0xb1ca, 0xa1eb,
    0xd10c, 0xc12d, 0xf14e, 0xe16f, 0x1080, 0x00a1, 0x30c2, 0x20e3, 0x5004, 0x4025, 0x7046, 0x6067,
    0x83b9, 0x9398, 0xa3fb, 0xb3da, 0xc33d, 0xd31c, 0xe37f, 0xf35e, 0x02b1, 0x1290, 0x22f3, 0x32d2,
    0x4235, 0x5214, 0x6277, 0x7256, 0xb5ea, 0xa5cb, 0x95a8, 0x8589, 0xf56e, 0xe54f, 0xd52c, 0xc50d,
    0x34e2, 0x24c3, 0x14a0, 0x0481, 0x7466, 0x6447, 0x5424, 0x4405, 0xa7db, 0xb7fa, 0x8799, 0x97b8,
    0xe75f, 0xf77e, 0xc71d, 0xd73c, 0x26d3, 0x36f2, 0x0691, 0x16b0, 0x6657, 0x7676, 0x4615, 0x5634,
    0xd94c, 0xc96d, 0xf90e, 0xe92f, 0x99c8, 0x89e9, 0xb98a, 0xa9ab, 0x5844, 0x4865, 0x7806, 0x6827,
    0x18c0, 0x08e1, 0x3882, 0x28a3, 0xcb7d, 0xdb5c, 0xeb3f, 0xfb1e, 0x8bf9, 0x9bd8, 0xabbb, 0xbb9a,
    0x4a75, 0x5a54, 0x6a37, 0x7a16, 0x0af1, 0x1ad0, 0x2ab3, 0x3a92, 0xfd2e, 0xed0f, 0xdd6c, 0xcd4d,
    0xbdaa, 0xad8b, 0x9de8, 0x8dc9, 0x7c26, 0x6c07, 0x5c64, 0x4c45, 0x3ca2, 0x2c83, 0x1ce0, 0x0cc1,
    0xef1f, 0xff3e, 0xcf5d, 0xdf7c, 0xaf9b, 0xbfba, 0x8fd9, 0x9ff8, 0x6e17, 0x7e36, 0x4e55, 0x5e74,
    0x2e93, 0x3eb2, 0x0ed1, 0x1ef0};

static uint16_t crc16_xmodem(struct slice bytes)
{
    uint16_t crc = 0;

    for (size_t i = 0; i < bytes.len; i++) {
        crc = (uint16_t)(crc << 8) ^ crc16_table[(crc >> 8) ^ bytes.data[i]];
    }
    return crc;
}

/* The part between the first '{' and the next '}' if there is one and it is not empty, so that
 * programs can put keys that belong together into one shard; else the whole key. */
static struct slice hash_tag(struct slice key)
{
    const uint8_t *open = key.len > 0 ? memchr(key.data, '{', key.len) : NULL;
    const uint8_t *close;

    if (open == NULL) {
        return key;
    }
    open++;
    close = memchr(open, '}', (size_t)(key.data + key.len - open));
    if (close == NULL || close == open) {
        return key;
    }
    return slice_of(open, (size_t)(close - open));
}

uint32_t shard_slot_of_key(struct slice key)
{
    return crc16_xmodem(hash_tag(key)) % SHARD_SLOTS;
}

shard_id shard_of_key(struct slice key, uint32_t n_shards)
{
    ASSERT(shard_count_is_valid(n_shards));
    return shard_slot_of_key(key) / (SHARD_SLOTS / n_shards);
}
