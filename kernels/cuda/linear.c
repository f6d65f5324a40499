/* linear.c - products: operands to the product's type where they have another, then cublasLt, or our own kernel where it is not.
 * A weight from dev_weight() has that type already, or a block kind that is widened for each product (expand.c); any other is cast each time.
 * The one scale of an 8-bit weight is the product's factor: exact, and what the CPU does.
 * Not here: shapes (ops.c), cublasLt (blas.c). */
#include "kernels/cuda/ops.h"

#include "kernels/quant.h"

bool cuda_takes(struct dev *d, const struct tensor *w)
{
    if (!quant_is(w->type)) return true;
    dev_fail(d, ERR_STATE, "%s: %s where floats are needed: weights come from dev_weight()", d->name, dtype_name(w->type));
    return false;
}

const void *cuda_as(struct dev *d, enum cuda_slot slot, const struct tensor *t, enum dtype type, int64_t *ld)
{
    const int64_t n = t->dim[0], c = tensor_cols(t);
    void         *to;

    *ld = cuda_pitch(t);
    if (t->type == type) return t->data;
    if (!(to = cuda_space(d, slot, (size_t)(n * c) * dtype_bytes(type)))) return NULL;
    cuda_cast(d, to, type, c, t->data, t->type, *ld, n, c);
    *ld = c;
    return d->err.code ? NULL : to;
}

const void *cuda_bias(struct dev *d, const struct tensor *bias, enum dtype type)
{
    const int64_t c = tensor_count(bias);
    void         *to;

    if (!cuda_takes(d, bias)) return NULL;
    if (bias->type == type && (uintptr_t)bias->data % 16 == 0) return bias->data;
    if (!(to = cuda_space(d, SLOT_BIAS, (size_t)c * dtype_bytes(type)))) return NULL;
    cuda_cast(d, to, type, c, bias->data, bias->type, c, 1, c);
    return d->err.code ? NULL : to;
}

void cuda_gemm(struct dev *d, const struct gemm *g)
{
    if (d->err.code) return;
    cuda_enter(d);
    if (!cuda_of(d)->blas || cuda_of(d)->only[CUDA_ONLY_PLAIN] || !blas_gemm(d, cuda_of(d)->blas, g)) plain_gemm(d, g);
}

void cuda_linear(struct dev *d, struct tensor *y, const struct tensor *x, const struct tensor *w, const struct tensor *bias)
{
    const bool  blocks = quant_is(w->type);
    struct gemm g = {.n = x->dim[0], .m = w->dim[0], .k = w->dim[1], .type = cuda_product_type(d), .y_type = y->type,
                     .alpha = w->scale != 0.0f ? w->scale : 1.0f, .y = y->data, .ldy = cuda_pitch(y)};

    if (!(g.x = cuda_as(d, SLOT_X, x, g.type, &g.ldx))) return;
    if (bias && !(g.bias = cuda_bias(d, bias, g.y_type))) return;
    g.w = blocks ? cuda_expanded(d, w, g.type, &g.ldw) : cuda_as(d, SLOT_WEIGHT, w, g.type, &g.ldw);
    if (!g.w) return;
    cuda_gemm(d, &g);
    if (blocks) cuda_expanded_read(d);
}
