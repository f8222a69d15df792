/* What reads and writes do to the records of a range: the semantics of put, append, delete and
 * conditions, all-or-nothing, limits, versions, and what they cost. */
#include "raft/util/mem.h"
#include "shardkv/kv_ops.h"
#include "tests/cmocka.h"
#include "tests/sim/mem_state.h"

#define RANGE 5

/* A mem_state that counts what it is asked. */
struct counting {
    struct io_state io;
    struct io_state_ops ops;
    struct io_state *inner;
    unsigned gets, puts, removes;
};

static enum status counting_get(struct io_state *io, struct io_key key, struct buf *value)
{
    struct counting *state = (struct counting *)(void *)io;

    state->gets++;
    return state->inner->ops->get(state->inner, key, value);
}

static void counting_put(struct io_state *io, struct io_key key, struct slice value)
{
    struct counting *state = (struct counting *)(void *)io;

    state->puts++;
    state->inner->ops->put(state->inner, key, value);
}

static void counting_remove(struct io_state *io, struct io_key key)
{
    struct counting *state = (struct counting *)(void *)io;

    state->removes++;
    state->inner->ops->remove(state->inner, key);
}

struct fixture {
    struct mem_state *memory;
    struct counting state;
    struct kv_write write;
    struct kv_write_result result;
    uint64_t version;
    /* What the watch is told: "a=1 was 0; b gone was 2; ". */
    struct kv_ops_watch watch;
    bool is_watched;
    struct buf told;
    int fails_at; /* the watch fails when it is told of that many; 0: never */
    int n_told;
};

/* Reads what is there: it must be told before the record changes. */
static enum status changing(void *context, struct slice key, const struct slice *record)
{
    struct fixture *fixture = context;
    struct buf memory = {0};
    struct kv_record before, after = {0};
    enum status status = kv_ops_read(mem_state_io(fixture->memory), RANGE, key, &memory, &before);

    if (record != NULL) {
        assert_int_equal(kv_record_decode(*record, &after), ST_OK);
        assert_int_equal(after.version, fixture->version);
    }
    buf_put_slice(&fixture->told, key);
    buf_put_slice(&fixture->told, slice_text(record != NULL ? "=" : " gone"));
    buf_put_slice(&fixture->told, after.value);
    buf_put_slice(&fixture->told, slice_text(status == ST_OK ? " was " : " was not"));
    buf_put_slice(&fixture->told, status == ST_OK ? before.value : slice_text(""));
    buf_put_slice(&fixture->told, slice_text("; "));
    buf_fini(&memory);
    return ++fixture->n_told == fixture->fails_at ? ST_CORRUPT : ST_OK;
}

static void fixture_init(struct fixture *fixture)
{
    *fixture = (struct fixture){.memory = mem_state_create(1)};
    fixture->state.inner = mem_state_io(fixture->memory);
    fixture->state.ops =
        (struct io_state_ops){.get = counting_get, .put = counting_put, .remove = counting_remove};
    fixture->state.io.ops = &fixture->state.ops;
}

static void fixture_fini(struct fixture *fixture)
{
    buf_fini(&fixture->told);
    mem_state_destroy(&fixture->memory);
}

static void begin(struct fixture *fixture)
{
    fixture->write = (struct kv_write){0};
    fixture->state.gets = fixture->state.puts = fixture->state.removes = 0;
    buf_clear(&fixture->told);
    fixture->n_told = 0;
}

static void add(struct fixture *fixture, enum kv_operation_type type, const char *key,
                struct slice value)
{
    fixture->write.operations[fixture->write.n_operations++] =
        (struct kv_operation){type, slice_text(key), value};
}

static void add_if(struct fixture *fixture, enum kv_condition_type type, const char *key,
                   const char *value)
{
    fixture->write.conditions[fixture->write.n_conditions++] =
        (struct kv_condition){type, slice_text(key), slice_text(value)};
}

static enum status try(struct fixture *fixture)
{
    fixture->watch = (struct kv_ops_watch){changing, fixture};
    return kv_ops_write(&fixture->state.io, RANGE, &fixture->write, ++fixture->version,
                        fixture->is_watched ? &fixture->watch : NULL, &fixture->result);
}

