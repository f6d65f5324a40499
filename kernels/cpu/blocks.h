/* blocks.h - the layouts of ggml's block kinds, and the numbers inside them. Bytes only: any address will do; little endian.
 * Not here: arithmetic over rows (quant.c reads, quant_make.c writes). */
#ifndef KERNELS_CPU_BLOCKS_H
#define KERNELS_CPU_BLOCKS_H

#include "kernels/cpu/common.h"

enum { BLOCK = 32, SUPER = 256 };

struct q8_0 { uint8_t d[2]; int8_t q[32]; };                                         /* x = d q */
struct q4_0 { uint8_t d[2], q[16]; };                                                /* x = d (q - 8); low nibbles first, then high */
struct q4_1 { uint8_t d[2], m[2], q[16]; };                                          /* x = d q + m */
struct q5_0 { uint8_t d[2], high[4], q[16]; };                                       /* x = d (q - 16) */
struct q5_1 { uint8_t d[2], m[2], high[4], q[16]; };                                 /* x = d q + m */
struct q2_k { uint8_t scale[16], q[64], d[2], m[2]; };                               /* 16 x 16: x = d s q - m t, nibbles s, t */
struct q3_k { uint8_t high[32], q[64], scale[12], d[2]; };                           /* 16 x 16: x = d (s - 32) (q - 4) */
struct q4_k { uint8_t d[2], m[2], scale[12], q[128]; };                              /* 8 x 32: x = d s q - m t */
struct q5_k { uint8_t d[2], m[2], scale[12], high[32], q[128]; };                    /* the same with a fifth bit */
struct q6_k { uint8_t low[128], high[64]; int8_t scale[16]; uint8_t d[2]; };         /* 16 x 16: x = d s (q - 32) */
struct iq4_xs { uint8_t d[2], scale_high[2], scale_low[4], q[128]; };                /* 8 x 32: x = d (s - 32) table[q] */

_Static_assert(sizeof(struct q8_0) == 34 && sizeof(struct q4_0) == 18 && sizeof(struct q4_1) == 20 && sizeof(struct q5_0) == 22 &&
                   sizeof(struct q5_1) == 24 && sizeof(struct q2_k) == 84 && sizeof(struct q3_k) == 110 && sizeof(struct q4_k) == 144 &&
                   sizeof(struct q5_k) == 176 && sizeof(struct q6_k) == 210 && sizeof(struct iq4_xs) == 136, "no padding");

INLINE float half_at(const uint8_t at[2])
{
    uint32_t h = (uint32_t)at[0] | (uint32_t)at[1] << 8;
    uint32_t u = f32_bits(bits_f32((h & 0x7fffu) << 13) * bits_f32(239u << 23)); /* * 2^112 moves the exponent, denormals too */

    u |= (h & 0x7c00u) == 0x7c00u ? 0x7f800000u : 0u;
    return bits_f32(u | (h & 0x8000u) << 16);
}

/* Rounds to nearest even; returns what half_at() will read. */
INLINE float half_put(uint8_t at[2], float f)
{
    uint32_t u = f32_bits(f), a = u & 0x7fffffffu;
    uint32_t normal = (a + 0xc8000fffu + ((a >> 13) & 1u)) >> 13;
    uint32_t small = f32_bits(bits_f32(a) + 0.5f) - f32_bits(0.5f);
    uint32_t h = a < (113u << 23) ? small : normal;

    h = a >= 0x477ff000u ? 0x7bffu : h; /* a scale that is too large stays finite */
    h |= (u >> 16) & 0x8000u;
    at[0] = (uint8_t)h;
    at[1] = (uint8_t)(h >> 8);
    return half_at(at);
}

/* The 6-bit scale and minimum j of 8 in the 12 bytes of q4_k and q5_k. */
INLINE void scale_min(const uint8_t at[12], int j, int *scale, int *min)
{
    *scale = j < 4 ? at[j] & 63 : (at[j + 4] & 15) | (at[j - 4] >> 6) << 4;
    *min = j < 4 ? at[j + 4] & 63 : at[j + 4] >> 4 | (at[j] >> 6) << 4;
}

#endif
