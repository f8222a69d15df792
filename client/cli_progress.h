/* progress: how far shards that move have come, as one line for a terminal. Pure: what was measured
 * and when comes in from outside.
 *
 * What counts is what is left: moves that are over vanish from what servers tell, and new ones
 * appear when a group learns of them. So done is the sum of all decreases of what was left.
 */
#ifndef CLIENT_CLI_PROGRESS_H
#define CLIENT_CLI_PROGRESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct progress {
    bool begun;
    uint64_t at_ms; /* of the last measurement */
    uint32_t shards_left;
    uint64_t bytes_left, bytes_done;
    double rate; /* bytes a second, of the last seconds */
};

/* {0} is the beginning; then one measurement after the other. */
void progress_update(struct progress *progress, uint64_t now_ms, uint32_t shards_left,
                     uint64_t bytes_left);
/* Seconds until nothing is left; false: not known. */
bool progress_seconds_left(const struct progress *progress, uint64_t *seconds);
/* The line, without a newline: a bar, shards left, bytes done and in all, rate, expected end. */
void progress_line(const struct progress *progress, bool paused, char *line, size_t size);

#endif