static enum status run(struct fixture *fixture)
{
    assert_int_equal(try(fixture), ST_OK);
    return fixture->result.status;
}

static void assert_told(const struct fixture *fixture, const char *expected)
{
    struct buf text = {0};

    buf_put_slice(&text, buf_slice(&fixture->told));
    buf_put_u8(&text, 0);
    assert_string_equal((const char *)text.data, expected);
    buf_fini(&text);
}

static enum status one(struct fixture *fixture, enum kv_operation_type type, const char *key,
                       const char *value)
{
    begin(fixture);
    add(fixture, type, key, slice_text(value));
    return run(fixture);
}

static void assert_value(struct fixture *fixture, const char *key, const char *expected)
{
    struct buf memory = {0};
    struct kv_record record;
    enum status status = kv_ops_read(&fixture->state.io, RANGE, slice_text(key), &memory, &record);

    assert_int_equal(status, expected != NULL ? ST_OK : ST_NOT_FOUND);
    if (expected != NULL) {
        assert_true(slice_equal(record.value, slice_text(expected)));
    }
    buf_fini(&memory);
}

static void put_append_and_delete_do_what_they_say(void **state)
{
    struct fixture f;

    (void)state;
    fixture_init(&f);
    assert_value(&f, "k", NULL);
    assert_int_equal(one(&f, KV_PUT, "k", "v"), ST_OK);
    assert_int_equal(f.result.n_outputs, 1);
    assert_int_equal(f.result.outputs[0], 0);
    assert_value(&f, "k", "v");
    assert_int_equal(one(&f, KV_APPEND, "k", "wxyz"), ST_OK);
    assert_int_equal(f.result.outputs[0], 5);
    assert_value(&f, "k", "vwxyz");
    assert_int_equal(one(&f, KV_APPEND, "new", "n"), ST_OK);
    assert_int_equal(f.result.outputs[0], 1);
    assert_int_equal(one(&f, KV_DELETE, "k", ""), ST_OK);
    assert_int_equal(f.result.outputs[0], 1);
    assert_value(&f, "k", NULL);
    assert_int_equal(one(&f, KV_DELETE, "k", ""), ST_OK);
    assert_int_equal(f.result.outputs[0], 0);
    assert_int_equal(one(&f, KV_PUT, "empty", ""), ST_OK);
    assert_value(&f, "empty", "");
    fixture_fini(&f);
}

static void a_plain_put_reads_nothing_and_the_others_read_once(void **state)
{
    struct fixture f;

    (void)state;
    fixture_init(&f);
    one(&f, KV_PUT, "k", "v");
    assert_int_equal(f.state.gets, 0);
    assert_int_equal(f.state.puts, 1);
    one(&f, KV_APPEND, "k", "v");
    assert_int_equal(f.state.gets, 1);
    assert_int_equal(f.state.puts, 1);
    one(&f, KV_DELETE, "k", "");
    assert_int_equal(f.state.gets, 1);
    assert_int_equal(f.state.removes, 1);
    fixture_fini(&f);
}

static void conditions_decide_and_a_mismatch_does_nothing(void **state)
{
    struct fixture f;

    (void)state;
    fixture_init(&f);
    begin(&f);
    add_if(&f, KV_IF_ABSENT, "lock", "");
    add(&f, KV_PUT, "lock", slice_text("me"));
    assert_int_equal(run(&f), ST_OK);
    f.state.puts = 0;
    assert_int_equal(run(&f), ST_MISMATCH);
    assert_int_equal(f.result.n_outputs, 0);
    assert_int_equal(f.state.puts, 0);
    begin(&f);
    add_if(&f, KV_IF_VALUE, "lock", "m");
    add(&f, KV_PUT, "lock", slice_text("you"));
    assert_int_equal(run(&f), ST_MISMATCH);
    f.write.conditions[0].value = slice_text("me");
    assert_int_equal(run(&f), ST_OK);
    assert_value(&f, "lock", "you");
    begin(&f); /* a value that is not there equals no value, not even the empty one */
    add_if(&f, KV_IF_VALUE, "missing", "");
    assert_int_equal(run(&f), ST_MISMATCH);
    fixture_fini(&f);
}

