/* What is watched from outside: phases, changes of the configuration until they are carried out,
 * and the memory of the servers' processes. */
#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/cluster/move_load.h"

#define POLL_NS        UINT64_C(20000000)  /* between looks at a change */
#define SAMPLE_NS      UINT64_C(100000000) /* between looks at the memory */
#define SURVEY_MS      1000                /* for one replica */
#define ADMIN_TIMEOUT  30000               /* ms, for a change */
#define MAX_CONFIG_TRY 5

/* ---- Phases ---- */

static void phase_end(struct load *load, uint64_t at_ns)
{
    if (load->n_phases > 0) {
        struct phase *last = &load->phases[load->n_phases - 1];

        last->end_ns = at_ns;
        last->pacer_late_ns = atomic_exchange(&load->pacer_late_ns, 0);
    }
}

void phase_begin(struct load *load, const char *name, uint64_t at_ns)
{
    phase_end(load, at_ns);
    if (load->n_phases == LOAD_MAX_PHASES) {
        load_die("too many phases");
    }
    load->phases[load->n_phases] = (struct phase){.faults = load->faults, .start_ns = at_ns};
    snprintf(load->phases[load->n_phases].name, sizeof(load->phases[0].name), "%s", name);
    load->n_phases++;
}

/* ---- Changes ---- */

static struct shardkv_result *latest_config(struct load *load)
{
    struct shardkv_result *result = NULL;
    int code = SHARDKV_UNAVAILABLE;

    for (int i = 0; i < MAX_CONFIG_TRY && code != SHARDKV_OK; i++) {
        shardkv_result_free(result);
        code = shardkv_config(load->cli.kv, SHARDKV_CONFIG_LATEST, ADMIN_TIMEOUT, &result);
    }
    if (code != SHARDKV_OK || result->config == NULL) {
        load_die("no configuration from the controllers: %s", result->message);
    }
    return result;
}

/* Whether the leader of the shard's owner serves it. */
static bool shard_is_served(const struct survey *survey, uint32_t shard)
{
    uint32_t gid;
    const struct shardkv_shard_status *row = survey_shard(survey, shard, &gid);

    return row != NULL && gid == survey->config->shards[shard] &&
           row->state == SHARDKV_SHARD_SERVING;
}

static void *watch_change(void *context)
{
    struct load *load = context;
    struct change *change = &load->changes[load->n_changes - 1];

    while (!change->done && !atomic_load(&load->watch_stopping)) {
        struct survey survey;
        struct survey_left left;
        uint64_t now_ns;

        survey_make(&load->cli, SURVEY_MS, &survey);
        now_ns = cli_now_ns();
        pthread_mutex_lock(&load->watch_mutex);
        if (survey.config != NULL && survey.config->num >= change->config_num) {
            if (change->served_ns == 0 && shard_is_served(&survey, load->shard)) {
                change->served_ns = now_ns;
            }
            if (change->served_ns != 0 && survey_all_settled(&survey, &left)) {
                change->settled_ns = now_ns;
                change->done = true;
            }
        }
        pthread_cond_signal(&load->watch_changed);
        pthread_mutex_unlock(&load->watch_mutex);
        survey_fini(&survey);
        if (!change->done) {
            load_sleep_until(cli_now_ns() + POLL_NS);
        }
    }
    return NULL;
}

static const char *ask_for(struct load *load, struct change *change, char *arguments)
{
    char *rest = NULL, *gid_text = strtok_r(arguments, " ", &rest);
    uint32_t gid = gid_text == NULL ? 0 : (uint32_t)strtoul(gid_text, NULL, 10);
    struct shardkv_join join = {gid, strtok_r(NULL, " ", &rest)};
    struct shardkv_result *result = NULL;
    int code;

    if (strcmp(change->verb, "move") == 0) {
        code = shardkv_move(load->cli.kv, load->shard, gid, ADMIN_TIMEOUT, &result);
    } else if (strcmp(change->verb, "leave") == 0) {
        code = shardkv_leave(load->cli.kv, &gid, 1, ADMIN_TIMEOUT, &result);
    } else if (strcmp(change->verb, "join") == 0 && join.replicas != NULL) {
        code = shardkv_join(load->cli.kv, &join, 1, ADMIN_TIMEOUT, &result);
    } else {
        return "a change is: move GID, leave GID, join GID SPEC";
    }
    change->config_num = result->config_num;
    if (code != SHARDKV_OK) {
        fprintf(stderr, "move_load: %s: %s\n", change->verb, result->message);
    }
    shardkv_result_free(result);
    return code == SHARDKV_OK ? NULL : shardkv_strerror(code);
}

const char *change_begin(struct load *load, char *name, char *verb, char *arguments)
{
    struct change *change = &load->changes[load->n_changes];
    struct shardkv_result *before = latest_config(load), *after;
    const char *wrong;

    if (load->n_changes == LOAD_MAX_CHANGES || load->watching) {
        load_die("too many changes, or one that was not awaited");
    }
    *change = (struct change){.faults = load->faults, .load = load->pacing};
    snprintf(change->name, sizeof(change->name), "%s", name);
    snprintf(change->verb, sizeof(change->verb), "%s", verb);
    change->from = before->config->shards[load->shard];
    change->start_ns = cli_now_ns();
    phase_begin(load, name, change->start_ns);
    change->phase = load->n_phases - 1;
    wrong = ask_for(load, change, arguments);
    change->acked_ns = cli_now_ns();
    if (wrong == NULL) {
        after = latest_config(load);
        change->to = after->config->shards[load->shard];
        for (uint32_t s = 0; s < load->n_shards; s++) {
            change->shards_moved += before->config->shards[s] != after->config->shards[s];
        }
        shardkv_result_free(after);
        load->n_changes++;
        atomic_store(&load->watch_stopping, false);
        if (pthread_create(&load->watcher, NULL, watch_change, load) != 0) {
            load_die("no thread to watch a change");
        }
        load->watching = true;
    }
    shardkv_result_free(before);
    return wrong;
}

