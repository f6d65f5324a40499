/* arena.c - bump memory. Believes: one ceiling per lifetime, refused politely. Not here: freeing single objects. */
#include "base/arena.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"

int arena_init(struct arena *a, const char *name, size_t cap)
{
    memset(a, 0, sizeof *a);
    a->name = name;
    a->base = malloc(cap);
    if (!a->base) return ERR_NOMEM;
    a->cap = cap;
    return 0;
}

void arena_release(struct arena *a)
{
    free(a->base);
    memset(a, 0, sizeof *a);
}

void *arena_raw(struct arena *a, size_t bytes)
{
    void *p;

    if (bytes > a->cap || ((bytes + 15) & ~(size_t)15) > a->cap - a->used) {
        a->full = true;
        return NULL;
    }
    p = a->base + a->used;
    a->used += (bytes + 15) & ~(size_t)15;
    if (a->used > a->high) a->high = a->used;
    return p;
}

void *arena_take(struct arena *a, size_t bytes)
{
    void *p = arena_raw(a, bytes);

    return p ? memset(p, 0, bytes) : NULL;
}

void *arena_array(struct arena *a, size_t n, size_t bytes)
{
    size_t total;

    if (__builtin_mul_overflow(n, bytes, &total)) {
        a->full = true;
        return NULL;
    }
    return arena_take(a, total);
}

char *arena_text(struct arena *a, const char *at, size_t len)
{
    char *p = len == (size_t)-1 ? NULL : arena_raw(a, len + 1);

    if (!p) return NULL;
    if (len) memcpy(p, at, len);
    p[len] = 0;
    return p;
}

size_t arena_mark(const struct arena *a)
{
    return a->used;
}

void arena_reset(struct arena *a, size_t mark)
{
    assert(mark <= a->used);
    a->used = mark;
    if (mark == 0) a->full = false;
}
