/* safetensors.c - see safetensors.h. Sizes are compared with the real length before any arithmetic that could wrap.
 * jansson reads the header: strict UTF-8, no duplicate keys, 64-bit integers, at most 2048 levels (we allow 4 before asking it). */
#include "engine/safetensors.h"

#include <assert.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define HEADER_DEPTH_MAX 4

static const struct {
    const char *word;
    unsigned    bytes;
    bool        usable;
    enum dtype  type;
} TYPES[] = {
    {"F32", 4, true, DTYPE_F32},   {"BF16", 2, true, DTYPE_BF16},       {"F16", 2, true, DTYPE_F16},         {"F64", 8, false, DTYPE_F32},
    {"I64", 8, false, DTYPE_F32},  {"I32", 4, false, DTYPE_F32},        {"I16", 2, false, DTYPE_F32},        {"I8", 1, false, DTYPE_F32},
    {"U64", 8, false, DTYPE_F32},  {"U32", 4, false, DTYPE_F32},        {"U16", 2, false, DTYPE_F32},        {"U8", 1, false, DTYPE_F32},
    {"BOOL", 1, false, DTYPE_F32}, {"F8_E4M3", 1, true, DTYPE_F8_E4M3}, {"F8_E5M2", 1, true, DTYPE_F8_E5M2},
};
#define N_TYPES (sizeof TYPES / sizeof *TYPES)

/* Brackets outside strings, so that a hostile header cannot make the JSON reader recurse. */
static bool depth_ok(struct str json, int max)
{
    int  depth = 0;
    bool in_string = false;
    for (size_t i = 0; i < json.len; i++) {
        char c = json.at[i];
        if (in_string) {
            if (c == '\\')
                i++;
            else if (c == '"')
                in_string = false;
        } else if (c == '"') {
            in_string = true;
        } else if (c == '{' || c == '[') {
            if (++depth > max) return false;
        } else if (c == '}' || c == ']') {
            depth--;
        }
    }
    return true;
}

static int load_json(struct str json, const char *path, const char *what, json_t **out, struct err *e)
{
    json_error_t je;
    if (!depth_ok(json, HEADER_DEPTH_MAX))
        return err_set(e, ERR_FORMAT, "%s: the %s nests deeper than %d levels", path, what, HEADER_DEPTH_MAX);
    *out = json_loadb(json.at, json.len, JSON_REJECT_DUPLICATES, &je);
    if (!*out) return err_set(e, ERR_FORMAT, "%s: the %s is not valid JSON: %s at byte %d", path, what, je.text, je.position);
    if (!json_is_object(*out)) return err_set(e, ERR_FORMAT, "%s: the %s is not a JSON object", path, what);
    return 0;
}

/* Names end up in sentences of one line. */
static bool name_ok(const char *name)
{
    size_t len = strlen(name);
    for (size_t i = 0; i < len; i++)
        if ((unsigned char)name[i] < 0x20 || name[i] == 0x7f) return false;
    return len >= 1 && len <= SAFETENSORS_NAME_MAX;
}

/* Strings to strings; one of them is ours to know. */
static int check_metadata(struct safetensors *s, const json_t *meta, const char *path, struct err *e)
{
    const char *key;
    json_t     *value;
    if (!json_is_object(meta)) return err_set(e, ERR_FORMAT, "%s: __metadata__ is not an object", path);
    json_object_foreach ((json_t *)meta, key, value)
        if (!json_is_string(value)) return err_set(e, ERR_FORMAT, "%s: a value in __metadata__ is not a string", path);
    const char *profile = json_string_value(json_object_get(meta, "zfarm.profile"));
    snprintf(s->profile, sizeof s->profile, "%s", profile ? profile : "");
    return 0;
}

