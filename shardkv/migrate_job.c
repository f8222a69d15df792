/* migrate_job: one shard on its way. A job lives in a fixed slot, so callbacks may point to it, and
 * its slot is free again only when no call and no proposal of it is left. */
#include "raft/util/assert.h"
#include "raft/util/mem.h"
#include "shardkv/kv_piece.h"
#include "shardkv/migrate_internal.h"

#define PULL_TIMEOUT_MS       2000 /* without a piece for so long, the slot is given back */
#define MAX_TIMEOUT_DOUBLINGS 5
#define MAX_PROPOSALS         2    /* pieces proposed and not applied: one ahead */
#define RATE_WINDOW_MS        2000 /* over which the rate is measured */

bool job_is_current(const struct job *job)
{
    const struct shard *shard = kv_sm_shard(job->migrate->context->sm, job->shard);
    const struct shard_transition *head = shard != NULL ? shard_head(shard) : NULL;

    return head != NULL && head->kind == SHARD_RECEIVE && head->num == job->num;
}

static void job_free(struct job *job)
{
    struct migrate *migrate = job->migrate;

    ASSERT(job->in_use && job->n_proposals == 0 && !job->is_pulling);
    buf_fini(&job->cursor);
    *job = (struct job){.migrate = migrate};
    migrate->slot_was_freed = true;
}

static void job_fail(struct job *job)
{
    if (!job->failed) {
        job->failed = true;
        backoff_fail(&migrate_attempt(job)->backoff, job->migrate->context->now_ms);
    }
}

void job_begin(struct job *job, shard_id id, uint32_t source)
{
    struct kv_context *context = job->migrate->context;
    const struct shard *shard = kv_sm_shard(context->sm, id);
    struct attempt *attempt = &job->migrate->attempts[id];

    ASSERT(!job->in_use);
    job->in_use = true;
    job->shard = id;
    job->num = shard_head(shard)->num;
    job->gid = source;
    job->is_frozen = attempt->may_be_frozen;
    job->window_ms = context->now_ms;
    if (shard->copy.copy_id != 0 && !attempt->anew) {
        job->copy_id = shard->copy.copy_id;
        job->piece = shard->copy.next_piece;
        buf_put_slice(&job->cursor, buf_slice(&shard->copy.cursor));
    } else {
        job->copy_id = rng_next(&context->rng) | 1; /* 0 means none */
    }
    attempt->anew = false;
}

static void note_done(struct job *job)
{
    struct migrate *migrate = job->migrate;
    uint64_t now_ms = migrate->context->now_ms;

    job->done.shard = job->shard;
    job->done.num = job->num;
    job->done.from = job->gid;
    job->done.pause_ms += (uint32_t)(now_ms - job->ended_ms);
    job->done.done_ms = now_ms;
    migrate->done[migrate->n_done++ % MIGRATE_MAX_DONE] = job->done;
    migrate->stats.installed++;
    histogram_add(&migrate->stats.pause_us, job->done.pause_ms * 1000ull);
    trace_info(migrate->context->trace,
               "shard taken over shard=%u num=%llu from=%u keys=%llu bytes=%llu pause_ms=%u",
               job->shard, (unsigned long long)job->num, job->gid,
               (unsigned long long)job->done.keys, (unsigned long long)job->done.bytes,
               job->done.pause_ms);
}

static void on_applied(void *context, enum status status, struct slice result)
{
    struct job *job = context;
    struct migrate *migrate = job->migrate;

    ASSERT(job->in_use && job->n_proposals > 0);
    job->n_proposals--;
    strain_note_copy(&migrate->context->strain);
    trace_debug(migrate->context->trace,
                "piece of a shard applied shard=%u piece=%llu bytes=%llu answer_us=%llu "
                "commit_us=%llu strain=%u rate=%llu",
                job->shard, (unsigned long long)job->piece, (unsigned long long)job->piece_bytes,
                (unsigned long long)job->answer_us,
                (unsigned long long)(group_now_us(migrate->context->group) - job->answered_us),
                strain_percent(&migrate->context->strain),
                (unsigned long long)migrate->pace.yielding_per_s);
    status = kv_context_outcome(status, result);
    if (status == ST_OK) {
        migrate_attempt(job)->backoff = (struct backoff){0};
        migrate_attempt(job)->in_vain = 0;
        migrate_attempt(job)->was_broken = false;
        migrate_attempt(job)->may_be_frozen &= !job->ended;
    } else {
        migrate->stats.broken += status == ST_CORRUPT;
        migrate_attempt(job)->was_broken |= status == ST_CORRUPT;
        job_fail(job);
    }
}

