#include "raft/util/spec.h"

#include <stdlib.h>
#include <string.h>

static bool all_printable(const char *text)
{
    for (; *text != '\0'; text++) {
        if (*text <= ' ' || *text > '~' || *text == ',' || *text == '=') {
            return false;
        }
    }
    return true;
}

static const char *check_host_port(const char *rest)
{
    const char *colon = strrchr(rest, ':');
    long port = 0;

    if (colon == NULL || colon == rest) {
        return "a tcp URL needs host:port";
    }
    if (colon[1] == '\0' || strlen(colon + 1) > 5) {
        return "the port must be a number from 1 to 65535";
    }
    for (const char *digit = colon + 1; *digit != '\0'; digit++) {
        if (*digit < '0' || *digit > '9') {
            return "the port must be a number from 1 to 65535";
        }
        port = port * 10 + (*digit - '0');
    }
    if (port < 1 || port > 65535) {
        return "the port must be a number from 1 to 65535";
    }
    if (strchr(rest, '/') != NULL) {
        return "a tcp URL has no path";
    }
    return NULL;
}

const char *spec_check_url(const char *url)
{
    if (strlen(url) > SPEC_MAX_URL) {
        return "the URL is longer than 200 bytes";
    }
    if (!all_printable(url)) {
        return "the URL has a character that is not allowed";
    }
    if (strncmp(url, "tcp://", 6) == 0) {
        return check_host_port(url + 6);
    }
    if (strncmp(url, "tls+tcp://", 10) == 0) {
        return check_host_port(url + 10);
    }
    if (strncmp(url, "ipc:///", 7) == 0) {
        return url[7] == '\0' ? "an ipc URL needs a path" : NULL;
    }
    return "a URL begins with tcp://, tls+tcp:// or ipc:///";
}

/* Adds a replica in order of id. */
static const char *spec_add(struct spec *spec, uint32_t id, const char *url)
{
    size_t at = 0;
    const char *wrong = spec_check_url(url);

    if (wrong != NULL) {
        return wrong;
    }
    if (id < 1 || id > SPEC_MAX_ID) {
        return "a replica id is a number from 1 to 255";
    }
    if (spec->n == SPEC_MAX_REPLICAS) {
        return "a group has at most 9 replicas";
    }
    for (size_t i = 0; i < spec->n; i++) {
        if (spec->replicas[i].id == id) {
            return "two replicas have the same id";
        }
        if (strcmp(spec->replicas[i].url, url) == 0) {
            return "two replicas have the same URL";
        }
        at += spec->replicas[i].id < id;
    }
    memmove(&spec->replicas[at + 1], &spec->replicas[at],
            (spec->n - at) * sizeof(spec->replicas[0]));
    memset(&spec->replicas[at], 0, sizeof(spec->replicas[0]));
    spec->replicas[at].id = id;
    memcpy(spec->replicas[at].url, url, strlen(url) + 1);
    spec->n++;
    return NULL;
}

/* Copies the text up to `comma` (or the end) into `item`; false if it does not fit. */
static bool copy_item(const char *text, const char *comma, char item[SPEC_MAX_URL + 8])
{
    size_t len = comma != NULL ? (size_t)(comma - text) : strlen(text);

    if (len >= SPEC_MAX_URL + 8) {
        return false;
    }
    memcpy(item, text, len);
    item[len] = '\0';
    return true;
}

static const char *parse_item(struct spec *spec, const char *item, bool with_id)
{
    uint32_t id = 0;

    if (!with_id) {
        return spec_add(spec, (uint32_t)spec->n + 1, item);
    }
    if (*item < '0' || *item > '9') {
        return "each replica is ID=URL";
    }
    for (; *item >= '0' && *item <= '9'; item++) {
        id = id * 10 + (uint32_t)(*item - '0');
        if (id > SPEC_MAX_ID) {
            return "a replica id is a number from 1 to 255";
        }
    }
    return *item == '=' ? spec_add(spec, id, item + 1) : "each replica is ID=URL";
}

