/* The handle: its thread, which runs the network's loop and everything below it (or lets nng's
 * threads do so, one at a time, when they bring what it waits for), and the way requests get there.
 */
#include <signal.h>
#include <stdio.h>
#include <sys/random.h>

#include "client/kv_internal.h"
#include "raft/util/assert.h"
#include "raft/util/mem.h"

/* This thread runs a callback of some handle. Waiting there for another handle would be no better
 * than for the own one: that one's callback may be waiting for this one, and both may have only one
 * thread. */
static _Thread_local bool in_callback;

/* ---- On the loop thread ---- */

static void cancel_by_id(struct shardkv *handle, uint64_t id, uint64_t now_ms)
{
    struct kv_request *request;

    TAILQ_FOREACH (request, &handle->started, link) {
        if (request->id == id) {
            kv_request_cancel(request, now_ms);
            return;
        }
    }
}

static void take_request(struct kv_request *request, uint64_t now_ms)
{
    struct shardkv *handle = request->handle;

    if (request->kind == KV_REQUEST_CANCEL) {
        cancel_by_id(handle, request->target, now_ms);
        kv_request_destroy(request);
    } else if (handle->ending) {
        kv_request_answer(request, kv_result_create(ST_CANCELLED, ""));
        kv_request_destroy(request);
    } else {
        kv_request_start(request, now_ms);
    }
}

static void take_all(struct shardkv *handle, bool *told)
{
    struct kv_request_list taken = TAILQ_HEAD_INITIALIZER(taken);
    struct kv_request *request;
    uint64_t now_ms = net_now_ms();
    uint32_t n = 0;

    pthread_mutex_lock(&handle->mutex);
    TAILQ_CONCAT(&taken, &handle->pending, link);
    TAILQ_FOREACH (request, &taken, link) {
        n++;
    }
    *told = false;
    kv_gather_looked(&handle->gather, n, now_ms);
    pthread_mutex_unlock(&handle->mutex);
    while ((request = TAILQ_FIRST(&taken)) != NULL) {
        TAILQ_REMOVE(&taken, request, link);
        take_request(request, now_ms);
    }
}

/* When the loop was told of a request, or it is time to look. */
static void take_pending(void *arg)
{
    struct shardkv *handle = arg;

    take_all(handle, &handle->posted);
}

/* What callbacks of this turn began leaves with it. */
static void on_turn_end(struct shardkv *handle)
{
    if (handle->answered) {
        handle->answered = false;
        handle->turn_is_over = true;
        take_all(handle, &handle->answering);
        handle->turn_is_over = false;
    }
}

static void on_down(struct shardkv *handle, io_endpoint endpoint, uint64_t now_ms)
{
    const char *url = kv_link_url(handle, endpoint);

    if (kv_link_down(handle, endpoint)) {
        clerk_on_down(handle->clerk, now_ms, url);
    } else {
        clerk_on_unreachable(handle->clerk, now_ms, url);
    }
}

static void on_event(void *context, const struct io_event *event)
{
    struct shardkv *handle = context;

    if (handle->clerk == NULL) {
        return;
    }
    if (event->type == IO_EVENT_ENDPOINT_MESSAGE) {
        handle->refusal[0] = '\0';
    }
    if (event->type == IO_EVENT_TICK) {
        if (handle->gather.look_ms <= event->now_ms) {
            take_pending(handle);
        }
        clerk_tick(handle->clerk, event->now_ms);
    } else if (event->type == IO_EVENT_ENDPOINT_MESSAGE) {
        if (!kv_link_message(handle, event->endpoint.endpoint, event->endpoint.message)) {
            clerk_on_message(handle->clerk, event->now_ms, event->endpoint.message);
        }
    } else if (event->type == IO_EVENT_ENDPOINT_DOWN) {
        on_down(handle, event->endpoint.endpoint, event->now_ms);
    } else if (event->type == IO_EVENT_TURN_END) {
        on_turn_end(handle);
    }
}

static uint64_t next_deadline_ms(void *context)
{
    struct shardkv *handle = context;
    uint64_t clerk_ms = handle->clerk != NULL ? clerk_next_deadline_ms(handle->clerk) : UINT64_MAX;

    return clerk_ms < handle->gather.look_ms ? clerk_ms : handle->gather.look_ms;
}

/* The first server that knows its cluster says which one this handle speaks to; from then on it
 * states that, so that servers of another one refuse it, and refuses them. Behind an address there
 * may be another cluster some day. */
