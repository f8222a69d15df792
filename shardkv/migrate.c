/* migrate: see migrate.h. Which shards have a slot, and whom they are asked of; migrate_job.c does
 * the rest. */
#include "raft/util/assert.h"
#include "raft/util/mem.h"
#include "shardkv/kv_piece.h"
#include "shardkv/migrate_internal.h"

/* In which the group that the configuration names is asked, those it points at, one of the others.
 */
#define TRIES_A_TURN 5

#define PATIENCE_MS 100 /* with a source, before it no longer holds up others */

struct migrate *migrate_create(struct kv_context *context, const struct migrate_options *options)
{
    struct migrate *migrate = mem_zalloc(sizeof(*migrate));

    ASSERT(options->max_copies > 0 && options->piece_bytes > 0);
    migrate->context = context;
    migrate->options = *options;
    copy_pace_init(&migrate->pace, options->bytes_per_s);
    migrate->n_slots = 2 * options->max_copies;
    migrate->jobs = mem_zalloc(migrate->n_slots * sizeof(migrate->jobs[0]));
    for (uint32_t i = 0; i < migrate->n_slots; i++) {
        migrate->jobs[i].migrate = migrate;
    }
    return migrate;
}

void migrate_destroy(struct migrate **migrate)
{
    if (*migrate == NULL) {
        return;
    }
    for (uint32_t i = 0; i < (*migrate)->n_slots; i++) {
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

void migrate_source_answered(struct migrate *migrate, uint32_t gid)
{
    size_t i = find_silent(migrate, gid);

    if (i < migrate->n_silent) {
        migrate->silent[i] = migrate->silent[--migrate->n_silent];
        migrate->due_ms = migrate->context->now_ms;
    }
}

void migrate_source_was_silent(struct migrate *migrate, uint32_t gid)
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
    for (uint32_t i = 0; i < migrate->n_slots; i++) {
        if (migrate->jobs[i].in_use && migrate->jobs[i].gid == gid) {
            return false;
        }
    }
    return true;
}

/* Whether the group might have a shard, besides the one that the configuration names. */
static bool is_other_group(const struct migrate *migrate, uint32_t gid, uint32_t from)
{
    return gid != from && gid != kv_sm_gid(migrate->context->sm);
}

/* Of those groups the n-th, counted round and round, or the next one that may be asked; 0: none. */
static uint32_t other_group(const struct migrate *migrate, uint32_t from, uint32_t n)
{
    const struct shard_config *config = kv_sm_config(migrate->context->sm);
    uint32_t n_others = 0, first = 0, nth = 0;

    for (size_t i = 0; i < config->n_groups; i++) {
        n_others += is_other_group(migrate, config->groups[i].gid, from);
    }
    for (size_t i = 0; i < config->n_groups; i++) {
        uint32_t gid = config->groups[i].gid;

        if (!is_other_group(migrate, gid, from)) {
            continue;
        }
        if (source_may_be_asked(migrate, gid)) {
            if (nth >= n % n_others) {
                return gid;
            }
            first = first == 0 ? gid : first;
        }
        nth++;
    }
    return first;
}

/* Whether to ask others first: the silent group is being asked for another shard. */
static bool others_come_first(const struct migrate *migrate, uint32_t from,
                              const struct attempt *attempt)
{
    const struct shard_config *config = kv_sm_config(migrate->context->sm);

    return !source_may_be_asked(migrate, from) && attempt->in_vain < 2 * config->n_groups;
}

/* Whom to ask; 0: nobody now. The group that the configuration names; while it answers that it does
 * not have the shard, again and where it points at, for it may only not be ready yet; and now and
 * then, or if it does not answer, the others in turn. While one shard waits for whether it
 * answers, the rest don't: for each the others are asked once, then it waits for its turn, too. */
static uint32_t source_of(const struct migrate *migrate, shard_id id)
{
    const struct attempt *attempt = &migrate->attempts[id];
    uint32_t from = shard_head(kv_sm_shard(migrate->context->sm, id))->gid, gid = 0;
    uint32_t turn = attempt->in_vain % TRIES_A_TURN, turns = attempt->in_vain / TRIES_A_TURN;
    bool is_silent = find_silent(migrate, from) < migrate->n_silent;

    if (turn > 0 && turn < TRIES_A_TURN - 1 && source_may_be_asked(migrate, attempt->hint)) {
        gid = attempt->hint;
    }
    if (gid == 0 && is_silent && (turn > 0 || others_come_first(migrate, from, attempt))) {
        gid = other_group(migrate, from, attempt->in_vain - turns);
    } else if (gid == 0 && turn == TRIES_A_TURN - 1) {
        gid = other_group(migrate, from, turns);
    }
    if (gid == 0 || kv_sm_find_group(migrate->context->sm, gid) == NULL) {
        gid = from;
    }
    return source_may_be_asked(migrate, gid) ? gid : 0;
}

/* ---- What jobs want to know ---- */

bool migrate_is_paused(const struct migrate *migrate)
{
    const struct shard_config *config = kv_sm_config(migrate->context->sm);

    return config != NULL && config->moves_paused;
}

/* Until when a piece that is asked for keeps others from being asked for: a source that does not
 * answer must not. */
static uint64_t pull_counts_until_ms(const struct job *job)
{
    return job->is_pulling ? job->pulled_ms + PATIENCE_MS : 0;
}

bool migrate_any_is_outstanding(const struct migrate *migrate)
{
    for (uint32_t i = 0; i < migrate->n_slots; i++) {
        if (pull_counts_until_ms(&migrate->jobs[i]) > migrate->context->now_ms ||
            migrate->jobs[i].n_proposals > 0) {
            return true;
        }
    }
    return false;
}

struct attempt *migrate_attempt(const struct job *job)
{
    return &job->migrate->attempts[job->shard];
}

/* ---- Looking for work ---- */

static const struct job *find_job(const struct migrate *migrate, shard_id id)
{
    for (uint32_t i = 0; i < migrate->n_slots; i++) {
        if (migrate->jobs[i].in_use && migrate->jobs[i].shard == id) {
            return &migrate->jobs[i];
        }
    }
    return NULL;
}

/* Past its base, or maybe frozen: it waits for no other shard. */
static bool is_urgent(const struct migrate *migrate, shard_id id)
{
    const struct shard *shard = kv_sm_shard(migrate->context->sm, id);
    const struct attempt *attempt = &migrate->attempts[id];

    return attempt->may_be_frozen ||
           (!attempt->anew && kv_piece_is_in_rounds(buf_slice(&shard->copy.cursor)));
}

static uint32_t slots_in_use(const struct migrate *migrate)
{
    uint32_t n = 0;

    for (uint32_t i = 0; i < migrate->n_slots; i++) {
        n += migrate->jobs[i].in_use;
    }
    return n;
}

/* NULL: there is none. When max_copies are in use, the rest is for those that are urgent. */
static struct job *free_slot(struct migrate *migrate, bool urgent)
{
    if (!urgent && slots_in_use(migrate) >= migrate->options.max_copies) {
        return NULL;
    }
    for (uint32_t i = 0; i < migrate->n_slots; i++) {
        if (!migrate->jobs[i].in_use) {
            return &migrate->jobs[i];
        }
    }
    return NULL;
}

/* Of the urgent ones, or of the others: begins what can begin, and notes when to look again. */
static void begin_some(struct migrate *migrate, bool urgent)
{
    struct kv_context *context = migrate->context;
    struct job *slot = free_slot(migrate, urgent);
    shard_id begin = migrate->next_shard;

    for (uint32_t i = 0; i < migrate->n_shards && slot != NULL; i++) {
        shard_id id = (begin + i) % migrate->n_shards;
        const struct shard_transition *head = shard_head(kv_sm_shard(context->sm, id));

        if (head == NULL || head->kind != SHARD_RECEIVE || find_job(migrate, id) != NULL ||
            is_urgent(migrate, id) != urgent) {
            continue;
        }
        if (!backoff_is_over(&migrate->attempts[id].backoff, context->now_ms)) {
            if (migrate->attempts[id].backoff.until_ms < migrate->due_ms) {
                migrate->due_ms = migrate->attempts[id].backoff.until_ms;
            }
        } else {
            uint32_t source = source_of(migrate, id);

            if (source != 0) {
                job_begin(slot, id, source);
                slot->is_extra = slots_in_use(migrate) > migrate->options.max_copies;
                migrate->next_shard = (id + 1) % migrate->n_shards;
                slot = free_slot(migrate, urgent);
            }
        }
    }
}

static void find_work(struct migrate *migrate)
{
    migrate->seen_changes = kv_sm_changes(migrate->context->sm);
    migrate->due_ms = UINT64_MAX;
    begin_some(migrate, true);
    if (!migrate_is_paused(migrate)) {
        begin_some(migrate, false);
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
    for (uint32_t i = 0; i < migrate->n_slots; i++) {
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
    copy_pace_follow(&migrate->pace, migrate->context->load,
                     strain_percent(&migrate->context->strain), migrate->context->now_ms);
    migrate->stats.yielding_per_s = migrate->pace.yielding_per_s;
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

    if (migrate->n_shards == 0 || !group_is_ready(migrate->context->group)) {
        return UINT64_MAX;
    }
    for (uint32_t i = 0; i < migrate->n_slots; i++) {
        uint64_t until_ms = pull_counts_until_ms(&migrate->jobs[i]);
        uint64_t pace_ms = job_due_ms(&migrate->jobs[i]);

        if (pace_ms > now_ms && pace_ms < due_ms) {
            due_ms = pace_ms;
        }
        if (until_ms > now_ms && until_ms < due_ms) {
            due_ms = until_ms;
        }
    }
    return is_due(migrate) ? now_ms : due_ms;
}

/* ---- What others want to know ---- */

bool migrate_is_nearly_here(const struct migrate *migrate, shard_id id)
{
    const struct job *job = find_job(migrate, id);

    return job != NULL && !job->failed && job_is_current(job) &&
           (job->ended || kv_piece_is_in_rounds(buf_slice(&job->cursor)));
}

bool migrate_takes_writes(const struct migrate *migrate, shard_id id)
{
    const struct job *job = find_job(migrate, id);

    return job != NULL && !job->failed && job->takes_writes && job->n_proposals > 0 &&
           job_is_current(job);
}

void migrate_progress(const struct migrate *migrate, shard_id id, struct migrate_progress *progress)
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
    } else if (job->piece > 0 && !migrate_is_paused(migrate)) {
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
