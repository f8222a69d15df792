/* Memory for large values. A value may have 16 MiB, and several buffers of that size come and go
 * with each. glibc takes them from the kernel and gives them back, and page faults on fresh ones
 * cost more than everything else that is done to the value. So they stay in the heap, and what is
 * free there for long goes back from here.
 *
 * How much is free is not asked: glibc would go through all of it, which took 30 ms of the loop
 * once many small blocks had come and gone. To give it back takes as long, so that is tried only
 * when the process has become larger than it was after the last time by as much as may stay.
 */
#include <malloc.h>
#include <stdio.h>
#include <unistd.h>

#include "raft/host/host_internal.h"

#define MEMORY_FROM_HEAP (32 << 20) /* bytes; the largest block from the heap, and glibc's most */
#define MEMORY_AT_END    (64 << 20) /* free at the heap's end: goes back at once */
#define MEMORY_KEPT      (96u << 20)
#define MEMORY_CHECK_MS  2000

void host_memory_open(void)
{
    mallopt(M_MMAP_THRESHOLD, MEMORY_FROM_HEAP);
    mallopt(M_TRIM_THRESHOLD, MEMORY_AT_END);
}

bool host_memory_read(struct host_memory *memory)
{
    unsigned long long virtual_pages = 0, resident_pages = 0, file_pages = 0;
    uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
    FILE *file = fopen("/proc/self/statm", "r");
    bool is_known;

    if (file == NULL) {
        return false;
    }
    is_known = fscanf(file, "%llu %llu %llu", &virtual_pages, &resident_pages, &file_pages) == 3 &&
               resident_pages >= file_pages;
    fclose(file);
    if (is_known) {
        *memory = (struct host_memory){virtual_pages * page, resident_pages * page,
                                       (resident_pages - file_pages) * page};
    }
    return is_known;
}

void host_memory_check(struct host *host, uint64_t now_ms)
{
    struct host_memory memory;
    uint64_t before;

    if (now_ms < host->memory.next_check_ms) {
        return;
    }
    host->memory.next_check_ms = now_ms + MEMORY_CHECK_MS;
    if (!host_memory_read(&memory)) {
        return;
    }
    if (memory.own_bytes < host->memory.own_bytes) {
        host->memory.own_bytes = memory.own_bytes;
    }
    if (memory.own_bytes > host->memory.own_bytes + MEMORY_KEPT && host->memory.was_much) {
        before = memory.own_bytes;
        malloc_trim(MEMORY_KEPT / 4);
        if (host_memory_read(&memory)) {
            trace_debug(&host->trace, "memory given back before_bytes=%llu after_bytes=%llu",
                        (unsigned long long)before, (unsigned long long)memory.own_bytes);
        }
        host->memory.own_bytes = memory.own_bytes;
    }
    host->memory.was_much = memory.own_bytes > host->memory.own_bytes + MEMORY_KEPT;
}
