/* serve_metrics: how many requests ended how, and how long they took, by kind. Part of serve. */
#ifndef CLIENT_SERVE_METRICS_H
#define CLIENT_SERVE_METRICS_H

#include "client/proto.h"
#include "raft/util/histogram.h"

#define SERVE_METRICS_OPS      64 /* above every enum proto_op */
#define SERVE_METRICS_STATUSES 32 /* above every enum status */

struct serve_metrics {
    uint64_t ended[SERVE_METRICS_OPS][SERVE_METRICS_STATUSES];
    struct histogram took[SERVE_METRICS_OPS]; /* from the message to the answer */
};

void serve_metrics_count(struct serve_metrics *metrics, enum proto_op op, enum status status,
                         uint64_t begin_us, uint64_t end_us);
/* Appends shardkv_requests_total and shardkv_request_duration_seconds in Prometheus' text. */
void serve_metrics_put(const struct serve_metrics *metrics, struct buf *text);

#endif
