/* test_queue.c - round robin over jobs, retries first, back-off outside, and nothing lost in ten thousand random steps. */
#include "tests/broker/pure.h"

#include <stdlib.h>

/* Given away and begun at once. */
static void take(struct pure *p, struct task *t, uint32_t cost_ms)
{
    struct turn turn = queue_take(&p->queue, t, cost_ms, true);

    queue_begun(&p->queue, &turn);
}

static struct task *next(struct pure *p)
{
    struct lane *l = queue_first(&p->queue);
    struct task *t = l ? lane_first(l) : NULL;

    if (t) take(p, t, t->lot->cost);
    return t;
}

static void test_one_image_need_not_wait(void **state)
{
    struct pure p;
    struct job *big, *one;

    (void)state;
    pure_open(&p);
    big = pure_job(&p, 10000, "", NULL);
    next(&p);
    one = pure_job(&p, 1, "", NULL);
    assert_int_equal(next(&p)->index, 1); /* big was first in the ring */
    assert_ptr_equal(task_job(next(&p)), one);
    for (uint32_t i = 2; i < 10000; i++) {
        struct task *t = next(&p);

        assert_ptr_equal(task_job(t), big);
        assert_int_equal(t->index, i); /* in its own order */
    }
    assert_null(next(&p));
    assert_null(queue_first(&p.queue));
    pure_close(&p);
}

static void test_round_robin(void **state)
{
    struct pure p;
    struct job *j[3];

    (void)state;
    pure_open(&p);
    for (int i = 0; i < 3; i++) j[i] = pure_job(&p, 4, "", NULL);
    for (int i = 0; i < 12; i++) assert_ptr_equal(task_job(next(&p)), j[i % 3]);
    pure_close(&p);
}

static void test_retries_first_and_backoff(void **state)
{
    struct pure  p;
    struct task *a, *b, *c;

    (void)state;
    pure_open(&p);
    pure_job(&p, 5, "", NULL);
    a = next(&p);
    b = next(&p);
    c = next(&p);
    queue_push_front(&p.queue, b);
    queue_delay(&p.queue, a, 1000);
    queue_delay(&p.queue, c, 500);
    assert_int_equal(p.queue.ripe_ms, 500);
    assert_ptr_equal(lane_after(queue_first(&p.queue), b)->index == 3 ? b : NULL, b); /* behind the retries, the fresh */
    assert_ptr_equal(next(&p), b);
    queue_ripen(&p.queue, 499);
    assert_int_equal(next(&p)->index, 3);
    queue_ripen(&p.queue, 500);
    assert_ptr_equal(next(&p), c);
    assert_int_equal(p.queue.ripe_ms, 1000);
    assert_int_equal(next(&p)->index, 4);
    assert_null(queue_first(&p.queue));
    queue_ripen(&p.queue, 5000);
    assert_ptr_equal(next(&p), a);
    pure_close(&p);
}

static struct job *of_client(struct pure *p, uint32_t n, const char *client, enum job_class c)
{
    struct job *j = pure_job(p, n, "", NULL);

    for (uint32_t i = 0; i < n; i++) queue_remove(&p->queue, &j->batch->task[i]);
    book_share(&p->book, j, str_of(client), c);
    for (uint32_t i = 0; i < n; i++) queue_push(&p->queue, &j->batch->task[i]);
    return j;
}

/* 8:4:1 while all wait, exactly; the farm is whole for who waits alone. */
static void test_classes(void **state)
{
    struct pure p;
    struct job *j[4] = {0};
    int         n[4] = {0};

    (void)state;
    pure_open(&p);
    for (int c = CLASS_INTERACTIVE; c <= CLASS_BULK; c++) j[c] = of_client(&p, 2000, "a", (enum job_class)c);
    for (int i = 0; i < 1300; i++) n[task_job(next(&p))->share->key.job_class]++;
    assert_in_range(n[CLASS_INTERACTIVE], 799, 801);
    assert_in_range(n[CLASS_NORMAL], 399, 401);
    assert_in_range(n[CLASS_BULK], 99, 101);
    for (uint32_t i = 0; i < 2000; i++) /* the urgent ones are canceled */
        for (int c = CLASS_INTERACTIVE; c <= CLASS_NORMAL; c++)
            if (j[c]->batch->task[i].place != PLACE_NONE) queue_remove(&p.queue, &j[c]->batch->task[i]);
    for (int i = 0; i < 500; i++) assert_ptr_equal(task_job(next(&p)), j[CLASS_BULK]);
    pure_close(&p);
}

