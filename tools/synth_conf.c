/* synth_conf.c - configs of synthetic checkpoints: tiny as a base, small, turbo and files as overrides.
 * The result goes through the engine's own config checks before a byte is written. */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "tools/synth.h"

const char *const synth_folder[SYNTH_PARTS] = {"transformer", "text_encoder", "vae"};

#define DIFFUSERS "0.40.0.dev0"

/* Every key that may be set, with tiny's value. */
static const char TINY[] =
    "{\"transformer\": {\"_class_name\": \"ZImageTransformer2DModel\", \"_diffusers_version\": \"" DIFFUSERS
    "\", \"all_f_patch_size\": [1],"
    " \"all_patch_size\": [2], \"axes_dims\": [8, 12, 12], \"axes_lens\": [1024, 512, 512], \"cap_feat_dim\": 64, \"dim\": 128, "
    "\"in_channels\": 16,"
    " \"n_heads\": 4, \"n_kv_heads\": 4, \"n_layers\": 2, \"n_refiner_layers\": 2, \"norm_eps\": 1e-05, \"qk_norm\": true, \"rope_theta\": "
    "256.0,"
    " \"siglip_feat_dim\": null, \"t_scale\": 1000.0},"
    "\"text_encoder\": {\"architectures\": [\"Qwen3Model\"], \"attention_bias\": false, \"attention_dropout\": 0.0, \"bos_token_id\": null,"
    " \"dtype\": \"bfloat16\", \"eos_token_id\": null, \"head_dim\": 32, \"hidden_act\": \"silu\", \"hidden_size\": 64, "
    "\"initializer_range\": 0.02,"
    " \"intermediate_size\": 160, \"max_position_embeddings\": 4096, \"max_window_layers\": 28, \"model_type\": \"qwen3\","
    " \"num_attention_heads\": 4, \"num_hidden_layers\": 4, \"num_key_value_heads\": 2, \"pad_token_id\": null, \"rms_norm_eps\": 1e-06,"
    " \"rope_parameters\": {\"rope_theta\": 1000000.0, \"rope_type\": \"default\"}, \"sliding_window\": null, \"tie_word_embeddings\": "
    "true,"
    " \"transformers_version\": \"5.17.0\", \"use_cache\": true, \"use_sliding_window\": false, \"vocab_size\": 1280},"
    "\"vae\": {\"_class_name\": \"AutoencoderKL\", \"_diffusers_version\": \"" DIFFUSERS "\", \"act_fn\": \"silu\","
    " \"block_out_channels\": [16, 32, 32, 32], \"down_block_types\": null, \"force_upcast\": true, \"in_channels\": 3, "
    "\"latent_channels\": 16,"
    " \"latents_mean\": null, \"latents_std\": null, \"layers_per_block\": 2, \"mid_block_add_attention\": true, \"norm_num_groups\": 8,"
    " \"out_channels\": 3, \"sample_size\": 32, \"scaling_factor\": 0.3611, \"shift_factor\": 0.1159, \"up_block_types\": null,"
    " \"use_post_quant_conv\": false, \"use_quant_conv\": false},"
    "\"scheduler\": {\"_class_name\": \"FlowMatchEulerDiscreteScheduler\", \"_diffusers_version\": \"" DIFFUSERS
    "\", \"base_image_seq_len\": 256,"
    " \"base_shift\": 0.5, \"invert_sigmas\": false, \"max_image_seq_len\": 4096, \"max_shift\": 1.15, \"num_train_timesteps\": 1000, "
    "\"shift\": 3.0,"
    " \"shift_terminal\": null, \"stochastic_sampling\": false, \"time_shift_type\": \"exponential\", \"use_beta_sigmas\": false,"
    " \"use_dynamic_shifting\": false, \"use_exponential_sigmas\": false, \"use_karras_sigmas\": false}}";

