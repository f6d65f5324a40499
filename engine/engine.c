/* engine.c - see engine.h. Opens and checks everything before the first request; plans work space by a measuring pass; runs the stages.
 * Invariants: E1 the scratch stack is empty between calls.  E2 every file was as long as when it was opened, checked before each call.
 *             E3 the digest covers configs, tokenizer and tensor headers of all parts, whichever parts this engine runs.
 * Not here: prompts (encode.c), guidance and Euler steps (denoise.c), the networks (qwen3.c, dit.c, vae.c), other engines (split.c). */
#include "engine/engine.h"

#include <assert.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "engine/config.h"
#include "engine/denoise.h"
#include "engine/inside.h"
#include "engine/latent.h"
#include "engine/made.h"
#include "engine/noise.h"
#include "engine/profile.h"
#include "engine/schedule.h"
#include "engine/stamps.h"
#include "engine/weights.h"
#include "kernels/ops.h"

#define GUIDANCE_MAX 1000.0f

/* ---- open ---- */

struct progress {
    const struct engine_opts *o;
    const char               *what;
    int64_t                   done_bytes, all_bytes;
};

static void tell(struct progress *p, const char *what)
{
    p->what = what;
    if (p->o->on_progress) p->o->on_progress(p->o->ctx, p->done_bytes, p->all_bytes, what);
}

static void on_taken(void *ctx, int64_t bytes)
{
    struct progress *p = ctx;
    p->done_bytes += bytes;
    tell(p, p->what);
}

static int open_device(struct engine *g, const struct engine_opts *o, struct err *e)
{
    static const enum precision precision[] = {
        [ENGINE_AUTO] = PRECISION_AUTO, [ENGINE_F32] = PRECISION_F32, [ENGINE_BF16] = PRECISION_BF16};
    struct dev_opts opts = {.precision = precision[o->precision], .n_threads = o->n_threads};
    return dev_open(&g->d, o->device ? o->device : "auto", &opts, e);
}

void engine_close_parts(struct engine *g)
{
    text_home_close(&g->home);
    dit_free(g->dit);
    vae_free(g->vae);
    g->text = NULL;
    g->dit = NULL;
    g->vae = NULL;
}

static int open_parts(struct engine *g, struct progress *p, struct err *e)
{
    int rc;

    if ((rc = dev_weight_room(g->d, g->plan.weights_bytes, e))) return rc; /* 0 on the CPU, which plans nothing */
    if (g->parts & ENGINE_TEXT) {
        tell(p, "text encoder");
        if ((rc = text_home_open(&g->home, &g->model.conf.text, g->model.text, g->d, g->profile.tokens_max, g->plan.text, g->plan.widen_text, e)))
            return rc;
        g->text = g->home.q;
    }
    if (g->parts & ENGINE_DIT) {
        tell(p, "transformer");
        g->d->expand = g->plan.widen_dit;
        if ((rc = dit_open(&g->dit, &g->model.conf.dit, g->model.dit, g->d, e))) return rc;
    }
    if (g->parts & ENGINE_VAE) {
        tell(p, "vae");
        if ((rc = vae_open(&g->vae, &g->model.conf.vae, g->model.vae, g->d, e))) return rc;
    }
    return 0;
}

/* A device that has copied the weights needs the files' pages no longer. */
int engine_open_parts(struct engine *g, const struct engine_opts *o, struct err *e)
{
    struct progress p = {.o = o};
    struct weights *part[] = {g->parts & ENGINE_TEXT ? g->model.text : NULL, g->parts & ENGINE_DIT ? g->model.dit : NULL,
                            g->parts & ENGINE_VAE ? g->model.vae : NULL};
    bool            copies = g->d->joins_weights;
    int             rc;

    for (size_t i = 0; i < sizeof part / sizeof *part; i++) {
        if (!part[i]) continue;
        p.all_bytes += weights_bytes(part[i]);
        if (copies) weights_watch(part[i], on_taken, &p);
    }
    rc = open_parts(g, &p, e);
    if (!rc) rc = dev_sync(g->d, e);
    for (size_t i = 0; i < sizeof part / sizeof *part; i++) {
        if (!part[i]) continue;
        weights_watch(part[i], NULL, NULL);
        if (copies) weights_let_go(part[i]);
    }
    p.all_bytes = p.done_bytes;
    if (!rc) tell(&p, "ready");
    return rc;
}

