/* heap: the live heap of one server of a simulated world, in bytes.
 *
 * What a server holds is what its end gives back. So a forked child ends it and looks at what the
 * allocator has in use before and after; the world itself goes on untouched. Counted is everything
 * that the server allocated, with the allocator's own overhead (malloc's header and rounding): the
 * Raft log in memory, sessions, proposals, caches, buffers. Not counted is what belongs to the
 * world: clients, messages under way, checkers, and what stands for the disk (mem_log, mem_state).
 * An entry in memory and mem_log share its bytes; the child first takes mem_log's share away, so
 * that they count as the server's. What a server would never give back is a leak, which
 * LeakSanitizer finds.
 */
#ifndef TESTS_SIM_HEAP_H
#define TESTS_SIM_HEAP_H

#include "tests/sim/world.h"

/* False where the allocator is not glibc's (ASan, TSan): heap_of_server is then 0. */
bool heap_is_measured(void);

/* Of a node that runs, on mem_log. */
uint64_t heap_of_server(struct world *world, size_t node);

#endif
