/* The commands of a shard group's log: every kind survives its encoding, nothing damaged passes for
 * a command, and what is not known is told apart from what is broken. */
#include "raft/util/rng.h"
#include "shardkv/kv_command.h"
#include "tests/cmocka.h"

static struct kv_command chunk_command(void)
{
    struct kv_command command = {.kind = KV_COMMAND_CHUNK, .shard = 77, .num = 9};

    command.chunk.copy_id = 0x1122334455667788;
    command.chunk.piece = 12;
    command.chunk.kind = PROTO_PIECE_RECORDS;
    command.chunk.body = slice_text("some body");
    command.chunk.cursor = slice_text("some cursor");
    return command;
}

static struct kv_command install_command(void)
{
    struct kv_command command = {.kind = KV_COMMAND_INSTALL, .shard = 3, .num = 10};

    command.install.end = (struct shard_end){
        .copy_id = 5, .pieces = 6, .records = {1, 2, 3, 4}, .sessions = {5, 6, 7, 8}, .epoch = 9};
    command.install.floor = 100;
    command.install.version = 200;
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

/* One of each kind that is proposed. */
static size_t all_commands(struct kv_command commands[8])
{
    commands[0] = init_command();
    commands[1] = (struct kv_command){.kind = KV_COMMAND_CONFIG, .config = slice_text("config")};
    commands[2] = write_command();
    commands[3] = (struct kv_command){.kind = KV_COMMAND_FREEZE, .shard = 1, .num = 2};
    commands[4] = chunk_command();
    commands[5] = install_command();
    commands[6] = (struct kv_command){.kind = KV_COMMAND_DROP, .shard = 3, .num = 4};
    commands[7] = (struct kv_command){.kind = KV_COMMAND_RELEASED, .shard = 5, .num = 6};
    return 8;
}

static void every_kind_survives_its_encoding(void **state)
{
    struct kv_command commands[8];
    size_t n = all_commands(commands);

    (void)state;
    for (size_t i = 0; i < n; i++) {
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

static void fields_come_back_as_they_went_in(void **state)
{
    struct kv_command command = chunk_command(), decoded;
    struct buf bytes = {0};

    (void)state;
    kv_command_encode(&command, &bytes);
    assert_int_equal(kv_command_decode(buf_slice(&bytes), &decoded), ST_OK);
    assert_int_equal(decoded.shard, 77);
    assert_int_equal(decoded.num, 9);
    assert_true(decoded.chunk.copy_id == 0x1122334455667788);
    assert_int_equal(decoded.chunk.piece, 12);
    assert_true(slice_equal(decoded.chunk.body, slice_text("some body")));
    assert_true(slice_equal(decoded.chunk.cursor, slice_text("some cursor")));
    buf_clear(&bytes);
    command = install_command();
    kv_command_encode(&command, &bytes);
    assert_int_equal(kv_command_decode(buf_slice(&bytes), &decoded), ST_OK);
    assert_true(shard_sum_equal(&decoded.install.end.sessions, &command.install.end.sessions));
    assert_int_equal(decoded.install.end.pieces, 6);
    assert_int_equal(decoded.install.floor, 100);
    assert_int_equal(decoded.install.version, 200);
    buf_fini(&bytes);
}

static void a_kind_or_format_of_a_later_version_is_told_apart(void **state)
{
    struct kv_command command = {.kind = KV_COMMAND_FREEZE}, decoded;
    struct buf bytes = {0};

    (void)state;
    kv_command_encode(&command, &bytes);
    bytes.data[0] = KV_COMMAND_FORMAT + 1;
    assert_int_equal(kv_command_decode(buf_slice(&bytes), &decoded), ST_VERSION);
    bytes.data[0] = KV_COMMAND_FORMAT;
    for (unsigned kind = KV_COMMAND_COPY_BEGIN; kind < 256; kind++) {
        bytes.data[1] = (uint8_t)kind;
        assert_int_equal(kv_command_decode(buf_slice(&bytes), &decoded), ST_VERSION);
    }
    bytes.data[1] = 0;
    assert_int_equal(kv_command_decode(buf_slice(&bytes), &decoded), ST_VERSION);
    buf_fini(&bytes);
}

static void cut_or_extended_commands_are_corrupt(void **state)
{
    struct kv_command commands[8], decoded;
    size_t n = all_commands(commands);

    (void)state;
    for (size_t i = 0; i < n; i++) {
        struct buf bytes = {0};

        kv_command_encode(&commands[i], &bytes);
        /* A CONFIG takes all that is left: its own decoder knows where it ends. */
        for (size_t len = 0; commands[i].kind != KV_COMMAND_CONFIG && len < bytes.len; len++) {
            assert_int_equal(kv_command_decode(slice_of(bytes.data, len), &decoded), ST_CORRUPT);
        }
        buf_put_u8(&bytes, 0);
        if (commands[i].kind != KV_COMMAND_CONFIG) {
            assert_int_equal(kv_command_decode(buf_slice(&bytes), &decoded), ST_CORRUPT);
        }
        buf_fini(&bytes);
    }
}

static void flipped_bits_never_lead_outside_the_bytes(void **state)
{
    struct kv_command commands[8], decoded;
    size_t n = all_commands(commands);
    struct rng rng;

    (void)state;
    rng_init(&rng, 11);
    for (size_t i = 0; i < n; i++) {
        struct buf bytes = {0};

        kv_command_encode(&commands[i], &bytes);
        for (int round = 0; round < 5000; round++) {
            size_t bit = rng_below(&rng, bytes.len * 8);

            bytes.data[bit / 8] ^= (uint8_t)(1u << (bit % 8));
            kv_command_decode(buf_slice(&bytes), &decoded); /* ASan watches */
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
        cmocka_unit_test(fields_come_back_as_they_went_in),
        cmocka_unit_test(a_kind_or_format_of_a_later_version_is_told_apart),
        cmocka_unit_test(cut_or_extended_commands_are_corrupt),
        cmocka_unit_test(flipped_bits_never_lead_outside_the_bytes),
        cmocka_unit_test(results_survive_their_encoding),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
