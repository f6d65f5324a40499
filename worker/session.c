/* session.c - what is said to the broker and what its words change. Not here: the engine (child.c), deciding (worker.c). */
#include "worker/session.h"

#include <inttypes.h>
#include <string.h>

#include "base/hash.h"
#include "base/log.h"

#define MESSAGES_MAX     64     /* of one turn */
#define BEATS_MISSED     3      /* then the session is begun anew */
#define ANSWER_MS        10000  /* an OFFER or FAILED unanswered so long is said again */
#define UPLOAD_MS        60000  /* an upload without CREDIT or RESULT_OK for so long is offered again */
#define REFUSALS_MAX     5      /* of one result, busy brokers not counted: then the lease is given back */
#define HELLO_REFUSED_MS 5000
#define BYE_LINGER_MS    500

static void on_message(void *ctx, struct peer *p, int64_t now);

bool session_is_up(const struct worker *w)
{
    return w->session.state == SESSION_UP;
}

int session_open(struct worker *w, struct err *e)
{
    struct session *s = &w->session;
    int             rc;

    if (!s->arena.base) {
        random_bytes(s->instance, sizeof s->instance);
        s->interval_ms = BEAT_MS;
        if (arena_init(&s->arena, "message", MSG_ARENA_BYTES)) return err_set(e, ERR_NOMEM, "no memory for messages");
    }
    if ((rc = peer_connect_as(&s->peer, w->conf.broker, w->conf.key ? &w->key : NULL, e))) return rc;
    if (loop_peer(w->loop, s->peer, on_message, w)) return err_set(e, ERR_LIMIT, "no room in the loop for the broker");
    return 0;
}

static void start(struct worker *w, int64_t now_ms)
{
    struct session *s = &w->session;

    s->state = SESSION_HELLO;
    s->hello_ms = 0;
    s->retry_ms = now_ms;
    s->capacity_said = 0;
}

/* A new socket is a new routing id: the broker sees a new session, and nothing of the old one is still on its way. */
static void begin_anew(struct worker *w, int64_t now)
{
    struct err e = {0};

    loop_peer_gone(w->loop, w->session.peer);
    peer_close(w->session.peer);
    w->session.peer = NULL;
    if (session_open(w, &e)) {
        worker_end(w, e.code, e.text);
        return;
    }
    start(w, now);
}

void session_opened(struct worker *w, int64_t now_ms)
{
    struct session *s = &w->session;

    if (s->state == SESSION_QUIET) {
        start(w, now_ms);
    } else if (s->hello_ms && memcmp(s->digest_said, w->child.model.digest, sizeof s->digest_said) != 0) {
        log_warn("model_changed", "model=%s next=\"a new session\"", w->conf.model);
        begin_anew(w, now_ms);
    }
    session_tick(w, now_ms);
}

static int say(struct worker *w, struct msg *m)
{
    struct err e = {0};
    int        rc;

    if (!w->session.peer) return ERR_BUSY;
    rc = peer_send(w->session.peer, NULL, m, &e);
    if (rc && rc != ERR_BUSY) log_warn("send", "kind=%s why=\"%s\"", msg_kind_name(m->kind), e.text);
    return rc;
}

/* The devices of the engine, as HELLO and BEAT have them; their names are the child's. */
static size_t ranks(const struct child *c, struct rank out[RANKS_MAX])
{
    for (uint32_t i = 0; i < c->model.n_ranks; i++)
        out[i] = (struct rank){.device = str_of(c->model.rank[i].device), .parts = c->model.rank[i].parts, .used_bytes = c->loads.rank[i].used_bytes,
                               .total_bytes = c->loads.rank[i].total_bytes, .busy_permille = c->loads.rank[i].busy_permille};
    return c->model.n_ranks;
}

