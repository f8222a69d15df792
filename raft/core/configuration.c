/* Configurations: who belongs to the group, as bytes and as questions. A configuration is never
 * changed in place: it is an entry of the log, adopted as soon as it is there (thesis 4.1).
 *
 * The format is checked to the last byte, because the bytes come from peers and from disk: servers
 * ascend by id, addresses have no zero byte, flags are known and make sense together. */
#include "raft/raft.h"
#include "raft/util/assert.h"

#define CONFIGURATION_FORMAT 1

void raft_configuration_encode(const struct raft_configuration *configuration, struct buf *out)
{
    ASSERT(configuration->n <= RAFT_MAX_SERVERS);
    buf_put_u8(out, CONFIGURATION_FORMAT);
    buf_put_u8(out, (uint8_t)configuration->n);
    for (size_t i = 0; i < configuration->n; i++) {
        const struct raft_server *server = &configuration->servers[i];

        ASSERT(server->id >= 1 && server->id <= SPEC_MAX_ID);
        buf_put_u8(out, (uint8_t)server->id);
        buf_put_u8(out, server->flags);
        buf_put_u64(out, server->incarnation);
        buf_put_bytes(out, slice_text(server->address));
    }
}

/* A server votes in the new configuration, learns in it, or only voted in the old one. A voter that
 * becomes a learner is both old voter and learner while the configuration is joint. */
static bool flags_are_valid(uint8_t flags)
{
    const uint8_t all = RAFT_VOTER | RAFT_VOTER_OLD | RAFT_LEARNER;

    return flags != 0 && (flags & ~all) == 0 && !((flags & RAFT_VOTER) && (flags & RAFT_LEARNER));
}

static bool decode_server(struct reader *reader, struct raft_server *server)
{
    struct slice address;

    memset(server, 0, sizeof(*server));
    server->id = reader_u8(reader);
    server->flags = reader_u8(reader);
    server->incarnation = reader_u64(reader);
    address = reader_bytes(reader, SPEC_MAX_URL);
    if (!reader_ok(reader) || server->id == 0 || !flags_are_valid(server->flags)) {
        return false;
    }
    if (address.len > 0) {
        if (memchr(address.data, 0, address.len) != NULL) {
            return false;
        }
        memcpy(server->address, address.data, address.len);
    }
    return true;
}

bool raft_configuration_decode(struct slice bytes, struct raft_configuration *configuration)
{
    struct reader reader = reader_of(bytes);
    uint8_t format = reader_u8(&reader);
    uint8_t n = reader_u8(&reader);
    size_t voters = 0;

    memset(configuration, 0, sizeof(*configuration));
    if (!reader_ok(&reader) || format != CONFIGURATION_FORMAT || n > RAFT_MAX_SERVERS) {
        return false;
    }
    for (size_t i = 0; i < n; i++) {
        struct raft_server *server = &configuration->servers[i];

        if (!decode_server(&reader, server) || (i > 0 && server[-1].id >= server->id)) {
            return false;
        }
        voters += (server->flags & RAFT_VOTER) != 0;
    }
    configuration->n = n;
    return reader_done(&reader) && (n == 0 || voters > 0);
}

void raft_configuration_from_spec(const struct spec *spec, struct raft_configuration *out)
{
    memset(out, 0, sizeof(*out));
    ASSERT(spec->n <= SPEC_MAX_REPLICAS);
    out->n = spec->n;
    for (size_t i = 0; i < spec->n; i++) {
        ASSERT(i == 0 || spec->replicas[i - 1].id < spec->replicas[i].id);
        out->servers[i].id = spec->replicas[i].id;
        out->servers[i].flags = RAFT_VOTER;
        memcpy(out->servers[i].address, spec->replicas[i].url, sizeof(out->servers[i].address));
    }
}

bool raft_configuration_is_joint(const struct raft_configuration *configuration)
{
    for (size_t i = 0; i < configuration->n; i++) {
        if (configuration->servers[i].flags & RAFT_VOTER_OLD) {
            return true;
        }
    }
    return false;
}

const struct raft_server *raft_configuration_find(const struct raft_configuration *configuration,
                                                  raft_id id)
{
    for (size_t i = 0; i < configuration->n; i++) {
        if (configuration->servers[i].id == id) {
            return &configuration->servers[i];
        }
    }
    return NULL;
}
