/* Asks all replicas for their status at once; see cli_survey.h. */
#include "client/cli_survey.h"

#include <stdlib.h>
#include <string.h>

#include "client/cli_ask.h"

/* Asks rows[first..n). */
static void ask_rows(struct shardkv *kv, struct survey_row *rows, size_t first, size_t n,
                     uint32_t timeout_ms, cli_ask_async ask)
{
    struct cli_question *questions = calloc(n - first + 1, sizeof(*questions));

    if (questions == NULL) {
        abort();
    }
    for (size_t i = first; i < n; i++) {
        questions[i - first] = (struct cli_question){rows[i].url, &rows[i].result};
    }
    cli_ask_all(kv, questions, n - first, timeout_ms, ask);
    free(questions);
}

static void add_row(struct survey *survey, uint32_t gid, uint32_t id, const char *url, size_t len)
{
    struct survey_row *row;

    survey->rows = realloc(survey->rows, (survey->n_rows + 1) * sizeof(*survey->rows));
    if (survey->rows == NULL || len >= sizeof(row->url)) {
        abort();
    }
    row = &survey->rows[survey->n_rows++];
    memset(row, 0, sizeof(*row));
    row->gid = gid;
    row->id = id;
    memcpy(row->url, url, len);
}

static void add_controllers(struct survey *survey, const char *urls)
{
    for (uint32_t id = 1;; id++) {
        size_t len = strcspn(urls, ",");
        add_row(survey, 0, id, urls, len);
        if (urls[len] == '\0') {
            return;
        }
        urls += len + 1;
    }
}

static const struct shardkv_node *node_of(const struct survey_row *row)
{
    return row->result == NULL || row->result->code != SHARDKV_OK ? NULL : row->result->node;
}

static bool has_row(const struct survey *survey, uint32_t gid, const char *url)
{
    for (size_t i = 0; i < survey->n_rows; i++) {
        if (survey->rows[i].gid == gid && strcmp(survey->rows[i].url, url) == 0) {
            return true;
        }
    }
    return false;
}

static bool is_controller(const struct shardkv_config *config, const char *url)
{
    for (size_t i = 0; i < config->n_ctrlers; i++) {
        if (strcmp(config->ctrlers[i].url, url) == 0) {
            return true;
        }
    }
    return false;
}

/* The controllers that were asked are those of --ctrlers: some may have left the group since. */
static void correct_controllers(struct survey *survey)
{
    const struct shardkv_config *config = survey->config;
    size_t kept = 0;

    if (config->n_ctrlers == 0) {
        return;
    }
    for (size_t i = 0; i < survey->n_rows; i++) {
        if (is_controller(config, survey->rows[i].url)) {
            survey->rows[kept++] = survey->rows[i];
        } else {
            shardkv_result_free(survey->rows[i].result);
        }
    }
    survey->n_rows = kept;
}

/* Everybody that the configuration names and who is no row yet. */
static void add_listed(struct survey *survey)
{
    const struct shardkv_config *config = survey->config;

    for (size_t i = 0; i < config->n_ctrlers; i++) {
        if (!has_row(survey, 0, config->ctrlers[i].url)) {
            add_row(survey, 0, config->ctrlers[i].id, config->ctrlers[i].url,
                    strlen(config->ctrlers[i].url));
        }
    }
    for (size_t g = 0; g < config->n_groups; g++) {
        const struct shardkv_group *group = &config->groups[g];
        for (size_t i = 0; i < group->n_replicas; i++) {
            add_row(survey, group->gid, group->replicas[i].id, group->replicas[i].url,
                    strlen(group->replicas[i].url));
        }
    }
}

static int compare_rows(const void *a, const void *b)
{
    const struct survey_row *x = a;
    const struct survey_row *y = b;

    return x->gid != y->gid ? (x->gid > y->gid) - (x->gid < y->gid)
                            : (x->id > y->id) - (x->id < y->id);
}

