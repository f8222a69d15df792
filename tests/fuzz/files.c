/* The directory of a fuzz target that needs files. */
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "tests/fuzz/fuzz.h"

static char directory[64];

static int remove_one(const char *path, const struct stat *found, int type, struct FTW *ftw)
{
    (void)found;
    (void)type;
    if (ftw->level > 0) {
        remove(path);
    }
    return 0;
}

void fuzz_clear_directory(const char *path)
{
    nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static void remove_directory(void)
{
    fuzz_clear_directory(directory);
    rmdir(directory);
}

const char *fuzz_directory(void)
{
    if (directory[0] == '\0') {
        snprintf(directory, sizeof(directory), "%s/shardkv-fuzz-XXXXXX",
                 access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
        ASSERT(mkdtemp(directory) != NULL);
        atexit(remove_directory);
    }
    return directory;
}

void fuzz_write_file(const char *path, const char *name, struct slice content)
{
    char file[512];
    int fd;

    snprintf(file, sizeof(file), "%s/%s", path, name);
    fd = open(file, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    ASSERT(fd >= 0);
    ASSERT(write(fd, content.data, content.len) == (ssize_t)content.len);
    close(fd);
}
