/* The frame of the clerk's stories: a clerk in a fake cluster, and how its operations ended. */
#ifndef TESTS_UNIT_CLERK_STORY_H
#define TESTS_UNIT_CLERK_STORY_H

#include <stdio.h>

#include "raft/util/mem.h"
#include "tests/cmocka.h"
#include "tests/sim/fake_cluster.h"

#define MAX_SCANNED 1024
#define NOT_ENDED   ((enum status)999)

struct ended {
    int times;
    enum status status;
    char reason[600];
    char value[64];
    bool has_result;
    uint32_t output;
    size_t n_records;
    char keys[MAX_SCANNED][64];
    bool more;
    uint64_t at;
    struct fake_cluster *world;
};

struct story {
    struct fake_cluster world;
    struct clerk *clerk;
    struct ended ended;
    /* Chosen by warm_up: a key of group 1, and its shard. */
    char key[16];
    shard_id shard;
};

static inline void note_end(void *context, const struct clerk_end *end)
{
    struct ended *ended = context;

    ended->times++;
    ended->status = end->status;
    ended->at = ended->world->now;
    snprintf(ended->reason, sizeof(ended->reason), "%s", end->reason);
    snprintf(ended->value, sizeof(ended->value), "%.*s", (int)end->value.len,
             end->value.len > 0 ? (const char *)end->value.data : "");
    ended->has_result = end->result != NULL;
    ended->output = end->result != NULL ? end->result->outputs[0] : 0;
    ended->n_records = end->n_records;
    ended->more = end->more;
    for (size_t i = 0; i < end->n_records && i < MAX_SCANNED; i++) {
        snprintf(ended->keys[i], sizeof(ended->keys[i]), "%.*s", (int)end->records[i].key.len,
                 end->records[i].key.data);
    }
}

static inline void make_clerk(struct story *story, uint32_t max_outstanding, const char *prefer)
{
    struct clerk_options options;

    clerk_options_default(&options);
    fake_spec(0, &options.ctrlers);
    memset(options.client_id, 0xff, sizeof(options.client_id)); /* so that generations carry over */
    options.max_outstanding = max_outstanding;
    snprintf(options.prefer, sizeof(options.prefer), "%s", prefer);
    options.caller.seed = 3;
    options.caller.transport.context = &story->world;
    options.caller.transport.send = fake_send;
    options.caller.transport.withdraw = fake_withdraw;
    story->clerk = story->world.clerk = clerk_create(&options);
}

static inline int story_begin(void **state)
{
    struct story *story = mem_zalloc(sizeof(*story));

    fake_init(&story->world, 5);
    make_clerk(story, 512, "");
    *state = story;
    return 0;
}

static inline void remake_clerk(struct story *story, uint32_t max_outstanding, const char *prefer)
{
    clerk_destroy(&story->clerk);
    make_clerk(story, max_outstanding, prefer);
}

static inline int story_end(void **state)
{
    struct story *story = *state;

    story->world.clerk = NULL;
    if (story->clerk != NULL) {
        clerk_destroy(&story->clerk);
    }
    fake_fini(&story->world);
    mem_free(story);
    return 0;
}

static inline void ended_init(struct story *story, struct ended *ended)
{
    memset(ended, 0, sizeof(*ended));
    ended->world = &story->world;
    ended->status = NOT_ENDED;
}

static inline uint64_t get_into(struct story *story, const char *key, uint64_t timeout_ms,
                                struct ended *ended)
{
    ended_init(story, ended);
    return clerk_get(story->clerk, slice_text(key), story->world.now, story->world.now + timeout_ms,
                     note_end, ended);
}

static inline uint64_t put_into(struct story *story, const char *key, const char *value,
                                uint64_t timeout_ms, struct ended *ended)
{
    struct kv_write write = {.n_operations = 1};

    write.operations[0] = (struct kv_operation){KV_PUT, slice_text(key), slice_text(value)};
    ended_init(story, ended);
    return clerk_write(story->clerk, &write, story->world.now, story->world.now + timeout_ms,
                       note_end, ended);
}

static inline uint64_t put(struct story *story, const char *key, const char *value,
                           uint64_t timeout_ms)
{
    return put_into(story, key, value, timeout_ms, &story->ended);
}

static inline void run(struct story *story, uint64_t ms)
{
    fake_run(&story->world, story->world.now + ms);
}

/* A key whose shard the group holds. */
static inline const char *key_of(struct story *story, uint32_t gid, char key[16])
{
    for (int i = 0;; i++) {
        snprintf(key, 16, "k%d", i);
        if (story->world.holder[shard_of_key(slice_text(key), FAKE_SHARDS)] == gid) {
            return key;
        }
    }
}

/* Makes the clerk know the configuration and the leaders, and chooses the story's key. */
static inline void warm_up(struct story *story)
{
    char key[16];

    for (uint32_t gid = 1; gid <= FAKE_GROUPS; gid++) {
        put(story, key_of(story, gid, key), "warm", 1000);
        run(story, 1000);
        assert_int_equal(story->ended.status, ST_OK);
    }
    for (size_t i = 0; i < FAKE_SERVERS; i++) {
        story->world.servers[i].requests = 0;
    }
    key_of(story, 1, story->key);
    story->shard = shard_of_key(slice_text(story->key), FAKE_SHARDS);
}

static inline void fault_group(struct story *story, uint32_t gid, enum fault fault)
{
    for (uint32_t id = 1; id <= 3; id++) {
        fake_server(&story->world, gid, id)->fault = fault;
        fake_server(&story->world, gid, id)->times = 0;
        if (fault == FAULT_UNREACHABLE) {
            fake_break(&story->world, fake_server(&story->world, gid, id), false);
        }
    }
}

static inline struct fake_server *leader_of(struct story *story, uint32_t gid)
{
    return fake_server(&story->world, gid, story->world.leader[gid]);
}

static inline void fault_leader(struct story *story, uint32_t gid, enum fault fault, uint32_t times)
{
    leader_of(story, gid)->fault = fault;
    leader_of(story, gid)->times = times;
}

static inline void refuse_once(struct story *story, uint32_t gid, enum status status)
{
    fault_leader(story, gid, FAULT_REFUSE, 1);
    leader_of(story, gid)->refusal = status;
}

#endif
