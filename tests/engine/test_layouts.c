/* test_layouts.c - tiny-a saved again in every layout found in the wild gives, byte for byte, the embeddings, latents and pixels of its folder. */
#include "tests/engine/resave.h"

#include "engine/vocab.h"
#include "tests/engine/tiny.h"
#include "tests/near.h"
#include "tests/tmp.h"

enum { LATENT = 16 * 8 * 8, PIXELS = 64 * 64 * 3, FEATURES = 64 * 64 };

struct result {
    float   embed[FEATURES], latent[LATENT];
    uint8_t pixels[PIXELS];
};

static struct resave r;
static struct result folder; /* what the model's own folder gives */
static struct tmp    tmp;

static int make(const struct engine_opts *given, struct result *out, char name[32], struct err *e)
{
    struct engine_opts o = *given;
    struct engine     *g = NULL;
    struct embed      *p = NULL;
    struct latent     *z = NULL;
    struct image       img = { 0 };
    struct gen         gen = tiny_gen(0);
    int64_t            n, c;
    const float       *v;
    int                dim[3], rc;

    o.device = "cpu", o.parts = ENGINE_BOTH, o.precision = ENGINE_F32, o.n_threads = 2;
    memset(out, 0, sizeof *out);
    gen.n_steps = 2;
    if ((rc = engine_open(&g, &o, e)))
        return rc;
    if (engine_encode(g, str_of(TINY_CAT), &p, e) || embed_get(p, &n, &c, out->embed, FEATURES, e) ||
        engine_denoise(g, p, NULL, &gen, NULL, &z, e) || latent_get(z, dim, &v, e) || engine_decode(g, z, &img, e))
        fail_msg("%s", e->text);
    assert_int_equal(dim[0] * dim[1] * dim[2], LATENT);
    memcpy(out->latent, v, sizeof out->latent);
    memcpy(out->pixels, img.rgb, PIXELS);
    if (name)
        snprintf(name, 32, "%s", engine_profile(g)->name);
    image_free(&img);
    latent_free(z);
    embed_free(p);
    engine_free(g);
    return 0;
}

static void same(const char *what, const struct engine_opts *o)
{
    struct result got;
    struct err    e = { 0 };
    if (make(o, &got, NULL, &e))
        fail_msg("%s: %s", what, e.text);
    if (memcmp(got.embed, folder.embed, sizeof got.embed) || memcmp(got.latent, folder.latent, sizeof got.latent) ||
        memcmp(got.pixels, folder.pixels, sizeof got.pixels))
        fail_msg("%s: other bytes than the folder's", what);
}

static void refused(const struct engine_opts *o, int code, const char *part)
{
    struct result got;
    struct err    e = { 0 };
    int           rc = make(o, &got, NULL, &e);
    if (rc != code || !strstr(e.text, part))
        fail_msg("code %d \"%s\", expected %d \"%s\"", rc, e.text, code, part);
}

static void original_dit(void)
{
    resave_load(&r, TINY_MODEL "/transformer");
    resave_fuse(&r);
    resave_rename(&r, "all_x_embedder.2-1", "x_embedder");
    resave_rename(&r, "all_final_layer.2-1", "final_layer");
    resave_rename(&r, "attention.to_out.0", "attention.out");
    resave_rename(&r, "attention.norm_q", "attention.q_norm");
    resave_rename(&r, "attention.norm_k", "attention.k_norm");
    resave_add(&r, "norm_final.weight", 1);
}

static void comfy_dit(void **state)
{
    (void)state;
    char *path = tmp_path(&tmp, "dit.safetensors");
    original_dit();
    resave_safetensors(&r, "", path);
    same("original names", &(struct engine_opts){ .model_dir = TINY_MODEL, .dit = path });
    resave_prefix(&r, "model.diffusion_model.");
    resave_safetensors(&r, "\"zfarm.profile\":\"base\"", path);
    same("original names, prefix", &(struct engine_opts){ .model_dir = TINY_MODEL, .dit = path });
    resave_free(&r);
}

