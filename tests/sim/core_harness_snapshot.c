/* Checkpoints and snapshots. The stream is (index, digest) and filler. */
#include "tests/sim/core_harness_internal.h"

static void snapshot_stream(raft_index index, uint64_t digest, uint8_t out[SNAPSHOT_BYTES])
{
    for (size_t i = 0; i < SNAPSHOT_BYTES; i++) {
        out[i] = (uint8_t)cores_mix(index, i);
    }
    set_u64(out, index);
    set_u64(out + 8, digest);
}

void cores_read_chunk(struct cores *cores, raft_id id)
{
    struct core_node *node = cores_node(cores, id);
    struct raft_chunk_request request = node->reads[0];
    struct raft_event event = {.type = RAFT_EVENT_CHUNK_READ};
    uint8_t stream[SNAPSHOT_BYTES];
    struct raft_install_snapshot *chunk = &event.chunk_read.chunk;
    size_t len = SNAPSHOT_BYTES - request.offset;

    SHIFT(node->reads, node->n_reads, 1);
    event.chunk_read.to = request.to;
    if (node->disk.state_index == 0 ||
        (request.snapshot_index != 0 && request.snapshot_index != node->disk.state_index)) {
        event.chunk_read.status = ST_NOT_FOUND; /* a newer checkpoint replaced it */
        cores_step(cores, id, &event);
        return;
    }
    assert_true(request.offset < SNAPSHOT_BYTES);
    len = len < CHUNK_BYTES ? len : CHUNK_BYTES;
    snapshot_stream(node->disk.state_index, node->disk.state_digest, stream);
    chunk->meta.index = node->disk.state_index;
    chunk->meta.term = node->disk.state_term;
    chunk->meta.configuration = node->disk.state_configuration;
    chunk->offset = request.offset;
    chunk->done = request.offset + len == SNAPSHOT_BYTES;
    chunk->data = blob_create(slice_of(stream + request.offset, len));
    cores_step(cores, id, &event);
}

/* The state is switched to the snapshot that was received in full. */
static void switch_state(struct cores *cores, struct core_node *node,
                         const struct raft_snapshot_meta *meta)
{
    struct raft_event event = {.type = RAFT_EVENT_SNAPSHOT_INSTALLED};
    struct core_disk *disk = &node->disk;

    assert_true(get_u64(disk->receive_bytes) == meta->index);
    assert_true(meta->index > disk->state_index && meta->index >= node->applied_index);
    disk->state_index = meta->index;
    disk->state_term = meta->term;
    disk->state_digest = get_u64(disk->receive_bytes + 8);
    disk->state_configuration = meta->configuration;
    disk->receive_index = 0;
    assert_true(cores->committed[meta->index].digest == disk->state_digest);
    node->applied_index = meta->index;
    node->digest = disk->state_digest;
    node->snapshots_installed++;
    event.installed.meta = *meta;
    cores_step(cores, node->id, &event);
}

void cores_store_chunk(struct cores *cores, raft_id id)
{
    struct core_node *node = cores_node(cores, id);
    struct raft_install_snapshot chunk = node->stores[0].chunk;
    struct slice data = blob_slice(chunk.data);
    struct core_disk *disk = &node->disk;
    struct raft_event event = {.type = RAFT_EVENT_CHUNK_STORED};

    SHIFT(node->stores, node->n_stores, 1);
    if (disk->receive_index != chunk.meta.index || disk->receive_term != chunk.meta.term) {
        disk->receive_index = chunk.meta.index;
        disk->receive_term = chunk.meta.term;
        disk->receive_offset = 0;
    }
    if (chunk.offset == disk->receive_offset) {
        memcpy(disk->receive_bytes + chunk.offset, data.data, data.len);
        disk->receive_offset += data.len;
    }
    if (chunk.done && disk->receive_offset == SNAPSHOT_BYTES) {
        switch_state(cores, node, &chunk.meta);
    } else {
        event.chunk_stored.index = chunk.meta.index;
        event.chunk_stored.offset = disk->receive_offset;
        cores_step(cores, id, &event);
    }
    blob_unref(&chunk.data);
}

void cores_checkpoint(struct cores *cores, raft_id id)
{
    struct core_node *node = cores_node(cores, id);
    struct raft_snapshot_meta meta = {.index = node->applied_index};
    raft_index bound = raft_compaction_bound(node->raft);

    if (meta.index <= node->disk.state_index ||
        core_disk_term_at(&node->disk, meta.index) != raft_term_at(node->raft, meta.index) ||
        node->n_stores > 0) {
        return;
    }
    meta.term = raft_term_at(node->raft, meta.index);
    raft_configuration_at(node->raft, meta.index, &meta.configuration);
    node->disk.state_index = meta.index;
    node->disk.state_term = meta.term;
    node->disk.state_digest = node->digest;
    node->disk.state_configuration = meta.configuration;
    cores_step(cores, id, &(struct raft_event){.type = RAFT_EVENT_COMPACT, .compact = &meta});
    if (node->n_writes == 0) {
        core_disk_compact(&node->disk, meta.index < bound ? meta.index : bound);
    }
}
