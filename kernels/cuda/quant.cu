/* quant.cu - block kinds and 8-bit floats to floats: the twin of kernels/cpu/quant.c, bit for bit, then rounded once to the type asked for.
 * A thread makes eight neighbouring values: one 16-byte store of bf16, so a warp writes 512 bytes in a row.
 * Believes: blocks begin at even addresses (a row of blocks is an even number of bytes), layouts are ggml's (kernels/cpu/blocks.h).
 * Not here: when and where weights are widened (expand.c). */
#include "kernels/cuda/common.cuh"

struct rows { /* [n,c] values to make */
    void          *to;
    int            to_type;   /* F32 or BF16 */
    int64_t        ldto, n, c;
    const uint8_t *from;
    int64_t        row_bytes; /* from one row of blocks to the next */
    const int32_t *ids;       /* row i is row ids[i] of the table; NULL: row i */
    float          scale;     /* 0: none */
    bool           wide;      /* whole eights may be stored at once */
};

struct eight_bytes {
    unsigned int w[2];
};

template <int ALIGN>
static __device__ __forceinline__ struct eight_bytes bytes8(const uint8_t *p)
{
    struct eight_bytes b;

    if (ALIGN >= 8) {
        uint2 u = __ldg((const uint2 *)p);

        b.w[0] = u.x, b.w[1] = u.y;
    } else if (ALIGN == 4) {
        b.w[0] = __ldg((const unsigned int *)p), b.w[1] = __ldg((const unsigned int *)p + 1);
    } else {
        const unsigned short *h = (const unsigned short *)p;

        b.w[0] = (unsigned int)__ldg(h) | (unsigned int)__ldg(h + 1) << 16;
        b.w[1] = (unsigned int)__ldg(h + 2) | (unsigned int)__ldg(h + 3) << 16;
    }
    return b;
}

static __device__ __forceinline__ int byte_of(struct eight_bytes b, int i)
{
    return (int)(b.w[i / 4] >> (i % 4 * 8) & 255u);
}

static __device__ __forceinline__ float half_of(const uint8_t *p)
{
    return __half2float(__ushort_as_half(__ldg((const unsigned short *)p)));
}

/* iq4's table of 16, one byte each, by a permutation of registers. */
static __device__ __forceinline__ float iq4_of(int i)
{
    unsigned int low = __byte_perm(0xbfad9881u, 0xf6eaddcfu, (unsigned int)i & 7u), high = __byte_perm(0x26190d01u, 0x71594535u, (unsigned int)i & 7u);

    return (float)(int8_t)((i & 8 ? high : low) & 255u);
}

/* The 6-bit scale and minimum s of 8 in the 12 bytes of q4_k and q5_k. */
static __device__ __forceinline__ void scale_min(const uint8_t *at, int s, float d, float m, float *ds, float *ms)
{
    int scale, min;

    if (s < 4) {
        scale = __ldg(at + s) & 63;
        min = __ldg(at + s + 4) & 63;
    } else {
        int mixed = __ldg(at + s + 4);

        scale = (mixed & 15) | (__ldg(at + s - 4) >> 6) << 4;
        min = mixed >> 4 | (__ldg(at + s) >> 6) << 4;
    }
    *ds = d * (float)scale;
    *ms = m * (float)min;
}

/* Values at .. at + 7 of a row of blocks; at is a multiple of 8. */
template <int KIND>
static __device__ __forceinline__ void eight(float v[8], const uint8_t *row, uint64_t at);

template <>
__device__ __forceinline__ void eight<DTYPE_Q8_0>(float v[8], const uint8_t *row, uint64_t at)
{
    const uint8_t     *p = row + (at >> 5) * 34;
    const float        d = half_of(p);
    struct eight_bytes q = bytes8<2>(p + 2 + (at & 31));

#pragma unroll
    for (int i = 0; i < 8; i++) v[i] = d * (float)(int8_t)byte_of(q, i);
}

template <>
__device__ __forceinline__ void eight<DTYPE_Q4_0>(float v[8], const uint8_t *row, uint64_t at)
{
    const uint8_t     *p = row + (at >> 5) * 18;
    const int          k = (int)(at & 31), shift = (k >> 4) * 4;
    const float        d = half_of(p);
    struct eight_bytes q = bytes8<2>(p + 2 + (k & 15));

#pragma unroll
    for (int i = 0; i < 8; i++) v[i] = d * (float)((byte_of(q, i) >> shift & 15) - 8);
}

