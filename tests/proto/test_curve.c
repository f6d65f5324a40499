/* test_curve.c - who comes in through a door with keys, and who does not (RELIABILITY.md 6.4, X1 and X2, without a broker behind it). */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>
#include <zmq.h>

#include "base/clock.h"
#include "proto/peer.h"
#include "proto/zap.h"

#define PATIENCE_MS 30000

static struct arena arena;
static struct key   server, alice, bob;
static struct zap  *zap;
static struct peer *door;

static void key_for(struct key *k, const char *name)
{
    key_make(k, name, KEY_CLIENT, server.public_key);
}

static int setup(void **state)
{
    struct err e = {0};

    (void)state;
    key_make(&server, "server", KEY_BROKER, NULL);
    key_for(&alice, "alice");
    key_for(&bob, "bob");
    if (arena_init(&arena, "test", MSG_ARENA_BYTES) || zap_open(&zap, &e)) return -1;
    zap_allow(zap, &alice.public_key, 1);
    return peer_bind(&door, "tcp://127.0.0.1:*", &(struct peer_opts){.key = &server}, &e);
}

static int teardown(void **state)
{
    (void)state;
    peer_close(door);
    zap_close(zap);
    peer_shutdown();
    arena_release(&arena);
    door = NULL;
    zap = NULL;
    return 0;
}

/* Says READY{n}. 0: it came in, *from and peer_user() tell of whom; else why not: peer_refused()'s code. ERR_BUSY: the handshake broke off. */
static int knock_once(struct peer *p, uint32_t n, struct route *from, struct err *e)
{
    struct msg m = {.kind = MSG_READY, .ready = {n}}, got;
    int64_t    until = now_ms() + PATIENCE_MS;
    int        rc = ERR_BUSY;

    while (now_ms() < until) {
        if (rc) rc = peer_send(p, NULL, &m, NULL);
        if (!peer_recv(door, &arena, from, &got, NULL)) {
            assert_int_equal(got.ready.capacity, n);
            return 0;
        }
        if (peer_refused(p, e)) return e->code;
        sleep_ms(5);
    }
    return ERR_TIMEOUT;
}

/* Until it is let in or turned away: the other side may hang up before it has told why. */
static int knock(struct peer *p, uint32_t n, struct route *from, struct err *e)
{
    int rc;

    while ((rc = knock_once(p, n, from, e)) == ERR_BUSY) sleep_ms(5);
    return rc;
}

static void let_both_in(void)
{
    uint8_t both[2][CURVE_BYTES];

    memcpy(both[0], alice.public_key, CURVE_BYTES);
    memcpy(both[1], bob.public_key, CURVE_BYTES);
    zap_allow(zap, (const uint8_t(*)[CURVE_BYTES])both, 2);
}

static void nobody_came(void)
{
    struct msg m;

    for (int i = 0; i < 20; i++) {
        assert_int_equal(peer_recv(door, &arena, NULL, &m, NULL), ERR_BUSY);
        sleep_ms(10);
    }
}

static void known_key(void **state)
{
    struct peer *p = NULL;
    struct route from;
    struct msg   m = {.kind = MSG_BEAT_OK, .beat_ok = {.seq = 7}}, got;
    struct err   e = {0};

    (void)state;
    assert_true(peer_keyed(door));
    assert_int_equal(peer_connect_as(&p, peer_endpoint(door), &alice, &e), 0);
    assert_int_equal(knock(p, 3, &from, &e), 0);
    assert_memory_equal(peer_user(door), alice.public_key, CURVE_BYTES);
    assert_int_equal(peer_send(door, &from, &m, &e), 0);
    for (int64_t until = now_ms() + PATIENCE_MS; peer_recv(p, &arena, NULL, &got, &e) && now_ms() < until;) peer_wait(p, 10);
    assert_int_equal(got.beat_ok.seq, 7);
    assert_int_equal(peer_refused(p, &e), 0);
    peer_close(p);
}

static void unknown_key(void **state)
{
    struct peer *p = NULL;
    struct route from;
    uint64_t     in, refused, refused_before;
    struct err   e = {0};

    (void)state;
    zap_count(zap, &in, &refused_before); /* the self-test's stranger */
    assert_int_equal(in, 0);
    assert_true(refused_before >= 1);
    assert_int_equal(peer_connect_as(&p, peer_endpoint(door), &bob, &e), 0);
    assert_int_equal(knock(p, 1, &from, &e), ERR_STATE);
    assert_non_null(strstr(e.text, "zfarm-keys add"));
    nobody_came();
    peer_close(p);
    zap_count(zap, &in, &refused);
    assert_true(refused > refused_before);
    assert_int_equal(in, 0);
}

