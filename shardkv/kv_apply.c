/* kv_apply: the commands of a shard group at apply. Who serves a shard is decided here and nowhere
 * else: what servers check before they propose is only a shortcut. */
#include "raft/util/assert.h"
#include "raft/util/mem.h"
#include "shardkv/kv_sm_internal.h"

static enum status done_or_duplicate(const struct shard_effect *effect)
{
    return effect->changed ? ST_OK : ST_DUPLICATE;
}

/* ---- Who this group is ---- */

static enum status apply_init(struct kv_sm *sm, const struct kv_command *command)
{
    /* The first one wins; a group's identity never changes. */
    if (sm->meta.is_init) {
        return ST_DUPLICATE;
    }
    if (!shard_count_is_valid(command->init.n_shards) || command->init.incarnation == 0) {
        return ST_INVALID;
    }
    sm->meta.is_init = true;
    sm->meta.incarnation = command->init.incarnation;
    memcpy(sm->meta.cluster_id, command->init.cluster_id, sizeof(sm->meta.cluster_id));
    sm->meta.n_shards = command->init.n_shards;
    ASSERT(sm->meta.adopted == 0);
    kv_sm_make_shards(sm);
    kv_sm_write_meta(sm);
    sm->changes++;
    trace_info(sm->options.trace, "group initialised shards=%u incarnation=%016llx",
               sm->meta.n_shards, (unsigned long long)sm->meta.incarnation);
    return ST_OK;
}

/* ---- Writes ---- */

static struct session_key session_key_of(const struct proto_session *session)
{
    struct session_key key = {
        .seq = session->seq, .acked_seq = session->acked_seq, .issued_at = session->issued_at};

    memcpy(key.client.bytes, session->client, sizeof(key.client.bytes));
    return key;
}

/* The session rule (design 6) says that the write is new: do it and keep its result, which then
 * stands in sm->kept. */
static enum status write_new(struct kv_sm *sm, const struct rsm_command *command,
                             const struct kv_write *write, const struct session_key *session)
{
    struct kv_shard *shard = &sm->shards[write->shard];
    struct kv_ops_watch watch = {kv_copy_record_changing, shard};
    bool copied = shard->life.outgoing.copy_id != 0;
    struct kv_write_result result;
    enum status status;

    buf_clear(&sm->kept);
    status = kv_ops_write(sm->options.state, shard->life.range, write, shard->version + 1,
                          copied ? &watch : NULL, &result);

    if (status != ST_OK) {
        return status; /* the state can't be read: this replica stops */
    }
    if (result.status == ST_OK) {
        shard->version++;
    }
    kv_write_result_encode(&result, &sm->kept);
    ASSERT(sm->kept.len <= SESSION_MAX_RESULT);
    session_commit(shard->live, session, command->stamp, buf_slice(&sm->kept));
    kv_sm_raise_floor(sm, shard->live);
    shard->is_unsaved = shard->is_unsaved || copied; /* the sum, the number of changes */
    return sm->failure;
}

static enum status apply_write(struct kv_sm *sm, const struct rsm_command *command,
                               const struct kv_write *write, struct buf *result)
{
    struct session_key session = session_key_of(&write->session);
    struct kv_command_result outcome = {.status = ST_OK};
    enum status status = ST_OK;

    /* Not ours (any more, or yet): the session is not touched, so the client may try it there. */
    if (!kv_sm_serves(sm, write->shard, &outcome.gid_hint)) {
        outcome.status = ST_WRONG_GROUP;
    } else if (!kv_ops_keys_fit(write, sm->meta.n_shards)) {
        outcome.status = ST_INVALID;
    } else {
        switch (session_check(sm->shards[write->shard].live, &session, &outcome.result)) {
        case SESSION_DUPLICATE:
            break;
        case SESSION_STALE:
            outcome.status = ST_SESSION_STALE;
            break;
        case SESSION_EXPIRED:
            outcome.status = ST_SESSION_EXPIRED;
            break;
        case SESSION_APPLY:
            status = write_new(sm, command, write, &session);
            outcome.result = buf_slice(&sm->kept);
            break;
        }
    }
    kv_command_result_encode(&outcome, result);
    return status;
}

