/* roster.c - workers in order of arrival, their leases, their silence.
 * Believes: one thread; at most WORKERS_MAX workers, so walks are short; out of memory aborts. */
#include "broker/roster.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

static struct str own(struct str s)
{
    char *p = calloc(1, s.len + 1);

    if (!p) abort();
    if (s.len) memcpy(p, s.at, s.len);
    return (struct str){p, s.len};
}

static void keep(char *to, size_t cap, struct str s)
{
    snprintf(to, cap, "%.*s", (int)s.len, s.len ? s.at : "");
}

static void models_free(struct worker *w)
{
    for (size_t i = 0; i < w->n_models; i++) {
        free((char *)w->model[i].name.at);
        free((char *)w->model[i].profile.at);
    }
    w->n_models = 0;
}

/* Its place in the books of its name. */
static void take_standing(struct roster *r, struct worker *w, struct str name, int64_t now_ms)
{
    struct standing *before = w->standing;

    w->standing = standing_get(&r->standing, name);
    w->standing->n_workers++;
    if (!before) return;
    before->n_workers--;
    standing_drop(&r->standing, before, now_ms);
}

struct worker *roster_find(const struct roster *r, const uint8_t instance[KEY_BYTES])
{
    struct worker *w;

    DL_FOREACH(r->worker, w)
        if (memcmp(w->instance, instance, KEY_BYTES) == 0) return w;
    return NULL;
}

void worker_ranks(struct worker *w, const struct rank *r, size_t n)
{
    if (n == 0) return;
    assert(n <= RANKS_MAX);
    for (size_t i = 0; i < n; i++) {
        keep(w->rank_device[i], sizeof w->rank_device[i], r[i].device);
        w->rank[i] = r[i];
        w->rank[i].device = str_of(w->rank_device[i]);
    }
    w->n_ranks = n;
}

uint32_t worker_lanes(const struct worker *w)
{
    uint32_t n = 0;

    for (size_t i = 0; i < w->n_ranks; i++) n += (w->rank[i].parts & RANK_IMAGE) != 0;
    return n ? n : 1;
}

struct worker *roster_hello(struct roster *r, const struct hello *h, struct peer *peer, const struct route *route, int64_t now_ms)
{
    struct worker *w = roster_find(r, h->instance);

    if (!w) {
        if (r->n_workers >= WORKERS_MAX) return NULL;
        w = calloc(1, sizeof *w);
        if (!w) abort();
        w->id = ++r->next_id;
        memcpy(w->instance, h->instance, KEY_BYTES);
        DL_APPEND(r->worker, w);
        r->n_workers++;
    }
    take_standing(r, w, h->name, now_ms);
    w->peer = peer;
    w->route = *route;
    w->hello_ms = w->seen_ms = now_ms;
    w->capacity = h->capacity;
    w->max_batch = h->max_batch ? h->max_batch : 1;
    keep(w->name, sizeof w->name, h->name);
    keep(w->device, sizeof w->device, h->device);
    keep(w->about, sizeof w->about, h->about);
    keep(w->version, sizeof w->version, h->version);
    w->n_ranks = 0;
    worker_ranks(w, h->rank, h->n_ranks);
    models_free(w);
    assert(h->n_models <= MODELS_MAX);
    for (size_t i = 0; i < h->n_models; i++, w->n_models++) {
        w->model[i] = h->model[i];
        w->model[i].name = own(h->model[i].name);
        w->model[i].profile = own(h->model[i].profile);
    }
    return w;
}

const struct worker *roster_clash(const struct roster *r, const struct hello *h, struct str *model)
{
    const struct worker *w;

    DL_FOREACH(r->worker, w)
    {
        if (memcmp(w->instance, h->instance, KEY_BYTES) == 0) continue;
        for (size_t i = 0; i < w->n_models; i++)
            for (size_t k = 0; k < h->n_models; k++)
                if (str_eq(w->model[i].name, h->model[k].name) && memcmp(w->model[i].digest, h->model[k].digest, sizeof w->model[i].digest) != 0) {
                    *model = h->model[k].name;
                    return w;
                }
    }
    return NULL;
}

void roster_drop(struct roster *r, struct worker *w)
{
    assert(!w->grant && !w->n_held);
    w->standing->n_workers--;
    standing_drop(&r->standing, w->standing, w->seen_ms);
    DL_DELETE(r->worker, w);
    r->n_workers--;
    models_free(w);
    free(w);
}

struct worker *roster_lost(const struct roster *r, int64_t now_ms)
{
    struct worker *w;