const struct change *change_await(struct load *load, double seconds)
{
    struct change *change = &load->changes[load->n_changes - 1];
    uint64_t at_ns = cli_now_ns() + (uint64_t)(seconds * 1e9);
    struct timespec at = {(time_t)(at_ns / 1000000000), (long)(at_ns % 1000000000)};
    char name[sizeof(load->phases[0].name)];

    if (load->n_changes == 0 || !load->watching) {
        load_die("no change to await");
    }
    pthread_mutex_lock(&load->watch_mutex);
    while (!change->done && cli_now_ns() < at_ns) {
        pthread_cond_clockwait(&load->watch_changed, &load->watch_mutex, CLOCK_MONOTONIC, &at);
    }
    pthread_mutex_unlock(&load->watch_mutex);
    atomic_store(&load->watch_stopping, true);
    pthread_join(load->watcher, NULL);
    load->watching = false;
    change->failed = !change->done;
    change->faults = change->faults || load->faults;
    load->phases[change->phase].faults = change->faults;
    snprintf(name, sizeof(name), "after %s", change->name);
    phase_begin(load, name, change->done ? change->settled_ns : cli_now_ns());
    return change;
}

/* ---- Memory ---- */

/* The number of KiB behind a name in /proc/PID/status; 0 if it is not there. */
static uint64_t status_field(const char *text, const char *name)
{
    const char *at = strstr(text, name);

    return at == NULL ? 0 : strtoull(at + strlen(name), NULL, 10);
}

static size_t read_file(const char *path, char *text, size_t size)
{
    FILE *file = fopen(path, "r");
    size_t n = 0;

    if (file != NULL) {
        n = fread(text, 1, size - 1, file);
        fclose(file);
    }
    text[n] = '\0';
    return n;
}

static struct process *find_process(struct load *load, const char *name, size_t len)
{
    for (size_t i = 0; i < load->n_processes; i++) {
        if (strlen(load->processes[i].name) == len &&
            memcmp(load->processes[i].name, name, len) == 0) {
            return &load->processes[i];
        }
    }
    if (load->n_processes == LOAD_MAX_PROCESSES || len >= sizeof(load->processes[0].name)) {
        return NULL;
    }
    load->processes[load->n_processes] = (struct process){0};
    memcpy(load->processes[load->n_processes].name, name, len);
    return &load->processes[load->n_processes++];
}

static void look_at_process(struct load *load, const char *file_name, bool rest)
{
    size_t len = strlen(file_name) - strlen(".pid");
    char path[512], text[4096];
    struct process *process = find_process(load, file_name, len);
    uint64_t rss, anon, high;

    snprintf(path, sizeof(path), "%s/%s", load->options.processes, file_name);
    if (process == NULL || read_file(path, text, sizeof(text)) == 0) {
        return;
    }
    process->pid = strtol(text, NULL, 10);
    if (rest) { /* the high-water mark begins anew */
        FILE *file;

        snprintf(path, sizeof(path), "/proc/%ld/clear_refs", process->pid);
        file = fopen(path, "w");
        if (file != NULL) {
            fputs("5", file);
            fclose(file);
        }
    }
    snprintf(path, sizeof(path), "/proc/%ld/status", process->pid);
    if (read_file(path, text, sizeof(text)) == 0) {
        return;
    }
    rss = status_field(text, "VmRSS:");
    anon = status_field(text, "RssAnon:");
    high = status_field(text, "VmHWM:");
    if (rest) {
        process->fill_anon = process->max_anon;
    }
    if (rest || process->rest_rss == 0) { /* or it has just been started */
        process->rest_rss = process->max_rss = process->high_water = rss;
        process->rest_anon = process->max_anon = anon;
    }
    process->max_rss = rss > process->max_rss ? rss : process->max_rss;
    process->max_anon = anon > process->max_anon ? anon : process->max_anon;
    process->high_water = high > process->high_water ? high : process->high_water;
}

static void look_at_memory(struct load *load, bool rest)
{
    DIR *dir = opendir(load->options.processes);
    struct dirent *entry;

    pthread_mutex_lock(&load->watch_mutex);
    while (dir != NULL && (entry = readdir(dir)) != NULL) {
        size_t len = strlen(entry->d_name);

        if (len > 4 && strcmp(entry->d_name + len - 4, ".pid") == 0) {
            look_at_process(load, entry->d_name, rest);
        }
    }
    pthread_mutex_unlock(&load->watch_mutex);
    if (dir != NULL) {
        closedir(dir);
    }
}

static void *sample_memory(void *context)
{
    struct load *load = context;

    while (!atomic_load(&load->sample_stopping)) {
        look_at_memory(load, false);
        load_sleep_until(cli_now_ns() + SAMPLE_NS);
    }
    return NULL;
}

void memory_start(struct load *load)
{
    if (load->options.processes != NULL) {
        load->sampling = pthread_create(&load->sampler, NULL, sample_memory, load) == 0;
    }
}

void memory_stop(struct load *load)
{
    if (load->sampling) {
        atomic_store(&load->sample_stopping, true);
        pthread_join(load->sampler, NULL);
        load->sampling = false;
    }
}

void memory_rest(struct load *load)
{
    if (load->options.processes != NULL) {
        look_at_memory(load, true);
    }
}
