/* Traces on stderr. */
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "raft/host/host_internal.h"

static void emit(void *context, enum trace_level level, const char *text)
{
    static const char *const names[] = {"error", "warn", "info", "debug"};
    const struct host *host = context;
    char line[1400];
    struct timespec now;
    struct tm utc;
    int len;
    ssize_t written;

    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &utc);
    len = snprintf(line, sizeof(line), "%04d-%02d-%02dT%02d:%02d:%02d.%03dZ %s g%u/%u %s\n",
                   utc.tm_year + 1900, utc.tm_mon + 1, utc.tm_mday, utc.tm_hour, utc.tm_min,
                   utc.tm_sec, (int)(now.tv_nsec / 1000000), names[level], host->settings->gid,
                   host->settings->id, text);
    if (len >= (int)sizeof(line)) {
        len = sizeof(line) - 1;
        line[len - 1] = '\n';
    }
    written = write(STDERR_FILENO, line, (size_t)len);
    (void)written; /* nobody to tell */
}

void host_trace_init(struct host *host)
{
    host->trace.level = host->settings->trace_level;
    host->trace.context = host;
    host->trace.emit = emit;
}
