/* A cluster made by hand for the tests of what the CLI makes of a survey: two groups, 16 shards,
 * and a leader of each that tells what the test wants. */
#ifndef TESTS_UNIT_CLI_SURVEY_STORY_H
#define TESTS_UNIT_CLI_SURVEY_STORY_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/cli_survey.h"
#include "tests/cmocka.h"

#define STORY_SHARDS 16
#define STORY_MOVES  4

struct survey_story {
    struct survey survey;
    struct shardkv_group groups[3]; /* 1, 2, 3; 3 has left */
    uint32_t owners[STORY_SHARDS], from[STORY_SHARDS];
    struct shardkv_config config;
    struct survey_row rows[3]; /* controller, leaders of 1 and 2 */
    struct shardkv_result results[3];
    struct shardkv_node nodes[3];
    struct shardkv_shard_status shards[3][STORY_SHARDS];
    struct shardkv_move_status moves[3][STORY_MOVES];
};

/* Configuration 5: group 1 owns and serves all shards; each has 10 keys, 1000 bytes. */
static inline void survey_story_init(struct survey_story *story)
{
    memset(story, 0, sizeof(*story));
    for (uint32_t i = 0; i < 3; i++) {
        story->groups[i] = (struct shardkv_group){.gid = i + 1, .member = i < 2};
        story->nodes[i] = (struct shardkv_node){.gid = i,
                                                .role = SHARDKV_LEADER,
                                                .term = 1,
                                                .config = 5,
                                                .ready = true,
                                                .version = "",
                                                .shards = story->shards[i],
                                                .moves = story->moves[i]};
        story->results[i] = (struct shardkv_result){.message = "", .node = &story->nodes[i]};
        story->rows[i] = (struct survey_row){.gid = i, .id = 1, .result = &story->results[i]};
    }
    for (uint32_t s = 0; s < STORY_SHARDS; s++) {
        story->owners[s] = story->from[s] = 1;
        story->shards[1][s] = (struct shardkv_shard_status){
            .shard = s, .state = SHARDKV_SHARD_SERVING, .keys = 10, .bytes = 1000};
    }
    story->nodes[1].n_shards = STORY_SHARDS;
    story->config = (struct shardkv_config){.num = 5,
                                            .n_shards = STORY_SHARDS,
                                            .shards = story->owners,
                                            .from = story->from,
                                            .n_groups = 3,
                                            .groups = story->groups};
    story->survey = (struct survey){.config = &story->config, .rows = story->rows, .n_rows = 3};
}

/* The leader of `gid` tells of one more move. */
static inline struct shardkv_move_status *
survey_story_move(struct survey_story *story, uint32_t gid, uint32_t shard, uint32_t phase)
{
    struct shardkv_node *node = &story->nodes[gid];
    struct shardkv_move_status *move = &story->moves[gid][node->n_moves++];

    *move = (struct shardkv_move_status){.shard = shard,
                                         .from = 1,
                                         .to = gid,
                                         .phase = phase,
                                         .config = 5,
                                         .seconds_left = SHARDKV_NOT_KNOWN,
                                         .pause_us = SHARDKV_NOT_KNOWN};
    return move;
}

/* What a printing function writes; the caller frees it. */
#define PRINTED(text, call)                                                                        \
    do {                                                                                           \
        size_t printed_size;                                                                       \
        FILE *file = open_memstream(&(text), &printed_size);                                       \
        call;                                                                                      \
        fclose(file);                                                                              \
    } while (0)

#endif
