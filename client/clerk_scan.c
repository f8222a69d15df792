/* A scan: the smallest `limit` keys of all shards that have the prefix and lie above `after`.
 *
 * Keys are spread over the shards by a hash, so every shard may hold the next key. The shards are
 * paged through, a few at a time, each in key order; a heap keeps the smallest records seen so far,
 * at most `limit` of them and at most CLERK_SCAN_BYTES. What falls out of it sets `bound`: no key
 * from there on can be part of the result any more, so a shard is done as soon as its page reaches
 * the bound. Memory is bounded by the result and the pages in flight, whatever the number of
 * shards.
 *
 * A page is an operation of its own: it follows its shard through moves and leader changes, and
 * goes on behind the last key. */
#include "client/clerk_private.h"

#include <stdlib.h>

#include "raft/util/assert.h"
#include "raft/util/mem.h"

#define RECORD_OVERHEAD 64 /* of a kept record beside its bytes */

struct kept {
    struct proto_record record; /* the bytes follow */
    size_t size;
};

struct scan {
    struct operation *operation;
    uint32_t next_shard; /* not begun yet */
    uint32_t n_running;
    struct operation *running[CLERK_SCAN_IN_FLIGHT];
    struct kept **heap; /* the largest key first */
    size_t n, capacity;
    size_t bytes;
    struct kept *bound; /* the smallest record that was dropped; NULL: none */
    bool more;          /* there are keys above the last of the result */
};

/* ---- The smallest records ---- */

static struct kept *kept_create(const struct proto_record *record)
{
    struct kept *kept = mem_alloc(sizeof(*kept) + record->key.len + record->value.len);
    uint8_t *bytes = (uint8_t *)(kept + 1);

    memcpy(bytes, record->key.data, record->key.len);
    kept->record.key = slice_of(bytes, record->key.len);
    kept->record.value = slice_of(bytes + record->key.len, record->value.len);
    if (record->value.len > 0) {
        memcpy(bytes + record->key.len, record->value.data, record->value.len);
    }
    kept->size = sizeof(*kept) + RECORD_OVERHEAD + record->key.len + record->value.len;
    return kept;
}

static bool is_above(const struct kept *a, const struct kept *b)
{
    return slice_compare(a->record.key, b->record.key) > 0;
}

static void heap_push(struct scan *scan, struct kept *kept)
{
    size_t at = scan->n;

    MEM_GROW(scan->heap, scan->capacity, scan->n + 1);
    scan->n++;
    scan->bytes += kept->size;
    for (; at > 0 && is_above(kept, scan->heap[(at - 1) / 2]); at = (at - 1) / 2) {
        scan->heap[at] = scan->heap[(at - 1) / 2];
    }
    scan->heap[at] = kept;
}

static struct kept *heap_pop(struct scan *scan)
{
    struct kept *top = scan->heap[0];
    struct kept *last = scan->heap[--scan->n];
    size_t at = 0;

    for (;;) {
        size_t child = 2 * at + 1;

        if (child + 1 < scan->n && is_above(scan->heap[child + 1], scan->heap[child])) {
            child++;
        }
        if (child >= scan->n || !is_above(scan->heap[child], last)) {
            break;
        }
        scan->heap[at] = scan->heap[child];
        at = child;
    }
    scan->heap[at] = last;
    scan->bytes -= top->size;
    return top;
}

static bool is_beyond_bound(const struct scan *scan, struct slice key)
{
    return scan->bound != NULL && slice_compare(key, scan->bound->record.key) >= 0;
}

/* Takes the record in, and drops the largest if that is too much. False: it is beyond the bound. */
static bool take_record(struct scan *scan, const struct proto_record *record)
{
    if (is_beyond_bound(scan, record->key)) {
        return false;
    }
    heap_push(scan, kept_create(record));
    while (scan->n > scan->operation->limit || (scan->bytes > CLERK_SCAN_BYTES && scan->n > 1)) {
        mem_free(scan->bound);
        scan->bound = heap_pop(scan);
        scan->more = true;
    }
    return true;
}

/* ---- Pages ---- */

/* What one page should hold: with `limit` keys spread evenly, a bit more than this shard's part. */
static uint32_t page_limit(const struct operation *scan)
{
    uint32_t part = scan->limit / scan->clerk->config.n_shards;
    uint32_t page = part + part / 4 + 8;

    page = page < scan->limit ? page : scan->limit;
    return page < PROTO_MAX_SCAN ? page : PROTO_MAX_SCAN;
}

static void start_page(struct scan *scan, shard_id shard, struct slice after, uint32_t limit,
                       uint64_t now_ms)
{
    struct operation *operation = scan->operation;
    struct operation *page = clerk_operation_create(operation->clerk, OPERATION_PAGE,
                                                    operation->deadline_ms, NULL, NULL);

    ASSERT(scan->n_running < CLERK_SCAN_IN_FLIGHT);
    page->scan = scan;
    page->shard = shard;
    page->prefix = operation->prefix; /* outlives its pages */
    page->bytes = mem_copy(after.data, after.len);
    page->after = slice_of(page->bytes, after.len);
    page->limit = limit;
    for (page->page_slot = 0; scan->running[page->page_slot] != NULL;) {
        page->page_slot++;
    }
    scan->running[page->page_slot] = page;
    scan->n_running++;
    clerk_call_dispatch(page, now_ms);
}

static void end_page(struct operation *page)
{
    struct scan *scan = page->scan;

    ASSERT(scan->running[page->page_slot] == page);
    scan->running[page->page_slot] = NULL;
    scan->n_running--;
    clerk_operation_release(page);
}

