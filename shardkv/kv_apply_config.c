/* kv_apply_config: a group adopts a configuration. Each shard takes note of what the configuration
 * asks of it and goes its own way from there (shardkv/shard.h): adopting waits for nothing. */
#include "raft/util/assert.h"
#include "raft/util/mem.h"
#include "shardkv/kv_sm_internal.h"

static struct shard_change change_of(const struct kv_sm *sm, const struct shard_config *config,
                                     shard_id id)
{
    return (struct shard_change){.num = config->num,
                                 .me = sm->options.gid,
                                 .owner = config->shards[id],
                                 .from = config->from[id]};
}

/* The next one, or for a new group the one of its join. */
static bool is_next(const struct kv_sm *sm, const struct shard_config *config)
{
    const struct config_group *self = shard_config_find(config, sm->options.gid);

    if (sm->meta.adopted != 0) {
        return config->num == sm->meta.adopted + 1;
    }
    return self != NULL && self->joined_at == config->num && config->num != 0;
}

/* Whether the configuration is of this cluster, of this very group, and fits what every shard went
 * through; the text says why not. */
static const char *refusal(const struct kv_sm *sm, const struct shard_config *config)
{
    const struct config_group *self = shard_config_find(config, sm->options.gid);

    if (memcmp(config->cluster_id, sm->meta.cluster_id, sizeof(config->cluster_id)) != 0) {
        return "it is of another cluster";
    }
    if (config->n_shards != sm->meta.n_shards) {
        return "it has another number of shards";
    }
    /* A gid is never taken over by another incarnation (design 7). */
    if (self != NULL && self->incarnation != 0 && self->incarnation != sm->meta.incarnation) {
        return "its group of this gid is another incarnation";
    }
    for (shard_id id = 0; id < config->n_shards; id++) {
        struct shard_change change = change_of(sm, config, id);

        if (!shard_can_adopt(&sm->shards[id].life, &change)) {
            return "it does not fit the history of a shard";
        }
    }
    return NULL;
}

static void adopt_shards(struct kv_sm *sm, const struct shard_config *config)
{
    for (shard_id id = 0; id < config->n_shards; id++) {
        struct shard_change change = change_of(sm, config, id);
        struct shard_effect effect;

        shard_adopt(&sm->shards[id].life, &change, &sm->meta.next_range, &effect);
        kv_sm_carry_out(sm, id, &effect);
    }
}

/* ---- Known groups ---- */

static void learn_groups(struct kv_sm *sm, const struct shard_config *config)
{
    for (size_t i = 0; i < config->n_groups; i++) {
        const struct config_group *group = &config->groups[i];
        const struct spec *known = kv_sm_find_group(sm, group->gid);

        if (known == NULL || !spec_equal(known, &group->replicas)) {
            kv_sm_put_group(sm, group->gid, &group->replicas);
        }
    }
}

static bool shard_needs_group(const struct shard *shard, uint32_t gid)
{
    for (size_t i = 0; i < shard->n_queue; i++) {
        if (shard->queue[i].gid == gid) {
            return true;
        }
    }
    for (size_t i = 0; i < shard->n_releases; i++) {
        if (shard->releases[i].gid == gid) {
            return true;
        }
    }
    return false;
}

static bool group_is_needed(const struct kv_sm *sm, uint32_t gid)
{
    for (shard_id id = 0; id < sm->meta.n_shards; id++) {
        if (shard_needs_group(&sm->shards[id].life, gid)) {
            return true;
        }
    }
    return false;
}

/* A group that has left the configurations is remembered while a shard comes from it, goes to it,
 * or waits to be released there. */
static void forget_groups(struct kv_sm *sm, const struct shard_config *config)
{
    for (size_t i = sm->n_groups; i-- > 0;) {
        uint32_t gid = sm->groups[i].gid;

        if (shard_config_find(config, gid) == NULL && !group_is_needed(sm, gid)) {
            kv_sm_remove_group(sm, i);
        }
    }
}

/* ---- Adopting ---- */

static enum status check(struct kv_sm *sm, const struct shard_config *config)
{
    const char *why;

    if (!is_next(sm, config)) {
        return ST_DUPLICATE;
    }
    why = refusal(sm, config);
    if (why != NULL) {
        trace_error(sm->options.trace, "configuration refused: %s num=%llu", why,
                    (unsigned long long)config->num);
        return ST_CONFLICT;
    }
    return ST_OK;
}

static void adopt(struct kv_sm *sm, struct slice encoded, const struct shard_config *config)
{
    struct io_state *state = sm->options.state;

    ASSERT(config->num > sm->meta.adopted);
    adopt_shards(sm, config);
    learn_groups(sm, config);
    forget_groups(sm, config);
    state->ops->put(state, (struct io_key){0, KV_ROOT_CONFIG, {NULL, 0}}, encoded);
    sm->meta.adopted = config->num;
    kv_sm_write_meta(sm);
    sm->changes++;
    trace_info(sm->options.trace, "configuration adopted num=%llu",
               (unsigned long long)config->num);
}

enum status kv_apply_config(struct kv_sm *sm, struct slice encoded)
{
    struct shard_config config = {0};
    struct reader reader = reader_of(encoded);
    enum status status = ST_INVALID;

    if (!sm->meta.is_init || !shard_config_decode(&reader, &config)) {
        return status;
    }
    status = reader_done(&reader) ? check(sm, &config) : ST_INVALID;
    if (status == ST_OK) {
        adopt(sm, encoded, &config);
        shard_config_fini(&sm->config);
        sm->config = config;
        sm->has_config = true;
        return status;
    }
    shard_config_fini(&config);
    return status;
}
