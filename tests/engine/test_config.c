/* test_config.c - every number of the configs has a minimum and a maximum, and what does not fit together is named.
 * Each row edits one place of tiny-a's file (or writes one in) and expects a sentence. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "engine/config.h"
#include "tests/engine/tiny.h"
#include "tests/golden.h"

static char *file_of(const char *name)
{
    char path[512];
    snprintf(path, sizeof path, "%s/%s", TINY_MODEL, name);
    return golden_file(path, NULL);
}

/* text with the first `from` replaced by `to`; an empty `from` puts `to` after the first brace. malloc'd */
static char *edited(const char *text, const char *from, const char *to)
{
    const char *at = from[0] ? strstr(text, from) : text + 1;
    size_t      n = strlen(text) + strlen(to) + 1;
    char       *out = malloc(n);
    if (!at || !out)
        fail_msg("there is no %s in the file", from);
    snprintf(out, n, "%.*s%s%s", (int)(at - text), text, to, at + strlen(from));
    return out;
}

struct row { const char *from, *to, *part; }; /* part NULL: accepted */

enum kind { TEXT, DIT, VAE, SCHEDULE, INDEX };

static int parse(enum kind kind, struct str json, struct err *e)
{
    struct text_conf     t;
    struct dit_conf      d;
    struct vae_conf      v;
    struct schedule_conf s;
    char                 hint[32];
    switch (kind) {
    case TEXT: return config_text(&t, json, "config.json", e);
    case DIT: return config_dit(&d, json, "config.json", e);
    case VAE: return config_vae(&v, json, "config.json", e);
    case SCHEDULE: return config_schedule(&s, json, "config.json", e);
    default: return config_index(hint, json, "config.json", e);
    }
}

static void try_rows(enum kind kind, const char *name, const struct row *row, size_t n)
{
    char *text = file_of(name);
    for (size_t i = 0; i < n; i++) {
        struct err e = { 0 };
        char      *json = edited(text, row[i].from, row[i].to);
        int        rc = parse(kind, str_of(json), &e);
        if (!row[i].part ? rc != 0 : rc != ERR_FORMAT || !strstr(e.text, row[i].part) || !strstr(e.text, "config.json"))
            fail_msg("%s: %s -> %s: %d \"%s\", expected \"%s\"", name, row[i].from, row[i].to, rc, e.text, row[i].part ? row[i].part : "ok");
        free(json);
    }
    for (size_t cut = 0; cut + 2 < strlen(text); cut += 7) { /* no prefix of a config is one */
        struct err e = { 0 };
        assert_true(parse(kind, (struct str){ text, cut }, &e) < 0);
    }
    free(text);
}

#define ROWS(kind, name, rows) try_rows(kind, name, rows, sizeof rows / sizeof *rows)

