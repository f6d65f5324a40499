/* test_rope.c - norm and both rotations of heads against a naive double; pitched, in place. */
#include "tests/kernels/twin.h"

static void rotate(struct scene *s, bool pairs)
{
    int64_t       n = dice_range(&s->r, 1, 90), hq = dice_range(&s->r, 0, 4), hk = dice_range(&s->r, 1, 3), half = dice_range(&s->r, 1, 70), dh = 2 * half, h = hq + hk;
    struct tensor x = twin_random(s, true, 2.0f, 3, (int64_t[]){n, h, dh});
    struct tensor cs = twin_random(s, true, 1.0f, 2, (int64_t[]){n, half}), sn = twin_random(s, true, 1.0f, 2, (int64_t[]){n, half});
    struct tensor wq = twin_weight(s, twin_type(s), 1.0f, 1, &dh), wk = twin_weight(s, twin_type(s), 1.0f, 1, &dh);
    double       *truth = s->check ? twin_truth(n * h * dh) : NULL;

    for (int64_t vec = 0; truth && vec < n * h; vec++) {
        const float         *v = twin_row(&x, vec / h) + vec % h * dh;
        const struct tensor *w = vec % h < hq ? &wq : &wk;
        double               sum = 0.0;

        for (int64_t i = 0; i < dh; i++) sum += (double)v[i] * (double)v[i];
        sum = 1.0 / sqrt(sum / (double)dh + (double)1e-5f);
        for (int64_t k = 0; k < half; k++) {
            int64_t one = pairs ? 2 * k : k, two = pairs ? 2 * k + 1 : k + half;
            double  a = (double)v[one] * sum * twin_at(w, one), b = (double)v[two] * sum * twin_at(w, two);
            double  c = (double)twin_row(&cs, vec / h)[k], q = (double)twin_row(&sn, vec / h)[k];

            truth[vec * dh + one] = a * c - b * q;
            truth[vec * dh + two] = a * q + b * c;
        }
    }
    op_norm_rope(s->d, &x, &(struct norm_rope){hq, &wq, &wk, 1e-5f, pairs ? ROPE_PAIRS : ROPE_HALVES, &cs, &sn});
    twin_check(s, "norm_rope", &x, truth);
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
    twin_run(in_pairs, PRECISION_F32, 5e-7, 25);
}

static void test_halves(void **state)
{
    (void)state;
    twin_run(in_halves, PRECISION_F32, 5e-7, 25);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_pairs), cmocka_unit_test(test_halves)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
