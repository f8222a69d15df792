/* The search: depth first over orders, one key at a time, with memory of what failed.
 *
 * A configuration is what is placed (all operations of the order so far) and the register's state.
 * Next may come what started before the end of everything that is left (Wing and Gong). Optional
 * operations (writes whose end is not known) have no end: they may come at any time after their
 * start, or never; an order is complete when all mandatory ones are placed.
 *
 * What keeps it small, and why nothing is lost by it. Let the completions of a configuration be
 * ordered by their number of optional operations, then by how early those come; it is enough to
 * find one of the least.
 *
 * 1. Looks (gets that witness no version, mismatches, deletes of nothing) that fit now are placed
 * at once. Moving one from its place in a completion to the front changes no state that another
 *    operation meets, nor breaks real time, as everything that must precede it is placed; and it
 *    moves no optional operation to the front.
 * 2. Versions order the gets: only those with the lowest version left may come next, and between
 * two of one version no write can come. So if the value is at a witnessed version with gets left,
 *    those that may come are placed at once, and no write. If a get fits a value not yet witnessed,
 *    and nothing but gets of its version must precede any of its version, all of them can be moved
 *    to the front like looks: between them and the front there can't have been another get.
 * 3. An optional operation is placed only right before one that depends on it: that would not have
 *    fitted, or would have led to another state, without it. In a least completion all optional
 *    operations are like that. Otherwise: if the next one fits without it and leads to the same
 *    state, then leaving it out gives a completion with fewer; if the next one fits without it and
 * is a look, then exchanging the two gives one where it comes later. So an unknown write that
 * nobody can have noticed is never tried.
 * 4. What failed with a set of optional operations placed fails with every superset, the rest being
 *    equal: see linear_memory.c.
 * 5. If nothing is left but puts and gets with versions, the next gets' value does not grow from
 * the last put, and nobody can have read what an enabled put wrote (`dead`), then that put is
 * placed at once: until the next put that matters nobody looks, and where it stood before, whatever
 *    followed was a write that hides it.
 * 6. What the values that were seen are composed of says which write must follow which, and which
 *    get must come before the next write: linear_chain.c.
 * 7. Configurations from which the next gets can't be reached are left: linear_prune.c.
 * 8. An argument that is part of no value that was looked at (linear_chain.c) leaves a value that
 * no look and no condition will ever find, nor will it be found after appends. Of such values only
 *    the length can be told: all of one length are one state (linear_model.c).
 * 9. Twins are writes that, where both fit, do the same: deletes, and by rule 8 writes of one type
 *    and length whose arguments nobody saw. Of those that may come next, one is tried: a mandatory
 *    one if there is any, the one that ends first; else the optional one that began first. For take
 *    a completion that begins with another one, and exchange the two. As both fit now, they have
 *    the same condition and were told the same answer, so they fit at each other's places, and no
 *    state changes. Real time is kept: both may come now, so both may come later; and what now
 *    waits longer does not end before the one it changed places with, or never ends. There are as
 *    many optional operations as before, at the same places or one of them later. */
#include "raft/util/assert.h"
#include "raft/util/mem.h"
#include "tests/sim/linear_internal.h"

#define WORK_PER_CONFIGURATION 200 /* candidates looked at: bounds the time as well */

static struct linear_frame *top(struct linear_search *search)
{
    return &search->frames[search->n_frames - 1];
}

/* ---- What is left ---- */

static void link_list(struct linear_search *search, uint32_t list, uint32_t begin, uint32_t end)
{
    struct linear_item *items = search->key->items;

    search->head[list] = begin < end ? begin : LINEAR_NONE;
    for (uint32_t i = begin; i < end; i++) {
        items[i].previous = i > begin ? i - 1 : LINEAR_NONE;
        items[i].next = i + 1 < end ? i + 1 : LINEAR_NONE;
    }
}

static void count_item(struct linear_search *search, const struct linear_item *item, uint32_t by)
{
    struct linear_key *key = search->key;

    if (!item->optional) {
        search->mandatory_left += by;
    }
    if (item->class != LINEAR_NONE) {
        key->classes[item->class].left += by;
    }
    if (item->looks_at != LINEAR_NONE) {
        key->items[item->looks_at].lookers += by;
    }
    if (linear_is_writer(item)) {
        key->values[item->value].left += by;
    }
    if (linear_is_observer(item)) {
        key->observers_left += by;
    }
    if (linear_is_remover(item)) {
        key->deletes_left += by;
    }
}

