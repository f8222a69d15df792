/* What the tests of the WAL share: a log over faulty files, and a mail that delivers at once. */
#ifndef TESTS_UNIT_WAL_FIXTURE_H
#define TESTS_UNIT_WAL_FIXTURE_H

#include <stdio.h>
#include <stdlib.h>

#include "raft/store.h"
#include "raft/util/assert.h"
#include "raft/util/mem.h"
#include "tests/cmocka.h"
#include "tests/sim/faulty_files.h"

#define FIXTURE_IDENTITY 0x5eedf00du
#define FIXTURE_SEGMENT  (16u << 10)
#define FIXTURE_TOKENS   4096

struct fixture {
    struct faulty_files disk;
    struct wal_options options;
    struct wal *wal;
    char error[STORE_ERROR_BYTES];
    uint64_t next_token;
    /* What was delivered, in order. */
    uint64_t tokens[FIXTURE_TOKENS];
    enum status statuses[FIXTURE_TOKENS];
    size_t n_delivered;
};

static inline void fixture_post(void *context, void (*run)(void *arg), void *arg)
{
    (void)context;
    run(arg);
}

static inline void fixture_deliver(void *context, struct io_event *event)
{
    struct fixture *fixture = context;

    ASSERT(event->type == IO_EVENT_LOG_WRITTEN);
    ASSERT(fixture->n_delivered < FIXTURE_TOKENS);
    fixture->tokens[fixture->n_delivered] = event->log.token;
    fixture->statuses[fixture->n_delivered++] = event->log.status;
}

static uint32_t fixture_block; /* of direct writes; 0: the disk of the next fixture refuses them */

static inline void fixture_init(struct fixture *fixture, uint64_t seed)
{
    memset(fixture, 0, sizeof(*fixture));
    faulty_files_init(&fixture->disk, seed);
    fixture->disk.block = fixture_block;
    wal_options_default(&fixture->options, "data/wal");
    fixture->options.identity = FIXTURE_IDENTITY;
    fixture->options.segment_bytes = FIXTURE_SEGMENT;
    fixture->options.threaded = false;
    fixture->options.files = &fixture->disk.files;
    fixture->options.mail =
        (struct store_mail){.context = fixture, .post = fixture_post, .deliver = fixture_deliver};
}

static inline enum status fixture_open(struct fixture *fixture)
{
    fixture->error[0] = '\0';
    fixture->n_delivered = 0;
    return wal_open(&fixture->options, &fixture->wal, fixture->error);
}

static inline void fixture_must_open(struct fixture *fixture)
{
    enum status status = fixture_open(fixture);

    if (status != ST_OK) {
        fail_msg("%s: %s", status_name(status), fixture->error);
    }
}

/* The process dies between two calls: nothing more reaches the disk. */
static inline void fixture_die(struct fixture *fixture)
{
    fixture->disk.crashed = true;
    wal_close(&fixture->wal);
}

static inline void fixture_kill(struct fixture *fixture)
{
    fixture_die(fixture);
    faulty_files_kill(&fixture->disk);
}

static inline void fixture_power_loss(struct fixture *fixture)
{
    fixture_die(fixture);
    faulty_files_power_loss(&fixture->disk);
}

static inline void fixture_fini(struct fixture *fixture)
{
    wal_close(&fixture->wal);
    faulty_files_fini(&fixture->disk);
}

/* Entries whose data tells index and term. */
static inline void fixture_write(struct fixture *fixture, group_id group, raft_index first,
                                 size_t n, raft_term term, size_t data_len)
{
    struct raft_entry entries[64];
    uint8_t *data = mem_zalloc(data_len);
    struct io_log_write write = {
        .group = group, .token = ++fixture->next_token, .entries = entries, .n_entries = n};

    ASSERT(n <= 64);
    for (size_t i = 0; i < n; i++) {
        memset(data, (int)((first + i) * 7 + term), data_len);
        entries[i] = (struct raft_entry){first + i, term, RAFT_ENTRY_COMMAND,
                                         blob_create(slice_of(data, data_len))};
    }
    wal_io(fixture->wal)->ops->write(wal_io(fixture->wal), &write);
    for (size_t i = 0; i < n; i++) {
        blob_unref(&entries[i].data);
    }
    mem_free(data);
}

static inline void fixture_vote(struct fixture *fixture, group_id group, raft_term term,
                                raft_id voted_for)
{
    struct io_log_write write = {.group = group,
                                 .token = ++fixture->next_token,
                                 .has_hard_state = true,
                                 .hard_state = {term, voted_for}};

    wal_io(fixture->wal)->ops->write(wal_io(fixture->wal), &write);
}

static inline void fixture_compact(struct fixture *fixture, group_id group, raft_index index,
                                   raft_term term)
{
    wal_io(fixture->wal)->ops->compact(wal_io(fixture->wal), group, index, term);
}

/* Writes and flushes, and expects it to be acknowledged. */
static inline void fixture_write_now(struct fixture *fixture, group_id group, raft_index first,
                                     size_t n, raft_term term, size_t data_len)
{
    size_t before = fixture->n_delivered;

    fixture_write(fixture, group, first, n, term, data_len);
    wal_flush(fixture->wal);
    assert_int_equal(fixture->n_delivered, before + 1);
    assert_int_equal(fixture->statuses[before], ST_OK);
    assert_int_equal(fixture->tokens[before], fixture->next_token);
}

static inline void content_fini(struct io_log_content *content)
{
    for (size_t i = 0; i < content->n_entries; i++) {
        blob_unref(&content->entries[i].data);
    }
    mem_free(content->entries);
    memset(content, 0, sizeof(*content));
}

/* The group's log is (begin, last] with whole entries of this data length. */
static inline void fixture_expect(struct fixture *fixture, group_id group, raft_index begin,
                                  raft_index last, size_t data_len)
{
    struct io_log_content content;

    wal_content(fixture->wal, group, &content);
    assert_int_equal(content.begin_index, begin);
    assert_int_equal(content.n_entries, last - begin);
    for (size_t i = 0; i < content.n_entries; i++) {
        const struct raft_entry *entry = &content.entries[i];
        assert_int_equal(entry->index, begin + 1 + i);
        assert_int_equal(entry->data->len, data_len);
        for (size_t j = 0; j < data_len; j++) {
            ASSERT(entry->data->data[j] == (uint8_t)(entry->index * 7 + entry->term));
        }
    }
    content_fini(&content);
}

/* Which write of segment `name` is where: the offset of the n-th record (0: the header's). */
static inline size_t fixture_record(struct fixture *fixture, const char *name, size_t n)
{
    size_t len, at = 40;
    const uint8_t *bytes = faulty_files_bytes(&fixture->disk, name, &len);

    while (n-- > 0) {
        at += 32 + ((get_u32(bytes + at + 8) + 7u) & ~7u);
        ASSERT(at < len);
    }
    return at;
}

#endif
