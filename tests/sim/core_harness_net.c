/* The messages on their way: delivered, lost, repeated and cut off by hand. */
#include "tests/sim/core_harness_internal.h"

static void flying_remove(struct cores *cores, size_t at)
{
    cores->n_flying--;
    memmove(cores->flying + at, cores->flying + at + 1,
            (cores->n_flying - at) * sizeof(*cores->flying));
}

void cores_drop(struct cores *cores, size_t at)
{
    buf_fini(&cores->flying[at].bytes);
    flying_remove(cores, at);
}

void cores_deliver(struct cores *cores, size_t at, bool keep_copy)
{
    struct flying flying = cores->flying[at];
    struct raft_event event = {.type = RAFT_EVENT_MESSAGE};
    struct raft_message message;
    bool passes = cores_node(cores, flying.to)->raft != NULL &&
                  (cores_node(cores, flying.from)->link_up >> flying.to) & 1;

    ASSERT(at < cores->n_flying);
    if (passes) {
        assert_true(wire_decode_message(buf_slice(&flying.bytes), &message));
    }
    if (!keep_copy) {
        cores_drop(cores, at);
    }
    if (passes) {
        event.message = &message;
        event.incarnation = flying.incarnation;
        cores_step(cores, flying.to, &event);
        raft_message_fini(&message);
    }
}

void cores_deliver_any(struct cores *cores, struct rng *rng, bool in_order, unsigned lose,
                       unsigned repeat)
{
    size_t at;

    if (cores->n_flying == 0) {
        return;
    }
    at = in_order ? 0 : rng_below(rng, cores->n_flying < 12 ? cores->n_flying : 12);
    if (rng_below(rng, 100) < lose) {
        cores_drop(cores, at);
    } else {
        cores_deliver(cores, at, rng_below(rng, 100) < repeat);
    }
    while (cores->n_flying > 300) {
        cores_drop(cores, rng_below(rng, cores->n_flying));
    }
}

size_t cores_find(const struct cores *cores, enum raft_message_type type, raft_id from, raft_id to)
{
    for (size_t i = 0; i < cores->n_flying; i++) {
        const struct flying *flying = &cores->flying[i];

        if ((type == 0 || flying->type == type) && (from == 0 || flying->from == from) &&
            (to == 0 || flying->to == to)) {
            return i;
        }
    }
    return SIZE_MAX;
}

void cores_deliver_one(struct cores *cores, enum raft_message_type type, raft_id from, raft_id to)
{
    size_t at = cores_find(cores, type, from, to);

    assert_true(at != SIZE_MAX);
    cores_deliver(cores, at, false);
}

size_t cores_count(const struct cores *cores, enum raft_message_type type, raft_id from, raft_id to)
{
    size_t n = 0;

    for (size_t i = 0; i < cores->n_flying; i++) {
        const struct flying *flying = &cores->flying[i];

        n += (type == 0 || flying->type == type) && (from == 0 || flying->from == from) &&
             (to == 0 || flying->to == to);
    }
    return n;
}

struct raft_message cores_peek(const struct cores *cores, size_t at)
{
    struct raft_message message;

    ASSERT(at < cores->n_flying);
    assert_true(wire_decode_message(buf_slice(&cores->flying[at].bytes), &message));
    return message;
}

void cores_drop_all(struct cores *cores)
{
    while (cores->n_flying > 0) {
        cores_drop(cores, 0);
    }
}

void cores_inject(struct cores *cores, const struct raft_message *message)
{
    cores_send(cores, cores_encode(message));
}

void cores_cut(struct cores *cores, raft_id from, raft_id to)
{
    cores_node(cores, from)->link_up &= ~(1ull << to);
}

void cores_isolate(struct cores *cores, raft_id id)
{
    for (raft_id other = 1; other <= cores->n; other++) {
        cores_cut(cores, id, other);
        cores_cut(cores, other, id);
    }
}

void cores_heal(struct cores *cores)
{
    for (raft_id id = 1; id <= cores->n; id++) {
        cores->nodes[id].link_up = UINT64_MAX;
    }
}
