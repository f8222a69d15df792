/* The wire format: everything survives its bytes, nothing else is accepted, and no bytes break the
 * decoder. */
#include "raft/util/mem.h"
#include "raft/util/rng.h"
#include "raft/wire.h"
#include "tests/cmocka.h"

#define N_SAMPLES 12

static struct raft_configuration sample_configuration(void)
{
    struct raft_configuration configuration = {.n = 3};

    for (size_t i = 0; i < 3; i++) {
        configuration.servers[i].id = (raft_id)(i + 1);
        configuration.servers[i].flags = i == 2 ? RAFT_LEARNER : RAFT_VOTER;
        configuration.servers[i].incarnation = 77 * i;
        strcpy(configuration.servers[i].address, "tcp://host:7000");
    }
    return configuration;
}

static void add_entries(struct raft_append *append)
{
    struct buf bytes = {0};
    struct raft_configuration configuration = sample_configuration();

    append->n_entries = 4;
    append->entries = mem_zalloc(4 * sizeof(*append->entries));
    raft_configuration_encode(&configuration, &bytes);
    append->entries[0] = (struct raft_entry){11, 3, RAFT_ENTRY_NOOP, NULL};
    append->entries[1] =
        (struct raft_entry){12, 3, RAFT_ENTRY_COMMAND, blob_create(slice_text("a command"))};
    append->entries[2] =
        (struct raft_entry){13, 3, RAFT_ENTRY_CONFIGURATION, blob_create(buf_slice(&bytes))};
    append->entries[3] =
        (struct raft_entry){14, 3, RAFT_ENTRY_COMMAND, blob_create(slice_text(""))};
    buf_fini(&bytes);
}

/* Messages of all types with all their fields set. */
static struct raft_message sample(size_t i)
{
    struct raft_message message = {.from = 1, .to = 255, .term = 0x0102030405060708};

    switch (i) {
    case 0:
        message.type = RAFT_MESSAGE_REQUEST_VOTE;
        message.request_vote = (struct raft_request_vote){9, 8, true, false};
        break;
    case 1:
        message.type = RAFT_MESSAGE_REQUEST_VOTE;
        message.request_vote = (struct raft_request_vote){UINT64_MAX, 1, false, true};
        break;
    case 2:
        message.type = RAFT_MESSAGE_VOTE_REPLY;
        message.vote_reply = (struct raft_vote_reply){true, false};
        break;
    case 3:
        message.type = RAFT_MESSAGE_APPEND;
        message.append = (struct raft_append){10, 2, 9, 4, NULL, 0};
        add_entries(&message.append);
        break;
    case 4:
        message.type = RAFT_MESSAGE_APPEND;
        message.append = (struct raft_append){10, 2, 9, 4, NULL, 0};
        break;
    case 5:
        message.type = RAFT_MESSAGE_APPEND_REPLY;
        message.append_reply = (struct raft_append_reply){true, 1, 2, 3, 4, 5};
        break;
    case 6:
        message.type = RAFT_MESSAGE_HEARTBEAT;
        message.heartbeat = (struct raft_heartbeat){6, 7};
        break;
    case 7:
        message.type = RAFT_MESSAGE_HEARTBEAT_REPLY;
        message.heartbeat_reply = (struct raft_heartbeat_reply){8};
        break;
    case 8:
        message.type = RAFT_MESSAGE_INSTALL_SNAPSHOT;
        message.install_snapshot = (struct raft_install_snapshot){
            .meta = {5, 4, sample_configuration()},
            .offset = 1u << 20,
            .done = true,
            .checksum = 0xdeadbeef,
            .data = blob_create(slice_text("chunk")),
        };
        break;
    case 9:
        message.type = RAFT_MESSAGE_INSTALL_SNAPSHOT;
        message.install_snapshot = (struct raft_install_snapshot){
            .meta = {5, 4, sample_configuration()}, .data = blob_create(slice_text(""))};
        break;
    case 10:
        message.type = RAFT_MESSAGE_INSTALL_SNAPSHOT_REPLY;
        message.install_snapshot_reply = (struct raft_install_snapshot_reply){5, 6, true};
        break;
    default:
        message.type = RAFT_MESSAGE_TIMEOUT_NOW;
    }
    return message;
}

