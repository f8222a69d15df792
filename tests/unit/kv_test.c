/* Unit tests of the public library: a real handle against one small server on loopback. */
#include "tests/unit/kv_story.h"

/* ---- Reading and writing ---- */

static void assert_value(struct shardkv *handle, const char *key, const char *value)
{
    struct shardkv_result *result;

    assert_int_equal(shardkv_get(handle, shardkv_text(key), 0, &result), SHARDKV_OK);
    assert_int_equal(result->value.len, strlen(value));
    assert_memory_equal(result->value.data, value, strlen(value));
    shardkv_result_free(result);
}

static void the_calls_do_what_they_say(void **state)
{
    struct story *story = *state;
    struct shardkv *kv = story->handle;
    struct shardkv_bytes key = shardkv_text("k"), one = shardkv_text("1");
    struct shardkv_result *result;

    assert_int_equal(shardkv_get(kv, key, 0, &result), SHARDKV_NOT_FOUND);
    assert_string_equal(result->message, "no such key");
    shardkv_result_free(result);
    assert_int_equal(shardkv_put(kv, key, one, 0, NULL), SHARDKV_OK);
    assert_value(kv, "k", "1");
    assert_int_equal(shardkv_append(kv, key, shardkv_text("23"), 0, &result), SHARDKV_OK);
    assert_int_equal(result->n_outputs, 1);
    assert_int_equal(result->outputs[0], 3);
    shardkv_result_free(result);
    assert_int_equal(shardkv_cas(kv, key, &one, shardkv_text("x"), 0, NULL), SHARDKV_MISMATCH);
    assert_int_equal(shardkv_cas(kv, key, NULL, shardkv_text("x"), 0, NULL), SHARDKV_MISMATCH);
    one = shardkv_text("123");
    assert_int_equal(shardkv_cas(kv, key, &one, shardkv_text("new"), 0, NULL), SHARDKV_OK);
    assert_value(kv, "k", "new");
    assert_int_equal(shardkv_delete(kv, key, 0, &result), SHARDKV_OK);
    assert_int_equal(result->outputs[0], 1);
    shardkv_result_free(result);
    assert_int_equal(shardkv_delete(kv, key, 0, &result), SHARDKV_OK);
    assert_int_equal(result->outputs[0], 0);
    shardkv_result_free(result);
    assert_int_equal(shardkv_cas(kv, key, NULL, shardkv_text("born"), 0, NULL), SHARDKV_OK);
    assert_value(kv, "k", "born");
}

static void a_transaction_is_one_write(void **state)
{
    struct story *story = *state;
    struct shardkv_condition absent = {.type = SHARDKV_IF_ABSENT, .key = shardkv_text("{t}a")};
    struct shardkv_operation operations[2] = {
        {SHARDKV_PUT, shardkv_text("{t}a"), shardkv_text("1")},
        {SHARDKV_PUT, shardkv_text("{t}b"), shardkv_text("2")}};
    struct shardkv_result *result;

    assert_int_equal(shardkv_write(story->handle, &absent, 1, operations, 2, 0, &result),
                     SHARDKV_OK);
    assert_int_equal(result->n_outputs, 2);
    shardkv_result_free(result);
    assert_int_equal(story->server.writes, 1);
    assert_int_equal(shardkv_write(story->handle, &absent, 1, operations, 2, 0, NULL),
                     SHARDKV_MISMATCH);
    operations[1].key = shardkv_text("elsewhere");
    assert_int_equal(shardkv_write(story->handle, NULL, 0, operations, 2, 0, NULL),
                     SHARDKV_INVALID);
}

