/* The write-ahead log's recovery, on a disk in memory whose files hold anything.
 *
 * Forged: segments are made of records with right checksums but any content, order and numbers, and
 * of raw bytes. Opening ends in a status; if it is refused, the files are as they were and a line
 * says where; if not, the log can be written, and after a power loss it holds what it held and what
 * was acknowledged since.
 *
 * Damaged: an honest log, of which some bytes are changed. What opens is the log as it was after
 * the last write, or, if nothing proved that one durable, after the one before. */
#include "tests/fuzz/fuzz.h"
#include "tests/unit/wal_fixture.h"

#include "raft/store/wal_table.h"

#define GROUPS     2
#define MAX_LOG    60
#define MAX_WRITES 24
#define PATH       "data/wal"

/* ---- What a log holds, as bytes ---- */

static void put_content(struct buf *out, const struct io_log_content *content)
{
    buf_put_u64(out, content->hard_state.term);
    buf_put_u32(out, content->hard_state.voted_for);
    buf_put_u64(out, content->begin_index);
    buf_put_u64(out, content->begin_term);
    buf_put_u64(out, content->checkpoint);
    buf_put_u64(out, content->checkpoint_index);
    buf_put_u64(out, content->n_entries);
    for (size_t i = 0; i < content->n_entries; i++) {
        const struct raft_entry *entry = &content->entries[i];

        ASSERT(entry->index == content->begin_index + 1 + i && entry->term > 0);
        buf_put_u64(out, entry->index);
        buf_put_u64(out, entry->term);
        buf_put_u8(out, (uint8_t)entry->type);
        buf_put_bytes(out, blob_slice(entry->data));
    }
}

/* Takes the content of all groups; *last gives the last index and term of group 0. */
static struct buf take_all(struct fixture *fx, raft_index *last, raft_term *term)
{
    struct buf all = {0};

    for (group_id group = 0; group < GROUPS; group++) {
        struct io_log_content content;

        wal_content(fx->wal, group, &content);
        put_content(&all, &content);
        if (group == 0) {
            *last = content.begin_index + content.n_entries;
            *term = content.n_entries > 0 ? content.entries[content.n_entries - 1].term
                                          : content.begin_term;
            *term = content.hard_state.term > *term ? content.hard_state.term : *term;
        }
        content_fini(&content);
    }
    return all;
}

/* ---- Files ---- */

static void put_file(struct faulty_files *disk, const char *name, struct slice content)
{
    const struct wal_files *files = &disk->files;
    char path[80];
    int fd;

    snprintf(path, sizeof(path), PATH "/%s", name);
    fd = files->open(files->context, path, true);
    ASSERT(fd >= 0);
    if (content.len > 0) {
        ASSERT(files->pwrite(files->context, fd, content.data, content.len, 0) ==
               (int64_t)content.len);
    }
    ASSERT(files->fdatasync(files->context, fd) == 0);
    files->close(files->context, fd);
    ASSERT(files->sync_dir(files->context, PATH) == 0);
}

/* All segments. */
static struct buf dump_files(struct faulty_files *disk)
{
    struct buf all = {0};
    const char *name;

    for (size_t n = 0; (name = faulty_files_name(disk, ".wal", n)) != NULL; n++) {
        size_t len;
        const uint8_t *bytes = faulty_files_bytes(disk, name, &len);

        buf_put_bytes(&all, slice_text(name));
        buf_put_bytes(&all, slice_of(bytes, len));
    }
    return all;
}

/* ---- Forged segments ---- */

static void put_payload(struct script *script, enum wal_kind kind, struct buf *out)
{
    switch (kind) {
    case WAL_SEGMENT: {
        struct wal_table table = {0};

        buf_put_u64(out, fuzz_u8(script) % 3);
        buf_put_u64(out, fuzz_number(script, 200));
        buf_put_u64(out, fuzz_u8(script) % 4);
        wal_table_encode(&table, out);
        return;
    }
    case WAL_HARD_STATE:
        buf_put_u64(out, fuzz_number(script, 3));
        buf_put_u32(out, fuzz_u8(script) % 4);
        return;
    case WAL_ENTRIES: {
        uint64_t first = fuzz_number(script, 2);
        uint32_t n = fuzz_below(script, 4);

        buf_put_u64(out, first);
        buf_put_u32(out, n + (fuzz_u8(script) > 250));
        buf_put_u32(out, 0);
        for (uint32_t i = 0; i < n; i++) {
            struct raft_entry entry = {first + i, fuzz_u8(script) % 4, 1 + fuzz_below(script, 3),
                                       NULL};
            struct slice data = fuzz_take(script, fuzz_u8(script) % 16);

            buf_put_u64(out, entry.index);
            buf_put_u64(out, entry.term);
            buf_put_u8(out, (uint8_t)entry.type);
            buf_put_bytes(out, entry.type == RAFT_ENTRY_NOOP ? slice_of(NULL, 0) : data);
        }
        return;
    }
    case WAL_SYNC_POINT:
        return;
    case WAL_END:
    case WAL_MOVED:
        buf_put_u64(out, 1 + fuzz_u8(script) % 4);
        return;
    default:
        buf_put_u64(out, fuzz_number(script, 2));
        buf_put_u64(out, fuzz_number(script, 2));
    }
}

