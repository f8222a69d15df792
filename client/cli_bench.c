/* bench: throughput and latency as clients see them. Options and report; cli_bench_run.c does the
 * work.
 */
#include <stdlib.h>
#include <string.h>

#include "client/cli_bench_run.h"

static const char *const op_names[] = {"put", "get", "append", "mixed"};

/* ---- Options ---- */

static const char *parse_op(const char *text, enum bench_op *op)
{
    for (size_t i = 0; i < sizeof(op_names) / sizeof(op_names[0]); i++) {
        if (strcmp(text, op_names[i]) == 0) {
            *op = (enum bench_op)i;
            return NULL;
        }
    }
    return "--op must be put, get, append or mixed";
}

static bool parse_real(const char *text, double low, double high, double *number)
{
    char *end;

    *number = strtod(text, &end);
    return end != text && *end == '\0' && *number >= low && *number <= high;
}

/* Takes the numbers out of the arguments; NULL, or what is wrong. */
static const char *take_numbers(int *argc, char **argv, struct bench_options *options)
{
    const struct {
        const char *name;
        uint64_t low, high;
        uint64_t *number;
        const char *wrong;
    } numbers[] = {
        {"--clients", 1, 65536, &options->clients, "--clients must be 1 to 65536"},
        {"--connections", 1, 256, &options->connections, "--connections must be 1 to 256"},
        {"--key-bytes", 1, CLI_MAX_KEY, &options->key_bytes, "--key-bytes must be 1 to 4096"},
        {"--value-bytes", 0, CLI_MAX_VALUE, &options->value_bytes,
         "--value-bytes must be 0 to 16777216"},
        {"--keys", 1, UINT32_MAX, &options->keys, "--keys must be 1 to 4294967295"},
        {"--seconds", 1, 86400, &options->seconds, "--seconds must be 1 to 86400"},
        {"--ops", 1, UINT32_MAX, &options->ops, "--ops must be 1 to 4294967295"},
    };

    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
        bool missing = false;
        const char *text = cli_take_option(argc, argv, numbers[i].name, &missing);

        if (missing || (text != NULL &&
                        !cli_number(text, numbers[i].low, numbers[i].high, numbers[i].number))) {
            return numbers[i].wrong;
        }
    }
    return NULL;
}

static const char *check(const struct bench_options *options)
{
    if (options->connections > options->clients) {
        return "--connections must not be above --clients";
    }
    if (options->key_bytes < bench_least_key_bytes(options->keys)) {
        return "--key-bytes are too few for so many --keys";
    }
    return NULL;
}

static const char *take_options(int *argc, char **argv, struct bench_options *options, bool *fill)
{
    bool missing = false;
    const char *op = cli_take_option(argc, argv, "--op", &missing);
    const char *ratio = cli_take_option(argc, argv, "--read-ratio", &missing);
    const char *rate = cli_take_option(argc, argv, "--rate", &missing);
    const char *wrong = NULL;

    *fill = cli_take_flag(argc, argv, "--fill");
    *options = (struct bench_options){.op = BENCH_PUT, .read_ratio = 0.95, BENCH_DEFAULTS};
    if (missing) {
        return "an option lacks its value";
    }
    if (op != NULL) {
        wrong = parse_op(op, &options->op);
    }
    if (wrong == NULL && ratio != NULL && !parse_real(ratio, 0, 1, &options->read_ratio)) {
        wrong = "--read-ratio must be 0 to 1";
    }
    if (wrong == NULL && rate != NULL && !parse_real(rate, 0.001, 1e9, &options->rate)) {
        wrong = "--rate must be a number of operations per second";
    }
    if (wrong == NULL) {
        wrong = take_numbers(argc, argv, options);
    }
    if (wrong == NULL && *argc > 0) {
        wrong = "takes only options";
    }
    options->title = op_names[options->op];
    return wrong != NULL ? wrong : check(options);
}

/* ---- Report ---- */

static uint64_t percentile_us(const struct bench_result *result, double fraction)
{
    return (histogram_percentile(&result->latencies, fraction) + 500) / 1000;
}

static double thousandths(double number)
{
    return (double)(uint64_t)(number * 1000 + 0.5) / 1000;
}

