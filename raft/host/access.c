/* Who may get at the data directory: the servers' files hold everybody's data in the clear, and the
 * identity by which a replica is known. */
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "raft/host/host_internal.h"

enum status host_check_access(struct host *host, char *error)
{
    const char *path = host->settings->data;
    struct stat stat_dir;

    if (stat(path, &stat_dir) != 0) {
        return ST_OK; /* it was opened a moment ago; who opens files in it will say what is wrong */
    }
    if ((stat_dir.st_mode & 022) != 0) {
        snprintf(error, STORE_ERROR_BYTES,
                 "%.200s: mode %04o lets others change the data: run chmod 700 on it", path,
                 (unsigned)(stat_dir.st_mode & 07777));
        return ST_INVALID;
    }
    if ((stat_dir.st_mode & 077) != 0) {
        trace_warn(
            &host->trace,
            "data directory path=\"%s\" mode=%04o: others can look into it, run chmod 700 on it",
            path, (unsigned)(stat_dir.st_mode & 07777));
    }
    return ST_OK;
}
