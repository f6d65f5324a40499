/* ops.h - inside the CUDA backend: d->priv, work space, casts and products that the op files share.
 *
 * Believes: one stream per device, so ops and their work space follow each other in the order of the calls.
 * Products: cublasLt when it is found at run time (blas.c), else a kernel of our own (gemm.cu), slower and as right.
 * Work space grows to the largest use and stays; it is not part of dev's scratch stack (the measuring pass does not reach in here). */
#ifndef KERNELS_CUDA_OPS_H
#define KERNELS_CUDA_OPS_H

#include "kernels/cuda/cuda.h"

struct CUstream_st;
struct CUevent_st;
struct blas;
struct dnn;
struct pool;
struct repeats;

enum cuda_slot { /* what may be alive at the same time inside one op */
    SLOT_X, SLOT_K, SLOT_V, SLOT_WEIGHT, SLOT_BIAS, SLOT_COLUMNS, SLOT_SCORES, SLOT_SUMS, SLOT_IDS, SLOT_RAW, SLOT_DNN,
    SLOT_ROOM_0, SLOT_ROOM_1, SLOT_COUNT,
    SLOT_FOUR = SLOT_SCORES /* the four pictures behind nearest-2x: never alive together with scores */
};

struct cuda_ordered { /* a convolution's weight as [co, k, k, ci], of the type products take */
    const void *key;  /* where the op's caller has it */
    void       *at;   /* == key when dev_weight() ordered it in place */
};

struct expand { /* weights widened for one product (expand.c) */
    struct CUstream_st *stream;
    struct CUevent_st  *fork, *full[2], *empty[2]; /* of the two rooms: written, read */
    bool                forked, read[2];           /* the side stream knows the main one; `empty` stands since then */
    int                 next, captured;
    unsigned            turn;                      /* of dev's scratch, when forked */
};

#define CUDA_STAGES 4

struct upload { /* pinned memory that weights pass through (upload.c) */
    struct pool        *pool;
    void               *stage[CUDA_STAGES];
    struct CUevent_st  *out[CUDA_STAGES]; /* what was in it is on the device */
    int                 next;
    bool                refused;          /* asked for once; there is none */
};

struct cuda { /* d->priv of a CUDA device */
    struct CUstream_st *stream;
    struct CUevent_st  *stamp[DEV_STAMPS];                     /* made at their first use */
    int                 n_sm;
    struct { void *at; size_t bytes; } space[SLOT_COUNT];
    struct { void **at; int n, cap; } kept;                    /* memory of weights */
    struct { char *at; size_t used, cap; } slab;               /* one of them, being filled: dev_weight_room() */
    struct { struct cuda_ordered *at; int n, cap; } ordered;
    void               *host;                                  /* pinned, CUDA_HOST_BYTES */
    struct expand       expand;
    struct upload       upload;
    struct blas        *blas;                                  /* NULL: cublasLt is not on this machine */
    struct dnn         *dnn;                                   /* cuDNN, asked for at the first use; NULL: none */
    bool                dnn_asked;
    int64_t             n_plain;                               /* products that our own kernel did */
    struct repeats     *repeats;                               /* made at the first use */
    bool                recording;                             /* now */
    void               *hopper;                                /* of hopper_open(); NULL: none here */
    bool                only[CUDA_ONLY_COUNT];                 /* asked for by tests */
    int64_t             n_plays;
};

#define CUDA_HOST_BYTES 65536

static inline struct cuda *cuda_of(const struct dev *d)
{
    return (struct cuda *)d->priv;
}

static inline struct CUstream_st *cuda_stream(const struct dev *d)
{
    return cuda_of(d)->stream;
}

/* The type that products take on this device: BF16 or F32. */
static inline enum dtype cuda_product_type(const struct dev *d)
{
    return d->precision == PRECISION_F32 ? DTYPE_F32 : DTYPE_BF16;
}

