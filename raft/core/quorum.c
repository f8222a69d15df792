/* Majorities. A joint configuration asks both halves separately (thesis 4.3): "agreement requires
 * separate majorities from both the old and new configurations". */
#include "raft/core/quorum.h"

#include "raft/util/assert.h"

static enum quorum_result vote_of(const struct raft_configuration *configuration, uint8_t flag,
                                  const struct id_set *granted, const struct id_set *rejected)
{
    size_t n = 0, yes = 0, no = 0;

    for (size_t i = 0; i < configuration->n; i++) {
        const struct raft_server *server = &configuration->servers[i];

        if (server->flags & flag) {
            n++;
            yes += id_set_has(granted, server->id);
            no += !id_set_has(granted, server->id) && id_set_has(rejected, server->id);
        }
    }
    ASSERT(yes + no <= n);
    if (n == 0) {
        return QUORUM_LOST;
    }
    if (yes > n / 2) {
        return QUORUM_WON;
    }
    return n - no > n / 2 ? QUORUM_PENDING : QUORUM_LOST;
}

enum quorum_result quorum_vote(const struct raft_configuration *configuration,
                               const struct id_set *granted, const struct id_set *rejected)
{
    enum quorum_result now = vote_of(configuration, RAFT_VOTER, granted, rejected);
    enum quorum_result old = now;

    if (raft_configuration_is_joint(configuration)) {
        old = vote_of(configuration, RAFT_VOTER_OLD, granted, rejected);
    }
    if (now == QUORUM_LOST || old == QUORUM_LOST) {
        return QUORUM_LOST;
    }
    return now == QUORUM_WON && old == QUORUM_WON ? QUORUM_WON : QUORUM_PENDING;
}

/* The value that more than half of the servers with the flag have reached. */
static uint64_t value_of(const struct raft_configuration *configuration, uint8_t flag,
                         const uint64_t values[RAFT_MAX_SERVERS])
{
    uint64_t sorted[RAFT_MAX_SERVERS];
    size_t n = 0;

    ASSERT(configuration->n <= RAFT_MAX_SERVERS);
    for (size_t i = 0; i < configuration->n; i++) {
        if (configuration->servers[i].flags & flag) {
            size_t at = n++;

            for (; at > 0 && sorted[at - 1] < values[i]; at--) {
                sorted[at] = sorted[at - 1];
            }
            sorted[at] = values[i];
        }
    }
    return n == 0 ? 0 : sorted[n / 2]; /* descending: n/2 + 1 of them are at least this */
}

uint64_t quorum_reached_value(const struct raft_configuration *configuration,
                              const uint64_t values[RAFT_MAX_SERVERS])
{
    uint64_t now = value_of(configuration, RAFT_VOTER, values);
    uint64_t old = now;

    if (raft_configuration_is_joint(configuration)) {
        old = value_of(configuration, RAFT_VOTER_OLD, values);
    }
    return now < old ? now : old;
}
