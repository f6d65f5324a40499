/* hopper.cu - the products of gate and up, of bf16 on sm_90, that end in SwiGLU: neither goes to memory and back. It is computed from the F32 sums,
 * not from their rounding to 16 bits.
 *
 * A tile of 128 rows and 128 gates with their 128 partners belongs to a block of three warpgroups: one starts the copies (four stages of 64
 * columns), two multiply 64 rows each. Two blocks, a cluster, share what they can: the weights, where their tiles lie one below the other, or
 * the rows, where they lie side by side (the last row of an odd number of tiles). Blocks stay and take tiles in a fixed order; while a tile ends,
 * the copies of the next are under way. Design: CUTLASS's warp-specialised persistent kernels; PTX ISA 8.0.
 *
 * Under load the card's power is the limit, and what comes from memory costs some: the cache is told to let weights and results go first, not the rows.
 *
 * A sum is made in an order that depends on k alone. Widths are whole tiles, rows need not be: what lies outside is read as zeros and not written.
 * Not here: any other product (blas.c; an end with the heads' norm and rotation gained nothing, docs/PERFORMANCE.md), other GPUs, F32. */
#include <dlfcn.h>
#include <string.h>

#include "kernels/cuda/common.cuh"
#include "kernels/cuda/hopper.cuh"

extern "C" {
#include "kernels/quant.h"
}

#define TILE_M  128
#define TILE_N  256
#define TILE_K  64
#define STAGES  4
#define THREADS 384

#define BAND      8     /* pairs of rows of tiles: about 2048 rows of x, at most 2944, stay in the cache while the weights go by */
#define BUSY      0.85f /* so many of the multiprocessors have work throughout, or it is not taken */
#define BUSY_ONCE 0.5f  /* of a single round, which waits for weights from memory rather than for products */

#define CACHE_BYTES ((int64_t)32 << 20) /* results of more bytes are not in the cache any more when they are read */

#define X_BYTES     (TILE_M * TILE_K * 2)
#define W_BYTES     (TILE_N * TILE_K * 2)
#define HALF_BYTES  (64 * TILE_K * 2)      /* 64 rows of x; also 64 x 64 results on their way out */
#define OUT_BYTES   (2 * 2 * HALF_BYTES)   /* 64 x 128 results of each of two warpgroups */
#define ROOM_BYTES  (STAGES * (X_BYTES + W_BYTES) + OUT_BYTES + 2 * STAGES * 8)

struct work {
    CUtensorMap x, w, y; /* boxes of 64, 128 and 64 rows */
    int         tiles_m, tiles_n, n_bands, n_pairs, steps;
    int         width;   /* of y: as many rows of w are gates, then as many are what they let through */
    bool        y_stays; /* in the cache */
};

struct place {
    int  m, n;
    bool side; /* by side: the rows are shared, else the weights */
};

/* Rows of tiles are taken in bands, which stay in the cache while the weights go by; in a band, columns two at a time, in each first the pairs of rows.
 * An odd last row belongs to the last band. Block `rank` of a cluster gets: */
static __device__ __forceinline__ struct place place_of(const struct work *w, int pair, int rank)
{
    const int    pairs = w->tiles_m / 2;
    int          band = 1, first = 0, next = pairs / w->n_bands, rows, per_two, two, r, columns;
    struct place p;

    while (band < w->n_bands && pair >= (next - first) * w->tiles_n) {
        pair -= (next - first) * w->tiles_n;
        first = next, next = pairs * ++band / w->n_bands;
    }
    rows = next - first, per_two = 2 * rows + (band == w->n_bands ? w->tiles_m % 2 : 0), two = pair / per_two, r = pair % per_two;
    columns = w->tiles_n - 2 * two < 2 ? 1 : 2;
    p.side = r >= columns * rows;
    p.m = p.side ? w->tiles_m - 1 : (first + r % rows) * 2 + rank;
    p.n = 2 * two + (p.side ? rank : r / rows);
    return p;
}

struct room { /* addresses in shared memory, the same in both blocks */
    uint32_t x, w, out, full, empty;
};

static __device__ __forceinline__ struct room room_of(uint32_t at)
{
    struct room s;

    s.x = at;
    s.w = s.x + STAGES * X_BYTES;
    s.out = s.w + STAGES * W_BYTES;
    s.full = s.out + OUT_BYTES;
    s.empty = s.full + STAGES * 8;
    return s;
}

