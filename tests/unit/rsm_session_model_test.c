/* Unit tests of sessions that move with their shard, and a randomized model that looks for an
 * operation applied twice. */
#include <stdio.h>

#include "raft/util/assert.h"
#include "raft/util/mem.h"
#include "raft/util/rng.h"
#include "tests/unit/session_story.h"

/* ---- Moving ---- */

/* Merges every record and the floor, as a shard's move does. */
static void move(const struct bench *from, struct bench *to)
{
    struct io_state *io = mem_state_io(from->store);
    struct io_iter *iter = io->ops->iter_open(io, (struct io_key){RANGE, KIND, slice_of(NULL, 0)});
    struct slice key, value;

    while (io->ops->iter_next(iter, &key, &value)) {
        if (key.len > 0) {
            assert_int_equal(session_merge(to->table, key, value), ST_OK);
        }
    }
    assert_int_equal(io->ops->iter_close(iter), ST_OK);
    session_raise_floor(to->table, session_floor(from->table));
}

static void merging_is_idempotent_and_commutative(void **state)
{
    struct rng rng;

    (void)state;
    rng_init(&rng, 11);
    for (int round = 0; round < 200; round++) {
        struct bench a = bench_create(8), b = bench_create(8);
        struct bench ab = bench_create(8), ba = bench_create(8);
        for (int i = 0; i < 40; i++) {
            /* An operation that is in both has one result: its text follows from the operation. */
            uint32_t client = 1 + (uint32_t)rng_below(&rng, 4);
            uint64_t seq = 1 + rng_below(&rng, 30);
            struct session_key key = op(client, seq, rng_below(&rng, seq), 10);
            char text[32];
            snprintf(text, sizeof(text), "%u/%u", client, (unsigned)seq);
            submit(rng_below(&rng, 2) == 0 ? &a : &b, key, 100 + (uint64_t)i, text);
        }
        move(&a, &ab);
        move(&b, &ab);
        move(&b, &ba);
        move(&a, &ba);
        assert_true(written(&ab) == written(&ba));
        move(&a, &ab);
        move(&b, &ab);
        assert_true(written(&ab) == written(&ba));
        reload(&ab);
        move(&ba, &ab);
        assert_true(written(&ab) == written(&ba));
        bench_destroy(&a);
        bench_destroy(&b);
        bench_destroy(&ab);
        bench_destroy(&ba);
    }
}

static void merging_keeps_the_higher_marks_and_the_results_above(void **state)
{
    struct bench a = bench_create(4), b = bench_create(4);

    (void)state;
    submit(&a, op(1, 3, 0, 10), 20, "three");
    submit(&a, op(1, 7, 0, 10), 90, "seven");
    submit(&b, op(1, 5, 4, 10), 21, "five");
    move(&a, &b);
    assert_int_equal(check(&b, op(1, 3, 0, 10)), SESSION_STALE); /* acked 4 wins */
    assert_kept(&b, op(1, 5, 0, 10), "five");
    assert_kept(&b, op(1, 7, 0, 10), "seven");
    assert_true(session_floor(b.table) == 0);
    /* The higher activity came along: when 1 is evicted, the floor is 90. */
    for (uint32_t client = 2; client <= 5; client++) {
        submit(&b, op(client, 1, 0, 99), 100 + client, "x");
    }
    assert_true(session_floor(b.table) == 90);
    bench_destroy(&a);
    bench_destroy(&b);
}

/* ---- A model: many clients, few records, moves, restarts; nothing is applied twice ---- */

#define MODEL_CLIENTS 12
#define MODEL_SEQS    400
#define MODEL_TRIES   64

struct model {
    struct rng rng;
    struct bench owner;
    uint64_t stamp;
    uint32_t applied[MODEL_CLIENTS][MODEL_SEQS];
    struct {
        uint64_t next_seq, acked, heard;
        struct session_key current;
        bool outstanding, doubtful;
    } clients[MODEL_CLIENTS];
    struct session_key tries[MODEL_TRIES]; /* in flight; each may arrive any number of times */
    size_t n_tries;
    uint32_t n_applied, n_duplicate, n_expired, n_stale;
};

