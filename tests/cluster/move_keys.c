/* Keys and their contents. The value of a key in a generation follows from both: a mark, the key,
 * the generation, then bytes that don't compress; so each value read tells whether it is right, and
 * how old it is. */
#include <stdlib.h>
#include <string.h>

#include "client/shard_config.h"
#include "tests/cluster/move_load.h"

static void find_tags(struct key_table *table, uint32_t shard, uint32_t n_shards, bool inside)
{
    uint32_t found = 0;

    for (uint32_t tag = 0; found < table->n_tags; tag++) {
        char text[LOAD_MAX_KEY];
        int len = snprintf(text, sizeof(text), "{%c%u}", table->letter, (unsigned)tag);

        if ((shard_of_key(slice_of(text, (size_t)len), n_shards) == shard) == inside) {
            table->tags[found++] = tag;
        }
    }
}

void keys_init(struct key_table *table, char letter, uint32_t n_keys, size_t value_bytes,
               uint32_t n_tags, uint32_t shard, uint32_t n_shards, bool inside)
{
    *table = (struct key_table){.n_keys = n_keys,
                                .value_bytes = value_bytes,
                                .n_tags = n_tags,
                                .letter = letter,
                                .random = UINT64_C(0x9e3779b97f4a7c15) + (uint64_t)letter};
    pthread_mutex_init(&table->mutex, NULL);
    table->states = load_allocate(n_keys, sizeof(*table->states));
    table->tags = load_allocate(n_tags, sizeof(*table->tags));
    find_tags(table, shard, n_shards, inside);
}

void keys_fini(struct key_table *table)
{
    pthread_mutex_destroy(&table->mutex);
    free(table->states);
    free(table->tags);
}

size_t keys_write_key(const struct key_table *table, uint32_t key, char text[LOAD_MAX_KEY])
{
    return (size_t)snprintf(text, LOAD_MAX_KEY, "{%c%u}%09u", table->letter,
                            (unsigned)table->tags[key % table->n_tags], (unsigned)key);
}

/* ---- Values ---- */

void keys_write_value(const struct key_table *table, uint32_t key, uint32_t generation,
                      uint8_t *value)
{
    char name[LOAD_MAX_KEY], head[LOAD_MAX_KEY + 32];
    uint64_t state =
        ((uint64_t)key << 32 | generation) * UINT64_C(0xd6e8feb86659fd93) + (uint64_t)table->letter;
    size_t at;

    keys_write_key(table, key, name);
    at = (size_t)snprintf(head, sizeof(head), LOAD_MARK "%s|%u|", name, (unsigned)generation);
    memcpy(value, head, at);
    for (; at < table->value_bytes; at += sizeof(uint64_t)) {
        uint64_t word = load_draw(&state);
        size_t rest = table->value_bytes - at;

        memcpy(value + at, &word, rest < sizeof(word) ? rest : sizeof(word));
    }
}

bool keys_read_value(const struct key_table *table, uint32_t key, struct shardkv_bytes value,
                     uint32_t *generation)
{
    char name[LOAD_MAX_KEY], head[LOAD_MAX_KEY + 32];
    const char *text = value.data;
    size_t at;
    uint64_t number = 0;
    uint8_t *want;
    bool equal;

    keys_write_key(table, key, name);
    at = (size_t)snprintf(head, sizeof(head), LOAD_MARK "%s|", name);
    if (value.len != table->value_bytes || memcmp(text, head, at) != 0) {
        return false;
    }
    for (; at < value.len && text[at] >= '0' && text[at] <= '9' && number <= UINT32_MAX; at++) {
        number = number * 10 + (uint64_t)(text[at] - '0');
    }
    *generation = (uint32_t)number;
    want = load_allocate(1, table->value_bytes);
    keys_write_value(table, key, *generation, want);
    equal = memcmp(want, value.data, value.len) == 0;
    free(want);
    return equal;
}

/* ---- Operations ---- */

uint32_t keys_begin_get(struct key_table *table, uint32_t *floor)
{
    uint32_t key;

    pthread_mutex_lock(&table->mutex);
    key = (uint32_t)(load_draw(&table->random) >> 32) % table->n_keys;
    /* A write of unknown end may still take effect after a later one: then nothing is known. */
    *floor = table->states[key].first_unknown != 0 ? 0 : table->states[key].acked;
    pthread_mutex_unlock(&table->mutex);
    return key;
}

void keys_end_get(struct key_table *table, uint32_t key, uint32_t floor,
                  const struct shardkv_result *result)
{
    uint32_t generation = 0;
    bool right =
        result->code == SHARDKV_OK && keys_read_value(table, key, result->value, &generation);

    pthread_mutex_lock(&table->mutex);
    if (result->code == SHARDKV_NOT_FOUND) {
        table->missing_reads++;
    } else if (result->code == SHARDKV_OK) {
        table->wrong_reads += !right || generation > table->states[key].issued;
        table->stale_reads += right && generation < floor && table->states[key].first_unknown == 0;
    }
    pthread_mutex_unlock(&table->mutex);
}

bool keys_begin_put(struct key_table *table, uint32_t *key, uint32_t *generation)
{
    bool found = false;

    pthread_mutex_lock(&table->mutex);
    for (int tries = 0; tries < 64 && !found; tries++) {
        struct key_state *state;

        *key = (uint32_t)(load_draw(&table->random) >> 32) % table->n_keys;
        state = &table->states[*key];
        if (!state->busy) {
            state->busy = true;
            *generation = ++state->issued;
            found = true;
        }
    }
    pthread_mutex_unlock(&table->mutex);
    return found;
}

void keys_end_put(struct key_table *table, uint32_t key, uint32_t generation, enum load_end end)
{
    struct key_state *state = &table->states[key];

    pthread_mutex_lock(&table->mutex);
    state->busy = false;
    if (end == LOAD_OK) {
        state->acked = generation;
    } else if (end == LOAD_UNKNOWN) {
        state->first_unknown = state->first_unknown == 0 ? generation : state->first_unknown;
        state->last_unknown = generation;
    }
    pthread_mutex_unlock(&table->mutex);
}

bool keys_may_hold(struct key_table *table, uint32_t key, uint32_t generation)
{
    const struct key_state *state = &table->states[key];

    return generation == state->acked ||
           (state->first_unknown != 0 && generation >= state->first_unknown &&
            generation <= state->last_unknown);
}
