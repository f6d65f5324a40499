/* test_rates.c - what is learned of workers' speed, and what clients pay. */
#include "tests/broker/pure.h"

static void test_learning(void **state)
{
    struct rates r = {0};
    struct str   fast = str_of("H100"), slow = str_of("cpu"), m = str_of("turbo");

    (void)state;
    assert_true(rates_ms(&r, fast, m, 100) == 0);
    assert_int_equal(rates_charge_ms(&r, m, 100), 800); /* a guess, so that there is something to pay */
    assert_int_equal(rates_charge_ms(&r, m, 0), 1);
    for (int i = 0; i < 40; i++) {
        rates_learn(&r, fast, m, 100, 1000);
        rates_learn(&r, slow, m, 100, 100000);
    }
    assert_true(rates_ms(&r, fast, m, 100) > 999 && rates_ms(&r, fast, m, 100) < 1001);
    assert_true(rates_ms(&r, slow, m, 100) > 99999 && rates_ms(&r, slow, m, 100) < 100001);
    assert_true(rates_ms(&r, fast, m, 50) > 499 && rates_ms(&r, fast, m, 50) < 501);    /* the nearest size stands in */
    assert_true(rates_ms(&r, fast, m, 800) > 7999 && rates_ms(&r, fast, m, 800) < 8001);
    assert_true(rates_ms(&r, fast, str_of("base"), 100) == 0);
    for (int i = 0; i < 60; i++) rates_learn(&r, fast, m, 800, 16000); /* large ones take longer than in proportion */
    assert_true(rates_ms(&r, fast, m, 800) > 15990);
    assert_true(rates_ms(&r, fast, m, 100) < 1001);
    rates_learn(&r, fast, m, 100, UINT32_MAX); /* one mad word does not make it mad */
    assert_true(rates_ms(&r, fast, m, 100) < 2000);
    rates_release(&r);
}

/* The same image is worth the same on a slow worker and on a fast one; one that took twice as long as usual there is worth twice. */
static void test_worth(void **state)
{
    struct rates r = {0};
    struct str   fast = str_of("H100"), slow = str_of("cpu"), m = str_of("turbo");
    uint32_t     mean;

    (void)state;
    for (int i = 0; i < 100; i++) {
        rates_learn(&r, fast, m, 100, 1000);
        rates_learn(&r, slow, m, 100, 3000);
    }
    mean = rates_charge_ms(&r, m, 100);
    assert_in_range(mean, 1500, 2500);
    assert_in_range(rates_worth_ms(&r, m, 100, rates_ms(&r, fast, m, 100), 1000), mean - 1, mean + 1);
    assert_in_range(rates_worth_ms(&r, m, 100, rates_ms(&r, slow, m, 100), 3000), mean - 1, mean + 1);
    assert_in_range(rates_worth_ms(&r, m, 100, rates_ms(&r, slow, m, 100), 6000), 2 * mean - 5, 2 * mean + 5);
    assert_in_range(rates_worth_ms(&r, m, 100, rates_ms(&r, slow, m, 100), 600000), 8 * mean - 9, 8 * mean + 9); /* and no more: it is the worker's fault */
    assert_int_equal(rates_worth_ms(&r, m, 100, 0, 12345), mean); /* nobody knew what is usual */
    rates_release(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_learning), cmocka_unit_test(test_worth)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
