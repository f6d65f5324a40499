/* broker_control.c - what people decide: failed images once more, a worker drained.
 * Believes: gate.c let by who may decide; a client's key only over its own jobs. Requeueing is durable before its answer; draining is
 * not durable: it lasts as long as the worker's process and this one. Not here: CANCEL (broker_client.c). */
#include "broker/broker.h"

#include <inttypes.h>
#include <utlist.h>

static uint32_t requeue(struct broker *b, struct journal_req *r, struct job *j, const struct control_ask *q)
{
    uint32_t n = 0;

    for (struct batch *c = j->batch; c; c = c->next)
        for (uint32_t i = 0; i < c->n_tasks; i++) {
            struct task *t = &c->task[i];

            if (t->state != TASK_FAILED || (q->one && t->index != q->index)) continue;
            t->leases = t->crashes = t->transients = t->nans = 0;
            t->avoid = 0;
            task_move(&b->book, t, TASK_QUEUED);
            queue_push(&b->queue, t);
            broker_put_task(r, t);
            n++;
        }
    return n;
}

static void on_requeue(struct broker *b, const struct ask *a)
{
    const struct control_ask *q = &a->m->control;
    struct job           *j = broker_job(b, a, q->job);
    struct msg            ok = {.kind = MSG_CONTROL_OK};
    struct journal_req   *r;

    if (!j) {
        broker_error(b, a, WIRE_NOT_FOUND, 0, "there is no job %" PRIu64, q->job);
        return;
    }
    if (q->one && q->index >= j->n_tasks) {
        broker_error(b, a, WIRE_NOT_FOUND, 0, "job %" PRIu64 " has images 0 to %u, not %u", j->id, j->n_tasks - 1, q->index);
        return;
    }
    if (j->canceled) {
        broker_error(b, a, WIRE_CONFLICT, 0, "job %" PRIu64 " was canceled: submit its images again", j->id);
        return;
    }
    r = broker_begin(b, JOURNAL_SYNC, NULL, NULL);
    ok.control_ok.n = requeue(b, r, j, q);
    broker_put_job(r, j, false);
    log_info("requeued", "job=%" PRIu64 " n=%u client=\"%s\"", j->id, ok.control_ok.n, a->session->name);
    broker_promise(r, a, &ok);
    broker_commit(b, r);
}

static void on_drain(struct broker *b, const struct ask *a)
{
    const struct control_ask *q = &a->m->control;
    struct msg            ok = {.kind = MSG_CONTROL_OK};
    struct worker        *w;
    bool                  known = false;

    DL_FOREACH(b->roster.worker, w)
    {
        if (!str_eq(str_of(w->name), q->worker)) continue;
        known = true;
        ok.control_ok.n += w->drained != (q->verb == CONTROL_DRAIN);
        w->drained = q->verb == CONTROL_DRAIN;
        log_info("drain", "worker=\"%s\" drained=%d held=%u client=\"%s\"", w->name, w->drained, w->n_held, a->session->name);
    }
    if (!known) {
        broker_error(b, a, WIRE_NOT_FOUND, 0, "there is no worker \"%.*s\": zfarm workers lists them", (int)q->worker.len, q->worker.at);
        return;
    }
    b->book.tick++;
    broker_reply(b, a, &ok);
}

void on_control(struct broker *b, const struct ask *a)
{
    if (a->m->control.verb == CONTROL_REQUEUE)
        on_requeue(b, a);
    else
        on_drain(b, a);
}
