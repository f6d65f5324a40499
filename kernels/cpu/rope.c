/* rope.c - heads normed and turned to their position, in place: interleaved pairs (DiT) and split halves (Qwen3). Tables come from the engine. */
#include "kernels/cpu/common.h"
#include "kernels/cpu/cpu.h"

struct job {
    float       *x;
    const float *cos, *sin, *wq, *wk;
    int64_t      n, heads, n_q, half, ldx, ldc, lds, per_chunk;
    float        eps;
    enum rope    rope;
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
    int64_t           end = (chunk + 1) * j->per_chunk, dh = 2 * j->half;

    (void)thread;
    for (int64_t i = chunk * j->per_chunk; i < end && i < j->n; i++) {
        for (int64_t h = 0; h < j->heads; h++) {
            float *x = j->x + i * j->ldx + h * dh;

            cpu_rms_row(x, x, h < j->n_q ? j->wq : j->wk, dh, j->eps);
            (j->rope == ROPE_PAIRS ? pairs : halves)(x, j->cos + i * j->ldc, j->sin + i * j->lds, j->half);
        }
    }
}

void cpu_norm_rope(struct dev *d, struct tensor *x, const struct norm_rope *how)
{
    struct job j = {.x = x->data, .cos = how->cos->data, .sin = how->sin->data, .n = x->dim[0], .heads = x->dim[1], .n_q = how->n_q,
                    .half = x->dim[2] / 2, .ldx = x->pitch, .ldc = how->cos->pitch, .lds = how->sin->pitch, .eps = how->eps, .rope = how->rope};

    if (!(j.wq = cpu_vec(d, how->wq, 0)) || !(j.wk = cpu_vec(d, how->wk, 1))) return;
    j.per_chunk = cpu_rows_per_chunk(j.n, j.heads * x->dim[2]);
    pool_for(cpu_of(d)->pool, (j.n + j.per_chunk - 1) / j.per_chunk, chunk_rows, &j);
}
