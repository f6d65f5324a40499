/* test_conv.c - 1x1 and 3x3 convolutions against a naive double: ragged channels, one line, many strips, residuals. */
#include "kernels/cpu/cpu.h"
#include "tests/kernels/twin.h"

static double rounded(const struct scene *s, double v)
{
    float f = (float)v;

    if (s->d->precision == PRECISION_BF16) round_bf16(&f, &f, 1);
    return (double)f;
}

/* add: 0 none, 1 another tensor, 2 y itself */
static void conv(struct scene *s, int64_t h, int64_t w, int64_t ci, int64_t co, int64_t k, int add)
{
    struct tensor x = twin_random(s, false, 1.0f, 3, (int64_t[]){h, w, ci}), y = twin_new(s, false, 3, (int64_t[]){h, w, co});
    struct tensor wt = twin_weight(s, twin_type(s), 1.0f, 4, (int64_t[]){co, ci, k, k}), bias = twin_weight(s, twin_type(s), 1.0f, 1, &co);
    struct tensor res = twin_random(s, false, 1.0f, 3, (int64_t[]){h, w, co});
    double       *truth = s->check ? twin_truth(h * w * co) : NULL, *xd = twin_truth(h * w * ci), *wd = twin_truth(co * ci * k * k);

    for (int64_t i = 0; truth && i < h * w * ci; i++) xd[i] = rounded(s, twin_at(&x, i));
    for (int64_t i = 0; truth && i < co * ci * k * k; i++) wd[i] = rounded(s, twin_at(&wt, i));
    for (int64_t i = 0; truth && i < h * w * co; i++) {
        int64_t py = i / co / w, px = i / co % w, o = i % co;
        double  sum = twin_at(&bias, o) + (add ? twin_at(&res, i) : 0.0);

        for (int64_t ky = 0; ky < k; ky++) {
            for (int64_t kx = 0; kx < k; kx++) {
                int64_t sy = py + ky - k / 2, sx = px + kx - k / 2;

                if (sy < 0 || sy >= h || sx < 0 || sx >= w) continue;
                for (int64_t c = 0; c < ci; c++) sum += xd[(sy * w + sx) * ci + c] * wd[((o * ci + c) * k + ky) * k + kx];
            }
        }
        truth[i] = sum;
    }
    if (add == 2) memcpy(y.data, res.data, (size_t)(h * w * co) * sizeof(float));
    op_conv2d(s->d, &y, &x, &wt, &bias, add == 0 ? NULL : add == 1 ? &res : &y);
    twin_check(s, "conv2d", &y, truth);
    free(xd);
    free(wd);
    cpu_conv_forget(cpu_of(s->d), NULL, 0); /* the next scene has other weights at this address */
}

static void ragged(struct scene *s)
{
    int64_t h = dice_range(&s->r, 1, 12), w = dice_range(&s->r, 1, 12), ci = dice_range(&s->r, 1, 20), co = dice_range(&s->r, 1, 20);

    conv(s, h, w, ci, co, dice_range(&s->r, 0, 1) ? 3 : 1, (int)dice_range(&s->r, 0, 2));
}

/* Whole vectors of channels: the fast code of oneDNN. */
static void blocked(struct scene *s)
{
    int64_t h = dice_range(&s->r, 15, 40), w = dice_range(&s->r, 17, 40);

    conv(s, h, w, 16 * dice_range(&s->r, 1, 2), 16 * dice_range(&s->r, 1, 2), dice_range(&s->r, 0, 2) ? 3 : 1, (int)dice_range(&s->r, 0, 2));
}

/* As the decoder's last: few channels out. */
static void to_rgb(struct scene *s)
{
    conv(s, 33, 50, 32, 3, 3, 0);
}

/* A short last strip of one line. */
static void short_last(struct scene *s)
{
    conv(s, 49, 300, 8, 8, 3, 1);
}

static void test_all(void **state)
{
    (void)state;
    for (int p = PRECISION_F32; p <= PRECISION_BF16; p++) {
        twin_run(ragged, (enum precision)p, 2e-6, 40);
        twin_run(blocked, (enum precision)p, 2e-6, 6);
        twin_run(to_rgb, (enum precision)p, 2e-6, 1);
        twin_run(short_last, (enum precision)p, 2e-6, 1);
    }
}

static void test_nan(void **state)
{
    struct dev   *d = twin_dev(PRECISION_F32, 2);
    struct scene  s = {.d = d, .r = {.state = 5}};
    struct tensor x = twin_random(&s, false, 1.0f, 3, (int64_t[]){9, 9, 8}), y = twin_new(&s, false, 3, (int64_t[]){9, 9, 8});
    struct tensor w = twin_weight(&s, DTYPE_F32, 1.0f, 4, (int64_t[]){8, 8, 3, 3}), b = twin_weight(&s, DTYPE_F32, 1.0f, 1, (int64_t[]){8});

    (void)state;
    ((float *)x.data)[(4 * 9 + 4) * 8] = NAN;
    op_conv2d(d, &y, &x, &w, &b, NULL);
    for (int64_t i = 0; i < 81; i++) {
        bool beside = i / 9 >= 3 && i / 9 <= 5 && i % 9 >= 3 && i % 9 <= 5;

        assert_int_equal(isnan(((float *)y.data)[i * 8 + 3]) != 0, beside);
    }
    dev_close(d);
}

/* dev_put() and dev_free() forget the kept order of a weight: other weights at the same address are seen. */
static void test_forgets(void **state)
{
    struct dev   *d = twin_dev(PRECISION_F32, 1);
    struct scene  s = {.d = d, .r = {.state = 5}};
    struct tensor x = twin_random(&s, false, 1.0f, 3, (int64_t[]){3, 3, 1}), y = twin_new(&s, false, 3, (int64_t[]){3, 3, 1});
    struct tensor w, b = twin_weight(&s, DTYPE_F32, 0.0f, 1, (int64_t[]){1});
    struct err    e = {0};

    (void)state;
    for (int round = 0; round < 6; round++) {
        float f = (float)round;

        if (round % 2 == 0) assert_int_equal(dev_alloc(d, DTYPE_F32, 4, (int64_t[]){1, 1, 1, 1}, &w, &e), 0);
        assert_int_equal(dev_put(d, &w, &f, sizeof f, &e), 0);
        op_conv2d(d, &y, &x, &w, &b, NULL);
        for (int i = 0; i < 9; i++) assert_true(((float *)y.data)[i] == f * ((float *)x.data)[i]);
        if (round % 2 == 1) dev_free(d, &w);
    }
    dev_close(d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_all), cmocka_unit_test(test_nan), cmocka_unit_test(test_forgets)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
