/* broker_control.c - what people decide: failed images once more, a worker drained or well again, a client or the farm paused.
 * Believes: gate.c let by who may decide; a client's key only over its own jobs. All of it is durable before its answer, and holds by
 * name until somebody decides otherwise: through restarts of the broker and of the worker. Not here: CANCEL (broker_client.c). */
#include "broker/broker.h"

#include <inttypes.h>
#include <string.h>

static uint32_t requeue(struct broker *b, struct journal_req *r, struct job *j, const struct control_ask *q)
{
    uint32_t n = 0;

    for (struct batch *c = j->batch; c; c = c->next)
        for (uint32_t i = 0; i < c->n_tasks; i++) {
            struct task *t = &c->task[i];

            if (t->state != TASK_FAILED || (q->one && t->index != q->index)) continue;
            t->leases = t->crashes = t->transients = t->nans = 0;
            t->avoid = 0;
            t->solo = t->recalled = false;
            memset(t->out->crashed, 0, sizeof t->out->crashed);
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
    if (j->overdue) {
        broker_error(b, a, WIRE_CONFLICT, 0, "the deadline of job %" PRIu64 " has passed: submit its images again", j->id);
        return;
    }
    r = broker_begin(b, JOURNAL_SYNC, NULL, NULL);
    ok.control_ok.n = requeue(b, r, j, q);
    broker_put_job(r, j, false);
    log_info("requeued", "job=%" PRIu64 " n=%u client=\"%s\"", j->id, ok.control_ok.n, a->session->name);
    broker_promise(r, a, &ok);
    broker_commit(b, r);
}

/* No more work for a worker; or again, also for one that its own deeds have barred: only who looked at it can say that it is well. */
static void on_drain(struct broker *b, const struct ask *a)
{
    const struct control_ask *q = &a->m->control;
    bool                      on = q->verb == CONTROL_DRAIN;
    struct standing          *s = standing_find(b->roster.standing, q->worker);
    struct msg                ok = {.kind = MSG_CONTROL_OK};
    struct journal_req       *r;

    if (!s) {
        broker_error(b, a, WIRE_NOT_FOUND, 0, "there is no worker \"%.*s\": zfarm workers lists them", (int)q->worker.len, q->worker.at);
        return;
    }
    r = broker_begin(b, JOURNAL_SYNC, NULL, NULL);
    ok.control_ok.quarantine_over = !on && standing_well(s, a->now_ms);
    ok.control_ok.n = s->drained == on && !ok.control_ok.quarantine_over ? 0 : s->n_workers ? (uint32_t)s->n_workers : 1;
    s->drained = on;
    journal_put_setting(r, SETTING_WORKER_DRAINED, q->worker, on);
    log_info("drain", "worker=\"%s\" drained=%d quarantine_over=%d client=\"%s\"", s->name, on, ok.control_ok.quarantine_over, a->session->name);
    standing_drop(&b->roster.standing, s, a->now_ms);
    b->book.tick++;
    broker_promise(r, a, &ok);
    broker_commit(b, r);
}

/* All work of one client, or of all, waits; what runs is finished. */
static void on_pause(struct broker *b, const struct ask *a)
{
    const struct control_ask *q = &a->m->control;
    bool                      on = q->verb == CONTROL_PAUSE;
    struct tenant            *t = q->client.len ? tenants_find(b->book.tenant, q->client) : NULL;
    struct msg                ok = {.kind = MSG_CONTROL_OK};
    struct journal_req       *r;
    struct share             *s, *next;

    if (a->session->rank != KEY_ADMIN && !str_eq(q->client, str_of(a->session->account))) {
        b->stats.denied++;
        broker_error(b, a, WIRE_DENIED, 0, "%s may pause its own work only: others are for admins", a->session->account);
        return;
    }
    if (q->client.len && !t) {
        broker_error(b, a, WIRE_NOT_FOUND, 0, "client \"%.*s\" has nothing here: zfarm jobs --json names the clients", (int)q->client.len, q->client.at);
        return;
    }
    r = broker_begin(b, JOURNAL_SYNC, NULL, NULL);
    ok.control_ok.n = (t ? t->paused : b->paused) != on;
    *(t ? &t->paused : &b->paused) = on;
    if (!t) b->crash_loop = false; /* somebody looked at it */
    journal_put_setting(r, t ? SETTING_CLIENT_PAUSED : SETTING_FARM_PAUSED, q->client, on);
    HASH_ITER(hh, b->book.share, s, next)
        if (s->tenant == t) queue_park(&b->queue, s, on);
    log_info("pause", "paused=%d client=\"%s\" by=\"%s\"", on, t ? t->name : "", a->session->name);
    b->book.tick++;
    broker_promise(r, a, &ok);
    broker_commit(b, r);
}

void on_control(struct broker *b, const struct ask *a)
{
    switch (a->m->control.verb) {
    case CONTROL_REQUEUE: on_requeue(b, a); return;
    case CONTROL_DRAIN:
    case CONTROL_UNDRAIN: on_drain(b, a); return;
    case CONTROL_PAUSE:
    case CONTROL_RESUME: on_pause(b, a); return;
    }
}
