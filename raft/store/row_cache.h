/* Row cache: values as LevelDB holds them, found by their keys at once.
 *
 * To read a key LevelDB looks through its memory, a list of up to 16 MiB, and then through one
 * table after another: about 5 us, of the 10 that a small read costs the leader's loop. Its own
 * cache is of blocks, and saves only the disk.
 *
 * What is cached of a key is what LevelDB, and what is written on top of it, says of it. So who
 * changes a key has it forgotten first. That is all there is to keep: anything may go at any time.
 * (LevelDB has a cache with a bound, but its C interface does not show it.)
 *
 * Not thread-safe: it belongs to the loop thread.
 */
#ifndef RAFT_STORE_ROW_CACHE_H
#define RAFT_STORE_ROW_CACHE_H

#include "raft/io.h"

#define ROW_CACHE_LARGEST 4096u /* a longer value is not kept: many small ones would go for it */

struct row_cache;

/* Takes at most about so much memory, and none before something is kept. */
struct row_cache *row_cache_create(size_t max_bytes);
void row_cache_destroy(struct row_cache **cache);

/* Appends the key's value; false: it is not here. */
bool row_cache_get(struct row_cache *cache, struct io_key key, struct buf *value);
/* The key is not here yet. */
void row_cache_keep(struct row_cache *cache, struct io_key key, struct slice value);
void row_cache_forget(struct row_cache *cache, struct io_key key);

/* Of what is kept, with its keys. */
size_t row_cache_bytes(const struct row_cache *cache);

#endif
