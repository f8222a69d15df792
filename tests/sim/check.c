/* check: see check.h. */
#include "tests/sim/check.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

void check_fail(const char *invariant, const char *format, ...)
{
    va_list arguments;

    fprintf(stderr, "broken invariant: %s: ", invariant);
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
    fflush(stderr);
    abort();
}
