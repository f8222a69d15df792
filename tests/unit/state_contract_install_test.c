/* The contract of struct io_state, its part about receiving a snapshot: see state_contract_test.c.
 */
#include "tests/unit/state_contract.h"

/* A subject that holds something else, at index 10, and the stream of another, at 100. */
static void begin_install(struct subject *s, struct stream *stream)
{
    make_stream(s->is_store, 100, "sent", stream);
    name_stream(s, stream);
    put(s, 0, "old", "state");
    put(s, 4, "old", "range");
    begin_checkpoint(s, 10, "old", (uint64_t[]){4}, 1);
    settle(s);
    buf_clear(&s->said);
}

static void note_records(struct subject *s)
{
    list(s, 0, 1, "");
    list(s, 4, 1, "");
    list(s, 5, 1, "");
    list(s, 6, 1, "");
    list(s, 9, 1, "");
}

/* The whole stream, sent again, is taken. */
static void expect_taken(struct subject *s, const struct stream *stream)
{
    for (size_t i = 0; i < PARTS; i++) {
        send_part(s, stream, i);
    }
    expect(s, "INSTALL_CHUNK group=7 index=100 term=3 offset=part1 extra='' OK\n"
              "INSTALL_CHUNK group=7 index=100 term=3 offset=part2 extra='' OK\n"
              "INSTALL_CHUNK group=7 index=100 term=3 offset=part3 extra='' OK\n"
              "INSTALLED group=7 index=100 term=3 offset=end extra='sent' OK\n");
}

#define OLD_RECORDS                                                                                \
    "list 0/1: 'old'='state' OK\n"                                                                 \
    "list 4/1: 'old'='range' OK\n"                                                                 \
    "list 5/1: OK\n"                                                                               \
    "list 6/1: OK\n"                                                                               \
    "list 9/1: OK\n"

#define SENT_RECORDS                                                                               \
    "list 0/1: 'key00'='sent' 'key03'='sent' 'key06'='sent' 'key09'='sent' "                       \
    "'key12'='sent' 'key15'='sent' 'key18'='sent' OK\n"                                            \
    "list 4/1: OK\n"                                                                               \
    "list 5/1: 'key01'='sent' 'key04'='sent' 'key07'='sent' 'key10'='sent' "                       \
    "'key13'='sent' 'key16'='sent' 'key19'='sent' OK\n"                                            \
    "list 6/1: OK\n"                                                                               \
    "list 9/1: 'key02'='sent' 'key05'='sent' 'key08'='sent' 'key11'='sent' "                       \
    "'key14'='sent' 'key17'='sent' OK\n"

static void a_whole_stream_becomes_the_state(void **state)
{
    struct subject *s = *state;
    struct stream stream, again = {0};
    size_t at, old;

    begin_install(s, &stream);
    old = open_snapshot(s);
    put(s, 0, "late", "write");
    s->io->ops->drop_range(s->io, 4);
    for (size_t i = 0; i < PARTS; i++) {
        send_part(s, &stream, i); /* all at once */
    }
    settle(s);
    assert_true(s->io->ops->dirty_bytes(s->io) == 0);
    note_drops(s);
    note_records(s);
    expect(s, "opened #0 index=10 term=3 extra='old'\n"
              "INSTALL_CHUNK group=7 index=100 term=3 offset=part1 extra='' OK\n"
              "INSTALL_CHUNK group=7 index=100 term=3 offset=part2 extra='' OK\n"
              "INSTALL_CHUNK group=7 index=100 term=3 offset=part3 extra='' OK\n"
              "INSTALLED group=7 index=100 term=3 offset=end extra='sent' OK\n"
              "drops wait: 0\n" SENT_RECORDS);
    read_snapshot(s, old, 0, 10000, 3); /* it outlives what it was of */
    settle(s);
    close_snapshot(s, old);
    crash(s);
    note_records(s);
    expect(s, "SNAPSHOT_READ group=7 id=#0 token=3 offset=0 done=1 data=some OK\n"
              "found checkpoint=2 index=100 term=3 extra='sent'\n" SENT_RECORDS);
    s->io->ops->keep_ranges(s->io, (uint64_t[]){5, 9}, 2);
    note_drops(s);
    /* What was received is sent on. */
    at = open_snapshot(s);
    expect(s, "drops wait: 0\n"
              "opened #0 index=100 term=3 extra='sent'\n");
    read_parts(s, at, 100000, 0, &again);
    close_snapshot(s, at);
    buf_clear(&s->said);
    for (size_t i = 0; i < PARTS; i++) {
        assert_true(slice_has_prefix(slice_of(again.parts[0].data + stream.offsets[i],
                                              again.parts[0].len - stream.offsets[i]),
                                     buf_slice(&stream.parts[i])));
    }
    begin_checkpoint(s, 101, "next", (uint64_t[]){5, 9}, 2);
    settle(s);
    crash(s);
    expect(s, "CHECKPOINT group=7 number=3 index=101 OK\n"
              "found checkpoint=3 index=101 term=3 extra='next'\n");
    stream_fini(&stream);
    stream_fini(&again);
}

