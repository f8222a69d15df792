/* How the checkers' tests begin: a story that breaks something runs in a child, which must end by
 * naming the invariant. The stories break the product from outside, by reaching into a running
 * replica or by sending in its name what it never would. */
#ifndef TESTS_UNIT_CHECK_STORY_H
#define TESTS_UNIT_CHECK_STORY_H

#include "tests/cmocka.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

static inline void story_child(int out, void (*story)(void))
{
    const struct rlimit no_core = {0, 0};

    setrlimit(RLIMIT_CORE, &no_core);
    signal(SIGABRT, SIG_DFL); /* cmocka would make a failed test of it, in the child */
    dup2(out, STDOUT_FILENO);
    dup2(out, STDERR_FILENO);
    story();
    fflush(stdout);
    _exit(0);
}

/* Runs the story in a child; gives what it wrote, and how it ended. */
static inline int story_run(void (*story)(void), char *text, size_t size)
{
    size_t len = 0;
    ssize_t got;
    int ends[2], status;
    pid_t child;

    assert_int_equal(pipe(ends), 0);
    fflush(stdout);
    child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        story_child(ends[1], story);
    }
    close(ends[1]);
    while ((got = read(ends[0], text + len, size - 1 - len)) > 0) {
        len += (size_t)got;
    }
    close(ends[0]);
    text[len] = '\0';
    assert_int_equal(waitpid(child, &status, 0), child);
    return status;
}

/* The story must end the child at this invariant. */
static inline void story_breaks(const char *invariant, void (*story)(void))
{
    char text[16384], expected[128];
    int status = story_run(story, text, sizeof(text));

    snprintf(expected, sizeof(expected), "broken invariant: %s: ", invariant);
    if (strstr(text, expected) == NULL) {
        printf("expected \"%s\", got:\n%s\n", expected, text);
    }
    assert_non_null(strstr(text, expected));
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
}

/* Nothing is wrong with the story. */
static inline void story_holds(void (*story)(void))
{
    char text[16384];
    int status = story_run(story, text, sizeof(text));

    if (!WIFEXITED(status)) {
        printf("%s\n", text);
    }
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

#endif
