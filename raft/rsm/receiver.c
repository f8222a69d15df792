/* Receiving a snapshot: chunks go to the state, which keeps them beside the live one and switches
 * atomically with the last. From the moment the last chunk is with the state nothing is applied and
 * no checkpoint begins, so that nothing is written to a state about to be replaced; a checkpoint
 * that is under way is waited for.
 *
 * After the switch, in this order: the applied index jumps, the service reads its state anew, the
 * core drops the log that the snapshot covers, and the log on disk is reset behind it. A crash
 * before that reset finds a state ahead of the log, which open.c knows how to read.
 */
#include "raft/rsm/group.h"

static void pass_to_state(struct group *group, const struct raft_install_snapshot *chunk)
{
    struct io_state *state = group->world.state;

    ASSERT(chunk->meta.index > group->apply.index);
    ASSERT(!chunk->done || !group->checkpoint.running);
    group->receiver.outstanding++;
    group->stats.snapshot_bytes_received += blob_slice(chunk->data).len;
    group->receiver.switching = group->receiver.switching || chunk->done;
    state->ops->install_chunk(state, chunk->meta.index, chunk->meta.term, chunk->offset,
                              blob_slice(chunk->data), chunk->done);
}

void rsm_receiver_fini(struct group *group)
{
    blob_unref(&group->receiver.chunk.data);
}

void rsm_receiver_update(struct group *group, const struct raft_update *update)
{
    const struct raft_install_snapshot *chunk = update->chunk_to_store;
    struct rsm_receiver *receiver = &group->receiver;

    if (chunk == NULL) {
        return;
    }
    ASSERT(!receiver->deferred);
    if (chunk->done && group->checkpoint.running) {
        receiver->deferred = true;
        receiver->chunk = *chunk;
        receiver->chunk.data = chunk->data == NULL ? NULL : blob_ref(chunk->data);
        return;
    }
    pass_to_state(group, chunk);
}

static void tell_stored(struct group *group, raft_index index, uint64_t offset, enum status status)
{
    struct raft_event event = {.type = RAFT_EVENT_CHUNK_STORED};

    event.chunk_stored.index = index;
    event.chunk_stored.offset = offset;
    event.chunk_stored.status = status;
    rsm_step_raft(group, &event);
}

static void tell_installed(struct group *group, const struct raft_snapshot_meta *meta,
                           enum status status)
{
    struct raft_event event = {.type = RAFT_EVENT_SNAPSHOT_INSTALLED};

    event.installed.meta = *meta;
    event.installed.status = status;
    rsm_step_raft(group, &event);
}

/* The deferred chunk won't be stored: it does not follow what is, or the log overtook it. */
static void cancel_deferred(struct group *group)
{
    struct rsm_receiver *receiver = &group->receiver;

    ASSERT(receiver->deferred);
    receiver->deferred = false;
    blob_unref(&receiver->chunk.data);
    tell_stored(group, receiver->chunk.meta.index, receiver->chunk.offset, ST_CANCELLED);
}

void rsm_receiver_resume(struct group *group)
{
    struct rsm_receiver *receiver = &group->receiver;

    if (!receiver->deferred) {
        return;
    }
    if (receiver->chunk.meta.index <= group->apply.index) {
        cancel_deferred(group); /* a state never goes back */
        return;
    }
    receiver->deferred = false;
    pass_to_state(group, &receiver->chunk);
    blob_unref(&receiver->chunk.data);
}

/* The state answers chunks in their order, so a last chunk is answered when all are. */
static void count_answer(struct rsm_receiver *receiver)
{
    ASSERT(receiver->outstanding > 0);
    receiver->outstanding--;
    receiver->switching = receiver->switching && receiver->outstanding > 0;
}

void rsm_receiver_stored(struct group *group, const struct io_event *event)
{
    enum status status = event->install.status;

    /* Also of a last chunk that did not begin where the stored bytes end: nothing was switched. */
    count_answer(&group->receiver);
    if (status == ST_IO) {
        rsm_halt(group, ST_IO, "a snapshot's chunk could not be stored");
        return;
    }
    tell_stored(group, event->install.index, event->install.offset, status);
    if (status != ST_OK && group->receiver.deferred) {
        cancel_deferred(group);
    }
}

/* The live state is the snapshot now. */
static void jump(struct group *group, const struct raft_snapshot_meta *meta, uint64_t stamp)
{
    ASSERT(meta->index > group->apply.index && meta->term >= group->apply.term);
    ASSERT(!group->checkpoint.running);
    group->apply.index = meta->index;
    group->apply.term = meta->term;
    group->apply.stamp = stamp > group->apply.stamp ? stamp : group->apply.stamp;
    group->checkpoint.last_index = meta->index;
    group->checkpoint.no_space = false; /* what found none is gone */
    group->checkpoint.applied_bytes = 0;
    group->stats.snapshots_installed++;
    group->stats.checkpoint_index = meta->index;
}

void rsm_receiver_installed(struct group *group, const struct io_event *event)
{
    struct raft_snapshot_meta meta = {.index = event->install.index, .term = event->install.term};
    struct rsm_extra extra;
    enum status status = event->install.status;

    ASSERT(group->receiver.switching);
    count_answer(&group->receiver);
    if (status == ST_IO) {
        rsm_halt(group, status, "a snapshot could not be installed");
        return;
    }
    if (status != ST_OK) {
        tell_installed(group, &meta, status);
        return;
    }
    status = rsm_extra_decode(event->install.extra, &extra);
    if (status != ST_OK) {
        rsm_halt(group, status, "an installed snapshot's extra bytes are damaged");
        return;
    }
    meta.configuration = extra.configuration;
    jump(group, &meta, extra.stamp);
    status = rsm_restore_service(group);
    if (status != ST_OK) {
        rsm_halt(group, status, "the service could not read the installed state");
        return;
    }
    tell_stored(group, meta.index, event->install.offset, ST_OK);
    if (!group->halted) {
        tell_installed(group, &meta, ST_OK);
    }
    rsm_proposals_jumped(group, meta.index, meta.term);
}
