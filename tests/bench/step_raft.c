/* The Raft core with a batch, as leader and as follower of a group of three; see step_case.h. The
 * other two replicas and the disk are played: they say yes to everything, at once.
 */
#include <string.h>

#include "raft/util/mem.h"
#include "tests/bench/step_case.h"
#include "tests/bench/step_world.h"

struct core {
    struct raft *raft;
    uint64_t now_ms;
    struct raft_update update;
    struct blob *commands[BATCH]; /* leader */
    struct raft_message append;   /* follower */
    raft_index last;              /* follower: of its log */
};

static void step(struct core *core, struct raft_event *event)
{
    event->now_ms = core->now_ms;
    raft_step(core->raft, event, &core->update);
}

static void persisted(struct core *core, uint64_t seq)
{
    struct raft_event event = {.type = RAFT_EVENT_PERSISTED, .persisted.seq = seq};

    if (seq != 0) {
        step(core, &event);
    }
}

static void receive(struct core *core, struct raft_message *message)
{
    struct raft_event event = {.type = RAFT_EVENT_MESSAGE, .message = message};

    message->term = message->term == 0 ? raft_current_term(core->raft) : message->term;
    message->to = 1;
    step(core, &event);
    raft_message_fini(message);
}

static void drop_messages(struct core *core)
{
    for (size_t i = 0; i < core->update.n_messages; i++) {
        raft_message_fini(&core->update.messages[i]);
    }
    for (size_t i = 0; i < core->update.n_messages_after_persist; i++) {
        raft_message_fini(&core->update.messages_after_persist[i]);
    }
}

static void drive(struct core *core)
{
    uint64_t seq = core->update.persist_seq;

    drop_messages(core);
    persisted(core, seq);
    drop_messages(core);
}

static struct core *core_create(void)
{
    struct core *core = mem_zalloc(sizeof(*core));
    struct raft_options options;
    struct raft_start start = {0};
    struct raft_configuration *members = &start.snapshot.configuration;

    core->now_ms = 1;
    raft_options_default(&options, 1, 1);
    for (raft_id id = 1; id <= 3; id++) {
        members->servers[members->n++] = (struct raft_server){.id = id, .flags = RAFT_VOTER};
    }
    core->raft = raft_create(&options, &start, core->now_ms);
    raft_begin(core->raft, &core->update);
    drive(core);
    return core;
}

/* What was committed is durable in the state: the log stays short. */
static void compact(struct core *core)
{
    struct raft_snapshot_meta meta = {.index = raft_commit_index(core->raft)};
    struct raft_event event = {.type = RAFT_EVENT_COMPACT, .compact = &meta};

    if (meta.index < raft_first_index(core->raft)) {
        return;
    }
    meta.term = raft_term_at(core->raft, meta.index);
    for (raft_id id = 1; id <= 3; id++) {
        meta.configuration.servers[meta.configuration.n++] =
            (struct raft_server){.id = id, .flags = RAFT_VOTER};
    }
    step(core, &event);
    drive(core);
}

/* ---- The leader ---- */

static void answer_append(struct core *core, raft_id from, raft_index match_index)
{
    struct raft_message reply = {.type = RAFT_MESSAGE_APPEND_REPLY, .from = from};

    reply.append_reply.match_index = match_index;
    receive(core, &reply);
    drive(core);
}

static void vote(struct core *core, bool pre_vote)
{
    struct raft_message reply = {.type = RAFT_MESSAGE_VOTE_REPLY, .from = 2};

    reply.term = raft_current_term(core->raft) + (pre_vote ? 1 : 0);
    reply.vote_reply.granted = true;
    reply.vote_reply.pre_vote = pre_vote;
    receive(core, &reply);
    drive(core);
}

void *leader_create(const char *dir)
{
    struct core *core = core_create();
    struct raft_event tick = {.type = RAFT_EVENT_TICK};

    (void)dir;
    core->now_ms += 10000;
    step(core, &tick);
    drive(core);
    vote(core, true);
    vote(core, false);
    ASSERT(raft_role(core->raft) == RAFT_LEADER);
    answer_append(core, 2, raft_last_index(core->raft));
    answer_append(core, 3, raft_last_index(core->raft));
    ASSERT(raft_leader_ready(core->raft));
    return core;
}

void leader_ready(void *context)
{
    struct core *core = context;

    compact(core);
    for (unsigned i = 0; i < BATCH; i++) {
        core->commands[i] = step_command();
    }
}

/* Proposes a batch; its own disk and both followers have it. */
void leader_run(void *context)
{
    struct core *core = context;
    struct raft_event event = {.type = RAFT_EVENT_PROPOSE};
    raft_index last;

    event.propose.commands = core->commands;
    event.propose.n = BATCH;
    step(core, &event);
    ASSERT(core->update.status == ST_OK);
    last = raft_last_index(core->raft);
    drive(core);
    answer_append(core, 2, last);
    answer_append(core, 3, last);
    ASSERT(raft_commit_index(core->raft) == last);
}

/* ---- The follower ---- */

void *follower_create(const char *dir)
{
    struct core *core = core_create();

    (void)dir;
    core->last = raft_last_index(core->raft);
    return core;
}

void follower_ready(void *context)
{
    struct core *core = context;

    compact(core);
    core->append = (struct raft_message){.type = RAFT_MESSAGE_APPEND, .from = 2, .term = 2};
    core->append.append.prev_log_index = core->last;
    core->append.append.prev_log_term = raft_term_at(core->raft, core->last);
    core->append.append.commit_index = core->last;
    core->append.append.entries = step_entries(core->last + 1, 2);
    core->append.append.n_entries = BATCH;
}

/* Takes a batch, and hears that the one before is committed. */
void follower_run(void *context)
{
    struct core *core = context;

    receive(core, &core->append);
    drive(core);
    core->last += BATCH;
    ASSERT(raft_last_index(core->raft) == core->last);
    ASSERT(raft_commit_index(core->raft) + BATCH == core->last);
}
