/* The runtime's own formats: the header of a command entry, and the bytes that a checkpoint carries
 * besides the service's state. */
#ifndef RAFT_RSM_CODEC_H
#define RAFT_RSM_CODEC_H

#include "raft/rsm.h"

#define RSM_ENTRY_FORMAT 1
#define RSM_EXTRA_FORMAT 1

struct rsm_entry_header {
    uint64_t stamp;
    uint64_t trace_id;
};

/* Writes the RSM_ENTRY_HEADER_BYTES at `at`. */
void rsm_entry_header_write(const struct rsm_entry_header *header, uint8_t *at);
/* ST_OK with the header and the command behind it; ST_VERSION for a format that this program does
 * not know, ST_CORRUPT for an entry that is too short. */
enum status rsm_entry_header_read(struct slice entry, struct rsm_entry_header *header,
                                  struct slice *command);

/* What the state carries besides the service's keys: u8 format = 1, u64 stamp of the last applied
 * command, u32 length and the configuration as of the checkpoint's index. */
struct rsm_extra {
    uint64_t stamp;
    struct raft_configuration configuration;
};

void rsm_extra_encode(const struct rsm_extra *extra, struct buf *out);
enum status rsm_extra_decode(struct slice bytes, struct rsm_extra *extra);

#endif
