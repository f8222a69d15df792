/* Settings of a server: one table of flags, read from three places. */
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "raft/host.h"
#include "raft/util/mem.h"

#define MAX_FLAGS            32
#define MAX_FILE_LINE        4096 /* nine URLs of the greatest length fit */
#define MAX_ENVIRONMENT_NAME 64
#define MAX_TOLD             200 /* bytes of what somebody gave, in a complaint about it */

struct flag {
    const char *name;
    unsigned needs; /* HOST_HAS_* of the programs that have it; 0: all */
    const char *argument;
    const char *help;
    struct {
        char *value;   /* owned; NULL: not given */
        unsigned line; /* of the file that gave the value; 0: it came from elsewhere */
        bool from_environment;
        bool in_file; /* a line of it names the flag, whether it counts or not */
    } given;
};

struct reading {
    struct host_settings *settings;
    struct flag flags[MAX_FLAGS];
    size_t n_flags;
    const char *file;
    bool failed;
};

static const struct flag all_flags[] = {
    {"gid", HOST_HAS_GID, "G", "the replica group, 1 to 2147483647", {0}},
    {"id", 0, "N", "this replica in its group, 1 to 255", {0}},
    {"cluster", 0, "SPEC", "all replicas of the group: ID=URL,ID=URL,...", {0}},
    {"ctrlers", HOST_HAS_CTRLERS, "URLS", "the controllers: URL,URL,...", {0}},
    {"data", 0, "DIR", "the data directory", {0}},
    {"shards",
     HOST_HAS_SHARDS,
     "N",
     "shards of a new cluster: a power of two, 16 to 16384 (default 256)",
     {0}},
    {"migration-rate",
     HOST_HAS_GID,
     "MIB",
     "MiB a second that shards may arrive with; 0, the default: no bound",
     {0}},
    {"migration-parallel", HOST_HAS_GID, "N", "shards that may arrive at a time (default 8)", {0}},
    {"config", 0, "FILE", "read settings from a file of 'name = value' lines", {0}},
    {"election-timeout", 0, "MS", "milliseconds, randomised to twice that (default 300)", {0}},
    {"heartbeat", 0, "MS", "milliseconds between heartbeats (default 50)", {0}},
    {"disk-reserve",
     0,
     "MIB",
     "space kept for when the disk is full (default: an 8th of the disk, 16 to 64)",
     {0}},
    {"disk-low",
     0,
     "MIB",
     "free space below which writes are refused (default: an 8th, 16 to 256)",
     {0}},
    {"metrics", 0, "URL", "serve /metrics, /livez, /readyz at http://host:port", {0}},
    {"tls-cert", 0, "FILE", "this replica's certificate (PEM)", {0}},
    {"tls-key", 0, "FILE", "its private key (PEM)", {0}},
    {"tls-ca", 0, "FILE", "the authority that signs everybody's certificates (PEM)", {0}},
    {"peer-key", 0, "FILE", "the secret by which the servers of a cluster know each other", {0}},
    {"log-level", 0, "LEVEL", "error, warn, info or debug (default info)", {0}},
};

/* The text as a part of one line: cut, and without what would end the line or move the cursor. */
static const char *tell(const char *text, char told[MAX_TOLD])
{
    size_t len = 0;

    for (; text[len] != '\0' && len < MAX_TOLD - 1; len++) {
        told[len] = iscntrl((unsigned char)text[len]) ? '?' : text[len];
    }
    told[len] = '\0';
    return told;
}

static int complain(struct reading *reading, const char *what, const char *name, const char *why)
{
    char told[MAX_TOLD];

    fprintf(stderr, "%s: %s%s: %s (see %s --help)\n", reading->settings->program, what,
            tell(name, told), why, reading->settings->program);
    reading->failed = true;
    return HOST_EXIT_REFUSED;
}

/* The same of a line of the file; `what` is text from it, or empty. */
static int complain_line(struct reading *reading, unsigned line, const char *what, const char *why)
{
    char file[MAX_TOLD], told[MAX_TOLD];

    fprintf(stderr, "%s: %s:%u: %.40s%s%s (see %s --help)\n", reading->settings->program,
            tell(reading->file, file), line, tell(what, told), *what != '\0' ? ": " : "", why,
            reading->settings->program);
    reading->failed = true;
    return HOST_EXIT_REFUSED;
}

