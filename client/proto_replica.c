/* What REPLICA asks for and what REPLICAS is answered with, as bytes:
 *
 *   REPLICA    u8 kind, u32 gid, u32 id, u64 configuration_index, URL as bytes
 *   REPLICAS   u32 gid, u32 id, u64 incarnation, u64 configuration_index, u8 committed, u64 term,
 *              u32 leader, u64 commit_index, last_index, last_term, u8 n, n x (u8 id, u8 flags,
 *              u64 incarnation, URL as bytes, u64 match_index, u64 heard_ms,
 *              u64 heard_incarnation)
 */
#include "client/proto_private.h"

#include "raft/util/assert.h"
#include "raft/util/mem.h"

#define REPLICA_MIN_BYTES (1 + 1 + 8 + 4 + 8 + 8 + 8)

void proto_replica_encode(const struct proto_request *request, struct buf *out)
{
    ASSERT(request->replica.url.len <= SPEC_MAX_URL);
    ASSERT(request->replica.configuration_index > 0);
    ASSERT((request->replica.kind == PROTO_REPLICA_ADD) == (request->replica.url.len > 0));
    buf_put_u8(out, (uint8_t)request->replica.kind);
    buf_put_u32(out, request->replica.gid);
    buf_put_u32(out, request->replica.id);
    buf_put_u64(out, request->replica.configuration_index);
    buf_put_bytes(out, request->replica.url);
}

/* A URL is checked here as far as its bytes go; whether it is one is the server's question. */
bool proto_replica_decode(struct reader *reader, struct proto_request *request)
{
    uint8_t kind = reader_u8(reader);

    request->replica.gid = reader_u32(reader);
    request->replica.id = reader_u32(reader);
    request->replica.configuration_index = reader_u64(reader);
    request->replica.url = reader_bytes(reader, SPEC_MAX_URL);
    if (!reader_ok(reader) || kind < PROTO_REPLICA_ADD || kind > PROTO_REPLICA_ALONE ||
        request->replica.gid > CONFIG_MAX_GID || request->replica.id < 1 ||
        request->replica.id > SPEC_MAX_ID || request->replica.configuration_index == 0) {
        return false;
    }
    request->replica.kind = (enum proto_replica_change)kind;
    return (request->replica.kind == PROTO_REPLICA_ADD) == (request->replica.url.len > 0) &&
           (request->replica.url.len == 0 ||
            memchr(request->replica.url.data, 0, request->replica.url.len) == NULL);
}

void proto_replicas_encode(const struct proto_replicas *replicas, struct buf *out)
{
    ASSERT(replicas->n <= PROTO_MAX_REPLICAS);
    buf_put_u32(out, replicas->gid);
    buf_put_u32(out, replicas->id);
    buf_put_u64(out, replicas->incarnation);
    buf_put_u64(out, replicas->configuration_index);
    buf_put_u8(out, replicas->committed);
    buf_put_u64(out, replicas->term);
    buf_put_u32(out, replicas->leader);
    buf_put_u64(out, replicas->commit_index);
    buf_put_u64(out, replicas->last_index);
    buf_put_u64(out, replicas->last_term);
    buf_put_u8(out, (uint8_t)replicas->n);
    for (uint32_t i = 0; i < replicas->n; i++) {
        const struct proto_replica *replica = &replicas->replicas[i];

        buf_put_u8(out, (uint8_t)replica->id);
        buf_put_u8(out, replica->flags);
        buf_put_u64(out, replica->incarnation);
        buf_put_bytes(out, replica->url);
        buf_put_u64(out, replica->match_index);
        buf_put_u64(out, replica->heard_ms);
        buf_put_u64(out, replica->heard_incarnation);
    }
}

static bool decode_row(struct reader *reader, uint32_t above, struct proto_replica *replica)
{
    const uint8_t all = PROTO_REPLICA_VOTER | PROTO_REPLICA_VOTER_OLD | PROTO_REPLICA_LEARNER;

    replica->id = reader_u8(reader);
    replica->flags = reader_u8(reader);
    replica->incarnation = reader_u64(reader);
    replica->url = reader_bytes(reader, SPEC_MAX_URL);
    replica->match_index = reader_u64(reader);
    replica->heard_ms = reader_u64(reader);
    replica->heard_incarnation = reader_u64(reader);
    return reader_ok(reader) && replica->id > above && replica->flags != 0 &&
           (replica->flags & ~all) == 0 &&
           (replica->url.len == 0 || memchr(replica->url.data, 0, replica->url.len) == NULL);
}

bool proto_replicas_decode(struct reader *reader, struct proto_replicas *replicas)
{
    uint8_t n;

    replicas->gid = reader_u32(reader);
    replicas->id = reader_u32(reader);
    replicas->incarnation = reader_u64(reader);
    replicas->configuration_index = reader_u64(reader);
    replicas->committed = proto_read_bool(reader);
    replicas->term = reader_u64(reader);
    replicas->leader = reader_u32(reader);
    replicas->commit_index = reader_u64(reader);
    replicas->last_index = reader_u64(reader);
    replicas->last_term = reader_u64(reader);
    n = reader_u8(reader);
    if (!reader_ok(reader) || n > PROTO_MAX_REPLICAS ||
        reader_left(reader) < (size_t)n * REPLICA_MIN_BYTES) {
        return false;
    }
    replicas->replicas = mem_zalloc(n * sizeof(replicas->replicas[0]));
    for (replicas->n = 0; replicas->n < n; replicas->n++) {
        uint32_t above = replicas->n == 0 ? 0 : replicas->replicas[replicas->n - 1].id;

        if (!decode_row(reader, above, &replicas->replicas[replicas->n])) {
            return false;
        }
    }
    return true;
}
