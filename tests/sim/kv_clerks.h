/* kv_clerks: clients that work without end, each on random keys of the sixty (kv_keys.h), and note
 * all they do in a history, which must be linearizable at the end. It is the public suite's client
 * of 2025: get a key, then write it on the condition that it is still what was read; here one write
 * in eight is an append and one a delete, so that all operations are in the history.
 *
 * An operation begins when the one before it ends, within the same event: the world may be run by
 * anybody, in any pieces.
 */
#ifndef TESTS_SIM_KV_CLERKS_H
#define TESTS_SIM_KV_CLERKS_H

#include "tests/sim/kv_keys.h"

struct kv_clerks;

/* pause_ms: between a clerk's operations. The keys are the clerks' from now on. */
struct kv_clerks *kv_clerks_create(struct kv_keys *keys, size_t n, uint64_t pause_ms);
uint64_t kv_clerks_done(const struct kv_clerks *clerks); /* operations that ended */
/* Begins nothing more and waits for what is outstanding, at most 120 s; checks the history; prints
 * how many operations there were and the longest that one of them lasted. */
void kv_clerks_finish(struct kv_clerks **clerks, const char *name);

#endif
