/* The lock tests of the public suite of 2025/26: 1 or 10 clients, 2 s, hold 10 ms, reliable and
 * unreliable, on one server. Whoever holds the lock finds the guard free, also after puts of
 * unknown end. See tests/sim/kv_load_lock.c. */
#include "tests/cmocka.h"

#include "tests/sim/kv_suite.h"

static void run(const char *name, size_t clients, bool unreliable)
{
    struct kv_cluster *c = kv_suite_cluster(name, 1, unreliable, false);
    struct kv_load_options options = {
        .work = KV_LOAD_LOCKS, .n_clients = clients, .deadline_ms = unreliable ? 100 : 0};
    struct kv_load *load = kv_load_create(c, &options);

    kv_load_run_ms(load, 2000);
    kv_load_finish(load);
    kv_load_check_and_destroy(&load);
    kv_cluster_destroy(&c);
}

static void reliable(void **state)
{
    (void)state;
    run("Lock, 1 client", 1, false);
    run("Lock, 10 clients", 10, false);
}

static void unreliable(void **state)
{
    (void)state;
    run("Lock, 1 client, unreliable", 1, true);
    run("Lock, 10 clients, unreliable", 10, true);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(reliable), cmocka_unit_test(unreliable)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
