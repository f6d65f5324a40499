/* fit.c - a model fits into a GPU's memory, or is refused: every stage is measured on weights that are not there yet, then a plan is chosen.
 * Believes: the code that measures is the code that runs, so the sizes are exact but for what libraries keep (PLAN_KERNELS_BYTES).
 * The same sizes are given out without an engine, part by part, for who places parts on devices (engine_sizes).
 * Not here: the choice itself (plan.c). */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "engine/inside.h"
#include "kernels/quant.h"

#define PICTURE_PX    1024 /* planned for: what these models are made for */
#define RESERVE_BYTES ((size_t)512 << 20) /* of what is free, left to others when no budget is said */

static double gib(size_t bytes)
{
    return (double)bytes / (double)((size_t)1 << 30);
}

/* The side of the planned picture: the model's own limit when that is less. */
static int side_px(const struct engine *g, int axis_len)
{
    int64_t most = (int64_t)axis_len * g->profile.multiple_px;
    return most < PICTURE_PX ? (int)most : PICTURE_PX / g->profile.multiple_px * g->profile.multiple_px;
}

/* Opens a part for its size only; what it needs while it runs is measured on it later. */
static int measure_weights(struct engine *g, int (*open)(struct engine *g, struct err *e), size_t *bytes, struct err *e)
{
    size_t work;
    int    rc, end;

    dev_measure_begin(g->d);
    rc = open(g, e);
    *bytes = g->d->measured_weights;
    end = dev_measure_end(g->d, &work, rc ? NULL : e);
    return rc ? rc : end;
}

static int open_text(struct engine *g, struct err *e)
{
    int rc = qwen3_open(&g->home.q, &g->model.conf.text, g->model.text, g->d, g->profile.tokens_max, e);
    g->text = g->home.q;
    return rc;
}

static int open_dit(struct engine *g, struct err *e)
{
    return dit_open(&g->dit, &g->model.conf.dit, g->model.dit, g->d, e);
}

static int open_vae(struct engine *g, struct err *e)
{
    return vae_open(&g->vae, &g->model.conf.vae, g->model.vae, g->d, e);
}

/* All sizes with block kinds as stored (widen 0) or widened. The parts are closed again. */
static int measure(struct engine *g, int widen, struct plan_needs *n, struct err *e)
{
    const struct gen gen = {.width_px = n->width_px, .height_px = n->height_px, .n_steps = g->profile.n_steps, .guidance = g->profile.guidance,
                            .cfg_norm = g->profile.cfg_norm, .cfg_trunc = g->profile.cfg_trunc};
    const int        tok = g->profile.tokens_max, scale = vae_scale(&g->model.conf.vae);
    const int        dim[3] = {g->model.conf.dit.channels, n->height_px / scale, n->width_px / scale};
    size_t           caption = 0;
    int              rc = 0;

    g->d->expand = widen;
    if ((g->parts & ENGINE_TEXT) && (rc = measure_weights(g, open_text, &n->text[widen], e))) goto done;
    if ((g->parts & ENGINE_DIT) && (rc = measure_weights(g, open_dit, &n->dit[widen], e))) goto done;
    if ((g->parts & ENGINE_VAE) && (rc = measure_weights(g, open_vae, &n->vae, e))) goto done;
    if (g->dit && ((rc = engine_measure_denoise(g, &gen, tok, tok, &n->work_pass[widen], e)) || (rc = engine_measure_caption(g, tok, &caption, e)))) goto done;
    if (caption > n->work_pass[widen]) n->work_pass[widen] = caption;
    if (g->vae && (rc = engine_measure_decode(g, dim, &n->work_decode, e))) goto done;
    if (g->text) rc = engine_measure_text(g, tok, &n->work_text[widen], e);
done:
    engine_close_parts(g);
    return rc;
}

/* What the engine may take of the GPU, beside the driver's own. */
static int find_budget(struct engine *g, const struct engine_opts *o, size_t *bytes, struct err *e)
{
    struct dev_memory m;
    size_t            left;

    dev_memory(g->d, &m);
    g->memory_before_bytes = m.used_bytes;
    left = m.total_bytes - m.used_bytes;
    if (o->vram_budget_bytes > left)
        return err_set(e, ERR_NOMEM, "a budget of %.2f GiB was given, and %s has %.2f GiB of %.2f free: say less, or end what else runs there",
                       gib(o->vram_budget_bytes), g->d->name, gib(left), gib(m.total_bytes));
    *bytes = o->vram_budget_bytes ? o->vram_budget_bytes : left > RESERVE_BYTES ? left - RESERVE_BYTES : 0;
    return 0;
}