static void say_hello(struct worker *w, int64_t now)
{
    struct session          *s = &w->session;
    const struct link_model *model = &w->child.model;
    struct held              held[LEASES_MAX];
    struct rank              rank[RANKS_MAX];
    struct model_info        info = {.name = str_of(w->conf.model), .profile = str_of(model->profile), .steps = model->steps,
                                     .guidance = model->guidance};
    struct msg               m = {.kind = MSG_HELLO, .correlation = ++s->correlation};
    int                      rc;

    memcpy(info.digest, model->digest, sizeof info.digest);
    m.hello = (struct hello){.role = ROLE_WORKER, .major = WIRE_MAJOR, .minor = WIRE_MINOR, .name = str_of(w->conf.name),
                             .version = str_of(ZFARM_VERSION), .device = str_of(model->device), .about = str_of(model->about),
                             .capacity = worker_capacity(w), .model = &info, .n_models = 1, .held = held,
                             .max_batch = 1, .rank = rank, .n_ranks = ranks(&w->child, rank)};
    memcpy(m.hello.instance, s->instance, sizeof s->instance);
    for (size_t i = 0; i < LEASES_MAX; i++)
        if (w->works.row[i].state != WORK_FREE) held[m.hello.n_held++] = (struct held){w->works.row[i].task, w->works.row[i].epoch};
    rc = say(w, &m);
    if (rc == ERR_BUSY && !s->said_absent) {
        log_warn("broker_absent", "endpoint=%s next=\"trying until it answers\"", w->conf.broker);
        s->said_absent = true;
    }
    if (rc && rc != ERR_BUSY) worker_end(w, rc, "the worker cannot introduce itself to the broker: see the log");
    if (rc) return;
    s->hello_ms = s->heard_ms = now;
    s->hello_correlation = s->correlation;
    memcpy(s->digest_said, model->digest, sizeof s->digest_said);
    s->capacity_said = m.hello.capacity;
}

static void say_beat(struct worker *w, int64_t now)
{
    struct session *s = &w->session;
    struct progress row[LEASES_MAX];
    struct rank     rank[RANKS_MAX];
    struct msg      m = {.kind = MSG_BEAT, .correlation = ++s->correlation};

    m.beat = (struct beat){.seq = ++s->seq, .engine_restarts = w->child.n_restarts, .progress = row, .rank = rank};
    if (w->child.loads_new) m.beat.n_ranks = ranks(&w->child, rank);
    for (size_t i = 0; i < LEASES_MAX; i++)
        if (w->works.row[i].state != WORK_FREE) row[m.beat.n_progress++] = work_progress(&w->works.row[i], now);
    s->beat_sent_ms = now; /* also when it could not go: silence is then the broker's to explain */
    if (say(w, &m)) return;
    s->moved = false;
    if (m.beat.n_ranks) w->child.loads_new = false;
}

static void say_ready(struct worker *w)
{
    uint32_t   capacity = worker_capacity(w);
    struct msg m = {.kind = MSG_READY, .ready = {capacity}};

    if (capacity != w->session.capacity_said && say(w, &m) == 0) w->session.capacity_said = capacity;
}

/* Its bytes go inside the offer: each part is small, and the broker knows of such offers. */
static bool rides(const struct worker *w, const struct work *k)
{
    for (size_t i = 0; i < k->offer.n_parts; i++)
        if (k->offer.part[i].size_bytes > INLINE_MAX_BYTES) return false;
    return w->session.minor >= 1;
}

static void with_bytes(const struct work *k, struct offer *o)
{
    size_t at = 0;

    for (size_t i = 0; i < o->n_parts; at += o->part[i++].size_bytes)
        o->bytes[i] = (struct str){(const char *)k->bytes + at, (size_t)o->part[i].size_bytes};
}

static void say_offer(struct worker *w, struct work *k, int64_t now)
{
    struct msg m = {.kind = MSG_OFFER, .correlation = ++w->session.correlation, .offer = k->offer};

    m.offer.epoch = k->epoch;
    if (rides(w, k)) with_bytes(k, &m.offer);
    work_say_again(k, now + ANSWER_MS);
    if (say(w, &m)) k->say_ms = now;
    else k->correlation = m.correlation;
}

/* Several small results in one message, when several are due. */
static void say_offers(struct worker *w, int64_t now)
{
    struct offer offer[OFFERS_MAX];
    struct work *said[OFFERS_MAX];
    struct msg   m = {.kind = MSG_OFFERS, .offers = {.offer = offer}};
    size_t       n_bytes = 0;

    for (size_t i = 0; i < LEASES_MAX && m.offers.n_offers < OFFERS_MAX; i++) {
        struct work *k = &w->works.row[i];

        if (k->state != WORK_FINISHED || k->alone || k->uploading || now < k->say_ms || !rides(w, k) || n_bytes + k->n_bytes > BULK_MAX_BYTES) continue;
        n_bytes += k->n_bytes;
        said[m.offers.n_offers] = k;
        offer[m.offers.n_offers] = k->offer;
        offer[m.offers.n_offers].epoch = k->epoch;
        with_bytes(k, &offer[m.offers.n_offers++]);
    }
    if (m.offers.n_offers < 2) return;
    m.correlation = ++w->session.correlation;
    if (say(w, &m)) return;
    for (size_t i = 0; i < m.offers.n_offers; i++) {
        work_say_again(said[i], now + ANSWER_MS);
        said[i]->correlation = m.correlation;
    }
}