void survey_make(struct cli *cli, uint32_t timeout_ms, struct survey *survey)
{
    size_t n_asked;
    bool any_up = false;

    *survey = (struct survey){0};
    add_controllers(survey, cli->ctrlers);
    n_asked = survey->n_rows;
    ask_rows(cli->kv, survey->rows, 0, n_asked, timeout_ms, shardkv_status_async);
    for (size_t i = 0; i < n_asked; i++) {
        const struct shardkv_node *node = node_of(&survey->rows[i]);
        if (node != NULL) {
            survey->rows[i].id = node->id;
            any_up = true;
        }
    }
    if (!any_up) {
        return;
    }
    shardkv_config(cli->kv, SHARDKV_CONFIG_LATEST, timeout_ms, &survey->config_result);
    survey->config = survey->config_result->config;
    if (survey->config == NULL) {
        return;
    }
    correct_controllers(survey);
    n_asked = survey->n_rows;
    add_listed(survey);
    ask_rows(cli->kv, survey->rows, n_asked, survey->n_rows, timeout_ms, shardkv_status_async);
    qsort(survey->rows, survey->n_rows, sizeof(survey->rows[0]), compare_rows);
}

/* Adds whom the leader of that row names, and who is no row yet. */
static void add_members(struct survey *survey, const struct survey_row *told)
{
    const struct shardkv_members *members = told->result != NULL ? told->result->members : NULL;

    for (size_t i = 0; members != NULL && i < members->n_members; i++) {
        if (!has_row(survey, told->gid, members->members[i].url)) {
            add_row(survey, told->gid, members->members[i].id, members->members[i].url,
                    strlen(members->members[i].url));
        }
    }
}

void survey_add_learners(struct cli *cli, uint32_t timeout_ms, struct survey *survey)
{
    struct survey leaders = {0};
    size_t n = survey->n_rows;

    for (size_t i = 0; i < n; i++) {
        const struct shardkv_node *node = node_of(&survey->rows[i]);

        if (node != NULL && node == survey_leader(survey, survey->rows[i].gid)) {
            add_row(&leaders, survey->rows[i].gid, 0, survey->rows[i].url,
                    strlen(survey->rows[i].url));
        }
    }
    ask_rows(cli->kv, leaders.rows, 0, leaders.n_rows, timeout_ms, shardkv_members_async);
    for (size_t i = 0; i < leaders.n_rows; i++) {
        add_members(survey, &leaders.rows[i]);
    }
    survey_fini(&leaders);
    ask_rows(cli->kv, survey->rows, n, survey->n_rows, timeout_ms, shardkv_status_async);
    qsort(survey->rows, survey->n_rows, sizeof(survey->rows[0]), compare_rows);
}

void survey_fini(struct survey *survey)
{
    for (size_t i = 0; i < survey->n_rows; i++) {
        shardkv_result_free(survey->rows[i].result);
    }
    free(survey->rows);
    shardkv_result_free(survey->config_result);
    *survey = (struct survey){0};
}

const struct shardkv_node *survey_leader(const struct survey *survey, uint32_t gid)
{
    const struct shardkv_node *leader = NULL;

    for (size_t i = 0; i < survey->n_rows; i++) {
        const struct shardkv_node *node = node_of(&survey->rows[i]);
        if (survey->rows[i].gid == gid && node != NULL && node->role == SHARDKV_LEADER &&
            (leader == NULL || node->term > leader->term)) {
            leader = node;
        }
    }
    return leader;
}

bool survey_all_lead(const struct survey *survey)
{
    const struct shardkv_node *leader = survey_leader(survey, 0);

    if (survey->config == NULL || leader == NULL || !leader->ready) {
        return false;
    }
    for (size_t g = 0; g < survey->config->n_groups; g++) {
        leader = survey_leader(survey, survey->config->groups[g].gid);
        if (survey->config->groups[g].member && (leader == NULL || !leader->ready)) {
            return false;
        }
    }
    return true;
}

static const struct shardkv_shard_status *row_of(const struct shardkv_node *node, uint32_t shard)
{
    for (size_t i = 0; node != NULL && i < node->n_shards; i++) {
        if (node->shards[i].shard == shard) {
            return &node->shards[i];
        }
    }
    return NULL;
}

const struct shardkv_shard_status *survey_shard(const struct survey *survey, uint32_t shard,
                                                uint32_t *gid)
{
    const struct shardkv_config *config = survey->config;
    const struct shardkv_shard_status *owner;

    *gid = config->shards[shard];
    owner = row_of(survey_leader(survey, *gid), shard);
    if (owner != NULL && owner->state != SHARDKV_SHARD_ABSENT) {
        return owner;
    }
    for (size_t g = 0; g < config->n_groups; g++) {
        const struct shardkv_shard_status *row =
            row_of(survey_leader(survey, config->groups[g].gid), shard);
        if (row != NULL && row->state != SHARDKV_SHARD_ABSENT) {
            *gid = config->groups[g].gid;
            return row;
        }
    }
    return owner;
}

/* ---- Moves ---- */

