/* config_watch: see config_watch.h. One question or one proposal is outstanding at a time. */
#include "shardkv/config_watch.h"

#include "raft/util/assert.h"
#include "raft/util/mem.h"

#define QUERY_TIMEOUT_MS 2000

enum watch_state { WATCH_IDLE, WATCH_ASKING, WATCH_PROPOSING };

/* What the outstanding question is for. */
enum watch_purpose {
    WATCH_INIT,        /* the cluster's id and number of shards */
    WATCH_FIND_JOIN,   /* the latest: when did this group join? */
    WATCH_LOOK_BEHIND, /* the one before `begin`: was the group known already? */
    WATCH_BEGIN,       /* `begin` itself */
    WATCH_NEXT         /* the one after the adopted one */
};

struct config_watch {
    struct kv_context *context;
    uint32_t poll_ms;
    enum watch_state state;
    enum watch_purpose purpose;
    config_num begin; /* where a new group may begin; 0: not known */
    bool looked_behind;
    bool refused;
    raft_term term; /* that this replica last led in */
    uint64_t due_ms;
};

struct config_watch *config_watch_create(struct kv_context *context, uint32_t poll_ms)
{
    struct config_watch *watch = mem_zalloc(sizeof(*watch));

    ASSERT(poll_ms > 0);
    watch->context = context;
    watch->poll_ms = poll_ms;
    return watch;
}

void config_watch_destroy(struct config_watch **watch)
{
    mem_free(*watch);
    *watch = NULL;
}

bool config_watch_is_refused(const struct config_watch *watch)
{
    return watch->refused;
}

uint64_t config_watch_next_deadline_ms(const struct config_watch *watch)
{
    bool waits = watch->state == WATCH_IDLE && group_is_ready(watch->context->group);

    return waits ? watch->due_ms : UINT64_MAX;
}

static void idle_until(struct config_watch *watch, uint64_t due_ms)
{
    watch->state = WATCH_IDLE;
    watch->due_ms = due_ms;
}

static void wait_for_news(struct config_watch *watch)
{
    idle_until(watch, watch->context->now_ms + watch->poll_ms);
}

static void ask_on(struct config_watch *watch)
{
    idle_until(watch, watch->context->now_ms);
}

/* ---- Proposing ---- */

static void on_proposed(void *context, enum status status, struct slice result)
{
    struct config_watch *watch = context;

    ASSERT(watch->state == WATCH_PROPOSING);
    status = kv_context_outcome(status, result);
    if (status == ST_OK) {
        watch->begin = 0;
        ask_on(watch);
    } else {
        wait_for_news(watch);
    }
}

static void propose_init(struct config_watch *watch, const struct shard_config *config)
{
    struct kv_command command = {.kind = KV_COMMAND_INIT};

    command.init.incarnation = rng_next(&watch->context->rng) | 1; /* 0 means unknown */
    command.init.n_shards = config->n_shards;
    memcpy(command.init.cluster_id, config->cluster_id, sizeof(command.init.cluster_id));
    watch->state = WATCH_PROPOSING;
    kv_context_propose(watch->context, &command, on_proposed, watch);
}

static void propose_config(struct config_watch *watch, const struct shard_config *config)
{
    struct kv_command command = {.kind = KV_COMMAND_CONFIG};
    struct buf encoded = {0};

    shard_config_encode(config, &encoded);
    command.config = buf_slice(&encoded);
    watch->state = WATCH_PROPOSING;
    kv_context_propose(watch->context, &command, on_proposed, watch);
    buf_fini(&encoded);
}

/* ---- Answers ---- */

static void found_join(struct config_watch *watch, const struct config_group *self)
{
    if (self == NULL || self->joined_at == 0) {
        wait_for_news(watch); /* not joined yet */
        return;
    }
    watch->begin = self->joined_at;
    watch->looked_behind = self->joined_at == 1;
    ask_on(watch);
}

/* An earlier group under this gid, on other disks, is another group: what it was to do is not ours,
 * and the controller let the gid go only when nobody waited for it any more. */