static void say_failed(struct worker *w, struct work *k, int64_t now)
{
    struct msg m = {.kind = MSG_FAILED, .correlation = ++w->session.correlation,
                    .failed = {k->task, k->epoch, k->why, str_of(k->text)}};

    work_say_again(k, now + ANSWER_MS);
    if (say(w, &m)) k->say_ms = now;
    else k->correlation = m.correlation;
}

/* As many chunks as credit and queue allow; the rest when more of either is there. */
static void say_chunks(struct worker *w, struct work *k, int64_t now)
{
    while (k->part_now < k->offer.n_parts) {
        size_t        p = k->part_now;
        uint64_t      size = k->offer.part[p].size_bytes, n = size - k->sent_bytes;
        const uint8_t *at = k->bytes + (p ? k->offer.part[0].size_bytes : 0) + k->sent_bytes;
        struct msg    m = {.kind = MSG_CHUNK, .correlation = k->correlation};

        if (n > CHUNK_MAX_BYTES) n = CHUNK_MAX_BYTES;
        if (n > k->credit_bytes[p]) n = k->credit_bytes[p];
        if (n == 0) return;
        m.chunk = (struct chunk){k->transfer[p], k->sent_bytes, k->sent_bytes + n == size, {(const char *)at, (size_t)n}};
        if (say(w, &m)) return;
        k->say_ms = now + UPLOAD_MS;
        k->sent_bytes += n;
        k->credit_bytes[p] -= n;
        if (k->sent_bytes < size) continue;
        k->part_now++;
        k->sent_bytes = 0;
    }
}

void session_say(struct worker *w, int64_t now_ms)
{
    struct session *s = &w->session;

    if (s->state != SESSION_UP) return;
    say_ready(w);
    say_offers(w, now_ms);
    for (size_t i = 0; i < LEASES_MAX; i++) {
        struct work *k = &w->works.row[i];

        if (k->state < WORK_FINISHED) continue;
        if (k->uploading && now_ms < k->say_ms) say_chunks(w, k, now_ms);
        else if (now_ms >= k->say_ms && k->state == WORK_FINISHED) say_offer(w, k, now_ms);
        else if (now_ms >= k->say_ms) say_failed(w, k, now_ms);
    }
    if (s->moved && now_ms - s->beat_sent_ms >= PROGRESS_MS) say_beat(w, now_ms);
}

/* Turned away for its key? It may be made known any time: tried again, on a new socket. */
static bool turned_away(struct worker *w, int64_t now)
{
    struct session *s = &w->session;
    struct err      e = {0};
    int             rc = s->knock_ms ? ERR_STATE : peer_refused(s->peer, &e);

    if (rc && !s->said_refused && e.text[0]) {
        log_error("turned_away", "why=\"%s\" next=\"trying again\"", e.text);
        s->said_refused = true;
    }
    if (rc != ERR_STATE) return false;
    if (!s->knock_ms) s->knock_ms = now + HELLO_REFUSED_MS;
    if (now < s->knock_ms) return true;
    s->knock_ms = 0;
    begin_anew(w, now);
    return true;
}

void session_tick(struct worker *w, int64_t now_ms)
{
    struct session *s = &w->session;
    int64_t         patience = BEATS_MISSED * s->interval_ms;

    if (s->state == SESSION_QUIET || turned_away(w, now_ms)) return;
    if (peer_cut_off(s->peer)) {
        log_info("connection_lost", "next=\"a new session\"");
        begin_anew(w, now_ms);
        return;
    }
    if (s->state == SESSION_HELLO && s->hello_ms == 0) {
        if (now_ms >= s->retry_ms) say_hello(w, now_ms);
        return;
    }
    if (now_ms - s->heard_ms > patience) {
        log_warn("broker_silent", "ms=%" PRId64 " next=\"a new session\"", now_ms - s->heard_ms);
        begin_anew(w, now_ms);
        return;
    }
    if (s->state == SESSION_UP && now_ms - s->beat_sent_ms >= s->interval_ms) say_beat(w, now_ms);
    session_say(w, now_ms);
}

void session_release(struct worker *w, struct work *k, const char *why)
{
    struct msg m = {.kind = MSG_RELEASE, .release = {k->task, k->epoch, str_of(why)}};

    if (session_is_up(w)) say(w, &m); /* unsaid, the broker learns it from BYE or from silence */
    log_info("release", "task=%" PRIu64 " why=\"%s\"", k->task, why);
    worker_forget(w, k);
}

