/* Lines from a file descriptor, up to a limit, with a buffer that grows as far as they need. A line
 * above the limit is skipped without being kept.
 */
#ifndef CLIENT_CLI_LINES_H
#define CLIENT_CLI_LINES_H

#include <stdbool.h>
#include <stddef.h>

struct lines {
    int fd;
    size_t max; /* of a line, without its newline */
    char *data;
    size_t capacity;   /* at most max rounded up to a power of two, at least 64 KiB */
    size_t start, end; /* what was read and not yet given out */
    bool at_end;
};

enum line_kind { LINE_GIVEN, LINE_TOO_LONG, LINE_NONE };

void lines_init(struct lines *lines, int fd, size_t max);
void lines_fini(struct lines *lines);
/* The next line without its newline, which the last one may lack; valid until the next call. A read
 * error counts as the end. */
enum line_kind lines_next(struct lines *lines, const char **line, size_t *len);

#endif
