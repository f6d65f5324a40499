/* heap.h - a binary heap that tells its items where they sit (beanstalkd's idea).
 *
 *   struct task { size_t heap_at; ... };
 *   static bool before(const void *a, const void *b) { ... }               strict order: false for equals
 *   static void seat(void *item, size_t at) { ((struct task *)item)->heap_at = at; }
 *   struct heap h; heap_init(&h, before, seat, QUEUED_MAX);
 *   heap_push(&h, t);  t = heap_first(&h);  heap_remove(&h, t->heap_at);  heap_moved(&h, t->heap_at);  heap_release(&h);
 *
 * Invariants: H1 no item is before its parent, so item[0] is a first one.  H2 seat(item, i) was the last word to item[i].
 * H3 an item that left was told HEAP_NONE. Items are borrowed. Push, remove, moved: O(log n).
 * Equal items come in no set order: let before() end with an id. One thread at a time. */
#ifndef BASE_HEAP_H
#define BASE_HEAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define HEAP_NONE SIZE_MAX

typedef bool heap_before(const void *a, const void *b);
typedef void heap_seat(void *item, size_t at);

struct heap {
    void       **item;
    size_t       n, cap, max;
    heap_before *before;
    heap_seat   *seat; /* may be NULL: then nobody can remove by place */
};

void  heap_init(struct heap *h, heap_before *before, heap_seat *seat, size_t n_max); /* no allocation yet */
void  heap_release(struct heap *h);             /* items are told HEAP_NONE, not freed */
int   heap_push(struct heap *h, void *item);    /* 0, ERR_LIMIT past n_max, ERR_NOMEM; refused: nothing changed */
void *heap_first(const struct heap *h);         /* NULL when empty */
void *heap_pop(struct heap *h);                 /* NULL when empty */
void *heap_remove(struct heap *h, size_t at);   /* at < n (asserted) */
void  heap_moved(struct heap *h, size_t at);    /* item[at] changed its order: finds its new place */

#endif
