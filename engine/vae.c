/* vae.c - see vae.h. Activations [h, w, c]. The stream of values lives in buffer A; B and C are for the insides of a stage.
 * The decoder's channels: conf.channels from the last level to the first; up block i works at channels[n_levels - 1 - i].
 * Not here: nearest x2 + 3x3 as four 2x2 convolutions (exact, and faster: belongs to the kernels). */
#include "engine/vae.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "kernels/ops.h"

#define NORM_EPS 1e-6f

struct resnet {
    struct tensor norm1_w, norm1_b, conv1_w, conv1_b, norm2_w, norm2_b, conv2_w, conv2_b;
    struct tensor short_w, short_b; /* 1x1, when the channels change */
    bool          has_short;
    int           ci, co;
};

struct vae {
    struct vae_conf conf;
    struct dev     *d;
    struct tensor   post_w, post_b, in_w, in_b, out_norm_w, out_norm_b, out_w, out_b;
    struct resnet   mid[2];
    struct tensor   attn_norm_w, attn_norm_b, wq, bq, wk, bk, wv, bv, wo, bo; /* mid attention, one head */
    struct resnet  *up;                                                       /* [n_levels][layers_per_block + 1] */
    struct tensor   up_w[VAE_LEVELS_MAX], up_b[VAE_LEVELS_MAX];               /* after all but the last level */
};

int vae_scale(const struct vae_conf *conf)
{
    return 1 << (conf->n_levels - 1);
}

/* Channels of up block i. */
static int up_channels(const struct vae_conf *c, int i)
{
    return c->channels[c->n_levels - 1 - i];
}

static struct resnet *up_resnet(const struct vae *v, int level, int i)
{
    return &v->up[level * (v->conf.layers_per_block + 1) + i];
}

/* ---- weights ---- */

static void load_resnet(struct loader *l, struct resnet *r, int ci, int co, const char *p)
{
    r->ci = ci;
    r->co = co;
    r->has_short = ci != co;
    load1(l, &r->norm1_w, ci, "%s.norm1.weight", p);
    load1(l, &r->norm1_b, ci, "%s.norm1.bias", p);
    load_conv(l, &r->conv1_w, co, ci, 3, "%s.conv1.weight", p);
    load1(l, &r->conv1_b, co, "%s.conv1.bias", p);
    load1(l, &r->norm2_w, co, "%s.norm2.weight", p);
    load1(l, &r->norm2_b, co, "%s.norm2.bias", p);
    load_conv(l, &r->conv2_w, co, co, 3, "%s.conv2.weight", p);
    load1(l, &r->conv2_b, co, "%s.conv2.bias", p);
    if (!r->has_short) return;
    load_conv(l, &r->short_w, co, ci, 1, "%s.conv_shortcut.weight", p);
    load1(l, &r->short_b, co, "%s.conv_shortcut.bias", p);
}

/* One product of the mid attention. */
static void load_product(struct loader *l, struct tensor *w, struct tensor *b, int c, const char *name)
{
    static const char p[] = "decoder.mid_block.attentions.0";
    load2(l, w, c, c, "%s.%s.weight", p, name);
    load1(l, b, c, "%s.%s.bias", p, name);
}

static void load_mid(struct loader *l, struct vae *v, int c)
{
    load_resnet(l, &v->mid[0], c, c, "decoder.mid_block.resnets.0");
    load1(l, &v->attn_norm_w, c, "decoder.mid_block.attentions.0.group_norm.weight");
    load1(l, &v->attn_norm_b, c, "decoder.mid_block.attentions.0.group_norm.bias");
    load_product(l, &v->wq, &v->bq, c, "to_q");
    load_product(l, &v->wk, &v->bk, c, "to_k");
    load_product(l, &v->wv, &v->bv, c, "to_v");
    load_product(l, &v->wo, &v->bo, c, "to_out.0");
    load_resnet(l, &v->mid[1], c, c, "decoder.mid_block.resnets.1");
}

