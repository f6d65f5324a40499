/* test_cuda.c - the GPU's norms, rotations, elementwise ops, moves and sums against a naive double, its memory and its errors.
 * Products, attention and convolutions: test_cuda_products.c. */
#include "tests/kernels/gpu.h"

enum which { SILU, SWIGLU, SCALE, TANH, ADD, ADD_ROW, AXPY };

static double silu(double x)
{
    return x / (1.0 + exp(-x));
}

static void elementwise(struct scene *s, enum which op)
{
    bool        dense = op == AXPY || dice_range(&s->r, 0, 1), even = dice_range(&s->r, 0, 1);
    int64_t     n = dice_range(&s->r, 1, 60), c = even ? 8 * dice_range(&s->r, 1, 300) : dice_range(&s->r, 1, 600);
    float       a = (float)dice_normal(&s->r);
    struct box *x = box_new(s, op == AXPY ? DTYPE_F32 : gpu_act(s), !dense, 3.0f, 2, (int64_t[]){n, c});
    struct box *h = box_new(s, op == AXPY ? DTYPE_F32 : gpu_act(s), !dense, 1.0f, 2, (int64_t[]){n, c}), *vec = box_new(s, gpu_type(s), false, 1.0f, 1, &c);
    double     *truth = truth_new(n * c);

    for (int64_t i = 0; i < n * c; i++) {
        double xi = (double)x->v[i], hi = (double)h->v[i], v = (double)vec->v[i % c];

        switch (op) {
        case SILU: truth[i] = silu(xi); break;
        case SWIGLU: truth[i] = silu(xi) * hi; break;
        case SCALE: truth[i] = xi * (1.0 + v); break;
        case TANH: truth[i] = tanh(xi); break;
        case ADD: truth[i] = xi + hi; break;
        case ADD_ROW: truth[i] = xi + v; break;
        case AXPY: truth[i] = xi + (double)a * hi; break;
        }
    }
    switch (op) {
    case SILU: op_silu(s->d, &x->t); break;
    case SWIGLU: op_swiglu(s->d, &x->t, &h->t); break;
    case SCALE: op_scale_rows(s->d, &x->t, &vec->t); break;
    case TANH: op_tanh(s->d, &x->t); break;
    case ADD: op_add(s->d, &x->t, &h->t); break;
    case ADD_ROW: op_add(s->d, &x->t, &vec->t); break;
    case AXPY: op_axpy(s->d, &x->t, a, &h->t); break;
    }
    box_check(s, "elementwise", x, truth);
}

#define SCENE(name, op) \
    static void name(struct scene *s) { elementwise(s, op); }
SCENE(scene_silu, SILU)
SCENE(scene_swiglu, SWIGLU)
SCENE(scene_scale, SCALE)
SCENE(scene_tanh, TANH)
SCENE(scene_add, ADD)
SCENE(scene_add_row, ADD_ROW)
SCENE(scene_axpy, AXPY)

/* heads: rank 3. Lengths on both sides of what a warp takes. */
static void rms(struct scene *s)
{
    bool        heads = dice_range(&s->r, 0, 1), in_place = dice_range(&s->r, 0, 1), even = dice_range(&s->r, 0, 1);
    int64_t     n = dice_range(&s->r, 1, 70), h = heads ? dice_range(&s->r, 1, 5) : 1, c = dice_range(&s->r, 1, 400);
    if (even) c *= 8;
    int64_t     dim[3] = {n, heads ? h : c, c};
    struct box *x = box_new(s, gpu_act(s), true, 2.0f, heads ? 3 : 2, dim), *y = in_place ? x : box_out(s, gpu_act(s), true, heads ? 3 : 2, dim);
    struct box *w = box_new(s, gpu_type(s), false, 1.0f, 1, &c);
    double     *truth = truth_new(n * h * c);

    for (int64_t i = 0; i < n * h; i++) {
        double sum = 0.0;

        for (int64_t j = 0; j < c; j++) sum += (double)x->v[i * c + j] * (double)x->v[i * c + j];
        for (int64_t j = 0; j < c; j++) truth[i * c + j] = (double)x->v[i * c + j] / sqrt(sum / (double)c + (double)1e-5f) * (double)w->v[j];
    }
    op_rms_norm(s->d, &y->t, &x->t, &w->t, 1e-5f);
    box_check(s, "rms_norm", y, truth);
}

