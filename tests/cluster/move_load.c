/* move_load: loads a cluster while its shards move, and tells what clients saw of it.
 *
 * It obeys lines on standard input and answers each with one line on standard output, "ok …" or
 * "failed …"; see commands[] below. Standard error is for people. It ends at the end of input or by
 * `quit`: 0; 2 if something was wrong with it or its surroundings.
 */
#include "tests/cluster/move_load.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>

/* After a change, until its pause is told: the first success afterwards must be on record. */
#define SETTLE_NS UINT64_C(300000000)

/* ---- Commands ---- */

static void reply(const char *format, ...) __attribute__((format(printf, 1, 2)));
static void reply(const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    vprintf(format, arguments);
    putchar('\n');
    fflush(stdout);
    va_end(arguments);
}

static void run_fill(struct load *load, char *arguments)
{
    (void)arguments;
    traffic_fill(load);
    reply("ok bytes=%llu seconds=%.3f mb_per_s=%.2f", (unsigned long long)load->fill_bytes,
          load->fill_seconds, (double)load->fill_bytes / 1e6 / load->fill_seconds);
}

static void run_rest(struct load *load, char *arguments)
{
    (void)arguments;
    memory_rest(load);
    reply("ok");
}

static void run_tokens(struct load *load, char *arguments)
{
    (void)arguments;
    if (load->token_clients == NULL) {
        tokens_start(load);
    }
    reply("ok");
}

static void run_peak(struct load *load, char *arguments)
{
    double seconds = strtod(arguments, NULL);

    phase_begin(load, "peak", cli_now_ns());
    traffic_peak(load, seconds > 0 ? seconds : 3);
    reply("ok ops_per_s=%.0f", load->peak_ops);
}

static void run_start(struct load *load, char *arguments)
{
    double rate = strtod(arguments, NULL);

    rate = rate > 0 ? rate : load->peak_ops / 2;
    if (rate < 10 || load->pacing) {
        load_die("start wants a rate, or a peak before it, and no load yet");
    }
    phase_begin(load, "start", cli_now_ns());
    traffic_start(load, rate);
    reply("ok moving_per_s=%.0f others_per_s=%.0f", 1e9 / load->lanes[LOAD_MOVING].interval_ns,
          1e9 / load->lanes[LOAD_OTHERS].interval_ns);
}

static void run_stop(struct load *load, char *arguments)
{
    (void)arguments;
    traffic_stop(load);
    phase_begin(load, "end", load->load_end_ns);
    tokens_stop(load);
    reply("ok");
}

static void run_phase(struct load *load, char *arguments)
{
    phase_begin(load, arguments, cli_now_ns());
    reply("ok");
}

static void run_faults(struct load *load, char *arguments)
{
    load->faults = strcmp(arguments, "on") == 0;
    load->phases[load->n_phases - 1].faults |= load->faults;
    reply("ok");
}

static void run_owner(struct load *load, char *arguments)
{
    struct survey survey;
    char line[1024] = "";
    size_t n = 0;

    (void)arguments;
    survey_make(&load->cli, 2000, &survey);
    if (survey.config == NULL) {
        reply("failed no configuration");
    } else {
        for (size_t i = 0; i < survey.n_rows && n < sizeof(line) - 64; i++) {
            const struct survey_row *row = &survey.rows[i];

            if (row->result != NULL && row->result->node != NULL &&
                row->result->node == survey_leader(&survey, row->gid)) {
                n += (size_t)snprintf(line + n, sizeof(line) - n, " leader_%u=%u",
                                      (unsigned)row->gid, (unsigned)row->result->node->id);
            }
        }
        reply("ok owner=%u%s", (unsigned)survey.config->shards[load->shard], line);
    }
    survey_fini(&survey);
}

static void run_change(struct load *load, char *arguments)
{
    char *rest = NULL, *name = strtok_r(arguments, " ", &rest), *verb = strtok_r(NULL, " ", &rest);
    const char *wrong;

    if (name == NULL || verb == NULL) {
        load_die("change wants a name and a verb");
    }
    wrong = change_begin(load, name, verb, rest);
    if (wrong != NULL) {
        reply("failed %s", wrong);
    } else {
        reply("ok config=%llu", (unsigned long long)load->changes[load->n_changes - 1].config_num);
    }
}

static void run_await(struct load *load, char *arguments)
{
    const struct change *change = change_await(load, strtod(arguments, NULL));
    char line[512];

    if (change->failed) {
        reply("failed %s is not over in time", change->name);
        return;
    }
    if (load->pacing) {
        load_sleep_until(cli_now_ns() + SETTLE_NS);
    }
    report_change(load, change, line, sizeof(line));
    reply("ok %s", line);
}

