/* gguf_bytes.h - GGUF files written byte by byte, right or wrong, for the tests and the fuzzer of engine/gguf.c. */
#ifndef TESTS_ENGINE_GGUF_BYTES_H
#define TESTS_ENGINE_GGUF_BYTES_H

#include <stdint.h>
#include <string.h>

struct gguf_bytes {
    uint8_t at[8192];
    size_t  len;
};

static inline void gb_num(struct gguf_bytes *b, uint64_t v, size_t n)
{
    for (size_t i = 0; i < n && b->len < sizeof b->at; i++)
        b->at[b->len++] = (uint8_t)(v >> 8 * i);
}

static inline void gb_text(struct gguf_bytes *b, const char *text)
{
    gb_num(b, strlen(text), 8);
    for (; *text; text++)
        gb_num(b, (uint8_t)*text, 1);
}

static inline void gb_head(struct gguf_bytes *b, uint32_t version, uint64_t n_tensors, uint64_t n_values)
{
    b->len = 0;
    gb_num(b, 0x46554747, 4);
    gb_num(b, version, 4);
    gb_num(b, n_tensors, 8);
    gb_num(b, n_values, 8);
}

static inline void gb_key(struct gguf_bytes *b, const char *key, uint32_t type)
{
    gb_text(b, key);
    gb_num(b, type, 4);
}

static inline void gb_tensor(struct gguf_bytes *b, const char *name, uint32_t rank, const uint64_t *dim, uint32_t type, uint64_t begin)
{
    gb_text(b, name);
    gb_num(b, rank, 4);
    for (uint32_t i = 0; i < rank; i++)
        gb_num(b, dim[i], 8);
    gb_num(b, type, 4);
    gb_num(b, begin, 8);
}

static inline void gb_data(struct gguf_bytes *b, size_t align, size_t n)
{
    while (b->len % align)
        gb_num(b, 0, 1);
    for (size_t i = 0; i < n; i++)
        gb_num(b, i, 1);
}

/* One of everything: 14 keys of every type, three tensors. */
static inline void gb_valid(struct gguf_bytes *b)
{
    static const uint64_t two[2] = { 32, 2 }, one[1] = { 3 }, k[1] = { 256 };
    gb_head(b, 3, 3, 16);
    gb_key(b, "general.architecture", 8), gb_text(b, "zimage");
    gb_key(b, "general.alignment", 4), gb_num(b, 64, 4);
    gb_key(b, "k.u8", 0), gb_num(b, 200, 1);
    gb_key(b, "k.i8", 1), gb_num(b, 0xff, 1);
    gb_key(b, "k.u16", 2), gb_num(b, 65535, 2);
    gb_key(b, "k.i16", 3), gb_num(b, 7, 2);
    gb_key(b, "k.i32", 5), gb_num(b, 12, 4);
    gb_key(b, "k.f32", 6), gb_num(b, 0x3fc00000, 4);
    gb_key(b, "k.bool", 7), gb_num(b, 1, 1);
    gb_key(b, "k.u64", 10), gb_num(b, 1ull << 40, 8);
    gb_key(b, "k.i64", 11), gb_num(b, 99, 8);
    gb_key(b, "k.f64", 12), gb_num(b, 0x7ff8000000000000u, 8); /* NaN */
    gb_key(b, "k.strings", 9), gb_num(b, 8, 4), gb_num(b, 3, 8), gb_text(b, "one"), gb_text(b, ""), gb_text(b, "three");
    gb_key(b, "k.ints", 9), gb_num(b, 5, 4), gb_num(b, 2, 8), gb_num(b, 0xfffffffe, 4), gb_num(b, 5, 4);
    gb_key(b, "k.empty", 9), gb_num(b, 6, 4), gb_num(b, 0, 8);
    gb_key(b, "k.nothing", 8), gb_text(b, "");
    gb_tensor(b, "second", 2, two, 8, 64); /* Q8_0: 68 bytes */
    gb_tensor(b, "first", 1, one, 0, 0);   /* F32: 12 bytes */
    gb_tensor(b, "third", 1, k, 14, 192);  /* Q6_K: 210 bytes */
    gb_data(b, 64, 192 + 210);
}

/* A text encoder's metadata: 256 byte tokens, "th", an added token, an unused one; one merge. No tensors. */
static inline void gb_tokenizer(struct gguf_bytes *b)
{
    char letter[256][3];
    int  next = 256;

    for (int c = 0; c < 256; c++) { /* the byte alphabet of GPT-2, as UTF-8 */
        int plain = (c >= 0x21 && c <= 0x7e) || (c >= 0xa1 && c <= 0xac) || c >= 0xae, u = plain ? c : next++;
        letter[c][0] = (char)(u < 0x80 ? u : 0xc0 | u >> 6);
        letter[c][1] = (char)(u < 0x80 ? 0 : 0x80 | (u & 63));
        letter[c][2] = 0;
    }
    gb_head(b, 3, 0, 5);
    gb_key(b, "tokenizer.ggml.model", 8), gb_text(b, "gpt2");
    gb_key(b, "tokenizer.ggml.pre", 8), gb_text(b, "qwen2");
    gb_key(b, "tokenizer.ggml.merges", 9), gb_num(b, 8, 4), gb_num(b, 1, 8), gb_text(b, "t h");
    gb_key(b, "tokenizer.ggml.token_type", 9), gb_num(b, 5, 4), gb_num(b, 259, 8);
    for (int i = 0; i < 259; i++)
        gb_num(b, i == 257 ? 3 : i == 258 ? 5 : 1, 4);
    gb_key(b, "tokenizer.ggml.tokens", 9), gb_num(b, 8, 4), gb_num(b, 259, 8);
    for (int c = 0; c < 256; c++)
        gb_text(b, letter[c]);
    gb_text(b, "th"), gb_text(b, "<|im_end|>"), gb_text(b, "[PAD258]");
}

#endif
