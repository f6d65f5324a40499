/* cpu.h - the CPU backend's door, and what its files share.
 * Activations are F32. Weights may be of any type (block kinds, too) and are widened tile by tile, never as a whole model.
 * Not here: shapes (checked in ops.c before). */
#ifndef KERNELS_CPU_CPU_H
#define KERNELS_CPU_CPU_H

#include "kernels/cpu/pool.h"
#include "kernels/dev.h"
#include "kernels/ops.h"

int cpu_open(struct dev *d, const struct dev_opts *o, struct err *e);

/* d->priv of a CPU device. */
struct cpu {
    struct pool *pool;
    bool         native_bf16; /* the CPU multiplies bf16 itself: oneDNN's bf16 primitives; else round and multiply in f32 */
    const struct tile16 *tile16; /* linear16.c: how products of many rows are made; NULL: not in this precision, or not on this CPU */
    bool                       fast;     /* precision auto, and no AMX: errors up to 1e-4 may buy speed */
    struct winograd_weight    *winograd; /* winograd.c: transformed weights, by address */
    struct { void *at; size_t cap; } room; /* see cpu_room() */
    struct dnnl_engine *engine;
    struct conv_weight *conv; /* conv.c: weights in oneDNN's own order, by address (uthash) */
    struct mm          *mm;   /* mm.c: bf16 products by shape (uthash) */
    struct { float *at; int64_t cap; } vec[3]; /* small vectors as F32, see cpu_vec() */
    struct { void **at; int n, cap; } kept;    /* copies of weights that were not aligned */
    int64_t stamp_us[DEV_STAMPS];              /* 0: never made */
};

static inline struct cpu *cpu_of(const struct dev *d)
{
    return d->priv;
}

/* The elements of a vector as F32: its own data, or a copy in slot 0..2 that lives until the slot is used again.
 * NULL after a sticky ERR_NOMEM. */
const float *cpu_vec(struct dev *d, const struct tensor *t, int slot);

/* norm.c: y = x / sqrt(mean(x^2) + eps) * w of one row; y may be x. */
void cpu_rms_row(float *y, const float *x, const float *w, int64_t c, float eps);

/* At least this many bytes shared by an op's threads, 64-byte aligned, kept and grown; what was in it is lost. NULL when refused. */
void *cpu_room(struct cpu *c, size_t bytes);

/* conv.c: forget what was kept for bytes that go away; all when at is NULL. */
void cpu_conv_forget(struct cpu *c, const void *at, size_t bytes);

/* Splits n rows of `cost` elements each into chunks of about 16k elements; at least one row each. By shape alone. */
int64_t cpu_rows_per_chunk(int64_t n, int64_t cost);

extern op_linear_f      cpu_linear;
extern op_embed_rows_f  cpu_embed_rows;
extern op_rms_norm_f    cpu_rms_norm;
extern op_layer_norm_f  cpu_layer_norm;
extern op_group_stats_f cpu_group_stats;
extern op_group_apply_f cpu_group_apply;
extern op_norm_rope_f   cpu_norm_rope;
extern op_add_norm_f    cpu_add_norm;
extern op_attention_f   cpu_attention;
extern op_silu_f        cpu_silu;
extern op_tanh_f        cpu_tanh;
extern op_swiglu_f      cpu_swiglu;
extern op_linear_swiglu_f cpu_linear_swiglu; /* never: weights lie where the file has them, and each is a product of its own */
extern op_scale_rows_f  cpu_scale_rows;
extern op_add_f         cpu_add;
extern op_axpy_f        cpu_axpy;
extern op_time_embed_f  cpu_time_embed;
extern op_noise_f       cpu_noise;
extern op_conv2d_f      cpu_conv2d;
extern op_conv_up2x_f   cpu_conv_up2x;
extern op_patchify_f    cpu_patchify;
extern op_unpatchify_f  cpu_unpatchify;
extern op_to_nhwc_f     cpu_to_nhwc;
extern op_copy_f        cpu_copy;
extern op_fill_rows_f   cpu_fill_rows;
extern op_to_rgb8_f     cpu_to_rgb8;
extern op_sum_squares_f cpu_sum_squares;
extern op_all_finite_f  cpu_all_finite;

#endif
