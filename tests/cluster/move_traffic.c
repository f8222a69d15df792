/* The operations: filling, the closed loop that finds the peak, the open loop, and reading
 * everything back at the end.
 *
 * The open loop has two streams, one for the big shard and one for the others, each with arrivals
 * at a steady interval, rounded up to a tick of half a millisecond: what is due together is handed
 * over together, and a wake-up of threads for each operation would take more of the machine than
 * the operation. One that is due starts at once, however many are outstanding, and its latency
 * counts from when it was due; a thread that starts them late makes them late. */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "tests/cluster/move_load.h"

/* ---- Filling ---- */

#define FILL_BATCH   16 /* keys in one transaction: what the service allows */
#define FILL_WINDOW  32 /* transactions outstanding */
#define FILL_RETRIES 20
#define FILL_BYTES   (1u << 20) /* of one transaction at most */

struct fill {
    struct lane *lane;
    uint32_t next; /* the key with which the next batch begins */
    uint32_t batch;
    size_t live;
    uint32_t retries;
    char why[200]; /* empty, or why it failed */
    pthread_mutex_t mutex;
    pthread_cond_t changed;
};

struct fill_batch {
    struct fill *fill;
    uint32_t first, n;
    uint32_t tries;
    uint8_t *values;
};

static void fill_end(void *context, struct shardkv_result *result);

/* Puts the batch; the content is the same at each try, so an unknown end does no harm. */
static int fill_submit(struct fill_batch *batch)
{
    struct lane *lane = batch->fill->lane;
    size_t value_bytes = lane->keys.value_bytes;
    struct shardkv_operation operations[FILL_BATCH];
    char keys[FILL_BATCH][LOAD_MAX_KEY];

    for (uint32_t i = 0; i < batch->n; i++) {
        uint8_t *value = batch->values + i * value_bytes;

        keys_write_value(&lane->keys, batch->first + i, 0, value);
        operations[i] = (struct shardkv_operation){
            .type = SHARDKV_PUT,
            .key = {keys[i], keys_write_key(&lane->keys, batch->first + i, keys[i])},
            .value = {value, value_bytes},
        };
    }
    return shardkv_write_async(lane->kv, NULL, 0, operations, batch->n, 30000, fill_end, batch,
                               NULL);
}

/* Goes on with the next batch, or ends; the mutex is not held. */
static void fill_next(struct fill_batch *batch)
{
    struct fill *fill = batch->fill;
    uint32_t n_keys = fill->lane->keys.n_keys;
    int code = SHARDKV_OK;
    bool over;

    pthread_mutex_lock(&fill->mutex);
    over = fill->next >= n_keys || fill->why[0] != '\0';
    if (!over) {
        batch->first = fill->next;
        batch->n = n_keys - fill->next < fill->batch ? n_keys - fill->next : fill->batch;
        batch->tries = 0;
        fill->next += batch->n;
    }
    pthread_mutex_unlock(&fill->mutex);
    if (!over) {
        code = fill_submit(batch);
    }
    if (over || code != SHARDKV_OK) {
        pthread_mutex_lock(&fill->mutex);
        if (code != SHARDKV_OK) {
            snprintf(fill->why, sizeof(fill->why), "%s", shardkv_strerror(code));
        }
        fill->live--;
        pthread_cond_signal(&fill->changed);
        pthread_mutex_unlock(&fill->mutex);
        free(batch->values);
        free(batch);
    }
}

static void fill_end(void *context, struct shardkv_result *result)
{
    struct fill_batch *batch = context;
    bool again = result->code != SHARDKV_OK && batch->tries++ < FILL_RETRIES;

    if (again && fill_submit(batch) == SHARDKV_OK) {
        pthread_mutex_lock(&batch->fill->mutex);
        batch->fill->retries++;
        pthread_mutex_unlock(&batch->fill->mutex);
        shardkv_result_free(result);
        return;
    }
    if (result->code != SHARDKV_OK) {
        pthread_mutex_lock(&batch->fill->mutex);
        snprintf(batch->fill->why, sizeof(batch->fill->why), "%s: %s",
                 shardkv_err_name(result->code), result->message);
        pthread_mutex_unlock(&batch->fill->mutex);
    }
    shardkv_result_free(result);
    fill_next(batch);
}

