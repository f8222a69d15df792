/* One key's operations made ready for the search: real time as ranks, values as numbers, gets in
 * the order of their versions, and for each of those the writes that its value may have grown from.
 */
#include <stdlib.h>

#include "raft/util/assert.h"
#include "raft/util/mem.h"
#include "raft/util/rng.h"
#include "tests/sim/linear_internal.h"

/* ---- Real time ---- */

struct event {
    uint64_t at_us, order;
    uint32_t *rank;
};

static int compare_numbers(uint64_t a, uint64_t b)
{
    return (a > b) - (a < b);
}

static int compare_events(const void *a, const void *b)
{
    const struct event *x = a, *y = b;
    int by_time = compare_numbers(x->at_us, y->at_us);

    return by_time != 0 ? by_time : compare_numbers(x->order, y->order);
}

static void rank_events(struct linear_key *key)
{
    struct event *events = mem_alloc(2 * (size_t)key->n * sizeof(*events));
    size_t n = 0;

    for (uint32_t i = 0; i < key->n; i++) {
        struct linear_item *item = &key->items[i];
        const struct history_operation *operation = item->operation;
        events[n++] = (struct event){operation->start_us, operation->begin_order, &item->start};
        item->end = LINEAR_NO_END;
        if (!item->optional) {
            ASSERT(operation->end_us >= operation->start_us);
            events[n++] = (struct event){operation->end_us, operation->end_order, &item->end};
        }
    }
    qsort(events, n, sizeof(*events), compare_events);
    for (size_t i = 0; i < n; i++) {
        *events[i].rank = (uint32_t)i;
    }
    mem_free(events);
}

static int compare_items(const void *a, const void *b)
{
    const struct linear_item *x = a, *y = b;

    if (x->optional != y->optional) {
        return x->optional ? 1 : -1;
    }
    return compare_numbers(x->start, y->start);
}

/* ---- Values ---- */

bool linear_is_writer(const struct linear_item *item)
{
    return item->operation->type == HISTORY_PUT ||
           (item->operation->type == HISTORY_CAS && !item->looks);
}

bool linear_is_remover(const struct linear_item *item)
{
    return item->operation->type == HISTORY_DELETE && !item->looks;
}

bool linear_is_observer(const struct linear_item *item)
{
    switch (item->operation->type) {
    case HISTORY_GET:
        return item->looks;
    case HISTORY_PUT:
        return false;
    case HISTORY_CAS:
        return true;
    default:
        return !item->optional;
    }
}

static int compare_values(const void *a, const void *b)
{
    const struct linear_value *x = a, *y = b;
    int by_len = compare_numbers(x->print.len, y->print.len);

    return by_len != 0 ? by_len : compare_numbers(x->print.hash, y->print.hash);
}

uint32_t linear_key_value(const struct linear_key *key, struct linear_print print)
{
    struct linear_value wanted = {.print = print};
    const struct linear_value *found =
        bsearch(&wanted, key->values, key->n_values, sizeof(*key->values), compare_values);

    return found == NULL ? LINEAR_NONE : (uint32_t)(found - key->values);
}

static bool has_argument(const struct linear_item *item)
{
    return item->operation->type == HISTORY_APPEND || linear_is_writer(item);
}

static void number_values(struct linear_key *key)
{
    uint32_t n = 0;

    key->values = mem_zalloc(key->n * sizeof(*key->values));
    for (uint32_t i = 0; i < key->n; i++) {
        if (has_argument(&key->items[i])) {
            key->values[n++].print = key->items[i].text;
        }
    }
    qsort(key->values, n, sizeof(*key->values), compare_values);
    for (uint32_t i = 0; i < n; i++) {
        if (i == 0 || compare_values(&key->values[i], &key->values[key->n_values - 1]) != 0) {
            key->values[key->n_values++] = key->values[i];
        }
    }
    for (uint32_t i = 0; i < key->n; i++) {
        struct linear_item *item = &key->items[i];
        if (has_argument(item)) {
            item->value = linear_key_value(key, item->text);
            key->values[item->value].n_appends += item->operation->type == HISTORY_APPEND;
            key->values[item->value].item = i;
        }
        if (linear_is_writer(item)) {
            key->values[item->value].n_writers++;
            key->values[item->value].left++;
        }
    }
}

