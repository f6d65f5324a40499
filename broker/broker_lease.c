/* broker_lease.c - deals of dispatch.c become leases: rows in the journal's WAL first, then LEASE (a batch: LEASES) to the workers.
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
#define HEDGE_EVERY_MS  100 /* looking at every lease has its price */
#define RECALL_EVERY_MS 10

struct leasing { /* rows are being written; then they are sent */
    struct broker *b;
    size_t         n;
    struct held    held[PAIRS_A_TURN];
    uint64_t       batch[PAIRS_A_TURN]; /* equal: given together */
};

/* The lease as its worker will read it; strs in b->out or the job. False: its item cannot be read. */
static bool describe(struct broker *b, const struct grant *g, struct lease *out)
{
    const struct task *t = g->task;
    struct item        it;
    struct err         e = {0};

    if (wire_item_unpack(t->lot->bytes, &b->out, &it, &e)) {
        log_error("item_unreadable", "task=%" PRIu64 " error=\"%s\"", g->task_id, e.text);
        return false;
    }
    *out = (struct lease){.task = g->task_id, .epoch = g->epoch, .job = task_job(t)->id, .index = t->index, .budget_ms = LEASE_BUDGET_MS,
                          .spec = it.spec};
    out->spec.seed = task_seed(t);
    if (!it.spec.model.len) out->spec.model = str_of(task_job(t)->model);
    return true;
}

/* The leases of one batch to their worker. 0, or ERR_*: it did not get them. */
static int send_batch(struct broker *b, struct grant *const *g, size_t n)
{
    struct lease lease[BATCH_MAX];
    struct msg   m = {.kind = n > 1 ? MSG_LEASES : MSG_LEASE};

    arena_reset(&b->out, 0);
    for (size_t i = 0; i < n; i++) {
        if (!describe(b, g[i], &lease[i])) return ERR_FORMAT;
        lease[i].batch = n > 1 ? g[0]->epoch : 0;
    }
    if (n > 1)
        m.leases = (struct leases){lease, n};
    else
        m.lease = lease[0];
    return broker_send(b, g[0]->worker->peer, &g[0]->worker->route, &m);
}

/* The grant of a lease whose row is written; NULL: canceled, lost, ... meanwhile. */
static struct grant *still(const struct broker *b, const struct held *h)
{
    struct task  *t = book_task(&b->book, h->task);
    struct grant *g = t ? t->grant : NULL;

    if (g && g->epoch != h->epoch) g = t->hedge;
    return g && g->epoch == h->epoch && g->worker && !g->sent ? g : NULL;
}

/* From held[at] on: those that are still to go to one worker as one batch. */
static size_t next_batch(const struct leasing *l, size_t *at, struct grant *g[BATCH_MAX])
{
    size_t   n = 0;
    uint64_t batch = l->batch[*at];

    while (*at < l->n && n < BATCH_MAX && l->batch[*at] == batch) {
        g[n] = still(l->b, &l->held[(*at)++]);
        n += g[n] != NULL;
    }
    return n;
}

static void unsent(struct broker *b, struct grant *const *g, size_t n, int64_t now)
{
    struct journal_req *r = broker_begin(b, JOURNAL_SYNC, NULL, NULL);

    for (size_t i = 0; i < n; i++) {
        struct task *t = g[i]->task;

        broker_ungrant(b, g[i], false);
        broker_requeue(b, r, t, UNSENT_RETRY_MS, now);
    }
    broker_commit(b, r);
}

static void on_leases(void *ctx, int rc, const struct err *e)
{
    struct leasing *l = ctx;
    struct broker  *b = l->b;
    struct grant   *g[BATCH_MAX];
    int64_t         now = now_ms();

    if (rc) broker_fail(b, e);
    for (size_t at = 0; !rc && at < l->n;) {
        size_t n = next_batch(l, &at, g);
        int    sent = n ? send_batch(b, g, n) : 0;

        if (sent) {
            if (sent == ERR_NOTFOUND) worker_cut_off(g[0]->worker, now);
            unsent(b, g, n, now);
        } else {
            for (size_t i = 0; i < n; i++) {
                g[i]->sent = true;
                g[i]->n_batch = (uint8_t)n; /* some of it may have been canceled */
            }
            b->stats.tasks_leased += n;
            b->stats.batches += n > 1;
        }
    }
    free(l);
}