static int load_weights(struct vae *v, struct weights *w, struct err *e)
{
    const struct vae_conf *c = &v->conf;
    struct loader          l = {w, v->d, e, 0};
    int                    top = up_channels(c, 0), base = c->channels[0];
    char                   p[80];

    if (c->post_quant) {
        load_conv(&l, &v->post_w, c->latent_channels, c->latent_channels, 1, "post_quant_conv.weight");
        load1(&l, &v->post_b, c->latent_channels, "post_quant_conv.bias");
    }
    load_conv(&l, &v->in_w, top, c->latent_channels, 3, "decoder.conv_in.weight");
    load1(&l, &v->in_b, top, "decoder.conv_in.bias");
    load_mid(&l, v, top);
    for (int i = 0; i < c->n_levels; i++) {
        int co = up_channels(c, i), ci = i ? up_channels(c, i - 1) : top;
        for (int k = 0; k <= c->layers_per_block; k++) {
            snprintf(p, sizeof p, "decoder.up_blocks.%d.resnets.%d", i, k);
            load_resnet(&l, up_resnet(v, i, k), k ? co : ci, co, p);
        }
        if (i == c->n_levels - 1) break;
        load_conv(&l, &v->up_w[i], co, co, 3, "decoder.up_blocks.%d.upsamplers.0.conv.weight", i);
        load1(&l, &v->up_b[i], co, "decoder.up_blocks.%d.upsamplers.0.conv.bias", i);
    }
    load1(&l, &v->out_norm_w, base, "decoder.conv_norm_out.weight");
    load1(&l, &v->out_norm_b, base, "decoder.conv_norm_out.bias");
    load_conv(&l, &v->out_w, 3, base, 3, "decoder.conv_out.weight");
    load1(&l, &v->out_b, 3, "decoder.conv_out.bias");
    return l.rc;
}

int vae_open(struct vae **out, const struct vae_conf *conf, struct weights *w, struct dev *d, struct err *e)
{
    struct vae *v = calloc(1, sizeof *v);
    int         rc;

    if (!v) return err_set(e, ERR_NOMEM, "no memory for the VAE");
    v->conf = *conf;
    v->d = d;
    v->up = calloc((size_t)(conf->n_levels * (conf->layers_per_block + 1)), sizeof *v->up);
    if (!v->up) {
        rc = err_set(e, ERR_NOMEM, "no memory for the VAE");
        goto done;
    }
    if ((rc = load_weights(v, w, e))) goto done;
    *out = v;
    v = NULL;
done:
    vae_free(v);
    return rc;
}

void vae_free(struct vae *v)
{
    if (!v) return;
    free(v->up);
    free(v);
}

/* ---- decode ---- */

struct room {              /* three buffers and what lives in A */
    struct tensor a, b, c; /* flat */
    int64_t       h, w;
};

/* The first values of a buffer as [h, w, channels]. */
static struct tensor as(const struct room *r, const struct tensor *flat, int64_t channels)
{
    struct tensor t = tensor_slice(flat, 0, r->h * r->w * channels);
    return tensor_view(&t, 3, (int64_t[]){r->h, r->w, channels});
}

