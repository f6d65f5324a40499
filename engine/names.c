/* names.c - see names.h. Tables of pairs, read in both directions. Believes: a stored name has at most 255 bytes; the longest
 * replacement adds 20, so NAMES_BYTES is enough. */
#include "engine/names.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct pair {
    const char *theirs, *ours;
};

static const char *const prefixes[] = {
    "model.diffusion_model.", "diffusion_model.", "first_stage_model.", "vae.", "text_encoders.qwen3_4b.transformer.",
    "text_encoders.qwen3_4b."};

static const struct pair dit_starts[] = {{"x_embedder.", "all_x_embedder.2-1."}, {"final_layer.", "all_final_layer.2-1."}};
static const struct pair dit_inside[] = {{".attention.out.", ".attention.to_out.0."},
                                         {".attention.q_norm.", ".attention.norm_q."},
                                         {".attention.k_norm.", ".attention.norm_k."}};
static const char *const fused[NAMES_PARTS] = {".attention.to_q.", ".attention.to_k.", ".attention.to_v."};
#define FUSED ".attention.qkv."

static const struct pair vae_old[] = {{".attentions.0.query.", ".attentions.0.to_q."},
                                      {".attentions.0.key.", ".attentions.0.to_k."},
                                      {".attentions.0.value.", ".attentions.0.to_v."},
                                      {".attentions.0.proj_attn.", ".attentions.0.to_out.0."}};
static const struct pair bfl[] = {{".norm_out.", ".conv_norm_out."},
                                  {".mid.block_1.", ".mid_block.resnets.0."},
                                  {".mid.block_2.", ".mid_block.resnets.1."},
                                  {".mid.attn_1.norm.", ".mid_block.attentions.0.group_norm."},
                                  {".mid.attn_1.q.", ".mid_block.attentions.0.to_q."},
                                  {".mid.attn_1.k.", ".mid_block.attentions.0.to_k."},
                                  {".mid.attn_1.v.", ".mid_block.attentions.0.to_v."},
                                  {".mid.attn_1.proj_out.", ".mid_block.attentions.0.to_out.0."}};
static const struct pair bfl_level[] = {{"upsample.", "upsamplers.0."}, {"downsample.", "downsamplers.0."}};

static const struct pair llama_starts[] = {{"token_embd.", "embed_tokens."}, {"output_norm.", "norm."}, {"output.", "lm_head."}};
static const struct pair llama_layer[] = {{"attn_norm.", "input_layernorm."},    {"ffn_norm.", "post_attention_layernorm."},
                                          {"attn_q.", "self_attn.q_proj."},      {"attn_k.", "self_attn.k_proj."},
                                          {"attn_v.", "self_attn.v_proj."},      {"attn_output.", "self_attn.o_proj."},
                                          {"attn_q_norm.", "self_attn.q_norm."}, {"attn_k_norm.", "self_attn.k_norm."},
                                          {"ffn_gate.", "mlp.gate_proj."},       {"ffn_up.", "mlp.up_proj."},
                                          {"ffn_down.", "mlp.down_proj."}};
#define N(a) (sizeof(a) / sizeof *(a))

static bool starts(const char *text, const char *with)
{
    return strncmp(text, with, strlen(with)) == 0;
}

static bool ends(const char *text, const char *with)
{
    size_t n = strlen(text), k = strlen(with);
    return n >= k && strcmp(text + n - k, with) == 0;
}

/* out = name with its first `from` (at `at`) as `to`. */
static void replace(const char *name, const char *at, const char *from, const char *to, char out[NAMES_BYTES])
{
    int n = snprintf(out, NAMES_BYTES, "%.*s%s%s", (int)(at - name), name, to, at + strlen(from));
    assert(n > 0 && n < NAMES_BYTES);
}

/* "12.rest": the number, and *rest behind the dot; -1 when it is none. */
static int number(const char *at, const char **rest)
{
    char *end;
    long  n;
    if (*at < '0' || *at > '9') return -1;
    n = strtol(at, &end, 10);
    if (*end != '.' || n > 65535) return -1;
    *rest = end + 1;
    return (int)n;
}

int names_levels(const char *stored)
{
    const char *rest;
    int         level;
    for (size_t i = 0; i < N(prefixes); i++)
        if (starts(stored, prefixes[i])) return names_levels(stored + strlen(prefixes[i]));
    level = starts(stored, "decoder.up.") ? number(stored + strlen("decoder.up."), &rest) : -1;
    return level + 1;
}

