/* The HTTP server of the metrics page, as a whole: requests that come in pieces, on several
 * connections. One server gets each request in one go, another the same bytes split at arbitrary
 * places: both answer the same. An answer is well-formed, and what the handler gets is a path. */
#include <stdlib.h>

#include "raft/net/net_internal.h"
#include "tests/fuzz/fake_stream.h"

#define VISITS 3

/* A stand-in for raft/net/listener.c: the target accepts by hand. */
struct listener {
    listener_accepted accepted;
    void *owner;
};

static struct listener *listening; /* the last one that was opened */

enum status listener_open(struct loop *loop, const char *url, nng_tls_config *tls, uint32_t at_once,
                          listener_accepted accepted, void *owner, struct listener **out,
                          char *error)
{
    (void)loop;
    (void)url;
    (void)tls;
    (void)at_once;
    (void)error;
    *out = mem_zalloc(sizeof(**out));
    **out = (struct listener){accepted, owner};
    listening = *out;
    return ST_OK;
}

void listener_start(struct listener *listener)
{
    ASSERT(listener->accepted != NULL);
}

void listener_close(struct listener **listener)
{
    mem_free(*listener);
    *listener = NULL;
}

struct server {
    struct net *net;
    struct http *http;
    struct listener *listener;
    struct fake_end ends[VISITS];
};

static void handle(void *context, const char *path, const char *query, int *status,
                   const char **content_type, struct buf *body)
{
    size_t len = strlen(path);

    (void)context;
    ASSERT(path[0] == '/' && len + strlen(query) < 1024);
    for (size_t i = 0; i < len; i++) {
        ASSERT(path[i] > ' ' && path[i] <= '~' && path[i] != '?');
    }
    for (size_t i = 0; query[i] != '\0'; i++) {
        ASSERT(query[i] > ' ' && query[i] <= '~');
    }
    *status = path[1] == 'm' ? 200 : 404;
    *content_type = "text/plain";
    buf_printf(body, "you asked for %s with %s\n", path, query);
}

static void server_init(struct server *server)
{
    char error[256];

    *server = (struct server){.net = mem_zalloc(sizeof(struct net))};
    ASSERT(http_open(server->net, "http://h:1", handle, NULL, &server->http, error) == ST_OK);
    server->listener = listening;
    http_run(server->http);
    for (int i = 0; i < VISITS; i++) {
        server->ends[i].stalls = true;
        server->listener->accepted(server->listener->owner, (nng_stream *)&server->ends[i], false);
    }
}

static void server_fini(struct server *server)
{
    http_close(&server->http);
    ASSERT(timers_next_ms(&server->net->loop.timers) == UINT64_MAX);
    timers_fini(&server->net->loop.timers);
    for (int i = 0; i < VISITS; i++) {
        buf_fini(&server->ends[i].sent);
    }
    mem_free(server->net);
}

/* An answer is a head that says how long the body is, and the body. */
static void check_answer(struct slice answer)
{
    const char *length, *end;

    if (answer.len == 0) {
        return;
    }
    ASSERT(slice_has_prefix(answer, slice_text("HTTP/1.1 ")));
    end = memmem(answer.data, answer.len, "\r\n\r\n", 4);
    ASSERT(end != NULL);
    length = memmem(answer.data, answer.len, "Content-Length: ", 16);
    ASSERT(length != NULL && length < end);
    end += 4;
    answer = slice_of(end, answer.len - (size_t)((const uint8_t *)end - answer.data));
    ASSERT(answer.len == strtoull(length + 16, NULL, 10) || answer.len == 0); /* HEAD */
}

/* Gives the request to a connection; `script` says how it is split, NULL: not at all. */
static void ask(struct server *server, int visit, struct slice request, struct script *script)
{
    struct fake_end *end = &server->ends[visit];

    while (request.len > 0 && end->stream != NULL) {
        size_t step = script == NULL ? request.len : 1 + fuzz_u8(script) % 32u;
        size_t came = fake_end_deliver(end, request, step);

        ASSERT(came > 0); /* it never stops to listen before it closes */
        request = slice_of(request.data + came, request.len - came);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct script script = script_of(data, size);
    struct script splits = script;
    struct server whole, split;
    struct slice requests[VISITS];
    bool break_last = fuzz_u8(&script) >= 128;

    server_init(&whole);
    server_init(&split);
    for (int i = 0; i < VISITS; i++) {
        size_t len = i == VISITS - 1 ? script_left(&script) : fuzz_u16(&script) % 1000;

        requests[i] = fuzz_take(&script, len);
        ask(&whole, i, requests[i], NULL);
        ask(&split, i, requests[i], &splits);
    }
    for (int i = 0; i < VISITS; i++) {
        ASSERT(slice_equal(buf_slice(&whole.ends[i].sent), buf_slice(&split.ends[i].sent)));
        ASSERT((whole.ends[i].stream == NULL) == (split.ends[i].stream == NULL));
        check_answer(buf_slice(&whole.ends[i].sent));
        if (i == VISITS - 1 && break_last && split.ends[i].stream != NULL) {
            fake_end_break(&split.ends[i]);
        } else {
            fake_end_sent(&split.ends[i]);
        }
    }
    server_fini(&whole);
    server_fini(&split);
    return 0;
}
