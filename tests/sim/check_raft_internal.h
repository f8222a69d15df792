/* Shared by check_raft.c (what is looked at), check_election.c and check_log.c (the rules). */
#ifndef TESTS_SIM_CHECK_RAFT_INTERNAL_H
#define TESTS_SIM_CHECK_RAFT_INTERNAL_H

#include "raft/util/assert.h"
#include "raft/util/mem.h"
#include "tests/sim/check.h"
#include "tests/sim/check_raft.h"

/* An entry that some log held, under its index; several terms may have had one. */
struct check_seen {
    raft_term term;
    raft_term prev_term;
    uint32_t checksum; /* of type and data */
    uint32_t next;     /* the next of this index, as a position + 1; 0: none */
};

struct check_committed {
    raft_term term;    /* of the entry; 0: not known */
    raft_term by_term; /* that of the replica which held it committed first */
    uint64_t stamp;    /* cluster time + 1 after applying it; 0: nobody was looked at there */
};

/* What is known of one group, over all its history. */
struct check_group {
    struct check_raft *check;
    group_id gid;
    raft_id *leaders; /* by term; 0: none seen */
    size_t n_terms;
    struct check_seen *seen;
    size_t n_seen, seen_capacity;
    uint32_t *seen_first; /* by index, a position + 1 */
    size_t n_seen_first;
    struct check_committed *committed; /* by index; [0] is unused */
    size_t committed_capacity;
    raft_index committed_last;
};

/* What is known of one replica. Of its log: the terms of the entries base+1..base+n_terms. */
struct check_replica {
    struct check_group *group;
    raft_id id;
    uint32_t incarnation; /* as the world counts them; 0: not seen yet */
    bool forgotten;       /* wiped or of another cluster: not looked at */

    /* Over all its lives. */
    raft_term said_term; /* the highest that it said it was in */
    uint8_t *votes;      /* by term: for whom it voted */
    size_t n_votes;
    raft_index acked_index;  /* it said that its log holds everything up to here durably */
    raft_term acked_term;    /* the term of that entry */
    raft_term acked_in_term; /* the term in which it said so */

    /* In this life. */
    raft_term term;
    raft_term leads_term; /* it leads, at this look, in this term; 0: it does not */
    bool was_leading;     /* at the look before, in the same term */
    raft_index commit_index, applied_index;
    uint64_t entries_applied, snapshots_installed; /* as it counts them */

    raft_index base;
    raft_term base_term;
    raft_term *terms;
    size_t skip; /* of the array: entries that were compacted */
    size_t n_terms, terms_capacity;
};

/* How a log changed since the last look: what was above `kept` was removed, then it grew. */
struct check_change {
    raft_index old_last, kept;
    bool reset; /* by a snapshot of another history */
};

static inline raft_index check_replica_last(const struct check_replica *replica)
{
    return replica->base + replica->n_terms;
}

/* The term of an index from base on. */
static inline raft_term check_replica_term(const struct check_replica *replica, raft_index index)
{
    ASSERT(index >= replica->base && index <= check_replica_last(replica));
    return index == replica->base ? replica->base_term
                                  : replica->terms[replica->skip + (index - replica->base - 1)];
}

/* check_fail, with the group, the replica and the time. */
_Noreturn void check_raft_fail(const struct check_replica *replica, const char *invariant,
                               const char *format, ...) __attribute__((format(printf, 3, 4)));
/* An entry is committed: tells the further checkers. */
void check_raft_tell_committed(const struct check_group *group, const struct raft_entry *entry);

/* ---- check_election.c ---- */

/* A start: what was said in earlier lives must hold. The shadow is that of the new log. */
void check_election_started(struct check_replica *replica, const struct raft *raft);
void check_election_stepped(struct check_replica *replica, const struct raft *raft,
                            const struct check_change *change);
/* raft may be NULL: the server is just being made. */
void check_election_sent(struct check_replica *replica, const struct raft *raft,
                         struct slice message);

/* ---- check_log.c ---- */

/* An entry is new in a log. */
void check_log_entry(struct check_replica *replica, const struct raft_entry *entry,
                     raft_term prev_term);
void check_log_started(struct check_replica *replica, const struct group *group);
/* It was just elected. */
void check_log_elected(struct check_replica *replica, const struct raft *raft);
void check_log_stepped(struct check_replica *replica, const struct group *group);

#endif
