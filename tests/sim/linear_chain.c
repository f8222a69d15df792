/* What the values that were seen are composed of. A value seen by a get, or named by a cas that
 * found it, is what one put, cas or append (to nothing) wrote, and then what appends added. If
 * there is only one way to compose it, of arguments that only one operation each has, then those
 * very operations came one right after the other in every order, with no write between them, and
 * the look came before the next write. Unique arguments make that the rule; where it is not,
 * nothing is concluded.
 *
 * For classes, which are in the order of versions, more follows: an operation that class c contains
 * came after each earlier class that does not contain it. For if it came before, then the value of
 * that class, read after it and before class c, without a reset between, would contain it.
 *
 * An operation of unknown end that is part of such a value took effect. If that is a cas, it has
 * found the value that it names, which then was seen as well.
 *
 * What is a part of no value that was seen, in any way to compose the beginning of one, was never
 * seen at all (rule 8 of the search).
 *
 * Such conclusions hold for every order that is complete. So they may cut a configuration off that
 * another order reaches too, without being remembered as part of it. */
#include "raft/util/mem.h"
#include "tests/sim/linear_internal.h"

#define MAX_LENGTHS 64 /* of different arguments: more, and nothing is concluded */

struct place {
    struct linear_print head; /* of the value up to here */
    uint32_t ways;            /* to compose that, up to 2 */
    uint32_t last;            /* the last argument of it */
};

struct chain {
    struct linear_key *key;
    struct slice value;
    struct place *places; /* 0 to value.len */
    size_t capacity;
    uint64_t lengths[MAX_LENGTHS], powers[MAX_LENGTHS];
    size_t n_lengths;
    size_t known; /* up to here, composition was noted already; 0: nothing was */
    bool found;   /* an operation that was not known to be witnessed */
};

static bool chain_init(struct chain *chain, struct linear_key *key)
{
    *chain = (struct chain){.key = key};
    for (uint32_t i = 0; i < key->n_values; i++) {
        uint64_t len = key->values[i].print.len;
        if (i > 0 && len == key->values[i - 1].print.len) {
            continue;
        }
        /* Empty arguments can stand anywhere. */
        if (len == 0 || chain->n_lengths == MAX_LENGTHS) {
            return false;
        }
        chain->lengths[chain->n_lengths] = len;
        chain->powers[chain->n_lengths++] = linear_power(len);
    }
    return true;
}

static void reach(struct chain *chain, size_t at)
{
    struct place *place = &chain->places[at];

    place->ways = 0;
    for (size_t i = 0; i < chain->n_lengths && chain->lengths[i] <= at; i++) {
        const struct place *from = &chain->places[at - (size_t)chain->lengths[i]];
        const struct linear_value *value;
        uint32_t number, writers;
        if (from->ways == 0) {
            continue;
        }
        number = linear_key_value(chain->key,
                                  linear_print_tail(from->head, place->head, chain->powers[i]));
        if (number == LINEAR_NONE) {
            continue;
        }
        value = &chain->key->values[number];
        if (from != chain->places && value->n_appends == 0) {
            continue; /* nothing can have added it */
        }
        chain->key->values[number].seen = true;
        writers = value->n_appends + value->n_writers;
        place->ways += from->ways * (writers < 2 ? writers : 2);
        place->ways = place->ways < 2 ? place->ways : 2;
        place->last = number;
    }
}

/* Whether there is one way; keeps what it found out of the value before, if this one extends it. */
static bool compose(struct chain *chain, struct slice value)
{
    size_t from = chain->value.len;

    if (from == 0 || !slice_has_prefix(value, chain->value)) {
        from = chain->known = 0;
    }
    chain->value = value;
    MEM_GROW(chain->places, chain->capacity, value.len + 1);
    if (from == 0) {
        chain->places[0] = (struct place){.ways = 1};
    }
    for (size_t at = from + 1; at <= value.len; at++) {
        chain->places[at].head =
            linear_print_extend(chain->places[at - 1].head, slice_of(value.data + at - 1, 1));
        reach(chain, at);
    }
    return value.len > 0 && chain->places[value.len].ways == 1;
}

