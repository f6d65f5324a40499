/* dit.c - the denoiser's blocks: weights, one block, the refiners, the main layers, the final layer. See dit.h.
 * n tokens of dim; the equation stands above each function.
 * Not here: tokens and positions (dit_embed.c). */
#include "engine/dit.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "kernels/ops.h"

/* ---- weights ---- */

static void load_block(struct loader *l, const struct dit_conf *c, struct dit_block *b, bool modulated, const char *part, int i)
{
    char    p[64];
    int64_t dim = c->dim;

    snprintf(p, sizeof p, "%s.%d", part, i);
    b->modulated = modulated;
    load1(l, &b->attn_norm1, dim, "%s.attention_norm1.weight", p);
    load1(l, &b->attn_norm2, dim, "%s.attention_norm2.weight", p);
    load1(l, &b->ffn_norm1, dim, "%s.ffn_norm1.weight", p);
    load1(l, &b->ffn_norm2, dim, "%s.ffn_norm2.weight", p);
    load2(l, &b->wq, dim, dim, "%s.attention.to_q.weight", p);
    load2(l, &b->wk, dim, dim, "%s.attention.to_k.weight", p);
    load2(l, &b->wv, dim, dim, "%s.attention.to_v.weight", p);
    load2(l, &b->wo, dim, dim, "%s.attention.to_out.0.weight", p);
    load1(l, &b->norm_q, c->head_dim, "%s.attention.norm_q.weight", p);
    load1(l, &b->norm_k, c->head_dim, "%s.attention.norm_k.weight", p);
    load2(l, &b->w1, c->ffn, dim, "%s.feed_forward.w1.weight", p);
    load2(l, &b->w2, dim, c->ffn, "%s.feed_forward.w2.weight", p);
    load2(l, &b->w3, c->ffn, dim, "%s.feed_forward.w3.weight", p);
    if (!modulated) return;
    load2(l, &b->mod_w, 4 * dim, c->adaln_dim, "%s.adaLN_modulation.0.weight", p);
    load1(l, &b->mod_b, 4 * dim, "%s.adaLN_modulation.0.bias", p);
}

static int load_weights(struct dit *m, struct weights *w, struct err *e)
{
    const struct dit_conf *c = &m->conf;
    struct loader          l = {w, m->d, e, 0};
    int64_t                dim = c->dim, patch = (int64_t)c->patch * c->patch * c->channels;

    load2(&l, &m->x_w, dim, patch, "all_x_embedder.2-1.weight");
    load1(&l, &m->x_b, dim, "all_x_embedder.2-1.bias");
    load2(&l, &m->x_pad, 1, dim, "x_pad_token");
    load1(&l, &m->cap_norm, c->cap_feat_dim, "cap_embedder.0.weight");
    load2(&l, &m->cap_w, dim, c->cap_feat_dim, "cap_embedder.1.weight");
    load1(&l, &m->cap_b, dim, "cap_embedder.1.bias");
    load2(&l, &m->cap_pad, 1, dim, "cap_pad_token");
    load2(&l, &m->t1_w, DIT_TIME_HIDDEN, DIT_TIME_DIM, "t_embedder.mlp.0.weight");
    load1(&l, &m->t1_b, DIT_TIME_HIDDEN, "t_embedder.mlp.0.bias");
    load2(&l, &m->t2_w, c->adaln_dim, DIT_TIME_HIDDEN, "t_embedder.mlp.2.weight");
    load1(&l, &m->t2_b, c->adaln_dim, "t_embedder.mlp.2.bias");
    for (int i = 0; i < c->n_refiners; i++) {
        load_block(&l, c, &m->noise[i], true, "noise_refiner", i);
        load_block(&l, c, &m->context[i], false, "context_refiner", i);
    }
    for (int i = 0; i < c->n_layers; i++) load_block(&l, c, &m->main[i], true, "layers", i);
    load2(&l, &m->final_mod_w, dim, c->adaln_dim, "all_final_layer.2-1.adaLN_modulation.1.weight");
    load1(&l, &m->final_mod_b, dim, "all_final_layer.2-1.adaLN_modulation.1.bias");
    load2(&l, &m->final_w, patch, dim, "all_final_layer.2-1.linear.weight");
    load1(&l, &m->final_b, patch, "all_final_layer.2-1.linear.bias");
    return l.rc;
}

