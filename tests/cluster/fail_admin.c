/* The cluster as a whole: shards that move and groups that come and go all the time; whether all is
 * well again; reading everything; filling. */
#include <stdlib.h>
#include <string.h>

#include "tests/cluster/fail_load.h"

#define SURVEY_MS      800
#define LOOK_US        20000
#define FROZEN_MS      8000 /* a look never takes so long by itself */
#define CHANGE_MS      1500
#define FINAL_READ_MS  10000
#define MAX_GROUPS     8
#define FILL_KEYS      16 /* in one transaction */
#define FILL_WINDOW    48 /* transactions outstanding */
#define FILL_MAX_BYTES 4096

/* ---- Churn ---- */

struct churn_group {
    uint32_t gid;
    char spec[1024];
};

static uint32_t parse_groups(const char *text, struct churn_group groups[MAX_GROUPS])
{
    uint32_t n = 0;
    int used = 0;

    while (n < MAX_GROUPS &&
           sscanf(text, "%u %1023[^;]%n", &groups[n].gid, groups[n].spec, &used) == 2) {
        text += used;
        text += *text == ';';
        n++;
    }
    return n;
}

static bool is_member(const struct shardkv_config *config, uint32_t gid)
{
    for (size_t i = 0; i < config->n_groups; i++) {
        if (config->groups[i].gid == gid) {
            return config->groups[i].member;
        }
    }
    return false;
}

static void move_one(struct shardkv *kv, const struct shardkv_config *config, uint64_t *random)
{
    uint32_t members[MAX_GROUPS], n = 0;
    struct shardkv_result *result = NULL;

    for (size_t i = 0; i < config->n_groups && n < MAX_GROUPS; i++) {
        if (config->groups[i].member) {
            members[n++] = config->groups[i].gid;
        }
    }
    if (n > 0) {
        shardkv_move(kv, (uint32_t)fail_draw(random, config->n_shards),
                     members[fail_draw(random, n)], CHANGE_MS, &result);
    }
    shardkv_result_free(result);
}

static int join_group(struct shardkv *kv, const struct churn_group *group, uint32_t timeout_ms)
{
    struct shardkv_join join = {group->gid, group->spec};
    struct shardkv_result *result = NULL;
    int code = shardkv_join(kv, &join, 1, timeout_ms, &result);

    shardkv_result_free(result);
    return code;
}

/* Mostly moves; now and then the last group leaves, or joins again. */
static void change_something(struct fail *fail, struct shardkv *kv, uint64_t *random)
{
    struct churn_group groups[MAX_GROUPS];
    uint32_t n = parse_groups(fail->options.groups, groups);
    struct shardkv_result *result = NULL;

    if (n == 0 || shardkv_config(kv, SHARDKV_CONFIG_LATEST, CHANGE_MS, &result) != SHARDKV_OK) {
        shardkv_result_free(result);
        return;
    }
    if (n > 1 && fail_draw(random, 8) == 0) {
        struct shardkv_result *left = NULL;

        if (is_member(result->config, groups[n - 1].gid)) {
            shardkv_leave(kv, &groups[n - 1].gid, 1, CHANGE_MS, &left);
        } else {
            join_group(kv, &groups[n - 1], CHANGE_MS);
        }
        shardkv_result_free(left);
    } else {
        move_one(kv, result->config, random);
    }
    atomic_fetch_add(&fail->n_changes, 1);
    shardkv_result_free(result);
}

static void *churn_run(void *context)
{
    struct fail *fail = context;
    struct shardkv *kv = fail_open(fail, NULL);
    uint64_t random = fail->options.seed * UINT64_C(0x9E3779B97F4A7C15) + fail->record.round;

    random |= 1;

    while (!atomic_load(&fail->churn_stopping)) {
        change_something(fail, kv, &random);
        fail_sleep_us(100000 + fail_draw(&random, 500000));
    }
    shardkv_close(&kv);
    return NULL;
}

void churn_start(struct fail *fail)
{
    churn_stop(fail);
    atomic_store(&fail->churn_stopping, false);
    if (pthread_create(&fail->churn_thread, NULL, churn_run, fail) != 0) {
        fail_die("no thread");
    }
    fail->churn_running = true;
}

void churn_stop(struct fail *fail)
{
    if (fail->churn_running) {
        atomic_store(&fail->churn_stopping, true);
        pthread_join(fail->churn_thread, NULL);
        fail->churn_running = false;
    }
}

/* ---- Is all well? ---- */

#define MAX_GID 64

struct wait_state {
    uint64_t deadline_ms;
    uint64_t target[MAX_GID]; /* what each group had committed when it was first seen; 0: not yet */
    char *text;
    size_t size;
};

