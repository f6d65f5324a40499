/* test_rope.c - both rotations against a naive double; pitched in place. */
#include "tests/kernels/twin.h"

static void rotate(struct scene *s, bool pairs)
{
    int64_t       n = dice_range(&s->r, 1, 90), h = dice_range(&s->r, 1, 6), half = dice_range(&s->r, 1, 70);
    struct tensor x = twin_random(s, true, 1.0f, 3, (int64_t[]){n, h, 2 * half});
    struct tensor cs = twin_random(s, true, 1.0f, 2, (int64_t[]){n, half}), sn = twin_random(s, true, 1.0f, 2, (int64_t[]){n, half});
    double       *truth = s->check ? twin_truth(n * h * 2 * half) : NULL;

    for (int64_t i = 0; truth && i < n * h * half; i++) {
        int64_t row = i / half / h, head = i / half % h, k = i % half, one = pairs ? 2 * k : k, two = pairs ? 2 * k + 1 : k + half;
        double  a = (double)twin_row(&x, row)[head * 2 * half + one], b = (double)twin_row(&x, row)[head * 2 * half + two];
        double  c = (double)twin_row(&cs, row)[k], q = (double)twin_row(&sn, row)[k];

        truth[(row * h + head) * 2 * half + one] = a * c - b * q;
        truth[(row * h + head) * 2 * half + two] = a * q + b * c;
    }
    if (pairs) op_rope_pairs(s->d, &x, &cs, &sn);
    else op_rope_halves(s->d, &x, &cs, &sn);
    twin_check(s, "rope", &x, truth);
    twin_check_gaps(&x);
}

static void in_pairs(struct scene *s)
{
    rotate(s, true);
}

static void in_halves(struct scene *s)
{
    rotate(s, false);
}

static void test_pairs(void **state)
{
    (void)state;
    twin_run(in_pairs, PRECISION_F32, 2e-7, 25);
}

static void test_halves(void **state)
{
    (void)state;
    twin_run(in_halves, PRECISION_F32, 2e-7, 25);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_pairs), cmocka_unit_test(test_halves)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
