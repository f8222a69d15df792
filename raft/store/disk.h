/* disk: the few things that the data directory and the state store do with plain files. Every
 * function that can fail gives a status and one line in `error` (STORE_ERROR_BYTES) that names the
 * file. Nothing here is used by the WAL, which has its own table of file operations.
 */
#ifndef RAFT_STORE_DISK_H
#define RAFT_STORE_DISK_H

#include "raft/store.h"

/* Formats one line into an error buffer of STORE_ERROR_BYTES, cut if too long. */
void disk_format_error(char *error, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* What an errno means: ST_NO_SPACE for a full disk or quota, else ST_IO. */
enum status disk_status_of(int errnum);

/* Fails with "what path: reason". Returns disk_status_of(errnum). */
enum status disk_fail(char *error, const char *what, const char *path, int errnum);

/* The same for what could not be opened or made: ST_INVALID if the path is at fault (no permission,
 * no such directory, not a directory) and not the disk. */
enum status disk_fail_open(char *error, const char *what, const char *path, int errnum);

/* "a/b" in new memory. */
char *disk_join(const char *directory, const char *name);

/* Makes the directory (mode 0700) if it is not there, and its name in the parent durable. */
enum status disk_make_dir(const char *path, char *error);

/* Makes the names in a directory durable. */
enum status disk_sync_dir(const char *path, char *error);

/* The whole file. ST_NOT_FOUND (without an error line) if there is none; ST_CORRUPT if it is longer
 * than `max`. */
enum status disk_read_file(const char *path, size_t max, struct buf *content, char *error);

/* Replaces directory/name by the content, atomically and durably, by way of directory/name.tmp.
 * Mode 0600. Where it fails the old content stands, but if only the directory could not be synced:
 * then a crash decides which one does. */
enum status disk_write_file(const char *directory, const char *name, struct slice content,
                            char *error);

/* Calls each(arg, name) for every entry but "." and "..". ST_NOT_FOUND if there is no directory. */
enum status disk_list_dir(const char *path, void (*each)(void *arg, const char *name), void *arg,
                          char *error);

/* The bytes of the files in a directory, without its subdirectories; 0 if it can't be read. */
uint64_t disk_dir_bytes(const char *path);

#endif
