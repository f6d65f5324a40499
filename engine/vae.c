/* vae.c - see vae.h. Activations [h, w, c]. The stream of values lives in one of two buffers, the other is for the middle of a resnet; an
 * upsampling changes their roles. What a convolution reads, normalised, is made a strip of rows at a time (V1).
 * The decoder's channels: conf.channels from the last level to the first; up block i works at channels[n_levels - 1 - i].
 * Invariants: V1 a strip's rows are those of the whole picture: statistics are the whole picture's, and it carries one row above and one below.
 *             V2 the height of strips depends on the shape alone, never on free memory.
 * Not here: a convolution's own way through a strip (kernels). */
#include "engine/vae.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "kernels/fold.h"
#include "kernels/ops.h"

#define NORM_EPS    1e-6f
#define STRIP_STEP  8 /* rows: kernels that work in tiles of lines find them where they are in the whole picture */
#define STRIP_BYTES ((size_t)256 << 20)

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
    struct tensor   up_w[VAE_LEVELS_MAX], up_b[VAE_LEVELS_MAX];               /* after all but the last level: [4*c,c,2,2], [c] */
    size_t          strip_bytes;
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

/* The convolution behind an upsampling, folded. */
static void load_up(struct loader *l, struct vae *v, int level, int c)
{
    struct tensor host, folded = {.type = DTYPE_F32, .rank = 4, .dim = {4 * c, c, 2, 2}, .pitch = 4 * c};
    char          name[80];
    bool          fresh;

    if (l->rc) return;
    snprintf(name, sizeof name, "decoder.up_blocks.%d.upsamplers.0.conv.weight", level);
    if ((l->rc = weights_get(l->w, name, 4, (int64_t[]){c, c, 3, 3}, &host, l->e))) return;
    folded.data = weights_room(l->w, name, (size_t)tensor_count(&folded) * sizeof(float), &fresh);
    if (!folded.data || (fresh && conv_up2x_fold(folded.data, &host))) {
        l->rc = err_set(l->e, ERR_NOMEM, "no memory for the VAE's upsampling");
        return;
    }
    if (!(l->rc = dev_weight(l->d, &folded, &v->up_w[level], l->e))) weights_taken(l->w, l->d, &host);
    load1(l, &v->up_b[level], c, "decoder.up_blocks.%d.upsamplers.0.conv.bias", level);
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
        load_up(&l, v, i, co);
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
    v->strip_bytes = STRIP_BYTES;
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

void vae_strips(struct vae *v, size_t bytes)
{
    v->strip_bytes = bytes;
}

/* ---- decode ---- */

struct room {
    struct tensor buf[2]; /* flat */
    int           at;     /* which holds the stream */
    int64_t       h, w;
};

/* The first values of the stream's buffer, or of the other, as [h, w, channels]. */
static struct tensor as(const struct room *r, bool stream, int64_t channels)
{
    struct tensor t = tensor_slice(&r->buf[stream ? r->at : 1 - r->at], 0, r->h * r->w * channels);
    return tensor_view(&t, 3, (int64_t[]){r->h, r->w, channels});
}

static int64_t max64(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

/* Each buffer as large as its largest tenant. */
static struct room make_room(struct vae *v, int64_t h, int64_t w)
{
    const struct vae_conf *c = &v->conf;
    struct room            r = {.h = h, .w = w};
    int64_t                top = up_channels(c, 0), cells = h * w, size[2];
    int                    at = 0;

    size[0] = size[1] = cells * max64(top, c->latent_channels);
    for (int i = 0; i < c->n_levels; i++) {
        int64_t co = up_channels(c, i), ci = i ? up_channels(c, i - 1) : top;
        size[at] = max64(size[at], cells * max64(ci, co));
        size[1 - at] = max64(size[1 - at], cells * co);
        if (i == c->n_levels - 1) break;
        cells *= 4;
        at = 1 - at;
        size[at] = max64(size[at], cells * co);
    }
    for (int i = 0; i < 2; i++) r.buf[i] = dev_new1(v->d, v->d->act_type, size[i]);
    return r;
}

/* A 3x3 convolution of the normalised x, and what is added to it: add (NULL: nothing), or the 1x1 convolution of the rows of from. */
struct normed {
    const struct tensor *x, *stats, *w, *b, *add;
    const struct tensor *from, *short_w, *short_b;
};

/* Rows of a strip of which a row and what goes with it has row_bytes, with the two rows around it. Whole multiples of STRIP_STEP. */
static int64_t strip_rows(const struct vae *v, int64_t h, size_t row_bytes)
{
    int64_t most = ((int64_t)(v->strip_bytes / row_bytes) - 2) / STRIP_STEP, steps = (h + STRIP_STEP - 1) / STRIP_STEP, n;

    if (most < 1) most = 1;
    n = (steps + most - 1) / most;
    return (steps + n - 1) / n * STRIP_STEP;
}

/* y may lie where from lies: strips go the way in which what is written has been read. */
static void normed_conv(struct vae *v, struct tensor *y, const struct normed *j)
{
    struct dev *d = v->d;
    int64_t     h = y->dim[0], w = y->dim[1], ci = j->x->dim[2], co = y->dim[2];
    int64_t     rows = strip_rows(v, h, (size_t)(w * (ci + (j->from ? co : 0))) * dtype_bytes(d->act_type)), n = (h + rows - 1) / rows;
    bool        up = j->from && j->from->dim[2] < co;

    for (int64_t k = 0; k < n; k++) {
        int64_t       first = (up ? n - 1 - k : k) * rows, here = h - first < rows ? h - first : rows;
        size_t        mark = dev_mark(d);
        struct tensor t = dev_new3(d, d->act_type, here + 2, w, ci), out = tensor_slice(y, first, here), add;

        op_group_apply(d, &t, j->x, j->stats, first - 1, ACT_SILU);
        if (j->from) {
            struct tensor rows_of = tensor_slice(j->from, first, here);
            add = dev_new3(d, d->act_type, here, w, co);
            op_conv2d(d, &add, &rows_of, j->short_w, j->short_b, NULL);
        } else if (j->add) {
            add = tensor_slice(j->add, first, here);
        }
        op_conv2d(d, &out, &t, j->w, j->b, j->from || j->add ? &add : NULL);
        dev_reset(d, mark);
    }
}

/* stream = conv2(silu(norm2(conv1(silu(norm1(stream)))))) + shortcut(stream) */
static void resnet(struct vae *v, const struct resnet *n, struct room *r)
{
    struct dev   *d = v->d;
    size_t        mark = dev_mark(d);
    struct tensor x = as(r, true, n->ci), m = as(r, false, n->co), y = as(r, true, n->co);
    struct tensor stats1 = dev_new2(d, DTYPE_F32, 3, n->ci), stats2 = dev_new2(d, DTYPE_F32, 3, n->co);
    struct normed one = {.x = &x, .stats = &stats1, .w = &n->conv1_w, .b = &n->conv1_b};
    struct normed two = {.x = &m, .stats = &stats2, .w = &n->conv2_w, .b = &n->conv2_b, .add = &y};

    if (n->has_short) {
        two.add = NULL;
        two.from = &x, two.short_w = &n->short_w, two.short_b = &n->short_b;
    }
    op_group_stats(d, &stats1, &x, &n->norm1_w, &n->norm1_b, v->conf.n_groups, NORM_EPS);
    normed_conv(v, &m, &one);
    op_group_stats(d, &stats2, &m, &n->norm2_w, &n->norm2_b, v->conf.n_groups, NORM_EPS);
    normed_conv(v, &y, &two);
    dev_reset(d, mark);
}

/* stream += out(attention(q, k, v of norm(stream))), one head over all cells */
static void mid_attention(struct vae *v, struct room *r, int64_t c)
{
    struct dev   *d = v->d;
    size_t        mark = dev_mark(d);
    int64_t       n = r->h * r->w, flat[2] = {n, c};
    struct tensor x = as(r, true, c), t = as(r, false, c), stats = dev_new2(d, DTYPE_F32, 3, c);
    struct tensor x2 = tensor_view(&x, 2, flat), t2 = tensor_view(&t, 2, flat), y = dev_new2(d, d->act_type, n, c);
    struct tensor q = dev_new2(d, d->act_type, n, c), k = dev_new2(d, d->act_type, n, c), u = dev_new2(d, d->act_type, n, c);
    struct tensor qh = tensor_heads(&q, 1), kh = tensor_heads(&k, 1), uh = tensor_heads(&u, 1), yh = tensor_heads(&y, 1);

    op_group_stats(d, &stats, &x, &v->attn_norm_w, &v->attn_norm_b, v->conf.n_groups, NORM_EPS);
    op_group_apply(d, &t, &x, &stats, 0, ACT_NONE);
    op_linear(d, &q, &t2, &v->wq, &v->bq);
    op_linear(d, &k, &t2, &v->wk, &v->bk);
    op_linear(d, &u, &t2, &v->wv, &v->bv);
    op_attention(d, &yh, &qh, &kh, &uh, (float)(1 / sqrt((double)c)), false);
    op_linear(d, &t2, &y, &v->wo, &v->bo);
    op_add(d, &x2, &t2);
    dev_reset(d, mark);
}

/* stream = conv(nearest x2 of stream) */
static void upsample(struct vae *v, int level, struct room *r)
{
    int64_t       c = up_channels(&v->conf, level);
    struct tensor x = as(r, true, c);

    r->h *= 2;
    r->w *= 2;
    r->at = 1 - r->at;
    struct tensor y = as(r, true, c);
    op_conv_up2x(v->d, &y, &x, &v->up_w[level], &v->up_b[level]);
}

/* z, unscaled, through the first convolutions into the stream. */
static void first_convs(struct vae *v, const struct tensor *z, struct room *r)
{
    const struct vae_conf *c = &v->conf;
    struct dev            *d = v->d;
    struct tensor          x = as(r, false, c->latent_channels), y = as(r, true, up_channels(c, 0));

    if (c->post_quant) {
        struct tensor first = as(r, true, c->latent_channels);
        op_to_nhwc(d, &first, z, 1.0f / c->scaling, c->shift);
        op_conv2d(d, &x, &first, &v->post_w, &v->post_b, NULL);
    } else {
        op_to_nhwc(d, &x, z, 1.0f / c->scaling, c->shift);
    }
    op_conv2d(d, &y, &x, &v->in_w, &v->in_b, NULL);
}

/* The picture in F32: rounding it to 16 bits would cost half a level of its bytes. Pixels are clamped, and a NaN would become black: so the
 * values are looked at before. */
static bool last_conv(struct vae *v, struct tensor *rgb, const struct room *r)
{
    struct dev   *d = v->d;
    struct tensor x = as(r, true, v->conf.channels[0]), out = dev_new3(d, DTYPE_F32, r->h, r->w, 3);
    struct tensor stats = dev_new2(d, DTYPE_F32, 3, v->conf.channels[0]);
    struct normed last = {.x = &x, .stats = &stats, .w = &v->out_w, .b = &v->out_b};

    op_group_stats(d, &stats, &x, &v->out_norm_w, &v->out_norm_b, v->conf.n_groups, NORM_EPS);
    normed_conv(v, &out, &last);
    op_to_rgb8(d, rgb, &out);
    return op_all_finite(d, &out);
}

bool vae_decode(struct vae *v, const struct tensor *z, struct tensor *rgb)
{
    const struct vae_conf *c = &v->conf;
    struct dev            *d = v->d;
    size_t                 mark = dev_mark(d);
    struct room            r = make_room(v, z->dim[1], z->dim[2]);

    assert(z->dim[0] == c->latent_channels && rgb->dim[0] == z->dim[1] * vae_scale(c) && rgb->dim[1] == z->dim[2] * vae_scale(c));
    first_convs(v, z, &r);
    resnet(v, &v->mid[0], &r);
    mid_attention(v, &r, up_channels(c, 0));
    resnet(v, &v->mid[1], &r);
    for (int i = 0; i < c->n_levels; i++) {
        for (int k = 0; k <= c->layers_per_block; k++) resnet(v, up_resnet(v, i, k), &r);
        if (i < c->n_levels - 1) upsample(v, i, &r);
    }
    bool ok = last_conv(v, rgb, &r);
    dev_reset(d, mark);
    return ok;
}
