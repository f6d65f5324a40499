/* gguf.h - the GGUF format, versions 2 and 3, little endian: header, metadata, places of tensors; and a writer of headers.
 *
 *   struct gguf g;
 *   if (gguf_open(&g, "model-Q4_K_M.gguf", &e)) ...          maps the file and checks every key, array and tensor
 *   uint64_t n; gguf_uint(&g, "qwen3.block_count", &n, &e);  a getter says ERR_NOTFOUND or ERR_FORMAT, it never reinterprets
 *   for (i < g.n) g.entry[i].name, .type, .dim, g.data + g.entry[i].begin
 *   gguf_close(&g);
 *
 * Believes nothing: every count is compared with the bytes that are left before anything is allocated, every product is checked for
 * overflow, nothing is added to be compared. After 0 is returned every tensor lies inside the data, aligned, disjoint from the others,
 * with whole blocks in its rows; names and keys differ and are printable ASCII; arrays hold what their count says; none is nested.
 * Shapes are turned into our order (outermost first); one that a converter folded (comfy.gguf.orig_shape.NAME) is the original again. Strings of metadata are any bytes: whoever shows one escapes it.
 * Not here: what a key means, which tensors a model needs (names.h, weights.h). */
#ifndef ENGINE_GGUF_H
#define ENGINE_GGUF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/file.h"
#include "base/str.h"
#include "engine/safetensors.h"
#include "kernels/tensor.h"

#define GGUF_KEYS_MAX    65536
#define GGUF_TENSORS_MAX 65536
#define GGUF_KEY_MAX     255
#define GGUF_NAME_MAX    63
#define GGUF_STRING_MAX  (1u << 20)
#define GGUF_ARRAY_MAX   (64u << 20) /* bytes of one array, its strings and their lengths counted */
#define GGUF_HEAD_MAX    (256u << 20)
#define GGUF_ALIGN       32u /* when general.alignment does not say */
#define GGUF_ALIGN_MAX   65536u

enum gguf_type { /* as in files */
                 GGUF_U8,
                 GGUF_I8,
                 GGUF_U16,
                 GGUF_I16,
                 GGUF_U32,
                 GGUF_I32,
                 GGUF_F32,
                 GGUF_BOOL,
                 GGUF_STR,
                 GGUF_ARRAY,
                 GGUF_U64,
                 GGUF_I64,
                 GGUF_F64,
                 GGUF_TYPE_COUNT
};

struct gguf_value {
    struct str     key;
    enum gguf_type type, item; /* item: of an array, else the type again */
    uint64_t       n;          /* items of an array, else 1 */
    struct str     bytes;      /* of the value or of all items, lengths of strings counted */
};

struct gguf {
    char                      path[512]; /* for sentences */
    uint32_t                  version, align_bytes;
    struct gguf_value        *value; /* by key; owned */
    size_t                    n_values;
    struct safetensors_entry *entry; /* in the order of their data; owned. type_word "Q4_K"; what this engine cannot use is listed */
    size_t                    n;
    char                     *names; /* owned */
    const uint8_t            *data;
    uint64_t                  data_bytes;
    struct str                header; /* the file up to the data: what digests cover */
    struct file_map           map;    /* open after gguf_open */
};

/* True when the bytes begin like a GGUF file. */
bool gguf_is(struct str bytes);
/* bytes are the whole file and must outlive g; path only names it. ERR_FORMAT, ERR_LIMIT, ERR_NOMEM; g is untouched on error. */
int gguf_parse(struct gguf *g, struct str bytes, const char *path, struct err *e);
/* Maps path. ERR_IO, and as above. */
int  gguf_open(struct gguf *g, const char *path, struct err *e);
void gguf_close(struct gguf *g);

/* The value of a key. ERR_NOTFOUND when there is none, ERR_FORMAT when it has another type; out is untouched then. */
const struct gguf_value *gguf_find(const struct gguf *g, const char *key);
int gguf_uint(const struct gguf *g, const char *key, uint64_t *out, struct err *e); /* any integer type, not negative */
int gguf_real(const struct gguf *g, const char *key, double *out, struct err *e);   /* F32 or F64, finite */
int gguf_str(const struct gguf *g, const char *key, struct str *out, struct err *e);
int gguf_array(const struct gguf *g, const char *key, enum gguf_type item, const struct gguf_value **out, struct err *e);
/* The string at *at of an array of strings; moves *at on. Start with 0; call at most n times. */
struct str gguf_next(const struct gguf_value *array, size_t *at);
int32_t    gguf_i32(const struct gguf_value *array, uint64_t i); /* item i < n of an I32 array */

/* ---- writing ----
 *   struct gguf_head h; gguf_head_init(&h);
 *   gguf_put_str(&h, "general.architecture", str_of("zimage")); ... gguf_put_tensor(&h, "x.weight", DTYPE_Q8_0, 2, dim, &begin, &e);
 *   gguf_head_bytes(&h, &out, &e);     then the tensors' data, in the order of the calls, each padded with zeros to a multiple of GGUF_ALIGN
 * Our own mistakes (a key twice, a name too long for the format) come back as ERR_LIMIT or ERR_ARG. */
struct gguf_head {
    struct buf values, tensors;
    uint64_t   n_values, n_tensors, data_bytes;
    int        rc; /* the first refusal of memory */
};

void gguf_head_init(struct gguf_head *h);
void gguf_head_release(struct gguf_head *h);
void gguf_put_str(struct gguf_head *h, const char *key, struct str value);
void gguf_put_u32(struct gguf_head *h, const char *key, uint32_t value);
void gguf_put_f32(struct gguf_head *h, const char *key, float value);
/* Any value of another file, as it is. */
void gguf_put_value(struct gguf_head *h, const struct gguf_value *v);
/* An array; bytes as in files: items one after the other, strings each behind its 64-bit length. */
void gguf_put_array(struct gguf_head *h, const char *key, enum gguf_type item, uint64_t n, struct str bytes);
/* *begin: where its data goes, from the start of the data. */
int gguf_put_tensor(struct gguf_head *h, const char *name, enum dtype type, int rank, const int64_t *dim, uint64_t *begin, struct err *e);
/* The whole head, padded to where the data begins, behind what out holds. */
int gguf_head_bytes(const struct gguf_head *h, struct buf *out, struct err *e);

#endif
