/* config.c - see config.h. A struct reader carries the first error; getters after it do nothing and give the minimum. */
#include "engine/config.h"

#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "engine/prompt.h"

#define DEPTH_MAX  16
#define LAYERS_MAX 1024
#define WIDTH_MAX  65536
#define HEADS_MAX  1024
#define VOCAB_MAX  (1 << 22)

struct reader {
    json_t     *root;
    const char *path;
    struct err *e;
    int         rc;
};

/* ---- getters ---- */

static int reader_open(struct reader *r, struct str json, const char *path, struct err *e)
{
    json_error_t je;
    int          depth = 0;
    bool         in_string = false;

    *r = (struct reader){.path = path, .e = e};
    if (json.len > CONFIG_BYTES_MAX)
        return err_set(e, ERR_LIMIT, "%s: %zu bytes, a config has at most %u", path, json.len, CONFIG_BYTES_MAX);
    for (size_t i = 0; i < json.len; i++) { /* before the JSON reader recurses */
        char c = json.at[i];
        if (in_string && c == '\\')
            i++;
        else if (c == '"')
            in_string = !in_string;
        else if (!in_string && (c == '{' || c == '['))
            depth++;
        else if (!in_string && (c == '}' || c == ']'))
            depth--;
        if (depth > DEPTH_MAX) return err_set(e, ERR_FORMAT, "%s nests deeper than %d levels", path, DEPTH_MAX);
    }
    r->root = json_loadb(json.len ? json.at : "", json.len, JSON_REJECT_DUPLICATES, &je);
    if (!r->root) return err_set(e, ERR_FORMAT, "%s is not valid JSON: %s (line %d)", path, je.text, je.line);
    if (!json_is_object(r->root)) {
        json_decref(r->root);
        return err_set(e, ERR_FORMAT, "%s is not a JSON object", path);
    }
    return 0;
}

/* NULL when absent or null. */
static const json_t *get(const json_t *o, const char *key)
{
    const json_t *v = json_object_get(o, key);
    return json_is_null(v) ? NULL : v;
}

/* def < min: the key must be there. */
static int whole_of(struct reader *r, const json_t *v, const char *key, int64_t def, int64_t min, int64_t max)
{
    if (r->rc) return (int)min;
    if (!v && def >= min && def <= max) return (int)def;
    if (!v)
        r->rc = err_set(r->e, ERR_FORMAT, "%s: \"%s\" is missing", r->path, key);
    else if (!json_is_integer(v))
        r->rc = err_set(r->e, ERR_FORMAT, "%s: \"%s\" is not a whole number", r->path, key);
    else if (json_integer_value(v) < min || json_integer_value(v) > max)
        r->rc = err_set(r->e, ERR_FORMAT, "%s: \"%s\" is %" JSON_INTEGER_FORMAT ", it must be %" PRId64 " to %" PRId64, r->path, key,
                        json_integer_value(v), min, max);
    return r->rc ? (int)min : (int)json_integer_value(v);
}

static int whole(struct reader *r, const char *key, int64_t def, int64_t min, int64_t max)
{
    return whole_of(r, get(r->root, key), key, def, min, max);
}

static double number_of(struct reader *r, const json_t *v, const char *key, double def, double min, double max)
{
    if (r->rc) return min;
    if (!v && def >= min && def <= max) return def;
    if (!v)
        r->rc = err_set(r->e, ERR_FORMAT, "%s: \"%s\" is missing", r->path, key);
    else if (!json_is_number(v))
        r->rc = err_set(r->e, ERR_FORMAT, "%s: \"%s\" is not a number", r->path, key);
    else if (!(json_number_value(v) >= min && json_number_value(v) <= max))
        r->rc = err_set(r->e, ERR_FORMAT, "%s: \"%s\" is %g, it must be %g to %g", r->path, key, json_number_value(v), min, max);
    return r->rc ? min : json_number_value(v);
}

static double number(struct reader *r, const char *key, double def, double min, double max)
{
    return number_of(r, get(r->root, key), key, def, min, max);
}

static bool yes(struct reader *r, const char *key, bool def)
{
    const json_t *v = get(r->root, key);
    if (v && !json_is_boolean(v) && !r->rc) r->rc = err_set(r->e, ERR_FORMAT, "%s: \"%s\" is not true or false", r->path, key);
    return v && !r->rc ? json_is_true(v) : def;
}

