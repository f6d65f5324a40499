/* gguf.c - see gguf.h. One cursor over the bytes; it knows what is left and refuses to go past it.
 * Not here: the writer (gguf_put.c). */
#include "engine/gguf.h"

#include <assert.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MIN_VALUE_BYTES = 8 + 1 + 4 + 1, MIN_TENSOR_BYTES = 8 + 1 + 4 + 8 + 4 + 8 };

/* Bytes of one item; 0 where it has no fixed size. */
static const uint8_t item_bytes[GGUF_TYPE_COUNT] = {
    [GGUF_U8] = 1,  [GGUF_I8] = 1,   [GGUF_U16] = 2, [GGUF_I16] = 2, [GGUF_U32] = 4, [GGUF_I32] = 4,
    [GGUF_F32] = 4, [GGUF_BOOL] = 1, [GGUF_U64] = 8, [GGUF_I64] = 8, [GGUF_F64] = 8};
static const char *const type_words[GGUF_TYPE_COUNT] = {"u8",   "i8",     "u16",   "i16", "u32", "i32", "f32",
                                                        "bool", "string", "array", "u64", "i64", "f64"};

/* The allow-list of tensor types: what is used, and what is listed only. */
static const struct {
    uint32_t    code;
    const char *word;
    bool        usable;
    enum dtype  type;
    uint8_t     bytes; /* of an unusable element */
} kinds[] = {
    {0, "F32", true, DTYPE_F32, 0},        {1, "F16", true, DTYPE_F16, 0},        {2, "Q4_0", true, DTYPE_Q4_0, 0},
    {3, "Q4_1", true, DTYPE_Q4_1, 0},      {6, "Q5_0", true, DTYPE_Q5_0, 0},      {7, "Q5_1", true, DTYPE_Q5_1, 0},
    {8, "Q8_0", true, DTYPE_Q8_0, 0},      {10, "Q2_K", true, DTYPE_Q2_K, 0},     {11, "Q3_K", true, DTYPE_Q3_K, 0},
    {12, "Q4_K", true, DTYPE_Q4_K, 0},     {13, "Q5_K", true, DTYPE_Q5_K, 0},     {14, "Q6_K", true, DTYPE_Q6_K, 0},
    {20, "IQ4_NL", true, DTYPE_IQ4_NL, 0}, {23, "IQ4_XS", true, DTYPE_IQ4_XS, 0}, {30, "BF16", true, DTYPE_BF16, 0},
    {24, "I8", false, DTYPE_U8, 1},        {25, "I16", false, DTYPE_U8, 2},       {26, "I32", false, DTYPE_U8, 4},
    {27, "I64", false, DTYPE_U8, 8},       {28, "F64", false, DTYPE_U8, 8},
};
#define N_KINDS (sizeof kinds / sizeof *kinds)

struct cursor {
    struct str  bytes;
    size_t      at;
    const char *path;
    struct err *e;
};

static size_t left(const struct cursor *c)
{
    return c->bytes.len - c->at;
}

static int cut(const struct cursor *c, const char *what)
{
    return err_set(c->e, ERR_FORMAT, "%s: the file ends inside %s: truncated?", c->path, what);
}

static uint64_t little(const char *at, size_t n)
{
    uint64_t v = 0;
    for (size_t i = n; i-- > 0;) v = v << 8 | (uint8_t)at[i];
    return v;
}

static int take(struct cursor *c, size_t n, uint64_t *out, const char *what)
{
    if (left(c) < n) return cut(c, what);
    *out = little(c->bytes.at + c->at, n);
    c->at += n;
    return 0;
}

static int take_str(struct cursor *c, uint64_t max, struct str *out, const char *what)
{
    uint64_t len = 0;
    int      rc = take(c, 8, &len, what);
    if (rc) return rc;
    if (len > max) return err_set(c->e, ERR_LIMIT, "%s: %s has %" PRIu64 " bytes, the limit is %" PRIu64, c->path, what, len, max);
    if (len > left(c)) return cut(c, what);
    *out = (struct str){c->bytes.at + c->at, (size_t)len};
    c->at += (size_t)len;
    return 0;
}

