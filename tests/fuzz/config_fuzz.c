/* Shard configurations, the records of the controller's history, and names of replicas (SPECs and
 * URLs). The first byte says which.
 *
 * A configuration that is taken fulfils what its header promises and encodes to the same bytes; a
 * difference that applies gives a configuration that encodes, and the difference between the two
 * gives it again. */
#include "client/shard_config.h"
#include "shardctrler/config_history.h"
#include "tests/fuzz/fuzz.h"
#include "tests/sim/mem_state.h"

static void check_config(const struct shard_config *config)
{
    ASSERT(shard_count_is_valid(config->n_shards));
    ASSERT(config->n_groups <= CONFIG_MAX_LISTED);
    for (size_t i = 0; i < config->n_groups; i++) {
        ASSERT(config->groups[i].gid >= 1 && config->groups[i].gid <= CONFIG_MAX_GID);
        ASSERT(i == 0 || config->groups[i - 1].gid < config->groups[i].gid);
        ASSERT(config->groups[i].replicas.n >= 1);
    }
    for (uint32_t s = 0; s < config->n_shards; s++) {
        const struct config_group *owner = shard_config_find(config, config->shards[s]);

        ASSERT(config->shards[s] == 0 || (owner != NULL && owner->member));
        ASSERT(config->from[s] == 0 || shard_config_find(config, config->from[s]) != NULL);
    }
}

static void fuzz_config(struct slice bytes)
{
    struct reader reader = reader_of(bytes);
    struct shard_config config, copy;
    struct buf again = {0};
    struct slice taken;

    if (!shard_config_decode(&reader, &config)) {
        ASSERT(config.shards == NULL && config.from == NULL && config.groups == NULL);
        return;
    }
    taken = slice_of(bytes.data, bytes.len - reader_left(&reader));
    check_config(&config);
    shard_config_copy(&copy, &config);
    shard_config_encode(&copy, &again);
    if (bytes.data[0] == 1) { /* of the older format, which has no last byte */
        ASSERT(again.len == taken.len + 1 && again.data[0] == 2 && again.data[taken.len] == 0);
        ASSERT(memcmp(again.data + 1, taken.data + 1, taken.len - 1) == 0);
    } else {
        ASSERT(slice_equal(taken, buf_slice(&again)));
    }
    shard_config_fini(&copy);
    shard_config_fini(&config);
    buf_fini(&again);
}

static struct spec spec_of(uint32_t gid)
{
    struct spec spec = {.n = 1, .replicas = {{.id = 1, .url = "tcp://h:1"}}};

    spec.replicas[0].url[6] = (char)('a' + gid % 26);
    return spec;
}

/* Number 7 of a cluster with two members and one group that has left. */
static void make_config(struct shard_config *config)
{
    shard_config_init(config, 16);
    config->num = 7;
    config->n_groups = 3;
    config->groups = mem_zalloc(3 * sizeof(config->groups[0]));
    for (uint32_t i = 0; i < 3; i++) {
        config->groups[i] = (struct config_group){.gid = i + 1,
                                                  .member = i < 2,
                                                  .joined_at = i + 1,
                                                  .incarnation = 100 + i,
                                                  .replicas = spec_of(i)};
    }
    for (uint32_t s = 0; s < 16; s++) {
        config->shards[s] = 1 + s % 2;
        config->from[s] = s < 4 ? 3 : config->shards[s];
    }
}

static void fuzz_difference(struct slice bytes)
{
    struct reader reader = reader_of(bytes);
    struct shard_config previous, config;
    struct buf difference = {0}, encoded = {0}, again = {0};

    make_config(&previous);
    make_config(&config);
    if (config_difference_apply(&reader, &config)) {
        struct reader second;

        ASSERT(config.num == previous.num + 1);
        shard_config_encode(&config, &encoded);
        config_difference_encode(&previous, &config, &difference);
        second = reader_of(buf_slice(&difference));
        shard_config_fini(&config);
        shard_config_copy(&config, &previous);
        ASSERT(config_difference_apply(&second, &config));
        shard_config_encode(&config, &again);
        ASSERT(slice_equal(buf_slice(&encoded), buf_slice(&again)));
    }
    shard_config_fini(&previous);
    shard_config_fini(&config);
    buf_fini(&difference);
    buf_fini(&encoded);
    buf_fini(&again);
}