static void on_installed(void *context, enum status status, struct slice result)
{
    struct job *job = context;

    if (kv_context_outcome(status, result) == ST_OK) {
        note_done(job);
    }
    on_applied(context, status, result);
}

/* Before this group has adopted the configuration that says so, nothing comes of it, and it is
 * proposed again. */
static void on_called_off(void *context, enum status status, struct slice result)
{
    struct job *job = context;

    job->migrate->stats.called_off += kv_context_outcome(status, result) == ST_OK;
    on_applied(context, status, result);
}

/* The piece in hand, as it goes into the log. */
static void fill_arrival(const struct job *job, struct slice body, struct kv_command *command)
{
    command->shard = job->shard;
    command->num = job->num;
    command->arrival.piece =
        (struct shard_piece){job->copy_id, job->piece, buf_slice(&job->cursor)};
    command->arrival.body = body;
}

static void propose_install(struct job *job, const struct kv_piece_end *end)
{
    struct kv_context *context = job->migrate->context;
    struct kv_command command = {.kind = KV_COMMAND_INSTALL};

    fill_arrival(job, end->entries, &command);
    command.arrival.end = (struct shard_end){
        .records = end->records, .sessions = end->sessions, .epoch = end->epoch, .gid = job->gid};
    command.arrival.floor = end->floor;
    command.arrival.version = end->version;
    job->ended = true;
    job->ended_ms = context->now_ms;
    job->done.keys = end->records.count;
    job->done.bytes = end->records.bytes;
    job->done.pause_ms = end->frozen_ms;
    job->n_proposals++;
    /* A write behind it must have a stamp above the floor that it brings. */
    job->takes_writes = group_last_stamp(context->group) > end->floor;
    kv_context_propose(context, &command, on_installed, job);
    group_hurry(context->group);
}

static void propose_chunk(struct job *job, const struct proto_response *response)
{
    struct kv_command command = {.kind = KV_COMMAND_CHUNK};

    fill_arrival(job, response->shard_pull.body, &command);
    command.arrival.cursor = response->shard_pull.cursor;
    job->piece++;
    job->is_frozen = response->shard_pull.frozen;
    job->n_proposals++;
    kv_context_propose(job->migrate->context, &command, on_applied, job);
    buf_clear(&job->cursor);
    buf_put_slice(&job->cursor, response->shard_pull.cursor);
}

/* The group that has the shard says that this move will not be. */
static void propose_void(struct job *job)
{
    struct kv_command command = {.kind = KV_COMMAND_VOID, .shard = job->shard, .num = job->num};

    job->ended = true;
    job->n_proposals++;
    kv_context_propose(job->migrate->context, &command, on_called_off, job);
}

static void count_piece(struct job *job, const struct proto_response *response)
{
    struct migrate *migrate = job->migrate;
    uint64_t now_ms = migrate->context->now_ms, bytes = response->shard_pull.body.len;

    migrate->stats.pieces++;
    job->answered_us = group_now_us(migrate->context->group);
    job->answer_us = job->answered_us - job->pulled_us;
    job->piece_bytes = bytes;
    migrate->stats.bytes += bytes;
    copy_pace_hear(&migrate->pace, response->shard_pull.load, response->shard_pull.strain, now_ms);
    copy_pace_spend(&migrate->pace, bytes, kv_piece_round(buf_slice(&job->cursor)), job->pulled_ms,
                    now_ms);
    job->keys_total = response->shard_pull.keys_total;
    job->bytes_total = response->shard_pull.bytes_total;
    job->window_bytes += bytes;
    if (now_ms > job->window_ms) {
        job->bytes_per_s = job->window_bytes * 1000 / (now_ms - job->window_ms);
    }
    if (now_ms - job->window_ms >= RATE_WINDOW_MS) {
        job->window_ms = now_ms - RATE_WINDOW_MS / 2;
        job->window_bytes = job->bytes_per_s * (RATE_WINDOW_MS / 2) / 1000;
    }
}

