/* test_cuda_joined.c - gate and up products that end in SwiGLU, beside naive double precision: whole and ragged tiles, odd and even numbers of them, few
 * and many; and beside the same ops one after the other. On a GPU that has none of these it says so. */
#include "kernels/quant.h"
#include "tests/kernels/gpu.h"

#define BOUND 2.6e-3 /* one rounding to bf16 */

static struct dev *joined_dev(void)
{
    struct dev *d = gpu_dev(PRECISION_BF16);

    cuda_only(d, CUDA_ONLY_JOINED, true);
    if (cuda_joins(d)) return d;
    print_message("skipped: %s has no products of this kind\n", d->about);
    dev_close(d);
    skip();
    return NULL;
}

static double silu_of(double v)
{
    return v / (1.0 + exp(-v));
}

static double dot(const float *a, const float *b, int64_t n)
{
    double sum = 0;

    for (int64_t i = 0; i < n; i++) sum += (double)a[i] * (double)b[i];
    return sum;
}

/* The box is its first columns from here on; the others must still be NaN. */
static void narrow_to(struct box *b, int64_t cols)
{
    b->t = tensor_cols_of(&b->wide, b->left, cols);
}

static int64_t rows_of(struct scene *s)
{
    static const int64_t edge[] = {1, 63, 64, 65, 127, 128, 129, 255, 256, 257, 384, 385};
    const int64_t        k = dice_range(&s->r, 0, 19);

    return k < 12 ? edge[k] : dice_range(&s->r, 1, 700);
}

static void swiglu(struct scene *s)
{
    const int64_t n = rows_of(s), k = dice_range(&s->r, 1, 40) * 8, c = dice_range(&s->r, 1, 4) * 128;
    struct box   *x = box_new(s, DTYPE_BF16, false, 1.0f, 2, (int64_t[]){n, k}), *w = box_new(s, DTYPE_BF16, false, 0.2f, 2, (int64_t[]){2 * c, k});
    struct box   *y = box_out(s, DTYPE_BF16, false, 2, (int64_t[]){n, 2 * c});
    double       *t = truth_new(n * c);

    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j < c; j++) t[i * c + j] = silu_of(dot(x->v + i * k, w->v + j * k, k)) * dot(x->v + i * k, w->v + (c + j) * k, k);
    op_linear_swiglu(s->d, &y->t, &x->t, &w->t);
    narrow_to(y, c);
    box_check(s, "product and swiglu", y, t);
}

/* Many more tiles than multiprocessors, all rounds of them, in two bands; the truth is the ops one after the other, checked elsewhere. */
static void many_tiles(struct scene *s)
{
    const int64_t n = dice_range(&s->r, 3000, 4600), k = 128, c = 12 * 128, both = n * c;
    struct box   *x = box_new(s, DTYPE_BF16, false, 1.0f, 2, (int64_t[]){n, k}), *w = box_new(s, DTYPE_BF16, false, 0.2f, 2, (int64_t[]){2 * c, k});
    struct box   *y = box_out(s, DTYPE_BF16, false, 2, (int64_t[]){n, 2 * c}), *z = box_out(s, DTYPE_BF16, false, 2, (int64_t[]){n, 2 * c});
    double       *t = truth_new(both);

    cuda_only(s->d, CUDA_ONLY_SEPARATE, true);
    op_linear_swiglu(s->d, &z->t, &x->t, &w->t);
    cuda_only(s->d, CUDA_ONLY_SEPARATE, false);
    gpu_sync(s->d);
    box_get(s, z);
    for (int64_t i = 0; i < both; i++) t[i] = (double)z->v[i / c * 2 * c + i % c];
    op_linear_swiglu(s->d, &y->t, &x->t, &w->t);
    narrow_to(y, c);
    box_check(s, "many tiles", y, t);
}

static void test_swiglu(void **state)
{
    struct dev *d = joined_dev();

    (void)state;
    gpu_run_on(d, "product and swiglu", swiglu, 0, BOUND, 40);
    gpu_run_on(d, "many tiles", many_tiles, 0, 5e-3, 2);
    dev_close(d);
    gpu_end();
}

/* A weight of a block kind is widened for it. */
static void test_blocks(void **state)
{
    enum { N = 300, K = 256, C = 256 };
    struct dev     *d = joined_dev();
    struct scene    s = {.d = d, .r = {.state = 3}, .bf16 = true, .bound = {0, 6e-3}};
    struct box     *x = box_new(&s, DTYPE_BF16, false, 1.0f, 2, (int64_t[]){N, K}), *y = box_out(&s, DTYPE_BF16, false, 2, (int64_t[]){N, 2 * C});
    const size_t    row_bytes = dtype_row_bytes(DTYPE_Q8_0, K);
    char           *data = malloc(2 * C * row_bytes);
    float          *wide = malloc(2 * C * K * sizeof *wide);
    double         *t = truth_new(N * C);
    struct tensor   host = {.type = DTYPE_Q8_0, .rank = 2, .dim = {2 * C, K}, .pitch = K, .data = data}, w;
    struct err      e = {0};

    (void)state;
    assert_true(data && wide);
    near_fill_normal(&s.r, wide, 2 * C * K, 0.2f);
    for (int64_t i = 0; i < 2 * C; i++) {
        quant_from_f32(data + (size_t)i * row_bytes, DTYPE_Q8_0, wide + i * K, K);
        quant_to_f32(wide + i * K, data + (size_t)i * row_bytes, DTYPE_Q8_0, K);
    }
    if (dev_weight(d, &host, &w, &e)) fail_msg("%s", e.text);
    for (int64_t i = 0; i < N; i++)
        for (int64_t j = 0; j < C; j++) t[i * C + j] = silu_of(dot(x->v + i * K, wide + j * K, K)) * dot(x->v + i * K, wide + (C + j) * K, K);
    op_linear_swiglu(d, &y->t, &x->t, &w);
    narrow_to(y, C);
    box_check(&s, "of Q8_0", y, t);
    for (int b = 0; b < s.n_boxes; b++) free(s.box[b].v);
    free(data);
    free(wide);
    dev_close(d);
    gpu_end();
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_swiglu), cmocka_unit_test(test_blocks)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
