/* shardctrler: one replica of the controller group. See raft/host.h for everything but the service.
 */
#include <stdio.h>
#include <string.h>

#include "client/rejoin.h"
#include "raft/host.h"
#include "raft/util/mem.h"
#include "shardctrler/ctrler_server.h"

static const char *const shards_differ =
    "--shards is %u, but the cluster was created with %u: leave the option out or correct it";

struct ctrler_process {
    struct ctrler_server *ctrler;
    struct rejoin *rejoin; /* NULL: the replica needs none */
};

/* A replica that was rebuilt has its group take it in. */
static struct rejoin *create_rejoin(const struct host_parts *parts)
{
    struct rejoin_options options = {.net = parts->net,
                                     .gid = parts->settings->gid,
                                     .id = parts->settings->id,
                                     .incarnation = parts->incarnation,
                                     .replicas = parts->settings->cluster,
                                     .alive_ms = 5 * parts->settings->election_timeout_ms,
                                     .seed = parts->seed ^ 0x72656a6fu,
                                     .trace = parts->trace};

    return parts->rejoins ? rejoin_create(&options, parts->now_ms) : NULL;
}

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
    options.version = SHARDKV_VERSION;
    options.trace = parts->trace;
    status = ctrler_server_create(&options, &parts->world, parts->log_content, parts->state_meta,
                                  parts->now_ms, &ctrler);
    *server = mem_zalloc(sizeof(struct ctrler_process));
    *(struct ctrler_process *)*server =
        (struct ctrler_process){ctrler, status == ST_OK ? create_rejoin(parts) : NULL};
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
    struct ctrler_process *process = *server;

    rejoin_destroy(&process->rejoin);
    ctrler_server_destroy(&process->ctrler);
    mem_free(process);
    *server = NULL;
}

static void step(void *server, const struct io_event *event)
{
    struct ctrler_process *process = server;

    ctrler_server_step(process->ctrler, event);
    rejoin_step(process->rejoin, event);
}

static uint64_t next_deadline_ms(void *server)
{
    const struct ctrler_process *process = server;
    uint64_t own = ctrler_server_next_deadline_ms(process->ctrler);
    uint64_t rejoin = rejoin_next_deadline_ms(process->rejoin);

    return own < rejoin ? own : rejoin;
}

static bool cluster_id(void *server, uint8_t id[16])
{
    const uint8_t *known = ctrler_server_cluster_id(((struct ctrler_process *)server)->ctrler);

    if (known != NULL) {
        memcpy(id, known, 16);
    }
    return known != NULL;
}

static struct group *group(void *server)
{
    return ctrler_server_group(((struct ctrler_process *)server)->ctrler);
}

static void metrics(void *server, struct buf *text)
{
    ctrler_server_metrics(((struct ctrler_process *)server)->ctrler, text);
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
