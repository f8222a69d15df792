/* mailbox: how everything reaches the loop thread. nng's callbacks, the disk's threads and a client
 * library's callers post mails; the loop takes all of them at once, in the order posted.
 *
 * Its mutex is the only lock in the protocol path. A mail is embedded in what it is about, so that
 * posting allocates nothing; it must not be posted again before it was taken.
 */
#ifndef RAFT_NET_MAILBOX_H
#define RAFT_NET_MAILBOX_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

struct mail {
    struct mail *next;
    void (*run)(struct mail *mail); /* on the loop thread; may free the mail */
};

struct mailbox {
    pthread_mutex_t mutex;
    pthread_cond_t filled; /* on CLOCK_MONOTONIC */
    struct mail *first, **last;
    bool waiting; /* the loop sleeps: only then is it signalled */
    bool stopped;
};

void mailbox_init(struct mailbox *mailbox);
void mailbox_fini(struct mailbox *mailbox);

/* Any thread. */
void mailbox_post(struct mailbox *mailbox, struct mail *mail);
/* Any thread: mailbox_take does not wait any more. */
void mailbox_stop(struct mailbox *mailbox);
/* Undoes mailbox_stop. */
void mailbox_reopen(struct mailbox *mailbox);
bool mailbox_is_stopped(struct mailbox *mailbox);

/* Waits for a mail, until `deadline_ms` (monotonic; 0: not at all, UINT64_MAX: for ever), and takes
 * all there are, as a list in the order posted; NULL for none. */
struct mail *mailbox_take(struct mailbox *mailbox, uint64_t deadline_ms);

#endif
