/* zfarm_bench_run.c - engines with made-up weights, and their rounds. Every round is a whole image with a prompt that no cache knows. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "engine/made.h"
#include "engine/noise.h"
#include "engine/prompt.h"
#include "tests/bench/zfarm_bench.h"
#include "tools/synth.h"

/* ---- samples ---- */

static int put(struct sample *s, double ms, struct err *e)
{
    if (s->n == s->cap) {
        int     cap = s->cap ? 2 * s->cap : 64;
        double *at = realloc(s->at, (size_t)cap * sizeof *at);
        if (!at) return err_set(e, ERR_NOMEM, "no memory for %d samples", cap);
        s->at = at;
        s->cap = cap;
    }
    s->at[s->n++] = ms;
    return 0;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double sample_median(const struct sample *s)
{
    double *at, median;

    if (s->n == 0 || !(at = malloc((size_t)s->n * sizeof *at))) return -1;
    memcpy(at, s->at, (size_t)s->n * sizeof *at);
    qsort(at, (size_t)s->n, sizeof *at, by_value);
    median = s->n % 2 ? at[s->n / 2] : (at[s->n / 2 - 1] + at[s->n / 2]) / 2;
    free(at);
    return median;
}

double sample_min(const struct sample *s)
{
    double least = s->n ? s->at[0] : -1;

    for (int i = 1; i < s->n; i++) least = s->at[i] < least ? s->at[i] : least;
    return least;
}

double sample_max(const struct sample *s)
{
    double most = s->n ? s->at[0] : -1;

    for (int i = 1; i < s->n; i++) most = s->at[i] > most ? s->at[i] : most;
    return most;
}

/* ---- a side ---- */

/* How many bytes of prompt make n_prompt_tok ids: the made-up tokenizer knows bytes only. */
static int fit_prompt(struct bench_side *s, struct err *e)
{
    struct tokenizer *t = NULL;
    int32_t           ids[PROMPT_TOKENS_MAX];
    size_t            n = 0;
    int               rc = tokenizer_open_mem(&t, str_of(s->tokenizer_json), e);

    if (rc) return rc;
    rc = prompt_ids(t, str_of(""), ids, PROMPT_TOKENS_MAX, &n, e);
    tokenizer_free(t);
    if (rc) return rc;
    s->n_prompt_extra = s->conf.n_prompt_tok - (int)n;
    if (s->n_prompt_extra < 8 || s->conf.n_prompt_tok > PROMPT_TOKENS_MAX)
        return err_set(e, ERR_ARG, "%d prompt tokens: must be %d to %d", s->conf.n_prompt_tok, (int)n + 8, PROMPT_TOKENS_MAX);
    return 0;
}

int side_open(struct bench_side *s, struct err *e)
{
    struct engine_made  made = {.conf = &s->model, .dit = s->conf.dit_kind, .text = s->conf.text_kind,
                                .vae = s->conf.dit_kind == DTYPE_F32 ? DTYPE_F32 : DTYPE_BF16};
    struct engine_opts  o = {.made = &made, .device = s->conf.device, .parts = ENGINE_BOTH, .precision = s->conf.precision,
                             .n_threads = s->conf.n_threads, .cache_embeds = 1,
                             .vram_budget_bytes = (size_t)(s->conf.vram_budget_gib * (double)((size_t)1 << 30))};
    struct engine_times t;
    int64_t             from;
    int                 rc = bench_conf_model(&s->conf, &s->model, e);

    if (rc) return rc;
    if (!(s->tokenizer_json = synth_tokenizer_json())) return err_set(e, ERR_NOMEM, "no memory for a tokenizer");
    made.tokenizer_json = str_of(s->tokenizer_json);
    if ((rc = fit_prompt(s, e))) return rc;
    for (int i = 0; i < s->conf.n_sizes; i++) s->run[i] = (struct bench_run){.size = s->conf.size[i], .n_steps = s->conf.n_steps ? s->conf.n_steps : 8};
    if (s->conf.plan) return 0;
    from = now_us();
    if ((rc = engine_open(&s->engine, &o, e))) return rc;
    s->open_ms = (double)(now_us() - from) / 1e3;
    engine_times(s->engine, &t);
    s->before_bytes = t.memory_before_bytes;
    s->open_bytes = t.memory_used_bytes;
    s->total_bytes = t.memory_total_bytes;
    for (int i = 0; i < s->conf.n_sizes; i++)
        if (!s->conf.n_steps) s->run[i].n_steps = engine_profile(s->engine)->n_steps;
    return 0;
}

void side_close(struct bench_side *s)
{
    engine_free(s->engine);
    free(s->tokenizer_json);
    for (int i = 0; i < s->conf.n_sizes; i++)
        for (int k = 0; k < STAGE_COUNT; k++) free(s->run[i].ms[k].at);
}

/* ---- a round ---- */

static int keep(struct bench_run *r, const struct engine_times *t, double wall_ms, struct err *e)
{
    int rc;

    for (int i = 0; i < t->n_passes; i++)
        if ((rc = put(&r->ms[STAGE_PASS], t->pass_ms[i], e))) return rc;
    if ((rc = put(&r->ms[STAGE_TEXT], t->text_ms, e)) || (rc = put(&r->ms[STAGE_CAPTION], t->caption_ms, e)) ||
        (rc = put(&r->ms[STAGE_PASSES], t->denoise_ms, e)) || (rc = put(&r->ms[STAGE_DECODE], t->decode_ms, e)) ||
        (rc = put(&r->ms[STAGE_IMAGE], t->image_ms, e)))
        return rc;
    return put(&r->ms[STAGE_WALL], wall_ms, e);
}

static int round_run(struct bench_side *s, struct bench_run *r, int number, bool kept, struct err *e)
{
    const struct engine_profile *p = engine_profile(s->engine);
    struct gen                   gen = {.width_px = r->size.width_px, .height_px = r->size.height_px, .n_steps = r->n_steps, .guidance = p->guidance,
                                        .cfg_norm = p->cfg_norm, .cfg_trunc = p->cfg_trunc, .seed = (uint64_t)number, .noise_threads = NOISE_THREADS_H100};
    char                         prompt[PROMPT_TOKENS_MAX + 1];
    struct embed                *pos = NULL;
    struct latent               *z = NULL;
    struct image                 image = {0};
    struct engine_times          t;
    int64_t                      from = now_us();
    int                          rc;

    snprintf(prompt, sizeof prompt, "%08d", number);
    memset(prompt + 8, 'x', (size_t)s->n_prompt_extra - 8);
    prompt[s->n_prompt_extra] = 0;
    gen.guidance = 0; /* one pass is one pass */
    if ((rc = engine_encode(s->engine, str_of(prompt), &pos, e)) || (rc = engine_denoise(s->engine, pos, NULL, &gen, NULL, &z, e)) ||
        (rc = engine_decode(s->engine, z, &image, e)))
        goto done;
    double wall_ms = (double)(now_us() - from) / 1e3;
    engine_times(s->engine, &t);
    if (t.memory_used_bytes > r->peak_bytes) r->peak_bytes = t.memory_used_bytes;
    if (kept) rc = keep(r, &t, wall_ms, e);
done:
    image_free(&image);
    latent_free(z);
    embed_free(pos);
    return rc;
}

int sides_run(struct bench_side *s, int n, struct err *e)
{
    int number = 0, rc;

    for (int i = 0; i < s[0].conf.n_sizes; i++)
        for (int k = -s[0].conf.n_warmup; k < s[0].conf.n_repeats; k++)
            for (int side = 0; side < n; side++)
                if ((rc = round_run(&s[side], &s[side].run[i], ++number, k >= 0, e))) return rc;
    return 0;
}
