/* test_profile.c - the hint decides, else the scheduler's shift; turbo and base keep their own defaults. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

#include "engine/profile.h"

static void hint_then_shift(void **state)
{
    static const struct { const char *hint; double shift; const char *name; int n_steps; float guidance; } rows[] = {
        { "", 3.0, "turbo", 8, 0 },      { "", 6.0, "base", 50, 4 },  { "", 1.0, "turbo", 8, 0 },
        { "turbo", 6.0, "turbo", 8, 0 }, { "base", 3.0, "base", 50, 4 },
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct model_conf     c = { .dit = { .patch = 2 }, .vae = { .n_levels = 4 }, .schedule = { .shift = rows[i].shift } };
        struct engine_profile p = { .name = "" };
        snprintf(c.hint, sizeof c.hint, "%s", rows[i].hint);
        profile_of(&c, &p);
        assert_string_equal(p.name, rows[i].name);
        assert_int_equal(p.n_steps, rows[i].n_steps);
        assert_true(p.guidance == rows[i].guidance && p.cfg_norm == 0 && p.cfg_trunc == 1);
        assert_int_equal(p.multiple_px, 16);
        assert_int_equal(p.tokens_max, 512);
    }
}

/* The size that the VAE's config speaks of, where a picture can have it; else the published models'. */
static void own_size(void **state)
{
    static const struct { int sample_px, patch, own_px; } rows[] = {
        { 1024, 2, 1024 }, { 256, 2, 256 }, { 0, 2, 1024 }, { 250, 2, 1024 }, { 32, 2, 32 }, { 0, 3, 1008 },
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct model_conf     c = { .dit = { .patch = rows[i].patch }, .vae = { .n_levels = 4, .sample_px = rows[i].sample_px }, .schedule = { .shift = 3 } };
        struct engine_profile p = { .name = "" };
        profile_of(&c, &p);
        assert_int_equal(p.own_px, rows[i].own_px);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(hint_then_shift), cmocka_unit_test(own_size) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
