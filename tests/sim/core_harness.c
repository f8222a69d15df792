/* Steps of the cores, what their updates ask for, and the time. */
#include "tests/sim/core_harness_internal.h"

uint64_t cores_mix(uint64_t a, uint64_t b)
{
    struct rng rng;

    rng_init(&rng, a * 31 + b);
    return rng_next(&rng);
}

struct core_node *cores_node(struct cores *cores, raft_id id)
{
    ASSERT(id >= 1 && id <= cores->n);
    return &cores->nodes[id];
}

struct raft *core_of(struct cores *cores, raft_id id)
{
    ASSERT(cores_node(cores, id)->raft != NULL);
    return cores_node(cores, id)->raft;
}

void cores_send(struct cores *cores, struct buf bytes)
{
    struct raft_message message;
    bool decoded = wire_decode_message(buf_slice(&bytes), &message);

    assert_true(decoded);
    MEM_GROW(cores->flying, cores->flying_capacity, cores->n_flying + 1);
    cores->flying[cores->n_flying++] = (struct flying){
        message.from, message.to, message.type,
        message.from <= CORES_NODES ? cores->nodes[message.from].incarnation : 0, bytes};
    cores->n_sent[message.type]++;
    cores->bytes_sent += bytes.len;
    raft_message_fini(&message);
}

struct buf cores_encode(const struct raft_message *message)
{
    struct buf bytes = {0};

    wire_encode_message(message, &bytes);
    return bytes;
}

static void queue_write(struct core_node *node, const struct raft_update *update)
{
    MEM_GROW(node->writes, node->writes_capacity, node->n_writes + 1);
    node->writes[node->n_writes++] = (struct core_disk_write){
        .seq = update->persist_seq,
        .reset = update->log_reset_index != 0,
        .reset_index = update->log_reset_index,
        .reset_term = raft_term_at(node->raft, update->log_reset_index),
        .has_hard_state = update->hard_state_changed,
        .hard_state = update->hard_state,
        .entries = cores_entries_copy(update->entries, update->n_entries),
        .n_entries = update->n_entries,
    };
}

void cores_carry_out(struct cores *cores, struct core_node *node, const struct raft_update *update)
{
    uint64_t last_seq = node->n_writes > 0 ? node->writes[node->n_writes - 1].seq : 0;

    node->stepped_last_index =
        update->n_entries > 0 ? update->entries[update->n_entries - 1].index : 0;
    for (size_t i = 0; i < update->n_entries; i++) {
        const struct raft_entry *entry = &update->entries[i];

        cores_check_seen(cores, entry, raft_term_at(node->raft, entry->index - 1));
    }
    assert_true(update->log_reset_index == 0 || update->persist_seq != 0);
    if (update->persist_seq != 0) {
        queue_write(node, update);
        last_seq = update->persist_seq;
    }
    for (size_t i = 0; i < update->n_messages; i++) {
        cores_send(cores, cores_encode(&update->messages[i]));
    }
    for (size_t i = 0; i < update->n_messages_after_persist; i++) {
        struct buf bytes = cores_encode(&update->messages_after_persist[i]);

        if (node->n_writes == 0) {
            cores_send(cores, bytes);
            continue;
        }
        MEM_GROW(node->held, node->held_capacity, node->n_held + 1);
        node->held[node->n_held++] = (struct held_message){last_seq, bytes};
    }
    for (size_t i = 0; i < update->n_reads; i++) {
        struct read_issued *read = &cores->reads[update->reads[i].id];

        assert_true(!read->answered);
        read->answered = true;
        read->status = update->reads[i].status;
        read->index = update->reads[i].index;
        assert_true(read->status != ST_OK || read->index >= read->committed_before);
    }
    for (size_t i = 0; i < update->n_chunk_requests; i++) {
        MEM_GROW(node->reads, node->reads_capacity, node->n_reads + 1);
        node->reads[node->n_reads++] = update->chunk_requests[i];
    }
    if (update->chunk_to_store != NULL) {
        MEM_GROW(node->stores, node->stores_capacity, node->n_stores + 1);
        node->stores[node->n_stores] = (struct chunk_store){*update->chunk_to_store};
        blob_ref(node->stores[node->n_stores++].chunk.data);
    }
    /* A reset follows a switch of the state: what is applied was set by cores_store. */
    while (node->applied_index < update->commit_index) {
        cores_apply_one(cores, node, node->applied_index + 1);
    }
    cores_check_leader(cores, node);
    raft_check(node->raft);
    cores->last = *update;
}

void cores_step(struct cores *cores, raft_id id, struct raft_event *event)
{
    struct core_node *node = cores_node(cores, id);
    struct raft_update update;

    event->now_ms = cores->now_ms;
    raft_step(core_of(cores, id), event, &update);
    cores_carry_out(cores, node, &update);
}

void cores_tick(struct cores *cores, raft_id id)
{
    cores_step(cores, id, &(struct raft_event){.type = RAFT_EVENT_TICK});
}

void cores_persist_one(struct cores *cores, raft_id id)
{
    struct core_node *node = cores_node(cores, id);
    struct raft_event event = {.type = RAFT_EVENT_PERSISTED};
    size_t free_messages = 0;

    ASSERT(node->n_writes > 0);
    event.persisted.seq = node->writes[0].seq;
    core_disk_apply(&node->disk, &node->writes[0]);
    SHIFT(node->writes, node->n_writes, 1);
    while (free_messages < node->n_held &&
           node->held[free_messages].after_seq <= event.persisted.seq) {
        cores_send(cores, node->held[free_messages++].bytes);
    }
    SHIFT(node->held, node->n_held, free_messages);
    cores_step(cores, id, &event);
}

void cores_persist(struct cores *cores, raft_id id)
{
    while (cores_node(cores, id)->n_writes > 0) {
        cores_persist_one(cores, id);
    }
}

void cores_work(struct cores *cores, raft_id id)
{
    struct core_node *node = cores_node(cores, id);

    if (node->n_writes > 0) {
        cores_persist_one(cores, id);
    }
    if (node->n_stores > 0) {
        cores_store_chunk(cores, id);
    }
    if (node->n_reads > 0) {
        cores_read_chunk(cores, id);
    }
}

void cores_settle(struct cores *cores)
{
    for (int bound = 0; bound < 200000; bound++) {
        bool busy = false;

        for (raft_id id = 1; id <= cores->n; id++) {
            struct core_node *node = &cores->nodes[id];

            if (node->raft == NULL) {
                continue;
            }
            if (node->n_writes > 0 && !node->slow_disk) {
                cores_persist_one(cores, id);
                busy = true;
            }
            if (node->n_stores > 0) {
                cores_store_chunk(cores, id);
                busy = true;
            }
            if (node->n_reads > 0) {
                cores_read_chunk(cores, id);
                busy = true;
            }
        }
        if (cores->n_flying > 0) {
            cores_deliver(cores, 0, false);
            busy = true;
        }
        if (!busy) {
            return;
        }
    }
    fail_msg("the cores do not come to rest");
}

void cores_run(struct cores *cores, uint64_t ms)
{
    for (uint64_t end = cores->now_ms + ms; cores->now_ms < end;) {
        cores->now_ms++;
        for (raft_id id = 1; id <= cores->n; id++) {
            struct core_node *node = &cores->nodes[id];

            if (node->raft != NULL && raft_next_deadline_ms(node->raft) <= cores->now_ms) {
                cores_tick(cores, id);
            }
        }
        cores_settle(cores);
    }
}
