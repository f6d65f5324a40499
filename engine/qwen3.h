/* qwen3.h - the text encoder: ids -> the residual stream before the last layer.
 *
 *   struct qwen3 *q = NULL;
 *   qwen3_open(&q, &conf.text, w, d, 512, &e);
 *   struct tensor h = dev_new2(d, d->act_type, n, conf.text.hidden);
 *   qwen3_run(q, ids, n, &h);  dev_sync(d, &e);                 hidden_states[-2] of transformers
 *
 * Only layers 0 .. n_layers-2 exist here: the last layer and the final norm are never read. Real tokens only: a causal mask hides
 * padding from them, so padding is not computed (on a GPU up to a
 * multiple of dev.group_tok, which costs nothing there and lets prompts of about one length share a record). q and k are normalised per head before the half-split rotary embedding.
 * Not here: text -> ids (prompt.h), remembering results (cache.h). */
#ifndef ENGINE_QWEN3_H
#define ENGINE_QWEN3_H

#include "engine/config.h"
#include "engine/weights.h"
#include "kernels/dev.h"

struct qwen3;

/* Takes every weight it needs, with its shape checked. w and d must outlive q. n_tok_max: longest prompt. */
int  qwen3_open(struct qwen3 **out, const struct text_conf *conf, struct weights *w, struct dev *d, int n_tok_max, struct err *e);
void qwen3_free(struct qwen3 *q); /* NULL is fine */
/* out [n, hidden] of d->act_type. ids in 0..vocab-1, 1 <= n <= n_tok_max (asserted). Errors stick in the device. */
void qwen3_run(struct qwen3 *q, const int32_t *ids, int64_t n, struct tensor *out);

#endif
