/* ops.c - the checked front door: shapes and dtypes are verified here once, then the device's table is called.
 * Believes: a wrong shape is a bug of ours (assert). With a sticky error or while measuring nothing is called.
 * Not here: arithmetic (cpu/, cuda/), memory (dev.c). */
#include "kernels/ops.h"

#include <assert.h>

#include "kernels/quant.h"

/* No work now: an earlier op failed, or this is the measuring pass. */
static bool idle(const struct dev *d)
{
    return d->err.code || d->measuring;
}

static bool is_float(const struct tensor *t)
{
    return t->type == DTYPE_F32 || t->type == DTYPE_BF16 || t->type == DTYPE_F16;
}

/* Whole blocks in every row. */
static bool is_weight(const struct tensor *t)
{
    int64_t block = dtype_block(t->type);

    return is_float(t) || (quant_is(t->type) && t->dim[t->rank - 1] % block == 0 && (t->rank == 1 || t->pitch % block == 0));
}

/* An activation: of the device's type (or F32), rank 2 or 3 as asked (0 = any), inner dims dense. */
static bool is_act(const struct dev *d, const struct tensor *t, int rank)
{
    return (t->type == d->act_type || t->type == DTYPE_F32) && (rank == 0 || t->rank == rank) && (t->pitch >= tensor_cols(t) || t->dim[0] <= 1);
}

static bool is_vec(const struct tensor *t, int64_t c)
{
    return is_weight(t) && tensor_count(t) == c && tensor_dense(t);
}

static bool is_latent(const struct tensor *t)
{
    return t->type == DTYPE_F32 && t->rank == 3 && tensor_dense(t);
}

static bool empty(const struct tensor *t)
{
    return tensor_count(t) == 0;
}

/* While measuring: two rooms for the widest of the weights that are widened for their product. */
static void measure_room(struct dev *d, const struct tensor *w)
{
    size_t bytes = 2 * dev_align((size_t)tensor_count(w) * dtype_bytes(d->act_type));

    if (d->measuring && d->widens && quant_is(w->type) && bytes > d->measured_room) d->measured_room = bytes;
}

void op_linear(struct dev *d, struct tensor *y, const struct tensor *x, const struct tensor *w, const struct tensor *bias)
{
    assert(is_act(d, y, 2) && is_act(d, x, 2) && is_weight(w) && w->rank == 2);
    assert(x->dim[1] == w->dim[1] && y->dim[1] == w->dim[0] && y->dim[0] == x->dim[0] && w->pitch >= w->dim[1] && w->dim[1] > 0);
    assert(!bias || is_vec(bias, w->dim[0]));
    measure_room(d, w);
    if (!idle(d) && !empty(y)) d->ops->linear(d, y, x, w, bias);
}

void op_embed_rows(struct dev *d, struct tensor *y, const struct tensor *table, const int32_t *ids)
{
    assert(is_act(d, y, 2) && is_weight(table) && table->rank == 2 && table->dim[1] == y->dim[1]);
    if (idle(d) || empty(y)) return;
    for (int64_t i = 0; i < y->dim[0]; i++) assert(ids[i] >= 0 && ids[i] < table->dim[0]);
    d->ops->embed_rows(d, y, table, ids);
}

void op_rms_norm(struct dev *d, struct tensor *y, const struct tensor *x, const struct tensor *w, float eps)
{
    assert(is_act(d, y, 0) && is_act(d, x, y->rank) && (y->rank == 2 || y->rank == 3) && tensor_same_shape(y, x));
    assert(is_vec(w, x->dim[x->rank - 1]));
    if (!idle(d) && !empty(y)) d->ops->rms_norm(d, y, x, w, eps);
}

void op_layer_norm(struct dev *d, struct tensor *y, const struct tensor *x, float eps)
{
    assert(is_act(d, y, 2) && is_act(d, x, 2) && tensor_same_shape(y, x));
    if (!idle(d) && !empty(y)) d->ops->layer_norm(d, y, x, eps);
}

static bool is_stats(const struct tensor *t, int64_t c)
{
    return t->type == DTYPE_F32 && t->rank == 2 && t->dim[0] == 3 && t->dim[1] == c && tensor_dense(t);
}

void op_group_stats(struct dev *d, struct tensor *stats, const struct tensor *x, const struct tensor *w, const struct tensor *b, int n_groups, float eps)
{
    assert(is_act(d, x, 3) && tensor_dense(x) && !empty(x) && is_stats(stats, x->dim[2]));
    assert(n_groups > 0 && x->dim[2] % n_groups == 0 && is_vec(w, x->dim[2]) && is_vec(b, x->dim[2]));
    if (!idle(d)) d->ops->group_stats(d, stats, x, w, b, n_groups, eps);
}

void op_group_apply(struct dev *d, struct tensor *y, const struct tensor *x, const struct tensor *stats, int64_t first, enum act act)
{
    assert(is_act(d, y, 3) && is_act(d, x, 3) && tensor_dense(y) && tensor_dense(x) && is_stats(stats, x->dim[2]));
    assert(y->dim[1] == x->dim[1] && y->dim[2] == x->dim[2] && first >= -1 && first + y->dim[0] <= x->dim[0] + 1);
    if (!idle(d) && !empty(y)) d->ops->group_apply(d, y, x, stats, first, act);
}

