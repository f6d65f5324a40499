/* test_plan.c - which way is chosen as a budget shrinks, and what is said when none fits. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "engine/plan.h"

#define GIB ((size_t)1 << 30)

/* The published model in Q8_0, about. */
static const struct plan_needs q8 = {.has_blocks = true, .dit = {6 * GIB, 12 * GIB}, .text = {4 * GIB, 7 * GIB}, .vae = GIB / 8,
                                     .work_text = {GIB / 2, GIB / 4}, .work_pass = {GIB, GIB / 2}, .work_decode = 3 * GIB / 2,
                                     .width_px = 1024, .height_px = 1024};

/* Walks down: each next budget is one byte too small for the way before. */
static void test_ways_in_order(void **state)
{
    static const char *const words[] = {"all resident, widened", "all resident, text encoder widened per use", "all resident, blocks widened per use",
                                        "blocks widened per use, text encoder parked"};
    size_t       budget = (size_t)1 << 40;
    struct plan  p;
    struct err   e = {0};
    char         text[400];

    (void)state;
    for (int i = 0; i < 4; i++) {
        assert_int_equal(plan_choose(&q8, budget, 64 * GIB, &p, &e), 0);
        assert_string_equal(plan_word(&p, &q8), words[i]);
        assert_true(p.work_bytes <= p.work_max_bytes && p.weights_bytes + p.work_max_bytes + PLAN_KERNELS_BYTES == budget);
        plan_about(&p, &q8, text, sizeof text);
        assert_true(strstr(text, i ? "faster ways do not fit" : "the fastest way") && strlen(text) < 320);
        budget = p.weights_bytes + p.work_bytes + PLAN_KERNELS_BYTES;
        assert_int_equal(plan_choose(&q8, budget, 64 * GIB, &p, &e), 0); /* exactly enough */
        assert_string_equal(plan_word(&p, &q8), words[i]);
        budget--;
    }
    assert_int_equal(plan_choose(&q8, budget, 64 * GIB, &p, &e), ERR_NOMEM);
    assert_true(strstr(e.text, "--vram-budget") && strstr(e.text, "Q4_K") && strstr(e.text, "1024 x 1024"));
}

/* Parked is chosen where it fits and resident does not; a host that cannot lock so much releases. */
static void test_parked_or_released(void **state)
{
    size_t      budget = 6 * GIB + GIB / 8 + 4 * GIB + GIB / 2 + 8192 + PLAN_KERNELS_BYTES; /* dit + vae + max(text stage) */
    struct plan p;
    struct err  e = {0};

    (void)state;
    assert_int_equal(plan_choose(&q8, budget, 64 * GIB, &p, &e), 0);
    assert_true(p.text == PLAN_PARKED && !p.widen_dit && p.weights_bytes == 6 * GIB + GIB / 8 && p.work_bytes + PLAN_SPARE_BYTES >= 4 * GIB + GIB / 2);
    assert_int_equal(plan_choose(&q8, budget, 3 * GIB, &p, &e), 0);
    assert_true(p.text == PLAN_RELEASED && p.text_bytes == 4 * GIB);
    assert_string_equal(plan_word(&p, &q8), "blocks widened per use, text encoder released");
}

/* Nothing to widen: one size of weights. An engine without a text encoder has none to park. */
static void test_floats_and_parts(void **state)
{
    struct plan_needs n = {.dit = {12 * GIB}, .text = {7 * GIB}, .vae = GIB / 8, .work_text = {GIB / 4}, .work_pass = {GIB / 2}, .work_decode = GIB,
                           .width_px = 512, .height_px = 256};
    struct plan       p;
    struct err        e = {0};

    (void)state;
    assert_int_equal(plan_choose(&n, 21 * GIB, 64 * GIB, &p, &e), 0);
    assert_string_equal(plan_word(&p, &n), "all resident");
    assert_int_equal(plan_choose(&n, 20 * GIB, 64 * GIB, &p, &e), 0);
    assert_string_equal(plan_word(&p, &n), "text encoder parked");
    n.text[0] = 0;
    assert_int_equal(plan_choose(&n, 13 * GIB, 64 * GIB, &p, &e), ERR_NOMEM);
    assert_true(strstr(e.text, "512 x 256") && !strstr(e.text, "text encoder"));
    assert_int_equal(plan_choose(&n, 14 * GIB, 64 * GIB, &p, &e), 0);
    assert_true(p.text == PLAN_RESIDENT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ways_in_order),
        cmocka_unit_test(test_parked_or_released),
        cmocka_unit_test(test_floats_and_parts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
