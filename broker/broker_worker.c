/* broker_worker.c - what workers say: HELLO, READY, BEAT, FAILED, RELEASE; and what becomes of their tasks when they stop saying it.
 * Believes: a worker may be wrong about what it holds - the broker's word is final, and goes out with WELCOME.drop and BEAT_OK.cancel.
 * Not here: results (broker_result.c), their bytes (transfer.c). */
#include "broker/broker.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <utlist.h>

#define BACKOFF_FIRST_MS 1000
#define BACKOFF_MAX_MS   60000
#define LET_GO_MS        (2 * BEAT_MS + 1000) /* a revoked grant that no beat names for so long is gone */

/* ---- leaving RUNNING ---- */
void broker_ungrant(struct broker *b, struct grant *g, bool tell_worker)
{
    struct worker *w = g->worker;
    struct held    stop = {g->task_id, g->epoch};
    struct msg     m = {.kind = MSG_BEAT_OK, .beat_ok = {.cancel = &stop, .n_cancel = 1}};

    if (!w || !tell_worker || !g->sent) {
        grant_free(&b->roster, g);
        return;
    }
    grant_revoke(g);
    broker_send(b, w->peer, &w->route, &m); /* and again with the answer to every beat that still names it */
}

void broker_unlease(struct broker *b, struct task *t, bool tell_worker)
{
    while (t->grant) broker_ungrant(b, t->grant, tell_worker);
}

void broker_task_failed(struct broker *b, struct journal_req *r, struct task *t, struct str text)
{
    task_error(t, text);
    task_move(&b->book, t, TASK_FAILED);
    broker_put_task(r, t);
    broker_put_job(r, task_job(t), true);
    b->stats.tasks_failed++;
    log_info("task_failed", "task=%" PRIu64 " text=\"%.*s\"", task_id(t), (int)text.len, text.at);
}

static void expired(struct broker *b, struct journal_req *r, struct task *t)
{
    task_error(t, str_of("its deadline passed before a worker had begun it"));
    task_move(&b->book, t, TASK_EXPIRED);
    broker_put_task(r, t);
    broker_put_job(r, task_job(t), true);
    b->stats.tasks_expired++;
}

void broker_job_expire(struct broker *b, struct journal_req *r, struct job *j)
{
    j->overdue = true;
    for (struct batch *c = j->batch; c; c = c->next)
        for (uint32_t i = 0; i < c->n_tasks; i++) {
            if (c->task[i].place == PLACE_NONE) continue;
            queue_remove(&b->queue, &c->task[i]);
            expired(b, r, &c->task[i]);
        }
    book_due(&b->book, j, 0);
}

static void back_to_queue(struct broker *b, struct journal_req *r, struct task *t, int64_t delay_ms, int64_t now_ms)
{
    char text[ERROR_MAX_BYTES + 1];

    if (t->grant) { /* another worker has it, too */
        broker_put_task(r, t);
        return;
    }
    if (t->leases >= LEASES_PER_TASK_MAX) { /* FAILED is reached from RUNNING only, and there we are */
        snprintf(text, sizeof text, "given to workers %d times and never finished%s%.800s", t->leases, t->out && t->out->error ? "; last: " : "",
                 t->out && t->out->error ? t->out->error : "");
        broker_task_failed(b, r, t, str_of(text));
        return;
    }
    task_move(&b->book, t, TASK_QUEUED);
    if (task_job(t)->overdue) {
        expired(b, r, t);
        return;
    }
    broker_put_task(r, t);
    if (delay_ms > 0)
        queue_delay(&b->queue, t, now_ms + delay_ms);
    else
        queue_push_front(&b->queue, t);
}

void broker_requeue(struct broker *b, struct journal_req *r, struct task *t, int64_t delay_ms, int64_t now_ms)
{
    b->stats.tasks_requeued += !t->grant;
    back_to_queue(b, r, t, delay_ms, now_ms);
}