/* Row distance in elements; a single row may carry any pitch. */
static inline int64_t cuda_pitch(const struct tensor *t)
{
    return t->dim[0] > 1 ? t->pitch : tensor_cols(t);
}

/* Has this program code for the calling thread's device? */
bool cuda_has_code(void);
/* The calling thread works with this device from here on. */
void cuda_enter(struct dev *d);
/* Around cudaMalloc and cudaFree of any device, and around what must not meet them (ports.c). */
void cuda_memory_lock(void);
void cuda_memory_unlock(void);
/* At least `bytes` that belong to a slot until its next use; NULL after a sticky ERR_NOMEM. */
void *cuda_space(struct dev *d, enum cuda_slot slot, size_t bytes);
/* [n,c] floats of one type to another; asynchronous. */
void cuda_cast(struct dev *d, void *to, enum dtype to_type, int64_t ldto, const void *from, enum dtype from_type, int64_t ldfrom, int64_t n, int64_t c);
/* t as it is when its type is `type`, else cast into the slot, dense; *ld: row distance. NULL after a sticky failure. */
const void *cuda_as(struct dev *d, enum cuda_slot slot, const struct tensor *t, enum dtype type, int64_t *ld);
/* Host bytes to the device on its stream; they are the caller's again when this returns. False after a sticky failure. */
bool cuda_upload(struct dev *d, void *to, const void *host, size_t bytes);
void upload_close(struct upload *u);
/* bias [c] of `type`, 16-byte aligned; NULL after a sticky failure. */
const void *cuda_bias(struct dev *d, const struct tensor *bias, enum dtype type);
/* False, and a sticky sentence, for a vector or a convolution of a block kind: dev_weight() hands out none. */
bool cuda_takes(struct dev *d, const struct tensor *w);
/* Rows of block kinds or 8-bit floats -> F32 or BF16, [n, cols of from], times scale unless it is 0. ids (device memory, NULL: none): row i is
 * row ids[i] of from. Asynchronous, on this stream. */
void cuda_widen(struct dev *d, struct CUstream_st *stream, void *to, enum dtype to_type, int64_t ldto, const struct tensor *from,
                const int32_t *ids, int64_t n, float scale);
bool expand_open(struct expand *x); /* false: close it all the same */
void expand_close(struct expand *x);
/* A weight of a block kind as `type`, dense, without its scale, for products on the main stream until cuda_expanded_read(), which must follow
 * the product. NULL after a sticky failure. */
const void *cuda_expanded(struct dev *d, const struct tensor *w, enum dtype type, int64_t *ld);
void        cuda_expanded_read(struct dev *d);
/* To be called where the rooms may be in use by work this file has not seen: after a graph was launched, before and after a capture. */
void cuda_expand_fence(struct dev *d);
/* [co,ci,k,k] of any float type -> [cuda_ordered_rows(co),k,k,ci] of the product type. */
void cuda_order(struct dev *d, void *to, const void *from, enum dtype from_type, int64_t co, int64_t ci, int64_t k);
/* Rows of an ordered weight: of zeros from co on, so that cuDNN gets whole eights. */
static inline int64_t cuda_ordered_rows(int64_t co)
{
    return (co + 7) / 8 * 8;
}

/* The ordered weight of w, made at its first use; NULL after a sticky failure. */
const void *cuda_ordered(struct dev *d, const struct tensor *w);

/* y[n,m] = alpha * x[n,k] w^T + bias[m] + add[n,m], sums in F32. x and w of `type` (F32 or BF16), y, bias and add of y_type (F32, or BF16
 * when type is). w is [m,k], or [k,m] when w_is_km. add may be y. */
struct gemm {
    int64_t     n, m, k;
    const void *x, *w, *bias, *add; /* bias, add: NULL when there is none */
    void       *y;
    int64_t     ldx, ldw, ldy;      /* add has ldy */
    enum dtype  type, y_type;
    bool        w_is_km;
    float       alpha;
};