static void layer(struct scene *s)
{
    bool        in_place = dice_range(&s->r, 0, 1);
    int64_t     n = dice_range(&s->r, 1, 70), c = dice_range(&s->r, 2, 2000);
    struct box *x = box_new(s, gpu_act(s), true, 1.0f, 2, (int64_t[]){n, c}), *y = in_place ? x : box_out(s, gpu_act(s), true, 2, (int64_t[]){n, c});
    double     *truth = truth_new(n * c);

    for (int64_t i = 0; i < n * c; i++) x->v[i] = (float)rounded(s, x->v[i] + 3.0f);
    box_put(s, x);
    for (int64_t i = 0; i < n; i++) {
        double mean = 0.0, var = 0.0;

        for (int64_t j = 0; j < c; j++) mean += (double)x->v[i * c + j];
        mean /= (double)c;
        for (int64_t j = 0; j < c; j++) var += pow((double)x->v[i * c + j] - mean, 2.0);
        for (int64_t j = 0; j < c; j++) truth[i * c + j] = ((double)x->v[i * c + j] - mean) / sqrt(var / (double)c + (double)1e-6f);
    }
    op_layer_norm(s->d, &y->t, &x->t, 1e-6f);
    box_check(s, "layer_norm", y, truth);
}

static void group_of(struct scene *s, int64_t h, int64_t w, int64_t per_group, int groups, float shift)
{
    int64_t     c = per_group * groups, n = h * w * per_group;
    bool        in_place = dice_range(&s->r, 0, 1), act = dice_range(&s->r, 0, 1);
    struct box *x = box_new(s, gpu_act(s), false, 1.0f, 3, (int64_t[]){h, w, c}), *y = in_place ? x : box_out(s, gpu_act(s), false, 3, (int64_t[]){h, w, c});
    struct box *mul = box_new(s, gpu_type(s), false, 1.0f, 1, &c), *add = box_new(s, gpu_type(s), false, 1.0f, 1, &c);
    int64_t     first = dice_range(&s->r, -1, h - 1), rows = dice_range(&s->r, 1, h + 1 - first);
    struct box *part = box_out(s, gpu_act(s), false, 3, (int64_t[]){rows, w, c});
    struct tensor stats = dev_new2(s->d, DTYPE_F32, 3, c);
    double     *truth = truth_new(h * w * c), *truth_part = truth_new(rows * w * c);

    for (int64_t i = 0; i < h * w * c; i++) x->v[i] = (float)rounded(s, x->v[i] + shift);
    box_put(s, x);
    for (int g = 0; g < groups; g++) {
        double mean = 0.0, var = 0.0;

        for (int64_t i = 0; i < n; i++) mean += (double)x->v[i / per_group * c + g * per_group + i % per_group];
        mean /= (double)n;
        for (int64_t i = 0; i < n; i++) {
            double u = (double)x->v[i / per_group * c + g * per_group + i % per_group] - mean;

            var += u * u;
        }
        for (int64_t i = 0; i < n; i++) {
            int64_t ch = g * per_group + i % per_group, at = i / per_group * c + ch;
            double  v = ((double)x->v[at] - mean) / sqrt(var / (double)n + (double)1e-6f) * (double)mul->v[ch] + (double)add->v[ch];

            truth[at] = act ? silu(v) : v;
        }
    }
    op_group_stats(s->d, &stats, &x->t, &mul->t, &add->t, groups, 1e-6f);
    op_group_apply(s->d, &part->t, &x->t, &stats, first, act ? ACT_SILU : ACT_NONE); /* before x may be gone */
    op_group_apply(s->d, &y->t, &x->t, &stats, 0, act ? ACT_SILU : ACT_NONE);
    for (int64_t i = 0; i < rows * w * c; i++) {
        const int64_t from = first * w * c + i;

        truth_part[i] = from < 0 || from >= h * w * c ? 0.0 : truth[from];
    }
    box_check(s, "group_norm", y, truth);
    box_check(s, "group_apply", part, truth_part);
}

static void group(struct scene *s)
{
    group_of(s, dice_range(&s->r, 1, 40), dice_range(&s->r, 2, 40), dice_range(&s->r, 1, 6), (int)dice_range(&s->r, 1, 8), 0.5f);
}

