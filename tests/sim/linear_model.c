/* One register with put, append, delete and compare-and-set, over fingerprints of values. */
#include "raft/util/assert.h"
#include "tests/sim/linear_internal.h"

#define PRIME ((1ull << 61) - 1)
#define BASE  0x0a3c5d7e91b2c4d7ull /* any number below the prime, fixed */

static uint64_t multiply(uint64_t a, uint64_t b)
{
    unsigned __int128 product = (unsigned __int128)a * b;
    uint64_t sum = (uint64_t)(product & PRIME) + (uint64_t)(product >> 61);

    return sum >= PRIME ? sum - PRIME : sum;
}

static uint64_t add(uint64_t a, uint64_t b)
{
    uint64_t sum = a + b;

    return sum >= PRIME ? sum - PRIME : sum;
}

struct linear_print linear_print_extend(struct linear_print head, struct slice tail)
{
    uint64_t hash = head.hash;

    for (size_t i = 0; i < tail.len; i++) {
        hash = add(multiply(hash, BASE), tail.data[i] + 1u);
    }
    return (struct linear_print){hash, head.len + tail.len};
}

struct linear_print linear_print_of(struct slice value)
{
    return linear_print_extend((struct linear_print){0, 0}, value);
}

uint64_t linear_power(uint64_t len)
{
    uint64_t power = 1, square = BASE;

    for (; len > 0; len >>= 1) {
        power = (len & 1) != 0 ? multiply(power, square) : power;
        square = multiply(square, square);
    }
    return power;
}

struct linear_print linear_print_tail(struct linear_print head, struct linear_print whole,
                                      uint64_t power)
{
    uint64_t hash = add(whole.hash, PRIME - multiply(head.hash, power));

    return (struct linear_print){hash, whole.len - head.len};
}

static bool print_equal(const struct linear_print *a, const struct linear_print *b)
{
    return a->hash == b->hash && a->len == b->len;
}

bool linear_state_equal(const struct linear_state *a, const struct linear_state *b)
{
    return a->exists == b->exists && a->dirty == b->dirty && a->version == b->version &&
           print_equal(&a->text, &b->text);
}

bool linear_looks(const struct history_operation *operation)
{
    switch (operation->type) {
    case HISTORY_GET:
        return operation->outcome == HISTORY_NOT_FOUND || operation->version == 0;
    case HISTORY_DELETE:
        return operation->outcome == HISTORY_OK && operation->output == 0;
    case HISTORY_CAS:
        return operation->outcome == HISTORY_MISMATCH;
    default:
        return false;
    }
}

static bool step_get(const struct linear_item *item, const struct linear_state *before,
                     struct linear_state *after)
{
    uint64_t version = item->operation->version;

    if (item->operation->outcome == HISTORY_NOT_FOUND) {
        return !before->exists;
    }
    if (!before->exists || !print_equal(&before->text, &item->text)) {
        return false;
    }
    if (version == 0) {
        return true;
    }
    /* The counter grows with every write, and with nothing else. */
    if (before->dirty ? version <= before->version : version != before->version) {
        return false;
    }
    after->version = version;
    after->dirty = false;
    return true;
}

/* A value that nobody looked at, nor what it grows to, differs from every value that somebody did:
 * only its length counts. No fingerprint is that hash, as all are below the prime. */
static bool step_put(const struct linear_item *item, struct linear_state *after)
{
    after->exists = true;
    after->dirty = true;
    after->text = item->text;
    after->text.hash = item->unseen ? LINEAR_UNSEEN : item->text.hash;
    return true;
}

static bool step_append(const struct linear_item *item, const struct linear_state *before,
                        struct linear_state *after)
{
    after->exists = true;
    after->dirty = true;
    after->text.hash = item->unseen || before->text.hash == LINEAR_UNSEEN
                           ? LINEAR_UNSEEN
                           : add(multiply(before->text.hash, item->power), item->text.hash);
    after->text.len = before->text.len + item->text.len;
    return item->optional || after->text.len == item->operation->output;
}

static bool step_delete(const struct linear_item *item, const struct linear_state *before,
                        struct linear_state *after)
{
    if (!item->optional && item->operation->output != (before->exists ? 1u : 0u)) {
        return false;
    }
    after->exists = false;
    after->dirty = true;
    after->text = (struct linear_print){0, 0};
    return !item->optional || before->exists;
}

static bool step_cas(const struct linear_item *item, const struct linear_state *before,
                     struct linear_state *after)
{
    bool holds = item->operation->condition.type == KV_IF_ABSENT
                     ? !before->exists
                     : before->exists && print_equal(&before->text, &item->expect);

    if (item->operation->outcome == HISTORY_MISMATCH) {
        return !holds;
    }
    return holds && step_put(item, after);
}

bool linear_step(const struct linear_item *item, const struct linear_state *before,
                 struct linear_state *after)
{
    *after = *before;
    switch (item->operation->type) {
    case HISTORY_GET:
        return step_get(item, before, after);
    case HISTORY_PUT:
        return step_put(item, after);
    case HISTORY_APPEND:
        return step_append(item, before, after);
    case HISTORY_DELETE:
        return step_delete(item, before, after);
    case HISTORY_CAS:
        return step_cas(item, before, after);
    }
    UNREACHABLE("all types are handled above");
}
