/* test_work.c - the table of leases: order, states, and what an engine may not turn in. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "worker/work.h"

static struct works w;

static int setup(void **state)
{
    (void)state;
    memset(&w, 0, sizeof w);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    for (size_t i = 0; i < LEASES_MAX; i++)
        if (w.row[i].state != WORK_FREE) work_drop(&w.row[i]);
    return 0;
}

static struct work *take(uint64_t task)
{
    struct lease l = {.task = task, .epoch = 9, .job = 1, .index = 2, .budget_ms = 1};
    struct work *k = NULL;
    struct err   e = {0};

    spec_init(&l.spec);
    l.spec.width_px = l.spec.height_px = 64;
    l.spec.steps = 8;
    assert_int_equal(work_take(&w, &l, 1000, &k, &e), 0);
    return k;
}

static void order(void **state)
{
    struct work *a = take(5), *b = take(3), *c;

    (void)state;
    assert_ptr_equal(works_next(&w), a);
    work_drop(a);
    c = take(1); /* in the first row again, but last in line */
    assert_ptr_equal(works_next(&w), b);
    assert_ptr_equal(works_find(&w, 1), c);
    assert_null(works_find(&w, 5));
    assert_int_equal(works_count(&w), 2);
}

static void full(void **state)
{
    struct lease l = {.task = 99, .epoch = 1, .job = 1, .budget_ms = 1};
    struct work *k;
    struct err   e = {0};

    (void)state;
    for (uint64_t i = 1; i <= LEASES_MAX; i++) take(i);
    spec_init(&l.spec);
    assert_int_equal(work_take(&w, &l, 0, &k, &e), ERR_LIMIT);
}

static void progress(void **state)
{
    struct work    *k = take(5);
    struct progress p = work_progress(k, 1250);

    (void)state;
    assert_int_equal(p.stage, STAGE_WAITING);
    assert_int_equal(p.age_ms, 250);
    assert_int_equal(p.steps, 8);
    k->state = WORK_RUNNING;
    work_step(k, STAGE_DENOISE, 3, 8, 2000);
    p = work_progress(k, 1999); /* a clock read a moment earlier */
    assert_int_equal(p.step, 3);
    assert_int_equal(p.age_ms, 0);
}

static void results(void **state)
{
    struct work     *k = take(5);
    struct str       part = {"image", 5};
    struct link_head h = {.kind = LINK_RESULT, .width_px = 64, .height_px = 32, .n_parts = 1, .part_bytes = {5}};
    struct err       e = {0};
    int              fd = link_bytes_seal(&part, 1, &e);

    (void)state;
    k->state = WORK_RUNNING;
    assert_int_equal(work_finish(k, &h, fd, 0, &e), ERR_PROTO); /* another size than was asked for */
    assert_int_equal(k->state, WORK_RUNNING);
    h.height_px = 64;
    assert_int_equal(work_finish(k, &h, fd, 7, &e), 0);
    assert_int_equal(k->state, WORK_FINISHED);
    assert_int_equal(k->offer.part[0].size_bytes, 5);
    assert_memory_equal(k->bytes, "image", 5);
    close(fd);
    k->correlation = 4;
    k->uploading = true;
    k->transfer[0] = 77;
    {
        size_t p;
        assert_ptr_equal(works_by_correlation(&w, 4), k);
        assert_ptr_equal(works_by_transfer(&w, 77, &p), k);
        assert_null(works_by_transfer(&w, 0, &p));
        assert_null(works_by_correlation(&w, 0));
        work_say_again(k, 50);
        assert_null(works_by_transfer(&w, 77, &p));
    }
    assert_int_equal(k->say_ms, 50);
}

static void classes(void **state)
{
    (void)state;
    assert_int_equal(work_fail_class(ERR_ARG), FAIL_INVALID);
    assert_int_equal(work_fail_class(ERR_NOMEM), FAIL_OOM);
    assert_int_equal(work_fail_class(ERR_NAN), FAIL_NAN);
    assert_int_equal(work_fail_class(ERR_CANCELED), FAIL_CANCELED);
    assert_int_equal(work_fail_class(ERR_DEVICE), FAIL_CRASHED);
    assert_int_equal(work_fail_class(ERR_IO), FAIL_TRANSIENT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
        T(order), T(full), T(progress), T(results), T(classes)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
