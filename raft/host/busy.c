/* How busy the machine is, and what follows: on a busy one the price of a round, and of a receive,
 * is what all others wait for, so requests gather for a moment and share it (raft/rsm/company.c,
 * raft/net/gather.h). On an idle one they would wait for nothing.
 *
 * The system counts how long its cores had nothing to do, all of them together, in /proc/uptime.
 * Where that can't be read the machine passes for idle.
 */
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "raft/host/host_internal.h"
#include "raft/util/assert.h"

#define BUSY_CHECK_MS   200
#define BUSY_HYSTERESIS 10 /* percent below a level before a span gets shorter again */

/* The busier the machine, the longer requests gather. */
static const struct {
    double percent;
    uint32_t span_ms;
} levels[] = {{60, 1}, {80, 2}};

void host_busy_open(struct host *host)
{
    host->busy.fd = open("/proc/uptime", O_RDONLY | O_CLOEXEC);
}

void host_busy_close(struct host *host)
{
    if (host->busy.fd >= 0) {
        close(host->busy.fd);
    }
    host->busy.fd = -1;
}

/* Seconds since the system began, and those of all cores that were idle. */
static bool read_uptime(int fd, double *up, double *idle)
{
    char text[64];
    ssize_t n = fd < 0 ? -1 : pread(fd, text, sizeof(text) - 1, 0);

    if (n <= 0) {
        return false;
    }
    text[n] = '\0';
    return sscanf(text, "%lf %lf", up, idle) == 2;
}

/* Of the last look's span, evened out over about a second. */
static double busy_percent(const struct host *host, double up, double idle)
{
    double cores = (double)sysconf(_SC_NPROCESSORS_ONLN);
    double span = (up - host->busy.up) * (cores < 1 ? 1 : cores);
    double percent = span > 0 ? 100 - 100 * (idle - host->busy.idle) / span : 0;

    percent = percent < 0 ? 0 : percent > 100 ? 100 : percent;
    return host->busy.percent + (percent - host->busy.percent) / 4;
}

uint32_t host_busy_span(double percent, uint32_t span_ms)
{
    uint32_t found = 0;

    for (size_t i = 0; i < sizeof(levels) / sizeof(levels[0]); i++) {
        double from = levels[i].percent - (span_ms >= levels[i].span_ms ? BUSY_HYSTERESIS : 0);

        found = percent >= from ? levels[i].span_ms : found;
    }
    return found;
}

void host_busy_check(struct host *host, uint64_t now_ms)
{
    double up, idle;
    uint32_t span_ms;

    if (now_ms < host->busy.next_check_ms) {
        return;
    }
    host->busy.next_check_ms = now_ms + BUSY_CHECK_MS;
    if (!read_uptime(host->busy.fd, &up, &idle)) {
        return;
    }
    host->busy.percent = host->busy.up > 0 ? busy_percent(host, up, idle) : 0;
    host->busy.up = up;
    host->busy.idle = idle;
    span_ms = host_busy_span(host->busy.percent, host->busy.span_ms);
    if (span_ms != host->busy.span_ms) {
        host->busy.span_ms = span_ms;
        trace_debug(&host->trace, "machine busy percent=%.0f span_ms=%u", host->busy.percent,
                    (unsigned)span_ms);
        net_set_gather(host->net, span_ms);
        group_set_pace(host->service->group(host->server), span_ms);
    }
}