/* The size of what moves, where the taker does not know it: what its source has. */
static void complete_move(const struct survey *survey, struct shardkv_move_status *move)
{
    const struct shardkv_shard_status *source =
        row_of(survey_leader(survey, move->from), move->shard);

    if (move->bytes_total == 0 && source != NULL) {
        move->bytes_total = source->bytes;
    }
    if (move->keys_total == 0 && source != NULL) {
        move->keys_total = source->keys;
    }
    /* Estimates: less than what has come already they can't be. */
    if (move->bytes_total != 0 && move->bytes_total < move->bytes_done) {
        move->bytes_total = move->bytes_done;
    }
    if (move->keys_total != 0 && move->keys_total < move->keys_done) {
        move->keys_total = move->keys_done;
    }
}

struct shardkv_move_status *survey_moves(const struct survey *survey, size_t *n)
{
    const struct shardkv_config *config = survey->config;
    struct shardkv_move_status *moves = NULL;

    *n = 0;
    for (size_t g = 0; config != NULL && g < config->n_groups; g++) {
        const struct shardkv_node *leader = survey_leader(survey, config->groups[g].gid);

        if (leader == NULL || leader->n_moves == 0) {
            continue;
        }
        moves = realloc(moves, (*n + leader->n_moves) * sizeof(moves[0]));
        if (moves == NULL) {
            abort();
        }
        memcpy(moves + *n, leader->moves, leader->n_moves * sizeof(moves[0]));
        *n += leader->n_moves;
    }
    for (size_t i = 0; i < *n; i++) {
        complete_move(survey, &moves[i]);
    }
    return moves;
}

/* Whether the shard is on its way: later its new owner serves. */
static bool is_under_way(const struct shardkv_move_status *move)
{
    return move->phase < SHARDKV_MOVE_LETTING_GO;
}

static bool is_quiet(const struct shardkv_node *leader, uint64_t config)
{
    for (size_t i = 0; i < leader->n_moves; i++) {
        if (is_under_way(&leader->moves[i])) {
            return false;
        }
    }
    return leader->config >= config;
}

/* What is still to come of each shard that is under way, by shard. */
static uint64_t *bytes_to_come(const struct survey *survey, bool *is_known)
{
    uint32_t n_shards = survey->config->n_shards;
    uint64_t *bytes = calloc(n_shards, sizeof(bytes[0]));
    size_t n;
    struct shardkv_move_status *moves = survey_moves(survey, &n);

    if (bytes == NULL) {
        abort();
    }
    for (size_t i = 0; i < n; i++) {
        if (moves[i].shard < n_shards && is_under_way(&moves[i])) {
            bytes[moves[i].shard] = moves[i].bytes_total > moves[i].bytes_done
                                        ? moves[i].bytes_total - moves[i].bytes_done
                                        : 0;
            is_known[moves[i].shard] = true;
        }
    }
    free(moves);
    return bytes;
}

/* The shards that are not served by their owners, and their bytes: as far as their moves tell, else
 * all that whoever holds them has, for the taker has not heard of its configuration yet. */
static void count_left(const struct survey *survey, struct survey_left *left)
{
    const struct shardkv_config *config = survey->config;
    bool *is_known = calloc(config->n_shards, sizeof(is_known[0]));
    uint64_t *bytes;

    if (is_known == NULL) {
        abort();
    }
    bytes = bytes_to_come(survey, is_known);
    for (uint32_t s = 0; s < config->n_shards; s++) {
        uint32_t gid;
        const struct shardkv_shard_status *row = survey_shard(survey, s, &gid);

        if (config->shards[s] == 0 ||
            (row != NULL && gid == config->shards[s] && row->state == SHARDKV_SHARD_SERVING)) {
            continue;
        }
        left->shards++;
        left->bytes += is_known[s] ? bytes[s] : row != NULL ? row->bytes : 0;
    }
    free(bytes);
    free(is_known);
}

bool survey_all_settled(const struct survey *survey, struct survey_left *left)
{
    const struct shardkv_config *config = survey->config;
    bool quiet = true;

    *left = (struct survey_left){0};
    if (config == NULL) {
        return false;
    }
    count_left(survey, left);
    for (size_t g = 0; g < config->n_groups; g++) {
        const struct shardkv_node *leader = survey_leader(survey, config->groups[g].gid);

        quiet &= leader == NULL ? !config->groups[g].member : is_quiet(leader, config->num);
    }
    return left->shards == 0 && quiet;
}
