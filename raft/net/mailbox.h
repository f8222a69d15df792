/* mailbox: how everything reaches the loop. nng's callbacks, the disk's threads and a client
 * library's callers post mails; whoever holds the mailbox takes all of them at once, in the order
 * posted, and runs them.
 *
 * One thread holds it at a time. Most of the time that is its owner, the thread of the loop. While
 * the owner waits for mail it may lend it: then who brings a mail to an idle mailbox holds it, runs
 * the mail itself and gives it back, which saves a hand-over between threads, the dearest part of a
 * small message (about 20 us of CPU time).
 *
 * The mutex is the only lock in the protocol path. A mail is embedded in what it is about, so that
 * posting allocates nothing; it must not be posted again before it was taken.
 */
#ifndef RAFT_NET_MAILBOX_H
#define RAFT_NET_MAILBOX_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

struct mail {
    struct mail *next;
    void (*run)(struct mail *mail); /* by the holder; may free the mail */
};

struct mail_list {
    struct mail *first, **last;
};

struct mailbox {
    pthread_mutex_t mutex;
    pthread_cond_t filled; /* on CLOCK_MONOTONIC */
    pthread_t owner;       /* once it has taken mail */
    bool owned;
    struct mail_list mails;
    struct mail_list kept; /* for the owner alone */
    bool lends;            /* the owner waits, and others may hold it */
    bool borrowed;         /* and one does: */
    pthread_t borrower;
    bool waiting; /* the owner sleeps, and nobody has woken it yet */
    bool stopped;
    uint64_t deadline_ms; /* when somebody must hold it again, mail or not */
    uint64_t sleep_ms;    /* when the owner wakes by itself */
};

/* The first thread that takes is the owner. */
void mailbox_init(struct mailbox *mailbox);
void mailbox_fini(struct mailbox *mailbox);

/* Any thread. */
void mailbox_post(struct mailbox *mailbox, struct mail *mail);
/* Any thread that may run mails: posts, and takes all there are if nobody holds the mailbox: true,
 * and the caller holds it now, until mailbox_go_on gives false. */
bool mailbox_bring(struct mailbox *mailbox, struct mail *mail, struct mail **mails);
/* After such mails were run. The holder wants to run again at deadline_ms at the latest. True: more
 * mails (or, NULL, only the deadline) are there already. With `last`, they are left to others. */
bool mailbox_go_on(struct mailbox *mailbox, uint64_t now_ms, uint64_t deadline_ms, bool last,
                   struct mail **mails);
/* By the holder: nobody but the owner holds it next. */
void mailbox_end_lending(struct mailbox *mailbox);
/* By the holder: posts a mail that only the owner will run. */
void mailbox_keep(struct mailbox *mailbox, struct mail *mail);
bool mailbox_is_owner(const struct mailbox *mailbox);
/* Any thread: whether it holds the mailbox. */
bool mailbox_is_holder(struct mailbox *mailbox);

/* Any thread: mailbox_take does not wait any more. */
void mailbox_stop(struct mailbox *mailbox);
/* Undoes mailbox_stop. */
void mailbox_reopen(struct mailbox *mailbox);
bool mailbox_is_stopped(struct mailbox *mailbox);

/* By the owner, who holds it before and after. Waits for a mail, until `deadline_ms` (monotonic; 0:
 * not at all, UINT64_MAX: for ever), and takes all there are, as a list in the order posted; NULL
 * for none. With `lend`, others may hold it meanwhile, and move the deadline. */
struct mail *mailbox_take(struct mailbox *mailbox, uint64_t deadline_ms, bool lend);

#endif
