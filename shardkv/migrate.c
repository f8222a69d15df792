/* migrate: see migrate.h. One job is one shard on its way; it lives in a fixed slot, so callbacks
 * may point to it, and its slot is free again only when no call and no proposal of it is left. */
#include "shardkv/migrate.h"

#include "raft/util/assert.h"
#include "raft/util/mem.h"
#include "shardkv/backoff.h"

#define PULL_TIMEOUT_MS       2000 /* without a piece for so long, the slot is given back */
#define MAX_TIMEOUT_DOUBLINGS 5
#define MAX_PROPOSALS         2 /* pieces proposed and not applied: one ahead */

struct job {
    struct migrate *migrate;
    bool in_use;
    bool ended;  /* the END arrived: nothing more to pull */
    bool failed; /* give the slot back as soon as nothing is outstanding */
    shard_id shard;
    config_num num;
    uint32_t gid; /* the source */
    uint64_t copy_id;
    uint64_t piece; /* the next to pull, and where it begins */
    struct buf cursor;
    bool is_pulling;
    uint64_t call;
    uint32_t n_proposals;
};

/* A source that did not answer last time. */
struct silent_source {
    uint32_t gid;
};

struct migrate {
    struct kv_context *context;
    uint32_t max_copies;
    uint32_t piece_bytes;
    struct job *jobs; /* max_copies */
    struct backoff *backoffs;
    uint32_t n_shards;
    shard_id next_shard; /* where the next look for work begins: nobody is passed over for ever */
    struct silent_source *silent;
    size_t n_silent, silent_capacity;
    uint64_t due_ms;       /* look for work again at the latest */
    uint64_t seen_changes; /* or when the state machine moves */
    bool slot_was_freed;
    struct migrate_stats stats;
};

struct migrate *migrate_create(struct kv_context *context, uint32_t max_copies,
                               uint32_t piece_bytes)
{
    struct migrate *migrate = mem_zalloc(sizeof(*migrate));

    ASSERT(max_copies > 0 && piece_bytes > 0);
    migrate->context = context;
    migrate->max_copies = max_copies;
    migrate->piece_bytes = piece_bytes;
    migrate->jobs = mem_zalloc(max_copies * sizeof(migrate->jobs[0]));
    for (uint32_t i = 0; i < max_copies; i++) {
        migrate->jobs[i].migrate = migrate;
    }
    return migrate;
}

