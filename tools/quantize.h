/* quantize.h - which type and which name a tensor gets in a quantised file; for quantize itself and for synth --type. */
#ifndef TOOLS_QUANTIZE_H
#define TOOLS_QUANTIZE_H

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"
#include "tools/pack.h"

struct safetensors_entry; /* engine/safetensors.h */

/* q8_0, q4_k_m, ... as the command line says them; false for fp8, which GGUF does not have. */
bool quantize_is_gguf(const char *word);
/* Adds tensor i of a source to t[*n], under its original name (llama: llama.cpp's); parts of a fused product join their first. */
int quantize_put(struct pack_tensor *t, size_t *n, const struct safetensors_entry *s, size_t i, bool llama, struct err *e);
/* The types of all, by the word's own rules. */
void quantize_types(const char *word, struct pack_tensor *t, size_t n);

#endif
