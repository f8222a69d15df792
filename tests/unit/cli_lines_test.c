/* Lines from a descriptor: given one by one however they arrive, and one that is too long costs
 * neither memory nor the lines after it. */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "client/cli_lines.h"
#include "tests/cmocka.h"

/* Writes the text in pieces, from a thread of its own, so that a full pipe blocks nobody. */
struct writer {
    int fd;
    const char *text;
    size_t len, piece;
};

static void *write_pieces(void *context)
{
    struct writer *writer = context;

    for (size_t at = 0; at < writer->len;) {
        size_t n = writer->len - at < writer->piece ? writer->len - at : writer->piece;
        ssize_t wrote = write(writer->fd, writer->text + at, n);
        if (wrote <= 0) {
            break;
        }
        at += (size_t)wrote;
    }
    close(writer->fd);
    return NULL;
}

struct story {
    struct lines lines;
    struct writer writer;
    pthread_t thread;
    int fd;
};

static void begin(struct story *story, const char *text, size_t len, size_t piece, size_t max)
{
    int ends[2];

    assert_int_equal(pipe(ends), 0);
    story->fd = ends[0];
    story->writer = (struct writer){ends[1], text, len, piece};
    assert_int_equal(pthread_create(&story->thread, NULL, write_pieces, &story->writer), 0);
    lines_init(&story->lines, story->fd, max);
}

static void end(struct story *story)
{
    pthread_join(story->thread, NULL);
    close(story->fd);
    lines_fini(&story->lines);
}

static void expect_line(struct story *story, const char *text)
{
    const char *line;
    size_t len;

    assert_int_equal(lines_next(&story->lines, &line, &len), LINE_GIVEN);
    assert_int_equal(len, strlen(text));
    assert_memory_equal(line, text, len);
}

static void expect(struct story *story, enum line_kind kind)
{
    const char *line;
    size_t len;

    assert_int_equal(lines_next(&story->lines, &line, &len), kind);
}

static void lines_come_however_they_are_cut(void **state)
{
    static const char text[] = "one\n\nthree\r\n4";

    (void)state;
    for (size_t piece = 1; piece < sizeof(text); piece++) {
        struct story story;

        begin(&story, text, strlen(text), piece, 100);
        expect_line(&story, "one");
        expect_line(&story, "");
        expect_line(&story, "three\r");
        expect_line(&story, "4"); /* the last newline is missing */
        expect(&story, LINE_NONE);
        expect(&story, LINE_NONE);
        end(&story);
    }
}

static void nothing_is_no_line(void **state)
{
    struct story story;

    (void)state;
    begin(&story, "", 0, 1, 100);
    expect(&story, LINE_NONE);
    end(&story);
    begin(&story, "a\n", 2, 1, 100);
    expect_line(&story, "a");
    expect(&story, LINE_NONE);
    end(&story);
}

static void a_line_at_the_limit_is_given_and_one_above_is_not(void **state)
{
    (void)state;
    for (size_t piece = 1; piece <= 12; piece++) {
        struct story story;

        begin(&story, "12345678\n123456789\nshort\n123456789", 34, piece, 8);
        expect_line(&story, "12345678");
        expect(&story, LINE_TOO_LONG);
        expect_line(&story, "short");
        expect(&story, LINE_TOO_LONG);
        expect(&story, LINE_NONE);
        end(&story);
    }
}

static void a_huge_line_is_skipped_without_being_kept(void **state)
{
    size_t len = 8u << 20;
    char *text = malloc(len);
    struct story story;

    (void)state;
    memset(text, 'x', len);
    memcpy(text + len - 6, "\nnext\n", 6);
    begin(&story, text, len, 1u << 16, 100000);
    expect(&story, LINE_TOO_LONG);
    expect_line(&story, "next");
    expect(&story, LINE_NONE);
    assert_true(story.lines.capacity <= 131072);
    end(&story);
    free(text);
}

static void a_long_line_within_the_limit_is_whole(void **state)
{
    size_t len = 1u << 20;
    char *text = malloc(len + 1);
    struct story story;
    const char *line;
    size_t got;

    (void)state;
    for (size_t i = 0; i < len; i++) {
        text[i] = (char)('a' + i % 23);
    }
    text[len] = '\n';
    begin(&story, text, len + 1, 9973, len);
    assert_int_equal(lines_next(&story.lines, &line, &got), LINE_GIVEN);
    assert_int_equal(got, len);
    assert_memory_equal(line, text, len);
    expect(&story, LINE_NONE);
    end(&story);
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lines_come_however_they_are_cut),
        cmocka_unit_test(nothing_is_no_line),
        cmocka_unit_test(a_line_at_the_limit_is_given_and_one_above_is_not),
        cmocka_unit_test(a_huge_line_is_skipped_without_being_kept),
        cmocka_unit_test(a_long_line_within_the_limit_is_whole),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
