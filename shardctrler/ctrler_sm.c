/* ctrler_sm: apply, restore and the questions one may ask. What a change makes of a configuration
 * is config_change's; how configurations are kept is config_history's; who holds what is
 * shard_owners'. Here they meet the state, the sessions and the log's commands.
 *
 * The latest configuration and the owners are kept in memory, written through at each change, and
 * read anew by restore. Incarnations learnt after a join are not written into the configurations
 * (those never change) but beside them, and filled in whenever one is read.
 */
#include "shardctrler/ctrler_sm.h"

#include "raft/util/assert.h"
#include "raft/util/mem.h"
#include "shardctrler/config_change.h"
#include "shardctrler/config_history.h"
#include "shardctrler/shard_owners.h"

/* Kinds of keys, all in range 0. */
enum {
    KIND_CLUSTER = 1,     /* no key -> u8 format = 1, cluster id, u32 shards, u64 last number */
    KIND_CONFIG = 2,      /* config_history */
    KIND_OWNER = 3,       /* u16 shard big-endian -> shard_owners */
    KIND_INCARNATION = 4, /* u32 gid, u64 joined_at, both big-endian -> u64 incarnation */
    KIND_SESSIONS = 5     /* the session table */
};

#define CLUSTER_FORMAT 1

struct ctrler_sm {
    struct io_state *state;
    const struct trace *trace;
    struct config_history history;
    struct shard_config latest; /* no shards before INIT */
    struct shard_owners owners; /* as many as the latest has shards */
    struct session_table *sessions;
    struct buf latest_bytes; /* the latest, encoded; empty: not yet */
    struct buf query_bytes;  /* the last other answer */
};

struct ctrler_sm *ctrler_sm_create(struct io_state *state, const struct trace *trace)
{
    struct ctrler_sm *sm = mem_zalloc(sizeof(*sm));

    sm->state = state;
    sm->trace = trace;
    sm->history = (struct config_history){.state = state, .range = 0, .kind = KIND_CONFIG};
    sm->sessions = session_table_create(state, 0, KIND_SESSIONS, SESSION_MAX_RECORDS);
    return sm;
}

/* Forgets what is cached of the state. */
static void clear_cache(struct ctrler_sm *sm)
{
    shard_config_fini(&sm->latest);
    shard_owners_fini(&sm->owners);
    buf_clear(&sm->latest_bytes);
}

