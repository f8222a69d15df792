/* The public Raft suite, part C (persistence), on the simulated world, with its numbers. */
#include "tests/cmocka.h"

#include "raft/util/assert.h"
#include "raft/util/mem.h"
#include "tests/sim/raft_cluster.h"

static struct raft_cluster *cluster_of(const char *name, size_t n, bool unreliable)
{
    struct raft_cluster_options options = {.n = n, .unreliable = unreliable, .seed = 2000 + n};
    return raft_cluster_create(name, &options);
}

static void restart(struct raft_cluster *c, size_t i)
{
    raft_cluster_crash(c, i);
    raft_cluster_revive(c, i);
}

static void revive_all(struct raft_cluster *c)
{
    for (size_t i = 0; i < raft_cluster_size(c); i++) {
        raft_cluster_revive(c, i);
    }
}

static uint64_t draw(struct raft_cluster *c, uint64_t bound)
{
    return rng_below(world_rng(raft_cluster_world(c)), bound);
}

static void persist1(void **state)
{
    struct raft_cluster *c = cluster_of("Persist1", 3, false);
    size_t leader, victim;

    (void)state;
    raft_cluster_agree_u64(c, 11, 3, true);
    for (size_t i = 0; i < 3; i++) {
        raft_cluster_crash(c, i);
    }
    revive_all(c);
    raft_cluster_agree_u64(c, 12, 3, true);

    leader = raft_cluster_check_leader(c);
    restart(c, leader);
    raft_cluster_agree_u64(c, 13, 3, true);

    leader = raft_cluster_check_leader(c);
    raft_cluster_crash(c, leader);
    raft_cluster_agree_u64(c, 14, 2, true);
    raft_cluster_revive(c, leader);
    raft_cluster_wait(c, 4, 3, UINT64_MAX);

    victim = (raft_cluster_check_leader(c) + 1) % 3;
    raft_cluster_crash(c, victim);
    raft_cluster_agree_u64(c, 15, 2, true);
    raft_cluster_revive(c, victim);
    raft_cluster_agree_u64(c, 16, 3, true);
    raft_cluster_destroy(&c);
}

static void persist2(void **state)
{
    struct raft_cluster *c = cluster_of("Persist2", 5, false);
    uint64_t command = 1;

    (void)state;
    for (int round = 0; round < 5; round++) {
        size_t leader;

        raft_cluster_agree_u64(c, 10 + command++, 5, true);
        leader = raft_cluster_check_leader(c);
        raft_cluster_crash(c, (leader + 1) % 5);
        raft_cluster_crash(c, (leader + 2) % 5);
        raft_cluster_agree_u64(c, 10 + command++, 3, true);
        raft_cluster_crash(c, leader);
        raft_cluster_crash(c, (leader + 3) % 5);
        raft_cluster_crash(c, (leader + 4) % 5);
        raft_cluster_revive(c, (leader + 1) % 5);
        raft_cluster_revive(c, (leader + 2) % 5);
        raft_cluster_sleep(c, 1000);
        raft_cluster_revive(c, (leader + 3) % 5);
        raft_cluster_agree_u64(c, 10 + command++, 3, true);
        raft_cluster_revive(c, (leader + 4) % 5);
        raft_cluster_revive(c, leader);
    }
    raft_cluster_agree_u64(c, 1000, 5, true);
    raft_cluster_destroy(&c);
}

static void persist3(void **state)
{
    struct raft_cluster *c = cluster_of("Persist3", 3, false);
    size_t leader;

    (void)state;
    raft_cluster_agree_u64(c, 101, 3, true);
    leader = raft_cluster_check_leader(c);
    raft_cluster_disconnect(c, (leader + 2) % 3);
    raft_cluster_agree_u64(c, 102, 2, true);
    raft_cluster_crash(c, leader);
    raft_cluster_crash(c, (leader + 1) % 3);
    raft_cluster_connect(c, (leader + 2) % 3);
    raft_cluster_revive(c, leader);
    raft_cluster_agree_u64(c, 103, 2, true);
    raft_cluster_revive(c, (leader + 1) % 3);
    raft_cluster_agree_u64(c, 104, 3, true);
    raft_cluster_destroy(&c);
}

/* The suite's pauses: usually short, sometimes about an election timeout. */
static void random_pause(struct raft_cluster *c)
{
    raft_cluster_sleep(c, draw(c, 1000) < 100 ? draw(c, 500) : draw(c, 13));
}