static struct flag *flag_find(struct reading *reading, const char *name, size_t len)
{
    for (size_t i = 0; i < reading->n_flags; i++) {
        struct flag *flag = &reading->flags[i];
        if (strlen(flag->name) == len && memcmp(flag->name, name, len) == 0) {
            return flag;
        }
    }
    return NULL;
}

static const char *flag_value(struct reading *reading, const char *name)
{
    struct flag *flag = flag_find(reading, name, strlen(name));
    return flag == NULL ? NULL : flag->given.value;
}

static void environment_name(const struct flag *flag, char name[MAX_ENVIRONMENT_NAME])
{
    size_t len = (size_t)snprintf(name, MAX_ENVIRONMENT_NAME, "SHARDKV_");

    for (const char *c = flag->name; *c != '\0' && len + 1 < MAX_ENVIRONMENT_NAME; c++) {
        name[len++] = *c == '-' ? '_' : (char)toupper((unsigned char)*c);
    }
    name[len] = '\0';
}

/* Says what is wrong with a setting, by the name it has where it was given. */
static int complain_flag(struct reading *reading, const char *name, const char *why)
{
    const struct flag *flag = flag_find(reading, name, strlen(name));
    char place[MAX_ENVIRONMENT_NAME];

    if (flag != NULL && flag->given.line > 0) {
        return complain_line(reading, flag->given.line, name, why);
    }
    if (flag != NULL && flag->given.from_environment) {
        environment_name(flag, place);
        return complain(reading, place, "", why);
    }
    return complain(reading, "--", name, why);
}

static void print_help(const struct reading *reading)
{
    printf("usage: %s [options]\n\n", reading->settings->program);
    for (size_t i = 0; i < reading->n_flags; i++) {
        const struct flag *flag = &reading->flags[i];
        char left[64];
        snprintf(left, sizeof(left), "--%s %s", flag->name, flag->argument);
        printf("  %-26s %s\n", left, flag->help);
    }
    printf("  %-26s %s\n  %-26s %s\n", "--version", "print the version", "--help", "print this");
    printf("\nEvery option can come from the environment as SHARDKV_<NAME>, for instance\n"
           "SHARDKV_DATA; the command line wins over the environment, and that over the file.\n");
}

/* Reads the command line. Returns -1 to go on. */
static int read_arguments(struct reading *reading, int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        const char *name = argv[i];
        const char *equals = strchr(name, '=');
        struct flag *flag;

        if (strcmp(name, "--help") == 0) {
            print_help(reading);
            return HOST_EXIT_OK;
        }
        if (strcmp(name, "--version") == 0) {
            printf("%s %s\n", reading->settings->program, SHARDKV_VERSION);
            return HOST_EXIT_OK;
        }
        if (strncmp(name, "--", 2) != 0) {
            return complain(reading, "argument ", name, "options begin with --");
        }
        flag = flag_find(reading, name + 2,
                         equals != NULL ? (size_t)(equals - name - 2) : strlen(name + 2));
        if (flag == NULL) {
            return complain(reading, "", name, "no such option");
        }
        if (flag->given.value != NULL) {
            return complain(reading, "", name, "given twice");
        }
        if (equals == NULL && i + 1 == argc) {
            return complain(reading, "", name, "needs a value");
        }
        flag->given.value = mem_copy_string(equals != NULL ? equals + 1 : argv[++i]);
    }
    return -1;
}

static void read_environment(struct reading *reading)
{
    for (size_t i = 0; i < reading->n_flags; i++) {
        struct flag *flag = &reading->flags[i];
        char name[MAX_ENVIRONMENT_NAME];

        environment_name(flag, name);
        if (flag->given.value == NULL && getenv(name) != NULL) {
            flag->given.value = mem_copy_string(getenv(name));
            flag->given.from_environment = true;
        }
    }
}

/* The text without white space around it; the end is cut in place. */
static char *trim(char *text)
{
    size_t len;

    while (isspace((unsigned char)*text)) {
        text++;
    }
    len = strlen(text);
    while (len > 0 && isspace((unsigned char)text[len - 1])) {
        text[--len] = '\0';
    }
    return text;
}

