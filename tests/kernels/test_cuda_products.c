/* test_cuda_products.c - linear, attention and convolutions on the GPU, with cublasLt and with our own product, against a naive double. */
#include "kernels/cuda/cuda.h"
#include "tests/kernels/gpu.h"

static void product(struct scene *s, int64_t n, int64_t k, int64_t m)
{
    struct box *x = box_new(s, gpu_act(s), true, 1.0f, 2, (int64_t[]){n, k}), *y = box_out(s, gpu_act(s), true, 2, (int64_t[]){n, m});
    struct box *w = box_new(s, gpu_type(s), true, 1.0f, 2, (int64_t[]){m, k}), *bias = box_new(s, gpu_type(s), false, 1.0f, 1, &m);
    bool        with_bias = dice_range(&s->r, 0, 1);
    double     *truth = truth_new(n * m);

    for (int64_t i = 0; i < n * k; i++) x->v[i] = (float)rounded(s, x->v[i]);
    for (int64_t i = 0; i < m * k; i++) w->v[i] = (float)rounded(s, w->v[i]);
    for (int64_t i = 0; i < n; i++) {
        for (int64_t j = 0; j < m; j++) {
            double sum = with_bias ? (double)bias->v[j] : 0.0;

            for (int64_t l = 0; l < k; l++) sum += (double)x->v[i * k + l] * (double)w->v[j * k + l];
            truth[i * m + j] = sum;
        }
    }
    op_linear(s->d, &y->t, &x->t, &w->t, with_bias ? &bias->t : NULL);
    box_check(s, "linear", y, truth);
}

static void linear_ragged(struct scene *s)
{
    product(s, dice_range(&s->r, 1, 150), dice_range(&s->r, 1, 180), dice_range(&s->r, 1, 150));
}

static void linear_even(struct scene *s)
{
    product(s, dice_range(&s->r, 1, 30) * 8, dice_range(&s->r, 1, 40) * 16, dice_range(&s->r, 1, 30) * 8);
}

static void linear_deep(struct scene *s)
{
    product(s, dice_range(&s->r, 1, 40), 4096 + dice_range(&s->r, 0, 9), dice_range(&s->r, 60, 130));
}

static void linear_one_row(struct scene *s)
{
    product(s, 1, dice_range(&s->r, 200, 2300), dice_range(&s->r, 100, 300));
}

/* A tensor of attention; wide: in bf16, with rows on whole 16 bytes, as the long ones' kernels want them. */
static struct box *part(struct scene *s, bool wide, int64_t n, int64_t h, int64_t dh)
{
    return box_new(s, wide ? DTYPE_BF16 : gpu_act(s), !wide, 1.0f, 3, (int64_t[]){n, h, dh});
}

static void attend_as(struct scene *s, bool wide, int64_t n, int64_t m, int64_t hq, int64_t hk, int64_t dh, float scale, bool causal)
{
    struct box *q = part(s, wide, n, hq, dh), *k = part(s, wide, m, hk, dh), *v = part(s, wide, m, hk, dh);
    struct box *y = box_out(s, wide ? DTYPE_BF16 : gpu_act(s), !wide, 3, (int64_t[]){n, hq, dh});
    double     *truth = truth_new(n * hq * dh), *p = truth_new(m);

    for (int64_t i = 0; i < box_count(q); i++) q->v[i] = (float)rounded(s, q->v[i]);
    for (int64_t i = 0; i < box_count(k); i++) k->v[i] = (float)rounded(s, k->v[i]), v->v[i] = (float)rounded(s, v->v[i]);
    for (int64_t i = 0; i < n * hq; i++) {
        int64_t      seen = causal ? i / hq + 1 : m, kv = i % hq / (hq / hk);
        const float *a = q->v + i * dh;
        double       top = -INFINITY, sum = 0.0;

        for (int64_t j = 0; j < seen; j++) {
            p[j] = 0.0;
            for (int64_t l = 0; l < dh; l++) p[j] += (double)a[l] * (double)k->v[(j * hk + kv) * dh + l];
            p[j] *= (double)scale;
            if (p[j] > top) top = p[j];
        }
        for (int64_t j = 0; j < seen; j++) sum += p[j] = exp(p[j] - top);
        for (int64_t j = 0; j < seen; j++) {
            for (int64_t l = 0; l < dh; l++) truth[i * dh + l] += p[j] / sum * (double)v->v[(j * hk + kv) * dh + l];
        }
    }
    free(p);
    op_attention(s->d, &y->t, &q->t, &k->t, &v->t, scale, causal);
    box_check(s, "attention", y, truth);
}