static void fill_lane(struct lane *lane)
{
    struct fill fill = {.lane = lane};
    size_t most = FILL_BYTES / lane->keys.value_bytes;

    /* Only keys with the same tag may share a transaction: successive keys have different tags. */
    fill.batch = lane->keys.n_tags > 1 || most == 0 ? 1 : most > FILL_BATCH ? FILL_BATCH : most;
    pthread_mutex_init(&fill.mutex, NULL);
    pthread_cond_init(&fill.changed, NULL);
    fill.live = FILL_WINDOW;
    for (size_t i = 0; i < FILL_WINDOW; i++) {
        struct fill_batch *batch = load_allocate(1, sizeof(*batch));

        batch->fill = &fill;
        batch->values = load_allocate(fill.batch, lane->keys.value_bytes);
        fill_next(batch);
    }
    pthread_mutex_lock(&fill.mutex);
    while (fill.live > 0) {
        pthread_cond_wait(&fill.changed, &fill.mutex);
    }
    pthread_mutex_unlock(&fill.mutex);
    if (fill.why[0] != '\0') {
        load_die("the fill failed: %s", fill.why);
    }
    if (fill.retries > 0) {
        fprintf(stderr, "move_load: %u transactions of the fill were repeated\n",
                (unsigned)fill.retries);
    }
    pthread_cond_destroy(&fill.changed);
    pthread_mutex_destroy(&fill.mutex);
}

void traffic_fill(struct load *load)
{
    struct lane *moving = &load->lanes[LOAD_MOVING];
    uint64_t start_ns;

    fill_lane(&load->lanes[LOAD_OTHERS]);
    start_ns = cli_now_ns();
    fill_lane(moving);
    load->fill_seconds = (double)(cli_now_ns() - start_ns) / 1e9;
    load->fill_bytes = moving->keys.n_keys * moving->keys.value_bytes;
}

/* ---- Single operations ---- */

struct closed_loop {
    struct load *load;
    uint64_t end_ns;
    _Atomic uint64_t ops, live, dice;
};

struct op {
    struct lane *lane;
    struct closed_loop *closed; /* NULL: of the open loop */
    enum load_kind kind;
    uint64_t start_ns;
    uint32_t key, generation, floor;
};

static void closed_next(struct closed_loop *closed);

static void op_end(void *context, struct shardkv_result *result)
{
    struct op *op = context;
    struct lane *lane = op->lane;
    struct closed_loop *closed = op->closed;
    uint64_t now_ns = cli_now_ns();
    enum load_end end = load_end_of(result->code);

    if (op->kind == LOAD_GET) {
        keys_end_get(&lane->keys, op->key, op->floor, result);
    } else {
        keys_end_put(&lane->keys, op->key, op->generation, end);
    }
    records_add(&lane->records, op->start_ns, now_ns, op->kind, end);
    if (end != LOAD_OK) {
        failures_add(&lane->load->failures, op->start_ns, lane->class, op->kind, result,
                     result->code);
    }
    shardkv_result_free(result);
    free(op);
    if (closed != NULL) {
        atomic_fetch_add(&closed->ops, end == LOAD_OK);
        closed_next(closed);
    }
    atomic_fetch_sub(&lane->outstanding, 1);
}

/* Starts one operation of the lane, a read or a write by chance. One that the library does not take
 * has failed. */
static void op_begin(struct lane *lane, uint64_t start_ns, bool read, struct closed_loop *closed)
{
    struct op *op = load_allocate(1, sizeof(*op));
    char text[LOAD_MAX_KEY];
    struct shardkv_bytes key = {text, 0};
    int code;

    *op = (struct op){.lane = lane, .closed = closed, .start_ns = start_ns};
    op->kind =
        read || !keys_begin_put(&lane->keys, &op->key, &op->generation) ? LOAD_GET : LOAD_PUT;
    atomic_fetch_add(&lane->outstanding, 1);
    if (op->kind == LOAD_GET) {
        op->key = keys_begin_get(&lane->keys, &op->floor);
        key.len = keys_write_key(&lane->keys, op->key, text);
        code = shardkv_get_async(lane->kv, key, 0, op_end, op, NULL);
    } else {
        struct shardkv_bytes value = {load_allocate(1, lane->keys.value_bytes),
                                      lane->keys.value_bytes};

        key.len = keys_write_key(&lane->keys, op->key, text);
        keys_write_value(&lane->keys, op->key, op->generation, (uint8_t *)value.data);
        code = shardkv_put_async(lane->kv, key, value, 0, op_end, op, NULL);
        free((void *)value.data);
    }
    if (code != SHARDKV_OK) {
        if (op->kind == LOAD_PUT) {
            keys_end_put(&lane->keys, op->key, op->generation, LOAD_ERROR);
        }
        /* Not recorded among the others, whose order is that of another thread. */
        failures_add(&lane->load->failures, start_ns, lane->class, op->kind, NULL, code);
        records_add(&lane->records, start_ns, cli_now_ns(), op->kind, LOAD_ERROR);
        free(op);
        atomic_fetch_sub(&lane->outstanding, 1);
        if (closed != NULL) {
            atomic_fetch_sub(&closed->live, 1);
        }
    }
}