/* One line: "name = value", or empty, or a comment after # or ;. Returns -1 to go on. */
static int read_file_line(struct reading *reading, char *text, unsigned line)
{
    char *name = trim(text);
    char *equals = strchr(name, '=');
    struct flag *flag;

    if (*name == '\0' || *name == '#' || *name == ';') {
        return -1;
    }
    if (equals == NULL) {
        return complain_line(reading, line, "", "expected 'name = value'");
    }
    *equals = '\0';
    name = trim(name);
    flag = flag_find(reading, name, strlen(name));
    if (flag == NULL || strcmp(name, "config") == 0) {
        return complain_line(reading, line, name, "no such option");
    }
    if (flag->given.in_file) {
        return complain_line(reading, line, name, "given twice");
    }
    flag->given.in_file = true;
    if (flag->given.value == NULL) {
        flag->given.value = mem_copy_string(trim(equals + 1));
        flag->given.line = line;
    }
    return -1;
}

static int read_file_lines(struct reading *reading, FILE *file)
{
    char text[MAX_FILE_LINE];
    int code = -1;

    for (unsigned line = 1; code < 0 && fgets(text, sizeof(text), file) != NULL; line++) {
        if (strchr(text, '\n') == NULL && !feof(file)) {
            return complain_line(reading, line, "", "is too long, or is no text");
        }
        code = read_file_line(reading, text, line);
    }
    if (code < 0 && ferror(file)) {
        return complain(reading, "--config ", reading->file, strerror(errno));
    }
    return code;
}

/* Returns -1 to go on. */
static int read_file(struct reading *reading)
{
    FILE *file;
    int code;

    reading->file = flag_value(reading, "config");
    if (reading->file == NULL) {
        return -1;
    }
    file = fopen(reading->file, "re");
    if (file == NULL) {
        return complain(reading, "--config ", reading->file, strerror(errno));
    }
    code = read_file_lines(reading, file);
    fclose(file);
    return code;
}

/* A decimal number in [low, high] into *out; keeps *out if the flag is not given and not required.
 */
static bool take_number(struct reading *reading, const char *name, uint32_t low, uint32_t high,
                        bool required, uint32_t *out)
{
    const char *text = flag_value(reading, name);
    uint64_t number = 0;
    char why[80];

    if (text == NULL) {
        if (required) {
            complain_flag(reading, name, "is required");
        }
        return !required;
    }
    snprintf(why, sizeof(why), "must be a number from %u to %u", low, high);
    for (const char *c = text; *c != '\0'; c++) {
        number = *c >= '0' && *c <= '9' && number <= high ? number * 10 + (uint64_t)(*c - '0')
                                                          : UINT64_MAX / 16;
    }
    if (*text == '\0' || number < low || number > high) {
        complain_flag(reading, name, why);
        return false;
    }
    *out = (uint32_t)number;
    return true;
}

static bool take_spec(struct reading *reading, const char *name,
                      const char *(*parse)(const char *, struct spec *), struct spec *out)
{
    const char *text = flag_value(reading, name);
    const char *wrong;

    if (text == NULL) {
        complain_flag(reading, name, "is required");
        return false;
    }
    wrong = parse(text, out);
    if (wrong != NULL) {
        complain_flag(reading, name, wrong);
    }
    return wrong == NULL;
}

static bool take_level(struct reading *reading)
{
    static const char *const names[] = {"error", "warn", "info", "debug"};
    const char *text = flag_value(reading, "log-level");

    reading->settings->trace_level = TRACE_INFO;
    if (text == NULL) {
        return true;
    }
    for (size_t i = 0; i < 4; i++) {
        if (strcmp(text, names[i]) == 0) {
            reading->settings->trace_level = (enum trace_level)i;
            return true;
        }
    }
    complain_flag(reading, "log-level", "must be error, warn, info or debug");
    return false;
}

static char *take_text(struct reading *reading, const char *name)
{
    const char *text = flag_value(reading, name);
    return text == NULL ? NULL : mem_copy_string(text);
}

/* "http://host:port", with or without a slash behind it. */
static bool is_http_url(const char *url)
{
    char tcp[SPEC_MAX_URL + 2] = "";
    int len;

    if (strncmp(url, "http://", 7) != 0) {
        return false;
    }
    len = snprintf(tcp, sizeof(tcp), "tcp://%s", url + 7);
    if (len > 0 && len < (int)sizeof(tcp) && tcp[len - 1] == '/') {
        tcp[len - 1] = '\0';
    }
    return spec_check_url(tcp) == NULL;
}

static const char *own_url(const struct host_settings *settings)
{
    return spec_find(&settings->cluster, settings->id)->url;
}

