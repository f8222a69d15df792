/* The identities of writes: client id, sequence number, acked_seq, issued_at. */
#include "client/clerk_private.h"

#include "raft/util/assert.h"
#include "raft/util/mem.h"

/* A server refuses a sequence number that is further than this above acked_seq (SESSION_SEQ_WINDOW
 * of raft/rsm.h, with a reserve). */
#define SEQ_WINDOW 1000

/* The client id of a generation: the clerk's random id, as a number of 128 bits, plus it. */
static void generation_id(const struct clerk *clerk, uint8_t id[16])
{
    uint64_t low = get_u64(clerk->options.client_id) + clerk->session_generation;
    uint64_t high =
        get_u64(clerk->options.client_id + 8) + (low < clerk->session_generation ? 1 : 0);

    set_u64(id, low);
    set_u64(id + 8, high);
}

static struct clerk_session *session_create(struct clerk *clerk)
{
    struct clerk_session *session = mem_zalloc(sizeof(*session));

    generation_id(clerk, session->client);
    session->next_seq = 1;
    TAILQ_INIT(&session->writes);
    return session;
}

void clerk_session_init(struct clerk *clerk)
{
    clerk->session = session_create(clerk);
}

void clerk_session_fini(struct clerk *clerk)
{
    ASSERT(TAILQ_EMPTY(&clerk->session->writes));
    mem_free(clerk->session);
    clerk->session = NULL;
}

/* All sequence numbers up to it are answered or given up. */
static uint64_t acked_seq(const struct clerk_session *session)
{
    const struct operation *lowest = TAILQ_FIRST(&session->writes);

    return lowest != NULL ? lowest->write->session.seq - 1 : session->next_seq - 1;
}

static void release_if_unused(struct clerk *clerk, struct clerk_session *session)
{
    if (session != clerk->session && TAILQ_EMPTY(&session->writes)) {
        mem_free(session);
    }
}

static void rotate(struct clerk *clerk)
{
    struct clerk_session *full = clerk->session;

    clerk->session_generation++;
    clerk->session = session_create(clerk);
    ASSERT(!TAILQ_EMPTY(&full->writes)); /* the last of them releases it */
}

void clerk_session_number(struct operation *operation)
{
    struct clerk *clerk = operation->clerk;
    struct proto_session *identity = &operation->write->session;
    struct clerk_session *session;

    ASSERT(operation->type == OPERATION_WRITE);
    if (operation->session == NULL) {
        if (clerk->session->next_seq > acked_seq(clerk->session) + SEQ_WINDOW) {
            rotate(clerk);
        }
        session = clerk->session;
        operation->session = session;
        memcpy(identity->client, session->client, sizeof(identity->client));
        identity->seq = session->next_seq++;
        identity->issued_at = caller_cluster_time(clerk->caller);
        TAILQ_INSERT_TAIL(&session->writes, operation, in_session);
    }
    identity->acked_seq = acked_seq(operation->session);
    ASSERT(identity->acked_seq < identity->seq);
}

void clerk_session_end(struct operation *operation)
{
    struct clerk_session *session = operation->session;

    if (session == NULL) {
        return;
    }
    TAILQ_REMOVE(&session->writes, operation, in_session);
    operation->session = NULL;
    release_if_unused(operation->clerk, session);
}
