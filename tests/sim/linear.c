/* Keys one by one, the verdict, and the explanation; see linear.h and linear_internal.h. */
#include "tests/sim/linear.h"

#include <stdlib.h>

#include "raft/util/assert.h"
#include "raft/util/mem.h"
#include "tests/sim/check.h"
#include "tests/sim/linear_internal.h"

/* Simulated histories take 3,000 at most, the hardest of outages made by chance about 80,000. */
#define DEFAULT_CONFIGURATIONS 1000000u
#define PLAIN_CONFIGURATIONS   20000u
#define SHOWN_OPERATIONS       8

typedef const struct history_operation *operation_pointer;

/* Refused operations did nothing, now or later: they don't count; if one shows, then nobody is left
 * who can have written what it wrote. Reads without an answer say nothing. */
static bool counts(const struct history_operation *operation)
{
    if (operation->outcome == HISTORY_REFUSED) {
        return false;
    }
    return operation->type != HISTORY_GET || operation->outcome == HISTORY_OK ||
           operation->outcome == HISTORY_NOT_FOUND;
}

static int compare_operations(const void *a, const void *b)
{
    operation_pointer x = *(const operation_pointer *)a, y = *(const operation_pointer *)b;

    if (x->key != y->key) {
        return x->key < y->key ? -1 : 1;
    }
    return (x->begin_order > y->begin_order) - (x->begin_order < y->begin_order);
}

/* ---- The explanation ---- */

static void print_line(const struct linear_item *item, struct buf *text)
{
    buf_printf(text, "    ");
    history_print(item->operation, text);
    buf_printf(text, "\n");
}

/* The order again, with bytes instead of fingerprints. */
static void replay(const struct linear_search *search, struct linear_state *state,
                   struct buf *value)
{
    *state = (struct linear_state){.dirty = true};
    for (size_t i = 0; i < search->n_best; i++) {
        const struct linear_item *item = &search->key->items[search->best[i]];
        struct linear_state before = *state;
        bool fits = linear_step(item, &before, state);
        ASSERT(fits);
        if (linear_is_writer(item) || linear_is_remover(item)) {
            buf_clear(value);
        }
        if (linear_is_writer(item) || item->operation->type == HISTORY_APPEND) {
            buf_put_slice(value, item->operation->argument);
        }
    }
}

static void print_order(const struct linear_search *search, struct buf *text)
{
    size_t from = search->n_best > SHOWN_OPERATIONS ? search->n_best - SHOWN_OPERATIONS : 0;
    struct linear_state state;
    struct buf value = {0};

    buf_printf(text, "  the longest order found has %u of the %u that must have taken effect%s\n",
               search->best_mandatory, search->key->n_mandatory,
               search->n_best == 0 ? ""
               : from > 0          ? "; it ends with"
                                   : ":");
    for (size_t i = from; i < search->n_best; i++) {
        print_line(&search->key->items[search->best[i]], text);
    }
    replay(search, &state, &value);
    buf_printf(text, "  then the value is ");
    if (state.exists) {
        history_print_value(buf_slice(&value), text);
    } else {
        buf_printf(text, "absent");
    }
    buf_printf(text, ", the last version seen %llu%s; none of these can follow:\n",
               (unsigned long long)state.version, state.dirty ? ", written since" : "");
    buf_fini(&value);
}

static void print_rest(const struct linear_search *search, struct buf *text)
{
    const struct linear_key *key = search->key;
    bool *placed = mem_zalloc(key->n * sizeof(*placed));
    uint32_t min_end = LINEAR_NO_END, shown = 0;

    for (size_t i = 0; i < search->n_best; i++) {
        placed[search->best[i]] = true;
    }
    for (uint32_t i = 0; i < key->n_mandatory && key->items[i].start < min_end; i++) {
        if (placed[i]) {
            continue;
        }
        min_end = key->items[i].end < min_end ? key->items[i].end : min_end;
        if (shown++ < 2 * SHOWN_OPERATIONS) {
            print_line(&key->items[i], text);
        }
    }
    if (shown > 2 * SHOWN_OPERATIONS) {
        buf_printf(text, "    and %u more\n", shown - 2 * SHOWN_OPERATIONS);
    }
    mem_free(placed);
}

