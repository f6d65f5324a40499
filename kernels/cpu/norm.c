/* norm.c - RMS, layer and group norm, and sums that are normed at once. Sums: F32 over 64 elements, double above, so the error does not grow with the width.
 * Not here: learned scales of adaLN (act.c). */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/cpu/common.h"
#include "kernels/cpu/cpu.h"

enum { PART = 64 };

struct rows {
    const float *x, *w;
    float       *y;
    int64_t      n, inner, c, ldx, ldy, per_chunk; /* n rows of `inner` vectors of c */
    float        eps;
};

CLONES void cpu_rms_row(float *y, const float *x, const float *w, int64_t c, float eps)
{
    double total = 0.0;
    float  r;

    for (int64_t at = 0; at < c; at += PART) {
        int64_t end = at + PART < c ? at + PART : c;
        float   part = 0.0f;

#pragma omp simd reduction(+ : part)
        for (int64_t i = at; i < end; i++) part += x[i] * x[i];
        total += part;
    }
    r = (float)(1.0 / sqrt(total / (double)c + (double)eps));
#pragma omp simd
    for (int64_t i = 0; i < c; i++) y[i] = x[i] * r * w[i];
}

CLONES static void layer_row(float *y, const float *x, int64_t c, float eps)
{
    double total = 0.0, squares = 0.0, mean;
    float  m, r;

    for (int64_t at = 0; at < c; at += PART) {
        int64_t end = at + PART < c ? at + PART : c;
        float   part = 0.0f;

#pragma omp simd reduction(+ : part)
        for (int64_t i = at; i < end; i++) part += x[i];
        total += part;
    }
    mean = total / (double)c;
    m = (float)mean;
    for (int64_t at = 0; at < c; at += PART) {
        int64_t end = at + PART < c ? at + PART : c;
        float   part = 0.0f;

#pragma omp simd reduction(+ : part)
        for (int64_t i = at; i < end; i++) part += (x[i] - m) * (x[i] - m);
        squares += part;
    }
    r = (float)(1.0 / sqrt(squares / (double)c + (double)eps));
#pragma omp simd
    for (int64_t i = 0; i < c; i++) y[i] = (x[i] - m) * r;
}

static void rms_chunk(void *ctx, int64_t chunk, int thread)
{
    const struct rows *j = ctx;
    int64_t            end = (chunk + 1) * j->per_chunk;

    (void)thread;
    for (int64_t i = chunk * j->per_chunk; i < end && i < j->n; i++) {
        for (int64_t h = 0; h < j->inner; h++) cpu_rms_row(j->y + i * j->ldy + h * j->c, j->x + i * j->ldx + h * j->c, j->w, j->c, j->eps);
    }
}

static void layer_chunk(void *ctx, int64_t chunk, int thread)
{
    const struct rows *j = ctx;
    int64_t            end = (chunk + 1) * j->per_chunk;

    (void)thread;
    for (int64_t i = chunk * j->per_chunk; i < end && i < j->n; i++) layer_row(j->y + i * j->ldy, j->x + i * j->ldx, j->c, j->eps);
}

void cpu_rms_norm(struct dev *d, struct tensor *y, const struct tensor *x, const struct tensor *w, float eps)
{
    struct rows j = {.x = x->data, .y = y->data, .n = x->dim[0], .inner = x->rank == 3 ? x->dim[1] : 1, .c = x->dim[x->rank - 1],
                     .ldx = x->pitch, .ldy = y->pitch, .eps = eps};

    if (!(j.w = cpu_vec(d, w, 0))) return;
    j.per_chunk = cpu_rows_per_chunk(j.n, j.inner * j.c);
    pool_for(cpu_of(d)->pool, (j.n + j.per_chunk - 1) / j.per_chunk, rms_chunk, &j);
}

void cpu_layer_norm(struct dev *d, struct tensor *y, const struct tensor *x, float eps)
{
    struct rows j = {.x = x->data, .y = y->data, .n = x->dim[0], .inner = 1, .c = x->dim[1], .ldx = x->pitch, .ldy = y->pitch, .eps = eps};

    j.per_chunk = cpu_rows_per_chunk(j.n, j.c);
    pool_for(cpu_of(d)->pool, (j.n + j.per_chunk - 1) / j.per_chunk, layer_chunk, &j);
}

/* A sum and the norm of what follows it, row by row: no row is read twice from memory. */
struct sums {
    float       *x, *h;       /* h NULL: only the sum */
    const float *y;           /* NULL: nothing is added */
    const float *wy, *gate, *wh, *scale;
    int64_t      n, c, ldx, ldh, ldy, per_chunk;
    float        eps;
    struct pool *pool;
};

