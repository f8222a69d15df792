/* What a source knows by heart of a change log: how much it may take, and what names may cost. */
#include "shardkv/noted.h"

#include <string.h>
#include <time.h>

#include "tests/cmocka.h"

#define SEED 4711u

static struct slice name_of(uint8_t *memory, uint32_t number, size_t len)
{
    memset(memory, 'n', len);
    set_u32(memory, number);
    return slice_of(memory, len);
}

static void what_is_added_is_found(void **state)
{
    struct noted *noted = noted_create(1u << 20, SEED, true);
    uint8_t memory[20];

    (void)state;
    for (uint32_t i = 0; i < 1000; i++) {
        struct noted_entry *entry = noted_add(noted, name_of(memory, i, sizeof(memory)));

        assert_int_equal(entry->number, 0);
        entry->number = i + 1;
    }
    for (uint32_t i = 0; i < 1000; i++) {
        struct slice name = name_of(memory, i, sizeof(memory));

        assert_int_equal(noted_find(noted, name)->number, i + 1);
        assert_ptr_equal(noted_add(noted, name), noted_find(noted, name));
    }
    assert_null(noted_find(noted, name_of(memory, 1000, sizeof(memory))));
    assert_null(noted_find(noted, name_of(memory, 7, sizeof(memory) - 1)));
    assert_true(noted_is_complete(noted));
    noted_destroy(&noted);
}

/* Keys may be long: the bound is on what they take, not on how many they are. */
static void it_takes_no_more_than_its_bytes(void **state)
{
    const size_t lens[] = {5, 100, 4096};
    uint8_t memory[4096];

    (void)state;
    for (size_t i = 0; i < sizeof(lens) / sizeof(lens[0]); i++) {
        struct noted *noted = noted_create(1u << 20, SEED, true);
        uint32_t n = 0;

        while (noted_add(noted, name_of(memory, n, lens[i])) != NULL) {
            assert_true(noted_is_complete(noted));
            n++;
            assert_true(n * (lens[i] + sizeof(struct noted_entry)) <= 1u << 20);
        }
        assert_true(n * (lens[i] + 200) > 1u << 20);
        assert_false(noted_is_complete(noted));
        assert_non_null(noted_add(noted, name_of(memory, 0, lens[i]))); /* is there already */
        assert_false(noted_is_complete(noted));
        noted_destroy(&noted);
    }
}

/* ---- Names that a client chose ---- */

/* One of the three lines of a third of the mixing in uthash's hash function, undone: x -= y;
 * x -= z; x ^= term. */
static uint32_t undo(uint32_t x, uint32_t y, uint32_t z, uint32_t term)
{
    return (x ^ term) + z + y;
}

static void unmix(uint32_t state[3])
{
    const unsigned shifts[3][3] = {{3, 10, 15}, {12, 16, 5}, {13, 8, 13}};
    uint32_t a = state[0], b = state[1], c = state[2];

    for (int i = 0; i < 3; i++) {
        c = undo(c, a, b, b >> shifts[i][2]);
        b = undo(b, c, a, a << shifts[i][1]);
        a = undo(a, b, c, c >> shifts[i][0]);
    }
    state[0] = a;
    state[1] = b;
    state[2] = c;
}

/* Names of 12 bytes that all have the same hash there: from its end backwards to the name. */
static struct slice colliding_name(uint8_t memory[12], uint32_t number)
{
    uint32_t state[3] = {number, 0, 4711};

    unmix(state);
    state[2] -= 12; /* the length */
    unmix(state);
    set_u32(memory, state[0] - 0x9e3779b9u);
    set_u32(memory + 4, state[1] - 0x9e3779b9u);
    set_u32(memory + 8, state[2] - 0xfeedbeefu);
    return slice_of(memory, 12);
}

/* A hash that is known beforehand would make each of them look at all the others. */
static void nobody_can_choose_names_that_are_slow(void **state)
{
    struct noted *noted = noted_create(64u << 20, SEED, true);
    clock_t begin = clock(); /* of this process, whatever else runs */
    uint8_t memory[12];

    (void)state;
    for (uint32_t i = 0; i < 60000; i++) {
        assert_non_null(noted_add(noted, colliding_name(memory, i)));
        if (i % 1000 == 0) {
            assert_true(clock() - begin < 2 * CLOCKS_PER_SEC);
        }
    }
    noted_destroy(&noted);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_added_is_found),
        cmocka_unit_test(it_takes_no_more_than_its_bytes),
        cmocka_unit_test(nobody_can_choose_names_that_are_slow),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
