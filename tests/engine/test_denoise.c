/* test_denoise.c - guidance, its normalisation and truncation, and the Euler step, against their equations in double. */
#include "tests/engine/parts.h"

#include <math.h>
#include <stdlib.h>

#include "engine/denoise.h"
#include "tests/near.h"

#define N (16 * 4 * 4)

static struct parts    p;
static struct dit     *m;
static const struct dit_rope *rope;
static struct tensor   cap_pos, cap_neg;
static float           noise[N], pos[N], neg[N];

static const float T0 = 0.25f, SIGMA[2] = { 0.75f, 0.5f };

static int open_all(void **state)
{
    struct dice   r = { .state = 5 };
    const int64_t dim[3] = { 16, 4, 4 };
    (void)state;
    parts_open(&p, TINY_MODEL "/transformer");
    OK(dit_open(&m, &p.conf.dit, p.w, p.d, &e));
    OK(dit_rope_open(m, 2, 2, 7, &rope, &e));
    float *cap = malloc((size_t)(2 * 32 * p.conf.dit.dim) * sizeof *cap);
    assert_non_null(cap);
    near_fill_normal(&r, cap, (size_t)(2 * 32 * p.conf.dit.dim), 1);
    cap_pos = parts_put(&p, cap, 2, (const int64_t[]){ 32, p.conf.dit.dim });
    cap_neg = parts_put(&p, cap + 32 * p.conf.dit.dim, 2, (const int64_t[]){ 32, p.conf.dit.dim });
    free(cap);
    near_fill_normal(&r, noise, N, 1);
    struct tensor z = parts_put(&p, noise, 3, dim), y = dev_new(p.d, DTYPE_F32, 3, dim);
    struct tensor mod = dev_new2(p.d, DTYPE_F32, 1, dit_mod_cols(&p.conf.dit));
    dit_modulate(m, &T0, 1, &mod);
    dit_step(m, &z, &mod, &cap_pos, rope, &y);
    parts_get(&p, &y, pos);
    dit_step(m, &z, &mod, &cap_neg, rope, &y);
    parts_get(&p, &y, neg);
    return 0;
}

static int close_all(void **state)
{
    (void)state;
    dit_rope_close(m, rope);
    dit_free(m);
    parts_close(&p);
    return 0;
}

static void one_step(float g, float norm, float trunc, float *out)
{
    struct gen     gen = { .n_steps = 1, .guidance = g, .cfg_norm = norm, .cfg_trunc = trunc };
    struct denoise n = { m, &gen, SIGMA, &T0, { &cap_pos, rope }, { &cap_neg, rope } };
    size_t         mark = dev_mark(p.d);
    struct tensor  z = parts_put(&p, noise, 3, (const int64_t[]){ 16, 4, 4 });
    OK(denoise_run(&n, &z, NULL, &e));
    parts_get(&p, &z, out);
    dev_reset(p.d, mark);
}

/* latents - (sigma1 - sigma0) * factor * (pos + g (pos - neg)) */
static void expect(const char *name, const float *got, double g, double factor)
{
    double truth[N];
    for (int i = 0; i < N; i++)
        truth[i] = (double)noise[i] + 0.25 * factor * ((double)pos[i] + g * ((double)pos[i] - (double)neg[i]));
    assert_true(near_rms(name, got, truth, N, 1e-6, NULL));
}

static double norm_of(double g)
{
    double sum = 0;
    for (int i = 0; i < N; i++) {
        double v = (double)pos[i] + g * ((double)pos[i] - (double)neg[i]);
        sum += v * v;
    }
    return sqrt(sum);
}

static void guidance_is_the_equation(void **state)
{
    float got[N];
    (void)state;
    one_step(0, 0, 1, got);
    expect("unguided", got, 0, 1);
    one_step(3.5f, 0, 1, got);
    expect("guided", got, 3.5, 1);
}

static void truncation_compares_the_time_input(void **state)
{
    float got[N];
    (void)state;
    one_step(3.5f, 0, 0.2f, got); /* t 0.25 > 0.2: skipped */
    expect("truncated", got, 0, 1);
    one_step(3.5f, 0, 0.25f, got); /* not greater: guided */
    expect("at the edge", got, 3.5, 1);
}

static void normalisation_only_shrinks(void **state)
{
    float  got[N];
    double ratio = norm_of(0) / norm_of(3.5);
    (void)state;
    assert_true(ratio < 0.9);
    one_step(3.5f, 1, 1, got);
    expect("to the positive's norm", got, 3.5, ratio);
    one_step(3.5f, 0.5f, 1, got);
    expect("to half of it", got, 3.5, 0.5 * ratio);
    one_step(3.5f, 100, 1, got);
    expect("already small", got, 3.5, 1);
}

static void wild_latents_are_an_error(void **state)
{
    struct gen     gen = { .n_steps = 1, .cfg_trunc = 1 };
    const float    sigma[2] = { 1, -INFINITY };
    struct denoise n = { m, &gen, sigma, &T0, { &cap_pos, rope }, { NULL, NULL } };
    struct err     err = { 0 };
    size_t         mark = dev_mark(p.d);
    struct tensor  z = parts_put(&p, noise, 3, (const int64_t[]){ 16, 4, 4 });
    (void)state;
    assert_int_equal(denoise_run(&n, &z, NULL, &err), ERR_NAN);
    assert_non_null(strstr(err.text, "pass 1 of 1"));
    dev_reset(p.d, mark);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(guidance_is_the_equation),
        cmocka_unit_test(truncation_compares_the_time_input),
        cmocka_unit_test(normalisation_only_shrinks),
        cmocka_unit_test(wild_latents_are_an_error),
    };
    return cmocka_run_group_tests(tests, open_all, close_all);
}
