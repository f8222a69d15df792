#include "tests/sim/server_nodes.h"

#include "shardctrler/ctrler_server.h"
#include "shardkv/kv_server.h"

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
