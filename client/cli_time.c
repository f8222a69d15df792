/* The monotonic clock. */
#include <time.h>

#include "client/cli.h"

uint64_t cli_now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

uint64_t cli_now_ms(void)
{
    return cli_now_ns() / 1000000;
}
