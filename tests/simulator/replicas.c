/* replicas: see replicas.h. The administrator looks into the leader of a team for what its
 * configuration is, but asks for changes as everybody does, through the protocol. It draws the same
 * numbers at each moment, whatever it finds. */
#include "tests/simulator/replicas.h"

#include "raft/util/assert.h"
#include "raft/util/mem.h"
#include "tests/sim/check.h"
#include "tests/simulator/faults.h"

#define CHANGE_MIN_MS 300
#define CHANGE_MAX_MS 4000
#define FINISH_MS     5000
#define STRAYS_MS     10000 /* for so long after an order a late try of it may come */

/* What is known of a team. Who is in it: a bit for each id. */
struct replicas_team {
    raft_index seen;  /* the latest configuration that was seen, by its index, and */
    uint64_t members; /* who was in it */
    bool is_open;     /* whether tries of the last order may yet change the team, which was */
    uint64_t meant;   /* in the configuration that the order means, */
    uint64_t strays_until_ms;
};

struct replicas {
    struct run *run;
    struct rng moments, choices;
    struct kv_client *client;
    bool busy;
    enum proto_replica_change kind; /* under way */
    size_t team, node;
    struct replicas_team teams[PLAN_MAX_GROUPS + 1];
};

/* What is drawn at one moment. */
struct replicas_draw {
    size_t team, i;
    bool wipe;
    uint64_t ms;
};

struct replicas *replicas_create(struct run *run)
{
    struct replicas *replicas = mem_zalloc(sizeof(*replicas));

    replicas->run = run;
    replicas->moments = plan_stream(run->plan.seed, "moments of replicas");
    replicas->choices = plan_stream(run->plan.seed, "replicas");
    /* One more client would have its share of the world's random numbers. */
    replicas->client = run->plan.replicas_per_100_s > 0 ? kv_client_create(run->cluster) : NULL;
    return replicas;
}

void replicas_destroy(struct replicas **replicas)
{
    if ((*replicas)->client != NULL) {
        kv_client_destroy(&(*replicas)->client);
    }
    mem_free(*replicas);
    *replicas = NULL;
}

bool replicas_is_busy(const struct replicas *replicas)
{
    return replicas->busy;
}

/* ---- What the team knows ---- */

static uint64_t incarnation_of(const struct replicas *replicas, size_t node)
{
    return (uint64_t)world_incarnation(replicas->run->world, node) << 32 | (node + 1);
}

static uint64_t members_of(const struct raft_configuration *configuration)
{
    uint64_t members = 0;

    for (size_t i = 0; i < configuration->n; i++) {
        ASSERT(configuration->servers[i].id < 64);
        members |= 1ull << configuration->servers[i].id;
    }
    return members;
}

/* Once the configuration that an order meant is no more, no try of it may do anything: without
 * another order the members stay. The leader may be one of the past, or number an old configuration
 * by the snapshot from which it knows it. */
static void check_strays(struct replicas *replicas, size_t number, raft_index index,
                         const struct raft_configuration *configuration)
{
    struct replicas_team *team = &replicas->teams[number];
    uint64_t members = members_of(configuration);

    if (index < team->seen) {
        return;
    }
    if (team->seen != 0 && !team->is_open && team->members != members) {
        check_fail("a late order does not change a team", "team %zu members %llx then %llx", number,
                   (unsigned long long)team->members, (unsigned long long)members);
    }
    team->seen = index;
    team->members = members;
    team->is_open &= members == team->meant;
}

bool replicas_are_certain(struct replicas *replicas, size_t team,
                          const struct raft_configuration **configuration)
{
    size_t leader = faults_leader_of_team(replicas->run->faults, team);
    struct group *group = leader == SIZE_MAX ? NULL : world_group(replicas->run->world, leader);
    const struct raft *raft = group == NULL ? NULL : group_raft(group);

    if (group == NULL || !group_is_ready(group) || (replicas->busy && replicas->team == team)) {
        return false;
    }
    *configuration = raft_latest_configuration(raft);
    if (raft_configuration_index(raft) > raft_commit_index(raft) ||
        raft_configuration_is_joint(*configuration)) {
        return false;
    }
    check_strays(replicas, team, raft_configuration_index(raft), *configuration);
    return true;
}