static void wrong_arguments_are_refused_at_once(void **state)
{
    struct story *story = *state;
    struct shardkv *kv = story->handle;
    struct shardkv_bytes empty = {NULL, 0}, key = shardkv_text("k");
    struct shardkv_bytes big = {calloc(1, (16 << 20) + 1), (16 << 20) + 1};
    struct shardkv_join bad = {.gid = 1, .replicas = "1=udp://x:1"};
    struct shardkv_result *result;

    assert_int_equal(shardkv_put(kv, empty, key, 0, &result), SHARDKV_INVALID);
    assert_int_equal(result->code, SHARDKV_INVALID);
    shardkv_result_free(result);
    assert_int_equal(shardkv_put(kv, key, big, 0, NULL), SHARDKV_TOO_LARGE);
    assert_int_equal(shardkv_get(kv, big, 0, NULL), SHARDKV_INVALID);
    assert_int_equal(shardkv_write(kv, NULL, 0, NULL, 0, 0, NULL), SHARDKV_INVALID);
    assert_int_equal(shardkv_scan(kv, empty, empty, 0, 0, NULL), SHARDKV_INVALID);
    assert_int_equal(shardkv_join(kv, &bad, 1, 0, NULL), SHARDKV_INVALID);
    assert_int_equal(shardkv_status(kv, "nonsense", 0, NULL), SHARDKV_INVALID);
    assert_int_equal(shardkv_get_async(kv, key, 0, NULL, NULL, NULL), SHARDKV_INVALID);
    free((void *)big.data);
}

static void a_scan_is_in_order(void **state)
{
    struct story *story = *state;
    struct shardkv_result *result;
    char key[16];

    for (int i = 0; i < 50; i++) {
        snprintf(key, sizeof(key), "s%02d", (i * 7) % 50);
        assert_int_equal(shardkv_put(story->handle, shardkv_text(key), shardkv_text("v"), 0, NULL),
                         SHARDKV_OK);
    }
    assert_int_equal(
        shardkv_scan(story->handle, shardkv_text("s"), shardkv_text("s09"), 30, 0, &result),
        SHARDKV_OK);
    assert_int_equal(result->n_records, 30);
    assert_true(result->more);
    for (int i = 0; i < 30; i++) {
        snprintf(key, sizeof(key), "s%02d", i + 10);
        assert_memory_equal(result->records[i].key.data, key, 3);
    }
    shardkv_result_free(result);
}

/* ---- Administration ---- */

static void the_configuration_and_status_are_handed_out(void **state)
{
    struct story *story = *state;
    struct shardkv_result *result;

    assert_int_equal(shardkv_config(story->handle, SHARDKV_CONFIG_LATEST, 0, &result), SHARDKV_OK);
    assert_true(result->config->num == 5);
    assert_int_equal(result->config->n_shards, SHARDS);
    assert_int_equal(result->config->shards[3], 1);
    assert_int_equal(result->config->n_groups, 1);
    assert_string_equal(result->config->groups[0].replicas[0].url, story->server.url);
    shardkv_result_free(result);
    assert_int_equal(shardkv_status(story->handle, story->server.url, 0, &result), SHARDKV_OK);
    assert_int_equal(result->node->role, SHARDKV_LEADER);
    assert_string_equal(result->node->version, "test");
    shardkv_result_free(result);
}

static void changes_tell_the_new_number_or_why_not(void **state)
{
    struct story *story = *state;
    struct shardkv_join join = {.gid = 2, .replicas = "1=tcp://127.0.0.1:1"};
    uint32_t gid = 2;
    struct shardkv_result *result;

    assert_int_equal(shardkv_join(story->handle, &join, 1, 0, &result), SHARDKV_OK);
    assert_true(result->config_num == 6);
    shardkv_result_free(result);
    assert_int_equal(shardkv_leave(story->handle, &gid, 1, 0, NULL), SHARDKV_OK);
    assert_int_equal(shardkv_move(story->handle, 3, 1, 0, NULL), SHARDKV_OK);
    assert_int_equal(shardkv_move(story->handle, 3, 2, 0, &result), SHARDKV_NO_GROUP);
    assert_non_null(strstr(result->message, "group 2 is no member"));
    shardkv_result_free(result);
    assert_int_equal(shardkv_transfer(story->handle, 1, 0, 0, NULL), SHARDKV_OK);
    assert_int_equal(shardkv_transfer(story->handle, 0, 1, 0, NULL), SHARDKV_OK);
    assert_int_equal(shardkv_transfer(story->handle, 9, 1, 0, NULL), SHARDKV_NO_GROUP);
}

static void moves_are_paused_like_any_change(void **state)
{
    struct story *story = *state;
    struct shardkv_result *result;

    assert_int_equal(shardkv_pause_moves(story->handle, true, 0, &result), SHARDKV_OK);
    assert_true(result->config_num == 6);
    assert_null(result->config);
    shardkv_result_free(result);
    set_silent(&story->server, true);
    assert_int_equal(shardkv_pause_moves(story->handle, false, 200, NULL), SHARDKV_UNKNOWN);
}

