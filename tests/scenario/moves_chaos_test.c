/* Random faults aimed at moves: joins, leaves and moves without pause, copies in many small pieces,
 * session tables so small that clients are evicted, single replicas and whole groups that go down
 * and come back, everything restarted at once. While it lasts, every read must show what was
 * acknowledged before it began. Then the faults end and everything must come to rest: each shard
 * with its owner alone, no transition, copy or release left, no range that nobody names, all
 * replicas of a group with the same state; every acknowledged token is there once, in order, and no
 * other token twice.
 *
 * MOVES_SEEDS, MOVES_SEED: see tests/seeds.h. */
#include "tests/cmocka.h"

#include <stdio.h>

#include "raft/util/assert.h"
#include "raft/util/mem.h"
#include "tests/seeds.h"
#include "tests/sim/check_rest.h"
#include "tests/sim/kv_cluster.h"

#define N_CTRLERS    3
#define MAX_GROUPS   4
#define N_WORKERS    6
#define N_KEYS       8 /* of which workers share some */
#define MAX_TOKENS   16000
#define OPERATION_MS 4000
#define STEPS        50
#define SETTLE_MS    120000

struct profile {
    size_t n_groups, n_replicas;
    bool snapshots;
    uint32_t max_sessions, piece_bytes;
};

static const struct profile profiles[] = {
    {4, 1, false, 0, 64},  {4, 1, true, 3, 64},  {3, 3, true, 0, 100},
    {3, 3, true, 3, 1000}, {2, 3, false, 2, 64},
};

enum token_state { TOKEN_NONE, TOKEN_SENT, TOKEN_ACKED, TOKEN_REFUSED, TOKEN_UNKNOWN };

struct token {
    uint8_t state;
    uint8_t key;
    uint8_t worker;
};

struct worker {
    struct chaos *chaos;
    size_t number;
    struct kv_client *client;
    struct kv_outcome outcome;
    bool busy, reading;
    size_t key;
    size_t token;     /* being appended */
    uint8_t *must_be; /* reading: what had been acknowledged before */
};

struct chaos {
    const struct profile *profile;
    struct kv_cluster *c;
    struct world *world;
    bool down[N_CTRLERS + MAX_GROUPS * 3];
    bool joined[MAX_GROUPS];
    bool stopping;
    struct worker workers[N_WORKERS];
    struct token tokens[MAX_TOKENS];
    size_t n_tokens;
    size_t n_acked, n_unknown;
};

/* ---- What clients see ---- */

/* Counts each token of the value; the tokens are "<number>;". */
static void count_tokens(struct slice value, uint8_t counts[MAX_TOKENS])
{
    size_t number = 0;

    memset(counts, 0, MAX_TOKENS);
    for (size_t i = 0; i < value.len; i++) {
        if (value.data[i] == ';') {
            ASSERT(number < MAX_TOKENS);
            counts[number]++;
            number = 0;
        } else {
            ASSERT(value.data[i] >= '0' && value.data[i] <= '9');
            number = number * 10 + (size_t)(value.data[i] - '0');
        }
    }
}

static void check_value(const struct chaos *chaos, size_t key, struct slice value,
                        const uint8_t *must_be)
{
    uint8_t counts[MAX_TOKENS];

    count_tokens(value, counts);
    for (size_t i = 0; i < MAX_TOKENS; i++) {
        const struct token *token = &chaos->tokens[i];

        if (counts[i] > 1 || (must_be[i] && counts[i] == 0) ||
            (counts[i] > 0 && (token->key != key || token->state == TOKEN_REFUSED))) {
            fprintf(stderr, "key %zu token %zu state %d of worker %d: there %d times, must %d\n",
                    key, i, token->state, token->worker, counts[i], must_be[i]);
            UNREACHABLE("a read shows what it must not");
        }
    }
}

static void note_acked(const struct chaos *chaos, size_t key, uint8_t *must_be)
{
    for (size_t i = 0; i < MAX_TOKENS; i++) {
        must_be[i] = chaos->tokens[i].state == TOKEN_ACKED && chaos->tokens[i].key == key;
    }
}

