/* Membership: the history of configurations along the log.
 *
 * "The new configuration takes effect on each server as soon as it is added to that server's log: a
 * server always uses the latest configuration in its log, regardless of whether the entry is
 * committed" (thesis 4.1). So appending a configuration entry adopts it, and truncating the log
 * falls back to the one before. The history is short: it reaches back only to the snapshot.
 *
 * The verbs that change the configuration at run time are in change.c: they append entries and need
 * nothing else from this file. */
#include "raft/core/membership.h"

#include "raft/util/assert.h"
#include "raft/util/mem.h"

static void push(struct membership *membership, raft_index index,
                 const struct raft_configuration *configuration)
{
    ASSERT(membership->n == 0 || membership->entries[membership->n - 1].index < index);
    ASSERT(configuration->n <= RAFT_MAX_SERVERS);
    MEM_GROW(membership->entries, membership->capacity, membership->n + 1);
    membership->entries[membership->n].index = index;
    membership->entries[membership->n].configuration = *configuration;
    membership->n++;
}

void membership_init(struct membership *membership, raft_index index,
                     const struct raft_configuration *configuration)
{
    *membership = (struct membership){0};
    push(membership, index, configuration);
}

void membership_fini(struct membership *membership)
{
    mem_free(membership->entries);
    *membership = (struct membership){0};
}

const struct raft_configuration *membership_latest(const struct membership *membership)
{
    ASSERT(membership->n > 0);
    return &membership->entries[membership->n - 1].configuration;
}

raft_index membership_latest_index(const struct membership *membership)
{
    ASSERT(membership->n > 0);
    return membership->entries[membership->n - 1].index;
}

const struct raft_configuration *membership_at(const struct membership *membership,
                                               raft_index index)
{
    size_t at = membership->n;

    ASSERT(membership->n > 0);
    while (at > 1 && membership->entries[at - 1].index > index) {
        at--;
    }
    return &membership->entries[at - 1].configuration;
}

bool membership_entry_is_valid(const struct raft_entry *entry)
{
    struct raft_configuration configuration;

    switch (entry->type) {
    case RAFT_ENTRY_NOOP:
        return entry->data == NULL;
    case RAFT_ENTRY_COMMAND:
        return entry->data != NULL;
    case RAFT_ENTRY_CONFIGURATION:
        return raft_configuration_decode(blob_slice(entry->data), &configuration) &&
               configuration.n > 0;
    }
    return false;
}

void membership_adopt(struct membership *membership, const struct raft_entry *entry)
{
    struct raft_configuration configuration;
    bool decoded;

    if (entry->type != RAFT_ENTRY_CONFIGURATION) {
        return;
    }
    decoded = raft_configuration_decode(blob_slice(entry->data), &configuration);
    ASSERT(decoded && configuration.n > 0); /* checked when it came in */
    push(membership, entry->index, &configuration);
}

void membership_truncate(struct membership *membership, raft_index from)
{
    while (membership->n > 1 && membership->entries[membership->n - 1].index >= from) {
        membership->n--;
    }
    ASSERT(membership->entries[membership->n - 1].index < from);
}

void membership_compact(struct membership *membership, raft_index index)
{
    size_t gone = 0;

    while (gone + 1 < membership->n && membership->entries[gone + 1].index <= index) {
        gone++;
    }
    membership->n -= gone;
    memmove(membership->entries, membership->entries + gone,
            membership->n * sizeof(*membership->entries));
    ASSERT(membership->n > 0);
}

void membership_reset(struct membership *membership, raft_index index,
                      const struct raft_configuration *configuration)
{
    membership->n = 0;
    push(membership, index, configuration);
}
