/* fail_load: the clients of the failure tests; fail_load.h says how it is made. It obeys lines on
 * standard input, each answered with one line, "ok ..." or "error ..." (see `commands`). */
#include <getopt.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "tests/cluster/fail_load.h"

/* ---- Small things ---- */

void fail_die(const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    fprintf(stderr, "fail_load: ");
    vfprintf(stderr, format, arguments);
    fprintf(stderr, "\n");
    va_end(arguments);
    _exit(2);
}

void *fail_allocate(size_t n, size_t size)
{
    void *memory = calloc(n == 0 ? 1 : n, size);

    if (memory == NULL) {
        fail_die("out of memory");
    }
    return memory;
}

uint64_t fail_draw(uint64_t *state, uint64_t below)
{
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    return (*state * UINT64_C(0x2545F4914F6CDD1D) >> 11) % below;
}

void fail_sleep_us(uint64_t us)
{
    struct timespec time = {(time_t)(us / 1000000), (long)(us % 1000000) * 1000};

    nanosleep(&time, NULL);
}

struct shardkv *fail_open(const struct fail *fail, const char *prefer)
{
    struct shardkv_options options;
    struct shardkv *kv = NULL;
    char error[256];

    shardkv_options_init(&options, sizeof(options));
    options.ctrlers = fail->cli.ctrlers;
    options.timeout_ms = fail->options.timeout_ms;
    options.sole_nng_user = 1;
    options.prefer = prefer;
    if (shardkv_open(&options, &kv, error, sizeof(error)) != SHARDKV_OK) {
        fail_die("%s", error);
    }
    return kv;
}

/* ---- Commands: each writes its answer without the "ok", or returns what is wrong ---- */

#define ANSWER_SIZE 500

static const char *do_begin(struct fail *fail, char *arguments, char *answer)
{
    char path[400];
    unsigned round;
    FILE *file;

    (void)answer;
    if (sscanf(arguments, "%u %399s", &round, path) != 2) {
        return "begin ROUND FILE";
    }
    file = fopen(path, "w");
    if (file == NULL) {
        return "the file can't be written";
    }
    sessions_work(fail, false);
    fail_record_begin(&fail->record, round, file);
    atomic_store(&fail->n_changes, 0);
    sessions_work(fail, true);
    return NULL;
}

static const char *do_end(struct fail *fail, char *arguments, char *answer)
{
    struct fail_record *record = &fail->record;
    uint32_t worst = 0;
    bool all;

    (void)arguments;
    if (record->file == NULL) {
        return "no round has begun";
    }
    churn_stop(fail);
    sessions_work(fail, false);
    all = fail_read_all(fail);
    for (uint32_t i = 0; i < record->n_slots; i++) {
        worst = record->slots[i].worst_gap_us > record->slots[worst].worst_gap_us ? i : worst;
    }
    snprintf(answer, ANSWER_SIZE,
             "ops=%llu unknown=%llu refused=%llu bad=%llu gap_ms=%llu slot=%u"
             " changes=%u",
             (unsigned long long)record->ops, (unsigned long long)record->outcomes[FAIL_UNKNOWN],
             (unsigned long long)record->outcomes[FAIL_REFUSED],
             (unsigned long long)record->outcomes[FAIL_BAD],
             (unsigned long long)record->slots[worst].worst_gap_us / 1000, worst,
             atomic_load(&fail->n_changes));
    if (fclose(record->file) != 0) {
        fail_die("the history can't be written");
    }
    record->file = NULL;
    return all ? NULL : "not all keys could be read";
}

static const char *do_forget(struct fail *fail, char *arguments, char *answer)
{
    (void)arguments, (void)answer;
    if (fail->record.file != NULL) {
        return "the round has not ended";
    }
    fail_forget(fail);
    return NULL;
}

static const char *do_churn(struct fail *fail, char *arguments, char *answer)
{
    (void)answer;
    if (strcmp(arguments, "on") == 0) {
        churn_start(fail);
    } else if (strcmp(arguments, "off") == 0) {
        churn_stop(fail);
    } else {
        return "churn on|off";
    }
    return NULL;
}

