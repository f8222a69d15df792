/* Splitting of lines with quotes; see cli_words.h. A word never gets longer than it was written, so
 * it is written back over the line behind the reader. */
#include "client/cli_words.h"

#include <stdbool.h>
#include <string.h>

struct splitter {
    const char *from;
    char *to;
    const char *wrong;
};

static int hex_digit(char c)
{
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

/* What follows a backslash within "...". */
static void take_escape(struct splitter *splitter)
{
    char c = *splitter->from++;
    int high, low;

    switch (c) {
    case 'n':
        *splitter->to++ = '\n';
        return;
    case 't':
        *splitter->to++ = '\t';
        return;
    case 'r':
        *splitter->to++ = '\r';
        return;
    case '"':
    case '\\':
        *splitter->to++ = c;
        return;
    case 'x':
        high = hex_digit(splitter->from[0]);
        low = high < 0 ? -1 : hex_digit(splitter->from[1]);
        if (low < 0) {
            splitter->wrong = "\\x needs two hexadecimal digits";
        } else if (high == 0 && low == 0) {
            splitter->wrong = "\\x00 can't be typed here; use pipe, or put KEY - ";
        } else {
            *splitter->to++ = (char)(high << 4 | low);
            splitter->from += 2;
        }
        return;
    default:
        splitter->wrong = "within \"...\" only \\n \\t \\r \\\\ \\\" and \\xHH are known";
    }
}

static void take_quoted(struct splitter *splitter)
{
    char quote = *splitter->from++;

    while (splitter->wrong == NULL && *splitter->from != quote) {
        if (*splitter->from == '\0') {
            splitter->wrong = "a quote is not closed";
        } else if (*splitter->from == '\\' && quote == '"') {
            splitter->from++;
            take_escape(splitter);
        } else {
            *splitter->to++ = *splitter->from++;
        }
    }
    splitter->from++;
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

static void take_word(struct splitter *splitter)
{
    while (splitter->wrong == NULL && *splitter->from != '\0' && !is_blank(*splitter->from)) {
        if (*splitter->from == '"' || *splitter->from == '\'') {
            take_quoted(splitter);
            continue;
        }
        if (*splitter->from == '\\' && splitter->from[1] != '\0') {
            splitter->from++;
        }
        *splitter->to++ = *splitter->from++;
    }
}

int words_split(char *line, char *words[WORDS_MAX + 1], const char **wrong)
{
    struct splitter splitter = {line, line, NULL};
    int n = 0;

    for (;;) {
        bool at_end;

        while (is_blank(*splitter.from)) {
            splitter.from++;
        }
        if (*splitter.from == '\0') {
            words[n] = NULL;
            return n;
        }
        if (n == WORDS_MAX) {
            *wrong = "too many words";
            return -1;
        }
        words[n++] = splitter.to;
        take_word(&splitter);
        if (splitter.wrong != NULL) {
            *wrong = splitter.wrong;
            return -1;
        }
        /* The end of the word may lie on the blank that ends it: look first, then write. */
        at_end = *splitter.from == '\0';
        splitter.from += !at_end;
        *splitter.to++ = '\0';
        if (at_end) {
            words[n] = NULL;
            return n;
        }
    }
}
