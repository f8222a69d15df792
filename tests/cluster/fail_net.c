/* fail_net: the network of the failure tests, a switch in user space.
 *
 * For each node it makes a network namespace of its own with one interface, net0, whose other end
 * (a TUN device) it holds: every IP packet from one node to another passes through here, and rules
 * between ordered pairs of nodes decide what becomes of it: cut, lost, late, twice, out of order,
 * through a narrow pipe. That is what netem and a packet filter do, for kernels without them, with
 * one-way faults for free; TCP above sees a network that behaves so.
 *
 * It needs root, and a mount namespace that goes away with the test: the namespaces are kept by
 * files DIR/net-N, to be entered with nsenter --net=DIR/net-N. Node N has the address 10.77.0.N.
 *
 * It obeys lines on standard input, each answered with "ok ..." or "error ...", and ends with its
 * input:
 *   rule FROM TO [cut] [loss P] [dup P] [reorder P] [delay US] [jitter US] [rate BYTES]
 *            what becomes of packets from FROM to TO (numbers, or * for all; lists as 1,2,3), in
 *            place of the last rule; P in parts of a thousand; reorder: so many are sent at once
 *            while the others wait for the delay; rate: bytes a second
 *   clear    no rules
 *   stats    packets forwarded, lost by rules, sent twice, overtaken by later ones
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define MAX_NODES   32
#define MTU         9000
#define MAX_QUEUED  20000     /* packets that wait; more are lost */
#define MAX_BACKLOG 200000000 /* ns: what a narrow pipe holds; the rest is lost */
#define MAX_LINE    512
#define BURST       64 /* packets of one node before the next one's turn */

struct rule {
    bool cut;
    uint32_t loss, dup, reorder; /* of a thousand */
    uint64_t delay_ns, jitter_ns, rate;
    uint64_t free_at_ns; /* when the narrow pipe has sent what it took */
};

struct packet {
    uint64_t due_ns;
    uint64_t number; /* packets that are due at the same time leave in the order they came */
    uint8_t to;
    uint32_t len;
    uint8_t bytes[];
};

struct net {
    int nodes[MAX_NODES + 1]; /* their TUN devices; 0 is not used */
    uint32_t n_nodes;
    struct rule rules[MAX_NODES + 1][MAX_NODES + 1];
    struct packet *heap[MAX_QUEUED];
    uint32_t n_queued;
    uint64_t random, number;
    uint64_t forwarded, lost, doubled, overtaken, last_number_sent;
};

static void die(const char *what)
{
    fprintf(stderr, "fail_net: %s: %s\n", what, strerror(errno));
    exit(2);
}

static uint64_t now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static uint64_t draw(struct net *net, uint64_t below)
{
    net->random ^= net->random >> 12;
    net->random ^= net->random << 25;
    net->random ^= net->random >> 27;
    return (net->random * UINT64_C(0x2545F4914F6CDD1D) >> 11) % below;
}

/* ---- Namespaces ---- */

static void set_address(int control, struct ifreq *request, unsigned long verb, uint32_t address)
{
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(address)};

    memcpy(&request->ifr_addr, &in, sizeof(in));
    if (ioctl(control, verb, request) != 0) {
        die("address");
    }
}

static void bring_up(int control, struct ifreq *request)
{
    request->ifr_flags = IFF_UP | IFF_RUNNING;
    if (ioctl(control, SIOCSIFFLAGS, request) != 0) {
        die("interface up");
    }
}

/* Moves this process into a new namespace with the interface in it; gives the other end. */
static int make_node(const char *dir, uint32_t number)
{
    struct ifreq tun = {.ifr_flags = IFF_TUN | IFF_NO_PI}, loopback = {0};
    char path[400];
    int fd, control, keep;

    if (unshare(CLONE_NEWNET) != 0) {
        die("network namespace");
    }
    fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
    control = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    strcpy(tun.ifr_name, "net0");
    strcpy(loopback.ifr_name, "lo");
    if (fd < 0 || control < 0 || ioctl(fd, TUNSETIFF, &tun) != 0) {
        die("/dev/net/tun");
    }
    set_address(control, &tun, SIOCSIFADDR, 0x0a4d0000 + number);
    set_address(control, &tun, SIOCSIFNETMASK, 0xffffff00);
    tun.ifr_mtu = MTU;
    if (ioctl(control, SIOCSIFMTU, &tun) != 0) {
        die("MTU");
    }
    bring_up(control, &tun);
    bring_up(control, &loopback);
    close(control);
    snprintf(path, sizeof(path), "%s/net-%u", dir, number);
    keep = open(path, O_RDONLY | O_CREAT | O_CLOEXEC, 0600);
    if (keep < 0 || mount("/proc/self/ns/net", path, NULL, MS_BIND, NULL) != 0) {
        die(path);
    }
    close(keep);
    return fd;
}

/* ---- Packets that wait: a heap by the time they are due ---- */

static bool is_before(const struct packet *a, const struct packet *b)
{
    return a->due_ns != b->due_ns ? a->due_ns < b->due_ns : a->number < b->number;
}