static void a_chunk_out_of_order_is_told_where_to_go_on(void **state)
{
    struct subject *s = *state;
    struct stream stream;

    begin_install(s, &stream);
    send_part(s, &stream, 1);
    send_part(s, &stream, 3); /* the last one */
    send_part(s, &stream, 0);
    send_part(s, &stream, 2);
    send_part(s, &stream, 3);
    send_part(s, &stream, 0);
    install(s, 100, 3, 1, slice_text("amid"), false);
    install(s, 100, 3, 0, slice_of(NULL, 0), false);
    install(s, 100, 3, stream.offsets[1], slice_of(NULL, 0), false);
    install(s, 100, 3, 0, slice_of(NULL, 0), true);
    settle(s);
    note_records(s);
    expect(s, "INSTALL_CHUNK group=7 index=100 term=3 offset=0 extra='' OK\n"
              "INSTALL_CHUNK group=7 index=100 term=3 offset=0 extra='' OK\n"
              "INSTALL_CHUNK group=7 index=100 term=3 offset=part1 extra='' OK\n"
              "INSTALL_CHUNK group=7 index=100 term=3 offset=part1 extra='' OK\n"
              "INSTALL_CHUNK group=7 index=100 term=3 offset=part1 extra='' OK\n"
              "INSTALL_CHUNK group=7 index=100 term=3 offset=part1 extra='' OK\n"
              "INSTALL_CHUNK group=7 index=100 term=3 offset=part1 extra='' OK\n"
              "INSTALL_CHUNK group=7 index=100 term=3 offset=part1 extra='' OK\n"
              "INSTALL_CHUNK group=7 index=100 term=3 offset=part1 extra='' OK\n"
              "INSTALL_CHUNK group=7 index=100 term=3 offset=part1 extra='' OK\n" OLD_RECORDS);
    send_part(s, &stream, 1);
    send_part(s, &stream, 2);
    send_part(s, &stream, 3);
    send_part(s, &stream, 3); /* twice */
    settle(s);
    send_part(s, &stream, 3);
    send_part(s, &stream, 2);
    settle(s);
    note_records(s);
    expect(s, "INSTALL_CHUNK group=7 index=100 term=3 offset=part2 extra='' OK\n"
              "INSTALL_CHUNK group=7 index=100 term=3 offset=part3 extra='' OK\n"
              "INSTALLED group=7 index=100 term=3 offset=end extra='sent' OK\n"
              "INSTALL_CHUNK group=7 index=100 term=3 offset=0 extra='' OK\n"
              "INSTALL_CHUNK group=7 index=100 term=3 offset=0 extra='' OK\n"
              "INSTALL_CHUNK group=7 index=100 term=3 offset=0 extra='' OK\n" SENT_RECORDS);
    send_part(s, &stream, 0); /* the same snapshot over again */
    send_part(s, &stream, 1);
    settle(s);
    crash(s); /* it is not ahead of the state, so what was there of it goes */
    send_part(s, &stream, 1);
    expect(s, "INSTALL_CHUNK group=7 index=100 term=3 offset=part1 extra='' OK\n"
              "INSTALL_CHUNK group=7 index=100 term=3 offset=part2 extra='' OK\n"
              "found checkpoint=2 index=100 term=3 extra='sent'\n"
              "INSTALL_CHUNK group=7 index=100 term=3 offset=0 extra='' OK\n");
    stream_fini(&stream);
}

