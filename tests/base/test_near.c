/* test_near.c - the measure itself: what is near passes, what is not does not, and nothing wild slips through.
 * The refusals it provokes are printed; they are no failures. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <math.h>

#include "tests/near.h"

static void test_distance(void **state)
{
    const double  truth[4] = {1, -1, 1, -1};
    float         a[4] = {1.01f, -1, 1, -1};
    const uint8_t x[3] = {1, 2, 255}, y[3] = {1, 4, 0};
    double        got;
    size_t        n_off;

    (void)state;
    assert_true(near_rms("x", a, truth, 4, 0.00501, &got));
    assert_true(fabs(got - 0.005) < 1e-6);
    assert_false(near_rms("x", a, truth, 4, 0.00499, NULL));
    assert_true(near_abs("x", a, truth, 4, 0.0101, &got));
    assert_true(fabs(got - 0.01) < 1e-6);
    assert_false(near_abs("x", a, truth, 4, 0.0099, NULL));
    assert_false(near_rms("nothing", a, truth, 0, 1, NULL));
    assert_false(near_u8("x", x, y, 3, 254, &n_off));
    assert_int_equal(n_off, 2);
    assert_true(near_u8("x", x, y, 2, 2, NULL));
}

static void test_wild(void **state)
{
    const double truth[3] = {0, 0, INFINITY};
    float        a[3] = {0, NAN, INFINITY}, b[3] = {0, 0, INFINITY}, c[3] = {0, 1e-30f, -INFINITY}, zero[1] = {0};

    (void)state;
    assert_false(near_rms("x", a, truth, 3, 1e9, NULL));
    assert_false(near_abs("x", a, truth, 3, 1e9, NULL));
    assert_false(near_abs_f32("x", b, a, 3, 1e9, NULL));
    assert_true(near_rms("x", b, truth, 3, 0, NULL));
    assert_false(near_rms("x", c, truth, 2, 1e9, NULL)); /* a truth of zeros asks for zeros */
    assert_false(near_rms_f32("x", b + 2, c + 2, 1, 1e9, NULL));
    assert_true(near_rms_f32("x", zero, zero, 1, 0, NULL));
}

static void test_dice(void **state)
{
    struct dice r = {.state = 1234567};
    double      sum = 0, sq = 0;
    int         seen[3] = {0};

    (void)state;
    assert_true(dice_u64(&r) == 6457827717110365317u); /* the published splitmix64 */
    assert_true(dice_u64(&r) == 3203168211198807973u);
    for (int i = 0; i < 20000; i++) {
        double x = dice_normal(&r);
        sum += x;
        sq += x * x;
        seen[dice_range(&r, -1, 1) + 1]++;
    }
    assert_true(fabs(sum / 20000) < 0.03 && fabs(sq / 20000 - 1) < 0.05);
    for (int i = 0; i < 3; i++) assert_in_range(seen[i], 6000, 7400);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_distance), cmocka_unit_test(test_wild), cmocka_unit_test(test_dice)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
