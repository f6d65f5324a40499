/* loader.c - the loader of weights.h: many tensors, one check at the end. */
#include <assert.h>
#include <stdarg.h>
#include <stdio.h>

#include "engine/safetensors.h"
#include "engine/weights.h"

__attribute__((format(printf, 5, 0))) static void load(struct loader *l, struct tensor *out, int rank, const int64_t *dim, const char *fmt,
                                                       va_list ap)
{
    char name[SAFETENSORS_NAME_MAX + 1];
    if (l->rc) return;
    int n = vsnprintf(name, sizeof name, fmt, ap);
    assert(n > 0 && (size_t)n < sizeof name);
    l->rc = weights_take(l->w, l->d, name, rank, dim, out, l->e);
}

void load1(struct loader *l, struct tensor *out, int64_t n, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    load(l, out, 1, (int64_t[]){n}, fmt, ap);
    va_end(ap);
}

void load2(struct loader *l, struct tensor *out, int64_t n, int64_t c, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    load(l, out, 2, (int64_t[]){n, c}, fmt, ap);
    va_end(ap);
}

void load_conv(struct loader *l, struct tensor *out, int64_t co, int64_t ci, int64_t k, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    load(l, out, 4, (int64_t[]){co, ci, k, k}, fmt, ap);
    va_end(ap);
}
