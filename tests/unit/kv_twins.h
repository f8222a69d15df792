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
        assert_int_equal(kv_sm_restore(group->replicas[1].sm), ST_OK);
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
            assert_int_equal(kv_sm_restore(cluster->groups[gid].replicas[i].sm), ST_OK);
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
            struct kv_sm_options options = {.gid = gid, .max_sessions = max_sessions};

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

/* ---- Moving ---- */

static inline bool is_dead(const struct cluster *cluster, uint32_t gid)
{
    return (cluster->dead & 1u << gid) != 0;
}

static inline enum shard_answer answer_pull(struct cluster *cluster, uint32_t at, shard_id id,
                                            config_num num, uint32_t to)
{
    struct kv_sm *sm = sm_of(cluster, at);

    return shard_answer_pull(kv_sm_shard(sm, id), num, to, kv_sm_meta(sm)->adopted);
}

/* Who answers the taker: the group that its configuration names, or any other; 0: nobody yet. */
static inline uint32_t find_source(struct cluster *cluster, uint32_t gid, shard_id id,
                                   const struct shard_transition *head, enum shard_answer *answer)
{
    for (uint32_t i = 0; i <= TWINS_GROUPS; i++) {
        uint32_t at = i == 0 ? head->gid : i;

        if (at == gid || is_dead(cluster, at)) {
            continue;
        }
        *answer = answer_pull(cluster, at, id, head->num, gid);
        if (*answer == SHARD_ANSWER_YES || *answer == SHARD_ANSWER_VOID) {
            return at;
        }
    }
    return 0;
}

/* The copy that the taker's leader has in mind; a leader that begins one anew sets it to 0. */
static inline uint64_t wanted_copy(struct cluster *cluster, uint32_t gid, shard_id id)
{
    uint64_t *wanted = &cluster->wanted[gid][id];

    if (*wanted == 0) {
        *wanted = ++cluster->copy_id;
    }
    return *wanted;
}

static inline enum status apply_copy_step(struct cluster *cluster, uint32_t source, shard_id id,
                                          config_num num, enum kv_command_kind kind,
                                          uint64_t copy_id)
{
    const struct shard *shard = kv_sm_shard(sm_of(cluster, source), id);
    struct kv_command command = {.kind = kind, .shard = id, .num = num};
    struct buf from = {0};
    enum status status;

    buf_put_slice(&from, buf_slice(&shard->outgoing.swept));
    command.copy.copy_id = copy_id;
    command.copy.from = buf_slice(&from);
    command.copy.max_bytes = cluster->piece_bytes;
    status = apply(cluster, source, &command);
    buf_fini(&from);
    return status;
}

/* What the taker's leader makes of a piece. */
static inline void fill_arrival(struct kv_command *command, uint32_t source, uint64_t copy_id,
                                const struct shard_copy *copy, const struct kv_piece *piece)
{
    command->arrival.piece =
        (struct shard_piece){.copy_id = copy_id, .number = 0, .begin = {NULL, 0}};
    if (copy->copy_id == copy_id) {
        command->arrival.piece.number = copy->next_piece;
        command->arrival.piece.begin = buf_slice(&copy->cursor);
    }
    command->arrival.body = buf_slice(&piece->body);
    command->arrival.cursor = buf_slice(&piece->cursor);
    command->arrival.end.gid = source;
}

static inline void fill_end(struct kv_command *command, const struct kv_piece_source *from,
                            const struct kv_piece *piece, struct buf *memory)
{
    struct kv_piece_end end;

    kv_piece_end_encode(from, 0, buf_slice(&piece->body), memory);
    assert_true(kv_piece_end_decode(buf_slice(memory), &end));
    command->kind = KV_COMMAND_INSTALL;
    command->arrival.body = end.entries;
    command->arrival.cursor = slice_of(NULL, 0);
    command->arrival.end.records = end.records;
    command->arrival.end.sessions = end.sessions;
    command->arrival.end.epoch = end.epoch;
    command->arrival.floor = end.floor;
    command->arrival.version = end.version;
}

/* Reads the next piece; it is applied, unless the source has to freeze first. */
static inline void step_piece(struct cluster *cluster, uint32_t source, uint32_t gid, shard_id id,
                              config_num num, struct slice cursor)
{
    const struct shard_copy *copy = &kv_sm_shard(sm_of(cluster, gid), id)->copy;
    struct kv_piece_source from = kv_sm_piece_source(sm_of(cluster, source), id);
    struct kv_command command = {.kind = KV_COMMAND_CHUNK, .shard = id, .num = num};
    uint64_t copy_id = wanted_copy(cluster, gid, id);
    struct buf memory = {0};
    struct kv_piece piece;

    assert_int_equal(kv_piece_read(&from, cursor, cluster->piece_bytes, &piece), ST_OK);
    if (piece.is_all && cursor.len == 0 && from.shard->state == SHARD_SERVING) {
        assert_int_equal(apply_copy_step(cluster, source, id, num, KV_COMMAND_FREEZE, copy_id),
                         ST_OK);
    } else {
        fill_arrival(&command, source, copy_id, copy, &piece);
        if (piece.is_all && from.shard->state == SHARD_FROZEN) {
            fill_end(&command, &from, &piece, &memory);
        }
        if (cluster->damage != NULL) {
            cluster->damage(cluster, &command);
        }
        if (apply(cluster, gid, &command) != ST_OK) {
            assert_int_equal(cluster->result.status, ST_CORRUPT);
            cluster->n_broken++;
        }
        cluster->was_broken = cluster->result.status == ST_CORRUPT;
        if (command.kind == KV_COMMAND_INSTALL) {
            cluster->wanted[gid][id] = 0;
        }
    }
    buf_fini(&memory);
    kv_piece_fini(&piece);
}

