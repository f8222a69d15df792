/* Replicas start from their disks and lose what is not on them. */
#include <stdio.h>

#include "tests/sim/core_harness_internal.h"

void cores_start(struct cores *cores, raft_id id)
{
    struct core_node *node = cores_node(cores, id);
    struct core_disk *disk = &node->disk;
    struct raft_options options = cores->options;
    struct raft_start start = {0};
    struct raft_update update;

    ASSERT(node->raft == NULL);
    if (disk->state_index > core_disk_last_index(disk) ||
        (disk->state_index > disk->begin_index &&
         core_disk_term_at(disk, disk->state_index) != disk->state_term)) {
        core_disk_truncate(disk, disk->begin_index + 1);
        disk->begin_index = disk->state_index;
        disk->begin_term = disk->state_term;
    }
    start.hard_state = disk->hard_state;
    start.snapshot.index = disk->begin_index;
    start.snapshot.term = disk->begin_term;
    start.snapshot.configuration =
        disk->begin_index == 0 ? cores->bootstrap : disk->state_configuration;
    if (disk->begin_index == 0 && node->joins) {
        start.snapshot.configuration = (struct raft_configuration){0};
    }
    start.entries = cores_entries_copy(disk->entries, disk->n_entries);
    start.n_entries = disk->n_entries;
    start.applied_index = disk->state_index;
    options.id = id;
    options.incarnation = node->incarnation;
    options.seed = cores_mix(cores->seed++, id);
    node->raft = raft_create(&options, &start, cores->now_ms);
    mem_free((void *)(uintptr_t)start.entries); /* the references are the core's */
    node->applied_index = disk->state_index;
    node->digest = disk->state_digest;
    raft_begin(node->raft, &update);
    cores_carry_out(cores, node, &update);
}

void cores_recover(struct cores *cores)
{
    cores_heal(cores);
    for (raft_id id = 1; id <= cores->n; id++) {
        if (cores->nodes[id].raft == NULL) {
            cores_start(cores, id);
        }
    }
}

void cores_crash(struct cores *cores, raft_id id)
{
    struct core_node *node = cores_node(cores, id);

    raft_destroy(&node->raft);
    for (size_t i = 0; i < node->n_writes; i++) {
        cores_entries_free(node->writes[i].entries, node->writes[i].n_entries);
    }
    for (size_t i = 0; i < node->n_held; i++) {
        buf_fini(&node->held[i].bytes);
    }
    for (size_t i = 0; i < node->n_stores; i++) {
        blob_unref(&node->stores[i].chunk.data);
    }
    node->n_writes = node->n_held = node->n_stores = node->n_reads = 0;
}

void cores_wipe(struct cores *cores, raft_id id)
{
    struct core_node *node = cores_node(cores, id);

    ASSERT(node->raft == NULL);
    cores_entries_free(node->disk.entries, node->disk.n_entries);
    node->disk = (struct core_disk){0};
    node->applied_index = node->digest = 0;
    node->incarnation++;
    node->joins = true;
}

raft_id cores_add_node(struct cores *cores)
{
    raft_id id = (raft_id)++cores->n;

    ASSERT(id <= CORES_NODES);
    cores->nodes[id].id = id;
    cores->nodes[id].incarnation = 1000 * id;
    cores->nodes[id].joins = true;
    cores->nodes[id].link_up = UINT64_MAX;
    return id;
}

struct cores *cores_create_empty(size_t n, uint64_t seed)
{
    struct cores *cores = mem_zalloc(sizeof(*cores));

    ASSERT(n <= CORES_NODES);
    cores->n = n;
    cores->seed = seed;
    cores->now_ms = 1000;
    cores->static_members = true;
    cores->seen_capacity = 1u << 17;
    cores->seen = mem_zalloc(cores->seen_capacity * sizeof(*cores->seen));
    raft_options_default(&cores->options, 1, 0);
    cores->options.commit_delay_ms = 0; /* stories are told without waiting */
    for (raft_id id = 1; id <= n; id++) {
        struct raft_server *server = &cores->bootstrap.servers[cores->bootstrap.n++];

        cores->nodes[id].id = id;
        cores->nodes[id].incarnation = 1000 * id;
        server->id = id;
        server->flags = RAFT_VOTER;
        snprintf(server->address, sizeof(server->address), "tcp://node%u:7000", id);
    }
    cores_heal(cores);
    return cores;
}

void cores_start_all(struct cores *cores)
{
    for (raft_id id = 1; id <= cores->n; id++) {
        cores_start(cores, id);
    }
    for (raft_id id = 1; id <= cores->n; id++) {
        cores_persist(cores, id);
    }
}

struct cores *cores_create(size_t n, uint64_t seed)
{
    struct cores *cores = cores_create_empty(n, seed);

    cores_start_all(cores);
    return cores;
}

void cores_destroy(struct cores *cores)
{
    for (raft_id id = 1; id <= cores->n; id++) {
        struct core_node *node = &cores->nodes[id];

        if (node->raft != NULL) {
            cores_crash(cores, id);
        }
        cores_entries_free(node->disk.entries, node->disk.n_entries);
        mem_free(node->writes);
        mem_free(node->held);
        mem_free(node->stores);
        mem_free(node->reads);
    }
    cores_drop_all(cores);
    mem_free(cores->flying);
    mem_free(cores->seen);
    mem_free(cores);
}
