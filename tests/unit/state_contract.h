/* The two implementations of struct io_state behind one face: the real store on LevelDB, and the
 * simulator's in memory. A subject is one of either kind. A script does things to it, and what the
 * subject answers is noted in words, every field of every event, so that one text tells what both
 * must do. What may differ, lengths of a stream and so offsets in it, is noted by name.
 */
#ifndef TESTS_UNIT_STATE_CONTRACT_H
#define TESTS_UNIT_STATE_CONTRACT_H

#include <signal.h>
#include <stdatomic.h>
#include <sys/resource.h>
#include <sys/statvfs.h>

#include "tests/sim/mem_state.h"
#include "tests/unit/state_kit.h"

#define GROUP   7 /* as the kit's */
#define N_NAMES 16
#define N_OPEN  8

/* A field that is added to one of these is to be noted in note_event, too. */
struct noted_fields {
    struct {
        group_id group;
        uint64_t number;
        raft_index index;
        enum status status;
    } checkpoint;
    struct {
        group_id group;
        uint64_t id, token, offset;
        bool done;
        struct slice data;
        enum status status;
    } snapshot;
    struct {
        group_id group;
        raft_index index;
        raft_term term;
        uint64_t offset;
        struct slice extra;
        enum status status;
    } install;
};
#define SAME_SIZE(member)                                                                          \
    (sizeof(((struct io_event *)0)->member) == sizeof(((struct noted_fields *)0)->member))
_Static_assert(SAME_SIZE(checkpoint) && SAME_SIZE(snapshot) && SAME_SIZE(install),
               "note_event tells every field");

struct subject {
    bool is_store;
    struct kit kit;        /* of the store */
    struct mem_state *mem; /* or the simulator's */
    struct io_state *io;
    int answers; /* still to come */
    struct buf said;
    struct {
        raft_index index; /* of the snapshot */
        uint64_t offset;
        const char *name;
    } names[N_NAMES];
    size_t n_names;
    struct io_snapshot open[N_OPEN]; /* in the order of opening; id 0: closed */
    int reads[N_OPEN];               /* of each, not answered */
    size_t n_open;
};

/* ---- The disk ---- */

static _Atomic bool disk_is_full;

/* In the place of libc's: the store asks it whether there is room. */
int statvfs(const char *path, struct statvfs *found)
{
    (void)path;
    *found = (struct statvfs){.f_frsize = 4096, .f_blocks = 1u << 30};
    found->f_bavail = atomic_load(&disk_is_full) ? 0 : 1u << 29;
    return 0;
}

static inline void fill_disk(struct subject *subject, bool full)
{
    atomic_store(&disk_is_full, full);
    if (!subject->is_store) {
        uint32_t times = full ? UINT32_MAX : 0;

        mem_state_fail(subject->mem, MEM_STATE_FAIL_CHECKPOINT, ST_NO_SPACE, times);
        mem_state_fail(subject->mem, MEM_STATE_FAIL_INSTALL, ST_NO_SPACE, times);
    }
}

/* What is written meanwhile fails. */
static inline void break_disk(struct subject *subject, bool broken)
{
    struct rlimit limit;

    if (subject->is_store) {
        signal(SIGXFSZ, SIG_IGN);
        assert_int_equal(getrlimit(RLIMIT_FSIZE, &limit), 0);
        limit.rlim_cur = broken ? 0 : limit.rlim_max;
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
    } else {
        uint32_t times = broken ? UINT32_MAX : 0;

        mem_state_fail(subject->mem, MEM_STATE_FAIL_CHECKPOINT, ST_IO, times);
        mem_state_fail(subject->mem, MEM_STATE_FAIL_INSTALL_WRITE, ST_IO, times);
    }
}

/* ---- A subject's life ---- */

static inline struct subject *subject_create(bool is_store)
{
    struct subject *subject = mem_zalloc(sizeof(*subject));

    subject->is_store = is_store;
    if (is_store) {
        kit_init(&subject->kit);
        subject->kit.options.room_bytes = 1u << 20;
        kit_open(&subject->kit);
        subject->io = subject->kit.io;
    } else {
        subject->mem = mem_state_create(GROUP);
        subject->io = mem_state_io(subject->mem);
    }
    return subject;
}

