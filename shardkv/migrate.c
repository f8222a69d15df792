/* migrate: see migrate.h. One job is one shard on its way; it lives in a fixed slot, so callbacks
 * may point to it, and its slot is free again only when no call and no proposal of it is left. */
#include "shardkv/migrate.h"

#include "raft/util/assert.h"
#include "raft/util/mem.h"
#include "shardkv/backoff.h"
#include "shardkv/copy_pace.h"
#include "shardkv/kv_piece.h"

#define PULL_TIMEOUT_MS       2000 /* without a piece for so long, the slot is given back */
#define MAX_TIMEOUT_DOUBLINGS 5
#define MAX_PROPOSALS         2    /* pieces proposed and not applied: one ahead */
#define RATE_WINDOW_MS        2000 /* over which the rate is measured */

struct job {
    struct migrate *migrate;
    bool in_use;
    bool ended;  /* the END or VOID arrived: nothing more to pull */
    bool failed; /* give the slot back as soon as nothing is outstanding */
    shard_id shard;
    config_num num;
    uint32_t gid; /* the source */
    uint64_t copy_id;
    uint64_t piece; /* the next to pull, and where it begins */
    struct buf cursor;
    bool is_pulling;
    uint64_t call;
    uint64_t pulled_ms;  /* when the last call began */
    uint32_t n_proposals;
    struct migrate_done done; /* what there will be to tell */
    uint64_t ended_ms;
    uint64_t window_ms, window_bytes; /* of the rate, since window_ms */
    uint64_t bytes_per_s;
    uint64_t keys_total, bytes_total;
};

/* What is remembered of each shard between two jobs. */
struct attempt {
    struct backoff backoff;
    uint32_t timeouts; /* in a row */
    uint32_t in_vain; /* how often a group was asked that does not have the shard */
    uint32_t hint;    /* the group that was pointed at then; 0: none */
    bool anew;        /* the copy that has begun does not go on */
};

/* A source that did not answer last time. */
struct silent_source {
    uint32_t gid;
};

struct migrate {
    struct kv_context *context;
    struct migrate_options options;
    struct copy_pace pace;
    struct job *jobs; /* max_copies */
    struct attempt *attempts;
    uint32_t n_shards;
    shard_id next_shard; /* where the next look for work begins: nobody is passed over for ever */
    struct silent_source *silent;
    size_t n_silent, silent_capacity;
    uint64_t due_ms;       /* look for work again at the latest */
    uint64_t seen_changes; /* or when the state machine moves */
    bool slot_was_freed;
    struct migrate_stats stats;
    struct migrate_done done[MIGRATE_MAX_DONE]; /* a ring */
    uint64_t n_done;
};

struct migrate *migrate_create(struct kv_context *context, const struct migrate_options *options)
{
    struct migrate *migrate = mem_zalloc(sizeof(*migrate));

    ASSERT(options->max_copies > 0 && options->piece_bytes > 0);
    migrate->context = context;
    migrate->options = *options;
    copy_pace_init(&migrate->pace, options->bytes_per_s);
    migrate->jobs = mem_zalloc(options->max_copies * sizeof(migrate->jobs[0]));
    for (uint32_t i = 0; i < options->max_copies; i++) {
        migrate->jobs[i].migrate = migrate;
    }
    return migrate;
}

void migrate_destroy(struct migrate **migrate)
{
    if (*migrate == NULL) {
        return;
    }
    for (uint32_t i = 0; i < (*migrate)->options.max_copies; i++) {
        ASSERT((*migrate)->jobs[i].n_proposals == 0);
        buf_fini(&(*migrate)->jobs[i].cursor);
    }
    mem_free((*migrate)->jobs);
    mem_free((*migrate)->attempts);
    mem_free((*migrate)->silent);
    mem_free(*migrate);
    *migrate = NULL;
}

const struct migrate_stats *migrate_statistics(const struct migrate *migrate)
{
    return &migrate->stats;
}

