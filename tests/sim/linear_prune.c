/* Which configurations are lost, and which optional writes may be of use. Both are necessary
 * conditions: they may say yes too often, never no where an order exists. */
#include "raft/util/assert.h"
#include "tests/sim/linear_internal.h"

/* The next gets see a value that grew, by appends alone, from what a put or cas wrote or from
 * nothing. That was the last put, cas or delete placed, or is one that is left. */
bool linear_is_lost(const struct linear_search *search, const struct linear_frame *frame)
{
    const struct linear_key *key = search->key;
    const struct linear_class *class = &key->classes[frame->class];

    if (frame->class == key->n_classes || linear_class_grows_from(class, frame->base)) {
        return false;
    }
    for (uint32_t i = 0; i < class->n_bases; i++) {
        if (key->values[class->bases[i]].left > 0) {
            return false;
        }
    }
    return !class->absent_base || key->deletes_left == 0;
}

/* Whether the value after `item` is the beginning of `value`. The cheap and telling part first:
 * what the item itself wrote. */
static bool begins(struct slice value, const struct linear_item *item,
                   const struct linear_state *before, const struct linear_state *after)
{
    struct slice written = item->operation->argument;
    size_t at = (size_t)(after->text.len - written.len);
    struct linear_print head;

    if (!after->exists) {
        return true;
    }
    if (after->text.len > value.len ||
        !slice_equal(slice_of(value.data + at, written.len), written)) {
        return false;
    }
    if (item->operation->type != HISTORY_APPEND) {
        return true;
    }
    head = linear_print_of(slice_of(value.data, at));
    return head.hash == before->text.hash;
}

static bool cas_can_use(const struct linear_item *cas, const struct linear_item *item,
                        const struct linear_state *before, const struct linear_state *after)
{
    const struct kv_condition *condition = &cas->operation->condition;

    return condition->type == KV_IF_ABSENT ? !after->exists
                                           : begins(condition->value, item, before, after);
}

static bool mismatch_can_use(const struct linear_item *cas, const struct linear_item *item,
                             const struct linear_state *before, const struct linear_state *after)
{
    const struct kv_condition *condition = &cas->operation->condition;

    if (condition->type == KV_IF_ABSENT) {
        return !before->exists || !after->exists;
    }
    return (before->exists && before->text.hash == cas->expect.hash &&
            before->text.len == cas->expect.len) ||
           begins(condition->value, item, before, after);
}

/* Whether `user`, mandatory, may be the end of a chain that begins with the optional `item`:
 * nothing but optional appends and cas stand between them, each depending on the one before. */
static bool can_use(const struct linear_search *search, const struct linear_frame *frame,
                    const struct linear_item *user, const struct linear_item *item,
                    const struct linear_state *before, const struct linear_state *after)
{
    const struct history_operation *operation = user->operation;

    switch (operation->type) {
    case HISTORY_GET:
        if (operation->outcome == HISTORY_NOT_FOUND) {
            return !after->exists;
        }
        return (user->class == LINEAR_NONE || user->class == frame->class) &&
               begins(operation->value, item, before, after);
    case HISTORY_PUT:
        return false;
    case HISTORY_APPEND:
        return after->text.len + operation->argument.len <= operation->output;
    case HISTORY_DELETE:
        return operation->output == 0 ? !after->exists : !before->exists || !after->exists;
    case HISTORY_CAS:
        return operation->outcome == HISTORY_MISMATCH ? mismatch_can_use(user, item, before, after)
                                                      : cas_can_use(user, item, before, after);
    }
    (void)search;
    UNREACHABLE("all types are handled above");
}

/* An optional write is followed by one that depends on it (rule 3 of the search). That is no put,
 * and no optional delete; so the chain goes on by appends and cas, up to a mandatory operation that
 * may come next already now, as optional ones hold up nothing. Either that one can use what the
 * chain, growing from here, leads to, or an optional cas on the way can. */
bool linear_may_help(const struct linear_search *search, const struct linear_frame *frame,
                     const struct linear_item *item, const struct linear_state *after)
{
    const struct linear_item *items = search->key->items;

    for (uint32_t i = search->head[0]; i != LINEAR_NONE && items[i].start < frame->min_end;
         i = items[i].next) {
        if (can_use(search, frame, &items[i], item, &frame->state, after)) {
            return true;
        }
    }
    for (uint32_t i = search->head[1]; i != LINEAR_NONE && items[i].start < frame->min_end;
         i = items[i].next) {
        if (&items[i] != item && items[i].operation->type == HISTORY_CAS &&
            cas_can_use(&items[i], item, &frame->state, after)) {
            return true;
        }
    }
    return false;
}