void migrate_destroy(struct migrate **migrate)
{
    if (*migrate == NULL) {
        return;
    }
    for (uint32_t i = 0; i < (*migrate)->max_copies; i++) {
        ASSERT((*migrate)->jobs[i].n_proposals == 0);
        buf_fini(&(*migrate)->jobs[i].cursor);
    }
    mem_free((*migrate)->jobs);
    mem_free((*migrate)->backoffs);
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
    for (uint32_t i = 0; i < migrate->max_copies; i++) {
        if (migrate->jobs[i].in_use && migrate->jobs[i].gid == gid) {
            return false;
        }
    }
    return true;
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

static void job_fail(struct job *job)
{
    if (!job->failed) {
        job->failed = true;
        backoff_fail(&job->migrate->backoffs[job->shard], job->migrate->context->now_ms);
    }
}

/* Goes on from the last applied piece of the copy that has begun, or begins a new one. */
static void job_begin(struct job *job, shard_id id)
{
    struct kv_context *context = job->migrate->context;
    const struct shard *shard = kv_sm_shard(context->sm, id);

    ASSERT(!job->in_use);
    job->in_use = true;
    job->shard = id;
    job->num = shard_head(shard)->num;
    job->gid = shard_head(shard)->gid;
    job->copy_id = shard->copy.copy_id;
    job->piece = shard->copy.next_piece;
    buf_put_slice(&job->cursor, buf_slice(&shard->copy.cursor));
    if (job->copy_id == 0) {
        job->copy_id = rng_next(&context->rng) | 1; /* 0 means none */
        ASSERT(job->piece == 0);
    }
}

static void on_applied(void *context, enum status status, struct slice result)
{
    struct job *job = context;
    struct migrate *migrate = job->migrate;

    ASSERT(job->in_use && job->n_proposals > 0);
    job->n_proposals--;
    status = kv_context_outcome(status, result);
    if (status == ST_OK) {
        backoff_succeed(&migrate->backoffs[job->shard]);
        migrate->stats.installed += job->ended && job->n_proposals == 0;
    } else {
        migrate->stats.broken += status == ST_CORRUPT;
        job_fail(job);
    }
}

static void propose_install(struct job *job, const struct kv_piece_end *end)
{
    struct kv_command command = {.kind = KV_COMMAND_INSTALL, .shard = job->shard, .num = job->num};

    command.install.end = (struct shard_end){.copy_id = job->copy_id,
                                             .pieces = job->piece,
                                             .records = end->records,
                                             .sessions = end->sessions,
                                             .epoch = end->epoch};
    command.install.floor = end->floor;
    command.install.version = end->version;
    command.install.chain = end->chain;
    job->ended = true;
    job->n_proposals++;
    kv_context_propose(job->migrate->context, &command, on_applied, job);
}

static void propose_chunk(struct job *job, const struct proto_response *response)
{
    struct kv_command command = {.kind = KV_COMMAND_CHUNK, .shard = job->shard, .num = job->num};

    command.chunk.copy_id = job->copy_id;
    command.chunk.piece = job->piece;
    command.chunk.kind = response->shard_pull.kind;
    command.chunk.body = response->shard_pull.body;
    command.chunk.cursor = response->shard_pull.cursor;
    job->migrate->stats.pieces++;
    job->migrate->stats.bytes += response->shard_pull.body.len;
    job->piece++;
    buf_clear(&job->cursor);
    buf_put_slice(&job->cursor, response->shard_pull.cursor);
    job->n_proposals++;
    kv_context_propose(job->migrate->context, &command, on_applied, job);
}

/* A source is another process: what it says is checked before it gets into the log. */
static void use_piece(struct job *job, const struct proto_response *response)
{
    struct kv_piece_end end;

    if (response->shard_pull.piece != job->piece) {
        job_fail(job);
    } else if (response->shard_pull.kind == PROTO_PIECE_END &&
               kv_piece_end_decode(response->shard_pull.body, &end)) {
        propose_install(job, &end);
    } else if (response->shard_pull.cursor.len > 0 &&
               response->shard_pull.cursor.len <= SHARD_MAX_CURSOR &&
               kv_piece_body_is_valid(response->shard_pull.kind, response->shard_pull.body)) {
        propose_chunk(job, response);
    } else {
        trace_error(job->migrate->context->trace,
                    "malformed piece of a shard shard=%u num=%llu from=%u", job->shard,
                    (unsigned long long)job->num, job->gid);
        job_fail(job);
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
    } else if (end->status == ST_TIMEOUT || end->status == ST_UNAVAILABLE) {
        source_was_silent(migrate, job->gid);
    }
    if (end->status != ST_OK || end->response == NULL) {
        job_fail(job);
    } else if (!job->failed && group_is_ready(migrate->context->group) && job_is_current(job)) {
        use_piece(job, end->response);
    }
}

/* Longer after each failure: a piece is as large as its largest record, and if the network can't
 * carry that in time it would never arrive, while the shard is frozen. */
static uint64_t pull_timeout_ms(const struct job *job)
{
    uint32_t failures = job->migrate->backoffs[job->shard].failures;

    return (uint64_t)PULL_TIMEOUT_MS
           << (failures < MAX_TIMEOUT_DOUBLINGS ? failures : MAX_TIMEOUT_DOUBLINGS);
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
    request.shard_pull.max_bytes = job->migrate->piece_bytes;
    job->is_pulling = true;
    job->call = caller_start(context->caller, &target, &request, true, context->now_ms,
                             context->now_ms + pull_timeout_ms(job), on_piece, job);
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
    } else if (!is_over && !job->is_pulling && !job->ended && job->n_proposals < MAX_PROPOSALS) {
        ASSERT(replicas != NULL);
        job_pull(job, replicas);
    }
}

/* ---- Looking for work ---- */

static bool shard_has_job(const struct migrate *migrate, shard_id id)
{
    for (uint32_t i = 0; i < migrate->max_copies; i++) {
        if (migrate->jobs[i].in_use && migrate->jobs[i].shard == id) {
            return true;
        }
    }
    return false;
}

static struct job *free_slot(struct migrate *migrate)
{
    for (uint32_t i = 0; i < migrate->max_copies; i++) {
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
        if (!backoff_is_over(&migrate->backoffs[id], context->now_ms)) {
            if (migrate->backoffs[id].until_ms < migrate->due_ms) {
                migrate->due_ms = migrate->backoffs[id].until_ms;
            }
        } else if (source_may_be_asked(migrate, head->gid)) {
            job_begin(slot, id);
            migrate->next_shard = (id + 1) % migrate->n_shards;
            slot = free_slot(migrate);
        }
    }
}

static void fit_shards(struct migrate *migrate)
{
    uint32_t n_shards = kv_sm_meta(migrate->context->sm)->n_shards;

    if (migrate->n_shards != n_shards) {
        ASSERT(migrate->n_shards == 0); /* it is fixed once known */
        migrate->backoffs = mem_zalloc(n_shards * sizeof(migrate->backoffs[0]));
        migrate->n_shards = n_shards;
    }
}

static void step_jobs(struct migrate *migrate)
{
    for (uint32_t i = 0; i < migrate->max_copies; i++) {
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
    if (migrate->n_shards == 0 || !group_is_ready(migrate->context->group)) {
        return UINT64_MAX;
    }
    return is_due(migrate) ? migrate->context->now_ms : migrate->due_ms;
}
