/* release: see release.h. Like migrate: fixed slots, a back-off for each shard. */
#include "shardkv/release.h"

#include "raft/util/assert.h"
#include "raft/util/mem.h"
#include "shardkv/backoff.h"

#define RELEASE_SLOTS      32
#define RELEASE_TIMEOUT_MS 2000

struct slot {
    struct release *release;
    bool in_use;
    bool is_calling;
    bool is_proposing;
    shard_id shard;
    config_num num;
};

struct release {
    struct kv_context *context;
    struct slot slots[RELEASE_SLOTS];
    struct backoff *backoffs;
    uint32_t n_shards;
    shard_id next_shard;
    uint64_t due_ms;
    uint64_t seen_changes;
    bool slot_was_freed;
};

struct release *release_create(struct kv_context *context)
{
    struct release *release = mem_zalloc(sizeof(*release));

    release->context = context;
    for (size_t i = 0; i < RELEASE_SLOTS; i++) {
        release->slots[i].release = release;
    }
    return release;
}

void release_destroy(struct release **release)
{
    if (*release != NULL) {
        mem_free((*release)->backoffs);
        mem_free(*release);
        *release = NULL;
    }
}

static void slot_free(struct slot *slot)
{
    struct release *release = slot->release;

    ASSERT(slot->in_use && !slot->is_calling && !slot->is_proposing);
    *slot = (struct slot){.release = release};
    release->slot_was_freed = true;
}

static void on_applied(void *context, enum status status, struct slice result)
{
    struct slot *slot = context;

    (void)result;
    ASSERT(slot->is_proposing);
    slot->is_proposing = false;
    if (status != ST_OK) {
        backoff_fail(&slot->release->backoffs[slot->shard], slot->release->context->now_ms);
    }
    slot_free(slot);
}

static void on_answer(void *context, const struct caller_end *end)
{
    struct slot *slot = context;
    struct kv_context *kv = slot->release->context;
    struct kv_command command = {
        .kind = KV_COMMAND_RELEASED, .shard = slot->shard, .num = slot->num};

    ASSERT(slot->is_calling);
    slot->is_calling = false;
    if (end->status == ST_OK && group_is_ready(kv->group)) {
        backoff_succeed(&slot->release->backoffs[slot->shard]);
        slot->is_proposing = true;
        kv_context_propose(kv, &command, on_applied, slot);
        return;
    }
    backoff_fail(&slot->release->backoffs[slot->shard], kv->now_ms);
    slot_free(slot);
}

static void slot_call(struct slot *slot, shard_id id, const struct shard_release *pending)
{
    struct kv_context *kv = slot->release->context;
    const struct spec *replicas = kv_sm_find_group(kv->sm, pending->gid);
    struct caller_target target = {.gid = pending->gid};
    struct proto_request request = {.op = PROTO_SHARD_RELEASE};

    ASSERT(replicas != NULL && !slot->in_use);
    target.replicas = *replicas;
    slot->in_use = true;
    slot->is_calling = true;
    slot->shard = id;
    slot->num = pending->num;
    request.shard_release.shard = id;
    request.shard_release.num = pending->num;
    request.shard_release.to = kv_sm_gid(kv->sm);
    /* Repeating it does no harm: it is idempotent by (shard, configuration). */
    caller_start(kv->caller, &target, &request, true, kv->now_ms, kv->now_ms + RELEASE_TIMEOUT_MS,
                 on_answer, slot);
}

/* A shard's releases take turns: one dead source does not keep the others waiting. */
static const struct shard_release *release_of(const struct release *release, shard_id id)
{
    const struct shard *shard = kv_sm_shard(release->context->sm, id);

    if (shard->n_releases == 0) {
        return NULL;
    }
    for (size_t i = 0; i < RELEASE_SLOTS; i++) {
        if (release->slots[i].in_use && release->slots[i].shard == id) {
            return NULL;
        }
    }
    return &shard->releases[release->backoffs[id].failures % shard->n_releases];
}

static struct slot *free_slot(struct release *release)
{
    for (size_t i = 0; i < RELEASE_SLOTS; i++) {
        if (!release->slots[i].in_use) {
            return &release->slots[i];
        }
    }
    return NULL;
}

static void find_work(struct release *release)
{
    uint64_t now_ms = release->context->now_ms;
    struct slot *slot = free_slot(release);
    shard_id begin = release->next_shard;

    release->seen_changes = kv_sm_changes(release->context->sm);
    release->due_ms = UINT64_MAX;
    for (uint32_t i = 0; i < release->n_shards && slot != NULL; i++) {
        shard_id id = (begin + i) % release->n_shards;
        const struct shard_release *pending = release_of(release, id);

        if (pending == NULL) {
            continue;
        }
        if (backoff_is_over(&release->backoffs[id], now_ms)) {
            slot_call(slot, id, pending);
            release->next_shard = (id + 1) % release->n_shards;
            slot = free_slot(release);
        } else if (release->backoffs[id].until_ms < release->due_ms) {
            release->due_ms = release->backoffs[id].until_ms;
        }
    }
}

static void fit_shards(struct release *release)
{
    uint32_t n_shards = kv_sm_meta(release->context->sm)->n_shards;

    if (release->n_shards != n_shards) {
        ASSERT(release->n_shards == 0);
        release->backoffs = mem_zalloc(n_shards * sizeof(release->backoffs[0]));
        release->n_shards = n_shards;
    }
}

static bool is_due(const struct release *release)
{
    return release->slot_was_freed || release->context->now_ms >= release->due_ms ||
           release->seen_changes != kv_sm_changes(release->context->sm);
}

void release_step(struct release *release)
{
    fit_shards(release);
    if (release->n_shards > 0 && group_is_ready(release->context->group) && is_due(release)) {
        release->slot_was_freed = false;
        find_work(release);
    }
}

uint64_t release_next_deadline_ms(const struct release *release)
{
    if (release->n_shards == 0 || !group_is_ready(release->context->group)) {
        return UINT64_MAX;
    }
    return is_due(release) ? release->context->now_ms : release->due_ms;
}
