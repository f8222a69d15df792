/* The handshake: who must prove the peer key, and that only the key, the nonces, the side and both
 * hellos as they were said make a proof. */
#include "raft/util/handshake.h"

#include "raft/util/rng.h"
#include "tests/cmocka.h"

/* A MAC good enough for a test: it depends on every byte of the key and of the text. */
struct toy_key {
    struct handshake_key key;
    uint64_t secret;
};

static void toy_mac(void *context, struct slice text, uint8_t mac[HANDSHAKE_PROOF_BYTES])
{
    const struct toy_key *toy = context;

    for (size_t lane = 0; lane < 4; lane++) {
        uint64_t sum = toy->secret * (lane + 0x9e3779b97f4a7c15);

        for (size_t i = 0; i < text.len; i++) {
            sum = (sum ^ text.data[i]) * 0x100000001b3;
            sum ^= sum >> 29;
        }
        set_u64(mac + 8 * lane, sum);
    }
}

static void toy_init(struct toy_key *toy, uint64_t secret)
{
    toy->secret = secret;
    toy->key = (struct handshake_key){.context = toy, .mac = toy_mac};
}

static struct hello peer(uint32_t id)
{
    return (struct hello){.who = HELLO_PEER,
                          .protocol_low = HELLO_PROTOCOL_LOW,
                          .protocol_high = HELLO_PROTOCOL_HIGH,
                          .cluster_id = {1},
                          .gid = 5,
                          .id = id,
                          .incarnation = 100 + id};
}

static struct hello client(void)
{
    struct hello hello = peer(0);

    hello.who = HELLO_CLIENT;
    hello.gid = 0;
    hello.incarnation = 0;
    return hello;
}

/* Two ends; what one says is handed to the other, or not. */
struct talk {
    struct handshake caller, called;
    struct hello caller_hello, called_hello;
    const struct handshake_key *caller_key, *called_key;
    uint8_t nonce; /* of the next handshake's sides */
    const char *reason;
    enum status status;
};

static void talk_init(struct talk *talk, const struct toy_key *key)
{
    memset(talk, 0, sizeof(*talk));
    talk->caller_hello = peer(1);
    talk->called_hello = peer(2);
    talk->caller_key = talk->called_key = key != NULL ? &key->key : NULL;
    talk->reason = "";
}

static void talk_fini(struct talk *talk)
{
    handshake_fini(&talk->caller);
    handshake_fini(&talk->called);
}

static void fresh_nonce(struct talk *talk, uint8_t nonce[HELLO_NONCE_BYTES])
{
    memset(nonce, ++talk->nonce, HELLO_NONCE_BYTES);
}

/* The hellos, up to the first refusal. */
static enum status talk_hellos(struct talk *talk)
{
    uint8_t nonce[HELLO_NONCE_BYTES];

    fresh_nonce(talk, nonce);
    handshake_open(&talk->caller, &talk->caller_hello, nonce, talk->caller_key);
    fresh_nonce(talk, nonce);
    talk->status = handshake_accept(&talk->called, &talk->called_hello, nonce, talk->called_key,
                                    buf_slice(&talk->caller.first), &talk->reason);
    if (talk->status == ST_OK) {
        talk->status =
            handshake_on_answer(&talk->caller, buf_slice(&talk->called.second), &talk->reason);
    }
    return talk->status;
}

static enum status give_proof(struct handshake *from, struct handshake *to, const char **reason)
{
    uint8_t proof[HANDSHAKE_PROOF_BYTES];

    handshake_prove(from, proof);
    return handshake_on_proof(to, slice_of(proof, sizeof(proof)), reason);
}

static void assert_refused(struct talk *talk, enum status status, const char *words)
{
    assert_int_equal(talk->status, status);
    if (strstr(talk->reason, words) == NULL) {
        fail_msg("\"%s\" does not say \"%s\"", talk->reason, words);
    }
    assert_true(strlen(talk->reason) <= REFUSE_MAX_TEXT);
}

/* ---- Who must prove ---- */

static void servers_with_the_same_key_prove_it_to_each_other(void **state)
{
    struct toy_key key;
    struct talk talk;

    (void)state;
    toy_init(&key, 42);
    talk_init(&talk, &key);
    assert_int_equal(talk_hellos(&talk), ST_OK);
    assert_int_equal(talk.caller.state, HANDSHAKE_PROOF);
    assert_int_equal(talk.called.state, HANDSHAKE_PROOF);
    assert_int_equal(give_proof(&talk.caller, &talk.called, &talk.reason), ST_OK);
    assert_true(talk.called.proved);
    assert_int_equal(talk.called.state, HANDSHAKE_DONE);
    assert_false(talk.caller.proved);
    assert_int_equal(give_proof(&talk.called, &talk.caller, &talk.reason), ST_OK);
    assert_true(talk.caller.proved);
    assert_int_equal(talk.caller.state, HANDSHAKE_DONE);
    assert_int_equal(talk.called.other.id, 1);
    assert_int_equal(talk.caller.other.id, 2);
    talk_fini(&talk);
}

