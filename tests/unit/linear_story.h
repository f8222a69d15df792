/* Histories in a little language, one operation a line:
 *
 *   "0-10  c1 put a = ok"          an acknowledged put of "a" from 0 to 10 us by client 1
 *   "0-?   c1 put a = ?"           its end is not known; "= ..." has not ended
 *   "0-10  c1 put a = refused"     certainly not applied
 *   "0-10  c1 get = a v3"          read "a" at version 3;  "= -" no such key
 *   "0-10  c1 append b = 2"        the length after it
 *   "0-10  c1 delete = 1"          keys removed
 *   "0-10  c1 cas - a = ok"        put if absent;  "cas a b = mismatch" if the value is "a"
 *   "0-10  c1 k2 put a = ok"       on key 2 instead of key 1
 *
 * At equal times the line above came first. */
#ifndef TESTS_UNIT_LINEAR_STORY_H
#define TESTS_UNIT_LINEAR_STORY_H

#include <stdio.h>
#include <stdlib.h>

#include "raft/util/assert.h"
#include "tests/sim/linear.h"

#define STORY_WORDS 10

/* Words of a line; returns how many. */
static inline size_t story_words(char *line, char *words[STORY_WORDS])
{
    char *rest = NULL;
    size_t n = 0;

    for (char *word = strtok_r(line, " ", &rest); word != NULL; word = strtok_r(NULL, " ", &rest)) {
        ASSERT(n < STORY_WORDS);
        words[n++] = word;
    }
    return n;
}

static inline enum history_type story_type(const char *word)
{
    static const char *const names[] = {"get", "put", "append", "delete", "cas"};

    for (size_t i = 0; i < 5; i++) {
        if (strcmp(word, names[i]) == 0) {
            return (enum history_type)i;
        }
    }
    UNREACHABLE(word);
}

/* The words after "=". */
static inline void story_answer(struct history_operation *operation, char **words, size_t n)
{
    ASSERT(n >= 1);
    operation->outcome = HISTORY_OK;
    if (strcmp(words[0], "?") == 0) {
        operation->outcome = HISTORY_UNKNOWN;
    } else if (strcmp(words[0], "...") == 0) {
        operation->outcome = HISTORY_PENDING;
    } else if (strcmp(words[0], "refused") == 0) {
        operation->outcome = HISTORY_REFUSED;
    } else if (strcmp(words[0], "mismatch") == 0) {
        operation->outcome = HISTORY_MISMATCH;
    } else if (operation->type == HISTORY_GET && strcmp(words[0], "-") == 0) {
        operation->outcome = HISTORY_NOT_FOUND;
    } else if (operation->type == HISTORY_GET) {
        ASSERT(n == 2 && words[1][0] == 'v');
        operation->value = slice_text(words[0]);
        operation->version = strtoull(words[1] + 1, NULL, 10);
    } else if (operation->type == HISTORY_APPEND || operation->type == HISTORY_DELETE) {
        operation->output = (uint32_t)strtoul(words[0], NULL, 10);
    } else {
        ASSERT(strcmp(words[0], "ok") == 0);
    }
}

static inline void story_line(struct history *history, char *line)
{
    struct history_operation operation = {.key = 1};
    char *words[STORY_WORDS], *end;
    size_t n = story_words(line, words), at = 2;

    ASSERT(n >= 4 && words[1][0] == 'c');
    operation.start_us = strtoull(words[0], &end, 10);
    ASSERT(*end == '-');
    operation.end_us = end[1] == '?' ? operation.start_us : strtoull(end + 1, NULL, 10);
    operation.client = strtoull(words[1] + 1, NULL, 10);
    if (words[at][0] == 'k') {
        operation.key = strtoull(words[at++] + 1, NULL, 10);
    }
    operation.type = story_type(words[at++]);
    if (operation.type == HISTORY_CAS) {
        bool absent = strcmp(words[at], "-") == 0;
        operation.condition.type = absent ? KV_IF_ABSENT : KV_IF_VALUE;
        operation.condition.value = absent ? slice_of(NULL, 0) : slice_text(words[at]);
        at++;
    }
    if (operation.type != HISTORY_GET && operation.type != HISTORY_DELETE) {
        operation.argument = slice_text(words[at++]);
    }
    ASSERT(at < n && strcmp(words[at], "=") == 0);
    story_answer(&operation, words + at + 1, n - at - 1);
    history_add(history, &operation);
}

static inline struct history *story_history(const char *text)
{
    struct history *history = history_create();
    char *copy = strdup(text), *rest = NULL;

    for (char *line = strtok_r(copy, "\n", &rest); line != NULL;
         line = strtok_r(NULL, "\n", &rest)) {
        story_line(history, line);
    }
    free(copy);
    return history;
}

#endif
