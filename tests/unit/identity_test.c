/* The data directory: whose it is, its lock, and what is refused. */
#include <fcntl.h>
#include <sys/stat.h>

#include "raft/util/crc32c.h"
#include "tests/unit/state_kit.h"

struct place {
    char root[64];
    char path[80];
    char error[STORE_ERROR_BYTES];
};

static void place_init(struct place *place)
{
    *place = (struct place){0};
    kit_make_dir(place->root);
    snprintf(place->path, sizeof(place->path), "%s/data", place->root);
}

static void place_fini(struct place *place)
{
    kit_remove_tree(place->root);
}

static struct identity wanted(uint32_t gid, uint32_t id)
{
    return (struct identity){
        .gid = gid, .id = id, .incarnation = 0xfeed, .spec_fingerprint = 0xbeef};
}

static enum status open_as(struct place *place, uint32_t gid, uint32_t id, struct store_dir **dir,
                           struct identity *found)
{
    const struct identity self = wanted(gid, id);

    return store_dir_open(place->path, &self, dir, found, place->error);
}

static void make_file(const struct place *place, const char *name, const void *data, size_t len)
{
    char path[160];
    int fd;

    snprintf(path, sizeof(path), "%s/%s", place->path, name);
    fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, data, len), (ssize_t)len);
    close(fd);
}

static size_t read_meta(const struct place *place, uint8_t *bytes, size_t max)
{
    char path[160];
    ssize_t len;
    int fd;

    snprintf(path, sizeof(path), "%s/META", place->path);
    fd = open(path, O_RDONLY);
    assert_true(fd >= 0);
    len = read(fd, bytes, max);
    close(fd);
    assert_true(len > 0);
    return (size_t)len;
}

static unsigned mode_of(const struct place *place, const char *name)
{
    char path[160];
    struct stat found;

    snprintf(path, sizeof(path), "%s/%s", place->path, name);
    assert_int_equal(stat(path, &found), 0);
    return found.st_mode & 0777;
}

static void the_first_start_makes_it_and_later_ones_find_it(void **state)
{
    struct place place;
    struct store_dir *dir;
    struct identity found;

    (void)state;
    place_init(&place);
    assert_int_equal(open_as(&place, 5, 2, &dir, &found), ST_OK);
    assert_int_equal(found.incarnation, 0xfeed);
    assert_int_equal(mode_of(&place, "."), 0700);
    assert_int_equal(mode_of(&place, "META"), 0600);
    found.peer_incarnations[1] = 77;
    found.peer_incarnations[255] = 78;
    found.cluster_id[15] = 9;
    assert_int_equal(store_dir_save(dir, &found, place.error), ST_OK);
    store_dir_close(&dir);
    assert_null(dir);

    memset(&found, 0xff, sizeof(found));
    assert_int_equal(open_as(&place, 5, 2, &dir, &found), ST_OK);
    assert_int_equal(found.gid, 5);
    assert_int_equal(found.id, 2);
    assert_int_equal(found.incarnation, 0xfeed);
    assert_int_equal(found.spec_fingerprint, 0xbeef);
    assert_int_equal(found.peer_incarnations[0], 0);
    assert_int_equal(found.peer_incarnations[1], 77);
    assert_int_equal(found.peer_incarnations[255], 78);
    assert_int_equal(found.cluster_id[15], 9);
    store_dir_close(&dir);
    place_fini(&place);
}

static void two_processes_cannot_have_it_at_once(void **state)
{
    struct place place;
    struct store_dir *dir, *second;
    struct identity found;

    (void)state;
    place_init(&place);
    assert_int_equal(open_as(&place, 5, 2, &dir, &found), ST_OK);
    assert_int_equal(open_as(&place, 5, 2, &second, &found), ST_IN_USE);
    assert_null(second);
    assert_non_null(strstr(place.error, place.path));
    store_dir_close(&dir);
    assert_int_equal(open_as(&place, 5, 2, &dir, &found), ST_OK);
    store_dir_close(&dir);
    place_fini(&place);
}

static void another_replica_is_refused(void **state)
{
    struct place place;
    struct store_dir *dir;
    struct identity found, other = wanted(5, 2);

    (void)state;
    place_init(&place);
    assert_int_equal(open_as(&place, 5, 2, &dir, &found), ST_OK);
    found.cluster_id[0] = 1;
    assert_int_equal(store_dir_save(dir, &found, place.error), ST_OK);
    store_dir_close(&dir);
    assert_int_equal(open_as(&place, 5, 3, &dir, &found), ST_WRONG_NODE);
    assert_non_null(strstr(place.error, "group 5 replica 2"));
    assert_int_equal(open_as(&place, 6, 2, &dir, &found), ST_WRONG_NODE);
    other.cluster_id[0] = 2;
    assert_int_equal(store_dir_open(place.path, &other, &dir, &found, place.error),
                     ST_WRONG_CLUSTER);
    assert_int_equal(open_as(&place, 5, 2, &dir, &found), ST_OK);
    store_dir_close(&dir);
    place_fini(&place);
}