static inline void subject_destroy(struct subject *subject)
{
    if (subject->is_store) {
        kit_fini(&subject->kit);
    } else {
        mem_state_destroy(&subject->mem);
    }
    buf_fini(&subject->said);
    mem_free(subject);
}

static inline void note_text(struct subject *subject, const char *name, struct slice text)
{
    buf_printf(&subject->said, " %s='%.*s'", name, (int)text.len, (const char *)text.data);
}

/* What the process finds when it starts again. */
static inline void note_meta(struct subject *subject, const struct io_state_meta *meta)
{
    buf_printf(&subject->said, "found checkpoint=%d index=%d term=%d", (int)meta->checkpoint,
               (int)meta->index, (int)meta->term);
    note_text(subject, "extra", buf_slice(&meta->extra));
    buf_printf(&subject->said, "\n");
}

/* The process dies, and starts again. */
static inline void crash(struct subject *subject)
{
    struct io_state_meta meta;

    assert_int_equal(subject->answers, 0);
    if (subject->is_store) {
        kit_close(&subject->kit);
        kit_open(&subject->kit);
        subject->io = subject->kit.io;
        note_meta(subject, &subject->kit.meta);
    } else {
        mem_state_crash(subject->mem);
        mem_state_meta(subject->mem, &meta);
        note_meta(subject, &meta);
        buf_fini(&meta.extra);
    }
    subject->n_open = 0;
}

/* ---- Events ---- */

static inline void name_offset(struct subject *subject, raft_index index, uint64_t offset,
                               const char *name)
{
    assert_true(subject->n_names < N_NAMES);
    subject->names[subject->n_names].index = index;
    subject->names[subject->n_names].offset = offset;
    subject->names[subject->n_names++].name = name;
}

static inline void note_offset(struct subject *subject, raft_index index, uint64_t offset)
{
    for (size_t i = 0; i < subject->n_names && offset > 0; i++) {
        if (subject->names[i].index == index && subject->names[i].offset == offset) {
            buf_printf(&subject->said, " offset=%s", subject->names[i].name);
            return;
        }
    }
    buf_printf(&subject->said, " offset=%d", (int)offset);
}

/* The place among those opened of the snapshot of that id. */
static inline size_t find_open(const struct subject *subject, uint64_t id)
{
    for (size_t i = 0; i < subject->n_open; i++) {
        if (subject->open[i].id == id && id != 0) {
            return i;
        }
    }
    fail_msg("an answer about a snapshot that is not open");
    return 0;
}

static inline void note_event(struct subject *subject, const struct io_event *event)
{
    struct buf *said = &subject->said;
    enum status status = ST_OK;
    size_t at;

    switch (event->type) {
    case IO_EVENT_CHECKPOINT:
        buf_printf(said, "CHECKPOINT group=%d number=%d index=%d", (int)event->checkpoint.group,
                   (int)event->checkpoint.number, (int)event->checkpoint.index);
        status = event->checkpoint.status;
        break;
    case IO_EVENT_SNAPSHOT_READ:
        at = find_open(subject, event->snapshot.id);
        subject->reads[at]--;
        buf_printf(said, "SNAPSHOT_READ group=%d id=#%d token=%d", (int)event->snapshot.group,
                   (int)at, (int)event->snapshot.token);
        note_offset(subject, subject->open[at].index, event->snapshot.offset);
        buf_printf(said, " done=%d data=%s", event->snapshot.done,
                   event->snapshot.data.len > 0 ? "some" : "none");
        status = event->snapshot.status;
        break;
    case IO_EVENT_INSTALL_CHUNK:
    case IO_EVENT_INSTALLED:
        buf_printf(said, "%s group=%d index=%d term=%d",
                   event->type == IO_EVENT_INSTALLED ? "INSTALLED" : "INSTALL_CHUNK",
                   (int)event->install.group, (int)event->install.index, (int)event->install.term);
        note_offset(subject, event->install.index, event->install.offset);
        note_text(subject, "extra", event->install.extra);
        status = event->install.status;
        break;
    default:
        fail_msg("an event of type %d", (int)event->type);
    }
    buf_printf(said, " %s\n", status_name(status));
    subject->answers--;
}

