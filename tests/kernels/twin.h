/* twin.h - an op against its naive double-precision twin, on shapes by chance.
 *
 * A test is a scene: it makes inputs from a seed, runs the op on outputs full of NaN, compares with the twin when asked, and returns a hash
 * of the output bytes. twin_run() plays each scene with 1, 2, 3 and 7 threads: the hashes must be equal. */
#ifndef TESTS_KERNELS_TWIN_H
#define TESTS_KERNELS_TWIN_H

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
#include "kernels/dev.h"
#include "kernels/ops.h"
#include "kernels/quant.h"
#include "tests/near.h"

struct scene {
    struct dev *d;
    struct dice r;
    bool        check;    /* compare with the twin */
    double      bound;    /* relative RMS allowed */
    uint64_t    hash;
};

typedef void scene_fn(struct scene *s);

static inline struct dev *twin_dev(enum precision p, int n_threads)
{
    struct dev_opts o = {p, n_threads};
    struct dev     *d = NULL;
    struct err      e = {0};

    if (dev_open(&d, "cpu", &o, &e) || dev_scratch_reserve(d, 96u << 20, &e)) fail_msg("%s", e.text);
    return d;
}

static inline void twin_fill_nan(struct tensor *t)
{
    for (int64_t i = 0; i < t->dim[0] * t->pitch; i++) ((float *)t->data)[i] = NAN;
}

/* F32 [n, cols...] in scratch; pitched by chance inside a wider buffer full of NaN when `pitched`. */
static inline struct tensor twin_new(struct scene *s, bool pitched, int rank, const int64_t *dim)
{
    int64_t       cols = 1, pad = pitched ? dice_range(&s->r, 0, 9) : 0, left = pad ? dice_range(&s->r, 0, pad) : 0;
    struct tensor t, wide;

    for (int i = 1; i < rank; i++) cols *= dim[i];
    wide = dev_new2(s->d, DTYPE_F32, dim[0], cols + pad);
    assert_non_null(wide.data);
    twin_fill_nan(&wide);
    t = tensor_cols_of(&wide, left, cols);
    t.rank = rank;
    for (int i = 1; i < rank; i++) t.dim[i] = dim[i];
    return t;
}

static inline float *twin_row(const struct tensor *t, int64_t i)
{
    return (float *)t->data + i * t->pitch;
}

static inline struct tensor twin_random(struct scene *s, bool pitched, float deviation, int rank, const int64_t *dim)
{
    struct tensor t = twin_new(s, pitched, rank, dim);

    for (int64_t i = 0; i < t.dim[0]; i++) near_fill_normal(&s->r, twin_row(&t, i), (size_t)tensor_cols(&t), deviation);
    return t;
}

/* A dense weight of any float type. */
static inline struct tensor twin_weight(struct scene *s, enum dtype type, float deviation, int rank, const int64_t *dim)
{
    struct tensor t = dev_new(s->d, type, rank, dim);
    size_t        n = (size_t)tensor_count(&t);
    float        *x = malloc((n + 1) * sizeof *x);

    assert_non_null(t.data);
    assert_non_null(x);
    near_fill_normal(&s->r, x, n, deviation);
    if (quant_is(type)) quant_from_f32(t.data, type, x, (int64_t)n);
    else from_f32(t.data, type, x, (int64_t)n);
    free(x);
    return t;
}

static inline enum dtype twin_type(struct scene *s)
{
    return (enum dtype)dice_range(&s->r, DTYPE_F32, DTYPE_F16);
}

/* Element i of a dense tensor, or of row-major order of a pitched F32 one. */
static inline double twin_at(const struct tensor *t, int64_t i)
{
    int64_t cols = tensor_cols(t), at = t->rank == 1 ? i : i / cols * t->pitch + i % cols;
    float   v;

    int64_t block = dtype_block(t->type);
    float   wide[256];

    if (block > 1) {
        to_f32(wide, (const char *)t->data + dtype_row_bytes(t->type, at / block * block), t->type, block);
        v = wide[at % block];
    } else {
        to_f32(&v, (const char *)t->data + (size_t)at * dtype_bytes(t->type), t->type, 1);
    }
    return (double)v * (t->scale != 0.0f ? (double)t->scale : 1.0);
}

static inline double *twin_truth(int64_t n)
{
    double *t = calloc((size_t)n + 1, sizeof *t);

    assert_non_null(t);
    return t;
}

/* Hashes y (rows only, not what lies between them) and compares with truth, which is freed; NULL: hash only. */
static inline void twin_check(struct scene *s, const char *name, const struct tensor *y, double *truth)
{
    int64_t n = tensor_count(y), cols = tensor_cols(y);
    float  *x = malloc((size_t)n * sizeof *x + 1);
    double  rms = 0.0;
    bool    near;

    assert_int_equal(s->d->err.code, 0);
    assert_non_null(x);
    for (int64_t i = 0; i < y->dim[0]; i++) memcpy(x + i * cols, twin_row(y, i), (size_t)cols * sizeof *x);
    for (size_t i = 0; i < (size_t)n * sizeof *x; i++) s->hash = (s->hash ^ ((const unsigned char *)x)[i]) * 0x100000001b3u;
    if (truth) {
        near = near_rms(name, x, truth, (size_t)n, s->bound, &rms);
        if (!near) {
            char text[80];

            print_message("%s %s precision %d: %g > %g\n", name, tensor_text(y, text, sizeof text), s->d->precision, rms, s->bound);
        }
        assert_true(near);
    }
    free(x);
    free(truth);
}

/* Between the rows of a pitched output nothing was written. */
static inline void twin_check_gaps(const struct tensor *y)
{
    for (int64_t i = 0; i + 1 < y->dim[0]; i++) {
        for (int64_t j = tensor_cols(y); j < y->pitch; j++) assert_true(isnan(twin_row(y, i)[j]));
    }
}

static inline void twin_run(scene_fn *fn, enum precision p, double bound, int n_seeds)
{
    static const int n_threads[] = {1, 2, 3, 7};
    uint64_t         hash[64];

    assert_true(n_seeds <= 64);
    for (int k = 0; k < 4; k++) {
        struct dev *d = twin_dev(p, n_threads[k]);

        for (int seed = 0; seed < n_seeds; seed++) {
            struct scene s = {.d = d, .r = {.state = (uint64_t)seed + 1}, .check = k == 0, .bound = bound, .hash = 0xcbf29ce484222325u};

            fn(&s);
            dev_reset(d, 0);
            if (k == 0) hash[seed] = s.hash;
            if (s.hash != hash[seed]) print_message("seed %d: another result with %d threads\n", seed, n_threads[k]);
            assert_true(s.hash == hash[seed]);
        }
        dev_close(d);
    }
}

#endif
