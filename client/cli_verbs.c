/* The verbs on keys: get, put, append, del, cas, scan. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "client/cli.h"

#define SCAN_PAGE 1000u

/* ---- Arguments ---- */

/* A value: the argument, or standard input for "-". False after a message. */
static bool read_value(const char *verb, const char *argument, struct shardkv_bytes *value,
                       void **memory)
{
    size_t len = 0, capacity = 65536, got;
    char *data;

    *memory = NULL;
    if (strcmp(argument, "-") != 0) {
        *value = shardkv_text(argument);
        return true;
    }
    data = malloc(capacity);
    while (data != NULL && (got = fread(data + len, 1, capacity - len, stdin)) > 0) {
        len += got;
        if (len > CLI_MAX_VALUE) {
            break; /* the library says that it is too large */
        }
        if (len == capacity) {
            char *grown = realloc(data, capacity *= 2);
            if (grown == NULL) {
                free(data);
            }
            data = grown;
        }
    }
    if (data == NULL || ferror(stdin)) {
        fprintf(stderr, "shardkv-cli: %s: standard input can't be read\n", verb);
        free(data);
        return false;
    }
    *memory = data;
    *value = (struct shardkv_bytes){data, len};
    return true;
}

/* Checks for stray options and the number of arguments; drops a "--" that ends the options. Returns
 * -1 to go on. */
static int count_arguments(const char *verb, int *argc, char **argv, int least, int most)
{
    const char *unknown = cli_unknown_option(*argc, argv);

    if (unknown != NULL) {
        fprintf(stderr,
                "shardkv-cli: %s: no such option: %.60s (put -- before a key or value that "
                "begins so)\n",
                verb, unknown);
        return CLI_USAGE;
    }
    for (int i = 0; i < *argc; i++) {
        if (strcmp(argv[i], "--") == 0) {
            memmove(argv + i, argv + i + 1, (size_t)(*argc - i - 1) * sizeof(*argv));
            (*argc)--;
            break;
        }
    }
    if (*argc < least || (most >= 0 && *argc > most)) {
        return cli_usage_error(verb, "wrong number of arguments");
    }
    return -1;
}

/* A negative answer in words, where there is no document that says it. */
static void negative(const char *verb, const char *key, const char *what)
{
    fprintf(stderr, "shardkv-cli: %s ", verb);
    cli_print_subject(stderr, key);
    fprintf(stderr, ": %s\n", what);
}

/* What a result of a change means, and its message. */
static int end_change(const char *verb, const char *key, struct shardkv_result *result)
{
    int code = result->code == SHARDKV_OK ? CLI_DONE : cli_failed(verb, key, result, false);

    shardkv_result_free(result);
    return code;
}

/* ---- Verbs ---- */

int cli_get(struct cli *cli, int argc, char **argv)
{
    bool raw = cli_take_flag(&argc, argv, "--raw");
    int code = count_arguments("get", &argc, argv, 1, 1);
    struct shardkv_result *result = NULL;

    if (code >= 0) {
        return code;
    }
    if (cli_open(cli) == NULL) {
        return CLI_USAGE;
    }
    shardkv_get(cli->kv, shardkv_text(argv[0]), cli->timeout_ms, &result);
    if (result->code != SHARDKV_OK && result->code != SHARDKV_NOT_FOUND) {
        code = cli_failed("get", argv[0], result, true);
        shardkv_result_free(result);
        return code;
    }
    code = result->code == SHARDKV_OK ? CLI_DONE : CLI_NEGATIVE;
    if (cli->json) {
        cli_print_json(json_pack("{s:o,s:o,s:I}", "key", cli_json_bytes(shardkv_text(argv[0])),
                                 "value",
                                 code == CLI_DONE ? cli_json_bytes(result->value) : json_null(),
                                 "version", (json_int_t)result->version));
    } else if (code == CLI_NEGATIVE) {
        negative("get", argv[0], "no such key");
    } else if (raw) {
        fwrite(result->value.data, 1, result->value.len, stdout);
    } else {
        cli_print_text(stdout, result->value);
        putchar('\n');
    }
    shardkv_result_free(result);
    return code;
}

static int put_or_append(struct cli *cli, int argc, char **argv, bool append)
{
    const char *verb = append ? "append" : "put";
    int code = count_arguments(verb, &argc, argv, 2, 2);
    struct shardkv_result *result = NULL;
    struct shardkv_bytes value;
    void *memory;

    if (code >= 0) {
        return code;
    }
    if (cli_open(cli) == NULL) {
        return CLI_USAGE;
    }
    if (!read_value(verb, argv[1], &value, &memory)) {
        return CLI_REFUSED;
    }
    if (append) {
        shardkv_append(cli->kv, shardkv_text(argv[0]), value, cli->timeout_ms, &result);
    } else {
        shardkv_put(cli->kv, shardkv_text(argv[0]), value, cli->timeout_ms, &result);
    }
    free(memory);
    if (result->code == SHARDKV_OK && cli->json) {
        json_t *document = json_pack("{s:o}", "key", cli_json_bytes(shardkv_text(argv[0])));
        if (append && result->n_outputs > 0) {
            json_object_set_new(document, "length", json_integer(result->outputs[0]));
        }
        cli_print_json(document);
    } else if (result->code == SHARDKV_OK && append && result->n_outputs > 0) {
        printf("%u\n", result->outputs[0]);
    }
    return end_change(verb, argv[0], result);
}

