/* Memory for large values. A value may have 16 MiB, and several buffers of that size come and go
 * with each. glibc takes them from the kernel and gives them back, and page faults on fresh ones
 * cost more than everything else that is done to the value. So they stay in the heap, and what is
 * free there for long goes back from here. */
#include <malloc.h>

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

void host_memory_check(struct host *host, uint64_t now_ms)
{
    size_t free_bytes;

    if (now_ms < host->memory.next_check_ms) {
        return;
    }
    host->memory.next_check_ms = now_ms + MEMORY_CHECK_MS;
    free_bytes = mallinfo2().fordblks;
    if (free_bytes > MEMORY_KEPT && host->memory.was_much) {
        malloc_trim(MEMORY_KEPT / 4);
        trace_debug(&host->trace, "memory given back free_bytes=%llu",
                    (unsigned long long)free_bytes);
    }
    host->memory.was_much = free_bytes > MEMORY_KEPT;
}
