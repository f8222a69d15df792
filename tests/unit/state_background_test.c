/* What the background thread does besides the jobs: it has LevelDB begin its log file anew, and it
 * deletes dropped ranges. The tests stand between the store and LevelDB, to hold it up or to have
 * it meet damage at the moment that matters. */
#include <dlfcn.h>
#include <leveldb/c.h>

#include "tests/unit/state_kit.h"

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;

/* Under the lock. */
static bool held;           /* compactions wait */
static int n_begun, n_over; /* compactions */
static bool damage;         /* the next iteration of the background thread ends with damage, */
static bool met;            /* which it did, */
static bool go_on;          /* and waits for this */
static int writes_left;     /* of the background thread, before they all meet damage; -1: no end */
static pthread_t loop;

static void set(bool *flag, bool to)
{
    pthread_mutex_lock(&lock);
    *flag = to;
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&lock);
}

/* Waits until the flag is so; false: it never was. */
static bool await(const bool *flag, bool so)
{
    struct timespec until;
    bool is;

    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += KIT_PATIENCE_S;
    pthread_mutex_lock(&lock);
    while (*flag != so && pthread_cond_timedwait(&changed, &lock, &until) == 0) {
    }
    is = *flag == so;
    pthread_mutex_unlock(&lock);
    return is;
}

/* How many there were, once there are so many. */
static int compactions_begun(int at_least)
{
    int n = 0;

    for (int i = 0; i < KIT_PATIENCE_S * 1000; i++) {
        pthread_mutex_lock(&lock);
        n = n_begun;
        pthread_mutex_unlock(&lock);
        if (n >= at_least) {
            break;
        }
        usleep(1000);
    }
    return n;
}

/* These stand before libleveldb's. */
void leveldb_compact_range(leveldb_t *db, const char *from, size_t from_len, const char *to,
                           size_t to_len)
{
    void (*real)(leveldb_t *, const char *, size_t, const char *, size_t);

    *(void **)&real = dlsym(RTLD_NEXT, "leveldb_compact_range");
    pthread_mutex_lock(&lock);
    n_begun++;
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&lock);
    await(&held, false);
    real(db, from, from_len, to, to_len);
    pthread_mutex_lock(&lock);
    n_over++;
    pthread_mutex_unlock(&lock);
}

void leveldb_iter_get_error(const leveldb_iterator_t *iter, char **error)
{
    void (*real)(const leveldb_iterator_t *, char **);
    bool meets;

    pthread_mutex_lock(&lock);
    meets = damage && !pthread_equal(pthread_self(), loop);
    damage = damage && !meets;
    pthread_mutex_unlock(&lock);
    if (meets) {
        set(&met, true);
        await(&go_on, true);
        *error = strdup("Corruption: made up by the test");
        return;
    }
    *(void **)&real = dlsym(RTLD_NEXT, "leveldb_iter_get_error");
    real(iter, error);
}

void leveldb_write(leveldb_t *db, const leveldb_writeoptions_t *options,
                   leveldb_writebatch_t *batch, char **error)
{
    void (*real)(leveldb_t *, const leveldb_writeoptions_t *, leveldb_writebatch_t *, char **);
    bool meets;

    pthread_mutex_lock(&lock);
    meets = writes_left == 0 && !pthread_equal(pthread_self(), loop);
    writes_left -= writes_left > 0;
    pthread_mutex_unlock(&lock);
    if (meets) {
        *error = strdup("Corruption: made up by the test");
        set(&met, true);
        return;
    }
    *(void **)&real = dlsym(RTLD_NEXT, "leveldb_write");
    real(db, options, batch, error);
}

static int begin(void **state)
{
    (void)state;
    writes_left = -1;
    held = damage = met = go_on = false;
    n_begun = n_over = 0;
    loop = pthread_self();
    return 0;
}

/* ---- LevelDB's log file begins anew ---- */

/* A compaction takes as long as it takes, one at a time in LevelDB. Checkpoints go on, as long as
 * the chain of their numbers covers what is in LevelDB's log file. */