/* A class and a client that slept for long get no more than their part when they wake, and no less. */
static void test_sleep_saves_nothing(void **state)
{
    struct pure p;
    struct job *b;
    int         n = 0;

    (void)state;
    pure_open(&p);
    of_client(&p, 3000, "a", CLASS_BULK);
    for (int i = 0; i < 1000; i++) next(&p);
    b = of_client(&p, 1000, "b", CLASS_BULK);
    for (int i = 0; i < 100; i++) n += task_job(next(&p)) == b;
    assert_in_range(n, 49, 51);
    n = 0;
    b = of_client(&p, 1000, "c", CLASS_INTERACTIVE);
    for (int i = 0; i < 90; i++) n += task_job(next(&p)) == b;
    assert_in_range(n, 79, 81);
    pure_close(&p);
}

/* L9: ten images of B behind five thousand of A wait about as if A had only one; twenty clients get the same, by cost. */
static void test_clients(void **state)
{
    struct pure p;
    struct job *b;
    uint64_t    had[20] = {0}, sum = 0, squares = 0;
    int         at = 0;

    (void)state;
    pure_open(&p);
    of_client(&p, 5000, "a", CLASS_NORMAL);
    for (int i = 0; i < 37; i++) next(&p);
    b = of_client(&p, 10, "b", CLASS_NORMAL);
    for (int n = 0; n < 10; at++) n += task_job(next(&p)) == b;
    assert_true(at <= 20); /* alone it were 10: at most twice */
    pure_close(&p);
    pure_open(&p);
    for (int i = 0; i < 20; i++) {
        char        name[8];
        struct job *j;

        snprintf(name, sizeof name, "c%d", i);
        for (int k = 0; k <= i % 3; k++) { /* some have more jobs than others, some bigger images */
            j = of_client(&p, 3000, name, CLASS_NORMAL);
            j->batch->lot->cost = 1 + (uint32_t)(i % 5) * 7;
        }
    }
    for (int i = 0; i < 10000; i++) {
        struct task *t = next(&p);

        had[strtol(task_job(t)->share->key.client + 1, NULL, 10)] += t->lot->cost;
    }
    for (int i = 0; i < 20; i++) {
        sum += had[i];
        squares += had[i] * had[i];
    }
    assert_true((double)sum * (double)sum >= 0.98 * 20 * (double)squares); /* Jain's index */
    pure_close(&p);
}

/* What an image turned out to cost is paid in the end: whose images take twice as long as was thought gets half as many. */
static void test_settled_by_what_it_took(void **state)
{
    struct pure p;
    struct job *j[2];
    int         n[2] = {0};

    (void)state;
    pure_open(&p);
    for (int i = 0; i < 2; i++) j[i] = of_client(&p, 3000, i ? "b" : "a", CLASS_NORMAL);
    for (int i = 0; i < 3000; i++) {
        struct lane *l = queue_first(&p.queue);
        struct task *t = lane_first(l);
        int          who = l->job == j[1];

        take(&p, t, 100); /* both are thought to take as long */
        queue_settle(&p.queue, t, who ? 200 : 50);
        assert_int_equal(t->charged_ms, 0);
        n[who]++;
    }
    assert_in_range(n[0], 4 * n[1] - 8, 4 * n[1] + 8);
    assert_true(j[0]->share->credit_ms <= 100); /* nothing piles up */
    pure_close(&p);
}

