/* http: a small HTTP/1.1 server for metrics and health pages, on the loop thread.
 *
 * It answers GET and HEAD, one request a connection, and closes. It is built on our own streams and
 * not on nng's HTTP server, whose decoding of "%41" in a path runs past the end of its buffer in
 * nng 1.5.2: anybody who can reach the port could crash the process.
 */
#ifndef RAFT_NET_HTTP_H
#define RAFT_NET_HTTP_H

#include "raft/net.h"

struct http;

enum status http_open(struct net *net, const char *url, net_http_handler handler, void *context,
                      struct http **http, char *error);
/* Begins to accept; called when the loop runs. */
void http_run(struct http *http);
void http_close(struct http **http); /* clears the pointer */

#endif