static void model_arrive(struct model *model, struct session_key key)
{
    uint32_t client = get_u32(key.client.bytes);
    struct slice kept;
    enum session_verdict verdict = session_check(model->owner.table, &key, &kept);
    uint8_t result[8];
    bool current =
        model->clients[client].outstanding && model->clients[client].current.seq == key.seq;

    model->stamp += 1 + rng_below(&model->rng, 3);
    model->stamp = key.issued_at >= model->stamp ? key.issued_at + 1 : model->stamp;
    if (verdict == SESSION_APPLY) {
        assert_int_equal(model->applied[client][key.seq]++, 0);
        set_u64(result, key.seq * 1000 + client);
        session_commit(model->owner.table, &key, model->stamp, slice_of(result, sizeof(result)));
        model->n_applied++;
    } else if (verdict == SESSION_DUPLICATE) {
        assert_int_equal(model->applied[client][key.seq], 1);
        assert_true(kept.len == 8 && get_u64(kept.data) == key.seq * 1000 + client);
        model->n_duplicate++;
    } else {
        model->n_expired += verdict == SESSION_EXPIRED;
        model->n_stale += verdict == SESSION_STALE;
    }
    if (!current || rng_below(&model->rng, 3) == 0) {
        return; /* the answer is lost */
    }
    model->clients[client].heard = model->stamp;
    if (verdict == SESSION_EXPIRED && !model->clients[client].doubtful) {
        /* First try: the same operation again, issued at the time just heard of. */
        model->clients[client].current.issued_at = model->stamp;
        return;
    }
    model->clients[client].outstanding = false;
    model->clients[client].acked = key.seq;
}

static void model_client(struct model *model)
{
    uint32_t client = (uint32_t)rng_below(&model->rng, MODEL_CLIENTS);

    if (!model->clients[client].outstanding) {
        if (model->clients[client].next_seq + 1 >= MODEL_SEQS) {
            return;
        }
        model->clients[client].outstanding = true;
        model->clients[client].doubtful = false;
        model->clients[client].current =
            op(client, ++model->clients[client].next_seq, model->clients[client].acked,
               model->clients[client].heard);
    } else {
        model->clients[client].doubtful = true;
    }
    if (model->n_tries < MODEL_TRIES) {
        model->tries[model->n_tries++] = model->clients[client].current;
    }
}

/* A new owner: the records are copied in two rounds with operations applied in between. */
static void model_move(struct model *model)
{
    struct bench target = bench_create(3);

    move(&model->owner, &target);
    for (size_t i = 0; i < 3 && model->n_tries > 0; i++) {
        struct session_key key = model->tries[rng_below(&model->rng, model->n_tries)];
        model->clients[get_u32(key.client.bytes)].doubtful = true; /* it will arrive again */
        model_arrive(model, key);
    }
    move(&model->owner, &target);
    bench_destroy(&model->owner);
    model->owner = target;
    /* Another group, another clock: only the floor bounds its stamps. */
    if (rng_below(&model->rng, 2) == 0 && model->stamp > session_floor(target.table) + 1) {
        model->stamp = session_floor(target.table) + 1;
    }
}

static void model_run(uint64_t seed, struct model *model)
{
    memset(model, 0, sizeof(*model));
    rng_init(&model->rng, seed);
    model->owner = bench_create(3);
    model->stamp = 1000;
    for (size_t i = 0; i < MODEL_CLIENTS; i++) {
        model->clients[i].heard = rng_below(&model->rng, 1000);
    }
    for (int step = 0; step < 3000; step++) {
        uint64_t dice = rng_below(&model->rng, 100);
        if (dice < 45) {
            model_client(model);
        } else if (dice < 97 && model->n_tries > 0) {
            size_t which = (size_t)rng_below(&model->rng, model->n_tries);
            struct session_key key = model->tries[which];
            if (rng_below(&model->rng, 3) > 0) {
                model->tries[which] = model->tries[--model->n_tries];
            } else { /* it arrives once more, later: a further try as far as its client knows */
                model->clients[get_u32(key.client.bytes)].doubtful = true;
            }
            model_arrive(model, key);
        } else if (dice == 97) {
            model_move(model);
        } else {
            reload(&model->owner);
        }
    }
    bench_destroy(&model->owner);
}

static void nothing_is_ever_applied_twice(void **state)
{
    struct model *model = mem_alloc(sizeof(*model));
    uint64_t applied = 0, duplicate = 0, expired = 0, stale = 0;

    (void)state;
    for (uint64_t seed = 1; seed <= 150; seed++) {
        model_run(seed, model);
        applied += model->n_applied;
        duplicate += model->n_duplicate;
        expired += model->n_expired;
        stale += model->n_stale;
    }
    /* The model went everywhere. */
    assert_true(applied > 20000 && duplicate > 2000 && expired > 2000 && stale > 2000);
    mem_free(model);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(merging_is_idempotent_and_commutative),
        cmocka_unit_test(merging_keeps_the_higher_marks_and_the_results_above),
        cmocka_unit_test(nothing_is_ever_applied_twice),
    };

    return cmocka_run_group_tests_name("rsm_session_model", tests, NULL, NULL);
}
