/* config_change: each verb checks first and changes a copy then; a refusal leaves nothing behind.
 *
 * The rebalance begins from who has each shard at present: its group, or while it is on nobody the
 * last group it was on. So shards that lie with a group that left go back to it, without a copy,
 * when it joins again.
 */
#include "shardctrler/config_change.h"

#include <stdlib.h>

#include "raft/util/assert.h"
#include "raft/util/mem.h"
#include "shardctrler/config_history.h"
#include "shardctrler/rebalance.h"

struct change {
    const struct shard_config *latest;
    const struct ctrler_command *command;
    const uint32_t *holders; /* groups that may hold a shard, ascending */
    size_t n_holders;
    struct shard_config *next;
    struct ctrler_result *result;
};

/* Records a refusal; false, for the caller to return. */
static bool refuse(struct change *change, enum status status, enum ctrler_reason reason, uint32_t a,
                   uint32_t b)
{
    ASSERT(status != ST_OK);
    ASSERT(reason != CTRLER_REASON_NONE);
    *change->result = (struct ctrler_result){
        .status = status, .num = change->latest->num, .reason = reason, .a = a, .b = b};
    return false;
}

static bool is_holder(const struct change *change, uint32_t gid)
{
    return shard_owners_is_holder(change->holders, change->n_holders, gid);
}

/* ---- Making the next configuration ---- */

static void begin_next(struct change *change)
{
    struct shard_config *next = change->next;

    shard_config_copy(next, change->latest);
    next->num++;
    config_present_owners(change->latest, next->from);
    ASSERT(next->num > change->latest->num);
}

static int compare_groups(const void *a, const void *b)
{
    const struct config_group *x = a;
    const struct config_group *y = b;

    return (x->gid > y->gid) - (x->gid < y->gid);
}

static struct config_group *find_group(struct shard_config *config, uint32_t gid)
{
    return (struct config_group *)shard_config_find(config, gid);
}

/* Marks, in `named` (one place a group), the groups that `from` names. */
static void mark_named(const struct shard_config *config, bool *named)
{
    const struct config_group *last = NULL;

    for (uint32_t s = 0; s < config->n_shards; s++) {
        if (config->from[s] == 0) {
            continue;
        }
        if (last == NULL || last->gid != config->from[s]) {
            last = shard_config_find(config, config->from[s]);
            ASSERT(last != NULL);
        }
        named[last - config->groups] = true;
    }
}

/* Forgets groups that left, hold nothing and are named by nobody. */
static void prune_groups(const struct change *change)
{
    struct shard_config *next = change->next;
    bool *named = mem_zalloc(next->n_groups * sizeof(*named));
    size_t kept = 0;

    mark_named(next, named);
    for (size_t i = 0; i < next->n_groups; i++) {
        if (next->groups[i].member || named[i] || is_holder(change, next->groups[i].gid)) {
            next->groups[kept++] = next->groups[i];
        }
    }
    ASSERT(kept <= next->n_groups);
    next->n_groups = kept;
    mem_free(named);
}

static void rebalance_members(struct shard_config *next)
{
    uint32_t *gids = mem_alloc(next->n_groups * sizeof(*gids));
    size_t n = 0;

    for (size_t i = 0; i < next->n_groups; i++) {
        if (next->groups[i].member) {
            gids[n++] = next->groups[i].gid;
        }
    }
    memcpy(next->shards, next->from, next->n_shards * sizeof(next->shards[0]));
    rebalance(next->shards, next->n_shards, gids, n);
    ASSERT(n > 0 || next->shards[0] == 0);
    mem_free(gids);
}

static bool finish_next(struct change *change)
{
    prune_groups(change);
    if (change->next->n_groups > CONFIG_MAX_LISTED) {
        shard_config_fini(change->next);
        return refuse(change, ST_TOO_LARGE, CTRLER_REASON_TOO_MANY_LISTED, CONFIG_MAX_LISTED, 0);
    }
    ASSERT(change->next->num == change->latest->num + 1);
    *change->result = (struct ctrler_result){.status = ST_OK, .num = change->next->num};
    return true;
}

/* ---- Join ---- */

static bool specs_share_url(const struct spec *a, const struct spec *b)
{
    for (size_t i = 0; i < a->n; i++) {
        for (size_t j = 0; j < b->n; j++) {
            if (strcmp(a->replicas[i].url, b->replicas[j].url) == 0) {
                return true;
            }
        }
    }
    return false;
}

