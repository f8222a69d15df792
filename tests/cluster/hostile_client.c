/* hostile_client PORT WHAT [OWNER_URL]: sends a server on loopback what no friendly client sends,
 * and checks that it answers, refuses or closes, and serves others all the while.
 *
 * WHAT is garbage, frames, hellos, messages, requests, slow, silent or flood. OWNER_URL is the URL
 * of a member group's replica: joins name it, so that no flipped bit makes one that is allowed.
 * Everything is bounded in count and time. Exit 0 if all held; else a line on stderr says what did
 * not.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "tests/cluster/hostile.h"

/* ---- Slow, silent, greedy ---- */

static void send_slowly(void)
{
    enum { N = 20 };
    struct hello hello = hostile_client_hello();
    struct buf bytes = hostile_hello_frame(&hello),
               request = hostile_encode((struct proto_request){.op = PROTO_PING});
    struct buf batch = hostile_batch_of(0, FRAME_MESSAGE_REQUEST, buf_slice(&request));
    int strangers[N], friends[N];

    for (uint32_t i = 0; i < N; i++) {
        strangers[i] = hostile_dial();
        friends[i] = hostile_dial_as_client();
    }
    for (size_t at = 0; at < bytes.len || at < batch.len; at++) {
        for (uint32_t i = 0; i < N;
             i++) { /* a hello must come within a second, a request need not */
            if (at < bytes.len) {
                hostile_put(strangers[i], slice_of(bytes.data + at, 1));
            }
            if (at < batch.len) {
                hostile_put(friends[i], slice_of(batch.data + at, 1));
            }
        }
        hostile_pause_ms(25);
    }
    hostile_expect_service("not served while others are slow");
    for (uint32_t i = 0; i < N; i++) {
        hostile_expect_closed(strangers[i], "a hello may take as long as it likes");
        hostile_await(friends[i], 1, "a slow request was not answered");
        close(friends[i]);
    }
    buf_fini(&bytes);
    buf_fini(&request);
    buf_fini(&batch);
}

static void stay_silent(void)
{
    enum { N = 400 };
    int fds[N];

    for (uint32_t i = 0; i < N; i++) {
        fds[i] = i % 2 == 0 ? hostile_dial() : hostile_dial_as_client();
    }
    hostile_expect_service("not served while others are silent");
    for (uint32_t i = 0; i < N; i++) {
        if (i % 2 == 0) {
            hostile_expect_closed(fds[i], "a silent stranger was kept");
        } else {
            hostile_drop(fds[i]);
        }
    }
}

/* Requests with large answers, and none of them read. */
static void flood(void)
{
    enum { N = 8 };
    uint64_t end = hostile_now_ms() + 4000;
    struct slice keys[] = {slice_text("big-1"), slice_text("key-1"), slice_text("big-2")};
    int fds[N];

    for (uint32_t i = 0; i < N; i++) {
        fds[i] = hostile_dial_as_client();
        fcntl(fds[i], F_SETFL, O_NONBLOCK);
    }
    for (uint32_t round = 0; round < 20000 && hostile_now_ms() < end; round++) {
        uint32_t i = round % N;
        struct slice key = keys[round % 3];
        struct buf out = hostile_encode(
            round % 5 == 0
                ? (struct proto_request){.op = PROTO_STATUS}
                : (struct proto_request){.op = PROTO_GET, .get = {shard_of_key(key, 16), key}});

        hostile_put_request(fds[i],
                            &out); /* cut anywhere when the server takes no more: all the better */
        if (round % 5000 == 4999) {
            hostile_expect_service("not served while others don't read");
        }
    }
    hostile_expect_service("not served while others don't read");
    for (uint32_t i = 0; i < N; i++) {
        hostile_drop(fds[i]);
    }
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        void (*run)(void);
    } all[] = {{"garbage", hostile_send_garbage},
               {"frames", hostile_send_frames},
               {"hellos", hostile_send_hellos},
               {"messages", hostile_send_messages},
               {"requests", hostile_send_requests},
               {"slow", send_slowly},
               {"silent", stay_silent},
               {"flood", flood}};

    if (argc < 3) {
        fprintf(stderr, "usage: hostile_client PORT WHAT [OWNER_URL]\n");
        return 2;
    }
    hostile_port = (uint16_t)atoi(argv[1]);
    hostile_owner_url = argc > 3 ? argv[3] : hostile_owner_url;
    rng_init(&hostile_rng, 20240229);
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
        if (strcmp(all[i].name, argv[2]) == 0) {
            all[i].run();
            hostile_await_all_closed();
            hostile_expect_service("others are not served afterwards");
            return 0;
        }
    }
    fprintf(stderr, "hostile_client: no such attack: %s\n", argv[2]);
    return 2;
}
