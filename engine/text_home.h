/* text_home.h - the text encoder and where it is between prompts: resident, parked in pinned host memory, or released (plan.h).
 *
 *   text_home_open(&h, &conf, w, d, n_tok_max, stay, widen, &e);      h.q: the encoder, or its shapes alone, good for measuring
 *   reserve(work + text_home_bytes(&h)); text_home_enter(&h, &q, &e); qwen3_run(q, ...); text_home_leave(&h, q);
 *
 * Resident: enter and leave do nothing. Else the weights lodge in the scratch from enter to leave: read from the files, or copied from
 * pinned memory after the first time; the scratch is given back at the end. The scratch stack must be empty at both ends. Not here: which of them (plan.c). */
#ifndef ENGINE_TEXT_HOME_H
#define ENGINE_TEXT_HOME_H

#include "engine/plan.h"
#include "engine/qwen3.h"

struct text_home {
    struct dev             *d;
    const struct text_conf *conf; /* borrowed */
    struct weights         *w;    /* borrowed */
    struct qwen3           *q;    /* NULL: this engine has no text encoder */
    int                     n_tok_max;
    enum plan_stay          stay;
    bool                    widen, saved;
    size_t                  bytes; /* of the weights that lodge */
    void                   *image; /* pinned; filled once saved */
};

/* ERR_NOMEM when PLAN_PARKED finds no host memory to lock. */
int  text_home_open(struct text_home *h, const struct text_conf *conf, struct weights *w, struct dev *d, int n_tok_max, enum plan_stay stay,
                    bool widen, struct err *e);
void text_home_close(struct text_home *h);
size_t text_home_bytes(const struct text_home *h); /* of the scratch, beside what qwen3_run() needs */
int  text_home_enter(struct text_home *h, struct qwen3 **q, struct err *e);
void text_home_leave(struct text_home *h, struct qwen3 *q); /* q NULL: enter has failed */

#endif
