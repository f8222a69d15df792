/* Clients of a simulated cluster: the shipped clerk with the world's clock and network. What they
 * do is noted in a history, if there is one. */
#include <stdio.h>
#include <string.h>

#include "raft/util/assert.h"
#include "raft/util/mem.h"
#include "tests/sim/kv_cluster_internal.h"

#define uthash_fatal(text) UNREACHABLE(text)
#include <uthash.h>

#define NOW_TIMEOUT_MS 60000

struct kv_client {
    struct kv_cluster *cluster;
    struct clerk *clerk;
    const struct spec *ctrlers; /* whom it believes */
    struct ctrler_clerk *admin; /* made when first asked for */
    size_t number;
    struct history *history; /* NULL: what it does is not noted */
};

static void client_message(void *client, uint64_t now_ms, struct slice message)
{
    clerk_on_message(((struct kv_client *)client)->clerk, now_ms, message);
}

static void client_down(void *client, uint64_t now_ms, const char *url)
{
    clerk_on_down(((struct kv_client *)client)->clerk, now_ms, url);
}

static void client_tick(void *client, uint64_t now_ms)
{
    clerk_tick(((struct kv_client *)client)->clerk, now_ms);
}

static uint64_t client_deadline(void *client)
{
    return clerk_next_deadline_ms(((struct kv_client *)client)->clerk);
}

static const struct world_client_ops client_ops = {client_message, client_down, client_tick,
                                                   client_deadline};

static void client_send(void *context, group_id gid, const char *url, struct buf *message)
{
    struct kv_client *client = context;

    (void)gid;
    world_client_send(client->cluster->world, client->number, url, message);
}

static struct kv_client *client_create(struct kv_cluster *cluster, const struct spec *ctrlers)
{
    struct kv_client *client = mem_zalloc(sizeof(*client));
    struct clerk_options options;
    struct rng *rng = world_rng(cluster->world);

    client->cluster = cluster;
    client->ctrlers = ctrlers;
    client->history = cluster->history;
    clerk_options_default(&options);
    options.ctrlers = *ctrlers;
    set_u64(options.client_id, rng_next(rng));
    set_u64(options.client_id + 8, rng_next(rng));
    options.caller.seed = rng_next(rng);
    options.caller.transport = (struct caller_transport){.context = client, .send = client_send};
    client->clerk = clerk_create(&options);
    client->number = world_add_client(cluster->world, &client_ops, client);
    return client;
}

struct kv_client *kv_client_create(struct kv_cluster *cluster)
{
    return client_create(cluster, &cluster->ctrlers);
}

struct kv_client *kv_client_create_astray(struct kv_cluster *cluster)
{
    ASSERT(cluster->second_ctrlers.n > 0);
    return client_create(cluster, &cluster->second_ctrlers);
}

void kv_client_record(struct kv_client *client, struct history *history)
{
    client->history = history;
}

void kv_client_destroy(struct kv_client **client)
{
    struct kv_client *c = *client;

    world_remove_client(c->cluster->world, c->number);
    if (c->admin != NULL) {
        ctrler_clerk_destroy(&c->admin);
    }
    clerk_destroy(&c->clerk);
    mem_free(c);
    *client = NULL;
}

struct clerk *kv_client_clerk(struct kv_client *client)
{
    return client->clerk;
}

size_t kv_client_number(const struct kv_client *client)
{
    return client->number;
}

struct ctrler_clerk *kv_client_admin(struct kv_client *client)
{
    uint8_t id[16];

    if (client->admin == NULL) {
        set_u64(id, rng_next(world_rng(client->cluster->world)));
        set_u64(id + 8, rng_next(world_rng(client->cluster->world)));
        client->admin = ctrler_clerk_create(clerk_caller(client->clerk), client->ctrlers, id);
    }
    return client->admin;
}

void kv_outcome_fini(struct kv_outcome *outcome)
{
    buf_fini(&outcome->value);
}

/* ---- What is noted ---- */

struct key_number {
    char key[32];
    size_t number;
    UT_hash_handle by_key;
};