static void every_flipped_bit_and_every_cut_is_noticed(void **state)
{
    struct place place;
    struct store_dir *dir;
    struct identity found;
    uint8_t meta[256];
    size_t len;

    (void)state;
    place_init(&place);
    assert_int_equal(open_as(&place, 5, 2, &dir, &found), ST_OK);
    found.peer_incarnations[3] = 5;
    assert_int_equal(store_dir_save(dir, &found, place.error), ST_OK);
    store_dir_close(&dir);
    len = read_meta(&place, meta, sizeof(meta));
    for (size_t bit = 0; bit < len * 8; bit++) {
        meta[bit / 8] ^= (uint8_t)(1u << bit % 8);
        make_file(&place, "META", meta, len);
        meta[bit / 8] ^= (uint8_t)(1u << bit % 8);
        assert_int_equal(open_as(&place, 5, 2, &dir, &found), ST_CORRUPT);
        assert_non_null(strstr(place.error, "/META"));
    }
    for (size_t cut = 0; cut < len; cut++) {
        make_file(&place, "META", meta, cut);
        assert_int_equal(open_as(&place, 5, 2, &dir, &found), ST_CORRUPT);
    }
    make_file(&place, "META", meta, len);
    assert_int_equal(open_as(&place, 5, 2, &dir, &found), ST_OK);
    store_dir_close(&dir);
    place_fini(&place);
}

static void a_newer_format_is_told_from_damage(void **state)
{
    /* magic, format 2, a body of 3 bytes that only format 2 understands */
    struct place place;
    struct store_dir *dir;
    struct identity found;
    struct buf meta = {0};
    uint32_t crc;

    (void)state;
    place_init(&place);
    assert_int_equal(open_as(&place, 5, 2, &dir, &found), ST_OK);
    store_dir_close(&dir);
    buf_put_u32(&meta, 0x4d564b53);
    buf_put_u32(&meta, 2);
    buf_put_u32(&meta, 3);
    crc = crc32c(crc32c(0, meta.data, 12), "new", 3);
    buf_put_u32(&meta, crc);
    buf_put(&meta, "new", 3);
    make_file(&place, "META", meta.data, meta.len);
    assert_int_equal(open_as(&place, 5, 2, &dir, &found), ST_VERSION);
    assert_non_null(strstr(place.error, "format 2"));
    buf_fini(&meta);
    place_fini(&place);
}

static void a_directory_of_something_else_is_not_touched(void **state)
{
    struct place place;
    struct store_dir *dir;
    struct identity found;
    char path[160];

    (void)state;
    place_init(&place);
    assert_int_equal(mkdir(place.path, 0755), 0);
    make_file(&place, "thesis.txt", "x", 1);
    assert_int_equal(open_as(&place, 5, 2, &dir, &found), ST_INVALID);
    assert_non_null(strstr(place.error, "thesis.txt"));
    snprintf(path, sizeof(path), "%s/LOCK", place.path);
    assert_int_not_equal(access(path, F_OK), 0);
    snprintf(path, sizeof(path), "%s/META", place.path);
    assert_int_not_equal(access(path, F_OK), 0);
    place_fini(&place);
}

static void data_without_meta_is_damage(void **state)
{
    struct place place;
    struct store_dir *dir;
    struct identity found;
    char path[160];

    (void)state;
    place_init(&place);
    assert_int_equal(open_as(&place, 5, 2, &dir, &found), ST_OK);
    store_dir_close(&dir);
    snprintf(path, sizeof(path), "%s/wal", place.path);
    assert_int_equal(mkdir(path, 0700), 0);
    snprintf(path, sizeof(path), "%s/META", place.path);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(open_as(&place, 5, 2, &dir, &found), ST_CORRUPT);
    place_fini(&place);
}

/* An empty directory, a mount point, and what a first start leaves that was cut short. */
static void a_first_start_that_was_cut_short_begins_again(void **state)
{
    struct place place;
    struct store_dir *dir;
    struct identity found;
    char path[160];

    (void)state;
    place_init(&place);
    assert_int_equal(mkdir(place.path, 0700), 0);
    make_file(&place, "LOCK", "", 0);
    make_file(&place, "META.tmp", "half", 4);
    snprintf(path, sizeof(path), "%s/lost+found", place.path);
    assert_int_equal(mkdir(path, 0700), 0);
    assert_int_equal(open_as(&place, 5, 2, &dir, &found), ST_OK);
    store_dir_close(&dir);
    place_fini(&place);
}

static void what_cannot_be_a_directory_fails_with_its_name(void **state)
{
    struct place place;
    struct store_dir *dir;
    struct identity found;

    (void)state;
    place_init(&place);
    snprintf(place.path, sizeof(place.path), "%s/no/such", place.root);
    assert_int_equal(open_as(&place, 5, 2, &dir, &found), ST_INVALID);
    assert_non_null(strstr(place.error, place.path));
    snprintf(place.path, sizeof(place.path), "%s", place.root);
    make_file(&place, "file", "x", 1);
    snprintf(place.path, sizeof(place.path), "%s/file", place.root);
    assert_int_equal(open_as(&place, 5, 2, &dir, &found), ST_INVALID);
    assert_non_null(strstr(place.error, place.path));
    place_fini(&place);
}

static void free_space_is_told_or_unknown(void **state)
{
    (void)state;
    assert_true(store_free_bytes("/tmp") > 0);
    assert_true(store_free_bytes("/tmp") < UINT64_MAX);
    assert_true(store_free_bytes("/no/such/place") == UINT64_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_first_start_makes_it_and_later_ones_find_it),
        cmocka_unit_test(two_processes_cannot_have_it_at_once),
        cmocka_unit_test(another_replica_is_refused),
        cmocka_unit_test(every_flipped_bit_and_every_cut_is_noticed),
        cmocka_unit_test(a_newer_format_is_told_from_damage),
        cmocka_unit_test(a_directory_of_something_else_is_not_touched),
        cmocka_unit_test(data_without_meta_is_damage),
        cmocka_unit_test(a_first_start_that_was_cut_short_begins_again),
        cmocka_unit_test(what_cannot_be_a_directory_fails_with_its_name),
        cmocka_unit_test(free_space_is_told_or_unknown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
