/* Unit tests of the controller's encodings: commands, results, owners' records and differences of
 * configurations survive a round trip, and any truncation or flipped bit without harm. */
#include "tests/cmocka.h"

#include "raft/util/mem.h"
#include "raft/util/rng.h"
#include "shardctrler/config_history.h"
#include "shardctrler/ctrler_command.h"
#include "shardctrler/shard_owners.h"
#include "tests/sim/ctrler_machine.h"

static struct session_key some_session(void)
{
    struct session_key key = {.seq = 5, .acked_seq = 3, .issued_at = 0x1122334455667788};

    memset(key.client.bytes, 0xc1, sizeof(key.client.bytes));
    return key;
}

#define N_SAMPLES 7

/* One command of each kind, its arrays static to the caller. */
struct samples {
    struct proto_join_group groups[3];
    uint32_t gids[4];
    struct proto_confirm confirms[2];
    struct ctrler_command commands[N_SAMPLES];
};

static void make_samples(struct samples *s)
{
    *s = (struct samples){
        .groups = {{.gid = 1, .incarnation = 99}, {.gid = 0x7fffffff}, {.gid = 3}},
        .gids = {4, 3, 2, 1},
        .confirms = {{15, 1}, {16383, UINT64_MAX}},
    };
    for (int i = 0; i < 3; i++) {
        s->groups[i].replicas = ctrler_machine_spec(s->groups[i].gid);
    }
    s->commands[0] = (struct ctrler_command){.kind = CTRLER_INIT, .n_shards = 256};
    memset(s->commands[0].cluster_id, 0xee, 16);
    s->commands[1] = (struct ctrler_command){.kind = CTRLER_JOIN, .n = 3, .groups = s->groups};
    s->commands[2] = (struct ctrler_command){.kind = CTRLER_LEAVE, .n = 4, .gids = s->gids};
    s->commands[3] = (struct ctrler_command){.kind = CTRLER_MOVE, .shard = 77, .gid = 5};
    s->commands[4] = (struct ctrler_command){
        .kind = CTRLER_CONFIRM, .gid = 9, .incarnation = 8, .n = 2, .confirms = s->confirms};
    s->commands[5] = (struct ctrler_command){.kind = CTRLER_BIND, .gid = 9, .incarnation = 8};
    s->commands[6] = (struct ctrler_command){.kind = CTRLER_PAUSE, .paused = true};
    for (int i = 0; i < N_SAMPLES; i++) {
        if (ctrler_command_has_session(s->commands[i].kind)) {
            s->commands[i].session = some_session();
        }
    }
}

static void commands_survive_a_round_trip(void **state)
{
    struct samples samples;

    (void)state;
    make_samples(&samples);
    for (int i = 0; i < N_SAMPLES; i++) {
        struct ctrler_command decoded;
        struct buf once = {0}, twice = {0};

        ctrler_command_encode(&samples.commands[i], &once);
        assert_int_equal(ctrler_command_decode(buf_slice(&once), &decoded), ST_OK);
        assert_int_equal(decoded.kind, samples.commands[i].kind);
        assert_int_equal(decoded.n, samples.commands[i].n);
        ctrler_command_encode(&decoded, &twice);
        assert_true(slice_equal(buf_slice(&once), buf_slice(&twice)));
        ctrler_command_fini(&decoded);
        buf_fini(&once);
        buf_fini(&twice);
    }
}

/* The bytes of a log outlive the program: they are written down here. */
static void the_format_of_a_command_is_for_good(void **state)
{
    const uint8_t expected[] = {1, 6, 9, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0};
    struct ctrler_command bind = {.kind = CTRLER_BIND, .gid = 9, .incarnation = 8};
    struct ctrler_command move = {.kind = CTRLER_MOVE, .shard = 77, .gid = 5};
    struct ctrler_command pause = {.kind = CTRLER_PAUSE, .paused = true};
    struct ctrler_command decoded;
    struct buf bytes = {0};

    (void)state;
    ctrler_command_encode(&bind, &bytes);
    assert_int_equal(bytes.len, sizeof(expected));
    assert_memory_equal(bytes.data, expected, sizeof(expected));
    buf_clear(&bytes);
    ctrler_command_encode(&move, &bytes);
    assert_int_equal(bytes.len, 2 + SESSION_KEY_BYTES + 8);
    assert_int_equal(bytes.data[1], 4);
    assert_int_equal(bytes.data[2 + SESSION_KEY_BYTES], 77);
    buf_clear(&bytes);
    ctrler_command_encode(&pause, &bytes);
    assert_int_equal(bytes.len, 2 + SESSION_KEY_BYTES + 1);
    assert_int_equal(bytes.data[1], 7);
    assert_int_equal(bytes.data[2 + SESSION_KEY_BYTES], 1);
    bytes.data[2 + SESSION_KEY_BYTES] = 2; /* neither on nor off */
    assert_int_equal(ctrler_command_decode(buf_slice(&bytes), &decoded), ST_CORRUPT);
    buf_fini(&bytes);
}

