/* worker.c - decides: which lease the engine makes next, what a crash means, when to end.
 * Believes: the engine makes one task at a time, or as many as its group of devices takes, and writes those before meanwhile; the next one
 * waits here, so a device idles for a fraction of a millisecond between two.
 * Invariants: R1 a row is RUNNING iff the child makes it, WRITING iff the child writes it (a forgotten one is being canceled).
 *             R2 capacity is 0 while no engine is up.  R3 what has left the device takes no slot: so one task is always at hand.
 * Not here: words to the broker (session.c), the process (child.c). */
#include "worker/worker.h"

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "worker/session.h"

#define TICK_MS       100
#define PAST_MAX      4     /* results on their way that take no slot; with more of them the broker is behind */
#define INNOCENT_MAX  3     /* engines that may die under a task of something else */
#define STALL_MS      1000  /* a gap between ticks that is our own fault, not the broker's or the engine's silence */
#define DRAIN_MORE_MS 10000 /* after drain_ms: for results on their way */

uint32_t worker_capacity(const struct worker *w)
{
    bool     up = w->child.state == CHILD_UP;
    uint32_t n = (uint32_t)w->conf.n_slots, n_past = 0;

    for (size_t i = 0; i < LEASES_MAX; i++) n_past += w->works.row[i].state >= WORK_WRITING;
    n += n_past < PAST_MAX ? n_past : PAST_MAX;
    return up && !w->draining ? (n < LEASES_MAX ? n : LEASES_MAX) : 0;
}

void worker_end(struct worker *w, int code, const char *words)
{
    if (w->status == 0) w->status = err_set(&w->why, code, "%s", words);
    loop_stop(w->loop);
}

/* This one to the engine. False: it cannot take any. */
static bool feed(struct worker *w, struct work *k, int64_t now_ms)
{
    struct err e = {0};

    if (k->width_px == 0) k->width_px = w->child.model.own_px; /* as the engine resolves it */
    if (k->height_px == 0) k->height_px = w->child.model.own_px;
    if (child_task(&w->child, k->task, k->epoch, buf_str(&k->item), (int64_t)k->width_px * k->height_px, now_ms, &e)) {
        log_warn("engine_task", "task=%" PRIu64 " why=\"%s\"", k->task, e.text); /* it is dying: it waits for the next one */
        return false;
    }
    k->state = WORK_RUNNING;
    k->engine_epoch = k->epoch;
    work_step(k, w->conf.place.n_image ? STAGE_WAITING : STAGE_TEXT, 0, k->steps, now_ms); /* a group says when a device begins with it */
    w->session.moved = true;
    return true;
}

void worker_feed(struct worker *w, int64_t now_ms)
{
    struct work *k;

    while (!w->draining && child_has_room(&w->child) && (k = works_next(&w->works)))
        if (!feed(w, k, now_ms)) return;
}

void worker_forget(struct worker *w, struct work *k)
{
    if (work_in_engine(k)) child_cancel(&w->child, k->task);
    work_drop(k);
}

void worker_cancel(struct worker *w, struct work *k, int64_t now_ms)
{
    if (k->canceled || k->state >= WORK_FINISHED) return; /* a result that won stays one */
    k->canceled = true;
    log_info("cancel", "task=%" PRIu64 " state=%s", k->task, work_in_engine(k) ? "running" : "waiting");
    if (work_in_engine(k)) child_cancel(&w->child, k->task); /* answered by FAILED{canceled} at the next step */
    else work_fail(k, FAIL_CANCELED, "canceled before it began", now_ms);
}

/* The row the child speaks of; NULL when it was forgotten meanwhile, and maybe leased again: then the child will have it twice, under two epochs. */
static struct work *in_engine(struct worker *w, const struct link_head *h)
{
    struct work *k = works_find(&w->works, h->task);

    return k && work_in_engine(k) && k->engine_epoch == h->epoch ? k : NULL;
}