static void report_json(const struct bench_options *options, const struct bench_result *result)
{
    json_t *document = json_object();
    const struct {
        const char *name;
        uint64_t value;
    } integers[] = {
        {"clients", options->clients},
        {"connections", options->connections},
        {"key_bytes", options->key_bytes},
        {"value_bytes", options->value_bytes},
        {"keys", options->keys},
        {"ops", result->ops},
        {"p50_us", percentile_us(result, 0.5)},
        {"p90_us", percentile_us(result, 0.9)},
        {"p99_us", percentile_us(result, 0.99)},
        {"p999_us", percentile_us(result, 0.999)},
        {"max_us", percentile_us(result, 1)},
        {"errors", result->errors},
        {"unknown", result->unknown},
    };

    json_object_set_new(document, "op", json_string(op_names[options->op]));
    for (size_t i = 0; i < sizeof(integers) / sizeof(integers[0]); i++) {
        json_object_set_new(document, integers[i].name,
                            json_integer((json_int_t)integers[i].value));
    }
    json_object_set_new(document, "seconds", json_real(thousandths(result->seconds)));
    json_object_set_new(document, "ops_per_sec",
                        json_real(thousandths((double)result->ops / result->seconds)));
    json_object_set_new(document, "client_cpu_seconds",
                        json_real(thousandths(result->cpu_seconds)));
    cli_print_json(document);
}

static void report_text(const struct bench_options *options, const struct bench_result *result)
{
    printf("%s: %llu clients on %llu connections, keys of %llu bytes, values of %llu bytes\n",
           op_names[options->op], (unsigned long long)options->clients,
           (unsigned long long)options->connections, (unsigned long long)options->key_bytes,
           (unsigned long long)options->value_bytes);
    printf("%llu operations in %.2f s: %.0f per second; %llu errors, %llu unknown\n",
           (unsigned long long)result->ops, result->seconds, (double)result->ops / result->seconds,
           (unsigned long long)result->errors, (unsigned long long)result->unknown);
    printf("latency: p50 %llu us, p90 %llu us, p99 %llu us, p99.9 %llu us, longest %llu us\n",
           (unsigned long long)percentile_us(result, 0.5),
           (unsigned long long)percentile_us(result, 0.9),
           (unsigned long long)percentile_us(result, 0.99),
           (unsigned long long)percentile_us(result, 0.999),
           (unsigned long long)percentile_us(result, 1));
    printf("client: %.2f s of CPU\n", result->cpu_seconds);
}

/* ---- The verb ---- */

/* Each key once. Only what is missing in the end is worth a word. */
static void fill_keys(const struct bench_options *options, struct shardkv **kv,
                      struct bench_result *result)
{
    struct bench_options fill = *options;

    fill.op = BENCH_PUT;
    fill.ops = options->keys;
    fill.rate = 0;
    fill.in_order = true;
    fill.title = "filling";
    bench_run(&fill, kv, result);
    if (result->ops < options->keys) {
        fprintf(stderr, "shardkv-cli: bench: only %llu of %llu keys were filled: %s\n",
                (unsigned long long)result->ops, (unsigned long long)options->keys,
                shardkv_strerror(result->last_error));
    }
}

static int run(const struct cli *cli, const struct bench_options *options, bool fill,
               struct shardkv **kv)
{
    struct bench_result *result = calloc(1, sizeof(*result));
    int code;

    if (result == NULL) {
        abort();
    }
    if (fill) {
        fill_keys(options, kv, result);
    }
    bench_run(options, kv, result);
    if (cli->json) {
        report_json(options, result);
    } else {
        report_text(options, result);
    }
    if (result->errors + result->unknown > 0) {
        fprintf(stderr, "shardkv-cli: bench: %llu operations failed, the last one so: %s\n",
                (unsigned long long)(result->errors + result->unknown),
                shardkv_strerror(result->last_error));
    }
    code = result->ops > 0 ? CLI_DONE : CLI_REFUSED;
    free(result);
    return code;
}

int cli_bench(struct cli *cli, int argc, char **argv)
{
    struct bench_options options;
    bool fill, opened = true;
    const char *wrong = take_options(&argc, argv, &options, &fill);
    struct shardkv **kv;
    int code = CLI_USAGE;

    if (wrong != NULL) {
        return cli_usage_error("bench", wrong);
    }
    kv = calloc(options.connections, sizeof(*kv));
    if (kv == NULL) {
        abort();
    }
    for (uint64_t i = 0; i < options.connections && opened; i++) {
        kv[i] = cli_open_another(cli);
        opened = kv[i] != NULL;
    }
    if (opened) {
        code = run(cli, &options, fill, kv);
    }
    for (uint64_t i = 0; i < options.connections; i++) {
        shardkv_close(&kv[i]);
    }
    free(kv);
    return code;
}