static void run_check(struct load *load, char *arguments)
{
    (void)arguments;
    traffic_check(load);
    tokens_check(load);
    reply("ok keys=%llu missing=%llu wrong=%llu unread=%llu tokens=%llu",
          (unsigned long long)load->keys_read, (unsigned long long)load->keys_missing,
          (unsigned long long)load->keys_wrong, (unsigned long long)load->keys_unread,
          (unsigned long long)load->tokens_acked);
}

/* "NAME JSON" */
static void run_note(struct load *load, char *arguments)
{
    char *rest = NULL, *name = strtok_r(arguments, " ", &rest);
    json_t *value = json_loads(rest, JSON_DECODE_ANY, NULL);

    if (name == NULL || value == NULL) {
        load_die("note wants a name and JSON");
    }
    json_object_set_new(load->notes, name, value);
    reply("ok");
}

/* "TABLE JSON-FILE" */
static void run_report(struct load *load, char *arguments)
{
    char *rest = NULL, *table = strtok_r(arguments, " ", &rest);
    FILE *out = table == NULL ? NULL : fopen(table, "w");
    bool speed = false, right;

    if (out == NULL) {
        load_die("report wants a file for the table");
    }
    right = report_write(load, strtok_r(NULL, " ", &rest), out, &speed);
    if (fclose(out) != 0) {
        load_die("the table can't be written");
    }
    reply("ok right=%d speed=%d", right, speed);
}

struct command {
    const char *name;
    void (*run)(struct load *load, char *arguments);
};

static const struct command commands[] = {
    {"fill", run_fill},     /* both kinds of keys */
    {"rest", run_rest},     /* what the servers' memory is now is "at rest" */
    {"tokens", run_tokens}, /* clients of tokens begin */
    {"peak", run_peak},     /* SECONDS of the closed loop */
    {"start", run_start},   /* [RATE]: the open loop begins, at half the peak */
    {"phase", run_phase},   /* NAME: from now on */
    {"faults", run_faults}, /* on|off: whether failures of clients are held against the servers */
    {"owner", run_owner},   /* who owns the big shard, and the leaders */
    {"change", run_change}, /* NAME move GID | leave GID | join GID SPEC: begins it */
    {"await", run_await},   /* SECONDS: until it is over */
    {"stop", run_stop},     /* the load ends */
    {"check", run_check},   /* reads everything back */
    {"note", run_note},     /* NAME JSON: goes into the document as it is */
    {"report", run_report}, /* TABLE-FILE [JSON-FILE] */
};

static void obey(struct load *load, char *line)
{
    char *rest = NULL, *name = strtok_r(line, " \n", &rest);

    for (size_t i = 0; name != NULL && i < sizeof(commands) / sizeof(commands[0]); i++) {
        if (strcmp(name, commands[i].name) == 0) {
            rest[strcspn(rest, "\n")] = '\0';
            commands[i].run(load, rest);
            return;
        }
    }
    load_die("no such command: %s", name == NULL ? "" : name);
}

/* ---- Beginning and end ---- */

static void take_options(int argc, char **argv, struct options *options, uint64_t *shard)
{
    const struct {
        const char *name;
        uint64_t *number;
    } numbers[] = {
        {"--bytes", &options->bytes},
        {"--value-bytes", &options->value_bytes},
        {"--other-keys", &options->other_keys},
        {"--timeout", &options->timeout_ms},
        {"--clients", &options->clients},
        {"--tokens", &options->tokens},
        {"--read-percent", &options->read_percent},
        {"--moving-percent", &options->moving_percent},
        {"--shard", shard},
    };

    *options = (struct options){.bytes = 16u << 20,
                                .value_bytes = 1024,
                                .other_keys = 4096,
                                .timeout_ms = 5000,
                                .clients = 64,
                                .tokens = 4,
                                .read_percent = 50,
                                .moving_percent = 25};
    for (int i = 1; i < argc; i += 2) {
        bool known = false;

        if (i + 1 == argc) {
            load_die("%s wants a value", argv[i]);
        }
        for (size_t n = 0; n < sizeof(numbers) / sizeof(numbers[0]) && !known; n++) {
            known = strcmp(argv[i], numbers[n].name) == 0;
            if (known) {
                *numbers[n].number = strtoull(argv[i + 1], NULL, 10);
            }
        }
        if (strcmp(argv[i], "--ctrlers") == 0) {
            options->ctrlers = argv[i + 1];
        } else if (strcmp(argv[i], "--processes") == 0) {
            options->processes = argv[i + 1];
        } else if (!known) {
            load_die("no such option: %s", argv[i]);
        }
    }
    if (options->ctrlers == NULL || options->value_bytes < 128 ||
        options->value_bytes > CLI_MAX_VALUE || options->bytes < options->value_bytes ||
        options->bytes / options->value_bytes > 100000000 || options->other_keys == 0 ||
        options->clients == 0 || options->read_percent > 100 || options->moving_percent > 75) {
        load_die("wrong options");
    }
}

