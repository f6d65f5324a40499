/* move.cu - elements change place or type: casts, rows of a table, patches, channels last, pixels, a convolution's weight in its order.
 * Not here: im2col (conv.cu). */
#include "kernels/cuda/common.cuh"

extern "C" {
#include "kernels/quant.h"
}

static __global__ void cast(struct operand to, struct operand from, int64_t n, int64_t c, bool wide)
{
    const int64_t at = ((int64_t)blockIdx.x * blockDim.x + threadIdx.x) * 8;
    const int     m = c - at < 8 ? (int)(c - at) : 8;
    float         v[8];

    if (at >= c) return;
    for (int64_t row = (int64_t)blockIdx.y * blockDim.y + threadIdx.y; row < n; row += (int64_t)gridDim.y * blockDim.y) {
        load8(v, from.p, from.type, row * from.pitch + at, m, wide);
        store8(to.p, to.type, row * to.pitch + at, v, m, wide);
    }
}

extern "C" void cuda_cast(struct dev *d, void *to, enum dtype to_type, int64_t ldto, const void *from, enum dtype from_type, int64_t ldfrom, int64_t n,
                          int64_t c)
{
    struct operand t = {to, (int)to_type, ldto}, f = {(void *)from, (int)from_type, ldfrom}; /* from is only read */
    struct cut     k;

    if (n == 1 || (ldto == c && ldfrom == c)) { /* one long row */
        c *= n;
        n = 1;
        t.pitch = f.pitch = c;
    }
    k = cut_rows(d, n, c);
    cuda_enter(d);
    cast<<<k.blocks, k.threads, 0, cuda_stream(d)>>>(t, f, n, c, wide_of(&t, c) && wide_of(&f, c));
    cuda_note(d, "cast");
}

extern "C" void cuda_copy(struct dev *d, struct tensor *y, const struct tensor *x)
{
    const int64_t c = tensor_cols(y), n = y->dim[0], ldy = cuda_pitch(y), ldx = cuda_pitch(x);
    cudaError_t   rc;

    cuda_enter(d);
    if (y->type != x->type) {
        cuda_cast(d, y->data, y->type, ldy, x->data, x->type, ldx, n, c);
        return;
    }
    const size_t width = dtype_bytes(y->type) * (size_t)c;

    if (ldy == c && ldx == c) {
        rc = cudaMemcpyAsync(y->data, x->data, width * (size_t)n, cudaMemcpyDeviceToDevice, cuda_stream(d));
    } else {
        rc = cudaMemcpy2DAsync(y->data, dtype_bytes(y->type) * (size_t)ldy, x->data, dtype_bytes(x->type) * (size_t)ldx, width, (size_t)n,
                               cudaMemcpyDeviceToDevice, cuda_stream(d));
    }
    if (rc != cudaSuccess) dev_fail(d, ERR_DEVICE, "%s: copy: %s", d->name, cudaGetErrorString(rc));
}

/* y[i] = table[ids ? ids[i] : 0] */
static __global__ void take_rows(struct operand y, struct operand table, const int32_t *ids, int64_t n, int64_t c, bool wide)
{
    const int64_t at = ((int64_t)blockIdx.x * blockDim.x + threadIdx.x) * 8;
    const int     m = c - at < 8 ? (int)(c - at) : 8;
    float         v[8];

    if (at >= c) return;
    for (int64_t row = (int64_t)blockIdx.y * blockDim.y + threadIdx.y; row < n; row += (int64_t)gridDim.y * blockDim.y) {
        load8(v, table.p, table.type, (ids ? ids[row] : 0) * table.pitch + at, m, wide);
        store8(y.p, y.type, row * y.pitch + at, v, m, wide);
    }
}

static void run_take(struct dev *d, struct tensor *y, const struct tensor *table, const int32_t *ids)
{
    const int64_t  n = y->dim[0], c = y->dim[1];
    struct operand yo = operand_of(y), to = operand_of(table);
    struct cut     k = cut_rows(d, n, c);

    if (table->rank == 1) to.pitch = 0;
    cuda_enter(d);
    take_rows<<<k.blocks, k.threads, 0, cuda_stream(d)>>>(yo, to, ids, n, c, wide_of(&yo, c) && wide_of(&to, c));
    cuda_note(d, "rows");
}

/* A table of a block kind stays as it is: its rows alone are widened. */
extern "C" void cuda_embed_rows(struct dev *d, struct tensor *y, const struct tensor *table, const int32_t *ids)
{
    const size_t bytes = (size_t)y->dim[0] * sizeof *ids;
    int32_t     *at;
    cudaError_t  rc;

    if (!(at = (int32_t *)cuda_space(d, SLOT_IDS, bytes))) return;
    rc = cudaMemcpyAsync(at, ids, bytes, cudaMemcpyHostToDevice, cuda_stream(d)); /* pageable memory: the caller's again when this returns */
    if (rc != cudaSuccess) dev_fail(d, ERR_DEVICE, "%s: embed_rows: %s", d->name, cudaGetErrorString(rc));
    else if (quant_is(table->type)) cuda_widen(d, cuda_stream(d), y->data, y->type, cuda_pitch(y), table, at, y->dim[0], table->scale);
    else run_take(d, y, table, at);
}

