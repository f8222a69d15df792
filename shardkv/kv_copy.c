/* kv_copy: what a move of a shard does at apply, besides who serves it: at the source the sweep and
 * the change log, at the taker what arrives. See shard.h for the steps, kv_piece.h for the pieces.
 *
 * The change log, in a range of its own: KV_KIND_CHANGE in order of number, and KV_KIND_NUMBER to
 * find a key's. A key is noted once, under the number of its last change, or during the sweep of
 * its first: so the log has one entry for each key and each client that changed since the copy
 * began, however often. Those count that are gone again, too, as the taker may have them: while a
 * copy stands still the log grows with every new name that is put and deleted, and nothing bounds
 * it but the end of the copy. What is noted is known by heart too, within a bound (noted.h).
 */
#include "raft/util/assert.h"
#include "raft/util/mem.h"
#include "shardkv/kv_sm_internal.h"

/* ---- The source: noting what changes ---- */

/* The number under which the name is in the change log; 0: it is not. */
static enum status number_of(struct kv_shard *shard, const struct noted_entry *entry,
                             struct io_key by_key, uint64_t *number)
{
    struct io_state *state = shard->sm->options.state;
    struct buf earlier = {0};
    enum status status = ST_OK;

    *number = entry != NULL ? entry->number : 0;
    if (*number == 0 && !noted_is_complete(shard->noted)) {
        status = state->ops->get(state, by_key, &earlier);
        if (status == ST_OK && earlier.len != sizeof(*number)) {
            status = ST_CORRUPT;
        } else if (status == ST_OK) {
            *number = get_u64(earlier.data);
        } else if (status == ST_NOT_FOUND) {
            status = ST_OK;
        }
    }
    buf_fini(&earlier);
    return status;
}

/* Puts the name into the change log under the next number. While the sweep goes on nobody has read
 * the log yet, so what is in it need not move to its end. */
static enum status note(struct kv_shard *shard, struct slice name, struct noted_entry *entry)
{
    struct io_state *state = shard->sm->options.state;
    struct shard_outgoing *outgoing = &shard->life.outgoing;
    struct io_key by_key = {outgoing->range, KV_KIND_NUMBER, name};
    uint8_t number_be[8], number[8];
    struct io_key by_number = {outgoing->range, KV_KIND_CHANGE, slice_of(number_be, 8)};
    uint64_t earlier;
    enum status status = number_of(shard, entry, by_key, &earlier);

    if (status == ST_OK && (earlier == 0 || outgoing->is_swept)) {
        if (earlier != 0) {
            set_u64_be(number_be, earlier);
            state->ops->remove(state, by_number);
        }
        earlier = ++outgoing->n_noted;
        set_u64(number, earlier);
        set_u64_be(number_be, earlier);
        state->ops->put(state, by_key, slice_of(number, sizeof(number)));
        state->ops->put(state, by_number, name);
    }
    if (entry != NULL) {
        entry->number = earlier;
    }
    return status;
}

/* A key of either kind, as the change log has it. */
static void put_name(struct buf *name, uint8_t kind, struct slice key)
{
    buf_put_u8(name, kind);
    buf_put_slice(name, key);
}

void kv_copy_session_changed(void *context, struct slice client)
{
    struct kv_shard *shard = context;
    struct buf name = {0};
    enum status status;

    ASSERT(shard->noted != NULL); /* only a write changes it, and only what is served is written */
    put_name(&name, KV_KIND_SESSION, client);
    status = note(shard, buf_slice(&name), noted_add(shard->noted, buf_slice(&name)));
    if (status != ST_OK) {
        shard->sm->failure = status;
    }
    buf_fini(&name);
}

/* What the sum holds of a key: what its entry knows, or what the state has. */
static enum status record_before(const struct kv_shard *shard, const struct noted_entry *entry,
                                 struct slice key, struct shard_sum *record)
{
    struct io_state *state = shard->sm->options.state;
    struct buf before = {0};
    enum status status = ST_OK;

    *record = (struct shard_sum){0};
    if (entry != NULL && entry->is_known) {
        *record = entry->record;
        return ST_OK;
    }
    status = state->ops->get(state, (struct io_key){shard->life.range, KV_KIND_DATA, key}, &before);
    if (status == ST_OK) {
        *record = shard_sum_of(key, buf_slice(&before));
    }
    buf_fini(&before);
    return status == ST_NOT_FOUND ? ST_OK : status;
}

