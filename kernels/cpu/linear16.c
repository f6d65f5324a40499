/* linear16.c - y = x w^T + bias with 16-bit integers (int16.h), for CPUs that do not multiply bf16 themselves.
 *
 * x is rounded once, in groups of rows, for at most ROWS rows at a time; then each thread takes COLS columns: DEPTH of k at a time it makes
 * their panels of w (which stay in its cache) and adds all groups' products to its own dense tiles. A row's result depends on that row
 * and w alone. Not here: rounding and the inner loop (int16.c), few rows (linear.c). */
#include "kernels/cpu/common.h"
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/int16.h"
#include "kernels/cpu/linear.h"

enum { ROWS = 1020, COLS = 64, DEPTH = 512 };
_Static_assert(COLS % INT16_COLS_MOST == 0 && DEPTH % 256 == 0 && DEPTH % INT16_BLOCK == 0, "whole panels, whole blocks of every kind");

struct job {
    struct cpu         *c;
    const struct int16 *v;
    const struct tensor *x, *w;
    struct tensor      *y;
    const float        *bias;
    int64_t             row, n, m, k, deep; /* rows row..row+n of x; deep: k filled up */
    int64_t             n_groups;
    int16_t            *q;  /* [group][deep/2][rows][2] */
    float              *dq; /* [group][deep/32][rows] */
};

static int64_t least(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static int64_t pitch(const struct tensor *t)
{
    return t->dim[0] > 1 ? t->pitch : t->dim[1];
}

static void round_group(void *ctx, int64_t g, int thread)
{
    struct job *j = ctx;
    int         rows = j->v->rows, limit = int16_limit_x(j->w->type);

    (void)thread;
    for (int r = 0; r < rows; r++) {
        int64_t      i = g * rows + r;
        const float *from = i < j->n ? (const float *)j->x->data + (j->row + i) * pitch(j->x) : NULL;

        int16_put_x(j->v, j->q + g * rows * j->deep, j->dq + g * rows * (j->deep / INT16_BLOCK), r, from, j->k, j->deep, limit);
    }
}

/* A thread's scratch. */
struct room {
    float   *y;    /* [panel][group][rows][cols] */
    int16_t *w;    /* a panel */
    float   *dw;
    void    *wide; /* of int16_put_w() */
};

static struct room room_of(const struct job *j, char *at)
{
    struct room r;

    r.y = (float *)at;
    r.w = (int16_t *)(r.y + j->n_groups * j->v->rows * COLS);
    r.dw = (float *)(r.w + j->v->cols * DEPTH);
    r.wide = r.dw + j->v->cols * (DEPTH / INT16_BLOCK);
    return r;
}

static size_t room_bytes(const struct job *j)
{
    return (size_t)(j->n_groups * j->v->rows * COLS) * sizeof(float) + (size_t)(j->v->cols * DEPTH) * sizeof(int16_t) +
           (size_t)(j->v->cols * (DEPTH / INT16_BLOCK)) * sizeof(float) + int16_room_bytes(DEPTH);
}

CLONES static void put_row(float *restrict y, const float *restrict sum, float scale, const float *restrict bias, int64_t n)
{
    for (int64_t i = 0; i < n; i++) y[i] = sum[i] * scale;
    for (int64_t i = 0; bias && i < n; i++) y[i] += bias[i];
}

/* Columns chunk * COLS and on. */
static void columns(void *ctx, int64_t chunk, int thread)
{
    struct job         *j = ctx;
    const struct int16 *v = j->v;
    struct room         r = room_of(j, pool_scratch(j->c->pool, thread));
    int64_t             size = v->rows * v->cols, first = chunk * COLS, n = least(COLS, j->m - first);
    size_t              row_bytes = dtype_row_bytes(j->w->type, pitch(j->w));
    float               scale = j->w->scale != 0.0f ? j->w->scale : 1.0f;

    memset(r.y, 0, (size_t)(j->n_groups * v->rows * COLS) * sizeof *r.y);
    for (int64_t col = 0; col < n; col += v->cols) {
        float      *y = r.y + col * j->n_groups * v->rows;
        const char *w = (const char *)j->w->data + (size_t)(first + col) * row_bytes;

        for (int64_t at = 0; at < j->deep; at += DEPTH) {
            int64_t depth = least(DEPTH, j->deep - at);

            int16_put_w(v, r.w, r.dw, w + dtype_row_bytes(j->w->type, at), row_bytes, j->w->type, least(v->cols, n - col),
                        least(depth, j->k - at), depth, r.wide);
            for (int64_t g = 0; g < j->n_groups; g++) {
                v->tile(y + g * size, j->q + v->rows * (g * j->deep + at), j->dq + v->rows * (g * j->deep + at) / INT16_BLOCK, r.w, r.dw, depth);
            }
        }
        for (int64_t i = 0; i < j->n; i++) {
            float *to = (float *)j->y->data + (j->row + i) * pitch(j->y) + first + col;

            put_row(to, y + i * v->cols, scale, j->bias ? j->bias + first + col : NULL, least(v->cols, n - col));
        }
    }
}

/* Room for x rounded. */
static int reserve(struct job *j, int64_t rows)
{
    size_t n = (size_t)(rows * j->deep), bytes = n * sizeof(int16_t) + n / INT16_BLOCK * sizeof(float);

    if (!(j->q = cpu_room(j->c, bytes))) return ERR_NOMEM;
    j->dq = (float *)(j->q + n);
    return 0;
}

void cpu_linear16(struct dev *d, struct tensor *y, const struct tensor *x, const struct tensor *w, const struct tensor *bias)
{
    struct cpu         *c = cpu_of(d);
    const struct int16 *v = c->int16;
    struct job          j = {.c = c, .v = v, .x = x, .w = w, .y = y, .m = w->dim[0], .k = w->dim[1]};
    int64_t             n = x->dim[0], parts = (n + ROWS - 1) / ROWS, most = ((n + parts - 1) / parts + v->rows - 1) / v->rows * v->rows;

    if (bias && !(j.bias = cpu_vec(d, bias, 0))) return;
    j.deep = (j.k + INT16_BLOCK - 1) / INT16_BLOCK * INT16_BLOCK;
    j.n_groups = most / v->rows;
    if (reserve(&j, most) || pool_reserve(c->pool, room_bytes(&j))) {
        dev_fail(d, ERR_NOMEM, "cpu: no memory for the tiles of a product");
        return;
    }
    for (j.row = 0; j.row < n; j.row += most) {
        j.n = least(most, n - j.row);
        j.n_groups = (j.n + v->rows - 1) / v->rows;
        pool_for(c->pool, j.n_groups, round_group, &j);
        pool_for(c->pool, (j.m + COLS - 1) / COLS, columns, &j);
    }
}
