/* restore.c - the journal's rows become the book; later the book's oldest leave.
 * Believes: rows passed their crc32c, but may still contradict each other: that stops the start with a sentence, never an assert.
 * A task RUNNING in the journal becomes an orphan: it waits RESTART_GRACE_MS for its worker's HELLO. */
#include "broker/restore.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "proto/wire.h"

#define PURGE_JOBS 500 /* at once: one commit, which others wait for */

struct reading {
    struct broker *b;
    struct batch  *batch; /* where items go now */
    uint32_t       next_task;
};

static int odd(struct err *e, const char *what, uint64_t id)
{
    return err_set(e, ERR_FORMAT, "the journal's rows contradict each other at %s %" PRIu64 ": restore a copy of the data folder", what, id);
}

static int read_job(void *ctx, const struct job_row *r, struct err *e)
{
    struct book *k = &((struct reading *)ctx)->b->book;
    uint64_t     next = k->next_job;
    struct job  *j;

    if (r->job == 0 || r->job >= next || book_find(k, r->job) || book_find_key(k, r->key)) return odd(e, "job", r->job);
    k->next_job = r->job;
    j = book_job(k, r->key, r->name, r->n_tasks, r->created_wall_ms);
    k->next_job = next;
    book_share(k, j, r->client, (enum job_class)r->job_class);
    memcpy(j->model, r->model.at, r->model.len);
    j->changed_wall_ms = r->changed_wall_ms;
    j->canceled = r->canceled;
    j->deadline_ms = r->deadline_ms;
    if (r->deadline_ms) { /* what is left of it by the wall clock, which alone knows how long we were away; at least to the next tick */
        int64_t left_ms = r->created_wall_ms + (int64_t)r->deadline_ms - wall_ms();

        if (left_ms < 1) left_ms = 1;
        if (left_ms > (int64_t)r->deadline_ms) left_ms = (int64_t)r->deadline_ms; /* the clock was set back */
        book_due(k, j, now_ms() + left_ms);
    }
    return 0;
}

static int read_setting(void *ctx, enum setting_kind kind, struct str name, struct err *e)
{
    struct broker *b = ((struct reading *)ctx)->b;

    (void)e;
    if (kind == SETTING_FARM_PAUSED)
        b->paused = true;
    else if (kind == SETTING_CLIENT_PAUSED)
        tenants_get(&b->book.tenant, name, &b->book.quota)->paused = true;
    else
        standing_get(&b->roster.standing, name)->drained = true;
    return 0;
}

static int read_batch(void *ctx, const struct batch_row *r, struct err *e)
{
    struct job   *j = book_find(&((struct reading *)ctx)->b->book, r->job);
    struct batch *c, *same;

    if (!j || r->n_tasks < 1 || r->first_task >= j->n_tasks || r->n_tasks > j->n_tasks - r->first_task) return odd(e, "batch of job", r->job);
    c = job_batch(j, r->first_task, r->n_tasks, r->sha256, &same);
    if (!c) return odd(e, "batch of job", r->job);
    c->durable = true;
    return 0;
}

static int read_item(void *ctx, const struct item_row *r, struct err *e)
{
    struct reading *g = ctx;
    struct book    *k = &g->b->book;
    struct job     *j = book_find(k, r->job);
    struct batch   *c = j ? j->batch : NULL;
    struct item     it;
    struct err      why = {0};
    int             rc;

    if (g->batch && g->batch->job == j && g->batch->first_task <= r->first_task) c = g->batch;
    while (c && r->first_task - c->first_task >= c->n_tasks) c = c->next;
    if (!c || c->task) return odd(e, "item of job", r->job);
    if (c != g->batch) {
        g->batch = c;
        g->next_task = c->first_task;
    }
    arena_reset(&g->b->in, 0);
    rc = wire_item_unpack(r->bytes, &g->b->in, &it, &why);
    if (rc) return err_set(e, ERR_FORMAT, "the journal's item of job %" PRIu64 ": %.300s", r->job, why.text);
    if (it.n_images != r->n_images || r->first_task != g->next_task || r->n_images > c->first_task + c->n_tasks - g->next_task)
        return odd(e, "item of job", r->job);
    batch_lot(c, &it, r->bytes);
    g->next_task += r->n_images;
    if (g->next_task == c->first_task + c->n_tasks) batch_seal(k, c);
    return 0;
}

