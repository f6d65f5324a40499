/* broker_lease.c - pairs of dispatch.c become leases: rows in the journal's WAL first, then LEASE to the workers.
 * Believes: between the row and the message anything may happen - canceled, worker gone - so every lease is looked up again.
 * Not here: who runs what (dispatch.c), how a lease ends (broker_worker.c). */
#include "broker/broker.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "proto/wire.h"

#define UNSENT_RETRY_MS 1000 /* a worker's queue was full: it goes on after this */
#define PAIRS_A_TURN    256

struct leasing { /* rows are being written; then they are sent */
    struct broker *b;
    size_t         n;
    struct held    held[PAIRS_A_TURN];
};

/* 0, or ERR_*: the worker did not get it. */
static int send_lease(struct broker *b, struct task *t)
{
    struct grant *g = t->grant;
    struct item   it;
    struct err    e = {0};
    struct msg    m = {.kind = MSG_LEASE};

    arena_reset(&b->out, 0);
    if (wire_item_unpack(t->lot->bytes, &b->out, &it, &e)) {
        log_error("item_unreadable", "task=%" PRIu64 " error=\"%s\"", g->task_id, e.text);
        return ERR_FORMAT;
    }
    m.lease = (struct lease){.task = g->task_id, .epoch = g->epoch, .job = task_job(t)->id, .index = t->index, .budget_ms = LEASE_BUDGET_MS,
                             .spec = it.spec};
    m.lease.spec.seed = task_seed(t);
    if (!it.spec.model.len) m.lease.spec.model = str_of(task_job(t)->model);
    return broker_send(b, g->worker->peer, &g->worker->route, &m);
}

static void on_leases(void *ctx, int rc, const struct err *e)
{
    struct leasing *l = ctx;
    struct broker *b = l->b;
    int64_t        now = now_ms();

    if (rc) broker_fail(b, e);
    for (size_t i = 0; !rc && i < l->n; i++) {
        struct task   *t = book_task(&b->book, l->held[i].task);
        struct worker *w;
        int            sent;

        if (!t || !t->grant || t->grant->epoch != l->held[i].epoch || !t->grant->worker) continue; /* canceled, lost, ... meanwhile */
        w = t->grant->worker;
        sent = send_lease(b, t);
        if (sent == 0) {
            t->grant->sent = true;
            b->stats.tasks_leased++;
        } else if (sent == ERR_NOTFOUND) {
            broker_worker_gone(b, w, "its connection is gone", now);
        } else {
            struct journal_req *r = broker_begin(b, JOURNAL_SYNC, NULL, NULL);

            broker_unlease(b, t, false);
            broker_requeue(b, r, t, UNSENT_RETRY_MS, now);
            broker_commit(b, r);
        }
    }
    free(l);
}

void broker_settle(struct broker *b, int64_t now)
{
    struct pair         pair;
    struct leasing      *l = NULL;
    struct journal_req *r = NULL;

    if (b->stopping || b->disk_low) return;
    queue_ripen(&b->queue, now);
    while ((!l || l->n < PAIRS_A_TURN) && dispatch_next(&b->queue, &b->roster, now, &pair)) {
        struct task *t = pair.task;
        struct job  *j = task_job(t);

        if (!l) {
            l = calloc(1, sizeof *l);
            if (!l) abort();
            l->b = b;
            r = journal_req(JOURNAL_WAL, on_leases, l);
        }
        if (!t->lot->lane->model.len && !j->model[0]) { /* the farm's default, pinned for the job */
            snprintf(j->model, sizeof j->model, "%.*s", (int)pair.model.len, pair.model.at);
            broker_put_job(r, j, false);
        }
        t->leases++;
        snprintf(task_outcome(t)->worker, sizeof t->out->worker, "%s", pair.worker->name);
        roster_grant(pair.worker, t, journal_boot_id(b->journal) << 32 | ++b->n_epochs, now);
        task_move(&b->book, t, TASK_RUNNING);
        broker_put_task(r, t);
        l->held[l->n++] = (struct held){t->grant->task_id, t->grant->epoch};
    }
    if (l) journal_send(b->journal, r);
}
