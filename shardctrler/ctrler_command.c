/* ctrler_command: the encodings that the header describes. One pair of functions per kind; decoding
 * reads everything, and allocates only by a count that the bytes left can hold. */
#include "shardctrler/ctrler_command.h"

#include "raft/util/assert.h"
#include "raft/util/mem.h"

#define COMMAND_FORMAT 1
#define RESULT_FORMAT  1

#define GROUP_MIN_BYTES (4 + 8 + 1) /* gid, incarnation, the count of a SPEC */
#define CONFIRM_BYTES   (4 + 8)
#define RESULT_BYTES    21
#define REASON_MAX      CTRLER_REASON_TOO_MANY_LISTED

_Static_assert(RESULT_BYTES <= SESSION_MAX_RESULT, "a result must fit where results are kept");

bool ctrler_command_has_session(enum ctrler_command_kind kind)
{
    return kind == CTRLER_JOIN || kind == CTRLER_LEAVE || kind == CTRLER_MOVE ||
           kind == CTRLER_PAUSE;
}

/* ---- Encoding ---- */

static void encode_groups(const struct ctrler_command *command, struct buf *out)
{
    ASSERT(command->n <= PROTO_MAX_GROUPS);
    buf_put_u16(out, (uint16_t)command->n);
    for (uint32_t i = 0; i < command->n; i++) {
        buf_put_u32(out, command->groups[i].gid);
        buf_put_u64(out, command->groups[i].incarnation);
        spec_encode(&command->groups[i].replicas, out);
    }
}

static void encode_gids(const struct ctrler_command *command, struct buf *out)
{
    ASSERT(command->n <= PROTO_MAX_GROUPS);
    buf_put_u16(out, (uint16_t)command->n);
    for (uint32_t i = 0; i < command->n; i++) {
        buf_put_u32(out, command->gids[i]);
    }
}

static void encode_confirms(const struct ctrler_command *command, struct buf *out)
{
    ASSERT(command->n <= SHARD_MAX_COUNT);
    buf_put_u32(out, command->n);
    for (uint32_t i = 0; i < command->n; i++) {
        buf_put_u32(out, command->confirms[i].shard);
        buf_put_u64(out, command->confirms[i].epoch);
    }
}

void ctrler_command_encode(const struct ctrler_command *command, struct buf *out)
{
    buf_put_u8(out, COMMAND_FORMAT);
    buf_put_u8(out, (uint8_t)command->kind);
    if (ctrler_command_has_session(command->kind)) {
        session_key_encode(&command->session, out);
    }
    switch (command->kind) {
    case CTRLER_INIT:
        buf_put(out, command->cluster_id, sizeof(command->cluster_id));
        buf_put_u32(out, command->n_shards);
        return;
    case CTRLER_JOIN:
        encode_groups(command, out);
        return;
    case CTRLER_LEAVE:
        encode_gids(command, out);
        return;
    case CTRLER_MOVE:
        buf_put_u32(out, command->shard);
        buf_put_u32(out, command->gid);
        return;
    case CTRLER_CONFIRM:
    case CTRLER_BIND:
        buf_put_u32(out, command->gid);
        buf_put_u64(out, command->incarnation);
        if (command->kind == CTRLER_CONFIRM) {
            encode_confirms(command, out);
        }
        return;
    case CTRLER_PAUSE:
        buf_put_u8(out, command->paused ? 1 : 0);
        return;
    case CTRLER_REPLICAS:
        buf_put_u32(out, command->gid);
        buf_put_u64(out, command->incarnation);
        buf_put_u64(out, command->term);
        buf_put_u64(out, command->index);
        spec_encode(command->replicas, out);
        return;
    }
    UNREACHABLE("the kinds are listed above");
}

/* ---- Decoding ---- */

static bool decode_groups(struct reader *reader, struct ctrler_command *command)
{
    uint16_t n = reader_u16(reader);

    if (n > PROTO_MAX_GROUPS || n > reader_left(reader) / GROUP_MIN_BYTES) {
        return false;
    }
    command->n = n;
    command->groups = mem_zalloc(n * sizeof(*command->groups));
    for (uint16_t i = 0; i < n; i++) {
        command->groups[i].gid = reader_u32(reader);
        command->groups[i].incarnation = reader_u64(reader);
        if (!spec_decode(reader, &command->groups[i].replicas)) {
            return false;
        }
    }
    return true;
}

