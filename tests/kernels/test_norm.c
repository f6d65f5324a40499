/* test_norm.c - RMS, layer and group norm against a naive double, also where the mean is far from zero. */
#include "tests/kernels/twin.h"

static void rms(struct scene *s)
{
    bool          heads = dice_range(&s->r, 0, 1), in_place = dice_range(&s->r, 0, 1);
    int64_t       n = dice_range(&s->r, 1, 70), h = heads ? dice_range(&s->r, 1, 5) : 1, c = dice_range(&s->r, 1, 400);
    int64_t       dim[3] = {n, heads ? h : c, c};
    struct tensor x = twin_random(s, true, 2.0f, heads ? 3 : 2, dim), y = in_place ? x : twin_new(s, true, heads ? 3 : 2, dim);
    struct tensor w = twin_weight(s, twin_type(s), 1.0f, 1, &c);
    double       *truth = s->check ? twin_truth(n * h * c) : NULL;

    for (int64_t i = 0; truth && i < n * h; i++) {
        double sum = 0.0;

        for (int64_t j = 0; j < c; j++) sum += twin_at(&x, i * c + j) * twin_at(&x, i * c + j);
        for (int64_t j = 0; j < c; j++) truth[i * c + j] = twin_at(&x, i * c + j) / sqrt(sum / (double)c + (double)1e-5f) * twin_at(&w, j);
    }
    op_rms_norm(s->d, &y, &x, &w, 1e-5f);
    twin_check(s, "rms_norm", &y, truth);
    twin_check_gaps(&y);
}

static void layer(struct scene *s)
{
    bool          in_place = dice_range(&s->r, 0, 1);
    int64_t       n = dice_range(&s->r, 1, 70), c = dice_range(&s->r, 2, 700);
    struct tensor x = twin_random(s, true, 1.0f, 2, (int64_t[]){n, c}), y = in_place ? x : twin_new(s, true, 2, (int64_t[]){n, c});
    double       *truth = s->check ? twin_truth(n * c) : NULL;

    for (int64_t i = 0; i < n; i++) {
        double mean = 0.0, var = 0.0;

        for (int64_t j = 0; j < c; j++) mean += (double)(twin_row(&x, i)[j] += 3.0f);
        mean /= (double)c;
        for (int64_t j = 0; j < c; j++) var += pow((double)twin_row(&x, i)[j] - mean, 2.0);
        for (int64_t j = 0; truth && j < c; j++) truth[i * c + j] = ((double)twin_row(&x, i)[j] - mean) / sqrt(var / (double)c + (double)1e-6f);
    }
    op_layer_norm(s->d, &y, &x, 1e-6f);
    twin_check(s, "layer_norm", &y, truth);
    twin_check_gaps(&y);
}

static void group_of(struct scene *s, int64_t h, int64_t w, int64_t per_group, int groups, float shift)
{
    int64_t       c = per_group * groups, n = h * w * per_group;
    bool          in_place = dice_range(&s->r, 0, 1), silu = dice_range(&s->r, 0, 1);
    enum act      act = silu ? ACT_SILU : ACT_NONE;
    int64_t       first = dice_range(&s->r, -1, h - 1), rows = dice_range(&s->r, 0, h + 1 - first);
    struct tensor stats = twin_new(s, false, 2, (int64_t[]){3, c}), part = twin_new(s, false, 3, (int64_t[]){rows, w, c});
    struct tensor x = twin_random(s, false, 1.0f, 3, (int64_t[]){h, w, c}), y = in_place ? x : twin_new(s, false, 3, (int64_t[]){h, w, c});
    struct tensor mul = twin_weight(s, twin_type(s), 1.0f, 1, &c), add = twin_weight(s, twin_type(s), 1.0f, 1, &c);
    double       *truth = s->check ? twin_truth(h * w * c) : NULL;

    for (int64_t i = 0; i < h * w * c; i++) ((float *)x.data)[i] += shift;
    for (int g = 0; truth && g < groups; g++) {
        double mean = 0.0, var = 0.0;

        for (int64_t i = 0; i < n; i++) mean += twin_at(&x, i / per_group * c + g * per_group + i % per_group);
        mean /= (double)n;
        for (int64_t i = 0; i < n; i++) var += pow(twin_at(&x, i / per_group * c + g * per_group + i % per_group) - mean, 2.0);
        for (int64_t i = 0; i < n; i++) {
            int64_t ch = g * per_group + i % per_group, at = i / per_group * c + ch;
            double  v = (twin_at(&x, at) - mean) / sqrt(var / (double)n + (double)1e-6f) * twin_at(&mul, ch) + twin_at(&add, ch);

            truth[at] = silu ? v / (1.0 + exp(-v)) : v;
        }
    }
    op_group_stats(s->d, &stats, &x, &mul, &add, groups, 1e-6f);
    op_group_apply(s->d, &part, &x, &stats, first, act); /* before x may be gone */
    op_group_apply(s->d, &y, &x, &stats, 0, act);
    twin_check(s, "group_norm", &y, truth);
    for (int64_t i = 0; i < tensor_count(&part); i++) {
        int64_t from = first * w * c + i;

        assert_true(((float *)part.data)[i] == (from < 0 || from >= h * w * c ? 0.0f : ((float *)y.data)[from]));
    }
}