static void bfl_vae(void **state)
{
    (void)state;
    static const char *const pair[][2] = { { "mid_block.resnets.0", "mid.block_1" }, { "mid_block.resnets.1", "mid.block_2" },
                                           { "mid_block.attentions.0.group_norm", "mid.attn_1.norm" }, { "mid_block.attentions.0.to_q", "mid.attn_1.q" },
                                           { "mid_block.attentions.0.to_k", "mid.attn_1.k" }, { "mid_block.attentions.0.to_v", "mid.attn_1.v" },
                                           { "mid_block.attentions.0.to_out.0", "mid.attn_1.proj_out" }, { "conv_norm_out", "norm_out" },
                                           { "conv_shortcut", "nin_shortcut" }, { "upsamplers.0.conv", "upsample.conv" },
                                           { ".resnets.", ".block." } };
    char *path = tmp_path(&tmp, "ae.safetensors");
    resave_load(&r, TINY_MODEL "/vae");
    resave_rename(&r, "attentions.0.to_q", "attentions.0.query"); /* first: names of older diffusers */
    resave_rename(&r, "attentions.0.to_k", "attentions.0.key");
    resave_rename(&r, "attentions.0.to_v", "attentions.0.value");
    resave_rename(&r, "attentions.0.to_out.0", "attentions.0.proj_attn");
    resave_safetensors(&r, "", path);
    same("old attention names", &(struct engine_opts){ .model_dir = TINY_MODEL, .vae = path });
    resave_free(&r);

    resave_load(&r, TINY_MODEL "/vae");
    for (size_t i = 0; i < sizeof pair / sizeof *pair; i++)
        resave_rename(&r, pair[i][0], pair[i][1]);
    for (size_t i = 0; i < r.n; i++) {
        char *at = strstr(r.t[i].name, "up_blocks."), rest[256];
        if (at) { /* levels counted the other way */
            snprintf(rest, sizeof rest, "up.%d%s", 3 - (at[10] - '0'), at + 11);
            memcpy(at, rest, strlen(rest) + 1);
        }
        if (strstr(r.t[i].name, "mid.attn_1.") && r.t[i].rank == 2) {
            r.t[i].rank = 4;
            r.t[i].dim[2] = r.t[i].dim[3] = 1;
        }
    }
    assert_non_null(resave_find(&r, "decoder.up.3.block.0.conv1.weight"));
    assert_non_null(resave_find(&r, "decoder.up.1.upsample.conv.bias"));
    resave_safetensors(&r, "", path);
    same("BFL names", &(struct engine_opts){ .model_dir = TINY_MODEL, .vae = path });
    resave_free(&r);
}

