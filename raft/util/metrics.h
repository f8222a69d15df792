/* metrics: the text that Prometheus reads (exposition format 0.0.4), appended to a buffer.
 *
 * A family is a HELP line, a TYPE line and its samples, which must follow each other. Names, label
 * names and help are the program's own; label values are numbers, or words from a fixed list, never
 * what somebody sent: so the number of series is bounded and nothing needs escaping (asserted).
 * By convention a counter's name ends in _total, durations are in seconds (_seconds), sizes in
 * bytes
 * (_bytes), and a name begins with the program's.
 */
#ifndef RAFT_UTIL_METRICS_H
#define RAFT_UTIL_METRICS_H

#include <stdarg.h>

#include "raft/util/bytes.h"
#include "raft/util/histogram.h"

/* One sample without labels, with its HELP and TYPE. */
void metrics_put_counter(struct buf *text, const char *name, const char *help, uint64_t value);
void metrics_put_gauge(struct buf *text, const char *name, const char *help, uint64_t value);
/* The same of microseconds, written as seconds. */
void metrics_put_counter_us(struct buf *text, const char *name, const char *help, uint64_t us);
void metrics_put_gauge_us(struct buf *text, const char *name, const char *help, uint64_t us);
void metrics_put_histogram(struct buf *text, const char *name, const char *help,
                           const struct histogram *histogram);

/* A family with labels: begin it, then put its samples. */
void metrics_begin_counter(struct buf *text, const char *name, const char *help);
void metrics_begin_gauge(struct buf *text, const char *name, const char *help);
void metrics_begin_histogram(struct buf *text, const char *name, const char *help);
/* `labels` is a format of what stands between the braces: peer="%u". */
void metrics_put_sample(struct buf *text, const char *name, uint64_t value, const char *labels, ...)
    __attribute__((format(printf, 4, 5)));
void metrics_put_histogram_sample(struct buf *text, const char *name,
                                  const struct histogram *histogram, const char *labels, ...)
    __attribute__((format(printf, 4, 5)));

#endif