static __device__ __forceinline__ void copy_tiles(const struct work *w, const struct room *s, int cluster, int n_clusters, int rank)
{
    const uint64_t stays = policy_stays(), goes = policy_goes();
    struct ring    stage = {0, 1}; /* all are empty: the phase before the first is over */

    for (int pair = cluster; pair < w->n_pairs; pair += n_clusters) {
        const struct place p = place_of(w, pair, rank);
        const int          row = p.m * TILE_M, col = p.n * (TILE_N / 2);

        for (int k = 0; k < w->steps; k++) {
            const uint32_t full = s->full + stage.at * 8, x = s->x + stage.at * X_BYTES, wt = s->w + stage.at * W_BYTES;

            barrier_wait(s->empty + stage.at * 8, stage.parity);
            barrier_expect(full, X_BYTES + W_BYTES);
            if (p.side) {
                tile_load_both(x + rank * HALF_BYTES, &w->x, k * TILE_K, row + rank * 64, full, stays);
                tile_load_by(wt, &w->w, k * TILE_K, col, full, goes);
                tile_load_by(wt + W_BYTES / 2, &w->w, k * TILE_K, col + w->width, full, goes);
            } else {
                tile_load_both(wt + rank * (W_BYTES / 2), &w->w, k * TILE_K, col + rank * w->width, full, goes);
                tile_load(x, &w->x, k * TILE_K, row, full);
                tile_load(x + HALF_BYTES, &w->x, k * TILE_K, row + 64, full);
            }
            ring_next<STAGES>(&stage);
        }
    }
}

/* v: 64 x 128 results of the group, in pairs, in the order of d of product_64x256x16(). On their way to y. */
static __device__ __forceinline__ void send(const struct work *w, uint32_t out, int group, const uint32_t v[32], int row, int col, uint64_t policy)
{
    const int lane = threadIdx.x % 32, r = threadIdx.x % 128 / 32 * 16 + lane % 16;

    if (threadIdx.x % 128 == 0) stores_read();
    group_sync(1 + group);
#pragma unroll
    for (int j = 0; j < 8; j++) /* 16 columns */
        stmatrix(tile_at(out + j / 4 * HALF_BYTES, r, j % 4 * 2 + lane / 16), v[4 * j], v[4 * j + 1], v[4 * j + 2], v[4 * j + 3]);
    written_for_copies();
    group_sync(1 + group);
    if (threadIdx.x % 128 == 0) {
        tile_store(&w->y, out, col, row, policy);
        tile_store(&w->y, out + HALF_BYTES, col + 64, row, policy);
        stores_commit();
    }
}

static __device__ __forceinline__ float swiglu1(float g, float up)
{
    return __fdividef(g, 1.0f + __expf(-g)) * up;
}

/* d's first 128 columns are gates, its others what they let through. */
static __device__ __forceinline__ void end_swiglu(const struct work *w, const float d[128], uint32_t out, int group, int row, int tile, uint64_t policy)
{
    uint32_t v[32];

#pragma unroll
    for (int i = 0; i < 32; i++) v[i] = pack_bf16(swiglu1(d[2 * i], d[2 * i + 64]), swiglu1(d[2 * i + 1], d[2 * i + 65]));
    send(w, out, group, v, row, tile * (TILE_N / 2), policy);
}

static __device__ __forceinline__ void multiply(const struct work *w, const struct room *s, int group, int cluster, int n_clusters, int rank)
{
    const uint64_t policy = w->y_stays ? policy_stays() : policy_goes();
    const uint32_t out = s->out + group * (OUT_BYTES / 2);
    const bool     tells = threadIdx.x % 128 < 2; /* one thread for each block of the cluster */
    struct ring    stage = {0, 0};
    int            last = 0;
    float          d[128];

    for (int pair = cluster; pair < w->n_pairs; pair += n_clusters) {
        const struct place p = place_of(w, pair, rank);

        for (int k = 0; k < w->steps; k++) {
            const uint64_t x = tile_desc(s->x + stage.at * X_BYTES + group * HALF_BYTES), wt = tile_desc(s->w + stage.at * W_BYTES);

            barrier_wait(s->full + stage.at * 8, stage.parity);
            products_begin();
#pragma unroll
            for (int i = 0; i < TILE_K / 16; i++) product_64x256x16(d, x + 2 * i, wt + 2 * i, k > 0 || i > 0);
            products_commit();
            if (k > 0) {
                products_wait<1>();
                if (tells) barrier_arrive(s->empty + last * 8, threadIdx.x % 128);
            }
            last = stage.at;
            ring_next<STAGES>(&stage);
        }
        products_wait<0>();
        products_touch(d);
        if (tells) barrier_arrive(s->empty + last * 8, threadIdx.x % 128);
        end_swiglu(w, d, out, group, p.m * TILE_M + group * 64, p.n, policy);
    }
    if (threadIdx.x % 128 == 0) stores_done();
}

static __global__ void __cluster_dims__(2, 1, 1) __launch_bounds__(THREADS, 1) product(const __grid_constant__ struct work w)
{
    extern __shared__ __align__(1024) unsigned char memory[];
    const struct room s = room_of(shared_at(memory));
    const int         rank = (int)cluster_rank(), cluster = (int)blockIdx.x / 2, n_clusters = (int)gridDim.x / 2;

    if (threadIdx.x == 0) {
        for (int i = 0; i < STAGES; i++) {
            barrier_init(s.full + i * 8, 1);
            barrier_init(s.empty + i * 8, 4); /* two warpgroups of two blocks */
        }
        barrier_init_done();
    }
    cluster_sync();
    if (threadIdx.x < 128) {
        registers_give<40>();
        if (threadIdx.x == 0) copy_tiles(&w, &s, cluster, n_clusters, rank);
    } else {
        registers_take<232>();
        multiply(&w, &s, (int)threadIdx.x / 128 - 1, cluster, n_clusters, rank);
    }
    cluster_sync(); /* a block does not go while the other may still write into it, or tell it something */
}

