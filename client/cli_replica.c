/* replica: the verbs that change which replicas a group has, and list them.
 *
 * add and remove are one change each, which may be repeated at will; replace is remove and then
 * add, and goes on where an earlier one was interrupted. Each looks at the group first, and means
 * what it saw: if other changes come in between, it looks again, and goes on if the replica is
 * still the one that it saw. Then it waits until the change is done for good: the replica votes, or
 * is gone, and the controllers' list of the group says so. recover is in cli_recover.c.
 */
#include <string.h>
#include <unistd.h>

#include "client/cli_group.h"
#include "client/cli_recover.h"

#define LOOK_TIMEOUT_MS 1000  /* for one replica: a dead one must not hold up the others */
#define WAIT_MS         60000 /* unless --timeout says otherwise */
#define WAIT_PAUSE_MS   100
#define CLEAR_LINE      "\r\033[K"

struct replica_job {
    struct cli *cli;
    const char *verb; /* "replica add", for messages */
    uint32_t gid, id;
    char url[256]; /* "" for remove */
    char subject[64];
    bool no_wait;
    uint64_t end_ms;
    /* What was seen last, of a committed configuration, by the leader: */
    uint64_t configuration_index; /* 0: nothing was seen yet */
    bool is_member;
    uint64_t incarnation; /* of the member; 0: not known yet */
    char member_url[256];
};

/* ---- Arguments ---- */

static bool is_url(const char *text)
{
    return strlen(text) <= 200 &&
           (strncmp(text, "tcp://", 6) == 0 || strncmp(text, "tls+tcp://", 10) == 0 ||
            strncmp(text, "ipc:///", 7) == 0);
}

/* ID or ID=URL. */
static bool parse_replica(const char *text, bool with_url, struct replica_job *job)
{
    const char *equals = strchr(text, '=');
    char id[8] = "";
    size_t len = equals != NULL ? (size_t)(equals - text) : strlen(text);
    uint64_t number;

    if (with_url != (equals != NULL) || len >= sizeof(id)) {
        return false;
    }
    memcpy(id, text, len);
    if (!cli_number(id, 1, 255, &number) || (with_url && !is_url(equals + 1))) {
        return false;
    }
    job->id = (uint32_t)number;
    if (with_url) {
        snprintf(job->url, sizeof(job->url), "%s", equals + 1);
    }
    return true;
}

static int parse_job(struct cli *cli, const char *verb, bool with_url, int argc, char **argv,
                     struct replica_job *job)
{
    uint64_t gid;

    *job = (struct replica_job){.cli = cli, .verb = verb};
    job->no_wait = cli_take_flag(&argc, argv, "--no-wait");
    if (argc != 2 || !cli_number(argv[0], 0, 0x7fffffff, &gid) ||
        !parse_replica(argv[1], with_url, job)) {
        return cli_usage_error(
            "replica", with_url ? "needs a GID (0: the controllers) and ID=URL, an ID from 1 "
                                  "to 255, a URL as tcp://host:port"
                                : "needs a GID (0: the controllers) and an ID from 1 to 255");
    }
    job->gid = (uint32_t)gid;
    snprintf(job->subject, sizeof(job->subject), "%u of group %u", job->id, job->gid);
    job->end_ms = cli_now_ms() + (cli->timeout_given ? cli->timeout_ms : WAIT_MS);
    return cli_open(cli) == NULL ? CLI_USAGE : CLI_DONE;
}

/* ---- Looking ---- */

static bool is_settled(const struct shardkv_members *leader)
{
    for (size_t i = 0; i < leader->n_members; i++) {
        if (leader->members[i].flags & SHARDKV_MEMBER_VOTER_OLD) {
            return false;
        }
    }
    return leader->committed;
}

/* Keeps what the leader tells. False: the replica is not the one that was seen before. */
static bool see(struct replica_job *job, const struct shardkv_members *leader)
{
    const struct shardkv_member *member = group_find_member(leader, job->id);
    bool is_same = job->configuration_index == 0 || job->is_member == (member != NULL);

    if (is_same && job->configuration_index != 0 && member != NULL) {
        is_same = strcmp(job->member_url, member->url) == 0 &&
                  (job->incarnation == 0 || job->incarnation == member->incarnation);
    }
    job->configuration_index = leader->configuration_index;
    job->is_member = member != NULL;
    job->incarnation = member != NULL ? member->incarnation : 0;
    snprintf(job->member_url, sizeof(job->member_url), "%s", member != NULL ? member->url : "");
    return is_same;
}

