/* ASSERT: checks that stay on in production. A broken invariant ends the process at once: a replica
 * that no longer knows its own state must not vote, acknowledge or answer. */
#ifndef RAFT_UTIL_ASSERT_H
#define RAFT_UTIL_ASSERT_H

#define ASSERT(condition)                                                                          \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            assert_failed(__FILE__, __LINE__, __func__, #condition);                               \
        }                                                                                          \
    } while (0)

/* Marks what can't be reached; the text says why. */
#define UNREACHABLE(text) assert_failed(__FILE__, __LINE__, __func__, text)

/* Prints one line on stderr and aborts. */
_Noreturn void assert_failed(const char *file, int line, const char *function, const char *what);

#endif
