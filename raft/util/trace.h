/* Traces: diagnostics for people, one line an event, as "message key=value key=value".
 *
 * Deciding code gets a sink and never knows where the lines go: the servers print them on stderr
 * with time and identity, tests collect or drop them. ("Log" in this project means the Raft log
 * only.)
 */
#ifndef RAFT_UTIL_TRACE_H
#define RAFT_UTIL_TRACE_H

#include <stdbool.h>

enum trace_level { TRACE_ERROR, TRACE_WARN, TRACE_INFO, TRACE_DEBUG };

struct trace {
    enum trace_level level; /* lines above it are not even formatted */
    void *context;
    void (*emit)(void *context, enum trace_level level, const char *line);
};

/* Formats and emits one line (cut at 1 KiB). A NULL sink or one without emit drops it. */
void trace_line(const struct trace *trace, enum trace_level level, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

static inline bool trace_enabled(const struct trace *trace, enum trace_level level)
{
    return trace != 0 && trace->emit != 0 && level <= trace->level;
}

#define TRACE(trace, level, ...)                                                                   \
    do {                                                                                           \
        if (trace_enabled((trace), (level))) {                                                     \
            trace_line((trace), (level), __VA_ARGS__);                                             \
        }                                                                                          \
    } while (0)

#define trace_error(trace, ...) TRACE(trace, TRACE_ERROR, __VA_ARGS__)
#define trace_warn(trace, ...)  TRACE(trace, TRACE_WARN, __VA_ARGS__)
#define trace_info(trace, ...)  TRACE(trace, TRACE_INFO, __VA_ARGS__)
#define trace_debug(trace, ...) TRACE(trace, TRACE_DEBUG, __VA_ARGS__)

#endif