/* A source is another process: what it says is checked before it gets into the log. */
static void use_piece(struct job *job, const struct proto_response *response)
{
    struct kv_piece_end end;
    struct slice body = response->shard_pull.body, cursor = response->shard_pull.cursor;

    count_piece(job, response);
    if (response->shard_pull.piece != job->piece) {
        job_fail(job);
    } else if (response->shard_pull.kind == PROTO_PIECE_VOID) {
        propose_void(job);
    } else if (response->shard_pull.kind == PROTO_PIECE_END && kv_piece_end_decode(body, &end)) {
        propose_install(job, &end);
    } else if (response->shard_pull.kind == PROTO_PIECE_MORE && cursor.len > 0 &&
               cursor.len <= SHARD_MAX_CURSOR && kv_piece_body_is_valid(body)) {
        propose_chunk(job, response);
    } else {
        trace_error(job->migrate->context->trace,
                    "malformed piece of a shard shard=%u num=%llu from=%u", job->shard,
                    (unsigned long long)job->num, job->gid);
        job_fail(job);
    }
}

/* Why there is no piece: the shard is elsewhere, or the copy must begin anew. */
static void use_refusal(struct job *job, const struct caller_end *end)
{
    struct attempt *attempt = migrate_attempt(job);
    uint64_t now_ms = job->migrate->context->now_ms;

    job_fail(job);
    attempt->in_vain++;
    attempt->anew = end->status == ST_CONFLICT;
    if (end->response != NULL) { /* it is alive: its turn comes soon */
        uint32_t hint = end->response->gid_hint;

        attempt->hint = hint != kv_sm_gid(job->migrate->context->sm) ? hint : 0;
        backoff_shorten(&attempt->backoff, now_ms);
    } else {
        attempt->hint = 0;
    }
}

/* What the end of a pull says of that. A refusal of a group that does not have the shard, or of
 * this copy, says nothing. */
static void note_frozen(struct job *job, const struct caller_end *end)
{
    struct slice cursor = buf_slice(&job->cursor);

    if (end->status == ST_OK) {
        migrate_attempt(job)->may_be_frozen =
            end->response->shard_pull.frozen || end->response->shard_pull.kind == PROTO_PIECE_END;
    } else if (end->status != ST_WRONG_GROUP && end->status != ST_CONFLICT) {
        migrate_attempt(job)->may_be_frozen |= cursor.len == 0 || kv_piece_is_in_rounds(cursor);
    }
}

static void on_piece(void *context, const struct caller_end *end)
{
    struct job *job = context;
    struct migrate *migrate = job->migrate;

    ASSERT(job->in_use && job->is_pulling);
    job->is_pulling = false;
    note_frozen(job, end);
    if (end->response != NULL) {
        migrate_source_answered(migrate, job->gid);
        migrate_attempt(job)->timeouts = 0;
    } else if (end->status == ST_TIMEOUT || end->status == ST_UNAVAILABLE) {
        migrate_source_was_silent(migrate, job->gid);
        migrate_attempt(job)->timeouts++;
    }
    if (end->status != ST_OK || end->response == NULL) {
        use_refusal(job, end);
    } else if (!job->failed && group_is_ready(migrate->context->group) && job_is_current(job)) {
        use_piece(job, end->response);
    }
}

/* Longer after each time-out: a piece is as large as its largest record, and if the network can't
 * carry that in time it would never arrive. */
static uint64_t pull_timeout_ms(const struct job *job)
{
    uint32_t timeouts = migrate_attempt(job)->timeouts;

    return (uint64_t)PULL_TIMEOUT_MS
           << (timeouts < MAX_TIMEOUT_DOUBLINGS ? timeouts : MAX_TIMEOUT_DOUBLINGS);
}