static size_t count_voters(const struct raft_configuration *configuration)
{
    size_t n = 0;

    for (size_t i = 0; i < configuration->n; i++) {
        n += (configuration->servers[i].flags & RAFT_VOTER) != 0;
    }
    return n;
}

/* Whether the member is the server as it is now. One that was never emptied may be listed without
 * an incarnation, and so may a learner that was not heard from yet. */
static bool is_current(const struct replicas *replicas, size_t node,
                       const struct raft_server *member)
{
    if (member->incarnation != 0) {
        return member->incarnation == incarnation_of(replicas, node);
    }
    return (member->flags & RAFT_LEARNER) != 0 ||
           world_incarnation(replicas->run->world, node) == 1;
}

/* ---- Changes ---- */

bool replicas_have_strays(const struct replicas *replicas, size_t team)
{
    return world_now_ms(replicas->run->world) < replicas->teams[team].strays_until_ms &&
           replicas->teams[team].is_open;
}

static void on_end(void *context, const struct caller_end *end)
{
    struct replicas *replicas = context;
    struct run_report *report = &replicas->run->report;

    events_note(&replicas->run->events, "%s of node %zu ended %s%s: %s",
                replicas->kind == PROTO_REPLICA_ADD ? "addition" : "removal", replicas->node,
                status_name(end->status), end->maybe_applied ? ", perhaps" : "", end->reason);
    replicas->busy = false;
    replicas->teams[replicas->team].strays_until_ms =
        world_now_ms(replicas->run->world) + STRAYS_MS;
    if (end->status == ST_OK) {
        report->faults[FAULT_REPLICAS]++;
        report->replicas_ok++;
    } else {
        report->replicas_refused++;
    }
}

/* Of the configuration that the leader has. */
static raft_index leader_index(const struct replicas *replicas, size_t team)
{
    size_t leader = faults_leader_of_team(replicas->run->faults, team);

    ASSERT(leader != SIZE_MAX);
    return raft_configuration_index(group_raft(world_group(replicas->run->world, leader)));
}

static void order(struct replicas *replicas, const struct replicas_draw *draw,
                  const struct raft_configuration *configuration, enum proto_replica_change kind)
{
    size_t team = draw->team, i = draw->i;
    struct run *run = replicas->run;
    const struct spec *spec = team == run->plan.n_groups ? kv_cluster_ctrlers(run->cluster)
                                                         : kv_cluster_spec(run->cluster, team);
    struct proto_request request = {.op = PROTO_REPLICA};
    struct caller_target target = {.replicas = *spec};
    uint64_t now_ms = world_now_ms(run->world);

    ASSERT(!replicas->busy);
    replicas->busy = true;
    replicas->kind = kind;
    replicas->team = team;
    replicas->teams[team].is_open = true;
    replicas->teams[team].meant = members_of(configuration);
    replicas->node = faults_team_node(run->faults, team, i);
    request.replica.kind = kind;
    request.replica.gid = team == run->plan.n_groups ? 0 : kv_cluster_gid(team);
    request.replica.id = spec->replicas[i].id;
    request.replica.configuration_index = leader_index(replicas, team);
    if (kind == PROTO_REPLICA_ADD) {
        request.replica.url = slice_text(spec->replicas[i].url);
    }
    events_note(&run->events, "%s of node %zu begins",
                kind == PROTO_REPLICA_ADD ? "addition" : "removal", replicas->node);
    caller_start(clerk_caller(kv_client_clerk(replicas->client)), &target, &request, false, now_ms,
                 now_ms + draw->ms, on_end, replicas);
    world_reschedule(run->world, kv_client_number(replicas->client));
}

