/* config.h - the numbers of a model, from its JSON files; nobody else knows a size.
 *
 *   struct model_conf c;
 *   config_open(&c, "models/z-image-turbo", &e);      model_index.json, the component configs, the scheduler; cross-checked
 *
 * After 0 is returned every number is inside its [min,max], heads divide, axes_dims sum to head_dim, groups divide channels, the text
 * encoder's width is what the DiT wants, the VAE's latent channels are the DiT's: no later division by zero, no absurd allocation.
 * Sentences name file, key, value and what is allowed. A class or an option that would change the arithmetic and is not implemented is
 * refused, never ignored. Unknown other keys are ignored.
 * Not here: weights (weights.h), the meaning of the scheduler's numbers (schedule.h), defaults of a profile (profile.h). */
#ifndef ENGINE_CONFIG_H
#define ENGINE_CONFIG_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/hash.h"
#include "base/str.h"
#include "engine/schedule.h"

#define CONFIG_BYTES_MAX (1u << 20) /* of one JSON file */
#define VAE_LEVELS_MAX   6
#define SAMPLE_MAX_PX    4096

struct text_conf { /* text_encoder/config.json: Qwen3 */
    int    n_layers, hidden, n_heads, n_kv_heads, head_dim, ffn, vocab;
    float  norm_eps;
    double rope_theta;
};

struct dit_conf {                                             /* transformer/config.json: ZImageTransformer2DModel */
    int    dim, n_layers, n_refiners, n_heads, head_dim, ffn; /* ffn = floor(dim * 8 / 3) */
    int    channels, patch, cap_feat_dim;
    int    axes_dims[3], axes_lens[3]; /* t, h, w: rotary dims and number of positions */
    int    adaln_dim;                  /* min(dim, 256) */
    float  norm_eps, t_scale;
    double rope_theta;
};

struct vae_conf {                             /* vae/config.json: AutoencoderKL, the decoder half */
    int   n_levels, channels[VAE_LEVELS_MAX]; /* block_out_channels; the decoder walks them from the last to the first */
    int   layers_per_block, n_groups, latent_channels;
    float scaling, shift;
    int   sample_px;  /* the side of the pictures it was made for; 0: not said */
    bool  post_quant; /* a 1x1 convolution before conv_in */
};

struct model_conf {
    struct text_conf     text;
    struct dit_conf      dit;
    struct vae_conf      vae;
    struct schedule_conf schedule;
    char                 hint[32]; /* model_index.json {"zfarm": {"profile": ...}}, or "" */
};

/* Each reads one file's bytes; path only names it. out is untouched on error. ERR_FORMAT, ERR_LIMIT. */
int config_text(struct text_conf *out, struct str json, const char *path, struct err *e);
int config_dit(struct dit_conf *out, struct str json, const char *path, struct err *e);
int config_vae(struct vae_conf *out, struct str json, const char *path, struct err *e);
int config_schedule(struct schedule_conf *out, struct str json, const char *path, struct err *e);
int config_index(char hint[32], struct str json, const char *path, struct err *e);
/* What must agree between the parts; dir only names them. */
int config_cross_check(const struct model_conf *c, const char *dir, struct err *e);

/* All of dir. digest may be NULL: receives the bytes of every file read. ERR_IO, ERR_NOTFOUND for a folder that is no model. */
int config_open(struct model_conf *out, const char *dir, struct sha256 *digest, struct err *e);

#endif