/* "6.15 B", "1.2 M" */
static const char *count_text(int64_t n, char text[24])
{
    if (n >= 1000000000)
        snprintf(text, 24, "%.2f B", (double)n / 1e9);
    else
        snprintf(text, 24, "%.1f M", (double)n / 1e6);
    return text;
}

static void describe(struct engine *g)
{
    char   a[24], b[24], *about = g->profile.about;
    size_t len;

    snprintf(g->profile.device, sizeof g->profile.device, "%s", g->d->name);
    snprintf(about, sizeof g->profile.about, "%s DiT, %s text encoder, %s, %s", count_text(weights_values(g->model.dit), a),
             count_text(weights_values(g->model.text), b), dtype_name(weights_type(g->model.dit)), g->d->about);
    len = strlen(about);
    if (g->profile.plan_word[0] && len + 2 + strlen(g->profile.plan_word) < sizeof g->profile.about)
        snprintf(about + len, sizeof g->profile.about - len, ", %s", g->profile.plan_word);
}

static int check_opts(const struct engine_opts *o, struct err *e)
{
    if (!o->made && !o->model_dir && !(o->dit && o->text_encoder && o->vae))
        return err_set(e, ERR_ARG, "no model folder was named, nor files for all of transformer, text encoder and VAE");
    if (o->parts < ENGINE_TEXT || o->parts > ENGINE_BOTH || o->precision > ENGINE_BF16)
        return err_set(e, ERR_ARG, "unknown engine part or precision");
    if (o->cache_embeds < 0 || o->cache_embeds > CACHE_EMBEDS_MAX)
        return err_set(e, ERR_ARG, "a cache of %d prompts: must be 0 (default) to %d", o->cache_embeds, CACHE_EMBEDS_MAX);
    return 0;
}

int engine_open_bare(struct engine **out, const struct engine_opts *o, struct err *e)
{
    struct engine  *g = NULL;
    struct progress files = {.o = o};
    struct sha256   digest;
    int             rc = check_opts(o, e);

    if (rc) return rc;
    if (!(g = calloc(1, sizeof *g))) return err_set(e, ERR_NOMEM, "no memory for an engine");
    g->parts = o->parts;
    cache_init(&g->cache, o->cache_embeds);
    sha256_init(&digest);
    tell(&files, "files");
    rc = o->made ? made_model(&g->model, o->made, e) : model_open(&g->model, o, &digest, e);
    if (!rc) {
        profile_of(&g->model.conf, &g->profile);
        sha256_take(&digest, g->profile.digest);
        rc = open_device(g, o, e);
    }
    if (rc) engine_free(g);
    else *out = g;
    return rc;
}

int engine_open(struct engine **out, const struct engine_opts *o, struct err *e)
{
    struct engine *g = NULL;
    int            rc = engine_open_bare(&g, o, e);

    if (rc) return rc;
    if ((rc = engine_fit(g, o, e)) || (rc = engine_open_parts(g, o, e))) {
        engine_free(g);
        return rc;
    }
    describe(g);
    *out = g;
    return 0;
}

int engine_gpus(void)
{
    int n = dev_gpus();
    return n < 100 ? n : 100;
}

void engine_free(struct engine *g)
{
    if (!g) return;
    cache_release(&g->cache);
    engine_close_parts(g);
    dev_close(g->d);
    model_release(&g->model); /* after the device that borrowed from its weights */
    free(g);
}

const struct engine_profile *engine_profile(const struct engine *g)
{
    return &g->profile;
}

/* ---- work space ---- */

