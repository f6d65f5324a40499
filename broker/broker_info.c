/* broker_info.c - what people want to know of a job: counts, how fast, how long still, why nothing runs.
 * Believes: final counts are of what is durable (job.n_shown), so that a client who counts to the end has had, or will get, every event. */
#include "broker/broker.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <utlist.h>

/* Milliseconds per image of the workers that have the job's models: their mean, and how many there are. */
static uint32_t measured(const struct broker *b, const struct job *j, uint32_t *n_workers)
{
    struct worker *w;
    uint64_t       sum = 0, n_known = 0;

    *n_workers = 0;
    DL_FOREACH(b->roster.worker, w)
    {
        bool serves = false;

        for (const struct lane *l = j->lane; l && !serves; l = l->sister) serves = worker_has(w, dispatch_model(l, &b->roster));
        if (!serves || !w->capacity) continue;
        ++*n_workers;
        sum += w->ms_per_image;
        n_known += w->ms_per_image != 0;
    }
    return n_known ? (uint32_t)(sum / n_known) : 0;
}

static void eta(const struct broker *b, const struct job *j, int64_t now_ms, struct job_info *out)
{
    uint32_t left = j->n[TASK_QUEUED] + j->n[TASK_RUNNING], n_workers, ms = measured(b, j, &n_workers);

    out->eta_ms = -1;
    out->images_per_s = j->n[TASK_RUNNING] || !left ? job_rate(j, now_ms) : 0;
    if (left == 0)
        out->eta_ms = 0;
    else if (out->images_per_s > 0)
        out->eta_ms = (int64_t)((float)left * 1000.0f / out->images_per_s);
    else if (ms && n_workers)
        out->eta_ms = (int64_t)left * ms / n_workers;
}

/* Nothing is wrong, others are served: why just now not this one? NULL: it is next. */
static const char *turn(const struct broker *b, const struct job *j)
{
    const struct share *s = j->share, *at;

    if (!s->lane) return NULL;
    DL_FOREACH(b->queue.of[s->key.job_class].share, at)
        if (at != s) return "the workers are busy; this client shares them with others of its class";
    for (int c = CLASS_INTERACTIVE; c <= CLASS_BULK; c++)
        if (c != s->key.job_class && b->queue.of[c].share)
            return c < s->key.job_class ? "the workers are busy; more urgent jobs get more of them" : "the workers are busy; less urgent jobs get a small part of them";
    return s->lane->next || s->lane != j->lane ? "the workers are busy; this client's jobs take turns" : "the workers are busy; it is next";
}

static struct str why(struct broker *b, const struct job *j, int64_t now_ms)
{
    char *text;

    if (!j->n[TASK_QUEUED] || j->n[TASK_RUNNING]) return (struct str){0};
    text = arena_take(&b->out, ERROR_MAX_BYTES);
    if (!text) return (struct str){0};
    for (const struct lane *l = j->lane; l && !text[0]; l = l->sister)
        if (l->fresh || l->retry) roster_why(&b->roster, dispatch_model(l, &b->roster), now_ms, text, ERROR_MAX_BYTES);
    for (const struct task *t = b->queue.delayed; t && !text[0]; t = t->next)
        if (task_job(t) == j)
            snprintf(text, ERROR_MAX_BYTES, "waiting before the next attempt%s%.800s", t->out && t->out->error ? ": " : "",
                     t->out && t->out->error ? t->out->error : "");
    if (!text[0] && !b->disk_low && !b->stopping) snprintf(text, ERROR_MAX_BYTES, "%s", turn(b, j) ? turn(b, j) : "");
    if (!text[0] && b->disk_low) snprintf(text, ERROR_MAX_BYTES, "the broker's disk is full");
    if (!text[0] && b->stopping) snprintf(text, ERROR_MAX_BYTES, "the broker is shutting down");
    return str_of(text);
}

void info_job(struct broker *b, struct job *j, int64_t now_ms, struct job_info *out)
{
    uint32_t not_shown;

    *out = (struct job_info){.job = j->id, .name = str_of(j->name), .created_wall_ms = j->created_wall_ms, .n_tasks = j->n_tasks,
                             .n_queued = j->n[TASK_QUEUED], .n_done = j->n_shown[TASK_DONE], .n_failed = j->n_shown[TASK_FAILED],
                             .n_canceled = j->n_shown[TASK_CANCELED], .n_collected = j->n_collected, .why = why(b, j, now_ms),
                             .job_class = (enum job_class)j->share->key.job_class, .client = str_of(j->share->key.client)};
    *(j->canceled ? &out->n_canceled : &out->n_queued) += j->n_tasks - j->n_known; /* not told yet; after a cancel never */
    memcpy(out->key, j->key, KEY_BYTES);
    not_shown = j->n_tasks - out->n_queued - out->n_done - out->n_failed - out->n_canceled;
    out->n_running = not_shown; /* running, or ended but not yet on disk */
    eta(b, j, now_ms, out);
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