/* "up.3.block.0.nin_shortcut.weight" behind "decoder.": level n_levels - 1 - 3. */
static bool bfl_up_down(const char *name, int n_levels, char out[NAMES_BYTES])
{
    bool        up = starts(name, "decoder.up."), down = starts(name, "encoder.down.");
    const char *rest = NULL, *tail = NULL;
    int         level = up || down ? number(name + (up ? 11 : 13), &rest) : -1, block, n = 0;

    if (level < 0 || level >= n_levels) return false;
    const char *half = up ? "decoder.up_blocks" : "encoder.down_blocks";
    int         ours = up ? n_levels - 1 - level : level;
    if (starts(rest, "block.") && (block = number(rest + 6, &tail)) >= 0) {
        if (starts(tail, "nin_shortcut."))
            n = snprintf(out, NAMES_BYTES, "%s.%d.resnets.%d.conv_shortcut.%s", half, ours, block, tail + strlen("nin_shortcut."));
        else
            n = snprintf(out, NAMES_BYTES, "%s.%d.resnets.%d.%s", half, ours, block, tail);
    }
    for (size_t i = 0; i < N(bfl_level); i++)
        if (starts(rest, bfl_level[i].theirs))
            n = snprintf(out, NAMES_BYTES, "%s.%d.%s%s", half, ours, bfl_level[i].ours, rest + strlen(bfl_level[i].theirs));
    assert(n < NAMES_BYTES);
    return n > 0;
}

static bool llama_name(const char *name, char out[NAMES_BYTES])
{
    const char *rest = NULL;
    int         layer = starts(name, "blk.") ? number(name + 4, &rest) : -1;

    for (size_t i = 0; layer >= 0 && i < N(llama_layer); i++)
        if (starts(rest, llama_layer[i].theirs)) {
            snprintf(out, NAMES_BYTES, "layers.%d.%s%s", layer, llama_layer[i].ours, rest + strlen(llama_layer[i].theirs));
            return true;
        }
    for (size_t i = 0; i < N(llama_starts); i++)
        if (starts(name, llama_starts[i].theirs)) {
            replace(name, name, llama_starts[i].theirs, llama_starts[i].ours, out);
            return true;
        }
    return false;
}

static bool by_table(const char *name, const struct pair *p, size_t n, char out[NAMES_BYTES])
{
    for (size_t i = 0; i < n; i++) {
        const char *at = strstr(name, p[i].theirs);
        if (at) {
            replace(name, at, p[i].theirs, p[i].ours, out);
            return true;
        }
    }
    return false;
}

static bool one_of(const char *name, int n_levels, char out[NAMES_BYTES])
{
    bool vae = starts(name, "decoder.") || starts(name, "encoder.");

    for (size_t i = 0; i < N(dit_starts); i++)
        if (starts(name, dit_starts[i].theirs)) {
            replace(name, name, dit_starts[i].theirs, dit_starts[i].ours, out);
            return true;
        }
    if (vae) return bfl_up_down(name, n_levels, out) || by_table(name, bfl, N(bfl), out) || by_table(name, vae_old, N(vae_old), out);
    return llama_name(name, out) || by_table(name, dit_inside, N(dit_inside), out);
}

void names_of(const char *stored, int n_levels, struct names *out)
{
    const char *name = stored, *at;

    for (size_t i = 0; i < N(prefixes); i++)
        if (starts(name, prefixes[i]) && name[strlen(prefixes[i])]) {
            name += strlen(prefixes[i]);
            break;
        }
    out->n = 1;
    if ((at = strstr(name, FUSED)) && (ends(name, ".qkv.weight") || ends(name, ".qkv.bias"))) {
        out->n = NAMES_PARTS;
        for (int i = 0; i < NAMES_PARTS; i++) replace(name, at, FUSED, fused[i], out->name[i]);
        return;
    }
    if (!one_of(name, n_levels, out->name[0])) snprintf(out->name[0], NAMES_BYTES, "%s", name);
}

/* ---- the other way ---- */

static bool original_of(const char *ours, const struct pair *p, size_t n, bool at_start, char original[NAMES_BYTES])
{
    for (size_t i = 0; i < n; i++) {
        const char *at = at_start ? (starts(ours, p[i].ours) ? ours : NULL) : strstr(ours, p[i].ours);
        if (at) {
            replace(ours, at, p[i].ours, p[i].theirs, original);
            return true;
        }
    }
    return false;
}

bool names_original(const char *ours, bool llama, char original[NAMES_BYTES], int *part)
{
    const char *rest = NULL;
    int         layer;

    *part = -1;
    if (llama) {
        if (starts(ours, "model.")) ours += strlen("model.");
        layer = starts(ours, "layers.") ? number(ours + 7, &rest) : -1;
        for (size_t i = 0; layer >= 0 && i < N(llama_layer); i++)
            if (starts(rest, llama_layer[i].ours)) {
                snprintf(original, NAMES_BYTES, "blk.%d.%s%s", layer, llama_layer[i].theirs, rest + strlen(llama_layer[i].ours));
                return true;
            }
        return original_of(ours, llama_starts, N(llama_starts), true, original);
    }
    for (int i = 0; i < NAMES_PARTS; i++) {
        const char *at = strstr(ours, fused[i]);
        if (at) {
            replace(ours, at, fused[i], FUSED, original);
            *part = i;
            return true;
        }
    }
    return original_of(ours, dit_starts, N(dit_starts), true, original) || original_of(ours, dit_inside, N(dit_inside), false, original);
}
