/* encode.c - a prompt becomes an embed: text encoder, and where the transformer is, the caption. An embed that came from another engine (split.c)
 * gets its caption here. Invariant: a caption is made from the raw embedding in the device's own type, whichever way it came, so both ways give the
 * same bytes. Not here: remembering (cache.c), the networks (qwen3.c, dit.c). */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "engine/inside.h"
#include "engine/prompt.h"
#include "engine/qwen3.h"
#include "engine/stamps.h"
#include "engine/tokenizer.h"
#include "engine/weights.h"
#include "kernels/ops.h"

/* ids -> p->raw and, with the image part, p->caption. While measuring only the work space is taken. */
static int run_text(struct engine *g, const int32_t *ids, struct embed *p, const struct dit_rope *r, bool *finite)
{
    struct dev   *d = g->d;
    struct tensor h = dev_new2(d, d->act_type, p->n_tok, p->n_feat), raw = dev_new2(d, DTYPE_F32, p->n_tok, p->n_feat);

    dev_stamp(d, STAMP_TEXT);
    qwen3_run(g->text, ids, p->n_tok, &h);
    dev_stamp(d, STAMP_CAPTION);
    if (p->has_caption) dit_caption(g->dit, &h, r, &p->caption);
    dev_stamp(d, STAMP_CAPTION_END);
    op_copy(d, &raw, &h);
    *finite = op_all_finite(d, &raw);
    if (d->measuring) return 0;
    return dev_get(d, &raw, p->raw, (size_t)tensor_count(&raw) * sizeof(float), NULL); /* a failure stays in the device */
}

int engine_measure_text(struct engine *g, int64_t n, size_t *bytes, struct err *e)
{
    struct embed    p = {.n_tok = n, .n_feat = g->model.conf.text.hidden, .has_caption = g->dit != NULL};
    struct dit_rope r = {0};
    bool            finite;

    if (p.has_caption) {
        dit_rope_shape(g->dit, 0, 0, n, &r);
        p.caption = engine_caption_shape(g, r.n_cap_padded);
    }
    dev_measure_begin(g->d);
    (void)run_text(g, NULL, &p, &r, &finite);
    return dev_measure_end(g->d, bytes, e);
}

/* run_text() with the encoder brought home for it. The work space is reserved. */
static int run_text_at_home(struct engine *g, const int32_t *ids, struct embed *p, const struct dit_rope *r, bool *finite, struct err *e)
{
    struct qwen3 *shapes = g->text, *here = NULL;
    int           rc = text_home_enter(&g->home, &here, e), got = 0;

    if (!rc) {
        g->text = here;
        got = run_text(g, ids, p, r, finite);
        g->text = shapes;
        dev_reset(g->d, 0);
        rc = dev_sync(g->d, e);
    }
    text_home_leave(&g->home, here);
    return rc || !got ? rc : err_set(e, ERR_DEVICE, "%s: a prompt's embedding could not be read back", g->d->name);
}

/* A text encoder that lodges finds a work space of its own size, and leaves none: the other stages' may be as large. */
static int reserve_text(struct engine *g, size_t bytes, struct err *e)
{
    int rc;

    if (!text_home_bytes(&g->home)) return engine_reserve(g, bytes, e);
    dev_trim(g->d);
    bytes += text_home_bytes(&g->home);
    rc = engine_fits(g, bytes > PLAN_SPARE_BYTES ? bytes - PLAN_SPARE_BYTES : 0, e);
    return rc ? rc : dev_scratch_reserve(g->d, bytes, e);
}

int engine_new_embed(struct engine *g, int64_t n_tok, const uint8_t key[SHA256_BYTES], struct embed **out, const struct dit_rope **r, struct err *e)
{
    struct embed *p = calloc(1, sizeof *p);
    int           rc = 0;

    *r = NULL;
    if (!p) return err_set(e, ERR_NOMEM, "no memory for a prompt");
    *p = (struct embed){.n_refs = 1, .d = g->d, .n_tok = n_tok, .n_feat = g->model.conf.text.hidden, .has_caption = g->dit != NULL};
    memcpy(p->key, key, SHA256_BYTES);
    if (!(p->raw = calloc((size_t)n_tok * (size_t)p->n_feat, sizeof *p->raw))) rc = err_set(e, ERR_NOMEM, "no memory for a prompt of %" PRId64 " ids", n_tok);
    if (!rc && p->has_caption && !(rc = dit_rope_open(g->dit, 0, 0, n_tok, r, e)))
        rc = dev_alloc(g->d, g->d->act_type, 2, (int64_t[]){(*r)->n_cap_padded, g->model.conf.dit.dim}, &p->caption, e);
    if (!rc) {
        *out = p;
        return 0;
    }
    if (g->dit) dit_rope_close(g->dit, *r);
    embed_free(p);
    return rc;
}

static int make_embed(struct engine *g, const int32_t *ids, size_t n, const uint8_t *key, struct embed **out, struct err *e)
{
    const struct dit_rope *r;
    struct embed          *p;
    size_t                 bytes = 0;
    bool                   finite = true;
    int                    rc;

    if ((rc = engine_new_embed(g, (int64_t)n, key, &p, &r, e))) return rc;
    if ((rc = engine_measure_text(g, p->n_tok, &bytes, e)) || (rc = reserve_text(g, bytes, e)) ||
        (rc = run_text_at_home(g, ids, p, r, &finite, e)))
        goto done;
    if (!finite) {
        rc = err_set(e, ERR_NAN, "the prompt's embedding is not finite: the text encoder's weights are out of range");
        goto done;
    }
    *out = p;
    p = NULL;
done:
    if (g->dit) dit_rope_close(g->dit, r);
    embed_free(p);
    return rc;
}

int engine_encode(struct engine *g, struct str prompt, struct embed **out, struct err *e)
{
    int32_t       ids[PROMPT_TOKENS_MAX];
    uint8_t       key[SHA256_BYTES];
    size_t        n = 0;
    struct embed *p;
    int           rc, n_tries = 0;

    if (!g->text) return err_set(e, ERR_STATE, "this engine runs without the text encoder");
    if ((rc = prompt_ids(g->model.tokenizer, prompt, ids, PROMPT_TOKENS_MAX, &n, e))) return rc;
    sha256_of(ids, n * sizeof *ids, key);
    if (!(p = cache_take(&g->cache, key))) {
        if ((rc = weights_check(g->model.text, e)) || (g->dit && (rc = weights_check(g->model.dit, e)))) /* E2 */
            return rc;
        do rc = make_embed(g, ids, n, key, &p, e);
        while (engine_retry(g, rc, &n_tries, e));
        if (rc) return rc;
        cache_put(&g->cache, p);
    }
    *out = p;
    return 0;
}

int embed_get(const struct embed *p, int64_t *n_tok, int64_t *n_feat, float *out, int64_t cap, struct err *e)
{
    *n_tok = p->n_tok;
    *n_feat = p->n_feat;
    if (!out) return 0;
    if (cap < p->n_tok * p->n_feat)
        return err_set(e, ERR_LIMIT, "room for %" PRId64 " values, the embedding has %" PRId64, cap, p->n_tok * p->n_feat);
    memcpy(out, p->raw, (size_t)(p->n_tok * p->n_feat) * sizeof *out);
    return 0;
}
