/* Who works on the cluster: sessions that mix all operations on their slot's key, others that
 * append tokens, each once; readers that prefer one replica, which may be cut off from its group,
 * and writers that prefer another one: what the first tells must not be old. Some go through the
 * library, some through shardkv-cli. */
#include <stdlib.h>
#include <string.h>

#include "tests/cluster/fail_load.h"

#define TOKENS_PER_KEY    128
#define PREFER_TIMEOUT_MS 700
#define PREFER_THINK_MS   10
#define AFTER_FAILURE_US  20000 /* nobody spins when everything is refused at once */

static struct shardkv_bytes text_or_nothing(const char *text)
{
    return shardkv_text(text == NULL ? "" : text);
}

static void run_by_library(struct fail_session *session, struct fail_op *op, uint32_t timeout_ms)
{
    struct shardkv_bytes key = shardkv_text(op->key), arg = shardkv_text(op->arg);
    struct shardkv_bytes expect = text_or_nothing(op->expect);
    struct shardkv_result *result = NULL;
    int code = SHARDKV_INVALID;

    switch (op->type) {
    case FAIL_GET:
        code = shardkv_get(session->kv, key, timeout_ms, &result);
        break;
    case FAIL_PUT:
        code = shardkv_put(session->kv, key, arg, timeout_ms, &result);
        break;
    case FAIL_APPEND:
    case FAIL_TOKEN:
        code = shardkv_append(session->kv, key, arg, timeout_ms, &result);
        break;
    case FAIL_DELETE:
        code = shardkv_delete(session->kv, key, timeout_ms, &result);
        break;
    case FAIL_CAS:
        code = shardkv_cas(session->kv, key, op->expect == NULL ? NULL : &expect, arg, timeout_ms,
                           &result);
        break;
    default:
        break;
    }
    op->end_us = fail_stamp(&session->fail->record);
    fail_op_end(op, code, result);
    shardkv_result_free(result);
}

static void run_operation(struct fail_session *session, struct fail_op *op)
{
    struct fail *fail = session->fail;

    op->client = session->number;
    op->slot = session->slot;
    op->start_us = fail_stamp(&fail->record);
    if (session->through_pipe) {
        fail_pipe_run(session->pipe, op);
        op->end_us = fail_stamp(&fail->record);
    } else {
        run_by_library(session, op,
                       session->kind == FAIL_READER ? PREFER_TIMEOUT_MS : fail->options.timeout_ms);
    }
}

/* ---- What each kind does ---- */

static void remember(struct fail_session *session, const struct fail_op *op)
{
    if (op->type == FAIL_GET && op->outcome == FAIL_OK) {
        free(session->seen);
        session->seen = strdup(op->value);
        strcpy(session->seen_key, op->key);
    } else if (op->outcome == FAIL_OK && (op->type == FAIL_PUT || op->type == FAIL_CAS)) {
        free(session->seen);
        session->seen = strdup(op->arg);
        strcpy(session->seen_key, op->key);
    }
}

static void mixed_step(struct fail_session *session)
{
    static const enum fail_type mix[20] = {
        FAIL_GET,    FAIL_GET,    FAIL_GET, FAIL_GET, FAIL_GET,    FAIL_GET,    FAIL_GET,
        FAIL_PUT,    FAIL_PUT,    FAIL_PUT, FAIL_PUT, FAIL_APPEND, FAIL_APPEND, FAIL_APPEND,
        FAIL_APPEND, FAIL_DELETE, FAIL_CAS, FAIL_CAS, FAIL_CAS,    FAIL_CAS};
    struct fail_op op = {.type = mix[fail_draw(&session->random, 20)]};

    fail_record_key(&session->fail->record, session->slot, op.key);
    if (op.type != FAIL_GET && op.type != FAIL_DELETE) {
        snprintf(op.arg, sizeof(op.arg), "%u.%u;", session->number, ++session->counter);
    }
    if (op.type == FAIL_CAS && session->seen != NULL && strcmp(session->seen_key, op.key) == 0) {
        op.expect = strdup(session->seen);
    }
    run_operation(session, &op);
    remember(session, &op);
    if (op.outcome != FAIL_OK && op.outcome != FAIL_NOT_FOUND && op.outcome != FAIL_MISMATCH) {
        fail_sleep_us(AFTER_FAILURE_US);
    }
    fail_record_add(&session->fail->record, &op, session->kind == FAIL_MIXED);
}

static void token_key(struct fail_session *session, uint32_t number, char key[FAIL_MAX_KEY])
{
    struct fail_record *record = &session->fail->record;
    uint32_t chunk = number / TOKENS_PER_KEY;

    pthread_mutex_lock(&record->mutex);
    if (chunk >= record->slots[session->slot].n_token_keys) {
        record->slots[session->slot].n_token_keys = chunk + 1;
    }
    snprintf(key, FAIL_MAX_KEY, "{s%u}t%u.%u", session->slot, record->round, chunk);
    pthread_mutex_unlock(&record->mutex);
}

static void token_step(struct fail_session *session)
{
    struct fail_op op = {.type = FAIL_TOKEN};

    token_key(session, session->counter, op.key);
    snprintf(op.arg, sizeof(op.arg), "%u.%u;", session->number, session->counter++);
    run_operation(session, &op);
    if (op.outcome != FAIL_OK) {
        fail_sleep_us(AFTER_FAILURE_US);
    }
    fail_record_add(&session->fail->record, &op, true);
}

