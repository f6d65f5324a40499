/* fused.cu - what stands between a block's products, one pass over the data each: norm and rotation of the heads, and the sum, its norm and
 * modulation. A row of a sum stays in registers from the first load to the last store.
 * Sums have a fixed tree that depends on the width alone.
 * The fast kernels are for bf16; F32 and rows that are not 16-byte aligned take the plain ones.
 * Not here: norms by themselves (norm.cu), gates and other elements (act.cu). */
#include "kernels/cuda/common.cuh"

/* ---- heads ---- */

struct heads {
    struct operand x, wq, wk;
    const float   *cos, *sin;
    int64_t        n, ldc, lds;
    int            h, n_q, dh; /* heads of a row, queries among them, their width */
    float          eps;
};

#define AHEAD 4 /* heads in flight per thread */

/* A block has a row of bf16, E = dh / 8 neighbouring threads a head, a thread the same eight of every 256/E-th head. */
template <bool PAIRS>
static __global__ void __launch_bounds__(256, 3) norm_rope(struct heads a, int e)
{
    const int   lane = threadIdx.x % e, first = threadIdx.x / e, step = 256 / e, half = a.dh / 2;
    const float part = 1.0f / (float)a.dh;

    for (int64_t row = blockIdx.x; row < a.n; row += gridDim.x) {
        uint16_t    *x = (uint16_t *)a.x.p + row * a.x.pitch + lane * 8;
        const float *cs = a.cos + row * a.ldc, *sn = a.sin + row * a.lds;

        for (int base = 0; base < a.h; base += AHEAD * step) { /* the same for all threads: they shuffle together */
            uint4 raw[AHEAD];
            float c[8], s[8];

#pragma unroll
            for (int u = 0; u < AHEAD; u++) {
                const int head = base + u * step + first;

                raw[u] = *(const uint4 *)(x + (head < a.h ? head : 0) * (int64_t)a.dh);
            }
            if (PAIRS) {
                const float4 cv = *(const float4 *)(cs + lane * 4), sv = *(const float4 *)(sn + lane * 4);

                c[0] = c[1] = cv.x, c[2] = c[3] = cv.y, c[4] = c[5] = cv.z, c[6] = c[7] = cv.w;
                s[0] = s[1] = sv.x, s[2] = s[3] = sv.y, s[4] = s[5] = sv.z, s[6] = s[7] = sv.w;
            } else {
                load8(c, cs, DTYPE_F32, lane * 8 % half, 8, true);
                load8(s, sn, DTYPE_F32, lane * 8 % half, 8, true);
            }
#pragma unroll
            for (int u = 0; u < AHEAD; u++) {
                const int head = base + u * step + first;
                float     v[8], w[8], out[8], sum = 0.0f;

                widen8(v, raw[u]);
#pragma unroll
                for (int i = 0; i < 8; i++) sum += v[i] * v[i];
                for (int d = e / 2; d > 0; d >>= 1) sum += __shfl_xor_sync(0xffffffffu, sum, d);
                sum = 1.0f / sqrtf(sum * part + a.eps);
                load8(w, head < a.n_q ? a.wq.p : a.wk.p, head < a.n_q ? a.wq.type : a.wk.type, lane * 8, 8, true);
#pragma unroll
                for (int i = 0; i < 8; i++) v[i] *= sum * w[i];
                if (PAIRS) {
#pragma unroll
                    for (int i = 0; i < 8; i += 2) {
                        out[i] = v[i] * c[i] - v[i + 1] * s[i];
                        out[i + 1] = v[i] * s[i] + v[i + 1] * c[i];
                    }
                } else {
#pragma unroll
                    for (int i = 0; i < 8; i++) {
                        const float other = __shfl_xor_sync(0xffffffffu, v[i], e / 2);

                        out[i] = v[i] * c[i] + (lane < e / 2 ? -other : other) * s[i];
                    }
                }
                if (head < a.h) *(uint4 *)(x + head * (int64_t)a.dh) = narrow8(out);
            }
        }
    }
}

