/* Faults of processes, clocks and disks. */
#include "raft/util/assert.h"
#include "tests/sim/check.h"
#include "tests/simulator/faults_internal.h"
#include "tests/simulator/replicas.h"
#include "tests/simulator/workload.h"

#define MINUTE_US (60 * 1000000ull)

static void note(struct faults *faults, const struct fault_draw *draw, size_t node)
{
    events_note(&faults->run->events, "%s: node %zu for %u steps", fault_kinds[draw->fault].name,
                node, draw->steps);
}

/* ---- Down and up ---- */

static void go_down(struct faults *faults, size_t node, uint32_t steps)
{
    struct node_state *state = &faults->nodes[node];

    state->is_down = true;
    state->resume_at = 0;
    state->crash_at = 0;
    state->crash_amid = false;
    if (state->start_at < faults->step + steps) {
        state->start_at = faults->step + steps;
    }
}

void faults_crash(struct faults *faults, size_t node, uint32_t steps)
{
    if (world_is_running(faults->world, node)) {
        events_note(&faults->run->events, "node %zu goes down for %u steps", node, steps);
        world_crash(faults->world, node);
    }
    go_down(faults, node, steps);
}

/* A server that met an error of its disk ended by itself; it starts anew a while later. */
static void look_for_halts(struct faults *faults)
{
    const char *why = world_unexplained_halt(faults->world);

    if (why != NULL) {
        check_fail("no server halts without a cause", "%s", why);
    }
    for (size_t i = 0; i < faults->n_nodes; i++) {
        if (!world_is_running(faults->world, i) && !faults->nodes[i].is_down &&
            faults->nodes[i].crash_amid) {
            events_note(&faults->run->events, "node %zu went down amid a turn", i);
            go_down(faults, i, faults->nodes[i].crash_steps);
        } else if (!world_is_running(faults->world, i) && !faults->nodes[i].is_down) {
            events_note(&faults->run->events, "node %zu ended by itself: %s", i,
                        world_halted(faults->world, i));
            go_down(faults, i, (uint32_t)rng_between(&faults->restarts, 1, 20));
        }
    }
}

static void start(struct faults *faults, size_t node)
{
    struct node_state *state = &faults->nodes[node];

    if (world_try_start(faults->world, node)) {
        events_note(&faults->run->events, "node %zu starts", node);
        state->start_at = 0;
        state->is_down = false;
    } else if (state->damaged) {
        events_note(&faults->run->events, "node %zu refuses its disk", node);
        state->lost = true;
        faults->run->report.n_lost++;
    } else if (state->full_until != 0) {
        events_note(&faults->run->events, "node %zu can't start yet", node);
        state->start_at = faults->step + 5;
    } else {
        check_fail("a server starts from what its disk holds", "node %zu", node);
    }
}

/* ---- Processes ---- */

/* The rule of majorities where replicas come and go. A learner may be promoted at any moment, so it
 * counts as a voter that may be damaged, not as one that is there. */
static bool may_damage_member(const struct faults *faults, size_t node)
{
    size_t team = faults_team_of(faults, node), damaged = 0, voters = 0;
    const struct raft_configuration *configuration;

    if (faults_is_spoilt(faults, node) || faults->nodes[node].damaged ||
        !replicas_are_certain(faults->run->replicas, team, &configuration) ||
        replicas_have_strays(faults->run->replicas, team)) {
        return false;
    }
    for (size_t i = 0; i < configuration->n; i++) {
        const struct raft_server *member = &configuration->servers[i];

        voters += (member->flags & RAFT_VOTER) != 0;
        damaged += faults->nodes[faults_team_node(faults, team, member->id - 1)].damaged;
    }
    return damaged + 1 <= (voters - 1) / 2;
}

/* Whether the node may lose what its disk holds, by the rule of majorities. */
static bool may_damage(const struct faults *faults, size_t node)
{
    size_t team = faults_team_of(faults, node), n = faults_team_size(faults, team), damaged = 0;

    if (faults->run->plan.replicas_per_100_s > 0) {
        return may_damage_member(faults, node);
    }
    for (size_t i = 0; i < n; i++) {
        size_t other = faults_team_node(faults, team, i);
        damaged += other != node && faults->nodes[other].damaged;
    }
    return !faults->nodes[node].lost && !faults->nodes[node].wiped && damaged + 1 <= (n - 1) / 2;
}

static bool begin_pause(struct faults *faults, const struct fault_draw *draw, size_t node)
{
    if (!world_is_running(faults->world, node) || world_is_paused(faults->world, node)) {
        return false;
    }
    note(faults, draw, node);
    world_pause(faults->world, node, true);
    faults->nodes[node].resume_at = faults->step + draw->steps;
    return true;
}

static bool begin_restart(struct faults *faults, const struct fault_draw *draw, size_t node)
{
    struct node_state *state = &faults->nodes[node];

    if (!world_is_running(faults->world, node) || world_is_paused(faults->world, node) ||
        state->stuck_until != 0) {
        return false;
    }
    note(faults, draw, node);
    world_stop(faults->world, node);
    go_down(faults, node, draw->steps);
    return true;
}