static void without_a_key_the_hellos_are_all(void **state)
{
    struct talk talk;

    (void)state;
    talk_init(&talk, NULL);
    assert_int_equal(talk_hellos(&talk), ST_OK);
    assert_int_equal(talk.caller.state, HANDSHAKE_DONE);
    assert_int_equal(talk.called.state, HANDSHAKE_DONE);
    assert_false(talk.called.proved);
    talk_fini(&talk);
}

static void a_client_needs_no_key_and_has_proved_nothing(void **state)
{
    struct toy_key key;
    struct talk talk;

    (void)state;
    toy_init(&key, 42);
    talk_init(&talk, &key);
    talk.caller_hello = client();
    talk.caller_key = NULL;
    assert_int_equal(talk_hellos(&talk), ST_OK);
    assert_int_equal(talk.caller.state, HANDSHAKE_DONE);
    assert_int_equal(talk.called.state, HANDSHAKE_DONE);
    assert_false(talk.called.proved);
    talk_fini(&talk);
}

static void a_server_that_calls_as_a_client_proves_it_too(void **state)
{
    struct toy_key key;
    struct talk talk;

    (void)state;
    toy_init(&key, 42);
    talk_init(&talk, &key);
    talk.caller_hello.who = HELLO_CLIENT;
    talk.caller_hello.flags = HELLO_SERVICE;
    assert_int_equal(talk_hellos(&talk), ST_OK);
    assert_int_equal(talk.called.state, HANDSHAKE_PROOF);
    assert_int_equal(give_proof(&talk.caller, &talk.called, &talk.reason), ST_OK);
    assert_true(talk.called.proved);
    talk_fini(&talk);
}

static void a_server_without_the_key_is_refused_in_its_hello(void **state)
{
    struct toy_key key;

    (void)state;
    toy_init(&key, 42);
    for (int service = 0; service < 2; service++) {
        struct talk talk;

        talk_init(&talk, &key);
        talk.caller_key = NULL;
        if (service) {
            talk.caller_hello.who = HELLO_CLIENT;
            talk.caller_hello.flags = HELLO_SERVICE;
        }
        talk_hellos(&talk);
        assert_refused(&talk, ST_DENIED, "the calling server has no peer key");
        talk_fini(&talk);
        talk_init(&talk, &key);
        talk.called_key = NULL;
        talk_hellos(&talk);
        assert_refused(&talk, ST_DENIED, "the called server has no peer key");
        talk_fini(&talk);
    }
}

/* Version 1 knows no proofs: where there is a key, it can't be let in. */
static void a_peer_of_an_older_version_is_refused_where_there_is_a_key(void **state)
{
    struct toy_key key;
    struct talk talk;

    (void)state;
    toy_init(&key, 42);
    talk_init(&talk, &key);
    talk.caller_key = NULL;
    talk.caller_hello.protocol_high = 1;
    talk_hellos(&talk);
    assert_refused(&talk, ST_DENIED, "no peer key");
    talk_fini(&talk);
    talk_init(&talk, NULL);
    talk.caller_hello.protocol_high = 1;
    assert_int_equal(talk_hellos(&talk), ST_OK);
    talk_fini(&talk);
}

/* The called side may lie, and claim a key less than it has, or be an impostor without one. */
static void a_caller_with_a_key_deals_with_no_server_without(void **state)
{
    struct toy_key key;
    struct talk talk;
    struct hello impostor = peer(2);
    struct buf body = {0};
    uint8_t nonce[HELLO_NONCE_BYTES] = {1};

    (void)state;
    toy_init(&key, 42);
    talk_init(&talk, &key);
    impostor.who = HELLO_SERVER;
    hello_encode(&impostor, &body);
    handshake_open(&talk.caller, &talk.caller_hello, nonce, talk.caller_key);
    talk.status = handshake_on_answer(&talk.caller, buf_slice(&body), &talk.reason);
    assert_refused(&talk, ST_DENIED, "the called server has no peer key");
    buf_fini(&body);
    talk_fini(&talk);
}

