/* plan.h - every tensor that a checkpoint of a config has, with its shape: what inspect compares with and synth writes.
 *
 *   struct plan p = {0};
 *   plan_dit(&p, &conf.dit, &e);   ...   p.at[0 .. p.n)   sorted by name
 *   plan_release(&p);
 *
 * Names are those of diffusers and transformers, as they stand in the files. Written from the configs alone, apart from the engine's own
 * loading, so that each checks the other. */
#ifndef TOOLS_PLAN_H
#define TOOLS_PLAN_H

#include "engine/config.h"

#define PLAN_NAME_MAX 96

struct plan_tensor {
    char    name[PLAN_NAME_MAX];
    int     rank;
    int64_t dim[4];
    bool    needed; /* by the engine; the VAE's encoder and the text encoder's last layer are written but not read */
};

struct plan {
    struct plan_tensor *at;
    size_t              n, cap;
    bool                full; /* out of memory */
};

int plan_text(struct plan *p, const struct text_conf *c, struct err *e);
int plan_dit(struct plan *p, const struct dit_conf *c, struct err *e);
/* quant, post_quant: use_quant_conv, use_post_quant_conv of the config. */
int  plan_vae(struct plan *p, const struct vae_conf *c, bool quant, bool post_quant, struct err *e);
void plan_release(struct plan *p);

const struct plan_tensor *plan_find(const struct plan *p, const char *name); /* or NULL */
int64_t                   plan_values(const struct plan *p);                 /* parameters */
int64_t                   plan_tensor_values(const struct plan_tensor *t);

#endif
