/* ctrler_sm: the commands, and the questions one may ask. What a change makes of a configuration is
 * config_change's; how configurations are kept is config_history's; who holds what is
 * shard_owners'; the records of the state are ctrler_sm_state's. Here they meet the sessions and
 * the commands of the log.
 */
#include "raft/util/assert.h"
#include "raft/util/mem.h"
#include "shardctrler/config_change.h"
#include "shardctrler/ctrler_sm_private.h"

void ctrler_sm_destroy(struct ctrler_sm **sm)
{
    if (*sm == NULL) {
        return;
    }
    ctrler_sm_clear_cache(*sm);
    buf_fini(&(*sm)->latest_bytes);
    buf_fini(&(*sm)->query_bytes);
    session_table_destroy(&(*sm)->sessions);
    mem_free(*sm);
    *sm = NULL;
}

bool ctrler_sm_is_initialized(const struct ctrler_sm *sm)
{
    return sm->latest.n_shards != 0;
}

const struct shard_config *ctrler_sm_latest(const struct ctrler_sm *sm)
{
    return &sm->latest;
}

enum ctrler_identity ctrler_sm_identify(const struct ctrler_sm *sm, uint32_t gid,
                                        uint64_t incarnation)
{
    const struct config_group *group = shard_config_find(&sm->latest, gid);

    if (group == NULL) {
        return CTRLER_IDENTITY_STRANGER;
    }
    if (group->incarnation == 0) {
        return CTRLER_IDENTITY_NEW;
    }
    return group->incarnation == incarnation ? CTRLER_IDENTITY_KNOWN : CTRLER_IDENTITY_OTHER;
}

void ctrler_sm_owner(const struct ctrler_sm *sm, shard_id shard, uint32_t *gid, config_num *epoch)
{
    ASSERT(shard < sm->owners.n_shards);
    *gid = sm->owners.shards[shard].gid;
    *epoch = sm->owners.shards[shard].epoch;
}

uint32_t ctrler_sm_session_count(const struct ctrler_sm *sm)
{
    return session_count(sm->sessions);
}

/* ---- Commands ---- */

static struct ctrler_result refusal(const struct ctrler_sm *sm, enum status status,
                                    enum ctrler_reason reason, uint32_t a, uint32_t b)
{
    ASSERT(status != ST_OK);
    return (struct ctrler_result){
        .status = status, .num = sm->latest.num, .reason = reason, .a = a, .b = b};
}

static struct ctrler_result done(const struct ctrler_sm *sm)
{
    return (struct ctrler_result){.status = ST_OK, .num = sm->latest.num};
}

/* The cluster begins: its id and number of shards for good, and configuration 0. */
static struct ctrler_result apply_init(struct ctrler_sm *sm, const struct ctrler_command *command)
{
    if (ctrler_sm_is_initialized(sm)) {
        return refusal(sm, ST_EXISTS, CTRLER_REASON_INITIALIZED, sm->latest.n_shards, 0);
    }
    if (!shard_count_is_valid(command->n_shards)) {
        return refusal(sm, ST_INVALID, CTRLER_REASON_BAD_SHARD_COUNT, command->n_shards, 0);
    }
    shard_config_init(&sm->latest, command->n_shards);
    memcpy(sm->latest.cluster_id, command->cluster_id, sizeof(sm->latest.cluster_id));
    shard_owners_init(&sm->owners, command->n_shards);
    config_history_put(&sm->history, NULL, &sm->latest);
    ctrler_sm_write_cluster(sm);
    trace_info(sm->trace, "cluster initialized shards=%u", sm->latest.n_shards);
    return done(sm);
}

