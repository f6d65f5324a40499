/* nasty_gguf.c - GGUF files that lie: every published flaw of GGUF readers as bytes, and the edges of our own limits. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/engine/gguf_bytes.h"
#include "tests/fuzz/nasty.h"

enum { T_U8, T_I8, T_U16, T_I16, T_U32, T_I32, T_F32, T_BOOL, T_STR, T_ARRAY, T_U64 };
enum { KIND_F32 = 0, KIND_Q4_0 = 2, KIND_Q8_0 = 8, KIND_Q4_K = 12, KIND_I8 = 24 };

struct out {
    nasty_see_f *see;
    void        *ctx;
};

static void say(const struct out *o, const char *name, bool accepted, const struct gguf_bytes *b)
{
    o->see(o->ctx, &(struct nasty){ "gguf", name, accepted, b->at, b->len });
}

/* One tensor and data_bytes of data behind it. */
static void tensor(const struct out *o, const char *name, bool accepted, uint32_t rank, const uint64_t dim[4], uint32_t kind, uint64_t begin,
                   size_t data_bytes)
{
    struct gguf_bytes b;
    gb_head(&b, 3, 1, 0);
    gb_tensor(&b, "t.weight", rank, dim, kind, begin);
    gb_data(&b, 32, data_bytes);
    say(o, name, accepted, &b);
}

static void counts(const struct out *o)
{
    static const struct {
        const char *name;
        uint32_t    version;
        uint64_t    n_tensors, n_values;
    } c[] = {
        { "cve_2024_23605_n_kv_times_size_wraps", 3, 0, UINT64_MAX / 48 + 2 },
        { "cve_2024_25664_n_kv_all_ones", 3, 0, UINT64_MAX },
        { "n_kv_limit_without_bytes", 3, 0, 65536 },
        { "n_kv_over_limit", 3, 0, 65537 },
        { "cve_2024_21836_n_tensors_times_size_wraps", 3, UINT64_MAX / 96 + 2, 0 },
        { "n_tensors_negative", 3, 1ull << 63, 0 },
        { "n_tensors_limit_without_bytes", 3, 65536, 0 },
        { "n_tensors_over_limit", 3, 65537, 0 },
        { "version_0", 0, 0, 0 },
        { "version_1", 1, 0, 0 },
        { "version_4", 4, 0, 0 },
        { "big_endian", 0x03000000, 0, 0 },
    };
    struct gguf_bytes b;
    for (size_t i = 0; i < sizeof c / sizeof *c; i++) {
        gb_head(&b, c[i].version, c[i].n_tensors, c[i].n_values);
        gb_data(&b, 32, 64);
        say(o, c[i].name, false, &b);
    }
    gb_head(&b, 3, 0, 0);
    say(o, "nothing_inside", true, &b);
    gb_head(&b, 2, 0, 0);
    say(o, "nothing_inside_version_2", true, &b);
    for (size_t n = 0; n < 24; n += 4) {
        char name[32];
        snprintf(name, sizeof name, "head_of_%zu_bytes", n);
        gb_head(&b, 3, 0, 0);
        b.len = n;
        say(o, name, false, &b);
    }
}

