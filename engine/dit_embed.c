/* dit_embed.c - inputs of the denoiser as tokens: patches, caption, time, and where each token stands (rotary tables).
 * Positions (t, h, w): caption token i and its pads (1+i, 0, 0); patches (n_cap_padded+1, h, w); image pads (0, 0, 0).
 * Not here: the blocks (dit.c). */
#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "engine/dit.h"
#include "kernels/ops.h"

int64_t dit_padded(int64_t n_tok)
{
    return (n_tok + DIT_PAD_TOK - 1) / DIT_PAD_TOK * DIT_PAD_TOK;
}

int dit_check(const struct dit_conf *c, int64_t n_h, int64_t n_w, int64_t n_cap, struct err *e)
{
    if (dit_padded(n_cap) + 1 >= c->axes_lens[0])
        return err_set(e, ERR_LIMIT, "a prompt of %d ids: this model places at most %d", (int)n_cap,
                       (c->axes_lens[0] - 2) / DIT_PAD_TOK * DIT_PAD_TOK);
    if (n_h > c->axes_lens[1] || n_w > c->axes_lens[2])
        return err_set(e, ERR_LIMIT, "%d x %d patches: this model places at most %d x %d (width x height)", (int)n_w, (int)n_h,
                       c->axes_lens[2], c->axes_lens[1]);
    return 0;
}

/* Half a table for one axis: angle = fp32(position * theta^(-2k/d) in fp64). at: first pair of the axis in a row of `half` pairs. */
static void put_axis(float *cs, float *sn, int64_t at, int dim, double theta, int64_t position)
{
    for (int k = 0; k < dim / 2; k++) {
        float angle = (float)((double)position * (1.0 / pow(theta, (double)(2 * k) / dim)));
        cs[at + k] = (float)cos((double)angle);
        sn[at + k] = (float)sin((double)angle);
    }
}

static void put_row(const struct dit_conf *c, float *cs, float *sn, int64_t row, const int64_t position[3])
{
    int64_t at = row * (c->head_dim / 2);
    for (int axis = 0; axis < 3; axis++) {
        put_axis(cs, sn, at, c->axes_dims[axis], c->rope_theta, position[axis]);
        at += c->axes_dims[axis] / 2;
    }
}

static void put_rows(const struct dit_conf *c, const struct dit_rope *r, int64_t n_w, float *cs, float *sn)
{
    int64_t row = 0;
    for (int64_t i = 0; i < r->n_img; i++) put_row(c, cs, sn, row++, (int64_t[]){r->n_cap_padded + 1, i / n_w, i % n_w});
    while (row < r->n_img_padded) put_row(c, cs, sn, row++, (int64_t[]){0, 0, 0});
    for (int64_t i = 0; i < r->n_cap_padded; i++) put_row(c, cs, sn, row++, (int64_t[]){1 + i, 0, 0});
}

void dit_rope_shape(const struct dit *m, int64_t n_h, int64_t n_w, int64_t n_cap, struct dit_rope *out)
{
    struct dit_rope r = {.n_img = n_h * n_w, .n_cap = n_cap, .n_img_padded = dit_padded(n_h * n_w), .n_cap_padded = dit_padded(n_cap)};
    int64_t         half = m->conf.head_dim / 2;

    assert(n_h >= 0 && n_w >= 0 && n_cap > 0);
    r.cos = (struct tensor){.type = DTYPE_F32, .rank = 2, .dim = {r.n_img_padded + r.n_cap_padded, half}, .pitch = half, .dev = m->d};
    r.sin = r.cos;
    *out = r;
}

int dit_rope_open(struct dit *m, int64_t n_h, int64_t n_w, int64_t n_cap, struct dit_rope *out, struct err *e)
{
    struct dit_rope r = {0};
    float          *cs = NULL, *sn = NULL;
    int             rc;

    if ((rc = dit_check(&m->conf, n_h, n_w, n_cap, e))) return rc;
    dit_rope_shape(m, n_h, n_w, n_cap, &r);
    const int64_t dim[2] = {r.cos.dim[0], r.cos.dim[1]};
    size_t        bytes = (size_t)tensor_count(&r.cos) * sizeof *cs;
    cs = malloc(bytes);
    sn = malloc(bytes);
    if (!cs || !sn) {
        rc = err_set(e, ERR_NOMEM, "no memory for the rotary table of %d tokens", (int)dim[0]);
        goto done;
    }
    put_rows(&m->conf, &r, n_w, cs, sn);
    if ((rc = dev_alloc(m->d, DTYPE_F32, 2, dim, &r.cos, e)) || (rc = dev_alloc(m->d, DTYPE_F32, 2, dim, &r.sin, e))) goto done;
    if ((rc = dev_put(m->d, &r.cos, cs, bytes, e)) || (rc = dev_put(m->d, &r.sin, sn, bytes, e))) goto done;
    *out = r;
    r = (struct dit_rope){0};
done:
    dit_rope_free(m, &r);
    free(cs);
    free(sn);
    return rc;
}

void dit_rope_free(struct dit *m, struct dit_rope *r)
{
    dev_free(m->d, &r->cos);
    dev_free(m->d, &r->sin);
    memset(r, 0, sizeof *r);
}

void dit_embed_time(struct dit *m, float t, struct tensor *c)
{
    struct dev   *d = m->d;
    size_t        mark = dev_mark(d);
    struct tensor wave = dev_new2(d, d->act_type, 1, DIT_TIME_DIM), h = dev_new2(d, d->act_type, 1, DIT_TIME_HIDDEN);

    op_time_embed(d, &wave, t * m->conf.t_scale);
    op_linear(d, &h, &wave, &m->t1_w, &m->t1_b);
    op_silu(d, &h);
    op_linear(d, c, &h, &m->t2_w, &m->t2_b);
    dev_reset(d, mark);
}

void dit_embed_image(struct dit *m, const struct tensor *z, struct tensor *x)
{
    struct dev   *d = m->d;
    size_t        mark = dev_mark(d);
    int64_t       p = m->conf.patch, n = z->dim[1] / p * (z->dim[2] / p), n_padded = tensor_rows(x);
    struct tensor patches = dev_new2(d, d->act_type, n, p * p * m->conf.channels);
    struct tensor tokens = tensor_slice(x, 0, n), pads = tensor_slice(x, n, n_padded - n);

    op_patchify(d, &patches, z, (int)p);
    op_linear(d, &tokens, &patches, &m->x_w, &m->x_b);
    op_fill_rows(d, &pads, &m->x_pad);
    dev_reset(d, mark);
}

void dit_embed_caption(struct dit *m, const struct tensor *raw, struct tensor *x)
{
    struct dev   *d = m->d;
    size_t        mark = dev_mark(d);
    int64_t       n = tensor_rows(raw);
    struct tensor h = dev_new2(d, d->act_type, n, m->conf.cap_feat_dim);
    struct tensor tokens = tensor_slice(x, 0, n), pads = tensor_slice(x, n, tensor_rows(x) - n);

    op_rms_norm(d, &h, raw, &m->cap_norm, m->conf.norm_eps);
    op_linear(d, &tokens, &h, &m->cap_w, &m->cap_b);
    op_fill_rows(d, &pads, &m->cap_pad);
    dev_reset(d, mark);
}
