/* rope.c - rotary positions in place: interleaved pairs (DiT) and split halves (Qwen3). Tables come from the engine. */
#include "kernels/cpu/common.h"
#include "kernels/cpu/cpu.h"

struct job {
    float       *x;
    const float *cos, *sin;
    int64_t      n, heads, half, ldx, ldc, lds, per_chunk;
    bool         pairs;
};

CLONES static void pairs(float *restrict x, const float *restrict cs, const float *restrict sn, int64_t half)
{
#pragma omp simd
    for (int64_t i = 0; i < half; i++) {
        float a = x[2 * i], b = x[2 * i + 1];

        x[2 * i] = a * cs[i] - b * sn[i];
        x[2 * i + 1] = a * sn[i] + b * cs[i];
    }
}

CLONES static void halves(float *restrict x, const float *restrict cs, const float *restrict sn, int64_t half)
{
#pragma omp simd
    for (int64_t i = 0; i < half; i++) {
        float a = x[i], b = x[i + half];

        x[i] = a * cs[i] - b * sn[i];
        x[i + half] = b * cs[i] + a * sn[i];
    }
}

static void chunk_rows(void *ctx, int64_t chunk, int thread)
{
    const struct job *j = ctx;
    int64_t           end = (chunk + 1) * j->per_chunk;

    (void)thread;
    for (int64_t i = chunk * j->per_chunk; i < end && i < j->n; i++) {
        for (int64_t h = 0; h < j->heads; h++) {
            (j->pairs ? pairs : halves)(j->x + i * j->ldx + h * 2 * j->half, j->cos + i * j->ldc, j->sin + i * j->lds, j->half);
        }
    }
}

static void rope(struct dev *d, struct tensor *x, const struct tensor *cs, const struct tensor *sn, bool as_pairs)
{
    struct job j = {.x = x->data, .cos = cs->data, .sin = sn->data, .n = x->dim[0], .heads = x->dim[1], .half = x->dim[2] / 2,
                    .ldx = x->pitch, .ldc = cs->pitch, .lds = sn->pitch, .pairs = as_pairs};

    j.per_chunk = cpu_rows_per_chunk(j.n, j.heads * x->dim[2]);
    pool_for(cpu_of(d)->pool, (j.n + j.per_chunk - 1) / j.per_chunk, chunk_rows, &j);
}

void cpu_rope_pairs(struct dev *d, struct tensor *x, const struct tensor *cos, const struct tensor *sin)
{
    rope(d, x, cos, sin, true);
}

void cpu_rope_halves(struct dev *d, struct tensor *x, const struct tensor *cos, const struct tensor *sin)
{
    rope(d, x, cos, sin, false);
}