/* ---- Classes ---- */

static int compare_gets(const void *a, const void *b)
{
    const struct linear_item *x = *(struct linear_item *const *)a;
    const struct linear_item *y = *(struct linear_item *const *)b;
    int by_version = compare_numbers(x->operation->version, y->operation->version);

    return by_version != 0 ? by_version : compare_numbers(x->start, y->start);
}

bool linear_class_grows_from(const struct linear_class *class, uint32_t base)
{
    if (class->any_base) {
        return true;
    }
    for (uint32_t i = 0; i < class->n_bases; i++) {
        if (class->bases[i] == base) {
            return true;
        }
    }
    return base == LINEAR_ABSENT && class->absent_base;
}

static void add_base(struct linear_key *key, struct linear_class *class, uint32_t value)
{
    class->absent_base |= key->values[value].n_appends > 0;
    if (key->values[value].n_writers == 0) {
        return;
    }
    key->values[value].is_base = true;
    if (class->n_bases == LINEAR_MAX_BASES) {
        class->any_base = key->any_base = true;
        return;
    }
    class->bases[class->n_bases++] = value;
}

/* The first value longer than that. */
static uint32_t first_longer(const struct linear_key *key, uint64_t len)
{
    uint32_t low = 0, high = key->n_values;

    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (key->values[middle].print.len > len) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    return low;
}

/* Fingerprint and bases in one pass over the value's bytes; what it shares with the class before,
 * which it often extends, is taken over. */
static void read_class(struct linear_key *key, uint32_t number)
{
    struct linear_class *class = &key->classes[number];
    uint32_t next = 0;

    if (number > 0 && slice_has_prefix(class->value, class[-1].value)) {
        struct linear_class all = class[-1];
        all.version = class->version;
        all.value = class->value;
        all.left = class->left;
        *class = all;
        next = first_longer(key, class->print.len);
    }
    while (next < key->n_values && key->values[next].print.len <= class->value.len) {
        uint64_t len = key->values[next].print.len;
        uint32_t found;
        class->print =
            linear_print_extend(class->print, slice_of(class->value.data + class->print.len,
                                                       (size_t)(len - class->print.len)));
        found = linear_key_value(key, class->print);
        if (found != LINEAR_NONE) {
            add_base(key, class, found);
        }
        next = first_longer(key, len);
    }
    class->print =
        linear_print_extend(class->print, slice_of(class->value.data + class->print.len,
                                                   class->value.len - (size_t) class->print.len));
}

/* If a class can only have grown from what one operation wrote, then nothing reset the key between
 * that operation and the class; so whatever else was read in between has grown from it too. Hence
 * the operation comes after every class that has not, before this one. */
static void find_earliest(struct linear_key *key, uint32_t number)
{
    const struct linear_class *class = &key->classes[number];
    struct linear_value *value;

    if (class->any_base || class->absent_base || class->n_bases != 1) {
        return;
    }
    value = &key->values[class->bases[0]];
    if (value->n_writers != 1 || value->is_sole_base) {
        return;
    }
    value->is_sole_base = true;
    value->earliest = number;
    while (value->earliest > 0 &&
           linear_class_grows_from(&key->classes[value->earliest - 1], class->bases[0])) {
        value->earliest--;
    }
}

static void make_classes(struct linear_key *key)
{
    struct linear_item **gets = mem_alloc(key->n * sizeof(struct linear_item *));
    uint32_t n = 0;

    for (uint32_t i = 0; i < key->n; i++) {
        if (key->items[i].operation->type == HISTORY_GET && !key->items[i].looks) {
            gets[n++] = &key->items[i];
        }
    }
    qsort(gets, n, sizeof(struct linear_item *), compare_gets);
    key->classes = mem_zalloc(n * sizeof(*key->classes));
    for (uint32_t i = 0; i < n; i++) {
        const struct history_operation *operation = gets[i]->operation;
        struct linear_class *class;
        if (i == 0 || operation->version != key->classes[key->n_classes - 1].version) {
            class = &key->classes[key->n_classes++];
            *class =
                (struct linear_class){.version = operation->version, .value = operation->value};
            read_class(key, key->n_classes - 1);
        }
        class = &key->classes[key->n_classes - 1];
        gets[i]->class = key->n_classes - 1;
        gets[i]->text = slice_equal(class->value, operation->value)
                            ? class->print
                            : linear_print_of(operation->value);
        class->left++;
    }
    for (uint32_t i = 0; i < key->n_classes; i++) {
        find_earliest(key, i);
    }
    mem_free(gets);
}

