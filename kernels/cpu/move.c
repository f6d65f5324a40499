/* move.c - elements change place or type: rows of a table, patches, channels last, pixels. */
#include <math.h>
#include <string.h>

#include "kernels/cpu/common.h"
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/half.h"

/* A loop over rows: fn(job, row). */
struct job {
    void (*fn)(const struct job *j, int64_t row);
    const struct tensor *x;
    struct tensor       *y;
    const int32_t       *ids;
    const float         *vec;
    float                mul, add;
    int                  patch;
    int64_t              n, per_chunk;
};

static void chunk_rows(void *ctx, int64_t chunk, int thread)
{
    const struct job *j = ctx;
    int64_t           end = (chunk + 1) * j->per_chunk;

    (void)thread;
    for (int64_t i = chunk * j->per_chunk; i < end && i < j->n; i++) j->fn(j, i);
}

static void run(struct dev *d, struct job *j, int64_t n_rows, int64_t cost)
{
    j->n = n_rows;
    j->per_chunk = cpu_rows_per_chunk(n_rows, cost);
    pool_for(cpu_of(d)->pool, (n_rows + j->per_chunk - 1) / j->per_chunk, chunk_rows, j);
}

static char *row_at(const struct tensor *t, int64_t row)
{
    return (char *)t->data + dtype_row_bytes(t->type, row * t->pitch);
}

static void embed_row(const struct job *j, int64_t i)
{
    float *y = (float *)row_at(j->y, i);

    to_f32(y, row_at(j->x, j->ids[i]), j->x->type, j->y->dim[1]);
    for (int64_t k = 0; j->x->scale != 0.0f && k < j->y->dim[1]; k++) y[k] *= j->x->scale;
}

void cpu_embed_rows(struct dev *d, struct tensor *y, const struct tensor *table, const int32_t *ids)
{
    struct job j = {.fn = embed_row, .x = table, .y = y, .ids = ids};

    run(d, &j, y->dim[0], y->dim[1]);
}

static void copy_row(const struct job *j, int64_t i)
{
    enum { STEP = 512 };
    int64_t n = tensor_cols(j->y);
    char   *to = row_at(j->y, i), *from = row_at(j->x, i);
    float   wide[STEP];

    if (j->x->type == j->y->type) {
        memcpy(to, from, (size_t)n * dtype_bytes(j->y->type));
    } else if (j->y->type == DTYPE_F32) {
        to_f32((float *)to, from, j->x->type, n);
    } else if (j->x->type == DTYPE_F32) {
        from_f32(to, j->y->type, (const float *)from, n);
    } else { /* bf16 <-> f16, both 2 bytes */
        for (int64_t at = 0; at < n; at += STEP) {
            int64_t m = n - at < STEP ? n - at : STEP;

            to_f32(wide, from + 2 * at, j->x->type, m);
            from_f32(to + 2 * at, j->y->type, wide, m);
        }
    }
}

void cpu_copy(struct dev *d, struct tensor *y, const struct tensor *x)
{
    struct job j = {.fn = copy_row, .x = x, .y = y};

    run(d, &j, y->dim[0], tensor_cols(y));
}

static void fill_row(const struct job *j, int64_t i)
{
    memcpy(row_at(j->y, i), j->vec, (size_t)j->y->dim[1] * sizeof(float));
}

void cpu_fill_rows(struct dev *d, struct tensor *y, const struct tensor *row)
{
    struct job j = {.fn = fill_row, .y = y, .vec = cpu_vec(d, row, 0)};

    if (j.vec) run(d, &j, y->dim[0], y->dim[1]);
}

/* Token row i: the patches of one line of patches. x: tokens, y: latent, whichever is written. */
static void patch_line(const struct job *j, int64_t line)
{
    const struct tensor *z = j->x, *tok = j->y;
    const int64_t        p = j->patch, c = z->dim[0], h = z->dim[1], w = z->dim[2];

    for (int64_t px = 0; px < w / p; px++) {
        float *t = (float *)row_at(tok, line * (w / p) + px);

        for (int64_t a = 0; a < p; a++) {
            for (int64_t b = 0; b < p; b++) {
                for (int64_t ch = 0; ch < c; ch++) {
                    t[(a * p + b) * c + ch] = ((const float *)z->data)[(ch * h + line * p + a) * w + px * p + b];
                }
            }
        }
    }
}

void cpu_patchify(struct dev *d, struct tensor *y, const struct tensor *z, int patch)
{
    struct job j = {.fn = patch_line, .x = z, .y = y, .patch = patch};

    run(d, &j, z->dim[1] / patch, z->dim[2] * patch * z->dim[0]);
}

static void unpatch_line(const struct job *j, int64_t line)
{
    const struct tensor *z = j->y, *tok = j->x;
    const int64_t        p = j->patch, c = z->dim[0], h = z->dim[1], w = z->dim[2];

    for (int64_t px = 0; px < w / p; px++) {
        const float *t = (const float *)row_at(tok, line * (w / p) + px);

        for (int64_t a = 0; a < p; a++) {
            for (int64_t b = 0; b < p; b++) {
                for (int64_t ch = 0; ch < c; ch++) {
                    ((float *)z->data)[(ch * h + line * p + a) * w + px * p + b] = t[(a * p + b) * c + ch];
                }
            }
        }
    }
}

void cpu_unpatchify(struct dev *d, struct tensor *z, const struct tensor *x, int patch)
{
    struct job j = {.fn = unpatch_line, .x = x, .y = z, .patch = patch};

    run(d, &j, z->dim[1] / patch, z->dim[2] * patch * z->dim[0]);
}

static void nhwc_line(const struct job *j, int64_t line)
{
    const int64_t c = j->x->dim[0], h = j->x->dim[1], w = j->x->dim[2];
    const float  *z = j->x->data;
    float        *y = (float *)j->y->data + line * w * c;

    for (int64_t px = 0; px < w; px++) {
        for (int64_t ch = 0; ch < c; ch++) y[px * c + ch] = z[(ch * h + line) * w + px] * j->mul + j->add;
    }
}

void cpu_to_nhwc(struct dev *d, struct tensor *y, const struct tensor *z, float mul, float add)
{
    struct job j = {.fn = nhwc_line, .x = z, .y = y, .mul = mul, .add = add};

    run(d, &j, z->dim[1], z->dim[2] * z->dim[0]);
}

static void rgb_line(const struct job *j, int64_t line)
{
    int64_t      n = j->x->dim[1] * j->x->dim[2];
    const float *x = (const float *)j->x->data + line * n;
    uint8_t     *y = (uint8_t *)j->y->data + line * n;

    for (int64_t i = 0; i < n; i++) {
        float v = x[i] * 0.5f + 0.5f;

        v = v > 0.0f ? v : 0.0f; /* a NaN gives 0: op_all_finite() is who tells */
        v = v < 1.0f ? v : 1.0f;
        y[i] = (uint8_t)rintf(v * 255.0f);
    }
}

void cpu_to_rgb8(struct dev *d, struct tensor *y, const struct tensor *x)
{
    struct job j = {.fn = rgb_line, .x = x, .y = y};

    run(d, &j, x->dim[0], x->dim[1] * x->dim[2]);
}
