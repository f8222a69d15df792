/* report: the leader tells the controller who the group's replicas are, whenever the voters of its
 * committed configuration are not those that the adopted configuration lists. The controller makes
 * a configuration of it, which clients and other groups follow.
 *
 * It is idempotent: a report carries the term of the leader and the index of the configuration's
 * entry, and the controller takes only what is newer than what it knows. */
#ifndef SHARDKV_REPORT_H
#define SHARDKV_REPORT_H

#include "shardkv/kv_context.h"

struct report;

struct report *report_create(struct kv_context *context);
void report_destroy(struct report **report);
/* Once a turn. */
void report_step(struct report *report);
uint64_t report_next_deadline_ms(struct report *report);

#endif
