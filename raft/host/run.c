/* Runs one server: opens the data directory, the log and the state, creates the service, and hands
 * it every event of the loop until a signal or a failure.
 *
 * The end. SIGTERM and SIGINT wait in a thread of their own, which posts the stop to the loop: the
 * service hands leadership over; once the next leader is known, so that clients that ask here still
 * are told where to go, and at most STOP_GRACE_MS later, the loop ends, the log is drained and
 * everything closed. If that takes too long (a disk that hangs), the signal thread ends the
 * process.
 */
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "raft/host/host_internal.h"
#include "raft/util/assert.h"
#include "raft/util/mem.h"

#define STOP_GRACE_MS    700  /* for handing leadership over */
#define STOP_DEADLINE_MS 1900 /* then the process ends, clean or not */
#define DISK_DESCRIPTORS 1300
#define STOP_STEP_MS     30 /* a longer sleep was a pause of the whole process: not counted */
#define STATE_ROOM_BYTES (8ull << 20) /* that the state wants free besides what it writes */

static int complain(const struct host *host, const char *line, int code)
{
    fprintf(stderr, "%s: %s\n", host->settings->program, line);
    return code;
}

/* What to do about it, for who is not told by the line itself. */
static const char *way_out(enum status status, const char *line)
{
    return status == ST_CORRUPT && strstr(line, "--rebuild") == NULL ? "; " STORE_REBUILD : "";
}

static int exit_code_of(enum status status)
{
    switch (status) {
    case ST_CORRUPT:
        return HOST_EXIT_CORRUPT;
    case ST_IN_USE:
    case ST_INVALID:
    case ST_VERSION:
    case ST_WRONG_NODE:
    case ST_WRONG_CLUSTER:
    case ST_CONFLICT:
        return HOST_EXIT_REFUSED;
    default:
        return HOST_EXIT_FAILED;
    }
}

static uint64_t random_u64(void)
{
    uint64_t number = 0;

    while (number == 0) {
        ssize_t got = getrandom(&number, sizeof(number), 0);
        ASSERT(got == (ssize_t)sizeof(number));
    }
    return number;
}

/* The replica must stop: the state on disk can't be trusted or extended any more. */
static void on_halt(void *context, enum status status, const char *reason)
{
    struct host *host = context;

    if (host->exit_code == HOST_EXIT_OK) {
        trace_error(&host->trace, "halt status=%s reason=\"%s\"", status_name(status), reason);
        host->exit_code = exit_code_of(status);
        fprintf(stderr, "%s: stopped: %s%s\n", host->settings->program, reason,
                way_out(status, reason));
        if (status == ST_CORRUPT) {
            host_rebuild_mark(host, reason);
        }
    }
    net_stop(host->net);
}

/* False: the disk is full, and META is as it was. */
static bool save_identity(struct host *host)
{
    char error[STORE_ERROR_BYTES] = "";
    enum status status = store_dir_save(host->dir, &host->identity, error);

    if (status == ST_NO_SPACE && store_reserve_yield(host->space.reserve, 1)) {
        status = store_dir_save(host->dir, &host->identity, error);
    }
    if (status != ST_OK && status != ST_NO_SPACE) {
        on_halt(host, status, error);
    }
    return status != ST_NO_SPACE;
}

/* META remembers by a fingerprint of 0 that the replica joined an existing group: a later start
 * makes no first entry either, whatever it is told. */
static bool joined(const struct host *host)
{
    return host->identity.spec_fingerprint == 0;
}

static void show_hello(struct host *host)
{
    struct hello hello = {.who = HELLO_PEER,
                          .protocol_low = HELLO_PROTOCOL_LOW,
                          .protocol_high = HELLO_PROTOCOL_HIGH,
                          .active_level = HELLO_PROTOCOL_LOW,
                          .gid = host->settings->gid,
                          .id = host->settings->id,
                          .incarnation = host->identity.incarnation,
                          .spec_fingerprint =
                              joined(host) ? 0 : spec_fingerprint(&host->settings->cluster)};

    memcpy(hello.cluster_id, host->identity.cluster_id, sizeof(hello.cluster_id));
    net_set_hello(host->net, &hello);
}

