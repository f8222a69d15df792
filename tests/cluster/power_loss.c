/* power_loss: shuts ext4 file systems down, all at once, without writing their journals: what was
 * not synced is gone. Usage: power_loss MOUNTPOINT...  (root; the technique of crash_fs_test) */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/ioctl.h>

#define EXT4_SHUTDOWN    _IOR('X', 125, uint32_t)
#define EXT4_NO_LOGFLUSH 2u

int main(int argc, char **argv)
{
    int fds[64];

    if (argc < 2 || argc > 64) {
        fprintf(stderr, "usage: power_loss MOUNTPOINT...\n");
        return 2;
    }
    for (int i = 1; i < argc; i++) {
        fds[i] = open(argv[i], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (fds[i] < 0) {
            perror(argv[i]);
            return 1;
        }
    }
    for (int i = 1; i < argc; i++) {
        uint32_t flags = EXT4_NO_LOGFLUSH;

        if (ioctl(fds[i], EXT4_SHUTDOWN, &flags) != 0) {
            perror(argv[i]);
            return 1;
        }
    }
    return 0;
}