void session_close(struct worker *w, bool bye)
{
    struct session *s = &w->session;
    struct msg      m = {.kind = MSG_BYE};

    if (s->peer) {
        if (bye && s->state == SESSION_UP && say(w, &m) == 0) peer_linger(s->peer, BYE_LINGER_MS);
        loop_peer_gone(w->loop, s->peer);
        peer_close(s->peer);
        s->peer = NULL;
    }
    arena_release(&s->arena);
    s->state = SESSION_QUIET;
}

static void on_welcome(struct worker *w, const struct welcome *m, int64_t now)
{
    struct session *s = &w->session;

    if (s->state != SESSION_HELLO) return;
    s->state = SESSION_UP;
    s->said_absent = s->said_refused = false;
    s->minor = m->minor;
    s->interval_ms = m->beat_ms;
    s->beat_sent_ms = now;
    log_info("connected", "endpoint=%s boot=%" PRIu64, w->conf.broker, m->boot_id);
    for (size_t i = 0; i < m->n_drop; i++) {
        struct work *k = works_find(&w->works, m->drop[i].task);
        if (k && k->epoch == m->drop[i].epoch) worker_forget(w, k);
    }
    for (size_t i = 0; i < LEASES_MAX; i++)
        if (w->works.row[i].state >= WORK_FINISHED) work_say_again(&w->works.row[i], now);
    s->capacity_said = UINT32_MAX; /* READY follows in any case */
}

static void on_lease(struct worker *w, const struct lease *m, int64_t now)
{
    struct work *k = works_find(&w->works, m->task);
    struct err   e = {0};
    struct msg   back = {.kind = MSG_RELEASE, .release = {m->task, m->epoch, {0}}};

    if (k && k->state != WORK_FAILED) { /* ours already; a newer lease of it is the same work */
        k->epoch = m->epoch;
        return;
    }
    if (k) work_drop(k); /* failed under an older lease: tried again */
    if (w->draining) back.release.why = str_of("the worker is draining");
    else if (m->spec.model.len && !str_is(m->spec.model, w->conf.model)) back.release.why = str_of("the worker has no such model");
    else if (work_take(&w->works, m, now, &k, &e)) back.release.why = str_of(e.text);
    else {
        log_info("lease", "task=%" PRIu64 " job=%" PRIu64 " index=%u size=%dx%d", m->task, m->job, m->index, m->spec.width_px, m->spec.height_px);
        worker_feed(w, now);
        return;
    }
    log_warn("lease_refused", "task=%" PRIu64 " why=\"%s\"", m->task, back.release.why.at);
    say(w, &back);
}

static void on_beat_ok(struct worker *w, const struct beat_ok *m, int64_t now)
{
    for (size_t i = 0; i < m->n_cancel; i++) {
        struct work *k = works_find(&w->works, m->cancel[i].task);
        if (k && k->epoch == m->cancel[i].epoch) worker_cancel(w, k, now); /* not a newer lease of it */
    }
    for (size_t i = 0; i < m->n_recall; i++) {
        struct work *k = works_find(&w->works, m->recall[i].task);
        if (k && k->epoch == m->recall[i].epoch && k->state == WORK_WAITING && !k->canceled)
            session_release(w, k, "called back for somebody who waits");
    }
}

static void on_offer_ok(struct worker *w, const struct msg *m, int64_t now)
{
    struct work *k = works_find(&w->works, m->offer_ok.task);

    if (!k || k->state != WORK_FINISHED || k->correlation != m->correlation) return; /* of an older offer */
    if (m->offer_ok.verdict != OFFER_UPLOAD) {
        log_info("result_not_needed", "task=%" PRIu64 " why=%s", k->task, m->offer_ok.verdict == OFFER_HAVE ? "have" : "drop");
        worker_forget(w, k);
        return;
    }
    for (size_t i = 0; i < k->offer.n_parts; i++) k->transfer[i] = m->offer_ok.transfer[i];
    k->credit_bytes[0] = m->offer_ok.credit_bytes;
    k->uploading = true;
    k->say_ms = now + UPLOAD_MS;
}

static void on_offers_ok(struct worker *w, const struct msg *m, int64_t now)
{
    for (size_t i = 0; i < m->offers_ok.n_offers; i++) {
        const struct offer_ok *o = &m->offers_ok.offer[i];
        struct work           *k = works_find(&w->works, o->task);

        if (!k || k->state != WORK_FINISHED || k->correlation != m->correlation) continue;
        if (o->verdict != OFFER_UPLOAD) {
            worker_forget(w, k);
            continue;
        }
        k->alone = true;
        work_say_again(k, now);
    }
}

