/* linear.c - y = x w^T + bias, in tiles of fixed size.
 *
 * A tile is ROWS of x by `cols` rows of w (fewer in a small product, so that threads share it), summed over k in steps of DEPTH: each step
 * is one single-threaded oneDNN product that adds to the tile. The cut depends on the shape alone, so the result does not depend on the
 * number of threads. A thread takes a column of tiles (or some of it, when there are many threads): 16-bit and block weights are widened
 * once per step for all of them, in the thread's scratch, never as a whole.
 * PRECISION_BF16: x and w are rounded to bf16, sums in F32; with the CPU's own bf16 products (mm.h) where it has them.
 * Not here: threads (pool.c), shapes (ops.c). */
#include <dnnl.h>
#include <stdatomic.h>
#include <string.h>

#include "kernels/cpu/common.h"
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/half.h"
#include "kernels/cpu/linear.h"
#include "kernels/cpu/mm.h"

enum { ROWS = 512, COLS_MAX = 256, COLS_MIN = 128, DEPTH = 512, ROWS_STEP = 32, LARGE = 1 << 21 };
enum { LD = DEPTH + 16 }; /* of widened rows: a stride of 2^k bytes would crowd a few sets of the cache */
enum { SCRATCH_BYTES = (COLS_MAX + ROWS) * LD * 4 };
_Static_assert(DEPTH % 256 == 0, "whole blocks of every kind");
_Static_assert(ROWS * COLS_MAX * 4 + (ROWS + COLS_MAX) * DEPTH * 2 <= SCRATCH_BYTES, "tile_bf16() has room");

struct job {
    struct cpu  *c;
    const float *x;
    const char  *w;
    float       *y;
    const float *bias;
    int64_t      n, m, k, ldx, ldw, ldy;
    enum dtype   w_type;
    float        scale;   /* of all of w, or 0: an 8-bit weight's own */
    bool         bf16;
    int64_t      cols;               /* of a tile */
    int64_t      n_parts, part_rows; /* a column of tiles is cut into parts of this many rows, a multiple of ROWS */
    struct mm   *mm[2][2][2]; /* native bf16: [last rows][last depth][adds]; NULL where the case does not occur */
    _Atomic bool failed;
};

