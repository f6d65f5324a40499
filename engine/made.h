/* made.h - a model without files: given shapes, made-up weights. For measuring only; what it paints is noise.
 *
 *   struct engine_made made = { .conf = &conf, .dit = DTYPE_BF16, .text = DTYPE_Q8_0, .vae = DTYPE_BF16, .tokenizer_json = json };
 *   engine_open(&g, &(struct engine_opts){ .made = &made, .device = "cuda:0", .parts = ENGINE_BOTH }, &e);
 *
 * Values are close to normal with a deviation that keeps activations sane at any depth (1.2/sqrt(fan-in); 1 +- 0.15 for norms), the same
 * in every run. Block kinds hold such values quantised. A tensor is a mapping of one small pattern of its type and scale, many times
 * over, from a place that its name chooses: 20 GB of weights take some MiB of this machine's memory, and the engine loads them as it
 * loads a file. On the CPU, which borrows weights where they are, that is kind to the caches: products look a little faster than they are.
 * Not here: which shapes a model has (config.h). */
#ifndef ENGINE_MADE_H
#define ENGINE_MADE_H

#include "base/str.h"
#include "engine/config.h"
#include "engine/model.h"
#include "kernels/tensor.h"

struct engine_made {
    const struct model_conf *conf;           /* checked, as config_open() leaves it */
    enum dtype               dit, text, vae; /* of the products; where rows are no whole blocks, and in convolutions: bf16. Vectors are F32 */
    struct str               tokenizer_json;
};

/* model_open() without files. On error m may hold some of it: model_release() in any case. */
int made_model(struct model *m, const struct engine_made *made, struct err *e);

/* ---- for weights.c: one part's tensors ---- */

struct made;

/* ERR_ARG: weights of this kind cannot be made. */
int  made_open(struct made **out, enum dtype kind, struct err *e);
void made_free(struct made *m); /* NULL is fine; unmaps every tensor */
int  made_tensor(struct made *m, const char *name, int rank, const int64_t *dim, struct tensor *out, struct err *e);
enum dtype made_kind(const struct made *m);
int64_t    made_values(const struct made *m); /* of the tensors asked for so far */

#endif
