/* quant.c - blocks to F32, exactly.
 * Believes: a scale has 11 bits and what it is multiplied by at most 13, so every product here is exact in F32 and a fused multiply-add
 * changes nothing: the results are the reference's, bit for bit (tests/golden/quant).
 * Not here: making blocks (quant_make.c). */
#include "kernels/quant.h"

#include <assert.h>

#include "kernels/cpu/blocks.h"

static const int8_t iq4_table[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};

CLONES static void f8_e4m3_rows(float *restrict to, const uint8_t *restrict from, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        uint32_t b = from[i], a = b & 0x7fu;
        uint32_t u = f32_bits(bits_f32(a << 20) * bits_f32(247u << 23)); /* * 2^120 moves the exponent, denormals too */

        u = a == 0x7fu ? 0x7fc00000u : u;
        to[i] = bits_f32(u | (b & 0x80u) << 24);
    }
}

CLONES static void f8_e5m2_rows(float *restrict to, const uint8_t *restrict from, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        uint32_t b = from[i], a = b & 0x7fu;
        uint32_t u = f32_bits(bits_f32(a << 21) * bits_f32(239u << 23));

        u |= a >= 0x7cu ? 0x7f800000u : 0u;
        to[i] = bits_f32(u | (b & 0x80u) << 24);
    }
}

CLONES static void q8_0_rows(float *restrict to, const struct q8_0 *restrict b, int64_t n)
{
    for (int64_t i = 0; i < n; i++, to += BLOCK) {
        float d = half_at(b[i].d);

        for (int k = 0; k < BLOCK; k++) to[k] = d * (float)b[i].q[k];
    }
}

CLONES static void q4_0_rows(float *restrict to, const struct q4_0 *restrict b, int64_t n)
{
    for (int64_t i = 0; i < n; i++, to += BLOCK) {
        float d = half_at(b[i].d);

        for (int k = 0; k < 16; k++) {
            to[k] = d * (float)((b[i].q[k] & 15) - 8);
            to[k + 16] = d * (float)((b[i].q[k] >> 4) - 8);
        }
    }
}

CLONES static void q4_1_rows(float *restrict to, const struct q4_1 *restrict b, int64_t n)
{
    for (int64_t i = 0; i < n; i++, to += BLOCK) {
        float d = half_at(b[i].d), m = half_at(b[i].m);

        for (int k = 0; k < 16; k++) {
            to[k] = d * (float)(b[i].q[k] & 15) + m;
            to[k + 16] = d * (float)(b[i].q[k] >> 4) + m;
        }
    }
}

INLINE uint32_t word_at(const uint8_t at[4])
{
    return (uint32_t)at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
}

CLONES static void q5_0_rows(float *restrict to, const struct q5_0 *restrict b, int64_t n)
{
    for (int64_t i = 0; i < n; i++, to += BLOCK) {
        float    d = half_at(b[i].d);
        uint32_t high = word_at(b[i].high);

        for (int k = 0; k < 16; k++) {
            int low5 = (int)((b[i].q[k] & 15u) | (high >> k & 1u) << 4), high5 = (int)(b[i].q[k] >> 4 | (high >> (k + 16) & 1u) << 4);

            to[k] = d * (float)(low5 - 16);
            to[k + 16] = d * (float)(high5 - 16);
        }
    }
}

CLONES static void q5_1_rows(float *restrict to, const struct q5_1 *restrict b, int64_t n)
{
    for (int64_t i = 0; i < n; i++, to += BLOCK) {
        float    d = half_at(b[i].d), m = half_at(b[i].m);
        uint32_t high = word_at(b[i].high);

        for (int k = 0; k < 16; k++) {
            int low5 = (int)((b[i].q[k] & 15u) | (high >> k & 1u) << 4), high5 = (int)(b[i].q[k] >> 4 | (high >> (k + 16) & 1u) << 4);

            to[k] = d * (float)low5 + m;
            to[k + 16] = d * (float)high5 + m;
        }
    }
}

CLONES static void iq4_nl_rows(float *restrict to, const struct q4_0 *restrict b, int64_t n)
{
    for (int64_t i = 0; i < n; i++, to += BLOCK) {
        float d = half_at(b[i].d);

        for (int k = 0; k < 16; k++) {
            to[k] = d * (float)iq4_table[b[i].q[k] & 15];
            to[k + 16] = d * (float)iq4_table[b[i].q[k] >> 4];
        }
    }
}

/* Values 32 j .. 32 j + 31 of a half (128 values) are bits 2 j, 2 j + 1 of its 32 bytes. */
CLONES static void q2_k_rows(float *restrict to, const struct q2_k *restrict b, int64_t n)
{
    for (int64_t i = 0; i < n; i++, to += SUPER) {
        float d = half_at(b[i].d), m = half_at(b[i].m);

        for (int s = 0; s < 16; s++) {
            const uint8_t *q = b[i].q + s / 8 * 32 + s % 2 * 16;
            int            shift = s % 8 / 2 * 2;
            float          ds = d * (float)(b[i].scale[s] & 15), ms = m * (float)(b[i].scale[s] >> 4);

            for (int k = 0; k < 16; k++) to[s * 16 + k] = ds * (float)(q[k] >> shift & 3) - ms;
        }
    }
}

/* 6-bit scales: low nibbles of 16 in bytes 0..7, upper two bits in bytes 8..11. */
INLINE int q3_scale(const uint8_t at[12], int s)
{
    int low = at[s % 8] >> (s / 8 * 4) & 15, high = at[8 + s % 4] >> (s / 4 * 2) & 3;

    return (low | high << 4) - 32;
}

