/* plan.c - tensor names and shapes of the three networks. See plan.h. */
#include "tools/plan.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* rank dims, then the name. The last tensor put is p->at[p->n - 1]. */
static void put(struct plan *p, bool needed, int rank, const int64_t *dim, const char *fmt, va_list args)
{
    if (p->n == p->cap && !p->full) {
        size_t              cap = p->cap ? 2 * p->cap : 256;
        struct plan_tensor *at = realloc(p->at, cap * sizeof *at);
        p->full = !at;
        if (at) {
            p->at = at;
            p->cap = cap;
        }
    }
    if (p->full) return;
    struct plan_tensor *t = &p->at[p->n++];
    *t = (struct plan_tensor){.rank = rank, .needed = needed};
    memcpy(t->dim, dim, (size_t)rank * sizeof *dim);
    int len = vsnprintf(t->name, sizeof t->name, fmt, args);
    assert(len > 0 && (size_t)len < sizeof t->name);
}

__attribute__((format(printf, 4, 5))) static void vector(struct plan *p, bool needed, int64_t n, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    put(p, needed, 1, (int64_t[]){n}, fmt, args);
    va_end(args);
}

__attribute__((format(printf, 5, 6))) static void matrix(struct plan *p, bool needed, int64_t rows, int64_t cols, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    put(p, needed, 2, (int64_t[]){rows, cols}, fmt, args);
    va_end(args);
}

__attribute__((format(printf, 6, 7))) static void kernel(struct plan *p, bool needed, int64_t out, int64_t in, int64_t k, const char *fmt,
                                                         ...)
{
    va_list args;
    va_start(args, fmt);
    put(p, needed, 4, (int64_t[]){out, in, k, k}, fmt, args);
    va_end(args);
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(((const struct plan_tensor *)a)->name, ((const struct plan_tensor *)b)->name);
}

static int finish(struct plan *p, struct err *e)
{
    if (p->full) return err_set(e, ERR_NOMEM, "no memory for the list of tensors");
    qsort(p->at, p->n, sizeof *p->at, compare_names);
    return 0;
}

int plan_text(struct plan *p, const struct text_conf *c, struct err *e)
{
    int64_t q = (int64_t)c->n_heads * c->head_dim, kv = (int64_t)c->n_kv_heads * c->head_dim;

    matrix(p, true, c->vocab, c->hidden, "embed_tokens.weight");
    for (int i = 0; i < c->n_layers && !p->full; i++) {
        bool needed = i + 1 < c->n_layers; /* the conditioning is the state before the last layer */
        vector(p, needed, c->hidden, "layers.%d.input_layernorm.weight", i);
        matrix(p, needed, c->hidden, c->ffn, "layers.%d.mlp.down_proj.weight", i);
        matrix(p, needed, c->ffn, c->hidden, "layers.%d.mlp.gate_proj.weight", i);
        matrix(p, needed, c->ffn, c->hidden, "layers.%d.mlp.up_proj.weight", i);
        vector(p, needed, c->hidden, "layers.%d.post_attention_layernorm.weight", i);
        vector(p, needed, c->head_dim, "layers.%d.self_attn.k_norm.weight", i);
        matrix(p, needed, kv, c->hidden, "layers.%d.self_attn.k_proj.weight", i);
        matrix(p, needed, c->hidden, q, "layers.%d.self_attn.o_proj.weight", i);
        vector(p, needed, c->head_dim, "layers.%d.self_attn.q_norm.weight", i);
        matrix(p, needed, q, c->hidden, "layers.%d.self_attn.q_proj.weight", i);
        matrix(p, needed, kv, c->hidden, "layers.%d.self_attn.v_proj.weight", i);
    }
    vector(p, false, c->hidden, "norm.weight");
    return finish(p, e);
}

