/* How the linearizability checker is divided:
 *   linear.c         keys one by one, the verdict, the explanation
 *   linear_model.c   one register: fingerprints of values, what an operation does, may it answer so
 *   linear_key.c     one key's operations made ready for the search
 *   linear_chain.c   what the values that were seen are composed of
 *   linear_memory.c  configurations seen before
 *   linear_search.c  the search itself, and why what it leaves out is never needed
 *   linear_prune.c   which optional writes can be of use, which configurations are lost
 */
#ifndef TESTS_SIM_LINEAR_INTERNAL_H
#define TESTS_SIM_LINEAR_INTERNAL_H

#include "tests/sim/linear.h"

#define LINEAR_NONE      UINT32_MAX
#define LINEAR_NO_END    UINT32_MAX
#define LINEAR_ABSENT    UINT32_MAX /* as a base: the key was not there */
#define LINEAR_UNSEEN    UINT64_MAX /* as a hash: of all values that nobody looked at */
#define LINEAR_MAX_BASES 8          /* of a class; more: not counted, anything may be its base */

/* ---- The model ---- */

/* A value's fingerprint: a polynomial over its bytes modulo 2^61 - 1, so that the fingerprint of a
 * concatenation follows from those of its parts. */
struct linear_print {
    uint64_t hash;
    uint64_t len;
};
struct linear_print linear_print_of(struct slice value);
/* base^len: what the hash in front of so many bytes is multiplied by. */
uint64_t linear_power(uint64_t len);
/* Of `head` with the bytes appended. */
struct linear_print linear_print_extend(struct linear_print head, struct slice tail);

struct linear_state {
    bool exists;
    bool dirty;               /* a write came after the last witnessed version */
    uint64_t version;         /* the last that a get witnessed, 0: none yet */
    struct linear_print text; /* the value; {0, 0} if there is none */
};

struct linear_item {
    const struct history_operation *operation;
    uint32_t start, end; /* ranks in real time; LINEAR_NO_END: optional */
    bool optional;
    bool looks;                 /* never changes the state: see linear_looks */
    struct linear_print text;   /* of the argument, or of what a get saw */
    struct linear_print expect; /* of a KV_IF_VALUE */
    uint64_t power;             /* to append the argument: base^len */
    uint32_t value;             /* of a put, append or cas: its argument's number, by content */
    uint32_t class;             /* of a get with a version: its place in their order, else NONE */
    bool dead; /* a mandatory put whose value no get with a version can have seen */
    /* What must have been the last write before it, what must be the next write after it, and the
     * class that must be read right after it; NONE: not known. See linear_chain.c. */
    uint32_t after, before, read_by;
    uint32_t looks_at;       /* of a get without a version: the last write that it saw, or NONE */
    uint32_t lookers;        /* such gets not placed yet: they come before the next write */
    bool witnessed;          /* it took effect for certain, whatever its client was told */
    bool unseen;             /* its argument is part of no value that was looked at */
    uint32_t shape;          /* those of one shape do the same to every state; NONE: no twins */
    uint64_t key[2];         /* its share of a configuration's name */
    uint32_t previous, next; /* the list of what is not placed, by start */
};

/* Whether `item` may come next after `before` with the answer that it got; `after` is the state
 * then. Optional writes have no answer to check, but one that would change nothing may not come. */
bool linear_step(const struct linear_item *item, const struct linear_state *before,
                 struct linear_state *after);
/* A get that witnesses no version, a mismatch, a delete of nothing: valid or not, and no effect. */
bool linear_looks(const struct history_operation *operation);
/* Of what follows the head in the whole. */
struct linear_print linear_print_tail(struct linear_print head, struct linear_print whole,
                                      uint64_t power);
bool linear_state_equal(const struct linear_state *a, const struct linear_state *b);

/* ---- A key ---- */

/* Gets of one version. In every order they stand together, with no write among them, after all gets
 * of lower versions. */
struct linear_class {
    uint64_t version;
    struct slice value;        /* that its first get saw */
    struct linear_print print; /* of it */
    uint32_t left;             /* gets not placed yet */
    /* The values of puts and cas that are prefixes of it: what it must grow from. */
    uint32_t n_bases;
    uint32_t bases[LINEAR_MAX_BASES];
    bool any_base;    /* too many to count */
    bool absent_base; /* or it may grow from nothing, by appends alone */
    bool known;       /* there is one way to compose it, of operations that are known */
};

