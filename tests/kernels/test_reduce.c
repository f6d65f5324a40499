/* test_reduce.c - sums and checks of a whole tensor for the host. */
#include "tests/kernels/twin.h"

static void squares(struct scene *s)
{
    int64_t       n = dice_range(&s->r, 1, 200000);
    struct tensor x = twin_random(s, false, 1.0f, 1, &n);
    double        sum = op_sum_squares(s->d, &x), truth = 0.0;

    for (int64_t i = 0; i < n; i++) truth += twin_at(&x, i) * twin_at(&x, i);
    assert_true(fabs(sum - truth) <= 1e-12 * truth);
    for (size_t i = 0; i < sizeof sum; i++) s->hash = (s->hash ^ ((unsigned char *)&sum)[i]) * 0x100000001b3u;
}

static void test_squares(void **state)
{
    (void)state;
    twin_run(squares, PRECISION_F32, 0.0, 6);
}

static void test_finite(void **state)
{
    static const float wild[] = {NAN, INFINITY, -INFINITY};
    struct dev   *d = twin_dev(PRECISION_F32, 3);
    struct scene  s = {.d = d, .r = {.state = 5}};
    struct tensor x = twin_random(&s, false, 1.0f, 1, (int64_t[]){100003});

    (void)state;
    ((float *)x.data)[70] = 3.4e38f;
    assert_true(op_all_finite(d, &x));
    for (int64_t at = 0; at < 100003; at += 33334) {
        for (int k = 0; k < 3; k++) {
            float before = ((float *)x.data)[at];

            ((float *)x.data)[at] = wild[k];
            assert_false(op_all_finite(d, &x));
            ((float *)x.data)[at] = before;
        }
    }
    assert_true(op_all_finite(d, &x));
    ((float *)x.data)[100002] = NAN;
    assert_true(isnan(op_sum_squares(d, &x)));
    dev_close(d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_squares), cmocka_unit_test(test_finite)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