/* All groups are members again. */
static bool groups_are_back(struct fail *fail, struct wait_state *state)
{
    struct churn_group groups[MAX_GROUPS];
    uint32_t n = parse_groups(fail->options.groups, groups);

    for (uint32_t i = 0; i < n; i++) {
        int code = SHARDKV_UNAVAILABLE;

        while (code != SHARDKV_OK && code != SHARDKV_EXISTS) {
            if (cli_now_ms() >= state->deadline_ms) {
                snprintf(state->text, state->size, "group %u can't join: %s", groups[i].gid,
                         shardkv_strerror(code));
                return false;
            }
            code = join_group(fail->cli.kv, &groups[i], 2000);
        }
    }
    return true;
}

static bool replica_is_well(struct wait_state *state, const struct survey *survey,
                            const struct survey_row *row)
{
    const struct shardkv_node *node = row->result == NULL ? NULL : row->result->node;
    const struct shardkv_node *leader = survey_leader(survey, row->gid);

    if (node == NULL || !node->ready) {
        snprintf(state->text, state->size, "group %u replica %u (%s) is %s", row->gid, row->id,
                 row->url, node == NULL ? "down" : "not ready");
        return false;
    }
    if (leader == NULL) {
        snprintf(state->text, state->size, "group %u has no leader", row->gid);
        return false;
    }
    if (row->gid < MAX_GID && state->target[row->gid] == 0) {
        state->target[row->gid] = leader->commit_index;
    }
    if (row->gid < MAX_GID && node->applied_index < state->target[row->gid]) {
        snprintf(state->text, state->size, "group %u replica %u has applied %llu of %llu", row->gid,
                 row->id, (unsigned long long)node->applied_index,
                 (unsigned long long)state->target[row->gid]);
        return false;
    }
    return true;
}

static bool is_well(struct fail *fail, struct wait_state *state, const struct survey *survey)
{
    struct survey_left left;
    bool well = true;

    if (survey->config == NULL) {
        snprintf(state->text, state->size, "the controllers don't answer");
        return false;
    }
    if (survey->n_rows < fail->options.n_nodes) {
        snprintf(state->text, state->size, "only %zu replicas are known", survey->n_rows);
        return false;
    }
    for (size_t i = 0; i < survey->n_rows; i++) { /* all: each may set its group's target */
        well = replica_is_well(state, survey, &survey->rows[i]) && well;
    }
    if (!well) {
        return false;
    }
    if (!survey_all_lead(survey) || !survey_all_settled(survey, &left)) {
        snprintf(state->text, state->size, "shards still move, or have no owner that serves");
        return false;
    }
    if (fail->working && fail_record_unserved(&fail->record) > 0) {
        snprintf(state->text, state->size, "%u slots were not served",
                 fail_record_unserved(&fail->record));
        return false;
    }
    return true;
}

bool fail_await(struct fail *fail, uint32_t bound_ms, char *text, size_t size)
{
    struct wait_state state = {.deadline_ms = cli_now_ms() + bound_ms, .text = text, .size = size};

    if (!groups_are_back(fail, &state)) {
        return false;
    }
    for (;;) {
        struct survey survey;
        uint64_t began_ms = cli_now_ms(), took_ms;
        bool well;

        survey_make(&fail->cli, SURVEY_MS, &survey);
        well = is_well(fail, &state, &survey);
        survey_fini(&survey);
        if (well) {
            return true;
        }
        took_ms = cli_now_ms() - began_ms;
        if (took_ms > FROZEN_MS) {
            state.deadline_ms += took_ms; /* not the cluster, this machine stood still */
        }
        if (cli_now_ms() >= state.deadline_ms) {
            return false;
        }
        fail_sleep_us(LOOK_US);
    }
}

uint32_t fail_leader(struct fail *fail, uint32_t gid)
{
    const struct shardkv_node *leader;
    struct survey survey;
    uint32_t id;

    survey_make(&fail->cli, SURVEY_MS, &survey);
    leader = survey_leader(&survey, gid);
    id = leader == NULL ? 0 : leader->id;
    survey_fini(&survey);
    return id;
}

/* ---- Reading everything ---- */

