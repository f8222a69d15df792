/* The state store against a model, an ordered array: random puts, removes, gets and iterations at
 * any moment while checkpoints run, snapshots read meanwhile, and crashes, after each of which the
 * state must be that of the last finished checkpoint. */
#include "tests/unit/state_kit.h"

#define SEEDS  60
#define STEPS  400
#define RANGES 4
#define KINDS  2

struct story {
    struct kit kit;
    struct rng rng;
    struct model now;
    struct model durable;  /* at the last checkpoint that is known to be finished */
    struct model underway; /* at the one in flight */
    bool in_flight;
    raft_index index, durable_index, underway_index;
    uint64_t number;
    uint64_t snapshot; /* open; 0: none */
    struct model frozen;
};

static struct io_key story_key(struct story *story, uint8_t bytes[MODEL_KEY])
{
    size_t len = rng_below(&story->rng, 4);
    struct io_key key = {rng_below(&story->rng, RANGES), (uint8_t)rng_below(&story->rng, KINDS),
                         slice_of(bytes, len)};

    for (size_t i = 0; i < len; i++) {
        const uint8_t alphabet[] = {0, 'a', 'b', 0xff};

        bytes[i] = alphabet[rng_below(&story->rng, sizeof(alphabet))];
    }
    if (key.kind == 1) {
        key.kind = 0xff; /* the bounds of the key space count */
    }
    return key;
}

static void story_write(struct story *story)
{
    struct io_state *io = story->kit.io;
    uint8_t bytes[MODEL_KEY];
    struct io_key key = story_key(story, bytes);
    uint8_t value[MODEL_VALUE];
    size_t len = rng_below(&story->rng, sizeof(value));

    story->index++;
    if (rng_below(&story->rng, 3) == 0) {
        io->ops->remove(io, key);
        model_remove(&story->now, key);
        return;
    }
    for (size_t i = 0; i < len; i++) {
        value[i] = (uint8_t)rng_next(&story->rng);
    }
    io->ops->put(io, key, slice_of(value, len));
    model_put(&story->now, key, slice_of(value, len));
}

static void story_get(struct story *story)
{
    uint8_t bytes[MODEL_KEY];
    struct io_key key = story_key(story, bytes);
    const struct model_item *item = model_find(&story->now, key);
    struct buf value = {0};
    enum status status;

    buf_put_u8(&value, 'x'); /* get appends */
    status = story->kit.io->ops->get(story->kit.io, key, &value);
    assert_int_equal(status, item == NULL ? ST_NOT_FOUND : ST_OK);
    assert_int_equal(value.data[0], 'x');
    assert_int_equal(value.len, item == NULL ? 1 : item->value_len + 1u);
    if (item != NULL) {
        assert_memory_equal(value.data + 1, item->value, item->value_len);
    }
    buf_fini(&value);
}

static void story_take_checkpoint(struct story *story, const struct kit_event *event)
{
    assert_int_equal(event->event.type, IO_EVENT_CHECKPOINT);
    assert_int_equal(event->event.checkpoint.status, ST_OK);
    assert_int_equal(event->event.checkpoint.index, story->underway_index);
    assert_int_equal(event->event.checkpoint.number, story->number + 1);
    assert_true(story->in_flight);
    story->in_flight = false;
    story->number++;
    story->durable = story->underway;
    story->durable_index = story->underway_index;
}

static void story_checkpoint(struct story *story)
{
    const uint64_t ranges[] = {1, 2, 3};

    if (story->in_flight) {
        struct kit_event *event = kit_wait(&story->kit, IO_EVENT_CHECKPOINT);

        story_take_checkpoint(story, event);
        kit_free_event(&event);
        return;
    }
    story->in_flight = true;
    story->underway = story->now;
    story->underway_index = ++story->index;
    kit_begin_checkpoint(&story->kit, story->index, 2, "extra", ranges, 3);
    assert_true(story->kit.io->ops->dirty_bytes(story->kit.io) == 0);
}

/* One turn of the mailbox, if there is something in it. */
static void story_pump(struct story *story)
{
    struct kit_event *event;

    kit_pump(&story->kit, 0);
    event = kit_take_event(&story->kit);
    if (event != NULL) {
        story_take_checkpoint(story, event);
        kit_free_event(&event);
    }
}

