/* Copies of a shard in pieces: from any cursor, of any size, at any replica; while the source goes
 * on writing; and what becomes of a copy that is not what was sent. */
#include "raft/util/rng.h"
#include "tests/unit/kv_twins.h"

/* ---- Looking at ranges ---- */

static void dump_kind(struct cluster *cluster, uint32_t gid, uint64_t range, uint8_t kind,
                      struct buf *text)
{
    struct io_state *state = mem_state_io(cluster->groups[gid].replicas[cluster->reader].memory);
    struct io_iter *iter = state->ops->iter_open(state, (struct io_key){range, kind, {NULL, 0}});
    struct slice key, value;

    while (state->ops->iter_next(iter, &key, &value)) {
        buf_put_u8(text, kind);
        buf_put_bytes(text, key);
        buf_put_bytes(text, value);
    }
    assert_int_equal(state->ops->iter_close(iter), ST_OK);
}

/* All that a client could ever see of the shard. */
static struct buf dump(struct cluster *cluster, uint32_t gid)
{
    uint64_t range = kv_sm_shard(sm_of(cluster, gid), S)->range;
    struct buf text = {0};

    dump_kind(cluster, gid, range, KV_KIND_DATA, &text);
    dump_kind(cluster, gid, range, KV_KIND_SESSION, &text);
    dump_kind(cluster, gid, range, KV_KIND_COUNTER, &text);
    return text;
}

/* The replicated sum is that of the keys that are swept, whatever was written since. */
static void check_sum(struct cluster *cluster)
{
    const struct shard *shard = kv_sm_shard(sm_of(cluster, A), S);
    struct io_state *state = mem_state_io(cluster->groups[A].replicas[cluster->reader].memory);
    struct shard_sum sum = {0};
    struct slice key, value;
    struct io_iter *iter;

    if (shard->outgoing.copy_id == 0) {
        return;
    }
    iter = state->ops->iter_open(state, (struct io_key){shard->range, KV_KIND_DATA, {NULL, 0}});
    while (state->ops->iter_next(iter, &key, &value)) {
        if (shard_notes_key(shard, key)) {
            shard_sum_add(&sum, key, value);
        }
    }
    assert_int_equal(state->ops->iter_close(iter), ST_OK);
    assert_true(shard_sum_equal(&sum, &shard->outgoing.records));
}

static size_t change_log_entries(struct cluster *cluster)
{
    const struct shard *shard = kv_sm_shard(sm_of(cluster, A), S);
    size_t keys =
        mem_state_range_keys(cluster->groups[A].replicas[0].memory, shard->outgoing.range);

    assert_int_equal(keys % 2, 0); /* by number and by key */
    return keys / 2;
}

/* ---- A frozen shard ---- */

/* The whole shard as text, read in pieces of that size from cursor to cursor. */
static size_t read_all(struct cluster *cluster, size_t replica, uint32_t piece_bytes,
                       struct buf *entries)
{
    struct kv_piece_source source = kv_sm_piece_source(cluster->groups[A].replicas[replica].sm, S);
    struct buf cursor = {0};
    bool is_all = false;
    size_t n = 0;

    for (; !is_all; n++) {
        struct kv_piece piece;

        assert_true(n < 1000);
        assert_int_equal(kv_piece_needs(&source, buf_slice(&cursor)), KV_PIECE_READ);
        assert_int_equal(kv_piece_read(&source, buf_slice(&cursor), piece_bytes, &piece), ST_OK);
        buf_fini(&cursor);
        assert_true(kv_piece_body_is_valid(buf_slice(&piece.body)));
        assert_true(piece.body.len <= piece_bytes || piece_bytes < 300);
        buf_put_slice(entries, buf_slice(&piece.body));
        is_all = piece.is_all;
        cursor = buf_take(&piece.cursor);
        kv_piece_fini(&piece);
    }
    buf_fini(&cursor);
    return n;
}

static void any_size_of_piece_and_any_replica_gives_the_same_shard(void **state)
{
    struct cluster cluster;
    struct buf expected = {0};

    (void)state;
    freeze_with_data(&cluster);
    assert_int_equal(read_all(&cluster, 0, PROTO_MAX_CHUNK, &expected), 1);
    assert_int_equal(kv_sm_shard(sm_of(&cluster, A), S)->outgoing.records.count, 13);
    for (uint32_t size = 1; size < 2000; size += 7) {
        struct buf entries = {0};

        read_all(&cluster, size % 2, size, &entries);
        assert_true(slice_equal(buf_slice(&entries), buf_slice(&expected)));
        buf_fini(&entries);
    }
    buf_fini(&expected);
    settle(&cluster);
    check_data(&cluster, B, S);
    cluster_fini(&cluster);
}

