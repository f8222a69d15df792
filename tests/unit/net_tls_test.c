/* TLS: both sides show a certificate of the same authority, or do not talk. */
#include <fcntl.h>

#include "tests/unit/net_harness.h"
#include "tests/unit/net_raw.h"

#include "tests/unit/net_tls_pems.h"

struct pem_files {
    char dir[64];
    char ca[96], cert[96], key[96], other_ca[96], stranger_cert[96], stranger_key[96], garbage[96];
};

static void write_file(char path[96], const char *dir, const char *name, const char *content)
{
    FILE *file;

    snprintf(path, 96, "%.60s/%.30s", dir, name);
    file = fopen(path, "w");
    assert_non_null(file);
    fputs(content, file);
    fclose(file);
}

static void pem_files_make(struct pem_files *files)
{
    strcpy(files->dir, "/tmp/net_tls_test.XXXXXX");
    assert_non_null(mkdtemp(files->dir));
    write_file(files->ca, files->dir, "ca.pem", ca_pem);
    write_file(files->cert, files->dir, "node.pem", node_pem);
    write_file(files->key, files->dir, "node.key", node_key);
    write_file(files->other_ca, files->dir, "other.pem", other_ca_pem);
    write_file(files->stranger_cert, files->dir, "stranger.pem", stranger_pem);
    write_file(files->stranger_key, files->dir, "stranger.key", stranger_key);
    write_file(files->garbage, files->dir, "garbage.pem", "this is no certificate\n");
}

static void pem_files_remove(struct pem_files *files)
{
    unlink(files->ca);
    unlink(files->cert);
    unlink(files->key);
    unlink(files->other_ca);
    unlink(files->stranger_cert);
    unlink(files->stranger_key);
    unlink(files->garbage);
    rmdir(files->dir);
}

/* Two replicas of one group that speak TLS. */
struct stage {
    struct pem_files files;
    struct spec spec;
    struct node one, two;
};

static void node_use_tls(struct node *node, const struct pem_files *files)
{
    node->options.tls_ca = files->ca;
    node->options.tls_cert = files->cert;
    node->options.tls_key = files->key;
}

static void stage_init(struct stage *stage)
{
    char text[200];

    pem_files_make(&stage->files);
    snprintf(text, sizeof(text), "1=tls+tcp://localhost:%d,2=tls+tcp://localhost:%d", free_port(),
             free_port());
    assert_null(spec_parse(text, &stage->spec));
    node_init(&stage->one);
    node_init(&stage->two);
    node_be_replica(&stage->one, &stage->spec, 1);
    node_be_replica(&stage->two, &stage->spec, 2);
    stage->one.options.election_timeout_ms = 2000;
    stage->two.options.election_timeout_ms = 2000;
    stage->one.echo = true;
    node_use_tls(&stage->one, &stage->files);
    node_use_tls(&stage->two, &stage->files);
}

static void stage_fini(struct stage *stage)
{
    node_fini(&stage->one);
    node_fini(&stage->two);
    pem_files_remove(&stage->files);
}

static void stage_wait_linked(struct stage *stage)
{
    assert_true(node_wait(&stage->one, IO_EVENT_PEER_UP, 2, 1, WITHIN_MS));
    assert_true(node_wait(&stage->two, IO_EVENT_PEER_UP, 1, 1, WITHIN_MS));
}

static void peers_with_certificates_of_one_authority_talk(void **state)
{
    struct stage stage;

    (void)state;
    stage_init(&stage);
    node_start(&stage.one);
    node_start(&stage.two);
    stage_wait_linked(&stage);
    node_peer_send(&stage.one, 2, IO_NORMAL, "secret", 6);
    node_peer_send(&stage.one, 2, IO_NORMAL, NULL, 3000000);
    assert_true(node_wait(&stage.two, IO_EVENT_PEER_MESSAGE, 1, 2, WITHIN_MS));
    assert_memory_equal(node_get(&stage.two, IO_EVENT_PEER_MESSAGE, 1, 0).head, "secret", 6);
    assert_int_equal(node_get(&stage.two, IO_EVENT_PEER_MESSAGE, 1, 1).len, 3000000);
    stage_fini(&stage);
}

/* A client with these files calls replica one under this host name: NULL if it is answered, else
 * what its traces say (until the next call). */
