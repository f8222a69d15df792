/* What a caller remembers of the groups it speaks to: the leader, and which replicas are silent. */
#include "client/caller_private.h"

#include "raft/util/assert.h"
#include "raft/util/mem.h"

#define MAX_GROUPS 4096 /* remembered at once; beyond, the longest unused one is forgotten */

static uint64_t hash_word(uint64_t hash, uint64_t word)
{
    hash = (hash ^ word) * 0x9e3779b97f4a7c15u;
    return hash ^ hash >> 32;
}

/* Over ids and URLs, eight bytes a step: it is done for each call. */
static uint64_t hash_of(const struct spec *replicas)
{
    uint64_t hash = replicas->n;

    for (size_t i = 0; i < replicas->n; i++) {
        const char *url = replicas->replicas[i].url;
        size_t len = strlen(url), at;

        hash = hash_word(hash, (uint64_t)len << 32 | replicas->replicas[i].id);
        for (at = 0; at + 8 <= len; at += 8) {
            hash = hash_word(hash, get_u64((const uint8_t *)url + at));
        }
        for (; at < len; at++) {
            hash = hash_word(hash, (uint8_t)url[at]);
        }
    }
    return hash;
}

/* Makes room when there are too many: groups come and go over a long life. */
static void forget_one(struct caller *caller)
{
    size_t oldest = NO_REPLICA;

    for (size_t i = 0; i < caller->n_groups; i++) {
        if (caller->groups[i]->n_calls == 0 &&
            (oldest == NO_REPLICA ||
             caller->groups[i]->last_use < caller->groups[oldest]->last_use)) {
            oldest = i;
        }
    }
    if (oldest != NO_REPLICA) {
        mem_free(caller->groups[oldest]);
        memset(caller->recent, 0, sizeof(caller->recent));
        caller->groups[oldest] = caller->groups[--caller->n_groups];
    }
}

size_t caller_group_size(const struct caller_group *group)
{
    return group->replicas.n + group->n_guests;
}

const char *caller_group_url(const struct caller_group *group, size_t replica)
{
    ASSERT(replica < caller_group_size(group));
    return replica < group->replicas.n ? group->replicas.replicas[replica].url
                                       : group->guests[replica - group->replicas.n].url;
}

size_t caller_group_guest(struct caller_group *group, uint32_t id, const char *url)
{
    struct spec_replica *guest;

    for (size_t i = 0; i < caller_group_size(group); i++) {
        if (strcmp(caller_group_url(group, i), url) == 0) {
            return i;
        }
    }
    if (group->n_guests == CALLER_MAX_GUESTS) {
        return NO_REPLICA;
    }
    ASSERT(strlen(url) <= SPEC_MAX_URL);
    guest = &group->guests[group->n_guests++];
    guest->id = id;
    memcpy(guest->url, url, strlen(url) + 1);
    group->silent_until_ms[caller_group_size(group) - 1] = 0;
    return caller_group_size(group) - 1;
}

/* Nobody points into the guests any more: room for others. */
static void forget_guests(struct caller_group *group)
{
    if (group->n_calls == 0 && group->n_guests == CALLER_MAX_GUESTS) {
        group->n_guests = 0;
        group->leader = NO_REPLICA;
    }
}

struct caller_group *caller_group_get(struct caller *caller, const struct spec *replicas)
{
    uint64_t hash = hash_of(replicas);
    struct caller_group **recent = &caller->recent[hash % CALLER_RECENT_GROUPS];
    struct caller_group *group = *recent;

    ASSERT(replicas->n >= 1 && replicas->n <= SPEC_MAX_REPLICAS);
    if (group != NULL && group->hash == hash && spec_equal(&group->replicas, replicas)) {
        forget_guests(group);
        return group;
    }
    for (size_t i = 0; i < caller->n_groups; i++) {
        group = caller->groups[i];
        if (group->hash == hash && spec_equal(&group->replicas, replicas)) {
            *recent = group;
            forget_guests(group);
            return group;
        }
    }
    if (caller->n_groups >= MAX_GROUPS) {
        forget_one(caller);
    }
    group = mem_zalloc(sizeof(*group));
    group->hash = hash;
    spec_copy(&group->replicas, replicas);
    group->leader = NO_REPLICA;
    group->cursor = rng_below(&caller->rng, replicas->n);
    MEM_GROW(caller->groups, caller->groups_capacity, caller->n_groups + 1);
    caller->groups[caller->n_groups++] = group;
    *recent = group;
    return group;
}

void caller_group_fini(struct caller *caller)
{
    for (size_t i = 0; i < caller->n_groups; i++) {
        ASSERT(caller->groups[i]->n_calls == 0);
        mem_free(caller->groups[i]);
    }
    mem_free(caller->groups);
}

void caller_group_set_silent(struct caller *caller, const char *url, uint64_t until_ms)
{
    for (size_t i = 0; i < caller->n_groups; i++) {
        struct caller_group *group = caller->groups[i];

        for (size_t r = 0; r < caller_group_size(group); r++) {
            if (strcmp(caller_group_url(group, r), url) != 0) {
                continue;
            }
            group->silent_until_ms[r] = until_ms;
            if (until_ms > 0 && group->leader == r) {
                group->leader = NO_REPLICA;
            }
        }
    }
}

/* The first replica from `from` on that is not silent; `from` itself if all are. */
static size_t first_that_speaks(const struct caller_group *group, size_t from, uint64_t now_ms)
{
    for (size_t i = 0; i < group->replicas.n; i++) {
        size_t replica = (from + i) % group->replicas.n;

        if (group->silent_until_ms[replica] <= now_ms) {
            return replica;
        }
    }
    return from;
}

size_t caller_group_first(const struct caller_group *group, uint64_t now_ms)
{
    ASSERT(group->cursor < group->replicas.n);
    return group->leader != NO_REPLICA ? group->leader
                                       : first_that_speaks(group, group->cursor, now_ms);
}

size_t caller_group_after(const struct caller_group *group, size_t replica, uint64_t now_ms)
{
    ASSERT(replica < group->replicas.n);
    return first_that_speaks(group, (replica + 1) % group->replicas.n, now_ms);
}
