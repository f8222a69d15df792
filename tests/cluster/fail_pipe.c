/* Operations through a process of shardkv-cli pipe: JSON lines there and back, one at a time. */
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/cluster/fail_load.h"

extern char **environ;

struct fail_pipe {
    pid_t pid;
    FILE *to, *from;
    char *line;
    size_t room;
};

static pid_t spawn(const struct fail *fail, const char *prefer, int input, int output)
{
    char timeout[16];
    const char *arguments[12] = {
        fail->options.cli_path, "--ctrlers", fail->cli.ctrlers, "--timeout", timeout, "pipe"};
    posix_spawn_file_actions_t actions;
    pid_t pid;
    int error;

    snprintf(timeout, sizeof(timeout), "%u", fail->options.timeout_ms);
    if (prefer[0] != '\0') {
        arguments[6] = "--prefer";
        arguments[7] = prefer;
    }
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, input, STDIN_FILENO);
    posix_spawn_file_actions_adddup2(&actions, output, STDOUT_FILENO);
    error = posix_spawn(&pid, fail->options.cli_path, &actions, NULL, (char **)arguments, environ);
    posix_spawn_file_actions_destroy(&actions);
    if (error != 0) {
        fail_die("%s: %s", fail->options.cli_path, strerror(error));
    }
    return pid;
}

struct fail_pipe *fail_pipe_open(const struct fail *fail, const char *prefer)
{
    struct fail_pipe *pipe = fail_allocate(1, sizeof(*pipe));
    int there[2], back[2];

    if (pipe2(there, O_CLOEXEC) != 0 || pipe2(back, O_CLOEXEC) != 0) {
        fail_die("pipe: %s", strerror(errno));
    }
    pipe->pid = spawn(fail, prefer, there[0], back[1]);
    close(there[0]);
    close(back[1]);
    pipe->to = fdopen(there[1], "w");
    pipe->from = fdopen(back[0], "r");
    if (pipe->to == NULL || pipe->from == NULL) {
        fail_die("pipe: %s", strerror(errno));
    }
    return pipe;
}

/* The process ends with its input. */
void fail_pipe_close(struct fail_pipe **pipe)
{
    fclose((*pipe)->to);
    fclose((*pipe)->from);
    waitpid((*pipe)->pid, NULL, 0);
    free((*pipe)->line);
    free(*pipe);
    *pipe = NULL;
}

static json_t *request_of(const struct fail_op *op)
{
    static const char *const names[FAIL_TYPES] = {"get",    "put", "append",
                                                  "delete", "cas", "append"};
    json_t *request = json_object();

    json_object_set_new(request, "id", json_integer(1));
    json_object_set_new(request, "op", json_string(names[op->type]));
    json_object_set_new(request, "key", json_string(op->key));
    if (op->type == FAIL_CAS) {
        json_object_set_new(request, "arg2", json_string(op->arg));
        if (op->expect != NULL) {
            json_object_set_new(request, "arg", json_string(op->expect));
        }
    } else if (op->type != FAIL_GET && op->type != FAIL_DELETE) {
        json_object_set_new(request, "arg", json_string(op->arg));
    }
    return request;
}

static void take_answer(struct fail_op *op, const json_t *out)
{
    op->outcome = FAIL_OK;
    if (op->type == FAIL_GET && json_is_null(out)) {
        op->outcome = FAIL_NOT_FOUND;
    } else if (op->type == FAIL_GET && json_is_string(out)) {
        op->value = strdup(json_string_value(out));
    } else if (op->type == FAIL_CAS && json_integer_value(out) == 0) {
        op->outcome = FAIL_MISMATCH;
    } else if (op->type == FAIL_APPEND || op->type == FAIL_DELETE) {
        op->output = (uint32_t)json_integer_value(out);
    }
}

static void take_reply(struct fail_op *op, const json_t *reply)
{
    const json_t *ok = json_object_get(reply, "ok");

    op->outcome = FAIL_BAD;
    if (json_is_true(ok)) {
        take_answer(op, json_object_get(reply, "out"));
    } else if (json_is_false(ok)) {
        op->outcome = FAIL_REFUSED;
    } else if (json_is_string(ok) && strcmp(json_string_value(ok), "unknown") == 0 &&
               op->type != FAIL_GET) {
        op->outcome = FAIL_UNKNOWN;
    }
}

void fail_pipe_run(struct fail_pipe *pipe, struct fail_op *op)
{
    json_t *request = request_of(op), *reply = NULL;

    if (json_dumpf(request, pipe->to, JSON_COMPACT) != 0 || fputc('\n', pipe->to) == EOF ||
        fflush(pipe->to) != 0 || getline(&pipe->line, &pipe->room, pipe->from) <= 0) {
        fail_die("shardkv-cli pipe ended");
    }
    reply = json_loads(pipe->line, 0, NULL);
    take_reply(op, reply);
    if (op->outcome == FAIL_BAD) {
        fprintf(stderr, "fail_load: pipe answered %s", pipe->line);
    }
    json_decref(reply);
    json_decref(request);
}