/* The next event; the data of a snapshot's chunk is appended to *data, if that is wanted. */
static inline void take_event(struct subject *subject, struct buf *data, bool *done)
{
    struct kit_event *kept = NULL;
    struct io_event event;

    if (subject->is_store) {
        kept = kit_wait_any(&subject->kit);
        event = kept->event;
    } else {
        while (!mem_state_take(subject->mem, &event)) {
            assert_true(mem_state_work(subject->mem));
        }
    }
    note_event(subject, &event);
    if (data != NULL) {
        assert_int_equal(event.type, IO_EVENT_SNAPSHOT_READ);
        buf_put_slice(data, event.snapshot.data);
        *done = event.snapshot.done;
    }
    if (kept != NULL) {
        kit_free_event(&kept);
    }
}

/* All that was asked for is answered. */
static inline void settle(struct subject *subject)
{
    while (subject->answers > 0) {
        take_event(subject, NULL, NULL);
    }
}

/* What was asked for is done, but nobody has heard of it. */
static inline void do_unheard(struct subject *subject)
{
    if (subject->is_store) {
        kit_await_letter(&subject->kit);
    } else {
        while (mem_state_work(subject->mem)) {
        }
    }
}

/* What was noted since the last time. */
static inline void expect(struct subject *subject, const char *text)
{
    settle(subject);
    buf_put_u8(&subject->said, 0);
    assert_string_equal((const char *)subject->said.data, text);
    buf_clear(&subject->said);
}

/* ---- Operations ---- */

static inline void put(struct subject *subject, uint64_t range, const char *key, const char *value)
{
    subject->io->ops->put(subject->io, kit_key(range, 1, key), slice_text(value));
}

static inline void get(struct subject *subject, uint64_t range, const char *key)
{
    struct buf value = {0};
    enum status status;

    buf_put_slice(&value, slice_text("+")); /* it is appended */
    status = subject->io->ops->get(subject->io, kit_key(range, 1, key), &value);
    buf_printf(&subject->said, "%d/%s:", (int)range, key);
    note_text(subject, "value", buf_slice(&value));
    buf_printf(&subject->said, " %s\n", status_name(status));
    buf_fini(&value);
}

static inline void list(struct subject *subject, uint64_t range, uint8_t kind, const char *from)
{
    struct io_state *io = subject->io;
    struct io_iter *iter = io->ops->iter_open(io, kit_key(range, kind, from));
    struct slice key, value;

    buf_printf(&subject->said, "list %d/%d:", (int)range, kind);
    while (io->ops->iter_next(iter, &key, &value)) {
        buf_printf(&subject->said, " '");
        for (size_t i = 0; i < key.len; i++) {
            buf_put_u8(&subject->said, key.data[i] < 0x7f ? key.data[i] : '?');
        }
        buf_printf(&subject->said, "'='%.*s'", (int)value.len, (const char *)value.data);
    }
    buf_printf(&subject->said, " %s\n", status_name(io->ops->iter_close(iter)));
}

static inline void note_drops(struct subject *subject)
{
    buf_printf(&subject->said, "drops wait: %d\n", subject->io->ops->drops_wait(subject->io));
}

static inline void begin_checkpoint(struct subject *subject, raft_index index, const char *extra,
                                    const uint64_t *ranges, size_t n)
{
    const struct io_checkpoint checkpoint = {index, 3, slice_text(extra), ranges, n};

    subject->answers++;
    subject->io->ops->checkpoint(subject->io, &checkpoint);
}

/* Gives the place of the snapshot, by which it is called here. */
static inline size_t open_snapshot(struct subject *subject)
{
    struct io_snapshot *opened = &subject->open[subject->n_open];

    assert_true(subject->n_open < N_OPEN);
    subject->io->ops->snapshot_open(subject->io, opened);
    buf_printf(&subject->said, "opened #%d index=%d term=%d", (int)subject->n_open,
               (int)opened->index, (int)opened->term);
    note_text(subject, "extra", opened->extra);
    buf_printf(&subject->said, "%s\n", opened->index == 0 || opened->id != 0 ? "" : " without id");
    subject->reads[subject->n_open] = 0;
    return subject->n_open++;
}

static inline void read_snapshot(struct subject *subject, size_t at, uint64_t offset, size_t max,
                                 uint64_t token)
{
    subject->answers++;
    subject->reads[at]++;
    subject->io->ops->snapshot_read(subject->io, subject->open[at].id, offset, max, token);
}

static inline void close_snapshot(struct subject *subject, size_t at)
{
    subject->answers -= subject->reads[at]; /* nobody hears of those */
    subject->io->ops->snapshot_close(subject->io, subject->open[at].id);
    subject->open[at].id = 0;
}

