/* The WAL against a model, by seeds: random operations of several groups over a disk that crashes
 * at any step, in recovery too, tears what was not synced, fails writes and syncs, is full, and
 * rots. After every start the log must be the model as it was after some flush: not one before the
 * last that was acknowledged, and nothing that was never written. */
#include "tests/unit/wal_fixture.h"

#define GROUPS         3
#define MAX_LOG        400
#define MAX_CANDIDATES 64

struct model_entry {
    raft_term term;
    uint32_t seed; /* of the data */
    uint32_t len;
};

struct model_group {
    struct raft_hard_state hard_state;
    raft_index begin_index;
    raft_term begin_term;
    uint64_t checkpoint;
    raft_index checkpoint_index;
    size_t n;
    struct model_entry entries[MAX_LOG];
};

struct model {
    struct model_group groups[GROUPS];
};

struct run {
    struct fixture fixture;
    struct rng rng;
    struct model now;         /* everything queued so far */
    struct model *candidates; /* what may be found at the next start */
    size_t n_candidates;
    uint64_t seed;
    uint64_t opens, crashes, refusals;
    uint64_t answered; /* tokens */
    uint64_t waited;   /* turns that ended with something waiting for room */
};

/* ---- The model ---- */

static raft_index model_last(const struct model_group *group)
{
    return group->begin_index + group->n;
}

static raft_term model_term(const struct model_group *group, raft_index index)
{
    return index == group->begin_index ? group->begin_term
                                       : group->entries[index - group->begin_index - 1].term;
}

static void entry_fill(uint8_t *data, uint32_t len, uint32_t seed)
{
    struct rng rng;

    rng_init(&rng, seed);
    for (uint32_t i = 0; i < len; i++) {
        data[i] = (uint8_t)rng_next(&rng);
    }
}

static bool model_entry_equal(const struct model_entry *entry, raft_index index,
                              const struct raft_entry *found)
{
    uint8_t *data;
    bool equal;

    if (found->index != index || found->term != entry->term ||
        blob_slice(found->data).len != entry->len) {
        return false;
    }
    if (entry->len == 0) {
        return found->type == RAFT_ENTRY_NOOP && found->data == NULL;
    }
    data = mem_alloc(entry->len);
    entry_fill(data, entry->len, entry->seed);
    equal = slice_equal(slice_of(data, entry->len), blob_slice(found->data));
    mem_free(data);
    return equal;
}

static bool model_equal(const struct model *model, const struct io_log_content *contents)
{
    for (size_t g = 0; g < GROUPS; g++) {
        const struct model_group *group = &model->groups[g];
        const struct io_log_content *content = &contents[g];

        if (group->hard_state.term != content->hard_state.term ||
            group->hard_state.voted_for != content->hard_state.voted_for ||
            group->begin_index != content->begin_index ||
            group->begin_term != content->begin_term || group->n != content->n_entries ||
            group->checkpoint != content->checkpoint ||
            group->checkpoint_index != content->checkpoint_index) {
            return false;
        }
        for (size_t i = 0; i < group->n; i++) {
            if (!model_entry_equal(&group->entries[i], group->begin_index + 1 + i,
                                   &content->entries[i])) {
                return false;
            }
        }
    }
    return true;
}

static void candidates_add(struct run *run)
{
    ASSERT(run->n_candidates < MAX_CANDIDATES);
    run->candidates[run->n_candidates++] = run->now;
}

/* ---- Operations ---- */

static uint32_t random_length(struct rng *rng)
{
    switch (rng_below(rng, 20)) {
    case 0:
        return (uint32_t)rng_between(rng, 1000, 6000);
    case 1:
        return rng_below(rng, 4) == 0 ? (uint32_t)rng_between(rng, 15000, 40000) : 100;
    case 2:
        return 0;
    default:
        return (uint32_t)rng_between(rng, 1, 300);
    }
}

