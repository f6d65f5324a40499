/* client.c - one question at a time, asked until it is answered.
 * Believes: a socket that is silent is not worth keeping; questions are idempotent, so asking again is always right.
 * Invariants: C1 a question's correlation is never used again.  C2 the arena holds exactly the last answer.
 * C3 an answer with another correlation is old and dropped.
 * Not here: deciding what to ask (follow.c). */
#include "client/client.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/clock.h"
#include "base/hash.h"
#include "proto/peer.h"

#define SLICE_MS      100  /* of every wait, so that Ctrl-C and idle() are heard soon */
#define STOOD_STILL_MS 2000 /* no slice takes so long */
#define ANSWER_MS     3000 /* beyond the question's own waiting: then the socket is given up */
#define PATIENCE_MS   (10 * 60 * 1000)
#define BUSY_SAID_MS  1000 /* a shorter wait is not worth a word */
#define CREDIT_BYTES  ((uint64_t)WINDOW_CHUNKS * CHUNK_MAX_BYTES)
#define SUBMIT_BYTES  (BODY_BIG_MAX_BYTES - 16 * 1024) /* of items in one SUBMIT */
#define ITEM_OVERHEAD 192                              /* an item's bytes beside its texts, generously */

struct client {
    struct client_opts o;
    struct key         key;
    char               endpoint[256], name[NAME_MAX_BYTES + 1];
    struct peer       *peer;
    struct arena       arena; /* the last answer */
    uint8_t            store[KEY_BYTES], instance[KEY_BYTES];
    uint64_t           correlation, transfer;
    int64_t            away_since_ms; /* 0: the broker answers */
    bool               met;           /* it answered once */
    bool               told;          /* away() was called */
    bool               fresh;         /* nothing was said on this socket yet: it goes on connecting by itself */
    int64_t            tick_ms, woke_ms;    /* when it ran last; when it went on after standing still, 0: never */
    int64_t            busy_since_ms; /* 0: the last question was not answered with BUSY */
    bool               busy_told;
};

static int idle(struct client *c, struct err *e)
{
    if (c->o.stop && *c->o.stop) return err_set(e, ERR_CANCELED, "interrupted");
    if (c->peer && peer_refused(c->peer, NULL) == ERR_STATE) return peer_refused(c->peer, e); /* for good: waiting would not help */
    return c->o.idle ? c->o.idle(c->o.ctx, e) : 0;
}

/* Who stood still himself (Ctrl-Z, a closed lid) has not waited meanwhile. For how long it stood; 0: it did not. */
static int64_t tick(struct client *c)
{
    int64_t now = now_ms(), stood = c->tick_ms && now - c->tick_ms > STOOD_STILL_MS ? now - c->tick_ms : 0;

    if (stood) c->woke_ms = now;
    c->tick_ms = now;
    return stood;
}

static void heard(struct client *c)
{
    c->away_since_ms = 0;
    if (c->told && c->o.away) c->o.away(c->o.ctx, false);
    c->told = false;
}

/* The broker was silent: how long may we go on? 0, or ERR_TIMEOUT with the sentence. */
static int silent(struct client *c, int64_t since_ms, struct err *e)
{
    int64_t now = now_ms(), limit = c->met ? c->o.patience_ms : c->o.timeout_ms;

    tick(c);
    if (c->away_since_ms == 0) c->away_since_ms = since_ms;
    if (c->away_since_ms < c->woke_ms) c->away_since_ms = c->woke_ms;
    if (now - c->away_since_ms < limit) {
        if (c->met && !c->told && c->o.away) c->o.away(c->o.ctx, true);
        c->told = c->told || c->met;
        return 0;
    }
    if (!c->met) {
        struct err why = {0};

        if (c->peer && peer_refused(c->peer, &why)) return err_set(e, ERR_TIMEOUT, "no answer within %g s: %.300s", (double)limit / 1000.0, why.text);
        return err_set(e, ERR_TIMEOUT, "no answer from the broker at %.150s within %g s: is zfarm-broker running there?", c->endpoint,
                       (double)limit / 1000.0);
    }
    return err_set(e, ERR_TIMEOUT, "the broker at %.150s has been away for %g s: giving up; what it accepted is kept there", c->endpoint,
                   (double)limit / 1000.0);
}

