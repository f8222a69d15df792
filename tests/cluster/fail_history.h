/* fail_history: judges what fail_load wrote down. Operations on registers are handed to the
 * project's checker of linearizability (tests/sim/linear.h) as they are; tokens are counted; and
 * ends that the library promises never to give are violations by themselves. */
#ifndef TESTS_CLUSTER_FAIL_HISTORY_H
#define TESTS_CLUSTER_FAIL_HISTORY_H

#include <stdio.h>

#include "tests/sim/linear.h"

struct fail_verdict {
    enum linear_verdict linear;
    uint64_t operations, unknown, refused; /* as recorded, tokens included */
    uint64_t bad;                          /* ends that must not be */
    uint64_t malformed;                    /* lines that can't be read */
    uint64_t tokens_acked, tokens_unknown, tokens_refused;
    /* Wrong: acknowledged and not there; there more than once; acknowledged and not in its client's
     * order; refused and there; there and never written; keys that could not be read at the end. */
    uint64_t tokens_missing, tokens_twice, tokens_unordered, tokens_refused_there, tokens_strange;
    uint64_t keys_unread;
};

/* Reads the whole file. `text` gets lines for people on what is wrong. */
void fail_judge(FILE *file, struct fail_verdict *verdict, struct buf *text);
bool fail_verdict_is_good(const struct fail_verdict *verdict);

#endif