/* Fills a write with a new hard state, entries, or both. */
static void random_write(struct run *run, struct model_group *group, struct io_log_write *write,
                         struct raft_entry *entries)
{
    if (rng_below(&run->rng, 3) == 0) {
        group->hard_state.term += rng_below(&run->rng, 2) + 1;
        group->hard_state.voted_for = (raft_id)rng_below(&run->rng, 4);
        write->has_hard_state = true;
        write->hard_state = group->hard_state;
    }
    if (rng_below(&run->rng, 5) == 0 || group->n > MAX_LOG - 10) {
        return;
    }
    if (rng_below(&run->rng, 6) == 0) { /* overwrites what another leader left */
        group->n -= (size_t)rng_below(&run->rng, group->n + 1);
    }
    write->n_entries = (size_t)rng_between(&run->rng, 1, 5);
    write->entries = entries;
    for (size_t i = 0; i < write->n_entries; i++) {
        struct model_entry *entry = &group->entries[group->n++];
        entry->term = group->hard_state.term;
        entry->seed = (uint32_t)rng_next(&run->rng);
        entry->len = random_length(&run->rng);
        entries[i] = (struct raft_entry){.index = model_last(group), .term = entry->term};
        entries[i].type = entry->len == 0 ? RAFT_ENTRY_NOOP : RAFT_ENTRY_COMMAND;
        if (entry->len > 0) {
            entries[i].data = blob_create_uninitialized(entry->len);
            entry_fill(entries[i].data->data, entry->len, entry->seed);
        }
    }
}

static void random_operation(struct run *run)
{
    struct io_log *log = wal_io(run->fixture.wal);
    group_id id = (group_id)rng_below(&run->rng, GROUPS);
    struct model_group *group = &run->now.groups[id];
    struct raft_entry entries[8];
    struct io_log_write write = {.group = id};
    uint64_t what = rng_below(&run->rng, 20);

    if (what == 0 || (what < 4 && group->n > MAX_LOG / 2)) {
        size_t drop = (size_t)rng_below(&run->rng, group->n + 1);
        raft_index index = group->begin_index + drop;
        raft_term term = model_term(group, index);
        group->n -= drop;
        memmove(group->entries, group->entries + drop, group->n * sizeof(group->entries[0]));
        if (drop > 0) {
            group->begin_index = index;
            group->begin_term = term;
        }
        log->ops->compact(log, id, index, term);
    } else if (what == 4) {
        group->checkpoint++;
        group->checkpoint_index = model_last(group);
        log->ops->checkpoint(log, id, group->checkpoint, group->checkpoint_index);
    } else if (what == 5 && rng_below(&run->rng, 4) == 0) {
        group->begin_index += rng_below(&run->rng, group->n + 20);
        group->begin_term = group->hard_state.term;
        group->n = 0;
        write.token = ++run->fixture.next_token;
        random_write(run, group, &write, entries);
        log->ops->reset(log, group->begin_index, group->begin_term, &write);
    } else {
        write.token = ++run->fixture.next_token;
        random_write(run, group, &write, entries);
        log->ops->write(log, &write);
    }
    for (size_t i = 0; i < write.n_entries; i++) {
        blob_unref(&entries[i].data);
    }
}

/* ---- Starting ---- */

/* Whatever the log holds must be one of the candidates, and is the truth from now on. */
static void run_compare(struct run *run)
{
    struct io_log_content contents[GROUPS];
    size_t match = MAX_CANDIDATES;

    for (group_id g = 0; g < GROUPS; g++) {
        wal_content(run->fixture.wal, g, &contents[g]);
    }
    for (size_t i = 0; i < run->n_candidates && match == MAX_CANDIDATES; i++) {
        match = model_equal(&run->candidates[i], contents) ? i : MAX_CANDIDATES;
    }
    for (size_t g = 0; g < GROUPS; g++) {
        content_fini(&contents[g]);
    }
    if (match == MAX_CANDIDATES) {
        fail_msg("seed %llu: the log is none of the %zu states it may be in",
                 (unsigned long long)run->seed, run->n_candidates);
    }
    run->now = run->candidates[match];
    run->n_candidates = 0;
    candidates_add(run);
}

static void run_crash(struct run *run)
{
    fixture_die(&run->fixture);
    run->crashes++;
    if (rng_below(&run->rng, 2) == 0) {
        faulty_files_kill(&run->fixture.disk);
    } else {
        faulty_files_power_loss(&run->fixture.disk);
    }
}