static void the_first_chunk_of_another_snapshot_begins_anew(void **state)
{
    struct subject *s = *state;
    struct stream stream, newer;

    begin_install(s, &stream);
    make_stream(s->is_store, 200, "newer", &newer);
    name_stream(s, &newer);
    send_part(s, &stream, 0);
    send_part(s, &newer, 1); /* not its first: what is there stays */
    install(s, 100, 4, stream.offsets[1], buf_slice(&stream.parts[1]), false); /* another term */
    send_part(s, &newer, 3);
    send_part(s, &stream, 1);
    send_part(s, &newer, 0);
    send_part(s, &stream, 2);
    send_part(s, &newer, 1);
    send_part(s, &stream, 0);
    send_part(s, &newer, 2);
    expect(s, "INSTALL_CHUNK group=7 index=100 term=3 offset=part1 extra='' OK\n"
              "INSTALL_CHUNK group=7 index=200 term=3 offset=0 extra='' OK\n"
              "INSTALL_CHUNK group=7 index=100 term=4 offset=0 extra='' OK\n"
              "INSTALL_CHUNK group=7 index=200 term=3 offset=0 extra='' OK\n"
              "INSTALL_CHUNK group=7 index=100 term=3 offset=part2 extra='' OK\n"
              "INSTALL_CHUNK group=7 index=200 term=3 offset=part1 extra='' OK\n"
              "INSTALL_CHUNK group=7 index=100 term=3 offset=0 extra='' OK\n"
              "INSTALL_CHUNK group=7 index=200 term=3 offset=part2 extra='' OK\n"
              "INSTALL_CHUNK group=7 index=100 term=3 offset=part1 extra='' OK\n"
              "INSTALL_CHUNK group=7 index=200 term=3 offset=0 extra='' OK\n");
    for (size_t i = 0; i < PARTS; i++) {
        send_part(s, &newer, i);
    }
    settle(s);
    send_part(s, &stream, 0); /* older than the state */
    send_part(s, &stream, 1);
    send_part(s, &stream, 3);
    settle(s);
    note_records(s);
    crash(s);
    expect(s, "INSTALL_CHUNK group=7 index=200 term=3 offset=part1 extra='' OK\n"
              "INSTALL_CHUNK group=7 index=200 term=3 offset=part2 extra='' OK\n"
              "INSTALL_CHUNK group=7 index=200 term=3 offset=part3 extra='' OK\n"
              "INSTALLED group=7 index=200 term=3 offset=end extra='newer' OK\n"
              "INSTALL_CHUNK group=7 index=100 term=3 offset=0 extra='' CONFLICT\n"
              "INSTALL_CHUNK group=7 index=100 term=3 offset=0 extra='' CONFLICT\n"
              "INSTALL_CHUNK group=7 index=100 term=3 offset=0 extra='' CONFLICT\n"
              "list 0/1: 'key00'='newer' 'key03'='newer' 'key06'='newer' 'key09'='newer' "
              "'key12'='newer' 'key15'='newer' 'key18'='newer' OK\n"
              "list 4/1: OK\n"
              "list 5/1: 'key01'='newer' 'key04'='newer' 'key07'='newer' 'key10'='newer' "
              "'key13'='newer' 'key16'='newer' 'key19'='newer' OK\n"
              "list 6/1: OK\n"
              "list 9/1: 'key02'='newer' 'key05'='newer' 'key08'='newer' 'key11'='newer' "
              "'key14'='newer' 'key17'='newer' OK\n"
              "found checkpoint=2 index=200 term=3 extra='newer'\n");
    stream_fini(&stream);
    stream_fini(&newer);
}

