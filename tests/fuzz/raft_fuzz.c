/* The Raft core as a sequence of events: messages that no honest peer sends, time, proposals,
 * reads, transfers, compaction, disks that are slow or fail, links that come and go.
 *
 * After each step raft_check looks at every invariant that shows from inside; what the update hands
 * out keeps the rules of raft.h: the commit index does not fall, what is to be persisted is in the
 * log, no message of a term that is not durable leaves early, reads end once. */
#include "tests/fuzz/raft_script.h"

#define READS 256

struct story {
    struct script script;
    struct raft *raft;
    uint64_t now_ms;
    raft_index commit_index;
    raft_term term, durable_term;
    uint64_t seq, durable_seq; /* handed out to persist; reported durable */
    uint64_t next_read;
    bool open_reads[READS];
    /* What the core waits for. */
    bool chunk_open, install_open;
    struct raft_snapshot_meta chunk_meta;
    uint64_t chunk_end;
    struct raft_chunk_request requests[16];
    size_t n_requests;
};

static void step(struct story *story, struct raft_event *event);

static void check_messages(const struct story *story, const struct raft_message *messages, size_t n,
                           bool promises)
{
    for (size_t i = 0; i < n; i++) {
        struct buf bytes = {0};
        struct raft_message again;

        ASSERT(messages[i].from == 1 && messages[i].to != 1);
        /* A vote or a candidacy is a promise: it waits for the disk (paper 5.1, 5.2). */
        if (!promises && messages[i].type == RAFT_MESSAGE_VOTE_REPLY &&
            messages[i].vote_reply.granted && !messages[i].vote_reply.pre_vote) {
            ASSERT(messages[i].term <= story->durable_term);
        }
        wire_encode_message(&messages[i], &bytes);
        ASSERT(wire_decode_message(buf_slice(&bytes), &again));
        raft_message_fini(&again);
        buf_fini(&bytes);
    }
}

static void check_update(struct story *story, const struct raft_update *update)
{
    ASSERT(update->commit_index >= story->commit_index);
    ASSERT(raft_current_term(story->raft) >= story->term);
    story->commit_index = update->commit_index;
    story->term = raft_current_term(story->raft);
    if (update->persist_seq != 0) {
        ASSERT(update->persist_seq > story->seq);
        story->seq = update->persist_seq;
    }
    for (size_t i = 0; i < update->n_entries; i++) {
        const struct raft_entry *entry = raft_entry_at(story->raft, update->entries[i].index);

        ASSERT(entry != NULL && entry->term == update->entries[i].term);
    }
    check_messages(story, update->messages, update->n_messages, false);
    check_messages(story, update->messages_after_persist, update->n_messages_after_persist, true);
    for (size_t i = 0; i < update->n_reads; i++) {
        ASSERT(story->open_reads[update->reads[i].id % READS]);
        ASSERT(update->reads[i].status != ST_OK ||
               update->reads[i].index <= raft_commit_index(story->raft));
        story->open_reads[update->reads[i].id % READS] = false;
    }
}

static void note_work(struct story *story, const struct raft_update *update)
{
    for (size_t i = 0; i < update->n_chunk_requests && story->n_requests < 16; i++) {
        story->requests[story->n_requests++] = update->chunk_requests[i];
    }
    if (update->chunk_to_store != NULL) {
        const struct raft_install_snapshot *chunk = update->chunk_to_store;

        story->chunk_open = true;
        story->install_open = chunk->done;
        story->chunk_meta = chunk->meta;
        story->chunk_end = chunk->offset + blob_slice(chunk->data).len;
    }
}

static void step(struct story *story, struct raft_event *event)
{
    struct raft_update update;

    event->now_ms = story->now_ms;
    raft_step(story->raft, event, &update);
    raft_check(story->raft);
    check_update(story, &update);
    note_work(story, &update);
    if (event->type == RAFT_EVENT_READ && update.status == ST_OK) {
        story->open_reads[event->read.id % READS] = true;
    }
    ASSERT(raft_next_deadline_ms(story->raft) > 0);
}

/* ---- What happens ---- */

static void message_comes(struct story *story)
{
    struct raft_message message = script_message(&story->script, story->raft);
    struct raft_event event = {.type = RAFT_EVENT_MESSAGE};

    event.message = &message;
    step(story, &event);
    raft_message_fini(&message);
}

static void bytes_come(struct story *story)
{
    struct raft_message message;
    struct raft_event event = {.type = RAFT_EVENT_MESSAGE};

    event.message = &message;
    if (wire_decode_message(fuzz_short(&story->script), &message)) {
        step(story, &event);
        raft_message_fini(&message);
    }
}

static void time_passes(struct story *story, uint64_t ms)
{
    struct raft_event event = {.type = RAFT_EVENT_TICK};

    story->now_ms += ms;
    step(story, &event);
}

static void propose(struct story *story)
{
    struct blob *commands[3];
    struct raft_event event = {.type = RAFT_EVENT_PROPOSE};
    size_t n = 1 + fuzz_below(&story->script, 3);
    bool leads = raft_role(story->raft) == RAFT_LEADER;
    raft_index last = raft_last_index(story->raft);

    for (size_t i = 0; i < n; i++) {
        commands[i] = script_command(&story->script);
    }
    event.propose.commands = commands;
    event.propose.n = n;
    step(story, &event);
    /* A reference of each is taken on success only. */
    if (!leads || raft_last_index(story->raft) != last + n) {
        for (size_t i = 0; i < n; i++) {
            blob_unref(&commands[i]);
        }
    }
}

