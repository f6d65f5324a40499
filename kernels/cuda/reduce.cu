/* reduce.cu - sums and checks of a whole tensor for the host: PARTS parts of fixed size on the device, folded in order on the host. */
#include "kernels/cuda/common.cuh"

#define PARTS 1024
static_assert(PARTS * sizeof(double) <= CUDA_HOST_BYTES, "the parts fit the pinned page");

/* part[b] = the double sum of x^2 over elements b*256 + t + k*PARTS*256. */
static __global__ void squares(const float *x, int64_t n, double *part)
{
    __shared__ double room[256];
    double            s = 0.0;

    for (int64_t i = (int64_t)blockIdx.x * 256 + threadIdx.x; i < n; i += PARTS * 256) s += (double)x[i] * (double)x[i];
    room[threadIdx.x] = s;
    __syncthreads();
    for (int half = 128; half > 0; half /= 2) {
        if ((int)threadIdx.x < half) room[threadIdx.x] += room[threadIdx.x + half];
        __syncthreads();
    }
    if (threadIdx.x == 0) part[blockIdx.x] = room[0];
}

/* part[b] = 1 when one of its elements is not finite, else 0. */
static __global__ void wild(const float *x, int64_t n, double *part)
{
    int bad = 0;

    for (int64_t i = (int64_t)blockIdx.x * 256 + threadIdx.x; i < n; i += PARTS * 256) bad |= (__float_as_uint(x[i]) & 0x7f800000u) == 0x7f800000u;
    bad = __syncthreads_or(bad);
    if (threadIdx.x == 0) part[blockIdx.x] = bad ? 1.0 : 0.0;
}

/* The parts' sum; 0 after a failure, which sticks. */
static double fold(struct dev *d, const struct tensor *x, bool finite)
{
    double *part = (double *)cuda_space(d, SLOT_SUMS, PARTS * sizeof(double)), *host = (double *)cuda_of(d)->host, sum = 0.0;
    struct err e = {};

    if (!part) return 0.0;
    if (finite) wild<<<PARTS, 256, 0, cuda_stream(d)>>>((const float *)x->data, tensor_count(x), part);
    else squares<<<PARTS, 256, 0, cuda_stream(d)>>>((const float *)x->data, tensor_count(x), part);
    cuda_note(d, "reduce");
    if (d->err.code) return 0.0;
    if (d->ops->get(d, part, host, PARTS * sizeof(double), &e)) {
        dev_fail(d, e.code, "%s", e.text);
        return 0.0;
    }
    for (int i = 0; i < PARTS; i++) sum += host[i];
    return sum;
}

extern "C" double cuda_sum_squares(struct dev *d, const struct tensor *x)
{
    return fold(d, x, false);
}

extern "C" bool cuda_all_finite(struct dev *d, const struct tensor *x)
{
    return fold(d, x, true) == 0.0;
}

/* Sums of whole numbers have no order, so these may be added as they come. */
static __global__ void digest(const uint16_t *at, int64_t ld, int64_t c, int64_t total, unsigned long long *sum)
{
    unsigned long long part = 0;

    for (int64_t i = (int64_t)blockIdx.x * 256 + threadIdx.x; i < total; i += (int64_t)gridDim.x * 256) {
        unsigned long long z = at[i / c * ld + i % c] + (unsigned long long)(i + 1) * 0x9e3779b97f4a7c15u;

        z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
        z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
        part += z ^ (z >> 31);
    }
    for (int d = 16; d > 0; d >>= 1) part += __shfl_xor_sync(0xffffffffu, part, d);
    if (threadIdx.x % 32 == 0) atomicAdd(sum, part);
}

extern "C" bool cuda_digest(struct dev *d, const void *at, size_t ld_bytes, size_t row_bytes, int64_t n, uint64_t *out)
{
    unsigned long long *sum = (unsigned long long *)cuda_space(d, SLOT_SUMS, PARTS * sizeof(double)), *host = (unsigned long long *)cuda_of(d)->host;
    const int64_t       c = (int64_t)(row_bytes / 2);

    if (!sum || cudaMemsetAsync(sum, 0, sizeof *sum, cuda_stream(d)) != cudaSuccess) return false;
    digest<<<1024, 256, 0, cuda_stream(d)>>>((const uint16_t *)at, (int64_t)(ld_bytes / 2), c, c * n, sum);
    if (cudaMemcpyAsync(host, sum, sizeof *sum, cudaMemcpyDeviceToHost, cuda_stream(d)) != cudaSuccess ||
        cudaStreamSynchronize(cuda_stream(d)) != cudaSuccess) return false;
    *out = *host;
    return true;
}

extern "C" bool cuda_has_code(void)
{
    struct cudaFuncAttributes a;
    bool                      has = cudaFuncGetAttributes(&a, wild) == cudaSuccess;

    cudaGetLastError();
    return has;
}
