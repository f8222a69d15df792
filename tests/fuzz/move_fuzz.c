/* Shard groups as state machines: what four groups of two replicas each apply, while shards move
 * between them, is chosen by the script: writes, configurations, the steps that the leaders would
 * make, and commands that no honest leader would: old ones again, ones with other numbers, pieces
 * with other bytes, raw bytes.
 *
 * Twins must agree in results and states whatever they apply (kv_twins.h), also if one reads
 * everything back. What is in no shard is deleted. While all commands are honest ones or repeated,
 * at most one group serves a shard, and at the end all moves come to rest. */
#include "tests/fuzz/fuzz.h"
#include "tests/unit/kv_twins.h"

struct story {
    struct cluster *cluster;
    struct script script;
    bool honest;
    char value[300];
};

static void apply_one(struct story *story, uint32_t gid, struct slice bytes)
{
    struct kv_command command = {0};

    if (kv_command_decode(bytes, &command) == ST_OK) {
        apply_bytes(story->cluster, gid, bytes);
    }
}

static void write_something(struct story *story)
{
    struct script *script = &story->script;
    uint32_t gid = 1 + fuzz_below(script, TWINS_GROUPS);
    uint8_t dice = fuzz_u8(script);
    const char *key = key_in(story->cluster, 5 + dice % 2, dice / 2 % 8);
    struct kv_command command =
        write_of((uint8_t)(1 + dice % 3), 1 + fuzz_u8(script) % 12,
                 (enum kv_operation_type)(1 + fuzz_below(script, 3)), key, "");

    command.write.session.acked_seq = fuzz_u8(script) % (command.write.session.seq);
    command.write.session.issued_at = 1 + fuzz_u8(script) * 8u;
    if (command.write.operations[0].type != KV_DELETE) {
        command.write.operations[0].value = slice_of(story->value, fuzz_u8(script));
    }
    if (dice > 200) {
        command.write.n_conditions = 1;
        command.write.conditions[0].type = (enum kv_condition_type)(1 + fuzz_below(script, 2));
        command.write.conditions[0].key = slice_text(key);
        if (command.write.conditions[0].type == KV_IF_VALUE) {
            command.write.conditions[0].value = slice_of(story->value, fuzz_u8(script));
        }
    }
    apply(story->cluster, gid, &command);
}

/* What a leader that lies, or is confused, would propose; near what would fit. */
static void lie(struct story *story)
{
    struct script *script = &story->script;
    uint32_t gid = 1 + fuzz_below(script, TWINS_GROUPS);
    struct kv_command command = {
        .kind = (enum kv_command_kind)(KV_COMMAND_FREEZE + fuzz_below(script, 8)),
        .shard = 4 + fuzz_below(script, 4)};
    const struct shard *shard = kv_sm_shard(sm_of(story->cluster, gid), command.shard);
    const struct shard_transition *head = shard_head(shard);

    command.num = fuzz_number(script, head != NULL ? head->num : story->cluster->config.num);
    if (command.kind == KV_COMMAND_CHUNK || command.kind == KV_COMMAND_INSTALL) {
        command.arrival.piece.copy_id = fuzz_number(script, shard->copy.copy_id);
        command.arrival.piece.number = fuzz_number(script, shard->copy.next_piece);
        command.arrival.piece.begin =
            fuzz_u8(script) < 128 ? buf_slice(&shard->copy.cursor) : fuzz_short(script);
        command.arrival.body = fuzz_short(script);
    }
    if (command.kind == KV_COMMAND_CHUNK) {
        command.arrival.cursor = fuzz_short(script);
    } else if (command.kind == KV_COMMAND_INSTALL) {
        command.arrival.end.gid = fuzz_u8(script) % 6;
        command.arrival.end.epoch = fuzz_number(script, 1);
        command.arrival.end.records = shard->copy.records;
        command.arrival.end.records.low ^= fuzz_u8(script) < 16;
        command.arrival.floor = fuzz_number(script, 100);
        command.arrival.version = fuzz_number(script, 10);
    } else if (command.kind == KV_COMMAND_COPY_BEGIN || command.kind == KV_COMMAND_SWEEP ||
               command.kind == KV_COMMAND_FREEZE) {
        command.copy.copy_id = fuzz_number(script, shard->outgoing.copy_id);
    }
    if (command.kind == KV_COMMAND_SWEEP) {
        command.copy.from =
            fuzz_u8(script) < 128 ? buf_slice(&shard->outgoing.swept) : fuzz_short(script);
    }
    if (command.kind == KV_COMMAND_COPY_BEGIN || command.kind == KV_COMMAND_SWEEP) {
        command.copy.max_bytes = (uint32_t)fuzz_number(script, 64);
    }
    story->honest = false;
    apply(story->cluster, gid, &command);
}

/* A configuration of which some bytes are others. */
static void lie_about_config(struct story *story)
{
    struct buf bytes = {0};
    uint32_t gid = 1 + fuzz_below(&story->script, TWINS_GROUPS);
    uint32_t flips = fuzz_below(&story->script, 4);

    buf_put_u8(&bytes, KV_COMMAND_FORMAT);
    buf_put_u8(&bytes, KV_COMMAND_CONFIG);
    shard_config_encode(&story->cluster->config, &bytes);
    while (flips-- > 0) {
        bytes.data[2 + fuzz_u16(&story->script) % (bytes.len - 2)] = fuzz_u8(&story->script);
    }
    story->honest = false;
    apply_one(story, gid, buf_slice(&bytes));
    buf_fini(&bytes);
}

static void again(struct story *story)
{
    struct cluster *cluster = story->cluster;
    const struct applied *old = &cluster->history[fuzz_u16(&story->script) % cluster->n_history];
    struct buf copy = {0};

    buf_put_slice(&copy, buf_slice(&old->bytes));
    apply_one(story, old->gid, buf_slice(&copy));
    buf_fini(&copy);
}

static void happen(struct story *story)
{
    struct cluster *cluster = story->cluster;
    uint8_t what = fuzz_u8(&story->script);

    if (what < 70) {
        write_something(story);
    } else if (what < 100 && story->honest) {
        shard_id shard = 4 + fuzz_below(&story->script, 4);

        give(cluster, shard, fuzz_u8(&story->script) % (TWINS_GROUPS + 1));
    } else if (what < 190 && story->honest) {
        step(cluster);
    } else if (what < 200) {
        cluster->reader = what % 2;
        cluster->piece_bytes = fuzz_u8(&story->script) * 4u;
    } else if (what < 206) {
        restore_all(cluster);
    } else if (what < 226) {
        again(story);
    } else if (what < 240) {
        lie(story);
    } else if (what < 250) {
        lie_about_config(story);
    } else {
        story->honest = false;
        apply_one(story, 1 + fuzz_below(&story->script, TWINS_GROUPS), fuzz_short(&story->script));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct story story = {.script = script_of(data, size), .honest = true};

    story.cluster = mem_zalloc(sizeof(*story.cluster));
    memset(story.value, 'v', sizeof(story.value));
    cluster_init_with(story.cluster, 2 + size % 4);
    story.cluster->restore_always = size % 3 == 0;
    while (!script_is_over(&story.script)) {
        happen(&story);
    }
    if (story.honest) {
        settle(story.cluster);
    }
    cluster_fini(story.cluster);
    mem_free(story.cluster);
    return 0;
}