static const char SMALL[] = "{\"transformer\": {\"dim\": 512, \"n_heads\": 8, \"n_kv_heads\": 8, \"axes_dims\": [16, 24, 24], "
                            "\"n_layers\": 6, \"cap_feat_dim\": 256},"
                            "\"text_encoder\": {\"hidden_size\": 256, \"num_hidden_layers\": 8, \"num_attention_heads\": 8, "
                            "\"num_key_value_heads\": 2, \"head_dim\": 64,"
                            " \"intermediate_size\": 768, \"vocab_size\": 4096},"
                            "\"vae\": {\"block_out_channels\": [32, 64, 128, 128], \"norm_num_groups\": 16, \"sample_size\": 256}}";

static const char TURBO[] =
    "{\"transformer\": {\"dim\": 3840, \"n_heads\": 30, \"n_kv_heads\": 30, \"axes_dims\": [32, 48, 48], \"axes_lens\": [1536, 512, 512],"
    " \"n_layers\": 30, \"cap_feat_dim\": 2560},"
    "\"text_encoder\": {\"hidden_size\": 2560, \"num_hidden_layers\": 36, \"num_attention_heads\": 32, \"num_key_value_heads\": 8, "
    "\"head_dim\": 128,"
    " \"intermediate_size\": 9728, \"max_position_embeddings\": 40960, \"max_window_layers\": 36, \"vocab_size\": 151936},"
    "\"vae\": {\"block_out_channels\": [128, 256, 512, 512], \"norm_num_groups\": 32, \"sample_size\": 1024}}";

static const char INDEX[] =
    "{\"_class_name\": \"ZImagePipeline\", \"_diffusers_version\": \"" DIFFUSERS
    "\", \"scheduler\": [\"diffusers\", \"FlowMatchEulerDiscreteScheduler\"],"
    " \"text_encoder\": [\"transformers\", \"Qwen3Model\"], \"tokenizer\": [\"transformers\", \"TokenizersBackend\"],"
    " \"transformer\": [\"diffusers\", \"ZImageTransformer2DModel\"], \"vae\": [\"diffusers\", \"AutoencoderKL\"]}";

static int load(const char *which, json_t **out, struct err *e)
{
    json_error_t why;
    struct buf   b;
    int          rc = 0;

    buf_init(&b, CONFIG_BYTES_MAX);
    if (strcmp(which, "tiny") == 0)
        *out = json_object();
    else if (strcmp(which, "small") == 0)
        *out = json_loads(SMALL, 0, &why);
    else if (strcmp(which, "turbo") == 0)
        *out = json_loads(TURBO, 0, &why);
    else if (!(rc = file_read(which, &b, e)) && !(*out = json_loadb(b.at ? b.at : "", b.len, JSON_REJECT_DUPLICATES, &why)))
        rc = err_set(e, ERR_FORMAT, "%s: not valid JSON at line %d: %s", which, why.line, why.text);
    if (rc == ERR_IO || rc == ERR_NOTFOUND) err_in(e, "--config is neither tiny, small, turbo nor a readable file");
    if (!rc && !json_is_object(*out))
        rc = err_set(e, ERR_FORMAT, "%s: not an object with sections transformer, text_encoder, vae, scheduler", which);
    buf_release(&b);
    return rc;
}

static int override(json_t *all, json_t *user, const char *which, struct err *e)
{
    const char *section, *key;
    json_t     *values, *value;

    json_object_foreach (user, section, values) {
        json_t *into = json_object_get(all, section);
        if (!into || !json_is_object(values))
            return err_set(e, ERR_FORMAT,
                           "%s: section '%.60s' is not one of transformer, text_encoder, vae, scheduler with an object in it", which,
                           section);
        json_object_foreach (values, key, value) {
            if (!json_object_get(into, key)) return err_set(e, ERR_FORMAT, "%s: %s has no key '%.60s'", which, section, key);
            if (json_object_set(into, key, value)) return err_set(e, ERR_NOMEM, "no memory for the config");
        }
    }
    return 0;
}