void ctrler_sm_destroy(struct ctrler_sm **sm)
{
    if (*sm == NULL) {
        return;
    }
    clear_cache(*sm);
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

/* ---- The state ------------------------------------------------------------------------------ */

static void write_cluster(struct ctrler_sm *sm)
{
    struct buf record = {0};
    struct io_key key = {.kind = KIND_CLUSTER};

    buf_put_u8(&record, CLUSTER_FORMAT);
    buf_put(&record, sm->latest.cluster_id, sizeof(sm->latest.cluster_id));
    buf_put_u32(&record, sm->latest.n_shards);
    buf_put_u64(&record, sm->latest.num);
    sm->state->ops->put(sm->state, key, buf_slice(&record));
    buf_fini(&record);
}

static void write_owner(struct ctrler_sm *sm, shard_id shard)
{
    uint8_t bytes[2] = {(uint8_t)(shard >> 8), (uint8_t)shard};
    struct io_key key = {.kind = KIND_OWNER, .key = slice_of(bytes, sizeof(bytes))};
    struct buf record = {0};

    ASSERT(shard < SHARD_MAX_COUNT);
    shard_owner_encode(&sm->owners.shards[shard], &record);
    sm->state->ops->put(sm->state, key, buf_slice(&record));
    buf_fini(&record);
}

static struct io_key incarnation_key(const struct config_group *group, uint8_t bytes[12])
{
    for (int i = 0; i < 4; i++) {
        bytes[i] = (uint8_t)(group->gid >> (24 - 8 * i));
    }
    set_u64_be(bytes + 4, group->joined_at);
    return (struct io_key){.kind = KIND_INCARNATION, .key = slice_of(bytes, 12)};
}

static void write_incarnation(struct ctrler_sm *sm, const struct config_group *group)
{
    uint8_t key[12], value[8];

    ASSERT(group->incarnation != 0);
    set_u64(value, group->incarnation);
    sm->state->ops->put(sm->state, incarnation_key(group, key), slice_of(value, sizeof(value)));
}

/* Fills in what was learnt of a group after its join. */
static enum status read_incarnation(struct ctrler_sm *sm, struct config_group *group)
{
    struct buf value = {0};
    uint8_t key[12];
    enum status status = sm->state->ops->get(sm->state, incarnation_key(group, key), &value);

    if (status == ST_OK && value.len == 8) {
        group->incarnation = get_u64(value.data);
    } else if (status == ST_OK) {
        status = ST_CORRUPT;
    }
    buf_fini(&value);
    return status == ST_NOT_FOUND ? ST_OK : status;
}

/* ---- Reading configurations ----------------------------------------------------------------- */

/* Reads a configuration that must be there. */
static enum status read_config(struct ctrler_sm *sm, config_num num, struct shard_config *config)
{
    enum status status = config_history_get(&sm->history, num, config);

    for (size_t i = 0; status == ST_OK && i < config->n_groups; i++) {
        if (config->groups[i].incarnation == 0) {
            status = read_incarnation(sm, &config->groups[i]);
        }
    }
    if (status != ST_OK) {
        shard_config_fini(config);
        trace_error(sm->trace, "can't read a configuration num=%llu status=%s",
                    (unsigned long long)num, status_name(status));
    }
    return status == ST_NOT_FOUND ? ST_CORRUPT : status;
}

enum status ctrler_sm_config(struct ctrler_sm *sm, config_num num, struct shard_config *config)
{
    memset(config, 0, sizeof(*config));
    if (!ctrler_sm_is_initialized(sm)) {
        return ST_NOT_READY;
    }
    if (num >= sm->latest.num) {
        shard_config_copy(config, &sm->latest);
        return ST_OK;
    }
    return read_config(sm, num, config);
}

enum status ctrler_sm_config_bytes(struct ctrler_sm *sm, config_num num, struct slice *encoded)
{
    struct shard_config config;
    enum status status;

    *encoded = slice_of(NULL, 0);
    if (!ctrler_sm_is_initialized(sm)) {
        return ST_NOT_READY;
    }
    if (num >= sm->latest.num) {
        if (sm->latest_bytes.len == 0) {
            shard_config_encode(&sm->latest, &sm->latest_bytes);
        }
        *encoded = buf_slice(&sm->latest_bytes);
        return ST_OK;
    }
    status = read_config(sm, num, &config);
    if (status == ST_OK) {
        buf_clear(&sm->query_bytes);
        shard_config_encode(&config, &sm->query_bytes);
        *encoded = buf_slice(&sm->query_bytes);
        shard_config_fini(&config);
    }
    return status;
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

/* ---- Commands ------------------------------------------------------------------------------- */

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
    write_cluster(sm);
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
            write_owner(sm, s);
            moved++;
        }
    }
    shard_config_fini(&sm->latest);
    sm->latest = *next;
    *next = (struct shard_config){0};
    buf_clear(&sm->latest_bytes);
    write_cluster(sm);
    trace_info(sm->trace, "new configuration num=%llu groups=%zu moves=%u",
               (unsigned long long)sm->latest.num, sm->latest.n_groups, moved);
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
        write_incarnation(sm, group);
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
            write_owner(sm, confirm->shard);
        }
    }
    return done(sm);
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