/* A task given back unmade has paid: the next time it is free. */
static void test_paid_once(void **state)
{
    struct pure  p;
    struct task *t;
    uint64_t     had;

    (void)state;
    pure_open(&p);
    of_client(&p, 3, "a", CLASS_NORMAL);
    t = lane_first(queue_first(&p.queue));
    take(&p, t, 100);
    had = task_job(t)->share->used_ms;
    queue_push_front(&p.queue, t);
    take(&p, t, 100);
    assert_int_equal(task_job(t)->share->used_ms, had);
    pure_close(&p);
}

/* A client that nobody could serve for a while (its model was not there) has saved nothing either, and does not pull newcomers back in time. */
static void test_passed_over_saves_nothing(void **state)
{
    struct pure p;
    struct job *b, *c;
    int         n = 0;

    (void)state;
    pure_open(&p);
    of_client(&p, 3000, "a", CLASS_NORMAL);
    b = of_client(&p, 1000, "b", CLASS_NORMAL);
    for (int i = 0; i < 1000; i++) {
        struct lane *l = queue_first(&p.queue);

        if (l->job == b) l = queue_after(&p.queue, l);
        take(&p, lane_first(l), 10);
    }
    c = of_client(&p, 1000, "c", CLASS_NORMAL);
    for (int i = 0; i < 300; i++) {
        struct lane *l = queue_first(&p.queue);

        n += l->job == b;
        take(&p, lane_first(l), 10);
    }
    assert_in_range(n, 99, 102);
    assert_true(c->n[TASK_QUEUED] == 1000);
    pure_close(&p);
}

/* Among one client's jobs the earliest deadline is first, then those without take turns; other clients get their part all the same. */
static void test_deadlines(void **state)
{
    struct pure p;
    struct spec s = pure_spec(256, "");
    struct job *late, *soon, *none, *other;

    (void)state;
    pure_open(&p);
    none = pure_of(&p, 4, "a", CLASS_NORMAL, &s, 0);
    late = pure_of(&p, 2, "a", CLASS_NORMAL, &s, 9000);
    soon = pure_of(&p, 2, "a", CLASS_NORMAL, &s, 5000);
    other = pure_of(&p, 4, "b", CLASS_NORMAL, &s, 0);
    struct job *const want[] = {soon, other, soon, other, late, other, late, other, none, none, none, none};
    for (size_t i = 0; i < sizeof want / sizeof *want; i++) assert_ptr_equal(task_job(next(&p)), want[i]);
    assert_null(next(&p));
    book_due(&p.book, soon, 0);
    assert_ptr_equal(p.book.due, late);
    pure_close(&p);
}

/* Bulk that got nothing for half an hour, under urgent work that pays less than it costs, has a turn among the normal ones; then again. */
static void test_ageing(void **state)
{
    struct pure p;
    struct job *bulk, *normal;
    int         n_bulk = 0;

    (void)state;
    pure_open(&p);
    normal = of_client(&p, 9000, "a", CLASS_NORMAL);
    bulk = of_client(&p, 3, "b", CLASS_BULK);
    p.queue.of[CLASS_BULK].used_ms = UINT64_MAX / 2; /* as if it had had far too much: by shares alone its turn would never come */
    for (int64_t now = 0; now < 3 * 1800000 + 10000; now += 1000) {
        queue_ripen(&p.queue, now);
        queue_age(&p.queue);
        if (task_job(next(&p)) != bulk) continue;
        n_bulk++;
        assert_in_range(now, n_bulk * 1800000, n_bulk * 1800000 + 3000);
        assert_int_equal(bulk->share->level, CLASS_BULK); /* for one task only */
    }
    assert_int_equal(n_bulk, 3);
    assert_true(normal->n[TASK_QUEUED] == 9000);
    pure_close(&p);
}

