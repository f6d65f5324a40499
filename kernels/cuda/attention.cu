/* attention.cu - softmax(scale q k^T) v without a matrix of scores: bf16 tensor-core products, F32 online softmax, heads up to 256 wide.
 *
 * A block has 64 queries of one head, a warp 16 of them; keys and values pass through shared memory in tiles. Heads are padded with zeros to
 * 32, 64, 128 or 256. A running maximum and sum per query; what was summed before is scaled down when the maximum rises.
 * The order of a sum depends on the shape alone. A row with a NaN score becomes NaN.
 * Long attentions that are not causal go to hopper_attention.cu, or to cuDNN where it is (dnn.c).
 * Not here: F32 attention and wider heads (attention_chunks.cu). */
#include "kernels/cuda/common.cuh"
#include "kernels/cuda/mma.cuh"

#define QUERIES 64
#define WARPS   4
#define DNN_FROM 512 /* queries and keys from which a plan of cuDNN is worth making */

struct attention {
    struct operand q, k, v, y;
    int64_t        n, m, dh, heads_per_kv;
    float          scale; /* times log2(e) */
    bool           causal, wide_q, wide_kv, wide_y;
};

/* Rows first .. first + ROWS of a head into shared memory as bf16; zeros beyond `rows` and beyond dh. */
template <int D, int ROWS>
static __device__ __forceinline__ void load_tile(__nv_bfloat16 *to, const struct operand *from, int64_t first, int64_t rows, int64_t head_at, int64_t dh,
                                                 bool wide)
{
    constexpr int N = ROWS * (D / 8) / (WARPS * 32), AT_ONCE = N < 8 ? N : 8;

#pragma unroll
    for (int base = 0; base < N; base += AT_ONCE) { /* all loads are on their way before the first store waits for its own */
        uint4 u[AT_ONCE];

#pragma unroll
        for (int k = 0; k < AT_ONCE; k++) {
            const int     i = (base + k) * WARPS * 32 + threadIdx.x, r = i / (D / 8), c = i % (D / 8) * 8, m = dh - c < 8 ? (int)(dh - c) : 8;
            const int64_t at = (first + r) * from->pitch + head_at + c;

            u[k] = make_uint4(0, 0, 0, 0);
            if (first + r >= rows || m <= 0) continue;
            if (wide && from->type == DTYPE_BF16) {
                u[k] = *(const uint4 *)((const __nv_bfloat16 *)from->p + at);
            } else {
                float v[8];

                load8(v, from->p, from->type, at, m, wide);
                u[k] = narrow8(v);
            }
        }
#pragma unroll
        for (int k = 0; k < AT_ONCE; k++) {
            const int i = (base + k) * WARPS * 32 + threadIdx.x;

            *(uint4 *)(to + i / (D / 8) * (D + 8) + i % (D / 8) * 8) = u[k];
        }
    }
}

/* One query's share of a tile of scores: s becomes exp2(s - max); returns the factor for what was summed before. */
template <int N>
static __device__ __forceinline__ float soften(float (*s)[4], int half, float *top, float *sum)
{
    float max = *top, base, shrink, part = 0.0f;

#pragma unroll
    for (int j = 0; j < N; j++) max = fmaxf(max, fmaxf(s[j][2 * half], s[j][2 * half + 1]));
    max = fmaxf(max, __shfl_xor_sync(0xffffffffu, max, 1));
    max = fmaxf(max, __shfl_xor_sync(0xffffffffu, max, 2));
    base = max == -INFINITY ? 0.0f : max;
#pragma unroll
    for (int j = 0; j < N; j++) {
        s[j][2 * half] = exp2f(s[j][2 * half] - base);
        s[j][2 * half + 1] = exp2f(s[j][2 * half + 1] - base);
        part += s[j][2 * half] + s[j][2 * half + 1];
    }
    shrink = exp2f(*top - base);
    *top = max;
    *sum = *sum * shrink + part;
    return shrink;
}

