/* What the fuzz targets share: taking an input apart, and saying what must hold.
 *
 * A target is a program of one function, LLVMFuzzerTestOneInput: libFuzzer's with clang, or that of
 * replay.c, which runs the inputs of the corpora. An ASSERT that fails, in a target or in the code
 * under test, is a finding; so is a report of a sanitizer, and a leak.
 *
 * Targets that need more than bytes (a sequence of events, a record with a right checksum) read
 * their input as a script: fuzz_u8 and the others take values from its front, and give zeros when
 * it is used up, so every input is a script.
 */
#ifndef TESTS_FUZZ_FUZZ_H
#define TESTS_FUZZ_FUZZ_H

#include "raft/util/assert.h"
#include "raft/util/bytes.h"
#include "raft/util/mem.h"

/* One input. Returns 0. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* ---- A script ---- */

struct script {
    const uint8_t *at, *end;
};

static inline struct script script_of(const uint8_t *data, size_t size)
{
    return (struct script){data, data + size};
}

static inline size_t script_left(const struct script *script)
{
    return (size_t)(script->end - script->at);
}

static inline bool script_is_over(const struct script *script)
{
    return script->at == script->end;
}

static inline uint8_t fuzz_u8(struct script *script)
{
    return script_is_over(script) ? 0 : *script->at++;
}

static inline uint16_t fuzz_u16(struct script *script)
{
    uint16_t low = fuzz_u8(script);

    return (uint16_t)(low | (uint16_t)(fuzz_u8(script) << 8));
}

static inline uint32_t fuzz_u32(struct script *script)
{
    uint32_t low = fuzz_u16(script);

    return low | (uint32_t)fuzz_u16(script) << 16;
}

static inline uint64_t fuzz_u64(struct script *script)
{
    uint64_t low = fuzz_u32(script);

    return low | (uint64_t)fuzz_u32(script) << 32;
}

/* 0 .. n-1, of one byte. */
static inline uint32_t fuzz_below(struct script *script, uint32_t n)
{
    return fuzz_u8(script) % n;
}

/* So many bytes, or those that are left. */
static inline struct slice fuzz_take(struct script *script, size_t len)
{
    struct slice taken = slice_of(script->at, len);

    if (len > script_left(script)) {
        taken.len = script_left(script);
    }
    script->at += taken.len;
    return taken;
}

/* A length of one byte, then the bytes. */
static inline struct slice fuzz_short(struct script *script)
{
    size_t len = fuzz_u8(script);

    return fuzz_take(script, len);
}

static inline struct slice fuzz_rest(struct script *script)
{
    return fuzz_take(script, script_left(script));
}

/* A number as numbers are in protocols: small, near `middle`, huge, or any. */
static inline uint64_t fuzz_number(struct script *script, uint64_t middle)
{
    uint8_t byte = fuzz_u8(script);

    switch (byte >> 6) {
    case 0:
        return byte;
    case 1:
        return middle + (byte & 15u) - 8;
    case 2:
        return middle;
    default:
        return byte & 32 ? UINT64_MAX - (byte & 31u) : fuzz_u64(script);
    }
}

/* ---- Files ---- */

/* A directory of this process, in memory where possible, made once and removed at its end. */
const char *fuzz_directory(void);
/* Replaces the file directory/name. */
void fuzz_write_file(const char *directory, const char *name, struct slice content);
/* Removes what is in the directory. */
void fuzz_clear_directory(const char *directory);

#endif
