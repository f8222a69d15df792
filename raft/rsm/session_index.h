/* Session index: the records of a table by client id. A hash table, open, with the hash beside the
 * record: a look-up touches one place of the table and the beginning of one record. Never walked.
 * The capacity depends on how many there were at most, so memory is not given back.
 */
#ifndef RAFT_RSM_SESSION_INDEX_H
#define RAFT_RSM_SESSION_INDEX_H

#include <stdint.h>

struct session_record;

struct session_slot {
    uint64_t hash;
    struct session_record *record; /* NULL: an empty slot */
};

/* All zero: empty. */
struct session_index {
    struct session_slot *slots; /* a power of two of them, or none */
    uint32_t n_slots;
    uint32_t n;
};

void session_index_fini(struct session_index *index);
/* The record of a client, whose id is 16 bytes; NULL for none. */
struct session_record *session_index_find(const struct session_index *index, const void *client);
/* Its client has none yet. */
void session_index_add(struct session_index *index, struct session_record *record);
/* It is there. */
void session_index_remove(struct session_index *index, const struct session_record *record);

#endif
