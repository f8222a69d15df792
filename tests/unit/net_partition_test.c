/* A silent partition, as a broken switch makes it: two replicas in network namespaces of their own,
 * joined by a bridge in a third one. The bridge stops forwarding between them for some seconds
 * (neither side sees its link go down), then forwards again. Both must notice soon, and talk again
 * well within two seconds, though TCP's own retransmissions are seconds apart by then.
 *
 * Needs root and network namespaces; says so and skips the test otherwise. The replicas are
 * processes of their own: this program, started with "node" as its first argument.
 */
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>

#include "tests/unit/net_harness.h"

#define CUT_MS     6000
#define NOTICE_MS  3000 /* a peer: an election timeout of 300 ms; a server: a second */
#define RESUME_MS  2000
#define BEAT_MS    10 /* pause between messages */
#define ADDRESS(n) "10.213.77." #n
#define PORT       "7711"

static const char spec_text[] = "1=tcp://" ADDRESS(1) ":" PORT ",2=tcp://" ADDRESS(2) ":" PORT;

/* ---- A replica: sends a message and a request every BEAT_MS, prints what happens ----------------
 */

struct replica {
    struct net *net;
    uint32_t id;
    io_endpoint other;
    uint64_t next_ms;
};

static void replica_beat(struct replica *replica, uint64_t now_ms)
{
    struct io_net *io = net_io(replica->net);
    struct buf message = {0}, request = {0};

    buf_put_u64(&message, now_ms);
    buf_put_u64(&request, now_ms);
    io->ops->peer_send(io, 5, 3 - replica->id, IO_NORMAL, &message);
    io->ops->endpoint_send(io, replica->other, &request);
    replica->next_ms = now_ms + BEAT_MS;
}

static void replica_on_event(void *context, const struct io_event *event)
{
    struct replica *replica = context;
    struct io_net *io = net_io(replica->net);
    struct buf answer = {0};
    const char *what = NULL;

    switch (event->type) {
    case IO_EVENT_TICK:
        replica_beat(replica, event->now_ms);
        break;
    case IO_EVENT_CLIENT_MESSAGE:
        buf_put_slice(&answer, event->client.message);
        io->ops->reply(io, event->client.conn, &answer);
        break;
    case IO_EVENT_PEER_UP:
        what = "up";
        break;
    case IO_EVENT_PEER_DOWN:
        what = "down";
        break;
    case IO_EVENT_PEER_MESSAGE:
        what = "message";
        break;
    case IO_EVENT_ENDPOINT_MESSAGE:
        what = "answer";
        break;
    case IO_EVENT_ENDPOINT_DOWN:
        what = "lost";
        break;
    default:
        break;
    }
    if (what != NULL) {
        printf("%s %llu\n", what, (unsigned long long)event->now_ms);
        fflush(stdout);
    }
}

static uint64_t replica_next_deadline(void *context)
{
    return ((struct replica *)context)->next_ms;
}

/* Ends the replica when the test closes its input, or dies. */
static void *replica_watch_input(void *arg)
{
    char byte;

    while (read(0, &byte, 1) > 0) {
    }
    net_stop(((struct replica *)arg)->net);
    return NULL;
}

static int replica_main(uint32_t id)
{
    struct replica replica = {.id = id};
    struct net_options options;
    pthread_t thread;
    char error[256];

    net_options_default(&options);
    if (spec_parse(spec_text, &options.peers) != NULL) {
        return 1;
    }
    options.self.who = HELLO_PEER;
    options.self.gid = options.group = 5;
    options.self.id = id;
    options.self.cluster_id[0] = 7;
    options.listen_url = spec_find(&options.peers, id)->url;
    options.sink = (struct net_sink){
        .context = &replica, .event = replica_on_event, .next_deadline_ms = replica_next_deadline};
    if (net_create(&options, &replica.net, error) != ST_OK) {
        fprintf(stderr, "%s\n", error);
        return 1;
    }
    replica.other =
        net_io(replica.net)
            ->ops->endpoint(net_io(replica.net), 5, spec_find(&options.peers, 3 - id)->url);
    pthread_create(&thread, NULL, replica_watch_input, &replica);
    net_run(replica.net);
    pthread_join(thread, NULL);
    net_destroy(&replica.net);
    return 0;
}

