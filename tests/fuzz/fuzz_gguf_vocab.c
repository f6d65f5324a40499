/* fuzz_gguf_vocab.c - the metadata of a small valid tokenizer, edited by triples of (position, position, byte), as a tokenizer; an input that begins
 * with 'G' is a whole file instead. Oracle: what is accepted encodes, ids below the vocabulary. */
#include <stdlib.h>
#include <string.h>

#include "engine/tokenizer.h"
#include "tests/engine/gguf_bytes.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(int ok)
{
    if (!ok)
        abort();
}

static void use(struct str bytes)
{
    struct tokenizer *t = NULL;
    struct err        e = { 0 };
    int32_t           ids[64];
    size_t            n = 0;
    if (tokenizer_open_mem(&t, bytes, &e)) {
        must(!t && e.code && e.text[0]);
        return;
    }
    must(tokenizer_encode(t, str_of("the <|im_end|> aaab it's \xe4\xb8\x80 12"), ids, 64, &n, &e) == 0);
    for (size_t i = 0; i < n && i < 64; i++)
        must(ids[i] >= 0 && (size_t)ids[i] < tokenizer_vocab(t));
    tokenizer_free(t);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct gguf_bytes small;
    if (!small.len)
        gb_tokenizer(&small);
    if (size && data[0] == 'G') {
        use((struct str){ (const char *)data, size });
        return 0;
    }
    char *copy = malloc(small.len);
    must(copy != NULL);
    memcpy(copy, small.at, small.len);
    for (size_t i = 0; i + 2 < size; i += 3)
        copy[((size_t)data[i] << 8 | data[i + 1]) % small.len] = (char)data[i + 2];
    use((struct str){ copy, small.len });
    free(copy);
    return 0;
}
