/* zfarm_bench_cost.c - what a stage must compute and move, by its shapes alone.
 * The arithmetic is the model's own, whatever shortcut an engine takes: TFLOP/s are those of the plain formula. */
#include <string.h>

#include "engine/dit.h"
#include "engine/vae.h"
#include "tests/bench/zfarm_bench.h"

const char *const bench_stage_name[STAGE_COUNT] = {"text", "caption", "pass", "passes", "decode", "image", "wall"};

static double bytes_per_value(enum dtype t)
{
    return (double)dtype_block_bytes(t) / (double)dtype_block(t);
}

/* ---- text encoder: all layers but the last; causal, so half of the scores ---- */

static struct cost cost_text(const struct text_conf *c, enum dtype kind, double n)
{
    double q = (double)c->n_heads * c->head_dim, kv = (double)c->n_kv_heads * c->head_dim, h = c->hidden, layers = c->n_layers - 1;
    double values = layers * (h * (q + 2 * kv) + q * h + 3 * h * c->ffn);

    return (struct cost){2 * n * values + layers * 4 * q * n * (n + 1) / 2, values * bytes_per_value(kind)};
}

/* ---- transformer ---- */

static struct cost cost_blocks(const struct dit_conf *c, enum dtype kind, double n_blocks, double n, bool modulated)
{
    double dim = c->dim, values = 4 * dim * dim + 3 * dim * c->ffn, mod = modulated ? 4 * dim * c->adaln_dim : 0;

    return (struct cost){n_blocks * (2 * n * values + 4 * n * n * dim + 2 * mod), n_blocks * (values + mod) * bytes_per_value(kind)};
}

static void put(struct cost *sum, struct cost c)
{
    sum->flop += c.flop;
    sum->bytes += c.bytes;
}

static struct cost cost_caption(const struct dit_conf *c, enum dtype kind, int n_tok)
{
    double      embed = (double)c->cap_feat_dim * c->dim;
    struct cost sum = {2 * n_tok * embed, embed * bytes_per_value(kind)};

    put(&sum, cost_blocks(c, kind, c->n_refiners, (double)dit_padded(n_tok), false));
    return sum;
}

static struct cost cost_pass(const struct model_conf *m, enum dtype kind, struct bench_size s, int n_tok)
{
    const struct dit_conf *c = &m->dit;
    int                    cell = vae_scale(&m->vae) * c->patch;
    double                 n_img = (double)(s.width_px / cell) * (s.height_px / cell), padded = (double)dit_padded((int64_t)n_img);
    double                 patch = (double)c->patch * c->patch * c->channels * c->dim;
    struct cost            sum = {2 * 2 * n_img * patch, 2 * patch * bytes_per_value(kind)}; /* in and out */

    put(&sum, cost_blocks(c, kind, c->n_refiners, padded, true));
    put(&sum, cost_blocks(c, kind, c->n_layers, padded + (double)dit_padded(n_tok), true));
    return sum;
}

/* ---- VAE ---- */

struct vae_sum {
    struct cost cost;
    double      cells, value_bytes;
};

static void conv(struct vae_sum *v, double ci, double co, double k)
{
    v->cost.flop += 2 * v->cells * ci * co * k * k;
    v->cost.bytes += v->value_bytes * (v->cells * (ci + co) + ci * co * k * k);
}

static void norm(struct vae_sum *v, double c)
{
    v->cost.bytes += v->value_bytes * v->cells * c * 3; /* statistics read, then read and written */
}

static void resnet(struct vae_sum *v, double ci, double co)
{
    norm(v, ci);
    conv(v, ci, co, 3);
    norm(v, co);
    conv(v, co, co, 3);
    if (ci != co) conv(v, ci, co, 1);
}

