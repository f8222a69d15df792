/* Frames: how bytes travel on a connection, and the hello that opens one.
 *
 * A frame is a header of 20 bytes and a body:
 *
 *   offset size field
 *        0    4 magic "SHKV"
 *        4    1 version of this header = 1
 *        5    1 kind (enum frame_kind)
 *        6    2 reserved = 0
 *        8    4 group
 *       12    4 length of the body, at most FRAME_MAX_BODY
 *       16    4 CRC32C of bytes 0..15 and the body
 *
 * Messages travel in BATCH frames: everything that is ready for a connection is one frame, whose
 * body is a sequence of (u32 group, u8 type, u24 reserved = 0, u32 length, bytes). A message too
 * large for one batch travels as FRAGMENT frames, between which others may pass, so that nothing
 * holds up a heartbeat. A fragment's body is (u32 stream, u32 group, u8 type, u24 0, u32 total, u32
 * offset, bytes); offsets grow without a gap within a stream, and a connection has at most
 * FRAME_MAX_STREAMS unfinished ones.
 *
 * Both sides send a HELLO first; a side that won't talk answers REFUSE (u32 status, text) and
 * closes. Servers that have a peer key send each other a PROOF after it (raft/util/handshake.h).
 */
#ifndef RAFT_UTIL_FRAME_H
#define RAFT_UTIL_FRAME_H

#include "raft/util/bytes.h"
#include "raft/util/status.h"

#define FRAME_MAGIC           0x564b4853u /* "SHKV" read as little-endian */
#define FRAME_VERSION         1
#define FRAME_HEADER_BYTES    20
#define FRAME_MESSAGE_HEADER  12
#define FRAME_FRAGMENT_HEADER 20
#define FRAME_FRAGMENT_BYTES  (128u << 10) /* of a message in one fragment */
#define FRAME_MAX_BODY        (256u << 10)
#define FRAME_MAX_MESSAGE     (48u << 20)
#define FRAME_MAX_STREAMS     64

enum frame_kind {
    FRAME_HELLO = 1,
    FRAME_REFUSE = 2,
    FRAME_PING = 3, /* body: u64 echoed by PONG */
    FRAME_PONG = 4,
    FRAME_BATCH = 5,
    FRAME_FRAGMENT = 6,
    FRAME_PROOF = 7 /* body: HANDSHAKE_PROOF_BYTES */
};

/* What a message is: says who decodes it. */
enum frame_message_type {
    FRAME_MESSAGE_RAFT = 1,    /* raft/wire.h */
    FRAME_MESSAGE_REQUEST = 2, /* client/proto.h */
    FRAME_MESSAGE_RESPONSE = 3 /* client/proto.h */
};

struct frame {
    enum frame_kind kind;
    uint32_t group;
    struct slice body;
};

/* A frame around a body whose bytes follow: frame_begin appends the header with length and checksum
 * open and returns its offset, for frame_end once the body is complete. */
size_t frame_begin(struct buf *out, enum frame_kind kind, uint32_t group);
void frame_end(struct buf *out, size_t offset);
/* Appends one message to the BATCH frame that is being built. */
void frame_put_message(struct buf *out, uint32_t group, uint8_t type, struct slice message);

enum frame_result { FRAME_OK, FRAME_NEED_MORE, FRAME_BAD };

/* The first frame of the bytes. FRAME_OK: *frame and the bytes it took. FRAME_NEED_MORE: *need is
 * how many bytes the frame has in all, as far as known. FRAME_BAD: *reason is ST_VERSION or
 * ST_MALFORMED; the connection must be closed. The length is checked before anything is awaited or
 * allocated. */
enum frame_result frame_decode(struct slice bytes, struct frame *frame, size_t *taken, size_t *need,
                               enum status *reason);

/* The next message of a batch's body; false at the end or when malformed (then the reader is bad).
 */
bool frame_next_message(struct reader *body, uint32_t *group, uint8_t *type, struct slice *message);

struct frame_fragment {
    uint32_t stream;
    uint32_t group;
    uint8_t type;
    uint32_t total;
    uint32_t offset;
    struct slice bytes;
};
void frame_put_fragment(struct buf *out, const struct frame_fragment *fragment); /* whole frame */
bool frame_decode_fragment(struct slice body, struct frame_fragment *fragment);

/* ---- Hello ---- */

#define HELLO_PROTOCOL_LOW  1 /* the versions of the protocol that this program speaks */
#define HELLO_PROTOCOL_HIGH 2 /* 2: the hello has flags and a nonce, and PROOFs may follow it */
#define HELLO_NONCE_BYTES   32

enum hello_who { HELLO_PEER = 1, HELLO_CLIENT = 2, HELLO_SERVER = 3 /* the accepting side */ };

enum hello_flag {
    HELLO_KEYED = 1 << 0,  /* has a peer key, and deals as a server only with those who prove it */
    HELLO_SERVICE = 1 << 1 /* with HELLO_CLIENT: it is a server that calls, not a client */
};

/* Format: u32 magic "HELO", u8 format = 1, u8 who, u16 protocol_low, u16 protocol_high, u16 active
 * level, 16 bytes cluster id, u32 gid, u32 id, u64 incarnation, u64 spec fingerprint; and if
 * protocol_high is 2 or more, u16 flags, 32 bytes nonce, and with HELLO_SERVICE u64 called. Flags
 * not known here mean nothing; bytes after it are of a later minor format and are skipped. Both
 * sides then speak the highest version that both know: hello_protocol. */
struct hello {
    enum hello_who who;
    uint16_t protocol_low;
    uint16_t protocol_high;
    uint16_t active_level;
    uint8_t cluster_id[16]; /* zero: not known yet (a client, or before the first start) */
    uint32_t gid;
    uint32_t id; /* 0 for a client */
    uint64_t incarnation;
    uint64_t spec_fingerprint; /* of the SPEC it was started with; 0: a client, or it joined */
    uint16_t flags;            /* enum hello_flag */
    uint8_t nonce[HELLO_NONCE_BYTES]; /* random: what the other side's proof must answer */
    uint64_t
        called; /* HELLO_SERVICE: spec_url_fingerprint of the URL it called; 0: it does not say */
};

void hello_encode(const struct hello *hello, struct buf *out);
bool hello_decode(struct slice body, struct hello *hello);

/* Whether `self` talks to `other`. known_incarnation is what self remembers of that peer, 0 for
 * nothing. ST_OK, or ST_VERSION, ST_WRONG_CLUSTER, ST_WRONG_NODE with a clause in *reason (static).
 * A cluster id of zero passes between peers only when the SPECs are the same and one side is empty
 * of it, and always from a client. */
enum status hello_check(const struct hello *self, const struct hello *other,
                        uint64_t known_incarnation, const char **reason);

/* The version that both speak; 0: there is none. */
uint16_t hello_protocol(const struct hello *self, const struct hello *other);
/* The part of hello_check that needs no role: both know their cluster, and it is another one. */
bool hello_clusters_differ(const struct hello *self, const struct hello *other);

/* The body of a REFUSE: u32 status, then the reason in words, cut at REFUSE_MAX_TEXT. Decoded text
 * is terminated and printable, whatever was sent; a status that is none of ours (or OK) becomes
 * ST_UNAVAILABLE. */
#define REFUSE_MAX_TEXT 120
void refuse_encode(enum status status, const char *text, struct buf *out);
bool refuse_decode(struct slice body, enum status *status, char text[REFUSE_MAX_TEXT + 1]);

#endif
