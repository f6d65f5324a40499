/* fused.cu - what stands between a block's products, one pass over the data each: norm and rotation of the heads, and the sum, its norm and
 * modulation. A row of a sum stays in registers from the first load to the last store; other kernels do rows that are not 16-byte aligned.
 * Sums have a fixed tree that depends on the width alone.
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

/* A block has a row, E = dh / 8 neighbouring threads a head, a thread the same eight of every 256/E-th head. */
template <bool PAIRS>
static __global__ void __launch_bounds__(256) norm_rope(struct heads a, int e)
{
    const int   lane = threadIdx.x % e, first = threadIdx.x / e, step = 256 / e, half = a.dh / 2;
    const float part = 1.0f / (float)a.dh;
    float       wq[8], wk[8], c[8], s[8];

    load8(wq, a.wq.p, a.wq.type, lane * 8, 8, true);
    load8(wk, a.wk.p, a.wk.type, lane * 8, 8, true);
    for (int64_t row = blockIdx.x; row < a.n; row += gridDim.x) {
        const float *cs = a.cos + row * a.ldc, *sn = a.sin + row * a.lds;

        if (PAIRS) {
            const float4 cv = *(const float4 *)(cs + lane * 4), sv = *(const float4 *)(sn + lane * 4);

            c[0] = c[1] = cv.x, c[2] = c[3] = cv.y, c[4] = c[5] = cv.z, c[6] = c[7] = cv.w;
            s[0] = s[1] = sv.x, s[2] = s[3] = sv.y, s[4] = s[5] = sv.z, s[6] = s[7] = sv.w;
        } else {
            load8(c, cs, DTYPE_F32, lane * 8 % half, 8, true);
            load8(s, sn, DTYPE_F32, lane * 8 % half, 8, true);
        }
        for (int base = 0; base < a.h; base += AHEAD * step) { /* the same for all threads: they shuffle together */
            float v[AHEAD][8];

#pragma unroll
            for (int u = 0; u < AHEAD; u++) {
                const int head = base + u * step + first;

                load8(v[u], a.x.p, a.x.type, row * a.x.pitch + (head < a.h ? head : 0) * (int64_t)a.dh + lane * 8, 8, true);
            }
#pragma unroll
            for (int u = 0; u < AHEAD; u++) {
                const int head = base + u * step + first;
                float     sum = 0.0f, out[8];

#pragma unroll
                for (int i = 0; i < 8; i++) sum += v[u][i] * v[u][i];
                for (int d = e / 2; d > 0; d >>= 1) sum += __shfl_xor_sync(0xffffffffu, sum, d);
                sum = 1.0f / sqrtf(sum * part + a.eps);
#pragma unroll
                for (int i = 0; i < 8; i++) v[u][i] *= sum * (head < a.n_q ? wq[i] : wk[i]);
                if (PAIRS) {
#pragma unroll
                    for (int i = 0; i < 8; i += 2) {
                        out[i] = v[u][i] * c[i] - v[u][i + 1] * s[i];
                        out[i + 1] = v[u][i] * s[i] + v[u][i + 1] * c[i];
                    }
                } else {
#pragma unroll
                    for (int i = 0; i < 8; i++) {
                        const float other = __shfl_xor_sync(0xffffffffu, v[u][i], e / 2);

                        out[i] = v[u][i] * c[i] + (lane < e / 2 ? -other : other) * s[i];
                    }
                }
                if (head < a.h) store8(a.x.p, a.x.type, row * a.x.pitch + head * (int64_t)a.dh + lane * 8, out, 8, true);
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
    fast = dh % 16 == 0 && e <= 32 && (e & (e - 1)) == 0 && wide_of(&a.x, dh) && wide_of(&a.wq, dh) && wide_of(&a.wk, dh) &&
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

/* The sum over a block of whole warps, the same in all its threads; room: WARPS_MAX floats of its own. */
static __device__ __forceinline__ float sum_of_block(float v, float *room)
{
    float s = 0.0f;

    v = warp_sum(v);
    if (threadIdx.x % 32 == 0) room[threadIdx.x / 32] = v;
    __syncthreads();
    for (int i = 0; i < (int)blockDim.x / 32; i++) s += room[i];
    return s;
}

/* v[i] *= by * w[i] */
static __device__ __forceinline__ void times(float v[8], float by, const struct operand *w, int64_t at)
{
    float ws[8];

    load8(ws, w->p, w->type, at, 8, true);
#pragma unroll
    for (int i = 0; i < 8; i++) v[i] *= by * ws[i];
}

/* A block has a row, a thread K eights of it. */
template <int K>
static __global__ void __launch_bounds__(32 * WARPS_MAX) add_norm(struct sums a)
{
    __shared__ float room[2][WARPS_MAX];

    for (int64_t row = blockIdx.x; row < a.n; row += gridDim.x) {
        float x[K][8], y[K][8], g[8], sum = 0.0f;

#pragma unroll
        for (int k = 0; k < K; k++) {
            const int64_t at = ((int64_t)k * blockDim.x + threadIdx.x) * 8;

#pragma unroll
            for (int i = 0; i < 8; i++) x[k][i] = y[k][i] = 0.0f;
            if (at >= a.c) continue;
            load8(x[k], a.x.p, a.x.type, row * a.x.pitch + at, 8, true);
            if (a.y.p) load8(y[k], a.y.p, a.y.type, row * a.y.pitch + at, 8, true);
        }
        if (a.wy.p) {
#pragma unroll
            for (int k = 0; k < K; k++) {
#pragma unroll
                for (int i = 0; i < 8; i++) sum += y[k][i] * y[k][i];
            }
            sum = 1.0f / sqrtf(sum_of_block(sum, room[0]) / (float)a.c + a.eps);
        }
        const float by = sum;

        sum = 0.0f;
#pragma unroll
        for (int k = 0; k < K; k++) {
            const int64_t at = ((int64_t)k * blockDim.x + threadIdx.x) * 8;

            if (at >= a.c) continue;
            if (a.wy.p) times(y[k], by, &a.wy, at);
            if (a.gate.p) {
                load8(g, a.gate.p, DTYPE_F32, at, 8, true);
#pragma unroll
                for (int i = 0; i < 8; i++) x[k][i] = fmaf(g[i], y[k][i], x[k][i]);
            } else {
#pragma unroll
                for (int i = 0; i < 8; i++) x[k][i] += y[k][i];
            }
            if (a.y.p) store8(a.x.p, a.x.type, row * a.x.pitch + at, x[k], 8, true);
#pragma unroll
            for (int i = 0; i < 8; i++) sum += x[k][i] * x[k][i];
        }
        if (a.h.p) {
            sum = 1.0f / sqrtf(sum_of_block(sum, room[1]) / (float)a.c + a.eps);
#pragma unroll
            for (int k = 0; k < K; k++) {
                const int64_t at = ((int64_t)k * blockDim.x + threadIdx.x) * 8;

                if (at >= a.c) continue;
                times(x[k], sum, &a.wh, at);
                if (a.scale.p) {
                    load8(g, a.scale.p, DTYPE_F32, at, 8, true);
#pragma unroll
                    for (int i = 0; i < 8; i++) x[k][i] *= 1.0f + g[i];
                }
                store8(a.h.p, a.h.type, row * a.h.pitch + at, x[k], 8, true);
            }
        }
        if (row + gridDim.x < a.n) __syncthreads(); /* room[] is used again */
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

/* Threads of a block and eights of a thread that leave the fewest of them idle; 0: the row is too long. */
static int eights_per_thread(int64_t c, int *threads)
{
    const int64_t eights = c / 8;
    int64_t       least = INT64_MAX;
    int           best = 0;

    for (int k = 1; k <= 4; k++) {
        const int64_t t = (eights + 32 * k - 1) / (32 * k) * 32;

        if (t > 32 * WARPS_MAX || t * k - eights > least) continue;
        least = t * k - eights;
        best = k;
        *threads = (int)t;
    }
    return best;
}

extern "C" void cuda_add_norm(struct dev *d, struct tensor *x, struct tensor *h, const struct tensor *y, const struct add_norm *how)
{
    const struct tensor *vec[4] = {y ? how->wy : NULL, y ? how->gate : NULL, h ? how->wh : NULL, h ? how->scale : NULL};
    struct operand       vo[4];
    struct sums          a;
    int                  k, threads = 0;
    bool                 wide;

    a.x = operand_of(x), a.h = operand_of(h), a.y = operand_of(y), a.n = x->dim[0], a.c = x->dim[1], a.eps = how->eps;
    wide = wide_of(&a.x, a.c) && wide_of(&a.h, a.c) && wide_of(&a.y, a.c);
    for (int i = 0; i < 4; i++) {
        if (vec[i] && !cuda_takes(d, vec[i])) return;
        vo[i] = operand_of(vec[i]);
        vo[i].pitch = 0;
        wide = wide && wide_of(&vo[i], a.c);
    }
    a.wy = vo[0], a.gate = vo[1], a.wh = vo[2], a.scale = vo[3];
    k = wide ? eights_per_thread(a.c, &threads) : 0;
    cuda_enter(d);
    switch (k) {
    case 1: add_norm<1><<<cuda_blocks(a.n, 1), threads, 0, cuda_stream(d)>>>(a); break;
    case 2: add_norm<2><<<cuda_blocks(a.n, 1), threads, 0, cuda_stream(d)>>>(a); break;
    case 3: add_norm<3><<<cuda_blocks(a.n, 1), threads, 0, cuda_stream(d)>>>(a); break;
    case 4: add_norm<4><<<cuda_blocks(a.n, 1), threads, 0, cuda_stream(d)>>>(a); break;
    default: add_norm_any<<<cuda_blocks(a.n, 1), 256, 0, cuda_stream(d)>>>(a);
    }
    cuda_note(d, "add_norm");
}
