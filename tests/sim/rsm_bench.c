/* rsm_bench: see the header. */
#include "tests/sim/rsm_bench.h"

#include <stdio.h>
#include <stdlib.h>

#include "raft/util/assert.h"
#include "raft/util/crc32c.h"
#include "raft/util/mem.h"

#define COUNTER_KIND 1
#define MAX_WAIT_MS  10000

struct packet {
    struct packet *next;
    raft_id from, to;
    uint64_t due_ms;
    struct buf bytes;
};

/* What was applied at an index, the same for everybody. */
struct applied {
    uint64_t stamp;
    uint32_t checksum;
};

struct bench {
    size_t n;
    uint64_t now_ms;
    uint64_t seed;
    struct group_options options;
    struct bench_replica replicas[BENCH_MAX_REPLICAS];
    struct packet *packets, **packets_end;
    struct applied *applied; /* by index */
    size_t applied_capacity;
};

/* ---- The counter service ---- */

static struct io_key counter_key(void)
{
    return (struct io_key){0, COUNTER_KIND, slice_text("counter")};
}

static enum status counter_get(struct bench_replica *replica, int64_t *value)
{
    struct io_state *state = mem_state_io(replica->state);
    struct buf bytes = {0};
    enum status status;

    *value = replica->unsaved;
    if (replica->has_unsaved) {
        return ST_OK;
    }
    *value = 0;
    status = state->ops->get(state, counter_key(), &bytes);
    if (status == ST_OK) {
        ASSERT(bytes.len == 8);
        *value = (int64_t)get_u64(bytes.data);
    }
    buf_fini(&bytes);
    return status == ST_NOT_FOUND ? ST_OK : status;
}

static void counter_put(struct bench_replica *replica, int64_t value)
{
    struct io_state *state = mem_state_io(replica->state);
    uint8_t bytes[8];

    replica->has_unsaved = replica->late;
    replica->unsaved = value;
    if (replica->late) {
        return;
    }
    set_u64(bytes, (uint64_t)value);
    state->ops->put(state, counter_key(), slice_of(bytes, sizeof(bytes)));
}

static void counter_save(void *service)
{
    struct bench_replica *replica = service;

    if (replica->has_unsaved) {
        replica->late = false;
        counter_put(replica, replica->unsaved);
        replica->late = true;
    }
}

static bool counter_save_part(void *service)
{
    struct bench_replica *replica = service;

    if (replica->parts > 0) {
        replica->parts_saved++;
        replica->parts--;
    }
    return replica->parts > 0;
}

/* Everybody applies the same command at the same stamp at an index. */
static void check_applied(struct bench_replica *replica, const struct rsm_command *command)
{
    struct bench *bench = replica->bench;
    uint32_t checksum = crc32c(0, command->bytes.data, command->bytes.len);
    size_t old = bench->applied_capacity;
    struct applied *applied;

    MEM_GROW(bench->applied, bench->applied_capacity, command->index + 1);
    if (bench->applied_capacity > old) {
        memset(bench->applied + old, 0, (bench->applied_capacity - old) * sizeof(*applied));
    }
    applied = &bench->applied[command->index];
    if (applied->stamp == 0) {
        *applied = (struct applied){command->stamp, checksum};
    }
    ASSERT(applied->stamp == command->stamp && applied->checksum == checksum);
    ASSERT(command->index > replica->last_applied);
    ASSERT(command->stamp > replica->last_stamp);
    replica->last_applied = command->index;
    replica->last_stamp = command->stamp;
}

static enum status counter_apply(void *service, const struct rsm_command *command,
                                 struct buf *result)
{
    struct bench_replica *replica = service;
    int64_t value;
    enum status status = counter_get(replica, &value);

    ASSERT(!replica->halted && replica->group != NULL);
    if (status != ST_OK) {
        return status;
    }
    if (slice_equal(command->bytes, slice_text("bad"))) {
        return ST_VERSION;
    }
    check_applied(replica, command);
    if (slice_equal(command->bytes, slice_text("inc"))) {
        counter_put(replica, ++value);
    } else if (slice_equal(command->bytes, slice_text("dec"))) {
        counter_put(replica, --value);
    }
    buf_printf(result, "%lld", (long long)value);
    return ST_OK;
}

static void counter_ranges(void *service, uint64_t **ranges, size_t *n, size_t *capacity)
{
    (void)service;
    (void)ranges;
    (void)n;
    (void)capacity;
}