/* ---- Sources ---- */

static size_t find_silent(const struct migrate *migrate, uint32_t gid)
{
    size_t i = 0;

    while (i < migrate->n_silent && migrate->silent[i].gid != gid) {
        i++;
    }
    return i;
}

static void source_answered(struct migrate *migrate, uint32_t gid)
{
    size_t i = find_silent(migrate, gid);

    if (i < migrate->n_silent) {
        migrate->silent[i] = migrate->silent[--migrate->n_silent];
        migrate->due_ms = migrate->context->now_ms;
    }
}

static void source_was_silent(struct migrate *migrate, uint32_t gid)
{
    if (find_silent(migrate, gid) == migrate->n_silent) {
        MEM_GROW(migrate->silent, migrate->silent_capacity, migrate->n_silent + 1);
        migrate->silent[migrate->n_silent++] = (struct silent_source){gid};
    }
}

/* One probe at a time for a source that does not answer. */
static bool source_may_be_asked(const struct migrate *migrate, uint32_t gid)
{
    if (find_silent(migrate, gid) == migrate->n_silent) {
        return true;
    }
    for (uint32_t i = 0; i < migrate->options.max_copies; i++) {
        if (migrate->jobs[i].in_use && migrate->jobs[i].gid == gid) {
            return false;
        }
    }
    return true;
}

/* The n-th of the groups that might have the shard, besides the one that the configuration names
 * and this one; 0: there is none. */
static uint32_t other_group(const struct migrate *migrate, uint32_t from, uint32_t n)
{
    const struct shard_config *config = kv_sm_config(migrate->context->sm);
    uint32_t me = kv_sm_gid(migrate->context->sm), n_others = 0;

    for (int pass = 0; pass < 2; pass++) {
        for (size_t i = 0; i < config->n_groups; i++) {
            uint32_t gid = config->groups[i].gid;

            if (gid == me || gid == from) {
                continue;
            }
            if (pass == 1 && n-- == 0) {
                return gid;
            }
            n_others++;
        }
        if (n_others == 0) {
            return 0;
        }
        n = pass == 0 ? n % n_others : n;
    }
    UNREACHABLE("the second pass finds what the first one counted");
}

/* Whom to ask. In turn: the group that the configuration names; the one that was pointed at last;
 * each of the others. */
static uint32_t source_of(const struct migrate *migrate, shard_id id)
{
    const struct attempt *attempt = &migrate->attempts[id];
    uint32_t from = shard_head(kv_sm_shard(migrate->context->sm, id))->gid, gid = 0;

    if (attempt->in_vain % 3 == 1) {
        gid = attempt->hint;
    } else if (attempt->in_vain % 3 == 2) {
        gid = other_group(migrate, from, attempt->in_vain / 3);
    }
    return gid != 0 && kv_sm_find_group(migrate->context->sm, gid) != NULL ? gid : from;
}

/* ---- The life of a job ---- */

/* The shard still waits for exactly this. */
static bool job_is_current(const struct job *job)
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

static struct attempt *attempt_of(const struct job *job)
{
    return &job->migrate->attempts[job->shard];
}

static void job_fail(struct job *job)
{
    if (!job->failed) {
        job->failed = true;
        backoff_fail(&attempt_of(job)->backoff, job->migrate->context->now_ms);
    }
}

