/* broker_result.c - what workers have made: OFFER, OFFERS, and the moment a task is DONE.
 * Believes: a result is welcome under any epoch ever given, for a task is a pure function of its spec: the first durable one wins.
 * Bytes that ride in an OFFER are checked here; others come by chunks (transfer.c), and result_take() is told when they are whole.
 * Not here: where bytes live (store.c), failures (broker_worker.c). */
#include "broker/broker.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define OFFER_RETRY_MS 5000

/* Does it answer what was asked? The sentence, or NULL. */
static const char *misfit(const struct task *t, const struct offer *o)
{
    bool image = false, latents = false;

    for (size_t i = 0; i < o->n_parts; i++) {
        image |= o->part[i].kind == PART_IMAGE;
        latents |= o->part[i].kind == PART_LATENTS;
    }
    if (!image) return "an image is missing";
    if (latents != t->lot->want_latents) return latents ? "nobody asked for latents" : "its latents are missing";
    if ((t->lot->width_px && o->width_px != t->lot->width_px) || (t->lot->height_px && o->height_px != t->lot->height_px)) return "another size was asked for";
    return NULL;
}

/* A task that some worker may have: one whose SUBMIT is not on disk yet was never leased, whatever is claimed. NULL: there is none. */
static struct task *wanted(const struct broker *b, uint64_t id)
{
    struct task *t = book_task(&b->book, id);

    return t && t->lot->batch->durable ? t : NULL;
}

static uint64_t offer_bytes(const struct offer *o)
{
    uint64_t n = 0;

    for (size_t i = 0; i < o->n_parts; i++) n += o->part[i].size_bytes;
    return n;
}

static bool inline_right(const struct offer *o)
{
    for (size_t i = 0; i < o->n_parts; i++)
        if (!store_right(&o->part[i], o->bytes[i])) return false;
    return true;
}

/* The task is final already, and its worker's slot is free. HAVE or DROP. */
static enum offer_verdict not_needed(struct broker *b, const struct task *t, struct grant *g)
{
    bool have = t && t->state == TASK_DONE;

    if (have)
        b->stats.results_duplicate++;
    else
        b->stats.results_dropped++;
    if (g) grant_free(&b->roster, g); /* revoked before: it ends here */
    return have ? OFFER_HAVE : OFFER_DROP;
}

void broker_quarantined(struct broker *b, const struct worker *w)
{
    b->stats.workers_quarantined++;
    log_warn("quarantined", "worker=\"%s\" why=\"%s\"", w->name, w->standing->why);
}

/* What a result says about its worker, and about others who failed at it. */
static void made(struct broker *b, struct task *t, struct worker *w, double usual_ms, uint32_t took_ms, int64_t now_ms)
{
    struct str model = dispatch_model(t->lot->lane, &b->roster);

    rates_learn(&b->rates, worker_kind(w), model, t->lot->cost, took_ms);
    queue_settle(&b->queue, t, rates_worth_ms(&b->rates, model, t->lot->cost, usual_ms, took_ms));
    for (size_t i = 0; i < CRASHES_MAX; i++) {
        struct worker *other = t->out->crashed[i] && t->out->crashed[i] != w->id ? roster_by_id(&b->roster, t->out->crashed[i]) : NULL;

        t->out->crashed[i] = 0;
        if (other && standing_blame(other->standing, now_ms)) broker_quarantined(b, other);
    }
}

bool result_take(struct broker *b, struct journal_req *r, const struct offer *o, const struct str bytes[PARTS_MAX], struct session *s, int64_t now_ms)
{
    struct worker  *w = s ? s->worker : NULL;
    struct task    *t = wanted(b, o->task);
    struct grant   *g = w ? worker_grant(w, o->task, o->epoch) : NULL;
    struct outcome *out;
    const double    usual_ms = g ? g->usual_ms : 0;
    const uint32_t  took_ms = o->took_ms / (g ? g->n_batch : 1);

    if (w) worker_took(w, took_ms);
    if (!t || task_final(t)) { /* canceled under the upload, or another was first */
        not_needed(b, t, g);
        return false;
    }
    if (g) {
        queue_begun(&b->queue, &g->turn); /* if it never said so */
        grant_free(&b->roster, g);        /* parts it from t, too, when t still runs there */
    } else {
        b->stats.results_late++;
    }
    broker_unlease(b, t, true); /* somebody else works on it, too */
    if (t->place != PLACE_NONE) queue_remove(&b->queue, t);
    out = task_outcome(t);
    out->n_parts = o->n_parts;
    memcpy(out->part, o->part, sizeof out->part);
    memset(out->home, 0, sizeof out->home);
    memset(out->verified, 0, sizeof out->verified);
    memset(out->fresh, true, sizeof out->fresh);
    out->took_ms = o->took_ms;
    out->collected_wall_ms = 0;
    snprintf(out->worker, sizeof out->worker, "%s", s ? s->name : "");
    for (size_t i = 0; i < out->n_parts; i++) out->home[i] = store_keep(&b->store, r, &out->part[i], bytes[i]);
    task_job(t)->share->tenant->kept_bytes += outcome_bytes(out);
    if (w) made(b, t, w, usual_ms, took_ms, now_ms);
    task_move(&b->book, t, TASK_DONE);
    broker_put_task(r, t);
    broker_put_job(r, task_job(t), true);
    job_completed(task_job(t), now_ms);
    b->stats.tasks_done++;
    if (w) w->n_done++;
    log_debug("task_done", "task=%" PRIu64 " took_ms=%u", o->task, o->took_ms);
    return true;
}

