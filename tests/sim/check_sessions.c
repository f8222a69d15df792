/* The queue of committed writes of each group, and the table of all operations; see
 * check_sessions.h. */
#include "tests/sim/check_sessions.h"

#include "raft/rsm/codec.h"
#include "raft/util/assert.h"
#include "raft/util/mem.h"
#include "shardkv/kv_command.h"
#include "tests/sim/check.h"

struct operation {
    uint8_t client[16];
    uint64_t seq; /* 0: an empty place */
    shard_id shard;
    bool applied;
    uint64_t looked_at; /* the number of the look that met it last */
};

struct session_group {
    group_id gid;
    struct operation *queue; /* committed, not yet applied in the group's state */
    raft_index *indexes;     /* of the queue's entries */
    size_t first, n, queue_capacity, indexes_capacity;
};

struct check_sessions {
    struct world *world;
    struct session_group groups[WORLD_MAX_NODES];
    size_t n_groups;
    struct operation *table; /* a power of two of places, by hash, open */
    size_t n, capacity;
    uint64_t look;
};

/* ---- The table ---- */

static size_t hash_of(const struct operation *operation)
{
    uint64_t hash = get_u64(operation->client) ^ get_u64(operation->client + 8) ^
                    (operation->seq * 0x9e3779b97f4a7c15u) ^ operation->shard;

    hash ^= hash >> 29;
    hash *= 0xbf58476d1ce4e5b9u;
    return (size_t)(hash ^ hash >> 32);
}

static bool is_same(const struct operation *a, const struct operation *b)
{
    return a->seq == b->seq && a->shard == b->shard &&
           memcmp(a->client, b->client, sizeof(a->client)) == 0;
}

static struct operation *find_place(struct operation *table, size_t capacity,
                                    const struct operation *operation)
{
    size_t at = hash_of(operation) & (capacity - 1);

    while (table[at].seq != 0 && !is_same(&table[at], operation)) {
        at = (at + 1) & (capacity - 1);
    }
    return &table[at];
}

static void grow(struct check_sessions *check)
{
    size_t capacity = check->capacity == 0 ? 1024 : 2 * check->capacity;
    struct operation *table = mem_zalloc(capacity * sizeof(*table));

    for (size_t i = 0; i < check->capacity; i++) {
        if (check->table[i].seq != 0) {
            *find_place(table, capacity, &check->table[i]) = check->table[i];
        }
    }
    mem_free(check->table);
    check->table = table;
    check->capacity = capacity;
}

static struct operation *find_or_add(struct check_sessions *check,
                                     const struct operation *operation)
{
    struct operation *place;

    if (2 * (check->n + 1) > check->capacity) {
        grow(check);
    }
    place = find_place(check->table, check->capacity, operation);
    if (place->seq == 0) {
        *place = *operation;
        check->n++;
    }
    return place;
}

/* ---- Committed ---- */

static struct session_group *find_group(struct check_sessions *check, group_id gid)
{
    for (size_t i = 0; i < check->n_groups; i++) {
        if (check->groups[i].gid == gid) {
            return &check->groups[i];
        }
    }
    check->groups[check->n_groups].gid = gid;
    return &check->groups[check->n_groups++];
}

void check_sessions_committed(void *context, group_id gid, const struct raft_entry *entry)
{
    struct session_group *group = find_group(context, gid);
    struct operation operation = {0};
    struct rsm_entry_header header;
    struct kv_command command;
    struct slice bytes;

    if (entry->type != RAFT_ENTRY_COMMAND ||
        rsm_entry_header_read(blob_slice(entry->data), &header, &bytes) != ST_OK || bytes.len < 2 ||
        bytes.data[1] != KV_COMMAND_WRITE || kv_command_decode(bytes, &command) != ST_OK) {
        return;
    }
    memcpy(operation.client, command.write.session.client, sizeof(operation.client));
    operation.seq = command.write.session.seq;
    operation.shard = command.write.shard;
    if (operation.seq == 0) {
        return;
    }
    if (group->first > 64 && group->first > group->n / 2) {
        group->n -= group->first;
        memmove(group->queue, group->queue + group->first, group->n * sizeof(group->queue[0]));
        memmove(group->indexes, group->indexes + group->first,
                group->n * sizeof(group->indexes[0]));
        group->first = 0;
    }
    MEM_GROW(group->queue, group->queue_capacity, group->n + 1);
    MEM_GROW(group->indexes, group->indexes_capacity, group->n + 1);
    group->queue[group->n] = operation;
    group->indexes[group->n++] = entry->index;
}

/* ---- Applied ---- */

/* The entries of the queue before `end` were applied. */
static void check_shard(struct check_sessions *check, struct session_group *group, size_t end,
                        shard_id shard, uint64_t rise)
{
    uint64_t look = ++check->look, n_new = 0;

    for (size_t i = group->first; i < end; i++) {
        if (group->queue[i].shard == shard) {
            struct operation *operation = find_or_add(check, &group->queue[i]);

            n_new += !operation->applied && operation->looked_at != look;
            operation->looked_at = look;
        }
    }
    if (rise > n_new) {
        check_fail("applied once",
                   "group %u shard %u at %.6f s: the writes %llu..%llu raise its version counter "
                   "by %llu, only %llu of their operations were not applied before",
                   group->gid, shard, (double)world_now_us(check->world) / 1e6,
                   (unsigned long long)(end > group->first ? group->indexes[group->first] : 0),
                   (unsigned long long)(end > group->first ? group->indexes[end - 1] : 0),
                   (unsigned long long)rise, (unsigned long long)n_new);
    }
    for (size_t i = group->first; i < end && rise == n_new; i++) {
        if (group->queue[i].shard == shard) {
            find_or_add(check, &group->queue[i])->applied = true;
        }
    }
}

void check_sessions_applied(struct check_sessions *check, group_id gid, raft_index applied,
                            const uint64_t *rises, uint32_t n_shards)
{
    struct session_group *group = find_group(check, gid);
    size_t end = group->first;

    while (end < group->n && group->indexes[end] <= applied) {
        end++;
    }
    for (shard_id shard = 0; shard < n_shards; shard++) {
        if (rises[shard] != CHECK_SESSIONS_UNKNOWN && rises[shard] > 0) {
            check_shard(check, group, end, shard, rises[shard]);
        }
    }
    group->first = end;
}

/* ---- Life ---- */

struct check_sessions *check_sessions_create(struct world *world)
{
    struct check_sessions *check = mem_zalloc(sizeof(*check));

    check->world = world;
    return check;
}

void check_sessions_destroy(struct check_sessions **check)
{
    struct check_sessions *c = *check;

    if (c == NULL) {
        return;
    }
    for (size_t i = 0; i < c->n_groups; i++) {
        mem_free(c->groups[i].queue);
        mem_free(c->groups[i].indexes);
    }
    mem_free(c->table);
    mem_free(c);
    *check = NULL;
}
