/* The observer: finds out what changed in a replica and has the rules looked at; see check_raft.h.
 */
#include "tests/sim/check_raft.h"

#include <stdarg.h>
#include <stdio.h>

#include "tests/sim/check_raft_internal.h"
#include "tests/sim/world_internal.h"

#define MAX_LISTENERS 4

struct check_raft {
    struct world *world;
    struct check_replica replicas[WORLD_MAX_NODES];
    struct check_group *groups[WORLD_MAX_NODES];
    size_t n_groups;
    struct {
        check_raft_committed committed;
        void *context;
    } listeners[MAX_LISTENERS];
    size_t n_listeners;
};

void check_raft_fail(const struct check_replica *replica, const char *invariant, const char *format,
                     ...)
{
    char details[512];
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(details, sizeof(details), format, arguments);
    va_end(arguments);
    check_fail(invariant, "group %u replica %u at %.6f s: %s", replica->group->gid, replica->id,
               (double)world_now_us(replica->group->check->world) / 1e6, details);
}

void check_raft_tell_committed(const struct check_group *group, const struct raft_entry *entry)
{
    for (size_t i = 0; i < group->check->n_listeners; i++) {
        group->check->listeners[i].committed(group->check->listeners[i].context, group->gid, entry);
    }
}

void check_raft_on_committed(struct check_raft *check, check_raft_committed committed,
                             void *context)
{
    ASSERT(check->n_listeners < MAX_LISTENERS);
    check->listeners[check->n_listeners].committed = committed;
    check->listeners[check->n_listeners++].context = context;
}

/* ---- The shadow of a log ---- */

static void push_term(struct check_replica *replica, raft_term term)
{
    MEM_GROW(replica->terms, replica->terms_capacity, replica->skip + replica->n_terms + 1);
    replica->terms[replica->skip + replica->n_terms++] = term;
}

static void drop_terms(struct check_replica *replica, size_t n)
{
    replica->skip += n;
    replica->n_terms -= n;
    if (replica->skip > 64 && replica->skip > 2 * replica->n_terms) {
        memmove(replica->terms, replica->terms + replica->skip,
                replica->n_terms * sizeof(replica->terms[0]));
        replica->skip = 0;
    }
}

/* The log begins later than it did: compacted, or begun anew by a snapshot. */
static void move_base(struct check_replica *replica, const struct raft *raft, raft_index base,
                      struct check_change *change)
{
    raft_term term = raft_term_at(raft, base);

    if (base < replica->base) {
        check_raft_fail(replica, "log matching", "its log begins after %llu, it began after %llu",
                        (unsigned long long)base, (unsigned long long)replica->base);
    }
    if (base <= check_replica_last(replica) && check_replica_term(replica, base) == term) {
        drop_terms(replica, base - replica->base);
    } else {
        change->reset = true;
        change->kept = replica->base;
        replica->n_terms = replica->skip = 0;
    }
    replica->base = base;
    replica->base_term = term;
}

static void look_at_log(struct check_replica *replica, const struct raft *raft,
                        struct check_change *change)
{
    raft_index base = raft_first_index(raft) - 1, last = raft_last_index(raft), at;

    at = check_replica_last(replica);
    *change = (struct check_change){.old_last = at, .kept = at};
    if (base == replica->base && last == at &&
        raft_term_at(raft, last) == check_replica_term(replica, last)) {
        return;
    }
    if (base != replica->base) {
        move_base(replica, raft, base, change);
    }
    at = check_replica_last(replica) < last ? check_replica_last(replica) : last;
    while (at > base && raft_term_at(raft, at) != check_replica_term(replica, at)) {
        at--;
    }
    if (!change->reset) {
        change->kept = at;
    }
    replica->n_terms = at - base;
    for (raft_index i = at + 1; i <= last; i++) {
        const struct raft_entry *entry = raft_entry_at(raft, i);
        raft_term prev = check_replica_term(replica, i - 1);

        if (entry == NULL || entry->index != i) {
            check_raft_fail(replica, "log matching", "its log has a gap at %llu",
                            (unsigned long long)i);
        }
        check_log_entry(replica, entry, prev);
        push_term(replica, entry->term);
    }
}