static void heap_push(struct net *net, struct packet *packet)
{
    uint32_t i = net->n_queued++;

    while (i > 0 && is_before(packet, net->heap[(i - 1) / 2])) {
        net->heap[i] = net->heap[(i - 1) / 2];
        i = (i - 1) / 2;
    }
    net->heap[i] = packet;
}

static struct packet *heap_pop(struct net *net)
{
    struct packet *top = net->heap[0], *last = net->heap[--net->n_queued];
    uint32_t i = 0;

    for (;;) {
        uint32_t child = 2 * i + 1;

        if (child + 1 < net->n_queued && is_before(net->heap[child + 1], net->heap[child])) {
            child++;
        }
        if (child >= net->n_queued || !is_before(net->heap[child], last)) {
            break;
        }
        net->heap[i] = net->heap[child];
        i = child;
    }
    net->heap[i] = last;
    return top;
}

/* ---- Forwarding ---- */

static void deliver(struct net *net, uint8_t to, const uint8_t *bytes, uint32_t len)
{
    if (write(net->nodes[to], bytes, len) == (ssize_t)len) {
        net->forwarded++;
    } else {
        net->lost++;
    }
}

static void deliver_later(struct net *net, uint64_t due_ns, uint8_t to, const uint8_t *bytes,
                          uint32_t len)
{
    struct packet *packet;

    if (net->n_queued == MAX_QUEUED) {
        net->lost++;
        return;
    }
    packet = malloc(sizeof(*packet) + len);
    if (packet == NULL) {
        die("memory");
    }
    *packet = (struct packet){.due_ns = due_ns, .number = ++net->number, .to = to, .len = len};
    memcpy(packet->bytes, bytes, len);
    heap_push(net, packet);
}

/* When the packet is due; UINT64_MAX: never. */
static uint64_t due_of(struct net *net, struct rule *rule, uint64_t now, uint32_t len)
{
    uint64_t due = now;

    if (rule->cut || (rule->loss > 0 && draw(net, 1000) < rule->loss)) {
        return UINT64_MAX;
    }
    if (rule->rate > 0) {
        if (rule->free_at_ns > now + MAX_BACKLOG) {
            return UINT64_MAX;
        }
        due = (rule->free_at_ns > now ? rule->free_at_ns : now) + len * 1000000000ull / rule->rate;
        rule->free_at_ns = due;
    }
    if (rule->reorder > 0 && draw(net, 1000) < rule->reorder) {
        return due;
    }
    due += rule->delay_ns;
    if (rule->jitter_ns > 0) {
        due += draw(net, rule->jitter_ns);
    }
    return due;
}

static void forward(struct net *net, uint8_t from, const uint8_t *bytes, uint32_t len)
{
    uint64_t now = now_ns();
    uint32_t copies = 1;
    struct rule *rule;
    uint8_t to;

    /* IPv4 to 10.77.0.N; anything else (the kernel's IPv6 chatter) goes nowhere. */
    if (len < 20 || bytes[0] >> 4 != 4 || bytes[16] != 10 || bytes[17] != 77 || bytes[18] != 0 ||
        bytes[19] == 0 || bytes[19] > net->n_nodes) {
        return;
    }
    to = bytes[19];
    rule = &net->rules[from][to];
    if (rule->dup > 0 && draw(net, 1000) < rule->dup) {
        net->doubled++;
        copies = 2;
    }
    for (uint32_t i = 0; i < copies; i++) {
        uint64_t due = due_of(net, rule, now, len);

        if (due == UINT64_MAX) {
            net->lost++;
        } else if (due <= now) {
            deliver(net, to, bytes, len);
        } else {
            deliver_later(net, due, to, bytes, len);
        }
    }
}

static void read_node(struct net *net, uint8_t from)
{
    uint8_t bytes[65536];

    for (int i = 0; i < BURST; i++) {
        ssize_t len = read(net->nodes[from], bytes, sizeof(bytes));

        if (len <= 0) {
            return;
        }
        forward(net, from, bytes, (uint32_t)len);
    }
}

static void deliver_due(struct net *net)
{
    while (net->n_queued > 0 && net->heap[0]->due_ns <= now_ns()) {
        struct packet *packet = heap_pop(net);

        net->overtaken += packet->number < net->last_number_sent;
        net->last_number_sent = packet->number;
        deliver(net, packet->to, packet->bytes, packet->len);
        free(packet);
    }
}

/* ---- Commands ---- */

/* "*", "3" or "1,2,3" as a set of nodes; 0: none of these. */
static uint64_t parse_nodes(const struct net *net, const char *text)
{
    uint64_t set = 0;
    char *end = NULL;

    if (strcmp(text, "*") == 0) {
        return (UINT64_C(1) << (net->n_nodes + 1)) - 2;
    }
    do {
        unsigned long node = strtoul(text, &end, 10);

        if (end == text || node == 0 || node > net->n_nodes) {
            return 0;
        }
        set |= UINT64_C(1) << node;
        text = end + 1;
    } while (*end == ',');
    return *end == '\0' ? set : 0;
}

