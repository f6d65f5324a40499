/* mma.cuh - the tensor cores' 16x8x16 product of bf16 with F32 sums, as a warp sees it, and how its operands come out of shared memory.
 * Element [r, c] of a 16x8 result: r = lane / 4 (+ 8 for values 2 and 3), c = lane % 4 * 2 (+ 1 for odd values). */
#ifndef KERNELS_CUDA_MMA_CUH
#define KERNELS_CUDA_MMA_CUH

#include <cuda_bf16.h>

/* `at`: an address in shared memory. */
static __device__ __forceinline__ void ldmatrix_at(unsigned int r[4], unsigned int at)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];" : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(at) : "memory");
}

static __device__ __forceinline__ void ldmatrix(unsigned int r[4], const __nv_bfloat16 *at)
{
    ldmatrix_at(r, (unsigned int)__cvta_generic_to_shared(at));
}

static __device__ __forceinline__ void ldmatrix_turned(unsigned int r[4], const __nv_bfloat16 *at)
{
    unsigned int s = (unsigned int)__cvta_generic_to_shared(at);

    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(s)
                 : "memory");
}

/* c[16,8] += a[16,16] b[16,8] */
static __device__ __forceinline__ void mma(float c[4], const unsigned int a[4], unsigned int b0, unsigned int b1)
{
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

#endif