/* Shape, dtype and offsets of one tensor; t->name is set by the caller. */
static int read_entry(struct safetensors_entry *t, const json_t *j, uint64_t data_bytes, const char *path, struct err *e)
{
    const json_t *dtype = json_object_get(j, "dtype"), *shape = json_object_get(j, "shape");
    const json_t *offsets = json_object_get(j, "data_offsets");
    size_t        k = 0;
    uint64_t      bytes;

    if (!json_is_string(dtype) || !json_is_array(shape) || !json_is_array(offsets) || json_array_size(offsets) != 2)
        return err_set(e, ERR_FORMAT, "%s: tensor %s lacks dtype, shape or two data_offsets", path, t->name);
    while (k < N_TYPES && strcmp(TYPES[k].word, json_string_value(dtype)) != 0) k++;
    if (k == N_TYPES)
        return err_set(e, ERR_FORMAT, "%s: tensor %s has an unknown dtype: this version reads F32, BF16, F16 and F8", path, t->name);
    t->type_word = TYPES[k].word;
    t->usable = TYPES[k].usable;
    t->type = TYPES[k].type;
    if (json_array_size(shape) > SAFETENSORS_RANK_MAX)
        return err_set(e, ERR_LIMIT, "%s: tensor %s has %zu dimensions, at most %d are supported", path, t->name, json_array_size(shape),
                       SAFETENSORS_RANK_MAX);
    t->rank = (int)json_array_size(shape);
    bytes = TYPES[k].bytes;
    for (int i = 0; i < t->rank; i++) {
        const json_t *d = json_array_get(shape, (size_t)i);
        if (!json_is_integer(d) || json_integer_value(d) < 0)
            return err_set(e, ERR_FORMAT, "%s: tensor %s: dimension %d is not a whole number >= 0", path, t->name, i);
        t->dim[i] = json_integer_value(d);
        if (__builtin_mul_overflow(bytes, (uint64_t)t->dim[i], &bytes) || bytes > INT64_MAX)
            return err_set(e, ERR_FORMAT, "%s: tensor %s: the shape is larger than any file", path, t->name);
    }
    const json_t *b = json_array_get(offsets, 0), *n = json_array_get(offsets, 1);
    if (!json_is_integer(b) || !json_is_integer(n) || json_integer_value(b) < 0 || json_integer_value(n) < json_integer_value(b))
        return err_set(e, ERR_FORMAT, "%s: tensor %s: data_offsets are not two rising numbers", path, t->name);
    t->begin = (uint64_t)json_integer_value(b);
    t->bytes = (uint64_t)json_integer_value(n) - t->begin;
    if (t->begin > data_bytes || t->bytes > data_bytes - t->begin)
        return err_set(e, ERR_FORMAT, "%s: tensor %s ends at byte %" PRIu64 " of the data, the file has %" PRIu64 ": truncated?", path,
                       t->name, t->begin + t->bytes, data_bytes);
    if (t->bytes != bytes)
        return err_set(e, ERR_FORMAT, "%s: tensor %s: dtype and shape need %" PRIu64 " bytes, data_offsets give %" PRIu64, path, t->name,
                       bytes, t->bytes);
    return 0;
}

static int by_begin(const void *pa, const void *pb)
{
    const struct safetensors_entry *a = pa, *b = pb;
    if (a->begin != b->begin) return a->begin < b->begin ? -1 : 1;
    if (a->bytes != b->bytes) return a->bytes < b->bytes ? -1 : 1; /* empty tensors first, so that they may share a place */
    return strcmp(a->name, b->name);
}

static int check_cover(const struct safetensors *s, struct err *e)
{
    uint64_t at = 0;
    for (size_t i = 0; i < s->n; i++) {
        const struct safetensors_entry *t = &s->entry[i];
        if (t->begin < at)
            return err_set(e, ERR_FORMAT, "%s: tensor %s begins at %" PRIu64 ", inside %s: tensors overlap", s->path, t->name, t->begin,
                           s->entry[i - 1].name);
        if (t->begin > at)
            return err_set(e, ERR_FORMAT, "%s: bytes %" PRIu64 "..%" PRIu64 " of the data belong to no tensor", s->path, at, t->begin);
        at = t->begin + t->bytes; /* both were checked against data_bytes */
    }
    if (at != s->data_bytes)
        return err_set(e, ERR_FORMAT, "%s: %" PRIu64 " bytes after the last tensor belong to none", s->path, s->data_bytes - at);
    return 0;
}

