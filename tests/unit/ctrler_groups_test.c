/* Unit tests of what the controller knows of the groups beyond their shards: that they left and may
 * still hold some, who they are (incarnations), what they confirmed; and of its state on disk. */
#include <stdio.h>

#include "raft/util/mem.h"
#include "raft/util/rng.h"
#include "tests/unit/ctrler_story.h"

/* Everything that two groups of the cluster own is theirs for good: all moves are confirmed. */
static void confirm_all(struct ctrler_machine *machine, uint64_t incarnation)
{
    for (shard_id s = 0; s < latest(machine)->n_shards; s++) {
        uint32_t gid = latest(machine)->shards[s];

        if (gid != 0 && gid != latest(machine)->from[s]) {
            assert_ok(ctrler_machine_confirm(machine, gid, incarnation, s, latest(machine)->num));
        }
    }
}

/* ---- Groups that leave and come back ---- */

static void a_group_that_left_stays_listed_while_it_may_hold_shards(void **state)
{
    struct ctrler_machine *machine = *state;

    ctrler_machine_join(machine, GIDS(1, 2));
    confirm_all(machine, 7);
    ctrler_machine_leave_one(machine, 1);
    assert_false(group(machine, 1)->member);
    assert_int_equal(group(machine, 1)->joined_at, 1);
    assert_refused(ctrler_machine_move(machine, 0, 1), ST_NO_GROUP, CTRLER_REASON_NOT_MEMBER);
    /* Nobody has confirmed its shards: it stays, whatever else happens. */
    ctrler_machine_move(machine, 0, 2);
    ctrler_machine_join_one(machine, 3, 0);
    ctrler_machine_leave_one(machine, 3);
    assert_non_null(group(machine, 1));
    /* Now group 2 has them all: the next configuration forgets the others. */
    for (shard_id s = 0; s < SHARDS; s++) {
        assert_ok(ctrler_machine_confirm(machine, 2, 7, s, latest(machine)->num));
    }
    ctrler_machine_join_one(machine, 4, 0);
    assert_null(group(machine, 1));
    assert_null(group(machine, 3));
}

/* X -> nobody -> Y: X keeps the shards, frozen, and the next owner finds it in `from`. */
static void shards_on_nobody_are_kept_by_the_last_owner(void **state)
{
    struct ctrler_machine *machine = *state;

    ctrler_machine_join_one(machine, 1, 7);
    assert_int_equal(latest(machine)->from[0], 0); /* nobody ever had it: created empty */
    confirm_all(machine, 7);
    ctrler_machine_leave_one(machine, 1);
    assert_int_equal(latest(machine)->shards[5], 0);
    assert_int_equal(latest(machine)->from[5], 1);
    ctrler_machine_join_one(machine, 2, 7);
    assert_int_equal(latest(machine)->shards[5], 2);
    assert_int_equal(latest(machine)->from[5], 1);
    assert_false(group(machine, 1)->member);
}

/* With everything on nobody, a group that comes back gets its own shards: no copy is needed. */
static void shards_on_nobody_go_back_without_a_move(void **state)
{
    struct ctrler_machine *machine = *state;
    uint32_t had[SHARDS];

    for (uint32_t gid = 3; gid >= 1; gid--) {
        ctrler_machine_join_one(machine, gid, 0); /* one by one: nobody has a block of its own */
    }
    memcpy(had, latest(machine)->shards, sizeof(had));
    ctrler_machine_leave(machine, GIDS(1, 2, 3));
    ctrler_machine_join(machine, GIDS(3, 2, 1));
    assert_memory_equal(latest(machine)->shards, had, sizeof(had));
    assert_memory_equal(latest(machine)->from, had, sizeof(had));
}

static void a_group_that_may_hold_shards_comes_back_as_itself_only(void **state)
{
    struct ctrler_machine *machine = *state;

    ctrler_machine_join_one(machine, 1, 7);
    confirm_all(machine, 7);
    ctrler_machine_join_one(machine, 2, 8);
    ctrler_machine_leave_one(machine, 1);
    assert_refused(ctrler_machine_join_one(machine, 1, 9), ST_CONFLICT, CTRLER_REASON_INCARNATION);
    /* Without showing one it is taken for itself, and must prove it at the first contact. */
    assert_ok(ctrler_machine_join_one(machine, 1, 0));
    assert_int_equal(group(machine, 1)->incarnation, 7);
    assert_int_equal(group(machine, 1)->joined_at, 4);
    assert_refused(ctrler_machine_bind(machine, 1, 9), ST_CONFLICT, CTRLER_REASON_INCARNATION);
    assert_ok(ctrler_machine_bind(machine, 1, 7));
}

static void a_group_that_holds_nothing_may_come_back_with_fresh_disks(void **state)
{
    struct ctrler_machine *machine = *state;

    ctrler_machine_join_one(machine, 1, 7);
    ctrler_machine_join_one(machine, 2, 8);
    confirm_all(machine, 8);
    for (shard_id s = 0; s < SHARDS; s++) {
        if (latest(machine)->shards[s] == 1) {
            ctrler_machine_confirm(machine, 1, 7, s, 1);
        }
    }
    ctrler_machine_leave_one(machine, 1);
    confirm_all(machine, 8);
    assert_non_null(group(machine, 1)); /* `from` still names it */
    assert_ok(ctrler_machine_join_one(machine, 1, 9));
    assert_int_equal(group(machine, 1)->incarnation, 9);
}

