/* test_syncer.c - every chore runs once, many at the same time, and each is told how it ended; also those left at the end. */
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <pthread.h>
#include <cmocka.h>

#include "base/clock.h"
#include "broker/syncer.h"

#define N 2000

static atomic_int n_now, n_most;
static struct chore_seen {
    atomic_int n_work;
    int        n_done, rc;
} seen[N];
static pthread_t owner;

static int work(void *ctx, struct err *e)
{
    struct chore_seen *c = ctx;
    int                now = atomic_fetch_add(&n_now, 1) + 1, most = atomic_load(&n_most);

    while (now > most && !atomic_compare_exchange_weak(&n_most, &most, now)) {}
    assert_false(pthread_equal(pthread_self(), owner));
    for (int64_t until = now_ms() + 20000; c < seen + 2 && atomic_load(&n_most) < 2 && now_ms() < until;) sleep_ms(1); /* the first waits for a second one */
    if ((c - seen) % 100 == 0) sleep_ms(5);
    atomic_fetch_add(&c->n_work, 1);
    atomic_fetch_sub(&n_now, 1);
    return (c - seen) % 7 ? 0 : err_set(e, ERR_LIMIT, "chore %d", (int)(c - seen));
}

static void done(void *ctx, int rc, const struct err *e)
{
    struct chore_seen *c = ctx;

    assert_true(pthread_equal(pthread_self(), owner));
    assert_int_equal(atomic_load(&c->n_work), 1);
    assert_int_equal(rc, (c - seen) % 7 ? 0 : ERR_LIMIT);
    if (rc) assert_int_equal(e->code, ERR_LIMIT);
    c->n_done++;
}

static void test_all_once(void **state)
{
    struct syncer *s;
    struct err     e;

    (void)state;
    owner = pthread_self();
    assert_int_equal(syncer_open(&s, &e), 0);
    for (int i = 0; i < N / 2; i++) syncer_put(s, work, done, &seen[i]);
    assert_int_equal(syncer_n(s), N / 2);
    for (int64_t until = now_ms() + 60000; syncer_n(s);) {
        struct pollfd p = {.fd = syncer_fd(s), .events = POLLIN};

        assert_true(now_ms() < until);
        poll(&p, 1, 100);
        if (p.revents) syncer_reap(s);
    }
    for (int i = 0; i < N / 2; i++) assert_int_equal(seen[i].n_done, 1);
    assert_true(n_most > 1 && n_most <= SYNC_THREADS);
    for (int i = N / 2; i < N; i++) syncer_put(s, work, done, &seen[i]);
    syncer_close(s); /* nothing that was put is lost */
    for (int i = N / 2; i < N; i++) assert_int_equal(seen[i].n_done, 1);
}

static void test_nothing(void **state)
{
    struct syncer *s;
    struct err     e;

    (void)state;
    assert_int_equal(syncer_open(&s, &e), 0);
    syncer_reap(s);
    syncer_close(s);
    syncer_close(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_nothing), cmocka_unit_test(test_all_once)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
