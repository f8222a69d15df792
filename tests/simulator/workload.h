/* workload: clients with the shipped clerk that read and write shared keys, and the history of it.
 *
 * Operations begin at random moments, of random clients. Keys are few, some of them hot, and in
 * pairs that share a shard, so that one write can touch both. Every value written is unlike any
 * other, so the history tells who saw whose write.
 */
#ifndef TESTS_SIMULATOR_WORKLOAD_H
#define TESTS_SIMULATOR_WORKLOAD_H

#include "tests/simulator/run.h"

struct workload *workload_create(struct run *run);
void workload_destroy(struct workload **workload);

/* How many operations begin in this millisecond; begins them. */
void workload_begin(struct workload *workload);
/* The client ends amid its operations; another one takes its place. */
void workload_replace_client(struct workload *workload, size_t client);
/* The client's number in the world. */
size_t workload_client_number(const struct workload *workload, size_t client);
size_t workload_outstanding(const struct workload *workload);

/* After the faults: every client writes and reads; each must end well within `ms`. */
void workload_serve_again(struct workload *workload, uint64_t ms);
/* Reads every key once more, into the history. */
void workload_read_all(struct workload *workload, uint64_t ms);
const struct history *workload_history(const struct workload *workload);

#endif
