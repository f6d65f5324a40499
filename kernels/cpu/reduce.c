/* reduce.c - sums and checks of a whole tensor for the host, in a fixed order: blocks of BLOCK elements, then block by block. */
#include <math.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "kernels/cpu/common.h"
#include "kernels/cpu/cpu.h"

enum { BLOCK = 1 << 15 };

struct job {
    const float *x;
    int64_t      n;
    double      *part; /* [blocks] */
    _Atomic bool bad;
};

CLONES static double squares(const float *x, int64_t n)
{
    double s = 0.0;

#pragma omp simd reduction(+ : s)
    for (int64_t i = 0; i < n; i++) s += (double)x[i] * (double)x[i];
    return s;
}

CLONES static uint32_t any_wild(const float *x, int64_t n)
{
    uint32_t bad = 0;

#pragma omp simd reduction(| : bad)
    for (int64_t i = 0; i < n; i++) bad |= (f32_bits(x[i]) & 0x7f800000u) == 0x7f800000u;
    return bad;
}

static int64_t length(const struct job *j, int64_t chunk)
{
    return j->n - chunk * BLOCK < BLOCK ? j->n - chunk * BLOCK : BLOCK;
}

static void squares_chunk(void *ctx, int64_t chunk, int thread)
{
    struct job *j = ctx;

    (void)thread;
    j->part[chunk] = squares(j->x + chunk * BLOCK, length(j, chunk));
}

static void wild_chunk(void *ctx, int64_t chunk, int thread)
{
    struct job *j = ctx;

    (void)thread;
    if (any_wild(j->x + chunk * BLOCK, length(j, chunk))) j->bad = true;
}

double cpu_sum_squares(struct dev *d, const struct tensor *x)
{
    struct job j = {.x = x->data, .n = tensor_count(x)};
    int64_t    n_chunks = (j.n + BLOCK - 1) / BLOCK;
    double     sum = 0.0;

    j.part = malloc((size_t)n_chunks * sizeof *j.part);
    if (!j.part) {
        dev_fail(d, ERR_NOMEM, "cpu: no memory for a sum");
        return 0.0;
    }
    pool_for(cpu_of(d)->pool, n_chunks, squares_chunk, &j);
    for (int64_t i = 0; i < n_chunks; i++) sum += j.part[i];
    free(j.part);
    return sum;
}

bool cpu_all_finite(struct dev *d, const struct tensor *x)
{
    struct job j = {.x = x->data, .n = tensor_count(x)};

    pool_for(cpu_of(d)->pool, (j.n + BLOCK - 1) / BLOCK, wild_chunk, &j);
    return !j.bad;
}
