/* ops.h - THE SEAM: one signature per operation, one table per device, one checked front door.
 *
 *   op_linear(d, &y, &x, &w, NULL);          asserts shapes (a wrong one is a bug of ours), then d->ops->linear
 *
 * Every op returns void: a failure sticks in d->err and later ops do nothing; dev_sync() reports it once. With d->measuring or
 * d->err set the front door returns at once. Activations have dtype d->act_type unless said; weights may be of any type, block kinds, too
 * (only convolutions take none with a scale).
 * Vectors ([c]) are weights or F32. Output may alias an input only where said. Shapes in brackets; nothing here knows a model.
 * A new op needs two callers, or a measured 5 % of a step. */
#ifndef KERNELS_OPS_H
#define KERNELS_OPS_H

#include "kernels/dev.h"
#include "kernels/tensor.h"

enum act { ACT_NONE, ACT_SILU };
enum rope { ROPE_PAIRS, ROPE_HALVES }; /* which two are turned: (x[2i], x[2i+1]) (DiT), or (x[i], x[i+dh/2]) (Qwen3's rotate_half) */

struct norm_rope { /* how op_norm_rope treats heads of dh values */
    int64_t              n_q;      /* the first so many heads are queries */
    const struct tensor *wq, *wk;  /* [dh]: of the queries, of the other heads */
    float                eps;
    enum rope            rope;
    const struct tensor *cos, *sin; /* F32 [n, dh/2] */
};

struct add_norm { /* what op_add_norm adds and norms; NULL: left out */
    const struct tensor *wy;    /* [c] y is normed with it before it is added */
    const struct tensor *gate;  /* F32 [c] and multiplied by this */
    const struct tensor *wh;    /* [c] h is x normed with it; needed when there is an h */
    const struct tensor *scale; /* F32 [c] and times 1 + this */
    float                eps;   /* of both norms */
};

/* y = x w^T + bias.  x [n,k]  w [m,k]  y [n,m]  bias [m] or NULL.  x, y may be pitched. */
typedef void op_linear_f(struct dev *d, struct tensor *y, const struct tensor *x, const struct tensor *w, const struct tensor *bias);
/* y[i] = table[ids[i]].  table [vocab,c]  ids host array [n], in range (checked by the caller)  y [n,c] */
typedef void op_embed_rows_f(struct dev *d, struct tensor *y, const struct tensor *table, const int32_t *ids);
/* y = x / sqrt(mean(x^2) + eps) * w over the last dim.  x, y [n,c] or [n,h,c] (per head)  w [c].  y may be x. */
typedef void op_rms_norm_f(struct dev *d, struct tensor *y, const struct tensor *x, const struct tensor *w, float eps);
/* y = (x - mean) / sqrt(var + eps) over the last dim, no affine.  x, y [n,c].  y may be x. */
typedef void op_layer_norm_f(struct dev *d, struct tensor *y, const struct tensor *x, float eps);
/* Group norm in two halves, so that a picture may be normalised a few rows at a time: stats F32 [3,c] receives mean, multiplier and bias of each
 * channel, of the whole x [h,w,c].  w, b [c] */
typedef void op_group_stats_f(struct dev *d, struct tensor *stats, const struct tensor *x, const struct tensor *w, const struct tensor *b,
                              int n_groups, float eps);
/* y [n,w,c]: rows first .. first + n of act((x - mean) * multiplier + bias).  x [h,w,c]  first >= -1, first + n <= h + 1: the rows outside of
 * x are zeros, the padding of a convolution.  y may be x when they are the same rows. */
typedef void op_group_apply_f(struct dev *d, struct tensor *y, const struct tensor *x, const struct tensor *stats, int64_t first, enum act act);
/* Every head is normed, v / sqrt(mean(v^2) + eps) * w, then turned by its row of the table.  x [n,h,dh] in place: queries, then keys. */
typedef void op_norm_rope_f(struct dev *d, struct tensor *x, const struct norm_rope *how);
/* The left half of y [n,2c] = silu(x w1^T) * (x w3^T); the right half is room.  x [n,k]  w13 [2c,k]: w1 above w3.
 * False: not at once for these shapes, and nothing was done; op_linear_swiglu(), below, then does one op after the other. */
typedef bool op_linear_swiglu_f(struct dev *d, struct tensor *y, const struct tensor *x, const struct tensor *w13);
/* x += gate * norm(y, wy), then h = norm(x, wh) * (1 + scale).  y NULL: x is as it was; h NULL: no second norm.
 * x, y, h [n,c], h may be y. */
