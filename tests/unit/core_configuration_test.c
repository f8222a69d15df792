/* Configurations (thesis 4): majorities plain and joint, the format, and which configuration is in
 * force as the log grows, is cut back and is compacted. */
#include <stdio.h>

#include "raft/core/quorum.h"
#include "tests/sim/core_harness.h"

/* "1V 2V 3L": id and flags (V voter, O old voter, L learner), in order. */
static struct raft_configuration configuration_of_text(const char *text)
{
    struct raft_configuration configuration = {0};

    for (; *text != '\0'; text++) {
        struct raft_server *server = &configuration.servers[configuration.n];

        if (*text >= '0' && *text <= '9') {
            server->id = (raft_id)(*text - '0');
            snprintf(server->address, sizeof(server->address), "tcp://node%u:1", server->id);
        } else if (*text == ' ') {
            configuration.n++;
        } else {
            server->flags |= *text == 'V'   ? RAFT_VOTER
                             : *text == 'O' ? RAFT_VOTER_OLD
                                            : RAFT_LEARNER;
        }
    }
    configuration.n++;
    return configuration;
}

static struct id_set set_of(const char *ids)
{
    struct id_set set = {0};

    for (; *ids != '\0'; ids++) {
        id_set_add(&set, (raft_id)(*ids - '0'));
    }
    return set;
}

static void votes_are_won_and_lost_by_majorities(void **state)
{
    const struct {
        const char *configuration, *granted, *rejected;
        enum quorum_result result;
    } table[] = {
        {"1V", "", "", QUORUM_PENDING},
        {"1V", "1", "", QUORUM_WON},
        {"1V", "", "1", QUORUM_LOST},
        {"1V 2V", "1", "", QUORUM_PENDING},
        {"1V 2V", "1", "2", QUORUM_LOST},
        {"1V 2V", "12", "", QUORUM_WON},
        {"1V 2V 3V", "1", "2", QUORUM_PENDING},
        {"1V 2V 3V", "13", "2", QUORUM_WON},
        {"1V 2V 3V", "1", "23", QUORUM_LOST},
        {"1V 2V 3V 4V", "12", "", QUORUM_PENDING},
        {"1V 2V 3V 4V", "12", "34", QUORUM_LOST},
        {"1V 2V 3V 4V", "124", "3", QUORUM_WON},
        {"1V 2V 3V 4V 5V", "125", "34", QUORUM_WON},
        {"1V 2V 3V 4V 5V", "12", "345", QUORUM_LOST},
        {"1V 2V 3V", "145678", "", QUORUM_PENDING}, /* strangers don't count */
        {"1V 2L 3L", "1", "23", QUORUM_WON},        /* nor do learners */
        {"1V 2V 3L", "13", "", QUORUM_PENDING},
        /* Joint: both majorities (thesis 4.3). Old 1 2 3, new 3 4 5. */
        {"1O 2O 3VO 4V 5V", "123", "", QUORUM_PENDING},
        {"1O 2O 3VO 4V 5V", "345", "", QUORUM_PENDING},
        {"1O 2O 3VO 4V 5V", "134", "", QUORUM_WON},
        {"1O 2O 3VO 4V 5V", "1245", "3", QUORUM_WON},
        {"1O 2O 3VO 4V 5V", "345", "12", QUORUM_LOST},
        {"1O 2O 3VO 4V 5V", "123", "45", QUORUM_LOST},
        {"1O 2O 3VO 4V 5V", "", "12", QUORUM_LOST},
        {"1VO 2VO 3OL", "12", "", QUORUM_WON}, /* 3 becomes a learner */
        {"1VO 2VO 3OL", "13", "2", QUORUM_LOST},
        {"1VO 2VO 3OL", "23", "", QUORUM_PENDING},
        {"1O 2V", "1", "", QUORUM_PENDING},
        {"1O 2V", "12", "", QUORUM_WON},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        struct raft_configuration configuration = configuration_of_text(table[i].configuration);
        struct id_set granted = set_of(table[i].granted);
        struct id_set rejected = set_of(table[i].rejected);

        assert_int_equal(quorum_vote(&configuration, &granted, &rejected), table[i].result);
    }
}

