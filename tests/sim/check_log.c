/* Entries, commit and apply. By induction over the table of entries ever held, equal (index, term)
 * means equal logs up to there; so one comparison at the end of a log stands for all of it. */
#include "raft/util/crc32c.h"
#include "tests/sim/check_raft_internal.h"

/* ---- Log matching ---- */

static uint32_t checksum_of(const struct raft_entry *entry)
{
    uint8_t type = (uint8_t)entry->type;
    struct slice data = blob_slice(entry->data);

    return crc32c(crc32c(0, &type, 1), data.data, data.len);
}

static uint32_t *first_of(struct check_group *group, raft_index index)
{
    if (index >= group->n_seen_first) {
        size_t n = 2 * (size_t)index + 64;

        group->seen_first = mem_realloc(group->seen_first, n * sizeof(group->seen_first[0]));
        memset(group->seen_first + group->n_seen_first, 0,
               (n - group->n_seen_first) * sizeof(group->seen_first[0]));
        group->n_seen_first = n;
    }
    return &group->seen_first[index];
}

void check_log_entry(struct check_replica *replica, const struct raft_entry *entry,
                     raft_term prev_term)
{
    struct check_group *group = replica->group;
    uint32_t *first = first_of(group, entry->index), checksum = checksum_of(entry);

    /* "If two entries in different logs have the same index and term, then they store the same
     * command, and the logs are identical in all preceding entries" (paper 5.3). */
    for (uint32_t at = *first; at != 0; at = group->seen[at - 1].next) {
        const struct check_seen *seen = &group->seen[at - 1];

        if (seen->term == entry->term) {
            if (seen->checksum != checksum || seen->prev_term != prev_term) {
                check_raft_fail(replica, "log matching",
                                "entry %llu of term %llu: %s (the one before is of term %llu, was "
                                "of %llu)",
                                (unsigned long long)entry->index, (unsigned long long)entry->term,
                                seen->checksum != checksum ? "another content" : "another history",
                                (unsigned long long)prev_term, (unsigned long long)seen->prev_term);
            }
            return;
        }
    }
    MEM_GROW(group->seen, group->seen_capacity, group->n_seen + 1);
    group->seen[group->n_seen] = (struct check_seen){entry->term, prev_term, checksum, *first};
    *first = (uint32_t)++group->n_seen;
}

/* ---- Committed ---- */

static struct check_committed *committed_at(struct check_group *group, raft_index index)
{
    if (index >= group->committed_capacity) {
        size_t n = 2 * (size_t)index + 64;

        group->committed = mem_realloc(group->committed, n * sizeof(group->committed[0]));
        memset(group->committed + group->committed_capacity, 0,
               (n - group->committed_capacity) * sizeof(group->committed[0]));
        group->committed_capacity = n;
    }
    return &group->committed[index];
}

static void check_agrees(const struct check_replica *replica, raft_index index)
{
    const struct check_committed *committed = committed_at(replica->group, index);
    raft_term term = check_replica_term(replica, index);

    if (committed->term != 0 && committed->term != term) {
        check_raft_fail(replica, "committed entries",
                        "entry %llu is committed as of term %llu, here it is of term %llu",
                        (unsigned long long)index, (unsigned long long)committed->term,
                        (unsigned long long)term);
    }
}

/* The replica holds everything up to `commit` committed: new entries of the table, the others as
 * they are there. */
static void check_commit(struct check_replica *replica, const struct raft *raft, raft_index from,
                         raft_index commit)
{
    struct check_group *group = replica->group;

    if (commit > check_replica_last(replica)) {
        check_raft_fail(replica, "committed entries", "it commits up to %llu, its log ends at %llu",
                        (unsigned long long)commit,
                        (unsigned long long)check_replica_last(replica));
    }
    for (raft_index i = from > replica->base ? from : replica->base; i <= commit; i++) {
        const struct raft_entry *entry;

        if (i == 0) {
            continue;
        }
        if (i <= group->committed_last) {
            check_agrees(replica, i);
            continue;
        }
        if (i != group->committed_last + 1) {
            check_raft_fail(replica, "committed entries",
                            "its log begins after %llu, nobody committed more than %llu",
                            (unsigned long long)i, (unsigned long long)group->committed_last);
        }
        *committed_at(group, i) = (struct check_committed){.term = check_replica_term(replica, i),
                                                           .by_term = raft_current_term(raft)};
        group->committed_last = i;
        entry = raft_entry_at(raft, i);
        if (entry != NULL) {
            check_raft_tell_committed(group, entry);
        }
    }
}

/* "If a log entry is committed in a given term, then that entry will be present in the logs of the
 * leaders for all higher-numbered terms" (paper, Figure 3). The last such stands for all. */
void check_log_elected(struct check_replica *replica, const struct raft *raft)
{
    struct check_group *group = replica->group;
    raft_term term = raft_current_term(raft);
    raft_index index = group->committed_last;

    while (index > replica->base && group->committed[index].by_term >= term) {
        index--; /* committed by a later leader, before this one heard of its election */
    }
    if (index <= replica->base) {
        return;
    }
    if (index > check_replica_last(replica) ||
        check_replica_term(replica, index) != group->committed[index].term) {
        check_raft_fail(replica, "leader completeness",
                        "elected in term %llu with a log to %llu, it lacks entry %llu of term "
                        "%llu, committed in term %llu",
                        (unsigned long long)term, (unsigned long long)check_replica_last(replica),
                        (unsigned long long)index, (unsigned long long)group->committed[index].term,
                        (unsigned long long)group->committed[index].by_term);
    }
}

