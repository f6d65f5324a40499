/* names.h - the names under which the same tensor is found in the wild, and the one this engine asks for.
 *
 *   struct names n;  names_of("model.diffusion_model.layers.0.attention.qkv.weight", 0, &n);
 *   n.n == 3, n.name[0] "layers.0.attention.to_q.weight": rows 0..1/3 of the stored tensor, n.name[1] the next third, ...
 *
 * Ours are those of diffusers (DiT, VAE) and of Hugging Face's Qwen3. Known beside them: original Z-Image names (with the prefixes
 * ComfyUI writes), BFL's autoencoder, the VAE attention of older diffusers, llama.cpp's Qwen3. A name of no known family stays as it is.
 * Not here: shapes, files (weights.h). */
#ifndef ENGINE_NAMES_H
#define ENGINE_NAMES_H

#include <stdbool.h>
#include <stddef.h>

#define NAMES_BYTES 384
#define NAMES_PARTS 3

struct names {
    int  n; /* 1, or 3: equal parts of the stored rows */
    char name[NAMES_PARTS][NAMES_BYTES];
};

/* stored: at most 255 bytes. n_levels: of a VAE with BFL's names (they count levels from the other end), see names_levels(). */
void names_of(const char *stored, int n_levels, struct names *out);
/* Levels that this name proves a BFL autoencoder to have: N + 1 for "decoder.up.N...", else 0. The most over all names is what names_of() wants. */
int names_levels(const char *stored);

/* The other way, for files we write: the original name of one of ours. *part: -1, or 0..2 when the original holds three of ours as its
 * rows. False when there is no other name: then it is copied. llama: names of a text encoder, else of a DiT. */
bool names_original(const char *ours, bool llama, char original[NAMES_BYTES], int *part);

#endif
