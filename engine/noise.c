/* noise.c - Philox4x32-10 laid out over torch's CUDA grid, and torch's CPU Mersenne twister with its 16-wide Box-Muller.
 * Uniforms are formed in float exactly as the originals do (that rounding decides the value); log, sqrt, sin and cos are taken in double
 * and rounded once, which stays within the originals' own few ulps on every libm.
 * Not here: which device to emulate, image i = seed + i (callers). */
#include "engine/noise.h"

#include <math.h>

#include "base/err.h"

#define GRID_BLOCK 256u                    /* threads of torch's blocks */
#define INV32      2.3283064365386963e-10f /* 2^-32 */
#define INV32_2PI  (INV32 * 6.2831855f)

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

/* One of curand_normal4's four values: 0, 1 from words 0 and 1, 2, 3 from words 2 and 3; sine first. */
static float normal_of(const struct quad *q, int which)
{
    uint32_t x = q->x[which & 2], y = q->x[(which & 2) + 1];
    float    u = fmaf((float)x, INV32, INV32 / 2);
    float    v = fmaf((float)y, INV32_2PI, INV32_2PI / 2);
    double   r = sqrt(-2.0 * log((double)u));

    if (u >= 1.0f) /* x = 2^32 - 1 rounds up: log is 0 */
        r = 0;
    return (float)(r * (which & 1 ? cos((double)v) : sin((double)v)));
}

int noise_torch_cuda(uint64_t seed, uint32_t n_threads, float *out, size_t n)
{
    if (n_threads == 0 || n_threads % GRID_BLOCK != 0 || (uint64_t)n > (uint64_t)1 << 40) return ERR_ARG;
    size_t n_blocks = (n + GRID_BLOCK - 1) / GRID_BLOCK;
    size_t grid = n_blocks < n_threads / GRID_BLOCK ? n_blocks : n_threads / GRID_BLOCK;
    size_t span = grid * GRID_BLOCK; /* values i, i + span, i + 2 span, i + 3 span belong to thread i */

    for (size_t base = 0, round = 0; base < n; base += 4 * span, round++) {
        for (size_t i = 0; i < span && base + i < n; i++) {
            struct quad q = philox(round, i, seed);
            for (int k = 0; k < 4; k++) {
                size_t at = base + i + (size_t)k * span;
                if (at >= n) break;
                out[at] = normal_of(&q, k);
            }
        }
    }
    return 0;
}

#define MT_N 624
#define MT_M 397

struct twister {
    uint32_t s[MT_N];
    int      at;
};

static void twister_init(struct twister *m, uint32_t seed)
{
    m->s[0] = seed;
    for (uint32_t i = 1; i < MT_N; i++) m->s[i] = 1812433253u * (m->s[i - 1] ^ (m->s[i - 1] >> 30)) + i;
    m->at = MT_N;
}

static uint32_t twister_next(struct twister *m)
{
    if (m->at == MT_N) {
        for (int i = 0; i < MT_N; i++) {
            uint32_t y = (m->s[i] & 0x80000000u) | (m->s[(i + 1) % MT_N] & 0x7fffffffu);
            m->s[i] = m->s[(i + MT_M) % MT_N] ^ (y >> 1) ^ (y & 1 ? 0x9908b0dfu : 0);
        }
        m->at = 0;
    }
    uint32_t y = m->s[m->at++];
    y ^= y >> 11;
    y ^= (y << 7) & 0x9d2c5680u;
    y ^= (y << 15) & 0xefc60000u;
    return y ^ (y >> 18);
}

static float twister_uniform(struct twister *m)
{
    return (float)(twister_next(m) & 0xffffffu) * (1.0f / 16777216.0f);
}

/* In place: 8 pairs (d[j], d[j + 8]) of uniforms become normals. */
static void box_muller_16(float *d)
{
    for (int j = 0; j < 8; j++) {
        float  u1 = 1.0f - d[j]; /* in (0, 1] */
        float  theta = 6.2831855f * d[j + 8];
        double r = sqrt(-2.0 * log((double)u1));
        d[j] = (float)(r * cos((double)theta));
        d[j + 8] = (float)(r * sin((double)theta));
    }
}

int noise_torch_cpu(uint64_t seed, float *out, size_t n)
{
    struct twister m;

    if (n == 0) return 0;
    if (n < NOISE_N_MIN) return ERR_ARG;
    twister_init(&m, (uint32_t)(seed & 0xffffffffu));
    for (size_t i = 0; i < n; i++) out[i] = twister_uniform(&m);
    for (size_t i = 0; i + 16 <= n; i += 16) box_muller_16(out + i);
    if (n % 16) { /* torch draws the last 16 anew, over the end of the full groups */
        for (size_t i = n - 16; i < n; i++) out[i] = twister_uniform(&m);
        box_muller_16(out + n - 16);
    }
    return 0;
}
