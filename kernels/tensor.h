/* tensor.h - a tensor is a value: dtype, shape, borrowed pointer. It owns nothing.
 *
 * Row-major. dim[0..rank-1]; the innermost dims are dense; `pitch` is the distance in ELEMENTS between consecutive indices of dim[0]
 * (so a tensor may be a column range of a wider row-major buffer: q, k, v inside one packed QKV). For a dense tensor pitch is the
 * product of dim[1..]. Rank 1 has pitch 1.
 * Quantised dtypes (block kinds) get their rooms later: dtype_bytes() answers per row. */
#ifndef KERNELS_TENSOR_H
#define KERNELS_TENSOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct dev;

enum dtype { DTYPE_F32, DTYPE_BF16, DTYPE_F16, DTYPE_I32, DTYPE_U8, DTYPE_COUNT };

#define TENSOR_RANK_MAX 4

struct tensor {
    enum dtype  type;
    int         rank;
    int64_t     dim[TENSOR_RANK_MAX];
    int64_t     pitch; /* elements */
    void       *data;  /* device memory of the dev that made it; NULL while measuring */
    const struct dev *dev;
};

const char *dtype_name(enum dtype t);
size_t      dtype_bytes(enum dtype t);             /* bytes per element */
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
