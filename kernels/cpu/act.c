/* act.c - elementwise: one table of row functions, one loop over rows. Element results do not depend on how rows are cut. */
#include <math.h>
#include <stdlib.h>

#include "kernels/cpu/common.h"
#include "kernels/cpu/cpu.h"

typedef void row_fn(float *x, const float *h, const float *vec, float a, int64_t c);

struct job {
    row_fn      *fn;
    float       *x;
    const float *h, *vec;
    int64_t      n, c, ldx, ldh, per_chunk;
    float        a;
};

CLONES static void silu_row(float *x, const float *h, const float *vec, float a, int64_t c)
{
    (void)h, (void)vec, (void)a;
#pragma omp simd
    for (int64_t i = 0; i < c; i++) x[i] = fast_silu(x[i]);
}

CLONES static void swiglu_row(float *x, const float *h, const float *vec, float a, int64_t c)
{
    (void)vec, (void)a;
#pragma omp simd
    for (int64_t i = 0; i < c; i++) x[i] = fast_silu(x[i]) * h[i];
}

CLONES static void scale_row(float *x, const float *h, const float *vec, float a, int64_t c)
{
    (void)h, (void)a;
#pragma omp simd
    for (int64_t i = 0; i < c; i++) x[i] *= 1.0f + vec[i];
}

static void tanh_row(float *x, const float *h, const float *vec, float a, int64_t c)
{
    (void)h, (void)vec, (void)a;
    for (int64_t i = 0; i < c; i++) x[i] = tanhf(x[i]); /* of a few vectors, never of activations */
}

CLONES static void add_row(float *x, const float *h, const float *vec, float a, int64_t c)
{
    (void)vec, (void)a;
#pragma omp simd
    for (int64_t i = 0; i < c; i++) x[i] += h[i];
}

CLONES static void axpy_row(float *x, const float *h, const float *vec, float a, int64_t c)
{
    (void)vec;
#pragma omp simd
    for (int64_t i = 0; i < c; i++) x[i] += a * h[i];
}

static void chunk_rows(void *ctx, int64_t chunk, int thread)
{
    const struct job *j = ctx;
    int64_t           end = (chunk + 1) * j->per_chunk;

    (void)thread;
    for (int64_t i = chunk * j->per_chunk; i < end && i < j->n; i++) {
        j->fn(j->x + i * j->ldx, j->h ? j->h + i * j->ldh : NULL, j->vec, j->a, j->c);
    }
}

/* A dense x (and h) is one long row, cut at will; a pitched one goes row by row. */
static void run(struct dev *d, row_fn *fn, struct tensor *x, const struct tensor *h, const float *vec, float a)
{
    struct job j = {.fn = fn, .x = x->data, .h = h ? h->data : NULL, .vec = vec, .n = x->dim[0], .c = tensor_cols(x), .ldx = x->pitch,
                    .ldh = h ? h->pitch : 0, .a = a};

    j.per_chunk = cpu_rows_per_chunk(j.n, j.c);
    pool_for(cpu_of(d)->pool, (j.n + j.per_chunk - 1) / j.per_chunk, chunk_rows, &j);
}

/* A vector (rank 1) as rows of 4096, so that threads share it; the tail is a second call. */
static void run_flat(struct dev *d, row_fn *fn, struct tensor *x, const struct tensor *h, float a)
{
    const int64_t n = tensor_count(x), rows = n / 4096;
    struct tensor body = {.type = DTYPE_F32, .rank = 2, .dim = {rows, 4096}, .pitch = 4096, .data = x->data, .dev = d};
    struct tensor tail = {.type = DTYPE_F32, .rank = 2, .dim = {1, n - rows * 4096}, .pitch = n - rows * 4096, .dev = d};
    struct tensor body_h = body, tail_h = tail;

    tail.data = (float *)x->data + rows * 4096;
    if (h) {
        body_h.data = h->data;
        tail_h.data = (float *)h->data + rows * 4096;
    }
    if (rows) run(d, fn, &body, h ? &body_h : NULL, NULL, a);
    if (tail.dim[1]) run(d, fn, &tail, h ? &tail_h : NULL, NULL, a);
}

void cpu_silu(struct dev *d, struct tensor *x)
{
    if (tensor_dense(x)) run_flat(d, silu_row, x, NULL, 0.0f);
    else run(d, silu_row, x, NULL, NULL, 0.0f);
}

void cpu_tanh(struct dev *d, struct tensor *x)
{
    run(d, tanh_row, x, NULL, NULL, 0.0f);
}

void cpu_swiglu(struct dev *d, struct tensor *g, const struct tensor *up)
{
    run(d, swiglu_row, g, up, NULL, 0.0f);
}

bool cpu_linear_swiglu(struct dev *d, struct tensor *y, const struct tensor *x, const struct tensor *w13)
{
    (void)d, (void)y, (void)x, (void)w13;
    return false;
}

void cpu_scale_rows(struct dev *d, struct tensor *x, const struct tensor *scale)
{
    const float *vec = cpu_vec(d, scale, 0);

    if (vec) run(d, scale_row, x, NULL, vec, 0.0f);
}

void cpu_add(struct dev *d, struct tensor *x, const struct tensor *h)
{
    if (tensor_same_shape(x, h)) {
        if (tensor_dense(x) && tensor_dense(h)) run_flat(d, add_row, x, h, 0.0f);
        else run(d, add_row, x, h, NULL, 0.0f);
    } else { /* [c] to every row: a row of pitch 0 */
        struct tensor row = {.type = DTYPE_F32, .rank = 2, .dim = {x->dim[0], x->dim[1]}, .pitch = 0, .dev = d};

        row.data = (void *)cpu_vec(d, h, 0); /* only read */
        if (row.data) run(d, add_row, x, &row, NULL, 0.0f);
    }
}

void cpu_axpy(struct dev *d, struct tensor *x, float a, const struct tensor *h)
{
    run_flat(d, axpy_row, x, h, a);
}

/* The reference's own F32 steps: frequency, argument, then cos and sin. */
void cpu_time_embed(struct dev *d, struct tensor *y, float t)
{
    int64_t     half = y->dim[1] / 2;
    const float ln = (float)-log(1e4);
    float      *out = y->data;

    (void)d;
    for (int64_t k = 0; k < half; k++) {
        float freq = (float)exp((double)(ln * (float)k / (float)half)), at = t * freq;

        out[k] = (float)cos((double)at);
        out[half + k] = (float)sin((double)at);
    }
}
