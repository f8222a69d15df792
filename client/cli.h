/* shardkv-cli: what its parts share. Everything it does goes through the public library
 * (client/kv.h).
 *
 * Reading order: cli.c (options, the table of verbs), cli_print.c (bytes as text and as JSON),
 * cli_verbs.c, cli_admin.c, cli_group.c, cli_replica.c, cli_recover.c, cli_survey.c, cli_dry_run.c,
 * cli_moves.c, cli_status.c with cli_progress.c, then cli_pipe.c with cli_request.c, cli_bench.c
 * with cli_bench_run.c and cli_histogram.c, and cli_shell.c.
 */
#ifndef CLIENT_CLI_H
#define CLIENT_CLI_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "client/kv.h"

enum {
    CLI_DONE = 0,
    CLI_NEGATIVE = 1, /* no such key, cas did not match */
    CLI_USAGE = 2,
    CLI_REFUSED = 3, /* refused or unavailable: certainly not applied; and every failed read */
    CLI_UNKNOWN = 4  /* a change was sent and not answered in time, or made and not seen through */
};

#define CLI_MAX_VALUE (16u << 20)
#define CLI_MAX_KEY   4096u

struct cli {
    const char *ctrlers, *prefer;
    const char *tls_cert, *tls_key, *tls_ca;
    uint32_t timeout_ms;
    bool timeout_given;
    bool json;
    bool is_read;       /* what the verb at work does changes nothing */
    struct shardkv *kv; /* opened when first needed: cli_open */
};

/* One verb. run gets the arguments after the verb's name. */
struct cli_verb {
    const char *name;
    const char *arguments; /* for the usage line */
    const char *help;
    int (*run)(struct cli *cli, int argc, char **argv);
    bool is_read; /* changes nothing, whatever its arguments */
};
const struct cli_verb *cli_find_verb(const char *name);
const struct cli_verb *cli_verbs(size_t *n);

/* Runs one verb, argv[0], with its arguments, whose number it checks. Returns the exit code. */
int cli_run(struct cli *cli, int argc, char **argv);

/* The handle; NULL after a message on stderr. */
struct shardkv *cli_open(struct cli *cli);
/* One more handle with the same options, for who needs several; release it with shardkv_close. */
struct shardkv *cli_open_another(const struct cli *cli);
/* One line on stderr: what failed and why. Returns CLI_USAGE. */
int cli_usage_error(const char *verb, const char *what);
/* One line on stderr about a result that is not OK; the exit code that it means for a read
 * (is_read) or a change. */
int cli_failed(const char *verb, const char *subject, const struct shardkv_result *result,
               bool is_read);
/* The end of a change of the configuration: prints its number or what failed, releases the result.
 * Returns the exit code. */
int cli_end_change(struct cli *cli, const char *verb, const char *subject,
                   struct shardkv_result *result);
/* A decimal number in [low, high]; false if the text is none. */
bool cli_number(const char *text, uint64_t low, uint64_t high, uint64_t *number);
/* Takes "--name VALUE" or "--name=VALUE" out of the arguments, all of them: the last one counts.
 * NULL if there is none; *missing if one has no value. What follows "--" is never an option. */
const char *cli_take_option(int *argc, char **argv, const char *name, bool *missing);
/* Takes "--name" out of the arguments. */
bool cli_take_flag(int *argc, char **argv, const char *name);
/* Says which argument begins with -- and is not known; NULL if none does. */
const char *cli_unknown_option(int argc, char **argv);

/* The monotonic clock (cli_time.c). */
uint64_t cli_now_ns(void);
uint64_t cli_now_ms(void);

/* ---- Printing (cli_print.c) ---- */

/* Bytes for people: valid UTF-8 that is printable stays, the rest is escaped (\n \t \r \\ \xHH). */
void cli_print_text(FILE *file, struct shardkv_bytes bytes);
/* What a message is about, a key for instance: the same, the empty one in quotes, cut if long. */
void cli_print_subject(FILE *file, const char *subject);
/* A JSON string if the bytes are UTF-8 without NUL, else {"base64":"…"}. A new reference. */
json_t *cli_json_bytes(struct shardkv_bytes bytes);
/* The bytes of a JSON string or {"base64":"…"}: *data is malloc'ed. False if it is neither. */
bool cli_json_to_bytes(const json_t *json, void **data, size_t *len);
/* One JSON document and a newline on stdout, flushed; releases the reference. */
void cli_print_json(json_t *json);
/* The same where it repeats what somebody else gave: without rounding. */
void cli_echo_json(json_t *json);

json_t *cli_config_json(const struct shardkv_config *config);
/* A row of `status`; node NULL: it is down. */
json_t *cli_node_json(uint32_t gid, uint32_t id, const char *url, const struct shardkv_node *node);
/* A group's replicas as one of them tells; heard_ms is null for who was never heard from. */
json_t *cli_members_json(const struct shardkv_members *members);
const char *cli_role_name(uint32_t role);
const char *cli_shard_state_name(uint32_t state);
const char *cli_move_phase_name(uint32_t phase);

/* ---- Verbs ---- */

int cli_get(struct cli *cli, int argc, char **argv);
int cli_put(struct cli *cli, int argc, char **argv);
int cli_append(struct cli *cli, int argc, char **argv);
int cli_del(struct cli *cli, int argc, char **argv);
int cli_cas(struct cli *cli, int argc, char **argv);
int cli_scan(struct cli *cli, int argc, char **argv);
int cli_config(struct cli *cli, int argc, char **argv);
int cli_join(struct cli *cli, int argc, char **argv);
int cli_leave(struct cli *cli, int argc, char **argv);
int cli_move(struct cli *cli, int argc, char **argv);
int cli_moves(struct cli *cli, int argc, char **argv);
int cli_transfer(struct cli *cli, int argc, char **argv);
int cli_replica(struct cli *cli, int argc, char **argv);
int cli_status(struct cli *cli, int argc, char **argv);
int cli_wait(struct cli *cli, int argc, char **argv);
int cli_pipe(struct cli *cli, int argc, char **argv);
int cli_bench(struct cli *cli, int argc, char **argv);
int cli_shell(struct cli *cli, int argc, char **argv);

#endif