int dit_open(struct dit **out, const struct dit_conf *conf, struct weights *w, struct dev *d, struct err *e)
{
    struct dit *m = calloc(1, sizeof *m);
    int         rc;

    if (!m) return err_set(e, ERR_NOMEM, "no memory for the transformer");
    m->conf = *conf;
    m->d = d;
    m->noise = calloc((size_t)(2 * conf->n_refiners + conf->n_layers), sizeof *m->noise);
    if (!m->noise) {
        rc = err_set(e, ERR_NOMEM, "no memory for %d layers of the transformer", conf->n_layers);
        goto done;
    }
    m->context = m->noise + conf->n_refiners;
    m->main = m->context + conf->n_refiners;
    if ((rc = load_weights(m, w, e))) goto done;
    *out = m;
    m = NULL;
done:
    dit_free(m);
    return rc;
}

void dit_free(struct dit *m)
{
    if (!m) return;
    free(m->noise);
    free(m);
}

/* ---- a block ---- */

struct mod { /* F32 [1, dim] each; only for modulated blocks */
    struct tensor scale_attn, gate_attn, scale_ffn, gate_ffn;
};

/* mod = mod_w c + mod_b, no SiLU; kept in F32 whatever the activations are. */
static void modulation(struct dit *m, const struct dit_block *b, const struct tensor *c, struct mod *out)
{
    struct dev   *d = m->d;
    int64_t       dim = m->conf.dim;
    struct tensor all = dev_new2(d, DTYPE_F32, 4, dim);
    size_t        mark = dev_mark(d);
    struct tensor y = dev_new2(d, d->act_type, 1, 4 * dim), rows = tensor_view(&y, 2, (int64_t[]){4, dim});

    op_linear(d, &y, c, &b->mod_w, &b->mod_b);
    op_copy(d, &all, &rows);
    dev_reset(d, mark);
    out->scale_attn = tensor_slice(&all, 0, 1);
    out->gate_attn = tensor_slice(&all, 1, 1);
    out->scale_ffn = tensor_slice(&all, 2, 1);
    out->gate_ffn = tensor_slice(&all, 3, 1);
}

/* x += tanh(gate) * norm2(attention(norm1(x) * (1 + scale))); unmodulated: no scale, no gate.   x [n, dim] in place */
static void attention(struct dit *m, const struct dit_block *b, const struct mod *mod, struct tensor *x, const struct tensor *cs,
                      const struct tensor *sn)
{
    struct dev   *d = m->d;
    size_t        mark = dev_mark(d);
    int64_t       n = tensor_rows(x), dim = m->conf.dim, heads = m->conf.n_heads;
    struct tensor h = dev_new2(d, x->type, n, dim), a = dev_new2(d, x->type, n, dim);
    struct tensor q = dev_new2(d, x->type, n, dim), k = dev_new2(d, x->type, n, dim), v = dev_new2(d, x->type, n, dim);
    struct tensor qh = tensor_heads(&q, heads), kh = tensor_heads(&k, heads), vh = tensor_heads(&v, heads), ah = tensor_heads(&a, heads);

    op_rms_norm(d, &h, x, &b->attn_norm1, m->conf.norm_eps);
    if (b->modulated) op_scale_rows(d, &h, &mod->scale_attn);
    op_linear(d, &q, &h, &b->wq, NULL);
    op_linear(d, &k, &h, &b->wk, NULL);
    op_linear(d, &v, &h, &b->wv, NULL);
    op_rms_norm(d, &qh, &qh, &b->norm_q, DIT_QK_EPS); /* per head */
    op_rms_norm(d, &kh, &kh, &b->norm_k, DIT_QK_EPS);
    op_rope_pairs(d, &qh, cs, sn);
    op_rope_pairs(d, &kh, cs, sn);
    op_attention(d, &ah, &qh, &kh, &vh, (float)(1 / sqrt((double)m->conf.head_dim)), false);
    op_linear(d, &h, &a, &b->wo, NULL);
    op_rms_norm(d, &h, &h, &b->attn_norm2, m->conf.norm_eps);
    if (b->modulated)
        op_gate_add(d, x, &mod->gate_attn, &h);
    else
        op_add(d, x, &h);
    dev_reset(d, mark);
}