static void put_record(struct script *script, enum wal_kind kind, struct buf *out)
{
    size_t at = wal_record_begin(out, kind, fuzz_u8(script) % 3);
    size_t payload = out->len;

    if (fuzz_u8(script) < 240) {
        put_payload(script, kind, out);
    } else {
        buf_put_slice(out, fuzz_short(script));
    }
    if (fuzz_u8(script) > 240 && out->len > payload) {
        out->data[payload + fuzz_u8(script) % (out->len - payload)] ^= fuzz_u8(script);
    }
    wal_record_end(out, at);
}

/* A write: some records, sealed for their place. */
static void put_write(struct script *script, struct buf *file, uint64_t segment, uint64_t number,
                      bool first)
{
    size_t at = file->len;
    uint32_t n = 1 + fuzz_below(script, 3);

    for (uint32_t i = 0; i < n; i++) {
        uint8_t dice = fuzz_u8(script);
        enum wal_kind kind = first && i == 0 && dice < 250 ? WAL_SEGMENT
                             : dice < 120                  ? WAL_ENTRIES
                                                           : (enum wal_kind)(1 + dice % 9);

        put_record(script, kind, file);
    }
    wal_seal(file->data + at, file->len - at,
             (struct wal_place){FIXTURE_IDENTITY, segment, at + (fuzz_u8(script) > 252 ? 8 : 0)},
             number);
}

static void forge_segment(struct script *script, struct faulty_files *disk, uint64_t *number)
{
    uint64_t id = 1 + fuzz_u8(script) % 4;
    uint8_t dice = fuzz_u8(script);
    struct buf file = {0};
    char name[40];

    wal_preamble_encode(&file, FIXTURE_IDENTITY + (dice == 255), id + (dice == 254));
    if (dice == 253) {
        buf_clear(&file);
    }
    for (uint32_t n = fuzz_below(script, 6); n > 0; n--) {
        uint8_t step = fuzz_u8(script);

        *number += step < 240 || *number == 0 ? 1 : step % 4;
        put_write(script, &file, id, *number, file.len <= WAL_PREAMBLE_BYTES);
    }
    buf_put_slice(&file, fuzz_take(script, fuzz_u8(script) % 40));
    if (fuzz_u8(script) < 200 && file.len < 8192) {
        size_t more = 8192 - file.len;

        memset(buf_extend(&file, more), 0, more);
    }
    for (uint32_t n = fuzz_u8(script) > 200 ? fuzz_below(script, 4) : 0; n > 0 && file.len > 0;
         n--) {
        file.data[fuzz_u16(script) % file.len] ^= fuzz_u8(script);
    }
    snprintf(name, sizeof(name), "%llu.%s", (unsigned long long)id,
             dice < 240      ? "wal"
             : dice % 2 == 0 ? "free"
                             : "new");
    put_file(disk, name, buf_slice(&file));
    buf_fini(&file);
}

/* It opened: it can be written, and holds what it held after a power loss. */
static void check_goes_on(struct fixture *fx)
{
    raft_index last;
    raft_term term;
    struct buf before = take_all(fx, &last, &term), after, again;
    size_t delivered = fx->n_delivered;

    if (last < UINT64_MAX / 2 && term < UINT64_MAX / 2) {
        fixture_write(fx, 0, last + 1, 2, term + 1, 20);
        wal_flush(fx->wal);
        ASSERT(fx->n_delivered == delivered + 1 && fx->statuses[delivered] == ST_OK);
        last += 2;
    }
    fixture_power_loss(fx);
    ASSERT(fixture_open(fx) == ST_OK);
    after = take_all(fx, &last, &term);
    ASSERT(after.len >= before.len);
    fixture_kill(fx);
    ASSERT(fixture_open(fx) == ST_OK);
    again = take_all(fx, &last, &term);
    ASSERT(slice_equal(buf_slice(&after), buf_slice(&again)));
    buf_fini(&before);
    buf_fini(&after);
    buf_fini(&again);
}

static void fuzz_forged(struct script *script, struct fixture *fx)
{
    uint64_t number = 0;
    struct buf before, after;
    enum status status;

    for (uint32_t n = 1 + fuzz_below(script, 3); n > 0; n--) {
        forge_segment(script, &fx->disk, &number);
    }
    before = dump_files(&fx->disk);
    status = fixture_open(fx);
    if (status == ST_OK) {
        check_goes_on(fx);
    } else {
        ASSERT(status == ST_CORRUPT || status == ST_VERSION);
        ASSERT(fx->error[0] != '\0' && strlen(fx->error) < STORE_ERROR_BYTES);
        after = dump_files(&fx->disk);
        ASSERT(slice_equal(buf_slice(&before), buf_slice(&after)));
        buf_fini(&after);
    }
    buf_fini(&before);
}