static const char *client_is_refused(struct stage *stage, const char *ca, const char *cert,
                                     const char *key, const char *host)
{
    static char said[sizeof(((struct node *)0)->trace_text)];
    struct node client;
    char url[100];
    uint32_t endpoint;
    bool served;

    snprintf(url, sizeof(url), "tls+tcp://%s:%d", host, url_port(stage->spec.replicas[0].url));
    node_init(&client);
    client.options.tls_ca = ca;
    client.options.tls_cert = cert;
    client.options.tls_key = key;
    node_start(&client);
    endpoint = node_endpoint(&client, url);
    do {
        node_endpoint_send(&client, endpoint, "x", 1);
        served = node_wait(&client, IO_EVENT_ENDPOINT_MESSAGE, endpoint, 1, 100);
    } while (!served && node_count(&client, IO_EVENT_ENDPOINT_DOWN, endpoint) < 2);
    strcpy(said, client.trace_text);
    node_fini(&client);
    return served ? NULL : said;
}

/* The client's traces say why, and the server's too. */
static void expect_words(struct stage *stage, const char *said, const char *words,
                         const char *server_words)
{
    assert_non_null(said);
    if (strstr(said, words) == NULL) {
        fail_msg("\"%s\" is not said in: %s", words, said);
    }
    assert_true(node_wait_trace(&stage->one, server_words, WITHIN_MS));
    node_forget(&stage->one);
}

static void only_clients_that_can_be_trusted_and_trust_the_server_are_served(void **state)
{
    struct stage stage;
    struct pem_files *files = &stage.files;

    (void)state;
    stage_init(&stage);
    node_start(&stage.one);
    assert_null(client_is_refused(&stage, files->ca, files->cert, files->key, "localhost"));
    expect_words(&stage, client_is_refused(&stage, files->ca, NULL, NULL, "localhost"),
                 "it wants a certificate of us", "it shows no certificate");
    expect_words(&stage,
                 client_is_refused(&stage, files->ca, files->stranger_cert, files->stranger_key,
                                   "localhost"),
                 "not signed by its --tls-ca", "its certificate is not signed by our --tls-ca");
    expect_words(&stage,
                 client_is_refused(&stage, files->other_ca, files->cert, files->key, "localhost"),
                 "its certificate is not signed by our --tls-ca", "not signed by its --tls-ca");
    expect_words(&stage, client_is_refused(&stage, files->ca, files->cert, files->key, "127.0.0.1"),
                 "does not carry the DNS name it was called by: 127.0.0.1",
                 "not for the name that it called");
    expect_words(&stage, client_is_refused(&stage, NULL, NULL, NULL, "localhost"),
                 "there is no --tls-ca", "");
    assert_null(client_is_refused(&stage, files->ca, files->cert, files->key, "localhost"));
    stage_fini(&stage);
}

static void plain_bytes_on_a_tls_port_are_not_served(void **state)
{
    struct stage stage;
    struct buf bytes = {0};
    struct hello hello = {.who = HELLO_CLIENT, .protocol_low = 1, .protocol_high = 1};
    int fd;

    (void)state;
    stage_init(&stage);
    node_start(&stage.one);
    fd = raw_connect(&stage.one);
    put_hello_frame(&bytes, &hello);
    raw_send(fd, buf_slice(&bytes));
    assert_true(raw_read_to_end(fd, &bytes));
    assert_int_equal(node_count(&stage.one, IO_EVENT_CLIENT_MESSAGE, 0), 0);
    assert_true(node_wait_trace(&stage.one, "the other side does not speak TLS", WITHIN_MS));
    close(fd);
    buf_fini(&bytes);
    stage_fini(&stage);
}

/* One side TLS, the other plain: both say so, and at once. */
static void tcp_and_tls_mixed_up_are_told(void **state)
{
    struct stage stage;

    (void)state;
    stage_init(&stage);
    for (int plain = 0; plain < 2; plain++) {
        struct node client;
        char url[100];
        uint32_t endpoint;
        uint64_t begin_ms;

        node_init(&client);
        stage.one.options.listen_url = plain ? stage.spec.replicas[0].url + 4 /* "tls+" */
                                             : stage.spec.replicas[0].url;
        if (plain) {
            node_use_tls(&client, &stage.files);
        }
        node_start(&stage.one);
        node_start(&client);
        snprintf(url, sizeof(url), "%stcp://localhost:%d", plain ? "tls+" : "",
                 url_port(stage.spec.replicas[0].url));
        endpoint = node_endpoint(&client, url);
        begin_ms = net_now_ms();
        node_endpoint_send(&client, endpoint, "x", 1);
        assert_true(node_wait(&client, IO_EVENT_ENDPOINT_DOWN, endpoint, 1, WITHIN_MS));
        assert_in_range(net_now_ms() - begin_ms, 0, 900); /* not by a limit of time */
        assert_true(node_wait_trace(
            &client, plain ? "the other side does not speak TLS" : "the port speaks TLS",
            WITHIN_MS));
        assert_true(node_wait_trace(
            &stage.one, plain ? "the caller speaks TLS" : "the other side does not speak TLS",
            WITHIN_MS));
        node_fini(&client);
        node_stop(&stage.one);
        node_forget(&stage.one);
    }
    stage_fini(&stage);
}

