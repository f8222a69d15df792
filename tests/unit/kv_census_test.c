/* The census: of a leader that is deposed in the middle of a round, and leads again much later; and
 * how little it asks of a busy server. */
#include "shardkv/kv_server_internal.h"
#include "tests/sim/kv_fixture.h"

#define KEYS 60
#define VALUE_BYTES                                                                                \
    300000 /* more than one step of the census looks at: so a round takes seconds                  \
            */
#define CUT_OFF_MS 60000
#define STEP_MS    20 /* between two steps of a round, at most */

struct watched {
    struct fixture *f;
    size_t leader;
};

static const struct kv_server *watched_server(const struct watched *watched)
{
    return fixture_server(watched->f, 0, watched->leader);
}

static uint64_t next_step_ms(const struct watched *watched)
{
    uint64_t due_ms = census_next_deadline_ms(watched_server(watched)->census);
    uint64_t now_ms = world_now_ms(watched->f->world);

    return due_ms > now_ms ? due_ms - now_ms : 0;
}

static bool rests(void *context)
{
    return next_step_ms(context) > STEP_MS;
}

static bool counts(void *context)
{
    return next_step_ms(context) <= STEP_MS;
}

static bool leads(void *context)
{
    const struct watched *watched = context;

    return group_is_ready(watched_server(watched)->group);
}

static void fill(struct fixture *f)
{
    char *value = mem_alloc(VALUE_BYTES + 1);

    memset(value, 'v', VALUE_BYTES);
    value[VALUE_BYTES] = '\0';
    for (unsigned n = 0; n < KEYS; n++) {
        fixture_put(f, fixture_key(f, n % FIXTURE_SHARDS, n), value);
    }
    mem_free(value);
}

/* Whoever else leads is cut off until this one does. */
static void make_leader(struct watched *watched)
{
    struct fixture *f = watched->f;

    for (int tries = 0; !leads(watched); tries++) {
        size_t other = fixture_leader(f, 0);

        assert_true(tries < 50);
        if (other != SIZE_MAX && other != watched->leader) {
            world_connect(f->world, fixture_node(f, 0, other), false);
            (void)world_run_until(f->world, 2000, leads, watched);
            world_connect(f->world, fixture_node(f, 0, other), true);
        }
        world_run_ms(f->world, 100);
    }
}

static uint64_t keys_counted(const struct watched *watched)
{
    uint64_t all = 0, keys, bytes;

    for (shard_id shard = 0; shard < FIXTURE_SHARDS; shard++) {
        if (census_find(watched_server(watched)->census, shard, &keys, &bytes)) {
            all += keys;
        }
    }
    return all;
}

/* It would rest 20 times as long as it was no leader. */
static void the_time_without_leadership_is_no_part_of_a_round(void **state)
{
    struct fixture f;
    struct watched watched = {.f = &f};

    (void)state;
    fixture_init(&f, 1, 3, 51);
    fixture_start(&f);
    fixture_settle(&f, fixture_join(&f, 0), 1);
    fill(&f);
    watched.leader = fixture_leader(&f, 0);
    assert_true(world_run_until(f.world, FIXTURE_WAIT_MS, rests, &watched));
    assert_true(world_run_until(f.world, FIXTURE_WAIT_MS, counts, &watched));
    world_connect(f.world, fixture_node(&f, 0, watched.leader), false);
    world_run_ms(f.world, CUT_OFF_MS);
    assert_false(leads(&watched));
    world_heal(f.world);
    make_leader(&watched);
    world_run_ms(f.world, 3000); /* to the end of a round */
    assert_int_equal(keys_counted(&watched), KEYS);
    fixture_put(&f, fixture_key(&f, 0, KEYS), "one more");
    world_run_ms(f.world, CUT_OFF_MS); /* much less than 20 times that */
    assert_true(leads(&watched));
    assert_int_equal(keys_counted(&watched), KEYS + 1);
    fixture_fini(&f);
}

/* ---- What it asks of the server ---- */

static const struct io_state_ops *real_ops;
static unsigned n_opened;

static struct io_iter *counting_open(struct io_state *io, struct io_key from)
{
    n_opened++;
    return real_ops->iter_open(io, from);
}

/* A look at a shard costs something even if nothing is there: a block of each table. */
static void what_was_never_written_is_not_looked_at(void **state)
{
    struct fixture f;
    struct watched watched = {.f = &f};
    struct io_state_ops ops;
    struct io_state *io;

    (void)state;
    fixture_init(&f, 1, 3, 52);
    fixture_start(&f);
    fixture_settle(&f, fixture_join(&f, 0), 1);
    fixture_put(&f, fixture_key(&f, 3, 0), "the only one");
    watched.leader = fixture_leader(&f, 0);
    assert_true(world_run_until(f.world, FIXTURE_WAIT_MS, counts, &watched));
    assert_true(world_run_until(f.world, FIXTURE_WAIT_MS, rests, &watched));
    assert_int_equal(keys_counted(&watched), 1);
    io = group_state(watched_server(&watched)->group);
    real_ops = io->ops;
    ops = *real_ops;
    ops.iter_open = counting_open;
    io->ops = &ops;
    n_opened = 0;
    assert_true(world_run_until(f.world, FIXTURE_WAIT_MS, counts, &watched));
    assert_true(world_run_until(f.world, FIXTURE_WAIT_MS, rests, &watched));
    assert_int_equal(n_opened, 1);
    io->ops = real_ops;
    fixture_fini(&f);
}

/* With large values a step may hold the loop up for long: it is not at once followed by another. */
static void a_step_that_comes_late_is_followed_by_a_rest(void **state)
{
    struct fixture f;
    struct watched watched = {.f = &f};

    (void)state;
    fixture_init(&f, 1, 3, 53);
    fixture_start(&f);
    fixture_settle(&f, fixture_join(&f, 0), 1);
    fill(&f);
    watched.leader = fixture_leader(&f, 0);
    assert_true(world_run_until(f.world, FIXTURE_WAIT_MS, rests, &watched));
    assert_true(world_run_until(f.world, FIXTURE_WAIT_MS, counts, &watched));
    world_run_ms(f.world, STEP_MS); /* a step was made */
    world_pause(f.world, fixture_node(&f, 0, watched.leader), true);
    world_run_ms(f.world, 100);
    world_pause(f.world, fixture_node(&f, 0, watched.leader), false);
    world_run_ms(f.world, 1);
    assert_true(leads(&watched));
    assert_true(next_step_ms(&watched) > 1000);
    assert_true(world_run_until(f.world, FIXTURE_WAIT_MS, counts, &watched));
    world_run_ms(f.world, 10000); /* and it does go on */
    assert_int_equal(keys_counted(&watched), KEYS);
    fixture_fini(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_time_without_leadership_is_no_part_of_a_round),
        cmocka_unit_test(what_was_never_written_is_not_looked_at),
        cmocka_unit_test(a_step_that_comes_late_is_followed_by_a_rest),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