/* A distinct argument of writes. */
struct linear_value {
    struct linear_print print;
    uint32_t n_writers, left; /* puts and cas that write it: all, not placed yet */
    uint32_t earliest;        /* no put or cas of it may come before the classes below this one */
    uint32_t n_appends;       /* that append it */
    uint32_t item;            /* one of those that write or append it */
    bool is_base;             /* of a class */
    bool seen;                /* it may be part of a value that somebody looked at */
    bool is_sole_base;        /* part of a class, with one writer: earliest holds */
};

struct linear_key {
    struct linear_item *items; /* mandatory ones first, both by start */
    uint32_t n, n_mandatory;
    struct linear_class *classes;
    uint32_t n_classes;
    struct linear_value *values; /* by length, then hash */
    uint32_t n_values;
    uint32_t n_shapes; /* see rule 9 of the search */
    /* Not placed yet: what may see of a write more than gets with versions do; deletes that remove.
     */
    uint32_t observers_left, deletes_left;
    bool any_base; /* of a class: nothing is known to be dead */
};

/* Finds what each value that was seen is composed of (linear_chain.c). */
void linear_chain_find(struct linear_key *key);
/* The number of the value with that fingerprint, or NONE. */
uint32_t linear_key_value(const struct linear_key *key, struct linear_print print);
/* Whether a class may grow from the base: a value's number, or LINEAR_ABSENT. */
bool linear_class_grows_from(const struct linear_class *class, uint32_t base);
/* What the counts of things not placed count it as. */
bool linear_is_observer(const struct linear_item *item);
bool linear_is_remover(const struct linear_item *item);
bool linear_is_writer(const struct linear_item *item);

/* The operations are of one key, refused ones and reads without an answer left out. */
void linear_key_init(struct linear_key *key, const struct history_operation *const *operations,
                     uint32_t n);
void linear_key_fini(struct linear_key *key);

/* ---- Memory ---- */

struct linear_memory;
struct linear_memory *linear_memory_create(uint32_t n_optional);
void linear_memory_destroy(struct linear_memory **memory);
/* Whether a configuration of that name was seen with `optional` or a subset of it. */
bool linear_memory_has(const struct linear_memory *memory, const uint64_t name[2],
                       const uint64_t *optional);
void linear_memory_add(struct linear_memory *memory, const uint64_t name[2],
                       const uint64_t *optional);
uint64_t linear_memory_count(const struct linear_memory *memory);

/* ---- The search ---- */

struct linear_frame {
    struct linear_state state, before; /* before: of the optional write that led here */
    bool after_optional;
    uint32_t item;       /* that led here */
    uint32_t last_write; /* the last that changed the state, or NONE */
    uint32_t base;       /* the last put's or cas's value number, or LINEAR_ABSENT */
    uint32_t class;      /* the first with gets not placed */
    uint64_t name[2];
    uint32_t min_end;        /* of what is left: what starts later can't be next */
    size_t first, count, at; /* its candidates, and the next to try */
    bool optional_added;
    bool settled; /* one candidate stands for all */
    bool known;   /* seen before: not tried again */
};

struct linear_search {
    struct linear_key *key;
    struct linear_memory *memory;
    struct linear_frame *frames;
    size_t n_frames, frames_capacity;
    uint64_t *shapes; /* by shape: the round in which a candidate of it was met last */
    uint64_t round;   /* of choosing one of twins */
    uint32_t *candidates;
    size_t n_candidates, candidates_capacity;
    uint32_t head[2]; /* lists of what is not placed: mandatory, optional */
    uint32_t mandatory_left;
    uint64_t *optional_placed; /* bits */
    /* The longest order that led nowhere. */
    uint32_t *best;
    size_t n_best;
    uint32_t best_mandatory;
    bool has_best;
    bool plainly;
};

/* plainly: without what is concluded from values that were seen (rules 6 and 7), for explanations:
 * it gets nearer to the operation that does not fit. */
enum linear_verdict linear_search_run(struct linear_search *search, struct linear_key *key,
                                      uint64_t max_configurations, bool plainly);
void linear_search_fini(struct linear_search *search);

/* ---- Pruning ---- */

/* The next gets can't be reached from here, whatever is placed. */
bool linear_is_lost(const struct linear_search *search, const struct linear_frame *frame);
/* An optional write, placed here, may be what the operation after it needs. */
bool linear_may_help(const struct linear_search *search, const struct linear_frame *frame,
                     const struct linear_item *item, const struct linear_state *after);

#endif