/* One "DownEncoderBlock2D" for each level, unless the user gave the list. */
static int set_block_types(json_t *vae, const char *key, const char *type, struct err *e)
{
    size_t  n = json_array_size(json_object_get(vae, "block_out_channels"));
    json_t *list;

    if (!json_is_null(json_object_get(vae, key))) return 0;
    list = json_array();
    for (size_t i = 0; i < n; i++) json_array_append_new(list, json_string(type));
    return json_object_set_new(vae, key, list) ? err_set(e, ERR_NOMEM, "no memory for the config") : 0;
}

static char *text_of(const json_t *o)
{
    char *compact = json_dumps(o, JSON_INDENT(2) | JSON_SORT_KEYS);
    if (!compact) return NULL;
    size_t len = strlen(compact);
    char  *text = malloc(len + 2);
    if (text) {
        memcpy(text, compact, len);
        memcpy(text + len, "\n", 2);
    }
    free(compact);
    return text;
}

/* Through the engine's eyes, and the list of tensors. */
static int check(struct synth_conf *c, json_t *all, struct err *e)
{
    struct model_conf *m = &c->model;
    const json_t      *vae = json_object_get(all, "vae");
    int                rc;

    if ((rc = config_dit(&m->dit, str_of(c->part[SYNTH_TRANSFORMER]), "transformer", e)) ||
        (rc = config_text(&m->text, str_of(c->part[SYNTH_TEXT]), "text_encoder", e)) ||
        (rc = config_vae(&m->vae, str_of(c->part[SYNTH_VAE]), "vae", e)) ||
        (rc = config_schedule(&m->schedule, str_of(c->scheduler), "scheduler", e)) || (rc = config_cross_check(m, "config", e)))
        return rc;
    if (m->text.vocab < SYNTH_TOKENS)
        return err_set(e, ERR_FORMAT, "text_encoder: vocab_size is %d, the tokenizer needs %d", m->text.vocab, SYNTH_TOKENS);
    if ((rc = plan_dit(&c->plan[SYNTH_TRANSFORMER], &m->dit, e)) || (rc = plan_text(&c->plan[SYNTH_TEXT], &m->text, e))) return rc;
    return plan_vae(&c->plan[SYNTH_VAE], &m->vae, json_is_true(json_object_get(vae, "use_quant_conv")), m->vae.post_quant, e);
}

int synth_conf_open(struct synth_conf *c, const char *which, bool bf16, struct err *e)
{
    json_t *all = json_loads(TINY, 0, NULL), *index = json_loads(INDEX, 0, NULL), *user = NULL, *vae;
    int     rc;

    memset(c, 0, sizeof *c);
    if (!all || !index) {
        rc = err_set(e, ERR_NOMEM, "no memory for the config");
        goto done;
    }
    if ((rc = load(which, &user, e)) || (rc = override(all, user, which, e))) goto done;
    vae = json_object_get(all, "vae");
    if ((rc = set_block_types(vae, "down_block_types", "DownEncoderBlock2D", e)) ||
        (rc = set_block_types(vae, "up_block_types", "UpDecoderBlock2D", e)))
        goto done;
    json_object_set_new(json_object_get(all, "text_encoder"), "dtype", json_string(bf16 ? "bfloat16" : "float32"));
    for (int i = 0; i < SYNTH_PARTS; i++) c->part[i] = text_of(json_object_get(all, synth_folder[i]));
    c->scheduler = text_of(json_object_get(all, "scheduler"));
    c->index = text_of(index);
    if (!c->part[0] || !c->part[1] || !c->part[2] || !c->scheduler || !c->index) {
        rc = err_set(e, ERR_NOMEM, "no memory for the config");
        goto done;
    }
    rc = check(c, all, e);
    if (rc) err_in(e, "%s", which);
done:
    json_decref(user);
    json_decref(index);
    json_decref(all);
    if (rc) synth_conf_release(c);
    return rc;
}

void synth_conf_release(struct synth_conf *c)
{
    for (int i = 0; i < SYNTH_PARTS; i++) {
        free(c->part[i]);
        plan_release(&c->plan[i]);
    }
    free(c->scheduler);
    free(c->index);
    memset(c, 0, sizeof *c);
}