static int take_name(struct cursor *c, uint64_t max, struct str *out, const char *what)
{
    int rc = take_str(c, max, out, what);
    if (rc) return rc;
    if (out->len == 0) return err_set(c->e, ERR_FORMAT, "%s: %s is empty", c->path, what);
    for (size_t i = 0; i < out->len; i++)
        if (out->at[i] < 0x20 || out->at[i] > 0x7e)
            return err_set(c->e, ERR_FORMAT, "%s: %s holds a byte that is not printable ASCII", c->path, what);
    return 0;
}

static int take_type(struct cursor *c, enum gguf_type *out, const char *what)
{
    uint64_t t = 0;
    int      rc = take(c, 4, &t, what);
    if (!rc && t >= GGUF_TYPE_COUNT) rc = err_set(c->e, ERR_FORMAT, "%s: %s has the unknown type %" PRIu64, c->path, what, t);
    if (!rc) *out = (enum gguf_type)t;
    return rc;
}

/* ---- metadata ---- */

static int check_bools(const struct cursor *c, const struct gguf_value *v)
{
    for (size_t i = 0; v->item == GGUF_BOOL && i < v->bytes.len; i++)
        if ((uint8_t)v->bytes.at[i] > 1)
            return err_set(c->e, ERR_FORMAT, "%s: %.*s is a bool of value %d", c->path, (int)v->key.len, v->key.at,
                           (uint8_t)v->bytes.at[i]);
    return 0;
}

/* n items of v->item, from here; v->bytes receives them. */
static int take_items(struct cursor *c, struct gguf_value *v)
{
    size_t     from = c->at;
    uint64_t   bytes;
    struct str s;
    int        rc;

    if (v->item == GGUF_STR) {
        if (v->n > left(c) / 8) return cut(c, "an array of strings");
        for (uint64_t i = 0; i < v->n; i++) {
            if ((rc = take_str(c, GGUF_STRING_MAX, &s, "a string of the metadata"))) return rc;
            if (c->at - from > GGUF_ARRAY_MAX)
                return err_set(c->e, ERR_LIMIT, "%s: the array %.*s has more than %u bytes", c->path, (int)v->key.len, v->key.at,
                               GGUF_ARRAY_MAX);
        }
    } else {
        if (__builtin_mul_overflow(v->n, (uint64_t)item_bytes[v->item], &bytes) || bytes > left(c)) return cut(c, "an array");
        if (bytes > GGUF_ARRAY_MAX)
            return err_set(c->e, ERR_LIMIT, "%s: the array %.*s has %" PRIu64 " bytes, the limit is %u", c->path, (int)v->key.len,
                           v->key.at, bytes, GGUF_ARRAY_MAX);
        c->at += (size_t)bytes;
    }
    v->bytes = (struct str){c->bytes.at + from, c->at - from};
    return check_bools(c, v);
}

static int take_value(struct cursor *c, struct gguf_value *v)
{
    int rc;
    if ((rc = take_name(c, GGUF_KEY_MAX, &v->key, "a key of the metadata")) || (rc = take_type(c, &v->type, "a value of the metadata")))
        return rc;
    v->item = v->type;
    v->n = 1;
    if (v->type == GGUF_ARRAY) {
        if ((rc = take_type(c, &v->item, "an array of the metadata")) || (rc = take(c, 8, &v->n, "an array of the metadata"))) return rc;
        if (v->item == GGUF_ARRAY)
            return err_set(c->e, ERR_FORMAT, "%s: %.*s is an array of arrays: not supported", c->path, (int)v->key.len, v->key.at);
    }
    return take_items(c, v);
}

static int order(struct str a, struct str b)
{
    size_t n = a.len < b.len ? a.len : b.len;
    int    d = memcmp(a.at, b.at, n);
    return d ? d : a.len < b.len ? -1 : a.len > b.len;
}

static int by_key(const void *a, const void *b)
{
    return order(((const struct gguf_value *)a)->key, ((const struct gguf_value *)b)->key);
}

static int take_values(struct cursor *c, struct gguf *g, uint64_t n)
{
    int rc = 0;
    g->value = calloc((size_t)n + 1, sizeof *g->value);
    if (!g->value) return err_set(c->e, ERR_NOMEM, "%s: no memory for %" PRIu64 " keys", c->path, n);
    for (uint64_t i = 0; i < n && !rc; i++) rc = take_value(c, &g->value[i]);
    if (rc) return rc;
    g->n_values = (size_t)n;
    qsort(g->value, g->n_values, sizeof *g->value, by_key);
    for (size_t i = 1; i < g->n_values; i++)
        if (str_eq(g->value[i - 1].key, g->value[i].key))
            return err_set(c->e, ERR_FORMAT, "%s: the key %.*s is there twice", c->path, (int)g->value[i].key.len, g->value[i].key.at);
    return 0;
}

