/* Scans of the clerk against a server that the test plays: pages as large, as late and as wrong as
 * it likes. */
#include "tests/cmocka.h"
#include "tests/unit/clerk_story.h"

#define MAX_ASKED 64

/* The configuration comes from the fake cluster; what is asked of shards waits here. */
struct pages {
    struct story story;
    struct buf asked[MAX_ASKED];
    size_t n_asked;
};

static void pages_send(void *context, uint32_t gid, const char *url, struct buf *message)
{
    struct pages *pages = context;
    struct proto_request request;

    assert_true(proto_request_decode(buf_slice(message), &request));
    if (request.op == PROTO_SCAN) {
        assert_true(pages->n_asked < MAX_ASKED);
        pages->asked[pages->n_asked++] = buf_take(message);
    } else {
        fake_send(&pages->story.world, gid, url, message);
    }
    proto_request_fini(&request);
}

/* A scan of everything has begun: one page of each shard is asked for. */
static int pages_begin(void **state)
{
    struct pages *pages = mem_zalloc(sizeof(*pages));
    struct story *story = &pages->story;
    struct clerk_options options;

    fake_init(&story->world, 5);
    clerk_options_default(&options);
    fake_spec(0, &options.ctrlers);
    options.caller.seed = 3;
    options.caller.transport.context = pages;
    options.caller.transport.send = pages_send;
    story->clerk = story->world.clerk = clerk_create(&options);
    ended_init(story, &story->ended);
    clerk_scan(story->clerk, slice_text(""), slice_text(""), 100, story->world.now,
               story->world.now + 900, note_end, &story->ended);
    run(story, 100);
    assert_int_equal(pages->n_asked, FAKE_SHARDS);
    *state = pages;
    return 0;
}

static int pages_end(void **state)
{
    struct pages *pages = *state;

    pages->story.world.clerk = NULL;
    clerk_destroy(&pages->story.clerk);
    fake_fini(&pages->story.world);
    for (size_t i = 0; i < pages->n_asked; i++) {
        buf_fini(&pages->asked[i]);
    }
    mem_free(pages);
    return 0;
}

/* Answers the open request for the shard: with that record, or with nothing. */
static void answer(struct pages *pages, shard_id shard, struct proto_record *record)
{
    struct proto_request request = {0};
    struct proto_response response = {.op = PROTO_SCAN, .status = ST_OK};
    struct buf bytes = {0};
    size_t i = 0;

    for (; i < pages->n_asked; i++) {
        assert_true(proto_request_decode(buf_slice(&pages->asked[i]), &request));
        if (request.scan.shard == shard) {
            break;
        }
    }
    assert_true(i < pages->n_asked);
    response.request_id = request.request_id;
    response.scan.n = record != NULL;
    response.scan.records = record;
    proto_response_encode(&response, &bytes);
    buf_fini(&pages->asked[i]);
    pages->asked[i] = pages->asked[--pages->n_asked];
    clerk_on_message(pages->story.clerk, pages->story.world.now, buf_slice(&bytes));
    buf_fini(&bytes);
}

static void a_record_that_was_not_asked_for_is_not_believed(void **state)
{
    struct pages *pages = *state;
    struct proto_record record = {slice_text("key"), slice_text("value")};
    shard_id other = (shard_of_key(record.key, FAKE_SHARDS) + 1) % FAKE_SHARDS;

    answer(pages, other, &record);
    assert_int_equal(pages->story.ended.status, ST_MALFORMED);
    assert_int_equal(pages->story.ended.n_records, 0);
}

/* The n-th key in its order, in a shard of its own. */
static shard_id key_of_rank(unsigned rank, uint32_t *taken, char key[16])
{
    for (unsigned i = 0;; i++) {
        shard_id shard;

        snprintf(key, 16, "%u-%u", rank, i);
        shard = shard_of_key(slice_text(key), FAKE_SHARDS);
        if ((*taken & 1u << shard) == 0) {
            *taken |= 1u << shard;
            return shard;
        }
    }
}

/* Three large records are more than a result holds: the last goes, and with it all above, also
 * what is small and comes later. */
static void a_result_that_is_too_large_ends_before_what_did_not_fit(void **state)
{
    struct pages *pages = *state;
    size_t large = CLERK_SCAN_BYTES / 3 + 1;
    uint8_t *value = mem_zalloc(large);
    uint32_t taken = 0;

    for (unsigned rank = 1; rank <= 5; rank++) {
        char key[16];
        shard_id shard = key_of_rank(rank, &taken, key);
        struct proto_record record = {slice_text(key), slice_of(value, rank < 4 ? large : 1)};

        answer(pages, shard, &record);
    }
    for (shard_id shard = 0; shard < FAKE_SHARDS; shard++) {
        if ((taken & 1u << shard) == 0) {
            answer(pages, shard, NULL);
        }
    }
    assert_int_equal(pages->story.ended.status, ST_OK);
    assert_int_equal(pages->story.ended.n_records, 2);
    assert_true(pages->story.ended.keys[0][0] == '1' && pages->story.ended.keys[1][0] == '2');
    assert_true(pages->story.ended.more);
    mem_free(value);
}

#define PAGES(name) cmocka_unit_test_setup_teardown(name, pages_begin, pages_end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        PAGES(a_record_that_was_not_asked_for_is_not_believed),
        PAGES(a_result_that_is_too_large_ends_before_what_did_not_fit),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