static void group_even(struct scene *s)
{
    group_of(s, dice_range(&s->r, 10, 40), dice_range(&s->r, 10, 40), 16, 32, 0.5f);
}

static void group_shifted(struct scene *s)
{
    group_of(s, 31, 17, 4, 8, 50.0f);
}

static void group_large(struct scene *s)
{
    group_of(s, 800, 801, 3, 8, 0.1f); /* longer chunks */
}

static void rotate(struct scene *s, bool pairs)
{
    static const int64_t even[] = {16, 32, 64, 128, 256, 48}; /* widths with a kernel of their own, and one without */
    bool        odd = dice_range(&s->r, 0, 1);
    int64_t     n = dice_range(&s->r, 1, 90), hq = dice_range(&s->r, 0, 20), hk = dice_range(&s->r, 1, 7), h = hq + hk;
    int64_t     dh = odd ? 2 * dice_range(&s->r, 1, 70) : even[dice_range(&s->r, 0, 5)], half = dh / 2;
    struct box *x = box_new(s, gpu_act(s), true, 2.0f, 3, (int64_t[]){n, h, dh});
    struct box *wq = box_new(s, gpu_type(s), false, 1.0f, 1, &dh), *wk = box_new(s, gpu_type(s), false, 1.0f, 1, &dh);
    struct box *cs = box_new(s, DTYPE_F32, true, 1.0f, 2, (int64_t[]){n, half}), *sn = box_new(s, DTYPE_F32, true, 1.0f, 2, (int64_t[]){n, half});
    double     *truth = truth_new(n * h * dh);

    for (int64_t vec = 0; vec < n * h; vec++) {
        const float *v = x->v + vec * dh, *w = vec % h < hq ? wq->v : wk->v;
        double       sum = 0.0;

        for (int64_t i = 0; i < dh; i++) sum += (double)v[i] * (double)v[i];
        sum = 1.0 / sqrt(sum / (double)dh + (double)1e-5f);
        for (int64_t k = 0; k < half; k++) {
            int64_t one = pairs ? 2 * k : k, two = pairs ? 2 * k + 1 : k + half;
            double  a = (double)v[one] * sum * (double)w[one], b = (double)v[two] * sum * (double)w[two];
            double  c = (double)cs->v[vec / h * half + k], q = (double)sn->v[vec / h * half + k];

            truth[vec * dh + one] = a * c - b * q;
            truth[vec * dh + two] = a * q + b * c;
        }
    }
    op_norm_rope(s->d, &x->t, &(struct norm_rope){hq, &wq->t, &wk->t, 1e-5f, pairs ? ROPE_PAIRS : ROPE_HALVES, &cs->t, &sn->t});
    box_check(s, "norm_rope", x, truth);
}

static void in_pairs(struct scene *s)
{
    rotate(s, true);
}

static void in_halves(struct scene *s)
{
    rotate(s, false);
}