/* One message within until_ms, later by as long as we stood still. 0; ERR_BUSY: the time is over; else the reason. A malformed message is skipped. */
static int take(struct client *c, int64_t until_ms, struct msg *m, struct err *e)
{
    for (;;) {
        struct err bad = {0};
        int64_t    left = (until_ms += tick(c)) - now_ms();
        int        rc;

        arena_reset(&c->arena, 0);
        rc = peer_recv(c->peer, &c->arena, NULL, m, &bad);
        if (rc == 0) return 0;
        if (rc != ERR_BUSY && rc != ERR_PROTO) {
            if (e) *e = bad;
            return rc;
        }
        rc = idle(c, e);
        if (rc) return rc;
        if (left <= 0 || peer_cut_off(c->peer)) return ERR_BUSY; /* the answer would not come any more */
        rc = peer_wait(c->peer, left < SLICE_MS ? left : SLICE_MS);
        if (rc < 0) return err_set(e, rc, "waiting for the broker at %.150s failed", c->endpoint);
    }
}

/* Sends within until_ms, later by as long as we stood still; ERR_BUSY when the broker is not there to take it. */
static int put(struct client *c, const struct msg *m, int64_t until_ms, struct err *e)
{
    for (;;) {
        int rc = peer_send(c->peer, NULL, m, e);

        if (rc != ERR_BUSY && rc != ERR_NOTFOUND) return rc;
        rc = idle(c, e);
        if (rc) return rc;
        until_ms += tick(c);
        if (now_ms() >= until_ms) return ERR_BUSY;
        sleep_ms(20);
    }
}

static int refused(const struct error *x, struct err *e)
{
    static const int code[] = {
        [WIRE_UNKNOWN_SESSION] = ERR_STATE, [WIRE_PROTOCOL] = ERR_PROTO,    [WIRE_UNSUPPORTED] = ERR_PROTO, [WIRE_INVALID] = ERR_ARG,
        [WIRE_NOT_FOUND] = ERR_NOTFOUND,    [WIRE_CONFLICT] = ERR_CONFLICT, [WIRE_BUSY] = ERR_BUSY,         [WIRE_QUOTA] = ERR_LIMIT,
        [WIRE_INTERNAL] = ERR_STATE,        [WIRE_VERSION] = ERR_PROTO,
        [WIRE_DENIED] = ERR_STATE};
    int rc = x->code >= WIRE_UNKNOWN_SESSION && x->code <= WIRE_DENIED ? code[x->code] : ERR_PROTO;

    return err_set(e, rc, "%.*s", x->text.len ? (int)(x->text.len < 380 ? x->text.len : 380) : 26,
                   x->text.len ? x->text.at : "the broker refused the call");
}

/* A new socket, unless this one still waits for somebody to connect to, and HELLO on it; ERR_BUSY when nobody answers within until_ms. */
static int greet(struct client *c, int64_t until_ms, struct err *e)
{
    struct msg ask = {.kind = MSG_HELLO, .correlation = ++c->correlation}, m;
    int        rc;

    if (!c->fresh) {
        peer_close(c->peer);
        c->peer = NULL;
        rc = peer_connect_as(&c->peer, c->endpoint, c->o.key ? &c->key : NULL, e);
        if (rc) return rc;
        c->fresh = true;
    }
    ask.hello = (struct hello){
        .role = ROLE_CLIENT, .major = WIRE_MAJOR, .minor = WIRE_MINOR, .name = str_of(c->name), .version = str_of(ZFARM_VERSION)};
    memcpy(ask.hello.instance, c->instance, KEY_BYTES);
    rc = put(c, &ask, until_ms, e);
    if (rc) return rc;
    c->fresh = false;
    for (;;) {
        rc = take(c, until_ms, &m, e);
        if (rc) return rc;
        if (m.kind == MSG_ERROR && (m.correlation == ask.correlation || m.correlation == 0)) return refused(&m.error, e);
        if (m.kind == MSG_WELCOME && m.correlation == ask.correlation) break;
    }
    memcpy(c->store, m.welcome.store, KEY_BYTES);
    c->met = true;
    heard(c);
    return 0;
}

