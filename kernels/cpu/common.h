/* common.h - loops for the CPU: clones for wide vectors, exp and tanh that vectorise.
 *
 * CLONES before a function makes gcc compile it twice, for AVX2+FMA and for the base architecture, chosen when the program starts. Put it
 * on the function that holds the loop; helpers are static inline. clang and the sanitizers get one version.
 * Not here: threads (pool.h). */
#ifndef KERNELS_CPU_COMMON_H
#define KERNELS_CPU_COMMON_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && !defined(__SANITIZE_THREAD__) && !defined(__SANITIZE_ADDRESS__)
#define CLONES __attribute__((target_clones("arch=x86-64-v3", "default")))
#else
#define CLONES
#endif

#define INLINE static inline __attribute__((always_inline))

INLINE float bits_f32(uint32_t u)
{
    float f;

    memcpy(&f, &u, sizeof f);
    return f;
}

INLINE uint32_t f32_bits(float f)
{
    uint32_t u;

    memcpy(&u, &f, sizeof u);
    return u;
}

/* e^x, within 2 ulp where the result is a normal number; 0 below -103.97, inf above 88.73; NaN stays NaN. No branches. */
INLINE float fast_exp(float x)
{
    const float magic = 12582912.0f; /* 1.5 * 2^23: adding it rounds to an integer */
    float       c = x > 89.0f ? 89.0f : x;
    float       n, r, p;
    uint32_t    k, k1;

    c = c < -104.0f ? -104.0f : c; /* NaN passes both comparisons */
    n = c * 1.44269504088896341f + magic;
    k = f32_bits(n) - f32_bits(magic); /* integer, two's complement */
    n -= magic;
    r = c - n * 0.693145751953125f;          /* ln 2, high part: exact product */
    r -= n * 1.428606765330187045e-06f;      /* low part */
    p = 1.9875691500e-4f;                    /* minimax on |r| <= ln(2)/2 */
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    k1 = (uint32_t)((int32_t)k >> 1); /* 2^k in two steps: neither overflows before the result does */
    p = p * bits_f32((k1 + 127u) << 23) * bits_f32((k - k1 + 127u) << 23);
    return p;
}

INLINE float fast_sigmoid(float x)
{
    return 1.0f / (1.0f + fast_exp(-x));
}

INLINE float fast_silu(float x)
{
    return x / (1.0f + fast_exp(-x));
}

#endif
