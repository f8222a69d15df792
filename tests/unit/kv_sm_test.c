/* The replicated state of shard groups: the same commands give the same state on every replica,
 * restored or not; a shard is served by one group; sessions travel with it; and a migration ends
 * well whatever is repeated, restarted or dead, step by step. */
#include "shardkv/kv_ops.h"
#include "tests/unit/kv_twins.h"

#define A 1u
#define B 2u
#define C 3u
#define S 5u /* the shard that most stories are about */

/* A value as this group serves it; NULL: no such key. */
static void assert_value(struct cluster *cluster, uint32_t gid, const char *key,
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

/* ---- Who the group is -------------------------------------------------------------------------
 */

static void the_first_init_wins(void **state)
{
    struct cluster cluster;
    struct kv_command again = {.kind = KV_COMMAND_INIT};

    (void)state;
    cluster_init(&cluster);
    again.init.incarnation = 77;
    again.init.n_shards = 32;
    assert_int_equal(apply(&cluster, A, &again), ST_DUPLICATE);
    assert_int_equal(kv_sm_meta(sm_of(&cluster, A))->incarnation, 1111);
    assert_int_equal(kv_sm_meta(sm_of(&cluster, A))->n_shards, TWINS_SHARDS);
    cluster_fini(&cluster);
}

static void configurations_are_adopted_one_by_one(void **state)
{
    struct cluster cluster;

    (void)state;
    cluster_init(&cluster);
    config_give(&cluster, S, A);
    assert_int_equal(adopt(&cluster, A), ST_OK);
    assert_int_equal(adopt(&cluster, A), ST_DUPLICATE);
    config_give(&cluster, S, B);
    config_give(&cluster, S, A);
    assert_int_equal(adopt(&cluster, A), ST_DUPLICATE); /* 3 before 2 */
    assert_int_equal(kv_sm_meta(sm_of(&cluster, A))->adopted, 1);
    cluster_fini(&cluster);
}

static void a_new_group_begins_at_its_join_and_nowhere_else(void **state)
{
    struct cluster cluster;

    (void)state;
    cluster_init(&cluster);
    config_give(&cluster, S, A);
    config_give(&cluster, S, B);
    assert_int_equal(adopt(&cluster, B), ST_DUPLICATE); /* joined at 1: that comes first */
    cluster.config.groups[B - 1].joined_at = 2;
    assert_int_equal(adopt(&cluster, B), ST_OK);
    assert_int_equal(kv_sm_meta(sm_of(&cluster, B))->adopted, 2);
    cluster_fini(&cluster);
}

static void a_configuration_of_another_cluster_or_incarnation_is_refused(void **state)
{
    struct cluster cluster;
    uint64_t before;

    (void)state;
    cluster_init(&cluster);
    before = group_sum(&cluster, A);
    config_give(&cluster, S, A);
    cluster.config.cluster_id[3]++;
    assert_int_equal(adopt(&cluster, A), ST_CONFLICT);
    cluster.config.cluster_id[3]--;
    cluster.config.groups[A - 1].incarnation = 5;
    assert_int_equal(adopt(&cluster, A), ST_CONFLICT);
    assert_true(group_sum(&cluster, A) == before);
    cluster.config.groups[A - 1].incarnation = 0; /* not known to the controller yet */
    assert_int_equal(adopt(&cluster, A), ST_OK);
    cluster_fini(&cluster);
}

static void an_unknown_command_stops_the_replica(void **state)
{
    struct cluster cluster;
    struct buf result = {0};
    uint8_t later[] = {KV_COMMAND_FORMAT, KV_COMMAND_COPY_BEGIN, 0, 0};
    uint8_t broken[] = {KV_COMMAND_FORMAT, KV_COMMAND_FREEZE, 0, 0};
    struct rsm_command entry = {.index = 9, .term = 1, .bytes = {later, sizeof(later)}};

    (void)state;
    cluster_init(&cluster);
    assert_int_equal(kv_sm_apply(sm_of(&cluster, A), &entry, &result), ST_VERSION);
    entry.bytes = slice_of(broken, sizeof(broken));
    assert_int_equal(kv_sm_apply(sm_of(&cluster, A), &entry, &result), ST_CORRUPT);
    buf_fini(&result);
    cluster_fini(&cluster);
}

/* ---- Writes -----------------------------------------------------------------------------------
 */

static void a_repeated_write_is_answered_and_not_applied_again(void **state)
{
    struct cluster cluster;
    const char *key;

    (void)state;
    cluster_init(&cluster);
    give(&cluster, S, A);
    key = key_in(&cluster, S, 0);
    assert_int_equal(write_to(&cluster, A, 1, 1, KV_APPEND, key, "xy"), ST_OK);
    assert_int_equal(output(&cluster), 2);
    assert_int_equal(write_to(&cluster, A, 1, 1, KV_APPEND, key, "xy"), ST_OK);
    assert_int_equal(output(&cluster), 2);
    assert_value(&cluster, A, key, "xy");
    assert_int_equal(write_to(&cluster, A, 1, 2, KV_APPEND, key, "z"), ST_OK);
    assert_int_equal(write_to(&cluster, A, 1, 1, KV_APPEND, key, "xy"), ST_SESSION_STALE);
    assert_value(&cluster, A, key, "xyz");
    cluster_fini(&cluster);
}

static void a_mismatch_is_a_kept_result_too(void **state)
{
    struct cluster cluster;
    struct kv_command command;
    struct reader reader;
    struct kv_write_result result;

    (void)state;
    cluster_init(&cluster);
    give(&cluster, S, A);
    command = write_of(1, 1, KV_PUT, key_in(&cluster, S, 0), "v");
    command.write.n_conditions = 1;
    command.write.conditions[0] =
        (struct kv_condition){KV_IF_VALUE, slice_text(cluster.key), slice_text("old")};
    assert_int_equal(apply(&cluster, A, &command), ST_OK);
    assert_int_equal(write_to(&cluster, A, 2, 1, KV_PUT, cluster.key, "old"), ST_OK);
    assert_int_equal(apply(&cluster, A, &command), ST_OK); /* would match now */
    reader = reader_of(cluster.result.result);
    assert_true(kv_write_result_decode(&reader, &result));
    assert_int_equal(result.status, ST_MISMATCH);
    assert_value(&cluster, A, cluster.key, "old");
    cluster_fini(&cluster);
}

static void wrong_group_leaves_sessions_untouched_and_tells_the_owner(void **state)
{
    struct cluster cluster;
    uint64_t before;

    (void)state;
    cluster_init(&cluster);
    give(&cluster, S, A);
    before = group_sum(&cluster, B);
    assert_int_equal(write_to(&cluster, B, 1, 1, KV_PUT, key_in(&cluster, S, 0), "v"),
                     ST_WRONG_GROUP);
    assert_int_equal(cluster.result.gid_hint, A);
    assert_true(group_sum(&cluster, B) == before);
    give(&cluster, S, B);
    before = group_sum(&cluster, B);
    assert_int_equal(write_to(&cluster, B, 1, 1, KV_PUT, cluster.key, "v"), ST_WRONG_GROUP);
    assert_int_equal(cluster.result.gid_hint, A); /* it has it until the hand-over */
    assert_int_equal(write_to(&cluster, A, 1, 1, KV_PUT, cluster.key, "v"), ST_OK);
    settle(&cluster);
    before = group_sum(&cluster, A);
    assert_int_equal(write_to(&cluster, A, 1, 2, KV_PUT, cluster.key, "w"), ST_WRONG_GROUP);
    assert_int_equal(cluster.result.gid_hint, B);
    assert_true(group_sum(&cluster, A) == before);
    cluster_fini(&cluster);
}

static void a_key_of_another_shard_is_invalid_and_touches_nothing(void **state)
{
    struct cluster cluster;
    struct kv_command command;
    uint64_t before;

    (void)state;
    cluster_init(&cluster);
    give(&cluster, S, A);
    give(&cluster, S + 1, A);
    before = group_sum(&cluster, A);
    command = write_of(1, 1, KV_PUT, key_in(&cluster, S, 0), "v");
    command.write.shard = S + 1;
    assert_int_equal(apply(&cluster, A, &command), ST_INVALID);
    command.write.shard = TWINS_SHARDS;
    assert_int_equal(apply(&cluster, A, &command), ST_WRONG_GROUP);
    assert_true(group_sum(&cluster, A) == before);
    cluster_fini(&cluster);
}

static void a_full_session_table_raises_the_stamp_floor(void **state)
{
    struct cluster cluster;

    (void)state;
    cluster_init(&cluster);
    give(&cluster, S, A);
    assert_int_equal(kv_sm_stamp_floor(sm_of(&cluster, A)), 1);
    for (unsigned client = 1; client <= 110; client++) { /* max_sessions is 100 */
        assert_int_equal(
            write_to(&cluster, A, (uint8_t)client, 1, KV_PUT, key_in(&cluster, S, 0), "v"),
            client <= 101 ? ST_OK : ST_SESSION_EXPIRED);
    }
    assert_true(kv_sm_stamp_floor(sm_of(&cluster, A)) > 1000);
    assert_int_equal(write_to(&cluster, A, 1, 1, KV_PUT, cluster.key, "v"), ST_SESSION_EXPIRED);
    give(&cluster, S, B);
    settle(&cluster);
    assert_true(kv_sm_stamp_floor(sm_of(&cluster, B)) > 1000); /* the floor travels */
    assert_int_equal(write_to(&cluster, B, 1, 1, KV_PUT, cluster.key, "v"), ST_SESSION_EXPIRED);
    cluster_fini(&cluster);
}

/* ---- Moves ------------------------------------------------------------------------------------
 */

static void write_data(struct cluster *cluster, uint32_t gid, shard_id shard)
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

static void check_data(struct cluster *cluster, uint32_t gid, shard_id shard)
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

static void assert_gone(struct cluster *cluster, uint32_t gid, shard_id shard)
{
    const struct shard *life = kv_sm_shard(sm_of(cluster, gid), shard);

    assert_int_equal(life->state, SHARD_ABSENT);
    assert_true(shard_is_settled(life));
}

static void a_shard_moves_with_its_sessions(void **state)
{
    struct cluster cluster;

    (void)state;
    cluster_init(&cluster);
    give(&cluster, S, A);
    write_data(&cluster, A, S);
    give(&cluster, S, B);
    settle(&cluster);
    check_data(&cluster, B, S);
    assert_gone(&cluster, A, S);
    assert_int_equal(kv_sm_shard(sm_of(&cluster, B), S)->epoch, 2);
    give(&cluster, S, A);
    settle(&cluster);
    check_data(&cluster, A, S);
    assert_gone(&cluster, B, S);
    cluster_fini(&cluster);
}

/* The stories below, each a list of configurations for some shards; where they end. */
struct story {
    const char *name;
    struct {
        shard_id shard;
        uint32_t owner;
    } moves[8]; /* after S and S + 1 were created at A and B */
    size_t n_moves;
    bool settle_between;
    uint32_t end_s, end_other; /* the owners of S and S + 1 at the end */
};

static const struct story stories[] = {
    {"A to B", {{S, B}}, 1, true, B, B},
    {"swap", {{S, B}, {S + 1, A}}, 2, false, B, A},
    {"there and back at once", {{S, B}, {S, A}}, 2, false, A, B},
    {"nobody, then another", {{S, 0}, {S, B}}, 2, false, B, B},
    {"nobody, settled, then another", {{S, 0}, {S, C}}, 2, true, C, B},
    {"nobody, then its keeper", {{S, 0}, {S, A}}, 2, false, A, B},
    {"nobody twice, then its keeper", {{S, 0}, {S + 1, 0}, {S, A}, {S + 1, B}}, 4, true, A, B},
    {"chain before the middle has it", {{S, B}, {S, C}, {S, 4}}, 3, false, 4, B},
    {"chain with nobody in it", {{S, B}, {S, 0}, {S, C}, {S, A}}, 4, false, A, B},
    {"round and round", {{S, B}, {S, A}, {S, B}, {S, A}, {S, C}}, 5, false, C, B},
};

static void begin_story(struct cluster *cluster, const struct story *story)
{
    cluster_init(cluster);
    give(cluster, S, A);
    give(cluster, S + 1, B);
    write_data(cluster, A, S);
    write_data(cluster, B, S + 1);
    for (size_t i = 0; i < story->n_moves; i++) {
        give(cluster, story->moves[i].shard, story->moves[i].owner);
        if (story->settle_between) {
            settle(cluster);
        }
    }
}

static void end_story(struct cluster *cluster, const struct story *story)
{
    settle(cluster);
    check_data(cluster, story->end_s, S);
    check_data(cluster, story->end_other, S + 1);
    for (uint32_t gid = 1; gid <= TWINS_GROUPS; gid++) {
        if (gid != story->end_s) {
            assert_gone(cluster, gid, S);
        }
        if (gid != story->end_other) {
            assert_gone(cluster, gid, S + 1);
        }
    }
    cluster_fini(cluster);
}

static void every_story_ends_well(void **state)
{
    struct cluster cluster;

    (void)state;
    for (size_t i = 0; i < sizeof(stories) / sizeof(stories[0]); i++) {
        begin_story(&cluster, &stories[i]);
        end_story(&cluster, &stories[i]);
    }
}

/* After each step in turn: leaders change and restart (everything in memory is lost, the other
 * replica is asked), and every command so far arrives once more. */
static void every_story_ends_well_whatever_is_repeated_and_wherever_leaders_change(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(stories) / sizeof(stories[0]); i++) {
        bool reached_end = false;

        for (int at = 0; !reached_end; at++) {
            struct cluster cluster;

            begin_story(&cluster, &stories[i]);
            for (int n = 0; n < at && !reached_end; n++) {
                reached_end = !step(&cluster);
            }
            restore_all(&cluster);
            cluster.reader = 1;
            apply_all_again(&cluster);
            end_story(&cluster, &stories[i]);
            assert_true(at < 1000);
        }
    }
}

