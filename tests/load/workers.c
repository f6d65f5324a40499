/* workers.c - fake workers: each lease answered with bytes that name its task, at once or after --sleep; small ones inside OFFER(S). */
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/hash.h"
#include "tests/load/load.h"

struct todo {
    struct lease lease;
    int64_t      due_us;
};

struct worker {
    struct tie  tie;
    struct todo todo[LEASES_MAX];
    size_t      n_todo;
    int64_t     beat_ms, free_us; /* free: when a slot was last given back */
    bool        up;
};

struct str load_bytes(struct load *l, uint64_t task)
{
    static char bytes[BYTES_MAX];

    memcpy(bytes, &task, sizeof task);
    return (struct str){bytes, (size_t)l->o.bytes};
}

static struct offer offer_of(struct load *l, const struct lease *s)
{
    struct str   bytes = load_bytes(l, s->task);
    struct offer o = {.task = s->task, .epoch = s->epoch, .width_px = s->spec.width_px ? s->spec.width_px : 64, .height_px = s->spec.height_px ? s->spec.height_px : 64, .took_ms = l->o.sleep_ms ? (uint32_t)l->o.sleep_ms : 1, .n_parts = 1};

    o.part[0] = (struct part){.kind = PART_IMAGE, .size_bytes = bytes.len};
    sha256_of(bytes.at, bytes.len, o.part[0].sha256);
    return o;
}

static void send_offers(struct worker *w, struct offer *o, size_t n, int64_t now)
{
    struct msg m = {.kind = MSG_OFFER, .correlation = 2};

    if (n == 0) return;
    w->free_us = now;
    if (n == 1) {
        m.offer = o[0];
    } else {
        m.kind = MSG_OFFERS;
        m.offers = (struct offers){o, n};
    }
    tie_send(&w->tie, &m);
}

/* Offers what is due. Small results go with their bytes, as many at once as fit. */
static void offer_due(struct worker *w, int64_t now)
{
    static char  bytes[BULK_MAX_BYTES];
    struct load *l = w->tie.load;
    struct offer offer[OFFERS_MAX];
    size_t       n = 0, used = 0, kept = 0;

    for (size_t i = 0; i < w->n_todo; i++) {
        const struct todo *d = &w->todo[i];
        size_t             len = (size_t)l->o.bytes;

        if (d->due_us > now) {
            w->todo[kept++] = *d;
            continue;
        }
        if (len > INLINE_MAX_BYTES) {
            struct offer o = offer_of(l, &d->lease);

            send_offers(w, &o, 1, now);
            continue;
        }
        if (used + len > sizeof bytes) {
            send_offers(w, offer, n, now);
            n = used = 0;
        }
        offer[n] = offer_of(l, &d->lease);
        memcpy(bytes + used, load_bytes(l, d->lease.task).at, len);
        offer[n++].bytes[0] = (struct str){bytes + used, len};
        used += len;
    }
    w->n_todo = kept;
    send_offers(w, offer, n, now);
}

static void take(struct worker *w, const struct lease *s)
{
    struct load *l = w->tie.load;
    uint64_t     job = s->job;
    int64_t      now = now_us();

    l->n_leases++;
    if (w->n_todo == LEASES_MAX) load_fail("a worker was given more than it may hold");
    w->todo[w->n_todo++] = (struct todo){*s, now + l->o.sleep_ms * 1000};
    if (!l->o.rate || job >= l->queued_cap || !l->queued_us[job]) return;
    times_put(&l->dispatch, now - (l->queued_us[job] > w->free_us ? l->queued_us[job] : w->free_us));
}

static void send_chunks(struct worker *w, const struct offer_ok *o)
{
    struct str bytes = load_bytes(w->tie.load, o->task);

    if (o->verdict != OFFER_UPLOAD) return;
    if (o->credit_bytes < bytes.len) load_fail("a result of %zu bytes needs more credit than one window", bytes.len);
    for (size_t at = 0; at < bytes.len; at += CHUNK_MAX_BYTES) {
        struct msg m = {.kind = MSG_CHUNK, .chunk = {.transfer = o->transfer[0], .offset = at, .bytes = str_sub(bytes, at, CHUNK_MAX_BYTES)}};

        m.chunk.last = at + m.chunk.bytes.len == bytes.len;
        tie_send(&w->tie, &m);
    }
}