/* ---- The stage: three namespaces and a bridge ---------------------------------------------------
 */

static char stage_name[24]; /* of the namespaces: <name>h, <name>1, <name>2 */

/* Runs a shell command, "@" standing for the name; true if it succeeded. */
static bool run(const char *command)
{
    char text[512] = "exec 2>/dev/null; ";

    for (; *command != '\0'; command++) {
        char one[2] = {*command, '\0'};

        strncat(text, *command == '@' ? stage_name : one, sizeof(text) - strlen(text) - 1);
    }
    return system(text) == 0;
}

static void stage_remove(void)
{
    run("ip netns del @1; ip netns del @2; ip netns del @h");
}

static void on_signal(int signal_number)
{
    stage_remove();
    _exit(128 + signal_number);
}

static bool stage_make(void)
{
    static const char *const commands[] = {
        "ip netns add @h",
        "ip netns add @1",
        "ip netns add @2",
        "ip -n @h link add bridge0 type bridge",
        "ip -n @h link set bridge0 up",
        "ip -n @h link add port1 type veth peer name eth0 netns @1",
        "ip -n @h link add port2 type veth peer name eth0 netns @2",
        "ip -n @h link set port1 master bridge0 up",
        "ip -n @h link set port2 master bridge0 up",
        "ip -n @1 addr add " ADDRESS(1) "/24 dev eth0",
        "ip -n @2 addr add " ADDRESS(2) "/24 dev eth0",
        "ip -n @1 link set eth0 up",
        "ip -n @2 link set eth0 up",
        "ip -n @1 link set lo up",
        "ip -n @2 link set lo up",
    };

    snprintf(stage_name, sizeof(stage_name), "nettest%d_", (int)getpid() % 100000);
    for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
        if (!run(commands[i])) {
            return false;
        }
    }
    return true;
}

/* Isolated ports of a bridge do not forward to each other: frames vanish, links stay up. */
static void stage_cut(bool cut)
{
    assert_true(run(cut ? "ip -n @h link set dev port1 type bridge_slave isolated on && "
                          "ip -n @h link set dev port2 type bridge_slave isolated on"
                        : "ip -n @h link set dev port1 type bridge_slave isolated off && "
                          "ip -n @h link set dev port2 type bridge_slave isolated off"));
}

/* ---- The test's side of a replica ---- */

enum what { UP, DOWN, MESSAGE, ANSWER, LOST, N_WHAT };
static const char *const what_names[N_WHAT] = {"up", "down", "message", "answer", "lost"};

struct child {
    pid_t pid;
    int input;
    FILE *output;
    pthread_t reader;
    pthread_mutex_t mutex;
    uint64_t last_ms[N_WHAT]; /* when each last happened, by the replica's clock (which is ours) */
    uint64_t first_since_ms[N_WHAT]; /* the first after child_since */
};

static void *child_read(void *arg)
{
    struct child *child = arg;
    char word[16];
    unsigned long long at_ms;

    while (fscanf(child->output, "%15s %llu", word, &at_ms) == 2) {
        pthread_mutex_lock(&child->mutex);
        for (int i = 0; i < N_WHAT; i++) {
            if (strcmp(word, what_names[i]) == 0) {
                child->last_ms[i] = at_ms;
                if (child->first_since_ms[i] == 0) {
                    child->first_since_ms[i] = at_ms;
                }
            }
        }
        pthread_mutex_unlock(&child->mutex);
    }
    return NULL;
}

static void child_start(struct child *child, int id, const char *program)
{
    int in[2], out[2];
    char name[40], number[4];

    snprintf(name, sizeof(name), "%s%d", stage_name, id);
    snprintf(number, sizeof(number), "%d", id);
    assert_int_equal(pipe(in), 0);
    assert_int_equal(pipe(out), 0);
    child->pid = fork();
    assert_true(child->pid >= 0);
    if (child->pid == 0) {
        dup2(in[0], 0);
        dup2(out[1], 1);
        for (int fd = 3; fd < 64; fd++) {
            close(fd);
        }
        execlp("ip", "ip", "netns", "exec", name, program, "node", number, (char *)NULL);
        _exit(127);
    }
    close(in[0]);
    close(out[1]);
    child->input = in[1];
    child->output = fdopen(out[0], "r");
    pthread_mutex_init(&child->mutex, NULL);
    assert_int_equal(pthread_create(&child->reader, NULL, child_read, child), 0);
}

