/* winograd.c - see winograd.h. The picture is cut into tiles of 4 x 4 pixels of y, which need 6 x 6 of x.
 *
 *   V[p][t] = (B^T d B)[p] of tile t's 6 x 6 pixels d, every channel;       p = 0..35
 *   M[p]    = V[p] U[p]                                                      36 small products; U = G g G^T of the weights, once
 *   y       = A^T M A + bias (+ add)
 *
 * BLOCK tiles at a time: all threads fill V, then each takes 16 channels of y for PART tiles, from product to pixel. The cut depends on the
 * shape alone. Not here: shapes that gain nothing (conv.c takes them). */
#include "kernels/cpu/winograd.h"

#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#include "kernels/cpu/common.h"
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/half.h"

enum { SIDE = 6, OUT = 4, POINTS = SIDE * SIDE, ROWS = 6, COLS = 16, DEPTH = 256, PART = 60, BLOCK = 4 * PART, PAD = 16 };
_Static_assert(PART % ROWS == 0, "whole tiles of rows");

struct winograd_weight {
    const void             *at; /* as stored */
    enum dtype              type;
    float                  *u;  /* [co/16][36][ci][16] */
    struct winograd_weight *next;
};

struct job {
    struct cpu   *c;
    const float  *x, *bias, *add, *u;
    float        *y, *v;               /* v [36][BLOCK][ci + PAD] */
    const void   *w;
    enum dtype    w_type;
    int64_t       h, w_px, ci, co;
    int64_t       given;               /* rows of x above y's first, and below its last: 0 or 1 */
    int64_t       across, first, n;    /* tiles in a row of them; the block's first tile and how many */
};

void winograd_forget(struct cpu *c, const void *at, size_t bytes)
{
    struct winograd_weight *w, *next;

    LL_FOREACH_SAFE(c->winograd, w, next) {
        if (at && ((const char *)w->at < (const char *)at || (const char *)w->at >= (const char *)at + bytes)) continue;
        LL_DELETE(c->winograd, w);
        free(w->u);
        free(w);
    }
}

/* ---- weights ---- */

/* Output channel o: U[p][i] for every input channel, into its column of the panel. */
static void transform_weight(void *ctx, int64_t o, int thread)
{
    static const double g[SIDE][3] = {{1.0 / 4, 0, 0},           {-1.0 / 6, -1.0 / 6, -1.0 / 6}, {-1.0 / 6, 1.0 / 6, -1.0 / 6},
                                      {1.0 / 24, 1.0 / 12, 1.0 / 6}, {1.0 / 24, -1.0 / 12, 1.0 / 6}, {0, 0, 1}};
    struct job *j = ctx;
    float      *u = (float *)(uintptr_t)j->u + o / COLS * POINTS * j->ci * COLS + o % COLS;

    (void)thread;
    for (int64_t i = 0; i < j->ci; i++) {
        float  w[9];
        double half[SIDE][3];

        to_f32(w, (const char *)j->w + dtype_row_bytes(j->w_type, (o * j->ci + i) * 9), j->w_type, 9);
        for (int a = 0; a < SIDE; a++) {
            for (int b = 0; b < 3; b++) half[a][b] = g[a][0] * (double)w[b] + g[a][1] * (double)w[3 + b] + g[a][2] * (double)w[6 + b];
        }
        for (int p = 0; p < POINTS; p++) {
            const double *r = half[p / SIDE], *k = g[p % SIDE];

            u[(p * j->ci + i) * COLS] = (float)(r[0] * k[0] + r[1] * k[1] + r[2] * k[2]);
        }
    }
}

/* The kept weights, or new ones. */
static int find_weight(struct job *j)
{
    struct winograd_weight *w;

    LL_FOREACH(j->c->winograd, w) {
        if (w->at == j->w && w->type == j->w_type) break;
    }
    if (!w) {
        w = calloc(1, sizeof *w);
        if (!w) return ERR_NOMEM;
        w->at = j->w;
        w->type = j->w_type;
        w->u = aligned_alloc(64, (size_t)(POINTS * j->ci * j->co) * sizeof *w->u);
        if (!w->u) {
            free(w);
            return ERR_NOMEM;
        }
        j->u = w->u;
        pool_for(j->c->pool, j->co, transform_weight, j);
        LL_PREPEND(j->c->winograd, w);
    }
    j->u = w->u;
    return 0;
}

/* ---- the three steps, eight channels at a time ---- */

#if defined(__x86_64__)
#include <immintrin.h>

#define WIDE __attribute__((target("avx2,fma")))

typedef float lanes __attribute__((vector_size(32), aligned(4), may_alias));

enum { LANES = 8 };

