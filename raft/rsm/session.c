/* Sessions: no operation is applied twice, whatever was forgotten.
 *
 * The table keeps one record a client and one number, the floor. A record that is evicted raises
 * the floor to its activity, which is at least the issued_at of everything ever applied for that
 * client; so whatever the table no longer knows has issued_at <= floor and is refused. That is the
 * whole argument, and it needs no clock: issued_at is part of the operation, stamps are part of
 * entries.
 *
 * Records are in a hash table by client id for look-up (never iterated) and in a red-black tree for
 * eviction: the least (activity, id) goes, so every replica evicts the same client whatever the
 * order in which records came in. Activity only grows, so the tree may lag: a record stands there
 * by the activity that it had once (`ranked`), and is ranked anew when it comes to the front. What
 * is at the front and up to date is the least of all.
 *
 * Each change is written through to the state, or, in a deferred table, at the latest when the
 * table is saved: a client that writes a hundred times between two checkpoints has one record in
 * the second. What is not saved yet stands in a list, the longest unsaved first. An eviction and
 * the floor are never put off.
 */
#include "raft/rsm/session_table.h"

RB_HEAD(session_tree, session_record);
TAILQ_HEAD(session_list, session_record);

struct session_table {
    struct io_state *state;
    uint64_t range;
    uint8_t kind;
    uint32_t max_records;
    uint64_t max_results; /* kept in all records together */
    uint64_t floor;
    uint64_t n_results;
    struct session_index by_id;
    struct session_tree by_activity;
    bool deferred;
    struct session_list unsaved; /* the longest unsaved first */
    uint32_t n_unsaved;
    struct buf scratch;      /* the record or floor being written */
    session_changed changed; /* or NULL */
    void *changed_context;
};

static int record_compare(const struct session_record *a, const struct session_record *b)
{
    if (a->ranked != b->ranked) {
        return a->ranked < b->ranked ? -1 : 1;
    }
    return memcmp(a->client.bytes, b->client.bytes, sizeof(a->client.bytes));
}

RB_GENERATE_INTERNAL(session_tree, session_record, by_activity, record_compare,
                     __attribute__((unused)) static)

/* ---- A record and its results ---- */

struct session_record *session_record_create(const void *client, struct slice results, size_t n,
                                             size_t more_bytes)
{
    size_t capacity = results.len + more_bytes;
    struct session_record *record = mem_zalloc(sizeof(*record) + capacity);

    ASSERT(n <= SESSION_SEQ_WINDOW && n * SESSION_RESULT_HEADER <= results.len);
    memcpy(record->client.bytes, client, sizeof(record->client.bytes));
    record->n_results = (uint32_t)n;
    record->results_len = (uint32_t)results.len;
    record->capacity = (uint32_t)capacity;
    if (results.len > 0) {
        memcpy(record->results, results.data, results.len);
    }
    return record;
}

void session_result_append(struct buf *results, uint64_t seq, struct slice result)
{
    ASSERT(result.len <= SESSION_MAX_RESULT);
    buf_put_u64(results, seq);
    buf_put_u8(results, (uint8_t)result.len);
    buf_put_slice(results, result);
}

/* A place in the packed results. */
struct cursor {
    size_t offset, next;
    uint64_t seq;
    struct slice result;
};

static bool cursor_read(struct slice results, size_t offset, struct cursor *cursor)
{
    if (offset == results.len) {
        return false;
    }
    ASSERT(offset + SESSION_RESULT_HEADER <= results.len);
    cursor->offset = offset;
    cursor->seq = get_u64(results.data + offset);
    cursor->result =
        slice_of(results.data + offset + SESSION_RESULT_HEADER, results.data[offset + 8]);
    cursor->next = offset + SESSION_RESULT_HEADER + cursor->result.len;
    ASSERT(cursor->next <= results.len);
    return true;
}

static bool record_find_result(const struct session_record *record, uint64_t seq,
                               struct slice *result)
{
    struct slice results = session_record_results(record);
    struct cursor cursor;

    for (size_t at = 0; cursor_read(results, at, &cursor) && cursor.seq <= seq; at = cursor.next) {
        if (cursor.seq == seq) {
            *result = cursor.result;
            return true;
        }
    }
    return false;
}

/* Forgets the results that the client has: those up to acked_seq. */
static void record_forget_answered(struct session_record *record)
{
    struct slice results = session_record_results(record);
    struct cursor cursor;
    size_t at = 0;

    while (cursor_read(results, at, &cursor) && cursor.seq <= record->acked_seq) {
        at = cursor.next;
        record->n_results--;
    }
    record->results_len -= (uint32_t)at;
    memmove(record->results, record->results + at, record->results_len);
}

