/* test_spec.c - what may be asked for, and the words of the noise generators. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "proto/msg.h"

static void defaults_pass(void **state)
{
    struct spec s;
    struct err  e = {0};

    (void)state;
    spec_init(&s);
    assert_int_equal(spec_check(&s, &e), 0);
    assert_int_equal(s.rng.threads, RNG_H100_THREADS);
    assert_true(s.guidance < 0 && s.steps == 0);
    s.width_px = 992;
    s.height_px = PX_MAX;
    s.steps = STEPS_MAX;
    s.guidance = 0;
    assert_int_equal(spec_check(&s, &e), 0);
}

static void sides(void **state)
{
    static const struct { int32_t px; const char *says; } bad[] = {
        {-16, "out of range"}, {8, "out of range"}, {100000, "out of range"}, {1000, "use 992 or 1008"}, {17, "use 16 or 32"}};

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct spec s;
        struct err  e = {0};

        spec_init(&s);
        s.width_px = bad[i].px;
        assert_int_equal(spec_check(&s, &e), ERR_ARG);
        assert_non_null(strstr(e.text, bad[i].says));
        assert_non_null(strstr(e.text, "width"));
        s.width_px = 0; /* the model's own */
        assert_int_equal(spec_check(&s, &e), 0);
    }
}

static void numbers(void **state)
{
    static const float bad[] = {NAN, INFINITY, -INFINITY, -2.0f, 100.5f};
    struct spec        s;
    struct err         e = {0};

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        for (int field = 0; field < 3; field++) {
            spec_init(&s);
            *(field == 0 ? &s.guidance : field == 1 ? &s.cfg_norm : &s.cfg_trunc) = bad[i];
            assert_int_equal(spec_check(&s, &e), ERR_ARG);
        }
    spec_init(&s);
    s.steps = -1;
    assert_int_equal(spec_check(&s, &e), ERR_ARG);
}

static void items(void **state)
{
    struct item it = {.n_images = 1};
    struct err  e = {0};

    (void)state;
    spec_init(&it.spec);
    assert_int_equal(item_check(&it, &e), 0);
    it.n_images = JOB_TASKS_MAX + 1;
    assert_int_equal(item_check(&it, &e), ERR_ARG);
    it.n_images = 1;
    it.label = str_of("a\nb");
    assert_int_equal(item_check(&it, &e), ERR_ARG);
}

static void rng_words(void **state)
{
    static const struct { const char *word, *canonical; uint32_t threads; } good[] = {
        {"torch-cpu", "torch-cpu", 0},
        {"torch-cuda", "torch-cuda:h100", 270336},
        {"torch-cuda:h100", "torch-cuda:h100", 270336},
        {"torch-cuda:H200", "torch-cuda:h100", 270336},
        {"torch-cuda:l4", "torch-cuda:l4", 89088},
        {"torch-cuda:4090", "torch-cuda:4090", 196608},
        {"torch-cuda:3090", "torch-cuda:3090", 125952},
        {"torch-cuda:a100", "torch-cuda:a100", 221184},
        {"torch-cuda:l40s", "torch-cuda:l40", 218112},
        {"torch-cuda:5090", "torch-cuda:5090", 261120},
        {"torch-cuda:t4", "torch-cuda:t4", 40960},
        {"torch-cuda:132x2048", "torch-cuda:h100", 270336},
        {"torch-cuda:2560", "torch-cuda:2560", 2560},
        {"torch-cuda:1x512", "torch-cuda:512", 512},
    };
    static const char *const bad[] = {"", "cuda", "torch-cuda:", "torch-cuda:x", "torch-cuda:9x", "torch-cuda:100", "torch-cuda:0",
                                      "torch-cuda:99999999999", "torch-cuda:voodoo2", "torch-cpu:h100", "Torch-cpu", "torch-cuda:4096x99999"};
    struct rng  r, again;
    struct err  e = {0};
    char        text[48];

    (void)state;
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        if (rng_parse(str_of(good[i].word), &r, &e)) fail_msg("%s: %s", good[i].word, e.text);
        assert_int_equal(r.threads, good[i].threads);
        assert_string_equal(rng_text(&r, text, sizeof text), good[i].canonical);
        assert_int_equal(rng_parse(str_of(text), &again, &e), 0);
        assert_int_equal(again.threads, r.threads);
    }
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        if (rng_parse(str_of(bad[i]), &r, &e) != ERR_ARG) fail_msg("\"%s\" was taken", bad[i]);
}

static void names(void **state)
{
    (void)state;
    assert_string_equal(task_state_name(TASK_CANCELED), "canceled");
    assert_string_equal(task_state_name((enum task_state)9), "unknown");
    assert_string_equal(stage_name(STAGE_DENOISE), "denoise");
    assert_string_equal(msg_kind_name(MSG_OFFER_OK), "OFFER_OK");
    assert_true(task_state_final(TASK_FAILED) && !task_state_final(TASK_RUNNING));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(defaults_pass), cmocka_unit_test(sides), cmocka_unit_test(numbers),
                                       cmocka_unit_test(items), cmocka_unit_test(rng_words), cmocka_unit_test(names)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
