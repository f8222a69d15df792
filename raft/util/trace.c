#include "raft/util/trace.h"

#include <stdarg.h>
#include <stdio.h>

void trace_line(const struct trace *trace, enum trace_level level, const char *format, ...)
{
    char line[1024];
    va_list args;

    if (!trace_enabled(trace, level)) {
        return;
    }
    va_start(args, format);
    vsnprintf(line, sizeof(line), format, args);
    va_end(args);
    trace->emit(trace->context, level, line);
}
