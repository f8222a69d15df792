/* state_worker: the background thread of a state, its queue of jobs, and what it does when the
 * queue is empty: the deletion of dropped ranges, a piece at a time.
 *
 * A finished job travels back through store_mail and is its own message. After state_close the
 * worker lives on until the last message is out of the mail; such messages are dropped.
 */
#include <errno.h>
#include <stdio.h>
#include <time.h>

#include "raft/store/state_private.h"
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "raft/util/assert.h"
#include "raft/util/mem.h"

#define STATE_WORKER_POLL_MS 5 /* between looks whether a compaction is done */
/* So many checkpoints in LevelDB's log file, and the next one waits until some are moved out. */
#define STATE_WORKER_UNFLUSHED (STATE_CHAIN - 4)

static void state_worker_free_job(struct state_job *job)
{
    if (job->release != NULL) {
        job->release(job);
    }
    mem_free(job);
}

struct state_worker *state_worker_create(const struct state_options *options, struct state *state)
{
    struct state_worker *worker = mem_zalloc(sizeof(*worker));
    pthread_condattr_t attributes;

    memcpy((struct state_options *)&worker->options, options, sizeof(*options));
    ((struct state_options *)&worker->options)->path = mem_copy_string(options->path);
    TAILQ_INIT(&worker->jobs);
    worker->state = state;
    worker->references = 1;
    pthread_mutex_init(&worker->lock, NULL);
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&worker->wake, &attributes);
    pthread_condattr_destroy(&attributes);
    return worker;
}

void state_worker_unref(struct state_worker *worker)
{
    if (atomic_fetch_sub(&worker->references, 1) > 1) {
        return;
    }
    ASSERT(TAILQ_EMPTY(&worker->jobs));
    ASSERT(worker->incoming.db == NULL);
    pthread_mutex_destroy(&worker->lock);
    pthread_cond_destroy(&worker->wake);
    state_meta_fini(&worker->meta);
    state_sweep_reset(worker);
    mem_free(worker->leftovers);
    mem_free((char *)worker->options.path);
    mem_free(worker);
}

void state_worker_queue(struct state_worker *worker, struct state_job *job)
{
    ASSERT(job->run != NULL);
    job->worker = worker;
    pthread_mutex_lock(&worker->lock);
    ASSERT(!worker->stopping);
    TAILQ_INSERT_TAIL(&worker->jobs, job, link);
    pthread_cond_signal(&worker->wake);
    pthread_mutex_unlock(&worker->lock);
}

enum status state_worker_failed(struct state_worker *worker, struct state_job *job)
{
    if (worker->failed != ST_OK && worker->failure[0] != '\0') {
        memcpy(job->note, worker->failure, sizeof(job->note));
        worker->failure[0] = '\0';
    }
    return worker->failed;
}

/* On the loop thread: a job came back. */
static void state_worker_finish(void *arg)
{
    struct state_job *job = arg;
    struct state_worker *worker = job->worker;

    if (worker->state != NULL) {
        if (job->note[0] != '\0') {
            trace_warn(worker->options.trace, "state note=\"%s\"", job->note);
        }
        if (job->finish != NULL) {
            job->finish(worker->state, job);
        }
    }
    state_worker_free_job(job);
    state_worker_unref(worker);
}

/* Sends a job that has run back to the loop thread. */
static void state_worker_post(struct state_worker *worker, struct state_job *job)
{
    atomic_fetch_add(&worker->references, 1);
    worker->options.mail.post(worker->options.mail.context, state_worker_finish, job);
}

void state_worker_tell(struct state_worker *worker, const char *line)
{
    struct state_job *job = mem_zalloc(sizeof(*job));

    job->worker = worker;
    snprintf(job->note, sizeof(job->note), "%s", line);
    state_worker_post(worker, job);
}

/* Waits for work, so long at most if there is something to delete. NULL: none; or to stop. */
static struct state_job *state_worker_next(struct state_worker *worker, uint32_t pause_ms,
                                           bool *stop)
{
    struct state_job *job;
    struct timespec until;
    bool waited = false;

    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_nsec += (long)pause_ms * 1000000L;
    until.tv_sec += until.tv_nsec / 1000000000L;
    until.tv_nsec %= 1000000000L;
    pthread_mutex_lock(&worker->lock);
    while (TAILQ_EMPTY(&worker->jobs) && !worker->stopping && !waited) {
        if (state_sweep_pending(worker)) {
            waited = pthread_cond_timedwait(&worker->wake, &worker->lock, &until) == ETIMEDOUT;
        } else {
            pthread_cond_wait(&worker->wake, &worker->lock);
        }
    }
    *stop = worker->stopping;
    job = *stop ? NULL : TAILQ_FIRST(&worker->jobs);
    if (job != NULL) {
        TAILQ_REMOVE(&worker->jobs, job, link);
    }
    pthread_mutex_unlock(&worker->lock);
    return job;
}

/* Makes LevelDB's log file begin anew before it can hold more checkpoints than the chain of numbers
 * covers (state_meta.c). A compaction of a span where no key can be does just that. It is waited
 * for, as is any other before it, only if it is not over when there is no other way. */
static void state_worker_flush(struct state_worker *worker)
{
    if (worker->failed != ST_OK) {
        return; /* LevelDB writes nothing before it was opened again */
    }
    if (worker->unflushed >= STATE_WORKER_UNFLUSHED) {
        state_compact_wait(worker->db);
    }
    worker->unflushed -= state_compact_moved(worker->db);
    if (worker->unflushed >= STATE_CHAIN / 2 && !state_compact_busy(worker->db)) {
        state_compact_begin(worker->db, slice_text("a"), slice_text("a"), worker->unflushed);
    }
}

static void *state_worker_main(void *arg)
{
    struct state_worker *worker = arg;
    uint32_t pause_ms = worker->options.sweep_pause_ms;

    /* Nobody waits for this thread, nor for LevelDB's, which it begins: the loop and the log go
     * first. Only this thread's own priority; that it can't be had does no harm. */
    (void)setpriority(PRIO_PROCESS, (id_t)syscall(SYS_gettid), STATE_WORKER_NICE);
    state_install_resume(worker);
    atomic_store(&worker->disk_bytes, disk_dir_bytes(worker->db->path));
    for (;;) {
        bool stop;
        struct state_job *job = state_worker_next(worker, pause_ms, &stop);

        if (stop) {
            return NULL;
        }
        if (job == NULL) {
            pause_ms =
                state_sweep_piece(worker) ? worker->options.sweep_pause_ms : STATE_WORKER_POLL_MS;
            continue;
        }
        job->run(worker, job);
        state_worker_post(worker, job);
        state_worker_flush(worker);
    }
}

void state_worker_start(struct state_worker *worker)
{
    int failed = pthread_create(&worker->thread, NULL, state_worker_main, worker);

    ASSERT(failed == 0);
}

void state_worker_stop(struct state_worker *worker)
{
    struct state_job *job;

    pthread_mutex_lock(&worker->lock);
    worker->stopping = true;
    pthread_cond_signal(&worker->wake);
    pthread_mutex_unlock(&worker->lock);
    pthread_join(worker->thread, NULL);
    worker->state = NULL;
    while ((job = TAILQ_FIRST(&worker->jobs)) != NULL) {
        TAILQ_REMOVE(&worker->jobs, job, link);
        state_worker_free_job(job);
    }
    state_db_close(&worker->incoming.db); /* not discarded: it is resumed at the next start */
    state_meta_fini(&worker->incoming.meta);
    buf_fini(&worker->incoming.last_key);
}
