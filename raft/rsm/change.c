/* Changes of the configuration that were asked for here: one at a time, from the order until its
 * entry, or the last of its entries, is committed. The core makes the entries (raft/core/change.c);
 * this file only knows when to say what became of the order. */
#include "raft/rsm/group.h"

void rsm_change_init(struct group *group)
{
    group->change = (struct rsm_change){0};
}

static void end_change(struct group *group, enum status status, const char *reason,
                       raft_index index)
{
    struct rsm_change change = group->change;

    ASSERT(change.done != NULL && (status == ST_OK) == (index != 0));
    group->change = (struct rsm_change){0};
    change.done(change.context, status, reason, index);
}

void rsm_change_abandon(struct group *group)
{
    if (group->change.done != NULL) {
        end_change(group, ST_UNKNOWN, "the replica stops; the change may be made yet", 0);
    }
}

/* Whether the entry with which the change began was replaced by another leader's. What a snapshot
 * covers has no term here any more, but then it was committed. */
static bool is_replaced(const struct group *group)
{
    raft_term term = raft_term_at(group->raft, group->change.index);

    return raft_last_index(group->raft) < group->change.index ||
           (term != 0 && term != group->change.term);
}

/* The index of the entry that ends the change, once it is committed; else 0. */
static raft_index ended_at(const struct group *group)
{
    const struct raft *raft = group->raft;
    const struct rsm_change *change = &group->change;
    raft_index index = raft_configuration_index(raft);

    if (raft_commit_index(raft) < change->index) {
        return 0;
    }
    if (change->change.kind != GROUP_REMOVE_REPLICA) {
        return change->index;
    }
    /* Of two entries, the one in force is the second once it is there. */
    if (index < change->index || raft_commit_index(raft) < index ||
        raft_configuration_is_joint(raft_latest_configuration(raft))) {
        return 0;
    }
    return raft_configuration_find(raft_latest_configuration(raft), change->change.id) == NULL
               ? index
               : 0;
}

void rsm_change_settle(struct group *group)
{
    const struct rsm_change *change = &group->change;
    bool leads =
        raft_role(group->raft) == RAFT_LEADER && raft_current_term(group->raft) == change->led_term;
    raft_index end;

    if (change->done == NULL) {
        return;
    }
    end = is_replaced(group) ? 0 : ended_at(group);
    if (end != 0) {
        end_change(group, ST_OK, "committed", end);
    } else if (is_replaced(group)) {
        end_change(group, ST_UNKNOWN, "another leader's entries took its place", 0);
    } else if (!leads && change->change.kind != GROUP_FORCE_ALONE) {
        /* A later leader finishes it, or never saw it. */
        end_change(group, ST_UNKNOWN, "leadership was lost before the change was committed", 0);
    }
}

static void begin(struct group *group, const struct group_change *change)
{
    struct raft_event event = {.type = RAFT_EVENT_CONFIGURE};
    struct rsm_answer answer;

    event.change = (struct raft_change){.id = change->id,
                                        .address = change->url,
                                        .configuration_index = change->configuration_index};
    switch (change->kind) {
    case GROUP_ADD_REPLICA:
        event.change.kind = RAFT_CHANGE_ADD;
        break;
    case GROUP_REMOVE_REPLICA:
        event.change.kind = RAFT_CHANGE_REMOVE;
        break;
    case GROUP_FORCE_ALONE:
        event.change.kind = RAFT_CHANGE_FORCE_ALONE;
        break;
    }
    answer = rsm_step_raft(group, &event);
    if (answer.status != ST_OK) {
        end_change(group, answer.status, answer.reason, 0);
        return;
    }
    ASSERT(answer.first_index > 0);
    group->change.index = answer.first_index;
    group->change.term = raft_term_at(group->raft, answer.first_index);
    group->change.led_term = raft_current_term(group->raft);
}

/* NULL, or why the order makes no sense here. */
static const char *check_order(const struct group *group, const struct group_change *change)
{
    if (change->kind != GROUP_ADD_REPLICA && change->kind != GROUP_REMOVE_REPLICA &&
        change->kind != GROUP_FORCE_ALONE) {
        return "no such change";
    }
    if (change->kind == GROUP_ADD_REPLICA) {
        return change->url == NULL ? "a replica needs a URL" : spec_check_url(change->url);
    }
    if (change->kind == GROUP_FORCE_ALONE && change->id != group->options.raft.id) {
        return "a replica can be left alone only by an order to itself";
    }
    return NULL;
}

void group_change_replicas(struct group *group, const struct group_change *change,
                           group_change_done done, void *context)
{
    const char *wrong = check_order(group, change);

    ASSERT(done != NULL);
    if (group->halted || group->stopping) {
        done(context, ST_SHUTDOWN, "the replica stops", 0);
    } else if (wrong != NULL) {
        done(context, ST_INVALID, wrong, 0);
    } else if (group->change.done != NULL) {
        done(context, ST_BUSY, "another change of the configuration is under way", 0);
    } else {
        group->change = (struct rsm_change){.done = done, .context = context, .change = *change};
        group->change.change.url = NULL;
        begin(group, change);
    }
}
