/* Sending snapshots: the core asks for chunks, the state reads them in the background, the core
 * puts them into messages. One snapshot is held open for each follower that is receiving, so that
 * all its chunks are of one state; it is closed when the core says that the follower is done, or
 * this replica no longer leads. */
#include "raft/rsm/group.h"
#include "raft/util/crc32c.h"

void rsm_senders_init(struct group *group)
{
    TAILQ_INIT(&group->senders.open);
    TAILQ_INIT(&group->senders.reads);
}

static struct rsm_sender *find_sender(struct rsm_senders *senders, raft_id to)
{
    struct rsm_sender *sender = TAILQ_FIRST(&senders->open);

    while (sender != NULL && sender->to != to) {
        sender = TAILQ_NEXT(sender, next);
    }
    return sender;
}

/* The core waits for one chunk a follower at a time: an older read is for a transfer given up. */
static void forget_reads(struct rsm_senders *senders, raft_id to)
{
    struct rsm_chunk_read *read = TAILQ_FIRST(&senders->reads);

    while (read != NULL) {
        struct rsm_chunk_read *next = TAILQ_NEXT(read, next);
        if (read->to == to) {
            TAILQ_REMOVE(&senders->reads, read, next);
            mem_free(read);
        }
        read = next;
    }
}

/* Closes the snapshot; chunks of it that are being read will be nobody's. */
static void close_sender(struct group *group, struct rsm_sender *sender)
{
    forget_reads(&group->senders, sender->to);
    group->world.state->ops->snapshot_close(group->world.state, sender->snapshot);
    TAILQ_REMOVE(&group->senders.open, sender, next);
    mem_free(sender);
}

void rsm_senders_fini(struct group *group)
{
    while (!TAILQ_EMPTY(&group->senders.open)) {
        close_sender(group, TAILQ_FIRST(&group->senders.open));
    }
    ASSERT(TAILQ_EMPTY(&group->senders.reads));
}

static struct rsm_sender *open_sender(struct group *group, raft_id to)
{
    struct io_snapshot opened = {0};
    struct rsm_extra extra;
    struct rsm_sender *sender;

    group->world.state->ops->snapshot_open(group->world.state, &opened);
    if (opened.index == 0) {
        return NULL;
    }
    if (rsm_extra_decode(opened.extra, &extra) != ST_OK) {
        group->world.state->ops->snapshot_close(group->world.state, opened.id);
        rsm_halt(group, ST_CORRUPT, "a checkpoint's extra bytes are damaged");
        return NULL;
    }
    sender = mem_zalloc(sizeof(*sender));
    sender->to = to;
    sender->snapshot = opened.id;
    ASSERT(opened.index <= raft_commit_index(group->raft));
    sender->meta = (struct raft_snapshot_meta){opened.index, opened.term, extra.configuration};
    TAILQ_INSERT_TAIL(&group->senders.open, sender, next);
    group->stats.snapshots_sent++;
    return sender;
}

/* The snapshot to read from for a request: the newest if it names none, else the one it names.
 * NULL: there is none yet, or it was closed meanwhile. */
static struct rsm_sender *sender_for(struct group *group, const struct raft_chunk_request *request)
{
    struct rsm_sender *sender = find_sender(&group->senders, request->to);

    if (request->snapshot_index != 0) {
        return sender != NULL && sender->meta.index == request->snapshot_index ? sender : NULL;
    }
    if (sender != NULL) {
        close_sender(group, sender);
    }
    ASSERT(find_sender(&group->senders, request->to) == NULL);
    sender = open_sender(group, request->to);
    if (sender == NULL) {
        group->checkpoint.wanted = true;
    }
    return sender;
}

static void read_chunk(struct group *group, const struct rsm_sender *sender, uint64_t offset)
{
    struct rsm_chunk_read *read = mem_zalloc(sizeof(*read));

    ASSERT(find_sender(&group->senders, sender->to) == sender);

    read->token = ++group->senders.last_token;
    read->to = sender->to;
    TAILQ_INSERT_TAIL(&group->senders.reads, read, next);
    group->world.state->ops->snapshot_read(group->world.state, sender->snapshot, offset,
                                           group->options.snapshot_chunk_bytes, read->token);
}

void rsm_senders_update(struct group *group, const struct raft_update *update)
{
    struct rsm_senders *senders = &group->senders;

    for (size_t i = 0; i < update->n_chunk_requests && !group->halted; i++) {
        const struct raft_chunk_request *request = &update->chunk_requests[i];
        const struct rsm_sender *sender;

        forget_reads(senders, request->to);
        sender = sender_for(group, request);
        if (sender != NULL) {
            read_chunk(group, sender, request->offset);
        } else if (senders->n_refused < RAFT_MAX_SERVERS) {
            senders->refused[senders->n_refused++] = request->to;
        }
    }
}

static void answer_failed(struct group *group, raft_id to, enum status status)
{
    struct raft_event event = {.type = RAFT_EVENT_CHUNK_READ};

    ASSERT(status != ST_OK);
    event.chunk_read.to = to;
    event.chunk_read.status = status;
    rsm_step_raft(group, &event);
}

static void answer_chunk(struct group *group, const struct rsm_sender *sender,
                         const struct io_event *event)
{
    struct raft_event out = {.type = RAFT_EVENT_CHUNK_READ};

    out.chunk_read.to = sender->to;
    out.chunk_read.status = ST_OK;
    out.chunk_read.chunk = (struct raft_install_snapshot){
        .meta = sender->meta,
        .offset = event->snapshot.offset,
        .done = event->snapshot.done,
        .checksum = crc32c(0, event->snapshot.data.data, event->snapshot.data.len),
        .data = blob_create(event->snapshot.data),
    };
    group->stats.snapshot_bytes_sent += event->snapshot.data.len;
    rsm_step_raft(group, &out);
}

void rsm_senders_chunk(struct group *group, const struct io_event *event)
{
    struct rsm_senders *senders = &group->senders;
    struct rsm_chunk_read *read = TAILQ_FIRST(&senders->reads);
    struct rsm_sender *sender;
    enum status status = event->snapshot.status;
    raft_id to;

    while (read != NULL && read->token != event->snapshot.token) {
        read = TAILQ_NEXT(read, next);
    }
    if (read == NULL) {
        return; /* its snapshot was closed meanwhile */
    }
    to = read->to;
    TAILQ_REMOVE(&senders->reads, read, next);
    mem_free(read);
    sender = find_sender(senders, to);
    ASSERT(sender != NULL && sender->snapshot == event->snapshot.id);
    if (status == ST_CORRUPT || status == ST_IO) {
        rsm_halt(group, status, "the state could not be read for a snapshot");
    } else if (status != ST_OK) {
        answer_failed(group, to, status);
    } else {
        answer_chunk(group, sender, event);
    }
}

/* Whether the core still sends this follower a snapshot. */
static bool still_needed(const struct group *group, const struct rsm_sender *sender)
{
    struct raft_progress_info info;

    return raft_progress(group->raft, sender->to, &info) && info.state == RAFT_SNAPSHOT;
}

void rsm_senders_settle(struct group *group)
{
    struct rsm_senders *senders = &group->senders;
    struct rsm_sender *sender;

    while (senders->n_refused > 0 && !group->halted) {
        answer_failed(group, senders->refused[--senders->n_refused], ST_NOT_READY);
    }
    sender = TAILQ_FIRST(&senders->open);
    while (sender != NULL && !group->halted) {
        struct rsm_sender *next = TAILQ_NEXT(sender, next);
        if (!still_needed(group, sender)) {
            close_sender(group, sender);
        }
        sender = next;
    }
}
