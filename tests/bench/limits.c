/* What a put of one client can't be faster than here: one fdatasync of a recycled file and two
 * round trips of our transport (client and leader, leader and follower), each measured alone. Also
 * what a hand-over from one thread to another takes, and how long three replicas on this one disk
 * need until two of them have a value of 16 MiB in their logs, if nothing else is done.
 *
 *   limits put DIR [SECONDS]    DIR: on the disk to be measured
 *   limits large DIR
 *
 * The file was written before, as a recycled segment of the log was, and is overwritten 4 KiB at a
 * time. The round trip is nng's streams, bare, between two processes: the far one answers from the
 * callback of its receive, the near one waits, so each way wakes one thread of nng's and the way
 * back one more. Prints one line of JSON: medians, and the slowest hundredth (p99) of each, which
 * no load on this machine can be steadier than; of the large value the median and the longest.
 * That is a run of its own, as it writes half a GiB.
 */
#include <fcntl.h>
#include <nng/nng.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define MAX_SAMPLES   200000
#define BLOCK_BYTES   4096
#define FILE_BLOCKS   4096
#define REQUEST_BYTES 350 /* about what a put of 256 bytes takes, and its answer */
#define ANSWER_BYTES  50
#define LARGE_BYTES   (16u << 20)
#define LARGE_TRIALS  10
#define REPLICAS      3

struct samples {
    uint32_t ns[MAX_SAMPLES];
    size_t n;
};

static uint64_t now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * UINT64_C(1000000000) + (uint64_t)now.tv_nsec;
}

static void fail(const char *what)
{
    fprintf(stderr, "limits: %s\n", what);
    exit(1);
}

static void check(int code, const char *what)
{
    if (code != 0) {
        fprintf(stderr, "limits: %s: %s\n", what, nng_strerror(code));
        exit(1);
    }
}

static int compare(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

    return (x > y) - (x < y);
}

struct limit {
    double median_us, p99_us;
};

static struct limit limit_of(struct samples *samples)
{
    if (samples->n == 0) {
        fail("nothing was measured");
    }
    qsort(samples->ns, samples->n, sizeof(samples->ns[0]), compare);
    return (struct limit){samples->ns[samples->n / 2] / 1e3,
                          samples->ns[samples->n - 1 - samples->n / 100] / 1e3};
}

/* ---- The disk ---- */

/* A file without a name that was written before, from its beginning to its end. */
static int recycled_file(const char *dir, char *block)
{
    char path[4096];
    int fd;

    snprintf(path, sizeof(path), "%s/limits.XXXXXX", dir);
    fd = mkstemp(path);
    if (fd < 0) {
        fail("cannot make a file");
    }
    unlink(path);
    memset(block, 0x5a, BLOCK_BYTES);
    for (size_t i = 0; i < FILE_BLOCKS; i++) {
        if (pwrite(fd, block, BLOCK_BYTES, (off_t)(i * BLOCK_BYTES)) != BLOCK_BYTES) {
            fail("cannot write the file");
        }
    }
    fsync(fd);
    return fd;
}

static char *aligned_block(size_t bytes)
{
    void *block;

    if (posix_memalign(&block, BLOCK_BYTES, bytes) != 0) {
        fail("no memory");
    }
    return block;
}

static struct limit measure_sync(const char *dir, uint64_t run_ns, struct samples *samples)
{
    char *block = aligned_block(BLOCK_BYTES);
    int fd = recycled_file(dir, block);
    uint64_t end_ns;

    end_ns = now_ns() + run_ns;
    for (samples->n = 0; samples->n < MAX_SAMPLES; samples->n++) {
        uint64_t start_ns = now_ns();

        if (start_ns >= end_ns) {
            break;
        }
        memcpy(block, &start_ns, sizeof(start_ns));
        if (pwrite(fd, block, BLOCK_BYTES, (off_t)(samples->n % FILE_BLOCKS * BLOCK_BYTES)) !=
                BLOCK_BYTES ||
            fdatasync(fd) != 0) {
            fail("cannot write or sync the file");
        }
        samples->ns[samples->n] = (uint32_t)(now_ns() - start_ns);
    }
    close(fd);
    free(block);
    return limit_of(samples);
}

/* One replica's log: a large value is written and synced each time the byte comes. */
static void keep_large(const char *dir, int go, int done)
{
    char *large = aligned_block(LARGE_BYTES), byte;
    int fd = recycled_file(dir, large);

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    memset(large, 0xa5, LARGE_BYTES);
    while (read(go, &byte, 1) == 1) {
        if (pwrite(fd, large, LARGE_BYTES, 0) != (ssize_t)LARGE_BYTES || fdatasync(fd) != 0 ||
            write(done, &byte, 1) != 1) {
            fail("cannot write or sync a large value");
        }
    }
    _exit(0);
}

/* The longest in p99_us. */
static struct limit measure_large(const char *dir, struct samples *samples)
{
    int go[REPLICAS][2], done[2];
    pid_t replicas[REPLICAS];
    char byte = 0;

