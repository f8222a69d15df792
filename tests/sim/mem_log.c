/* mem_log: see the header. Durable content is kept per group; the queue holds records of four kinds
 * of which WRITE and RESET end with a completion. */
#include "tests/sim/mem_log.h"

#include "raft/util/assert.h"
#include "raft/util/mem.h"

struct durable {
    struct durable *next;
    group_id group;
    struct raft_hard_state hard_state;
    raft_index begin_index;
    raft_term begin_term;
    struct raft_entry *entries;
    size_t n, capacity;
    uint64_t checkpoint;
    raft_index checkpoint_index;
};

enum record_kind { RECORD_WRITE, RECORD_RESET, RECORD_COMPACT, RECORD_CHECKPOINT };

struct record {
    struct record *next;
    enum record_kind kind;
    group_id group;
    uint64_t token;
    bool has_hard_state;
    struct raft_hard_state hard_state;
    struct raft_entry *entries;
    size_t n_entries;
    raft_index index; /* RESET, COMPACT, CHECKPOINT */
    raft_term term;   /* RESET, COMPACT */
    uint64_t number;  /* CHECKPOINT */
};

struct completion {
    struct completion *next;
    struct io_event event;
};

struct mem_log {
    struct io_log io; /* first */
    struct durable *groups;
    struct record *queue, **queue_end;
    size_t n_writes; /* in the queue */
    size_t n_notes;  /* the others there */
    struct completion *events, **events_end;
    enum status failed; /* ST_OK: healthy */
    bool full;          /* writes wait for room */
};

static struct mem_log *of_io(struct io_log *io)
{
    return (struct mem_log *)io;
}

static struct durable *durable_of(struct mem_log *log, group_id group)
{
    struct durable *found = log->groups;

    while (found != NULL && found->group != group) {
        found = found->next;
    }
    if (found == NULL) {
        found = mem_zalloc(sizeof(*found));
        found->group = group;
        found->next = log->groups;
        log->groups = found;
    }
    return found;
}

static bool record_is_write(const struct record *record)
{
    return record->kind == RECORD_WRITE || record->kind == RECORD_RESET;
}

static struct record *queue_record(struct mem_log *log, enum record_kind kind, group_id group)
{
    struct record *record = mem_zalloc(sizeof(*record));

    record->kind = kind;
    record->group = group;
    *log->queue_end = record;
    log->queue_end = &record->next;
    log->n_writes += record_is_write(record);
    log->n_notes += !record_is_write(record);
    return record;
}

static struct record *pop_record(struct mem_log *log)
{
    struct record *record = log->queue;

    log->queue = record->next;
    if (log->queue == NULL) {
        log->queue_end = &log->queue;
    }
    log->n_writes -= record_is_write(record);
    log->n_notes -= !record_is_write(record);
    return record;
}

static void record_free(struct record *record)
{
    for (size_t i = 0; i < record->n_entries; i++) {
        blob_unref(&record->entries[i].data);
    }
    mem_free(record->entries);
    mem_free(record);
}

static void record_fill(struct record *record, const struct io_log_write *write)
{
    record->token = write->token;
    record->has_hard_state = write->has_hard_state;
    record->hard_state = write->hard_state;
    record->n_entries = write->n_entries;
    record->entries = mem_copy(write->entries, write->n_entries * sizeof(*write->entries));
    for (size_t i = 0; i < write->n_entries; i++) {
        ASSERT(i == 0 || write->entries[i].index == write->entries[i - 1].index + 1);
        if (write->entries[i].data != NULL) {
            blob_ref(write->entries[i].data);
        }
    }
}

/* ---- The table ---- */

static void op_write(struct io_log *io, const struct io_log_write *write)
{
    record_fill(queue_record(of_io(io), RECORD_WRITE, write->group), write);
}

static void op_compact(struct io_log *io, group_id group, raft_index index, raft_term term)
{
    struct record *record = queue_record(of_io(io), RECORD_COMPACT, group);

    record->index = index;
    record->term = term;
}