/* Any width and alignment: a warp has a head. */
static __global__ void __launch_bounds__(256) norm_rope_any(struct heads a, bool pairs)
{
    const int     lane = threadIdx.x % 32, half = a.dh / 2;
    const int64_t total = a.n * a.h;

    for (int64_t i = (int64_t)blockIdx.x * 8 + threadIdx.x / 32; i < total; i += (int64_t)gridDim.x * 8) {
        const int64_t row = i / a.h, head = i % a.h, at = row * a.x.pitch + head * a.dh;
        const void   *w = head < a.n_q ? a.wq.p : a.wk.p;
        const int     w_type = head < a.n_q ? a.wq.type : a.wk.type;
        float         sum = 0.0f;

        for (int k = lane; k < a.dh; k += 32) {
            const float v = load1(a.x.p, a.x.type, at + k);

            sum += v * v;
        }
        sum = 1.0f / sqrtf(warp_sum(sum) / (float)a.dh + a.eps);
        for (int k = lane; k < half; k += 32) {
            const int   one = pairs ? 2 * k : k, two = pairs ? 2 * k + 1 : k + half;
            const float u = load1(a.x.p, a.x.type, at + one) * sum * load1(w, w_type, one), v = load1(a.x.p, a.x.type, at + two) * sum * load1(w, w_type, two);
            const float c = a.cos[row * a.ldc + k], s = a.sin[row * a.lds + k];

            store1(a.x.p, a.x.type, at + one, u * c - v * s);
            store1(a.x.p, a.x.type, at + two, u * s + v * c);
        }
    }
}

extern "C" void cuda_norm_rope(struct dev *d, struct tensor *x, const struct norm_rope *how)
{
    const int      dh = (int)x->dim[2], e = dh / 8;
    const bool     pairs = how->rope == ROPE_PAIRS;
    struct operand cs = operand_of(how->cos), sn = operand_of(how->sin);
    struct heads   a;
    bool           fast;

    if (!cuda_takes(d, how->wq) || !cuda_takes(d, how->wk)) return;
    a.x = operand_of(x), a.wq = operand_of(how->wq), a.wk = operand_of(how->wk);
    a.wq.pitch = a.wk.pitch = 0;
    a.cos = (const float *)cs.p, a.sin = (const float *)sn.p, a.ldc = cs.pitch, a.lds = sn.pitch;
    a.n = x->dim[0], a.h = (int)x->dim[1], a.n_q = (int)how->n_q, a.dh = dh, a.eps = how->eps;
    fast = a.x.type == DTYPE_BF16 && dh % 16 == 0 && e <= 32 && (e & (e - 1)) == 0 && wide_of(&a.x, dh) && wide_of(&a.wq, dh) && wide_of(&a.wk, dh) &&
           wide_of(&cs, dh / 2) && wide_of(&sn, dh / 2);
    cuda_enter(d);
    if (!fast) norm_rope_any<<<cuda_blocks(a.n * a.h, 8), 256, 0, cuda_stream(d)>>>(a, pairs);
    else if (pairs) norm_rope<true><<<cuda_blocks(a.n, 1), 256, 0, cuda_stream(d)>>>(a, e);
    else norm_rope<false><<<cuda_blocks(a.n, 1), 256, 0, cuda_stream(d)>>>(a, e);
    cuda_note(d, "norm_rope");
}

/* ---- sums ---- */

struct sums { /* of struct add_norm; p NULL: left out */
    struct operand x, h, y, wy, gate, wh, scale;
    int64_t        n, c;
    float          eps;
};

#define WARPS_MAX 16

/* The sum over a block of whole warps, the same in all its threads. room: WARPS_MAX floats, not those of the sum before. */
static __device__ __forceinline__ float sum_of_block(float v, float *room)
{
    v = warp_sum(v);
    if (threadIdx.x % 32 == 0) room[threadIdx.x / 32] = v;
    __syncthreads();
    return warp_sum(threadIdx.x % 32 < blockDim.x / 32 ? room[threadIdx.x % 32] : 0.0f);
}