static void a_cursor_that_is_none_is_refused(void **state)
{
    struct cluster cluster;
    struct kv_piece_source source;
    struct kv_piece piece;
    struct buf cursor = {0};

    (void)state;
    freeze_with_data(&cluster);
    source = kv_sm_piece_source(sm_of(&cluster, A), S);
    assert_int_equal(kv_piece_read(&source, slice_of(NULL, 0), 100, &piece), ST_OK);
    cursor = buf_take(&piece.cursor);
    kv_piece_fini(&piece);
    for (size_t len = 1; len < cursor.len; len++) {
        struct slice cut = slice_of(cursor.data, len);

        assert_int_equal(kv_piece_read(&source, cut, 100, &piece), ST_INVALID);
        assert_int_equal(kv_piece_needs(&source, cut), KV_PIECE_INVALID);
    }
    cursor.data[0]++;
    assert_int_equal(kv_piece_read(&source, buf_slice(&cursor), 100, &piece), ST_INVALID);
    assert_int_equal(kv_piece_needs(&source, buf_slice(&cursor)), KV_PIECE_INVALID);
    cursor.data[0]--;
    cursor.data[1] = 9;
    assert_int_equal(kv_piece_read(&source, buf_slice(&cursor), 100, &piece), ST_INVALID);
    cursor.data[1] = 0;
    assert_int_equal(kv_piece_read(&source, buf_slice(&cursor), 100, &piece), ST_INVALID);
    buf_fini(&cursor);
    cluster_fini(&cluster);
}

static void an_end_that_is_cut_or_longer_is_none(void **state)
{
    struct cluster cluster;
    struct kv_piece_source source;
    struct kv_piece_end end;
    struct buf body = {0}, whole = {0};

    (void)state;
    freeze_with_data(&cluster);
    source = kv_sm_piece_source(sm_of(&cluster, A), S);
    kv_piece_end_encode(&source, 7, slice_of(NULL, 0), &body);
    assert_true(kv_piece_end_decode(buf_slice(&body), &end));
    assert_int_equal(end.frozen_ms, 7);
    assert_int_equal(end.records.count, 13);
    assert_int_equal(end.sessions.count, 4);
    assert_int_equal(end.version, 13);
    assert_int_equal(end.epoch, 1);
    assert_int_equal(end.entries.len, 0);
    for (size_t len = 0; len < body.len; len++) {
        assert_false(kv_piece_end_decode(slice_of(body.data, len), &end));
    }
    buf_put_slice(&whole, buf_slice(&body));
    buf_put_u8(&whole, KV_ENTRY_REMOVED);
    assert_false(kv_piece_end_decode(buf_slice(&whole), &end));
    buf_put_bytes(&whole, slice_text("key"));
    assert_true(kv_piece_end_decode(buf_slice(&whole), &end));
    buf_fini(&body);
    buf_fini(&whole);
    cluster_fini(&cluster);
}

/* ---- Step by step ---- */

/* S is at A with its data, and B is to have it; nothing has happened for that. */
static void begin_move(struct cluster *cluster, uint32_t max_sessions)
{
    cluster_init_with(cluster, max_sessions);
    give(cluster, S, A);
    write_data(cluster, A, S);
    give(cluster, S, B);
}

static unsigned n_applied(const struct cluster *cluster, enum kv_command_kind kind)
{
    unsigned n = 0;

    for (size_t i = 0; i < cluster->n_history; i++) {
        struct kv_command command;

        assert_int_equal(kv_command_decode(buf_slice(&cluster->history[i].bytes), &command), ST_OK);
        n += command.kind == kind;
    }
    return n;
}