/* ---- the host's side ---- */

typedef CUresult encode_f(CUtensorMap *, CUtensorMapDataType, cuuint32_t, void *, const cuuint64_t *, const cuuint64_t *, const cuuint32_t *, const cuuint32_t *,
                          CUtensorMapInterleave, CUtensorMapSwizzle, CUtensorMapL2promotion, CUtensorMapFloatOOBfill);

extern "C" void *hopper_open(int major, int minor)
{
    void *driver = major == 9 && minor == 0 ? dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL) : NULL;
    void *encode = driver ? dlsym(driver, "cuTensorMapEncodeTiled") : NULL; /* the driver stays: the runtime has it, too */

    if (!encode) return NULL;
    if (cudaFuncSetAttribute(product, cudaFuncAttributeMaxDynamicSharedMemorySize, ROOM_BYTES) == cudaSuccess && hopper_attention_open()) return encode;
    cudaGetLastError(); /* a GPU that lends less shared memory */
    return NULL;
}

bool hopper_map(struct dev *d, CUtensorMap *map, const void *at, int64_t ld, int64_t n, int64_t c, unsigned rows)
{
    const cuuint64_t size[2] = {(cuuint64_t)c, (cuuint64_t)n}, pitch[1] = {(cuuint64_t)ld * 2};
    const cuuint32_t box[2] = {64, rows}, step[2] = {1, 1};
    encode_f        *encode;

    memcpy(&encode, &cuda_of(d)->hopper, sizeof encode);
    return encode(map, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 2, (void *)at, size, pitch, box, step, CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
                  CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE) == CUDA_SUCCESS;
}

/* Are these taken here? The last round of tiles should not leave too many multiprocessors idle: the library has other tiles. */
static bool takes(struct dev *d, struct work *w, const struct tensor *y, const struct tensor *x, const struct tensor *w13)
{
    const struct operand xo = operand_of(x), wo = operand_of(w13), yo = operand_of(y);
    const int64_t        n = x->dim[0], k = x->dim[1], m = w13->dim[0];
    int                  at_once, rounds;

    if (!cuda_of(d)->hopper || cuda_of(d)->only[CUDA_ONLY_PLAIN] || cuda_of(d)->only[CUDA_ONLY_SEPARATE]) return false;
    if (xo.type != DTYPE_BF16 || yo.type != DTYPE_BF16 || w13->scale != 0.0f || !wide_of(&xo, k) || !wide_of(&yo, m / 2) || m % TILE_N) return false;
    if (!quant_is(w13->type) && (wo.type != DTYPE_BF16 || !wide_of(&wo, k))) return false;
    if (n > INT32_MAX / 2 || m > INT32_MAX / 2 || k > INT32_MAX / 2) return false;
    w->tiles_m = (int)((n + TILE_M - 1) / TILE_M), w->tiles_n = (int)(m / TILE_N), w->steps = (int)((k + TILE_K - 1) / TILE_K), w->width = (int)(m / 2);
    w->n_pairs = w->tiles_n / 2 * (w->tiles_m / 2 * 2 + w->tiles_m % 2) + w->tiles_n % 2 * (w->tiles_m / 2 + w->tiles_m % 2);
    w->n_bands = w->tiles_m / 2 < BAND ? 1 : (w->tiles_m / 2 + BAND / 2) / BAND;
    w->y_stays = n * w->width * 2 < CACHE_BYTES;
    at_once = cuda_of(d)->n_sm / 2, rounds = (w->n_pairs + at_once - 1) / at_once;
    return cuda_of(d)->only[CUDA_ONLY_JOINED] || (float)w->n_pairs >= (rounds == 1 ? BUSY_ONCE : BUSY) * (float)(rounds * at_once);
}

extern "C" bool cuda_linear_swiglu(struct dev *d, struct tensor *y, const struct tensor *x, const struct tensor *w13)
{
    const bool     blocks = quant_is(w13->type);
    const unsigned at_most = (unsigned)cuda_of(d)->n_sm / 2;
    int64_t        ldw = cuda_pitch(w13);
    struct work    w = {};
    const void    *at;
    bool           ok;

    if (!takes(d, &w, y, x, w13)) return false;
    if (!(at = blocks ? cuda_expanded(d, w13, DTYPE_BF16, &ldw) : w13->data)) return false;
    ok = hopper_map(d, &w.x, x->data, cuda_pitch(x), x->dim[0], x->dim[1], 64) && hopper_map(d, &w.w, at, ldw, w13->dim[0], w13->dim[1], TILE_N / 2) &&
         hopper_map(d, &w.y, y->data, cuda_pitch(y), y->dim[0], w.width, 64);
    if (ok) {
        cuda_enter(d);
        product<<<2 * ((unsigned)w.n_pairs < at_most ? (unsigned)w.n_pairs : at_most), THREADS, ROOM_BYTES, cuda_stream(d)>>>(w);
        cuda_note(d, "product and swiglu");
    }
    if (blocks) cuda_expanded_read(d);
    return ok;
}