static void a_truncated_command_is_corrupt_at_every_length(void **state)
{
    struct samples samples;

    (void)state;
    make_samples(&samples);
    for (int i = 0; i < N_SAMPLES; i++) {
        struct ctrler_command decoded;
        struct buf bytes = {0};

        ctrler_command_encode(&samples.commands[i], &bytes);
        for (size_t len = 0; len < bytes.len; len++) {
            uint8_t *exact = mem_copy(bytes.data, len); /* so that a sanitizer sees an overrun */

            assert_int_equal(ctrler_command_decode(slice_of(exact, len), &decoded), ST_CORRUPT);
            mem_free(exact);
        }
        buf_put_u8(&bytes, 0);
        assert_int_equal(ctrler_command_decode(buf_slice(&bytes), &decoded), ST_CORRUPT);
        buf_fini(&bytes);
    }
}

static void flipped_bits_never_do_harm(void **state)
{
    struct ctrler_machine machine;
    struct samples samples;
    struct rng rng;

    (void)state;
    rng_init(&rng, 31);
    make_samples(&samples);
    ctrler_machine_init(&machine, 16);
    for (int round = 0; round < 20000; round++) {
        struct buf bytes = {0};
        struct ctrler_result result;
        enum status status;

        ctrler_command_encode(&samples.commands[round % N_SAMPLES], &bytes);
        for (uint64_t flips = 1 + rng_below(&rng, 3); flips > 0; flips--) {
            bytes.data[rng_below(&rng, bytes.len)] ^= (uint8_t)(1u << rng_below(&rng, 8));
        }
        /* Decoded or not: it is applied or refused, and the machine stays whole. */
        status = ctrler_machine_apply_bytes(&machine, buf_slice(&bytes), &result);
        assert_true(status == ST_OK || status == ST_CORRUPT || status == ST_VERSION);
        buf_fini(&bytes);
    }
    assert_int_equal(ctrler_machine_restart(&machine), ST_OK);
    ctrler_machine_fini(&machine);
}

static void counts_that_the_bytes_cannot_hold_are_refused_before_allocating(void **state)
{
    struct ctrler_command decoded;
    struct buf bytes = {0};
    struct session_key key = some_session();

    (void)state;
    buf_put_u8(&bytes, 1);
    buf_put_u8(&bytes, CTRLER_CONFIRM);
    buf_put_u32(&bytes, 1);
    buf_put_u64(&bytes, 1);
    buf_put_u32(&bytes, UINT32_MAX);
    assert_int_equal(ctrler_command_decode(buf_slice(&bytes), &decoded), ST_CORRUPT);
    buf_clear(&bytes);
    buf_put_u8(&bytes, 1);
    buf_put_u8(&bytes, CTRLER_LEAVE);
    session_key_encode(&key, &bytes);
    buf_put_u16(&bytes, PROTO_MAX_GROUPS + 1);
    for (int i = 0; i <= PROTO_MAX_GROUPS; i++) {
        buf_put_u32(&bytes, 1);
    }
    assert_int_equal(ctrler_command_decode(buf_slice(&bytes), &decoded), ST_CORRUPT);
    buf_fini(&bytes);
}

static void results_survive_and_speak(void **state)
{
    struct ctrler_result result = {
        .status = ST_CONFLICT, .num = 12, .reason = CTRLER_REASON_SHARED_URL, .a = 3, .b = 7};
    struct ctrler_result decoded;
    struct buf bytes = {0}, text = {0};

    (void)state;
    ctrler_result_encode(&result, &bytes);
    assert_true(bytes.len <= SESSION_MAX_RESULT);
    assert_true(ctrler_result_decode(buf_slice(&bytes), &decoded));
    assert_int_equal(decoded.status, ST_CONFLICT);
    assert_int_equal(decoded.num, 12);
    assert_int_equal(decoded.reason, CTRLER_REASON_SHARED_URL);
    assert_int_equal(decoded.a, 3);
    assert_int_equal(decoded.b, 7);
    for (size_t len = 0; len < bytes.len; len++) {
        assert_false(ctrler_result_decode(slice_of(bytes.data, len), &decoded));
    }
    ctrler_result_text(&result, &text);
    assert_true(slice_equal(buf_slice(&text), slice_text("groups 3 and 7 share a replica's URL")));
    buf_fini(&bytes);
    buf_fini(&text);
}