static void learn_cluster_id(struct host *host)
{
    uint8_t cluster_id[16];
    static const uint8_t unknown[16];
    struct wal_stats wal;

    if (host->cluster_known || !host->service->cluster_id(host->server, cluster_id)) {
        return;
    }
    wal_statistics(host->wal, &wal);
    if (wal.records == 0 && memcmp(host->identity.cluster_id, unknown, sizeof(unknown)) == 0) {
        return; /* nothing of the log is durable yet: META must not claim that there is one */
    }
    host->cluster_known = true;
    if (memcmp(host->identity.cluster_id, cluster_id, sizeof(cluster_id)) == 0) {
        return;
    }
    if (memcmp(host->identity.cluster_id, unknown, sizeof(unknown)) != 0) {
        on_halt(host, ST_WRONG_CLUSTER, "the log belongs to another cluster than META says");
        return;
    }
    memcpy(host->identity.cluster_id, cluster_id, sizeof(cluster_id));
    if (!save_identity(host)) { /* tried again in the next turn */
        memset(host->identity.cluster_id, 0, sizeof(cluster_id));
        host->cluster_known = false;
        return;
    }
    show_hello(host);
}

static enum status on_admit(void *context, const struct hello *self, const struct hello *other,
                            const char **reason)
{
    struct host *host = context;
    uint64_t *known =
        other->who == HELLO_CLIENT || other->id > SPEC_MAX_ID || other->gid != host->settings->gid
            ? NULL
            : &host->identity.peer_incarnations[other->id];
    enum status status = hello_check(self, other, known == NULL ? 0 : *known, reason);

    if (status == ST_OK && known != NULL && *known == 0 && other->incarnation != 0) {
        *known = other->incarnation;
        if (!save_identity(host)) { /* it will call again */
            *known = 0;
            *reason = "the disk is full: a new peer can't be noted";
            return ST_NO_SPACE;
        }
        if (host->server != NULL) {
            group_pin_incarnation(host->service->group(host->server), other->id, *known);
        }
    } else if (status == ST_OK && known != NULL && *known != other->incarnation) {
        trace_info(&host->trace,
                   "peer id=%u joined as another incarnation than was known: its answers count "
                   "once the configuration names it",
                   other->id);
    }
    return status;
}

/* What META says of the peers' incarnations follows the configuration: a replica that was removed
 * may come back as another one. */
static void follow_pins(struct host *host)
{
    struct group *group = host->service->group(host->server);
    const struct raft *raft = group_raft(group);
    raft_index index = raft_configuration_index(raft);
    bool committed = index <= raft_commit_index(raft), changed = false;

    if (host->pins_known && host->pins_index == index && host->pins_committed == committed) {
        return;
    }
    host->pins_known = true;
    host->pins_index = index;
    host->pins_committed = committed;
    for (raft_id id = 1; id <= SPEC_MAX_ID; id++) {
        uint64_t *pinned = &host->identity.peer_incarnations[id];
        uint64_t now = group_pinned_incarnation(group, id, *pinned);

        changed |= now != *pinned && id != host->settings->id;
        *pinned = id != host->settings->id ? now : *pinned;
        group_pin_incarnation(group, id, *pinned);
    }
    if (changed && !save_identity(host)) {
        host->pins_known = false; /* tried again in the next turn */
    }
}

/* Nobody needs this replica any more: it did not lead, or another one leads now. A group of one has
 * nobody to take over. */
static bool may_stop(const struct host *host)
{
    struct group *group = host->service->group(host->server);

    return raft_latest_configuration(group_raft(group))->n <= 1 ||
           (!group_is_leader(group) && (!host->led_at_stop || raft_leader(group_raft(group)) != 0));
}

static void on_event(void *context, const struct io_event *event)
{
    struct host *host = context;

    if (host->server == NULL) { /* everything closes: see close_all */
        return;
    }
    host->service->step(host->server, event);
    if (event->type != IO_EVENT_TURN_END) {
        return;
    }
    wal_flush(host->wal);
    learn_cluster_id(host);
    follow_pins(host);
    host_space_check(host, event->now_ms);
    host_busy_check(host, event->now_ms);
    host_memory_check(host, event->now_ms);
    if (host->stop_ms != 0 && (may_stop(host) || event->now_ms >= host->stop_ms + STOP_GRACE_MS)) {
        net_stop(host->net);
    }
}

