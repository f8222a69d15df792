/* Who may talk, on real sockets: servers with one peer key know each other, nobody else passes for
 * a server; key files are looked at like ssh does. */
#include <sys/stat.h>

#include "raft/net/peer_key.h"
#include "tests/unit/net_harness.h"
#include "tests/unit/net_raw.h"

struct stage {
    char dir[64];
    char key[96], other_key[96];
    struct spec spec;
    struct node one, two;
};

static void write_file(char path[96], const char *dir, const char *name, const char *content,
                       mode_t mode)
{
    FILE *file;

    snprintf(path, 96, "%.60s/%.30s", dir, name);
    file = fopen(path, "w");
    assert_non_null(file);
    fputs(content, file);
    fclose(file);
    assert_int_equal(chmod(path, mode), 0);
}

static void stage_init(struct stage *stage)
{
    strcpy(stage->dir, "/tmp/net_auth_test.XXXXXX");
    assert_non_null(mkdtemp(stage->dir));
    write_file(stage->key, stage->dir, "key", "0123456789abcdef0123456789abcdef\n", 0600);
    write_file(stage->other_key, stage->dir, "other", "another key of the same length!!\n", 0400);
    spec_on_free_ports(&stage->spec, 2);
    node_init(&stage->one);
    node_init(&stage->two);
    node_be_replica(&stage->one, &stage->spec, 1);
    node_be_replica(&stage->two, &stage->spec, 2);
    stage->one.options.peer_key = stage->two.options.peer_key = stage->key;
    stage->one.echo = stage->two.echo = true;
}

static void stage_fini(struct stage *stage)
{
    node_fini(&stage->one);
    node_fini(&stage->two);
    unlink(stage->key);
    unlink(stage->other_key);
    rmdir(stage->dir);
}

static void peers_with_one_key_talk_both_ways(void **state)
{
    struct stage stage;

    (void)state;
    stage_init(&stage);
    node_start(&stage.one);
    node_start(&stage.two);
    assert_true(node_wait(&stage.one, IO_EVENT_PEER_UP, 2, 1, WITHIN_MS));
    assert_true(node_wait(&stage.two, IO_EVENT_PEER_UP, 1, 1, WITHIN_MS));
    node_peer_send(&stage.one, 2, IO_NORMAL, "hello", 5);
    node_peer_send(&stage.two, 1, IO_NORMAL, NULL, 1000000);
    assert_true(node_wait(&stage.two, IO_EVENT_PEER_MESSAGE, 1, 1, WITHIN_MS));
    assert_true(node_wait(&stage.one, IO_EVENT_PEER_MESSAGE, 2, 1, WITHIN_MS));
    stage_fini(&stage);
}

static void expect_strangers(struct stage *stage, const char *words)
{
    node_start(&stage->one);
    node_start(&stage->two);
    assert_true(node_wait_trace(&stage->one, words, WITHIN_MS));
    assert_true(node_wait_trace(&stage->two, words, WITHIN_MS));
    assert_int_equal(node_count(&stage->one, IO_EVENT_PEER_UP, 0), 0);
    assert_int_equal(node_count(&stage->two, IO_EVENT_PEER_UP, 0), 0);
    stage_fini(stage);
}

static void peers_with_different_keys_do_not_talk(void **state)
{
    struct stage stage;

    (void)state;
    stage_init(&stage);
    stage.two.options.peer_key = stage.other_key;
    expect_strangers(&stage, "the peer keys differ");
}

static void a_peer_without_a_key_is_refused_where_there_is_one(void **state)
{
    struct stage stage;

    (void)state;
    stage_init(&stage);
    stage.two.options.peer_key = NULL;
    expect_strangers(&stage, "start all servers with the same --peer-key");
}

/* ---- Servers as clients, and clients ---- */

static const struct record *first_client_message(const struct node *node)
{
    for (size_t i = 0; i < node->n_records; i++) {
        if (node->records[i].type == IO_EVENT_CLIENT_MESSAGE) {
            return &node->records[i];
        }
    }
    return NULL;
}

/* Calls replica one as somebody's client; whether its message came, and as a stranger's. */
static bool comes_as_stranger(struct stage *stage, struct node *caller)
{
    uint32_t endpoint = node_endpoint(caller, stage->spec.replicas[0].url);
    const struct record *record;

    node_endpoint_send(caller, endpoint, "x", 1);
    assert_true(node_wait(&stage->one, IO_EVENT_CLIENT_MESSAGE, 0, 1, WITHIN_MS));
    assert_true(node_wait(caller, IO_EVENT_ENDPOINT_MESSAGE, endpoint, 1, WITHIN_MS));
    record = first_client_message(&stage->one);
    assert_non_null(record);
    return record->is_stranger;
}