static void the_urls_of_a_group_that_left_are_taken_while_it_holds_shards(void **state)
{
    struct ctrler_machine *machine = *state;

    ctrler_machine_join(machine, GIDS(1, 2));
    ctrler_machine_leave_one(machine, 1);
    assert_refused(join_like(machine, 5, 1), ST_CONFLICT, CTRLER_REASON_SHARED_URL);
    confirm_all(machine, 7);
    assert_ok(join_like(machine, 5, 1));
}

/* ---- Incarnations ---- */

static void the_first_incarnation_shown_is_the_groups_for_good(void **state)
{
    struct ctrler_machine *machine = *state;
    struct shard_config old;

    ctrler_machine_join_one(machine, 1, 0);
    ctrler_machine_join_one(machine, 2, 0);
    assert_int_equal(ctrler_sm_identify(machine->sm, 1, 7), CTRLER_IDENTITY_NEW);
    assert_ok(ctrler_machine_bind(machine, 1, 7));
    assert_ok(ctrler_machine_bind(machine, 1, 7));
    assert_refused(ctrler_machine_bind(machine, 1, 8), ST_CONFLICT, CTRLER_REASON_INCARNATION);
    assert_refused(ctrler_machine_bind(machine, 1, 0), ST_INVALID, CTRLER_REASON_NO_INCARNATION);
    assert_refused(ctrler_machine_bind(machine, 3, 7), ST_NO_GROUP, CTRLER_REASON_NOT_KNOWN);
    assert_int_equal(ctrler_machine_restart(machine), ST_OK);
    assert_int_equal(ctrler_sm_identify(machine->sm, 1, 7), CTRLER_IDENTITY_KNOWN);
    assert_int_equal(ctrler_sm_identify(machine->sm, 1, 8), CTRLER_IDENTITY_OTHER);
    assert_int_equal(ctrler_sm_identify(machine->sm, 3, 8), CTRLER_IDENTITY_STRANGER);
    /* Binding makes no configuration, and all that have the group show it. */
    assert_int_equal(latest(machine)->num, 2);
    assert_int_equal(ctrler_sm_config(machine->sm, 1, &old), ST_OK);
    assert_int_equal(shard_config_find(&old, 1)->incarnation, 7);
    shard_config_fini(&old);
}

/* ---- Confirmations ---- */

static void assert_owner(const struct ctrler_machine *machine, shard_id shard, uint32_t gid,
                         config_num epoch)
{
    uint32_t owner;
    config_num since;

    ctrler_sm_owner(machine->sm, shard, &owner, &since);
    assert_int_equal(owner, gid);
    assert_int_equal(since, epoch);
}

static void confirmations_are_recorded_once_and_only_go_forward(void **state)
{
    struct ctrler_machine *machine = *state;
    uint64_t sum;

    ctrler_machine_join_one(machine, 1, 7);
    ctrler_machine_join_one(machine, 2, 8);
    ctrler_machine_move(machine, 0, 2);
    ctrler_machine_move(machine, 0, 1);
    assert_owner(machine, 0, 0, 0);
    assert_ok(ctrler_machine_confirm(machine, 1, 7, 0, 1));
    assert_owner(machine, 0, 1, 1);
    sum = mem_state_sum(machine->state, NULL, 0);
    assert_ok(ctrler_machine_confirm(machine, 1, 7, 0, 1));
    assert_true(mem_state_sum(machine->state, NULL, 0) == sum);
    assert_ok(ctrler_machine_confirm(machine, 1, 7, 0, latest(machine)->num));
    assert_owner(machine, 0, 1, latest(machine)->num);
    /* A late word of group 2, which had it in between: overtaken, no harm. */
    assert_ok(ctrler_machine_confirm(machine, 2, 8, 0, 3));
    assert_owner(machine, 0, 1, latest(machine)->num);
    assert_int_equal(ctrler_machine_restart(machine), ST_OK);
    assert_owner(machine, 0, 1, latest(machine)->num);
}