static void place(struct linear_search *search, uint32_t number)
{
    struct linear_item *items = search->key->items, *item = &items[number];
    uint32_t bit = number - search->key->n_mandatory;

    if (item->previous != LINEAR_NONE) {
        items[item->previous].next = item->next;
    } else {
        search->head[item->optional] = item->next;
    }
    if (item->next != LINEAR_NONE) {
        items[item->next].previous = item->previous;
    }
    count_item(search, item, UINT32_MAX);
    if (item->optional) {
        search->optional_placed[bit / 64] |= 1ull << (bit % 64);
    }
}

/* Undoes the last place() that was not undone. */
static void take_back(struct linear_search *search, uint32_t number)
{
    struct linear_item *items = search->key->items, *item = &items[number];
    uint32_t bit = number - search->key->n_mandatory;

    if (item->previous != LINEAR_NONE) {
        items[item->previous].next = number;
    } else {
        search->head[item->optional] = number;
    }
    if (item->next != LINEAR_NONE) {
        items[item->next].previous = number;
    }
    count_item(search, item, 1);
    if (item->optional) {
        search->optional_placed[bit / 64] &= ~(1ull << (bit % 64));
    }
}

/* ---- Candidates ---- */

/* Rule 3: whether `item` would not be the same without the optional write before it. A delete of
 * unknown end never depends: without both, or with it alone, the state is the same. */
static bool depends(const struct linear_frame *frame, const struct linear_item *item,
                    const struct linear_state *after)
{
    struct linear_state without;

    if (item->optional && item->operation->type == HISTORY_DELETE) {
        return false;
    }
    if (!linear_step(item, &frame->before, &without)) {
        return true;
    }
    return !item->looks && !linear_state_equal(&without, after);
}

/* Gets of the state's own version are left: no write before them. */
static bool is_closed(const struct linear_search *search, const struct linear_frame *frame)
{
    return frame->class < search->key->n_classes && !frame->state.dirty &&
           search->key->classes[frame->class].version == frame->state.version;
}

/* Versions and the composition of what was seen allow this write now. */
static bool may_write(const struct linear_search *search, const struct linear_frame *frame,
                      const struct linear_item *item)
{
    const struct linear_key *key = search->key;

    if (is_closed(search, frame)) {
        return false;
    }
    if (search->plainly) {
        return true;
    }
    if ((item->value != LINEAR_NONE && key->values[item->value].earliest > frame->class)) {
        return false;
    }
    if (frame->last_write != LINEAR_NONE) {
        const struct linear_item *last = &key->items[frame->last_write];
        if ((last->before != LINEAR_NONE && &key->items[last->before] != item) ||
            (last->read_by != LINEAR_NONE && key->classes[last->read_by].left > 0) ||
            last->lookers > 0) {
            return false;
        }
    }
    return item->after == LINEAR_NONE || item->after == frame->last_write;
}

static bool may_come(const struct linear_search *search, const struct linear_frame *frame,
                     const struct linear_item *item, struct linear_state *after)
{
    if (item->class != LINEAR_NONE && item->class != frame->class) {
        return false;
    }
    if (item->class == LINEAR_NONE && !item->looks && !may_write(search, frame, item)) {
        return false;
    }
    return linear_step(item, &frame->state, after) &&
           (!frame->after_optional || depends(frame, item, after));
}

/* Rule 2: nothing but gets of the class must precede any get of it. */
static bool class_is_free(const struct linear_search *search, uint32_t class)
{
    const struct linear_item *items = search->key->items;
    uint32_t min_end = LINEAR_NO_END, n = 0;

    for (uint32_t i = search->head[0]; i != LINEAR_NONE && items[i].start < min_end;
         i = items[i].next) {
        if (items[i].class == class) {
            n++;
        } else if (items[i].end < min_end) {
            min_end = items[i].end;
        }
    }
    return n == search->key->classes[class].left;
}

/* Whether the candidate stands for all: rules 1, 2 and 5. */
static bool settles(const struct linear_search *search, const struct linear_frame *frame,
                    const struct linear_item *item)
{
    const struct linear_key *key = search->key;

    if (item->looks) {
        return true;
    }
    if (item->class != LINEAR_NONE) {
        return is_closed(search, frame) || class_is_free(search, item->class);
    }
    return item->dead && key->observers_left == 0 &&
           (frame->class == key->n_classes ||
            !linear_class_grows_from(&key->classes[frame->class], frame->base));
}

static void add_candidate(struct linear_search *search, struct linear_frame *frame, uint32_t item)
{
    MEM_GROW(search->candidates, search->candidates_capacity, search->n_candidates + 1);
    search->candidates[search->n_candidates++] = item;
    frame->count++;
}