    DL_FOREACH(r->worker, w)
        if (now_ms - w->seen_ms >= WORKER_LOST_MS) return w;
    return NULL;
}

void worker_cut_off(struct worker *w, int64_t now_ms)
{
    int64_t seen_ms = now_ms - (WORKER_LOST_MS - CUT_OFF_MS);

    if (w->seen_ms > seen_ms) w->seen_ms = seen_ms;
}

bool worker_suspect(const struct worker *w, int64_t now_ms)
{
    return now_ms - w->seen_ms >= WORKER_SUSPECT_MS;
}

bool worker_serves(const struct worker *w, int64_t now_ms)
{
    return w->capacity && !w->standing->drained && !standing_barred(w->standing, now_ms) && !worker_suspect(w, now_ms);
}

/* What it takes at once; also what must be free before a busy one is given more: so batches do not fall apart. */
uint32_t worker_batch(const struct worker *w)
{
    return w->max_batch < w->capacity ? w->max_batch : w->capacity;
}

bool worker_free(const struct worker *w, int64_t now_ms)
{
    return w->n_held < w->capacity && w->n_held < LEASES_MAX && (!w->n_held || w->capacity - w->n_held >= worker_batch(w)) && worker_serves(w, now_ms);
}

void worker_deny(struct worker *w, int64_t px, int64_t now_ms)
{
    size_t at = 0;

    for (size_t i = 1; i < DENIALS_MAX; i++) /* the one that ends first gives way */
        if (w->denied[i].until_ms < w->denied[at].until_ms) at = i;
    w->denied[at].px = px;
    w->denied[at].until_ms = now_ms + DENIED_MS;
}

bool worker_denies(const struct worker *w, int64_t px, int64_t now_ms)
{
    for (size_t i = 0; i < DENIALS_MAX; i++)
        if (now_ms < w->denied[i].until_ms && px >= w->denied[i].px) return true;
    return false;
}

void worker_prompt(struct worker *w, uint64_t prompt)
{
    if (!worker_knows(w, prompt)) w->prompt[w->n_prompts++ % PROMPTS_KEPT] = prompt;
}

bool worker_knows(const struct worker *w, uint64_t prompt)
{
    for (size_t i = 0; i < w->n_prompts && i < PROMPTS_KEPT; i++)
        if (w->prompt[i] == prompt) return true;
    return false;
}

struct str worker_kind(const struct worker *w)
{
    return str_of(w->about[0] ? w->about : w->device);
}

struct worker *roster_by_id(const struct roster *r, uint64_t id)
{
    struct worker *w;

    DL_FOREACH(r->worker, w)
        if (w->id == id) break;
    return w;
}

bool worker_has(const struct worker *w, struct str model)
{
    for (size_t i = 0; i < w->n_models; i++)
        if (str_eq(w->model[i].name, model)) return true;
    return false;
}

const char *worker_state(const struct worker *w, int64_t now_ms)
{
    if (now_ms - w->seen_ms >= WORKER_LOST_MS) return "lost";
    if (worker_suspect(w, now_ms)) return "suspect";
    if (w->standing->drained) return w->n_held ? "draining" : "drained";
    if (standing_barred(w->standing, now_ms)) return "quarantined";
    if (w->capacity == 0) return w->n_held || w->n_done ? "draining" : "loading";
    return w->n_held ? "busy" : "ready";
}

struct str roster_default(const struct roster *r)
{
    struct worker *w;

    DL_FOREACH(r->worker, w)
        if (w->n_models) return w->model[0].name;
    return (struct str){0};
}

void roster_why(const struct roster *r, struct str model, int64_t now_ms, char *text, size_t cap)
{
    struct worker *w;
    size_t         used, n_with = 0, n_awake = 0;

    text[0] = 0;
    if (!r->worker) {
        snprintf(text, cap, "no worker is connected");
        return;
    }
    if (!model.len) model = roster_default(r);
    DL_FOREACH(r->worker, w)
    {
        if (!worker_has(w, model)) continue;
        n_with++;
        if (worker_serves(w, now_ms)) n_awake++;
    }
    if (n_awake) return;
    if (n_with) {
        snprintf(text, cap, "every worker with model '%.*s' is loading, draining, quarantined or silent: zfarm workers says which", (int)model.len,
                 model.len ? model.at : "");
        return;
    }
    used = (size_t)snprintf(text, cap, "no worker has model '%.*s' (workers have:", (int)model.len, model.len ? model.at : "");
    DL_FOREACH(r->worker, w)
    {
        for (size_t i = 0; i < w->n_models && used < cap; i++) {
            struct worker *other;
            bool           told = false;

            for (other = r->worker; other != w && !told; other = other->next) told = worker_has(other, w->model[i].name);
            if (!told) used += (size_t)snprintf(text + used, cap - used, " %.*s", (int)w->model[i].name.len, w->model[i].name.at);
        }
    }
    if (used < cap) snprintf(text + used, cap - used, ")");
}

