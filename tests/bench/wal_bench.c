/* wal_bench: what a synced write of the log costs, in processor time of the whole process and in
 * time until it is answered, with the log's own thread, as a server drives it.
 *
 *   wal_bench [--buffered] DIR ENTRIES BYTES WRITES
 *
 * Makes DIR/wal, writes WRITES times ENTRIES entries of BYTES bytes, each write after the answer to
 * the one before, compacts as it goes, and prints one line. */
#include <ftw.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "raft/store.h"
#include "raft/util/assert.h"
#include "raft/util/mem.h"

#define MAX_ENTRIES 1024

struct bench {
    int bell;
    void (*run)(void *arg); /* one answer is under way at a time */
    void *arg;
    uint64_t answered;
};

static void bench_post(void *context, void (*run)(void *arg), void *arg)
{
    struct bench *bench = context;
    uint64_t one = 1;

    bench->run = run;
    bench->arg = arg;
    ASSERT(write(bench->bell, &one, sizeof(one)) == (ssize_t)sizeof(one));
}

static void bench_deliver(void *context, struct io_event *event)
{
    struct bench *bench = context;

    ASSERT(event->log.status == ST_OK);
    bench->answered++;
}

static void bench_wait(struct bench *bench)
{
    uint64_t before = bench->answered, count;

    while (bench->answered == before) {
        ASSERT(read(bench->bell, &count, sizeof(count)) == (ssize_t)sizeof(count));
        bench->run(bench->arg);
    }
}

static double now_us(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e6 + (double)now.tv_nsec / 1e3;
}

static double cpu_us(void)
{
    struct rusage used;

    getrusage(RUSAGE_SELF, &used);
    return (double)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) * 1e6 +
           (double)(used.ru_utime.tv_usec + used.ru_stime.tv_usec);
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

static int remove_one(const char *path, const struct stat *info, int type, struct FTW *walk)
{
    (void)info;
    (void)type;
    (void)walk;
    return remove(path);
}

static void bench_write(struct bench *bench, struct io_log *log, raft_index first, size_t n,
                        struct blob *data)
{
    struct raft_entry entries[MAX_ENTRIES];
    struct io_log_write write = {.group = 1, .token = first, .entries = entries, .n_entries = n};

    for (size_t i = 0; i < n; i++) {
        entries[i] = (struct raft_entry){first + i, 1, RAFT_ENTRY_COMMAND, data};
    }
    log->ops->write(log, &write);
}

int main(int argc, char **argv)
{
    int buffered = argc > 1 && strcmp(argv[1], "--buffered") == 0;
    struct bench bench = {.bell = eventfd(0, EFD_CLOEXEC)};
    struct wal_files files = *wal_posix_files();
    char path[4096], error[STORE_ERROR_BYTES];
    struct wal_options options;
    struct wal *wal;
    struct blob *data;
    size_t n, writes;
    double *took, cpu;

    if (argc - buffered != 5) {
        fprintf(stderr, "usage: wal_bench [--buffered] DIR ENTRIES BYTES WRITES\n");
        return 2;
    }
    argv += buffered;
    n = strtoul(argv[2], NULL, 10);
    data = blob_create_uninitialized(strtoul(argv[3], NULL, 10));
    memset(data->data, 'x', data->len);
    writes = strtoul(argv[4], NULL, 10);
    ASSERT(n > 0 && n <= MAX_ENTRIES && writes > 0);
    snprintf(path, sizeof(path), "%s/wal", argv[1]);
    wal_options_default(&options, path);
    options.identity = 1;
    options.mail = (struct store_mail){&bench, bench_post, bench_deliver};
    if (buffered) {
        files.open_direct = NULL;
    }
    options.files = &files;
    if (wal_open(&options, &wal, error) != ST_OK) {
        fprintf(stderr, "%s\n", error);
        return 1;
    }
    took = mem_alloc(writes * sizeof(*took));
    cpu = cpu_us();
    for (size_t i = 0; i < writes; i++) {
        double begin = now_us();

        bench_write(&bench, wal_io(wal), 1 + i * n, n, data);
        wal_flush(wal);
        bench_wait(&bench);
        took[i] = now_us() - begin;
        if (i % 1000 == 999) {
            wal_io(wal)->ops->compact(wal_io(wal), 1, i * n, 1);
        }
    }
    cpu = cpu_us() - cpu;
    qsort(took, writes, sizeof(*took), compare);
    printf("%s entries=%zu bytes=%u cpu_us=%.1f p50_us=%.1f p99_us=%.1f max_us=%.0f\n",
           buffered ? "buffered" : "direct  ", n, data->len, cpu / (double)writes, took[writes / 2],
           took[writes * 99 / 100], took[writes - 1]);
    wal_close(&wal);
    blob_unref(&data);
    mem_free(took);
    nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    return 0;
}
