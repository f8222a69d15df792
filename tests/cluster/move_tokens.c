/* Tokens: clients that append, each one after the other, a token that nobody else appends. In the
 * end every acknowledged one must be there once and in its client's order, one of unknown end once
 * at most, and none that was refused.
 *
 * A token is "CLIENT.NUMBER;". Two clients share a key, and go on to the next one after some
 * tokens, so that values stay small. */
#include <stdlib.h>
#include <string.h>

#include "tests/cluster/move_load.h"

#define TOKENS_PER_KEY    256
#define TOKEN_INTERVAL_NS UINT64_C(20000000)

struct token_client {
    struct load *load;
    uint32_t number;
    pthread_t thread;
    /* Of the thread, until it has ended: how each token ended, and later how often it was seen. */
    uint8_t *ends;
    uint8_t *seen;
    uint32_t n, room;
    int64_t last_seen;
    _Atomic bool stopping;
};

static size_t token_key(const struct load *load, uint32_t client, uint32_t token,
                        char text[LOAD_MAX_KEY])
{
    return (size_t)snprintf(text, LOAD_MAX_KEY, "{m%u}tokens-%u-%u",
                            (unsigned)load->lanes[LOAD_MOVING].keys.tags[0], (unsigned)client / 2,
                            (unsigned)token / TOKENS_PER_KEY);
}

static void client_append(struct token_client *client, uint64_t due_ns)
{
    struct load *load = client->load;
    char key[LOAD_MAX_KEY], token[32];
    struct shardkv_result *result = NULL;
    struct shardkv_bytes key_bytes = {key, token_key(load, client->number, client->n, key)};
    struct shardkv_bytes value = {token, 0};
    int code;

    value.len = (size_t)snprintf(token, sizeof(token), "%u.%u;", (unsigned)client->number,
                                 (unsigned)client->n);
    code = shardkv_append(load->token_kv, key_bytes, value, 0, &result);
    if (client->n == client->room) {
        client->room = client->room == 0 ? 1024 : client->room * 2;
        client->ends = realloc(client->ends, client->room);
        if (client->ends == NULL) {
            load_die("out of memory");
        }
    }
    client->ends[client->n++] = (uint8_t)load_end_of(code);
    if (code != SHARDKV_OK) {
        failures_add(&load->failures, due_ns, LOAD_TOKENS, LOAD_PUT, result, code);
    }
    records_add(&load->token_records, due_ns, cli_now_ns(), LOAD_PUT, load_end_of(code));
    shardkv_result_free(result);
}

static void *client_run(void *context)
{
    struct token_client *client = context;

    while (!atomic_load(&client->stopping)) {
        uint64_t due_ns = cli_now_ns();

        client_append(client, due_ns);
        load_sleep_until(due_ns + TOKEN_INTERVAL_NS);
    }
    return NULL;
}

void tokens_start(struct load *load)
{
    load->token_clients = load_allocate(load->options.tokens, sizeof(*load->token_clients));
    for (uint32_t i = 0; i < load->options.tokens; i++) {
        struct token_client *client = &load->token_clients[i];

        client->load = load;
        client->number = i;
        if (pthread_create(&client->thread, NULL, client_run, client) != 0) {
            load_die("no thread for tokens");
        }
    }
}

void tokens_stop(struct load *load)
{
    if (load->token_clients == NULL) {
        return;
    }
    for (uint32_t i = 0; i < load->options.tokens; i++) {
        atomic_store(&load->token_clients[i].stopping, true);
    }
    for (uint32_t i = 0; i < load->options.tokens; i++) {
        pthread_join(load->token_clients[i].thread, NULL);
    }
}

/* ---- The end ---- */

/* Takes "CLIENT.NUMBER;" from the text. False: it does not begin so. */
static bool take_token(const char **text, const char *end, uint32_t *client, uint32_t *number)
{
    uint32_t *fields[] = {client, number};
    const char ends[] = {'.', ';'};

    for (size_t i = 0; i < 2; i++) {
        uint64_t value = 0;
        const char *from = *text;

        while (*text < end && **text >= '0' && **text <= '9' && value <= UINT32_MAX) {
            value = value * 10 + (uint64_t)(*(*text)++ - '0');
        }
        if (*text == from || *text == end || **text != ends[i]) {
            return false;
        }
        (*text)++;
        *fields[i] = (uint32_t)value;
    }
    return true;
}