/* tokenizer.ggml.* out of the folder's tokenizer.json, as llama.cpp writes it. */
static void put_tokenizer(struct gguf_head *h)
{
    struct vocab v;
    struct buf   json, tokens, types, merges;
    struct err   e = { 0 };
    char         letter[256][3];
    int          next = 256;

    for (int b = 0; b < 256; b++) { /* the byte alphabet */
        int plain = (b >= 0x21 && b <= 0x7e) || (b >= 0xa1 && b <= 0xac) || b >= 0xae, u = plain ? b : next++;
        if (u < 0x80)
            snprintf(letter[b], 3, "%c", u);
        else
            snprintf(letter[b], 3, "%c%c", 0xc0 | u >> 6, 0x80 | (u & 63));
    }
    buf_init(&json, 1u << 26), buf_init(&tokens, 1u << 26), buf_init(&types, 1u << 26), buf_init(&merges, 1u << 26);
    if (file_read(TINY_MODEL "/tokenizer/tokenizer.json", &json, &e) || vocab_parse(&v, buf_str(&json), &e))
        fail_msg("%s", e.text);
    for (int32_t i = 0; i < v.n_tokens; i++) {
        char     text[2048] = "";
        int32_t  type = 1;
        for (int32_t k = 0; k < v.n_added; k++)
            if (v.added[k].id == i) {
                type = v.added[k].special ? 3 : 4;
                snprintf(text, sizeof text, "%.*s", (int)v.added[k].text.len, v.added[k].text.at);
            }
        for (size_t k = 0, at = 0; type == 1 && k < v.token[i].len; k++)
            at += (size_t)snprintf(text + at, sizeof text - at, "%s", letter[(uint8_t)v.token[i].at[k]]);
        uint64_t len = strlen(text);
        buf_put(&tokens, &len, 8), buf_put(&tokens, text, len), buf_put(&types, &type, 4);
    }
    for (int32_t i = 0; i < v.n_merges; i++) {
        char   text[2048] = "";
        size_t at = 0;
        for (int side = 0; side < 2; side++) {
            struct str s = v.token[side ? v.merge[i].right : v.merge[i].left];
            for (size_t k = 0; k < s.len; k++)
                at += (size_t)snprintf(text + at, sizeof text - at, "%s", letter[(uint8_t)s.at[k]]);
            if (!side)
                text[at++] = ' ', text[at] = 0;
        }
        uint64_t len = at;
        buf_put(&merges, &len, 8), buf_put(&merges, text, len);
    }
    gguf_put_str(h, "tokenizer.ggml.model", str_of("gpt2"));
    gguf_put_str(h, "tokenizer.ggml.pre", str_of("qwen2"));
    gguf_put_array(h, "tokenizer.ggml.tokens", GGUF_STR, (uint64_t)v.n_tokens, buf_str(&tokens));
    gguf_put_array(h, "tokenizer.ggml.token_type", GGUF_I32, (uint64_t)v.n_tokens, buf_str(&types));
    gguf_put_array(h, "tokenizer.ggml.merges", GGUF_STR, (uint64_t)v.n_merges, buf_str(&merges));
    vocab_release(&v);
    buf_release(&json), buf_release(&tokens), buf_release(&types), buf_release(&merges);
}

static void llama_names(void)
{
    static const char *const pair[][2] = { { "model.", "" }, { "embed_tokens", "token_embd" }, { "layers.", "blk." }, { "input_layernorm", "attn_norm" },
                                           { "post_attention_layernorm", "ffn_norm" }, { "self_attn.q_norm", "attn_q_norm" },
                                           { "self_attn.k_norm", "attn_k_norm" }, { "self_attn.q_proj", "attn_q" }, { "self_attn.k_proj", "attn_k" },
                                           { "self_attn.v_proj", "attn_v" }, { "self_attn.o_proj", "attn_output" }, { "mlp.gate_proj", "ffn_gate" },
                                           { "mlp.up_proj", "ffn_up" }, { "mlp.down_proj", "ffn_down" } };
    resave_load(&r, TINY_MODEL "/text_encoder");
    for (size_t i = 0; i < sizeof pair / sizeof *pair; i++)
        resave_rename(&r, pair[i][0], pair[i][1]);
    struct resaved *norm = resave_find(&r, "norm.weight");
    if (norm)
        snprintf(norm->name, sizeof norm->name, "output_norm.weight");
    assert_non_null(resave_find(&r, "blk.3.attn_q.weight"));
}

