/* replica recover GID ID: one replica goes on alone.
 *
 * Safe is only what the quorum says, and there is none any more. So: everybody of the group is
 * asked first, without a quorum. The survivor whose log ends latest (by the term of its last entry,
 * then by its index, as in an election) has everything that any reachable one has, and is the one
 * to take; another is refused unless forced. What only the replicas that were not heard from had
 * acknowledged is lost, and nobody can tell how much that is: the dry run says what can be said. As
 * long as a majority answers, a leader can be elected, and the order is refused. A replica that
 * answers without the group's data, on a new disk, is no part of a majority.
 */
#include "client/cli_recover.h"

#include <string.h>
#include <unistd.h>

#include "client/cli_group.h"

#define LOOK_TIMEOUT_MS 2000
#define WAIT_PAUSE_MS   100
#define WAIT_MS         15000 /* until it leads */

struct recovery {
    struct cli *cli;
    uint32_t gid, id;
    bool dry_run, yes, force;
    struct group_view view;
    const struct group_row *chosen;  /* the one that shall go on; NULL: it does not answer */
    const struct group_row *longest; /* of those that answer */
};

static bool is_longer(const struct shardkv_members *a, const struct shardkv_members *b)
{
    return a->last_term > b->last_term ||
           (a->last_term == b->last_term && a->last_index > b->last_index);
}

static void look_once(struct recovery *recovery)
{
    struct group_view *view = &recovery->view;

    group_view_make(recovery->cli, recovery->gid, LOOK_TIMEOUT_MS, view);
    for (size_t i = 0; i < view->n_rows; i++) {
        const struct group_row *row = &view->rows[i];
        const struct shardkv_members *members = group_row_members(row);

        if (members == NULL || members->gid != recovery->gid) {
            continue;
        }
        if (row->id == recovery->id) {
            recovery->chosen = row;
        }
        if (recovery->longest == NULL || is_longer(members, group_row_members(recovery->longest)) ||
            (row->id == recovery->id &&
             !is_longer(group_row_members(recovery->longest), members))) {
            recovery->longest = row;
        }
    }
}

/* Until the chosen one answers, or time is over: it, or the controllers, which know where it is,
 * may be busy. */
static void look(struct recovery *recovery)
{
    uint64_t end_ms = cli_now_ms() + recovery->cli->timeout_ms;

    look_once(recovery);
    while (recovery->chosen == NULL && cli_now_ms() < end_ms) {
        usleep(WAIT_PAUSE_MS * 1000);
        group_view_fini(&recovery->view);
        recovery->longest = NULL;
        look_once(recovery);
    }
}

static const struct group_row *row_of(const struct recovery *recovery, uint32_t id)
{
    for (size_t i = 0; i < recovery->view.n_rows; i++) {
        const struct group_row *row = &recovery->view.rows[i];

        if (row->id == id && group_row_members(row) != NULL) {
            return row;
        }
    }
    return NULL;
}

/* What a member of the chosen one's list tells; NULL: nothing that counts. One whose disk was lost
 * answers too, but knows itself as no member, or is another incarnation: it has neither the data
 * nor a vote. */
static const struct shardkv_members *told_by(const struct recovery *recovery,
                                             const struct shardkv_member *member)
{
    const struct group_row *row = row_of(recovery, member->id);
    const struct shardkv_members *told = row != NULL ? group_row_members(row) : NULL;

    if (told == NULL || told->gid != recovery->gid || group_find_member(told, member->id) == NULL) {
        return NULL;
    }
    return member->incarnation == 0 || member->incarnation == told->incarnation ? told : NULL;
}

/* Of the voters that the chosen one knows, how many answer with their data. */
static void count_voters(const struct recovery *recovery, unsigned *voters, unsigned *answer)
{
    const struct shardkv_members *self = group_row_members(recovery->chosen);

    *voters = *answer = 0;
    for (size_t i = 0; i < self->n_members; i++) {
        if (self->members[i].flags & (SHARDKV_MEMBER_VOTER | SHARDKV_MEMBER_VOTER_OLD)) {
            *voters += 1;
            *answer += told_by(recovery, &self->members[i]) != NULL;
        }
    }
}