static void explain(const struct linear_search *search, enum linear_verdict verdict,
                    struct buf *text)
{
    const struct linear_key *key = search->key;

    buf_printf(
        text, "key %zu: %s (%u operations, %u of them of unknown end; %llu configurations)\n",
        key->items[0].operation->key,
        verdict == LINEAR_NO ? "no order explains what the clients saw"
                             : "not decided within the bound",
        key->n, key->n - key->n_mandatory, (unsigned long long)linear_memory_count(search->memory));
    print_order(search, text);
    print_rest(search, text);
}

/* ---- The check ---- */

/* Searches again for an order that gets further: conclusions cut orders off long before the
 * operation that contradicts them. It is also a second opinion. */
static void explain_plainly(const operation_pointer *operations, uint32_t n, struct buf *text)
{
    struct linear_key key;
    struct linear_search search;
    enum linear_verdict verdict;

    linear_key_init(&key, operations, n);
    verdict = linear_search_run(&search, &key, PLAIN_CONFIGURATIONS, true);
    ASSERT(verdict != LINEAR_YES);
    explain(&search, LINEAR_NO, text);
    linear_search_fini(&search);
    linear_key_fini(&key);
}

static enum linear_verdict check_key(const operation_pointer *operations, uint32_t n,
                                     uint64_t max_configurations, struct buf *text)
{
    struct linear_key key;
    struct linear_search search;
    enum linear_verdict verdict;

    linear_key_init(&key, operations, n);
    verdict = linear_search_run(&search, &key, max_configurations, false);
    if (verdict == LINEAR_NO && text != NULL) {
        explain_plainly(operations, n, text);
    } else if (verdict == LINEAR_UNDECIDED && text != NULL) {
        explain(&search, verdict, text);
    }
    linear_search_fini(&search);
    linear_key_fini(&key);
    return verdict;
}

/* The worse of both: a broken key is worth more than an undecided one. */
static enum linear_verdict worse(enum linear_verdict a, enum linear_verdict b)
{
    if (a == LINEAR_NO || b == LINEAR_NO) {
        return LINEAR_NO;
    }
    return a == LINEAR_UNDECIDED ? a : b;
}

enum linear_verdict linear_check(const struct history *history, uint64_t max_configurations,
                                 struct buf *text)
{
    size_t n_all = history_count(history), n = 0;
    operation_pointer *operations = mem_alloc(n_all * sizeof(operation_pointer));
    enum linear_verdict verdict = LINEAR_YES;

    for (size_t i = 0; i < n_all; i++) {
        if (counts(history_at(history, i))) {
            operations[n++] = history_at(history, i);
        }
    }
    ASSERT(n < LINEAR_NONE / 2);
    qsort(operations, n, sizeof(operation_pointer), compare_operations);
    for (size_t from = 0, to; from < n; from = to) {
        for (to = from; to < n && operations[to]->key == operations[from]->key;) {
            to++;
        }
        verdict = worse(
            verdict,
            check_key(&operations[from], (uint32_t)(to - from),
                      max_configurations == 0 ? DEFAULT_CONFIGURATIONS : max_configurations, text));
    }
    mem_free(operations);
    return verdict;
}

void linear_must_hold(const struct history *history)
{
    struct buf text = {0};
    enum linear_verdict verdict = linear_check(history, 0, &text);

    if (verdict != LINEAR_YES) {
        check_fail("linearizability", "%s\n%.*s",
                   verdict == LINEAR_NO ? "the history is not linearizable" : "not decided",
                   (int)text.len, (const char *)text.data);
    }
    buf_fini(&text);
}
