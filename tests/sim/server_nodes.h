/* server_nodes: the two servers as nodes of a simulated world: all that is the same whatever their
 * options. Whoever adds them gives the options, by a function that ends in one of the two creates,
 * and what to check after each step (or NULL), in a table made by one of the two macros.
 */
#ifndef TESTS_SIM_SERVER_NODES_H
#define TESTS_SIM_SERVER_NODES_H

#include "shardctrler/ctrler_server.h"
#include "shardkv/kv_server.h"
#include "tests/sim/world.h"

/* The server with these options, and with what is the same for every node: who it is, its group's
 * first members, where its traces go. NULL: its disk can't be read. */
void *ctrler_node_create(struct ctrler_server_options *options, const struct world_parts *parts);
void *kv_node_create(struct kv_server_options *options, const struct world_parts *parts);

void ctrler_node_destroy(void **server);
void ctrler_node_step(void *server, const struct io_event *event);
uint64_t ctrler_node_deadline_ms(void *server);
struct group *ctrler_node_group(void *server);

void kv_node_destroy(void **server);
void kv_node_step(void *server, const struct io_event *event);
uint64_t kv_node_deadline_ms(void *server);
struct group *kv_node_group(void *server);

#define CTRLER_NODE_OPS(create, after_step)                                                        \
    {                                                                                              \
        create, ctrler_node_destroy, ctrler_node_step, ctrler_node_deadline_ms, ctrler_node_group, \
            after_step                                                                             \
    }

#define KV_NODE_OPS(create, after_step)                                                            \
    {                                                                                              \
        create, kv_node_destroy, kv_node_step, kv_node_deadline_ms, kv_node_group, after_step      \
    }

#endif