static uint64_t on_deadline(void *context)
{
    struct host *host = context;
    uint64_t service, own = host->space.next_check_ms;

    if (host->server == NULL) {
        return UINT64_MAX;
    }
    service = host->service->next_deadline_ms(host->server);
    if (host->stop_ms != 0 && host->stop_ms + STOP_GRACE_MS < own) {
        own = host->stop_ms + STOP_GRACE_MS;
    }
    return service < own ? service : own;
}

/* On the loop thread. A server that halted may be closing already: that is the end, then. */
static void begin_stop(void *arg)
{
    struct host *host = arg;
    struct io_event event = {.type = IO_EVENT_STOP};

    if (host->server != NULL && host->stop_ms == 0) {
        host->stop_ms = net_now_ms();
        host->led_at_stop = group_is_leader(host->service->group(host->server));
        trace_info(&host->trace, "stopping");
        net_deliver(host->net, &event);
    }
}

/* On the signal thread. */
static void post_stop(struct host *host)
{
    pthread_mutex_lock(&host->stop_mutex);
    if (!host->closes) {
        net_post(host->net, begin_stop, host);
    }
    pthread_mutex_unlock(&host->stop_mutex);
}

static void *wait_for_signals(void *arg)
{
    struct host *host = arg;
    sigset_t signals;
    int signal;

    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    sigwait(&signals, &signal);
    post_stop(host);
    for (uint64_t waited_ms = 0; waited_ms < STOP_DEADLINE_MS;) {
        uint64_t began_ms = net_now_ms(), slept_ms;

        if (atomic_load(&host->finished)) {
            return NULL;
        }
        usleep(10 * 1000);
        slept_ms = net_now_ms() - began_ms;
        waited_ms += slept_ms < STOP_STEP_MS ? slept_ms : STOP_STEP_MS;
    }
    complain(host, "the disk or the network hangs: ended without closing", HOST_EXIT_FAILED);
    _exit(HOST_EXIT_FAILED);
}

void host_group_options(const struct host_parts *parts, struct group_options *options)
{
    const struct host_settings *settings = parts->settings;

    group_options_default(options, settings->gid, settings->id, parts->seed);
    options->raft.election_timeout_ms = settings->election_timeout_ms;
    options->raft.heartbeat_ms = settings->heartbeat_ms;
    options->raft.trace = parts->trace;
    options->trace = parts->trace;
    options->raft.incarnation = parts->incarnation;
    options->checkpoint_dirty_bytes = parts->checkpoint_bytes;
    raft_configuration_from_spec(&settings->cluster, &options->bootstrap);
    options->bootstrap.n = parts->joins ? 0 : options->bootstrap.n;
}

static void mail_post(void *context, void (*run)(void *arg), void *arg)
{
    net_post(context, run, arg);
}

/* The log's thread has nothing to do until what it wrote is acted on. */
static void mail_bring(void *context, void (*run)(void *arg), void *arg)
{
    net_bring(context, run, arg);
}

static void mail_deliver(void *context, struct io_event *event)
{
    net_deliver(context, event);
}

/* As many descriptors as this process may have; so many of them for connections that those of the
 * disks are never short: LevelDB alone keeps up to 1000 files open. */
static uint32_t connections_at_most(uint32_t wanted)
{
    struct rlimit limit;
    rlim_t rest;

    if (getrlimit(RLIMIT_NOFILE, &limit) != 0) {
        return wanted;
    }
    if (limit.rlim_cur < limit.rlim_max) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
        getrlimit(RLIMIT_NOFILE, &limit);
    }
    rest = limit.rlim_cur > 2 * DISK_DESCRIPTORS ? limit.rlim_cur - DISK_DESCRIPTORS
                                                 : limit.rlim_cur / 2;
    return wanted < rest ? wanted : (uint32_t)rest;
}

