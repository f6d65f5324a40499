/* picture.h - one task in the engine's process: a spec becomes pixels on the device, then the bytes of its result.
 *
 *   picture_open(&p, task, epoch, packed_item, &e);
 *   picture_encode(p, text, &e);                the prompts: on the thread of an engine with the text encoder
 *   picture_send(p, text, &e);                  only when another engine goes on: picture_recv(p, image, &e) there
 *   picture_paint(p, image, &hooks, &e);        the passes
 *   picture_decode(p, vae, &e);                 RGB; then picture_drop(p)
 *   picture_write(p, digest, &e);               PNG, latents, their hashes, sealed: any thread, needs no engine
 *   ... p->h and p->fd are the RESULT ...   picture_free(p);
 *
 * Not here: who runs what (station.c, group.c, writer.c), what is said over the link (engine_child.c). */
#ifndef WORKER_PICTURE_H
#define WORKER_PICTURE_H

#include <stdatomic.h>

#include "base/arena.h"
#include "base/png.h"
#include "engine/engine.h"
#include "proto/msg.h"
#include "worker/link.h"

struct picture {
    uint64_t         task, epoch;
    uint64_t         ticket; /* the group's own number for it */
    enum stage       stage;  /* the last that was said of it, and by which rank */
    int              rank;
    struct arena     arena; /* of the spec */
    struct spec      spec;  /* with the model's defaults filled in */
    struct gen       gen;
    char             model[32]; /* the profile's name */
    uint8_t          digest[32];
    atomic_bool      canceled;
    struct embed    *pos, *neg; /* of the engine that made or received them: dropped by its thread */
    struct latent   *latent;
    struct image     image;
    struct buf       latents; /* the bytes of their file, when they were asked for */
    struct link_head h; /* what RESULT says: sizes, times, hashes */
    int              fd; /* the sealed bytes; -1 */
};

struct picture_hooks { /* on the thread of whoever calls */
    void *ctx;
    void (*on_stage)(void *ctx, const struct picture *p, enum stage stage, int step);
    bool (*on_step)(void *ctx, struct picture *p, int done); /* true: stop */
};

/* item as wire_item_pack() made it. On error the picture is there all the same, to be answered for and freed; NULL without memory. */
int  picture_open(struct picture **out, uint64_t task, uint64_t epoch, struct str item, struct err *e);
void picture_free(struct picture *p); /* NULL is fine */
int  picture_encode(struct picture *p, struct engine *g, struct err *e);
int  picture_send(struct picture *p, struct engine *g, struct err *e); /* the embeds stay behind: dropped */
int  picture_recv(struct picture *p, struct engine *g, struct err *e);
int  picture_paint(struct picture *p, struct engine *g, const struct picture_hooks *hooks, struct err *e); /* the file of latents, too, when it is wanted */
int  picture_decode(struct picture *p, struct engine *g, struct err *e);
void picture_drop(struct picture *p); /* embeds and latent, as far as they are there */
int  picture_write(struct picture *p, struct err *e);

#endif