static void all_operations_happen_or_none(void **state)
{
    struct fixture f;
    uint8_t *large = mem_zalloc(KV_MAX_VALUE);

    (void)state;
    fixture_init(&f);
    one(&f, KV_PUT, "a", "1");
    begin(&f);
    add(&f, KV_PUT, "a", slice_text("2"));
    add(&f, KV_DELETE, "b", slice_text(""));
    add(&f, KV_PUT, "c", slice_of(large, KV_MAX_VALUE));
    add(&f, KV_APPEND, "c", slice_text("x")); /* past the limit */
    assert_int_equal(run(&f), ST_TOO_LARGE);
    assert_int_equal(f.result.n_outputs, 0);
    assert_int_equal(f.state.puts + f.state.removes, 0);
    assert_value(&f, "a", "1");
    assert_value(&f, "c", NULL);
    begin(&f);
    add_if(&f, KV_IF_VALUE, "a", "1");
    add_if(&f, KV_IF_ABSENT, "a", "");
    add(&f, KV_PUT, "a", slice_text("3"));
    assert_int_equal(run(&f), ST_MISMATCH);
    assert_value(&f, "a", "1");
    mem_free(large);
    fixture_fini(&f);
}

static void operations_see_what_earlier_ones_of_the_same_write_did(void **state)
{
    struct fixture f;

    (void)state;
    fixture_init(&f);
    begin(&f);
    add(&f, KV_PUT, "k", slice_text("a"));
    add(&f, KV_APPEND, "k", slice_text("b"));
    add(&f, KV_DELETE, "k", slice_text(""));
    add(&f, KV_DELETE, "k", slice_text(""));
    add(&f, KV_APPEND, "k", slice_text("cd"));
    add(&f, KV_APPEND, "k", slice_text("e"));
    assert_int_equal(run(&f), ST_OK);
    assert_int_equal(f.result.n_outputs, 6);
    assert_int_equal(f.result.outputs[1], 2);
    assert_int_equal(f.result.outputs[2], 1);
    assert_int_equal(f.result.outputs[3], 0);
    assert_int_equal(f.result.outputs[4], 2);
    assert_int_equal(f.result.outputs[5], 3);
    assert_int_equal(f.state.puts, 1); /* only what is left is written */
    assert_value(&f, "k", "cde");
    fixture_fini(&f);
}

static void at_most_fifteen_outputs_are_kept(void **state)
{
    struct fixture f;

    (void)state;
    fixture_init(&f);
    begin(&f);
    for (int i = 0; i < KV_MAX_OPERATIONS; i++) {
        add(&f, KV_APPEND, "k", slice_text("x"));
    }
    assert_int_equal(run(&f), ST_OK);
    assert_int_equal(f.result.n_outputs, KV_MAX_OUTPUTS);
    assert_int_equal(f.result.outputs[14], 15);
    assert_value(&f, "k", "xxxxxxxxxxxxxxxx");
    fixture_fini(&f);
}

static void a_value_of_the_limit_fits_and_one_byte_more_does_not(void **state)
{
    struct fixture f;
    uint8_t *large = mem_zalloc(KV_MAX_VALUE + 1);

    (void)state;
    fixture_init(&f);
    begin(&f);
    add(&f, KV_PUT, "k", slice_of(large, KV_MAX_VALUE + 1));
    assert_int_equal(run(&f), ST_TOO_LARGE);
    f.write.operations[0].value.len = KV_MAX_VALUE - 1;
    assert_int_equal(run(&f), ST_OK);
    assert_int_equal(one(&f, KV_APPEND, "k", "x"), ST_OK);
    assert_int_equal(f.result.outputs[0], KV_MAX_VALUE);
    assert_int_equal(one(&f, KV_APPEND, "k", "x"), ST_TOO_LARGE);
    mem_free(large);
    fixture_fini(&f);
}

static void each_record_carries_the_version_of_its_last_change(void **state)
{
    struct fixture f;
    struct buf memory = {0};
    struct kv_record record;

    (void)state;
    fixture_init(&f);
    one(&f, KV_PUT, "a", "1");
    one(&f, KV_PUT, "b", "2");
    one(&f, KV_APPEND, "a", "3");
    assert_int_equal(kv_ops_read(&f.state.io, RANGE, slice_text("a"), &memory, &record), ST_OK);
    assert_int_equal(record.version, 3);
    assert_int_equal(kv_ops_read(&f.state.io, RANGE, slice_text("b"), &memory, &record), ST_OK);
    assert_int_equal(record.version, 2);
    buf_fini(&memory);
    fixture_fini(&f);
}