static bool begin_wipe(struct faults *faults, const struct fault_draw *draw, size_t node)
{
    if (!may_damage(faults, node)) {
        return false;
    }
    note(faults, draw, node);
    faults_crash(faults, node, draw->steps);
    world_wipe(faults->world, node);
    faults->nodes[node].damaged = faults->nodes[node].wiped = true;
    faults->run->report.n_lost++;
    return true;
}

/* A permutation of 0..n-1. */
static void shuffle(struct rng *rng, size_t n, size_t *order)
{
    for (size_t i = 0; i < n; i++) {
        size_t j = rng_below(rng, i + 1);

        order[i] = order[j];
        order[j] = i;
    }
}

static bool begin_swizzle(struct faults *faults, const struct fault_draw *draw)
{
    size_t team = draw->a % faults_n_teams(faults), n = faults_team_size(faults, team);
    size_t down[PLAN_MAX_REPLICAS], up[PLAN_MAX_REPLICAS];
    struct rng rng = {draw->b};

    shuffle(&rng, n, down);
    shuffle(&rng, n, up);
    if (faults->n_planned + n > MAX_PLANNED) {
        return false;
    }
    events_note(&faults->run->events, "swizzle: team %zu", team);
    for (size_t i = 0; i < n; i++) {
        faults->planned[faults->n_planned++] = (struct planned_crash){
            .node = faults_team_node(faults, team, i),
            .at = faults->step + 1 + (uint32_t)down[i],
            .until = faults->step + 1 + (uint32_t)n + draw->steps / 4 + (uint32_t)up[i]};
    }
    return true;
}

static bool crash_team(struct faults *faults, size_t team, uint32_t steps)
{
    for (size_t i = 0; i < faults_team_size(faults, team); i++) {
        faults_crash(faults, faults_team_node(faults, team, i), steps);
    }
    return true;
}

static bool crash_all(struct faults *faults, uint32_t steps)
{
    for (size_t team = 0; team < faults_n_teams(faults); team++) {
        crash_team(faults, team, steps);
    }
    return true;
}

static bool begin_crash_at(struct faults *faults, const struct fault_draw *draw, size_t node)
{
    struct node_state *state = &faults->nodes[node];

    if (!world_is_running(faults->world, node) || state->crash_at != 0) {
        return false;
    }
    state->crash_at = state->n_events + 1 + draw->b % (draw->c % 4 == 0 ? 1000 : 40);
    state->crash_steps = draw->steps;
    state->crash_amid = (draw->c >> 8) % 2 == 0;
    return true;
}

/* ---- Clocks ---- */

void faults_slow_down(struct faults *faults, size_t node, uint64_t random, uint32_t steps)
{
    struct node_state *state = &faults->nodes[node];

    if (random % 3 == 0 && state->drift_until == 0) {
        world_set_clock_rate(faults->world, node, 500000);
        state->drift_until = faults->step + steps;
    } else if (random % 3 == 1 && !world_is_paused(faults->world, node)) {
        world_pause(faults->world, node, true);
        state->resume_at = faults->step + steps * 2 / 3;
    }
}

/* Minutes mostly, hours often, days now and then; forwards or backwards. */
static void jump_clock(struct faults *faults, const struct fault_draw *draw, size_t node)
{
    uint64_t max_us = draw->b % 16 == 0  ? 5 * 24 * 60 * MINUTE_US
                      : draw->b % 4 == 0 ? 12 * 60 * MINUTE_US
                                         : 10 * MINUTE_US;
    int64_t skew_us = (int64_t)(draw->c % (2 * max_us)) - (int64_t)max_us;

    note(faults, draw, node);
    world_set_clock_skew(faults->world, node, skew_us);
}

static void drift_clock(struct faults *faults, const struct fault_draw *draw, size_t node)
{
    note(faults, draw, node);
    world_set_clock_rate(faults->world, node, 500000 + (uint32_t)(draw->b % 1500001));
    faults->nodes[node].drift_until = faults->step + draw->steps;
}

bool faults_begin_node(struct faults *faults, const struct fault_draw *draw)
{
    size_t node = faults_aim(faults, draw);

    switch (draw->fault) {
    case FAULT_CRASH:
        if (!world_is_running(faults->world, node)) {
            return false;
        }
        faults_crash(faults, node, draw->steps);
        return true;
    case FAULT_CRASH_AT:
        return begin_crash_at(faults, draw, node);
    case FAULT_RESTART:
        return begin_restart(faults, draw, node);
    case FAULT_PAUSE:
        return begin_pause(faults, draw, node);
    case FAULT_SWIZZLE:
        return begin_swizzle(faults, draw);
    case FAULT_GROUP_RESTART:
        return crash_team(faults, draw->a % faults_n_teams(faults), draw->steps);
    case FAULT_CLUSTER_RESTART:
        return crash_all(faults, draw->steps);
    case FAULT_WIPE:
        return begin_wipe(faults, draw, node);
    case FAULT_CLIENT_END:
        workload_replace_client(faults->run->workload, draw->a % faults->run->plan.n_clients);
        return true;
    case FAULT_CLOCK_JUMP:
        jump_clock(faults, draw, node);
        return true;
    default:
        ASSERT(draw->fault == FAULT_CLOCK_DRIFT);
        drift_clock(faults, draw, node);
        return true;
    }
}

