/* Random walks: several groups share one shard (tests/unit/shard_world.h), and no order of events
 * makes two of them serve it or loses a write; and whatever came before, the shard comes to rest
 * where the last configuration wants it.
 *
 * A controller makes configurations; each group adopts them at its own pace. Takers ask for pieces
 * and to be let go of, and what the asked group answers becomes an entry of its log or of theirs: a
 * post, which comes at any later time, or never, or twice. Some questions are answered by a replica
 * that is behind. A group may die before it has anything that others need. */
#include "raft/util/mem.h"
#include "tests/unit/shard_world.h"

#define SEEDS  20000
#define STEPS  250
#define ROUNDS 400

/* ---- Questions ---- */

/* The rest of the base, and all that changed: as at the end of kv_piece.c. */
static void give_end(struct world *world, const struct node *source, struct post *post)
{
    post->kind = POST_INSTALL;
    post->content = source->live;
    post->end.records = source->view.shard.outgoing.records;
    post->end.gid = source->view.me;
    for (size_t key = 0; key < KEYS; key++) {
        post->brings[key] = key >= post->number || source->noted[key];
    }
    send_post(world, post);
}

static void propose_at_source(struct world *world, const struct node *source, struct post *post,
                              enum post_kind kind)
{
    const struct shard_outgoing *outgoing = &source->view.shard.outgoing;

    post->kind = kind;
    post->to = source->view.me;
    post->copy_id = kind == POST_COPY_BEGIN ? post->copy_id : outgoing->copy_id;
    post->n_keys = 1 + rng_below(&world->rng, KEYS);
    while (!outgoing->is_swept && !slice_equal(begin_of(post->from), buf_slice(&outgoing->swept))) {
        post->from++;
    }
    send_post(world, post);
}

/* Any copy reads what is swept and noted: kv_handover.c. */
static void give_piece(struct world *world, const struct node *source, const struct node *taker,
                       struct post *post)
{
    const struct shard *shard = &source->view.shard;
    bool has_base = post->number == KEYS, is_short = one_in(world, 4);

    if (shard->outgoing.copy_id == 0 ||
        (taker->asks_anew && post->number == 0 && shard->outgoing.copy_id != post->copy_id)) {
        propose_at_source(world, source, post, POST_COPY_BEGIN);
    } else if (shard->outgoing.is_swept && (has_base || is_short)) {
        if (shard->state == SHARD_FROZEN) {
            give_end(world, source, post);
        } else {
            propose_at_source(world, source, post, POST_FREEZE);
        }
    } else if (!has_base && shard_notes_key(shard, slice_text(keys[post->number]))) {
        post->kind = POST_CHUNK;
        post->content = source->live;
        post->brings[post->number] = true;
        if (!world->is_calm && one_in(world, 40)) { /* damaged on its way */
            post->content.values[post->number] += 1000000;
        }
        send_post(world, post);
    } else if (!shard->outgoing.is_swept) {
        propose_at_source(world, source, post, POST_SWEEP);
    }
}

/* What the taker's leader asks for next. */
static struct post next_piece(struct world *world, struct node *taker, config_num num)
{
    const struct shard_copy *copy = &taker->view.shard.copy;
    struct post post = {.to = taker->view.me, .num = num};

    if (!world->is_calm && one_in(world, 16)) { /* another leader */
        taker->asks_for = one_in(world, 2) ? copy->copy_id : 0;
        taker->asks_anew = one_in(world, 4); /* it knows of something broken, or knows no more */
    }
    if (taker->asks_for == 0 || taker->asks_num != num) {
        taker->asks_for = ++world->next_copy;
        taker->asks_num = num;
    }
    post.copy_id = taker->asks_for;
    post.number = post.copy_id == copy->copy_id ? copy->next_piece : 0;
    return post;
}

