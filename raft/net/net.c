/* net: the loop thread and its turns; everything else hangs below it.
 *
 * A turn: wait for mail or a deadline; run the mails in the order posted (bytes that came, sends
 * that ended, posts of other threads); fire the timers that are due; reap the connections that
 * failed; a TICK if the sink's deadline passed; one TURN_END; then give everything that gathered to
 * nng, in one send a connection.
 */
#include "raft/net.h"

#include <stddef.h>
#include <stdio.h>
#include <sys/random.h>
#include <time.h>

#include "raft/net/net_internal.h"
#include "raft/net/nng_threads.h"
#include "raft/util/assert.h"
#include "raft/util/mem.h"

#define NET_STALL_MS        50   /* of being late, what is beyond was not listened in */
#define NET_LONG_TURN_US    8000 /* after it the loop's own thread goes on, */
#define NET_ACCEPT_AT_ONCE  64   /* connections */
#define NET_BUSY_TURNS      12   /* and after so many in a millisecond */
#define NET_TURNS_ELSEWHERE 64   /* in a row, by a thread that brought mail; then it gives way */

struct net_posted {
    struct mail mail;
    void (*run)(void *arg);
    void *arg;
};

/* ---- The clock ---- */

static uint64_t clock_us(clockid_t clock)
{
    struct timespec now;

    ASSERT(clock_gettime(clock, &now) == 0);
    return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

uint64_t net_now_ms(void)
{
    return clock_us(CLOCK_MONOTONIC) / 1000;
}

uint64_t net_now_us(void)
{
    return clock_us(CLOCK_MONOTONIC);
}

uint64_t net_wall_us(void)
{
    return clock_us(CLOCK_REALTIME);
}

/* ---- struct io_net ---- */

static struct net *net_of(struct io_net *io)
{
    return (struct net *)io;
}

static void net_peer_send(struct io_net *io, group_id group, raft_id to, enum io_class class,
                          struct buf *message)
{
    peers_send(net_of(io), group, to, class, message);
}

static void net_set_peers(struct io_net *io, group_id group, const struct io_peer *peers, size_t n,
                          bool open)
{
    ASSERT(group == net_of(io)->options.group);
    peers_set(net_of(io), peers, n, open);
}

static void net_reply(struct io_net *io, io_conn conn, struct buf *message)
{
    accepted_reply(net_of(io), conn, message);
}

static io_endpoint net_endpoint(struct io_net *io, group_id gid, const char *url)
{
    return endpoints_intern(net_of(io), gid, url);
}

static void net_endpoint_send(struct io_net *io, io_endpoint endpoint, struct buf *message)
{
    endpoints_send(net_of(io), endpoint, message);
}

static const struct io_net_ops net_ops = {.peer_send = net_peer_send,
                                          .set_peers = net_set_peers,
                                          .reply = net_reply,
                                          .endpoint = net_endpoint,
                                          .endpoint_send = net_endpoint_send};

struct io_net *net_io(struct net *net)
{
    return &net->io;
}

/* ---- The loop ---- */

void net_deliver(struct net *net, struct io_event *event)
{
    event->now_ms = net->loop.now_ms;
    event->now_us = net_now_us();
    event->awake_ms = loop_awake_ms(&net->loop);
    event->wall_us = event->now_us + net->loop.to_wall_us;
    net->options.sink.event(net->options.sink.context, event);
}

static uint64_t net_next_deadline_ms(const struct net *net)
{
    uint64_t timers_ms = timers_next_ms(&net->loop.timers);
    uint64_t sink_ms = net->options.sink.next_deadline_ms(net->options.sink.context);

    if (!TAILQ_EMPTY(&net->failed) || !TAILQ_EMPTY(&net->dirty)) {
        return 0;
    }
    /* A sink that does not move its deadline gets a TICK a millisecond, not a busy loop. */
    if (sink_ms <= net->loop.now_ms) {
        sink_ms = net->loop.now_ms + 1;
    }
    /* A replica looks at the clock once a heartbeat, to know when it was not let run. */
    if (net->options.self.who == HELLO_PEER &&
        sink_ms > net->loop.now_ms + net->options.heartbeat_ms) {
        sink_ms = net->loop.now_ms + net->options.heartbeat_ms;
    }
    return timers_ms < sink_ms ? timers_ms : sink_ms;
}

static uint32_t net_run_mails(struct mail *mails)
{
    uint32_t n = 0;

    while (mails != NULL) {
        struct mail *next = mails->next; /* the mail may be gone after it ran */

        mails->run(mails);
        mails = next;
        n++;
    }
    return n;
}

static void net_fire_timers(struct net *net)
{
    struct timer *timer;

    while ((timer = timers_take_due(&net->loop.timers, net->loop.now_ms)) != NULL) {
        timer->fired(timer->owner);
    }
}

static void net_reap_failed(struct net *net)
{
    struct conn *conn;

    while ((conn = TAILQ_FIRST(&net->failed)) != NULL) {
        conn->events->closed(conn, conn->status, conn->reason, conn->refused);
        conn_destroy(&conn);
    }
}

/* One send for each connection; what has more waits for the next turn, which comes at once. */
static void net_flush(struct net *net)
{
    struct conn *conn, *last = TAILQ_LAST(&net->dirty, conn_list);

    while (last != NULL) {
        conn = TAILQ_FIRST(&net->dirty);
        conn_flush(conn);
        if (conn == last) {
            return;
        }
    }
}

static void net_deliver_plain(struct net *net, enum io_event_type type)
{
    struct io_event event = {.type = type};

    net_deliver(net, &event);
}

static void net_count_mails(struct net *net, uint32_t n)
{
    net->stats.mails += n;
    if (n > net->stats.most_mails) {
        net->stats.most_mails = n;
    }
}

/* The turn began when the clock was read before it, and ended when it was read after it. */
static void net_count_turn(struct net *net, uint64_t begin_us)
{
    uint64_t us = net->loop.now_us - begin_us;

    histogram_add(&net->stats.turn_us, us);
    if (us > net->stats.slowest_turn_us) {
        net->stats.slowest_turn_us = us;
    }
}

static void net_turn(struct net *net, struct mail *mails)
{
    struct net_sink *sink = &net->options.sink;

    net->loop.to_wall_us = net_wall_us() - net->loop.now_us;
    net_count_mails(net, net_run_mails(mails));
    net_fire_timers(net);
    net_reap_failed(net);
    if (sink->next_deadline_ms(sink->context) <= net->loop.now_ms) {
        net_deliver_plain(net, IO_EVENT_TICK);
    }
    net_deliver_plain(net, IO_EVENT_TURN_END);
    net_flush(net);
}

/* Nobody had to listen until now. */
static void net_set_clock(struct net *net)
{
    net->loop.now_us = net_now_us();
    net->loop.now_ms = net->loop.now_us / 1000;
}

/* Reads the clock. What it shows beyond `expected_ms`, but for a little, this thread did not listen
 * in: nobody else's silence is measured by it. The little lets time go on, and heartbeats leave,
 * where every turn is late. */
static void net_read_clock(struct net *net, uint64_t expected_ms)
{
    uint64_t now_ms;

    if (expected_ms < net->loop.now_ms) {
        expected_ms = net->loop.now_ms;
    }
    net_set_clock(net);
    now_ms = net->loop.now_ms;
    if (now_ms > expected_ms && now_ms - expected_ms > NET_STALL_MS) {
        net->loop.asleep_ms += now_ms - expected_ms - NET_STALL_MS;
    }
}

/* Which thread runs the next turn. A turn for each mail, where the mail came from, saves a
 * hand-over of threads; but when turns follow each other closely, the owner runs fewer with many
 * mails in each; and what waits for a thread of nng's must not wait for a long turn there. */
static void net_choose_thread(struct loop *loop, uint64_t began_us)
{
    if (loop->now_ms != loop->busy_ms) {
        loop->busy_ms = loop->now_ms;
        loop->busy_turns = 0;
    }
    loop->busy_turns++;
    loop->owner_is_next =
        loop->busy_turns > NET_BUSY_TURNS || loop->now_us - began_us >= NET_LONG_TURN_US;
}

/* A turn, with the clock read before and after it. */
static void net_run_turn(struct net *net, struct mail *mails)
{
    uint64_t begin_us;

    net_read_clock(net, net->loop.deadline_ms);
    begin_us = net->loop.now_us;
    net_turn(net, mails);
    net_read_clock(net, net->loop.now_ms);
    net_choose_thread(&net->loop, begin_us);
    net_count_turn(net, begin_us);
    net->loop.deadline_ms = net_next_deadline_ms(net);
}

void loop_bring(struct loop *loop, struct mail *mail, bool patient)
{
    struct net *net = (struct net *)((char *)loop - offsetof(struct net, loop));
    uint32_t left = patient ? NET_TURNS_ELSEWHERE : 1;
    struct mail *mails;
    bool more = mailbox_bring(&loop->mailbox, mail, &mails);

    while (more) {
        net_run_turn(net, mails);
        left--;
        if (loop->owner_is_next) {
            mailbox_end_lending(&loop->mailbox);
            left = 0;
        }
        more = mailbox_go_on(&loop->mailbox, loop->now_ms, loop->deadline_ms, left == 0, &mails);
    }
}

void net_run(struct net *net)
{
    struct loop *loop = &net->loop;

    net_set_clock(net);
    if (net->listener != NULL) {
        listener_start(net->listener);
    }
    if (net->http != NULL) {
        http_run(net->http);
    }
    peers_start(net);
    loop->deadline_ms = net_next_deadline_ms(net);
    while (!mailbox_is_stopped(&loop->mailbox)) {
        net_run_turn(net, mailbox_take(&loop->mailbox, loop->deadline_ms,
                                       loop->lends && !loop->owner_is_next));
    }
}

void net_drain(struct net *net)
{
    net_read_clock(net, 0);
    net_turn(net, mailbox_take(&net->loop.mailbox, 0, false));
}

void net_stop(struct net *net)
{
    mailbox_stop(&net->loop.mailbox);
}

static void net_run_posted(struct mail *mail)
{
    struct net_posted *posted = (struct net_posted *)mail;

    posted->run(posted->arg);
    mem_free(posted);
}

static void net_drop_posted(struct mail *mail)
{
    mem_free(mail);
}

static struct mail *net_posted_create(void (*run)(void *arg), void *arg)
{
    struct net_posted *posted = mem_zalloc(sizeof(*posted));

    posted->mail.run = net_run_posted;
    posted->run = run;
    posted->arg = arg;
    return &posted->mail;
}

void net_post(struct net *net, void (*run)(void *arg), void *arg)
{
    mailbox_post(&net->loop.mailbox, net_posted_create(run, arg));
}

bool net_is_in_turn(struct net *net)
{
    return mailbox_is_holder(&net->loop.mailbox);
}

void net_bring(struct net *net, void (*run)(void *arg), void *arg)
{
    loop_bring(&net->loop, net_posted_create(run, arg), false);
}

void net_random(void *bytes, size_t len)
{
    ASSERT(len <= 256); /* so much comes in one piece */
    ASSERT(getrandom(bytes, len, 0) == (ssize_t)len);
}

/* ---- Life ---- */

void net_options_default(struct net_options *options)
{
    *options = (struct net_options){.self = {.who = HELLO_CLIENT,
                                             .protocol_low = HELLO_PROTOCOL_LOW,
                                             .protocol_high = HELLO_PROTOCOL_HIGH},
                                    .election_timeout_ms = 300,
                                    .heartbeat_ms = 50,
                                    .limits = {.max_connections = 4096,
                                               .max_connections_per_remote = 3072,
                                               .max_client_queue_bytes = 128u << 20,
                                               .max_peer_queue_bytes = 128u << 20,
                                               .max_reassembly_bytes = 128u << 20,
                                               .max_endpoint_queue_bytes = 256u << 20,
                                               .max_total_reassembly_bytes = 1u << 30,
                                               .max_fragment_pause_ms = 60000,
                                               .max_total_client_queue_bytes = 512u << 20}};
}

static const char *copy_text(const char *text)
{
    return text == NULL ? NULL : mem_copy_string(text);
}

static void net_copy_options(struct net *net, const struct net_options *options)
{
    net->options = *options;
    net->options.listen_url = copy_text(options->listen_url);
    net->options.tls_cert = copy_text(options->tls_cert);
    net->options.tls_key = copy_text(options->tls_key);
    net->options.tls_ca = copy_text(options->tls_ca);
    net->options.peer_key = copy_text(options->peer_key);
    net->self = options->self;
}

static enum status net_listen(struct net *net, char *error);

enum status net_create(const struct net_options *options, struct net **out, char *error)
{
    struct net *net = mem_zalloc(sizeof(*net));
    uint64_t seed;
    enum status status;
    char warning[256];

    ASSERT(options->peer_key == NULL || options->self.who == HELLO_PEER);
    ASSERT(options->sink.event != NULL && options->sink.next_deadline_ms != NULL);
    ASSERT(options->election_timeout_ms > 0 && options->heartbeat_ms > 0);
    if (options->sole_nng_user && options->tls_ca == NULL && !nng_threads_keep_one()) {
        trace_warn(options->trace,
                   "nng runs its callbacks on several threads: slower than it could");
    }
    error[0] = '\0';
    net->io.ops = &net_ops;
    net_copy_options(net, options);
    net_random(&seed, sizeof(seed));
    rng_init(&net->rng, seed);
    TAILQ_INIT(&net->dirty);
    TAILQ_INIT(&net->failed);
    gather_init(net);
    mailbox_init(&net->loop.mailbox);
    net->loop.trace = options->trace;
    net->loop.lends = options->turns_anywhere;
    net_set_clock(net);
    net->loop.to_wall_us = net_wall_us() - net->loop.now_us;
    accepted_init(net);
    endpoints_init(net);
    status =
        tls_create(options->tls_cert, options->tls_key, options->tls_ca, &net->tls, error, warning);
    if (status == ST_OK) {
        if (warning[0] != '\0') {
            trace_warn(options->trace, "TLS warning=\"%s\"", warning);
        }
        status = peer_key_load(options->peer_key, &net->peer_key, error);
    }
    if (status == ST_OK) {
        status = net_listen(net, error);
    }
    if (status == ST_OK) {
        peers_init(net);
    } else {
        net_destroy(&net);
    }
    *out = net;
    return status;
}

static bool net_on_accepted(void *owner, nng_stream *stream, bool may_wait)
{
    return accepted_add(owner, stream, may_wait);
}

static enum status net_listen(struct net *net, char *error)
{
    const char *url = net->options.listen_url;
    bool tls = url != NULL && strncmp(url, "tls+tcp://", 10) == 0;

    if (url == NULL) {
        return ST_OK;
    }
    if (tls && tls_server_config(net->tls) == NULL) {
        snprintf(error, 256, "cannot listen on %s: it needs a TLS certificate and key, and the CA",
                 url);
        return ST_INVALID;
    }
    return listener_open(&net->loop, url, tls ? tls_server_config(net->tls) : NULL,
                         NET_ACCEPT_AT_ONCE, net_on_accepted, net, &net->listener, error);
}

/* Waits until nng has let go of everything. Mails only release things now. */
static void net_wait_released(struct net *net)
{
    struct mail *mails;

    while ((mails = mailbox_take(&net->loop.mailbox, net->loop.n_open > 0 ? UINT64_MAX : 0,
                                 false)) != NULL) {
        for (struct mail *mail = mails; mail != NULL; mail = mail->next) {
            if (mail->run == net_run_posted) {
                mail->run = net_drop_posted;
            }
        }
        net_run_mails(mails);
    }
    ASSERT(net->loop.n_open == 0);
}

void net_destroy(struct net **net_pointer)
{
    struct net *net = *net_pointer;

    *net_pointer = NULL;
    if (net == NULL) {
        return;
    }
    mailbox_reopen(&net->loop.mailbox);
    listener_close(&net->listener);
    http_close(&net->http);
    peers_fini(net);
    endpoints_fini(net);
    accepted_fini(net);
    net_wait_released(net);
    ASSERT(TAILQ_EMPTY(&net->dirty) && TAILQ_EMPTY(&net->failed));
    gather_fini(net);
    tls_destroy(&net->tls);
    peer_key_destroy(&net->peer_key);
    timers_fini(&net->loop.timers);
    mailbox_fini(&net->loop.mailbox);
    mem_free((void *)net->options.listen_url);
    mem_free((void *)net->options.tls_cert);
    mem_free((void *)net->options.tls_key);
    mem_free((void *)net->options.tls_ca);
    mem_free((void *)net->options.peer_key);
    mem_free(net);
}

/* ---- The rest of net.h ---- */

enum status net_admit(struct net *net, const struct hello *self, const struct hello *other,
                      const char **reason)
{
    const struct net_sink *sink = &net->options.sink;

    if (sink->admit != NULL) {
        return sink->admit(sink->context, self, other, reason);
    }
    return hello_check(self, other, 0, reason);
}

/* Who belongs to another cluster is refused (design 7), also if we learned only now to which one we
 * do. What the other side has not shown can't be judged: two that knew nothing were started with
 * the same SPEC, and learn the same from their group. */
void net_check_cluster(struct conn *conn)
{
    if (conn != NULL && (conn->state == CONN_UP || conn->state == CONN_GREETING) &&
        hello_clusters_differ(&conn->net->self, &conn->handshake.other)) {
        conn_fail(conn, ST_WRONG_CLUSTER, "the cluster ids differ");
    }
}

void net_set_hello(struct net *net, const struct hello *self)
{
    ASSERT(self->who == net->self.who && self->gid == net->self.gid && self->id == net->self.id);
    net->self = *self;
    peers_check_cluster(net);
    endpoints_check_cluster(net);
    accepted_check_cluster(net);
}

size_t net_peer_statistics(const struct net *net, struct net_peer_stats *peers, size_t max)
{
    return peers_statistics(&net->peers, peers, max);
}

void net_statistics(const struct net *net, struct net_stats *stats)
{
    *stats = net->stats;
    stats->asleep_ms = net->loop.asleep_ms;
    stats->reassembly_bytes =
        net->accepted.pool.used + net->accepted.peers_pool.used + net->endpoints.pool.used;
    for (size_t i = 0; i < NET_DROP_REASONS; i++) {
        stats->dropped += stats->drops[i];
    }
}

enum status net_http_start(struct net *net, const char *url, net_http_handler handler,
                           void *context, char *error)
{
    ASSERT(net->http == NULL);
    return http_open(net, url, handler, context, &net->http, error);
}
