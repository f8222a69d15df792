#include "raft/net/gather.h"

#include "raft/net/net_internal.h"
#include "raft/util/assert.h"

#define GATHER_ALONE   2 /* a client with so few requests under way waits for nothing */
#define GATHER_REPLIED 2 /* receives after the last answers that may be of who waited for those */
#define GATHER_ENOUGH  8 /* for so many messages a receive is worth its price */

static void gather_arm(struct net *net)
{
    struct gather *gather = &net->gather;
    uint64_t span_ms = gather->span_ms > 0 ? gather->span_ms : 1;

    timers_set(&net->loop.timers, &gather->timer, (net->loop.now_ms / span_ms + 1) * span_ms);
}

/* A boundary. Where some rested, some will again: the timer is set at once, so that the loop's
 * thread, which sleeps until then, need not be woken to be told of it. */
static void gather_on_boundary(void *owner)
{
    struct net *net = owner;
    struct gather *gather = &net->gather;
    struct conn *conn;

    if (TAILQ_EMPTY(&gather->resting)) {
        return;
    }
    while ((conn = TAILQ_FIRST(&gather->resting)) != NULL) {
        gather_forget(conn);
        conn_receive_more(conn);
    }
    gather_arm(net);
}

void gather_init(struct net *net)
{
    TAILQ_INIT(&net->gather.resting);
    net->gather.timer = (struct timer){.fired = gather_on_boundary, .owner = net};
}

void gather_fini(struct net *net)
{
    ASSERT(TAILQ_EMPTY(&net->gather.resting));
    timers_cancel(&net->loop.timers, &net->gather.timer);
}

static bool gather_may_rest(const struct conn *conn, uint64_t n)
{
    return conn->net->gather.span_ms > 0 && conn->state == CONN_UP && n < GATHER_ENOUGH &&
           conn->unanswered > GATHER_ALONE && conn->n_receives > GATHER_REPLIED;
}

void gather_or_receive(struct conn *conn, uint64_t n)
{
    struct gather *gather = &conn->net->gather;

    conn->n_receives++;
    if (!gather_may_rest(conn, n)) {
        conn_receive_more(conn);
        return;
    }
    ASSERT(conn->accepted && !conn->is_resting);
    conn->is_resting = true;
    if (TAILQ_EMPTY(&gather->resting)) {
        gather_arm(conn->net);
    }
    TAILQ_INSERT_TAIL(&gather->resting, conn, resting);
}

void gather_forget(struct conn *conn)
{
    if (conn->is_resting) {
        conn->is_resting = false;
        TAILQ_REMOVE(&conn->net->gather.resting, conn, resting);
    }
}

void net_set_gather(struct net *net, uint32_t ms)
{
    net->gather.span_ms = ms;
}