static void wrong_server_key(void **state)
{
    struct peer *p = NULL;
    struct key   other, lost = alice;
    struct route from;
    struct err   e = {0};

    (void)state;
    key_make(&other, "x", KEY_CLIENT, NULL);
    memcpy(lost.server, other.public_key, CURVE_BYTES);
    assert_int_equal(peer_connect_as(&p, peer_endpoint(door), &lost, &e), 0);
    assert_int_equal(knock_once(p, 1, &from, &e), ERR_BUSY);
    assert_non_null(strstr(e.text, "--server-key"));
    nobody_came();
    peer_close(p);
    assert_true(peer_n_refused(door) >= 1);
    lost.has_server = false;
    assert_int_equal(peer_connect_as(&p, peer_endpoint(door), &lost, &e), ERR_ARG);
}

static void no_key(void **state)
{
    struct peer *p = NULL;
    void        *context = zmq_ctx_new(), *plain = zmq_socket(context, ZMQ_DEALER);
    struct route from;
    uint64_t     before;
    struct err   e = {0};
    const int    zero = 0;

    (void)state;
    assert_int_equal(peer_connect(&p, peer_endpoint(door), &e), 0);
    assert_int_equal(knock(p, 1, &from, &e), ERR_STATE);
    assert_non_null(strstr(e.text, "asks for a key"));
    peer_close(p);
    before = peer_n_refused(door);
    assert_true(before >= 1);
    zmq_setsockopt(plain, ZMQ_LINGER, &zero, sizeof zero);
    zmq_setsockopt(plain, ZMQ_PLAIN_USERNAME, "admin", 5);
    zmq_setsockopt(plain, ZMQ_PLAIN_PASSWORD, "admin", 5);
    assert_int_equal(zmq_connect(plain, peer_endpoint(door)), 0);
    zmq_send(plain, "x", 1, ZMQ_DONTWAIT);
    for (int64_t until = now_ms() + PATIENCE_MS; peer_n_refused(door) == before && now_ms() < until;) sleep_ms(10);
    assert_true(peer_n_refused(door) > before);
    nobody_came();
    zmq_close(plain);
    zmq_ctx_term(context);
}

static void key_where_none_is_asked(void **state)
{
    struct peer *open = NULL, *p = NULL, *keyed = door;
    struct route from;
    struct err   e = {0};

    (void)state;
    assert_int_equal(peer_bind(&open, "tcp://127.0.0.1:*", NULL, &e), 0);
    assert_false(peer_keyed(open));
    assert_int_equal(peer_connect_as(&p, peer_endpoint(open), &alice, &e), 0);
    door = open;
    assert_int_equal(knock(p, 1, &from, &e), ERR_STATE);
    assert_true(strstr(e.text, "has no keys") || strstr(e.text, "it has none"));
    door = keyed;
    peer_close(p);
    peer_close(open);
}

/* X2: a routing id of one's own choice is not heard, so no session can be continued under a name that somebody else had. */
static void chosen_routing_id(void **state)
{
    struct peer *p = NULL;
    void        *context = zmq_ctx_new(), *thief = zmq_socket(context, ZMQ_DEALER);
    struct route from;
    struct msg   m = {.kind = MSG_READY}, got;
    struct err   e = {0};
    const int    zero = 0;

    (void)state;
    let_both_in();
    assert_int_equal(peer_connect_as(&p, peer_endpoint(door), &alice, &e), 0);
    assert_int_equal(knock(p, 1, &from, &e), 0);
    zmq_setsockopt(thief, ZMQ_LINGER, &zero, sizeof zero);
    zmq_setsockopt(thief, ZMQ_CURVE_SERVERKEY, server.public_key, CURVE_BYTES);
    zmq_setsockopt(thief, ZMQ_CURVE_PUBLICKEY, bob.public_key, CURVE_BYTES);
    zmq_setsockopt(thief, ZMQ_CURVE_SECRETKEY, bob.secret, CURVE_BYTES);
    zmq_setsockopt(thief, ZMQ_ROUTING_ID, "worker-1", 8);
    assert_int_equal(zmq_connect(thief, peer_endpoint(door)), 0);
    assert_int_equal(zmq_send(thief, "x", 1, 0), 1);
    for (int64_t until = now_ms() + PATIENCE_MS; now_ms() < until; sleep_ms(5)) {
        int rc = peer_recv(door, &arena, &from, &got, &e);

        if (rc == ERR_BUSY) continue;
        assert_int_equal(rc, ERR_PROTO);
        break;
    }
    assert_non_null(strstr(e.text, "chose its routing id"));
    assert_int_equal(from.len, 0);
    assert_int_equal(peer_send(door, &from, &m, &e), ERR_NOTFOUND); /* and cannot be answered */
    assert_int_equal(knock(p, 2, &from, &e), 0);                    /* the other one goes on */
    assert_memory_equal(peer_user(door), alice.public_key, CURVE_BYTES);
    peer_close(p);
    zmq_close(thief);
    zmq_ctx_term(context);
}