static void a_checkpoint_overtakes_what_is_received(void **state)
{
    struct subject *s = *state;
    struct stream stream;

    begin_install(s, &stream);
    send_part(s, &stream, 0);
    begin_checkpoint(s, 99, "before", NULL, 0);
    send_part(s, &stream, 1);
    settle(s);
    begin_checkpoint(s, 100, "level", NULL, 0);
    send_part(s, &stream, 2);
    settle(s);
    begin_checkpoint(s, 101, "past", NULL, 0);
    send_part(s, &stream, 0);
    send_part(s, &stream, 1);
    settle(s);
    send_part(s, &stream, 3);
    settle(s);
    crash(s);
    expect(s, "INSTALL_CHUNK group=7 index=100 term=3 offset=part1 extra='' OK\n"
              "CHECKPOINT group=7 number=2 index=99 OK\n"
              "INSTALL_CHUNK group=7 index=100 term=3 offset=part2 extra='' OK\n"
              "CHECKPOINT group=7 number=3 index=100 OK\n"
              "INSTALL_CHUNK group=7 index=100 term=3 offset=0 extra='' OK\n"
              "CHECKPOINT group=7 number=4 index=101 OK\n"
              "INSTALL_CHUNK group=7 index=100 term=3 offset=0 extra='' CONFLICT\n"
              "INSTALL_CHUNK group=7 index=100 term=3 offset=0 extra='' CONFLICT\n"
              "INSTALL_CHUNK group=7 index=100 term=3 offset=0 extra='' CONFLICT\n"
              "found checkpoint=4 index=101 term=3 extra='past'\n");
    stream_fini(&stream);
}

static void a_restart_goes_on_where_it_was(void **state)
{
    struct subject *s = *state;
    struct stream stream;

    begin_install(s, &stream);
    for (size_t i = 0; i < PARTS; i++) {
        crash(s);
        send_part(s, &stream, PARTS - 1 - i);
        settle(s);
        crash(s);
        get(s, 0, "old");
        send_part(s, &stream, i);
        settle(s);
    }
    expect(s, "found checkpoint=1 index=10 term=3 extra='old'\n"
              "INSTALL_CHUNK group=7 index=100 term=3 offset=0 extra='' OK\n"
              "found checkpoint=1 index=10 term=3 extra='old'\n"
              "0/old: value='+state' OK\n"
              "INSTALL_CHUNK group=7 index=100 term=3 offset=part1 extra='' OK\n"
              "found checkpoint=1 index=10 term=3 extra='old'\n"
              "INSTALL_CHUNK group=7 index=100 term=3 offset=part1 extra='' OK\n"
              "found checkpoint=1 index=10 term=3 extra='old'\n"
              "0/old: value='+state' OK\n"
              "INSTALL_CHUNK group=7 index=100 term=3 offset=part2 extra='' OK\n"
              "found checkpoint=1 index=10 term=3 extra='old'\n"
              "INSTALL_CHUNK group=7 index=100 term=3 offset=part2 extra='' OK\n"
              "found checkpoint=1 index=10 term=3 extra='old'\n"
              "0/old: value='+state' OK\n"
              "INSTALL_CHUNK group=7 index=100 term=3 offset=part3 extra='' OK\n"
              "found checkpoint=1 index=10 term=3 extra='old'\n"
              "INSTALL_CHUNK group=7 index=100 term=3 offset=part3 extra='' OK\n"
              "found checkpoint=1 index=10 term=3 extra='old'\n"
              "0/old: value='+state' OK\n"
              "INSTALLED group=7 index=100 term=3 offset=end extra='sent' OK\n");
    stream_fini(&stream);
}

