/* transfer.c - bytes of results: uploads from workers into the store, downloads from the store to clients.
 * Believes: a slow peer costs what its credit allows and no more; a full queue is tried again in a moment; bytes that do not have their
 * SHA-256 never leave, but once (T1 of store.h). Large parts are written as they come, hashed and made durable by the syncer's threads,
 * before any row names them.
 * A small part goes inside FETCH_OK to who understands it, and is read by the journal's thread when it is not in memory any more.
 * Not here: what a result means, and bytes that ride in OFFERs (broker_result.c); where bytes live (store.c). */
#include "broker/broker.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <utlist.h>

#include "base/clock.h"

#define WINDOW_BYTES          ((uint64_t)WINDOW_CHUNKS * CHUNK_MAX_BYTES)
#define CREDIT_LIMIT_BYTES    (16u << 20)
#define DOWNLOADS_PER_SESSION 4
#define PUMP_AGAIN_MS         5

struct upload { /* an OFFER said UPLOAD to */
    struct broker    *b;
    struct offer      offer;
    uint64_t          transfer[PARTS_MAX], correlation;
    uint64_t          granted_bytes; /* credit given for the current part */
    struct spool_put *put[PARTS_MAX];
    size_t            at; /* the part that comes now */
    bool              finishing; /* a thread of the syncer hashes it and makes it durable */
    struct peer      *peer;
    struct route      from;
    const struct worker *worker; /* only compared */
    struct upload    *prev, *next;
};

struct download {
    struct session  *session;
    uint64_t         transfer, correlation, at_bytes, credit_bytes;
    struct part      part;
    int              fd;    /* of a file; or -1, and: */
    char            *bytes; /* of a row, owned; NULL while the journal reads them */
    struct broker   *b;     /* to be told when it has */
    uint64_t         task, task_seq; /* whose part, and task.seq when it was asked for */
    struct download *prev, *next;
};

/* ---- uploads ---- */
static void upload_free(struct upload *u)
{
    for (size_t i = 0; i < PARTS_MAX; i++) spool_end(u->put[i]);
    free(u);
}

static void upload_drop(struct broker *b, struct upload *u)
{
    DL_DELETE(b->upload, u);
    upload_free(u);
}

void upload_forget(struct broker *b, uint64_t task, const struct worker *w)
{
    struct upload *u, *next;

    DL_FOREACH_SAFE(b->upload, u, next)
        if ((!task || u->offer.task == task) && (!w || u->worker == w)) {
            if (u->finishing)
                u->worker = NULL; /* it ends by itself: a finished result is good, whoever made it */
            else
                upload_drop(b, u);
        }
}

bool upload_active(const struct broker *b, uint64_t task, const struct worker *w)
{
    struct upload *u;

    DL_FOREACH(b->upload, u)
        if (u->offer.task == task && u->worker == w) return true;
    return false;
}

static int next_part(struct upload *u, struct err *e)
{
    u->granted_bytes = u->offer.part[u->at].size_bytes < WINDOW_BYTES ? u->offer.part[u->at].size_bytes : WINDOW_BYTES;
    return store_begin(&u->b->store, &u->offer.part[u->at], &u->put[u->at], e);
}

/* Tells the worker why its upload ended; a disk that fails, not just fills, ends the broker. */
static void upload_failed(struct broker *b, const struct upload *u, int rc, const struct err *e)
{
    struct msg m = {.kind = MSG_ERROR, .correlation = u->correlation,
                    .error = {.code = rc == ERR_LIMIT ? WIRE_BUSY : rc == ERR_PROTO ? WIRE_PROTOCOL : WIRE_INVALID,
                              .retry_after_ms = rc == ERR_LIMIT ? 5000 : 0, .text = str_of(e->text)}};

    if (rc == ERR_FORMAT) b->stats.results_damaged++;
    log_warn("upload_failed", "task=%" PRIu64 " error=\"%s\"", u->offer.task, e->text);
    if (rc == ERR_IO || rc == ERR_NOMEM)
        broker_fail(b, e);
    else
        broker_send(b, u->peer, &u->from, &m);
}

