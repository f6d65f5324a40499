/* dispatch.c - (queue, roster, rates, now) -> the next deal. Silent, no clock, no I/O. */
#include "broker/dispatch.h"

#include <utlist.h>

#define LOOK_AHEAD    32  /* tasks of one lane looked at */
#define LANES_AHEAD   64  /* lanes looked at to fill a batch */
#define BATCH_BYTES   (BODY_BIG_MAX_BYTES / 2) /* of specs in one batch: it travels as one message */
#define PASSED_MAX    8   /* times a head may be passed over for a prompt at hand */
#define SPREAD_MAX    32  /* workers: among more, looking who knows a prompt takes longer than encoding it */
#define MISSES        8   /* models that nobody free has, remembered within one call */
#define KINDS         16  /* of idle workers, with nothing to do for any of them, remembered within one call */
#define HEDGE_TIMES   2.0 /* a hedge must be so much sooner than what is left */
#define HEDGE_MIN_MS  200.0
#define RECALL_ANSWER_MS 3000 /* a worker answers a recall within this, or has begun */

struct str dispatch_model(const struct lane *l, const struct roster *r)
{
    if (l->model.len) return l->model;
    if (l->job->model[0]) return str_of(l->job->model);
    return roster_default(r);
}

static int64_t px_of(const struct task *t)
{
    return lot_px(t->lot);
}

static bool alone(const struct task *t)
{
    return t->solo || t->crashes;
}

/* Less busy first; among equals the one that knows the prompt, then the faster one, an unmeasured one before all. */
static bool better(const struct worker *a, const struct worker *b, uint64_t prompt)
{
    uint64_t load_a = (uint64_t)a->n_held * b->capacity, load_b = (uint64_t)b->n_held * a->capacity;
    bool     knows_a = worker_knows(a, prompt), knows_b = worker_knows(b, prompt);

    if (load_a != load_b) return load_a < load_b;
    if (knows_a != knows_b) return knows_a;
    return a->ms_per_image < b->ms_per_image;
}

static struct worker *best_worker(const struct roster *r, struct str model, const struct task *t, int64_t now_ms)
{
    struct worker *w, *best = NULL, *avoided = NULL;
    bool           other = false;

    DL_FOREACH(r->worker, w)
    {
        bool is_free = worker_free(w, now_ms);

        if (!is_free && (!t->avoid || other || w->id == t->avoid)) continue; /* the cheap question first */
        if (!worker_has(w, model) || worker_denies(w, px_of(t), now_ms)) continue;
        if (w->id == t->avoid) {
            avoided = w;
            continue;
        }
        other |= worker_serves(w, now_ms); /* busy or not: worth waiting for */
        if (is_free && (!best || better(w, best, t->lot->prompt))) best = w;
    }
    return best || other ? best : avoided;
}

/* Has anybody run out of memory lately? Then a smaller picture may fit where a larger one does not. */
static bool px_matters(const struct roster *r, int64_t now_ms)
{
    struct worker *w;

    DL_FOREACH(r->worker, w)
        if (worker_denies(w, INT64_MAX, now_ms)) return true;
    return false;
}

static bool any_free(const struct roster *r, int64_t now_ms)
{
    struct worker *w;

    DL_FOREACH(r->worker, w)
        if (worker_free(w, now_ms)) return true;
    return false;
}

/* Could t ride to w: nothing against it? */
static bool fits(const struct task *t, const struct worker *w, int64_t now_ms)
{
    return t->avoid != w->id && !worker_denies(w, px_of(t), now_ms);
}

/* Does another worker have the prompt at hand? */
static bool known_elsewhere(const struct roster *r, const struct worker *w, uint64_t prompt)
{
    const struct worker *other;

    DL_FOREACH(r->worker, other)
        if (other != w && worker_knows(other, prompt)) return true;
    return false;
}

/* Instead of the lane's head: the first of the next ones whose prompt the worker knows; or, when the head's prompt is at another worker, the
 * first whose prompt nobody knows. Retries, and a head that was passed over too often, are not passed over. */