static void a_shard_that_fits_in_one_piece_goes_over_with_one(void **state)
{
    struct cluster cluster;

    (void)state;
    begin_move(&cluster, 100);
    cluster.piece_bytes = 1u << 20;
    settle(&cluster);
    check_data(&cluster, B, S);
    assert_int_equal(n_applied(&cluster, KV_COMMAND_COPY_BEGIN), 1);
    assert_int_equal(n_applied(&cluster, KV_COMMAND_SWEEP), 0);
    assert_int_equal(n_applied(&cluster, KV_COMMAND_FREEZE), 1);
    assert_int_equal(n_applied(&cluster, KV_COMMAND_CHUNK), 0);
    assert_int_equal(n_applied(&cluster, KV_COMMAND_INSTALL), 1);
    cluster_fini(&cluster);
}

static void an_empty_shard_is_only_an_end(void **state)
{
    struct cluster cluster;

    (void)state;
    cluster_init(&cluster);
    give(&cluster, S, A);
    give(&cluster, S, B);
    settle(&cluster);
    assert_int_equal(n_applied(&cluster, KV_COMMAND_SWEEP), 0);
    assert_int_equal(n_applied(&cluster, KV_COMMAND_CHUNK), 0);
    assert_int_equal(write_to(&cluster, B, 1, 1, KV_PUT, key_in(&cluster, S, 0), "v"), ST_OK);
    cluster_fini(&cluster);
}

/* What is left to send never depends on how often something is written. */
static void a_hot_key_is_noted_once(void **state)
{
    struct cluster cluster;
    struct buf before, after;

    (void)state;
    begin_move(&cluster, 100);
    cluster.piece_bytes = 1u << 20;
    assert_true(step(&cluster)); /* COPY_BEGIN, and all is swept */
    assert_true(kv_sm_shard(sm_of(&cluster, A), S)->outgoing.is_swept);
    assert_int_equal(change_log_entries(&cluster), 0);
    for (uint64_t i = 1; i <= 1000; i++) {
        assert_int_equal(write_to(&cluster, A, 7, i, KV_APPEND, key_in(&cluster, S, 3), "x"),
                         ST_OK);
    }
    assert_int_equal(change_log_entries(&cluster), 2); /* the key and its client */
    assert_int_equal(kv_sm_shard(sm_of(&cluster, A), S)->outgoing.n_noted, 2000);
    while (kv_sm_shard(sm_of(&cluster, A), S)->state != SHARD_FROZEN) {
        assert_true(step(&cluster));
    }
    before = dump(&cluster, A);
    settle(&cluster);
    after = dump(&cluster, B);
    assert_true(slice_equal(buf_slice(&before), buf_slice(&after)));
    buf_fini(&before);
    buf_fini(&after);
    cluster_fini(&cluster);
}

/* The key of S that is n-th in the order of the sweep. */
static void ordered_key(struct cluster *cluster, size_t n, char key[32])
{
    struct io_state *state = mem_state_io(cluster->groups[A].replicas[0].memory);
    uint64_t range = kv_sm_shard(sm_of(cluster, A), S)->range;
    struct io_iter *iter =
        state->ops->iter_open(state, (struct io_key){range, KV_KIND_DATA, {NULL, 0}});
    struct slice found, value;

    for (size_t i = 0; i <= n; i++) {
        assert_true(state->ops->iter_next(iter, &found, &value));
    }
    memcpy(key, found.data, found.len);
    key[found.len] = '\0';
    assert_int_equal(state->ops->iter_close(iter), ST_OK);
}

static void only_what_is_swept_is_noted(void **state)
{
    struct cluster cluster;
    char first[32], last[32];

    (void)state;
    begin_move(&cluster, 100);
    ordered_key(&cluster, 0, first);
    ordered_key(&cluster, 12, last);
    cluster.piece_bytes = 150;
    assert_true(step(&cluster)); /* COPY_BEGIN, and a first part is swept */
    assert_false(kv_sm_shard(sm_of(&cluster, A), S)->outgoing.is_swept);
    assert_int_equal(write_to(&cluster, A, 7, 1, KV_DELETE, last, ""), ST_OK);
    assert_int_equal(change_log_entries(&cluster), 1); /* the client: sessions are not swept */
    assert_int_equal(write_to(&cluster, A, 7, 2, KV_DELETE, first, ""), ST_OK);
    assert_int_equal(change_log_entries(&cluster), 2);
    check_sum(&cluster);
    settle(&cluster);
    assert_value(&cluster, B, first, NULL);
    assert_value(&cluster, B, last, NULL);
    assert_int_equal(kv_sm_version(sm_of(&cluster, B), S), 15);
    cluster_fini(&cluster);
}