static enum status counter_restore(void *service)
{
    struct bench_replica *replica = service;
    int64_t value;

    replica->restores++;
    replica->has_unsaved = false;
    replica->last_applied = 0;
    replica->last_stamp = 0;
    return counter_get(replica, &value);
}

static uint64_t counter_stamp_floor(void *service)
{
    return ((struct bench_replica *)service)->floor;
}

static void counter_role_changed(void *service, enum raft_role role, raft_term term, raft_id leader)
{
    struct bench_replica *replica = service;

    (void)term;
    (void)leader;
    replica->role_changes++;
    replica->was_leader = role == RAFT_LEADER;
}

static const struct rsm_service_ops counter_ops = {
    .apply = counter_apply,
    .ranges = counter_ranges,
    .restore = counter_restore,
    .stamp_floor = counter_stamp_floor,
    .role_changed = counter_role_changed,
    .save = counter_save,
    .save_part = counter_save_part,
};

/* ---- The network ---- */

static void net_peer_send(struct io_net *net, group_id group, raft_id to, enum io_class class,
                          struct buf *message)
{
    struct bench_replica *replica = (struct bench_replica *)net;
    struct bench *bench = replica->bench;
    struct packet *packet = mem_zalloc(sizeof(*packet));

    ASSERT(group == bench->options.group && to >= 1 && to <= bench->n && class <= IO_BULK);
    ASSERT(!replica->halted);
    replica->sent++;
    *packet = (struct packet){.from = replica->id, .to = to, .due_ms = bench->now_ms + 1};
    packet->bytes = buf_take(message);
    *bench->packets_end = packet;
    bench->packets_end = &packet->next;
}

static void net_set_peers(struct io_net *net, group_id group, const struct io_peer *peers, size_t n,
                          bool open)
{
    struct bench_replica *replica = (struct bench_replica *)net;

    ASSERT(group == replica->bench->options.group && n <= BENCH_MAX_PEERS);
    replica->n_peers = n;
    replica->open = open;
    for (size_t i = 0; i < n; i++) {
        replica->peers[i] = peers[i].id;
    }
    replica->peers_set++;
}

static const struct io_net_ops net_ops = {.peer_send = net_peer_send, .set_peers = net_set_peers};

static bool passes(struct bench *bench, const struct packet *packet)
{
    const struct bench_replica *from = bench_replica(bench, packet->from);
    const struct bench_replica *to = bench_replica(bench, packet->to);

    return !from->cut && !to->cut && !to->deaf && to->group != NULL;
}

static void deliver_packets(struct bench *bench)
{
    while (bench->packets != NULL && bench->packets->due_ms <= bench->now_ms) {
        struct packet *packet = bench->packets;

        bench->packets = packet->next;
        if (bench->packets == NULL) {
            bench->packets_end = &bench->packets;
        }
        if (passes(bench, packet)) {
            struct io_event event = {.type = IO_EVENT_PEER_MESSAGE};
            event.peer.group = bench->options.group;
            event.peer.id = packet->from;
            event.peer.incarnation = bench_replica(bench, packet->from)->incarnation;
            event.peer.message = buf_slice(&packet->bytes);
            bench_event(bench, packet->to, &event);
        }
        buf_fini(&packet->bytes);
        mem_free(packet);
    }
}

static void tell_link(struct bench *bench, raft_id to, raft_id peer, enum io_event_type type)
{
    struct io_event event = {.type = type};

    event.peer.group = bench->options.group;
    event.peer.id = peer;
    event.peer.incarnation = bench_replica(bench, peer)->incarnation;
    bench_event(bench, to, &event);
}

static void tell_links(struct bench *bench, raft_id id, enum io_event_type type)
{
    for (raft_id other = 1; other <= bench->n; other++) {
        if (other != id && bench_replica(bench, other)->group != NULL) {
            tell_link(bench, other, id, type);
            if (type == IO_EVENT_PEER_UP) {
                tell_link(bench, id, other, type);
            }
        }
    }
}

/* ---- Replicas ---- */

static void make_replica(struct bench *bench, size_t i)
{
    struct bench_replica *replica = &bench->replicas[i];

    *replica = (struct bench_replica){
        .net = {&net_ops}, .bench = bench, .id = (raft_id)i + 1, .incarnation = 100 * (i + 1)};
    replica->log = mem_log_create();
    replica->state = mem_state_create(bench->options.group);
}

