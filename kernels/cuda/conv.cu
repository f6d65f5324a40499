/* conv.cu - convolutions: to cuDNN (dnn.c) or, few channels out, to conv_few.cu where those take them; else as products: the k x k neighbourhoods of a
 * chunk of pixels as rows (im2col), times the weight [co, k*k*ci]. 1x1: the image is its own rows. Chunks bound the work space; a pixel's sum
 * does not see them.
 * Behind nearest-2x: the four 2x2 convolutions of a chunk of lines make four pictures, whose pixels are then put in their places (cuDNN writes into every
 * second pixel at 10 TFLOP/s, and densely at 700).
 * Not here: the product (blas.c, gemm.cu). */
#include "kernels/cuda/common.cuh"

#define COLUMNS_BYTES ((int64_t)128 << 20)
#define FOUR_BYTES    ((int64_t)256 << 20) /* less would keep them in the L2 cache, and leave the convolutions too few tiles: 16 MiB 1.5 ms slower */

/* One convolution, of bf16 or F32 products. */
struct conv {
    const char   *x;
    enum dtype    x_type;
    int64_t       low, high;             /* rows of x that are there, from x on, counted from y's first; beyond them are zeros */
    int64_t       h, width, ci, co, k;   /* h: rows of y */
    int64_t       above, left;           /* tap 0 of a pixel lies so far above and left of it */
    const void   *w, *bias, *add;        /* ordered; bias and add (or NULL) of y_type */
    void         *y;
    enum dtype    type, y_type;          /* of the product */
};

/* Pixels first .. first + n: to[p][tap][ci], zeros outside the picture. Threads walk over eights of ci. */
static __global__ void im2col(void *to, int to_type, struct conv c, int64_t first, int64_t n, bool wide)
{
    const int64_t eights = (c.ci + 7) / 8, taps = c.k * c.k, total = n * taps * eights, stride = (int64_t)gridDim.x * blockDim.x;

    for (int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x; i < total; i += stride) {
        const int64_t ch = i % eights * 8, tap = i / eights % taps, p = i / eights / taps;
        const int64_t py = (first + p) / c.width + tap / c.k - c.above, px = (first + p) % c.width + tap % c.k - c.left;
        const int     m = c.ci - ch < 8 ? (int)(c.ci - ch) : 8;
        float         v[8] = {0};

        if (py >= c.low && py < c.high && px >= 0 && px < c.width) load8(v, c.x, c.x_type, ((py - c.low) * c.width + px) * c.ci + ch, m, wide);
        store8(to, to_type, (p * taps + tap) * c.ci + ch, v, m, wide);
    }
}

static void by_products(struct dev *d, const struct conv *c)
{
    const int64_t pixels = c->h * c->width, k = c->k * c->k * c->ci, size = (int64_t)dtype_bytes(c->type);
    const bool    wide = c->ci % 8 == 0 && (uintptr_t)c->x % 16 == 0;
    int64_t       chunk = COLUMNS_BYTES / (k * size);
    void         *columns;
    struct gemm   g = {};

    chunk = chunk > pixels ? pixels : chunk < 1 ? 1 : chunk;
    if (!(columns = cuda_space(d, SLOT_COLUMNS, (size_t)(chunk * k * size)))) return;
    g.m = c->co, g.k = k, g.ldx = k, g.ldw = k, g.ldy = c->co, g.type = c->type, g.y_type = c->y_type, g.alpha = 1.0f;
    g.x = columns, g.w = c->w, g.bias = c->bias;
    for (int64_t at = 0; at < pixels && !d->err.code; at += chunk) {
        const size_t done = (size_t)(at * c->co) * dtype_bytes(c->y_type);

        g.n = pixels - at < chunk ? pixels - at : chunk;
        g.y = (char *)c->y + done;
        g.add = c->add ? (const char *)c->add + done : NULL;
        im2col<<<cuda_blocks(g.n * c->k * c->k * ((c->ci + 7) / 8), 256), 256, 0, cuda_stream(d)>>>(columns, (int)c->type, *c, at, g.n, wide);
        cuda_note(d, "conv2d");
        cuda_gemm(d, &g);
    }
}

static void by_one_product(struct dev *d, const struct conv *c)
{
    struct tensor x = {c->x_type, 2, {c->h * c->width, c->ci}, c->ci, (void *)c->x, d, 0.0f};
    struct gemm   g = {};

    g.x = cuda_as(d, SLOT_X, &x, c->type, &g.ldx);
    g.n = x.dim[0], g.m = c->co, g.k = c->ci, g.w = c->w, g.ldw = c->ci, g.y = c->y, g.ldy = c->co, g.bias = c->bias, g.add = c->add;
    g.type = c->type, g.y_type = c->y_type, g.alpha = 1.0f;
    if (g.x) cuda_gemm(d, &g);
}

/* True: cuDNN has done it. False: it is still to do, or a failure sticks. */
static bool by_dnn(struct dev *d, const struct conv *c)
{
    const int64_t         above = c->above + c->low, below = c->k - 1 - c->above - (c->high - c->h); /* what is not there is padding */
    const struct dnn_conv s = {c->high - c->low, c->width, c->ci, c->co, c->k, above, below, c->left, c->k - 1 - c->left};
    const uintptr_t       all = (uintptr_t)c->x | (uintptr_t)c->y | (uintptr_t)c->add;

    if (c->type != DTYPE_BF16 || c->x_type != DTYPE_BF16 || c->y_type != DTYPE_BF16 || c->ci % 8 || c->co % 8 || all % 16) return false;
    return dnn_convolve(d, &s, c->y, c->x, c->w, c->bias, c->add);
}