/* Records under the numbers 0, 1, …; each may be asked for. */
static void fuzz_history(struct slice bytes)
{
    struct script script = script_of(bytes.data, bytes.len);
    struct mem_state *state = mem_state_create(0);
    struct config_history history = {.state = mem_state_io(state), .range = 0, .kind = 1};
    uint8_t key[8];
    uint32_t n = 0;

    for (; n < 8 && !script_is_over(&script); n++) {
        size_t len = fuzz_u16(&script);

        set_u64_be(key, n);
        history.state->ops->put(history.state, (struct io_key){0, 1, slice_of(key, 8)},
                                fuzz_take(&script, len));
    }
    for (uint32_t i = 0; i <= n; i++) {
        struct shard_config config;

        if (config_history_get(&history, i, &config) == ST_OK) {
            struct buf again = {0};

            ASSERT(config.num == i);
            shard_config_encode(&config, &again);
            buf_fini(&again);
            shard_config_fini(&config);
        }
    }
    mem_state_destroy(&state);
}

static void check_spec(const struct spec *spec)
{
    ASSERT(spec->n >= 1 && spec->n <= SPEC_MAX_REPLICAS);
    for (size_t i = 0; i < spec->n; i++) {
        ASSERT(spec->replicas[i].id >= 1 && spec->replicas[i].id <= SPEC_MAX_ID);
        ASSERT(i == 0 || spec->replicas[i - 1].id < spec->replicas[i].id);
        ASSERT(spec_check_url(spec->replicas[i].url) == NULL);
        ASSERT(spec_find(spec, spec->replicas[i].id) == &spec->replicas[i]);
    }
    ASSERT(spec_fingerprint(spec) != 0);
}

/* Text: what parses is the same after printing and parsing it again. */
static void fuzz_spec_text(struct slice bytes)
{
    char *text = mem_zalloc(bytes.len + 1);
    struct spec spec, again;
    struct buf printed = {0};

    memcpy(text, bytes.data, bytes.len);
    if (spec_parse(text, &spec) == NULL) {
        check_spec(&spec);
        spec_format(&spec, &printed);
        buf_put_u8(&printed, 0);
        ASSERT(spec_parse((const char *)printed.data, &again) == NULL);
        ASSERT(spec_equal(&spec, &again));
    }
    if (spec_parse_urls(text, &spec) == NULL) {
        check_spec(&spec);
        ASSERT(spec.replicas[spec.n - 1].id == spec.n);
    }
    mem_free(text);
    buf_fini(&printed);
}

static void fuzz_spec_bytes(struct slice bytes)
{
    struct reader reader = reader_of(bytes);
    struct spec spec;
    struct buf again = {0};

    if (spec_decode(&reader, &spec)) {
        check_spec(&spec);
        spec_encode(&spec, &again);
        ASSERT(
            slice_equal(slice_of(bytes.data, bytes.len - reader_left(&reader)), buf_slice(&again)));
        buf_fini(&again);
    }
}

/* The shard of a key is that of its {tag}, for any bytes. */
static void fuzz_shard_of_key(struct slice bytes)
{
    uint32_t slot = shard_slot_of_key(bytes);
    shard_id shard = shard_of_key(bytes, 256);

    ASSERT(slot < SHARD_SLOTS && shard == slot / (SHARD_SLOTS / 256));
    ASSERT(shard_of_key(bytes, SHARD_MIN_COUNT) == shard / (256 / SHARD_MIN_COUNT));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static void (*const targets[])(struct slice bytes) = {fuzz_config,     fuzz_difference,
                                                          fuzz_history,    fuzz_spec_text,
                                                          fuzz_spec_bytes, fuzz_shard_of_key};
    struct script script = script_of(data, size);
    uint32_t which = fuzz_below(&script, sizeof(targets) / sizeof(targets[0]));

    targets[which](fuzz_rest(&script));
    return 0;
}
