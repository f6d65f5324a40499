/* dispatch.c - (queue, roster, now) -> the next pair. Silent, no clock, no I/O. */
#include "broker/dispatch.h"

#include <utlist.h>

#define LOOK_AHEAD 32 /* tasks of one lane looked at when its first cannot go to a free worker */

struct str dispatch_model(const struct lane *l, const struct roster *r)
{
    if (l->model.len) return l->model;
    if (l->job->model[0]) return str_of(l->job->model);
    return roster_default(r);
}

/* Less busy first; among equals the faster one, an unmeasured one before all. */
static bool better(const struct worker *a, const struct worker *b)
{
    uint64_t load_a = (uint64_t)a->n_held * b->capacity, load_b = (uint64_t)b->n_held * a->capacity;

    return load_a != load_b ? load_a < load_b : a->ms_per_image < b->ms_per_image;
}

static struct worker *best_worker(const struct roster *r, struct str model, uint64_t avoid, int64_t now_ms)
{
    struct worker *w, *best = NULL, *avoided = NULL;
    bool           other = false;

    DL_FOREACH(r->worker, w)
    {
        if (!worker_has(w, model)) continue;
        if (w->id == avoid) {
            if (worker_free(w, now_ms)) avoided = w;
            continue;
        }
        if (worker_serves(w, now_ms)) other = true; /* busy or not: worth waiting for */
        if (worker_free(w, now_ms) && (!best || better(w, best))) best = w;
    }
    return best || other ? best : avoided;
}

static bool any_free(const struct roster *r, int64_t now_ms)
{
    struct worker *w;

    DL_FOREACH(r->worker, w)
        if (worker_free(w, now_ms)) return true;
    return false;
}

bool dispatch_next(struct queue *q, const struct roster *r, int64_t now_ms, struct pair *out)
{
    if (!queue_first(q) || !any_free(r, now_ms)) return false;
    for (struct lane *l = queue_first(q); l; l = queue_after(q, l)) {
        struct str   model = dispatch_model(l, r);
        struct task *t = model.len ? lane_first(l) : NULL;

        for (int i = 0; t && i < LOOK_AHEAD; i++, t = lane_after(l, t)) {
            struct worker *w = best_worker(r, model, t->avoid, now_ms);

            if (w) {
                *out = (struct pair){t, w, model};
                queue_take(q, t);
                return true;
            }
            if (!t->avoid) break; /* no free worker has the model: the others of this lane do not fit either */
        }
    }
    return false;
}
