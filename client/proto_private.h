/* What the files of proto share. */
#ifndef CLIENT_PROTO_PRIVATE_H
#define CLIENT_PROTO_PRIVATE_H

#include "client/proto.h"

#define PROTO_MAX_TEXT    1024u      /* of a refusal */
#define PROTO_MAX_VERSION 64u        /* of a program's version, as text */
#define PROTO_MAX_CONFIG  (8u << 20) /* of an encoded shard_config */
/* A piece of a shard: the largest record that a shard may hold, and room around it. */
#define PROTO_MAX_PIECE (KV_MAX_VALUE + PROTO_MAX_CHUNK)

void proto_session_encode(const struct proto_session *session, struct buf *out);
bool proto_session_decode(struct reader *reader, struct proto_session *session);

/* How long it is, encoded. */
size_t proto_write_bytes(const struct kv_write *write);

/* A key of 1 to KV_MAX_KEY bytes; anything else marks the reader bad. */
struct slice proto_read_key(struct reader *reader);
/* A u16 below SHARD_MAX_COUNT; anything else marks the reader bad. */
shard_id proto_read_shard(struct reader *reader);
/* A u8 that is 0 or 1; anything else marks the reader bad. */
bool proto_read_bool(struct reader *reader);

/* Whether the number is one of enum proto_op. */
bool proto_op_is_valid(uint8_t op);

void proto_node_status_encode(const struct proto_node_status *node, struct buf *out);
bool proto_node_status_decode(struct reader *reader, struct proto_node_status *node);

/* The bodies of REPLICA, and of the answer to REPLICAS (proto_replica.c). */
void proto_replica_encode(const struct proto_request *request, struct buf *out);
bool proto_replica_decode(struct reader *reader, struct proto_request *request);
void proto_replicas_encode(const struct proto_replicas *replicas, struct buf *out);
bool proto_replicas_decode(struct reader *reader, struct proto_replicas *replicas);

#endif