static void a_plan_is_a_configuration_and_never_unknown(void **state)
{
    struct story *story = *state;
    struct shardkv_join join = {.gid = 2, .replicas = "1=tcp://127.0.0.1:1"}, bad = {.gid = 2};
    uint32_t gid = 2;
    struct shardkv_result *result;

    assert_int_equal(shardkv_plan_join(story->handle, &join, 1, 0, &result), SHARDKV_OK);
    assert_true(result->config_num == 6 && result->config->num == 6);
    assert_int_equal(result->config->n_shards, SHARDS);
    assert_true(result->config->moves_paused);
    shardkv_result_free(result);
    assert_int_equal(shardkv_plan_leave(story->handle, &gid, 1, 0, NULL), SHARDKV_OK);
    assert_int_equal(shardkv_plan_move(story->handle, 3, 1, 0, NULL), SHARDKV_OK);
    assert_int_equal(shardkv_plan_move(story->handle, 3, 2, 0, &result), SHARDKV_NO_GROUP);
    assert_non_null(strstr(result->message, "group 2 is no member"));
    assert_null(result->config);
    shardkv_result_free(result);
    bad.replicas = "nonsense";
    assert_int_equal(shardkv_plan_join(story->handle, &bad, 1, 0, NULL), SHARDKV_INVALID);
    assert_int_equal(shardkv_plan_leave(story->handle, &gid, 0, 0, NULL), SHARDKV_INVALID);
    assert_int_equal(shardkv_plan_move(story->handle, 99999, 1, 0, NULL), SHARDKV_INVALID);
    set_silent(&story->server, true);
    assert_int_equal(shardkv_plan_move(story->handle, 3, 1, 200, &result), SHARDKV_TIMEOUT);
    shardkv_result_free(result);
}

/* ---- Trouble ---- */

static void a_server_that_is_down_is_told_from_one_that_is_silent(void **state)
{
    struct story *story = *state;
    struct shardkv *kv = story->handle;
    struct shardkv_result *result;
    uint64_t start = net_now_ms();

    assert_int_equal(shardkv_put(kv, shardkv_text("k"), shardkv_text("1"), 0, NULL), SHARDKV_OK);
    set_silent(&story->server, true);
    assert_int_equal(shardkv_get(kv, shardkv_text("k"), 200, NULL), SHARDKV_TIMEOUT);
    assert_int_equal(shardkv_put(kv, shardkv_text("k"), shardkv_text("2"), 200, &result),
                     SHARDKV_UNKNOWN);
    assert_true(shardkv_maybe_applied(result->code));
    shardkv_result_free(result);
    assert_in_range(net_now_ms() - start, 400, 2000);

    server_stop(&story->server);
    assert_int_equal(shardkv_status(kv, story->server.url, 5000, NULL), SHARDKV_UNAVAILABLE);
    assert_int_equal(shardkv_put(kv, shardkv_text("k"), shardkv_text("3"), 300, &result),
                     SHARDKV_UNAVAILABLE);
    assert_false(shardkv_maybe_applied(result->code));
    assert_non_null(strstr(result->message, story->server.url));
    shardkv_result_free(result);

    set_silent(&story->server, false);
    server_start(&story->server);
    assert_int_equal(shardkv_put(kv, shardkv_text("k"), shardkv_text("4"), 10000, NULL),
                     SHARDKV_OK);
}

static void a_handle_opens_without_any_server(void **state)
{
    struct story *story = *state;
    struct shardkv_result *result;

    server_stop(&story->server);
    shardkv_close(&story->handle);
    assert_null(story->handle);
    open_handle(story, 10);
    assert_int_equal(shardkv_put(story->handle, shardkv_text("k"), shardkv_text("1"), 200, &result),
                     SHARDKV_UNAVAILABLE);
    shardkv_result_free(result);
}

static void bad_options_are_refused_with_a_line(void **state)
{
    static const char *const bad[] = {"", "nonsense", "tcp://a", "tcp://a:1,tcp://a:1"};
    struct shardkv_options options;
    struct shardkv *handle;
    char error[256];

    (void)state;
    shardkv_options_init(&options, sizeof(options));
    assert_int_equal(shardkv_open(&options, &handle, error, sizeof(error)), SHARDKV_INVALID);
    for (size_t i = 0; i < 4; i++) {
        options.ctrlers = bad[i];
        assert_int_equal(shardkv_open(&options, &handle, error, sizeof(error)), SHARDKV_INVALID);
        assert_null(handle);
        assert_true(strlen(error) > 0);
    }
    options.ctrlers = "tcp://127.0.0.1:1";
    options.tls_ca = "/no/such/file";
    assert_int_not_equal(shardkv_open(&options, &handle, NULL, 0), SHARDKV_OK);
}