CLONES static void q3_k_rows(float *restrict to, const struct q3_k *restrict b, int64_t n)
{
    for (int64_t i = 0; i < n; i++, to += SUPER) {
        float d = half_at(b[i].d);

        for (int s = 0; s < 16; s++) {
            const uint8_t *q = b[i].q + s / 8 * 32 + s % 2 * 16, *high = b[i].high + s % 2 * 16;
            int            shift = s % 8 / 2 * 2, bit = s / 2;
            float          ds = d * (float)q3_scale(b[i].scale, s);

            for (int k = 0; k < 16; k++) to[s * 16 + k] = ds * (float)((q[k] >> shift & 3) + (high[k] >> bit & 1) * 4 - 4);
        }
    }
}

CLONES static void q4_k_rows(float *restrict to, const struct q4_k *restrict b, int64_t n)
{
    for (int64_t i = 0; i < n; i++, to += SUPER) {
        float d = half_at(b[i].d), m = half_at(b[i].m);

        for (int s = 0; s < 8; s++) {
            const uint8_t *q = b[i].q + s / 2 * 32;
            int            shift = s % 2 * 4, scale, min;

            scale_min(b[i].scale, s, &scale, &min);
            float ds = d * (float)scale, ms = m * (float)min;
            for (int k = 0; k < 32; k++) to[s * 32 + k] = ds * (float)(q[k] >> shift & 15) - ms;
        }
    }
}

CLONES static void q5_k_rows(float *restrict to, const struct q5_k *restrict b, int64_t n)
{
    for (int64_t i = 0; i < n; i++, to += SUPER) {
        float d = half_at(b[i].d), m = half_at(b[i].m);

        for (int s = 0; s < 8; s++) {
            const uint8_t *q = b[i].q + s / 2 * 32, *high = b[i].high;
            int            shift = s % 2 * 4, scale, min;

            scale_min(b[i].scale, s, &scale, &min);
            float ds = d * (float)scale, ms = m * (float)min;
            for (int k = 0; k < 32; k++) to[s * 32 + k] = ds * (float)((q[k] >> shift & 15) | (high[k] >> s & 1) << 4) - ms;
        }
    }
}

/* A half (128 values) has 64 low bytes, 32 high bytes; its group g of 32: nibble g / 2 of low byte g % 2 * 32 + k, bits 2 g of high k. */
CLONES static void q6_k_rows(float *restrict to, const struct q6_k *restrict b, int64_t n)
{
    for (int64_t i = 0; i < n; i++, to += SUPER) {
        float d = half_at(b[i].d);

        for (int s = 0; s < 16; s++) {
            int            half = s / 8, g = s % 8 / 2, at = s % 2 * 16;
            const uint8_t *low = b[i].low + half * 64 + g % 2 * 32 + at, *high = b[i].high + half * 32 + at;
            float          ds = d * (float)b[i].scale[s];

            for (int k = 0; k < 16; k++) {
                to[s * 16 + k] = ds * (float)(((low[k] >> (g / 2 * 4) & 15) | (high[k] >> (g * 2) & 3) << 4) - 32);
            }
        }
    }
}

CLONES static void iq4_xs_rows(float *restrict to, const struct iq4_xs *restrict b, int64_t n)
{
    for (int64_t i = 0; i < n; i++, to += SUPER) {
        float d = half_at(b[i].d);
        int   high = b[i].scale_high[0] | b[i].scale_high[1] << 8;

        for (int s = 0; s < 8; s++) {
            int            low = b[i].scale_low[s / 2] >> (s % 2 * 4) & 15;
            float          ds = d * (float)((low | (high >> (2 * s) & 3) << 4) - 32);
            const uint8_t *q = b[i].q + s * 16;

            for (int k = 0; k < 16; k++) {
                to[s * 32 + k] = ds * (float)iq4_table[q[k] & 15];
                to[s * 32 + k + 16] = ds * (float)iq4_table[q[k] >> 4];
            }
        }
    }
}

bool quant_is(enum dtype type)
{
    return type >= DTYPE_F8_E4M3 && type < DTYPE_COUNT;
}

void quant_to_f32(float *to, const void *from, enum dtype type, int64_t n)
{
    int64_t n_blocks = n / dtype_block(type);

    assert(n % dtype_block(type) == 0);
    switch (type) {
    case DTYPE_F8_E4M3: f8_e4m3_rows(to, from, n); break;
    case DTYPE_F8_E5M2: f8_e5m2_rows(to, from, n); break;
    case DTYPE_Q8_0: q8_0_rows(to, from, n_blocks); break;
    case DTYPE_Q4_0: q4_0_rows(to, from, n_blocks); break;
    case DTYPE_Q4_1: q4_1_rows(to, from, n_blocks); break;
    case DTYPE_Q5_0: q5_0_rows(to, from, n_blocks); break;
    case DTYPE_Q5_1: q5_1_rows(to, from, n_blocks); break;
    case DTYPE_IQ4_NL: iq4_nl_rows(to, from, n_blocks); break;
    case DTYPE_Q2_K: q2_k_rows(to, from, n_blocks); break;
    case DTYPE_Q3_K: q3_k_rows(to, from, n_blocks); break;
    case DTYPE_Q4_K: q4_k_rows(to, from, n_blocks); break;
    case DTYPE_Q5_K: q5_k_rows(to, from, n_blocks); break;
    case DTYPE_Q6_K: q6_k_rows(to, from, n_blocks); break;
    case DTYPE_IQ4_XS: iq4_xs_rows(to, from, n_blocks); break;
    default: assert(!"quant_to_f32: not a block kind");
    }
}
