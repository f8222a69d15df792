/* What tests ask of the replicas of a bench: proposals, reads, changes; see rsm_bench.h. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "raft/util/assert.h"
#include "tests/sim/rsm_bench.h"

#define MAX_WAIT_MS 10000

static void proposal_ended(void *context, enum status status, struct slice result)
{
    struct bench_call *call = context;

    ASSERT(call->ended == 0 && result.len < sizeof(call->result));
    call->ended = 1;
    call->status = status;
    call->ended_ms = bench_now_ms(call->replica->bench);
    if (result.len > 0) {
        memcpy(call->result, result.data, result.len);
    }
    call->result[result.len] = '\0';
}

static void read_ended(void *context, enum status status)
{
    struct bench_call *call = context;

    ASSERT(call->ended == 0);
    call->ended = 1;
    call->status = status;
    call->ended_ms = bench_now_ms(call->replica->bench);
    if (status == ST_OK) {
        call->value = bench_counter(call->replica->bench, call->replica->id);
    }
}

void bench_propose_stamped(struct bench *bench, raft_id id, const char *command, uint64_t min_stamp,
                           struct bench_call *call)
{
    struct slice bytes = slice_text(command);
    struct buf padded = {0};

    memset(call, 0, sizeof(*call));
    call->replica = bench_replica(bench, id);
    if (strncmp(command, "pad ", 4) == 0) {
        size_t len = strtoul(command + 4, NULL, 10);
        memset(buf_extend(&padded, len), 'p', len);
        bytes = buf_slice(&padded);
    }
    group_propose(call->replica->group, bytes, min_stamp, 1, proposal_ended, call);
    buf_fini(&padded);
}

void bench_propose(struct bench *bench, raft_id id, const char *command, struct bench_call *call)
{
    bench_propose_stamped(bench, id, command, 0, call);
}

void bench_read(struct bench *bench, raft_id id, struct bench_call *call)
{
    memset(call, 0, sizeof(*call));
    call->replica = bench_replica(bench, id);
    group_read(call->replica->group, read_ended, call);
}

int64_t bench_inc(struct bench *bench)
{
    for (int i = 0; i < 100; i++) {
        struct bench_call call;

        bench_propose(bench, bench_leader(bench), "inc", &call);
        ASSERT(bench_run_until_ended(bench, &call, MAX_WAIT_MS));
        if (call.status == ST_OK) {
            return strtoll(call.result, NULL, 10);
        }
        ASSERT(call.status != ST_UNKNOWN);
        bench_run(bench, 50); /* it may be read-only for a while */
    }
    UNREACHABLE("no proposal went through");
}

static void change_ended(void *context, enum status status, const char *reason, raft_index index)
{
    struct bench_call *call = context;

    ASSERT(call->ended == 0 && reason != NULL && (index != 0) == (status == ST_OK));
    call->ended = 1;
    call->status = status;
    call->reason = reason;
    call->index = index;
    call->ended_ms = bench_now_ms(call->replica->bench);
}

void bench_change(struct bench *bench, raft_id id, enum group_change_kind kind, raft_id about,
                  struct bench_call *call)
{
    char url[SPEC_MAX_URL + 1];
    struct group_change change = {
        .kind = kind, .id = about, .url = kind == GROUP_ADD_REPLICA ? url : NULL};

    memset(call, 0, sizeof(*call));
    call->replica = bench_replica(bench, id);
    snprintf(url, sizeof(url), "tcp://replica%u:1", about);
    group_change_replicas(call->replica->group, &change, change_ended, call);
}

uint8_t bench_flags(struct bench *bench, raft_id at, raft_id about)
{
    const struct raft_server *server = raft_configuration_find(
        raft_latest_configuration(group_raft(bench_replica(bench, at)->group)), about);

    return server == NULL ? 0 : server->flags;
}