static int compare_kept(const void *a, const void *b)
{
    const struct kept *const *left = a, *const *right = b;

    return slice_compare((*left)->record.key, (*right)->record.key);
}

static void scan_destroy(struct scan *scan)
{
    ASSERT(scan->n_running == 0);
    for (size_t i = 0; i < scan->n; i++) {
        mem_free(scan->heap[i]);
    }
    mem_free(scan->heap);
    mem_free(scan->bound);
    mem_free(scan);
}

/* All shards are done: what the heap holds is the result. */
static void finish(struct scan *scan)
{
    struct operation *operation = scan->operation;
    struct proto_record *records = mem_alloc(scan->n * sizeof(records[0]));
    struct clerk_end end = {.status = ST_OK, .more = scan->more};

    if (scan->n > 0) {
        qsort(scan->heap, scan->n, sizeof(scan->heap[0]), compare_kept);
    }
    for (size_t i = 0; i < scan->n; i++) {
        records[i] = scan->heap[i]->record;
        ASSERT(i == 0 || slice_compare(records[i - 1].key, records[i].key) < 0);
    }
    end.reason = status_text(ST_OK);
    end.n_records = scan->n;
    end.records = records;
    operation->scan = NULL;
    clerk_operation_finish(operation, &end);
    mem_free(records);
    scan_destroy(scan);
}

/* Keeps as many shards going as allowed, and ends when none is left. */
static void go_on(struct scan *scan, uint64_t now_ms)
{
    uint32_t n_shards = scan->operation->clerk->config.n_shards;

    while (scan->n_running < CLERK_SCAN_IN_FLIGHT && scan->next_shard < n_shards) {
        start_page(scan, scan->next_shard++, scan->operation->after, page_limit(scan->operation),
                   now_ms);
    }
    if (scan->n_running == 0) {
        finish(scan);
    }
}

void clerk_scan_start(struct operation *operation, uint64_t now_ms)
{
    struct scan *scan = mem_zalloc(sizeof(*scan));

    ASSERT(operation->scan == NULL);
    scan->operation = operation;
    operation->scan = scan;
    operation->state = OPERATION_SCANNING;
    timers_cancel(&operation->clerk->timers, &operation->timer);
    go_on(scan, now_ms);
}

/* A server that answers something else than was asked for is not believed. */
static bool page_is_valid(const struct operation *page, const struct proto_response *response)
{
    uint32_t n = response->scan.n;

    for (uint32_t i = 0; i < n; i++) {
        struct slice key = response->scan.records[i].key;

        if (!slice_has_prefix(key, page->prefix) || slice_compare(key, page->after) <= 0 ||
            shard_of_key(key, page->clerk->config.n_shards) != page->shard) {
            return false;
        }
    }
    return n > 0 || !response->scan.more;
}

/* The records of a page, in order. True: the shard may hold more that belongs to the result. */
static bool take_page(struct scan *scan, const struct proto_response *response)
{
    struct slice last;

    for (uint32_t i = 0; i < response->scan.n; i++) {
        if (!take_record(scan, &response->scan.records[i])) {
            return false;
        }
    }
    if (!response->scan.more) {
        return false;
    }
    last = response->scan.records[response->scan.n - 1].key;
    if (is_beyond_bound(scan, last)) {
        return false;
    }
    if (scan->n == scan->operation->limit && slice_compare(last, scan->heap[0]->record.key) >= 0) {
        scan->more = true; /* further keys of this shard lie above a full result */
        return false;
    }
    return true;
}

static void fail(struct scan *scan, enum status status)
{
    struct operation *operation = scan->operation;

    clerk_scan_fini(operation);
    clerk_operation_end(operation, status, NULL);
}

void clerk_scan_page_done(struct operation *page, enum status status,
                          const struct proto_response *response, uint64_t now_ms)
{
    struct scan *scan = page->scan;
    struct operation *operation = scan->operation;
    bool further;

    if (status == ST_CANCELLED && operation->state != OPERATION_SCANNING) {
        end_page(page); /* by clerk_scan_fini */
        return;
    }
    if (status == ST_OK && !page_is_valid(page, response)) {
        clerk_operation_set_reason(page, "g%u: a page that was not asked for", page->gid);
        status = ST_MALFORMED;
    }
    if (status != ST_OK) {
        clerk_operation_set_reason(operation, "%s", clerk_operation_reason(page, status));
        end_page(page);
        fail(scan, status);
        return;
    }
    further = take_page(scan, response);
    if (further) {
        struct slice last = response->scan.records[response->scan.n - 1].key;
        uint32_t limit = page->limit < PROTO_MAX_SCAN / 2 ? 2 * page->limit : PROTO_MAX_SCAN;
        shard_id shard = page->shard;

        end_page(page);
        start_page(scan, shard, last, limit, now_ms);
    } else {
        end_page(page);
    }
    go_on(scan, now_ms);
}

void clerk_scan_fini(struct operation *operation)
{
    struct scan *scan = operation->scan;

    if (scan == NULL) {
        return;
    }
    operation->state = OPERATION_WAITING;
    for (uint32_t i = 0; i < CLERK_SCAN_IN_FLIGHT; i++) {
        struct operation *page = scan->running[i];

        if (page != NULL && page->state == OPERATION_CALLING) {
            page->redirecting = false;
            caller_cancel(operation->clerk->caller, page->call);
        } else if (page != NULL) {
            end_page(page);
        }
    }
    operation->scan = NULL;
    scan_destroy(scan);
}
