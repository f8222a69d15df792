/* How sessions look as bytes: the key that an operation carries, a client's record, the floor.
 * Records are replicated state and travel with shards, so their decoder checks everything. */
#include "raft/rsm/session_table.h"

#include "raft/util/assert.h"

void session_key_encode(const struct session_key *key, struct buf *out)
{
    buf_put(out, key->client.bytes, sizeof(key->client.bytes));
    buf_put_u64(out, key->seq);
    buf_put_u64(out, key->acked_seq);
    buf_put_u64(out, key->issued_at);
}

bool session_key_decode(struct reader *reader, struct session_key *key)
{
    struct slice client = reader_take(reader, sizeof(key->client.bytes));

    *key = (struct session_key){0};
    if (!reader_ok(reader)) {
        return false;
    }
    memcpy(key->client.bytes, client.data, sizeof(key->client.bytes));
    key->seq = reader_u64(reader);
    key->acked_seq = reader_u64(reader);
    key->issued_at = reader_u64(reader);
    return reader_ok(reader);
}

/* u8 version = 1, u64 activity, u64 acked_seq, u16 number of results, then each as u64 seq, u8
 * length, bytes; in ascending order of seq, all above acked_seq and within the window. */
void session_record_encode(const struct session_record *record, struct buf *out)
{
    ASSERT(record->n_results <= SESSION_SEQ_WINDOW);
    ASSERT(record->n_results == 0 || record->results_len >= SESSION_RESULT_HEADER);
    buf_put_u8(out, SESSION_RECORD_VERSION);
    buf_put_u64(out, record->activity);
    buf_put_u64(out, record->acked_seq);
    buf_put_u16(out, (uint16_t)record->n_results);
    buf_put_slice(out, session_record_results(record));
}

/* n results follow, and nothing else. */
static enum status decode_results(struct reader *reader, uint64_t acked_seq, size_t n,
                                  struct buf *results)
{
    uint64_t last = acked_seq;

    for (size_t i = 0; i < n; i++) {
        uint64_t seq = reader_u64(reader);
        uint8_t len = reader_u8(reader);
        struct slice result = reader_take(reader, len);
        if (!reader_ok(reader) || len > SESSION_MAX_RESULT || seq <= last ||
            seq - acked_seq > SESSION_SEQ_WINDOW) {
            return ST_CORRUPT;
        }
        session_result_append(results, seq, result);
        last = seq;
    }
    return reader_done(reader) ? ST_OK : ST_CORRUPT;
}

enum status session_record_decode(struct slice bytes, const void *client,
                                  struct session_record **record)
{
    struct reader reader = reader_of(bytes);
    uint8_t version = reader_u8(&reader);
    uint64_t activity = reader_u64(&reader), acked_seq = reader_u64(&reader);
    size_t n = reader_u16(&reader);
    struct buf results = {0};
    enum status status;

    if (!reader_ok(&reader)) {
        return ST_CORRUPT;
    }
    if (version != SESSION_RECORD_VERSION) {
        return ST_VERSION;
    }
    status = decode_results(&reader, acked_seq, n, &results);
    if (status == ST_OK) {
        *record = session_record_create(client, buf_slice(&results), n, 0);
        (*record)->activity = activity;
        (*record)->acked_seq = acked_seq;
    }
    buf_fini(&results);
    return status;
}

/* u8 version = 1, u64 floor. */
void session_floor_encode(uint64_t floor, struct buf *out)
{
    buf_put_u8(out, SESSION_RECORD_VERSION);
    buf_put_u64(out, floor);
}

enum status session_floor_decode(struct slice bytes, uint64_t *floor)
{
    struct reader reader = reader_of(bytes);
    uint8_t version = reader_u8(&reader);

    *floor = reader_u64(&reader);
    if (reader_ok(&reader) && version != SESSION_RECORD_VERSION) {
        return ST_VERSION;
    }
    return reader_done(&reader) ? ST_OK : ST_CORRUPT;
}