template <>
__device__ __forceinline__ void eight<DTYPE_Q4_1>(float v[8], const uint8_t *row, uint64_t at)
{
    const uint8_t     *p = row + (at >> 5) * 20;
    const int          k = (int)(at & 31), shift = (k >> 4) * 4;
    const float        d = half_of(p), m = half_of(p + 2);
    struct eight_bytes q = bytes8<4>(p + 4 + (k & 15));

#pragma unroll
    for (int i = 0; i < 8; i++) v[i] = d * (float)(byte_of(q, i) >> shift & 15) + m;
}

template <>
__device__ __forceinline__ void eight<DTYPE_Q5_0>(float v[8], const uint8_t *row, uint64_t at)
{
    const uint8_t        *p = row + (at >> 5) * 22;
    const unsigned short *h = (const unsigned short *)(p + 2);
    const int             k = (int)(at & 31), shift = (k >> 4) * 4;
    const unsigned int    high = ((unsigned int)__ldg(h) | (unsigned int)__ldg(h + 1) << 16) >> k;
    const float           d = half_of(p);
    struct eight_bytes    q = bytes8<2>(p + 6 + (k & 15));

#pragma unroll
    for (int i = 0; i < 8; i++) v[i] = d * (float)(((byte_of(q, i) >> shift & 15) | (int)(high >> i & 1u) << 4) - 16);
}

template <>
__device__ __forceinline__ void eight<DTYPE_Q5_1>(float v[8], const uint8_t *row, uint64_t at)
{
    const uint8_t     *p = row + (at >> 5) * 24;
    const int          k = (int)(at & 31), shift = (k >> 4) * 4;
    const unsigned int high = __ldg((const unsigned int *)(p + 4)) >> k;
    const float        d = half_of(p), m = half_of(p + 2);
    struct eight_bytes q = bytes8<8>(p + 8 + (k & 15));

#pragma unroll
    for (int i = 0; i < 8; i++) v[i] = d * (float)((byte_of(q, i) >> shift & 15) | (int)(high >> i & 1u) << 4) + m;
}

template <>
__device__ __forceinline__ void eight<DTYPE_IQ4_NL>(float v[8], const uint8_t *row, uint64_t at)
{
    const uint8_t     *p = row + (at >> 5) * 18;
    const int          k = (int)(at & 31), shift = (k >> 4) * 4;
    const float        d = half_of(p);
    struct eight_bytes q = bytes8<2>(p + 2 + (k & 15));

#pragma unroll
    for (int i = 0; i < 8; i++) v[i] = d * iq4_of(byte_of(q, i) >> shift & 15);
}

/* Of the super-blocks: s counts their groups of scales, k is the place inside a group. */
template <>
__device__ __forceinline__ void eight<DTYPE_Q2_K>(float v[8], const uint8_t *row, uint64_t at)
{
    const uint8_t     *p = row + (at >> 8) * 84;
    const int          s = (int)(at >> 4 & 15), k = (int)(at & 15), shift = s % 8 / 2 * 2, scale = __ldg(p + s);
    const float        ds = half_of(p + 80) * (float)(scale & 15), ms = half_of(p + 82) * (float)(scale >> 4);
    struct eight_bytes q = bytes8<4>(p + 16 + s / 8 * 32 + s % 2 * 16 + k);

#pragma unroll
    for (int i = 0; i < 8; i++) v[i] = ds * (float)(byte_of(q, i) >> shift & 3) - ms;
}

template <>
__device__ __forceinline__ void eight<DTYPE_Q3_K>(float v[8], const uint8_t *row, uint64_t at)
{
    const uint8_t     *p = row + (at >> 8) * 110;
    const int          s = (int)(at >> 4 & 15), k = (int)(at & 15), shift = s % 8 / 2 * 2, bit = s / 2;
    const int          low = __ldg(p + 96 + s % 8) >> (s / 8 * 4) & 15, high = __ldg(p + 104 + s % 4) >> (s / 4 * 2) & 3;
    const float        ds = half_of(p + 108) * (float)((low | high << 4) - 32);
    struct eight_bytes q = bytes8<2>(p + 32 + s / 8 * 32 + s % 2 * 16 + k), h = bytes8<2>(p + s % 2 * 16 + k);

#pragma unroll
    for (int i = 0; i < 8; i++) v[i] = ds * (float)((byte_of(q, i) >> shift & 3) + (byte_of(h, i) >> bit & 1) * 4 - 4);
}