/* Recovery may crash too, several times over. */
static void run_open(struct run *run)
{
    struct faulty_files *disk = &run->fixture.disk;
    enum status status = ST_IO;

    for (int attempt = 0; status != ST_OK; attempt++) {
        disk->crash_in = attempt < 4 ? rng_below(&run->rng, 30) : 0;
        status = fixture_open(&run->fixture);
        run->opens++;
        if (status == ST_OK) {
            break;
        }
        if (status == ST_NO_SPACE && disk->quota_bytes > 0) {
            disk->quota_bytes = 0;
        } else if (!disk->crashed) {
            fail_msg("seed %llu: refused after a crash: %s: %s", (unsigned long long)run->seed,
                     status_name(status), run->fixture.error);
        }
        run_crash(run);
    }
    disk->crash_in = 0;
    disk->quota_bytes = 0;
    run_compare(run);
}

/* ---- Running ---- */

static void run_arm_faults(struct run *run)
{
    struct faulty_files *disk = &run->fixture.disk;
    enum faulty_op op = rng_below(&run->rng, 2) == 0 ? FAULTY_SYNC : FAULTY_WRITE;

    switch (rng_below(&run->rng, 5)) {
    case 4: /* a full disk, soon */
        disk->quota_bytes = rng_between(&run->rng, 1, 12) * FIXTURE_SEGMENT;
        break;
    case 0:
        disk->crash_in = rng_between(&run->rng, 1, 60);
        break;
    case 1:
        disk->fail_in[op] = rng_between(&run->rng, 1, 40);
        disk->fail_errno[op] = 5 /* EIO */;
        disk->short_write = rng_below(&run->rng, 2) == 0;
        break;
    default:
        break;
    }
}

/* A turn: some operations and a flush. False: the log has failed. */
static bool run_turn(struct run *run)
{
    struct fixture *fixture = &run->fixture;
    size_t n = (size_t)rng_between(&run->rng, 1, 4);
    struct wal_stats stats;
    bool good = true;

    for (size_t i = 0; i < n; i++) {
        random_operation(run);
    }
    wal_flush(fixture->wal);
    for (size_t i = 0; i < fixture->n_delivered; i++) {
        assert_int_equal(fixture->tokens[i], run->answered + 1 + i);
        assert_int_equal(fixture->statuses[i] == ST_OK, fixture->statuses[0] == ST_OK);
        good = good && fixture->statuses[i] == ST_OK;
    }
    run->answered += fixture->n_delivered;
    if (run->answered < fixture->next_token) { /* only a full disk leaves something unanswered */
        wal_statistics(fixture->wal, &stats);
        assert_true(stats.no_room && fixture->disk.quota_bytes > 0 && good);
        run->waited++;
        if (rng_below(&run->rng, 3) == 0) {
            fixture->disk.quota_bytes = 0;
        }
    } else if (good && fixture->n_delivered > 0) {
        run->n_candidates = 0;
    }
    fixture->n_delivered = 0;
    candidates_add(run);
    return good;
}

/* After a failure nothing is ever acknowledged or written again. */
static void run_expect_poison(struct run *run)
{
    uint64_t changes = run->fixture.disk.changes;
    struct model before = run->now;

    for (int i = 0; i < 3; i++) {
        run->fixture.n_delivered = 0;
        fixture_vote(&run->fixture, 0, run->now.groups[0].hard_state.term + 1 + (raft_term)i, 1);
        wal_flush(run->fixture.wal);
        wal_flush(run->fixture.wal); /* idle */
        assert_int_equal(run->fixture.n_delivered, 1);
        assert_int_not_equal(run->fixture.statuses[0], ST_OK);
    }
    run->now = before;
    assert_int_equal(run->fixture.disk.changes, changes);
}

static void run_lifetime(struct run *run)
{
    int turns = (int)rng_between(&run->rng, 1, 40);
    bool good = true;

    run_open(run);
    run_arm_faults(run);
    run->answered = run->fixture.next_token; /* what an earlier life left is forgotten */
    for (int i = 0; i < turns && good && run->n_candidates < MAX_CANDIDATES - 2; i++) {
        good = run_turn(run);
        if (good && rng_below(&run->rng, 4) == 0) {
            wal_flush(run->fixture.wal); /* idle: a sync point */
        }
    }
    if (!good) {
        run_expect_poison(run);
    }
    if (good && rng_below(&run->rng, 3) == 0) {
        wal_close(&run->fixture.wal);
    }
    run_crash(run);
}

