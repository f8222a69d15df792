/* A file system that forgets: ext4 on a loop device, shut down without writing its journal, so that
 * everything that was not synced is gone, whole or in pages.
 *
 * The mount lives in a mount namespace of the test's own, and the loop device frees itself with the
 * mount: whatever ends the test, nothing stays behind but a file in /tmp.
 */
#ifndef TESTS_UNIT_CRASH_FS_KIT_H
#define TESTS_UNIT_CRASH_FS_KIT_H

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "tests/unit/state_kit.h"

#define CRASH_EXT4_SHUTDOWN    _IOR('X', 125, uint32_t) /* EXT4_IOC_SHUTDOWN */
#define CRASH_EXT4_NO_LOGFLUSH 2u                       /* EXT4_GOING_FLAGS_NOLOGFLUSH */
#define CRASH_IMAGE_BYTES      (96 << 20)

struct crash_fs {
    char root[64]; /* holds the image and the mount point */
    char image[80];
    char mount[72];
    bool mounted;
};

/* Runs "verb 'a' 'b'"; gives its exit code. */
static inline int crash_fs_command(const char *verb, const char *a, const char *b)
{
    char command[400] = "PATH=$PATH:/sbin:/usr/sbin; exec 2>/dev/null; ";
    size_t len = strlen(command);
    int status;

    snprintf(command + len, sizeof(command) - len, "%s '%s' %s", verb, a, b);
    status = system(command);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static inline bool crash_fs_mount(struct crash_fs *fs)
{
    /* noauto_da_alloc: ext4 shall not be kinder than it must to a rename without a sync. */
    fs->mounted =
        crash_fs_command("mount -t ext4 -o loop,noauto_da_alloc", fs->image, fs->mount) == 0;
    return fs->mounted;
}

static inline bool crash_fs_unmount(struct crash_fs *fs)
{
    for (int i = 0; fs->mounted && i < 200; i++) {
        fs->mounted = umount(fs->mount) != 0;
        if (fs->mounted) {
            usleep(5000); /* the kernel still closes the files of the killed child */
        }
    }
    return !fs->mounted;
}

/* A new, empty file system. NULL, or why there can be none here. */
static inline const char *crash_fs_create(struct crash_fs *fs)
{
    int fd;

    *fs = (struct crash_fs){0};
    if (geteuid() != 0) {
        return "needs root to mount a loop device";
    }
    if (unshare(CLONE_NEWNS) != 0 || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0) {
        return "needs a mount namespace";
    }
    kit_make_dir(fs->root);
    snprintf(fs->image, sizeof(fs->image), "%s/image", fs->root);
    snprintf(fs->mount, sizeof(fs->mount), "%s/mount", fs->root);
    fd = open(fs->image, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0 || ftruncate(fd, CRASH_IMAGE_BYTES) != 0 || mkdir(fs->mount, 0700) != 0) {
        return "needs space in /tmp";
    }
    close(fd);
    if (crash_fs_command("mkfs.ext4 -q -F", fs->image, "") != 0) {
        return "needs mkfs.ext4";
    }
    return crash_fs_mount(fs) ? NULL : "needs loop devices with ext4";
}

static inline void crash_fs_destroy(struct crash_fs *fs)
{
    if (fs->mounted && !crash_fs_unmount(fs)) {
        umount2(fs->mount, MNT_DETACH);
    }
    if (fs->root[0] != '\0') {
        kit_remove_tree(fs->root);
        fs->root[0] = '\0';
    }
}

/* Power goes: nothing that is not on the disk now gets there any more. */
static inline bool crash_fs_shut_down(const struct crash_fs *fs)
{
    uint32_t flags = CRASH_EXT4_NO_LOGFLUSH;
    int fd = open(fs->mount, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    bool done = fd >= 0 && ioctl(fd, CRASH_EXT4_SHUTDOWN, &flags) == 0;

    if (fd >= 0) {
        close(fd);
    }
    return done;
}

/* The kernel writes pages back when it likes: pushes a random part of a random file of a directory
 * out, so that of what is not synced some pages survive and others don't. */
static inline void crash_fs_write_back(const char *directory, struct rng *rng)
{
    DIR *dir = opendir(directory);
    struct dirent *entry;
    uint64_t n = 0;
    char path[400] = "";
    int fd;

    if (dir == NULL) {
        return;
    }
    while ((entry = readdir(dir)) != NULL) {
        if (entry->d_type == DT_REG && rng_below(rng, ++n) == 0) {
            snprintf(path, sizeof(path), "%.100s/%.255s", directory, entry->d_name);
        }
    }
    closedir(dir);
    fd = path[0] == '\0' ? -1 : open(path, O_RDWR | O_CLOEXEC);
    if (fd >= 0) {
        off_t size = lseek(fd, 0, SEEK_END);
        off_t at = (off_t)rng_below(rng, (uint64_t)size + 1) & ~4095;

        sync_file_range(fd, at, 4096 * (off_t)rng_between(rng, 1, 8),
                        SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER);
        close(fd);
    }
}

#endif
