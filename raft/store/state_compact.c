/* state_compact: compactions of a span of keys, on a thread of their own.
 *
 * leveldb_compact_range returns when LevelDB has rewritten all tables that touch the span, which
 * takes as long as these are large, and as any compaction that LevelDB is at already. The
 * background thread must not wait for that: a checkpoint would. So each database has, from its
 * first compaction on, a thread that does nothing else; one span at a time, asked for by the
 * background thread, which looks from time to time whether it is done. LevelDB takes writes
 * meanwhile. Closing the database waits for the span in hand, so spans are kept short.
 *
 * Whatever the span, LevelDB first writes its memory to a table and begins its log file anew. Each
 * compaction therefore notes how many checkpoints it moves out of that file.
 */
#include "raft/store/state_private.h"
#include "raft/util/assert.h"
#include "raft/util/mem.h"

struct state_compactor {
    pthread_t thread;
    leveldb_t *db;
    pthread_mutex_t lock;
    pthread_cond_t wake; /* busy or stop changed */
    bool busy;           /* from the asking until LevelDB is done */
    bool stop;
    struct buf from, to; /* the compactor's while busy */
    uint64_t moves;      /* checkpoints; the background thread's, 0 once they were told */
};

static void *state_compact_main(void *arg)
{
    struct state_compactor *compactor = arg;

    pthread_mutex_lock(&compactor->lock);
    for (;;) {
        while (!compactor->busy && !compactor->stop) {
            pthread_cond_wait(&compactor->wake, &compactor->lock);
        }
        if (!compactor->busy) {
            break;
        }
        pthread_mutex_unlock(&compactor->lock);
        leveldb_compact_range(compactor->db, (const char *)compactor->from.data,
                              compactor->from.len, (const char *)compactor->to.data,
                              compactor->to.len);
        pthread_mutex_lock(&compactor->lock);
        compactor->busy = false;
        pthread_cond_broadcast(&compactor->wake);
    }
    pthread_mutex_unlock(&compactor->lock);
    return NULL;
}

static struct state_compactor *state_compact_create(leveldb_t *db)
{
    struct state_compactor *compactor = mem_zalloc(sizeof(*compactor));
    int failed;

    compactor->db = db;
    pthread_mutex_init(&compactor->lock, NULL);
    pthread_cond_init(&compactor->wake, NULL);
    failed = pthread_create(&compactor->thread, NULL, state_compact_main, compactor);
    ASSERT(failed == 0);
    return compactor;
}

void state_compact_begin(struct state_db *db, struct slice from, struct slice to, uint64_t moves)
{
    struct state_compactor *compactor;

    ASSERT(slice_compare(from, to) <= 0);
    if (db->compactor == NULL) {
        db->compactor = state_compact_create(db->db);
    }
    compactor = db->compactor;
    pthread_mutex_lock(&compactor->lock);
    ASSERT(!compactor->busy);
    buf_clear(&compactor->from);
    buf_put_slice(&compactor->from, from);
    buf_clear(&compactor->to);
    buf_put_slice(&compactor->to, to);
    compactor->moves = moves;
    compactor->busy = true;
    pthread_cond_signal(&compactor->wake);
    pthread_mutex_unlock(&compactor->lock);
}

bool state_compact_busy(const struct state_db *db)
{
    struct state_compactor *compactor = db->compactor;
    bool busy;

    if (compactor == NULL) {
        return false;
    }
    pthread_mutex_lock(&compactor->lock);
    busy = compactor->busy;
    pthread_mutex_unlock(&compactor->lock);
    return busy;
}

void state_compact_wait(struct state_db *db)
{
    struct state_compactor *compactor = db->compactor;

    if (compactor == NULL) {
        return;
    }
    pthread_mutex_lock(&compactor->lock);
    while (compactor->busy) {
        pthread_cond_wait(&compactor->wake, &compactor->lock);
    }
    pthread_mutex_unlock(&compactor->lock);
}

uint64_t state_compact_moved(struct state_db *db)
{
    uint64_t moves = 0;

    if (db->compactor != NULL && !state_compact_busy(db)) {
        moves = db->compactor->moves;
        db->compactor->moves = 0;
    }
    return moves;
}

void state_compact_end(struct state_db *db)
{
    struct state_compactor *compactor = db->compactor;

    if (compactor == NULL) {
        return;
    }
    pthread_mutex_lock(&compactor->lock);
    compactor->stop = true;
    pthread_cond_signal(&compactor->wake);
    pthread_mutex_unlock(&compactor->lock);
    pthread_join(compactor->thread, NULL);
    ASSERT(!compactor->busy);
    pthread_mutex_destroy(&compactor->lock);
    pthread_cond_destroy(&compactor->wake);
    buf_fini(&compactor->from);
    buf_fini(&compactor->to);
    mem_free(compactor);
    db->compactor = NULL;
}