/* Room for the rows of a turn. */
static struct journal_req *leasing_begin(struct broker *b, struct leasing **out)
{
    struct leasing *l = calloc(1, sizeof *l);

    if (!l) abort();
    l->b = b;
    *out = l;
    return journal_req(JOURNAL_WAL, on_leases, l);
}

/* The row of one lease; batch: of those given with it. */
static void lease(struct leasing *l, struct journal_req *r, struct task *t, const struct pair *p, uint64_t batch, int64_t now)
{
    struct broker *b = l->b;
    struct job    *j = task_job(t);
    struct grant  *g;
    bool           hedge = t->grant != NULL;

    if (!t->lot->lane->model.len && !j->model[0]) { /* the farm's default, pinned for the job */
        snprintf(j->model, sizeof j->model, "%.*s", (int)p->model.len, p->model.at);
        broker_put_job(r, j, false);
    }
    g = roster_grant(p->worker, t, journal_boot_id(b->journal) << 32 | ++b->n_epochs, now);
    g->usual_ms = p->usual_ms;
    g->turn = p->turn;
    worker_prompt(p->worker, t->lot->prompt);
    if (!hedge) {
        t->leases++;
        snprintf(task_outcome(t)->worker, sizeof t->out->worker, "%s", p->worker->name);
        task_move(&b->book, t, TASK_RUNNING);
    }
    broker_put_task(r, t);
    l->batch[l->n] = batch;
    l->held[l->n++] = (struct held){g->task_id, g->epoch};
}

/* When nothing waits: idle workers get what others are slow with. */
static struct journal_req *hedge(struct broker *b, struct journal_req *r, struct leasing **l, int64_t now)
{
    struct pair p;

    if (now < b->hedge_ms) return r;
    b->hedge_ms = now + HEDGE_EVERY_MS;
    while ((!r || (*l)->n < PAIRS_A_TURN) && dispatch_hedge(&b->roster, &b->rates, now, &p)) {
        if (!r) r = leasing_begin(b, l);
        lease(*l, r, p.task, &p, b->n_epochs, now);
        b->stats.tasks_hedged++;
        log_info("hedged", "task=%" PRIu64 " slow=\"%s\" idle=\"%s\"", task_id(p.task), p.task->grant->worker->name, p.worker->name);
    }
    return r;
}

/* When somebody waits who has a right to it: what has not begun is called back. */
static void recall(struct broker *b, int64_t now)
{
    struct grant *g;

    if (now < b->recall_ms) return;
    b->recall_ms = now + RECALL_EVERY_MS;
    while ((g = dispatch_recall(&b->queue, &b->roster, now))) {
        struct held call = {g->task_id, g->epoch};
        struct msg  m = {.kind = MSG_BEAT_OK, .beat_ok = {.recall = &call, .n_recall = 1}};

        b->stats.tasks_recalled++;
        broker_send(b, g->worker->peer, &g->worker->route, &m); /* unheard, it is made where it is */
    }
}

void broker_settle(struct broker *b, int64_t now)
{
    struct pair         pair;
    struct leasing     *l = NULL;
    struct journal_req *r = NULL;

    if (b->stopping || b->disk_low || b->paused) return;
    queue_ripen(&b->queue, now);
    while ((!l || l->n + BATCH_MAX <= PAIRS_A_TURN) && dispatch_next(&b->queue, &b->roster, &b->rates, now, &pair)) {
        uint64_t batch = b->n_epochs;

        if (!l) r = leasing_begin(b, &l);
        lease(l, r, pair.task, &pair, batch, now);
        for (size_t i = 0; i < pair.n_also; i++) lease(l, r, pair.also[i], &pair, batch, now);
    }
    r = hedge(b, r, &l, now);
    recall(b, now);
    if (r) journal_send(b->journal, r);
}