static void dit_block(struct plan *p, const struct dit_conf *c, const char *stack, int i, bool modulated)
{
    static const char *const norm[] = {"attention_norm1", "attention_norm2", "ffn_norm1", "ffn_norm2"};
    static const char *const square[] = {"to_q", "to_k", "to_v", "to_out.0"};

    for (int k = 0; k < 4; k++) {
        matrix(p, true, c->dim, c->dim, "%s.%d.attention.%s.weight", stack, i, square[k]);
        vector(p, true, c->dim, "%s.%d.%s.weight", stack, i, norm[k]);
    }
    vector(p, true, c->head_dim, "%s.%d.attention.norm_q.weight", stack, i);
    vector(p, true, c->head_dim, "%s.%d.attention.norm_k.weight", stack, i);
    matrix(p, true, c->ffn, c->dim, "%s.%d.feed_forward.w1.weight", stack, i);
    matrix(p, true, c->dim, c->ffn, "%s.%d.feed_forward.w2.weight", stack, i);
    matrix(p, true, c->ffn, c->dim, "%s.%d.feed_forward.w3.weight", stack, i);
    if (!modulated) return;
    matrix(p, true, 4 * (int64_t)c->dim, c->adaln_dim, "%s.%d.adaLN_modulation.0.weight", stack, i);
    vector(p, true, 4 * (int64_t)c->dim, "%s.%d.adaLN_modulation.0.bias", stack, i);
}

static void affine(struct plan *p, int64_t rows, int64_t cols, const char *name)
{
    matrix(p, true, rows, cols, "%s.weight", name);
    vector(p, true, rows, "%s.bias", name);
}

int plan_dit(struct plan *p, const struct dit_conf *c, struct err *e)
{
    int64_t patch = (int64_t)c->patch * c->patch * c->channels;
    char    name[64];

    snprintf(name, sizeof name, "all_x_embedder.%d-1", c->patch);
    affine(p, c->dim, patch, name);
    snprintf(name, sizeof name, "all_final_layer.%d-1.linear", c->patch);
    affine(p, patch, c->dim, name);
    snprintf(name, sizeof name, "all_final_layer.%d-1.adaLN_modulation.1", c->patch);
    affine(p, c->dim, c->adaln_dim, name);
    vector(p, true, c->cap_feat_dim, "cap_embedder.0.weight");
    affine(p, c->dim, c->cap_feat_dim, "cap_embedder.1");
    affine(p, 1024, 256, "t_embedder.mlp.0");
    affine(p, c->adaln_dim, 1024, "t_embedder.mlp.2");
    matrix(p, true, 1, c->dim, "cap_pad_token");
    matrix(p, true, 1, c->dim, "x_pad_token");
    for (int i = 0; i < c->n_refiners && !p->full; i++) {
        dit_block(p, c, "noise_refiner", i, true);
        dit_block(p, c, "context_refiner", i, false);
    }
    for (int i = 0; i < c->n_layers && !p->full; i++) dit_block(p, c, "layers", i, true);
    return finish(p, e);
}

static void group_norm(struct plan *p, bool needed, int64_t n, const char *name)
{
    vector(p, needed, n, "%s.weight", name);
    vector(p, needed, n, "%s.bias", name);
}

static void convolution(struct plan *p, bool needed, int64_t out, int64_t in, int64_t k, const char *name)
{
    kernel(p, needed, out, in, k, "%s.weight", name);
    vector(p, needed, out, "%s.bias", name);
}

static void resnet(struct plan *p, bool needed, int64_t in, int64_t out, const char *prefix)
{
    char name[PLAN_NAME_MAX];

    snprintf(name, sizeof name, "%s.norm1", prefix);
    group_norm(p, needed, in, name);
    snprintf(name, sizeof name, "%s.conv1", prefix);
    convolution(p, needed, out, in, 3, name);
    snprintf(name, sizeof name, "%s.norm2", prefix);
    group_norm(p, needed, out, name);
    snprintf(name, sizeof name, "%s.conv2", prefix);
    convolution(p, needed, out, out, 3, name);
    snprintf(name, sizeof name, "%s.conv_shortcut", prefix);
    if (in != out) convolution(p, needed, out, in, 1, name);
}

