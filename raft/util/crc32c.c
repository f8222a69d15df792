#include "raft/util/crc32c.h"

#include <stdbool.h>
#include <string.h>

#if defined(__x86_64__)
#include <nmmintrin.h>
#endif

#define CRC32C_POLYNOMIAL 0x82f63b78u /* reflected */

/* The checksum of one byte, bit by bit; the compiler turns the table below into constants. */
#define CRC_1(c) (((c)&1) ? ((c) >> 1) ^ CRC32C_POLYNOMIAL : (c) >> 1)
#define CRC_2(c) CRC_1(CRC_1(c))
#define CRC_4(c) CRC_2(CRC_2(c))

/* The remainder of a 4-bit step. */
static uint32_t crc32c_nibble(uint32_t c)
{
    return CRC_4(c);
}

uint32_t crc32c_portable(uint32_t crc, const void *data, size_t len)
{
    const uint8_t *at = data;
    uint32_t table[16];

    for (uint32_t i = 0; i < 16; i++) {
        table[i] = crc32c_nibble(i);
    }
    crc = ~crc;
    for (size_t i = 0; i < len; i++) {
        crc ^= at[i];
        crc = (crc >> 4) ^ table[crc & 15];
        crc = (crc >> 4) ^ table[crc & 15];
    }
    return ~crc;
}

#if defined(__x86_64__)
__attribute__((target("sse4.2"))) static uint32_t crc32c_sse42(uint32_t crc, const void *data,
                                                               size_t len)
{
    const uint8_t *at = data;
    uint64_t wide = ~crc;

    for (; len >= 8; at += 8, len -= 8) {
        uint64_t word;
        memcpy(&word, at, sizeof(word));
        wide = _mm_crc32_u64(wide, word);
    }
    crc = (uint32_t)wide;
    for (; len > 0; at++, len--) {
        crc = _mm_crc32_u8(crc, *at);
    }
    return ~crc;
}
#endif

uint32_t crc32c(uint32_t crc, const void *data, size_t len)
{
#if defined(__x86_64__)
    if (__builtin_cpu_supports("sse4.2")) {
        return crc32c_sse42(crc, data, len);
    }
#endif
    return crc32c_portable(crc, data, len);
}
