/* The replicated state machine of one group (raft/rsm): proposals, reads, checkpoints, snapshots,
 * crashes, disks that are slow, in an order that the script gives.
 *
 * Honest: three replicas, whose messages are cut and delayed; the bench checks that all apply the
 * same, each end is told once, and at the end all agree.
 *
 * Hostile: one replica, whose peers send what no honest peer would, and raw bytes. It must not
 * fall: either it goes on, or it halts with a reason; after a restart it opens what it wrote. */
#include "tests/fuzz/raft_script.h"
#include "tests/sim/rsm_bench.h"

#define CALLS 64

struct story {
    struct script script;
    struct bench *bench;
    struct bench_call calls[CALLS];
    size_t n_calls;
    bool hostile;
};

static bool is_up(const struct story *story, raft_id id)
{
    return bench_replica(story->bench, id)->group != NULL;
}

static void crash(struct story *story, raft_id id, uint8_t survivors)
{
    bench_crash(story->bench, id, survivors % 4);
    if (story->hostile) {
        bench_forget_history(story->bench);
    }
}

static void call(struct story *story, raft_id id, uint8_t what)
{
    static const char *const commands[] = {"inc", "dec", "null", "pad 300"};
    struct bench_call *call;

    if (story->n_calls == CALLS || bench_replica(story->bench, id)->halted) {
        return;
    }
    call = &story->calls[story->n_calls++];
    if (what % 8 == 0) {
        bench_read(story->bench, id, call);
    } else {
        bench_propose(story->bench, id, commands[what % 4], call);
    }
}

static void send_lie(struct story *story)
{
    struct bench_replica *replica = bench_replica(story->bench, 1);
    struct io_event event = {.type = IO_EVENT_PEER_MESSAGE};
    struct buf bytes = {0};
    uint8_t dice = fuzz_u8(&story->script);

    if (replica->group == NULL) {
        return;
    }
    event.peer.group = 5;
    event.peer.id = 2 + dice % 2;
    if (dice < 220) {
        struct raft_message message = script_message(&story->script, group_raft(replica->group));

        message.from = event.peer.id;
        wire_encode_message(&message, &bytes);
        raft_message_fini(&message);
    }
    if (dice > 200 && bytes.len > 0) {
        bytes.data[fuzz_u8(&story->script) % bytes.len] ^= fuzz_u8(&story->script);
    } else if (bytes.len == 0) {
        buf_put_slice(&bytes, fuzz_short(&story->script));
    }
    event.peer.message = buf_slice(&bytes);
    bench_event(story->bench, 1, &event);
    buf_fini(&bytes);
}

static void fail_or_hold(struct story *story, raft_id id, uint8_t dice)
{
    struct bench_replica *replica = bench_replica(story->bench, id);
    struct io_event event = {.type = IO_EVENT_DISK_SPACE};

    if (dice < 100) {
        replica->hold_log = !replica->hold_log;
    } else if (dice < 180) {
        replica->hold_state = !replica->hold_state;
    } else if (dice < 220) {
        replica->cut = !replica->cut && !story->hostile;
    } else if (replica->group != NULL) {
        event.disk.low = dice & 1;
        bench_event(story->bench, id, &event);
    }
}

static void happen(struct story *story)
{
    uint8_t what = fuzz_u8(&story->script);
    raft_id id = story->hostile ? 1 : 1 + what % 3;

    if (!is_up(story, id)) {
        if (bench_try_start(story->bench, id) != ST_OK) {
            ASSERT(story->hostile);
            story->script.at = story->script.end;
        }
        return;
    }
    if (story->hostile && what < 128) {
        send_lie(story);
    } else if (what < 160) {
        bench_run(story->bench, fuzz_u8(&story->script) % 16);
    } else if (what < 163) {
        bench_run(story->bench, 350);
    } else if (what < 220) {
        call(story, id, fuzz_u8(&story->script));
    } else if (what < 235) {
        fail_or_hold(story, id, fuzz_u8(&story->script));
    } else if (what < 245) {
        crash(story, id, fuzz_u8(&story->script));
    } else if (!bench_replica(story->bench, id)->halted) {
        group_transfer(bench_replica(story->bench, id)->group, fuzz_u8(&story->script) % 4);
    }
}

static void end_honest(struct story *story)
{
    for (raft_id id = 1; id <= 3; id++) {
        struct bench_replica *replica = bench_replica(story->bench, id);
        struct io_event event = {.type = IO_EVENT_DISK_SPACE};

        ASSERT(!replica->halted);
        replica->cut = replica->hold_log = replica->hold_state = false;
        if (replica->group == NULL) {
            bench_start(story->bench, id);
        }
        bench_event(story->bench, id, &event);
    }
    bench_run(story->bench, 1000);
    bench_leader(story->bench);
    bench_inc(story->bench);
    bench_converge(story->bench);
    for (size_t i = 0; i < story->n_calls; i++) {
        ASSERT(story->calls[i].ended <= 1);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct story *story = mem_zalloc(sizeof(*story));
    uint8_t first;

    story->script = script_of(data, size);
    first = fuzz_u8(&story->script);
    story->hostile = first >= 100;
    story->bench = bench_create(3, first);
    bench_options(story->bench)->checkpoint_log_bytes = 200 + first * 16u;
    bench_options(story->bench)->log_keep_bytes = first % 2 == 0 ? 0 : 500;
    bench_options(story->bench)->snapshot_chunk_bytes = 64;
    if (story->hostile) {
        ASSERT(bench_try_start(story->bench, 1) == ST_OK);
    } else {
        bench_start_all(story->bench);
    }
    while (!script_is_over(&story->script)) {
        happen(story);
    }
    if (!story->hostile && first % 8 == 0) { /* it takes long */
        end_honest(story);
    }
    bench_destroy(&story->bench);
    mem_free(story);
    return 0;
}