/* Makes `next` the latest, and takes it over. Every shard that moves becomes a claim. */
static void install_config(struct ctrler_sm *sm, struct shard_config *next)
{
    uint32_t moved = 0;

    ASSERT(next->num == sm->latest.num + 1);
    config_history_put(&sm->history, &sm->latest, next);
    for (uint32_t s = 0; s < next->n_shards; s++) {
        if (next->shards[s] != 0 && next->shards[s] != next->from[s]) {
            shard_owners_claim(&sm->owners, s, next->shards[s], next->num);
            ctrler_sm_write_owner(sm, s);
            moved++;
        }
    }
    shard_config_fini(&sm->latest);
    sm->latest = *next;
    *next = (struct shard_config){0};
    buf_clear(&sm->latest_bytes);
    ctrler_sm_write_cluster(sm);
    trace_info(sm->trace, "new configuration num=%llu groups=%zu moves=%u paused=%d",
               (unsigned long long)sm->latest.num, sm->latest.n_groups, moved,
               sm->latest.moves_paused);
}

static struct ctrler_result apply_change(struct ctrler_sm *sm, const struct ctrler_command *command)
{
    struct shard_config next;
    struct ctrler_result result;

    if (config_change(&sm->latest, &sm->owners, command, &next, &result)) {
        install_config(sm, &next);
    }
    ASSERT(result.num == sm->latest.num);
    return result;
}

struct ctrler_result ctrler_sm_plan(const struct ctrler_sm *sm,
                                    const struct ctrler_command *command, struct shard_config *next)
{
    struct ctrler_result result;

    *next = (struct shard_config){0};
    if (!ctrler_sm_is_initialized(sm)) {
        return refusal(sm, ST_NOT_READY, CTRLER_REASON_NOT_INITIALIZED, 0, 0);
    }
    if (!config_change(&sm->latest, &sm->owners, command, next, &result) &&
        result.status == ST_OK) {
        shard_config_copy(next, &sm->latest);
    }
    ASSERT((result.status == ST_OK) == (next->shards != NULL));
    return result;
}

/* The group must be listed, and be the one that it was: its incarnation is recorded at the first
 * contact and compared at all later ones. True: it is, and *result is untouched. */
static bool check_group(struct ctrler_sm *sm, uint32_t gid, uint64_t incarnation,
                        struct ctrler_result *result)
{
    if (incarnation == 0) {
        *result = refusal(sm, ST_INVALID, CTRLER_REASON_NO_INCARNATION, gid, 0);
        return false;
    }
    switch (ctrler_sm_identify(sm, gid, incarnation)) {
    case CTRLER_IDENTITY_STRANGER:
        *result = refusal(sm, ST_NO_GROUP, CTRLER_REASON_NOT_KNOWN, gid, 0);
        return false;
    case CTRLER_IDENTITY_OTHER:
        *result = refusal(sm, ST_CONFLICT, CTRLER_REASON_INCARNATION, gid, 0);
        return false;
    case CTRLER_IDENTITY_NEW:
    case CTRLER_IDENTITY_KNOWN:
        return true;
    }
    UNREACHABLE("the identities are listed above");
}

static void bind_group(struct ctrler_sm *sm, uint32_t gid, uint64_t incarnation)
{
    struct config_group *group = (struct config_group *)shard_config_find(&sm->latest, gid);

    ASSERT(group != NULL);
    if (group->incarnation == 0) {
        group->incarnation = incarnation;
        ctrler_sm_write_incarnation(sm, group);
        buf_clear(&sm->latest_bytes);
    }
    ASSERT(group->incarnation == incarnation);
}

static struct ctrler_result apply_bind(struct ctrler_sm *sm, const struct ctrler_command *command)
{
    struct ctrler_result result;

    if (!check_group(sm, command->gid, command->incarnation, &result)) {
        return result;
    }
    bind_group(sm, command->gid, command->incarnation);
    return done(sm);
}

/* All of a group's confirmations must be possible, or none is recorded. */
static bool check_confirms(struct ctrler_sm *sm, const struct ctrler_command *command,
                           struct ctrler_result *result)
{
    for (uint32_t i = 0; i < command->n; i++) {
        const struct proto_confirm *confirm = &command->confirms[i];

        if (confirm->shard >= sm->latest.n_shards) {
            *result = refusal(sm, ST_INVALID, CTRLER_REASON_BAD_SHARD, confirm->shard,
                              sm->latest.n_shards);
            return false;
        }
        if (confirm->epoch > sm->latest.num ||
            shard_owners_judge(&sm->owners, confirm->shard, command->gid, confirm->epoch) ==
                SHARD_CONFIRM_WRONG) {
            *result =
                refusal(sm, ST_CONFLICT, CTRLER_REASON_NEVER_OWNER, command->gid, confirm->shard);
            return false;
        }
    }
    return true;
}

