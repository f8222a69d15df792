/* Each rule of check_raft.h fires when it is broken. The cluster is real and honest; what is broken
 * is said before each step. */
#include "raft/core/raft_internal.h"
#include "raft/rsm/group.h"
#include "raft/wire.h"
#include "tests/sim/raft_cluster.h"
#include "tests/sim/world_internal.h"
#include "tests/unit/check_story.h"

/* ---- Vocabulary ---- */

struct stage {
    struct raft_cluster *cluster;
    struct world *world;
    size_t leader, follower, other;
    raft_term term;
};

static struct stage begin_seed(uint64_t seed)
{
    struct raft_cluster_options options = {.n = 3, .seed = seed};
    struct stage stage = {.cluster = raft_cluster_create("check", &options)};

    stage.world = raft_cluster_world(stage.cluster);
    raft_cluster_agree_u64(stage.cluster, 7, 3, true);
    stage.leader = raft_cluster_check_leader(stage.cluster);
    stage.follower = (stage.leader + 1) % 3;
    stage.other = (stage.leader + 2) % 3;
    stage.term = raft_cluster_term(stage.cluster, stage.leader);
    return stage;
}

static struct stage begin(void)
{
    return begin_seed(1);
}

/* The inside of a running replica. */
static struct raft *inside(const struct stage *stage, size_t node)
{
    return world_group(stage->world, node)->raft;
}

static struct raft_message message_of(enum raft_message_type type, raft_term term, size_t to)
{
    return (struct raft_message){.type = type, .term = term, .to = (raft_id)to + 1};
}

/* Sent in the name of that replica. */
static void say(const struct stage *stage, size_t from, struct raft_message message)
{
    struct io_net *net = &stage->world->nodes[from]->net;
    struct buf bytes = {0};

    message.from = (raft_id)from + 1;
    wire_encode_message(&message, &bytes);
    net->ops->peer_send(net, 1, message.to, IO_NORMAL, &bytes);
}

static void vote(const struct stage *stage, size_t from, size_t candidate, raft_term term)
{
    struct raft_message message = message_of(RAFT_MESSAGE_VOTE_REPLY, term, candidate);

    message.vote_reply.granted = true;
    say(stage, from, message);
}

static void acknowledge(const struct stage *stage, size_t from, raft_index index)
{
    struct raft_message message =
        message_of(RAFT_MESSAGE_APPEND_REPLY, stage->term, (from + 1) % 3);

    message.append_reply.match_index = index;
    say(stage, from, message);
}

/* The checkers look, and nothing else happens. */
static void look(const struct stage *stage, size_t node)
{
    struct io_event event = {.type = IO_EVENT_TICK};

    world_tell_stepped(stage->world, node, &event);
}

static void append(struct raft *raft, raft_term term, const char *text)
{
    struct raft_entry entry = {.index = raft_last_index(raft) + 1,
                               .term = term,
                               .type = RAFT_ENTRY_COMMAND,
                               .data = blob_create(slice_text(text))};

    raft_log_append(&raft->log, entry);
}

/* One replica hears nothing while the others commit more. */
static void leave_behind(const struct stage *stage, size_t node)
{
    raft_cluster_disconnect(stage->cluster, node);
    raft_cluster_agree_u64(stage->cluster, 8, 2, true);
}

/* ---- Votes, terms, leaders ---- */

static void votes_for_two(void)
{
    struct stage stage = begin();

    vote(&stage, stage.follower, stage.leader, 50);
    vote(&stage, stage.follower, stage.other, 50);
}

static void stands_and_votes_for_another(void)
{
    struct stage stage = begin();

    say(&stage, stage.follower, message_of(RAFT_MESSAGE_REQUEST_VOTE, 50, stage.leader));
    vote(&stage, stage.follower, stage.other, 50);
}

/* The first vote is the real one of the election; a crash lies between. */
static void forgets_its_vote(void)
{
    struct stage stage = begin();

    raft_cluster_crash(stage.cluster, stage.leader);
    raft_cluster_start(stage.cluster, stage.leader);
    vote(&stage, stage.leader, stage.other, stage.term);
}

/* Pre-votes promise nothing. */
static void pre_votes_for_two(void)
{
    struct stage stage = begin();
    struct raft_message message = message_of(RAFT_MESSAGE_VOTE_REPLY, 50, stage.leader);

    message.vote_reply = (struct raft_vote_reply){.granted = true, .pre_vote = true};
    say(&stage, stage.follower, message);
    message.to = (raft_id)stage.other + 1;
    say(&stage, stage.follower, message);
    raft_cluster_crash(stage.cluster, stage.follower);
    raft_cluster_start(stage.cluster, stage.follower);
}

