/* shard: see shard.h. Every check of a step is preceded by the rule that it implements. */
#include "shardkv/shard.h"

#include "raft/util/assert.h"
#include "raft/util/mem.h"

#define SHARD_FORMAT   2
#define SHARD_FORMAT_1 1 /* is read, not written any more */

void shard_init(struct shard *shard)
{
    *shard = (struct shard){0};
}

void shard_fini(struct shard *shard)
{
    buf_fini(&shard->copy.cursor);
    mem_free(shard->queue);
    mem_free(shard->releases);
    *shard = (struct shard){0};
}

const struct shard_transition *shard_head(const struct shard *shard)
{
    return shard->n_queue == 0 ? NULL : &shard->queue[0];
}

static struct shard_transition *shard_tail(const struct shard *shard)
{
    return shard->n_queue == 0 ? NULL : &shard->queue[shard->n_queue - 1];
}

static bool tail_is_send_to_nobody(const struct shard *shard)
{
    const struct shard_transition *tail = shard_tail(shard);

    return tail != NULL && tail->kind == SHARD_SEND && tail->gid == 0;
}

bool shard_is_held_at_end(const struct shard *shard)
{
    const struct shard_transition *tail = shard_tail(shard);

    if (tail == NULL) {
        return shard->state == SHARD_SERVING;
    }
    return tail->kind == SHARD_RECEIVE || tail->gid == 0;
}

bool shard_is_settled(const struct shard *shard)
{
    return (shard->n_queue == 0 || tail_is_send_to_nobody(shard)) && shard->n_queue <= 1 &&
           shard->n_releases == 0;
}

static bool head_is(const struct shard *shard, enum shard_transition_kind kind, config_num num)
{
    const struct shard_transition *head = shard_head(shard);

    return head != NULL && head->kind == kind && head->num == num;
}

static void push(struct shard *shard, enum shard_transition_kind kind, config_num num, uint32_t gid)
{
    ASSERT(shard->n_queue == 0 || shard_tail(shard)->num < num);
    ASSERT(shard->n_queue == 0 || shard_tail(shard)->kind != kind);
    MEM_GROW(shard->queue, shard->queue_capacity, shard->n_queue + 1);
    shard->queue[shard->n_queue++] = (struct shard_transition){kind, num, gid};
}

/* What needs no one else happens at once when it gets to the head: a shard that nobody shall own
 * freezes. */
static void head_begins(struct shard *shard)
{
    const struct shard_transition *head = shard_head(shard);

    if (head != NULL && head->kind == SHARD_SEND && head->gid == 0) {
        ASSERT(shard->state != SHARD_ABSENT);
        shard->state = SHARD_FROZEN;
    }
}

static void pop(struct shard *shard)
{
    ASSERT(shard->n_queue > 0);
    shard->n_queue--;
    memmove(shard->queue, shard->queue + 1, shard->n_queue * sizeof(shard->queue[0]));
    head_begins(shard);
}

static uint64_t take_range(uint64_t *next_range)
{
    ASSERT(*next_range > 0);
    return (*next_range)++;
}

static void drop_range(uint64_t range, struct shard_effect *effect)
{
    ASSERT(range != 0);
    ASSERT(effect->n_dropped < sizeof(effect->dropped) / sizeof(effect->dropped[0]));
    effect->dropped[effect->n_dropped++] = range;
}

/* ---- Configurations ---- */

/* The last word so far is that nobody shall own the shard and this group keeps it, frozen. */
static void adopt_after_nobody(struct shard *shard, const struct shard_change *change,
                               struct shard_effect *effect)
{
    if (change->owner == 0) {
        return;
    }
    effect->changed = true;
    if (change->owner == change->me) {
        /* It comes back to its keeper: as if it had never been taken away. */
        shard->n_queue--;
        if (shard->n_queue == 0) {
            ASSERT(shard->state == SHARD_FROZEN);
            shard->state = SHARD_SERVING;
        }
        return;
    }
    /* X -> nobody -> Y is a move X -> Y; a frozen shard stays frozen. */
    shard_tail(shard)->num = change->num;
    shard_tail(shard)->gid = change->owner;
}

static void adopt_ownership(struct shard *shard, const struct shard_change *change,
                            uint64_t *next_range, struct shard_effect *effect)
{
    effect->changed = true;
    if (change->from != 0) {
        push(shard, SHARD_RECEIVE, change->num, change->from);
        return;
    }
    /* Nobody ever owned it: created empty, serves at once. */
    ASSERT(shard->state == SHARD_ABSENT && shard->n_queue == 0);
    shard->state = SHARD_SERVING;
    shard->epoch = change->num;
    shard->range = take_range(next_range);
    effect->created = true;
}

