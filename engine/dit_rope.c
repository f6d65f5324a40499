/* dit_rope.c - where each token stands: rotary tables, made once per shape and kept.
 * Positions (t, h, w): caption token i and its pads (1+i, 0, 0); patches (n_cap_padded+1, h, w); image pads (0, 0, 0).
 * Invariants: a table in use (n_refs > 0) is never freed; one that is kept stays where it is.
 * Not here: the rotation (kernels/). */
#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "engine/dit.h"

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

/* Cosines and sines of one axis: positions 0 .. n_positions-1 by its pairs. */
struct axis {
    int    half;
    float *cs, *sn;
};

/* angle = fp32(position * theta^(-2k/d) in fp64) */
static int axis_open(struct axis *a, int dim, double theta, int64_t n_positions)
{
    size_t n = (size_t)(n_positions * (dim / 2));

    a->half = dim / 2;
    a->cs = malloc((n + 1) * sizeof *a->cs);
    a->sn = malloc((n + 1) * sizeof *a->sn);
    if (!a->cs || !a->sn) return ERR_NOMEM;
    for (int64_t p = 0; p < n_positions; p++)
        for (int k = 0; k < a->half; k++) {
            float angle = (float)((double)p * (1.0 / pow(theta, (double)(2 * k) / dim)));
            a->cs[p * a->half + k] = (float)cos((double)angle);
            a->sn[p * a->half + k] = (float)sin((double)angle);
        }
    return 0;
}

static void put_row(const struct axis axis[3], float *cs, float *sn, int64_t row, const int64_t position[3])
{
    int64_t at = row * (axis[0].half + axis[1].half + axis[2].half);
    for (int i = 0; i < 3; i++) {
        size_t bytes = (size_t)axis[i].half * sizeof *cs;
        memcpy(cs + at, axis[i].cs + position[i] * axis[i].half, bytes);
        memcpy(sn + at, axis[i].sn + position[i] * axis[i].half, bytes);
        at += axis[i].half;
    }
}

/* The whole table into cs and sn. */
static int put_rows(const struct dit_conf *c, const struct dit_rope *r, float *cs, float *sn)
{
    struct axis   axis[3] = {{0}};
    const int64_t n[3] = {r->n_cap_padded + 2, r->n_h + 1, r->n_w + 1};
    int64_t       row = 0;
    int           rc = 0;

    for (int i = 0; i < 3 && !rc; i++) rc = axis_open(&axis[i], c->axes_dims[i], c->rope_theta, n[i]);
    for (int64_t i = 0; i < r->n_img && !rc; i++) put_row(axis, cs, sn, row++, (int64_t[]){r->n_cap_padded + 1, i / r->n_w, i % r->n_w});
    while (row < r->n_img_padded && !rc) put_row(axis, cs, sn, row++, (int64_t[]){0, 0, 0});
    for (int64_t i = 0; i < r->n_cap_padded && !rc; i++) put_row(axis, cs, sn, row++, (int64_t[]){1 + i, 0, 0});
    for (int i = 0; i < 3; i++) {
        free(axis[i].cs);
        free(axis[i].sn);
    }
    return rc;
}

void dit_rope_shape(const struct dit *m, int64_t n_h, int64_t n_w, int64_t n_cap, struct dit_rope *out)
{
    struct dit_rope r = {.n_h = n_h, .n_w = n_w, .n_img = n_h * n_w, .n_img_padded = dit_padded(n_h * n_w), .n_cap_padded = dit_padded(n_cap)};
    int64_t         half = m->conf.head_dim / 2;

    assert(n_h >= 0 && n_w >= 0 && n_cap > 0);
    r.cos = (struct tensor){.type = DTYPE_F32, .rank = 2, .dim = {r.n_img_padded + r.n_cap_padded, half}, .pitch = half, .dev = m->d};
    r.sin = r.cos;
    *out = r;
}

static void table_free(struct dit *m, struct dit_rope *r)
{
    if (!r) return;
    dev_free(m->d, &r->cos);
    dev_free(m->d, &r->sin);
    free(r);
}

/* A table of r's shape. */
static int table_make(struct dit *m, const struct dit_rope *shape, struct dit_rope **out, struct err *e)
{
    const int64_t    dim[2] = {shape->cos.dim[0], shape->cos.dim[1]};
    size_t           bytes = (size_t)(dim[0] * dim[1]) * sizeof(float);
    struct dit_rope *r = calloc(1, sizeof *r);
    float           *cs = malloc(bytes), *sn = malloc(bytes);
    int              rc = 0;

    if (!r || !cs || !sn) {
        rc = err_set(e, ERR_NOMEM, "no memory for the rotary table of %d tokens", (int)dim[0]);
        goto done;
    }
    *r = *shape;
    if (put_rows(&m->conf, r, cs, sn)) {
        rc = err_set(e, ERR_NOMEM, "no memory for the rotary table of %d tokens", (int)dim[0]);
        goto done;
    }
    if ((rc = dev_alloc(m->d, DTYPE_F32, 2, dim, &r->cos, e)) || (rc = dev_alloc(m->d, DTYPE_F32, 2, dim, &r->sin, e))) goto done;
    if ((rc = dev_put(m->d, &r->cos, cs, bytes, e)) || (rc = dev_put(m->d, &r->sin, sn, bytes, e))) goto done;
    *out = r;
    r = NULL;
done:
    table_free(m, r);
    free(cs);
    free(sn);
    return rc;
}

/* The slot of a table that is not in use, the one used longest ago; NULL: all are. */
static struct dit_rope **slot_of(struct dit *m)
{
    struct dit_rope **best = NULL;

    for (int i = 0; i < DIT_ROPES; i++) {
        struct dit_rope **r = &m->rope[i];
        if (!*r) return r;
        if ((*r)->n_refs == 0 && (!best || (*r)->used < (*best)->used)) best = r;
    }
    return best;
}

int dit_rope_open(struct dit *m, int64_t n_h, int64_t n_w, int64_t n_cap, const struct dit_rope **out, struct err *e)
{
    struct dit_rope shape, **slot, *made = NULL;
    int             rc;

    if ((rc = dit_check(&m->conf, n_h, n_w, n_cap, e))) return rc;
    for (int i = 0; i < DIT_ROPES; i++) {
        struct dit_rope *r = m->rope[i];
        if (!r || r->n_h != n_h || r->n_w != n_w || r->n_cap_padded != dit_padded(n_cap)) continue;
        r->n_refs++;
        r->used = ++m->rope_now;
        *out = r;
        return 0;
    }
    dit_rope_shape(m, n_h, n_w, n_cap, &shape);
    slot = slot_of(m);
    assert(slot); /* a request holds two, a caller more than DIT_ROPES never */
    if ((rc = table_make(m, &shape, &made, e))) return rc;
    table_free(m, *slot);
    *slot = made;
    made->n_refs = 1;
    made->used = ++m->rope_now;
    *out = made;
    return 0;
}

void dit_rope_close(struct dit *m, const struct dit_rope *r)
{
    for (int i = 0; i < DIT_ROPES && r; i++)
        if (m->rope[i] == r) m->rope[i]->n_refs--;
}

void dit_ropes_free(struct dit *m)
{
    for (int i = 0; i < DIT_ROPES; i++) table_free(m, m->rope[i]);
}