static void every_reason_has_a_clause(void **state)
{
    (void)state;
    for (int reason = 1; reason <= CTRLER_REASON_TOO_MANY_LISTED; reason++) {
        struct ctrler_result result = {.reason = (enum ctrler_reason)reason, .a = 4711, .b = 815};
        struct buf text = {0};

        ctrler_result_text(&result, &text);
        assert_true(text.len > 10);
        assert_true(text.data[text.len - 1] != '.');
        buf_fini(&text);
    }
}

static void owners_records_survive_truncation_and_flips(void **state)
{
    struct shard_owners owners;
    struct shard_owner decoded = {0};
    struct buf bytes = {0};
    struct rng rng;

    (void)state;
    rng_init(&rng, 4);
    shard_owners_init(&owners, 1);
    shard_owners_claim(&owners, 0, 1, 3);
    shard_owners_confirm(&owners, 0, 1, 3);
    shard_owners_claim(&owners, 0, 2, 5);
    shard_owners_claim(&owners, 0, 1, 9);
    shard_owner_encode(&owners.shards[0], &bytes);
    assert_true(shard_owner_decode(buf_slice(&bytes), &decoded));
    assert_int_equal(decoded.gid, 1);
    assert_int_equal(decoded.epoch, 3);
    assert_int_equal(decoded.n_claims, 2);
    assert_int_equal(decoded.claims[1].num, 9);
    for (size_t len = 0; len < bytes.len; len++) {
        assert_false(shard_owner_decode(slice_of(bytes.data, len), &decoded));
        assert_null(decoded.claims);
    }
    for (int i = 0; i < 2000; i++) {
        size_t at = rng_below(&rng, bytes.len);
        uint8_t bit = (uint8_t)(1u << rng_below(&rng, 8));

        bytes.data[at] ^= bit;
        shard_owner_decode(buf_slice(&bytes), &decoded);
        bytes.data[at] ^= bit;
    }
    shard_owner_decode(slice_of(NULL, 0), &decoded);
    shard_owners_fini(&owners);
    buf_fini(&bytes);
}

/* A shard that goes to and fro without anybody confirming keeps its table bounded, and everybody
 * who may hold it is still known. */
static void repeated_claims_stay_bounded(void **state)
{
    struct shard_owners owners;
    size_t n;
    uint32_t *holders;

    (void)state;
    shard_owners_init(&owners, 1);
    for (config_num num = 1; num <= 5000; num++) {
        shard_owners_claim(&owners, 0, num <= 3 ? 100 + (uint32_t)num : 1 + num % 2, num);
    }
    assert_in_range(owners.shards[0].n_claims, 5, SHARD_OWNERS_MAX_REPEATED);
    holders = shard_owners_holders(&owners, &n);
    assert_int_equal(n, 5);
    assert_true(shard_owners_is_holder(holders, n, 102));
    assert_true(shard_owners_is_holder(holders, n, 1));
    assert_false(shard_owners_is_holder(holders, n, 3));
    mem_free(holders);
    /* The last word counts all the same. */
    assert_int_equal(shard_owners_judge(&owners, 0, 1, 5000), SHARD_CONFIRM_NEWS);
    shard_owners_confirm(&owners, 0, 1, 5000);
    assert_int_equal(owners.shards[0].n_claims, 0);
    shard_owners_fini(&owners);
}

/* ---- Differences ---- */

static void add_group(struct shard_config *config, uint32_t gid, config_num joined_at)
{
    config->groups =
        mem_realloc(config->groups, (config->n_groups + 1) * sizeof(config->groups[0]));
    config->groups[config->n_groups++] = (struct config_group){
        .gid = gid, .member = true, .joined_at = joined_at, .replicas = ctrler_machine_spec(gid)};
}

/* Number 6: groups 1 and 2; number 7: group 1 gone, 2 no member, 3 new with some shards. */
static void make_pair(struct shard_config *six, struct shard_config *seven)
{
    shard_config_init(six, 16);
    shard_config_init(seven, 16);
    six->num = 6;
    seven->num = 7;
    seven->moves_paused = true;
    add_group(six, 1, 2);
    add_group(six, 2, 3);
    add_group(seven, 2, 3);
    seven->groups[0].member = false;
    add_group(seven, 3, 7);
    for (uint32_t s = 0; s < 16; s++) {
        six->shards[s] = s < 4 ? 0 : 2;
        six->from[s] = 2;
        seven->shards[s] = 3;
        seven->from[s] = 2;
    }
}

