/* What the files of serve share: serve.c takes messages and answers, serve_replica.c carries out
 * and tells of changes of the group's replicas. */
#ifndef CLIENT_SERVE_PRIVATE_H
#define CLIENT_SERVE_PRIVATE_H

#include <sys/queue.h>

#include "client/serve.h"
#include "client/serve_metrics.h"
#include "client/serve_share.h"

/* A change of the group's replicas whose end is not known yet. */
struct serve_change {
    LIST_ENTRY(serve_change) entry;
    struct serve *serve;
    struct serve_ticket ticket;
};

/* When a message of that incarnation of a peer last came; 0: never. Another one may come under the
 * id while it is being replaced. */
struct serve_heard {
    uint64_t incarnation;
    uint64_t at_ms;
};

struct serve {
    struct serve_options options;
    struct serve_share share; /* of the tickets with the service */
    struct serve_metrics metrics;
    LIST_HEAD(, serve_change) changes;
    struct serve_heard heard[SPEC_MAX_ID + 1][2]; /* by id: the first that came under it, another */
};

/* Fills in what every response says of this server, and sends it. */
void serve_send(struct serve *serve, const struct serve_ticket *ticket,
                struct proto_response *response);
void serve_send_refusal(struct serve *serve, const struct serve_ticket *ticket, enum status status,
                        const char *text);

/* ---- serve_replica.c ---- */
void serve_replicas(struct serve *serve, const struct serve_ticket *ticket, uint64_t now_ms);
void serve_replica(struct serve *serve, const struct serve_ticket *ticket,
                   const struct proto_request *request);
/* Nobody will learn the ends of the changes that are still under way. */
void serve_drop_changes(struct serve *serve);

#endif