bool shard_can_adopt(const struct shard *shard, const struct shard_change *change)
{
    if (shard_is_held_at_end(shard)) {
        return change->from == change->me;
    }
    if (change->owner != change->me) {
        return true;
    }
    if (change->from == 0) {
        return shard->state == SHARD_ABSENT && shard->n_queue == 0 && shard->epoch == 0;
    }
    return change->from != change->me;
}

void shard_adopt(struct shard *shard, const struct shard_change *change, uint64_t *next_range,
                 struct shard_effect *effect)
{
    *effect = (struct shard_effect){0};
    ASSERT(change->me != 0);
    ASSERT(shard_can_adopt(shard, change));
    if (tail_is_send_to_nobody(shard)) {
        adopt_after_nobody(shard, change, effect);
    } else if (shard_is_held_at_end(shard)) {
        if (change->owner != change->me) {
            push(shard, SHARD_SEND, change->num, change->owner);
            if (shard->n_queue == 1) {
                head_begins(shard);
            }
            effect->changed = true;
        }
    } else if (change->owner == change->me) {
        adopt_ownership(shard, change, next_range, effect);
    }
    ASSERT(shard_is_consistent(shard));
}

/* ---- Giving away ---- */

void shard_freeze(struct shard *shard, config_num num, struct shard_effect *effect)
{
    *effect = (struct shard_effect){0};
    /* Only the transition at the head, and only once. */
    if (head_is(shard, SHARD_SEND, num) && shard->state == SHARD_SERVING) {
        shard->state = SHARD_FROZEN;
        effect->changed = true;
    }
    ASSERT(shard_is_consistent(shard));
}

void shard_drop(struct shard *shard, config_num num, struct shard_effect *effect)
{
    *effect = (struct shard_effect){0};
    /* Never what still serves; never what was frozen for another configuration, or for nobody. */
    if (!head_is(shard, SHARD_SEND, num) || shard->state != SHARD_FROZEN ||
        shard_head(shard)->gid == 0) {
        return;
    }
    drop_range(shard->range, effect);
    effect->changed = true;
    shard->range = 0;
    shard->state = SHARD_ABSENT;
    pop(shard);
    ASSERT(shard_is_consistent(shard));
}

enum shard_answer shard_answer(const struct shard *shard, config_num num, uint32_t to,
                               config_num adopted)
{
    if (adopted < num) {
        return SHARD_ANSWER_NOT_READY;
    }
    for (size_t i = 0; i < shard->n_queue; i++) {
        const struct shard_transition *transition = &shard->queue[i];

        if (transition->num != num) {
            continue;
        }
        if (transition->kind != SHARD_SEND || transition->gid != to || to == 0) {
            return SHARD_ANSWER_REFUSED;
        }
        if (i > 0) {
            return SHARD_ANSWER_NOT_READY;
        }
        return shard->state == SHARD_FROZEN ? SHARD_ANSWER_YES : SHARD_ANSWER_FREEZE;
    }
    return SHARD_ANSWER_DONE;
}

/* ---- Taking over ---- */

static void copy_forget(struct shard *shard, struct shard_effect *effect)
{
    if (shard->copy.range != 0) {
        drop_range(shard->copy.range, effect);
    }
    buf_fini(&shard->copy.cursor);
    shard->copy = (struct shard_copy){0};
}

static void copy_begin(struct shard *shard, uint64_t copy_id, uint64_t *next_range,
                       struct shard_effect *effect)
{
    copy_forget(shard, effect);
    shard->copy.copy_id = copy_id;
    shard->copy.range = take_range(next_range);
}

bool shard_chunk(struct shard *shard, config_num num, uint64_t copy_id, uint64_t piece,
                 uint64_t *next_range, struct shard_effect *effect)
{
    *effect = (struct shard_effect){0};
    /* Only for the transition at the head: what was installed is not written any more. */
    if (!head_is(shard, SHARD_RECEIVE, num) || copy_id == 0) {
        return false;
    }
    ASSERT(shard->state == SHARD_ABSENT);
    /* Pieces of different copies don't mix; the first piece of another one begins anew. */
    if (copy_id != shard->copy.copy_id) {
        if (piece != 0) {
            return false;
        }
        copy_begin(shard, copy_id, next_range, effect);
    }
    /* In order, each once. */
    if (piece != shard->copy.next_piece) {
        return false;
    }
    effect->changed = true;
    return true;
}

void shard_chunk_end(struct shard *shard, struct slice cursor)
{
    ASSERT(shard->copy.copy_id != 0);
    ASSERT(cursor.len <= SHARD_MAX_CURSOR);
    shard->copy.next_piece++;
    buf_clear(&shard->copy.cursor);
    buf_put_slice(&shard->copy.cursor, cursor);
}