/* Names are copied into one block; entries point into it. */
static int read_entries(struct safetensors *s, json_t *root, struct err *e)
{
    const char *key;
    json_t     *value;
    size_t      n = json_object_size(root), bytes = 1, at = 0;
    int         rc = 0;

    if (n > SAFETENSORS_TENSORS_MAX)
        return err_set(e, ERR_LIMIT, "%s: %zu tensors, at most %d are supported", s->path, n, SAFETENSORS_TENSORS_MAX);
    json_object_foreach (root, key, value) bytes += strlen(key) + 1;
    s->entry = calloc(n + 1, sizeof *s->entry);
    s->names = malloc(bytes);
    if (!s->entry || !s->names) return err_set(e, ERR_NOMEM, "%s: no memory for the names of %zu tensors", s->path, n);
    json_object_foreach (root, key, value) {
        size_t len = strlen(key);
        if (strcmp(key, "__metadata__") == 0) {
            if ((rc = check_metadata(s, value, s->path, e))) return rc;
            continue;
        }
        if (!name_ok(key))
            return err_set(e, ERR_FORMAT, "%s: a tensor name of %zu bytes is not 1 to %d bytes without control characters", s->path, len,
                           SAFETENSORS_NAME_MAX);
        struct safetensors_entry *t = &s->entry[s->n];
        memcpy(s->names + at, key, len + 1);
        t->name = s->names + at;
        at += len + 1;
        if ((rc = read_entry(t, value, s->data_bytes, s->path, e))) return rc;
        s->n++;
    }
    qsort(s->entry, s->n, sizeof *s->entry, by_begin);
    return check_cover(s, e);
}

int safetensors_parse(struct safetensors *out, struct str bytes, const char *path, struct err *e)
{
    struct safetensors s = {.n = 0};
    json_t            *root = NULL;
    uint64_t           header = 0;
    int                rc;

    snprintf(s.path, sizeof s.path, "%s", path);
    s.map.fd = -1;
    if (bytes.len < 8) {
        rc = err_set(e, ERR_FORMAT, "%s: %zu bytes are too few for a safetensors file", path, bytes.len);
        goto done;
    }
    for (int i = 7; i >= 0; i--) header = header << 8 | (uint8_t)bytes.at[i];
    if (header > SAFETENSORS_HEADER_MAX) {
        rc = err_set(e, ERR_LIMIT, "%s: the header says it has %" PRIu64 " bytes, the limit is %u: not a safetensors file?", path, header,
                     SAFETENSORS_HEADER_MAX);
        goto done;
    }
    if (header > bytes.len - 8) {
        rc = err_set(e, ERR_FORMAT, "%s: the header says it has %" PRIu64 " bytes, the file has %zu: truncated?", path, header,
                     bytes.len - 8);
        goto done;
    }
    s.header = str_sub(bytes, 8, (size_t)header);
    s.data = (const uint8_t *)bytes.at + 8 + header;
    s.data_bytes = bytes.len - 8 - header;
    if (header == 0 || s.header.at[0] != '{') {
        rc = err_set(e, ERR_FORMAT, "%s: the header does not begin with '{': not a safetensors file", path);
        goto done;
    }
    if ((rc = load_json(s.header, path, "header", &root, e))) goto done;
    if ((rc = read_entries(&s, root, e))) goto done;
    *out = s;
    s.entry = NULL;
    s.names = NULL;
done:
    json_decref(root);
    free(s.entry);
    free(s.names);
    return rc;
}

int safetensors_open(struct safetensors *s, const char *path, struct err *e)
{
    struct file_map m;
    int             rc = file_map_open(&m, path, e);
    if (rc) return rc;
    rc = safetensors_parse(s, (struct str){(const char *)m.at, m.len}, path, e);
    if (rc)
        file_map_close(&m);
    else
        s->map = m;
    return rc;
}

void safetensors_close(struct safetensors *s)
{
    if (s->map.fd >= 0) file_map_close(&s->map);
    free(s->entry);
    free(s->names);
    *s = (struct safetensors){.map = {.fd = -1}};
}

/* ---- shard index ---- */