static struct ctrler_result apply_decoded(struct ctrler_sm *sm,
                                          const struct ctrler_command *command, uint64_t stamp)
{
    if (command->kind == CTRLER_INIT) {
        return apply_init(sm, command);
    }
    /* Nothing was applied, so no session hears of it: a later try counts as new. */
    if (!ctrler_sm_is_initialized(sm)) {
        return refusal(sm, ST_NOT_READY, CTRLER_REASON_NOT_INITIALIZED, 0, 0);
    }
    if (ctrler_command_has_session(command->kind)) {
        return apply_in_session(sm, command, stamp);
    }
    return command->kind == CTRLER_BIND ? apply_bind(sm, command) : apply_confirm(sm, command);
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
    result = apply_decoded(sm, &command, rsm_command->stamp);
    ctrler_result_encode(&result, result_bytes);
    ctrler_command_fini(&command);
    return ST_OK;
}

/* ---- Restore -------------------------------------------------------------------------------- */

/* ST_NOT_FOUND: the cluster has not begun. */
static enum status read_cluster(struct ctrler_sm *sm, config_num *last, uint32_t *n_shards,
                                uint8_t cluster_id[16])
{
    struct io_key key = {.kind = KIND_CLUSTER};
    struct buf record = {0};
    enum status status = sm->state->ops->get(sm->state, key, &record);
    struct reader reader = reader_of(buf_slice(&record));
    struct slice id;

    if (status != ST_OK) {
        buf_fini(&record);
        return status;
    }
    if (reader_u8(&reader) != CLUSTER_FORMAT) {
        status = record.len == 0 ? ST_CORRUPT : ST_VERSION;
    }
    id = reader_take(&reader, 16);
    *n_shards = reader_u32(&reader);
    *last = reader_u64(&reader);
    if (status == ST_OK && (!reader_done(&reader) || !shard_count_is_valid(*n_shards))) {
        status = ST_CORRUPT;
    }
    if (status == ST_OK) {
        memcpy(cluster_id, id.data, id.len);
    }
    buf_fini(&record);
    return status;
}

static enum status read_owners(struct ctrler_sm *sm)
{
    struct io_key from = {.kind = KIND_OWNER};
    struct io_iter *iter = sm->state->ops->iter_open(sm->state, from);
    struct slice key, value;
    enum status status = ST_OK;
    enum status end;

    while (status == ST_OK && sm->state->ops->iter_next(iter, &key, &value)) {
        shard_id shard =
            key.len == 2 ? (shard_id)key.data[0] << 8 | (shard_id)key.data[1] : UINT32_MAX;

        if (shard >= sm->owners.n_shards || !shard_owner_decode(value, &sm->owners.shards[shard])) {
            status = ST_CORRUPT;
        }
    }
    end = sm->state->ops->iter_close(iter);
    return status != ST_OK ? status : end;
}

static enum status restore_cluster(struct ctrler_sm *sm)
{
    config_num last = 0;
    uint32_t n_shards = 0;
    uint8_t cluster_id[16];
    enum status status = read_cluster(sm, &last, &n_shards, cluster_id);

    if (status != ST_OK) {
        return status == ST_NOT_FOUND ? ST_OK : status;
    }
    status = read_config(sm, last, &sm->latest);
    if (status != ST_OK) {
        return status;
    }
    if (sm->latest.n_shards != n_shards ||
        memcmp(sm->latest.cluster_id, cluster_id, sizeof(cluster_id)) != 0) {
        return ST_CORRUPT;
    }
    shard_owners_init(&sm->owners, n_shards);
    return read_owners(sm);
}

static enum status sm_restore(void *service)
{
    struct ctrler_sm *sm = service;
    enum status status;

    clear_cache(sm);
    status = restore_cluster(sm);
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

const struct rsm_service_ops ctrler_sm_service_ops = {
    .apply = sm_apply,
    .ranges = sm_ranges,
    .restore = sm_restore,
    .stamp_floor = sm_stamp_floor,
    .role_changed = sm_role_changed,
};