/* Widths on both sides of what stays in registers; every part of it by chance. */
static void sums(struct scene *s)
{
    bool        even = dice_range(&s->r, 0, 3), with_y = dice_range(&s->r, 0, 4), with_h = !with_y || dice_range(&s->r, 0, 3);
    bool        norm = dice_range(&s->r, 0, 1), gated = dice_range(&s->r, 0, 1), scaled = dice_range(&s->r, 0, 1), over = with_y && dice_range(&s->r, 0, 1);
    int64_t     n = dice_range(&s->r, 1, 40), c = even ? 8 * dice_range(&s->r, 1, dice_range(&s->r, 0, 2) ? 600 : 2200) : dice_range(&s->r, 1, 700);
    struct box *x = box_new(s, gpu_act(s), true, 2.0f, 2, (int64_t[]){n, c}), *y = box_new(s, gpu_act(s), true, 3.0f, 2, (int64_t[]){n, c});
    struct box *h = over ? y : box_out(s, gpu_act(s), true, 2, (int64_t[]){n, c});
    struct box *wy = box_new(s, gpu_type(s), false, 1.0f, 1, &c), *wh = box_new(s, gpu_type(s), false, 1.0f, 1, &c);
    struct box *gate = box_new(s, DTYPE_F32, false, 1.0f, 1, &c), *scale = box_new(s, DTYPE_F32, false, 1.0f, 1, &c);
    double     *sum = truth_new(n * c), *out = truth_new(n * c);

    for (int64_t i = 0; i < n; i++) {
        double squares = 0.0, all = 0.0;

        for (int64_t j = 0; j < c; j++) squares += (double)y->v[i * c + j] * (double)y->v[i * c + j];
        for (int64_t j = 0; j < c; j++) {
            double v = (double)y->v[i * c + j];

            if (norm) v *= (double)wy->v[j] / sqrt(squares / (double)c + (double)1e-5f);
            if (gated) v *= (double)gate->v[j];
            sum[i * c + j] = (double)x->v[i * c + j] + (with_y ? v : 0.0);
            all += sum[i * c + j] * sum[i * c + j];
        }
        for (int64_t j = 0; j < c; j++) {
            out[i * c + j] = sum[i * c + j] / sqrt(all / (double)c + (double)1e-5f) * (double)wh->v[j] * (scaled ? 1.0 + (double)scale->v[j] : 1.0);
        }
    }
    op_add_norm(s->d, &x->t, with_h ? &h->t : NULL, with_y ? &y->t : NULL,
                &(struct add_norm){norm ? &wy->t : NULL, gated ? &gate->t : NULL, &wh->t, scaled ? &scale->t : NULL, 1e-5f});
    box_check(s, "add_norm, the sum", x, sum);
    if (with_h) box_check(s, "add_norm, its norm", h, out);
    else free(out);
}

static void embed(struct scene *s)
{
    int64_t     n = dice_range(&s->r, 1, 40), vocab = dice_range(&s->r, 1, 50), c = dice_range(&s->r, 1, 300);
    struct box *table = box_new(s, gpu_type(s), false, 1.0f, 2, (int64_t[]){vocab, c}), *y = box_out(s, gpu_act(s), true, 2, (int64_t[]){n, c});
    double     *truth = truth_new(n * c);
    int32_t     ids[40];

    for (int64_t i = 0; i < n; i++) ids[i] = (int32_t)dice_range(&s->r, 0, vocab - 1);
    for (int64_t i = 0; i < n * c; i++) truth[i] = (double)table->v[ids[i / c] * c + i % c];
    op_embed_rows(s->d, &y->t, &table->t, ids);
    memset(ids, 255, sizeof ids); /* the caller's again */
    box_check(s, "embed_rows", y, truth);
}

static void fill(struct scene *s)
{
    int64_t     n = dice_range(&s->r, 1, 40), c = dice_range(&s->r, 1, 300);
    struct box *row = box_new(s, gpu_type(s), false, 1.0f, 1, &c), *y = box_out(s, gpu_act(s), true, 2, (int64_t[]){n, c});
    double     *truth = truth_new(n * c);

    for (int64_t i = 0; i < n * c; i++) truth[i] = (double)row->v[i % c];
    op_fill_rows(s->d, &y->t, &row->t);
    box_check(s, "fill_rows", y, truth);
}

/* Patches there, against the definition, and back, against the start; rows beyond the picture are not read. */
static void patches(struct scene *s)
{
    int         p = (int)dice_range(&s->r, 1, 3);
    int64_t     c = dice_range(&s->r, 1, 17), gh = dice_range(&s->r, 1, 20), gw = dice_range(&s->r, 1, 20), h = gh * p, w = gw * p;
    int64_t     extra = dice_range(&s->r, 0, 3), f = (int64_t)p * p * c;
    struct box *z = box_new(s, DTYPE_F32, false, 1.0f, 3, (int64_t[]){c, h, w}), *back = box_out(s, DTYPE_F32, false, 3, (int64_t[]){c, h, w});
    struct box *y = box_out(s, gpu_act(s), true, 2, (int64_t[]){gh * gw, f}), *all = box_new(s, gpu_act(s), true, 1.0f, 2, (int64_t[]){gh * gw + extra, f});
    double     *truth = truth_new(c * h * w), *again = truth_new(c * h * w);

    for (int64_t i = 0; i < c * h * w; i++) {
        int64_t token = i / f, a = i % f / c / p, b = i % f / c % p, ch = i % c, at = (ch * h + token / gw * p + a) * w + token % gw * p + b;

        truth[i] = (double)z->v[at];
        again[at] = (double)all->v[i];
    }
    op_patchify(s->d, &y->t, &z->t, p);
    box_check(s, "patchify", y, truth);
    op_unpatchify(s->d, &back->t, &all->t, p);
    box_check(s, "unpatchify", back, again);
}

