/* copy_pace: see copy_pace.h. */
#include "shardkv/copy_pace.h"

#include "raft/util/assert.h"

#define BUSY_LOAD    100    /* client operations a second that are worth yielding to */
#define BURST_US     200000 /* of the rate, saved up while nothing was copied */
#define SOURCE_MS    1000   /* for so long counts what a source said */
#define WINDOW_MS    200    /* from one look at what clients feel to the next */
#define HOLD_MS      500    /* nothing is asked for so long, to learn what is usual */
#define LEARN_MS     10000  /* so often */
#define NOT_KNOWN_MS 2000   /* or if nothing is known yet */
#define FORGET_MS    1000   /* longer than any rest, no piece: what the last copy did to clients */

/* Bytes a second while clients are served. */
#define FIRST_RATE  (2u << 20)
#define LOWEST_RATE (1u << 20)
#define MAX_RATE    (64u << 20)

/* A piece takes so much of a second: 8 ms. But each costs two commits and a look into the state,
 * whatever its size: small ones cost more than they spare. */
#define PIECES_PER_S  128
#define LOWEST_BYTES  (64u << 10)
#define SLOW_ROUNDS   2
#define MAX_DOUBLINGS 8
#define MAX_REST_MS   1000

/* What clients feel, in percent of what is usual. The aim is below 200 for the slowest hundredth
 * over a whole copy: so most of the time it must be clearly less. */
#define FELT_LITTLE   120
#define FELT_ENOUGH   145
#define FELT_TOO_MUCH 165
#define FELT_BADLY    230
#define FELT_MOST     400 /* one odd moment counts no more */

void copy_pace_init(struct copy_pace *pace, uint64_t bytes_per_s)
{
    *pace =
        (struct copy_pace){.bytes_per_s = bytes_per_s, .yielding_per_s = FIRST_RATE, .felt = 100};
}

/* Of several sources the one counts that is worst off. */
void copy_pace_hear(struct copy_pace *pace, uint32_t load, uint32_t strain, uint64_t now_ms)
{
    ASSERT(now_ms >= pace->source_ms);
    if (strain > pace->source_strain ||
        (strain == pace->source_strain && load >= pace->source_load) ||
        now_ms - pace->source_ms >= WINDOW_MS) {
        pace->source_load = load;
        pace->source_strain = strain;
        pace->source_ms = now_ms;
    }
}

static bool source_counts(const struct copy_pace *pace, uint64_t now_ms)
{
    return pace->source_load > 0 && now_ms < pace->source_ms + SOURCE_MS;
}

bool copy_pace_yields(const struct copy_pace *pace, uint32_t load, uint64_t now_ms)
{
    return load >= BUSY_LOAD || (source_counts(pace, now_ms) && pace->source_load >= BUSY_LOAD);
}

static uint64_t rate_of_round(const struct copy_pace *pace, uint32_t round)
{
    uint32_t doublings = round > SLOW_ROUNDS ? round - SLOW_ROUNDS : 0;

    return pace->yielding_per_s << (doublings < MAX_DOUBLINGS ? doublings : MAX_DOUBLINGS);
}

void copy_pace_spend(struct copy_pace *pace, uint64_t bytes, uint32_t round, uint64_t began_ms,
                     uint64_t now_ms)
{
    uint64_t from_us = pace->due_us, now_us = now_ms * 1000;

    ASSERT(began_ms <= now_ms);
    pace->piece_ms = now_ms;
    pace->window_bytes += bytes;
    pace->yielding_due_us = began_ms * 1000 + bytes * 1000000 / rate_of_round(pace, round);
    if (pace->yielding_due_us > now_us + MAX_REST_MS * 1000) {
        pace->yielding_due_us = now_us + MAX_REST_MS * 1000;
    }
    if (pace->bytes_per_s == 0) {
        return;
    }
    if (from_us + BURST_US < now_us) {
        from_us = now_us - BURST_US;
    }
    pace->due_us = from_us + bytes * 1000000 / pace->bytes_per_s;
}

