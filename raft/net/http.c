#include "raft/net/http.h"

#include <stdio.h>
#include <string.h>

#include "raft/net/listener.h"
#include "raft/net/net_internal.h"
#include "raft/net/stream.h"
#include "raft/util/assert.h"
#include "raft/util/mem.h"

#define HTTP_SCHEME          "http://"
#define HTTP_MAX_CONNECTIONS 16
#define HTTP_MAX_REQUEST     8192
#define HTTP_MAX_PATH        1024 /* with the query */
#define HTTP_LIMIT_MS        2000 /* for a whole request, and for reading the answer */

struct http_visit {
    struct http *http; /* NULL: this slot is free */
    struct stream *stream;
    struct timer limit;
    bool answered;
};

struct http {
    struct net *net;
    struct listener *listener;
    net_http_handler handler;
    void *context;
    struct http_visit visits[HTTP_MAX_CONNECTIONS];
};

static void visit_end(void *owner)
{
    struct http_visit *visit = owner;

    timers_cancel(&visit->http->net->loop.timers, &visit->limit);
    stream_close(&visit->stream);
    visit->http = NULL;
}

static void visit_limit(struct http_visit *visit)
{
    struct loop *loop = &visit->http->net->loop;

    timers_set(&loop->timers, &visit->limit, loop->now_ms + HTTP_LIMIT_MS);
}

static const char *http_status_text(int status)
{
    switch (status) {
    case 200:
        return "OK";
    case 400:
        return "Bad Request";
    case 404:
        return "Not Found";
    case 405:
        return "Method Not Allowed";
    case 503:
        return "Service Unavailable";
    default:
        return "Status";
    }
}

static void visit_answer(struct http_visit *visit, int status, const char *content_type,
                         const struct buf *body, bool with_body)
{
    struct buf bytes = {0};

    buf_printf(&bytes,
               "HTTP/1.1 %d %s\r\nContent-Type: %s\r\nContent-Length: %zu\r\n"
               "Connection: close\r\n\r\n",
               status, http_status_text(status), content_type, body->len);
    if (with_body) {
        buf_put_slice(&bytes, buf_slice(body));
    }
    visit->answered = true;
    visit_limit(visit);
    if (stream_send(visit->stream, &bytes)) { /* ends once this turn's bytes were looked at */
        timers_set(&visit->http->net->loop.timers, &visit->limit, visit->http->net->loop.now_ms);
    }
}

static void visit_answer_error(struct http_visit *visit, int status)
{
    struct buf body = {0};

    buf_printf(&body, "%d %s\n", status, http_status_text(status));
    visit_answer(visit, status, "text/plain", &body, true);
    buf_fini(&body);
}

/* Copies "/path?query" of "GET /path?query HTTP/1.1"; false if the line is not one of HTTP, or has
 * more or other characters than we would answer. *query points behind the '?', or at the end. */
static bool http_parse_target(const char *line, size_t len, char path[HTTP_MAX_PATH],
                              const char **query)
{
    const char *begin = memchr(line, ' ', len);
    const char *end;
    char *mark;
    size_t path_len;

    if (begin == NULL || begin[1] != '/') {
        return false;
    }
    begin++;
    end = memchr(begin, ' ', (size_t)(line + len - begin));
    if (end == NULL || line + len - end < 8 || memcmp(end, " HTTP/1.", 8) != 0) {
        return false;
    }
    for (path_len = 0; begin + path_len < end; path_len++) {
        if (path_len == HTTP_MAX_PATH - 1 || begin[path_len] < ' ' || begin[path_len] > '~') {
            return false;
        }
        path[path_len] = begin[path_len];
    }
    path[path_len] = '\0';
    mark = strchr(path, '?');
    *query = mark == NULL ? &path[path_len] : mark + 1;
    if (mark != NULL) {
        *mark = '\0';
    }
    return true;
}

/* The head is complete; `line` is its first line. */
static void visit_on_request(struct http_visit *visit, const char *line, size_t len)
{
    bool get = len > 4 && memcmp(line, "GET ", 4) == 0;
    bool head = len > 5 && memcmp(line, "HEAD ", 5) == 0;
    char path[HTTP_MAX_PATH];
    const char *query;
    int status = 200;
    const char *content_type = "text/plain";
    struct buf body = {0};

    if (!http_parse_target(line, len, path, &query)) {
        visit_answer_error(visit, 400);
        return;
    }
    if (!get && !head) {
        visit_answer_error(visit, 405);
        return;
    }
    visit->http->handler(visit->http->context, path, query, &status, &content_type, &body);
    visit_answer(visit, status, content_type, &body, get);
    buf_fini(&body);
}