/* While moves are paused, a shard that may be frozen is asked for as little as can be: if it is
 * not, its base waits. If it is, the source gives more all the same. */
static uint32_t piece_bytes(const struct job *job)
{
    const struct migrate *migrate = job->migrate;
    const struct kv_context *context = migrate->context;
    struct slice cursor = buf_slice(&job->cursor);

    if (job->is_frozen) {
        return migrate_is_paused(migrate) && cursor.len == 0 ? 1 : migrate->options.piece_bytes;
    }
    return copy_pace_piece_bytes(&migrate->pace, migrate->options.piece_bytes,
                                 kv_piece_round(cursor), context->load, context->now_ms);
}

static void job_pull(struct job *job, const struct spec *replicas)
{
    struct migrate *migrate = job->migrate;
    struct kv_context *context = migrate->context;
    struct caller_target target = {.gid = job->gid, .replicas = *replicas};
    struct proto_request request = {.op = PROTO_SHARD_PULL};

    request.shard_pull.shard = job->shard;
    request.shard_pull.num = job->num;
    request.shard_pull.to = kv_sm_gid(context->sm);
    request.shard_pull.copy_id = job->copy_id;
    request.shard_pull.piece = job->piece;
    request.shard_pull.cursor = buf_slice(&job->cursor);
    request.shard_pull.anew = job->piece == 0 && migrate_attempt(job)->was_broken;
    request.shard_pull.max_bytes = piece_bytes(job);
    job->is_pulling = true;
    job->pulled_ms = context->now_ms;
    job->pulled_us = group_now_us(context->group);
    job->call = caller_start(context->caller, &target, &request, true, context->now_ms,
                             context->now_ms + pull_timeout_ms(job), on_piece, job);
}

uint64_t job_due_ms(const struct job *job)
{
    const struct copy_pace *pace = &job->migrate->pace;
    const struct kv_context *context = job->migrate->context;

    if (!job->in_use) {
        return UINT64_MAX;
    }
    if (job->is_frozen) {
        return context->now_ms;
    }
    return kv_piece_is_in_rounds(buf_slice(&job->cursor))
               ? copy_pace_next_of_round_ms(pace, context->load, context->now_ms)
               : copy_pace_next_ms(pace, context->load, context->now_ms);
}

/* Whether the next piece may be asked for now. In the rounds the pause is near: each round is to be
 * short, so none begins before the last one is applied. */
static bool job_may_pull(const struct job *job)
{
    const struct migrate *migrate = job->migrate;
    const struct kv_context *context = migrate->context;

    if (job->is_pulling || job->ended || job_due_ms(job) > context->now_ms) {
        return false;
    }
    if (job->is_frozen) {
        return job->n_proposals < MAX_PROPOSALS;
    }
    if (kv_piece_is_in_rounds(buf_slice(&job->cursor))) {
        return job->n_proposals == 0;
    }
    return copy_pace_yields(&migrate->pace, context->load, context->now_ms)
               ? !migrate_any_is_outstanding(migrate)
               : job->n_proposals < MAX_PROPOSALS;
}

/* A base is held up by the operator, or for a slot that is not extra: no more is asked for, and the
 * job ends. What has arrived stays. */
static bool job_is_held_up(const struct job *job)
{
    return (job->is_extra || migrate_is_paused(job->migrate)) && !job->is_pulling && !job->ended &&
           !job->is_frozen && !kv_piece_is_in_rounds(buf_slice(&job->cursor));
}

void job_step(struct job *job)
{
    struct kv_context *context = job->migrate->context;
    bool is_over = job->failed || !group_is_ready(context->group) || !job_is_current(job) ||
                   job_is_held_up(job);
    const struct spec *replicas = kv_sm_find_group(context->sm, job->gid);

    if (is_over && job->is_pulling) {
        job->failed = true;
        caller_cancel(context->caller, job->call); /* on_piece may run now or later */
    }
    if (is_over && !job->is_pulling && job->n_proposals == 0) {
        job_free(job);
    } else if (!is_over && replicas == NULL) {
        job_fail(job); /* it has left for good meanwhile */
    } else if (!is_over && job_may_pull(job)) {
        job_pull(job, replicas);
    }
}