int engine_reserve(struct engine *g, size_t bytes, struct err *e)
{
    int rc = engine_fits(g, bytes, e);
    return rc || bytes <= g->d->scratch.cap ? rc : dev_scratch_reserve(g->d, bytes, e);
}

/* ---- check ---- */

static int check_side(const struct engine *g, const char *what, int px, int axis_len, struct err *e)
{
    int step = g->profile.multiple_px, most = axis_len > PNG_SIDE_MAX_PX / step ? PNG_SIDE_MAX_PX / step : axis_len;
    int low = px / step, high = low + 1;

    if (px < step) return err_set(e, ERR_ARG, "%s %d: the smallest is %d, and it must be a multiple of %d", what, px, step, step);
    if (px / step > most || (px / step == most && px % step))
        return err_set(e, ERR_LIMIT, "%s %d: this model goes to %d", what, px, most * step);
    if (px % step)
        return err_set(e, ERR_ARG, "%s %d is not a multiple of %d: the nearest are %d and %d", what, px, step, low * step, high * step);
    return 0;
}

static int check_numbers(const struct gen *gen, struct err *e)
{
    if (gen->n_steps < 1 || gen->n_steps > SCHEDULE_PASSES_MAX)
        return err_set(e, ERR_ARG, "%d steps: must be 1 to %d", gen->n_steps, SCHEDULE_PASSES_MAX);
    if (!(gen->guidance >= 0 && gen->guidance <= GUIDANCE_MAX)) /* also NaN */
        return err_set(e, ERR_ARG, "guidance %g: must be 0 (off) to %g", (double)gen->guidance, (double)GUIDANCE_MAX);
    if (!(gen->cfg_norm >= 0 && gen->cfg_norm <= GUIDANCE_MAX))
        return err_set(e, ERR_ARG, "cfg normalization %g: must be 0 (off) to %g", (double)gen->cfg_norm, (double)GUIDANCE_MAX);
    if (!(gen->cfg_trunc >= 0 && gen->cfg_trunc <= GUIDANCE_MAX))
        return err_set(e, ERR_ARG, "cfg truncation %g: must be 0 to %g (1: never)", (double)gen->cfg_trunc, (double)GUIDANCE_MAX);
    if (gen->noise != NOISE_TORCH_CUDA && gen->noise != NOISE_TORCH_CPU) return err_set(e, ERR_ARG, "unknown kind of noise");
    if (gen->noise == NOISE_TORCH_CUDA && (gen->noise_threads == 0 || gen->noise_threads % 256))
        return err_set(e, ERR_ARG, "noise of a device with %" PRIu32 " threads: must be a positive multiple of 256", gen->noise_threads);
    return 0;
}

/* The latent's shape [channels, H/8, W/8]. */
static void latent_dim(const struct engine *g, const struct gen *gen, int dim[3])
{
    int scale = vae_scale(&g->model.conf.vae);
    dim[0] = g->model.conf.dit.channels;
    dim[1] = gen->height_px / scale;
    dim[2] = gen->width_px / scale;
}

static struct tensor new_latent(struct dev *d, const int dim[3])
{
    return dev_new3(d, DTYPE_F32, dim[0], dim[1], dim[2]);
}

struct tensor engine_caption_shape(const struct engine *g, int64_t n)
{
    return (struct tensor){
        .type = g->d->act_type, .rank = 2, .dim = {n, g->model.conf.dit.dim}, .pitch = g->model.conf.dit.dim, .dev = g->d};
}

