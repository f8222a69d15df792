/* dry_run: see cli_dry_run.h. */
#include "client/cli_dry_run.h"

#include <stdlib.h>
#include <string.h>

/* ---- Making ---- */

static bool same_owners(const struct shardkv_config *a, const struct shardkv_config *b)
{
    size_t size = a->n_shards * sizeof(a->shards[0]);

    return a->n_shards == b->n_shards && memcmp(a->shards, b->shards, size) == 0 &&
           memcmp(a->from, b->from, size) == 0;
}

static struct dry_run_row row_of_shard(const struct survey *survey, uint32_t shard, uint32_t to)
{
    const struct shardkv_config *config = survey->config;
    uint32_t owner = config->shards[shard], holder;
    struct dry_run_row row = {.shard = shard, .to = to, .known = true};
    const struct shardkv_shard_status *status = survey_shard(survey, shard, &holder);

    row.from = owner != 0 ? owner : config->from[shard];
    if (row.from == 0 || row.to == 0 || row.from == row.to) {
        return row; /* nothing is copied */
    }
    row.known = status != NULL;
    row.keys = status != NULL ? status->keys : 0;
    row.bytes = status != NULL ? status->bytes : 0;
    return row;
}

static void add_to_sums(struct dry_run *plan, const struct dry_run_row *row)
{
    size_t at = 0;

    while (at < plan->n_sums &&
           (plan->sums[at].from < row->from ||
            (plan->sums[at].from == row->from && plan->sums[at].to < row->to))) {
        at++;
    }
    if (at == plan->n_sums || plan->sums[at].from != row->from || plan->sums[at].to != row->to) {
        memmove(&plan->sums[at + 1], &plan->sums[at], (plan->n_sums - at) * sizeof(plan->sums[0]));
        plan->n_sums++;
        plan->sums[at] = (struct dry_run_row){.from = row->from, .to = row->to, .known = true};
    }
    plan->sums[at].shard++;
    plan->sums[at].known &= row->known;
    plan->sums[at].keys += row->keys;
    plan->sums[at].bytes += row->bytes;
}

bool dry_run_make(const struct survey *survey, const struct shardkv_config *planned,
                  struct dry_run *plan)
{
    const struct shardkv_config *now = survey->config;
    bool follows = planned->num == now->num + 1 && planned->n_shards == now->n_shards;

    *plan = (struct dry_run){.changes = follows, .base = now->num, .num = planned->num};
    if (!follows) {
        bool same = planned->num == now->num && same_owners(planned, now);

        *plan = same ? *plan : (struct dry_run){0};
        return same;
    }
    plan->rows = calloc(now->n_shards, sizeof(plan->rows[0]));
    plan->sums = calloc(now->n_shards + 1, sizeof(plan->sums[0])); /* no more pairs than shards */
    if (plan->rows == NULL || plan->sums == NULL) {
        abort();
    }
    for (uint32_t s = 0; s < now->n_shards; s++) {
        if (now->shards[s] != planned->shards[s]) {
            plan->rows[plan->n_rows] = row_of_shard(survey, s, planned->shards[s]);
            add_to_sums(plan, &plan->rows[plan->n_rows++]);
        }
    }
    return true;
}

void dry_run_fini(struct dry_run *plan)
{
    free(plan->rows);
    free(plan->sums);
    *plan = (struct dry_run){0};
}

/* ---- Printing ---- */

static json_t *row_json(const struct dry_run_row *row, const char *shards)
{
    return json_pack("{s:I,s:I,s:I,s:o,s:o}", shards, (json_int_t)row->shard, "from",
                     (json_int_t)row->from, "to", (json_int_t)row->to, "keys",
                     row->known ? json_integer((json_int_t)row->keys) : json_null(), "bytes",
                     row->known ? json_integer((json_int_t)row->bytes) : json_null());
}

json_t *dry_run_json(const struct dry_run *plan)
{
    json_t *rows = json_array(), *sums = json_array();

    for (size_t i = 0; i < plan->n_rows; i++) {
        json_array_append_new(rows, row_json(&plan->rows[i], "shard"));
    }
    for (size_t i = 0; i < plan->n_sums; i++) {
        json_array_append_new(sums, row_json(&plan->sums[i], "shards"));
    }
    return json_pack("{s:b,s:I,s:b,s:o,s:o}", "dry_run", 1, "num", (json_int_t)plan->num, "changes",
                     (int)plan->changes, "moves", rows, "sums", sums);
}

static void print_group(FILE *file, uint32_t gid)
{
    if (gid == 0) {
        fputs("nobody", file);
    } else {
        fprintf(file, "group %u", gid);
    }
}

static void print_row(FILE *file, const struct dry_run_row *row, const char *what)
{
    fputs("from ", file);
    print_group(file, row->from);
    fputs(" to ", file);
    print_group(file, row->to);
    fprintf(file, ": %s", what);
    if (!row->known) {
        fputs(", size not known\n", file);
    } else if (row->from == 0) {
        fputs(", created empty\n", file);
    } else if (row->to == 0) {
        fputs(", kept there and not served\n", file);
    } else if (row->from == row->to) {
        fputs(", served again without a copy\n", file);
    } else {
        fprintf(file, ", about %llu keys, %.1f MB\n", (unsigned long long)row->keys,
                (double)row->bytes / 1e6);
    }
}

void dry_run_print(FILE *file, const struct dry_run *plan)
{
    char what[40];

    if (!plan->changes) {
        fprintf(file, "dry run: nothing would change, configuration %llu stays\n",
                (unsigned long long)plan->num);
        return;
    }
    fprintf(file, "dry run: configuration %llu would follow %llu%s\n",
            (unsigned long long)plan->num, (unsigned long long)plan->base,
            plan->n_rows == 0 ? "; no shard would move" : "");
    for (size_t i = 0; i < plan->n_rows; i++) {
        snprintf(what, sizeof(what), "shard %u", plan->rows[i].shard);
        print_row(file, &plan->rows[i], what);
    }
    for (size_t i = 0; i < plan->n_sums; i++) {
        uint32_t shards = plan->sums[i].shard;

        snprintf(what, sizeof(what), "%u shard%s in all", shards, shards == 1 ? "" : "s");
        print_row(file, &plan->sums[i], what);
    }
}