static const char *do_prefer(struct fail *fail, char *arguments, char *answer)
{
    char read_first[FAIL_MAX_URL] = "", write_first[FAIL_MAX_URL] = "";

    (void)answer;
    if (sscanf(arguments, "%255s %255s", read_first, write_first) < 1) {
        return "prefer URL|- [URL]";
    }
    pthread_mutex_lock(&fail->mutex);
    strcpy(fail->read_first, strcmp(read_first, "-") == 0 ? "" : read_first);
    strcpy(fail->write_first, write_first);
    fail->prefer_version++;
    pthread_mutex_unlock(&fail->mutex);
    return NULL;
}

static const char *do_heal(struct fail *fail, char *arguments, char *answer)
{
    (void)arguments, (void)answer;
    fail_record_heal(&fail->record);
    return NULL;
}

static const char *do_await(struct fail *fail, char *arguments, char *answer)
{
    static char missing[256];
    uint64_t began = cli_now_ms();

    if (!fail_await(fail, (uint32_t)strtoul(arguments, NULL, 10), missing, sizeof(missing))) {
        return missing;
    }
    snprintf(answer, ANSWER_SIZE, "ms=%llu", (unsigned long long)(cli_now_ms() - began));
    return NULL;
}

static const char *do_leader(struct fail *fail, char *arguments, char *answer)
{
    snprintf(answer, ANSWER_SIZE, "%u", fail_leader(fail, (uint32_t)strtoul(arguments, NULL, 10)));
    return NULL;
}

static const char *do_probe(struct fail *fail, char *arguments, char *answer)
{
    (void)answer;
    if (strcmp(arguments, "on") == 0) {
        probe_start(fail);
    } else if (strcmp(arguments, "off") == 0) {
        probe_stop(fail);
    } else {
        return "probe on|off";
    }
    return NULL;
}

static const char *do_mark(struct fail *fail, char *arguments, char *answer)
{
    (void)arguments, (void)answer;
    probe_mark(fail);
    return NULL;
}

static const char *do_gap(struct fail *fail, char *arguments, char *answer)
{
    unsigned settle_ms, bound_ms;
    struct probe_figures figures;

    if (sscanf(arguments, "%u %u", &settle_ms, &bound_ms) != 2) {
        return "gap SETTLE_MS BOUND_MS";
    }
    if (!probe_gap(fail, settle_ms, bound_ms, &figures)) {
        return "no put was acknowledged within the bound";
    }
    snprintf(answer, ANSWER_SIZE, "gap_ms=%.1f after_ms=%.1f stall_ms=%.1f", figures.gap_ms,
             figures.after_ms, figures.stall_ms);
    return NULL;
}

static const char *do_fill(struct fail *fail, char *arguments, char *answer)
{
    unsigned n, bytes;
    uint64_t began = cli_now_ms();

    if (sscanf(arguments, "%u %u", &n, &bytes) != 2) {
        return "fill KEYS BYTES";
    }
    if (!fail_fill(fail, n, bytes)) {
        return "a put was refused";
    }
    snprintf(answer, ANSWER_SIZE, "ms=%llu", (unsigned long long)(cli_now_ms() - began));
    return NULL;
}

static const struct {
    const char *name;
    const char *(*run)(struct fail *fail, char *arguments, char *answer);
} commands[] = {
    {"begin", do_begin},   /* ROUND FILE: a new history; the sessions work from now on */
    {"end", do_end},       /* they rest; everything is read once more, the file closed */
    {"forget", do_forget}, /* deletes the keys of the round that has ended */
    {"churn", do_churn},   /* on|off: moves, joins and leaves */
    {"prefer", do_prefer}, /* URL|- [URL]: whom some ask first, to read and to write */
    {"heal", do_heal},     /* the faults are over: slots count as served from now on */
    {"await", do_await},   /* BOUND_MS: until all is well */
    {"leader", do_leader}, /* GID: the replica that leads, 0: none */
    {"probe", do_probe},   /* on|off: the client that puts one after the other */
    {"mark", do_mark},     /* something is broken now */
    {"gap", do_gap},       /* SETTLE_MS BOUND_MS: the longest time without a put since the mark */
    {"fill", do_fill},     /* KEYS BYTES */
};