/* ---- Many at once ---- */

struct tally {
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    struct shardkv *handle;
    struct shardkv *other; /* that callbacks try to wait for */
    uint32_t ended, ok, unknown, cancelled, others;
    uint32_t to_start; /* from callbacks */
    int wait_code;
};

static void tally_init(struct tally *tally, struct shardkv *handle)
{
    memset(tally, 0, sizeof(*tally));
    pthread_mutex_init(&tally->mutex, NULL);
    pthread_cond_init(&tally->changed, NULL);
    tally->handle = tally->other = handle;
}

static void note_end(void *context, struct shardkv_result *result)
{
    struct tally *tally = context;

    pthread_mutex_lock(&tally->mutex);
    tally->ended++;
    tally->ok += result->code == SHARDKV_OK;
    tally->unknown += result->code == SHARDKV_UNKNOWN;
    tally->cancelled += result->code == SHARDKV_CANCELLED;
    tally->others += result->code != SHARDKV_OK && result->code != SHARDKV_UNKNOWN &&
                     result->code != SHARDKV_CANCELLED;
    pthread_cond_signal(&tally->changed);
    pthread_mutex_unlock(&tally->mutex);
    shardkv_result_free(result);
}

static void wait_for(struct tally *tally, uint32_t n)
{
    struct timespec limit;

    clock_gettime(CLOCK_REALTIME, &limit);
    limit.tv_sec += 60;
    pthread_mutex_lock(&tally->mutex);
    while (tally->ended < n) {
        assert_int_equal(pthread_cond_timedwait(&tally->changed, &tally->mutex, &limit), 0);
    }
    pthread_mutex_unlock(&tally->mutex);
}

static void *put_many(void *context)
{
    struct tally *tally = context;
    char key[32];

    for (int i = 0; i < 500; i++) {
        snprintf(key, sizeof(key), "k%d", i % 100);
        while (shardkv_put_async(tally->handle, shardkv_text(key), shardkv_text("v"), 30000,
                                 note_end, tally, NULL) == SHARDKV_BUSY) {
            usleep(100); /* until answers make room */
        }
        if (i % 50 == 0) {
            assert_int_equal(
                shardkv_put(tally->handle, shardkv_text(key), shardkv_text("v"), 30000, NULL),
                SHARDKV_OK);
        }
    }
    return NULL;
}

static void many_threads_share_one_handle(void **state)
{
    struct story *story = *state;
    struct tally tally;
    pthread_t threads[4];

    tally_init(&tally, story->handle);
    for (int i = 0; i < 4; i++) {
        pthread_create(&threads[i], NULL, put_many, &tally);
    }
    for (int i = 0; i < 4; i++) {
        pthread_join(threads[i], NULL);
    }
    wait_for(&tally, 2000);
    assert_int_equal(tally.ok, 2000);
    assert_int_equal(story->server.writes, 2000 + 40);
}

static void too_many_outstanding_operations_are_refused(void **state)
{
    struct story *story = *state;
    struct tally tally;
    uint64_t id = 0;

    shardkv_close(&story->handle);
    open_handle(story, 10);
    set_silent(&story->server, true);
    tally_init(&tally, story->handle);
    for (int i = 0; i < 10; i++) {
        assert_int_equal(
            shardkv_get_async(story->handle, shardkv_text("k"), 0, note_end, &tally, &id),
            SHARDKV_OK);
    }
    assert_int_equal(shardkv_get_async(story->handle, shardkv_text("k"), 0, note_end, &tally, NULL),
                     SHARDKV_BUSY);
    assert_int_equal(shardkv_get(story->handle, shardkv_text("k"), 0, NULL), SHARDKV_BUSY);
    shardkv_cancel(story->handle, id); /* makes room */
    wait_for(&tally, 1);
    assert_int_equal(tally.cancelled, 1);
    shardkv_cancel(story->handle, id);
    assert_int_equal(
        shardkv_get_async(story->handle, shardkv_text("k"), 300, note_end, &tally, NULL),
        SHARDKV_OK);
    wait_for(&tally, 2);
    assert_int_equal(tally.others, 1);
    shardkv_close(&story->handle); /* the tally ends with this function */
}