/* One piece a sweep: each ends where the sweep does, and the next begins there. */
static void a_piece_may_end_where_the_sweep_does(void **state)
{
    (void)state;
    for (uint32_t bytes = 1; bytes < 600; bytes += 3) {
        struct cluster cluster;

        begin_move(&cluster, 100);
        cluster.piece_bytes = bytes;
        assert_true(step(&cluster));
        while (!kv_sm_shard(sm_of(&cluster, A), S)->outgoing.is_swept) {
            struct kv_piece_source source = kv_sm_piece_source(sm_of(&cluster, A), S);
            const struct shard_copy *copy = &kv_sm_shard(sm_of(&cluster, B), S)->copy;

            /* Pieces have room for all that is swept, so they alternate with the sweeps. */
            cluster.piece_bytes = 100000;
            assert_int_equal(kv_piece_needs(&source, buf_slice(&copy->cursor)), KV_PIECE_READ);
            assert_true(step(&cluster));
            assert_int_equal(kv_piece_needs(&source, buf_slice(&copy->cursor)), KV_PIECE_SWEEP);
            cluster.piece_bytes = bytes;
            assert_true(step(&cluster));
        }
        settle(&cluster);
        check_data(&cluster, B, S);
        cluster_fini(&cluster);
    }
}

/* ---- Rounds ---- */

#define MANY 400 /* changes, more than go along with an END */

static void change_many(struct cluster *cluster, uint64_t seq)
{
    for (unsigned n = 0; n < MANY; n++) {
        assert_int_equal(
            write_to(cluster, A, 9, seq * MANY + n + 1, KV_PUT, key_in(cluster, S, 100 + n), "v"),
            ST_OK);
    }
}

static enum kv_piece_need need(struct cluster *cluster)
{
    struct kv_piece_source source = kv_sm_piece_source(sm_of(cluster, A), S);

    return kv_piece_needs(&source, buf_slice(&kv_sm_shard(sm_of(cluster, B), S)->copy.cursor));
}

static bool is_in_rounds(struct cluster *cluster)
{
    return kv_piece_is_in_rounds(buf_slice(&kv_sm_shard(sm_of(cluster, B), S)->copy.cursor));
}

static void it_is_frozen_when_few_changes_are_left(void **state)
{
    struct cluster cluster;
    unsigned n = 0;

    (void)state;
    begin_move(&cluster, 100);
    while (!is_in_rounds(&cluster)) {
        assert_true(step(&cluster));
    }
    assert_int_equal(need(&cluster), KV_PIECE_FREEZE);
    for (; need(&cluster) == KV_PIECE_FREEZE; n++) {
        assert_int_equal(write_to(&cluster, A, 9, n + 1, KV_PUT, key_in(&cluster, S, n), "v"),
                         ST_OK);
    }
    assert_true(n > 10 && n < 200);
    assert_int_equal(need(&cluster), KV_PIECE_READ);
    cluster.piece_bytes = 100000;
    assert_true(step(&cluster)); /* one round, and nothing is left */
    assert_int_equal(need(&cluster), KV_PIECE_FREEZE);
    settle(&cluster);
    cluster_fini(&cluster);
}

/* Writes that never end do not keep a shard for ever. */
static void it_is_frozen_after_so_many_rounds(void **state)
{
    struct cluster cluster;
    unsigned rounds = 0;

    (void)state;
    begin_move(&cluster, 100);
    while (!is_in_rounds(&cluster)) {
        assert_true(step(&cluster));
    }
    cluster.piece_bytes = 1u << 20;
    change_many(&cluster, 0);
    while (need(&cluster) != KV_PIECE_FREEZE) {
        assert_int_equal(need(&cluster), KV_PIECE_READ);
        assert_true(step(&cluster));
        rounds++;
        change_many(&cluster, rounds);
        assert_true(rounds < 100);
    }
    assert_true(rounds > 10);
    settle(&cluster);
    assert_value(&cluster, B, key_in(&cluster, S, 100), "v");
    cluster_fini(&cluster);
}

/* A round is as many pieces as it takes: what changed during a long base is no reason to freeze
 * before most of it is there. */
