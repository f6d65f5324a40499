/* dit.h - the denoiser: latent, caption, time -> prediction (the velocity is its negative).
 *
 *   struct dit *m = NULL;
 *   dit_open(&m, &conf.dit, w, d, &e);
 *   once per prompt:   dit_rope_open(m, 0, 0, n_tok, &r, &e); dit_caption(m, &raw, r, &cap); dit_rope_close(m, r);
 *   once per request:  dit_rope_open(m, H/16, W/16, n_tok, &r, &e); dit_modulate(m, t, n_steps, &mods);
 *   each pass:         op_copy(d, &now, row i of mods); dit_step(m, &latent, &now, &cap, r, &pred);  dev_sync(d, &e);
 *
 * Sequences are padded to multiples of 32 with learned tokens; pads attend, nothing is masked. Order in the main layers: image, caption.
 * Time comes in through the modulations alone, so those of all passes are made at once, and a pass is the same run of ops with other numbers:
 * equal addresses (latent, now, rope, pred) let the device play it from a record.
 * Errors of the run functions stick in the device. dit_embed.c turns inputs into tokens, dit_rope.c places them, dit.c runs the blocks.
 * Not here: guidance, the Euler step (engine.c), the schedule (schedule.h). */
#ifndef ENGINE_DIT_H
#define ENGINE_DIT_H

#include <stdbool.h>

#include "engine/config.h"
#include "engine/joined.h"
#include "engine/weights.h"
#include "kernels/dev.h"

#define DIT_PAD_TOK     32  /* SEQ_MULTI_OF */
#define DIT_TIME_DIM    256 /* sinusoid */
#define DIT_TIME_HIDDEN 1024
#define DIT_QK_EPS      1e-5f
#define DIT_FINAL_EPS   1e-6f

struct dit_block {
    bool          modulated;                                    /* the context refiner's are not */
    struct tensor attn_norm1, attn_norm2, ffn_norm1, ffn_norm2; /* [dim] */
    struct joined qkv;                                          /* [3*dim, dim] */
    struct tensor wo, norm_q, norm_k;                           /* [dim, dim] [head_dim] [head_dim] */
    struct joined w13;                                          /* [2*ffn, dim]: gate, up */
    struct tensor w2;                                           /* [dim, ffn] */
    struct tensor mod_w, mod_b;                                 /* [4*dim, adaln_dim] [4*dim] */
};

struct dit_rope { /* rows: image tokens, image pads, caption tokens, caption pads */
    int64_t       n_h, n_w, n_img, n_img_padded, n_cap_padded;
    struct tensor cos, sin;                  /* F32 [n_img_padded + n_cap_padded, head_dim/2], owned */
    int           n_refs;
    uint64_t      used;                      /* when, for the oldest to make room */
};

#define DIT_ROPES 12 /* tables kept: their addresses are part of what a device records */

struct dit {
    struct dit_conf   conf;
    struct dev       *d;
    struct dit_block *noise, *context, *main;                     /* n_refiners, n_refiners, n_layers; one allocation */
    struct tensor     x_w, x_b, x_pad;                            /* [dim, p*p*channels] [dim] [1, dim] */
    struct tensor     cap_norm, cap_w, cap_b, cap_pad;            /* [feat] [dim, feat] [dim] [1, dim] */
    struct tensor     t1_w, t1_b, t2_w, t2_b;                     /* [1024, 256] [1024] [adaln, 1024] [adaln] */
    struct tensor     final_mod_w, final_mod_b, final_w, final_b; /* [dim, adaln] [dim] [p*p*channels, dim] [p*p*channels] */
    struct dit_rope  *rope[DIT_ROPES];
    uint64_t          rope_now;
};

int  dit_open(struct dit **out, const struct dit_conf *conf, struct weights *w, struct dev *d, struct err *e);
void dit_free(struct dit *m); /* NULL is fine */

int64_t dit_padded(int64_t n_tok); /* the next multiple of 32 */
/* ERR_LIMIT when a position is outside axes_lens; the sentence names the largest picture. n_h = n_w = 0: the caption alone. */
int dit_check(const struct dit_conf *c, int64_t n_h, int64_t n_w, int64_t n_cap, struct err *e);

/* The counts and shapes alone, without data: for a measuring pass. */
void dit_rope_shape(const struct dit *m, int64_t n_h, int64_t n_w, int64_t n_cap, struct dit_rope *out);
/* Rotary tables of n_h x n_w patches and n_cap caption tokens (as many as they are padded to), made once and kept for the next of this shape. Close with dit_rope_close. */
int  dit_rope_open(struct dit *m, int64_t n_h, int64_t n_w, int64_t n_cap, const struct dit_rope **out, struct err *e);
void dit_rope_close(struct dit *m, const struct dit_rope *r); /* NULL is fine */
void dit_ropes_free(struct dit *m);

/* raw [n_cap, cap_feat_dim] of act_type or F32 -> out [n_cap_padded, dim] of act_type: embedded, padded, refined. r: of the caption alone. */
void dit_caption(struct dit *m, const struct tensor *raw, const struct dit_rope *r, struct tensor *out);
/* Values of one pass's modulations: of each modulated block scale_attn, tanh(gate_attn), scale_ffn, tanh(gate_ffn); the final layer's scale. */
int64_t dit_mod_cols(const struct dit_conf *c);
/* t [n], each 1 - sigma -> mods F32 [n, dit_mod_cols]. */
void dit_modulate(struct dit *m, const float *t, int64_t n, struct tensor *mods);
/* z F32 [channels, H/8, W/8], mod F32 [1, dit_mod_cols], cap from dit_caption -> pred F32 like z. */
void dit_step(struct dit *m, const struct tensor *z, const struct tensor *mod, const struct tensor *cap, const struct dit_rope *r, struct tensor *pred);

/* dit_embed.c for dit.c */
void dit_embed_time(struct dit *m, const float *t, int64_t n, struct tensor *c);   /* c [n, adaln_dim] */
void dit_embed_image(struct dit *m, const struct tensor *z, struct tensor *x);     /* x [n_img_padded, dim] */
void dit_embed_caption(struct dit *m, const struct tensor *raw, struct tensor *x); /* x [n_cap_padded, dim] */

#endif
