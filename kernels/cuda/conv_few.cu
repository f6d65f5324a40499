/* conv_few.cu - 3x3 convolutions to at most eight channels (a decoder's last, to RGB), where general kernels waste their tiles: bf16 in, sums in
 * F32 on the tensor cores, bias and residual added before the one rounding.
 *
 * A block makes a tile of pixels; the tile and the pixels around it pass through shared memory 32 channels at a time. A warp has 16 columns and
 * WARP_ROWS rows of it: what it reads of a line serves the three rows of results that the line touches.
 * Not here: other widths (dnn.c, conv.cu). */
#include "kernels/cuda/common.cuh"
#include "kernels/cuda/mma.cuh"

#define TILE_H    16
#define TILE_W    32
#define WARP_ROWS 4
#define CHANNELS  32
#define PITCH     (CHANNELS + 8) /* elements of a pixel: neighbouring pixels in other banks */
#define LINE      (TILE_W + 2)
#define PIXELS    ((TILE_H + 2) * LINE)
#define WIDE      8 /* rows of the weight, with zeros */

struct few {
    struct operand       y, bias, add;
    const __nv_bfloat16 *x, *w; /* w [WIDE, 9, ci] */
    int64_t              h, width, ci, co;
    int64_t              low, high; /* x has rows low .. high */
};

/* Elements of a row of the weight in shared memory: whole CHANNELS, and rows in other banks. */
static __host__ __device__ __forceinline__ int64_t weight_pitch(int64_t ci)
{
    return 9 * ((ci + CHANNELS - 1) / CHANNELS * CHANNELS) + 8;
}

static __device__ __forceinline__ void load_weight(__nv_bfloat16 *to, const struct few *f)
{
    const int padded = (int)((f->ci + CHANNELS - 1) / CHANNELS * CHANNELS), eights = padded / 8;

    for (int i = threadIdx.x; i < WIDE * 9 * eights; i += 256) {
        const int c = i % eights * 8, tap = i / eights % 9, o = i / eights / 9;
        uint4     u = make_uint4(0, 0, 0, 0);

        if (c < f->ci) u = *(const uint4 *)(f->w + ((int64_t)o * 9 + tap) * f->ci + c);
        *(uint4 *)(to + o * weight_pitch(f->ci) + tap * padded + c) = u;
    }
}

/* CHANNELS channels from `first` on of the tile at (row, col) and the pixels around it; zeros outside. */
static __device__ __forceinline__ void load_pixels(__nv_bfloat16 *to, const struct few *f, int64_t row, int64_t col, int64_t first)
{
    for (int i = threadIdx.x; i < PIXELS * (CHANNELS / 8); i += 256) {
        const int          p = i / (CHANNELS / 8), c = i % (CHANNELS / 8) * 8;
        const int64_t      py = row + p / LINE - 1, px = col + p % LINE - 1;
        const bool         in = py >= f->low && py < f->high && px >= 0 && px < f->width && first + c < f->ci;
        const void        *from = in ? f->x + (py * f->width + px) * f->ci + first + c : f->x;
        const unsigned int at = (unsigned int)__cvta_generic_to_shared(to + p * PITCH + c);

        asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(at), "l"(from), "r"(in ? 16 : 0) : "memory");
    }
    asm volatile("cp.async.wait_all;" ::: "memory");
}

static __device__ __forceinline__ void store_pixels(const struct few *f, const float sum[4], int64_t row, int64_t col, int lane)
{
#pragma unroll
    for (int i = 0; i < 4; i++) {
        const int64_t px = col + lane / 4 + i / 2 * 8, o = lane % 4 * 2 + i % 2, at = (row * f->width + px) * f->co + o;

        if (row >= f->h || px >= f->width || o >= f->co) continue;
        store1(f->y.p, f->y.type, at, sum[i] + load1(f->bias.p, f->bias.type, o) + (f->add.p ? load1(f->add.p, f->add.type, at) : 0.0f));
    }
}

static __global__ void __launch_bounds__(256) conv_few(struct few f)
{
    extern __shared__ uint4 shared[];
    __nv_bfloat16          *tile = (__nv_bfloat16 *)shared, *weight = tile + PIXELS * PITCH;
    const int               lane = threadIdx.x % 32, warp = threadIdx.x / 32, wx = warp % 2 * 16, wy = warp / 2 * WARP_ROWS;
    const int               padded = (int)((f.ci + CHANNELS - 1) / CHANNELS * CHANNELS);
    const int64_t           row = (int64_t)blockIdx.y * TILE_H, col = (int64_t)blockIdx.x * TILE_W;
    const __nv_bfloat16    *wl = weight + lane / 4 * weight_pitch(f.ci) + lane % 4 * 2;
    float                   sum[WARP_ROWS][4] = {{0}};

    load_weight(weight, &f);
    for (int first = 0; first < padded; first += CHANNELS) {
        __syncthreads();
        load_pixels(tile, &f, row, col, first);
        __syncthreads();
#pragma unroll
        for (int k = 0; k < CHANNELS; k += 16) {
            unsigned int b[9][2];

#pragma unroll
            for (int tap = 0; tap < 9; tap++) {
                b[tap][0] = *(const unsigned int *)(wl + tap * padded + first + k);
                b[tap][1] = *(const unsigned int *)(wl + tap * padded + first + k + 8);
            }
#pragma unroll
            for (int line = 0; line < WARP_ROWS + 2; line++) {
#pragma unroll
                for (int kx = 0; kx < 3; kx++) {
                    unsigned int a[4];

                    ldmatrix(a, tile + ((wy + line) * LINE + wx + kx + lane % 16) * PITCH + k + lane / 16 * 8);
#pragma unroll
                    for (int ky = 0; ky < 3; ky++) {
                        if (line - ky >= 0 && line - ky < WARP_ROWS) mma(sum[line - ky], a, b[ky * 3 + kx][0], b[ky * 3 + kx][1]);
                    }
                }
            }
        }
    }
#pragma unroll
    for (int r = 0; r < WARP_ROWS; r++) store_pixels(&f, sum[r], row + wy + r, col + wx, lane);
}

extern "C" bool conv_few3x3(struct dev *d, struct tensor *y, const struct tensor *x, const void *w, const struct tensor *bias, const struct tensor *add)
{
    const int64_t rows = y->dim[0], given = x->dim[0] > rows, width = x->dim[1], ci = x->dim[2];
    const size_t  bytes = (size_t)(PIXELS * PITCH + WIDE * weight_pitch(ci)) * 2;
    const dim3    blocks((unsigned)((width + TILE_W - 1) / TILE_W), (unsigned)((rows + TILE_H - 1) / TILE_H));
    struct few    f = {};

    if (y->dim[2] > WIDE || ci % 8 || x->type != DTYPE_BF16 || (uintptr_t)x->data % 16 || blocks.y > 65535) return false;
    if (cudaFuncSetAttribute(conv_few, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)bytes) != cudaSuccess) {
        cudaGetLastError(); /* more than this GPU has: an answer, not a state */
        return false;
    }
    f.y = operand_of(y), f.bias = operand_of(bias), f.add = operand_of(add);
    f.x = (const __nv_bfloat16 *)x->data + given * width * ci, f.w = (const __nv_bfloat16 *)w;
    f.h = rows, f.width = width, f.ci = ci, f.co = y->dim[2];
    f.low = -given, f.high = rows + given;
    conv_few<<<blocks, 256, bytes, cuda_stream(d)>>>(f);
    cuda_note(d, "conv2d");
    return true;
}