static void shapes(const struct out *o)
{
    static const uint64_t i31 = INT32_MAX;
    static const struct {
        const char *name;
        bool        accepted;
        uint32_t    rank;
        uint64_t    dim[4];
        uint32_t    kind;
        uint64_t    begin;
    } c[] = {
        { "plain", true, 1, { 32 }, KIND_F32, 0 },
        { "cve_2024_21802_huge_dimension", false, 2, { 1ull << 62, 4 }, KIND_F32, 0 },
        { "dimension_2_31", false, 1, { i31 + 1 }, KIND_I8, 0 },
        { "dimension_negative", false, 1, { UINT64_MAX }, KIND_I8, 0 },
        { "issue_27203_elements_wrap_negative", false, 4, { 1ull << 31, 1ull << 31, 2, 1 }, KIND_F32, 0 },
        { "cve_2026_33298_bytes_wrap_to_4_mb", false, 4, { i31, i31, 2, 1 }, KIND_F32, 0 },
        { "bytes_wrap_at_largest_dimensions", false, 4, { i31, i31, i31, i31 }, KIND_F32, 0 },
        { "pr_24759_pad_wraps_to_0", false, 2, { i31, 0x200000004ull }, KIND_I8, 0 },
        { "pr_25596_dimension_0", false, 2, { 32, 0 }, KIND_F32, 0 },
        { "dimension_0_alone", false, 1, { 0 }, KIND_F32, 0 },
        { "rank_0", false, 0, { 0 }, KIND_F32, 0 },
        { "openvino_4170_rank_5", false, 5, { 1, 1, 1, 1 }, KIND_F32, 0 },
        { "stable_diffusion_rank_2_32", false, UINT32_MAX, { 1, 1, 1, 1 }, KIND_F32, 0 },
        { "rows_not_whole_blocks", false, 2, { 33, 2 }, KIND_Q8_0, 0 },
        { "rows_not_whole_super_blocks", false, 2, { 128, 2 }, KIND_Q4_K, 0 },
        { "kind_unknown", false, 1, { 32 }, 0x7fffffff, 0 },
        { "kind_removed_q4_2", false, 1, { 32 }, 4, 0 },
        { "kind_negative", false, 1, { 32 }, UINT32_MAX, 0 },
        { "cve_2025_53630_place_wraps", false, 1, { 32 }, KIND_F32, UINT64_MAX - 31 },
        { "cve_2026_27940_place_plus_size_wraps", false, 1, { 32 }, KIND_F32, UINT64_MAX - 127 },
        { "cve_2026_7482_ends_behind_the_file", false, 1, { 64 }, KIND_F32, 0 },
        { "begins_behind_the_file", false, 1, { 32 }, KIND_F32, 1ull << 40 },
        { "place_not_aligned", false, 1, { 8 }, KIND_F32, 4 },
    };
    for (size_t i = 0; i < sizeof c / sizeof *c; i++) {
        uint64_t dim[8] = { c[i].dim[0], c[i].dim[1], c[i].dim[2], c[i].dim[3], 1, 1, 1, 1 };
        tensor(o, c[i].name, c[i].accepted, c[i].rank > 8 ? 8 : c[i].rank, dim, c[i].kind, c[i].begin, 128);
        if (c[i].rank > 8) { /* once more, with the number as it stands: gb_tensor writes that many dimensions */
            struct gguf_bytes b;
            gb_head(&b, 3, 1, 0);
            gb_text(&b, "t.weight");
            gb_num(&b, c[i].rank, 4);
            gb_data(&b, 32, 512);
            say(o, c[i].name, false, &b);
        }
    }
}

static void pairs(const struct out *o)
{
    static const uint64_t    d[1] = { 32 };
    static const char *const other[] = { "t.weight", "u.weight", "u.weight", "u.weight" };
    static const uint64_t    begin[] = { 128, 64, 0, 128 };
    static const char *const name[] = { "one_name_twice", "tensors_overlap", "tensors_at_one_place", "two_tensors" };
    struct gguf_bytes        b;
    for (int i = 0; i < 4; i++) {
        gb_head(&b, 3, 2, 0);
        gb_tensor(&b, "t.weight", 1, d, KIND_F32, 0);
        gb_tensor(&b, other[i], 1, d, KIND_F32, begin[i]);
        gb_data(&b, 32, 256);
        say(o, name[i], i == 3, &b);
    }
}

