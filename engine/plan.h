/* plan.h - what of a model lies where on a GPU: chosen from measured sizes and a budget, before any work is accepted.
 *
 *   struct plan p;
 *   plan_choose(&needs, budget_bytes, pinned_max_bytes, &p, &e);      the fastest way that fits; ERR_NOMEM: none does, and what would
 *   plan_about(&p, &needs, text, sizeof text);                        for one line of the log
 *
 * Ways, fastest first: everything resident with block kinds widened to what products take; the text encoder's blocks kept; all blocks kept and
 * widened for each product; then the text encoder parked in pinned host memory between prompts; then released and read again for each new one.
 * A parked or released text encoder lodges in the work space of its stage, so it costs memory only where the other stages need less.
 * The same bytes come out of every way (tests/engine/test_plan_gpu.c). Pure. Not here: measuring (engine.c), moving (text_home.c). */
#ifndef ENGINE_PLAN_H
#define ENGINE_PLAN_H

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"

/* Held by libraries, kernels and caches beside weights and scratch: plans, records of passes, prompts, rotary tables, casts, the decoder's scores. */
#define PLAN_KERNELS_BYTES      ((size_t)416 << 20)
#define PLAN_KERNELS_TEXT_BYTES ((size_t)256 << 20) /* while a text encoder lodges: the decoder's have been given back */
#define PLAN_SPARE_BYTES        (PLAN_KERNELS_BYTES - PLAN_KERNELS_TEXT_BYTES)

enum plan_stay { PLAN_RESIDENT, PLAN_PARKED, PLAN_RELEASED };

struct plan_needs {
    bool   has_blocks;                            /* of a kind that may be widened; else [1] is not read */
    size_t dit[2], text[2], vae;                  /* weights: [0] as stored, [1] widened. 0: that part does not run here */
    size_t work_text[2], work_pass[2], work_decode; /* work space of a stage; rooms for widening included */
    int    width_px, height_px;                   /* of the picture that the work spaces are for */
};

struct plan {
    bool           widen_dit, widen_text;
    enum plan_stay text;
    size_t         budget_bytes;
    size_t         weights_bytes; /* that stay */
    size_t         text_bytes;    /* of the text encoder, wherever it is */
    size_t         work_bytes;    /* for the planned picture, a lodging text encoder included */
    size_t         work_max_bytes; /* what the budget leaves for work: larger pictures are refused */
};

/* pinned_max: host memory that may be locked. */
int         plan_choose(const struct plan_needs *n, size_t budget_bytes, size_t pinned_max_bytes, struct plan *out, struct err *e);
const char *plan_about(const struct plan *p, const struct plan_needs *n, char *text, size_t cap);
const char *plan_word(const struct plan *p, const struct plan_needs *n); /* a few words of the same */

#endif
