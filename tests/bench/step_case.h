/* The steps whose cost is watched: what a server does for every batch of puts, each as a function
 * that can be run alone, again and again. step_cost.c counts and compares.
 *
 * A batch is BATCH puts of 256 bytes; what is dear is run with FEW, so that counting takes no time.
 * Before each run `ready` makes what the run will use up, which is not counted; it may be NULL.
 */
#ifndef BENCH_STEP_CASE_H
#define BENCH_STEP_CASE_H

#include <stddef.h>
#include <stdint.h>

#define BATCH       32
#define FEW         8
#define VALUE_BYTES 256

struct step_case {
    const char *name;
    unsigned operations; /* in one run */
    void *(*create)(const char *dir);
    void (*ready)(void *context);
    void (*run)(void *context);
};

extern const struct step_case step_cases[];
extern const size_t n_step_cases;

void *codec_create(const char *dir);
void codec_run_request(void *context);
void codec_run_append(void *context);

/* dir: a folder of the case's own, that exists. */
void *wal_case_create(const char *dir);
void wal_case_run(void *context);
void *apply_create(const char *dir);
void apply_ready(void *context);
void apply_run(void *context);
void save_ready(void *context);
void save_run(void *context);

void *leader_create(const char *dir);
void leader_ready(void *context);
void leader_run(void *context);
void *follower_create(const char *dir);
void follower_ready(void *context);
void follower_run(void *context);

/* A put by one of many clients, of one of many keys. Slices point into static bytes. */
struct kv_write;
void step_put(struct kv_write *write, uint64_t number, char *key);
#define STEP_KEY_BYTES 16

#endif
