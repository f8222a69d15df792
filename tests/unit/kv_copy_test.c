/* Copies of a shard while the source goes on writing and anything happens in between; and what
 * becomes of a copy that is not what was sent. */
#include "raft/util/rng.h"
#include "shardkv/kv_sm_internal.h"
#include "tests/unit/kv_copy_story.h"

/* ---- Anything at any time ---- */

#define POOL 40 /* keys */

struct chaos {
    struct cluster cluster;
    struct rng rng;
    uint64_t seqs[256];
    struct buf frozen; /* what A froze */
    bool is_frozen, is_compared, is_begun_anew;
};

static void random_write(struct chaos *chaos)
{
    struct cluster *cluster = &chaos->cluster;
    uint8_t client = (uint8_t)(1 + rng_below(&chaos->rng, 20));
    char key[32], other[32], value[64];
    struct kv_command command;
    const enum kv_operation_type types[] = {KV_PUT, KV_PUT, KV_APPEND, KV_DELETE};

    strcpy(key, key_in(cluster, S, (unsigned)rng_below(&chaos->rng, POOL)));
    strcpy(other, key_in(cluster, S, (unsigned)rng_below(&chaos->rng, POOL)));
    memset(value, 'a' + (int)rng_below(&chaos->rng, 26), sizeof(value));
    value[rng_below(&chaos->rng, sizeof(value))] = '\0';
    value[sizeof(value) - 1] = '\0';
    command = write_of(client, ++chaos->seqs[client], types[rng_below(&chaos->rng, 4)], key, value);
    if (command.write.operations[0].type == KV_DELETE) {
        command.write.operations[0].value = slice_of(NULL, 0);
    }
    command.write.session.issued_at = cluster->stamp;
    if (rng_below(&chaos->rng, 4) == 0) { /* a second key in the same write */
        command.write.operations[command.write.n_operations++] =
            (struct kv_operation){KV_PUT, slice_text(other), slice_text(value)};
    }
    if (rng_below(&chaos->rng, 4) == 0) { /* if it was not there */
        command.write.n_conditions = 1;
        command.write.conditions[0] =
            (struct kv_condition){KV_IF_ABSENT, slice_text(other), slice_text("")};
    }
    (void)apply(cluster, A, &command); /* refused once A does not serve any more */
}

static void random_event(struct chaos *chaos)
{
    struct cluster *cluster = &chaos->cluster;
    uint32_t gid = rng_below(&chaos->rng, 2) == 0 ? A : B;
    size_t i = rng_below(&chaos->rng, 2);

    switch (rng_below(&chaos->rng, 40)) {
    case 0: /* another replica serves the next piece */
        cluster->reader = 1 - cluster->reader;
        break;
    case 1:
    case 2:
        twin_restart(&cluster->groups[gid].replicas[i]);
        break;
    case 3: /* another leader of the taker, which does not go on with the copy */
        if (rng_below(&chaos->rng, 4) == 0) {
            cluster->wanted[B][S] = ++cluster->copy_id;
        }
        break;
    case 4: /* nobody should, but if: what is under way is then broken, and noticed */
        if (rng_below(&chaos->rng, 2) == 0 &&
            apply_copy_step(cluster, A, S, 2, KV_COMMAND_COPY_BEGIN, ++cluster->copy_id) == ST_OK) {
            chaos->is_begun_anew = true;
        }
        break;
    case 5:
        cluster->piece_bytes = 1 + (uint32_t)rng_below(&chaos->rng, 1000);
        break;
    default:
        break;
    }
}

static void look(struct chaos *chaos)
{
    struct cluster *cluster = &chaos->cluster;
    const struct shard *source = kv_sm_shard(sm_of(cluster, A), S);
    const struct shard *taker = kv_sm_shard(sm_of(cluster, B), S);

    check_sum(cluster);
    if (source->outgoing.copy_id != 0) {
        assert_true(change_log_entries(cluster) <= POOL + 13 + 20 + 4);
    }
    if (source->state == SHARD_FROZEN && !chaos->is_frozen) {
        chaos->is_frozen = true;
        chaos->frozen = dump(cluster, A);
    }
    if (taker->state == SHARD_SERVING && !chaos->is_compared) {
        struct buf arrived = dump(cluster, B);

        assert_true(chaos->is_frozen);
        assert_true(slice_equal(buf_slice(&chaos->frozen), buf_slice(&arrived)));
        chaos->is_compared = true;
        buf_fini(&arrived);
    }
}