template <>
__device__ __forceinline__ void eight<DTYPE_Q4_K>(float v[8], const uint8_t *row, uint64_t at)
{
    const uint8_t     *p = row + (at >> 8) * 144;
    const int          s = (int)(at >> 5 & 7), k = (int)(at & 31), shift = s % 2 * 4;
    struct eight_bytes q = bytes8<8>(p + 16 + s / 2 * 32 + k);
    float              ds, ms;

    scale_min(p + 4, s, half_of(p), half_of(p + 2), &ds, &ms);
#pragma unroll
    for (int i = 0; i < 8; i++) v[i] = ds * (float)(byte_of(q, i) >> shift & 15) - ms;
}

template <>
__device__ __forceinline__ void eight<DTYPE_Q5_K>(float v[8], const uint8_t *row, uint64_t at)
{
    const uint8_t     *p = row + (at >> 8) * 176;
    const int          s = (int)(at >> 5 & 7), k = (int)(at & 31), shift = s % 2 * 4;
    struct eight_bytes q = bytes8<8>(p + 48 + s / 2 * 32 + k), h = bytes8<8>(p + 16 + k);
    float              ds, ms;

    scale_min(p + 4, s, half_of(p), half_of(p + 2), &ds, &ms);
#pragma unroll
    for (int i = 0; i < 8; i++) v[i] = ds * (float)((byte_of(q, i) >> shift & 15) | (byte_of(h, i) >> s & 1) << 4) - ms;
}

template <>
__device__ __forceinline__ void eight<DTYPE_Q6_K>(float v[8], const uint8_t *row, uint64_t at)
{
    const uint8_t     *p = row + (at >> 8) * 210;
    const int          s = (int)(at >> 4 & 15), half = s / 8, g = s % 8 / 2, k = s % 2 * 16 + (int)(at & 15);
    const float        ds = half_of(p + 208) * (float)(int8_t)__ldg(p + 192 + s);
    struct eight_bytes q = bytes8<2>(p + half * 64 + g % 2 * 32 + k), h = bytes8<2>(p + 128 + half * 32 + k);

#pragma unroll
    for (int i = 0; i < 8; i++) v[i] = ds * (float)(((byte_of(q, i) >> (g / 2 * 4) & 15) | (byte_of(h, i) >> (g * 2) & 3) << 4) - 32);
}

template <>
__device__ __forceinline__ void eight<DTYPE_IQ4_XS>(float v[8], const uint8_t *row, uint64_t at)
{
    const uint8_t     *p = row + (at >> 8) * 136;
    const int          s = (int)(at >> 5 & 7), k = (int)(at & 31), shift = (k >> 4) * 4;
    const int          low = __ldg(p + 4 + s / 2) >> (s % 2 * 4) & 15, high = __ldg((const unsigned short *)(p + 2)) >> (2 * s) & 3;
    const float        ds = half_of(p) * (float)((low | high << 4) - 32);
    struct eight_bytes q = bytes8<8>(p + 8 + s * 16 + (k & 15));

#pragma unroll
    for (int i = 0; i < 8; i++) v[i] = ds * iq4_of(byte_of(q, i) >> shift & 15);
}

template <int KIND>
static __global__ void __launch_bounds__(256) widen_blocks(struct rows r)
{
    const int64_t at = ((int64_t)blockIdx.x * blockDim.x + threadIdx.x) * 8;
    float         v[8];

    if (at >= r.c) return;
    for (int64_t i = blockIdx.y; i < r.n; i += gridDim.y) {
        eight<KIND>(v, r.from + (r.ids ? r.ids[i] : i) * r.row_bytes, (uint64_t)at);
        if (r.scale != 0.0f) {
#pragma unroll
            for (int k = 0; k < 8; k++) v[k] *= r.scale;
        }
        store8(r.to, r.to_type, i * r.ldto + at, v, 8, r.wide);
    }
}

/* 2^120 and 2^112 move the exponents, denormals too. */
static __device__ __forceinline__ float f8_of(unsigned int b, bool e4m3)
{
    const unsigned int a = b & 0x7fu;
    unsigned int       u;

    if (e4m3) {
        u = __float_as_uint(__uint_as_float(a << 20) * __uint_as_float(247u << 23));
        u = a == 0x7fu ? 0x7fc00000u : u;
    } else {
        u = __float_as_uint(__uint_as_float(a << 21) * __uint_as_float(239u << 23));
        u |= a >= 0x7cu ? 0x7f800000u : 0u;
    }
    return __uint_as_float(u | (b & 0x80u) << 24);
}

