/* attention_chunks.cu - attention by products, for F32 and for heads of any width: scores of a chunk of queries, softmax, values.
 * One head at a time; a chunk's scores take at most SCORES_BYTES, and their softmax lies where they lay. Causal: keys beyond the chunk's last query are
 * not touched.
 * Measured on an H100, 16384 tokens and one head of 512 (the decoder's): cuDNN takes it and needs 6.4 ms; products in chunks of 256, 1024 and 4096 queries
 * 3.0, 1.6 and 1.0 ms, hence the size of chunks.
 * Not here: the fused kernel (attention.cu). */
#include "kernels/cuda/common.cuh"

#define SCORES_BYTES ((int64_t)256 << 20)
#define THREADS      512
#define HELD         32 /* scores of a row that a thread keeps in registers */

/* Maximum or sum over the block, the same in all its threads. */
static __device__ __forceinline__ float over_block(float v, bool sum, float *room)
{
    float all = sum ? 0.0f : -INFINITY;

    v = sum ? warp_sum(v) : warp_max(v);
    if (threadIdx.x % 32 == 0) room[threadIdx.x / 32] = v;
    __syncthreads();
#pragma unroll
    for (int i = 0; i < THREADS / 32; i++) all = sum ? all + room[i] : fmaxf(all, room[i]);
    __syncthreads();
    return all;
}

/* e^x; for a result of 16 bits the quick one. */
static __device__ __forceinline__ float power(float x, bool quick)
{
    return quick ? __expf(x) : expf(x);
}

/* One block per row of n_keys <= THREADS * HELD: softmax(s) as bf16 (or F32) where s lies; query first + row sees all keys, or those up to itself; the
 * others get 0. A row is read once. */
template <bool BF16>
static __global__ void __launch_bounds__(THREADS) softmax(float *s, int64_t ld, int64_t first, int64_t n_keys, bool causal)
{
    __shared__ float room[THREADS / 32];
    const int64_t    row = blockIdx.x, seen = causal && first + row + 1 < n_keys ? first + row + 1 : n_keys;
    float           *from = s + row * ld, v[HELD], top = -INFINITY, sum = 0.0f;

#pragma unroll
    for (int i = 0; i < HELD; i++) {
        const int64_t at = (int64_t)i * THREADS + threadIdx.x;

        v[i] = at < seen ? from[at] : -INFINITY;
    }
#pragma unroll
    for (int i = 0; i < HELD; i++) top = fmaxf(top, v[i]);
    top = over_block(top, false, room); /* behind it all have read */
    if (top == -INFINITY) top = 0.0f;
#pragma unroll
    for (int i = 0; i < HELD; i++) sum += v[i] = power(v[i] - top, BF16);
    sum = 1.0f / over_block(sum, true, room);
#pragma unroll
    for (int i = 0; i < HELD; i++) {
        const int64_t at = (int64_t)i * THREADS + threadIdx.x;

        if (at < n_keys) store1(from, BF16 ? (int)DTYPE_BF16 : (int)DTYPE_F32, at, v[i] * sum);
    }
}

/* The same for longer rows, which are read three times. What is written never reaches scores that are still to be read: the results of one round lie in
 * front of those of the next. */
template <bool BF16>
static __global__ void __launch_bounds__(THREADS) softmax_long(float *s, int64_t ld, int64_t first, int64_t n_keys, bool causal)
{
    __shared__ float room[THREADS / 32];
    const int64_t    row = blockIdx.x, seen = causal && first + row + 1 < n_keys ? first + row + 1 : n_keys;
    float           *from = s + row * ld, top = -INFINITY, sum = 0.0f;

    for (int64_t i = threadIdx.x; i < seen; i += THREADS) top = fmaxf(top, from[i]);
    top = over_block(top, false, room);
    if (top == -INFINITY) top = 0.0f;
    for (int64_t i = threadIdx.x; i < seen; i += THREADS) sum += power(from[i] - top, BF16);
    sum = 1.0f / over_block(sum, true, room);
    for (int64_t i = threadIdx.x; i - threadIdx.x < n_keys; i += THREADS) {
        const float v = i < seen ? power(from[i] - top, BF16) * sum : 0.0f;

        __syncthreads();
        if (i < n_keys) store1(from, BF16 ? (int)DTYPE_BF16 : (int)DTYPE_F32, i, v);
        __syncthreads();
    }
}

static void run_softmax(struct dev *d, float *s, int64_t rows, int64_t ld, int64_t first, int64_t n_keys, bool causal)
{
    const bool bf16 = cuda_product_type(d) == DTYPE_BF16, fits = n_keys <= THREADS * HELD;

    (fits ? bf16 ? softmax<true> : softmax<false> : bf16 ? softmax_long<true> : softmax_long<false>)<<<(unsigned)rows, THREADS, 0, cuda_stream(d)>>>(
        s, ld, first, n_keys, causal);
    cuda_note(d, "softmax");
}

static const void *at_element(const void *p, enum dtype type, int64_t i)
{
    return (const char *)p + i * (int64_t)dtype_bytes(type);
}

extern "C" void cuda_attention_chunks(struct dev *d, struct tensor *y, const struct tensor *q, const struct tensor *k, const struct tensor *v, float scale,
                                      bool causal)
{
    const enum dtype type = cuda_product_type(d);
    const int64_t    n = q->dim[0], m = k->dim[0], hq = q->dim[1], dh = q->dim[2], ld = (m + 7) / 8 * 8;
    const int64_t    most = SCORES_BYTES / (ld * 4) < 1 ? 1 : SCORES_BYTES / (ld * 4), chunks = (n + most - 1) / most;
    int64_t          rows = (n + chunks - 1) / chunks, ldq, ldk, ldv;
    const void      *qs = cuda_as(d, SLOT_X, q, type, &ldq), *ks = cuda_as(d, SLOT_K, k, type, &ldk), *vs = cuda_as(d, SLOT_V, v, type, &ldv);
    float           *s = (float *)cuda_space(d, SLOT_SCORES, (size_t)(rows * ld) * 4);

    if (!qs || !ks || !vs || !s) return;
    for (int64_t head = 0; head < hq; head++) {
        const int64_t kv_at = head / (hq / k->dim[1]) * dh;

        for (int64_t at = 0; at < n && !d->err.code; at += rows) {
            const int64_t here = n - at < rows ? n - at : rows, n_keys = causal && at + here < m ? at + here : m;
            struct gemm   scores = {}, values = {};

            scores.n = here, scores.m = n_keys, scores.k = dh, scores.type = type, scores.y_type = DTYPE_F32, scores.alpha = scale;
            scores.x = at_element(qs, type, at * ldq + head * dh), scores.ldx = ldq;
            scores.w = at_element(ks, type, kv_at), scores.ldw = ldk;
            scores.y = s, scores.ldy = ld;
            cuda_gemm(d, &scores);
            run_softmax(d, s, here, ld, at, n_keys, causal);
            values.n = here, values.m = dh, values.k = n_keys, values.type = type, values.y_type = y->type, values.alpha = 1.0f;
            values.x = s, values.ldx = type == DTYPE_F32 ? ld : 2 * ld;
            values.w = at_element(vs, type, kv_at), values.ldw = ldv, values.w_is_km = true;
            values.y = (void *)at_element(y->data, y->type, at * cuda_pitch(y) + head * dh), values.ldy = cuda_pitch(y);
            cuda_gemm(d, &values);
        }
    }
}
