/* Configurations seen before, by name: a 128-bit hash of the mandatory operations placed and of the
 * state; an open table of entries, chained where names are equal. Each entry holds the optional
 * operations placed, as bits: what failed with a subset of them fails with all of them, since every
 * continuation of the latter is one of the former.
 *
 * Two configurations with equal hashes (never seen; 2^-90 for a billion) could make a good history
 * look bad, never a bad one good. */
#include "raft/util/assert.h"
#include "raft/util/mem.h"
#include "tests/sim/linear_internal.h"

struct entry {
    uint64_t name[2];
    uint32_t older; /* entry of the same name, or NONE */
};

struct linear_memory {
    struct entry *entries;
    uint64_t *bits; /* words of each entry */
    size_t n, capacity, bits_capacity;
    uint32_t *slots; /* the newest entry of a name, or NONE */
    size_t n_slots;
    size_t words;
};

static void make_slots(struct linear_memory *memory, size_t n_slots)
{
    memory->n_slots = n_slots;
    memory->slots = mem_alloc(n_slots * sizeof(*memory->slots));
    memset(memory->slots, 0xff, n_slots * sizeof(*memory->slots));
}

struct linear_memory *linear_memory_create(uint32_t n_optional)
{
    struct linear_memory *memory = mem_zalloc(sizeof(*memory));

    memory->words = (n_optional + 63) / 64;
    make_slots(memory, 1024);
    return memory;
}

void linear_memory_destroy(struct linear_memory **memory)
{
    mem_free((*memory)->entries);
    mem_free((*memory)->bits);
    mem_free((*memory)->slots);
    mem_free(*memory);
    *memory = NULL;
}

static uint32_t *slot_of(const struct linear_memory *memory, const uint64_t name[2])
{
    size_t at = name[0] & (memory->n_slots - 1);

    for (;; at = (at + 1) & (memory->n_slots - 1)) {
        uint32_t number = memory->slots[at];
        if (number == LINEAR_NONE || (memory->entries[number].name[0] == name[0] &&
                                      memory->entries[number].name[1] == name[1])) {
            return &memory->slots[at];
        }
    }
}

static void grow_slots(struct linear_memory *memory)
{
    uint32_t *old = memory->slots;
    size_t n_old = memory->n_slots;

    make_slots(memory, n_old * 2);
    for (size_t i = 0; i < n_old; i++) {
        if (old[i] != LINEAR_NONE) {
            *slot_of(memory, memory->entries[old[i]].name) = old[i];
        }
    }
    mem_free(old);
}

bool linear_memory_has(const struct linear_memory *memory, const uint64_t name[2],
                       const uint64_t *optional)
{
    uint32_t number = *slot_of(memory, name);

    for (; number != LINEAR_NONE; number = memory->entries[number].older) {
        const uint64_t *seen = &memory->bits[number * memory->words];
        bool subset = true;
        for (size_t i = 0; i < memory->words && subset; i++) {
            subset = (seen[i] & ~optional[i]) == 0;
        }
        if (subset) {
            return true;
        }
    }
    return false;
}

void linear_memory_add(struct linear_memory *memory, const uint64_t name[2],
                       const uint64_t *optional)
{
    uint32_t *slot;
    struct entry *entry;

    if ((memory->n + 1) * 2 > memory->n_slots) {
        grow_slots(memory);
    }
    slot = slot_of(memory, name);
    ASSERT(memory->n < LINEAR_NONE - 1);
    MEM_GROW(memory->entries, memory->capacity, memory->n + 1);
    MEM_GROW(memory->bits, memory->bits_capacity, (memory->n + 1) * memory->words);
    entry = &memory->entries[memory->n];
    *entry = (struct entry){{name[0], name[1]}, *slot};
    if (memory->words > 0) {
        memcpy(&memory->bits[memory->n * memory->words], optional,
               memory->words * sizeof(*optional));
    }
    *slot = (uint32_t)memory->n++;
}

uint64_t linear_memory_count(const struct linear_memory *memory)
{
    return memory->n;
}
