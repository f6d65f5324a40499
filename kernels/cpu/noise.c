/* noise.c - what torch.randn draws on a GPU: Philox4x32-10 laid out over torch's thread grid, four normals to a thread and round.
 * Uniforms are formed in float exactly as the original does (that rounding decides the value); log, sqrt, sin and cos are taken in double and
 * rounded once, which stays within the original's own few ulps on every libm.
 * Not here: torch's CPU noise (engine/noise.c). */
#include <math.h>

#include "kernels/cpu/common.h"
#include "kernels/cpu/cpu.h"

#define GRID_BLOCK 256                    /* threads of torch's blocks */
#define INV32      2.3283064365386963e-10f /* 2^-32 */
#define INV32_2PI  (INV32 * 6.2831855f)
#define PER_CHUNK  2048

struct job {
    float   *x;
    uint64_t seed;
    int64_t  n, span, per_round; /* values; threads of the grid, to whom i, i + span, i + 2 span, i + 3 span belong; chunks of a round */
};

struct quad {
    uint32_t x[4];
};

static struct quad philox(uint64_t counter, uint64_t subsequence, uint64_t key)
{
    struct quad c = {{(uint32_t)counter, (uint32_t)(counter >> 32), (uint32_t)subsequence, (uint32_t)(subsequence >> 32)}};
    uint32_t    k0 = (uint32_t)key, k1 = (uint32_t)(key >> 32);

    for (int round = 0; round < 10; round++) {
        uint64_t p0 = (uint64_t)0xD2511F53u * c.x[0], p1 = (uint64_t)0xCD9E8D57u * c.x[2];

        c = (struct quad){{(uint32_t)(p1 >> 32) ^ c.x[1] ^ k0, (uint32_t)p1, (uint32_t)(p0 >> 32) ^ c.x[3] ^ k1, (uint32_t)p0}};
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    return c;
}

/* Two of curand_normal4's four values from two words: sine first. */
static void two_normals(uint32_t x, uint32_t y, float out[2])
{
    float  u = fmaf((float)x, INV32, INV32 / 2), v = fmaf((float)y, INV32_2PI, INV32_2PI / 2);
    double r = u >= 1.0f ? 0 : sqrt(-2.0 * log((double)u)); /* x = 2^32 - 1 rounds up: log is 0 */

    out[0] = (float)(r * sin((double)v));
    out[1] = (float)(r * cos((double)v));
}

static void draw(void *ctx, int64_t chunk, int thread)
{
    const struct job *j = ctx;
    int64_t           round = chunk / j->per_round, base = round * 4 * j->span, first = chunk % j->per_round * PER_CHUNK, end = first + PER_CHUNK;

    (void)thread;
    for (int64_t i = first; i < end && i < j->span && base + i < j->n; i++) {
        struct quad q = philox((uint64_t)round, (uint64_t)i, j->seed);
        float       v[4];

        two_normals(q.x[0], q.x[1], v);
        two_normals(q.x[2], q.x[3], v + 2);
        for (int64_t k = 0, at = base + i; k < 4 && at < j->n; k++, at += j->span) j->x[at] = v[k];
    }
}

void cpu_noise(struct dev *d, struct tensor *x, uint64_t seed, uint32_t n_threads)
{
    struct job j = {.x = x->data, .seed = seed, .n = tensor_count(x)};
    int64_t    blocks = (j.n + GRID_BLOCK - 1) / GRID_BLOCK, most = n_threads / GRID_BLOCK;

    j.span = (blocks < most ? blocks : most) * GRID_BLOCK;
    j.per_round = (j.span + PER_CHUNK - 1) / PER_CHUNK;
    pool_for(cpu_of(d)->pool, (j.n + 4 * j.span - 1) / (4 * j.span) * j.per_round, draw, &j);
}
