/* Reading lines; see cli_lines.h. */
#include "client/cli_lines.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void lines_init(struct lines *lines, int fd, size_t max)
{
    *lines = (struct lines){.fd = fd, .max = max};
}

void lines_fini(struct lines *lines)
{
    free(lines->data);
    *lines = (struct lines){.fd = -1};
}

/* Makes room and reads more; false at the end of the input. */
static bool lines_fill(struct lines *lines)
{
    ssize_t got;

    if (lines->start > 0) {
        memmove(lines->data, lines->data + lines->start, lines->end - lines->start);
        lines->end -= lines->start;
        lines->start = 0;
    }
    if (lines->end == lines->capacity) {
        lines->capacity = lines->capacity == 0 ? 65536 : lines->capacity * 2;
        lines->data = realloc(lines->data, lines->capacity);
        if (lines->data == NULL) {
            abort();
        }
    }
    do {
        got = read(lines->fd, lines->data + lines->end, lines->capacity - lines->end);
    } while (got < 0 && errno == EINTR);
    lines->at_end = got <= 0;
    lines->end += got > 0 ? (size_t)got : 0;
    return got > 0;
}

/* Reads on to the next newline, keeping nothing. */
static void lines_skip(struct lines *lines)
{
    for (;;) {
        char *newline = memchr(lines->data + lines->start, '\n', lines->end - lines->start);
        if (newline != NULL) {
            lines->start = (size_t)(newline + 1 - lines->data);
            return;
        }
        lines->start = lines->end;
        if (!lines_fill(lines)) {
            return;
        }
    }
}

enum line_kind lines_next(struct lines *lines, const char **line, size_t *len)
{
    size_t seen = 0;

    if (lines->data == NULL) {
        lines_fill(lines);
    }
    for (;;) {
        size_t left = lines->end - lines->start;
        char *newline =
            left > seen ? memchr(lines->data + lines->start + seen, '\n', left - seen) : NULL;

        *line = lines->data + lines->start;
        *len = newline != NULL ? (size_t)(newline - *line) : left;
        if (*len > lines->max) {
            lines_skip(lines);
            return LINE_TOO_LONG;
        }
        if (newline != NULL) {
            lines->start += *len + 1;
            return LINE_GIVEN;
        }
        if (lines->at_end) {
            lines->start = lines->end;
            return left > 0 ? LINE_GIVEN : LINE_NONE; /* the last line may lack its newline */
        }
        seen = left;
        lines_fill(lines);
    }
}
