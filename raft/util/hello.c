/* The hello and the refusal of frame.h: how two processes find out whether they should talk. */
#include "raft/util/assert.h"
#include "raft/util/frame.h"

#define HELLO_MAGIC  0x4f4c4548u /* "HELO" read as little-endian */
#define HELLO_FORMAT 1

#define HELLO_PROTOCOL_PROOF 2 /* from this version on there are flags and a nonce */

void hello_encode(const struct hello *hello, struct buf *out)
{
    ASSERT(hello->who >= HELLO_PEER && hello->who <= HELLO_SERVER);
    ASSERT(hello->protocol_low <= hello->protocol_high);
    buf_put_u32(out, HELLO_MAGIC);
    buf_put_u8(out, HELLO_FORMAT);
    buf_put_u8(out, (uint8_t)hello->who);
    buf_put_u16(out, hello->protocol_low);
    buf_put_u16(out, hello->protocol_high);
    buf_put_u16(out, hello->active_level);
    buf_put(out, hello->cluster_id, sizeof(hello->cluster_id));
    buf_put_u32(out, hello->gid);
    buf_put_u32(out, hello->id);
    buf_put_u64(out, hello->incarnation);
    buf_put_u64(out, hello->spec_fingerprint);
    if (hello->protocol_high >= HELLO_PROTOCOL_PROOF) {
        buf_put_u16(out, hello->flags);
        buf_put(out, hello->nonce, sizeof(hello->nonce));
        if ((hello->flags & HELLO_SERVICE) != 0) {
            buf_put_u64(out, hello->called);
        }
    }
}

/* What version 2 added. */
static void decode_flags(struct reader *reader, struct hello *hello)
{
    struct slice nonce;

    hello->flags = reader_u16(reader);
    nonce = reader_take(reader, sizeof(hello->nonce));
    if (reader_ok(reader)) {
        memcpy(hello->nonce, nonce.data, sizeof(hello->nonce));
    }
    if ((hello->flags & HELLO_SERVICE) != 0 && reader_left(reader) >= 8) { /* older ones end here */
        hello->called = reader_u64(reader);
    }
}

bool hello_decode(struct slice body, struct hello *hello)
{
    struct reader reader = reader_of(body);
    uint32_t magic = reader_u32(&reader);
    uint8_t format = reader_u8(&reader);
    uint8_t who = reader_u8(&reader);
    struct slice cluster_id;

    memset(hello, 0, sizeof(*hello));
    hello->protocol_low = reader_u16(&reader);
    hello->protocol_high = reader_u16(&reader);
    hello->active_level = reader_u16(&reader);
    cluster_id = reader_take(&reader, sizeof(hello->cluster_id));
    hello->gid = reader_u32(&reader);
    hello->id = reader_u32(&reader);
    hello->incarnation = reader_u64(&reader);
    hello->spec_fingerprint = reader_u64(&reader);
    if (hello->protocol_high >= HELLO_PROTOCOL_PROOF) {
        decode_flags(&reader, hello);
    }
    if (!reader_ok(&reader) || magic != HELLO_MAGIC || format != HELLO_FORMAT || who < HELLO_PEER ||
        who > HELLO_SERVER || hello->protocol_low > hello->protocol_high) {
        return false;
    }
    hello->who = (enum hello_who)who;
    memcpy(hello->cluster_id, cluster_id.data, sizeof(hello->cluster_id));
    return true;
}

static bool cluster_is_known(const struct hello *hello)
{
    uint8_t any = 0;

    for (size_t i = 0; i < sizeof(hello->cluster_id); i++) {
        any |= hello->cluster_id[i];
    }
    return any != 0;
}

bool hello_clusters_differ(const struct hello *self, const struct hello *other)
{
    return cluster_is_known(self) && cluster_is_known(other) &&
           memcmp(self->cluster_id, other->cluster_id, sizeof(self->cluster_id)) != 0;
}

