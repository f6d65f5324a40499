/* act.cu - elementwise ops over rows: one kernel, one small function per op. A thread keeps one eight of columns and walks down the rows,
 * so what depends on the column alone is computed once.
 * Not here: norms (norm.cu, fused.cu), elements that change place or type (move.cu). */
#include "kernels/cuda/common.cuh"

struct silu_f {
    static __device__ float column(float v) { return v; }
    static __device__ float of(float x, float, float, float) { return silu(x); }
};
struct swiglu_f {
    static __device__ float column(float v) { return v; }
    static __device__ float of(float x, float h, float, float) { return silu(x) * h; }
};
struct scale_f {
    static __device__ float column(float v) { return 1.0f + v; }
    static __device__ float of(float x, float, float v, float) { return x * v; }
};
struct tanh_f {
    static __device__ float column(float v) { return v; }
    static __device__ float of(float x, float, float, float) { return tanhf(x); }
};
struct add_f {
    static __device__ float column(float v) { return v; }
    static __device__ float of(float x, float h, float, float) { return x + h; }
};
struct add_row_f {
    static __device__ float column(float v) { return v; }
    static __device__ float of(float x, float, float v, float) { return x + v; }
};
struct axpy_f { /* one multiply-add with one rounding, as on the CPU */
    static __device__ float column(float v) { return v; }
    static __device__ float of(float x, float h, float, float a) { return fmaf(a, h, x); }
};

/* x = F(x, h, vec, a); h and vec may be missing. */
template <class F>
static __global__ void rows(struct operand x, struct operand h, struct operand vec, float a, int64_t n, int64_t c, bool wide)
{
    const int64_t at = ((int64_t)blockIdx.x * blockDim.x + threadIdx.x) * 8;
    const int     m = c - at < 8 ? (int)(c - at) : 8;
    float         xs[8], hs[8] = {0}, vs[8] = {0};

    if (at >= c) return;
    if (vec.p) {
        load8(vs, vec.p, vec.type, at, m, wide);
#pragma unroll
        for (int i = 0; i < 8; i++) vs[i] = F::column(vs[i]);
    }
    for (int64_t row = (int64_t)blockIdx.y * blockDim.y + threadIdx.y; row < n; row += (int64_t)gridDim.y * blockDim.y) {
        load8(xs, x.p, x.type, row * x.pitch + at, m, wide);
        if (h.p) load8(hs, h.p, h.type, row * h.pitch + at, m, wide);
#pragma unroll
        for (int i = 0; i < 8; i++) xs[i] = F::of(xs[i], hs[i], vs[i], a);
        store8(x.p, x.type, row * x.pitch + at, xs, m, wide);
    }
}

template <class F>
static void run(struct dev *d, const char *name, struct tensor *x, const struct tensor *h, const struct tensor *vec, float a)
{
    struct operand xo = operand_of(x), ho = operand_of(h), vo = operand_of(vec);
    int64_t        n = x->dim[0], c = tensor_cols(x);
    bool           wide;
    struct cut     k;

    if (!vec && (n == 1 || tensor_dense(x)) && (!h || n == 1 || tensor_dense(h))) { /* one long row */
        c *= n;
        n = 1;
        xo.pitch = ho.pitch = c;
    }
    vo.pitch = 0;
    wide = wide_of(&xo, c) && wide_of(&ho, c) && wide_of(&vo, c);
    k = cut_rows(d, n, c);
    cuda_enter(d);
    rows<F><<<k.blocks, k.threads, 0, cuda_stream(d)>>>(xo, ho, vo, a, n, c, wide);
    cuda_note(d, name);
}

/* A long row of which the last few elements do not fill an eight: all but them go wide. */
template <class F>
static void run_flat(struct dev *d, const char *name, struct tensor *x, const struct tensor *h, float a)
{
    const int64_t n = tensor_count(x), body = n / 8 * 8;
    struct tensor xs = tensor_view(x, 1, &n), hs = tensor_view(h, 1, &n), part, other;

    if (body) {
        part = tensor_slice(&xs, 0, body);
        other = tensor_slice(&hs, 0, body);
        run<F>(d, name, &part, &other, NULL, a);
    }
    if (body < n) {
        part = tensor_slice(&xs, body, n - body);
        other = tensor_slice(&hs, body, n - body);
        run<F>(d, name, &part, &other, NULL, a);
    }
}