static void keys_must_have_a_legal_length_and_lie_in_the_shard(void **state)
{
    struct kv_write write = {.n_operations = 1, .n_conditions = 1};
    uint8_t long_key[KV_MAX_KEY + 1] = {0};

    (void)state;
    write.shard = shard_of_key(slice_text("k"), 16);
    write.operations[0] = (struct kv_operation){KV_PUT, slice_text("k"), slice_text("")};
    write.conditions[0] = (struct kv_condition){KV_IF_ABSENT, slice_text("k"), slice_text("")};
    assert_true(kv_ops_keys_fit(&write, 16));
    write.conditions[0].key = slice_text("{k}2"); /* the part in braces counts */
    assert_true(kv_ops_keys_fit(&write, 16));
    for (char c = 'a'; c <= 'z'; c++) {
        write.conditions[0].key = slice_of(&c, 1);
        assert_int_equal(kv_ops_keys_fit(&write, 16),
                         shard_of_key(slice_of(&c, 1), 16) == write.shard);
    }
    write.n_conditions = 0;
    write.operations[0].key = slice_text("");
    write.shard = shard_of_key(write.operations[0].key, 16);
    assert_false(kv_ops_keys_fit(&write, 16));
    write.operations[0].key = slice_of(long_key, KV_MAX_KEY);
    write.shard = shard_of_key(write.operations[0].key, 16);
    assert_true(kv_ops_keys_fit(&write, 16));
    write.operations[0].key.len++;
    write.shard = shard_of_key(write.operations[0].key, 16);
    assert_false(kv_ops_keys_fit(&write, 16));
}

static void records_of_a_later_format_are_not_read_as_values(void **state)
{
    struct buf bytes = {0};
    struct kv_record record;

    (void)state;
    kv_record_put_header(&bytes, 9);
    assert_int_equal(bytes.len, KV_RECORD_HEADER_BYTES);
    buf_put_slice(&bytes, slice_text("value"));
    assert_int_equal(kv_record_decode(buf_slice(&bytes), &record), ST_OK);
    assert_int_equal(record.version, 9);
    assert_true(slice_equal(record.value, slice_text("value")));
    for (size_t len = 0; len < KV_RECORD_HEADER_BYTES; len++) {
        assert_int_equal(kv_record_decode(slice_of(bytes.data, len), &record), ST_CORRUPT);
    }
    for (size_t i = 0; i < 12; i++) { /* format, type, flags, expire_at */
        bytes.data[i]++;
        assert_int_equal(kv_record_decode(buf_slice(&bytes), &record), ST_VERSION);
        bytes.data[i]--;
    }
    buf_fini(&bytes);
}

static void a_state_that_can_not_be_read_is_no_outcome(void **state)
{
    struct fixture f;

    (void)state;
    fixture_init(&f);
    one(&f, KV_PUT, "k", "v");
    begin(&f);
    add(&f, KV_PUT, "a", slice_text("1"));
    add(&f, KV_APPEND, "k", slice_text("w"));
    mem_state_fail(f.memory, MEM_STATE_FAIL_GET, ST_IO, 1);
    assert_int_equal(try(&f), ST_IO);
    assert_int_equal(f.state.puts, 0);
    fixture_fini(&f);
}

/* ---- The watch ---- */

static void the_watch_is_told_of_each_record_before_it_changes(void **state)
{
    struct fixture f;

    (void)state;
    fixture_init(&f);
    one(&f, KV_PUT, "a", "1");
    assert_told(&f, ""); /* nobody watches */
    f.is_watched = true;
    one(&f, KV_PUT, "a", "2");
    assert_told(&f, "a=2 was 1; ");
    one(&f, KV_APPEND, "a", "3");
    assert_told(&f, "a=23 was 2; ");
    one(&f, KV_DELETE, "a", "");
    assert_told(&f, "a gone was 23; ");
    one(&f, KV_PUT, "a", "4");
    assert_told(&f, "a=4 was not; ");
    one(&f, KV_DELETE, "b", "");
    assert_told(&f, "b gone was not; ");
    fixture_fini(&f);
}

