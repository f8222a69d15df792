/* histogram: how long something took, counted in fixed buckets. Pure and tiny: a struct that is
 * embedded, zeroed, and added to; no allocation, no floating point, one shift and a count of
 * leading zeros to find the bucket. Durations are in microseconds and come from the caller, as
 * times do.
 *
 * Bucket i holds durations of at most 16 * 2^i microseconds: 16 us, 32 us, … 16.8 s; what is longer
 * is in the last one. Two neighbours differ by a factor of two: a quantile read from the buckets is
 * that exact, at any scale, and all histograms of a program can be added up.
 */
#ifndef RAFT_UTIL_HISTOGRAM_H
#define RAFT_UTIL_HISTOGRAM_H

#include <stdint.h>

#define HISTOGRAM_SHIFT   4  /* the first bound is 1 << HISTOGRAM_SHIFT microseconds */
#define HISTOGRAM_BUCKETS 21 /* with a bound; one more without */

/* Zeroed, it is empty. */
struct histogram {
    uint64_t counts[HISTOGRAM_BUCKETS + 1];
    uint64_t sum_us;
};

/* The upper bound of a bucket, inclusive. */
static inline uint64_t histogram_bound_us(unsigned bucket)
{
    return 1ull << (HISTOGRAM_SHIFT + bucket);
}

static inline unsigned histogram_bucket(uint64_t us)
{
    uint64_t above = (us - (us > 0)) >> HISTOGRAM_SHIFT;
    unsigned bucket = above == 0 ? 0 : 64u - (unsigned)__builtin_clzll(above);

    return bucket < HISTOGRAM_BUCKETS ? bucket : HISTOGRAM_BUCKETS;
}

static inline void histogram_add(struct histogram *histogram, uint64_t us)
{
    histogram->counts[histogram_bucket(us)]++;
    histogram->sum_us += us;
}

/* From one time to a later one; clocks of different precision may make the later one the smaller:
 * then it took no time. */
static inline void histogram_add_span(struct histogram *histogram, uint64_t begin_us,
                                      uint64_t end_us)
{
    histogram_add(histogram, end_us > begin_us ? end_us - begin_us : 0);
}

static inline uint64_t histogram_count(const struct histogram *histogram)
{
    uint64_t count = 0;

    for (unsigned i = 0; i <= HISTOGRAM_BUCKETS; i++) {
        count += histogram->counts[i];
    }
    return count;
}

#endif
