/* What the tests of the state store share: a directory that goes away, a mailbox that the test
 * pumps as a loop thread would, waiting for an event with an end to patience, and a model of the
 * state, an ordered array, to compare with.
 */
#ifndef TESTS_UNIT_STATE_KIT_H
#define TESTS_UNIT_STATE_KIT_H

#include <ftw.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "raft/store.h"
#include "raft/util/mem.h"
#include "raft/util/rng.h"
#include "raft/util/trace.h"
#include "tests/cmocka.h"

#define KIT_PATIENCE_S 60

/* ---- A directory of its own for a test ---- */

static inline int kit_remove_one(const char *path, const struct stat *found, int type,
                                 struct FTW *ftw)
{
    (void)found;
    (void)type;
    (void)ftw;
    return remove(path);
}

static inline void kit_remove_tree(const char *path)
{
    nftw(path, kit_remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

/* In memory where possible: what these tests wait for is not the disk. */
static inline void kit_make_dir(char path[64])
{
    snprintf(path, 64, "%s/shardkv-test-XXXXXX",
             access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
    assert_non_null(mkdtemp(path));
}

/* ---- Mail and events ---- */

struct kit_letter {
    void (*run)(void *arg);
    void *arg;
    struct kit_letter *next;
};

struct kit_event {
    struct io_event event; /* its slices point into `bytes` */
    struct buf bytes;
    struct kit_event *next;
};

struct kit {
    char path[64];  /* of the directory */
    char state[80]; /* of the state in it */
    struct state_options options;
    struct state *store;
    struct io_state *io;
    struct io_state_meta meta; /* at the last open */
    char error[STORE_ERROR_BYTES];
    pthread_mutex_t lock;
    pthread_cond_t wake;
    struct kit_letter *letters, **letters_end;
    struct kit_event *events, **events_end;
    struct trace trace;
    size_t pad; /* for the test's own use */
};

/* Set KIT_TRACE in the environment to see what the store has to say. */
static inline void kit_emit(void *context, enum trace_level level, const char *line)
{
    (void)context;
    (void)level;
    if (getenv("KIT_TRACE") != NULL) {
        fprintf(stderr, "trace: %s\n", line);
    }
}

static inline void kit_post(void *context, void (*run)(void *arg), void *arg)
{
    struct kit *kit = context;
    struct kit_letter *letter = mem_zalloc(sizeof(*letter));

    letter->run = run;
    letter->arg = arg;
    pthread_mutex_lock(&kit->lock);
    *kit->letters_end = letter;
    kit->letters_end = &letter->next;
    pthread_cond_signal(&kit->wake);
    pthread_mutex_unlock(&kit->lock);
}

static inline void kit_deliver(void *context, struct io_event *event)
{
    struct kit *kit = context;
    struct kit_event *kept = mem_zalloc(sizeof(*kept));

    kept->event = *event;
    if (event->type == IO_EVENT_SNAPSHOT_READ) {
        buf_put_slice(&kept->bytes, event->snapshot.data);
        kept->event.snapshot.data = buf_slice(&kept->bytes);
    } else if (event->type == IO_EVENT_INSTALLED) {
        buf_put_slice(&kept->bytes, event->install.extra);
        kept->event.install.extra = buf_slice(&kept->bytes);
    }
    *kit->events_end = kept;
    kit->events_end = &kept->next;
}

/* A kit in a directory that is there, and stays. */
static inline void kit_init_at(struct kit *kit, const char *path)
{
    *kit = (struct kit){0};
    snprintf(kit->path, sizeof(kit->path), "%.63s", path);
    snprintf(kit->state, sizeof(kit->state), "%s/state", kit->path);
    state_options_default(&kit->options, kit->state, 7);
    kit->options.cache_bytes = 1u << 20;
    kit->options.write_buffer_bytes = 256u << 10;
    kit->options.sweep_pause_ms = 0;
    kit->options.mail = (struct store_mail){kit, kit_post, kit_deliver};
    pthread_mutex_init(&kit->lock, NULL);
    pthread_cond_init(&kit->wake, NULL);
    kit->letters_end = &kit->letters;
    kit->events_end = &kit->events;
    kit->trace = (struct trace){TRACE_WARN, NULL, kit_emit};
    kit->options.trace = &kit->trace;
}

static inline void kit_init(struct kit *kit)
{
    char path[64];

    kit_make_dir(path);
    kit_init_at(kit, path);
}

/* Runs one letter, if there is one; waits for it up to the given time. */
static inline bool kit_pump(struct kit *kit, int wait_s)
{
    struct kit_letter *letter;
    struct timespec until;

    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += wait_s;
    pthread_mutex_lock(&kit->lock);
    while (kit->letters == NULL && wait_s > 0 &&
           pthread_cond_timedwait(&kit->wake, &kit->lock, &until) == 0) {
    }
    letter = kit->letters;
    if (letter != NULL) {
        kit->letters = letter->next;
        if (kit->letters == NULL) {
            kit->letters_end = &kit->letters;
        }
    }
    pthread_mutex_unlock(&kit->lock);
    if (letter == NULL) {
        return false;
    }
    letter->run(letter->arg);
    mem_free(letter);
    return true;
}

/* Waits until the background thread has posted something, but does not run it. */
static inline void kit_await_letter(struct kit *kit)
{
    struct timespec until;

    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += KIT_PATIENCE_S;
    pthread_mutex_lock(&kit->lock);
    while (kit->letters == NULL) {
        assert_int_equal(pthread_cond_timedwait(&kit->wake, &kit->lock, &until), 0);
    }
    pthread_mutex_unlock(&kit->lock);
}

static inline void kit_free_event(struct kit_event **event)
{
    buf_fini(&(*event)->bytes);
    mem_free(*event);
    *event = NULL;
}

/* The next event if there is one already; the caller frees it. */
static inline struct kit_event *kit_take_event(struct kit *kit)
{
    struct kit_event *event = kit->events;

    if (event != NULL) {
        kit->events = event->next;
        if (kit->events == NULL) {
            kit->events_end = &kit->events;
        }
        event->next = NULL;
    }
    return event;
}

/* The next event, which must be of that type. */
static inline struct kit_event *kit_wait_any(struct kit *kit)
{
    struct kit_event *event;

    while ((event = kit_take_event(kit)) == NULL) {
        if (!kit_pump(kit, KIT_PATIENCE_S)) {
            fail_msg("no event in time");
        }
    }
    return event;
}

static inline struct kit_event *kit_wait(struct kit *kit, enum io_event_type type)
{
    struct kit_event *event = kit_wait_any(kit);

    assert_int_equal(event->event.type, type);
    return event;
}

/* Opens the state; gives what state_open gives. */
static inline enum status kit_try_open(struct kit *kit, uint64_t durable, raft_index index)
{
    enum status status;

    buf_fini(&kit->meta.extra);
    kit->error[0] = '\0';
    status = state_open(&kit->options, durable, index, &kit->store, &kit->meta, kit->error);
    kit->io = status == ST_OK ? state_io(kit->store) : NULL;
    return status;
}

static inline void kit_open(struct kit *kit)
{
    if (kit_try_open(kit, 0, 0) != ST_OK) {
        fail_msg("state_open: %s", kit->error);
    }
}

/* Closes, as a crash would: nothing more is written; what is in the mail is dropped. */
static inline void kit_close(struct kit *kit)
{
    struct kit_event *event;

    state_close(&kit->store);
    kit->io = NULL;
    while (kit_pump(kit, 0)) {
    }
    while ((event = kit_take_event(kit)) != NULL) {
        kit_free_event(&event);
    }
}

static inline void kit_fini_at(struct kit *kit)
{
    kit_close(kit);
    buf_fini(&kit->meta.extra);
    pthread_mutex_destroy(&kit->lock);
    pthread_cond_destroy(&kit->wake);
}

static inline void kit_fini(struct kit *kit)
{
    kit_fini_at(kit);
    kit_remove_tree(kit->path);
}

/* ---- The state's operations in short ---- */

static inline struct io_key kit_key(uint64_t range, uint8_t kind, const char *key)
{
    return (struct io_key){range, kind, slice_text(key)};
}

static inline void kit_put(struct kit *kit, uint64_t range, const char *key, const char *value)
{
    kit->io->ops->put(kit->io, kit_key(range, 1, key), slice_text(value));
}

static inline void kit_remove(struct kit *kit, uint64_t range, const char *key)
{
    kit->io->ops->remove(kit->io, kit_key(range, 1, key));
}

static inline void kit_expect(struct kit *kit, uint64_t range, const char *key, const char *value)
{
    struct buf found = {0};
    enum status status = kit->io->ops->get(kit->io, kit_key(range, 1, key), &found);

    if (value == NULL) {
        assert_int_equal(status, ST_NOT_FOUND);
    } else {
        assert_int_equal(status, ST_OK);
        assert_true(slice_equal(buf_slice(&found), slice_text(value)));
    }
    buf_fini(&found);
}

static inline void kit_begin_checkpoint(struct kit *kit, raft_index index, raft_term term,
                                        const char *extra, const uint64_t *ranges, size_t n)
{
    const struct io_checkpoint checkpoint = {index, term, slice_text(extra), ranges, n};

    kit->io->ops->checkpoint(kit->io, &checkpoint);
}

/* Begins a checkpoint and waits for it; gives its number. */
static inline uint64_t kit_checkpoint(struct kit *kit, raft_index index, const uint64_t *ranges,
                                      size_t n)
{
    struct kit_event *event;
    uint64_t number;

    kit_begin_checkpoint(kit, index, 3, "extra", ranges, n);
    event = kit_wait(kit, IO_EVENT_CHECKPOINT);
    assert_int_equal(event->event.checkpoint.status, ST_OK);
    assert_int_equal(event->event.checkpoint.index, index);
    assert_int_equal(event->event.checkpoint.group, 7);
    number = event->event.checkpoint.number;
    kit_free_event(&event);
    return number;
}

/* Reads one chunk; the caller frees the event. */
static inline struct kit_event *kit_read_chunk(struct kit *kit, uint64_t id, uint64_t offset,
                                               size_t max_bytes)
{
    kit->io->ops->snapshot_read(kit->io, id, offset, max_bytes, offset + 1000);
    return kit_wait(kit, IO_EVENT_SNAPSHOT_READ);
}

/* ---- The model ---- */

#define MODEL_ITEMS 2048
#define MODEL_KEY   24
#define MODEL_VALUE 96

struct model_item {
    uint64_t range;
    uint8_t kind;
    uint8_t key_len, value_len;
    uint8_t key[MODEL_KEY];
    uint8_t value[MODEL_VALUE];
};

struct model {
    struct model_item items[MODEL_ITEMS];
    size_t n;
};

static inline struct io_key model_key(const struct model_item *item)
{
    return (struct io_key){item->range, item->kind, slice_of(item->key, item->key_len)};
}

static inline int model_compare(struct io_key a, struct io_key b)
{
    if (a.range != b.range) {
        return a.range < b.range ? -1 : 1;
    }
    if (a.kind != b.kind) {
        return a.kind < b.kind ? -1 : 1;
    }
    return slice_compare(a.key, b.key);
}

/* The position of the first item at or after the key. */
static inline size_t model_seek(const struct model *model, struct io_key key)
{
    size_t at = 0;

    while (at < model->n && model_compare(model_key(&model->items[at]), key) < 0) {
        at++;
    }
    return at;
}

static inline struct model_item *model_find(struct model *model, struct io_key key)
{
    size_t at = model_seek(model, key);

    return at < model->n && model_compare(model_key(&model->items[at]), key) == 0
               ? &model->items[at]
               : NULL;
}

static inline void model_put(struct model *model, struct io_key key, struct slice value)
{
    size_t at = model_seek(model, key);
    struct model_item *item = &model->items[at];

    if (model_find(model, key) == NULL) {
        assert_true(model->n < MODEL_ITEMS);
        memmove(item + 1, item, (model->n - at) * sizeof(*item));
        model->n++;
    }
    assert_true(key.key.len <= MODEL_KEY && value.len <= MODEL_VALUE);
    *item = (struct model_item){.range = key.range,
                                .kind = key.kind,
                                .key_len = (uint8_t)key.key.len,
                                .value_len = (uint8_t)value.len};
    if (key.key.len > 0) {
        memcpy(item->key, key.key.data, key.key.len);
    }
    if (value.len > 0) {
        memcpy(item->value, value.data, value.len);
    }
}

static inline void model_remove(struct model *model, struct io_key key)
{
    struct model_item *item = model_find(model, key);

    if (item != NULL) {
        model->n--;
        memmove(item, item + 1, (size_t)(model->items + model->n - item) * sizeof(*item));
    }
}

/* Everything of (range, kind) from the key on must be what the model holds. */
static inline void model_expect_iteration(const struct model *model, struct io_state *io,
                                          struct io_key from)
{
    struct io_iter *iter = io->ops->iter_open(io, from);
    size_t at = model_seek(model, from);
    struct slice key, value;

    while (io->ops->iter_next(iter, &key, &value)) {
        const struct model_item *item = &model->items[at++];

        assert_true(at <= model->n);
        assert_true(item->range == from.range && item->kind == from.kind);
        assert_true(slice_equal(key, slice_of(item->key, item->key_len)));
        assert_true(slice_equal(value, slice_of(item->value, item->value_len)));
    }
    assert_int_equal(io->ops->iter_close(iter), ST_OK);
    assert_true(at == model->n || model->items[at].range != from.range ||
                model->items[at].kind != from.kind);
}

#endif
