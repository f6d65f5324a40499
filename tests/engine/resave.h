/* resave.h - a component of a checkpoint saved again: other names, other types, other formats. For tests.
 *
 *   struct resave r; resave_load(&r, dir, prefix);     owned copies of every tensor, under our names
 *   resave_fuse(&r); resave_rename(&r, "from", "to"); resave_type(&r, i, DTYPE_Q8_0);
 *   resave_safetensors(&r, path) / resave_gguf(&r, &head, path);  resave_free(&r); */
#ifndef TESTS_ENGINE_RESAVE_H
#define TESTS_ENGINE_RESAVE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/file.h"
#include "engine/gguf.h"
#include "engine/safetensors.h"
#include "engine/weights.h"
#include "kernels/cpu/half.h"
#include "kernels/quant.h"

struct resaved {
    char       name[256];
    enum dtype type;
    int        rank;
    int64_t    dim[4];
    uint8_t   *at;
    size_t     bytes;
};

struct resave {
    struct resaved t[1024];
    size_t         n;
};

static inline int64_t resaved_count(const struct resaved *t)
{
    int64_t n = 1;
    for (int i = 0; i < t->rank; i++)
        n *= t->dim[i];
    return n;
}

static inline void resave_load(struct resave *r, const char *dir)
{
    struct weights *w = NULL;
    struct err      e = { 0 };
    r->n = 0;
    if (weights_open(&w, dir, NULL, &e))
        fail_msg("%s", e.text);
    for (size_t i = 0; i < weights_count(w); i++) {
        const struct safetensors_entry *s = weights_entry(w, i, NULL);
        struct resaved                 *t = &r->t[r->n++];
        struct tensor                   x;
        assert_true(r->n <= 1024 && s->rank >= 1 && s->rank <= 4);
        snprintf(t->name, sizeof t->name, "%s", s->name);
        t->rank = s->rank;
        memcpy(t->dim, s->dim, sizeof t->dim);
        if (weights_get(w, s->name, s->rank, s->dim, &x, &e))
            fail_msg("%s", e.text);
        t->type = x.type;
        t->bytes = (size_t)s->bytes;
        t->at = malloc(t->bytes);
        assert_non_null(t->at);
        memcpy(t->at, x.data, t->bytes);
    }
    weights_free(w);
}

static inline void resave_free(struct resave *r)
{
    for (size_t i = 0; i < r->n; i++)
        free(r->t[i].at);
    r->n = 0;
}

static inline struct resaved *resave_find(struct resave *r, const char *name)
{
    for (size_t i = 0; i < r->n; i++)
        if (strcmp(r->t[i].name, name) == 0)
            return &r->t[i];
    return NULL;
}

/* Every name's first `from` becomes `to`. */
static inline void resave_rename(struct resave *r, const char *from, const char *to)
{
    for (size_t i = 0; i < r->n; i++) {
        char *at = strstr(r->t[i].name, from), name[256];
        if (!at)
            continue;
        snprintf(name, sizeof name, "%.*s%s%s", (int)(at - r->t[i].name), r->t[i].name, to, at + strlen(from));
        memcpy(r->t[i].name, name, sizeof name);
    }
}

static inline void resave_prefix(struct resave *r, const char *prefix)
{
    for (size_t i = 0; i < r->n; i++) {
        char name[256];
        snprintf(name, sizeof name, "%s%.200s", prefix, r->t[i].name);
        memcpy(r->t[i].name, name, sizeof name);
    }
}

/* to_q, to_k, to_v of each attention become one qkv. */
static inline void resave_fuse(struct resave *r)
{
    for (size_t i = 0; i < r->n; i++) {
        struct resaved *q = &r->t[i], *part[2];
        char           *at = strstr(q->name, ".attention.to_q.weight"), name[256];
        if (!at)
            continue;
        for (int k = 0; k < 2; k++) {
            snprintf(name, sizeof name, "%.*s.attention.to_%c.weight", (int)(at - q->name), q->name, "kv"[k]);
            part[k] = resave_find(r, name);
            assert_non_null(part[k]);
        }
        q->at = realloc(q->at, 3 * q->bytes);
        assert_non_null(q->at);
        for (int k = 0; k < 2; k++) {
            memcpy(q->at + (size_t)(k + 1) * q->bytes, part[k]->at, q->bytes);
            free(part[k]->at);
            part[k]->at = NULL;
        }
        q->bytes *= 3;
        q->dim[0] *= 3;
        memcpy(at, ".attention.qkv.weight", sizeof ".attention.qkv.weight");
    }
    size_t kept = 0;
    for (size_t i = 0; i < r->n; i++)
        if (r->t[i].at)
            r->t[kept++] = r->t[i];
    r->n = kept;
}

