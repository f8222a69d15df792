/* Clients that work without end: whoever is idle begins what its kind of work says; see kv_load.h.
 */
#include "tests/sim/kv_load_internal.h"

#include "raft/util/assert.h"
#include "raft/util/mem.h"

#define OPERATION_MS 120000

static const struct kv_work_ops *const work_ops[] = {
    [KV_LOAD_APPENDS] = &kv_append_work,
    [KV_LOAD_VERSIONS] = &kv_version_work,
    [KV_LOAD_LOCKS] = &kv_lock_work,
};

uint64_t kv_worker_deadline_ms(const struct kv_worker *worker)
{
    uint64_t ms = worker->load->options.deadline_ms;

    return ms != 0 ? ms : OPERATION_MS;
}

static void end(struct kv_worker *worker)
{
    struct kv_load *load = worker->load;

    worker->busy = false;
    worker->idle_until_ms = world_now_ms(kv_cluster_world(load->cluster)) + load->options.pause_ms;
    load->unknown += worker->outcome.status == ST_UNKNOWN;
    load->ops->end(worker);
    kv_outcome_fini(&worker->outcome);
    worker->n_operations++;
    load->done++;
}

static bool worker_has_ended(const struct kv_worker *worker)
{
    const struct kv_work_ops *ops = worker->load->ops;

    return !worker->busy && (ops->may_stop == NULL || ops->may_stop(worker));
}

static bool worker_may_begin(const struct kv_worker *worker, uint64_t now_ms)
{
    const struct kv_load *load = worker->load;

    return !worker->busy && now_ms >= worker->idle_until_ms &&
           !(load->stopping && worker_has_ended(worker)) &&
           (load->options.max_operations == 0 ||
            worker->n_operations < load->options.max_operations);
}

/* Ends and begins what is due; asked after every event of the world. */
static bool turn(void *context)
{
    struct kv_load *load = context;
    uint64_t now_ms = world_now_ms(kv_cluster_world(load->cluster));
    bool idle = true;

    for (size_t i = 0; i < load->options.n_clients; i++) {
        struct kv_worker *worker = &load->workers[i];
        if (worker->busy && worker->outcome.ended) {
            end(worker);
        }
        if (worker_may_begin(worker, now_ms)) {
            worker->busy = true;
            load->ops->begin(worker);
        }
        idle &= worker_has_ended(worker);
    }
    return load->stopping && idle;
}

static void resume_worker(struct kv_worker *worker)
{
    if (worker->load->ops->resume != NULL) {
        worker->load->ops->resume(worker);
    }
}

struct kv_load *kv_load_create(struct kv_cluster *cluster, const struct kv_load_options *options)
{
    struct kv_load *load = mem_zalloc(sizeof(*load));

    load->cluster = cluster;
    load->options = *options;
    load->ops = work_ops[options->work];
    load->holder = SIZE_MAX;
    load->workers = mem_zalloc(options->n_clients * sizeof(*load->workers));
    for (size_t i = 0; i < options->n_clients; i++) {
        load->workers[i].load = load;
        load->workers[i].number = i;
        load->workers[i].client = kv_client_create(cluster);
        load->ops->create(&load->workers[i]);
        resume_worker(&load->workers[i]);
    }
    return load;
}

void kv_load_run_ms(struct kv_load *load, uint64_t ms)
{
    uint64_t end_ms = world_now_ms(kv_cluster_world(load->cluster)) + ms, now_ms;

    /* A load that stopped is idle at once; time passes all the same. */
    while ((now_ms = world_now_ms(kv_cluster_world(load->cluster))) < end_ms) {
        if (world_run_until(kv_cluster_world(load->cluster), end_ms - now_ms, turn, load)) {
            kv_cluster_sleep(load->cluster, end_ms - world_now_ms(kv_cluster_world(load->cluster)));
        }
    }
}

static bool all_have_enough(const struct kv_load *load)
{
    for (size_t i = 0; i < load->options.n_clients; i++) {
        if (load->workers[i].n_operations < load->options.max_operations) {
            return false;
        }
    }
    return true;
}

void kv_load_stop(struct kv_load *load)
{
    load->stopping = true;
}

void kv_load_finish(struct kv_load *load)
{
    for (int second = 0;
         !load->stopping && load->options.max_operations > 0 && !all_have_enough(load); second++) {
        ASSERT(second < 120);
        world_run_until(kv_cluster_world(load->cluster), 1000, turn, load);
    }
    load->stopping = true;
    ASSERT(world_run_until(kv_cluster_world(load->cluster), OPERATION_MS + 1000, turn, load));
}

void kv_load_resume(struct kv_load *load)
{
    load->stopping = false;
    for (size_t i = 0; i < load->options.n_clients; i++) {
        resume_worker(&load->workers[i]);
    }
}

uint64_t kv_load_done(const struct kv_load *load)
{
    return load->done;
}

uint64_t kv_load_unknown(const struct kv_load *load)
{
    return load->unknown;
}

void kv_load_check(struct kv_load *load)
{
    struct kv_client *reader = kv_client_create(load->cluster);

    ASSERT(load->stopping);
    load->ops->check(load, reader);
    kv_client_destroy(&reader);
}

static void destroy_worker(struct kv_worker *worker)
{
    const struct kv_work_ops *ops = worker->load->ops;

    if (ops->destroy != NULL) {
        ops->destroy(worker);
    }
    for (size_t key = 0; key < KV_LOAD_MAX_KEYS; key++) {
        buf_fini(&worker->known[key]);
    }
    buf_fini(&worker->fresh_value);
    buf_fini(&worker->expected);
    kv_client_destroy(&worker->client);
}

void kv_load_check_and_destroy(struct kv_load **load)
{
    struct kv_load *l = *load;

    kv_load_check(l);
    for (size_t i = 0; i < l->options.n_clients; i++) {
        destroy_worker(&l->workers[i]);
    }
    mem_free(l->workers);
    mem_free(l);
    *load = NULL;
}