static void a_round_of_many_pieces_is_one_round(void **state)
{
    struct cluster cluster;
    uint64_t pieces;

    (void)state;
    begin_move(&cluster, 100);
    while (!is_in_rounds(&cluster)) {
        assert_true(step(&cluster));
    }
    change_many(&cluster, 0);
    pieces = kv_sm_shard(sm_of(&cluster, B), S)->copy.next_piece;
    cluster.piece_bytes = 60; /* an entry each */
    while (need(&cluster) != KV_PIECE_FREEZE) {
        assert_true(step(&cluster));
    }
    assert_true(kv_sm_shard(sm_of(&cluster, B), S)->copy.next_piece - pieces > MANY / 2);
    settle(&cluster);
    assert_value(&cluster, B, key_in(&cluster, S, 100), "v");
    cluster_fini(&cluster);
}

/* ---- Anything at any time ---- */

#define POOL 40 /* keys */

struct chaos {
    struct cluster cluster;
    struct rng rng;
    uint64_t seqs[256];
    struct buf frozen; /* what A froze */
    bool is_frozen, is_compared, is_begun_anew;
};

static void random_write(struct chaos *chaos)
{
    struct cluster *cluster = &chaos->cluster;
    uint8_t client = (uint8_t)(1 + rng_below(&chaos->rng, 20));
    char key[32], other[32], value[64];
    struct kv_command command;
    const enum kv_operation_type types[] = {KV_PUT, KV_PUT, KV_APPEND, KV_DELETE};

    strcpy(key, key_in(cluster, S, (unsigned)rng_below(&chaos->rng, POOL)));
    strcpy(other, key_in(cluster, S, (unsigned)rng_below(&chaos->rng, POOL)));
    memset(value, 'a' + (int)rng_below(&chaos->rng, 26), sizeof(value));
    value[rng_below(&chaos->rng, sizeof(value))] = '\0';
    value[sizeof(value) - 1] = '\0';
    command = write_of(client, ++chaos->seqs[client], types[rng_below(&chaos->rng, 4)], key, value);
    if (command.write.operations[0].type == KV_DELETE) {
        command.write.operations[0].value = slice_of(NULL, 0);
    }
    command.write.session.issued_at = cluster->stamp;
    if (rng_below(&chaos->rng, 4) == 0) { /* a second key in the same write */
        command.write.operations[command.write.n_operations++] =
            (struct kv_operation){KV_PUT, slice_text(other), slice_text(value)};
    }
    if (rng_below(&chaos->rng, 4) == 0) { /* if it was not there */
        command.write.n_conditions = 1;
        command.write.conditions[0] =
            (struct kv_condition){KV_IF_ABSENT, slice_text(other), slice_text("")};
    }
    (void)apply(cluster, A, &command); /* refused once A does not serve any more */
}

static void random_event(struct chaos *chaos)
{
    struct cluster *cluster = &chaos->cluster;
    uint32_t gid = rng_below(&chaos->rng, 2) == 0 ? A : B;
    size_t i = rng_below(&chaos->rng, 2);

    switch (rng_below(&chaos->rng, 40)) {
    case 0: /* another replica serves the next piece */
        cluster->reader = 1 - cluster->reader;
        break;
    case 1:
    case 2:
        assert_int_equal(kv_sm_restore(cluster->groups[gid].replicas[i].sm), ST_OK);
        break;
    case 3: /* another leader of the taker, which does not go on with the copy */
        if (rng_below(&chaos->rng, 4) == 0) {
            cluster->wanted[B][S] = ++cluster->copy_id;
        }
        break;
    case 4: /* nobody should, but if: what is under way is then broken, and noticed */
        if (rng_below(&chaos->rng, 2) == 0 &&
            apply_copy_step(cluster, A, S, 2, KV_COMMAND_COPY_BEGIN, ++cluster->copy_id) == ST_OK) {
            chaos->is_begun_anew = true;
        }
        break;
    case 5:
        cluster->piece_bytes = 1 + (uint32_t)rng_below(&chaos->rng, 1000);
        break;
    default:
        break;
    }
}

