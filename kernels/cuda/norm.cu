/* norm.cu - RMS, layer and group norm. A row belongs to a warp when it is short and to a block when it is long; sums have a fixed tree.
 * Group norm: 1 sums per channel and chunk of pixels, around a pivot, handed on in double; 2 folded in order per group; 3 applied, by rows.
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

/* Chunks of pixels whose sums are kept apart: enough for the whole chip, few enough to fold. By shape alone. */
#define CHUNKS_MAX 1056
#define CHUNK_MIN  32
#define AHEAD      4    /* pixels of a thread that are on their way at the same time */
#define QUICK_C    1024 /* channels, at most, of the kernels for bf16 in whole eights that divide 256 threads */

/* sums [chunks][2][groups]: of x and x^2 over a chunk of pixels, around the chunk's first. Threads: eights of channels, then pixels. */
static __global__ void __launch_bounds__(256) group_sums16(const uint4 *x, double *sums, int64_t pixels, int64_t per_chunk, int eights, int n_groups)
{
    __shared__ float  part[256][17]; /* a thread's sums: 8 of x, 8 of x^2 */
    __shared__ double all[2][QUICK_C];
    const int         tx = threadIdx.x % eights, ty = threadIdx.x / eights, down = 256 / eights, per_group = eights * 8 / n_groups;
    const int64_t     first = blockIdx.x * per_chunk, end = first + per_chunk < pixels ? first + per_chunk : pixels;
    float             pivot[8], s[8] = {0}, q[8] = {0};

    widen8(pivot, x[first * eights + tx]);
    for (int64_t p = first + ty; p < end; p += AHEAD * down) {
        uint4 u[AHEAD];

#pragma unroll
        for (int k = 0; k < AHEAD; k++) {
            if (p + k * down < end) u[k] = x[(p + k * down) * eights + tx];
        }
#pragma unroll
        for (int k = 0; k < AHEAD; k++) {
            float v[8];

            if (p + k * down >= end) break;
            widen8(v, u[k]);
#pragma unroll
            for (int i = 0; i < 8; i++) v[i] -= pivot[i], s[i] += v[i], q[i] = fmaf(v[i], v[i], q[i]);
        }
    }
#pragma unroll
    for (int i = 0; i < 8; i++) part[threadIdx.x][i] = s[i], part[threadIdx.x][8 + i] = q[i];
    __syncthreads();
    for (int c = threadIdx.x; c < eights * 8; c += 256) {
        const double n = (double)(end - first);
        double       a = 0.0, b = 0.0, pv;
        float        at[8];

        widen8(at, x[first * eights + c / 8]);
        pv = (double)at[c % 8];
        for (int j = 0; j < down; j++) a += (double)part[j * eights + c / 8][c % 8], b += (double)part[j * eights + c / 8][8 + c % 8];
        all[0][c] = a + n * pv;
        all[1][c] = b + 2.0 * pv * a + n * pv * pv;
    }
    __syncthreads();
    for (int i = threadIdx.x; i < 2 * n_groups; i += 256) {
        const double *from = all[i / n_groups] + i % n_groups * per_group;
        double        a = 0.0;

        for (int c = 0; c < per_group; c++) a += from[c];
        sums[(int64_t)blockIdx.x * 2 * n_groups + i] = a;
    }
}

/* Any type and width. sums [chunks][2][c]. Threads: x eights of channels, y pixels. */
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

