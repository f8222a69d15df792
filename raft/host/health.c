/* Health, for those who restart processes and send clients to them.
 *
 * /livez: this process works; if not, only a new start helps. /readyz: this replica can do its part
 * now: a leader answers clients, a follower acknowledges what the leader sends and sends clients to
 * it. A check that fails says why, in one clause.
 */
#include "raft/host/host_internal.h"

#define STALL_US 1000000 /* a disk that takes longer for one write acknowledges nothing */

struct check {
    const char *name;
    const char *trouble; /* NULL: none */
};

static const char *running_trouble(const struct host *host)
{
    return host->stop_ms != 0 ? "it is stopping" : NULL;
}

static const char *replica_trouble(const struct group *group)
{
    return group_is_halted(group) ? "the replica has halted, the log file says why" : NULL;
}

/* A leader must have committed in its term; a follower must hear from one. */
static const char *leader_trouble(const struct group *group)
{
    if (!group_is_leader(group)) {
        return raft_leader(group_raft(group)) == 0 ? "no leader is known" : NULL;
    }
    return group_is_ready(group) ? NULL : "it leads, but nothing is committed in its term yet";
}

static const char *disk_trouble(const struct host *host)
{
    struct wal_stats wal;

    wal_statistics(host->wal, &wal);
    return wal.in_flight_us > STALL_US ? "a write of the log hangs" : NULL;
}

static const char *state_trouble(const struct group *group)
{
    struct group_queues queues;

    group_queues(group, &queues);
    return queues.snapshot_receiving ? "a snapshot is being installed" : NULL;
}

static const char *service_trouble(const struct host *host)
{
    return host->service->trouble == NULL ? NULL : host->service->trouble(host->server);
}

/* Each check with its outcome, if asked for or if something fails; then the verdict. */
static bool put_checks(const char *what, const struct check *checks, size_t n, bool verbose,
                       struct buf *text)
{
    bool good = true;

    for (size_t i = 0; i < n; i++) {
        good = good && checks[i].trouble == NULL;
    }
    for (size_t i = 0; i < n && (verbose || !good); i++) {
        if (checks[i].trouble == NULL) {
            buf_printf(text, "[+]%s ok\n", checks[i].name);
        } else {
            buf_printf(text, "[-]%s failed: %s\n", checks[i].name, checks[i].trouble);
        }
    }
    if (!good) {
        buf_printf(text, "%s check failed\n", what);
    } else if (verbose) {
        buf_printf(text, "%s check passed\n", what);
    } else {
        buf_printf(text, "ok\n");
    }
    return good;
}

bool host_put_livez(struct host *host, bool verbose, struct buf *text)
{
    const struct check checks[] = {
        {"loop", NULL}, /* this very answer */
        {"replica", replica_trouble(host->service->group(host->server))},
    };

    return put_checks("livez", checks, sizeof(checks) / sizeof(checks[0]), verbose, text);
}

bool host_put_readyz(struct host *host, bool verbose, struct buf *text)
{
    const struct group *group = host->service->group(host->server);
    const struct check checks[] = {
        {"running", running_trouble(host)}, {"replica", replica_trouble(group)},
        {"leader", leader_trouble(group)},  {"disk", disk_trouble(host)},
        {"state", state_trouble(group)},    {"service", service_trouble(host)},
    };

    return put_checks("readyz", checks, sizeof(checks) / sizeof(checks[0]), verbose, text);
}
