/* For the tests of kv_sm: shard groups as pairs of replicas that are fed the same commands and must
 * stay equal, wired together without Raft: what a leader would propose is computed from applied
 * state and applied at once. */
#ifndef TESTS_UNIT_KV_TWINS_H
#define TESTS_UNIT_KV_TWINS_H

#include <stdio.h>

#include "raft/util/mem.h"
#include "shardkv/kv_ops.h"
#include "shardkv/kv_sm.h"
#include "tests/cmocka.h"
#include "tests/sim/mem_state.h"

#define TWINS_SHARDS 16
#define TWINS_GROUPS 4 /* gids 1..4 */

struct twin {
    struct mem_state *memory;
    struct kv_sm *sm;
};

struct twins {
    uint32_t gid;
    struct twin replicas[2];
    raft_index index;
};

/* A command that was applied: for duplicates. */
struct applied {
    uint32_t gid;
    struct buf bytes;
};

struct cluster {
    struct twins groups[TWINS_GROUPS + 1];
    struct shard_config config; /* the latest */
    uint64_t stamp;
    size_t reader; /* which replica of each group the next step looks at */
    uint32_t piece_bytes;
    uint64_t copy_id;                                /* the last one given out */
    uint64_t wanted[TWINS_GROUPS + 1][TWINS_SHARDS]; /* what the taker's leader pulls; 0: nothing */
    bool anew; /* a leader that pulls nothing yet does not go on with what has begun */
    /* What becomes of a CHUNK or INSTALL on its way; may be NULL. */
    void (*damage)(struct cluster *cluster, struct kv_command *command);
    unsigned n_broken; /* copies that INSTALL refused */
    bool was_broken;   /* the last one: the next is to be swept again */
    unsigned dead;     /* bit gid */
    bool restore_always;
    struct applied *history;
    size_t n_history, history_capacity;
    struct buf result_bytes; /* of the last apply */
    struct kv_command_result result;
    char key[32];
};

static inline struct kv_sm *sm_of(struct cluster *cluster, uint32_t gid)
{
    return cluster->groups[gid].replicas[cluster->reader].sm;
}

/* ---- Applying ---- */

static inline uint64_t twin_sum(const struct twin *twin)
{
    uint64_t *ranges = NULL, sum;
    size_t n = 0, capacity = 0;

    kv_sm_save(twin->sm);
    kv_sm_ranges(twin->sm, &ranges, &n, &capacity);
    for (size_t i = 1; i < n; i++) {
        assert_true(ranges[i - 1] < ranges[i]);
    }
    sum = mem_state_sum(twin->memory, ranges, n);
    /* What a shard no longer has is deleted; what it has, staged data too, is part of the state. */
    assert_int_equal(mem_state_foreign_keys(twin->memory, ranges, n), 0);
    mem_free(ranges);
    return sum;
}

static inline uint64_t group_sum(struct cluster *cluster, uint32_t gid)
{
    uint64_t sum = twin_sum(&cluster->groups[gid].replicas[0]);

    assert_true(sum == twin_sum(&cluster->groups[gid].replicas[1]));
    return sum;
}

/* As after a checkpoint and a start. */
static inline void twin_restart(struct twin *twin)
{
    kv_sm_save(twin->sm);
    assert_int_equal(kv_sm_restore(twin->sm), ST_OK);
}

static inline enum status apply_bytes(struct cluster *cluster, uint32_t gid, struct slice bytes)
{
    struct twins *group = &cluster->groups[gid];
    struct rsm_command entry = {.index = ++group->index, .term = 1, .bytes = bytes};
    struct buf other = {0};

    entry.stamp = ++cluster->stamp;
    buf_clear(&cluster->result_bytes);
    assert_int_equal(kv_sm_apply(group->replicas[0].sm, &entry, &cluster->result_bytes), ST_OK);
    assert_int_equal(kv_sm_apply(group->replicas[1].sm, &entry, &other), ST_OK);
    assert_true(slice_equal(buf_slice(&cluster->result_bytes), buf_slice(&other)));
    buf_fini(&other);
    assert_true(kv_command_result_decode(buf_slice(&cluster->result_bytes), &cluster->result));
    if (cluster->restore_always) {
        twin_restart(&group->replicas[1]);
    }
    return cluster->result.status;
}

static inline enum status apply(struct cluster *cluster, uint32_t gid,
                                const struct kv_command *command)
{
    struct applied *applied;

    MEM_GROW(cluster->history, cluster->history_capacity, cluster->n_history + 1);
    applied = &cluster->history[cluster->n_history++];
    *applied = (struct applied){.gid = gid};
    kv_command_encode(command, &applied->bytes);
    return apply_bytes(cluster, gid, buf_slice(&applied->bytes));
}