int upload_begin(struct broker *b, const struct ask *a, struct msg *ok)
{
    struct upload *u;
    struct err     e = {0};
    int            rc;

    upload_forget(b, a->m->offer.task, a->session->worker);
    u = calloc(1, sizeof *u);
    if (!u) abort();
    *u = (struct upload){.b = b, .offer = a->m->offer, .correlation = a->m->correlation, .peer = a->peer, .from = a->from, .worker = a->session->worker};
    rc = next_part(u, &e);
    if (rc) {
        upload_failed(b, u, rc, &e);
        upload_free(u);
        return rc;
    }
    DL_APPEND(b->upload, u);
    ok->offer_ok.verdict = OFFER_UPLOAD;
    for (size_t i = 0; i < u->offer.n_parts; i++) ok->offer_ok.transfer[i] = u->transfer[i] = ++b->next_transfer;
    ok->offer_ok.credit_bytes = u->granted_bytes;
    return 0;
}

/* Are all parts what the OFFER said? Then they are made durable. On a thread of the syncer if one is a file. */
static int make_durable(void *ctx, struct err *e)
{
    struct upload *u = ctx;
    int            rc = 0;

    for (size_t i = 0; i < u->offer.n_parts && rc == 0; i++) rc = spool_check(u->put[i], e);
    for (size_t i = 0; i < u->offer.n_parts && rc == 0; i++) rc = store_commit(u->put[i], e);
    return rc;
}

static void upload_done(struct upload *u)
{
    struct str bytes[PARTS_MAX] = {{0}};

    for (size_t i = 0; i < u->offer.n_parts; i++) bytes[i] = store_bytes(u->put[i]);
    broker_result(u->b, &u->offer, bytes, u->peer, &u->from, now_ms());
}

static void on_durable(void *ctx, int rc, const struct err *e)
{
    struct upload *u = ctx;
    struct broker *b = u->b;

    if (rc) upload_failed(b, u, rc, e);
    else upload_done(u);
    upload_drop(b, u);
}

/* The current part is all there. */
static int part_over(struct broker *b, struct upload *u, struct err *e) /* 0: u may be gone */
{
    struct msg m = {.kind = MSG_CREDIT};
    int        rc;

    if (++u->at < u->offer.n_parts) {
        if ((rc = next_part(u, e))) return rc;
        m.credit = (struct credit){u->transfer[u->at], u->granted_bytes};
        broker_send(b, u->peer, &u->from, &m);
        return 0;
    }
    for (size_t i = 0; i < u->offer.n_parts; i++) u->finishing |= !store_is_row(&u->offer.part[i]);
    if (u->finishing) {
        syncer_put(b->syncer, make_durable, on_durable, u);
    } else { /* its bytes go with its row */
        if ((rc = make_durable(u, e))) return rc;
        upload_done(u);
        upload_drop(b, u);
    }
    return 0;
}

void on_chunk(struct broker *b, const struct ask *a)
{
    const struct chunk *c = &a->m->chunk;
    struct upload      *u;
    struct err          e = {0};
    uint64_t            size;
    int                 rc;

    DL_FOREACH(b->upload, u)
        if (!u->finishing && u->worker == a->session->worker && u->transfer[u->at] == c->transfer) break;
    if (!u) return; /* ended meanwhile: canceled, or offered again */
    size = u->offer.part[u->at].size_bytes;
    if (c->offset + c->bytes.len > u->granted_bytes)
        rc = err_set(&e, ERR_PROTO, "a chunk of transfer %" PRIu64 " exceeds its credit", c->transfer);
    else if (c->last != (c->offset + c->bytes.len == size))
        rc = err_set(&e, ERR_PROTO, "a chunk of transfer %" PRIu64 " ends at %" PRIu64 " of %" PRIu64 " bytes with last=%d", c->transfer,
                     c->offset + c->bytes.len, size, c->last);
    else
        rc = spool_write(u->put[u->at], c->offset, c->bytes, &e);
    if (rc == 0 && c->last) {
        rc = part_over(b, u, &e);
    } else if (rc == 0 && u->granted_bytes < size) {
        struct msg m = {.kind = MSG_CREDIT, .credit = {.transfer = c->transfer, .credit_bytes = c->bytes.len}};

        if (m.credit.credit_bytes > size - u->granted_bytes) m.credit.credit_bytes = size - u->granted_bytes;
        u->granted_bytes += m.credit.credit_bytes;
        broker_send(b, u->peer, &u->from, &m);
    }
    if (rc == 0) return;
    upload_failed(b, u, rc, &e);
    upload_drop(b, u);
}

