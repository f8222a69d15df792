/* reserve: space set aside on the disk, as files that hold nothing else.
 *
 *   DIR/1, DIR/2, …   each piece_bytes long, allocated, never written
 *
 * Whoever finds the disk full and has something that must be written (raft/store.h says what) has
 * pieces removed, the last one first, and tries again at once. Other processes may be quicker: it
 * is a help, not a promise, and so it goes in pieces. A piece is taken again when so much room is
 * left that as much again stays free.
 *
 * Half of the pieces go only during a start. Without that, a process that takes every block there
 * is would eat them while the server runs, and it could not start again on the disk that is full.
 *
 * A piece is not synced: one that a crash loses is taken again.
 */
#include <pthread.h>
#include <stdio.h>

#include "raft/store.h"
#include "raft/store/disk.h"
#include "raft/util/assert.h"
#include "raft/util/mem.h"

#define RESERVE_MAX_PIECES 16
#define RESERVE_PIECES     8

struct store_reserve {
    struct store_reserve_options options;
    pthread_mutex_t lock;
    uint32_t held; /* the pieces 1 to this are there */
    uint32_t kept; /* so many don't go; 0 during a start */
    char *path;
};

void store_reserve_options_default(struct store_reserve_options *options, const char *path,
                                   uint64_t bytes)
{
    *options = (struct store_reserve_options){.path = path,
                                              .piece_bytes = bytes / RESERVE_PIECES,
                                              .pieces = bytes > 0 ? RESERVE_PIECES : 0,
                                              .files = wal_posix_files(),
                                              .free_bytes = store_free_bytes};
}

/* The path of piece n; the caller frees it. */
static char *piece_path(const struct store_reserve *reserve, uint32_t n)
{
    char name[16];

    ASSERT(n >= 1 && n <= RESERVE_MAX_PIECES);
    snprintf(name, sizeof(name), "%u", n);
    return disk_join(reserve->path, name);
}

static void piece_remove(struct store_reserve *reserve, uint32_t n)
{
    const struct wal_files *files = reserve->options.files;
    char *path = piece_path(reserve, n);

    (void)files->unlink(files->context, path);
    mem_free(path);
}

/* Whether the piece is there, as long as it must be. */
static bool piece_exists(struct store_reserve *reserve, uint32_t n)
{
    const struct wal_files *files = reserve->options.files;
    char *path = piece_path(reserve, n);
    int fd = files->open(files->context, path, false);
    bool whole = false;

    if (fd >= 0) {
        whole = files->size(files->context, fd) == (int64_t)reserve->options.piece_bytes;
        files->close(files->context, fd);
    }
    mem_free(path);
    return whole;
}

static bool piece_make(struct store_reserve *reserve, uint32_t n)
{
    const struct wal_files *files = reserve->options.files;
    char *path = piece_path(reserve, n);
    int fd = files->open(files->context, path, true);
    bool made = false;

    if (fd >= 0) {
        made = files->allocate(files->context, fd, reserve->options.piece_bytes) == 0;
        files->close(files->context, fd);
        if (!made) {
            (void)files->unlink(files->context, path);
        }
    }
    mem_free(path);
    return made;
}

/* Takes one more piece if `margin` times its size is free. Under the lock. */
static bool refill(struct store_reserve *reserve, uint32_t margin)
{
    if (reserve->held == reserve->options.pieces ||
        reserve->options.free_bytes(reserve->path) < margin * reserve->options.piece_bytes ||
        !piece_make(reserve, reserve->held + 1)) {
        return false;
    }
    reserve->held++;
    return true;
}

enum status store_reserve_open(const struct store_reserve_options *options,
                               struct store_reserve **out, char *error)
{
    struct store_reserve *reserve = mem_zalloc(sizeof(*reserve));
    const struct wal_files *files = options->files;
    int failed;

    ASSERT(options->pieces <= RESERVE_MAX_PIECES && options->free_bytes != NULL);
    *out = NULL;
    reserve->options = *options;
    reserve->path = mem_copy_string(options->path);
    reserve->options.path = reserve->path;
    pthread_mutex_init(&reserve->lock, NULL);
    failed = files->make_dir(files->context, reserve->path);
    if (failed != 0 && disk_status_of(-failed) != ST_NO_SPACE) {
        enum status status = disk_fail_open(error, "make directory", reserve->path, -failed);
        store_reserve_close(&reserve);
        return status;
    }
    while (reserve->held < options->pieces && piece_exists(reserve, reserve->held + 1)) {
        reserve->held++;
    }
    for (uint32_t n = reserve->held + 1; n <= RESERVE_MAX_PIECES; n++) {
        piece_remove(reserve, n); /* of another size, or more than are wanted now */
    }
    while (refill(reserve, 2)) {
    }
    *out = reserve;
    return ST_OK;
}

void store_reserve_close(struct store_reserve **reserve)
{
    struct store_reserve *self = *reserve;

    *reserve = NULL;
    if (self == NULL) {
        return;
    }
    pthread_mutex_destroy(&self->lock);
    mem_free(self->path);
    mem_free(self);
}

void store_reserve_started(struct store_reserve *reserve)
{
    pthread_mutex_lock(&reserve->lock);
    while (refill(reserve, 1)) {
    }
    reserve->kept = reserve->options.pieces / 2;
    pthread_mutex_unlock(&reserve->lock);
}

bool store_reserve_yield(struct store_reserve *reserve, uint64_t bytes)
{
    uint64_t given = 0;

    if (reserve == NULL) {
        return false;
    }
    pthread_mutex_lock(&reserve->lock);
    while (reserve->held > reserve->kept && given < bytes) {
        piece_remove(reserve, reserve->held--);
        given += reserve->options.piece_bytes;
    }
    pthread_mutex_unlock(&reserve->lock);
    return given > 0;
}

void store_reserve_refill(struct store_reserve *reserve)
{
    if (reserve == NULL) {
        return;
    }
    pthread_mutex_lock(&reserve->lock);
    (void)refill(reserve, 2);
    pthread_mutex_unlock(&reserve->lock);
}

bool store_reserve_is_short(struct store_reserve *reserve)
{
    bool is_short;

    if (reserve == NULL) {
        return false;
    }
    pthread_mutex_lock(&reserve->lock);
    is_short = reserve->held < reserve->options.pieces;
    pthread_mutex_unlock(&reserve->lock);
    return is_short;
}

uint64_t store_reserve_bytes(struct store_reserve *reserve)
{
    uint64_t bytes;

    if (reserve == NULL) {
        return 0;
    }
    pthread_mutex_lock(&reserve->lock);
    bytes = reserve->held * reserve->options.piece_bytes;
    pthread_mutex_unlock(&reserve->lock);
    return bytes;
}
