/* Unit tests of client/shard_config: the shard of a key, and configurations as bytes. */
#include "client/shard_config.h"
#include "raft/util/mem.h"
#include "raft/util/rng.h"
#include "tests/cmocka.h"

static uint32_t slot(const char *key)
{
    return shard_slot_of_key(slice_text(key));
}

static void slots_are_those_that_redis_publishes(void **state)
{
    (void)state;
    assert_int_equal(slot("123456789"), 0x31c3); /* CRC16/XMODEM's check value, below 16384 */
    assert_int_equal(slot("foo"), 12182);
    assert_int_equal(slot("bar"), 5061);
    assert_int_equal(slot(""), 0);
}

static void keys_with_the_same_tag_lie_in_the_same_slot(void **state)
{
    (void)state;
    assert_int_equal(slot("{user1000}.following"), slot("user1000"));
    assert_int_equal(slot("{user1000}.following"), slot("{user1000}.followers"));
    assert_int_equal(slot("foo{bar}{zap}"), slot("bar"));
    assert_int_equal(slot("foo{{bar}}zap"), slot("{bar"));
}

static void an_empty_or_open_tag_counts_for_nothing(void **state)
{
    struct slice whole = slice_text("foo{}{bar}");

    (void)state;
    assert_int_not_equal(slot("foo{}{bar}"), slot("bar"));
    assert_int_equal(shard_slot_of_key(whole), slot("foo{}{bar}"));
    assert_int_not_equal(slot("{}a"), slot("{}b"));
    assert_int_not_equal(slot("{a"), slot("{b"));
    assert_int_not_equal(slot("}a{"), slot("}b{"));
}

static void shards_divide_the_slots_evenly(void **state)
{
    (void)state;
    assert_int_equal(shard_of_key(slice_text("foo"), 16384), 12182);
    assert_int_equal(shard_of_key(slice_text("foo"), 256), 12182 / 64);
    assert_int_equal(shard_of_key(slice_text("foo"), 16), 12182 / 1024);
    assert_true(shard_count_is_valid(16) && shard_count_is_valid(16384));
    assert_false(shard_count_is_valid(8));
    assert_false(shard_count_is_valid(0));
    assert_false(shard_count_is_valid(48));
    assert_false(shard_count_is_valid(32768));
}

/* Three groups, of which 7 has left but still holds shards. */
static void make_config(struct shard_config *config)
{
    static const struct config_group groups[3] = {
        {.gid = 2, .member = true, .joined_at = 1, .incarnation = 77},
        {.gid = 7, .member = false, .joined_at = 2, .incarnation = 78},
        {.gid = 9, .member = true, .joined_at = 5}};

    shard_config_init(config, 64);
    config->num = 6;
    config->moves_paused = true;
    memcpy(config->cluster_id, "0123456789abcdef", 16);
    config->groups = mem_copy(groups, sizeof(groups));
    config->n_groups = 3;
    assert_null(spec_parse("1=tcp://a:1,2=tcp://a:2", &config->groups[0].replicas));
    assert_null(spec_parse("1=tcp://b:1", &config->groups[1].replicas));
    assert_null(spec_parse("4=ipc:///c", &config->groups[2].replicas));
    for (uint32_t shard = 0; shard < 64; shard++) {
        config->shards[shard] = shard < 20 ? 2 : shard < 60 ? 9 : 0;
        config->from[shard] = shard < 10 ? 2 : shard < 30 ? 7 : 0;
    }
}

static void assert_same_config(const struct shard_config *a, const struct shard_config *b)
{
    assert_true(a->num == b->num);
    assert_int_equal(a->moves_paused, b->moves_paused);
    assert_memory_equal(a->cluster_id, b->cluster_id, 16);
    assert_int_equal(a->n_shards, b->n_shards);
    assert_memory_equal(a->shards, b->shards, a->n_shards * sizeof(a->shards[0]));
    assert_memory_equal(a->from, b->from, a->n_shards * sizeof(a->from[0]));
    assert_int_equal(a->n_groups, b->n_groups);
    for (size_t i = 0; i < a->n_groups; i++) {
        assert_int_equal(a->groups[i].gid, b->groups[i].gid);
        assert_int_equal(a->groups[i].member, b->groups[i].member);
        assert_true(a->groups[i].joined_at == b->groups[i].joined_at);
        assert_true(a->groups[i].incarnation == b->groups[i].incarnation);
        assert_true(spec_fingerprint(&a->groups[i].replicas) ==
                    spec_fingerprint(&b->groups[i].replicas));
    }
}

static bool decode(struct slice bytes, struct shard_config *config)
{
    struct reader reader = reader_of(bytes);

    return shard_config_decode(&reader, config) && reader_done(&reader);
}

