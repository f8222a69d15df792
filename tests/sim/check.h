/* What every checker of a simulated cluster does when an invariant is broken. */
#ifndef TESTS_SIM_CHECK_H
#define TESTS_SIM_CHECK_H

/* Prints "broken invariant: <name>: <details>" on stderr and aborts. */
_Noreturn void check_fail(const char *invariant, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

#endif