/* Every command so far reaches its group once more: nothing changes. */
static inline void apply_all_again(struct cluster *cluster)
{
    uint64_t sums[TWINS_GROUPS + 1];
    size_t n = cluster->n_history;

    for (uint32_t gid = 1; gid <= TWINS_GROUPS; gid++) {
        sums[gid] = group_sum(cluster, gid);
    }
    for (size_t i = 0; i < n; i++) {
        apply_bytes(cluster, cluster->history[i].gid, buf_slice(&cluster->history[i].bytes));
    }
    for (uint32_t gid = 1; gid <= TWINS_GROUPS; gid++) {
        assert_true(sums[gid] == group_sum(cluster, gid));
    }
}

static inline void restore_all(struct cluster *cluster)
{
    for (uint32_t gid = 1; gid <= TWINS_GROUPS; gid++) {
        for (size_t i = 0; i < 2; i++) {
            twin_restart(&cluster->groups[gid].replicas[i]);
        }
    }
}

/* ---- Life ---- */

static inline void cluster_init_with(struct cluster *cluster, uint32_t max_sessions)
{
    struct kv_command init = {.kind = KV_COMMAND_INIT};

    *cluster = (struct cluster){.stamp = 1000, .piece_bytes = 64, .copy_id = 100};
    shard_config_init(&cluster->config, TWINS_SHARDS);
    memset(cluster->config.cluster_id, 9, sizeof(cluster->config.cluster_id));
    memset(init.init.cluster_id, 9, sizeof(init.init.cluster_id));
    init.init.n_shards = TWINS_SHARDS;
    for (uint32_t gid = 1; gid <= TWINS_GROUPS; gid++) {
        cluster->groups[gid].gid = gid;
        for (size_t i = 0; i < 2; i++) {
            struct twin *twin = &cluster->groups[gid].replicas[i];
            /* One knows what it has noted by heart, the other hardly any of it. */
            struct kv_sm_options options = {
                .gid = gid, .max_sessions = max_sessions, .max_noted_bytes = i == 0 ? 0 : 400};

            twin->memory = mem_state_create(gid);
            options.state = mem_state_io(twin->memory);
            twin->sm = kv_sm_create(&options);
            assert_int_equal(kv_sm_restore(twin->sm), ST_OK);
        }
        init.init.incarnation = gid * 1111;
        assert_int_equal(apply(cluster, gid, &init), ST_OK);
    }
}

static inline void cluster_init(struct cluster *cluster)
{
    cluster_init_with(cluster, 100);
}

static inline void cluster_fini(struct cluster *cluster)
{
    for (uint32_t gid = 1; gid <= TWINS_GROUPS; gid++) {
        group_sum(cluster, gid); /* replicas are equal to the end */
        for (size_t i = 0; i < 2; i++) {
            kv_sm_destroy(&cluster->groups[gid].replicas[i].sm);
            mem_state_destroy(&cluster->groups[gid].replicas[i].memory);
        }
    }
    for (size_t i = 0; i < cluster->n_history; i++) {
        buf_fini(&cluster->history[i].bytes);
    }
    mem_free(cluster->history);
    buf_fini(&cluster->result_bytes);
    shard_config_fini(&cluster->config);
}

/* ---- Configurations ---- */

/* The groups of gids 1..4 are members from the first configuration on. */
static inline void add_groups(struct shard_config *config)
{
    config->groups = mem_zalloc(TWINS_GROUPS * sizeof(config->groups[0]));
    config->n_groups = TWINS_GROUPS;
    for (uint32_t gid = 1; gid <= TWINS_GROUPS; gid++) {
        struct config_group *group = &config->groups[gid - 1];

        group->gid = gid;
        group->member = true;
        group->joined_at = 1;
        group->incarnation = gid * 1111;
        group->replicas.n = 1;
        group->replicas.replicas[0].id = 1;
        snprintf(group->replicas.replicas[0].url, sizeof(group->replicas.replicas[0].url),
                 "tcp://10.0.0.%u:1", gid);
    }
}

/* The next configuration: as the last, but with shard given to owner (0: nobody). */
static inline void config_give(struct cluster *cluster, shard_id shard, uint32_t owner)
{
    struct shard_config *config = &cluster->config;

    if (config->num == 0) {
        add_groups(config);
    }
    config->num++;
    for (shard_id s = 0; s < TWINS_SHARDS; s++) {
        config->from[s] = config->shards[s] != 0 ? config->shards[s] : config->from[s];
    }
    config->shards[shard] = owner;
}

static inline enum status adopt(struct cluster *cluster, uint32_t gid)
{
    struct kv_command command = {.kind = KV_COMMAND_CONFIG};
    struct buf bytes = {0};
    enum status status;

    shard_config_encode(&cluster->config, &bytes);
    command.config = buf_slice(&bytes);
    status = apply(cluster, gid, &command);
    buf_fini(&bytes);
    return status;
}

static inline void adopt_all(struct cluster *cluster)
{
    for (uint32_t gid = 1; gid <= TWINS_GROUPS; gid++) {
        if ((cluster->dead & 1u << gid) == 0) {
            assert_int_equal(adopt(cluster, gid), ST_OK);
        }
    }
}