/* Nothing is kept of a stream that is damaged, and the state is as before. */
static void a_damaged_stream_is_refused(void **state)
{
    struct subject *s = *state;
    struct stream stream;
    uint8_t *last;

    begin_install(s, &stream);
    send_part(s, &stream, 0);
    send_part(s, &stream, 1);
    send_part(s, &stream, 2);
    settle(s);
    last = &stream.parts[3].data[stream.parts[3].len - 1];
    *last ^= 0x10;
    send_part(s, &stream, 3);
    settle(s);
    *last ^= 0x10;
    send_part(s, &stream, 3); /* from the beginning */
    settle(s);
    note_records(s);
    crash(s);
    expect(s, "INSTALL_CHUNK group=7 index=100 term=3 offset=part1 extra='' OK\n"
              "INSTALL_CHUNK group=7 index=100 term=3 offset=part2 extra='' OK\n"
              "INSTALL_CHUNK group=7 index=100 term=3 offset=part3 extra='' OK\n"
              "INSTALLED group=7 index=100 term=3 offset=0 extra='' CORRUPT\n"
              "INSTALL_CHUNK group=7 index=100 term=3 offset=0 extra='' OK\n" OLD_RECORDS
              "found checkpoint=1 index=10 term=3 extra='old'\n");
    /* One that ends too early. */
    send_part(s, &stream, 0);
    install(s, 100, 3, stream.offsets[1], buf_slice(&stream.parts[1]), true);
    send_part(s, &stream, 2);
    settle(s);
    /* One with nothing in it, begun and whole. */
    install(s, 100, 3, 0, slice_of(NULL, 0), false);
    install(s, 100, 3, 0, slice_of(NULL, 0), true);
    expect(s, "INSTALL_CHUNK group=7 index=100 term=3 offset=part1 extra='' OK\n"
              "INSTALLED group=7 index=100 term=3 offset=0 extra='' CORRUPT\n"
              "INSTALL_CHUNK group=7 index=100 term=3 offset=0 extra='' OK\n"
              "INSTALL_CHUNK group=7 index=100 term=3 offset=0 extra='' CORRUPT\n"
              "INSTALLED group=7 index=100 term=3 offset=0 extra='' CORRUPT\n");
    expect_taken(s, &stream);
    stream_fini(&stream);
}

/* Wherever a bit flips: it is noticed at the end if not before. */
static void a_bit_that_flips_anywhere_is_noticed(void **state)
{
    struct subject *s = *state;
    struct stream stream;
    struct rng rng;

    begin_install(s, &stream);
    rng_init(&rng, 5);
    for (int round = 0; round < 60; round++) {
        size_t victim = rng_below(&rng, PARTS);
        uint8_t *byte = &stream.parts[victim].data[rng_below(&rng, stream.parts[victim].len)];
        uint8_t bit = (uint8_t)(1u << rng_below(&rng, 8));

        *byte ^= bit;
        for (size_t i = 0; i < PARTS; i++) {
            send_part(s, &stream, i);
        }
        *byte ^= bit;
        settle(s);
        buf_put_u8(&s->said, 0);
        assert_non_null(strstr((const char *)s->said.data, "CORRUPT"));
        buf_clear(&s->said);
        note_records(s);
        expect(s, OLD_RECORDS);
    }
    stream_fini(&stream);
}

