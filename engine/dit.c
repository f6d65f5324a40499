/* dit.c - the denoiser's blocks: weights, modulations, one block, the refiners, the main layers, the final layer. See dit.h.
 * n tokens of dim; the equation stands above each function.
 * Not here: tokens (dit_embed.c) and positions (dit_rope.c). */
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
    joined_load(l, &b->qkv, dim, p, (struct joined_part[]){{"attention.to_q", dim}, {"attention.to_k", dim}, {"attention.to_v", dim}}, 3);
    load2(l, &b->wo, dim, dim, "%s.attention.to_out.0.weight", p);
    load1(l, &b->norm_q, c->head_dim, "%s.attention.norm_q.weight", p);
    load1(l, &b->norm_k, c->head_dim, "%s.attention.norm_k.weight", p);
    joined_load(l, &b->w13, dim, p, (struct joined_part[]){{"feed_forward.w1", c->ffn}, {"feed_forward.w3", c->ffn}}, 2);
    load2(l, &b->w2, dim, c->ffn, "%s.feed_forward.w2.weight", p);
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
    dev_forget(m->d); /* what was recorded uses these weights and tables */
    dit_ropes_free(m);
    free(m->noise);
    free(m);
}

/* ---- modulations ---- */

/* Modulated blocks in the order of their modulations: refiners, then main layers. */
static const struct dit_block *modulated(const struct dit *m, int64_t i)
{
    return i < m->conf.n_refiners ? &m->noise[i] : &m->main[i - m->conf.n_refiners];
}

static int64_t n_modulated(const struct dit_conf *c)
{
    return c->n_refiners + c->n_layers;
}

int64_t dit_mod_cols(const struct dit_conf *c)
{
    return (4 * n_modulated(c) + 1) * c->dim;
}

/* mod = mod_w c + mod_b per block, no SiLU, gates through tanh; the final scale = final_mod_w silu(c) + final_mod_b. In F32 throughout. */
void dit_modulate(struct dit *m, const float *t, int64_t n, struct tensor *mods)
{
    struct dev   *d = m->d;
    size_t        mark = dev_mark(d);
    int64_t       dim = m->conf.dim, blocks = n_modulated(&m->conf);
    struct tensor c = dev_new2(d, d->act_type, n, m->conf.adaln_dim);

    dit_embed_time(m, t, n, &c);
    for (int64_t i = 0; i < blocks; i++) {
        struct tensor y = tensor_cols_of(mods, 4 * dim * i, 4 * dim);
        op_linear(d, &y, &c, &modulated(m, i)->mod_w, &modulated(m, i)->mod_b);
    }
    for (int64_t i = 0; i < n; i++) {
        struct tensor row = tensor_slice(mods, i, 1), all = tensor_cols_of(&row, 0, 4 * dim * blocks);
        struct tensor pairs = tensor_view(&all, 2, (int64_t[]){2 * blocks, 2 * dim}), gates = tensor_cols_of(&pairs, dim, dim);
        op_tanh(d, &gates);
    }
    struct tensor last = tensor_cols_of(mods, 4 * dim * blocks, dim);
    op_silu(d, &c);
    op_linear(d, &last, &c, &m->final_mod_w, &m->final_mod_b);
    dev_reset(d, mark);
}

struct mod { /* F32 [1, dim] each */
    struct tensor scale_attn, gate_attn, scale_ffn, gate_ffn;
};

/* Block i's part of one row of modulations. */
static struct mod mod_of(const struct dit *m, const struct tensor *row, int64_t i)
{
    struct tensor all = tensor_view(row, 2, (int64_t[]){tensor_count(row) / m->conf.dim, m->conf.dim});
    return (struct mod){tensor_slice(&all, 4 * i, 1), tensor_slice(&all, 4 * i + 1, 1), tensor_slice(&all, 4 * i + 2, 1), tensor_slice(&all, 4 * i + 3, 1)};
}

/* ---- a block ---- */

/* What runs through a chain of blocks. h is what the next product takes: the norm of x, modulated. */
struct run {
    struct dit          *m;
    const struct tensor *mod; /* one row; NULL: the blocks are not modulated */
    struct tensor        x, h, cos, sin; /* [n, dim] [n, dim] F32 [n, head_dim/2] */
};

