/* shardkv-cli: the main program: global options, the table of verbs, exit codes. */
#include "client/cli.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int cli_help(struct cli *cli, int argc, char **argv);
static int cli_version(struct cli *cli, int argc, char **argv);

static const struct cli_verb verbs[] = {
    {"get", "KEY [--raw]", "print the value of a key (--raw: its bytes as they are)", cli_get,
     true},
    {"put", "KEY VALUE", "set a key; VALUE - reads standard input", cli_put, false},
    {"append", "KEY VALUE", "add to the end of a value; prints its new length", cli_append, false},
    {"del", "KEY", "delete a key", cli_del, false},
    {"cas", "KEY (--absent | --expect OLD) NEW", "set a key if its value is what is expected",
     cli_cas, false},
    {"scan", "[PREFIX] [--limit N] [--keys-only]", "list keys and values in bytewise order",
     cli_scan, true},
    {"config", "[NUM]", "print a configuration, the latest by default", cli_config, true},
    {"join", "GID SPEC [GID SPEC ...] [--dry-run]", "add replica groups; SPEC is ID=URL,ID=URL,...",
     cli_join, false},
    {"leave", "GID ... [--dry-run]", "remove replica groups; their shards go to the others",
     cli_leave, false},
    {"move", "SHARD GID [--dry-run]", "assign one shard to a group", cli_move, false},
    {"moves", "[pause | resume]", "list the shards that move, stop or continue their copies",
     cli_moves, false},
    {"status", "", "every replica, shard and move, as far as they can be reached", cli_status,
     true},
    {"transfer", "GID ID", "hand leadership of a group (0: the controllers) to a replica",
     cli_transfer, false},
    {"replica", "add|remove|replace|list|recover ...",
     "change and list the replicas of a group; see help replica", cli_replica, false},
    {"wait", "[--shards] [--timeout MS]",
     "until every group has a leader (--shards: and no shard is moving)", cli_wait, true},
    {"pipe", "", "JSON requests on stdin, JSON replies on stdout", cli_pipe, false},
    {"shell", "", "an interactive prompt for all of these", cli_shell, false},
    {"bench", "[options]", "measure throughput and latency; see help bench", cli_bench, false},
    {"version", "", "print the version", cli_version, true},
    {"help", "[VERB]", "print this, or how a verb is used", cli_help, true},
};

const struct cli_verb *cli_verbs(size_t *n)
{
    *n = sizeof(verbs) / sizeof(verbs[0]);
    return verbs;
}

const struct cli_verb *cli_find_verb(const char *name)
{
    for (size_t i = 0; i < sizeof(verbs) / sizeof(verbs[0]); i++) {
        if (strcmp(verbs[i].name, name) == 0) {
            return &verbs[i];
        }
    }
    return NULL;
}

int cli_usage_error(const char *verb, const char *what)
{
    fprintf(stderr, "shardkv-cli: %s: %s (see shardkv-cli help %s)\n", verb, what, verb);
    return CLI_USAGE;
}

bool cli_number(const char *text, uint64_t low, uint64_t high, uint64_t *number)
{
    uint64_t value = 0;

    if (*text == '\0') {
        return false;
    }
    for (; *text != '\0'; text++) {
        unsigned digit = (unsigned)(*text - '0');
        if (digit > 9 || value > (UINT64_MAX - digit) / 10) {
            return false;
        }
        value = value * 10 + digit;
    }
    *number = value;
    return value >= low && value <= high;
}

static void remove_arguments(int *argc, char **argv, int at, int n)
{
    for (int i = at; i + n < *argc; i++) {
        argv[i] = argv[i + n];
    }
    *argc -= n;
}

const char *cli_take_option(int *argc, char **argv, const char *name, bool *missing)
{
    size_t len = strlen(name);
    const char *value = NULL;
    int i = 0;

    while (i < *argc && strcmp(argv[i], "--") != 0) {
        if (strncmp(argv[i], name, len) == 0 && argv[i][len] == '=') {
            value = argv[i] + len + 1;
            remove_arguments(argc, argv, i, 1);
        } else if (strcmp(argv[i], name) != 0) {
            i++;
        } else if (i + 1 == *argc) {
            *missing = true;
            return NULL;
        } else {
            value = argv[i + 1];
            remove_arguments(argc, argv, i, 2);
        }
    }
    return value;
}

bool cli_take_flag(int *argc, char **argv, const char *name)
{
    for (int i = 0; i < *argc && strcmp(argv[i], "--") != 0; i++) {
        if (strcmp(argv[i], name) == 0) {
            remove_arguments(argc, argv, i, 1);
            return true;
        }
    }
    return false;
}

const char *cli_unknown_option(int argc, char **argv)
{
    for (int i = 0; i < argc && strcmp(argv[i], "--") != 0; i++) {
        if (strncmp(argv[i], "--", 2) == 0) {
            return argv[i];
        }
    }
    return NULL;
}

