/* The checkers: the invariants of Raft between replicas, looked at after each step. */
#include "raft/core/quorum.h"
#include "tests/sim/core_harness_internal.h"

static uint64_t digest_of(struct slice bytes)
{
    uint64_t digest = bytes.len;

    for (size_t i = 0; i < bytes.len; i++) {
        digest = cores_mix(digest, bytes.data[i]);
    }
    return digest;
}

void cores_check_seen(struct cores *cores, const struct raft_entry *entry, raft_term prev)
{
    uint64_t data = digest_of(blob_slice(entry->data));
    size_t at = cores_mix(entry->index, entry->term) & (cores->seen_capacity - 1);

    for (;; at = (at + 1) & (cores->seen_capacity - 1)) {
        struct seen_entry *seen = &cores->seen[at];

        if (seen->index == 0) {
            *seen = (struct seen_entry){entry->index, entry->term, prev, data};
            return;
        }
        if (seen->index == entry->index && seen->term == entry->term) {
            /* Log matching: same index and term, same entry and same entry before. */
            assert_true(seen->data == data && seen->prev_term == prev);
            return;
        }
    }
}

void cores_check_leader(struct cores *cores, const struct core_node *node)
{
    raft_term term = raft_current_term(node->raft);

    if (raft_role(node->raft) != RAFT_LEADER) {
        return;
    }
    assert_true(term < CORES_TERMS);
    if (cores->leader_of_term[term] == node->id) {
        return;
    }
    /* Election safety: at most one leader a term. */
    assert_int_equal(cores->leader_of_term[term], 0);
    cores->leader_of_term[term] = node->id;
    if (cores->forced) {
        return;
    }
    /* Leader completeness: it has everything that was committed before. */
    assert_true(raft_last_index(node->raft) >= cores->committed_max);
    for (raft_index i = raft_first_index(node->raft); i <= cores->committed_max; i++) {
        assert_true(raft_term_at(node->raft, i) == cores->committed[i].term);
    }
}

/* The configuration by which the entries were counted that a step committed. What a leader appended
 * because of it, at the end of the step, is later. */
static const struct raft_configuration *counted_by(const struct core_node *node,
                                                   struct raft_configuration *before)
{
    raft_index last = raft_last_index(node->raft);
    const struct raft_entry *entry = raft_entry_at(node->raft, last);

    if (entry == NULL || entry->type != RAFT_ENTRY_CONFIGURATION ||
        last != node->stepped_last_index || last == raft_first_index(node->raft)) {
        return raft_latest_configuration(node->raft);
    }
    raft_configuration_at(node->raft, last - 1, before);
    return before;
}

/* An entry is newly committed: a majority must hold it durably. */
static void check_durable_majority(struct cores *cores, const struct core_node *node,
                                   raft_index index, raft_term term)
{
    struct raft_configuration before;
    const struct raft_configuration *configuration = counted_by(node, &before);
    struct id_set holders = {0}, none = {0};

    for (size_t i = 0; i < configuration->n; i++) {
        const struct raft_server *server = &configuration->servers[i];
        raft_id id = server->id <= CORES_NODES ? server->id : 0; /* 0: nobody is there */
        const struct core_disk *disk = &cores->nodes[id].disk;
        bool is_it = id != 0 && (server->incarnation == 0 ||
                                 server->incarnation == cores->nodes[id].incarnation);

        if (is_it && (core_disk_term_at(disk, index) == term || disk->begin_index >= index ||
                      disk->state_index >= index)) {
            id_set_add(&holders, server->id);
        }
    }
    assert_true(!cores->static_members ||
                quorum_vote(configuration, &holders, &none) == QUORUM_WON);
}

void cores_apply_one(struct cores *cores, struct core_node *node, raft_index index)
{
    const struct raft_entry *entry = raft_entry_at(node->raft, index);
    struct committed *committed = &cores->committed[index];
    uint64_t data;

    assert_non_null(entry);
    data = digest_of(blob_slice(entry->data));
    node->digest = cores_mix(node->digest, cores_mix(entry->term, data));
    node->applied_index = index;
    if (index > cores->committed_max) {
        assert_true(index == cores->committed_max + 1 && index < CORES_INDEXES);
        check_durable_majority(cores, node, index, entry->term);
        *committed = (struct committed){entry->term, data, node->digest};
        cores->committed_max = index;
    }
    /* State-machine safety: nobody applies another entry at this index. */
    assert_true(committed->term == entry->term && committed->data == data);
    assert_true(committed->digest == node->digest);
}