void worker_took(struct worker *w, uint32_t took_ms)
{
    w->ms_per_image = w->ms_per_image ? (uint32_t)((7 * (uint64_t)w->ms_per_image + took_ms) / 8) : took_ms;
}

/* ---- leases ---- */
static struct grant *grant_new(struct task *t, uint64_t epoch, int64_t now_ms)
{
    struct grant *l = calloc(1, sizeof *l);

    if (!l) abort();
    *l = (struct grant){.task = t, .task_id = task_id(t), .epoch = epoch, .leased_ms = now_ms, .reported_ms = now_ms, .moved_ms = now_ms,
                        .deadline_ms = now_ms + LEASE_BUDGET_MS, .stage = STAGE_WAITING, .n_batch = 1};
    assert(!t->hedge);
    *(t->grant ? &t->hedge : &t->grant) = l;
    return l;
}

struct grant *roster_grant(struct worker *w, struct task *t, uint64_t epoch, int64_t now_ms)
{
    struct grant *l = grant_new(t, epoch, now_ms);

    l->worker = w;
    DL_APPEND(w->grant, l);
    w->n_held++;
    return l;
}

struct grant *roster_orphan(struct roster *r, struct task *t, uint64_t epoch)
{
    struct grant *l = grant_new(t, epoch, 0);

    DL_APPEND(r->orphans, l);
    return l;
}

void roster_adopt(struct roster *r, struct grant *l, struct worker *w, int64_t now_ms)
{
    assert(!l->worker);
    DL_DELETE(r->orphans, l);
    l->worker = w;
    l->sent = true;
    l->leased_ms = l->reported_ms = l->moved_ms = now_ms;
    l->n_batch = 1;
    l->deadline_ms = now_ms + LEASE_BUDGET_MS;
    DL_APPEND(w->grant, l);
    w->n_held++;
}

struct grant *worker_grant(const struct worker *w, uint64_t task, uint64_t epoch)
{
    struct grant *l;

    DL_FOREACH(w->grant, l)
        if (l->task_id == task && l->epoch == epoch) return l;
    return NULL;
}

/* What is left of the task's grants moves up. */
static void part(struct grant *l)
{
    struct task *t = l->task;

    if (!t) return;
    if (t->grant == l) t->grant = t->hedge;
    t->hedge = NULL;
    l->task = NULL;
}

void grant_revoke(struct grant *l)
{
    assert(l->worker);
    part(l);
}

void grant_free(struct roster *r, struct grant *l)
{
    part(l);
    if (l->canceling) l->canceling->n_canceling--;
    if (l->worker) {
        DL_DELETE(l->worker->grant, l);
        l->worker->n_held--;
    } else {
        DL_DELETE(r->orphans, l);
    }
    free(l);
}

bool grant_progress(struct grant *l, const struct progress *p, int64_t now_ms)
{
    bool moved = l->stage != p->stage || l->step != p->step || l->steps != p->steps;

    l->reported_ms = now_ms;
    if (!moved) return false;
    if (!l->begun_ms && p->stage > STAGE_WAITING) l->begun_ms = now_ms;
    l->stage = p->stage;
    l->step = p->step;
    l->steps = p->steps;
    l->moved_ms = now_ms;
    l->deadline_ms = now_ms + LEASE_BUDGET_MS;
    return true;
}

static int64_t later(int64_t at_ms, int64_t by_ms, int64_t most_ms)
{
    return at_ms + by_ms < most_ms ? at_ms + by_ms : most_ms;
}

void roster_forgive(struct roster *r, int64_t gap_ms, int64_t now_ms)
{
    struct worker *w;
    struct grant  *l;

    DL_FOREACH(r->worker, w)
    {
        w->seen_ms = later(w->seen_ms, gap_ms, now_ms);
        DL_FOREACH(w->grant, l)
        {
            l->deadline_ms = later(l->deadline_ms, gap_ms, now_ms + LEASE_BUDGET_MS);
            l->reported_ms = later(l->reported_ms, gap_ms, now_ms);
        }
    }
}
