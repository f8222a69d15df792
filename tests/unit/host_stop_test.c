/* The end of a server's process, on a controller's replica of its own: a signal may come at any
 * moment of it. */
#include <signal.h>
#include <unistd.h>

#include "raft/host.h"
#include "shardctrler/ctrler_server.h"
#include "tests/unit/net_harness.h"

/* The controller's service, which halts in its first turn and is sent SIGTERM while it closes. */
struct halting {
    struct group_world world;
    bool halted, signalled;
};
static struct halting halting;

static enum status create(const struct host_parts *parts, void **server, char *error)
{
    struct ctrler_server_options options;
    struct ctrler_server *ctrler = NULL;
    enum status status;

    (void)error;
    ctrler_server_options_default(&options, parts->settings->id, parts->seed,
                                  &parts->settings->cluster);
    host_group_options(parts, &options.group);
    options.n_shards = 16;
    options.incarnation = parts->incarnation;
    options.version = "test";
    options.trace = parts->trace;
    status = ctrler_server_create(&options, &parts->world, parts->log_content, parts->state_meta,
                                  parts->now_ms, &ctrler);
    *server = ctrler;
    halting.world = parts->world;
    return status;
}

/* Until the signal thread took the signal, and a moment longer: what it does then must not depend
 * on when it does it. */
static void be_signalled(void)
{
    sigset_t pending;

    assert_int_equal(kill(getpid(), SIGTERM), 0);
    for (int tries = 0; tries < 1000; tries++) {
        sigpending(&pending);
        if (!sigismember(&pending, SIGTERM)) {
            break;
        }
        pause_ms(1);
    }
    pause_ms(100);
    halting.signalled = true;
}

static void destroy(void **server)
{
    struct ctrler_server *ctrler = *server;

    ctrler_server_destroy(&ctrler);
    *server = NULL;
    be_signalled();
}

static void step(void *server, const struct io_event *event)
{
    ctrler_server_step(server, event);
    if (event->type == IO_EVENT_TURN_END && !halting.halted) {
        halting.halted = true;
        halting.world.halt(halting.world.halt_context, ST_CORRUPT, "the test wants it to halt");
    }
}

static uint64_t next_deadline_ms(void *server)
{
    return ctrler_server_next_deadline_ms(server);
}

static bool cluster_id(void *server, uint8_t id[16])
{
    const uint8_t *known = ctrler_server_cluster_id(server);

    if (known != NULL) {
        memcpy(id, known, 16);
    }
    return known != NULL;
}

static struct group *group(void *server)
{
    return ctrler_server_group(server);
}

static void remove_directory(const char *path)
{
    char command[200];

    snprintf(command, sizeof(command), "rm -rf '%s'", path);
    assert_int_equal(system(command), 0);
}

static void a_signal_while_a_halted_server_closes_does_no_harm(void **state)
{
    static const struct host_service service = {.create = create,
                                                .destroy = destroy,
                                                .step = step,
                                                .next_deadline_ms = next_deadline_ms,
                                                .cluster_id = cluster_id,
                                                .group = group};
    char dir[] = "/tmp/host_stop_test.XXXXXX", data[64];
    struct host_settings settings = {.program = "host_stop_test",
                                     .id = 1,
                                     .election_timeout_ms = 300,
                                     .heartbeat_ms = 50,
                                     .disk_reserve_mib = 0,
                                     .disk_low_mib = 0,
                                     .trace_level = TRACE_ERROR};

    (void)state;
    assert_non_null(mkdtemp(dir));
    snprintf(data, sizeof(data), "%s/data", dir);
    settings.data = data;
    spec_on_free_ports(&settings.cluster, 1);
    assert_int_equal(host_run(&settings, &service), HOST_EXIT_CORRUPT);
    assert_true(halting.halted && halting.signalled);
    remove_directory(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_signal_while_a_halted_server_closes_does_no_harm),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