extern "C" void cuda_conv2d(struct dev *d, struct tensor *y, const struct tensor *x, const struct tensor *w, const struct tensor *bias,
                            const struct tensor *add)
{
    const enum dtype type = cuda_product_type(d), y_type = type == DTYPE_F32 ? DTYPE_F32 : y->type; /* an F32 y wants F32 sums */
    const int64_t    given = x->dim[0] > y->dim[0], k = w->dim[2], flat[2] = {y->dim[0] * y->dim[1], y->dim[2]};
    const bool       adds = add && add->type == y_type; /* inside the product; else after it */
    struct conv      c = {(const char *)x->data, x->type, -given, y->dim[0] + given, y->dim[0], y->dim[1], x->dim[2], y->dim[2], k, k / 2, k / 2};

    if (!(c.w = cuda_ordered(d, w)) || !(c.bias = cuda_bias(d, bias, y_type))) return;
    if (type == DTYPE_BF16 && k == 3 && conv_few3x3(d, y, x, c.w, bias, add)) return;
    c.y = y->data, c.type = type, c.y_type = y_type, c.add = adds ? add->data : NULL;
    if (k == 1) by_one_product(d, &c);
    else if (!by_dnn(d, &c) && !d->err.code) by_products(d, &c);
    if (add && !adds && !d->err.code) {
        struct tensor y2 = tensor_view(y, 2, flat), add2 = tensor_view(add, 2, flat);

        cuda_add(d, &y2, &add2);
    }
}

/* ---- behind nearest-2x ---- */

/* Four pictures [rows, cells, n_c] of T, one after the other: pixel (i, j) of picture 2 * py + px is y's pixel (2 i + py, 2 j + px). */
template <class T>
static __global__ void interleave(T *y, const T *from, unsigned rows, unsigned cells, unsigned n_c)
{
    const unsigned at = blockIdx.x * blockDim.x + threadIdx.x, px = at / n_c, line = 2 * cells * n_c;

    if (at >= line) return;
    for (unsigned py = blockIdx.y; py < 2 * rows; py += gridDim.y) {
        const int64_t row = (int64_t)(py % 2 * 2 + px % 2) * rows + py / 2;

        y[(int64_t)py * line + at] = from[(row * cells + px / 2) * n_c + at % n_c];
    }
}

template <class T>
static void put_four(struct dev *d, T *y, const T *four, int64_t n, int64_t width, int64_t n_c)
{
    const int64_t line = 2 * width * n_c;
    const dim3    blocks((unsigned)((line + 255) / 256), (unsigned)(2 * n < 65535 ? 2 * n : 65535));

    interleave<<<blocks, 256, 0, cuda_stream(d)>>>(y, four, (unsigned)n, (unsigned)width, (unsigned)n_c);
    cuda_note(d, "conv_up2x");
}

/* Lines of x whose four pictures fit the work space. */
static int64_t lines_of(int64_t width, int64_t co, enum dtype type)
{
    const int64_t lines = FOUR_BYTES / (4 * width * co * (int64_t)dtype_bytes(type));

    return lines < 1 ? 1 : lines;
}

/* The four pictures of n lines of x from `first` on. c: x's first row, and how many there are as h. */
static void make_four(struct dev *d, const struct conv *c, char *four, int64_t first, int64_t n)
{
    for (int phase = 0; phase < 4 && !d->err.code; phase++) {
        const int64_t above = 1 - phase / 2, from = first - above < 0 ? 0 : first - above, to = first + n + 1 - above > c->h ? c->h : first + n + 1 - above;
        struct conv   one = *c;

        one.x = c->x + from * c->width * c->ci * (int64_t)dtype_bytes(c->x_type);
        one.low = from - first, one.high = to - first, one.h = n;
        one.above = above, one.left = 1 - phase % 2;
        one.w = (const char *)c->w + phase * c->co * 4 * c->ci * (int64_t)dtype_bytes(c->type);
        one.y = four + phase * n * c->width * c->co * (int64_t)dtype_bytes(c->y_type);
        if (!by_dnn(d, &one) && !d->err.code) by_products(d, &one);
    }
}

extern "C" void cuda_conv_up2x(struct dev *d, struct tensor *y, const struct tensor *x, const struct tensor *w, const struct tensor *bias)
{
    const enum dtype type = cuda_product_type(d), y_type = type == DTYPE_F32 ? DTYPE_F32 : y->type;
    const int64_t    h = x->dim[0], width = x->dim[1], co = y->dim[2], size = (int64_t)dtype_bytes(y_type), lines = lines_of(width, co, y_type);
    const bool       wide = co * size % 16 == 0 && (uintptr_t)y->data % 16 == 0;
    struct conv      c = {(const char *)x->data, x->type, 0, h, h, width, x->dim[2], co, 2, 1, 1};

    if (!(c.w = cuda_ordered(d, w)) || !(c.bias = cuda_bias(d, bias, y_type))) return;
    c.type = type, c.y_type = y_type;
    for (int64_t at = 0; at < h && !d->err.code; at += lines) {
        const int64_t n = h - at < lines ? h - at : lines;
        char         *four = (char *)cuda_space(d, SLOT_FOUR, (size_t)(4 * n * width * co * size)), *out = (char *)y->data + 4 * at * width * co * size;

        if (!four) return;
        make_four(d, &c, four, at, n);
        if (wide) put_four(d, (uint4 *)out, (const uint4 *)four, n, width, co * size / 16);
        else if (size == 4) put_four(d, (float *)out, (const float *)four, n, width, co);
        else put_four(d, (uint16_t *)out, (const uint16_t *)four, n, width, co);
    }
}
