/* common.cuh - what the .cu files share: operands of any float type read and written eight at a time, sums over a warp or a block,
 * the note after a launch. Arithmetic is F32; a 16-bit result is rounded once, when it is stored.
 * `wide` says that every operand is 16-byte aligned in every row and that rows are whole eights (wide_of()). */
#ifndef KERNELS_CUDA_COMMON_CUH
#define KERNELS_CUDA_COMMON_CUH

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

extern "C" {
#include "kernels/cuda/ops.h"
}

/* Blocks of `threads` for n elements; kernels walk on by the whole grid, so a cap is enough for any n. */
static inline unsigned cuda_blocks(int64_t n, int threads)
{
    int64_t blocks = (n + threads - 1) / threads;

    return (unsigned)(blocks < 65535 ? (blocks > 0 ? blocks : 1) : 65535);
}

/* After a launch: a failure sticks in d->err. */
static inline void cuda_note(struct dev *d, const char *op)
{
    cudaError_t rc = cudaGetLastError();

    if (rc != cudaSuccess) dev_fail(d, ERR_DEVICE, "%s: %s: %s", d->name, op, cudaGetErrorString(rc));
}

/* Rows of floats as a kernel sees them; p NULL: there is none. */
struct operand {
    void   *p;
    int     type;
    int64_t pitch;
};

static inline struct operand operand_of(const struct tensor *t)
{
    struct operand o = {NULL, 0, 0};

    if (t) {
        o.p = t->data;
        o.type = (int)t->type;
        o.pitch = cuda_pitch(t);
    }
    return o;
}

/* Rows of c start at multiples of 16 bytes and hold whole eights. */
static inline bool wide_of(const struct operand *o, int64_t c)
{
    return !o->p || (c % 8 == 0 && (uintptr_t)o->p % 16 == 0 && o->pitch * (o->type == DTYPE_F32 ? 4 : 2) % 16 == 0);
}

static __device__ __forceinline__ float load1(const void *p, int type, int64_t at)
{
    if (type == DTYPE_F32) return ((const float *)p)[at];
    if (type == DTYPE_BF16) return __bfloat162float(((const __nv_bfloat16 *)p)[at]);
    return __half2float(((const __half *)p)[at]);
}

static __device__ __forceinline__ void store1(void *p, int type, int64_t at, float v)
{
    if (type == DTYPE_F32) ((float *)p)[at] = v;
    else if (type == DTYPE_BF16) ((__nv_bfloat16 *)p)[at] = __float2bfloat16_rn(v);
    else ((__half *)p)[at] = __float2half_rn(v);
}

/* v[0..n) from element at on, the rest 0; n <= 8, n == 8 when wide. */
static __device__ __forceinline__ void load8(float v[8], const void *p, int type, int64_t at, int n, bool wide)
{
    if (!wide) {
#pragma unroll
        for (int i = 0; i < 8; i++) v[i] = i < n ? load1(p, type, at + i) : 0.0f;
    } else if (type == DTYPE_F32) {
        const float4 *q = (const float4 *)((const float *)p + at);
        float4        a = q[0], b = q[1];

        v[0] = a.x, v[1] = a.y, v[2] = a.z, v[3] = a.w;
        v[4] = b.x, v[5] = b.y, v[6] = b.z, v[7] = b.w;
    } else {
        uint4        u = *(const uint4 *)((const uint16_t *)p + at);
        unsigned int w[4] = {u.x, u.y, u.z, u.w};

#pragma unroll
        for (int i = 0; i < 4; i++) {
            if (type == DTYPE_BF16) {
                v[2 * i] = __uint_as_float(w[i] << 16);
                v[2 * i + 1] = __uint_as_float(w[i] & 0xffff0000u);
            } else {
                v[2 * i] = __half2float(__ushort_as_half((unsigned short)(w[i] & 0xffffu)));
                v[2 * i + 1] = __half2float(__ushort_as_half((unsigned short)(w[i] >> 16)));
            }
        }
    }
}

static __device__ __forceinline__ unsigned int pack_bf16(float low, float high)
{
    return (unsigned int)__bfloat16_as_ushort(__float2bfloat16_rn(low)) | (unsigned int)__bfloat16_as_ushort(__float2bfloat16_rn(high)) << 16;
}