static void attend(struct scene *s, int64_t n, int64_t m, int64_t hq, int64_t hk, int64_t dh, float scale, bool causal)
{
    attend_as(s, false, n, m, hq, hk, dh, scale, causal);
}

static void attention_ragged(struct scene *s)
{
    int64_t groups = dice_range(&s->r, 1, 3), hk = dice_range(&s->r, 1, 3), dh = dice_range(&s->r, 1, 70);
    int64_t n = dice_range(&s->r, 1, 140), m = dice_range(&s->r, 1, 150);
    bool    causal = dice_range(&s->r, 0, 1);

    attend(s, n, causal ? n : m, hk * groups, hk, dh, (float)(1.0 / sqrt((double)dh)), causal);
}

/* The widths that models have, each with its own kernel, and one beyond them all. */
static void attention_widths(struct scene *s)
{
    static const int64_t width[] = {16, 32, 64, 96, 128, 160, 256, 512};
    int64_t              dh = width[(s->r.state - 1) % 8], n = dice_range(&s->r, 60, 200), m = dice_range(&s->r, 60, 200);
    bool                 causal = dice_range(&s->r, 0, 1);

    attend(s, n, causal ? n : m, 2, 1, dh, (float)(1.0 / sqrt((double)dh)), causal);
}

static void attention_long(struct scene *s)
{
    bool    causal = dice_range(&s->r, 0, 1);
    int64_t n = dice_range(&s->r, 520, 700);

    attend(s, causal ? n : 131, causal ? n : 1100, 2, 1, 24, 0.2f, causal);
}

/* Long enough for cuDNN: packed rows, grouped heads, odd lengths. */
static void attention_packed(struct scene *s)
{
    int64_t     n = dice_range(&s->r, 512, 640), hq = 4, hk = dice_range(&s->r, 0, 1) ? 2 : 4, dh = dice_range(&s->r, 1, 4) * 32;
    struct box *qkv = box_new(s, s->d->act_type, false, 1.0f, 2, (int64_t[]){n, (hq + 2 * hk) * dh}), *y = box_out(s, s->d->act_type, false, 3, (int64_t[]){n, hq, dh});
    struct tensor q = tensor_cols_of(&qkv->t, 0, hq * dh), k = tensor_cols_of(&qkv->t, hq * dh, hk * dh), v = tensor_cols_of(&qkv->t, (hq + hk) * dh, hk * dh);
    double     *truth = truth_new(n * hq * dh), *p = truth_new(n), scale = 1.0 / sqrt((double)dh);
    int64_t     ld = (hq + 2 * hk) * dh;

    for (int64_t i = 0; i < n * hq; i++) {
        int64_t      kv = i % hq / (hq / hk);
        const float *a = qkv->v + i / hq * ld + i % hq * dh;
        double       sum = 0.0;

        for (int64_t j = 0; j < n; j++) {
            double dot = 0.0;

            for (int64_t l = 0; l < dh; l++) dot += (double)a[l] * (double)qkv->v[j * ld + (hq + kv) * dh + l];
            sum += p[j] = exp(dot * scale - 20.0);
        }
        for (int64_t j = 0; j < n; j++) {
            for (int64_t l = 0; l < dh; l++) truth[i * dh + l] += p[j] / sum * (double)qkv->v[j * ld + (hq + hk + kv) * dh + l];
        }
    }
    free(p);
    q = tensor_heads(&q, hq), k = tensor_heads(&k, hk), v = tensor_heads(&v, hk);
    op_attention(s->d, &y->t, &q, &k, &v, (float)scale, false);
    box_check(s, "attention", y, truth);
}

/* Tiles of 128, whole and ragged, fewer and more than there are multiprocessors. */
static void attention_tiles(struct scene *s)
{
    static const int64_t edge[] = {1, 8, 63, 64, 65, 127, 128, 129, 255, 256, 257, 300};
    const int64_t        hk = dice_range(&s->r, 1, 3), n = edge[dice_range(&s->r, 0, 11)], m = edge[dice_range(&s->r, 0, 11)];

    attend_as(s, true, n, m, hk * dice_range(&s->r, 1, 2), hk, 128, 0.0884f, false);
}

static void attention_many_tiles(struct scene *s)
{
    attend_as(s, true, dice_range(&s->r, 250, 300), dice_range(&s->r, 500, 530), 60 + dice_range(&s->r, 0, 9), 1, 128, 0.0884f, false);
}

