/* inspect.c - zfarm-model inspect: what a checkpoint folder, one of its parts, or a single file holds, and what is missing.
 * A part's config says which tensors there must be (plan.h); the files are checked as strictly as the engine checks them.
 * Not here: judging the values of weights. */
#include <argp.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "engine/config.h"
#include "engine/profile.h"
#include "engine/safetensors.h"
#include "engine/tokenizer.h"
#include "engine/weights.h"
#include "tools/plan.h"
#include "tools/tools.h"

#define LISTED_MAX 20 /* missing tensors named before "and N more" */

struct inspect_args {
    const char *path;
    bool        brief;
};

enum part { PART_TRANSFORMER, PART_TEXT, PART_VAE, PART_UNKNOWN };

static const struct {
    const char *folder, *prefix;
} PARTS[] = {{"transformer", NULL}, {"text_encoder", "model."}, {"vae", NULL}};

static const struct argp_option OPTIONS[] = {
    {"brief", 'b', NULL, 0, "totals and what is missing, without the table of tensors", 0},
    {0},
};

static error_t on_option(int key, char *arg, struct argp_state *state)
{
    struct inspect_args *a = state->input;

    switch (key) {
    case 'b': a->brief = true; return 0;
    case ARGP_KEY_ARG:
        if (a->path)
            argp_error(state, "one DIR or FILE at a time");
        a->path = arg;
        return 0;
    case ARGP_KEY_NO_ARGS: argp_error(state, "DIR or FILE is missing"); return 0;
    default: return ARGP_ERR_UNKNOWN;
    }
}

static const char *shape_text(int rank, const int64_t *dim, char *text, size_t cap)
{
    size_t at = 0;

    at += (size_t)snprintf(text, cap, "[");
    for (int i = 0; i < rank && at < cap; i++)
        at += (size_t)snprintf(text + at, cap - at, "%s%" PRId64, i ? "," : "", dim[i]);
    if (at < cap)
        snprintf(text + at, cap - at, "]");
    return text;
}

static void put_entry(const struct safetensors_entry *t)
{
    char shape[200];
    printf("  %-60s %-7s %-22s %14" PRIu64 "\n", t->name, t->type_word, shape_text(t->rank, t->dim, shape, sizeof shape), t->bytes);
}

static void put_total(size_t n, int64_t values, int64_t bytes)
{
    char count[32], size[32];
    printf("  %zu tensors, %" PRId64 " parameters (%s), %" PRId64 " bytes (%s)\n", n, values, tool_count_text(values, count, sizeof count), bytes,
           tool_bytes_text(bytes, size, sizeof size));
}

/* Older VAE attention names, as the engine takes them, too. */
static bool alias(const char *name, char *other, size_t cap)
{
    static const char *const pair[][2] = {{".to_q.", ".query."}, {".to_k.", ".key."}, {".to_v.", ".value."}, {".to_out.0.", ".proj_attn."}};

    for (size_t i = 0; i < sizeof pair / sizeof *pair; i++) {
        const char *at = strstr(name, pair[i][0]);
        if (at) {
            snprintf(other, cap, "%.*s%s%s", (int)(at - name), name, pair[i][1], at + strlen(pair[i][0]));
            return true;
        }
    }
    return false;
}

/* 0 when the tensor is there with its shape and a usable dtype. */
static int check_tensor(struct weights *w, enum part part, const struct plan_tensor *t, struct err *e)
{
    struct tensor out;
    char          other[PLAN_NAME_MAX + 16];

    if (part == PART_VAE && !weights_has(w, t->name) && alias(t->name, other, sizeof other) && weights_has(w, other))
        return weights_get(w, other, t->rank, t->dim, &out, e);
    return weights_get(w, t->name, t->rank, t->dim, &out, e);
}