/* Whoever got a plain URL put where we find it hears nothing: as a server that we call, or a peer.
 */
static void with_certificates_no_plain_url_is_called(void **state)
{
    struct stage stage;
    char url[100];
    uint32_t endpoint;
    int port, fd = bind_free_port(&port);

    (void)state;
    assert_int_equal(listen(fd, 10), 0);
    assert_int_equal(fcntl(fd, F_SETFL, O_NONBLOCK), 0);
    stage_init(&stage);
    snprintf(url, sizeof(url), "tcp://127.0.0.1:%d", port);
    strcpy(stage.one.options.peers.replicas[1].url, url);
    node_start(&stage.one);
    assert_true(node_wait_trace(&stage.one, "peer refused id=2", WITHIN_MS));
    endpoint = node_endpoint(&stage.one, url);
    node_endpoint_send(&stage.one, endpoint, "secret", 6);
    assert_true(node_wait(&stage.one, IO_EVENT_ENDPOINT_DOWN, endpoint, 1, WITHIN_MS));
    assert_true(node_wait_trace(&stage.one, "endpoint refused url=tcp://", WITHIN_MS));
    assert_true(node_wait_trace(&stage.one, "only tls+tcp:// is called", WITHIN_MS));
    assert_int_equal(accept(fd, NULL, NULL), -1);
    close(fd);
    stage_fini(&stage);
}

static void expect_no_net(struct stage *stage, enum status expected, const char *words)
{
    char error[256] = "";

    assert_int_equal(net_create(&stage->one.options, &stage->one.net, error), expected);
    assert_null(stage->one.net);
    if (strstr(error, words) == NULL) {
        fail_msg("\"%s\" does not say \"%s\"", error, words);
    }
}

static void unusable_files_are_said_in_one_line(void **state)
{
    struct stage stage;

    (void)state;
    stage_init(&stage);
    stage.one.options.tls_cert = "/nonexistent.pem";
    expect_no_net(&stage, ST_INVALID, "/nonexistent.pem");
    stage.one.options.tls_cert = stage.files.garbage;
    expect_no_net(&stage, ST_INVALID, "not usable");
    stage.one.options.tls_cert = NULL;
    expect_no_net(&stage, ST_INVALID, "belong together");
    node_use_tls(&stage.one, &stage.files);
    stage.one.options.tls_ca = stage.files.garbage;
    expect_no_net(&stage, ST_INVALID, "not usable");
    stage_fini(&stage);
}

struct flood {
    struct node *node;
    uint32_t to;
};

static void flood_round(void *arg)
{
    struct flood *flood = arg;
    struct io_net *io = net_io(flood->node->net);

    for (int i = 0; i < 5; i++) {
        struct buf message = {0};

        memset(buf_extend(&message, 3000), 'n', 3000);
        io->ops->peer_send(io, 5, flood->to, IO_NORMAL, &message);
    }
    net_post(flood->node->net, flood_round, flood);
}

/* In nng 1.5.2 an operation submitted after the close of a TLS stream never completes. */
static void a_net_goes_down_under_tls_traffic(void **state)
{
    struct stage stage;

    (void)state;
    stage_init(&stage);
    for (int round = 0; round < 20; round++) {
        struct flood from_one = {.node = &stage.one, .to = 2};
        struct flood from_two = {.node = &stage.two, .to = 1};

        node_start(&stage.one);
        node_start(&stage.two);
        net_post(stage.one.net, flood_round, &from_one);
        net_post(stage.two.net, flood_round, &from_two);
        assert_true(node_wait(&stage.one, IO_EVENT_PEER_MESSAGE, 2, 10, WITHIN_MS));
        assert_true(node_wait(&stage.two, IO_EVENT_PEER_MESSAGE, 1, 10, WITHIN_MS));
        node_stop(round % 2 == 0 ? &stage.one : &stage.two);
        node_stop(round % 2 == 0 ? &stage.two : &stage.one);
        node_forget(&stage.one);
        node_forget(&stage.two);
    }
    stage_fini(&stage);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(peers_with_certificates_of_one_authority_talk),
        cmocka_unit_test(only_clients_that_can_be_trusted_and_trust_the_server_are_served),
        cmocka_unit_test(plain_bytes_on_a_tls_port_are_not_served),
        cmocka_unit_test(tcp_and_tls_mixed_up_are_told),
        cmocka_unit_test(with_certificates_no_plain_url_is_called),
        cmocka_unit_test(unusable_files_are_said_in_one_line),
        cmocka_unit_test(a_net_goes_down_under_tls_traffic),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