static enum status open_net(struct host *host, char *error)
{
    const struct host_settings *settings = host->settings;
    struct net_options options;
    enum status status;

    net_options_default(&options);
    options.limits.max_connections = connections_at_most(options.limits.max_connections);
    options.listen_url = spec_find(&settings->cluster, settings->id)->url;
    options.group = settings->gid;
    options.peers = settings->cluster;
    options.election_timeout_ms = settings->election_timeout_ms;
    options.heartbeat_ms = settings->heartbeat_ms;
    options.tls_cert = settings->tls_cert;
    options.tls_key = settings->tls_key;
    options.tls_ca = settings->tls_ca;
    options.peer_key = settings->peer_key;
    options.turns_anywhere = true;
    options.sole_nng_user = true;
    options.sink = (struct net_sink){
        .context = host, .event = on_event, .next_deadline_ms = on_deadline, .admit = on_admit};
    options.trace = &host->trace;
    options.self.who = HELLO_PEER;
    options.self.gid = settings->gid;
    options.self.id = settings->id;
    status = net_create(&options, &host->net, error);
    if (status == ST_OK) {
        show_hello(host);
    }
    return status;
}

static enum status open_dir(struct host *host, char *error)
{
    struct identity wanted = {.gid = host->settings->gid,
                              .id = host->settings->id,
                              .incarnation = random_u64(),
                              .spec_fingerprint =
                                  host->joins ? 0 : spec_fingerprint(&host->settings->cluster)};

    return store_dir_open(host->settings->data, &wanted, &host->dir, &host->identity, error);
}

static enum status open_service(struct host *host, struct io_log_content *content,
                                struct io_state_meta *meta, char *error)
{
    struct host_parts parts = {.settings = host->settings,
                               .seed = random_u64(),
                               .incarnation = host->identity.incarnation,
                               .joins = joined(host),
                               .rejoins = joined(host) && host->settings->rebuild,
                               .now_ms = net_now_ms(),
                               .net = net_io(host->net),
                               .log = wal_io(host->wal),
                               .state = state_io(host->state),
                               .checkpoint_bytes = host->space.buffer_bytes,
                               .log_content = content,
                               .state_meta = meta,
                               .trace = &host->trace};

    parts.world = (struct group_world){parts.net, parts.log, parts.state, on_halt, host};

    return host->service->create(&parts, &host->server, error);
}

/* A replica whose log was lost must not vote as if it remembered. */
static bool log_is_missing(const struct host *host, const struct io_log_content *content)
{
    static const uint8_t unknown[16];

    return memcmp(host->identity.cluster_id, unknown, sizeof(unknown)) != 0 &&
           content->hard_state.term == 0 && content->n_entries == 0 && content->begin_index == 0;
}

static enum status open_disk(struct host *host, char *error)
{
    struct store_mail mail = {host->net, mail_post, mail_deliver};
    struct io_log_content content = {0};
    struct io_state_meta meta = {0};
    struct wal_options wal_options;
    struct state_options state_options;
    char path[4096];
    enum status status;

    snprintf(path, sizeof(path), "%s/wal", host->settings->data);
    wal_options_default(&wal_options, path);
    wal_options.identity = host->identity.incarnation;
    wal_options.segment_bytes = host->space.segment_bytes;
    wal_options.reserve = host->space.reserve;
    wal_options.mail = (struct store_mail){host->net, mail_bring, mail_deliver};
    wal_options.trace = &host->trace;
    status = wal_open(&wal_options, &host->wal, error);
    if (status != ST_OK) {
        return status;
    }
    wal_content(host->wal, host->settings->gid, &content);
    if (log_is_missing(host, &content)) {
        snprintf(
            error, STORE_ERROR_BYTES,
            "%.200s: the Raft log is gone, but META says that this replica has taken part in a "
            "cluster: put the log back, or " STORE_REBUILD,
            path);
        return ST_CORRUPT;
    }
    snprintf(path, sizeof(path), "%s/state", host->settings->data);
    state_options_default(&state_options, path, host->settings->gid);
    state_options.reserve = host->space.reserve;
    state_options.room_bytes = STATE_ROOM_BYTES;
    state_options.write_buffer_bytes = host->space.buffer_bytes;
    state_options.mail = mail;
    state_options.trace = &host->trace;
    status = state_open(&state_options, content.checkpoint, content.checkpoint_index, &host->state,
                        &meta, error);
    if (status == ST_OK) {
        status = open_service(host, &content, &meta, error);
    }
    if (status == ST_OK) {
        follow_pins(host);
    }
    for (size_t i = 0; i < content.n_entries; i++) { /* that nobody took over */
        blob_unref(&content.entries[i].data);
    }
    mem_free(content.entries);
    buf_fini(&meta.extra);
    return status;
}

