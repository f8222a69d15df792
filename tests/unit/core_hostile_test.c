/* Messages that no honest peer sends. Whatever arrives, a replica keeps its invariants and never
 * dies of it: fields are random but near what would fit, from members and strangers, to all roles.
 * The group's safety is not the question here (a peer that lies can break that), only that no
 * message brings a replica down. */
#include "raft/util/crc32c.h"
#include "tests/sim/core_harness.h"

static raft_index near_index(struct rng *rng, struct raft *raft)
{
    switch (rng_below(rng, 6)) {
    case 0:
        return rng_below(rng, 4);
    case 1:
        return raft_last_index(raft) + rng_below(rng, 3);
    case 2:
        return raft_commit_index(raft) + rng_below(rng, 3);
    case 3:
        return rng_next(rng);
    case 4:
        return UINT64_MAX - rng_below(rng, 3);
    default:
        return raft_first_index(raft) + rng_below(rng, 3) - 1;
    }
}

static raft_term near_term(struct rng *rng, struct raft *raft)
{
    uint64_t dice = rng_below(rng, 200);

    if (dice == 0) {
        return rng_next(rng);
    }
    if (dice == 1) {
        return UINT64_MAX;
    }
    return raft_current_term(raft) + (dice < 20) - (dice > 150);
}

static void fill_append(struct rng *rng, struct raft *raft, struct raft_message *message)
{
    struct raft_append *append = &message->append;

    append->prev_log_index = near_index(rng, raft);
    append->prev_log_term =
        rng_below(rng, 4) == 0 ? near_term(rng, raft) : raft_term_at(raft, append->prev_log_index);
    append->commit_index = near_index(rng, raft);
    append->read_round = rng_below(rng, 5);
    append->n_entries = rng_below(rng, 4);
    append->entries = mem_zalloc(4 * sizeof(*append->entries));
    for (size_t i = 0; i < append->n_entries; i++) {
        struct raft_entry *entry = &append->entries[i];

        entry->index = append->prev_log_index + 1 + i + (rng_below(rng, 50) == 0);
        entry->term = rng_below(rng, 4) == 0 ? near_term(rng, raft) : raft_current_term(raft);
        entry->type = rng_below(rng, 5);
        if (entry->type == RAFT_ENTRY_CONFIGURATION) {
            struct buf bytes = {0};

            raft_configuration_encode(raft_latest_configuration(raft), &bytes);
            bytes.data[rng_below(rng, bytes.len)] ^= rng_below(rng, 3) == 0;
            entry->data = blob_create(buf_slice(&bytes));
            buf_fini(&bytes);
        } else if (entry->type != RAFT_ENTRY_NOOP || rng_below(rng, 10) == 0) {
            entry->data = blob_create(slice_text("data"));
        }
    }
}

static void fill_chunk(struct rng *rng, struct raft *raft, struct raft_install_snapshot *chunk)
{
    chunk->meta.index = near_index(rng, raft);
    chunk->meta.term = near_term(rng, raft);
    chunk->meta.configuration = *raft_latest_configuration(raft);
    chunk->offset = rng_below(rng, 3) == 0 ? rng_next(rng) : 4 * rng_below(rng, 4);
    chunk->done = rng_below(rng, 10) == 0;
    chunk->data = blob_create(slice_text("data"));
    chunk->checksum = rng_below(rng, 10) == 0 ? 0 : crc32c(0, "data", 4);
}

static struct raft_message random_message(struct rng *rng, struct raft *raft)
{
    struct raft_message message = {.to = 1};

    message.type = (enum raft_message_type)rng_between(rng, 1, 9);
    message.from = (raft_id)(rng_below(rng, 20) == 0 ? rng_next(rng) : rng_between(rng, 1, 4));
    message.term = near_term(rng, raft);
    switch (message.type) {
    case RAFT_MESSAGE_REQUEST_VOTE:
        message.request_vote = (struct raft_request_vote){
            near_index(rng, raft), near_term(rng, raft), rng_below(rng, 2), rng_below(rng, 2)};
        break;
    case RAFT_MESSAGE_VOTE_REPLY:
        message.vote_reply = (struct raft_vote_reply){rng_below(rng, 4) > 0, rng_below(rng, 2)};
        message.term += message.vote_reply.pre_vote;
        break;
    case RAFT_MESSAGE_APPEND:
        fill_append(rng, raft, &message);
        break;
    case RAFT_MESSAGE_APPEND_REPLY:
        message.append_reply = (struct raft_append_reply){
            rng_below(rng, 2),     near_index(rng, raft), near_index(rng, raft),
            near_index(rng, raft), near_term(rng, raft),  rng_below(rng, 9)};
        break;
    case RAFT_MESSAGE_HEARTBEAT:
        message.heartbeat = (struct raft_heartbeat){near_index(rng, raft), rng_below(rng, 5)};
        break;
    case RAFT_MESSAGE_HEARTBEAT_REPLY:
        message.heartbeat_reply.read_round = rng_next(rng) >> rng_below(rng, 64);
        break;
    case RAFT_MESSAGE_INSTALL_SNAPSHOT:
        fill_chunk(rng, raft, &message.install_snapshot);
        break;
    case RAFT_MESSAGE_INSTALL_SNAPSHOT_REPLY:
        message.install_snapshot_reply = (struct raft_install_snapshot_reply){
            near_index(rng, raft), rng_next(rng) >> rng_below(rng, 64), rng_below(rng, 2)};
        break;
    case RAFT_MESSAGE_TIMEOUT_NOW:
        break;
    }
    return message;
}

