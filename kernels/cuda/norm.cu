/* norm.cu - RMS, layer and group norm. A row belongs to a warp when it is short and to a block when it is long; sums have a fixed tree.
 * Group norm: 1 sums per channel and chunk of pixels, around a pivot, handed on in double; 2 folded in order per group; 3 applied.
 * Not here: learned scales of adaLN (act.cu). */
#include "kernels/cuda/common.cuh"

#define SHORT_ROW 1024 /* elements that a warp takes */

/* Rows of `inner` vectors of c: vector i lies in row i / inner. */
static __device__ __forceinline__ int64_t vector_at(const struct operand *o, int64_t i, int64_t inner, int64_t c)
{
    return i / inner * o->pitch + i % inner * c;
}

template <int TEAM>
static __device__ __forceinline__ float team_sum(float v, float *room)
{
    return TEAM == 32 ? warp_sum(v) : block_sum(v, room);
}

/* TEAM threads of a block of 256 to a vector. centered: the mean is taken out first (layer norm), else RMS. */
template <int TEAM>
static __global__ void row_norm(struct operand y, struct operand x, struct operand w, int64_t n, int64_t inner, int64_t c, float eps, bool centered,
                                bool wide)
{
    __shared__ float room[8];
    const int        lane = threadIdx.x % TEAM;

    for (int64_t i = (int64_t)blockIdx.x * (256 / TEAM) + threadIdx.x / TEAM; i < n; i += (int64_t)gridDim.x * (256 / TEAM)) {
        const int64_t from = vector_at(&x, i, inner, c), to = vector_at(&y, i, inner, c);
        float         v[8], ws[8], sum = 0.0f, mean = 0.0f, r;

        if (centered) {
            for (int64_t at = lane * 8; at < c; at += TEAM * 8) {
                load8(v, x.p, x.type, from + at, c - at < 8 ? (int)(c - at) : 8, wide);
#pragma unroll
                for (int k = 0; k < 8; k++) sum += v[k];
            }
            mean = team_sum<TEAM>(sum, room) / (float)c;
            sum = 0.0f;
        }
        for (int64_t at = lane * 8; at < c; at += TEAM * 8) {
            const int m = c - at < 8 ? (int)(c - at) : 8;

            load8(v, x.p, x.type, from + at, m, wide);
#pragma unroll
            for (int k = 0; k < 8; k++) sum += k < m ? (v[k] - mean) * (v[k] - mean) : 0.0f;
        }
        r = 1.0f / sqrtf(team_sum<TEAM>(sum, room) / (float)c + eps);
        for (int64_t at = lane * 8; at < c; at += TEAM * 8) {
            const int m = c - at < 8 ? (int)(c - at) : 8;

            load8(v, x.p, x.type, from + at, m, wide);
            if (w.p) load8(ws, w.p, w.type, at, m, wide);
#pragma unroll
            for (int k = 0; k < 8; k++) v[k] = w.p ? (v[k] - mean) * r * ws[k] : (v[k] - mean) * r;
            store8(y.p, y.type, to + at, v, m, wide);
        }
    }
}

static void run_rows(struct dev *d, const char *name, struct tensor *y, const struct tensor *x, const struct tensor *w, float eps, bool centered)
{
    struct operand yo = operand_of(y), xo = operand_of(x), wo = operand_of(w);
    const int64_t  inner = x->rank == 3 ? x->dim[1] : 1, c = x->dim[x->rank - 1], n = x->dim[0] * inner;
    bool           wide;

    wo.pitch = 0;
    wide = wide_of(&yo, c) && wide_of(&xo, c) && wide_of(&wo, c);
    cuda_enter(d);
    if (c <= SHORT_ROW) row_norm<32><<<cuda_blocks(n, 8), 256, 0, cuda_stream(d)>>>(yo, xo, wo, n, inner, c, eps, centered, wide);
    else row_norm<256><<<cuda_blocks(n, 1), 256, 0, cuda_stream(d)>>>(yo, xo, wo, n, inner, c, eps, centered, wide);
    cuda_note(d, name);
}

extern "C" void cuda_rms_norm(struct dev *d, struct tensor *y, const struct tensor *x, const struct tensor *w, float eps)
{
    if (cuda_takes(d, w)) run_rows(d, "rms_norm", y, x, w, eps, false);
}

extern "C" void cuda_layer_norm(struct dev *d, struct tensor *y, const struct tensor *x, float eps)
{
    run_rows(d, "layer_norm", y, x, NULL, eps, true);
}

