/* wal_recover: what opening a log goes through, in two files. wal_recover.c finds the segments,
 * replays them and tells a torn tail from damage; wal_restart.c then makes what it accepted durable
 * and leaves the log ready to be written. */
#ifndef RAFT_STORE_WAL_RECOVER_H
#define RAFT_STORE_WAL_RECOVER_H

#include "raft/store/wal_disk.h"
#include "raft/store/wal_scan.h"

#define WAL_NOT_FOUND SIZE_MAX

/* A .wal file. */
struct wal_found {
    uint64_t id;
    uint64_t size;
    bool begun;           /* preamble and header record are good; the fields below are theirs */
    uint64_t first_write; /* number of its first write */
    uint64_t prev;
    uint64_t prev_end;
    uint64_t prev_write;
    bool chained; /* part of the log */
    bool gone;    /* recycled already */
};

struct wal_recovery {
    struct wal_disk *disk;     /* its table: without what is held */
    struct wal_table *content; /* everything, with entries */
    struct wal_found *found;   /* ascending id */
    size_t n_found;
    size_t capacity;
    size_t oldest;         /* of the chain; WAL_NOT_FOUND: there is no log yet */
    size_t head;           /* the newest of the chain */
    struct wal_write held; /* the last whole write, until another proves it durable */
    uint64_t last;         /* its number */
    uint64_t tail;         /* in the head: the end of the last whole write */
    uint64_t bad;          /* in the head: where what follows breaks off */
    uint64_t highest;      /* number of any write with a header behind the tail */
    uint64_t highest_here; /* the same, in the head's file alone */
};

/* The place of the file in found[], or WAL_NOT_FOUND. */
size_t wal_recovery_find(const struct wal_recovery *recovery, uint64_t id);
/* Sets the error line; gives ST_CORRUPT. */
enum status wal_recovery_corrupt(struct wal_recovery *recovery, uint64_t id, uint64_t offset,
                                 const char *what);
/* Applies the held write to the content: ST_CORRUPT if it contradicts what came before. */
enum status wal_recovery_apply_held(struct wal_recovery *recovery);

/* Goes on in the head if it ends in a sync point and nothing follows; else rewrites what is not
 * proven durable into a new segment. */
enum status wal_restart(struct wal_recovery *recovery);

#endif