static void a_checkpoint_does_not_wait_for_a_compaction(void **state)
{
    raft_index index = 1;
    struct kit kit;

    (void)state;
    kit_init(&kit);
    kit_open(&kit);
    set(&held, true);
    for (; index <= 59; index++) {
        kit_checkpoint(&kit, index, NULL, 0);
    }
    assert_int_equal(compactions_begun(1), 1);
    kit_begin_checkpoint(&kit, index++, 3, "x", NULL, 0);
    kit_free_event(&(struct kit_event *){kit_wait(&kit, IO_EVENT_CHECKPOINT)});
    kit_begin_checkpoint(&kit, index++, 3, "x", NULL, 0); /* one too many */
    usleep(50000);
    assert_false(kit_pump(&kit, 0));
    set(&held, false);
    kit_free_event(&(struct kit_event *){kit_wait(&kit, IO_EVENT_CHECKPOINT)});
    for (; index <= 200; index++) {
        kit_checkpoint(&kit, index, NULL, 0);
    }
    assert_true(compactions_begun(3) >= 3); /* at least one in 60 checkpoints */
    kit_close(&kit);
    assert_int_equal(n_over, n_begun);
    assert_int_equal(kit_try_open(&kit, 200, 200), ST_OK);
    kit_fini(&kit);
}

/* ---- Damage met by a deletion ---- */

static void keep_line(void *context, enum trace_level level, const char *line)
{
    char *kept = context;

    (void)level;
    if (strstr(line, "made up by the test") != NULL) {
        snprintf(kept, STORE_ERROR_BYTES, "%s", line);
    }
}

static bool range_shows(struct kit *kit, uint64_t range)
{
    struct io_iter *iter = kit->io->ops->iter_open(kit->io, kit_key(range, 1, ""));
    struct slice key, value;
    bool any = kit->io->ops->iter_next(iter, &key, &value);

    assert_int_equal(kit->io->ops->iter_close(iter), ST_OK);
    return any;
}

/* The range is left alone, the next ones go; and where the damage is, is said: LevelDB's own words
 * are all that whoever meets it later gets. A snapshot is taken at that very moment, for which
 * deletions would have to be repeated. */
static void damage_in_a_dropped_range_is_told_and_stops_nothing(void **state)
{
    char line[STORE_ERROR_BYTES] = "";
    struct io_snapshot snapshot;
    struct kit kit;

    (void)state;
    kit_init(&kit);
    kit.trace = (struct trace){TRACE_WARN, line, keep_line};
    kit_open(&kit);
    kit_put(&kit, 4, "key", "value");
    kit_put(&kit, 6, "key", "value");
    kit_checkpoint(&kit, 10, (uint64_t[]){4, 5, 6}, 3); /* nothing is in 5 */
    for (uint64_t range = 4; range <= 6; range++) {
        kit.io->ops->drop_range(kit.io, range);
    }
    set(&damage, true);
    kit_checkpoint(&kit, 20, NULL, 0);
    assert_true(await(&met, true));
    kit.io->ops->snapshot_open(kit.io, &snapshot);
    set(&go_on, true);
    for (int i = 0; line[0] == '\0'; i++) {
        assert_true(i < KIT_PATIENCE_S * 1000);
        kit_pump(&kit, 0);
        usleep(1000);
    }
    assert_non_null(strstr(line, "db-1"));
    kit.io->ops->snapshot_close(kit.io, snapshot.id);
    for (int i = 0; range_shows(&kit, 6); i++) {
        assert_true(i < KIT_PATIENCE_S * 1000);
        kit_pump(&kit, 0);
        usleep(1000);
    }
    assert_true(range_shows(&kit, 4));
    kit_checkpoint(&kit, 30, NULL, 0);
    kit_fini(&kit);
}

/* Then nothing can be written any more. A replica that needs a snapshot must stop and say so: it
 * would ask for the same chunk for ever. */
static void after_damage_while_deleting_a_snapshot_is_not_waited_for(void **state)
{
    struct kit_event *event;
    struct kit kit;

    (void)state;
    kit_init(&kit);
    kit_open(&kit);
    kit_put(&kit, 4, "key", "value");
    kit_checkpoint(&kit, 10, (uint64_t[]){4}, 1);
    kit.io->ops->drop_range(kit.io, 4);
    set(&met, false);
    pthread_mutex_lock(&lock);
    writes_left = 1; /* the checkpoint's */
    pthread_mutex_unlock(&lock);
    kit_checkpoint(&kit, 20, NULL, 0);
    assert_true(await(&met, true));
    kit.io->ops->install_chunk(kit.io, 100, 3, 0, slice_text("any"), false);
    event = kit_wait(&kit, IO_EVENT_INSTALL_CHUNK);
    assert_int_equal(event->event.install.status, ST_IO);
    assert_int_equal(event->event.install.offset, 0);
    kit_free_event(&event);
    kit_fini(&kit);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(a_checkpoint_does_not_wait_for_a_compaction, begin),
        cmocka_unit_test_setup(damage_in_a_dropped_range_is_told_and_stops_nothing, begin),
        cmocka_unit_test_setup(after_damage_while_deleting_a_snapshot_is_not_waited_for, begin),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
