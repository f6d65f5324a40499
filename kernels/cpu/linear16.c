/* linear16.c - y = x w^T + bias from tiles of 16-bit values (tile16.h): integers or bf16.
 *
 * x is rounded once, in groups of rows, for at most ROWS rows at a time; then each thread takes COLS columns: v->depth of k at a time it makes
 * their panels of w (which stay in its cache) and adds all groups' products to its own dense tiles. A row's result depends on that row
 * and w alone. Not here: rounding and the inner loop (int16.c, amx.c), few rows (linear.c). */
#include "kernels/cpu/common.h"
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/tile16.h"
#include "kernels/cpu/linear.h"

enum { ROWS = 1020, COLS = 64 };
_Static_assert(COLS % TILE16_COLS_MOST == 0, "whole panels");

struct job {
    struct cpu         *c;
    const struct tile16 *v;
    const struct tensor *x, *w;
    struct tensor      *y;
    const float        *bias;
    int64_t             row, n, m, k, deep; /* rows row..row+n of x; deep: k filled up */
    int64_t             n_groups;
    uint16_t           *q;  /* see part_at() */
    float              *dq; /* the same, a scale for TILE16_STEP of them */
};

static int64_t least(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static int64_t pitch(const struct tensor *t)
{
    return t->dim[0] > 1 ? t->pitch : t->dim[1];
}

/* Where group g's values from `at` on begin, `depth` of k: all groups' first v->depth lie side by side, then their next. */
static int64_t part_at(const struct job *j, int64_t g, int64_t at, int64_t depth)
{
    return j->v->rows * (j->n_groups * at + g * depth);
}

static void round_group(void *ctx, int64_t g, int thread)
{
    struct job *j = ctx;
    int         rows = j->v->rows;

    (void)thread;
    for (int r = 0; r < rows; r++) {
        int64_t      i = g * rows + r;
        const float *from = i < j->n ? (const float *)j->x->data + (j->row + i) * pitch(j->x) : NULL;

        for (int64_t at = 0; at < j->deep; at += j->v->depth) {
            int64_t depth = least(j->v->depth, j->deep - at), to = part_at(j, g, at, depth);

            j->v->put_x(j->v, j->q + to, j->dq + to / TILE16_STEP, r, from ? from + at : NULL, least(depth, j->k - at), depth, j->w->type);
        }
    }
}

/* A thread's scratch. */
struct room {
    float   *y;    /* [panel][group][rows][cols] */
    uint16_t *w;    /* a panel */
    float   *dw;
    void    *wide; /* of put_w() */
};

static struct room room_of(const struct job *j, char *at)
{
    struct room r;

    r.y = (float *)at;
    r.w = (uint16_t *)(r.y + j->n_groups * j->v->rows * COLS);
    r.dw = (float *)(r.w + j->v->cols * j->v->depth);
    r.wide = r.dw + j->v->cols * (j->v->depth / TILE16_STEP);
    return r;
}

static size_t room_bytes(const struct job *j)
{
    return (size_t)(j->n_groups * j->v->rows * COLS) * sizeof(float) + (size_t)(j->v->cols * j->v->depth) * sizeof(uint16_t) +
           (size_t)(j->v->cols * (j->v->depth / TILE16_STEP)) * sizeof(float) + tile16_room_bytes(j->v->depth);
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
    const struct tile16 *v = j->v;
    struct room         r = room_of(j, pool_scratch(j->c->pool, thread));
    int64_t             size = v->rows * v->cols, first = chunk * COLS, n = least(COLS, j->m - first);
    size_t              row_bytes = dtype_row_bytes(j->w->type, pitch(j->w));
    float               scale = j->w->scale != 0.0f ? j->w->scale : 1.0f;

    memset(r.y, 0, (size_t)(j->n_groups * v->rows * COLS) * sizeof *r.y);
    if (v->begin) v->begin();
    for (int64_t col = 0; col < n; col += v->cols) {
        float      *y = r.y + col * j->n_groups * v->rows;
        const char *w = (const char *)j->w->data + (size_t)(first + col) * row_bytes;

        for (int64_t at = 0; at < j->deep; at += j->v->depth) {
            int64_t depth = least(j->v->depth, j->deep - at);

            v->put_w(v, r.w, r.dw, w + dtype_row_bytes(j->w->type, at), row_bytes, j->w->type, least(v->cols, n - col),
                        least(depth, j->k - at), depth, r.wide);
            for (int64_t g = 0; g < j->n_groups; g++) {
                int64_t x = part_at(j, g, at, depth);

                v->tile(y + g * size, j->q + x, j->dq + x / TILE16_STEP, r.w, r.dw, depth);
            }
        }
        for (int64_t i = 0; i < j->n; i++) {
            float *to = (float *)j->y->data + (j->row + i) * pitch(j->y) + first + col;

            put_row(to, y + i * v->cols, scale, j->bias ? j->bias + first + col : NULL, least(v->cols, n - col));
        }
    }
    if (v->end) v->end();
}

/* Room for x rounded. */
static int reserve(struct job *j, int64_t rows)
{
    size_t n = (size_t)(rows * j->deep), bytes = n * sizeof(uint16_t) + n / TILE16_STEP * sizeof(float);

    if (!(j->q = cpu_room(j->c, bytes))) return ERR_NOMEM;
    j->dq = (float *)(j->q + n);
    return 0;
}

void cpu_linear16(struct dev *d, struct tensor *y, const struct tensor *x, const struct tensor *w, const struct tensor *bias)
{
    struct cpu         *c = cpu_of(d);
    const struct tile16 *v = c->tile16;
    struct job          j = {.c = c, .v = v, .x = x, .w = w, .y = y, .m = w->dim[0], .k = w->dim[1]};
    int64_t             n = x->dim[0], parts = (n + ROWS - 1) / ROWS, most = ((n + parts - 1) / parts + v->rows - 1) / v->rows * v->rows;

    if (bias && !(j.bias = cpu_vec(d, bias, 0))) return;
    j.deep = (j.k + TILE16_STEP - 1) / TILE16_STEP * TILE16_STEP;
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