static int64_t max64(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

/* Largest tenants: A holds every stage's input and output, B normalised inputs and shortcuts, C the middle of a resnet. */
static struct room make_room(struct vae *v, int64_t h, int64_t w)
{
    const struct vae_conf *c = &v->conf;
    int64_t                top = up_channels(c, 0), cells = h * w, a = cells * max64(top, c->latent_channels), b = a, mid = cells * top;

    for (int i = 0; i < c->n_levels; i++) {
        int64_t co = up_channels(c, i), ci = i ? up_channels(c, i - 1) : top;
        a = max64(a, cells * max64(ci, co));
        b = max64(b, cells * max64(ci, co));
        mid = max64(mid, cells * co);
        if (i == c->n_levels - 1) break;
        cells *= 4;
        a = max64(a, cells * co);
        b = max64(b, cells * co);
    }
    b = max64(b, cells * max64(3, c->channels[0]));
    struct room r = {.h = h, .w = w};
    r.a = dev_new1(v->d, v->d->act_type, a);
    r.b = dev_new1(v->d, v->d->act_type, b);
    r.c = dev_new1(v->d, v->d->act_type, max64(mid, cells * 3));
    return r;
}

/* A = conv2(silu(norm2(conv1(silu(norm1(A)))))) + shortcut(A) */
static void resnet(struct vae *v, const struct resnet *n, struct room *r)
{
    struct dev   *d = v->d;
    struct tensor x = as(r, &r->a, n->ci), t = as(r, &r->b, n->ci), m = as(r, &r->c, n->co), y = as(r, &r->a, n->co);

    op_group_norm(d, &t, &x, &n->norm1_w, &n->norm1_b, v->conf.n_groups, NORM_EPS, ACT_SILU);
    op_conv2d(d, &m, &t, &n->conv1_w, &n->conv1_b, NULL);
    op_group_norm(d, &m, &m, &n->norm2_w, &n->norm2_b, v->conf.n_groups, NORM_EPS, ACT_SILU);
    if (n->has_short) {
        struct tensor s = as(r, &r->b, n->co);
        op_conv2d(d, &s, &x, &n->short_w, &n->short_b, NULL);
        op_conv2d(d, &y, &m, &n->conv2_w, &n->conv2_b, &s);
    } else {
        op_conv2d(d, &y, &m, &n->conv2_w, &n->conv2_b, &y);
    }
}

/* A += out(attention(q, k, v of norm(A))), one head over all cells */
static void mid_attention(struct vae *v, struct room *r, int64_t c)
{
    struct dev   *d = v->d;
    size_t        mark = dev_mark(d);
    int64_t       n = r->h * r->w, flat[2] = {n, c};
    struct tensor x = as(r, &r->a, c), t = as(r, &r->b, c), m = as(r, &r->c, c);
    struct tensor x2 = tensor_view(&x, 2, flat), t2 = tensor_view(&t, 2, flat), y2 = tensor_view(&m, 2, flat);
    struct tensor q = dev_new2(d, d->act_type, n, c), k = dev_new2(d, d->act_type, n, c), u = dev_new2(d, d->act_type, n, c);
    struct tensor qh = tensor_heads(&q, 1), kh = tensor_heads(&k, 1), uh = tensor_heads(&u, 1), yh = tensor_heads(&y2, 1);

    op_group_norm(d, &t, &x, &v->attn_norm_w, &v->attn_norm_b, v->conf.n_groups, NORM_EPS, ACT_NONE);
    op_linear(d, &q, &t2, &v->wq, &v->bq);
    op_linear(d, &k, &t2, &v->wk, &v->bk);
    op_linear(d, &u, &t2, &v->wv, &v->bv);
    op_attention(d, &yh, &qh, &kh, &uh, (float)(1 / sqrt((double)c)), false);
    op_linear(d, &t2, &y2, &v->wo, &v->bo);
    op_add(d, &x2, &t2);
    dev_reset(d, mark);
}

/* A = conv(nearest x2 of A) */
static void upsample(struct vae *v, int level, struct room *r)
{
    struct dev   *d = v->d;
    int64_t       c = up_channels(&v->conf, level);
    struct tensor x = as(r, &r->a, c);
    r->h *= 2;
    r->w *= 2;
    struct tensor big = as(r, &r->b, c), y = as(r, &r->a, c);
    op_upsample2x(d, &big, &x);
    op_conv2d(d, &y, &big, &v->up_w[level], &v->up_b[level], NULL);
}

/* Pixels are clamped, and a NaN would become black: so the values are looked at before. */
static bool all_finite(struct dev *d, const struct tensor *x)
{
    size_t mark = dev_mark(d);
    bool   ok;

    if (x->type == DTYPE_F32) return op_all_finite(d, x);
    struct tensor wide = dev_new3(d, DTYPE_F32, x->dim[0], x->dim[1], x->dim[2]);
    op_copy(d, &wide, x);
    ok = op_all_finite(d, &wide);
    dev_reset(d, mark);
    return ok;
}

bool vae_decode(struct vae *v, const struct tensor *z, struct tensor *rgb)
{
    const struct vae_conf *c = &v->conf;
    struct dev            *d = v->d;
    size_t                 mark = dev_mark(d);
    struct room            r = make_room(v, z->dim[1], z->dim[2]);
    int64_t                top = up_channels(c, 0);
    struct tensor          x = as(&r, &r.b, c->latent_channels), y = as(&r, &r.a, top);

    assert(z->dim[0] == c->latent_channels && rgb->dim[0] == z->dim[1] * vae_scale(c) && rgb->dim[1] == z->dim[2] * vae_scale(c));
    if (c->post_quant) {
        struct tensor first = as(&r, &r.a, c->latent_channels);
        op_to_nhwc(d, &first, z, 1.0f / c->scaling, c->shift);
        op_conv2d(d, &x, &first, &v->post_w, &v->post_b, NULL);
    } else {
        op_to_nhwc(d, &x, z, 1.0f / c->scaling, c->shift);
    }
    op_conv2d(d, &y, &x, &v->in_w, &v->in_b, NULL);
    resnet(v, &v->mid[0], &r);
    mid_attention(v, &r, top);
    resnet(v, &v->mid[1], &r);
    for (int i = 0; i < c->n_levels; i++) {
        for (int k = 0; k <= c->layers_per_block; k++) resnet(v, up_resnet(v, i, k), &r);
        if (i < c->n_levels - 1) upsample(v, i, &r);
    }
    x = as(&r, &r.a, c->channels[0]);
    y = as(&r, &r.b, c->channels[0]);
    struct tensor out = as(&r, &r.c, 3);
    op_group_norm(d, &y, &x, &v->out_norm_w, &v->out_norm_b, c->n_groups, NORM_EPS, ACT_SILU);
    op_conv2d(d, &out, &y, &v->out_w, &v->out_b, NULL);
    op_to_rgb8(d, rgb, &out);
    bool ok = all_finite(d, &out);
    dev_reset(d, mark);
    return ok;
}