static int read_align(struct gguf *g, struct err *e)
{
    const struct gguf_value *v = gguf_find(g, "general.alignment");
    g->align_bytes = GGUF_ALIGN;
    if (!v) return 0;
    if (v->type != GGUF_U32) return err_set(e, ERR_FORMAT, "%s: general.alignment is a %s, it must be a u32", g->path, type_words[v->type]);
    g->align_bytes = (uint32_t)little(v->bytes.at, 4);
    if (g->align_bytes < 8 || g->align_bytes > GGUF_ALIGN_MAX || (g->align_bytes & (g->align_bytes - 1)))
        return err_set(e, ERR_FORMAT, "%s: general.alignment is %" PRIu32 ": must be a power of two from 8 to %u", g->path, g->align_bytes,
                       GGUF_ALIGN_MAX);
    return 0;
}

/* ---- tensors ---- */

static int take_shape(struct cursor *c, struct safetensors_entry *t, uint64_t dim[4])
{
    uint64_t rank = 0;
    int      rc = take(c, 4, &rank, "a tensor's shape");
    if (rc) return rc;
    if (rank < 1 || rank > 4)
        return err_set(c->e, ERR_FORMAT, "%s: tensor %s has %" PRIu64 " dimensions: must be 1 to 4", c->path, t->name, rank);
    t->rank = (int)rank;
    for (int i = 0; i < t->rank; i++) {
        if ((rc = take(c, 8, &dim[i], "a tensor's shape"))) return rc;
        if (dim[i] < 1 || dim[i] > INT32_MAX)
            return err_set(c->e, ERR_FORMAT, "%s: tensor %s: dimension %d is %" PRIu64 ": must be 1 to %d", c->path, t->name, i, dim[i],
                           INT32_MAX);
        t->dim[t->rank - 1 - i] = (int64_t)dim[i]; /* innermost first in the file */
    }
    return 0;
}

static int take_kind(struct cursor *c, struct safetensors_entry *t, uint64_t *block, uint64_t *bytes)
{
    uint64_t code = 0;
    size_t   k = 0;
    int      rc = take(c, 4, &code, "a tensor's type");
    if (rc) return rc;
    while (k < N_KINDS && kinds[k].code != code) k++;
    if (k == N_KINDS)
        return err_set(c->e, ERR_FORMAT,
                       "%s: tensor %s has the ggml type %" PRIu64
                       ", which this version does not read: convert it to Q8_0, Q6_K, Q5_K, Q4_K, Q3_K, Q2_K, "
                       "F16 or BF16",
                       c->path, t->name, code);
    t->type_word = kinds[k].word;
    t->usable = kinds[k].usable;
    t->type = kinds[k].type;
    *block = t->usable ? (uint64_t)dtype_block(t->type) : 1;
    *bytes = t->usable ? dtype_block_bytes(t->type) : kinds[k].bytes;
    return 0;
}

/* Everything but the place, which is compared with the data when that is known; t->name is set. */
static int take_tensor(struct cursor *c, struct safetensors_entry *t)
{
    uint64_t dim[4] = {0}, block = 1, bytes = 0;
    int      rc;

    if ((rc = take_shape(c, t, dim)) || (rc = take_kind(c, t, &block, &bytes)) || (rc = take(c, 8, &t->begin, "a tensor's place")))
        return rc;
    if (dim[0] % block)
        return err_set(c->e, ERR_FORMAT, "%s: tensor %s: rows of %" PRIu64 " values do not divide into blocks of %" PRIu64 " (%s)", c->path,
                       t->name, dim[0], block, t->type_word);
    dim[0] /= block;
    for (int i = 0; i < t->rank; i++)
        if (__builtin_mul_overflow(bytes, dim[i], &bytes) || bytes > INT64_MAX)
            return err_set(c->e, ERR_FORMAT, "%s: tensor %s: the shape is larger than any file", c->path, t->name);
    t->bytes = bytes;
    return 0;
}

static int by_name(const void *a, const void *b)
{
    return strcmp((*(struct safetensors_entry *const *)a)->name, (*(struct safetensors_entry *const *)b)->name);
}