/* Names what the config asks for and the files lack. Returns how many of them the engine needs. */
static int put_missing(struct weights *w, enum part part, const struct plan *p)
{
    int n_needed = 0, n_other = 0;

    for (size_t i = 0; i < p->n; i++) {
        const struct plan_tensor *t = &p->at[i];
        struct err                e = {0};
        char                      shape[200];
        int                       rc = check_tensor(w, part, t, &e);
        if (!rc)
            continue;
        if (!t->needed) {
            n_other++;
            continue;
        }
        if (++n_needed > LISTED_MAX)
            continue;
        if (rc == ERR_NOTFOUND)
            printf("  MISSING %s %s\n", t->name, shape_text(t->rank, t->dim, shape, sizeof shape));
        else
            printf("  WRONG   %s\n", e.text);
    }
    if (n_needed > LISTED_MAX)
        printf("  ... and %d more\n", n_needed - LISTED_MAX);
    if (n_needed)
        printf("  NOT COMPLETE: %d tensors that the config needs are missing or wrong\n", n_needed);
    else
        printf("  complete: every tensor that generating needs is there%s\n", n_other ? "; some that it does not need are left out" : "");
    return n_needed;
}

/* Fills p from dir/config.json and prints a line about it. */
static int plan_of(enum part part, const char *dir, struct plan *p, struct err *e)
{
    char             path[600];
    struct buf       b;
    struct text_conf text;
    struct dit_conf  dit;
    struct vae_conf  vae;
    int              rc;

    buf_init(&b, CONFIG_BYTES_MAX);
    if ((rc = file_join(path, sizeof path, dir, "config.json", e)) || (rc = file_read(path, &b, e)))
        goto done;
    if (part == PART_TRANSFORMER && !(rc = config_dit(&dit, buf_str(&b), path, e))) {
        printf("  dim %d, %d layers + %d + %d refiners, %d heads of %d, ffn %d, caption features %d\n", dit.dim, dit.n_layers, dit.n_refiners,
               dit.n_refiners, dit.n_heads, dit.head_dim, dit.ffn, dit.cap_feat_dim);
        rc = plan_dit(p, &dit, e);
    } else if (part == PART_TEXT && !(rc = config_text(&text, buf_str(&b), path, e))) {
        printf("  hidden %d, %d layers, %d heads (%d key/value) of %d, ffn %d, vocabulary %d\n", text.hidden, text.n_layers, text.n_heads,
               text.n_kv_heads, text.head_dim, text.ffn, text.vocab);
        rc = plan_text(p, &text, e);
    } else if (part == PART_VAE && !(rc = config_vae(&vae, buf_str(&b), path, e))) {
        printf("  latent channels %d, channels", vae.latent_channels);
        for (int i = 0; i < vae.n_levels; i++)
            printf(" %d", vae.channels[i]);
        printf(", %d layers per block, scaling %g, shift %g\n", vae.layers_per_block, (double)vae.scaling, (double)vae.shift);
        rc = plan_vae(p, &vae, false, vae.post_quant, e);
    }
done:
    buf_release(&b);
    return rc;
}

static int inspect_part(enum part part, const char *dir, bool brief)
{
    struct weights *w = NULL;
    struct plan     p = {0};
    struct err      e = {0};
    const char     *file = NULL, *last = NULL;
    int             rc;

    printf("%s\n", dir);
    if (part != PART_UNKNOWN && (rc = plan_of(part, dir, &p, &e)))
        goto done;
    if ((rc = weights_open(&w, dir, part == PART_UNKNOWN ? NULL : PARTS[part].prefix, &e)))
        goto done;
    for (size_t i = 0; i < weights_count(w); i++) {
        const struct safetensors_entry *t = weights_entry(w, i, &file);
        if (file != last)
            printf("  %s\n", file);
        last = file;
        if (!brief)
            put_entry(t);
    }
    put_total(weights_count(w), weights_values(w), weights_bytes(w));
    if (p.n)
        rc = put_missing(w, part, &p) ? ERR_FORMAT : 0;
done:
    if (e.code)
        rc = tool_failed(&e);
    weights_free(w);
    plan_release(&p);
    return rc ? 1 : 0;
}