/* Until the group has a leader and no change is under way; view_p: what was seen then, for who
 * wants more of it. False, and said why: it does not come to that. */
static bool look(struct replica_job *job, bool *is_same, struct group_view *view_p)
{
    const struct shardkv_members *leader;
    struct group_view view;

    for (;;) {
        bool is_none;

        group_view_make(job->cli, job->gid, LOOK_TIMEOUT_MS, &view);
        leader = group_view_leader(&view);
        if (leader != NULL && is_settled(leader)) {
            break;
        }
        is_none = view.config_result->code == SHARDKV_OK && view.n_rows == 0;
        group_view_fini(&view);
        if (is_none || cli_now_ms() + WAIT_PAUSE_MS >= job->end_ms) {
            fprintf(stderr, "shardkv-cli: %s %s: %s; see shardkv-cli status\n", job->verb,
                    job->subject,
                    is_none ? "no such group"
                            : "the group has no leader, or another change is under way");
            return false;
        }
        usleep(WAIT_PAUSE_MS * 1000);
    }
    *is_same = see(job, leader);
    if (view_p != NULL) {
        *view_p = view;
    } else {
        group_view_fini(&view);
    }
    return true;
}

/* ---- Changes ---- */

static void ask_for(struct replica_job *job, bool add, struct shardkv_result **result)
{
    struct shardkv *kv = job->cli->kv;
    uint32_t timeout_ms = job->cli->timeout_ms;

    if (add) {
        shardkv_replica_add(kv, job->gid, job->configuration_index, job->id, job->url, timeout_ms,
                            result);
    } else {
        shardkv_replica_remove(kv, job->gid, job->configuration_index, job->id, timeout_ms, result);
    }
}

/* Whether a refusal was for other changes in between, and the replica still is what it was. */
static bool may_ask_again(struct replica_job *job, const struct shardkv_result *result)
{
    uint64_t before = job->configuration_index;
    bool is_same;

    return result->code == SHARDKV_CONFLICT && cli_now_ms() < job->end_ms &&
           look(job, &is_same, NULL) && is_same && job->configuration_index != before;
}

/* One change, until it is committed. The exit code. */
static int order(struct replica_job *job, bool add)
{
    int code = CLI_DONE;

    for (;;) {
        struct shardkv_result *result = NULL;
        bool again;

        ask_for(job, add, &result);
        again = result->code != SHARDKV_OK && may_ask_again(job, result);
        if (result->code != SHARDKV_OK && !again) {
            code = cli_failed(job->verb, job->subject, result, false);
        }
        shardkv_result_free(result);
        if (!again) {
            return code;
        }
    }
}

/* A change alone: a look, then the order. */
static int look_and_order(struct replica_job *job, bool add)
{
    bool is_same;

    return look(job, &is_same, NULL) ? order(job, add) : CLI_REFUSED;
}

/* ---- Waiting ---- */

static bool is_done(const struct replica_job *job, const struct group_view *view, bool added)
{
    const struct shardkv_members *leader = group_view_leader(view);
    const struct shardkv_member *member = group_find_member(leader, job->id);

    if (leader == NULL || !is_settled(leader)) {
        return false;
    }
    if (!added) {
        return member == NULL && !group_view_lists(view, job->gid, job->id, NULL);
    }
    return member != NULL && (member->flags & SHARDKV_MEMBER_VOTER) != 0 &&
           (group_view_lists(view, job->gid, job->id, job->url) ||
            !group_view_is_listed(view, job->gid));
}

static void show(const struct replica_job *job, const struct group_view *view, bool added)
{
    const struct shardkv_members *leader = group_view_leader(view);
    const struct shardkv_member *member = group_find_member(leader, job->id);

    if (leader == NULL) {
        fprintf(stderr, CLEAR_LINE "group %u has no leader at the moment ...", job->gid);
    } else if (added && member != NULL && (member->flags & SHARDKV_MEMBER_LEARNER) != 0) {
        fprintf(stderr, CLEAR_LINE "replica %u learns: it has %llu of %llu entries%s", job->id,
                (unsigned long long)member->match_index, (unsigned long long)leader->last_index,
                member->heard_ms == SHARDKV_NOT_KNOWN ? "; it was not heard from yet" : "");
    } else {
        fprintf(stderr, CLEAR_LINE "the change goes through the group and the controllers ...");
    }
}

