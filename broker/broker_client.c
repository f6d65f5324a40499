/* broker_client.c - what clients ask: SUBMIT, CANCEL, JOBS, SHOW, COLLECTED, WORKERS.
 * Believes: wire.c checked every bound; what depends on what the broker knows is checked here, and every item once more.
 * Here quotas and admission by client will stand, in on_submit() before anything is made.
 * Not here: EVENTS (broker_events.c), FETCH and CREDIT (transfer.c). */
#include "broker/broker.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#include "base/clock.h"
#include "base/hash.h"
#include "broker/restore.h"
#include "proto/wire.h"

#define ANSWER_BYTES   (900 * 1024) /* a list is cut here, below BODY_BIG_MAX_BYTES */
#define ITEM_MAX_BYTES (2 * PROMPT_MAX_BYTES + 4096)
#define TASK_MAX_BYTES (LABEL_MAX_BYTES + NAME_MAX_BYTES + ERROR_MAX_BYTES + 300)

/* ---- SUBMIT ---- */
struct submission { /* a batch being written */
    struct broker *b;
    struct batch  *batch;
    struct peer   *peer;
    struct route   to;
    struct msg     ok;
    uint64_t       seq;
};

static void on_submitted(void *ctx, int rc, const struct err *e)
{
    struct submission *s = ctx;
    struct broker     *b = s->b;

    if (rc == 0) {
        s->batch->durable = true;
        book_durable(&b->book, s->seq);
        for (uint32_t i = 0; i < s->batch->n_tasks; i++) queue_push(&b->queue, &s->batch->task[i]);
        if (s->batch->job->overdue) {
            struct journal_req *r = broker_begin(b, JOURNAL_SYNC, NULL, NULL);

            broker_job_expire(b, r, s->batch->job);
            broker_commit(b, r);
        }
        broker_send(b, s->peer, &s->to, &s->ok);
    } else if (rc == ERR_LIMIT) {
        struct msg busy = {.kind = MSG_ERROR, .correlation = s->ok.correlation,
                           .error = {.code = WIRE_BUSY, .retry_after_ms = 5000, .text = str_of("the broker's disk is full: no new work is taken")}};

        b->stats.submits_refused++;
        batch_drop(&b->book, s->batch);
        broker_send(b, s->peer, &s->to, &busy);
    } else {
        broker_fail(b, e);
    }
    free(s);
}

/* Packs and counts the items; the hash names their content. False: answered. */
static bool pack_items(struct broker *b, const struct ask *a, struct buf *bytes, size_t *end, uint8_t sha256[32], uint32_t *n_tasks)
{
    const struct submit *s = &a->m->submit;
    uint64_t             n = 0;

    for (size_t i = 0; i < s->n_items; i++) {
        struct err e = {0};

        if (item_check(&s->item[i], &e) || wire_item_pack(&s->item[i], bytes, &e)) {
            broker_error(b, a, WIRE_INVALID, 0, "item %zu: %s", i, e.text);
            return false;
        }
        end[i] = bytes->len;
        n += s->item[i].n_images;
    }
    if (n == 0 || s->first_task >= s->n_tasks || n > s->n_tasks - s->first_task) {
        broker_error(b, a, WIRE_INVALID, 0, "tasks %u to %" PRIu64 " do not fit a job of %u", s->first_task, s->first_task + n, s->n_tasks);
        return false;
    }
    sha256_of(bytes->at, bytes->len, sha256);
    *n_tasks = (uint32_t)n;
    return true;
}

static void answer_known(struct broker *b, const struct ask *a, const struct batch *same, const uint8_t sha256[32])
{
    struct msg ok = {.kind = MSG_SUBMIT_OK, .submit_ok = {.job = same->job->id, .duplicate = true, .n_tasks_known = same->job->n_known}};

    if (memcmp(same->sha256, sha256, 32) != 0) {
        broker_error(b, a, WIRE_CONFLICT, 0, "tasks %u to %u of this job were submitted before with other content", same->first_task,
                     same->first_task + same->n_tasks);
    } else if (!same->durable) {
        broker_error(b, a, WIRE_BUSY, 100, "the same tasks are being written: ask again");
    } else {
        b->stats.submits_duplicate++;
        broker_commit(b, broker_begin(b, JOURNAL_SYNC, a, &ok));
    }
}