static void obey(struct fail *fail, char *line)
{
    size_t len = strcspn(line, " ");
    char *arguments = line + len + (line[len] == ' ');
    char answer[ANSWER_SIZE] = "";

    for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
        if (strlen(commands[i].name) == len && strncmp(commands[i].name, line, len) == 0) {
            const char *wrong = commands[i].run(fail, arguments, answer);

            printf("%s%s%s\n", wrong == NULL ? "ok " : "error ", answer,
                   wrong == NULL ? "" : wrong);
            return;
        }
    }
    printf("error no such command: %.60s\n", line);
}

/* ---- Start and end ---- */

static void usage(void)
{
    fail_die("usage: fail_load --cli PATH --ctrlers URLS [--groups GID SPEC;...] [--nodes N] "
             "[--slots N] [--sessions N] [--pipes N] [--tokens N] [--think MS] [--timeout MS] "
             "[--seed N]");
}

static void take_options(struct fail *fail, int argc, char **argv)
{
    struct fail_options *options = &fail->options;
    const struct option names[] = {
        {"cli", 1, NULL, 0},     {"ctrlers", 1, NULL, 1}, {"groups", 1, NULL, 2},
        {"seed", 1, NULL, 3},    {"slots", 1, NULL, 4},   {"nodes", 1, NULL, 5},
        {"timeout", 1, NULL, 6}, {"think", 1, NULL, 7},   {"sessions", 1, NULL, 8},
        {"pipes", 1, NULL, 9},   {"tokens", 1, NULL, 10}, {NULL, 0, NULL, 0}};
    const char **texts[] = {&options->cli_path, &fail->cli.ctrlers, &options->groups};
    uint32_t *numbers[] = {&options->n_slots,  &options->n_nodes,  &options->timeout_ms,
                           &options->think_ms, &options->sessions, &options->pipes,
                           &options->tokens};
    int which;

    *options = (struct fail_options){.n_slots = 8,
                                     .timeout_ms = 2500,
                                     .think_ms = 15,
                                     .sessions = 2,
                                     .pipes = 4,
                                     .tokens = 4,
                                     .seed = 1,
                                     .groups = ""};
    while ((which = getopt_long(argc, argv, "", names, NULL)) >= 0) {
        if (which < 3) {
            *texts[which] = optarg;
        } else if (which == 3) {
            options->seed = strtoull(optarg, NULL, 10);
        } else if (which <= 10) {
            *numbers[which - 4] = (uint32_t)strtoul(optarg, NULL, 10);
        } else {
            usage();
        }
    }
    if (optind != argc || options->cli_path == NULL || fail->cli.ctrlers == NULL ||
        options->n_slots == 0 || options->n_slots > FAIL_MAX_SLOTS) {
        usage();
    }
}

int main(int argc, char **argv)
{
    struct fail *fail = fail_allocate(1, sizeof(*fail));
    char *line = NULL;
    size_t room = 0;
    ssize_t len;

    take_options(fail, argc, argv);
    pthread_mutex_init(&fail->mutex, NULL);
    pthread_cond_init(&fail->changed, NULL);
    pthread_mutex_init(&fail->record.mutex, NULL);
    pthread_mutex_init(&fail->probe.mutex, NULL);
    fail->record.n_slots = fail->options.n_slots;
    fail->cli.timeout_ms = fail->options.timeout_ms;
    fail->cli.kv = fail_open(fail, NULL);
    sessions_start(fail);
    printf("ok\n");
    fflush(stdout);
    while ((len = getline(&line, &room, stdin)) > 0) {
        line[strcspn(line, "\n")] = '\0';
        obey(fail, line);
        fflush(stdout);
    }
    probe_stop(fail);
    churn_stop(fail);
    sessions_end(fail);
    shardkv_close(&fail->cli.kv);
    free(line);
    free(fail);
    return 0;
}
