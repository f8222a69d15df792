/* The single-server suites: 2024's kvsrv and 2025's kvsrv1, on a replica group of one server. Their
 * memory tests are in memory_test.c, the locks in lock_test.c.
 *
 * kvsrv: 1 or 5 clients append, and read, for three times a second. There, Append returns the
 * value before it: the client's previous token must be in it, the new one not yet. Ours returns the
 * length after it. Keys only grow here, so of any value read later, what lies before that length
 * less the token is the value that the append found. With a key for each client (kv_load) that is
 * what the client has appended so far, exactly; with one key for all, each append is followed by a
 * get that shows it.
 *
 * kvsrv1: a put names the version that it replaces. Here that is a compare-and-set from the value
 * "<version>:<token>", as kvraft1_test.c explains; MISMATCH is both ErrVersion and ErrNoKey, which
 * a get tells apart (NOT_FOUND), and UNKNOWN is ErrMaybe. There is a difference: there, ErrMaybe
 * comes of a retry that found the version gone; so another put of the same version never succeeds
 * after one. Here UNKNOWN is the end of a deadline, and the put may not have happened: then another
 * one of the same version may succeed, and the first one never will.
 *
 * Histories are linearizable.
 */
#include "tests/cmocka.h"

#include <stdio.h>
#include <string.h>

#include "raft/util/assert.h"
#include "tests/sim/kv_suite.h"

#define ITERATION_MS           1000
#define DEADLINE_MS            60000
#define UNRELIABLE_DEADLINE_MS 40 /* requests and answers take up to 26 ms: many don't make it */
#define ROUNDS                 100
#define MAX_TRIES              100
#define N_APPENDERS            5

/* ---- kvsrv: appends, a key for each client ---- */

static void run_appends(const char *name, size_t clients, bool unreliable)
{
    const struct kv_scenario scenario = {
        .name = name, .clients = clients, .servers = 1, .unreliable = unreliable};
    const struct kv_load_options load = {
        .n_clients = clients, .begin_with_put = true, .get_ratio = 50};

    kv_suite_run(kv_suite_cluster(name, 1, unreliable, false), &scenario, ITERATION_MS, &load);
}

static void basic(void **state)
{
    (void)state;
    run_appends("s Basic", 1, false);
}

static void concurrent(void **state)
{
    (void)state;
    run_appends("s Concurrent", 5, false);
}

static void unreliable(void **state)
{
    (void)state;
    run_appends("s Unreliable", 5, true);
}

/* ---- kvsrv: appends, one key for all ---- */

struct appender {
    struct kv_client *client;
    struct kv_outcome outcome;
    struct buf token, previous;
    size_t number, n_tokens;
    uint32_t end; /* where the token ends, as the append said */
    enum { APPENDER_IDLE, APPENDER_APPENDS, APPENDER_LOOKS } step;
};

struct appenders {
    struct kv_cluster *cluster;
    struct appender each[N_APPENDERS];
    bool stopping;
};

static bool contains(struct slice text, const struct buf *token)
{
    return token->len == 0 || memmem(text.data, text.len, token->data, token->len) != NULL;
}

/* What the append found: everything before its token in a value read later. */
static void check_append(const struct appender *appender)
{
    struct slice value = buf_slice(&appender->outcome.value);
    struct slice token = buf_slice(&appender->token), found;

    ASSERT(appender->end >= token.len && value.len >= appender->end);
    found = slice_of(value.data, appender->end - token.len);
    ASSERT(slice_equal(slice_of(value.data + found.len, token.len), token));
    ASSERT(contains(found, &appender->previous)); /* the own one before */
    ASSERT(!contains(found, &appender->token));   /* this one not yet */
    ASSERT(!contains(slice_of(value.data + appender->end, value.len - appender->end),
                     &appender->token)); /* and not again */
}

static void appender_end(struct appender *appender)
{
    ASSERT(appender->outcome.status == ST_OK);
    if (appender->step == APPENDER_APPENDS) {
        ASSERT(appender->outcome.result.n_outputs == 1);
        appender->end = appender->outcome.result.outputs[0];
        kv_outcome_fini(&appender->outcome);
        appender->step = APPENDER_LOOKS;
        kv_client_get(appender->client, "k", DEADLINE_MS, &appender->outcome);
        return;
    }
    check_append(appender);
    kv_outcome_fini(&appender->outcome);
    appender->step = APPENDER_IDLE;
}