static size_t machine_bytes(void)
{
    long pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE);

    return pages > 0 && page > 0 ? (size_t)pages * (size_t)page : SIZE_MAX;
}

static size_t pinned_most(void)
{
    return machine_bytes() / 2;
}

int engine_fit(struct engine *g, const struct engine_opts *o, struct err *e)
{
    struct plan_needs n = {.width_px = side_px(g, g->model.conf.dit.axes_lens[2]), .height_px = side_px(g, g->model.conf.dit.axes_lens[1])};
    size_t            budget = 0;
    int               rc;

    g->memory_bytes = machine_bytes();
    if (strcmp(g->d->name, "cpu") == 0)
        return o->vram_budget_bytes ? err_set(e, ERR_ARG, "a budget of GPU memory was given, and this engine runs on the CPU: leave it out") : 0;
    if ((rc = find_budget(g, o, &budget, e)) || (rc = measure(g, 0, &n, e))) return rc;
    n.has_blocks = g->d->scratch.room > 0;
    if (n.has_blocks && (rc = measure(g, 1, &n, e))) return rc;
    g->d->scratch.room = 0; /* the plan may do without */
    if ((rc = plan_choose(&n, budget, pinned_most(), &g->plan, e))) {
        err_in(e, "%s", g->d->name);
        return rc;
    }
    g->memory_bytes = g->plan.work_max_bytes;
    plan_about(&g->plan, &n, g->profile.plan, sizeof g->profile.plan);
    snprintf(g->profile.plan_word, sizeof g->profile.plan_word, "%s", plan_word(&g->plan, &n));
    return 0;
}

/* ---- sizes without an engine ---- */

/* One part after the other, twice: the rooms in which blocks are widened are the largest part's, whichever run together. */
static int measure_parts(struct engine *g, struct plan_needs *n, struct err *e)
{
    static const enum engine_part part[] = {ENGINE_TEXT, ENGINE_DIT, ENGINE_VAE};
    int                           rc = 0;

    for (int round = 0; round < 2; round++)
        for (int i = 0; i < 3 && !rc; i++) {
            g->parts = part[i];
            rc = measure(g, 0, n, e);
        }
    n->has_blocks = g->d->scratch.room > 0;
    for (int i = 0; i < 3 && !rc && n->has_blocks; i++) {
        g->parts = part[i];
        rc = measure(g, 1, n, e);
    }
    return rc;
}

static struct engine_need need(size_t weights, size_t wide, size_t work, size_t work_wide, bool has_blocks)
{
    return (struct engine_need){{weights, has_blocks ? wide : weights}, {work, has_blocks ? work_wide : work}};
}

int engine_sizes(const struct engine_opts *o, struct engine_sizes *out, struct err *e)
{
    struct engine_opts bare = *o;
    struct engine     *g = NULL;
    struct plan_needs  n = {0};
    struct dev_memory  m;
    int                rc;

    bare.parts = ENGINE_BOTH;
    if ((rc = engine_open_bare(&g, &bare, e))) return rc;
    n.width_px = side_px(g, g->model.conf.dit.axes_lens[2]);
    n.height_px = side_px(g, g->model.conf.dit.axes_lens[1]);
    dev_memory(g->d, &m);
    *out = (struct engine_sizes){.width_px = n.width_px, .height_px = n.height_px, .on_gpu = strcmp(g->d->name, "cpu") != 0, .total_bytes = m.total_bytes,
                                 .free_bytes = m.total_bytes - m.used_bytes};
    memcpy(out->device, g->d->name, sizeof out->device);
    if (!(rc = measure_parts(g, &n, e))) {
        if (!out->on_gpu) { /* borrowed from the mapped files */
            n.text[0] = (size_t)weights_bytes(g->model.text);
            n.dit[0] = (size_t)weights_bytes(g->model.dit);
            n.vae = (size_t)weights_bytes(g->model.vae);
        }
        out->has_blocks = n.has_blocks;
        out->text = need(n.text[0], n.text[1], n.work_text[0], n.work_text[1], n.has_blocks);
        out->dit = need(n.dit[0], n.dit[1], n.work_pass[0], n.work_pass[1], n.has_blocks);
        out->vae = need(n.vae, n.vae, n.work_decode, n.work_decode, n.has_blocks);
    }
    engine_free(g);
    return rc;
}

