/* What is recorded of each operation, and the figures that come of it. */
#include <stdlib.h>
#include <string.h>

#include "tests/cluster/move_load.h"

void records_init(struct records *records)
{
    memset(records, 0, sizeof(*records));
    pthread_mutex_init(&records->mutex, NULL);
}

void records_fini(struct records *records)
{
    pthread_mutex_destroy(&records->mutex);
    free(records->items);
}

void records_add(struct records *records, uint64_t start_ns, uint64_t end_ns, enum load_kind kind,
                 enum load_end end)
{
    uint64_t latency_us = end_ns > start_ns ? (end_ns - start_ns + 500) / 1000 : 0;

    pthread_mutex_lock(&records->mutex);
    if (records->n == records->room) {
        records->room = records->room == 0 ? 65536 : records->room * 2;
        records->items = realloc(records->items, records->room * sizeof(*records->items));
        if (records->items == NULL) {
            load_die("out of memory");
        }
    }
    records->items[records->n++] = (struct record){
        .start_ns = start_ns,
        .latency_us = latency_us > UINT32_MAX ? UINT32_MAX : (uint32_t)latency_us,
        .kind = (uint8_t)kind,
        .end = (uint8_t)end,
    };
    pthread_mutex_unlock(&records->mutex);
}

/* ---- Failures ---- */

enum load_end load_end_of(int code)
{
    if (code == SHARDKV_OK || code == SHARDKV_NOT_FOUND) {
        return LOAD_OK;
    }
    return code == SHARDKV_UNKNOWN ? LOAD_UNKNOWN : LOAD_ERROR;
}

/* Which replica it was does not matter, and would make many reasons of one. */
static void leave_out_url(char *message)
{
    char *from = strstr(message, "tcp://"), *to = from == NULL ? NULL : strchr(from + 6, ':');

    to = to == NULL ? NULL : strchr(to + 1, ':'); /* behind the port */
    if (to != NULL) {
        memmove(from, "URL", 3);
        memmove(from + 3, to, strlen(to) + 1);
    }
}

void failures_add(struct failures *failures, uint64_t start_ns, enum load_class class,
                  enum load_kind kind, const struct shardkv_result *result, int code)
{
    pthread_mutex_lock(&failures->mutex);
    if (failures->n < LOAD_MAX_FAILURES) {
        struct failure *failure = &failures->items[failures->n++];

        *failure = (struct failure){
            .start_ns = start_ns, .class = (uint8_t) class, .kind = (uint8_t)kind, .code = code};
        snprintf(failure->message, sizeof(failure->message), "%s",
                 result != NULL && result->message[0] != '\0' ? result->message
                                                              : shardkv_strerror(code));
        leave_out_url(failure->message);
    }
    pthread_mutex_unlock(&failures->mutex);
}

/* ---- Tallies ---- */

static uint64_t end_of(const struct record *record)
{
    return record->start_ns + (uint64_t)record->latency_us * 1000;
}

/* A span of time without a success belongs to the phase that has its middle, and to all that lie
 * within it. */
static bool belongs(uint64_t last_ns, uint64_t end_ns, uint64_t from_ns, uint64_t to_ns)
{
    uint64_t middle_ns = last_ns + (end_ns - last_ns) / 2;

    return (middle_ns >= from_ns && middle_ns < to_ns) || (last_ns <= from_ns && end_ns >= to_ns);
}

/* The longest time between successes of the phase. kind -1: of any kind. */
static double longest_pause_ms(const struct records *records, int kind, uint64_t begin_ns,
                               uint64_t from_ns, uint64_t to_ns)
{
    uint64_t last_ns = begin_ns, longest_ns = 0;

    for (size_t i = 0; i < records->n && last_ns < to_ns; i++) {
        const struct record *record = &records->items[i];
        uint64_t end_ns = end_of(record);

        if (record->end != LOAD_OK || end_ns <= last_ns || (kind >= 0 && record->kind != kind)) {
            continue;
        }
        if (end_ns - last_ns > longest_ns && belongs(last_ns, end_ns, from_ns, to_ns)) {
            longest_ns = end_ns - last_ns;
        }
        last_ns = end_ns;
    }
    /* No success since then: it goes on. */
    if (last_ns < to_ns && to_ns - last_ns > longest_ns &&
        belongs(last_ns, to_ns, from_ns, to_ns)) {
        longest_ns = to_ns - last_ns;
    }
    return (double)longest_ns / 1e6;
}

static int by_value(const void *left, const void *right)
{
    uint32_t a = *(const uint32_t *)left, b = *(const uint32_t *)right;

    return a < b ? -1 : a > b;
}

static double percentile_ms(const uint32_t *sorted, size_t n, double fraction)
{
    size_t at = (size_t)(fraction * (double)n);

    return n == 0 ? 0 : (double)sorted[at < n ? at : n - 1] / 1000;
}

void records_tally(struct records *records, uint64_t begin_ns, uint64_t from_ns, uint64_t to_ns,
                   struct tally *tally)
{
    uint32_t *latencies;

    memset(tally, 0, sizeof(*tally));
    pthread_mutex_lock(&records->mutex);
    latencies = load_allocate(records->n + 1, sizeof(*latencies));
    for (size_t i = 0; i < records->n; i++) {
        const struct record *record = &records->items[i];

        if (record->start_ns < from_ns || record->start_ns >= to_ns) {
            continue;
        }
        latencies[tally->ops++] = record->latency_us;
        tally->ok += record->end == LOAD_OK;
        tally->errors += record->end == LOAD_ERROR;
        tally->unknown += record->end == LOAD_UNKNOWN;
    }
    if (begin_ns != 0 && begin_ns < to_ns) {
        tally->pause_ms = longest_pause_ms(records, -1, begin_ns, from_ns, to_ns);
        tally->pause_reads_ms = longest_pause_ms(records, LOAD_GET, begin_ns, from_ns, to_ns);
        tally->pause_writes_ms = longest_pause_ms(records, LOAD_PUT, begin_ns, from_ns, to_ns);
    }
    pthread_mutex_unlock(&records->mutex);
    qsort(latencies, tally->ops, sizeof(*latencies), by_value);
    tally->p50_ms = percentile_ms(latencies, tally->ops, 0.5);
    tally->p99_ms = percentile_ms(latencies, tally->ops, 0.99);
    tally->p999_ms = percentile_ms(latencies, tally->ops, 0.999);
    tally->max_ms = percentile_ms(latencies, tally->ops, 1);
    free(latencies);
}
