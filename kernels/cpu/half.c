/* half.c - 16-bit floats <-> F32. Plain integer arithmetic, so that loops vectorise on any CPU. Block kinds are widened by quant.c. */
#include "kernels/cpu/half.h"

#include <assert.h>
#include <string.h>

#include "kernels/cpu/common.h"
#include "kernels/quant.h"

INLINE float bf16_one(uint16_t h)
{
    return bits_f32((uint32_t)h << 16);
}

INLINE uint16_t one_bf16(float f)
{
    uint32_t u = f32_bits(f);
    uint32_t rounded = (u + 0x7fffu + ((u >> 16) & 1u)) >> 16;
    uint32_t quiet = (u >> 16) | 0x40u;

    return (uint16_t)((u & 0x7fffffffu) > 0x7f800000u ? quiet : rounded);
}

INLINE float f16_one(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000u) << 16, rest = (uint32_t)(h & 0x7fffu) << 13;
    float    f = bits_f32(rest) * bits_f32(239u << 23); /* * 2^112: moves the exponent, denormals too */
    uint32_t u = f32_bits(f) | ((h & 0x7c00u) == 0x7c00u ? 0x7f800000u : 0u);

    return bits_f32(u | sign);
}

INLINE uint16_t one_f16(float f)
{
    uint32_t u = f32_bits(f), sign = (u >> 16) & 0x8000u, a = u & 0x7fffffffu;
    uint32_t normal = (a + 0xc8000fffu + ((a >> 13) & 1u)) >> 13;                /* exponent - 112, round half to even */
    uint32_t small = f32_bits(bits_f32(a) + 0.5f) - f32_bits(0.5f);             /* below 2^-14: the adder rounds */
    uint32_t r = a < (113u << 23) ? small : normal;

    r = a >= 0x47800000u ? 0x7c00u : r;  /* >= 65536: infinity (65520..65536 rounds up to it above) */
    r = a > 0x7f800000u ? 0x7e00u : r;
    return (uint16_t)(r | sign);
}

CLONES static void widen_bf16(float *restrict to, const uint16_t *restrict from, int64_t n)
{
    for (int64_t i = 0; i < n; i++) to[i] = bf16_one(from[i]);
}

CLONES static void widen_f16(float *restrict to, const uint16_t *restrict from, int64_t n)
{
    for (int64_t i = 0; i < n; i++) to[i] = f16_one(from[i]);
}

CLONES static void narrow_bf16(uint16_t *restrict to, const float *restrict from, int64_t n)
{
    for (int64_t i = 0; i < n; i++) to[i] = one_bf16(from[i]);
}

CLONES static void narrow_f16(uint16_t *restrict to, const float *restrict from, int64_t n)
{
    for (int64_t i = 0; i < n; i++) to[i] = one_f16(from[i]);
}

CLONES static void f16_to_bf16(uint16_t *restrict to, const uint16_t *restrict from, int64_t n)
{
    for (int64_t i = 0; i < n; i++) to[i] = one_bf16(f16_one(from[i]));
}

CLONES void round_bf16(float *to, const float *from, int64_t n)
{
    for (int64_t i = 0; i < n; i++) to[i] = bf16_one(one_bf16(from[i]));
}

void to_f32(float *to, const void *from, enum dtype type, int64_t n)
{
    switch (type) {
    case DTYPE_F32: memcpy(to, from, (size_t)n * sizeof(float)); break;
    case DTYPE_BF16: widen_bf16(to, from, n); break;
    case DTYPE_F16: widen_f16(to, from, n); break;
    default: quant_to_f32(to, from, type, n);
    }
}

void from_f32(void *to, enum dtype type, const float *from, int64_t n)
{
    switch (type) {
    case DTYPE_F32: memcpy(to, from, (size_t)n * sizeof(float)); break;
    case DTYPE_BF16: narrow_bf16(to, from, n); break;
    case DTYPE_F16: narrow_f16(to, from, n); break;
    default: assert(!"from_f32: a float type is needed");
    }
}

void to_f32_bf16(float *to, const void *from, enum dtype type, int64_t n)
{
    if (type == DTYPE_F32) {
        round_bf16(to, from, n);
        return;
    }
    to_f32(to, from, type, n);
    if (type != DTYPE_BF16) round_bf16(to, to, n);
}

static void blocks_to_bf16(uint16_t *to, const char *from, enum dtype type, int64_t n)
{
    enum { STEP = 1024 };
    float wide[STEP];

    for (int64_t at = 0; at < n; at += STEP) {
        int64_t m = n - at < STEP ? n - at : STEP;

        quant_to_f32(wide, from + dtype_row_bytes(type, at), type, m);
        narrow_bf16(to + at, wide, m);
    }
}

void to_bf16(uint16_t *to, const void *from, enum dtype type, int64_t n)
{
    switch (type) {
    case DTYPE_F32: narrow_bf16(to, from, n); break;
    case DTYPE_BF16: memcpy(to, from, (size_t)n * sizeof *to); break;
    case DTYPE_F16: f16_to_bf16(to, from, n); break;
    default: blocks_to_bf16(to, from, type, n);
    }
}