static void text_encoders(void **state)
{
    (void)state;
    struct gguf_head h;
    char            *st = tmp_path(&tmp, "qwen.safetensors"), *gg = tmp_path(&tmp, "qwen.gguf");

    resave_load(&r, TINY_MODEL "/text_encoder");
    if (strncmp(r.t[0].name, "model.", 6) == 0)
        resave_rename(&r, "model.", "");
    else
        resave_prefix(&r, "model.");
    resave_safetensors(&r, "", st);
    same("the other prefix", &(struct engine_opts){ .model_dir = TINY_MODEL, .text_encoder = st });
    resave_free(&r);

    llama_names();
    gguf_head_init(&h);
    gguf_put_str(&h, "general.architecture", str_of("qwen3"));
    put_tokenizer(&h);
    resave_gguf(&r, &h, gg);
    same("llama.cpp names", &(struct engine_opts){ .model_dir = TINY_MODEL, .text_encoder = gg });
    same("its own tokenizer", &(struct engine_opts){ .model_dir = TINY_MODEL, .text_encoder = gg, .tokenizer = gg });
    /* a set of files: every number but the tiny VAE's groups out of shapes */
    same("a set of files", &(struct engine_opts){ .text_encoder = gg, .dit = TINY_MODEL "/transformer/diffusion_pytorch_model.safetensors",
                                                  .vae = TINY_MODEL "/vae", .profile = "turbo" });
    refused(&(struct engine_opts){ .text_encoder = gg, .dit = TINY_MODEL "/transformer", .vae = TINY_MODEL "/vae" }, ERR_ARG, "--profile turbo");
    refused(&(struct engine_opts){ .text_encoder = gg, .dit = TINY_MODEL "/transformer", .vae = TINY_MODEL "/vae", .profile = "fast" }, ERR_ARG,
            "turbo or base");
    refused(&(struct engine_opts){ .text_encoder = st, .dit = TINY_MODEL "/transformer", .vae = TINY_MODEL "/vae", .profile = "base" }, ERR_NOTFOUND,
            "carries no tokenizer");
    refused(&(struct engine_opts){ .text_encoder = gg, .dit = TINY_MODEL "/transformer", .profile = "base" }, ERR_ARG, "no model folder");
    refused(&(struct engine_opts){ .text_encoder = gg, .dit = TINY_MODEL "/transformer", .profile = "turbo",
                                   .vae = TINY_MODEL "/vae/diffusion_pytorch_model.safetensors" }, ERR_FORMAT, "groups");
    refused(&(struct engine_opts){ .model_dir = TINY_MODEL, .dit = gg }, ERR_NOTFOUND, "is missing");
    resave_free(&r);
}

static void who_says_the_profile(void **state)
{
    (void)state;
    struct engine_opts o = { .model_dir = TINY_MODEL };
    struct result      got;
    struct err         e = { 0 };
    char               name[32], *path = tmp_path(&tmp, "said.safetensors");

    assert_int_equal(make(&o, &got, name, &e), 0);
    assert_string_equal(name, "turbo");
    o.profile = "base";
    assert_int_equal(make(&o, &got, name, &e), 0);
    assert_string_equal(name, "base");
    original_dit();
    resave_safetensors(&r, "\"zfarm.profile\":\"base\"", path);
    o = (struct engine_opts){ .dit = path, .text_encoder = TINY_MODEL "/text_encoder", .vae = TINY_MODEL "/vae", .tokenizer = TINY_MODEL "/tokenizer" };
    assert_int_equal(make(&o, &got, name, &e), 0);
    assert_string_equal(name, "base"); /* the file's own word */
    o.profile = "turbo";
    assert_int_equal(make(&o, &got, name, &e), 0);
    assert_string_equal(name, "turbo");
    resave_free(&r);
}

/* Blocks give what their dequantised values give, to the byte; and stay near the model. */
static void blocks(void **state)
{
    (void)state;
    static const struct { enum dtype type; double limit; } row[] = { { DTYPE_Q8_0, 0.05 }, { DTYPE_Q4_0, 0.6 }, { DTYPE_F16, 0.01 }, { DTYPE_BF16, 0.03 } };
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        struct gguf_head h;
        struct err       e = { 0 };
        struct result    a, b;
        char            *quant = tmp_path(&tmp, "quant.gguf"), *wide = tmp_path(&tmp, "wide.safetensors");
        int              n_blocks = 0;
        original_dit();
        for (size_t k = 0; k < r.n; k++)
            if (r.t[k].rank == 2 && r.t[k].dim[1] % dtype_block(row[i].type) == 0) {
                resave_type(&r.t[k], row[i].type);
                n_blocks++;
            }
        assert_true(n_blocks > 30);
        gguf_head_init(&h);
        resave_gguf(&r, &h, quant);
        for (size_t k = 0; k < r.n; k++)
            resave_type(&r.t[k], DTYPE_F32);
        resave_safetensors(&r, "", wide);
        resave_free(&r);
        if (make(&(struct engine_opts){ .model_dir = TINY_MODEL, .dit = quant }, &a, NULL, &e) ||
            make(&(struct engine_opts){ .model_dir = TINY_MODEL, .dit = wide }, &b, NULL, &e))
            fail_msg("%s", e.text);
        assert_memory_equal(a.latent, b.latent, sizeof a.latent);
        assert_true(near_rms_f32(dtype_name(row[i].type), a.latent, folder.latent, LATENT, row[i].limit, NULL));
    }
}

