/* The sentences of the tests: elect, propose, read, transfer, compare. */
#include <stdio.h>

#include "tests/sim/core_harness_internal.h"

void cores_timeout(struct cores *cores, raft_id id)
{
    uint64_t quiet = cores->now_ms + cores->options.election_timeout_ms;
    uint64_t deadline = raft_next_deadline_ms(core_of(cores, id));

    cores->now_ms = deadline > quiet ? deadline : quiet;
    cores_tick(cores, id);
}

void cores_elect(struct cores *cores, raft_id id)
{
    cores_timeout(cores, id);
    cores_settle(cores);
    assert_int_equal(raft_role(core_of(cores, id)), RAFT_LEADER);
}

raft_id cores_leader(struct cores *cores)
{
    raft_id leader = 0;

    for (raft_id id = 1; id <= cores->n; id++) {
        struct raft *raft = cores->nodes[id].raft;

        if (raft != NULL && raft_role(raft) == RAFT_LEADER &&
            (leader == 0 ||
             raft_current_term(raft) > raft_current_term(cores->nodes[leader].raft))) {
            leader = id;
        }
    }
    return leader;
}

enum status cores_propose_sized(struct cores *cores, raft_id id, size_t n, size_t len)
{
    struct blob **commands = mem_zalloc(n * sizeof(*commands));
    struct raft_event event = {.type = RAFT_EVENT_PROPOSE};
    enum status status;

    for (size_t i = 0; i < n; i++) {
        commands[i] = blob_create_uninitialized((uint32_t)(len < 8 ? 8 : len));
        memset(commands[i]->data, 'x', commands[i]->len);
        set_u64(commands[i]->data, ++cores->last_command);
    }
    event.propose.commands = commands;
    event.propose.n = n;
    cores_step(cores, id, &event);
    status = cores->last.status;
    assert_true(status != ST_OK || /* its own place, whatever else the step appended */
                raft_entry_at(core_of(cores, id), cores->last.first_index)->type ==
                    RAFT_ENTRY_COMMAND);
    for (size_t i = 0; i < n && status != ST_OK; i++) {
        blob_unref(&commands[i]);
    }
    mem_free(commands);
    return status;
}

enum status cores_propose(struct cores *cores, raft_id id)
{
    return cores_propose_sized(cores, id, 1, 8);
}

uint64_t cores_read(struct cores *cores, raft_id id)
{
    struct raft_event event = {.type = RAFT_EVENT_READ};
    uint64_t read = cores->n_reads++;

    ASSERT(cores->n_reads <= CORES_READS);
    cores->reads[read].committed_before = cores->committed_max;
    event.read.id = read;
    cores_step(cores, id, &event);
    if (cores->last.status != ST_OK) {
        cores->reads[read].answered = true;
        cores->reads[read].status = cores->last.status;
    }
    return read;
}

void cores_read_more(struct cores *cores, raft_id id)
{
    if (cores->n_reads < CORES_READS) {
        cores_read(cores, id);
    }
}

uint64_t cores_count_leaders(const struct cores *cores)
{
    uint64_t n = 0;

    for (size_t term = 0; term < CORES_TERMS; term++) {
        n += cores->leader_of_term[term] != 0;
    }
    return n;
}

enum status cores_transfer(struct cores *cores, raft_id from, raft_id to)
{
    struct raft_event event = {.type = RAFT_EVENT_TRANSFER};

    event.transfer.to = to;
    cores_step(cores, from, &event);
    return cores->last.status;
}

enum status cores_configure(struct cores *cores, raft_id at, enum raft_change_kind kind, raft_id id)
{
    struct raft_event event = {.type = RAFT_EVENT_CONFIGURE};
    char address[64];

    snprintf(address, sizeof(address), "tcp://node%u:7000", id);
    event.change = (struct raft_change){.kind = kind, .id = id, .address = address};
    cores_step(cores, at, &event);
    assert_non_null(cores->last.reason);
    assert_true((cores->last.status == ST_OK) == (cores->last.reason[0] == '\0'));
    assert_true((cores->last.status == ST_OK) == (cores->last.first_index != 0));
    return cores->last.status;
}

uint8_t cores_flags(struct cores *cores, raft_id at, raft_id id)
{
    const struct raft_server *server =
        raft_configuration_find(raft_latest_configuration(core_of(cores, at)), id);

    return server == NULL ? 0 : server->flags;
}

void cores_link(struct cores *cores, raft_id id, raft_id peer, enum raft_event_type type)
{
    struct raft_event event = {.type = type};

    ASSERT(type >= RAFT_EVENT_PEER_UP && type <= RAFT_EVENT_PEER_GONE);
    event.peer = peer;
    event.incarnation = cores->nodes[peer].incarnation;
    cores_step(cores, id, &event);
}

struct raft_progress_info cores_progress(struct cores *cores, raft_id leader, raft_id id)
{
    struct raft_progress_info info;

    assert_true(raft_progress(core_of(cores, leader), id, &info));
    return info;
}

void cores_assert_converged(struct cores *cores)
{
    raft_id leader = cores_leader(cores);

    assert_true(leader != 0);
    for (raft_id id = 1; id <= cores->n; id++) {
        struct core_node *node = &cores->nodes[id];

        if (node->raft != NULL && (id == leader || cores_flags(cores, leader, id) != 0)) {
            assert_true(raft_last_index(node->raft) == raft_last_index(core_of(cores, leader)));
            assert_true(node->applied_index == raft_last_index(node->raft));
            assert_true(node->digest == cores->nodes[leader].digest);
        }
    }
}