static int read_task(void *ctx, const struct task_row *r, struct err *e)
{
    struct broker  *b = ((struct reading *)ctx)->b;
    struct task    *t = book_task(&b->book, r->task);
    struct outcome *o = NULL;

    if (!t || t->seq || t->state != TASK_QUEUED || r->state < TASK_QUEUED || r->state > TASK_EXPIRED || r->seq > b->book.seq ||
        r->leases > LEASES_PER_TASK_MAX || r->crashes > CRASHES_MAX || r->transients > TRANSIENTS_MAX || r->nans > NANS_MAX)
        return odd(e, "task", r->task);
    t->leases = (uint8_t)r->leases;
    t->crashes = (uint8_t)r->crashes;
    t->transients = (uint8_t)r->transients;
    t->nans = (uint8_t)r->nans;
    if (r->worker.len || r->error.len || r->n_parts || r->state == TASK_DONE) {
        o = task_outcome(t);
        memcpy(o->worker, r->worker.len ? r->worker.at : "", r->worker.len);
        if (r->error.len) task_error(t, r->error);
        o->took_ms = r->took_ms;
        o->collected_wall_ms = r->collected_wall_ms;
        o->n_parts = r->n_parts;
        memcpy(o->part, r->part, sizeof o->part);
        memcpy(o->home, r->home, sizeof o->home);
        for (size_t i = 0; i < o->n_parts; i++)
            if (!store_known(&b->store, &o->part[i], o->home[i])) return odd(e, "the result of task", r->task);
    }
    task_restore(&b->book, t, (enum task_state)r->state, r->seq);
    if (r->state == TASK_RUNNING) roster_orphan(&b->roster, t, r->epoch);
    if (r->state == TASK_DONE && !r->collected_wall_ms) task_job(t)->share->tenant->kept_bytes += outcome_bytes(o);
    if (r->state == TASK_DONE && r->collected_wall_ms) {
        task_job(t)->n_collected++;
        restore_keep(b, t);
    }
    return 0;
}

static int older(const void *a, const void *b)
{
    const struct keep *x = a, *y = b;

    return x->until_wall_ms < y->until_wall_ms ? -1 : x->until_wall_ms > y->until_wall_ms;
}

/* Every batch whole; every task that waits into the queue. */
static int queue_all(struct broker *b, struct err *e)
{
    struct job *j, *next;

    HASH_ITER(by_id, b->book.by_id, j, next)
    for (struct batch *c = j->batch; c; c = c->next) {
        if (!c->task) return odd(e, "a batch of job", j->id);
        for (uint32_t i = 0; i < c->n_tasks; i++)
            if (c->task[i].state == TASK_QUEUED) {
                if (c->task[i].leases)
                    queue_push_front(&b->queue, &c->task[i]);
                else
                    queue_push(&b->queue, &c->task[i]);
            }
    }
    return 0;
}

int restore_all(struct broker *b, struct err *e)
{
    struct reading              g = {.b = b};
    const struct journal_reader reader = {&g, read_job, read_batch, read_item, read_task, read_setting};
    int64_t                     began = now_ms();
    int                         rc;

    book_init(&b->book, journal_next_job(b->journal), journal_seq(b->journal));
    b->book.quota = b->conf.quota;
    if ((rc = journal_load(b->journal, &reader, e)) || (rc = queue_all(b, e))) return rc;
    if (b->n_keep) qsort(b->keep, b->n_keep, sizeof *b->keep, older);
    b->stats.blobs_swept = store_sweep(&b->store);
    log_info("restored", "boot=%" PRIu64 " jobs=%u open_tasks=%" PRIu64 " ready=%zu seq=%" PRIu64 " orphan_files=%" PRIu64 " took_ms=%" PRId64,
             journal_boot_id(b->journal), HASH_CNT(by_id, b->book.by_id), b->book.n_open, b->queue.n_ready, b->book.seq,
             b->stats.blobs_swept, now_ms() - began);
    return 0;
}