void broker_result(struct broker *b, const struct offer *o, const struct str bytes[PARTS_MAX], struct peer *peer, const struct route *to, int64_t now_ms)
{
    struct msg          ok = {.kind = MSG_RESULT_OK, .result_ok = {.task = o->task, .epoch = o->epoch}};
    struct ask          a = {.peer = peer, .from = *to, .m = &(struct msg){0}};
    struct journal_req *r = broker_begin(b, JOURNAL_SYNC, &a, &ok);

    result_take(b, r, o, bytes, broker_session(b, peer, to), now_ms);
    broker_commit(b, r);
}

void on_offer(struct broker *b, const struct ask *a)
{
    const struct offer *o = &a->m->offer;
    struct task        *t = wanted(b, o->task);
    struct grant       *g = worker_grant(a->session->worker, o->task, o->epoch);
    struct msg          m = {.kind = MSG_OFFER_OK, .offer_ok = {.task = o->task, .verdict = OFFER_DROP}};
    struct msg          ok = {.kind = MSG_RESULT_OK, .result_ok = {.task = o->task, .epoch = o->epoch}};
    struct journal_req *r;
    const char         *why;

    if (!broker_epoch_known(b, o->epoch)) {
        broker_error(b, a, WIRE_INVALID, 0, "no lease ever had epoch %" PRIu64, o->epoch);
        return;
    }
    if (g) g->reported_ms = a->now_ms;
    if (!t || task_final(t)) {
        m.offer_ok.verdict = not_needed(b, t, g);
        broker_commit(b, broker_begin(b, JOURNAL_SYNC, a, &m)); /* not before what made it final is durable */
        return;
    }
    if ((why = misfit(t, o))) {
        broker_error(b, a, WIRE_INVALID, 0, "task %" PRIu64 " wants a %dx%d image%s; a %dx%d one with %zu part(s) was offered: %s", o->task,
                     t->lot->width_px, t->lot->height_px, t->lot->want_latents ? " and its latents" : "", o->width_px, o->height_px, o->n_parts, why);
    } else if (broker_disk_low(b, offer_bytes(o))) {
        broker_error(b, a, WIRE_BUSY, OFFER_RETRY_MS, "the broker's disk is full: keep the result and offer it again");
    } else if (!o->bytes[0].len) {
        if (upload_begin(b, a, &m) == 0) broker_reply(b, a, &m);
    } else if (!inline_right(o)) {
        b->stats.results_damaged++;
        broker_error(b, a, WIRE_INVALID, 0, "the bytes of task %" PRIu64 " do not have the SHA-256 they were offered with", o->task);
    } else {
        upload_forget(b, o->task, a->session->worker);
        r = broker_begin(b, JOURNAL_SYNC, a, &ok);
        result_take(b, r, o, o->bytes, a->session, a->now_ms);
        broker_commit(b, r);
    }
}

/* What OFFERS says of one of its results; UPLOAD: let it come by itself, and hear why. */
static enum offer_verdict verdict_of(struct broker *b, const struct ask *a, struct journal_req *r, const struct offer *o)
{
    struct task  *t = wanted(b, o->task);
    struct grant *g = worker_grant(a->session->worker, o->task, o->epoch);

    if (!broker_epoch_known(b, o->epoch)) return OFFER_UPLOAD;
    if (g) g->reported_ms = a->now_ms;
    if (!t || task_final(t)) return not_needed(b, t, g);
    if (misfit(t, o) || broker_disk_low(b, offer_bytes(o)) || !inline_right(o)) return OFFER_UPLOAD;
    upload_forget(b, o->task, a->session->worker);
    result_take(b, r, o, o->bytes, a->session, a->now_ms);
    return OFFER_HAVE;
}

void on_offers(struct broker *b, const struct ask *a)
{
    const struct offers *q = &a->m->offers;
    struct journal_req  *r = broker_begin_rows(b, JOURNAL_SYNC, q->n_offers);
    struct promise      *p = journal_ctx(r);
    struct msg           ok = {.kind = MSG_OFFERS_OK, .offers_ok = {.offer = p->offer_ok, .n_offers = q->n_offers}};

    for (size_t i = 0; i < q->n_offers; i++)
        p->offer_ok[i] = (struct offer_ok){.task = q->offer[i].task, .verdict = verdict_of(b, a, r, &q->offer[i])};
    broker_promise(r, a, &ok);
    broker_commit(b, r);
}
