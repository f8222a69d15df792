/* Raft's data as peers and disks give it: messages, entries, hard states, snapshot metadata,
 * configurations, and what the runtime adds to them. The first byte says which. Whatever is taken
 * is within the bounds, and encodes to the very same bytes: there is one encoding of each. */
#include "raft/rsm/codec.h"
#include "raft/wire.h"
#include "tests/fuzz/fuzz.h"

static void check_same(struct slice bytes, struct buf *again)
{
    ASSERT(slice_equal(bytes, buf_slice(again)));
    buf_fini(again);
}

/* What the reader has taken of the bytes. */
static struct slice taken_of(struct slice bytes, const struct reader *reader)
{
    return slice_of(bytes.data, bytes.len - reader_left(reader));
}

static void check_configuration(const struct raft_configuration *configuration)
{
    size_t voters = 0;

    ASSERT(configuration->n <= RAFT_MAX_SERVERS);
    for (size_t i = 0; i < configuration->n; i++) {
        const struct raft_server *server = &configuration->servers[i];

        ASSERT(server->id >= 1 && server->id <= SPEC_MAX_ID);
        ASSERT(i == 0 || server[-1].id < server->id);
        ASSERT(strlen(server->address) <= SPEC_MAX_URL);
        ASSERT(raft_configuration_find(configuration, server->id) == server);
        voters += (server->flags & RAFT_VOTER) != 0;
    }
    ASSERT(voters > 0 || configuration->n == 0);
}

static void check_entry(const struct raft_entry *entry)
{
    ASSERT(entry->index > 0 && entry->term > 0);
    ASSERT((entry->type == RAFT_ENTRY_NOOP) == (entry->data == NULL));
    ASSERT(blob_slice(entry->data).len <= WIRE_MAX_ENTRY_BYTES);
}

static void fuzz_message(struct slice bytes)
{
    struct raft_message message, empty;
    struct buf again = {0};

    if (!wire_decode_message(bytes, &message)) {
        memset(&empty, 0, sizeof(empty)); /* nothing is owned */
        ASSERT(memcmp(&message, &empty, sizeof(empty)) == 0);
        return;
    }
    ASSERT(message.from >= 1 && message.from <= SPEC_MAX_ID && message.term > 0);
    if (message.type == RAFT_MESSAGE_APPEND) {
        for (size_t i = 0; i < message.append.n_entries; i++) {
            check_entry(&message.append.entries[i]);
        }
    } else if (message.type == RAFT_MESSAGE_INSTALL_SNAPSHOT) {
        check_configuration(&message.install_snapshot.meta.configuration);
    }
    wire_encode_message(&message, &again);
    check_same(bytes, &again);
    raft_message_fini(&message);
}

static void fuzz_entries(struct slice bytes)
{
    struct reader reader = reader_of(bytes);
    struct raft_entry entry;
    struct buf again = {0};

    while (reader_left(&reader) > 0 && wire_decode_entry(&reader, &entry)) {
        check_entry(&entry);
        wire_encode_entry(&entry, &again);
        blob_unref(&entry.data);
        ASSERT(slice_equal(taken_of(bytes, &reader), buf_slice(&again)));
    }
    buf_fini(&again);
}

static void fuzz_snapshot_meta(struct slice bytes)
{
    struct reader reader = reader_of(bytes);
    struct raft_snapshot_meta meta;
    struct buf again = {0};

    if (wire_decode_snapshot_meta(&reader, &meta)) {
        check_configuration(&meta.configuration);
        wire_encode_snapshot_meta(&meta, &again);
        check_same(taken_of(bytes, &reader), &again);
    }
}

static void fuzz_configuration(struct slice bytes)
{
    struct raft_configuration configuration;
    struct buf again = {0};

    if (raft_configuration_decode(bytes, &configuration)) {
        check_configuration(&configuration);
        raft_configuration_encode(&configuration, &again);
        check_same(bytes, &again);
    }
}

static void fuzz_entry_header(struct slice bytes)
{
    struct rsm_entry_header header;
    struct slice command;
    uint8_t again[RSM_ENTRY_HEADER_BYTES];

    if (rsm_entry_header_read(bytes, &header, &command) == ST_OK) {
        ASSERT(command.len + sizeof(again) == bytes.len);
        if (header.stamp > 0) {
            rsm_entry_header_write(&header, again);
            ASSERT(memcmp(again, bytes.data, sizeof(again)) == 0);
        }
    }
}

static void fuzz_extra(struct slice bytes)
{
    struct rsm_extra extra;
    struct buf again = {0};

    if (rsm_extra_decode(bytes, &extra) == ST_OK) {
        check_configuration(&extra.configuration);
        rsm_extra_encode(&extra, &again);
        check_same(bytes, &again);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static void (*const targets[])(struct slice bytes) = {fuzz_message,       fuzz_entries,
                                                          fuzz_snapshot_meta, fuzz_configuration,
                                                          fuzz_entry_header,  fuzz_extra};
    struct script script = script_of(data, size);
    uint32_t which = fuzz_below(&script, sizeof(targets) / sizeof(targets[0]));

    targets[which](fuzz_rest(&script));
    return 0;
}