/* sums [chunks][2][c]: of x and x^2 over a chunk of pixels. Threads: x eights of channels, y pixels. */
static __global__ void group_sums(struct operand x, double *sums, int64_t pixels, int64_t per_chunk, int64_t c, bool wide)
{
    __shared__ double ss[256], qs[256];
    const int64_t     first = blockIdx.x * per_chunk, end = first + per_chunk < pixels ? first + per_chunk : pixels;
    const int         me = threadIdx.y * blockDim.x + threadIdx.x;

    for (int64_t base = 0; base < c; base += (int64_t)blockDim.x * 8) {
        const int64_t at = base + threadIdx.x * 8;
        const int     m = c - at < 8 ? (int)(c - at) : 8; /* <= 0 beyond the last channel */
        float         v[8], pivot[8] = {0}, s[8] = {0}, q[8] = {0};
        double        n = 0.0;

        for (int64_t p = first + threadIdx.y; m > 0 && p < end; p += blockDim.y) {
            load8(v, x.p, x.type, p * c + at, m, wide);
#pragma unroll
            for (int i = 0; i < 8; i++) {
                if (n == 0.0) pivot[i] = v[i];
                v[i] -= pivot[i];
                s[i] += v[i];
                q[i] = fmaf(v[i], v[i], q[i]);
            }
            n += 1.0;
        }
#pragma unroll
        for (int i = 0; i < 8; i++) {
            const double pv = (double)pivot[i];

            ss[me] = (double)s[i] + n * pv;
            qs[me] = (double)q[i] + 2.0 * pv * (double)s[i] + n * pv * pv;
            __syncthreads();
            if (threadIdx.y == 0 && i < m) {
                double a = 0.0, b = 0.0;

                for (unsigned j = 0; j < blockDim.y; j++) {
                    a += ss[j * blockDim.x + threadIdx.x];
                    b += qs[j * blockDim.x + threadIdx.x];
                }
                sums[(blockIdx.x * 2) * c + at + i] = a;
                sums[(blockIdx.x * 2 + 1) * c + at + i] = b;
            }
            __syncthreads();
        }
    }
}

/* One block per group. stats [3][c]: mean, multiplier, bias of each channel. */
static __global__ void group_fold(const double *sums, float *stats, struct operand w, struct operand b, int64_t n_chunks, int64_t c, int64_t per_group,
                                  double count, float eps)
{
    __shared__ double ss[256], qs[256];
    const int64_t     first = blockIdx.x * per_group;
    double            a = 0.0, q = 0.0;

    for (int64_t i = threadIdx.x; i < n_chunks * per_group; i += 256) {
        const double *part = sums + i / per_group * 2 * c + first + i % per_group;

        a += part[0];
        q += part[c];
    }
    ss[threadIdx.x] = a;
    qs[threadIdx.x] = q;
    __syncthreads();
    for (int half = 128; half > 0; half /= 2) {
        if ((int)threadIdx.x < half) {
            ss[threadIdx.x] += ss[threadIdx.x + half];
            qs[threadIdx.x] += qs[threadIdx.x + half];
        }
        __syncthreads();
    }
    const double mean = ss[0] / count, var = qs[0] / count - mean * mean, r = 1.0 / sqrt((var < 0.0 ? 0.0 : var) + (double)eps); /* NaN stays NaN */

    for (int64_t i = first + threadIdx.x; i < first + per_group; i += 256) {
        stats[i] = (float)mean;
        stats[c + i] = (float)(r * (double)load1(w.p, w.type, i));
        stats[2 * c + i] = load1(b.p, b.type, i);
    }
}

static __global__ void group_apply(struct operand y, struct operand x, const float *stats, int64_t pixels, int64_t c, bool act, bool wide)
{
    const int64_t at = ((int64_t)blockIdx.x * blockDim.x + threadIdx.x) * 8;
    const int     m = c - at < 8 ? (int)(c - at) : 8;
    float         mean[8], mul[8], bias[8], v[8];

    if (at >= c) return;
    load8(mean, stats, DTYPE_F32, at, m, false);
    load8(mul, stats, DTYPE_F32, c + at, m, false);
    load8(bias, stats, DTYPE_F32, 2 * c + at, m, false);
    for (int64_t p = (int64_t)blockIdx.y * blockDim.y + threadIdx.y; p < pixels; p += (int64_t)gridDim.y * blockDim.y) {
        load8(v, x.p, x.type, p * c + at, m, wide);
#pragma unroll
        for (int i = 0; i < 8; i++) {
            v[i] = fmaf(v[i] - mean[i], mul[i], bias[i]);
            if (act) v[i] = silu(v[i]);
        }
        store8(y.p, y.type, p * c + at, v, m, wide);
    }
}

extern "C" void cuda_group_norm(struct dev *d, struct tensor *y, const struct tensor *x, const struct tensor *w, const struct tensor *b, int n_groups,
                                float eps, enum act act)
{
    const int64_t  pixels = x->dim[0] * x->dim[1], c = x->dim[2], per_group = c / n_groups;
    const int64_t  per_chunk = pixels / 2048 < 256 ? 256 : (pixels + 2047) / 2048, n_chunks = (pixels + per_chunk - 1) / per_chunk;
    const size_t   sums_bytes = (size_t)(n_chunks * 2 * c) * sizeof(double);
    struct operand yo = operand_of(y), xo = operand_of(x);
    struct cut     k = cut_rows(d, pixels, c);
    double        *sums;
    bool           wide;

    if (!cuda_takes(d, w) || !cuda_takes(d, b)) return;
    sums = (double *)cuda_space(d, SLOT_SUMS, sums_bytes + (size_t)(3 * c) * sizeof(float));
    if (!sums) return;
    xo.pitch = yo.pitch = c;
    wide = wide_of(&xo, c) && wide_of(&yo, c);
    float *stats = (float *)((char *)sums + sums_bytes);

    group_sums<<<(unsigned)n_chunks, k.threads, 0, cuda_stream(d)>>>(xo, sums, pixels, per_chunk, c, wide);
    group_fold<<<(unsigned)n_groups, 256, 0, cuda_stream(d)>>>(sums, stats, operand_of(w), operand_of(b), n_chunks, c, per_group,
                                                               (double)(pixels * per_group), eps);
    group_apply<<<k.blocks, k.threads, 0, cuda_stream(d)>>>(yo, xo, stats, pixels, c, act == ACT_SILU, wide);
    cuda_note(d, "group_norm");
}