static void disk_ends(struct story *story)
{
    struct raft_event event = {.type = RAFT_EVENT_PERSISTED};

    if (story->durable_seq < story->seq) {
        story->durable_seq = fuzz_u8(&story->script) < 200 ? story->seq : story->durable_seq + 1;
        event.persisted.seq = story->durable_seq;
        if (story->durable_seq == story->seq) {
            story->durable_term = story->term;
        }
        step(story, &event);
    }
}

static void chunk_ends(struct story *story)
{
    enum status status = fuzz_u8(&story->script) < 200 ? ST_OK : ST_IO;
    struct raft_event event = {.type = RAFT_EVENT_CHUNK_STORED};

    if (!story->chunk_open) {
        return;
    }
    story->chunk_open = false;
    if (story->install_open) {
        story->install_open = false;
        event.type = RAFT_EVENT_SNAPSHOT_INSTALLED;
        event.installed.meta = story->chunk_meta;
        event.installed.status = status;
    } else {
        event.chunk_stored.index = story->chunk_meta.index;
        event.chunk_stored.offset = status == ST_OK ? story->chunk_end : 0;
        event.chunk_stored.status = status;
    }
    step(story, &event);
}

static void chunk_is_read(struct story *story)
{
    struct raft_event event = {.type = RAFT_EVENT_CHUNK_READ};
    struct raft_chunk_request request;
    uint8_t dice = fuzz_u8(&story->script);
    struct slice data = slice_text("some bytes of the stream");

    if (story->n_requests == 0) {
        return;
    }
    request = story->requests[--story->n_requests];
    event.chunk_read.to = request.to;
    event.chunk_read.status = dice < 200 ? ST_OK : ST_NOT_FOUND;
    if (dice < 200) {
        raft_index index =
            request.snapshot_index != 0 ? request.snapshot_index : raft_commit_index(story->raft);

        if (index == 0 || raft_term_at(story->raft, index) == 0) {
            event.chunk_read.status = ST_NOT_FOUND;
        } else {
            event.chunk_read.chunk.meta.index = index;
            event.chunk_read.chunk.meta.term = raft_term_at(story->raft, index);
            event.chunk_read.chunk.meta.configuration = *raft_latest_configuration(story->raft);
            event.chunk_read.chunk.offset = request.offset;
            event.chunk_read.chunk.done = dice % 2;
            event.chunk_read.chunk.data = blob_create(data);
            event.chunk_read.chunk.checksum = crc32c(0, data.data, data.len);
        }
    }
    step(story, &event);
}

static void compact(struct story *story)
{
    struct raft_snapshot_meta meta = {.index = raft_commit_index(story->raft)};
    struct raft_event event = {.type = RAFT_EVENT_COMPACT};
    uint8_t back = fuzz_u8(&story->script) % 4;

    if (story->install_open || meta.index <= back) {
        return;
    }
    meta.index -= back;
    if (meta.index < raft_first_index(story->raft) ||
        meta.index >= raft_compaction_bound(story->raft)) {
        return;
    }
    meta.term = raft_term_at(story->raft, meta.index);
    raft_configuration_at(story->raft, meta.index, &meta.configuration);
    event.compact = &meta;
    step(story, &event);
}

static void ask(struct story *story, enum raft_event_type type)
{
    struct raft_event event = {.type = type};

    if (type == RAFT_EVENT_READ) {
        if (story->open_reads[story->next_read % READS]) {
            return;
        }
        event.read.id = story->next_read++;
    } else if (type == RAFT_EVENT_TRANSFER) {
        event.transfer.to = fuzz_u8(&story->script) % 5;
    } else {
        event.peer = 2 + fuzz_u8(&story->script) % 3;
    }
    step(story, &event);
}

static void happen(struct story *story)
{
    uint8_t what = fuzz_u8(&story->script);

    if (what < 120) {
        message_comes(story);
    } else if (what < 150) {
        time_passes(story, what % 2 == 0 ? fuzz_u8(&story->script) : 601);
    } else if (what < 180) {
        disk_ends(story);
    } else if (what < 195) {
        propose(story);
    } else if (what < 205) {
        chunk_ends(story);
    } else if (what < 215) {
        chunk_is_read(story);
    } else if (what < 225) {
        compact(story);
    } else if (what < 235) {
        ask(story, RAFT_EVENT_READ);
    } else if (what < 240) {
        ask(story, RAFT_EVENT_TRANSFER);
    } else if (what < 250) {
        ask(story, RAFT_EVENT_PEER_UP + what % 3);
    } else {
        bytes_come(story);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct story *story = mem_zalloc(sizeof(*story));
    struct raft_options options;
    struct raft_start start = {0};
    struct raft_update update;

    story->script = script_of(data, size);
    story->now_ms = 1;
    raft_options_default(&options, 1, size);
    options.max_inflight_messages = 3;
    options.max_message_bytes = 100;
    options.max_uncommitted_bytes = 400;
    for (raft_id id = 1; id <= 3; id++) {
        start.snapshot.configuration.servers[start.snapshot.configuration.n++] =
            (struct raft_server){.id = id, .flags = RAFT_VOTER};
    }
    story->raft = raft_create(&options, &start, story->now_ms);
    raft_begin(story->raft, &update);
    check_update(story, &update);
    while (!script_is_over(&story->script)) {
        happen(story);
    }
    raft_destroy(&story->raft);
    mem_free(story);
    return 0;
}
