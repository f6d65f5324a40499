/* conv.cu - convolutions as products: the k x k neighbourhoods of a chunk of pixels as rows (im2col), times the weight [co, k*k*ci].
 * 1x1: the image is its own rows. Chunks bound the work space; a pixel's sum does not see them.
 * Where cuDNN is (dnn.c) it takes 3x3 in bf16.
 * Not here: the product (blas.c, gemm.cu), sub-pixel upsampling. */
#include "kernels/cuda/common.cuh"

#define COLUMNS_BYTES ((int64_t)128 << 20)

/* rows of pixels first .. first + n: to[p][tap][ci], zeros outside the picture. Threads walk over eights of ci. */
static __global__ void im2col(void *to, int to_type, const void *x, int x_type, int64_t first, int64_t n, int64_t h, int64_t w, int64_t ci, bool wide)
{
    const int64_t eights = (ci + 7) / 8, total = n * 9 * eights, stride = (int64_t)gridDim.x * blockDim.x;

    for (int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x; i < total; i += stride) {
        const int64_t c = i % eights * 8, tap = i / eights % 9, p = i / eights / 9;
        const int64_t py = (first + p) / w + tap / 3 - 1, px = (first + p) % w + tap % 3 - 1;
        const int     m = ci - c < 8 ? (int)(ci - c) : 8;
        float         v[8] = {0};

        if (py >= 0 && py < h && px >= 0 && px < w) load8(v, x, x_type, (py * w + px) * ci + c, m, wide);
        store8(to, to_type, (p * 9 + tap) * ci + c, v, m, wide);
    }
}

/* y [n,co] = the first co of each 8 m values of wide, + bias + add. */
static __global__ void narrow(struct operand y, const void *wide, int64_t ld, struct operand bias, struct operand add, int64_t n, int64_t co)
{
    const int64_t stride = (int64_t)gridDim.x * blockDim.x;

    for (int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x; i < n * co; i += stride) {
        const int64_t p = i / co, c = i % co;

        store1(y.p, y.type, i, load1(wide, DTYPE_BF16, p * ld + c) + load1(bias.p, bias.type, c) + (add.p ? load1(add.p, add.type, i) : 0.0f));
    }
}

/* Few or odd channels out: cuDNN makes whole eights of them in the work space (the weight has rows of zeros there). */
static bool narrow_by_dnn(struct dev *d, struct tensor *y, const struct tensor *x, const void *w, const struct tensor *bias, const struct tensor *add)
{
    const int64_t h = x->dim[0], wd = x->dim[1], co = y->dim[2], ld = cuda_ordered_rows(co);
    void         *wide = cuda_space(d, SLOT_COLUMNS, (size_t)(h * wd * ld) * 2);

    if (!wide) return true; /* the failure sticks */
    if (!dnn_conv3x3(d, wide, x->data, w, h, wd, x->dim[2], ld, false)) return false;
    narrow<<<cuda_blocks(h * wd * co, 256), 256, 0, cuda_stream(d)>>>(operand_of(y), wide, ld, operand_of(bias), operand_of(add), h * wd, co);
    cuda_note(d, "conv2d");
    return true;
}

/* bias16: bias in y's type. True: cuDNN has done it, or a failure sticks. False: it is still to do. */
static bool by_dnn(struct dev *d, struct tensor *y, const struct tensor *x, const void *w, const struct tensor *bias, const void *bias16,
                   const struct tensor *add)
{
    const int64_t h = x->dim[0], wd = x->dim[1], ci = x->dim[2], co = y->dim[2], flat[2] = {h * wd, co};
    struct tensor y2 = tensor_view(y, 2, flat);

    if (ci % 8 || x->type != DTYPE_BF16 || y->type != DTYPE_BF16 || (uintptr_t)x->data % 16) return false; /* an F32 y wants F32 sums: a product */
    if (co % 8 || (uintptr_t)y->data % 16) return co < 64 && narrow_by_dnn(d, y, x, w, bias, add);
    if ((!add || (add->type == DTYPE_BF16 && (uintptr_t)add->data % 16 == 0)) &&
        dnn_conv3x3_bias(d, y->data, x->data, w, bias16, add ? add->data : NULL, h, wd, ci, co)) return true;
    if (d->err.code) return true;
    if (add && add->data != y->data) cuda_copy(d, y, add);
    if (!dnn_conv3x3(d, y->data, x->data, w, h, wd, ci, co, add != NULL)) return false; /* y is what add was: nothing is lost */
    cuda_add(d, &y2, bias);
    return true;
}

extern "C" void cuda_conv2d(struct dev *d, struct tensor *y, const struct tensor *x, const struct tensor *w, const struct tensor *bias,
                            const struct tensor *add)
{
    const enum dtype type = cuda_product_type(d), y_type = type == DTYPE_F32 ? DTYPE_F32 : y->type;
    const int64_t    h = x->dim[0], wd = x->dim[1], ci = x->dim[2], co = y->dim[2], taps = w->dim[2] * w->dim[3], pixels = h * wd, k = taps * ci;
    const bool       adds = add && add->type == y_type; /* inside the product; else after it */
    const size_t     size = dtype_bytes(type), y_size = dtype_bytes(y_type);
    int64_t          chunk = taps == 1 ? pixels : COLUMNS_BYTES / (k * (int64_t)size), unused;
    struct gemm      g = {};
    const void      *all = NULL;
    struct tensor    x2, y2, add2;
    const int64_t    flat_x[2] = {pixels, ci}, flat_y[2] = {pixels, co};

    if (chunk > pixels) chunk = pixels;
    if (chunk < 1) chunk = 1;
    x2 = tensor_view(x, 2, flat_x);
    if (!(g.w = cuda_ordered(d, w)) || !(g.bias = cuda_bias(d, bias, y_type))) return;
    if (type == DTYPE_BF16 && taps == 9 && by_dnn(d, y, x, g.w, bias, g.bias, add)) return;
    if (taps == 1) all = cuda_as(d, SLOT_X, &x2, type, &unused);
    else g.x = cuda_space(d, SLOT_COLUMNS, (size_t)(chunk * k) * size);
    if (!all && !g.x) return;
    g.m = co, g.k = k, g.ldx = k, g.ldw = k, g.ldy = co, g.type = type, g.y_type = y_type, g.alpha = 1.0f;
    for (int64_t at = 0; at < pixels && !d->err.code; at += chunk) {
        g.n = pixels - at < chunk ? pixels - at : chunk;
        g.y = (char *)y->data + (size_t)(at * co) * y_size;
        g.add = adds ? (const char *)add->data + (size_t)(at * co) * y_size : NULL;
        if (taps == 1) {
            g.x = (const char *)all + (size_t)(at * ci) * size;
        } else {
            const bool wide = ci % 8 == 0 && (uintptr_t)x->data % 16 == 0;

            im2col<<<cuda_blocks(g.n * 9 * ((ci + 7) / 8), 256), 256, 0, cuda_stream(d)>>>((void *)g.x, (int)type, x->data, (int)x->type, at, g.n, h, wd, ci,
                                                                                         wide);
            cuda_note(d, "conv2d");
        }
        cuda_gemm(d, &g);
    }
    if (add && !adds && !d->err.code) {
        y2 = tensor_view(y, 2, flat_y);
        add2 = tensor_view(add, 2, flat_y);
        cuda_add(d, &y2, &add2);
    }
}
