/* noted: what a source knows by heart of its change log (kv_copy.c), so that a write to a key that
 * is noted already reads nothing from the state.
 *
 * A memory of what the state says too: it never decides anything, and may be forgotten at any time,
 * as it is by a restart. While it is complete, what is not in it is not in the log either. It is
 * made with a bound in bytes, for keys may be long; beyond that it takes no more entries and is not
 * complete any longer. Clients choose the names, so their hash has a seed that clients don't know.
 */
#ifndef SHARDKV_NOTED_H
#define SHARDKV_NOTED_H

#include "shardkv/shard.h"

struct noted;

/* Of one record or session. Valid until the next call. */
struct noted_entry {
    uint64_t number;         /* in the change log; 0: not in it */
    bool is_known;           /* what stands in the state: if not, only the number is */
    struct shard_sum record; /* of that; count 0: there is none */
};

/* is_complete: the change log is empty. The seed is seen in nothing but the time it takes. */
struct noted *noted_create(size_t max_bytes, uint64_t seed, bool is_complete);
void noted_destroy(struct noted **noted);
/* The entry of the name (kind and key), or NULL. */
struct noted_entry *noted_find(const struct noted *noted, struct slice name);
/* One that is not there is made, empty; NULL: there is no room. */
struct noted_entry *noted_add(struct noted *noted, struct slice name);
bool noted_is_complete(const struct noted *noted);

#endif
