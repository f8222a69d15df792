/* The commands of a shard group's log: every kind survives its encoding, nothing damaged passes for
 * a command, and what is not known is told apart from what is broken. */
#include "raft/util/mem.h"
#include "raft/util/rng.h"
#include "shardkv/kv_command.h"
#include "tests/cmocka.h"

static struct kv_command chunk_command(void)
{
    struct kv_command command = {.kind = KV_COMMAND_CHUNK, .shard = 77, .num = 9};

    command.arrival.piece =
        (struct shard_piece){0x1122334455667788, 0x99aabbcc12, slice_text("begins here")};
    command.arrival.body = slice_text("some body");
    command.arrival.cursor = slice_text("some cursor");
    return command;
}

static struct kv_command install_command(void)
{
    struct kv_command command = {.kind = KV_COMMAND_INSTALL, .shard = 3, .num = 10};

    command.arrival.piece = (struct shard_piece){5, 6, slice_text("begins here")};
    command.arrival.body = slice_text("the last entries");
    command.arrival.end = (struct shard_end){
        .records = {1, 2, 3, 4}, .sessions = {5, 6, 7, 8}, .epoch = 9, .gid = 12};
    command.arrival.floor = 100;
    command.arrival.version = 200;
    return command;
}

static struct kv_command copy_command(enum kv_command_kind kind)
{
    struct kv_command command = {.kind = kind, .shard = 21, .num = 22};

    command.copy.copy_id = 0x8877665544332211;
    command.copy.from = slice_text(kind == KV_COMMAND_SWEEP ? "after this key" : "");
    command.copy.max_bytes = kind == KV_COMMAND_FREEZE ? 0 : 1234567;
    return command;
}

static struct kv_command write_command(void)
{
    struct kv_command command = {.kind = KV_COMMAND_WRITE};

    command.write.shard = 4;
    command.write.session.seq = 8;
    command.write.session.acked_seq = 7;
    command.write.session.issued_at = 6;
    command.write.n_conditions = 1;
    command.write.conditions[0] =
        (struct kv_condition){KV_IF_VALUE, slice_text("key"), slice_text("old")};
    command.write.n_operations = 1;
    command.write.operations[0] =
        (struct kv_operation){KV_PUT, slice_text("key"), slice_text("new")};
    return command;
}

static struct kv_command init_command(void)
{
    struct kv_command command = {.kind = KV_COMMAND_INIT};

    command.init.incarnation = 0xabcdef;
    memset(command.init.cluster_id, 7, sizeof(command.init.cluster_id));
    command.init.n_shards = 256;
    return command;
}

/* One of each kind, in the order of their numbers. */
#define N_KINDS KV_COMMAND_VOID
static void all_commands(struct kv_command commands[N_KINDS])
{
    commands[0] = init_command();
    commands[1] = (struct kv_command){.kind = KV_COMMAND_CONFIG, .config = slice_text("config")};
    commands[2] = write_command();
    commands[3] = copy_command(KV_COMMAND_FREEZE);
    commands[4] = chunk_command();
    commands[5] = install_command();
    commands[6] = (struct kv_command){.kind = KV_COMMAND_DROP, .shard = 3, .num = 4};
    commands[7] = (struct kv_command){.kind = KV_COMMAND_RELEASED, .shard = 5, .num = 6};
    commands[8] = copy_command(KV_COMMAND_COPY_BEGIN);
    commands[9] = copy_command(KV_COMMAND_SWEEP);
    commands[10] = (struct kv_command){.kind = KV_COMMAND_VOID, .shard = 7, .num = 8};
    for (size_t i = 0; i < N_KINDS; i++) {
        assert_int_equal(commands[i].kind, i + 1);
    }
}

static void every_kind_survives_its_encoding(void **state)
{
    struct kv_command commands[N_KINDS];

    (void)state;
    all_commands(commands);
    for (size_t i = 0; i < N_KINDS; i++) {
        struct buf bytes = {0}, again = {0};
        struct kv_command decoded;

        kv_command_encode(&commands[i], &bytes);
        assert_int_equal(kv_command_decode(buf_slice(&bytes), &decoded), ST_OK);
        assert_int_equal(decoded.kind, commands[i].kind);
        kv_command_encode(&decoded, &again);
        assert_true(slice_equal(buf_slice(&bytes), buf_slice(&again)));
        buf_fini(&bytes);
        buf_fini(&again);
    }
}

/* `bytes` must outlive what is decoded. */
static struct kv_command there_and_back(const struct kv_command *command, struct buf *bytes)
{
    struct kv_command decoded;