/* A replica that is behind says only what stays true: kv_handover.c. */
static void ask_for_piece(struct world *world, struct node *taker, uint32_t gid, bool is_behind)
{
    const struct shard_transition *head = shard_head(&taker->view.shard);
    const struct node *source = is_behind ? &world->behind[gid] : &world->nodes[gid];
    const struct shard *shard = &source->view.shard;
    struct post post;

    if (head == NULL || head->kind != SHARD_RECEIVE || gid == taker->view.me ||
        gid == world->dead) {
        return;
    }
    post = next_piece(world, taker, head->num);
    switch (shard_answer_pull(shard, head->num, taker->view.me, source->adopted)) {
    case SHARD_ANSWER_YES:
        if (!is_behind) {
            give_piece(world, source, taker, &post);
        } else if (shard->state == SHARD_FROZEN && shard->outgoing.is_swept) {
            give_end(world, source, &post);
        }
        break;
    case SHARD_ANSWER_VOID:
        world->voided[head->num] = true;
        post.kind = POST_VOID;
        send_post(world, &post);
        break;
    case SHARD_ANSWER_NOT_READY:
        break;
    default:
        world_show(world);
        fail_msg("group %u refused group %u, which the configuration names", gid, taker->view.me);
    }
}

static void ask_to_let_go(struct world *world, struct node *taker, bool is_behind)
{
    struct shard_release pending;
    const struct node *source;
    struct post post = {.to = taker->view.me};

    if (taker->view.shard.n_releases == 0) {
        return;
    }
    pending = taker->view.shard.releases[rng_below(&world->rng, taker->view.shard.n_releases)];
    source = is_behind ? &world->behind[pending.gid] : &world->nodes[pending.gid];
    post.num = pending.num;
    switch (
        shard_answer_release(&source->view.shard, pending.num, taker->view.me, source->adopted)) {
    case SHARD_ANSWER_YES:
        post.kind = POST_DROP;
        post.to = pending.gid;
        send_post(world, &post);
        break;
    case SHARD_ANSWER_DONE:
        world->done[pending.gid][pending.num] = true;
        post.kind = POST_RELEASED;
        send_post(world, &post);
        break;
    case SHARD_ANSWER_NOT_READY:
        WORLD_ASSERT(world, is_behind);
        break;
    default:
        world_show(world);
        fail_msg("group %u does not know whom it gave the shard", pending.gid);
    }
}

/* ---- Steps ---- */

static void adopt_next(struct world *world, struct node *node)
{
    config_num num = node->adopted + 1;
    struct shard_change change = {num, node->view.me, world->owner[num], world->from[num]};

    WORLD_ASSERT(world, shard_can_adopt(&node->view.shard, &change));
    shard_adopt(&node->view.shard, &change, &node->view.next_range, &node->view.effect);
    node->adopted = num;
}

/* The data is elsewhere, and not frozen for it. */
static void maybe_die(struct world *world)
{
    bool is_created = false;
    const struct shard *shard = &world->nodes[world->mortal].view.shard;

    if (!world->one_dies || world->dead != 0 || shard->state != SHARD_ABSENT ||
        shard->n_releases > 0 || !one_in(world, 30)) {
        return;
    }
    for (uint32_t gid = 1; gid <= GROUPS; gid++) {
        const struct shard *other = &world->nodes[gid].view.shard;

        is_created = is_created || other->state != SHARD_ABSENT;
        if (other->state == SHARD_FROZEN && other->queue[0].gid == world->mortal) {
            return;
        }
    }
    if (is_created) {
        world->dead = world->mortal;
        world->n_posts = 0;
        world->n_deaths++;
    }
}

