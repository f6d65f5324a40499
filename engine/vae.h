/* vae.h - latent -> pixels: the decoder half of AutoencoderKL, channels last.
 *
 *   struct vae *v = NULL;
 *   vae_open(&v, &conf.vae, w, d, &e);
 *   struct tensor rgb = dev_new3(d, DTYPE_U8, H, W, 3);
 *   vae_decode(v, &latent, &rgb);  dev_sync(d, &e);
 *
 * Work space (what a measuring pass of vae_decode() finds): two buffers for activations, each as large as its largest tenant (384 values a
 * pixel in the published decoder), and strips of bounded size for everything else. Strips are exact: group norms see the whole picture.
 * Tensors of the encoder half in the file are not read.
 * Not here: PNG (base/png.h). */
#ifndef ENGINE_VAE_H
#define ENGINE_VAE_H

#include <stdbool.h>

#include "engine/config.h"
#include "engine/weights.h"
#include "kernels/dev.h"

struct vae;

int  vae_open(struct vae **out, const struct vae_conf *conf, struct weights *w, struct dev *d, struct err *e);
void vae_free(struct vae *v);                /* NULL is fine */
int  vae_scale(const struct vae_conf *conf); /* pixels per latent cell: 2^(levels - 1) */
/* Work space of a strip at most (but eight rows), instead of the 256 MiB that are usual. Pictures of another strip may differ in last bits
 * (test_vae.c says how much), so it is a setting, never a reaction to what is free. */
void vae_strips(struct vae *v, size_t bytes);
/* z F32 [channels, h, w], before scaling -> rgb U8 [h*scale, w*scale, 3]. Errors stick in the device.
 * False: a value is not finite, and rgb is no picture. */
bool vae_decode(struct vae *v, const struct tensor *z, struct tensor *rgb);

#endif
