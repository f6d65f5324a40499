/* tensor.c - shapes and views. Believes: a wrong shape is a bug of ours, so everything asserts.
 * Not here: memory (dev.c), arithmetic (cpu/, cuda/). */
#include "kernels/tensor.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static const struct { const char *name; int16_t block, bytes; } kind[DTYPE_COUNT] = {
    [DTYPE_F32] = {"f32", 1, 4},        [DTYPE_BF16] = {"bf16", 1, 2},      [DTYPE_F16] = {"f16", 1, 2},
    [DTYPE_I32] = {"i32", 1, 4},        [DTYPE_U8] = {"u8", 1, 1},          [DTYPE_F8_E4M3] = {"f8_e4m3", 1, 1},
    [DTYPE_F8_E5M2] = {"f8_e5m2", 1, 1}, [DTYPE_Q8_0] = {"q8_0", 32, 34},   [DTYPE_Q4_0] = {"q4_0", 32, 18},
    [DTYPE_Q4_1] = {"q4_1", 32, 20},    [DTYPE_Q5_0] = {"q5_0", 32, 22},    [DTYPE_Q5_1] = {"q5_1", 32, 24},
    [DTYPE_IQ4_NL] = {"iq4_nl", 32, 18}, [DTYPE_Q2_K] = {"q2_k", 256, 84},  [DTYPE_Q3_K] = {"q3_k", 256, 110},
    [DTYPE_Q4_K] = {"q4_k", 256, 144},  [DTYPE_Q5_K] = {"q5_k", 256, 176},  [DTYPE_Q6_K] = {"q6_k", 256, 210},
    [DTYPE_IQ4_XS] = {"iq4_xs", 256, 136},
};

const char *dtype_name(enum dtype t)
{
    assert((unsigned)t < DTYPE_COUNT);
    return kind[t].name;
}

size_t dtype_bytes(enum dtype t)
{
    assert((unsigned)t < DTYPE_COUNT && kind[t].block == 1);
    return (size_t)kind[t].bytes;
}

int64_t dtype_block(enum dtype t)
{
    assert((unsigned)t < DTYPE_COUNT);
    return kind[t].block;
}

size_t dtype_block_bytes(enum dtype t)
{
    assert((unsigned)t < DTYPE_COUNT);
    return (size_t)kind[t].bytes;
}

size_t dtype_row_bytes(enum dtype t, int64_t n)
{
    assert((unsigned)t < DTYPE_COUNT && n >= 0 && n % kind[t].block == 0);
    return (size_t)(n / kind[t].block) * (size_t)kind[t].bytes;
}

int64_t tensor_rows(const struct tensor *t)
{
    assert(t->rank >= 1 && t->rank <= TENSOR_RANK_MAX);
    return t->dim[0];
}

int64_t tensor_cols(const struct tensor *t)
{
    int64_t n = 1;

    for (int i = 1; i < t->rank; i++) n *= t->dim[i];
    return n;
}

int64_t tensor_count(const struct tensor *t)
{
    return tensor_rows(t) * tensor_cols(t);
}

bool tensor_dense(const struct tensor *t)
{
    return t->pitch == tensor_cols(t) || tensor_rows(t) <= 1;
}

bool tensor_same_shape(const struct tensor *a, const struct tensor *b)
{
    if (a->rank != b->rank) return false;
    for (int i = 0; i < a->rank; i++) {
        if (a->dim[i] != b->dim[i]) return false;
    }
    return true;
}

struct tensor tensor_view(const struct tensor *t, int rank, const int64_t *dim)
{
    struct tensor v = *t;

    assert(rank >= 1 && rank <= TENSOR_RANK_MAX);
    memset(v.dim, 0, sizeof v.dim);
    v.rank = rank;
    for (int i = 0; i < rank; i++) v.dim[i] = dim[i];
    assert(tensor_count(&v) == tensor_count(t));
    if (tensor_dense(t)) v.pitch = tensor_cols(&v);
    else assert(v.dim[0] == t->dim[0]); /* pitched: only the inner dims may be cut anew */
    return v;
}

/* data + elements; a NULL (measuring) stays NULL. */
static void *at(const struct tensor *t, int64_t elements)
{
    return t->data ? (char *)t->data + dtype_row_bytes(t->type, elements) : NULL;
}

struct tensor tensor_slice(const struct tensor *t, int64_t row, int64_t n_rows)
{
    struct tensor v = *t;

    assert(row >= 0 && n_rows >= 0 && row <= t->dim[0] && n_rows <= t->dim[0] - row);
    v.dim[0] = n_rows;
    v.data = at(t, row * t->pitch);
    return v;
}

struct tensor tensor_cols_of(const struct tensor *t, int64_t col, int64_t n_cols)
{
    struct tensor v = *t;

    assert(t->rank == 2 && col >= 0 && n_cols >= 0 && col <= t->dim[1] && n_cols <= t->dim[1] - col);
    v.dim[1] = n_cols;
    v.data = at(t, col);
    return v;
}

struct tensor tensor_heads(const struct tensor *t, int64_t n_heads)
{
    struct tensor v = *t;

    assert(t->rank == 2 && n_heads > 0 && t->dim[1] % n_heads == 0);
    v.rank = 3;
    v.dim[1] = n_heads;
    v.dim[2] = t->dim[1] / n_heads;
    return v;
}

const char *tensor_text(const struct tensor *t, char *text, size_t cap)
{
    size_t used = 0;

    assert(cap > 0);
    text[0] = '\0';
    for (int i = 0; i < t->rank && used < cap; i++) {
        int n = snprintf(text + used, cap - used, "%s%" PRId64, i ? "," : "[", t->dim[i]);

        used += n > 0 ? (size_t)n : 0;
    }
    if (used < cap) snprintf(text + used, cap - used, "] %s", dtype_name(t->type));
    return text;
}