/* One replica of each group is restored from its state after every single command. */
static void a_replica_that_restores_after_every_command_stays_equal(void **state)
{
    struct cluster cluster;

    (void)state;
    for (size_t i = 0; i < sizeof(stories) / sizeof(stories[0]); i++) {
        struct story story = stories[i];

        begin_story(&cluster, &story);
        cluster.restore_always = true;
        end_story(&cluster, &story);
    }
}

static void a_dead_source_holds_up_only_its_own_shard(void **state)
{
    struct cluster cluster;
    uint32_t hint;

    (void)state;
    cluster_init(&cluster);
    give(&cluster, S, A);
    give(&cluster, S + 1, B);
    write_data(&cluster, B, S + 1);
    give(&cluster, S + 2, C);
    cluster.dead = 1u << A;
    give(&cluster, S, C); /* can't arrive */
    give(&cluster, S + 1, C);
    settle(&cluster);
    check_data(&cluster, C, S + 1);
    assert_true(kv_sm_serves(sm_of(&cluster, C), S + 2, &hint));
    assert_false(kv_sm_serves(sm_of(&cluster, C), S, &hint));
    assert_int_equal(hint, A);
    give(&cluster, S + 1, B); /* later configurations go on as well */
    settle(&cluster);
    check_data(&cluster, B, S + 1);
    cluster_fini(&cluster);
}

