/* state_verify: which file of a database is damaged, and where.
 *
 * LevelDB says of most damage that a checksum is wrong, and not where. Before such a line is shown,
 * the files are gone through: each block of each table, each record of the logs and of the manifest
 * has a checksum of its own (leveldb's doc/table_format.md, doc/log_format.md). It is done at most
 * once for a database, by whichever thread met the damage, while others may go on with it; nothing
 * is changed. What is found may be another place than the one that was met; that is damage all the
 * same.
 */
#include <inttypes.h>
#include <stdio.h>

#include "raft/store/state_private.h"
#include "raft/util/assert.h"
#include "raft/util/crc32c.h"
#include "raft/util/mem.h"

#define VERIFY_MAX_FILE     (1u << 30)
#define VERIFY_LOG_BLOCK    32768u
#define VERIFY_LOG_HEADER   7u
#define VERIFY_FOOTER_BYTES 48u
#define VERIFY_TRAILER      5u /* of a block: its type, its checksum */
#define VERIFY_NOTHING      UINT64_MAX

static const uint8_t table_magic[8] = {0x57, 0xfb, 0x80, 0x8b, 0x24, 0x75, 0x47, 0xdb};

/* LevelDB stores a checksum masked, for it may stand in what has a checksum again. */
static bool is_sum_of(uint32_t stored, uint32_t crc)
{
    return stored == ((crc >> 15) | (crc << 17)) + 0xa282ead8u;
}

/* ---- Tables ---- */

static uint64_t take_varint(struct reader *reader)
{
    uint64_t number = 0;
    uint8_t byte = 0x80;

    for (unsigned shift = 0; shift < 64 && (byte & 0x80) != 0; shift += 7) {
        byte = reader_u8(reader);
        number |= (uint64_t)(byte & 0x7f) << shift;
    }
    return number;
}

static bool block_is_good(struct slice file, uint64_t offset, uint64_t size)
{
    const uint8_t *at;

    if (offset > file.len || size > file.len || offset + size + VERIFY_TRAILER > file.len) {
        return false;
    }
    at = file.data + offset;
    return is_sum_of(get_u32(at + size + 1), crc32c(0, at, size + 1));
}

/* The blocks that an index block names. */
static uint64_t verify_index(struct slice file, struct slice index)
{
    struct reader reader;
    uint32_t restarts;

    if (index.len < 4) {
        return VERIFY_NOTHING;
    }
    restarts = get_u32(index.data + index.len - 4);
    if (restarts > index.len / 4 - 1) {
        return VERIFY_NOTHING;
    }
    reader = reader_of(slice_of(index.data, index.len - 4 * ((size_t)restarts + 1)));
    while (reader_ok(&reader) && reader_left(&reader) > 0) {
        uint64_t unshared, value_len;
        struct reader handle;
        uint64_t offset, size;

        (void)take_varint(&reader); /* shared with the key before */
        unshared = take_varint(&reader);
        value_len = take_varint(&reader);
        if (unshared > reader_left(&reader) || value_len > reader_left(&reader) - unshared) {
            break;
        }
        (void)reader_take(&reader, unshared);
        handle = reader_of(reader_take(&reader, value_len));
        offset = take_varint(&handle);
        size = take_varint(&handle);
        if (!block_is_good(file, offset, size)) {
            return offset;
        }
    }
    return VERIFY_NOTHING;
}

/* The offset of the first block that is damaged. */
static uint64_t verify_table(struct slice file)
{
    struct reader footer;
    uint64_t handle[4];

    if (file.len < VERIFY_FOOTER_BYTES ||
        memcmp(file.data + file.len - sizeof(table_magic), table_magic, sizeof(table_magic)) != 0) {
        return file.len < VERIFY_FOOTER_BYTES ? 0 : file.len - VERIFY_FOOTER_BYTES;
    }
    footer = reader_of(slice_of(file.data + file.len - VERIFY_FOOTER_BYTES, 40));
    for (int i = 0; i < 4; i++) { /* of the meta index and of the index */
        handle[i] = take_varint(&footer);
    }
    for (int i = 0; i < 4; i += 2) {
        if (!block_is_good(file, handle[i], handle[i + 1])) {
            return handle[i];
        }
    }
    if (file.data[handle[2] + handle[3]] != 0) {
        return VERIFY_NOTHING; /* compressed: not looked into */
    }
    return verify_index(file, slice_of(file.data + handle[2], handle[3]));
}

/* ---- Logs and manifests ---- */

static uint64_t verify_log(struct slice file)
{
    size_t at = 0;

    while (at + VERIFY_LOG_HEADER <= file.len) {
        size_t left = VERIFY_LOG_BLOCK - at % VERIFY_LOG_BLOCK;
        size_t len = get_u16(file.data + at + 4);

        if (left < VERIFY_LOG_HEADER || (len == 0 && file.data[at + 6] == 0)) {
            at += left; /* padding */
            continue;
        }
        if (VERIFY_LOG_HEADER + len > left || at + VERIFY_LOG_HEADER + len > file.len ||
            !is_sum_of(get_u32(file.data + at), crc32c(0, file.data + at + 6, len + 1))) {
            return at;
        }
        at += VERIFY_LOG_HEADER + len;
    }
    return VERIFY_NOTHING;
}

/* ---- All files ---- */

struct verify {
    const char *directory;
    bool manifests_only;
    char name[64]; /* the first damaged file, by name; empty: none */
    uint64_t offset;
};

static bool ends_with(const char *name, const char *end)
{
    size_t len = strlen(name), end_len = strlen(end);

    return len >= end_len && strcmp(name + len - end_len, end) == 0;
}

static void verify_file(void *arg, const char *name)
{
    struct verify *verify = arg;
    bool manifest = strncmp(name, "MANIFEST-", 9) == 0;
    bool table = !verify->manifests_only && (ends_with(name, ".ldb") || ends_with(name, ".sst"));
    bool log = manifest || (!verify->manifests_only && ends_with(name, ".log"));
    char error[STORE_ERROR_BYTES];
    struct buf content = {0};
    char *path = disk_join(verify->directory, name);
    uint64_t offset = VERIFY_NOTHING;

    if ((table || log) && strlen(name) < sizeof(verify->name) &&
        (verify->name[0] == '\0' || strcmp(name, verify->name) < 0) &&
        disk_read_file(path, VERIFY_MAX_FILE, &content, error) == ST_OK) {
        offset = table ? verify_table(buf_slice(&content)) : verify_log(buf_slice(&content));
    }
    if (offset != VERIFY_NOTHING) {
        snprintf(verify->name, sizeof(verify->name), "%s", name);
        verify->offset = offset;
    }
    buf_fini(&content);
    mem_free(path);
}

bool state_verify_explain(const char *directory, bool manifests_only, char *error)
{
    struct verify verify = {.directory = directory, .manifests_only = manifests_only};
    char reason[STORE_ERROR_BYTES], ignored[STORE_ERROR_BYTES];

    disk_list_dir(directory, verify_file, &verify, ignored);
    if (verify.name[0] != '\0') {
        memcpy(reason, error, sizeof(reason));
        disk_format_error(error, "%.150s/%s is damaged at offset %" PRIu64 ": %.250s", directory,
                          verify.name, verify.offset, reason);
    }
    return verify.name[0] != '\0';
}