/* A paused client's work is in no turn; it goes on at the present, with nothing saved; what comes meanwhile waits, too. */
static void test_parked(void **state)
{
    struct pure p;
    struct job *a, *b, *more;
    int         n = 0;

    (void)state;
    pure_open(&p);
    a = of_client(&p, 300, "a", CLASS_NORMAL);
    b = of_client(&p, 3000, "b", CLASS_NORMAL);
    for (int i = 0; i < 10; i++) next(&p);
    queue_park(&p.queue, a->share, true);
    queue_park(&p.queue, a->share, true);
    more = of_client(&p, 5, "a", CLASS_NORMAL);
    queue_remove(&p.queue, &more->batch->task[4]);
    for (int i = 0; i < 500; i++) assert_ptr_equal(task_job(next(&p)), b);
    queue_park(&p.queue, a->share, false);
    for (int i = 0; i < 100; i++) n += task_job(next(&p)) != b;
    assert_in_range(n, 49, 51);
    for (uint32_t i = 0; i < 300; i++)
        if (a->batch->task[i].place != PLACE_NONE) queue_remove(&p.queue, &a->batch->task[i]);
    queue_park(&p.queue, a->share, true);
    queue_park(&p.queue, a->share, false);
    pure_close(&p);
}

/* Every lane comes exactly once, in the order of its class and share. */
static void test_walk_over_all(void **state)
{
    struct pure  p;
    struct lane *l;
    int          n = 0;

    (void)state;
    pure_open(&p);
    for (int i = 0; i < 12; i++) of_client(&p, 3, i % 2 ? "a" : "b", (enum job_class)(1 + i % 3));
    for (int taken = 0; taken < 36; taken++) {
        int n_lanes = 0, want = 0;

        for (l = queue_first(&p.queue); l; l = queue_after(&p.queue, l)) n_lanes++;
        for (struct job *j = p.book.by_id; j; j = j->by_id.next) want += j->n[TASK_QUEUED] && lane_first(j->lane) != NULL;
        assert_int_equal(n_lanes, want);
        n += next(&p) != NULL;
    }
    assert_int_equal(n, 36);
    assert_null(queue_first(&p.queue));
    pure_close(&p);
}

/* Against a plain model: every task is in exactly one place, and comes out. */
static void test_random_walk(void **state)
{
    struct pure   p;
    struct task  *out[600];
    size_t        n_out = 0, n_in = 0;
    unsigned      dice = 12345;
    int64_t       now = 0;
    struct job   *j[3];

    (void)state;
    pure_open(&p);
    for (int i = 0; i < 3; i++) j[i] = pure_job(&p, 100, "a", "b", NULL);
    n_in = 600;
    for (int step = 0; step < 10000; step++) {
        dice = dice * 1103515245u + 12345u;
        unsigned what = dice >> 16 & 3;

        now += 10;
        queue_ripen(&p.queue, now);
        if (what == 0 || n_out == 0) {
            struct task *t = next(&p);

            if (!t) continue;
            assert_int_equal(t->place, PLACE_NONE);
            out[n_out++] = t;
            n_in--;
        } else {
            size_t       at = (dice >> 20) % n_out;
            struct task *t = out[at];

            out[at] = out[--n_out];
            n_in++;
            if (what == 1) queue_push_front(&p.queue, t);
            if (what == 2) queue_delay(&p.queue, t, now + (dice >> 24));
            if (what == 3) {
                struct task *other = &j[step % 3]->batch->task[(dice >> 8) % 200];

                queue_push(&p.queue, t);
                if (other->place != PLACE_NONE) {
                    queue_remove(&p.queue, other);
                    out[n_out++] = other;
                    n_in--;
                }
            }
        }
        assert_int_equal(p.queue.n_ready + p.queue.n_delayed, n_in);
    }
    queue_ripen(&p.queue, now + 1000);
    while (next(&p)) n_in--;
    assert_int_equal(n_in, 0);
    pure_close(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_image_need_not_wait),
        cmocka_unit_test(test_round_robin),
        cmocka_unit_test(test_retries_first_and_backoff),
        cmocka_unit_test(test_random_walk),
        cmocka_unit_test(test_classes),
        cmocka_unit_test(test_sleep_saves_nothing),
        cmocka_unit_test(test_clients),
        cmocka_unit_test(test_walk_over_all),
        cmocka_unit_test(test_settled_by_what_it_took),
        cmocka_unit_test(test_paid_once),
        cmocka_unit_test(test_passed_over_saves_nothing),
        cmocka_unit_test(test_deadlines),
        cmocka_unit_test(test_ageing),
        cmocka_unit_test(test_parked),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
