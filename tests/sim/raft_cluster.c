/* One Raft group in a simulated world; see raft_cluster.h. */
#include "tests/sim/raft_cluster_internal.h"

#include <stdio.h>

#include "raft/util/assert.h"
#include "raft/util/mem.h"
#include "tests/sim/check_raft.h"
#include "tests/sim/stats_line.h"

#define KIND_COMMAND 1
#define KIND_COUNT   2

/* As often as the suites allow, with the shipped election timeout. */
#define HEARTBEAT_MS 100

#define AGREE_POLL_MS    20
#define AGREE_POLLING_MS 2000

struct recorder {
    struct raft_cluster *cluster;
    size_t node;
    struct group *group;
    struct io_state *state;
    uint64_t count; /* commands applied */
};

struct raft_cluster {
    const char *name;
    struct raft_cluster_options options;
    struct world *world;
    struct check_raft *check;
    uint64_t start_us;
    struct recorder *recorders[RAFT_CLUSTER_MAX]; /* NULL: not running */
    uint64_t last_count[RAFT_CLUSTER_MAX];        /* also of those that crashed */
    struct buf *commands; /* [number - 1]: what was applied, by whoever came first */
    size_t n_commands, capacity;
    size_t *leader_of_term; /* node + 1 by term; 0: none seen */
    size_t n_terms;
    size_t next_submit;                    /* round-robin */
    uint64_t n_gathered[RAFT_CLUSTER_MAX]; /* submitted in this instant: their turn has not ended */
};

void raft_cluster_end_turns(struct raft_cluster *cluster)
{
    for (size_t i = 0; i < cluster->options.n; i++) {
        if (cluster->n_gathered[i] > 0) {
            cluster->n_gathered[i] = 0;
            world_kick(cluster->world, i);
        }
    }
}

static void run_ms(struct raft_cluster *cluster, uint64_t ms)
{
    raft_cluster_end_turns(cluster);
    world_run_ms(cluster->world, ms);
}

/* ---- The recording service ---- */

static struct io_key count_key(void)
{
    return (struct io_key){0, KIND_COUNT, slice_of(NULL, 0)};
}

static void check_same(struct raft_cluster *cluster, uint64_t number, struct slice command)
{
    if (number > cluster->n_commands) {
        ASSERT(number == cluster->n_commands + 1);
        MEM_GROW(cluster->commands, cluster->capacity, cluster->n_commands + 1);
        cluster->commands[cluster->n_commands] = (struct buf){0};
        buf_put_slice(&cluster->commands[cluster->n_commands++], command);
    }
    if (!slice_equal(buf_slice(&cluster->commands[number - 1]), command)) {
        UNREACHABLE("two replicas applied different commands under the same number");
    }
}

static enum status recorder_apply(void *service, const struct rsm_command *command,
                                  struct buf *result)
{
    struct recorder *recorder = service;
    uint8_t key[8], value[8];

    recorder->count++;
    check_same(recorder->cluster, recorder->count, command->bytes);
    set_u64_be(key, recorder->count);
    recorder->state->ops->put(recorder->state,
                              (struct io_key){0, KIND_COMMAND, slice_of(key, sizeof(key))},
                              command->bytes);
    set_u64(value, recorder->count);
    recorder->state->ops->put(recorder->state, count_key(), slice_of(value, sizeof(value)));
    buf_put_u64(result, recorder->count);
    recorder->cluster->last_count[recorder->node] = recorder->count;
    return ST_OK;
}

static void recorder_ranges(void *service, uint64_t **ranges, size_t *n, size_t *capacity)
{
    (void)service, (void)ranges, (void)n, (void)capacity;
}

static enum status recorder_restore(void *service)
{
    struct recorder *recorder = service;
    struct buf value = {0};
    enum status status = recorder->state->ops->get(recorder->state, count_key(), &value);

    recorder->count = status == ST_OK ? get_u64(value.data) : 0;
    recorder->cluster->last_count[recorder->node] = recorder->count;
    buf_fini(&value);
    return status == ST_NOT_FOUND ? ST_OK : status;
}

static uint64_t recorder_stamp_floor(void *service)
{
    (void)service;
    return 0;
}

static void recorder_role_changed(void *service, enum raft_role role, raft_term term,
                                  raft_id leader)
{
    struct recorder *recorder = service;
    struct raft_cluster *cluster = recorder->cluster;

    (void)leader;
    if (role != RAFT_LEADER) {
        return;
    }
    if (term >= cluster->n_terms) {
        size_t n = (size_t)term + 64;
        cluster->leader_of_term = mem_realloc(cluster->leader_of_term, n * sizeof(size_t));
        memset(cluster->leader_of_term + cluster->n_terms, 0,
               (n - cluster->n_terms) * sizeof(size_t));
        cluster->n_terms = n;
    }
    if (cluster->leader_of_term[term] != 0 && cluster->leader_of_term[term] != recorder->node + 1) {
        UNREACHABLE("a term has two leaders");
    }
    cluster->leader_of_term[term] = recorder->node + 1;
}

