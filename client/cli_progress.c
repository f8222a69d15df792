/* progress: see cli_progress.h. */
#include "client/cli_progress.h"

#include <stdio.h>

#define BAR_CELLS 20u
#define MEMORY_MS 3000.0 /* how far back the rate looks, about */
#define MB        1e6

void progress_update(struct progress *progress, uint64_t now_ms, uint32_t shards_left,
                     uint64_t bytes_left)
{
    uint64_t came = progress->begun && progress->bytes_left > bytes_left
                        ? progress->bytes_left - bytes_left
                        : 0;
    double passed_ms = progress->begun ? (double)(now_ms - progress->at_ms) : 0;

    if (passed_ms > 0) {
        double weight = passed_ms < MEMORY_MS ? passed_ms / MEMORY_MS : 1;
        progress->rate += ((double)came * 1000 / passed_ms - progress->rate) * weight;
    }
    progress->begun = true;
    progress->at_ms = now_ms;
    progress->shards_left = shards_left;
    progress->bytes_left = bytes_left;
    progress->bytes_done += came;
}

bool progress_seconds_left(const struct progress *progress, uint64_t *seconds)
{
    if (progress->rate < 1) {
        return false;
    }
    *seconds = (uint64_t)((double)progress->bytes_left / progress->rate) + 1;
    return progress->bytes_left > 0;
}

void progress_line(const struct progress *progress, bool paused, char *line, size_t size)
{
    uint64_t total = progress->bytes_done + progress->bytes_left, seconds;
    double part = total > 0 ? (double)progress->bytes_done / (double)total : 0;
    unsigned full = (unsigned)(part * BAR_CELLS);
    char bar[BAR_CELLS + 1], end[40] = "";

    for (unsigned i = 0; i < BAR_CELLS; i++) {
        bar[i] = i < full ? '#' : '-';
    }
    bar[BAR_CELLS] = '\0';
    if (paused) {
        snprintf(end, sizeof(end), ", moves are paused");
    } else if (progress_seconds_left(progress, &seconds)) {
        snprintf(end, sizeof(end), ", about %llu s left", (unsigned long long)seconds);
    }
    snprintf(line, size, "[%s] %3u%%, %u shard%s left, %.1f of %.1f MB, %.1f MB/s%s", bar,
             (unsigned)(part * 100), progress->shards_left, progress->shards_left == 1 ? "" : "s",
             (double)progress->bytes_done / MB, (double)total / MB, progress->rate / MB, end);
}