/* Greets until somebody answers or the patience is over. */
static int meet(struct client *c, struct err *e)
{
    for (;;) {
        int64_t now = now_ms(), until = now + (c->met ? ANSWER_MS : c->o.timeout_ms);
        int     rc;

        tick(c);
        rc = greet(c, until, e);
        if (rc != ERR_BUSY) return rc;
        rc = silent(c, now, e);
        if (rc) return rc;
        if (now_ms() - now < SLICE_MS) sleep_ms(SLICE_MS); /* connections that end as soon as they stand */
    }
}

static int pause_ms(struct client *c, int64_t ms, struct err *e)
{
    int64_t until = now_ms() + ms;
    int     rc = 0;

    while (rc == 0 && now_ms() < until) {
        sleep_ms(SLICE_MS < ms ? SLICE_MS : ms);
        rc = idle(c, e);
    }
    return rc;
}

/* BUSY, or QUOTA for now: said when it lasts, and waited for. 0: ask again; ERR_TIMEOUT when the patience is over. */
static int busy(struct client *c, const struct error *x, struct err *e)
{
    int64_t now = now_ms(), ms = x->retry_after_ms < 100 ? 100 : x->retry_after_ms > 10000 ? 10000 : x->retry_after_ms;

    if (c->busy_since_ms == 0) c->busy_since_ms = now;
    if (now - c->busy_since_ms + ms >= BUSY_SAID_MS && c->o.busy) {
        c->o.busy(c->o.ctx, x->text);
        c->busy_told = true;
    }
    if (now - c->busy_since_ms >= c->o.patience_ms) {
        return err_set(e, ERR_TIMEOUT, "the broker at %.150s asked to wait for %g s: %.*s", c->endpoint, (double)c->o.patience_ms / 1000.0,
                       (int)(x->text.len < 200 ? x->text.len : 200), x->text.len ? x->text.at : "");
    }
    return pause_ms(c, ms, e);
}

static void not_busy(struct client *c)
{
    c->busy_since_ms = 0;
    if (c->busy_told && c->o.busy) c->o.busy(c->o.ctx, str_of(""));
    c->busy_told = false;
}

/* Is this the answer? 1: yes, in *m. 0: wait on. 2: ask again. <0: ERR_*. */
static int answer(struct client *c, const struct msg *ask, enum msg_kind want, struct msg *m, struct err *e)
{
    int rc;

    if (m->kind == MSG_GOAWAY) return 0; /* silence follows, and is handled as silence */
    if (m->kind == MSG_ERROR && m->correlation == 0 && m->error.code == WIRE_DENIED) return refused(&m->error, e); /* the key was revoked */
    if (m->correlation != ask->correlation) return 0;
    if (m->kind == want) return 1;
    if (m->kind != MSG_ERROR)
        return err_set(e, ERR_PROTO, "the broker answered %s with %s", msg_kind_name(ask->kind), msg_kind_name(m->kind));
    if (m->error.code == WIRE_UNKNOWN_SESSION) {
        rc = meet(c, e);
        return rc ? rc : 2;
    }
    if (m->error.code == WIRE_BUSY || (m->error.code == WIRE_QUOTA && m->error.retry_after_ms)) {
        rc = busy(c, &m->error, e);
        return rc ? rc : 2;
    }
    return refused(&m->error, e);
}