/* Work space of the passes for captions of n_pos and n_neg ids. */
int engine_measure_denoise(struct engine *g, const struct gen *gen, int64_t n_pos, int64_t n_neg, size_t *bytes, struct err *e)
{
    int             dim[3], patch = g->model.conf.dit.patch;
    struct dit_rope pos, neg;

    latent_dim(g, gen, dim);
    dit_rope_shape(g->dit, dim[1] / patch, dim[2] / patch, n_pos, &pos);
    dit_rope_shape(g->dit, dim[1] / patch, dim[2] / patch, n_neg, &neg);
    dev_measure_begin(g->d);
    struct tensor  cap_pos = engine_caption_shape(g, pos.n_cap_padded), cap_neg = engine_caption_shape(g, neg.n_cap_padded);
    struct tensor  z = new_latent(g->d, dim);
    struct denoise n = {g->dit, gen, NULL, NULL, {&cap_pos, &pos}, {&cap_neg, &neg}}; /* times are not read while measuring */
    (void)denoise_run(&n, &z, NULL, NULL); /* measuring: nothing can fail but the size itself, which measure_end tells */
    return dev_measure_end(g->d, bytes, e);
}

static struct tensor new_rgb(struct engine *g, const int dim[3])
{
    int scale = vae_scale(&g->model.conf.vae);
    return dev_new3(g->d, DTYPE_U8, (int64_t)dim[1] * scale, (int64_t)dim[2] * scale, 3);
}

int engine_measure_decode(struct engine *g, const int dim[3], size_t *bytes, struct err *e)
{
    dev_measure_begin(g->d);
    struct tensor z = new_latent(g->d, dim), rgb = new_rgb(g, dim);
    (void)vae_decode(g->vae, &z, &rgb);
    return dev_measure_end(g->d, bytes, e);
}

int engine_check(const struct engine *cg, const struct gen *gen, struct err *e)
{
    struct engine *g = (struct engine *)(uintptr_t)cg; /* measuring leaves no trace */
    size_t         bytes = 0;
    int            dim[3], rc;

    if ((rc = check_side(g, "width", gen->width_px, g->model.conf.dit.axes_lens[2], e)) ||
        (rc = check_side(g, "height", gen->height_px, g->model.conf.dit.axes_lens[1], e)) || (rc = check_numbers(gen, e)))
        return rc;
    if ((int64_t)gen->width_px * gen->height_px > PNG_PIXELS_MAX_PX)
        return err_set(e, ERR_LIMIT, "%d x %d pixels: at most %u in all", gen->width_px, gen->height_px, PNG_PIXELS_MAX_PX);
    latent_dim(g, gen, dim);
    if (g->vae && ((rc = engine_measure_decode(g, dim, &bytes, e)) || (rc = engine_fits(g, bytes, e)))) return rc;
    if (g->dit && ((rc = engine_measure_denoise(g, gen, g->profile.tokens_max, g->profile.tokens_max, &bytes, e)) || (rc = engine_fits(g, bytes, e))))
        return rc;
    return 0;
}

/* ---- denoise ---- */

/* z becomes the seed's noise; values: room on the host for as many. */
static int make_noise(struct engine *g, const struct gen *gen, struct tensor *z, float *values, struct err *e)
{
    size_t n = (size_t)tensor_count(z);
    int    rc;

    if (gen->noise == NOISE_TORCH_CUDA) {
        op_noise(g->d, z, gen->seed, gen->noise_threads);
        return 0;
    }
    if ((rc = noise_torch_cpu(gen->seed, values, n))) return err_set(e, rc, "no noise of this kind for %zu values", n);
    return dev_put(g->d, z, values, n * sizeof *values, e);
}

/* Noise, passes, final latents in l->values. */
static int run_passes(struct engine *g, struct denoise *n, struct latent *l, const struct gen_hooks *h, struct err *e)
{
    size_t        bytes = latent_count(l) * sizeof *l->values;
    struct tensor z = new_latent(g->d, l->dim);
    int           rc = make_noise(g, n->gen, &z, l->values, e);
    if (!rc) rc = denoise_run(n, &z, h, e);
    if (!rc) rc = dev_get(g->d, &z, l->values, bytes, e);
    dev_reset(g->d, 0);
    int synced = dev_sync(g->d, rc ? NULL : e);
    return rc ? rc : synced;
}

