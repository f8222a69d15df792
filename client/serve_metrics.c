#include "client/serve_metrics.h"

#include <stdio.h>
#include <string.h>

#include "raft/util/assert.h"
#include "raft/util/metrics.h"

#define LABEL_BYTES 32

/* The op as a label; NULL: none is known by that number. */
static const char *op_name(unsigned op)
{
    switch (op) {
    case PROTO_GET:
        return "get";
    case PROTO_WRITE:
        return "write";
    case PROTO_SCAN:
        return "scan";
    case PROTO_STATUS:
        return "status";
    case PROTO_TRANSFER:
        return "transfer";
    case PROTO_PING:
        return "ping";
    case PROTO_CONFIG:
        return "config";
    case PROTO_JOIN:
        return "join";
    case PROTO_LEAVE:
        return "leave";
    case PROTO_MOVE:
        return "move";
    case PROTO_CONFIRM:
        return "confirm";
    case PROTO_BIND:
        return "bind";
    case PROTO_PAUSE:
        return "pause";
    case PROTO_SHARD_PULL:
        return "shard_pull";
    case PROTO_SHARD_RELEASE:
        return "shard_release";
    case PROTO_SHARD_WHERE:
        return "shard_where";
    default:
        return NULL;
    }
}

/* Fills in the label of an op to be shown: one that has a name here, or was asked for. */
static bool op_label(const struct serve_metrics *metrics, unsigned op, char label[LABEL_BYTES])
{
    const char *name = op_name(op);

    if (name == NULL && histogram_count(&metrics->took[op]) == 0) {
        return false;
    }
    if (name != NULL) {
        snprintf(label, LABEL_BYTES, "%s", name);
    } else {
        snprintf(label, LABEL_BYTES, "op_%u", op);
    }
    return true;
}

/* NOT_LEADER as not_leader. */
static void status_label(enum status status, char label[LABEL_BYTES])
{
    const char *name = status_name(status);
    size_t len = strlen(name);

    ASSERT(len < LABEL_BYTES);
    for (size_t i = 0; i <= len; i++) {
        label[i] = name[i] >= 'A' && name[i] <= 'Z' ? (char)(name[i] - 'A' + 'a') : name[i];
    }
}

void serve_metrics_count(struct serve_metrics *metrics, enum proto_op op, enum status status,
                         uint64_t begin_us, uint64_t end_us)
{
    ASSERT((unsigned)op < SERVE_METRICS_OPS);
    ASSERT((unsigned)status < SERVE_METRICS_STATUSES);
    metrics->ended[op][status]++;
    histogram_add_span(&metrics->took[op], begin_us, end_us);
}

static void put_op(const struct serve_metrics *metrics, unsigned op, const char *op_word,
                   struct buf *text)
{
    for (unsigned status = 0; status < SERVE_METRICS_STATUSES; status++) {
        char label[LABEL_BYTES];

        /* The good ones also while there are none: a series should exist before it grows. */
        if (metrics->ended[op][status] > 0 || status == ST_OK) {
            status_label((enum status)status, label);
            metrics_put_sample(text, "shardkv_requests_total", metrics->ended[op][status],
                               "op=\"%s\",status=\"%s\"", op_word, label);
        }
    }
}

void serve_metrics_put(const struct serve_metrics *metrics, struct buf *text)
{
    char label[LABEL_BYTES];

    metrics_begin_counter(text, "shardkv_requests_total",
                          "Requests answered, by kind and by how they ended.");
    for (unsigned op = 0; op < SERVE_METRICS_OPS; op++) {
        if (op_label(metrics, op, label)) {
            put_op(metrics, op, label, text);
        }
    }
    metrics_begin_histogram(text, "shardkv_request_duration_seconds",
                            "Time from a request's arrival to its answer, by kind.");
    for (unsigned op = 0; op < SERVE_METRICS_OPS; op++) {
        const struct histogram *took = &metrics->took[op];

        if (histogram_count(took) > 0 && op_label(metrics, op, label)) {
            metrics_put_histogram_sample(text, "shardkv_request_duration_seconds", took,
                                         "op=\"%s\"", label);
        }
    }
}
