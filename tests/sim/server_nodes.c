/* The shipped servers as nodes of a simulated world; see server_nodes.h. */
#include "tests/sim/server_nodes.h"

#define VERSION "sim"

/* Unlike any other's of its world, unless the options say one. */
static uint64_t incarnation(uint64_t wanted, const struct world_parts *parts)
{
    return wanted != 0 ? wanted : parts->node + 1;
}

static void complete_group(struct group_options *options, const struct world_parts *parts)
{
    raft_configuration_from_spec(&parts->spec, &options->bootstrap);
    options->bootstrap.n = parts->joins ? 0 : options->bootstrap.n;
    options->raft.incarnation = parts->incarnation;
    options->trace = options->raft.trace = parts->trace;
}

void *ctrler_node_create(struct ctrler_server_options *options, const struct world_parts *parts)
{
    struct ctrler_server *server = NULL;

    complete_group(&options->group, parts);
    options->incarnation = incarnation(options->incarnation, parts);
    options->version = VERSION;
    options->trace = parts->trace;
    return ctrler_server_create(options, &parts->io, parts->log_content, parts->state_meta,
                                parts->now_ms, &server) == ST_OK
               ? server
               : NULL;
}

void *kv_node_create(struct kv_server_options *options, const struct world_parts *parts)
{
    struct kv_server *server = NULL;

    complete_group(&options->group, parts);
    options->incarnation = incarnation(options->incarnation, parts);
    options->version = VERSION;
    return kv_server_create(options, &parts->io, parts->log_content, parts->state_meta,
                            parts->now_ms, &server) == ST_OK
               ? server
               : NULL;
}

void ctrler_node_destroy(void **server)
{
    struct ctrler_server *ctrler = *server;

    ctrler_server_destroy(&ctrler);
    *server = NULL;
}

void ctrler_node_step(void *server, const struct io_event *event)
{
    ctrler_server_step(server, event);
}

uint64_t ctrler_node_deadline_ms(void *server)
{
    return ctrler_server_next_deadline_ms(server);
}

struct group *ctrler_node_group(void *server)
{
    return ctrler_server_group(server);
}

void kv_node_destroy(void **server)
{
    struct kv_server *kv = *server;

    kv_server_destroy(&kv);
    *server = NULL;
}

void kv_node_step(void *server, const struct io_event *event)
{
    kv_server_step(server, event);
}

uint64_t kv_node_deadline_ms(void *server)
{
    return kv_server_next_deadline_ms(server);
}

struct group *kv_node_group(void *server)
{
    return kv_server_group(server);
}