/* Here or at the source, where it is more; smoothed, as one moment says little. */
static void smooth_felt(struct copy_pace *pace, uint32_t strain, uint64_t now_ms)
{
    uint32_t percent = source_counts(pace, now_ms) ? pace->source_strain : 0;

    percent = strain > percent ? strain : percent;
    percent = percent < FELT_MOST ? percent : FELT_MOST;
    if (percent > 0) {
        pace->felt = (3 * pace->felt + percent + 2) / 4;
    }
}

static void change_rate(struct copy_pace *pace, bool was_used)
{
    uint64_t rate = pace->yielding_per_s;

    if (pace->felt > FELT_BADLY) {
        rate -= rate / 4;
    } else if (pace->felt > FELT_TOO_MUCH) {
        rate -= rate / 8;
    } else if (was_used && pace->felt < FELT_LITTLE) {
        rate += rate / 8;
    } else if (was_used && pace->felt < FELT_ENOUGH) {
        rate += rate / 32;
    }
    rate = rate < MAX_RATE ? rate : MAX_RATE;
    pace->yielding_per_s = rate > LOWEST_RATE ? rate : LOWEST_RATE;
}

void copy_pace_follow(struct copy_pace *pace, uint32_t load, uint32_t strain, uint64_t now_ms)
{
    uint64_t elapsed_ms = now_ms - pace->window_ms;
    uint64_t was_due = pace->yielding_per_s * WINDOW_MS / 1000;
    bool is_known = strain > 0 && (!source_counts(pace, now_ms) || pace->source_strain > 0);

    ASSERT(now_ms >= pace->window_ms && pace->yielding_per_s > 0);
    if (!copy_pace_yields(pace, load, now_ms)) { /* nobody is there to feel anything */
        pace->window_ms = now_ms;
        pace->window_bytes = 0;
        return;
    }
    if (elapsed_ms < WINDOW_MS) {
        return;
    }
    if (pace->window_bytes == 0) { /* what is usual is being learned anyway */
        pace->hold_ms = now_ms + LEARN_MS;
        if (now_ms >= pace->piece_ms + MAX_REST_MS + FORGET_MS) {
            pace->felt = 100; /* no copy is under way: after a large piece it rests for windows */
        }
    } else {
        smooth_felt(pace, strain, now_ms);
        change_rate(pace, pace->window_bytes >= was_due / 2);
    }
    if (now_ms >= pace->hold_ms ||
        (!is_known && now_ms + LEARN_MS >= pace->hold_ms + NOT_KNOWN_MS)) {
        pace->held_until_ms = now_ms + HOLD_MS;
        pace->hold_ms = now_ms + LEARN_MS;
    }
    pace->window_ms = now_ms;
    pace->window_bytes = 0;
}

static uint64_t later_of(uint64_t now_ms, uint64_t due_us)
{
    uint64_t due_ms = (due_us + 999) / 1000;

    return due_ms > now_ms ? due_ms : now_ms;
}

uint64_t copy_pace_next_of_round_ms(const struct copy_pace *pace, uint32_t load, uint64_t now_ms)
{
    return copy_pace_yields(pace, load, now_ms) ? later_of(now_ms, pace->yielding_due_us) : now_ms;
}

uint64_t copy_pace_next_ms(const struct copy_pace *pace, uint32_t load, uint64_t now_ms)
{
    uint64_t next_ms = copy_pace_next_of_round_ms(pace, load, now_ms);

    if (copy_pace_yields(pace, load, now_ms) && pace->held_until_ms > next_ms) {
        next_ms = pace->held_until_ms;
    }
    return later_of(next_ms, pace->due_us);
}

uint32_t copy_pace_piece_bytes(const struct copy_pace *pace, uint32_t max_bytes, uint32_t round,
                               uint32_t load, uint64_t now_ms)
{
    uint64_t bytes = rate_of_round(pace, round) / PIECES_PER_S;

    if (!copy_pace_yields(pace, load, now_ms)) {
        return max_bytes;
    }
    bytes = bytes > LOWEST_BYTES ? bytes : LOWEST_BYTES;
    return bytes < max_bytes ? (uint32_t)bytes : max_bytes;
}
