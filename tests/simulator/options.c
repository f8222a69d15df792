/* options: see options.h. */
#include "tests/simulator/options.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void options_help(void)
{
    printf("usage: sim --seed N | --seeds A..B [options]\n"
           "\n"
           "Runs a whole simulated cluster from one seed, with faults, and checks it.\n"
           "\n"
           "  --seed N           the seed\n"
           "  --seeds A..B       these seeds, one after the other, to the first that fails\n"
           "  --stride K         of them every K-th\n"
           "  --seconds S        begin no seed later than that\n"
           "  --steps M          steps of 100 ms of simulated time with faults\n"
           "  --profile NAME     which faults (standard; see --list)\n"
           "  --trace FILE       write a line for everything that happens; equal for equal seeds\n"
           "  --json             the last lines as JSON\n"
           "  --quiet            no line for a seed that passes, only the sum\n"
           "  --list             profiles and faults\n"
           "\n"
           "To make a failing run smaller, all else staying as the seed drew it:\n"
           "  --ctrlers N  --groups N  --replicas N  --clients N    at most so many\n"
           "  --without FAULT[,FAULT]                               not these faults\n"
           "\n"
           "Ends with 0 if all is well, 1 for a broken invariant, 2 for bad options.\n");
}

void options_list(void)
{
    printf("profiles:\n");
    for (size_t i = 0; i < n_profiles; i++) {
        printf("  %-16s %s\n", profiles[i].name, profiles[i].what);
    }
    printf("faults:\n");
    for (size_t i = 0; i < FAULT_N; i++) {
        printf("  %-16s %s\n", fault_kinds[i].name, fault_kinds[i].what);
    }
}

static bool bad(const char *option, const char *text)
{
    fprintf(stderr, "sim: bad value for --%s: '%s' (see sim --help)\n", option, text);
    return false;
}

/* Decimal digits and nothing else. *end: what follows. */
static bool read_digits(const char *text, uint64_t *value, const char **end)
{
    char *after;

    if (text[0] < '0' || text[0] > '9') {
        return false;
    }
    errno = 0;
    *value = strtoull(text, &after, 10);
    *end = after;
    return errno == 0;
}

static bool read_number(const char *option, const char *text, uint64_t min, uint64_t max,
                        uint32_t *value)
{
    uint64_t number;
    const char *end;

    if (!read_digits(text, &number, &end) || *end != '\0' || number < min || number > max) {
        return bad(option, text);
    }
    *value = (uint32_t)number;
    return true;
}

static bool read_seed(struct options *options, const char *text)
{
    const char *end;

    if (!read_digits(text, &options->first, &end) || *end != '\0') {
        return bad("seed", text);
    }
    options->last = options->first;
    return true;
}

static bool read_seeds(struct options *options, const char *text)
{
    const char *end;

    if (!read_digits(text, &options->first, &end) || strncmp(end, "..", 2) != 0 ||
        !read_digits(end + 2, &options->last, &end) || *end != '\0' ||
        options->last < options->first) {
        return bad("seeds", text);
    }
    return true;
}

static bool read_without(struct options *options, const char *text)
{
    char copy[1024], *save = NULL;

    if (strlen(text) >= sizeof(copy)) {
        return bad("without", text);
    }
    memcpy(copy, text, strlen(text) + 1);
    for (char *name = strtok_r(copy, ",", &save); name != NULL; name = strtok_r(NULL, ",", &save)) {
        enum fault fault = fault_find(name);

        if (fault == FAULT_N) {
            return bad("without", name);
        }
        options->wishes.without[fault] = true;
    }
    return true;
}

static bool read_profile(struct options *options, const char *text)
{
    options->wishes.profile = profile_find(text);
    return options->wishes.profile != NULL || bad("profile", text);
}

