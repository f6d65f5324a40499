/* prompt.h - the user's words in their envelope: the Qwen3 chat template, then ids, cut on the right.
 *
 *   int32_t ids[PROMPT_TOKENS_MAX]; size_t n = 0;
 *   prompt_ids(t, str_of("a white cat"), ids, PROMPT_TOKENS_MAX, &n, &e);
 *
 * "<|im_start|>user\n" + prompt + "<|im_end|>\n<|im_start|>assistant\n"; marker text inside the prompt becomes the marker's id too,
 * as in the reference. An empty prompt is valid. Padding does not exist here: the encoder runs real tokens only. */
#ifndef ENGINE_PROMPT_H
#define ENGINE_PROMPT_H

#include "engine/tokenizer.h"

#define PROMPT_TOKENS_MAX 512

/* *n ids (1..cap), the first cap of the whole. cap >= 1, at most PROMPT_TOKENS_MAX is usual.
 * Errors as tokenizer_encode; ERR_FORMAT when the tokenizer lacks the template's markers. */
int prompt_ids(const struct tokenizer *t, struct str prompt, int32_t *ids, size_t cap, size_t *n, struct err *e);

#endif