static void op_reset(struct io_log *io, raft_index index, raft_term term,
                     const struct io_log_write *write)
{
    struct record *record = queue_record(of_io(io), RECORD_RESET, write->group);

    record_fill(record, write);
    record->index = index;
    record->term = term;
}

static void op_checkpoint(struct io_log *io, group_id group, uint64_t number, raft_index index)
{
    struct record *record = queue_record(of_io(io), RECORD_CHECKPOINT, group);

    record->number = number;
    record->index = index;
}

static uint64_t op_bytes(struct io_log *io)
{
    uint64_t bytes = 0;

    for (const struct durable *group = of_io(io)->groups; group != NULL; group = group->next) {
        for (size_t i = 0; i < group->n; i++) {
            bytes += 32 + blob_slice(group->entries[i].data).len;
        }
    }
    return bytes;
}

static const struct io_log_ops mem_log_ops = {
    .write = op_write,
    .compact = op_compact,
    .reset = op_reset,
    .checkpoint = op_checkpoint,
    .bytes = op_bytes,
};

/* ---- Becoming durable ---- */

static void durable_cut(struct durable *durable, size_t keep)
{
    ASSERT(keep <= durable->n);
    while (durable->n > keep) {
        blob_unref(&durable->entries[--durable->n].data);
    }
}

static void durable_append(struct durable *durable, struct record *record)
{
    raft_index first;

    if (record->n_entries == 0) {
        return;
    }
    first = record->entries[0].index;
    ASSERT(first > durable->begin_index && first <= durable->begin_index + durable->n + 1);
    durable_cut(durable, (size_t)(first - durable->begin_index - 1));
    MEM_GROW(durable->entries, durable->capacity, durable->n + record->n_entries);
    for (size_t i = 0; i < record->n_entries; i++) {
        raft_term before =
            durable->n == 0 ? durable->begin_term : durable->entries[durable->n - 1].term;
        ASSERT(record->entries[i].term >= before);
        durable->entries[durable->n++] = record->entries[i];
    }
    record->n_entries = 0; /* their references moved */
}

static void durable_compact(struct durable *durable, raft_index index, raft_term term)
{
    size_t drop;

    if (index <= durable->begin_index) {
        return;
    }
    drop = (size_t)(index - durable->begin_index);
    ASSERT(drop <= durable->n && durable->entries[drop - 1].term == term);
    ASSERT(index <= durable->checkpoint_index);
    for (size_t i = 0; i < drop; i++) {
        blob_unref(&durable->entries[i].data);
    }
    durable->n -= drop;
    memmove(durable->entries, durable->entries + drop, durable->n * sizeof(*durable->entries));
    durable->begin_index = index;
    durable->begin_term = term;
}

static void perform(struct mem_log *log, struct record *record)
{
    struct durable *durable = durable_of(log, record->group);

    if (record->has_hard_state) {
        ASSERT(record->hard_state.term >= durable->hard_state.term);
        durable->hard_state = record->hard_state;
    }
    switch (record->kind) {
    case RECORD_WRITE:
        durable_append(durable, record);
        break;
    case RECORD_RESET:
        durable_cut(durable, 0);
        durable->begin_index = record->index;
        durable->begin_term = record->term;
        durable_append(durable, record);
        break;
    case RECORD_COMPACT:
        durable_compact(durable, record->index, record->term);
        break;
    case RECORD_CHECKPOINT:
        ASSERT(record->number > durable->checkpoint);
        durable->checkpoint = record->number;
        durable->checkpoint_index = record->index;
        break;
    }
}

/* Performs everything up to and with the next write. */
static struct record *perform_next_write(struct mem_log *log)
{
    struct record *record = pop_record(log);

    while (!record_is_write(record)) {
        perform(log, record);
        record_free(record);
        record = pop_record(log);
    }
    perform(log, record);
    return record;
}

