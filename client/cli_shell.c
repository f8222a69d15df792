/* shell: an interactive prompt for all verbs, on one handle: the connections and the map of shards
 * stay, so every command is quick. History is kept in ~/.shardkv_history. If standard input is no
 * terminal, it is read line by line without any of this.
 */
#include <histedit.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "client/cli.h"
#include "client/cli_words.h"

#define HISTORY_LINES 1000

struct shell {
    struct cli *cli;
    EditLine *edit; /* NULL: no terminal */
    History *history;
    char history_file[4096]; /* "": none */
};

/* ---- Completion ---- */

/* The beginning of a verb at the cursor: the first word of the line, or the second after help. NULL
 * if the cursor is elsewhere. */
static const char *verb_at_cursor(const LineInfo *info, size_t *len)
{
    const char *at = info->buffer, *start;

    while (at < info->cursor && *at == ' ') {
        at++;
    }
    if (info->cursor - at > 5 && memcmp(at, "help ", 5) == 0) {
        at += 5;
    }
    start = at;
    while (at < info->cursor && *at != ' ') {
        at++;
    }
    *len = (size_t)(at - start);
    return at == info->cursor ? start : NULL;
}

/* How many verbs begin so; *common: what all of them have in common, *common_len long. */
static size_t matching_verbs(const char *start, size_t len, const char **common, size_t *common_len)
{
    size_t n, found = 0;
    const struct cli_verb *verbs = cli_verbs(&n);

    for (size_t i = 0; i < n; i++) {
        size_t same = 0;

        if (strncmp(verbs[i].name, start, len) != 0) {
            continue;
        }
        if (found++ == 0) {
            *common = verbs[i].name;
            *common_len = strlen(verbs[i].name);
        }
        while (same < *common_len && (*common)[same] == verbs[i].name[same]) {
            same++;
        }
        *common_len = same;
    }
    return found;
}

static void list_verbs(const char *start, size_t len)
{
    size_t n;
    const struct cli_verb *verbs = cli_verbs(&n);

    putchar('\n');
    for (size_t i = 0; i < n; i++) {
        if (strncmp(verbs[i].name, start, len) == 0) {
            printf("%s  ", verbs[i].name);
        }
    }
    putchar('\n');
    fflush(stdout);
}

static unsigned char complete(EditLine *edit, int key)
{
    size_t len, common_len = 0, found;
    const char *common = NULL, *start = verb_at_cursor(el_line(edit), &len);
    char insert[32];

    (void)key;
    found = start == NULL ? 0 : matching_verbs(start, len, &common, &common_len);
    if (found == 0) {
        return CC_ERROR;
    }
    if (found > 1 && common_len == len) {
        list_verbs(start, len);
        return CC_REDISPLAY;
    }
    snprintf(insert, sizeof(insert), "%.*s%s", (int)(common_len - len), common + len,
             found == 1 ? " " : "");
    return el_insertstr(edit, insert) == 0 ? CC_REFRESH : CC_ERROR;
}

/* ---- Lines ---- */

static char *prompt(EditLine *edit)
{
    (void)edit;
    return (char *)"shardkv> "; /* the type is libedit's; it doesn't write there */
}

static void open_terminal(struct shell *shell)
{
    const char *home = getenv("HOME");
    HistEvent event;

    if (!isatty(STDIN_FILENO)) {
        return;
    }
    shell->history = history_init();
    shell->edit = el_init("shardkv-cli", stdin, stdout, stderr);
    if (shell->edit == NULL || shell->history == NULL) {
        fprintf(stderr, "shardkv-cli: shell: no line editing on this terminal\n");
        return;
    }
    history(shell->history, &event, H_SETSIZE, HISTORY_LINES);
    history(shell->history, &event, H_SETUNIQUE, 1);
    if (home != NULL) {
        snprintf(shell->history_file, sizeof(shell->history_file), "%s/.shardkv_history", home);
        history(shell->history, &event, H_LOAD, shell->history_file);
    }
    el_set(shell->edit, EL_PROMPT, prompt);
    el_set(shell->edit, EL_EDITOR, "emacs");
    el_set(shell->edit, EL_SIGNAL, 1);
    el_set(shell->edit, EL_HIST, history, shell->history);
    el_set(shell->edit, EL_ADDFN, "complete-verb", "complete a verb", complete);
    el_set(shell->edit, EL_BIND, "^I", "complete-verb", NULL);
    el_source(shell->edit, NULL);
    printf("shardkv-cli %s; help lists the verbs, exit or ^D ends\n", shardkv_version());
}