/* ---- Twins ---- */

/* Rule 9 of the search. The conditions of two that fit the same state are the same, and so are the
 * answers that they were told; hence those need not be compared. */
static bool has_shape(const struct linear_item *item)
{
    return !item->looks && (item->operation->type == HISTORY_DELETE || item->unseen);
}

static int compare_shapes(const void *a, const void *b)
{
    const struct linear_item *x = *(struct linear_item *const *)a;
    const struct linear_item *y = *(struct linear_item *const *)b;
    int by_type = compare_numbers(x->operation->type, y->operation->type);

    return by_type != 0 ? by_type : compare_numbers(x->text.len, y->text.len);
}

/* Which arguments nobody saw, and which operations are twins. */
static void find_twins(struct linear_key *key)
{
    struct linear_item **items = mem_alloc(key->n * sizeof(struct linear_item *));
    uint32_t n = 0;

    for (uint32_t i = 0; i < key->n; i++) {
        struct linear_item *item = &key->items[i];
        item->unseen = item->value != LINEAR_NONE && !key->values[item->value].seen;
        if (has_shape(item)) {
            items[n++] = item;
        }
    }
    qsort(items, n, sizeof(struct linear_item *), compare_shapes);
    for (uint32_t i = 0; i < n; i++) {
        if (i > 0 && compare_shapes(&items[i - 1], &items[i]) != 0) {
            key->n_shapes++;
        }
        items[i]->shape = key->n_shapes;
    }
    key->n_shapes++;
    mem_free(items);
}

/* ---- The whole ---- */

static void item_init(struct linear_item *item, const struct history_operation *operation)
{
    *item = (struct linear_item){.operation = operation,
                                 .value = LINEAR_NONE,
                                 .class = LINEAR_NONE,
                                 .after = LINEAR_NONE,
                                 .before = LINEAR_NONE,
                                 .read_by = LINEAR_NONE,
                                 .looks_at = LINEAR_NONE,
                                 .shape = LINEAR_NONE,
                                 .previous = LINEAR_NONE,
                                 .next = LINEAR_NONE};
    item->optional = operation->outcome == HISTORY_PENDING || operation->outcome == HISTORY_UNKNOWN;
    item->looks = linear_looks(operation);
    if (operation->type != HISTORY_GET) {
        item->text = linear_print_of(operation->argument);
        item->power = linear_power(operation->argument.len);
    } else if (item->looks) {
        item->text = linear_print_of(operation->value);
    }
    if (operation->type == HISTORY_CAS) {
        item->expect = linear_print_of(operation->condition.value);
    }
}

static void finish_item(struct linear_key *key, struct linear_item *item, struct rng *rng)
{
    item->key[0] = rng_next(rng);
    item->key[1] = rng_next(rng);
    item->dead = item->operation->type == HISTORY_PUT && !item->optional && !key->any_base &&
                 !key->values[item->value].is_base;
    key->n_mandatory += !item->optional;
    key->observers_left += linear_is_observer(item);
    key->deletes_left += linear_is_remover(item);
}

void linear_key_init(struct linear_key *key, const struct history_operation *const *operations,
                     uint32_t n)
{
    struct rng rng;

    *key = (struct linear_key){.n = n};
    key->items = mem_alloc(n * sizeof(*key->items));
    for (uint32_t i = 0; i < n; i++) {
        item_init(&key->items[i], operations[i]);
    }
    rank_events(key);
    qsort(key->items, n, sizeof(*key->items), compare_items);
    number_values(key);
    make_classes(key);
    linear_chain_find(key);
    find_twins(key);
    rng_init(&rng, 1);
    for (uint32_t i = 0; i < n; i++) {
        finish_item(key, &key->items[i], &rng);
    }
}

void linear_key_fini(struct linear_key *key)
{
    mem_free(key->items);
    mem_free(key->classes);
    mem_free(key->values);
    *key = (struct linear_key){0};
}