/* ---- Giving away ---- */

static enum status apply_freeze(struct kv_sm *sm, const struct kv_command *command)
{
    struct shard_effect effect;

    shard_freeze(&sm->shards[command->shard].life, command->num, command->copy.copy_id, &effect);
    kv_sm_carry_out(sm, command->shard, &effect);
    if (effect.changed) {
        trace_info(sm->options.trace, "shard frozen shard=%u num=%llu", command->shard,
                   (unsigned long long)command->num);
    }
    return done_or_duplicate(&effect);
}

static enum status apply_drop(struct kv_sm *sm, const struct kv_command *command)
{
    struct kv_shard *shard = &sm->shards[command->shard];
    struct shard_effect effect;

    shard_drop(&shard->life, command->num, &effect);
    if (effect.changed) {
        kv_sm_forget_version(shard);
        trace_info(sm->options.trace, "shard dropped shard=%u num=%llu", command->shard,
                   (unsigned long long)command->num);
    }
    kv_sm_carry_out(sm, command->shard, &effect);
    return done_or_duplicate(&effect);
}

/* ---- Taking over ---- */

static enum status apply_released(struct kv_sm *sm, const struct kv_command *command)
{
    struct shard_effect effect;

    shard_released(&sm->shards[command->shard].life, command->num, &effect);
    kv_sm_carry_out(sm, command->shard, &effect);
    return done_or_duplicate(&effect);
}

static enum status apply_void(struct kv_sm *sm, const struct kv_command *command)
{
    struct shard_effect effect;

    shard_void(&sm->shards[command->shard].life, command->num, &effect);
    kv_sm_carry_out(sm, command->shard, &effect);
    if (effect.changed) {
        trace_info(sm->options.trace, "shard move called off shard=%u num=%llu", command->shard,
                   (unsigned long long)command->num);
    }
    return done_or_duplicate(&effect);
}

/* ---- All of them ---- */

static enum status apply_to_shard(struct kv_sm *sm, const struct kv_command *command,
                                  enum status *outcome)
{
    if (command->shard >= sm->meta.n_shards) {
        *outcome = ST_INVALID;
        return ST_OK;
    }
    switch (command->kind) {
    case KV_COMMAND_COPY_BEGIN:
        return kv_copy_begin(sm, command, outcome);
    case KV_COMMAND_SWEEP:
        return kv_copy_sweep(sm, command, outcome);
    case KV_COMMAND_CHUNK:
        return kv_copy_chunk(sm, command, outcome);
    case KV_COMMAND_INSTALL:
        return kv_copy_install(sm, command, outcome);
    case KV_COMMAND_FREEZE:
        *outcome = apply_freeze(sm, command);
        return ST_OK;
    case KV_COMMAND_DROP:
        *outcome = apply_drop(sm, command);
        return ST_OK;
    case KV_COMMAND_RELEASED:
        *outcome = apply_released(sm, command);
        return ST_OK;
    case KV_COMMAND_VOID:
        *outcome = apply_void(sm, command);
        return ST_OK;
    default:
        UNREACHABLE("kv_command_decode knows no other kind");
    }
}

enum status kv_sm_apply(struct kv_sm *sm, const struct rsm_command *entry, struct buf *result)
{
    struct kv_command command;
    struct kv_command_result outcome = {.status = ST_OK};
    enum status status = kv_command_decode(entry->bytes, &command);

    /* An unknown command halts the replica: skipping it would make it differ from the others. */
    if (status != ST_OK) {
        return status;
    }
    switch (command.kind) {
    case KV_COMMAND_WRITE:
        return apply_write(sm, entry, &command.write, result);
    case KV_COMMAND_INIT:
        outcome.status = apply_init(sm, &command);
        break;
    case KV_COMMAND_CONFIG:
        outcome.status = kv_apply_config(sm, command.config);
        break;
    default:
        status = apply_to_shard(sm, &command, &outcome.status);
        break;
    }
    kv_command_result_encode(&outcome, result);
    return status;
}