static void two_users_one_door(void **state)
{
    struct peer *a = NULL, *b = NULL;
    struct route from;
    struct err   e = {0};

    (void)state;
    let_both_in();
    assert_int_equal(peer_connect_as(&a, peer_endpoint(door), &alice, &e), 0);
    assert_int_equal(peer_connect_as(&b, peer_endpoint(door), &bob, &e), 0);
    for (uint32_t i = 0; i < 10; i++) {
        assert_int_equal(knock(a, i, &from, &e), 0);
        assert_memory_equal(peer_user(door), alice.public_key, CURVE_BYTES);
        assert_int_equal(knock(b, i, &from, &e), 0);
        assert_memory_equal(peer_user(door), bob.public_key, CURVE_BYTES);
    }
    peer_close(a);
    peer_close(b);
}

/* ---- the self-test: without a handler, and with one that lets everybody in, no door is offered ---- */
static void *welcome_all(void *socket)
{
    for (;;) {
        char   id[16], rest[256];
        int    more = 1, n_id = 0;
        size_t size = sizeof more;

        for (int k = 0; more; k++) {
            int n = zmq_recv(socket, k == 1 ? id : rest, k == 1 ? sizeof id : sizeof rest, 0);

            if (n < 0) return NULL; /* the context ends */
            if (k == 1) n_id = n;
            zmq_getsockopt(socket, ZMQ_RCVMORE, &more, &size);
        }
        zmq_send(socket, "1.0", 3, ZMQ_SNDMORE);
        zmq_send(socket, id, (size_t)n_id, ZMQ_SNDMORE);
        zmq_send(socket, "200", 3, ZMQ_SNDMORE);
        zmq_send(socket, "OK", 2, ZMQ_SNDMORE);
        zmq_send(socket, "everybody", 9, ZMQ_SNDMORE);
        zmq_send(socket, "", 0, 0);
    }
}

static void no_handler(void **state)
{
    struct peer *p = NULL;
    struct err   e = {0};

    (void)state;
    key_make(&server, "server", KEY_BROKER, NULL);
    assert_int_equal(peer_bind(&p, "tcp://127.0.0.1:*", &(struct peer_opts){.key = &server}, &e), ERR_STATE);
    assert_non_null(strstr(e.text, "no ZAP handler"));
    peer_shutdown();
}

static void open_handler(void **state)
{
    struct peer *p = NULL;
    struct err   e = {0};
    void        *socket;
    pthread_t    thread;
    const int    zero = 0;

    (void)state;
    key_make(&server, "server", KEY_BROKER, NULL);
    socket = zmq_socket(peer_context(&e), ZMQ_REP);
    zmq_setsockopt(socket, ZMQ_LINGER, &zero, sizeof zero);
    assert_int_equal(zmq_bind(socket, "inproc://zeromq.zap.01"), 0);
    assert_int_equal(pthread_create(&thread, NULL, welcome_all, socket), 0);
    assert_int_equal(peer_bind(&p, "tcp://127.0.0.1:*", &(struct peer_opts){.key = &server}, &e), ERR_STATE);
    assert_non_null(strstr(e.text, "let in a key drawn at random"));
    zmq_ctx_shutdown(peer_context(&e));
    pthread_join(thread, NULL);
    zmq_close(socket);
    peer_shutdown();
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {T(known_key), T(unknown_key), T(wrong_server_key), T(no_key), T(key_where_none_is_asked),
                                       T(chosen_routing_id), T(two_users_one_door), cmocka_unit_test(no_handler), cmocka_unit_test(open_handler)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