static struct cost cost_decode(const struct model_conf *m, struct bench_size s, double value_bytes)
{
    const struct vae_conf *c = &m->vae;
    int                    scale = vae_scale(c);
    struct vae_sum         v = {.cells = (double)(s.width_px / scale) * (s.height_px / scale), .value_bytes = value_bytes};
    double                 ci = c->channels[c->n_levels - 1];

    conv(&v, c->latent_channels, ci, 3);
    resnet(&v, ci, ci);
    norm(&v, ci);
    v.cost.flop += 4 * v.cells * v.cells * ci; /* the middle's attention: one head */
    for (int i = 0; i < 4; i++) conv(&v, ci, ci, 1);
    resnet(&v, ci, ci);
    for (int level = c->n_levels - 1; level >= 0; level--) {
        double co = c->channels[level];
        for (int k = 0; k <= c->layers_per_block; k++, ci = co) resnet(&v, ci, co);
        if (level == 0) break;
        v.cells *= 4;
        conv(&v, co, co, 3);
    }
    norm(&v, ci);
    conv(&v, ci, 3, 3);
    return v.cost;
}

/* ---- the door ---- */

struct cost cost_of(enum bench_stage stage, const struct model_conf *m, const struct bench_conf *c, struct bench_size s, int n_steps)
{
    struct cost sum = {0, 0}, pass;

    switch (stage) {
    case STAGE_TEXT: return cost_text(&m->text, c->text_kind, c->n_prompt_tok);
    case STAGE_CAPTION: return cost_caption(&m->dit, c->dit_kind, c->n_prompt_tok);
    case STAGE_PASS: return cost_pass(m, c->dit_kind, s, c->n_prompt_tok);
    case STAGE_DECODE: return cost_decode(m, s, c->precision == ENGINE_F32 ? 4 : 2);
    case STAGE_PASSES:
        pass = cost_of(STAGE_PASS, m, c, s, n_steps);
        return (struct cost){n_steps * pass.flop, n_steps * pass.bytes};
    default:
        put(&sum, cost_of(STAGE_TEXT, m, c, s, n_steps));
        put(&sum, cost_of(STAGE_CAPTION, m, c, s, n_steps));
        put(&sum, cost_of(STAGE_PASSES, m, c, s, n_steps));
        put(&sum, cost_of(STAGE_DECODE, m, c, s, n_steps));
        return sum;
    }
}

double cost_floor_ms(enum bench_stage stage, const struct model_conf *m, const struct bench_conf *c, struct bench_size s, int n_steps,
                     const struct peak *p)
{
    struct cost one = cost_of(stage, m, c, s, n_steps);
    double      compute, move;

    if (p->flop_per_s <= 0 || p->bytes_per_s <= 0) return 0;
    if (stage == STAGE_PASSES) return n_steps * cost_floor_ms(STAGE_PASS, m, c, s, n_steps, p);
    if (stage > STAGE_DECODE)
        return cost_floor_ms(STAGE_TEXT, m, c, s, n_steps, p) + cost_floor_ms(STAGE_CAPTION, m, c, s, n_steps, p) +
               cost_floor_ms(STAGE_PASSES, m, c, s, n_steps, p) + cost_floor_ms(STAGE_DECODE, m, c, s, n_steps, p);
    compute = one.flop / p->flop_per_s * 1e3;
    move = one.bytes / p->bytes_per_s * 1e3;
    return compute > move ? compute : move;
}

/* Measured: an 8192^3 bf16 product of random values, and a copy on the device with reads and writes counted. */
struct peak cost_peak(const struct bench_conf *c, const char *about)
{
    if (c->peak_tflops > 0 && c->peak_gbs > 0) return (struct peak){c->peak_tflops * 1e12, c->peak_gbs * 1e9};
    if (c->precision == ENGINE_F32) return (struct peak){0, 0};
    if (strstr(about, "H200")) return (struct peak){790e12, 4.3e12};
    if (strstr(about, "H100")) return (struct peak){790e12, 3.0e12};
    return (struct peak){0, 0};
}