static void assert_same_entry(const struct raft_entry *a, const struct raft_entry *b)
{
    assert_int_equal(a->index, b->index);
    assert_int_equal(a->term, b->term);
    assert_int_equal(a->type, b->type);
    assert_int_equal(a->data == NULL, b->data == NULL);
    assert_true(slice_equal(blob_slice(a->data), blob_slice(b->data)));
}

/* Equal field by field, where a pointer stands for what it points to. */
static void assert_same(const struct raft_message *a, const struct raft_message *b)
{
    assert_int_equal(a->type, b->type);
    assert_int_equal(a->from, b->from);
    assert_int_equal(a->to, b->to);
    assert_int_equal(a->term, b->term);
    if (a->type == RAFT_MESSAGE_APPEND) {
        assert_int_equal(a->append.prev_log_index, b->append.prev_log_index);
        assert_int_equal(a->append.prev_log_term, b->append.prev_log_term);
        assert_int_equal(a->append.commit_index, b->append.commit_index);
        assert_int_equal(a->append.read_round, b->append.read_round);
        assert_int_equal(a->append.n_entries, b->append.n_entries);
        for (size_t i = 0; i < a->append.n_entries; i++) {
            assert_same_entry(&a->append.entries[i], &b->append.entries[i]);
        }
    } else if (a->type == RAFT_MESSAGE_INSTALL_SNAPSHOT) {
        assert_memory_equal(&a->install_snapshot.meta, &b->install_snapshot.meta,
                            sizeof(a->install_snapshot.meta));
        assert_int_equal(a->install_snapshot.offset, b->install_snapshot.offset);
        assert_int_equal(a->install_snapshot.done, b->install_snapshot.done);
        assert_int_equal(a->install_snapshot.checksum, b->install_snapshot.checksum);
        assert_true(slice_equal(blob_slice(a->install_snapshot.data),
                                blob_slice(b->install_snapshot.data)));
    } else {
        assert_memory_equal(&a->request_vote, &b->request_vote, sizeof(a->append_reply));
    }
}

static void every_message_survives_its_bytes(void **state)
{
    (void)state;
    for (size_t i = 0; i < N_SAMPLES; i++) {
        struct raft_message message = sample(i), decoded;
        struct buf bytes = {0};

        wire_encode_message(&message, &bytes);
        assert_true(wire_decode_message(buf_slice(&bytes), &decoded));
        assert_same(&message, &decoded);
        raft_message_fini(&decoded);
        assert_int_equal(decoded.type, 0); /* zeroed */
        raft_message_fini(&message);
        buf_fini(&bytes);
    }
}

static void a_message_cut_short_or_too_long_is_refused(void **state)
{
    (void)state;
    for (size_t i = 0; i < N_SAMPLES; i++) {
        struct raft_message message = sample(i), decoded;
        struct buf bytes = {0};

        wire_encode_message(&message, &bytes);
        for (size_t len = 0; len < bytes.len; len++) {
            uint8_t *exact = mem_copy(bytes.data, len); /* so that a read past it is caught */

            assert_false(wire_decode_message(slice_of(exact, len), &decoded));
            mem_free(exact);
        }
        buf_put_u8(&bytes, 0);
        assert_false(wire_decode_message(buf_slice(&bytes), &decoded));
        raft_message_fini(&message);
        buf_fini(&bytes);
    }
}