static void a_dead_source_is_released_when_it_returns(void **state)
{
    struct cluster cluster;
    struct kv_command late = {.kind = KV_COMMAND_FREEZE, .shard = S, .num = 3};

    (void)state;
    cluster_init(&cluster);
    give(&cluster, S, A);
    give(&cluster, S + 1, B);
    write_data(&cluster, A, S);
    give(&cluster, S, B);
    while (kv_sm_shard(sm_of(&cluster, B), S)->state != SHARD_SERVING) {
        assert_true(step(&cluster));
    }
    cluster.dead = 1u << A; /* B has it, A has not let go */
    settle(&cluster);
    assert_int_equal(kv_sm_shard(sm_of(&cluster, A), S)->state, SHARD_FROZEN);
    config_give(&cluster, S, C);
    assert_int_equal(adopt(&cluster, B), ST_OK);
    assert_int_equal(adopt(&cluster, C), ST_OK);
    settle(&cluster);
    check_data(&cluster, C, S);
    cluster.dead = 0;
    assert_int_equal(apply(&cluster, A, &late), ST_DUPLICATE);
    assert_int_equal(adopt(&cluster, A), ST_OK);
    settle(&cluster);
    assert_gone(&cluster, A, S);
    assert_gone(&cluster, B, S);
    cluster_fini(&cluster);
}