/* A number that tells one content from another: of n rows of row_bytes (a multiple of 2), ld_bytes apart. Waits. False: it failed. */
bool cuda_digest(struct dev *d, const void *at, size_t ld_bytes, size_t row_bytes, int64_t n, uint64_t *out);
void cuda_gemm(struct dev *d, const struct gemm *g);

struct blas *blas_open(void);                                        /* NULL when the library is not there or does not start */
void         blas_close(struct blas *b);
bool         blas_gemm(struct dev *d, struct blas *b, const struct gemm *g); /* false: it has no kernel for this; nothing was done */
void         plain_gemm(struct dev *d, const struct gemm *g);

/* What makes the copy engine's maps, on a GPU of sm_90; elsewhere NULL, and its ops take nothing. */
void *hopper_open(int major, int minor);

void dnn_close(struct dnn *b);
/* cuDNN's attention, not causal: bf16 throughout, rows 16-byte aligned. False: refused, nothing was done. */
bool dnn_attention(struct dev *d, struct tensor *y, const struct tensor *q, const struct tensor *k, const struct tensor *v, float scale);
/* Stride 1, bf16, channels last: x [h,w,ci] with so many zeros around it, w [co,k,k,ci] -> y [above + h + below - k + 1, left + w + right - k + 1, co]. */
struct dnn_conv {
    int64_t h, w, ci, co, k, above, below, left, right;
};
/* y = conv(x, w) + bias + add (NULL: none; may be y). Channels are multiples of 8, pointers of 16 bytes. False: refused, nothing was done; or a failure
 * sticks. */
bool dnn_convolve(struct dev *d, const struct dnn_conv *k, void *y, const void *x, const void *w, const void *bias, const void *add);
/* 3x3 to at most 8 channels, w [8,3,3,ci] (ordered): any y, bias, add; x bf16 with whole eights of channels. False: not taken. */
bool conv_few3x3(struct dev *d, struct tensor *y, const struct tensor *x, const void *w, const struct tensor *bias, const struct tensor *add);

dev_repeat_f cuda_repeat;
dev_forget_f cuda_forget; /* also before work space moves */
void         cuda_repeats_close(struct dev *d);

/* Attention for any head width by products over chunks of queries (F32, and heads wider than the fused kernel takes). */
op_attention_f cuda_attention_chunks;
bool cuda_attention_hopper(struct dev *d, struct tensor *y, const struct tensor *q, const struct tensor *k, const struct tensor *v, float scale); /* false: not here */

extern op_linear_f      cuda_linear;
extern op_linear_swiglu_f cuda_linear_swiglu; /* hopper.cu */
extern op_embed_rows_f  cuda_embed_rows;
extern op_rms_norm_f    cuda_rms_norm;
extern op_layer_norm_f  cuda_layer_norm;
extern op_group_stats_f cuda_group_stats;
extern op_group_apply_f cuda_group_apply;
extern op_norm_rope_f   cuda_norm_rope;
extern op_add_norm_f    cuda_add_norm;
extern op_attention_f   cuda_attention;
extern op_silu_f        cuda_silu;
extern op_tanh_f        cuda_tanh;
extern op_swiglu_f      cuda_swiglu;
extern op_scale_rows_f  cuda_scale_rows;
extern op_add_f         cuda_add;
extern op_axpy_f        cuda_axpy;
extern op_time_embed_f  cuda_time_embed;
extern op_noise_f       cuda_noise;
extern op_conv2d_f      cuda_conv2d;
extern op_conv_up2x_f   cuda_conv_up2x;
extern op_patchify_f    cuda_patchify;
extern op_unpatchify_f  cuda_unpatchify;
extern op_to_nhwc_f     cuda_to_nhwc;
extern op_copy_f        cuda_copy;
extern op_fill_rows_f   cuda_fill_rows;
extern op_to_rgb8_f     cuda_to_rgb8;
extern op_sum_squares_f cuda_sum_squares;
extern op_all_finite_f  cuda_all_finite;

#endif
