/* A world of several groups that share one shard, for random walks: each group's view of it, its
 * adopted configurations, its data, and what was proposed to its log and not applied yet.
 *
 * The shard has a few keys, so that copying, sweeping and noting changes are as in
 * shardkv/kv_copy.c, with real sums; `truth` is what a client would read. */
#ifndef TESTS_UNIT_SHARD_WORLD_H
#define TESTS_UNIT_SHARD_WORLD_H

#include "tests/unit/shard_view.h"

#define GROUPS  4
#define CONFIGS 12
#define KEYS    3
#define POSTS   16

static const char *const keys[KEYS] = {"a", "b", "c"};

/* The value of each key, a number; 0: there is no such key. */
struct content {
    uint64_t values[KEYS];
};

/* One group. */
struct node {
    struct view view;
    config_num adopted;
    struct content live, staged;
    bool noted[KEYS];  /* in the change log */
    uint64_t asks_for; /* the copy_id that its leader asks with, and for which number */
    config_num asks_num;
    bool asks_anew; /* the last copy was broken */
};

enum post_kind {
    POST_COPY_BEGIN,
    POST_SWEEP,
    POST_FREEZE,
    POST_DROP,
    POST_CHUNK,
    POST_INSTALL,
    POST_VOID,
    POST_RELEASED,
    POST_KINDS
};

/* An entry that some leader has proposed. */
struct post {
    enum post_kind kind;
    uint32_t to;
    config_num num;
    uint64_t copy_id;
    uint64_t number;     /* of the piece */
    size_t from, n_keys; /* SWEEP, COPY_BEGIN */
    bool brings[KEYS];   /* CHUNK, INSTALL: these keys, as they are in `content` */
    struct content content;
    struct shard_end end;
};

struct world {
    struct rng rng;
    uint32_t owner[CONFIGS + 1], from[CONFIGS + 1];
    config_num n_configs;
    struct node nodes[GROUPS + 1];
    struct node behind[GROUPS + 1]; /* a replica of each that has applied less */
    struct content truth;
    uint64_t written, next_copy;
    struct post posts[POSTS];
    size_t n_posts;
    bool is_calm; /* nothing is lost, late, damaged, or twice any more */
    uint64_t last_stormy_copy;
    bool one_dies;   /* one group will */
    uint32_t mortal; /* this one */
    uint32_t dead;   /* it has */
    /* What was said once. */
    bool voided[CONFIGS + 1];
    bool done[GROUPS + 1][CONFIGS + 1];
    uint64_t happened[POST_KINDS], n_broken, n_deaths;
};

static inline bool one_in(struct world *world, uint64_t n)
{
    return rng_below(&world->rng, n) == 0;
}

/* ---- The world ---- */

static inline void choose_mortal(struct world *world)
{
    config_num last = world->n_configs;

    world->mortal = 1 + (uint32_t)rng_below(&world->rng, GROUPS);
    world->one_dies = one_in(world, 2) && world->owner[last] != world->mortal &&
                      (world->owner[last] != 0 || world->from[last] != world->mortal);
}

static inline void world_init(struct world *world, uint64_t seed)
{
    uint32_t last = 0;

    memset(world, 0, sizeof(*world));
    rng_init(&world->rng, seed);
    world->n_configs = rng_between(&world->rng, 1, CONFIGS);
    for (config_num num = 1; num <= world->n_configs; num++) {
        world->from[num] = last;
        world->owner[num] = (uint32_t)rng_below(&world->rng, GROUPS + 1);
        last = world->owner[num] != 0 ? world->owner[num] : last;
    }
    choose_mortal(world);
    for (uint32_t gid = 1; gid <= GROUPS; gid++) {
        world->nodes[gid].view = view_of(gid);
        world->behind[gid].view = view_of(gid);
    }
}

static inline void world_fini(struct world *world)
{
    for (uint32_t gid = 1; gid <= GROUPS; gid++) {
        shard_fini(&world->nodes[gid].view.shard);
        shard_fini(&world->behind[gid].view.shard);
    }
}

