/* nasty.h - files that broke other readers, and files at the edges of our limits, built byte by byte.
 *
 *   nasty_each(see, ctx);                       see(ctx, &n) for each: n.parser "gguf", n.name "alignment_zero", n.at, n.len, n.accepted
 *
 * The bytes live until see returns. Each published cause (RELIABILITY.md s.3.1 to 3.3 of the design, named by its number where it has one) stands
 * here once; `accepted` says what a right reader answers. Used as a corpus by the fuzzers (nasty_files.c) and as a test (tests/engine/test_nasty.c). */
#ifndef TESTS_FUZZ_NASTY_H
#define TESTS_FUZZ_NASTY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct nasty {
    const char    *parser; /* gguf, gguf_tokenizer, safetensors, index, vocab, config_text, config_dit, config_vae */
    const char    *name;
    bool           accepted;
    const uint8_t *at;
    size_t         len;
};

typedef void nasty_see_f(void *ctx, const struct nasty *n);

void nasty_each(nasty_see_f *see, void *ctx);
void nasty_gguf(nasty_see_f *see, void *ctx); /* the binary half, in nasty_gguf.c */
void nasty_json(nasty_see_f *see, void *ctx); /* the rest, in nasty_json.c */

#endif