/* Eight bf16 as they lie in memory. */
static __device__ __forceinline__ void widen8(float v[8], uint4 u)
{
    const unsigned int w[4] = {u.x, u.y, u.z, u.w};

#pragma unroll
    for (int i = 0; i < 4; i++) {
        v[2 * i] = __uint_as_float(w[i] << 16);
        v[2 * i + 1] = __uint_as_float(w[i] & 0xffff0000u);
    }
}

static __device__ __forceinline__ uint4 narrow8(const float v[8])
{
    return make_uint4(pack_bf16(v[0], v[1]), pack_bf16(v[2], v[3]), pack_bf16(v[4], v[5]), pack_bf16(v[6], v[7]));
}

static __device__ __forceinline__ void store8(void *p, int type, int64_t at, const float v[8], int n, bool wide)
{
    if (!wide) {
#pragma unroll
        for (int i = 0; i < 8; i++) {
            if (i < n) store1(p, type, at + i, v[i]);
        }
    } else if (type == DTYPE_F32) {
        float4 *q = (float4 *)((float *)p + at);

        q[0] = make_float4(v[0], v[1], v[2], v[3]);
        q[1] = make_float4(v[4], v[5], v[6], v[7]);
    } else {
        unsigned int w[4];

#pragma unroll
        for (int i = 0; i < 4; i++) {
            if (type == DTYPE_BF16) {
                w[i] = pack_bf16(v[2 * i], v[2 * i + 1]);
            } else {
                w[i] = (unsigned int)__half_as_ushort(__float2half_rn(v[2 * i])) |
                       (unsigned int)__half_as_ushort(__float2half_rn(v[2 * i + 1])) << 16;
            }
        }
        *(uint4 *)((uint16_t *)p + at) = make_uint4(w[0], w[1], w[2], w[3]);
    }
}

static __device__ __forceinline__ float silu(float x)
{
    return x / (1.0f + expf(-x));
}

static __device__ __forceinline__ float warp_sum(float v)
{
#pragma unroll
    for (int d = 16; d > 0; d >>= 1) v += __shfl_xor_sync(0xffffffffu, v, d);
    return v;
}

static __device__ __forceinline__ float warp_max(float v)
{
#pragma unroll
    for (int d = 16; d > 0; d >>= 1) v = fmaxf(v, __shfl_xor_sync(0xffffffffu, v, d));
    return v;
}

/* The sum over a block of 256, the same in all its threads; `room` has 8 floats and may be used again at once. */
static __device__ __forceinline__ float block_sum(float v, float *room)
{
    float s = 0.0f;

    v = warp_sum(v);
    if (threadIdx.x % 32 == 0) room[threadIdx.x / 32] = v;
    __syncthreads();
#pragma unroll
    for (int i = 0; i < 8; i++) s += room[i];
    __syncthreads();
    return s;
}

static __device__ __forceinline__ float block_max(float v, float *room)
{
    float m = -INFINITY;

    v = warp_max(v);
    if (threadIdx.x % 32 == 0) room[threadIdx.x / 32] = v;
    __syncthreads();
#pragma unroll
    for (int i = 0; i < 8; i++) m = fmaxf(m, room[i]);
    __syncthreads();
    return m;
}

/* Blocks of 256 threads over rows of eights: x walks the eights of a row, y the rows. */
struct cut {
    dim3 blocks, threads;
};

static inline struct cut cut_rows(const struct dev *d, int64_t n, int64_t c)
{
    struct cut k;
    int64_t    eights = (c + 7) / 8, across = 1, down, most;

    while (across < eights && across < 256) across *= 2;
    k.threads = dim3((unsigned)across, (unsigned)(256 / across));
    k.blocks.x = (unsigned)((eights + across - 1) / across);
    down = (n + k.threads.y - 1) / k.threads.y;
    most = (int64_t)cuda_of(d)->n_sm * 16 / k.blocks.x + 1;
    k.blocks.y = (unsigned)(down < most ? down : most);
    k.blocks.z = 1;
    return k;
}

#endif