static inline void world_show(const struct world *world)
{
    for (config_num num = 1; num <= world->n_configs; num++) {
        print_message("config %d: %u from %u\n", (int)num, world->owner[num], world->from[num]);
    }
    for (uint32_t gid = 1; gid <= GROUPS; gid++) {
        struct buf text = {0};

        view_describe(&world->nodes[gid].view, &text);
        print_message("group %u%s adopted %d: %s\n", gid, world->dead == gid ? " (dead)" : "",
                      (int)world->nodes[gid].adopted, (const char *)text.data);
        buf_fini(&text);
    }
}

#define WORLD_ASSERT(world, condition)                                                             \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            world_show(world);                                                                     \
            fail_msg("%s", #condition);                                                            \
        }                                                                                          \
    } while (0)

/* A replica catches up: with what is on disk, so the bytes are tried, too. */
static inline void catch_up(struct world *world, uint32_t gid)
{
    struct node *node = &world->nodes[gid], *behind = &world->behind[gid];
    struct buf bytes = {0};
    struct reader reader;

    shard_encode(&node->view.shard, &bytes);
    shard_fini(&behind->view.shard);
    *behind = *node;
    reader = reader_of(buf_slice(&bytes));
    assert_true(shard_decode(&reader, &behind->view.shard) && reader_done(&reader));
    buf_fini(&bytes);
}

static inline bool content_equal(const struct content *a, const struct content *b)
{
    return memcmp(a, b, sizeof(*a)) == 0;
}

static inline void check_what_was_said(const struct world *world, const struct node *node)
{
    const struct shard *shard = &node->view.shard;

    for (size_t i = 0; i < shard->n_queue; i++) {
        if (shard->queue[i].kind == SHARD_SEND) {
            WORLD_ASSERT(world, !world->done[node->view.me][shard->queue[i].num]);
        }
    }
}

static inline void world_check(const struct world *world)
{
    uint32_t n_serving = 0, n_holding = 0;

    for (uint32_t gid = 1; gid <= GROUPS; gid++) {
        const struct node *node = &world->nodes[gid];
        bool is_whole = content_equal(&node->live, &world->truth);

        WORLD_ASSERT(world, shard_is_consistent(&node->view.shard));
        check_what_was_said(world, node);
        if (node->view.shard.state == SHARD_SERVING) {
            n_serving++;
            WORLD_ASSERT(world, is_whole);
        }
        n_holding += node->view.shard.state != SHARD_ABSENT && is_whole;
    }
    WORLD_ASSERT(world, n_serving <= 1);
    WORLD_ASSERT(world, n_holding >= 1 || world->written == 0);
}

/* ---- Content and its sum ---- */

static inline void sum_change(struct shard_sum *sum, size_t key, uint64_t before, uint64_t after)
{
    if (before != 0) {
        shard_sum_remove(sum, slice_text(keys[key]), slice_of(&before, sizeof(before)));
    }
    if (after != 0) {
        shard_sum_add(sum, slice_text(keys[key]), slice_of(&after, sizeof(after)));
    }
}

static inline void write_key(struct world *world, struct node *node)
{
    size_t key = rng_below(&world->rng, KEYS);
    uint64_t before = node->live.values[key];
    uint64_t after = one_in(world, 4) ? 0 : ++world->written;

    if (shard_notes_key(&node->view.shard, slice_text(keys[key]))) {
        sum_change(&node->view.shard.outgoing.records, key, before, after);
        node->noted[key] = true;
    }
    node->live.values[key] = after;
    world->truth.values[key] = after;
}

static inline void sweep_keys(struct node *node, size_t from, size_t n)
{
    size_t end = from + n < KEYS ? from + n : KEYS;

    for (size_t key = from; key < end; key++) {
        sum_change(&node->view.shard.outgoing.records, key, 0, node->live.values[key]);
    }
    shard_sweep_end(&node->view.shard, slice_text(keys[end - 1]), end == KEYS);
}

