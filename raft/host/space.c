/* Space on the disk: how much is used for what, and who is told when it runs short.
 *
 * The sizes follow the disk's, so that a small one serves too: the reserve, the segments of the
 * log, and the watermark. Below it, or when the log finds no room for its next segment, the service
 * is told, refuses writes and gives leadership away; a quarter above it, it writes again. The look
 * at the disk is one call that does not wait for it.
 */
#include <stdio.h>

#include "raft/host/host_internal.h"
#include "raft/util/assert.h"

#define MIB            (1ull << 20)
#define SPACE_CHECK_MS 200

static uint64_t part_of(uint64_t total, uint64_t part, uint64_t low, uint64_t high)
{
    uint64_t bytes = total / part / MIB * MIB;

    ASSERT(low <= high && part > 0);
    return bytes < low ? low : bytes > high ? high : bytes;
}

enum status host_space_open(struct host *host, char *error)
{
    const struct host_settings *settings = host->settings;
    uint64_t total = store_total_bytes(settings->data);
    uint64_t reserve = part_of(total, 8, 16 * MIB, 64 * MIB);
    struct store_reserve_options options;
    char path[4096];

    host->space.low_bytes = settings->disk_low_mib == HOST_DEFAULT
                                ? part_of(total, 8, 16 * MIB, 256 * MIB)
                                : settings->disk_low_mib * MIB;
    host->space.segment_bytes = part_of(total, 32, 4 * MIB, 64 * MIB);
    host->space.buffer_bytes = part_of(total, 64, 2 * MIB, 16 * MIB);
    if (settings->disk_reserve_mib != HOST_DEFAULT) {
        reserve = settings->disk_reserve_mib * MIB;
    }
    snprintf(path, sizeof(path), "%s/reserve", settings->data);
    store_reserve_options_default(&options, path, reserve);
    return store_reserve_open(&options, &host->space.reserve, error);
}

void host_space_close(struct host *host)
{
    store_reserve_close(&host->space.reserve);
}

static bool is_low(const struct host *host, uint64_t free_bytes)
{
    uint64_t mark = host->space.low_bytes;
    struct wal_stats wal;

    wal_statistics(host->wal, &wal);
    return wal.no_room || free_bytes < (host->space.low ? mark + mark / 4 : mark);
}

void host_space_check(struct host *host, uint64_t now_ms)
{
    uint64_t free_bytes;
    bool low;
    struct io_event event = {.type = IO_EVENT_DISK_SPACE};

    if (now_ms < host->space.next_check_ms) {
        return;
    }
    host->space.next_check_ms = now_ms + SPACE_CHECK_MS;
    free_bytes = store_free_bytes(host->settings->data);
    host->space.free_bytes = free_bytes;
    low = is_low(host, free_bytes);
    if (low != host->space.low) {
        host->space.low = low;
        trace_warn(&host->trace, "disk %s free_bytes=%llu low_bytes=%llu reserve_bytes=%llu",
                   low ? "nearly full" : "has room again", (unsigned long long)free_bytes,
                   (unsigned long long)host->space.low_bytes,
                   (unsigned long long)store_reserve_bytes(host->space.reserve));
        event.disk.low = low;
        net_deliver(host->net, &event);
    }
}
