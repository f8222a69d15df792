#include "raft/net/mailbox.h"

#include <errno.h>
#include <stddef.h>
#include <time.h>

#include "raft/util/assert.h"

void mailbox_init(struct mailbox *mailbox)
{
    pthread_condattr_t attributes;

    *mailbox = (struct mailbox){0};
    mailbox->mails.last = &mailbox->mails.first;
    mailbox->kept.last = &mailbox->kept.first;
    ASSERT(pthread_mutex_init(&mailbox->mutex, NULL) == 0);
    ASSERT(pthread_condattr_init(&attributes) == 0);
    ASSERT(pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC) == 0);
    ASSERT(pthread_cond_init(&mailbox->filled, &attributes) == 0);
    pthread_condattr_destroy(&attributes);
}

void mailbox_fini(struct mailbox *mailbox)
{
    ASSERT(mailbox->mails.first == NULL && mailbox->kept.first == NULL);
    pthread_cond_destroy(&mailbox->filled);
    pthread_mutex_destroy(&mailbox->mutex);
}

static void list_append(struct mail_list *list, struct mail *mail)
{
    mail->next = NULL;
    *list->last = mail;
    list->last = &mail->next;
}

static struct mail *list_take(struct mail_list *list)
{
    struct mail *first = list->first;

    list->first = NULL;
    list->last = &list->first;
    return first;
}

/* Locked. Signalled under the lock: once it is released, the loop may end and free the mailbox. */
static void mailbox_wake_owner(struct mailbox *mailbox)
{
    if (mailbox->waiting) {
        mailbox->waiting = false;
        pthread_cond_signal(&mailbox->filled);
    }
}

void mailbox_post(struct mailbox *mailbox, struct mail *mail)
{
    pthread_mutex_lock(&mailbox->mutex);
    list_append(&mailbox->mails, mail);
    if (!mailbox->borrowed) { /* else who holds it will look again */
        mailbox_wake_owner(mailbox);
    }
    pthread_mutex_unlock(&mailbox->mutex);
}

bool mailbox_bring(struct mailbox *mailbox, struct mail *mail, struct mail **mails)
{
    bool borrows;

    pthread_mutex_lock(&mailbox->mutex);
    list_append(&mailbox->mails, mail);
    borrows = mailbox->lends && !mailbox->borrowed && !mailbox->stopped;
    if (borrows) {
        mailbox->borrowed = true;
        mailbox->borrower = pthread_self();
        *mails = list_take(&mailbox->mails);
    } else if (!mailbox->borrowed) {
        mailbox_wake_owner(mailbox);
    }
    pthread_mutex_unlock(&mailbox->mutex);
    return borrows;
}

void mailbox_end_lending(struct mailbox *mailbox)
{
    pthread_mutex_lock(&mailbox->mutex);
    mailbox->lends = false;
    pthread_mutex_unlock(&mailbox->mutex);
}

bool mailbox_go_on(struct mailbox *mailbox, uint64_t now_ms, uint64_t deadline_ms, bool last,
                   struct mail **mails)
{
    bool more;

    pthread_mutex_lock(&mailbox->mutex);
    ASSERT(mailbox->borrowed);
    more = mailbox->mails.first != NULL || deadline_ms <= now_ms;
    if (more && !last && !mailbox->stopped) {
        *mails = list_take(&mailbox->mails);
    } else {
        mailbox->borrowed = false;
        mailbox->deadline_ms = deadline_ms;
        if (more || mailbox->kept.first != NULL || mailbox->stopped ||
            deadline_ms < mailbox->sleep_ms) {
            mailbox_wake_owner(mailbox);
        }
    }
    more = mailbox->borrowed;
    pthread_mutex_unlock(&mailbox->mutex);
    return more;
}

void mailbox_keep(struct mailbox *mailbox, struct mail *mail)
{
    pthread_mutex_lock(&mailbox->mutex);
    list_append(&mailbox->kept, mail);
    pthread_mutex_unlock(&mailbox->mutex);
}

bool mailbox_is_owner(const struct mailbox *mailbox)
{
    return mailbox->owned && pthread_equal(mailbox->owner, pthread_self());
}

bool mailbox_is_holder(struct mailbox *mailbox)
{
    pthread_t self = pthread_self();
    bool holds;

    pthread_mutex_lock(&mailbox->mutex);
    holds = mailbox->borrowed ? pthread_equal(mailbox->borrower, self) : mailbox_is_owner(mailbox);
    pthread_mutex_unlock(&mailbox->mutex);
    return holds;
}

void mailbox_stop(struct mailbox *mailbox)
{
    pthread_mutex_lock(&mailbox->mutex);
    mailbox->stopped = true;
    mailbox_wake_owner(mailbox);
    pthread_mutex_unlock(&mailbox->mutex);
}

void mailbox_reopen(struct mailbox *mailbox)
{
    pthread_mutex_lock(&mailbox->mutex);
    mailbox->stopped = false;
    pthread_mutex_unlock(&mailbox->mutex);
}

bool mailbox_is_stopped(struct mailbox *mailbox)
{
    bool stopped;

    pthread_mutex_lock(&mailbox->mutex);
    stopped = mailbox->stopped;
    pthread_mutex_unlock(&mailbox->mutex);
    return stopped;
}

/* Waits once, until the deadline or, while the mailbox is borrowed, for a signal alone; true when
 * the deadline, as it stands now, has passed. */
static bool mailbox_wait(struct mailbox *mailbox)
{
    uint64_t until_ms = mailbox->borrowed ? UINT64_MAX : mailbox->deadline_ms;
    struct timespec until = {.tv_sec = (time_t)(until_ms / 1000),
                             .tv_nsec = (long)(until_ms % 1000) * 1000000};
    int error;

    mailbox->waiting = true;
    mailbox->sleep_ms = until_ms;
    if (until_ms == UINT64_MAX) {
        error = pthread_cond_wait(&mailbox->filled, &mailbox->mutex);
    } else {
        error = pthread_cond_timedwait(&mailbox->filled, &mailbox->mutex, &until);
    }
    mailbox->waiting = false;
    ASSERT(error == 0 || error == ETIMEDOUT);
    return error == ETIMEDOUT && mailbox->deadline_ms <= until_ms;
}

struct mail *mailbox_take(struct mailbox *mailbox, uint64_t deadline_ms, bool lend)
{
    struct mail *taken;
    bool due = deadline_ms == 0;

    pthread_mutex_lock(&mailbox->mutex);
    ASSERT(!mailbox->borrowed);
    mailbox->owner = pthread_self();
    mailbox->owned = true;
    mailbox->deadline_ms = deadline_ms;
    mailbox->lends = lend;
    while (mailbox->borrowed || (mailbox->mails.first == NULL && mailbox->kept.first == NULL &&
                                 !mailbox->stopped && !due)) {
        due = mailbox_wait(mailbox);
    }
    mailbox->lends = false;
    *mailbox->mails.last = list_take(&mailbox->kept); /* behind the others */
    taken = list_take(&mailbox->mails);
    pthread_mutex_unlock(&mailbox->mutex);
    return taken;
}