static void other_shards_of_the_same_groups_are_not_touched(void **state)
{
    struct cluster cluster;

    (void)state;
    cluster_init(&cluster);
    give(&cluster, S, A);
    give(&cluster, S + 1, A);
    write_data(&cluster, A, S);
    give(&cluster, S, B);
    for (int i = 0; i < 1000; i++) {
        char key[32];

        strcpy(key, key_in(&cluster, S + 1, 7));
        assert_int_equal(
            write_to(&cluster, A, 9, (uint64_t)i + 1, KV_PUT, key, i % 2 ? "odd" : "even"), ST_OK);
        assert_value(&cluster, A, key, i % 2 ? "odd" : "even");
        if (!step(&cluster)) {
            break;
        }
    }
    check_data(&cluster, B, S);
    cluster_fini(&cluster);
}

static void versions_never_go_back_through_moves(void **state)
{
    struct cluster cluster;
    uint64_t last = 0;

    (void)state;
    cluster_init(&cluster);
    give(&cluster, S, A);
    for (uint64_t i = 0; i < 12; i++) {
        uint32_t gid = 1 + (uint32_t)(i % 3);

        assert_int_equal(write_to(&cluster, gid, 1, i + 1, KV_PUT, key_in(&cluster, S, 0), "v"),
                         ST_OK);
        assert_true(kv_sm_version(sm_of(&cluster, gid), S) > last);
        last = kv_sm_version(sm_of(&cluster, gid), S);
        give(&cluster, S, 1 + (uint32_t)((i + 1) % 3));
        settle(&cluster);
    }
    cluster_fini(&cluster);
}

