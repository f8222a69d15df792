/* mem_map: a treap with path copying. Every function that takes a node pointer by value and returns
 * one takes over the reference that it was given and gives one back. */
#include "tests/sim/mem_map.h"

#include "raft/util/assert.h"
#include "raft/util/mem.h"

/* A key with its value; shared by all the nodes that stand for it. */
struct item {
    uint32_t references;
    uint64_t priority;
    struct slice key, value;
    uint8_t bytes[];
};

struct mem_map_node {
    uint32_t references;
    struct item *item;
    struct mem_map_node *left, *right;
};

static uint64_t item_hash(struct slice key)
{
    uint64_t hash = 14695981039346656037u;

    for (size_t i = 0; i < key.len; i++) {
        hash = (hash ^ key.data[i]) * 1099511628211u;
    }
    hash = (hash ^ (hash >> 32)) * 0x9e3779b97f4a7c15u;
    return hash ^ (hash >> 29);
}

static struct item *item_create(struct slice key, struct slice value)
{
    struct item *item = mem_alloc(sizeof(*item) + key.len + value.len);

    item->references = 1;
    item->priority = item_hash(key);
    if (key.len > 0) {
        memcpy(item->bytes, key.data, key.len);
    }
    if (value.len > 0) {
        memcpy(item->bytes + key.len, value.data, value.len);
    }
    item->key = slice_of(item->bytes, key.len);
    item->value = slice_of(item->bytes + key.len, value.len);
    return item;
}

static struct item *item_ref(struct item *item)
{
    item->references++;
    return item;
}

static void item_unref(struct item *item)
{
    ASSERT(item->references > 0);
    if (--item->references == 0) {
        mem_free(item);
    }
}

static struct mem_map_node *node_create(struct item *item, struct mem_map_node *left,
                                        struct mem_map_node *right)
{
    struct mem_map_node *node = mem_alloc(sizeof(*node));

    *node = (struct mem_map_node){1, item, left, right};
    return node;
}

static struct mem_map_node *node_ref(struct mem_map_node *node)
{
    if (node != NULL) {
        node->references++;
    }
    return node;
}

static void node_unref(struct mem_map_node *node)
{
    if (node == NULL) {
        return;
    }
    ASSERT(node->references > 0);
    if (--node->references == 0) {
        item_unref(node->item);
        node_unref(node->left);
        node_unref(node->right);
        mem_free(node);
    }
}

/* The node itself if nobody else holds it, else a copy: what comes back may be changed. */
static struct mem_map_node *node_own(struct mem_map_node *node)
{
    struct mem_map_node *copy;

    if (node->references == 1) {
        return node;
    }
    copy = node_create(item_ref(node->item), node_ref(node->left), node_ref(node->right));
    node_unref(node);
    return copy;
}

/* A total order, so that equal priorities change nothing in the shape. */
static bool node_above(const struct mem_map_node *a, const struct mem_map_node *b)
{
    if (a->item->priority != b->item->priority) {
        return a->item->priority > b->item->priority;
    }
    return slice_compare(a->item->key, b->item->key) < 0;
}

static struct mem_map_node *node_rotate_right(struct mem_map_node *node)
{
    struct mem_map_node *top = node->left;

    ASSERT(top->references == 1);
    node->left = top->right;
    top->right = node;
    return top;
}

static struct mem_map_node *node_rotate_left(struct mem_map_node *node)
{
    struct mem_map_node *top = node->right;

    ASSERT(top->references == 1);
    node->right = top->left;
    top->left = node;
    return top;
}

static struct mem_map_node *node_insert(struct mem_map_node *node, struct item *item)
{
    int order;

    if (node == NULL) {
        return node_create(item, NULL, NULL);
    }
    node = node_own(node);
    order = slice_compare(item->key, node->item->key);
    if (order == 0) {
        item_unref(node->item);
        node->item = item;
    } else if (order < 0) {
        node->left = node_insert(node->left, item);
        if (node_above(node->left, node)) {
            node = node_rotate_right(node);
        }
    } else {
        node->right = node_insert(node->right, item);
        if (node_above(node->right, node)) {
            node = node_rotate_left(node);
        }
    }
    return node;
}

/* All keys of `a` are below all keys of `b`. */
static struct mem_map_node *node_merge(struct mem_map_node *a, struct mem_map_node *b)
{
    if (a == NULL || b == NULL) {
        return a == NULL ? b : a;
    }
    if (node_above(a, b)) {
        a = node_own(a);
        a->right = node_merge(a->right, b);
        return a;
    }
    b = node_own(b);
    b->left = node_merge(a, b->left);
    return b;
}

/* The key is there. */
static struct mem_map_node *node_delete(struct mem_map_node *node, struct slice key)
{
    int order;

    ASSERT(node != NULL);
    node = node_own(node);
    order = slice_compare(key, node->item->key);
    if (order == 0) {
        struct mem_map_node *merged = node_merge(node->left, node->right);
        node->left = node->right = NULL;
        node_unref(node);
        return merged;
    }
    if (order < 0) {
        node->left = node_delete(node->left, key);
    } else {
        node->right = node_delete(node->right, key);
    }
    return node;
}

struct mem_map mem_map_copy(const struct mem_map *map)
{
    return (struct mem_map){node_ref(map->root), map->n, map->bytes};
}

void mem_map_fini(struct mem_map *map)
{
    node_unref(map->root);
    *map = (struct mem_map){0};
}

void mem_map_put(struct mem_map *map, struct slice key, struct slice value)
{
    struct item *item = item_create(key, value); /* first: the value may be one of the map's */
    struct slice old;

    if (mem_map_get(map, key, &old)) {
        map->bytes -= key.len + old.len;
        map->n--;
    }
    map->bytes += key.len + value.len;
    map->n++;
    map->root = node_insert(map->root, item);
}

bool mem_map_remove(struct mem_map *map, struct slice key)
{
    struct slice old;

    if (!mem_map_get(map, key, &old)) {
        return false;
    }
    map->bytes -= key.len + old.len;
    map->n--;
    map->root = node_delete(map->root, key);
    return true;
}

bool mem_map_get(const struct mem_map *map, struct slice key, struct slice *value)
{
    const struct mem_map_node *node = map->root;

    while (node != NULL) {
        int order = slice_compare(key, node->item->key);
        if (order == 0) {
            *value = node->item->value;
            return true;
        }
        node = order < 0 ? node->left : node->right;
    }
    return false;
}

bool mem_map_seek(const struct mem_map *map, struct slice from, bool after, struct slice *key,
                  struct slice *value)
{
    const struct mem_map_node *node = map->root;
    const struct mem_map_node *best = NULL;

    while (node != NULL) {
        int order = slice_compare(node->item->key, from);
        if (order > 0 || (order == 0 && !after)) {
            best = node;
            node = node->left;
        } else {
            node = node->right;
        }
    }
    if (best == NULL) {
        return false;
    }
    *key = best->item->key;
    *value = best->item->value;
    return true;
}
