/* Part of kv_twins.h: how shards move between the twins, step by step, as the leaders of both
 * groups would make each step from what they have applied. */
#ifndef TESTS_UNIT_KV_TWINS_MOVE_H
#define TESTS_UNIT_KV_TWINS_MOVE_H

/* ---- Moving ---- */

static inline bool is_dead(const struct cluster *cluster, uint32_t gid)
{
    return (cluster->dead & 1u << gid) != 0;
}

static inline enum shard_answer answer_pull(struct cluster *cluster, uint32_t at, shard_id id,
                                            config_num num, uint32_t to)
{
    struct kv_sm *sm = sm_of(cluster, at);

    return shard_answer_pull(kv_sm_shard(sm, id), num, to, kv_sm_meta(sm)->adopted);
}

/* Who answers the taker: the group that its configuration names, or any other; 0: nobody yet. */
static inline uint32_t find_source(struct cluster *cluster, uint32_t gid, shard_id id,
                                   const struct shard_transition *head, enum shard_answer *answer)
{
    for (uint32_t i = 0; i <= TWINS_GROUPS; i++) {
        uint32_t at = i == 0 ? head->gid : i;

        if (at == gid || is_dead(cluster, at)) {
            continue;
        }
        *answer = answer_pull(cluster, at, id, head->num, gid);
        if (*answer == SHARD_ANSWER_YES || *answer == SHARD_ANSWER_VOID) {
            return at;
        }
    }
    return 0;
}

/* The copy that the taker's leader has in mind; a leader that begins one anew sets it to 0. */
static inline uint64_t wanted_copy(struct cluster *cluster, uint32_t gid, shard_id id)
{
    uint64_t *wanted = &cluster->wanted[gid][id];

    if (*wanted == 0) {
        *wanted = ++cluster->copy_id;
    }
    return *wanted;
}

static inline enum status apply_copy_step(struct cluster *cluster, uint32_t source, shard_id id,
                                          config_num num, enum kv_command_kind kind,
                                          uint64_t copy_id)
{
    const struct shard *shard = kv_sm_shard(sm_of(cluster, source), id);
    struct kv_command command = {.kind = kind, .shard = id, .num = num};
    struct buf from = {0};
    enum status status;

    buf_put_slice(&from, buf_slice(&shard->outgoing.swept));
    command.copy.copy_id = copy_id;
    command.copy.from = buf_slice(&from);
    command.copy.max_bytes = cluster->piece_bytes;
    status = apply(cluster, source, &command);
    buf_fini(&from);
    return status;
}

/* What the taker's leader makes of a piece. */
static inline void fill_arrival(struct kv_command *command, uint32_t source, uint64_t copy_id,
                                const struct shard_copy *copy, const struct kv_piece *piece)
{
    command->arrival.piece =
        (struct shard_piece){.copy_id = copy_id, .number = 0, .begin = {NULL, 0}};
    if (copy->copy_id == copy_id) {
        command->arrival.piece.number = copy->next_piece;
        command->arrival.piece.begin = buf_slice(&copy->cursor);
    }
    command->arrival.body = buf_slice(&piece->body);
    command->arrival.cursor = buf_slice(&piece->cursor);
    command->arrival.end.gid = source;
}

static inline void fill_end(struct kv_command *command, const struct kv_piece_source *from,
                            const struct kv_piece *piece, struct buf *memory)
{
    struct kv_piece_end end;

    kv_piece_end_encode(from, 0, buf_slice(&piece->body), memory);
    assert_true(kv_piece_end_decode(buf_slice(memory), &end));
    command->kind = KV_COMMAND_INSTALL;
    command->arrival.body = end.entries;
    command->arrival.cursor = slice_of(NULL, 0);
    command->arrival.end.records = end.records;
    command->arrival.end.sessions = end.sessions;
    command->arrival.end.epoch = end.epoch;
    command->arrival.floor = end.floor;
    command->arrival.version = end.version;
}

/* Reads the next piece; it is applied, unless the source has to freeze first. */
static inline void step_piece(struct cluster *cluster, uint32_t source, uint32_t gid, shard_id id,
                              config_num num, struct slice cursor)
{
    const struct shard_copy *copy = &kv_sm_shard(sm_of(cluster, gid), id)->copy;
    struct kv_piece_source from = kv_sm_piece_source(sm_of(cluster, source), id);
    struct kv_command command = {.kind = KV_COMMAND_CHUNK, .shard = id, .num = num};
    uint64_t copy_id = wanted_copy(cluster, gid, id);
    struct buf memory = {0};
    struct kv_piece piece;

    assert_int_equal(kv_piece_read(&from, cursor, cluster->piece_bytes, &piece), ST_OK);
    if (piece.is_all && cursor.len == 0 && from.shard->state == SHARD_SERVING &&
        piece.body.len <= KV_PIECE_FROZEN_BYTES) {
        assert_int_equal(apply_copy_step(cluster, source, id, num, KV_COMMAND_FREEZE, copy_id),
                         ST_OK);
    } else {
        fill_arrival(&command, source, copy_id, copy, &piece);
        if (piece.is_all && from.shard->state == SHARD_FROZEN) {
            fill_end(&command, &from, &piece, &memory);
        }
        if (cluster->damage != NULL) {
            cluster->damage(cluster, &command);
        }
        if (apply(cluster, gid, &command) != ST_OK) {
            assert_int_equal(cluster->result.status, ST_CORRUPT);
            cluster->n_broken++;
        }
        cluster->was_broken = cluster->result.status == ST_CORRUPT;
        if (command.kind == KV_COMMAND_INSTALL) {
            cluster->wanted[gid][id] = 0;
        }
    }
    buf_fini(&memory);
    kv_piece_fini(&piece);
}