static void figure8(void **state)
{
    struct raft_cluster *c = cluster_of("Figure8", 5, false);
    size_t up = 5;

    (void)state;
    raft_cluster_agree_u64(c, 1, 1, true);
    for (int i = 0; i < 1000; i++) {
        size_t leader = NO_LEADER;
        for (size_t s = 0; s < 5; s++) {
            uint64_t number;
            raft_term term;
            if (raft_cluster_is_running(c, s) &&
                raft_cluster_submit_u64(c, s, draw(c, UINT64_MAX), &number, &term)) {
                leader = s;
            }
        }
        random_pause(c);
        if (leader != NO_LEADER) {
            raft_cluster_crash(c, leader);
            up--;
        }
        if (up < 3) {
            size_t s = draw(c, 5);
            if (!raft_cluster_is_running(c, s)) {
                raft_cluster_revive(c, s);
                up++;
            }
        }
    }
    revive_all(c);
    raft_cluster_agree_u64(c, 2, 5, true);
    raft_cluster_destroy(&c);
}

static bool was_applied(struct raft_cluster *c, uint64_t command)
{
    for (uint64_t number = 1; number <= raft_cluster_last_number(c); number++) {
        struct slice applied = raft_cluster_command(c, number);
        if (applied.len == 8 && get_u64(applied.data) == command) {
            return true;
        }
    }
    return false;
}

/* One of several agreements that go on at once; all look every 20 ms, as raft_cluster_agree does.
 */
struct agreement {
    uint64_t command, number;
    uint64_t until_ms; /* submits anew then; 0: not yet submitted */
    bool ended;
};

static void agreement_step(struct raft_cluster *c, struct agreement *agreement)
{
    uint64_t now_ms = world_now_ms(raft_cluster_world(c));
    struct slice applied = raft_cluster_command(c, agreement->number);
    raft_term term;

    if (agreement->until_ms != 0 && applied.len == 8 &&
        get_u64(applied.data) == agreement->command) {
        agreement->ended = true;
    }
    for (size_t i = 0; i < 5 && !agreement->ended && now_ms >= agreement->until_ms; i++) {
        if (raft_cluster_submit_u64(c, i, agreement->command, &agreement->number, &term)) {
            agreement->until_ms = now_ms + 2000;
        }
    }
}

/* Until `serial` ended or, without one, all did. */
static void agree_all(struct raft_cluster *c, struct agreement *parallel, size_t n,
                      struct agreement *serial)
{
    uint64_t end_ms = world_now_ms(raft_cluster_world(c)) + 10000;
    bool ended = false;

    while (!ended) {
        assert_true(world_now_ms(raft_cluster_world(c)) < end_ms);
        ended = true;
        for (size_t i = 0; i < n; i++) {
            agreement_step(c, &parallel[i]);
            ended &= parallel[i].ended;
        }
        if (serial != NULL) {
            agreement_step(c, serial);
            ended = serial->ended;
        }
        if (!ended) {
            raft_cluster_sleep(c, 20);
        }
    }
}

static void unreliable_agree(void **state)
{
    struct raft_cluster *c = cluster_of("UnreliableAgree", 5, true);
    struct agreement parallel[49 * 4];
    size_t n = 0;

    (void)state;
    for (uint64_t round = 1; round < 50; round++) {
        /* Four at once, then one more, which is waited for; the four go on meanwhile. */
        struct agreement serial = {.command = round};
        for (uint64_t j = 0; j < 4; j++) {
            parallel[n++] = (struct agreement){.command = 100 * round + j};
        }
        agree_all(c, parallel, n, &serial);
    }
    raft_cluster_set_unreliable(c, false, false);
    agree_all(c, parallel, n, NULL);
    for (size_t i = 0; i < n; i++) {
        assert_true(was_applied(c, parallel[i].command));
    }
    raft_cluster_agree_u64(c, 100, 5, true);
    assert_true(raft_cluster_last_number(c) >= 49 * 5 + 1);
    raft_cluster_destroy(&c);
}

static void figure8_unreliable(void **state)
{
    struct raft_cluster *c = cluster_of("Figure8Unreliable", 5, true);
    size_t connected = 5;

    (void)state;
    raft_cluster_agree_u64(c, draw(c, 10000), 1, true);
    for (int i = 0; i < 1000; i++) {
        size_t leader = NO_LEADER;
        if (i == 200) {
            raft_cluster_set_unreliable(c, true, true);
        }
        for (size_t s = 0; s < 5; s++) {
            uint64_t number;
            raft_term term;
            if (raft_cluster_submit_u64(c, s, draw(c, 10000), &number, &term) &&
                raft_cluster_is_connected(c, s)) {
                leader = s;
            }
        }
        random_pause(c);
        if (leader != NO_LEADER && draw(c, 1000) < 500) {
            raft_cluster_disconnect(c, leader);
            connected--;
        }
        if (connected < 3) {
            size_t s = draw(c, 5);
            if (!raft_cluster_is_connected(c, s)) {
                raft_cluster_connect(c, s);
                connected++;
            }
        }
    }
    for (size_t s = 0; s < 5; s++) {
        raft_cluster_connect(c, s);
    }
    raft_cluster_agree_u64(c, 10001, 5, true);
    raft_cluster_destroy(&c);
}