static void nhwc(struct scene *s)
{
    int64_t     c = dice_range(&s->r, 1, 20), h = dice_range(&s->r, 1, 30), w = dice_range(&s->r, 1, 30);
    float       mul = (float)dice_normal(&s->r), add = (float)dice_normal(&s->r);
    struct box *z = box_new(s, DTYPE_F32, false, 1.0f, 3, (int64_t[]){c, h, w}), *y = box_out(s, gpu_act(s), false, 3, (int64_t[]){h, w, c});
    double     *truth = truth_new(c * h * w);

    for (int64_t i = 0; i < c * h * w; i++) truth[i] = (double)z->v[i % c * h * w + i / c] * (double)mul + (double)add;
    op_to_nhwc(s->d, &y->t, &z->t, mul, add);
    box_check(s, "to_nhwc", y, truth);
}

/* F32 -> a type -> another -> F32, each step against the rounding of half.c. */
static void copies(struct scene *s)
{
    int64_t     n = dice_range(&s->r, 1, 20), c = dice_range(&s->r, 1, 1200);
    enum dtype  one = gpu_type(s), two = gpu_type(s);
    struct box *x = box_new(s, DTYPE_F32, true, 1.0f, 2, (int64_t[]){n, c}), *y = box_out(s, DTYPE_F32, true, 2, (int64_t[]){n, c});
    struct box *a = box_out(s, one, true, 2, (int64_t[]){n, c}), *b = box_out(s, two, true, 2, (int64_t[]){n, c});
    double     *truth = truth_new(n * c);

    for (int64_t i = 0; i < n * c; i++) {
        float    f = x->v[i];
        uint32_t h; /* room for either width */

        from_f32(&h, one, &f, 1);
        to_f32(&f, &h, one, 1);
        from_f32(&h, two, &f, 1);
        to_f32(&f, &h, two, 1);
        truth[i] = (double)f;
    }
    op_copy(s->d, &a->t, &x->t);
    op_copy(s->d, &b->t, &a->t);
    op_copy(s->d, &y->t, &b->t);
    box_check(s, "copy", y, truth);
    box_get(s, a); /* nothing between the rows */
    box_get(s, b);
}

static void test_elementwise(void **state)
{
    static const struct { const char *name; scene_fn *fn; } scenes[] = {{"silu", scene_silu}, {"swiglu", scene_swiglu}, {"scale_rows", scene_scale},
                                                                        {"tanh", scene_tanh}, {"add", scene_add}, {"add row", scene_add_row}, {"axpy", scene_axpy}};
    struct dev *d = gpu_dev(PRECISION_AUTO);

    (void)state;
    print_message("%s\n", d->about);
    dev_close(d);
    for (size_t i = 0; i < sizeof scenes / sizeof *scenes; i++) gpu_run(scenes[i].name, scenes[i].fn, 3e-7, 2.6e-3, 20);
    gpu_end();
}

static void test_norms(void **state)
{
    (void)state;
    gpu_run("rms_norm", rms, 5e-7, 2.6e-3, 30);
    gpu_run("layer_norm", layer, 1e-6, 2.6e-3, 20);
    gpu_run("norm_rope pairs", in_pairs, 5e-7, 2.6e-3, 40);
    gpu_run("norm_rope halves", in_halves, 5e-7, 2.6e-3, 40);
    gpu_run("add_norm", sums, 5e-7, 2.6e-3, 60);
    gpu_run("group_norm", group, 1e-6, 2.6e-3, 20);
    gpu_run("group_norm even", group_even, 1e-6, 2.6e-3, 6);
    gpu_run("group_norm shifted", group_shifted, 1e-5, 2.6e-3, 2);
    gpu_run("group_norm large", group_large, 1e-6, 2.6e-3, 1);
    gpu_end();
}