static void a_client_is_served_as_a_stranger(void **state)
{
    struct stage stage;
    struct node client;

    (void)state;
    stage_init(&stage);
    node_init(&client);
    node_start(&stage.one);
    node_start(&client);
    assert_true(comes_as_stranger(&stage, &client));
    node_fini(&client);
    stage_fini(&stage);
}

/* A server of another group. */
static void be_another_group(struct stage *stage, struct node *node, const struct spec *spec)
{
    node_init(node);
    node_be_replica(node, spec, 1);
    node->options.self.gid = 6;
    node->options.group = 6;
    node->options.peer_key = stage->key;
}

static void a_server_of_another_group_that_proves_the_key_is_no_stranger(void **state)
{
    struct stage stage;
    struct node other;
    struct spec spec;

    (void)state;
    stage_init(&stage);
    spec_on_free_ports(&spec, 1);
    be_another_group(&stage, &other, &spec);
    node_start(&stage.one);
    node_start(&other);
    assert_false(comes_as_stranger(&stage, &other));
    node_fini(&other);
    stage_fini(&stage);
}

static void a_server_without_the_key_is_not_served_as_a_client(void **state)
{
    struct stage stage;
    struct node other;
    struct spec spec;
    uint32_t endpoint;

    (void)state;
    stage_init(&stage);
    spec_on_free_ports(&spec, 1);
    be_another_group(&stage, &other, &spec);
    other.options.peer_key = NULL;
    node_start(&stage.one);
    node_start(&other);
    endpoint = node_endpoint(&other, stage.spec.replicas[0].url);
    node_endpoint_send(&other, endpoint, "x", 1);
    assert_true(node_wait(&other, IO_EVENT_ENDPOINT_DOWN, endpoint, 1, WITHIN_MS));
    assert_true(node_wait_trace(&other, "the calling server has no peer key", WITHIN_MS));
    assert_int_equal(node_count(&stage.one, IO_EVENT_CLIENT_MESSAGE, 0), 0);
    node_fini(&other);
    stage_fini(&stage);
}

static void without_a_key_nobody_is_a_stranger(void **state)
{
    struct stage stage;
    struct node client;

    (void)state;
    stage_init(&stage);
    stage.one.options.peer_key = NULL;
    node_init(&client);
    node_start(&stage.one);
    node_start(&client);
    assert_false(comes_as_stranger(&stage, &client));
    node_fini(&client);
    stage_fini(&stage);
}

/* ---- Rude callers ---- */

/* A hello that says it has the key, and then no proof, or a wrong one, or a message at once. */
static void who_only_claims_the_key_gets_nothing(void **state)
{
    struct stage stage;

    (void)state;
    stage_init(&stage);
    node_start(&stage.one);
    for (int how = 0; how < 3; how++) {
        struct hello hello = stage.two.options.self;
        struct buf bytes = {0};
        struct frame frame;
        uint8_t proof[HANDSHAKE_PROOF_BYTES] = {1};
        int fd;

        hello.flags = HELLO_KEYED;
        fd = raw_greet(&stage.one, &hello);
        if (how == 1) {
            put_frame(&bytes, FRAME_PROOF, slice_of(proof, sizeof(proof)));
        } else if (how == 2) {
            put_request(&bytes, "vote for me");
        } else {
            put_frame(&bytes, FRAME_HELLO, slice_of(proof, 1));
        }
        assert_true(raw_send(fd, buf_slice(&bytes)));
        buf_clear(&bytes);
        if (how == 1) {
            assert_true(raw_read_frame(fd, &bytes, &frame));
            assert_int_equal(frame.kind, FRAME_REFUSE);
        } else {
            assert_true(raw_read_to_end(fd, &bytes));
            assert_int_equal(bytes.len, 0);
        }
        close(fd);
        buf_fini(&bytes);
    }
    assert_int_equal(node_count(&stage.one, IO_EVENT_PEER_MESSAGE, 0), 0);
    assert_int_equal(node_count(&stage.one, IO_EVENT_CLIENT_MESSAGE, 0), 0);
    stage_fini(&stage);
}

/* A peer's place is for good: not for who only says that it is one. Clients that do nothing at all
 * keep theirs for longer. */