/* ---- Pieces -----------------------------------------------------------------------------------
 */

/* The whole shard as text, read in pieces of that size from cursor to cursor. */
static void read_all(struct cluster *cluster, size_t replica, uint32_t piece_bytes,
                     struct buf *entries, struct kv_piece_end *end, struct buf *memory)
{
    struct kv_piece_source source = kv_sm_piece_source(cluster->groups[A].replicas[replica].sm, S);
    struct buf cursor = {0};

    for (int i = 0; i < 1000; i++) {
        struct kv_piece piece;

        assert_int_equal(kv_piece_read(&source, buf_slice(&cursor), piece_bytes, &piece), ST_OK);
        buf_fini(&cursor);
        if (piece.kind == PROTO_PIECE_END) {
            buf_put_slice(memory, buf_slice(&piece.body));
            assert_true(kv_piece_end_decode(buf_slice(memory), end));
            assert_int_equal(piece.cursor.len, 0);
            kv_piece_fini(&piece);
            return;
        }
        assert_true(kv_piece_body_is_valid((uint8_t)piece.kind, buf_slice(&piece.body)));
        assert_true(piece.body.len <= piece_bytes || piece_bytes < 300);
        buf_put_slice(entries, buf_slice(&piece.body));
        cursor = buf_take(&piece.cursor);
        kv_piece_fini(&piece);
    }
    fail();
}

static void freeze_with_data(struct cluster *cluster)
{
    struct kv_command freeze = {.kind = KV_COMMAND_FREEZE, .shard = S, .num = 2};

    cluster_init(cluster);
    give(cluster, S, A);
    write_data(cluster, A, S);
    give(cluster, S, B);
    assert_int_equal(apply(cluster, A, &freeze), ST_OK);
}

static void any_size_of_piece_and_any_replica_gives_the_same_shard(void **state)
{
    struct cluster cluster;
    struct buf expected = {0}, memory = {0};
    struct kv_piece_end first, end;

    (void)state;
    freeze_with_data(&cluster);
    read_all(&cluster, 0, PROTO_MAX_CHUNK, &expected, &first, &memory);
    assert_int_equal(first.records.count, 13);
    assert_int_equal(first.sessions.count, 4);
    assert_int_equal(first.version, 13);
    for (uint32_t size = 1; size < 2000; size += 7) {
        struct buf entries = {0}, end_memory = {0};

        read_all(&cluster, size % 2, size, &entries, &end, &end_memory);
        assert_true(slice_equal(buf_slice(&entries), buf_slice(&expected)));
        assert_true(shard_sum_equal(&first.records, &end.records));
        assert_true(shard_sum_equal(&first.sessions, &end.sessions));
        buf_fini(&entries);
        buf_fini(&end_memory);
    }
    buf_fini(&expected);
    buf_fini(&memory);
    cluster_fini(&cluster);
}

static void a_cursor_that_is_none_is_refused(void **state)
{
    struct cluster cluster;
    struct kv_piece_source source;
    struct kv_piece piece;
    struct buf cursor = {0};

    (void)state;
    freeze_with_data(&cluster);
    source = kv_sm_piece_source(sm_of(&cluster, A), S);
    assert_int_equal(kv_piece_read(&source, slice_of(NULL, 0), 100, &piece), ST_OK);
    cursor = buf_take(&piece.cursor);
    kv_piece_fini(&piece);
    for (size_t len = 1; len < cursor.len; len++) {
        assert_int_equal(kv_piece_read(&source, slice_of(cursor.data, len), 100, &piece),
                         ST_INVALID);
    }
    cursor.data[0]++;
    assert_int_equal(kv_piece_read(&source, buf_slice(&cursor), 100, &piece), ST_INVALID);
    cursor.data[0]--;
    cursor.data[1] = 9;
    assert_int_equal(kv_piece_read(&source, buf_slice(&cursor), 100, &piece), ST_INVALID);
    buf_fini(&cursor);
    cluster_fini(&cluster);
}

