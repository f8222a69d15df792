/* What the crash test writes, and the checks that it is there: what an entry of the log holds is a
 * function of its index and term, what the state holds at index n one of n.
 */
#ifndef TESTS_UNIT_CRASH_CONTENT_H
#define TESTS_UNIT_CRASH_CONTENT_H

#include "raft/util/blob.h"
#include "tests/unit/state_kit.h"

#define SLOTS         40 /* keys of range 0 that are overwritten in turn */
#define STEPS_A_RANGE 8  /* checkpoints after which a new range begins */
#define FIRST_RANGE   10
#define LOG_ENTRIES   20000
#define SEGMENT_BYTES (128u << 10)
#define LOG_SALT      1000 /* of the values of entries; the term is added */

/* ---- What is in the store at index n ---- */

static inline uint64_t range_of(uint64_t n)
{
    return FIRST_RANGE + n / STEPS_A_RANGE;
}

/* The ranges of checkpoint n: that of n and the one before. */
static inline size_t ranges_of(uint64_t n, uint64_t ranges[2])
{
    size_t count = 0;

    if (range_of(n) > FIRST_RANGE) {
        ranges[count++] = range_of(n) - 1;
    }
    ranges[count++] = range_of(n);
    return count;
}

/* The value that index n writes. */
static inline struct slice value_of(uint64_t n, uint64_t salt, struct buf *value)
{
    struct rng rng;
    size_t len;

    rng_init(&rng, n * 1000 + salt);
    len = rng_below(&rng, rng_below(&rng, 10) == 0 ? 9000 : 300);
    buf_clear(value);
    buf_put_u64(value, n);
    while (value->len < len) {
        buf_put_u64(value, rng_next(&rng));
    }
    return buf_slice(value);
}

static inline uint64_t keys_of(uint64_t n)
{
    return n * 7919 % 23;
}

static inline struct io_key slot_key(char text[32], uint64_t n)
{
    snprintf(text, 32, "slot%02d", (int)(n % SLOTS));
    return kit_key(0, 1, text);
}

static inline struct io_key own_key(char text[32], uint64_t n, uint64_t i)
{
    snprintf(text, 32, "%08d-%02d", (int)n, (int)i);
    return kit_key(range_of(n), 1, text);
}

static inline void write_index(struct kit *kit, uint64_t n)
{
    struct buf value = {0};
    char text[32];

    kit->io->ops->put(kit->io, slot_key(text, n), value_of(n, 0, &value));
    for (uint64_t i = 0; i < keys_of(n); i++) {
        kit->io->ops->put(kit->io, own_key(text, n, i), value_of(n, i + 1, &value));
    }
    buf_fini(&value);
}

static inline bool has_value(struct kit *kit, struct io_key key, struct slice expected)
{
    struct buf found = {0};
    bool good = kit->io->ops->get(kit->io, key, &found) == ST_OK &&
                slice_equal(buf_slice(&found), expected);

    buf_fini(&found);
    return good;
}

/* The range of a checkpoint at n holds what the indices up to n wrote, and nothing else. */
static inline bool has_range(struct kit *kit, uint64_t range, uint64_t n)
{
    struct io_iter *iter = kit->io->ops->iter_open(kit->io, kit_key(range, 1, ""));
    uint64_t at = (range - FIRST_RANGE) * STEPS_A_RANGE;
    struct buf value = {0};
    struct slice key, found;
    bool good = true;

    at = at == 0 ? 1 : at;
    for (; at <= n && range_of(at) == range; at++) {
        for (uint64_t i = 0; good && i < keys_of(at); i++) {
            char text[32];

            good = kit->io->ops->iter_next(iter, &key, &found) &&
                   slice_equal(key, own_key(text, at, i).key) &&
                   slice_equal(found, value_of(at, i + 1, &value));
        }
    }
    good = good && !kit->io->ops->iter_next(iter, &key, &found);
    buf_fini(&value);
    return kit->io->ops->iter_close(iter) == ST_OK && good;
}

static inline bool has_index(struct kit *kit, uint64_t n)
{
    uint64_t ranges[2];
    size_t n_ranges = ranges_of(n, ranges);
    struct buf value = {0};
    bool good = true;

    for (uint64_t at = n > SLOTS ? n - SLOTS + 1 : 1; good && at <= n; at++) {
        char text[32];

        good = has_value(kit, slot_key(text, at), value_of(at, 0, &value));
    }
    for (size_t i = 0; good && i < n_ranges; i++) {
        good = has_range(kit, ranges[i], n);
    }
    buf_fini(&value);
    return good;
}

/* ---- What is in the log ---- */

/* What the child tells. A write or a reset is told before (it may be there) and after (it must). */
enum report_kind {
    TOLD_CHECKPOINT = 1, /* a: number, b: index: durable */
    TOLD_INSTALLED,      /* b: index: durable */
    TOLD_SAVED,          /* a: META was saved with this */
    TOLD_WRITE,          /* a: first index, b: last index, c: term: will be written */
    TOLD_RESET,          /* a: index, c: term: the log will begin after it */
    TOLD_LOG_DURABLE,    /* the last write or reset told */
    TOLD_COMPACT         /* a: index: the log may begin after it */
};

struct report {
    uint64_t kind, a, b, c;
};

struct log_model {
    uint64_t term; /* of the hard state */
    raft_index begin_low, begin_high;
    raft_index end;
    raft_term terms[LOG_ENTRIES]; /* by index */
};

static inline void log_model_apply(struct log_model *model, struct report report)
{
    assert_true(report.b < LOG_ENTRIES);
    model->term = report.c > model->term ? report.c : model->term;
    if (report.kind == TOLD_RESET) {
        model->begin_low = model->begin_high = model->end = report.a;
        model->terms[report.a] = report.c;
        return;
    }
    for (raft_index index = report.a; index <= report.b; index++) {
        model->terms[index] = report.c;
    }
    model->end = report.b;
}

static inline bool log_model_equals(const struct log_model *model,
                                    const struct io_log_content *content)
{
    struct buf value = {0};
    raft_index index = content->begin_index;
    bool good = content->begin_index >= model->begin_low &&
                content->begin_index <= model->begin_high &&
                content->begin_index + content->n_entries == model->end &&
                content->hard_state.term == model->term &&
                content->begin_term == model->terms[content->begin_index];

    for (size_t i = 0; good && i < content->n_entries; i++) {
        const struct raft_entry *entry = &content->entries[i];

        index++;
        good =
            entry->index == index && entry->term == model->terms[index] &&
            slice_equal(blob_slice(entry->data), value_of(index, LOG_SALT + entry->term, &value));
    }
    buf_fini(&value);
    return good;
}

static inline void free_content(struct io_log_content *content)
{
    for (size_t i = 0; i < content->n_entries; i++) {
        blob_unref(&content->entries[i].data);
    }
    mem_free(content->entries);
    *content = (struct io_log_content){0};
}

static inline enum status open_wal(struct kit *kit, struct wal **wal,
                                   struct io_log_content *content)
{
    struct wal_options options;
    char path[100];
    enum status status;

    snprintf(path, sizeof(path), "%s/wal", kit->path);
    wal_options_default(&options, path);
    options.identity = 5;
    options.segment_bytes = SEGMENT_BYTES;
    options.mail = kit->options.mail;
    options.trace = &kit->trace;
    *content = (struct io_log_content){0};
    status = wal_open(&options, wal, kit->error);
    if (status == ST_OK) {
        wal_content(*wal, 7, content);
    }
    return status;
}

#endif