static inline void install(struct subject *subject, raft_index index, raft_term term,
                           uint64_t offset, struct slice data, bool done)
{
    subject->answers++;
    subject->io->ops->install_chunk(subject->io, index, term, offset, data, done);
}

/* ---- A stream in four parts, made by a subject of the same kind ---- */

#define PARTS     4
#define N_RECORDS 20

struct stream {
    raft_index index;
    struct buf parts[PARTS];
    uint64_t offsets[PARTS + 1]; /* of the parts, and of the end */
};

static inline void stream_fini(struct stream *stream)
{
    for (size_t i = 0; i < PARTS; i++) {
        buf_fini(&stream->parts[i]);
    }
}

static inline void fill(struct subject *subject, raft_index index, const char *mark)
{
    for (int i = 0; i < N_RECORDS; i++) {
        char key[32];

        snprintf(key, sizeof(key), "key%02d", i);
        put(subject, (uint64_t[]){0, 5, 9}[i % 3], key, mark);
    }
    put(subject, 6, "foreign", "not in the list");
    begin_checkpoint(subject, index, mark, (uint64_t[]){5, 9}, 2);
    settle(subject);
}

/* Reads it all, in chunks of about that size, into parts of equally many chunks; gives how many
 * chunks there were. With n_chunks 0 all goes into the first part. */
static inline size_t read_parts(struct subject *subject, size_t at, size_t max, size_t n_chunks,
                                struct stream *stream)
{
    uint64_t offset = 0;
    bool done = false;
    size_t n = 0;

    for (; !done; n++) {
        size_t part = n_chunks == 0 ? 0 : n * PARTS / n_chunks;
        struct buf *data = &stream->parts[part];
        size_t before = data->len;

        assert_true(part < PARTS);
        read_snapshot(subject, at, offset, max, n);
        take_event(subject, data, &done);
        assert_true(data->len > before); /* it gets on */
        offset += data->len - before;
        stream->offsets[part + 1] = offset;
    }
    return n;
}

static inline void make_stream(bool is_store, raft_index index, const char *mark,
                               struct stream *stream)
{
    struct subject *source = subject_create(is_store);
    struct stream whole = {0};
    struct buf joined = {0};
    size_t at, n;

    *stream = (struct stream){.index = index};
    fill(source, index, mark);
    at = open_snapshot(source);
    n = read_parts(source, at, 64, 0, &whole);
    assert_true(n >= 2 * PARTS);
    assert_int_equal(read_parts(source, at, 64, n, stream), n);
    for (size_t i = 0; i < PARTS; i++) {
        assert_int_equal(stream->offsets[i], joined.len);
        buf_put_slice(&joined, buf_slice(&stream->parts[i]));
    }
    assert_true(slice_equal(buf_slice(&joined), buf_slice(&whole.parts[0])));
    close_snapshot(source, at);
    buf_fini(&joined);
    stream_fini(&whole);
    subject_destroy(source);
}

/* Tells the subject how to call the places in a stream. */
static inline void name_stream(struct subject *subject, const struct stream *stream)
{
    static const char *const names[] = {"", "part1", "part2", "part3", "end"};

    for (size_t i = 1; i <= PARTS; i++) {
        name_offset(subject, stream->index, stream->offsets[i], names[i]);
    }
}

static inline void send_part(struct subject *subject, const struct stream *stream, size_t part)
{
    install(subject, stream->index, 3, stream->offsets[part], buf_slice(&stream->parts[part]),
            part + 1 == PARTS);
}

/* ---- A script runs with both ---- */

static bool runs_store; /* in this round */

static inline int make_subject(void **state)
{
    *state = subject_create(runs_store);
    return 0;
}

static inline int end_subject(void **state)
{
    atomic_store(&disk_is_full, false);
    break_disk(*state, false);
    subject_destroy(*state);
    return 0;
}

#define SCRIPT(script) cmocka_unit_test_setup_teardown(script, make_subject, end_subject)

static inline int run_both(const struct CMUnitTest *scripts, size_t n)
{
    int failed;

    runs_store = false;
    failed = _cmocka_run_group_tests("the simulator's state", scripts, n, NULL, NULL);
    runs_store = true;
    return failed + _cmocka_run_group_tests("the store", scripts, n, NULL, NULL);
}

#endif