    buf_clear(bytes);
    kv_command_encode(command, bytes);
    assert_int_equal(kv_command_decode(buf_slice(bytes), &decoded), ST_OK);
    assert_int_equal(decoded.kind, command->kind);
    assert_int_equal(decoded.shard, command->shard);
    assert_true(decoded.num == command->num);
    return decoded;
}

static void assert_same_piece(const struct kv_command *a, const struct kv_command *b)
{
    assert_true(a->arrival.piece.copy_id == b->arrival.piece.copy_id);
    assert_true(a->arrival.piece.number == b->arrival.piece.number);
    assert_true(slice_equal(a->arrival.piece.begin, b->arrival.piece.begin));
    assert_true(slice_equal(a->arrival.body, b->arrival.body));
    assert_true(slice_equal(a->arrival.cursor, b->arrival.cursor));
}

static void what_arrives_comes_back_as_it_went_in(void **state)
{
    struct kv_command chunk = chunk_command(), install = install_command(), decoded;
    struct buf bytes = {0};

    (void)state;
    decoded = there_and_back(&chunk, &bytes);
    assert_same_piece(&decoded, &chunk);
    decoded = there_and_back(&install, &bytes);
    assert_same_piece(&decoded, &install);
    assert_int_equal(decoded.arrival.end.gid, 12);
    assert_true(shard_sum_equal(&decoded.arrival.end.records, &install.arrival.end.records));
    assert_true(shard_sum_equal(&decoded.arrival.end.sessions, &install.arrival.end.sessions));
    assert_int_equal(decoded.arrival.end.epoch, 9);
    assert_int_equal(decoded.arrival.floor, 100);
    assert_int_equal(decoded.arrival.version, 200);
    install.arrival.piece = (struct shard_piece){5, 0, slice_text("")}; /* all in one piece */
    install.arrival.body = slice_text("");
    decoded = there_and_back(&install, &bytes);
    assert_same_piece(&decoded, &install);
    buf_fini(&bytes);
}

static void what_goes_out_comes_back_as_it_went_in(void **state)
{
    static const enum kv_command_kind kinds[] = {KV_COMMAND_COPY_BEGIN, KV_COMMAND_SWEEP,
                                                 KV_COMMAND_FREEZE};
    struct buf bytes = {0};

    (void)state;
    for (size_t i = 0; i < 3; i++) {
        struct kv_command command = copy_command(kinds[i]);
        struct kv_command decoded = there_and_back(&command, &bytes);

        assert_true(decoded.copy.copy_id == command.copy.copy_id);
        assert_true(slice_equal(decoded.copy.from, command.copy.from));
        assert_int_equal(decoded.copy.max_bytes, command.copy.max_bytes);
    }
    buf_fini(&bytes);
}

/* Bytes from a log or a peer name no length that the formats elsewhere could not hold. */
static void keys_and_cursors_past_their_limits_are_corrupt(void **state)
{
    struct kv_command sweep = copy_command(KV_COMMAND_SWEEP), chunk = chunk_command(), decoded;
    uint8_t *large = mem_zalloc(SHARD_MAX_CURSOR + 1);
    struct buf bytes = {0};

    (void)state;
    sweep.copy.from = slice_of(large, KV_MAX_KEY);
    there_and_back(&sweep, &bytes);
    sweep.copy.from.len++;
    buf_clear(&bytes);
    kv_command_encode(&sweep, &bytes);
    assert_int_equal(kv_command_decode(buf_slice(&bytes), &decoded), ST_CORRUPT);
    chunk.arrival.piece.begin = chunk.arrival.cursor = slice_of(large, SHARD_MAX_CURSOR);
    there_and_back(&chunk, &bytes);
    for (int i = 0; i < 2; i++) {
        chunk.arrival.piece.begin.len = SHARD_MAX_CURSOR + (i == 0);
        chunk.arrival.cursor.len = SHARD_MAX_CURSOR + (i == 1);
        buf_clear(&bytes);
        kv_command_encode(&chunk, &bytes);
        assert_int_equal(kv_command_decode(buf_slice(&bytes), &decoded), ST_CORRUPT);
    }
    mem_free(large);
    buf_fini(&bytes);
}

/* Also of an earlier one: a replica that skipped what it can't read would differ from the others.
 */
