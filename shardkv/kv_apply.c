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
    ASSERT(sm->shards == NULL && sm->meta.adopted == 0);
    sm->shards = mem_zalloc(sm->meta.n_shards * sizeof(sm->shards[0]));
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

/* The session rule (design 6) says that the write is new: do it and keep its result. */
static enum status write_new(struct kv_sm *sm, const struct rsm_command *command,
                             const struct kv_write *write, const struct session_key *session,
                             struct buf *kept)
{
    struct kv_shard *shard = &sm->shards[write->shard];
    struct kv_write_result result;
    enum status status =
        kv_ops_write(sm->options.state, shard->life.range, write, shard->version + 1, &result);

    if (status != ST_OK) {
        return status; /* the state can't be read: this replica stops */
    }
    if (result.status == ST_OK) {
        shard->version++;
        kv_sm_write_version(sm, shard);
    }
    kv_write_result_encode(&result, kept);
    ASSERT(kept->len <= SESSION_MAX_RESULT);
    session_commit(shard->live, session, command->stamp, buf_slice(kept));
    kv_sm_raise_floor(sm, shard->live);
    return ST_OK;
}

static enum status apply_write(struct kv_sm *sm, const struct rsm_command *command,
                               const struct kv_write *write, struct buf *result)
{
    struct session_key session = session_key_of(&write->session);
    struct kv_command_result outcome = {.status = ST_OK};
    struct buf kept = {0};
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
            status = write_new(sm, command, write, &session, &kept);
            outcome.result = buf_slice(&kept);
            break;
        }
    }
    kv_command_result_encode(&outcome, result);
    buf_fini(&kept);
    return status;
}

/* ---- Giving away ---- */

static enum status apply_freeze(struct kv_sm *sm, const struct kv_command *command)
{
    struct shard_effect effect;

    shard_freeze(&sm->shards[command->shard].life, command->num, &effect);
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
        shard->version = 0;
        trace_info(sm->options.trace, "shard dropped shard=%u num=%llu", command->shard,
                   (unsigned long long)command->num);
    }
    kv_sm_carry_out(sm, command->shard, &effect);
    return done_or_duplicate(&effect);
}

/* ---- Taking over ---- */

/* A record is staged only if its version is higher than the staged one: pieces may overlap. */
static enum status stage_record(struct kv_sm *sm, struct shard_copy *copy, struct slice key,
                                struct slice value)
{
    struct io_state *state = sm->options.state;
    struct buf memory = {0};
    struct kv_record staged, arrived;
    enum status status = kv_record_decode(value, &arrived);

    ASSERT(status == ST_OK); /* the body was checked */
    status = kv_ops_read(state, copy->range, key, &memory, &staged);
    if (status == ST_OK && staged.version < arrived.version) {
        shard_sum_remove(&copy->records, key, buf_slice(&memory));
        status = ST_NOT_FOUND;
    }
    if (status == ST_NOT_FOUND) {
        state->ops->put(state, (struct io_key){copy->range, KV_KIND_DATA, key}, value);
        shard_sum_add(&copy->records, key, value);
        status = ST_OK;
    }
    buf_fini(&memory);
    return status;
}

static enum status stage_entries(struct kv_sm *sm, struct kv_shard *shard,
                                 const struct kv_command *command)
{
    struct reader body = reader_of(command->chunk.body);
    struct slice key, value;
    enum status status = ST_OK;

    while (status == ST_OK && kv_piece_next_entry(&body, &key, &value)) {
        if (command->chunk.kind == PROTO_PIECE_RECORDS) {
            status = stage_record(sm, &shard->life.copy, key, value);
        } else if (session_merge(shard->staged, key, value) == ST_OK) {
            shard_sum_add(&shard->life.copy.sessions, key, value);
        } /* else it is no session record: the sums will differ at the end */
    }
    return status;
}

static enum status apply_chunk(struct kv_sm *sm, const struct kv_command *command,
                               enum status *outcome)
{
    struct kv_shard *shard = &sm->shards[command->shard];
    struct shard_effect effect;
    enum status status;

    if (!kv_piece_body_is_valid(command->chunk.kind, command->chunk.body)) {
        *outcome = ST_MALFORMED;
        return ST_OK;
    }
    if (!shard_chunk(&shard->life, command->num, command->chunk.copy_id, command->chunk.piece,
                     &sm->meta.next_range, &effect)) {
        ASSERT(!effect.changed);
        *outcome = ST_DUPLICATE;
        return ST_OK;
    }
    kv_sm_carry_out(sm, command->shard, &effect);
    status = stage_entries(sm, shard, command);
    shard_chunk_end(&shard->life, command->chunk.cursor);
    kv_sm_write_shard(sm, command->shard);
    kv_sm_write_meta(sm); /* next_range */
    *outcome = ST_OK;
    return status;
}

static enum status apply_install(struct kv_sm *sm, const struct kv_command *command)
{
    struct kv_shard *shard = &sm->shards[command->shard];
    struct shard_effect effect;

    shard_install(&shard->life, command->num, &command->install.end, &sm->meta.next_range, &effect);
    kv_sm_carry_out(sm, command->shard, &effect);
    kv_sm_write_meta(sm); /* next_range */
    if (effect.copy_was_broken) {
        trace_error(sm->options.trace,
                    "what arrived of a shard is not what was sent: copying again shard=%u num=%llu",
                    command->shard, (unsigned long long)command->num);
        return ST_CORRUPT;
    }
    if (effect.installed) {
        shard->version = command->install.version;
        kv_sm_write_version(sm, shard);
        session_raise_floor(shard->live, command->install.floor);
        kv_sm_raise_floor(sm, shard->live);
        trace_info(sm->options.trace, "shard installed shard=%u num=%llu keys=%llu bytes=%llu",
                   command->shard, (unsigned long long)command->num,
                   (unsigned long long)command->install.end.records.count,
                   (unsigned long long)command->install.end.records.bytes);
    }
    return done_or_duplicate(&effect);
}

static enum status apply_released(struct kv_sm *sm, const struct kv_command *command)
{
    struct shard_effect effect;

    shard_released(&sm->shards[command->shard].life, command->num, &effect);
    kv_sm_carry_out(sm, command->shard, &effect);
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
    case KV_COMMAND_FREEZE:
        *outcome = apply_freeze(sm, command);
        return ST_OK;
    case KV_COMMAND_CHUNK:
        return apply_chunk(sm, command, outcome);
    case KV_COMMAND_INSTALL:
        *outcome = apply_install(sm, command);
        return ST_OK;
    case KV_COMMAND_DROP:
        *outcome = apply_drop(sm, command);
        return ST_OK;
    case KV_COMMAND_RELEASED:
        *outcome = apply_released(sm, command);
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