extern "C" void cuda_silu(struct dev *d, struct tensor *x)
{
    run<silu_f>(d, "silu", x, NULL, NULL, 0.0f);
}

extern "C" void cuda_tanh(struct dev *d, struct tensor *x)
{
    run<tanh_f>(d, "tanh", x, NULL, NULL, 0.0f);
}

/* In bf16 the quick exponential and quotient err far less than the last rounding. Two rows are in flight per thread. */
static __device__ __forceinline__ uint4 swiglu8(uint4 x, uint4 h)
{
    float xs[8], hs[8];

    widen8(xs, x);
    widen8(hs, h);
#pragma unroll
    for (int i = 0; i < 8; i++) xs[i] = __fdividef(xs[i], 1.0f + __expf(-xs[i])) * hs[i];
    return narrow8(xs);
}

static __global__ void __launch_bounds__(256) swiglu_bf16(uint16_t *x, const uint16_t *h, int64_t ldx, int64_t ldh, int64_t n, int64_t c)
{
    const int64_t at = ((int64_t)blockIdx.x * blockDim.x + threadIdx.x) * 8, step = (int64_t)gridDim.y * blockDim.y;

    if (at >= c) return;
    for (int64_t row = (int64_t)blockIdx.y * blockDim.y + threadIdx.y; row < n; row += 2 * step) {
        const int64_t two = row + step < n ? row + step : row;
        uint4        *to = (uint4 *)(x + row * ldx + at), *to_two = (uint4 *)(x + two * ldx + at);
        const uint4   a = *to, b = *to_two, u = *(const uint4 *)(h + row * ldh + at), v = *(const uint4 *)(h + two * ldh + at);

        *to = swiglu8(a, u);
        if (two != row) *to_two = swiglu8(b, v);
    }
}

extern "C" void cuda_swiglu(struct dev *d, struct tensor *g, const struct tensor *up)
{
    const int64_t        n = g->dim[0], c = g->dim[1];
    const struct operand go = operand_of(g), uo = operand_of(up);

    if (g->type == DTYPE_BF16 && up->type == DTYPE_BF16 && wide_of(&go, c) && wide_of(&uo, c)) {
        const struct cut k = cut_rows(d, (n + 1) / 2, c);

        cuda_enter(d);
        swiglu_bf16<<<k.blocks, k.threads, 0, cuda_stream(d)>>>((uint16_t *)go.p, (const uint16_t *)uo.p, go.pitch, uo.pitch, n, c);
        cuda_note(d, "swiglu");
        return;
    }
    run<swiglu_f>(d, "swiglu", g, up, NULL, 0.0f);
}

extern "C" void cuda_scale_rows(struct dev *d, struct tensor *x, const struct tensor *scale)
{
    if (cuda_takes(d, scale)) run<scale_f>(d, "scale_rows", x, NULL, scale, 0.0f);
}

extern "C" void cuda_add(struct dev *d, struct tensor *x, const struct tensor *h)
{
    if (tensor_same_shape(x, h)) run<add_f>(d, "add", x, h, NULL, 0.0f);
    else if (cuda_takes(d, h)) run<add_row_f>(d, "add", x, NULL, h, 0.0f);
}

extern "C" void cuda_axpy(struct dev *d, struct tensor *x, float a, const struct tensor *h)
{
    run_flat<axpy_f>(d, "axpy", x, h, a);
}

/* The reference's own F32 steps: frequency, argument, then cos and sin; double inside, so that no rounding adds up. */
static __global__ void time_embed(void *y, int type, int64_t half, float t)
{
    const int64_t k = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;

    if (k >= half) return;
    float arg = __fdiv_rn(__fmul_rn(-9.210340371976184f, (float)k), (float)half);
    float at = __fmul_rn(t, (float)exp((double)arg));

    store1(y, type, k, (float)cos((double)at));
    store1(y, type, half + k, (float)sin((double)at));
}

extern "C" void cuda_time_embed(struct dev *d, struct tensor *y, float t)
{
    const int64_t half = y->dim[1] / 2;

    cuda_enter(d);
    time_embed<<<(unsigned)((half + 127) / 128), 128, 0, cuda_stream(d)>>>(y->data, (int)y->type, half, t);
    cuda_note(d, "time_embed");
}