static void test_moves(void **state)
{
    (void)state;
    gpu_run("embed_rows", embed, 0.0, 2.6e-3, 15);
    gpu_run("fill_rows", fill, 0.0, 2.6e-3, 15);
    gpu_run("patches", patches, 0.0, 2.6e-3, 15);
    gpu_run("to_nhwc", nhwc, 3e-7, 2.6e-3, 15);
    gpu_run("copy", copies, 0.0, 0.0, 15);
    gpu_end();
}

static void test_rgb(void **state)
{
    static const struct { float x; int y; } row[] = {{-1.0f, 0},  {1.0f, 255},   {0.0f, 128} /* 127.5 */, {-5.0f, 0}, {7.0f, 255},
                                                     {0.5f, 191}, {-0.5f, 64}, {NAN, 0}, {INFINITY, 255}, {-INFINITY, 0}, {0.999f, 255}, {-0.9999f, 0}};
    struct dev   *d = gpu_dev(PRECISION_BF16);
    struct tensor x = dev_new3(d, DTYPE_F32, 2, 2, 3), y = dev_new3(d, DTYPE_U8, 2, 2, 3), z = dev_new3(d, DTYPE_U8, 2, 2, 3);
    struct err    e = {0};
    float         in[12];
    uint8_t       out[12];

    (void)state;
    for (int i = 0; i < 12; i++) in[i] = row[i].x;
    assert_int_equal(dev_put(d, &x, in, sizeof in, &e), 0);
    op_to_rgb8(d, &y, &x);
    op_copy(d, &z, &y); /* bytes travel, too */
    assert_int_equal(dev_get(d, &z, out, sizeof out, &e), 0);
    for (int i = 0; i < 12; i++) assert_int_equal(out[i], row[i].y);
    dev_close(d);
}

static void test_time_embed(void **state)
{
    const float times[] = {0.0f, 0.25f, 12.5f, 1000.0f};
    struct dev *d = gpu_dev(PRECISION_F32);
    struct err  e = {0};

    (void)state;
    for (size_t k = 0; k < 4; k++) {
        for (int64_t half = 1; half < 130; half += 127) {
            struct tensor y = dev_new2(d, DTYPE_F32, 1, 2 * half);
            float         at[256];

            op_time_embed(d, &y, times[k]);
            assert_int_equal(dev_get(d, &y, at, (size_t)(2 * half) * sizeof *at, &e), 0);
            for (int64_t i = 0; i < half; i++) {
                double arg = (double)times[k] * exp(-log(1e4) * (double)i / (double)half), slack = 3e-7 + 3e-7 * (double)times[k];

                assert_true(fabs((double)at[i] - cos(arg)) < slack && fabs((double)at[half + i] - sin(arg)) < slack);
            }
        }
    }
    dev_close(d);
}

static void test_reductions(void **state)
{
    static const float wild[] = {NAN, INFINITY, -INFINITY};
    struct dev  *d = gpu_dev(PRECISION_BF16);
    struct scene s = {.d = d, .r = {.state = 5}};

    (void)state;
    for (int64_t n = 1; n < 2000000; n = n * 7 + 3) {
        struct box *x = box_new(&s, DTYPE_F32, false, 1.0f, 1, &n);
        double      truth = 0.0, sum = op_sum_squares(d, &x->t);

        for (int64_t i = 0; i < n; i++) truth += (double)x->v[i] * (double)x->v[i];
        assert_true(fabs(sum - truth) <= 1e-12 * truth);
        assert_true(sum == op_sum_squares(d, &x->t));
        assert_true(op_all_finite(d, &x->t));
        for (int k = 0; k < 3; k++) {
            int64_t at = dice_range(&s.r, 0, n - 1);
            float   before = x->v[at];

            x->v[at] = wild[k];
            box_put(&s, x);
            assert_false(op_all_finite(d, &x->t));
            x->v[at] = before;
            box_put(&s, x);
        }
        free(x->v);
        s.n_boxes = 0;
        dev_reset(d, 0);
    }
    dev_close(d);
}

/* More memory than there is: an answer, and the device still works. */
static void test_refused(void **state)
{
    struct dev   *d = gpu_dev(PRECISION_BF16), *none = NULL;
    struct err    e = {0};
    struct tensor t;

    (void)state;
    assert_int_equal(dev_alloc(d, DTYPE_F32, 1, (int64_t[]){(int64_t)1 << 44}, &t, &e), ERR_NOMEM);
    assert_int_equal(dev_sync(d, &e), 0);
    assert_int_equal(dev_alloc(d, DTYPE_F32, 1, (int64_t[]){16}, &t, &e), 0);
    dev_free(d, &t);
    dev_close(d);
    assert_int_equal(dev_open(&none, "cuda:99", NULL, &e), ERR_DEVICE);
    assert_non_null(strstr(e.text, "GPU"));
}