static void attention_steep_tiles(struct scene *s)
{
    attend_as(s, true, 130, 1050, 1, 1, 128, 4.0f, false);
}

/* Scores of hundreds: only a running maximum survives. */
static void attention_steep(struct scene *s)
{
    attend(s, 40, 1050, 1, 1, 64, 6.0f, false);
}

/* add: 0 none, 1 another tensor, 2 y itself */
/* By chance x brings its rows above and below. */
static void convolve(struct scene *s, int64_t h, int64_t w, int64_t ci, int64_t co, int64_t k, int add, bool as_weight)
{
    enum dtype  type = gpu_act(s);
    int64_t     given = k == 3 ? dice_range(&s->r, 0, 1) : 0, x_h = h + 2 * given;
    struct box *x = box_new(s, gpu_act(s), false, 1.0f, 3, (int64_t[]){x_h, w, ci});
    struct box *y = add == 2 ? box_new(s, type, false, 1.0f, 3, (int64_t[]){h, w, co}) : box_out(s, type, false, 3, (int64_t[]){h, w, co});
    struct box *wt = box_new(s, gpu_type(s), false, 1.0f, 4, (int64_t[]){co, ci, k, k}), *bias = box_new(s, gpu_type(s), false, 1.0f, 1, &co);
    struct box *res = box_new(s, gpu_act(s), false, 1.0f, 3, (int64_t[]){h, w, co});
    double     *truth = truth_new(h * w * co);
    const float *added = add == 1 ? res->v : y->v;
    struct tensor weight = wt->t;
    void       *bytes = NULL;
    struct err  e = {0};

    for (int64_t i = 0; i < x_h * w * ci; i++) x->v[i] = (float)rounded(s, x->v[i]);
    for (int64_t i = 0; i < h * w * co; i++) {
        int64_t py = i / co / w, px = i / co % w, o = i % co;
        double  sum = (double)bias->v[o] + (add ? (double)added[i] : 0.0);

        for (int64_t ky = 0; ky < k; ky++) {
            for (int64_t kx = 0; kx < k; kx++) {
                int64_t sy = py + ky - k / 2 + given, sx = px + kx - k / 2;

                if (sy < 0 || sy >= x_h || sx < 0 || sx >= w) continue;
                for (int64_t c = 0; c < ci; c++) {
                    sum += (double)x->v[(sy * w + sx) * ci + c] * rounded(s, wt->v[((o * ci + c) * k + ky) * k + kx]);
                }
            }
        }
        truth[i] = sum;
    }
    if (as_weight) {
        struct tensor host = wt->t;

        bytes = malloc((size_t)box_count(wt) * 4);
        assert_non_null(bytes);
        from_f32(bytes, wt->t.type, wt->v, box_count(wt));
        host.data = bytes;
        if (dev_weight(s->d, &host, &weight, &e)) fail_msg("%s", e.text);
    }
    op_conv2d(s->d, &y->t, &x->t, &weight, &bias->t, add == 0 ? NULL : add == 1 ? &res->t : &y->t);
    box_check(s, "conv2d", y, truth);
    free(bytes);
}

/* Behind nearest-2x: w [4*co,ci,2,2] by chance; the picture written out is test_conv.c's. */
static void up2x(struct scene *s, int64_t h, int64_t w, int64_t ci, int64_t co, bool as_weight)
{
    struct box *x = box_new(s, gpu_act(s), false, 1.0f, 3, (int64_t[]){h, w, ci}), *y = box_out(s, gpu_act(s), false, 3, (int64_t[]){2 * h, 2 * w, co});
    struct box *wt = box_new(s, gpu_type(s), false, 1.0f, 4, (int64_t[]){4 * co, ci, 2, 2}), *bias = box_new(s, gpu_type(s), false, 1.0f, 1, &co);
    double     *truth = truth_new(4 * h * w * co);
    struct tensor weight = wt->t;
    void       *bytes = NULL;
    struct err  e = {0};

    for (int64_t i = 0; i < h * w * ci; i++) x->v[i] = (float)rounded(s, x->v[i]);
    for (int64_t i = 0; i < 4 * h * w * co; i++) {
        int64_t py = i / co / (2 * w), px = i / co % (2 * w), o = i % co, phase = py % 2 * 2 + px % 2;
        double  sum = (double)bias->v[o];

        for (int64_t q = 0; q < 4; q++) {
            int64_t sy = (py + 1) / 2 - 1 + q / 2, sx = (px + 1) / 2 - 1 + q % 2;

            if (sy < 0 || sy >= h || sx < 0 || sx >= w) continue;
            for (int64_t c = 0; c < ci; c++) sum += (double)x->v[(sy * w + sx) * ci + c] * rounded(s, wt->v[(((phase * co + o) * ci) + c) * 4 + q]);
        }
        truth[i] = sum;
    }
    if (as_weight) {
        struct tensor host = wt->t;

        bytes = malloc((size_t)box_count(wt) * 4);
        assert_non_null(bytes);
        from_f32(bytes, wt->t.type, wt->v, box_count(wt));
        host.data = bytes;
        if (dev_weight(s->d, &host, &weight, &e)) fail_msg("%s", e.text);
    }
    op_conv_up2x(s->d, &y->t, &x->t, &weight, &bias->t);
    box_check(s, "conv_up2x", y, truth);
    free(bytes);
}