static struct ctrler_result apply_confirm(struct ctrler_sm *sm,
                                          const struct ctrler_command *command)
{
    struct ctrler_result result;

    if (!check_group(sm, command->gid, command->incarnation, &result) ||
        !check_confirms(sm, command, &result)) {
        return result;
    }
    bind_group(sm, command->gid, command->incarnation);
    for (uint32_t i = 0; i < command->n; i++) {
        const struct proto_confirm *confirm = &command->confirms[i];

        /* Judged anew: the same shard may stand twice in one command. */
        if (shard_owners_judge(&sm->owners, confirm->shard, command->gid, confirm->epoch) ==
            SHARD_CONFIRM_NEWS) {
            shard_owners_confirm(&sm->owners, confirm->shard, command->gid, confirm->epoch);
            ctrler_sm_write_owner(sm, confirm->shard);
        }
    }
    return done(sm);
}

/* Reports are ordered by the term of the leader that made them, then by the index of the
 * configuration's entry: a leader of a later term has every configuration that was committed before
 * it, so what an older one says late changes nothing. */
static bool report_is_newer(const struct ctrler_command *command,
                            const struct ctrler_replicas *known)
{
    return command->term > known->term ||
           (command->term == known->term && command->index > known->index);
}

/* The first word about the controller itself is filled in where it is missing, like a group's
 * incarnation: the cluster's first configuration is the first join's. */
static struct ctrler_result note_replicas(struct ctrler_sm *sm,
                                          const struct ctrler_command *command)
{
    if (command->gid != 0 || sm->latest.ctrlers.n != 0) {
        return apply_change(sm, command);
    }
    sm->latest.ctrlers = *command->replicas;
    buf_clear(&sm->latest_bytes);
    return done(sm);
}

static enum status apply_replicas(struct ctrler_sm *sm, const struct ctrler_command *command,
                                  struct ctrler_result *result)
{
    struct ctrler_replicas said;
    config_num joined_at = 0;
    enum status status;

    if (command->gid != 0) {
        if (!check_group(sm, command->gid, command->incarnation, result)) {
            return ST_OK;
        }
        joined_at = shard_config_find(&sm->latest, command->gid)->joined_at;
    }
    *result = done(sm);
    status = ctrler_sm_read_replicas(sm, command->gid, joined_at, &said);
    if (status != ST_OK && status != ST_NOT_FOUND) {
        return status;
    }
    if (!report_is_newer(command, &said)) {
        return ST_OK;
    }
    *result = note_replicas(sm, command);
    if (result->status == ST_OK) {
        /* A group that left and holds nothing any more is forgotten with the change. */
        if (shard_config_find(&sm->latest, command->gid) != NULL) {
            bind_group(sm, command->gid, command->incarnation);
        }
        said = (struct ctrler_replicas){command->term, command->index, *command->replicas};
        ctrler_sm_write_replicas(sm, command->gid, joined_at, &said);
        trace_info(sm->trace, "replicas reported gid=%u n=%zu term=%llu index=%llu",
                   (unsigned)command->gid, command->replicas->n, (unsigned long long)command->term,
                   (unsigned long long)command->index);
    }
    return ST_OK;
}

/* The session rule (raft/rsm.h): a duplicate is answered as before and applied no more; a refusal
 * that is the command's outcome is recorded like any other result. */