static void an_empty_shard_is_only_an_end(void **state)
{
    struct cluster cluster;
    struct kv_command freeze = {.kind = KV_COMMAND_FREEZE, .shard = S, .num = 2};
    struct kv_piece_source source;
    struct kv_piece piece;

    (void)state;
    cluster_init(&cluster);
    give(&cluster, S, A);
    give(&cluster, S, B);
    assert_int_equal(apply(&cluster, A, &freeze), ST_OK);
    source = kv_sm_piece_source(sm_of(&cluster, A), S);
    assert_int_equal(kv_piece_read(&source, slice_of(NULL, 0), 100, &piece), ST_OK);
    assert_int_equal(piece.kind, PROTO_PIECE_END);
    kv_piece_fini(&piece);
    settle(&cluster);
    assert_int_equal(write_to(&cluster, B, 1, 1, KV_PUT, key_in(&cluster, S, 0), "v"), ST_OK);
    cluster_fini(&cluster);
}

/* ---- Copies that are not what was sent --------------------------------------------------------
 */

/* The command that was applied last; its slices point into the history. */
static struct kv_command decode_last(struct cluster *cluster)
{
    struct applied *last = &cluster->history[cluster->n_history - 1];
    struct kv_command command;

    assert_int_equal(kv_command_decode(buf_slice(&last->bytes), &command), ST_OK);
    return command;
}

static void a_copy_that_lost_an_entry_is_thrown_away_and_copied_again(void **state)
{
    struct cluster cluster;
    struct kv_command command, damaged;
    uint64_t range;

    (void)state;
    freeze_with_data(&cluster);
    cluster.piece_bytes = 500;
    assert_true(step(&cluster)); /* the first piece */
    command = decode_last(&cluster);
    assert_int_equal(command.kind, KV_COMMAND_CHUNK);
    /* A second copy begins anew, and its first piece lacks everything but the first entry. */
    damaged = command;
    damaged.chunk.copy_id = 999;
    damaged.chunk.body.len = 4 + get_u32(command.chunk.body.data);
    damaged.chunk.body.len += 4 + get_u32(command.chunk.body.data + damaged.chunk.body.len);
    assert_true(damaged.chunk.body.len < command.chunk.body.len);
    assert_int_equal(apply(&cluster, B, &damaged), ST_OK);
    range = kv_sm_shard(sm_of(&cluster, B), S)->copy.range;
    while (kv_sm_shard(sm_of(&cluster, B), S)->copy.copy_id == 999) {
        struct kv_sm *taker = sm_of(&cluster, B);
        const struct shard_copy *copy = &kv_sm_shard(taker, S)->copy;
        struct kv_piece_source source = kv_sm_piece_source(sm_of(&cluster, A), S);
        struct kv_piece_end end;
        struct kv_piece piece;

        assert_int_equal(kv_piece_read(&source, buf_slice(&copy->cursor), 1000, &piece), ST_OK);
        command = (struct kv_command){.shard = S, .num = 2};
        if (piece.kind == PROTO_PIECE_END) {
            assert_true(kv_piece_end_decode(buf_slice(&piece.body), &end));
            command.kind = KV_COMMAND_INSTALL;
            command.install.end =
                (struct shard_end){999, copy->next_piece, end.records, end.sessions, end.epoch};
            assert_int_equal(apply(&cluster, B, &command), ST_CORRUPT);
        } else {
            command.kind = KV_COMMAND_CHUNK;
            command.chunk.copy_id = 999;
            command.chunk.piece = copy->next_piece;
            command.chunk.kind = (uint8_t)piece.kind;
            command.chunk.body = buf_slice(&piece.body);
            command.chunk.cursor = buf_slice(&piece.cursor);
            assert_int_equal(apply(&cluster, B, &command), ST_OK);
        }
        kv_piece_fini(&piece);
    }
    assert_int_equal(kv_sm_shard(sm_of(&cluster, B), S)->state, SHARD_ABSENT);
    settle(&cluster);
    assert_true(kv_sm_shard(sm_of(&cluster, B), S)->range > range);
    check_data(&cluster, B, S);
    cluster_fini(&cluster);
}