static inline void give(struct cluster *cluster, shard_id shard, uint32_t owner)
{
    config_give(cluster, shard, owner);
    adopt_all(cluster);
}

#include "tests/unit/kv_twins_move.h"

/* ---- Clients ---- */

static inline const char *key_in(struct cluster *cluster, shard_id shard, unsigned n)
{
    for (unsigned i = 0;; i++) {
        snprintf(cluster->key, sizeof(cluster->key), "k%u.%u", n, i);
        if (shard_of_key(slice_text(cluster->key), TWINS_SHARDS) == shard) {
            return cluster->key;
        }
    }
}

static inline struct kv_command write_of(uint8_t client, uint64_t seq, enum kv_operation_type type,
                                         const char *key, const char *value)
{
    struct kv_command command = {.kind = KV_COMMAND_WRITE};

    command.write.shard = shard_of_key(slice_text(key), TWINS_SHARDS);
    memset(command.write.session.client, client, sizeof(command.write.session.client));
    command.write.session.seq = seq;
    command.write.session.acked_seq = seq - 1;
    command.write.session.issued_at = 1;
    command.write.n_operations = 1;
    command.write.operations[0] = (struct kv_operation){type, slice_text(key), slice_text(value)};
    return command;
}

static inline enum status write_to(struct cluster *cluster, uint32_t gid, uint8_t client,
                                   uint64_t seq, enum kv_operation_type type, const char *key,
                                   const char *value)
{
    struct kv_command command = write_of(client, seq, type, key, value);

    return apply(cluster, gid, &command);
}

/* The first output of the last write. */
static inline uint32_t output(struct cluster *cluster)
{
    struct reader reader = reader_of(cluster->result.result);
    struct kv_write_result result;

    assert_true(kv_write_result_decode(&reader, &result));
    return result.outputs[0];
}

/* ---- Stories: what they are about, and their data ---- */

#define A 1u
#define B 2u
#define C 3u
#define S 5u /* the shard that most stories are about */

/* A value as this group serves it; NULL: no such key. */
static inline void assert_value(struct cluster *cluster, uint32_t gid, const char *key,
                                const char *expected)
{
    for (size_t i = 0; i < 2; i++) {
        struct twin *twin = &cluster->groups[gid].replicas[i];
        shard_id shard = shard_of_key(slice_text(key), TWINS_SHARDS);
        struct buf memory = {0};
        struct kv_record record;
        uint32_t hint;
        enum status status;

        assert_true(kv_sm_serves(twin->sm, shard, &hint));
        status = kv_ops_read(mem_state_io(twin->memory), kv_sm_shard(twin->sm, shard)->range,
                             slice_text(key), &memory, &record);
        assert_int_equal(status, expected != NULL ? ST_OK : ST_NOT_FOUND);
        if (expected != NULL) {
            assert_true(slice_equal(record.value, slice_text(expected)));
        }
        buf_fini(&memory);
    }
}

static inline void write_data(struct cluster *cluster, uint32_t gid, shard_id shard)
{
    for (unsigned n = 0; n < 12; n++) {
        char value[128];

        memset(value, 'a' + (int)n, sizeof(value));
        value[n * 10] = '\0'; /* the larger ones are pieces of their own */
        assert_int_equal(write_to(cluster, gid, (uint8_t)(1 + n % 3), 1 + n / 3, KV_PUT,
                                  key_in(cluster, shard, n), value),
                         ST_OK);
    }
    assert_int_equal(write_to(cluster, gid, 4, 1, KV_APPEND, key_in(cluster, shard, 99), "once"),
                     ST_OK);
}

static inline void check_data(struct cluster *cluster, uint32_t gid, shard_id shard)
{
    for (unsigned n = 0; n < 12; n++) {
        char value[128];

        memset(value, 'a' + (int)n, sizeof(value));
        value[n * 10] = '\0';
        assert_value(cluster, gid, key_in(cluster, shard, n), value);
    }
    /* A retry after the move is answered from the sessions that travelled along. */
    assert_int_equal(write_to(cluster, gid, 4, 1, KV_APPEND, key_in(cluster, shard, 99), "once"),
                     ST_OK);
    assert_int_equal(output(cluster), 4);
    assert_value(cluster, gid, cluster->key, "once");
    assert_int_equal(kv_sm_version(sm_of(cluster, gid), shard), 13);
}

/* S is frozen at A, for B, and everything is swept. */
static inline void freeze_with_data(struct cluster *cluster)
{
    cluster_init(cluster);
    give(cluster, S, A);
    write_data(cluster, A, S);
    give(cluster, S, B);
    cluster->piece_bytes = 1u << 20;
    assert_int_equal(
        apply_copy_step(cluster, A, S, 2, KV_COMMAND_COPY_BEGIN, wanted_copy(cluster, B, S)),
        ST_OK);
    assert_int_equal(apply_copy_step(cluster, A, S, 2, KV_COMMAND_FREEZE, cluster->wanted[B][S]),
                     ST_OK);
    cluster->piece_bytes = 64;
}

#endif
