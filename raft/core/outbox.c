/* The outbox: what a step will say in its update. Everything in it is owned by the core and
 * released when the next step begins, unless the driver emptied it before. */
#include "raft/core/raft_internal.h"
#include "raft/util/mem.h"

void raft_message_fini(struct raft_message *message)
{
    switch (message->type) {
    case RAFT_MESSAGE_APPEND:
        for (size_t i = 0; i < message->append.n_entries; i++) {
            blob_unref(&message->append.entries[i].data);
        }
        mem_free(message->append.entries);
        message->append = (struct raft_append){0};
        break;
    case RAFT_MESSAGE_INSTALL_SNAPSHOT:
        blob_unref(&message->install_snapshot.data);
        break;
    default:
        break; /* the others own nothing */
    }
    memset(message, 0, sizeof(*message));
}

static void clear_messages(struct raft_message *messages, size_t *n)
{
    for (size_t i = 0; i < *n; i++) {
        raft_message_fini(&messages[i]);
    }
    *n = 0;
}

void outbox_clear(struct raft *raft)
{
    struct outbox *out = &raft->out;

    clear_messages(out->messages, &out->n_messages);
    clear_messages(out->after, &out->n_after);
    out->n_reads = 0;
    out->n_chunk_requests = 0;
    blob_unref(&out->chunk.data);
    out->has_chunk = false;
    out->persist_from = 0;
    out->log_reset_index = 0;
    out->status = ST_OK;
    out->reason = "";
    out->first_index = 0;
}

void outbox_fini(struct raft *raft)
{
    struct outbox *out = &raft->out;

    outbox_clear(raft);
    ASSERT(out->n_messages == 0 && out->n_after == 0);
    mem_free(out->messages);
    mem_free(out->after);
    mem_free(out->reads);
    mem_free(out->chunk_requests);
    *out = (struct outbox){0};
}

/* Only the header is set: the largest body is that of a snapshot, 4 KiB of configuration, and most
 * messages are small. */
static struct raft_message *begin_message(struct raft *raft, struct raft_message *message,
                                          enum raft_message_type type, raft_id to)
{
    ASSERT(to != 0 && to != raft->options.id);
    message->type = type;
    message->from = raft->options.id;
    message->to = to;
    message->term = raft->hard_state.term;
    return message;
}

struct raft_message *outbox_send(struct raft *raft, enum raft_message_type type, raft_id to)
{
    struct outbox *out = &raft->out;

    MEM_GROW(out->messages, out->messages_capacity, out->n_messages + 1);
    return begin_message(raft, &out->messages[out->n_messages++], type, to);
}

struct raft_message *outbox_send_after_persist(struct raft *raft, enum raft_message_type type,
                                               raft_id to)
{
    struct outbox *out = &raft->out;

    MEM_GROW(out->after, out->after_capacity, out->n_after + 1);
    return begin_message(raft, &out->after[out->n_after++], type, to);
}

struct raft_message *outbox_reply(struct raft *raft, enum raft_message_type type, raft_id to)
{
    if (raft->durable_hard_state.term != raft->hard_state.term) {
        return outbox_send_after_persist(raft, type, to);
    }
    return outbox_send(raft, type, to);
}

void outbox_fill(struct raft *raft, struct raft_update *update)
{
    struct outbox *out = &raft->out;

    update->messages = out->messages;
    update->n_messages = out->n_messages;
    update->messages_after_persist = out->after;
    update->n_messages_after_persist = out->n_after;
    update->commit_index = raft->commit_index;
    update->reads = out->reads;
    update->n_reads = out->n_reads;
    update->chunk_requests = out->chunk_requests;
    update->n_chunk_requests = out->n_chunk_requests;
    update->chunk_to_store = out->has_chunk ? &out->chunk : NULL;
    update->log_reset_index = out->log_reset_index;
    update->status = out->status;
    update->reason = out->reason;
    update->first_index = out->first_index;
    update->term = raft->hard_state.term;
}
