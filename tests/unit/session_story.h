/* What the tests of sessions share: a table over a state in memory, and clients by number. */
#ifndef TESTS_UNIT_SESSION_STORY_H
#define TESTS_UNIT_SESSION_STORY_H

#include "raft/rsm.h"
#include "tests/cmocka.h"
#include "tests/sim/mem_state.h"

#define RANGE 7
#define KIND  3

struct bench {
    struct mem_state *store;
    struct session_table *table;
};

static inline struct bench bench_create(uint32_t max_records)
{
    struct bench bench = {.store = mem_state_create(1)};

    bench.table = session_table_create(mem_state_io(bench.store), RANGE, KIND, max_records);
    assert_int_equal(session_table_load(bench.table), ST_OK);
    return bench;
}

static inline void bench_destroy(struct bench *bench)
{
    session_table_destroy(&bench->table);
    mem_state_destroy(&bench->store);
}

static inline struct session_key op(uint32_t client, uint64_t seq, uint64_t acked_seq,
                                    uint64_t issued_at)
{
    struct session_key key = {.seq = seq, .acked_seq = acked_seq, .issued_at = issued_at};

    set_u32(key.client.bytes, client);
    return key;
}

static inline enum session_verdict check(const struct bench *bench, struct session_key key)
{
    struct slice result;

    return session_check(bench->table, &key, &result);
}

/* Applies an operation as a service does: only if the rule says so. */
static inline enum session_verdict submit(struct bench *bench, struct session_key key,
                                          uint64_t stamp, const char *result)
{
    enum session_verdict verdict = check(bench, key);

    if (verdict == SESSION_APPLY) {
        session_commit(bench->table, &key, stamp, slice_text(result));
    }
    return verdict;
}

static inline void assert_kept(const struct bench *bench, struct session_key key,
                               const char *expected)
{
    struct slice result;

    assert_int_equal(session_check(bench->table, &key, &result), SESSION_DUPLICATE);
    assert_true(slice_equal(result, slice_text(expected)));
}

/* Reads the table anew from what was written through. */
static inline void reload(struct bench *bench)
{
    assert_int_equal(session_table_load(bench->table), ST_OK);
}

/* The client's record as it is written through. */
static inline enum status read_record(const struct bench *bench, struct slice client,
                                      struct buf *record)
{
    struct io_state *io = mem_state_io(bench->store);

    return io->ops->get(io, (struct io_key){RANGE, KIND, client}, record);
}

/* The record of a client of one table becomes that of another, as when its shard moves. */
static inline void put_record(const struct bench *from, struct bench *to, uint32_t client)
{
    struct session_key key = op(client, 1, 0, 0);
    struct slice id = slice_of(key.client.bytes, sizeof(key.client.bytes));
    struct buf record = {0};

    assert_int_equal(read_record(from, id, &record), ST_OK);
    assert_int_equal(session_put(to->table, id, buf_slice(&record)), ST_OK);
    buf_fini(&record);
}

static inline void remove_record(struct bench *bench, uint32_t client)
{
    struct session_key key = op(client, 1, 0, 0);

    session_remove(bench->table, slice_of(key.client.bytes, sizeof(key.client.bytes)));
}

/* All that is written through, as one number. */
static inline uint64_t written(const struct bench *bench)
{
    uint64_t range = RANGE;

    return mem_state_sum(bench->store, &range, 1);
}

#endif
