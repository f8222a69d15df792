/* rebuild: the way out for a replica whose data is damaged or lost (--rebuild).
 *
 * The directory is opened as always. Only if that finds damage, or an earlier run found some and
 * left a note (the file DAMAGED), is the whole directory renamed to DIR.damaged-N beside it;
 * nothing is ever deleted. An empty one takes its place, as that of a replica that joins an
 * existing group, and the group is asked to take it in (client/rejoin). So a start with --rebuild
 * of a replica that is whole is a start like any other: the option may stay where it is.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "raft/host/host_internal.h"
#include "raft/util/mem.h"

#define NOTE          "DAMAGED"
#define MAX_SET_ASIDE 1000

static void note_path(const struct host *host, char path[4096])
{
    snprintf(path, 4096, "%s/" NOTE, host->settings->data);
}

void host_rebuild_mark(struct host *host, const char *reason)
{
    char path[4096];
    FILE *note;

    note_path(host, path);
    note = fopen(path, "we");
    if (note != NULL) { /* else the damage will be found again */
        fprintf(note, "%s\n", reason);
        fclose(note);
    }
}

enum status host_rebuild_check(struct host *host, char *error)
{
    char path[4096], reason[256] = "";
    FILE *note;

    note_path(host, path);
    note = host->settings->rebuild ? fopen(path, "re") : NULL;
    if (note == NULL) {
        return ST_OK;
    }
    if (fgets(reason, sizeof(reason), note) != NULL) {
        reason[strcspn(reason, "\n")] = '\0';
    }
    fclose(note);
    snprintf(error, STORE_ERROR_BYTES, "an earlier run found damage: %s", reason);
    return ST_CORRUPT;
}

/* The path without slashes behind it. */
static size_t path_length(const char *path)
{
    size_t len = strlen(path);

    while (len > 1 && path[len - 1] == '/') {
        len--;
    }
    return len;
}

static bool sync_parent(const char *path)
{
    char parent[4096];
    char *slash;
    int fd, failed;

    snprintf(parent, sizeof(parent), "%s", path);
    slash = strrchr(parent, '/');
    if (slash == NULL) {
        snprintf(parent, sizeof(parent), ".");
    } else {
        slash[slash == parent ? 1 : 0] = '\0';
    }
    fd = open(parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) {
        return false;
    }
    failed = fsync(fd);
    close(fd);
    return failed == 0;
}

/* The first name that is free. */
static bool find_name(const char *data, size_t len, char to[4096])
{
    struct stat info;

    for (int n = 1; n <= MAX_SET_ASIDE; n++) {
        snprintf(to, 4096, "%.*s.damaged-%d", (int)len, data, n);
        if (lstat(to, &info) != 0) {
            return errno == ENOENT;
        }
    }
    return false;
}

/* Nobody else may use what is renamed: its lock is held meanwhile, and goes with it. */
static int lock_directory(const struct host *host)
{
    char path[4096];
    int fd;

    snprintf(path, sizeof(path), "%s/LOCK", host->settings->data);
    fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) != 0) {
        close(fd);
        fd = -1;
    }
    return fd;
}

bool host_rebuild_set_aside(struct host *host, char *error)
{
    const char *data = host->settings->data;
    size_t len = path_length(data);
    char from[4096], to[4096];
    int lock = lock_directory(host);
    bool moved = false;

    snprintf(from, sizeof(from), "%.*s", (int)len, data);
    trace_error(&host->trace, "rebuild: the data is damaged reason=\"%s\"", error);
    if (lock < 0) {
        snprintf(error, STORE_ERROR_BYTES, "%.300s: can't be locked, so it is not set aside", from);
    } else if (!find_name(data, len, to) || rename(from, to) != 0 || !sync_parent(from)) {
        snprintf(error, STORE_ERROR_BYTES,
                 "%.300s: is damaged, and can't be renamed (%s); move what is in it away by hand",
                 from, strerror(errno));
    } else {
        trace_warn(&host->trace, "rebuild: set the damaged data aside from=%s to=%s", from, to);
        memset(&host->identity, 0, sizeof(host->identity));
        error[0] = '\0';
        moved = true;
    }
    if (lock >= 0) {
        close(lock);
    }
    return moved;
}