static enum status on_admit(void *context, const struct hello *self, const struct hello *other,
                            const char **reason)
{
    static const uint8_t unknown[sizeof(self->cluster_id)];
    struct shardkv *handle = context;
    enum status status = hello_check(self, other, 0, reason);

    if (status == ST_WRONG_CLUSTER) {
        *reason = "it belongs to another cluster than this client spoke to before";
    }
    if (status == ST_OK && memcmp(self->cluster_id, unknown, sizeof(unknown)) == 0) {
        struct hello stated = *self;

        memcpy(stated.cluster_id, other->cluster_id, sizeof(stated.cluster_id));
        net_set_hello(handle->net, &stated);
    }
    return status;
}

static void on_refused(void *context, const char *url, const char *reason)
{
    struct shardkv *handle = context;

    snprintf(handle->refusal, sizeof(handle->refusal), "%s: %s", url, reason);
}

static void emit_trace(void *context, enum trace_level level, const char *line)
{
    struct shardkv *handle = context;

    handle->trace_line(handle->trace_context, (int)level, line);
}

static void end_all(void *arg)
{
    struct shardkv *handle = arg;

    handle->ending = true;
    take_pending(handle);
    ctrler_clerk_destroy(&handle->admin);
    clerk_destroy(&handle->clerk);
    ASSERT(TAILQ_EMPTY(&handle->started));
    net_stop(handle->net);
}

static void *run_loop(void *arg)
{
    struct shardkv *handle = arg;

    net_run(handle->net);
    return NULL;
}

void kv_request_answer(struct kv_request *request, struct shardkv_result *result)
{
    struct shardkv *handle = request->handle;
    shardkv_callback callback = request->callback;

    ASSERT(callback != NULL);
    request->callback = NULL;
    pthread_mutex_lock(&handle->mutex);
    ASSERT(handle->n_outstanding > 0 && handle->n_bytes >= request->size);
    handle->n_outstanding--;
    handle->n_bytes -= request->size;
    if (!handle->turn_is_over) {
        handle->answered = true;
        handle->answering = true;
        handle->answerer = pthread_self();
    }
    pthread_mutex_unlock(&handle->mutex);
    ASSERT(!in_callback); /* shardkv_cancel hands over too */
    in_callback = true;
    callback(request->context, result);
    in_callback = false;
}

/* ---- On any thread ---- */

static enum status admit(struct shardkv *handle, const struct kv_request *request)
{
    if (handle->closing) {
        return ST_SHUTDOWN;
    }
    if (request->kind != KV_REQUEST_CANCEL &&
        (handle->n_outstanding >= handle->max_outstanding ||
         (handle->n_outstanding > 0 &&
          handle->n_bytes + request->size > KV_MAX_OUTSTANDING_BYTES))) {
        return ST_BUSY;
    }
    return ST_OK;
}

/* Locked. Whether this is a callback, after which the turn's end looks at `pending`. */
static bool is_answering(const struct shardkv *handle)
{
    return handle->answering && pthread_equal(handle->answerer, pthread_self());
}

int kv_submit(struct kv_request *request, uint64_t *id)
{
    struct shardkv *handle = request->handle;
    enum status status;

    pthread_mutex_lock(&handle->mutex);
    status = admit(handle, request);
    if (status == ST_OK) {
        request->id = ++handle->next_id;
        if (id != NULL) {
            *id = request->id;
        }
        if (request->kind != KV_REQUEST_CANCEL) {
            handle->n_outstanding++;
            handle->n_bytes += request->size;
        }
        TAILQ_INSERT_TAIL(&handle->pending, request, link);
        /* Under the lock: once it is released, the handle may be closed and gone. */
        if (!handle->posted && !is_answering(handle) &&
            (request->kind == KV_REQUEST_CANCEL || kv_gather_is_urgent(&handle->gather))) {
            handle->posted = true;
            net_post(handle->net, take_pending, handle);
        }
    }
    pthread_mutex_unlock(&handle->mutex);
    if (status != ST_OK) {
        kv_request_destroy(request);
    }
    return (int)status;
}

int kv_submit_async(struct kv_request *request, int early, shardkv_callback callback, void *context,
                    uint64_t *id)
{
    if (request == NULL) {
        return early;
    }
    if (callback == NULL) {
        kv_request_destroy(request);
        return SHARDKV_INVALID;
    }
    request->callback = callback;
    request->context = context;
    return kv_submit(request, id);
}

struct waiter {
    pthread_mutex_t mutex;
    pthread_cond_t ended;
    struct shardkv_result *result;
};