static struct task *prompt_at_hand(const struct roster *r, const struct lane *l, struct task *head, const struct worker *w, int64_t now_ms)
{
    struct task *t, *fresh = NULL;
    bool         spread = r->n_workers <= SPREAD_MAX && known_elsewhere(r, w, head->lot->prompt);

    if (l->retry || l->n_passed >= PASSED_MAX || worker_knows(w, head->lot->prompt)) return head;
    t = head;
    for (int i = 0; t && i < LOOK_AHEAD; i++, t = lane_after(l, t)) {
        if (!fits(t, w, now_ms)) continue;
        if (worker_knows(w, t->lot->prompt)) return t;
        if (spread && !fresh && t->lot != head->lot && !known_elsewhere(r, w, t->lot->prompt)) fresh = t;
    }
    return fresh ? fresh : head;
}

/* May this client hold one more, with what it already has in this deal? */
static bool may_hold(const struct tenant *c, const struct pair *p)
{
    uint64_t n = 0;

    if (tenant_full(c)) return false;
    if (!c->quota.leases) return true;
    n += p->task && task_job(p->task)->share->tenant == c;
    for (size_t i = 0; i < p->n_also; i++) n += task_job(p->also[i])->share->tenant == c;
    return c->n_running + n < c->quota.leases;
}

/* A task of this lane that may ride with p->task. */
static struct task *rider(const struct lane *l, const struct roster *r, const struct pair *p, size_t left_bytes, int64_t now_ms)
{
    struct task *t = lane_first(l);

    if (!t || !str_eq(dispatch_model(l, r), p->model) || !may_hold(l->job->share->tenant, p)) return NULL;
    for (int i = 0; t && i < LOOK_AHEAD; i++, t = lane_after(l, t))
        if (t->lot->shape == p->task->lot->shape && !alone(t) && fits(t, p->worker, now_ms) && t->lot->bytes.len <= left_bytes) return t;
    return NULL;
}

/* Takes what may ride with the head: from its own lane first, then in the order of the queue. */
static void fill(struct queue *q, const struct roster *r, const struct rates *rates, int64_t now_ms, struct pair *p)
{
    size_t room = p->worker->capacity - p->worker->n_held, want = worker_batch(p->worker), left_bytes = BATCH_BYTES;

    if (want > room) want = room;
    left_bytes -= p->task->lot->bytes.len < left_bytes ? p->task->lot->bytes.len : left_bytes;
    while (p->n_also + 1 < want) {
        struct task *t = rider(p->task->lot->lane, r, p, left_bytes, now_ms);
        int          n = 0;

        for (struct lane *l = queue_first(q); !t && l && n < LANES_AHEAD; l = queue_after(q, l), n++) t = rider(l, r, p, left_bytes, now_ms);
        if (!t) return;
        left_bytes -= t->lot->bytes.len;
        (void)queue_take(q, t, rates_charge_ms(rates, p->model, t->lot->cost), false);
        p->also[p->n_also++] = t;
    }
}

/* The first task of the lane, of its first few, that a free worker may have. */
static struct task *choose(const struct lane *l, struct str model, const struct roster *r, int64_t now_ms, struct worker **w, bool *no_worker)
{
    struct task *t = lane_first(l);

    *no_worker = false;
    for (int i = 0; t && i < LOOK_AHEAD; i++, t = lane_after(l, t)) {
        if ((*w = best_worker(r, model, t, now_ms))) return i == 0 ? prompt_at_hand(r, l, t, *w, now_ms) : t;
        if (!t->avoid && !px_matters(r, now_ms)) { /* no free worker has the model: the others of this lane do not fit either */
            *no_worker = true;
            return NULL;
        }
    }
    return NULL;
}

