/* state_iter: one ordered iteration over (range, kind), merged from the active overlay, the frozen
 * one, and LevelDB. Where two hold the same key the newer one counts; a tombstone hides the key.
 *
 * The iteration holds references on what it reads, so a checkpoint that ends meanwhile changes
 * nothing for it: its LevelDB iterator still shows the state before.
 */
#include "raft/store/state_private.h"
#include "raft/util/assert.h"
#include "raft/util/mem.h"

#define STATE_ITER_OVERLAYS 2 /* newest first */

struct io_iter {
    struct state *state;
    struct state_db *db;
    struct overlay *overlays[STATE_ITER_OVERLAYS];
    const struct overlay_entry *at[STATE_ITER_OVERLAYS]; /* NULL: at its end */
    leveldb_iterator_t *disk;
    struct slice disk_key; /* the key part; data NULL: at the end */
    uint64_t range;
    uint8_t kind;
    bool taken[STATE_ITER_OVERLAYS + 1]; /* to be stepped over by the next call; last: disk */
    enum status status;
};

/* Whether an overlay's entry is still inside the iteration. */
static const struct overlay_entry *state_iter_within(const struct io_iter *iter,
                                                     const struct overlay_entry *entry)
{
    return entry != NULL && entry->range->number == iter->range && entry->kind == iter->kind ? entry
                                                                                             : NULL;
}

/* Reads where LevelDB's iterator stands. Its error ends the iteration: it would go on after the
 * hole. */
static void state_iter_look(struct io_iter *iter)
{
    char error[STORE_ERROR_BYTES];
    struct io_key key;

    iter->disk_key = slice_of(NULL, 0);
    iter->status = state_db_iter_status(iter->db, iter->disk, error);
    if (iter->status != ST_OK) {
        trace_error(iter->state->worker->options.trace, "state iteration failed error=\"%s\"",
                    error);
        return;
    }
    if (leveldb_iter_valid(iter->disk) && state_db_parse_key(state_db_iter_key(iter->disk), &key) &&
        key.range == iter->range && key.kind == iter->kind) {
        iter->disk_key = key.key;
    }
}

struct io_iter *state_iter_open(struct io_state *io, struct io_key from)
{
    struct state *state = state_of(io);
    struct io_iter *iter = mem_zalloc(sizeof(*iter));

    iter->state = state;
    iter->db = state->db;
    state_db_ref(iter->db);
    atomic_fetch_add(&state->worker->open_iters, 1); /* before it holds any table */
    iter->range = from.range;
    iter->kind = from.kind;
    iter->overlays[0] = overlay_ref(state->active);
    iter->overlays[1] = state->frozen == NULL ? NULL : overlay_ref(state->frozen);
    for (int i = 0; i < STATE_ITER_OVERLAYS; i++) {
        if (iter->overlays[i] != NULL) {
            iter->at[i] = state_iter_within(iter, overlay_seek(iter->overlays[i], from));
        }
    }
    buf_clear(&state->key);
    state_db_put_key(&state->key, from);
    if (iter->db->db == NULL) {
        iter->status = ST_IO; /* it could not be opened again */
    } else {
        iter->disk = leveldb_create_iterator(iter->db->db, iter->db->read);
        leveldb_iter_seek(iter->disk, (const char *)state->key.data, state->key.len);
        state_iter_look(iter);
    }
    return iter;
}

/* Steps over what the last call gave out. */
static void state_iter_step(struct io_iter *iter)
{
    for (int i = 0; i < STATE_ITER_OVERLAYS; i++) {
        if (iter->taken[i]) {
            ASSERT(iter->at[i] != NULL);
            iter->at[i] = state_iter_within(iter, overlay_next(iter->at[i]));
        }
        iter->taken[i] = false;
    }
    if (iter->taken[STATE_ITER_OVERLAYS]) {
        ASSERT(iter->disk_key.data != NULL);
        leveldb_iter_next(iter->disk);
        state_iter_look(iter);
    }
    iter->taken[STATE_ITER_OVERLAYS] = false;
}

/* The smallest key that any source stands at; marks all that stand there as taken. False: all are
 * at their end. *newest is the overlay entry that counts, NULL for LevelDB's. */
static bool state_iter_choose(struct io_iter *iter, struct slice *key,
                              const struct overlay_entry **newest)
{
    bool found = iter->disk_key.data != NULL;

    *key = iter->disk_key;
    for (int i = 0; i < STATE_ITER_OVERLAYS; i++) {
        if (iter->at[i] != NULL &&
            (!found || slice_compare(overlay_entry_key(iter->at[i]), *key) < 0)) {
            *key = overlay_entry_key(iter->at[i]);
            found = true;
        }
    }
    *newest = NULL;
    for (int i = STATE_ITER_OVERLAYS - 1; found && i >= 0; i--) {
        iter->taken[i] = iter->at[i] != NULL && slice_equal(overlay_entry_key(iter->at[i]), *key);
        if (iter->taken[i]) {
            *newest = iter->at[i];
        }
    }
    iter->taken[STATE_ITER_OVERLAYS] =
        found && iter->disk_key.data != NULL && slice_equal(iter->disk_key, *key);
    return found;
}

bool state_iter_next(struct io_iter *iter, struct slice *key, struct slice *value)
{
    const struct overlay_entry *newest;

    for (;;) {
        if (iter->status == ST_OK) {
            state_iter_step(iter);
        }
        if (iter->status != ST_OK || !state_iter_choose(iter, key, &newest)) {
            return false;
        }
        if (newest == NULL) {
            ASSERT(iter->taken[STATE_ITER_OVERLAYS]);
            *value = state_db_iter_value(iter->disk);
            return true;
        }
        if (!newest->removed) {
            *value = overlay_entry_value(newest);
            return true;
        }
    }
}

enum status state_iter_close(struct io_iter *iter)
{
    struct state *state = iter->state;
    enum status status = iter->status;

    if (iter->disk != NULL) {
        leveldb_iter_destroy(iter->disk);
    }
    ASSERT(atomic_load(&state->worker->open_iters) > 0);
    atomic_fetch_sub(&state->worker->open_iters, 1); /* it holds no table any more */
    for (int i = 0; i < STATE_ITER_OVERLAYS; i++) {
        if (iter->overlays[i] != NULL) {
            state_unref_overlay(state, &iter->overlays[i]);
        }
    }
    state_unref_db(state, &iter->db);
    mem_free(iter);
    return status;
}
