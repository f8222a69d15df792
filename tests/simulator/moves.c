/* moves: see moves.h. */
#include "tests/simulator/moves.h"

#include <stdio.h>

#include "raft/util/assert.h"
#include "raft/util/mem.h"
#include "tests/sim/check.h"

#define CHANGE_MIN_MS 200 /* an impatient administrator does not know what became of it */
#define CHANGE_MAX_MS 4000

enum change_kind { CHANGE_JOIN, CHANGE_LEAVE, CHANGE_MOVE, CHANGE_PAUSE, CHANGE_RESUME };

struct moves {
    struct run *run;
    struct rng moments, choices, pauses;
    struct kv_client *client;
    bool joined[PLAN_MAX_GROUPS]; /* as far as is known */
    bool is_uncertain;            /* the end of some change is not known: a refusal may be right */
    bool began, busy;
    bool paused; /* what was asked for last */

    enum change_kind kind; /* under way */
    size_t groups[PLAN_MAX_GROUPS];
    uint32_t n_groups;

    bool has_config;
    struct shard_config config;
};

struct moves *moves_create(struct run *run)
{
    struct moves *moves = mem_zalloc(sizeof(*moves));

    moves->run = run;
    moves->moments = plan_stream(run->plan.seed, "moments of changes");
    moves->choices = plan_stream(run->plan.seed, "changes");
    moves->pauses = plan_stream(run->plan.seed, "pauses");
    moves->client = kv_client_create(run->cluster);
    return moves;
}

void moves_destroy(struct moves **moves)
{
    kv_client_destroy(&(*moves)->client);
    shard_config_fini(&(*moves)->config);
    mem_free(*moves);
    *moves = NULL;
}

static const char *const kind_names[] = {"join", "leave", "move", "pause", "resume"};

static bool is_about_groups(enum change_kind kind)
{
    return kind == CHANGE_JOIN || kind == CHANGE_LEAVE;
}

static void on_changed(void *context, enum status status, config_num num, const char *text)
{
    struct moves *moves = context;
    struct run_report *report = &moves->run->report;

    if (moves->kind < CHANGE_PAUSE) {
        events_note(&moves->run->events, "%s of group %zu ended %s, configuration %llu",
                    kind_names[moves->kind], moves->groups[0], status_name(status),
                    (unsigned long long)num);
    } else {
        events_note(&moves->run->events, "%s ended %s, configuration %llu", kind_names[moves->kind],
                    status_name(status), (unsigned long long)num);
    }
    moves->busy = false;
    switch (status) {
    case ST_OK:
        report->changes_ok++;
        report->faults[FAULT_MOVES]++;
        break;
    case ST_UNKNOWN:
        report->changes_unknown++;
        moves->is_uncertain |= moves->kind < CHANGE_PAUSE;
        break;
    case ST_TIMEOUT:
    case ST_UNAVAILABLE:
    case ST_BUSY:
    case ST_CANCELLED:
        report->changes_refused++;
        break;
    default:
        report->changes_refused++;
        if (!moves->is_uncertain) {
            check_fail("a change is refused only for a reason", "%s of group %zu: %s: %s",
                       kind_names[moves->kind], moves->groups[0], status_name(status), text);
        }
        break;
    }
    for (uint32_t i = 0; i < moves->n_groups && is_about_groups(moves->kind); i++) {
        bool is_done =
            status == ST_OK || status == ST_UNKNOWN || status == ST_EXISTS || status == ST_NO_GROUP;

        if (is_done) {
            moves->joined[moves->groups[i]] = moves->kind == CHANGE_JOIN;
        }
    }
}

static void choose_groups(struct moves *moves, bool joined, uint32_t max)
{
    moves->n_groups = 0;
    for (size_t g = 0; g < moves->run->plan.n_groups && moves->n_groups < max; g++) {
        if (moves->joined[g] == joined && rng_below(&moves->choices, 2) == 0) {
            moves->groups[moves->n_groups++] = g;
        }
    }
}

/* Whether there is anything to do of that kind. */
static bool choose(struct moves *moves)
{
    uint64_t kind = rng_below(&moves->choices, 10);
    size_t n_joined = 0;

    for (size_t g = 0; g < moves->run->plan.n_groups; g++) {
        n_joined += moves->joined[g];
    }
    if (n_joined == 0 || kind < 3) {
        moves->kind = CHANGE_JOIN;
        choose_groups(moves, false, PLAN_MAX_GROUPS);
    } else if (kind < 6) {
        /* Now and then the last one: then nobody owns the shards for a while. */
        moves->kind = CHANGE_LEAVE;
        choose_groups(moves, true, rng_below(&moves->choices, 3) == 0 ? 2 : 1);
        if (moves->n_groups == n_joined && rng_below(&moves->choices, 6) != 0) {
            return false;
        }
    } else {
        moves->kind = CHANGE_MOVE;
        choose_groups(moves, true, 1);
    }
    return moves->n_groups > 0;
}

/* Half of the time one that has keys. */
static shard_id choose_shard(struct moves *moves)
{
    const struct plan *plan = &moves->run->plan;
    uint64_t any = rng_below(&moves->choices, plan->n_shards);
    uint64_t pair = rng_below(&moves->choices, (plan->n_keys + 1) / 2);
    char key[24];

    if (any % 2 == 0) {
        return (shard_id)any;
    }
    snprintf(key, sizeof(key), "{t%llu}", (unsigned long long)pair);
    return shard_of_key(slice_text(key), plan->n_shards);
}

