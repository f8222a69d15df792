/* Sharing a server's room: a flood on one connection leaves room for the others, and what was held
 * is given back exactly. */
#include "client/serve_share.h"

#include "raft/util/rng.h"
#include "tests/cmocka.h"

#define PLENTY (1ull << 40)

static uint32_t take_all(struct serve_share *share, uint64_t conn, size_t bytes)
{
    uint32_t taken = 0;

    while (serve_share_take(share, conn, bytes)) {
        taken++;
        assert_true(taken <= share->max_requests);
    }
    return taken;
}

static void give_all(struct serve_share *share, uint64_t conn, size_t bytes, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        serve_share_give_back(share, conn, bytes);
    }
}

static void one_connection_alone_gets_half(void **state)
{
    struct serve_share share;
    uint32_t n;

    (void)state;
    serve_share_init(&share, 1000, PLENTY);
    n = take_all(&share, 1, 10);
    assert_int_equal(n, 500);
    assert_int_equal(share.requests, 500);
    give_all(&share, 1, 10, n);
    assert_int_equal(take_all(&share, 1, 10), 500);
    give_all(&share, 1, 10, 500);
    serve_share_fini(&share);
}

static void a_flood_on_many_leaves_room_for_another(void **state)
{
    struct serve_share share;
    uint32_t taken[10];

    (void)state;
    serve_share_init(&share, 1000, PLENTY);
    for (uint64_t conn = 0; conn < 9; conn++) {
        taken[conn] = take_all(&share, conn + 1, 10);
    }
    /* However often the floods come again, the late one gets in. */
    for (uint64_t conn = 0; conn < 9; conn++) {
        taken[conn] += take_all(&share, conn + 1, 10);
    }
    assert_true(serve_share_take(&share, 99, 10));
    serve_share_give_back(&share, 99, 10);
    for (uint64_t conn = 0; conn < 9; conn++) {
        give_all(&share, conn + 1, 10, taken[conn]);
    }
    serve_share_fini(&share);
}

static void bytes_are_shared_like_requests(void **state)
{
    struct serve_share share;

    (void)state;
    serve_share_init(&share, 1000, 100 << 20);
    assert_int_equal(take_all(&share, 1, 10 << 20), 5);
    assert_int_equal(take_all(&share, 2, 10 << 20), 3);
    give_all(&share, 1, 10 << 20, 5);
    give_all(&share, 2, 10 << 20, 3);
    /* One that holds nothing gets one in, however large, while anything is free. */
    assert_true(serve_share_take(&share, 3, 200 << 20));
    assert_false(serve_share_take(&share, 4, 1));
    serve_share_give_back(&share, 3, 200 << 20);
    serve_share_fini(&share);
}

static void nothing_is_lost_or_found_by_any_order(void **state)
{
    struct serve_share share;
    struct rng rng;
    uint32_t held[8] = {0};

    (void)state;
    rng_init(&rng, 7);
    serve_share_init(&share, 64, 64000);
    for (int step = 0; step < 100000; step++) {
        uint64_t conn = rng_below(&rng, 8);
        uint32_t sum = 0;

        if (rng_below(&rng, 2) == 0) {
            held[conn] += serve_share_take(&share, conn + 1, 100);
        } else if (held[conn] > 0) {
            serve_share_give_back(&share, conn + 1, 100);
            held[conn]--;
        }
        for (size_t i = 0; i < 8; i++) {
            sum += held[i];
        }
        assert_int_equal(share.requests, sum);
        assert_int_equal(share.bytes, 100 * sum);
    }
    for (uint64_t conn = 0; conn < 8; conn++) {
        give_all(&share, conn + 1, 100, held[conn]);
    }
    serve_share_fini(&share);
}

/* A connection that asks one thing after the other is remembered, not made and forgotten each
 * time; when it closes it is forgotten, at once or with its last request. */
static void a_connection_is_remembered_until_it_closes(void **state)
{
    struct serve_share share;
    const struct serve_share_holder *holder;

    (void)state;
    serve_share_init(&share, 10, PLENTY);
    assert_true(serve_share_take(&share, 7, 10));
    holder = share.holders;
    for (int i = 0; i < 5; i++) {
        serve_share_give_back(&share, 7, 10);
        assert_ptr_equal(share.holders, holder);
        assert_true(serve_share_take(&share, 7, 10));
    }
    serve_share_close(&share, 7);
    assert_ptr_equal(share.holders, holder);
    serve_share_give_back(&share, 7, 10);
    assert_null(share.holders);
    assert_true(serve_share_take(&share, 8, 10));
    serve_share_give_back(&share, 8, 10);
    serve_share_close(&share, 8);
    assert_null(share.holders);
    serve_share_close(&share, 9);                  /* it never asked anything */
    assert_true(serve_share_take(&share, 10, 10)); /* still there at the end */
    serve_share_give_back(&share, 10, 10);
    serve_share_fini(&share);
    assert_null(share.holders);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_connection_is_remembered_until_it_closes),
        cmocka_unit_test(one_connection_alone_gets_half),
        cmocka_unit_test(a_flood_on_many_leaves_room_for_another),
        cmocka_unit_test(bytes_are_shared_like_requests),
        cmocka_unit_test(nothing_is_lost_or_found_by_any_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