static void names(const struct out *o)
{
    static const struct {
        const char *name;
        bool        accepted;
        size_t      len;
        int         fill;
    } c[] = {
        { "name_empty", false, 0, 'n' },        { "name_of_63", true, 63, 'n' },       { "name_of_64", false, 64, 'n' },
        { "name_of_nul", false, 8, 0 },         { "name_with_newline", false, 3, '\n' }, { "name_of_bytes_ff", false, 3, 0xff },
    };
    static const uint64_t lens[] = { UINT64_MAX, 1ull << 63, 1ull << 32, 4096 };
    struct gguf_bytes     b;
    char                  label[64];
    for (size_t i = 0; i < sizeof c / sizeof *c; i++) {
        gb_head(&b, 3, 1, 0);
        gb_num(&b, c[i].len, 8);
        for (size_t k = 0; k < c[i].len; k++)
            gb_num(&b, (uint64_t)c[i].fill, 1);
        gb_num(&b, 1, 4), gb_num(&b, 32, 8), gb_num(&b, KIND_F32, 4), gb_num(&b, 0, 8);
        gb_data(&b, 32, 128);
        say(o, c[i].name, c[i].accepted, &b);
    }
    for (size_t i = 0; i < 4; i++) { /* stable-diffusion.cpp resized a string to this */
        snprintf(label, sizeof label, "name_length_lie_%zu", i);
        gb_head(&b, 3, 1, 0);
        gb_num(&b, lens[i], 8);
        gb_data(&b, 32, 128);
        say(o, label, false, &b);
        snprintf(label, sizeof label, "cve_2024_23496_string_length_lie_%zu", i);
        gb_head(&b, 3, 0, 1);
        gb_key(&b, "general.name", T_STR), gb_num(&b, lens[i], 8);
        gb_data(&b, 32, 64);
        say(o, label, false, &b);
        snprintf(label, sizeof label, "key_length_lie_%zu", i);
        gb_head(&b, 3, 0, 1);
        gb_num(&b, lens[i], 8);
        gb_data(&b, 32, 64);
        say(o, label, false, &b);
    }
    for (size_t n = 255; n <= 256; n++) {
        snprintf(label, sizeof label, "key_of_%zu", n);
        gb_head(&b, 3, 0, 1);
        gb_num(&b, n, 8);
        for (size_t k = 0; k < n; k++)
            gb_num(&b, 'k', 1);
        gb_num(&b, T_U8, 4), gb_num(&b, 1, 1);
        say(o, label, n == 255, &b);
    }
}

/* A tensor of 64 values, stored as one row, that says what it was before. */
static void folded(const struct out *o)
{
    static const uint64_t row[1] = { 64 };
    static const struct {
        const char *name;
        bool        accepted;
        uint32_t    item, kind;
        uint64_t    n, dim[5];
    } c[] = {
        { "folded", true, T_I32, KIND_F32, 3, { 4, 2, 8 } },
        { "folded_blocks_stay_in_rows", true, T_I32, KIND_Q8_0, 2, { 2, 32 } },
        { "folded_blocks_across_rows", false, T_I32, KIND_Q8_0, 2, { 4, 16 } },
        { "folded_other_count", false, T_I32, KIND_F32, 2, { 4, 17 } },
        { "folded_zero", false, T_I32, KIND_F32, 2, { 0, 64 } },
        { "folded_negative", false, T_I32, KIND_F32, 2, { 0xffffffff, 0xffffffc0 } },
        { "folded_product_wraps", false, T_I32, KIND_F32, 4, { 0x7fffffff, 0x7fffffff, 0x7fffffff, 64 } },
        { "folded_rank_0", false, T_I32, KIND_F32, 0, { 0 } },
        { "folded_rank_5", false, T_I32, KIND_F32, 5, { 1, 1, 1, 1, 64 } },
        { "folded_bytes", false, T_U8, KIND_F32, 1, { 64 } },
    };
    struct gguf_bytes b;
    for (size_t i = 0; i < sizeof c / sizeof *c; i++) {
        gb_head(&b, 3, 1, 1);
        gb_key(&b, "comfy.gguf.orig_shape.t.weight", T_ARRAY), gb_num(&b, c[i].item, 4), gb_num(&b, c[i].n, 8);
        for (uint64_t k = 0; k < c[i].n; k++)
            gb_num(&b, c[i].dim[k], c[i].item == T_U8 ? 1 : 4);
        gb_tensor(&b, "t.weight", 1, row, c[i].kind, 0);
        gb_data(&b, 32, 256);
        say(o, c[i].name, c[i].accepted, &b);
    }
}