/* The question, until its answer. wait_ms: how long the broker may hold it. */
static int call(struct client *c, struct msg *ask, enum msg_kind want, int64_t wait_ms, struct msg *m, struct err *e)
{
    for (;;) {
        int64_t start = now_ms(), until = start + wait_ms + ANSWER_MS;
        int     rc;

        tick(c);
        ask->correlation = ++c->correlation;
        rc = put(c, ask, until, e);
        while (rc == 0) {
            rc = take(c, until, m, e);
            if (rc == 0) rc = answer(c, ask, want, m, e);
        }
        if (rc == 1) {
            heard(c);
            not_busy(c);
            return 0;
        }
        if (rc == 2) continue;
        if (rc != ERR_BUSY) return rc;
        rc = silent(c, start, e);
        if (rc == 0) rc = meet(c, e);
        if (rc) return rc;
    }
}

int client_open(struct client **out, const struct client_opts *o, struct err *e)
{
    struct client *c;
    int            rc;

    if (!o->endpoint || !o->endpoint[0])
        return err_set(e, ERR_ARG, "the broker's address is empty: as tcp://127.0.0.1:7777 or ipc:///path");
    if (strlen(o->endpoint) >= sizeof c->endpoint)
        return err_set(e, ERR_ARG, "the broker's address passes %zu bytes", sizeof c->endpoint - 1);
    c = calloc(1, sizeof *c);
    if (!c) return err_set(e, ERR_NOMEM, "no memory for a client");
    c->o = *o;
    if (o->key) c->key = *o->key;
    snprintf(c->endpoint, sizeof c->endpoint, "%s", o->endpoint);
    if (o->name) {
        snprintf(c->name, sizeof c->name, "%s", o->name);
    } else {
        char host[64] = "";

        gethostname(host, sizeof host - 1);
        snprintf(c->name, sizeof c->name, "%u@%s:%ld", (unsigned)getuid(), host, (long)getpid());
    }
    if (c->o.timeout_ms <= 0) c->o.timeout_ms = CLIENT_TIMEOUT_MS;
    if (c->o.patience_ms <= 0) c->o.patience_ms = PATIENCE_MS;
    random_bytes(c->instance, sizeof c->instance);
    c->transfer = random_u64() >> 16;
    rc = arena_init(&c->arena, "answer", MSG_ARENA_BYTES);
    if (rc) err_set(e, rc, "no memory for a client");
    if (rc == 0) rc = meet(c, e);
    if (rc) {
        client_close(c);
        return rc;
    }
    *out = c;
    return 0;
}

void client_close(struct client *c)
{
    if (!c) return;
    if (c->peer && c->met) {
        struct msg bye = {.kind = MSG_BYE};

        (void)peer_send(c->peer, NULL, &bye, NULL); /* a courtesy: the broker also notices by itself */
    }
    peer_close(c->peer);
    arena_release(&c->arena);
    key_wipe(&c->key);
    free(c);
}

const char *client_endpoint(const struct client *c)
{
    return c->endpoint;
}

const uint8_t *client_store(const struct client *c)
{
    return c->store;
}

/* How many of item[0..n) fit into one SUBMIT. */
static size_t fits(const struct item *item, size_t n)
{
    size_t bytes = 0, k = 0;

    while (k < n && k < SUBMIT_ITEMS_MAX) {
        const struct item *it = &item[k];

        bytes += it->spec.prompt.len + it->spec.negative.len + it->spec.model.len + it->label.len + ITEM_OVERHEAD;
        if (k && bytes > SUBMIT_BYTES) break;
        k++;
    }
    return k;
}

int client_submit(struct client *c, const uint8_t key[KEY_BYTES], const char *name, const struct item *item, size_t n_items, uint64_t *job,
                  struct err *e)
{
    struct msg ask = {.kind = MSG_SUBMIT}, m;
    uint64_t   n_tasks = 0;

