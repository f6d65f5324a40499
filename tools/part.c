/* part.c - see part.h. */
#include "tools/part.h"

#include <stdio.h>

#include "base/file.h"
#include "engine/infer.h"

const char *const part_folder[PART_UNKNOWN] = {"transformer", "text_encoder", "vae"};

enum part part_of(const struct weights *w)
{
    if (weights_has(w, "all_x_embedder.2-1.weight")) return PART_TRANSFORMER;
    if (weights_has(w, "embed_tokens.weight")) return PART_TEXT;
    return weights_has(w, "decoder.conv_in.weight") ? PART_VAE : PART_UNKNOWN;
}

static int from_config(enum part part, const char *path, struct model_conf *c, struct err *e)
{
    struct buf b;
    int        rc;

    buf_init(&b, CONFIG_BYTES_MAX);
    if ((rc = file_read(path, &b, e))) goto done;
    rc = part == PART_TRANSFORMER ? config_dit(&c->dit, buf_str(&b), path, e)
         : part == PART_TEXT      ? config_text(&c->text, buf_str(&b), path, e)
                                  : config_vae(&c->vae, buf_str(&b), path, e);
done:
    buf_release(&b);
    return rc;
}

int part_conf(enum part part, const char *path, const struct weights *w, struct model_conf *c, bool *inferred, struct err *e)
{
    char config[1024];
    int  rc;

    *inferred = false;
    if (part == PART_UNKNOWN) return 0;
    if (file_is_folder(path)) {
        if ((rc = file_join(config, sizeof config, path, "config.json", e))) return rc;
        if (file_exists(config)) return from_config(part, config, c, e);
    }
    *inferred = true;
    return part == PART_TRANSFORMER ? infer_dit(&c->dit, w, e) : part == PART_TEXT ? infer_text(&c->text, w, e) : infer_vae(&c->vae, w, e);
}

int part_plan(enum part part, const struct model_conf *c, struct plan *p, struct err *e)
{
    switch (part) {
    case PART_TRANSFORMER:
        return plan_dit(p, &c->dit, e);
    case PART_TEXT:
        return plan_text(p, &c->text, e);
    case PART_VAE:
        return plan_vae(p, &c->vae, false, c->vae.post_quant, e);
    default:
        return 0;
    }
}

void part_print(enum part part, const struct model_conf *c)
{
    if (part == PART_TRANSFORMER)
        printf("  dim %d, %d layers + %d + %d refiners, %d heads of %d, ffn %d, caption features %d\n", c->dit.dim, c->dit.n_layers,
               c->dit.n_refiners, c->dit.n_refiners, c->dit.n_heads, c->dit.head_dim, c->dit.ffn, c->dit.cap_feat_dim);
    if (part == PART_TEXT)
        printf("  hidden %d, %d layers, %d heads (%d key/value) of %d, ffn %d, vocabulary %d\n", c->text.hidden, c->text.n_layers,
               c->text.n_heads, c->text.n_kv_heads, c->text.head_dim, c->text.ffn, c->text.vocab);
    if (part == PART_VAE) {
        printf("  latent channels %d, channels", c->vae.latent_channels);
        for (int i = 0; i < c->vae.n_levels; i++) printf(" %d", c->vae.channels[i]);
        printf(", %d layers per block, scaling %g, shift %g\n", c->vae.layers_per_block, (double)c->vae.scaling, (double)c->vae.shift);
    }
}