/* The new group's gid: in range, named once, not a member. */
static bool check_gid(struct change *change, uint32_t i)
{
    const struct proto_join_group *groups = change->command->groups;
    const struct config_group *known = shard_config_find(change->latest, groups[i].gid);

    if (groups[i].gid < 1 || groups[i].gid > CONFIG_MAX_GID) {
        return refuse(change, ST_INVALID, CTRLER_REASON_BAD_GID, groups[i].gid, 0);
    }
    for (uint32_t j = 0; j < i; j++) {
        if (groups[j].gid == groups[i].gid) {
            return refuse(change, ST_INVALID, CTRLER_REASON_NAMED_TWICE, groups[i].gid, 0);
        }
    }
    if (known != NULL && known->member) {
        return refuse(change, ST_EXISTS, CTRLER_REASON_ALREADY_MEMBER, groups[i].gid, 0);
    }
    return true;
}

/* No replica serves two groups, nor is one a controller. A group that left counts while it may hold
 * shards: others still fetch them from its URLs. */
static bool check_spec(struct change *change, uint32_t gid, const struct spec *replicas)
{
    if (gid != 0 && specs_share_url(replicas, &change->latest->ctrlers)) {
        return refuse(change, ST_CONFLICT, CTRLER_REASON_SHARED_URL, 0, gid);
    }
    for (size_t j = 0; j < change->latest->n_groups; j++) {
        const struct config_group *other = &change->latest->groups[j];

        if (other->gid != gid && (other->member || is_holder(change, other->gid)) &&
            specs_share_url(replicas, &other->replicas)) {
            return refuse(change, ST_CONFLICT, CTRLER_REASON_SHARED_URL, other->gid, gid);
        }
    }
    return true;
}

static bool check_urls(struct change *change, uint32_t i)
{
    const struct proto_join_group *joining = &change->command->groups[i];

    for (uint32_t j = 0; j < i; j++) {
        const struct proto_join_group *other = &change->command->groups[j];

        if (specs_share_url(&joining->replicas, &other->replicas)) {
            return refuse(change, ST_CONFLICT, CTRLER_REASON_SHARED_URL, other->gid, joining->gid);
        }
    }
    return check_spec(change, joining->gid, &joining->replicas);
}

/* The incarnation that binds a gid which comes back: that under which it may still hold shards; 0:
 * none. */
static uint64_t held_incarnation(const struct change *change, uint32_t gid)
{
    const struct config_group *known = shard_config_find(change->latest, gid);

    return known != NULL && is_holder(change, gid) ? known->incarnation : 0;
}

/* Fresh disks under an old gid would pass for the old ones and lose the shards on them. */
static bool check_incarnation(struct change *change, uint32_t i)
{
    const struct proto_join_group *joining = &change->command->groups[i];
    uint64_t held = held_incarnation(change, joining->gid);

    if (held != 0 && joining->incarnation != 0 && joining->incarnation != held) {
        return refuse(change, ST_CONFLICT, CTRLER_REASON_INCARNATION, joining->gid, 0);
    }
    return true;
}

static bool check_join(struct change *change)
{
    size_t members = change->command->n;

    if (change->command->n == 0) {
        return refuse(change, ST_INVALID, CTRLER_REASON_NO_GROUPS_NAMED, 0, 0);
    }
    for (uint32_t i = 0; i < change->command->n; i++) {
        if (!check_gid(change, i)) {
            return false;
        }
    }
    for (uint32_t i = 0; i < change->command->n; i++) {
        if (!check_urls(change, i) || !check_incarnation(change, i)) {
            return false;
        }
    }
    for (size_t i = 0; i < change->latest->n_groups; i++) {
        members += change->latest->groups[i].member;
    }
    if (members > CONFIG_MAX_GROUPS) {
        return refuse(change, ST_TOO_LARGE, CTRLER_REASON_TOO_MANY_GROUPS, CONFIG_MAX_GROUPS, 0);
    }
    return true;
}

/* Puts the new group in the place of its old self, which has the same index in the latest
 * configuration, or at the end. */
static void add_group(struct change *change, const struct proto_join_group *joining)
{
    struct shard_config *next = change->next;
    const struct config_group *known = shard_config_find(change->latest, joining->gid);
    uint64_t held = held_incarnation(change, joining->gid);
    size_t at = known != NULL ? (size_t)(known - change->latest->groups) : next->n_groups++;

    ASSERT(known == NULL || next->groups[at].gid == joining->gid);
    next->groups[at] = (struct config_group){
        .gid = joining->gid,
        .member = true,
        .joined_at = next->num,
        .incarnation = held != 0 ? held : joining->incarnation,
        .replicas = joining->replicas,
    };
}