/* x += tanh(gate) * norm2(ffn(norm1(x) * (1 + scale))); unmodulated: no scale, no gate.   x [n, dim] in place */
static void ffn(struct dit *m, const struct dit_block *b, const struct mod *mod, struct tensor *x)
{
    struct dev   *d = m->d;
    size_t        mark = dev_mark(d);
    int64_t       n = tensor_rows(x);
    struct tensor h = dev_new2(d, x->type, n, m->conf.dim);
    struct tensor g = dev_new2(d, x->type, n, m->conf.ffn), up = dev_new2(d, x->type, n, m->conf.ffn);

    op_rms_norm(d, &h, x, &b->ffn_norm1, m->conf.norm_eps);
    if (b->modulated) op_scale_rows(d, &h, &mod->scale_ffn);
    op_linear(d, &g, &h, &b->w1, NULL);
    op_linear(d, &up, &h, &b->w3, NULL);
    op_swiglu(d, &g, &up); /* g = silu(g) * up */
    op_linear(d, &h, &g, &b->w2, NULL);
    op_rms_norm(d, &h, &h, &b->ffn_norm2, m->conf.norm_eps);
    if (b->modulated)
        op_gate_add(d, x, &mod->gate_ffn, &h);
    else
        op_add(d, x, &h);
    dev_reset(d, mark);
}

/* c: time embedding [1, adaln_dim], NULL for blocks that are not modulated. */
static void block(struct dit *m, const struct dit_block *b, const struct tensor *c, struct tensor *x, const struct tensor *cs,
                  const struct tensor *sn)
{
    size_t     mark = dev_mark(m->d);
    struct mod mod = {0};
    assert(b->modulated == (c != NULL));
    if (c) modulation(m, b, c, &mod);
    attention(m, b, &mod, x, cs, sn);
    ffn(m, b, &mod, x);
    dev_reset(m->d, mark);
}

/* pred = unpatchify(linear(layer_norm(x) * (1 + linear(silu(c))))), of the first n_img tokens */
static void final_layer(struct dit *m, const struct tensor *c, const struct tensor *x, struct tensor *pred)
{
    struct dev   *d = m->d;
    size_t        mark = dev_mark(d);
    int64_t       n = tensor_rows(x), patch = (int64_t)m->conf.patch * m->conf.patch * m->conf.channels;
    struct tensor s = dev_new2(d, d->act_type, 1, m->conf.adaln_dim), scale = dev_new2(d, d->act_type, 1, m->conf.dim);
    struct tensor scale32 = dev_new2(d, DTYPE_F32, 1, m->conf.dim);
    struct tensor h = dev_new2(d, d->act_type, n, m->conf.dim), y = dev_new2(d, d->act_type, n, patch);

    op_copy(d, &s, c);
    op_silu(d, &s);
    op_linear(d, &scale, &s, &m->final_mod_w, &m->final_mod_b);
    op_copy(d, &scale32, &scale);
    op_layer_norm(d, &h, x, DIT_FINAL_EPS);
    op_scale_rows(d, &h, &scale32);
    op_linear(d, &y, &h, &m->final_w, &m->final_b);
    op_unpatchify(d, pred, &y, m->conf.patch);
    dev_reset(d, mark);
}

/* ---- the two runs ---- */

void dit_caption(struct dit *m, const struct tensor *raw, const struct dit_rope *r, struct tensor *out)
{
    assert(r->n_img == 0 && tensor_rows(raw) == r->n_cap && tensor_rows(out) == r->n_cap_padded);
    dit_embed_caption(m, raw, out);
    for (int i = 0; i < m->conf.n_refiners; i++) block(m, &m->context[i], NULL, out, &r->cos, &r->sin);
}

void dit_step(struct dit *m, const struct tensor *z, float t, const struct tensor *cap, const struct dit_rope *r, struct tensor *pred)
{
    struct dev   *d = m->d;
    size_t        mark = dev_mark(d);
    int64_t       n_img = r->n_img_padded, n = n_img + r->n_cap_padded;
    struct tensor c = dev_new2(d, d->act_type, 1, m->conf.adaln_dim), x = dev_new2(d, d->act_type, n, m->conf.dim);
    struct tensor image = tensor_slice(&x, 0, n_img), caption = tensor_slice(&x, n_img, r->n_cap_padded);
    struct tensor img_cs = tensor_slice(&r->cos, 0, n_img), img_sn = tensor_slice(&r->sin, 0, n_img);
    struct tensor tokens = tensor_slice(&x, 0, r->n_img);

    dit_embed_time(m, t, &c);
    dit_embed_image(m, z, &image);
    for (int i = 0; i < m->conf.n_refiners; i++) block(m, &m->noise[i], &c, &image, &img_cs, &img_sn);
    op_copy(d, &caption, cap);
    for (int i = 0; i < m->conf.n_layers; i++) block(m, &m->main[i], &c, &x, &r->cos, &r->sin);
    final_layer(m, &c, &tokens, pred);
    dev_reset(d, mark);
}