/* An option that would change the arithmetic and that only has this one value here. */
static void only_bool(struct reader *r, const char *key, bool def, bool wanted)
{
    if (yes(r, key, def) != wanted && !r->rc)
        r->rc = err_set(r->e, ERR_FORMAT, "%s: \"%s\" is %s, only %s is supported", r->path, key, wanted ? "false" : "true",
                        wanted ? "true" : "false");
}

static void only_null(struct reader *r, const char *key)
{
    if (get(r->root, key) && !r->rc) r->rc = err_set(r->e, ERR_FORMAT, "%s: \"%s\" is set, only null is supported", r->path, key);
}

/* Words: "a|b" are the allowed ones; absent is fine when def. */
static const char *word_of(struct reader *r, const json_t *v, const char *key, bool needed, const char *allowed)
{
    size_t      len;
    const char *text = json_string_value(v);
    if (r->rc || (!v && !needed)) return "";
    if (!text) {
        r->rc = err_set(r->e, ERR_FORMAT, "%s: \"%s\" %s, it must be %s", r->path, key, v ? "is not a text" : "is missing", allowed);
        return "";
    }
    len = strlen(text);
    for (const char *p = allowed; len && (p = strstr(p, text)); p++)
        if ((p == allowed || p[-1] == '|') && (p[len] == '|' || !p[len]) && !strchr(text, '|')) return text;
    bool plain = len < 80;
    for (size_t i = 0; plain && i < len; i++) /* a sentence is one line */
        plain = text[i] >= 0x20 && text[i] < 0x7f;
    r->rc = err_set(r->e, ERR_FORMAT, "%s: \"%s\" is \"%s\", supported is %s", r->path, key, plain ? text : "?", allowed);
    return "";
}

static void word(struct reader *r, const char *key, bool needed, const char *allowed)
{
    (void)word_of(r, get(r->root, key), key, needed, allowed);
}

/* An array of n_min..n_max whole numbers; returns how many. */
static int wholes(struct reader *r, const char *key, int *out, int n_min, int n_max, int min, int max)
{
    const json_t *v = get(r->root, key);
    if (r->rc) return n_min;
    if (!json_is_array(v) || json_array_size(v) < (size_t)n_min || json_array_size(v) > (size_t)n_max) {
        r->rc = err_set(r->e, ERR_FORMAT, "%s: \"%s\" is not an array of %d to %d numbers", r->path, key, n_min, n_max);
        return n_min;
    }
    for (size_t i = 0; i < json_array_size(v); i++) out[i] = whole_of(r, json_array_get(v, i), key, (int64_t)min - 1, min, max);
    return (int)json_array_size(v);
}

static void fail(struct reader *r, const char *sentence)
{
    if (!r->rc) r->rc = err_set(r->e, ERR_FORMAT, "%s: %s", r->path, sentence);
}

/* ---- the parts ---- */

static void text_numbers(struct reader *r, struct text_conf *c)
{
    const json_t *rope = get(r->root, "rope_parameters"), *scaling = get(r->root, "rope_scaling"), *theta = get(r->root, "rope_theta");

    c->n_layers = whole(r, "num_hidden_layers", 0, 2, LAYERS_MAX);
    c->hidden = whole(r, "hidden_size", 0, 1, WIDTH_MAX);
    c->n_heads = whole(r, "num_attention_heads", 0, 1, HEADS_MAX);
    c->n_kv_heads = whole(r, "num_key_value_heads", c->n_heads, 1, HEADS_MAX);
    c->ffn = whole(r, "intermediate_size", 0, 1, 8 * WIDTH_MAX);
    c->vocab = whole(r, "vocab_size", 0, 1, VOCAB_MAX);
    c->norm_eps = (float)number(r, "rms_norm_eps", 1e-6, 1e-12, 0.1);
    if (!get(r->root, "head_dim") && c->hidden % c->n_heads)
        fail(r, "\"hidden_size\" is not a multiple of \"num_attention_heads\" and there is no \"head_dim\"");
    c->head_dim = whole(r, "head_dim", c->hidden / c->n_heads, 2, 1024);
    if (c->head_dim % 2) fail(r, "\"head_dim\" is odd: rotary embedding needs an even one");
    if (c->n_heads % c->n_kv_heads) fail(r, "\"num_attention_heads\" is not a multiple of \"num_key_value_heads\"");
    if (!theta && json_is_object(rope)) theta = get(rope, "rope_theta");
    c->rope_theta = number_of(r, theta, "rope_theta", 0, 1, 1e12);
    if (json_is_object(rope)) (void)word_of(r, get(rope, "rope_type"), "rope_type", false, "default");
    if (json_is_object(scaling)) (void)word_of(r, get(scaling, "rope_type"), "rope_type", true, "default");
}

