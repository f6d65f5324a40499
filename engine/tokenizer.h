/* tokenizer.h - text to ids: the byte-level BPE of Qwen2/Qwen3, id for id what HF tokenizers gives.
 *
 *   struct tokenizer *t = NULL;
 *   tokenizer_open(&t, "model/tokenizer", &e);
 *   int32_t ids[512]; size_t n = 0;
 *   tokenizer_encode(t, str_of("a white cat"), ids, 512, &n, &e);       n is the total; min(n, 512) were written
 *   tokenizer_free(t);
 *
 * Added tokens (special or not) are found in the raw text first, leftmost and longest; the text between them is NFC-normalised,
 * split by the Qwen2 pattern, and each piece is merged by rank. No id is added in front or behind.
 * After opening a tokenizer is immutable: many threads may encode with one at the same time.
 * Memory of a call is bounded by the text's length; time is O(len log len), also for one unbroken word.
 * Not here: the chat template and the cut at the prompt limit (prompt.h), the file format (vocab.h). */
#ifndef ENGINE_TOKENIZER_H
#define ENGINE_TOKENIZER_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/str.h"

struct tokenizer;

#define TOKENIZER_TEXT_MAX (4u << 20) /* bytes of one text; the prompt's own limit is checked by the caller */

/* Reads dir/tokenizer.json. ERR_IO: cannot be read; ERR_FORMAT: not a tokenizer of this kind; ERR_LIMIT: over a bound of vocab.h.
 * *out is owned by the caller, and untouched on error. */
int tokenizer_open(struct tokenizer **out, const char *dir, struct err *e);
/* The same from the bytes of a tokenizer.json, or of a GGUF file that carries one; the bytes are not kept. */
int  tokenizer_open_mem(struct tokenizer **out, struct str json, struct err *e);
void tokenizer_free(struct tokenizer *t); /* NULL is fine */

/* ids of text. *n = how many there are in total, ids[0 .. min(*n, cap)) are written: *n > cap means that the rest was left out
 * (the kept ids are those of the whole text, as a truncation on the right wants). ids may be NULL when cap is 0.
 * ERR_ARG: the text is not valid UTF-8 (the sentence names the byte offset); ERR_LIMIT: longer than TOKENIZER_TEXT_MAX. */
int tokenizer_encode(const struct tokenizer *t, struct str text, int32_t *ids, size_t cap, size_t *n, struct err *e);

/* Offset of the first byte that is not UTF-8, or text.len. U+0000 is a character like others here: the vocabulary has a token for it. */
size_t tokenizer_text_bad_at(struct str text);

size_t  tokenizer_vocab(const struct tokenizer *t);                /* largest id + 1: rows that the embedding must have */
int32_t tokenizer_id(const struct tokenizer *t, struct str added); /* id of an added token by its text, or -1 */
/* The bytes of an id (an added token gives its text); the empty str for an id outside. Borrowed from t. */
struct str tokenizer_bytes(const struct tokenizer *t, int32_t id);

#endif