static const struct rsm_service_ops recorder_ops = {
    .apply = recorder_apply,
    .ranges = recorder_ranges,
    .restore = recorder_restore,
    .stamp_floor = recorder_stamp_floor,
    .role_changed = recorder_role_changed,
};

static void *recorder_create(void *context, const struct world_parts *parts)
{
    struct raft_cluster *cluster = context;
    struct recorder *recorder = mem_zalloc(sizeof(*recorder));
    struct group_options options;
    enum status status;

    recorder->cluster = cluster;
    recorder->node = parts->node;
    recorder->state = parts->io.state;
    group_options_default(&options, parts->gid, parts->id, parts->seed);
    options.company_ms = 0; /* what a turn proposes is appended at its end */
    raft_configuration_from_spec(&parts->spec, &options.bootstrap);
    options.bootstrap.n = parts->joins ? 0 : options.bootstrap.n;
    options.raft.incarnation = parts->incarnation;
    options.check_invariants = true;
    options.raft.heartbeat_ms = HEARTBEAT_MS;
    options.trace = options.raft.trace = parts->trace;
    if (cluster->options.snapshots) {
        options.checkpoint_log_bytes = 400;
        options.log_keep_bytes = 0;
    }
    status = group_create(&options, &parts->io, &recorder_ops, recorder, parts->log_content,
                          parts->state_meta, parts->now_ms, &recorder->group);
    if (status != ST_OK) {
        mem_free(recorder);
        return NULL;
    }
    cluster->recorders[parts->node] = recorder;
    return recorder;
}

static void recorder_destroy(void **server)
{
    struct recorder *recorder = *server;

    recorder->cluster->recorders[recorder->node] = NULL;
    group_destroy(&recorder->group);
    mem_free(recorder);
    *server = NULL;
}

static void recorder_step(void *server, const struct io_event *event)
{
    struct recorder *recorder = server;
    group_step(recorder->group, event);
}

static uint64_t recorder_next_deadline_ms(void *server)
{
    struct recorder *recorder = server;
    return group_next_deadline_ms(recorder->group);
}

static struct group *recorder_group(void *server)
{
    struct recorder *recorder = server;
    return recorder->group;
}

static const struct world_node_ops node_ops = {recorder_create, recorder_destroy,
                                               recorder_step,   recorder_next_deadline_ms,
                                               recorder_group,  NULL};

/* ---- The cluster ---- */

size_t raft_cluster_add_node(struct raft_cluster *cluster, const struct spec *spec)
{
    size_t i = cluster->options.n++;
    size_t node = world_add_node(cluster->world, 1, (raft_id)i + 1, spec, &node_ops, cluster);

    ASSERT(node == i);
    return i;
}

struct raft_cluster *raft_cluster_create(const char *name,
                                         const struct raft_cluster_options *options)
{
    struct raft_cluster *cluster = mem_zalloc(sizeof(*cluster));
    struct spec spec;

    ASSERT(options->n <= RAFT_CLUSTER_MAX);
    cluster->name = name;
    cluster->options = *options;
    cluster->world = world_create(stats_line_seed(options->seed));
    cluster->check = check_raft_create(cluster->world);
    world_use_wal(cluster->world, options->use_wal);
    cluster->start_us = world_now_us(cluster->world);
    raft_cluster_set_unreliable(cluster, options->unreliable, false);
    world_make_spec(cluster->world, 1, options->n, &spec);
    for (size_t i = 0; i < options->n; i++) {
        world_add_node(cluster->world, 1, (raft_id)i + 1, &spec, &node_ops, cluster);
    }
    for (size_t i = 0; i < options->n; i++) {
        world_start(cluster->world, i);
    }
    return cluster;
}

void raft_cluster_destroy(struct raft_cluster **cluster)
{
    struct raft_cluster *c = *cluster;
    struct stats_line line = {.name = c->name,
                              .us = world_now_us(c->world) - c->start_us,
                              .peers = c->options.n,
                              .rpcs = world_counted(c->world)->rpcs,
                              .bytes = world_counted(c->world)->bytes,
                              .count = c->n_commands,
                              .unit = "commits"};

    if (world_unexplained_halt(c->world) != NULL) {
        fprintf(stderr, "%s\n", world_unexplained_halt(c->world));
        UNREACHABLE("a replica halted");
    }
    stats_line_print(&line);
    world_destroy(&c->world);
    check_raft_destroy(&c->check);
    for (size_t i = 0; i < c->n_commands; i++) {
        buf_fini(&c->commands[i]);
    }
    mem_free(c->commands);
    mem_free(c->leader_of_term);
    mem_free(c);
    *cluster = NULL;
}