static void a_copy_is_what_the_source_froze_whatever_happens_meanwhile(void **state)
{
    unsigned with_changes = 0, with_broken = 0;

    (void)state;
    for (uint64_t seed = 1; seed <= 300; seed++) {
        struct chaos chaos = {0};
        uint32_t writes;
        int steps = 0;

        rng_init(&chaos.rng, seed);
        begin_move(&chaos.cluster, seed % 3 == 0 ? 5 : 100); /* few: clients are evicted */
        memset(chaos.seqs, 0, sizeof(chaos.seqs));
        for (int client = 1; client <= 4; client++) {
            chaos.seqs[client] = 4; /* what write_data used */
        }
        chaos.cluster.piece_bytes = 1 + (uint32_t)rng_below(&chaos.rng, 1000);
        writes = (uint32_t)rng_below(&chaos.rng, 4);
        do {
            for (uint32_t n = (uint32_t)rng_below(&chaos.rng, 1 + writes); n > 0; n--) {
                random_write(&chaos);
                look(&chaos);
            }
            random_event(&chaos);
            look(&chaos);
            assert_true(++steps < 20000);
        } while (step(&chaos.cluster));
        look(&chaos);
        assert_true(chaos.is_compared);
        assert_true(chaos.cluster.n_broken == 0 || chaos.is_begun_anew);
        with_broken += chaos.cluster.n_broken > 0;
        with_changes += kv_sm_version(sm_of(&chaos.cluster, B), S) > 13;
        buf_fini(&chaos.frozen);
        cluster_fini(&chaos.cluster);
    }
    assert_true(with_changes > 200);
    assert_true(with_broken > 0);
}

/* ---- Copies that are not what was sent ---- */

/* Damages what has at least one entry, once; how is `damage_kind`. */
static struct {
    enum { FLIP_VALUE, DROP_ENTRY, FORGET_CHANGE, FORGET_SESSION, FORGET_REMOVAL } kind;
    bool done;
} damage;

static bool is_victim(enum kv_entry_what what)
{
    switch (damage.kind) {
    case FLIP_VALUE:
    case DROP_ENTRY:
        return what == KV_ENTRY_RECORD;
    case FORGET_CHANGE:
        return what == KV_ENTRY_CHANGED;
    case FORGET_SESSION:
        return what == KV_ENTRY_SESSION;
    case FORGET_REMOVAL:
        return what == KV_ENTRY_REMOVED;
    }
    return false;
}

static uint8_t damaged_body[100000];

static void do_damage(struct cluster *cluster, struct kv_command *command)
{
    struct slice body = command->arrival.body;
    struct reader reader = reader_of(body);
    struct kv_entry entry;
    size_t begin = 0;

    (void)cluster;
    while (!damage.done && kv_entry_next(&reader, &entry)) {
        size_t end = body.len - reader_left(&reader);

        if (is_victim(entry.what) &&
            (damage.kind != FLIP_VALUE || entry.value.len > KV_RECORD_HEADER_BYTES)) {
            damage.done = true;
            assert_true(body.len <= sizeof(damaged_body));
            memcpy(damaged_body, body.data, body.len);
            if (damage.kind == FLIP_VALUE) {
                damaged_body[end - 1] ^= 1;
            } else {
                memmove(damaged_body + begin, damaged_body + end, body.len - end);
                body.len -= end - begin;
            }
            command->arrival.body = slice_of(damaged_body, body.len);
        }
        begin = end;
    }
}

static void what_is_not_as_it_was_sent_is_thrown_away_and_copied_again(void **state)
{
    (void)state;
    for (int kind = FLIP_VALUE; kind <= FORGET_REMOVAL; kind++) {
        for (uint32_t bytes = 64; bytes < 400; bytes += 60) {
            struct cluster cluster;
            struct buf before, after;
            uint64_t range;
            char first[32], second[32];

            damage.kind = kind;
            damage.done = false;
            begin_move(&cluster, 100);
            ordered_key(&cluster, 0, first);
            ordered_key(&cluster, 1, second);
            cluster.piece_bytes = bytes;
            while (kv_sm_shard(sm_of(&cluster, B), S)->copy.next_piece < 2) {
                assert_true(step(&cluster));
            }
            range = kv_sm_shard(sm_of(&cluster, B), S)->copy.range;
            assert_int_equal(write_to(&cluster, A, 7, 1, KV_PUT, first, "changed"), ST_OK);
            assert_int_equal(write_to(&cluster, A, 7, 2, KV_DELETE, second, ""), ST_OK);
            cluster.damage = do_damage;
            while (cluster.n_broken == 0) {
                assert_true(step(&cluster));
            }
            assert_true(damage.done);
            assert_int_equal(kv_sm_shard(sm_of(&cluster, B), S)->state, SHARD_ABSENT);
            assert_int_equal(kv_sm_shard(sm_of(&cluster, B), S)->copy.range, 0);
            assert_int_equal(kv_sm_shard(sm_of(&cluster, A), S)->state, SHARD_FROZEN);
            before = dump(&cluster, A);
            settle(&cluster);
            after = dump(&cluster, B);
            assert_true(slice_equal(buf_slice(&before), buf_slice(&after)));
            assert_true(kv_sm_shard(sm_of(&cluster, B), S)->range > range);
            assert_int_equal(cluster.n_broken, 1);
            buf_fini(&before);
            buf_fini(&after);
            cluster_fini(&cluster);
        }
    }
}