/* ---- Damaged logs ---- */

struct model {
    struct raft_hard_state hard_state;
    raft_index last;
    raft_term terms[2 * MAX_LOG]; /* by index */
    uint16_t lens[2 * MAX_LOG];
};

static struct buf model_dump(const struct model *model)
{
    struct io_log_content content = {.hard_state = model->hard_state};
    struct io_log_content empty = {0};
    struct raft_entry entries[2 * MAX_LOG];
    struct buf all = {0};

    for (raft_index i = 1; i <= model->last; i++) {
        struct raft_entry *entry = &entries[content.n_entries++];

        *entry = (struct raft_entry){i, model->terms[i], RAFT_ENTRY_COMMAND,
                                     blob_create_uninitialized(model->lens[i])};
        memset(entry->data->data, (int)(i * 7 + model->terms[i]), model->lens[i]);
    }
    content.entries = entries;
    put_content(&all, &content);
    put_content(&all, &empty);
    for (size_t i = 0; i < content.n_entries; i++) {
        blob_unref(&entries[i].data);
    }
    return all;
}

static void write_something(struct script *script, struct fixture *fx, struct model *model)
{
    raft_term term = model->hard_state.term + 1;

    if (model->last >= MAX_LOG || fuzz_u8(script) < 40) {
        model->hard_state = (struct raft_hard_state){term, fuzz_u8(script) % 4};
        fixture_vote(fx, 0, term, model->hard_state.voted_for);
    } else {
        raft_index back = fuzz_u8(script) < 200 ? 0 : fuzz_u8(script) % (model->last + 1);
        uint32_t n = 1 + fuzz_below(script, 3);
        uint16_t len = (uint16_t)(fuzz_u8(script) * 8u);
        raft_index first = model->last - back + 1;

        fixture_write(fx, 0, first, n, term, len);
        model->last = first + n - 1;
        for (uint32_t i = 0; i < n; i++) {
            model->terms[first + i] = term;
            model->lens[first + i] = len;
        }
    }
    wal_flush(fx->wal);
}

static bool holds(const struct buf *content, const struct model *model)
{
    struct buf expected = model_dump(model);
    bool same = slice_equal(buf_slice(content), buf_slice(&expected));

    buf_fini(&expected);
    return same;
}

/* Returns how many places are damaged. */
static uint32_t damage(struct script *script, struct faulty_files *disk)
{
    uint32_t places = 1 + fuzz_below(script, 3);

    for (uint32_t n = places; n > 0; n--) {
        size_t files = faulty_files_count(disk, ".wal");
        const char *name = faulty_files_name(disk, ".wal", fuzz_u8(script) % files);
        size_t len;

        faulty_files_bytes(disk, name, &len);
        if (fuzz_u8(script) == 255 && files > 1) {
            faulty_files_remove(disk, name);
        } else {
            faulty_files_flip(disk, name, fuzz_u16(script) % len, fuzz_u8(script));
        }
    }
    return places;
}

/* The log after one of the last writes. */
static bool holds_recent(const struct buf *content, const struct model history[], uint32_t n,
                         uint32_t may_lose)
{
    for (uint32_t lost = 0; lost <= may_lose && lost <= n; lost++) {
        if (holds(content, &history[n - lost])) {
            return true;
        }
    }
    return false;
}

/* One damaged place loses nothing, but the last write if nothing proved it durable; each further
 * one may hit the proof of the one before. */
static void fuzz_damaged(struct script *script, struct fixture *fx)
{
    static struct model history[MAX_WRITES + 1];
    uint32_t n = 0, may_lose;
    bool proven = true;
    struct buf content;
    raft_index last;
    raft_term term;

    fixture_must_open(fx);
    for (uint32_t wanted = fuzz_u8(script) % MAX_WRITES; n < wanted;) {
        history[n + 1] = history[n];
        write_something(script, fx, &history[++n]);
        proven = fuzz_u8(script) < 30;
        if (proven) {
            wal_flush(fx->wal); /* an idle moment: says that the last write is durable */
        }
    }
    fixture_kill(fx);
    may_lose = damage(script, &fx->disk) - proven;
    if (fixture_open(fx) == ST_OK) {
        content = take_all(fx, &last, &term);
        ASSERT(holds_recent(&content, history, n, may_lose));
        buf_fini(&content);
    } else {
        ASSERT(fx->error[0] != '\0');
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct fixture fx;
    struct script script = script_of(data, size);
    uint8_t mode = fuzz_u8(&script);

    fixture_block = mode % 3 == 0 ? 0 : mode % 3 == 1 ? 512 : 4096;
    fixture_init(&fx, mode);
    fx.options.segment_bytes = 8192;
    if (mode < 160) {
        fuzz_forged(&script, &fx);
    } else {
        fuzz_damaged(&script, &fx);
    }
    fixture_fini(&fx);
    return 0;
}
