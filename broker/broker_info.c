/* broker_info.c - what people want to know of a job: counts, how fast, how long still, why nothing runs.
 * Believes: final counts are of what is durable (job.n_shown), so that a client who counts to the end has had, or will get, every event. */
#include "broker/broker.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <utlist.h>

#define ETA_MS 500 /* looking at the whole farm has its price: one guess does for so long */

/* Images of this job that the farm would make in a second if it had nothing else to do: the sum over its workers of what is measured. */
static double whole_farm_per_s(const struct broker *b, const struct job *j)
{
    struct worker *w;
    double         sum = 0;
    uint32_t       cost = j->n[TASK_QUEUED] + j->n[TASK_RUNNING] ? (uint32_t)(j->cost_left / (j->n[TASK_QUEUED] + j->n[TASK_RUNNING])) : 1;

    DL_FOREACH(b->roster.worker, w)
    {
        double ms = 0;

        if (!w->capacity || w->standing->drained) continue;
        for (const struct lane *l = j->lane; l && ms <= 0; l = l->sister) {
            struct str model = dispatch_model(l, &b->roster);

            if (worker_has(w, model)) ms = rates_ms(&b->rates, worker_kind(w), model, cost ? cost : 1);
        }
        if (ms > 0) sum += 1000 * worker_lanes(w) / ms;
    }
    return sum;
}

/* The part of the farm that is this job's turn: of its class by weight, of its client among those of the class. */
static double part_of_farm(const struct broker *b, const struct job *j)
{
    static const double weight[] = {[CLASS_INTERACTIVE] = 8, [CLASS_NORMAL] = 4, [CLASS_BULK] = 1};
    const struct share *s = j->share;
    double              all = 0, n_clients = (double)b->queue.of[s->key.job_class].n_shares;

    for (int c = CLASS_INTERACTIVE; c <= CLASS_BULK; c++) all += b->queue.of[c].share || c == s->key.job_class ? weight[c] : 0;
    return weight[s->key.job_class] / all / (n_clients > 0 ? n_clients : 1);
}

static void eta(const struct broker *b, struct job *j, int64_t now_ms, struct job_info *out)
{
    uint32_t left = j->n[TASK_QUEUED] + j->n[TASK_RUNNING];
    double   per_s;

    out->eta_ms = -1;
    out->images_per_s = j->n[TASK_RUNNING] || !left ? job_rate(j, now_ms) : 0;
    if (left == 0) {
        out->eta_ms = 0;
    } else if (b->paused || j->share->tenant->paused) {
        return; /* nobody knows when it goes on */
    } else if (out->images_per_s > 0) {
        out->eta_ms = (int64_t)((float)left * 1000.0f / out->images_per_s);
    } else if (now_ms - j->eta_at_ms < ETA_MS) {
        out->eta_ms = j->eta_ms;
    } else {
        per_s = whole_farm_per_s(b, j) * part_of_farm(b, j);
        if (per_s > 0) out->eta_ms = (int64_t)(left * 1000.0 / per_s);
        j->eta_at_ms = now_ms;
    }
    j->eta_ms = out->eta_ms;
}

/* Nothing is wrong, others are served: why just now not this one? */
static const char *turn(const struct broker *b, const struct job *j)
{
    const struct share *s = j->share, *at;

    if (!s->lane) return "";
    if (s->level != s->key.job_class) return "it waited long: it is next among the more urgent ones";
    DL_FOREACH(b->queue.of[s->level].share, at)
        if (at != s) return "the workers are busy; this client shares them with others of its class";
    for (int c = CLASS_INTERACTIVE; c <= CLASS_BULK; c++)
        if (c != s->key.job_class && b->queue.of[c].share)
            return c < s->key.job_class ? "the workers are busy; more urgent jobs get more of them" : "the workers are busy; less urgent jobs get a small part of them";
    return s->lane->next || s->lane != j->lane ? "the workers are busy; this client's jobs take turns" : "the workers are busy; it is next";
}

/* Somebody said no, or said wait. NULL: nobody. */
static const char *held_up(const struct broker *b, const struct job *j)
{
    const struct tenant *t = j->share->tenant;

    if (b->stopping) return "the broker is shutting down";
    if (b->paused && b->crash_loop) return "the broker crashed again and again: it gives out nothing until zfarm resume";
    if (b->paused) return "the farm is paused: zfarm resume";
    if (t->paused) return "this client is paused: zfarm resume CLIENT";
    if (t->quota.leases && t->n_running >= t->quota.leases) return "this client holds as many workers as it may";
    if (tenant_full(t)) return "this client's finished images take all the room it may have here: gather some";
    return NULL;
}