int config_text(struct text_conf *out, struct str json, const char *path, struct err *e)
{
    struct text_conf c = {0};
    struct reader    r;
    int              rc = reader_open(&r, json, path, e);
    if (rc) return rc;
    word(&r, "model_type", true, "qwen3");
    word(&r, "hidden_act", false, "silu");
    only_bool(&r, "attention_bias", false, false);
    only_bool(&r, "use_sliding_window", false, false);
    text_numbers(&r, &c);
    json_decref(r.root);
    if (!r.rc) *out = c;
    return r.rc;
}

static void dit_numbers(struct reader *r, struct dit_conf *c)
{
    int patch[1] = {0}, frames[1] = {0}, sum = 0;

    c->dim = whole(r, "dim", 0, 8, WIDTH_MAX);
    c->n_layers = whole(r, "n_layers", 0, 1, LAYERS_MAX);
    c->n_refiners = whole(r, "n_refiner_layers", -1, 0, LAYERS_MAX);
    c->n_heads = whole(r, "n_heads", 0, 1, HEADS_MAX);
    if (whole(r, "n_kv_heads", c->n_heads, 1, HEADS_MAX) != c->n_heads)
        fail(r, "\"n_kv_heads\" differs from \"n_heads\": grouped heads are not part of this model");
    if (c->dim % c->n_heads) fail(r, "\"dim\" is not a multiple of \"n_heads\"");
    c->head_dim = c->dim / c->n_heads;
    c->ffn = (int)((int64_t)c->dim * 8 / 3);
    c->channels = whole(r, "in_channels", 0, 1, 256);
    c->cap_feat_dim = whole(r, "cap_feat_dim", 0, 1, WIDTH_MAX);
    (void)wholes(r, "all_patch_size", patch, 1, 1, 2, 2);
    (void)wholes(r, "all_f_patch_size", frames, 1, 1, 1, 1);
    c->patch = 2;
    (void)wholes(r, "axes_dims", c->axes_dims, 3, 3, 2, 1024);
    (void)wholes(r, "axes_lens", c->axes_lens, 3, 3, 1, 1 << 20);
    for (int i = 0; i < 3; i++) {
        if (c->axes_dims[i] % 2) fail(r, "\"axes_dims\" holds an odd number: rotary embedding needs even ones");
        sum += c->axes_dims[i];
    }
    if (sum != c->head_dim && !r->rc)
        r->rc = err_set(r->e, ERR_FORMAT, "%s: \"axes_dims\" sum to %d, the heads have dim / n_heads = %d", r->path, sum, c->head_dim);
    c->adaln_dim = c->dim < 256 ? c->dim : 256;
    c->norm_eps = (float)number(r, "norm_eps", 1e-5, 1e-12, 0.1);
    c->t_scale = (float)number(r, "t_scale", 1000, 1e-3, 1e6);
    c->rope_theta = number(r, "rope_theta", 256, 1, 1e12);
}

int config_dit(struct dit_conf *out, struct str json, const char *path, struct err *e)
{
    struct dit_conf c = {0};
    struct reader   r;
    int             rc = reader_open(&r, json, path, e);
    if (rc) return rc;
    word(&r, "_class_name", true, "ZImageTransformer2DModel");
    only_bool(&r, "qk_norm", true, true);
    only_null(&r, "siglip_feat_dim");
    dit_numbers(&r, &c);
    json_decref(r.root);
    if (!r.rc) *out = c;
    return r.rc;
}