void broker_worker_gone(struct broker *b, struct worker *w, const char *why, int64_t now_ms)
{
    struct journal_req *r = broker_begin(b, JOURNAL_SYNC, NULL, NULL);
    struct session     *s = broker_session(b, w->peer, &w->route);
    struct grant       *g, *next;

    log_info("worker_gone", "worker=\"%s\" why=\"%s\" held=%u", w->name, why, w->n_held);
    upload_forget(b, 0, w);
    DL_FOREACH_SAFE(w->grant, g, next)
    {
        struct task *t = g->task;

        grant_free(&b->roster, g);
        if (t) broker_requeue(b, r, t, 0, now_ms);
    }
    broker_commit(b, r);
    if (s) broker_session_drop(b, s);
    roster_drop(&b->roster, w);
    b->book.tick++;
}

/* ---- HELLO ---- */
bool broker_epoch_known(const struct broker *b, uint64_t epoch)
{
    return epoch >> 32 >= 1 && epoch >> 32 <= journal_boot_id(b->journal);
}

/* May the worker go on with it? Then it has its grant. */
static bool keep_lease(struct broker *b, struct worker *w, const struct held *h, struct journal_req *r, int64_t now_ms)
{
    struct task  *t = book_task(&b->book, h->task);
    struct grant *g = t ? t->grant : NULL;

    if (!t || task_final(t)) return false;
    if (t->hedge && t->hedge->epoch == h->epoch) g = t->hedge;
    if (g && g->epoch == h->epoch && g->worker) return g->worker == w;
    if ((t->grant && t->grant->worker == w) || (t->hedge && t->hedge->worker == w)) return false; /* one lease of a task is enough for one worker */
    if (g && g->epoch == h->epoch) {
        roster_adopt(&b->roster, g, w, now_ms);
    } else if (g) { /* the journal knows one lease; before a restart there may have been two, and the other worker is not back */
        if (g->worker || t->hedge || !broker_epoch_known(b, h->epoch)) return false;
        roster_grant(w, t, h->epoch, now_ms)->sent = true;
    } else { /* given up already, and nobody else has begun: its work is not lost */
        if (t->place == PLACE_NONE || !broker_epoch_known(b, h->epoch)) return false;
        queue_remove(&b->queue, t);
        roster_grant(w, t, h->epoch, now_ms)->sent = true;
        task_move(&b->book, t, TASK_RUNNING);
        broker_put_task(r, t);
    }
    b->stats.leases_kept++;
    task_job(t)->tick = ++b->book.tick;
    return true;
}

static bool held_by(const struct hello *h, const struct grant *g)
{
    for (size_t i = 0; i < h->n_held; i++)
        if (h->held[i].task == g->task_id && h->held[i].epoch == g->epoch) return true;
    return false;
}

