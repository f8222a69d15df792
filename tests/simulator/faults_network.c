/* Faults of the network. */
#include "raft/util/assert.h"
#include "tests/simulator/faults_internal.h"
#include "tests/simulator/workload.h"

/* ---- Cuts ----
 *
 * Cuts overlap: a link works again when the last one that holds it ends. */

static void set_link(struct faults *faults, enum cut_type type, size_t a, size_t b, bool cut)
{
    switch (type) {
    case CUT_LINK:
        world_cut_one_way(faults->world, a, b, cut);
        break;
    case CUT_CLOG:
        world_clog(faults->world, a, b, cut);
        break;
    case CUT_CLIENT:
        world_cut_client(faults->world, workload_client_number(faults->run->workload, a), b, cut);
        break;
    case CUT_N:
        break;
    }
}

static void hold_links(struct faults *faults, enum cut_type type, uint64_t from, uint64_t to,
                       bool begin)
{
    for (size_t a = 0; a < WORLD_MAX_NODES; a++) {
        for (size_t b = 0; (from >> a & 1) != 0 && b < faults->n_nodes; b++) {
            uint8_t *count = &faults->cut_count[type][a][b];

            if ((to >> b & 1) == 0 || (a == b && type != CUT_CLIENT)) {
                continue;
            }
            ASSERT(begin || *count > 0);
            if (begin ? (*count)++ == 0 : --*count == 0) {
                set_link(faults, type, a, b, begin);
            }
        }
    }
}

static void apply_cut(struct faults *faults, const struct cut *cut, bool begin)
{
    hold_links(faults, cut->type, cut->from, cut->to, begin);
    if (cut->both_ways) {
        hold_links(faults, cut->type, cut->to, cut->from, begin);
    }
}

static bool is_both_ways(enum fault fault, enum cut_type type)
{
    return type == CUT_LINK && (fault == FAULT_PARTITION || fault == FAULT_OLD_LEADER);
}

static bool add_cut(struct faults *faults, const struct fault_draw *draw, enum cut_type type,
                    uint64_t from, uint64_t to)
{
    struct cut cut = {type, is_both_ways(draw->fault, type), faults->step + draw->steps, from, to};

    if (faults->n_cuts == MAX_CUTS || from == 0 || to == 0) {
        return false;
    }
    events_note(&faults->run->events, "%s: %llx from %llx for %u steps",
                fault_kinds[draw->fault].name, (unsigned long long)from, (unsigned long long)to,
                draw->steps);
    faults->cuts[faults->n_cuts++] = cut;
    apply_cut(faults, &cut, true);
    return true;
}

static uint64_t all_nodes(const struct faults *faults)
{
    return ((uint64_t)1 << faults->n_nodes) - 1;
}

static uint64_t team_nodes(const struct faults *faults, size_t team)
{
    uint64_t set = 0;

    for (size_t i = 0; i < faults_team_size(faults, team); i++) {
        set |= (uint64_t)1 << faults_team_node(faults, team, i);
    }
    return set;
}

/* Some servers of a team, or of all, against the rest of it, or against all the others; or one
 * server alone. Clients reach both sides. */
static bool begin_partition(struct faults *faults, const struct fault_draw *draw)
{
    size_t node = faults_aim(faults, draw);
    uint64_t team = team_nodes(faults, faults_team_of(faults, node));
    uint64_t scope = draw->c % 3 == 0 ? all_nodes(faults) : team;
    uint64_t side = draw->c % 3 == 1 ? (uint64_t)1 << node : draw->b & scope;
    uint64_t other = (draw->c >> 8) % 2 == 0 ? scope : all_nodes(faults);

    return add_cut(faults, draw, CUT_LINK, side, other & ~side);
}

/* From one server to another of its team, to any other, to all others, or from all to it. */
static bool begin_link(struct faults *faults, const struct fault_draw *draw, enum cut_type type)
{
    size_t node = faults_aim(faults, draw);
    uint64_t self = (uint64_t)1 << node;
    size_t team = faults_team_of(faults, node);

    switch (draw->c % 5) {
    case 0:
        return add_cut(faults, draw, type, self, all_nodes(faults) & ~self);
    case 1:
        return add_cut(faults, draw, type, all_nodes(faults) & ~self, self);
    case 2:
        return add_cut(faults, draw, type, self,
                       ((uint64_t)1 << draw->b % faults->n_nodes) & ~self);
    default:
        return add_cut(faults, draw, type, self,
                       ((uint64_t)1 << faults_team_node(faults, team,
                                                        draw->b % faults_team_size(faults, team))) &
                           ~self);
    }
}

