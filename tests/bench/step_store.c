/* A batch into the log and through the state machine; see step_case.h.
 *
 * The log is the shipped one on the calling thread; its writes and syncs go nowhere, so that what
 * is left is its own work. The state is the shipped one too: applied effects gather in memory, and
 * no checkpoint is taken.
 */
#include <stdio.h>
#include <string.h>

#include "client/shard_config.h"
#include "raft/util/mem.h"
#include "shardkv/kv_sm.h"
#include "tests/bench/step_case.h"
#include "tests/bench/step_world.h"

/* ---- The log ---- */

#define COMPACT_EVERY 64 /* runs: so that its table and its segments stay small */

struct wal_case {
    struct wal_files files;
    struct wal *wal;
    struct raft_entry *entries;
    raft_index next;
    uint64_t runs;
};

static int64_t write_nowhere(void *context, int fd, const void *data, size_t len, uint64_t offset)
{
    (void)context;
    (void)fd;
    (void)data;
    (void)offset;
    return (int64_t)len;
}

static int sync_nothing(void *context, int fd)
{
    (void)context;
    (void)fd;
    return 0;
}

void *wal_case_create(const char *dir)
{
    struct wal_case *it = mem_zalloc(sizeof(*it));
    struct wal_options options;
    struct io_log_content content;
    char error[STORE_ERROR_BYTES];

    it->files = *wal_posix_files();
    it->files.pwrite = write_nowhere;
    it->files.fdatasync = sync_nothing;
    wal_options_default(&options, dir);
    options.identity = 1;
    options.threaded = false;
    options.files = &it->files;
    options.mail = (struct store_mail){it, step_post, step_deliver};
    ASSERT(wal_open(&options, &it->wal, error) == ST_OK);
    wal_content(it->wal, 1, &content);
    it->next = 1;
    it->entries = step_entries(1, 1);
    return it;
}

void wal_case_run(void *context)
{
    struct wal_case *it = context;
    struct io_log *log = wal_io(it->wal);
    struct io_log_write write = {
        .group = 1, .token = ++it->runs, .entries = it->entries, .n_entries = BATCH};

    for (unsigned i = 0; i < BATCH; i++) {
        it->entries[i].index = it->next++;
    }
    log->ops->write(log, &write);
    wal_flush(it->wal);
    if (it->runs % COMPACT_EVERY == 0) {
        log->ops->checkpoint(log, 1, it->runs / COMPACT_EVERY, it->next - 1);
        log->ops->compact(log, 1, it->next - 1, 1);
    }
}

/* ---- The state machine ---- */

struct apply {
    struct state *state;
    struct kv_sm *sm;
    uint64_t n_puts;
    raft_index index;
    struct buf commands[FEW];
    struct buf result;
};

static void apply_one(struct apply *apply, struct slice bytes)
{
    struct rsm_command command = {.index = ++apply->index, .term = 1, .bytes = bytes};

    command.stamp = 1000000 + apply->index;
    buf_clear(&apply->result);
    ASSERT(kv_sm_apply(apply->sm, &command, &apply->result) == ST_OK);
}

static void must_be_ok(const struct apply *apply)
{
    struct kv_command_result result;

    ASSERT(kv_command_result_decode(buf_slice(&apply->result), &result));
    ASSERT(result.status == ST_OK);
}

static void apply_command(struct apply *apply, const struct kv_command *command)
{
    struct buf bytes = {0};

    kv_command_encode(command, &bytes);
    apply_one(apply, buf_slice(&bytes));
    must_be_ok(apply);
    buf_fini(&bytes);
}

/* The group comes to be, and owns every shard. */
static void found(struct apply *apply)
{
    struct kv_command init = {.kind = KV_COMMAND_INIT}, adopt = {.kind = KV_COMMAND_CONFIG};
    struct shard_config config;
    struct buf bytes = {0};

    init.init.incarnation = 1111;
    init.init.n_shards = STEP_SHARDS;
    memset(init.init.cluster_id, 9, sizeof(init.init.cluster_id));
    apply_command(apply, &init);
    shard_config_init(&config, STEP_SHARDS);
    memset(config.cluster_id, 9, sizeof(config.cluster_id));
    config.num = 1;
    config.groups = mem_zalloc(sizeof(config.groups[0]));
    config.n_groups = 1;
    config.groups[0] =
        (struct config_group){.gid = 1, .member = true, .joined_at = 1, .incarnation = 1111};
    config.groups[0].replicas.n = 1;
    config.groups[0].replicas.replicas[0].id = 1;
    snprintf(config.groups[0].replicas.replicas[0].url,
             sizeof(config.groups[0].replicas.replicas[0].url), "tcp://127.0.0.1:1");
    for (shard_id shard = 0; shard < STEP_SHARDS; shard++) {
        config.shards[shard] = 1;
    }
    shard_config_encode(&config, &bytes);
    adopt.config = buf_slice(&bytes);
    apply_command(apply, &adopt);
    buf_fini(&bytes);
    shard_config_fini(&config);
}

void *apply_create(const char *dir)
{
    struct apply *apply = mem_zalloc(sizeof(*apply));
    struct kv_sm_options sm_options = {.gid = 1, .max_sessions = 1000};
    struct state_options options;
    struct io_state_meta meta;
    char error[STORE_ERROR_BYTES];

    state_options_default(&options, dir, 1);
    options.mail = (struct store_mail){apply, step_post, step_deliver};
    ASSERT(state_open(&options, 0, 0, &apply->state, &meta, error) == ST_OK);
    buf_fini(&meta.extra);
    sm_options.state = state_io(apply->state);
    apply->sm = kv_sm_create(&sm_options);
    ASSERT(kv_sm_restore(apply->sm) == ST_OK);
    found(apply);
    return apply;
}

void apply_ready(void *context)
{
    struct apply *apply = context;

    for (unsigned i = 0; i < FEW; i++) {
        struct kv_command command = {.kind = KV_COMMAND_WRITE};
        char key[STEP_KEY_BYTES + 1];

        step_put(&command.write, apply->n_puts++, key);
        buf_clear(&apply->commands[i]);
        kv_command_encode(&command, &apply->commands[i]);
    }
}

void apply_run(void *context)
{
    struct apply *apply = context;

    for (unsigned i = 0; i < FEW; i++) {
        apply_one(apply, buf_slice(&apply->commands[i]));
    }
    must_be_ok(apply);
}

/* What was applied since the last checkpoint is saved for the next one: at most a session and a
 * counter for each put, however many puts there were. */
void save_ready(void *context)
{
    struct apply *apply = context;

    apply_ready(apply);
    apply_run(apply);
}

void save_run(void *context)
{
    kv_sm_save(((struct apply *)context)->sm);
}