/* What a driver does with an update: everything is durable at once, a full snapshot is installed.
 */
static void serve(struct raft *raft, struct rng *rng, struct raft_event *event,
                  struct raft_update *update)
{
    raft_step(raft, event, update);
    raft_check(raft);
    for (int i = 0; i < 4; i++) {
        struct raft_event next = {.type = RAFT_EVENT_PERSISTED, .now_ms = event->now_ms};

        if (update->chunk_to_store != NULL && update->chunk_to_store->done) {
            next.type = RAFT_EVENT_SNAPSHOT_INSTALLED;
            next.installed.meta = update->chunk_to_store->meta;
            next.installed.status = rng_below(rng, 2) == 0 ? ST_OK : ST_IO;
        } else if (update->chunk_to_store != NULL) {
            next.type = RAFT_EVENT_CHUNK_STORED;
            next.chunk_stored.index = update->chunk_to_store->meta.index;
            next.chunk_stored.offset = update->chunk_to_store->offset + 4 * rng_below(rng, 2);
        } else if (update->n_chunk_requests > 0) {
            next.type = RAFT_EVENT_CHUNK_READ;
            next.chunk_read.to = update->chunk_requests[0].to;
            next.chunk_read.status = ST_NOT_FOUND;
        } else if (update->persist_seq != 0) {
            next.persisted.seq = update->persist_seq;
        } else {
            return;
        }
        raft_step(raft, &next, update);
        raft_check(raft);
    }
}

/* How often the core got into the roles and states that matter. */
struct reached {
    size_t led, snapshots, committed;
};

static void one_life(uint64_t seed, struct reached *reached)
{
    struct raft_options options;
    struct raft_start start = {0};
    struct raft_update update;
    struct raft *raft;
    struct rng rng;
    uint64_t now = 1;

    rng_init(&rng, seed);
    raft_options_default(&options, 1, seed);
    for (raft_id id = 1; id <= 3; id++) {
        start.snapshot.configuration.servers[start.snapshot.configuration.n++] =
            (struct raft_server){.id = id, .flags = RAFT_VOTER};
    }
    raft = raft_create(&options, &start, now);
    raft_begin(raft, &update);
    for (int i = 0; i < 400; i++) {
        struct raft_event event = {.type = RAFT_EVENT_MESSAGE, .now_ms = now};
        struct raft_message message = random_message(&rng, raft);
        struct blob *command = NULL;
        bool leads;

        event.message = &message;
        if (rng_below(&rng, 10) == 0) {
            now += rng_below(&rng, 400);
            event = (struct raft_event){.type = RAFT_EVENT_TICK, .now_ms = now};
        } else if (rng_below(&rng, 20) == 0) {
            command = blob_create(slice_text("command"));
            event = (struct raft_event){.type = RAFT_EVENT_PROPOSE, .now_ms = now};
            event.propose.commands = &command;
            event.propose.n = 1;
        } else if (rng_below(&rng, 30) == 0) {
            event = (struct raft_event){.type = RAFT_EVENT_READ, .now_ms = now};
        }
        reached->led += raft_role(raft) == RAFT_LEADER;
        leads = raft_role(raft) == RAFT_LEADER; /* then it takes the command over */
        serve(raft, &rng, &event, &update);
        if (!leads) {
            blob_unref(&command);
        }
        raft_message_fini(&message);
    }
    reached->snapshots += raft_first_index(raft) > 1;
    reached->committed += raft_commit_index(raft) > 0;
    raft_destroy(&raft);
}

static void no_message_brings_a_replica_down(void **state)
{
    struct reached reached = {0};

    (void)state;
    for (uint64_t seed = 1; seed <= 1500; seed++) {
        one_life(seed, &reached);
    }
    print_message("led %zu steps, %zu installed a snapshot, %zu committed\n", reached.led,
                  reached.snapshots, reached.committed);
    assert_true(reached.led > 1000 && reached.snapshots > 20 && reached.committed > 500);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(no_message_brings_a_replica_down)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
