/* See fail_history.h; the lines are described in fail_record.c. */
#include "tests/cluster/fail_history.h"

#include <stdlib.h>
#include <string.h>

#include <uthash.h>

#include "raft/util/mem.h"

#define N_FIELDS  11
#define MAX_LINES 12 /* of explanation, on tokens */

enum { TYPE, KEY, CLIENT, OUTCOME, START, END, ARG, EXPECT, VALUE, VERSION, OUTPUT };

struct token {
    UT_hash_handle hh;
    char *name; /* its text, as appended */
    uint64_t client, start_us;
    enum history_outcome outcome;
    uint32_t seen;
};

/* A key of registers or tokens, by name. */
struct key {
    UT_hash_handle hh;
    char *name;
    size_t number;
    struct token *tokens;
    char *final; /* what the end found there; NULL: it was not read */
};

struct judge {
    struct key *keys;
    struct history_operation *operations;
    size_t n, capacity;
    struct fail_verdict *verdict;
    struct buf *text;
    uint32_t n_lines;
};

static void say(struct judge *judge, const char *what, const struct key *key, const char *token)
{
    if (judge->n_lines++ < MAX_LINES) {
        buf_printf(judge->text, "key %s: token %s %s\n", key->name, token, what);
    }
}

static struct key *key_of(struct judge *judge, const char *name)
{
    struct key *key;

    HASH_FIND_STR(judge->keys, name, key);
    if (key == NULL) {
        key = mem_zalloc(sizeof(*key));
        key->name = strdup(name);
        key->number = HASH_COUNT(judge->keys);
        HASH_ADD_KEYPTR(hh, judge->keys, key->name, strlen(key->name), key);
    }
    return key;
}

/* ---- Lines ---- */

static const char *const type_names[] = {"get", "put", "append", "delete", "cas"};
static const char *const outcome_names[] = {"",         "ok",      "not-found",
                                            "mismatch", "refused", "unknown"};

static size_t index_of(const char *const *names, size_t n, const char *name)
{
    size_t i = 0;

    while (i < n && strcmp(names[i], name) != 0) {
        i++;
    }
    return i;
}

/* "-" stands for nothing. */
static struct slice slice_of_field(const char *field)
{
    return strcmp(field, "-") == 0 ? slice_of(NULL, 0) : slice_of(strdup(field), strlen(field));
}

static void add_operation(struct judge *judge, char **fields, enum history_outcome outcome)
{
    size_t type = index_of(type_names, 5, fields[TYPE]);
    struct history_operation *operation;

    if (type == 5) {
        judge->verdict->malformed++;
        return;
    }
    MEM_GROW(judge->operations, judge->capacity, judge->n + 1);
    operation = &judge->operations[judge->n++];
    *operation = (struct history_operation){.key = key_of(judge, fields[KEY])->number,
                                            .client = strtoull(fields[CLIENT], NULL, 10),
                                            .type = (enum history_type)type,
                                            .outcome = outcome,
                                            .argument = slice_of_field(fields[ARG]),
                                            .value = slice_of_field(fields[VALUE]),
                                            .version = strtoull(fields[VERSION], NULL, 10),
                                            .output = (uint32_t)strtoul(fields[OUTPUT], NULL, 10),
                                            .start_us = strtoull(fields[START], NULL, 10),
                                            .end_us = strtoull(fields[END], NULL, 10)};
    if (type == HISTORY_CAS) {
        operation->condition.type = strcmp(fields[EXPECT], "-") == 0 ? KV_IF_ABSENT : KV_IF_VALUE;
        operation->condition.value = slice_of_field(fields[EXPECT]);
    }
}

static void add_token(struct judge *judge, char **fields, enum history_outcome outcome)
{
    struct key *key = key_of(judge, fields[KEY]);
    struct token *token;

    HASH_FIND_STR(key->tokens, fields[ARG], token);
    if (token != NULL) {
        judge->verdict->malformed++; /* nobody appends a token twice */
        return;
    }
    token = mem_zalloc(sizeof(*token));
    token->name = strdup(fields[ARG]);
    token->client = strtoull(fields[CLIENT], NULL, 10);
    token->start_us = strtoull(fields[START], NULL, 10);
    token->outcome = outcome;
    HASH_ADD_KEYPTR(hh, key->tokens, token->name, strlen(token->name), token);
}

static void read_line(struct judge *judge, char *line)
{
    struct fail_verdict *verdict = judge->verdict;
    char *fields[N_FIELDS], *rest = line;
    enum history_outcome outcome;
    size_t n = 0;

    line[strcspn(line, "\n")] = '\0';
    while (n < N_FIELDS && rest != NULL) {
        fields[n++] = strsep(&rest, "\t");
    }
    if (n < N_FIELDS || rest != NULL) {
        verdict->malformed++;
        return;
    }
    if (strcmp(fields[TYPE], "tokens") == 0) {
        if (strcmp(fields[OUTCOME], "ok") == 0) {
            struct key *key = key_of(judge, fields[KEY]);

            free(key->final);
            key->final = strdup(strcmp(fields[VALUE], "-") == 0 ? "" : fields[VALUE]);
        }
        return;
    }
    verdict->operations++;
    outcome = (enum history_outcome)index_of(outcome_names, 6, fields[OUTCOME]);
    if (outcome == 6 || outcome == HISTORY_PENDING) {
        verdict->bad++;
        buf_printf(judge->text, "client %s: %s of %s ended as it never must\n", fields[CLIENT],
                   fields[TYPE], fields[KEY]);
        outcome = HISTORY_UNKNOWN;
    }
    verdict->unknown += outcome == HISTORY_UNKNOWN;
    verdict->refused += outcome == HISTORY_REFUSED;
    if (strcmp(fields[TYPE], "token") == 0) {
        add_token(judge, fields, outcome);
    } else {
        add_operation(judge, fields, outcome);
    }
}

