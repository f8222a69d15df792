#include "raft/util/metrics.h"

#include <stdio.h>
#include <string.h>

#include "raft/util/assert.h"

#define LABELS_BYTES 128

/* Letters, digits and underscores; the first is no digit. */
static bool is_name(const char *name)
{
    for (const char *c = name; *c != '\0'; c++) {
        bool letter = (*c >= 'a' && *c <= 'z') || *c == '_';

        if (!letter && (c == name || *c < '0' || *c > '9')) {
            return false;
        }
    }
    return name[0] != '\0';
}

static bool has_suffix(const char *name, const char *suffix)
{
    size_t len = strlen(name), suffix_len = strlen(suffix);

    return len > suffix_len && strcmp(name + len - suffix_len, suffix) == 0;
}

static void begin(struct buf *text, const char *name, const char *type, const char *help)
{
    ASSERT(is_name(name));
    ASSERT(strcspn(help, "\\\n") == strlen(help)); /* they would need escaping */
    ASSERT(has_suffix(name, "_total") == (strcmp(type, "counter") == 0));
    buf_printf(text, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

void metrics_begin_counter(struct buf *text, const char *name, const char *help)
{
    begin(text, name, "counter", help);
}

void metrics_begin_gauge(struct buf *text, const char *name, const char *help)
{
    begin(text, name, "gauge", help);
}

void metrics_begin_histogram(struct buf *text, const char *name, const char *help)
{
    ASSERT(has_suffix(name, "_seconds"));
    begin(text, name, "histogram", help);
}

/* Microseconds as seconds, without floating point: 1500 is 0.001500. */
static void put_seconds(struct buf *text, uint64_t us)
{
    buf_printf(text, "%llu.%06llu", (unsigned long long)(us / 1000000),
               (unsigned long long)(us % 1000000));
}

static void put_plain(struct buf *text, const char *name, uint64_t value)
{
    buf_printf(text, "%s %llu\n", name, (unsigned long long)value);
}

static void put_plain_us(struct buf *text, const char *name, uint64_t us)
{
    ASSERT(has_suffix(name, "_seconds") || has_suffix(name, "_seconds_total"));
    buf_printf(text, "%s ", name);
    put_seconds(text, us);
    buf_put_u8(text, '\n');
}

void metrics_put_counter(struct buf *text, const char *name, const char *help, uint64_t value)
{
    metrics_begin_counter(text, name, help);
    put_plain(text, name, value);
}

void metrics_put_gauge(struct buf *text, const char *name, const char *help, uint64_t value)
{
    metrics_begin_gauge(text, name, help);
    put_plain(text, name, value);
}

void metrics_put_counter_us(struct buf *text, const char *name, const char *help, uint64_t us)
{
    metrics_begin_counter(text, name, help);
    put_plain_us(text, name, us);
}

void metrics_put_gauge_us(struct buf *text, const char *name, const char *help, uint64_t us)
{
    metrics_begin_gauge(text, name, help);
    put_plain_us(text, name, us);
}

/* ---- Labels ---- */

/* Makes the labels; what one would have to escape must not be in them. */
static size_t format_labels(char labels[LABELS_BYTES], const char *format, va_list arguments)
{
    int len = vsnprintf(labels, LABELS_BYTES, format, arguments);

    ASSERT(len > 0 && len < LABELS_BYTES);
    ASSERT(strcspn(labels, "\\\n{}") == (size_t)len);
    return (size_t)len;
}

void metrics_put_sample(struct buf *text, const char *name, uint64_t value, const char *labels, ...)
{
    char made[LABELS_BYTES];
    va_list arguments;

    va_start(arguments, labels);
    format_labels(made, labels, arguments);
    va_end(arguments);
    buf_printf(text, "%s{%s} %llu\n", name, made, (unsigned long long)value);
}

/* ---- Histograms ---- */

/* `labels` is empty or ends in a comma: le="…" comes behind it. The buckets are cumulative. */
static void put_histogram(struct buf *text, const char *name, const struct histogram *histogram,
                          const char *labels)
{
    int len = (int)strlen(labels) - (labels[0] != '\0');
    const char *open = len > 0 ? "{" : "", *close = len > 0 ? "}" : "";
    uint64_t count = 0;

    for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++) {
        count += histogram->counts[i];
        buf_printf(text, "%s_bucket{%sle=\"", name, labels);
        put_seconds(text, histogram_bound_us(i));
        buf_printf(text, "\"} %llu\n", (unsigned long long)count);
    }
    count += histogram->counts[HISTOGRAM_BUCKETS];
    buf_printf(text, "%s_bucket{%sle=\"+Inf\"} %llu\n", name, labels, (unsigned long long)count);
    buf_printf(text, "%s_sum%s%.*s%s ", name, open, len, labels, close);
    put_seconds(text, histogram->sum_us);
    buf_printf(text, "\n%s_count%s%.*s%s %llu\n", name, open, len, labels, close,
               (unsigned long long)count);
}

void metrics_put_histogram(struct buf *text, const char *name, const char *help,
                           const struct histogram *histogram)
{
    metrics_begin_histogram(text, name, help);
    put_histogram(text, name, histogram, "");
}

void metrics_put_histogram_sample(struct buf *text, const char *name,
                                  const struct histogram *histogram, const char *labels, ...)
{
    char made[LABELS_BYTES + 1];
    va_list arguments;
    size_t len;

    va_start(arguments, labels);
    len = format_labels(made, labels, arguments);
    va_end(arguments);
    memcpy(&made[len], ",", 2);
    put_histogram(text, name, histogram, made);
}
