/* cli_ask: see cli_ask.h. */
#include "client/cli_ask.h"

#include <pthread.h>
#include <stdlib.h>

/* Answers arrive on the library's threads. */
struct gathering {
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    size_t outstanding;
};

struct asked {
    struct gathering *gathering;
    struct shardkv_result **result;
};

static void on_answer(void *context, struct shardkv_result *result)
{
    struct asked *asked = context;
    struct gathering *gathering = asked->gathering;

    pthread_mutex_lock(&gathering->mutex);
    *asked->result = result;
    gathering->outstanding--;
    pthread_cond_signal(&gathering->changed);
    pthread_mutex_unlock(&gathering->mutex);
}

void cli_ask_all(struct shardkv *kv, const struct cli_question *questions, size_t n,
                 uint32_t timeout_ms, cli_ask_async ask)
{
    struct gathering gathering = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, 0};
    struct asked *asked = calloc(n + 1, sizeof(*asked));

    if (asked == NULL) {
        abort();
    }
    for (size_t i = 0; i < n; i++) {
        asked[i] = (struct asked){&gathering, questions[i].result};
        pthread_mutex_lock(&gathering.mutex);
        gathering.outstanding++;
        pthread_mutex_unlock(&gathering.mutex);
        if (ask(kv, questions[i].url, timeout_ms, on_answer, &asked[i], NULL) != SHARDKV_OK) {
            pthread_mutex_lock(&gathering.mutex);
            gathering.outstanding--;
            pthread_mutex_unlock(&gathering.mutex);
        }
    }
    pthread_mutex_lock(&gathering.mutex);
    while (gathering.outstanding > 0) {
        pthread_cond_wait(&gathering.changed, &gathering.mutex);
    }
    pthread_mutex_unlock(&gathering.mutex);
    pthread_cond_destroy(&gathering.changed);
    pthread_mutex_destroy(&gathering.mutex);
    free(asked);
}
