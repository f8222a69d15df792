/* The fake cluster in motion: what a clerk or caller sends reaches the servers, and what they do
 * comes back, each at its moment of virtual time. */
#include <stdlib.h>

#include "raft/util/mem.h"
#include "tests/sim/fake_cluster_internal.h"

struct fake_server *fake_server_of_url(struct fake_cluster *world, const char *url)
{
    for (size_t i = 0; i < FAKE_SERVERS; i++) {
        if (strcmp(world->servers[i].url, url) == 0) {
            return &world->servers[i];
        }
    }
    abort();
}

void fake_send(void *context, uint32_t gid, const char *url, struct buf *message)
{
    struct fake_cluster *world = context;
    struct fake_server *server = fake_server_of_url(world, url);
    struct fake_event *event;

    (void)gid;
    if (server->fault == FAULT_UNREACHABLE) {
        fake_take_fault(server);
        if (server->connected) {
            fake_break(world, server, false); /* what was sent before did leave */
        }
        fake_break(world, server, true);
        buf_fini(message);
        return;
    }
    server->connected = true;
    event =
        fake_schedule(world, server->fault == FAULT_HELD ? server->slow_ms : FAKE_LATENCY, server);
    event->held = server->fault == FAULT_HELD;
    event->type = EVENT_REQUEST;
    event->message = buf_take(message);
}

bool fake_withdraw(void *context, const char *url, uint64_t request_id)
{
    struct fake_cluster *world = context;
    struct fake_server *server = fake_server_of_url(world, url);

    for (size_t i = 0; i < world->n_events; i++) {
        struct fake_event *event = &world->events[i];

        if (event->type == EVENT_REQUEST && event->held && event->server == server &&
            proto_request_peek_id(buf_slice(&event->message)) == request_id) {
            buf_fini(&event->message);
            *event = world->events[--world->n_events];
            return true;
        }
    }
    return false;
}

static void fake_deliver(struct fake_cluster *world, struct fake_event *event)
{
    struct fake_server *server = event->server;
    struct slice message = buf_slice(&event->message);

    switch (event->type) {
    case EVENT_REQUEST:
        if (event->epoch == server->epoch) {
            if (event->held && server->fault == FAULT_HELD) {
                fake_take_fault(server);
                server->fault = FAULT_NONE; /* the connection is there */
            }
            fake_handle(world, server, message);
        }
        break;
    case EVENT_APPLY: {
        struct proto_request request;

        proto_request_decode(message, &request);
        fake_normal(world, server, &request, false, 0);
        proto_request_fini(&request);
        break;
    }
    case EVENT_RESPONSE:
        if (event->epoch != server->epoch) {
            break;
        }
        if (world->clerk != NULL) {
            clerk_on_message(world->clerk, world->now, message);
        } else if (world->caller != NULL) {
            caller_on_message(world->caller, world->now, message);
        }
        break;
    case EVENT_DOWN:
        if (world->clerk != NULL) {
            clerk_on_down(world->clerk, world->now, server->url);
        } else if (world->caller != NULL) {
            caller_on_down(world->caller, world->now, server->url);
        }
        break;
    case EVENT_UNREACHABLE:
        if (world->clerk != NULL) {
            clerk_on_unreachable(world->clerk, world->now, server->url);
        } else if (world->caller != NULL) {
            caller_on_unreachable(world->caller, world->now, server->url);
        }
        break;
    }
}

/* The index of the earliest event; n_events if there is none. */
static size_t fake_first_event(const struct fake_cluster *world)
{
    size_t first = world->n_events;

    for (size_t i = 0; i < world->n_events; i++) {
        const struct fake_event *event = &world->events[i];

        if (first == world->n_events || event->at < world->events[first].at ||
            (event->at == world->events[first].at && event->serial < world->events[first].serial)) {
            first = i;
        }
    }
    return first;
}

static uint64_t fake_client_deadline(const struct fake_cluster *world)
{
    if (world->clerk != NULL) {
        return clerk_next_deadline_ms(world->clerk);
    }
    return world->caller != NULL ? caller_next_deadline_ms(world->caller) : UINT64_MAX;
}

static void fake_tick(struct fake_cluster *world)
{
    if (world->clerk != NULL) {
        clerk_tick(world->clerk, world->now);
    } else if (world->caller != NULL) {
        caller_tick(world->caller, world->now);
    }
}

bool fake_run(struct fake_cluster *world, uint64_t until)
{
    for (;;) {
        size_t first = fake_first_event(world);
        uint64_t event_at = first < world->n_events ? world->events[first].at : UINT64_MAX;
        uint64_t timer_at = fake_client_deadline(world);
        uint64_t next = event_at < timer_at ? event_at : timer_at;

        if (next > until) {
            world->now = until > world->now ? until : world->now;
            return next != UINT64_MAX;
        }
        world->now = next > world->now ? next : world->now;
        if (event_at <= timer_at) {
            struct fake_event event = world->events[first];

            world->events[first] = world->events[--world->n_events];
            fake_deliver(world, &event);
            buf_fini(&event.message);
        } else {
            fake_tick(world);
        }
    }
}
