/* What shardkv-cli reads: lines from a pipe, JSON requests, words of the shell, options. The first
 * byte says which.
 *
 * Lines are those that a plain search for newlines finds; a request that is taken has what its
 * operation needs, and its answers are JSON that carries its id; bytes become JSON and come back.
 */
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "client/cli_lines.h"
#include "client/cli_request.h"
#include "client/cli_words.h"
#include "tests/fuzz/fuzz.h"

/* ---- Lines ---- */

/* The next line of the text, as lines_next must find it. */
static enum line_kind model_next(struct slice *text, size_t max, struct slice *line)
{
    const uint8_t *newline = text->len > 0 ? memchr(text->data, '\n', text->len) : NULL;
    size_t len = newline != NULL ? (size_t)(newline - text->data) : text->len;

    if (text->len == 0) {
        return LINE_NONE;
    }
    *line = slice_of(text->data, len);
    len += newline != NULL;
    *text = slice_of(text->data + len, text->len - len);
    return line->len > max ? LINE_TOO_LONG : LINE_GIVEN;
}

static void fuzz_lines(struct script *script)
{
    size_t max = fuzz_u8(script);
    struct slice text = fuzz_rest(script), expected = {0};
    int fd = memfd_create("lines", MFD_CLOEXEC);
    struct lines lines;
    enum line_kind kind;

    ASSERT(fd >= 0 && write(fd, text.data, text.len) == (ssize_t)text.len);
    lseek(fd, 0, SEEK_SET);
    lines_init(&lines, fd, max);
    do {
        const char *line;
        size_t len;

        kind = lines_next(&lines, &line, &len);
        ASSERT(kind == model_next(&text, max, &expected));
        ASSERT(kind != LINE_GIVEN || slice_equal(slice_of(line, len), expected));
    } while (kind != LINE_NONE);
    lines_fini(&lines);
    close(fd);
}

/* ---- Requests ---- */

static bool needs_key(enum request_op op)
{
    return op == REQUEST_GET || op == REQUEST_PUT || op == REQUEST_APPEND || op == REQUEST_DELETE ||
           op == REQUEST_CAS;
}

static void check_reply(json_t *reply, const json_t *id)
{
    char *text;

    ASSERT(json_is_object(reply));
    ASSERT(id == NULL || json_equal(json_object_get(reply, "id"), id));
    ASSERT(json_object_get(reply, "ok") != NULL);
    text = json_dumps(reply, JSON_COMPACT | JSON_ENCODE_ANY);
    ASSERT(text != NULL && strchr(text, '\n') == NULL);
    free(text);
    json_decref(reply);
}

static void fuzz_request(struct script *script)
{
    struct slice line = fuzz_rest(script);
    char *text = mem_copy(line.data, line.len), buffer[200];
    struct request request;
    const char *wrong = request_parse(&request, text, line.len, buffer);

    if (wrong != NULL) {
        ASSERT(strlen(wrong) > 0 && strlen(wrong) < 200);
        check_reply(request_refusal(request.id, wrong), request.id);
    } else {
        ASSERT(request.op <= REQUEST_PAUSE);
        ASSERT(!needs_key(request.op) || (request.key.len >= 1 && request.key.len <= CLI_MAX_KEY &&
                                          request.key.data != NULL));
        ASSERT(request.arg.len <= CLI_MAX_VALUE && request.arg2.len <= CLI_MAX_VALUE);
        request_is_read(request.op);
    }
    request_fini(&request);
    mem_free(text);
}

static void fuzz_bytes(struct script *script)
{
    struct slice bytes = fuzz_rest(script);
    json_t *json = cli_json_bytes((struct shardkv_bytes){bytes.data, bytes.len}), *any;
    void *data;
    size_t len;

    ASSERT(cli_json_to_bytes(json, &data, &len));
    ASSERT(slice_equal(bytes, slice_of(data, len)));
    free(data);
    json_decref(json);
    any = json_loadb((const char *)bytes.data, bytes.len, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
    if (any != NULL && cli_json_to_bytes(any, &data, &len)) {
        free(data);
    }
    json_decref(any);
}

/* ---- Words ---- */

static char *copy_text(struct slice bytes)
{
    char *text = mem_zalloc(bytes.len + 1);

    memcpy(text, bytes.data, bytes.len);
    return text;
}

static void fuzz_words(struct script *script)
{
    char *line = copy_text(fuzz_rest(script));
    size_t room = strlen(line);
    char *words[WORDS_MAX + 1];
    const char *wrong = NULL;
    int n = words_split(line, words, &wrong);

    ASSERT(n >= -1 && n <= WORDS_MAX && (n >= 0 || wrong != NULL));
    for (int i = 0; i < n; i++) {
        ASSERT(words[i] >= line && words[i] + strlen(words[i]) <= line + room);
        ASSERT(i == 0 || words[i] > words[i - 1] + strlen(words[i - 1]));
    }
    ASSERT(n < 0 || words[n] == NULL);
    mem_free(line);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static void (*const targets[])(struct script * script) = {fuzz_request, fuzz_request,
                                                              fuzz_lines, fuzz_bytes, fuzz_words};
    struct script script = script_of(data, size);
    uint32_t which = fuzz_below(&script, sizeof(targets) / sizeof(targets[0]));

    targets[which](&script);
    return 0;
}