/* The batch's rows and its promise. */
static void write_batch(struct broker *b, const struct ask *a, struct batch *c, bool new_job)
{
    struct job         *j = c->job;
    struct submission  *s = calloc(1, sizeof *s);
    struct journal_req *r;
    struct batch_row    row = {.job = j->id, .first_task = c->first_task, .n_tasks = c->n_tasks};

    if (!s) abort();
    *s = (struct submission){.b = b, .batch = c, .peer = a->peer, .to = a->from, .seq = b->book.seq};
    s->ok = (struct msg){.kind = MSG_SUBMIT_OK, .correlation = a->m->correlation, .submit_ok = {.job = j->id, .n_tasks_known = j->n_known}};
    r = journal_req(JOURNAL_NEW, on_submitted, s);
    if (new_job) broker_put_job(r, j, false);
    memcpy(row.sha256, c->sha256, 32);
    journal_put_batch(r, &row);
    for (const struct lot *l = c->lot; l; l = l->next)
        journal_put_item(r, &(struct item_row){.job = j->id, .first_task = l->first_task, .n_images = l->n_images, .bytes = l->bytes});
    journal_send(b->journal, r);
}

/* May this client add so much, and has the farm room for it? False: answered, with when to ask again. */
static bool admitted(struct broker *b, const struct ask *a, uint32_t n_tasks)
{
    struct tenant *t = tenants_get(&b->book.tenant, str_of(a->session->account), &b->book.quota);
    struct err     e = {0};
    uint32_t       retry_ms;

    if (b->book.n_open + n_tasks > b->conf.farm_queued) {
        broker_error(b, a, WIRE_BUSY, 5000, "%" PRIu64 " images wait on this farm, and %" PRIu64 " may: it takes no more just now", b->book.n_open,
                     b->conf.farm_queued);
        return false;
    }
    if (tenant_admit(t, (uint32_t)a->m->submit.n_items, n_tasks, a->now_ms, &retry_ms, &e) == 0) return true;
    b->stats.quotas_hit++;
    broker_error(b, a, WIRE_QUOTA, retry_ms, "%s", e.text);
    return false;
}

void on_submit(struct broker *b, const struct ask *a)
{
    const struct submit *s = &a->m->submit;
    struct job          *j = book_find_key(&b->book, s->key);
    struct batch        *c, *same;
    struct buf           bytes;
    size_t               end[SUBMIT_ITEMS_MAX];
    uint8_t              sha256[32];
    uint32_t             n_tasks;
    bool                 new_job = !j;

    assert(s->n_items <= SUBMIT_ITEMS_MAX);
    buf_init(&bytes, SUBMIT_ITEMS_MAX * (size_t)ITEM_MAX_BYTES);
    if (!pack_items(b, a, &bytes, end, sha256, &n_tasks)) {
        b->stats.submits_refused++;
        goto done;
    }
    if (j && !session_sees(a->session, j)) { /* keys are 128 random bits: only who was told one can ask */
        broker_error(b, a, WIRE_CONFLICT, 0, "this job key is taken: draw another one");
        goto done;
    }
    if (j && j->n_tasks != s->n_tasks) {
        broker_error(b, a, WIRE_CONFLICT, 0, "a job of this key has %u tasks, not %u", j->n_tasks, s->n_tasks);
        goto done;
    }
    for (c = j ? j->batch : NULL; c; c = c->next) /* known: answered even when stopping, canceled or full */
        if (c->first_task == s->first_task && c->n_tasks == n_tasks) {
            answer_known(b, a, c, sha256);
            goto done;
        }
    if (b->stopping) {
        broker_error(b, a, WIRE_BUSY, 1000, "the broker is shutting down");
    } else if (j && j->canceled) {
        broker_error(b, a, WIRE_CONFLICT, 0, "job %" PRIu64 " was canceled: it takes no more tasks", j->id);
    } else if (broker_disk_low(b, bytes.len + b->reserve_bytes)) {
        b->stats.submits_refused++;
        broker_error(b, a, WIRE_BUSY, 5000, "the broker's disk is full: no new work is taken");
    } else if (admitted(b, a, n_tasks)) {
        if (!j) {
            j = book_job(&b->book, s->key, s->name, s->n_tasks, wall_ms());
            book_share(&b->book, j, str_of(a->session->account), s->job_class);
            j->deadline_ms = s->deadline_ms;
            if (j->deadline_ms) book_due(&b->book, j, a->now_ms + (int64_t)j->deadline_ms);
        }
        c = job_batch(j, s->first_task, n_tasks, sha256, &same);
        if (!c) {
            broker_error(b, a, WIRE_CONFLICT, 0, "tasks %u to %u overlap others of this job that were cut differently", s->first_task,
                         s->first_task + n_tasks);
            goto done;
        }
        for (size_t i = 0; i < s->n_items; i++)
            batch_lot(c, &s->item[i], str_sub(buf_str(&bytes), i ? end[i - 1] : 0, end[i] - (i ? end[i - 1] : 0)));
        batch_seal(&b->book, c);
        b->stats.jobs_accepted += new_job;
        log_debug("submit", "job=%" PRIu64 " first=%u n=%u client=\"%s\"", j->id, s->first_task, n_tasks, a->session->name);
        write_batch(b, a, c, new_job);
    }
done:
    buf_release(&bytes);
}

