/* gpu.h - an op of the CUDA backend against its naive double-precision twin, on shapes by chance.
 *
 * A box is a tensor on the device, by chance a range of columns inside a wider buffer full of NaN, and the values it holds as F32 on the host.
 * A scene fills boxes from a seed, runs the op, and compares with the truth made of the boxes' own (rounded) values; gpu_run() plays each
 * scene twice: the bytes must be equal. What fails is told and counted, so that one run shows all of it; a test ends with gpu_end().
 * Without a device the test skips and says why. */
#ifndef TESTS_KERNELS_GPU_H
#define TESTS_KERNELS_GPU_H

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "kernels/cpu/half.h"
#include "kernels/cuda/cuda.h"
#include "kernels/dev.h"
#include "kernels/ops.h"
#include "tests/near.h"

#define BOXES_MAX 12

struct box {
    struct tensor t, wide;
    int64_t       left; /* columns of wide before t's first */
    float        *v;    /* [rows, cols] as stored */
};

struct scene {
    struct dev *d;
    struct dice r;
    bool        bf16;     /* the device's precision */
    double      worst[2]; /* relative RMS seen: of F32 results, of 16-bit ones */
    double      bound[2];
    uint64_t    hash;
    int         n_boxes;
    struct box  box[BOXES_MAX];
};

typedef void scene_fn(struct scene *s);

static int gpu_failures;

/* The last line of a test. */
static inline void gpu_end(void)
{
    int n = gpu_failures;

    gpu_failures = 0;
    assert_int_equal(n, 0);
}

static inline struct dev *gpu_dev(enum precision p)
{
    struct dev_opts o = {p, 0};
    struct dev     *d = NULL;
    struct err      e = {0};

    if (dev_open(&d, "cuda:0", &o, &e)) {
        assert_true(e.code == ERR_DEVICE && e.text[0]);
        print_message("skipped: %s\n", e.text);
        skip();
    }
    if (dev_scratch_reserve(d, (size_t)768 << 20, &e)) fail_msg("%s", e.text);
    return d;
}

/* For a test that makes its data first: skipping leaves by a jump, and nothing must be held then. */
static inline void gpu_or_skip(void)
{
    dev_close(gpu_dev(PRECISION_F32));
}

static inline void gpu_sync(struct dev *d)
{
    struct err e = {0};

    if (dev_sync(d, &e)) fail_msg("%s", e.text);
}

/* An activation's type by chance: the device's, now and then F32. */
static inline enum dtype gpu_act(struct scene *s)
{
    return s->bf16 && dice_range(&s->r, 0, 3) ? DTYPE_BF16 : DTYPE_F32;
}

static inline enum dtype gpu_type(struct scene *s)
{
    return (enum dtype)dice_range(&s->r, DTYPE_F32, DTYPE_F16);
}

static inline int64_t box_count(const struct box *b)
{
    return tensor_count(&b->t);
}

/* The box's rows to the device, NaN between them. */
static inline void box_put(struct scene *s, struct box *b)
{
    const int64_t n = b->wide.dim[0], w = b->wide.dim[1], cols = tensor_cols(&b->t);
    const size_t  size = dtype_bytes(b->t.type);
    float        *all = malloc((size_t)(n * w) * sizeof *all + 4);
    char         *bytes = malloc((size_t)(n * w) * size + 4);
    struct err    e = {0};

    assert_true(all && bytes);
    for (int64_t i = 0; i < n * w; i++) all[i] = NAN;
    for (int64_t i = 0; i < n; i++) memcpy(all + i * w + b->left, b->v + i * cols, (size_t)cols * sizeof *all);
    if (b->t.type == DTYPE_F32) memcpy(bytes, all, (size_t)(n * w) * size);
    else from_f32(bytes, b->t.type, all, n * w);
    if (dev_put(s->d, &b->wide, bytes, (size_t)(n * w) * size, &e)) fail_msg("%s", e.text);
    free(all);
    free(bytes);
}

/* A box of zeros (deviation 0), of NaN (deviation NaN) or of normal numbers; pitched by chance when `pitched`. */
static inline struct box *box_new(struct scene *s, enum dtype type, bool pitched, float deviation, int rank, const int64_t *dim)
{
    struct box *b = &s->box[s->n_boxes++];
    int64_t     cols = 1, pad = 0;
    int         how = pitched ? (int)dice_range(&s->r, 0, 2) : 0;

    assert_true(s->n_boxes <= BOXES_MAX);
    for (int i = 1; i < rank; i++) cols *= dim[i];
    if (how == 1) pad = dice_range(&s->r, 1, 9), b->left = dice_range(&s->r, 0, pad);
    else if (how == 2) pad = 16, b->left = 8; /* 16-byte aligned where cols is */
    else b->left = 0;
    b->wide = dev_new2(s->d, type, dim[0], cols + pad);
    assert_non_null(b->wide.data);
    b->t = tensor_cols_of(&b->wide, b->left, cols);
    b->t.rank = rank;
    for (int i = 1; i < rank; i++) b->t.dim[i] = dim[i];
    if (rank == 1) b->t.pitch = 1;
    b->v = malloc((size_t)(dim[0] * cols) * sizeof *b->v + 4);
    assert_non_null(b->v);
    if (isnan(deviation)) {
        for (int64_t i = 0; i < dim[0] * cols; i++) b->v[i] = NAN;
    } else {
        near_fill_normal(&s->r, b->v, (size_t)(dim[0] * cols), deviation);
    }
    if (type != DTYPE_F32) {
        void *narrow = malloc((size_t)(dim[0] * cols) * 2 + 4);

        assert_non_null(narrow);
        from_f32(narrow, type, b->v, dim[0] * cols);
        to_f32(b->v, narrow, type, dim[0] * cols);
        free(narrow);
    }
    box_put(s, b);
    return b;
}