static void world_step(struct world *world)
{
    uint32_t gid = 1 + (uint32_t)rng_below(&world->rng, GROUPS);
    uint32_t other = 1 + (uint32_t)rng_below(&world->rng, GROUPS);
    struct node *node = &world->nodes[gid];

    maybe_die(world);
    if (gid == world->dead) {
        return;
    }
    switch (rng_below(&world->rng, 16)) {
    case 0:
        if (node->adopted < world->n_configs) {
            adopt_next(world, node);
        }
        break;
    case 1:
        if (node->view.shard.state == SHARD_SERVING) {
            write_key(world, node);
        }
        break;
    case 2:
        ask_to_let_go(world, node, one_in(world, 4));
        break;
    case 3:
        catch_up(world, gid);
        break;
    case 4:
    case 5:
    case 6:
    case 7:
    case 8:
        ask_for_piece(world, node, other, one_in(world, 4));
        break;
    default:
        if (world->n_posts > 0) {
            take_post(world);
        }
        break;
    }
}

/* ---- In the end ---- */

static bool is_at_rest(const struct world *world)
{
    for (uint32_t gid = 1; gid <= GROUPS; gid++) {
        if (gid != world->dead && !shard_is_settled(&world->nodes[gid].view.shard)) {
            return false;
        }
    }
    return true;
}

/* Everybody who is alive gets a turn, and what is proposed is applied. */
static void calm_round(struct world *world)
{
    for (uint32_t gid = 1; gid <= GROUPS; gid++) {
        struct node *node = &world->nodes[gid];

        if (gid == world->dead) {
            continue;
        }
        if (node->view.shard.state == SHARD_SERVING) {
            write_key(world, node);
        }
        ask_to_let_go(world, node, false);
        for (uint32_t other = 1; other <= GROUPS; other++) {
            ask_for_piece(world, node, other, false);
            while (world->n_posts > 0) {
                take_post(world);
                world_check(world);
            }
        }
    }
}

static void check_rest(const struct world *world)
{
    uint32_t owner = world->owner[world->n_configs];

    for (uint32_t gid = 1; gid <= GROUPS; gid++) {
        bool keeps = owner == 0 && gid == world->from[world->n_configs];

        WORLD_ASSERT(world, world->nodes[gid].view.shard.state == (gid == owner ? SHARD_SERVING
                                                                   : keeps      ? SHARD_FROZEN
                                                                                : SHARD_ABSENT));
    }
}

/* What was on its way is lost, or all of it comes late: then nothing is lost any more. */
static void come_to_rest(struct world *world)
{
    int round = 0;

    if (one_in(world, 2)) {
        world->n_posts = 0;
    }
    while (world->n_posts > 0) {
        take_post(world);
        world_check(world);
    }
    for (uint32_t gid = 1; gid <= GROUPS; gid++) {
        while (gid != world->dead && world->nodes[gid].adopted < world->n_configs) {
            adopt_next(world, &world->nodes[gid]);
            world_check(world);
        }
    }
    while (!is_at_rest(world)) {
        WORLD_ASSERT(world, round++ < ROUNDS);
        if (round == 20) {
            world->is_calm = true;
            world->last_stormy_copy = world->next_copy;
        }
        calm_round(world);
    }
    check_rest(world);
}

static void walk(struct world *world, uint64_t seed)
{
    world_init(world, seed);
    for (int step = 0; step < STEPS; step++) {
        world_step(world);
        world_check(world);
    }
    come_to_rest(world);
    world_fini(world);
}

static void one_group_serves_nothing_is_lost_and_the_last_configuration_comes_true(void **state)
{
    struct world *world = mem_alloc(sizeof(*world));
    uint64_t happened[POST_KINDS] = {0}, n_broken = 0, n_deaths = 0;

    (void)state;
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        walk(world, seed);
        for (size_t kind = 0; kind < POST_KINDS; kind++) {
            happened[kind] += world->happened[kind];
        }
        n_broken += world->n_broken;
        n_deaths += world->n_deaths;
    }
    /* The walks went everywhere. */
    for (size_t kind = 0; kind < POST_KINDS; kind++) {
        assert_true(happened[kind] > SEEDS / 4);
    }
    assert_true(n_deaths > SEEDS / 8);
    assert_true(n_broken > SEEDS / 100);
    mem_free(world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_group_serves_nothing_is_lost_and_the_last_configuration_comes_true),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
