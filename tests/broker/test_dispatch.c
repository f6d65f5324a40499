/* test_dispatch.c - who runs what: tables of workers and tasks. */
#include "tests/broker/pure.h"

static void test_models(void **state)
{
    struct pure    p;
    struct worker *turbo, *base;
    struct pair    pair;

    (void)state;
    pure_open(&p);
    pure_job(&p, 3, "none", "base", "turbo", NULL); /* nobody has the first lane's model: the others run all the same */
    assert_false(pure_next(&p, 0, &pair));
    turbo = pure_worker(&p, 10, "turbo", NULL, 0);
    base = pure_worker(&p, 10, "base", NULL, 0);
    for (int i = 0; i < 6; i++) {
        assert_true(pure_next(&p, 0, &pair));
        assert_ptr_equal(pair.worker, str_is(pair.task->lot->lane->model, "base") ? base : turbo);
    }
    assert_int_equal(turbo->n_held, 3);
    assert_int_equal(base->n_held, 3);
    assert_false(pure_next(&p, 0, &pair));
    pure_close(&p);
}

/* An empty model is the farm's default, and a job keeps to what it began with. */
static void test_default_is_pinned(void **state)
{
    struct pure    p;
    struct worker *first, *second;
    struct pair    pair;
    struct job    *j;

    (void)state;
    pure_open(&p);
    j = pure_job(&p, 3, "", NULL);
    first = pure_worker(&p, 1, "turbo", NULL, 0);
    second = pure_worker(&p, 5, "base", NULL, 0);
    assert_true(pure_next(&p, 0, &pair));
    assert_ptr_equal(pair.worker, first);
    assert_string_equal(j->model, "turbo");
    assert_false(pure_next(&p, 0, &pair)); /* base is free, but would be another picture */
    pure_end(&p, pair.task, TASK_DONE);
    roster_drop(&p.roster, first); /* now base is the farm's default: not for this job */
    assert_false(pure_next(&p, 0, &pair));
    pure_job(&p, 1, "", NULL);
    assert_true(pure_next(&p, 0, &pair));
    assert_ptr_equal(pair.worker, second);
    assert_ptr_not_equal(task_job(pair.task), j);
    pure_close(&p);
}

static void test_a_crash_goes_elsewhere(void **state)
{
    struct pure    p;
    struct worker *a, *b;
    struct pair    pair;
    struct task   *t;

    (void)state;
    pure_open(&p);
    a = pure_worker(&p, 1, "turbo", NULL, 0);
    pure_job(&p, 2, "turbo", NULL);
    assert_true(pure_next(&p, 0, &pair));
    t = pair.task;
    t->avoid = a->id;
    pure_end(&p, t, TASK_QUEUED);
    queue_push_front(&p.queue, t);
    assert_true(pure_next(&p, 0, &pair)); /* there is no other worker: the same again */
    assert_ptr_equal(pair.task, t);
    pure_end(&p, t, TASK_QUEUED);
    queue_push_front(&p.queue, t);
    b = pure_worker(&p, 1, "turbo", NULL, 0);
    b->capacity = 0; /* loading: no other */
    assert_true(pure_next(&p, 0, &pair));
    assert_ptr_equal(pair.task, t);
    pure_end(&p, t, TASK_QUEUED);
    queue_push_front(&p.queue, t);
    b->capacity = 1;
    assert_true(pure_next(&p, 0, &pair));
    assert_ptr_equal(pair.worker, b);
    assert_ptr_equal(pair.task, t);
    assert_true(pure_next(&p, 0, &pair)); /* a takes the innocent one */
    assert_ptr_equal(pair.worker, a);

    pure_end(&p, t, TASK_QUEUED); /* b is free; busy it with something, then t waits for it though a is free */
    t->avoid = b->id;
    queue_push_front(&p.queue, t);
    assert_false(pure_next(&p, 0, &pair)); /* b is free, but a is there: wait for a */
    pure_end(&p, a->grant->task, TASK_DONE);
    assert_true(pure_next(&p, 0, &pair));
    assert_ptr_equal(pair.worker, a);
    pure_close(&p);
}

/* One that waits for another worker does not hold up the tasks behind it. */
static void test_no_head_of_line(void **state)
{
    struct pure    p;
    struct worker *a, *b;
    struct pair    pair;
    struct task   *t;

    (void)state;
    pure_open(&p);
    a = pure_worker(&p, 1, "turbo", NULL, 0);
    b = pure_worker(&p, 1, "turbo", NULL, 0);
    pure_job(&p, 4, "turbo", NULL);
    assert_true(pure_next(&p, 0, &pair));
    t = pair.task;
    assert_true(pure_next(&p, 0, &pair));
    assert_ptr_equal(pair.worker, b);
    t->avoid = a->id;
    pure_end(&p, t, TASK_QUEUED);
    queue_push_front(&p.queue, t);
    assert_true(pure_next(&p, 0, &pair)); /* a is free, t wants b: the next in the lane goes to a */
    assert_ptr_not_equal(pair.task, t);
    assert_ptr_equal(pair.worker, a);
    pure_close(&p);
}

static void test_least_loaded_then_fastest(void **state)
{
    struct pure    p;
    struct worker *slow, *fast, *suspect;
    struct pair    pair;

    (void)state;
    pure_open(&p);
    suspect = pure_worker(&p, 9, "turbo", NULL, 0);
    slow = pure_worker(&p, 2, "turbo", NULL, WORKER_SUSPECT_MS);
    fast = pure_worker(&p, 2, "turbo", NULL, WORKER_SUSPECT_MS);
    slow->ms_per_image = 900;
    fast->ms_per_image = 300;
    pure_job(&p, 9, "turbo", NULL);
    for (int i = 0; i < 4; i++) {
        assert_true(pure_next(&p, WORKER_SUSPECT_MS, &pair));
        assert_ptr_equal(pair.worker, i % 2 ? slow : fast);
    }
    assert_false(pure_next(&p, WORKER_SUSPECT_MS, &pair)); /* never more than the capacity; none to the silent one */
    assert_int_equal(suspect->n_held, 0);
    pure_close(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_models),          cmocka_unit_test(test_default_is_pinned),         cmocka_unit_test(test_a_crash_goes_elsewhere),
        cmocka_unit_test(test_no_head_of_line), cmocka_unit_test(test_least_loaded_then_fastest),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
