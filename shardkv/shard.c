/* shard: see shard.h. Every check of a step is preceded by the rule that it implements. */
#include "shardkv/shard.h"

#include "raft/util/assert.h"
#include "raft/util/mem.h"

void shard_init(struct shard *shard)
{
    *shard = (struct shard){0};
}

void shard_fini(struct shard *shard)
{
    buf_fini(&shard->copy.cursor);
    buf_fini(&shard->outgoing.swept);
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

static void outgoing_forget(struct shard *shard, struct shard_effect *effect)
{
    if (shard->outgoing.range != 0) {
        drop_range(shard->outgoing.range, effect);
    }
    buf_fini(&shard->outgoing.swept);
    shard->outgoing = (struct shard_outgoing){0};
}

/* The last word so far is to hand it over, and it is not frozen for that: it serves, or was frozen
 * for nobody, and no copy of it has begun. */
static bool is_undecided(const struct shard *shard)
{
    const struct shard_transition *tail = shard_tail(shard);

    return tail != NULL && tail->kind == SHARD_SEND && tail->gid != 0 &&
           !(shard->n_queue == 1 && shard->state == SHARD_FROZEN && shard->outgoing.copy_id != 0);
}

/* The shard never left, and a configuration gives it to this group again: whoever else it was meant
 * for up to there will not have it, which the epoch tells the controller. */
static void came_back(struct shard *shard, config_num num)
{
    ASSERT(shard->epoch < num && shard->n_queue == 0);
    shard->state = SHARD_SERVING;
    shard->epoch = num;
}

/* The newest word counts. That nobody shall own it can wait until the taker has it. */
static void adopt_undecided(struct shard *shard, const struct shard_change *change,
                            struct shard_effect *effect)
{
    bool is_here = shard->n_queue == 1;

    ASSERT(!is_here || shard->state == SHARD_SERVING || shard->outgoing.copy_id == 0);
    if (change->owner == 0 || change->owner == shard_tail(shard)->gid) {
        return;
    }
    effect->changed = true;
    if (is_here) {
        outgoing_forget(shard, effect);
    }
    if (change->owner != change->me) {
        *shard_tail(shard) = (struct shard_transition){SHARD_SEND, change->num, change->owner};
    } else if (is_here) {
        shard->n_queue = 0;
        came_back(shard, change->num);
    } else { /* whether it comes and goes before cannot be known here */
        push(shard, SHARD_RECEIVE, change->num, change->from);
    }
}

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
            came_back(shard, change->num);
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
    } else if (is_undecided(shard)) {
        adopt_undecided(shard, change, effect);
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

/* Sending to somebody: what is sent to nobody is only kept. */
static bool sends(const struct shard *shard, config_num num)
{
    return head_is(shard, SHARD_SEND, num) && shard_head(shard)->gid != 0;
}

void shard_copy_begin(struct shard *shard, config_num num, uint64_t copy_id, uint64_t *next_range,
                      struct shard_effect *effect)
{
    *effect = (struct shard_effect){0};
    /* Only for the transition at the head; what has begun goes on. */
    if (!sends(shard, num) || copy_id == 0 || copy_id == shard->outgoing.copy_id) {
        return;
    }
    outgoing_forget(shard, effect);
    shard->outgoing.copy_id = copy_id;
    shard->outgoing.range = take_range(next_range);
    effect->changed = true;
    ASSERT(shard_is_consistent(shard));
}

bool shard_sweep(const struct shard *shard, config_num num, uint64_t copy_id, struct slice from)
{
    const struct shard_outgoing *outgoing = &shard->outgoing;

    /* In order, each once. */
    return sends(shard, num) && copy_id != 0 && copy_id == outgoing->copy_id &&
           !outgoing->is_swept && slice_equal(buf_slice(&outgoing->swept), from);
}

void shard_sweep_end(struct shard *shard, struct slice last, bool is_end)
{
    struct shard_outgoing *outgoing = &shard->outgoing;

    ASSERT(outgoing->copy_id != 0 && !outgoing->is_swept);
    outgoing->is_swept = is_end;
    if (is_end) {
        buf_fini(&outgoing->swept);
    } else {
        ASSERT(slice_compare(buf_slice(&outgoing->swept), last) < 0);
        buf_clear(&outgoing->swept);
        buf_put_slice(&outgoing->swept, last);
    }
}

bool shard_notes_key(const struct shard *shard, struct slice key)
{
    const struct shard_outgoing *outgoing = &shard->outgoing;

    return outgoing->copy_id != 0 &&
           (outgoing->is_swept || slice_compare(key, buf_slice(&outgoing->swept)) <= 0);
}

void shard_freeze(struct shard *shard, config_num num, uint64_t copy_id,
                  struct shard_effect *effect)
{
    *effect = (struct shard_effect){0};
    /* Only the transition at the head, and only once; only when the sum of the whole shard is
     * known, so that nothing of what the pause lasts depends on the shard's size. */
    if (sends(shard, num) && shard->state == SHARD_SERVING && copy_id != 0 &&
        shard->outgoing.copy_id == copy_id && shard->outgoing.is_swept) {
        shard->state = SHARD_FROZEN;
        effect->changed = true;
    }
    ASSERT(shard_is_consistent(shard));
}

void shard_drop(struct shard *shard, config_num num, struct shard_effect *effect)
{
    *effect = (struct shard_effect){0};
    /* Never what still serves; never what was frozen for another configuration, or for nobody. */
    if (!sends(shard, num) || shard->state != SHARD_FROZEN) {
        return;
    }
    drop_range(shard->range, effect);
    outgoing_forget(shard, effect);
    effect->changed = true;
    shard->range = 0;
    shard->state = SHARD_ABSENT;
    pop(shard);
    ASSERT(shard_is_consistent(shard));
}

static const struct shard_transition *find_transition(const struct shard *shard, config_num num)
{
    for (size_t i = 0; i < shard->n_queue; i++) {
        if (shard->queue[i].num == num) {
            return &shard->queue[i];
        }
    }
    return NULL;
}

static bool is_send_to(const struct shard_transition *transition, uint32_t to)
{
    return transition->kind == SHARD_SEND && transition->gid == to && to != 0;
}

/* The shard is here, and the next that will happen to it is of a later configuration than num, or
 * nothing: a hand-over under num is past or was called off. */
static bool has_gone_past(const struct shard *shard, config_num num)
{
    return shard->state != SHARD_ABSENT && (shard->n_queue == 0 || shard_head(shard)->num > num);
}

enum shard_answer shard_answer_pull(const struct shard *shard, config_num num, uint32_t to,
                                    config_num adopted)
{
    const struct shard_transition *transition = find_transition(shard, num);

    if (adopted < num) {
        return SHARD_ANSWER_NOT_READY;
    }
    if (transition == NULL) {
        return has_gone_past(shard, num) ? SHARD_ANSWER_VOID : SHARD_ANSWER_NOT_READY;
    }
    if (!is_send_to(transition, to)) {
        return SHARD_ANSWER_REFUSED;
    }
    return transition == shard_head(shard) ? SHARD_ANSWER_YES : SHARD_ANSWER_NOT_READY;
}

enum shard_answer shard_answer_release(const struct shard *shard, config_num num, uint32_t to,
                                       config_num adopted)
{
    const struct shard_transition *transition = find_transition(shard, num);

    if (adopted < num) {
        return SHARD_ANSWER_NOT_READY;
    }
    if (transition == NULL) {
        return SHARD_ANSWER_DONE;
    }
    if (!is_send_to(transition, to)) {
        return SHARD_ANSWER_REFUSED;
    }
    return transition == shard_head(shard) && shard->state == SHARD_FROZEN ? SHARD_ANSWER_YES
                                                                           : SHARD_ANSWER_NOT_READY;
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

bool shard_chunk(struct shard *shard, config_num num, const struct shard_piece *piece,
                 uint64_t *next_range, struct shard_effect *effect)
{
    *effect = (struct shard_effect){0};
    /* Only for the transition at the head: what was installed is not written any more. */
    if (!head_is(shard, SHARD_RECEIVE, num) || piece->copy_id == 0) {
        return false;
    }
    ASSERT(shard->state == SHARD_ABSENT && shard->epoch < num);
    /* Pieces of different copies don't mix; the first piece of another one begins anew. */
    if (piece->copy_id != shard->copy.copy_id) {
        if (piece->number != 0 || piece->begin.len > 0) {
            return false;
        }
        copy_begin(shard, piece->copy_id, next_range, effect);
    }
    /* In order, each once, and without a gap. */
    if (piece->number != shard->copy.next_piece ||
        !slice_equal(piece->begin, buf_slice(&shard->copy.cursor))) {
        return false;
    }
    effect->changed = true;
    return true;
}

void shard_chunk_end(struct shard *shard, struct slice cursor)
{
    ASSERT(shard->copy.copy_id != 0);
    ASSERT(cursor.len > 0 && cursor.len <= SHARD_MAX_CURSOR);
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

/* The shard is here, and configurations that came meanwhile have sent it further and maybe back:
 * only the newest word counts. */
static void skip_to_newest(struct shard *shard)
{
    if (shard->n_queue < 2) {
        return;
    }
    shard->queue[0] = *shard_tail(shard);
    shard->n_queue = 1;
    if (shard->queue[0].kind == SHARD_RECEIVE) {
        shard->n_queue = 0;
        came_back(shard, shard->queue[0].num);
    }
    head_begins(shard);
}

void shard_install(struct shard *shard, const struct shard_end *end,
                   const struct shard_sum *sessions, struct shard_effect *effect)
{
    const struct shard_transition *head = shard_head(shard);

    *effect = (struct shard_effect){.changed = true};
    ASSERT(head != NULL && head->kind == SHARD_RECEIVE && shard->copy.copy_id != 0);
    if (!shard_sum_equal(&shard->copy.records, &end->records) ||
        !shard_sum_equal(sessions, &end->sessions)) {
        copy_forget(shard, effect);
        effect->copy_was_broken = true;
        return;
    }
    shard->range = shard->copy.range;
    shard->copy.range = 0; /* now live: not to be dropped */
    copy_forget(shard, effect);
    shard->state = SHARD_SERVING;
    shard->epoch = head->num;
    add_release(shard, head->num, end->gid);
    effect->installed = true;
    pop(shard);
    skip_to_newest(shard);
    ASSERT(shard_is_consistent(shard));
}

void shard_void(struct shard *shard, config_num num, struct shard_effect *effect)
{
    *effect = (struct shard_effect){0};
    /* Only the transition at the head; only if it is also known to whom the shard goes on from
     * here: else this group would own, or keep for nobody, what it does not wait for. */
    if (!head_is(shard, SHARD_RECEIVE, num) || shard->n_queue < 2 || shard->queue[1].gid == 0) {
        return;
    }
    copy_forget(shard, effect);
    effect->changed = true;
    shard->n_queue -= 2;
    memmove(shard->queue, shard->queue + 2, shard->n_queue * sizeof(shard->queue[0]));
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

/* ---- Invariants ---- */

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

/* A copy arrives only while receiving, and goes out only while sending to somebody. */
static bool copies_are_consistent(const struct shard *shard, const struct shard_transition *head)
{
    const struct shard_copy *copy = &shard->copy;
    const struct shard_outgoing *outgoing = &shard->outgoing;
    bool receives = head != NULL && head->kind == SHARD_RECEIVE;
    bool sends_out = head != NULL && head->kind == SHARD_SEND && head->gid != 0;

    return (copy->copy_id != 0) == (copy->range != 0) && (copy->copy_id == 0 || receives) &&
           (outgoing->copy_id != 0) == (outgoing->range != 0) &&
           (outgoing->copy_id == 0 || sends_out) &&
           (!outgoing->is_swept || outgoing->swept.len == 0);
}

/* One for each source, and for each installation. What a release names was installed here. */
static bool releases_are_consistent(const struct shard *shard)
{
    for (size_t i = 0; i < shard->n_releases; i++) {
        const struct shard_release *release = &shard->releases[i];

        if (release->gid == 0 || release->num == 0 || release->num > shard->epoch) {
            return false;
        }
        for (size_t j = 0; j < i; j++) {
            if (shard->releases[j].gid == release->gid || shard->releases[j].num == release->num) {
                return false;
            }
        }
    }
    return true;
}

bool shard_is_consistent(const struct shard *shard)
{
    const struct shard_transition *head = shard_head(shard);
    bool receives = head != NULL && head->kind == SHARD_RECEIVE;

    if (!queue_is_consistent(shard) || !releases_are_consistent(shard)) {
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
    /* While it serves, at most one hand-over is to come: the newest. */
    if (shard->state == SHARD_SERVING && shard->n_queue > 1) {
        return false;
    }
    return copies_are_consistent(shard, head);
}
