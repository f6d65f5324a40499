/* inside.h - the engine's own struct, for the files behind engine.h: engine.c runs requests, fit.c decides where things lie. */
#ifndef ENGINE_INSIDE_H
#define ENGINE_INSIDE_H

#include "engine/cache.h"
#include "engine/dit.h"
#include "engine/engine.h"
#include "engine/model.h"
#include "engine/plan.h"
#include "engine/text_home.h"
#include "engine/vae.h"
#include "kernels/link.h"

struct engine {
    enum engine_part      parts;
    struct model          model;
    struct engine_profile profile;
    struct dev           *d;
    struct text_home      home; /* of the text encoder */
    struct qwen3         *text; /* its encoder; NULL: this engine runs without */
    struct dit           *dit;
    struct vae           *vae;
    struct cache          cache;
    int                   n_passes;     /* of the latest request, for engine_times() */
    size_t                memory_before_bytes; /* of a GPU: in use before the parts were opened */
    struct plan           plan;         /* of a GPU's memory */
    struct link          *link;         /* split.c: other engines of this process; NULL: none */
    int                   rank;         /* in it */
    size_t                memory_bytes; /* for work space: of this machine when work runs in it, else what the plan leaves */
};

/* Work space of a stage, by a measuring pass: a prompt of n ids; the caption alone, of an embedding that came from elsewhere; passes for captions of n_pos and n_neg ids; a latent [channels, H/8, W/8]. */
int engine_measure_text(struct engine *g, int64_t n, size_t *bytes, struct err *e);
int engine_measure_caption(struct engine *g, int64_t n, size_t *bytes, struct err *e);
int engine_measure_denoise(struct engine *g, const struct gen *gen, int64_t n_pos, int64_t n_neg, size_t *bytes, struct err *e);
int engine_measure_decode(struct engine *g, const int dim[3], size_t *bytes, struct err *e);
/* At least so much work space. Grows only: the same addresses for the same request. */
int engine_reserve(struct engine *g, size_t bytes, struct err *e);
/* The caption of n (padded) tokens, without data. */
struct tensor engine_caption_shape(const struct engine *g, int64_t n);
/* An embed of n_tok ids with room for its values, and the rotary table of its caption (*r, to be closed; NULL without a transformer). */
int engine_new_embed(struct engine *g, int64_t n_tok, const uint8_t key[SHA256_BYTES], struct embed **out, const struct dit_rope **r, struct err *e);
/* The parts that this engine runs, as g->plan says; both leave closed what they could not open. */
int  engine_open_parts(struct engine *g, const struct engine_opts *o, struct err *e);
void engine_close_parts(struct engine *g);

/* Files and device, no weights yet. */
int engine_open_bare(struct engine **out, const struct engine_opts *o, struct err *e);

/* fit.c: a GPU's memory is planned (g->plan, profile.plan, memory_bytes); on the CPU nothing is. Before the parts are opened. */
int engine_fit(struct engine *g, const struct engine_opts *o, struct err *e);
/* ERR_LIMIT (CPU) or ERR_NOMEM (GPU) when a stage's work space is more than there may be. */
int engine_fits(const struct engine *g, size_t bytes, struct err *e);
/* Is a request that ended with rc worth another try? Once, when a GPU's memory ran out: all that can be made again was given back. The second time
 * the sentence learns what is free. */
bool engine_retry(struct engine *g, int rc, int *n_tries, struct err *e);

#endif