/* One block per group, of per_sum sums in every chunk. stats [3][c]: mean, multiplier, bias of each channel. */
static __global__ void group_fold(const double *sums, float *stats, struct operand w, struct operand b, int64_t n_chunks, int64_t per_sum, int64_t c,
                                  double count, float eps)
{
    __shared__ double ss[256], qs[256];
    const int64_t     n_sums = per_sum * gridDim.x, per_group = c / gridDim.x, first = blockIdx.x * per_group;
    double            a = 0.0, q = 0.0;

    for (int64_t chunk = threadIdx.x; chunk < n_chunks; chunk += 256) {
        const double *part = sums + chunk * 2 * n_sums + blockIdx.x * per_sum;

        for (int64_t i = 0; i < per_sum; i++) {
            a += part[i];
            q += part[n_sums + i];
        }
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

/* y's pixel p is x's pixel p + shift; outside of x's pixels: zeros. The quick exponential: its error is far below a rounding to 16 bits. */
static __global__ void __launch_bounds__(256) group_apply16(uint4 *y, const uint4 *x, const float *stats, int64_t n, int64_t shift, int64_t pixels, int eights,
                                                            bool act)
{
    const int     tx = threadIdx.x % eights, down = 256 / eights, c = eights * 8;
    const int64_t first = (int64_t)blockIdx.x * AHEAD * down + threadIdx.x / eights;
    float         mul[8], add[8];
    uint4         u[AHEAD];

#pragma unroll
    for (int k = 0; k < AHEAD; k++) {
        const int64_t to = first + k * down, from = to + shift;

        if (to < n && from >= 0 && from < pixels) u[k] = x[from * eights + tx];
    }
#pragma unroll
    for (int i = 0; i < 8; i++) {
        mul[i] = stats[c + tx * 8 + i];
        add[i] = fmaf(-stats[tx * 8 + i], mul[i], stats[2 * c + tx * 8 + i]);
    }
#pragma unroll
    for (int k = 0; k < AHEAD; k++) {
        const int64_t to = first + k * down, from = to + shift;
        float         v[8];

        if (to >= n) return;
        widen8(v, u[k]);
#pragma unroll
        for (int i = 0; i < 8; i++) {
            v[i] = fmaf(v[i], mul[i], add[i]);
            if (act) v[i] = __fdividef(v[i], 1.0f + __expf(-v[i]));
        }
        u[k] = narrow8(v);
        y[to * eights + tx] = from >= 0 && from < pixels ? u[k] : make_uint4(0, 0, 0, 0);
    }
}

/* Any types and width. */
static __global__ void group_apply(struct operand y, struct operand x, const float *stats, int64_t n, int64_t shift, int64_t pixels, int64_t c, bool act,
                                   bool wide)
{
    const int64_t at = ((int64_t)blockIdx.x * blockDim.x + threadIdx.x) * 8;
    const int     m = c - at < 8 ? (int)(c - at) : 8;
    float         mean[8], mul[8], bias[8];

    if (at >= c) return;
    load8(mean, stats, DTYPE_F32, at, m, false);
    load8(mul, stats, DTYPE_F32, c + at, m, false);
    load8(bias, stats, DTYPE_F32, 2 * c + at, m, false);
    for (int64_t p = (int64_t)blockIdx.y * blockDim.y + threadIdx.y; p < n; p += (int64_t)gridDim.y * blockDim.y) {
        const int64_t from = p + shift;
        float         v[8] = {0};

        if (from >= 0 && from < pixels) {
            load8(v, x.p, x.type, from * c + at, m, wide);
#pragma unroll
            for (int i = 0; i < 8; i++) {
                v[i] = fmaf(v[i] - mean[i], mul[i], bias[i]);
                if (act) v[i] = silu(v[i]);
            }
        }
        store8(y.p, y.type, p * c + at, v, m, wide);
    }
}

/* Eights of channels when the quick kernels take t, else 0. */
static int quick_eights(const struct tensor *t, int64_t c)
{
    return t->type == DTYPE_BF16 && c % 8 == 0 && c <= QUICK_C && 256 % (c / 8) == 0 && (uintptr_t)t->data % 16 == 0 ? (int)(c / 8) : 0;
}

extern "C" void cuda_group_stats(struct dev *d, struct tensor *stats, const struct tensor *x, const struct tensor *w, const struct tensor *b, int n_groups,
                                 float eps)
{
    const int64_t  pixels = x->dim[0] * x->dim[1], c = x->dim[2], even = (pixels + CHUNKS_MAX - 1) / CHUNKS_MAX;
    const int64_t  per_chunk = even < CHUNK_MIN ? CHUNK_MIN : even, n_chunks = (pixels + per_chunk - 1) / per_chunk;
    const int      eights = quick_eights(x, c);
    struct operand xo = operand_of(x);
    struct cut     k = cut_rows(d, pixels, c);
    double        *sums;

    if (!cuda_takes(d, w) || !cuda_takes(d, b)) return;
    sums = (double *)cuda_space(d, SLOT_SUMS, (size_t)(n_chunks * 2 * c) * sizeof(double));
    if (!sums) return;
    xo.pitch = c;
    if (eights) group_sums16<<<(unsigned)n_chunks, 256, 0, cuda_stream(d)>>>((const uint4 *)x->data, sums, pixels, per_chunk, eights, n_groups);
    else group_sums<<<(unsigned)n_chunks, k.threads, 0, cuda_stream(d)>>>(xo, sums, pixels, per_chunk, c, wide_of(&xo, c));
    group_fold<<<(unsigned)n_groups, 256, 0, cuda_stream(d)>>>(sums, (float *)stats->data, operand_of(w), operand_of(b), n_chunks, eights ? 1 : c / n_groups, c,
                                                               (double)(pixels * (c / n_groups)), eps);
    cuda_note(d, "group_stats");
}

extern "C" void cuda_group_apply(struct dev *d, struct tensor *y, const struct tensor *x, const struct tensor *stats, int64_t first, enum act act)
{
    const int64_t  n = y->dim[0] * y->dim[1], c = x->dim[2], pixels = x->dim[0] * x->dim[1], shift = first * x->dim[1];
    const int      eights = quick_eights(y, c) ? quick_eights(x, c) : 0;
    const int64_t  tiles = eights ? (n + AHEAD * (256 / eights) - 1) / (AHEAD * (256 / eights)) : 0;
    struct operand yo = operand_of(y), xo = operand_of(x);
    struct cut     k = cut_rows(d, n, c);
    const float   *s = (const float *)stats->data;

    cuda_enter(d);
    xo.pitch = yo.pitch = c;
    if (eights && tiles <= INT32_MAX) {
        group_apply16<<<(unsigned)tiles, 256, 0, cuda_stream(d)>>>((uint4 *)y->data, (const uint4 *)x->data, s, n, shift, pixels, eights, act == ACT_SILU);
    } else {
        group_apply<<<k.blocks, k.threads, 0, cuda_stream(d)>>>(yo, xo, s, n, shift, pixels, c, act == ACT_SILU, wide_of(&xo, c) && wide_of(&yo, c));
    }
    cuda_note(d, "group_apply");
}