static void who_only_claims_to_be_a_peer_gives_way(void **state)
{
    uint64_t deadline_ms;
    struct stage stage;
    struct hello claim;
    struct buf got = {0};
    char byte;
    int fds[3];

    (void)state;
    stage_init(&stage);
    stage.one.options.limits.max_connections = 3;
    stage.one.options.election_timeout_ms = WITHIN_MS; /* nobody is timed out */
    node_start(&stage.one);
    claim = stage.two.options.self;
    claim.flags = HELLO_KEYED;
    fds[0] = raw_client(&stage.one);
    fds[1] = raw_client(&stage.one);
    fds[2] = raw_greet(&stage.one, &claim);
    deadline_ms = net_now_ms() + WITHIN_MS;
    while (recv(fds[2], &byte, 1, MSG_DONTWAIT) != 0 && net_now_ms() < deadline_ms) {
        close(raw_connect(&stage.one));
        pause_ms(5);
    }
    assert_true(raw_read_to_end(fds[2], &got));
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(recv(fds[i], &byte, 1, MSG_DONTWAIT), -1);
        assert_int_equal(errno, EAGAIN);
    }
    for (size_t i = 0; i < 3; i++) {
        close(fds[i]);
    }
    buf_fini(&got);
    stage_fini(&stage);
}

/* Answers a call with this hello: what the caller says to it. */
static enum frame_kind caller_says(int listener, const struct hello *answer)
{
    struct buf bytes = {0};
    struct frame frame;
    enum frame_kind kind;
    int fd = accept(listener, NULL, NULL);

    assert_true(fd >= 0);
    assert_true(raw_read_frame(fd, &bytes, &frame));
    assert_int_equal(frame.kind, FRAME_HELLO);
    buf_clear(&bytes);
    put_hello_frame(&bytes, answer);
    assert_true(raw_send(fd, buf_slice(&bytes)));
    buf_clear(&bytes);
    assert_true(raw_read_frame(fd, &bytes, &frame));
    kind = frame.kind;
    close(fd);
    buf_fini(&bytes);
    return kind;
}

/* Who is called may pass the hellos on between the caller and another server. The proof would be
 * good there: so it is not given but to the replica that was meant, or, by another server's client,
 * to a server of the group that was meant. */
static void a_caller_proves_itself_only_to_whom_it_meant(void **state)
{
    (void)state;
    for (int how = 0; how < 6; how++) {
        struct stage stage;
        struct hello answer;
        int port, fd = raw_listen(&port);
        struct node *caller;
        char *url;

        stage_init(&stage);
        caller = &stage.one;
        url = caller->options.peers.replicas[1].url;
        answer = stage.two.options.self;
        answer.who = how == 1 || how == 4 ? HELLO_PEER : HELLO_SERVER;
        answer.flags = HELLO_KEYED;
        answer.id += how == 2;
        answer.gid += how == 3 || how == 5;
        if (how < 4) {
            snprintf(url, SPEC_MAX_URL, "tcp://127.0.0.1:%d", port);
            node_start(caller);
        } else { /* as another server's client */
            char called[SPEC_MAX_URL];

            caller->options.peers.n = 1;
            snprintf(called, sizeof(called), "tcp://127.0.0.1:%d", port);
            node_start(caller);
            node_endpoint_send(caller, node_endpoint(caller, called), "x", 1);
        }
        assert_int_equal(caller_says(fd, &answer), how == 0 ? FRAME_PROOF : FRAME_REFUSE);
        close(fd);
        stage_fini(&stage);
    }
}

/* Somebody got an address of its own into one's group, as replica two's, and passes on to one what
 * is said to it; here it is an alias of one's own. */
static void a_call_that_was_meant_for_another_replica_is_refused(void **state)
{
    struct stage stage;
    struct node other;
    struct spec spec;
    char *url;
    uint32_t endpoint;

    (void)state;
    stage_init(&stage);
    spec_on_free_ports(&spec, 1);
    be_another_group(&stage, &other, &spec);
    url = stage.one.options.peers.replicas[1].url;
    snprintf(url, SPEC_MAX_URL, "tcp://localhost:%d", url_port(stage.spec.replicas[0].url));
    node_start(&stage.one);
    node_start(&other);
    endpoint = node_endpoint(&other, url);
    node_endpoint_send(&other, endpoint, "x", 1);
    assert_true(node_wait(&other, IO_EVENT_ENDPOINT_DOWN, endpoint, 1, WITHIN_MS));
    assert_true(node_wait_trace(&other, "the caller meant another replica", WITHIN_MS));
    assert_int_equal(node_count(&stage.one, IO_EVENT_CLIENT_MESSAGE, 0), 0);
    node_fini(&other);
    stage_fini(&stage);
}

static void one_address_gets_only_so_many_connections(void **state)
{
    struct stage stage;
    struct buf bytes = {0};
    int fds[3], fd;

    (void)state;
    stage_init(&stage);
    stage.one.options.limits.max_connections_per_remote = 3;
    node_start(&stage.one);
    for (size_t i = 0; i < 3; i++) {
        fds[i] = raw_client(&stage.one);
    }
    fd = raw_connect(&stage.one);
    assert_true(raw_read_to_end(fd, &bytes));
    assert_int_equal(bytes.len, 0);
    close(fd);
    for (size_t i = 0; i < 3; i++) {
        close(fds[i]);
    }
    buf_fini(&bytes);
    stage_fini(&stage);
}