CLONES static void gated_row(float *x, const float *gate, const float *y, int64_t c)
{
#pragma omp simd
    for (int64_t i = 0; i < c; i++) x[i] += gate[i] * y[i];
}

CLONES static void plain_row(float *x, const float *y, int64_t c)
{
#pragma omp simd
    for (int64_t i = 0; i < c; i++) x[i] += y[i];
}

CLONES static void scaled_row(float *x, const float *scale, int64_t c)
{
#pragma omp simd
    for (int64_t i = 0; i < c; i++) x[i] *= 1.0f + scale[i];
}

static void sums_chunk(void *ctx, int64_t chunk, int thread)
{
    const struct sums *j = ctx;
    int64_t            end = (chunk + 1) * j->per_chunk;
    float             *room = pool_scratch(j->pool, thread);

    for (int64_t i = chunk * j->per_chunk; i < end && i < j->n; i++) {
        float       *x = j->x + i * j->ldx, *h = j->h ? j->h + i * j->ldh : NULL;
        const float *y = j->y ? j->y + i * j->ldy : NULL;

        if (y && j->wy) {
            cpu_rms_row(room, y, j->wy, j->c, j->eps);
            y = room;
        }
        if (y && j->gate) gated_row(x, j->gate, y, j->c);
        else if (y) plain_row(x, y, j->c);
        if (h) cpu_rms_row(h, x, j->wh, j->c, j->eps);
        if (h && j->scale) scaled_row(h, j->scale, j->c);
    }
}

void cpu_add_norm(struct dev *d, struct tensor *x, struct tensor *h, const struct tensor *y, const struct add_norm *how)
{
    struct pool *pool = cpu_of(d)->pool;
    struct sums  j = {.x = x->data, .h = h ? h->data : NULL, .y = y ? y->data : NULL, .gate = how->gate ? how->gate->data : NULL,
                      .scale = how->scale ? how->scale->data : NULL, .n = x->dim[0], .c = x->dim[1], .ldx = x->pitch, .ldh = h ? h->pitch : 0,
                      .ldy = y ? y->pitch : 0, .eps = how->eps, .pool = pool};

    if (how->wy && !(j.wy = cpu_vec(d, how->wy, 0))) return;
    if (h && !(j.wh = cpu_vec(d, how->wh, 1))) return;
    if (pool_reserve(pool, (size_t)j.c * sizeof(float))) {
        dev_fail(d, ERR_NOMEM, "cpu: no memory for a row of a norm");
        return;
    }
    j.per_chunk = cpu_rows_per_chunk(j.n, j.c);
    pool_for(pool, (j.n + j.per_chunk - 1) / j.per_chunk, sums_chunk, &j);
}

/* Group norm: 1 sums of x and x^2 per channel and chunk of pixels, in double; 2 folded in order of chunks; 3 applied. */
struct group {
    const float *x;
    float       *y;
    int64_t      pixels, c, per_chunk;
    double      *sums;  /* [chunks][2][c] */
    float       *stats; /* [3][c]: mean, multiplier, bias */
    bool         silu;
};

/* Sums of `width` <= LANES channels from `at`: F32 over PART pixels, double above. Around a pivot, the chunk's first pixel, so that a mean far
 * from zero costs no digits; the pivot is taken out of the double sums at the end. */
enum { LANES = 16 };

INLINE void sum_lanes(const float *x, int64_t pixels, int64_t c, int width, double *s, double *q)
{
    double total[LANES] = {0}, squares[LANES] = {0};
    float  pivot[LANES] = {0};

    for (int i = 0; i < width; i++) pivot[i] = x[i];
    for (int64_t at = 0; at < pixels; at += PART) {
        int64_t end = at + PART < pixels ? at + PART : pixels;
        float   a[LANES] = {0}, b[LANES] = {0};

        for (int64_t p = at; p < end; p++) {
            for (int i = 0; i < width; i++) {
                float v = x[p * c + i] - pivot[i];

                a[i] += v;
                b[i] += v * v;
            }
        }
        for (int i = 0; i < width; i++) {
            total[i] += (double)a[i];
            squares[i] += (double)b[i];
        }
    }
    for (int i = 0; i < width; i++) {
        double pv = (double)pivot[i], n = (double)pixels;

        s[i] = total[i] + n * pv;
        q[i] = squares[i] + 2.0 * pv * total[i] + n * pv * pv;
    }
}

CLONES static void sum_pixels(const float *restrict x, int64_t pixels, int64_t c, double *restrict s, double *restrict q)
{
    int64_t at = 0;

    for (; at + LANES <= c; at += LANES) sum_lanes(x + at, pixels, c, LANES, s + at, q + at);
    if (at < c) sum_lanes(x + at, pixels, c, (int)(c - at), s + at, q + at);
}