static void up2x_ragged(struct scene *s)
{
    int64_t h = dice_range(&s->r, 1, 12), w = dice_range(&s->r, 1, 12), ci = dice_range(&s->r, 1, 20), co = dice_range(&s->r, 1, 20);

    up2x(s, h, w, ci, co, dice_range(&s->r, 0, 1));
}

static void up2x_even(struct scene *s)
{
    int64_t h = dice_range(&s->r, 15, 40), w = dice_range(&s->r, 17, 40);

    up2x(s, h, w, 16 * dice_range(&s->r, 1, 4), 16 * dice_range(&s->r, 1, 4), true);
}

/* Relative RMS between a line of each, from every seventh value. */
static double line_apart(struct scene *s, const struct tensor *a, const struct tensor *b)
{
    const size_t n = (size_t)tensor_count(a), bytes = n * dtype_bytes(a->type);
    char        *raw = malloc(bytes);
    float       *wide = malloc(2 * n * sizeof *wide);
    double       off = 0.0, all = 0.0;
    struct err   e = {0};

    assert_true(raw && wide);
    for (int k = 0; k < 2; k++) {
        if (dev_get(s->d, k ? b : a, raw, bytes, &e)) fail_msg("%s", e.text);
        to_f32(wide + (size_t)k * n, raw, a->type, (int64_t)n);
    }
    for (size_t i = 0; i < n; i += 7) {
        off += pow((double)wide[i] - (double)wide[n + i], 2.0);
        all += pow((double)wide[i], 2.0);
    }
    free(raw);
    free(wide);
    return sqrt(off / all);
}

/* More lines than four pictures of them fit the work space: every line against the same one alone, so a seam would show. */
static void up2x_wide(struct scene *s)
{
    const int64_t h = 35, w = 8191, ci = 8, co = 128;
    struct box   *x = box_new(s, gpu_act(s), false, 1.0f, 3, (int64_t[]){h, w, ci});
    struct box   *wt = box_new(s, gpu_type(s), false, 1.0f, 4, (int64_t[]){4 * co, ci, 2, 2}), *bias = box_new(s, gpu_type(s), false, 1.0f, 1, &co);
    struct tensor y = dev_new3(s->d, x->t.type, 2 * h, 2 * w, co), part = dev_new3(s->d, x->t.type, 6, 2 * w, co);
    const int     k = x->t.type != DTYPE_F32;

    op_conv_up2x(s->d, &y, &x->t, &wt->t, &bias->t);
    for (int64_t line = 1; line + 1 < h; line++) { /* two lines of y depend on three of x */
        struct tensor three = tensor_slice(&x->t, line - 1, 3), from = tensor_slice(&y, 2 * line, 2), to = tensor_slice(&part, 2, 2);
        double        rms;

        op_conv_up2x(s->d, &part, &three, &wt->t, &bias->t);
        rms = line_apart(s, &from, &to);
        if (!(rms <= s->bound[k])) {
            print_message("FAILED: conv_up2x, line %d alone: relative RMS %g > %g\n", (int)line, rms, s->bound[k]);
            gpu_failures++;
        }
        if (rms > s->worst[k]) s->worst[k] = rms;
    }
}

static void conv_ragged(struct scene *s)
{
    int64_t h = dice_range(&s->r, 1, 12), w = dice_range(&s->r, 1, 12), ci = dice_range(&s->r, 1, 20), co = dice_range(&s->r, 1, 20);

    convolve(s, h, w, ci, co, dice_range(&s->r, 0, 1) ? 3 : 1, (int)dice_range(&s->r, 0, 2), dice_range(&s->r, 0, 1));
}

