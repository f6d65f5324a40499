/* rope.cu - rotary positions in place. A thread turns one pair; neighbouring threads have neighbouring pairs. */
#include "kernels/cuda/common.cuh"

/* x [n, h, 2 half]; step: distance between the two of a pair (1: interleaved, half: rotate_half). */
static __global__ void rope(struct operand x, struct operand cs, struct operand sn, int64_t n, int64_t h, int64_t half, bool pairs)
{
    const int64_t total = n * h * half, stride = (int64_t)gridDim.x * blockDim.x;

    for (int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x; i < total; i += stride) {
        const int64_t k = i % half, head = i / half % h, row = i / half / h, base = row * x.pitch + head * 2 * half;
        const int64_t one = base + (pairs ? 2 * k : k), two = base + (pairs ? 2 * k + 1 : k + half);
        const float   a = load1(x.p, x.type, one), b = load1(x.p, x.type, two);
        const float   c = ((const float *)cs.p)[row * cs.pitch + k], s = ((const float *)sn.p)[row * sn.pitch + k];

        store1(x.p, x.type, one, a * c - b * s);
        store1(x.p, x.type, two, a * s + b * c);
    }
}

static void run(struct dev *d, struct tensor *x, const struct tensor *cs, const struct tensor *sn, bool pairs)
{
    const int64_t n = x->dim[0], h = x->dim[1], half = x->dim[2] / 2;

    cuda_enter(d);
    rope<<<cuda_blocks(n * h * half, 256), 256, 0, cuda_stream(d)>>>(operand_of(x), operand_of(cs), operand_of(sn), n, h, half, pairs);
    cuda_note(d, "rope");
}

extern "C" void cuda_rope_pairs(struct dev *d, struct tensor *x, const struct tensor *cos, const struct tensor *sin)
{
    run(d, x, cos, sin, true);
}

extern "C" void cuda_rope_halves(struct dev *d, struct tensor *x, const struct tensor *cos, const struct tensor *sin)
{
    run(d, x, cos, sin, false);
}