/* One step of the source or of the taker for one shard, as their leaders would make it from what
 * they have applied. */
static inline bool step_receive(struct cluster *cluster, uint32_t gid, shard_id id)
{
    const struct shard *taker = kv_sm_shard(sm_of(cluster, gid), id);
    struct shard_transition head = *shard_head(taker);
    enum shard_answer answer = SHARD_ANSWER_NOT_READY;
    uint32_t source = find_source(cluster, gid, id, &head, &answer);
    struct kv_command command = {.kind = KV_COMMAND_VOID, .shard = id, .num = head.num};
    uint64_t copy_id = taker->copy.copy_id, outgoing;
    struct kv_piece_source from;
    struct slice cursor = {NULL, 0};

    if (source == 0) {
        return false;
    }
    if (answer == SHARD_ANSWER_VOID) {
        cluster->wanted[gid][id] = 0;
        return apply(cluster, gid, &command) == ST_OK;
    }
    if (copy_id != 0 && cluster->wanted[gid][id] == 0 && !cluster->anew) {
        cluster->wanted[gid][id] = copy_id; /* what has begun goes on */
    }
    if (copy_id == wanted_copy(cluster, gid, id)) {
        cursor = buf_slice(&taker->copy.cursor);
    }
    outgoing = kv_sm_shard(sm_of(cluster, source), id)->outgoing.copy_id;
    if (outgoing == 0 ||
        (cluster->was_broken && cursor.len == 0 && outgoing != cluster->wanted[gid][id])) {
        assert_int_equal(apply_copy_step(cluster, source, id, head.num, KV_COMMAND_COPY_BEGIN,
                                         cluster->wanted[gid][id]),
                         ST_OK);
        return true;
    }
    from = kv_sm_piece_source(sm_of(cluster, source), id);
    switch (kv_piece_needs(&from, cursor)) {
    case KV_PIECE_READ:
        step_piece(cluster, source, gid, id, head.num, cursor);
        return true;
    case KV_PIECE_SWEEP:
        assert_int_equal(apply_copy_step(cluster, source, id, head.num, KV_COMMAND_SWEEP, outgoing),
                         ST_OK);
        return true;
    case KV_PIECE_FREEZE:
        assert_int_equal(
            apply_copy_step(cluster, source, id, head.num, KV_COMMAND_FREEZE, outgoing), ST_OK);
        return true;
    case KV_PIECE_INVALID: /* CONFLICT: that copy does not go on */
        cluster->wanted[gid][id] = ++cluster->copy_id;
        return true;
    }
    return false;
}

static inline bool step_release(struct cluster *cluster, uint32_t gid, shard_id id,
                                const struct shard_release *pending)
{
    struct kv_sm *source = sm_of(cluster, pending->gid);
    struct kv_command command = {.shard = id, .num = pending->num};
    enum shard_answer answer = shard_answer_release(kv_sm_shard(source, id), pending->num, gid,
                                                    kv_sm_meta(source)->adopted);

    if (answer == SHARD_ANSWER_YES) {
        command.kind = KV_COMMAND_DROP;
        return apply(cluster, pending->gid, &command) == ST_OK;
    }
    assert_int_equal(answer, SHARD_ANSWER_DONE);
    command.kind = KV_COMMAND_RELEASED;
    return apply(cluster, gid, &command) == ST_OK;
}

/* At most one group serves the shard. */
static inline void check_owners(struct cluster *cluster, shard_id id)
{
    int serving = 0;

    for (uint32_t gid = 1; gid <= TWINS_GROUPS; gid++) {
        serving += kv_sm_shard(sm_of(cluster, gid), id)->state == SHARD_SERVING;
    }
    assert_true(serving <= 1);
}

/* One step of any group for any shard; false: all is at rest, or waits for the dead. */
static inline bool step(struct cluster *cluster)
{
    for (uint32_t gid = 1; gid <= TWINS_GROUPS; gid++) {
        for (shard_id id = 0; id < TWINS_SHARDS && !is_dead(cluster, gid); id++) {
            const struct shard *shard = kv_sm_shard(sm_of(cluster, gid), id);
            const struct shard_transition *head = shard_head(shard);

            if (head != NULL && head->kind == SHARD_RECEIVE && step_receive(cluster, gid, id)) {
                check_owners(cluster, id);
                return true;
            }
            if (shard->n_releases > 0 && !is_dead(cluster, shard->releases[0].gid) &&
                step_release(cluster, gid, id, &shard->releases[0])) {
                check_owners(cluster, id);
                return true;
            }
        }
    }
    return false;
}

static inline void settle(struct cluster *cluster)
{
    int steps = 0;

    while (step(cluster)) {
        assert_true(++steps < 10000);
    }
}

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