static void values_are_reached_by_majorities(void **state)
{
    const struct {
        const char *configuration;
        uint64_t values[RAFT_MAX_SERVERS];
        uint64_t reached;
    } table[] = {
        {"1V", {7}, 7},
        {"1V 2V", {7, 5}, 5},
        {"1V 2V 3V", {7, 5, 0}, 5},
        {"1V 2V 3V", {0, 0, 9}, 0},
        {"1V 2V 3V", {3, 3, 3}, 3},
        {"1V 2V 3V 4V", {4, 3, 2, 1}, 2},
        {"1V 2V 3V 4V 5V", {1, 5, 3, 4, 2}, 3},
        {"1V 2L 3L", {1, 100, 100}, 1},
        {"1V 2V 3L", {9, 4, 100}, 4},
        {"1O 2O 3VO 4V 5V", {9, 9, 9, 0, 0}, 0},
        {"1O 2O 3VO 4V 5V", {9, 9, 9, 5, 0}, 5},
        {"1O 2O 3VO 4V 5V", {0, 0, 9, 9, 9}, 0},
        {"1O 2O 3VO 4V 5V", {6, 7, 0, 4, 5}, 4},
        {"1O 2V", {3, 8}, 3},
        {"1L", {9}, 0},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        struct raft_configuration configuration = configuration_of_text(table[i].configuration);

        assert_int_equal(quorum_reached_value(&configuration, table[i].values), table[i].reached);
    }
}

/* Against the definition: the value that a set of voters reached is one that a vote would win. */
static void values_and_votes_agree(void **state)
{
    struct rng rng;

    (void)state;
    rng_init(&rng, 1);
    for (int round = 0; round < 5000; round++) {
        struct raft_configuration configuration = {.n = rng_between(&rng, 1, RAFT_MAX_SERVERS)};
        uint64_t values[RAFT_MAX_SERVERS];
        uint64_t reached;

        for (size_t i = 0; i < configuration.n; i++) {
            configuration.servers[i].id = (raft_id)(i * 14 + 1);
            configuration.servers[i].flags = (uint8_t)rng_between(&rng, 1, 4);
            values[i] = rng_below(&rng, 6);
        }
        configuration.servers[0].flags |= RAFT_VOTER;
        configuration.servers[0].flags &= (uint8_t)~RAFT_LEARNER;
        reached = quorum_reached_value(&configuration, values);
        for (uint64_t value = 1; value < 7; value++) {
            struct id_set at_least = {0}, none = {0};

            for (size_t i = 0; i < configuration.n; i++) {
                if (values[i] >= value) {
                    id_set_add(&at_least, configuration.servers[i].id);
                }
            }
            assert_int_equal(quorum_vote(&configuration, &at_least, &none) == QUORUM_WON,
                             value <= reached);
        }
    }
}

/* ---- The format ---- */

static void a_configuration_survives_its_bytes(void **state)
{
    struct raft_configuration configuration = configuration_of_text("1VO 2V 3L 4O 9OL");
    struct raft_configuration decoded;
    struct buf bytes = {0};

    (void)state;
    configuration.servers[2].incarnation = 0x1122334455667788;
    raft_configuration_encode(&configuration, &bytes);
    assert_true(raft_configuration_decode(buf_slice(&bytes), &decoded));
    assert_memory_equal(&configuration, &decoded, sizeof(decoded));
    assert_int_equal(raft_configuration_find(&decoded, 3)->incarnation, 0x1122334455667788);
    assert_null(raft_configuration_find(&decoded, 5));
    for (size_t len = 0; len < bytes.len; len++) {
        assert_false(raft_configuration_decode(slice_of(bytes.data, len), &decoded));
    }
    buf_put_u8(&bytes, 0); /* and nothing may follow */
    assert_false(raft_configuration_decode(buf_slice(&bytes), &decoded));
    buf_fini(&bytes);
}

