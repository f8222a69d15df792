/* Changes of the configuration: one at a time, from the order to the entry that is committed. */
#include "raft/rsm/group.h"

void group_change_replicas(struct group *group, const struct group_change *change,
                           group_change_done done, void *context)
{
    (void)group;
    (void)change;
    done(context, ST_BUSY, "changes of the configuration are not possible yet", 0);
}
