/* shardkv: one replica of a replica group. See raft/host.h for everything but the service. */
#include <stdio.h>
#include <string.h>

#include "raft/host.h"
#include "shardkv/kv_server.h"

static enum status create(const struct host_parts *parts, void **server, char *error)
{
    struct kv_server_options options;
    struct kv_server *kv = NULL;
    enum status status;

    kv_server_options_default(&options, parts->settings->gid, parts->settings->id, parts->seed);
    host_group_options(parts, &options.group);
    options.ctrlers = parts->settings->ctrlers;
    options.incarnation = parts->incarnation;
    options.rejoins = parts->rejoins ? &parts->settings->cluster : NULL;
    options.version = SHARDKV_VERSION;
    options.migrate.bytes_per_s = (uint64_t)parts->settings->migration_mib_per_s << 20;
    options.migrate.max_copies = parts->settings->migration_parallel;
    status = kv_server_create(&options, &parts->world, parts->log_content, parts->state_meta,
                              parts->now_ms, &kv);
    *server = kv;
    if (status != ST_OK) {
        snprintf(error, STORE_ERROR_BYTES, "%s/state: %s%s", parts->settings->data,
                 status_text(status), status == ST_CORRUPT ? "; " STORE_REBUILD : "");
    }
    return status;
}

static void destroy(void **server)
{
    struct kv_server *kv = *server;

    kv_server_destroy(&kv);
    *server = NULL;
}

static void step(void *server, const struct io_event *event)
{
    kv_server_step(server, event);
}

static uint64_t next_deadline_ms(void *server)
{
    return kv_server_next_deadline_ms(server);
}

static bool cluster_id(void *server, uint8_t id[16])
{
    const uint8_t *known = kv_server_cluster_id(server);

    if (known != NULL) {
        memcpy(id, known, 16);
    }
    return known != NULL;
}

static struct group *group(void *server)
{
    return kv_server_group(server);
}

static void metrics(void *server, struct buf *text)
{
    kv_server_metrics(server, text);
}

static const char *trouble(void *server)
{
    return kv_server_trouble(server);
}

int main(int argc, char **argv)
{
    static const struct host_service service = {create,     destroy, step,    next_deadline_ms,
                                                cluster_id, group,   metrics, trouble};
    struct host_settings settings = {.program = "shardkv", .has = HOST_HAS_GID | HOST_HAS_CTRLERS};
    int code = host_settings_read(&settings, argc, argv);

    if (code < 0) {
        code = host_run(&settings, &service);
    }
    host_settings_fini(&settings);
    return code;
}
