/* Unit tests of sessions that move with their shard, and a randomized model that looks for an
 * operation applied twice. */
#include "raft/util/mem.h"
#include "raft/util/rng.h"
#include "tests/unit/session_story.h"

/* ---- Moving ---- */

/* What changes while the records are copied: a list of client ids, some of them more than once. */
static void changed(void *context, struct slice client)
{
    struct buf *changes = context;

    buf_put_slice(changes, client);
}

/* Every record as it is now, and the floor. */
static void send_all(const struct bench *from, struct bench *to)
{
    struct io_state *io = mem_state_io(from->store);
    struct io_iter *iter = io->ops->iter_open(io, (struct io_key){RANGE, KIND, slice_of(NULL, 0)});
    struct slice key, value;

    while (io->ops->iter_next(iter, &key, &value)) {
        if (key.len > 0) {
            assert_int_equal(session_put(to->table, key, value), ST_OK);
        }
    }
    assert_int_equal(io->ops->iter_close(iter), ST_OK);
    session_raise_floor(to->table, session_floor(from->table));
}

/* What changed, as it is now; forgets the list. */
static void send_changes(const struct bench *from, struct bench *to, struct buf *changes)
{
    for (size_t at = 0; at < changes->len; at += 16) {
        struct slice client = slice_of(changes->data + at, 16);
        struct buf record = {0};

        if (read_record(from, client, &record) == ST_OK) {
            assert_int_equal(session_put(to->table, client, buf_slice(&record)), ST_OK);
        } else {
            session_remove(to->table, client);
        }
        buf_fini(&record);
    }
    buf_clear(changes);
    session_raise_floor(to->table, session_floor(from->table));
}

/* Operations of many clients on a table that holds few: some commit, some evict. */
static void some_operations(struct bench *bench, struct rng *rng, uint64_t *stamp)
{
    for (uint64_t n = rng_below(rng, 12); n > 0; n--) {
        uint64_t seq = 1 + rng_below(rng, 30);

        *stamp += 1 + rng_below(rng, 3);
        submit(bench, op(1 + (uint32_t)rng_below(rng, 12), seq, rng_below(rng, seq), *stamp - 1),
               *stamp, "result");
    }
}

static void whoever_follows_the_watch_has_the_same_table(void **state)
{
    struct rng rng;

    (void)state;
    rng_init(&rng, 11);
    for (int round = 0; round < 500; round++) {
        struct bench from = bench_create(6), to = bench_create(6);
        struct buf changes = {0};
        uint64_t stamp = 100;

        some_operations(&from, &rng, &stamp);
        session_table_watch(from.table, changed, &changes);
        some_operations(&from, &rng, &stamp);
        send_all(&from, &to);
        for (int i = 0; i < 3; i++) {
            some_operations(&from, &rng, &stamp);
            send_changes(&from, &to, &changes);
            assert_true(written(&from) == written(&to));
            if (rng_below(&rng, 4) == 0) {
                reload(&to);
            }
        }
        assert_int_equal(session_count(from.table), session_count(to.table));
        /* And goes on in the same way. */
        session_table_watch(from.table, NULL, NULL);
        for (uint32_t client = 1; client <= 12; client++) {
            struct session_key key = op(client, 40, 39, stamp);

            stamp++;
            assert_int_equal(submit(&from, key, stamp, "x"), submit(&to, key, stamp, "x"));
            assert_true(written(&from) == written(&to));
        }
        buf_fini(&changes);
        bench_destroy(&from);
        bench_destroy(&to);
    }
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

static void model_old_tries(struct model *model)
{
    for (size_t i = 0; i < 3 && model->n_tries > 0; i++) {
        struct session_key key = model->tries[rng_below(&model->rng, model->n_tries)];

        model->clients[get_u32(key.client.bytes)].doubtful = true; /* it will arrive again */
        model_arrive(model, key);
    }
}

/* A new owner: the records are copied, and then what operations changed meanwhile. */
static void model_move(struct model *model)
{
    struct bench target = bench_create(3);
    struct buf changes = {0};

    session_table_watch(model->owner.table, changed, &changes);
    model_old_tries(model);
    send_all(&model->owner, &target);
    model_old_tries(model);
    send_changes(&model->owner, &target, &changes);
    assert_true(written(&model->owner) == written(&target));
    buf_fini(&changes);
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
        cmocka_unit_test(whoever_follows_the_watch_has_the_same_table),
        cmocka_unit_test(nothing_is_ever_applied_twice),
    };

    return cmocka_run_group_tests_name("rsm_session_model", tests, NULL, NULL);
}
