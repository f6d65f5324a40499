/* cache.h - prompts already encoded: ids -> embed, a few of them, least recently used leaves first.
 *
 *   struct cache c; cache_init(&c, 16);
 *   struct embed *p = cache_take(&c, key);             another reference, or NULL
 *   cache_put(&c, p);                                  the cache keeps a reference of its own
 *   cache_release(&c);
 *
 * An embed is immutable once it is put; it lives until its last reference is gone (embed_free of engine.h), evicted or not.
 * Its device memory belongs to the engine's device: every embed must be freed before the engine.
 * One thread, like the engine. Not here: how an embed is made (engine.c). */
#ifndef ENGINE_CACHE_H
#define ENGINE_CACHE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/hash.h"
#include "engine/engine.h"
#include "kernels/dev.h"

#define CACHE_EMBEDS_DEFAULT 16 /* of the real model at most 13 MiB each in fp32: 512 ids x (2560 + 3840) */
#define CACHE_EMBEDS_MAX     4096

struct embed {
    int           n_refs;
    struct dev   *d;
    uint8_t       key[SHA256_BYTES]; /* of the ids */
    int64_t       n_tok, n_feat;
    float        *raw;         /* host [n_tok, n_feat] */
    struct tensor caption;     /* [padded n_tok, dim] of act_type: refined caption, when has_caption */
    bool          has_caption; /* the engine that made it has the image part */
};

struct cache_row;

struct cache {
    struct cache_row *rows; /* hash table in order of use, oldest first */
    int               n_max;
};

void          cache_init(struct cache *c, int n_max); /* n_max 0: CACHE_EMBEDS_DEFAULT */
void          cache_release(struct cache *c);
struct embed *cache_take(struct cache *c, const uint8_t key[SHA256_BYTES]);
/* Without memory the embed is simply not kept. */
void cache_put(struct cache *c, struct embed *p);

#endif