static int check_names(const struct gguf *g, struct err *e)
{
    struct safetensors_entry **at = malloc((g->n + 1) * sizeof *at);
    int                        rc = 0;
    if (!at) return err_set(e, ERR_NOMEM, "%s: no memory for %zu tensors", g->path, g->n);
    for (size_t i = 0; i < g->n; i++) at[i] = &g->entry[i];
    qsort(at, g->n, sizeof *at, by_name);
    for (size_t i = 1; i < g->n && !rc; i++)
        if (strcmp(at[i - 1]->name, at[i]->name) == 0) rc = err_set(e, ERR_FORMAT, "%s: tensor %s is there twice", g->path, at[i]->name);
    free(at);
    return rc;
}

static int take_tensors(struct cursor *c, struct gguf *g, uint64_t n)
{
    size_t     at = 0, room = (size_t)n * (GGUF_NAME_MAX + 1);
    struct str name;
    int        rc;

    if (room > left(c)) room = left(c) + 1; /* every name has 24 bytes of other things behind it, so its NUL fits, too */
    g->entry = calloc((size_t)n + 1, sizeof *g->entry);
    g->names = malloc(room + 1);
    if (!g->entry || !g->names) return err_set(c->e, ERR_NOMEM, "%s: no memory for %" PRIu64 " tensors", c->path, n);
    for (; g->n < n; g->n++) {
        struct safetensors_entry *t = &g->entry[g->n];
        if ((rc = take_name(c, GGUF_NAME_MAX, &name, "a tensor's name"))) return rc;
        assert(at + name.len + 1 <= room + 1);
        memcpy(g->names + at, name.at, name.len);
        t->name = g->names + at;
        g->names[at + name.len] = 0;
        at += name.len + 1;
        if ((rc = take_tensor(c, t))) return rc;
    }
    return check_names(g, c->e);
}

static int by_begin(const void *pa, const void *pb)
{
    const struct safetensors_entry *a = pa, *b = pb;
    return a->begin < b->begin ? -1 : a->begin > b->begin;
}

/* Aligned, inside the data, disjoint. No tensor is empty, so places differ. */
static int check_places(struct gguf *g, struct err *e)
{
    uint64_t free_from = 0;
    qsort(g->entry, g->n, sizeof *g->entry, by_begin);
    for (size_t i = 0; i < g->n; i++) {
        const struct safetensors_entry *t = &g->entry[i];
        if (t->begin % g->align_bytes)
            return err_set(e, ERR_FORMAT, "%s: tensor %s begins at %" PRIu64 ", not a multiple of %" PRIu32, g->path, t->name, t->begin,
                           g->align_bytes);
        if (t->begin > g->data_bytes || t->bytes > g->data_bytes - t->begin)
            return err_set(e, ERR_FORMAT,
                           "%s: tensor %s (%" PRIu64 " bytes from %" PRIu64 ") ends behind the data of %" PRIu64 " bytes: truncated?",
                           g->path, t->name, t->bytes, t->begin, g->data_bytes);
        if (t->begin < free_from)
            return err_set(e, ERR_FORMAT, "%s: tensor %s begins at %" PRIu64 ", inside %s: tensors overlap", g->path, t->name, t->begin,
                           g->entry[i - 1].name);
        free_from = t->begin + t->bytes; /* both inside the data */
    }
    return 0;
}

#define ORIGINAL "comfy.gguf.orig_shape." /* + a tensor's name: some converters fold a shape and leave it here, outermost first */

static int unfold(const struct gguf *g, struct safetensors_entry *t, const struct gguf_value *v, struct err *e)
{
    uint64_t before = 1, after = 1;
    int64_t  dim[4] = {0};

    if (v->type != GGUF_ARRAY || v->item != GGUF_I32 || v->n < 1 || v->n > 4)
        return err_set(e, ERR_FORMAT, "%s: the key " ORIGINAL "%s must be an array of 1 to 4 i32", g->path, t->name);
    for (int i = 0; i < t->rank; i++) before *= (uint64_t)t->dim[i]; /* inside the file, so it cannot wrap */
    for (uint64_t i = 0; i < v->n; i++) {
        dim[i] = gguf_i32(v, i);
        if (dim[i] < 1 || __builtin_mul_overflow(after, (uint64_t)dim[i], &after)) after = 0;
    }
    if (after != before)
        return err_set(e, ERR_FORMAT, "%s: tensor %s: " ORIGINAL "%s says another number of values than the tensor holds", g->path, t->name,
                       t->name);
    if (t->usable && dim[v->n - 1] % dtype_block(t->type))
        return err_set(e, ERR_FORMAT, "%s: tensor %s was folded so that its blocks (%s) go across rows: not supported, use F16", g->path,
                       t->name, t->type_word);
    t->rank = (int)v->n;
    memcpy(t->dim, dim, sizeof dim);
    return 0;
}