static struct shardkv *open_handle(const struct options *options)
{
    struct shardkv_options handle;
    struct shardkv *kv = NULL;
    char error[256] = "";

    shardkv_options_init(&handle, sizeof(handle));
    handle.ctrlers = options->ctrlers;
    handle.timeout_ms = (uint32_t)options->timeout_ms;
    handle.sole_nng_user = 1;
    if (shardkv_open(&handle, &kv, error, sizeof(error)) != SHARDKV_OK) {
        load_die("%s", error);
    }
    return kv;
}

static void open_lane(struct load *load, enum load_class class)
{
    struct lane *lane = &load->lanes[class];
    bool moving = class == LOAD_MOVING;
    uint64_t n_keys =
        moving ? load->options.bytes / load->options.value_bytes : load->options.other_keys;

    lane->load = load;
    lane->class = class;
    lane->kv = open_handle(&load->options);
    records_init(&lane->records);
    keys_init(&lane->keys, moving ? 'm' : 'o', (uint32_t)n_keys, load->options.value_bytes,
              moving ? 1 : 4 * load->n_shards, load->shard, load->n_shards, moving);
}

/* The shard counts from 0; by default it is the last one, which a joining group takes first. */
static void open_load(struct load *load, uint64_t shard)
{
    struct shardkv_result *result = NULL;

    load->cli = (struct cli){.ctrlers = load->options.ctrlers, .timeout_ms = 5000};
    load->cli.kv = open_handle(&load->options);
    if (shardkv_config(load->cli.kv, SHARDKV_CONFIG_LATEST, 30000, &result) != SHARDKV_OK) {
        load_die("no configuration from the controllers: %s", result->message);
    }
    load->n_shards = result->config->n_shards;
    load->shard = shard < load->n_shards ? (uint32_t)shard : load->n_shards - 1;
    shardkv_result_free(result);
    open_lane(load, LOAD_MOVING);
    open_lane(load, LOAD_OTHERS);
    load->token_kv = open_handle(&load->options);
    records_init(&load->token_records);
    pthread_mutex_init(&load->failures.mutex, NULL);
    pthread_mutex_init(&load->watch_mutex, NULL);
    pthread_cond_init(&load->watch_changed, NULL);
    load->failures.items = load_allocate(LOAD_MAX_FAILURES, sizeof(*load->failures.items));
    load->notes = json_object();
    phase_begin(load, "fill", cli_now_ns());
    memory_start(load);
}

static void close_load(struct load *load)
{
    traffic_stop(load);
    tokens_stop(load);
    memory_stop(load);
    if (load->watching) {
        atomic_store(&load->watch_stopping, true);
        pthread_join(load->watcher, NULL);
    }
    for (size_t i = 0; i < 2; i++) {
        shardkv_close(&load->lanes[i].kv);
        records_fini(&load->lanes[i].records);
        keys_fini(&load->lanes[i].keys);
    }
    shardkv_close(&load->token_kv);
    shardkv_close(&load->cli.kv);
    records_fini(&load->token_records);
    tokens_fini(load);
    free(load->failures.items);
    json_decref(load->notes);
    free(load);
}

int main(int argc, char **argv)
{
    struct load *load = load_allocate(1, sizeof(*load));
    uint64_t shard = UINT64_MAX;
    char *line = NULL;
    size_t size = 0;

    prctl(PR_SET_TIMERSLACK, 1000UL, 0UL, 0UL, 0UL); /* threads inherit it: sleeps end on time */
    take_options(argc, argv, &load->options, &shard);
    open_load(load, shard);
    reply("ok shard=%u shards=%u", (unsigned)load->shard, (unsigned)load->n_shards);
    while (getline(&line, &size, stdin) > 0 && strcmp(line, "quit\n") != 0) {
        obey(load, line);
    }
    free(line);
    close_load(load);
    return 0;
}