static void worker_begin(struct worker *worker)
{
    struct chaos *chaos = worker->chaos;
    struct rng *rng = world_rng(chaos->world);
    char text[16];

    worker->busy = true;
    worker->key = rng_below(rng, N_KEYS);
    worker->reading = rng_below(rng, 3) == 0 || chaos->n_tokens == MAX_TOKENS;
    if (worker->reading) {
        note_acked(chaos, worker->key, worker->must_be);
        kv_client_get(worker->client, kv_cluster_key(chaos->c, worker->key), OPERATION_MS,
                      &worker->outcome);
        return;
    }
    worker->token = chaos->n_tokens++;
    chaos->tokens[worker->token] =
        (struct token){TOKEN_SENT, (uint8_t)worker->key, (uint8_t)worker->number};
    snprintf(text, sizeof(text), "%zu;", worker->token);
    kv_client_append(worker->client, kv_cluster_key(chaos->c, worker->key), slice_text(text),
                     OPERATION_MS, &worker->outcome);
}

static void worker_end(struct worker *worker)
{
    struct chaos *chaos = worker->chaos;
    enum status status = worker->outcome.status;

    if (worker->reading) {
        if (status == ST_OK || status == ST_NOT_FOUND) {
            check_value(chaos, worker->key, buf_slice(&worker->outcome.value), worker->must_be);
        } else {
            ASSERT(status == ST_TIMEOUT || status == ST_UNAVAILABLE);
        }
    } else if (status == ST_OK) {
        chaos->tokens[worker->token].state = TOKEN_ACKED;
        chaos->n_acked++;
    } else if (status == ST_UNKNOWN) {
        chaos->tokens[worker->token].state = TOKEN_UNKNOWN;
        chaos->n_unknown++;
    } else {
        if (status != ST_TIMEOUT && status != ST_UNAVAILABLE) {
            fprintf(stderr, "a write ended %s\n", status_name(status));
        }
        ASSERT(status == ST_TIMEOUT || status == ST_UNAVAILABLE);
        chaos->tokens[worker->token].state = TOKEN_REFUSED;
    }
    kv_outcome_fini(&worker->outcome);
    worker->busy = false;
}

static bool turn(void *context)
{
    struct chaos *chaos = context;
    bool idle = true;

    for (size_t i = 0; i < N_WORKERS; i++) {
        struct worker *worker = &chaos->workers[i];

        if (worker->busy && worker->outcome.ended) {
            worker_end(worker);
        }
        idle &= !worker->busy;
    }
    return chaos->stopping && idle;
}

/* Runs on; the workers begin anew every few milliseconds. */
static void run_ms(struct chaos *chaos, uint64_t ms)
{
    for (uint64_t at = 0; at < ms; at += 10) {
        for (size_t i = 0; i < N_WORKERS; i++) {
            if (!chaos->workers[i].busy) {
                worker_begin(&chaos->workers[i]);
            }
        }
        world_run_until(chaos->world, 10, turn, chaos);
    }
}

/* ---- Faults ---- */

static size_t n_nodes(const struct chaos *chaos)
{
    return N_CTRLERS + chaos->profile->n_groups * chaos->profile->n_replicas;
}

static void crash(struct chaos *chaos, size_t node)
{
    if (!chaos->down[node]) {
        world_crash(chaos->world, node);
        chaos->down[node] = true;
    }
}

static void start(struct chaos *chaos, size_t node)
{
    if (chaos->down[node]) {
        world_start(chaos->world, node);
        chaos->down[node] = false;
    }
}

static void toggle_node(struct chaos *chaos)
{
    size_t node = rng_below(world_rng(chaos->world), n_nodes(chaos));

    if (chaos->down[node]) {
        start(chaos, node);
    } else if (node >= N_CTRLERS || !(chaos->down[0] || chaos->down[1] || chaos->down[2])) {
        crash(chaos, node); /* a majority of the controllers stays, or nothing moves */
    }
}

