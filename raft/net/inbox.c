#include "raft/net/inbox.h"

#include "raft/util/assert.h"
#include "raft/util/mem.h"

void inbox_init(struct inbox *inbox, uint32_t limit, struct inbox_pool *pool)
{
    *inbox = (struct inbox){.limit = limit, .pool = pool};
}

/* The message is not counted any more. */
static void inbox_uncount(struct inbox *inbox, uint32_t total)
{
    ASSERT(inbox->used >= total && inbox->pool->used >= total);
    inbox->used -= total;
    inbox->pool->used -= total;
}

void inbox_fini(struct inbox *inbox)
{
    for (size_t i = 0; i < inbox->n; i++) {
        inbox_uncount(inbox, inbox->unfinished[i].total);
        mem_free(inbox->unfinished[i].bytes);
    }
    ASSERT(inbox->used == 0);
    mem_free(inbox->unfinished);
    *inbox = (struct inbox){0};
}

static struct inbox_message *inbox_find(struct inbox *inbox, uint32_t stream)
{
    for (size_t i = 0; i < inbox->n; i++) {
        if (inbox->unfinished[i].stream == stream) {
            return &inbox->unfinished[i];
        }
    }
    return NULL;
}

static enum status inbox_begin(struct inbox *inbox, const struct frame_fragment *fragment,
                               struct inbox_message **message)
{
    if (fragment->offset != 0) {
        return ST_MALFORMED;
    }
    if (inbox->n == FRAME_MAX_STREAMS || fragment->total > inbox->limit - inbox->used ||
        fragment->total > inbox->pool->limit - inbox->pool->used) {
        return ST_BUSY;
    }
    inbox->used += fragment->total;
    inbox->pool->used += fragment->total;
    MEM_GROW(inbox->unfinished, inbox->capacity, inbox->n + 1);
    *message = &inbox->unfinished[inbox->n++];
    **message = (struct inbox_message){.stream = fragment->stream,
                                       .group = fragment->group,
                                       .type = fragment->type,
                                       .total = fragment->total,
                                       .bytes = mem_alloc(fragment->total)};
    return ST_OK;
}

enum status inbox_receive(struct inbox *inbox, const struct frame_fragment *fragment,
                          uint64_t now_ms, bool *finished, struct inbox_message *message)
{
    struct inbox_message *found = inbox_find(inbox, fragment->stream);

    *finished = false;
    if (found == NULL) {
        enum status status = inbox_begin(inbox, fragment, &found);

        if (status != ST_OK) {
            return status;
        }
    }
    if (fragment->group != found->group || fragment->type != found->type ||
        fragment->total != found->total || fragment->offset != found->received) {
        return ST_MALFORMED;
    }
    ASSERT(fragment->bytes.len <= found->total - found->received);
    memcpy(found->bytes + found->received, fragment->bytes.data, fragment->bytes.len);
    found->received += (uint32_t)fragment->bytes.len;
    found->heard_ms = now_ms;
    if (found->received == found->total) {
        *finished = true;
        *message = *found;
        inbox_uncount(inbox, found->total);
        *found = inbox->unfinished[--inbox->n];
    }
    return ST_OK;
}

void inbox_release(struct inbox_message *message)
{
    mem_free(message->bytes);
    message->bytes = NULL;
}

uint64_t inbox_waits_since(const struct inbox *inbox)
{
    uint64_t since_ms = UINT64_MAX;

    for (size_t i = 0; i < inbox->n; i++) {
        if (inbox->unfinished[i].heard_ms < since_ms) {
            since_ms = inbox->unfinished[i].heard_ms;
        }
    }
    return since_ms;
}

void inbox_wait_from(struct inbox *inbox, uint64_t now_ms)
{
    for (size_t i = 0; i < inbox->n; i++) {
        inbox->unfinished[i].heard_ms = now_ms;
    }
}