static size_t key_number(struct kv_cluster *cluster, const char *key)
{
    struct key_number *found;

    HASH_FIND(by_key, cluster->key_numbers, key, strlen(key), found);
    if (found == NULL) {
        found = mem_zalloc(sizeof(*found));
        ASSERT(strlen(key) < sizeof(found->key));
        snprintf(found->key, sizeof(found->key), "%s", key);
        found->number = HASH_CNT(by_key, cluster->key_numbers);
        HASH_ADD(by_key, cluster->key_numbers, key[0], strlen(key), found);
    }
    return found->number;
}

void kv_cluster_forget_keys(struct kv_cluster *cluster)
{
    struct key_number *at, *next;

    HASH_ITER (by_key, cluster->key_numbers, at, next) {
        HASH_DELETE(by_key, cluster->key_numbers, at);
        mem_free(at);
    }
}

void kv_cluster_note(struct kv_cluster *cluster, struct history *history, const char *key,
                     struct slice value)
{
    struct history_operation operation = {.key = key_number(cluster, key),
                                          .client = SIZE_MAX,
                                          .type = HISTORY_PUT,
                                          .argument = value,
                                          .start_us = world_now_us(cluster->world)};
    struct kv_write_result result = {.status = ST_OK, .n_outputs = 1};
    struct clerk_end end = {.status = ST_OK, .reason = "", .result = &result};

    history_end(history, history_begin(history, &operation), operation.start_us, &end);
}

/* ---- Operations ---- */

struct pending {
    struct kv_cluster *cluster;
    struct kv_outcome *outcome;
    struct history *history;
    size_t number; /* in the history */
};

static void on_end(void *context, const struct clerk_end *end)
{
    struct pending *pending = context;
    struct kv_outcome *outcome = pending->outcome;

    ASSERT(!outcome->ended);
    outcome->ended = true;
    outcome->status = end->status;
    outcome->end_us = world_now_us(pending->cluster->world);
    if (outcome->end_us - outcome->start_us > pending->cluster->longest_us) {
        pending->cluster->longest_us = outcome->end_us - outcome->start_us;
    }
    outcome->version = end->version;
    buf_put_slice(&outcome->value, end->value);
    if (end->result != NULL) {
        outcome->result = *end->result;
    }
    if (pending->history != NULL) {
        history_end(pending->history, pending->number, outcome->end_us, end);
    }
    mem_free(pending);
}

/* `operation` has the type, the condition and the argument. */
static struct pending *begin(struct kv_client *client, const char *key,
                             struct history_operation *operation, struct kv_outcome *outcome)
{
    struct pending *pending = mem_zalloc(sizeof(*pending));

    *outcome = (struct kv_outcome){.start_us = world_now_us(client->cluster->world)};
    pending->cluster = client->cluster;
    pending->outcome = outcome;
    pending->history = client->history;
    client->cluster->n_operations++;
    if (client->history != NULL) {
        operation->key = key_number(client->cluster, key);
        operation->client = client->number;
        operation->start_us = outcome->start_us;
        pending->number = history_begin(client->history, operation);
    }
    return pending;
}

void kv_client_get(struct kv_client *client, const char *key, uint64_t ms,
                   struct kv_outcome *outcome)
{
    uint64_t now_ms = world_now_ms(client->cluster->world);
    struct history_operation operation = {.type = HISTORY_GET};

    clerk_get(client->clerk, slice_text(key), now_ms, now_ms + ms, on_end,
              begin(client, key, &operation, outcome));
    world_reschedule(client->cluster->world, client->number);
}

/* One operation, with the condition of `operation` if that is a CAS. */
static void write_one(struct kv_client *client, enum kv_operation_type type, const char *key,
                      struct history_operation *operation, uint64_t ms, struct kv_outcome *outcome)
{
    uint64_t now_ms = world_now_ms(client->cluster->world);
    struct kv_write write = {.n_operations = 1};

