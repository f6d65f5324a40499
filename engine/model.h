/* model.h - which files a model is made of, and what they say: configs or shapes, weights, tokenizer, profile.
 *
 *   struct model m = { 0 };  model_open(&m, &opts, &digest, &e);  ...  model_release(&m);
 *
 * A whole folder in the diffusers layout, or files for the parts, or both: a file given for a part comes before the folder's.
 * A part's numbers: config.json in its own folder, else the model folder's config of that part, else the shapes of its tensors (infer.h).
 * The tokenizer: the one given, the model folder's, the text encoder's folder's, the one inside the text encoder's GGUF file.
 * The profile: opts->profile, the model's own word (model_index.json, metadata of the DiT's file), the scheduler's shift; a set of files
 * that says nothing is refused, for turbo and base must not blur.
 * Not here: devices, networks (engine.c). */
#ifndef ENGINE_MODEL_H
#define ENGINE_MODEL_H

#include "base/err.h"
#include "base/hash.h"
#include "engine/config.h"
#include "engine/engine.h"
#include "engine/tokenizer.h"
#include "engine/weights.h"

struct model {
    struct model_conf conf;
    struct tokenizer *tokenizer;
    struct weights   *text, *dit, *vae;
};

/* Opens and checks every file of all parts, whichever parts will run. digest receives configs, tokenizer and tensor headers.
 * On error m may hold some of it: model_release() in any case. */
int  model_open(struct model *m, const struct engine_opts *o, struct sha256 *digest, struct err *e);
void model_release(struct model *m);

#endif