/* v = an eight of w, or ones, times g or 1 + g where there is one. */
static __device__ __forceinline__ void factors(float v[8], const struct operand *w, const struct operand *g, bool one_plus, int64_t at)
{
    float gs[8];

#pragma unroll
    for (int i = 0; i < 8; i++) v[i] = 1.0f;
    if (w->p) load8(v, w->p, w->type, at, 8, true);
    if (!g->p) return;
    load8(gs, g->p, DTYPE_F32, at, 8, true);
#pragma unroll
    for (int i = 0; i < 8; i++) v[i] *= one_plus ? 1.0f + gs[i] : gs[i];
}

template <int K>
static __device__ __forceinline__ void load_rows(const struct sums *a, int64_t row, uint4 x[K], uint4 y[K])
{
#pragma unroll
    for (int k = 0; k < K; k++) {
        const int64_t at = ((int64_t)k * blockDim.x + threadIdx.x) * 8;

        x[k] = y[k] = make_uint4(0, 0, 0, 0);
        if (at >= a->c) continue;
        x[k] = *(const uint4 *)((const uint16_t *)a->x.p + row * a->x.pitch + at);
        if (a->y.p) y[k] = *(const uint4 *)((const uint16_t *)a->y.p + row * a->y.pitch + at);
    }
}

/* x, y and h in bf16. A block walks over rows, a thread has K eights of each and keeps what they are multiplied with; the next row is on its
 * way while this one is summed. */
template <int K>
static __global__ void __launch_bounds__(32 * WARPS_MAX, 2 / K) add_norm(struct sums a)
{
    __shared__ float room[2][2][WARPS_MAX];
    float            to_y[K][8], to_h[K][8];
    uint4            next_x[K], next_y[K];
    int              turn = 0;

    load_rows<K>(&a, blockIdx.x, next_x, next_y);
#pragma unroll
    for (int k = 0; k < K; k++) {
        const int64_t at = ((int64_t)k * blockDim.x + threadIdx.x) * 8;

        if (at >= a.c) continue;
        factors(to_y[k], &a.wy, &a.gate, false, at);
        factors(to_h[k], &a.wh, &a.scale, true, at);
    }
    for (int64_t row = blockIdx.x; row < a.n; row += gridDim.x, turn ^= 1) {
        float x[K][8], y[K][8], by = 1.0f, sum = 0.0f;

#pragma unroll
        for (int k = 0; k < K; k++) {
            widen8(x[k], next_x[k]);
            widen8(y[k], next_y[k]);
        }
        if (row + gridDim.x < a.n) load_rows<K>(&a, row + gridDim.x, next_x, next_y);
        if (a.wy.p) {
#pragma unroll
            for (int k = 0; k < K; k++) {
#pragma unroll
                for (int i = 0; i < 8; i++) sum += y[k][i] * y[k][i];
            }
            by = 1.0f / sqrtf(sum_of_block(sum, room[turn][0]) / (float)a.c + a.eps);
            sum = 0.0f;
        }
#pragma unroll
        for (int k = 0; k < K; k++) {
            const int64_t at = ((int64_t)k * blockDim.x + threadIdx.x) * 8;

            if (at >= a.c) continue;
#pragma unroll
            for (int i = 0; i < 8; i++) {
                x[k][i] = fmaf(y[k][i] * by, to_y[k][i], x[k][i]);
                sum += x[k][i] * x[k][i];
            }
            if (a.y.p) *(uint4 *)((uint16_t *)a.x.p + row * a.x.pitch + at) = narrow8(x[k]);
        }
        if (!a.h.p) continue;
        sum = 1.0f / sqrtf(sum_of_block(sum, room[turn][1]) / (float)a.c + a.eps);
#pragma unroll
        for (int k = 0; k < K; k++) {
            const int64_t at = ((int64_t)k * blockDim.x + threadIdx.x) * 8;

            if (at >= a.c) continue;
#pragma unroll
            for (int i = 0; i < 8; i++) x[k][i] *= sum * to_h[k][i];
            *(uint4 *)((uint16_t *)a.h.p + row * a.h.pitch + at) = narrow8(x[k]);
        }
    }
}

/* Element i of a row's sum; by: what norms y. */
static __device__ __forceinline__ float sum_at(const struct sums *a, int64_t row, int64_t i, float by)
{
    const float x = load1(a->x.p, a->x.type, row * a->x.pitch + i);
    float       y;

    if (!a->y.p) return x;
    y = load1(a->y.p, a->y.type, row * a->y.pitch + i);
    if (a->wy.p) y *= by * load1(a->wy.p, a->wy.type, i);
    return a->gate.p ? fmaf(load1(a->gate.p, DTYPE_F32, i), y, x) : x + y;
}