static void vae_options(struct reader *r, int n_levels)
{
    const json_t *types = get(r->root, "up_block_types");
    word(r, "_class_name", true, "AutoencoderKL");
    word(r, "act_fn", false, "silu");
    only_bool(r, "mid_block_add_attention", true, true);
    only_null(r, "latents_mean");
    only_null(r, "latents_std");
    if (types && (!json_is_array(types) || json_array_size(types) != (size_t)n_levels))
        fail(r, "\"up_block_types\" and \"block_out_channels\" differ in length");
    for (size_t i = 0; types && i < json_array_size(types); i++)
        (void)word_of(r, json_array_get(types, i), "up_block_types", true, "UpDecoderBlock2D");
}

/* A wish about a default is no reason to fail: whatever cannot be used is no wish. */
static int own_size(const json_t *px)
{
    return json_is_integer(px) && json_integer_value(px) > 0 && json_integer_value(px) <= SAMPLE_MAX_PX ? (int)json_integer_value(px) : 0;
}

int config_vae(struct vae_conf *out, struct str json, const char *path, struct err *e)
{
    struct vae_conf c = {0};
    struct reader   r;
    int             rc = reader_open(&r, json, path, e);
    if (rc) return rc;
    c.n_levels = wholes(&r, "block_out_channels", c.channels, 1, VAE_LEVELS_MAX, 1, 16384);
    vae_options(&r, c.n_levels);
    c.layers_per_block = whole(&r, "layers_per_block", 0, 1, 64);
    c.n_groups = whole(&r, "norm_num_groups", 32, 1, 1024);
    c.latent_channels = whole(&r, "latent_channels", 0, 1, 256);
    (void)whole(&r, "out_channels", 3, 3, 3);
    c.sample_px = own_size(get(r.root, "sample_size"));
    c.scaling = (float)number(&r, "scaling_factor", 0, 1e-6, 1e6);
    c.shift = get(r.root, "shift_factor") ? (float)number(&r, "shift_factor", 0, -1e6, 1e6) : 0;
    c.post_quant = yes(&r, "use_post_quant_conv", true);
    for (int i = 0; i < c.n_levels; i++)
        if (!r.rc && c.channels[i] % c.n_groups)
            r.rc = err_set(e, ERR_FORMAT, "%s: \"norm_num_groups\" is %d and does not divide %d of \"block_out_channels\"", path,
                           c.n_groups, c.channels[i]);
    json_decref(r.root);
    if (!r.rc) *out = c;
    return r.rc;
}

int config_schedule(struct schedule_conf *out, struct str json, const char *path, struct err *e)
{
    struct schedule_conf c;
    struct reader        r;
    int                  rc = reader_open(&r, json, path, e);
    if (rc) return rc;
    schedule_conf_default(&c);
    word(&r, "_class_name", true, "FlowMatchEulerDiscreteScheduler");
    c.num_train_timesteps = whole(&r, "num_train_timesteps", c.num_train_timesteps, 1, 1000000);
    c.shift = number(&r, "shift", 1.0, 1e-3, 1e3); /* absent: what diffusers takes then */
    c.use_dynamic_shifting = yes(&r, "use_dynamic_shifting", false);
    c.base_shift = number(&r, "base_shift", c.base_shift, 0, 100);
    c.max_shift = number(&r, "max_shift", c.max_shift, 0, 100);
    c.base_image_seq_len = whole(&r, "base_image_seq_len", c.base_image_seq_len, 1, 1 << 24);
    c.max_image_seq_len = whole(&r, "max_image_seq_len", c.max_image_seq_len, 1, 1 << 24);
    const char *kind = word_of(&r, get(r.root, "time_shift_type"), "time_shift_type", false, "exponential|linear");
    c.time_shift_type = strcmp(kind, "linear") == 0 ? SCHEDULE_LINEAR : SCHEDULE_EXPONENTIAL;
    c.shift_terminal = get(r.root, "shift_terminal") ? number(&r, "shift_terminal", 0, 0, 0.999) : 0;
    only_bool(&r, "use_karras_sigmas", false, false);
    only_bool(&r, "use_exponential_sigmas", false, false);
    only_bool(&r, "use_beta_sigmas", false, false);
    only_bool(&r, "invert_sigmas", false, false);
    only_bool(&r, "stochastic_sampling", false, false);
    json_decref(r.root);
    if (!r.rc && (r.rc = schedule_conf_check(&c, e))) err_in(e, "%s", path);
    if (!r.rc) *out = c;
    return r.rc;
}