static int64_t least(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* Row i of w from element at on; both begin a block. */
static const char *weight_at(const struct job *j, int64_t i, int64_t at)
{
    return j->w + dtype_row_bytes(j->w_type, i * j->ldw + at);
}

CLONES static void scale_tile(float *restrict y, float scale, int64_t rows, int64_t cols, int64_t ldy)
{
    for (int64_t i = 0; i < rows; i++) {
        for (int64_t k = 0; k < cols; k++) y[i * ldy + k] *= scale;
    }
}

CLONES static void add_bias(float *restrict y, const float *restrict bias, int64_t rows, int64_t cols, int64_t ldy)
{
    for (int64_t i = 0; i < rows; i++) {
        for (int64_t j = 0; j < cols; j++) y[i * ldy + j] += bias[j];
    }
}

/* Tiles row..row+rows of a column in F32 arithmetic; operands rounded to bf16 first when asked. */
static void tiles_f32(struct job *j, int64_t row, int64_t rows, int64_t col, int64_t cols, float *scratch)
{
    float *wide = scratch, *narrow = scratch + COLS_MAX * LD;

    for (int64_t at = 0; at < j->k; at += DEPTH) {
        int64_t      depth = least(DEPTH, j->k - at), ldw = j->ldw;
        const float *w = (const float *)weight_at(j, col, at);

        if (j->w_type != DTYPE_F32 || j->bf16) {
            for (int64_t i = 0; i < cols; i++) {
                (j->bf16 ? to_f32_bf16 : to_f32)(wide + i * LD, weight_at(j, col + i, at), j->w_type, depth);
            }
            w = wide;
            ldw = LD;
        }
        for (int64_t top = row; top < row + rows; top += ROWS) {
            int64_t      n = least(ROWS, row + rows - top), ldx = j->ldx;
            const float *x = j->x + top * ldx + at;

            if (j->bf16) {
                for (int64_t i = 0; i < n; i++) round_bf16(narrow + i * LD, x + i * ldx, depth);
                x = narrow;
                ldx = LD;
            }
            if (dnnl_sgemm('N', 'T', n, cols, depth, 1.0f, x, ldx, w, ldw, at ? 1.0f : 0.0f, j->y + top * j->ldy + col, j->ldy)) j->failed = true;
        }
    }
}

/* Rows up to a multiple of ROWS_STEP and columns up to j->cols are zeros: few shapes to make, and a row's sum does not see how many there are. */
static int64_t padded(int64_t rows)
{
    return (rows + ROWS_STEP - 1) / ROWS_STEP * ROWS_STEP;
}

/* A tile of y with the CPU's own bf16 products, through a dense tile of its own. */
static void tile_bf16(struct job *j, int64_t row, int64_t rows, int64_t col, int64_t cols, float *scratch)
{
    float    *y = scratch;
    uint16_t *x = (uint16_t *)(y + ROWS * COLS_MAX), *w = x + ROWS * DEPTH;
    void     *lib = w + COLS_MAX * DEPTH;
    int64_t   n = padded(rows);

    for (int64_t at = 0; at < j->k; at += DEPTH) {
        int64_t depth = least(DEPTH, j->k - at);

        for (int64_t i = 0; i < rows; i++) to_bf16(x + i * depth, j->x + (row + i) * j->ldx + at, DTYPE_F32, depth);
        for (int64_t i = 0; i < cols; i++) to_bf16(w + i * depth, weight_at(j, col + i, at), j->w_type, depth);
        memset(x + rows * depth, 0, (size_t)((n - rows) * depth) * sizeof *x);
        memset(w + cols * depth, 0, (size_t)((j->cols - cols) * depth) * sizeof *w);
        if (mm_run(j->mm[n < ROWS][depth < DEPTH][at > 0], x, w, y, lib)) j->failed = true;
    }
    for (int64_t i = 0; i < rows; i++) memcpy(j->y + (row + i) * j->ldy + col, y + i * j->cols, (size_t)cols * sizeof *y);
}

/* One part of a column of tiles. */
static void column(void *ctx, int64_t chunk, int thread)
{
    struct job *j = ctx;
    int64_t     row = chunk % j->n_parts * j->part_rows, col = chunk / j->n_parts * j->cols;
    int64_t     rows = least(j->part_rows, j->n - row), cols = least(j->cols, j->m - col);
    float      *scratch = pool_scratch(j->c->pool, thread);

    if (j->bf16 && j->c->native_bf16) {
        for (int64_t top = row; top < row + rows; top += ROWS) tile_bf16(j, top, least(ROWS, row + rows - top), col, cols, scratch);
    } else {
        tiles_f32(j, row, rows, col, cols, scratch);
    }
    if (j->scale != 0.0f) scale_tile(j->y + row * j->ldy + col, j->scale, rows, cols, j->ldy);
    if (j->bias) add_bias(j->y + row * j->ldy + col, j->bias + col, rows, cols, j->ldy);
}

/* Parts of a column: one where there are columns enough to keep the threads busy. Who does a tile does not change it. */
static void cut(struct job *j)
{
    int64_t n_blocks = (j->n + ROWS - 1) / ROWS, n_cols = (j->m + j->cols - 1) / j->cols;
    int64_t wish = (4 * pool_threads(j->c->pool) + n_cols - 1) / n_cols, per_part = (n_blocks + wish - 1) / wish;

    j->part_rows = per_part * ROWS;
    j->n_parts = (n_blocks + per_part - 1) / per_part;
}

/* Makes the bf16 products this job will run; bytes: the most scratch one of them needs. */
static int plan_bf16(struct job *j, size_t *bytes)
{
    for (int i = 0; i < 8; i++) {
        int64_t    n = i & 4 ? padded(j->n % ROWS) : j->n < ROWS ? 0 : ROWS;
        int64_t    depth = i & 2 ? j->k % DEPTH : j->k < DEPTH ? 0 : DEPTH;
        int        adds = i & 1;
        struct mm *mm;

        if (n == 0 || depth == 0) continue;
        mm = mm_for(j->c, n, j->cols, depth, adds);
        if (!mm) return ERR_DEVICE;
        j->mm[n < ROWS][depth < DEPTH][adds] = mm;
        if (mm_scratch_bytes(mm) > *bytes) *bytes = mm_scratch_bytes(mm);
    }
    return 0;
}

void cpu_linear(struct dev *d, struct tensor *y, const struct tensor *x, const struct tensor *w, const struct tensor *bias)
{
    struct cpu *c = cpu_of(d);
    struct job  j = {.c = c, .x = x->data, .w = w->data, .y = y->data, .n = x->dim[0], .m = w->dim[0], .k = w->dim[1],
                     .ldx = x->dim[0] > 1 ? x->pitch : x->dim[1], .ldw = w->dim[0] > 1 ? w->pitch : w->dim[1],
                     .ldy = y->dim[0] > 1 ? y->pitch : y->dim[1], .w_type = w->type, .scale = w->scale,
                     .bf16 = d->precision == PRECISION_BF16};
    size_t      lib_bytes = 0;

    if (c->tile16 && j.n >= LINEAR16_ROWS_LEAST) {
        cpu_linear16(d, y, x, w, bias);
        return;
    }
    j.cols = j.n * j.m >= LARGE ? COLS_MAX : COLS_MIN;
    if (bias && !(j.bias = cpu_vec(d, bias, 0))) return;
    if (j.bf16 && c->native_bf16 && plan_bf16(&j, &lib_bytes)) {
        dev_fail(d, ERR_DEVICE, "cpu: oneDNN has no bf16 product for this shape: use --precision f32");
        return;
    }
    if (pool_reserve(c->pool, SCRATCH_BYTES + lib_bytes)) {
        dev_fail(d, ERR_NOMEM, "cpu: no memory for the tiles of a product");
        return;
    }
    cut(&j);
    pool_for(c->pool, j.n_parts * ((j.m + j.cols - 1) / j.cols), column, &j);
    if (j.failed) dev_fail(d, ERR_DEVICE, "cpu: a product of oneDNN failed");
}