/* What is likely right comes first: gets that fit, then what told its result, then puts. */
static uint64_t promise(const struct linear_item *item)
{
    uint64_t group = 1;

    if (item->operation->type == HISTORY_GET) {
        group = 0;
    } else if (item->operation->type == HISTORY_PUT) {
        group = item->dead ? 2 : 3;
    }
    return group << 32 | item->end;
}

static void sort_candidates(struct linear_search *search, const struct linear_frame *frame)
{
    const struct linear_item *items = search->key->items;
    uint32_t *list = &search->candidates[frame->first];

    for (size_t i = 1; i < frame->count; i++) {
        uint32_t moved = list[i];
        size_t at = i;
        for (; at > 0 && promise(&items[list[at - 1]]) > promise(&items[moved]); at--) {
            list[at] = list[at - 1];
        }
        list[at] = moved;
    }
}

/* Whether the frame has a candidate of the item's shape; if not, it has now. */
static bool has_twin(struct linear_search *search, const struct linear_item *item)
{
    if (item->shape == LINEAR_NONE) {
        return false;
    }
    if (search->shapes[item->shape] == search->round) {
        return true;
    }
    search->shapes[item->shape] = search->round;
    return false;
}

/* Rule 9, for candidates in the order of their ends. Notes their shapes, for optional ones. */
static void drop_twins(struct linear_search *search, struct linear_frame *frame)
{
    const struct linear_item *items = search->key->items;
    uint32_t *list = &search->candidates[frame->first];
    size_t kept = 0;

    search->round++;
    for (size_t i = 0; i < frame->count; i++) {
        if (!has_twin(search, &items[list[i]])) {
            list[kept++] = list[i];
        }
    }
    frame->count = kept;
    search->n_candidates = frame->first + kept;
}

static void add_mandatory(struct linear_search *search, struct linear_frame *frame, uint64_t *work)
{
    const struct linear_item *items = search->key->items;
    struct linear_state after;

    frame->min_end = LINEAR_NO_END;
    for (uint32_t i = search->head[0]; i != LINEAR_NONE && items[i].start < frame->min_end;
         i = items[i].next) {
        if (items[i].end < frame->min_end) {
            frame->min_end = items[i].end;
        }
        ++*work;
        if (!may_come(search, frame, &items[i], &after)) {
            continue;
        }
        if (settles(search, frame, &items[i])) {
            search->n_candidates = frame->first;
            frame->count = 0;
            frame->settled = true;
            add_candidate(search, frame, i);
            return;
        }
        add_candidate(search, frame, i);
    }
    sort_candidates(search, frame);
    drop_twins(search, frame);
}

static void add_optional(struct linear_search *search, struct linear_frame *frame, uint64_t *work)
{
    const struct linear_item *items = search->key->items;
    struct linear_state after;

    frame->optional_added = true;
    ASSERT(search->n_candidates == frame->first + frame->count);
    drop_twins(search, frame);
    for (uint32_t i = search->head[1]; i != LINEAR_NONE && items[i].start < frame->min_end;
         i = items[i].next) {
        ++*work;
        if (may_come(search, frame, &items[i], &after) &&
            linear_may_help(search, frame, &items[i], &after) && !has_twin(search, &items[i])) {
            add_candidate(search, frame, i);
        }
    }
}

/* ---- Configurations ---- */

static void mix(uint64_t name[2], uint64_t value)
{
    name[0] = (name[0] ^ value) * 0x9e3779b97f4a7c15u;
    name[0] ^= name[0] >> 29;
    name[1] = (name[1] + value) * 0xbf58476d1ce4e5b9u;
    name[1] ^= name[1] >> 32;
}

static void mix_state(uint64_t name[2], const struct linear_state *state)
{
    mix(name, (uint64_t)state->exists | (uint64_t)state->dirty << 1);
    mix(name, state->version);
    mix(name, state->text.hash);
    mix(name, state->text.len);
}

/* Notes the configuration; whether it is new. After an optional write less may follow: that is a
 * configuration of its own, but one without that condition stands for it. */
static bool is_new(struct linear_search *search, const struct linear_frame *frame)
{
    uint64_t name[2] = {frame->name[0], frame->name[1]};

    mix_state(name, &frame->state);
    if (linear_memory_has(search->memory, name, search->optional_placed)) {
        return false;
    }
    if (frame->after_optional) {
        mix_state(name, &frame->before);
        if (linear_memory_has(search->memory, name, search->optional_placed)) {
            return false;
        }
    }
    linear_memory_add(search->memory, name, search->optional_placed);
    return true;
}

