/* shardkv-packages: loads a Debian package index (`apt-cache dumpavail >FILE`, some 60,000 records)
 * into ShardKV, and checks later that every record is still there, byte for byte.
 *
 * It is also an example of the client library (shardkv.h) used asynchronously:
 *
 *   - It opens a few handles. A handle is a client with connections and a thread of its own; a
 *     single one would do, several use more cores.
 *   - It starts `--sessions` operations. Each is started by an _async call, which returns at once,
 *     and ends in a callback on the handle's thread. The callback looks at the code, and starts the
 *     next operation. So the number of outstanding operations stays the same until none is left,
 *     and the main thread only waits and shows how far it is.
 *   - A put may end as SHARDKV_UNKNOWN: it was sent, and nobody can tell whether it was or will be
 *     applied. A program must decide what that means. Here it simply puts the same value again: to
 *     put the same twice does no harm. (An append would have to read the value back first.)
 *   - Each operation has a deadline, until which the library retries whatever can be retried: a
 *     group that elects a leader, a shard that is moving. So any other code is final.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "client/kv.h"
#include "client/packages_index.h"

#define MAX_HANDLES 8
#define MAX_REPEATS 10 /* of a put whose end is not known */

struct options {
    const char *file, *ctrlers;
    bool verify; /* else load */
    size_t limit, sessions;
    uint32_t timeout_ms;
};

/* All of the work. The callbacks of all handles share it, hence the mutex. */
struct work {
    const struct options *options;
    struct packages_index index;
    struct shardkv *handles[MAX_HANDLES];
    size_t n_handles;

    pthread_mutex_t mutex;
    pthread_cond_t all_ended;
    size_t next;   /* the record that is started next */
    size_t live;   /* sessions that have not ended */
    size_t done;   /* records that were put, or read */
    size_t failed; /* records that could not be put or read */
    size_t missing, different;
    char why[256]; /* of the last failure */
};

/* One of the operations that are outstanding at the same time. */
struct session {
    struct work *work;
    struct shardkv *handle;
    size_t record;
    unsigned repeats;
};

/* ---- Operations: one after the other in each session ---- */

static void on_end(void *context, struct shardkv_result *result);

/* Starts the session's operation on its record. */
static int start(struct session *session)
{
    const struct work *work = session->work;
    const struct packages_record *record = &work->index.records[session->record];
    struct shardkv_bytes key = shardkv_text(record->key);
    struct shardkv_bytes value = {record->value, record->value_len};

    if (work->options->verify) {
        return shardkv_get_async(session->handle, key, 0, on_end, session, NULL);
    }
    return shardkv_put_async(session->handle, key, value, 0, on_end, session, NULL);
}

static void fail(struct work *work, size_t record, const char *why)
{
    pthread_mutex_lock(&work->mutex);
    work->failed++;
    snprintf(work->why, sizeof(work->why), "%s: %s", work->index.records[record].key, why);
    pthread_mutex_unlock(&work->mutex);
}

/* Gives the session its next record; if there is none, the session ends. */
static void next(struct session *session)
{
    struct work *work = session->work;
    int code = SHARDKV_OK;

    do {
        pthread_mutex_lock(&work->mutex);
        if (work->next == work->index.n) {
            work->live--;
            pthread_cond_signal(&work->all_ended);
            pthread_mutex_unlock(&work->mutex);
            return;
        }
        session->record = work->next++;
        session->repeats = 0;
        pthread_mutex_unlock(&work->mutex);

        /* If it could not even be started, there is no callback. */
        code = start(session);
        if (code != SHARDKV_OK) {
            fail(work, session->record, shardkv_strerror(code));
        }
    } while (code != SHARDKV_OK);
}

static bool is_same(const struct packages_record *record, struct shardkv_bytes value)
{
    return value.len == record->value_len && memcmp(value.data, record->value, value.len) == 0;
}

/* Called by the library on the handle's thread, once for each operation that was started. The
 * result belongs to us now. */