static void impossible_confirmations_are_refused_whole(void **state)
{
    struct refusal r;
    struct ctrler_machine *m = &r.machine;
    struct proto_confirm confirms[2];
    struct ctrler_command command = {
        .kind = CTRLER_CONFIRM, .gid = 10, .incarnation = 7, .n = 2, .confirms = confirms};
    shard_id of_10 = 0, of_20 = 0;

    (void)state;
    refusal_begin(&r);
    while (latest(m)->shards[of_10] != 10) {
        of_10++;
    }
    while (latest(m)->shards[of_20] != 20) {
        of_20++;
    }
    confirms[0] = (struct proto_confirm){of_10, 1};
    confirms[1] = (struct proto_confirm){SHARDS, 1};
    refusal_check(&r, ctrler_machine_apply(m, &command), ST_INVALID, CTRLER_REASON_BAD_SHARD);
    confirms[1] = (struct proto_confirm){of_20, 2}; /* it is group 20's since 2 */
    refusal_check(&r, ctrler_machine_apply(m, &command), ST_CONFLICT, CTRLER_REASON_NEVER_OWNER);
    confirms[1] = (struct proto_confirm){of_10, 3}; /* a configuration that is to come */
    refusal_check(&r, ctrler_machine_apply(m, &command), ST_CONFLICT, CTRLER_REASON_NEVER_OWNER);
    refusal_check(&r, ctrler_machine_confirm(m, 10, 6, of_10, 1), ST_CONFLICT,
                  CTRLER_REASON_INCARNATION);
    refusal_check(&r, ctrler_machine_confirm(m, 30, 6, of_10, 1), ST_NO_GROUP,
                  CTRLER_REASON_NOT_KNOWN);
    confirms[1] = (struct proto_confirm){of_10, 1}; /* named twice is fine */
    assert_ok(ctrler_machine_apply(m, &command));
    assert_owner(m, of_10, 10, 1);
    ctrler_machine_fini(m);
}

/* ---- Restore ---- */

/* Keys and values of the controller's records, collected before any of them is changed. */
struct record {
    uint8_t kind;
    struct buf key, value;
};

static size_t collect(struct io_state *io, struct record *records, size_t max)
{
    size_t n = 0;

    for (uint8_t kind = 1; kind <= 5; kind++) {
        struct io_iter *iter = io->ops->iter_open(io, (struct io_key){.kind = kind});
        struct slice key, value;

        while (n < max && io->ops->iter_next(iter, &key, &value)) {
            records[n] = (struct record){.kind = kind};
            buf_put_slice(&records[n].key, key);
            buf_put_slice(&records[n++].value, value);
        }
        io->ops->iter_close(iter);
    }
    return n;
}

/* Damage gives a status, never a crash; and most of it is noticed. */
static void damaged_state_is_refused_or_harmless(void **state)
{
    struct ctrler_machine machine;
    struct record records[400];
    struct rng rng;
    struct io_state *io;
    size_t n;
    int refused = 0;

    (void)state;
    rng_init(&rng, 99);
    ctrler_machine_init(&machine, SHARDS);
    for (uint32_t gid = 1; gid <= 70; gid++) {
        ctrler_machine_join_one(&machine, gid, gid % 2);
        ctrler_machine_bind(&machine, gid, 5);
    }
    io = mem_state_io(machine.state);
    n = collect(io, records, 400);
    assert_in_range(n, 100, 399);
    for (int round = 0; round < 1000; round++) {
        const struct record *record = &records[rng_below(&rng, n)];
        struct io_key key = {.kind = record->kind, .key = buf_slice(&record->key)};
        struct buf damaged = {0};
        enum status status;

        buf_put_slice(&damaged, buf_slice(&record->value));
        if (round % 2 == 0) {
            damaged.data[rng_below(&rng, damaged.len)] ^= (uint8_t)(1u << rng_below(&rng, 8));
        } else {
            damaged.len = rng_below(&rng, damaged.len);
        }
        io->ops->put(io, key, buf_slice(&damaged));
        status = ctrler_machine_restart(&machine);
        assert_true(status == ST_OK || status == ST_CORRUPT || status == ST_VERSION);
        refused += status != ST_OK;
        for (config_num num = 0; status == ST_OK && num <= latest(&machine)->num; num += 9) {
            struct slice bytes;

            ctrler_sm_config_bytes(machine.sm, num, &bytes);
        }
        io->ops->put(io, key, buf_slice(&record->value));
        buf_fini(&damaged);
    }
    assert_true(refused > 100);
    assert_int_equal(ctrler_machine_restart(&machine), ST_OK);
    for (size_t i = 0; i < n; i++) {
        buf_fini(&records[i].key);
        buf_fini(&records[i].value);
    }
    ctrler_machine_fini(&machine);
}

static void a_failing_read_is_reported(void **state)
{
    struct ctrler_machine *machine = *state;

    ctrler_machine_join_one(machine, 1, 0);
    mem_state_fail(machine->state, MEM_STATE_FAIL_GET, ST_IO, 1);
    assert_int_equal(ctrler_machine_restart(machine), ST_IO);
    assert_int_equal(ctrler_machine_restart(machine), ST_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        STORY(a_group_that_left_stays_listed_while_it_may_hold_shards),
        STORY(shards_on_nobody_are_kept_by_the_last_owner),
        STORY(shards_on_nobody_go_back_without_a_move),
        STORY(a_group_that_may_hold_shards_comes_back_as_itself_only),
        STORY(a_group_that_holds_nothing_may_come_back_with_fresh_disks),
        STORY(the_urls_of_a_group_that_left_are_taken_while_it_holds_shards),
        STORY(the_first_incarnation_shown_is_the_groups_for_good),
        STORY(confirmations_are_recorded_once_and_only_go_forward),
        cmocka_unit_test(impossible_confirmations_are_refused_whole),
        cmocka_unit_test(damaged_state_is_refused_or_harmless),
        STORY(a_failing_read_is_reported),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
