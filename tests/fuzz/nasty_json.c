/* nasty_json.c - safetensors files, shard indexes, tokenizers and configs that lie. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/fuzz/nasty.h"
#include "tests/fuzz/small_tokenizer.h"

struct out {
    nasty_see_f *see;
    void        *ctx;
};

static void text(const struct out *o, const char *parser, const char *name, bool accepted, const char *bytes)
{
    o->see(o->ctx, &(struct nasty){ parser, name, accepted, (const uint8_t *)bytes, strlen(bytes) });
}

/* depth brackets around nothing. */
static char *nested(const char *before, int depth, const char *after)
{
    size_t n = strlen(before), m = strlen(after);
    char  *s = malloc(n + 2 * (size_t)depth + m + 1);
    if (!s)
        abort();
    memcpy(s, before, n);
    memset(s + n, '[', (size_t)depth);
    memset(s + n + depth, ']', (size_t)depth);
    memcpy(s + n + 2 * depth, after, m + 1);
    return s;
}

/* ---- safetensors ---- */

/* Header length (or a lie about it), header, data_bytes of data. */
static void file(const struct out *o, const char *name, bool accepted, const char *header, uint64_t said, size_t data_bytes)
{
    size_t   n = strlen(header), len = 8 + n + data_bytes;
    uint8_t *at = calloc(1, len);
    if (!at)
        abort();
    for (int i = 0; i < 8; i++)
        at[i] = (uint8_t)((said ? said : n) >> 8 * i);
    memcpy(at + 8, header, n);
    o->see(o->ctx, &(struct nasty){ "safetensors", name, accepted, at, len });
    free(at);
}

#define T(shape, from, to) "{\"t\":{\"dtype\":\"F32\",\"shape\":" shape ",\"data_offsets\":[" from "," to "]}}"

static void safetensors(const struct out *o)
{
    static const struct {
        const char *name;
        bool        accepted;
        const char *header;
        uint64_t    said;
        size_t      data_bytes;
    } c[] = {
        { "plain", true, T("[2]", "0", "8"), 0, 8 },
        { "nothing_inside", true, "{}", 0, 0 },
        { "scalar", true, T("[]", "0", "4"), 0, 4 },
        { "header_length_all_ones", false, "{}", UINT64_MAX, 0 },
        { "header_length_negative", false, "{}", 1ull << 63, 0 },
        { "header_length_one_too_many", false, "{}", 3, 0 },
        { "header_over_limit", false, "{}", (16u << 20) + 1, 0 },
        { "polyglot_data_behind", false, T("[2]", "0", "8"), 0, 9 },
        { "data_cut", false, T("[2]", "0", "8"), 0, 7 },
        { "gap_before", false, T("[2]", "8", "16"), 0, 16 },
        { "shape_wraps", false, T("[4294967296,4294967296]", "0", "0"), 0, 0 },
        { "shape_wraps_to_right_size", false, T("[4611686018427387906]", "0", "8"), 0, 8 },
        { "shape_times_bytes_wraps", false, T("[9223372036854775807]", "0", "8"), 0, 8 },
        { "shape_over_64_bits", false, T("[18446744073709551618]", "0", "8"), 0, 8 },
        { "shape_negative", false, T("[-2]", "0", "8"), 0, 8 },
        { "shape_fraction", false, T("[2.0]", "0", "8"), 0, 8 },
        { "shape_is_text", false, T("\"2\"", "0", "8"), 0, 8 },
        { "rank_9", false, T("[1,1,1,1,1,1,1,1,2]", "0", "8"), 0, 8 },
        { "imp_1605_offset_beyond_doubles", false, T("[2]", "9007199254740993", "9007199254741001"), 0, 8 },
        { "offset_negative", false, T("[2]", "-8", "0"), 0, 8 },
        { "offset_exponent", false, T("[2]", "0", "8e0"), 0, 8 },
        { "offsets_backwards", false, T("[2]", "8", "0"), 0, 8 },
        { "offsets_of_three", false, T("[2]", "0", "4,8"), 0, 8 },
        { "size_is_not_shape", false, T("[3]", "0", "8"), 0, 8 },
        { "overlap", false,
          "{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]},\"b\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[4,12]}}", 0, 12 },
        { "f002_zero_size_shares_an_offset", true,
          "{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]},\"b\":{\"dtype\":\"F32\",\"shape\":[0],\"data_offsets\":[8,8]},"
          "\"c\":{\"dtype\":\"F32\",\"shape\":[0,5],\"data_offsets\":[8,8]}}",
          0, 8 },
        { "one_name_twice", false,
          "{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,8]}}", 0, 8 },
        { "metadata_not_text", false, "{\"__metadata__\":{\"format\":1}}", 0, 0 },
        { "metadata_not_object", false, "{\"__metadata__\":[]}", 0, 0 },
        { "not_an_object", false, "[]", 0, 0 },
        { "entry_not_an_object", false, "{\"t\":1}", 0, 0 },
        { "entry_empty", false, "{\"t\":{}}", 0, 0 },
        { "lone_surrogate", false, "{\"\\ud800\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}", 0, 4 },
        { "name_with_nul", false, "{\"a\\u0000b\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}", 0, 4 },
        { "name_not_utf8", false, "{\"\xff\xfe\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}", 0, 4 },
        { "name_empty", false, "{\"\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}", 0, 4 },
        { "bytes_behind_the_json", false, "{}{}", 0, 0 },
        { "no_json", false, "\x01\x02\x03\x04", 0, 0 },
        { "pickle", false, "\x80\x02}q\x01.", 0, 0 },
    };
    for (size_t i = 0; i < sizeof c / sizeof *c; i++)
        file(o, c[i].name, c[i].accepted, c[i].header, c[i].said, c[i].data_bytes);
    char *deep = nested("{\"__metadata__\":", 100000, "}");
    file(o, "depth_100000", false, deep, 0, 0);
    free(deep);
    for (size_t n = 0; n < 8; n++) {
        char label[32];
        snprintf(label, sizeof label, "file_of_%zu_bytes", n);
        o->see(o->ctx, &(struct nasty){ "safetensors", label, false, (const uint8_t *)"\0\0\0\0\0\0\0", n });
    }
}

