/* Stanzas to records; see packages_index.h. */
#include "client/packages_index.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <uthash.h>

struct text {
    const char *data;
    size_t len;
};

/* The keys so far, so that the second of a name is known. */
struct known {
    const char *key;
    size_t record;
    UT_hash_handle hh;
};

struct parsing {
    struct packages_index *index;
    struct known *known;
    size_t capacity;
};

/* The value of a field, which must begin a line; an empty text if there is none. */
static struct text find_field(struct text stanza, const char *name)
{
    size_t name_len = strlen(name);
    const char *at = stanza.data, *end = stanza.data + stanza.len;

    while (at < end) {
        const char *line_end = memchr(at, '\n', (size_t)(end - at));
        line_end = line_end != NULL ? line_end : end;
        if ((size_t)(line_end - at) > name_len && memcmp(at, name, name_len) == 0 &&
            at[name_len] == ':') {
            at += name_len + 1;
            while (at < line_end && *at == ' ') {
                at++;
            }
            while (line_end > at && (line_end[-1] == ' ' || line_end[-1] == '\r')) {
                line_end--;
            }
            return (struct text){at, (size_t)(line_end - at)};
        }
        at = line_end + 1;
    }
    return (struct text){"", 0};
}

static void add(struct parsing *parsing, const char *key, struct text stanza)
{
    struct packages_index *index = parsing->index;
    struct known *known = malloc(sizeof(*known));

    if (index->n == parsing->capacity) {
        parsing->capacity = parsing->capacity == 0 ? 1024 : parsing->capacity * 2;
        index->records = realloc(index->records, parsing->capacity * sizeof(index->records[0]));
    }
    if (known == NULL || index->records == NULL) {
        abort();
    }
    index->records[index->n] = (struct packages_record){strdup(key), stanza.data, stanza.len};
    index->bytes += stanza.len;
    known->key = index->records[index->n].key;
    known->record = index->n++;
    HASH_ADD_KEYPTR(hh, parsing->known, known->key, strlen(known->key), known);
}

static void take_stanza(struct parsing *parsing, struct text stanza)
{
    struct text name = find_field(stanza, "Package"), version = find_field(stanza, "Version");
    char key[1024];

    if (name.len == 0 || name.len + version.len > sizeof(key) - 32) {
        return;
    }
    for (unsigned copy = 0;; copy++) {
        const struct packages_record *same;
        struct known *known;

        snprintf(key, sizeof(key), "%.*s", (int)name.len, name.data);
        if (copy > 0) {
            snprintf(key + name.len, sizeof(key) - name.len, "=%.*s", (int)version.len,
                     version.data);
        }
        if (copy > 1) {
            snprintf(key + strlen(key), 16, "#%u", copy);
        }
        HASH_FIND_STR(parsing->known, key, known);
        if (known == NULL) {
            add(parsing, key, stanza);
            return;
        }
        same = &parsing->index->records[known->record];
        if (same->value_len == stanza.len && memcmp(same->value, stanza.data, stanza.len) == 0) {
            return;
        }
    }
}

/* The next stanza: up to an empty line. False at the end. */
static bool next_stanza(struct text *left, struct text *stanza)
{
    const char *end;

    while (left->len > 0 && *left->data == '\n') {
        left->data++;
        left->len--;
    }
    end = left->len > 0 ? memmem(left->data, left->len, "\n\n", 2) : NULL;
    stanza->data = left->data;
    stanza->len = end != NULL ? (size_t)(end - left->data) : left->len;
    left->data += stanza->len;
    left->len -= stanza->len;
    if (stanza->len > 0 && stanza->data[stanza->len - 1] == '\n') {
        stanza->len--;
    }
    return stanza->len > 0;
}

void packages_index_parse(struct packages_index *index, const char *text, size_t len, size_t limit)
{
    struct parsing parsing = {.index = index};
    struct text left = {text, len}, stanza;
    struct known *known, *next;

    *index = (struct packages_index){0};
    while ((limit == 0 || index->n < limit) && next_stanza(&left, &stanza)) {
        take_stanza(&parsing, stanza);
    }
    HASH_ITER (hh, parsing.known, known, next) {
        HASH_DEL(parsing.known, known);
        free(known);
    }
}

void packages_index_fini(struct packages_index *index)
{
    for (size_t i = 0; i < index->n; i++) {
        free(index->records[i].key);
    }
    free(index->records);
    *index = (struct packages_index){0};
}