void on_worker_hello(struct broker *b, const struct ask *a)
{
    const struct hello  *h = &a->m->hello;
    struct session      *s = a->session, *old;
    struct msg           m = {.kind = MSG_WELCOME};
    struct journal_req  *r;
    const struct worker *clash;
    struct worker       *w;
    struct grant        *g, *next;
    struct str           model;

    if (s->worker && memcmp(s->worker->instance, h->instance, KEY_BYTES) != 0) {
        broker_worker_gone(b, s->worker, "another process speaks", a->now_ms); /* the session goes, too: the peer begins anew */
        broker_error(b, a, WIRE_UNKNOWN_SESSION, 0, "another worker was on this connection: say HELLO again");
        return;
    }
    w = roster_find(&b->roster, h->instance);
    if (w && memcmp(w->key, s->user, sizeof w->key) != 0) {
        b->stats.denied++;
        broker_error(b, a, WIRE_DENIED, 0, "a worker of this instance is here with another key");
        broker_session_drop(b, s);
        return;
    }
    if (w && (old = broker_session(b, w->peer, &w->route)) && old != s) broker_session_drop(b, old); /* the same process on a new connection */
    if ((clash = roster_clash(&b->roster, h, &model))) {
        broker_error(b, a, WIRE_CONFLICT, 0,
                     "model '%.*s' of worker %s has other content than yours: announce yours under another name (--model NAME=DIR)",
                     (int)model.len, model.at, clash->name);
        if (s->worker) broker_worker_gone(b, s->worker, "its model became another one of the same name", a->now_ms); /* and its session */
        else broker_session_drop(b, s);
        return;
    }
    w = roster_hello(&b->roster, h, a->peer, &a->from, a->now_ms);
    if (!w) {
        broker_error(b, a, WIRE_BUSY, 60000, "%d workers are here already", WORKERS_MAX);
        broker_session_drop(b, s);
        return;
    }
    s->worker = w;
    memcpy(w->key, s->user, sizeof w->key);
    upload_forget(b, 0, w);
    r = broker_begin(b, JOURNAL_SYNC, NULL, NULL);
    m.welcome = (struct welcome){.major = WIRE_MAJOR, .minor = WIRE_MINOR, .boot_id = journal_boot_id(b->journal), .beat_ms = BEAT_MS};
    memcpy(m.welcome.store, journal_store(b->journal), KEY_BYTES);
    arena_reset(&b->out, 0);
    m.welcome.drop = arena_array(&b->out, h->n_held + 1, sizeof *m.welcome.drop);
    DL_FOREACH_SAFE(w->grant, g, next) /* what it does not hold never arrived, or was let go */
    {
        struct task *t = g->task;

        if (t && held_by(h, g)) {
            g->sent = true;
            continue;
        }
        grant_free(&b->roster, g);
        if (t) broker_requeue(b, r, t, 0, a->now_ms);
    }
    for (size_t i = 0; i < h->n_held; i++)
        if (!keep_lease(b, w, &h->held[i], r, a->now_ms)) m.welcome.drop[m.welcome.n_drop++] = h->held[i];
    DL_FOREACH_SAFE(b->roster.orphans, g, next) /* the journal says it was leased to this one, which has never heard of it */
    {
        struct task *t = g->task;

        if (!t->out || strcmp(t->out->worker, w->name) != 0) continue;
        broker_ungrant(b, g, false);
        broker_requeue(b, r, t, 0, a->now_ms);
    }
    log_info("worker", "worker=\"%s\" device=\"%s\" capacity=%u models=%zu first_model=\"%.*s\" kept=%zu dropped=%zu", w->name, w->device, w->capacity,
             w->n_models, w->n_models ? (int)w->model[0].name.len : 0, w->n_models ? w->model[0].name.at : "", h->n_held - m.welcome.n_drop,
             m.welcome.n_drop);
    b->book.tick++;
    broker_reply(b, a, &m);
    broker_commit(b, r);
}

void on_ready(struct broker *b, const struct ask *a)
{
    (void)b;
    a->session->worker->capacity = a->m->ready.capacity;
}

/* ---- BEAT ---- */
/* What a beat names and we gave to nobody there: to be stopped, unless its result is on its way. */
static bool must_stop(const struct broker *b, const struct progress *p)
{
    const struct task *t = book_task(&b->book, p->task);

    if (!p->epoch) return false;
    return !t || t->state != TASK_DONE || (t->seq <= b->book.durable_seq && p->stage != STAGE_UPLOAD);
}

static struct grant *named(const struct worker *w, const struct progress *p)
{
    struct grant *g;

    DL_FOREACH(w->grant, g)
        if (g->task_id == p->task && (!p->epoch || g->epoch == p->epoch)) return g;
    return NULL;
}