static void appender_begin(struct appender *appender)
{
    buf_clear(&appender->previous);
    buf_put_slice(&appender->previous, buf_slice(&appender->token));
    buf_clear(&appender->token);
    buf_printf(&appender->token, "x %zu %zu y", appender->number, appender->n_tokens++);
    appender->step = APPENDER_APPENDS;
    kv_client_append(appender->client, "k", buf_slice(&appender->token), DEADLINE_MS,
                     &appender->outcome);
}

/* Ends and begins what is due; true once nothing is outstanding. */
static bool turn(void *context)
{
    struct appenders *all = context;
    bool idle = true;

    for (size_t i = 0; i < N_APPENDERS; i++) {
        struct appender *appender = &all->each[i];
        if (appender->step != APPENDER_IDLE && appender->outcome.ended) {
            appender_end(appender);
        }
        if (appender->step == APPENDER_IDLE && !all->stopping) {
            appender_begin(appender);
        }
        idle &= appender->step == APPENDER_IDLE;
    }
    return all->stopping && idle;
}

/* Every token of every client, once: as many bytes as were appended, and each is there. */
static void check_all(struct appenders *all)
{
    struct buf value = {0}, token = {0};
    size_t len = 0, n = 0;

    kv_get_now(all->each[0].client, "k", &value);
    for (size_t i = 0; i < N_APPENDERS; i++) {
        n += all->each[i].n_tokens;
        for (size_t j = 0; j < all->each[i].n_tokens; j++) {
            buf_clear(&token);
            buf_printf(&token, "x %zu %zu y", i, j);
            ASSERT(contains(buf_slice(&value), &token));
            len += token.len;
        }
    }
    ASSERT(value.len == len && n >= 10 * N_APPENDERS);
    buf_fini(&value);
    buf_fini(&token);
}

static void unreliable_one_key(void **state)
{
    struct kv_cluster *c = kv_suite_cluster("s UnreliableOneKey", 1, true, false);
    struct appenders all = {.cluster = c};

    (void)state;
    for (size_t i = 0; i < N_APPENDERS; i++) {
        all.each[i].client = kv_client_create(c);
        all.each[i].number = i;
    }
    for (int i = 0; i < KV_SUITE_ITERATIONS; i++) {
        all.stopping = false;
        world_run_until(kv_cluster_world(c), ITERATION_MS, turn, &all);
        all.stopping = true;
        ASSERT(world_run_until(kv_cluster_world(c), DEADLINE_MS + 1000, turn, &all));
        check_all(&all);
    }
    for (size_t i = 0; i < N_APPENDERS; i++) {
        buf_fini(&all.each[i].token);
        buf_fini(&all.each[i].previous);
        kv_client_destroy(&all.each[i].client);
    }
    kv_cluster_destroy(&c);
}

/* ---- kvsrv1: versions ---- */

static enum status set(struct kv_cluster *c, struct kv_client *client, const char *key,
                       const char *old, const char *value, uint64_t ms)
{
    struct kv_outcome outcome;
    enum status status;

    kv_client_cas(client, key, old == NULL ? KV_IF_ABSENT : KV_IF_VALUE,
                  slice_text(old == NULL ? "" : old), slice_text(value), ms, &outcome);
    kv_outcome_await(c, &outcome, DEADLINE_MS + 1000);
    status = outcome.status;
    kv_outcome_fini(&outcome);
    return status;
}

static void reliable_put(void **state)
{
    struct kv_cluster *c = kv_suite_cluster("s1 ReliablePut", 1, false, false);
    struct kv_client *client = kv_client_create(c);

    (void)state;
    kv_check_now(client, "k", NULL);
    assert_int_equal(set(c, client, "k", NULL, "1:a", DEADLINE_MS), ST_OK);
    kv_check_now(client, "k", "1:a");
    /* Version 0 again: ErrVersion. */
    assert_int_equal(set(c, client, "k", NULL, "1:b", DEADLINE_MS), ST_MISMATCH);
    kv_check_now(client, "k", "1:a");
    assert_int_equal(set(c, client, "k", "1:a", "2:c", DEADLINE_MS), ST_OK);
    assert_int_equal(set(c, client, "k", "1:a", "2:d", DEADLINE_MS), ST_MISMATCH);
    kv_check_now(client, "k", "2:c");
    /* Version 1 of a key that is not there: ErrNoKey, and it stays away. */
    assert_int_equal(set(c, client, "y", "1:a", "2:e", DEADLINE_MS), ST_MISMATCH);
    kv_check_now(client, "y", NULL);
    kv_client_destroy(&client);
    kv_cluster_destroy(&c);
}