static void text_encoder(void **state)
{
    static const struct row rows[] = {
        { "\"head_dim\": 32", "\"head_dim\": 0", "\"head_dim\" is 0, it must be 2 to 1024" },
        { "\"head_dim\": 32", "\"head_dim\": 31", "odd" },
        { "\"head_dim\": 32", "\"head_dim\": -2", "must be 2" },
        { "\"head_dim\": 32", "\"head_dim\": 32.0", "not a whole number" },
        { "\"head_dim\": 32,", "", NULL }, /* hidden / heads */
        { "\"head_dim\": 32", "\"head_dim\": null", NULL },
        { "\"num_hidden_layers\": 4", "\"num_hidden_layers\": 1", "num_hidden_layers" },
        { "\"num_hidden_layers\": 4", "\"num_hidden_layers\": 1000000000", "must be 2 to 1024" },
        { "\"num_hidden_layers\": 4", "\"num_hidden_layers\": 99999999999999999999", "not valid JSON" },
        { "\"num_hidden_layers\": 4", "\"num_hidden_layers\": 4294967300", "must be 2 to 1024" },
        { "\"num_attention_heads\": 4", "\"num_attention_heads\": 0", "num_attention_heads" },
        { "\"num_key_value_heads\": 2", "\"num_key_value_heads\": 3", "multiple of" },
        { "\"num_key_value_heads\": 2", "\"num_key_value_heads\": 0", "num_key_value_heads" },
        { "\"hidden_size\": 64", "\"hidden_size\": 100000000", "hidden_size" },
        { "\"hidden_size\": 64,", "", "\"hidden_size\" is missing" },
        { "\"hidden_size\": 64", "\"hidden_size\": \"64\"", "not a whole number" },
        { "\"intermediate_size\": 160", "\"intermediate_size\": 0", "intermediate_size" },
        { "\"vocab_size\": 1280", "\"vocab_size\": 0", "vocab_size" },
        { "\"rms_norm_eps\": 1e-06", "\"rms_norm_eps\": 0", "rms_norm_eps" },
        { "\"rms_norm_eps\": 1e-06", "\"rms_norm_eps\": -1e-6", "rms_norm_eps" },
        { "\"rope_theta\": 1000000.0", "\"rope_theta\": 0", "rope_theta" },
        { "\"rope_theta\": 1000000.0,", "", "\"rope_theta\" is missing" },
        { "\"rope_parameters\"", "\"rope_theta\": 1000000, \"other\"", NULL }, /* top-level */
        { "\"rope_type\": \"default\"", "\"rope_type\": \"yarn\"", "rope_type" },
        { "\"attention_bias\": false", "\"attention_bias\": true", "attention_bias" },
        { "\"use_sliding_window\": false", "\"use_sliding_window\": true", "use_sliding_window" },
        { "\"hidden_act\": \"silu\"", "\"hidden_act\": \"gelu\"", "hidden_act" },
        { "\"model_type\": \"qwen3\"", "\"model_type\": \"llama\"", "\"llama\", supported is qwen3" },
        { "\"model_type\": \"qwen3\"", "\"model_type\": \"q\\nwen3\"", "supported is qwen3" },
        { "", "\"hidden_size\": 64,", "not valid JSON: duplicate" },
        { "", "\"x\": [[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]],", "nests deeper" },
        { "", "\"unknown\": {\"a\": [1, 2]},", NULL },
    };
    (void)state;
    ROWS(TEXT, "text_encoder/config.json", rows);
}

static void transformer(void **state)
{
    static const struct row rows[] = {
        { "\"dim\": 128", "\"dim\": 130", "multiple of" },
        { "\"dim\": 128", "\"dim\": 0", "\"dim\" is 0" },
        { "\"dim\": 128", "\"dim\": 1000000000", "\"dim\"" },
        { "\"n_heads\": 4", "\"n_heads\": 0", "n_heads" },
        { "\"n_heads\": 4", "\"n_heads\": 8", "n_kv_heads" },
        { "\"n_kv_heads\": 4", "\"n_kv_heads\": 2", "n_kv_heads" },
        { "\"n_layers\": 2", "\"n_layers\": 0", "n_layers" },
        { "\"n_refiner_layers\": 2", "\"n_refiner_layers\": -1", "n_refiner_layers" },
        { "8,", "10,", "sum to 34" },
        { "8,", "7,", "odd" },
        { "8,", "0,", "axes_dims" },
        { "8,", "", "not an array of 3 to 3" },
        { "512\n", "0\n", "axes_lens" },
        { "\"all_patch_size\": [\n    2", "\"all_patch_size\": [\n    4", "all_patch_size" },
        { "\"all_f_patch_size\": [\n    1", "\"all_f_patch_size\": [\n    2", "all_f_patch_size" },
        { "\"in_channels\": 16", "\"in_channels\": 0", "in_channels" },
        { "\"cap_feat_dim\": 64", "\"cap_feat_dim\": 0", "cap_feat_dim" },
        { "\"qk_norm\": true", "\"qk_norm\": false", "qk_norm" },
        { "\"siglip_feat_dim\": null", "\"siglip_feat_dim\": 1152", "siglip_feat_dim" },
        { "\"rope_theta\": 256.0", "\"rope_theta\": 0.5", "rope_theta" },
        { "\"t_scale\": 1000.0", "\"t_scale\": 1e300", "t_scale" },
        { "ZImageTransformer2DModel", "FluxTransformer2DModel", "_class_name" },
        { "\"norm_eps\": 1e-05", "\"norm_eps\": 1e-06", NULL },
    };
    (void)state;
    ROWS(DIT, "transformer/config.json", rows);
}

