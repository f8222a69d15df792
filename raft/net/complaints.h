/* complaints: what is traced of strangers who are refused, without letting them fill the disk.
 * Pure: no I/O.
 */
#ifndef RAFT_NET_COMPLAINTS_H
#define RAFT_NET_COMPLAINTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define COMPLAINTS_PER_SECOND 10
#define COMPLAINTS_REMEMBERED 16
#define COMPLAINTS_AGAIN_MS   60000 /* the same is told again after it */

struct complaints {
    uint64_t second; /* in which something was told last */
    uint32_t n;      /* how many in it */
    size_t next;     /* of those told: the one to forget first */
    struct {
        uint64_t what; /* a hash of who and why; 0: none */
        uint64_t at_ms;
    } told[COMPLAINTS_REMEMBERED];
};

/* Whether to tell that `who` is refused because of `why`: not if it was told within a minute, and
 * not if ten others were in this second. */
bool complaints_is_news(struct complaints *complaints, uint64_t now_ms, const char *who,
                        const char *why);

#endif
