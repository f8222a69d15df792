/* The process as the system sees it: memory, descriptors, processor time. The names are those of
 * Prometheus' own client libraries. */
#include <dirent.h>
#include <sys/resource.h>

#include "raft/host/host_internal.h"
#include "raft/util/metrics.h"

static void put_memory(struct buf *text)
{
    struct host_memory memory;

    if (host_memory_read(&memory)) {
        metrics_put_gauge(text, "process_resident_memory_bytes", "Resident memory.",
                          memory.resident_bytes);
        metrics_put_gauge(text, "process_virtual_memory_bytes", "Virtual memory.",
                          memory.virtual_bytes);
    }
}

static void put_descriptors(struct buf *text)
{
    DIR *dir = opendir("/proc/self/fd");
    struct rlimit limit;
    uint64_t n = 0;

    if (dir != NULL) {
        for (const struct dirent *entry = readdir(dir); entry != NULL; entry = readdir(dir)) {
            n += entry->d_name[0] != '.';
        }
        closedir(dir);
        metrics_put_gauge(text, "process_open_fds", "Open file descriptors.",
                          n - 1); /* but for the directory's own */
    }
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        metrics_put_gauge(text, "process_max_fds", "The most file descriptors that may be open.",
                          limit.rlim_cur);
    }
}

static uint64_t time_us(struct timeval time)
{
    return (uint64_t)time.tv_sec * 1000000 + (uint64_t)time.tv_usec;
}

void host_put_process_metrics(const struct host *host, struct buf *text)
{
    struct rusage usage;

    if (getrusage(RUSAGE_SELF, &usage) == 0) {
        metrics_put_counter_us(text, "process_cpu_seconds_total",
                               "Processor time in user and system mode.",
                               time_us(usage.ru_utime) + time_us(usage.ru_stime));
    }
    metrics_put_gauge_us(text, "process_start_time_seconds",
                         "When the process began, since 1970 in UTC.", host->start_wall_us);
    put_memory(text);
    put_descriptors(text);
}
