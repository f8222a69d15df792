/* nng_threads: how many of nng's threads run callbacks. */
#ifndef RAFT_NET_NNG_THREADS_H
#define RAFT_NET_NNG_THREADS_H

#include <stdbool.h>

/* From now on all callbacks of nng in this process run on one and the same thread. For programs
 * that use nng through net alone: nothing that a callback does may wait for another callback. Does
 * its work once a process, can't be undone, and any thread may call it. False: nng has not done as
 * it should, and more than one thread may be left; nothing else changes. */
bool nng_threads_keep_one(void);

#endif
