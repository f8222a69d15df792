/* heap: see heap.h. */
#include "tests/sim/heap.h"

#include <malloc.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "raft/util/assert.h"
#include "tests/sim/world_internal.h"

#define CACHED_BYTES 1040 /* glibc keeps freed blocks up to this size in a cache of the thread */
#define CACHED_STEP  16
#define CACHED_EACH  7 /* of each size */

bool heap_is_measured(void)
{
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    return false;
#else
    return true;
#endif
}

/* In use: in the heap, and blocks so large that they are mapped by themselves. */
static uint64_t bytes_in_use(void)
{
    struct mallinfo2 info = mallinfo2();

    return (uint64_t)info.uordblks + info.hblkhd;
}

/* The thread's cache of freed blocks counts as in use: it is filled, so that it stays the same. */
static void fill_cache(void)
{
    void *blocks[CACHED_EACH];

    for (size_t size = 8; size <= CACHED_BYTES; size += CACHED_STEP) {
        for (size_t i = 0; i < CACHED_EACH; i++) {
            blocks[i] = malloc(size);
            ASSERT(blocks[i] != NULL);
        }
        for (size_t i = 0; i < CACHED_EACH; i++) {
            free(blocks[i]);
        }
    }
}

/* The log's disk forgets all entries: those that stay are in the server's memory. */
static void empty_log(struct world_node *node)
{
    struct io_log *io = world_log_io(node);
    struct io_log_write nothing = {.group = node->gid};

    ASSERT(node->log.files == NULL);
    io->ops->reset(io, UINT64_MAX / 2, UINT64_MAX / 2, &nothing);
    while (mem_log_sync(node->log.mem)) {
    }
}

static uint64_t end_server(struct world_node *node)
{
    uint64_t before;

    empty_log(node);
    fill_cache();
    before = bytes_in_use();
    node->ops->destroy(&node->server);
    ASSERT(node->server == NULL && bytes_in_use() <= before);
    return before - bytes_in_use();
}

uint64_t heap_of_server(struct world *world, size_t node)
{
    uint64_t bytes = 0;
    int ends[2], status;
    pid_t child;

    ASSERT(world_is_running(world, node));
    if (!heap_is_measured()) {
        return 0;
    }
    ASSERT(pipe(ends) == 0);
    child = fork();
    ASSERT(child >= 0);
    if (child == 0) {
        bytes = end_server(world->nodes[node]);
        _exit(write(ends[1], &bytes, sizeof(bytes)) == sizeof(bytes) ? 0 : 1);
    }
    ASSERT(close(ends[1]) == 0);
    ASSERT(read(ends[0], &bytes, sizeof(bytes)) == sizeof(bytes));
    ASSERT(close(ends[0]) == 0);
    ASSERT(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0);
    return bytes;
}