/* kind: 'r' for a register, 't' for tokens. */
static bool read_key(struct fail *fail, uint32_t slot, char kind, uint32_t number)
{
    struct fail_record *record = &fail->record;
    struct fail_op op = {.type = FAIL_GET, .slot = slot};
    struct shardkv_result *result = NULL;
    bool answered;
    int code;

    snprintf(op.key, sizeof(op.key), "{s%u}%c%u.%u", slot, kind, record->round, number);
    op.start_us = fail_stamp(record);
    code = shardkv_get(fail->cli.kv, shardkv_text(op.key), FINAL_READ_MS, &result);
    op.end_us = fail_stamp(record);
    fail_op_end(&op, code, result);
    answered = op.outcome == FAIL_OK || op.outcome == FAIL_NOT_FOUND;
    if (!answered) {
        fprintf(stderr, "fail_load: %s can't be read: %s\n", op.key, result->message);
    }
    if (kind == 't') { /* a key of tokens: not an operation on a register */
        pthread_mutex_lock(&record->mutex);
        fprintf(record->file, "tokens\t%s\t0\t%s\t%llu\t%llu\t-\t-\t%s\t0\t0\n", op.key,
                answered ? "ok" : "refused", (unsigned long long)op.start_us,
                (unsigned long long)op.end_us,
                op.value == NULL || op.value[0] == '\0' ? "-" : op.value);
        pthread_mutex_unlock(&record->mutex);
        free(op.value);
    } else {
        fail_record_add(record, &op, false);
    }
    shardkv_result_free(result);
    return answered;
}

bool fail_read_all(struct fail *fail)
{
    bool all = true;

    for (uint32_t slot = 0; slot < fail->options.n_slots && all; slot++) {
        const struct fail_slot state = fail->record.slots[slot]; /* nobody works any more */

        for (uint32_t i = 0; i <= state.generation && all; i++) {
            all = read_key(fail, slot, 'r', i);
        }
        for (uint32_t i = 0; i < state.n_token_keys && all; i++) {
            all = read_key(fail, slot, 't', i);
        }
    }
    return all;
}

static void delete_key(struct fail *fail, uint32_t slot, char kind, uint32_t number)
{
    char key[FAIL_MAX_KEY];

    snprintf(key, sizeof(key), "{s%u}%c%u.%u", slot, kind, fail->record.round, number);
    shardkv_delete(fail->cli.kv, shardkv_text(key), FINAL_READ_MS, NULL);
}

void fail_forget(struct fail *fail)
{
    for (uint32_t slot = 0; slot < fail->options.n_slots; slot++) {
        const struct fail_slot state = fail->record.slots[slot];

        for (uint32_t i = 0; i <= state.generation; i++) {
            delete_key(fail, slot, 'r', i);
        }
        for (uint32_t i = 0; i < state.n_token_keys; i++) {
            delete_key(fail, slot, 't', i);
        }
    }
}

/* ---- Filling ---- */

struct filling {
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    uint32_t outstanding, failures;
};

static void on_filled(void *context, struct shardkv_result *result)
{
    struct filling *filling = context;

    pthread_mutex_lock(&filling->mutex);
    filling->outstanding--;
    if (result->code != SHARDKV_OK && filling->failures++ == 0) {
        fprintf(stderr, "fail_load: fill: %s\n", result->message);
    }
    pthread_cond_signal(&filling->changed);
    pthread_mutex_unlock(&filling->mutex);
    shardkv_result_free(result);
}

/* Keys first, first + 1, ... of one tag, in one transaction. */
static void fill_some(struct fail *fail, struct filling *filling, uint32_t first, uint32_t n,
                      struct shardkv_bytes value)
{
    struct shardkv_operation operations[FILL_KEYS];
    char keys[FILL_KEYS][FAIL_MAX_KEY];

    for (uint32_t i = 0; i < n; i++) {
        snprintf(keys[i], FAIL_MAX_KEY, "{f%u}%u", first / FILL_KEYS, first + i);
        operations[i] = (struct shardkv_operation){SHARDKV_PUT, shardkv_text(keys[i]), value};
    }
    pthread_mutex_lock(&filling->mutex);
    while (filling->outstanding >= FILL_WINDOW) {
        pthread_cond_wait(&filling->changed, &filling->mutex);
    }
    filling->outstanding++;
    pthread_mutex_unlock(&filling->mutex);
    if (shardkv_write_async(fail->cli.kv, NULL, 0, operations, n, 60000, on_filled, filling,
                            NULL) != SHARDKV_OK) {
        fail_die("fill: can't begin");
    }
}

bool fail_fill(struct fail *fail, uint32_t n, uint32_t bytes)
{
    struct filling filling = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, 0, 0};
    char value[FILL_MAX_BYTES];

    bytes = bytes > sizeof(value) ? sizeof(value) : bytes;
    memset(value, 'x', sizeof(value));
    for (uint32_t first = 0; first < n; first += FILL_KEYS) {
        fill_some(fail, &filling, first, n - first < FILL_KEYS ? n - first : FILL_KEYS,
                  (struct shardkv_bytes){value, bytes});
    }
    pthread_mutex_lock(&filling.mutex);
    while (filling.outstanding > 0) {
        pthread_cond_wait(&filling.changed, &filling.mutex);
    }
    pthread_mutex_unlock(&filling.mutex);
    return filling.failures == 0;
}