/* Rows of any length at any address. */
static __global__ void __launch_bounds__(256) widen_f8(struct rows r, bool e4m3)
{
    const int64_t at = ((int64_t)blockIdx.x * blockDim.x + threadIdx.x) * 8;
    const int     m = r.c - at < 8 ? (int)(r.c - at) : 8;
    float         v[8];

    if (at >= r.c) return;
    for (int64_t i = blockIdx.y; i < r.n; i += gridDim.y) {
        const uint8_t     *p = r.from + (r.ids ? r.ids[i] : i) * r.row_bytes + at;
        struct eight_bytes b = {{0, 0}};

        if (m == 8 && (uintptr_t)p % 8 == 0) {
            b = bytes8<8>(p);
        } else {
            for (int k = 0; k < m; k++) b.w[k / 4] |= (unsigned int)p[k] << (k % 4 * 8);
        }
#pragma unroll
        for (int k = 0; k < 8; k++) v[k] = f8_of((unsigned int)byte_of(b, k), e4m3);
        if (r.scale != 0.0f) {
#pragma unroll
            for (int k = 0; k < 8; k++) v[k] *= r.scale;
        }
        store8(r.to, r.to_type, i * r.ldto + at, v, m, r.wide && m == 8);
    }
}

extern "C" void cuda_widen(struct dev *d, struct CUstream_st *stream, void *to, enum dtype to_type, int64_t ldto, const struct tensor *from,
                           const int32_t *ids, int64_t n, float scale)
{
    int64_t     ldfrom = cuda_pitch(from);
    struct rows r = {to, (int)to_type, ldto, n, tensor_cols(from), (const uint8_t *)from->data, 0, ids, scale, false};
    dim3        blocks;

    if (n <= 0 || r.c <= 0) return;
    if (!ids && (n == 1 || (ldto == r.c && ldfrom == r.c))) { /* one long row */
        r.c *= n;
        r.n = 1;
        ldfrom = r.ldto = r.c;
    }
    r.row_bytes = (int64_t)dtype_row_bytes(from->type, ldfrom);
    r.wide = (uintptr_t)to % 16 == 0 && (r.n == 1 || r.ldto * (int64_t)dtype_bytes(to_type) % 16 == 0);
    blocks = dim3((unsigned)((r.c + 2047) / 2048), (unsigned)(r.n < 65535 ? r.n : 65535), 1);
    cuda_enter(d);
    switch (from->type) {
    case DTYPE_F8_E4M3: widen_f8<<<blocks, 256, 0, stream>>>(r, true); break;
    case DTYPE_F8_E5M2: widen_f8<<<blocks, 256, 0, stream>>>(r, false); break;
    case DTYPE_Q8_0: widen_blocks<DTYPE_Q8_0><<<blocks, 256, 0, stream>>>(r); break;
    case DTYPE_Q4_0: widen_blocks<DTYPE_Q4_0><<<blocks, 256, 0, stream>>>(r); break;
    case DTYPE_Q4_1: widen_blocks<DTYPE_Q4_1><<<blocks, 256, 0, stream>>>(r); break;
    case DTYPE_Q5_0: widen_blocks<DTYPE_Q5_0><<<blocks, 256, 0, stream>>>(r); break;
    case DTYPE_Q5_1: widen_blocks<DTYPE_Q5_1><<<blocks, 256, 0, stream>>>(r); break;
    case DTYPE_IQ4_NL: widen_blocks<DTYPE_IQ4_NL><<<blocks, 256, 0, stream>>>(r); break;
    case DTYPE_Q2_K: widen_blocks<DTYPE_Q2_K><<<blocks, 256, 0, stream>>>(r); break;
    case DTYPE_Q3_K: widen_blocks<DTYPE_Q3_K><<<blocks, 256, 0, stream>>>(r); break;
    case DTYPE_Q4_K: widen_blocks<DTYPE_Q4_K><<<blocks, 256, 0, stream>>>(r); break;
    case DTYPE_Q5_K: widen_blocks<DTYPE_Q5_K><<<blocks, 256, 0, stream>>>(r); break;
    case DTYPE_Q6_K: widen_blocks<DTYPE_Q6_K><<<blocks, 256, 0, stream>>>(r); break;
    case DTYPE_IQ4_XS: widen_blocks<DTYPE_IQ4_XS><<<blocks, 256, 0, stream>>>(r); break;
    default: dev_fail(d, ERR_STATE, "%s: weights of kind %s cannot be widened", d->name, dtype_name(from->type)); return;
    }
    cuda_note(d, "widen");
}
