/* Unit tests of client/serve: changes of the replicas, as callers ask for them. */
#include "tests/unit/serve_probe.h"

static enum status change(struct probe *probe, enum proto_replica_change kind, uint64_t index,
                          uint32_t id)
{
    struct proto_request request = {.op = PROTO_REPLICA, .request_id = 1};

    request.replica.kind = kind;
    request.replica.gid = 5;
    request.replica.id = id;
    request.replica.configuration_index = index;
    if (kind == PROTO_REPLICA_ADD) {
        request.replica.url = slice_text("tcp://node9:7000");
    }
    send_request(probe, &request);
    return last_answer(probe).status;
}

static uint64_t told_index(struct probe *probe)
{
    struct proto_request request = {.op = PROTO_REPLICAS, .request_id = 1};

    send_request(probe, &request);
    assert_int_equal(last_answer(probe).status, ST_OK);
    return last_answer(probe).replicas.configuration_index;
}

static void a_dry_run_of_a_change_of_the_replicas_changes_nothing(void **state)
{
    struct probe probe;
    struct proto_request add = {
        .op = PROTO_REPLICA,
        .request_id = 1,
        .dry_run = true,
        .replica = {
            .kind = PROTO_REPLICA_ADD, .gid = 5, .id = 2, .url = slice_text("tcp://somewhere:1")}};
    raft_index last;

    (void)state;
    probe_begin(&probe);
    add.replica.configuration_index = told_index(&probe);
    last = raft_last_index(group_raft(probe.group));
    send_request(&probe, &add);
    assert_int_equal(last_answer(&probe).status, ST_OK);
    assert_int_equal(raft_last_index(group_raft(probe.group)), last);
    /* What is wrong with it is told all the same. */
    add.replica.gid = 6;
    send_request(&probe, &add);
    assert_int_equal(last_answer(&probe).status, ST_INVALID);
    add.replica.gid = 5;
    add.dry_run = false;
    send_request(&probe, &add);
    assert_true(raft_last_index(group_raft(probe.group)) > last);
    assert_int_equal(probe.n_tickets, 0);
    probe_end(&probe);
}

/* The first try of a change makes it, others find it made; late ones do nothing. */
static void a_change_may_come_again_but_not_late(void **state)
{
    struct probe probe;
    uint64_t first, second;

    (void)state;
    probe_begin(&probe);
    first = told_index(&probe);
    assert_int_equal(change(&probe, PROTO_REPLICA_ADD, first, 9), ST_OK);
    assert_int_equal(change(&probe, PROTO_REPLICA_ADD, first, 9), ST_OK);
    second = told_index(&probe);
    assert_true(second > first);
    assert_int_equal(change(&probe, PROTO_REPLICA_REMOVE, first, 9), ST_CONFLICT);
    assert_int_equal(change(&probe, PROTO_REPLICA_REMOVE, second, 9), ST_OK);
    assert_int_equal(change(&probe, PROTO_REPLICA_REMOVE, second, 9), ST_OK);
    assert_int_equal(change(&probe, PROTO_REPLICA_ADD, first, 9), ST_CONFLICT);
    assert_int_equal(change(&probe, PROTO_REPLICA_ADD, told_index(&probe), 9), ST_OK);
    assert_int_equal(change(&probe, PROTO_REPLICA_REMOVE, second, 9), ST_CONFLICT);
    probe_end(&probe);
}

/* A leader of the past does not know yet what the caller saw. */
static void nothing_holds_already_in_an_older_configuration(void **state)
{
    struct probe probe;
    uint64_t index;

    (void)state;
    probe_begin(&probe);
    index = told_index(&probe);
    assert_int_equal(change(&probe, PROTO_REPLICA_REMOVE, index + 3, 9), ST_CONFLICT);
    assert_int_equal(change(&probe, PROTO_REPLICA_REMOVE, index, 9), ST_OK);
    assert_int_equal(told_index(&probe), index);
    probe_end(&probe);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_dry_run_of_a_change_of_the_replicas_changes_nothing),
        cmocka_unit_test(a_change_may_come_again_but_not_late),
        cmocka_unit_test(nothing_holds_already_in_an_older_configuration),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