static void on_opened(void *ctx, int64_t now)
{
    struct worker *w = ctx;

    log_info("ready", "model=%s profile=%s about=\"%s\" devices=%d restarts=%u", w->conf.model, w->child.model.profile, w->child.model.about,
             place_ranks(&w->conf.place), w->child.n_restarts);
    for (uint32_t i = 0; i < w->child.model.n_ranks && w->child.model.n_ranks > 1; i++)
        log_info("rank", "rank=%u device=%s parts=%s", i, w->child.model.rank[i].device, rank_parts_name(w->child.model.rank[i].parts));
    session_opened(w, now);
    worker_feed(w, now);
}

static void on_step(void *ctx, const struct link_head *h, int64_t now)
{
    struct worker *w = ctx;
    struct work   *k = in_engine(w, h);

    if (!k) return;
    work_step(k, (enum stage)h->stage, h->step, h->steps, now);
    w->session.moved = true;
    session_say(w, now);
}

static void on_pixels(void *ctx, const struct link_head *h, int64_t now)
{
    struct worker *w = ctx;
    struct work   *k = in_engine(w, h);

    if (k) k->state = WORK_WRITING;
    worker_feed(w, now);
    session_say(w, now); /* READY: there is room for one more */
}

static void on_result(void *ctx, const struct link_head *h, int bytes_fd, int64_t now)
{
    struct worker *w = ctx;
    struct work   *k = in_engine(w, h);
    struct err     e = {0};

    if (k && work_finish(k, h, bytes_fd, now, &e)) {
        log_error("bad_result", "task=%" PRIu64 " why=\"%s\"", k->task, e.text);
        work_fail(k, FAIL_CRASHED, e.text, now);
    } else if (k) {
        log_info("task_done", "task=%" PRIu64 " took_ms=%u text_ms=%u denoise_ms=%u decode_ms=%u bytes=%" PRIu64, k->task, h->took_ms, h->text_ms,
                 h->denoise_ms, h->decode_ms, h->part_bytes[0]);
    }
    worker_feed(w, now); /* first the engine, then the talk */
    session_say(w, now);
}

static void on_failed(void *ctx, const struct link_head *h, const char *text, int64_t now)
{
    struct worker *w = ctx;
    struct work   *k = in_engine(w, h);

    if (k) {
        log_info("task_failed", "task=%" PRIu64 " why=\"%s\"", k->task, text);
        work_fail(k, work_fail_class(h->code), text, now);
    }
    worker_feed(w, now);
    session_say(w, now);
}

/* What has not begun goes to other workers. */
static void give_back(struct worker *w, const char *why)
{
    for (size_t i = 0; i < LEASES_MAX; i++)
        if (w->works.row[i].state == WORK_WAITING) session_release(w, &w->works.row[i], why);
}

static bool is_blamed(const struct child_death *d, uint64_t task)
{
    for (size_t i = 0; i < d->n_blamed; i++)
        if (d->blamed[i] == task) return true;
    return false;
}

/* A row whose engine is gone. Who was not to blame is made again by the next one, but not for ever. */
static void lost(struct work *k, const struct child_death *d, int64_t now)
{
    if (is_blamed(d, k->task) || ++k->n_innocent >= INNOCENT_MAX) {
        work_fail(k, d->stuck ? FAIL_STUCK : FAIL_CRASHED, d->words, now);
        return;
    }
    k->state = WORK_WAITING;
    work_step(k, STAGE_WAITING, 0, k->steps, now);
}

static void on_died(void *ctx, const struct child_death *d, int64_t now)
{
    struct worker *w = ctx;

    if (!w->child.opened_once) { /* this model does not open: another attempt would end the same */
        worker_end(w, ERR_STATE, d->words);
        return;
    }
    for (size_t i = 0; i < LEASES_MAX; i++)
        if (work_in_engine(&w->works.row[i])) lost(&w->works.row[i], d, now);
    session_say(w, now); /* READY{0} first of all */
    if (!w->child.is_open) give_back(w, "the engine does not start again");
}

