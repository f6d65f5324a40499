/* layout.c - see layout.h. Believes: what engine_sizes() measured is what engine_open() will take. */
#include "worker/layout.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "proto/msg.h"

#define WHOLE (RANK_TEXT | RANK_IMAGE | RANK_VAE)

static double gib(size_t bytes)
{
    return (double)bytes / (double)((size_t)1 << 30);
}

/* The words of the wire and of the engine for the same parts. */
static enum engine_part engine_parts(uint32_t parts)
{
    return (enum engine_part)((parts & RANK_TEXT ? ENGINE_TEXT : 0) | (parts & RANK_IMAGE ? ENGINE_DIT : 0) | (parts & RANK_VAE ? ENGINE_VAE : 0));
}

int layout_row(const struct engine_sizes *s, uint32_t parts, size_t budget_bytes, struct layout_row *out, struct err *e)
{
    *out = (struct layout_row){.parts = parts, .free_bytes = s->free_bytes, .total_bytes = s->total_bytes};
    snprintf(out->device, sizeof out->device, "%.*s", (int)sizeof out->device - 1, s->device);
    return engine_sizes_plan(s, engine_parts(parts), budget_bytes, &out->plan, e);
}

const char *layout_about(const struct layout_row *r, const struct engine_sizes *s, char *text, size_t cap)
{
    const struct engine_plan *p = &r->plan;
    int                       n;

    n = snprintf(text, cap, "%-8s %-14s %6.2f GiB of %.2f free (%.2f in all): weights %.2f, work space %.2f for %d x %d", r->device, rank_parts_name(r->parts),
                 gib(p->total_bytes), gib(r->free_bytes), gib(r->total_bytes), gib(p->weights_bytes), gib(p->work_bytes), s->width_px, s->height_px);
    if (s->on_gpu && n > 0 && (size_t)n < cap) snprintf(text + n, cap - (size_t)n, ", kernels %.2f; %s", gib(p->kernels_bytes), p->word);
    return text;
}

/* ---- what fits ---- */

struct cards {
    const struct engine_sizes *card;
    int                        n;
    size_t                     budget_bytes;
};

static bool holds(const struct cards *c, int i, uint32_t parts)
{
    struct layout_row row;

    struct err        e = {0};

    return layout_row(&c->card[i], parts, c->budget_bytes, &row, &e) == 0;
}

/* And its text encoder, if it is among them, stays there: nothing is fetched for a new prompt. */
static bool keeps(const struct cards *c, int i, uint32_t parts)
{
    const struct engine_sizes *s = &c->card[i];
    struct layout_row          row;
    struct err                 e = {0};
    size_t                     all = 0;

    if (layout_row(s, parts, c->budget_bytes, &row, &e)) return false;
    if (parts & RANK_TEXT) all += s->text.weights_bytes[0];
    if (parts & RANK_IMAGE) all += s->dit.weights_bytes[0];
    if (parts & RANK_VAE) all += s->vae.weights_bytes[0];
    return row.plan.weights_bytes >= all;
}

/* ---- ways ---- */

struct group {
    int  text, image[LAYOUT_CARDS_MAX], n_image; /* cards; text -1: the CPU */
    bool vae_with_text;
};

/* Most free memory first; of equal ones the lower number. */
static void keep_largest(const struct cards *c, struct group *g)
{
    for (int i = 1; i < g->n_image; i++)
        for (int k = i; k > 0 && c->card[g->image[k]].free_bytes > c->card[g->image[k - 1]].free_bytes; k--) {
            int swap = g->image[k];

            g->image[k] = g->image[k - 1];
            g->image[k - 1] = swap;
        }
    if (g->n_image > PLACE_IMAGE_MAX) g->n_image = PLACE_IMAGE_MAX;
}

static void with_text_on(const struct cards *c, int text, struct group *g)
{
    uint32_t parts;

    *g = (struct group){.text = text};
    if (text >= 0 && !keeps(c, text, RANK_TEXT)) return;
    g->vae_with_text = text >= 0 && keeps(c, text, RANK_TEXT | RANK_VAE);
    parts = g->vae_with_text ? RANK_IMAGE : RANK_IMAGE | RANK_VAE;
    for (int i = 0; i < c->n; i++)
        if (i != text && holds(c, i, parts)) g->image[g->n_image++] = i;
    keep_largest(c, g);
}

static bool better(const struct cards *c, const struct group *a, const struct group *b)
{
    if (a->n_image != b->n_image) return a->n_image > b->n_image;
    if (a->vae_with_text != b->vae_with_text) return a->vae_with_text;
    return c->card[a->text].free_bytes < c->card[b->text].free_bytes;
}

static struct group best_group(const struct cards *c)
{
    struct group best = {.text = -1};

    for (int t = 0; t < c->n; t++) {
        struct group g;

        with_text_on(c, t, &g);
        if (g.n_image && (!best.n_image || better(c, &g, &best))) best = g;
    }
    return best;
}

/* ---- the choice ---- */

static void say_group(const struct cards *c, const struct group *g, struct layout *out)
{
    struct place *p = &out->place;

    snprintf(p->text, sizeof p->text, "%s", g->text < 0 ? "cpu" : c->card[g->text].device);
    if (g->vae_with_text) memcpy(p->vae, p->text, sizeof p->vae);
    for (; p->n_image < g->n_image; p->n_image++)
        snprintf(p->image[p->n_image], sizeof p->image[0], "%s", c->card[g->image[p->n_image]].device);
}

static int too_small(const struct cards *c, struct err *e)
{
    struct layout_row row;
    int               largest = 0, rc;

    for (int i = 1; i < c->n; i++)
        if (c->card[i].free_bytes > c->card[largest].free_bytes) largest = i;
    rc = layout_row(&c->card[largest], RANK_IMAGE | RANK_VAE, c->budget_bytes, &row, e);
    assert(rc);
    return rc;
}

int layout_choose(const struct engine_sizes *card, int n_cards, size_t budget_bytes, struct layout *out, struct err *e)
{
    const struct cards c = {card, n_cards, budget_bytes};
    struct group       g = best_group(&c);
    int                quarters = 0;

    assert(n_cards >= 0 && n_cards <= LAYOUT_CARDS_MAX);
    *out = (struct layout){0};
    if (n_cards == 0) {
        snprintf(out->why, sizeof out->why, "there is no GPU");
        return 0;
    }
    for (int i = 0; i < n_cards; i++) {
        if (!holds(&c, i, WHOLE)) continue;
        quarters += keeps(&c, i, WHOLE) ? 4 : 3;
        out->each[out->n_each++] = i;
    }
    if (g.n_image && (4 * g.n_image > quarters || (4 * g.n_image == quarters && !keeps(&c, g.text, WHOLE)))) {
        say_group(&c, &g, out);
        snprintf(out->why, sizeof out->why, "%d of %d GPU%s make pictures, one encodes prompts%s; by themselves %d would hold the model", g.n_image, n_cards,
                 n_cards == 1 ? "" : "s", g.vae_with_text ? " and decodes" : "", out->n_each);
        out->n_each = 0;
        return 0;
    }
    if (out->n_each) {
        snprintf(out->why, sizeof out->why, "%d of %d GPU%s hold%s the whole model: each by itself makes most", out->n_each, n_cards, n_cards == 1 ? "" : "s",
                 out->n_each == 1 ? "s" : "");
        return 0;
    }
    with_text_on(&c, -1, &g);
    if (g.n_image == 0) return too_small(&c, e);
    say_group(&c, &g, out);
    snprintf(out->why, sizeof out->why, "no GPU has room for the text encoder");
    return 0;
}