static inline struct box *box_out(struct scene *s, enum dtype type, bool pitched, int rank, const int64_t *dim)
{
    return box_new(s, type, pitched, NAN, rank, dim);
}

/* What products see of a value in this precision. */
static inline double rounded(const struct scene *s, float v)
{
    if (s->bf16) round_bf16(&v, &v, 1);
    return (double)v;
}

static inline double *truth_new(int64_t n)
{
    double *t = calloc((size_t)n + 1, sizeof *t);

    assert_non_null(t);
    return t;
}

/* Reads the box back into v and hashes it; between the rows there must still be NaN. */
static inline void box_get(struct scene *s, struct box *b)
{
    const int64_t n = b->wide.dim[0], w = b->wide.dim[1], cols = tensor_cols(&b->t);
    const size_t  size = dtype_bytes(b->t.type);
    char         *bytes = malloc((size_t)(n * w) * size + 4);
    float        *all = malloc((size_t)(n * w) * sizeof *all + 4);
    struct err    e = {0};

    assert_true(all && bytes);
    if (dev_get(s->d, &b->wide, bytes, (size_t)(n * w) * size, &e)) fail_msg("%s", e.text);
    if (b->t.type == DTYPE_F32) memcpy(all, bytes, (size_t)(n * w) * size);
    else to_f32(all, bytes, b->t.type, n * w);
    for (int64_t i = 0; i < n; i++) {
        memcpy(b->v + i * cols, all + i * w + b->left, (size_t)cols * sizeof *all);
        for (int64_t j = 0; j < w; j++) {
            if (j < b->left || j >= b->left + cols) assert_true(isnan(all[i * w + j]));
        }
    }
    for (int64_t i = 0; i < n * cols; i++) {
        uint32_t bits;

        memcpy(&bits, &b->v[i], sizeof bits);
        s->hash = (s->hash ^ bits) * 0x100000001b3u;
    }
    free(bytes);
    free(all);
}

/* Reads the box back and compares; truth is freed. */
static inline void box_check(struct scene *s, const char *name, struct box *b, double *truth)
{
    const int k = b->t.type != DTYPE_F32;
    double    rms = 0.0;
    char      text[80];

    gpu_sync(s->d);
    box_get(s, b);
    if (!near_rms(name, b->v, truth, (size_t)box_count(b), s->bound[k], &rms)) {
        print_message("FAILED: %s %s, precision %d: relative RMS %g > %g\n", name, tensor_text(&b->t, text, sizeof text), s->d->precision, rms, s->bound[k]);
        gpu_failures++;
    }
    if (rms > s->worst[k]) s->worst[k] = rms;
    free(truth);
}

static inline void gpu_run_on(struct dev *d, const char *name, scene_fn *fn, double bound, double bound_16, int n_seeds)
{
    double worst[2] = {0};

    for (int seed = 0; seed < n_seeds; seed++) {
        uint64_t first = 0;

        for (int again = 0; again < 2; again++) {
            struct scene s = {.d = d, .r = {.state = (uint64_t)seed + 1}, .bf16 = d->precision == PRECISION_BF16, .bound = {bound, bound_16},
                              .hash = 0xcbf29ce484222325u};

            fn(&s);
            for (int i = 0; i < s.n_boxes; i++) free(s.box[i].v);
            dev_reset(d, 0);
            if (!again) first = s.hash;
            if (s.hash != first) {
                print_message("FAILED: %s, seed %d: another result the second time\n", name, seed);
                gpu_failures++;
            }
            for (int k = 0; k < 2; k++) worst[k] = s.worst[k] > worst[k] ? s.worst[k] : worst[k];
        }
    }
    print_message("%-22s %-4s f32 %.1e (%.0e)  16-bit %.1e (%.0e)  own products %lld\n", name, d->precision == PRECISION_BF16 ? "bf16" : "f32", worst[0],
                  bound, worst[1], bound_16, (long long)cuda_n_plain_products(d));
}

/* In both precisions. bound: of F32 results, bound_16: of 16-bit ones. */
static inline void gpu_run(const char *name, scene_fn *fn, double bound, double bound_16, int n_seeds)
{
    for (int p = PRECISION_F32; p <= PRECISION_BF16; p++) {
        struct dev *d = gpu_dev((enum precision)p);

        gpu_run_on(d, name, fn, bound, bound_16, n_seeds);
        dev_close(d);
    }
}

#endif