/* ---- The closed loop ---- */

static bool by_chance(_Atomic uint64_t *counter, uint64_t percent)
{
    uint64_t state = (atomic_fetch_add(counter, 1) + 1) * UINT64_C(0x9e3779b97f4a7c15);

    return load_draw(&state) >> 32 < percent * (UINT64_C(1) << 32) / 100;
}

static void closed_next(struct closed_loop *closed)
{
    struct load *load = closed->load;
    uint64_t now_ns = cli_now_ns();

    if (now_ns >= closed->end_ns) {
        atomic_fetch_sub(&closed->live, 1);
        return;
    }
    op_begin(&load->lanes[by_chance(&closed->dice, load->options.moving_percent) ? LOAD_MOVING
                                                                                 : LOAD_OTHERS],
             now_ns, by_chance(&closed->dice, load->options.read_percent), closed);
}

static void wait_for_quiet(const struct load *load)
{
    while (load->lanes[0].outstanding + load->lanes[1].outstanding > 0) {
        load_sleep_until(cli_now_ns() + 1000000);
    }
}

double traffic_peak(struct load *load, double seconds)
{
    uint64_t start_ns = cli_now_ns();
    struct closed_loop closed = {.load = load, .end_ns = start_ns + (uint64_t)(seconds * 1e9)};

    closed.live = load->options.clients;
    for (uint64_t i = 0; i < load->options.clients; i++) {
        closed_next(&closed);
    }
    while (closed.live > 0) {
        load_sleep_until(cli_now_ns() + 1000000);
    }
    wait_for_quiet(load); /* the last callbacks may still hold `closed` */
    load->peak_ops = (double)closed.ops * 1e9 / (double)(cli_now_ns() - start_ns);
    return load->peak_ops;
}

/* ---- The open loop ---- */

#define PACE_TICK_NS UINT64_C(500000)

/* When the lane's operation of that number is due. */
static uint64_t due_ns(const struct lane *lane, uint64_t number)
{
    uint64_t after_ns = (uint64_t)((double)number * lane->interval_ns);

    return lane->load->load_start_ns + (after_ns + PACE_TICK_NS - 1) / PACE_TICK_NS * PACE_TICK_NS;
}

static void *pace(void *context)
{
    struct load *load = context;
    uint64_t next[2] = {0, 0}, reads[2] = {0, 0};

    while (!atomic_load(&load->stopping)) {
        uint64_t due[2], now_ns;
        size_t which;

        for (size_t i = 0; i < 2; i++) {
            due[i] = due_ns(&load->lanes[i], next[i]);
        }
        which = due[0] <= due[1] ? 0 : 1;
        now_ns = cli_now_ns();
        if (due[which] > now_ns) {
            load_sleep_until(due[which]);
            now_ns = cli_now_ns();
        }
        if (now_ns - due[which] > atomic_load(&load->pacer_late_ns)) {
            atomic_store(&load->pacer_late_ns, now_ns - due[which]);
        }
        /* Reads and writes alternate in their ratio, so that each kind arrives steadily too. */
        next[which]++;
        reads[which] += load->options.read_percent;
        op_begin(&load->lanes[which], due[which], reads[which] >= 100, NULL);
        reads[which] -= reads[which] >= 100 ? 100 : 0;
    }
    return NULL;
}