/* A weight keeps its values: of rank 1 as it is, wider ones in the products' type. */
static void test_weights(void **state)
{
    (void)state;
    for (int p = PRECISION_F32; p <= PRECISION_BF16; p++) {
        struct dev *d = gpu_dev((enum precision)p);

        for (int type = DTYPE_F32; type <= DTYPE_F16; type++) {
            for (int rank = 1; rank <= 2; rank++) {
                float         v[35], got[35];
                char          bytes[35 * 4 + 1], back[35 * 4];
                struct dice   r = {.state = 3};
                struct err    e = {0};
                struct tensor w, host = {.type = (enum dtype)type, .rank = rank, .dim = {rank == 1 ? 35 : 7, 5}, .pitch = rank == 1 ? 1 : 5, .data = bytes + 1};

                near_fill_normal(&r, v, 35, 1.0f);
                from_f32(bytes + 1, host.type, v, 35); /* at an odd address */
                to_f32(v, bytes + 1, host.type, 35);
                assert_int_equal(dev_weight(d, &host, &w, &e), 0);
                assert_int_equal(w.type, rank == 1 ? host.type : d->act_type);
                assert_int_equal(dev_get(d, &w, back, dtype_row_bytes(w.type, 35), &e), 0);
                to_f32(got, back, w.type, 35);
                if (w.type == DTYPE_BF16) round_bf16(v, v, 35);
                for (int i = 0; i < 35; i++) assert_true(got[i] == v[i]);
            }
        }
        dev_close(d);
    }
}

/* Three weights as one: their rows one below another. */
static void test_joined_weights(void **state)
{
    (void)state;
    for (int p = PRECISION_F32; p <= PRECISION_BF16; p++) {
        struct dev *d = gpu_dev((enum precision)p);

        for (int type = DTYPE_F32; type <= DTYPE_F16; type++) {
            static const int64_t rows[] = {7, 1, 4};
            float         v[60], got[60];
            char          bytes[60 * 4], back[60 * 4];
            struct dice   r = {.state = 4};
            struct err    e = {0};
            struct tensor w, host[3];

            near_fill_normal(&r, v, 60, 1.0f);
            from_f32(bytes, (enum dtype)type, v, 60);
            to_f32(v, bytes, (enum dtype)type, 60);
            for (int64_t i = 0, row = 0; i < 3; row += rows[i++]) {
                host[i] = (struct tensor){.type = (enum dtype)type, .rank = 2, .dim = {rows[i], 5}, .pitch = 5,
                                          .data = bytes + dtype_row_bytes((enum dtype)type, row * 5)};
            }
            assert_true(d->joins_weights);
            assert_int_equal(dev_weight_rows(d, host, 3, &w, &e), 0);
            assert_int_equal(w.dim[0], 12);
            assert_int_equal(w.type, d->act_type);
            assert_int_equal(dev_get(d, &w, back, dtype_row_bytes(w.type, 60), &e), 0);
            to_f32(got, back, w.type, 60);
            if (w.type == DTYPE_BF16) round_bf16(v, v, 60);
            for (int i = 0; i < 60; i++) assert_true(got[i] == v[i]);
        }
        dev_close(d);
    }
}