/* A plain put need not read what it overwrites, but the sum of a shard that moves must be kept. */
enum status kv_copy_record_changing(void *context, struct slice key, const struct slice *record)
{
    struct kv_shard *shard = context;
    struct shard_sum *sum = &shard->life.outgoing.records, before, after = {0};
    struct noted_entry *entry;
    struct buf name = {0};
    enum status status;

    if (!shard_notes_key(&shard->life, key)) {
        return ST_OK;
    }
    ASSERT(shard->noted != NULL);
    put_name(&name, KV_KIND_DATA, key);
    entry = noted_add(shard->noted, buf_slice(&name));
    status = record_before(shard, entry, key, &before);
    if (status == ST_OK) {
        after = record != NULL ? shard_sum_of(key, *record) : after;
        shard_sum_part(sum, &before);
        shard_sum_join(sum, &after);
        if (entry != NULL) {
            entry->is_known = true;
            entry->record = after;
        }
        status = note(shard, buf_slice(&name), entry);
    }
    buf_fini(&name);
    return status;
}

/* ---- The source: the sweep ---- */

/* max_bytes is bounded by who proposed the entry (kv_handover.c), not here: whoever applies it must
 * do the same as whoever did before. */
static enum status sweep(struct kv_shard *shard, uint32_t max_bytes)
{
    struct io_state *state = shard->sm->options.state;
    struct shard_outgoing *outgoing = &shard->life.outgoing;
    struct io_key from = {shard->life.range, KV_KIND_DATA, buf_slice(&outgoing->swept)};
    struct io_iter *iter = state->ops->iter_open(state, from);
    struct buf last = {0};
    struct slice key, value;
    uint64_t bytes = 0;
    bool is_end = true;
    enum status status;

    while (is_end && state->ops->iter_next(iter, &key, &value)) {
        if (shard_notes_key(&shard->life, key)) {
            continue; /* where the last sweep ended */
        }
        if (bytes > 0 && bytes + key.len + value.len > max_bytes) {
            is_end = false;
            break;
        }
        shard_sum_add(&outgoing->records, key, value);
        bytes += key.len + value.len;
        buf_clear(&last);
        buf_put_slice(&last, key);
    }
    status = state->ops->iter_close(iter);
    shard_sweep_end(&shard->life, buf_slice(&last), is_end);
    buf_fini(&last);
    return status;
}

enum status kv_copy_begin(struct kv_sm *sm, const struct kv_command *command, enum status *outcome)
{
    struct kv_shard *shard = &sm->shards[command->shard];
    struct shard_effect effect;
    enum status status;

    shard_copy_begin(&shard->life, command->num, command->copy.copy_id, &sm->meta.next_range,
                     &effect);
    if (!effect.changed) {
        *outcome = ST_DUPLICATE;
        return ST_OK;
    }
    noted_destroy(&shard->noted); /* of a copy that this one takes the place of */
    kv_sm_carry_out(sm, command->shard, &effect);
    status = sweep(shard, command->copy.max_bytes);
    kv_sm_write_shard(sm, command->shard);
    kv_sm_write_meta(sm); /* next_range */
    trace_info(sm->options.trace, "shard copy begins shard=%u num=%llu to=%u", command->shard,
               (unsigned long long)command->num, shard_head(&shard->life)->gid);
    *outcome = ST_OK;
    return status;
}

enum status kv_copy_sweep(struct kv_sm *sm, const struct kv_command *command, enum status *outcome)
{
    struct kv_shard *shard = &sm->shards[command->shard];
    enum status status;

    if (!shard_sweep(&shard->life, command->num, command->copy.copy_id, command->copy.from)) {
        *outcome = ST_DUPLICATE;
        return ST_OK;
    }
    status = sweep(shard, command->copy.max_bytes);
    kv_sm_write_shard(sm, command->shard);
    *outcome = ST_OK;
    return status;
}

/* ---- The taker ---- */

/* Puts or removes a staged record, and keeps the sum. One of the base is certainly new. */
static enum status stage_record(struct kv_shard *shard, const struct kv_entry *entry)
{
    struct io_state *state = shard->sm->options.state;
    struct shard_copy *copy = &shard->life.copy;
    struct io_key key = {copy->range, KV_KIND_DATA, entry->key};
    struct buf staged = {0};
    enum status status = ST_NOT_FOUND;

