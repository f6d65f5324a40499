/* suggest.h - "did you mean": the nearest of a few known words, when one is near enough to be a slip of the fingers.
 * Not here: who asks (args.c for options and commands, fields.c for the columns of a batch file). */
#ifndef CLIENT_SUGGEST_H
#define CLIENT_SUGGEST_H

#include <stddef.h>

#include "base/str.h"

#define SUGGEST_WORD_MAX_BYTES 48 /* longer words are nobody's slip */

/* One of word[0..n), borrowed, or NULL when none is within a third of its letters (edit distance, adjacent swaps count once). */
const char *suggest(struct str said, const char *const *word, size_t n);

#endif
