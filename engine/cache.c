/* cache.c - see cache.h. uthash keeps insertion order: a row that is used goes to the end, the first row is the oldest.
 * Invariants: C1 at most n_max rows.  C2 every row holds one reference. */
#include "engine/cache.h"

#include <assert.h>
#include <stdlib.h>

#define uthash_fatal(msg) abort()
#include <uthash.h>

struct cache_row {
    struct embed  *embed;
    UT_hash_handle hh;
};

void cache_init(struct cache *c, int n_max)
{
    assert(n_max >= 0 && n_max <= CACHE_EMBEDS_MAX);
    *c = (struct cache){.n_max = n_max ? n_max : CACHE_EMBEDS_DEFAULT};
}

static void drop(struct cache *c, struct cache_row *row)
{
    HASH_DEL(c->rows, row);
    embed_free(row->embed);
    free(row);
}

void cache_release(struct cache *c)
{
    while (c->rows) drop(c, c->rows);
}

struct embed *cache_take(struct cache *c, const uint8_t key[SHA256_BYTES])
{
    struct cache_row *row;
    HASH_FIND(hh, c->rows, key, SHA256_BYTES, row);
    if (!row) return NULL;
    HASH_DEL(c->rows, row); /* to the end */
    HASH_ADD_KEYPTR(hh, c->rows, row->embed->key, SHA256_BYTES, row);
    row->embed->n_refs++;
    return row->embed;
}

void cache_put(struct cache *c, struct embed *p)
{
    struct cache_row *row;
    HASH_FIND(hh, c->rows, p->key, SHA256_BYTES, row);
    if (row) return;
    while (HASH_COUNT(c->rows) >= (unsigned)c->n_max) drop(c, c->rows);
    if (!(row = calloc(1, sizeof *row))) return;
    row->embed = p;
    p->n_refs++;
    HASH_ADD_KEYPTR(hh, c->rows, p->key, SHA256_BYTES, row);
}

void embed_free(struct embed *p)
{
    if (!p || --p->n_refs > 0) return;
    assert(p->n_refs == 0);
    if (p->d) dev_free(p->d, &p->caption);
    free(p->raw);
    free(p);
}