static void vae(void **state)
{
    static const struct row rows[] = {
        { "\"norm_num_groups\": 8", "\"norm_num_groups\": 7", "does not divide" },
        { "\"norm_num_groups\": 8", "\"norm_num_groups\": 0", "norm_num_groups" },
        { "\"layers_per_block\": 2", "\"layers_per_block\": 0", "layers_per_block" },
        { "\"latent_channels\": 16", "\"latent_channels\": 0", "latent_channels" },
        { "\"out_channels\": 3", "\"out_channels\": 4", "out_channels" },
        { "\"scaling_factor\": 0.3611", "\"scaling_factor\": 0", "scaling_factor" },
        { "\"scaling_factor\": 0.3611", "\"scaling_factor\": true", "not a number" },
        { "\"shift_factor\": 0.1159", "\"shift_factor\": null", NULL },
        { "\"shift_factor\": 0.1159", "\"shift_factor\": \"x\"", "shift_factor" },
        { "\"latents_mean\": null", "\"latents_mean\": [0]", "latents_mean" },
        { "\"UpDecoderBlock2D\",", "\"AttnUpDecoderBlock2D\",", "up_block_types" },
        { "\"UpDecoderBlock2D\",", "", "differ in length" },
        { "\"mid_block_add_attention\": true", "\"mid_block_add_attention\": false", "mid_block_add_attention" },
        { "\"act_fn\": \"silu\"", "\"act_fn\": \"relu\"", "act_fn" },
        { "\"AutoencoderKL\"", "\"AutoencoderTiny\"", "_class_name" },
        { "\"block_out_channels\": [", "\"block_out_channels\": [0,", "block_out_channels" },
        { "\"block_out_channels\": [", "\"block_out_channels\": [8,8,8,", "block_out_channels" },
        { "\"use_post_quant_conv\": false", "\"use_post_quant_conv\": 0", "not true or false" },
    };
    (void)state;
    ROWS(VAE, "vae/config.json", rows);
}

static void scheduler(void **state)
{
    static const struct row rows[] = {
        { "\"shift\": 3.0", "\"shift\": 0", "shift" },
        { "\"shift\": 3.0", "\"shift\": -1", "shift" },
        { "\"shift\": 3.0", "\"shift\": 6", NULL },
        { "\"use_dynamic_shifting\": false", "\"use_dynamic_shifting\": true", NULL },
        { "\"time_shift_type\": \"exponential\"", "\"time_shift_type\": \"linear\"", NULL },
        { "\"time_shift_type\": \"exponential\"", "\"time_shift_type\": \"cubic\"", "exponential|linear" },
        { "\"time_shift_type\": \"exponential\"", "\"time_shift_type\": \"exponential|linear\"", "exponential|linear" },
        { "\"use_karras_sigmas\": false", "\"use_karras_sigmas\": true", "use_karras_sigmas" },
        { "\"stochastic_sampling\": false", "\"stochastic_sampling\": true", "stochastic_sampling" },
        { "\"num_train_timesteps\": 1000", "\"num_train_timesteps\": 0", "num_train_timesteps" },
        { "FlowMatchEulerDiscreteScheduler", "DDIMScheduler", "_class_name" },
    };
    (void)state;
    ROWS(SCHEDULE, "scheduler/scheduler_config.json", rows);
}