/* B^T of one line: d and t are every `step` vectors. */
WIDE INLINE void points(lanes *t, const lanes *d, int step)
{
    lanes d0 = d[0], d1 = d[step], d2 = d[2 * step], d3 = d[3 * step], d4 = d[4 * step], d5 = d[5 * step];
    lanes a = d4 - 4.0f * d2, b = d3 - 4.0f * d1, c = d4 - d2, e = 2.0f * (d3 - d1);

    t[0] = 4.0f * d0 - 5.0f * d2 + d4;
    t[step] = a + b;
    t[2 * step] = a - b;
    t[3 * step] = c + e;
    t[4 * step] = c - e;
    t[5 * step] = 4.0f * d1 - 5.0f * d3 + d5;
}

/* A^T of one line of six: four. */
WIDE INLINE void values(lanes *s, const lanes *m, int step)
{
    lanes m0 = m[0], p = m[step] + m[2 * step], q = m[step] - m[2 * step];
    lanes r = m[3 * step] + m[4 * step], t = m[3 * step] - m[4 * step];

    s[0] = m0 + p + r;
    s[step] = q + 2.0f * t;
    s[2 * step] = p + 4.0f * r;
    s[3 * step] = q + 8.0f * t + m[5 * step];
}

/* Tile first + i into V. */
WIDE static void transform_tile(void *ctx, int64_t i, int thread)
{
    struct job *j = ctx;
    int64_t     tile = j->first + i, top = tile / j->across * OUT - 1, left = tile % j->across * OUT - 1, ld = j->ci + PAD;

    (void)thread;
    for (int64_t c = 0; c < j->ci; c += LANES) {
        lanes d[POINTS], t[POINTS];

        for (int p = 0; p < POINTS; p++) {
            int64_t y = top + p / SIDE, x = left + p % SIDE;

            d[p] = (lanes){0};
            if (y >= -j->given && y < j->h + j->given && x >= 0 && x < j->w_px) d[p] = *(const lanes *)(j->x + (y * j->w_px + x) * j->ci + c);
        }
        for (int k = 0; k < SIDE; k++) points(t + k, d + k, SIDE);
        for (int k = 0; k < SIDE; k++) points(d + k * SIDE, t + k * SIDE, 1);
        for (int p = 0; p < POINTS; p++) *(lanes *)(j->v + (p * BLOCK + i) * ld + c) = d[p];
    }
}

/* One row's sums. The empty asm keeps them beside their factor: gcc would gather six factors first and run out of registers. */
WIDE INLINE void add_row(__m256 *a, __m256 *b, const float *v, __m256 u0, __m256 u1)
{
    __m256 one = _mm256_broadcast_ss(v);

    *a = _mm256_fmadd_ps(one, u0, *a);
    *b = _mm256_fmadd_ps(one, u1, *b);
    __asm__ volatile("" : "+x"(*a), "+x"(*b));
}

WIDE INLINE void put_row(float *m, __m256 a, __m256 b, bool adds)
{
    _mm256_store_ps(m, adds ? _mm256_add_ps(_mm256_load_ps(m), a) : a);
    _mm256_store_ps(m + LANES, adds ? _mm256_add_ps(_mm256_load_ps(m + LANES), b) : b);
}

/* m [ROWS][COLS] = (adds: +=) v [ROWS][ld] u [k][COLS]. Sums have names, not an index: an array of them would live in memory. */
WIDE static void tile_f32(float *m, const float *v, int64_t ld, const float *u, int64_t k, bool adds)
{
    __m256 a0 = _mm256_setzero_ps(), a1 = a0, a2 = a0, a3 = a0, a4 = a0, a5 = a0, b0 = a0, b1 = a0, b2 = a0, b3 = a0, b4 = a0, b5 = a0;

    for (int64_t i = 0; i < k; i++, u += COLS, v++) {
        __m256 u0 = _mm256_load_ps(u), u1 = _mm256_load_ps(u + LANES);

        add_row(&a0, &b0, v, u0, u1);
        add_row(&a1, &b1, v + ld, u0, u1);
        add_row(&a2, &b2, v + 2 * ld, u0, u1);
        add_row(&a3, &b3, v + 3 * ld, u0, u1);
        add_row(&a4, &b4, v + 4 * ld, u0, u1);
        add_row(&a5, &b5, v + 5 * ld, u0, u1);
    }
    put_row(m, a0, b0, adds);
    put_row(m + COLS, a1, b1, adds);
    put_row(m + 2 * COLS, a2, b2, adds);
    put_row(m + 3 * COLS, a3, b3, adds);
    put_row(m + 4 * COLS, a4, b4, adds);
    put_row(m + 5 * COLS, a5, b5, adds);
}