/* ---- Telling ---- */

static void print_plan(const struct recovery *recovery)
{
    const struct shardkv_members *self = group_row_members(recovery->chosen);
    unsigned voters, answer;

    count_voters(recovery, &voters, &answer);
    printf("replica %u of group %u at %s would go on alone\n", recovery->id, recovery->gid,
           recovery->chosen->url);
    printf("its log ends at entry %llu of term %llu, %llu of them known to be committed\n",
           (unsigned long long)self->last_index, (unsigned long long)self->last_term,
           (unsigned long long)self->commit_index);
    for (size_t i = 0; i < self->n_members; i++) {
        const struct shardkv_member *member = &self->members[i];
        const struct shardkv_members *told = told_by(recovery, member);

        if (member->id == recovery->id) {
            continue;
        }
        if (told == NULL) {
            printf(
                "replica %u at %s %s: what only it and others that are not heard from acknowledged "
                "is lost\n",
                member->id, member->url,
                row_of(recovery, member->id) != NULL ? "answers without its data"
                                                     : "was not heard from");
        } else {
            printf(
                "replica %u at %s answers: its log ends at entry %llu of term %llu; it leaves the "
                "group, and must be stopped and wiped before it is added again\n",
                member->id, member->url, (unsigned long long)told->last_index,
                (unsigned long long)told->last_term);
        }
    }
    printf(
        "%u of %u voters answer; every write that was acknowledged after this log's end is lost, "
        "up to all that was written since this replica last heard from the others\n",
        answer, voters);
    printf("the others must never be started again with their old data\n");
}

static json_t *plan_json(const struct recovery *recovery)
{
    const struct shardkv_members *self = group_row_members(recovery->chosen);
    json_t *silent = json_array();
    unsigned voters, answer;

    count_voters(recovery, &voters, &answer);
    for (size_t i = 0; i < self->n_members; i++) {
        if (told_by(recovery, &self->members[i]) == NULL) {
            json_array_append_new(silent, json_integer(self->members[i].id));
        }
    }
    return json_pack("{s:i,s:i,s:I,s:I,s:I,s:i,s:i,s:o,s:i,s:b}", "gid", (int)recovery->gid, "id",
                     (int)recovery->id, "last_index", (json_int_t)self->last_index, "last_term",
                     (json_int_t)self->last_term, "commit_index", (json_int_t)self->commit_index,
                     "voters", (int)voters, "answering", (int)answer, "not_heard_from", silent,
                     "longest", (int)recovery->longest->id, "dry_run", (int)recovery->dry_run);
}

/* ---- Checks ---- */

static void complain(const struct recovery *recovery, const char *why)
{
    fprintf(stderr, "shardkv-cli: replica recover %u of group %u: %s\n", recovery->id,
            recovery->gid, why);
}

static int refuse(const struct recovery *recovery, const char *why)
{
    complain(recovery, why);
    return CLI_REFUSED;
}

static int check(const struct recovery *recovery)
{
    const struct shardkv_members *self;
    unsigned voters, answer;
    char why[256];
    int known = recovery->view.config_result->code;

    if (recovery->chosen == NULL && known != SHARDKV_OK) {
        snprintf(why, sizeof(why), "the controllers, which know where its replicas are: %s",
                 shardkv_strerror(known));
        return refuse(recovery, why);
    }
    if (recovery->chosen == NULL) {
        return refuse(recovery, "it does not answer, or is not known; is it running?");
    }
    self = group_row_members(recovery->chosen);
    count_voters(recovery, &voters, &answer);
    if (group_find_member(self, recovery->id) == NULL) {
        return refuse(recovery, "it is no member of its group: it has nothing to go on with");
    }
    if (2 * answer > voters) {
        return refuse(recovery, "a majority of the group answers: nothing is lost, it can elect a "
                                "leader by itself; replace replicas instead");
    }
    if (recovery->longest != recovery->chosen && !recovery->force) {
        snprintf(
            why, sizeof(why),
            "replica %u has the longer log, to entry %llu of term %llu: take that one, or lose "
            "more with --force",
            recovery->longest->id,
            (unsigned long long)group_row_members(recovery->longest)->last_index,
            (unsigned long long)group_row_members(recovery->longest)->last_term);
        return refuse(recovery, why);
    }
    return CLI_DONE;
}