static void look(struct chaos *chaos)
{
    struct cluster *cluster = &chaos->cluster;
    const struct shard *source = kv_sm_shard(sm_of(cluster, A), S);
    const struct shard *taker = kv_sm_shard(sm_of(cluster, B), S);

    check_sum(cluster);
    if (source->outgoing.copy_id != 0) {
        assert_true(change_log_entries(cluster) <= POOL + 13 + 20 + 4);
    }
    if (source->state == SHARD_FROZEN && !chaos->is_frozen) {
        chaos->is_frozen = true;
        chaos->frozen = dump(cluster, A);
    }
    if (taker->state == SHARD_SERVING && !chaos->is_compared) {
        struct buf arrived = dump(cluster, B);

        assert_true(chaos->is_frozen);
        assert_true(slice_equal(buf_slice(&chaos->frozen), buf_slice(&arrived)));
        chaos->is_compared = true;
        buf_fini(&arrived);
    }
}

static void a_copy_is_what_the_source_froze_whatever_happens_meanwhile(void **state)
{
    unsigned with_changes = 0, with_broken = 0;

    (void)state;
    for (uint64_t seed = 1; seed <= 300; seed++) {
        struct chaos chaos = {0};
        uint32_t writes;
        int steps = 0;

        rng_init(&chaos.rng, seed);
        begin_move(&chaos.cluster, seed % 3 == 0 ? 5 : 100); /* few: clients are evicted */
        memset(chaos.seqs, 0, sizeof(chaos.seqs));
        for (int client = 1; client <= 4; client++) {
            chaos.seqs[client] = 4; /* what write_data used */
        }
        chaos.cluster.piece_bytes = 1 + (uint32_t)rng_below(&chaos.rng, 1000);
        writes = (uint32_t)rng_below(&chaos.rng, 4);
        do {
            for (uint32_t n = (uint32_t)rng_below(&chaos.rng, 1 + writes); n > 0; n--) {
                random_write(&chaos);
                look(&chaos);
            }
            random_event(&chaos);
            look(&chaos);
            assert_true(++steps < 20000);
        } while (step(&chaos.cluster));
        look(&chaos);
        assert_true(chaos.is_compared);
        assert_true(chaos.cluster.n_broken == 0 || chaos.is_begun_anew);
        with_broken += chaos.cluster.n_broken > 0;
        with_changes += kv_sm_version(sm_of(&chaos.cluster, B), S) > 13;
        buf_fini(&chaos.frozen);
        cluster_fini(&chaos.cluster);
    }
    assert_true(with_changes > 200);
    assert_true(with_broken > 0);
}

/* ---- Copies that are not what was sent ---- */

/* Damages what has at least one entry, once; how is `damage_kind`. */
static struct {
    enum { FLIP_VALUE, DROP_ENTRY, FORGET_CHANGE, FORGET_SESSION, FORGET_REMOVAL } kind;
    bool done;
} damage;

static bool is_victim(enum kv_entry_what what)
{
    switch (damage.kind) {
    case FLIP_VALUE:
    case DROP_ENTRY:
        return what == KV_ENTRY_RECORD;
    case FORGET_CHANGE:
        return what == KV_ENTRY_CHANGED;
    case FORGET_SESSION:
        return what == KV_ENTRY_SESSION;
    case FORGET_REMOVAL:
        return what == KV_ENTRY_REMOVED;
    }
    return false;
}

static uint8_t damaged_body[100000];

static void do_damage(struct cluster *cluster, struct kv_command *command)
{
    struct slice body = command->arrival.body;
    struct reader reader = reader_of(body);
    struct kv_entry entry;
    size_t begin = 0;

    (void)cluster;
    while (!damage.done && kv_entry_next(&reader, &entry)) {
        size_t end = body.len - reader_left(&reader);

        if (is_victim(entry.what) &&
            (damage.kind != FLIP_VALUE || entry.value.len > KV_RECORD_HEADER_BYTES)) {
            damage.done = true;
            assert_true(body.len <= sizeof(damaged_body));
            memcpy(damaged_body, body.data, body.len);
            if (damage.kind == FLIP_VALUE) {
                damaged_body[end - 1] ^= 1;
            } else {
                memmove(damaged_body + begin, damaged_body + end, body.len - end);
                body.len -= end - begin;
            }
            command->arrival.body = slice_of(damaged_body, body.len);
        }
        begin = end;
    }
}

