/* loop: what everything on the loop shares: the mailbox, the timers and the time.
 *
 * "On the loop thread" means: by the thread that holds the mailbox. One does at a time.
 */
#ifndef RAFT_NET_LOOP_H
#define RAFT_NET_LOOP_H

#include "raft/net/mailbox.h"
#include "raft/util/timers.h"
#include "raft/util/trace.h"

struct loop {
    struct mailbox mailbox;
    struct timers timers;
    bool lends;           /* turns may run on the threads that bring mail */
    bool owner_is_next;   /* the next turn runs on the owner's thread */
    uint64_t busy_ms;     /* the millisecond in which */
    uint32_t busy_turns;  /* so many turns ended */
    uint64_t now_ms;      /* monotonic, read at the start and the end of each turn */
    uint64_t now_us;      /* the same, finer: for statistics */
    uint64_t to_wall_us;  /* what to add for the time since 1970; read once a turn */
    uint64_t deadline_ms; /* of the next turn, as of the end of the last one */
    uint64_t asleep_ms;   /* how long it could not look, but for a little each time, in all */
    uint32_t n_open;      /* streams, dials and listeners that nng has not let go of yet */
    const struct trace *trace;
};

/* By a thread of nng's, or another that may run turns: posts the mail, and runs it and what follows
 * here if the loop is idle. `patient`: this thread has nothing else to do for a while. */
void loop_bring(struct loop *loop, struct mail *mail, bool patient);

/* By the holder: the owner runs the mail, now if it is the holder, else after this turn. For
 * everything that waits for a callback of nng's to return or to be run (freeing an aio, a dialer, a
 * listener): nng's own thread must not wait for that, as it may be the only one that runs them. */
static inline void loop_leave_to_owner(struct loop *loop, struct mail *mail)
{
    if (mailbox_is_owner(&loop->mailbox)) {
        mail->run(mail);
    } else {
        mailbox_keep(&loop->mailbox, mail);
    }
}

/* Time by which the silence of others is measured: it hardly moves while this thread was busy or
 * stopped, so that nobody is taken for dead because nobody listened. */
static inline uint64_t loop_awake_ms(const struct loop *loop)
{
    return loop->now_ms - loop->asleep_ms;
}

/* A deadline of the awake clock as one of the timers' clock, as things stand. */
static inline uint64_t loop_from_awake_ms(const struct loop *loop, uint64_t awake_ms)
{
    return awake_ms + loop->asleep_ms;
}

#endif