/* Keeps one more result, in its place among the others; there is room for it. */
static void record_keep_result(struct session_record *record, uint64_t seq, struct slice result)
{
    struct slice results = session_record_results(record);
    size_t at = 0, len = SESSION_RESULT_HEADER + result.len;
    struct cursor cursor;

    ASSERT(result.len <= SESSION_MAX_RESULT && record->results_len + len <= record->capacity);
    while (cursor_read(results, at, &cursor) && cursor.seq < seq) {
        at = cursor.next;
    }
    memmove(record->results + at + len, record->results + at, record->results_len - at);
    set_u64(record->results + at, seq);
    record->results[at + 8] = (uint8_t)result.len;
    if (result.len > 0) {
        memcpy(record->results + at + SESSION_RESULT_HEADER, result.data, result.len);
    }
    record->n_results++;
    record->results_len += (uint32_t)len;
}

/* ---- The table ---- */

static struct session_record *table_find(const struct session_table *table, const void *client)
{
    return session_index_find(&table->by_id, client);
}

/* Puts the record into the tree by the activity that it has by now. */
static void table_insert_ranked(struct session_table *table, struct session_record *record)
{
    struct session_record *other;

    record->ranked = record->activity;
    other = RB_INSERT(session_tree, &table->by_activity, record);
    ASSERT(other == NULL);
}

static void table_link(struct session_table *table, struct session_record *record)
{
    session_index_add(&table->by_id, record);
    table_insert_ranked(table, record);
    table->n_results += record->n_results;
}

static void table_forget_unsaved(struct session_table *table, struct session_record *record)
{
    if (record->is_unsaved) {
        ASSERT(table->n_unsaved > 0);
        record->is_unsaved = false;
        table->n_unsaved--;
        TAILQ_REMOVE(&table->unsaved, record, unsaved);
    }
}

/* Takes the record out, to be freed or moved. */
static void table_unlink(struct session_table *table, struct session_record *record)
{
    ASSERT(table->n_results >= record->n_results);
    table->n_results -= record->n_results;
    RB_REMOVE(session_tree, &table->by_activity, record);
    session_index_remove(&table->by_id, record);
    table_forget_unsaved(table, record);
}

static void table_clear(struct session_table *table)
{
    struct session_record *record;

    while ((record = RB_MIN(session_tree, &table->by_activity)) != NULL) {
        table_unlink(table, record);
        mem_free(record);
    }
    ASSERT(table->n_results == 0 && table->by_id.n == 0 && table->n_unsaved == 0);
    table->floor = 0;
}

static struct io_key table_key(const struct session_table *table, struct slice client)
{
    return (struct io_key){table->range, table->kind, client};
}

static struct slice client_slice(const struct session_record *record)
{
    return slice_of(record->client.bytes, sizeof(record->client.bytes));
}

static void table_write(struct session_table *table, struct session_record *record)
{
    table_forget_unsaved(table, record);
    buf_clear(&table->scratch);
    session_record_encode(record, &table->scratch);
    table->state->ops->put(table->state, table_key(table, client_slice(record)),
                           buf_slice(&table->scratch));
}

/* The record has changed. Whoever watches reads it in the state: then nothing is put off. */
static void table_write_later(struct session_table *table, struct session_record *record)
{
    if (!table->deferred || table->changed != NULL) {
        table_write(table, record);
        return;
    }
    if (!record->is_unsaved) {
        record->is_unsaved = true;
        table->n_unsaved++;
        TAILQ_INSERT_TAIL(&table->unsaved, record, unsaved);
    }
    if (table->n_unsaved > SESSION_MAX_UNSAVED) {
        table_write(table, TAILQ_FIRST(&table->unsaved));
    }
}

static void table_tell(const struct session_table *table, struct slice client)
{
    if (table->changed != NULL) {
        table->changed(table->changed_context, client);
    }
}

static void table_remove(struct session_table *table, struct session_record *record)
{
    table->state->ops->remove(table->state, table_key(table, client_slice(record)));
    table_unlink(table, record);
}

static bool table_over_limit(const struct session_table *table)
{
    return table->by_id.n > table->max_records || table->n_results > table->max_results;
}

/* Ranks the record by the activity that it has by now. */
static void table_rank(struct session_table *table, struct session_record *record)
{
    ASSERT(record->ranked < record->activity);
    RB_REMOVE(session_tree, &table->by_activity, record);
    table_insert_ranked(table, record);
}