static void wake_waiter(void *context, struct shardkv_result *result)
{
    struct waiter *waiter = context;

    pthread_mutex_lock(&waiter->mutex);
    waiter->result = result;
    pthread_cond_signal(&waiter->ended);
    pthread_mutex_unlock(&waiter->mutex);
}

static struct shardkv_result *submit_and_wait(struct kv_request *request)
{
    struct waiter waiter = {.result = NULL};
    int code;

    ASSERT(pthread_mutex_init(&waiter.mutex, NULL) == 0);
    ASSERT(pthread_cond_init(&waiter.ended, NULL) == 0);
    request->callback = wake_waiter;
    request->context = &waiter;
    code = kv_submit(request, NULL);
    if (code != SHARDKV_OK) {
        waiter.result = kv_result_create((enum status)code, "");
    }
    pthread_mutex_lock(&waiter.mutex);
    while (waiter.result == NULL) {
        pthread_cond_wait(&waiter.ended, &waiter.mutex);
    }
    pthread_mutex_unlock(&waiter.mutex);
    pthread_cond_destroy(&waiter.ended);
    pthread_mutex_destroy(&waiter.mutex);
    return waiter.result;
}

int kv_wait(struct shardkv *handle, struct kv_request *request, int early, const char *rule,
            struct shardkv_result **out)
{
    struct shardkv_result *result;
    int code;

    if (request == NULL) {
        result = kv_result_create((enum status)early, rule);
    } else if (in_callback || net_is_in_turn(handle->net)) {
        kv_request_destroy(request);
        result = kv_result_create(ST_INVALID, "a callback must not wait");
    } else {
        result = submit_and_wait(request);
    }
    code = result->code;
    if (out != NULL) {
        *out = result;
    } else {
        shardkv_result_free(result);
    }
    return code;
}

void shardkv_cancel(struct shardkv *handle, uint64_t id)
{
    struct kv_request *request = kv_request_create(handle, KV_REQUEST_CANCEL, 0, NULL, NULL);

    request->target = id;
    kv_submit(request, NULL);
}

/* ---- Opening and closing ---- */

void shardkv_options_init(struct shardkv_options *options, size_t size)
{
    struct shardkv_options defaults = {.size = size,
                                       .timeout_ms = 5000,
                                       .max_outstanding = 65536,
                                       .trace_level = SHARDKV_TRACE_WARN};

    memset(options, 0, size);
    memcpy(options, &defaults, size < sizeof(defaults) ? size : sizeof(defaults));
}

static int fail(char *error, size_t error_size, int code, const char *what, const char *why)
{
    if (error != NULL && error_size > 0) {
        snprintf(error, error_size, "%s%s%s", what, why[0] != '\0' ? ": " : "", why);
    }
    return code;
}

/* Options of an older program are shorter: what they lack keeps its default. */
static const char *check_options(const struct shardkv_options *given,
                                 struct shardkv_options *options, struct spec *ctrlers,
                                 const char **which)
{
    const char *wrong;

    *which = "options";
    shardkv_options_init(options, sizeof(*options));
    if (given->size < offsetof(struct shardkv_options, timeout_ms)) {
        return "the options were not initialised";
    }
    memcpy(options, given, given->size < sizeof(*options) ? given->size : sizeof(*options));
    if (options->ctrlers == NULL) {
        return "the controllers' URLs are missing";
    }
    wrong = spec_parse_urls(options->ctrlers, ctrlers);
    if (wrong != NULL) {
        *which = "ctrlers";
    } else if (options->prefer != NULL) {
        *which = "prefer";
        wrong = spec_check_url(options->prefer);
    }
    if (wrong == NULL && options->tls_ca == NULL &&
        strstr(options->ctrlers, "tls+tcp://") != NULL) {
        *which = "ctrlers";
        wrong =
            "tls+tcp:// needs the authority's certificate (tls_ca, --tls-ca) to know servers by";
    }
    if (wrong == NULL && (options->timeout_ms == 0 || options->max_outstanding == 0)) {
        *which = "options";
        wrong = "timeout_ms and max_outstanding must be above 0";
    }
    return wrong;
}