/* F32 values of tensor t as another type; and back to F32, when the type is F32. */
static inline void resave_type(struct resaved *t, enum dtype type)
{
    int64_t  n = resaved_count(t);
    float   *x = malloc((size_t)n * sizeof *x);
    size_t   bytes = dtype_row_bytes(type, n);
    uint8_t *at = malloc(bytes + 1);
    assert_non_null(x);
    assert_non_null(at);
    to_f32(x, t->at, t->type, n);
    if (quant_is(type))
        quant_from_f32(at, type, x, n);
    else
        from_f32(at, type, x, n);
    free(x);
    free(t->at);
    t->at = at;
    t->bytes = bytes;
    t->type = type;
}

/* One more tensor of one F32 value. */
static inline void resave_add(struct resave *r, const char *name, float value)
{
    struct resaved *t = &r->t[r->n++];
    assert_true(r->n <= 1024);
    *t = (struct resaved){ .type = DTYPE_F32, .rank = 1, .dim = { 1 }, .bytes = sizeof value, .at = malloc(sizeof value) };
    assert_non_null(t->at);
    snprintf(t->name, sizeof t->name, "%s", name);
    memcpy(t->at, &value, sizeof value);
}

static inline void resave_safetensors(const struct resave *r, const char *metadata, const char *path)
{
    static const char *const word[DTYPE_COUNT] = { [DTYPE_F32] = "F32", [DTYPE_BF16] = "BF16", [DTYPE_F16] = "F16", [DTYPE_F8_E4M3] = "F8_E4M3",
                                                   [DTYPE_F8_E5M2] = "F8_E5M2" };
    struct buf b;
    struct err e = { 0 };
    size_t     at = 0;
    buf_init(&b, 1u << 28);
    buf_printf(&b, "12345678{\"__metadata__\":{%s}", metadata);
    for (size_t i = 0; i < r->n; i++) {
        const struct resaved *t = &r->t[i];
        assert_non_null(word[t->type]);
        buf_printf(&b, ",\"%s\":{\"dtype\":\"%s\",\"shape\":[", t->name, word[t->type]);
        for (int k = 0; k < t->rank; k++)
            buf_printf(&b, "%s%lld", k ? "," : "", (long long)t->dim[k]);
        buf_printf(&b, "],\"data_offsets\":[%zu,%zu]}", at, at + t->bytes);
        at += t->bytes;
    }
    buf_putc(&b, '}');
    while (b.len % 8)
        buf_putc(&b, ' ');
    for (int i = 0; i < 8; i++)
        b.at[i] = (char)((b.len - 8) >> 8 * i);
    for (size_t i = 0; i < r->n; i++)
        buf_put(&b, r->t[i].at, r->t[i].bytes);
    if (file_write(path, b.at, b.len, FILE_REPLACE, &e))
        fail_msg("%s", e.text);
    buf_release(&b);
}

/* head: with what metadata there shall be; released here. */
static inline void resave_gguf(const struct resave *r, struct gguf_head *head, const char *path)
{
    static const char zeros[GGUF_ALIGN];
    struct buf        b;
    struct err        e = { 0 };
    uint64_t          begin;
    buf_init(&b, 1u << 28);
    for (size_t i = 0; i < r->n; i++)
        if (gguf_put_tensor(head, r->t[i].name, r->t[i].type, r->t[i].rank, r->t[i].dim, &begin, &e))
            fail_msg("%s", e.text);
    if (gguf_head_bytes(head, &b, &e))
        fail_msg("%s", e.text);
    for (size_t i = 0; i < r->n; i++) {
        buf_put(&b, r->t[i].at, r->t[i].bytes);
        buf_put(&b, zeros, (GGUF_ALIGN - r->t[i].bytes % GGUF_ALIGN) % GGUF_ALIGN);
    }
    if (file_write(path, b.at, b.len, FILE_REPLACE, &e))
        fail_msg("%s", e.text);
    buf_release(&b);
    gguf_head_release(head);
}

#endif
