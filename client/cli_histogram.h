/* A histogram of times for latency percentiles: counts in buckets that are exact up to 127 and from
 * there on at most 1/128 of the value wide, so a percentile is right to within 0.8 %. Recording is
 * an increment; the size is fixed, for any 64-bit value.
 */
#ifndef CLIENT_CLI_HISTOGRAM_H
#define CLIENT_CLI_HISTOGRAM_H

#include <stddef.h>
#include <stdint.h>

#define HISTOGRAM_SUB_BITS 7 /* 2^7 buckets to each doubling */
#define HISTOGRAM_BUCKETS  ((65 - HISTOGRAM_SUB_BITS) << HISTOGRAM_SUB_BITS)

/* All zero is empty. */
struct histogram {
    uint64_t count;
    uint64_t max; /* exact */
    uint64_t counts[HISTOGRAM_BUCKETS];
};

void histogram_record(struct histogram *histogram, uint64_t value);
void histogram_merge(struct histogram *histogram, const struct histogram *from);

/* The least value that at least `fraction` (0 to 1) of all recorded ones don't pass, rounded up to
 * the end of its bucket, but never above the maximum. 0 if nothing was recorded. */
uint64_t histogram_percentile(const struct histogram *histogram, double fraction);

#endif