static void put_concurrent_reliable(void **state)
{
    struct kv_cluster *c = kv_suite_cluster("s1 PutConcurrentReliable", 1, false, false);
    const struct kv_load_options options = {
        .work = KV_LOAD_VERSIONS, .n_clients = 10, .no_unknown = true};
    struct kv_load *load = kv_load_create(c, &options);

    (void)state;
    kv_load_run_ms(load, ITERATION_MS);
    kv_load_finish(load);
    kv_load_check_and_destroy(&load); /* the version is the number of puts that ended OK */
    kv_cluster_destroy(&c);
}

/* ---- kvsrv1: an unreliable network ---- */

struct round_counts {
    size_t n_unknown, n_not_applied, n_took_effect; /* puts; rounds that an unknown one ended */
};

/* Which try of this round wrote the value "<version>:<try>". */
static int written_by(struct kv_client *client, int version)
{
    struct buf value = {0};
    int found_version, try;
    char text[32] = {0};

    ASSERT(kv_get_now(client, "k", &value) && value.len < sizeof(text));
    memcpy(text, value.data, value.len);
    ASSERT(sscanf(text, "%d:%d", &found_version, &try) == 2);
    ASSERT(found_version == version); /* not one put more than rounds */
    buf_fini(&value);
    return try;
}

/* Puts version `version` until it is known that it is there; `value` becomes what it is. */
static void run_round(struct kv_cluster *c, struct kv_client *client, int version, char *value,
                      struct round_counts *counts)
{
    bool maybe[MAX_TRIES] = {false};
    enum status status;
    char fresh[32];
    int try = 0, writer;

    for (;; try++) {
        ASSERT(try < MAX_TRIES);
        snprintf(fresh, sizeof(fresh), "%d:%d", version, try);
        status = set(c, client, "k", version == 1 ? NULL : value, fresh, UNRELIABLE_DEADLINE_MS);
        if (status == ST_OK || status == ST_MISMATCH) {
            break;
        }
        maybe[try] = status == ST_UNKNOWN;
        counts->n_unknown += status == ST_UNKNOWN;
        counts->n_not_applied += status != ST_UNKNOWN;
        ASSERT(status == ST_UNKNOWN || status == ST_TIMEOUT || status == ST_UNAVAILABLE);
    }
    writer = written_by(client, version);
    if (status == ST_OK) {
        ASSERT(writer == try);
    } else { /* an earlier one did it after all, and nobody else is there */
        ASSERT(writer < try && maybe[writer]);
        counts->n_took_effect++;
    }
    snprintf(value, sizeof(fresh), "%d:%d", version, writer);
}

static void unreliable_net(void **state)
{
    struct kv_cluster *c = kv_suite_cluster("s1 UnreliableNet", 1, true, false);
    struct kv_client *client = kv_client_create(c);
    struct round_counts counts = {0};
    char value[32] = "";

    (void)state;
    for (int version = 1; version <= ROUNDS; version++) {
        run_round(c, client, version, value, &counts);
    }
    kv_cluster_sleep(c, 5000); /* what is late comes, and changes nothing */
    kv_check_now(client, "k", value);
    printf("s1 UnreliableNet: %zu puts ended unknown, %zu of them had taken effect, %zu ended "
           "certainly not applied\n",
           counts.n_unknown, counts.n_took_effect, counts.n_not_applied);
    fflush(stdout);
    ASSERT(counts.n_unknown > 0 && counts.n_took_effect > 0);
    kv_client_destroy(&client);
    kv_cluster_destroy(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(basic),          cmocka_unit_test(concurrent),
        cmocka_unit_test(unreliable),     cmocka_unit_test(unreliable_one_key),
        cmocka_unit_test(reliable_put),   cmocka_unit_test(put_concurrent_reliable),
        cmocka_unit_test(unreliable_net),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