static void the_asynchronous_calls_of_plans_and_pauses_end_too(void **state)
{
    struct story *story = *state;
    struct shardkv_join join = {.gid = 2, .replicas = "1=tcp://127.0.0.1:1"};
    struct tally tally;
    uint32_t gid = 2;

    tally_init(&tally, story->handle);
    assert_int_equal(shardkv_plan_join_async(story->handle, &join, 1, 0, note_end, &tally, NULL),
                     SHARDKV_OK);
    assert_int_equal(shardkv_plan_leave_async(story->handle, &gid, 1, 0, note_end, &tally, NULL),
                     SHARDKV_OK);
    assert_int_equal(shardkv_plan_move_async(story->handle, 3, 1, 0, note_end, &tally, NULL),
                     SHARDKV_OK);
    assert_int_equal(shardkv_pause_moves_async(story->handle, true, 0, note_end, &tally, NULL),
                     SHARDKV_OK);
    wait_for(&tally, 4);
    assert_int_equal(tally.ok, 4);
    /* Cut short, a plan is certainly nothing; a pause may have been sent. */
    set_silent(&story->server, true);
    shardkv_plan_move_async(story->handle, 3, 1, 0, note_end, &tally, NULL);
    shardkv_pause_moves_async(story->handle, false, 0, note_end, &tally, NULL);
    usleep(50000); /* so that both are sent; if not, the second ends as cancelled below */
    shardkv_close(&story->handle);
    assert_int_equal(tally.ended, 6);
    assert_int_equal(tally.cancelled, 1);
    assert_int_equal(tally.unknown, 1);
}

static void closing_ends_what_is_outstanding(void **state)
{
    struct story *story = *state;
    struct tally tally;
    struct shardkv_join join = {.gid = 2, .replicas = "1=tcp://127.0.0.1:1"};

    assert_int_equal(shardkv_put(story->handle, shardkv_text("k"), shardkv_text("v"), 0, NULL),
                     SHARDKV_OK);
    set_silent(&story->server, true);
    tally_init(&tally, story->handle);
    for (int i = 0; i < 50; i++) {
        assert_int_equal(shardkv_put_async(story->handle, shardkv_text("k"), shardkv_text("v"), 0,
                                           note_end, &tally, NULL),
                         SHARDKV_OK);
        assert_int_equal(
            shardkv_get_async(story->handle, shardkv_text("k"), 0, note_end, &tally, NULL),
            SHARDKV_OK);
    }
    assert_int_equal(shardkv_join_async(story->handle, &join, 1, 0, note_end, &tally, NULL),
                     SHARDKV_OK);
    assert_int_equal(
        shardkv_status_async(story->handle, story->server.url, 0, note_end, &tally, NULL),
        SHARDKV_OK);
    assert_int_equal(shardkv_transfer_async(story->handle, 1, 0, 0, note_end, &tally, NULL),
                     SHARDKV_OK);
    usleep(50000); /* so that they are sent; those that are not end as cancelled */
    shardkv_close(&story->handle);
    assert_int_equal(tally.ended, 103); /* all callbacks came before close returned */
    assert_int_equal(tally.unknown, 51);
    assert_int_equal(tally.cancelled, 52);
}

static uint32_t transfers_unheard(struct server *server, enum status refusal, uint32_t set)
{
    uint32_t before;

    pthread_mutex_lock(&server->mutex);
    before = server->transfers_unheard;
    if (set > 0) {
        server->transfers_unheard = set;
        server->refusal = refusal;
    }
    pthread_mutex_unlock(&server->mutex);
    return before;
}

/* The first order may have moved the leadership: then the next one is refused, since it is there.
 */