void op_norm_rope(struct dev *d, struct tensor *x, const struct norm_rope *how)
{
    assert(is_act(d, x, 3) && x->dim[2] % 2 == 0 && how->n_q >= 0 && how->n_q <= x->dim[1] && is_vec(how->wq, x->dim[2]) && is_vec(how->wk, x->dim[2]));
    assert(how->cos->type == DTYPE_F32 && how->sin->type == DTYPE_F32 && how->cos->rank == 2 && tensor_same_shape(how->cos, how->sin));
    assert(how->cos->dim[0] == x->dim[0] && how->cos->dim[1] == x->dim[2] / 2);
    if (!idle(d) && !empty(x)) d->ops->norm_rope(d, x, how);
}

/* An F32 vector, or none. */
static bool is_f32_or_none(const struct tensor *t, int64_t c)
{
    return !t || (t->type == DTYPE_F32 && is_vec(t, c));
}

void op_add_norm(struct dev *d, struct tensor *x, struct tensor *h, const struct tensor *y, const struct add_norm *how)
{
    const int64_t c = x->dim[1];

    assert(is_act(d, x, 2) && (!y || (is_act(d, y, 2) && tensor_same_shape(y, x))) && (!h || (is_act(d, h, 2) && tensor_same_shape(h, x))) && (h || y));
    assert((!how->wy || is_vec(how->wy, c)) && (!h || is_vec(how->wh, c)) && is_f32_or_none(how->gate, c) && is_f32_or_none(how->scale, c));
    if (!idle(d) && !empty(x)) d->ops->add_norm(d, x, h, y, how);
}

void op_linear_swiglu(struct dev *d, struct tensor *y, const struct tensor *x, const struct tensor *w13)
{
    const int64_t c = tensor_cols(y) / 2;
    struct tensor g = tensor_cols_of(y, 0, c), up = tensor_cols_of(y, c, c);

    assert(is_act(d, y, 2) && is_act(d, x, 2) && is_weight(w13) && w13->rank == 2);
    assert(y->dim[1] == 2 * c && w13->dim[0] == 2 * c && w13->dim[1] == x->dim[1] && y->dim[0] == x->dim[0]);
    measure_room(d, w13);
    if (idle(d) || empty(y) || d->ops->linear_swiglu(d, y, x, w13)) return;
    op_linear(d, y, x, w13, NULL);
    op_swiglu(d, &g, &up);
}

void op_attention(struct dev *d, struct tensor *y, const struct tensor *q, const struct tensor *k, const struct tensor *v, float scale,
                  bool causal)
{
    assert(is_act(d, y, 3) && is_act(d, q, 3) && is_act(d, k, 3) && is_act(d, v, 3) && tensor_same_shape(y, q) && tensor_same_shape(k, v));
    assert(k->dim[2] == q->dim[2] && k->dim[1] > 0 && q->dim[1] % k->dim[1] == 0 && k->dim[0] > 0);
    assert(!causal || q->dim[0] == k->dim[0]);
    if (!idle(d) && !empty(y)) d->ops->attention(d, y, q, k, v, scale, causal);
}

void op_silu(struct dev *d, struct tensor *x)
{
    assert(is_act(d, x, 0));
    if (!idle(d) && !empty(x)) d->ops->silu(d, x);
}

void op_tanh(struct dev *d, struct tensor *x)
{
    assert(is_act(d, x, 0));
    if (!idle(d) && !empty(x)) d->ops->tanh(d, x);
}

void op_swiglu(struct dev *d, struct tensor *g, const struct tensor *up)
{
    assert(is_act(d, g, 2) && is_act(d, up, 2) && tensor_same_shape(g, up));
    if (!idle(d) && !empty(g)) d->ops->swiglu(d, g, up);
}

void op_scale_rows(struct dev *d, struct tensor *x, const struct tensor *scale)
{
    assert(is_act(d, x, 2) && is_vec(scale, x->dim[1]));
    if (!idle(d) && !empty(x)) d->ops->scale_rows(d, x, scale);
}

void op_add(struct dev *d, struct tensor *x, const struct tensor *h)
{
    assert(is_act(d, x, 0));
    assert((is_act(d, h, 0) && tensor_same_shape(x, h)) || (h->rank == 1 && x->rank == 2 && is_vec(h, x->dim[1])));
    if (!idle(d) && !empty(x)) d->ops->add(d, x, h);
}

void op_axpy(struct dev *d, struct tensor *x, float a, const struct tensor *h)
{
    assert(x->type == DTYPE_F32 && h->type == DTYPE_F32 && tensor_count(x) == tensor_count(h) && tensor_dense(x) && tensor_dense(h));
    if (!idle(d) && !empty(x)) d->ops->axpy(d, x, a, h);
}

void op_time_embed(struct dev *d, struct tensor *y, float t)
{
    assert(is_act(d, y, 2) && y->dim[0] == 1 && y->dim[1] % 2 == 0);
    if (!idle(d) && !empty(y)) d->ops->time_embed(d, y, t);
}