/* ---- The observer ---- */

static struct check_group *find_group(struct check_raft *check, group_id gid)
{
    for (size_t i = 0; i < check->n_groups; i++) {
        if (check->groups[i]->gid == gid) {
            return check->groups[i];
        }
    }
    check->groups[check->n_groups] = mem_zalloc(sizeof(struct check_group));
    check->groups[check->n_groups]->check = check;
    check->groups[check->n_groups]->gid = gid;
    return check->groups[check->n_groups++];
}

/* Another replica under this one's name, which promised nothing yet. */
static void begin_anew(struct check_replica *replica)
{
    struct check_replica fresh = {.group = replica->group, .id = replica->id};

    mem_free(replica->votes);
    mem_free(replica->terms);
    *replica = fresh;
}

/* NULL: the node is not looked at. */
static struct check_replica *find_replica(struct check_raft *check, struct world *world,
                                          size_t node)
{
    struct check_replica *replica = &check->replicas[node];

    if (replica->group == NULL) {
        replica->group = find_group(check, world->nodes[node]->gid);
        replica->id = world->nodes[node]->id;
    }
    if (replica->incarnation != world_incarnation(world, node)) {
        if (replica->incarnation != 0) {
            begin_anew(replica);
        }
        replica->incarnation = world_incarnation(world, node);
    }
    if (!replica->forgotten && world_is_wiped(world, node)) {
        replica->forgotten = true;
    }
    return replica->forgotten ? NULL : replica;
}

static void on_started(void *context, struct world *world, size_t node)
{
    struct check_replica *replica = find_replica(context, world, node);
    const struct group *group = world_group(world, node);
    const struct raft *raft;
    struct check_change change;

    if (replica == NULL || group == NULL) {
        return;
    }
    raft = group_raft(group);
    replica->n_terms = replica->skip = 0;
    replica->base = raft_first_index(raft) - 1;
    replica->base_term = raft_term_at(raft, replica->base);
    look_at_log(replica, raft, &change);
    check_election_started(replica, raft);
    check_log_started(replica, group);
}

static void on_stepped(void *context, struct world *world, size_t node,
                       const struct io_event *event)
{
    struct check_replica *replica = find_replica(context, world, node);
    const struct group *group = world_group(world, node);
    struct check_change change;

    (void)event;
    if (replica == NULL || group == NULL) {
        return;
    }
    look_at_log(replica, group_raft(group), &change);
    check_election_stepped(replica, group_raft(group), &change);
    check_log_stepped(replica, group);
}

static void on_sent(void *context, struct world *world, size_t node, raft_id to,
                    struct slice message)
{
    struct check_replica *replica = find_replica(context, world, node);
    const struct group *group = world_group(world, node);

    (void)to;
    if (replica != NULL) {
        check_election_sent(replica, group != NULL ? group_raft(group) : NULL, message);
    }
}

struct check_raft *check_raft_create(struct world *world)
{
    struct check_raft *check = mem_zalloc(sizeof(*check));
    struct world_observer observer = {
        .context = check, .started = on_started, .stepped = on_stepped, .sent = on_sent};

    check->world = world;
    world_observe(world, &observer);
    return check;
}

void check_raft_exclude(struct check_raft *check, size_t node)
{
    ASSERT(node < WORLD_MAX_NODES && check->replicas[node].group == NULL);
    check->replicas[node].forgotten = true;
}

void check_raft_destroy(struct check_raft **check)
{
    struct check_raft *c = *check;

    if (c == NULL) {
        return;
    }
    for (size_t i = 0; i < WORLD_MAX_NODES; i++) {
        mem_free(c->replicas[i].votes);
        mem_free(c->replicas[i].terms);
    }
    for (size_t i = 0; i < c->n_groups; i++) {
        mem_free(c->groups[i]->leaders);
        mem_free(c->groups[i]->seen);
        mem_free(c->groups[i]->seen_first);
        mem_free(c->groups[i]->committed);
        mem_free(c->groups[i]);
    }
    mem_free(c);
    *check = NULL;
}
