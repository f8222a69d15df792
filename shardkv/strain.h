/* strain: how much longer clients wait while shards are copied than they do otherwise.
 *
 * Time is cut into windows. Of each the tail of the clients' latencies is taken, as one of the
 * slowest in thirty had it. Windows in which nothing was copied tell what is usual, which follows
 * slowly, so that one odd window counts little; the last one in which something was copied, divided
 * by that, is the strain, in percent.
 */
#ifndef SHARDKV_STRAIN_H
#define SHARDKV_STRAIN_H

#include <stdbool.h>
#include <stdint.h>

#define STRAIN_WINDOW_MS 200 /* at least; longer while few clients ask */
#define STRAIN_BUCKETS   128

struct strain {
    uint32_t counts[STRAIN_BUCKETS]; /* of this window, by latency */
    uint32_t n;
    uint64_t window_ms; /* it began */
    bool was_copied;    /* in this window */
    uint64_t usual_us;  /* without copies; 0: not known */
    uint32_t percent;
};

void strain_init(struct strain *strain, uint64_t now_ms);
/* A client was answered after so long. */
void strain_add(struct strain *strain, uint64_t latency_us);
/* A piece of a shard came or went. */
void strain_note_copy(struct strain *strain);
/* Ends the window if it is time. */
void strain_step(struct strain *strain, uint64_t now_ms);
/* 100: as without copies, or there are hardly any clients; 0: what is usual is not known. */
uint32_t strain_percent(const struct strain *strain);

#endif
