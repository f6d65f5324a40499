/* test_quant.c - block kinds against the reference's bytes and values (golden/quant, made by make_quant.py), and how much making them loses. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include <math.h>
#include <string.h>

#include "kernels/quant.h"
#include "tests/golden.h"
#include "tests/near.h"

#define GOLDEN TESTS_DIR "/golden/quant/quant.safetensors"

static void *golden(enum dtype type, const char *what, size_t *n)
{
    char key[64];
    snprintf(key, sizeof key, "%s.%s", dtype_name(type), what);
    return golden_read(GOLDEN, key, n);
}

/* NaN equals NaN; everything else bit for bit (0 and -0 are the same number: the reference multiplies in another order). */
static void assert_same(const char *name, const float *a, const float *b, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!(a[i] == b[i] || (isnan(a[i]) && isnan(b[i]))))
            fail_msg("%s: value %zu is %.9g, the reference has %.9g", name, i, (double)a[i], (double)b[i]);
}

static void test_reads_exactly(void **state)
{
    (void)state;
    int n_kinds = 0;
    for (enum dtype t = 0; t < DTYPE_COUNT; t++) {
        if (!quant_is(t))
            continue;
        size_t   n = 0, n_words = 0;
        char    *blocks = golden(t, "blocks", &n_words);
        float   *truth = golden(t, "values", &n), got[1024];
        uint8_t *odd = malloc(4 * n_words + 1);
        assert_non_null(odd);
        assert_int_equal(n, 1024);
        assert_int_equal(4 * n_words, dtype_row_bytes(t, 1024));
        memcpy(odd + 1, blocks, 4 * n_words); /* blocks lie anywhere */
        quant_to_f32(got, odd + 1, t, 1024);
        assert_same(dtype_name(t), got, truth, n);
        free(odd);
        free(blocks);
        free(truth);
        n_kinds++;
    }
    assert_int_equal(n_kinds, 14);
}

static void test_makes_as_the_reference(void **state)
{
    (void)state;
    static const enum dtype f8[] = { DTYPE_F8_E4M3, DTYPE_F8_E5M2 };
    size_t   n, n_words;
    float   *w = golden_read(GOLDEN, "weights", &n);
    uint8_t *truth = golden(DTYPE_Q8_0, "made", &n_words), got[4096 / 32 * 34];

    assert_int_equal(n, 4096);
    assert_int_equal(4 * n_words, sizeof got);
    quant_from_f32(got, DTYPE_Q8_0, w, 4096);
    assert_memory_equal(got, truth, sizeof got);
    free(truth);
    free(w);
    for (int i = 0; i < 2; i++) {
        w = golden(f8[i], "from", &n);
        truth = golden(f8[i], "made", &n_words);
        assert_int_equal(n, 4 * n_words);
        quant_from_f32(got, f8[i], w, (int64_t)n);
        for (size_t k = 0; k < n; k++)
            if (got[k] != truth[k])
                fail_msg("%s: %.9g gives %02x, the reference has %02x", dtype_name(f8[i]), (double)w[k], got[k], truth[k]);
        free(truth);
        free(w);
    }
}

static void test_f8_edges(void **state)
{
    (void)state;
    float   x[6] = { INFINITY, -INFINITY, NAN, 1e9f, 0, -1e-30f }, y[6];
    uint8_t b[6];
    quant_from_f32(b, DTYPE_F8_E4M3, x, 6);
    quant_to_f32(y, b, DTYPE_F8_E4M3, 6);
    assert_true(y[0] == 448 && y[1] == -448 && isnan(y[2]) && y[3] == 448 && y[4] == 0 && y[5] == 0);
    quant_from_f32(b, DTYPE_F8_E5M2, x, 6);
    quant_to_f32(y, b, DTYPE_F8_E5M2, 6);
    assert_true(y[0] == 57344 && y[1] == -57344 && isnan(y[2]) && y[3] == 57344);
    for (int c = 0; c < 256; c++) { /* every code comes back */
        uint8_t code = (uint8_t)c;
        quant_to_f32(y, &code, DTYPE_F8_E4M3, 1);
        quant_from_f32(b, DTYPE_F8_E4M3, y, 1);
        assert_int_equal(b[0], code);
    }
}

/* Plain rounding of each group of `size` with a float scale (and minimum) from its extremes: what a search has to beat. */
static double naive_rms(const float *x, size_t n, size_t size, double high, bool line)
{
    double error = 0, sum = 0;
    for (size_t g = 0; g < n; g += size) {
        double low = 0, top = 0, far = 0;
        for (size_t i = g; i < g + size; i++) {
            low = x[i] < low ? x[i] : low;
            top = x[i] > top ? x[i] : top;
            far = fabs(x[i]) > fabs(far) ? x[i] : far;
        }
        double scale = line ? (top - low) / high : far / -(high + 1), min = line ? low : 0, least = line ? 0 : -(high + 1);
        for (size_t i = g; i < g + size; i++) {
            double q = scale != 0 ? fmin(fmax(rint((x[i] - min) / scale), least), high) : 0, d = q * scale + min - x[i];
            error += d * d;
            sum += (double)x[i] * x[i];
        }
    }
    return sqrt(error / sum);
}

