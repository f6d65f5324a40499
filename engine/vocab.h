/* vocab.h - what a tokenizer.json (or a GGUF file's tokenizer.ggml.*) says, checked: tokens, merges, added tokens.
 *
 *   struct vocab v;
 *   vocab_parse(&v, json, &e);   ...   vocab_release(&v);
 *
 * The only room of the tokenizer that knows JSON. It accepts exactly the pipeline of Qwen2/Qwen3 (NFC, Split by the one known pattern,
 * ByteLevel, BPE) and refuses everything else by name: no pattern of a file is ever compiled.
 * Invariants of an accepted vocab: ids are dense 0..n_tokens-1 over model.vocab and added tokens together; each of the 256 bytes has a token;
 * both parts of each merge and its result are tokens.
 * Not here: applying it to text (tokenizer.c). */
#ifndef ENGINE_VOCAB_H
#define ENGINE_VOCAB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/str.h"

struct gguf_head; /* engine/gguf.h */

#define VOCAB_FILE_MAX   (64u << 20)
#define VOCAB_TOKENS_MAX 400000
#define VOCAB_MERGES_MAX 400000
#define VOCAB_TOKEN_MAX  512 /* bytes of one token's text, in the file's alphabet */
#define VOCAB_ADDED_MAX  4096
#define VOCAB_DEPTH_MAX  16

struct vocab_merge {
    int32_t left, right, result; /* ids; the rank is the index */
};

struct vocab_added {
    struct str text; /* as it stands in raw text; never empty */
    int32_t    id;
    bool       special;
};

struct vocab {
    int32_t             n_tokens; /* largest id + 1 */
    struct str         *token;    /* [n_tokens] bytes (the byte alphabet undone; added tokens: their text) */
    int32_t             byte_id[256];
    int32_t             n_merges;
    struct vocab_merge *merge; /* [n_merges] by rank */
    int32_t             n_added;
    struct vocab_added *added;         /* [n_added] */
    bool                ignore_merges; /* a whole piece that is a token is taken as it is */
    char               *text;          /* all texts */
    int32_t            *slot;          /* [n_slots] open addressing: bytes -> id, -1 empty */
    uint32_t            n_slots;
};

/* bytes: a tokenizer.json, or a whole GGUF file. Copies what it needs. ERR_FORMAT, ERR_LIMIT, ERR_NOMEM, ERR_NOTFOUND (no tokenizer in the
 * GGUF file); on error v is released. */
int vocab_parse(struct vocab *v, struct str bytes, struct err *e);
/* The other way: tokenizer.ggml.* of a text encoder whose table has n_rows rows; ids without a token are named [PADn]. */
int vocab_put(const struct vocab *v, int32_t n_rows, struct gguf_head *h, struct err *e);
/* The token of model.vocab with exactly these bytes, or -1. */
int32_t vocab_find(const struct vocab *v, struct str bytes);
void    vocab_release(struct vocab *v);

#endif
