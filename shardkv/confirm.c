/* confirm: see confirm.h. */
#include "shardkv/confirm.h"

#include "raft/util/assert.h"
#include "raft/util/mem.h"

#define CONFIRM_BATCH      1024
#define CONFIRM_TIMEOUT_MS 2000
#define CONFIRM_RETRY_MS   1000

struct confirm {
    struct kv_context *context;
    config_num *accepted; /* by shard: the epoch that the controller has accepted */
    uint32_t n_shards;
    raft_term term;        /* in which `accepted` was built up */
    uint64_t seen_changes; /* of the state machine: nothing new before it moves */
    bool all_reported;
    bool is_asking;
    uint64_t due_ms;
    uint32_t n_batch;
    struct proto_confirm batch[CONFIRM_BATCH];
};

struct confirm *confirm_create(struct kv_context *context)
{
    struct confirm *confirm = mem_zalloc(sizeof(*confirm));

    confirm->context = context;
    return confirm;
}

void confirm_destroy(struct confirm **confirm)
{
    if (*confirm != NULL) {
        mem_free((*confirm)->accepted);
        mem_free(*confirm);
        *confirm = NULL;
    }
}

/* What an earlier leader reported is not known here: begin anew. */
static void begin_term(struct confirm *confirm)
{
    raft_term term = raft_current_term(group_raft(confirm->context->group));
    uint32_t n_shards = kv_sm_meta(confirm->context->sm)->n_shards;

    if (confirm->term == term && confirm->n_shards == n_shards) {
        return;
    }
    mem_free(confirm->accepted);
    confirm->accepted = mem_zalloc(n_shards * sizeof(confirm->accepted[0]));
    confirm->n_shards = n_shards;
    confirm->term = term;
    confirm->all_reported = false;
    confirm->due_ms = 0;
}

static void collect_batch(struct confirm *confirm)
{
    confirm->n_batch = 0;
    for (shard_id id = 0; id < confirm->n_shards && confirm->n_batch < CONFIRM_BATCH; id++) {
        const struct shard *shard = kv_sm_shard(confirm->context->sm, id);

        if (shard->state != SHARD_ABSENT && shard->epoch != confirm->accepted[id]) {
            confirm->batch[confirm->n_batch++] = (struct proto_confirm){id, shard->epoch};
        }
    }
}

static void on_answer(void *context, enum status status, config_num num, const char *text)
{
    struct confirm *confirm = context;

    (void)num;
    (void)text;
    ASSERT(confirm->is_asking);
    confirm->is_asking = false;
    if (status != ST_OK) {
        confirm->due_ms = confirm->context->now_ms + CONFIRM_RETRY_MS;
        return;
    }
    for (uint32_t i = 0; i < confirm->n_batch; i++) {
        if (confirm->batch[i].shard < confirm->n_shards) {
            confirm->accepted[confirm->batch[i].shard] = confirm->batch[i].epoch;
        }
    }
}

static bool has_news(const struct confirm *confirm)
{
    return !confirm->all_reported || confirm->seen_changes != kv_sm_changes(confirm->context->sm) ||
           confirm->term != raft_current_term(group_raft(confirm->context->group));
}

void confirm_step(struct confirm *confirm)
{
    struct kv_context *context = confirm->context;
    const struct kv_meta *meta = kv_sm_meta(context->sm);

    if (confirm->is_asking || context->now_ms < confirm->due_ms || !meta->is_init ||
        !group_is_ready(context->group) || !has_news(confirm)) {
        return;
    }
    begin_term(confirm);
    collect_batch(confirm);
    confirm->seen_changes = kv_sm_changes(context->sm);
    confirm->all_reported = confirm->n_batch == 0;
    if (confirm->n_batch > 0) {
        confirm->is_asking = true;
        ctrler_clerk_confirm(context->clerk, kv_sm_gid(context->sm), meta->incarnation,
                             confirm->batch, confirm->n_batch, context->now_ms,
                             context->now_ms + CONFIRM_TIMEOUT_MS, on_answer, confirm);
    }
}

uint64_t confirm_next_deadline_ms(const struct confirm *confirm)
{
    bool waits = !confirm->is_asking && group_is_ready(confirm->context->group) &&
                 kv_sm_meta(confirm->context->sm)->is_init && has_news(confirm);

    return waits ? confirm->due_ms : UINT64_MAX;
}
