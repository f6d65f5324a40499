/* test_linear.c - products against a naive double, for every weight type and both precisions. */
#include "kernels/cpu/cpu.h"
#include "tests/kernels/twin.h"

static double rounded(const struct scene *s, double v)
{
    float f = (float)v;

    if (s->d->precision == PRECISION_BF16) round_bf16(&f, &f, 1);
    return (double)f;
}

static void product(struct scene *s, int64_t n, int64_t k, int64_t m, enum dtype type)
{
    bool          with_bias = dice_range(&s->r, 0, 1);
    struct tensor x = twin_random(s, true, 1.0f, 2, (int64_t[]){n, k}), y = twin_new(s, true, 2, (int64_t[]){n, m});
    struct tensor w = twin_weight(s, type, 1.0f, 2, (int64_t[]){m, k}), bias = twin_weight(s, twin_type(s), 1.0f, 1, (int64_t[]){m});
    double       *truth = s->check ? twin_truth(n * m) : NULL, *wd = s->check ? twin_truth(m * k) : NULL;
    double       *xd = s->check ? twin_truth(n * k) : NULL;

    op_linear(s->d, &y, &x, &w, with_bias ? &bias : NULL);
    for (int64_t i = 0; wd && i < m * k; i++) wd[i] = rounded(s, twin_at(&w, i));
    for (int64_t i = 0; xd && i < n * k; i++) xd[i] = rounded(s, twin_at(&x, i));
    for (int64_t i = 0; truth && i < n; i++) {
        for (int64_t j = 0; j < m; j++) {
            double sum = with_bias ? twin_at(&bias, j) : 0.0;

            for (int64_t l = 0; l < k; l++) sum += xd[i * k + l] * wd[j * k + l];
            truth[i * m + j] = sum;
        }
    }
    twin_check(s, "linear", &y, truth);
    twin_check_gaps(&y);
    free(wd);
    free(xd);
}

static void ragged(struct scene *s)
{
    int64_t n = dice_range(&s->r, 1, 40), k = dice_range(&s->r, 1, 90), m = dice_range(&s->r, 1, 150);

    product(s, n, k, m, twin_type(s));
}

static void across_tiles(struct scene *s)
{
    int64_t n = dice_range(&s->r, 505, 560), k = dice_range(&s->r, 505, 1100), m = dice_range(&s->r, 100, 140);

    product(s, n, k, m, twin_type(s));
}

/* Large enough for the wider tiles. */
static void large(struct scene *s)
{
    product(s, 1030, 20, 2043, twin_type(s));
}

static void one_row(struct scene *s)
{
    product(s, 1, dice_range(&s->r, 200, 2300), dice_range(&s->r, 100, 300), twin_type(s));
}

/* Kinds that can be made; rows of whole blocks; across the tiles' depth. */
static void blocks(struct scene *s)
{
    static const enum dtype kind[] = {DTYPE_F8_E4M3, DTYPE_F8_E5M2, DTYPE_Q8_0, DTYPE_Q4_0, DTYPE_Q2_K, DTYPE_Q3_K, DTYPE_Q4_K, DTYPE_Q5_K, DTYPE_Q6_K};
    enum dtype type = kind[dice_range(&s->r, 0, 8)];
    int64_t    block = dtype_block(type), most = 1300 / block;

    product(s, dice_range(&s->r, 1, 40), block * dice_range(&s->r, 1, most), dice_range(&s->r, 1, 150), type);
}

static void test_blocks(void **state)
{
    (void)state;
    twin_run(blocks, PRECISION_F32, 2e-6, 24);
    twin_run(blocks, PRECISION_BF16, 2e-6, 24);
}