/* Its first tasks in the queue fit nobody who is free. */
static void misfits(const struct broker *b, const struct lane *l, int64_t now_ms, char *text, size_t cap)
{
    const struct task *t = lane_first(l);
    int64_t            px = t ? lot_px(t->lot) : 0;
    struct worker     *w;

    if (!t) return;
    if (dispatch_denied(&b->roster, dispatch_model(l, &b->roster), px, now_ms)) {
        if (t->lot->width_px && t->lot->height_px)
            snprintf(text, cap, "every worker ran out of memory for %dx%d lately", t->lot->width_px, t->lot->height_px);
        else snprintf(text, cap, "every worker ran out of memory for pictures of the model's own size lately");
    } else if (t->avoid && (w = roster_by_id(&b->roster, t->avoid)) && worker_free(w, now_ms)) {
        snprintf(text, cap, "its next attempt waits for another worker than %s, where it failed", w->name);
    }
}

static struct str why(struct broker *b, const struct job *j, int64_t now_ms)
{
    const char *no = held_up(b, j);
    char       *text;

    if (b->disk_low && j->n[TASK_QUEUED] + j->n[TASK_RUNNING]) return str_of("the broker's disk is full: finished images wait at their workers");
    if (!j->n[TASK_QUEUED] || j->n[TASK_RUNNING]) return (struct str){0};
    if (no) return str_of(no);
    text = arena_take(&b->out, ERROR_MAX_BYTES);
    if (!text) return (struct str){0};
    for (const struct lane *l = j->lane; l && !text[0]; l = l->sister)
        if (l->fresh || l->retry) roster_why(&b->roster, dispatch_model(l, &b->roster), now_ms, text, ERROR_MAX_BYTES);
    for (const struct lane *l = j->lane; l && !text[0]; l = l->sister) misfits(b, l, now_ms, text, ERROR_MAX_BYTES);
    for (const struct task *t = b->queue.delayed; t && !text[0]; t = t->next)
        if (task_job(t) == j)
            snprintf(text, ERROR_MAX_BYTES, "waiting before the next attempt%s%.800s", t->out && t->out->error ? ": " : "",
                     t->out && t->out->error ? t->out->error : "");
    if (!text[0]) snprintf(text, ERROR_MAX_BYTES, "%s", turn(b, j));
    return str_of(text);
}

struct str info_worker(struct broker *b, const struct worker *w, int64_t now_ms)
{
    char *text = arena_take(&b->out, ERROR_MAX_BYTES);

    if (!text) return (struct str){0};
    if (standing_barred(w->standing, now_ms))
        snprintf(text, ERROR_MAX_BYTES, "%s: gets nothing for %lld s, or until zfarm drain --undo", w->standing->why,
                 (long long)(w->standing->barred_until_ms - now_ms + 999) / 1000);
    else if (w->standing->drained)
        snprintf(text, ERROR_MAX_BYTES, "somebody drained it: zfarm drain --undo");
    else if (worker_denies(w, INT64_MAX, now_ms))
        snprintf(text, ERROR_MAX_BYTES, "ran out of memory lately: gets no such pictures for a while");
    return str_of(text);
}

void info_job(struct broker *b, struct job *j, int64_t now_ms, struct job_info *out)
{
    uint32_t not_shown;

    *out = (struct job_info){.job = j->id, .name = str_of(j->name), .created_wall_ms = j->created_wall_ms, .n_tasks = j->n_tasks,
                             .n_queued = j->n[TASK_QUEUED], .n_done = j->n_shown[TASK_DONE], .n_failed = j->n_shown[TASK_FAILED],
                             .n_canceled = j->n_shown[TASK_CANCELED], .n_collected = j->n_collected,
                             .n_expired = j->n_shown[TASK_EXPIRED], .n_canceling = j->n_canceling, .deadline_ms = j->deadline_ms,
                             .job_class = (enum job_class)j->share->key.job_class, .client = str_of(j->share->key.client)};
    *(j->canceled ? &out->n_canceled : &out->n_queued) += j->n_tasks - j->n_known; /* not told yet; after a cancel never */
    memcpy(out->key, j->key, KEY_BYTES);
    not_shown = j->n_tasks - out->n_queued - out->n_done - out->n_failed - out->n_canceled - out->n_expired;
    out->n_running = not_shown; /* running, or ended but not yet on disk */
    eta(b, j, now_ms, out);
    out->why = why(b, j, now_ms);
}

size_t info_progress(struct broker *b, const struct job *j, const struct worker *only, const struct session *whose, int64_t now_ms, struct progress *out,
                     size_t cap)
{
    struct worker *w;
    struct grant  *g;
    size_t         n = 0;

    if (j && !j->n[TASK_RUNNING]) return 0;
    DL_FOREACH(b->roster.worker, w)
    {
        if (only && w != only) continue;
        DL_FOREACH(w->grant, g)
        {
            if (n == cap) return n;
            if (!g->task || (j && task_job(g->task) != j) || !session_sees(whose, task_job(g->task))) continue;
            out[n++] = (struct progress){.job = task_job(g->task)->id, .task = g->task_id, .epoch = g->epoch, .index = g->task->index,
                                         .stage = g->stage, .step = g->step, .steps = g->steps,
                                         .age_ms = (uint32_t)(now_ms > g->moved_ms ? now_ms - g->moved_ms : 0), .worker = str_of(w->name)};
        }
    }
    return n;
}
