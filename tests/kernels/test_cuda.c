/* test_cuda.c - the CUDA ops that there are, against a naive double. Skips, and says why, where there is no device. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "kernels/cuda/cuda.h"
#include "tests/near.h"

static struct dev *device(void)
{
    struct err  e = {0};
    struct dev *d = cuda_lab_open(0, &e);

    if (!d) {
        assert_true(e.code == ERR_DEVICE && e.text[0]);
        print_message("skipped: %s\n", e.text);
        skip();
    }
    return d;
}

static void test_axpy(void **state)
{
    static const int64_t sizes[] = {1, 31, 257, 70000, 20000003};
    struct dev          *d = device();
    struct dice          r = {.state = 11};
    struct err           e = {0};

    (void)state;
    print_message("%s\n", d->about);
    for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++) {
        size_t        n = (size_t)sizes[k];
        struct tensor x, h;
        float        *x0 = malloc(n * sizeof *x0), *h0 = malloc(n * sizeof *h0), *got = malloc(n * sizeof *got);
        double       *truth = malloc(n * sizeof *truth);

        assert_true(x0 && h0 && got && truth);
        near_fill_range(&r, x0, n, -1.0f, 1.0f);
        near_fill_range(&r, h0, n, -1.0f, 1.0f);
        for (size_t i = 0; i < n; i++) {
            truth[i] = (double)x0[i] + 0.37109375 * (double)h0[i];
            got[i] = NAN;
        }
        assert_int_equal(dev_alloc(d, DTYPE_F32, 1, &sizes[k], &x, &e), 0);
        assert_int_equal(dev_alloc(d, DTYPE_F32, 1, &sizes[k], &h, &e), 0);
        assert_int_equal(dev_put(d, &x, x0, n * sizeof *x0, &e), 0);
        assert_int_equal(dev_put(d, &h, h0, n * sizeof *h0, &e), 0);
        op_axpy(d, &x, 0.37109375f, &h);
        assert_int_equal(dev_sync(d, &e), 0);
        assert_int_equal(dev_get(d, &x, got, n * sizeof *got, &e), 0);
        assert_true(near_rms("axpy", got, truth, n, 1e-7, NULL));
        dev_free(d, &x);
        dev_free(d, &h);
        free(x0);
        free(h0);
        free(got);
        free(truth);
    }
    cuda_lab_close(d);
}

/* More memory than there is: an answer, and the device still works. */
static void test_refused(void **state)
{
    struct dev   *d = device();
    struct err    e = {0};
    struct tensor t;

    (void)state;
    assert_int_equal(dev_alloc(d, DTYPE_F32, 1, (int64_t[]){(int64_t)1 << 44}, &t, &e), ERR_NOMEM);
    assert_int_equal(dev_sync(d, &e), 0);
    assert_int_equal(dev_alloc(d, DTYPE_F32, 1, (int64_t[]){16}, &t, &e), 0);
    dev_free(d, &t);
    cuda_lab_close(d);
}

static void test_door(void **state)
{
    struct dev *d = NULL;
    struct err  e = {0};

    (void)state;
    assert_int_equal(dev_open(&d, "cuda:0", NULL, &e), ERR_DEVICE);
    assert_non_null(strstr(e.text, "--device cpu"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_axpy), cmocka_unit_test(test_refused), cmocka_unit_test(test_door)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
