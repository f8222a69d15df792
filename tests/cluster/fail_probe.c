/* Recovery times as a client sees them: one put after the other, each as soon as the last was
 * answered, and the longest time between two acknowledgements after a moment that the test marks,
 * the moment at which it breaks something. */
#include "tests/cluster/fail_load.h"

#define PROBE_TIMEOUT_MS 5000 /* the library's own */
#define WATCH_US         5000
#define FLOWING_US       50000
#define AFTER_REFUSAL_US 1000

static void note(struct fail_probe *probe, uint64_t now_us, bool ok)
{
    pthread_mutex_lock(&probe->mutex);
    probe->ops++;
    probe->failures += !ok;
    if (ok) {
        if (now_us > probe->mark_us && now_us - probe->last_ok_us > probe->gap_us) {
            probe->gap_us = now_us - probe->last_ok_us;
            probe->gap_end_us = now_us;
        }
        probe->last_ok_us = now_us;
    }
    pthread_mutex_unlock(&probe->mutex);
}

static void *probe_run(void *context)
{
    struct fail *fail = context;
    struct shardkv *kv = fail_open(fail, NULL);
    uint32_t n = 0;

    while (!atomic_load(&fail->probe.stopping)) {
        char value[32];
        int code;

        snprintf(value, sizeof(value), "%u", n++);
        code =
            shardkv_put(kv, shardkv_text("{probe}"), shardkv_text(value), PROBE_TIMEOUT_MS, NULL);
        note(&fail->probe, cli_now_ns() / 1000, code == SHARDKV_OK);
        if (code != SHARDKV_OK) {
            fail_sleep_us(AFTER_REFUSAL_US);
        }
    }
    shardkv_close(&kv);
    return NULL;
}

/* A sleeper that wakes late tells that the machine, not the cluster, stood still. */
static void *watch_run(void *context)
{
    struct fail_probe *probe = &((struct fail *)context)->probe;

    while (!atomic_load(&probe->stopping)) {
        uint64_t before_us = cli_now_ns() / 1000, late_us;

        fail_sleep_us(WATCH_US);
        late_us = cli_now_ns() / 1000 - before_us - WATCH_US;
        pthread_mutex_lock(&probe->mutex);
        if (late_us > probe->stall_us) {
            probe->stall_us = late_us;
        }
        pthread_mutex_unlock(&probe->mutex);
    }
    return NULL;
}

void probe_start(struct fail *fail)
{
    struct fail_probe *probe = &fail->probe;

    probe_stop(fail);
    atomic_store(&probe->stopping, false);
    probe->mark_us = probe->last_ok_us = cli_now_ns() / 1000;
    if (pthread_create(&probe->thread, NULL, probe_run, fail) != 0 ||
        pthread_create(&probe->watch_thread, NULL, watch_run, fail) != 0) {
        fail_die("no thread");
    }
    probe->running = true;
}

void probe_stop(struct fail *fail)
{
    if (fail->probe.running) {
        atomic_store(&fail->probe.stopping, true);
        pthread_join(fail->probe.thread, NULL);
        pthread_join(fail->probe.watch_thread, NULL);
        fail->probe.running = false;
    }
}

void probe_mark(struct fail *fail)
{
    pthread_mutex_lock(&fail->probe.mutex);
    fail->probe.mark_us = cli_now_ns() / 1000;
    fail->probe.gap_us = fail->probe.gap_end_us = fail->probe.stall_us = 0;
    pthread_mutex_unlock(&fail->probe.mutex);
}

bool probe_gap(struct fail *fail, uint32_t settle_ms, uint32_t bound_ms,
               struct probe_figures *figures)
{
    struct fail_probe *probe = &fail->probe;
    bool flowing = false;

    while (!flowing) {
        uint64_t now_us = cli_now_ns() / 1000, passed_ms;

        pthread_mutex_lock(&probe->mutex);
        passed_ms = (now_us - probe->mark_us) / 1000;
        flowing =
            passed_ms >= settle_ms && probe->gap_us > 0 && now_us - probe->last_ok_us < FLOWING_US;
        figures->gap_ms = (double)probe->gap_us / 1000;
        figures->after_ms = ((double)probe->gap_end_us - (double)probe->mark_us) / 1000;
        figures->stall_ms = (double)probe->stall_us / 1000;
        pthread_mutex_unlock(&probe->mutex);
        if (!flowing && passed_ms >= bound_ms) {
            return false;
        }
        if (!flowing) {
            fail_sleep_us(2000);
        }
    }
    return true;
}