static void add_release(struct shard *shard, config_num num, uint32_t gid)
{
    for (size_t i = 0; i < shard->n_releases; i++) {
        if (shard->releases[i].gid == gid) {
            /* It gave the shard away again, so it had dropped the earlier copy. */
            ASSERT(shard->releases[i].num < num);
            shard->releases[i].num = num;
            return;
        }
    }
    MEM_GROW(shard->releases, shard->releases_capacity, shard->n_releases + 1);
    shard->releases[shard->n_releases++] = (struct shard_release){num, gid};
}

void shard_install(struct shard *shard, config_num num, const struct shard_end *end,
                   uint64_t *next_range, struct shard_effect *effect)
{
    *effect = (struct shard_effect){0};
    /* Install only if newer: the head is newer than everything that was installed here. */
    if (!head_is(shard, SHARD_RECEIVE, num) || end->copy_id == 0) {
        return;
    }
    ASSERT(shard->state == SHARD_ABSENT && shard->epoch < num);
    if (end->pieces == 0 && shard->copy.copy_id != end->copy_id) {
        copy_begin(shard, end->copy_id, next_range, effect);
        effect->changed = true;
    }
    /* Of this copy, and all of its pieces. */
    if (shard->copy.copy_id != end->copy_id || shard->copy.next_piece != end->pieces) {
        return;
    }
    effect->changed = true;
    if (!shard_sum_equal(&shard->copy.records, &end->records) ||
        !shard_sum_equal(&shard->copy.sessions, &end->sessions)) {
        copy_forget(shard, effect);
        effect->copy_was_broken = true;
        return;
    }
    shard->range = shard->copy.range;
    shard->copy.range = 0; /* now live: not to be dropped */
    copy_forget(shard, effect);
    shard->state = SHARD_SERVING;
    shard->epoch = num;
    add_release(shard, num, shard_head(shard)->gid);
    effect->installed = true;
    pop(shard);
    ASSERT(shard_is_consistent(shard));
}

void shard_released(struct shard *shard, config_num num, struct shard_effect *effect)
{
    *effect = (struct shard_effect){0};
    for (size_t i = 0; i < shard->n_releases; i++) {
        if (shard->releases[i].num == num) {
            shard->n_releases--;
            memmove(shard->releases + i, shard->releases + i + 1,
                    (shard->n_releases - i) * sizeof(shard->releases[0]));
            effect->changed = true;
            return;
        }
    }
}

/* ---- Invariants and bytes ---- */

static bool queue_is_consistent(const struct shard *shard)
{
    for (size_t i = 0; i < shard->n_queue; i++) {
        const struct shard_transition *transition = &shard->queue[i];

        if (transition->kind != SHARD_RECEIVE && transition->kind != SHARD_SEND) {
            return false;
        }
        if (transition->gid == 0 && (transition->kind == SHARD_RECEIVE || i + 1 < shard->n_queue)) {
            return false;
        }
        if (i > 0 && (transition->num <= shard->queue[i - 1].num ||
                      transition->kind == shard->queue[i - 1].kind)) {
            return false;
        }
    }
    return true;
}

bool shard_is_consistent(const struct shard *shard)
{
    const struct shard_transition *head = shard_head(shard);
    bool receives = head != NULL && head->kind == SHARD_RECEIVE;

    if (!queue_is_consistent(shard)) {
        return false;
    }
    /* A live range exactly while there is data that counts. */
    if ((shard->range != 0) != (shard->state != SHARD_ABSENT)) {
        return false;
    }
    /* Only what is absent is received, only what is there is given away. */
    if (head != NULL && receives != (shard->state == SHARD_ABSENT)) {
        return false;
    }
    /* Frozen only by a SEND at the head, and always by one to nobody. */
    if (shard->state == SHARD_FROZEN && head == NULL) {
        return false;
    }
    if (head != NULL && head->gid == 0 && shard->state != SHARD_FROZEN) {
        return false;
    }
    /* Epochs are behind what is still to come. */
    if (head != NULL && head->num <= shard->epoch) {
        return false;
    }
    /* A copy only while receiving. */
    return (shard->copy.copy_id != 0) == (shard->copy.range != 0) &&
           (shard->copy.copy_id == 0 || receives);
}

/* Most shards of most groups are absent and settled: they take 11 bytes. */
enum shard_part { PART_RANGE = 1, PART_COPY = 2, PART_QUEUE = 4, PART_RELEASES = 8, PART_ALL = 15 };

static uint8_t parts_of(const struct shard *shard)
{
    return (uint8_t)((shard->range != 0 ? PART_RANGE : 0) |
                     (shard->copy.copy_id != 0 ? PART_COPY : 0) |
                     (shard->n_queue > 0 ? PART_QUEUE : 0) |
                     (shard->n_releases > 0 ? PART_RELEASES : 0));
}