static bool parse_rule(char *rest, struct rule *rule)
{
    char *save = NULL;

    *rule = (struct rule){0};
    for (char *word = strtok_r(rest, " ", &save); word != NULL; word = strtok_r(NULL, " ", &save)) {
        char *value = strcmp(word, "cut") == 0 ? word : strtok_r(NULL, " ", &save);
        uint64_t number = value == NULL ? 0 : strtoull(value, NULL, 10);

        if (value == NULL) {
            return false;
        } else if (strcmp(word, "cut") == 0) {
            rule->cut = true;
        } else if (strcmp(word, "loss") == 0) {
            rule->loss = (uint32_t)number;
        } else if (strcmp(word, "dup") == 0) {
            rule->dup = (uint32_t)number;
        } else if (strcmp(word, "reorder") == 0) {
            rule->reorder = (uint32_t)number;
        } else if (strcmp(word, "delay") == 0) {
            rule->delay_ns = number * 1000;
        } else if (strcmp(word, "jitter") == 0) {
            rule->jitter_ns = number * 1000;
        } else if (strcmp(word, "rate") == 0) {
            rule->rate = number;
        } else {
            return false;
        }
    }
    return true;
}

static bool set_rule(struct net *net, char *rest)
{
    char *save = NULL;
    char *from_text = strtok_r(rest, " ", &save), *to_text = strtok_r(NULL, " ", &save);
    uint64_t from, to;
    struct rule rule;

    if (from_text == NULL || to_text == NULL) {
        return false;
    }
    from = parse_nodes(net, from_text);
    to = parse_nodes(net, to_text);
    if (from == 0 || to == 0 || !parse_rule(save, &rule)) {
        return false;
    }
    for (uint32_t i = 1; i <= net->n_nodes; i++) {
        for (uint32_t j = 1; j <= net->n_nodes; j++) {
            if (i != j && from >> i & 1 && to >> j & 1) {
                net->rules[i][j] = rule;
            }
        }
    }
    return true;
}

static void obey(struct net *net, char *line)
{
    line[strcspn(line, "\n")] = '\0';
    if (strncmp(line, "rule ", 5) == 0 && set_rule(net, line + 5)) {
        printf("ok\n");
    } else if (strcmp(line, "clear") == 0) {
        memset(net->rules, 0, sizeof(net->rules));
        printf("ok\n");
    } else if (strcmp(line, "stats") == 0) {
        printf("ok forwarded=%llu lost=%llu doubled=%llu overtaken=%llu\n",
               (unsigned long long)net->forwarded, (unsigned long long)net->lost,
               (unsigned long long)net->doubled, (unsigned long long)net->overtaken);
    } else {
        printf("error: not understood: %.80s\n", line);
    }
    fflush(stdout);
}

/* False: the input has ended. */
static bool read_commands(struct net *net)
{
    static char text[MAX_LINE]; /* what came of a line that has no end yet */
    static size_t have;
    ssize_t len = read(STDIN_FILENO, text + have, sizeof(text) - 1 - have);
    char *end;

    if (len <= 0) {
        return len < 0 && errno == EINTR;
    }
    have += (size_t)len;
    text[have] = '\0';
    while ((end = strchr(text, '\n')) != NULL) {
        *end = '\0';
        obey(net, text);
        have -= (size_t)(end + 1 - text);
        memmove(text, end + 1, have + 1);
    }
    return have < sizeof(text) - 1;
}

static void run(struct net *net)
{
    struct pollfd polled[MAX_NODES + 1] = {{.fd = STDIN_FILENO, .events = POLLIN}};

    for (uint32_t i = 1; i <= net->n_nodes; i++) {
        polled[i] = (struct pollfd){.fd = net->nodes[i], .events = POLLIN};
    }
    for (;;) {
        struct timespec wait = {3600, 0};

        if (net->n_queued > 0) {
            uint64_t now = now_ns(), due = net->heap[0]->due_ns;
            uint64_t left = due > now ? due - now : 0;

            wait = (struct timespec){(time_t)(left / 1000000000u), (long)(left % 1000000000u)};
        }
        if (ppoll(polled, net->n_nodes + 1, &wait, NULL) < 0 && errno != EINTR) {
            die("poll");
        }
        deliver_due(net);
        for (uint32_t i = 1; i <= net->n_nodes; i++) {
            if (polled[i].revents & POLLIN) {
                read_node(net, (uint8_t)i);
            }
        }
        if (polled[0].revents != 0 && !read_commands(net)) {
            return;
        }
    }
}

int main(int argc, char **argv)
{
    struct net *net = calloc(1, sizeof(*net));

    if (argc != 4 || net == NULL || atoi(argv[2]) < 1 || atoi(argv[2]) > MAX_NODES) {
        fprintf(stderr, "usage: fail_net DIR NODES SEED\n");
        return 2;
    }
    net->n_nodes = (uint32_t)atoi(argv[2]);
    net->random = strtoull(argv[3], NULL, 10) * 2 + 1;
    for (uint32_t i = 1; i <= net->n_nodes; i++) {
        net->nodes[i] = make_node(argv[1], i);
    }
    printf("ok\n");
    fflush(stdout);
    run(net);
    free(net);
    return 0;
}