static void a_malformed_piece_changes_nothing(void **state)
{
    struct cluster cluster;
    struct kv_command command;
    uint64_t before;

    (void)state;
    freeze_with_data(&cluster);
    assert_true(step(&cluster));
    command = decode_last(&cluster);
    before = group_sum(&cluster, B);
    command.chunk.piece = 1;
    command.chunk.body.len--;
    assert_int_equal(apply(&cluster, B, &command), ST_MALFORMED);
    command.chunk.body.len = 0;
    assert_int_equal(apply(&cluster, B, &command), ST_MALFORMED);
    command.chunk.kind = PROTO_PIECE_END;
    assert_int_equal(apply(&cluster, B, &command), ST_MALFORMED);
    command.shard = TWINS_SHARDS;
    assert_int_equal(apply(&cluster, B, &command), ST_INVALID);
    assert_true(group_sum(&cluster, B) == before);
    settle(&cluster);
    check_data(&cluster, B, S);
    cluster_fini(&cluster);
}

static void a_group_is_remembered_while_a_shard_needs_it(void **state)
{
    struct cluster cluster;

    (void)state;
    cluster_init(&cluster);
    give(&cluster, S, A);
    write_data(&cluster, A, S);
    give(&cluster, S, B);
    /* A leaves and is gone from the configuration, before B has the shard. */
    config_give(&cluster, S, B);
    memmove(cluster.config.groups, cluster.config.groups + 1,
            (TWINS_GROUPS - 1) * sizeof(cluster.config.groups[0]));
    cluster.config.n_groups--;
    assert_int_equal(adopt(&cluster, B), ST_OK);
    assert_non_null(kv_sm_find_group(sm_of(&cluster, B), A));
    settle(&cluster);
    check_data(&cluster, B, S);
    config_give(&cluster, S, B);
    assert_int_equal(adopt(&cluster, B), ST_OK);
    assert_null(kv_sm_find_group(sm_of(&cluster, B), A));
    restore_all(&cluster);
    assert_null(kv_sm_find_group(sm_of(&cluster, B), A));
    assert_non_null(kv_sm_find_group(sm_of(&cluster, B), C));
    cluster_fini(&cluster);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_first_init_wins),
        cmocka_unit_test(configurations_are_adopted_one_by_one),
        cmocka_unit_test(a_new_group_begins_at_its_join_and_nowhere_else),
        cmocka_unit_test(a_configuration_of_another_cluster_or_incarnation_is_refused),
        cmocka_unit_test(an_unknown_command_stops_the_replica),
        cmocka_unit_test(a_repeated_write_is_answered_and_not_applied_again),
        cmocka_unit_test(a_mismatch_is_a_kept_result_too),
        cmocka_unit_test(wrong_group_leaves_sessions_untouched_and_tells_the_owner),
        cmocka_unit_test(a_key_of_another_shard_is_invalid_and_touches_nothing),
        cmocka_unit_test(a_full_session_table_raises_the_stamp_floor),
        cmocka_unit_test(a_shard_moves_with_its_sessions),
        cmocka_unit_test(every_story_ends_well),
        cmocka_unit_test(every_story_ends_well_whatever_is_repeated_and_wherever_leaders_change),
        cmocka_unit_test(a_replica_that_restores_after_every_command_stays_equal),
        cmocka_unit_test(a_dead_source_holds_up_only_its_own_shard),
        cmocka_unit_test(a_dead_source_is_released_when_it_returns),
        cmocka_unit_test(other_shards_of_the_same_groups_are_not_touched),
        cmocka_unit_test(versions_never_go_back_through_moves),
        cmocka_unit_test(any_size_of_piece_and_any_replica_gives_the_same_shard),
        cmocka_unit_test(a_cursor_that_is_none_is_refused),
        cmocka_unit_test(an_empty_shard_is_only_an_end),
        cmocka_unit_test(a_copy_that_lost_an_entry_is_thrown_away_and_copied_again),
        cmocka_unit_test(a_malformed_piece_changes_nothing),
        cmocka_unit_test(a_group_is_remembered_while_a_shard_needs_it),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