/* ---- shard indexes ---- */

static void indexes(const struct out *o)
{
    static const struct {
        const char *name;
        bool        accepted;
        const char *file; /* as JSON */
    } c[] = {
        { "plain", true, "\"model-00001.safetensors\"" },
        { "parent_folder", false, "\"../../etc/passwd\"" },
        { "absolute", false, "\"/etc/passwd\"" },
        { "sub_folder", false, "\"a/b.safetensors\"" },
        { "dot", false, "\".\"" },
        { "dot_dot", false, "\"..\"" },
        { "empty", false, "\"\"" },
        { "with_nul", false, "\"a\\u0000.safetensors\"" },
        { "with_newline", false, "\"a\\n.safetensors\"" },
        { "a_number", false, "1" },
        { "a_list", false, "[\"a.safetensors\"]" },
        { "null", false, "null" },
    };
    char json[256];
    for (size_t i = 0; i < sizeof c / sizeof *c; i++) {
        snprintf(json, sizeof json, "{\"metadata\":{\"total_size\":1},\"weight_map\":{\"t\":%s}}", c[i].file);
        text(o, "index", c[i].name, c[i].accepted, json);
    }
    text(o, "index", "no_map", false, "{}");
    text(o, "index", "map_is_a_list", false, "{\"weight_map\":[]}");
    char *deep = nested("{\"weight_map\":", 100000, "}");
    text(o, "index", "depth_100000", false, deep);
    free(deep);
}

/* ---- tokenizers ---- */

/* The small tokenizer with the first `what` replaced. */
static void edited(const struct out *o, const char *name, const char *what, const char *by)
{
    static char small[16384], json[20480];
    const char *at;
    small_tokenizer(small, sizeof small);
    at = strstr(small, what);
    if (!at)
        abort();
    snprintf(json, sizeof json, "%.*s%s%s", (int)(at - small), small, by, at + strlen(what));
    text(o, "vocab", name, false, json);
}

static void tokenizers(const struct out *o)
{
    static char small[16384], longest[1200];
    small_tokenizer(small, sizeof small);
    text(o, "vocab", "small", true, small);
    edited(o, "evil_pattern", "(?i:'s|", "(a+)+|(?i:'s|");
    edited(o, "other_normalizer", "NFC", "NFKC");
    edited(o, "other_pre_tokenizer", "ByteLevel", "Metaspace");
    edited(o, "other_model", "BPE", "Unigram");
    edited(o, "byte_token_missing", "\"\\u0061\":97,", "");
    edited(o, "id_twice", "\"\\u0061\":97,", "\"\\u0061\":98,");
    edited(o, "id_negative", "\"\\u0061\":97,", "\"\\u0061\":-1,");
    edited(o, "id_2_53", "\"\\u0061\":97,", "\"\\u0061\":9007199254740993,");
    edited(o, "id_leaves_a_hole", "\"\\u0061\":97,", "\"\\u0061\":399999,");
    edited(o, "id_a_fraction", "\"\\u0061\":97,", "\"\\u0061\":97.5,");
    edited(o, "merge_of_unknown", "\"merges\":[[\"\\u0074\"", "\"merges\":[[\"\\u0074\\u0074\\u0074\"");
    edited(o, "merge_of_one", "\"merges\":[", "\"merges\":[[\"\\u0074\"],");
    edited(o, "merge_is_a_number", "\"merges\":[", "\"merges\":[1,");
    edited(o, "added_id_wraps", "{\"id\":274", "{\"id\":4294967570");
    edited(o, "added_text_empty", "\"content\":\"<|im_start|>\"", "\"content\":\"\"");
    edited(o, "added_strips", "\"lstrip\":false", "\"lstrip\":true");
    edited(o, "vocab_is_a_list", "\"vocab\":{", "\"vocab\":[],\"x\":{");
    snprintf(longest, sizeof longest, "\"merges\":[[\"%0600d\",\"a\"],", 0);
    edited(o, "tokenizers_2094_merge_longer_than_any_token", "\"merges\":[", longest);
    snprintf(longest, sizeof longest, "\"vocab\":{\"%0600d\":400,", 0);
    edited(o, "token_of_600_bytes", "\"vocab\":{", longest);
    char *deep = nested("{\"model\":", 100000, "}");
    text(o, "vocab", "depth_100000", false, deep);
    free(deep);
}

