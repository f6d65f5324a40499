/* test_act.c - elementwise ops against a naive double; NaN passes through; the edges of exp. */
#include "kernels/cpu/common.h"
#include "tests/kernels/twin.h"

enum which { SILU, SWIGLU, SCALE, TANH, ADD, ADD_ROW, AXPY };

static double silu(double x)
{
    return x / (1.0 + exp(-x));
}

static void elementwise(struct scene *s, enum which op)
{
    bool          dense = op == AXPY || dice_range(&s->r, 0, 1);
    int64_t       n = dice_range(&s->r, 1, 60), c = dice_range(&s->r, 1, 600);
    float         a = (float)dice_normal(&s->r);
    struct tensor x = twin_random(s, !dense, 3.0f, 2, (int64_t[]){n, c}), h = twin_random(s, !dense, 1.0f, 2, (int64_t[]){n, c});
    struct tensor vec = twin_weight(s, twin_type(s), 1.0f, 1, &c);
    double       *truth = s->check ? twin_truth(n * c) : NULL;

    for (int64_t i = 0; truth && i < n * c; i++) {
        double xi = twin_at(&x, i), hi = twin_at(&h, i), v = twin_at(&vec, i % c);

        switch (op) {
        case SILU: truth[i] = silu(xi); break;
        case SWIGLU: truth[i] = silu(xi) * hi; break;
        case SCALE: truth[i] = xi * (1.0 + v); break;
        case TANH: truth[i] = tanh(xi); break;
        case ADD: truth[i] = xi + hi; break;
        case ADD_ROW: truth[i] = xi + v; break;
        case AXPY: truth[i] = xi + (double)a * hi; break;
        }
    }
    switch (op) {
    case SILU: op_silu(s->d, &x); break;
    case SWIGLU: op_swiglu(s->d, &x, &h); break;
    case SCALE: op_scale_rows(s->d, &x, &vec); break;
    case TANH: op_tanh(s->d, &x); break;
    case ADD: op_add(s->d, &x, &h); break;
    case ADD_ROW: op_add(s->d, &x, &vec); break;
    case AXPY: op_axpy(s->d, &x, a, &h); break;
    }
    twin_check(s, "elementwise", &x, truth);
    twin_check_gaps(&x);
}

#define SCENE(name, op) \
    static void name(struct scene *s) { elementwise(s, op); }
SCENE(scene_silu, SILU)
SCENE(scene_swiglu, SWIGLU)
SCENE(scene_scale, SCALE)
SCENE(scene_tanh, TANH)
SCENE(scene_add, ADD)
SCENE(scene_add_row, ADD_ROW)
SCENE(scene_axpy, AXPY)

static void test_all(void **state)
{
    static scene_fn *const scenes[] = {scene_silu, scene_swiglu, scene_scale, scene_tanh, scene_add, scene_add_row, scene_axpy};

    (void)state;
    for (size_t i = 0; i < sizeof scenes / sizeof *scenes; i++) twin_run(scenes[i], PRECISION_F32, 3e-7, 20);
}

static void test_nan(void **state)
{
    struct dev   *d = twin_dev(PRECISION_F32, 2);
    struct scene  s = {.d = d, .r = {.state = 5}};
    struct tensor x = twin_random(&s, false, 1.0f, 2, (int64_t[]){3, 40}), h = twin_random(&s, false, 1.0f, 2, (int64_t[]){3, 40});

    (void)state;
    twin_row(&x, 1)[4] = NAN;
    twin_row(&h, 2)[9] = NAN;
    op_silu(d, &x);
    op_swiglu(d, &x, &h);
    for (int64_t i = 0; i < 120; i++) assert_int_equal(isnan(((float *)x.data)[i]) != 0, i == 44 || i == 89);
    dev_close(d);
}

/* Distance in units of the last place of the true value. */
static double ulps(float got, double truth)
{
    float t = (float)truth;

    return fabs((double)got - truth) / (double)(nextafterf(t, INFINITY) - t);
}

static void test_exp(void **state)
{
    double worst = 0.0;

    (void)state;
    for (int i = -87 * 4096; i <= 88 * 4096; i++) {
        float x = (float)i / 4096.0f, y = fast_exp(x);
        double u = ulps(y, exp((double)x));

        if (u > worst) worst = u;
    }
    print_message("exp: at most %.2f ulp\n", worst);
    assert_true(worst < 2.0);
    assert_true(fast_exp(0.0f) == 1.0f && fast_exp(-0.0f) == 1.0f);
    assert_true(fast_exp(-INFINITY) == 0.0f && fast_exp(-200.0f) == 0.0f && fast_exp(-1e30f) == 0.0f);
    assert_true(isinf(fast_exp(88.8f)) && isinf(fast_exp(1e30f)) && isinf(fast_exp(INFINITY)));
    assert_true(isfinite(fast_exp(88.7f)));
    assert_true(isnan(fast_exp(NAN)) && isnan(fast_exp(-NAN)));
    for (float x = -103.0f; x < -87.0f; x += 0.37f) assert_true(fabs((double)fast_exp(x) - exp((double)x)) <= 1.5e-45 + 3e-7 * exp((double)x)); /* denormals */
    assert_true(fast_silu(-100.0f) == 0.0f && fast_silu(100.0f) == 100.0f);
}

static void test_time_embed(void **state)
{
    struct dev   *d = twin_dev(PRECISION_F32, 2);
    struct scene  s = {.d = d, .r = {.state = 5}};
    const float   times[] = {0.0f, 0.25f, 12.5f, 1000.0f};

    (void)state;
    for (size_t k = 0; k < 4; k++) {
        for (int64_t half = 1; half < 130; half += 127) {
            struct tensor y = twin_new(&s, false, 2, (int64_t[]){1, 2 * half});
            const float  *at = y.data;

            op_time_embed(d, &y, times[k]);
            for (int64_t i = 0; i < half; i++) {
                double arg = (double)times[k] * exp(-log(1e4) * (double)i / (double)half), slack = 3e-7 + 3e-7 * (double)times[k];

                assert_true(fabs((double)at[i] - cos(arg)) < slack && fabs((double)at[half + i] - sin(arg)) < slack);
            }
        }
    }
    dev_close(d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_all), cmocka_unit_test(test_nan), cmocka_unit_test(test_exp),
                                       cmocka_unit_test(test_time_embed)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