int cli_put(struct cli *cli, int argc, char **argv)
{
    return put_or_append(cli, argc, argv, false);
}

int cli_append(struct cli *cli, int argc, char **argv)
{
    return put_or_append(cli, argc, argv, true);
}

int cli_del(struct cli *cli, int argc, char **argv)
{
    int code = count_arguments("del", &argc, argv, 1, 1);
    struct shardkv_result *result = NULL;
    uint32_t removed;

    if (code >= 0) {
        return code;
    }
    if (cli_open(cli) == NULL) {
        return CLI_USAGE;
    }
    shardkv_delete(cli->kv, shardkv_text(argv[0]), cli->timeout_ms, &result);
    if (result->code != SHARDKV_OK) {
        return end_change("del", argv[0], result);
    }
    removed = result->n_outputs > 0 ? result->outputs[0] : 0;
    if (cli->json) {
        cli_print_json(json_pack("{s:o,s:i}", "key", cli_json_bytes(shardkv_text(argv[0])),
                                 "removed", (int)removed));
    } else if (removed == 0) {
        negative("del", argv[0], "no such key");
    }
    shardkv_result_free(result);
    return removed > 0 ? CLI_DONE : CLI_NEGATIVE;
}

int cli_cas(struct cli *cli, int argc, char **argv)
{
    bool absent = cli_take_flag(&argc, argv, "--absent"), missing = false;
    const char *old = cli_take_option(&argc, argv, "--expect", &missing);
    int code = missing ? cli_usage_error("cas", "--expect needs a value")
                       : count_arguments("cas", &argc, argv, 2, 2);
    struct shardkv_result *result = NULL;
    struct shardkv_bytes expected, value;
    void *memory;
    bool swapped;

    if (code >= 0) {
        return code;
    }
    if (absent == (old != NULL)) {
        return cli_usage_error("cas", "give either --absent or --expect OLD");
    }
    if (cli_open(cli) == NULL) {
        return CLI_USAGE;
    }
    if (!read_value("cas", argv[1], &value, &memory)) {
        return CLI_REFUSED;
    }
    expected = shardkv_text(absent ? "" : old);
    shardkv_cas(cli->kv, shardkv_text(argv[0]), absent ? NULL : &expected, value, cli->timeout_ms,
                &result);
    free(memory);
    if (result->code != SHARDKV_OK && result->code != SHARDKV_MISMATCH) {
        return end_change("cas", argv[0], result);
    }
    swapped = result->code == SHARDKV_OK;
    if (cli->json) {
        cli_print_json(json_pack("{s:o,s:b}", "key", cli_json_bytes(shardkv_text(argv[0])),
                                 "swapped", (int)swapped));
    } else if (!swapped) {
        negative("cas", argv[0], "the value is not what was expected");
    }
    shardkv_result_free(result);
    return swapped ? CLI_DONE : CLI_NEGATIVE;
}

/* ---- Scan: page by page, so that memory stays bounded ---- */

static void print_record(const struct cli *cli, const struct shardkv_record *record, bool keys_only)
{
    if (cli->json) {
        json_t *document = json_pack("{s:o}", "key", cli_json_bytes(record->key));
        if (!keys_only) {
            json_object_set_new(document, "value", cli_json_bytes(record->value));
        }
        cli_print_json(document);
        return;
    }
    cli_print_text(stdout, record->key);
    if (!keys_only) {
        putchar('\t');
        cli_print_text(stdout, record->value);
    }
    putchar('\n');
}

static int scan_pages(struct cli *cli, const char *prefix, uint64_t limit, bool keys_only)
{
    char after[CLI_MAX_KEY];
    size_t after_len = 0;
    bool more = true;

    while (more && limit > 0) {
        struct shardkv_result *result = NULL;
        uint32_t page = limit < SCAN_PAGE ? (uint32_t)limit : SCAN_PAGE;

        shardkv_scan(cli->kv, shardkv_text(prefix), (struct shardkv_bytes){after, after_len}, page,
                     cli->timeout_ms, &result);
        if (result->code != SHARDKV_OK) {
            int code = cli_failed("scan", prefix, result, true);
            shardkv_result_free(result);
            return code;
        }
        for (size_t i = 0; i < result->n_records; i++) {
            print_record(cli, &result->records[i], keys_only);
        }
        limit -= result->n_records;
        more = result->more && result->n_records > 0;
        if (more) {
            struct shardkv_bytes last = result->records[result->n_records - 1].key;
            memcpy(after, last.data, last.len);
            after_len = last.len;
        }
        shardkv_result_free(result);
    }
    return CLI_DONE;
}

int cli_scan(struct cli *cli, int argc, char **argv)
{
    bool missing = false, keys_only = cli_take_flag(&argc, argv, "--keys-only");
    const char *limit_text = cli_take_option(&argc, argv, "--limit", &missing);
    uint64_t limit = UINT64_MAX;
    int code;

    if (missing) {
        return cli_usage_error("scan", "--limit needs a value");
    }
    if (limit_text != NULL && !cli_number(limit_text, 0, UINT64_MAX, &limit)) {
        return cli_usage_error("scan", "--limit must be a number");
    }
    code = count_arguments("scan", &argc, argv, 0, 1);
    if (code >= 0) {
        return code;
    }
    if (cli_open(cli) == NULL) {
        return CLI_USAGE;
    }
    return scan_pages(cli, argc > 0 ? argv[0] : "", limit, keys_only);
}