/* Goes on from the last applied piece of the copy that has begun, or begins a new one. */
static void job_begin(struct job *job, shard_id id, uint32_t source)
{
    struct kv_context *context = job->migrate->context;
    const struct shard *shard = kv_sm_shard(context->sm, id);
    struct attempt *attempt = &job->migrate->attempts[id];

    ASSERT(!job->in_use);
    job->in_use = true;
    job->shard = id;
    job->num = shard_head(shard)->num;
    job->gid = source;
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
    copy_pace_applied(&migrate->pace, job->pulled_ms, migrate->context->now_ms,
                      migrate->context->load);
    status = kv_context_outcome(status, result);
    if (status == ST_OK) {
        attempt_of(job)->backoff = (struct backoff){0};
        attempt_of(job)->in_vain = 0;
    } else {
        migrate->stats.broken += status == ST_CORRUPT;
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
    command.arrival.end = (struct shard_end){.records = end->records,
                                             .sessions = end->sessions,
                                             .epoch = end->epoch,
                                             .gid = job->gid};
    command.arrival.floor = end->floor;
    command.arrival.version = end->version;
    job->ended = true;
    job->ended_ms = context->now_ms;
    job->done.keys = end->records.count;
    job->done.bytes = end->records.bytes;
    job->done.pause_ms = end->frozen_ms;
    job->n_proposals++;
    kv_context_propose(context, &command, on_installed, job);
}

static void propose_chunk(struct job *job, const struct proto_response *response)
{
    struct kv_command command = {.kind = KV_COMMAND_CHUNK};

    fill_arrival(job, response->shard_pull.body, &command);
    command.arrival.cursor = response->shard_pull.cursor;
    job->piece++;
    job->n_proposals++;
    kv_context_propose(job->migrate->context, &command, on_applied, job);
    buf_clear(&job->cursor);
    buf_put_slice(&job->cursor, response->shard_pull.cursor);
}

/* The group that has the shard says that this move will not be. */
static void propose_void(struct job *job)
{
    struct kv_command command = {
        .kind = KV_COMMAND_VOID, .shard = job->shard, .num = job->num};

    job->ended = true;
    job->migrate->stats.called_off++;
    job->n_proposals++;
    kv_context_propose(job->migrate->context, &command, on_applied, job);
}

static void count_piece(struct job *job, const struct proto_response *response)
{
    struct migrate *migrate = job->migrate;
    uint64_t now_ms = migrate->context->now_ms, bytes = response->shard_pull.body.len;

    migrate->stats.pieces++;
    migrate->stats.bytes += bytes;
    migrate->pace.source_load = response->shard_pull.load;
    copy_pace_spend(&migrate->pace, bytes, now_ms);
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
    struct attempt *attempt = attempt_of(job);
    uint64_t now_ms = job->migrate->context->now_ms;

    job_fail(job);
    attempt->in_vain++;
    attempt->anew = end->status == ST_CONFLICT;
    if (end->response != NULL) { /* it is alive: its turn comes soon */
        uint32_t hint = end->response->gid_hint;

        attempt->hint = hint != kv_sm_gid(job->migrate->context->sm) ? hint : 0;
        backoff_shorten(&attempt->backoff, now_ms);
    }
}

static void on_piece(void *context, const struct caller_end *end)
{
    struct job *job = context;
    struct migrate *migrate = job->migrate;

    ASSERT(job->in_use && job->is_pulling);
    job->is_pulling = false;
    if (end->response != NULL) {
        source_answered(migrate, job->gid);
        attempt_of(job)->timeouts = 0;
    } else if (end->status == ST_TIMEOUT || end->status == ST_UNAVAILABLE) {
        source_was_silent(migrate, job->gid);
        attempt_of(job)->timeouts++;
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
    uint32_t timeouts = attempt_of(job)->timeouts;

    return (uint64_t)PULL_TIMEOUT_MS
           << (timeouts < MAX_TIMEOUT_DOUBLINGS ? timeouts : MAX_TIMEOUT_DOUBLINGS);
}

static void job_pull(struct job *job, const struct spec *replicas)
{
    struct kv_context *context = job->migrate->context;
    struct caller_target target = {.replicas = *replicas};
    struct proto_request request = {.op = PROTO_SHARD_PULL};

    request.shard_pull.shard = job->shard;
    request.shard_pull.num = job->num;
    request.shard_pull.to = kv_sm_gid(context->sm);
    request.shard_pull.copy_id = job->copy_id;
    request.shard_pull.piece = job->piece;
    request.shard_pull.cursor = buf_slice(&job->cursor);
    request.shard_pull.max_bytes = job->migrate->options.piece_bytes;
    job->is_pulling = true;
    job->pulled_ms = context->now_ms;
    job->call = caller_start(context->caller, &target, &request, true, context->now_ms,
                             context->now_ms + pull_timeout_ms(job), on_piece, job);
}

static bool is_paused(const struct migrate *migrate)
{
    const struct shard_config *config = kv_sm_config(migrate->context->sm);

    return config != NULL && config->moves_paused;
}

static bool any_is_outstanding(const struct migrate *migrate)
{
    for (uint32_t i = 0; i < migrate->options.max_copies; i++) {
        if (migrate->jobs[i].is_pulling || migrate->jobs[i].n_proposals > 0) {
            return true;
        }
    }
    return false;
}

/* Whether the next piece may be asked for now. In the rounds the pause is near: each round is to be
 * short, so none waits for the pace, and none begins before the last one is applied. */
static bool job_may_pull(const struct job *job)
{
    const struct migrate *migrate = job->migrate;
    struct kv_context *context = migrate->context;

    if (job->is_pulling || job->ended) {
        return false;
    }
    if (kv_piece_is_in_rounds(buf_slice(&job->cursor))) {
        return job->n_proposals == 0;
    }
    if (is_paused(migrate) ||
        copy_pace_next_ms(&migrate->pace, context->now_ms) > context->now_ms) {
        return false;
    }
    return copy_pace_yields(&migrate->pace, context->load) ? !any_is_outstanding(migrate)
                                                           : job->n_proposals < MAX_PROPOSALS;
}

/* Frees the slot of a job that is over, or asks for its next piece. */
static void job_step(struct job *job)
{
    struct kv_context *context = job->migrate->context;
    bool is_over = job->failed || !group_is_ready(context->group) || !job_is_current(job);
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

/* ---- Looking for work ---- */

static bool shard_has_job(const struct migrate *migrate, shard_id id)
{
    for (uint32_t i = 0; i < migrate->options.max_copies; i++) {
        if (migrate->jobs[i].in_use && migrate->jobs[i].shard == id) {
            return true;
        }
    }
    return false;
}

static struct job *free_slot(struct migrate *migrate)
{
    for (uint32_t i = 0; i < migrate->options.max_copies; i++) {
        if (!migrate->jobs[i].in_use) {
            return &migrate->jobs[i];
        }
    }
    return NULL;
}

/* Begins what can begin, and notes when to look again. */
static void find_work(struct migrate *migrate)
{
    struct kv_context *context = migrate->context;
    struct job *slot = free_slot(migrate);
    shard_id begin = migrate->next_shard;

    migrate->seen_changes = kv_sm_changes(context->sm);
    migrate->due_ms = UINT64_MAX;
    for (uint32_t i = 0; i < migrate->n_shards && slot != NULL; i++) {
        shard_id id = (begin + i) % migrate->n_shards;
        const struct shard_transition *head = shard_head(kv_sm_shard(context->sm, id));

        if (head == NULL || head->kind != SHARD_RECEIVE || shard_has_job(migrate, id)) {
            continue;
        }
        if (!backoff_is_over(&migrate->attempts[id].backoff, context->now_ms)) {
            if (migrate->attempts[id].backoff.until_ms < migrate->due_ms) {
                migrate->due_ms = migrate->attempts[id].backoff.until_ms;
            }
        } else {
            uint32_t source = source_of(migrate, id);

            if (source_may_be_asked(migrate, source)) {
                job_begin(slot, id, source);
                migrate->next_shard = (id + 1) % migrate->n_shards;
                slot = free_slot(migrate);
            }
        }
    }
}

static void fit_shards(struct migrate *migrate)
{
    uint32_t n_shards = kv_sm_meta(migrate->context->sm)->n_shards;

    if (migrate->n_shards != n_shards) {
        ASSERT(migrate->n_shards == 0); /* it is fixed once known */
        migrate->attempts = mem_zalloc(n_shards * sizeof(migrate->attempts[0]));
        migrate->n_shards = n_shards;
    }
}

static void step_jobs(struct migrate *migrate)
{
    for (uint32_t i = 0; i < migrate->options.max_copies; i++) {
        if (migrate->jobs[i].in_use) {
            job_step(&migrate->jobs[i]);
        }
    }
}

static bool is_due(const struct migrate *migrate)
{
    return migrate->slot_was_freed || migrate->context->now_ms >= migrate->due_ms ||
           migrate->seen_changes != kv_sm_changes(migrate->context->sm);
}

void migrate_step(struct migrate *migrate)
{
    fit_shards(migrate);
    step_jobs(migrate);
    if (migrate->n_shards > 0 && group_is_ready(migrate->context->group) && is_due(migrate)) {
        migrate->slot_was_freed = false;
        find_work(migrate);
        step_jobs(migrate);
    }
}

uint64_t migrate_next_deadline_ms(const struct migrate *migrate)
{
    uint64_t now_ms = migrate->context->now_ms, due_ms = migrate->due_ms;
    uint64_t pace_ms = copy_pace_next_ms(&migrate->pace, now_ms);

    if (migrate->n_shards == 0 || !group_is_ready(migrate->context->group)) {
        return UINT64_MAX;
    }
    for (uint32_t i = 0; i < migrate->options.max_copies && pace_ms > now_ms; i++) {
        if (migrate->jobs[i].in_use && pace_ms < due_ms) {
            due_ms = pace_ms;
        }
    }
    return is_due(migrate) ? now_ms : due_ms;
}

/* ---- What others want to know ---- */

static const struct job *find_job(const struct migrate *migrate, shard_id id)
{
    for (uint32_t i = 0; i < migrate->options.max_copies; i++) {
        if (migrate->jobs[i].in_use && migrate->jobs[i].shard == id) {
            return &migrate->jobs[i];
        }
    }
    return NULL;
}

bool migrate_is_nearly_here(const struct migrate *migrate, shard_id id)
{
    const struct job *job = find_job(migrate, id);

    return job != NULL && !job->failed && job_is_current(job) &&
           (job->ended || kv_piece_is_in_rounds(buf_slice(&job->cursor)));
}

void migrate_progress(const struct migrate *migrate, shard_id id,
                      struct migrate_progress *progress)
{
    const struct job *job = find_job(migrate, id);
    const struct shard_transition *head = shard_head(kv_sm_shard(migrate->context->sm, id));

    *progress = (struct migrate_progress){.phase = MIGRATE_WAITING};
    progress->from = head != NULL ? head->gid : 0;
    if (job == NULL) {
        return;
    }
    progress->from = job->gid;
    progress->keys_total = job->keys_total;
    progress->bytes_total = job->bytes_total;
    progress->bytes_per_s = job->bytes_per_s;
    if (job->ended) {
        progress->phase = MIGRATE_HANDING_OVER;
    } else if (kv_piece_is_in_rounds(buf_slice(&job->cursor))) {
        progress->phase = MIGRATE_CATCHING_UP;
    } else if (job->piece > 0 && !is_paused(migrate)) {
        progress->phase = MIGRATE_COPYING;
    }
}

size_t migrate_last_done(const struct migrate *migrate, struct migrate_done *done, size_t max)
{
    size_t n = migrate->n_done < MIGRATE_MAX_DONE ? migrate->n_done : MIGRATE_MAX_DONE;

    n = n < max ? n : max;
    for (size_t i = 0; i < n; i++) {
        done[i] = migrate->done[(migrate->n_done - 1 - i) % MIGRATE_MAX_DONE];
    }
    return n;
}