/* An order of this weight is confirmed by --yes, or by a person at a terminal. */
static bool is_confirmed(const struct recovery *recovery)
{
    char line[16] = "";

    if (recovery->yes) {
        return true;
    }
    if (!isatty(STDIN_FILENO) || !isatty(STDERR_FILENO)) {
        return false;
    }
    fprintf(stderr, "type yes to go on: ");
    return fgets(line, sizeof(line), stdin) != NULL && strcmp(line, "yes\n") == 0;
}

/* ---- Doing ---- */

/* Until the replica leads its group of one. */
static int wait_for_leader(const struct recovery *recovery)
{
    uint64_t end_ms =
        cli_now_ms() + (recovery->cli->timeout_given ? recovery->cli->timeout_ms : WAIT_MS);
    bool leads = false;

    while (!leads && cli_now_ms() < end_ms) {
        struct shardkv_result *result = NULL;

        shardkv_members(recovery->cli->kv, recovery->chosen->url, LOOK_TIMEOUT_MS, &result);
        leads = result->code == SHARDKV_OK && result->members->leader == recovery->id &&
                result->members->n_members == 1 && result->members->committed;
        shardkv_result_free(result);
        if (!leads) {
            usleep(WAIT_PAUSE_MS * 1000);
        }
    }
    if (!leads) {
        complain(recovery, "ordered, but it does not lead yet; see shardkv-cli status");
        return CLI_UNKNOWN; /* the order was taken */
    }
    return CLI_DONE;
}

static int recover(const struct recovery *recovery)
{
    struct shardkv_result *result = NULL;
    char subject[32];
    int code;

    snprintf(subject, sizeof(subject), "%u of group %u", recovery->id, recovery->gid);
    shardkv_replica_recover(recovery->cli->kv, recovery->chosen->url, recovery->gid,
                            group_row_members(recovery->chosen)->configuration_index, recovery->id,
                            recovery->cli->timeout_ms, &result);
    code = result->code == SHARDKV_OK ? wait_for_leader(recovery)
                                      : cli_failed("replica recover", subject, result, false);
    shardkv_result_free(result);
    return code;
}

static int run(struct recovery *recovery)
{
    int code;

    look(recovery);
    code = check(recovery);
    if (code != CLI_DONE) {
        return code;
    }
    if (!recovery->cli->json) {
        print_plan(recovery);
    }
    if (!recovery->dry_run && !is_confirmed(recovery)) {
        return refuse(recovery, "not confirmed: look at --dry-run, then give --yes");
    }
    if (!recovery->dry_run) {
        code = recover(recovery);
    }
    if (code == CLI_DONE && recovery->cli->json) {
        cli_print_json(plan_json(recovery));
    }
    return code;
}

int cli_recover(struct cli *cli, int argc, char **argv)
{
    struct recovery recovery = {.cli = cli};
    uint64_t gid, id;
    int code;

    recovery.dry_run = cli_take_flag(&argc, argv, "--dry-run");
    recovery.yes = cli_take_flag(&argc, argv, "--yes");
    recovery.force = cli_take_flag(&argc, argv, "--force");
    if (argc != 2 || !cli_number(argv[0], 0, 0x7fffffff, &gid) ||
        !cli_number(argv[1], 1, 255, &id)) {
        return cli_usage_error("replica", "recover needs a GID (0: the controllers) and an ID");
    }
    cli->is_read = recovery.dry_run;
    recovery.gid = (uint32_t)gid;
    recovery.id = (uint32_t)id;
    if (cli_open(cli) == NULL) {
        return CLI_USAGE;
    }
    code = run(&recovery);
    group_view_fini(&recovery.view);
    return code;
}
