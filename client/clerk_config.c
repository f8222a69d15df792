/* The clerk's knowledge of the shard configuration: one query at a time, shared by all operations,
 * and not more often than makes sense. */
#include "client/clerk_private.h"

#include <stdio.h>

#include "raft/util/assert.h"
#include "raft/util/mem.h"

#define QUERY_DEADLINE_MS 1500

static void pause_refreshes(struct clerk *clerk, uint64_t now_ms, bool learned)
{
    const struct caller_options *options = &clerk->options.caller;
    uint32_t doubled = 2 * clerk->refresh_pause_ms;

    if (learned || clerk->refresh_pause_ms == 0) {
        clerk->refresh_pause_ms = options->backoff_min_ms;
    } else {
        clerk->refresh_pause_ms =
            doubled < options->backoff_max_ms ? doubled : options->backoff_max_ms;
    }
    clerk->refresh_at_ms = now_ms + clerk->refresh_pause_ms;
}

static void take_config(struct clerk *clerk, const struct shard_config *config)
{
    if (clerk->config.n_shards != config->n_shards) {
        mem_free(clerk->held_by);
        clerk->held_by = mem_zalloc(config->n_shards * sizeof(clerk->held_by[0]));
    }
    shard_config_fini(&clerk->config);
    shard_config_copy(&clerk->config, config);
}

static void query_done(void *context, enum status status, const struct shard_config *config)
{
    struct clerk *clerk = context;
    uint64_t now_ms = clerk->now_ms;
    bool newer;

    ASSERT(clerk->refreshing);
    clerk->refreshing = false;
    if (clerk->closing) {
        return;
    }
    if (status != ST_OK) {
        snprintf(clerk->ctrler_reason, sizeof(clerk->ctrler_reason), "controller: %s",
                 ctrler_clerk_reason(clerk->ctrler));
        pause_refreshes(clerk, now_ms, false);
        return;
    }
    clerk->ctrler_reason[0] = '\0';
    clerk->refresh_wanted = false;
    newer = clerk->config.n_shards == 0 || config->num > clerk->config.num;
    pause_refreshes(clerk, now_ms, newer);
    if (newer) {
        take_config(clerk, config);
    }
    clerk_call_config_changed(clerk, now_ms);
}

static void start_query(struct clerk *clerk, uint64_t now_ms)
{
    ASSERT(!clerk->refreshing);
    clerk->refreshing = true;
    ctrler_clerk_query(clerk->ctrler, CONFIG_LATEST, 0, 0, now_ms, now_ms + QUERY_DEADLINE_MS,
                       query_done, clerk);
}

void clerk_config_refresh(struct clerk *clerk, uint64_t now_ms)
{
    clerk->refresh_wanted = true;
    clerk_config_tick(clerk, now_ms);
}

void clerk_config_tick(struct clerk *clerk, uint64_t now_ms)
{
    if (clerk->n_operations == 0 && clerk->config.n_shards != 0) {
        clerk->refresh_wanted = false; /* nobody waits for it any more */
    }
    if (clerk->refresh_wanted && !clerk->refreshing && !clerk->closing &&
        now_ms >= clerk->refresh_at_ms) {
        start_query(clerk, now_ms);
    }
}

void clerk_config_heard(struct clerk *clerk, uint64_t now_ms)
{
    config_num heard = caller_config_heard(clerk->caller);

    if (clerk->config.n_shards != 0 && heard > clerk->config.num && heard > clerk->heard) {
        clerk->heard = heard;
        clerk_config_refresh(clerk, now_ms);
    }
}

uint64_t clerk_config_next_ms(const struct clerk *clerk)
{
    return clerk->refresh_wanted && !clerk->refreshing ? clerk->refresh_at_ms : UINT64_MAX;
}