/* The open snapshot must show what it showed when it was opened, whatever came after. */
static void story_read_snapshot(struct story *story)
{
    size_t at = 0, max_bytes = rng_between(&story->rng, 1, 2000);
    uint64_t offset = 0;
    bool done = false;

    if (story->in_flight) {
        story_checkpoint(story); /* waits for it: its event would come in between */
    }
    while (!done) {
        struct kit_event *event = kit_read_chunk(&story->kit, story->snapshot, offset, max_bytes);
        struct reader reader = reader_of(event->event.snapshot.data);

        assert_int_equal(event->event.snapshot.status, ST_OK);
        assert_int_equal(event->event.snapshot.offset, offset);
        if (offset == 0) {
            reader_take(&reader, 4 + 2 + 2 + 4 + 8 + 8 + 4 + 3 * 8);
            assert_true(slice_equal(reader_bytes(&reader, 100), slice_text("extra")));
        }
        while (reader_left(&reader) > 0 && reader_u8(&reader) == 1) {
            const struct model_item *item = &story->frozen.items[at++];
            struct slice key, value;

            assert_true(at <= story->frozen.n);
            assert_int_equal(reader_u64(&reader), item->range);
            assert_int_equal(reader_u8(&reader), item->kind);
            key = reader_bytes(&reader, MODEL_KEY);
            value = reader_bytes(&reader, MODEL_VALUE);
            assert_true(slice_equal(key, slice_of(item->key, item->key_len)));
            assert_true(slice_equal(value, slice_of(item->value, item->value_len)));
        }
        offset += event->event.snapshot.data.len;
        done = event->event.snapshot.done;
        kit_free_event(&event);
    }
    assert_int_equal(at, story->frozen.n);
    story->kit.io->ops->snapshot_close(story->kit.io, story->snapshot);
    story->snapshot = 0;
}

static void story_snapshot(struct story *story)
{
    struct io_snapshot snapshot;

    if (story->snapshot != 0) {
        story_read_snapshot(story);
        return;
    }
    story->kit.io->ops->snapshot_open(story->kit.io, &snapshot);
    assert_int_equal(snapshot.index, story->durable_index);
    story->snapshot = snapshot.index == 0 ? 0 : snapshot.id;
    story->frozen = story->durable;
}

static void story_iterate(struct story *story)
{
    uint8_t bytes[MODEL_KEY];

    model_expect_iteration(&story->now, story->kit.io, story_key(story, bytes));
}

/* Power goes: what is found is the last finished checkpoint, or the one in flight. */
static void story_crash(struct story *story)
{
    const struct model *expected = &story->durable;

    kit_close(&story->kit);
    assert_int_equal(kit_try_open(&story->kit, story->number, story->durable_index), ST_OK);
    if (story->in_flight && story->kit.meta.index == story->underway_index) {
        expected = &story->underway;
        story->number++;
    }
    story->now = *expected;
    story->durable = story->now;
    story->in_flight = false;
    story->snapshot = 0;
    if (expected == &story->underway) {
        story->durable_index = story->underway_index;
    }
    assert_int_equal(story->kit.meta.index, story->durable_index);
    assert_int_equal(story->kit.meta.checkpoint, story->number);
    story->index = story->durable_index;
    for (uint64_t range = 0; range < RANGES; range++) {
        model_expect_iteration(&story->now, story->kit.io, (struct io_key){range, 0, {0}});
        model_expect_iteration(&story->now, story->kit.io, (struct io_key){range, 0xff, {0}});
    }
}

static void story_run(uint64_t seed)
{
    struct story *story = mem_zalloc(sizeof(*story));

    kit_init(&story->kit);
    rng_init(&story->rng, seed);
    kit_open(&story->kit);
    for (int step = 0; step < STEPS; step++) {
        uint64_t dice = rng_below(&story->rng, 100);

        if (dice < 45) {
            story_write(story);
        } else if (dice < 65) {
            story_get(story);
        } else if (dice < 75) {
            story_iterate(story);
        } else if (dice < 85) {
            story_pump(story);
        } else if (dice < 93) {
            story_checkpoint(story);
        } else if (dice < 98) {
            story_snapshot(story);
        } else {
            story_crash(story);
        }
    }
    kit_fini(&story->kit);
    mem_free(story);
}

static void equals_an_ordered_array_whatever_happens(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        story_run(seed);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(equals_an_ordered_array_whatever_happens),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