/* One step towards the end: give back what has not begun, give up what takes too long, go when nothing is left. */
static void drain(struct worker *w, int64_t now)
{
    bool   late = now >= w->drain_until_ms;
    size_t n_left = 0;

    give_back(w, "the worker is draining");
    for (size_t i = 0; i < LEASES_MAX; i++) {
        struct work *k = &w->works.row[i];

        if (k->state == WORK_RUNNING && (late || child_left_ms(&w->child, k->task) > w->drain_until_ms - now)) session_release(w, k, "the worker is draining");
        n_left += k->state != WORK_FREE;
    }
    if (n_left == 0 || now >= w->drain_until_ms + DRAIN_MORE_MS || (late && !session_is_up(w))) loop_stop(w->loop);
}

/* The broker has given such a lease to another worker, or will: nobody waits for this one. */
static void over_budget(struct worker *w, int64_t now)
{
    for (size_t i = 0; i < LEASES_MAX; i++) {
        struct work *k = &w->works.row[i];

        if (work_in_engine(k) && now - k->moved_ms > k->budget_ms) session_release(w, k, "no progress within the lease's time");
    }
}

static void on_tick(void *ctx, int64_t now)
{
    struct worker *w = ctx;
    int64_t        gap = now - w->tick_ms, heard = w->session.heard_ms + gap;

    if (gap > STALL_MS) {
        w->session.heard_ms = heard < now ? heard : now;
        child_stalled(&w->child, gap, now);
    }
    w->tick_ms = now;
    child_tick(&w->child, now);
    over_budget(w, now);
    session_tick(w, now);
    if (w->draining) drain(w, now);
}

static void on_signal(void *ctx, int signo, int64_t now)
{
    struct worker *w = ctx;

    if (signo == SIGCHLD) {
        child_reap(&w->child, now);
        return;
    }
    if (w->draining) {
        log_info("stop", "signal=%d next=\"at once\"", signo);
        loop_stop(w->loop);
        return;
    }
    w->draining = true;
    w->drain_until_ms = now + w->conf.watch.drain_ms;
    log_info("drain", "signal=%d held=%zu", signo, works_count(&w->works));
    session_say(w, now); /* READY{0} */
    drain(w, now);
}

static const struct child_events child_events = {on_opened, on_step, on_pixels, on_result, on_failed, on_died};

static int start(struct worker *w, struct err *e)
{
    int64_t now = now_ms();
    int     rc;

    if ((rc = loop_open(&w->loop, e)) || (rc = loop_signal(w->loop, on_signal, w, e))) return rc;
    if (w->conf.key && (rc = key_load(&w->key, w->conf.key, w->conf.server_key, e))) return rc;
    if ((rc = session_open(w, e))) return rc;
    child_init(&w->child, &w->conf, w->loop, &child_events, w);
    w->tick_ms = now;
    if (loop_timer(w->loop, TICK_MS, on_tick, w) < 0) return err_set(e, ERR_LIMIT, "no room in the loop for a timer");
    return child_start(&w->child, now, e);
}

int worker_run(const struct worker_conf *conf, struct err *e)
{
    struct worker *w = calloc(1, sizeof *w);
    int            rc;

    if (!w) return err_set(e, ERR_NOMEM, "no memory for a worker");
    w->conf = *conf;
    w->child.fd = -1;
    rc = start(w, e);
    if (!rc) rc = loop_run(w->loop, e);
    if (!rc && w->status) rc = err_set(e, w->status, "%s", w->why.text);
    child_stop(&w->child);
    if (w->loop) session_close(w, true);
    for (size_t i = 0; i < LEASES_MAX; i++)
        if (w->works.row[i].state != WORK_FREE) work_drop(&w->works.row[i]);
    loop_free(w->loop);
    key_wipe(&w->key);
    peer_shutdown();
    log_info("end", "status=%s", rc ? err_name(rc) : "ok");
    free(w);
    return rc;
}
