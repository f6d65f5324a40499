/* infer.h - the numbers of a network from the shapes of its tensors, for files that come without a config.
 *
 *   infer_dit(&conf, weights, &e);        every number that shapes show is read from them; the others are those of the published models
 *
 * What shapes cannot show: rotary bases and norm eps (a GGUF file's metadata says them, else Qwen3-4B's and Z-Image's), the split of a
 * head over the three axes (1/4, 3/8, 3/8), a VAE's groups (32) and its scaling and shift (Flux's, for 16 latent channels only).
 * After 0 the same bounds hold as after reading a config (config.h). ERR_FORMAT or ERR_NOTFOUND, naming the tensor.
 * Not here: whether all tensors are there (weights.h, when they are taken). */
#ifndef ENGINE_INFER_H
#define ENGINE_INFER_H

#include "engine/config.h"
#include "engine/weights.h"

int infer_text(struct text_conf *out, const struct weights *w, struct err *e);
int infer_dit(struct dit_conf *out, const struct weights *w, struct err *e);
int infer_vae(struct vae_conf *out, const struct weights *w, struct err *e);

#endif
