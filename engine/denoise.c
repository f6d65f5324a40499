/* denoise.c - see denoise.h. One synchronisation per pass: where errors, cancelling and progress are looked at. */
#include "engine/denoise.h"

#include <math.h>

#include "engine/stamps.h"
#include "kernels/ops.h"

#define MODS 32 /* modulations of so many passes are made and kept at once: 2 MB each for the real model */

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
static float guide(const struct denoise *n, const struct tensor *z, const struct tensor *mod, struct tensor *pred)
{
    struct dev   *d = n->m->d;
    size_t        mark = dev_mark(d);
    struct tensor neg = like(d, z), diff = like(d, z);
    float         factor = 1;

    dit_step(n->m, z, mod, n->neg.caption, n->neg.rope, &neg);
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

/* The modulations of passes first .. first + MODS, or as many as there are left. */
static void modulate(const struct denoise *n, int first, struct tensor *mods)
{
    int           left = n->gen->n_steps - first, count = left < MODS ? left : MODS;
    struct tensor rows = tensor_slice(mods, 0, count);
    dit_modulate(n->m, n->m->d->measuring ? NULL : n->t + first, count, &rows);
}

int denoise_run(const struct denoise *n, struct tensor *z, const struct gen_hooks *h, struct err *e)
{
    struct dev   *d = n->m->d;
    size_t        mark = dev_mark(d);
    int           rc = 0, n_steps = n->gen->n_steps, n_mods = n_steps < MODS ? n_steps : MODS;
    int64_t       mod_cols = dit_mod_cols(&n->m->conf);
    struct tensor pred = like(d, z), mods = dev_new2(d, DTYPE_F32, n_mods, mod_cols), now = dev_new2(d, DTYPE_F32, 1, mod_cols);
    bool          finite = true;

    dev_stamp(d, STAMP_PASS);
    for (int i = 0; i < n_steps; i++) {
        float factor = 1;
        if (i % MODS == 0) modulate(n, i, &mods);
        struct tensor row = tensor_slice(&mods, i % MODS, 1);
        op_copy(d, &now, &row); /* every pass finds its numbers in one place */
        dit_step(n->m, z, &now, n->pos.caption, n->pos.rope, &pred);
        if (d->measuring ? n->gen->guidance > 0 : guided(n, i)) factor = guide(n, z, &now, &pred);
        if (d->measuring) break;
        op_axpy(d, z, -(n->sigma[i + 1] - n->sigma[i]) * factor, &pred); /* v = -pred */
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