static bool check_together(struct reading *reading)
{
    struct host_settings *s = reading->settings;

    if (spec_find(&s->cluster, s->id) == NULL) {
        complain_flag(reading, "cluster", "does not name this replica's --id");
    } else if (s->data == NULL || *s->data == '\0') {
        complain_flag(reading, "data", "is required");
    } else if (s->heartbeat_ms * 2 > s->election_timeout_ms) {
        complain_flag(reading, "heartbeat", "must be at most half the --election-timeout");
    } else if ((s->tls_cert == NULL) != (s->tls_key == NULL)) {
        complain_flag(reading, "tls-cert", "needs --tls-key, and the reverse");
    } else if ((s->tls_cert == NULL) != (s->tls_ca == NULL)) {
        complain_flag(reading, "tls-ca", "belongs together with --tls-cert and --tls-key");
    } else if (s->tls_cert != NULL && strncmp(own_url(s), "tls+tcp://", 10) != 0) {
        complain_flag(reading, "tls-cert",
                      "is of no use: this replica's URL in --cluster is not tls+tcp://");
    } else if (s->shards != 0 && (s->shards & (s->shards - 1)) != 0) {
        complain_flag(reading, "shards", "must be a power of two");
    } else if (s->metrics != NULL && !is_http_url(s->metrics)) {
        complain_flag(reading, "metrics", "must be http://host:port");
    }
    return !reading->failed;
}

static bool take_all(struct reading *reading)
{
    struct host_settings *s = reading->settings;

    s->election_timeout_ms = 300;
    s->heartbeat_ms = 50;
    s->migration_parallel = 8;
    s->disk_reserve_mib = HOST_DEFAULT;
    s->disk_low_mib = HOST_DEFAULT;
    s->data = take_text(reading, "data");
    s->metrics = take_text(reading, "metrics");
    s->tls_cert = take_text(reading, "tls-cert");
    s->tls_key = take_text(reading, "tls-key");
    s->tls_ca = take_text(reading, "tls-ca");
    s->peer_key = take_text(reading, "peer-key");
    if ((s->has & HOST_HAS_GID) && !take_number(reading, "gid", 1, 0x7fffffff, true, &s->gid)) {
        return false;
    }
    if ((s->has & HOST_HAS_CTRLERS) &&
        !take_spec(reading, "ctrlers", spec_parse_urls, &s->ctrlers)) {
        return false;
    }
    if ((s->has & HOST_HAS_SHARDS) &&
        !take_number(reading, "shards", 16, 16384, false, &s->shards)) {
        return false;
    }
    if ((s->has & HOST_HAS_GID) &&
        (!take_number(reading, "migration-rate", 0, 1048576, false, &s->migration_mib_per_s) ||
         !take_number(reading, "migration-parallel", 1, 64, false, &s->migration_parallel))) {
        return false;
    }
    return take_number(reading, "id", 1, 255, true, &s->id) &&
           take_spec(reading, "cluster", spec_parse, &s->cluster) &&
           take_number(reading, "election-timeout", 20, 60000, false, &s->election_timeout_ms) &&
           take_number(reading, "heartbeat", 5, 30000, false, &s->heartbeat_ms) &&
           take_number(reading, "disk-reserve", 0, 65536, false, &s->disk_reserve_mib) &&
           take_number(reading, "disk-low", 0, 1048576, false, &s->disk_low_mib) &&
           take_level(reading) && check_together(reading);
}

int host_settings_read(struct host_settings *settings, int argc, char **argv)
{
    struct reading reading = {.settings = settings};
    int code;

    for (size_t i = 0; i < sizeof(all_flags) / sizeof(all_flags[0]); i++) {
        if (all_flags[i].needs == 0 || (all_flags[i].needs & settings->has) != 0) {
            reading.flags[reading.n_flags++] = all_flags[i];
        }
    }
    code = read_arguments(&reading, argc, argv);
    if (code < 0) {
        read_environment(&reading);
        code = read_file(&reading);
    }
    if (code < 0 && !take_all(&reading)) {
        code = HOST_EXIT_REFUSED;
    }
    for (size_t i = 0; i < reading.n_flags; i++) {
        mem_free(reading.flags[i].given.value);
    }
    return code;
}

void host_settings_fini(struct host_settings *settings)
{
    mem_free(settings->data);
    mem_free(settings->metrics);
    mem_free(settings->tls_cert);
    mem_free(settings->tls_key);
    mem_free(settings->tls_ca);
    mem_free(settings->peer_key);
    settings->data = settings->metrics = NULL;
    settings->tls_cert = settings->tls_key = settings->tls_ca = NULL;
    settings->peer_key = NULL;
}