    if (pipe(done) != 0) {
        fail("pipe");
    }
    for (int i = 0; i < REPLICAS; i++) {
        if (pipe(go[i]) != 0 || (replicas[i] = fork()) < 0) {
            fail("cannot begin");
        }
        if (replicas[i] == 0) {
            keep_large(dir, go[i][0], done[1]);
        }
    }
    /* The first time is no trial: their files are being written. */
    for (samples->n = 0; samples->n <= LARGE_TRIALS; samples->n++) {
        uint64_t start_ns = now_ns();

        for (int i = 0; i < REPLICAS; i++) {
            if (write(go[i][1], &byte, 1) != 1) {
                fail("pipe");
            }
        }
        for (int n = 1; n <= REPLICAS; n++) {
            if (read(done[0], &byte, 1) != 1) {
                fail("a replica is gone");
            }
            if (n == REPLICAS / 2 + 1) {
                samples->ns[samples->n] = (uint32_t)(now_ns() - start_ns);
            }
        }
    }
    for (int i = 0; i < REPLICAS; i++) {
        kill(replicas[i], SIGKILL);
        waitpid(replicas[i], NULL, 0);
    }
    samples->n = LARGE_TRIALS;
    memmove(samples->ns, samples->ns + 1, LARGE_TRIALS * sizeof(samples->ns[0]));
    return limit_of(samples);
}

/* ---- Threads ---- */

/* Whose turn it is: that of the one who measures, or that of the other. */
struct turns {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool is_others, ended;
};

/* Returns when it has come back: false if there are no more. */
static bool pass_turn(struct turns *turns, bool to_other)
{
    bool ended;

    pthread_mutex_lock(&turns->lock);
    turns->is_others = to_other;
    pthread_cond_signal(&turns->changed);
    while (turns->is_others == to_other && !turns->ended) {
        pthread_cond_wait(&turns->changed, &turns->lock);
    }
    ended = turns->ended;
    pthread_mutex_unlock(&turns->lock);
    return !ended;
}

static void *answer_turns(void *context)
{
    struct turns *turns = context;

    while (pass_turn(turns, false)) {
    }
    return NULL;
}

/* There and back is two hand-overs. */
static struct limit measure_hand_over(uint64_t run_ns, struct samples *samples)
{
    struct turns turns = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, false, false};
    uint64_t end_ns = now_ns() + run_ns;
    pthread_t other;

    if (pthread_create(&other, NULL, answer_turns, &turns) != 0) {
        fail("no thread");
    }
    for (samples->n = 0; samples->n < MAX_SAMPLES; samples->n++) {
        uint64_t start_ns = now_ns();

        if (start_ns >= end_ns) {
            break;
        }
        (void)pass_turn(&turns, true);
        samples->ns[samples->n] = (uint32_t)((now_ns() - start_ns) / 2);
    }
    pthread_mutex_lock(&turns.lock);
    turns.ended = true;
    pthread_cond_signal(&turns.changed);
    pthread_mutex_unlock(&turns.lock);
    pthread_join(other, NULL);
    return limit_of(samples);
}

/* ---- The transport ---- */

/* The far side: receives a request, answers, and so on, all in callbacks. */
struct echo {
    nng_stream *stream;
    nng_aio *receive, *send;
    uint8_t bytes[REQUEST_BYTES];
    size_t received;
};

static void echo_receive(struct echo *echo)
{
    nng_iov iov = {echo->bytes + echo->received, REQUEST_BYTES - echo->received};

    nng_aio_set_iov(echo->receive, 1, &iov);
    nng_stream_recv(echo->stream, echo->receive);
}

static void on_received(void *context)
{
    struct echo *echo = context;
    nng_iov iov = {echo->bytes, ANSWER_BYTES};

    if (nng_aio_result(echo->receive) != 0) {
        _exit(0); /* the near side is done */
    }
    echo->received += nng_aio_count(echo->receive);
    if (echo->received == REQUEST_BYTES) {
        echo->received = 0;
        nng_aio_set_iov(echo->send, 1, &iov);
        nng_stream_send(echo->stream, echo->send);
    }
    echo_receive(echo);
}

static void on_sent(void *context)
{
    struct echo *echo = context;

    if (nng_aio_result(echo->send) != 0) {
        _exit(1);
    }
}

static void serve(int port_pipe)
{
    struct echo *echo = calloc(1, sizeof(*echo));
    nng_stream_listener *listener;
    nng_aio *accept;
    int port = 0;

    if (echo == NULL) {
        fail("no memory");
    }
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    check(nng_stream_listener_alloc(&listener, "tcp://127.0.0.1:0"), "listen");
    check(nng_stream_listener_listen(listener), "listen");
    check(nng_stream_listener_get_int(listener, NNG_OPT_TCP_BOUND_PORT, &port), "port");
    check(nng_aio_alloc(&accept, NULL, NULL), "aio");
    nng_stream_listener_accept(listener, accept);
    if (write(port_pipe, &port, sizeof(port)) != sizeof(port)) {
        fail("pipe");
    }
    nng_aio_wait(accept);
    check(nng_aio_result(accept), "accept");
    echo->stream = nng_aio_get_output(accept, 0);
    nng_stream_set_bool(echo->stream, NNG_OPT_TCP_NODELAY, true);
    check(nng_aio_alloc(&echo->receive, on_received, echo), "aio");
    check(nng_aio_alloc(&echo->send, on_sent, echo), "aio");
    echo_receive(echo);
    for (;;) {
        pause();
    }
}

