/* The frame of the caller's stories. The fake cluster's controller group (gid 0) stands for any
 * group: PING is a read, MOVE a change. */
#ifndef TESTS_UNIT_CALLER_STORY_H
#define TESTS_UNIT_CALLER_STORY_H

#include <stdio.h>

#include "raft/util/mem.h"
#include "tests/cmocka.h"
#include "tests/sim/fake_cluster.h"

struct ended {
    int times;
    enum status status;
    bool maybe_applied;
    bool answered;
    uint64_t at;
    char url[64];
    char reason[400];
};

struct story {
    struct fake_cluster world;
    struct caller *caller;
    struct ended ended;
};

static inline void note_end(void *context, const struct caller_end *end)
{
    struct ended *ended = context;

    ended->times++;
    ended->status = end->status;
    ended->maybe_applied = end->maybe_applied;
    ended->answered = end->response != NULL;
    ended->at = end->now_ms;
    snprintf(ended->url, sizeof(ended->url), "%s", end->url != NULL ? end->url : "");
    snprintf(ended->reason, sizeof(ended->reason), "%s", end->reason);
}

static inline int story_begin(void **state)
{
    struct story *story = mem_zalloc(sizeof(*story));
    struct caller_options options;

    fake_init(&story->world, 1);
    caller_options_default(&options);
    options.seed = 7;
    options.transport.context = &story->world;
    options.transport.send = fake_send;
    options.transport.withdraw = fake_withdraw;
    story->caller = story->world.caller = caller_create(&options);
    *state = story;
    return 0;
}

static inline int story_end(void **state)
{
    struct story *story = *state;

    if (story->caller != NULL) {
        caller_destroy(&story->caller);
    }
    fake_fini(&story->world);
    mem_free(story);
    return 0;
}

static inline uint64_t start_to(struct story *story, const char *prefer, bool only, bool is_read,
                                uint64_t timeout_ms, struct ended *ended)
{
    struct proto_request request = {.op = is_read ? PROTO_PING : PROTO_MOVE};
    struct caller_target target = {.only_prefer = only};

    fake_spec(0, &target.replicas);
    snprintf(target.prefer, sizeof(target.prefer), "%s", prefer);
    memset(ended, 0, sizeof(*ended));
    ended->status = (enum status)999; /* not ended */
    return caller_start(story->caller, &target, &request, is_read, story->world.now,
                        story->world.now + timeout_ms, note_end, ended);
}

static inline uint64_t start(struct story *story, bool is_read, uint64_t timeout_ms)
{
    return start_to(story, "", false, is_read, timeout_ms, &story->ended);
}

static inline struct fake_server *replica(struct story *story, uint32_t id)
{
    return fake_server(&story->world, 0, id);
}

static inline void set_fault(struct story *story, uint32_t id, enum fault fault, uint32_t times)
{
    replica(story, id)->fault = fault;
    replica(story, id)->times = times;
}

static inline void refuse(struct story *story, uint32_t id, enum status status, uint32_t hint,
                          uint32_t times)
{
    set_fault(story, id, FAULT_REFUSE, times);
    replica(story, id)->refusal = status;
    replica(story, id)->hint = hint;
}

/* Makes the caller know its leader. */
static inline void learn_leader(struct story *story)
{
    start(story, true, 1000);
    fake_run(&story->world, story->world.now + 1000);
    assert_int_equal(story->ended.status, ST_OK);
    for (uint32_t id = 1; id <= 3; id++) {
        replica(story, id)->requests = 0;
    }
}

static inline uint32_t requests(struct story *story)
{
    return replica(story, 1)->requests + replica(story, 2)->requests + replica(story, 3)->requests;
}

#endif