int config_index(char hint[32], struct str json, const char *path, struct err *e)
{
    static const struct {
        const char *part, *classes;
    } parts[] = {
        {"text_encoder", "Qwen3Model|Qwen3ForCausalLM"},
        {"transformer", "ZImageTransformer2DModel"},
        {"vae", "AutoencoderKL"},
        {"scheduler", "FlowMatchEulerDiscreteScheduler"},
    };
    struct reader r;
    int           rc = reader_open(&r, json, path, e);
    if (rc) return rc;
    word(&r, "_class_name", true, "ZImagePipeline");
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) /* ["diffusers", "AutoencoderKL"] */
        (void)word_of(&r, json_array_get(get(r.root, parts[i].part), 1), parts[i].part, true, parts[i].classes);
    const json_t *own = get(r.root, "zfarm");
    const char   *profile = word_of(&r, get(own, "profile"), "profile", false, "turbo|base");
    if (!r.rc) snprintf(hint, 32, "%s", profile);
    json_decref(r.root);
    return r.rc;
}

/* ---- the whole ---- */

int config_cross_check(const struct model_conf *c, const char *dir, struct err *e)
{
    if (c->text.hidden != c->dit.cap_feat_dim)
        return err_set(e, ERR_FORMAT,
                       "%s: the text encoder's hidden_size is %d, the transformer's cap_feat_dim is %d: parts of different models", dir,
                       c->text.hidden, c->dit.cap_feat_dim);
    if (c->vae.latent_channels != c->dit.channels)
        return err_set(e, ERR_FORMAT,
                       "%s: the VAE's latent_channels are %d, the transformer's in_channels are %d: parts of different models", dir,
                       c->vae.latent_channels, c->dit.channels);
    if (c->dit.axes_lens[0] < PROMPT_TOKENS_MAX + 2) /* a caption and one image frame behind it */
        return err_set(e, ERR_FORMAT, "%s: the transformer's axes_lens begin with %d, prompts of %d ids need at least %d", dir,
                       c->dit.axes_lens[0], PROMPT_TOKENS_MAX, PROMPT_TOKENS_MAX + 2);
    return 0;
}

static int read_part(const char *dir, const char *name, char *path, size_t cap, struct buf *b, struct sha256 *digest, struct err *e)
{
    int rc = file_join(path, cap, dir, name, e);
    if (rc || (rc = file_read(path, b, e))) return rc;
    if (digest) {
        sha256_put(digest, name, strlen(name) + 1);
        sha256_put(digest, b->at, b->len);
    }
    return 0;
}

int config_open(struct model_conf *out, const char *dir, struct sha256 *digest, struct err *e)
{
    struct model_conf c = {.hint = ""};
    struct buf        b;
    char              path[1024];
    int               rc;

    buf_init(&b, CONFIG_BYTES_MAX);
    if (!file_is_folder(dir)) {
        rc = err_set(e, ERR_NOTFOUND, "there is no model folder %s", dir);
        goto done;
    }
    if ((rc = file_join(path, sizeof path, dir, "model_index.json", e))) goto done;
    if (!file_exists(path)) {
        rc = err_set(e, ERR_NOTFOUND, "%s holds no model_index.json: not a model folder in the diffusers layout", dir);
        goto done;
    }
    if ((rc = read_part(dir, "model_index.json", path, sizeof path, &b, digest, e)) || (rc = config_index(c.hint, buf_str(&b), path, e)))
        goto done;
    if ((rc = read_part(dir, "text_encoder/config.json", path, sizeof path, &b, digest, e)) ||
        (rc = config_text(&c.text, buf_str(&b), path, e)))
        goto done;
    if ((rc = read_part(dir, "transformer/config.json", path, sizeof path, &b, digest, e)) ||
        (rc = config_dit(&c.dit, buf_str(&b), path, e)))
        goto done;
    if ((rc = read_part(dir, "vae/config.json", path, sizeof path, &b, digest, e)) || (rc = config_vae(&c.vae, buf_str(&b), path, e)))
        goto done;
    if ((rc = read_part(dir, "scheduler/scheduler_config.json", path, sizeof path, &b, digest, e)) ||
        (rc = config_schedule(&c.schedule, buf_str(&b), path, e)))
        goto done;
    if ((rc = config_cross_check(&c, dir, e))) goto done;
    *out = c;
done:
    buf_release(&b);
    return rc;
}