    if (entry->what != KV_ENTRY_RECORD) {
        status = state->ops->get(state, key, &staged);
    }
    if (status == ST_OK) {
        shard_sum_remove(&copy->records, entry->key, buf_slice(&staged));
    }
    if (entry->what == KV_ENTRY_REMOVED && status == ST_OK) {
        state->ops->remove(state, key);
    } else if (entry->what != KV_ENTRY_REMOVED) {
        state->ops->put(state, key, entry->value);
        shard_sum_add(&copy->records, entry->key, entry->value);
    }
    buf_fini(&staged);
    return status == ST_NOT_FOUND ? ST_OK : status;
}

static enum status stage(struct kv_shard *shard, struct slice body)
{
    struct reader reader = reader_of(body);
    struct kv_entry entry;
    enum status status = ST_OK;

    while (status == ST_OK && kv_entry_next(&reader, &entry)) {
        switch (entry.what) {
        case KV_ENTRY_RECORD:
        case KV_ENTRY_CHANGED:
        case KV_ENTRY_REMOVED:
            status = stage_record(shard, &entry);
            break;
        case KV_ENTRY_SESSION: /* one that is none makes the sums differ at the end */
            (void)session_put(shard->staged, entry.key, entry.value);
            break;
        case KV_ENTRY_SESSION_REMOVED:
            session_remove(shard->staged, entry.key);
            break;
        }
    }
    return status;
}

/* Whether the piece is the next one; then it is staged. */
static bool take_piece(struct kv_sm *sm, const struct kv_command *command, enum status *outcome,
                       enum status *status)
{
    struct kv_shard *shard = &sm->shards[command->shard];
    struct shard_effect effect;

    *status = ST_OK;
    if (!kv_piece_body_is_valid(command->arrival.body)) {
        *outcome = ST_MALFORMED;
        return false;
    }
    if (!shard_chunk(&shard->life, command->num, &command->arrival.piece, &sm->meta.next_range,
                     &effect)) {
        ASSERT(!effect.changed);
        *outcome = ST_DUPLICATE;
        return false;
    }
    kv_sm_carry_out(sm, command->shard, &effect);
    *status = stage(shard, command->arrival.body);
    *outcome = ST_OK;
    return true;
}

enum status kv_copy_chunk(struct kv_sm *sm, const struct kv_command *command, enum status *outcome)
{
    enum status status;

    if (command->arrival.cursor.len == 0) {
        *outcome = ST_MALFORMED;
        return ST_OK;
    }
    if (take_piece(sm, command, outcome, &status)) {
        shard_chunk_end(&sm->shards[command->shard].life, command->arrival.cursor);
        kv_sm_write_shard(sm, command->shard);
        kv_sm_write_meta(sm); /* next_range */
    }
    return status;
}

static void installed(struct kv_sm *sm, const struct kv_command *command)
{
    struct kv_shard *shard = &sm->shards[command->shard];

    shard->version = command->arrival.version;
    kv_sm_write_version(sm, shard);
    session_raise_floor(shard->live, command->arrival.floor);
    kv_sm_raise_floor(sm, shard->live);
    trace_info(sm->options.trace, "shard installed shard=%u num=%llu from=%u keys=%llu bytes=%llu",
               command->shard, (unsigned long long)command->num, command->arrival.end.gid,
               (unsigned long long)command->arrival.end.records.count,
               (unsigned long long)command->arrival.end.records.bytes);
}

enum status kv_copy_install(struct kv_sm *sm, const struct kv_command *command,
                            enum status *outcome)
{
    struct kv_shard *shard = &sm->shards[command->shard];
    struct shard_effect effect;
    struct shard_sum sessions;
    enum status status;

    /* It is told later that it may drop the shard, so it must be known: the leader that asked it
     * knew it, and who may hold a shard is in the configurations. */
    if (command->arrival.end.gid == sm->options.gid ||
        kv_sm_find_group(sm, command->arrival.end.gid) == NULL) {
        *outcome = ST_MALFORMED;
        return ST_OK;
    }
    if (!take_piece(sm, command, outcome, &status) || status != ST_OK) {
        return status;
    }
    kv_piece_sum_sessions(shard->staged, &sessions);
    shard_install(&shard->life, &command->arrival.end, &sessions, &effect);
    kv_sm_carry_out(sm, command->shard, &effect);
    kv_sm_write_meta(sm); /* next_range */
    if (effect.installed) {
        installed(sm, command);
    } else {
        trace_error(sm->options.trace,
                    "what arrived of a shard is not what was sent: copying again shard=%u num=%llu",
                    command->shard, (unsigned long long)command->num);
        *outcome = ST_CORRUPT;
    }
    return ST_OK;
}