template <int D, int KEYS>
static __global__ void __launch_bounds__(WARPS * 32) attend(struct attention a)
{
    extern __shared__ uint4 shared[];
    constexpr int           LD = D + 8; /* elements of a row: neighbouring rows in other banks */
    __nv_bfloat16          *qs = (__nv_bfloat16 *)shared, *ks = qs + QUERIES * LD, *vs = ks + KEYS * LD;
    const int               lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const int64_t           first = (int64_t)blockIdx.x * QUERIES, head = blockIdx.y, kv_at = head / a.heads_per_kv * a.dh;
    const int64_t           row = first + warp * 16 + lane / 4; /* this thread's queries: row and row + 8 */
    const int64_t           n_keys = a.causal && first + QUERIES < a.m ? first + QUERIES : a.m;
    float                   o[D / 8][4] = {{0}}, top[2] = {-INFINITY, -INFINITY}, sum[2] = {0.0f, 0.0f};

    load_tile<D, QUERIES>(qs, &a.q, first, a.n, head * a.dh, a.dh, a.wide_q);
    for (int64_t at = 0; at < n_keys; at += KEYS) {
        float s[KEYS / 8][4] = {{0}}, shrink[2];

        __syncthreads();
        load_tile<D, KEYS>(ks, &a.k, at, a.m, kv_at, a.dh, a.wide_kv);
        load_tile<D, KEYS>(vs, &a.v, at, a.m, kv_at, a.dh, a.wide_kv);
        __syncthreads();
#pragma unroll
        for (int k = 0; k < D; k += 16) {
            unsigned int qf[4], kf[4];

            ldmatrix(qf, qs + (warp * 16 + lane % 16) * LD + k + lane / 16 * 8);
#pragma unroll
            for (int j = 0; j < KEYS; j += 16) {
                ldmatrix(kf, ks + (j + lane / 16 * 8 + lane % 8) * LD + k + lane / 8 % 2 * 8);
                mma(s[j / 8], qf, kf[0], kf[1]);
                mma(s[j / 8 + 1], qf, kf[2], kf[3]);
            }
        }
#pragma unroll
        for (int j = 0; j < KEYS / 8; j++) {
#pragma unroll
            for (int i = 0; i < 4; i++) {
                const int64_t key = at + j * 8 + lane % 4 * 2 + i % 2, query = row + i / 2 * 8;

                s[j][i] = key >= a.m || (a.causal && key > query) ? -INFINITY : s[j][i] * a.scale;
            }
        }
        shrink[0] = soften<KEYS / 8>(s, 0, &top[0], &sum[0]);
        shrink[1] = soften<KEYS / 8>(s, 1, &top[1], &sum[1]);
#pragma unroll
        for (int j = 0; j < D / 8; j++) {
#pragma unroll
            for (int i = 0; i < 4; i++) o[j][i] *= shrink[i / 2];
        }
#pragma unroll
        for (int k = 0; k < KEYS; k += 16) {
            const float       *low = s[k / 8], *high = s[k / 8 + 1];
            const unsigned int pf[4] = {pack_bf16(low[0], low[1]), pack_bf16(low[2], low[3]), pack_bf16(high[0], high[1]), pack_bf16(high[2], high[3])};

#pragma unroll
            for (int j = 0; j < D; j += 16) {
                unsigned int vf[4];

                ldmatrix_turned(vf, vs + (k + lane % 16) * LD + j + lane / 16 * 8);
                mma(o[j / 8], pf, vf[0], vf[1]);
                mma(o[j / 8 + 1], pf, vf[2], vf[3]);
            }
        }
    }
#pragma unroll
    for (int half = 0; half < 2; half++) {
        const int64_t query = row + half * 8, base = query * a.y.pitch + head * a.dh;
        float         total = sum[half];

        total += __shfl_xor_sync(0xffffffffu, total, 1);
        total += __shfl_xor_sync(0xffffffffu, total, 2);
        total = 1.0f / total;
#pragma unroll
        for (int j = 0; j < D / 8; j++) {
            const int   c = j * 8 + lane % 4 * 2;
            const float u = o[j][2 * half] * total, v = o[j][2 * half + 1] * total;

            if (query >= a.n || c >= a.dh) continue;
            if (a.wide_y && a.y.type == DTYPE_BF16) {
                *(unsigned int *)((__nv_bfloat16 *)a.y.p + base + c) = pack_bf16(u, v);
            } else {
                store1(a.y.p, a.y.type, base + c, u);
                if (c + 1 < a.dh) store1(a.y.p, a.y.type, base + c + 1, v);
            }
        }
    }
}

template <int D, int KEYS>
static void run(struct dev *d, const struct attention *a, int64_t n_heads)
{
    const int   bytes = (QUERIES + 2 * KEYS) * (D + 8) * 2;
    const dim3  blocks((unsigned)((a->n + QUERIES - 1) / QUERIES), (unsigned)n_heads);
    cudaError_t rc = cudaSuccess;

    if (bytes > 48 * 1024) rc = cudaFuncSetAttribute(attend<D, KEYS>, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes);
    if (rc != cudaSuccess) dev_fail(d, ERR_DEVICE, "%s: attention: %s", d->name, cudaGetErrorString(rc));
    else attend<D, KEYS><<<blocks, WARPS * 32, (size_t)bytes, cuda_stream(d)>>>(*a);
    cuda_note(d, "attention");
}

extern "C" void cuda_attention(struct dev *d, struct tensor *y, const struct tensor *q, const struct tensor *k, const struct tensor *v, float scale,
                               bool causal)
{
    const int64_t    dh = q->dim[2], n_heads = q->dim[1];
    struct attention a;

    cuda_enter(d);
    if (d->precision == PRECISION_F32 || dh > 256 || n_heads > 65535) {
        cuda_attention_chunks(d, y, q, k, v, scale, causal);
        return;
    }
    a.q = operand_of(q), a.k = operand_of(k), a.v = operand_of(v), a.y = operand_of(y);
    a.n = q->dim[0], a.m = k->dim[0], a.dh = dh, a.heads_per_kv = n_heads / k->dim[1];
    a.scale = scale * 1.44269504088896341f;
    a.causal = causal;
    a.wide_q = wide_of(&a.q, dh), a.wide_kv = wide_of(&a.k, dh) && wide_of(&a.v, dh), a.wide_y = wide_of(&a.y, dh);
    if (!causal && cuda_attention_hopper(d, y, q, k, v, scale)) return;
    if (!causal && a.n >= DNN_FROM && a.m >= DNN_FROM && a.wide_q && a.wide_kv && a.wide_y && a.q.type == DTYPE_BF16 && a.k.type == DTYPE_BF16 &&
        a.v.type == DTYPE_BF16 && a.y.type == DTYPE_BF16 && dnn_attention(d, y, q, k, v, scale)) return;
    if (dh <= 32) run<32, 64>(d, &a, n_heads);
    else if (dh <= 64) run<64, 64>(d, &a, n_heads);
    else if (dh <= 128) run<128, 64>(d, &a, n_heads);
    else run<256, 32>(d, &a, n_heads);
}