static void on_end(void *context, struct shardkv_result *result)
{
    struct session *session = context;
    struct work *work = session->work;

    if (result->code == SHARDKV_UNKNOWN && session->repeats++ < MAX_REPEATS &&
        start(session) == SHARDKV_OK) {
        shardkv_result_free(result);
        return;
    }
    if (result->code == SHARDKV_OK || result->code == SHARDKV_NOT_FOUND) {
        bool found = result->code == SHARDKV_OK;
        bool same = !work->options->verify ||
                    (found && is_same(&work->index.records[session->record], result->value));
        pthread_mutex_lock(&work->mutex);
        work->done++;
        work->missing += !found;
        work->different += found && !same;
        pthread_mutex_unlock(&work->mutex);
    } else {
        fail(work, session->record, result->message);
    }
    shardkv_result_free(result);
    next(session);
}

/* ---- The main thread ---- */

static double now_s(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static void show_progress(const struct work *work, double seconds)
{
    char bar[41];
    size_t ended = work->done + work->failed;
    size_t filled = work->index.n > 0 ? ended * (sizeof(bar) - 1) / work->index.n : 0;

    memset(bar, ' ', sizeof(bar) - 1);
    memset(bar, '#', filled);
    bar[sizeof(bar) - 1] = '\0';
    fprintf(stderr, "\r%s [%s] %zu of %zu, %.0f/s ", work->options->verify ? "verify" : "load", bar,
            ended, work->index.n, (double)ended / (seconds + 0.001));
}

static void wait_for_end(struct work *work, double began)
{
    bool show = isatty(STDERR_FILENO);

    pthread_mutex_lock(&work->mutex);
    while (work->live > 0) {
        struct timespec until;
        clock_gettime(CLOCK_MONOTONIC, &until);
        until.tv_sec += 1;
        pthread_cond_clockwait(&work->all_ended, &work->mutex, CLOCK_MONOTONIC, &until);
        if (show) {
            show_progress(work, now_s() - began);
        }
    }
    pthread_mutex_unlock(&work->mutex);
    if (show) {
        fputc('\n', stderr);
    }
}

static int report(const struct work *work, double seconds)
{
    double megabytes = (double)work->index.bytes / 1e6;

    if (work->options->verify) {
        printf("verified %zu records, %.1f MB, %zu missing, %zu different\n", work->done, megabytes,
               work->missing, work->different);
    } else {
        printf("loaded %zu records, %.1f MB in %.1f s, %.0f records/s\n", work->done, megabytes,
               seconds, (double)work->done / seconds);
    }
    if (work->failed > 0) {
        fprintf(stderr, "shardkv-packages: %zu records failed, the last one so: %s\n", work->failed,
                work->why);
    }
    return work->failed + work->missing + work->different > 0 ? 1 : 0;
}

static bool open_handles(struct work *work)
{
    struct shardkv_options options;
    size_t n = work->options->sessions < MAX_HANDLES ? work->options->sessions : MAX_HANDLES;
    char error[256];

    shardkv_options_init(&options, sizeof(options));
    options.sole_nng_user = 1;
    options.ctrlers = work->options->ctrlers;
    options.timeout_ms = work->options->timeout_ms;
    while (work->n_handles < n) {
        if (shardkv_open(&options, &work->handles[work->n_handles], error, sizeof(error)) !=
            SHARDKV_OK) {
            fprintf(stderr, "shardkv-packages: %s\n", error);
            return false;
        }
        work->n_handles++;
    }
    return true;
}

static int run(struct work *work)
{
    struct session *sessions = calloc(work->options->sessions, sizeof(*sessions));
    double began = now_s();
    int code = 3;

    if (sessions == NULL) {
        abort();
    }
    if (open_handles(work)) {
        work->live = work->options->sessions;
        for (size_t i = 0; i < work->options->sessions; i++) {
            sessions[i].work = work;
            sessions[i].handle = work->handles[i % work->n_handles];
            next(&sessions[i]);
        }
        wait_for_end(work, began);
        code = report(work, now_s() - began);
    }
    /* Closing waits until no callback can run any more: only then the sessions may go. */
    for (size_t i = 0; i < work->n_handles; i++) {
        shardkv_close(&work->handles[i]);
    }
    free(sessions);
    return code;
}

/* ---- Arguments and the file ---- */

static char *read_file(const char *name, size_t *len)
{
    FILE *file = fopen(name, "rb");
    char *text = NULL;
    size_t capacity = 0, got = 1;

    for (*len = 0; file != NULL && got > 0; *len += got) {
        if (*len == capacity) {
            capacity = capacity == 0 ? 1 << 20 : capacity * 2;
            text = realloc(text, capacity);
            if (text == NULL) {
                abort();
            }
        }
        got = fread(text + *len, 1, capacity - *len, file);
    }
    if (file == NULL || ferror(file)) {
        perror(name);
        free(text);
        text = NULL;
    }
    if (file != NULL) {
        fclose(file);
    }
    return text;
}

static int usage(FILE *file)
{
    fprintf(file,
            "usage: shardkv-packages load|verify --file FILE [--records N] [--sessions 64]\n"
            "                        [--ctrlers URLS] [--timeout MS]\n"
            "FILE is what `apt-cache dumpavail` prints. load puts every package under its name,\n"
            "verify gets all and compares. --records 0 (default) means all of them; --timeout is\n"
            "for one operation (default 30000). Exit codes: 0 all well, 1 a record is missing,\n"
            "different or failed, 2 wrong usage, 3 can't start.\n");
    return file == stdout ? 0 : 2;
}

static bool parse_count(const char *text, size_t high, size_t *count)
{
    char *end;
    unsigned long long number = strtoull(text, &end, 10);

    *count = (size_t)number;
    return *text >= '0' && *text <= '9' && *end == '\0' && number <= high;
}

static bool parse_arguments(int argc, char **argv, struct options *options)
{
    size_t timeout_ms = 30000;
    bool ok = argc >= 2 && argc % 2 == 0;

    *options = (struct options){.sessions = 64, .ctrlers = getenv("SHARDKV_CTRLERS")};
    options->verify = ok && strcmp(argv[1], "verify") == 0;
    ok = ok && (options->verify || strcmp(argv[1], "load") == 0);
    for (int i = 2; ok && i < argc; i += 2) {
        if (strcmp(argv[i], "--file") == 0) {
            options->file = argv[i + 1];
        } else if (strcmp(argv[i], "--ctrlers") == 0) {
            options->ctrlers = argv[i + 1];
        } else if (strcmp(argv[i], "--records") == 0) {
            ok = parse_count(argv[i + 1], SIZE_MAX / 2, &options->limit);
        } else if (strcmp(argv[i], "--sessions") == 0) {
            ok = parse_count(argv[i + 1], 65536, &options->sessions) && options->sessions > 0;
        } else if (strcmp(argv[i], "--timeout") == 0) {
            ok = parse_count(argv[i + 1], 86400000, &timeout_ms) && timeout_ms > 0;
        } else {
            ok = false;
        }
    }
    options->timeout_ms = (uint32_t)timeout_ms;
    if (ok && options->ctrlers == NULL) {
        fprintf(stderr, "shardkv-packages: give --ctrlers URL,URL,... or set SHARDKV_CTRLERS\n");
    }
    return ok && options->file != NULL && options->ctrlers != NULL;
}

int main(int argc, char **argv)
{
    struct options options;
    struct work work = {.options = &options,
                        .mutex = PTHREAD_MUTEX_INITIALIZER,
                        .all_ended = PTHREAD_COND_INITIALIZER};
    size_t len;
    char *text;
    int code = 3;

    if (argc == 2 && strcmp(argv[1], "--help") == 0) {
        return usage(stdout);
    }
    if (!parse_arguments(argc, argv, &options)) {
        return usage(stderr);
    }
    text = read_file(options.file, &len);
    if (text == NULL) {
        return 2;
    }
    packages_index_parse(&work.index, text, len, options.limit);
    if (work.index.n == 0) {
        fprintf(stderr, "shardkv-packages: %s has no package in it\n", options.file);
    } else {
        code = run(&work);
    }
    packages_index_fini(&work.index);
    free(text);
    return code;
}
