/* test_loop.c - timers, descriptors, wake-ups from another thread, signals, peers; and callbacks that change the loop. */
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/clock.h"
#include "proto/loop.h"

#define GUARD_MS 60000 /* for what must come; nothing here waits for it */

struct seen {
    struct loop *l;
    int          n_timer, n_fd, n_wake, n_signal, n_peer, fd, id, signo;
    struct peer *peer;
};

static void on_guard(void *ctx, int64_t now)
{
    (void)ctx, (void)now;
    fail_msg("the loop did not end by itself");
}

static struct seen *start(void)
{
    static struct seen s;
    struct err         e;

    memset(&s, 0, sizeof s);
    assert_int_equal(loop_open(&s.l, &e), 0);
    assert_true(loop_timer(s.l, GUARD_MS, on_guard, NULL) >= 0);
    return &s;
}

static void on_timer(void *ctx, int64_t now)
{
    struct seen *s = ctx;

    (void)now;
    if (++s->n_timer == 3) {
        loop_timer_gone(s->l, s->id);
        loop_stop(s->l);
    }
}

static void timers(void **state)
{
    struct seen *s = start();
    struct err   e;
    int64_t      from = now_ms();

    (void)state;
    s->id = loop_timer(s->l, 20, on_timer, s);
    assert_int_equal(loop_run(s->l, &e), 0);
    assert_true(now_ms() - from >= 60);
    s->n_timer = 2;
    s->id = loop_timer(s->l, 10 * GUARD_MS, on_timer, s);
    loop_timer_set(s->l, s->id, now_ms() + 10);
    assert_int_equal(loop_run(s->l, &e), 0); /* sooner than the guard */
    loop_free(s->l);
}

static void on_fd(void *ctx, int fd, int64_t now)
{
    struct seen *s = ctx;
    char         c;

    (void)now;
    if (read(fd, &c, 1) == 1) {
        s->n_fd++;
        return;
    }
    loop_fd_gone(s->l, fd); /* hung up */
    loop_stop(s->l);
}

static void descriptors(void **state)
{
    struct seen *s = start();
    struct err   e;
    int          pipe_fd[2];

    (void)state;
    assert_int_equal(pipe(pipe_fd), 0);
    assert_int_equal(loop_fd(s->l, pipe_fd[0], on_fd, s), 0);
    assert_int_equal(write(pipe_fd[1], "ab", 2), 2);
    close(pipe_fd[1]);
    assert_int_equal(loop_run(s->l, &e), 0);
    assert_int_equal(s->n_fd, 2);
    close(pipe_fd[0]);
    loop_free(s->l);
}

static void on_wake(void *ctx, int64_t now)
{
    struct seen *s = ctx;

    (void)now;
    s->n_wake++;
    loop_stop(s->l);
}

static void *waker(void *ctx)
{
    sleep_ms(20);
    loop_wake(ctx);
    return NULL;
}

static void wake(void **state)
{
    struct seen *s = start();
    struct err   e;
    pthread_t    t;

    (void)state;
    loop_on_wake(s->l, on_wake, s);
    pthread_create(&t, NULL, waker, s->l);
    assert_int_equal(loop_run(s->l, &e), 0);
    assert_int_equal(s->n_wake, 1);
    pthread_join(t, NULL);
    loop_free(s->l);
}

static void on_signal(void *ctx, int signo, int64_t now)
{
    struct seen *s = ctx;

    (void)now;
    s->signo = signo;
    loop_stop(s->l);
}

static void signals(void **state)
{
    struct seen *s = start();
    struct err   e;

    (void)state;
    assert_int_equal(loop_signal(s->l, on_signal, s, &e), 0);
    kill(getpid(), SIGTERM);
    assert_int_equal(loop_run(s->l, &e), 0);
    assert_int_equal(s->signo, SIGTERM);
    loop_free(s->l);
}

static void on_peer(void *ctx, struct peer *p, int64_t now)
{
    struct seen *s = ctx;
    struct arena a;
    struct route from;
    struct msg   m;
    struct err   e;

    (void)now;
    arena_init(&a, "m", 1 << 16);
    while (peer_recv(p, &a, &from, &m, &e) == 0) s->n_peer++;
    arena_release(&a);
    if (s->n_peer >= 5) {
        loop_peer_gone(s->l, p); /* from inside its own callback */
        loop_stop(s->l);
    }
}

static void on_send(void *ctx, int64_t now)
{
    struct seen *s = ctx;
    struct msg   m = {.kind = MSG_BYE};
    struct err   e;

    (void)now;
    peer_send(s->peer, NULL, &m, &e);
}

static void peers(void **state)
{
    struct seen *s = start();
    struct peer *broker = NULL;
    struct err   e;

    (void)state;
    assert_int_equal(peer_bind(&broker, "tcp://127.0.0.1:*", NULL, &e), 0);
    assert_int_equal(peer_connect(&s->peer, peer_endpoint(broker), &e), 0);
    assert_int_equal(loop_peer(s->l, broker, on_peer, s), 0);
    assert_true(loop_timer(s->l, 5, on_send, s) >= 0);
    assert_int_equal(loop_run(s->l, &e), 0);
    assert_true(s->n_peer >= 5);
    peer_close(s->peer);
    peer_close(broker);
    loop_free(s->l);
    peer_shutdown();
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(timers), cmocka_unit_test(descriptors), cmocka_unit_test(wake),
                                       cmocka_unit_test(signals), cmocka_unit_test(peers)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
