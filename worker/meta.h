/* meta.h - what a picture says about itself: two text chunks, made from the spec alone.
 *
 *   "parameters"  the style that image viewers and other web UIs read: prompt, "Negative prompt: ...", "Steps: 8, Sampler: Euler, ..."
 *   "zfarm"       the same as JSON, exact enough to make the picture again
 *
 * Nothing of the worker, its device or the time: equal specs give equal bytes on any worker. */
#ifndef WORKER_META_H
#define WORKER_META_H

#include "base/err.h"
#include "base/str.h"
#include "proto/msg.h"

#define META_MAX_BYTES (256u * 1024) /* of one text */

struct meta { /* a spec with its model's defaults filled in */
    struct spec    spec;       /* steps >= 1; guidance, cfg_norm, cfg_trunc >= 0 */
    struct str     model;      /* the spec's model, or the profile's name */
    const uint8_t *digest;     /* 32 bytes */
};

/* "CFG scale" is the usual one: guidance + 1. ERR_LIMIT when a text grows past META_MAX_BYTES. */
int meta_parameters(const struct meta *m, struct buf *out, struct err *e);
int meta_json(const struct meta *m, struct buf *out, struct err *e);

#endif
