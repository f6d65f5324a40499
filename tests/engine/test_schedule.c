/* test_schedule.c - schedule.c against diffusers' sigmas and timesteps, bit for bit; dynamic shifting against numbers worked out by hand. */
#include "engine/schedule.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>

static void tiny_cases_are_diffusers(void **state)
{
    struct schedule_conf c;
    json_t *cases = json_load_file(TESTS_DIR "/golden/tiny-a/cases.json", 0, NULL);
    size_t  i;
    json_t *one;
    (void)state;
    assert_non_null(cases);
    assert_int_equal(json_array_size(cases), 8);
    schedule_conf_default(&c);
    json_array_foreach(cases, i, one) {
        int    n = (int)json_integer_value(json_object_get(one, "steps"));
        float  sigma[33], t[32];
        struct err e = {0};
        assert_in_range(n, 1, 32);
        assert_int_equal(schedule_make(&c, n, 16, sigma, t, &e), 0);
        json_t *want = json_object_get(one, "sigmas"), *steps = json_object_get(one, "timesteps");
        assert_int_equal(json_array_size(want), n + 1);
        assert_int_equal(json_array_size(steps), n);
        for (int k = 0; k <= n; k++) {
            float w = (float)json_number_value(json_array_get(want, k));
            if (sigma[k] != w)
                fail_msg("case %zu: sigma[%d] is %.9g, diffusers has %.9g", i, k, (double)sigma[k], (double)w);
        }
        for (int k = 0; k < n; k++) {
            float w = (float)json_number_value(json_array_get(steps, k));
            if (sigma[k] * 1000.0f != w)
                fail_msg("case %zu: timestep %d is %.9g, diffusers has %.9g", i, k, (double)(sigma[k] * 1000.0f), (double)w);
            assert_true(t[k] == (1000.0f - w) / 1000.0f);
        }
    }
    json_decref(cases);
}

static void dynamic_shift_follows_the_image(void **state)
{
    struct schedule_conf c;
    float sigma[5], t[4];
    (void)state;
    schedule_conf_default(&c);
    c.use_dynamic_shifting = true;
    /* 256 tokens: mu = 0.5; 4096: mu = 1.15; sigma 0.5 becomes e^mu / (e^mu + 1) */
    assert_int_equal(schedule_make(&c, 4, 256, sigma, t, NULL), 0);
    assert_true(fabs(sigma[2] - exp(0.5) / (exp(0.5) + 1)) < 1e-6);
    assert_true(fabs(sigma[1] - exp(0.5) / (exp(0.5) + 1 / 0.75 - 1)) < 1e-6);
    assert_true(sigma[0] == 1.0f && sigma[4] == 0.0f);
    assert_int_equal(schedule_make(&c, 4, 4096, sigma, t, NULL), 0);
    assert_true(fabs(sigma[2] - exp(1.15) / (exp(1.15) + 1)) < 1e-6);
    c.time_shift_type = SCHEDULE_LINEAR;
    assert_int_equal(schedule_make(&c, 4, 4096, sigma, t, NULL), 0);
    assert_true(fabs(sigma[2] - 1.15 / (1.15 + 1)) < 1e-6);
}

static void terminal_is_reached(void **state)
{
    struct schedule_conf c;
    float sigma[9], t[8];
    (void)state;
    schedule_conf_default(&c);
    c.shift_terminal = 0.1;
    assert_int_equal(schedule_make(&c, 8, 16, sigma, t, NULL), 0);
    assert_true(fabs(sigma[7] - 0.1) < 1e-6 && sigma[0] == 1.0f);
    assert_int_equal(schedule_make(&c, 1, 16, sigma, t, NULL), 0);
    assert_true(sigma[0] == 1.0f && sigma[1] == 0.0f);
}

static void sigmas_fall_to_zero(void **state)
{
    static float sigma[1001], t[1000];
    struct schedule_conf c;
    (void)state;
    schedule_conf_default(&c);
    for (int n = 1; n <= 1000; n += 111) {
        assert_int_equal(schedule_make(&c, n, 4096, sigma, t, NULL), 0);
        for (int i = 0; i < n; i++)
            assert_true(sigma[i] > sigma[i + 1] && t[i] >= 0 && t[i] < 1);
        assert_true(sigma[n] == 0);
    }
}

static void refusals(void **state)
{
    struct schedule_conf c;
    struct err e = {0};
    float sigma[2], t[1];
    (void)state;
    schedule_conf_default(&c);
    assert_int_equal(schedule_make(&c, 0, 16, sigma, t, &e), ERR_ARG);
    assert_non_null(strstr(e.text, "0 forward passes"));
    assert_int_equal(schedule_make(&c, SCHEDULE_PASSES_MAX + 1, 16, sigma, t, &e), ERR_ARG);
    assert_int_equal(schedule_make(&c, 1, 0, sigma, t, &e), ERR_ARG);
    c.shift = 0;
    assert_int_equal(schedule_make(&c, 1, 16, sigma, t, &e), ERR_FORMAT);
    c.shift = NAN;
    assert_int_equal(schedule_make(&c, 1, 16, sigma, t, &e), ERR_FORMAT);
    assert_non_null(strstr(e.text, "shift"));
    schedule_conf_default(&c);
    c.max_image_seq_len = c.base_image_seq_len;
    assert_int_equal(schedule_make(&c, 1, 16, sigma, t, &e), 0); /* not looked at without dynamic shifting */
    c.use_dynamic_shifting = true;
    assert_int_equal(schedule_make(&c, 1, 16, sigma, t, &e), ERR_FORMAT);
}

static void inference_steps_are_one_more(void **state)
{
    (void)state;
    assert_int_equal(schedule_passes_of_inference_steps(9), 8);
    assert_int_equal(schedule_passes_of_inference_steps(2), 1);
    assert_int_equal(schedule_passes_of_inference_steps(1), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tiny_cases_are_diffusers), cmocka_unit_test(dynamic_shift_follows_the_image), cmocka_unit_test(terminal_is_reached),
        cmocka_unit_test(sigmas_fall_to_zero), cmocka_unit_test(refusals), cmocka_unit_test(inference_steps_are_one_more),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
