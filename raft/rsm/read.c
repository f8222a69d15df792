/* Linearizable reads (thesis 6.4): reads that gathered ask the core for one ReadIndex round; when
 * a majority has confirmed it they are served once the state holds everything up to its index. A
 * confirmed read stays good even if leadership is lost while it waits for the state: the index was
 * committed at a moment between its call and its end. */
#include "raft/rsm/group.h"

void rsm_reads_init(struct group *group)
{
    TAILQ_INIT(&group->reads.rounds);
}

static struct rsm_round *round_create(uint64_t id)
{
    struct rsm_round *round = mem_zalloc(sizeof(*round));

    round->id = id;
    round->state = RSM_ROUND_ASKED;
    return round;
}

/* Ends all the reads of a round that is in no list any more. */
static void round_end(struct group *group, struct rsm_round *round, enum status status)
{
    ASSERT(group->reads.n >= round->n);
    group->reads.n -= (uint32_t)round->n;
    for (size_t i = 0; i < round->n; i++) {
        if (status == ST_OK) {
            group->stats.reads_ok++;
            histogram_add_span(&group->stats.read_us, round->reads[i].begun_us, group->now_us);
        } else {
            group->stats.reads_refused++;
        }
        round->reads[i].done(round->reads[i].context, status);
    }
    mem_free(round->reads);
    mem_free(round);
}

/* Why a read can't be taken now; ST_OK: it can. */
static enum status refusal(const struct group *group)
{
    if (group->halted || group->stopping) {
        return ST_SHUTDOWN;
    }
    if (raft_role(group->raft) != RAFT_LEADER) {
        return ST_NOT_LEADER;
    }
    return group->reads.n >= group->options.max_reads ? ST_BUSY : ST_OK;
}

void group_read(struct group *group, group_read_done done, void *context)
{
    struct rsm_reads *reads = &group->reads;
    struct rsm_round *round;
    enum status status = refusal(group);

    if (status != ST_OK) {
        group->stats.reads_refused++;
        done(context, status);
        return;
    }
    if (reads->gathering == NULL) {
        reads->gathering = round_create(++reads->last_id);
    }
    round = reads->gathering;
    MEM_GROW(round->reads, round->capacity, round->n + 1);
    round->reads[round->n++] = (struct rsm_read){done, context, group->now_us};
    reads->n++;
    rsm_round_gathered(group);
}

bool rsm_reads_are_running(const struct group *group)
{
    const struct rsm_round *last = TAILQ_LAST(&group->reads.rounds, rsm_rounds);

    return last != NULL && last->state == RSM_ROUND_ASKED;
}

void rsm_reads_flush(struct group *group)
{
    struct raft_event event = {.type = RAFT_EVENT_READ};
    struct rsm_round *round = group->reads.gathering;
    struct rsm_answer answer;

    if (round == NULL) {
        return;
    }
    rsm_round_began(group);
    ASSERT(round->n > 0 && round->state == RSM_ROUND_ASKED);
    group->reads.gathering = NULL;
    TAILQ_INSERT_TAIL(&group->reads.rounds, round, next);
    group->stats.read_rounds++;
    event.read.id = round->id;
    answer = rsm_step_raft(group, &event);
    if (answer.status != ST_OK) {
        ASSERT(round->state != RSM_ROUND_CONFIRMED);
        round->state = RSM_ROUND_FAILED;
        round->status = answer.status;
    }
}

static struct rsm_round *find_round(struct rsm_reads *reads, uint64_t id)
{
    struct rsm_round *round = TAILQ_FIRST(&reads->rounds);

    while (round != NULL && round->id != id) {
        round = TAILQ_NEXT(round, next);
    }
    return round;
}

void rsm_reads_update(struct group *group, const struct raft_update *update)
{
    for (size_t i = 0; i < update->n_reads; i++) {
        struct rsm_round *round = find_round(&group->reads, update->reads[i].id);

        ASSERT(round != NULL && round->state == RSM_ROUND_ASKED);
        round->index = update->reads[i].index;
        round->status = update->reads[i].status;
        round->state = round->status == ST_OK ? RSM_ROUND_CONFIRMED : RSM_ROUND_FAILED;
    }
}

/* The first round that can end now. Looked for anew after each one: its callbacks may add rounds.
 */
static struct rsm_round *find_settled(const struct group *group)
{
    struct rsm_round *round;

    TAILQ_FOREACH (round, &group->reads.rounds, next) {
        if (round->state == RSM_ROUND_FAILED ||
            (round->state == RSM_ROUND_CONFIRMED && round->index <= group->apply.index)) {
            return round;
        }
    }
    return NULL;
}

void rsm_reads_settle(struct group *group)
{
    struct rsm_round *round;

    while (!group->receiver.switching && (round = find_settled(group)) != NULL) {
        TAILQ_REMOVE(&group->reads.rounds, round, next);
        round_end(group, round, round->state == RSM_ROUND_CONFIRMED ? ST_OK : round->status);
    }
}

void rsm_reads_refuse_all(struct group *group, enum status status)
{
    struct rsm_round *round;

    while ((round = TAILQ_FIRST(&group->reads.rounds)) != NULL) {
        TAILQ_REMOVE(&group->reads.rounds, round, next);
        round_end(group, round, status);
    }
    round = group->reads.gathering;
    group->reads.gathering = NULL;
    if (round != NULL) {
        round_end(group, round, status);
    }
}
