/* test_attention.c - softmax(scale q k^T) v against a naive double: grouped heads, causal, pitched, across key blocks. */
#include "tests/kernels/twin.h"

/* truth [n, hq, dh] */
static void naive(const struct tensor *q, const struct tensor *k, const struct tensor *v, double scale, bool causal, double *truth)
{
    int64_t n = q->dim[0], hq = q->dim[1], dh = q->dim[2], m = k->dim[0], hk = k->dim[1];
    double *p = twin_truth(m);

    for (int64_t i = 0; i < n * hq; i++) {
        int64_t      row = i / hq, head = i % hq, kv = head / (hq / hk), seen = causal ? row + 1 : m;
        const float *a = twin_row(q, row) + head * dh;
        double       top = -INFINITY, sum = 0.0;

        for (int64_t j = 0; j < seen; j++) {
            p[j] = 0.0;
            for (int64_t l = 0; l < dh; l++) p[j] += (double)a[l] * (double)(twin_row(k, j) + kv * dh)[l];
            p[j] *= scale;
            if (p[j] > top) top = p[j];
        }
        for (int64_t j = 0; j < seen; j++) sum += p[j] = exp(p[j] - top);
        for (int64_t j = 0; j < seen; j++) {
            for (int64_t l = 0; l < dh; l++) truth[i * dh + l] += p[j] / sum * (double)(twin_row(v, j) + kv * dh)[l];
        }
    }
    free(p);
}

static void attend(struct scene *s, int64_t n, int64_t m, int64_t hq, int64_t hk, int64_t dh, float scale, bool causal)
{
    struct tensor q = twin_random(s, true, 1.0f, 3, (int64_t[]){n, hq, dh}), k = twin_random(s, true, 1.0f, 3, (int64_t[]){m, hk, dh});
    struct tensor v = twin_random(s, true, 1.0f, 3, (int64_t[]){m, hk, dh}), y = twin_new(s, true, 3, (int64_t[]){n, hq, dh});
    double       *truth = s->check ? twin_truth(n * hq * dh) : NULL;

    op_attention(s->d, &y, &q, &k, &v, scale, causal);
    if (truth) naive(&q, &k, &v, (double)scale, causal, truth);
    twin_check(s, "attention", &y, truth);
    twin_check_gaps(&y);
}

static void ragged(struct scene *s)
{
    int64_t groups = dice_range(&s->r, 1, 3), hk = dice_range(&s->r, 1, 3), dh = dice_range(&s->r, 1, 40);
    int64_t n = dice_range(&s->r, 1, 60), m = dice_range(&s->r, 1, 70);
    bool    causal = dice_range(&s->r, 0, 1);

    attend(s, n, causal ? n : m, hk * groups, hk, dh, (float)(1.0 / sqrt((double)dh)), causal);
}

static void long_keys(struct scene *s)
{
    bool    causal = dice_range(&s->r, 0, 1);
    int64_t n = dice_range(&s->r, 520, 700);

    attend(s, causal ? n : 131, causal ? n : 1100, 2, 1, 24, 0.2f, causal);
}

/* Scores of hundreds: only a running maximum survives. */
static void steep(struct scene *s)
{
    attend(s, 40, 1050, 1, 1, 64, 6.0f, false);
}

static void wide_head(struct scene *s)
{
    attend(s, 70, 70, 1, 1, 512, 0.0441941738f, false);
}

static void test_all(void **state)
{
    (void)state;
    twin_run(ragged, PRECISION_F32, 2e-6, 30);
    twin_run(ragged, PRECISION_BF16, 2e-6, 5);
    twin_run(long_keys, PRECISION_F32, 2e-6, 3);
    twin_run(steep, PRECISION_F32, 6e-5, 2); /* a score of 500 has an error of 3e-5 in F32 */
    twin_run(wide_head, PRECISION_F32, 2e-6, 2);
}

/* A NaN in a query spoils its row; one in a key spoils every row that sees it. */
static void test_nan(void **state)
{
    struct dev   *d = twin_dev(PRECISION_F32, 2);
    struct scene  s = {.d = d, .r = {.state = 5}};
    struct tensor q = twin_random(&s, false, 1.0f, 3, (int64_t[]){9, 1, 8}), k = twin_random(&s, false, 1.0f, 3, (int64_t[]){9, 1, 8});
    struct tensor v = twin_random(&s, false, 1.0f, 3, (int64_t[]){9, 1, 8}), y = twin_new(&s, false, 3, (int64_t[]){9, 1, 8});

    (void)state;
    twin_row(&q, 3)[0] = NAN;
    op_attention(d, &y, &q, &k, &v, 1.0f, false);
    for (int64_t i = 0; i < 9; i++) assert_int_equal(isnan(twin_row(&y, i)[5]) != 0, i == 3);
    twin_row(&q, 3)[0] = 0.0f;
    twin_row(&k, 6)[1] = NAN;
    op_attention(d, &y, &q, &k, &v, 1.0f, true);
    for (int64_t i = 0; i < 9; i++) assert_int_equal(isnan(twin_row(&y, i)[5]) != 0, i >= 6);
    dev_close(d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_all), cmocka_unit_test(test_nan)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