/* A stream says what it is of. */
static void a_stream_under_another_name_is_refused(void **state)
{
    struct subject *s = *state;
    struct stream stream;
    const struct {
        raft_index index;
        raft_term term;
    } names[] = {{101, 3}, {100, 2}, {100, 4}, {99, 3}};

    begin_install(s, &stream);
    for (size_t n = 0; n < 4; n++) {
        for (size_t i = 0; i < PARTS; i++) {
            install(s, names[n].index, names[n].term, stream.offsets[i],
                    buf_slice(&stream.parts[i]), i + 1 == PARTS);
        }
        settle(s);
        buf_put_u8(&s->said, 0);
        assert_non_null(strstr((const char *)s->said.data, "CORRUPT"));
        buf_clear(&s->said);
        note_records(s);
        expect(s, OLD_RECORDS);
    }
    stream_fini(&stream);
}

/* What there is of it stays, and the chunk that found no space is sent again; also the last. */
static void a_chunk_that_finds_no_space_can_be_repeated(void **state)
{
    struct subject *s = *state;
    struct stream stream;

    begin_install(s, &stream);
    fill_disk(s, true);
    send_part(s, &stream, 1); /* nothing is written for that */
    send_part(s, &stream, 0);
    settle(s);
    fill_disk(s, false);
    send_part(s, &stream, 0);
    send_part(s, &stream, 1);
    send_part(s, &stream, 2);
    settle(s);
    fill_disk(s, true);
    send_part(s, &stream, 2);
    send_part(s, &stream, 3);
    settle(s);
    note_records(s);
    expect(s,
           "INSTALL_CHUNK group=7 index=100 term=3 offset=0 extra='' OK\n"
           "INSTALL_CHUNK group=7 index=100 term=3 offset=0 extra='' NO_SPACE\n"
           "INSTALL_CHUNK group=7 index=100 term=3 offset=part1 extra='' OK\n"
           "INSTALL_CHUNK group=7 index=100 term=3 offset=part2 extra='' OK\n"
           "INSTALL_CHUNK group=7 index=100 term=3 offset=part3 extra='' OK\n"
           "INSTALL_CHUNK group=7 index=100 term=3 offset=part3 extra='' OK\n"
           "INSTALL_CHUNK group=7 index=100 term=3 offset=part3 extra='' NO_SPACE\n" OLD_RECORDS);
    fill_disk(s, false);
    send_part(s, &stream, 3);
    expect(s, "INSTALLED group=7 index=100 term=3 offset=end extra='sent' OK\n");
    stream_fini(&stream);
}

/* A write that fails leaves it open what of the stream is there. */
static void a_chunk_whose_write_fails_takes_its_snapshot_along(void **state)
{
    struct subject *s = *state;
    struct stream stream;

    begin_install(s, &stream);
    send_part(s, &stream, 0);
    settle(s);
    break_disk(s, true);
    send_part(s, &stream, 1);
    settle(s);
    break_disk(s, false);
    send_part(s, &stream, 1);
    send_part(s, &stream, 0);
    send_part(s, &stream, 1);
    send_part(s, &stream, 2);
    settle(s);
    break_disk(s, true);
    send_part(s, &stream, 3);
    settle(s);
    break_disk(s, false);
    send_part(s, &stream, 3);
    settle(s);
    note_records(s);
    expect(s, "INSTALL_CHUNK group=7 index=100 term=3 offset=part1 extra='' OK\n"
              "INSTALL_CHUNK group=7 index=100 term=3 offset=0 extra='' IO\n"
              "INSTALL_CHUNK group=7 index=100 term=3 offset=0 extra='' OK\n"
              "INSTALL_CHUNK group=7 index=100 term=3 offset=part1 extra='' OK\n"
              "INSTALL_CHUNK group=7 index=100 term=3 offset=part2 extra='' OK\n"
              "INSTALL_CHUNK group=7 index=100 term=3 offset=part3 extra='' OK\n"
              "INSTALLED group=7 index=100 term=3 offset=0 extra='' IO\n"
              "INSTALL_CHUNK group=7 index=100 term=3 offset=0 extra='' OK\n" OLD_RECORDS);
    expect_taken(s, &stream);
    stream_fini(&stream);
}

