#include "raft/net/complaints.h"

#include "raft/util/assert.h"

/* FNV-1a: two complaints that are taken for one cost a line. */
static uint64_t hash_text(uint64_t hash, const char *text)
{
    for (; *text != '\0'; text++) {
        hash = (hash ^ (uint8_t)*text) * 0x100000001b3;
    }
    return (hash ^ '\n') * 0x100000001b3;
}

static bool was_told(const struct complaints *complaints, uint64_t now_ms, uint64_t what)
{
    for (size_t i = 0; i < COMPLAINTS_REMEMBERED; i++) {
        if (complaints->told[i].what == what &&
            now_ms - complaints->told[i].at_ms < COMPLAINTS_AGAIN_MS) {
            return true;
        }
    }
    return false;
}

bool complaints_is_news(struct complaints *complaints, uint64_t now_ms, const char *who,
                        const char *why)
{
    uint64_t what = hash_text(hash_text(0xcbf29ce484222325, who), why);

    ASSERT(complaints->next < COMPLAINTS_REMEMBERED);
    if (was_told(complaints, now_ms, what)) {
        return false;
    }
    if (now_ms / 1000 != complaints->second) {
        complaints->second = now_ms / 1000;
        complaints->n = 0;
    }
    if (complaints->n == COMPLAINTS_PER_SECOND) {
        return false;
    }
    complaints->n++;
    complaints->told[complaints->next].what = what;
    complaints->told[complaints->next].at_ms = now_ms;
    complaints->next = (complaints->next + 1) % COMPLAINTS_REMEMBERED;
    return true;
}
