/* report: see report.h. */
#include "shardkv/report.h"

#include "client/serve.h"
#include "raft/util/assert.h"
#include "raft/util/mem.h"

#define REPORT_TIMEOUT_MS 2000
#define REPORT_RETRY_MS   1000

struct report {
    struct kv_context *context;
    raft_term term; /* what was last reported and taken, or is being reported; 0: nothing */
    raft_index index;
    config_num known_at; /* the controller's number when it took it */
    /* Configurations of the group and of the cluster that were compared, and say the same. */
    raft_index agreed_index;
    config_num agreed_num;
    bool is_asking;
    uint64_t due_ms;
};

struct report *report_create(struct kv_context *context)
{
    struct report *report = mem_zalloc(sizeof(*report));

    report->context = context;
    return report;
}

void report_destroy(struct report **report)
{
    mem_free(*report);
    *report = NULL;
}

/* What this group is listed with, as far as it has adopted the configurations; NULL: not at all. */
static const struct spec *listed_replicas(const struct report *report)
{
    const struct shard_config *config = kv_sm_config(report->context->sm);
    const struct config_group *self =
        config == NULL ? NULL : shard_config_find(config, kv_sm_gid(report->context->sm));

    return self == NULL ? NULL : &self->replicas;
}

/* Whether there is something to tell; what, if so. The configuration at (term, index) was told once
 * and is told again only if a later configuration lists something else after all: the group left
 * and came back under other replicas. */
static bool has_news(struct report *report, struct spec *voters)
{
    const struct kv_context *context = report->context;
    const struct raft *raft = group_raft(context->group);
    config_num adopted = kv_sm_meta(context->sm)->adopted;
    const struct spec *listed;

    if (!group_is_ready(context->group) || adopted == 0 ||
        (report->agreed_num == adopted && report->agreed_index == raft_configuration_index(raft))) {
        return false;
    }
    listed = listed_replicas(report);
    if (listed == NULL || !serve_voters(context->group, voters)) {
        return false;
    }
    if (spec_equal(listed, voters)) {
        report->agreed_num = adopted;
        report->agreed_index = raft_configuration_index(raft);
        return false;
    }
    return report->term != raft_current_term(raft) ||
           report->index != raft_configuration_index(raft) || adopted > report->known_at;
}

static void on_answer(void *context, enum status status, config_num num, const char *text)
{
    struct report *report = context;

    ASSERT(report->is_asking);
    report->is_asking = false;
    report->due_ms = report->context->now_ms + REPORT_RETRY_MS;
    if (status != ST_OK) {
        trace_warn(report->context->trace, "replicas not reported status=%s reason=\"%s\"",
                   status_name(status), text);
        report->term = 0;
        return;
    }
    report->known_at = num;
}

void report_step(struct report *report)
{
    struct kv_context *context = report->context;
    const struct raft *raft = group_raft(context->group);
    struct spec voters;

    if (report->is_asking || context->now_ms < report->due_ms || !has_news(report, &voters)) {
        return;
    }
    report->is_asking = true;
    report->term = raft_current_term(raft);
    report->index = raft_configuration_index(raft);
    ctrler_clerk_report(context->clerk, kv_sm_gid(context->sm),
                        kv_sm_meta(context->sm)->incarnation, report->term, report->index, &voters,
                        context->now_ms, context->now_ms + REPORT_TIMEOUT_MS, on_answer, report);
}

uint64_t report_next_deadline_ms(struct report *report)
{
    struct spec voters;

    return !report->is_asking && has_news(report, &voters) ? report->due_ms : UINT64_MAX;
}