static void let_go(struct broker *b, struct worker *w, int64_t now_ms)
{
    struct journal_req *r = NULL;
    struct grant       *g, *next;

    DL_FOREACH_SAFE(w->grant, g, next)
    {
        struct task *t = g->task;

        if (!g->sent || g->reported_ms == now_ms) continue;
        if (!t && now_ms - g->reported_ms > LET_GO_MS) {
            grant_free(&b->roster, g);
        } else if (t && now_ms - g->reported_ms > WORKER_LOST_MS && !upload_active(b, g->task_id, w)) {
            log_warn("lease_unknown", "task=%" PRIu64 " worker=\"%s\" its beats do not name it", g->task_id, w->name);
            if (!r) r = broker_begin(b, JOURNAL_SYNC, NULL, NULL);
            broker_ungrant(b, g, false);
            broker_requeue(b, r, t, 0, now_ms);
        }
    }
    if (r) broker_commit(b, r);
}

/* An engine that was started anew since the last beat. */
static void restarted(struct broker *b, struct worker *w, uint32_t engine_restarts, int64_t now_ms)
{
    for (uint32_t n = w->beaten ? w->engine_restarts : engine_restarts; n < engine_restarts; n++)
        if (standing_recycled(w->standing, now_ms)) broker_quarantined(b, w);
    w->engine_restarts = engine_restarts;
    w->beaten = true;
}

void on_beat(struct broker *b, const struct ask *a)
{
    const struct beat *q = &a->m->beat;
    struct worker     *w = a->session->worker;
    struct msg         m = {.kind = MSG_BEAT_OK, .beat_ok = {.seq = q->seq}};

    restarted(b, w, q->engine_restarts, a->now_ms);
    worker_ranks(w, q->rank, q->n_ranks);
    arena_reset(&b->out, 0);
    m.beat_ok.cancel = arena_array(&b->out, CANCELS_MAX, sizeof *m.beat_ok.cancel);
    for (size_t i = 0; i < q->n_progress; i++) {
        const struct progress *p = &q->progress[i];
        struct grant          *g = named(w, p);
        bool                   moved = g && grant_progress(g, p, a->now_ms);

        if (moved && g->begun_ms == a->now_ms) queue_begun(&b->queue, &g->turn);
        if (moved && g->task) task_job(g->task)->tick = ++b->book.tick;
        if ((g ? !g->task : must_stop(b, p)) && m.beat_ok.n_cancel < CANCELS_MAX)
            m.beat_ok.cancel[m.beat_ok.n_cancel++] = (struct held){p->task, g ? g->epoch : p->epoch};
    }
    let_go(b, w, a->now_ms);
    broker_reply(b, a, &m);
}

/* ---- FAILED, RELEASE ---- */
/* 1 s, 2 s, 4 s ... 60 s, and up to a fifth more, other for each task: they do not all come back at once. */
static int64_t backoff_ms(const struct task *t)
{
    int64_t ms = t->transients > 6 ? BACKOFF_MAX_MS : (int64_t)BACKOFF_FIRST_MS << (t->transients - 1);

    if (ms > BACKOFF_MAX_MS) ms = BACKOFF_MAX_MS;
    return ms + (int64_t)(task_id(t) * 2654435761u % 1000) * ms / 5000;
}

/* Out of memory: alone, if it was not; then on a worker with more; then nobody can. True: nobody. */
static bool no_memory(struct broker *b, struct task *t, struct worker *w, unsigned n_batch, int64_t now_ms)
{
    int64_t px = lot_px(t->lot);

    if (n_batch > 1) {
        t->solo = true;
        return false;
    }
    worker_deny(w, px, now_ms);
    return dispatch_denied(&b->roster, dispatch_model(t->lot->lane, &b->roster), px, now_ms);
}

