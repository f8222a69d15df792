/* Bytes as text for people and as JSON for programs. */
#include <mbedtls/base64.h>
#include <stdlib.h>
#include <string.h>

#include "client/cli.h"

/* The length of the valid UTF-8 sequence at `at`, 0 if there is none (RFC 3629: no overlong forms,
 * no surrogates, at most U+10FFFF). */
static size_t utf8_sequence(const uint8_t *at, size_t left)
{
    size_t len = at[0] < 0x80             ? 1
                 : (at[0] & 0xe0) == 0xc0 ? 2
                 : (at[0] & 0xf0) == 0xe0 ? 3
                 : (at[0] & 0xf8) == 0xf0 ? 4
                                          : 0;
    uint32_t point;

    if (len == 0 || len > left) {
        return 0;
    }
    point = len == 1 ? at[0] : at[0] & (0x7fu >> len);
    for (size_t i = 1; i < len; i++) {
        if ((at[i] & 0xc0) != 0x80) {
            return 0;
        }
        point = point << 6 | (at[i] & 0x3fu);
    }
    if ((len == 2 && point < 0x80) || (len == 3 && point < 0x800) ||
        (len == 4 && point < 0x10000) || (point >= 0xd800 && point <= 0xdfff) || point > 0x10ffff) {
        return 0;
    }
    return len;
}

static void print_escaped(FILE *file, uint8_t byte)
{
    switch (byte) {
    case '\n':
        fputs("\\n", file);
        break;
    case '\t':
        fputs("\\t", file);
        break;
    case '\r':
        fputs("\\r", file);
        break;
    case '\\':
        fputs("\\\\", file);
        break;
    default:
        fprintf(file, "\\x%02x", byte);
    }
}

void cli_print_text(FILE *file, struct shardkv_bytes bytes)
{
    const uint8_t *at = bytes.data;
    size_t left = bytes.len;

    while (left > 0) {
        size_t len = utf8_sequence(at, left);
        bool control = len == 1 && (at[0] < 0x20 || at[0] == 0x7f);
        bool high_control = len == 2 && at[0] == 0xc2 && at[1] < 0xa0;

        if (len == 0 || control || high_control || (len == 1 && at[0] == '\\')) {
            len = len == 2 ? 2 : 1;
            for (size_t i = 0; i < len; i++) {
                print_escaped(file, at[i]);
            }
        } else {
            fwrite(at, 1, len, file);
        }
        at += len;
        left -= len;
    }
}

#define SUBJECT_MAX 80u

void cli_print_subject(FILE *file, const char *subject)
{
    size_t len = strlen(subject);

    if (len == 0) {
        fputs("\"\"", file);
    }
    cli_print_text(file, (struct shardkv_bytes){subject, len < SUBJECT_MAX ? len : SUBJECT_MAX});
    if (len > SUBJECT_MAX) {
        fprintf(file, "... (%zu bytes)", len);
    }
}

static bool is_text(struct shardkv_bytes bytes)
{
    const uint8_t *at = bytes.data;
    size_t left = bytes.len;

    while (left > 0) {
        size_t len = utf8_sequence(at, left);
        if (len == 0 || at[0] == 0) {
            return false;
        }
        at += len;
        left -= len;
    }
    return true;
}

json_t *cli_json_bytes(struct shardkv_bytes bytes)
{
    unsigned char *text;
    size_t len = 0;
    json_t *json;

    if (is_text(bytes)) {
        return json_stringn(bytes.len > 0 ? bytes.data : "", bytes.len);
    }
    text = malloc(bytes.len / 3 * 4 + 8);
    if (text == NULL ||
        mbedtls_base64_encode(text, bytes.len / 3 * 4 + 8, &len, bytes.data, bytes.len) != 0) {
        abort();
    }
    json = json_pack("{s:s%}", "base64", (const char *)text, len);
    free(text);
    return json;
}

/* mbedtls drops an incomplete group at the end, and spaces, without a word: what is not the one
 * right form is refused. */
static bool decode_base64(const char *text, size_t text_len, void *data, size_t capacity,
                          size_t *len)
{
    size_t padding = text_len < 2 ? 0 : (text[text_len - 1] == '=') + (text[text_len - 2] == '=');

    return text_len % 4 == 0 &&
           mbedtls_base64_decode(data, capacity, len, (const unsigned char *)text, text_len) == 0 &&
           *len == text_len / 4 * 3 - padding;
}