/* The least recently active client other than `spared`, or NULL. */
static struct session_record *table_least(struct session_table *table,
                                          const struct session_record *spared)
{
    struct session_record *record = RB_MIN(session_tree, &table->by_activity);

    while (record != NULL && (record == spared || record->ranked < record->activity)) {
        if (record->ranked < record->activity) {
            table_rank(table, record);
            record = RB_MIN(session_tree, &table->by_activity);
        } else {
            record = RB_NEXT(session_tree, &table->by_activity, record);
        }
    }
    return record;
}

/* Evicts the least recently active client other than `spared`; false if there is none. */
static bool table_evict(struct session_table *table, const struct session_record *spared)
{
    struct session_record *record = table_least(table, spared);

    if (record == NULL) {
        return false;
    }
    session_raise_floor(table, record->activity);
    ASSERT(table->floor >= record->activity);
    table_remove(table, record);
    table_tell(table, client_slice(record));
    mem_free(record);
    return true;
}

struct session_table *session_table_create(struct io_state *state, uint64_t range, uint8_t kind,
                                           uint32_t max_records)
{
    struct session_table *table = mem_zalloc(sizeof(*table));

    ASSERT(max_records > 0);
    table->state = state;
    table->range = range;
    table->kind = kind;
    table->max_records = max_records;
    table->max_results = (uint64_t)max_records * SESSION_RESULTS_A_CLIENT + SESSION_SEQ_WINDOW;
    RB_INIT(&table->by_activity);
    TAILQ_INIT(&table->unsaved);
    return table;
}

void session_table_defer(struct session_table *table)
{
    table->deferred = true;
}

uint32_t session_table_save_some(struct session_table *table, uint32_t most)
{
    uint32_t n = 0;

    while (n < most && !TAILQ_EMPTY(&table->unsaved)) {
        table_write(table, TAILQ_FIRST(&table->unsaved));
        n++;
    }
    return n;
}

void session_table_save(struct session_table *table)
{
    (void)session_table_save_some(table, UINT32_MAX);
    ASSERT(table->n_unsaved == 0);
}

void session_table_destroy(struct session_table **table)
{
    if (*table == NULL) {
        return;
    }
    table_clear(*table);
    session_index_fini(&(*table)->by_id);
    buf_fini(&(*table)->scratch);
    mem_free(*table);
    *table = NULL;
}

static enum status load_one(struct session_table *table, struct slice key, struct slice value)
{
    struct session_record *record;
    enum status status;

    if (key.len == 0) {
        return session_floor_decode(value, &table->floor);
    }
    if (key.len != sizeof(record->client.bytes)) {
        return ST_CORRUPT;
    }
    status = session_record_decode(value, key.data, &record);
    if (status != ST_OK) {
        return status;
    }
    ASSERT(table_find(table, key.data) == NULL);
    table_link(table, record);
    return ST_OK;
}

enum status session_table_load(struct session_table *table)
{
    struct io_iter *iter;
    struct slice key, value;
    enum status status = ST_OK, closed;

    table_clear(table);
    iter = table->state->ops->iter_open(table->state, table_key(table, slice_of(NULL, 0)));
    while (status == ST_OK && table->state->ops->iter_next(iter, &key, &value)) {
        status = load_one(table, key, value);
    }
    closed = table->state->ops->iter_close(iter);
    return status != ST_OK ? status : closed;
}

/* ---- The rule ---- */

static enum session_verdict verdict_on(const struct session_table *table,
                                       const struct session_record *record,
                                       const struct session_key *key, struct slice *result)
{
    uint64_t acked = key->acked_seq;

    *result = slice_of(NULL, 0);
    /* 1. Among the kept results: it was applied, and this was its result. */
    if (record != NULL && record_find_result(record, key->seq, result)) {
        return SESSION_DUPLICATE;
    }
    /* 2. Answered or given up, by this very try or by what the record says; or so far ahead that
     * keeping its result would break the bound of a record. */
    if (record != NULL && record->acked_seq > acked) {
        acked = record->acked_seq;
    }
    if (key->seq <= acked || key->seq - acked > SESSION_SEQ_WINDOW) {
        return SESSION_STALE;
    }
    /* 3. It may have been applied and forgotten: every forgotten operation was issued at or below
     * the floor. */
    if (key->issued_at <= table->floor) {
        return SESSION_EXPIRED;
    }
    /* 4. */
    return SESSION_APPLY;
}

enum session_verdict session_check(const struct session_table *table, const struct session_key *key,
                                   struct slice *result)
{
    return verdict_on(table, table_find(table, key->client.bytes), key, result);
}

/* Activity never falls, and stays at or above issued_at even for an entry whose stamp is not. */
static uint64_t commit_activity(const struct session_record *record, const struct session_key *key,
                                uint64_t stamp)
{
    uint64_t activity = record->activity;

    activity = stamp > activity ? stamp : activity;
    return key->issued_at > activity ? key->issued_at : activity;
}