static void another_cluster_is_refused_before_any_proof(void **state)
{
    struct toy_key key;
    struct talk talk;

    (void)state;
    toy_init(&key, 42);
    talk_init(&talk, &key);
    talk.called_hello.cluster_id[15] = 1;
    talk_hellos(&talk);
    assert_refused(&talk, ST_WRONG_CLUSTER, "the cluster ids differ");
    talk_fini(&talk);
    talk_init(&talk, NULL);
    talk.caller_hello = client();
    talk.caller_hello.cluster_id[3] = 9; /* a client that states its cluster */
    talk_hellos(&talk);
    assert_refused(&talk, ST_WRONG_CLUSTER, "the cluster ids differ");
    talk_fini(&talk);
}

/* ---- What a proof is worth ---- */

static void another_key_proves_nothing(void **state)
{
    struct toy_key key, other;
    struct talk talk;

    (void)state;
    toy_init(&key, 42);
    toy_init(&other, 43);
    talk_init(&talk, &key);
    talk.caller_key = &other.key;
    assert_int_equal(talk_hellos(&talk), ST_OK);
    talk.status = give_proof(&talk.caller, &talk.called, &talk.reason);
    assert_refused(&talk, ST_DENIED, "the peer keys differ");
    assert_false(talk.called.proved);
    assert_int_equal(talk.called.state, HANDSHAKE_PROOF);
    talk_fini(&talk);
}

/* A proof heard on one connection does not open another: both nonces are in it. */
static void a_proof_can_not_be_replayed(void **state)
{
    struct toy_key key;
    struct talk talk, again;
    uint8_t heard[HANDSHAKE_PROOF_BYTES], nonce[HELLO_NONCE_BYTES];

    (void)state;
    toy_init(&key, 42);
    talk_init(&talk, &key);
    assert_int_equal(talk_hellos(&talk), ST_OK);
    handshake_prove(&talk.caller, heard);

    /* The thief repeats the very hello that it heard; the server's nonce is a new one. */
    talk_init(&again, &key);
    memset(nonce, 77, sizeof(nonce));
    assert_int_equal(handshake_accept(&again.called, &again.called_hello, nonce, again.called_key,
                                      buf_slice(&talk.caller.first), &again.reason),
                     ST_OK);
    again.status = handshake_on_proof(&again.called, slice_of(heard, sizeof(heard)), &again.reason);
    assert_refused(&again, ST_DENIED, "the peer keys differ");
    talk_fini(&again);

    /* And the other way about: an impostor answers the same caller's next call with what the
     * server once answered. */
    assert_int_equal(give_proof(&talk.caller, &talk.called, &talk.reason), ST_OK);
    handshake_prove(&talk.called, heard);
    talk_init(&again, &key);
    memset(nonce, 78, sizeof(nonce));
    handshake_open(&again.caller, &again.caller_hello, nonce, again.caller_key);
    assert_int_equal(
        handshake_on_answer(&again.caller, buf_slice(&talk.called.second), &again.reason), ST_OK);
    again.status = handshake_on_proof(&again.caller, slice_of(heard, sizeof(heard)), &again.reason);
    assert_refused(&again, ST_DENIED, "the peer keys differ");
    talk_fini(&again);
    talk_fini(&talk);
}

/* An impostor without the key sends a caller's own words back to it. */
static void a_proof_can_not_be_reflected(void **state)
{
    struct toy_key key;
    struct talk talk;
    uint8_t own[HANDSHAKE_PROOF_BYTES];
    struct hello mirrored;
    struct buf body = {0};
    uint8_t nonce[HELLO_NONCE_BYTES] = {5};

    (void)state;
    toy_init(&key, 42);
    talk_init(&talk, &key);
    handshake_open(&talk.caller, &talk.caller_hello, nonce, talk.caller_key);
    assert_true(hello_decode(buf_slice(&talk.caller.first), &mirrored));
    hello_encode(&mirrored, &body); /* nonce, flags and all */
    assert_int_equal(handshake_on_answer(&talk.caller, buf_slice(&body), &talk.reason), ST_OK);
    handshake_prove(&talk.caller, own);
    talk.status = handshake_on_proof(&talk.caller, slice_of(own, sizeof(own)), &talk.reason);
    assert_refused(&talk, ST_DENIED, "the peer keys differ");
    buf_fini(&body);
    talk_fini(&talk);
}