static void toggle_group(struct chaos *chaos)
{
    size_t group = rng_below(world_rng(chaos->world), chaos->profile->n_groups);
    size_t first = kv_cluster_node(chaos->c, group, 0);
    bool was_down = chaos->down[first];

    for (size_t i = first; i < first + chaos->profile->n_replicas; i++) {
        if (was_down) {
            start(chaos, i);
        } else {
            crash(chaos, i);
        }
    }
}

static void restart_all(struct chaos *chaos)
{
    for (size_t i = 0; i < n_nodes(chaos); i++) {
        crash(chaos, i);
    }
    for (size_t i = 0; i < n_nodes(chaos); i++) {
        start(chaos, i);
    }
}

static void cut_or_heal(struct chaos *chaos)
{
    struct rng *rng = world_rng(chaos->world);
    size_t a = N_CTRLERS + rng_below(rng, n_nodes(chaos) - N_CTRLERS);
    size_t b = rng_below(rng, n_nodes(chaos));

    if (a != b) {
        world_cut_pair(chaos->world, a, b, rng_below(rng, 2) == 0);
    }
}

static void change_once(struct chaos *chaos)
{
    struct rng *rng = world_rng(chaos->world);
    size_t n = chaos->profile->n_groups, group = rng_below(rng, n), members = 0;
    enum status status;

    for (size_t i = 0; i < n; i++) {
        members += chaos->joined[i];
    }
    if (!chaos->joined[group]) {
        status = kv_cluster_join(chaos->c, group, NULL);
        chaos->joined[group] = true;
    } else if (rng_below(rng, members > 1 ? 3 : 12) == 0) {
        /* Now and then the last one: then nobody owns the shards for a while. */
        status = kv_cluster_leave(chaos->c, group, NULL);
        chaos->joined[group] = false;
    } else {
        status =
            kv_cluster_move(chaos->c, (shard_id)rng_below(rng, 16), kv_cluster_gid(group), NULL);
    }
    ASSERT(status == ST_OK || status == ST_UNKNOWN);
}

static void change_configuration(struct chaos *chaos)
{
    uint64_t n = 1 + rng_below(world_rng(chaos->world), 6);

    for (uint64_t i = 0; i < n; i++) {
        change_once(chaos);
        turn(chaos);
    }
}

static void change_network(struct chaos *chaos)
{
    struct rng *rng = world_rng(chaos->world);
    struct world_faults faults = {.unreliable = rng_below(rng, 2) == 0,
                                  .long_reordering = rng_below(rng, 4) == 0,
                                  .answer_bytes_per_ms = rng_below(rng, 3) == 0 ? 2 : 0};

    world_set_faults(chaos->world, &faults);
}

/* A node's clock jumps, by up to ten minutes. */
static void jump_clock(struct chaos *chaos)
{
    struct rng *rng = world_rng(chaos->world);
    int64_t skew_us = (int64_t)rng_below(rng, 1200000000) - 600000000;

    world_set_clock_skew(chaos->world, rng_below(rng, n_nodes(chaos)), skew_us);
}

static void cut_or_heal_client(struct chaos *chaos)
{
    struct rng *rng = world_rng(chaos->world);
    size_t client = kv_client_number(chaos->workers[rng_below(rng, N_WORKERS)].client);

    world_cut_client(chaos->world, client, rng_below(rng, n_nodes(chaos)), rng_below(rng, 2) == 0);
}

static void step(struct chaos *chaos)
{
    struct rng *rng = world_rng(chaos->world);

    switch (rng_below(rng, 12)) {
    case 0:
    case 1:
    case 2:
    case 3:
        change_configuration(chaos);
        break;
    case 4:
    case 5:
        toggle_node(chaos);
        break;
    case 6:
        toggle_group(chaos);
        break;
    case 7:
        cut_or_heal(chaos);
        break;
    case 8:
        change_network(chaos);
        break;
    case 9:
        jump_clock(chaos);
        break;
    case 10:
        cut_or_heal_client(chaos);
        break;
    default:
        if (rng_below(rng, 3) == 0) {
            restart_all(chaos);
        }
        break;
    }
    run_ms(chaos, rng_below(rng, 3) == 0 ? rng_below(rng, 1500) : rng_below(rng, 80));
}