/* One that found no space is of a state that is no more. */
static void an_install_forgets_a_kept_checkpoint(void **state)
{
    struct subject *s = *state;
    struct stream stream;

    begin_install(s, &stream);
    put(s, 0, "old", "newer");
    fill_disk(s, true);
    begin_checkpoint(s, 20, "kept", NULL, 0);
    settle(s);
    fill_disk(s, false);
    for (size_t i = 0; i < PARTS; i++) {
        send_part(s, &stream, i);
    }
    settle(s);
    get(s, 0, "old");
    begin_checkpoint(s, 110, "next", (uint64_t[]){5, 9}, 2);
    settle(s);
    crash(s);
    get(s, 0, "old");
    expect(s, "CHECKPOINT group=7 number=1 index=10 NO_SPACE\n"
              "INSTALL_CHUNK group=7 index=100 term=3 offset=part1 extra='' OK\n"
              "INSTALL_CHUNK group=7 index=100 term=3 offset=part2 extra='' OK\n"
              "INSTALL_CHUNK group=7 index=100 term=3 offset=part3 extra='' OK\n"
              "INSTALLED group=7 index=100 term=3 offset=end extra='sent' OK\n"
              "0/old: value='+' NOT_FOUND\n"
              "CHECKPOINT group=7 number=3 index=110 OK\n"
              "found checkpoint=3 index=110 term=3 extra='next'\n"
              "0/old: value='+' NOT_FOUND\n");
    stream_fini(&stream);
}

static void an_empty_state_can_be_sent(void **state)
{
    struct subject *s = *state;
    struct subject *source = subject_create(s->is_store);
    struct buf data = {0};
    bool done;
    size_t at;

    begin_checkpoint(source, 30, "", NULL, 0);
    settle(source);
    at = open_snapshot(source);
    read_snapshot(source, at, 0, 100000, 9);
    take_event(source, &data, &done);
    assert_true(done);
    expect(source, "CHECKPOINT group=7 number=1 index=30 OK\n"
                   "opened #0 index=30 term=3 extra=''\n"
                   "SNAPSHOT_READ group=7 id=#0 token=9 offset=0 done=1 data=some OK\n");
    name_offset(s, 30, data.len, "end");
    put(s, 0, "old", "state");
    install(s, 30, 3, 0, buf_slice(&data), true);
    settle(s);
    note_records(s);
    crash(s);
    expect(s, "INSTALLED group=7 index=30 term=3 offset=end extra='' OK\n"
              "list 0/1: OK\n"
              "list 4/1: OK\n"
              "list 5/1: OK\n"
              "list 6/1: OK\n"
              "list 9/1: OK\n"
              "found checkpoint=1 index=30 term=3 extra=''\n");
    buf_fini(&data);
    subject_destroy(source);
}

int main(void)
{
    const struct CMUnitTest scripts[] = {
        SCRIPT(a_whole_stream_becomes_the_state),
        SCRIPT(a_chunk_out_of_order_is_told_where_to_go_on),
        SCRIPT(the_first_chunk_of_another_snapshot_begins_anew),
        SCRIPT(a_checkpoint_overtakes_what_is_received),
        SCRIPT(a_restart_goes_on_where_it_was),
        SCRIPT(a_damaged_stream_is_refused),
        SCRIPT(a_bit_that_flips_anywhere_is_noticed),
        SCRIPT(a_stream_under_another_name_is_refused),
        SCRIPT(a_chunk_that_finds_no_space_can_be_repeated),
        SCRIPT(a_chunk_whose_write_fails_takes_its_snapshot_along),
        SCRIPT(an_install_forgets_a_kept_checkpoint),
        SCRIPT(an_empty_state_can_be_sent),
    };

    return run_both(scripts, sizeof(scripts) / sizeof(scripts[0]));
}
