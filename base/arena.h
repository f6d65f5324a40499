/* arena.h - bump memory with a named ceiling: mark, take, reset.
 *
 *   struct arena a; arena_init(&a, "message", 1 << 20);
 *   size_t mark = arena_mark(&a);  char *p = arena_take(&a, n);  ...  arena_reset(&a, mark);  arena_release(&a);
 *
 * Every arena names its ceiling; past it arena_take() returns NULL and a->full is set, so input can be answered with a sentence.
 * Memory is zeroed and aligned to 16 bytes. Pages are touched only when taken. One thread at a time. */
#ifndef BASE_ARENA_H
#define BASE_ARENA_H

#include <stdbool.h>
#include <stddef.h>

struct arena {
    const char *name;
    char       *base;
    size_t      used, cap, high;
    bool        full; /* a take was refused since the last reset to 0 */
};

/* Reserves cap bytes of address space (malloc). Returns 0 or ERR_NOMEM. */
int    arena_init(struct arena *a, const char *name, size_t cap);
void   arena_release(struct arena *a);
void  *arena_take(struct arena *a, size_t bytes);            /* zeroed; NULL past the ceiling */
void  *arena_raw(struct arena *a, size_t bytes);             /* the same, not zeroed */
void  *arena_array(struct arena *a, size_t n, size_t bytes); /* NULL past the ceiling or when n*bytes overflows */
char  *arena_text(struct arena *a, const char *at, size_t len); /* copy with a final NUL */
size_t arena_mark(const struct arena *a);
void   arena_reset(struct arena *a, size_t mark);

#endif