/* ---- CANCEL ---- */
static bool batches_durable(const struct job *j)
{
    for (const struct batch *c = j->batch; c; c = c->next)
        if (!c->durable) return false;
    return true;
}

/* Its workers stop at their next step; until they say so, the job counts them. */
static void cancel_leases(struct broker *b, struct task *t)
{
    struct grant *g[2] = {t->grant, t->hedge};
    struct job   *j = task_job(t);

    for (int i = 0; i < 2; i++) {
        if (!g[i]) continue;
        if (g[i]->worker && g[i]->sent) { /* else it is freed here: nobody has it */
            g[i]->canceling = j;
            j->n_canceling++;
        }
        broker_ungrant(b, g[i], true);
    }
}

void on_cancel(struct broker *b, const struct ask *a)
{
    struct job         *j = broker_job(b, a, a->m->cancel.job);
    struct msg          ok = {.kind = MSG_CANCEL_OK};
    struct journal_req *r;

    if (!j) {
        broker_error(b, a, WIRE_NOT_FOUND, 0, "there is no job %" PRIu64, a->m->cancel.job);
        return;
    }
    if (!batches_durable(j)) {
        broker_error(b, a, WIRE_BUSY, 100, "job %" PRIu64 " is being written: ask again", j->id);
        return;
    }
    r = broker_begin(b, JOURNAL_SYNC, NULL, NULL);
    for (struct batch *c = j->batch; c; c = c->next)
        for (uint32_t i = 0; i < c->n_tasks; i++) {
            struct task *t = &c->task[i];

            if (task_final(t)) {
                ok.cancel_ok.n_finished++;
                continue;
            }
            if (t->state == TASK_RUNNING) {
                ok.cancel_ok.n_canceling++;
                upload_forget(b, task_id(t), NULL);
                cancel_leases(b, t);
            } else {
                ok.cancel_ok.n_canceled++;
                queue_remove(&b->queue, t);
            }
            task_move(&b->book, t, TASK_CANCELED);
            broker_put_task(r, t);
            b->stats.tasks_canceled++;
        }
    j->canceled = true;
    broker_put_job(r, j, false);
    log_info("job_canceled", "job=%" PRIu64 " canceled=%u canceling=%u finished=%u", j->id, ok.cancel_ok.n_canceled, ok.cancel_ok.n_canceling,
             ok.cancel_ok.n_finished);
    broker_promise(r, a, &ok);
    broker_commit(b, r);
}

/* ---- reading ---- */
void on_jobs(struct broker *b, const struct ask *a)
{
    const struct jobs *q = &a->m->jobs;
    struct job        *j = q->job ? broker_job(b, a, q->job) : NULL;
    struct msg         m = {.kind = MSG_JOBS_OK};
    size_t             cap = q->job ? 1 : q->limit;

    if (q->job && !j) {
        broker_error(b, a, WIRE_NOT_FOUND, 0, "there is no job %" PRIu64, q->job);
        return;
    }
    if (cap > JOBS_MAX) cap = JOBS_MAX;
    arena_reset(&b->out, 0);
    m.jobs_ok.job = arena_array(&b->out, cap, sizeof *m.jobs_ok.job);
    if (!q->job && b->book.by_id) j = ELMT_FROM_HH(b->book.by_id->by_id.tbl, b->book.by_id->by_id.tbl->tail); /* the newest */
    for (; j && m.jobs_ok.n_jobs < cap; j = q->job ? NULL : j->by_id.prev)
        if (session_sees(a->session, j)) info_job(b, j, a->now_ms, &m.jobs_ok.job[m.jobs_ok.n_jobs++]);
    broker_reply(b, a, &m);
}