static void child_end(struct child *child)
{
    int status;

    close(child->input);
    assert_int_equal(waitpid(child->pid, &status, 0), child->pid);
    assert_int_equal(status, 0);
    pthread_join(child->reader, NULL);
    fclose(child->output);
}

/* From now on, child_wait tells the first of each kind. */
static void child_since_now(struct child *child)
{
    pthread_mutex_lock(&child->mutex);
    memset(child->first_since_ms, 0, sizeof(child->first_since_ms));
    pthread_mutex_unlock(&child->mutex);
}

/* When it first happened; fails the test after `within_ms`. */
static uint64_t child_wait(struct child *child, enum what what, uint64_t within_ms)
{
    uint64_t deadline_ms = net_now_ms() + within_ms;
    uint64_t at_ms = 0;

    while (at_ms == 0 && net_now_ms() < deadline_ms) {
        pthread_mutex_lock(&child->mutex);
        at_ms = child->first_since_ms[what];
        pthread_mutex_unlock(&child->mutex);
        pause_ms(1);
    }
    if (at_ms == 0) {
        fail_msg("no \"%s\" within %llu ms", what_names[what], (unsigned long long)within_ms);
    }
    return at_ms;
}

static const char *program_path;

static unsigned long long after(uint64_t at_ms, uint64_t start_ms)
{
    return at_ms > start_ms ? at_ms - start_ms : 0;
}

static void traffic_resumes_at_once_after_a_silent_partition(void **state)
{
    struct child children[2] = {0};
    uint64_t start_ms;

    (void)state;
    if (!stage_make()) {
        stage_remove();
        print_message("skipped: no root, or no network namespaces here\n");
        skip();
    }
    child_start(&children[0], 1, program_path);
    child_start(&children[1], 2, program_path);
    for (int i = 0; i < 2; i++) {
        child_wait(&children[i], MESSAGE, WITHIN_MS);
        child_wait(&children[i], ANSWER, WITHIN_MS);
    }

    child_since_now(&children[0]);
    child_since_now(&children[1]);
    start_ms = net_now_ms();
    stage_cut(true);
    for (int i = 0; i < 2; i++) {
        uint64_t down_ms = child_wait(&children[i], DOWN, NOTICE_MS);
        uint64_t lost_ms = child_wait(&children[i], LOST, NOTICE_MS);

        print_message("replica %d: peer down after %llu ms, endpoint down after %llu ms\n", i + 1,
                      after(down_ms, start_ms), after(lost_ms, start_ms));
    }
    while (net_now_ms() < start_ms + CUT_MS) {
        pause_ms(10);
    }

    child_since_now(&children[0]);
    child_since_now(&children[1]);
    start_ms = net_now_ms();
    stage_cut(false);
    for (int i = 0; i < 2; i++) {
        uint64_t message_ms = child_wait(&children[i], MESSAGE, RESUME_MS);
        uint64_t answer_ms = child_wait(&children[i], ANSWER, RESUME_MS);

        print_message("replica %d: peer heard %llu ms after healing, answered after %llu ms\n",
                      i + 1, after(message_ms, start_ms), after(answer_ms, start_ms));
    }
    child_end(&children[0]);
    child_end(&children[1]);
}

static int remove_stage(void **state)
{
    (void)state;
    stage_remove();
    return 0;
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(traffic_resumes_at_once_after_a_silent_partition, remove_stage),
    };
    char path[4096] = "";

    if (argc == 3 && strcmp(argv[1], "node") == 0) {
        return replica_main((uint32_t)atoi(argv[2]));
    }
    if (readlink("/proc/self/exe", path, sizeof(path) - 1) < 0) {
        return 1;
    }
    program_path = path;
    signal(SIGINT, on_signal);
    signal(SIGTERM, on_signal);
    signal(SIGALRM, on_signal);
    signal(SIGPIPE, SIG_IGN);
    alarm(90);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
