/* What a request costs a server before anybody looks into it: our transport alone, many
 * connections.
 *
 *   transport [CONNECTIONS [SECONDS]]      (64, 2)
 *
 * A server and its clients, two processes, on bare streams of nng: each connection has one request
 * outstanding, of the size of a put of 256 bytes; the server answers from the callback of its
 * receive, on the one thread of nng's that a server of ours has too. No round, no log, no state. A
 * get of ours can't cost less than this, nor a put. Prints one line of JSON: answers a second, and
 * the CPU time of each side for one.
 */
#include <nng/nng.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "raft/net/nng_threads.h"

#define MAX_CONNECTIONS 1000
#define REQUEST_BYTES   350
#define ANSWER_BYTES    50

/* Receives so many bytes, sends so many, and so on. */
struct end {
    nng_stream *stream;
    nng_aio *receive, *send;
    uint8_t bytes[REQUEST_BYTES];
    size_t received, to_receive, to_send;
    atomic_int ready; /* 2: what was sent is gone, and what was wanted has come */
};

static atomic_ullong n_answers;
static atomic_bool stopping;

static void check(int code, const char *what)
{
    if (code != 0) {
        fprintf(stderr, "transport: %s: %s\n", what, nng_strerror(code));
        _exit(1);
    }
}

static void end_receive(struct end *end)
{
    nng_iov iov = {end->bytes + end->received, end->to_receive - end->received};

    nng_aio_set_iov(end->receive, 1, &iov);
    nng_stream_recv(end->stream, end->receive);
}

static void end_send(struct end *end)
{
    nng_iov iov = {end->bytes, end->to_send};

    nng_aio_set_iov(end->send, 1, &iov);
    nng_stream_send(end->stream, end->send);
}

/* Whichever of the two callbacks comes last sends. */
static void end_ready(struct end *end)
{
    if (atomic_fetch_add(&end->ready, 1) == 1 &&
        !atomic_load_explicit(&stopping, memory_order_relaxed)) {
        atomic_store(&end->ready, 0);
        end_send(end);
    }
}

static void on_received(void *context)
{
    struct end *end = context;

    if (nng_aio_result(end->receive) != 0) {
        return; /* the far side is done */
    }
    end->received += nng_aio_count(end->receive);
    if (end->received == end->to_receive) {
        end->received = 0;
        atomic_fetch_add_explicit(&n_answers, 1, memory_order_relaxed);
        end_ready(end);
    }
    end_receive(end);
}

/* So few bytes always fit. */
static void on_sent(void *context)
{
    struct end *end = context;

    if (nng_aio_result(end->send) == 0) {
        check(nng_aio_count(end->send) == end->to_send ? 0 : NNG_EINTERNAL, "send");
        end_ready(end);
    }
}

static struct end *end_create(nng_stream *stream, size_t to_receive, size_t to_send)
{
    struct end *end = calloc(1, sizeof(*end));

    check(end == NULL ? NNG_ENOMEM : 0, "begin");
    end->stream = stream;
    end->to_receive = to_receive;
    end->to_send = to_send;
    nng_stream_set_bool(stream, NNG_OPT_TCP_NODELAY, true);
    check(nng_aio_alloc(&end->receive, on_received, end), "aio");
    check(nng_aio_alloc(&end->send, on_sent, end), "aio");
    return end;
}

static void serve(int port_pipe)
{
    nng_stream_listener *listener;
    struct end *end;
    nng_aio *accept;
    int port = 0;

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    check(nng_threads_keep_one() ? 0 : NNG_EINTERNAL, "threads");
    check(nng_stream_listener_alloc(&listener, "tcp://127.0.0.1:0"), "listen");
    check(nng_stream_listener_listen(listener), "listen");
    check(nng_stream_listener_get_int(listener, NNG_OPT_TCP_BOUND_PORT, &port), "port");
    check(nng_aio_alloc(&accept, NULL, NULL), "aio");
    if (write(port_pipe, &port, sizeof(port)) != sizeof(port)) {
        _exit(1);
    }
    for (;;) {
        nng_stream_listener_accept(listener, accept);
        nng_aio_wait(accept);
        check(nng_aio_result(accept), "accept");
        end = end_create(nng_aio_get_output(accept, 0), REQUEST_BYTES, ANSWER_BYTES);
        atomic_store(&end->ready, 1); /* nothing was sent */
        end_receive(end);
    }
}

static struct end *dial(nng_stream_dialer *dialer, nng_aio *aio)
{
    nng_stream_dialer_dial(dialer, aio);
    nng_aio_wait(aio);
    check(nng_aio_result(aio), "dial");
    return end_create(nng_aio_get_output(aio, 0), ANSWER_BYTES, REQUEST_BYTES);
}

static double seconds_of(clockid_t clock)
{
    struct timespec now;

    clock_gettime(clock, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static void sleep_for(double seconds)
{
    struct timespec span = {(time_t)seconds, (long)((seconds - (double)(time_t)seconds) * 1e9)};

    nanosleep(&span, NULL);
}

static void drive(int port, int n_connections, double seconds, clockid_t server_cpu)
{
    nng_stream_dialer *dialer;
    nng_aio *aio;
    char url[64];
    double began, server, client;
    unsigned long long before;

    snprintf(url, sizeof(url), "tcp://127.0.0.1:%d", port);
    check(nng_stream_dialer_alloc(&dialer, url), "dial");
    check(nng_aio_alloc(&aio, NULL, NULL), "aio");
    for (int i = 0; i < n_connections; i++) {
        struct end *end = dial(dialer, aio);

        end_send(end); /* its answer can't come before it is gone */
        end_receive(end);
    }
    sleep_for(0.5); /* not measured */
    before = atomic_load(&n_answers);
    began = seconds_of(CLOCK_MONOTONIC);
    server = seconds_of(server_cpu);
    client = seconds_of(CLOCK_PROCESS_CPUTIME_ID);
    sleep_for(seconds);
    before = atomic_load(&n_answers) - before;
    check(before == 0 ? NNG_ETIMEDOUT : 0, "answers");
    printf("{\"connections\":%d,\"answers_per_sec\":%.0f,\"server_cpu_us\":%.2f,"
           "\"client_cpu_us\":%.2f}\n",
           n_connections, (double)before / (seconds_of(CLOCK_MONOTONIC) - began),
           (seconds_of(server_cpu) - server) * 1e6 / (double)before,
           (seconds_of(CLOCK_PROCESS_CPUTIME_ID) - client) * 1e6 / (double)before);
    atomic_store(&stopping, true);
}

int main(int argc, char **argv)
{
    int n_connections = argc > 1 ? atoi(argv[1]) : 64, port_pipe[2], port;
    double seconds = argc > 2 ? atof(argv[2]) : 2;
    clockid_t server_cpu;
    pid_t server;

    if (n_connections < 1 || n_connections > MAX_CONNECTIONS || seconds <= 0 || seconds > 60) {
        fprintf(stderr, "usage: transport [CONNECTIONS [SECONDS]]\n");
        return 2;
    }
    if (pipe(port_pipe) != 0) {
        return 1;
    }
    server = fork(); /* before the first call of nng's */
    if (server == 0) {
        serve(port_pipe[1]);
    }
    if (server < 0 || read(port_pipe[0], &port, sizeof(port)) != sizeof(port) ||
        clock_getcpuclockid(server, &server_cpu) != 0) {
        fprintf(stderr, "transport: no server\n");
        return 1;
    }
    drive(port, n_connections, seconds, server_cpu);
    fflush(stdout);
    kill(server, SIGKILL);
    waitpid(server, NULL, 0);
    _exit(0); /* nng's threads still run */
}