static void make_clerk(struct shardkv *handle, const struct shardkv_options *options)
{
    struct clerk_options clerk;
    uint8_t admin_id[16];

    clerk_options_default(&clerk);
    clerk.ctrlers = handle->ctrlers;
    ASSERT(getrandom(clerk.client_id, sizeof(clerk.client_id), 0) == sizeof(clerk.client_id));
    ASSERT(getrandom(&clerk.caller.seed, sizeof(clerk.caller.seed), 0) ==
           sizeof(clerk.caller.seed));
    ASSERT(getrandom(admin_id, sizeof(admin_id), 0) == sizeof(admin_id));
    if (options->prefer != NULL) {
        snprintf(clerk.prefer, sizeof(clerk.prefer), "%s", options->prefer);
    }
    clerk.caller.transport.context = handle;
    clerk.caller.transport.send = kv_link_send;
    clerk.caller.transport.withdraw = kv_link_withdraw;
    clerk.caller.trace = &handle->trace;
    handle->clerk = clerk_create(&clerk);
    handle->admin = ctrler_clerk_create(clerk_caller(handle->clerk), &handle->ctrlers, admin_id);
}

static enum status make_net(struct shardkv *handle, const struct shardkv_options *options,
                            char *error)
{
    struct net_options net;

    net_options_default(&net);
    net.tls_cert = options->tls_cert;
    net.tls_key = options->tls_key;
    net.tls_ca = options->tls_ca;
    net.turns_anywhere = true;
    net.sole_nng_user = options->sole_nng_user != 0;
    net.sink.context = handle;
    net.sink.event = on_event;
    net.sink.next_deadline_ms = next_deadline_ms;
    net.sink.admit = on_admit;
    net.sink.refused = on_refused;
    net.trace = &handle->trace;
    return net_create(&net, &handle->net, error);
}

/* The thread takes no signals: they are the program's. */
static int start_thread(struct shardkv *handle)
{
    sigset_t all, before;
    int failed;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    failed = pthread_create(&handle->thread, NULL, run_loop, handle);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return failed;
}

static struct shardkv *handle_create(const struct shardkv_options *options,
                                     const struct spec *ctrlers)
{
    struct shardkv *handle = mem_zalloc(sizeof(*handle));

    ASSERT(pthread_mutex_init(&handle->mutex, NULL) == 0);
    TAILQ_INIT(&handle->pending);
    TAILQ_INIT(&handle->started);
    kv_gather_init(&handle->gather);
    handle->ctrlers = *ctrlers;
    handle->timeout_ms = options->timeout_ms;
    handle->max_outstanding = options->max_outstanding;
    handle->trace_line = options->trace;
    handle->trace_context = options->trace_context;
    if (options->trace != NULL) {
        handle->trace.level = (enum trace_level)options->trace_level;
        handle->trace.context = handle;
        handle->trace.emit = emit_trace;
    }
    return handle;
}

static void handle_destroy(struct shardkv *handle)
{
    if (handle->admin != NULL) {
        ctrler_clerk_destroy(&handle->admin);
    }
    if (handle->clerk != NULL) {
        clerk_destroy(&handle->clerk);
    }
    net_destroy(&handle->net);
    pthread_mutex_destroy(&handle->mutex);
    kv_link_fini(handle);
    mem_free(handle);
}

int shardkv_open(const struct shardkv_options *given, struct shardkv **out, char *error,
                 size_t error_size)
{
    struct shardkv_options options;
    struct spec ctrlers;
    struct shardkv *handle;
    char why[256] = "";
    const char *which, *wrong = check_options(given, &options, &ctrlers, &which);
    enum status status;

    *out = NULL;
    if (wrong != NULL) {
        return fail(error, error_size, SHARDKV_INVALID, which, wrong);
    }
    handle = handle_create(&options, &ctrlers);
    status = make_net(handle, &options, why);
    if (status != ST_OK) {
        handle_destroy(handle);
        return fail(error, error_size, (int)status, "network", why);
    }
    make_clerk(handle, &options);
    if (start_thread(handle) != 0) {
        handle_destroy(handle);
        return fail(error, error_size, SHARDKV_IO, "a thread could not be started", "");
    }
    *out = handle;
    return SHARDKV_OK;
}

void shardkv_close(struct shardkv **handle_pointer)
{
    struct shardkv *handle = *handle_pointer;

    if (handle == NULL) {
        return;
    }
    ASSERT(!net_is_in_turn(handle->net));
    *handle_pointer = NULL;
    pthread_mutex_lock(&handle->mutex);
    handle->closing = true;
    pthread_mutex_unlock(&handle->mutex);
    net_post(handle->net, end_all, handle);
    ASSERT(pthread_join(handle->thread, NULL) == 0);
    ASSERT(handle->n_outstanding == 0);
    handle_destroy(handle);
}
