/* fuzz_tokenize.c - any bytes as text through a small fixed tokenizer. Oracles: refused exactly when not UTF-8; ids below the vocabulary;
 * the same ids whatever the cap; without added tokens the ids' bytes, joined, are the text's NFC as utf8proc_map makes it (another way than ours;
 * not asked about marks above U+07FC and U+11A7, where we follow the reference's older tables instead). */
#include <assert.h>
#include <stdbool.h>
#include <stdlib.h>
#include <utf8proc.h>

#include "engine/prompt.h"
#include "tests/fuzz/small_tokenizer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct tokenizer *open_small(void)
{
    static char       json[16384];
    struct tokenizer *t = NULL;
    int               rc = tokenizer_open_mem(&t, (struct str){json, small_tokenizer(json, sizeof json)}, NULL);

    assert(rc == 0 && t && tokenizer_id(t, str_of("<|im_start|>")) == SMALL_ADDED);
    return t;
}

static bool comparable(const uint8_t *data, size_t size)
{
    utf8proc_int32_t point = 0;

    for (size_t i = 0; i < size;) {
        i += (size_t)utf8proc_iterate(data + i, (utf8proc_ssize_t)(size - i), &point); /* valid: checked by the caller */
        if (point == 0x11a7 || (point > 0x7fc && utf8proc_get_property(point)->combining_class) || (point >= 0x11930 && point <= 0x11938))
            return false;
    }
    return true;
}

static void check_bytes(const struct tokenizer *t, const uint8_t *data, size_t size, const int32_t *ids, size_t n)
{
    utf8proc_uint8_t *nfc = NULL;
    utf8proc_ssize_t  len = utf8proc_map(data, (utf8proc_ssize_t)size, &nfc, UTF8PROC_STABLE | UTF8PROC_COMPOSE);
    size_t            at = 0;

    assert(len >= 0);
    for (size_t i = 0; i < n; i++) {
        struct str s = tokenizer_bytes(t, ids[i]);
        assert(s.len && at + s.len <= (size_t)len && memcmp(nfc + at, s.at, s.len) == 0);
        at += s.len;
    }
    assert(at == (size_t)len);
    free(nfc);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct tokenizer *t;
    struct str               text = {(const char *)data, size};
    struct err               e = {0};
    int32_t                  cut[PROMPT_TOKENS_MAX];
    size_t                   n = 0, n_cut = 0;
    bool                     added = false;

    if (!t)
        t = open_small();
    int32_t *ids = malloc((3 * size + 1) * sizeof *ids); /* NFC grows UTF-8 by at most 3 */
    assert(ids);
    int rc = tokenizer_encode(t, text, ids, 3 * size + 1, &n, &e);
    assert(rc == (tokenizer_text_bad_at(text) < size ? ERR_ARG : 0));
    assert(rc == prompt_ids(t, text, cut, PROMPT_TOKENS_MAX, &n_cut, &e));
    if (rc == 0) {
        assert(n <= 3 * size && n_cut >= 1 && n_cut <= PROMPT_TOKENS_MAX);
        for (size_t i = 0; i < n; i++) {
            assert(ids[i] >= 0 && (size_t)ids[i] < tokenizer_vocab(t));
            added |= ids[i] >= SMALL_ADDED;
        }
        if (!added && comparable(data, size))
            check_bytes(t, data, size, ids, n);
        assert(tokenizer_encode(t, text, cut, 7, &n_cut, &e) == 0 && n_cut == n);
        assert(memcmp(cut, ids, (n < 7 ? n : 7) * sizeof *ids) == 0);
    }
    free(ids);
    return 0;
}
