/* gemm.cu - a product of our own, for machines without cublasLt and for what it refuses: tiles of 64 x 64, F32 multiply-adds.
 * The order of a sum depends on k alone. Not here: tensor cores (blas.c has them). */
#include "kernels/cuda/common.cuh"

#define TILE 64
#define DEPTH 16

static __global__ void product(struct gemm g, int64_t tiles_m)
{
    __shared__ float xs[DEPTH][TILE + 4], ws[DEPTH][TILE + 4];
    const int64_t    row = blockIdx.x / tiles_m * TILE, col = blockIdx.x % tiles_m * TILE;
    const int        t = threadIdx.x, ty = t / 16 * 4, tx = t % 16 * 4;
    float            acc[4][4] = {{0}};

    for (int64_t at = 0; at < g.k; at += DEPTH) {
        for (int i = t; i < TILE * DEPTH; i += 256) {
            const int     r = i / DEPTH, l = i % DEPTH; /* neighbouring threads: neighbouring k */
            const int     rk = i % TILE, lk = i / TILE; /* of w [k,m]: neighbouring m */
            const int64_t depth = at + l, depth_k = at + lk;

            xs[l][r] = row + r < g.n && depth < g.k ? load1(g.x, g.type, (row + r) * g.ldx + depth) : 0.0f;
            if (g.w_is_km) ws[lk][rk] = col + rk < g.m && depth_k < g.k ? load1(g.w, g.type, depth_k * g.ldw + col + rk) : 0.0f;
            else ws[l][r] = col + r < g.m && depth < g.k ? load1(g.w, g.type, (col + r) * g.ldw + depth) : 0.0f;
        }
        __syncthreads();
#pragma unroll
        for (int l = 0; l < DEPTH; l++) {
            float a[4], b[4];

#pragma unroll
            for (int i = 0; i < 4; i++) {
                a[i] = xs[l][ty + i];
                b[i] = ws[l][tx + i];
            }
#pragma unroll
            for (int i = 0; i < 4; i++) {
#pragma unroll
                for (int j = 0; j < 4; j++) acc[i][j] = fmaf(a[i], b[j], acc[i][j]);
            }
        }
        __syncthreads();
    }
#pragma unroll
    for (int i = 0; i < 4; i++) {
#pragma unroll
        for (int j = 0; j < 4; j++) {
            const int64_t r = row + ty + i, c = col + tx + j;
            float         v = acc[i][j] * g.alpha;

            if (r >= g.n || c >= g.m) continue;
            if (g.bias) v += load1(g.bias, g.y_type, c);
            if (g.add) v += load1(g.add, g.y_type, r * g.ldy + c);
            store1(g.y, g.y_type, r * g.ldy + c, v);
        }
    }
}

extern "C" void plain_gemm(struct dev *d, const struct gemm *g)
{
    const int64_t tiles_n = (g->n + TILE - 1) / TILE, tiles_m = (g->m + TILE - 1) / TILE;

    cuda_enter(d);
    cuda_of(d)->n_plain++;
    product<<<(unsigned)(tiles_n * tiles_m), 256, 0, cuda_stream(d)>>>(*g, tiles_m);
    cuda_note(d, "product");
}