static void a_configuration_survives_bytes_and_copies(void **state)
{
    struct shard_config config, again, copy;
    struct buf bytes = {0};

    (void)state;
    make_config(&config);
    shard_config_encode(&config, &bytes);
    assert_true(decode(buf_slice(&bytes), &again));
    assert_same_config(&config, &again);
    shard_config_copy(&copy, &again);
    shard_config_fini(&again);
    assert_same_config(&config, &copy);
    assert_int_equal(shard_config_find(&copy, 7)->gid, 7);
    assert_null(shard_config_find(&copy, 3));
    assert_null(shard_config_find(&copy, 10));
    shard_config_fini(&copy);
    shard_config_fini(&config);
    buf_fini(&bytes);
}

static void the_first_configuration_is_small_on_the_wire(void **state)
{
    struct shard_config config, again;
    struct buf bytes = {0};

    (void)state;
    shard_config_init(&config, SHARD_MAX_COUNT);
    shard_config_encode(&config, &bytes);
    assert_in_range(bytes.len, 1, 64);
    assert_true(decode(buf_slice(&bytes), &again));
    assert_same_config(&config, &again);
    shard_config_fini(&config);
    shard_config_fini(&again);
    buf_fini(&bytes);
}

static void refused(const struct shard_config *config)
{
    struct shard_config again;
    struct buf bytes = {0};

    shard_config_encode(config, &bytes);
    assert_false(decode(buf_slice(&bytes), &again));
    assert_null(again.shards);
    assert_null(again.groups);
    buf_fini(&bytes);
}

static void a_configuration_that_contradicts_itself_is_refused(void **state)
{
    struct shard_config config;

    (void)state;
    make_config(&config);
    config.shards[5] = 7; /* has left: can't be the owner to be */
    refused(&config);
    config.shards[5] = 8; /* nobody knows it */
    refused(&config);
    config.shards[5] = 2;
    config.from[5] = 8;
    refused(&config);
    config.from[5] = 2;
    config.groups[2].gid = 0x80000000u;
    refused(&config);
    config.groups[2].gid = 9;
    config.groups[2].replicas.n = 0;
    refused(&config);
    shard_config_fini(&config);
}

/* Disks and servers from before the flag: the same bytes under format 1, without the last one. */
static void a_configuration_from_before_pauses_is_not_paused(void **state)
{
    struct shard_config config, again;
    struct buf bytes = {0};

    (void)state;
    make_config(&config);
    config.moves_paused = false;
    shard_config_encode(&config, &bytes);
    assert_int_equal(bytes.data[0], 2);
    bytes.data[0] = 1;
    assert_true(decode(slice_of(bytes.data, bytes.len - 1), &again));
    assert_same_config(&config, &again);
    shard_config_fini(&again);
    shard_config_fini(&config);
    buf_fini(&bytes);
}

static void a_pause_is_there_or_not_and_nothing_else(void **state)
{
    struct shard_config config, again;
    struct buf bytes = {0};

    (void)state;
    make_config(&config);
    shard_config_encode(&config, &bytes);
    assert_int_equal(bytes.data[bytes.len - 1], 1);
    for (int value = 2; value < 256; value++) {
        bytes.data[bytes.len - 1] = (uint8_t)value;
        assert_false(decode(buf_slice(&bytes), &again));
    }
    shard_config_fini(&config);
    buf_fini(&bytes);
}

static void cut_and_flipped_bytes_are_refused_or_mean_themselves(void **state)
{
    struct shard_config config, again;
    struct buf bytes = {0};
    struct rng rng;

    (void)state;
    make_config(&config);
    shard_config_encode(&config, &bytes);
    for (size_t len = 0; len < bytes.len; len++) {
        uint8_t *exact = mem_copy(bytes.data, len); /* so that ASan sees a read past the end */
        assert_false(decode(slice_of(exact, len), &again));
        mem_free(exact);
    }
    rng_init(&rng, 11);
    for (int i = 0; i < 20000; i++) {
        size_t bit = rng_below(&rng, bytes.len * 8);

        bytes.data[bit / 8] ^= (uint8_t)(1u << (bit % 8));
        if (decode(buf_slice(&bytes), &again)) {
            struct buf re = {0};

            shard_config_encode(&again, &re);
            assert_true(slice_equal(buf_slice(&re), buf_slice(&bytes)));
            buf_fini(&re);
            shard_config_fini(&again);
        }
        if (rng_below(&rng, 4) > 0) {
            bytes.data[bit / 8] ^= (uint8_t)(1u << (bit % 8));
        }
    }
    shard_config_fini(&config);
    buf_fini(&bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(slots_are_those_that_redis_publishes),
        cmocka_unit_test(keys_with_the_same_tag_lie_in_the_same_slot),
        cmocka_unit_test(an_empty_or_open_tag_counts_for_nothing),
        cmocka_unit_test(shards_divide_the_slots_evenly),
        cmocka_unit_test(a_configuration_survives_bytes_and_copies),
        cmocka_unit_test(the_first_configuration_is_small_on_the_wire),
        cmocka_unit_test(a_configuration_that_contradicts_itself_is_refused),
        cmocka_unit_test(a_configuration_from_before_pauses_is_not_paused),
        cmocka_unit_test(a_pause_is_there_or_not_and_nothing_else),
        cmocka_unit_test(cut_and_flipped_bytes_are_refused_or_mean_themselves),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
