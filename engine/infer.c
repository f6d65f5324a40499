/* infer.c - see infer.h. A looker carries the first error; after it every look gives 1, so that no division fails.
 * Not here: what configs say (config.c). */
#include "engine/infer.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "engine/gguf.h"
#include "engine/safetensors.h"

#define LAYERS_MAX 1024
#define WIDTH_MAX  65536

struct looker {
    const struct weights *w;
    struct err           *e;
    int                   rc;
};

/* Dimension d of a tensor, 1..max. */
static int look(struct looker *l, int d, int64_t max, const char *name)
{
    const struct safetensors_entry *t = weights_find(l->w, name);
    if (l->rc) return 1;
    if (!t)
        l->rc = err_set(l->e, ERR_NOTFOUND, "%s: tensor %s is missing, and there is no config: not a checkpoint of this kind",
                        weights_path(l->w), name);
    else if (d >= t->rank || t->dim[d] < 1 || t->dim[d] > max)
        l->rc = err_set(l->e, ERR_FORMAT, "%s: tensor %s has no dimension %d of 1 to %" PRId64, weights_path(l->w), name, d, max);
    return l->rc ? 1 : (int)t->dim[d];
}

/* How many of "fmt" % 0, 1, 2, ... there are. */
static int count(const struct looker *l, const char *before, const char *behind)
{
    char name[200];
    int  n = 0;
    for (; n < LAYERS_MAX; n++) {
        snprintf(name, sizeof name, "%s%d%s", before, n, behind);
        if (!weights_has(l->w, name)) break;
    }
    return n;
}

__attribute__((format(printf, 2, 3))) static void wrong(struct looker *l, const char *fmt, ...)
{
    char    text[200];
    va_list ap;
    if (l->rc) return;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    l->rc = err_set(l->e, ERR_FORMAT, "%s: %s: give the folder with its config", weights_path(l->w), text);
}

/* a / b, which must divide. */
static int quotient(struct looker *l, int a, int b, const char *what)
{
    if (a % b || a < b) wrong(l, "%s: %d is no multiple of %d", what, a, b);
    return l->rc ? 1 : a / b;
}

static void real_of(const struct weights *w, const char *key, double low, double high, double *out)
{
    double v;
    if (weights_gguf(w) && gguf_real(weights_gguf(w), key, &v, NULL) == 0 && v >= low && v <= high) *out = v;
}

int infer_text(struct text_conf *out, const struct weights *w, struct err *e)
{
    struct looker    l = {w, e, 0};
    struct text_conf c = {.rope_theta = 1e6};
    double           eps = 1e-6;

    c.vocab = look(&l, 0, 1 << 22, "embed_tokens.weight");
    c.hidden = look(&l, 1, WIDTH_MAX, "embed_tokens.weight");
    c.n_layers = count(&l, "layers.", ".self_attn.q_norm.weight");
    c.head_dim = look(&l, 0, 1024, "layers.0.self_attn.q_norm.weight");
    c.n_heads = quotient(&l, look(&l, 0, WIDTH_MAX, "layers.0.self_attn.q_proj.weight"), c.head_dim, "query heads");
    c.n_kv_heads = quotient(&l, look(&l, 0, WIDTH_MAX, "layers.0.self_attn.k_proj.weight"), c.head_dim, "key heads");
    c.ffn = look(&l, 0, 8 * WIDTH_MAX, "layers.0.mlp.gate_proj.weight");
    if (c.n_layers < 2) wrong(&l, "%d layers of a text encoder", c.n_layers);
    if (c.head_dim % 2 || c.n_heads % c.n_kv_heads) wrong(&l, "heads of %d, %d of them on %d", c.head_dim, c.n_heads, c.n_kv_heads);
    real_of(w, "qwen3.rope.freq_base", 1, 1e12, &c.rope_theta);
    real_of(w, "qwen3.attention.layer_norm_rms_epsilon", 1e-12, 0.1, &eps);
    c.norm_eps = (float)eps;
    if (!l.rc) *out = c;
    return l.rc;
}

int infer_dit(struct dit_conf *out, const struct weights *w, struct err *e)
{
    struct looker   l = {w, e, 0};
    struct dit_conf c = {.patch = 2, .axes_lens = {1536, 512, 512}, .norm_eps = 1e-5f, .t_scale = 1000, .rope_theta = 256};

    c.dim = look(&l, 0, WIDTH_MAX, "all_x_embedder.2-1.weight");
    c.channels = quotient(&l, look(&l, 1, 1024, "all_x_embedder.2-1.weight"), c.patch * c.patch, "values of a patch");
    c.n_layers = count(&l, "layers.", ".attention.norm_q.weight");
    c.n_refiners = count(&l, "noise_refiner.", ".attention.norm_q.weight");
    c.head_dim = look(&l, 0, 4096, "layers.0.attention.norm_q.weight");
    c.n_heads = quotient(&l, c.dim, c.head_dim, "heads");
    c.ffn = look(&l, 0, 8 * WIDTH_MAX, "layers.0.feed_forward.w1.weight");
    c.cap_feat_dim = look(&l, 1, WIDTH_MAX, "cap_embedder.1.weight");
    c.adaln_dim = look(&l, 0, 4096, "t_embedder.mlp.2.weight");
    if (c.head_dim % 16) wrong(&l, "heads of %d do not divide over the three axes", c.head_dim);
    c.axes_dims[0] = c.head_dim / 4;
    c.axes_dims[1] = c.axes_dims[2] = c.head_dim / 8 * 3;
    if (!l.rc) *out = c;
    return l.rc;
}

int infer_vae(struct vae_conf *out, const struct weights *w, struct err *e)
{
    struct looker   l = {w, e, 0};
    struct vae_conf c = {.n_groups = 32, .scaling = 0.3611f, .shift = 0.1159f};
    char            name[200];

    c.latent_channels = look(&l, 1, 256, "decoder.conv_in.weight");
    c.n_levels = count(&l, "decoder.up_blocks.", ".resnets.0.conv1.weight");
    c.layers_per_block = count(&l, "decoder.up_blocks.0.resnets.", ".conv1.weight") - 1;
    c.post_quant = weights_has(w, "post_quant_conv.weight");
    if (!l.rc && (c.n_levels < 1 || c.n_levels > VAE_LEVELS_MAX || c.layers_per_block < 1 || c.layers_per_block > 64))
        wrong(&l, "a decoder of %d levels with %d layers each", c.n_levels, c.layers_per_block);
    if (c.latent_channels != 16) wrong(&l, "scaling and shift of a VAE with %d latent channels are not known", c.latent_channels);
    for (int i = 0; i < c.n_levels && !l.rc; i++) {
        snprintf(name, sizeof name, "decoder.up_blocks.%d.resnets.0.conv1.weight", i);
        c.channels[c.n_levels - 1 - i] = look(&l, 0, 16384, name);
        if (c.channels[c.n_levels - 1 - i] % c.n_groups)
            wrong(&l, "%d channels do not divide into %d groups", c.channels[c.n_levels - 1 - i], c.n_groups);
    }
    if (!l.rc) *out = c;
    return l.rc;
}