bool cli_json_to_bytes(const json_t *json, void **data, size_t *len)
{
    const json_t *base64 = json_object_get(json, "base64");
    const json_t *source = json_is_string(json) ? json : base64;
    const char *text = json_string_value(source);
    size_t text_len = json_string_length(source);

    if (text == NULL || (source == base64 && text_len % 4 != 0)) {
        return false;
    }
    *data = malloc(text_len + 1);
    if (*data == NULL) {
        abort();
    }
    if (source == json) {
        *len = text_len;
        memcpy(*data, text, text_len);
        return true;
    }
    if (!decode_base64(text, text_len, *data, text_len + 1, len)) {
        free(*data);
        return false;
    }
    return true;
}

static void print_json(json_t *json, size_t digits)
{
    json_dumpf(json, stdout, JSON_COMPACT | JSON_ENCODE_ANY | JSON_REAL_PRECISION(digits));
    fputc('\n', stdout);
    fflush(stdout);
    json_decref(json);
}

void cli_print_json(json_t *json)
{
    print_json(json, 15); /* 0.1 is 0.1 */
}

void cli_echo_json(json_t *json)
{
    print_json(json, 17); /* a real number stays what it was to the last bit */
}

/* ---- Documents ---- */

json_t *cli_config_json(const struct shardkv_config *config)
{
    json_t *shards = json_array(), *groups = json_object();

    for (uint32_t s = 0; s < config->n_shards; s++) {
        json_array_append_new(shards, json_integer(config->shards[s]));
    }
    for (size_t g = 0; g < config->n_groups; g++) {
        const struct shardkv_group *group = &config->groups[g];
        json_t *replicas = json_object();
        char name[16];

        for (size_t i = 0; i < group->n_replicas; i++) {
            snprintf(name, sizeof(name), "%u", group->replicas[i].id);
            json_object_set_new(replicas, name, json_string(group->replicas[i].url));
        }
        snprintf(name, sizeof(name), "%u", group->gid);
        if (group->member) {
            json_object_set_new(groups, name, replicas);
        } else {
            json_decref(replicas);
        }
    }
    return json_pack("{s:I,s:o,s:o,s:b}", "num", (json_int_t)config->num, "shards", shards,
                     "groups", groups, "moves_paused", (int)config->moves_paused);
}

const char *cli_role_name(uint32_t role)
{
    switch (role) {
    case SHARDKV_LEADER:
        return "leader";
    case SHARDKV_FOLLOWER:
        return "follower";
    case SHARDKV_LEARNER:
        return "learner";
    default:
        return "candidate";
    }
}

const char *cli_shard_state_name(uint32_t state)
{
    static const char *const names[] = {"absent",  "serving", "pulling",
                                        "waiting", "frozen",  "dropping"};
    return state < sizeof(names) / sizeof(names[0]) ? names[state] : "?";
}

const char *cli_move_phase_name(uint32_t phase)
{
    static const char *const names[] = {"waiting",      "copying",    "catching-up",
                                        "handing-over", "letting-go", "done"};
    return phase < sizeof(names) / sizeof(names[0]) ? names[phase] : "?";
}

static void set_integer(json_t *object, const char *name, uint64_t value)
{
    json_object_set_new(object, name, json_integer((json_int_t)value));
}

json_t *cli_node_json(uint32_t gid, uint32_t id, const char *url, const struct shardkv_node *node)
{
    json_t *row = json_object();

    set_integer(row, "gid", gid);
    set_integer(row, "id", id);
    json_object_set_new(row, "url", json_string(url));
    json_object_set_new(row, "up", json_boolean(node != NULL));
    if (node == NULL) {
        return row;
    }
    json_object_set_new(row, "role", json_string(cli_role_name(node->role)));
    set_integer(row, "term", node->term);
    set_integer(row, "leader", node->leader);
    set_integer(row, "first_index", node->first_index);
    set_integer(row, "last_index", node->last_index);
    set_integer(row, "commit_index", node->commit_index);
    set_integer(row, "applied_index", node->applied_index);
    set_integer(row, "snapshot_index", node->snapshot_index);
    set_integer(row, "db_bytes", node->db_bytes);
    set_integer(row, "log_bytes", node->log_bytes);
    set_integer(row, "uptime_s", node->uptime_s);
    set_integer(row, "config", node->config);
    json_object_set_new(row, "ready", json_boolean(node->ready));
    json_object_set_new(row, "read_only", json_boolean(node->read_only));
    json_object_set_new(row, "version", json_string(node->version));
    return row;
}
