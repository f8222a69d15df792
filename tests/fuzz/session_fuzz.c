/* Sessions as a sequence of what can happen to a table: operations of a few clients, records that
 * arrive with a shard, the floor, a restart. Two tables are fed alike, one of which is loaded anew
 * from its state now and then, and must stay equal.
 *
 * While no record came from outside, an oracle knows what was applied: nothing is applied twice. */
#include "raft/rsm/session_table.h"
#include "tests/fuzz/fuzz.h"
#include "tests/sim/mem_state.h"

#define CLIENTS   6
#define SEQS      40
#define MAX_TABLE 3

struct known {
    bool made, applied;
    struct session_key key;
};

struct twin {
    struct mem_state *memory;
    struct session_table *table;
};

struct story {
    struct script script;
    struct twin twins[2];
    struct known known[CLIENTS][SEQS];
    uint64_t stamp;
    bool has_foreign; /* a record came from outside */
};

/* An operation: the same identity in all its tries. */
static struct known *choose(struct story *story)
{
    uint32_t client = fuzz_below(&story->script, CLIENTS);
    uint32_t seq = fuzz_below(&story->script, SEQS);
    struct known *known = &story->known[client][seq];

    if (!known->made) {
        known->made = true;
        known->key.client.bytes[0] = (uint8_t)client;
        known->key.seq = fuzz_u8(&story->script) == 255 ? UINT64_MAX - seq : seq + 1;
        known->key.acked_seq = fuzz_number(&story->script, seq);
        known->key.issued_at = fuzz_number(&story->script, story->stamp);
    }
    return known;
}

static void operate(struct story *story)
{
    struct known *known = choose(story);
    struct slice result, results[2];
    uint8_t bytes[SESSION_MAX_RESULT] = {(uint8_t)known->key.seq};
    enum session_verdict verdict = session_check(story->twins[0].table, &known->key, &results[0]);

    ASSERT(verdict == session_check(story->twins[1].table, &known->key, &results[1]));
    ASSERT(slice_equal(results[0], results[1]));
    story->stamp += fuzz_below(&story->script, 4);
    if (verdict != SESSION_APPLY) {
        return;
    }
    ASSERT(!known->applied || story->has_foreign);
    known->applied = true;
    result = slice_of(bytes, 1 + fuzz_below(&story->script, SESSION_MAX_RESULT));
    for (int i = 0; i < 2; i++) {
        session_commit(story->twins[i].table, &known->key, story->stamp, result);
        ASSERT(session_check(story->twins[i].table, &known->key, &results[i]) == SESSION_DUPLICATE);
        ASSERT(slice_equal(results[i], result));
    }
}

static void receive(struct story *story)
{
    struct slice client = fuzz_take(&story->script, 16);
    struct slice record = fuzz_short(&story->script);
    enum status status = session_put(story->twins[0].table, client, record);

    ASSERT(status == session_put(story->twins[1].table, client, record));
    story->has_foreign |= status == ST_OK;
}

static void append_record(void *context, struct slice client, struct slice record)
{
    buf_put_slice(context, client);
    buf_put_bytes(context, record);
}

static struct buf dump(const struct session_table *table)
{
    struct buf all = {0};

    buf_put_u64(&all, session_floor(table));
    buf_put_u32(&all, session_count(table));
    session_table_each(table, append_record, &all);
    return all;
}

static void check_equal(const struct story *story)
{
    struct buf a = dump(story->twins[0].table), b = dump(story->twins[1].table);

    ASSERT(slice_equal(buf_slice(&a), buf_slice(&b)));
    buf_fini(&a);
    buf_fini(&b);
}

/* Every record of the table, moved to another one, is the same there. */

static void move_record(void *context, struct slice client, struct slice record)
{
    ASSERT(session_put(context, client, record) == ST_OK);
}

static void check_move(const struct story *story)
{
    struct mem_state *memory = mem_state_create(1);
    struct session_table *other = session_table_create(mem_state_io(memory), 9, 9, MAX_TABLE);
    struct buf a, b;

    session_table_each(story->twins[0].table, move_record, other);
    session_raise_floor(other, session_floor(story->twins[0].table));
    a = dump(story->twins[0].table);
    b = dump(other);
    ASSERT(slice_equal(buf_slice(&a), buf_slice(&b)));
    buf_fini(&a);
    buf_fini(&b);
    session_table_destroy(&other);
    mem_state_destroy(&memory);
}

static void step(struct story *story)
{
    struct session_id client = {{0}};
    uint64_t number;

    switch (fuzz_below(&story->script, 16)) {
    case 0:
        receive(story);
        return;
    case 1:
        client.bytes[0] = fuzz_u8(&story->script);
        for (int i = 0; i < 2; i++) {
            session_remove(story->twins[i].table, slice_of(client.bytes, sizeof(client.bytes)));
        }
        story->has_foreign = true; /* what was forgotten here is known to nobody */
        return;
    case 2:
        number = fuzz_number(&story->script, story->stamp);
        session_raise_floor(story->twins[0].table, number);
        session_raise_floor(story->twins[1].table, number);
        return;
    case 3:
        ASSERT(session_table_load(story->twins[1].table) == ST_OK);
        check_equal(story);
        return;
    default:
        operate(story);
    }
}

/* A state with anything in it: loading it ends in a status. */
static void load_anything(struct script *script)
{
    struct mem_state *memory = mem_state_create(1);
    struct io_state *state = mem_state_io(memory);
    struct session_table *table = session_table_create(state, 7, 3, MAX_TABLE);

    while (!script_is_over(script)) {
        struct slice key = fuzz_take(script, fuzz_u8(script) < 8 ? 0 : 16);

        state->ops->put(state, (struct io_key){7, 3, key}, fuzz_short(script));
    }
    if (session_table_load(table) == ST_OK) {
        struct buf all = dump(table);

        buf_fini(&all);
    }
    session_table_destroy(&table);
    mem_state_destroy(&memory);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct story story = {.script = script_of(data, size), .stamp = 100};

    if (fuzz_u8(&story.script) == 255) {
        load_anything(&story.script);
        return 0;
    }
    for (int i = 0; i < 2; i++) {
        story.twins[i].memory = mem_state_create(1);
        story.twins[i].table =
            session_table_create(mem_state_io(story.twins[i].memory), 7, 3, MAX_TABLE);
    }
    while (!script_is_over(&story.script)) {
        step(&story);
    }
    check_equal(&story);
    check_move(&story);
    for (int i = 0; i < 2; i++) {
        session_table_destroy(&story.twins[i].table);
        mem_state_destroy(&story.twins[i].memory);
    }
    return 0;
}
