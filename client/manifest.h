/* manifest.h - what a batch has promised, in its folder: DIR/.zfarm-batch, durable before the first SUBMIT.
 *
 *   manifest_begin(&m, dir, &head, &e);      a new batch; ERR_CONFLICT when the folder holds one already
 *   manifest_resume(&m, dir, &e);            after any kill -9: the same key, and which images were gathered; ERR_NOTFOUND: none there
 *   manifest_done(&m, index, &part, &e);     an image is in the folder
 *
 * Lines of text, append only: "zfarm-batch 1", key, spec, seed, images, source, broker, then "done INDEX SIZE SHA256" per image.
 * A last line without its end (a crash) is cut off. One process at a time (flock). done lines are hints for skipping: each file is
 * verified before it is believed. Not here: the images. */
#ifndef CLIENT_MANIFEST_H
#define CLIENT_MANIFEST_H

#include <stdint.h>

#include "base/err.h"
#include "proto/msg.h"

#define MANIFEST_NAME ".zfarm-batch"

struct manifest_done { /* size_bytes 0: not gathered */
    uint64_t size_bytes;
    uint8_t  sha256[32];
};

struct manifest {
    uint8_t               key[KEY_BYTES], spec[32]; /* spec: batch_hash() */
    uint64_t              seed;                     /* the batch's default seed */
    uint32_t              n_images;
    char                  source[64], broker[256]; /* broker: "" for an embedded farm */
    struct manifest_done *done;                    /* n_images */
    int                   fd;                      /* -1: not open */
};

/* key, spec, seed, n_images, source, broker are filled in by the caller. */
int  manifest_begin(struct manifest *m, const char *dir, struct err *e);
int  manifest_resume(struct manifest *m, const char *dir, struct err *e);
int  manifest_done(struct manifest *m, uint32_t index, const struct part *part, struct err *e);
void manifest_release(struct manifest *m);

#endif
