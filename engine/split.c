/* split.c - embeddings and latents between engines of one process that run different parts of one model: see engine.h.
 * Believes: a parcel comes from an engine of this process; shapes are checked all the same, before memory is taken for them.
 * Invariants: P1 what arrives are the sender's F32 values, bit for bit.  P2 no engine is touched by another's thread: what they share is the link.
 * Not here: how bytes travel (kernels/link.h), which rank does what when (worker/group.c). */
#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "engine/inside.h"
#include "engine/latent.h"
#include "engine/stamps.h"
#include "kernels/ops.h"

#define LATENT_WHAT 2 /* beside the enum engine_side */

_Static_assert(LINK_MARK_BYTES == SHA256_BYTES, "the mark of an embedding is its prompt's hash");

/* ---- the link ---- */

int engine_link(struct engine *const *g, int n, int64_t deadline_ms, struct err *e)
{
    struct dev  *dev[LINK_RANKS_MAX];
    struct link *l;
    int          rc;

    if (n < 1 || n > LINK_RANKS_MAX) return err_set(e, ERR_ARG, "%d ranks: 1 to %d can be linked", n, LINK_RANKS_MAX);
    for (int i = 0; i < n; i++) {
        dev[i] = g[i]->d;
        if (memcmp(g[i]->profile.digest, g[0]->profile.digest, SHA256_BYTES) != 0)
            return err_set(e, ERR_CONFLICT, "the ranks on %s and %s opened different models: a file changed meanwhile", g[0]->d->name, g[i]->d->name);
    }
    if ((rc = link_open(&l, dev, n, deadline_ms, e))) return rc;
    for (int i = 0; i < n; i++) {
        assert(!g[i]->link);
        g[i]->link = l;
        g[i]->rank = i;
    }
    return 0;
}

void engine_unlink(struct engine *const *g, int n)
{
    struct link *l = n > 0 ? g[0]->link : NULL;

    for (int i = 0; i < n; i++) g[i]->link = NULL;
    link_free(l);
}

const char *engine_link_about(const struct engine *g)
{
    return g->link ? link_about(g->link) : "";
}

void engine_link_fail(struct engine *g, const char *words)
{
    if (g->link) link_fail(g->link, words);
}

void engine_drop(struct engine *g, uint64_t ticket)
{
    if (g->link) link_drop(g->link, ticket);
}

/* ---- sending ---- */

/* Work space for one tensor F32. */
static int reserve_values(struct engine *g, int rank, const int64_t *dim, struct err *e)
{
    size_t bytes;
    int    rc;

    dev_measure_begin(g->d);
    (void)dev_new(g->d, DTYPE_F32, rank, dim);
    rc = dev_measure_end(g->d, &bytes, e);
    return rc ? rc : engine_reserve(g, bytes, e);
}

static int send_values(struct engine *g, const struct link_note *note, int rank, const int64_t *dim, const float *values, struct err *e)
{
    struct tensor t;
    int           rc, synced;

    if (!g->link) return err_set(e, ERR_STATE, "this engine is not linked to others");
    if ((rc = reserve_values(g, rank, dim, e))) return rc;
    t = dev_new(g->d, DTYPE_F32, rank, dim);
    if (!(rc = dev_put(g->d, &t, values, (size_t)tensor_count(&t) * sizeof *values, e))) rc = link_put(g->link, g->rank, note, &t, e);
    dev_reset(g->d, 0);
    synced = dev_sync(g->d, rc ? NULL : e);
    return rc ? rc : synced;
}

int engine_send(struct engine *g, const struct embed *p, uint64_t ticket, enum engine_side side, struct err *e)
{
    struct link_note note = {.ticket = ticket, .what = side};

    memcpy(note.mark, p->key, sizeof note.mark);
    return send_values(g, &note, 2, (int64_t[]){p->n_tok, p->n_feat}, p->raw, e);
}

int engine_send_latent(struct engine *g, const struct latent *z, uint64_t ticket, struct err *e)
{
    const struct link_note note = {.ticket = ticket, .what = LATENT_WHAT};

    return send_values(g, &note, 3, (int64_t[]){z->dim[0], z->dim[1], z->dim[2]}, z->values, e);
}

/* ---- receiving ---- */

/* The parcel's values into p->raw, and its caption. While measuring only the work space is taken. */
static int run_caption(struct engine *g, const struct link_note *note, struct embed *p, const struct dit_rope *r, struct err *e)
{
    struct dev   *d = g->d;
    struct tensor raw = dev_new2(d, DTYPE_F32, p->n_tok, p->n_feat), h = dev_new2(d, d->act_type, p->n_tok, p->n_feat);
    int           rc;

    if (!d->measuring && (rc = link_take(g->link, g->rank, note->ticket, note->what, &raw, e))) return rc;
    dev_stamp(d, STAMP_CAPTION);
    op_copy(d, &h, &raw); /* exact: the values came from this type, or the ranks are of different classes */
    dit_caption(g->dit, &h, r, &p->caption);
    dev_stamp(d, STAMP_CAPTION_END);
    return d->measuring ? 0 : dev_get(d, &raw, p->raw, (size_t)tensor_count(&raw) * sizeof(float), e);
}

