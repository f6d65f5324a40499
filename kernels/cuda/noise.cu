/* noise.cu - what torch.randn draws on a GPU, whatever this one is: Philox4x32-10 laid out over torch's thread grid (cpu/noise.c says it in C).
 * log, sqrt, sin and cos in double, rounded once. */
#include "kernels/cuda/common.cuh"

#define GRID_BLOCK 256
#define INV32      2.3283064365386963e-10f /* 2^-32 */
#define INV32_2PI  (INV32 * 6.2831855f)

static __device__ __forceinline__ void two_normals(unsigned int x, unsigned int y, float out[2])
{
    const float  u = fmaf((float)x, INV32, INV32 / 2), v = fmaf((float)y, INV32_2PI, INV32_2PI / 2);
    const double r = u >= 1.0f ? 0.0 : sqrt(-2.0 * log((double)u));
    double       sn, cs;

    sincos((double)v, &sn, &cs);
    out[0] = (float)(r * sn);
    out[1] = (float)(r * cs);
}

/* Thread and round t: values i, i + span, i + 2 span, i + 3 span of the round. */
static __global__ void draw(float *x, int64_t n, int64_t span, int64_t total, unsigned long long seed)
{
    const int64_t stride = (int64_t)gridDim.x * blockDim.x;

    for (int64_t t = (int64_t)blockIdx.x * blockDim.x + threadIdx.x; t < total; t += stride) {
        const int64_t round = t / span, i = t % span, base = round * 4 * span;
        unsigned int  c0 = (unsigned int)round, c1 = (unsigned int)(round >> 32), c2 = (unsigned int)i, c3 = (unsigned int)(i >> 32);
        unsigned int  k0 = (unsigned int)seed, k1 = (unsigned int)(seed >> 32);
        float         v[4];

        for (int r = 0; r < 10; r++) {
            const unsigned int h0 = __umulhi(0xD2511F53u, c0), l0 = 0xD2511F53u * c0, h1 = __umulhi(0xCD9E8D57u, c2), l1 = 0xCD9E8D57u * c2;

            c0 = h1 ^ c1 ^ k0, c1 = l1, c2 = h0 ^ c3 ^ k1, c3 = l0;
            k0 += 0x9E3779B9u, k1 += 0xBB67AE85u;
        }
        two_normals(c0, c1, v);
        two_normals(c2, c3, v + 2);
#pragma unroll
        for (int k = 0; k < 4; k++) {
            if (base + i + k * span < n) x[base + i + k * span] = v[k];
        }
    }
}

extern "C" void cuda_noise(struct dev *d, struct tensor *x, uint64_t seed, uint32_t n_threads)
{
    const int64_t n = tensor_count(x), blocks = (n + GRID_BLOCK - 1) / GRID_BLOCK, most = n_threads / GRID_BLOCK;
    const int64_t span = (blocks < most ? blocks : most) * GRID_BLOCK, total = (n + 4 * span - 1) / (4 * span) * span;

    cuda_enter(d);
    draw<<<cuda_blocks(total, 128), 128, 0, cuda_stream(d)>>>((float *)x->data, n, span, total, seed);
    cuda_note(d, "noise");
}