static bool change_join(struct change *change)
{
    struct shard_config *next = change->next;

    if (!check_join(change)) {
        return false;
    }
    begin_next(change);
    next->groups =
        mem_realloc(next->groups, (next->n_groups + change->command->n) * sizeof(next->groups[0]));
    for (uint32_t i = 0; i < change->command->n; i++) {
        add_group(change, &change->command->groups[i]);
    }
    qsort(next->groups, next->n_groups, sizeof(next->groups[0]), compare_groups);
    rebalance_members(next);
    return finish_next(change);
}

/* ---- Leave, move and pause ---- */

static bool check_leave(struct change *change)
{
    const struct ctrler_command *command = change->command;

    if (command->n == 0) {
        return refuse(change, ST_INVALID, CTRLER_REASON_NO_GROUPS_NAMED, 0, 0);
    }
    for (uint32_t i = 0; i < command->n; i++) {
        const struct config_group *group = shard_config_find(change->latest, command->gids[i]);

        for (uint32_t j = 0; j < i; j++) {
            if (command->gids[j] == command->gids[i]) {
                return refuse(change, ST_INVALID, CTRLER_REASON_NAMED_TWICE, command->gids[i], 0);
            }
        }
        if (group == NULL || !group->member) {
            return refuse(change, ST_NO_GROUP, CTRLER_REASON_NOT_MEMBER, command->gids[i], 0);
        }
    }
    return true;
}

static bool change_leave(struct change *change)
{
    if (!check_leave(change)) {
        return false;
    }
    begin_next(change);
    for (uint32_t i = 0; i < change->command->n; i++) {
        find_group(change->next, change->command->gids[i])->member = false;
    }
    rebalance_members(change->next);
    return finish_next(change);
}

static bool change_move(struct change *change)
{
    const struct shard_config *latest = change->latest;
    shard_id shard = change->command->shard;
    uint32_t gid = change->command->gid;
    const struct config_group *group = shard_config_find(latest, gid);

    if (shard >= latest->n_shards) {
        return refuse(change, ST_INVALID, CTRLER_REASON_BAD_SHARD, shard, latest->n_shards);
    }
    if (group == NULL || !group->member) {
        return refuse(change, ST_NO_GROUP, CTRLER_REASON_NOT_MEMBER, gid, 0);
    }
    if (latest->shards[shard] == gid) {
        *change->result = (struct ctrler_result){.status = ST_OK, .num = latest->num};
        return false;
    }
    begin_next(change);
    change->next->shards[shard] = gid;
    return finish_next(change);
}

/* Owners stay; that `from` now names the present ones says that no shard moves at this number. */
static bool change_pause(struct change *change)
{
    const struct shard_config *latest = change->latest;

    if (latest->moves_paused == change->command->paused) {
        *change->result = (struct ctrler_result){.status = ST_OK, .num = latest->num};
        return false;
    }
    begin_next(change);
    change->next->moves_paused = change->command->paused;
    return finish_next(change);
}

/* ---- Replicas ---- */

/* Owners stay. Whether the report is newer than what is known was checked by the caller. */
static bool change_replicas(struct change *change)
{
    uint32_t gid = change->command->gid;
    const struct spec *replicas = change->command->replicas;
    const struct config_group *group = shard_config_find(change->latest, gid);
    const struct spec *listed = gid == 0 ? &change->latest->ctrlers : &group->replicas;

    ASSERT(gid == 0 || group != NULL);
    if (spec_equal(listed, replicas)) {
        *change->result = (struct ctrler_result){.status = ST_OK, .num = change->latest->num};
        return false;
    }
    if (!check_spec(change, gid, replicas)) {
        return false;
    }
    begin_next(change);
    if (gid == 0) {
        change->next->ctrlers = *replicas;
    } else {
        find_group(change->next, gid)->replicas = *replicas;
    }
    return finish_next(change);
}

bool config_change(const struct shard_config *latest, const struct shard_owners *owners,
                   const struct ctrler_command *command, struct shard_config *next,
                   struct ctrler_result *result)
{
    size_t n_holders;
    uint32_t *holders = shard_owners_holders(owners, &n_holders);
    struct change change = {latest, command, holders, n_holders, next, result};
    bool made;

    *next = (struct shard_config){0};
    *result = (struct ctrler_result){0};
    switch (command->kind) {
    case CTRLER_JOIN:
        made = change_join(&change);
        break;
    case CTRLER_LEAVE:
        made = change_leave(&change);
        break;
    case CTRLER_MOVE:
        made = change_move(&change);
        break;
    case CTRLER_PAUSE:
        made = change_pause(&change);
        break;
    case CTRLER_REPLICAS:
        made = change_replicas(&change);
        break;
    default:
        UNREACHABLE("no other command makes a configuration");
    }
    mem_free(holders);
    ASSERT(made == (next->shards != NULL));
    ASSERT(!made || next->num == latest->num + 1);
    return made;
}