/* ---- Disks ---- */

static void set_disk(struct faults *faults, size_t node)
{
    const struct node_state *state = &faults->nodes[node];
    struct world_disk disk = {.slow_factor = state->slow_until != 0 ? state->slow_factor : 1,
                              .stuck = state->stuck_until != 0,
                              .full = state->full_until != 0};

    world_set_disk(faults->world, node, &disk);
}

static bool begin_disk_state(struct faults *faults, const struct fault_draw *draw, size_t node,
                             uint32_t *until)
{
    if (*until != 0) {
        return false;
    }
    note(faults, draw, node);
    *until = faults->step + draw->steps;
    set_disk(faults, node);
    return true;
}

static bool begin_disk_error(struct faults *faults, const struct fault_draw *draw, size_t node,
                             enum world_disk_fault what)
{
    if (!world_is_running(faults->world, node)) {
        return false;
    }
    note(faults, draw, node);
    world_fail_disk(faults->world, node, what);
    return true;
}

static bool begin_flip(struct faults *faults, const struct fault_draw *draw, size_t node)
{
    if (!may_damage(faults, node)) {
        return false;
    }
    note(faults, draw, node);
    faults->nodes[node].damaged = true;
    faults_crash(faults, node, draw->steps);
    world_flip_bit(faults->world, node);
    return true;
}

bool faults_begin_disk(struct faults *faults, const struct fault_draw *draw)
{
    size_t node = faults_aim(faults, draw);
    struct node_state *state = &faults->nodes[node];

    switch (draw->fault) {
    case FAULT_DISK_SLOW:
        state->slow_factor = 2 + (uint32_t)(draw->b % (draw->c % 4 == 0 ? 199 : 20));
        return begin_disk_state(faults, draw, node, &state->slow_until);
    case FAULT_DISK_STUCK:
        return begin_disk_state(faults, draw, node, &state->stuck_until);
    case FAULT_DISK_FULL:
        return begin_disk_state(faults, draw, node, &state->full_until);
    case FAULT_WRITE_ERROR:
        return begin_disk_error(faults, draw, node, WORLD_DISK_WRITE_ERROR);
    case FAULT_SYNC_ERROR:
        return begin_disk_error(faults, draw, node, WORLD_DISK_SYNC_ERROR);
    case FAULT_STATE_ERROR:
        return begin_disk_error(faults, draw, node, WORLD_DISK_STATE_ERROR);
    case FAULT_READ_ERROR:
        return begin_disk_error(faults, draw, node, WORLD_DISK_READ_ERROR);
    default:
        ASSERT(draw->fault == FAULT_BIT_FLIP);
        return begin_flip(faults, draw, node);
    }
}

/* ---- Ends ---- */

static bool is_over(const struct faults *faults, uint32_t *until, bool all)
{
    if (*until == 0 || (!all && *until > faults->step)) {
        return false;
    }
    *until = 0;
    return true;
}

static void end_states(struct faults *faults, size_t node, bool all)
{
    struct node_state *state = &faults->nodes[node];
    bool disk = false;

    if (state->resume_at != 0 && (all || state->resume_at <= faults->step)) {
        state->resume_at = 0;
        world_pause(faults->world, node, false);
    }
    disk |= is_over(faults, &state->slow_until, all);
    disk |= is_over(faults, &state->stuck_until, all);
    disk |= is_over(faults, &state->full_until, all);
    if (disk) {
        set_disk(faults, node);
    }
    if (is_over(faults, &state->drift_until, all)) {
        world_set_clock_rate(faults->world, node, 1000000);
    }
}

static void crash_planned(struct faults *faults, bool all)
{
    for (size_t i = 0; i < faults->n_planned;) {
        struct planned_crash planned = faults->planned[i];

        if (!all && planned.at > faults->step) {
            i++;
            continue;
        }
        faults->planned[i] = faults->planned[--faults->n_planned];
        if (!all) {
            faults_crash(faults, planned.node, planned.until - faults->step);
        }
    }
}

void faults_end_nodes(struct faults *faults, bool all)
{
    crash_planned(faults, all);
    look_for_halts(faults);
    for (size_t i = 0; i < faults->n_nodes; i++) {
        struct node_state *state = &faults->nodes[i];
        bool stays =
            state->lost || (all && state->wiped && faults->run->plan.replicas_per_100_s == 0);

        end_states(faults, i, all);
        if (!world_is_running(faults->world, i) && !stays &&
            (all || state->start_at <= faults->step)) {
            start(faults, i);
        }
    }
}

void faults_restart_halted(struct faults *faults)
{
    faults_end_nodes(faults, true);
}
