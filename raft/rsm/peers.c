/* The links to the peers follow the configuration in force: the address of a replica is what its
 * entry in the log says, whatever this process was started with.
 *
 * A replica that finds no leader for long is `open`: see should_be_open.
 *
 * One that the configuration has no more keeps its link until its removal is committed, and a
 * little longer: the leader tells it, and it answers. */
#include "raft/rsm/group.h"

#define LINGER_TIMEOUTS 2 /* election timeouts; the core tells a leaver for one */
#define LOST_TIMEOUTS   5 /* without a leader: this replica's configuration may be out of date */

static uint64_t linger_ms(const struct group *group)
{
    return (uint64_t)LINGER_TIMEOUTS * group->options.raft.election_timeout_ms;
}

static uint64_t lost_ms(const struct group *group)
{
    return (uint64_t)LOST_TIMEOUTS * group->options.raft.election_timeout_ms;
}

static void remove_leaver(struct rsm_peers *peers, size_t at)
{
    ASSERT(at < peers->n_leavers);
    peers->n_leavers--;
    memmove(peers->leavers + at, peers->leavers + at + 1,
            (peers->n_leavers - at) * sizeof(peers->leavers[0]));
}

static void add_leaver(struct rsm_peers *peers, const struct raft_server *server)
{
    if (peers->n_leavers == RAFT_MAX_SERVERS) {
        remove_leaver(peers, 0);
    }
    peers->leavers[peers->n_leavers++] = (struct rsm_leaver){.server = *server};
}

/* Those of the old configuration that the new one does not have leave; those that it has stay. */
static void note_leavers(struct group *group, const struct raft_configuration *now)
{
    struct rsm_peers *peers = &group->peers;

    for (size_t i = peers->n_leavers; i-- > 0;) {
        if (raft_configuration_find(now, peers->leavers[i].server.id) != NULL) {
            remove_leaver(peers, i);
        }
    }
    for (size_t i = 0; i < peers->configuration.n; i++) {
        const struct raft_server *server = &peers->configuration.servers[i];

        if (server->id != group->options.raft.id &&
            raft_configuration_find(now, server->id) == NULL) {
            add_leaver(peers, server);
        }
    }
}

static bool forget_leavers(struct group *group)
{
    struct rsm_peers *peers = &group->peers;
    bool committed = raft_configuration_index(group->raft) <= raft_commit_index(group->raft);
    bool changed = false;

    for (size_t i = peers->n_leavers; i-- > 0;) {
        struct rsm_leaver *leaver = &peers->leavers[i];

        if (leaver->until_ms == 0 && committed) {
            leaver->until_ms = group->now_ms + linger_ms(group);
        } else if (leaver->until_ms != 0 && group->now_ms >= leaver->until_ms) {
            remove_leaver(peers, i);
            changed = true;
        }
    }
    return changed;
}

static void set_links(struct group *group)
{
    const struct rsm_peers *peers = &group->peers;
    struct io_peer list[2 * RAFT_MAX_SERVERS];
    size_t n = 0;

    for (size_t i = 0; i < peers->configuration.n; i++) {
        const struct raft_server *server = &peers->configuration.servers[i];
        list[n++] = (struct io_peer){server->id, server->address, server->incarnation};
    }
    for (size_t i = 0; i < peers->n_leavers && peers->configuration.n > 0; i++) {
        const struct raft_server *server = &peers->leavers[i].server;
        list[n++] = (struct io_peer){server->id, server->address, server->incarnation};
    }
    ASSERT(n <= 2 * RAFT_MAX_SERVERS);
    group->world.net->ops->set_peers(group->world.net, group->options.group, list, n, peers->open);
}

/* Everybody that this replica knows may have been replaced while it was away: then it takes the
 * word of a leader that it does not know. An empty configuration knows nobody. */
static bool should_be_open(struct group *group)
{
    const struct raft_configuration *configuration = raft_latest_configuration(group->raft);
    raft_id leader = raft_leader(group->raft);

    if (leader != 0) {
        group->peers.led_ms = group->now_ms;
        return raft_configuration_find(configuration, leader) == NULL &&
               leader != group->options.raft.id;
    }
    return configuration->n == 0 || group->now_ms - group->peers.led_ms >= lost_ms(group);
}

void rsm_peers_follow(struct group *group)
{
    struct rsm_peers *peers = &group->peers;
    raft_index index = raft_configuration_index(group->raft);
    raft_term term = raft_term_at(group->raft, index); /* 0 once it is compacted: then it stays */
    bool changed = !peers->known || peers->index != index ||
                   (peers->term != term && peers->term != 0 && term != 0);

    if (changed) {
        note_leavers(group, raft_latest_configuration(group->raft));
        peers->configuration = *raft_latest_configuration(group->raft);
        peers->index = index;
        peers->known = true;
    }
    peers->term = term != 0 ? term : peers->term;
    if (peers->n_leavers > 0 && forget_leavers(group)) {
        changed = true;
    }
    if (should_be_open(group) != peers->open) {
        peers->open = !peers->open;
        changed = true;
    }
    if (changed) {
        set_links(group);
    }
}

uint64_t rsm_peers_deadline_ms(const struct group *group)
{
    uint64_t deadline = UINT64_MAX;

    for (size_t i = 0; i < group->peers.n_leavers; i++) {
        uint64_t until = group->peers.leavers[i].until_ms;

        deadline = until != 0 && until < deadline ? until : deadline;
    }
    return deadline;
}

uint64_t group_pinned_incarnation(const struct group *group, raft_id id, uint64_t pinned)
{
    const struct raft_configuration *configuration = raft_latest_configuration(group->raft);
    const struct raft_server *server = raft_configuration_find(configuration, id);

    if (server != NULL) {
        return server->incarnation != 0 ? server->incarnation : pinned;
    }
    if (configuration->n == 0 ||
        raft_configuration_index(group->raft) > raft_commit_index(group->raft)) {
        return pinned;
    }
    return 0;
}

void group_pin_incarnation(struct group *group, raft_id id, uint64_t pinned)
{
    ASSERT(id > 0 && id <= SPEC_MAX_ID);
    group->pinned[id] = pinned;
}