static void model_index(void **state)
{
    static const struct row rows[] = {
        { "\"ZImagePipeline\"", "\"FluxPipeline\"", "_class_name" },
        { "\"Qwen3Model\"", "\"Qwen3ForCausalLM\"", NULL },
        { "\"Qwen3Model\"", "\"T5EncoderModel\"", "text_encoder" },
        { "\"Qwen3Model\"", "null", "text_encoder" },
        { "\"vae\": [", "\"vea\": [", "\"vae\" is missing" },
        { "", "\"zfarm\": {\"profile\": \"base\"},", NULL },
        { "", "\"zfarm\": {\"profile\": \"fast\"},", "turbo|base" },
    };
    (void)state;
    ROWS(INDEX, "model_index.json", rows);
}

static void the_real_sizes_are_what_the_files_say(void **state)
{
    struct model_conf c;
    struct err        e = { 0 };
    (void)state;
    if (config_open(&c, TINY_MODEL, NULL, &e))
        fail_msg("%s", e.text);
    assert_int_equal(c.dit.ffn, 341);
    assert_int_equal(c.dit.head_dim, 32);
    assert_int_equal(c.dit.adaln_dim, 128);
    assert_int_equal(c.text.n_kv_heads, 2);
    assert_true(c.text.rope_theta == 1e6);
    assert_int_equal(c.vae.n_levels, 4);
    assert_int_equal(c.vae.channels[0], 16);
    assert_false(c.vae.post_quant);
    assert_true(c.schedule.shift == 3.0);
    c.dit.cap_feat_dim = 65;
    assert_int_equal(config_cross_check(&c, "dir", &e), ERR_FORMAT);
    assert_non_null(strstr(e.text, "hidden_size is 64"));
    c.dit.cap_feat_dim = 64, c.dit.channels = 4;
    assert_int_equal(config_cross_check(&c, "dir", &e), ERR_FORMAT);
    c.dit.channels = 16, c.dit.axes_lens[0] = 256;
    assert_int_equal(config_cross_check(&c, "dir", &e), ERR_FORMAT);
    assert_non_null(strstr(e.text, "at least 514"));
}

static void the_published_transformer_is_read(void **state)
{
    static const char json[] = "{\"_class_name\":\"ZImageTransformer2DModel\",\"all_f_patch_size\":[1],\"all_patch_size\":[2],\"axes_dims\":[32,48,48],"
                               "\"axes_lens\":[1536,512,512],\"cap_feat_dim\":2560,\"dim\":3840,\"in_channels\":16,\"n_heads\":30,\"n_kv_heads\":30,"
                               "\"n_layers\":30,\"n_refiner_layers\":2,\"norm_eps\":1e-05,\"qk_norm\":true,\"rope_theta\":256.0,\"t_scale\":1000.0}";
    struct dit_conf   c;
    struct err        e = { 0 };
    (void)state;
    if (config_dit(&c, str_of(json), "config.json", &e))
        fail_msg("%s", e.text);
    assert_int_equal(c.ffn, 10240);
    assert_int_equal(c.head_dim, 128);
    assert_int_equal(c.adaln_dim, 256);
}

static void folders_that_are_no_model_are_named(void **state)
{
    struct model_conf c;
    struct err        e = { 0 };
    (void)state;
    assert_int_equal(config_open(&c, "/nonexistent/model", NULL, &e), ERR_NOTFOUND);
    assert_non_null(strstr(e.text, "there is no model folder /nonexistent/model"));
    assert_int_equal(config_open(&c, TESTS_DIR "/engine", NULL, &e), ERR_NOTFOUND);
    assert_non_null(strstr(e.text, "model_index.json"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(text_encoder), cmocka_unit_test(transformer), cmocka_unit_test(vae), cmocka_unit_test(scheduler),
        cmocka_unit_test(model_index), cmocka_unit_test(the_real_sizes_are_what_the_files_say),
        cmocka_unit_test(the_published_transformer_is_read), cmocka_unit_test(folders_that_are_no_model_are_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