static void what_makes_no_sense_is_refused(void **state)
{
    const struct {
        size_t at;
        uint8_t byte;
    } table[] = {
        {0, 2},                         /* version */
        {1, 3},                         /* more servers than there are */
        {1, 255},                       /* or than there may be */
        {2, 0},                         /* id 0 */
        {2, 2},                         /* the same id twice */
        {2, 7},                         /* not in order */
        {3, 0},                         /* no flag */
        {3, 8},                         /* an unknown flag */
        {3, RAFT_VOTER | RAFT_LEARNER}, /* both */
        {12, 255},                      /* an address that is too long */
        {16, 0},                        /* an address with a zero byte */
    };
    struct raft_configuration configuration = configuration_of_text("1V 2V");
    struct raft_configuration decoded;

    (void)state;
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        struct buf bytes = {0};

        raft_configuration_encode(&configuration, &bytes);
        assert_true(raft_configuration_decode(buf_slice(&bytes), &decoded));
        bytes.data[table[i].at] = table[i].byte;
        assert_false(raft_configuration_decode(buf_slice(&bytes), &decoded));
        buf_fini(&bytes);
    }
    configuration.servers[0].flags = configuration.servers[1].flags = RAFT_LEARNER;
    {
        struct buf bytes = {0};

        raft_configuration_encode(&configuration, &bytes); /* nobody votes */
        assert_false(raft_configuration_decode(buf_slice(&bytes), &decoded));
        buf_fini(&bytes);
    }
}

static void random_bit_flips_never_break_the_decoder(void **state)
{
    struct raft_configuration configuration = configuration_of_text("1VO 2V 3L 4O 9OL");
    struct raft_configuration decoded;
    struct rng rng;

    (void)state;
    rng_init(&rng, 2);
    for (int round = 0; round < 20000; round++) {
        struct buf bytes = {0};

        raft_configuration_encode(&configuration, &bytes);
        for (uint64_t flips = rng_between(&rng, 1, 4); flips > 0; flips--) {
            bytes.data[rng_below(&rng, bytes.len)] ^= (uint8_t)(1u << rng_below(&rng, 8));
        }
        if (raft_configuration_decode(buf_slice(&bytes), &decoded)) {
            struct buf again = {0};

            raft_configuration_encode(&decoded, &again);
            assert_true(slice_equal(buf_slice(&bytes), buf_slice(&again)));
            buf_fini(&again);
        }
        buf_fini(&bytes);
    }
}

static void a_spec_makes_voters(void **state)
{
    struct spec spec;
    struct raft_configuration configuration;

    (void)state;
    assert_null(spec_parse("3=tcp://c:1,1=tcp://a:1", &spec));
    raft_configuration_from_spec(&spec, &configuration);
    assert_int_equal(configuration.n, 2);
    assert_int_equal(configuration.servers[0].id, 1);
    assert_string_equal(configuration.servers[1].address, "tcp://c:1");
    assert_int_equal(configuration.servers[1].flags, RAFT_VOTER);
}

/* ---- Adoption ---- */

static void inject_configuration(struct cores *cores, raft_term term, raft_index prev,
                                 raft_term prev_term, const char *text, bool broken)
{
    struct raft_configuration configuration = configuration_of_text(text);
    struct raft_message message = {.type = RAFT_MESSAGE_APPEND, .from = 2, .to = 1, .term = term};
    struct raft_entry entry = {.index = prev + 1, .term = term, .type = RAFT_ENTRY_CONFIGURATION};
    struct buf bytes = {0};

    raft_configuration_encode(&configuration, &bytes);
    entry.data = blob_create(slice_of(bytes.data, bytes.len - broken));
    message.append.prev_log_index = prev;
    message.append.prev_log_term = prev_term;
    message.append.entries = &entry;
    message.append.n_entries = 1;
    cores->static_members = false;
    cores_inject(cores, &message);
    cores_deliver_one(cores, RAFT_MESSAGE_APPEND, 2, 1);
    blob_unref(&entry.data);
    buf_fini(&bytes);
}