/* Whoever sits in between and changes a byte of a hello is found out by both sides. */
static void a_hello_changed_on_the_way_makes_the_proofs_worthless(void **state)
{
    struct toy_key key;
    size_t tried = 0;

    (void)state;
    toy_init(&key, 42);
    for (size_t at = 0; at < 86; at++) {
        struct talk talk;
        struct buf changed = {0};
        uint8_t nonce[HELLO_NONCE_BYTES] = {3};

        talk_init(&talk, &key);
        handshake_open(&talk.caller, &talk.caller_hello, nonce, talk.caller_key);
        buf_put_slice(&changed, buf_slice(&talk.caller.first));
        changed.data[at] ^= 1;
        nonce[0] = 4;
        if (handshake_accept(&talk.called, &talk.called_hello, nonce, talk.called_key,
                             buf_slice(&changed), &talk.reason) == ST_OK &&
            talk.called.state == HANDSHAKE_PROOF) {
            assert_int_equal(
                handshake_on_answer(&talk.caller, buf_slice(&talk.called.second), &talk.reason),
                ST_OK);
            assert_int_equal(give_proof(&talk.caller, &talk.called, &talk.reason), ST_DENIED);
            tried++;
        }
        buf_fini(&changed);
        talk_fini(&talk);
    }
    assert_in_range(tried, 50, 86);
}

static void a_proof_of_another_length_is_malformed(void **state)
{
    struct toy_key key;
    struct talk talk;
    uint8_t proof[HANDSHAKE_PROOF_BYTES + 1] = {0};

    (void)state;
    toy_init(&key, 42);
    talk_init(&talk, &key);
    assert_int_equal(talk_hellos(&talk), ST_OK);
    handshake_prove(&talk.caller, proof);
    for (size_t len = 0; len <= sizeof(proof); len++) {
        if (len != HANDSHAKE_PROOF_BYTES) {
            talk.status = handshake_on_proof(&talk.called, slice_of(proof, len), &talk.reason);
            assert_refused(&talk, ST_MALFORMED, "malformed");
        }
    }
    for (size_t bit = 0; bit < 8 * HANDSHAKE_PROOF_BYTES; bit++) {
        proof[bit / 8] ^= (uint8_t)(1 << bit % 8);
        assert_int_equal(handshake_on_proof(&talk.called, slice_of(proof, 32), &talk.reason),
                         ST_DENIED);
        proof[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    assert_int_equal(handshake_on_proof(&talk.called, slice_of(proof, 32), &talk.reason), ST_OK);
    talk_fini(&talk);
}

static void hostile_hellos_are_refused_or_understood(void **state)
{
    struct rng rng;
    struct toy_key key;

    (void)state;
    rng_init(&rng, 20261);
    toy_init(&key, 42);
    for (int round = 0; round < 20000; round++) {
        struct talk talk;
        struct buf body = {0};
        struct hello hello = peer(1);
        uint8_t nonce[HELLO_NONCE_BYTES] = {3};

        talk_init(&talk, round % 2 == 0 ? &key : NULL);
        hello.flags = (uint16_t)rng_next(&rng);
        hello_encode(&hello, &body);
        for (uint64_t flips = rng_below(&rng, 4); flips > 0; flips--) {
            uint64_t bit = rng_below(&rng, 8 * body.len);

            body.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
        }
        talk.status = handshake_accept(
            &talk.called, &talk.called_hello, nonce, talk.called_key,
            slice_of(body.data, rng_below(&rng, 3) == 0 ? rng_below(&rng, body.len) : body.len),
            &talk.reason);
        assert_true(talk.status == ST_OK || talk.reason[0] != '\0');
        assert_false(talk.called.proved);
        buf_fini(&body);
        talk_fini(&talk);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(servers_with_the_same_key_prove_it_to_each_other),
        cmocka_unit_test(without_a_key_the_hellos_are_all),
        cmocka_unit_test(a_client_needs_no_key_and_has_proved_nothing),
        cmocka_unit_test(a_server_that_calls_as_a_client_proves_it_too),
        cmocka_unit_test(a_server_without_the_key_is_refused_in_its_hello),
        cmocka_unit_test(a_peer_of_an_older_version_is_refused_where_there_is_a_key),
        cmocka_unit_test(a_caller_with_a_key_deals_with_no_server_without),
        cmocka_unit_test(another_cluster_is_refused_before_any_proof),
        cmocka_unit_test(another_key_proves_nothing),
        cmocka_unit_test(a_proof_can_not_be_replayed),
        cmocka_unit_test(a_proof_can_not_be_reflected),
        cmocka_unit_test(a_hello_changed_on_the_way_makes_the_proofs_worthless),
        cmocka_unit_test(a_proof_of_another_length_is_malformed),
        cmocka_unit_test(hostile_hellos_are_refused_or_understood),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
