/* test_crowd.c - strangers who say nothing are cut when there are many of them; who has shaken hands stays, with keys and without. */
#include <arpa/inet.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/clock.h"
#include "proto/crowd.h"
#include "proto/peer.h"
#include "proto/zap.h"

#define N            (CROWD_MAX + 44)
#define PATIENCE_MS  30000
#define HANDSHAKE_MS 5000 /* ZeroMQ's own patience with strangers (peer.c) */

static struct arena arena;

static int setup(void **state)
{
    (void)state;
    return arena_init(&arena, "test", MSG_ARENA_BYTES);
}

static int teardown(void **state)
{
    (void)state;
    peer_shutdown();
    arena_release(&arena);
    return 0;
}

/* Says BEAT{n} at the door. */
static void say(struct peer *door, struct peer *p, uint32_t n)
{
    struct msg m = {.kind = MSG_BEAT, .beat = {.seq = n}}, got = {0};
    struct err e = {0};
    int        rc = ERR_BUSY;

    for (int64_t until = now_ms() + PATIENCE_MS; now_ms() < until; sleep_ms(1)) {
        if (rc) rc = peer_send(p, NULL, &m, &e);
        peer_tend(door);
        if (rc == 0 && peer_recv(door, &arena, NULL, &got, &e) == 0) break;
        if (peer_refused(p, &e) == ERR_STATE) break; /* a handshake that broke off is tried again */
    }
    if (got.beat.seq != n) fail_msg("peer %u was not heard: %s", n, e.text);
    arena_reset(&arena, 0);
}

static void friends_stay(bool keyed)
{
    static struct peer *p[N];
    struct peer        *door = NULL;
    struct zap         *zap = NULL;
    struct key          server, me;
    struct err          e = {0};

    key_make(&server, "server", KEY_BROKER, NULL);
    key_make(&me, "me", KEY_CLIENT, server.public_key);
    if (keyed) {
        assert_int_equal(zap_open(&zap, &e), 0);
        zap_allow(zap, &me.public_key, 1);
    }
    assert_int_equal(peer_bind(&door, "tcp://127.0.0.1:*", &(struct peer_opts){.key = keyed ? &server : NULL}, &e), 0);
    for (uint32_t i = 0; i < N; i++) {
        assert_int_equal(peer_connect_as(&p[i], peer_endpoint(door), keyed ? &me : NULL, &e), 0);
        say(door, p[i], i + 1);
    }
    for (uint32_t i = 0; i < N; i++) say(door, p[i], N + i + 1); /* the same connections, all of them */
    for (int i = 0; i < N; i++) peer_close(p[i]);
    peer_close(door);
    zap_close(zap);
}

static void without_keys(void **state)
{
    (void)state;
    friends_stay(false);
}

static void with_keys(void **state)
{
    (void)state;
    friends_stay(true);
}

static bool hung_up(int fd)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    char          page[256];

    while (poll(&p, 1, 0) > 0)
        if (recv(fd, page, sizeof page, 0) <= 0) return true; /* its greeting comes first */
    return false;
}

/* The listener has taken this connection: its greeting is there. */
static void greeted(int fd)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};

    assert_int_equal(poll(&p, 1, PATIENCE_MS), 1);
}

static void strangers_go(void **state)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct peer       *door = NULL, *p = NULL;
    struct err         e = {0};
    int64_t            last_ms = 0;
    int                fd[N], n_cut = 0;
    bool               cut;

    (void)state;
    assert_int_equal(peer_bind(&door, "tcp://127.0.0.1:*", NULL, &e), 0);
    at.sin_port = htons((uint16_t)strtol(strrchr(peer_endpoint(door), ':') + 1, NULL, 10));
    assert_int_equal(peer_connect(&p, peer_endpoint(door), &e), 0);
    say(door, p, 1);
    for (int i = 0; i < N; i++) {
        fd[i] = socket(AF_INET, SOCK_STREAM, 0);
        last_ms = now_ms();
        assert_int_equal(connect(fd[i], (struct sockaddr *)&at, sizeof at), 0);
        peer_tend(door);
        if (i != CROWD_MAX + 3) continue;
        for (int k = 0; k <= i; k++) greeted(fd[k]);
        peer_tend(door); /* it knows of all of them now, */
        sleep_ms(CROWD_YOUNG_MS + 200); /* and they are not young any more when the last come */
    }
    for (int64_t until = now_ms() + PATIENCE_MS; !hung_up(fd[0]) && now_ms() < until; sleep_ms(5)) peer_tend(door);
    for (int i = 0; i < N; i++) n_cut += hung_up(fd[i]);
    assert_true(n_cut >= 1);
    cut = hung_up(fd[N - 1]);
    assert_false(cut && now_ms() - last_ms < HANDSHAKE_MS); /* later ZeroMQ may have hung up on it */
    say(door, p, 2);
    for (int i = 0; i < N; i++) close(fd[i]);
    peer_close(p);
    peer_close(door);
}

/* Who has just come is not cut for who comes after, until there are too many in any case. */
static void young_stay(void **state)
{
    static struct crowd c; /* of descriptors that are no sockets: crowd_shaken() does not cut those, the ring is what is looked at */

    (void)state;
    for (int i = 0; i < CROWD_HARD_MAX; i++) crowd_came(&c, 100000 + i, 5000);
    assert_int_equal(c.n, CROWD_HARD_MAX);
    crowd_came(&c, 200000, 5000);
    assert_int_equal(c.n, CROWD_HARD_MAX);
    crowd_came(&c, 200001, 5000 + CROWD_YOUNG_MS);
    assert_int_equal(c.n, CROWD_HARD_MAX);
    crowd_came(&c, 200002, 5001 + CROWD_YOUNG_MS); /* those of 5000 go, as many as are too many */
    assert_int_equal(c.n, CROWD_MAX);
    crowd_left(&c, 200002);
    crowd_came(&c, 200003, 5001 + CROWD_YOUNG_MS);
    assert_int_equal(c.n, CROWD_MAX);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {T(without_keys), T(with_keys), T(strangers_go), T(young_stay)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