static void a_configuration_counts_as_soon_as_it_is_in_the_log(void **state)
{
    struct cores *cores = cores_create(3, 3);
    struct raft *raft = core_of(cores, 1);
    struct raft_configuration at;

    (void)state;
    inject_configuration(cores, 2, 1, 1, "1V 2V 3V 4L", false);
    assert_int_equal(raft_latest_configuration(raft)->n, 4);
    assert_int_equal(raft_commit_index(raft), 0);
    inject_configuration(cores, 2, 2, 2, "1VO 2VO 3O 4V", false);
    assert_int_equal(raft_latest_configuration(raft)->servers[3].flags, RAFT_VOTER);
    raft_configuration_at(raft, 2, &at);
    assert_int_equal(at.servers[3].flags, RAFT_LEARNER);
    raft_configuration_at(raft, 1, &at);
    assert_int_equal(at.n, 3);
    /* The leader of term 3 does not have entry 3: back to the one before. */
    inject_configuration(cores, 3, 2, 2, "1V 2V 3V 4L 5L", false);
    assert_int_equal(raft_latest_configuration(raft)->n, 5);
    inject_configuration(cores, 4, 1, 1, "1V 2V", false);
    assert_int_equal(raft_latest_configuration(raft)->n, 2);
    assert_int_equal(raft_last_index(raft), 2);
    cores_destroy(cores);
}

static void a_broken_configuration_is_not_appended(void **state)
{
    struct cores *cores = cores_create(3, 4);

    (void)state;
    inject_configuration(cores, 2, 1, 1, "1V 2V 3V 4L", true);
    assert_int_equal(raft_last_index(core_of(cores, 1)), 1);
    cores_destroy(cores);
}

static void the_configuration_survives_compaction_and_restart(void **state)
{
    struct cores *cores = cores_create(3, 5);
    struct raft_configuration at;

    (void)state;
    cores_elect(cores, 1);
    for (int i = 0; i < 5; i++) {
        assert_int_equal(cores_propose(cores, 1), ST_OK);
        cores_settle(cores);
    }
    cores_checkpoint(cores, 2);
    assert_int_equal(raft_first_index(core_of(cores, 2)), 8);
    raft_configuration_at(core_of(cores, 2), 7, &at);
    assert_memory_equal(&at, &cores->bootstrap, sizeof(at));
    cores_crash(cores, 2);
    cores_start(cores, 2);
    assert_memory_equal(raft_latest_configuration(core_of(cores, 2)), &cores->bootstrap,
                        sizeof(at));
    cores_run(cores, 500);
    cores_assert_converged(cores);
    cores_destroy(cores);
}

/* Starts a group with that configuration. */
static struct cores *cores_with(const char *text, size_t n)
{
    struct cores *cores = cores_create_empty(n, 6);

    cores->bootstrap = configuration_of_text(text);
    cores->static_members = false;
    cores_start_all(cores);
    return cores;
}