/* One step of the source or of the taker for one shard, as their leaders would make it from what
 * they have applied. */
static inline bool step_receive(struct cluster *cluster, uint32_t gid, shard_id id)
{
    const struct shard *taker = kv_sm_shard(sm_of(cluster, gid), id);
    struct shard_transition head = *shard_head(taker);
    enum shard_answer answer = SHARD_ANSWER_NOT_READY;
    uint32_t source = find_source(cluster, gid, id, &head, &answer);
    struct kv_command command = {.kind = KV_COMMAND_VOID, .shard = id, .num = head.num};
    uint64_t copy_id = taker->copy.copy_id, outgoing;
    struct kv_piece_source from;
    struct slice cursor = {NULL, 0};

    if (source == 0) {
        return false;
    }
    if (answer == SHARD_ANSWER_VOID) {
        cluster->wanted[gid][id] = 0;
        return apply(cluster, gid, &command) == ST_OK;
    }
    if (copy_id != 0 && cluster->wanted[gid][id] == 0 && !cluster->anew) {
        cluster->wanted[gid][id] = copy_id; /* what has begun goes on */
    }
    if (copy_id == wanted_copy(cluster, gid, id)) {
        cursor = buf_slice(&taker->copy.cursor);
    }
    outgoing = kv_sm_shard(sm_of(cluster, source), id)->outgoing.copy_id;
    if (outgoing == 0 ||
        (cluster->was_broken && cursor.len == 0 && outgoing != cluster->wanted[gid][id])) {
        assert_int_equal(apply_copy_step(cluster, source, id, head.num, KV_COMMAND_COPY_BEGIN,
                                         cluster->wanted[gid][id]),
                         ST_OK);
        return true;
    }
    from = kv_sm_piece_source(sm_of(cluster, source), id);
    switch (kv_piece_needs(&from, cursor)) {
    case KV_PIECE_READ:
        step_piece(cluster, source, gid, id, head.num, cursor);
        return true;
    case KV_PIECE_SWEEP:
        assert_int_equal(apply_copy_step(cluster, source, id, head.num, KV_COMMAND_SWEEP, outgoing),
                         ST_OK);
        return true;
    case KV_PIECE_FREEZE:
        assert_int_equal(
            apply_copy_step(cluster, source, id, head.num, KV_COMMAND_FREEZE, outgoing), ST_OK);
        return true;
    case KV_PIECE_INVALID: /* CONFLICT: that copy does not go on */
        cluster->wanted[gid][id] = ++cluster->copy_id;
        return true;
    }
    return false;
}

static inline bool step_release(struct cluster *cluster, uint32_t gid, shard_id id,
                                const struct shard_release *pending)
{
    struct kv_sm *source = sm_of(cluster, pending->gid);
    struct kv_command command = {.shard = id, .num = pending->num};
    enum shard_answer answer = shard_answer_release(kv_sm_shard(source, id), pending->num, gid,
                                                    kv_sm_meta(source)->adopted);

    if (answer == SHARD_ANSWER_YES) {
        command.kind = KV_COMMAND_DROP;
        return apply(cluster, pending->gid, &command) == ST_OK;
    }
    assert_int_equal(answer, SHARD_ANSWER_DONE);
    command.kind = KV_COMMAND_RELEASED;
    return apply(cluster, gid, &command) == ST_OK;
}

/* At most one group serves the shard. */
static inline void check_owners(struct cluster *cluster, shard_id id)
{
    int serving = 0;

    for (uint32_t gid = 1; gid <= TWINS_GROUPS; gid++) {
        serving += kv_sm_shard(sm_of(cluster, gid), id)->state == SHARD_SERVING;
    }
    assert_true(serving <= 1);
}

/* One step of any group for any shard; false: all is at rest, or waits for the dead. */
static inline bool step(struct cluster *cluster)
{
    for (uint32_t gid = 1; gid <= TWINS_GROUPS; gid++) {
        for (shard_id id = 0; id < TWINS_SHARDS && !is_dead(cluster, gid); id++) {
            const struct shard *shard = kv_sm_shard(sm_of(cluster, gid), id);
            const struct shard_transition *head = shard_head(shard);

            if (head != NULL && head->kind == SHARD_RECEIVE && step_receive(cluster, gid, id)) {
                check_owners(cluster, id);
                return true;
            }
            if (shard->n_releases > 0 && !is_dead(cluster, shard->releases[0].gid) &&
                step_release(cluster, gid, id, &shard->releases[0])) {
                check_owners(cluster, id);
                return true;
            }
        }
    }
    return false;
}

static inline void settle(struct cluster *cluster)
{
    int steps = 0;

    while (step(cluster)) {
        assert_true(++steps < 10000);
    }
}

#endif