static void on_credit(struct worker *w, const struct credit *m, int64_t now)
{
    size_t       part;
    struct work *k = works_by_transfer(&w->works, m->transfer, &part);

    if (!k) return; /* a transfer that has ended */
    k->credit_bytes[part] += m->credit_bytes;
    k->say_ms = now + UPLOAD_MS;
}

static void on_refused(struct worker *w, struct work *k, const struct error *m, int64_t now)
{
    if (m->code == WIRE_NOT_FOUND) {
        worker_forget(w, k);
        return;
    }
    if (m->code != WIRE_BUSY && ++k->n_refused >= REFUSALS_MAX) {
        session_release(w, k, "the broker refused the result again and again");
        return;
    }
    k->alone = true;
    work_say_again(k, now + (m->retry_after_ms > 1000 ? m->retry_after_ms : 1000));
}

static void on_error(struct worker *w, const struct msg *m, int64_t now)
{
    struct session *s = &w->session;
    struct work    *k = works_by_correlation(&w->works, m->correlation);
    char            text[ERR_TEXT_BYTES];
    size_t          len = m->error.text.len < sizeof text - 1 ? m->error.text.len : sizeof text - 1;

    memcpy(text, m->error.text.at, len);
    text[len] = 0;
    if (m->error.code == WIRE_UNKNOWN_SESSION) {
        log_info("session_unknown", "next=\"a new session\"");
        begin_anew(w, now);
        return;
    }
    if (m->error.code == WIRE_DENIED && s->state != SESSION_HELLO) { /* the key was revoked: the door says so, too */
        log_error("turned_away", "why=\"%s\" next=\"trying again\"", text);
        begin_anew(w, now);
        return;
    }
    log_warn("broker_error", "code=%d text=\"%s\"", (int)m->error.code, text);
    if (k) on_refused(w, k, &m->error, now);
    else if (m->error.code == WIRE_VERSION) worker_end(w, ERR_PROTO, text);
    else if (m->error.code == WIRE_DENIED) worker_end(w, ERR_STATE, text); /* not a worker's key */
    else if (s->state == SESSION_HELLO && m->correlation == s->hello_correlation) {
        s->hello_ms = 0;
        s->retry_ms = now + (m->error.retry_after_ms > HELLO_REFUSED_MS ? m->error.retry_after_ms : HELLO_REFUSED_MS);
    }
}

/* epoch 0: a result is good under any lease; a failure is that of one. */
static void forget_answered(struct worker *w, uint64_t task, uint64_t epoch, enum work_state state)
{
    struct work *k = works_find(&w->works, task);

    if (k && k->state == state && (epoch == 0 || k->epoch == epoch)) worker_forget(w, k);
}

static void on_kind(struct worker *w, const struct msg *m, int64_t now)
{
    switch (m->kind) {
    case MSG_WELCOME: on_welcome(w, &m->welcome, now); return;
    case MSG_LEASE: on_lease(w, &m->lease, now); return;
    case MSG_BEAT_OK: on_beat_ok(w, &m->beat_ok, now); return;
    case MSG_LEASES:
        for (size_t i = 0; i < m->leases.n_leases; i++) on_lease(w, &m->leases.lease[i], now);
        return;
    case MSG_OFFER_OK: on_offer_ok(w, m, now); return;
    case MSG_OFFERS_OK: on_offers_ok(w, m, now); return;
    case MSG_CREDIT: on_credit(w, &m->credit, now); return;
    case MSG_RESULT_OK: forget_answered(w, m->result_ok.task, 0, WORK_FINISHED); return;
    case MSG_FAILED_OK: forget_answered(w, m->failed_ok.task, m->failed_ok.epoch, WORK_FAILED); return;
    case MSG_ERROR: on_error(w, m, now); return;
    case MSG_GOAWAY: log_info("broker_goes", "next=\"it is looked for again\""); return;
    default: log_warn("unexpected", "kind=%s", msg_kind_name(m->kind)); return;
    }
}

static void on_message(void *ctx, struct peer *p, int64_t now)
{
    struct worker *w = ctx;

    for (int i = 0; i < MESSAGES_MAX && w->session.peer == p; i++) {
        struct msg m;
        struct err e = {0};
        int        rc;

        arena_reset(&w->session.arena, 0);
        rc = peer_recv(p, &w->session.arena, NULL, &m, &e);
        if (rc == ERR_BUSY) break;
        if (rc == ERR_IO) {
            log_warn("receive", "why=\"%s\"", e.text);
            break;
        }
        w->session.heard_ms = now;
        if (rc) log_warn("broker_nonsense", "kind=%s why=\"%s\"", msg_kind_name(m.kind), e.text);
        else on_kind(w, &m, now);
    }
    session_say(w, now);
}