static int wait_for(const struct replica_job *job, bool added)
{
    bool shown = !job->cli->json && isatty(STDERR_FILENO);
    bool done = false;

    for (;;) {
        struct group_view view;

        group_view_make(job->cli, job->gid, LOOK_TIMEOUT_MS, &view);
        done = is_done(job, &view, added);
        if (shown && !done) {
            show(job, &view, added);
        }
        group_view_fini(&view);
        if (done || cli_now_ms() + WAIT_PAUSE_MS >= job->end_ms) {
            break;
        }
        usleep(WAIT_PAUSE_MS * 1000);
    }
    if (shown) {
        fputs(CLEAR_LINE, stderr);
    }
    if (!done) {
        fprintf(
            stderr,
            "shardkv-cli: %s %s: %s in time; it goes on by itself: see shardkv-cli replica list "
            "%u\n",
            job->verb, job->subject,
            added ? "added, but it did not become a voter" : "removed, but not everybody follows",
            job->gid);
        return CLI_UNKNOWN; /* not "certainly not applied": the change was made */
    }
    return CLI_DONE;
}

static int finish(const struct replica_job *job, bool added)
{
    int code = job->no_wait ? CLI_DONE : wait_for(job, added);

    if (code == CLI_DONE && job->cli->json) {
        cli_print_json(json_pack("{s:i,s:i,s:b}", "gid", (int)job->gid, "id", (int)job->id,
                                 added ? "added" : "removed", 1));
    }
    return code;
}

static int run_add(struct cli *cli, int argc, char **argv)
{
    struct replica_job job;
    int code = parse_job(cli, "replica add", true, argc, argv, &job);

    if (code == CLI_DONE) {
        code = look_and_order(&job, true);
    }
    return code == CLI_DONE ? finish(&job, true) : code;
}

static int run_remove(struct cli *cli, int argc, char **argv)
{
    struct replica_job job;
    int code = parse_job(cli, "replica remove", false, argc, argv, &job);

    if (code == CLI_DONE) {
        code = look_and_order(&job, false);
    }
    return code == CLI_DONE ? finish(&job, false) : code;
}

/* ---- Replace ---- */

enum replace_step { REPLACE_REMOVE, REPLACE_ADD, REPLACE_WAIT };

/* Where a replacement stands. The new replica is in its place once the group lists it under the URL
 * and it is the incarnation that answers there: a voter whose disk was wiped does not know itself
 * as a member, and a learner that was not heard from yet has no incarnation. */
static enum replace_step next_step(const struct replica_job *job, const struct group_view *view)
{
    const struct shardkv_member *member = group_find_member(group_view_leader(view), job->id);
    const struct shardkv_members *self = NULL;

    if (member == NULL) {
        return REPLACE_ADD;
    }
    for (size_t i = 0; i < view->n_rows; i++) {
        if (strcmp(view->rows[i].url, job->url) == 0) {
            self = group_row_members(&view->rows[i]);
        }
    }
    if (strcmp(member->url, job->url) != 0) {
        return REPLACE_REMOVE;
    }
    if (member->flags & SHARDKV_MEMBER_LEARNER) {
        return member->incarnation == 0 || self == NULL || self->incarnation == member->incarnation
                   ? REPLACE_WAIT
                   : REPLACE_REMOVE;
    }
    if (self == NULL || self->id != job->id || group_find_member(self, job->id) == NULL) {
        return REPLACE_REMOVE;
    }
    return member->incarnation == 0 || self->incarnation == member->incarnation ? REPLACE_WAIT
                                                                                : REPLACE_REMOVE;
}

/* The old one goes, then the new one comes. Once the first is done, no refusal of the second means
 * that nothing was applied. */
static int remove_and_add(struct replica_job *job)
{
    int code = order(job, false);

    if (code != CLI_DONE) {
        return code;
    }
    job->configuration_index = 0; /* the next look is the first */
    snprintf(job->subject, sizeof(job->subject), "%u of group %u, removed but not added again",
             job->id, job->gid);
    return look_and_order(job, true) == CLI_DONE ? CLI_DONE : CLI_UNKNOWN;
}