/* ---- downloads ---- */
static void download_drop(struct broker *b, struct download *d)
{
    DL_DELETE(b->download, d);
    if (d->session) d->session->n_downloads--;
    if (d->fd >= 0) close(d->fd);
    free(d->bytes);
    free(d);
}

static bool reading(const struct download *d)
{
    return d->fd < 0 && !d->bytes;
}

void download_forget(struct broker *b, const struct session *s)
{
    struct download *d, *next;

    DL_FOREACH_SAFE(b->download, d, next)
    {
        if (d->session != s) continue;
        if (reading(d)) d->session = NULL; /* the journal has it in hand: it goes when that comes back */
        else download_drop(b, d);
    }
}

static bool read_page(const struct download *d, char *page, size_t n)
{
    if (d->fd >= 0) return pread(d->fd, page, n, (off_t)d->at_bytes) == (ssize_t)n;
    memcpy(page, d->bytes + d->at_bytes, n);
    return true;
}

/* Sends what the credit allows, at most a window at a time. True: there is more to send now. Frees d at its end. */
static bool pump(struct broker *b, struct download *d, int64_t now_ms)
{
    static char page[CHUNK_MAX_BYTES];

    for (int i = 0; i < WINDOW_CHUNKS && d->credit_bytes; i++) {
        uint64_t   left = d->part.size_bytes - d->at_bytes;
        size_t     n = CHUNK_MAX_BYTES;
        struct msg m = {.kind = MSG_CHUNK, .chunk = {.transfer = d->transfer, .offset = d->at_bytes}};
        int        rc;

        if (n > left) n = (size_t)left;
        if (n > d->credit_bytes) n = (size_t)d->credit_bytes;
        if (!read_page(d, page, n)) {
            struct msg bad = {.kind = MSG_ERROR, .correlation = d->correlation,
                              .error = {.code = WIRE_INTERNAL, .text = str_of("the broker cannot read this result: fetch it again")}};

            broker_send(b, d->session->peer, &d->session->route, &bad);
            download_drop(b, d);
            return false;
        }
        m.chunk.bytes = (struct str){page, n};
        m.chunk.last = n == left;
        rc = broker_send(b, d->session->peer, &d->session->route, &m);
        if (rc == ERR_BUSY) return true; /* its queue is full: later */
        d->at_bytes += n;
        d->credit_bytes -= n;
        if (rc || m.chunk.last) {
            download_drop(b, d);
            return false;
        }
    }
    d->session->seen_ms = now_ms; /* it takes part */
    return d->credit_bytes != 0;
}

void transfer_pump(void *ctx, int64_t now_ms)
{
    struct broker   *b = ctx;
    struct download *d, *next;
    bool             again = false;

    DL_FOREACH_SAFE(b->download, d, next) again |= d->credit_bytes && !reading(d) && pump(b, d, now_ms);
    if (again) loop_timer_set(b->loop, b->pump_timer, now_ms + PUMP_AGAIN_MS);
}

