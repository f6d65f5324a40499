/* latent.h - F32 values on the host between the passes and the VAE. The public half is in engine.h; this is for the engine's own files. */
#ifndef ENGINE_LATENT_H
#define ENGINE_LATENT_H

#include <stddef.h>

#include "engine/engine.h"

struct latent {
    int    dim[3]; /* channels, H/8, W/8: all > 0 and of a size that engine.c has checked */
    float *values; /* C order, owned */
};

int    latent_alloc(const int dim[3], struct latent **out, struct err *e); /* values are not set */
size_t latent_count(const struct latent *z);

#endif