/* Whatever is accepted after damage is a message: encoding it gives the same bytes again. */
static void random_damage_never_breaks_the_decoder(void **state)
{
    struct rng rng;

    (void)state;
    rng_init(&rng, 1);
    for (int round = 0; round < 60000; round++) {
        struct raft_message message = sample(rng_below(&rng, N_SAMPLES)), decoded;
        struct buf bytes = {0};

        wire_encode_message(&message, &bytes);
        for (uint64_t flips = rng_between(&rng, 1, 6); flips > 0; flips--) {
            size_t at = rng_below(&rng, bytes.len);

            bytes.data[at] = rng_below(&rng, 2) == 0 ? (uint8_t)rng_next(&rng)
                                                     : bytes.data[at] ^ (1u << rng_below(&rng, 8));
        }
        if (wire_decode_message(buf_slice(&bytes), &decoded)) {
            struct buf again = {0};

            wire_encode_message(&decoded, &again);
            assert_true(slice_equal(buf_slice(&bytes), buf_slice(&again)));
            buf_fini(&again);
            raft_message_fini(&decoded);
        }
        raft_message_fini(&message);
        buf_fini(&bytes);
    }
}

static void random_bytes_never_break_the_decoder(void **state)
{
    struct rng rng;

    (void)state;
    rng_init(&rng, 2);
    for (int round = 0; round < 60000; round++) {
        uint8_t bytes[200];
        size_t len = rng_below(&rng, sizeof(bytes));
        struct raft_message decoded;

        for (size_t i = 0; i < len; i++) {
            bytes[i] = (uint8_t)rng_next(&rng);
        }
        bytes[0] = 1; /* past the version and to the types */
        bytes[1] = (uint8_t)rng_below(&rng, 11);
        if (wire_decode_message(slice_of(bytes, len), &decoded)) {
            raft_message_fini(&decoded);
        }
    }
}

static void a_header_that_makes_no_sense_is_refused(void **state)
{
    const struct {
        size_t at;
        uint8_t byte;
    } table[] = {{0, 0}, {0, 2}, {1, 0}, {1, 10}, {1, 255}, {2, 0}, {3, 0}};

    (void)state;
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        struct raft_message message = sample(7), decoded;
        struct buf bytes = {0};

        wire_encode_message(&message, &bytes);
        bytes.data[table[i].at] = table[i].byte;
        assert_false(wire_decode_message(buf_slice(&bytes), &decoded));
        buf_fini(&bytes);
    }
}

/* A count or length far beyond the bytes must be refused before anything is allocated for it. */
static void huge_counts_are_refused(void **state)
{
    struct raft_message message = sample(3), decoded;
    struct buf bytes = {0};

    (void)state;
    wire_encode_message(&message, &bytes);
    buf_set_u32(&bytes, 12 + 32, UINT32_MAX); /* entries */
    assert_false(wire_decode_message(buf_slice(&bytes), &decoded));
    buf_set_u32(&bytes, 12 + 32, 4);
    assert_true(wire_decode_message(buf_slice(&bytes), &decoded));
    raft_message_fini(&decoded);
    buf_set_u32(&bytes, 12 + 36 + 21 + 17, WIRE_MAX_ENTRY_BYTES + 1); /* the second one's data */
    assert_false(wire_decode_message(buf_slice(&bytes), &decoded));
    raft_message_fini(&message);
    buf_fini(&bytes);
}

/* The format is made to last: these bytes must never change. */
static void the_bytes_are_as_documented(void **state)
{
    const uint8_t heartbeat[] = {1, 5, 1, 255, 8, 7, 6, 5, 4, 3, 2, 1, 6, 0,
                                 0, 0, 0, 0,   0, 0, 7, 0, 0, 0, 0, 0, 0, 0};
    const uint8_t vote[] = {1, 1, 1, 255, 8, 7, 6, 5, 4, 3, 2, 1, 9, 0, 0,
                            0, 0, 0, 0,   0, 8, 0, 0, 0, 0, 0, 0, 0, 1};
    const uint8_t entry[] = {12, 0, 0, 0, 0, 0, 0, 0, 3, 0,   0,  0,
                             0,  0, 0, 0, 2, 2, 0, 0, 0, 'h', 'i'};
    struct raft_entry command = {12, 3, RAFT_ENTRY_COMMAND, blob_create(slice_text("hi"))};
    struct raft_message message = sample(6);
    struct buf bytes = {0};

    (void)state;
    wire_encode_message(&message, &bytes);
    assert_true(slice_equal(buf_slice(&bytes), slice_of(heartbeat, sizeof(heartbeat))));
    buf_clear(&bytes);
    message = sample(0);
    wire_encode_message(&message, &bytes);
    assert_true(slice_equal(buf_slice(&bytes), slice_of(vote, sizeof(vote))));
    buf_clear(&bytes);
    wire_encode_entry(&command, &bytes);
    assert_true(slice_equal(buf_slice(&bytes), slice_of(entry, sizeof(entry))));
    blob_unref(&command.data);
    buf_fini(&bytes);
}

