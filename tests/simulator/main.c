/* sim: runs a whole simulated cluster from a seed, or from many; see run.h for what a run is.
 *
 * A broken invariant says its name on stderr and aborts. On the way out this program adds what is
 * needed to see it again, the seed, the commit, the command line, and the last events, and ends
 * with 1.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "generated/commit.h"
#include "raft/util/mem.h"
#include "tests/simulator/options.h"
#include "tests/simulator/report.h"
#include "tests/simulator/run.h"

/* For the handler of signals alone. */
static const struct run *current_run;
static FILE *current_trace;
static char command_line[1024];

static double seconds_of(clockid_t clock)
{
    struct timespec now;

    clock_gettime(clock, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* Whether the option says what a run is, and not which, how many or how they are told. */
static bool matters(const char *option)
{
    static const char *const others[] = {"--seed",  "--stride", "--seconds",
                                         "--trace", "--json",   "--quiet"};

    for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
        if (strncmp(option, others[i], strlen(others[i])) == 0) {
            return false;
        }
    }
    return true;
}

/* The options that make the run what it is. */
static void remember_options(int argc, char **argv)
{
    size_t len = 0;

    for (int i = 1; i < argc && len < sizeof(command_line); i++) {
        if (!matters(argv[i])) {
            bool has_value = strcmp(argv[i], "--json") != 0 && strcmp(argv[i], "--quiet") != 0;

            i += has_value && strchr(argv[i], '=') == NULL;
            continue;
        }
        len += (size_t)snprintf(command_line + len, sizeof(command_line) - len, " %s", argv[i]);
    }
}

/* The process is lost, and nothing was interrupted that these functions need. */
static void on_signal(int number)
{
    signal(number, SIG_DFL);
    if (current_run != NULL && current_run->world != NULL) {
        fprintf(stderr, "seed %llu, profile %s, commit %s, at %.6f s of simulated time\n",
                (unsigned long long)current_run->plan.seed, current_run->plan.profile->name,
                SIM_COMMIT, (double)world_now_us(current_run->world) / 1e6);
        fprintf(stderr, "again: build/bin/sim --seed %llu%s\n",
                (unsigned long long)current_run->plan.seed, command_line);
        events_show(&current_run->events, stderr);
    }
    if (current_trace != NULL) {
        fflush(current_trace);
    }
    fflush(stdout);
    if (number == SIGABRT) {
        _exit(1); /* all was said */
    }
    raise(number);
}

static void run_seed(const struct options *options, uint64_t seed, struct report_sum *sum)
{
    struct run *run = mem_zalloc(sizeof(*run));
    struct report_time begin = {seconds_of(CLOCK_MONOTONIC), seconds_of(CLOCK_PROCESS_CPUTIME_ID)};
    struct report_time took;

    plan_make(&run->plan, seed, &options->wishes);
    current_run = run;
    run_all(run, current_trace);
    current_run = NULL;
    took.wall_s = seconds_of(CLOCK_MONOTONIC) - begin.wall_s;
    took.cpu_s = seconds_of(CLOCK_PROCESS_CPUTIME_ID) - begin.cpu_s;
    if (!options->quiet) {
        report_show_run(run, &took, options->json);
    }
    report_add(sum, &run->report, &took);
    mem_free(run);
}

static void run_seeds(const struct options *options)
{
    struct report_sum sum = {0};
    double begin_s = seconds_of(CLOCK_MONOTONIC);
    uint64_t seed = options->first;

    for (;;) {
        run_seed(options, seed, &sum);
        if (options->last - seed < options->stride ||
            (options->seconds > 0 && seconds_of(CLOCK_MONOTONIC) - begin_s >= options->seconds)) {
            break;
        }
        seed += options->stride;
    }
    if (options->first != options->last || options->quiet) {
        report_show_sum(&sum, options->wishes.profile->name, options->json);
    }
}

int main(int argc, char **argv)
{
    struct options options;

    remember_options(argc, argv);
    if (!options_read(&options, argc, argv)) {
        return 2;
    }
    if (options.action != OPTIONS_RUN) {
        (options.action == OPTIONS_HELP ? options_help : options_list)();
        return 0;
    }
    if (options.trace != NULL) {
        current_trace = fopen(options.trace, "w");
        if (current_trace == NULL) {
            fprintf(stderr, "sim: can't write %s: %m\n", options.trace);
            return 2;
        }
    }
    signal(SIGABRT, on_signal);
    signal(SIGTERM, on_signal);
    run_seeds(&options);
    if (current_trace != NULL && fclose(current_trace) != 0) {
        fprintf(stderr, "sim: can't write %s: %m\n", options.trace);
        return 2;
    }
    return 0;
}