/* x += gate * norm(h, wy); h = norm(x, wh) * (1 + scale). wh NULL: no block follows. */
static void add_and_norm(struct run *r, const struct tensor *wy, const struct tensor *gate, const struct tensor *wh, const struct tensor *scale)
{
    struct add_norm how = {.wy = wy, .gate = gate, .wh = wh, .scale = scale, .eps = r->m->conf.norm_eps};
    op_add_norm(r->m->d, &r->x, wh ? &r->h : NULL, wy ? &r->h : NULL, &how);
}

/* h = wo attention(rope(norm(q)), rope(norm(k)), v), q k v of h */
static void attention(struct run *r, const struct dit_block *b)
{
    struct dev   *d = r->m->d;
    size_t        mark = dev_mark(d);
    int64_t       n = tensor_rows(&r->x), dim = r->m->conf.dim, heads = r->m->conf.n_heads;
    struct tensor qkv = dev_new2(d, r->x.type, n, 3 * dim), a = dev_new2(d, r->x.type, n, dim);
    struct tensor q = tensor_cols_of(&qkv, 0, dim), k = tensor_cols_of(&qkv, dim, dim), v = tensor_cols_of(&qkv, 2 * dim, dim);
    struct tensor qk = tensor_cols_of(&qkv, 0, 2 * dim), qkh = tensor_heads(&qk, 2 * heads);
    struct tensor qh = tensor_heads(&q, heads), kh = tensor_heads(&k, heads), vh = tensor_heads(&v, heads), ah = tensor_heads(&a, heads);

    joined_linear(d, &qkv, &r->h, &b->qkv);
    op_norm_rope(d, &qkh, &(struct norm_rope){heads, &b->norm_q, &b->norm_k, DIT_QK_EPS, ROPE_PAIRS, &r->cos, &r->sin});
    op_attention(d, &ah, &qh, &kh, &vh, (float)(1 / sqrt((double)r->m->conf.head_dim)), false);
    op_linear(d, &r->h, &a, &b->wo, NULL);
    dev_reset(d, mark);
}

/* h = w2 (silu(w1 h) * w3 h) */
static void ffn(struct run *r, const struct dit_block *b)
{
    struct dev   *d = r->m->d;
    size_t        mark = dev_mark(d);
    int64_t       width = r->m->conf.ffn;
    struct tensor both = dev_new2(d, r->x.type, tensor_rows(&r->x), 2 * width);
    struct tensor g = tensor_cols_of(&both, 0, width);

    joined_linear_swiglu(d, &both, &r->h, &b->w13);
    op_linear(d, &r->h, &g, &b->w2, NULL);
    dev_reset(d, mark);
}

/* n blocks, the first of which has modulation i: x += gate * norm2(attention(norm1(x) * (1 + scale))), then the same with ffn.
 * Blocks that are not modulated have neither scale nor gate. */
static void blocks(struct run *r, const struct dit_block *b, int n, int64_t i)
{
    for (int k = 0; k < n; k++) {
        bool              more = k + 1 < n;
        struct mod        mod = {0}, next = {0};
        const struct mod *on = r->mod ? &mod : NULL, *then = r->mod && more ? &next : NULL;

        assert(b[k].modulated == (r->mod != NULL));
        if (on) mod = mod_of(r->m, r->mod, i + k);
        if (then) next = mod_of(r->m, r->mod, i + k + 1);
        if (k == 0) add_and_norm(r, NULL, NULL, &b[k].attn_norm1, on ? &on->scale_attn : NULL);
        attention(r, &b[k]);
        add_and_norm(r, &b[k].attn_norm2, on ? &on->gate_attn : NULL, &b[k].ffn_norm1, on ? &on->scale_ffn : NULL);
        ffn(r, &b[k]);
        add_and_norm(r, &b[k].ffn_norm2, on ? &on->gate_ffn : NULL, more ? &b[k + 1].attn_norm1 : NULL, then ? &then->scale_attn : NULL);
    }
}