static void a_learner_receives_the_log_but_has_no_say(void **state)
{
    struct cores *cores = cores_with("1V 2V 3L", 3);

    (void)state;
    cores_cut(cores, 3, 1); /* unheard, it is not promoted */
    cores_elect(cores, 1);
    assert_int_equal(cores_count(cores, RAFT_MESSAGE_REQUEST_VOTE, 1, 3), 0);
    cores_heal(cores);
    cores_isolate(cores, 2);
    /* It has everything, and it and the leader are no majority. */
    assert_int_equal(cores_propose(cores, 1), ST_OK);
    assert_int_equal(cores_transfer(cores, 1, 2), ST_OK); /* nobody is promoted meanwhile */
    cores_run(cores, 200);
    assert_int_equal(cores_progress(cores, 1, 3).match_index, 3);
    assert_int_equal(raft_last_index(core_of(cores, 3)), 3);
    assert_int_equal(raft_commit_index(core_of(cores, 1)), 2);
    /* Nor does it stand for election, or keep a leader in office. */
    cores_run(cores, 3000);
    assert_int_equal(raft_role(core_of(cores, 1)), RAFT_PRE_CANDIDATE);
    assert_int_equal(raft_role(core_of(cores, 3)), RAFT_FOLLOWER);
    assert_int_equal(raft_current_term(core_of(cores, 3)), 2);
    cores_destroy(cores);
}

static void a_joint_group_needs_both_majorities(void **state)
{
    struct cores *cores = cores_with("1VO 2O 3O 4V 5V", 5);

    (void)state;
    cores_timeout(cores, 1);
    for (int bound = 0; raft_role(core_of(cores, 1)) != RAFT_LEADER; bound++) {
        assert_true(bound < 100);
        for (raft_id id = 1; id <= 5; id++) {
            cores_persist(cores, id);
        }
        cores_deliver(cores, 0, false);
    }
    /* 1 and 5 are a majority of the new ones, 1 and 3 would be one of the old. */
    cores_isolate(cores, 2);
    cores_isolate(cores, 4);
    cores_isolate(cores, 3);
    cores_settle(cores);
    assert_int_equal(raft_last_index(core_of(cores, 5)), 2);
    assert_int_equal(raft_commit_index(core_of(cores, 1)), 0);
    cores_heal(cores);
    cores_isolate(cores, 2);
    cores_isolate(cores, 4);
    cores_run(cores, 120);
    assert_true(raft_commit_index(core_of(cores, 1)) >= 2);
    /* Then the leader goes over to the new ones alone. */
    assert_false(raft_configuration_is_joint(raft_latest_configuration(core_of(cores, 1))));
    cores_heal(cores);
    cores_run(cores, 500);
    assert_int_equal(raft_latest_configuration(core_of(cores, 4))->n, 3);
    cores_isolate(cores, 4);
    cores_isolate(cores, 5);
    cores_run(cores, 1000);
    assert_true(raft_role(core_of(cores, 1)) != RAFT_LEADER);
    cores_destroy(cores);
}

static void a_replica_without_a_configuration_waits(void **state)
{
    struct cores *cores = cores_create_empty(1, 7);

    (void)state;
    cores->bootstrap.n = 0;
    cores_start(cores, 1);
    assert_int_equal(raft_last_index(core_of(cores, 1)), 0);
    cores_run(cores, 3000);
    assert_int_equal(raft_role(core_of(cores, 1)), RAFT_FOLLOWER);
    assert_int_equal(raft_current_term(core_of(cores, 1)), 0);
    cores_destroy(cores);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(votes_are_won_and_lost_by_majorities),
        cmocka_unit_test(values_are_reached_by_majorities),
        cmocka_unit_test(values_and_votes_agree),
        cmocka_unit_test(a_configuration_survives_its_bytes),
        cmocka_unit_test(what_makes_no_sense_is_refused),
        cmocka_unit_test(random_bit_flips_never_break_the_decoder),
        cmocka_unit_test(a_spec_makes_voters),
        cmocka_unit_test(a_configuration_counts_as_soon_as_it_is_in_the_log),
        cmocka_unit_test(a_broken_configuration_is_not_appended),
        cmocka_unit_test(the_configuration_survives_compaction_and_restart),
        cmocka_unit_test(a_learner_receives_the_log_but_has_no_say),
        cmocka_unit_test(a_joint_group_needs_both_majorities),
        cmocka_unit_test(a_replica_without_a_configuration_waits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
