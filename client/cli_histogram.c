/* Log-linear buckets: the highest bit of a value chooses the doubling, the seven bits below it the
 * bucket in it. Values below 128 have a bucket each. */
#include "client/cli_histogram.h"

#define SUB_BUCKETS (UINT64_C(1) << HISTOGRAM_SUB_BITS)

static size_t bucket_of(uint64_t value)
{
    unsigned shift;

    if (value < SUB_BUCKETS) {
        return (size_t)value;
    }
    shift = 63u - (unsigned)__builtin_clzll(value) - HISTOGRAM_SUB_BITS;
    return (size_t)((shift + 1) * SUB_BUCKETS + ((value >> shift) - SUB_BUCKETS));
}

/* The largest value that falls into the bucket. */
static uint64_t bucket_end(size_t bucket)
{
    unsigned shift;

    if (bucket < SUB_BUCKETS) {
        return bucket;
    }
    shift = (unsigned)(bucket / SUB_BUCKETS) - 1;
    return ((SUB_BUCKETS + bucket % SUB_BUCKETS) << shift) + ((UINT64_C(1) << shift) - 1);
}

void histogram_record(struct histogram *histogram, uint64_t value)
{
    histogram->counts[bucket_of(value)]++;
    histogram->count++;
    if (value > histogram->max) {
        histogram->max = value;
    }
}

void histogram_merge(struct histogram *histogram, const struct histogram *from)
{
    for (size_t i = 0; i < HISTOGRAM_BUCKETS; i++) {
        histogram->counts[i] += from->counts[i];
    }
    histogram->count += from->count;
    histogram->max = from->max > histogram->max ? from->max : histogram->max;
}

uint64_t histogram_percentile(const struct histogram *histogram, double fraction)
{
    double wanted = fraction * (double)histogram->count;
    uint64_t seen = 0;

    for (size_t i = 0; i < HISTOGRAM_BUCKETS && histogram->count > 0; i++) {
        seen += histogram->counts[i];
        if (seen > 0 && (double)seen >= wanted) {
            return bucket_end(i) < histogram->max ? bucket_end(i) : histogram->max;
        }
    }
    return histogram->max;
}