/* What a user sees: x and w as they are against bf16 arithmetic over dequantised weights. */
static void test_blocks_in_bf16(void **state)
{
    static const enum dtype kind[] = {DTYPE_Q8_0, DTYPE_Q6_K, DTYPE_Q4_K, DTYPE_F8_E4M3};
    struct dev *d = twin_dev(PRECISION_BF16, 2);

    (void)state;
    for (size_t i = 0; i < 4; i++) {
        struct scene  s = {.d = d, .r = {.state = 11 + i}, .check = true, .bound = 4e-3};
        size_t        mark = dev_mark(d);
        struct tensor x = twin_random(&s, false, 1.0f, 2, (int64_t[]){33, 1024}), y = twin_new(&s, false, 2, (int64_t[]){33, 80});
        struct tensor w = twin_weight(&s, kind[i], 0.02f, 2, (int64_t[]){80, 1024});
        double       *truth = twin_truth(33 * 80);

        if (kind[i] == DTYPE_F8_E4M3) w.scale = 0.037f;
        op_linear(d, &y, &x, &w, NULL);
        for (int64_t r = 0; r < 33 * 80; r++) {
            for (int64_t l = 0; l < 1024; l++) truth[r] += twin_at(&x, r / 80 * 1024 + l) * twin_at(&w, r % 80 * 1024 + l);
        }
        twin_check(&s, dtype_name(kind[i]), &y, truth);
        dev_reset(d, mark);
    }
    dev_close(d);
}

static void test_ragged(void **state)
{
    (void)state;
    twin_run(ragged, PRECISION_F32, 2e-6, 40);
    twin_run(ragged, PRECISION_BF16, 2e-6, 40); /* the twin rounds too: what is left is the sum's own error */
}

static void test_across_tiles(void **state)
{
    (void)state;
    twin_run(across_tiles, PRECISION_F32, 2e-6, 2);
    twin_run(across_tiles, PRECISION_BF16, 2e-6, 2);
    twin_run(large, PRECISION_F32, 2e-6, 1);
    twin_run(large, PRECISION_BF16, 2e-6, 1);
}

static void test_one_row(void **state)
{
    (void)state;
    twin_run(one_row, PRECISION_F32, 2e-6, 6);
    twin_run(one_row, PRECISION_BF16, 2e-6, 6);
}

/* Many rows of wild sizes: what the CPU does when it may choose. */
static void chosen(struct scene *s)
{
    int64_t n = dice_range(&s->r, 1, 60), k = dice_range(&s->r, 1, 1100), m = dice_range(&s->r, 1, 150);

    if (dice_range(&s->r, 0, 1)) blocks(s);
    else product(s, n, k, m, twin_type(s));
}

static void test_chosen(void **state)
{
    (void)state;
    twin_run(chosen, PRECISION_AUTO, 2e-4, 16);
    twin_run(across_tiles, PRECISION_AUTO, 2e-4, 2);
    twin_run(large, PRECISION_AUTO, 2e-4, 1);
}

static double *truth_of(const struct tensor *x, const struct tensor *w)
{
    int64_t n = x->dim[0], k = x->dim[1], m = w->dim[0];
    double *truth = twin_truth(n * m), *wd = twin_truth(m * k);

    for (int64_t i = 0; i < m * k; i++) wd[i] = twin_at(w, i);
    for (int64_t i = 0; i < n * m; i++) {
        const float *row = twin_row(x, i / m);

        for (int64_t l = 0; l < k; l++) truth[i] += (double)row[l] * wd[i % m * k + l];
    }
    free(wd);
    return truth;
}

