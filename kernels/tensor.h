/* tensor.h - a tensor is a value: dtype, shape, borrowed pointer. It owns nothing.
 *
 * Row-major. dim[0..rank-1]; the innermost dims are dense; `pitch` is the distance in ELEMENTS between consecutive indices of dim[0]
 * (so a tensor may be a column range of a wider row-major buffer: q, k, v inside one packed QKV). For a dense tensor pitch is the
 * product of dim[1..]. Rank 1 has pitch 1.
 * Block kinds (DTYPE_Q8_0 ...) keep their values in blocks of dtype_block() values along the innermost dim: rows hold whole blocks, and
 * columns are cut at multiples of a block only. Their layouts are ggml's, byte for byte; kernels/quant.h widens and makes them. */
#ifndef KERNELS_TENSOR_H
#define KERNELS_TENSOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct dev;

enum dtype {
    DTYPE_F32, DTYPE_BF16, DTYPE_F16, DTYPE_I32, DTYPE_U8,
    DTYPE_F8_E4M3, DTYPE_F8_E5M2,                                              /* weights only, from here on */
    DTYPE_Q8_0, DTYPE_Q4_0, DTYPE_Q4_1, DTYPE_Q5_0, DTYPE_Q5_1, DTYPE_IQ4_NL,  /* blocks of 32 */
    DTYPE_Q2_K, DTYPE_Q3_K, DTYPE_Q4_K, DTYPE_Q5_K, DTYPE_Q6_K, DTYPE_IQ4_XS,  /* blocks of 256 */
    DTYPE_COUNT
};

#define TENSOR_RANK_MAX 4

struct tensor {
    enum dtype  type;
    int         rank;
    int64_t     dim[TENSOR_RANK_MAX];
    int64_t     pitch; /* elements */
    void       *data;  /* device memory of the dev that made it; NULL while measuring */
    const struct dev *dev;
    float       scale; /* of F8 weights: every value is times this; 0 = no scale */
};

const char *dtype_name(enum dtype t);
size_t      dtype_bytes(enum dtype t);             /* bytes per element; not for block kinds */
int64_t     dtype_block(enum dtype t);             /* values per block; 1 where elements stand alone */
size_t      dtype_block_bytes(enum dtype t);       /* bytes of a block, or of an element */
size_t      dtype_row_bytes(enum dtype t, int64_t n); /* of n values, whole blocks */
int64_t     tensor_count(const struct tensor *t);  /* product of dims */
int64_t     tensor_rows(const struct tensor *t);   /* dim[0] */
int64_t     tensor_cols(const struct tensor *t);   /* product of dim[1..]; 1 for rank 1 */
bool        tensor_dense(const struct tensor *t);
bool        tensor_same_shape(const struct tensor *a, const struct tensor *b);
/* Views share the data. Asserts that counts agree; view/reshape of a pitched tensor keeps dim[0]. */
struct tensor tensor_view(const struct tensor *t, int rank, const int64_t *dim);
struct tensor tensor_slice(const struct tensor *t, int64_t row, int64_t n_rows);   /* rows of dim[0] */
struct tensor tensor_cols_of(const struct tensor *t, int64_t col, int64_t n_cols); /* rank 2: a column range, pitched */
struct tensor tensor_heads(const struct tensor *t, int64_t n_heads);               /* [n, h*d] -> [n, h, d], pitched is fine */
/* "[4128,3840] bf16" into text, for sentences. */
const char *tensor_text(const struct tensor *t, char *text, size_t cap);

#endif
