/* plan.c - see plan.h. Believes: what was measured is what will be used. */
#include "engine/plan.h"

#include <stdarg.h>
#include <stdio.h>

#define LODGING_BYTES ((size_t)4096) /* alignment of a lodge in the scratch, generously */

struct way {
    bool           widen_dit, widen_text;
    enum plan_stay text;
};

static const struct way ways[] = {
    {true, true, PLAN_RESIDENT}, {true, false, PLAN_RESIDENT}, {false, false, PLAN_RESIDENT},
    {true, false, PLAN_PARKED}, {false, false, PLAN_PARKED}, {true, false, PLAN_RELEASED}, {false, false, PLAN_RELEASED}};

static double gib(size_t bytes)
{
    return (double)bytes / (double)((size_t)1 << 30);
}

static size_t max(size_t a, size_t b)
{
    return a > b ? a : b;
}

static struct plan plan_of(const struct plan_needs *n, const struct way *w, size_t budget)
{
    struct plan p = {.widen_dit = w->widen_dit, .widen_text = w->widen_text, .text = w->text, .budget_bytes = budget};
    size_t      text_work = n->work_text[w->widen_text], fixed;

    p.text_bytes = n->text[w->widen_text];
    p.weights_bytes = n->dit[w->widen_dit] + n->vae;
    if (w->text == PLAN_RESIDENT) {
        p.weights_bytes += p.text_bytes;
    } else {
        text_work += p.text_bytes + LODGING_BYTES;
        text_work -= text_work > PLAN_SPARE_BYTES ? PLAN_SPARE_BYTES : text_work;
    }
    p.work_bytes = max(text_work, max(n->work_pass[w->widen_dit], n->work_decode));
    fixed = p.weights_bytes + PLAN_KERNELS_BYTES;
    p.work_max_bytes = budget > fixed ? budget - fixed : 0;
    return p;
}

int plan_choose(const struct plan_needs *n, size_t budget, size_t pinned_max, struct plan *out, struct err *e)
{
    size_t      least = (size_t)-1;
    struct plan p;

    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
        const struct way *w = &ways[i];

        if (!n->has_blocks && (w->widen_dit || w->widen_text)) continue;
        if (w->text != PLAN_RESIDENT && !n->text[0]) continue;
        p = plan_of(n, w, budget);
        if (p.weights_bytes + p.work_bytes + PLAN_KERNELS_BYTES < least) least = p.weights_bytes + p.work_bytes + PLAN_KERNELS_BYTES;
        if (w->text == PLAN_PARKED && p.text_bytes > pinned_max) continue;
        if (p.work_bytes > p.work_max_bytes) continue;
        *out = p;
        return 0;
    }
    return err_set(e, ERR_NOMEM, "this model needs at least %.2f GiB of the GPU's memory for a picture of %d x %d%s, and may have %.2f: use files of a "
                   "smaller kind (Q8_0, Q4_K), allow more (--vram-budget), or use --device cpu", gib(least), n->width_px, n->height_px,
                   n->text[0] ? ", its text encoder read again for each prompt" : "", gib(budget));
}

const char *plan_word(const struct plan *p, const struct plan_needs *n)
{
    if (p->text == PLAN_PARKED) return p->widen_dit || !n->has_blocks ? "text encoder parked" : "blocks widened per use, text encoder parked";
    if (p->text == PLAN_RELEASED) return p->widen_dit || !n->has_blocks ? "text encoder released" : "blocks widened per use, text encoder released";
    if (!n->has_blocks) return "all resident";
    return p->widen_text ? "all resident, widened" : p->widen_dit ? "all resident, text encoder widened per use" : "all resident, blocks widened per use";
}

struct pen { /* room that is left of a text */
    char  *at;
    size_t cap;
};

static void __attribute__((format(printf, 2, 3))) put(struct pen *p, const char *fmt, ...)
{
    va_list args;
    int     n;

    va_start(args, fmt);
    n = vsnprintf(p->at, p->cap, fmt, args);
    va_end(args);
    if (n < 0 || (size_t)n >= p->cap) n = p->cap ? (int)p->cap - 1 : 0;
    p->at += n;
    p->cap -= (size_t)n;
}

const char *plan_about(const struct plan *p, const struct plan_needs *n, char *text, size_t cap)
{
    static const char *const stay[] = {"resident", "parked in host memory between prompts", "read again for each prompt"};
    const char              *how = n->has_blocks ? "widened per use" : "as stored";

    struct pen               pen = {text, cap};

    put(&pen, "%.2f of %.2f GiB: ", gib(p->weights_bytes + p->work_bytes + PLAN_KERNELS_BYTES), gib(p->budget_bytes));
    if (n->dit[0]) put(&pen, "transformer %.2f (%s), ", gib(n->dit[p->widen_dit]), p->widen_dit ? "widened" : how);
    if (n->text[0]) put(&pen, "text encoder %.2f (%s, %s), ", gib(p->text_bytes), p->widen_text ? "widened" : how, stay[p->text]);
    if (n->vae) put(&pen, "vae %.2f, ", gib(n->vae));
    put(&pen, "work space %.2f at %dx%d, kernels %.2f; %s", gib(p->work_bytes), n->width_px, n->height_px, gib(PLAN_KERNELS_BYTES),
        p->text == PLAN_RESIDENT && p->widen_dit == n->has_blocks && p->widen_text == n->has_blocks ? "the fastest way" : "faster ways do not fit");
    return text;
}