/* ---- Posts ---- */

static inline struct slice begin_of(uint64_t piece)
{
    return slice_text(piece == 0 ? "" : keys[piece - 1]);
}

static inline bool apply_begin(struct node *node, const struct post *post)
{
    if (!copy_begin(&node->view, post->num, post->copy_id)) {
        return false;
    }
    memset(node->noted, 0, sizeof(node->noted));
    sweep_keys(node, 0, post->n_keys);
    return true;
}

static inline bool apply_sweep(struct node *node, const struct post *post)
{
    if (!shard_sweep(&node->view.shard, post->num, post->copy_id, begin_of(post->from))) {
        return false;
    }
    sweep_keys(node, post->from, post->n_keys);
    return true;
}

static inline bool apply_piece(struct node *node, const struct post *post)
{
    struct shard_copy *copy = &node->view.shard.copy;
    struct shard_piece piece = {post->copy_id, post->number, begin_of(post->number)};

    if (!shard_chunk(&node->view.shard, post->num, &piece, &node->view.next_range,
                     &node->view.effect)) {
        return false;
    }
    if (post->number == 0) {
        node->staged = (struct content){0};
    }
    for (size_t key = 0; key < KEYS; key++) {
        if (post->brings[key]) {
            sum_change(&copy->records, key, node->staged.values[key], post->content.values[key]);
            node->staged.values[key] = post->content.values[key];
        }
    }
    return true;
}

static inline bool apply_chunk(struct node *node, const struct post *post)
{
    if (!apply_piece(node, post)) {
        return false;
    }
    shard_chunk_end(&node->view.shard, begin_of(post->number + 1));
    return true;
}

static inline bool apply_install(struct world *world, struct node *node, const struct post *post)
{
    const struct shard_sum no_sessions = {0};

    if (!apply_piece(node, post)) {
        return false;
    }
    shard_install(&node->view.shard, &post->end, &no_sessions, &node->view.effect);
    if (!node->view.effect.installed) {
        WORLD_ASSERT(world, node->view.effect.copy_was_broken);
        WORLD_ASSERT(world, !world->is_calm || post->copy_id <= world->last_stormy_copy);
        world->n_broken++;
        node->asks_for = 0;
        node->asks_anew = true;
        return false;
    }
    WORLD_ASSERT(world, !world->voided[post->num]);
    node->asks_anew = false;
    node->live = node->staged;
    return true;
}

static inline bool had_effect(struct world *world, const struct post *post)
{
    struct node *node = &world->nodes[post->to];

    switch (post->kind) {
    case POST_COPY_BEGIN:
        return apply_begin(node, post);
    case POST_SWEEP:
        return apply_sweep(node, post);
    case POST_FREEZE:
        return freeze(&node->view, post->num, post->copy_id);
    case POST_DROP:
        return drop(&node->view, post->num);
    case POST_CHUNK:
        return apply_chunk(node, post);
    case POST_INSTALL:
        return apply_install(world, node, post);
    case POST_VOID:
        return call_off(&node->view, post->num);
    default:
        return released(&node->view, post->num);
    }
}

static inline void apply_post(struct world *world, const struct post *post)
{
    world->happened[post->kind] += had_effect(world, post);
}

static inline void send_post(struct world *world, const struct post *post)
{
    if (world->n_posts < POSTS) {
        world->posts[world->n_posts++] = *post;
    }
}

static inline void take_post(struct world *world)
{
    size_t which = rng_below(&world->rng, world->n_posts);
    struct post post = world->posts[which];

    if (world->is_calm || !one_in(world, 8)) { /* else it comes once more */
        world->posts[which] = world->posts[--world->n_posts];
    }
    if (post.to != world->dead && (world->is_calm || !one_in(world, 12))) {
        apply_post(world, &post);
    }
}

#endif