static void what_is_not_as_it_was_sent_is_thrown_away_and_copied_again(void **state)
{
    (void)state;
    for (int kind = FLIP_VALUE; kind <= FORGET_REMOVAL; kind++) {
        for (uint32_t bytes = 64; bytes < 400; bytes += 60) {
            struct cluster cluster;
            struct buf before, after;
            uint64_t range;
            char first[32], second[32];

            damage.kind = kind;
            damage.done = false;
            begin_move(&cluster, 100);
            ordered_key(&cluster, 0, first);
            ordered_key(&cluster, 1, second);
            cluster.piece_bytes = bytes;
            while (kv_sm_shard(sm_of(&cluster, B), S)->copy.next_piece < 2) {
                assert_true(step(&cluster));
            }
            range = kv_sm_shard(sm_of(&cluster, B), S)->copy.range;
            assert_int_equal(write_to(&cluster, A, 7, 1, KV_PUT, first, "changed"), ST_OK);
            assert_int_equal(write_to(&cluster, A, 7, 2, KV_DELETE, second, ""), ST_OK);
            cluster.damage = do_damage;
            while (cluster.n_broken == 0) {
                assert_true(step(&cluster));
            }
            assert_true(damage.done);
            assert_int_equal(kv_sm_shard(sm_of(&cluster, B), S)->state, SHARD_ABSENT);
            assert_int_equal(kv_sm_shard(sm_of(&cluster, B), S)->copy.range, 0);
            assert_int_equal(kv_sm_shard(sm_of(&cluster, A), S)->state, SHARD_FROZEN);
            before = dump(&cluster, A);
            settle(&cluster);
            after = dump(&cluster, B);
            assert_true(slice_equal(buf_slice(&before), buf_slice(&after)));
            assert_true(kv_sm_shard(sm_of(&cluster, B), S)->range > range);
            assert_int_equal(cluster.n_broken, 1);
            buf_fini(&before);
            buf_fini(&after);
            cluster_fini(&cluster);
        }
    }
}

/* The command that was applied last; its slices point into the history. */
static struct kv_command decode_last(struct cluster *cluster)
{
    struct applied *last = &cluster->history[cluster->n_history - 1];
    struct kv_command command;

    assert_int_equal(kv_command_decode(buf_slice(&last->bytes), &command), ST_OK);
    return command;
}

static void a_malformed_piece_changes_nothing(void **state)
{
    struct cluster cluster;
    struct kv_command command;
    uint8_t foreign[] = {9, 1, 0, 0, 0, 'k'};
    uint64_t before;

    (void)state;
    freeze_with_data(&cluster);
    assert_true(step(&cluster));
    command = decode_last(&cluster);
    assert_int_equal(command.kind, KV_COMMAND_CHUNK);
    before = group_sum(&cluster, B);
    command.arrival.piece.number = 1;
    command.arrival.piece.begin = command.arrival.cursor;
    command.arrival.body.len--;
    assert_int_equal(apply(&cluster, B, &command), ST_MALFORMED);
    command.arrival.body = slice_of(foreign, sizeof(foreign));
    assert_int_equal(apply(&cluster, B, &command), ST_MALFORMED);
    command.arrival.body.len = 0;
    command.arrival.cursor.len = 0;
    assert_int_equal(apply(&cluster, B, &command), ST_MALFORMED);
    command.shard = TWINS_SHARDS;
    assert_int_equal(apply(&cluster, B, &command), ST_INVALID);
    assert_true(group_sum(&cluster, B) == before);
    settle(&cluster);
    check_data(&cluster, B, S);
    cluster_fini(&cluster);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_size_of_piece_and_any_replica_gives_the_same_shard),
        cmocka_unit_test(a_cursor_that_is_none_is_refused),
        cmocka_unit_test(an_end_that_is_cut_or_longer_is_none),
        cmocka_unit_test(a_shard_that_fits_in_one_piece_goes_over_with_one),
        cmocka_unit_test(an_empty_shard_is_only_an_end),
        cmocka_unit_test(a_hot_key_is_noted_once),
        cmocka_unit_test(only_what_is_swept_is_noted),
        cmocka_unit_test(a_piece_may_end_where_the_sweep_does),
        cmocka_unit_test(it_is_frozen_when_few_changes_are_left),
        cmocka_unit_test(it_is_frozen_after_so_many_rounds),
        cmocka_unit_test(a_round_of_many_pieces_is_one_round),
        cmocka_unit_test(a_copy_is_what_the_source_froze_whatever_happens_meanwhile),
        cmocka_unit_test(what_is_not_as_it_was_sent_is_thrown_away_and_copied_again),
        cmocka_unit_test(a_malformed_piece_changes_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