static void run_init(struct run *run, uint64_t seed)
{
    memset(run, 0, sizeof(*run));
    run->seed = seed;
    rng_init(&run->rng, seed);
    fixture_block = seed % 4 == 0 ? 0 : seed % 4 == 1 ? 4096 : 512;
    fixture_init(&run->fixture, seed * 31 + 7);
    run->fixture.options.max_recycled = (uint32_t)(seed % 3);
    run->candidates = mem_alloc(MAX_CANDIDATES * sizeof(run->candidates[0]));
    candidates_add(run);
}

static void run_fini(struct run *run)
{
    mem_free(run->candidates);
    fixture_fini(&run->fixture);
}

static void survives_any_crash_and_failure(void **state)
{
    const char *text = getenv("WAL_SEEDS");
    uint64_t seeds = text != NULL ? strtoull(text, NULL, 10) : 600;
    const char *from_text = getenv("WAL_SEED");
    uint64_t from = from_text != NULL ? strtoull(from_text, NULL, 10) : 1;
    uint64_t opens = 0, crashes = 0, waited = 0;
    struct run *run = mem_alloc(sizeof(*run));

    (void)state;
    for (uint64_t seed = from; seed < from + seeds; seed++) {
        run_init(run, seed);
        for (int life = 0; life < 8; life++) {
            run_lifetime(run);
        }
        opens += run->opens;
        crashes += run->crashes;
        waited += run->waited;
        run_fini(run);
    }
    print_message("seeds=%llu opens=%llu crashes=%llu waited=%llu\n", (unsigned long long)seeds,
                  (unsigned long long)opens, (unsigned long long)crashes,
                  (unsigned long long)waited);
    mem_free(run);
}

/* ---- Rot ---- */

/* A flipped bit anywhere in a log whose end is proven: it is refused, by file and offset, or it hit
 * a byte that says nothing. It never changes what the log holds. */
static void run_rot(struct run *run)
{
    struct faulty_files *disk = &run->fixture.disk;
    size_t files = faulty_files_count(disk, ".wal");
    const char *name = faulty_files_name(disk, ".wal", (size_t)rng_below(&run->rng, files));
    uint8_t bits = (uint8_t)(1u << rng_below(&run->rng, 8));
    size_t len, offset;
    enum status status;

    faulty_files_bytes(disk, name, &len);
    offset = (size_t)rng_below(&run->rng, rng_below(&run->rng, 3) == 0 ? 256 : len);
    faulty_files_flip(disk, name, offset, bits);
    status = fixture_open(&run->fixture);
    run->opens++;
    if (status == ST_OK) {
        run_compare(run);
        fixture_die(&run->fixture);
        faulty_files_kill(disk);
        return;
    }
    run->refusals++;
    assert_int_equal(status, ST_CORRUPT);
    assert_non_null(strstr(run->fixture.error, ".wal at offset "));
    faulty_files_flip(disk, name, offset, bits); /* nothing was changed by the refusal */
}

static void rot_is_refused_or_harmless(void **state)
{
    uint64_t opens = 0, refusals = 0;
    struct run *run = mem_alloc(sizeof(*run));

    (void)state;
    for (uint64_t seed = 1; seed <= 300; seed++) {
        run_init(run, seed);
        fixture_must_open(&run->fixture);
        for (int i = 0; i < 60; i++) {
            run_turn(run);
        }
        if (seed % 2 == 0) {
            wal_close(&run->fixture.wal);
        } else {
            wal_flush(run->fixture.wal);
        }
        run->candidates[0] = run->now;
        run->n_candidates = 1;
        fixture_power_loss(&run->fixture);
        for (int i = 0; i < 20; i++) {
            run_rot(run);
        }
        fixture_must_open(&run->fixture);
        run_compare(run);
        opens += run->opens;
        refusals += run->refusals;
        run_fini(run);
    }
    print_message("opens=%llu refused=%llu\n", (unsigned long long)opens,
                  (unsigned long long)refusals);
    assert_true(refusals > opens / 10);
    mem_free(run);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(survives_any_crash_and_failure),
        cmocka_unit_test(rot_is_refused_or_harmless),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