/* ---- Applied ---- */

/* Cluster time never falls: against the last entry before this one after which any was looked at.
 */
static void check_stamp_grows(struct check_replica *replica, raft_index index, uint64_t stamp)
{
    raft_index before = index;

    while (before > 1 && committed_at(replica->group, before - 1)->stamp == 0) {
        before--;
    }
    if (before > 1 && committed_at(replica->group, before - 1)->stamp > stamp) {
        check_raft_fail(replica, "cluster time never falls",
                        "after entry %llu it is at %llu, after entry %llu it was at %llu",
                        (unsigned long long)index, (unsigned long long)stamp - 1,
                        (unsigned long long)before - 1,
                        (unsigned long long)committed_at(replica->group, before - 1)->stamp - 1);
    }
}

/* Cluster time after an entry is a function of all entries up to it. */
static void check_stamp(struct check_replica *replica, const struct group *group, raft_index index)
{
    struct check_committed *committed = committed_at(replica->group, index);
    uint64_t stamp = group_last_stamp(group) + 1;

    if (committed->stamp != 0 && committed->stamp != stamp) {
        check_raft_fail(replica, "state machine safety",
                        "after entry %llu it is at cluster time %llu, another was at %llu",
                        (unsigned long long)index, (unsigned long long)stamp - 1,
                        (unsigned long long)committed->stamp - 1);
    }
    if (committed->stamp == 0) {
        check_stamp_grows(replica, index, stamp);
    }
    committed->stamp = stamp;
}

static void check_applied(struct check_replica *replica, const struct group *group)
{
    const struct group_stats *stats = group_statistics(group);
    raft_index applied = group_applied_index(group);

    if (applied < replica->applied_index || applied > raft_commit_index(group_raft(group))) {
        check_raft_fail(replica, "state machine safety",
                        "applied up to %llu, before up to %llu, committed up to %llu",
                        (unsigned long long)applied, (unsigned long long)replica->applied_index,
                        (unsigned long long)raft_commit_index(group_raft(group)));
    }
    /* One by one, but for a jump to a snapshot. */
    if (stats->snapshots_installed == replica->snapshots_installed &&
        stats->entries_applied - replica->entries_applied != applied - replica->applied_index) {
        check_raft_fail(replica, "state machine safety",
                        "from %llu to %llu it applied %llu entries",
                        (unsigned long long)replica->applied_index, (unsigned long long)applied,
                        (unsigned long long)(stats->entries_applied - replica->entries_applied));
    }
    replica->applied_index = applied;
    replica->entries_applied = stats->entries_applied;
    replica->snapshots_installed = stats->snapshots_installed;
    check_stamp(replica, group, applied);
}

/* ---- What happens ---- */

void check_log_started(struct check_replica *replica, const struct group *group)
{
    const struct raft *raft = group_raft(group);
    const struct group_stats *stats = group_statistics(group);

    replica->commit_index = raft_commit_index(raft);
    if (replica->commit_index > replica->group->committed_last) {
        check_raft_fail(replica, "committed entries",
                        "it starts with %llu committed, nobody committed more than %llu",
                        (unsigned long long)replica->commit_index,
                        (unsigned long long)replica->group->committed_last);
    }
    check_commit(replica, raft, 0, replica->commit_index);
    replica->applied_index = group_applied_index(group);
    replica->entries_applied = stats->entries_applied;
    replica->snapshots_installed = stats->snapshots_installed;
    if (replica->applied_index > 0) {
        check_stamp(replica, group, replica->applied_index);
    }
}

void check_log_stepped(struct check_replica *replica, const struct group *group)
{
    const struct raft *raft = group_raft(group);
    raft_index commit = raft_commit_index(raft);

    if (commit < replica->commit_index) {
        check_raft_fail(replica, "commit monotonic", "its commit index fell from %llu to %llu",
                        (unsigned long long)replica->commit_index, (unsigned long long)commit);
    }
    if (commit > replica->commit_index) {
        check_commit(replica, raft, replica->commit_index + 1, commit);
        /* "Only log entries from the leader's current term are committed by counting replicas"
         * (paper 5.4.2). */
        if (replica->was_leading && raft_role(raft) == RAFT_LEADER &&
            raft_term_at(raft, commit) != raft_current_term(raft)) {
            check_raft_fail(replica, "commit by own term",
                            "leading term %llu it commits up to %llu, of term %llu",
                            (unsigned long long)raft_current_term(raft), (unsigned long long)commit,
                            (unsigned long long)raft_term_at(raft, commit));
        }
        replica->commit_index = commit;
    }
    /* One that halted in the middle of an apply or an install comes to nothing any more. */
    if (group_applied_index(group) != replica->applied_index && !group_is_halted(group)) {
        check_applied(replica, group);
    }
}
