#include "raft/util/mem.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "raft/util/assert.h"

#define MEM_SMALL 1024 /* bytes; what is larger may come from the kernel, which has cleared it */
#define MEM_LARGE (64u << 10) /* items: so many at once get their own size, rounded up */
#define MEM_PAGE  4096u       /* to this */

void *mem_alloc(size_t size)
{
    void *pointer = malloc(size > 0 ? size : 1);
    ASSERT(pointer != NULL);
    return pointer;
}

/* glibc's calloc passes by the thread's own cache of small blocks, which malloc and free use. */
void *mem_zalloc(size_t size)
{
    void *pointer;

    if (size <= MEM_SMALL) {
        return memset(mem_alloc(size), 0, size);
    }
    pointer = calloc(1, size);
    ASSERT(pointer != NULL);
    return pointer;
}

void *mem_realloc(void *pointer, size_t size)
{
    void *grown = realloc(pointer, size > 0 ? size : 1);
    ASSERT(grown != NULL);
    return grown;
}

void *mem_copy(const void *data, size_t size)
{
    void *copy = mem_alloc(size);
    if (size > 0) {
        memcpy(copy, data, size);
    }
    return copy;
}

char *mem_copy_string(const char *text)
{
    return mem_copy(text, strlen(text) + 1);
}

void mem_free(void *pointer)
{
    free(pointer);
}

size_t mem_grown_capacity(size_t capacity, size_t need)
{
    size_t grown = capacity < 8 ? 8 : capacity;

    ASSERT(need <= SIZE_MAX / 4);
    if (need > MEM_LARGE && need / 2 > capacity) {
        /* One large thing, not an array that grows. */
        return (need + MEM_PAGE - 1) / MEM_PAGE * MEM_PAGE;
    }
    while (grown < need) {
        grown *= 2;
    }
    return grown;
}