static double made_rms(const float *x, enum dtype t, size_t n)
{
    uint8_t *b = malloc(dtype_row_bytes(t, (int64_t)n));
    float   *y = malloc(n * sizeof *y);
    double   error = 0, sum = 0;
    assert_non_null(b);
    assert_non_null(y);
    quant_from_f32(b, t, x, (int64_t)n);
    quant_to_f32(y, b, t, (int64_t)n);
    for (size_t i = 0; i < n; i++) {
        error += ((double)y[i] - x[i]) * ((double)y[i] - x[i]);
        sum += (double)x[i] * x[i];
    }
    free(b);
    free(y);
    return sqrt(error / sum);
}

static void test_search_beats_rounding(void **state)
{
    (void)state;
    static const struct { enum dtype type; size_t group; double high; bool line; double of_naive, limit; } row[] = {
        { DTYPE_Q2_K, 16, 3, true, 0.95, 0.30 },   { DTYPE_Q3_K, 16, 3, false, 0.95, 0.15 },  { DTYPE_Q4_K, 32, 15, true, 0.98, 0.085 },
        { DTYPE_Q5_K, 32, 31, true, 1.0, 0.042 },  { DTYPE_Q6_K, 16, 31, false, 1.0, 0.020 }, { DTYPE_Q4_0, 32, 7, false, 0.98, 0.10 },
        { DTYPE_Q8_0, 32, 127, false, 1.02, 0.007 },
    };
    size_t      n, one;
    float      *w = golden_read(GOLDEN, "weights", &n), *ref = golden_read(GOLDEN, "q4_0.naive_rms", &one);
    float       normal[8192];
    struct dice dice = { .state = 5 };
    near_fill_normal(&dice, normal, 8192, 0.03f);
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        double naive = naive_rms(normal, 8192, row[i].group, row[i].high, row[i].line), made = made_rms(normal, row[i].type, 8192);
        double outlying = made_rms(w, row[i].type, n), bound = naive_rms(w, n, row[i].group, row[i].high, row[i].line);
        print_message("%-5s  normal %.5f (rounding %.5f)  with outliers %.5f (rounding %.5f)\n", dtype_name(row[i].type), made, naive, outlying, bound);
        assert_true(made <= row[i].of_naive * naive);
        assert_true(made <= row[i].limit);
        assert_true(outlying <= 1.03 * bound); /* the weights prefer large values, so a little of the plain measure may go */
    }
    assert_true(made_rms(w, DTYPE_Q4_0, n) <= (double)ref[0]);
    free(w);
    free(ref);
}

static void test_odd_blocks(void **state)
{
    (void)state;
    for (enum dtype t = DTYPE_Q8_0; t < DTYPE_COUNT; t++) {
        uint8_t b[512];
        float   x[256] = { 0 }, y[256];
        if (!quant_can_make(t))
            continue;
        memset(b, 0xa5, sizeof b);
        quant_from_f32(b, t, x, 256); /* zeros stay zeros */
        quant_to_f32(y, b, t, 256);
        for (int i = 0; i < 256; i++)
            assert_true(y[i] == 0);
        for (int i = 0; i < 256; i++)
            x[i] = i < 128 ? 0.5f : -0.25f; /* constants within a group */
        quant_from_f32(b, t, x, 256);
        quant_to_f32(y, b, t, 256);
        assert_true(near_rms_f32(dtype_name(t), y, x, 256, 0.02, NULL));
        for (int i = 0; i < 256; i++)
            x[i] = 1e30f * (float)(i % 3 - 1); /* past F16: finite all the same */
        quant_from_f32(b, t, x, 256);
        quant_to_f32(y, b, t, 256);
        for (int i = 0; i < 256; i++)
            assert_true(isfinite(y[i]));
        for (int i = 0; i < 256; i++)
            x[i] = 1e-9f * (float)(i % 5 - 2); /* below F16's smallest */
        quant_from_f32(b, t, x, 256);
        quant_to_f32(y, b, t, 256);
        for (int i = 0; i < 256; i++)
            assert_true(fabsf(y[i]) < 1e-6f);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reads_exactly),         cmocka_unit_test(test_makes_as_the_reference), cmocka_unit_test(test_f8_edges),
        cmocka_unit_test(test_search_beats_rounding), cmocka_unit_test(test_odd_blocks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