static void a_transfer_that_may_have_begun_is_never_refused(void **state)
{
    struct story *story = *state;
    struct tally tally;
    uint64_t id;

    transfers_unheard(&story->server, ST_INVALID, 1);
    assert_int_equal(shardkv_transfer(story->handle, 1, 1, 0, NULL), SHARDKV_UNKNOWN);
    assert_int_equal(shardkv_transfer(story->handle, 1, 1, 0, NULL), SHARDKV_INVALID);

    transfers_unheard(&story->server, ST_OK, 1);
    tally_init(&tally, story->handle);
    assert_int_equal(shardkv_transfer_async(story->handle, 1, 1, 0, note_end, &tally, &id),
                     SHARDKV_OK);
    for (int i = 0; i < 5000 && transfers_unheard(&story->server, ST_OK, 0) > 0; i++) {
        usleep(1000);
    }
    shardkv_cancel(story->handle, id);
    wait_for(&tally, 1);
    assert_int_equal(tally.unknown, 1);
}

/* Waits where it must not, then starts the next operation. */
static void chain_on(void *context, struct shardkv_result *result)
{
    struct tally *tally = context;

    tally->wait_code = shardkv_get(tally->other, shardkv_text("k"), 0, NULL);
    if (tally->to_start > 0) {
        tally->to_start--;
        assert_int_equal(shardkv_put_async(tally->handle, shardkv_text("k"), shardkv_text("v"), 0,
                                           chain_on, tally, NULL),
                         SHARDKV_OK);
    }
    note_end(tally, result);
}

static void a_callback_may_start_operations_but_not_wait(void **state)
{
    struct story *story = *state;
    struct tally tally;

    tally_init(&tally, story->handle);
    tally.to_start = 20;
    assert_int_equal(shardkv_put_async(story->handle, shardkv_text("k"), shardkv_text("v"), 0,
                                       chain_on, &tally, NULL),
                     SHARDKV_OK);
    wait_for(&tally, 21);
    assert_int_equal(tally.ok, 21);
    assert_int_equal(tally.wait_code, SHARDKV_INVALID);
}

/* Two callbacks that waited for each other's handle would wait for ever. */
static void a_callback_may_not_wait_for_another_handle_either(void **state)
{
    struct story *story = *state;
    struct shardkv *first = story->handle;
    struct tally tally;

    open_handle(story, 1000); /* the second; the story closes this one */
    tally_init(&tally, first);
    tally.other = story->handle;
    assert_int_equal(
        shardkv_put_async(first, shardkv_text("k"), shardkv_text("v"), 0, chain_on, &tally, NULL),
        SHARDKV_OK);
    wait_for(&tally, 1);
    assert_int_equal(tally.wait_code, SHARDKV_INVALID);
    shardkv_close(&first);
    assert_int_equal(shardkv_put(story->handle, shardkv_text("k"), shardkv_text("v"), 0, NULL),
                     SHARDKV_OK);
}

static void codes_have_names_texts_and_classes(void **state)
{
    (void)state;
    assert_string_equal(shardkv_err_name(SHARDKV_UNKNOWN), "UNKNOWN");
    assert_string_equal(shardkv_err_name(12345), "?");
    assert_true(strlen(shardkv_strerror(12345)) > 0);
    assert_true(shardkv_retryable(SHARDKV_BUSY));
    assert_false(shardkv_retryable(SHARDKV_MISMATCH));
    assert_true(shardkv_maybe_applied(SHARDKV_UNKNOWN));
    assert_false(shardkv_maybe_applied(SHARDKV_TIMEOUT));
    assert_string_equal(shardkv_version(), "0.1.0");
    assert_int_equal(shardkv_version_number(), 0x000100);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        STORY(the_calls_do_what_they_say),
        STORY(a_transaction_is_one_write),
        STORY(wrong_arguments_are_refused_at_once),
        STORY(a_scan_is_in_order),
        STORY(the_configuration_and_status_are_handed_out),
        STORY(changes_tell_the_new_number_or_why_not),
        STORY(moves_are_paused_like_any_change),
        STORY(a_plan_is_a_configuration_and_never_unknown),
        STORY(a_server_that_is_down_is_told_from_one_that_is_silent),
        STORY(a_handle_opens_without_any_server),
        cmocka_unit_test(bad_options_are_refused_with_a_line),
        STORY(many_threads_share_one_handle),
        STORY(too_many_outstanding_operations_are_refused),
        STORY(the_asynchronous_calls_of_plans_and_pauses_end_too),
        STORY(closing_ends_what_is_outstanding),
        STORY(a_transfer_that_may_have_begun_is_never_refused),
        STORY(a_callback_may_start_operations_but_not_wait),
        STORY(a_callback_may_not_wait_for_another_handle_either),
        cmocka_unit_test(codes_have_names_texts_and_classes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