/* An image that ended the engines of several workers: it is to blame, not they. Whose crash is not known any more (it left, the broker was restarted) proves nothing. */
static void pardon(struct broker *b, const struct outcome *out, int64_t now_ms)
{
    struct worker   *crashed[CRASHES_MAX];
    struct standing *first = NULL;
    bool             several = false;

    for (size_t i = 0; i < CRASHES_MAX; i++) {
        crashed[i] = roster_by_id(&b->roster, out->crashed[i]);
        if (!crashed[i]) continue;
        if (!first) first = crashed[i]->standing;
        several |= crashed[i]->standing != first; /* a name is a machine, however often it came */
    }
    for (size_t i = 0; several && i < CRASHES_MAX; i++)
        if (crashed[i] && standing_pardon(crashed[i]->standing, now_ms))
            log_info("quarantine_over", "worker=\"%s\" its engine was ended by an image that ended others", crashed[i]->name);
}

static void failed(struct broker *b, struct journal_req *r, struct task *t, struct worker *w, unsigned n_batch, const struct failed *f, int64_t now_ms)
{
    struct outcome *out = task_outcome(t);
    bool            over = false;
    int64_t         delay_ms = 0;

    snprintf(out->worker, sizeof out->worker, "%s", w->name);
    task_error(t, f->text);
    switch (f->why) {
    case FAIL_INVALID: over = true; break;
    case FAIL_CRASHED:
    case FAIL_STUCK:
        out->crashed[t->crashes] = w->id;
        over = ++t->crashes >= CRASHES_MAX;
        if (over) pardon(b, out, now_ms);
        t->avoid = w->id;
        break;
    case FAIL_NAN:
        over = ++t->nans >= NANS_MAX;
        t->avoid = w->id;
        break;
    case FAIL_OOM: over = no_memory(b, t, w, n_batch, now_ms); break;
    case FAIL_TRANSIENT:
        over = ++t->transients >= TRANSIENTS_MAX;
        delay_ms = backoff_ms(t);
        break;
    case FAIL_CANCELED: break; /* not by us: somebody stopped it there; it goes to the next */
    }
    t->charged_ms = 0; /* what it took is spent; the next attempt is paid again */
    if (over) {
        broker_unlease(b, t, true);
        broker_task_failed(b, r, t, f->text);
    } else {
        broker_requeue(b, r, t, delay_ms, now_ms);
    }
}

void on_failed(struct broker *b, const struct ask *a)
{
    const struct failed *f = &a->m->failed;
    struct worker       *w = a->session->worker;
    struct grant        *g = worker_grant(w, f->task, f->epoch);
    struct task         *t = g ? g->task : NULL;
    struct msg           ok = {.kind = MSG_FAILED_OK, .failed_ok = {.task = f->task, .epoch = f->epoch}};
    struct journal_req  *r = broker_begin(b, JOURNAL_SYNC, a, &ok);
    unsigned             n_batch = g ? g->n_batch : 1;

    if (g) {
        upload_forget(b, f->task, w);
        grant_free(&b->roster, g);
    }
    if (t) {
        w->n_failed++;
        log_warn("attempt_failed", "task=%" PRIu64 " worker=\"%s\" why=%d text=\"%.*s\"", f->task, w->name, (int)f->why, (int)f->text.len,
                 f->text.len ? f->text.at : "");
        failed(b, r, t, w, n_batch, f, a->now_ms);
    }
    broker_commit(b, r);
}

void on_release(struct broker *b, const struct ask *a)
{
    const struct release *q = &a->m->release;
    struct grant         *g = worker_grant(a->session->worker, q->task, q->epoch);
    struct task          *t = g ? g->task : NULL;
    struct journal_req   *r;
    bool                  recalled = g && g->recalled_ms;

    if (!g) return;
    upload_forget(b, q->task, a->session->worker);
    grant_free(&b->roster, g);
    if (!t) return;
    if (recalled && t->leases) t->leases--; /* nobody tried */
    b->stats.tasks_released++;
    r = broker_begin(b, JOURNAL_SYNC, NULL, NULL);
    back_to_queue(b, r, t, 0, a->now_ms);
    broker_commit(b, r);
}
