/* quantize.c - zfarm-model quantize: a DiT or a text encoder into one smaller file, under the names that other tools know.
 * Which type a tensor gets: the first rule that fits, in this order: --rule, vectors (F32), sensitive tensors and rows that do not divide
 * into blocks (16 bit), the mix of the type asked for, that type.
 * Not here: the arithmetic (kernels/quant.h), writing (pack.c). */
#include <argp.h>
#include <fnmatch.h>
#include <inttypes.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "engine/config.h"
#include "engine/infer.h"
#include "engine/names.h"
#include "engine/profile.h"
#include "engine/safetensors.h"
#include "engine/vocab.h"
#include "engine/weights.h"
#include "kernels/cpu/half.h"
#include "kernels/quant.h"
#include "tools/pack.h"
#include "tools/quantize.h"
#include "tools/tools.h"

enum { RULES_MAX = 64 };

/* What people call them. file_type: ggml's number for the whole file. mixed: sensitive products one step higher. */
static const struct kind {
    const char *word;
    enum dtype  type, higher, table; /* higher: of mixed; table: of token embeddings */
    bool        mixed;
    uint32_t    file_type;
} kinds[] = {
    {"f16", DTYPE_F16, DTYPE_F16, DTYPE_F16, false, 1},          {"bf16", DTYPE_BF16, DTYPE_BF16, DTYPE_BF16, false, 32},
    {"q8_0", DTYPE_Q8_0, DTYPE_Q8_0, DTYPE_Q8_0, false, 7},      {"q6_k", DTYPE_Q6_K, DTYPE_Q6_K, DTYPE_Q6_K, false, 18},
    {"q5_k", DTYPE_Q5_K, DTYPE_Q6_K, DTYPE_Q6_K, false, 16},     {"q5_k_m", DTYPE_Q5_K, DTYPE_Q6_K, DTYPE_Q6_K, true, 17},
    {"q4_k_m", DTYPE_Q4_K, DTYPE_Q6_K, DTYPE_Q6_K, true, 15},    {"q4_k", DTYPE_Q4_K, DTYPE_Q6_K, DTYPE_Q6_K, false, 14},
    {"q4_0", DTYPE_Q4_0, DTYPE_Q4_0, DTYPE_Q6_K, false, 2},      {"q3_k", DTYPE_Q3_K, DTYPE_Q4_K, DTYPE_Q6_K, false, 11},
    {"q3_k_m", DTYPE_Q3_K, DTYPE_Q4_K, DTYPE_Q6_K, true, 12},    {"q2_k", DTYPE_Q2_K, DTYPE_Q3_K, DTYPE_Q6_K, true, 10},
    {"fp8", DTYPE_F8_E4M3, DTYPE_F8_E4M3, DTYPE_BF16, false, 0},
};
#define N_KINDS (sizeof kinds / sizeof *kinds)

struct rule {
    const char *pattern;
    enum dtype  type;
};

struct quantize_args {
    const char        *in, *out, *tokenizer, *profile;
    const struct kind *kind;
    struct rule        rule[RULES_MAX];
    int                n_rules, n_threads;
    bool               force, quiet, dry;
};

struct source {
    struct weights *w;
    struct tensor  *t;
}; /* t[i]: of weights_entry i; data NULL: left out */

static volatile sig_atomic_t stop;

static const struct argp_option OPTIONS[] = {
    {"type", 't', "TYPE", 0,
     "q8_0 q6_k q5_k q5_k_m q4_k_m q4_k q4_0 q3_k q3_k_m q2_k f16 bf16, or fp8, which is written as .safetensors (required)", 0},
    {"rule", 'r', "PATTERN=TYPE", 0,
     "tensors whose name in the new file fits the pattern (* ? [..]) get this type (also f32); the first rule that fits wins", 0},
    {"tokenizer", 'k', "DIR", 0, "of a text encoder: the folder of tokenizer.json to put inside (default: ../tokenizer of a model folder)",
     0},
    {"profile", 'p', "turbo|base", 0, "what the file will say it is (default: what IN or its model folder says)", 0},
    {"threads", 'j', "N", 0, "default all CPUs of this process", 0},
    {"dry-run", 'n', NULL, 0, "print the type of every tensor, write nothing", 0},
    {"force", 'f', NULL, 0, "replace OUT when it exists", 0},
    {"quiet", 'q', NULL, 0, "no progress", 0},
    {0},
};