bool dispatch_next(struct queue *q, const struct roster *r, const struct rates *rates, int64_t now_ms, struct pair *out)
{
    struct str  missing[MISSES];
    size_t      n_missing = 0;
    struct pair p = {0};

    if (!queue_first(q) || !any_free(r, now_ms)) return false;
    for (struct lane *l = queue_first(q); l; l = queue_after(q, l)) {
        struct str model = dispatch_model(l, r);
        size_t     k = 0;
        bool       no_worker;

        while (k < n_missing && !str_eq(missing[k], model)) k++;
        if (!model.len || k < n_missing || !may_hold(l->job->share->tenant, &p)) continue;
        p.task = choose(l, model, r, now_ms, &p.worker, &no_worker);
        if (!p.task) {
            if (no_worker && n_missing < MISSES) missing[n_missing++] = model;
            continue;
        }
        p.model = model;
        p.usual_ms = rates_ms(rates, worker_kind(p.worker), model, p.task->lot->cost);
        p.turn = queue_take(q, p.task, rates_charge_ms(rates, model, p.task->lot->cost), true);
        if (!alone(p.task)) fill(q, r, rates, now_ms, &p);
        *out = p;
        return true;
    }
    return false;
}

/* ---- a second lease, and one called back ---- */
double grant_left_ms(const struct grant *g, int64_t now_ms)
{
    double gone = g->begun_ms ? (double)(now_ms - g->begun_ms) : 0;

    if (g->steps && g->step && g->stage == STAGE_DENOISE) return gone * (g->steps - g->step) / g->step;
    if (g->usual_ms <= 0) return -1;
    return gone < 0.9 * g->usual_ms ? g->usual_ms - gone : 0.1 * g->usual_ms; /* late already: soon, or nobody knows */
}

/* What lies before a lease that has not begun: what its worker is at. */
static double before_ms(const struct grant *g, int64_t now_ms)
{
    const struct grant *other;
    double              sum = 0;

    DL_FOREACH(g->worker->grant, other)
    {
        double left = grant_left_ms(other, now_ms);

        if (other == g) break;
        if (left > 0 && other->stage != STAGE_UPLOAD) sum += left;
    }
    return sum / worker_lanes(g->worker);
}

/* Is its worker at as much as it can be, first? If not, it is about to begin. */
static bool waits_behind(const struct grant *g)
{
    const struct grant *other;
    uint32_t            n = 0;

    DL_FOREACH(g->worker->grant, other)
    {
        if (other == g) break;
        n += other->stage != STAGE_UPLOAD;
    }
    return n >= worker_lanes(g->worker);
}

/* How much sooner w would have it; <= 0: not worth it. */
static double gain_ms(const struct grant *g, const struct worker *w, const struct rates *rates, struct str model, int64_t now_ms)
{
    const struct lot *lot = g->task->lot;
    double            mine = rates_ms(rates, worker_kind(w), model, lot->cost), left = grant_left_ms(g, now_ms);

    if (g->stage == STAGE_UPLOAD) return 0;
    if (!g->begun_ms) return before_ms(g, now_ms) + (left > 0 && mine > 0 ? left - mine : 0) + 1; /* it waits there: here it begins */
    if (left < 0 || mine <= 0 || left < HEDGE_TIMES * mine || left - mine < HEDGE_MIN_MS) return 0;
    return left - mine;
}

static bool at_work(const struct worker *w)
{
    const struct grant *g;

    DL_FOREACH(w->grant, g)
        if (g->stage != STAGE_UPLOAD) return true;
    return false;
}

/* The lease that w would end soonest before its holder, into *out. False: none. *all: every lease of its models was looked at, none is w's alone not to have. */
static bool hedge_for(const struct roster *r, const struct rates *rates, struct worker *w, int64_t now_ms, struct pair *out, bool *all)
{
    struct worker *other;
    struct grant  *g;
    double         most = 0;

    *all = true;
    DL_FOREACH(r->worker, other)
    DL_FOREACH(other->grant, g)
    {
        struct task *t = g->task;
        struct str   model = {0};
        double       gain;

        if (other == w || !t || !g->sent || t->hedge || alone(t) || (!g->begun_ms && !waits_behind(g))) continue;
        if (!fits(t, w, now_ms)) {
            *all = false;
            continue;
        }
        model = dispatch_model(t->lot->lane, r);
        if (!worker_has(w, model)) continue;
        gain = gain_ms(g, w, rates, model, now_ms);
        if (gain <= most) continue;
        most = gain;
        *out = (struct pair){.task = t, .worker = w, .model = model, .usual_ms = rates_ms(rates, worker_kind(w), model, t->lot->cost)};
    }
    return most > 0;
}