static void close_terminal(struct shell *shell)
{
    HistEvent event;

    if (shell->history != NULL) {
        if (shell->history_file[0] != '\0') {
            mode_t before = umask(077); /* values may be in it */
            history(shell->history, &event, H_SAVE, shell->history_file);
            umask(before);
        }
        history_end(shell->history);
    }
    if (shell->edit != NULL) {
        el_end(shell->edit);
    }
}

/* The next line, malloc'ed; NULL at the end. */
static char *read_line(struct shell *shell)
{
    HistEvent event;
    const char *line;
    char *copy = NULL;
    size_t capacity = 0;
    int len;

    if (shell->edit == NULL) {
        if (getline(&copy, &capacity, stdin) < 0) {
            free(copy);
            copy = NULL;
        }
        return copy;
    }
    line = el_gets(shell->edit, &len);
    if (line == NULL || len <= 0) {
        putchar('\n');
        return NULL;
    }
    if (line[strspn(line, " \t\n")] != '\0') {
        history(shell->history, &event, H_ENTER, line);
    }
    return strdup(line);
}

/* ---- Running ---- */

static bool is_out_of_place(const char *verb)
{
    return strcmp(verb, "shell") == 0 || strcmp(verb, "pipe") == 0;
}

/* One line: the verb, with --json and --timeout of its own. */
static int run_words(struct cli *cli, int argc, char **argv)
{
    struct cli own = *cli;
    bool missing = false;
    const char *timeout = cli_take_option(&argc, argv, "--timeout", &missing);
    uint64_t timeout_ms = cli->timeout_ms;
    int code;

    if (missing || (timeout != NULL && !cli_number(timeout, 1, 86400000, &timeout_ms))) {
        return cli_usage_error("shell", "--timeout must be a number of milliseconds from 1");
    }
    own.json = cli_take_flag(&argc, argv, "--json") || cli->json;
    own.timeout_ms = (uint32_t)timeout_ms;
    own.timeout_given = cli->timeout_given || timeout != NULL;
    if (argc == 0) {
        return CLI_DONE;
    }
    if (is_out_of_place(argv[0])) {
        return cli_usage_error(argv[0], "not within the shell");
    }
    code = cli_run(&own, argc, argv);
    cli->kv = own.kv;
    fflush(stdout);
    clearerr(stdin); /* put KEY - has read to its end */
    return code;
}

static bool is_end(int argc, char **argv)
{
    return argc == 1 && (strcmp(argv[0], "exit") == 0 || strcmp(argv[0], "quit") == 0);
}

int cli_shell(struct cli *cli, int argc, char **argv)
{
    struct shell shell = {.cli = cli};
    bool go_on = true;
    char *line;

    (void)argv;
    if (argc > 0) {
        return cli_usage_error("shell", "takes no arguments");
    }
    if (cli_open(cli) == NULL) {
        return CLI_USAGE;
    }
    open_terminal(&shell);
    while (go_on && (line = read_line(&shell)) != NULL) {
        char *words[WORDS_MAX + 1];
        const char *wrong;
        int n = words_split(line, words, &wrong);

        if (n < 0) {
            cli_usage_error("shell", wrong);
        } else if (is_end(n, words)) {
            go_on = false;
        } else if (n > 0) {
            run_words(cli, n, words);
        }
        free(line);
    }
    close_terminal(&shell);
    return CLI_DONE;
}
