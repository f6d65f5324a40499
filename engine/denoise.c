/* denoise.c - see denoise.h. One synchronisation per pass: where errors, cancelling and progress are looked at. */
#include "engine/denoise.h"

#include <math.h>

#include "engine/stamps.h"
#include "kernels/ops.h"

static struct tensor like(struct dev *d, const struct tensor *z)
{
    return dev_new3(d, DTYPE_F32, z->dim[0], z->dim[1], z->dim[2]);
}

/* diffusers switches truncation off when cfg_truncation > 1; t never exceeds 1, so the comparison alone says the same. */
static bool guided(const struct denoise *n, int i)
{
    return n->gen->guidance > 0 && n->t[i] <= n->gen->cfg_trunc;
}

/* pred becomes the guided prediction; returns the factor that it must still be multiplied by (cfg normalisation). */
static float guide(const struct denoise *n, const struct tensor *z, float t, struct tensor *pred)
{
    struct dev   *d = n->m->d;
    size_t        mark = dev_mark(d);
    struct tensor neg = like(d, z), diff = like(d, z);
    float         factor = 1;

    dit_step(n->m, z, t, n->neg.caption, n->neg.rope, &neg);
    op_copy(d, &diff, pred);
    op_axpy(d, &diff, -1.0f, &neg); /* pos - neg */
    double pos_norm = n->gen->cfg_norm > 0 ? sqrt(op_sum_squares(d, pred)) : 0;
    op_axpy(d, pred, n->gen->guidance, &diff);
    if (n->gen->cfg_norm > 0) {
        double norm = sqrt(op_sum_squares(d, pred)), most = pos_norm * (double)n->gen->cfg_norm;
        if (norm > most) factor = (float)(most / norm);
    }
    dev_reset(d, mark);
    return factor;
}

int denoise_run(const struct denoise *n, struct tensor *z, const struct gen_hooks *h, struct err *e)
{
    struct dev   *d = n->m->d;
    size_t        mark = dev_mark(d);
    struct tensor pred = like(d, z);
    int           rc = 0, n_steps = n->gen->n_steps;
    bool          finite = true;

    dev_stamp(d, STAMP_PASS);
    for (int i = 0; i < n_steps; i++) {
        float factor = 1;
        dit_step(n->m, z, n->t[i], n->pos.caption, n->pos.rope, &pred);
        if (guided(n, i) || (d->measuring && n->gen->guidance > 0)) factor = guide(n, z, n->t[i], &pred);
        op_axpy(d, z, -(n->sigma[i + 1] - n->sigma[i]) * factor, &pred); /* v = -pred */
        if (d->measuring) break;
        if (i < ENGINE_PASSES_TIMED) dev_stamp(d, STAMP_PASS + i + 1);
        finite = op_all_finite(d, z);
        if ((rc = dev_sync(d, e))) break;
        if (!finite) {
            rc = err_set(e, ERR_NAN, "the latents are not finite after pass %d of %d: the weights or the guidance are out of range", i + 1,
                         n_steps);
            break;
        }
        if (h && h->on_step && h->on_step(h->ctx, i + 1, n_steps)) {
            rc = err_set(e, ERR_CANCELED, "canceled after pass %d of %d", i + 1, n_steps);
            break;
        }
    }
    dev_reset(d, mark);
    return rc;
}