/* Any width and alignment; a row is read again for each step. */
static __global__ void __launch_bounds__(256) add_norm_any(struct sums a)
{
    __shared__ float room[8];

    for (int64_t row = blockIdx.x; row < a.n; row += gridDim.x) {
        float by = 0.0f, sum = 0.0f;

        for (int64_t i = threadIdx.x; a.wy.p && i < a.c; i += 256) {
            const float v = load1(a.y.p, a.y.type, row * a.y.pitch + i);

            sum += v * v;
        }
        if (a.wy.p) by = 1.0f / sqrtf(block_sum(sum, room) / (float)a.c + a.eps);
        sum = 0.0f;
        for (int64_t i = threadIdx.x; a.h.p && i < a.c; i += 256) {
            const float x = sum_at(&a, row, i, by);

            sum += x * x;
        }
        if (a.h.p) sum = 1.0f / sqrtf(block_sum(sum, room) / (float)a.c + a.eps);
        for (int64_t i = threadIdx.x; i < a.c; i += 256) {
            float x = sum_at(&a, row, i, by);

            if (a.y.p) store1(a.x.p, a.x.type, row * a.x.pitch + i, x);
            if (!a.h.p) continue;
            x *= sum * load1(a.wh.p, a.wh.type, i);
            if (a.scale.p) x *= 1.0f + load1(a.scale.p, DTYPE_F32, i);
            store1(a.h.p, a.h.type, row * a.h.pitch + i, x);
        }
    }
}

/* As many blocks as run at once, each with about as many rows. */
template <int K>
static void run_sums(struct dev *d, const struct sums *a)
{
    const int n_sm = cuda_of(d)->n_sm, threads = (int)((a->c / 8 + 32 * K - 1) / (32 * K) * 32);
    int       per_sm = 1;

    if (cudaOccupancyMaxActiveBlocksPerMultiprocessor(&per_sm, add_norm<K>, threads, 0) != cudaSuccess || per_sm < 1) per_sm = 1;
    const int64_t each = (a->n + (int64_t)n_sm * per_sm - 1) / ((int64_t)n_sm * per_sm), blocks = (a->n + each - 1) / each;

    add_norm<K><<<(unsigned)blocks, (unsigned)threads, 0, cuda_stream(d)>>>(*a);
}

extern "C" void cuda_add_norm(struct dev *d, struct tensor *x, struct tensor *h, const struct tensor *y, const struct add_norm *how)
{
    const struct tensor *vec[4] = {y ? how->wy : NULL, y ? how->gate : NULL, h ? how->wh : NULL, h ? how->scale : NULL};
    struct operand       vo[4];
    struct sums          a;
    bool                 wide;

    a.x = operand_of(x), a.h = operand_of(h), a.y = operand_of(y), a.n = x->dim[0], a.c = x->dim[1], a.eps = how->eps;
    wide = x->type == DTYPE_BF16 && (!h || h->type == DTYPE_BF16) && (!y || y->type == DTYPE_BF16) && wide_of(&a.x, a.c) && wide_of(&a.h, a.c) &&
           wide_of(&a.y, a.c);
    for (int i = 0; i < 4; i++) {
        if (vec[i] && !cuda_takes(d, vec[i])) return;
        vo[i] = operand_of(vec[i]);
        vo[i].pitch = 0;
        wide = wide && wide_of(&vo[i], a.c);
    }
    a.wy = vo[0], a.gate = vo[1], a.wh = vo[2], a.scale = vo[3];
    cuda_enter(d);
    if (wide && a.c <= WARPS_MAX * 32 * 8) run_sums<1>(d, &a);
    else if (wide && a.c <= WARPS_MAX * 32 * 16) run_sums<2>(d, &a);
    else add_norm_any<<<cuda_blocks(a.n, 1), 256, 0, cuda_stream(d)>>>(a);
    cuda_note(d, "add_norm");
}