extern "C" void cuda_fill_rows(struct dev *d, struct tensor *y, const struct tensor *row)
{
    struct tensor flat;
    const int64_t c = y->dim[1];

    if (!cuda_takes(d, row)) return;
    flat = tensor_view(row, 1, &c);
    run_take(d, y, &flat, NULL);
}

/* Element i of the latent [c,h,w] and its place among the tokens. back: tokens -> latent. */
static __global__ void patches(struct operand tok, float *z, int64_t c, int64_t h, int64_t w, int64_t p, bool back)
{
    const int64_t total = c * h * w, stride = (int64_t)gridDim.x * blockDim.x;

    for (int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x; i < total; i += stride) {
        const int64_t px = i % w, py = i / w % h, ch = i / w / h;
        const int64_t at = (py / p * (w / p) + px / p) * tok.pitch + (py % p * p + px % p) * c + ch;

        if (back) z[i] = load1(tok.p, tok.type, at);
        else store1(tok.p, tok.type, at, z[i]);
    }
}

static void run_patches(struct dev *d, const struct tensor *tok, const struct tensor *z, int patch, bool back)
{
    cuda_enter(d);
    patches<<<cuda_blocks(tensor_count(z), 256), 256, 0, cuda_stream(d)>>>(operand_of(tok), (float *)z->data, z->dim[0], z->dim[1], z->dim[2], patch, back);
    cuda_note(d, "patches");
}

extern "C" void cuda_patchify(struct dev *d, struct tensor *y, const struct tensor *z, int patch)
{
    run_patches(d, y, z, patch, false);
}

extern "C" void cuda_unpatchify(struct dev *d, struct tensor *z, const struct tensor *x, int patch)
{
    run_patches(d, x, z, patch, true);
}

static __global__ void nhwc(void *y, int type, const float *z, int64_t c, int64_t cells, float mul, float add)
{
    const int64_t stride = (int64_t)gridDim.x * blockDim.x;

    for (int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x; i < c * cells; i += stride) {
        store1(y, type, i, __fadd_rn(__fmul_rn(z[i % c * cells + i / c], mul), add)); /* two roundings, as the reference */
    }
}

extern "C" void cuda_to_nhwc(struct dev *d, struct tensor *y, const struct tensor *z, float mul, float add)
{
    cuda_enter(d);
    nhwc<<<cuda_blocks(tensor_count(z), 256), 256, 0, cuda_stream(d)>>>(y->data, (int)y->type, (const float *)z->data, z->dim[0], z->dim[1] * z->dim[2], mul,
                                                                       add);
    cuda_note(d, "to_nhwc");
}

static __global__ void rgb8(uint8_t *y, const void *x, int type, int64_t n)
{
    const int64_t stride = (int64_t)gridDim.x * blockDim.x;

    for (int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x; i < n; i += stride) {
        float v = load1(x, type, i) * 0.5f + 0.5f;

        v = v > 0.0f ? v : 0.0f; /* a NaN gives 0: op_all_finite() is who tells */
        v = v < 1.0f ? v : 1.0f;
        y[i] = (uint8_t)rintf(v * 255.0f);
    }
}

extern "C" void cuda_to_rgb8(struct dev *d, struct tensor *y, const struct tensor *x)
{
    const int64_t n = tensor_count(x);

    cuda_enter(d);
    rgb8<<<cuda_blocks(n, 256), 256, 0, cuda_stream(d)>>>((uint8_t *)y->data, x->data, (int)x->type, n);
    cuda_note(d, "to_rgb8");
}

static __global__ void order(void *to, int to_type, const void *from, int from_type, int64_t rows, int64_t co, int64_t ci, int64_t taps)
{
    const int64_t total = rows * ci * taps, stride = (int64_t)gridDim.x * blockDim.x;

    for (int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x; i < total; i += stride) {
        const int64_t c = i % ci, tap = i / ci % taps, o = i / ci / taps;

        store1(to, to_type, i, o < co ? load1(from, from_type, (o * ci + c) * taps + tap) : 0.0f);
    }
}

extern "C" void cuda_order(struct dev *d, void *to, const void *from, enum dtype from_type, int64_t co, int64_t ci, int64_t k)
{
    const int64_t rows = cuda_ordered_rows(co);

    cuda_enter(d);
    order<<<cuda_blocks(rows * ci * k * k, 256), 256, 0, cuda_stream(d)>>>(to, (int)cuda_product_type(d), from, (int)from_type, rows, co, ci, k * k);
    cuda_note(d, "order");
}
