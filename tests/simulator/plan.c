/* plan: see plan.h. */
#include "tests/simulator/plan.h"

#include <string.h>

#define ALL_FAULTS (FAULT_OF_NETWORK | FAULT_OF_CRASHES | FAULT_OF_CLOCKS | FAULT_OF_DISKS)

const struct fault_kind fault_kinds[FAULT_N] = {
#define FAULT_KIND(name, text, class, weight, steps, what)                                         \
    {text, FAULT_OF_##class, weight, steps, what},
    FAULT_MAP(FAULT_KIND)
#undef FAULT_KIND
};

const struct profile profiles[] = {
    {"standard", "a random half of all faults, at random rates",
     ALL_FAULTS | FAULT_OF_MOVES | FAULT_OF_REPLICAS, true, 180, 450, 40, 300, 200},
    {"calm", "no faults, few moves", FAULT_OF_MOVES, false, 0, 0, 10, 40, 200},
    {"network", "faults of the network", FAULT_OF_NETWORK | FAULT_OF_MOVES, false, 150, 400, 20,
     100, 200},
    {"crashes", "servers that end, pause and start", FAULT_OF_CRASHES | FAULT_OF_MOVES, false, 100,
     300, 20, 100, 200},
    {"disks", "faults of disks, and crashes", FAULT_OF_DISKS | FAULT_OF_CRASHES | FAULT_OF_MOVES,
     false, 150, 400, 20, 100, 200},
    {"clocks", "clocks that jump and drift, and crashes",
     FAULT_OF_CLOCKS | FAULT_OF_CRASHES | FAULT_OF_MOVES, false, 150, 400, 20, 100, 200},
    {"moves", "joins, leaves and moves without pause, few faults", ALL_FAULTS | FAULT_OF_MOVES,
     true, 30, 120, 200, 600, 200},
    {"replicas", "replicas come and go without pause, crashes",
     FAULT_OF_CRASHES | FAULT_OF_MOVES | FAULT_OF_REPLICAS, true, 60, 200, 20, 100, 200},
    {"all", "every fault", ALL_FAULTS | FAULT_OF_MOVES | FAULT_OF_REPLICAS, false, 200, 800, 20,
     200, 300},
};
const size_t n_profiles = sizeof(profiles) / sizeof(profiles[0]);

enum fault fault_find(const char *name)
{
    size_t i = 0;

    while (i < FAULT_N && strcmp(fault_kinds[i].name, name) != 0) {
        i++;
    }
    return (enum fault)i;
}

const struct profile *profile_find(const char *name)
{
    for (size_t i = 0; i < n_profiles; i++) {
        if (strcmp(profiles[i].name, name) == 0) {
            return &profiles[i];
        }
    }
    return NULL;
}

/* FNV-1a of the purpose, stirred with the seed. */
struct rng plan_stream(uint64_t seed, const char *purpose)
{
    uint64_t hash = 0xcbf29ce484222325u;
    struct rng rng;

    for (const char *at = purpose; *at != '\0'; at++) {
        hash = (hash ^ (uint8_t)*at) * 0x100000001b3u;
    }
    rng_init(&rng, seed);
    rng_init(&rng, rng_next(&rng) ^ hash);
    rng_init(&rng, rng_next(&rng));
    return rng;
}

static bool chance(struct rng *rng, uint64_t percent)
{
    return rng_below(rng, 100) < percent;
}

static uint32_t between(struct rng *rng, uint32_t low, uint32_t high)
{
    return (uint32_t)rng_between(rng, low, high);
}

/* One of these, all alike. */
#define PICK(rng, ...)                                                                             \
    ((const uint32_t[]){                                                                           \
        __VA_ARGS__})[rng_below(rng, sizeof((const uint32_t[]){__VA_ARGS__}) / sizeof(uint32_t))]

static void draw_topology(struct plan *plan)
{
    struct rng rng = plan_stream(plan->seed, "topology");

    plan->n_ctrlers = PICK(&rng, 1, 1, 2, 3, 3, 3, 3, 5);
    plan->n_groups = PICK(&rng, 1, 2, 2, 3, 3, 4);
    for (size_t g = 0; g < PLAN_MAX_GROUPS; g++) {
        plan->replicas[g] = PICK(&rng, 1, 2, 3, 3, 3, 3, 3, 4, 5);
    }
    plan->n_clients = chance(&rng, 50) ? between(&rng, 1, 8) : between(&rng, 1, PLAN_MAX_CLIENTS);
    plan->n_shards = PICK(&rng, 16, 16, 16, 32, 64);
    plan->use_wal = chance(&rng, 50);
    plan->snapshots = chance(&rng, 70);
    plan->max_raft_state = PICK(&rng, 1000, 4000, 4000, 20000);
    plan->snapshot_chunk_bytes = PICK(&rng, 0, 200, 1000, 4000);
    plan->max_sessions = PICK(&rng, 0, 0, 0, 3, 8);
    plan->piece_bytes = PICK(&rng, 0, 64, 64, 200, 1000);
}

static void draw_workload(struct plan *plan)
{
    struct rng rng = plan_stream(plan->seed, "workload rates");
    bool appends = chance(&rng, 30); /* long values, of many appends */

    plan->operations_per_100_s = between(&rng, 2500, 6000);
    plan->max_outstanding = 1 + (40 + between(&rng, 0, 40)) / plan->n_clients;
    plan->n_keys = between(&rng, 6, 40);
    plan->skew = between(&rng, 1, 3);
    plan->shares[OPERATION_KIND_GET] = between(&rng, 15, 60);
    plan->shares[OPERATION_KIND_PUT] = appends ? 1 : between(&rng, 5, 30);
    plan->shares[OPERATION_KIND_APPEND] = between(&rng, 10, 40);
    plan->shares[OPERATION_KIND_DELETE] = appends ? 0 : between(&rng, 2, 12);
    plan->shares[OPERATION_KIND_CAS_ABSENT] = between(&rng, 1, 10);
    plan->shares[OPERATION_KIND_CAS_VALUE] = appends ? 1 : between(&rng, 2, 20);
    plan->shares[OPERATION_KIND_MANY] = appends ? 0 : between(&rng, 0, 8);
    plan->shares[OPERATION_KIND_SCAN] = between(&rng, 0, 4);
    plan->follow_percent = PICK(&rng, 10, 20, 50, 100);
    plan->operation_ms_min = PICK(&rng, 100, 500, 1000);
    plan->operation_ms_max = PICK(&rng, 1000, 3000, 6000);
    plan->large_ppm = PICK(&rng, 0, 2000, 20000);
    plan->large_bytes = PICK(&rng, 1000, 4000, 30000);
}

/* The faults share a total rate by random weights; those not drawn leave their share to others. */
static void draw_faults(struct plan *plan, const struct plan_wishes *wishes)
{
    const struct profile *profile = plan->profile;
    struct rng rng = plan_stream(plan->seed, "fault rates");
    uint64_t total = between(&rng, profile->faults_per_100_s_min, profile->faults_per_100_s_max);
    uint64_t weights[FAULT_N], sum = 0;

    plan->changes_per_100_s =
        between(&rng, profile->changes_per_100_s_min, profile->changes_per_100_s_max);
    for (size_t i = 0; i < FAULT_N; i++) {
        uint64_t weight = (uint64_t)fault_kinds[i].weight * rng_between(&rng, 1, 4);
        bool drawn = chance(&rng, 50) || !profile->swarm;

        weights[i] = drawn && (fault_kinds[i].class & profile->classes) != 0 ? weight : 0;
        sum += weights[i];
    }
    if (sum == 0 && profile->swarm) {
        sum = weights[FAULT_CRASH] = 1;
    }
    for (size_t i = 0; i < FAULT_N; i++) {
        uint64_t per_100_s = sum == 0 ? 0 : total * 1000000 * weights[i] / sum;

        plan->fault_ppm[i] = wishes->without[i] ? 0 : (uint32_t)(per_100_s * PLAN_STEP_MS / 100000);
    }
    if (wishes->without[FAULT_MOVES]) {
        plan->changes_per_100_s = 0;
    }
}

/* In half of the seeds; then up to two a second. */
static void draw_replicas(struct plan *plan, const struct plan_wishes *wishes)
{
    struct rng rng = plan_stream(plan->seed, "rate of replicas");
    bool drawn = chance(&rng, 50) ||
                 plan->profile->classes == (FAULT_OF_CRASHES | FAULT_OF_MOVES | FAULT_OF_REPLICAS);
    uint32_t rate = between(&rng, 20, 200);

    if (drawn && (plan->profile->classes & FAULT_OF_REPLICAS) != 0 &&
        !wishes->without[FAULT_REPLICAS]) {
        plan->replicas_per_100_s = rate;
    }
}

static void draw_migration(struct plan *plan)
{
    struct rng rng = plan_stream(plan->seed, "migration");

    plan->max_copies = PICK(&rng, 0, 0, 1, 2, 30);
    plan->copy_bytes_per_s = PICK(&rng, 0, 0, 0, 30000, 300000);
}

static void limit(uint32_t *value, uint32_t max)
{
    if (max != 0 && *value > max) {
        *value = max;
    }
}

void plan_make(struct plan *plan, uint64_t seed, const struct plan_wishes *wishes)
{
    *plan = (struct plan){.seed = seed, .profile = wishes->profile};
    plan->steps = wishes->steps != 0 ? wishes->steps : wishes->profile->steps;
    draw_topology(plan);
    draw_workload(plan);
    draw_faults(plan, wishes);
    draw_replicas(plan, wishes);
    draw_migration(plan);
    limit(&plan->n_ctrlers, wishes->max_ctrlers);
    limit(&plan->n_groups, wishes->max_groups);
    limit(&plan->n_clients, wishes->max_clients);
    for (size_t g = 0; g < PLAN_MAX_GROUPS; g++) {
        limit(&plan->replicas[g], wishes->max_replicas);
    }
}
