/* state_db: one LevelDB database with the options that it is always opened with, its keys, and the
 * translation of its errors.
 *
 * paranoid_checks and verify_checksums are always on: without them LevelDB drops a damaged record
 * in the middle of its log and serves damaged blocks without a word. Compression is off unless
 * asked for.
 */
#include <stdio.h>
#include <unistd.h>

#include "raft/store/state_private.h"
#include "raft/util/assert.h"
#include "raft/util/mem.h"

#define STATE_BLOOM_BITS 10 /* per key: 1 % of the reads of absent keys touch a block */

enum status state_db_status(char *leveldb_error)
{
    enum status status = ST_IO;

    if (leveldb_error == NULL) {
        return ST_OK;
    }
    /* LevelDB says "Invalid argument" when a damaged table points outside its file. */
    if (strncmp(leveldb_error, "Corruption", 10) == 0 ||
        strstr(leveldb_error, "Invalid argument") != NULL) {
        status = ST_CORRUPT;
    } else if (strstr(leveldb_error, "No space left") != NULL ||
               strstr(leveldb_error, "quota exceeded") != NULL) {
        status = ST_NO_SPACE;
    }
    leveldb_free(leveldb_error);
    return status;
}

enum status state_db_fail(const struct state_db *db, const char *what, char *leveldb_error,
                          char *error)
{
    enum status status;
    char reason[STORE_ERROR_BYTES];

    ASSERT(leveldb_error != NULL);
    snprintf(reason, sizeof(reason), "%s", leveldb_error);
    status = state_db_status(leveldb_error);
    disk_format_error(error, "%.200s: %s: %.200s%s", db->path, what, reason,
                      status == ST_CORRUPT ? "; " STORE_REBUILD : "");
    if (status == ST_CORRUPT && db->db != NULL &&
        !atomic_exchange(&((struct state_db *)(uintptr_t)db)->explained, true)) {
        (void)state_verify_explain(db->path, false, error);
    }
    return status;
}

char *state_db_path(const char *directory, uint64_t number)
{
    char name[32];

    snprintf(name, sizeof(name), "db-%llu", (unsigned long long)number);
    return disk_join(directory, name);
}

static void state_db_set_options(struct state_db *db, const struct state_options *options,
                                 bool create, bool paranoid)
{
    db->options = leveldb_options_create();
    db->cache = leveldb_cache_create_lru(options->cache_bytes);
    db->filter = leveldb_filterpolicy_create_bloom(STATE_BLOOM_BITS);
    leveldb_options_set_create_if_missing(db->options, create);
    leveldb_options_set_error_if_exists(db->options, create);
    leveldb_options_set_paranoid_checks(db->options, paranoid);
    leveldb_options_set_cache(db->options, db->cache);
    leveldb_options_set_filter_policy(db->options, db->filter);
    leveldb_options_set_write_buffer_size(db->options, options->write_buffer_bytes);
    leveldb_options_set_compression(db->options, options->compress ? leveldb_snappy_compression
                                                                   : leveldb_no_compression);
    db->read = leveldb_readoptions_create();
    leveldb_readoptions_set_verify_checksums(db->read, 1);
    db->sweep = leveldb_readoptions_create();
    leveldb_readoptions_set_verify_checksums(db->sweep, 1);
    leveldb_readoptions_set_fill_cache(db->sweep, 0);
    db->sync = leveldb_writeoptions_create();
    leveldb_writeoptions_set_sync(db->sync, 1);
    db->loose = leveldb_writeoptions_create();
}

enum status state_db_open(const struct state_options *options, uint64_t number, bool create,
                          bool paranoid, struct state_db **db, char *error)
{
    struct state_db *self = mem_zalloc(sizeof(*self));
    char *reason = NULL;
    enum status status = ST_OK;

    ASSERT(number > 0);
    self->number = number;
    self->references = 1;
    self->path = state_db_path(options->path, number);
    state_db_set_options(self, options, create, paranoid);
    self->db = state_room_open(options, self, &reason);
    if (self->db == NULL) {
        /* CURRENT names a database that is not there: LevelDB calls that an invalid argument. */
        bool missing = reason != NULL && strncmp(reason, "Invalid argument", 16) == 0;

        status = state_db_fail(self, "open", reason, error);
        if (missing) {
            disk_format_error(error, "%.300s is missing; " STORE_REBUILD, self->path);
            status = ST_CORRUPT;
        }
        state_db_close(&self);
    } else {
        self->writeback = state_writeback_open(self->path);
    }
    *db = self;
    return status;
}