    for (size_t k = 0; k < n_items; k++) n_tasks += item[k].n_images;
    assert(n_tasks > 0 && n_tasks <= JOB_TASKS_MAX);
    memcpy(ask.submit.key, key, KEY_BYTES);
    ask.submit.name = str_of(name);
    ask.submit.n_tasks = (uint32_t)n_tasks;
    ask.submit.job_class = c->o.job_class;
    ask.submit.deadline_ms = c->o.deadline_ms;
    for (size_t at = 0; at < n_items;) {
        int rc;

        ask.submit.n_items = fits(item + at, n_items - at);
        ask.submit.item = (struct item *)(uintptr_t)(item + at); /* not written to */
        rc = call(c, &ask, MSG_SUBMIT_OK, 0, &m, e);
        if (rc) return rc;
        *job = m.submit_ok.job;
        for (size_t k = 0; k < ask.submit.n_items; k++) ask.submit.first_task += item[at + k].n_images;
        at += ask.submit.n_items;
    }
    return 0;
}

int client_events(struct client *c, uint64_t job, uint64_t cursor, uint32_t wait_ms, struct msg *m, struct err *e)
{
    struct msg ask = {.kind = MSG_EVENTS};

    ask.events = (struct events){.job = job, .cursor = cursor, .limit = EVENTS_MAX, .wait_ms = wait_ms};
    return call(c, &ask, MSG_EVENTS_OK, wait_ms, m, e);
}

int client_jobs(struct client *c, uint64_t job, uint32_t limit, struct msg *m, struct err *e)
{
    struct msg ask = {.kind = MSG_JOBS};

    ask.jobs = (struct jobs){.job = job, .limit = limit};
    return call(c, &ask, MSG_JOBS_OK, 0, m, e);
}

int client_show(struct client *c, uint64_t job, uint32_t first_task, uint32_t limit, struct msg *m, struct err *e)
{
    struct msg ask = {.kind = MSG_SHOW};

    ask.show = (struct show){.job = job, .first_task = first_task, .limit = limit};
    return call(c, &ask, MSG_SHOW_OK, 0, m, e);
}

int client_workers(struct client *c, struct msg *m, struct err *e)
{
    struct msg ask = {.kind = MSG_WORKERS};

    return call(c, &ask, MSG_WORKERS_OK, 0, m, e);
}

int client_cancel(struct client *c, uint64_t job, struct cancel_ok *out, struct err *e)
{
    struct msg ask = {.kind = MSG_CANCEL}, m;
    int        rc;

    ask.cancel.job = job;
    rc = call(c, &ask, MSG_CANCEL_OK, 0, &m, e);
    if (rc == 0) *out = m.cancel_ok;
    return rc;
}

static int control(struct client *c, const struct control_ask *q, struct control_ok *out, struct err *e)
{
    struct msg ask = {.kind = MSG_CONTROL}, m;
    int        rc;

    ask.control = *q;
    rc = call(c, &ask, MSG_CONTROL_OK, 0, &m, e);
    if (rc == 0) *out = m.control_ok;
    return rc;
}

int client_requeue(struct client *c, uint64_t job, int64_t index, struct control_ok *out, struct err *e)
{
    return control(c, &(struct control_ask){.verb = CONTROL_REQUEUE, .job = job, .one = index >= 0, .index = index >= 0 ? (uint32_t)index : 0}, out, e);
}

int client_drain(struct client *c, const char *worker, bool undo, struct control_ok *out, struct err *e)
{
    return control(c, &(struct control_ask){.verb = undo ? CONTROL_UNDRAIN : CONTROL_DRAIN, .worker = str_of(worker)}, out, e);
}

int client_pause(struct client *c, const char *whose, bool resume, struct control_ok *out, struct err *e)
{
    return control(c, &(struct control_ask){.verb = resume ? CONTROL_RESUME : CONTROL_PAUSE, .client = str_of(whose)}, out, e);
}