/* The command that was applied last; its slices point into the history. */
static struct kv_command decode_last(struct cluster *cluster)
{
    struct applied *last = &cluster->history[cluster->n_history - 1];
    struct kv_command command;

    assert_int_equal(kv_command_decode(buf_slice(&last->bytes), &command), ST_OK);
    return command;
}

static void a_malformed_piece_changes_nothing(void **state)
{
    struct cluster cluster;
    struct kv_command command;
    uint8_t foreign[] = {9, 1, 0, 0, 0, 'k'};
    uint64_t before;

    (void)state;
    freeze_with_data(&cluster);
    assert_true(step(&cluster));
    command = decode_last(&cluster);
    assert_int_equal(command.kind, KV_COMMAND_CHUNK);
    before = group_sum(&cluster, B);
    command.arrival.piece.number = 1;
    command.arrival.piece.begin = command.arrival.cursor;
    command.kind = KV_COMMAND_INSTALL; /* from a group that nobody knows, or from itself */
    command.arrival.end.gid = 4711;
    assert_int_equal(apply(&cluster, B, &command), ST_MALFORMED);
    command.arrival.end.gid = B;
    assert_int_equal(apply(&cluster, B, &command), ST_MALFORMED);
    command.kind = KV_COMMAND_CHUNK;
    command.arrival.body.len--;
    assert_int_equal(apply(&cluster, B, &command), ST_MALFORMED);
    command.arrival.body = slice_of(foreign, sizeof(foreign));
    assert_int_equal(apply(&cluster, B, &command), ST_MALFORMED);
    command.arrival.body.len = 0;
    command.arrival.cursor.len = 0;
    assert_int_equal(apply(&cluster, B, &command), ST_MALFORMED);
    command.shard = TWINS_SHARDS;
    assert_int_equal(apply(&cluster, B, &command), ST_INVALID);
    assert_true(group_sum(&cluster, B) == before);
    settle(&cluster);
    check_data(&cluster, B, S);
    cluster_fini(&cluster);
}

/* What is noted is known by heart as long as something can be: the taker may need long, and the
 * shard be one of many. */
static void nothing_is_known_by_heart_once_it_is_frozen(void **state)
{
    struct cluster cluster;
    struct kv_shard *shard;

    (void)state;
    begin_move(&cluster, 100);
    shard = &sm_of(&cluster, A)->shards[S];
    assert_null(shard->noted);
    while (shard->life.state == SHARD_SERVING) {
        assert_true(step(&cluster));
        assert_true((shard->noted != NULL) == (shard->life.state == SHARD_SERVING));
    }
    assert_true(shard->life.outgoing.copy_id != 0);
    twin_restart(&cluster.groups[A].replicas[0]);
    shard = &sm_of(&cluster, A)->shards[S];
    assert_null(shard->noted);
    cluster.was_broken = true; /* a copy of what is frozen begins anew */
    cluster.wanted[B][S] = ++cluster.copy_id;
    assert_true(step(&cluster));
    assert_int_equal(shard->life.outgoing.copy_id, cluster.copy_id);
    assert_null(shard->noted);
    settle(&cluster);
    check_data(&cluster, B, S);
    cluster_fini(&cluster);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_copy_is_what_the_source_froze_whatever_happens_meanwhile),
        cmocka_unit_test(what_is_not_as_it_was_sent_is_thrown_away_and_copied_again),
        cmocka_unit_test(a_malformed_piece_changes_nothing),
        cmocka_unit_test(nothing_is_known_by_heart_once_it_is_frozen),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