static void of_a_key_the_watch_is_told_once_and_what_is_left(void **state)
{
    struct fixture f;

    (void)state;
    fixture_init(&f);
    one(&f, KV_PUT, "a", "0");
    one(&f, KV_PUT, "c", "0");
    f.is_watched = true;
    begin(&f);
    add(&f, KV_PUT, "a", slice_text("1"));
    add(&f, KV_PUT, "b", slice_text("1"));
    add(&f, KV_APPEND, "a", slice_text("2"));
    add(&f, KV_PUT, "c", slice_text("1"));
    add(&f, KV_DELETE, "c", slice_text(""));
    add(&f, KV_DELETE, "a", slice_text(""));
    add(&f, KV_APPEND, "a", slice_text("3"));
    assert_int_equal(run(&f), ST_OK);
    assert_told(&f, "b=1 was not; c gone was 0; a=3 was 0; ");
    fixture_fini(&f);
}

static void the_watch_is_not_told_of_what_has_no_effect(void **state)
{
    struct fixture f;
    uint8_t *large = mem_zalloc(KV_MAX_VALUE + 1);

    (void)state;
    fixture_init(&f);
    f.is_watched = true;
    begin(&f);
    add_if(&f, KV_IF_VALUE, "a", "1");
    add(&f, KV_PUT, "a", slice_text("2"));
    assert_int_equal(run(&f), ST_MISMATCH);
    assert_told(&f, "");
    begin(&f);
    add(&f, KV_PUT, "a", slice_text("2"));
    add(&f, KV_PUT, "b", slice_of(large, KV_MAX_VALUE + 1));
    assert_int_equal(run(&f), ST_TOO_LARGE);
    assert_told(&f, "");
    begin(&f);
    add(&f, KV_PUT, "a", slice_text("2"));
    add(&f, KV_APPEND, "b", slice_text("2"));
    mem_state_fail(f.memory, MEM_STATE_FAIL_GET, ST_IO, 1);
    assert_int_equal(try(&f), ST_IO);
    assert_told(&f, "");
    mem_free(large);
    fixture_fini(&f);
}

/* The watch reads the state, too: what it can't read stops this replica. */
static void a_watch_that_fails_is_no_outcome(void **state)
{
    struct fixture f;

    (void)state;
    fixture_init(&f);
    f.is_watched = true;
    f.fails_at = 2;
    begin(&f);
    add(&f, KV_PUT, "a", slice_text("1"));
    add(&f, KV_PUT, "b", slice_text("1"));
    add(&f, KV_PUT, "c", slice_text("1"));
    assert_int_equal(try(&f), ST_CORRUPT);
    assert_told(&f, "a=1 was not; b=1 was not; ");
    fixture_fini(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(put_append_and_delete_do_what_they_say),
        cmocka_unit_test(a_plain_put_reads_nothing_and_the_others_read_once),
        cmocka_unit_test(conditions_decide_and_a_mismatch_does_nothing),
        cmocka_unit_test(all_operations_happen_or_none),
        cmocka_unit_test(operations_see_what_earlier_ones_of_the_same_write_did),
        cmocka_unit_test(at_most_fifteen_outputs_are_kept),
        cmocka_unit_test(a_value_of_the_limit_fits_and_one_byte_more_does_not),
        cmocka_unit_test(each_record_carries_the_version_of_its_last_change),
        cmocka_unit_test(keys_must_have_a_legal_length_and_lie_in_the_shard),
        cmocka_unit_test(records_of_a_later_format_are_not_read_as_values),
        cmocka_unit_test(a_state_that_can_not_be_read_is_no_outcome),
        cmocka_unit_test(the_watch_is_told_of_each_record_before_it_changes),
        cmocka_unit_test(of_a_key_the_watch_is_told_once_and_what_is_left),
        cmocka_unit_test(the_watch_is_not_told_of_what_has_no_effect),
        cmocka_unit_test(a_watch_that_fails_is_no_outcome),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
