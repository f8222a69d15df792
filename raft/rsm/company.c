/* Company: when a round begins.
 *
 * A round (appending proposals and confirming reads, together) costs about the same for one as for
 * a hundred: messages, wake-ups, and for proposals a synced write at each replica. So who comes
 * while a round is running waits for it, and who comes after it waits until half of those are there
 * who were under way at once lately. Clients that wait for answers come back together; the other
 * half is in the round before. One client alone, or two, wait for nobody. Nobody waits for longer
 * than company_ms after the last round began: a majority that is far away costs no second round
 * trip.
 */
#include "raft/rsm/group.h"

#define COMPANY_ALONE  2 /* so few wait for nobody */
#define COMPANY_ENOUGH 8 /* for so many a round is worth its price on a busy machine, too */

static uint32_t faded(const struct rsm_company *company, uint64_t now_ms)
{
    uint32_t most = company->most;

    for (uint64_t ms = company->faded_ms; ms < now_ms && most > 0; ms++) {
        most -= (most + 7) / 8;
    }
    return most;
}

void rsm_company_note(struct rsm_company *company, uint32_t n, uint64_t now_ms)
{
    uint32_t most = faded(company, now_ms);

    company->most = n > most ? n : most;
    company->faded_ms = now_ms;
}

uint64_t rsm_company_deadline_ms(const struct rsm_company *company, uint32_t n, bool one_is_running,
                                 uint32_t patience_ms, uint64_t now_ms)
{
    uint32_t most = faded(company, now_ms);

    if (one_is_running || n < (most + 1) / 2) {
        return company->round_ms + patience_ms;
    }
    if (company->pace_ms == 0 || most <= COMPANY_ALONE || n >= COMPANY_ENOUGH) {
        return now_ms;
    }
    return (company->round_ms / company->pace_ms + 1) * company->pace_ms;
}

/* ---- Of the group ---- */

static uint32_t gathered(const struct group *group)
{
    const struct rsm_round *reads = group->reads.gathering;

    return group->proposals.n_gathered + (reads == NULL ? 0 : (uint32_t)reads->n);
}

void rsm_round_gathered(struct group *group)
{
    const struct rsm_proposals *proposals = &group->proposals;

    rsm_company_note(&group->company, proposals->n_gathered + proposals->n_waiting + group->reads.n,
                     group->now_ms);
}

void rsm_round_began(struct group *group)
{
    group->company.round_ms = group->now_ms;
}

void group_set_pace(struct group *group, uint32_t ms)
{
    group->company.pace_ms = ms;
}

uint64_t rsm_round_deadline_ms(const struct group *group)
{
    if (gathered(group) == 0) {
        return UINT64_MAX;
    }
    if (raft_role(group->raft) != RAFT_LEADER || rsm_proposals_hurry(group)) {
        return group->now_ms;
    }
    return rsm_company_deadline_ms(&group->company, gathered(group),
                                   rsm_proposals_are_running(group) || rsm_reads_are_running(group),
                                   group->options.company_ms, group->now_ms);
}