/* Of the classes that contain it, the first: what such a class reads is a beginning of what later
 * ones read, so if there is one way to compose a later one, there is one to compose the first. */
static void note_class(uint32_t class, struct linear_value *value)
{
    if (!value->is_sole_base) {
        value->is_sole_base = true;
        value->earliest = class;
    }
}

/* Notes who follows whom; returns the last. */
static uint32_t note(struct chain *chain, uint32_t class)
{
    struct linear_key *key = chain->key;
    size_t at = chain->value.len;
    uint32_t last = key->values[chain->places[at].last].item, later = LINEAR_NONE;

    while (at > 0) {
        struct linear_value *value = &key->values[chain->places[at].last];
        chain->found |= !key->items[value->item].witnessed;
        key->items[value->item].witnessed = true;
        if (later != LINEAR_NONE) {
            key->items[value->item].before = later;
            key->items[later].after = value->item;
        }
        if (at == chain->known) {
            break;
        }
        if (class != LINEAR_NONE) {
            note_class(class, value);
        }
        later = value->item;
        at -= (size_t)value->print.len;
    }
    chain->known = chain->value.len;
    return last;
}

static void find_of_classes(struct chain *chain)
{
    struct linear_key *key = chain->key;

    for (uint32_t i = 0; i < key->n_classes; i++) {
        if (compose(chain, key->classes[i].value)) {
            key->classes[i].known = true;
            key->items[note(chain, i)].read_by = i;
        }
    }
}

/* The arguments in values that were looked at otherwise; compose() marks them. What a cas compares
 * with counts, whether it was that or not. Gets without a version: see find_of_look; gets of one
 * version with different values don't fit into any order, whatever is marked. */
static void mark_seen(struct chain *chain)
{
    for (uint32_t i = 0; i < chain->key->n; i++) {
        const struct history_operation *operation = chain->key->items[i].operation;
        if (operation->type == HISTORY_CAS && operation->condition.type == KV_IF_VALUE) {
            compose(chain, operation->condition.value);
        }
    }
}

static void find_of_cas(struct chain *chain, uint32_t number)
{
    struct linear_item *item = &chain->key->items[number];

    if (item->operation->type != HISTORY_CAS || item->looks ||
        (item->optional && !item->witnessed) || item->after != LINEAR_NONE ||
        item->operation->condition.type != KV_IF_VALUE) {
        return;
    }
    if (compose(chain, item->operation->condition.value)) {
        item->after = note(chain, LINEAR_NONE);
        chain->key->items[item->after].before = number;
    }
}

/* A get that witnesses no version tells as much of the writes that it saw; only its place among the
 * classes is not known. */
static void find_of_look(struct chain *chain, uint32_t number)
{
    struct linear_item *item = &chain->key->items[number];

    if (item->operation->type != HISTORY_GET || !item->looks ||
        item->operation->outcome != HISTORY_OK) {
        return;
    }
    if (compose(chain, item->operation->value)) {
        item->looks_at = note(chain, LINEAR_NONE);
        chain->key->items[item->looks_at].lookers++;
    }
}

void linear_chain_find(struct linear_key *key)
{
    struct chain chain;

    if (chain_init(&chain, key)) {
        find_of_classes(&chain);
        for (uint32_t i = 0; i < key->n; i++) {
            find_of_look(&chain, i);
        }
        do {
            chain.found = false;
            for (uint32_t i = 0; i < key->n; i++) {
                find_of_cas(&chain, i);
            }
        } while (chain.found);
        mark_seen(&chain);
    } else {
        for (uint32_t i = 0; i < key->n_values; i++) {
            key->values[i].seen = true;
        }
    }
    mem_free(chain.places);
}