struct shardkv *cli_open_another(const struct cli *cli)
{
    struct shardkv_options options;
    struct shardkv *kv = NULL;
    char error[256] = "";

    if (cli->ctrlers == NULL) {
        fprintf(stderr, "shardkv-cli: where are the controllers? give --ctrlers URL,URL,... or set "
                        "SHARDKV_CTRLERS\n");
        return NULL;
    }
    shardkv_options_init(&options, sizeof(options));
    options.sole_nng_user = 1;
    options.ctrlers = cli->ctrlers;
    options.prefer = cli->prefer;
    options.timeout_ms = cli->timeout_ms;
    options.tls_cert = cli->tls_cert;
    options.tls_key = cli->tls_key;
    options.tls_ca = cli->tls_ca;
    if (shardkv_open(&options, &kv, error, sizeof(error)) != SHARDKV_OK) {
        fprintf(stderr, "shardkv-cli: %s\n", error);
    }
    return kv;
}

struct shardkv *cli_open(struct cli *cli)
{
    if (cli->kv == NULL) {
        cli->kv = cli_open_another(cli);
    }
    return cli->kv;
}

int cli_failed(const char *verb, const char *subject, const struct shardkv_result *result,
               bool is_read)
{
    bool unknown = !is_read && result->code == SHARDKV_UNKNOWN;

    fprintf(stderr, "shardkv-cli: %s ", verb);
    cli_print_subject(stderr, subject);
    fprintf(stderr, ": %s%s\n",
            result->message[0] != '\0' ? result->message : shardkv_strerror(result->code),
            unknown                           ? "; read it back before trying again"
            : shardkv_retryable(result->code) ? "; try again"
                                              : "");
    return unknown ? CLI_UNKNOWN : CLI_REFUSED;
}

/* ---- Help ---- */

static int cli_version(struct cli *cli, int argc, char **argv)
{
    (void)cli, (void)argv;
    if (argc > 0) {
        return cli_usage_error("version", "takes no arguments");
    }
    printf("shardkv-cli %s\n", shardkv_version());
    return CLI_DONE;
}

static void print_overview(void)
{
    printf("usage: shardkv-cli --ctrlers URLS [--json] [--timeout MS] VERB [ARGS]\n\n");
    for (size_t i = 0; i < sizeof(verbs) / sizeof(verbs[0]); i++) {
        char left[64];
        snprintf(left, sizeof(left), "%s %s", verbs[i].name, verbs[i].arguments);
        printf("  %-44s %s\n", left, verbs[i].help);
    }
    printf(
        "\noptions, before or after the verb:\n"
        "  --ctrlers URL,URL,...   the controllers (or SHARDKV_CTRLERS in the environment)\n"
        "  --json                  one JSON document on standard output\n"
        "  --timeout MS            for each operation (default 5000)\n"
        "  --prefer URL            ask that replica first (get, pipe, bench)\n"
        "  --tls-cert --tls-key --tls-ca FILE\n"
        "                          PEM files for tls+tcp:// URLs\n"
        "\nexit codes: 0 done, 1 negative answer (no such key, no match), 2 wrong usage,\n"
        "3 refused or unavailable and certainly not applied, 4 outcome unknown, or not all of it\n"
        "was seen done\n");
}

static int cli_help(struct cli *cli, int argc, char **argv)
{
    const struct cli_verb *verb;

    (void)cli;
    if (argc == 0) {
        print_overview();
        return CLI_DONE;
    }
    verb = cli_find_verb(argv[0]);
    if (verb == NULL || argc > 1) {
        return cli_usage_error("help", argc > 1 ? "takes at most one verb" : "no such verb");
    }
    printf("usage: shardkv-cli %s %s\n  %s\n", verb->name, verb->arguments, verb->help);
    if (strcmp(verb->name, "wait") == 0) {
        printf("  Gives up after --timeout MS, by default 30000, with exit code 3.\n");
    } else if (strcmp(verb->name, "join") == 0 || strcmp(verb->name, "leave") == 0 ||
               strcmp(verb->name, "move") == 0) {
        printf("  --dry-run prints which shards would go where, and changes nothing.\n");
    } else if (strcmp(verb->name, "moves") == 0) {
        printf("  A pause stands until it is undone, whatever restarts meanwhile.\n");
    } else if (strcmp(verb->name, "replica") == 0) {
        printf(
            "  add GID ID=URL [--no-wait]       start the new replica with --join first\n"
            "  remove GID ID [--no-wait]\n"
            "  replace GID ID=URL [--no-wait]   remove and add; goes on where it was interrupted\n"
            "  list GID                         who votes, who learns, how far behind\n"
            "  recover GID ID [--dry-run] [--yes] [--force]\n"
            "                                   for a group whose majority is lost for good: that\n"
            "                                   replica goes on alone; writes may be lost\n"
            "  GID 0 is the group of the controllers. They wait, 60 s or --timeout MS, until the\n"
            "  replica votes, or is gone, and the controllers list the group so.\n");
    } else if (strcmp(verb->name, "pipe") == 0) {
        printf("  {\"id\":1,\"op\":\"put\",\"key\":\"k\",\"arg\":\"v\"} -> "
               "{\"id\":1,\"ok\":true,\"out\":null}\n"
               "  See shardkv-cli(1) for all operations.\n");
    } else if (strcmp(verb->name, "bench") == 0) {
        printf("  --op put|get|append|mixed  --read-ratio 0.95  --clients 64  --connections 1\n"
               "  --key-bytes 16  --value-bytes 256  --keys 100000  --seconds 5 | --ops N\n"
               "  --rate OPS  --fill\n");
    }
    return CLI_DONE;
}