static bool is_this_group(const struct config_watch *watch, const struct config_group *self)
{
    return self->incarnation == 0 ||
           self->incarnation == kv_sm_meta(watch->context->sm)->incarnation;
}

static void looked_behind(struct config_watch *watch, const struct config_group *self)
{
    if (self != NULL && self->joined_at != 0 && self->joined_at < watch->begin &&
        is_this_group(watch, self)) {
        watch->begin = self->joined_at;
        watch->looked_behind = self->joined_at == 1;
    } else {
        watch->looked_behind = true;
    }
    ask_on(watch);
}

static void use_answer(struct config_watch *watch, const struct shard_config *config)
{
    const struct config_group *self = shard_config_find(config, kv_sm_gid(watch->context->sm));
    config_num next = kv_sm_meta(watch->context->sm)->adopted + 1;

    switch (watch->purpose) {
    case WATCH_INIT:
        propose_init(watch, config);
        return;
    case WATCH_FIND_JOIN:
        found_join(watch, self);
        return;
    case WATCH_LOOK_BEHIND:
        looked_behind(watch, self);
        return;
    case WATCH_BEGIN:
        next = watch->begin;
        break;
    case WATCH_NEXT:
        break;
    }
    if (config->num == next) {
        propose_config(watch, config);
    } else {
        wait_for_news(watch); /* there is none above the latest */
    }
}

static void on_answer(void *context, enum status status, const struct shard_config *config)
{
    struct config_watch *watch = context;

    ASSERT(watch->state == WATCH_ASKING);
    /* A gid is never taken by another incarnation: fresh disks under an old gid are refused. */
    if (status == ST_CONFLICT) {
        if (!watch->refused) {
            trace_error(watch->context->trace,
                        "the controller knows another incarnation of this group: not serving");
        }
        watch->refused = true;
    } else if (status == ST_OK) {
        watch->refused = false;
    }
    if (status == ST_OK && group_is_ready(watch->context->group)) {
        use_answer(watch, config);
    } else {
        wait_for_news(watch);
    }
}

/* ---- Questions ---- */

static config_num next_question(struct config_watch *watch)
{
    const struct kv_meta *meta = kv_sm_meta(watch->context->sm);

    if (!meta->is_init) {
        watch->purpose = WATCH_INIT;
        return CONFIG_LATEST;
    }
    if (meta->adopted != 0) {
        watch->purpose = WATCH_NEXT;
        return meta->adopted + 1;
    }
    if (watch->begin == 0) {
        watch->purpose = WATCH_FIND_JOIN;
        return CONFIG_LATEST;
    }
    watch->purpose = watch->looked_behind ? WATCH_BEGIN : WATCH_LOOK_BEHIND;
    return watch->looked_behind ? watch->begin : watch->begin - 1;
}

/* A leader goes on with the controllers that the one before it knew of: those that this process was
 * started with may be gone. */
static void follow_controllers(const struct config_watch *watch)
{
    const struct shard_config *config = kv_sm_config(watch->context->sm);

    if (config != NULL && config->ctrlers.n > 0) {
        ctrler_clerk_follow(watch->context->clerk, &config->ctrlers);
    }
}

void config_watch_step(struct config_watch *watch)
{
    struct kv_context *context = watch->context;
    const struct kv_meta *meta = kv_sm_meta(context->sm);
    config_num num;

    if (watch->state != WATCH_IDLE || context->now_ms < watch->due_ms ||
        !group_is_ready(context->group)) {
        return;
    }
    if (watch->term != raft_current_term(group_raft(context->group))) {
        watch->term = raft_current_term(group_raft(context->group));
        follow_controllers(watch);
    }
    num = next_question(watch);
    watch->state = WATCH_ASKING;
    /* Without an incarnation yet, only an anonymous question can be asked. */
    ctrler_clerk_query(context->clerk, num, meta->is_init ? kv_sm_gid(context->sm) : 0,
                       meta->incarnation, context->now_ms, context->now_ms + QUERY_TIMEOUT_MS,
                       on_answer, watch);
}