/* What these parts need, as engine_fit() would measure it. */
static struct plan_needs needs_of(const struct engine_sizes *s, enum engine_part parts)
{
    struct plan_needs n = {.has_blocks = s->has_blocks, .width_px = s->width_px, .height_px = s->height_px};

    for (int w = 0; w < 2; w++) {
        if (parts & ENGINE_TEXT) n.text[w] = s->text.weights_bytes[w], n.work_text[w] = s->text.work_bytes[w];
        if (parts & ENGINE_DIT) n.dit[w] = s->dit.weights_bytes[w], n.work_pass[w] = s->dit.work_bytes[w];
    }
    if (parts & ENGINE_VAE) n.vae = s->vae.weights_bytes[0], n.work_decode = s->vae.work_bytes[0];
    return n;
}

int engine_sizes_plan(const struct engine_sizes *s, enum engine_part parts, size_t budget_bytes, struct engine_plan *out, struct err *e)
{
    const struct plan_needs n = needs_of(s, parts);
    size_t                  left = s->free_bytes > RESERVE_BYTES ? s->free_bytes - RESERVE_BYTES : 0, budget = budget_bytes ? budget_bytes : left;
    struct plan             p;
    int                     rc;

    *out = (struct engine_plan){.budget_bytes = budget};
    if (!s->on_gpu) {
        size_t work = n.work_text[0] > n.work_pass[0] ? n.work_text[0] : n.work_pass[0];

        out->weights_bytes = n.text[0] + n.dit[0] + n.vae;
        out->work_bytes = work > n.work_decode ? work : n.work_decode;
        out->total_bytes = out->weights_bytes + out->work_bytes;
        return 0;
    }
    if ((rc = plan_choose(&n, budget, pinned_most(), &p, e))) {
        err_in(e, "%s", s->device);
        return rc;
    }
    out->weights_bytes = p.weights_bytes;
    out->work_bytes = p.work_bytes;
    out->kernels_bytes = PLAN_KERNELS_BYTES;
    out->total_bytes = p.weights_bytes + p.work_bytes + PLAN_KERNELS_BYTES;
    plan_about(&p, &n, out->about, sizeof out->about);
    snprintf(out->word, sizeof out->word, "%s", plan_word(&p, &n));
    return 0;
}

/* ---- a request ---- */

int engine_fits(const struct engine *g, size_t bytes, struct err *e)
{
    if (bytes <= g->memory_bytes) return 0;
    if (strcmp(g->d->name, "cpu") == 0)
        return err_set(e, ERR_LIMIT, "this picture needs %zu MiB of work space and the machine has %zu MiB: ask for a smaller one", bytes >> 20,
                       g->memory_bytes >> 20);
    return err_set(e, ERR_NOMEM, "this picture needs %.2f GiB of work space, and beside the model's %.2f GiB %s has %.2f for it (budget %.2f): ask for "
                   "a smaller one, or give the worker more (--vram-budget)", gib(bytes), gib(g->plan.weights_bytes), g->d->name,
                   gib(g->memory_bytes), gib(g->plan.budget_bytes));
}

bool engine_retry(struct engine *g, int rc, int *n_tries, struct err *e)
{
    struct dev_memory m;
    char              text[ERR_TEXT_BYTES];

    if (rc != ERR_NOMEM || strcmp(g->d->name, "cpu") == 0) return false;
    if (++*n_tries == 1) {
        cache_release(&g->cache); /* its rows; prompts in use stay */
        dev_trim(g->d);
        return true;
    }
    if (!e) return false;
    dev_memory(g->d, &m);
    snprintf(text, sizeof text, "%s", e->text);
    err_set(e, rc, "%.300s (%s has %.2f GiB of %.2f free)", text, g->d->name, gib(m.total_bytes - m.used_bytes), gib(m.total_bytes));
    return false;
}