static void queue_written(struct mem_log *log, const struct record *record)
{
    struct completion *completion = mem_zalloc(sizeof(*completion));

    completion->event.type = IO_EVENT_LOG_WRITTEN;
    completion->event.log.group = record->group;
    completion->event.log.token = record->token;
    completion->event.log.status = log->failed;
    *log->events_end = completion;
    log->events_end = &completion->next;
}

/* ---- The owner's side ---- */

struct mem_log *mem_log_create(void)
{
    struct mem_log *log = mem_zalloc(sizeof(*log));

    log->io.ops = &mem_log_ops;
    log->queue_end = &log->queue;
    log->events_end = &log->events;
    return log;
}

void mem_log_destroy(struct mem_log **log)
{
    if (*log == NULL) {
        return;
    }
    mem_log_crash(*log, 0);
    while ((*log)->groups != NULL) {
        struct durable *group = (*log)->groups;
        (*log)->groups = group->next;
        durable_cut(group, 0);
        mem_free(group->entries);
        mem_free(group);
    }
    mem_free(*log);
    *log = NULL;
}

struct io_log *mem_log_io(struct mem_log *log)
{
    return &log->io;
}

void mem_log_content(const struct mem_log *log, group_id group, struct io_log_content *content)
{
    const struct durable *durable = log->groups;

    *content = (struct io_log_content){0};
    while (durable != NULL && durable->group != group) {
        durable = durable->next;
    }
    if (durable == NULL) {
        return;
    }
    content->hard_state = durable->hard_state;
    content->begin_index = durable->begin_index;
    content->begin_term = durable->begin_term;
    content->checkpoint = durable->checkpoint;
    content->checkpoint_index = durable->checkpoint_index;
    content->n_entries = durable->n;
    content->entries = mem_copy(durable->entries, durable->n * sizeof(*durable->entries));
    for (size_t i = 0; i < durable->n; i++) {
        if (durable->entries[i].data != NULL) {
            blob_ref(durable->entries[i].data);
        }
    }
}

size_t mem_log_n_writes(const struct mem_log *log)
{
    return log->n_writes;
}

size_t mem_log_n_notes(const struct mem_log *log)
{
    return log->n_notes;
}

void mem_log_write_notes(struct mem_log *log)
{
    while (log->failed == ST_OK && !log->full && log->n_writes == 0 && log->n_notes > 0) {
        struct record *record = pop_record(log);
        perform(log, record);
        record_free(record);
    }
}

bool mem_log_sync(struct mem_log *log)
{
    struct record *record;

    if (mem_log_n_writes(log) == 0 || (log->full && log->failed == ST_OK)) {
        return false;
    }
    if (log->failed != ST_OK) {
        do {
            record = pop_record(log);
            if (record_is_write(record)) {
                break;
            }
            record_free(record);
        } while (true);
    } else {
        record = perform_next_write(log);
    }
    queue_written(log, record);
    record_free(record);
    return true;
}

bool mem_log_take(struct mem_log *log, struct io_event *event)
{
    struct completion *completion = log->events;

    if (completion == NULL) {
        return false;
    }
    log->events = completion->next;
    if (log->events == NULL) {
        log->events_end = &log->events;
    }
    *event = completion->event;
    mem_free(completion);
    return true;
}

void mem_log_crash(struct mem_log *log, size_t survivors)
{
    if (log->failed == ST_OK && !log->full) {
        for (size_t n = mem_log_n_writes(log); survivors > 0 && n > 0; survivors--, n--) {
            record_free(perform_next_write(log));
        }
    }
    while (log->queue != NULL) {
        record_free(pop_record(log));
    }
    while (log->events != NULL) {
        struct io_event event;
        mem_log_take(log, &event);
    }
    log->failed = ST_OK;
}

void mem_log_fail(struct mem_log *log, enum status status)
{
    ASSERT(status != ST_OK);
    log->failed = status;
}

void mem_log_heal(struct mem_log *log)
{
    log->failed = ST_OK;
}

void mem_log_set_full(struct mem_log *log, bool full)
{
    log->full = full;
}
