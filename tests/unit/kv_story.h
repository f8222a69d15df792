/* The frame of the public library's stories: a real handle and one small server on loopback. */
#ifndef TESTS_UNIT_KV_STORY_H
#define TESTS_UNIT_KV_STORY_H

#include "client/kv.h"
#include "tests/cmocka.h"
#include "tests/unit/kv_fake_server.h"

struct story {
    struct server server;
    struct shardkv *handle;
};

static inline void open_handle(struct story *story, uint32_t max_outstanding)
{
    struct shardkv_options options;
    char error[256];

    shardkv_options_init(&options, sizeof(options));
    options.ctrlers = story->server.url;
    options.timeout_ms = 10000;
    options.max_outstanding = max_outstanding;
    assert_int_equal(shardkv_open(&options, &story->handle, error, sizeof(error)), SHARDKV_OK);
}

static inline int story_begin(void **state)
{
    struct story *story = mem_zalloc(sizeof(*story));
    struct server *server = &story->server;
    char spec[80];

    snprintf(server->url, sizeof(server->url), "tcp://127.0.0.1:%d", free_port());
    pthread_mutex_init(&server->mutex, NULL);
    shard_config_init(&server->config, SHARDS);
    server->config.num = 5;
    server->config.n_groups = 1;
    server->config.groups = mem_zalloc(sizeof(server->config.groups[0]));
    server->config.groups[0].gid = 1;
    server->config.groups[0].member = true;
    snprintf(spec, sizeof(spec), "1=%s", server->url);
    assert_null(spec_parse(spec, &server->config.groups[0].replicas));
    for (uint32_t shard = 0; shard < SHARDS; shard++) {
        server->config.shards[shard] = 1;
    }
    server_start(server);
    open_handle(story, 1000);
    *state = story;
    return 0;
}

static inline int story_end(void **state)
{
    struct story *story = *state;

    shardkv_close(&story->handle);
    server_stop(&story->server);
    shard_config_fini(&story->server.config);
    pthread_mutex_destroy(&story->server.mutex);
    mem_free(story);
    return 0;
}

#define STORY(f) cmocka_unit_test_setup_teardown(f, story_begin, story_end)

#endif
