/* A small file system under a kit (state_kit.h): a disk that runs full. */
#ifndef TESTS_UNIT_STATE_MOUNT_H
#define TESTS_UNIT_STATE_MOUNT_H

#include <sys/mount.h>

#include "tests/unit/state_kit.h"

/* A file system of so many KiB under the kit, or of another size now; skips the test where that
 * can't be had. */
static inline void mount_size(struct kit *kit, int kib, bool again)
{
    char options[32];

    snprintf(options, sizeof(options), "size=%dk", kib);
    if (mount("tmpfs", kit->path, "tmpfs", again ? MS_REMOUNT : 0, options) != 0) {
        assert_false(again);
        kit_fini(kit);
        fprintf(stderr, "skipped: mounting a small file system needs root\n");
        skip();
    }
}

static inline void unmount(struct kit *kit)
{
    kit_close(kit);
    umount2(kit->path, MNT_DETACH);
    kit_fini(kit);
}

#endif
