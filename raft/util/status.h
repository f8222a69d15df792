/* Status codes: the one vocabulary for how an operation ended, in memory, on the wire and in the
 * CLI.
 *
 * The numbers travel in responses and never change meaning; add at the end. Three questions matter
 * to a caller and have a predicate each: is it a negative answer (the operation ran), is it certain
 * that nothing was applied, is it worth trying again.
 */
#ifndef RAFT_UTIL_STATUS_H
#define RAFT_UTIL_STATUS_H

#include <stdbool.h>

/* X(NAME, number, text for people) */
#define STATUS_MAP(X)                                                                              \
    X(OK, 0, "ok")                                                                                 \
    X(NOT_FOUND, 1, "no such key")                                                                 \
    X(MISMATCH, 2, "the condition did not hold")                                                   \
    X(INVALID, 3, "invalid argument")                                                              \
    X(TOO_LARGE, 4, "too large")                                                                   \
    X(NOT_LEADER, 5, "this replica is not the leader")                                             \
    X(WRONG_GROUP, 6, "the shard is not served by this group")                                     \
    X(BUSY, 7, "overloaded, try again later")                                                      \
    X(TIMEOUT, 8, "no answer in time, certainly not applied")                                      \
    X(UNKNOWN, 9, "outcome unknown: it may have been applied, or may yet be")                      \
    X(SESSION_EXPIRED, 10, "the session's record was evicted; nothing was applied")                \
    X(SESSION_STALE, 11, "the sequence number is already answered or far ahead")                   \
    X(UNAVAILABLE, 12, "no server can be reached")                                                 \
    X(SHUTDOWN, 13, "shutting down")                                                               \
    X(IO, 14, "input/output error")                                                                \
    X(CORRUPT, 15, "damaged data")                                                                 \
    X(NO_SPACE, 16, "the disk is full")                                                            \
    X(VERSION, 17, "unsupported version")                                                          \
    X(MALFORMED, 18, "malformed message")                                                          \
    X(EXISTS, 19, "already exists")                                                                \
    X(NO_GROUP, 20, "no such group")                                                               \
    X(CONFLICT, 21, "conflicts with the present state")                                            \
    X(WRONG_CLUSTER, 22, "belongs to another cluster")                                             \
    X(WRONG_NODE, 23, "belongs to another group or replica")                                       \
    X(IN_USE, 24, "in use by another process")                                                     \
    X(READ_ONLY, 25, "read-only for lack of disk space")                                           \
    X(NOT_READY, 26, "not ready yet, try again")                                                   \
    X(CANCELLED, 27, "cancelled")                                                                  \
    X(DUPLICATE, 28, "seen before")                                                                \
    X(DENIED, 29, "not allowed")

enum status {
#define STATUS_ENUM(name, number, text) ST_##name = number,
    STATUS_MAP(STATUS_ENUM)
#undef STATUS_ENUM
};

/* The code's name, "NOT_LEADER"; "?" for a number that is none. Static memory. */
const char *status_name(enum status status);

/* One clause for people, without a full stop. Static memory. */
const char *status_text(enum status status);

/* Whether the number is one of the codes above: for codes that come from the wire. */
bool status_is_valid(unsigned number);

/* Whether a client that got this answer may expect another answer from a further try. */
bool status_is_retryable(enum status status);

#endif