/* ---- Churn ---- */

/* A client that submits without end and remembers what it saw committed. */
struct churn_client {
    uint64_t command, number; /* outstanding; command 0: none */
    size_t looks;             /* how often it looked for it in vain */
    uint64_t next_ms;         /* does nothing before */
    uint64_t *committed;
    size_t n, capacity;
};

static const uint64_t churn_pauses_ms[] = {10, 20, 50, 100, 200};

#define CHURN_LOOKS (sizeof(churn_pauses_ms) / sizeof(churn_pauses_ms[0]))

static void churn_look(struct raft_cluster *c, struct churn_client *client, uint64_t now_ms)
{
    struct slice applied = raft_cluster_command(c, client->number);

    if (applied.len == 8) { /* this one or another: it is settled */
        if (get_u64(applied.data) == client->command) {
            MEM_GROW(client->committed, client->capacity, client->n + 1);
            client->committed[client->n++] = client->command;
        }
        client->command = 0;
    } else if (client->looks == CHURN_LOOKS) {
        client->command = 0;
    } else {
        client->next_ms = now_ms + churn_pauses_ms[client->looks++];
    }
}

static void churn_submit(struct raft_cluster *c, struct churn_client *client, size_t me,
                         uint64_t now_ms)
{
    uint64_t command = draw(c, UINT64_MAX - 1) + 1;
    raft_term term;

    for (size_t i = 0; i < raft_cluster_size(c); i++) {
        if (raft_cluster_submit_u64(c, i, command, &client->number, &term)) {
            client->command = command;
            client->looks = 0;
        }
    }
    if (client->command == 0) {
        client->next_ms = now_ms + 79 + 17 * me;
    }
}

static void churn_step(struct raft_cluster *c, struct churn_client *client, size_t me)
{
    uint64_t now_ms = world_now_ms(raft_cluster_world(c));

    while (now_ms >= client->next_ms) {
        if (client->command != 0) {
            churn_look(c, client, now_ms);
        } else {
            churn_submit(c, client, me, now_ms);
        }
    }
}

static void churn_run(struct raft_cluster *c, struct churn_client *clients, uint64_t ms)
{
    uint64_t end_ms = world_now_ms(raft_cluster_world(c)) + ms;

    while (world_now_ms(raft_cluster_world(c)) < end_ms) {
        for (size_t i = 0; i < 3; i++) {
            churn_step(c, &clients[i], i);
        }
        raft_cluster_sleep(c, 1);
    }
}

static void churn_faults(struct raft_cluster *c)
{
    if (draw(c, 1000) < 200) {
        raft_cluster_disconnect(c, draw(c, 5));
    }
    if (draw(c, 1000) < 500) {
        size_t i = draw(c, 5);
        raft_cluster_revive(c, i);
    }
    if (draw(c, 1000) < 200) {
        raft_cluster_crash(c, draw(c, 5));
    }
}

static void churn(const char *name, bool unreliable)
{
    struct raft_cluster *c = cluster_of(name, 5, unreliable);
    struct churn_client clients[3] = {0};
    uint64_t last;

    for (int step = 0; step < 20; step++) {
        churn_faults(c);
        churn_run(c, clients, 700);
    }
    churn_run(c, clients, 1000);
    raft_cluster_set_unreliable(c, false, false);
    revive_all(c);
    raft_cluster_sleep(c, 1000);
    last = raft_cluster_agree_u64(c, 1, 5, true);
    assert_int_equal(raft_cluster_applied(c, last), 5);
    for (size_t i = 0; i < 3; i++) {
        assert_true(clients[i].n > 0);
        for (size_t k = 0; k < clients[i].n; k++) {
            assert_true(was_applied(c, clients[i].committed[k]));
        }
        mem_free(clients[i].committed);
    }
    raft_cluster_destroy(&c);
}

static void reliable_churn(void **state)
{
    (void)state;
    churn("ReliableChurn", false);
}

static void unreliable_churn(void **state)
{
    (void)state;
    churn("UnreliableChurn", true);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(persist1),         cmocka_unit_test(persist2),
        cmocka_unit_test(persist3),         cmocka_unit_test(figure8),
        cmocka_unit_test(unreliable_agree), cmocka_unit_test(figure8_unreliable),
        cmocka_unit_test(reliable_churn),   cmocka_unit_test(unreliable_churn),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