static void vae_middle(struct plan *p, bool needed, int64_t n, const char *half)
{
    static const char *const part[] = {"to_q", "to_k", "to_v", "to_out.0"};
    char                     name[PLAN_NAME_MAX];

    for (int i = 0; i < 2; i++) {
        snprintf(name, sizeof name, "%s.mid_block.resnets.%d", half, i);
        resnet(p, needed, n, n, name);
    }
    snprintf(name, sizeof name, "%s.mid_block.attentions.0.group_norm", half);
    group_norm(p, needed, n, name);
    for (int k = 0; k < 4; k++) {
        matrix(p, needed, n, n, "%s.mid_block.attentions.0.%s.weight", half, part[k]);
        vector(p, needed, n, "%s.mid_block.attentions.0.%s.bias", half, part[k]);
    }
}

static void vae_encoder(struct plan *p, const struct vae_conf *c)
{
    char    name[PLAN_NAME_MAX];
    int64_t in = c->channels[0];

    convolution(p, false, in, 3, 3, "encoder.conv_in");
    for (int i = 0; i < c->n_levels; i++) {
        for (int k = 0; k < c->layers_per_block; k++, in = c->channels[i]) {
            snprintf(name, sizeof name, "encoder.down_blocks.%d.resnets.%d", i, k);
            resnet(p, false, in, c->channels[i], name);
        }
        snprintf(name, sizeof name, "encoder.down_blocks.%d.downsamplers.0.conv", i);
        if (i + 1 < c->n_levels) convolution(p, false, in, in, 3, name);
    }
    vae_middle(p, false, in, "encoder");
    group_norm(p, false, in, "encoder.conv_norm_out");
    convolution(p, false, 2 * (int64_t)c->latent_channels, in, 3, "encoder.conv_out");
}

static void vae_decoder(struct plan *p, const struct vae_conf *c)
{
    char    name[PLAN_NAME_MAX];
    int64_t in = c->channels[c->n_levels - 1];

    convolution(p, true, in, c->latent_channels, 3, "decoder.conv_in");
    vae_middle(p, true, in, "decoder");
    for (int i = 0; i < c->n_levels; i++) {
        int64_t out = c->channels[c->n_levels - 1 - i];
        for (int k = 0; k <= c->layers_per_block; k++, in = out) {
            snprintf(name, sizeof name, "decoder.up_blocks.%d.resnets.%d", i, k);
            resnet(p, true, in, out, name);
        }
        snprintf(name, sizeof name, "decoder.up_blocks.%d.upsamplers.0.conv", i);
        if (i + 1 < c->n_levels) convolution(p, true, out, out, 3, name);
    }
    group_norm(p, true, in, "decoder.conv_norm_out");
    convolution(p, true, 3, in, 3, "decoder.conv_out");
}

int plan_vae(struct plan *p, const struct vae_conf *c, bool quant, bool post_quant, struct err *e)
{
    vae_encoder(p, c);
    vae_decoder(p, c);
    if (quant) convolution(p, false, 2 * (int64_t)c->latent_channels, 2 * (int64_t)c->latent_channels, 1, "quant_conv");
    if (post_quant) convolution(p, true, c->latent_channels, c->latent_channels, 1, "post_quant_conv");
    return finish(p, e);
}

void plan_release(struct plan *p)
{
    free(p->at);
    *p = (struct plan){0};
}

const struct plan_tensor *plan_find(const struct plan *p, const char *name)
{
    size_t from = 0, to = p->n;

    while (from < to) {
        size_t mid = from + (to - from) / 2;
        int    c = strcmp(p->at[mid].name, name);
        if (c == 0) return &p->at[mid];
        if (c < 0)
            from = mid + 1;
        else
            to = mid;
    }
    return NULL;
}

int64_t plan_tensor_values(const struct plan_tensor *t)
{
    int64_t n = 1;
    for (int i = 0; i < t->rank; i++) n *= t->dim[i]; /* config.c's bounds keep this far below 2^63 */
    return n;
}

int64_t plan_values(const struct plan *p)
{
    int64_t n = 0;
    for (size_t i = 0; i < p->n; i++) n += plan_tensor_values(&p->at[i]);
    return n;
}
