/* events: the last things that happened in a run, kept for the day that it fails, and the lines
 * that the simulator itself adds to a trace.
 *
 * Recording must cost next to nothing: what happens to servers is kept as numbers and becomes text
 * only when it is shown.
 */
#ifndef TESTS_SIMULATOR_EVENTS_H
#define TESTS_SIMULATOR_EVENTS_H

#include <stdio.h>

#include "tests/sim/world.h"

#define EVENTS_KEPT 40

struct event_line {
    uint64_t at_us;
    bool is_text;
    size_t node;
    enum io_event_type type;
    uint64_t from, size; /* of a message */
    enum status status;
    char text[120];
};

struct events {
    struct world *world;
    FILE *trace; /* NULL: none */
    uint64_t n;  /* ever noted */
    struct event_line lines[EVENTS_KEPT];
};

/* Something that the simulator did: into the ring and the trace. */
void events_note(struct events *events, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* Something that happened to a server: into the ring only, the world records it by itself. */
void events_step(struct events *events, size_t node, const struct io_event *event);
void events_show(const struct events *events, FILE *file);

#endif
