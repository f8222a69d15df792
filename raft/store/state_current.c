/* state_current: the file CURRENT, which names the database in use, and what else is in the state
 * directory.
 *
 * CURRENT is one line of text, "db-N CRC32C-of-'db-N'-in-hex", replaced as a whole by way of
 * CURRENT.tmp. The checksum keeps a flipped digit from naming another database.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "raft/store/state_private.h"
#include "raft/util/assert.h"
#include "raft/util/crc32c.h"
#include "raft/util/mem.h"

#define STATE_CURRENT_MAX 64

static size_t state_current_format(uint64_t number, char text[STATE_CURRENT_MAX])
{
    int len = snprintf(text, STATE_CURRENT_MAX, "db-%" PRIu64, number);

    ASSERT(len > 0 && len < STATE_CURRENT_MAX);
    len += snprintf(text + len, STATE_CURRENT_MAX - (size_t)len, " %08x\n",
                    (unsigned)crc32c(0, text, (size_t)len));
    ASSERT(len < STATE_CURRENT_MAX);
    return (size_t)len;
}

/* The number of "db-N" in its one right form; 0 if the name is not of that form. */
static uint64_t state_current_number(const char *name)
{
    char again[STATE_CURRENT_MAX];
    uint64_t number;

    if (strncmp(name, "db-", 3) != 0) {
        return 0;
    }
    number = strtoull(name + 3, NULL, 10);
    snprintf(again, sizeof(again), "db-%" PRIu64, number);
    return strcmp(name, again) == 0 ? number : 0;
}

static void state_current_see(void *arg, const char *name)
{
    struct state_files *files = arg;
    uint64_t number = state_current_number(name);

    if (number != 0) {
        MEM_GROW(files->others, files->capacity, files->n_others + 1);
        files->others[files->n_others++] = number;
    }
}

static int state_current_order(const void *a, const void *b)
{
    uint64_t left = *(const uint64_t *)a, right = *(const uint64_t *)b;

    return left < right ? -1 : left > right;
}

/* Reads the number that CURRENT names. */
static enum status state_current_parse(const char *path, struct slice content, uint64_t *number,
                                       char *error)
{
    char text[STATE_CURRENT_MAX] = {0};
    char again[STATE_CURRENT_MAX];
    char *space;

    *number = 0;
    if (content.len < sizeof(text)) {
        memcpy(text, content.data, content.len);
        space = strchr(text, ' ');
        if (space != NULL) {
            *space = '\0';
            *number = state_current_number(text);
        }
    }
    if (*number == 0 ||
        !slice_equal(content, slice_of(again, state_current_format(*number, again)))) {
        *number = 0;
        disk_format_error(error, "%s is damaged; " STORE_REBUILD, path);
        return ST_CORRUPT;
    }
    return ST_OK;
}

enum status state_current_read(const char *directory, struct state_files *files, char *error)
{
    char *path = disk_join(directory, "CURRENT");
    struct buf content = {0};
    enum status status;
    size_t kept = 0;

    *files = (struct state_files){0};
    status = disk_read_file(path, STATE_CURRENT_MAX - 1, &content, error);
    if (status == ST_OK) {
        status = state_current_parse(path, buf_slice(&content), &files->current, error);
    } else if (status == ST_NOT_FOUND) {
        status = ST_OK;
    }
    if (status == ST_OK) {
        status = disk_list_dir(directory, state_current_see, files, error);
    }
    for (size_t i = 0; i < files->n_others; i++) {
        if (files->others[i] != files->current) {
            files->others[kept++] = files->others[i];
        }
    }
    files->n_others = kept;
    if (kept > 0) {
        qsort(files->others, kept, sizeof(*files->others), state_current_order);
    }
    buf_fini(&content);
    mem_free(path);
    return status;
}

enum status state_current_write(const char *directory, uint64_t number, char *error)
{
    char text[STATE_CURRENT_MAX];
    size_t len;

    ASSERT(number > 0);
    len = state_current_format(number, text);

    return disk_write_file(directory, "CURRENT", slice_of(text, len), error);
}

void state_files_fini(struct state_files *files)
{
    mem_free(files->others);
    *files = (struct state_files){0};
}
