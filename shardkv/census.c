/* census: see census.h. Each step looks at a bounded number of records and bytes and goes on where
 * the last one ended; between two steps shards are written to, so a count is of no one moment.
 * After a round over all shards it rests at least 20 times as long as the round took. A leader that
 * is deposed gives its round up: what came between is no part of one.
 *
 * A look at a shard reads a block of each table of the state, and a block is as large as the value
 * in it: with values of 16 MiB one look may take a tenth of a second, while nothing else happens
 * here. So a shard that was never written is not looked at, a round begins with one look a step,
 * and whenever a step comes late, it rests 20 times as long. */
#include "shardkv/census.h"

#include "raft/util/assert.h"
#include "raft/util/mem.h"
#include "shardkv/kv_ops.h"

#define CENSUS_STEP_MS      20
#define CENSUS_STEP_RECORDS 500
#define CENSUS_STEP_BYTES   (256u << 10)
#define CENSUS_STEP_LOOKS   25 /* at shards */
#define CENSUS_REST_MS      2000
#define CENSUS_REST_FACTOR  20
#define CENSUS_LATE_MS      50   /* so late the loop is busy, perhaps with the last step */
#define CENSUS_MAX_LATE_MS  5000 /* more than that was not the loop's work */

struct count {
    uint64_t range; /* of which it is: another range is another shard's life; 0: none yet */
    uint64_t keys, bytes;
};

struct census {
    struct kv_context *context;
    struct io_state *state;
    struct count *counts;
    uint32_t n_shards;
    shard_id shard; /* being counted */
    struct count running;
    struct buf last;   /* its last counted key */
    uint32_t looks;    /* at shards, in one step */
    uint64_t begin_ms; /* of the round */
    uint64_t due_ms;
    bool is_due; /* the step at due_ms is awaited: how late it comes says something */
};

/* What one step may still spend. */
struct budget {
    uint32_t looks;
    uint64_t records, bytes;
};

struct census *census_create(struct kv_context *context, struct io_state *state)
{
    struct census *census = mem_zalloc(sizeof(*census));

    census->context = context;
    census->state = state;
    return census;
}

void census_destroy(struct census **census)
{
    if (*census != NULL) {
        mem_free((*census)->counts);
        buf_fini(&(*census)->last);
        mem_free(*census);
        *census = NULL;
    }
}

bool census_find(const struct census *census, shard_id id, uint64_t *keys, uint64_t *bytes)
{
    const struct shard *shard = kv_sm_shard(census->context->sm, id);

    if (id >= census->n_shards || shard == NULL || shard->range == 0 ||
        census->counts[id].range != shard->range) {
        return false;
    }
    *keys = census->counts[id].keys;
    *bytes = census->counts[id].bytes;
    return true;
}

/* Counts on until the budget is spent. False: the shard's end was reached. */
static bool count_some(struct census *census, struct budget *budget)
{
    struct io_key from = {census->running.range, KV_KIND_DATA, {NULL, 0}};
    struct io_iter *iter;
    struct slice key, value;
    bool more = false;

    if (census->last.len > 0) {
        buf_put_u8(&census->last, 0);
        from.key = buf_slice(&census->last);
    }
    iter = census->state->ops->iter_open(census->state, from);
    while (!more && census->state->ops->iter_next(iter, &key, &value)) {
        uint64_t bytes = key.len + value.len;

        census->running.keys++;
        census->running.bytes += bytes;
        budget->records -= budget->records > 0;
        budget->bytes -= bytes < budget->bytes ? bytes : budget->bytes;
        if (budget->records == 0 || budget->bytes == 0) {
            buf_clear(&census->last);
            buf_put_slice(&census->last, key);
            more = true;
        }
    }
    /* An error shows where it matters, at a read or write of this data. */
    return census->state->ops->iter_close(iter) == ST_OK && more;
}

static void next_shard(struct census *census)
{
    uint64_t now_ms = census->context->now_ms;
    uint64_t rest_ms;

    census->shard++;
    census->running = (struct count){0};
    buf_clear(&census->last);
    if (census->shard == census->n_shards) {
        rest_ms = (now_ms - census->begin_ms) * CENSUS_REST_FACTOR;
        census->due_ms = now_ms + (rest_ms > CENSUS_REST_MS ? rest_ms : CENSUS_REST_MS);
        census->shard = 0;
    }
}

static void fit_shards(struct census *census)
{
    uint32_t n_shards = kv_sm_meta(census->context->sm)->n_shards;

    if (census->n_shards != n_shards) {
        ASSERT(census->n_shards == 0);
        census->counts = mem_zalloc(n_shards * sizeof(census->counts[0]));
        census->n_shards = n_shards;
    }
}

/* The next round begins with the first shard. */
static void give_round_up(struct census *census)
{
    census->shard = 0;
    census->running = (struct count){0};
    census->is_due = false;
    buf_clear(&census->last);
}

/* Looks at the present shard; the budget ends in its middle or after it. */
static void visit_shard(struct census *census, struct budget *budget)
{
    const struct shard *shard = kv_sm_shard(census->context->sm, census->shard);

    if (shard->range == 0) {
        next_shard(census);
        return;
    }
    if (kv_sm_version(census->context->sm, census->shard) == 0) {
        census->counts[census->shard] = (struct count){.range = shard->range};
        next_shard(census);
        return;
    }
    if (census->running.range != shard->range) { /* not begun, or it became another one */
        census->running = (struct count){.range = shard->range};
        buf_clear(&census->last);
    }
    budget->looks--;
    if (!count_some(census, budget)) {
        census->counts[census->shard] = census->running;
        next_shard(census);
    }
}

/* Rests if the step comes late; else it may look at more shards than the last one. */
static bool is_too_late(struct census *census)
{
    uint64_t now_ms = census->context->now_ms;
    uint64_t late_ms = census->is_due ? now_ms - census->due_ms : 0;

    if (late_ms >= CENSUS_LATE_MS) {
        late_ms = late_ms < CENSUS_MAX_LATE_MS ? late_ms : CENSUS_MAX_LATE_MS;
        census->due_ms = now_ms + late_ms * CENSUS_REST_FACTOR;
        census->looks = 0;
        return true;
    }
    census->looks = census->looks == 0 ? 1 : census->looks * 2;
    if (census->looks > CENSUS_STEP_LOOKS) {
        census->looks = CENSUS_STEP_LOOKS;
    }
    return false;
}

void census_step(struct census *census)
{
    struct budget budget = {0, CENSUS_STEP_RECORDS, CENSUS_STEP_BYTES};
    uint64_t now_ms = census->context->now_ms;

    fit_shards(census);
    if (!group_is_leader(census->context->group)) {
        give_round_up(census);
        return;
    }
    if (census->n_shards == 0 || now_ms < census->due_ms || is_too_late(census)) {
        return;
    }
    if (census->shard == 0 && census->running.range == 0) {
        census->begin_ms = now_ms;
    }
    census->is_due = true;
    census->due_ms = now_ms + CENSUS_STEP_MS;
    budget.looks = census->looks;
    for (uint32_t i = 0;
         i < census->n_shards && budget.looks > 0 && budget.records > 0 && budget.bytes > 0; i++) {
        visit_shard(census, &budget);
        if (census->shard == 0) {
            return; /* the round is over */
        }
    }
}

uint64_t census_next_deadline_ms(const struct census *census)
{
    bool counts = census->n_shards > 0 && group_is_leader(census->context->group);

    return counts ? census->due_ms : UINT64_MAX;
}
