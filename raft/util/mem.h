/* Memory: allocation that cannot fail. Out of memory ends the process, as after a kill: everything
 * acknowledged is on disk, and a half-done step would be worse. Sizes that come from outside are
 * bounded before they get here. */
#ifndef RAFT_UTIL_MEM_H
#define RAFT_UTIL_MEM_H

#include <stddef.h>

/* Each result is released by mem_free. A size of 0 gives a valid pointer. */
void *mem_alloc(size_t size);
void *mem_zalloc(size_t size);
void *mem_realloc(void *pointer, size_t size);
void *mem_copy(const void *data, size_t size);
char *mem_copy_string(const char *text);
void mem_free(void *pointer); /* NULL is fine */

/* The capacity to grow to, at least `need` items, and at least double: appending stays O(1). A
 * power of two, but for what is large at once: its size. */
size_t mem_grown_capacity(size_t capacity, size_t need);

/* Makes room for `need` items in the array `pointer` of `capacity` items (two lvalues). */
#define MEM_GROW(pointer, capacity, need)                                                          \
    do {                                                                                           \
        if ((size_t)(need) > (capacity)) {                                                         \
            (capacity) = mem_grown_capacity((capacity), (need));                                   \
            (pointer) = mem_realloc((pointer), (capacity) * sizeof(*(pointer)));                   \
        }                                                                                          \
    } while (0)

#endif
