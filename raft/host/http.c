/* Metrics and health over HTTP: which page is which. All on the loop thread, so a page that comes
 * shows that the loop turns. */
#include <string.h>

#include "raft/host/host_internal.h"

/* Whether the query asks for every check by name: "verbose", alone or among others. */
static bool is_verbose(const char *query)
{
    static const char word[] = "verbose";
    const char *found = strstr(query, word);

    return found != NULL && (found == query || found[-1] == '&') &&
           strchr("&=", found[sizeof(word) - 1]) != NULL;
}

static void handle(void *context, const char *path, const char *query, int *status,
                   const char **content_type, struct buf *body)
{
    struct host *host = context;
    bool verbose = is_verbose(query);

    *status = 200;
    *content_type = "text/plain; charset=utf-8";
    if (host->server == NULL) { /* everything opens, or closes */
        *status = 503;
        buf_printf(body, "not ready: the server begins or ends\n");
    } else if (strcmp(path, "/metrics") == 0) {
        *content_type = "text/plain; version=0.0.4; charset=utf-8";
        host_put_metrics(host, body);
    } else if (strcmp(path, "/livez") == 0) {
        *status = host_put_livez(host, verbose, body) ? 200 : 503;
    } else if (strcmp(path, "/readyz") == 0) {
        *status = host_put_readyz(host, verbose, body) ? 200 : 503;
    } else {
        *status = 404;
        buf_printf(body, "not found; try /metrics, /livez or /readyz\n");
    }
}

enum status host_http_start(struct host *host, char *error)
{
    if (host->settings->metrics == NULL) {
        return ST_OK;
    }
    return net_http_start(host->net, host->settings->metrics, handle, host, error);
}