static bool forget(struct worker *w, const struct held *h)
{
    for (size_t i = 0; i < w->n_todo; i++) {
        if (w->todo[i].lease.task != h->task || w->todo[i].lease.epoch != h->epoch) continue;
        w->todo[i] = w->todo[--w->n_todo];
        return true;
    }
    return false;
}

/* A canceled task: as at the end of its step. */
static void let_go(struct worker *w, const struct held *h)
{
    struct msg m = {.kind = MSG_FAILED, .correlation = 4, .failed = {.task = h->task, .epoch = h->epoch, .why = FAIL_CANCELED}};

    if (!forget(w, h)) return; /* offered already */
    w->free_us = now_us();
    tie_send(&w->tie, &m);
}

static void on_worker(struct tie *t, const struct msg *m)
{
    struct worker *w = (struct worker *)(void *)t;

    if (!m) {
        if (w->n_todo && !t->load->o.sleep_ms) offer_due(w, INT64_MAX - 1);
        return;
    }
    switch (m->kind) {
    case MSG_WELCOME:
        w->up = true;
        for (size_t i = 0; i < m->welcome.n_drop; i++) forget(w, &m->welcome.drop[i]);
        break;
    case MSG_LEASE: take(w, &m->lease); break;
    case MSG_LEASES:
        for (size_t i = 0; i < m->leases.n_leases; i++) take(w, &m->leases.lease[i]);
        break;
    case MSG_OFFER_OK: send_chunks(w, &m->offer_ok); break;
    case MSG_OFFERS_OK:
        for (size_t i = 0; i < m->offers_ok.n_offers; i++)
            if (m->offers_ok.offer[i].verdict == OFFER_UPLOAD) load_fail("the broker did not take a result");
        break;
    case MSG_BEAT_OK:
        for (size_t i = 0; i < m->beat_ok.n_cancel; i++) let_go(w, &m->beat_ok.cancel[i]);
        break;
    case MSG_ERROR: load_fail("a worker is told: %.*s", (int)m->error.text.len, m->error.text.at);
    default: break;
    }
}

void workers_open(struct load *l)
{
    l->worker = calloc((size_t)l->o.workers + 1, sizeof *l->worker);
    if (!l->worker) abort();
    for (int i = 0; i < l->o.workers; i++) {
        l->worker[i].beat_ms = now_ms();
        tie_open(l, &l->worker[i].tie, on_worker, ROLE_WORKER);
        if (i % 32 == 31) load_turn(l, 1);
    }
}

static void beat(struct worker *w, int64_t now)
{
    struct progress p[LEASES_MAX];
    struct msg      m = {.kind = MSG_BEAT, .correlation = 3, .beat = {.progress = p}};

    for (size_t i = 0; i < w->n_todo; i++)
        p[m.beat.n_progress++] = (struct progress){.task = w->todo[i].lease.task, .epoch = w->todo[i].lease.epoch, .stage = STAGE_DENOISE};
    w->beat_ms = now;
    tie_send(&w->tie, &m);
}

void workers_turn(struct load *l)
{
    static int64_t looked_us;
    int64_t        now = now_us();

    if (!l->worker || (now - looked_us < 500 && now >= looked_us)) return;
    looked_us = now;
    for (int i = 0; i < l->o.workers; i++) {
        struct worker *w = &l->worker[i];

        if (!w->tie.peer || !w->up) continue;
        if (w->n_todo) offer_due(w, now);
        if (now / 1000 - w->beat_ms > BEAT_MS) beat(w, now / 1000);
    }
}

void worker_again(struct load *l, int i)
{
    struct worker *w = &l->worker[i];
    struct held    held[LEASES_MAX];

    for (size_t k = 0; k < w->n_todo; k++) held[k] = (struct held){w->todo[k].lease.task, w->todo[k].lease.epoch};
    w->up = false;
    w->beat_ms = now_ms();
    tie_again(&w->tie, held, w->n_todo);
}