static nng_stream *dial(int port, nng_aio *aio)
{
    nng_stream_dialer *dialer;
    char url[64];

    snprintf(url, sizeof(url), "tcp://127.0.0.1:%d", port);
    check(nng_stream_dialer_alloc(&dialer, url), "dial");
    nng_stream_dialer_dial(dialer, aio);
    nng_aio_wait(aio);
    check(nng_aio_result(aio), "dial");
    return nng_aio_get_output(aio, 0);
}

/* All of the bytes, by nng_stream_send or nng_stream_recv. */
static void transfer(void (*start)(nng_stream *, nng_aio *), const char *what, nng_stream *stream,
                     nng_aio *aio, uint8_t *bytes, size_t len)
{
    while (len > 0) {
        nng_iov iov = {bytes, len};

        nng_aio_set_iov(aio, 1, &iov);
        start(stream, aio);
        nng_aio_wait(aio);
        check(nng_aio_result(aio), what);
        bytes += nng_aio_count(aio);
        len -= nng_aio_count(aio);
    }
}

static void send_all(nng_stream *stream, nng_aio *aio, uint8_t *bytes, size_t len)
{
    transfer(nng_stream_send, "send", stream, aio, bytes, len);
}

static void receive_all(nng_stream *stream, nng_aio *aio, uint8_t *bytes, size_t len)
{
    transfer(nng_stream_recv, "receive", stream, aio, bytes, len);
}

static struct limit measure_round_trip(int port, uint64_t run_ns, struct samples *samples)
{
    uint8_t bytes[REQUEST_BYTES] = {0};
    nng_aio *aio;
    nng_stream *stream;
    uint64_t end_ns = now_ns() + run_ns;

    check(nng_aio_alloc(&aio, NULL, NULL), "aio");
    nng_aio_set_timeout(aio, 10000);
    stream = dial(port, aio);
    nng_stream_set_bool(stream, NNG_OPT_TCP_NODELAY, true);
    for (samples->n = 0; samples->n < MAX_SAMPLES; samples->n++) {
        uint64_t start_ns = now_ns();

        if (start_ns >= end_ns) {
            break;
        }
        send_all(stream, aio, bytes, REQUEST_BYTES);
        receive_all(stream, aio, bytes, ANSWER_BYTES);
        samples->ns[samples->n] = (uint32_t)(now_ns() - start_ns);
    }
    nng_stream_close(stream);
    return limit_of(samples);
}

static void print_large(const char *dir, struct samples *samples)
{
    struct limit large = measure_large(dir, samples);

    printf("{\"large_us\":%.1f,\"large_longest_us\":%.1f}\n", large.median_us, large.p99_us);
}

static void print_put(const char *dir, double seconds, struct samples *samples)
{
    struct limit sync, hand_over, round_trip;
    int port_pipe[2], port;
    pid_t far;

    if (pipe(port_pipe) != 0) {
        fail("cannot begin");
    }
    far = fork(); /* before the first call of nng's */
    if (far == 0) {
        serve(port_pipe[1]);
    }
    if (far < 0 || read(port_pipe[0], &port, sizeof(port)) != sizeof(port)) {
        fail("no far side");
    }
    sync = measure_sync(dir, (uint64_t)(seconds * 5e8), samples);
    hand_over = measure_hand_over((uint64_t)(seconds * 2e8), samples);
    round_trip = measure_round_trip(port, (uint64_t)(seconds * 5e8), samples);
    kill(far, SIGKILL);
    waitpid(far, NULL, 0);
    printf("{\"sync_us\":%.1f,\"round_trip_us\":%.1f,\"limit_us\":%.1f,\"sync_p99_us\":%.1f,"
           "\"round_trip_p99_us\":%.1f,\"hand_over_us\":%.1f}\n",
           sync.median_us, round_trip.median_us, sync.median_us + 2 * round_trip.median_us,
           sync.p99_us, round_trip.p99_us, hand_over.median_us);
}

int main(int argc, char **argv)
{
    struct samples *samples = calloc(1, sizeof(*samples));
    double seconds = argc > 3 ? atof(argv[3]) : 2;
    bool large = argc == 3 && strcmp(argv[1], "large") == 0;
    bool put = argc >= 3 && strcmp(argv[1], "put") == 0;

    if ((!large && !put) || seconds <= 0 || seconds > 60) {
        fprintf(stderr, "usage: limits put DIR [SECONDS] | limits large DIR\n");
        return 2;
    }
    if (samples == NULL) {
        fail("no memory");
    }
    if (large) {
        print_large(argv[2], samples);
    } else {
        print_put(argv[2], seconds, samples);
    }
    free(samples);
    return 0;
}