static int unfold_all(struct gguf *g, struct err *e)
{
    char key[sizeof ORIGINAL + GGUF_NAME_MAX];
    int  rc = 0;
    for (size_t i = 0; i < g->n && !rc; i++) {
        snprintf(key, sizeof key, ORIGINAL "%s", g->entry[i].name);
        const struct gguf_value *v = gguf_find(g, key);
        if (v) rc = unfold(g, &g->entry[i], v, e);
    }
    return rc;
}

/* ---- the whole ---- */

bool gguf_is(struct str bytes)
{
    return bytes.len >= 4 && memcmp(bytes.at, "GGUF", 4) == 0;
}

static int take_counts(struct cursor *c, struct gguf *g, uint64_t *n_tensors, uint64_t *n_values)
{
    uint64_t version = 0;
    int      rc;

    if (!gguf_is(c->bytes)) return err_set(c->e, ERR_FORMAT, "%s: does not begin with \"GGUF\"", c->path);
    c->at = 4;
    if ((rc = take(c, 4, &version, "the header"))) return rc;
    if (version != 2 && version != 3)
        return err_set(c->e, ERR_FORMAT, "%s: GGUF version %" PRIu64 "%s: 2 and 3, little endian, are supported", c->path, version,
                       version == 0x02000000 || version == 0x03000000 ? " (a big-endian file)" : "");
    g->version = (uint32_t)version;
    if ((rc = take(c, 8, n_tensors, "the header")) || (rc = take(c, 8, n_values, "the header"))) return rc;
    if (*n_tensors > GGUF_TENSORS_MAX || *n_values > GGUF_KEYS_MAX)
        return err_set(c->e, ERR_LIMIT, "%s: %" PRIu64 " tensors and %" PRIu64 " keys, at most %d and %d are supported", c->path,
                       *n_tensors, *n_values, GGUF_TENSORS_MAX, GGUF_KEYS_MAX);
    if (*n_values > left(c) / MIN_VALUE_BYTES)
        return err_set(c->e, ERR_FORMAT, "%s: %" PRIu64 " keys do not fit in %zu bytes: truncated?", c->path, *n_values, left(c));
    return 0;
}

static int parse(struct gguf *g, struct cursor *c)
{
    uint64_t n_tensors = 0, n_values = 0;
    int      rc;

    if ((rc = take_counts(c, g, &n_tensors, &n_values)) || (rc = take_values(c, g, n_values)) || (rc = read_align(g, c->e))) return rc;
    if (n_tensors > left(c) / MIN_TENSOR_BYTES)
        return err_set(c->e, ERR_FORMAT, "%s: %" PRIu64 " tensors do not fit in %zu bytes: truncated?", c->path, n_tensors, left(c));
    if ((rc = take_tensors(c, g, n_tensors))) return rc;
    if (c->at > GGUF_HEAD_MAX)
        return err_set(c->e, ERR_LIMIT, "%s: names and metadata have %zu bytes, the limit is %u", c->path, c->at, GGUF_HEAD_MAX);
    size_t pad = (g->align_bytes - c->at % g->align_bytes) % g->align_bytes;
    g->header = (struct str){c->bytes.at, c->at};
    g->data = (const uint8_t *)c->bytes.at + c->at + (pad < left(c) ? pad : left(c));
    g->data_bytes = pad < left(c) ? left(c) - pad : 0;
    if ((rc = check_places(g, c->e))) return rc;
    return unfold_all(g, c->e);
}

int gguf_parse(struct gguf *out, struct str bytes, const char *path, struct err *e)
{
    struct gguf   g = {.map = {.fd = -1}};
    struct cursor c = {.bytes = bytes, .path = g.path, .e = e};
    int           rc;

    snprintf(g.path, sizeof g.path, "%s", path);
    if ((rc = parse(&g, &c)))
        gguf_close(&g);
    else
        *out = g;
    return rc;
}

