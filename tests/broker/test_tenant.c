/* test_tenant.c - what a client may have: refused with a reason and a time, and counted back when it is gone. */
#include "tests/broker/pure.h"

static void test_limits(void **state)
{
    struct tenant     *all = NULL, *t;
    const struct quota q = {.queued = 100, .bytes = 10 << 20};
    struct err         e = {0};
    uint32_t           later;

    (void)state;
    t = tenants_get(&all, str_of("ann"), &q);
    assert_ptr_equal(tenants_get(&all, str_of("ann"), &q), t);
    assert_ptr_equal(tenants_find(all, str_of("ann")), t);
    assert_null(tenants_find(all, str_of("an")));
    assert_null(tenants_find(all, str_of("")));
    assert_int_equal(tenant_admit(t, 1, 100, 0, &later, &e), 0);
    assert_int_equal(tenant_admit(t, 1, 101, 0, &later, &e), ERR_LIMIT); /* never: nobody need ask again */
    assert_int_equal(later, 0);
    t->n_queued = 1;
    assert_int_equal(tenant_admit(t, 1, 100, 0, &later, &e), ERR_LIMIT);
    assert_true(later > 0 && strstr(e.text, "1 of this client's images wait already, and 100 may"));
    assert_int_equal(tenant_admit(t, 1, 99, 0, &later, &e), 0);
    t->kept_bytes = 10 << 20;
    assert_int_equal(tenant_admit(t, 1, 1, 0, &later, &e), ERR_LIMIT);
    assert_true(later > 0 && strstr(e.text, "10 MiB"));
    assert_true(tenant_full(t)); /* nothing more is made for it, either */
    t->kept_bytes--;
    assert_false(tenant_full(t));
    t->n_queued = 0;
    t->paused = true;
    tenants_sweep(&all, 0);
    assert_ptr_equal(tenants_find(all, str_of("ann")), t); /* a pause is not forgotten */
    t->paused = false;
    tenants_sweep(&all, 0);
    assert_null(all);
}

/* 50 items a second, 300 at once: whoever waits as long as he is told gets in, and over a minute it is 50 a second. */
static void test_rate(void **state)
{
    struct tenant     *all = NULL, *t;
    const struct quota q = {.items_per_s = 50, .burst = 300};
    struct err         e = {0};
    uint32_t           later, n = 0;
    int64_t            now = 1000;

    (void)state;
    t = tenants_get(&all, str_of("bob"), &q);
    assert_int_equal(tenant_admit(t, 256, 1, now, &later, &e), 0);
    assert_int_equal(tenant_admit(t, 256, 1, now, &later, &e), ERR_LIMIT);
    assert_int_equal(later, (256 - 44) * 1000 / 50 + 1);
    tenants_sweep(&all, now); /* it would get a full bucket by being forgotten */
    assert_non_null(all);
    assert_int_equal(tenant_admit(t, 256, 1, now + later - 2, &later, &e), ERR_LIMIT);
    assert_int_equal(tenant_admit(t, 256, 1, now + 1 + (256 - 44) * 1000 / 50, &later, &e), 0);
    for (now = 20000; now < 80000; now += later)
        if (tenant_admit(t, 10, 1, now, &later, &e) == 0) {
            n += 10;
            later = 1;
        }
    assert_in_range(n, 50 * 60 - 10, 50 * 60 + 300 + 10);
    assert_true(t->tokens_milli <= 300000);
    tenants_sweep(&all, now + 10000);
    assert_null(all);
}

/* Counts follow every task of the client, in whatever class and job, and a client who holds what it may gets no more until one ends. */
static void test_leases(void **state)
{
    struct pure    p;
    struct pair    pair;
    struct tenant *t;
    struct task   *held[3];
    struct spec    s = pure_spec(256, "a cat");

    (void)state;
    pure_open(&p);
    p.book.quota.leases = 3;
    pure_worker(&p, 10, "turbo", NULL, 0)->max_batch = 4;
    pure_of(&p, 5, "ann", CLASS_INTERACTIVE, &s, 0);
    pure_of(&p, 5, "ann", CLASS_BULK, &s, 0);
    t = tenants_find(p.book.tenant, str_of("ann"));
    assert_int_equal(t->n_queued, 10);
    assert_true(pure_next(&p, 0, &pair));
    assert_int_equal(pair.n_also, 2); /* the worker makes four at once; the client may hold three */
    held[0] = pair.task;
    held[1] = pair.also[0];
    held[2] = pair.also[1];
    assert_int_equal(t->n_queued, 7);
    assert_int_equal(t->n_running, 3);
    assert_true(tenant_full(t));
    pure_of(&p, 1, "bob", CLASS_BULK, &s, 0);
    for (int i = 0; i < 3; i++) pure_end(&p, held[i], i ? TASK_DONE : TASK_QUEUED);
    queue_push_front(&p.queue, held[0]);
    assert_int_equal(t->n_queued, 8);
    assert_int_equal(t->n_running, 0);
    assert_int_equal(task_job(held[0])->share->n_running, 0);
    book_share(&p.book, task_job(held[0]), str_of("ann"), CLASS_INTERACTIVE); /* no change is none */
    assert_int_equal(t->n_queued, 8);
    pure_close(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_limits), cmocka_unit_test(test_rate), cmocka_unit_test(test_leases)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