static void group(struct scene *s)
{
    group_of(s, dice_range(&s->r, 1, 40), dice_range(&s->r, 2, 40), dice_range(&s->r, 1, 6), (int)dice_range(&s->r, 1, 8), 0.5f);
}

static void group_shifted(struct scene *s)
{
    group_of(s, 31, 17, 4, 8, 50.0f);
}

static void group_large(struct scene *s)
{
    group_of(s, 300, 301, 3, 8, 0.1f); /* more chunks than are kept apart */
}

/* Every part of it by chance; h may be y. */
static void sums(struct scene *s)
{
    bool          with_y = dice_range(&s->r, 0, 4), with_h = !with_y || dice_range(&s->r, 0, 3), norm = dice_range(&s->r, 0, 1);
    bool          gated = dice_range(&s->r, 0, 1), scaled = dice_range(&s->r, 0, 1), over = with_y && dice_range(&s->r, 0, 1);
    int64_t       n = dice_range(&s->r, 1, 70), c = dice_range(&s->r, 1, 600);
    struct tensor x = twin_random(s, true, 2.0f, 2, (int64_t[]){n, c}), y = twin_random(s, true, 3.0f, 2, (int64_t[]){n, c});
    struct tensor h = over ? y : twin_new(s, true, 2, (int64_t[]){n, c});
    struct tensor wy = twin_weight(s, twin_type(s), 1.0f, 1, &c), wh = twin_weight(s, twin_type(s), 1.0f, 1, &c);
    struct tensor gate = twin_weight(s, DTYPE_F32, 1.0f, 1, &c), scale = twin_weight(s, DTYPE_F32, 1.0f, 1, &c);
    double       *sum = s->check ? twin_truth(n * c) : NULL, *out = s->check ? twin_truth(n * c) : NULL;

    for (int64_t i = 0; sum && i < n; i++) {
        double squares = 0.0, all = 0.0;

        for (int64_t j = 0; j < c; j++) squares += pow(twin_at(&y, i * c + j), 2.0);
        for (int64_t j = 0; j < c; j++) {
            double v = twin_at(&y, i * c + j);

            if (norm) v *= twin_at(&wy, j) / sqrt(squares / (double)c + (double)1e-5f);
            if (gated) v *= twin_at(&gate, j);
            sum[i * c + j] = twin_at(&x, i * c + j) + (with_y ? v : 0.0);
            all += sum[i * c + j] * sum[i * c + j];
        }
        for (int64_t j = 0; j < c; j++) {
            out[i * c + j] = sum[i * c + j] / sqrt(all / (double)c + (double)1e-5f) * twin_at(&wh, j) * (scaled ? 1.0 + twin_at(&scale, j) : 1.0);
        }
    }
    op_add_norm(s->d, &x, with_h ? &h : NULL, with_y ? &y : NULL,
                &(struct add_norm){norm ? &wy : NULL, gated ? &gate : NULL, &wh, scaled ? &scale : NULL, 1e-5f});
    twin_check(s, "add_norm, the sum", &x, sum);
    twin_check_gaps(&x);
    if (with_h) {
        twin_check(s, "add_norm, its norm", &h, out);
        twin_check_gaps(&h);
    } else {
        free(out);
    }
}

static void test_all(void **state)
{
    (void)state;
    twin_run(sums, PRECISION_F32, 5e-7, 40);
    twin_run(rms, PRECISION_F32, 5e-7, 30);
    twin_run(layer, PRECISION_F32, 1e-6, 20);
    twin_run(group, PRECISION_F32, 1e-6, 20);
    twin_run(group_shifted, PRECISION_F32, 1e-5, 2); /* the mean itself is rounded to F32 */
    twin_run(group_large, PRECISION_F32, 1e-6, 1);
}

static void test_nan(void **state)
{
    struct dev   *d = twin_dev(PRECISION_F32, 2);
    struct scene  s = {.d = d, .r = {.state = 5}};
    struct tensor x = twin_random(&s, false, 1.0f, 2, (int64_t[]){4, 70}), y = twin_new(&s, false, 2, (int64_t[]){4, 70});
    struct tensor w = twin_weight(&s, DTYPE_F32, 1.0f, 1, (int64_t[]){70});
    struct tensor img = tensor_view(&x, 3, (int64_t[]){4, 7, 10}), out = tensor_view(&y, 3, (int64_t[]){4, 7, 10});
    struct tensor w10 = tensor_slice(&w, 0, 10), stats = twin_new(&s, false, 2, (int64_t[]){3, 10});

    (void)state;
    twin_row(&x, 1)[69] = NAN;
    op_rms_norm(d, &y, &x, &w, 1e-5f);
    for (int64_t i = 0; i < 4; i++) assert_int_equal(isnan(twin_row(&y, i)[0]) != 0, i == 1);
    op_layer_norm(d, &y, &x, 1e-5f);
    for (int64_t i = 0; i < 4; i++) assert_int_equal(isnan(twin_row(&y, i)[0]) != 0, i == 1);
    op_group_stats(d, &stats, &img, &w10, &w10, 2, 1e-6f); /* the last channel: the second group */
    op_group_apply(d, &out, &img, &stats, 0, ACT_SILU);
    for (int64_t i = 0; i < 280; i++) assert_int_equal(isnan(((float *)y.data)[i]) != 0, i % 10 >= 5);
    dev_close(d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_all), cmocka_unit_test(test_nan)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