static bool decode_gids(struct reader *reader, struct ctrler_command *command)
{
    uint16_t n = reader_u16(reader);

    if (n > PROTO_MAX_GROUPS || n > reader_left(reader) / sizeof(uint32_t)) {
        return false;
    }
    command->n = n;
    command->gids = mem_alloc(n * sizeof(*command->gids));
    for (uint16_t i = 0; i < n; i++) {
        command->gids[i] = reader_u32(reader);
    }
    return true;
}

static bool decode_confirms(struct reader *reader, struct ctrler_command *command)
{
    uint32_t n = reader_u32(reader);

    if (n > SHARD_MAX_COUNT || n > reader_left(reader) / CONFIRM_BYTES) {
        return false;
    }
    command->n = n;
    command->confirms = mem_alloc(n * sizeof(*command->confirms));
    for (uint32_t i = 0; i < n; i++) {
        command->confirms[i].shard = reader_u32(reader);
        command->confirms[i].epoch = reader_u64(reader);
    }
    return true;
}

static bool decode_init(struct reader *reader, struct ctrler_command *command)
{
    struct slice id = reader_take(reader, sizeof(command->cluster_id));

    if (id.len == sizeof(command->cluster_id)) {
        memcpy(command->cluster_id, id.data, id.len);
    }
    command->n_shards = reader_u32(reader);
    return reader_ok(reader);
}

static bool decode_pause(struct reader *reader, struct ctrler_command *command)
{
    uint8_t paused = reader_u8(reader);

    command->paused = paused == 1;
    return reader_ok(reader) && paused <= 1;
}

static bool decode_replicas(struct reader *reader, struct ctrler_command *command)
{
    command->gid = reader_u32(reader);
    command->incarnation = reader_u64(reader);
    command->term = reader_u64(reader);
    command->index = reader_u64(reader);
    if (!reader_ok(reader)) {
        return false;
    }
    command->replicas = mem_zalloc(sizeof(*command->replicas));
    return spec_decode(reader, command->replicas);
}

static bool decode_body(struct reader *reader, struct ctrler_command *command)
{
    switch (command->kind) {
    case CTRLER_INIT:
        return decode_init(reader, command);
    case CTRLER_JOIN:
        return decode_groups(reader, command);
    case CTRLER_LEAVE:
        return decode_gids(reader, command);
    case CTRLER_MOVE:
        command->shard = reader_u32(reader);
        command->gid = reader_u32(reader);
        return true;
    case CTRLER_CONFIRM:
    case CTRLER_BIND:
        command->gid = reader_u32(reader);
        command->incarnation = reader_u64(reader);
        return command->kind == CTRLER_BIND || decode_confirms(reader, command);
    case CTRLER_PAUSE:
        return decode_pause(reader, command);
    case CTRLER_REPLICAS:
        return decode_replicas(reader, command);
    }
    UNREACHABLE("the caller checked the kind");
}

enum status ctrler_command_decode(struct slice bytes, struct ctrler_command *command)
{
    struct reader reader = reader_of(bytes);
    uint8_t format = reader_u8(&reader);
    uint8_t kind = reader_u8(&reader);

    memset(command, 0, sizeof(*command));
    if (!reader_ok(&reader)) {
        return ST_CORRUPT;
    }
    /* An unknown command is never skipped: a replica that can't apply it must stop. */
    if (format != COMMAND_FORMAT || kind < CTRLER_INIT || kind > CTRLER_REPLICAS) {
        return ST_VERSION;
    }
    command->kind = (enum ctrler_command_kind)kind;
    if ((ctrler_command_has_session(command->kind) &&
         !session_key_decode(&reader, &command->session)) ||
        !decode_body(&reader, command) || !reader_done(&reader)) {
        ctrler_command_fini(command);
        return ST_CORRUPT;
    }
    return ST_OK;
}

