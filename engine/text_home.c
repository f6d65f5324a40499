/* text_home.c - see text_home.h. */
#include "engine/text_home.h"

#include <string.h>

static int open_shapes(struct text_home *h, struct err *e)
{
    size_t work;
    int    rc;

    dev_measure_begin(h->d);
    rc = qwen3_open(&h->q, h->conf, h->w, h->d, h->n_tok_max, e);
    h->bytes = h->d->measured_weights;
    if (rc) {
        (void)dev_measure_end(h->d, &work, NULL);
        return rc;
    }
    return dev_measure_end(h->d, &work, e);
}

int text_home_open(struct text_home *h, const struct text_conf *conf, struct weights *w, struct dev *d, int n_tok_max, enum plan_stay stay,
                   bool widen, struct err *e)
{
    int rc;

    *h = (struct text_home){.d = d, .conf = conf, .w = w, .n_tok_max = n_tok_max, .stay = stay, .widen = widen};
    d->expand = widen;
    if (stay == PLAN_RESIDENT) return qwen3_open(&h->q, conf, w, d, n_tok_max, e);
    if ((rc = open_shapes(h, e))) return rc;
    if (stay == PLAN_PARKED && !(h->image = dev_pinned(d, dev_align(h->bytes)))) {
        return err_set(e, ERR_NOMEM, "%s: no %zu MiB of host memory can be locked to park the text encoder in", d->name, (h->bytes >> 20) + 1);
    }
    return 0;
}

void text_home_close(struct text_home *h)
{
    qwen3_free(h->q);
    if (h->d) dev_unpin(h->d, h->image);
    memset(h, 0, sizeof *h);
}

size_t text_home_bytes(const struct text_home *h)
{
    return h->stay == PLAN_RESIDENT ? 0 : DEV_LODGE_BYTES(h->bytes);
}

int text_home_enter(struct text_home *h, struct qwen3 **q, struct err *e)
{
    int rc;

    *q = h->q;
    if (h->stay == PLAN_RESIDENT) return 0;
    *q = NULL;
    if ((rc = dev_lodge(h->d, h->bytes, h->saved ? h->image : NULL, e))) return rc;
    h->d->expand = h->widen;
    if ((rc = qwen3_open(q, h->conf, h->w, h->d, h->n_tok_max, e))) return rc;
    if (h->image && !h->saved) {
        if ((rc = dev_lodge_save(h->d, h->image, e))) return rc;
        h->saved = true;
    }
    return 0;
}

void text_home_leave(struct text_home *h, struct qwen3 *q)
{
    if (h->stay == PLAN_RESIDENT) return;
    qwen3_free(q);
    dev_lodge_end(h->d);
    (void)dev_scratch_reserve(h->d, 0, NULL); /* gives back: it cannot fail */
}
