/* noise.c - torch's CPU noise: its Mersenne twister and its 16-wide Box-Muller.
 * Uniforms are formed in float exactly as the original does (that rounding decides the value); log, sqrt, sin and cos are taken in double
 * and rounded once, which stays within the original's own few ulps on every libm.
 * Not here: what torch draws on a GPU (op_noise of kernels/ops.h), image i = seed + i (callers). */
#include "engine/noise.h"

#include <math.h>

#include "base/err.h"

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
