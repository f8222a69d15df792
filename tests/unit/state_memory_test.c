/* What the state holds in memory while data arrives at full speed: with the limits that a group has
 * by default it stays far below what it stores. A child process does the storing, so that what its
 * allocator keeps is not another test's; pages of mapped tables are the page cache's and not
 * counted. */
#include <string.h>
#include <sys/wait.h>

#include "raft/rsm.h"
#include "raft/rsm/group.h"
#include "tests/unit/state_kit.h"

#define STORED (384u << 20)
#define BOUND  (192u << 20) /* what README.md of raft/rsm allows for the state, and some slack */

/* Anonymous memory of this process; 0 where it says nothing about the code (sanitizers). */
static uint64_t memory_now(void)
{
    FILE *file = fopen("/proc/self/status", "r");
    unsigned long long kib = 0;
    char line[200];

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    fclose(file);
    return 0;
#endif
    assert_non_null(file);
    while (fgets(line, sizeof(line), file) != NULL) {
        if (sscanf(line, "RssAnon: %llu kB", &kib) == 1) {
            break;
        }
    }
    fclose(file);
    return kib << 10;
}

static void end_checkpoint(struct kit *kit, bool *running, bool wait)
{
    struct kit_event *event;

    while (kit_pump(kit, 0)) {
    }
    event = wait && kit->events == NULL ? kit_wait_any(kit) : kit_take_event(kit);
    if (event != NULL) {
        assert_int_equal(event->event.checkpoint.status, ST_OK);
        kit_free_event(&event);
        *running = false;
    }
}

/* Stores as fast as a group would apply: it begins checkpoints, and waits, by the same limits.
 * Gives what memory grew by at most. */
static uint64_t store(size_t value_bytes)
{
    struct group_options limits;
    struct kit kit;
    struct rng rng;
    uint64_t before, most = 0;
    raft_index index = 0;
    uint8_t *value = mem_zalloc(value_bytes);
    bool running = false;

    group_options_default(&limits, 7, 1, 1);
    kit_init(&kit);
    state_options_default(&kit.options, kit.state, 7);
    kit.options.mail = (struct store_mail){&kit, kit_post, kit_deliver};
    kit.options.trace = &kit.trace;
    kit_open(&kit);
    rng_init(&rng, 3);
    before = memory_now();
    for (uint64_t n = 0; n < STORED / value_bytes; n++) {
        struct io_key key = {4, 1, slice_of(value, 8)};

        set_u64(value, rng_next(&rng));
        kit.io->ops->put(kit.io, key, slice_of(value, value_bytes));
        if (n % (value_bytes >= 65536 ? 1 : 64) == 0) {
            uint64_t now = memory_now();

            most = now > before && now - before > most ? now - before : most;
            end_checkpoint(&kit, &running, false);
        }
        if (!running && kit.io->ops->dirty_bytes(kit.io) >= limits.checkpoint_dirty_bytes) {
            kit_begin_checkpoint(&kit, ++index, 3, "x", (uint64_t[]){4}, 1);
            running = true;
        }
        while (kit.io->ops->dirty_bytes(kit.io) >= limits.max_dirty_bytes) {
            end_checkpoint(&kit, &running, true);
            if (!running) {
                kit_begin_checkpoint(&kit, ++index, 3, "x", (uint64_t[]){4}, 1);
                running = true;
            }
        }
    }
    kit_fini(&kit);
    mem_free(value);
    return most;
}

static void expect_bound(size_t value_bytes)
{
    int status;
    pid_t child = fork();

    assert_true(child >= 0);
    if (child == 0) {
        uint64_t most = store(value_bytes);

        fprintf(stderr, "values of %zu bytes: %llu MiB at most\n", value_bytes,
                (unsigned long long)(most >> 20));
        _exit(most <= BOUND ? 0 : 1);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static void memory_is_bounded_with_values_of_one_kib(void **state)
{
    (void)state;
    expect_bound(1024);
}

/* As the pieces of an arriving shard are applied. */
static void memory_is_bounded_with_large_values(void **state)
{
    (void)state;
    expect_bound(1u << 20);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(memory_is_bounded_with_values_of_one_kib),
        cmocka_unit_test(memory_is_bounded_with_large_values),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