int engine_measure_caption(struct engine *g, int64_t n, size_t *bytes, struct err *e)
{
    struct embed    p = {.n_tok = n, .n_feat = g->model.conf.text.hidden, .has_caption = true};
    struct dit_rope r;

    dit_rope_shape(g->dit, 0, 0, n, &r);
    p.caption = engine_caption_shape(g, r.n_cap_padded);
    dev_measure_begin(g->d);
    (void)run_caption(g, NULL, &p, &r, NULL);
    return dev_measure_end(g->d, bytes, e);
}

static int make_embed(struct engine *g, const struct link_note *note, struct embed **out, struct err *e)
{
    const struct dit_rope *r;
    struct embed          *p;
    size_t                 bytes = 0;
    int                    rc, synced;

    if ((rc = engine_new_embed(g, note->dim[0], note->mark, &p, &r, e))) return rc;
    if ((rc = engine_measure_caption(g, p->n_tok, &bytes, e)) || (rc = engine_reserve(g, bytes, e))) goto done;
    rc = run_caption(g, note, p, r, e);
    dev_reset(g->d, 0);
    synced = dev_sync(g->d, rc ? NULL : e);
    if (!rc) rc = synced;
    if (rc) goto done;
    *out = p;
    p = NULL;
done:
    dit_rope_close(g->dit, r);
    embed_free(p);
    return rc;
}

static int check_embed(const struct engine *g, const struct link_note *n, struct err *e)
{
    if (n->type == DTYPE_F32 && n->rank == 2 && n->dim[0] >= 1 && n->dim[0] <= g->profile.tokens_max && n->dim[1] == g->model.conf.text.hidden) return 0;
    return err_set(e, ERR_DEVICE, "an embedding of %" PRId64 " x %" PRId64 " came from another rank: this model's are at most %d x %d", n->dim[0], n->dim[1],
                   g->profile.tokens_max, g->model.conf.text.hidden);
}

int engine_recv(struct engine *g, uint64_t ticket, enum engine_side side, struct embed **out, struct err *e)
{
    struct link_note note;
    struct embed    *p;
    int              rc, n_tries = 0;

    if (!g->link || !g->dit) return err_set(e, ERR_STATE, "this engine runs without the transformer, or alone");
    if ((rc = link_peek(g->link, ticket, side, &note, e)) || (rc = check_embed(g, &note, e))) return rc;
    if (!(p = cache_take(&g->cache, note.mark))) {
        if ((rc = weights_check(g->model.dit, e))) return rc; /* E2 of engine.c */
        do rc = make_embed(g, &note, &p, e);
        while (engine_retry(g, rc, &n_tries, e));
        if (rc) return rc;
        cache_put(&g->cache, p);
    }
    *out = p;
    return 0;
}

/* The parcel's values to the host. */
static int fetch(struct engine *g, const struct link_note *note, float *values, struct err *e)
{
    struct tensor t;
    int           rc;

    if ((rc = reserve_values(g, note->rank, note->dim, e))) return rc;
    t = dev_new(g->d, DTYPE_F32, note->rank, note->dim);
    rc = link_take(g->link, g->rank, note->ticket, note->what, &t, e);
    if (!rc) rc = dev_get(g->d, &t, values, (size_t)tensor_count(&t) * sizeof *values, e);
    dev_reset(g->d, 0);
    return rc;
}

int engine_recv_latent(struct engine *g, uint64_t ticket, struct latent **out, struct err *e)
{
    struct link_note note;
    float           *values;
    int              dim[3], rc, n_tries = 0;

    if (!g->link || !g->vae) return err_set(e, ERR_STATE, "this engine runs without the VAE, or alone");
    if ((rc = link_peek(g->link, ticket, LATENT_WHAT, &note, e))) return rc;
    for (int i = 0; i < 3; i++) dim[i] = note.dim[i] > 0 && note.dim[i] <= INT16_MAX ? (int)note.dim[i] : 0;
    if (note.type != DTYPE_F32 || note.rank != 3 || (int64_t)dim[0] * dim[1] * dim[2] != note.dim[0] * note.dim[1] * note.dim[2])
        return err_set(e, ERR_DEVICE, "a latent [%" PRId64 ",%" PRId64 ",%" PRId64 "] came from another rank", note.dim[0], note.dim[1], note.dim[2]);
    if (!(values = malloc((size_t)dim[0] * (size_t)dim[1] * (size_t)dim[2] * sizeof *values))) return err_set(e, ERR_NOMEM, "no memory for a latent");
    do rc = fetch(g, &note, values, e);
    while (engine_retry(g, rc, &n_tries, e));
    if (!rc) rc = latent_new(g, dim, values, out, e);
    free(values);
    return rc;
}
