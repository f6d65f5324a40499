/* place.h - which part of a model runs on which device, when one engine child drives several: its group.
 *
 *   place_parse(&p, "text=cuda:0 image=cuda:1,cuda:2 vae=cuda:0", &e);     what --place says, and what the engine child is told
 *   place_line(&p, line);                                                 the canonical line of it; "" for none
 *
 * A rank is a device with its parts: rank 0 has the text encoder, ranks 1 .. n_image a transformer each; the autoencoder is with the text
 * encoder when both name one device, else a rank of its own, the last; when none is named for it, every image rank decodes what it made.
 * A GPU is one rank (NCCL takes it once); "cpu" may be any number of them: each has memory of its own and shares the machine's cores.
 * Pure. Not here: what fits where (layout.h), who computes (group.h). */
#ifndef WORKER_PLACE_H
#define WORKER_PLACE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define PLACE_IMAGE_MAX    8
#define PLACE_DEVICE_BYTES 16
#define PLACE_RANKS_MAX    (PLACE_IMAGE_MAX + 2)
#define PLACE_LINE_BYTES   192 /* of the longest line, its end included */

struct place {
    char text[PLACE_DEVICE_BYTES], vae[PLACE_DEVICE_BYTES]; /* vae "": each image rank decodes its own */
    char image[PLACE_IMAGE_MAX][PLACE_DEVICE_BYTES];
    int  n_image; /* 0: no placement, everything on one device */
};

/* Words PART=DEVICE[,DEVICE...] between single spaces, in any order; "": no placement. ERR_ARG: a sentence that names the word. */
int         place_parse(struct place *p, const char *text, struct err *e);
/* The canonical line, into line[PLACE_LINE_BYTES]; returns it. */
const char *place_line(const struct place *p, char *line);
/* Ranks: 1 without a placement. */
int         place_ranks(const struct place *p);
/* RANK_* of proto/msg.h, or-ed, and the device ("" without a placement). rank 0 .. place_ranks() - 1. */
uint32_t    place_parts(const struct place *p, int rank);
const char *place_device(const struct place *p, int rank);
/* Which rank decodes what this image rank made. */
int         place_decoder(const struct place *p, int rank);
/* Tasks on devices at once: one per image rank, one being encoded, one being decoded when that is another rank's work. 1 without a placement. */
int         place_tasks(const struct place *p);
/* "cpu" or "cuda:N". */
bool        place_is_device(const char *word, size_t len);

#endif
