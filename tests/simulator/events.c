/* events: see events.h. */
#include "tests/simulator/events.h"

#include <stdarg.h>

static const char *const type_names[] = {
    [IO_EVENT_TICK] = "tick",
    [IO_EVENT_TURN_END] = "end of turn",
    [IO_EVENT_PEER_MESSAGE] = "message from peer",
    [IO_EVENT_PEER_UP] = "up: peer",
    [IO_EVENT_PEER_DOWN] = "down: peer",
    [IO_EVENT_CLIENT_MESSAGE] = "request on connection",
    [IO_EVENT_CLIENT_CLOSED] = "closed: connection",
    [IO_EVENT_ENDPOINT_MESSAGE] = "answer from endpoint",
    [IO_EVENT_ENDPOINT_DOWN] = "down: endpoint",
    [IO_EVENT_LOG_WRITTEN] = "log written, token",
    [IO_EVENT_CHECKPOINT] = "checkpoint at index",
    [IO_EVENT_SNAPSHOT_READ] = "snapshot read at offset",
    [IO_EVENT_INSTALL_CHUNK] = "snapshot chunk saved at offset",
    [IO_EVENT_INSTALLED] = "snapshot installed at index",
    [IO_EVENT_DISK_SPACE] = "disk space low",
    [IO_EVENT_STOP] = "asked to stop",
};

static struct event_line *next_line(struct events *events)
{
    struct event_line *line = &events->lines[events->n++ % EVENTS_KEPT];

    *line = (struct event_line){.at_us = world_now_us(events->world)};
    return line;
}

void events_note(struct events *events, const char *format, ...)
{
    struct event_line *line = next_line(events);
    va_list args;

    line->is_text = true;
    va_start(args, format);
    vsnprintf(line->text, sizeof(line->text), format, args);
    va_end(args);
    if (events->trace != NULL) {
        fprintf(events->trace, "%llu sim %s\n", (unsigned long long)line->at_us, line->text);
    }
}

static void note_message(struct event_line *line, uint64_t from, struct slice message)
{
    line->from = from;
    line->size = message.len;
}

void events_step(struct events *events, size_t node, const struct io_event *event)
{
    struct event_line *line = next_line(events);

    line->node = node;
    line->type = event->type;
    switch (event->type) {
    case IO_EVENT_PEER_MESSAGE:
    case IO_EVENT_PEER_UP:
    case IO_EVENT_PEER_DOWN:
        note_message(line, event->peer.id, event->peer.message);
        break;
    case IO_EVENT_CLIENT_MESSAGE:
    case IO_EVENT_CLIENT_CLOSED:
        note_message(line, event->client.conn, event->client.message);
        break;
    case IO_EVENT_ENDPOINT_MESSAGE:
    case IO_EVENT_ENDPOINT_DOWN:
        note_message(line, event->endpoint.endpoint, event->endpoint.message);
        break;
    case IO_EVENT_LOG_WRITTEN:
        line->from = event->log.token;
        line->status = event->log.status;
        break;
    case IO_EVENT_CHECKPOINT:
        line->from = event->checkpoint.index;
        line->status = event->checkpoint.status;
        break;
    case IO_EVENT_SNAPSHOT_READ:
        line->from = event->snapshot.offset;
        line->status = event->snapshot.status;
        break;
    case IO_EVENT_INSTALL_CHUNK:
        line->from = event->install.offset;
        line->status = event->install.status;
        break;
    case IO_EVENT_INSTALLED:
        line->from = event->install.index;
        line->status = event->install.status;
        break;
    case IO_EVENT_DISK_SPACE:
        line->from = event->disk.low;
        break;
    default:
        break;
    }
}

void events_show(const struct events *events, FILE *file)
{
    uint64_t first = events->n > EVENTS_KEPT ? events->n - EVENTS_KEPT : 0;

    fprintf(file, "the last events (seconds, what):\n");
    for (uint64_t i = first; i < events->n; i++) {
        const struct event_line *line = &events->lines[i % EVENTS_KEPT];

        if (line->is_text) {
            fprintf(file, "  %12.6f %s\n", (double)line->at_us / 1e6, line->text);
            continue;
        }
        fprintf(file, "  %12.6f node %zu: %s %llu, %llu bytes", (double)line->at_us / 1e6,
                line->node, type_names[line->type], (unsigned long long)line->from,
                (unsigned long long)line->size);
        fprintf(file, "%s%s\n", line->status != ST_OK ? ", " : "",
                line->status != ST_OK ? status_name(line->status) : "");
    }
}
