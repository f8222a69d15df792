/* A group of honest Raft cores whose messages, disks, clocks and lives are in the hand of the
 * script: what is delivered, repeated, reordered and lost, what becomes durable and when, who
 * crashes. The checkers of tests/sim/core_harness.h look at all replicas after every step: election
 * safety, log matching, leader completeness, state-machine safety (paper, Figure 3). In the end,
 * with all faults off, one more command reaches everybody. */
#include "tests/fuzz/fuzz.h"
#include "tests/sim/core_harness.h"

static void deliver(struct cores *cores, struct script *script, uint8_t dice)
{
    size_t at;

    if (cores->n_flying == 0) {
        return;
    }
    at = fuzz_u8(script) % (cores->n_flying < 12 ? cores->n_flying : 12);
    if (dice < 30) {
        cores_drop(cores, at);
    } else {
        cores_deliver(cores, at, dice < 60);
    }
    while (cores->n_flying > 100) {
        cores_drop(cores, 0);
    }
}

static void happen(struct cores *cores, struct script *script)
{
    uint8_t what = fuzz_u8(script);
    raft_id id = 1 + what % (raft_id)cores->n;

    if (cores->nodes[id].raft == NULL) {
        if (fuzz_u8(script) < 128) {
            cores_start(cores, id);
        }
        return;
    }
    if (what < 110) {
        deliver(cores, script, fuzz_u8(script));
    } else if (what < 170) {
        cores_work(cores, id);
    } else if (what < 185) {
        cores->now_ms += fuzz_u8(script);
        cores_tick(cores, id);
    } else if (what < 195) {
        cores_timeout(cores, id);
    } else if (what < 215) {
        cores_propose_sized(cores, id, 1 + fuzz_u8(script) % 3, 8 + fuzz_u8(script) % 60);
    } else if (what < 222 && cores->n_reads < CORES_READS) {
        cores_read(cores, id);
    } else if (what < 226) {
        cores_transfer(cores, id, fuzz_u8(script) % (raft_id)(cores->n + 1));
    } else if (what < 232) {
        cores_link(cores, id, 1 + id % (raft_id)cores->n, RAFT_EVENT_PEER_UP + fuzz_u8(script) % 3);
    } else if (what < 240) {
        cores_checkpoint(cores, id);
    } else if (what < 246) {
        cores_crash(cores, id);
    } else if (what < 250) {
        cores_isolate(cores, id);
    } else {
        cores_heal(cores);
    }
}

static void converge(struct cores *cores)
{
    cores_recover(cores);
    cores_run(cores, 7000);
    ASSERT(cores_leader(cores) != 0);
    ASSERT(cores_propose(cores, cores_leader(cores)) == ST_OK);
    cores_run(cores, 500);
    cores_assert_converged(cores);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct script script = script_of(data, size);
    uint8_t first = fuzz_u8(&script);
    struct cores *cores = cores_create_empty(3 + first % 3, first);

    cores->options.max_message_bytes = 100 + first;
    cores->options.max_inflight_messages = 1 + first % 4;
    for (raft_id id = 1; id <= cores->n; id++) {
        cores_start(cores, id);
    }
    if (first < 128) { /* a leader to begin with: less of the script goes into finding one */
        for (raft_id id = 1; id <= cores->n; id++) {
            cores_persist(cores, id);
        }
        cores_elect(cores, 1);
    }
    while (!script_is_over(&script) && cores->now_ms < 100000) {
        happen(cores, &script);
    }
    if (first % 8 == 0) { /* it takes long */
        converge(cores);
    }
    cores_destroy(cores);
    return 0;
}