static bool dtype_of(const char *word, enum dtype *out)
{
    for (size_t i = 0; i < N_KINDS; i++)
        if (strcmp(kinds[i].word, word) == 0) {
            *out = kinds[i].type;
            return true;
        }
    *out = DTYPE_F32;
    return strcmp(word, "f32") == 0;
}

static void add_rule(struct argp_state *state, struct quantize_args *a, char *arg)
{
    char *equals = strrchr(arg, '=');
    if (a->n_rules == RULES_MAX) argp_error(state, "more than %d rules", RULES_MAX);
    if (!equals || equals == arg) argp_error(state, "--rule '%s' is not PATTERN=TYPE", arg);
    *equals = 0;
    a->rule[a->n_rules].pattern = arg;
    if (!dtype_of(equals + 1, &a->rule[a->n_rules++].type)) argp_error(state, "--rule: the type '%s' is not known", equals + 1);
}

static void set_kind(struct argp_state *state, struct quantize_args *a, const char *arg)
{
    for (size_t i = 0; i < N_KINDS; i++)
        if (strcmp(kinds[i].word, arg) == 0) a->kind = &kinds[i];
    if (!a->kind || strcmp(a->kind->word, arg) != 0)
        argp_error(state, "the type '%s' is not known: q8_0, q6_k, q5_k, q4_k_m, q4_0, q3_k, q2_k, f16, bf16 or fp8", arg);
}