typedef void op_add_norm_f(struct dev *d, struct tensor *x, struct tensor *h, const struct tensor *y, const struct add_norm *how);
/* y = softmax(scale * q k^T) v, per head; kv head = q head / (hq/hk); causal: query i sees keys 0..i.
 * q [n,hq,dh]  k, v [m,hk,dh]  y [n,hq,dh]; all may be pitched.  y does not alias. */
typedef void op_attention_f(struct dev *d, struct tensor *y, const struct tensor *q, const struct tensor *k, const struct tensor *v,
                            float scale, bool causal);
typedef void op_silu_f(struct dev *d, struct tensor *x);                                          /* in place */
typedef void op_tanh_f(struct dev *d, struct tensor *x);                                          /* in place */
typedef void op_swiglu_f(struct dev *d, struct tensor *g, const struct tensor *up);               /* g = silu(g) * up  [n,c] */
typedef void op_scale_rows_f(struct dev *d, struct tensor *x, const struct tensor *scale);        /* x *= 1 + scale[c]  [n,c] */
typedef void op_add_f(struct dev *d, struct tensor *x, const struct tensor *h);                   /* x += h, same shape; h [c] adds to every row */
typedef void op_axpy_f(struct dev *d, struct tensor *x, float a, const struct tensor *h);         /* x += a*h, F32 dense */
/* y = [cos, sin](t * exp(-ln(1e4) k / half)), half = c/2.  y [1,c] */
typedef void op_time_embed_f(struct dev *d, struct tensor *y, float t);
/* x = what torch.randn draws from seed on a GPU of n_threads threads (a positive multiple of 256).  x F32 dense */
typedef void op_noise_f(struct dev *d, struct tensor *x, uint64_t seed, uint32_t n_threads);
/* Stride 1, zero padding k/2, optional residual.  x [h,w,ci]  w [co,ci,k,k], k 1 or 3, as stored  bias [co]
 * add NULL or [h,w,co] (y = conv + bias + add; add may be y)  y [h,w,co].  y does not alias x.
 * With k 3 x may bring its rows above and below: x [h+2,w,ci], nothing is padded there. */
typedef void op_conv2d_f(struct dev *d, struct tensor *y, const struct tensor *x, const struct tensor *w, const struct tensor *bias,
                         const struct tensor *add);
/* y = the 3x3 convolution above of nearest-2x of x, which is never made: each of the four pixels of a cell is a 2x2 convolution of x.
 * x [h,w,ci]  w [4*co,ci,2,2] of conv_up2x_fold() (fold.h)  bias [co]  y [2h,2w,co].  y does not alias x. */
typedef void op_conv_up2x_f(struct dev *d, struct tensor *y, const struct tensor *x, const struct tensor *w, const struct tensor *bias);
/* Latent F32 [c,H,W] -> tokens [H/p*W/p, p*p*c], token order (h,w), features (ph,pw,c) with channel fastest. */
typedef void op_patchify_f(struct dev *d, struct tensor *y, const struct tensor *z, int patch);
/* The inverse, to F32 [c,H,W]; reads the first H/p*W/p rows of x. */
typedef void op_unpatchify_f(struct dev *d, struct tensor *z, const struct tensor *x, int patch);
/* Latent F32 [c,H,W] -> channels last act_type [H,W,c], y = z * mul + add. */
typedef void op_to_nhwc_f(struct dev *d, struct tensor *y, const struct tensor *z, float mul, float add);
typedef void op_copy_f(struct dev *d, struct tensor *y, const struct tensor *x);                  /* same shape, dtypes may differ, pitched is fine */
typedef void op_fill_rows_f(struct dev *d, struct tensor *y, const struct tensor *row);           /* y[i] = row[c]  y [n,c] */
/* U8 y = round(clamp(x/2 + 0.5, 0, 1) * 255), half to even.  x [h,w,3]  y [h,w,3] */
typedef void op_to_rgb8_f(struct dev *d, struct tensor *y, const struct tensor *x);
/* Host double sums of F32 dense tensors: |x|^2 (for cfg normalisation) in fixed order; and all finite? Both sync. */
typedef double op_sum_squares_f(struct dev *d, const struct tensor *x);
typedef bool   op_all_finite_f(struct dev *d, const struct tensor *x);