/* ---- Entries, hard state, snapshot metadata ---- */

static void entries_follow_each_other_in_a_stream(void **state)
{
    struct raft_message message = sample(3);
    struct buf bytes = {0};
    struct reader reader;
    struct raft_entry entry;

    (void)state;
    for (size_t i = 0; i < message.append.n_entries; i++) {
        wire_encode_entry(&message.append.entries[i], &bytes);
    }
    reader = reader_of(buf_slice(&bytes));
    for (size_t i = 0; i < message.append.n_entries; i++) {
        assert_true(wire_decode_entry(&reader, &entry));
        assert_same_entry(&entry, &message.append.entries[i]);
        blob_unref(&entry.data);
    }
    assert_true(reader_done(&reader));
    assert_false(wire_decode_entry(&reader, &entry));
    assert_null(entry.data);
    raft_message_fini(&message);
    buf_fini(&bytes);
}

static void bad_entries_are_refused(void **state)
{
    const struct {
        size_t at;
        uint8_t byte;
    } table[] = {
        {0, 0},             /* index 0 */
        {8, 0},             /* term 0 */
        {16, 0},            /* types that are none */
        {16, 4},   {16, 1}, /* a no-op with data */
        {17, 10},           /* longer than what is there */
        {20, 255},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        struct raft_entry entry = {7, 3, RAFT_ENTRY_COMMAND, blob_create(slice_text("x"))};
        struct buf bytes = {0};
        struct reader reader;

        wire_encode_entry(&entry, &bytes);
        blob_unref(&entry.data);
        bytes.data[table[i].at] = table[i].byte;
        reader = reader_of(buf_slice(&bytes));
        assert_false(wire_decode_entry(&reader, &entry));
        assert_false(reader_ok(&reader));
        assert_null(entry.data);
        buf_fini(&bytes);
    }
}

static void snapshot_metadata_survives_its_bytes(void **state)
{
    struct raft_snapshot_meta meta = {9, 8, sample_configuration()}, meta_decoded;
    struct buf bytes = {0};
    struct reader reader;

    (void)state;
    wire_encode_snapshot_meta(&meta, &bytes);
    reader = reader_of(buf_slice(&bytes));
    assert_true(wire_decode_snapshot_meta(&reader, &meta_decoded));
    assert_memory_equal(&meta, &meta_decoded, sizeof(meta));
    assert_true(reader_done(&reader));
    for (size_t len = 0; len < bytes.len; len++) {
        reader = reader_of(slice_of(bytes.data, len));
        assert_false(wire_decode_snapshot_meta(&reader, &meta_decoded));
    }
    buf_fini(&bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_message_survives_its_bytes),
        cmocka_unit_test(a_message_cut_short_or_too_long_is_refused),
        cmocka_unit_test(random_damage_never_breaks_the_decoder),
        cmocka_unit_test(random_bytes_never_break_the_decoder),
        cmocka_unit_test(a_header_that_makes_no_sense_is_refused),
        cmocka_unit_test(huge_counts_are_refused),
        cmocka_unit_test(the_bytes_are_as_documented),
        cmocka_unit_test(entries_follow_each_other_in_a_stream),
        cmocka_unit_test(bad_entries_are_refused),
        cmocka_unit_test(snapshot_metadata_survives_its_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
