/* shardctrler: one replica of the controller group. See raft/host.h for everything but the service.
 */
#include <stdio.h>
#include <string.h>

#include "raft/host.h"
#include "shardctrler/ctrler_server.h"

static const char *const shards_differ =
    "--shards is %u, but the cluster was created with %u: leave the option out or correct it";

static enum status create(const struct host_parts *parts, void **server, char *error)
{
    struct ctrler_server_options options;
    struct ctrler_server *ctrler = NULL;
    enum status status;
    uint32_t shards;

    ctrler_server_options_default(&options, parts->settings->id, parts->seed,
                                  &parts->settings->cluster);
    host_group_options(parts, &options.group);
    options.n_shards = parts->settings->shards;
    options.incarnation = parts->incarnation;
    options.rejoins = parts->rejoins ? &parts->settings->cluster : NULL;
    options.version = SHARDKV_VERSION;
    options.trace = parts->trace;
    status = ctrler_server_create(&options, &parts->world, parts->log_content, parts->state_meta,
                                  parts->now_ms, &ctrler);
    *server = ctrler;
    if (status != ST_OK) {
        snprintf(error, STORE_ERROR_BYTES, "%s/state: %s%s", parts->settings->data,
                 status_text(status), status == ST_CORRUPT ? "; " STORE_REBUILD : "");
    } else if (ctrler_server_shards_conflict(ctrler, &shards)) {
        snprintf(error, STORE_ERROR_BYTES, shards_differ, parts->settings->shards, shards);
        status = ST_INVALID;
    }
    return status;
}

static void destroy(void **server)
{
    struct ctrler_server *ctrler = *server;

    ctrler_server_destroy(&ctrler);
    *server = NULL;
}

static void step(void *server, const struct io_event *event)
{
    ctrler_server_step(server, event);
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

static void metrics(void *server, struct buf *text)
{
    ctrler_server_metrics(server, text);
}

int main(int argc, char **argv)
{
    static const struct host_service service = {create,     destroy, step,    next_deadline_ms,
                                                cluster_id, group,   metrics, NULL};
    struct host_settings settings = {.program = "shardctrler", .has = HOST_HAS_SHARDS};
    int code = host_settings_read(&settings, argc, argv);

    if (code < 0) {
        code = host_run(&settings, &service);
    }
    host_settings_fini(&settings);
    return code;
}
