/* heap.c - sift up, sift down, and say where everybody sits.
 * Believes: before() is a strict weak order and does not change while a call runs. Invariants H1..H3 stand in heap.h. */
#include "base/heap.h"

#include <assert.h>
#include <stdlib.h>

#include "base/err.h"

#define FIRST_CAP 16

void heap_init(struct heap *h, heap_before *before, heap_seat *seat, size_t n_max)
{
    *h = (struct heap){.max = n_max, .before = before, .seat = seat};
}

static void put(struct heap *h, size_t at, void *item)
{
    h->item[at] = item;
    if (h->seat) h->seat(item, at);
}

static void leave(struct heap *h, void *item)
{
    if (h->seat) h->seat(item, HEAP_NONE);
}

void heap_release(struct heap *h)
{
    for (size_t i = 0; i < h->n; i++) leave(h, h->item[i]);
    free(h->item);
    h->item = NULL;
    h->n = h->cap = 0;
}

/* Seats item at `at` or above; returns where. */
static size_t up(struct heap *h, size_t at, void *item)
{
    while (at > 0 && h->before(item, h->item[(at - 1) / 2])) {
        put(h, at, h->item[(at - 1) / 2]);
        at = (at - 1) / 2;
    }
    put(h, at, item);
    return at;
}

/* Seats item at `at` or below. */
static void down(struct heap *h, size_t at, void *item)
{
    for (;;) {
        size_t child = 2 * at + 1;

        if (child >= h->n) break;
        if (child + 1 < h->n && h->before(h->item[child + 1], h->item[child])) child++;
        if (!h->before(h->item[child], item)) break;
        put(h, at, h->item[child]);
        at = child;
    }
    put(h, at, item);
}

int heap_push(struct heap *h, void *item)
{
    if (h->n >= h->max) return ERR_LIMIT;
    if (h->n == h->cap) {
        size_t cap = h->cap ? h->cap * 2 : FIRST_CAP, bytes;
        void **grown;

        if (__builtin_mul_overflow(cap, sizeof *h->item, &bytes)) return ERR_NOMEM;
        grown = realloc(h->item, bytes);
        if (!grown) return ERR_NOMEM;
        h->item = grown;
        h->cap = cap;
    }
    h->n++;
    up(h, h->n - 1, item);
    return 0;
}

void *heap_first(const struct heap *h)
{
    return h->n ? h->item[0] : NULL;
}

void *heap_pop(struct heap *h)
{
    return h->n ? heap_remove(h, 0) : NULL;
}

void *heap_remove(struct heap *h, size_t at)
{
    void *gone, *last;

    assert(at < h->n);
    gone = h->item[at];
    last = h->item[--h->n];
    if (at < h->n && up(h, at, last) == at) down(h, at, last);
    leave(h, gone);
    return gone;
}

void heap_moved(struct heap *h, size_t at)
{
    void *item;

    assert(at < h->n);
    item = h->item[at];
    if (up(h, at, item) == at) down(h, at, item);
}