raft_id bench_add(struct bench *bench)
{
    ASSERT(bench->n < BENCH_MAX_REPLICAS);
    make_replica(bench, bench->n);
    bench->replicas[bench->n].joins = true;
    return (raft_id)++bench->n;
}

void bench_wipe(struct bench *bench, raft_id id)
{
    struct bench_replica *replica = bench_replica(bench, id);

    ASSERT(replica->group == NULL);
    mem_log_destroy(&replica->log);
    mem_state_destroy(&replica->state);
    replica->log = mem_log_create();
    replica->state = mem_state_create(bench_options(bench)->group);
    replica->incarnation++;
    replica->joins = true;
}

struct bench *bench_create(size_t n, uint64_t seed)
{
    struct bench *bench = mem_zalloc(sizeof(*bench));

    ASSERT(n >= 1 && n <= BENCH_MAX_REPLICAS);
    bench->n = n;
    bench->seed = seed;
    bench->now_ms = 1000;
    bench->packets_end = &bench->packets;
    group_options_default(&bench->options, 5, 1, seed);
    bench->options.check_invariants = true;
    for (size_t i = 0; i < n; i++) {
        struct raft_server *server = &bench->options.bootstrap.servers[i];

        make_replica(bench, i);
        server->id = (raft_id)i + 1;
        server->flags = RAFT_VOTER;
        snprintf(server->address, sizeof(server->address), "tcp://replica%zu:1", i + 1);
    }
    bench->options.bootstrap.n = n;
    return bench;
}

static void drop_packets(struct bench *bench)
{
    while (bench->packets != NULL) {
        struct packet *packet = bench->packets;
        bench->packets = packet->next;
        buf_fini(&packet->bytes);
        mem_free(packet);
    }
}

void bench_destroy(struct bench **bench)
{
    for (size_t i = 0; i < (*bench)->n; i++) {
        struct bench_replica *replica = &(*bench)->replicas[i];
        group_destroy(&replica->group);
        mem_log_destroy(&replica->log);
        mem_state_destroy(&replica->state);
    }
    drop_packets(*bench);
    mem_free((*bench)->applied);
    mem_free(*bench);
    *bench = NULL;
}

struct group_options *bench_options(struct bench *bench)
{
    return &bench->options;
}

uint64_t bench_now_ms(const struct bench *bench)
{
    return bench->now_ms;
}

struct bench_replica *bench_replica(struct bench *bench, raft_id id)
{
    ASSERT(id >= 1 && id <= bench->n);
    return &bench->replicas[id - 1];
}

static void on_halt(void *context, enum status status, const char *reason)
{
    struct bench_replica *replica = context;

    ASSERT(!replica->halted && reason != NULL);
    replica->halted = true;
    replica->halt_status = status;
}

enum status bench_try_start(struct bench *bench, raft_id id)
{
    struct bench_replica *replica = bench_replica(bench, id);
    struct group_options options = bench->options;
    struct group_world world = {.net = &replica->net,
                                .log = mem_log_io(replica->log),
                                .state = mem_state_io(replica->state),
                                .halt = on_halt,
                                .halt_context = replica};
    struct io_log_content content;
    struct io_state_meta meta;
    enum status status;

    ASSERT(replica->group == NULL);
    replica->halted = false;
    replica->was_leader = false;
    options.raft.id = id;
    options.raft.incarnation = replica->incarnation;
    options.bootstrap.n = replica->joins ? 0 : options.bootstrap.n;
    options.raft.seed = bench->seed * 1000003 + id + bench->now_ms;
    mem_log_content(replica->log, options.group, &content);
    mem_state_meta(replica->state, &meta);
    status = group_create(&options, &world, &counter_ops, replica, &content, &meta, bench->now_ms,
                          &replica->group);
    buf_fini(&meta.extra);
    return status;
}

void bench_start(struct bench *bench, raft_id id)
{
    enum status status = bench_try_start(bench, id);

    ASSERT(status == ST_OK);
    tell_links(bench, id, IO_EVENT_PEER_UP);
}

void bench_start_all(struct bench *bench)
{
    for (raft_id id = 1; id <= bench->n; id++) {
        if (bench_replica(bench, id)->group == NULL) {
            bench_start(bench, id);
        }
    }
}

void bench_crash(struct bench *bench, raft_id id, size_t survivors)
{
    struct bench_replica *replica = bench_replica(bench, id);

    group_destroy(&replica->group);
    mem_log_crash(replica->log, survivors);
    mem_state_crash(replica->state);
    tell_links(bench, id, IO_EVENT_PEER_DOWN);
}