static int check_embeds(const struct engine *g, const struct embed *pos, const struct embed *neg, const struct gen *gen, struct err *e)
{
    if (!g->dit) return err_set(e, ERR_STATE, "this engine runs without the transformer");
    if (!pos || (gen->guidance > 0 && !neg))
        return err_set(e, ERR_ARG, "guidance above 0 needs the embedding of a negative prompt (\"\" when there is none)");
    if (!pos->has_caption || (neg && !neg->has_caption) || pos->d != g->d || (neg && neg->d != g->d))
        return err_set(e, ERR_STATE, "the prompt was encoded by another engine");
    return 0;
}

static int denoise(struct engine *g, const struct embed *pos, const struct embed *neg, const struct gen *gen, const struct gen_hooks *h,
                   struct latent **out, struct err *e)
{
    const struct dit_rope *pos_rope = NULL, *neg_rope = NULL;
    struct latent  *z = NULL;
    float          *sigma = NULL;
    size_t          bytes = 0;
    int             dim[3], patch = g->model.conf.dit.patch, rc;

    if ((rc = check_embeds(g, pos, neg, gen, e)) || (rc = engine_check(g, gen, e)) || (rc = weights_check(g->model.dit, e))) /* E2 */
        return rc;
    if (!(gen->guidance > 0)) neg = NULL;
    latent_dim(g, gen, dim);
    int64_t n_h = dim[1] / patch, n_w = dim[2] / patch;
    if (!(sigma = calloc((size_t)gen->n_steps * 2 + 1, sizeof *sigma))) {
        rc = err_set(e, ERR_NOMEM, "no memory for a schedule of %d steps", gen->n_steps);
        goto done;
    }
    float *t = sigma + gen->n_steps + 1;
    if ((rc = schedule_make(&g->model.conf.schedule, gen->n_steps, (int)(n_h * n_w), sigma, t, e)) || (rc = latent_alloc(dim, &z, e)))
        goto done;
    if ((rc = dit_rope_open(g->dit, n_h, n_w, pos->n_tok, &pos_rope, e))) goto done;
    if (neg && (rc = dit_rope_open(g->dit, n_h, n_w, neg->n_tok, &neg_rope, e))) goto done;
    if ((rc = engine_measure_denoise(g, gen, pos->n_tok, neg ? neg->n_tok : pos->n_tok, &bytes, e)) || (rc = engine_reserve(g, bytes, e))) goto done;
    struct denoise n = {g->dit, gen, sigma, t, {&pos->caption, pos_rope}, {neg ? &neg->caption : NULL, neg_rope}};
    g->n_passes = gen->n_steps < ENGINE_PASSES_TIMED ? gen->n_steps : ENGINE_PASSES_TIMED;
    if ((rc = run_passes(g, &n, z, h, e))) goto done;
    *out = z;
    z = NULL;
done:
    if (g->dit) {
        dit_rope_close(g->dit, pos_rope);
        dit_rope_close(g->dit, neg_rope);
    }
    free(sigma);
    latent_free(z);
    return rc;
}

int engine_denoise(struct engine *g, const struct embed *pos, const struct embed *neg, const struct gen *gen, const struct gen_hooks *h,
                   struct latent **out, struct err *e)
{
    int rc, n_tries = 0;

    do rc = denoise(g, pos, neg, gen, h, out, e);
    while (engine_retry(g, rc, &n_tries, e));
    return rc;
}

/* ---- latents and decode ---- */

int latent_new(struct engine *g, const int dim[3], const float *values, struct latent **out, struct err *e)
{
    const struct dit_conf *c = &g->model.conf.dit;
    struct latent         *z;
    int                    rc;

    if (dim[0] != c->channels || dim[1] < c->patch || dim[2] < c->patch || dim[1] > c->axes_lens[1] * c->patch ||
        dim[2] > c->axes_lens[2] * c->patch)
        return err_set(e, ERR_ARG, "a latent [%d,%d,%d] is not of this model: [%d, %d..%d, %d..%d]", dim[0], dim[1], dim[2], c->channels,
                       c->patch, c->axes_lens[1] * c->patch, c->patch, c->axes_lens[2] * c->patch);
    if ((rc = latent_alloc(dim, &z, e))) return rc;
    memcpy(z->values, values, latent_count(z) * sizeof *values);
    for (size_t i = 0; i < latent_count(z); i++)
        if (!isfinite(z->values[i])) {
            latent_free(z);
            return err_set(e, ERR_NAN, "value %zu of the latent is not finite", i);
        }
    *out = z;
    return 0;
}