static int by_text(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static int read_index(struct safetensors_index *x, json_t *map, const char *path, struct err *e)
{
    const char *key;
    json_t     *value;
    size_t      n = json_object_size(map);

    if (n < 1 || n > SAFETENSORS_TENSORS_MAX)
        return err_set(e, ERR_LIMIT, "%s: weight_map has %zu tensors, 1 to %d are supported", path, n, SAFETENSORS_TENSORS_MAX);
    x->file = calloc(n, sizeof *x->file);
    x->tensor = calloc(n, sizeof *x->tensor);
    x->file_of = calloc(n, sizeof *x->file_of);
    if (!x->file || !x->tensor || !x->file_of) return err_set(e, ERR_NOMEM, "%s: no memory for %zu tensor names", path, n);
    json_object_foreach (map, key, value) {
        if (!name_ok(key))
            return err_set(e, ERR_FORMAT, "%s: a tensor name is not 1 to %d bytes without control characters", path, SAFETENSORS_NAME_MAX);
        if (!json_is_string(value) || !file_name_ok(str_of(json_string_value(value))))
            return err_set(e, ERR_FORMAT, "%s: the file of tensor %.100s is not a plain file name", path, key);
        if (!(x->tensor[x->n++] = strdup(key)) || !(x->file[x->n_files++] = strdup(json_string_value(value))))
            return err_set(e, ERR_NOMEM, "%s: no memory for %zu tensor names", path, n);
    }
    qsort(x->file, x->n_files, sizeof *x->file, by_text); /* one per tensor: now make each unique */
    size_t kept = 0;
    for (size_t i = 0; i < x->n_files; i++) {
        if (kept && strcmp(x->file[kept - 1], x->file[i]) == 0)
            free(x->file[i]);
        else
            x->file[kept++] = x->file[i];
    }
    x->n_files = kept;
    if (kept > SAFETENSORS_SHARDS_MAX)
        return err_set(e, ERR_LIMIT, "%s: %zu shards, at most %d are supported", path, kept, SAFETENSORS_SHARDS_MAX);
    for (size_t i = 0; i < x->n; i++) {
        const char *name = json_string_value(json_object_get(map, x->tensor[i]));
        char      **hit = bsearch(&name, x->file, x->n_files, sizeof *x->file, by_text);
        assert(hit);
        x->file_of[i] = (size_t)(hit - x->file);
    }
    return 0;
}

int safetensors_index_parse(struct safetensors_index *out, struct str json, const char *path, struct err *e)
{
    struct safetensors_index x = {.n = 0};
    json_t                  *root = NULL, *map;
    int                      rc;

    if (json.len > SAFETENSORS_INDEX_MAX)
        return err_set(e, ERR_LIMIT, "%s: %zu bytes, the limit is %u", path, json.len, SAFETENSORS_INDEX_MAX);
    if ((rc = load_json(json, path, "index", &root, e))) goto done;
    map = json_object_get(root, "weight_map");
    if (!json_is_object(map)) {
        rc = err_set(e, ERR_FORMAT, "%s: there is no \"weight_map\" object", path);
        goto done;
    }
    if ((rc = read_index(&x, map, path, e))) goto done;
    *out = x;
    x = (struct safetensors_index){.n = 0};
done:
    safetensors_index_release(&x);
    json_decref(root);
    return rc;
}

void safetensors_index_release(struct safetensors_index *x)
{
    for (size_t i = 0; i < x->n_files; i++) free(x->file[i]);
    for (size_t i = 0; i < x->n; i++) free(x->tensor[i]);
    free(x->file);
    free(x->tensor);
    free(x->file_of);
    *x = (struct safetensors_index){.n = 0};
}

/* ---- writer ---- */

int safetensors_write(struct buf *out, const char *name, int rank, const int64_t *dim, const float *values, struct err *e)
{
    struct buf header;
    uint64_t   bytes = sizeof *values;
    uint8_t    len[8];
    int        rc = 0;

    assert(rank >= 0 && rank <= SAFETENSORS_RANK_MAX && name_ok(name) && !strpbrk(name, "\"\\"));
    buf_init(&header, 4096);
    buf_printf(&header, "{\"__metadata__\":{\"format\":\"pt\"},\"%s\":{\"dtype\":\"F32\",\"shape\":[", name);
    for (int i = 0; i < rank; i++) {
        assert(dim[i] >= 0);
        if (__builtin_mul_overflow(bytes, (uint64_t)dim[i], &bytes)) {
            rc = err_set(e, ERR_LIMIT, "tensor %s: the shape is larger than any file", name);
            goto done;
        }
        buf_printf(&header, "%s%" PRId64, i ? "," : "", dim[i]);
    }
    buf_printf(&header, "],\"data_offsets\":[0,%" PRIu64 "]}}", bytes);
    while (header.len % 8) buf_putc(&header, ' ');
    for (int i = 0; i < 8; i++) len[i] = (uint8_t)((uint64_t)header.len >> 8 * i);
    if (bytes > out->max || buf_put(out, len, 8) || buf_put(out, header.at, header.len) || buf_put(out, values, (size_t)bytes))
        rc = err_set(e, ERR_LIMIT, "tensor %s: %" PRIu64 " bytes do not fit into %zu", name, bytes, out->max);
done:
    buf_release(&header);
    return rc;
}