static bool begin_client_cut(struct faults *faults, const struct fault_draw *draw)
{
    uint64_t client = (uint64_t)1 << draw->a % faults->run->plan.n_clients;
    uint64_t to = draw->c % 3 == 0 ? all_nodes(faults) : draw->b & all_nodes(faults);

    return add_cut(faults, draw, CUT_CLIENT, client, to);
}

/* A leader is cut off from its peers, and some clients from all of its group but it: they go on
 * asking it, while the others write with the next leader. Its clocks may run slow or stand still,
 * so that it learns late that it has been replaced; whoever believes in leases is wrong here. */
static bool begin_old_leader(struct faults *faults, const struct fault_draw *draw)
{
    size_t team = draw->a % faults_n_teams(faults), leader = faults_leader_of(faults, team);
    uint64_t all_clients = ((uint64_t)1 << faults->run->plan.n_clients) - 1, self, others;
    struct fault_draw longer = *draw;

    if (leader == SIZE_MAX || faults_team_size(faults, team) < 3) {
        return false;
    }
    longer.steps = 10 + draw->steps / 2; /* longer than an election */
    self = (uint64_t)1 << leader;
    others = team_nodes(faults, team) & ~self;
    if (!add_cut(faults, &longer, CUT_LINK, self, others)) {
        return false;
    }
    add_cut(faults, &longer, CUT_CLIENT, draw->b & all_clients, others);
    faults_slow_down(faults, leader, draw->c, longer.steps);
    return true;
}

/* ---- Rates ---- */

/* Small ones are drawn more often than large ones. */
static uint32_t rate_up_to(uint64_t random, uint32_t max)
{
    uint64_t x = random % 1000, y = (random >> 32) % 1000;

    return (uint32_t)(max * (x * y + 1000) / 1000000);
}

static bool begin_rate(struct faults *faults, const struct fault_draw *draw)
{
    struct world_faults *rates = &faults->rates;

    switch (draw->fault) {
    case FAULT_LOSS:
        rates->loss_ppm = rate_up_to(draw->a, 300000);
        rates->unreliable = draw->c % 4 == 0;
        break;
    case FAULT_DUPLICATION:
        rates->duplicate_ppm = rate_up_to(draw->a, 300000);
        break;
    case FAULT_REORDERING:
        rates->reorder_ppm = rate_up_to(draw->a, 500000);
        break;
    default:
        ASSERT(draw->fault == FAULT_TAIL);
        rates->tail_ppm = rate_up_to(draw->a, 200000);
        rates->tail_ms = 20 + rate_up_to(draw->b, 5000);
        rates->long_reordering = draw->c % 8 == 0;
        break;
    }
    faults->rate_until[draw->fault] = faults->step + draw->steps;
    events_note(&faults->run->events, "%s for %u steps", fault_kinds[draw->fault].name,
                draw->steps);
    world_set_faults(faults->world, rates);
    return true;
}

static void end_rates(struct faults *faults, bool all)
{
    struct world_faults *rates = &faults->rates;
    bool changed = false;

    for (size_t i = FAULT_LOSS; i <= FAULT_TAIL; i++) {
        if (faults->rate_until[i] == 0 || (!all && faults->rate_until[i] > faults->step)) {
            continue;
        }
        faults->rate_until[i] = 0;
        changed = true;
        if (i == FAULT_LOSS) {
            rates->loss_ppm = 0;
            rates->unreliable = false;
        } else if (i == FAULT_DUPLICATION) {
            rates->duplicate_ppm = 0;
        } else if (i == FAULT_REORDERING) {
            rates->reorder_ppm = 0;
        } else {
            rates->tail_ppm = rates->tail_ms = 0;
            rates->long_reordering = false;
        }
    }
    if (changed) {
        world_set_faults(faults->world, rates);
    }
}

/* ---- All of them ---- */

bool faults_begin_network(struct faults *faults, const struct fault_draw *draw)
{
    switch (draw->fault) {
    case FAULT_PARTITION:
        return begin_partition(faults, draw);
    case FAULT_ONE_WAY:
        return begin_link(faults, draw, CUT_LINK);
    case FAULT_CLOG:
        return begin_link(faults, draw, CUT_CLOG);
    case FAULT_CLIENT_CUT:
        return begin_client_cut(faults, draw);
    case FAULT_OLD_LEADER:
        return begin_old_leader(faults, draw);
    default:
        return begin_rate(faults, draw);
    }
}

void faults_end_network(struct faults *faults, bool all)
{
    end_rates(faults, all);
    for (size_t i = 0; i < faults->n_cuts;) {
        struct cut cut = faults->cuts[i];

        if (!all && cut.until > faults->step) {
            i++;
            continue;
        }
        faults->cuts[i] = faults->cuts[--faults->n_cuts];
        apply_cut(faults, &cut, false);
    }
    if (all) {
        world_heal(faults->world);
    }
}