/* ---- Running ---- */

int cli_run(struct cli *cli, int argc, char **argv)
{
    const struct cli_verb *verb = cli_find_verb(argv[0]);

    if (verb == NULL) {
        fprintf(stderr,
                "shardkv-cli: no such %s: ", strncmp(argv[0], "--", 2) == 0 ? "option" : "verb");
        cli_print_subject(stderr, argv[0]);
        fprintf(stderr, " (see shardkv-cli help)\n");
        return CLI_USAGE;
    }
    if (cli_take_flag(&argc, argv, "--help")) {
        char *name = (char *)verb->name;
        return cli_help(cli, 1, &name);
    }
    cli->is_read = verb->is_read;
    return verb->run(cli, argc - 1, argv + 1);
}

/* Global options may stand before or after the verb; what follows "--" is never an option. wait's
 * own
 * --timeout is the same one. */
static int take_globals(struct cli *cli, int *argc, char **argv)
{
    static const char *const names[] = {"--ctrlers", "--prefer", "--tls-cert",
                                        "--tls-key", "--tls-ca", "--timeout"};
    const char *values[6] = {NULL};
    bool missing = false;
    uint64_t timeout_ms = 5000;

    for (int i = 0; i < 6; i++) {
        values[i] = cli_take_option(argc, argv, names[i], &missing);
        if (missing) {
            fprintf(stderr, "shardkv-cli: %s needs a value\n", names[i]);
            return CLI_USAGE;
        }
    }
    cli->json = cli_take_flag(argc, argv, "--json");
    cli->ctrlers = values[0] != NULL ? values[0] : getenv("SHARDKV_CTRLERS");
    cli->prefer = values[1];
    cli->tls_cert = values[2] != NULL ? values[2] : getenv("SHARDKV_TLS_CERT");
    cli->tls_key = values[3] != NULL ? values[3] : getenv("SHARDKV_TLS_KEY");
    cli->tls_ca = values[4] != NULL ? values[4] : getenv("SHARDKV_TLS_CA");
    cli->timeout_given = values[5] != NULL;
    if (values[5] != NULL && !cli_number(values[5], 1, 86400000, &timeout_ms)) {
        fprintf(stderr, "shardkv-cli: --timeout must be a number of milliseconds from 1\n");
        return CLI_USAGE;
    }
    cli->timeout_ms = (uint32_t)timeout_ms;
    return -1;
}

/* The exit code, now that all is printed. Without its result a read has failed; a change was made
 * all the same. */
static int end_output(const struct cli *cli, int code)
{
    bool failed_before = ferror(stdout) != 0; /* in a flush whose error nobody looked at */

    if (fflush(stdout) == 0 && !failed_before) {
        return code;
    }
    fprintf(stderr, "shardkv-cli: standard output: %s\n",
            failed_before ? "it can't be written" : strerror(errno));
    if (code == CLI_DONE) {
        return cli->is_read ? CLI_REFUSED : CLI_UNKNOWN;
    }
    return code;
}

int main(int argc, char **argv)
{
    struct cli cli = {0};
    int code;

    argc--, argv++;
    code = take_globals(&cli, &argc, argv);
    if (code >= 0) {
        return code;
    }
    if (argc > 0 && strcmp(argv[0], "--version") == 0) {
        return cli_version(&cli, 0, NULL);
    }
    if (argc > 0 && strcmp(argv[0], "--help") == 0) {
        return cli_help(&cli, 0, NULL);
    }
    if (argc == 0) {
        fprintf(stderr, "shardkv-cli: a verb is missing (see shardkv-cli help)\n");
        return CLI_USAGE;
    }
    code = cli_run(&cli, argc, argv);
    if (cli.kv != NULL) {
        shardkv_close(&cli.kv);
    }
    return end_output(&cli, code);
}