/* The service first: the events that still come have nobody to act on them, but what the disks'
 * threads posted must run, for it releases what it carries. */
static void close_all(struct host *host)
{
    if (host->server != NULL) {
        host->service->destroy(&host->server);
    }
    if (host->wal != NULL) {
        wal_close(&host->wal);
    }
    if (host->state != NULL) {
        state_close(&host->state);
    }
    if (host->net != NULL) {
        net_drain(host->net);
        net_destroy(&host->net);
    }
    host_busy_close(host);
    host_space_close(host);
    if (host->dir != NULL) {
        store_dir_close(&host->dir);
    }
}

static enum status open_all(struct host *host, char *error)
{
    enum status status = open_dir(host, error);

    host_busy_open(host);
    host_memory_open();
    if (status == ST_OK) {
        status = host_check_access(host, error);
    }
    if (status == ST_OK) {
        status = host_rebuild_check(host, error);
    }
    if (status == ST_OK) {
        status = open_net(host, error);
    }
    if (status == ST_OK) { /* before the disks: nothing is begun while a port may be refused */
        status = host_http_start(host, error);
    }
    if (status == ST_OK) {
        status = host_space_open(host, error);
    }
    if (status == ST_OK) {
        status = open_disk(host, error);
    }
    if (status == ST_OK) {
        store_reserve_started(host->space.reserve);
    }
    return status;
}

int host_run(const struct host_settings *settings, const struct host_service *service)
{
    struct host host = {.settings = settings,
                        .service = service,
                        .stop_mutex = PTHREAD_MUTEX_INITIALIZER,
                        .space.free_bytes = UINT64_MAX,
                        .start_wall_us = net_wall_us()};
    char error[STORE_ERROR_BYTES] = "";
    sigset_t signals;
    pthread_t waiter;
    enum status status;

    /* Before any thread starts: all of them inherit the mask, only the waiter takes signals. */
    signal(SIGPIPE, SIG_IGN);
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    pthread_sigmask(SIG_BLOCK, &signals, NULL);

    umask(077); /* what is written is for this user alone */
    host_trace_init(&host);
    host.joins = settings->joins || settings->rebuild;
    status = open_all(&host, error);
    if (status == ST_CORRUPT && settings->rebuild) {
        close_all(&host);
        status = host_rebuild_set_aside(&host, error) ? open_all(&host, error) : status;
    }
    if (status != ST_OK) {
        const char *line = error[0] != '\0' ? error : status_text(status);

        fprintf(stderr, "%s: %s%s\n", settings->program, line, way_out(status, line));
        close_all(&host);
        return exit_code_of(status);
    }
    ASSERT(pthread_create(&waiter, NULL, wait_for_signals, &host) == 0);
    printf("ready %s gid=%u id=%u url=%s version=%s\n", settings->program, settings->gid,
           settings->id, spec_find(&settings->cluster, settings->id)->url, SHARDKV_VERSION);
    fflush(stdout);

    net_run(host.net);

    pthread_mutex_lock(&host.stop_mutex);
    host.closes = true;
    pthread_mutex_unlock(&host.stop_mutex);
    close_all(&host);
    atomic_store(&host.finished, true);
    pthread_kill(waiter, SIGTERM); /* wakes it if no signal came */
    pthread_join(waiter, NULL);
    trace_info(&host.trace, "stopped exit_code=%d", host.exit_code);
    return host.exit_code;
}