void bench_event(struct bench *bench, raft_id id, struct io_event *event)
{
    struct bench_replica *replica = bench_replica(bench, id);

    event->now_ms = bench->now_ms;
    event->wall_us = (uint64_t)((int64_t)(bench->now_ms * 1000 + 1000000000) + replica->skew_us);
    group_step(replica->group, event);
}

/* ---- Time ---- */

static void complete_io(struct bench *bench, struct bench_replica *replica)
{
    struct io_event event;

    while (!replica->hold_log && mem_log_sync(replica->log)) {
    }
    while (!replica->hold_state && mem_state_work(replica->state)) {
    }
    while (mem_log_take(replica->log, &event)) {
        bench_event(bench, replica->id, &event);
    }
    while (!replica->hold_state && mem_state_take(replica->state, &event)) {
        bench_event(bench, replica->id, &event);
    }
}

void bench_turn(struct bench *bench)
{
    bench->now_ms++;
    deliver_packets(bench);
    for (size_t i = 0; i < bench->n; i++) {
        struct bench_replica *replica = &bench->replicas[i];
        struct io_event event = {.type = IO_EVENT_TICK};

        if (replica->group == NULL) {
            continue;
        }
        complete_io(bench, replica);
        if (group_next_deadline_ms(replica->group) <= bench->now_ms) {
            bench_event(bench, replica->id, &event);
        }
        event.type = IO_EVENT_TURN_END;
        bench_event(bench, replica->id, &event);
    }
}

void bench_run(struct bench *bench, uint64_t ms)
{
    for (uint64_t i = 0; i < ms; i++) {
        bench_turn(bench);
    }
}

bool bench_run_until_ended(struct bench *bench, const struct bench_call *call, uint64_t max_ms)
{
    for (uint64_t i = 0; i < max_ms && call->ended == 0; i++) {
        bench_turn(bench);
    }
    return call->ended == 1;
}

raft_id bench_leader(struct bench *bench)
{
    for (int i = 0; i < MAX_WAIT_MS; i++) {
        for (raft_id id = 1; id <= bench->n; id++) {
            const struct bench_replica *replica = bench_replica(bench, id);
            if (replica->group != NULL && !replica->cut && !replica->deaf &&
                group_is_ready(replica->group)) {
                return id;
            }
        }
        bench_turn(bench);
    }
    UNREACHABLE("no leader in time");
}

raft_id bench_other(struct bench *bench, raft_id id)
{
    for (raft_id other = 1; other <= bench->n; other++) {
        if (other != id && bench_replica(bench, other)->group != NULL) {
            return other;
        }
    }
    UNREACHABLE("nobody else is up");
}

/* ---- Looking ---- */

int64_t bench_counter(struct bench *bench, raft_id id)
{
    int64_t value;
    enum status status = counter_get(bench_replica(bench, id), &value);

    ASSERT(status == ST_OK);
    return value;
}

void bench_forget_history(struct bench *bench)
{
    if (bench->applied_capacity > 0) {
        memset(bench->applied, 0, bench->applied_capacity * sizeof(*bench->applied));
    }
}

static bool is_member(const struct bench_replica *replica)
{
    return replica->group != NULL && !replica->cut && !replica->halted;
}

static bool have_converged(struct bench *bench, raft_id leader)
{
    const struct group *reference = bench_replica(bench, leader)->group;
    raft_index last = raft_last_index(group_raft(reference));

    for (raft_id id = 1; id <= bench->n; id++) {
        const struct bench_replica *replica = bench_replica(bench, id);
        if (is_member(replica) && bench_flags(bench, leader, id) != 0 &&
            (group_applied_index(replica->group) != last ||
             group_last_stamp(replica->group) != group_last_stamp(reference))) {
            return false;
        }
    }
    return true;
}

void bench_converge(struct bench *bench)
{
    raft_id leader = bench_leader(bench);
    uint64_t sum;

    for (int i = 0; i < MAX_WAIT_MS && !have_converged(bench, leader); i++) {
        bench_turn(bench);
        leader = bench_leader(bench);
    }
    ASSERT(have_converged(bench, leader));
    sum = mem_state_sum(bench_replica(bench, leader)->state, NULL, 0);
    for (raft_id id = 1; id <= bench->n; id++) {
        ASSERT(!is_member(bench_replica(bench, id)) || bench_flags(bench, leader, id) == 0 ||
               mem_state_sum(bench_replica(bench, id)->state, NULL, 0) == sum);
    }
}