static void conv_even(struct scene *s)
{
    int64_t h = dice_range(&s->r, 15, 40), w = dice_range(&s->r, 17, 40);

    convolve(s, h, w, 16 * dice_range(&s->r, 1, 2), 16 * dice_range(&s->r, 1, 2), dice_range(&s->r, 0, 2) ? 3 : 1, (int)dice_range(&s->r, 0, 2), true);
}

/* As the decoder's last: few channels out. */
static void conv_to_rgb(struct scene *s)
{
    convolve(s, 33, 50, 8 * dice_range(&s->r, 1, 9), dice_range(&s->r, 1, 9), 3, (int)dice_range(&s->r, 0, 2), dice_range(&s->r, 0, 1));
}

/* cublasLt may round a 16-bit result before it adds bias and residual: up to three roundings of 1.7e-3. */
#define BOUND_16 3.5e-3

static void test_linear(void **state)
{
    (void)state;
    gpu_run("linear ragged", linear_ragged, 2e-5, BOUND_16, 24);
    gpu_run("linear even", linear_even, 2e-5, BOUND_16, 8);
    gpu_run("linear deep", linear_deep, 5e-5, BOUND_16, 3);
    gpu_run("linear one row", linear_one_row, 2e-5, BOUND_16, 6);
    gpu_end();
}

static void test_attention(void **state)
{
    (void)state;
    for (int p = PRECISION_F32; p <= PRECISION_BF16; p++) {
        struct dev *d = gpu_dev((enum precision)p);
        double      b = p == PRECISION_F32 ? 5e-6 : 4e-3;

        gpu_run_on(d, "attention ragged", attention_ragged, b, 4e-3, 24);
        gpu_run_on(d, "attention widths", attention_widths, b, 4e-3, 8);
        gpu_run_on(d, "attention packed", attention_packed, b, 4e-3, 4);
        gpu_run_on(d, "attention long", attention_long, b, 4e-3, 3);
        gpu_run_on(d, "attention steep", attention_steep, p == PRECISION_F32 ? 1e-4 : 4e-3, 4e-3, 2);
        dev_close(d);
    }
    gpu_end();
}

/* On sm_90, of any length; elsewhere these are what the test above has. */
static void test_attention_tiles(void **state)
{
    struct dev *d = gpu_dev(PRECISION_BF16);

    (void)state;
    cuda_only(d, CUDA_ONLY_JOINED, true);
    gpu_run_on(d, "attention in tiles", attention_tiles, 0, 4e-3, 60);
    gpu_run_on(d, "attention in many tiles", attention_many_tiles, 0, 4e-3, 3);
    gpu_run_on(d, "attention packed, in tiles", attention_packed, 0, 4e-3, 8);
    gpu_run_on(d, "attention steep, in tiles", attention_steep_tiles, 0, 4e-3, 2);
    dev_close(d);
    gpu_end();
}

static void test_conv(void **state)
{
    (void)state;
    gpu_run("conv ragged", conv_ragged, 1e-5, BOUND_16, 24);
    gpu_run("conv even", conv_even, 1e-5, BOUND_16, 6);
    gpu_run("conv to rgb", conv_to_rgb, 1e-5, BOUND_16, 10);
    gpu_run("conv_up2x ragged", up2x_ragged, 1e-5, BOUND_16, 16);
    gpu_run("conv_up2x even", up2x_even, 1e-5, BOUND_16, 6);
    gpu_run("conv_up2x wide", up2x_wide, 1e-6, 2.6e-3, 2);
    gpu_end();
}

/* Without cublasLt. */
static void test_plain(void **state)
{
    (void)state;
    for (int p = PRECISION_F32; p <= PRECISION_BF16; p++) {
        struct dev *d = gpu_dev((enum precision)p);
        double      b = p == PRECISION_F32 ? 5e-6 : 4e-3;

        cuda_only(d, CUDA_ONLY_PLAIN, true);
        gpu_run_on(d, "plain linear", linear_ragged, 2e-5, BOUND_16, 12);
        gpu_run_on(d, "plain linear deep", linear_deep, 5e-5, BOUND_16, 2);
        gpu_run_on(d, "plain attention", attention_widths, b, 4e-3, 8);
        gpu_run_on(d, "plain conv", conv_ragged, 1e-5, BOUND_16, 12);
        dev_close(d);
    }
    gpu_end();
}