/* The next step to make the server a voter as it is now. True: it is one. */
static bool bring_in(struct replicas *replicas, const struct raft_configuration *configuration,
                     const struct replicas_draw *draw)
{
    struct faults *faults = replicas->run->faults;
    size_t node = faults_team_node(faults, draw->team, draw->i);
    const struct raft_server *member = raft_configuration_find(configuration, (raft_id)draw->i + 1);

    if (faults_is_spoilt(faults, node)) {
        faults_make_joiner(faults, node);
        return false;
    }
    if (member == NULL) {
        order(replicas, draw, configuration, PROTO_REPLICA_ADD);
        return false;
    }
    if (!is_current(replicas, node, member)) {
        order(replicas, draw, configuration, PROTO_REPLICA_REMOVE);
        return false;
    }
    if ((member->flags & RAFT_VOTER) == 0) {
        return false;
    }
    faults_is_whole(faults, node);
    return true;
}

static bool has_spoilt(const struct replicas *replicas, size_t team)
{
    struct faults *faults = replicas->run->faults;

    for (size_t i = 0; i < faults_team_size(faults, team); i++) {
        if (faults_is_damaged(faults, faults_team_node(faults, team, i))) {
            return true;
        }
    }
    return false;
}

/* A server whose disk is whole is removed only from a team in which all are: otherwise those that
 * are left might have no majority with disks. */
static void act(struct replicas *replicas, const struct replicas_draw *draw)
{
    struct faults *faults = replicas->run->faults;
    size_t node = faults_team_node(faults, draw->team, draw->i);
    const struct raft_configuration *configuration;
    const struct raft_server *member;

    if (!replicas_are_certain(replicas, draw->team, &configuration)) {
        return;
    }
    member = raft_configuration_find(configuration, (raft_id)draw->i + 1);
    if (faults_is_damaged(faults, node)) {
        bring_in(replicas, configuration, draw);
    } else if (member == NULL && draw->wipe && world_is_running(replicas->run->world, node) &&
               !faults_is_joiner(faults, node)) {
        faults_make_joiner(faults, node);
    } else if (member == NULL) {
        order(replicas, draw, configuration, PROTO_REPLICA_ADD);
    } else if (!has_spoilt(replicas, draw->team) && count_voters(configuration) > 1) {
        order(replicas, draw, configuration, PROTO_REPLICA_REMOVE);
    }
}

void replicas_begin(struct replicas *replicas)
{
    const struct run *run = replicas->run;
    bool is_time;
    struct replicas_draw draw;

    if (run->plan.replicas_per_100_s == 0) {
        return;
    }
    is_time = rng_below(&replicas->moments, 100000) < run->plan.replicas_per_100_s;
    if (!is_time) {
        return;
    }
    draw.team = rng_below(&replicas->choices, faults_n_teams(run->faults));
    draw.i = rng_below(&replicas->choices, faults_team_size(run->faults, draw.team));
    draw.wipe = rng_below(&replicas->choices, 2) == 0;
    draw.ms = rng_between(&replicas->choices, CHANGE_MIN_MS, CHANGE_MAX_MS);
    if (!replicas->busy) {
        act(replicas, &draw);
    }
}

bool replicas_complete(struct replicas *replicas)
{
    struct faults *faults = replicas->run->faults;
    bool complete = !replicas->busy;

    for (size_t team = 0; team < faults_n_teams(faults) && !replicas->busy; team++) {
        const struct raft_configuration *configuration;

        if (!replicas_are_certain(replicas, team, &configuration)) {
            complete = false;
            continue;
        }
        complete &= !replicas_have_strays(replicas, team);
        for (size_t i = 0; i < faults_team_size(faults, team) && !replicas->busy; i++) {
            struct replicas_draw draw = {.team = team, .i = i, .ms = FINISH_MS};

            complete &= bring_in(replicas, configuration, &draw);
        }
    }
    return complete;
}