static void forgets_its_term(void)
{
    struct stage stage = begin();

    say(&stage, stage.follower, message_of(RAFT_MESSAGE_HEARTBEAT, 50, stage.other));
    raft_cluster_crash(stage.cluster, stage.follower);
    raft_cluster_start(stage.cluster, stage.follower);
}

static void term_falls(void)
{
    struct stage stage = begin();

    inside(&stage, stage.follower)->hard_state.term--;
    look(&stage, stage.follower);
}

static void two_lead(void)
{
    struct stage stage = begin();

    inside(&stage, stage.follower)->role = RAFT_LEADER;
    look(&stage, stage.follower);
}

static void speaks_as_leader(void)
{
    struct stage stage = begin();

    say(&stage, stage.follower, message_of(RAFT_MESSAGE_HEARTBEAT, stage.term, stage.other));
}

static void lacks_what_is_committed(void)
{
    struct stage stage = begin();
    struct raft *raft;

    leave_behind(&stage, stage.follower);
    raft = inside(&stage, stage.follower);
    raft->hard_state.term = stage.term + 5;
    raft->role = RAFT_LEADER;
    look(&stage, stage.follower);
}

static void votes_are_checked(void **state)
{
    (void)state;
    story_breaks("single vote", votes_for_two);
    story_breaks("single vote", stands_and_votes_for_another);
    story_breaks("single vote", forgets_its_vote);
    story_holds(pre_votes_for_two);
}

static void terms_are_checked(void **state)
{
    (void)state;
    story_breaks("term monotonic", forgets_its_term);
    story_breaks("term monotonic", term_falls);
}

static void leaders_are_checked(void **state)
{
    (void)state;
    story_breaks("election safety", two_lead);
    story_breaks("election safety", speaks_as_leader);
    story_breaks("leader completeness", lacks_what_is_committed);
}

/* ---- Logs ---- */

static void leader_removes(void)
{
    struct stage stage = begin();
    struct raft *raft = inside(&stage, stage.leader);

    raft_log_truncate(&raft->log, raft_last_index(raft));
    look(&stage, stage.leader);
}

static void follower_removes_without_conflict(void)
{
    struct stage stage = begin();
    struct raft *raft = inside(&stage, stage.follower);

    raft_log_truncate(&raft->log, raft_last_index(raft));
    look(&stage, stage.follower);
}

static void follower_replaces_what_it_acknowledged(void)
{
    struct stage stage = begin();
    struct raft *raft = inside(&stage, stage.follower);

    raft_log_truncate(&raft->log, 2);
    append(raft, 1, "another history");
    look(&stage, stage.follower);
}

/* A leader of a later term may do that. */
static void follower_is_told_another_history(void)
{
    struct stage stage = begin();
    struct raft *raft = inside(&stage, stage.follower);
    raft_index last = raft_last_index(raft);

    append(raft, stage.term, "not committed");
    look(&stage, stage.follower);
    acknowledge(&stage, stage.follower, last + 1);
    raft_log_truncate(&raft->log, last + 1);
    raft->hard_state.term++;
    append(raft, stage.term + 1, "instead");
    look(&stage, stage.follower);
}

static void acknowledges_what_it_lacks(void)
{
    struct stage stage = begin();

    acknowledge(&stage, stage.follower, 100);
}

/* It acknowledges before the disk has it. Whether the disk loses it depends on the seed. */
static void acknowledges_too_early(void)
{
    for (uint64_t seed = 1; seed <= 10; seed++) {
        struct stage stage = begin_seed(seed);
        uint64_t number;
        raft_term term;

        raft_cluster_disconnect(stage.cluster, stage.leader);
        raft_cluster_submit_u64(stage.cluster, stage.leader, 9, &number, &term);
        raft_cluster_end_turns(stage.cluster);
        acknowledge(&stage, stage.leader, raft_last_index(inside(&stage, stage.leader)));
        raft_cluster_crash(stage.cluster, stage.leader);
        raft_cluster_start(stage.cluster, stage.leader);
        raft_cluster_destroy(&stage.cluster);
    }
}

static void same_place_other_content(void)
{
    struct stage stage = begin();

    append(inside(&stage, stage.follower), stage.term, "x");
    look(&stage, stage.follower);
    append(inside(&stage, stage.other), stage.term, "y");
    look(&stage, stage.other);
}

