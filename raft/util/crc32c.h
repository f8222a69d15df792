/* CRC-32C (Castagnoli), the checksum of frames, log records and snapshot chunks. */
#ifndef RAFT_UTIL_CRC32C_H
#define RAFT_UTIL_CRC32C_H

#include <stddef.h>
#include <stdint.h>

/* The checksum of `data` continued from `crc`, that of the bytes before it (0 to begin). Uses the
 * processor's instruction where there is one, else a table; both give the same number. */
uint32_t crc32c(uint32_t crc, const void *data, size_t len);

/* The table version, for tests to compare. */
uint32_t crc32c_portable(uint32_t crc, const void *data, size_t len);

#endif