/* As on the CPU, which is held to torch's own numbers; grids that wrap, 64-bit seeds. Both round doubles: at most the last bit is open. */
static void test_noise(void **state)
{
    static const struct { uint64_t seed; uint32_t n_threads; int64_t n; } c[] = {{42, 270336, 16 * 128 * 128}, {12345678901234567u, 270336, 16 * 144 * 256}, {7, 256, 3001}, {5, 89088, 89088 + 300}};

    (void)state;
    for (size_t i = 0; i < sizeof c / sizeof *c; i++) {
        struct dev   *d = gpu_dev(PRECISION_BF16), *cpu = NULL;
        struct err    e = {0};
        float        *want = malloc((size_t)c[i].n * sizeof *want), *got = malloc((size_t)c[i].n * sizeof *got);
        struct tensor x = dev_new1(d, DTYPE_F32, c[i].n), y = {.type = DTYPE_F32, .rank = 1, .dim = {c[i].n}, .pitch = 1, .data = want};

        assert_true(want && got);
        assert_int_equal(dev_open(&cpu, "cpu", NULL, &e), 0);
        y.dev = cpu;
        op_noise(cpu, &y, c[i].seed, c[i].n_threads);
        for (int64_t k = 0; k < c[i].n; k++) got[k] = NAN;
        assert_int_equal(dev_put(d, &x, got, (size_t)c[i].n * sizeof *got, &e), 0);
        op_noise(d, &x, c[i].seed, c[i].n_threads);
        assert_int_equal(dev_get(d, &x, got, (size_t)c[i].n * sizeof *got, &e), 0);
        assert_true(near_abs_f32("noise", got, want, (size_t)c[i].n, 1e-6, NULL));
        free(want);
        free(got);
        dev_close(cpu);
        dev_close(d);
    }
}

struct chain {
    struct dev    *d;
    struct tensor *x, *h, *w, *y;
};

static void run_chain(void *ctx)
{
    struct chain *c = ctx;
    size_t        mark = dev_mark(c->d);
    struct tensor t = dev_new2(c->d, c->x->type, c->x->dim[0], c->w->dim[0]);

    op_linear(c->d, &t, c->x, c->w, NULL);
    op_silu(c->d, &t);
    op_add(c->d, c->h, &t);
    op_copy(c->d, c->y, c->h);
    dev_reset(c->d, mark);
}

/* Played from a record: the same bytes as by calls, each time on what lies there now; another key, another record; forgotten: made again. */
static void test_repeat(void **state)
{
    enum { N = 40, C = 64, RUNS = 9 };
    (void)state;
    for (int p = PRECISION_F32; p <= PRECISION_BF16; p++) {
        struct dev   *d = gpu_dev((enum precision)p);
        struct scene  s = {.d = d, .r = {.state = 8}, .bf16 = p == PRECISION_BF16};
        struct box   *x = box_new(&s, d->act_type, false, 1.0f, 2, (int64_t[]){N, C}), *w = box_new(&s, d->act_type, false, 1.0f, 2, (int64_t[]){C, C});
        struct box   *h = box_new(&s, d->act_type, false, 1.0f, 2, (int64_t[]){N, C}), *y = box_out(&s, d->act_type, false, 2, (int64_t[]){N, C});
        struct chain  c = {d, &x->t, &h->t, &w->t, &y->t};
        float         start[N * C], calls[RUNS][N * C];

        memcpy(start, h->v, sizeof start);
        for (int play = 0; play < 2; play++) {
            const int64_t before = cuda_n_plays(d);

            cuda_only(d, CUDA_ONLY_CALLS, !play);
            memcpy(h->v, start, sizeof start);
            box_put(&s, h);
            for (int i = 0; i < RUNS; i++) {
                void *key = i == 4 ? &s : (void *)x;

                if (i == 6) dev_forget(d);
                dev_repeat(d, &key, sizeof key, run_chain, &c);
                gpu_sync(d);
                box_get(&s, y);
                if (play) assert_memory_equal(y->v, calls[i], sizeof calls[i]);
                else memcpy(calls[i], y->v, sizeof calls[i]);
            }
            /* run 0 by calls, 1 2 3 5 played; 4 another key; 6 forgotten, by calls; 7 8 played */
            assert_int_equal(cuda_n_plays(d) - before, play ? 6 : 0);
        }
        for (int i = 0; i < s.n_boxes; i++) free(s.box[i].v);
        dev_close(d);
    }
}

/* An argument chooses tests by name. */
int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_elementwise), cmocka_unit_test(test_norms), cmocka_unit_test(test_moves), cmocka_unit_test(test_rgb),
                                       cmocka_unit_test(test_time_embed), cmocka_unit_test(test_reductions), cmocka_unit_test(test_refused),
                                       cmocka_unit_test(test_weights), cmocka_unit_test(test_joined_weights), cmocka_unit_test(test_repeat), cmocka_unit_test(test_noise)};

    if (argc > 1) cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
