/* fuzz_vocab.c - any bytes as a tokenizer.json. What is accepted must encode: ids below the vocabulary, each with bytes.
 * An input that begins with '@' edits the small valid file instead: pairs of (position, byte) from there on, so that the deep checks are reached. */
#include <assert.h>
#include <jansson.h>
#include <stddef.h>
#include <stdlib.h>

#include "engine/tokenizer.h"
#include "tests/fuzz/small_tokenizer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* jansson's blocks: its thousand calls of a watched malloc were two thirds of a run. One run in eight keeps malloc, so that what we read past the end
 * of a block of jansson's is seen, too. */
static _Alignas(max_align_t) unsigned char pool[1 << 20];
static size_t pool_used, pool_live;

static void *pool_take(size_t n)
{
    unsigned char *p = pool + pool_used;

    n = (n + 15) & ~(size_t)15;
    if (n > sizeof pool - pool_used) return NULL;
    pool_used += n;
    pool_live++;
    return p;
}

static void pool_give(void *p)
{
    if (p && --pool_live == 0) pool_used = 0;
}

static void use(struct str json)
{
    static unsigned   runs;
    struct tokenizer *t = NULL;
    struct err        e = {0};
    int32_t           ids[64];
    size_t            n = 0;

    if (++runs % 8) json_set_alloc_funcs(pool_take, pool_give);
    else json_set_alloc_funcs(malloc, free);
    if (tokenizer_open_mem(&t, json, &e)) {
        assert(!t && e.code != 0 && e.text[0]);
        return;
    }
    assert(tokenizer_encode(t, str_of("the <a><b> e\xcc\x81 aaab\n\n it's \xe4\xb8\x80 12"), ids, 64, &n, &e) == 0);
    for (size_t i = 0; i < n && i < 64; i++) {
        assert(ids[i] >= 0 && (size_t)ids[i] < tokenizer_vocab(t));
        assert(tokenizer_bytes(t, ids[i]).len > 0);
    }
    tokenizer_free(t);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static char small[16384];
    static size_t len;
    char         *copy;

    if (!len)
        len = small_tokenizer(small, sizeof small);
    if (!size || data[0] != '@') {
        use((struct str){(const char *)data, size});
        return 0;
    }
    copy = malloc(len);
    assert(copy);
    memcpy(copy, small, len);
    for (size_t i = 1; i + 2 < size; i += 3)
        copy[(data[i] | (size_t)data[i + 1] << 8) % len] = (char)data[i + 2];
    use((struct str){copy, len});
    free(copy);
    return 0;
}