struct world *raft_cluster_world(struct raft_cluster *cluster)
{
    return cluster->world;
}

size_t raft_cluster_size(const struct raft_cluster *cluster)
{
    return cluster->options.n;
}

void raft_cluster_connect(struct raft_cluster *cluster, size_t i)
{
    world_connect(cluster->world, i, true);
}

void raft_cluster_disconnect(struct raft_cluster *cluster, size_t i)
{
    raft_cluster_end_turns(cluster);
    world_connect(cluster->world, i, false);
}

bool raft_cluster_is_connected(const struct raft_cluster *cluster, size_t i)
{
    return world_is_connected(cluster->world, i);
}

void raft_cluster_crash(struct raft_cluster *cluster, size_t i)
{
    raft_cluster_disconnect(cluster, i);
    if (world_is_running(cluster->world, i)) {
        world_crash(cluster->world, i);
    }
}

void raft_cluster_start(struct raft_cluster *cluster, size_t i)
{
    if (!world_is_running(cluster->world, i)) {
        world_start(cluster->world, i);
    }
}

void raft_cluster_revive(struct raft_cluster *cluster, size_t i)
{
    raft_cluster_start(cluster, i);
    raft_cluster_connect(cluster, i);
}

bool raft_cluster_is_running(const struct raft_cluster *cluster, size_t i)
{
    return world_is_running(cluster->world, i);
}

void raft_cluster_sleep(struct raft_cluster *cluster, uint64_t ms)
{
    run_ms(cluster, ms);
}

void raft_cluster_set_unreliable(struct raft_cluster *cluster, bool unreliable, bool reordering)
{
    struct world_faults faults = {.unreliable = unreliable, .long_reordering = reordering};
    world_set_faults(cluster->world, &faults);
}

/* ---- Leaders and terms ---- */

static bool is_up(const struct raft_cluster *cluster, size_t i)
{
    return cluster->recorders[i] != NULL && world_is_connected(cluster->world, i);
}

bool raft_cluster_leads(const struct raft_cluster *cluster, size_t i)
{
    return cluster->recorders[i] != NULL && group_is_leader(cluster->recorders[i]->group);
}

raft_term raft_cluster_term(const struct raft_cluster *cluster, size_t i)
{
    ASSERT(cluster->recorders[i] != NULL);
    return raft_current_term(group_raft(cluster->recorders[i]->group));
}

size_t raft_cluster_check_leader(struct raft_cluster *cluster)
{
    for (int tries = 0; tries < 10; tries++) {
        size_t leader = NO_LEADER;

        run_ms(cluster, rng_between(world_rng(cluster->world), 450, 549));
        for (size_t i = 0; i < cluster->options.n; i++) {
            if (is_up(cluster, i) && raft_cluster_leads(cluster, i) &&
                (leader == NO_LEADER ||
                 raft_cluster_term(cluster, i) > raft_cluster_term(cluster, leader))) {
                leader = i;
            }
        }
        if (leader != NO_LEADER) {
            return leader;
        }
    }
    UNREACHABLE("expected one leader, got none");
}

void raft_cluster_check_no_leader(struct raft_cluster *cluster)
{
    for (size_t i = 0; i < cluster->options.n; i++) {
        if (is_up(cluster, i) && raft_cluster_leads(cluster, i)) {
            UNREACHABLE("expected no leader among the connected replicas");
        }
    }
}

raft_term raft_cluster_check_terms(struct raft_cluster *cluster)
{
    raft_term term = 0;

    for (size_t i = 0; i < cluster->options.n; i++) {
        if (is_up(cluster, i)) {
            raft_term other = raft_cluster_term(cluster, i);
            if (term != 0 && term != other) {
                UNREACHABLE("replicas disagree on the term");
            }
            term = other;
        }
    }
    return term;
}

/* ---- Commands ---- */

static void forget(void *context, enum status status, struct slice result)
{
    (void)context, (void)status, (void)result;
}

/* The number of the last command in a replica's log. */
static uint64_t last_number_in_log(const struct recorder *recorder)
{
    const struct raft *raft = group_raft(recorder->group);
    uint64_t number = recorder->count;

    for (raft_index i = group_applied_index(recorder->group) + 1; i <= raft_last_index(raft); i++) {
        number += raft_entry_at(raft, i)->type == RAFT_ENTRY_COMMAND;
    }
    return number;
}

bool raft_cluster_submit(struct raft_cluster *cluster, size_t i, struct slice command,
                         uint64_t *number, raft_term *term)
{
    struct recorder *recorder = cluster->recorders[i];

    if (recorder == NULL || !group_is_leader(recorder->group)) {
        return false;
    }
    group_propose(recorder->group, command, 0, 0, forget, NULL);
    *number = last_number_in_log(recorder) + ++cluster->n_gathered[i];
    *term = raft_current_term(group_raft(recorder->group));
    return true;
}