void ctrler_command_fini(struct ctrler_command *command)
{
    mem_free(command->groups);
    mem_free(command->gids);
    mem_free(command->confirms);
    mem_free(command->replicas);
    memset(command, 0, sizeof(*command));
}

/* ---- Results ---- */

void ctrler_result_encode(const struct ctrler_result *result, struct buf *out)
{
    size_t begin = out->len;

    buf_put_u8(out, RESULT_FORMAT);
    buf_put_u16(out, (uint16_t)result->status);
    buf_put_u64(out, result->num);
    buf_put_u16(out, (uint16_t)result->reason);
    buf_put_u32(out, result->a);
    buf_put_u32(out, result->b);
    ASSERT(out->len - begin == RESULT_BYTES);
}

bool ctrler_result_decode(struct slice bytes, struct ctrler_result *result)
{
    struct reader reader = reader_of(bytes);
    uint8_t format = reader_u8(&reader);
    uint16_t status = reader_u16(&reader);
    uint16_t reason;

    memset(result, 0, sizeof(*result));
    result->num = reader_u64(&reader);
    reason = reader_u16(&reader);
    result->a = reader_u32(&reader);
    result->b = reader_u32(&reader);
    if (!reader_done(&reader) || format != RESULT_FORMAT || !status_is_valid(status) ||
        reason > REASON_MAX) {
        memset(result, 0, sizeof(*result));
        return false;
    }
    result->status = (enum status)status;
    result->reason = (enum ctrler_reason)reason;
    return true;
}

void ctrler_result_text(const struct ctrler_result *result, struct buf *text)
{
    uint32_t a = result->a;
    uint32_t b = result->b;

    switch (result->reason) {
    case CTRLER_REASON_NONE:
        return;
    case CTRLER_REASON_NOT_INITIALIZED:
        buf_printf(text, "the cluster is not initialized yet");
        return;
    case CTRLER_REASON_INITIALIZED:
        buf_printf(text, "the cluster is initialized already, with %u shards", a);
        return;
    case CTRLER_REASON_BAD_SHARD_COUNT:
        buf_printf(text, "%u is no number of shards: a power of two from %u to %u", a,
                   SHARD_MIN_COUNT, SHARD_MAX_COUNT);
        return;
    case CTRLER_REASON_NO_GROUPS_NAMED:
        buf_printf(text, "no group is named");
        return;
    case CTRLER_REASON_BAD_GID:
        buf_printf(text, "%u is no group id: a number from 1 to %u", a, CONFIG_MAX_GID);
        return;
    case CTRLER_REASON_NAMED_TWICE:
        buf_printf(text, "group %u is named twice", a);
        return;
    case CTRLER_REASON_ALREADY_MEMBER:
        buf_printf(text, "group %u is a member already", a);
        return;
    case CTRLER_REASON_NOT_MEMBER:
        buf_printf(text, "group %u is not a member", a);
        return;
    case CTRLER_REASON_SHARED_URL:
        buf_printf(text, "groups %u and %u share a replica's URL", a, b);
        return;
    case CTRLER_REASON_TOO_MANY_GROUPS:
        buf_printf(text, "there may be %u groups at most", a);
        return;
    case CTRLER_REASON_INCARNATION:
        buf_printf(text, "group %u is known under another incarnation: its disks were replaced", a);
        return;
    case CTRLER_REASON_BAD_SHARD:
        buf_printf(text, "there is no shard %u: they are 0 to %u", a, b - 1);
        return;
    case CTRLER_REASON_NEVER_OWNER:
        buf_printf(text, "group %u was not to own shard %u at that epoch", a, b);
        return;
    case CTRLER_REASON_NO_INCARNATION:
        buf_printf(text, "group %u shows no incarnation", a);
        return;
    case CTRLER_REASON_NOT_KNOWN:
        buf_printf(text, "group %u is neither a member nor holds shards", a);
        return;
    case CTRLER_REASON_TOO_MANY_LISTED:
        buf_printf(text, "more than %u groups, with those that left and still hold shards", a);
        return;
    }
    UNREACHABLE("the reasons are listed above");
}