    write.operations[0] = (struct kv_operation){type, slice_text(key), operation->argument};
    if (operation->type == HISTORY_CAS) {
        write.n_conditions = 1;
        write.conditions[0] = operation->condition;
    }
    clerk_write(client->clerk, &write, now_ms, now_ms + ms, on_end,
                begin(client, key, operation, outcome));
    world_reschedule(client->cluster->world, client->number);
}

void kv_client_put(struct kv_client *client, const char *key, struct slice value, uint64_t ms,
                   struct kv_outcome *outcome)
{
    struct history_operation operation = {.type = HISTORY_PUT, .argument = value};

    write_one(client, KV_PUT, key, &operation, ms, outcome);
}

void kv_client_append(struct kv_client *client, const char *key, struct slice value, uint64_t ms,
                      struct kv_outcome *outcome)
{
    struct history_operation operation = {.type = HISTORY_APPEND, .argument = value};

    write_one(client, KV_APPEND, key, &operation, ms, outcome);
}

void kv_client_cas(struct kv_client *client, const char *key, enum kv_condition_type type,
                   struct slice old, struct slice value, uint64_t ms, struct kv_outcome *outcome)
{
    struct history_operation operation = {
        .type = HISTORY_CAS, .argument = value, .condition = {type, slice_text(key), old}};

    write_one(client, KV_PUT, key, &operation, ms, outcome);
}

static bool outcome_has_ended(void *context)
{
    return ((struct kv_outcome *)context)->ended;
}

void kv_outcome_await(struct kv_cluster *cluster, struct kv_outcome *outcome, uint64_t ms)
{
    ASSERT(world_run_until(cluster->world, ms, outcome_has_ended, outcome));
}

/* At the latest a little after its deadline. */
static void await(struct kv_client *client, struct kv_outcome *outcome)
{
    kv_outcome_await(client->cluster, outcome, NOW_TIMEOUT_MS + 1000);
}

void kv_put_now(struct kv_client *client, const char *key, const char *value)
{
    struct kv_outcome outcome;

    kv_client_put(client, key, slice_text(value), NOW_TIMEOUT_MS, &outcome);
    await(client, &outcome);
    ASSERT(outcome.status == ST_OK);
    kv_outcome_fini(&outcome);
}

void kv_append_now(struct kv_client *client, const char *key, const char *value)
{
    struct kv_outcome outcome;

    kv_client_append(client, key, slice_text(value), NOW_TIMEOUT_MS, &outcome);
    await(client, &outcome);
    ASSERT(outcome.status == ST_OK);
    kv_outcome_fini(&outcome);
}

bool kv_get_now(struct kv_client *client, const char *key, struct buf *value)
{
    struct kv_outcome outcome;
    bool found;

    kv_client_get(client, key, NOW_TIMEOUT_MS, &outcome);
    await(client, &outcome);
    ASSERT(outcome.status == ST_OK || outcome.status == ST_NOT_FOUND);
    found = outcome.status == ST_OK;
    buf_put_slice(value, buf_slice(&outcome.value));
    kv_outcome_fini(&outcome);
    return found;
}

void kv_check_now(struct kv_client *client, const char *key, const char *value)
{
    struct buf found = {0};
    bool exists = kv_get_now(client, key, &found);

    ASSERT(exists == (value != NULL));
    ASSERT(value == NULL || slice_equal(buf_slice(&found), slice_text(value)));
    buf_fini(&found);
}

void kv_client_join_now(struct kv_client *client, size_t group)
{
    struct kv_cluster *cluster = client->cluster;
    struct proto_join_group list = {.gid = kv_cluster_gid(group),
                                    .replicas = cluster->groups[group]};
    struct kv_change change = {0};
    uint64_t now_ms = world_now_ms(cluster->world);

    ctrler_clerk_join(kv_client_admin(client), &list, 1, now_ms, now_ms + NOW_TIMEOUT_MS,
                      kv_change_on_end, &change);
    world_reschedule(cluster->world, client->number);
    ASSERT(world_run_until(cluster->world, NOW_TIMEOUT_MS + 1000, kv_change_has_ended, &change));
    ASSERT(change.status == ST_OK);
}
