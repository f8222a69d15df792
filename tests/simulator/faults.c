/* When faults begin and end. What they do is in faults_network.c and faults_nodes.c. */
#include "tests/simulator/faults.h"

#include "raft/util/assert.h"
#include "raft/util/mem.h"
#include "tests/sim/check.h"
#include "tests/simulator/faults_internal.h"

size_t faults_n_teams(const struct faults *faults)
{
    return faults->run->plan.n_groups + 1;
}

size_t faults_team_size(const struct faults *faults, size_t team)
{
    const struct plan *plan = &faults->run->plan;

    return team == plan->n_groups ? plan->n_ctrlers : plan->replicas[team];
}

size_t faults_team_node(const struct faults *faults, size_t team, size_t i)
{
    const struct run *run = faults->run;

    return team == run->plan.n_groups ? kv_cluster_ctrler(run->cluster, i)
                                      : kv_cluster_node(run->cluster, team, i);
}

size_t faults_team_of(const struct faults *faults, size_t node)
{
    for (size_t team = 0; team < faults_n_teams(faults); team++) {
        size_t first = faults_team_node(faults, team, 0);

        if (node >= first && node < first + faults_team_size(faults, team)) {
            return team;
        }
    }
    UNREACHABLE("every node is of a team");
}

size_t faults_leader_of(const struct faults *faults, size_t team)
{
    const struct run *run = faults->run;

    return team == run->plan.n_groups ? kv_cluster_ctrler_leader(run->cluster)
                                      : kv_cluster_leader(run->cluster, team);
}

size_t faults_aim(const struct faults *faults, const struct fault_draw *draw)
{
    size_t node = draw->a % faults->n_nodes, team = faults_team_of(faults, node), leader;

    if ((draw->c >> 32) % 2 == 0) {
        return node;
    }
    leader = faults_leader_of(faults, team);
    return leader != SIZE_MAX ? leader : node;
}

static void on_step(void *context, struct world *world, size_t node, const struct io_event *event)
{
    struct faults *faults = context;
    struct node_state *state = &faults->nodes[node];

    (void)world;
    events_step(&faults->run->events, node, event);
    state->n_events++;
    faults->crash_due |= state->crash_at != 0 && state->n_events >= state->crash_at;
}

struct faults *faults_create(struct run *run)
{
    struct faults *faults = mem_zalloc(sizeof(*faults));
    struct world_observer observer = {.context = faults, .stepped = on_step};

    faults->run = run;
    faults->world = run->world;
    faults->n_nodes = world_node_count(run->world);
    for (size_t i = 0; i < FAULT_N; i++) {
        faults->streams[i] = plan_stream(run->plan.seed, fault_kinds[i].name);
    }
    faults->restarts = plan_stream(run->plan.seed, "restarts");
    faults->rates.wrongly_gone = true;
    world_set_faults(run->world, &faults->rates);
    world_observe(run->world, &observer);
    return faults;
}

void faults_destroy(struct faults **faults)
{
    mem_free(*faults);
    *faults = NULL;
}

/* ---- Beginning ---- */

static bool begin(struct faults *faults, const struct fault_draw *draw)
{
    switch (fault_kinds[draw->fault].class) {
    case FAULT_OF_NETWORK:
        return faults_begin_network(faults, draw);
    case FAULT_OF_CRASHES:
    case FAULT_OF_CLOCKS:
        return faults_begin_node(faults, draw);
    case FAULT_OF_DISKS:
        return faults_begin_disk(faults, draw);
    default:
        UNREACHABLE("moves are not begun here");
    }
}

static void draw_fault(struct faults *faults, enum fault fault)
{
    struct rng *rng = &faults->streams[fault];
    uint32_t max = fault_kinds[fault].max_steps;
    struct fault_draw draw = {.fault = fault};
    uint64_t x, y;

    if (rng_below(rng, 1000000) >= faults->run->plan.fault_ppm[fault]) {
        return;
    }
    x = rng_between(rng, 1, max);
    y = rng_between(rng, 1, max);
    draw.steps = (uint32_t)(x < y ? x : y);
    draw.a = rng_next(rng);
    draw.b = rng_next(rng);
    draw.c = rng_next(rng);
    if (begin(faults, &draw)) {
        faults->run->report.faults[fault]++;
    }
}

void faults_step(struct faults *faults, uint32_t step)
{
    faults->step = step;
    faults_end_network(faults, false);
    faults_end_nodes(faults, false);
    for (size_t fault = 0; fault < FAULT_N; fault++) {
        draw_fault(faults, (enum fault)fault);
    }
}

/* ---- In between ---- */

/* Asked after every event of the world: the crash comes before anything else can happen. */
static bool crash_what_is_due(void *context)
{
    struct faults *faults = context;

    if (!faults->crash_due) {
        return false;
    }
    faults->crash_due = false;
    for (size_t i = 0; i < faults->n_nodes; i++) {
        struct node_state *state = &faults->nodes[i];

        if (state->crash_at != 0 && state->n_events >= state->crash_at) {
            state->crash_at = 0;
            if (state->crash_amid) {
                world_crash_amid(faults->world, i);
                continue;
            }
            faults_crash(faults, i, state->crash_steps);
        }
    }
    return false;
}

void faults_run_ms(struct faults *faults, uint64_t ms)
{
    world_run_until(faults->world, ms, crash_what_is_due, faults);
}

/* ---- The end ---- */

void faults_end(struct faults *faults)
{
    events_note(&faults->run->events, "the faults end");
    for (size_t i = 0; i < faults->n_nodes; i++) {
        faults->nodes[i].crash_at = 0;
        faults->nodes[i].crash_amid = false;
        if (faults->nodes[i].wiped && world_is_running(faults->world, i) &&
            faults->run->plan.replicas_per_100_s == 0) {
            world_crash(faults->world, i);
            faults->nodes[i].lost = true;
        }
    }
    faults_end_network(faults, true);
    faults_end_nodes(faults, true);
}

bool faults_is_lost(const struct faults *faults, size_t node)
{
    return faults->nodes[node].lost || faults->nodes[node].wiped;
}

/* ---- Replacing ---- */

size_t faults_leader_of_team(const struct faults *faults, size_t team)
{
    return faults_leader_of(faults, team);
}

bool faults_is_spoilt(const struct faults *faults, size_t node)
{
    return faults->nodes[node].lost || faults->nodes[node].wiped;
}

bool faults_is_damaged(const struct faults *faults, size_t node)
{
    return faults->nodes[node].damaged;
}

void faults_make_joiner(struct faults *faults, size_t node)
{
    struct node_state *state = &faults->nodes[node];

    events_note(&faults->run->events, "node %zu is emptied, to join again", node);
    faults_crash(faults, node, 1);
    world_wipe(faults->world, node);
    world_join(faults->world, node);
    state->lost = state->wiped = false;
    state->damaged = state->joiner = true;
}

bool faults_is_joiner(const struct faults *faults, size_t node)
{
    return faults->nodes[node].joiner;
}

void faults_is_whole(struct faults *faults, size_t node)
{
    struct node_state *state = &faults->nodes[node];

    if (state->joiner) { /* else what its disk has suffered is still there */
        state->damaged = state->joiner = false;
    }
}
