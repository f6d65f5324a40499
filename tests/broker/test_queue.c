/* test_queue.c - round robin over jobs, retries first, back-off outside, and nothing lost in ten thousand random steps. */
#include "tests/broker/pure.h"

#include <stdlib.h>

static struct task *next(struct pure *p)
{
    struct lane *l = queue_first(&p->queue);
    struct task *t = l ? lane_first(l) : NULL;

    if (t) queue_take(&p->queue, t);
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
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