/* What dev.c needs of a backend: memory, copies, waiting. Plain bytes on the device. */
typedef void *dev_take_f(struct dev *d, size_t bytes);                                             /* NULL when there is no more */
typedef void  dev_give_f(struct dev *d, void *at, size_t bytes);
typedef int   dev_put_f(struct dev *d, void *to, const void *host, size_t bytes, struct err *e);
typedef int   dev_get_f(struct dev *d, const void *at, void *host, size_t bytes, struct err *e);   /* after all work queued so far */
typedef int   dev_weight_f(struct dev *d, const struct tensor *host, int n, struct tensor *out, struct err *e); /* n > 1: only where d->joins_weights */
typedef void *dev_pin_f(struct dev *d, size_t bytes);                                              /* host memory; NULL when there is no more */
typedef void  dev_unpin_f(struct dev *d, void *at);
typedef void  dev_trim_f(struct dev *d);                                                           /* work space of kernels goes; waits for its readers */
typedef int   dev_weight_room_f(struct dev *d, size_t bytes, struct err *e);
typedef int   dev_wait_f(struct dev *d, struct err *e);
typedef void   dev_stamp_f(struct dev *d, int slot);
typedef double dev_stamp_ms_f(struct dev *d, int from, int to);
typedef void   dev_memory_f(struct dev *d, struct dev_memory *out);
typedef void  dev_repeat_f(struct dev *d, const void *key, size_t key_bytes, dev_work_f *work, void *ctx);
typedef void  dev_forget_f(struct dev *d);
typedef void  dev_end_f(struct dev *d);                                                            /* frees d->priv */

struct ops {
    const char        *name;
    dev_take_f        *take;
    dev_give_f        *give;
    dev_put_f         *put;
    dev_get_f         *get;
    dev_weight_f      *weight;
    dev_weight_room_f *weight_room;
    dev_pin_f         *pin;
    dev_unpin_f       *unpin;
    dev_trim_f        *trim;
    dev_wait_f        *wait;
    dev_stamp_f       *stamp;
    dev_stamp_ms_f    *stamp_ms;
    dev_memory_f      *memory;
    dev_repeat_f      *repeat;
    dev_forget_f      *forget;
    dev_end_f         *end;
    op_linear_f       *linear;
    op_linear_swiglu_f *linear_swiglu;
    op_embed_rows_f   *embed_rows;
    op_rms_norm_f     *rms_norm;
    op_layer_norm_f   *layer_norm;
    op_group_stats_f  *group_stats;
    op_group_apply_f  *group_apply;
    op_norm_rope_f    *norm_rope;
    op_add_norm_f     *add_norm;
    op_attention_f    *attention;
    op_silu_f         *silu;
    op_tanh_f         *tanh;
    op_swiglu_f       *swiglu;
    op_scale_rows_f   *scale_rows;
    op_add_f          *add;
    op_axpy_f         *axpy;
    op_time_embed_f   *time_embed;
    op_noise_f        *noise;
    op_conv2d_f       *conv2d;
    op_conv_up2x_f    *conv_up2x;
    op_patchify_f     *patchify;
    op_unpatchify_f   *unpatchify;
    op_to_nhwc_f      *to_nhwc;
    op_copy_f         *copy;
    op_fill_rows_f    *fill_rows;
    op_to_rgb8_f      *to_rgb8;
    op_sum_squares_f  *sum_squares;
    op_all_finite_f   *all_finite;
};

extern op_linear_f      op_linear;
void op_linear_swiglu(struct dev *d, struct tensor *y, const struct tensor *x, const struct tensor *w13);
extern op_embed_rows_f  op_embed_rows;
extern op_rms_norm_f    op_rms_norm;
extern op_layer_norm_f  op_layer_norm;
extern op_group_stats_f op_group_stats;
extern op_group_apply_f op_group_apply;
extern op_norm_rope_f   op_norm_rope;
extern op_add_norm_f    op_add_norm;
extern op_attention_f   op_attention;
extern op_silu_f        op_silu;
extern op_tanh_f        op_tanh;
extern op_swiglu_f      op_swiglu;
extern op_scale_rows_f  op_scale_rows;
extern op_add_f         op_add;
extern op_axpy_f        op_axpy;
extern op_time_embed_f  op_time_embed;
extern op_noise_f       op_noise;
extern op_conv2d_f      op_conv2d;
extern op_conv_up2x_f   op_conv_up2x;
extern op_patchify_f    op_patchify;
extern op_unpatchify_f  op_unpatchify;
extern op_to_nhwc_f     op_to_nhwc;
extern op_copy_f        op_copy;
extern op_fill_rows_f   op_fill_rows;
extern op_to_rgb8_f     op_to_rgb8;
extern op_sum_squares_f op_sum_squares;
extern op_all_finite_f  op_all_finite;

#endif