static int inspect_tokenizer(const char *dir)
{
    struct tokenizer *t = NULL;
    struct err        e = {0};

    printf("%s\n", dir);
    if (tokenizer_open(&t, dir, &e))
        return tool_failed(&e);
    printf("  ids 0..%zu\n", tokenizer_vocab(t) - 1);
    tokenizer_free(t);
    return 0;
}

static int inspect_model(const char *dir, bool brief)
{
    struct model_conf     c;
    struct engine_profile profile = {0};
    struct err            e = {0};
    char                  path[600];
    int                   rc = 0;

    printf("%s\n", dir);
    if (config_open(&c, dir, NULL, &e)) {
        rc = tool_failed(&e);
    } else {
        profile_of(&c, &profile);
        printf("  profile %s: %d passes, guidance %g by default; shift %g%s\n", profile.name, profile.n_steps, (double)profile.guidance,
               c.schedule.shift, c.schedule.use_dynamic_shifting ? ", dynamic" : "");
    }
    for (int i = 0; i < PART_UNKNOWN; i++) {
        if (file_join(path, sizeof path, dir, PARTS[i].folder, &e))
            return tool_failed(&e);
        rc |= inspect_part((enum part)i, path, brief);
    }
    if (file_join(path, sizeof path, dir, "tokenizer", &e))
        return tool_failed(&e);
    return rc | inspect_tokenizer(path);
}

static int inspect_file(const char *path, bool brief)
{
    struct safetensors s;
    struct err         e = {0};
    int64_t            values = 0;

    if (safetensors_open(&s, path, &e))
        return tool_failed(&e);
    printf("%s\n", path);
    for (size_t i = 0; i < s.n; i++) {
        int64_t n = 1;
        for (int k = 0; k < s.entry[i].rank; k++)
            n *= s.entry[i].dim[k];
        values += n;
        if (!brief)
            put_entry(&s.entry[i]);
    }
    put_total(s.n, values, (int64_t)s.data_bytes);
    safetensors_close(&s);
    return 0;
}

/* Which part a folder is, by the class its config names. */
static enum part part_of(const char *dir)
{
    char          path[600];
    struct buf    b;
    json_t       *root = NULL;
    const char   *name;
    enum part     part = PART_UNKNOWN;

    buf_init(&b, CONFIG_BYTES_MAX);
    if (file_join(path, sizeof path, dir, "config.json", NULL) == 0 && file_read(path, &b, NULL) == 0)
        root = json_loadb(b.at, b.len, 0, NULL);
    name = json_string_value(json_object_get(root, "_class_name"));
    if (name && strcmp(name, "ZImageTransformer2DModel") == 0)
        part = PART_TRANSFORMER;
    else if (name && strcmp(name, "AutoencoderKL") == 0)
        part = PART_VAE;
    name = json_string_value(json_object_get(root, "model_type"));
    if (name && strcmp(name, "qwen3") == 0)
        part = PART_TEXT;
    json_decref(root);
    buf_release(&b);
    return part;
}

static int inspect(const struct inspect_args *a)
{
    struct err e = {0};
    char       path[600];

    if (!file_is_folder(a->path))
        return inspect_file(a->path, a->brief);
    if (file_join(path, sizeof path, a->path, "model_index.json", &e))
        return tool_failed(&e);
    if (file_exists(path))
        return inspect_model(a->path, a->brief);
    return inspect_part(part_of(a->path), a->path, a->brief);
}

int tool_inspect(int argc, char **argv)
{
    const struct argp argp = {OPTIONS, on_option, "DIR|FILE",
                              "Shows what a checkpoint holds: tensors with dtype, shape and bytes, totals, and what is missing for generating.\v"
                              "DIR is a whole model in the diffusers layout (model_index.json) or one of its parts (config.json and .safetensors); "
                              "FILE is one .safetensors file. Exit code 1 when something is missing or wrong.", NULL, NULL, NULL};
    struct inspect_args a = {0};

    argp_parse(&argp, argc, argv, 0, NULL, &a);
    int rc = inspect(&a);
    return tool_done() || rc;
}