/* ---- Key files ---- */

static void expect_no_key(const char *path, const char *words)
{
    struct peer_key *key;
    char error[256] = "";

    assert_int_equal(peer_key_load(path, &key, error), ST_INVALID);
    assert_null(key);
    if (strstr(error, words) == NULL || strstr(error, path) == NULL) {
        fail_msg("\"%s\" does not say \"%s\"", error, words);
    }
}

static void key_files_that_are_none_are_refused_in_one_line(void **state)
{
    char dir[64] = "/tmp/net_auth_test.XXXXXX", path[96], text[5000];
    static const mode_t open_modes[] = {0644, 0640, 0604, 0620, 0602, 0610, 0601};
    char error[256];
    struct peer_key *key;

    (void)state;
    assert_non_null(mkdtemp(dir));
    expect_no_key("/nonexistent/key", "No such file");
    expect_no_key(dir, "not a regular file");
    write_file(path, dir, "key", "", 0600);
    expect_no_key(path, "empty");
    write_file(path, dir, "key", "\n \n", 0600);
    expect_no_key(path, "empty");
    write_file(path, dir, "key", "fifteen bytes..\n", 0600);
    expect_no_key(path, "too short");
    memset(text, 'k', sizeof(text));
    text[4097] = '\0';
    write_file(path, dir, "key", text, 0600);
    expect_no_key(path, "too large");
    text[4096] = '\0';
    write_file(path, dir, "key", text, 0600);
    assert_int_equal(peer_key_load(path, &key, error), ST_OK);
    peer_key_destroy(&key);
    for (size_t i = 0; i < sizeof(open_modes) / sizeof(open_modes[0]); i++) {
        assert_int_equal(chmod(path, open_modes[i]), 0);
        expect_no_key(path, "chmod 600");
    }
    unlink(path);
    assert_int_equal(mkfifo(path, 0600), 0);
    expect_no_key(path, "not a regular file"); /* at once: nobody writes into it */
    unlink(path);
    rmdir(dir);
    assert_int_equal(peer_key_load(NULL, &key, error), ST_OK);
    assert_null(key);
}

/* RFC 4231, test case 6: a key longer than a block. */
static void the_mac_is_hmac_sha256(void **state)
{
    static const uint8_t expected[32] = {0x60, 0xe4, 0x31, 0x59, 0x1e, 0xe0, 0xb6, 0x7f,
                                         0x0d, 0x8a, 0x26, 0xaa, 0xcb, 0xf5, 0xb7, 0x7f,
                                         0x8e, 0x0b, 0xc6, 0x21, 0x37, 0x28, 0xc5, 0x14,
                                         0x05, 0x46, 0x04, 0x0f, 0x0e, 0xe3, 0x7f, 0x54};
    char dir[64] = "/tmp/net_auth_test.XXXXXX", path[96], text[132], error[256];
    struct peer_key *key;
    const struct handshake_key *handshake;
    uint8_t mac[HANDSHAKE_PROOF_BYTES];

    (void)state;
    assert_non_null(mkdtemp(dir));
    memset(text, 0xaa, 131);
    text[131] = '\0';
    write_file(path, dir, "key", text, 0600);
    assert_int_equal(peer_key_load(path, &key, error), ST_OK);
    handshake = peer_key_handshake(key);
    handshake->mac(handshake->context,
                   slice_text("Test Using Larger Than Block-Size Key - Hash Key First"), mac);
    assert_memory_equal(mac, expected, sizeof(expected));
    peer_key_destroy(&key);
    unlink(path);
    rmdir(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(peers_with_one_key_talk_both_ways),
        cmocka_unit_test(peers_with_different_keys_do_not_talk),
        cmocka_unit_test(a_peer_without_a_key_is_refused_where_there_is_one),
        cmocka_unit_test(a_client_is_served_as_a_stranger),
        cmocka_unit_test(a_server_of_another_group_that_proves_the_key_is_no_stranger),
        cmocka_unit_test(a_server_without_the_key_is_not_served_as_a_client),
        cmocka_unit_test(without_a_key_nobody_is_a_stranger),
        cmocka_unit_test(who_only_claims_the_key_gets_nothing),
        cmocka_unit_test(who_only_claims_to_be_a_peer_gives_way),
        cmocka_unit_test(a_caller_proves_itself_only_to_whom_it_meant),
        cmocka_unit_test(a_call_that_was_meant_for_another_replica_is_refused),
        cmocka_unit_test(one_address_gets_only_so_many_connections),
        cmocka_unit_test(key_files_that_are_none_are_refused_in_one_line),
        cmocka_unit_test(the_mac_is_hmac_sha256),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