static void a_difference_turns_one_configuration_into_the_next(void **state)
{
    struct shard_config six, seven;
    struct buf difference = {0}, expected = {0}, got = {0};
    struct reader reader;

    (void)state;
    make_pair(&six, &seven);
    config_difference_encode(&six, &seven, &difference);
    shard_config_encode(&seven, &expected);
    assert_true(difference.len < expected.len);
    reader = reader_of(buf_slice(&difference));
    assert_true(config_difference_apply(&reader, &six));
    assert_true(reader_done(&reader));
    shard_config_encode(&six, &got);
    assert_true(slice_equal(buf_slice(&got), buf_slice(&expected)));
    buf_fini(&difference);
    buf_fini(&expected);
    buf_fini(&got);
    shard_config_fini(&six);
    shard_config_fini(&seven);
}

/* Records written before there was a pause: format 1, and a difference without its last byte. */
static void a_history_from_before_pauses_is_read(void **state)
{
    struct mem_state *disk = mem_state_create(0);
    struct io_state *io = mem_state_io(disk);
    struct config_history history = {.state = io, .kind = 2};
    struct shard_config zero, one, read;
    struct buf record = {0};
    uint8_t bytes[8] = {0};
    struct io_key key = {.kind = 2, .key = slice_of(bytes, 8)};

    (void)state;
    shard_config_init(&zero, 16);
    shard_config_copy(&one, &zero);
    one.num = 1;
    config_history_put(&history, NULL, &zero);
    config_history_put(&history, &zero, &one);
    for (bytes[7] = 0; bytes[7] < 2; bytes[7]++) {
        assert_int_equal(io->ops->get(io, key, &record), ST_OK);
        assert_int_equal(record.data[0], 2);
        record.data[0] = 1;
        if (bytes[7] == 0) {
            record.data[2] = 1; /* the whole configuration's own format */
        }
        io->ops->put(io, key, slice_of(record.data, record.len - 1));
        buf_clear(&record);
    }
    assert_int_equal(config_history_get(&history, 1, &read), ST_OK);
    assert_int_equal(read.num, 1);
    assert_false(read.moves_paused);
    shard_config_fini(&read);
    shard_config_fini(&zero);
    shard_config_fini(&one);
    buf_fini(&record);
    mem_state_destroy(&disk);
}

static void damaged_differences_are_refused_or_harmless(void **state)
{
    struct shard_config six, seven;
    struct buf difference = {0};
    struct rng rng;

    (void)state;
    rng_init(&rng, 6);
    make_pair(&six, &seven);
    config_difference_encode(&six, &seven, &difference);
    for (int round = 0; round < 5000; round++) {
        size_t len = (size_t)round < difference.len ? (size_t)round : difference.len;
        uint8_t *bytes = mem_copy(difference.data, len);
        struct reader reader = reader_of(slice_of(bytes, len));
        struct shard_config config;
        bool applied;

        if (len == difference.len) {
            bytes[rng_below(&rng, len)] ^= (uint8_t)(1u << rng_below(&rng, 8));
        }
        shard_config_copy(&config, &six);
        applied = config_difference_apply(&reader, &config);
        assert_false(applied && len < difference.len);
        shard_config_fini(&config);
        mem_free(bytes);
    }
    buf_fini(&difference);
    shard_config_fini(&six);
    shard_config_fini(&seven);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(commands_survive_a_round_trip),
        cmocka_unit_test(the_format_of_a_command_is_for_good),
        cmocka_unit_test(a_truncated_command_is_corrupt_at_every_length),
        cmocka_unit_test(flipped_bits_never_do_harm),
        cmocka_unit_test(counts_that_the_bytes_cannot_hold_are_refused_before_allocating),
        cmocka_unit_test(results_survive_and_speak),
        cmocka_unit_test(every_reason_has_a_clause),
        cmocka_unit_test(owners_records_survive_truncation_and_flips),
        cmocka_unit_test(repeated_claims_stay_bounded),
        cmocka_unit_test(a_difference_turns_one_configuration_into_the_next),
        cmocka_unit_test(a_history_from_before_pauses_is_read),
        cmocka_unit_test(damaged_differences_are_refused_or_harmless),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