static error_t on_option(int key, char *arg, struct argp_state *state)
{
    struct quantize_args *a = state->input;
    int64_t               n;

    switch (key) {
    case 't':
        set_kind(state, a, arg);
        return 0;
    case 'r':
        add_rule(state, a, arg);
        return 0;
    case 'k':
        a->tokenizer = arg;
        return 0;
    case 'p':
        if (strcmp(arg, "turbo") != 0 && strcmp(arg, "base") != 0) argp_error(state, "--profile is '%s', it must be turbo or base", arg);
        a->profile = arg;
        return 0;
    case 'j':
        if (str_to_i64(str_of(arg), &n) || n < 1 || n > 64) argp_error(state, "--threads is '%s', it must be a whole number 1 to 64", arg);
        a->n_threads = (int)n;
        return 0;
    case 'n':
        a->dry = true;
        return 0;
    case 'f':
        a->force = true;
        return 0;
    case 'q':
        a->quiet = true;
        return 0;
    case ARGP_KEY_ARG:
        if (a->out) argp_error(state, "IN and OUT only: '%s' is one too many", arg);
        *(a->in ? &a->out : &a->in) = arg;
        return 0;
    case ARGP_KEY_END:
        if (!a->kind) argp_error(state, "--type is missing");
        if (!a->in || (!a->out && !a->dry)) argp_error(state, "IN and OUT are missing");
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

/* ---- which tensors, which types ---- */

static bool ends_with(const char *text, const char *end)
{
    size_t n = strlen(text), k = strlen(end);
    return n >= k && strcmp(text + n - k, end) == 0;
}

/* Helpers of other formats that mean nothing in the new file. */
static bool is_helper(const char *name)
{
    static const char *const end[] = {".scale_weight", ".weight_scale", ".scale_input", ".input_scale", ".comfy_quant", "scaled_fp8"};
    for (size_t i = 0; i < sizeof end / sizeof *end; i++)
        if (ends_with(name, end[i])) return true;
    return false;
}

/* Small, and every value of the picture passes through them. */
static bool is_sensitive(const char *name)
{
    static const char *const part[] = {"x_embedder",       "cap_embedder", "t_embedder", "final_layer",
                                       "adaLN_modulation", "pad_token",    "lm_head"};
    for (size_t i = 0; i < sizeof part / sizeof *part; i++)
        if (strstr(name, part[i])) return true;
    return false;
}

/* The number in "layers.12." or "blk.12.", or -1. */
static int layer_of(const char *name)
{
    const char *at = strncmp(name, "layers.", 7) == 0 ? name + 7 : strncmp(name, "blk.", 4) == 0 ? name + 4 : NULL;
    return at && *at >= '0' && *at <= '9' ? (int)strtol(at, NULL, 10) : -1;
}

/* Products whose error costs most: values of attention, and the way back of the feed-forward in the first and last layers and every third. */
static bool is_higher(const char *name, int n_layers)
{
    int  layer = layer_of(name), edge = n_layers / 8;
    bool more = layer < 0 || layer < edge || layer >= n_layers - edge || (layer - edge) % 3 == 2;
    if (strstr(name, "attention.qkv") || strstr(name, "attention.to_v")) return more;
    return more && (strstr(name, "attn_v.") || strstr(name, "feed_forward.w2.") || strstr(name, "ffn_down."));
}

static enum dtype type_of(const struct quantize_args *a, const struct pack_tensor *t, int n_layers)
{
    const struct kind *k = a->kind;
    enum dtype         half = k->type == DTYPE_F16 ? DTYPE_F16 : DTYPE_BF16, type = k->type;

    for (int i = 0; i < a->n_rules; i++)
        if (fnmatch(a->rule[i].pattern, t->name, 0) == 0) return a->rule[i].type;
    if (t->rank < 2 || t->dim[0] == 1) return DTYPE_F32;
    if (is_sensitive(t->name)) return half;
    if (strstr(t->name, "token_embd") || strstr(t->name, "embed_tokens"))
        type = k->table;
    else if (k->mixed && is_higher(t->name, n_layers))
        type = k->higher;
    return t->dim[t->rank - 1] % dtype_block(type) ? half : type;
}

int quantize_put(struct pack_tensor *t, size_t *n, const struct safetensors_entry *s, size_t i, bool llama, struct err *e)
{
    char name[NAMES_BYTES];
    int  part = -1;

    if (!names_original(s->name, llama, name, &part)) snprintf(name, sizeof name, "%s", s->name);
    if (strlen(name) >= PACK_NAME_MAX)
        return err_set(e, ERR_LIMIT, "the name of tensor %.60s... is longer than %d bytes", name, PACK_NAME_MAX - 1);
    for (size_t k = 0; part >= 0 && k < *n; k++)
        if (strcmp(t[k].name, name) == 0) {
            t[k].from[part] = i;
            t[k].n_from++;
            return 0;
        }
    struct pack_tensor *p = &t[(*n)++];
    *p = (struct pack_tensor){.rank = s->rank ? s->rank : 1, .dim = {1}, .n_from = 1};
    memcpy(p->name, name, strlen(name) + 1);
    if (s->rank > TENSOR_RANK_MAX)
        return err_set(e, ERR_LIMIT, "tensor %s has %d dimensions, at most %d are supported", s->name, s->rank, TENSOR_RANK_MAX);
    memcpy(p->dim, s->dim, (size_t)s->rank * sizeof *p->dim);
    if (s->rank == 0) p->dim[0] = 1;
    p->from[part < 0 ? 0 : part] = i;
    if (part >= 0) p->dim[0] *= PACK_PARTS;
    return 0;
}

bool quantize_is_gguf(const char *word)
{
    enum dtype type;
    return dtype_of(word, &type) && type != DTYPE_F32 && type != DTYPE_F8_E4M3;
}

void quantize_types(const char *word, struct pack_tensor *t, size_t n)
{
    struct quantize_args a = {0};
    int                  n_layers = 0;

    for (size_t k = 0; k < N_KINDS; k++)
        if (strcmp(kinds[k].word, word) == 0) a.kind = &kinds[k];
    for (size_t i = 0; i < n; i++) n_layers = layer_of(t[i].name) + 1 > n_layers ? layer_of(t[i].name) + 1 : n_layers;
    for (size_t i = 0; i < n; i++) t[i].type = type_of(&a, &t[i], n_layers);
}

static int check_fused(const struct pack_tensor *t, const struct source *src, struct err *e)
{
    if (!strstr(t->name, ".qkv.")) return 0;
    if (t->n_from != PACK_PARTS)
        return err_set(e, ERR_FORMAT, "tensor %s has only %d of its %d parts in the input", t->name, t->n_from, PACK_PARTS);
    for (int k = 1; k < PACK_PARTS; k++)
        if (tensor_count(&src->t[t->from[k]]) != tensor_count(&src->t[t->from[0]]))
            return err_set(e, ERR_FORMAT, "the parts of tensor %s differ in size", t->name);
    return 0;
}

static int make_plan(const struct quantize_args *a, struct source *src, bool llama, struct pack_tensor *t, size_t *n, struct err *e)
{
    int n_layers = 0, rc;

    *n = 0;
    for (size_t i = 0; i < weights_count(src->w); i++) {
        const struct safetensors_entry *s = weights_entry(src->w, i, NULL);
        int64_t                         one = 1;
        int                             layer = layer_of(strncmp(s->name, "model.", 6) == 0 ? s->name + 6 : s->name);
        if (is_helper(s->name) || !s->usable) continue;
        n_layers = layer + 1 > n_layers ? layer + 1 : n_layers;
        if ((rc = weights_get(src->w, s->name, s->rank ? s->rank : 1, s->rank ? s->dim : &one, &src->t[i], e)) ||
            (rc = quantize_put(t, n, s, i, llama, e)))
            return rc;
    }
    for (size_t i = 0; i < *n; i++) {
        if ((rc = check_fused(&t[i], src, e))) return rc;
        t[i].type = type_of(a, &t[i], n_layers);
        if (t[i].dim[t[i].rank - 1] % dtype_block(t[i].type))
            return err_set(e, ERR_ARG, "--rule: rows of %" PRId64 " values (%s) do not divide into blocks of %s", t[i].dim[t[i].rank - 1],
                           t[i].name, dtype_name(t[i].type));
    }
    return 0;
}

static void read_source(void *ctx, size_t i, int64_t from, int64_t n, float *out)
{
    const struct source *src = ctx;
    const struct tensor *t = &src->t[i];

    to_f32(out, (const char *)t->data + dtype_row_bytes(t->type, from), t->type, n);
    for (int64_t k = 0; t->scale != 0.0f && k < n; k++) out[k] *= t->scale;
}

/* ---- metadata ---- */

/* The folder above IN, when that is a model in the diffusers layout. */
static bool model_folder(const char *in, char *path, size_t cap)
{
    return file_join(path, cap, in, "..", NULL) == 0 && file_is_folder(path);
}

static void find_profile(const struct quantize_args *a, const struct weights *w, char name[32])
{
    char                  dir[1024];
    struct model_conf     c;
    struct engine_profile profile;

    weights_profile(w, name);
    if (a->profile) snprintf(name, 32, "%s", a->profile);
    if (!name[0] && model_folder(a->in, dir, sizeof dir) && config_open(&c, dir, NULL, NULL) == 0) {
        profile_of(&c, &profile);
        snprintf(name, 32, "%s", profile.name);
    }
}

static int put_tokenizer(const struct quantize_args *a, int n_rows, struct gguf_head *h, struct err *e)
{
    char         dir[1024] = "", path[1100];
    struct vocab v;
    struct buf   json;
    int          rc = 0;

    buf_init(&json, VOCAB_FILE_MAX);
    if (!a->tokenizer && (file_join(dir, sizeof dir, a->in, "../tokenizer", NULL) || !file_is_folder(dir))) {
        if (!a->quiet) fprintf(stderr, "note: no tokenizer is put inside (none beside IN; --tokenizer DIR)\n");
        goto done;
    }
    if ((rc = file_join(path, sizeof path, a->tokenizer ? a->tokenizer : dir, "tokenizer.json", e)) || (rc = file_read(path, &json, e)))
        goto done;
    if ((rc = vocab_parse(&v, buf_str(&json), e))) {
        err_in(e, "%s", path);
        goto done;
    }
    if (v.n_tokens > n_rows)
        rc = err_set(e, ERR_FORMAT, "%s knows %" PRId32 " ids, the text encoder %d: parts of different models", path, v.n_tokens, n_rows);
    else
        rc = vocab_put(&v, n_rows, h, e);
    vocab_release(&v);
done:
    buf_release(&json);
    return rc;
}

static int put_text_metadata(const struct quantize_args *a, const struct weights *w, struct gguf_head *h, struct err *e)
{
    struct text_conf c;
    char             path[1024];
    struct buf       json;
    int              rc = infer_text(&c, w, e);

    if (rc) return rc;
    buf_init(&json, CONFIG_BYTES_MAX);
    if (file_is_folder(a->in) && file_join(path, sizeof path, a->in, "config.json", NULL) == 0 && file_exists(path) &&
        ((rc = file_read(path, &json, e)) || (rc = config_text(&c, buf_str(&json), path, e))))
        goto done;
    gguf_put_str(h, "general.architecture", str_of("qwen3"));
    gguf_put_u32(h, "qwen3.block_count", (uint32_t)c.n_layers);
    gguf_put_u32(h, "qwen3.context_length", 40960);
    gguf_put_u32(h, "qwen3.embedding_length", (uint32_t)c.hidden);
    gguf_put_u32(h, "qwen3.feed_forward_length", (uint32_t)c.ffn);
    gguf_put_u32(h, "qwen3.attention.head_count", (uint32_t)c.n_heads);
    gguf_put_u32(h, "qwen3.attention.head_count_kv", (uint32_t)c.n_kv_heads);
    gguf_put_u32(h, "qwen3.attention.key_length", (uint32_t)c.head_dim);
    gguf_put_u32(h, "qwen3.attention.value_length", (uint32_t)c.head_dim);
    gguf_put_f32(h, "qwen3.attention.layer_norm_rms_epsilon", c.norm_eps);
    gguf_put_f32(h, "qwen3.rope.freq_base", (float)c.rope_theta);
    rc = put_tokenizer(a, c.vocab, h, e);
done:
    buf_release(&json);
    return rc;
}

/* A GGUF input keeps its metadata; what depends on the types or is given anew is replaced. */
static int put_metadata(const struct quantize_args *a, const struct weights *w, bool llama, const char *profile, struct gguf_head *h,
                        struct err *e)
{
    static const char *const ours[] = {"general.alignment", "general.file_type", "general.quantization_version", "zfarm.profile"};
    const struct gguf       *g = weights_gguf(w);
    int                      rc = 0;

    for (size_t i = 0; g && i < g->n_values; i++) {
        bool replaced = false;
        for (size_t k = 0; k < sizeof ours / sizeof *ours; k++) replaced |= str_is(g->value[i].key, ours[k]);
        if (!replaced) gguf_put_value(h, &g->value[i]);
    }
    if (!g && llama)
        rc = put_text_metadata(a, w, h, e);
    else if (!g)
        gguf_put_str(h, "general.architecture", str_of("lumina2")); /* what the tools of this model's family look for */
    gguf_put_u32(h, "general.quantization_version", 2);
    gguf_put_u32(h, "general.file_type", a->kind->file_type);
    if (profile[0] && !llama) gguf_put_str(h, "zfarm.profile", str_of(profile));
    return rc;
}

/* ---- the whole ---- */

static void put_list(const struct pack_tensor *t, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        printf("%-64s %-8s [", t[i].name, dtype_name(t[i].type));
        for (int k = 0; k < t[i].rank; k++) printf("%s%" PRId64, k ? "," : "", t[i].dim[k]);
        printf("]\n");
    }
}

static int check_out(const struct quantize_args *a, struct err *e)
{
    bool fp8 = a->kind->type == DTYPE_F8_E4M3;

    if (a->dry) return 0;
    if (fp8 && !ends_with(a->out, ".safetensors"))
        return err_set(e, ERR_ARG, "GGUF has no 8-bit floats: --type fp8 writes a file named *.safetensors");
    if (!fp8 && !ends_with(a->out, ".gguf")) return err_set(e, ERR_ARG, "--type %s writes a file named *.gguf", a->kind->word);
    if (file_exists(a->out) && !a->force) return err_set(e, ERR_CONFLICT, "%s: exists already (--force replaces it)", a->out);
    return 0;
}

static int quantize(const struct quantize_args *a, struct err *e)
{
    struct source       src = {0};
    struct pack_tensor *t = NULL;
    struct gguf_head    head;
    char                profile[32] = "", before[32], after[32];
    struct pack         p = {.head = &head, .read = read_source, .ctx = &src, .n_threads = a->n_threads, .quiet = a->quiet, .stop = &stop};
    bool                llama;
    int                 rc;

    gguf_head_init(&head);
    if ((rc = check_out(a, e)) || (rc = weights_open(&src.w, a->in, "model.", e))) goto done;
    llama = weights_has(src.w, "embed_tokens.weight");
    if (!llama && !weights_has(src.w, "all_x_embedder.2-1.weight")) {
        rc = err_set(e, ERR_FORMAT, "%s is neither a Z-Image transformer nor a Qwen3 text encoder: only these are quantised",
                     weights_path(src.w));
        goto done;
    }
    src.t = calloc(weights_count(src.w) + 1, sizeof *src.t);
    t = calloc(weights_count(src.w) + 1, sizeof *t);
    if (!src.t || !t) {
        rc = err_set(e, ERR_NOMEM, "no memory for %zu tensors", weights_count(src.w));
        goto done;
    }
    if ((rc = make_plan(a, &src, llama, t, &p.n, e))) goto done;
    p.t = t;
    if (a->dry) {
        put_list(t, p.n);
        goto done;
    }
    find_profile(a, src.w, profile);
    p.profile = profile[0] && !llama ? profile : NULL;
    if (a->kind->type == DTYPE_F8_E4M3)
        p.head = NULL;
    else if ((rc = put_metadata(a, src.w, llama, profile, &head, e)))
        goto done;
    if ((rc = pack_write(&p, a->out, e))) goto done;
    printf("%s: %zu tensors, %s -> %s%s%s\n", a->out, p.n, tool_bytes_text(weights_bytes(src.w), before, sizeof before),
           tool_bytes_text(pack_bytes(&p), after, sizeof after), p.profile ? ", profile " : "", p.profile ? p.profile : "");
done:
    gguf_head_release(&head);
    free(t);
    free(src.t);
    weights_free(src.w);
    return rc;
}

static void on_signal(int number)
{
    (void)number;
    stop = 1;
}

int tool_quantize(int argc, char **argv)
{
    const struct argp argp = {
        OPTIONS,
        on_option,
        "IN OUT",
        "Writes a smaller copy of a transformer or a text encoder.\v"
        "IN is a folder of weights, a .safetensors, an index of shards or a .gguf; OUT gets the original names (llama.cpp's for a "
        "text encoder) and is a .gguf that ggml's tools read, or a .safetensors for fp8. Vectors stay F32; embedders, the final layer, "
        "modulation and rows that do not divide into blocks stay 16 bit. The _m mixes (and q2_k) keep attention values and half of the "
        "feed-forward's way back higher. OUT appears when it is whole.\n\n"
        "Example: zfarm-model quantize --type q4_k_m models/z-image/transformer z-image-Q4_K_M.gguf",
        NULL,
        NULL,
        NULL};
    struct quantize_args a = {0};
    struct err           e = {0};
    struct sigaction     act = {.sa_handler = on_signal};
    cpu_set_t            set;

    argp_parse(&argp, argc, argv, 0, NULL, &a);
    if (!a.n_threads) a.n_threads = sched_getaffinity(0, sizeof set, &set) ? 1 : CPU_COUNT(&set);
    sigaction(SIGINT, &act, NULL);
    sigaction(SIGTERM, &act, NULL);
    return quantize(&a, &e) ? tool_failed(&e) : tool_done();
}