static void an_unknown_kind_or_format_is_told_apart(void **state)
{
    struct kv_command commands[N_KINDS], decoded;

    (void)state;
    all_commands(commands);
    for (size_t i = 0; i < N_KINDS; i++) {
        struct buf bytes = {0};

        kv_command_encode(&commands[i], &bytes);
        for (unsigned format = 0; format < 256; format++) {
            bytes.data[0] = (uint8_t)format;
            assert_int_equal(kv_command_decode(buf_slice(&bytes), &decoded),
                             format == KV_COMMAND_FORMAT ? ST_OK : ST_VERSION);
        }
        bytes.data[0] = KV_COMMAND_FORMAT;
        for (unsigned kind = N_KINDS + 1; kind <= 256; kind++) {
            bytes.data[1] = (uint8_t)kind; /* the last one is 0 */
            assert_int_equal(kv_command_decode(buf_slice(&bytes), &decoded), ST_VERSION);
        }
        buf_fini(&bytes);
    }
}

static void cut_or_extended_commands_are_corrupt(void **state)
{
    struct kv_command commands[N_KINDS], decoded;

    (void)state;
    all_commands(commands);
    for (size_t i = 0; i < N_KINDS; i++) {
        struct buf bytes = {0};

        kv_command_encode(&commands[i], &bytes);
        /* A CONFIG takes all that is left: its own decoder knows where it ends. */
        for (size_t len = 0; commands[i].kind != KV_COMMAND_CONFIG && len < bytes.len; len++) {
            uint8_t *exact = mem_copy(bytes.data, len); /* ASan sees a read past the end */

            assert_int_equal(kv_command_decode(slice_of(exact, len), &decoded), ST_CORRUPT);
            mem_free(exact);
        }
        buf_put_u8(&bytes, 0);
        if (commands[i].kind != KV_COMMAND_CONFIG) {
            assert_int_equal(kv_command_decode(buf_slice(&bytes), &decoded), ST_CORRUPT);
        }
        buf_fini(&bytes);
    }
}

/* A command that is taken means what its bytes say: encoded again they are the same. */
static bool is_itself_or_refused(struct slice bytes)
{
    uint8_t *exact = mem_copy(bytes.data, bytes.len);
    struct kv_command decoded;
    struct buf again = {0};
    bool is_itself = true;

    if (kv_command_decode(slice_of(exact, bytes.len), &decoded) == ST_OK) {
        kv_command_encode(&decoded, &again);
        is_itself = slice_equal(buf_slice(&again), bytes);
    }
    buf_fini(&again);
    mem_free(exact);
    return is_itself;
}

static void flipped_bits_never_lead_outside_the_bytes(void **state)
{
    struct kv_command commands[N_KINDS];
    struct rng rng;

    (void)state;
    all_commands(commands);
    rng_init(&rng, 11);
    for (size_t i = 0; i < N_KINDS; i++) {
        struct buf bytes = {0};

        kv_command_encode(&commands[i], &bytes);
        for (int round = 0; round < 5000; round++) {
            size_t bit = rng_below(&rng, bytes.len * 8);

            bytes.data[bit / 8] ^= (uint8_t)(1u << (bit % 8));
            assert_true(is_itself_or_refused(buf_slice(&bytes)));
            if (rng_below(&rng, 50) == 0) { /* damage adds up, then all is well again */
                buf_clear(&bytes);
                kv_command_encode(&commands[i], &bytes);
            } else if (rng_below(&rng, 4) > 0) {
                bytes.data[bit / 8] ^= (uint8_t)(1u << (bit % 8));
            }
        }
        buf_fini(&bytes);
    }
}

static void results_survive_their_encoding(void **state)
{
    struct kv_command_result result = {ST_WRONG_GROUP, 42, slice_text("kept")}, decoded;
    struct buf bytes = {0};

    (void)state;
    kv_command_result_encode(&result, &bytes);
    assert_true(kv_command_result_decode(buf_slice(&bytes), &decoded));
    assert_int_equal(decoded.status, ST_WRONG_GROUP);
    assert_int_equal(decoded.gid_hint, 42);
    assert_true(slice_equal(decoded.result, slice_text("kept")));
    for (size_t len = 0; len < 6; len++) {
        assert_false(kv_command_result_decode(slice_of(bytes.data, len), &decoded));
    }
    bytes.data[1] = 0xff; /* no such status */
    assert_false(kv_command_result_decode(buf_slice(&bytes), &decoded));
    buf_fini(&bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_kind_survives_its_encoding),
        cmocka_unit_test(what_arrives_comes_back_as_it_went_in),
        cmocka_unit_test(what_goes_out_comes_back_as_it_went_in),
        cmocka_unit_test(keys_and_cursors_past_their_limits_are_corrupt),
        cmocka_unit_test(an_unknown_kind_or_format_is_told_apart),
        cmocka_unit_test(cut_or_extended_commands_are_corrupt),
        cmocka_unit_test(flipped_bits_never_lead_outside_the_bytes),
        cmocka_unit_test(results_survive_their_encoding),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
