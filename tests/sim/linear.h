/* linear: is a history linearizable (Herlihy and Wing, 1990)? Key by key, since linearizability is
 * local: all operations of a key must fit into one order that respects real time and that one
 * register with put, append, delete and compare-and-set would have answered alike.
 *
 * The search is Wing and Gong's with Lowe's memory of configurations already seen ("Testing for
 * linearizability", 2017). It is bounded: a history that it cannot decide within the bound is an
 * error, never a pass.
 */
#ifndef TESTS_SIM_LINEAR_H
#define TESTS_SIM_LINEAR_H

#include "tests/sim/history.h"

enum linear_verdict {
    LINEAR_YES,
    LINEAR_NO,
    LINEAR_UNDECIDED /* the bound was reached: treat it as a failure */
};

/* max_configurations bounds the work per key: configurations remembered, and 200 times as many
 * candidates looked at (0: a million). On NO and UNDECIDED, `text` (may be NULL) gets some lines
 * for people: the key, the longest order that was found, and the operations that can't follow. */
enum linear_verdict linear_check(const struct history *history, uint64_t max_configurations,
                                 struct buf *text);

/* Ends the test unless the verdict is YES. */
void linear_must_hold(const struct history *history);

#endif