void on_show(struct broker *b, const struct ask *a)
{
    const struct show *q = &a->m->show;
    struct job        *j = broker_job(b, a, q->job);
    struct msg         m = {.kind = MSG_SHOW_OK};
    size_t             cap = q->limit < SHOW_TASKS_MAX ? q->limit : SHOW_TASKS_MAX, bytes = 0;

    if (!j) {
        broker_error(b, a, WIRE_NOT_FOUND, 0, "there is no job %" PRIu64, q->job);
        return;
    }
    arena_reset(&b->out, 0);
    m.show_ok.task = arena_array(&b->out, cap, sizeof *m.show_ok.task);
    for (struct batch *c = j->batch; c; c = c->next)
        for (uint32_t i = q->first_task > c->first_task ? q->first_task - c->first_task : 0; i < c->n_tasks && m.show_ok.n_tasks < cap; i++) {
            const struct task *t = &c->task[i];
            struct shown      *s = &m.show_ok.task[m.show_ok.n_tasks];
            struct item        it;

            bytes += t->lot->bytes.len + TASK_MAX_BYTES;
            if (m.show_ok.n_tasks && bytes > ANSWER_BYTES) goto full;
            if (wire_item_unpack(t->lot->bytes, &b->out, &it, NULL)) goto full;
            task_describe(t, &s->info);
            s->spec = it.spec;
            s->spec.seed = task_seed(t);
            m.show_ok.n_tasks++;
        }
full:
    info_job(b, j, a->now_ms, &m.show_ok.job);
    broker_reply(b, a, &m);
}

void on_workers(struct broker *b, const struct ask *a)
{
    struct msg     m = {.kind = MSG_WORKERS_OK};
    struct worker *w;
    size_t         bytes = 0;

    arena_reset(&b->out, 0);
    m.workers_ok.worker = arena_array(&b->out, b->roster.n_workers + 1, sizeof *m.workers_ok.worker);
    DL_FOREACH(b->roster.worker, w)
    {
        struct worker_info *i = &m.workers_ok.worker[m.workers_ok.n_workers];

        bytes += strlen(w->about) + 4 * NAME_MAX_BYTES + w->n_models * 200 + w->n_held * 300 + w->n_ranks * 50;
        if (bytes > ANSWER_BYTES) break;
        *i = (struct worker_info){.name = str_of(w->name), .device = str_of(w->device), .about = str_of(w->about), .version = str_of(w->version),
                                  .state = str_of(worker_state(w, a->now_ms)), .model = w->model, .n_models = w->n_models,
                                  .capacity = w->capacity, .n_held = w->n_held, .n_done = w->n_done, .n_failed = w->n_failed,
                                  .ms_per_image = w->ms_per_image, .silent_ms = a->now_ms - w->seen_ms,
                                  .max_batch = w->max_batch, .why = info_worker(b, w, a->now_ms)};
        if (a->session->minor >= 2) { /* an older client takes few fields that it does not know */
            i->rank = w->rank;
            i->n_ranks = w->n_ranks;
        }
        i->progress = arena_array(&b->out, LEASES_MAX, sizeof *i->progress);
        i->n_progress = i->progress ? info_progress(b, NULL, w, a->session, a->now_ms, i->progress, LEASES_MAX) : 0;
        m.workers_ok.n_workers++;
    }
    broker_reply(b, a, &m);
}

/* ---- COLLECTED ---- */
void on_collected(struct broker *b, const struct ask *a)
{
    const struct collected *q = &a->m->collected;
    struct msg              ok = {.kind = MSG_COLLECTED_OK};
    struct journal_req     *r = broker_begin(b, JOURNAL_SYNC, NULL, NULL);
    int64_t                 wall;

    broker_wall(b); /* a step of the clock is seen before, for restore_keep() */
    wall = wall_ms();
    for (size_t i = 0; i < q->n_tasks; i++) {
        struct task *t = broker_task(b, a, q->task[i]);

        if (!t || t->state != TASK_DONE) continue;
        ok.collected_ok.n_known++;
        if (t->out->collected_wall_ms) continue;
        t->out->collected_wall_ms = wall;
        task_job(t)->share->tenant->kept_bytes -= outcome_bytes(t->out);
        task_job(t)->n_collected++;
        broker_put_task(r, t);
        if (task_job(t)->n_collected == task_job(t)->n_tasks) broker_put_job(r, task_job(t), true);
        restore_keep(b, t);
    }
    broker_promise(r, a, &ok);
    broker_commit(b, r);
}