/* Channels o.. of y's pixels of tile i of the block, from m [36] of rows `step` floats apart. */
WIDE static void put_tile(const struct job *j, int64_t i, int64_t o, const float *m, int64_t step)
{
    int64_t top = (j->first + i) / j->across * OUT, left = (j->first + i) % j->across * OUT;

    for (int64_t c = 0; c < COLS; c += LANES) {
        lanes s[POINTS], t[OUT * SIDE], bias = *(const lanes *)(j->bias + o + c);

        for (int p = 0; p < POINTS; p++) s[p] = *(const lanes *)(m + p * step + c);
        for (int k = 0; k < SIDE; k++) values(t + k, s + k, SIDE);
        for (int k = 0; k < OUT; k++) values(s + k * SIDE, t + k * SIDE, 1);
        for (int p = 0; p < OUT * OUT; p++) {
            int64_t y = top + p / OUT, x = left + p % OUT, at = (y * j->w_px + x) * j->co + o + c;
            lanes   v = s[p / OUT * SIDE + p % OUT] + bias;

            if (y >= j->h || x >= j->w_px) continue;
            if (j->add) v += *(const lanes *)(j->add + at);
            *(lanes *)(j->y + at) = v;
        }
    }
}

/* 16 channels of y for PART tiles of the block. */
WIDE static void part(void *ctx, int64_t chunk, int thread)
{
    struct job  *j = ctx;
    int64_t      n_parts = (j->n + PART - 1) / PART, first = chunk % n_parts * PART, o = chunk / n_parts * COLS, ld = j->ci + PAD;
    int64_t      n = j->n - first < PART ? j->n - first : PART;
    float       *m = pool_scratch(j->c->pool, thread);
    const float *u = j->u + o * POINTS * j->ci;

    for (int p = 0; p < POINTS; p++, u += j->ci * COLS) {
        for (int64_t at = 0; at < j->ci; at += DEPTH) {
            int64_t depth = j->ci - at < DEPTH ? j->ci - at : DEPTH;

            for (int64_t i = 0; i < n; i += ROWS) {
                tile_f32(m + (p * PART + i) * COLS, j->v + (p * BLOCK + first + i) * ld + at, ld, u + at * COLS, depth, at > 0);
            }
        }
    }
    for (int64_t i = 0; i < n; i++) put_tile(j, first + i, o, m + i * COLS, PART * COLS);
}

static bool has_code(void)
{
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}
#else
static pool_fn transform_tile, part;

static void transform_tile(void *ctx, int64_t i, int thread)
{
    (void)ctx, (void)i, (void)thread;
}

static void part(void *ctx, int64_t chunk, int thread)
{
    (void)ctx, (void)chunk, (void)thread;
}

static bool has_code(void)
{
    return false;
}
#endif

bool winograd_takes(const struct cpu *c, const struct tensor *y, const struct tensor *w)
{
    return c->fast && has_code() && w->dim[2] == 3 && w->dim[1] % 8 == 0 && w->dim[1] >= 64 && w->dim[0] % COLS == 0 && y->dim[0] >= OUT &&
           y->dim[1] >= OUT;
}

void cpu_winograd(struct dev *d, struct tensor *y, const struct tensor *x, const struct tensor *w, const struct tensor *bias,
                  const struct tensor *add)
{
    struct cpu *c = cpu_of(d);
    int64_t     given = x->dim[0] > y->dim[0];
    struct job  j = {.c = c, .x = (const float *)x->data + given * x->dim[1] * x->dim[2], .add = add ? add->data : NULL, .y = y->data,
                     .w = w->data, .w_type = w->type, .h = y->dim[0], .given = given, .w_px = x->dim[1], .ci = x->dim[2], .co = w->dim[0], .across = (x->dim[1] + OUT - 1) / OUT};
    int64_t     n_tiles = j.across * ((j.h + OUT - 1) / OUT);

    if (!(j.bias = cpu_vec(d, bias, 0))) return;
    if (find_weight(&j) || !(j.v = cpu_room(c, (size_t)(POINTS * BLOCK * (j.ci + PAD)) * sizeof *j.v)) ||
        pool_reserve(c->pool, (size_t)(POINTS * PART * COLS) * sizeof(float))) {
        dev_fail(d, ERR_NOMEM, "cpu: no memory for a convolution of %lld to %lld channels", (long long)j.ci, (long long)j.co);
        return;
    }
    for (j.first = 0; j.first < n_tiles; j.first += BLOCK) {
        j.n = n_tiles - j.first < BLOCK ? n_tiles - j.first : BLOCK;
        pool_for(c->pool, j.n, transform_tile, &j);
        pool_for(c->pool, j.co / COLS * ((j.n + PART - 1) / PART), part, &j);
    }
}