/* What one of them cannot make sooner, the other cannot. */
static bool alike(const struct worker *a, const struct worker *b)
{
    size_t i = 0;

    if (a->n_models != b->n_models || !str_eq(worker_kind(a), worker_kind(b))) return false;
    while (i < a->n_models && str_eq(a->model[i].name, b->model[i].name)) i++;
    return i == a->n_models;
}

bool dispatch_hedge(const struct roster *r, const struct rates *rates, int64_t now_ms, struct pair *out)
{
    const struct worker *asked[KINDS]; /* for nothing */
    struct worker       *w;
    size_t               n = 0, k;
    bool                 all;

    DL_FOREACH(r->worker, w)
    {
        if (!worker_free(w, now_ms) || at_work(w)) continue;
        for (k = 0; k < n && !alike(asked[k], w);) k++;
        if (k < n) continue;
        if (hedge_for(r, rates, w, now_ms, out, &all)) return true;
        if (all && n < KINDS) asked[n++] = w;
    }
    return false;
}

/* May what waits at a worker, of share v, be called back for s, when n_out were called back already and have not come? For somebody's first urgent
 * image, what is less urgent; in one class, while v has had more than s and still holds more when one has gone over. */
static bool gives_way(const struct share *v, const struct share *s, uint64_t n_out)
{
    if (v->key.job_class != s->key.job_class) return s->key.job_class == CLASS_INTERACTIVE && !s->n_running && !n_out;
    return v != s && (v->level != v->key.job_class || v->used_ms > s->used_ms) && v->n_running >= s->n_running + 2 * n_out + 2;
}

/* Leases called back that may still come, of those that s waits for. */
static uint64_t n_called(const struct roster *r, int64_t now_ms)
{
    const struct worker *w;
    const struct grant  *g;
    uint64_t             n = 0;

    DL_FOREACH(r->worker, w)
    DL_FOREACH(w->grant, g) n += g->task && g->recalled_ms && !g->begun_ms && now_ms - g->recalled_ms < RECALL_ANSWER_MS;
    return n;
}

struct grant *dispatch_recall(const struct queue *q, const struct roster *r, int64_t now_ms)
{
    struct worker *w;
    struct grant  *g, *best = NULL;
    uint64_t       n_out;

    if (!queue_first(q)) return NULL;
    n_out = n_called(r, now_ms);
    for (int c = CLASS_INTERACTIVE; c <= CLASS_BULK && !best; c++) {
        const struct share *s = q->of[c].share; /* whose turn is next in it: what comes back would be its */

        if (!s || s->level != s->key.job_class || tenant_full(s->tenant)) continue;
        DL_FOREACH(r->worker, w)
        DL_FOREACH(w->grant, g)
        {
            const struct share *v = g->task ? task_job(g->task)->share : NULL;

            if (!v || g->begun_ms || !g->sent || g->recalled_ms || g->task->recalled || g->task->hedge || !waits_behind(g) || !gives_way(v, s, n_out)) continue;
            if (!worker_has(w, dispatch_model(s->lane, r))) continue;
            if (best && v->key.job_class < task_job(best->task)->share->key.job_class) continue; /* bulk before normal */
            if (!best || v->key.job_class > task_job(best->task)->share->key.job_class || before_ms(g, now_ms) < before_ms(best, now_ms)) best = g; /* where it begins soonest */
        }
    }
    if (!best) return NULL;
    best->recalled_ms = now_ms;
    best->task->recalled = true;
    return best;
}

bool dispatch_denied(const struct roster *r, struct str model, int64_t px, int64_t now_ms)
{
    const struct worker *w;
    bool                 any = false;

    DL_FOREACH(r->worker, w)
    {
        if (!worker_has(w, model)) continue;
        if (!worker_denies(w, px, now_ms)) return false;
        any = true;
    }
    return any;
}
