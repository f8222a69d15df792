/* The controller: its commands and results as bytes, and its state machine fed with commands, made
 * from the script or raw. Two machines apply the same; one restarts from its state now and then.
 * They must agree in results, states and configurations, and every configuration must be one that
 * every group takes. */
#include <stdio.h>

#include "shardctrler/config_history.h"
#include "tests/fuzz/fuzz.h"
#include "tests/sim/ctrler_machine.h"

#define GIDS 6

static void fuzz_command(struct slice bytes)
{
    struct ctrler_command command;
    struct buf again = {0};

    if (ctrler_command_decode(bytes, &command) == ST_OK) {
        ctrler_command_encode(&command, &again);
        ASSERT(slice_equal(bytes, buf_slice(&again)));
        ctrler_command_fini(&command);
        buf_fini(&again);
    }
}

static void fuzz_result(struct slice bytes)
{
    struct ctrler_result result;
    struct buf again = {0}, text = {0};

    if (ctrler_result_decode(bytes, &result)) {
        ctrler_result_encode(&result, &again);
        ASSERT(slice_equal(bytes, buf_slice(&again)));
        ctrler_result_text(&result, &text);
        ASSERT(text.len < 300);
        buf_fini(&again);
        buf_fini(&text);
    }
}

/* ---- The state machine ---- */

struct twins {
    struct ctrler_machine machines[2];
    struct script script;
    uint64_t seq[4];
};

static uint32_t choose_gid(struct script *script)
{
    uint8_t byte = fuzz_u8(script);

    return byte < 240 ? 1u + byte % GIDS : (uint32_t)fuzz_number(script, CONFIG_MAX_GID);
}

static struct spec choose_spec(struct script *script, uint32_t gid)
{
    struct spec spec = {0};
    uint8_t byte = fuzz_u8(script);
    char text[40];

    snprintf(text, sizeof(text), "%u=tcp://h%u:1", 1u + byte % 4,
             byte < 200 ? gid % 100 : byte % 8u);
    ASSERT(spec_parse(text, &spec) == NULL);
    return spec;
}

/* The next operation of a client, or an old one again. */
static struct session_key choose_session(struct twins *twins)
{
    uint8_t byte = fuzz_u8(&twins->script);
    uint64_t *seq = &twins->seq[byte % 4];

    *seq += byte < 220;
    return ctrler_machine_session((uint8_t)(byte % 4), *seq + (byte == 255 ? 2000 : 0));
}

static void apply(struct twins *twins, struct slice bytes)
{
    struct ctrler_result results[2];
    enum status statuses[2];

    for (int i = 0; i < 2; i++) {
        memset(&results[i], 0, sizeof(results[i]));
        statuses[i] = ctrler_machine_apply_bytes(&twins->machines[i], bytes, &results[i]);
    }
    ASSERT(statuses[0] == statuses[1]);
    ASSERT(memcmp(&results[0], &results[1], sizeof(results[0])) == 0);
}

static void apply_command(struct twins *twins, struct ctrler_command *command)
{
    struct buf bytes = {0};
    struct shard_config next;
    struct ctrler_result plan;

    if (ctrler_command_has_session(command->kind)) {
        plan = ctrler_sm_plan(twins->machines[0].sm, command, &next);
        if (plan.status == ST_OK) {
            struct buf encoded = {0};

            shard_config_encode(&next, &encoded);
            buf_fini(&encoded);
        }
        shard_config_fini(&next);
    }
    ctrler_command_encode(command, &bytes);
    apply(twins, buf_slice(&bytes));
    buf_fini(&bytes);
}

static void make_command(struct twins *twins)
{
    struct script *script = &twins->script;
    struct proto_join_group groups[4];
    struct proto_confirm confirms[4];
    uint32_t gids[4];
    struct ctrler_command command = {.groups = groups, .confirms = confirms, .gids = gids};
    uint8_t kind = fuzz_u8(script);

    memset(groups, 0, sizeof(groups));
    command.kind = (enum ctrler_command_kind)(1 + kind % 7);
    command.n = kind >> 6;
    if (ctrler_command_has_session(command.kind)) {
        command.session = choose_session(twins);
    }
    command.gid = choose_gid(script);
    command.incarnation = fuzz_below(script, 3);
    command.shard = fuzz_u8(script) % 18;
    command.paused = fuzz_u8(script) & 1;
    command.n_shards = 16u << fuzz_below(script, 2);
    for (uint32_t i = 0; i < command.n; i++) {
        groups[i].gid = gids[i] = choose_gid(script);
        groups[i].incarnation = fuzz_below(script, 3);
        groups[i].replicas = choose_spec(script, gids[i]);
        confirms[i].shard = fuzz_u8(script) % 18;
        confirms[i].epoch = fuzz_number(script, ctrler_sm_latest(twins->machines[0].sm)->num);
    }
    apply_command(twins, &command);
}

static void check(struct twins *twins)
{
    const struct shard_config *latest = ctrler_sm_latest(twins->machines[0].sm);
    config_num last = latest->num;

    ASSERT(mem_state_sum(twins->machines[0].state, NULL, 0) ==
           mem_state_sum(twins->machines[1].state, NULL, 0));
    if (!ctrler_sm_is_initialized(twins->machines[0].sm)) {
        return;
    }
    for (config_num num = last > 3 ? last - 3 : 0; num <= last; num++) {
        struct slice encoded[2];
        struct shard_config config;
        struct reader reader;

        for (int i = 0; i < 2; i++) {
            ASSERT(ctrler_sm_config_bytes(twins->machines[i].sm, num, &encoded[i]) == ST_OK);
        }
        ASSERT(slice_equal(encoded[0], encoded[1]));
        reader = reader_of(encoded[0]);
        ASSERT(shard_config_decode(&reader, &config) && reader_done(&reader));
        ASSERT(config.num == num);
        shard_config_fini(&config);
    }
}

static void fuzz_machine(struct slice bytes)
{
    struct twins twins = {.script = script_of(bytes.data, bytes.len)};

    for (int i = 0; i < 2; i++) {
        ctrler_machine_init(&twins.machines[i], fuzz_u8(&twins.script) == 255 ? 0 : 16);
        twins.script.at -= i == 0 && bytes.len > 0;
    }
    while (!script_is_over(&twins.script)) {
        uint8_t byte = fuzz_u8(&twins.script);

        if (byte < 8) {
            apply(&twins, fuzz_short(&twins.script));
        } else if (byte < 20) {
            ASSERT(ctrler_machine_restart(&twins.machines[1]) == ST_OK);
        } else {
            make_command(&twins);
        }
    }
    check(&twins);
    for (int i = 0; i < 2; i++) {
        ctrler_machine_fini(&twins.machines[i]);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct script script = script_of(data, size);
    uint8_t which = fuzz_u8(&script);

    if (which < 32) {
        fuzz_command(fuzz_rest(&script));
    } else if (which < 40) {
        fuzz_result(fuzz_rest(&script));
    } else {
        fuzz_machine(fuzz_rest(&script));
    }
    return 0;
}