bool raft_cluster_submit_u64(struct raft_cluster *cluster, size_t i, uint64_t command,
                             uint64_t *number, raft_term *term)
{
    uint8_t bytes[8];

    set_u64(bytes, command);
    return raft_cluster_submit(cluster, i, slice_of(bytes, sizeof(bytes)), number, term);
}

size_t raft_cluster_applied(const struct raft_cluster *cluster, uint64_t number)
{
    size_t n = 0;

    for (size_t i = 0; i < cluster->options.n; i++) {
        n += cluster->last_count[i] >= number;
    }
    return n;
}

struct slice raft_cluster_command(const struct raft_cluster *cluster, uint64_t number)
{
    return number >= 1 && number <= cluster->n_commands ? buf_slice(&cluster->commands[number - 1])
                                                        : slice_of(NULL, 0);
}

uint64_t raft_cluster_last_number(const struct raft_cluster *cluster)
{
    return cluster->n_commands;
}

/* One connected leader that takes the command; NO_LEADER if none does. */
static size_t submit_to_any(struct raft_cluster *cluster, struct slice command, uint64_t *number)
{
    raft_term term;

    for (size_t tried = 0; tried < cluster->options.n; tried++) {
        size_t i = cluster->next_submit++ % cluster->options.n;
        if (is_up(cluster, i) && raft_cluster_submit(cluster, i, command, number, &term)) {
            return i;
        }
    }
    return NO_LEADER;
}

/* The suites look every 20 ms, for up to 2 s; what commits at once costs them 20 ms, and so here.
 */
static bool poll_applied(struct raft_cluster *cluster, uint64_t number, struct slice command,
                         size_t expected)
{
    uint64_t end_ms = world_now_ms(cluster->world) + AGREE_POLLING_MS;

    while (world_now_ms(cluster->world) < end_ms) {
        if (raft_cluster_applied(cluster, number) >= expected &&
            slice_equal(raft_cluster_command(cluster, number), command)) {
            return true;
        }
        run_ms(cluster, AGREE_POLL_MS);
    }
    return false;
}

uint64_t raft_cluster_agree(struct raft_cluster *cluster, struct slice command, size_t expected,
                            bool retry)
{
    uint64_t end_ms = world_now_ms(cluster->world) + 10000;

    while (world_now_ms(cluster->world) < end_ms) {
        uint64_t number;

        if (submit_to_any(cluster, command, &number) != NO_LEADER) {
            if (poll_applied(cluster, number, command, expected)) {
                return number;
            }
            if (!retry) {
                break;
            }
        } else {
            run_ms(cluster, 50);
        }
    }
    UNREACHABLE("failed to reach agreement");
}

uint64_t raft_cluster_agree_u64(struct raft_cluster *cluster, uint64_t command, size_t expected,
                                bool retry)
{
    uint8_t bytes[8];

    set_u64(bytes, command);
    return raft_cluster_agree(cluster, slice_of(bytes, sizeof(bytes)), expected, retry);
}

bool raft_cluster_wait(struct raft_cluster *cluster, uint64_t number, size_t n, raft_term term)
{
    uint64_t pause_ms = 10;

    for (int round = 0; round < 30; round++) {
        if (raft_cluster_applied(cluster, number) >= n) {
            return true;
        }
        run_ms(cluster, pause_ms);
        pause_ms = pause_ms < 1000 ? pause_ms * 2 : pause_ms;
        for (size_t i = 0; i < cluster->options.n; i++) {
            if (cluster->recorders[i] != NULL && raft_cluster_term(cluster, i) > term) {
                return false;
            }
        }
    }
    UNREACHABLE("a command did not commit");
}

uint64_t raft_cluster_snapshots_installed(const struct raft_cluster *cluster, size_t i)
{
    ASSERT(cluster->recorders[i] != NULL);
    return group_statistics(cluster->recorders[i]->group)->snapshots_installed;
}

uint64_t raft_cluster_max_log_bytes(const struct raft_cluster *cluster)
{
    uint64_t most = 0;

    for (size_t i = 0; i < cluster->options.n; i++) {
        uint64_t bytes = world_log_bytes(cluster->world, i);
        most = bytes > most ? bytes : most;
    }
    return most;
}

uint64_t raft_cluster_rpcs(const struct raft_cluster *cluster)
{
    uint64_t n = 0;

    for (size_t i = 0; i < cluster->options.n; i++) {
        n += world_rpcs_at(cluster->world, i);
    }
    return n;
}

uint64_t raft_cluster_bytes(const struct raft_cluster *cluster)
{
    return world_counted(cluster->world)->bytes;
}