static void join(struct moves *moves, uint64_t now_ms, uint64_t ms)
{
    struct proto_join_group list[PLAN_MAX_GROUPS] = {0};

    for (uint32_t i = 0; i < moves->n_groups; i++) {
        list[i].gid = kv_cluster_gid(moves->groups[i]);
        list[i].replicas = *kv_cluster_spec(moves->run->cluster, moves->groups[i]);
    }
    ctrler_clerk_join(kv_client_admin(moves->client), list, moves->n_groups, now_ms, now_ms + ms,
                      on_changed, moves);
}

static void leave(struct moves *moves, uint64_t now_ms, uint64_t ms)
{
    uint32_t gids[PLAN_MAX_GROUPS];

    for (uint32_t i = 0; i < moves->n_groups; i++) {
        gids[i] = kv_cluster_gid(moves->groups[i]);
    }
    ctrler_clerk_leave(kv_client_admin(moves->client), gids, moves->n_groups, now_ms, now_ms + ms,
                       on_changed, moves);
}

static void pause_or_resume(struct moves *moves, bool paused, uint64_t ms)
{
    uint64_t now_ms = world_now_ms(moves->run->world);

    ASSERT(moves->busy);
    moves->kind = paused ? CHANGE_PAUSE : CHANGE_RESUME;
    moves->paused = paused;
    events_note(&moves->run->events, "%s begins", kind_names[moves->kind]);
    ctrler_clerk_pause(kv_client_admin(moves->client), paused, now_ms, now_ms + ms, on_changed,
                       moves);
    world_reschedule(moves->run->world, kv_client_number(moves->client));
}

/* Now and then moves are paused instead of a change, for some of the changes that follow. */
static bool begin_pause(struct moves *moves)
{
    uint64_t draw = rng_below(&moves->pauses, 12);
    uint64_t ms = rng_between(&moves->pauses, CHANGE_MIN_MS, CHANGE_MAX_MS);

    if (moves->paused ? draw >= 4 : draw != 0) {
        return false;
    }
    moves->busy = true;
    pause_or_resume(moves, !moves->paused, ms);
    return true;
}

void moves_begin(struct moves *moves)
{
    const struct plan *plan = &moves->run->plan;
    uint64_t now_ms = world_now_ms(moves->run->world);
    bool is_time = rng_below(&moves->moments, 100000) < plan->changes_per_100_s;
    shard_id shard;
    uint64_t ms;

    if (moves->busy || (!is_time && moves->began) || (moves->began && begin_pause(moves)) ||
        !choose(moves)) {
        return;
    }
    moves->began = moves->busy = true;
    shard = choose_shard(moves);
    ms = rng_between(&moves->choices, CHANGE_MIN_MS, CHANGE_MAX_MS);
    events_note(&moves->run->events, "%s of %u groups, the first %zu, begins",
                kind_names[moves->kind], moves->n_groups, moves->groups[0]);
    if (moves->kind == CHANGE_JOIN) {
        join(moves, now_ms, ms);
    } else if (moves->kind == CHANGE_LEAVE) {
        leave(moves, now_ms, ms);
    } else {
        ctrler_clerk_move(kv_client_admin(moves->client), shard, kv_cluster_gid(moves->groups[0]),
                          now_ms, now_ms + ms, on_changed, moves);
    }
    world_reschedule(moves->run->world, kv_client_number(moves->client));
}

bool moves_is_busy(const struct moves *moves)
{
    return moves->busy;
}

/* ---- After the faults ---- */

static void on_config(void *context, enum status status, const struct shard_config *config)
{
    struct moves *moves = context;

    moves->busy = false;
    moves->has_config = status == ST_OK;
    if (moves->has_config) {
        shard_config_fini(&moves->config);
        shard_config_copy(&moves->config, config);
    }
}

void moves_ask(struct moves *moves)
{
    uint64_t now_ms = world_now_ms(moves->run->world);

    ASSERT(!moves->busy);
    moves->busy = true;
    ctrler_clerk_query(kv_client_admin(moves->client), CONFIG_LATEST, 0, 0, now_ms,
                       now_ms + CHANGE_MAX_MS, on_config, moves);
    world_reschedule(moves->run->world, kv_client_number(moves->client));
}

void moves_join_first(struct moves *moves)
{
    ASSERT(!moves->busy);
    moves->busy = moves->is_uncertain = true; /* it may have to be repeated */
    moves->kind = CHANGE_JOIN;
    moves->groups[0] = 0;
    moves->n_groups = 1;
    join(moves, world_now_ms(moves->run->world), CHANGE_MAX_MS);
    world_reschedule(moves->run->world, kv_client_number(moves->client));
}

void moves_resume(struct moves *moves)
{
    ASSERT(!moves->busy);
    moves->busy = true;
    pause_or_resume(moves, false, CHANGE_MAX_MS);
}

const struct shard_config *moves_config(const struct moves *moves)
{
    return moves->has_config ? &moves->config : NULL;
}