uint16_t hello_protocol(const struct hello *self, const struct hello *other)
{
    uint16_t low =
        self->protocol_low > other->protocol_low ? self->protocol_low : other->protocol_low;
    uint16_t high =
        self->protocol_high < other->protocol_high ? self->protocol_high : other->protocol_high;

    return low <= high ? high : 0;
}

/* A replica that joins an existing group was told where to listen, not who the others are. */
static bool joins(const struct hello *hello)
{
    return !cluster_is_known(hello) && hello->spec_fingerprint == 0;
}

/* Peers must belong to the same cluster; one that does not know its cluster yet (an empty replica
 * before the first committed entry) must have been started with the same SPEC, or join: then the
 * others know it by its id, from their configuration. */
static enum status check_cluster(const struct hello *self, const struct hello *other, bool client,
                                 const char **reason)
{
    if (hello_clusters_differ(self, other)) {
        *reason = "the cluster ids differ";
        return ST_WRONG_CLUSTER;
    }
    if (cluster_is_known(self) && cluster_is_known(other)) {
        return ST_OK;
    }
    if (!client && !joins(self) && !joins(other) &&
        self->spec_fingerprint != other->spec_fingerprint) {
        *reason = "one side does not know its cluster yet and the SPECs differ";
        return ST_WRONG_CLUSTER;
    }
    return ST_OK;
}

static enum status check_peer(const struct hello *self, const struct hello *other,
                              uint64_t known_incarnation, const char **reason)
{
    if (self->gid != other->gid) {
        *reason = "the groups differ";
        return ST_WRONG_NODE;
    }
    if (other->id == 0 || other->id == self->id) {
        *reason = other->id == 0 ? "a peer needs an id" : "both sides have the same id";
        return ST_WRONG_NODE;
    }
    /* A replica that lost its disk must not pass for the one it was (design, incarnations). One
     * that joined makes no history of its own; it may have been taken back while we were away, and
     * then it is the one to tell us. Until the configuration names it, its answers count for
     * nothing. */
    if (known_incarnation != 0 && other->incarnation != known_incarnation &&
        other->spec_fingerprint != 0) {
        *reason = "the replica is another incarnation: it lost its data";
        return ST_WRONG_NODE;
    }
    return ST_OK;
}

enum status hello_check(const struct hello *self, const struct hello *other,
                        uint64_t known_incarnation, const char **reason)
{
    bool client = self->who == HELLO_CLIENT || other->who == HELLO_CLIENT;
    enum status status;

    *reason = "";
    if (hello_protocol(self, other) == 0) {
        *reason = "no version of the protocol is spoken by both";
        return ST_VERSION;
    }
    if (self->who == HELLO_CLIENT && other->who != HELLO_SERVER) {
        *reason = "the other side is not a server";
        return ST_WRONG_NODE;
    }
    status = check_cluster(self, other, client, reason);
    if (status == ST_OK && !client) {
        status = check_peer(self, other, known_incarnation, reason);
    }
    return status;
}

void refuse_encode(enum status status, const char *text, struct buf *out)
{
    size_t len = strlen(text);

    ASSERT(status != ST_OK);
    buf_put_u32(out, (uint32_t)status);
    buf_put(out, text, len < REFUSE_MAX_TEXT ? len : REFUSE_MAX_TEXT);
}

bool refuse_decode(struct slice body, enum status *status, char text[REFUSE_MAX_TEXT + 1])
{
    struct reader reader = reader_of(body);
    uint32_t number = reader_u32(&reader);
    struct slice raw = reader_take(&reader, reader_left(&reader));
    size_t len = raw.len < REFUSE_MAX_TEXT ? raw.len : REFUSE_MAX_TEXT;

    if (!reader_ok(&reader)) {
        return false;
    }
    *status = status_is_valid(number) && number != ST_OK ? (enum status)number : ST_UNAVAILABLE;
    for (size_t i = 0; i < len; i++) { /* it ends in traces: printable only */
        text[i] = raw.data[i] >= ' ' && raw.data[i] <= '~' ? (char)raw.data[i] : '?';
    }
    text[len] = '\0';
    return true;
}
