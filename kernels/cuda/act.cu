/* act.cu - elementwise ops. One launch each, memory-bound. */
#include "kernels/cuda/common.cuh"

/* One multiply-add with one rounding per element, as on the CPU. */
static __global__ void axpy(float *__restrict__ x, float a, const float *__restrict__ h, int64_t n)
{
    const int64_t step = (int64_t)gridDim.x * blockDim.x;

    for (int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x; i < n; i += step) x[i] = fmaf(a, h[i], x[i]);
}

extern "C" void cuda_axpy(struct dev *d, struct tensor *x, float a, const struct tensor *h)
{
    const int64_t n = tensor_count(x);

    axpy<<<cuda_blocks(n, 256), 256, 0, cuda_stream(d)>>>((float *)x->data, a, (const float *)h->data, n);
    cuda_note(d, "axpy");
}
