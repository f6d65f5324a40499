/* part.h - one part of a model as the tools see it: which it is, its numbers, the tensors it must have.
 * Not here: opening files (engine/weights.h). */
#ifndef TOOLS_PART_H
#define TOOLS_PART_H

#include <stdbool.h>

#include "engine/config.h"
#include "engine/weights.h"
#include "tools/plan.h"

enum part { PART_TRANSFORMER, PART_TEXT, PART_VAE, PART_UNKNOWN };

extern const char *const part_folder[PART_UNKNOWN];

/* By the tensors it has. */
enum part part_of(const struct weights *w);
/* The numbers of that part of c: from config.json when path is a folder that has one, else from shapes (*inferred). PART_UNKNOWN: nothing. */
int part_conf(enum part part, const char *path, const struct weights *w, struct model_conf *c, bool *inferred, struct err *e);
int part_plan(enum part part, const struct model_conf *c, struct plan *p, struct err *e);
/* "dim 3840, 30 layers + ..." */
void part_print(enum part part, const struct model_conf *c);

#endif