enum option_code {
    CODE_SEED = 256,
    CODE_SEEDS,
    CODE_STRIDE,
    CODE_SECONDS,
    CODE_STEPS,
    CODE_PROFILE,
    CODE_TRACE,
    CODE_JSON,
    CODE_QUIET,
    CODE_LIST,
    CODE_HELP,
    CODE_CTRLERS,
    CODE_GROUPS,
    CODE_REPLICAS,
    CODE_CLIENTS,
    CODE_WITHOUT
};

static const struct option long_options[] = {
    {"seed", required_argument, NULL, CODE_SEED},
    {"seeds", required_argument, NULL, CODE_SEEDS},
    {"stride", required_argument, NULL, CODE_STRIDE},
    {"seconds", required_argument, NULL, CODE_SECONDS},
    {"steps", required_argument, NULL, CODE_STEPS},
    {"profile", required_argument, NULL, CODE_PROFILE},
    {"trace", required_argument, NULL, CODE_TRACE},
    {"json", no_argument, NULL, CODE_JSON},
    {"quiet", no_argument, NULL, CODE_QUIET},
    {"list", no_argument, NULL, CODE_LIST},
    {"help", no_argument, NULL, CODE_HELP},
    {"ctrlers", required_argument, NULL, CODE_CTRLERS},
    {"groups", required_argument, NULL, CODE_GROUPS},
    {"replicas", required_argument, NULL, CODE_REPLICAS},
    {"clients", required_argument, NULL, CODE_CLIENTS},
    {"without", required_argument, NULL, CODE_WITHOUT},
    {NULL, 0, NULL, 0},
};

static bool read_limit(struct options *options, int code, const char *text)
{
    struct plan_wishes *wishes = &options->wishes;

    switch (code) {
    case CODE_STEPS:
        return read_number("steps", text, 1, 1000000, &wishes->steps);
    case CODE_SECONDS:
        return read_number("seconds", text, 1, 1000000, &options->seconds);
    case CODE_CTRLERS:
        return read_number("ctrlers", text, 1, PLAN_MAX_CTRLERS, &wishes->max_ctrlers);
    case CODE_GROUPS:
        return read_number("groups", text, 1, PLAN_MAX_GROUPS, &wishes->max_groups);
    case CODE_REPLICAS:
        return read_number("replicas", text, 1, PLAN_MAX_REPLICAS, &wishes->max_replicas);
    case CODE_CLIENTS:
        return read_number("clients", text, 1, PLAN_MAX_CLIENTS, &wishes->max_clients);
    default:
        return false; /* getopt said why */
    }
}

static bool read_one(struct options *options, int code, const char *text)
{
    uint32_t stride;

    switch (code) {
    case CODE_SEED:
        return read_seed(options, text);
    case CODE_SEEDS:
        return read_seeds(options, text);
    case CODE_STRIDE:
        if (!read_number("stride", text, 1, 1000000, &stride)) {
            return false;
        }
        options->stride = stride;
        return true;
    case CODE_PROFILE:
        return read_profile(options, text);
    case CODE_TRACE:
        options->trace = text;
        return true;
    case CODE_JSON:
        return options->json = true;
    case CODE_QUIET:
        return options->quiet = true;
    case CODE_LIST:
        options->action = OPTIONS_LIST;
        return true;
    case CODE_HELP:
        options->action = OPTIONS_HELP;
        return true;
    case CODE_WITHOUT:
        return read_without(options, text);
    default:
        return read_limit(options, code, text);
    }
}

bool options_read(struct options *options, int argc, char **argv)
{
    int code;

    *options = (struct options){.first = 1, .last = 0, .stride = 1};
    options->wishes.profile = &profiles[0];
    while ((code = getopt_long(argc, argv, "", long_options, NULL)) != -1) {
        if (!read_one(options, code, optarg)) {
            return false;
        }
    }
    if (optind < argc) {
        fprintf(stderr, "sim: unexpected argument '%s' (see sim --help)\n", argv[optind]);
        return false;
    }
    if (options->action == OPTIONS_RUN && options->last < options->first) {
        fprintf(stderr, "sim: --seed or --seeds is missing (see sim --help)\n");
        return false;
    }
    return true;
}