void traffic_start(struct load *load, double rate)
{
    double moving = rate * (double)load->options.moving_percent / 100;

    /* An arrival every millisecond on the big shard, if that leaves the others a quarter. */
    moving = moving > 1000 ? moving : rate * 0.75 < 1000 ? rate * 0.75 : 1000;
    load->rate = rate;
    load->lanes[LOAD_MOVING].interval_ns = 1e9 / moving;
    load->lanes[LOAD_OTHERS].interval_ns = 1e9 / (rate - moving);
    load->load_start_ns = cli_now_ns();
    load->load_end_ns = 0;
    atomic_store(&load->stopping, false);
    if (pthread_create(&load->pacer, NULL, pace, load) != 0) {
        load_die("no thread for the load");
    }
    load->pacing = true;
}

void traffic_stop(struct load *load)
{
    if (!load->pacing) {
        return;
    }
    atomic_store(&load->stopping, true);
    pthread_join(load->pacer, NULL);
    load->pacing = false;
    load->load_end_ns = cli_now_ns();
    wait_for_quiet(load);
}

/* ---- Reading everything back ---- */

#define CHECK_WINDOW  256
#define CHECK_RETRIES 10

struct check {
    struct lane *lane;
    _Atomic uint32_t next;
    _Atomic uint64_t live, read, missing, wrong, unread;
};

struct check_op {
    struct check *check;
    uint32_t key, tries;
};

static void check_end(void *context, struct shardkv_result *result);

static void check_submit(struct check_op *op)
{
    char text[LOAD_MAX_KEY];
    struct lane *lane = op->check->lane;
    struct shardkv_bytes key = {text, keys_write_key(&lane->keys, op->key, text)};

    if (shardkv_get_async(lane->kv, key, 10000, check_end, op, NULL) != SHARDKV_OK) {
        load_die("the library takes no more reads");
    }
}

static void check_next(struct check_op *op)
{
    struct check *check = op->check;

    op->key = atomic_fetch_add(&check->next, 1);
    op->tries = 0;
    if (op->key < check->lane->keys.n_keys) {
        check_submit(op);
    } else {
        free(op);
        atomic_fetch_sub(&check->live, 1);
    }
}

static void check_end(void *context, struct shardkv_result *result)
{
    struct check_op *op = context;
    struct check *check = op->check;
    struct key_table *keys = &check->lane->keys;
    uint32_t generation = 0;

    if (result->code != SHARDKV_OK && result->code != SHARDKV_NOT_FOUND &&
        op->tries++ < CHECK_RETRIES) {
        shardkv_result_free(result);
        check_submit(op);
        return;
    }
    if (result->code == SHARDKV_OK) {
        bool right = keys_read_value(keys, op->key, result->value, &generation) &&
                     keys_may_hold(keys, op->key, generation);

        atomic_fetch_add(&check->read, 1);
        if (!right && atomic_fetch_add(&check->wrong, 1) < 5) {
            fprintf(stderr,
                    "move_load: %s key %u holds generation %u, acknowledged %u, unknown %u to %u\n",
                    check->lane->class == LOAD_MOVING ? "moving" : "other", (unsigned)op->key,
                    (unsigned)generation, (unsigned)keys->states[op->key].acked,
                    (unsigned)keys->states[op->key].first_unknown,
                    (unsigned)keys->states[op->key].last_unknown);
        }
    } else {
        atomic_fetch_add(result->code == SHARDKV_NOT_FOUND ? &check->missing : &check->unread, 1);
    }
    shardkv_result_free(result);
    check_next(op);
}

void traffic_check(struct load *load)
{
    load->keys_read = load->keys_missing = load->keys_wrong = load->keys_unread = 0;
    for (size_t i = 0; i < 2; i++) {
        struct check check = {.lane = &load->lanes[i]};

        check.live = CHECK_WINDOW;
        for (size_t n = 0; n < CHECK_WINDOW; n++) {
            struct check_op *op = load_allocate(1, sizeof(*op));

            op->check = &check;
            check_next(op);
        }
        while (check.live > 0) {
            load_sleep_until(cli_now_ns() + 1000000);
        }
        load->keys_read += check.read;
        load->keys_missing += check.missing;
        load->keys_wrong += check.wrong;
        load->keys_unread += check.unread;
    }
    load->checked = true;
}
