/* common.cuh - what every .cu file says: launch, then note a failure on the device. */
#ifndef KERNELS_CUDA_COMMON_CUH
#define KERNELS_CUDA_COMMON_CUH

#include <cuda_runtime.h>

extern "C" {
#include "kernels/cuda/ops.h"
}

/* Blocks of `threads` for n elements; kernels walk on by the whole grid, so a cap is enough for any n. */
static inline unsigned cuda_blocks(int64_t n, int threads)
{
    int64_t blocks = (n + threads - 1) / threads;

    return (unsigned)(blocks < 65535 ? blocks : 65535);
}

/* After a launch: a failure sticks in d->err. */
static inline void cuda_note(struct dev *d, const char *op)
{
    cudaError_t rc = cudaGetLastError();

    if (rc != cudaSuccess) dev_fail(d, ERR_DEVICE, "%s: %s: %s", d->name, op, cudaGetErrorString(rc));
}

#endif