/* Reads the chunks of c->transfer until `bytes` is whole. 0, ERR_BUSY (silence: ask again from where we are), or the reason. */
static int chunks(struct client *c, const struct part *part, struct buf *bytes, struct err *e)
{
    while (bytes->len < part->size_bytes) {
        struct msg m, more = {.kind = MSG_CREDIT};
        int        rc = take(c, now_ms() + ANSWER_MS, &m, e);

        if (rc) return rc;
        if (m.kind == MSG_ERROR && m.correlation == c->correlation) return refused(&m.error, e);
        if (m.kind != MSG_CHUNK || m.chunk.transfer != c->transfer) continue;
        if (m.chunk.offset != bytes->len || m.chunk.bytes.len > part->size_bytes - bytes->len) {
            return err_set(e, ERR_PROTO, "the broker sent a chunk at %" PRIu64 " where %zu was due", m.chunk.offset, bytes->len);
        }
        if (buf_put(bytes, m.chunk.bytes.at, m.chunk.bytes.len))
            return err_set(e, ERR_NOMEM, "no memory for an image of %" PRIu64 " bytes", part->size_bytes);
        if (bytes->len == part->size_bytes) break;
        if (m.chunk.last || m.chunk.bytes.len == 0)
            return err_set(e, ERR_PROTO, "the broker ended a part at %zu of %" PRIu64 " bytes", bytes->len, part->size_bytes);
        more.credit = (struct credit){.transfer = c->transfer, .credit_bytes = m.chunk.bytes.len};
        rc = put(c, &more, now_ms() + ANSWER_MS, e);
        if (rc) return rc;
    }
    return 0;
}

int client_fetch(struct client *c, uint64_t task, const struct part *part, struct buf *bytes, struct err *e)
{
    uint8_t sum[SHA256_BYTES];
    int     rc = ERR_BUSY;

    buf_clear(bytes);
    if (part->size_bytes == 0 || part->size_bytes > PART_MAX_BYTES || part->size_bytes > bytes->max) {
        return err_set(e, ERR_LIMIT, "a part of %" PRIu64 " bytes; the limit is %u", part->size_bytes, PART_MAX_BYTES);
    }
    while (rc == ERR_BUSY) {
        struct msg ask = {.kind = MSG_FETCH}, m;
        int64_t    start = now_ms();

        ask.fetch = (struct fetch){.task = task, .kind = part->kind, .offset = bytes->len, .credit_bytes = CREDIT_BYTES};
        ask.fetch.transfer = ++c->transfer;
        rc = call(c, &ask, MSG_FETCH_OK, 0, &m, e);
        if (rc) return rc;
        if (m.fetch_ok.part.size_bytes != part->size_bytes || memcmp(m.fetch_ok.part.sha256, part->sha256, SHA256_BYTES) != 0) {
            return err_set(e, ERR_PROTO, "the broker offers another part than it announced for task %" PRIu64, task);
        }
        if (m.fetch_ok.bytes.len && bytes->len == 0)
            rc = buf_put(bytes, m.fetch_ok.bytes.at, m.fetch_ok.bytes.len) ? err_set(e, ERR_NOMEM, "no memory for an image of %zu bytes", m.fetch_ok.bytes.len) : 0;
        else
            rc = chunks(c, part, bytes, e);
        if (rc == ERR_BUSY) {
            int again = silent(c, start, e);

            if (again == 0) again = meet(c, e);
            if (again) return again;
        }
    }
    if (rc) return rc;
    sha256_of(bytes->at, bytes->len, sum);
    if (memcmp(sum, part->sha256, sizeof sum) != 0) {
        return err_set(e, ERR_FORMAT, "task %" PRIu64 " arrived with another SHA-256 than its worker computed", task);
    }
    return 0;
}

int client_collected(struct client *c, const uint64_t *task, size_t n_tasks, struct err *e)
{
    struct msg ask = {.kind = MSG_COLLECTED}, m;

    for (size_t at = 0; at < n_tasks;) {
        size_t n = n_tasks - at < COLLECTED_MAX ? n_tasks - at : COLLECTED_MAX;
        int    rc;

        ask.collected = (struct collected){.task = (uint64_t *)(uintptr_t)(task + at), .n_tasks = n}; /* not written to */
        rc = call(c, &ask, MSG_COLLECTED_OK, 0, &m, e);
        if (rc) return rc;
        at += n;
    }
    return 0;
}