static struct ctrler_result apply_in_session(struct ctrler_sm *sm,
                                             const struct ctrler_command *command, uint64_t stamp)
{
    struct ctrler_result result = {0};
    struct slice kept;
    struct buf bytes = {0};

    switch (session_check(sm->sessions, &command->session, &kept)) {
    case SESSION_DUPLICATE:
        if (!ctrler_result_decode(kept, &result)) {
            UNREACHABLE("kept results are written below only");
        }
        return result;
    case SESSION_STALE:
        return refusal(sm, ST_SESSION_STALE, CTRLER_REASON_NONE, 0, 0);
    case SESSION_EXPIRED:
        return refusal(sm, ST_SESSION_EXPIRED, CTRLER_REASON_NONE, 0, 0);
    case SESSION_APPLY:
        break;
    }
    result = apply_change(sm, command);
    ctrler_result_encode(&result, &bytes);
    session_commit(sm->sessions, &command->session, stamp, buf_slice(&bytes));
    buf_fini(&bytes);
    return result;
}

static enum status apply_decoded(struct ctrler_sm *sm, const struct ctrler_command *command,
                                 uint64_t stamp, struct ctrler_result *result)
{
    if (command->kind == CTRLER_INIT) {
        *result = apply_init(sm, command);
        return ST_OK;
    }
    /* Nothing was applied, so no session hears of it: a later try counts as new. */
    if (!ctrler_sm_is_initialized(sm)) {
        *result = refusal(sm, ST_NOT_READY, CTRLER_REASON_NOT_INITIALIZED, 0, 0);
        return ST_OK;
    }
    if (command->kind == CTRLER_REPLICAS) {
        return apply_replicas(sm, command, result);
    }
    if (ctrler_command_has_session(command->kind)) {
        *result = apply_in_session(sm, command, stamp);
    } else {
        *result =
            command->kind == CTRLER_BIND ? apply_bind(sm, command) : apply_confirm(sm, command);
    }
    return ST_OK;
}

static enum status sm_apply(void *service, const struct rsm_command *rsm_command,
                            struct buf *result_bytes)
{
    struct ctrler_sm *sm = service;
    struct ctrler_command command;
    struct ctrler_result result;
    enum status status = ctrler_command_decode(rsm_command->bytes, &command);

    if (status != ST_OK) {
        trace_error(sm->trace, "can't apply a command index=%llu status=%s",
                    (unsigned long long)rsm_command->index, status_name(status));
        return status;
    }
    status = apply_decoded(sm, &command, rsm_command->stamp, &result);
    if (status == ST_OK) {
        ctrler_result_encode(&result, result_bytes);
    }
    ctrler_command_fini(&command);
    return status;
}

/* ---- The service ---- */

static enum status sm_restore(void *service)
{
    struct ctrler_sm *sm = service;
    enum status status;

    ctrler_sm_clear_cache(sm);
    status = ctrler_sm_read_cache(sm);
    if (status == ST_OK) {
        status = session_table_load(sm->sessions);
    }
    if (status != ST_OK) {
        trace_error(sm->trace, "can't restore the controller's state status=%s",
                    status_name(status));
    }
    return status;
}

/* The controller's state is range 0 alone. */
static void sm_ranges(void *service, uint64_t **ranges, size_t *n, size_t *capacity)
{
    (void)service;
    (void)ranges;
    (void)n;
    (void)capacity;
}

static uint64_t sm_stamp_floor(void *service)
{
    const struct ctrler_sm *sm = service;

    return session_floor(sm->sessions) + 1;
}

static void sm_role_changed(void *service, enum raft_role role, raft_term term, raft_id leader)
{
    (void)service;
    (void)role;
    (void)term;
    (void)leader;
}

struct ctrler_sm *ctrler_sm_create(struct io_state *state, const struct trace *trace)
{
    struct ctrler_sm *sm = mem_zalloc(sizeof(*sm));

    sm->service_ops = (struct rsm_service_ops){
        .apply = sm_apply,
        .ranges = sm_ranges,
        .restore = sm_restore,
        .stamp_floor = sm_stamp_floor,
        .role_changed = sm_role_changed,
    };
    sm->state = state;
    sm->trace = trace;
    sm->history = (struct config_history){.state = state, .range = 0, .kind = KIND_CONFIG};
    sm->sessions = session_table_create(state, 0, KIND_SESSIONS, SESSION_MAX_RECORDS);
    return sm;
}

const struct rsm_service_ops *ctrler_sm_service_ops(const struct ctrler_sm *sm)
{
    return &sm->service_ops;
}