static void visit_on_received(void *owner, size_t n)
{
    struct http_visit *visit = owner;
    struct slice input = stream_input(visit->stream);
    const uint8_t *line_end;

    (void)n;
    if (visit->answered) { /* drained, so that the close does not cut the answer off */
        stream_consume(visit->stream, input.len);
        stream_receive(visit->stream);
        return;
    }
    if (memmem(input.data, input.len, "\r\n\r\n", 4) != NULL) {
        line_end = memmem(input.data, input.len, "\r\n", 2);
        visit_on_request(visit, (const char *)input.data, (size_t)(line_end - input.data));
        stream_consume(visit->stream, input.len);
        stream_receive(visit->stream);
    } else if (input.len >= HTTP_MAX_REQUEST) {
        visit_end(visit);
    } else {
        stream_receive(visit->stream);
    }
}

static void visit_on_sent(void *owner)
{
    visit_end(owner);
}

static void visit_on_broken(void *owner, enum status status, const char *reason, bool by_remote)
{
    (void)status;
    (void)reason;
    (void)by_remote;
    visit_end(owner);
}

static const struct stream_events visit_events = {
    .received = visit_on_received, .sent = visit_on_sent, .broken = visit_on_broken};

/* All places are taken: who has been here for longest gives way. A friendly visitor's request comes
 * and is answered at once; who sends it byte by byte must not keep others out. */
static void http_make_room(struct http *http)
{
    struct http_visit *oldest = &http->visits[0];

    for (size_t i = 0; i < HTTP_MAX_CONNECTIONS; i++) {
        if (http->visits[i].http == NULL) {
            return;
        }
        if (http->visits[i].limit.at_ms < oldest->limit.at_ms) {
            oldest = &http->visits[i];
        }
    }
    visit_end(oldest);
}

static bool http_on_accepted(void *owner, nng_stream *stream, bool may_wait)
{
    struct http *http = owner;

    (void)may_wait;
    http_make_room(http);
    for (size_t i = 0; i < HTTP_MAX_CONNECTIONS; i++) {
        struct http_visit *visit = &http->visits[i];

        if (visit->http == NULL) {
            *visit = (struct http_visit){.http = http};
            visit->limit = (struct timer){.fired = visit_end, .owner = visit};
            visit->stream =
                stream_create(&http->net->loop, stream, HTTP_MAX_REQUEST + 4, &visit_events, visit);
            visit_limit(visit);
            stream_receive(visit->stream);
            return true;
        }
    }
    nng_stream_close(stream);
    nng_stream_free(stream);
    return true;
}

enum status http_open(struct net *net, const char *url, net_http_handler handler, void *context,
                      struct http **out, char *error)
{
    struct http *http;
    char tcp_url[256];
    enum status status;
    size_t len = strlen(url);

    if (strncmp(url, HTTP_SCHEME, strlen(HTTP_SCHEME)) != 0 || len > 200) {
        snprintf(error, 256, "%.150s is not a URL of the form http://host:port", url);
        return ST_INVALID;
    }
    snprintf(tcp_url, sizeof(tcp_url), "tcp://%s", url + strlen(HTTP_SCHEME));
    if (tcp_url[strlen(tcp_url) - 1] == '/') {
        tcp_url[strlen(tcp_url) - 1] = '\0';
    }
    http = mem_zalloc(sizeof(*http));
    http->net = net;
    http->handler = handler;
    http->context = context;
    status =
        listener_open(&net->loop, tcp_url, NULL, 1, http_on_accepted, http, &http->listener, error);
    if (status != ST_OK) {
        mem_free(http);
        http = NULL;
    }
    *out = http;
    return status;
}

void http_run(struct http *http)
{
    listener_start(http->listener);
}

void http_close(struct http **http_pointer)
{
    struct http *http = *http_pointer;

    *http_pointer = NULL;
    if (http == NULL) {
        return;
    }
    listener_close(&http->listener);
    for (size_t i = 0; i < HTTP_MAX_CONNECTIONS; i++) {
        if (http->visits[i].http != NULL) {
            visit_end(&http->visits[i]);
        }
    }
    mem_free(http);
}