/* The client's record, with room for a result of so many bytes and without those that it has
 * answered; a new one if there is none. It may have moved. */
static struct session_record *table_edit(struct session_table *table, struct session_record *record,
                                         const struct session_key *key, size_t len)
{
    size_t wanted = SESSION_RESULT_HEADER + len;

    if (record == NULL) {
        record = session_record_create(key->client.bytes, slice_of(NULL, 0), 0, wanted);
        table_link(table, record);
    }
    if (key->acked_seq > record->acked_seq) {
        record->acked_seq = key->acked_seq;
    }
    table->n_results -= record->n_results;
    record_forget_answered(record);
    table->n_results += record->n_results;
    wanted += record->results_len;
    if (wanted > record->capacity) {
        table_unlink(table, record);
        record = mem_realloc(record, sizeof(*record) + wanted + wanted / 2);
        record->capacity = (uint32_t)(wanted + wanted / 2);
        table_link(table, record);
    }
    return record;
}

/* So that an eviction has few records to rank first: in a table that fills up, one a commit. */
static void table_keep_ranked(struct session_table *table)
{
    struct session_record *record;

    if (table->by_id.n <= table->max_records / 2) {
        return;
    }
    record = RB_MIN(session_tree, &table->by_activity);
    if (record->ranked < record->activity) {
        table_rank(table, record);
    }
}

void session_commit(struct session_table *table, const struct session_key *key, uint64_t stamp,
                    struct slice result)
{
    struct session_record *record = table_find(table, key->client.bytes);
    struct slice kept;

    ASSERT(result.len <= SESSION_MAX_RESULT);
    ASSERT(verdict_on(table, record, key, &kept) == SESSION_APPLY);
    record = table_edit(table, record, key, result.len);
    record_keep_result(record, key->seq, result);
    table->n_results++;
    record->activity = commit_activity(record, key, stamp);
    ASSERT(record->activity >= key->issued_at && record->activity >= stamp);
    table_write_later(table, record);
    table_tell(table, client_slice(record));
    table_keep_ranked(table);
    for (int i = 0; i < SESSION_MAX_EVICTIONS && table_over_limit(table); i++) {
        if (!table_evict(table, record)) {
            break;
        }
    }
}

uint64_t session_floor(const struct session_table *table)
{
    return table->floor;
}

uint32_t session_count(const struct session_table *table)
{
    return table->by_id.n;
}

/* ---- Moving a shard ---- */

void session_table_watch(struct session_table *table, session_changed changed, void *context)
{
    table->changed = changed;
    table->changed_context = context;
    if (changed != NULL) {
        session_table_save(table);
    }
}

/* Brings the whole tree up to date. */
static void table_rank_all(struct session_table *table)
{
    struct session_record *record, *next;

    for (record = RB_MIN(session_tree, &table->by_activity); record != NULL; record = next) {
        next = RB_NEXT(session_tree, &table->by_activity, record);
        if (record->ranked < record->activity) {
            table_rank(table, record);
        }
    }
}

void session_table_each(const struct session_table *table, session_visit visit, void *context)
{
    struct session_table *self = (struct session_table *)table; /* a lag of ranks is no content */
    struct session_record *record;
    struct buf bytes = {0};

    table_rank_all(self);
    RB_FOREACH (record, session_tree, &self->by_activity) {
        buf_clear(&bytes);
        session_record_encode(record, &bytes);
        visit(context, client_slice(record), buf_slice(&bytes));
    }
    buf_fini(&bytes);
}

enum status session_put(struct session_table *table, struct slice client, struct slice record)
{
    struct session_record *incoming, *own;
    enum status status;

    if (client.len != sizeof(incoming->client.bytes)) {
        return ST_MALFORMED;
    }
    status = session_record_decode(record, client.data, &incoming);
    if (status != ST_OK) {
        return status;
    }
    own = table_find(table, client.data);
    if (own != NULL) {
        table_unlink(table, own);
        mem_free(own);
    }
    table_link(table, incoming);
    table_write(table, incoming);
    return ST_OK;
}

void session_remove(struct session_table *table, struct slice client)
{
    struct session_record *record = NULL;

    if (client.len == sizeof(record->client.bytes)) {
        record = table_find(table, client.data);
    }
    if (record != NULL) {
        table_remove(table, record);
        mem_free(record);
    }
}

void session_raise_floor(struct session_table *table, uint64_t floor)
{
    if (floor <= table->floor) {
        return;
    }
    table->floor = floor;
    buf_clear(&table->scratch);
    session_floor_encode(floor, &table->scratch);
    table->state->ops->put(table->state, table_key(table, slice_of(NULL, 0)),
                           buf_slice(&table->scratch));
}