static void f8_with_scales(void **state)
{
    (void)state;
    struct err    e = { 0 };
    struct result a, b;
    char         *f8 = tmp_path(&tmp, "f8.safetensors"), *wide = tmp_path(&tmp, "wide.safetensors");
    original_dit();
    size_t n = r.n;
    for (size_t k = 0; k < n; k++) {
        struct resaved *t = &r.t[k];
        char            name[256], *at;
        if (t->rank != 2 || !strstr(t->name, "layers.0."))
            continue;
        resave_type(t, DTYPE_F32);
        for (int64_t i = 0; i < resaved_count(t); i++)
            ((float *)(void *)t->at)[i] *= 50;
        resave_type(t, DTYPE_F8_E4M3);
        snprintf(name, sizeof name, "%s", t->name);
        at = strstr(name, ".weight");
        assert_non_null(at);
        memcpy(at, k % 2 ? ".scale_weight" : ".weight_scale", 14);
        resave_add(&r, name, 0.02f);
    }
    assert_true(r.n > n + 5);
    resave_safetensors(&r, "", f8);
    for (size_t k = 0; k < n; k++)
        if (r.t[k].type == DTYPE_F8_E4M3) {
            resave_type(&r.t[k], DTYPE_F32);
            for (int64_t i = 0; i < resaved_count(&r.t[k]); i++)
                ((float *)(void *)r.t[k].at)[i] *= 0.02f;
        }
    while (r.n > n)
        free(r.t[--r.n].at);
    resave_safetensors(&r, "", wide);
    if (make(&(struct engine_opts){ .model_dir = TINY_MODEL, .dit = f8 }, &a, NULL, &e) ||
        make(&(struct engine_opts){ .model_dir = TINY_MODEL, .dit = wide }, &b, NULL, &e))
        fail_msg("%s", e.text);
    assert_true(near_rms_f32("f8", a.latent, b.latent, LATENT, 1e-4, NULL));
    assert_false(memcmp(a.latent, folder.latent, sizeof a.latent) == 0);

    /* a scale that is not one positive number is refused */
    struct resaved *bad = resave_find(&r, "layers.0.feed_forward.w1.weight");
    assert_non_null(bad);
    resave_type(bad, DTYPE_F8_E4M3);
    resave_add(&r, "layers.0.feed_forward.w1.scale_weight", -1);
    resave_safetensors(&r, "", f8);
    refused(&(struct engine_opts){ .model_dir = TINY_MODEL, .dit = f8 }, ERR_FORMAT, "above 0");
    resave_free(&r);
}

static int set_up(void **state)
{
    struct err e = { 0 };
    (void)state;
    tmp_open(&tmp);
    if (make(&(struct engine_opts){ .model_dir = TINY_MODEL }, &folder, NULL, &e))
        fail_msg("%s", e.text);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    tmp_close(&tmp);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(comfy_dit), cmocka_unit_test(bfl_vae),        cmocka_unit_test(text_encoders), cmocka_unit_test(who_says_the_profile),
        cmocka_unit_test(blocks),    cmocka_unit_test(f8_with_scales),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