void op_noise(struct dev *d, struct tensor *x, uint64_t seed, uint32_t n_threads)
{
    assert(x->type == DTYPE_F32 && tensor_dense(x) && n_threads > 0 && n_threads % 256 == 0);
    if (!idle(d) && !empty(x)) d->ops->noise(d, x, seed, n_threads);
}

void op_conv2d(struct dev *d, struct tensor *y, const struct tensor *x, const struct tensor *w, const struct tensor *bias,
               const struct tensor *add)
{
    assert(is_act(d, y, 3) && is_act(d, x, 3) && tensor_dense(y) && tensor_dense(x) && is_weight(w) && w->rank == 4 && tensor_dense(w) && w->scale == 0.0f);
    assert(w->dim[2] == w->dim[3] && (w->dim[2] == 1 || w->dim[2] == 3) && w->dim[1] == x->dim[2] && w->dim[0] == y->dim[2]);
    assert((x->dim[0] == y->dim[0] || (w->dim[2] == 3 && x->dim[0] == y->dim[0] + 2)) && x->dim[1] == y->dim[1] && x->dim[2] > 0);
    assert(is_vec(bias, y->dim[2]));
    assert(!add || (is_act(d, add, 3) && tensor_same_shape(add, y) && tensor_dense(add)));
    if (!idle(d) && !empty(y)) d->ops->conv2d(d, y, x, w, bias, add);
}

void op_conv_up2x(struct dev *d, struct tensor *y, const struct tensor *x, const struct tensor *w, const struct tensor *bias)
{
    assert(is_act(d, y, 3) && is_act(d, x, 3) && tensor_dense(y) && tensor_dense(x) && is_float(w) && w->rank == 4 && tensor_dense(w));
    assert(w->dim[0] == 4 * y->dim[2] && w->dim[1] == x->dim[2] && w->dim[2] == 2 && w->dim[3] == 2 && x->dim[2] > 0 && is_vec(bias, y->dim[2]));
    assert(y->dim[0] == 2 * x->dim[0] && y->dim[1] == 2 * x->dim[1]);
    if (!idle(d) && !empty(y)) d->ops->conv_up2x(d, y, x, w, bias);
}

/* tokens [>= H/p*W/p, p*p*c] of latent [c,H,W] */
static bool is_patches(const struct tensor *tok, const struct tensor *z, int p)
{
    return is_latent(z) && tok->rank == 2 && p > 0 && z->dim[1] % p == 0 && z->dim[2] % p == 0 &&
           tok->dim[0] >= z->dim[1] / p * (z->dim[2] / p) && tok->dim[1] == (int64_t)p * p * z->dim[0];
}

void op_patchify(struct dev *d, struct tensor *y, const struct tensor *z, int patch)
{
    assert(is_act(d, y, 2) && is_patches(y, z, patch) && y->dim[0] == z->dim[1] / patch * (z->dim[2] / patch));
    if (!idle(d) && !empty(y)) d->ops->patchify(d, y, z, patch);
}

void op_unpatchify(struct dev *d, struct tensor *z, const struct tensor *x, int patch)
{
    assert(is_act(d, x, 2) && is_patches(x, z, patch));
    if (!idle(d) && !empty(z)) d->ops->unpatchify(d, z, x, patch);
}

void op_to_nhwc(struct dev *d, struct tensor *y, const struct tensor *z, float mul, float add)
{
    assert(is_act(d, y, 3) && tensor_dense(y) && is_latent(z));
    assert(y->dim[0] == z->dim[1] && y->dim[1] == z->dim[2] && y->dim[2] == z->dim[0]);
    if (!idle(d) && !empty(y)) d->ops->to_nhwc(d, y, z, mul, add);
}

void op_copy(struct dev *d, struct tensor *y, const struct tensor *x)
{
    assert(tensor_same_shape(y, x) && ((y->type == x->type && !quant_is(x->type)) || (is_float(y) && is_float(x))));
    if (!idle(d) && !empty(y)) d->ops->copy(d, y, x);
}

void op_fill_rows(struct dev *d, struct tensor *y, const struct tensor *row)
{
    assert(is_act(d, y, 2) && is_vec(row, y->dim[1]));
    if (!idle(d) && !empty(y)) d->ops->fill_rows(d, y, row);
}

void op_to_rgb8(struct dev *d, struct tensor *y, const struct tensor *x)
{
    assert(y->type == DTYPE_U8 && is_act(d, x, 3) && tensor_same_shape(y, x) && tensor_dense(y) && tensor_dense(x));
    if (!idle(d) && !empty(y)) d->ops->to_rgb8(d, y, x);
}

double op_sum_squares(struct dev *d, const struct tensor *x)
{
    assert(x->type == DTYPE_F32 && tensor_dense(x));
    return idle(d) || empty(x) ? 0.0 : d->ops->sum_squares(d, x);
}

bool op_all_finite(struct dev *d, const struct tensor *x)
{
    assert(x->type == DTYPE_F32 && tensor_dense(x));
    return idle(d) || empty(x) ? true : d->ops->all_finite(d, x);
}
