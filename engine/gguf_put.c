/* gguf_put.c - the head of a GGUF file of version 3, piece by piece: metadata and tensor places are collected, counts come first at the end.
 * Believes: memory may be refused at any put; the first refusal is kept in rc and told by gguf_head_bytes().
 * Not here: reading (gguf.c), the tensors' data (whoever writes the file). */
#include <assert.h>
#include <inttypes.h>
#include <string.h>

#include "engine/gguf.h"

static void put(struct gguf_head *h, struct buf *b, const void *at, size_t len)
{
    if (!h->rc) h->rc = buf_put(b, at, len);
}

static void put_little(struct gguf_head *h, struct buf *b, uint64_t v, size_t n)
{
    uint8_t at[8];
    for (size_t i = 0; i < n; i++) at[i] = (uint8_t)(v >> 8 * i);
    put(h, b, at, n);
}

static void put_str(struct gguf_head *h, struct buf *b, struct str s)
{
    put_little(h, b, s.len, 8);
    put(h, b, s.at, s.len);
}

void gguf_head_init(struct gguf_head *h)
{
    *h = (struct gguf_head){.rc = 0};
    buf_init(&h->values, GGUF_HEAD_MAX / 2);
    buf_init(&h->tensors, GGUF_HEAD_MAX / 4);
}

void gguf_head_release(struct gguf_head *h)
{
    buf_release(&h->values);
    buf_release(&h->tensors);
}

static void put_key(struct gguf_head *h, struct str key, enum gguf_type type)
{
    assert(key.len >= 1 && key.len <= GGUF_KEY_MAX);
    put_str(h, &h->values, key);
    put_little(h, &h->values, type, 4);
    h->n_values++;
}

void gguf_put_str(struct gguf_head *h, const char *key, struct str value)
{
    put_key(h, str_of(key), GGUF_STR);
    put_str(h, &h->values, value);
}

void gguf_put_u32(struct gguf_head *h, const char *key, uint32_t value)
{
    put_key(h, str_of(key), GGUF_U32);
    put_little(h, &h->values, value, 4);
}

void gguf_put_f32(struct gguf_head *h, const char *key, float value)
{
    uint32_t u;
    memcpy(&u, &value, sizeof u);
    put_key(h, str_of(key), GGUF_F32);
    put_little(h, &h->values, u, 4);
}

void gguf_put_value(struct gguf_head *h, const struct gguf_value *v)
{
    put_key(h, v->key, v->type);
    if (v->type == GGUF_ARRAY) {
        put_little(h, &h->values, v->item, 4);
        put_little(h, &h->values, v->n, 8);
    }
    put(h, &h->values, v->bytes.at, v->bytes.len);
}

void gguf_put_array(struct gguf_head *h, const char *key, enum gguf_type item, uint64_t n, struct str bytes)
{
    struct gguf_value v = {.key = str_of(key), .type = GGUF_ARRAY, .item = item, .n = n, .bytes = bytes};
    gguf_put_value(h, &v);
}

/* The file's number of a dtype, or -1. */
static int code_of(enum dtype t)
{
    switch (t) {
    case DTYPE_F32:
        return 0;
    case DTYPE_F16:
        return 1;
    case DTYPE_BF16:
        return 30;
    case DTYPE_Q4_0:
        return 2;
    case DTYPE_Q4_1:
        return 3;
    case DTYPE_Q5_0:
        return 6;
    case DTYPE_Q5_1:
        return 7;
    case DTYPE_Q8_0:
        return 8;
    case DTYPE_Q2_K:
        return 10;
    case DTYPE_Q3_K:
        return 11;
    case DTYPE_Q4_K:
        return 12;
    case DTYPE_Q5_K:
        return 13;
    case DTYPE_Q6_K:
        return 14;
    case DTYPE_IQ4_NL:
        return 20;
    case DTYPE_IQ4_XS:
        return 23;
    default:
        return -1;
    }
}

int gguf_put_tensor(struct gguf_head *h, const char *name, enum dtype type, int rank, const int64_t *dim, uint64_t *begin, struct err *e)
{
    uint64_t bytes = dtype_block_bytes(type), padded;

    if (strlen(name) < 1 || strlen(name) > GGUF_NAME_MAX)
        return err_set(e, ERR_LIMIT, "GGUF holds tensor names of 1 to %d bytes: %s has %zu", GGUF_NAME_MAX, name, strlen(name));
    if (rank < 1 || rank > 4) return err_set(e, ERR_LIMIT, "GGUF holds tensors of 1 to 4 dimensions: %s has %d", name, rank);
    if (code_of(type) < 0) return err_set(e, ERR_ARG, "GGUF has no type %s (tensor %s): write a .safetensors file", dtype_name(type), name);
    for (int i = 0; i < rank; i++) {
        uint64_t n = (uint64_t)dim[i];
        if (dim[i] < 1 || dim[i] > INT32_MAX || (i == rank - 1 && dim[i] % dtype_block(type)))
            return err_set(e, ERR_ARG, "tensor %s: dimension %d of %" PRId64 " cannot be stored as %s", name, i, dim[i], dtype_name(type));
        if (__builtin_mul_overflow(bytes, i == rank - 1 ? n / (uint64_t)dtype_block(type) : n, &bytes))
            return err_set(e, ERR_LIMIT, "tensor %s: the shape is larger than any file", name);
    }
    if (__builtin_add_overflow(bytes, (uint64_t)GGUF_ALIGN - 1, &padded))
        return err_set(e, ERR_LIMIT, "tensor %s: the shape is larger than any file", name);
    padded = padded / GGUF_ALIGN * GGUF_ALIGN;
    *begin = h->data_bytes;
    if (__builtin_add_overflow(h->data_bytes, padded, &h->data_bytes))
        return err_set(e, ERR_LIMIT, "tensor %s: the file would be larger than any file system", name);
    put_str(h, &h->tensors, str_of(name));
    put_little(h, &h->tensors, (uint64_t)rank, 4);
    for (int i = rank - 1; i >= 0; i--) put_little(h, &h->tensors, (uint64_t)dim[i], 8);
    put_little(h, &h->tensors, (uint64_t)code_of(type), 4);
    put_little(h, &h->tensors, *begin, 8);
    h->n_tensors++;
    return 0;
}

int gguf_head_bytes(const struct gguf_head *h, struct buf *out, struct err *e)
{
    static const char zeros[GGUF_ALIGN];
    struct gguf_head  w = {.rc = h->rc};
    size_t            from = out->len;

    put(&w, out, "GGUF", 4);
    put_little(&w, out, 3, 4);
    put_little(&w, out, h->n_tensors, 8);
    put_little(&w, out, h->n_values, 8);
    put(&w, out, h->values.at, h->values.len);
    put(&w, out, h->tensors.at, h->tensors.len);
    put(&w, out, zeros, (GGUF_ALIGN - (out->len - from) % GGUF_ALIGN) % GGUF_ALIGN);
    if (w.rc)
        err_set(e, w.rc, "no room for the head of a GGUF file with %" PRIu64 " keys and %" PRIu64 " tensors", h->n_values, h->n_tensors);
    return w.rc;
}