static void values(const struct out *o)
{
    static const uint64_t aligns[] = { 0, 1, 3, 4, 8, 24, 65536, 131072, 1u << 31, UINT32_MAX };
    static const uint64_t lens[] = { UINT64_MAX, UINT64_MAX / 4 + 2, 1ull << 61, 1u << 30 };
    struct gguf_bytes     b;
    char                  label[64];
    for (size_t i = 0; i < sizeof aligns / sizeof *aligns; i++) {
        snprintf(label, sizeof label, "alignment_%llu", (unsigned long long)aligns[i]);
        gb_head(&b, 3, 0, 1);
        gb_key(&b, "general.alignment", T_U32), gb_num(&b, aligns[i], 4);
        say(o, label, aligns[i] == 8 || aligns[i] == 65536, &b);
    }
    gb_head(&b, 3, 0, 1);
    gb_key(&b, "general.alignment", T_STR), gb_text(&b, "32");
    say(o, "pr_25596_alignment_is_text", false, &b);
    gb_head(&b, 3, 0, 1);
    gb_key(&b, "general.alignment", T_U64), gb_num(&b, 32, 8);
    say(o, "alignment_is_u64", false, &b);
    for (size_t i = 0; i < 4; i++) {
        for (uint32_t item = T_U8; item <= T_U64; item += 4) { /* u8, u32, string */
            snprintf(label, sizeof label, "cve_2024_25667_array_of_type_%u_length_lie_%zu", (unsigned)item, i);
            gb_head(&b, 3, 0, 1);
            gb_key(&b, "k.array", T_ARRAY), gb_num(&b, item, 4), gb_num(&b, lens[i], 8);
            gb_data(&b, 32, 64);
            say(o, label, false, &b);
        }
    }
    gb_head(&b, 3, 0, 1);
    gb_key(&b, "k.array", T_ARRAY), gb_num(&b, T_ARRAY, 4), gb_num(&b, 1, 8), gb_num(&b, T_U8, 4), gb_num(&b, 0, 8);
    say(o, "array_of_arrays", false, &b);
    gb_head(&b, 3, 0, 1);
    gb_key(&b, "k.type", 13), gb_num(&b, 0, 8);
    say(o, "value_type_13", false, &b);
    gb_head(&b, 3, 0, 1);
    gb_key(&b, "k.bool", T_BOOL), gb_num(&b, 2, 1);
    say(o, "bool_of_2", false, &b);
    gb_head(&b, 3, 0, 2);
    gb_key(&b, "k", T_U8), gb_num(&b, 1, 1), gb_key(&b, "k", T_U8), gb_num(&b, 2, 1);
    say(o, "one_key_twice", false, &b);
    gb_head(&b, 3, 0, 1);
    gb_key(&b, "qwen3.block_count", T_U32), gb_num(&b, UINT32_MAX, 4);
    say(o, "acestep_98_block_count_all_ones", true, &b); /* a number; whoever builds a network from it has a limit */
}

/* ---- tokenizers inside ---- */

static void tokenizer(const struct out *o, const char *name, bool accepted, const struct gguf_bytes *b)
{
    o->see(o->ctx, &(struct nasty){ "gguf_tokenizer", name, accepted, b->at, b->len });
}

/* The array `key` of the small tokenizer said to be of another item type; the bytes stay. */
static void retyped(const struct out *o, const char *name, const char *key, uint32_t item)
{
    struct gguf_bytes b;
    size_t            n = strlen(key);
    gb_tokenizer(&b);
    for (size_t i = 0; i + n < b.len; i++)
        if (!memcmp(b.at + i, key, n))
            b.at[i + n + 4] = (uint8_t)item;
    tokenizer(o, name, false, &b);
}

static void tokenizers(const struct out *o)
{
    struct gguf_bytes b;
    gb_tokenizer(&b);
    tokenizer(o, "small", true, &b);
    retyped(o, "types_are_bytes", "tokenizer.ggml.token_type", T_U8);
    retyped(o, "types_are_floats", "tokenizer.ggml.token_type", T_F32);
    retyped(o, "tokens_are_bytes", "tokenizer.ggml.tokens", T_U8);
    retyped(o, "merges_are_u64", "tokenizer.ggml.merges", T_U64);
    gb_head(&b, 3, 0, 2);
    gb_key(&b, "tokenizer.ggml.model", T_STR), gb_text(&b, "gpt2");
    gb_key(&b, "tokenizer.ggml.tokens", T_ARRAY), gb_num(&b, T_STR, 4), gb_num(&b, 1, 8), gb_num(&b, 600, 8);
    for (int i = 0; i < 600; i++)
        gb_num(&b, 'a', 1);
    tokenizer(o, "cve_2025_49847_long_token", false, &b);
    gb_head(&b, 3, 0, 1);
    gb_key(&b, "tokenizer.ggml.model", T_STR), gb_text(&b, "llama");
    tokenizer(o, "other_model", false, &b);
}

void nasty_gguf(nasty_see_f *see, void *ctx)
{
    const struct out o = { see, ctx };
    struct gguf_bytes b;
    gb_valid(&b);
    say(&o, "valid", true, &b);
    counts(&o);
    shapes(&o);
    pairs(&o);
    names(&o);
    values(&o);
    folded(&o);
    tokenizers(&o);
}