/* pred = unpatchify(linear(layer_norm(x) * (1 + scale))), of the first n_img tokens */
static void final_layer(struct dit *m, const struct tensor *mod, const struct tensor *x, struct tensor *pred)
{
    struct dev   *d = m->d;
    size_t        mark = dev_mark(d);
    int64_t       n = tensor_rows(x), patch = (int64_t)m->conf.patch * m->conf.patch * m->conf.channels;
    struct tensor scale = tensor_cols_of(mod, 4 * m->conf.dim * n_modulated(&m->conf), m->conf.dim);
    struct tensor h = dev_new2(d, d->act_type, n, m->conf.dim), y = dev_new2(d, d->act_type, n, patch);

    op_layer_norm(d, &h, x, DIT_FINAL_EPS);
    op_scale_rows(d, &h, &scale);
    op_linear(d, &y, &h, &m->final_w, &m->final_b);
    op_unpatchify(d, pred, &y, m->conf.patch);
    dev_reset(d, mark);
}

/* ---- the two runs ---- */

void dit_caption(struct dit *m, const struct tensor *raw, const struct dit_rope *rope, struct tensor *out)
{
    struct dev *d = m->d;
    size_t      mark = dev_mark(d);
    struct run  r = {m, NULL, *out, dev_new2(d, out->type, tensor_rows(out), m->conf.dim), rope->cos, rope->sin};

    assert(rope->n_img == 0 && dit_padded(tensor_rows(raw)) == rope->n_cap_padded && tensor_rows(out) == rope->n_cap_padded);
    dit_embed_caption(m, raw, out);
    blocks(&r, m->context, m->conf.n_refiners, 0);
    dev_reset(d, mark);
}

struct pass { /* no gaps: its bytes are the key of its record */
    struct dit   *m;
    void         *z, *mod, *pred, *cos, *sin;
    int64_t       h, w, n_img, n_img_padded, n_cap_padded;
};

struct pass_args {
    struct dit            *m;
    const struct tensor   *z, *mod;
    const struct dit_rope *rope;
    struct tensor         *x, *pred;
};

static void run_pass(void *ctx)
{
    struct pass_args *p = ctx;
    struct dit       *m = p->m;
    struct dev       *d = m->d;
    size_t            mark = dev_mark(d);
    int64_t           n_img = p->rope->n_img_padded;
    struct tensor     h = dev_new2(d, d->act_type, tensor_rows(p->x), m->conf.dim), tokens = tensor_slice(p->x, 0, p->rope->n_img);
    struct run        all = {m, p->mod, *p->x, h, p->rope->cos, p->rope->sin}, image = all;

    image.x = tensor_slice(&all.x, 0, n_img);
    image.h = tensor_slice(&all.h, 0, n_img);
    image.cos = tensor_slice(&all.cos, 0, n_img);
    image.sin = tensor_slice(&all.sin, 0, n_img);
    dit_embed_image(m, p->z, &image.x);
    blocks(&image, m->noise, m->conf.n_refiners, 0);
    blocks(&all, m->main, m->conf.n_layers, m->conf.n_refiners);
    final_layer(m, p->mod, &tokens, p->pred);
    dev_reset(d, mark);
}

void dit_step(struct dit *m, const struct tensor *z, const struct tensor *mod, const struct tensor *cap, const struct dit_rope *r, struct tensor *pred)
{
    struct dev      *d = m->d;
    size_t           mark = dev_mark(d);
    struct tensor    x = dev_new2(d, d->act_type, r->n_img_padded + r->n_cap_padded, m->conf.dim);
    struct tensor    caption = tensor_slice(&x, r->n_img_padded, r->n_cap_padded);
    struct pass_args args = {m, z, mod, r, &x, pred};
    struct pass      key = {m, z->data, mod->data, pred->data, r->cos.data, r->sin.data, z->dim[1], z->dim[2], r->n_img, r->n_img_padded, r->n_cap_padded};

    op_copy(d, &caption, cap); /* may lie elsewhere the next time */
    dev_repeat(d, &key, sizeof key, run_pass, &args);
    dev_reset(d, mark);
}