/* Finds what may come next, unless the configuration is known or lost. */
static void open_frame(struct linear_search *search, struct linear_frame *frame, uint64_t *work)
{
    const struct linear_key *key = search->key;

    while (frame->class < key->n_classes && key->classes[frame->class].left == 0) {
        frame->class ++;
    }
    frame->first = search->n_candidates;
    frame->min_end = LINEAR_NO_END;
    if (!is_new(search, frame)) {
        frame->optional_added = true;
        frame->known = true;
        return;
    }
    if (!search->plainly && linear_is_lost(search, frame)) {
        frame->optional_added = true;
        return;
    }
    add_mandatory(search, frame, work);
}

static void push(struct linear_search *search, uint32_t number, uint64_t *work)
{
    const struct linear_item *item = &search->key->items[number];
    struct linear_frame frame = *top(search);

    frame.before = frame.state;
    frame.after_optional = item->optional;
    frame.item = number;
    frame.at = frame.count = 0;
    frame.optional_added = frame.settled = frame.known = false;
    if (!linear_step(item, &frame.before, &frame.state)) {
        UNREACHABLE("a candidate fits");
    }
    if (!item->looks && item->class == LINEAR_NONE) {
        frame.last_write = number;
    }
    if (linear_is_writer(item)) {
        frame.base = item->value;
    } else if (linear_is_remover(item)) {
        frame.base = LINEAR_ABSENT;
    }
    if (!item->optional) {
        frame.name[0] ^= item->key[0];
        frame.name[1] ^= item->key[1];
    }
    place(search, number);
    MEM_GROW(search->frames, search->frames_capacity, search->n_frames + 1);
    search->frames[search->n_frames++] = frame;
    open_frame(search, top(search), work);
}

static void note_best(struct linear_search *search)
{
    uint32_t placed = search->key->n_mandatory - search->mandatory_left;

    if (search->has_best && placed <= search->best_mandatory) {
        return;
    }
    search->has_best = true;
    search->best_mandatory = placed;
    search->n_best = search->n_frames - 1;
    for (size_t i = 0; i < search->n_best; i++) {
        search->best[i] = search->frames[i + 1].item;
    }
}

static void pop(struct linear_search *search)
{
    const struct linear_frame *frame = top(search);

    if (frame->count == 0 && !frame->known) {
        note_best(search);
    }
    search->n_candidates = frame->first;
    if (search->n_frames > 1) {
        take_back(search, frame->item);
    }
    search->n_frames--;
}

static void begin(struct linear_search *search, struct linear_key *key)
{
    *search = (struct linear_search){.key = key, .mandatory_left = key->n_mandatory};
    search->memory = linear_memory_create(key->n - key->n_mandatory);
    search->optional_placed = mem_zalloc((key->n / 64 + 1) * sizeof(uint64_t));
    search->shapes = mem_zalloc((key->n_shapes + 1) * sizeof(*search->shapes));
    search->best = mem_alloc(key->n * sizeof(*search->best));
    link_list(search, 0, 0, key->n_mandatory);
    link_list(search, 1, key->n_mandatory, key->n);
    MEM_GROW(search->frames, search->frames_capacity, 1);
    search->frames[search->n_frames++] = (struct linear_frame){.state = {.dirty = true},
                                                               .item = LINEAR_NONE,
                                                               .last_write = LINEAR_NONE,
                                                               .base = LINEAR_ABSENT};
}

enum linear_verdict linear_search_run(struct linear_search *search, struct linear_key *key,
                                      uint64_t max_configurations, bool plainly)
{
    uint64_t work = 0;

    begin(search, key);
    search->plainly = plainly;
    open_frame(search, top(search), &work);
    while (search->n_frames > 0) {
        struct linear_frame *frame = top(search);
        if (search->mandatory_left == 0) {
            return LINEAR_YES;
        }
        if (linear_memory_count(search->memory) > max_configurations ||
            work / WORK_PER_CONFIGURATION > max_configurations) {
            note_best(search);
            return LINEAR_UNDECIDED;
        }
        if (frame->at < frame->count) {
            push(search, search->candidates[frame->first + frame->at++], &work);
        } else if (!frame->settled && !frame->optional_added) {
            add_optional(search, frame, &work);
        } else {
            pop(search);
        }
    }
    return LINEAR_NO;
}

void linear_search_fini(struct linear_search *search)
{
    linear_memory_destroy(&search->memory);
    mem_free(search->frames);
    mem_free(search->candidates);
    mem_free(search->optional_placed);
    mem_free(search->best);
    mem_free(search->shapes);
}