/* Opens anew when another replica is preferred. */
static void follow_preference(struct fail_session *session)
{
    struct fail *fail = session->fail;
    char prefer[FAIL_MAX_URL];
    uint32_t version;

    pthread_mutex_lock(&fail->mutex);
    strcpy(prefer, session->kind == FAIL_READER ? fail->read_first : fail->write_first);
    version = fail->prefer_version;
    pthread_mutex_unlock(&fail->mutex);
    if (version == session->prefer_version) {
        return;
    }
    session->prefer_version = version;
    if (session->through_pipe) {
        fail_pipe_close(&session->pipe);
        session->pipe = fail_pipe_open(fail, prefer);
    } else {
        shardkv_close(&session->kv);
        session->kv = fail_open(fail, prefer[0] == '\0' ? NULL : prefer);
    }
}

static void choose_slot(struct fail_session *session)
{
    follow_preference(session);
    session->slot = (uint32_t)fail_draw(&session->random, session->fail->options.n_slots);
}

static void reader_step(struct fail_session *session)
{
    struct fail_op op = {.type = FAIL_GET};

    choose_slot(session);
    fail_record_key(&session->fail->record, session->slot, op.key);
    run_operation(session, &op);
    fail_record_add(&session->fail->record, &op, false);
}

/* ---- Threads ---- */

/* False: it is time to end. */
static bool begin_step(struct fail *fail)
{
    bool go;

    pthread_mutex_lock(&fail->mutex);
    while (!fail->working && !fail->quitting) {
        pthread_cond_wait(&fail->changed, &fail->mutex);
    }
    go = !fail->quitting;
    fail->n_working += go;
    pthread_mutex_unlock(&fail->mutex);
    return go;
}

static void end_step(struct fail *fail)
{
    pthread_mutex_lock(&fail->mutex);
    fail->n_working--;
    pthread_cond_broadcast(&fail->changed);
    pthread_mutex_unlock(&fail->mutex);
}

static void *session_run(void *context)
{
    struct fail_session *session = context;
    uint32_t round = 0;

    while (begin_step(session->fail)) {
        uint64_t think_us = session->fail->options.think_ms * 2000;

        if (session->kind == FAIL_TOKENS && round != session->fail->record.round) {
            round = session->fail->record.round; /* written only while nobody works */
            session->counter = 0;
        }
        switch (session->kind) {
        case FAIL_MIXED:
            mixed_step(session);
            break;
        case FAIL_TOKENS:
            token_step(session);
            break;
        case FAIL_READER:
            reader_step(session);
            think_us = PREFER_THINK_MS * 2000;
            break;
        case FAIL_WRITER:
            choose_slot(session);
            mixed_step(session);
            think_us = PREFER_THINK_MS * 2000;
            break;
        }
        end_step(session->fail);
        fail_sleep_us(fail_draw(&session->random, think_us + 1));
    }
    return NULL;
}

static void add_session(struct fail *fail, enum fail_kind kind, uint32_t slot, bool through_pipe)
{
    struct fail_session *session = &fail->sessions[fail->n_sessions++];

    session->fail = fail;
    session->kind = kind;
    session->number = fail->n_sessions; /* 0 reads everything at the end */
    session->slot = slot % fail->options.n_slots;
    session->random = (fail->options.seed + session->number) * UINT64_C(0x9E3779B97F4A7C15) | 1;
    session->through_pipe = through_pipe;
    if (through_pipe) {
        session->pipe = fail_pipe_open(fail, "");
    } else {
        session->kv = fail_open(fail, NULL);
    }
}

void sessions_start(struct fail *fail)
{
    const struct fail_options *options = &fail->options;
    uint32_t n = options->n_slots * options->sessions + options->pipes + options->tokens + 4;

    fail->sessions = fail_allocate(n, sizeof(*fail->sessions));
    for (uint32_t i = 0; i < options->n_slots * options->sessions; i++) {
        add_session(fail, FAIL_MIXED, i, false);
    }
    for (uint32_t i = 0; i < options->pipes; i++) {
        add_session(fail, i % 2 == 0 ? FAIL_MIXED : FAIL_TOKENS, i, true);
    }
    for (uint32_t i = 0; i < options->tokens; i++) {
        add_session(fail, FAIL_TOKENS, i, false);
    }
    add_session(fail, FAIL_READER, 0, false);
    add_session(fail, FAIL_READER, 0, true);
    add_session(fail, FAIL_WRITER, 0, false);
    add_session(fail, FAIL_WRITER, 0, false);
    for (uint32_t i = 0; i < fail->n_sessions; i++) {
        struct fail_session *session = &fail->sessions[i];

        if (pthread_create(&session->thread, NULL, session_run, session) != 0) {
            fail_die("no thread");
        }
    }
}

void sessions_work(struct fail *fail, bool work)
{
    pthread_mutex_lock(&fail->mutex);
    fail->working = work;
    pthread_cond_broadcast(&fail->changed);
    while (!work && fail->n_working > 0) {
        pthread_cond_wait(&fail->changed, &fail->mutex);
    }
    pthread_mutex_unlock(&fail->mutex);
}

void sessions_end(struct fail *fail)
{
    sessions_work(fail, false);
    pthread_mutex_lock(&fail->mutex);
    fail->quitting = true;
    pthread_cond_broadcast(&fail->changed);
    pthread_mutex_unlock(&fail->mutex);
    for (uint32_t i = 0; i < fail->n_sessions; i++) {
        struct fail_session *session = &fail->sessions[i];

        pthread_join(session->thread, NULL);
        free(session->seen);
        if (session->through_pipe) {
            fail_pipe_close(&session->pipe);
        } else {
            shardkv_close(&session->kv);
        }
    }
    free(fail->sessions);
    fail->sessions = NULL;
    fail->n_sessions = 0;
}