/* The bytes of a DONE task are gone or damaged: it is made again. */
static void lost_blob(struct broker *b, struct task *t, const struct err *e)
{
    struct journal_req *r = broker_begin(b, JOURNAL_SYNC, NULL, NULL);
    struct outcome     *o = t->out;
    uint64_t            lost_bytes = outcome_bytes(o);

    b->stats.blobs_bad++;
    log_error("blob_bad", "task=%" PRIu64 " error=\"%s\" made_again=true", task_id(t), e->text);
    for (size_t i = 0; i < o->n_parts; i++)
        if (!store_drop_row(&b->store, r, &o->part[i], o->home[i])) store_drop_file(&b->store, &o->part[i]);
    o->n_parts = 0;
    memset(o->home, 0, sizeof o->home);
    if (o->collected_wall_ms)
        task_job(t)->n_collected--;
    else
        task_job(t)->share->tenant->kept_bytes -= lost_bytes;
    o->collected_wall_ms = 0;
    t->leases = t->crashes = t->transients = t->nans = 0; /* it was well once: all its attempts are free again */
    task_move(&b->book, t, TASK_QUEUED);
    queue_push_front(&b->queue, t);
    broker_put_task(r, t);
    broker_commit(b, r);
}

static const struct part *part_of(const struct task *t, enum part_kind kind, size_t *at)
{
    for (*at = 0; *at < t->out->n_parts; ++*at)
        if (t->out->part[*at].kind == kind) return &t->out->part[*at];
    return NULL;
}

static void lost(struct broker *b, const struct ask *a, struct task *t, const struct err *e)
{
    uint64_t id = task_id(t);

    lost_blob(b, t, e);
    broker_error(b, a, WIRE_NOT_FOUND, 0, "the result of task %" PRIu64 " was damaged on the broker's disk: it is being made again", id);
}

/* FETCH_OK, with all the bytes of a small part when its client understands that; then the chunks. d is used up. */
static void serve(struct broker *b, struct download *d, struct str bytes, int64_t now_ms)
{
    struct msg  ok = {.kind = MSG_FETCH_OK, .correlation = d->correlation, .fetch_ok = {.transfer = d->transfer, .part = d->part}};
    bool        whole = bytes.len && d->at_bytes == 0 && d->credit_bytes >= bytes.len && bytes.len <= INLINE_MAX_BYTES && d->session->minor >= 1;

    if (whole) ok.fetch_ok.bytes = bytes;
    broker_send(b, d->session->peer, &d->session->route, &ok);
    if (whole || d->at_bytes == d->part.size_bytes) {
        download_drop(b, d);
        return;
    }
    if (bytes.len) {
        d->bytes = malloc(bytes.len);
        if (!d->bytes) abort();
        memcpy(d->bytes, bytes.at, bytes.len);
    }
    if (pump(b, d, now_ms)) loop_timer_set(b->loop, b->pump_timer, now_ms + PUMP_AGAIN_MS);
}

/* The journal has read a row's bytes. */
static void on_row_read(void *ctx, int rc, struct str bytes, const struct err *e)
{
    struct download *d = ctx;
    struct broker   *b = d->b;
    struct task     *t = book_task(&b->book, d->task);
    struct err       why = *e;

    if (rc == ERR_IO || rc == ERR_STATE || !d->session) {
        if (rc == ERR_IO) broker_fail(b, e);
        download_drop(b, d);
        return;
    }
    if (rc == 0 && !store_right(&d->part, bytes))
        rc = err_set(&why, ERR_FORMAT, "the result row of task %" PRIu64 " does not have its SHA-256", d->task);
    if (rc == 0) {
        serve(b, d, bytes, now_ms());
        return;
    }
    struct msg m = {.correlation = d->correlation};
    struct ask a = {.peer = d->session->peer, .from = d->session->route, .session = d->session, .m = &m, .now_ms = now_ms()};

    if (t && t->state == TASK_DONE && t->seq == d->task_seq && t->out->n_parts)
        lost(b, &a, t, &why);
    else /* it changed while the disk was asked: collected and past its retention, or made again already */
        broker_error(b, &a, WIRE_BUSY, 100, "the result of task %" PRIu64 " is just changing: ask again", d->task);
    download_drop(b, d);
}

