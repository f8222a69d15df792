/* faults: what goes wrong, when, and for how long.
 *
 * Each kind draws from random numbers of its own, the same number of them whatever the world looks
 * like: whether it begins in this step, where, how long, how bad. A fault that would break a rule
 * does not happen:
 *   - a majority of each group, and of the controllers, keeps its disks: servers that were wiped or
 *     whose bits flipped are never more than a minority, and groups of one or two have none;
 *   - a server that refuses its damaged disk stays away: for good, or until it is replaced
 *     (replicas.h).
 *
 * Where replicas come and go, the members that count are those of the team's configuration,
 * learners included, and nothing is damaged while that is not certain; who votes again after it was
 * replaced counts as whole.
 */
#ifndef TESTS_SIMULATOR_FAULTS_H
#define TESTS_SIMULATOR_FAULTS_H

#include "tests/simulator/run.h"

/* A team is a group, or (the last one) the controllers. */
size_t faults_n_teams(const struct faults *faults);
size_t faults_team_size(const struct faults *faults, size_t team);
size_t faults_team_node(const struct faults *faults, size_t team, size_t i);

struct faults *faults_create(struct run *run);
void faults_destroy(struct faults **faults);

/* Before a step: what is over ends, what is due begins. */
void faults_step(struct faults *faults, uint32_t step);
/* Runs the world for so long, and does what must happen in between. */
void faults_run_ms(struct faults *faults, uint64_t ms);
/* Everything heals, and every server that is not lost runs. */
void faults_end(struct faults *faults);
/* After faults_end: a server that met an error of its disk that was still to come starts anew. */
void faults_restart_halted(struct faults *faults);
/* The server has lost its disk and is no part of its group any more. */
bool faults_is_lost(const struct faults *faults, size_t node);

/* ---- Replicas that are replaced ---- */
size_t faults_leader_of_team(const struct faults *faults, size_t team);
/* Its disk was wiped, or is refused: it must be emptied before it can come back. */
bool faults_is_spoilt(const struct faults *faults, size_t node);
/* It was spoilt, and is no voter again yet. */
bool faults_is_damaged(const struct faults *faults, size_t node);
/* Ends it, empties its disk, and lets it start as a replica that joins. */
void faults_make_joiner(struct faults *faults, size_t node);
bool faults_is_joiner(const struct faults *faults, size_t node);
/* It votes again with what it has. */
void faults_is_whole(struct faults *faults, size_t node);

#endif
