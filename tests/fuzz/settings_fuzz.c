/* Settings: a file of `name = value` lines (--config), and arguments, with anything in them. What
 * is taken fulfils what the help says; what is not ends in one line on stderr and the exit code for
 * that. */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "raft/host.h"
#include "tests/fuzz/fuzz.h"

#define MAX_ARGUMENTS 8

static const char good[] = "gid = 1\nid = 2\ncluster = 1=tcp://h:1,2=tcp://h:2\n"
                           "ctrlers = tcp://c:1\ndata = /d\n";

/* All that is printed goes here. */
static FILE *redirect(FILE **stream, char **text, size_t *len)
{
    FILE *old = *stream;

    *stream = open_memstream(text, len);
    ASSERT(*stream != NULL);
    return old;
}

static void check(const struct host_settings *settings)
{
    ASSERT(settings->gid >= 1 && settings->gid <= 0x7fffffff);
    ASSERT(settings->id >= 1 && settings->id <= 255);
    ASSERT(spec_find(&settings->cluster, settings->id) != NULL);
    ASSERT(settings->ctrlers.n >= 1 && settings->data != NULL && settings->data[0] != '\0');
    ASSERT(settings->election_timeout_ms >= 20 && settings->election_timeout_ms <= 60000);
    ASSERT(settings->heartbeat_ms * 2 <= settings->election_timeout_ms);
    ASSERT((settings->tls_cert == NULL) == (settings->tls_key == NULL));
    ASSERT(settings->migration_parallel >= 1 && settings->migration_parallel <= 64);
    ASSERT(settings->metrics == NULL || strncmp(settings->metrics, "http://", 7) == 0);
    ASSERT(settings->trace_level <= TRACE_DEBUG);
}

static int read_settings(struct host_settings *settings, int argc, char **argv)
{
    char *texts[2];
    size_t lens[2];
    FILE *out = redirect(&stdout, &texts[0], &lens[0]);
    FILE *err = redirect(&stderr, &texts[1], &lens[1]);
    int code = host_settings_read(settings, argc, argv);

    fclose(stdout);
    fclose(stderr);
    stdout = out;
    stderr = err;
    if (code == HOST_EXIT_REFUSED) {
        ASSERT(lens[1] > 0 && strchr(texts[1], '\n') == texts[1] + lens[1] - 1 && lens[0] == 0);
        ASSERT(strncmp(texts[1], "fuzz: ", 6) == 0);
    } else {
        ASSERT(lens[1] == 0 && (code == -1 || code == HOST_EXIT_OK));
    }
    free(texts[0]);
    free(texts[1]);
    return code;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct script script = script_of(data, size);
    struct host_settings settings = {.program = "fuzz", .has = HOST_HAS_GID | HOST_HAS_CTRLERS};
    char *arguments[MAX_ARGUMENTS + 4] = {mem_copy_string("fuzz")};
    char path[200];
    int argc = 1;
    uint8_t mode = fuzz_u8(&script);
    struct buf content = {0};

    for (uint32_t n = mode % MAX_ARGUMENTS; n > 0; n--) {
        struct slice text = fuzz_short(&script);
        char *copy = mem_zalloc(text.len + 1);

        memcpy(copy, text.data, text.len);
        arguments[argc++] = copy;
    }
    snprintf(path, sizeof(path), "--config=%s/settings", fuzz_directory());
    arguments[argc++] = mem_copy_string(path);
    if (mode < 128) {
        buf_put(&content, good, sizeof(good) - 1);
    }
    buf_put_slice(&content, fuzz_rest(&script));
    fuzz_write_file(fuzz_directory(), "settings", buf_slice(&content));
    if (read_settings(&settings, argc, arguments) == -1) {
        check(&settings);
    }
    host_settings_fini(&settings);
    for (int i = 0; i < argc; i++) {
        mem_free(arguments[i]);
    }
    buf_fini(&content);
    return 0;
}