/* ---- Tokens ---- */

/* Acknowledged tokens in the order that they stand there must be in each client's own order. */
struct last_seen {
    uint64_t client, start_us;
};

static void check_order(struct judge *judge, const struct key *key, struct token **order, size_t n)
{
    struct last_seen *last = mem_zalloc((n + 1) * sizeof(*last));
    size_t n_last = 0;

    for (size_t i = 0; i < n; i++) {
        size_t c = 0;

        if (order[i]->outcome != HISTORY_OK) {
            continue; /* one of unknown end may come late */
        }
        while (c < n_last && last[c].client != order[i]->client) {
            c++;
        }
        if (c == n_last) {
            last[n_last++].client = order[i]->client;
        }
        if (order[i]->start_us < last[c].start_us) {
            judge->verdict->tokens_unordered++;
            say(judge, "stands after a later one of its client", key, order[i]->name);
        }
        last[c].start_us = order[i]->start_us;
    }
    mem_free(last);
}

static void see_tokens(struct judge *judge, struct key *key)
{
    size_t n = 0, room = strlen(key->final) / 2 + 1;
    struct token **order = mem_zalloc(room * sizeof(struct token *));
    char *text = key->final;

    while (*text != '\0') {
        char *end = strchr(text, ';'), kept;
        struct token *token;

        end = end == NULL ? text + strlen(text) : end + 1;
        kept = *end;
        *end = '\0';
        HASH_FIND_STR(key->tokens, text, token);
        if (token == NULL) {
            judge->verdict->tokens_strange++;
            say(judge, "was never written", key, text);
        } else if (token->seen++ == 0) {
            order[n++] = token;
        }
        *end = kept;
        text = end;
    }
    check_order(judge, key, order, n);
    mem_free(order);
}

static void count_token(struct judge *judge, const struct key *key, const struct token *token)
{
    struct fail_verdict *verdict = judge->verdict;

    verdict->tokens_acked += token->outcome == HISTORY_OK;
    verdict->tokens_unknown += token->outcome == HISTORY_UNKNOWN;
    verdict->tokens_refused += token->outcome == HISTORY_REFUSED;
    if (key->final == NULL) {
        return;
    }
    if (token->outcome == HISTORY_OK && token->seen == 0) {
        verdict->tokens_missing++;
        say(judge, "was acknowledged and is not there", key, token->name);
    }
    if (token->seen > 1) {
        verdict->tokens_twice++;
        say(judge, "is there more than once", key, token->name);
    }
    if (token->outcome == HISTORY_REFUSED && token->seen > 0) {
        verdict->tokens_refused_there++;
        say(judge, "was refused for certain and is there", key, token->name);
    }
}

static void count_tokens(struct judge *judge)
{
    for (struct key *key = judge->keys; key != NULL; key = key->hh.next) {
        if (key->tokens == NULL) {
            continue;
        }
        if (key->final == NULL) {
            judge->verdict->keys_unread++;
        } else {
            see_tokens(judge, key);
        }
        for (struct token *token = key->tokens; token != NULL; token = token->hh.next) {
            count_token(judge, key, token);
        }
    }
}

/* ---- Registers ---- */

static int compare_operations(const void *a, const void *b)
{
    const struct history_operation *x = a, *y = b;

    return (x->start_us > y->start_us) - (x->start_us < y->start_us);
}

static void free_operation(struct history_operation *operation)
{
    free((void *)(uintptr_t)operation->argument.data);
    free((void *)(uintptr_t)operation->value.data);
    free((void *)(uintptr_t)operation->condition.value.data);
}

/* The history counts equal times in the order of its calls: they are distinct here, and operations
 * go in by their beginnings. */
static void check_registers(struct judge *judge)
{
    struct history *history = history_create();

    if (judge->n > 0) {
        qsort(judge->operations, judge->n, sizeof(*judge->operations), compare_operations);
    }
    for (size_t i = 0; i < judge->n; i++) {
        history_add(history, &judge->operations[i]);
        free_operation(&judge->operations[i]);
    }
    judge->verdict->linear = linear_check(history, 0, judge->text);
    history_destroy(&history);
}

static void free_keys(struct judge *judge)
{
    struct key *key, *next;

    HASH_ITER (hh, judge->keys, key, next) {
        struct token *token, *next_token;

        HASH_ITER (hh, key->tokens, token, next_token) {
            HASH_DEL(key->tokens, token);
            free(token->name);
            mem_free(token);
        }
        HASH_DEL(judge->keys, key);
        free(key->name);
        free(key->final);
        mem_free(key);
    }
}

void fail_judge(FILE *file, struct fail_verdict *verdict, struct buf *text)
{
    struct judge judge = {.verdict = verdict, .text = text};
    char *line = NULL;
    size_t room = 0;

    *verdict = (struct fail_verdict){0};
    while (getline(&line, &room, file) > 0) {
        read_line(&judge, line);
    }
    free(line);
    count_tokens(&judge);
    check_registers(&judge);
    free_keys(&judge);
    mem_free(judge.operations);
}

bool fail_verdict_is_good(const struct fail_verdict *verdict)
{
    return verdict->linear == LINEAR_YES && verdict->bad == 0 && verdict->malformed == 0 &&
           verdict->tokens_missing == 0 && verdict->tokens_twice == 0 &&
           verdict->tokens_unordered == 0 && verdict->tokens_refused_there == 0 &&
           verdict->tokens_strange == 0 && verdict->keys_unread == 0;
}