static void end_faults(struct chaos *chaos)
{
    kv_cluster_set_unreliable(chaos->c, false);
    for (size_t i = 0; i < n_nodes(chaos); i++) {
        for (size_t j = i + 1; j < n_nodes(chaos); j++) {
            world_cut_pair(chaos->world, i, j, false);
        }
        for (size_t j = 0; j < N_WORKERS; j++) {
            world_cut_client(chaos->world, kv_client_number(chaos->workers[j].client), i, false);
        }
    }
    for (size_t i = 0; i < n_nodes(chaos); i++) {
        start(chaos, i);
    }
}

/* ---- The end ---- */

static void check_tokens(const struct chaos *chaos)
{
    struct kv_client *reader = kv_client_create(chaos->c);
    uint8_t must_be[MAX_TOKENS];

    for (size_t key = 0; key < N_KEYS; key++) {
        struct buf value = {0};

        note_acked(chaos, key, must_be);
        kv_get_now(reader, kv_cluster_key(chaos->c, key), &value);
        check_value(chaos, key, buf_slice(&value), must_be);
        buf_fini(&value);
    }
    kv_client_destroy(&reader);
}

static void finish(struct chaos *chaos)
{
    const struct check_rest rest = {.cluster = chaos->c};
    bool any = false;
    size_t n_acked;

    for (size_t i = 0; i < chaos->profile->n_groups; i++) {
        any |= chaos->joined[i];
    }
    if (!any) { /* somebody must own the shards to read them */
        kv_cluster_join_now(chaos->c, 0);
        chaos->joined[0] = true;
    }
    check_rest_settle(&rest, SETTLE_MS);
    n_acked = chaos->n_acked;
    run_ms(chaos, 1000); /* nothing is in anybody's way any more */
    ASSERT(chaos->n_acked >= n_acked + N_WORKERS);
    chaos->stopping = true;
    ASSERT(world_run_until(chaos->world, OPERATION_MS + 1000, turn, chaos));
    check_tokens(chaos);
    check_rest_states(&rest);
}

static void run_seed(uint64_t seed)
{
    const struct profile *profile = &profiles[seed % (sizeof(profiles) / sizeof(profiles[0]))];
    struct kv_cluster_options options = {.n_ctrlers = N_CTRLERS,
                                         .n_groups = profile->n_groups,
                                         .n_replicas = profile->n_replicas,
                                         .snapshots = profile->snapshots,
                                         .max_sessions = profile->max_sessions,
                                         .piece_bytes = profile->piece_bytes,
                                         .seed = seed};
    struct chaos *chaos = mem_zalloc(sizeof(*chaos));
    char name[32];

    snprintf(name, sizeof(name), "moves seed %llu", (unsigned long long)seed);
    chaos->profile = profile;
    chaos->c = kv_cluster_create(name, &options);
    chaos->world = kv_cluster_world(chaos->c);
    for (size_t i = 0; i < N_WORKERS; i++) {
        chaos->workers[i] = (struct worker){.chaos = chaos,
                                            .number = i,
                                            .client = kv_client_create(chaos->c),
                                            .must_be = mem_zalloc(MAX_TOKENS)};
    }
    for (int i = 0; i < STEPS; i++) {
        step(chaos);
    }
    end_faults(chaos);
    finish(chaos);
    printf("tokens %zu acknowledged %zu unknown %zu\n", chaos->n_tokens, chaos->n_acked,
           chaos->n_unknown);
    for (size_t i = 0; i < N_WORKERS; i++) {
        kv_client_destroy(&chaos->workers[i].client);
        mem_free(chaos->workers[i].must_be);
    }
    kv_cluster_destroy(&chaos->c);
    mem_free(chaos);
}

static void moves_lose_nothing(void **state)
{
    (void)state;
    seeds_run("MOVES", 20, run_seed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(moves_lose_nothing)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