static const char *parse_list(const char *text, struct spec *spec, bool with_id)
{
    memset(spec, 0, sizeof(*spec));
    for (;;) {
        const char *comma = strchr(text, ',');
        char item[SPEC_MAX_URL + 8];
        const char *wrong;

        if (!copy_item(text, comma, item)) {
            return "the URL is longer than 200 bytes";
        }
        wrong = parse_item(spec, item, with_id);
        if (wrong != NULL) {
            return wrong;
        }
        if (comma == NULL) {
            return NULL;
        }
        text = comma + 1;
    }
}

const char *spec_parse(const char *text, struct spec *spec)
{
    return parse_list(text, spec, true);
}

const char *spec_parse_urls(const char *text, struct spec *spec)
{
    return parse_list(text, spec, false);
}

const struct spec_replica *spec_find(const struct spec *spec, uint32_t id)
{
    for (size_t i = 0; i < spec->n; i++) {
        if (spec->replicas[i].id == id) {
            return &spec->replicas[i];
        }
    }
    return NULL;
}

void spec_copy(struct spec *to, const struct spec *from)
{
    to->n = from->n;
    memcpy(to->replicas, from->replicas, from->n * sizeof(from->replicas[0]));
}

bool spec_equal(const struct spec *a, const struct spec *b)
{
    if (a->n != b->n) {
        return false;
    }
    for (size_t i = 0; i < a->n; i++) {
        if (a->replicas[i].id != b->replicas[i].id ||
            strcmp(a->replicas[i].url, b->replicas[i].url) != 0) {
            return false;
        }
    }
    return true;
}

void spec_format(const struct spec *spec, struct buf *text)
{
    for (size_t i = 0; i < spec->n; i++) {
        buf_printf(text, "%s%u=%s", i > 0 ? "," : "", spec->replicas[i].id, spec->replicas[i].url);
    }
}

void spec_encode(const struct spec *spec, struct buf *out)
{
    buf_put_u8(out, (uint8_t)spec->n);
    for (size_t i = 0; i < spec->n; i++) {
        buf_put_u8(out, (uint8_t)spec->replicas[i].id);
        buf_put_bytes(out, slice_text(spec->replicas[i].url));
    }
}

bool spec_decode(struct reader *reader, struct spec *spec)
{
    uint8_t n = reader_u8(reader);

    memset(spec, 0, sizeof(*spec));
    if (n < 1 || n > SPEC_MAX_REPLICAS) {
        return false;
    }
    for (uint8_t i = 0; i < n; i++) {
        uint8_t id = reader_u8(reader);
        struct slice url = reader_bytes(reader, SPEC_MAX_URL);
        char text[SPEC_MAX_URL + 1];

        /* In ascending order, so that a SPEC has one encoding. */
        if (!reader_ok(reader) || (i > 0 && spec->replicas[i - 1].id >= id) ||
            memchr(url.len > 0 ? (const void *)url.data : "", 0, url.len)) {
            return false;
        }
        memcpy(text, url.len > 0 ? (const void *)url.data : "", url.len);
        text[url.len] = '\0';
        if (spec_add(spec, id, text) != NULL) {
            return false;
        }
    }
    return true;
}

/* FNV-1a. */
static uint64_t fingerprint(struct slice text)
{
    uint64_t hash = 0xcbf29ce484222325u;

    for (size_t i = 0; i < text.len; i++) {
        hash = (hash ^ text.data[i]) * 0x100000001b3u;
    }
    return hash == 0 ? 1 : hash;
}

uint64_t spec_url_fingerprint(const char *url)
{
    return fingerprint(slice_text(url));
}

uint64_t spec_fingerprint(const struct spec *spec)
{
    struct buf text = {0}; /* the ordered list */
    uint64_t hash;

    spec_format(spec, &text);
    hash = fingerprint(buf_slice(&text));
    buf_fini(&text);
    return hash;
}
