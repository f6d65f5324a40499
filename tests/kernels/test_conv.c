/* test_conv.c - 1x1 and 3x3 convolutions against a naive double: ragged channels, one line, many strips, residuals, rows that x brings itself;
 * behind nearest-2x against the picture written out. */
#include "kernels/cpu/cpu.h"
#include "kernels/fold.h"
#include "tests/kernels/twin.h"

static double rounded(const struct scene *s, double v)
{
    float f = (float)v;

    if (s->d->precision == PRECISION_BF16) round_bf16(&f, &f, 1);
    return (double)f;
}

/* add: 0 none, 1 another tensor, 2 y itself. given: 1 when x has a row above and one below. */
static void conv_of(struct scene *s, int64_t h, int64_t w, int64_t ci, int64_t co, int64_t k, int add, int64_t given)
{
    const int64_t x_h = h + 2 * given;
    struct tensor x = twin_random(s, false, 1.0f, 3, (int64_t[]){x_h, w, ci}), y = twin_new(s, false, 3, (int64_t[]){h, w, co});
    struct tensor wt = twin_weight(s, twin_type(s), 1.0f, 4, (int64_t[]){co, ci, k, k}), bias = twin_weight(s, twin_type(s), 1.0f, 1, &co);
    struct tensor res = twin_random(s, false, 1.0f, 3, (int64_t[]){h, w, co});
    double       *truth = s->check ? twin_truth(h * w * co) : NULL, *xd = twin_truth(x_h * w * ci), *wd = twin_truth(co * ci * k * k);

    for (int64_t i = 0; truth && i < x_h * w * ci; i++) xd[i] = rounded(s, twin_at(&x, i));
    for (int64_t i = 0; truth && i < co * ci * k * k; i++) wd[i] = rounded(s, twin_at(&wt, i));
    for (int64_t i = 0; truth && i < h * w * co; i++) {
        int64_t py = i / co / w, px = i / co % w, o = i % co;
        double  sum = twin_at(&bias, o) + (add ? twin_at(&res, i) : 0.0);

        for (int64_t ky = 0; ky < k; ky++) {
            for (int64_t kx = 0; kx < k; kx++) {
                int64_t sy = py + ky - k / 2 + given, sx = px + kx - k / 2;

                if (sy < 0 || sy >= x_h || sx < 0 || sx >= w) continue;
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

static void conv(struct scene *s, int64_t h, int64_t w, int64_t ci, int64_t co, int64_t k, int add)
{
    conv_of(s, h, w, ci, co, k, add, k == 3 ? dice_range(&s->r, 0, 1) : 0);
}

/* Against the nine taps over the upsampled picture; in bf16 the folded weights are what is rounded. */
static void up2x(struct scene *s, int64_t h, int64_t w, int64_t ci, int64_t co)
{
    struct tensor x = twin_random(s, false, 1.0f, 3, (int64_t[]){h, w, ci}), y = twin_new(s, false, 3, (int64_t[]){2 * h, 2 * w, co});
    struct tensor wt = twin_weight(s, twin_type(s), 1.0f, 4, (int64_t[]){co, ci, 3, 3}), bias = twin_weight(s, twin_type(s), 1.0f, 1, &co);
    struct tensor folded = dev_new(s->d, DTYPE_F32, 4, (int64_t[]){4 * co, ci, 2, 2});
    double       *truth = s->check ? twin_truth(4 * h * w * co) : NULL;

    assert_int_equal(conv_up2x_fold(folded.data, &wt), 0);
    for (int64_t i = 0; truth && i < 4 * h * w * co; i++) {
        int64_t py = i / co / (2 * w), px = i / co % (2 * w), o = i % co;
        double  sum = twin_at(&bias, o);

        for (int64_t c = 0; c < ci; c++) {
            double cell[4] = {0}; /* the weights that meet in each of the four cells around */

            for (int64_t t = 0; t < 9; t++) {
                int64_t sy = (py + t / 3 + 1) / 2 - 1, sx = (px + t % 3 + 1) / 2 - 1; /* floor((py + ty - 1) / 2) */

                cell[(sy - ((py + 1) / 2 - 1)) * 2 + sx - ((px + 1) / 2 - 1)] += twin_at(&wt, (o * ci + c) * 9 + t);
            }
            for (int64_t q = 0; q < 4; q++) {
                int64_t sy = (py + 1) / 2 - 1 + q / 2, sx = (px + 1) / 2 - 1 + q % 2;

                if (sy < 0 || sy >= h || sx < 0 || sx >= w) continue;
                sum += rounded(s, twin_at(&x, (sy * w + sx) * ci + c)) * rounded(s, cell[q]);
            }
        }
        truth[i] = sum;
    }
    op_conv_up2x(s->d, &y, &x, &folded, &bias);
    twin_check(s, "conv_up2x", &y, truth);
    cpu_conv_forget(cpu_of(s->d), NULL, 0);
}

static void up2x_ragged(struct scene *s)
{
    int64_t h = dice_range(&s->r, 1, 12), w = dice_range(&s->r, 1, 12);

    up2x(s, h, w, dice_range(&s->r, 1, 20), dice_range(&s->r, 1, 20));
}

static void up2x_blocked(struct scene *s)
{
    int64_t h = dice_range(&s->r, 15, 40), w = dice_range(&s->r, 17, 40);

    up2x(s, h, w, 16 * dice_range(&s->r, 1, 2), 16 * dice_range(&s->r, 1, 2));
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
        twin_run(up2x_ragged, (enum precision)p, 2e-6, 30);
        twin_run(up2x_blocked, (enum precision)p, 2e-6, 4);
    }
}

/* What the CPU may do with a quarter of the multiplications: ragged tiles, parts and blocks of them. */
static void winograd(struct scene *s)
{
    int64_t h = dice_range(&s->r, 4, 20), w = dice_range(&s->r, 4, 20);

    conv(s, h, w, 64 + 8 * dice_range(&s->r, 0, 3), 16 * dice_range(&s->r, 1, 3), 3, (int)dice_range(&s->r, 0, 2));
}

static void many_tiles(struct scene *s)
{
    conv(s, 61, 66, 64, 16, 3, 2);
}

static void deep(struct scene *s)
{
    conv(s, 9, 7, 520, 32, 3, 1);
}

static void test_auto(void **state)
{
    (void)state;
    twin_run(ragged, PRECISION_AUTO, 3e-5, 10);
    twin_run(winograd, PRECISION_AUTO, 3e-5, 12);
    twin_run(many_tiles, PRECISION_AUTO, 3e-5, 1);
    twin_run(deep, PRECISION_AUTO, 3e-5, 1);
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

/* dev_put() and dev_free() forget the kept order of a weight: other weights at the same address are seen. Every weight is the round's number
 * in the middle, so y is that times the sum over x's channels. */
static void forgets(enum precision p, int64_t side, int64_t ci, int64_t co, int64_t k)
{
    struct dev   *d = twin_dev(p, 1);
    struct scene  s = {.d = d, .r = {.state = 5}};
    struct tensor x = twin_random(&s, false, 1.0f, 3, (int64_t[]){side, side, ci}), y = twin_new(&s, false, 3, (int64_t[]){side, side, co});
    struct tensor w, b = twin_weight(&s, DTYPE_F32, 0.0f, 1, &co);
    int64_t       n = co * ci * k * k;
    float        *f = calloc((size_t)n, sizeof *f);
    struct err    e = {0};

    assert_non_null(f);
    for (int round = 0; round < 6; round++) {
        for (int64_t i = k * k / 2; i < n; i += k * k) f[i] = (float)round;
        if (round % 2 == 0) assert_int_equal(dev_alloc(d, DTYPE_F32, 4, (int64_t[]){co, ci, k, k}, &w, &e), 0);
        assert_int_equal(dev_put(d, &w, f, (size_t)n * sizeof *f, &e), 0);
        op_conv2d(d, &y, &x, &w, &b, NULL);
        for (int64_t i = 0; i < side * side * co; i++) {
            double sum = 0;

            for (int64_t c = 0; c < ci; c++) sum += (double)round * twin_at(&x, i / co * ci + c);
            assert_true(fabs(twin_at(&y, i) - sum) <= (p == PRECISION_F32 ? 1e-3 : 0.2) * round); /* bf16 with AMX */
        }
        if (round % 2 == 1) dev_free(d, &w);
    }
    free(f);
    dev_close(d);
}

static void test_forgets(void **state)
{
    (void)state;
    forgets(PRECISION_F32, 3, 1, 1, 1);
    forgets(PRECISION_F32, 5, 2, 3, 3);
    forgets(PRECISION_AUTO, 6, 64, 16, 3);
}

/* Integers: the same bytes as nine taps over nearest-2x, to the last bit. */
static void test_fold(void **state)
{
    struct dev   *d = twin_dev(PRECISION_F32, 2);
    struct scene  s = {.d = d, .r = {.state = 7}};
    const int64_t h = 5, w = 4, ci = 3, co = 2;
    struct tensor x = twin_new(&s, false, 3, (int64_t[]){h, w, ci}), big = twin_new(&s, false, 3, (int64_t[]){2 * h, 2 * w, ci});
    struct tensor wt = dev_new(d, DTYPE_F32, 4, (int64_t[]){co, ci, 3, 3}), b = dev_new1(d, DTYPE_F32, co);
    struct tensor folded = dev_new(d, DTYPE_F32, 4, (int64_t[]){4 * co, ci, 2, 2});
    struct tensor y = twin_new(&s, false, 3, (int64_t[]){2 * h, 2 * w, co}), want = twin_new(&s, false, 3, (int64_t[]){2 * h, 2 * w, co});

    (void)state;
    for (int64_t i = 0; i < tensor_count(&x); i++) ((float *)x.data)[i] = (float)dice_range(&s.r, -9, 9);
    for (int64_t i = 0; i < tensor_count(&wt); i++) ((float *)wt.data)[i] = (float)dice_range(&s.r, -9, 9);
    for (int64_t i = 0; i < co; i++) ((float *)b.data)[i] = (float)i;
    for (int64_t i = 0; i < tensor_count(&big); i++) {
        ((float *)big.data)[i] = ((float *)x.data)[(i / ci / (2 * w) / 2 * w + i / ci % (2 * w) / 2) * ci + i % ci];
    }
    assert_int_equal(conv_up2x_fold(folded.data, &wt), 0);
    op_conv_up2x(d, &y, &x, &folded, &b);
    op_conv2d(d, &want, &big, &wt, &b, NULL);
    assert_memory_equal(y.data, want.data, (size_t)tensor_count(&y) * sizeof(float));
    dev_close(d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_all), cmocka_unit_test(test_auto), cmocka_unit_test(test_nan), cmocka_unit_test(test_forgets),
                                       cmocka_unit_test(test_fold)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