CLONES static void apply_pixels(float *y, const float *x, int64_t pixels, int64_t c, const float *restrict mean, const float *restrict mul,
                                const float *restrict bias, bool silu)
{
    for (int64_t p = 0; p < pixels; p++) {
        const float *from = x + p * c;
        float       *to = y + p * c;

        if (silu) {
#pragma omp simd
            for (int64_t i = 0; i < c; i++) to[i] = fast_silu((from[i] - mean[i]) * mul[i] + bias[i]);
        } else {
#pragma omp simd
            for (int64_t i = 0; i < c; i++) to[i] = (from[i] - mean[i]) * mul[i] + bias[i];
        }
    }
}

static int64_t pixels_of(const struct group *j, int64_t chunk)
{
    int64_t left = j->pixels - chunk * j->per_chunk;

    return left < j->per_chunk ? left : j->per_chunk;
}

static void sum_chunk(void *ctx, int64_t chunk, int thread)
{
    const struct group *j = ctx;
    double             *s = j->sums + chunk * 2 * j->c;

    (void)thread;
    sum_pixels(j->x + chunk * j->per_chunk * j->c, pixels_of(j, chunk), j->c, s, s + j->c);
}

static void apply_chunk(void *ctx, int64_t chunk, int thread)
{
    const struct group *j = ctx;
    int64_t             at = chunk * j->per_chunk * j->c;

    (void)thread;
    apply_pixels(j->y + at, j->x + at, pixels_of(j, chunk), j->c, j->stats, j->stats + j->c, j->stats + 2 * j->c, j->silu);
}

/* The stats from the chunks' sums. */
static void fold(struct group *j, int64_t n_chunks, int n_groups, float eps, const float *w, const float *b)
{
    int64_t per_group = j->c / n_groups;
    double  count = (double)(j->pixels * per_group);

    for (int g = 0; g < n_groups; g++) {
        double s = 0.0, q = 0.0, mean, var, r;

        for (int64_t chunk = 0; chunk < n_chunks; chunk++) {
            const double *part = j->sums + chunk * 2 * j->c + g * per_group;

            for (int64_t i = 0; i < per_group; i++) {
                s += part[i];
                q += part[j->c + i];
            }
        }
        mean = s / count;
        var = q / count - mean * mean;
        r = 1.0 / sqrt((var < 0.0 ? 0.0 : var) + (double)eps); /* NaN stays NaN */
        for (int64_t i = g * per_group; i < (g + 1) * per_group; i++) {
            j->stats[i] = (float)mean;
            j->stats[j->c + i] = (float)(r * (double)w[i]);
            j->stats[2 * j->c + i] = b[i];
        }
    }
}

void cpu_group_stats(struct dev *d, struct tensor *stats, const struct tensor *x, const struct tensor *w, const struct tensor *b, int n_groups,
                     float eps)
{
    struct group j = {.x = x->data, .pixels = x->dim[0] * x->dim[1], .c = x->dim[2], .stats = stats->data};
    const float *w32 = cpu_vec(d, w, 0), *b32 = cpu_vec(d, b, 1);
    int64_t      n_chunks;

    if (!w32 || !b32) return;
    j.per_chunk = cpu_rows_per_chunk(j.pixels, j.c);
    if (j.per_chunk < j.pixels / 256) j.per_chunk = (j.pixels + 255) / 256; /* at most 256 chunks: their sums stay small */
    n_chunks = (j.pixels + j.per_chunk - 1) / j.per_chunk;
    j.sums = malloc((size_t)(n_chunks * 2 * j.c) * sizeof(double));
    if (!j.sums) {
        dev_fail(d, ERR_NOMEM, "cpu: no memory for the sums of a group norm");
        return;
    }
    pool_for(cpu_of(d)->pool, n_chunks, sum_chunk, &j);
    fold(&j, n_chunks, n_groups, eps, w32, b32);
    free(j.sums);
}

void cpu_group_apply(struct dev *d, struct tensor *y, const struct tensor *x, const struct tensor *stats, int64_t first, enum act act)
{
    const int64_t line = x->dim[1] * x->dim[2], above = first < 0, below = first + y->dim[0] > x->dim[0], n = y->dim[0] - above - below;
    struct group  j = {.x = (const float *)x->data + (first + above) * line, .y = (float *)y->data + above * line, .pixels = n * x->dim[1],
                       .c = x->dim[2], .stats = stats->data, .silu = act == ACT_SILU};

    if (above) memset(y->data, 0, (size_t)line * sizeof(float));
    if (below) memset((float *)y->data + (above + n) * line, 0, (size_t)line * sizeof(float));
    j.per_chunk = cpu_rows_per_chunk(j.pixels, j.c);
    pool_for(cpu_of(d)->pool, (j.pixels + j.per_chunk - 1) / j.per_chunk, apply_chunk, &j);
}
