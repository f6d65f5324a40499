/* fuzz_gguf.c - any bytes as a GGUF file. An input that begins with '@' edits a valid file instead, one that begins with '#' a tokenizer's:
 * triples of (position, position, byte), so that what lies behind the counts is reached.
 * Oracle: what is accepted has every tensor inside the data, aligned and disjoint, every array as long as it says; its metadata, written
 * again, reads back the same. Not here: a tokenizer made of it (fuzz_gguf_vocab.c). */
#include <stdlib.h>
#include <string.h>

#include "engine/gguf.h"
#include "tests/engine/gguf_bytes.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(int ok)
{
    if (!ok)
        abort();
}

static void check_tensors(const struct gguf *g, const uint8_t *end)
{
    uint64_t free_from = 0;
    must(g->data + g->data_bytes == end);
    for (size_t i = 0; i < g->n; i++) {
        const struct safetensors_entry *t = &g->entry[i];
        uint64_t                        values = 1;
        volatile uint8_t                sum;
        must(t->rank >= 1 && t->rank <= 4 && t->bytes > 0 && strlen(t->name) >= 1 && strlen(t->name) <= GGUF_NAME_MAX);
        for (int k = 0; k < t->rank; k++)
            must(t->dim[k] >= 1 && !__builtin_mul_overflow(values, (uint64_t)t->dim[k], &values));
        must(t->begin >= free_from && t->begin % g->align_bytes == 0 && t->begin <= g->data_bytes && t->bytes <= g->data_bytes - t->begin);
        must(!t->usable || dtype_row_bytes(t->type, (int64_t)values) == t->bytes);
        sum = g->data[t->begin];
        sum = (uint8_t)(sum + g->data[t->begin + t->bytes - 1]);
        free_from = t->begin + t->bytes;
    }
}

static void check_values(const struct gguf *g)
{
    struct gguf_head h;
    struct gguf      again;
    struct buf       out;
    uint64_t         u;
    double           f;
    struct str       s;

    gguf_head_init(&h);
    buf_init(&out, 1u << 24);
    for (size_t i = 0; i < g->n_values; i++) {
        const struct gguf_value *v = &g->value[i];
        char                     key[GGUF_KEY_MAX + 1];
        size_t                   at = 0;
        memcpy(key, v->key.at, v->key.len);
        key[v->key.len] = 0;
        must(gguf_find(g, key) == v);
        (void)gguf_uint(g, key, &u, NULL);
        (void)gguf_real(g, key, &f, NULL);
        (void)gguf_str(g, key, &s, NULL);
        for (uint64_t k = 0; v->type == GGUF_ARRAY && v->item == GGUF_STR && k < v->n; k++)
            (void)gguf_next(v, &at);
        must(v->type != GGUF_ARRAY || v->item != GGUF_STR || at == v->bytes.len);
        gguf_put_value(&h, v);
    }
    if (gguf_head_bytes(&h, &out, NULL) == 0) {
        must(gguf_parse(&again, buf_str(&out), "again", NULL) == 0 && again.n_values == g->n_values);
        for (size_t i = 0; i < g->n_values; i++)
            must(str_eq(again.value[i].key, g->value[i].key) && str_eq(again.value[i].bytes, g->value[i].bytes));
        gguf_close(&again);
    }
    gguf_head_release(&h);
    buf_release(&out);
}

static void use(const uint8_t *data, size_t size)
{
    struct gguf g;
    struct err  e = { 0 };
    if (gguf_parse(&g, (struct str){ (const char *)data, size }, "fuzz", &e)) {
        must(e.code && e.text[0]);
        return;
    }
    check_tensors(&g, data + size);
    check_values(&g);
    gguf_close(&g);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct gguf_bytes valid, tokenizer;
    if (!valid.len) {
        gb_valid(&valid);
        gb_tokenizer(&tokenizer);
    }
    if (!size || (data[0] != '@' && data[0] != '#')) {
        use(data, size);
        return 0;
    }
    const struct gguf_bytes *b = data[0] == '@' ? &valid : &tokenizer;
    uint8_t                 *copy = malloc(b->len);
    must(copy != NULL);
    memcpy(copy, b->at, b->len);
    for (size_t i = 1; i + 2 < size; i += 3)
        copy[((size_t)data[i] << 8 | data[i + 1]) % b->len] = data[i + 2];
    use(copy, b->len);
    free(copy);
    return 0;
}