static void same_place_other_history(void)
{
    struct stage stage = begin();
    struct raft *raft = inside(&stage, stage.other);

    append(inside(&stage, stage.follower), stage.term, "x");
    append(inside(&stage, stage.follower), stage.term + 2, "z");
    look(&stage, stage.follower);
    append(raft, stage.term + 1, "y");
    append(raft, stage.term + 2, "z");
    look(&stage, stage.other);
}

static void logs_are_checked(void **state)
{
    (void)state;
    story_breaks("leader append-only", leader_removes);
    story_breaks("truncation", follower_removes_without_conflict);
    story_breaks("log matching", same_place_other_content);
    story_breaks("log matching", same_place_other_history);
}

static void acknowledgements_are_checked(void **state)
{
    (void)state;
    story_breaks("acknowledged entries", follower_replaces_what_it_acknowledged);
    story_holds(follower_is_told_another_history);
    story_breaks("acknowledged entries", acknowledges_what_it_lacks);
    story_breaks("acknowledged entries", acknowledges_too_early);
}

/* ---- Commit and apply ---- */

static void commit_falls(void)
{
    struct stage stage = begin();

    inside(&stage, stage.follower)->commit_index--;
    look(&stage, stage.follower);
}

static bool leads_and_is_not_ready(void *context)
{
    struct stage *stage = context;

    for (size_t i = 0; i < 3; i++) {
        const struct raft *raft = inside(stage, i);

        if (raft->role == RAFT_LEADER && !raft_leader_ready(raft)) {
            stage->leader = i;
            return true;
        }
    }
    return false;
}

/* A new leader counts who has an entry of an earlier term (paper, Figure 8). */
static void counts_an_old_entry(void)
{
    struct stage stage = begin();

    for (size_t i = 0; i < 3; i++) {
        raft_cluster_crash(stage.cluster, i);
    }
    for (size_t i = 0; i < 3; i++) {
        raft_cluster_start(stage.cluster, i);
        raft_cluster_connect(stage.cluster, i);
    }
    ASSERT(world_run_until(stage.world, 5000, leads_and_is_not_ready, &stage));
    look(&stage, stage.leader);
    inside(&stage, stage.leader)->commit_index = 3;
    look(&stage, stage.leader);
}

static void commits_another_entry(void)
{
    struct stage stage = begin();
    struct raft *raft;

    leave_behind(&stage, stage.follower);
    raft = inside(&stage, stage.follower);
    append(raft, stage.term + 1, "another");
    raft->commit_index = raft_last_index(raft);
    look(&stage, stage.follower);
}

static void applies_backwards(void)
{
    struct stage stage = begin();

    world_group(stage.world, stage.follower)->apply.index--;
    look(&stage, stage.follower);
}

static void skips_an_entry(void)
{
    struct stage stage = begin();

    leave_behind(&stage, stage.follower);
    world_group(stage.world, stage.leader)->stats.entries_applied--;
    raft_cluster_agree_u64(stage.cluster, 10, 2, true);
}

static void applies_in_another_time(void)
{
    struct stage stage = begin();

    world_group(stage.world, stage.follower)->apply.stamp += 1000000000;
    raft_cluster_agree_u64(stage.cluster, 10, 3, true);
}

static void commits_are_checked(void **state)
{
    (void)state;
    story_breaks("commit monotonic", commit_falls);
    story_breaks("commit by own term", counts_an_old_entry);
    story_breaks("committed entries", commits_another_entry);
}

static void applying_is_checked(void **state)
{
    (void)state;
    story_breaks("state machine safety", applies_backwards);
    story_breaks("state machine safety", skips_an_entry);
    story_breaks("state machine safety", applies_in_another_time);
}

/* ---- Wiped replicas ---- */

/* What it says is of another incarnation: nobody takes it for what the lost one said. */
static void wiped_one_knows_nothing(void)
{
    struct stage stage = begin();

    vote(&stage, stage.follower, stage.leader, 50);
    raft_cluster_crash(stage.cluster, stage.follower);
    world_wipe(stage.world, stage.follower);
    raft_cluster_start(stage.cluster, stage.follower);
    vote(&stage, stage.follower, stage.other, 50);
    world_run_ms(stage.world, 1000);
}

static void wiped_replicas_are_others(void **state)
{
    (void)state;
    story_holds(wiped_one_knows_nothing);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(votes_are_checked),
        cmocka_unit_test(terms_are_checked),
        cmocka_unit_test(leaders_are_checked),
        cmocka_unit_test(logs_are_checked),
        cmocka_unit_test(acknowledgements_are_checked),
        cmocka_unit_test(commits_are_checked),
        cmocka_unit_test(applying_is_checked),
        cmocka_unit_test(wiped_replicas_are_others),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
