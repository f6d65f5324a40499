/* test_child.c - the watchdog's patience and the estimate of what is left, as arithmetic. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <cmocka.h>

#include "worker/child.h"

static void patience(void **state)
{
    struct worker_conf conf;
    struct child       c;

    (void)state;
    worker_conf_init(&conf);
    child_init(&c, &conf, NULL, &(struct child_events){0}, NULL);
    c.state = CHILD_LOADING;
    assert_int_equal(child_patience_ms(&c), 600000);
    c.state = CHILD_BUSY;
    c.stage = STAGE_TEXT;
    c.px = 256 * 256;
    assert_int_equal(child_patience_ms(&c), 120000);
    c.px = 1024 * 1024; /* a step of a full-size model on a CPU takes minutes */
    assert_int_equal(child_patience_ms(&c), 16 * 120000);
    memcpy(c.model.device, "cuda:0", 7);
    assert_int_equal(child_patience_ms(&c), 120000);
    c.stage = STAGE_DENOISE;
    c.step_ms_per_px = 100.0 / (1024 * 1024); /* 100 ms a step */
    assert_int_equal(child_patience_ms(&c), 15000);
    c.step_ms_per_px = 60000.0 / (1024 * 1024);
    assert_int_equal(child_patience_ms(&c), 300000);
    c.stage = STAGE_DECODE;
    assert_int_equal(child_patience_ms(&c), 300000);
}

static void left(void **state)
{
    struct worker_conf conf;
    struct child       c;

    (void)state;
    worker_conf_init(&conf);
    child_init(&c, &conf, NULL, &(struct child_events){0}, NULL);
    assert_int_equal(child_left_ms(&c), -1);
    c.state = CHILD_BUSY;
    c.steps = 8;
    c.step = 3;
    c.px = 1000;
    assert_int_equal(child_left_ms(&c), -1);
    c.step_ms_per_px = 0.5;
    assert_int_equal(child_left_ms(&c), 3000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(patience), cmocka_unit_test(left)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