/* The part asked for, or NULL: answered. */
static const struct part *fetchable(struct broker *b, const struct ask *a, const struct task *t, size_t *at)
{
    const struct fetch *q = &a->m->fetch;
    const struct part  *p = NULL;

    if (!t || t->state != TASK_DONE)
        broker_error(b, a, WIRE_NOT_FOUND, 0, t ? "task %" PRIu64 " is %s: it has no result" : "there is no task %" PRIu64 "%s", q->task,
                     t ? task_state_name((enum task_state)t->state) : "");
    else if (!(p = part_of(t, q->kind, at)))
        broker_error(b, a, WIRE_NOT_FOUND, 0, t->out->n_parts ? "task %" PRIu64 " has no such part" : "the images of task %" PRIu64 " were collected and their retention has ended", q->task);
    else if (q->offset > p->size_bytes)
        broker_error(b, a, WIRE_INVALID, 0, "offset %" PRIu64 " is past the %" PRIu64 " bytes of the part", q->offset, p->size_bytes);
    else if (a->session->n_downloads >= DOWNLOADS_PER_SESSION)
        broker_error(b, a, WIRE_BUSY, 100, "%d transfers run on this connection: finish one first", DOWNLOADS_PER_SESSION);
    else
        return p;
    return NULL;
}

void on_fetch(struct broker *b, const struct ask *a)
{
    const struct fetch *q = &a->m->fetch;
    struct task        *t = broker_task(b, a, q->task);
    const struct part  *p;
    struct stored       got;
    struct download    *d;
    struct err          e = {0};
    size_t              at;
    int                 rc;

    if (!(p = fetchable(b, a, t, &at))) return;
    rc = store_get(&b->store, p, t->out->home[at], !t->out->verified[at] && !t->out->fresh[at], &got, &e);
    if (rc == ERR_NOTFOUND || rc == ERR_FORMAT) {
        lost(b, a, t, &e);
        return;
    }
    if (rc && rc != ERR_BUSY) {
        log_error("fetch_failed", "task=%" PRIu64 " error=\"%s\"", q->task, e.text);
        broker_error(b, a, WIRE_BUSY, 1000, "the broker cannot open the result now: ask again");
        return;
    }
    t->out->verified[at] = !t->out->fresh[at];
    t->out->fresh[at] = false;
    d = calloc(1, sizeof *d);
    if (!d) abort();
    *d = (struct download){.session = a->session, .transfer = q->transfer, .correlation = a->m->correlation, .at_bytes = q->offset, .b = b,
                           .credit_bytes = q->credit_bytes, .part = *p, .fd = got.fd, .task = q->task, .task_seq = t->seq};
    DL_APPEND(b->download, d);
    a->session->n_downloads++;
    if (rc == ERR_BUSY)
        store_read(&b->store, t->out->home[at], on_row_read, d);
    else
        serve(b, d, got.bytes, a->now_ms);
}

void on_credit(struct broker *b, const struct ask *a)
{
    const struct credit *q = &a->m->credit;
    struct download     *d;

    DL_FOREACH(b->download, d)
        if (d->session == a->session && d->transfer == q->transfer && !reading(d)) break;
    if (!d) return; /* ended meanwhile */
    if (q->credit_bytes > CREDIT_LIMIT_BYTES - d->credit_bytes) {
        b->stats.protocol_errors++;
        broker_error(b, a, WIRE_PROTOCOL, 0, "transfer %" PRIu64 " was given more than %u bytes of credit", q->transfer, CREDIT_LIMIT_BYTES);
        download_drop(b, d);
        return;
    }
    d->credit_bytes += q->credit_bytes;
    if (pump(b, d, a->now_ms)) loop_timer_set(b->loop, b->pump_timer, a->now_ms + PUMP_AGAIN_MS);
}

void transfer_release(struct broker *b)
{
    struct download *d, *next;
    struct upload   *u, *next_upload;

    DL_FOREACH_SAFE(b->download, d, next) download_drop(b, d);
    DL_FOREACH_SAFE(b->upload, u, next_upload) upload_drop(b, u);
}