/* ---- leaving ---- */
void restore_keep(struct broker *b, const struct task *t)
{
    if (!t->out->n_parts) return;
    if (b->keep_at == b->n_keep) b->keep_at = b->n_keep = 0;
    if (b->n_keep == b->keep_cap) {
        b->keep_cap = b->keep_cap ? 2 * b->keep_cap : 256;
        b->keep = realloc(b->keep, b->keep_cap * sizeof *b->keep);
        if (!b->keep) abort();
    }
    b->keep[b->n_keep++] = (struct keep){task_id(t), t->out->collected_wall_ms - b->stepped_ms + b->conf.retention_ms};
}

struct expiry { /* the row is being written, and rows of bytes go with it; then the files */
    struct broker *b;
    size_t         n_parts;
    struct part    part[PARTS_MAX];
};

static void on_expired(void *ctx, int rc, const struct err *e)
{
    struct expiry *x = ctx;

    if (rc) broker_fail(x->b, e);
    for (size_t i = 0; rc == 0 && i < x->n_parts; i++) store_drop_file(&x->b->store, &x->part[i]);
    free(x);
}

void restore_expire(struct broker *b, int64_t wall)
{
    while (b->keep_at < b->n_keep && b->keep[b->keep_at].until_wall_ms <= wall) {
        struct task        *t = book_task(&b->book, b->keep[b->keep_at++].task);
        struct expiry      *x;
        struct journal_req *r;

        if (!t || t->state != TASK_DONE || !t->out->collected_wall_ms || !t->out->n_parts) continue;
        x = calloc(1, sizeof *x);
        if (!x) abort();
        *x = (struct expiry){.b = b};
        r = journal_req(JOURNAL_SYNC, on_expired, x);
        for (size_t i = 0; i < t->out->n_parts; i++)
            if (!store_drop_row(&b->store, r, &t->out->part[i], t->out->home[i])) x->part[x->n_parts++] = t->out->part[i];
        t->out->n_parts = 0;
        memset(t->out->home, 0, sizeof t->out->home);
        broker_put_task(r, t);
        journal_send(b->journal, r);
    }
}

/* Over, collected as far as there was something, with nobody waiting for its news and everything of it on disk. */
static bool may_go(const struct broker *b, const struct job *j, int64_t wall)
{
    if (j->n_canceling || j->waiter || (j->n_known != j->n_tasks && !j->canceled)) return false;
    if (j->n[TASK_QUEUED] + j->n[TASK_RUNNING] || j->n[TASK_DONE] != j->n_collected || wall - j->changed_wall_ms < b->conf.remember_ms) return false;
    for (const struct batch *c = j->batch; c; c = c->next) {
        if (!c->durable) return false;
        for (uint32_t i = 0; i < c->n_tasks; i++)
            if ((c->task[i].out && c->task[i].out->n_parts) || c->task[i].seq > b->book.durable_seq) return false;
    }
    return true;
}

bool restore_purge(struct broker *b, int64_t wall)
{
    struct job         *j, *next, *gone[PURGE_JOBS];
    size_t              n = 0;
    struct journal_req *r;

    HASH_ITER(by_id, b->book.by_id, j, next)
    {
        if (n == PURGE_JOBS) break;
        if (may_go(b, j, wall)) gone[n++] = j;
    }
    if (n == 0) return false;
    log_info("jobs_forgotten", "n=%zu first=%" PRIu64 " last=%" PRIu64, n, gone[0]->id, gone[n - 1]->id);
    r = broker_begin(b, JOURNAL_SYNC, NULL, NULL);
    for (size_t i = 0; i < n; i++) journal_forget_job(r, gone[i]->id, b->book.seq);
    broker_commit(b, r);
    book_drop(&b->book, gone, n);
    return n == PURGE_JOBS;
}
