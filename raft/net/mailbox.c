#include "raft/net/mailbox.h"

#include <errno.h>
#include <stddef.h>
#include <time.h>

#include "raft/util/assert.h"

void mailbox_init(struct mailbox *mailbox)
{
    pthread_condattr_t attributes;

    *mailbox = (struct mailbox){.last = &mailbox->first};
    ASSERT(pthread_mutex_init(&mailbox->mutex, NULL) == 0);
    ASSERT(pthread_condattr_init(&attributes) == 0);
    ASSERT(pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC) == 0);
    ASSERT(pthread_cond_init(&mailbox->filled, &attributes) == 0);
    pthread_condattr_destroy(&attributes);
}

void mailbox_fini(struct mailbox *mailbox)
{
    ASSERT(mailbox->first == NULL);
    pthread_cond_destroy(&mailbox->filled);
    pthread_mutex_destroy(&mailbox->mutex);
}

void mailbox_post(struct mailbox *mailbox, struct mail *mail)
{
    bool waiting;

    mail->next = NULL;
    pthread_mutex_lock(&mailbox->mutex);
    *mailbox->last = mail;
    mailbox->last = &mail->next;
    waiting = mailbox->waiting;
    mailbox->waiting = false;
    /* Signalled under the lock: once it is released, the loop may end and free the mailbox. */
    if (waiting) {
        pthread_cond_signal(&mailbox->filled);
    }
    pthread_mutex_unlock(&mailbox->mutex);
}

void mailbox_stop(struct mailbox *mailbox)
{
    pthread_mutex_lock(&mailbox->mutex);
    mailbox->stopped = true;
    pthread_cond_signal(&mailbox->filled);
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

/* Waits once; false when the deadline passed. */
static bool mailbox_wait(struct mailbox *mailbox, uint64_t deadline_ms)
{
    struct timespec deadline = {.tv_sec = (time_t)(deadline_ms / 1000),
                                .tv_nsec = (long)(deadline_ms % 1000) * 1000000};
    int error;

    mailbox->waiting = true;
    if (deadline_ms == UINT64_MAX) {
        error = pthread_cond_wait(&mailbox->filled, &mailbox->mutex);
    } else {
        error = pthread_cond_timedwait(&mailbox->filled, &mailbox->mutex, &deadline);
    }
    mailbox->waiting = false;
    ASSERT(error == 0 || error == ETIMEDOUT);
    return error == 0;
}

struct mail *mailbox_take(struct mailbox *mailbox, uint64_t deadline_ms)
{
    struct mail *taken;

    pthread_mutex_lock(&mailbox->mutex);
    while (mailbox->first == NULL && !mailbox->stopped && deadline_ms > 0 &&
           mailbox_wait(mailbox, deadline_ms)) {
    }
    taken = mailbox->first;
    mailbox->first = NULL;
    mailbox->last = &mailbox->first;
    pthread_mutex_unlock(&mailbox->mutex);
    return taken;
}