/* ---- configs ---- */

static const char text_conf[] = "{\"model_type\":\"qwen3\",\"head_dim\":32,\"hidden_size\":64,\"intermediate_size\":160,\"num_attention_heads\":4,"
                                "\"num_hidden_layers\":4,\"num_key_value_heads\":2,\"rms_norm_eps\":1e-06,\"rope_theta\":1000000.0,\"vocab_size\":1280,"
                                "\"hidden_act\":\"silu\",\"attention_bias\":false}";
static const char dit_conf[] = "{\"_class_name\":\"ZImageTransformer2DModel\",\"all_f_patch_size\":[1],\"all_patch_size\":[2],\"axes_dims\":[8,12,12],"
                               "\"axes_lens\":[1024,512,512],\"cap_feat_dim\":64,\"dim\":128,\"in_channels\":16,\"n_heads\":4,\"n_kv_heads\":4,"
                               "\"n_layers\":2,\"n_refiner_layers\":2,\"norm_eps\":1e-05,\"qk_norm\":true,\"rope_theta\":256.0,\"t_scale\":1000.0}";
static const char vae_conf[] = "{\"_class_name\":\"AutoencoderKL\",\"act_fn\":\"silu\",\"block_out_channels\":[16,32,32,32],\"latent_channels\":16,"
                               "\"layers_per_block\":2,\"mid_block_add_attention\":true,\"norm_num_groups\":8,\"out_channels\":3,"
                               "\"scaling_factor\":0.3611,\"shift_factor\":0.1159,\"use_post_quant_conv\":false,"
                               "\"up_block_types\":[\"UpDecoderBlock2D\",\"UpDecoderBlock2D\",\"UpDecoderBlock2D\",\"UpDecoderBlock2D\"]}";

/* Each number of the config once replaced by each of the values no network has. */
static void configs(const struct out *o, const char *parser, const char *base)
{
    static const char *const values[] = { "-1", "2147483648", "9223372036854775807", "1e309", "\"4\"", "[]", "{}", "0.5" };
    char                     json[1024], name[96];
    int                      n = 0;
    text(o, parser, "plain", true, base);
    for (const char *at = strchr(base, ':'); at; at = strchr(at + 1, ':')) {
        size_t digits = strspn(at + 1, "0123456789.e-");
        for (size_t i = 0; digits && i < sizeof values / sizeof *values; i++) {
            bool real = strspn(at + 1, "0123456789") < digits;
            if ((real && (i == 1 || i == 2 || i == 7)) || !strncmp(at - 8, "_factor\"", 8)) /* reals have wide bounds */
                continue;
            snprintf(json, sizeof json, "%.*s%s%s", (int)(at + 1 - base), base, values[i], at + 1 + digits);
            snprintf(name, sizeof name, "number_%d_is_%zu", n, i);
            text(o, parser, name, false, json);
        }
        n++;
    }
    text(o, parser, "empty", false, "");
    text(o, parser, "no_object", false, "[]");
    text(o, parser, "nothing_inside", false, "{}");
    char *deep = nested("{\"x\":", 100000, "}");
    text(o, parser, "depth_100000", false, deep);
    free(deep);
}

void nasty_json(nasty_see_f *see, void *ctx)
{
    const struct out o = { see, ctx };
    safetensors(&o);
    indexes(&o);
    tokenizers(&o);
    configs(&o, "config_text", text_conf);
    configs(&o, "config_dit", dit_conf);
    configs(&o, "config_vae", vae_conf);
}

void nasty_each(nasty_see_f *see, void *ctx)
{
    nasty_gguf(see, ctx);
    nasty_json(see, ctx);
}