/* One token that is there: known, of this key, and after those of its client before it? */
static void see_token(struct load *load, uint32_t first_client, uint32_t chunk, uint32_t number,
                      uint32_t token)
{
    struct token_client *client;

    if (number >= load->options.tokens || number / 2 != first_client / 2 ||
        token >= load->token_clients[number].n || token / TOKENS_PER_KEY != chunk) {
        load->tokens_strange++;
        return;
    }
    client = &load->token_clients[number];
    client->seen[token] += client->seen[token] < 255;
    if (client->ends[token] == LOAD_OK) {
        /* One of unknown end may come late. */
        load->tokens_unordered += (int64_t)token <= client->last_seen;
        client->last_seen = token;
    }
}

static void read_tokens(struct load *load, uint32_t first_client, uint32_t chunk)
{
    char key[LOAD_MAX_KEY];
    struct shardkv_bytes bytes = {key, token_key(load, first_client, chunk * TOKENS_PER_KEY, key)};
    struct shardkv_result *result = NULL;
    int code = SHARDKV_UNAVAILABLE;

    for (int tries = 0; tries < 5 && code != SHARDKV_OK && code != SHARDKV_NOT_FOUND; tries++) {
        shardkv_result_free(result);
        code = shardkv_get(load->token_kv, bytes, 10000, &result);
    }
    if (code != SHARDKV_OK && code != SHARDKV_NOT_FOUND) {
        fprintf(stderr, "move_load: %s can't be read: %s\n", key, result->message);
        load->keys_unread++;
    } else if (code == SHARDKV_OK) {
        const char *text = result->value.data, *end = text + result->value.len;

        while (text < end) {
            uint32_t number, token;

            if (!take_token(&text, end, &number, &token)) {
                load->tokens_strange++;
                break;
            }
            see_token(load, first_client, chunk, number, token);
        }
    }
    shardkv_result_free(result);
}

static void count_client(struct load *load, const struct token_client *client)
{
    for (uint32_t i = 0; i < client->n; i++) {
        load->tokens_acked += client->ends[i] == LOAD_OK;
        load->tokens_missing += client->ends[i] == LOAD_OK && client->seen[i] == 0;
        load->tokens_twice += client->seen[i] > 1;
        load->tokens_refused_there += client->ends[i] == LOAD_ERROR && client->seen[i] > 0;
    }
}

void tokens_check(struct load *load)
{
    load->tokens_acked = load->tokens_missing = load->tokens_twice = load->tokens_unordered = 0;
    load->tokens_refused_there = load->tokens_strange = 0;
    if (load->token_clients == NULL) {
        return;
    }
    for (uint32_t i = 0; i < load->options.tokens; i++) {
        struct token_client *client = &load->token_clients[i];

        free(client->seen);
        client->seen = load_allocate(client->n + 1, 1);
        client->last_seen = -1;
    }
    for (uint32_t i = 0; i < load->options.tokens; i += 2) {
        uint32_t most = load->token_clients[i].n;

        if (i + 1 < load->options.tokens && load->token_clients[i + 1].n > most) {
            most = load->token_clients[i + 1].n;
        }
        for (uint32_t chunk = 0; chunk * TOKENS_PER_KEY <= most; chunk++) {
            read_tokens(load, i, chunk);
        }
    }
    for (uint32_t i = 0; i < load->options.tokens; i++) {
        count_client(load, &load->token_clients[i]);
    }
}

void tokens_fini(struct load *load)
{
    for (uint32_t i = 0; load->token_clients != NULL && i < load->options.tokens; i++) {
        free(load->token_clients[i].ends);
        free(load->token_clients[i].seen);
    }
    free(load->token_clients);
}