/* 16-bit integers: Q8_0 is taken as it is, a wild value in every row costs little accuracy, a row does not know of the others. */
static void test_int16(void **state)
{
    struct dev   *d = twin_dev(PRECISION_AUTO, 2);
    struct scene  s = {.d = d, .r = {.state = 21}, .check = true, .bound = 4e-5};
    int64_t       n = 1100, k = 288, m = 20;
    struct tensor x = twin_random(&s, true, 1.0f, 2, (int64_t[]){n, k}), y = twin_new(&s, true, 2, (int64_t[]){n, m});
    struct tensor w = twin_weight(&s, DTYPE_Q8_0, 0.02f, 2, (int64_t[]){m, k}), some = tensor_slice(&x, 700, 31);
    struct tensor again = twin_new(&s, false, 2, (int64_t[]){31, m});

    (void)state;
    if (!cpu_of(d)->fast || !cpu_of(d)->tile16) {
        print_message("this CPU has AMX: no 16-bit integers\n");
        dev_close(d);
        skip();
    }
    op_linear(d, &y, &x, &w, NULL);
    op_linear(d, &again, &some, &w, NULL);
    for (int64_t i = 0; i < 31; i++) assert_memory_equal(twin_row(&again, i), twin_row(&y, 700 + i), (size_t)m * sizeof(float));
    twin_check(&s, "int16", &y, truth_of(&x, &w));
    for (int64_t i = 0; i < n; i++) twin_row(&x, i)[i % k] = 3e4f;
    op_linear(d, &y, &x, &w, NULL);
    s.bound = 1e-4;
    twin_check(&s, "int16 beside a wild value", &y, truth_of(&x, &w));
    dev_close(d);
}

/* A NaN spoils its row and no other; in w its column. */
static void nan_in(enum precision p, int64_t n)
{
    struct dev   *d = twin_dev(p, 2);
    struct scene  s = {.d = d, .r = {.state = 3}};
    struct tensor x = twin_random(&s, false, 1.0f, 2, (int64_t[]){n, 33}), y = twin_new(&s, false, 2, (int64_t[]){n, 17});
    struct tensor w = twin_weight(&s, DTYPE_BF16, 1.0f, 2, (int64_t[]){17, 33});

    twin_row(&x, 2)[7] = NAN;
    op_linear(d, &y, &x, &w, NULL);
    for (int64_t i = 0; i < n; i++) {
        for (int64_t j = 0; j < 17; j++) assert_int_equal(isnan(twin_row(&y, i)[j]) != 0, i == 2);
    }
    ((uint16_t *)w.data)[5 * 33 + 32] = 0x7f80; /* infinity */
    op_linear(d, &y, &x, &w, NULL);
    for (int64_t i = 0; i < n; i++) {
        for (int64_t j = 0; j < 17; j++) assert_int_equal(isfinite(twin_row(&y, i)[j]) != 0, i != 2 && j != 5);
    }
    dev_close(d);
}

/* Where no backend does both at once: the left half is what one op after the other makes of it. */
static void test_swiglu(void **state)
{
    enum { N = 19, K = 70, C = 33 };
    struct dev   *d = twin_dev(PRECISION_F32, 2);
    struct scene  s = {.d = d, .r = {.state = 8}};
    struct tensor x = twin_random(&s, true, 1.0f, 2, (int64_t[]){N, K}), w = twin_weight(&s, DTYPE_F32, 0.3f, 2, (int64_t[]){2 * C, K});
    struct tensor y = twin_new(&s, true, 2, (int64_t[]){N, 2 * C}), z = twin_new(&s, true, 2, (int64_t[]){N, 2 * C});
    struct tensor g = tensor_cols_of(&z, 0, C), up = tensor_cols_of(&z, C, C);

    (void)state;
    op_linear_swiglu(d, &y, &x, &w);
    op_linear(d, &z, &x, &w, NULL);
    op_swiglu(d, &g, &up);
    for (int64_t i = 0; i < N; i++) assert_memory_equal(twin_row(&y, i), twin_row(&z, i), C * sizeof(float));
    dev_close(d);
}

static void test_nan(void **state)
{
    (void)state;
    nan_in(PRECISION_F32, 5);
    nan_in(PRECISION_AUTO, 5);
    nan_in(PRECISION_AUTO, 25);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_ragged), cmocka_unit_test(test_across_tiles), cmocka_unit_test(test_one_row),
                                       cmocka_unit_test(test_nan), cmocka_unit_test(test_blocks),
                                       cmocka_unit_test(test_blocks_in_bf16), cmocka_unit_test(test_chosen),
                                       cmocka_unit_test(test_int16), cmocka_unit_test(test_swiglu)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
