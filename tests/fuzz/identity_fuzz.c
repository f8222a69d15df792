/* META and CURRENT, the two small files of a data directory that say whose it is and which database
 * is in use. The content is the script's, with the checksum put right or not.
 *
 * What is taken is written back byte for byte; a directory whose META is not taken is left as it
 * is.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "raft/store/state_private.h"
#include "raft/util/crc32c.h"
#include "tests/fuzz/fuzz.h"

#define META_HEADER 16

static struct buf read_file(const char *name)
{
    char path[256];
    struct buf content = {0}, error = {0};

    snprintf(path, sizeof(path), "%s/%s", fuzz_directory(), name);
    buf_reserve(&error, STORE_ERROR_BYTES);
    ASSERT(disk_read_file(path, 1u << 20, &content, (char *)error.data) == ST_OK);
    buf_fini(&error);
    return content;
}

static void mend_meta(struct buf *meta, bool length)
{
    if (meta->len < META_HEADER) {
        return;
    }
    set_u32(meta->data, 0x4d564b53u);
    if (length) {
        set_u32(meta->data + 8, (uint32_t)(meta->len - META_HEADER));
    }
    set_u32(meta->data + 12,
            crc32c(crc32c(0, meta->data, 12), meta->data + META_HEADER, meta->len - META_HEADER));
}

static void fuzz_meta(struct slice bytes, bool mended)
{
    struct identity wanted = {.gid = 1, .id = 2, .incarnation = 3, .spec_fingerprint = 4};
    struct identity found;
    struct store_dir *dir;
    char error[STORE_ERROR_BYTES] = "";
    struct buf meta = {0}, kept;
    enum status status;

    buf_put_slice(&meta, bytes);
    if (mended) {
        mend_meta(&meta, true);
    }
    if (mended && meta.len >= META_HEADER + 24) {
        set_u32(meta.data + META_HEADER + 16, bytes.data[0] < 128 ? 1 : 5);
        set_u32(meta.data + META_HEADER + 20, 2);
        mend_meta(&meta, true);
    }
    fuzz_write_file(fuzz_directory(), "META", buf_slice(&meta));
    status = store_dir_open(fuzz_directory(), &wanted, &dir, &found, error);
    kept = read_file("META");
    ASSERT(slice_equal(buf_slice(&kept), buf_slice(&meta)));
    buf_fini(&kept);
    if (status == ST_OK) {
        ASSERT(found.gid == 1 && found.id == 2);
        ASSERT(store_dir_save(dir, &found, error) == ST_OK);
        store_dir_close(&dir);
        ASSERT(store_dir_open(fuzz_directory(), &wanted, &dir, &wanted, error) == ST_OK);
        ASSERT(memcmp(&found, &wanted, sizeof(found)) == 0);
        store_dir_close(&dir);
    } else {
        ASSERT(dir == NULL && error[0] != '\0' && strlen(error) < sizeof(error));
    }
    buf_fini(&meta);
}

static void fuzz_current(struct slice bytes, bool mended)
{
    struct state_files files;
    char error[STORE_ERROR_BYTES] = "", text[80];
    struct buf content = {0}, again;

    if (mended) {
        size_t len = bytes.len < 30 ? bytes.len : 30;
        int written = snprintf(text, sizeof(text), "db-%.*s", (int)len, (const char *)bytes.data);

        written +=
            snprintf(text + written, 12, " %08x\n", (unsigned)crc32c(0, text, (size_t)written));
        buf_put(&content, text, (size_t)written);
    } else {
        buf_put_slice(&content, bytes);
    }
    fuzz_write_file(fuzz_directory(), "CURRENT", buf_slice(&content));
    if (state_current_read(fuzz_directory(), &files, error) == ST_OK) {
        ASSERT(files.current > 0 && files.n_others == 0);
        ASSERT(state_current_write(fuzz_directory(), files.current, error) == ST_OK);
        again = read_file("CURRENT");
        ASSERT(slice_equal(buf_slice(&again), buf_slice(&content)));
        buf_fini(&again);
    } else {
        ASSERT(strlen(error) > 0);
    }
    state_files_fini(&files);
    buf_fini(&content);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct script script = script_of(data, size);
    uint8_t mode = fuzz_u8(&script);

    if (mode % 4 < 2) {
        fuzz_meta(fuzz_rest(&script), mode % 4 == 0);
    } else {
        fuzz_current(fuzz_rest(&script), mode % 4 == 2);
    }
    fuzz_clear_directory(fuzz_directory());
    return 0;
}