static int run_replace(struct cli *cli, int argc, char **argv)
{
    struct replica_job job;
    struct group_view view;
    enum replace_step step;
    bool is_same;
    int code = parse_job(cli, "replica replace", true, argc, argv, &job);

    if (code != CLI_DONE) {
        return code;
    }
    if (!look(&job, &is_same, &view)) {
        return CLI_REFUSED;
    }
    step = next_step(&job, &view);
    group_view_fini(&view);
    if (step == REPLACE_REMOVE) {
        code = remove_and_add(&job);
    } else if (step == REPLACE_ADD) {
        code = order(&job, true);
    }
    return code == CLI_DONE ? finish(&job, true) : code;
}

/* ---- List ---- */

static json_t *member_json(const struct shardkv_member *member,
                           const struct shardkv_members *leader)
{
    json_t *row =
        json_pack("{s:i,s:s,s:s,s:b,s:I}", "id", (int)member->id, "url", member->url, "role",
                  group_member_role(member), "leader", (int)(member->id == leader->id),
                  "match_index", (json_int_t)member->match_index);

    json_object_set_new(row, "behind",
                        json_integer((json_int_t)(leader->last_index - member->match_index)));
    json_object_set_new(row, "heard_ms",
                        member->heard_ms == SHARDKV_NOT_KNOWN
                            ? json_null()
                            : json_integer((json_int_t)member->heard_ms));
    return row;
}

static void print_members(uint32_t gid, const struct shardkv_members *leader)
{
    printf("group %u, configuration of entry %llu%s\n", gid,
           (unsigned long long)leader->configuration_index,
           is_settled(leader) ? "" : ", a change is under way");
    printf("%-3s %-28s %-8s %10s %12s\n", "ID", "URL", "ROLE", "BEHIND", "HEARD");
    for (size_t i = 0; i < leader->n_members; i++) {
        const struct shardkv_member *member = &leader->members[i];
        char heard[32] = "never";

        if (member->heard_ms != SHARDKV_NOT_KNOWN) {
            snprintf(heard, sizeof(heard), "%llu ms ago", (unsigned long long)member->heard_ms);
        }
        printf("%-3u %-28s %-8s %10llu %12s\n", member->id, member->url,
               member->id == leader->id ? "leader" : group_member_role(member),
               (unsigned long long)(leader->last_index - member->match_index),
               member->id == leader->id ? "-" : heard);
    }
}

static int run_list(struct cli *cli, int argc, char **argv)
{
    struct group_view view;
    const struct shardkv_members *leader;
    uint64_t gid;
    int code = CLI_DONE;

    if (argc != 1 || !cli_number(argv[0], 0, 0x7fffffff, &gid)) {
        return cli_usage_error("replica", "list needs a GID (0: the controllers)");
    }
    if (cli_open(cli) == NULL) {
        return CLI_USAGE;
    }
    cli->is_read = true;
    group_view_make(cli, (uint32_t)gid, LOOK_TIMEOUT_MS, &view);
    leader = group_view_leader(&view);
    if (leader == NULL) {
        fprintf(stderr, "shardkv-cli: replica list %s: %s\n", argv[0],
                view.n_rows == 0 ? "no such group" : "no leader answers; see shardkv-cli status");
        code = CLI_REFUSED;
    } else if (cli->json) {
        json_t *rows = json_array();

        for (size_t i = 0; i < leader->n_members; i++) {
            json_array_append_new(rows, member_json(&leader->members[i], leader));
        }
        cli_print_json(json_pack("{s:I,s:I,s:b,s:o}", "gid", (json_int_t)gid, "configuration_index",
                                 (json_int_t)leader->configuration_index, "settled",
                                 (int)is_settled(leader), "replicas", rows));
    } else {
        print_members((uint32_t)gid, leader);
    }
    group_view_fini(&view);
    return code;
}

int cli_replica(struct cli *cli, int argc, char **argv)
{
    static const struct {
        const char *name;
        int (*run)(struct cli *cli, int argc, char **argv);
    } actions[] = {{"add", run_add},
                   {"remove", run_remove},
                   {"replace", run_replace},
                   {"list", run_list},
                   {"recover", cli_recover}};

    for (size_t i = 0; argc > 0 && i < sizeof(actions) / sizeof(actions[0]); i++) {
        if (strcmp(argv[0], actions[i].name) == 0) {
            return actions[i].run(cli, argc - 1, argv + 1);
        }
    }
    return cli_usage_error("replica", "takes add, remove, replace, list or recover");
}
