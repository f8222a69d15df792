/* strain: see strain.h. */
#include "shardkv/strain.h"

#include "raft/util/assert.h"

#define FEW           50 /* clients: a window goes on until it has them, or for MAX_WINDOW_MS */
#define MAX_WINDOW_MS 1000
#define SLOWEST       32  /* one in so many */
#define TOO_SHORT_US  500 /* what is shorter is as good as that */
#define MAX_PERCENT   10000

/* Eight buckets for each doubling, from 32 us to 2 s: their bounds differ by a tenth. */
#define BUCKET_SHIFT 3
#define LOWEST_SHIFT 5

static unsigned bucket_of(uint64_t us)
{
    unsigned log, bucket;

    if (us < 1u << LOWEST_SHIFT) {
        return 0;
    }
    log = 63u - (unsigned)__builtin_clzll(us);
    bucket = ((log - LOWEST_SHIFT) << BUCKET_SHIFT) +
             (unsigned)((us >> (log - BUCKET_SHIFT)) & ((1u << BUCKET_SHIFT) - 1));
    return bucket < STRAIN_BUCKETS ? bucket : STRAIN_BUCKETS - 1;
}

/* The lower bound of a bucket. */
static uint64_t bucket_us(unsigned bucket)
{
    uint64_t part = (bucket & ((1u << BUCKET_SHIFT) - 1)) + (1u << BUCKET_SHIFT);

    ASSERT(bucket < STRAIN_BUCKETS);
    return part << ((bucket >> BUCKET_SHIFT) + LOWEST_SHIFT - BUCKET_SHIFT);
}

void strain_init(struct strain *strain, uint64_t now_ms)
{
    *strain = (struct strain){.window_ms = now_ms};
}

void strain_add(struct strain *strain, uint64_t latency_us)
{
    strain->counts[bucket_of(latency_us)]++;
    strain->n++;
}

void strain_note_copy(struct strain *strain)
{
    strain->was_copied = true;
}

/* The shortest latency of the slowest ones. */
static uint64_t tail_us(const struct strain *strain)
{
    uint32_t left = strain->n / SLOWEST + 1;
    unsigned bucket = STRAIN_BUCKETS - 1;
    uint64_t us;

    ASSERT(strain->n >= left);
    while (strain->counts[bucket] < left) {
        left -= strain->counts[bucket];
        ASSERT(bucket > 0);
        bucket--;
    }
    us = bucket_us(bucket);
    return us > TOO_SHORT_US ? us : TOO_SHORT_US;
}

static void end_window(struct strain *strain)
{
    uint64_t tail = tail_us(strain), usual = strain->usual_us, percent;

    if (!strain->was_copied) {
        /* A window far above the others is taken for twice what is usual. */
        tail = usual != 0 && tail > 2 * usual ? 2 * usual : tail;
        strain->usual_us = usual == 0 ? tail : (3 * usual + tail) / 4;
        strain->percent = 100;
    } else if (usual != 0) {
        percent = tail * 100 / usual;
        strain->percent = percent < MAX_PERCENT ? (uint32_t)percent + 1 : MAX_PERCENT;
    }
}

void strain_step(struct strain *strain, uint64_t now_ms)
{
    uint64_t elapsed_ms = now_ms - strain->window_ms;

    ASSERT(now_ms >= strain->window_ms);
    if (elapsed_ms < STRAIN_WINDOW_MS || (strain->n < FEW && elapsed_ms < MAX_WINDOW_MS)) {
        return;
    }
    if (strain->n >= FEW) {
        end_window(strain);
    } else {
        strain->percent = 100;
    }
    *strain = (struct strain){
        .window_ms = now_ms, .usual_us = strain->usual_us, .percent = strain->percent};
}

uint32_t strain_percent(const struct strain *strain)
{
    return strain->percent;
}