int gguf_open(struct gguf *g, const char *path, struct err *e)
{
    struct file_map m;
    int             rc = file_map_open(&m, path, e);
    if (rc) return rc;
    rc = gguf_parse(g, (struct str){(const char *)m.at, m.len}, path, e);
    if (rc)
        file_map_close(&m);
    else
        g->map = m;
    return rc;
}

void gguf_close(struct gguf *g)
{
    if (g->map.fd >= 0) file_map_close(&g->map);
    free(g->value);
    free(g->entry);
    free(g->names);
    *g = (struct gguf){.map = {.fd = -1}};
}

/* ---- getters ---- */

const struct gguf_value *gguf_find(const struct gguf *g, const char *key)
{
    struct gguf_value k = {.key = str_of(key)};
    return g->n_values ? bsearch(&k, g->value, g->n_values, sizeof *g->value, by_key) : NULL;
}

static int missing(const struct gguf *g, const char *key, struct err *e)
{
    return err_set(e, ERR_NOTFOUND, "%s: the metadata has no %s", g->path, key);
}

static int other_type(const struct gguf *g, const struct gguf_value *v, const char *wanted, struct err *e)
{
    return err_set(e, ERR_FORMAT, "%s: %.*s is %s%s, %s was expected", g->path, (int)v->key.len, v->key.at,
                   v->type == GGUF_ARRAY ? "an array of " : "", type_words[v->item], wanted);
}

int gguf_uint(const struct gguf *g, const char *key, uint64_t *out, struct err *e)
{
    const struct gguf_value *v = gguf_find(g, key);
    if (!v) return missing(g, key, e);
    if (v->type == GGUF_ARRAY || v->type == GGUF_STR || v->type == GGUF_F32 || v->type == GGUF_F64 || v->type == GGUF_BOOL)
        return other_type(g, v, "a whole number", e);
    bool     has_sign = v->type == GGUF_I8 || v->type == GGUF_I16 || v->type == GGUF_I32 || v->type == GGUF_I64;
    uint64_t x = little(v->bytes.at, v->bytes.len);
    if (has_sign && x >> (8 * v->bytes.len - 1)) return other_type(g, v, "a number that is not negative", e);
    *out = x;
    return 0;
}

int gguf_real(const struct gguf *g, const char *key, double *out, struct err *e)
{
    const struct gguf_value *v = gguf_find(g, key);
    double                   x;
    if (!v) return missing(g, key, e);
    if (v->type == GGUF_F32) {
        float f;
        memcpy(&f, v->bytes.at, sizeof f);
        x = (double)f;
    } else if (v->type == GGUF_F64) {
        memcpy(&x, v->bytes.at, sizeof x);
    } else {
        return other_type(g, v, "a number with a fraction", e);
    }
    if (!isfinite(x)) return err_set(e, ERR_FORMAT, "%s: %s is not a finite number", g->path, key);
    *out = x;
    return 0;
}

int gguf_str(const struct gguf *g, const char *key, struct str *out, struct err *e)
{
    const struct gguf_value *v = gguf_find(g, key);
    if (!v) return missing(g, key, e);
    if (v->type != GGUF_STR) return other_type(g, v, "a string", e);
    *out = str_sub(v->bytes, 8, v->bytes.len - 8);
    return 0;
}

int gguf_array(const struct gguf *g, const char *key, enum gguf_type item, const struct gguf_value **out, struct err *e)
{
    const struct gguf_value *v = gguf_find(g, key);
    char                     wanted[32];
    if (!v) return missing(g, key, e);
    snprintf(wanted, sizeof wanted, "an array of %s", type_words[item]);
    if (v->type != GGUF_ARRAY || v->item != item) return other_type(g, v, wanted, e);
    *out = v;
    return 0;
}

struct str gguf_next(const struct gguf_value *array, size_t *at)
{
    assert(array->item == GGUF_STR && *at <= array->bytes.len && array->bytes.len - *at >= 8);
    size_t     len = (size_t)little(array->bytes.at + *at, 8); /* checked when the file was read */
    struct str s = str_sub(array->bytes, *at + 8, len);
    *at += 8 + len;
    return s;
}

int32_t gguf_i32(const struct gguf_value *array, uint64_t i)
{
    assert(array->item == GGUF_I32 && i < array->n);
    return (int32_t)(uint32_t)little(array->bytes.at + 4 * i, 4);
}
