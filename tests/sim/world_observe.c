/* Who looks on: observers, which checkers are, and the record of everything that happens, in which
 * two runs of a seed can be compared byte for byte. */
#include <stdio.h>

#include "raft/util/assert.h"
#include "raft/util/crc32c.h"
#include "tests/sim/world_internal.h"

void world_observe(struct world *world, const struct world_observer *observer)
{
    ASSERT(world->n_observers < WORLD_MAX_OBSERVERS);
    world->observers[world->n_observers++] = *observer;
}

void world_tell_started(struct world *world, size_t node)
{
    for (size_t i = 0; i < world->n_observers; i++) {
        const struct world_observer *observer = &world->observers[i];
        if (observer->started != NULL) {
            observer->started(observer->context, world, node);
        }
    }
}

void world_tell_stepped(struct world *world, size_t node, const struct io_event *event)
{
    for (size_t i = 0; i < world->n_observers; i++) {
        const struct world_observer *observer = &world->observers[i];
        if (observer->stepped != NULL) {
            observer->stepped(observer->context, world, node, event);
        }
    }
}

void world_tell_sent(struct world *world, size_t node, raft_id to, struct slice message)
{
    for (size_t i = 0; i < world->n_observers; i++) {
        const struct world_observer *observer = &world->observers[i];
        if (observer->sent != NULL) {
            observer->sent(observer->context, world, node, to, message);
        }
    }
}

void world_tell_stopping(struct world *world, size_t node)
{
    for (size_t i = 0; i < world->n_observers; i++) {
        const struct world_observer *observer = &world->observers[i];
        if (observer->stopping != NULL) {
            observer->stopping(observer->context, world, node);
        }
    }
}

/* ---- The record ---- */

static const char *event_name(enum io_event_type type)
{
    switch (type) {
    case IO_EVENT_TICK:
        return "TICK";
    case IO_EVENT_TURN_END:
        return "TURN_END";
    case IO_EVENT_PEER_MESSAGE:
        return "PEER_MESSAGE";
    case IO_EVENT_PEER_UP:
        return "PEER_UP";
    case IO_EVENT_PEER_DOWN:
        return "PEER_DOWN";
    case IO_EVENT_PEER_GONE:
        return "PEER_GONE";
    case IO_EVENT_CLIENT_MESSAGE:
        return "CLIENT_MESSAGE";
    case IO_EVENT_CLIENT_CLOSED:
        return "CLIENT_CLOSED";
    case IO_EVENT_ENDPOINT_MESSAGE:
        return "ENDPOINT_MESSAGE";
    case IO_EVENT_ENDPOINT_DOWN:
        return "ENDPOINT_DOWN";
    case IO_EVENT_LOG_WRITTEN:
        return "LOG_WRITTEN";
    case IO_EVENT_CHECKPOINT:
        return "CHECKPOINT";
    case IO_EVENT_SNAPSHOT_READ:
        return "SNAPSHOT_READ";
    case IO_EVENT_INSTALL_CHUNK:
        return "INSTALL_CHUNK";
    case IO_EVENT_INSTALLED:
        return "INSTALLED";
    case IO_EVENT_DISK_SPACE:
        return "DISK_SPACE";
    case IO_EVENT_STOP:
        return "STOP";
    }
    UNREACHABLE("an event of no type");
}

/* What the event carries, as bytes: its numbers, and the message or chunk. */
static void put_event(struct buf *out, const struct io_event *event)
{
    switch (event->type) {
    case IO_EVENT_PEER_MESSAGE:
        buf_put_slice(out, event->peer.message);
        buf_put_u32(out, event->peer.id);
        break;
    case IO_EVENT_PEER_UP:
    case IO_EVENT_PEER_DOWN:
    case IO_EVENT_PEER_GONE:
        buf_put_u32(out, event->peer.id);
        break;
    case IO_EVENT_CLIENT_MESSAGE:
        buf_put_slice(out, event->client.message);
        buf_put_u64(out, event->client.conn);
        break;
    case IO_EVENT_CLIENT_CLOSED:
        buf_put_u64(out, event->client.conn);
        break;
    case IO_EVENT_ENDPOINT_MESSAGE:
        buf_put_slice(out, event->endpoint.message);
        buf_put_u32(out, event->endpoint.endpoint);
        break;
    case IO_EVENT_ENDPOINT_DOWN:
        buf_put_u32(out, event->endpoint.endpoint);
        break;
    case IO_EVENT_LOG_WRITTEN:
        buf_put_u64(out, event->log.token);
        buf_put_u32(out, event->log.status);
        break;
    case IO_EVENT_CHECKPOINT:
        buf_put_u64(out, event->checkpoint.number);
        buf_put_u64(out, event->checkpoint.index);
        buf_put_u32(out, event->checkpoint.status);
        break;
    case IO_EVENT_SNAPSHOT_READ:
        buf_put_slice(out, event->snapshot.data);
        buf_put_u64(out, event->snapshot.token);
        buf_put_u64(out, event->snapshot.offset);
        buf_put_u32(out, event->snapshot.status);
        break;
    case IO_EVENT_INSTALL_CHUNK:
    case IO_EVENT_INSTALLED:
        buf_put_slice(out, event->install.extra);
        buf_put_u64(out, event->install.index);
        buf_put_u64(out, event->install.offset);
        buf_put_u32(out, event->install.status);
        break;
    case IO_EVENT_DISK_SPACE:
        buf_put_u8(out, event->disk.low);
        break;
    case IO_EVENT_TICK:
    case IO_EVENT_TURN_END:
    case IO_EVENT_STOP:
        break;
    }
}

void world_record(struct world *world, FILE *file)
{
    world->record = file;
}

static void write_line(struct world *world, char kind, size_t number, const char *what,
                       struct slice bytes)
{
    fprintf(world->record, "%llu %c%zu %s %zu %08x\n", (unsigned long long)world->now_us, kind,
            number, what, bytes.len, crc32c(0, bytes.data, bytes.len));
}

void world_record_event(struct world *world, size_t node, const struct io_event *event)
{
    struct buf *bytes = &world->record_bytes;

    buf_clear(bytes);
    buf_put_u64(bytes, event->now_ms);
    buf_put_u64(bytes, event->wall_us);
    put_event(bytes, event);
    write_line(world, 'n', node, event_name(event->type), buf_slice(bytes));
}

void world_record_client(struct world *world, size_t client, const char *what, struct slice bytes)
{
    if (world->record != NULL) {
        write_line(world, 'c', client, what, bytes);
    }
}

void world_record_life(struct world *world, size_t node, const char *what)
{
    if (world->record != NULL) {
        write_line(world, 'n', node, what, slice_of(NULL, 0));
    }
}