void state_db_shut(struct state_db *db)
{
    state_compact_end(db);
    if (db->db != NULL) {
        leveldb_close(db->db);
        db->db = NULL;
    }
}

enum status state_db_reopen(struct state_db *db, bool paranoid, char *error)
{
    char *reason = NULL;

    state_db_shut(db);
    leveldb_options_set_create_if_missing(db->options, 0);
    leveldb_options_set_error_if_exists(db->options, 0);
    leveldb_options_set_paranoid_checks(db->options, paranoid);
    db->db = leveldb_open(db->options, db->path, &reason);
    return db->db != NULL ? ST_OK : state_db_fail(db, "open again", reason, error);
}

void state_db_close(struct state_db **db)
{
    struct state_db *self = *db;
    char *reason = NULL;

    if (self == NULL) {
        return;
    }
    if (self->doomed && self->db != NULL) {
        state_db_shut(self);
        leveldb_destroy_db(self->options, self->path, &reason);
        leveldb_free(reason); /* what is left over is removed at the next start */
    }
    state_db_shut(self);
    state_writeback_close(&self->writeback);
    leveldb_options_destroy(self->options);
    leveldb_cache_destroy(self->cache);
    leveldb_filterpolicy_destroy(self->filter);
    leveldb_readoptions_destroy(self->read);
    leveldb_readoptions_destroy(self->sweep);
    leveldb_writeoptions_destroy(self->sync);
    leveldb_writeoptions_destroy(self->loose);
    mem_free(self->path);
    mem_free(self);
    *db = NULL;
}

enum status state_db_destroy(const char *directory, uint64_t number, char *error)
{
    leveldb_options_t *options = leveldb_options_create();
    char *path = state_db_path(directory, number);
    char *reason = NULL;

    leveldb_destroy_db(options, path, &reason);
    if (reason != NULL) {
        disk_format_error(error, "%s: remove: %s", path, reason);
    }
    leveldb_options_destroy(options);
    mem_free(path);
    return state_db_status(reason);
}

void state_db_put_key(struct buf *out, struct io_key key)
{
    uint8_t *at = buf_extend(out, STATE_KEY_HEADER);

    at[0] = 'u';
    set_u64_be(at + 1, key.range);
    at[9] = key.kind;
    buf_put_slice(out, key.key);
}

bool state_db_parse_key(struct slice text, struct io_key *key)
{
    if (text.len < STATE_KEY_HEADER || text.data[0] != 'u') {
        return false;
    }
    key->range = get_u64_be(text.data + 1);
    key->kind = text.data[9];
    key->key = slice_of(text.data + STATE_KEY_HEADER, text.len - STATE_KEY_HEADER);
    return true;
}

enum status state_db_get(struct state_db *db, const leveldb_readoptions_t *options,
                         struct slice key, struct buf *value, char *error)
{
    char *reason = NULL;
    size_t len = 0;
    char *found = leveldb_get(db->db, options, (const char *)key.data, key.len, &len, &reason);

    if (reason != NULL) {
        ASSERT(found == NULL);
        return state_db_fail(db, "read", reason, error);
    }
    if (found == NULL) {
        return ST_NOT_FOUND;
    }
    buf_put(value, found, len);
    leveldb_free(found);
    return ST_OK;
}

struct slice state_db_iter_key(const leveldb_iterator_t *iter)
{
    size_t len = 0;
    const char *key = leveldb_iter_key(iter, &len);

    return slice_of(key, len);
}

struct slice state_db_iter_value(const leveldb_iterator_t *iter)
{
    size_t len = 0;
    const char *value = leveldb_iter_value(iter, &len);

    return slice_of(value, len);
}

enum status state_db_iter_status(const struct state_db *db, const leveldb_iterator_t *iter,
                                 char *error)
{
    char *reason = NULL;

    leveldb_iter_get_error(iter, &reason);
    return reason == NULL ? ST_OK : state_db_fail(db, "iterate", reason, error);
}

enum status state_db_sync_names(const struct state_db *db, char *error)
{
    return disk_sync_dir(db->path, error);
}
