/* cli_group: see cli_group.h. */
#include "client/cli_group.h"

#include <string.h>

#include "client/cli_ask.h"

/* Asks rows[first..n_rows). */
static void ask_rows(struct shardkv *kv, struct group_view *view, size_t first, uint32_t timeout_ms)
{
    struct cli_question questions[GROUP_MAX_ROWS];

    for (size_t i = first; i < view->n_rows; i++) {
        questions[i] = (struct cli_question){view->rows[i].url, &view->rows[i].result};
    }
    cli_ask_all(kv, &questions[first], view->n_rows - first, timeout_ms, shardkv_members_async);
}

/* Each URL once. */
static void add_row(struct group_view *view, uint32_t id, const char *url, size_t len)
{
    struct group_row *row = &view->rows[view->n_rows];

    for (size_t i = 0; i < view->n_rows; i++) {
        if (strlen(view->rows[i].url) == len && memcmp(view->rows[i].url, url, len) == 0) {
            return;
        }
    }
    if (view->n_rows == GROUP_MAX_ROWS || len == 0 || len >= sizeof(row->url)) {
        return;
    }
    memset(row, 0, sizeof(*row));
    row->id = id;
    memcpy(row->url, url, len);
    view->n_rows++;
}

static const struct shardkv_group *find_group(const struct group_view *view, uint32_t gid)
{
    const struct shardkv_config *config = view->config_result->config;

    for (size_t g = 0; config != NULL && g < config->n_groups; g++) {
        if (config->groups[g].gid == gid) {
            return &config->groups[g];
        }
    }
    return NULL;
}

/* The replicas that the configuration lists. */
static const struct shardkv_replica *listed(const struct group_view *view, uint32_t gid, size_t *n)
{
    const struct shardkv_config *config = view->config_result->config;
    const struct shardkv_group *group = find_group(view, gid);

    *n = 0;
    if (gid == 0 && config != NULL) {
        *n = config->n_ctrlers;
        return config->ctrlers;
    }
    if (group == NULL) {
        return NULL;
    }
    *n = group->n_replicas;
    return group->replicas;
}

static void add_urls(struct group_view *view, const char *urls)
{
    for (;;) {
        size_t len = strcspn(urls, ",");

        add_row(view, 0, urls, len);
        if (urls[len] == '\0') {
            return;
        }
        urls += len + 1;
    }
}

/* Who is named by those that answered, and not known yet. */
static void add_named(struct group_view *view)
{
    size_t n = view->n_rows;

    for (size_t i = 0; i < n; i++) {
        const struct shardkv_members *members = group_row_members(&view->rows[i]);

        if (members == NULL) {
            continue;
        }
        view->rows[i].id = members->id;
        for (size_t m = 0; m < members->n_members; m++) {
            add_row(view, members->members[m].id, members->members[m].url,
                    strlen(members->members[m].url));
        }
    }
}

void group_view_make(struct cli *cli, uint32_t gid, uint32_t timeout_ms, struct group_view *view)
{
    const struct shardkv_replica *replicas;
    size_t n, asked;

    memset(view, 0, sizeof(*view));
    shardkv_config(cli->kv, SHARDKV_CONFIG_LATEST, timeout_ms, &view->config_result);
    replicas = listed(view, gid, &n);
    for (size_t i = 0; i < n; i++) {
        add_row(view, replicas[i].id, replicas[i].url, strlen(replicas[i].url));
    }
    if (gid == 0 && n == 0) {
        add_urls(view, cli->ctrlers);
    }
    ask_rows(cli->kv, view, 0, timeout_ms);
    asked = view->n_rows;
    add_named(view);
    ask_rows(cli->kv, view, asked, timeout_ms);
}

void group_view_fini(struct group_view *view)
{
    for (size_t i = 0; i < view->n_rows; i++) {
        shardkv_result_free(view->rows[i].result);
    }
    shardkv_result_free(view->config_result);
    memset(view, 0, sizeof(*view));
}

const struct shardkv_members *group_row_members(const struct group_row *row)
{
    return row->result == NULL || row->result->code != SHARDKV_OK ? NULL : row->result->members;
}

const struct shardkv_members *group_view_leader(const struct group_view *view)
{
    const struct shardkv_members *leader = NULL;

    for (size_t i = 0; i < view->n_rows; i++) {
        const struct shardkv_members *members = group_row_members(&view->rows[i]);

        if (members != NULL && members->leader == members->id &&
            (leader == NULL || members->term > leader->term)) {
            leader = members;
        }
    }
    return leader;
}

const struct shardkv_member *group_find_member(const struct shardkv_members *members, uint32_t id)
{
    for (size_t i = 0; members != NULL && i < members->n_members; i++) {
        if (members->members[i].id == id) {
            return &members->members[i];
        }
    }
    return NULL;
}

bool group_view_lists(const struct group_view *view, uint32_t gid, uint32_t id, const char *url)
{
    size_t n;
    const struct shardkv_replica *replicas = listed(view, gid, &n);

    for (size_t i = 0; i < n; i++) {
        if (replicas[i].id == id) {
            return url == NULL || strcmp(replicas[i].url, url) == 0;
        }
    }
    return false;
}

bool group_view_is_listed(const struct group_view *view, uint32_t gid)
{
    size_t n;

    listed(view, gid, &n);
    return n > 0;
}

const char *group_member_role(const struct shardkv_member *member)
{
    switch (member->flags & (SHARDKV_MEMBER_VOTER | SHARDKV_MEMBER_VOTER_OLD)) {
    case SHARDKV_MEMBER_VOTER:
        return "voter"; /* in a joint configuration: becomes one */
    case SHARDKV_MEMBER_VOTER | SHARDKV_MEMBER_VOTER_OLD:
        return "voter";
    case SHARDKV_MEMBER_VOTER_OLD:
        return "leaving";
    default:
        return "learner";
    }
}
