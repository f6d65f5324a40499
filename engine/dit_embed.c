/* dit_embed.c - inputs of the denoiser as tokens: patches, caption, time.
 * Not here: where each token stands (dit_rope.c), the blocks (dit.c). */
#include <assert.h>

#include "engine/dit.h"
#include "kernels/ops.h"

void dit_embed_time(struct dit *m, const float *t, int64_t n, struct tensor *c)
{
    struct dev   *d = m->d;
    size_t        mark = dev_mark(d);
    struct tensor wave = dev_new2(d, d->act_type, n, DIT_TIME_DIM), h = dev_new2(d, d->act_type, n, DIT_TIME_HIDDEN);

    for (int64_t i = 0; i < n; i++) {
        struct tensor row = tensor_slice(&wave, i, 1);
        op_time_embed(d, &row, d->measuring ? 0 : t[i] * m->conf.t_scale);
    }
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