/* A measured algorithm gives the bytes of the library's first: for sums in one piece and for split ones, packed and with a bias. */
static void test_measured(void **state)
{
    static const struct { int64_t n, k, m; } shape[] = {{600, 1024, 2048}, {128, 9728, 2560}, {128, 2560, 6144}, {96, 4096, 2560}, {1152, 3840, 3840}};

    (void)state;
    gpu_or_skip();
    for (size_t i = 0; i < sizeof shape / sizeof *shape; i++) {
        const int64_t n = shape[i].n, k = shape[i].k, m = shape[i].m;
        float        *kept = malloc((size_t)(n * m) * sizeof *kept);

        assert_non_null(kept);
        for (int measured = 0; measured < 2; measured++) {
            struct dev  *d = gpu_dev(PRECISION_BF16);
            struct scene s = {.d = d, .r = {.state = 11}, .bf16 = true};
            struct box  *x = box_new(&s, DTYPE_BF16, false, 1.0f, 2, (int64_t[]){n, 2 * k}), *w = box_new(&s, DTYPE_BF16, false, 1.0f, 2, (int64_t[]){m, k});
            struct box  *bias = box_new(&s, DTYPE_BF16, false, 1.0f, 1, &m), *y = box_out(&s, DTYPE_BF16, false, 2, (int64_t[]){n, m});
            struct tensor half = tensor_cols_of(&x->t, k, k);

            cuda_only(d, CUDA_ONLY_FIRST, !measured);
            op_linear(d, &y->t, &half, &w->t, i % 2 ? &bias->t : NULL);
            gpu_sync(d);
            box_get(&s, y);
            if (measured) assert_memory_equal(kept, y->v, (size_t)(n * m) * sizeof *kept);
            else memcpy(kept, y->v, (size_t)(n * m) * sizeof *kept);
            for (int b = 0; b < s.n_boxes; b++) free(s.box[b].v);
            dev_close(d);
        }
        free(kept);
    }
}

/* A NaN spoils its row and no other; in a key, every row that sees it. */
static void test_nan(void **state)
{
    (void)state;
    for (int p = PRECISION_F32; p <= PRECISION_BF16; p++) {
        struct dev  *d = gpu_dev((enum precision)p);
        struct scene s = {.d = d, .r = {.state = 5}, .bf16 = p == PRECISION_BF16};
        struct box  *x = box_new(&s, d->act_type, false, 1.0f, 2, (int64_t[]){5, 33}), *y = box_out(&s, d->act_type, false, 2, (int64_t[]){5, 17});
        struct box  *w = box_new(&s, DTYPE_BF16, false, 1.0f, 2, (int64_t[]){17, 33});
        struct box  *q = box_new(&s, d->act_type, false, 1.0f, 3, (int64_t[]){90, 1, 8}), *k = box_new(&s, d->act_type, false, 1.0f, 3, (int64_t[]){90, 1, 8});
        struct box  *v = box_new(&s, d->act_type, false, 1.0f, 3, (int64_t[]){90, 1, 8}), *z = box_out(&s, d->act_type, false, 3, (int64_t[]){90, 1, 8});

        x->v[2 * 33 + 7] = NAN;
        box_put(&s, x);
        op_linear(d, &y->t, &x->t, &w->t, NULL);
        box_get(&s, y);
        for (int i = 0; i < 5 * 17; i++) assert_int_equal(isnan(y->v[i]) != 0, i / 17 == 2);
        q->v[3 * 8] = NAN;
        box_put(&s, q);
        op_attention(d, &z->t, &q->t, &k->t, &v->t, 1.0f, false);
        box_get(&s, z);
        for (int i = 0; i < 90; i++) assert_int_equal(isnan(z->v[i * 8 + 5]) != 0, i == 3);
        q->v[3 * 8] = 0.0f;
        k->v[6 * 8 + 1] = NAN;
        box_put(&s, q);
        box_put(&s, k);
        op_attention(d, &z->t, &q->t, &k->t, &v->t, 1.0f, true);
        box_get(&s, z);
        for (int i = 0; i < 90; i++) assert_int_equal(isnan(z->v[i * 8 + 5]) != 0, i >= 6);
        for (int i = 0; i < s.n_boxes; i++) free(s.box[i].v);
        dev_close(d);
    }
}

/* An argument chooses tests by name. */
int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_linear), cmocka_unit_test(test_attention), cmocka_unit_test(test_attention_tiles), cmocka_unit_test(test_conv),
                                       cmocka_unit_test(test_plain), cmocka_unit_test(test_measured), cmocka_unit_test(test_nan)};

    if (argc > 1) cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