static int decode(struct engine *g, const struct latent *l, struct image *out, struct err *e)
{
    size_t   bytes = 0;
    uint8_t *rgb = NULL;
    int      rc;

    if (!g->vae) return err_set(e, ERR_STATE, "this engine runs without the VAE");
    if ((rc = weights_check(g->model.vae, e)) || (rc = engine_measure_decode(g, l->dim, &bytes, e)) || (rc = engine_reserve(g, bytes, e))) /* E2 */
        return rc;
    struct tensor z = new_latent(g->d, l->dim), pixels = new_rgb(g, l->dim);
    size_t        n = (size_t)tensor_count(&pixels);
    if (!(rgb = malloc(n))) {
        rc = err_set(e, ERR_NOMEM, "no memory for %" PRId64 " x %" PRId64 " pixels", pixels.dim[1], pixels.dim[0]);
        goto done;
    }
    if ((rc = dev_put(g->d, &z, l->values, latent_count(l) * sizeof *l->values, e))) goto done;
    dev_stamp(g->d, STAMP_DECODE);
    bool finite = vae_decode(g->vae, &z, &pixels);
    dev_stamp(g->d, STAMP_DECODE_END);
    if ((rc = dev_get(g->d, &pixels, rgb, n, e)) || (rc = dev_sync(g->d, e))) goto done;
    if (!finite) {
        rc = err_set(e, ERR_NAN, "the picture is not finite: the VAE's weights are out of range");
        goto done;
    }
    *out = (struct image){.width_px = (int)pixels.dim[1], .height_px = (int)pixels.dim[0], .rgb = rgb};
    rgb = NULL;
done:
    dev_reset(g->d, 0);
    free(rgb);
    return rc;
}

int engine_decode(struct engine *g, const struct latent *l, struct image *out, struct err *e)
{
    int rc, n_tries = 0;

    do rc = decode(g, l, out, e);
    while (engine_retry(g, rc, &n_tries, e));
    return rc;
}

/* ---- times and memory ---- */

void engine_memory(const struct engine *g, struct engine_memory *out)
{
    struct dev_memory m;

    dev_memory(g->d, &m);
    *out = (struct engine_memory){m.used_bytes, m.total_bytes};
}

void engine_times(const struct engine *g, struct engine_times *out)
{
    struct dev       *d = g->d;
    struct dev_memory memory;
    int               last = STAMP_PASS + g->n_passes;

    dev_memory(d, &memory);
    *out = (struct engine_times){.text_ms = dev_stamp_ms(d, STAMP_TEXT, STAMP_CAPTION),
                                 .caption_ms = dev_stamp_ms(d, STAMP_CAPTION, STAMP_CAPTION_END),
                                 .denoise_ms = dev_stamp_ms(d, STAMP_PASS, last),
                                 .decode_ms = dev_stamp_ms(d, STAMP_DECODE, STAMP_DECODE_END),
                                 .image_ms = dev_stamp_ms(d, STAMP_TEXT, STAMP_DECODE_END),
                                 .n_passes = g->n_passes,
                                 .memory_used_bytes = memory.used_bytes,
                                 .memory_total_bytes = memory.total_bytes,
                                 .memory_before_bytes = g->memory_before_bytes};
    for (int i = 0; i < g->n_passes; i++) out->pass_ms[i] = dev_stamp_ms(d, STAMP_PASS + i, STAMP_PASS + i + 1);
}