static void encode_copy(const struct shard_copy *copy, struct buf *out)
{
    buf_put_u64(out, copy->copy_id);
    buf_put_u64(out, copy->range);
    buf_put_u64(out, copy->next_piece);
    buf_put_bytes(out, buf_slice(&copy->cursor));
    shard_sum_encode(&copy->records, out);
    shard_sum_encode(&copy->sessions, out);
}

static void encode_queue(const struct shard *shard, struct buf *out)
{
    buf_put_u32(out, (uint32_t)shard->n_queue);
    for (size_t i = 0; i < shard->n_queue; i++) {
        buf_put_u8(out, (uint8_t)shard->queue[i].kind);
        buf_put_u64(out, shard->queue[i].num);
        buf_put_u32(out, shard->queue[i].gid);
    }
}

static void encode_releases(const struct shard *shard, struct buf *out)
{
    buf_put_u32(out, (uint32_t)shard->n_releases);
    for (size_t i = 0; i < shard->n_releases; i++) {
        buf_put_u64(out, shard->releases[i].num);
        buf_put_u32(out, shard->releases[i].gid);
    }
}

void shard_encode(const struct shard *shard, struct buf *out)
{
    uint8_t parts = parts_of(shard);

    ASSERT(shard_is_consistent(shard));
    buf_put_u8(out, SHARD_FORMAT);
    buf_put_u8(out, (uint8_t)shard->state);
    buf_put_u64(out, shard->epoch);
    buf_put_u8(out, parts);
    if (parts & PART_RANGE) {
        buf_put_u64(out, shard->range);
    }
    if (parts & PART_COPY) {
        encode_copy(&shard->copy, out);
    }
    if (parts & PART_QUEUE) {
        encode_queue(shard, out);
    }
    if (parts & PART_RELEASES) {
        encode_releases(shard, out);
    }
}

static void decode_copy(struct reader *reader, struct shard_copy *copy)
{
    copy->copy_id = reader_u64(reader);
    copy->range = reader_u64(reader);
    copy->next_piece = reader_u64(reader);
    buf_put_slice(&copy->cursor, reader_bytes(reader, SHARD_MAX_CURSOR));
    shard_sum_decode(reader, &copy->records);
    shard_sum_decode(reader, &copy->sessions);
}

/* The array lengths are bounded by the bytes that are there. */
static void decode_queue(struct reader *reader, struct shard *shard)
{
    uint32_t n = reader_u32(reader);

    for (uint32_t i = 0; i < n && reader_ok(reader); i++) {
        MEM_GROW(shard->queue, shard->queue_capacity, shard->n_queue + 1);
        shard->queue[shard->n_queue].kind = (enum shard_transition_kind)reader_u8(reader);
        shard->queue[shard->n_queue].num = reader_u64(reader);
        shard->queue[shard->n_queue++].gid = reader_u32(reader);
    }
}

static void decode_releases(struct reader *reader, struct shard *shard)
{
    uint32_t n = reader_u32(reader);

    for (uint32_t i = 0; i < n && reader_ok(reader); i++) {
        MEM_GROW(shard->releases, shard->releases_capacity, shard->n_releases + 1);
        shard->releases[shard->n_releases].num = reader_u64(reader);
        shard->releases[shard->n_releases++].gid = reader_u32(reader);
    }
}

static void decode_parts(struct reader *reader, uint8_t parts, struct shard *shard)
{
    if (parts & PART_RANGE) {
        shard->range = reader_u64(reader);
    }
    if (parts & PART_COPY) {
        decode_copy(reader, &shard->copy);
    }
    if (parts & PART_QUEUE) {
        decode_queue(reader, shard);
    }
    if (parts & PART_RELEASES) {
        decode_releases(reader, shard);
    }
}

/* Format 1 had every part always; in format 2 a part that is there is not empty. */
bool shard_decode(struct reader *reader, struct shard *shard)
{
    uint8_t version = reader_u8(reader), state = reader_u8(reader), parts = PART_ALL;

    shard_init(shard);
    shard->state = (enum shard_state)state;
    shard->epoch = reader_u64(reader);
    if (version == SHARD_FORMAT) {
        parts = reader_u8(reader);
    }
    decode_parts(reader, parts, shard);
    if (!reader_ok(reader) || (version != SHARD_FORMAT && version != SHARD_FORMAT_1) ||
        (version == SHARD_FORMAT && parts != parts_of(shard)) || state > SHARD_FROZEN ||
        !shard_is_consistent(shard)) {
        shard_fini(shard);
        return false;
    }
    return true;
}
