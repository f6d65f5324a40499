/* broker.c - start, loop, and promises: answers that leave when the journal has written what they promise.
 * Believes: one loop thread. A failure of the disk ends the process (EXIT_DISK): the next start reads the truth from the journal.
 * Invariants: every task_move() is followed, in the same handler, by its row in a request; so book.seq at broker_commit() covers it.
 * Not here: sessions and keys (broker_session.c), what messages do (broker_client.c, broker_worker.c, transfer.c), leasing (broker_lease.c), reading the journal at the start (restore.c). */
#include "broker/broker.h"

#include <assert.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>
#include <utlist.h>

#include "base/clock.h"
#include "base/file.h"
#include "broker/restore.h"

#define TICK_MS         500
#define BYTES_PER_PX    3    /* of a result that is not there yet: an image that does not compress */
#define STEP_MS         60000 /* the wall clock was set, when it moved so far against the other one since it was asked last */
#define LOOK_MS         50   /* at the free disk, at most so often */
#define STALL_MS        1000 /* a longer gap between two ticks is forgiven to all workers */
#define PURGE_MS        60000
#define STOP_MS         5000
#define MESSAGES_A_TURN 64

/* ---- sending ---- */
/* ZeroMQ counts the messages it holds for a peer, not their bytes, and a thousand answers may be a thousand MiB. */
bool session_behind(struct session *s)
{
    uint64_t arrived;

    if (s->owed_bytes <= OWED_MAX_BYTES) return false;
    arrived = peer_arrived(&s->route, &s->arrived_mark);
    s->owed_bytes -= arrived < s->owed_bytes ? arrived : s->owed_bytes;
    return s->owed_bytes > OWED_MAX_BYTES;
}

int broker_send(struct broker *b, struct peer *p, const struct route *to, const struct msg *m)
{
    struct err      e = {0};
    struct session *s = m->kind == MSG_CHUNK ? NULL : broker_session(b, p, to);
    int             rc = s && session_behind(s) ? err_set(&e, ERR_BUSY, "it has not read what it was sent") : peer_send(p, to, m, &e);

    if (rc == 0 && s) s->owed_bytes += peer_sent_bytes(p);
    if (rc == 0) return 0;
    b->stats.sends_refused++;
    if (rc == ERR_BUSY || rc == ERR_NOTFOUND)
        log_debug("send_refused", "kind=%s error=\"%s\"", msg_kind_name(m->kind), e.text);
    else
        log_error("send_failed", "kind=%s error=\"%s\"", msg_kind_name(m->kind), e.text);
    return rc;
}

void broker_reply(struct broker *b, const struct ask *a, struct msg *m)
{
    m->correlation = a->m->correlation;
    broker_send(b, a->peer, &a->from, m);
}

void broker_error(struct broker *b, const struct ask *a, enum wire_error code, uint32_t retry_after_ms, const char *fmt, ...)
{
    char       text[ERROR_MAX_BYTES + 1];
    struct msg m = {.kind = MSG_ERROR, .error = {.code = code, .retry_after_ms = retry_after_ms}};
    va_list    ap;

    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    m.error.text = str_of(text);
    log_debug("refused", "kind=%s text=\"%s\"", msg_kind_name(a->m->kind), text);
    broker_reply(b, a, &m);
}

/* ---- promises ---- */
void broker_fail(struct broker *b, const struct err *e)
{
    if (b->closing || b->exit_code == EXIT_DISK) return;
    b->exit_code = EXIT_DISK;
    b->fatal = *e;
    log_error("disk_failed", "error=\"%s\"", e->text);
    loop_stop(b->loop);
}

static void on_promise(void *ctx, int rc, const struct err *e)
{
    struct promise *p = ctx;

    if (rc) {
        broker_fail(p->b, e);
    } else {
        book_durable(&p->b->book, p->seq);
        if (p->m.kind) broker_send(p->b, p->peer, &p->to, &p->m);
    }
    free(p);
}

struct journal_req *broker_begin_rows(struct broker *b, enum journal_mode mode, size_t n)
{
    struct promise *p = calloc(1, sizeof *p + n * sizeof *p->offer_ok);

    if (!p) abort();
    p->b = b;
    return journal_req(mode, on_promise, p);
}

struct journal_req *broker_begin(struct broker *b, enum journal_mode mode, const struct ask *a, const struct msg *m)
{
    struct journal_req *r = broker_begin_rows(b, mode, 0);

    if (a && m) broker_promise(r, a, m);
    return r;
}

void broker_promise(struct journal_req *r, const struct ask *a, const struct msg *m)
{
    struct promise *p = journal_ctx(r);

    p->peer = a->peer;
    p->to = a->from;
    p->m = *m;
    p->m.correlation = a->m->correlation;
}

void broker_commit(struct broker *b, struct journal_req *r)
{
    struct promise *p = journal_ctx(r);

    p->seq = b->book.seq;
    journal_send(b->journal, r);
}

void broker_put_task(struct journal_req *r, const struct task *t)
{
    const struct outcome *o = t->out;
    struct task_row row = {.task = task_id(t), .seq = t->seq, .epoch = t->grant ? t->grant->epoch : 0, .state = t->state, .leases = t->leases,
                           .crashes = t->crashes, .transients = t->transients, .nans = t->nans};

    if (o) {
        row.took_ms = o->took_ms;
        row.collected_wall_ms = o->collected_wall_ms;
        row.n_parts = o->n_parts;
        memcpy(row.part, o->part, sizeof row.part);
        memcpy(row.home, o->home, sizeof row.home);
        row.worker = str_of(o->worker);
        row.error = str_of(o->error);
    }
    journal_put_task(r, &row);
}

void broker_put_job(struct journal_req *r, struct job *j, bool only_when_over)
{
    bool           over = j->n_known == j->n_tasks && j->n[TASK_QUEUED] + j->n[TASK_RUNNING] == 0;
    struct job_row row;

    if (only_when_over && !over) return;
    j->changed_wall_ms = wall_ms();
    row = (struct job_row){.job = j->id, .name = str_of(j->name), .model = str_of(j->model), .n_tasks = j->n_tasks,
                           .created_wall_ms = j->created_wall_ms, .changed_wall_ms = j->changed_wall_ms, .canceled = j->canceled,
                           .client = str_of(j->share->key.client), .job_class = j->share->key.job_class, .deadline_ms = j->deadline_ms};
    memcpy(row.key, j->key, KEY_BYTES);
    journal_put_job(r, &row);
}

bool broker_disk_low(struct broker *b, uint64_t need_bytes)
{
    int64_t now = now_ms();

    if (now - b->looked_ms >= LOOK_MS || !b->looked_ms) { /* asked for every result: the answer of a moment ago will do */
        b->looked_ms = now;
        b->free_bytes = file_free_bytes(b->conf.data);
    }
    return journal_full(b->journal) || (b->free_bytes >= 0 && (uint64_t)b->free_bytes < need_bytes + SPARE_BYTES);
}

static const struct {
    broker_on_f *f;
    enum role    role;  /* 0: both */
    bool         reads; /* changes nothing: not begun for who does not read the answers either */
} handler[] = {
    [MSG_BYE] = {on_bye, 0},
    [MSG_SUBMIT] = {on_submit, ROLE_CLIENT},
    [MSG_CANCEL] = {on_cancel, ROLE_CLIENT},
    [MSG_JOBS] = {on_jobs, ROLE_CLIENT, true},
    [MSG_SHOW] = {on_show, ROLE_CLIENT, true},
    [MSG_EVENTS] = {on_events, ROLE_CLIENT},
    [MSG_FETCH] = {on_fetch, ROLE_CLIENT, true},
    [MSG_COLLECTED] = {on_collected, ROLE_CLIENT},
    [MSG_WORKERS] = {on_workers, ROLE_CLIENT, true},
    [MSG_CONTROL] = {on_control, ROLE_CLIENT},
    [MSG_CREDIT] = {on_credit, ROLE_CLIENT},
    [MSG_READY] = {on_ready, ROLE_WORKER},
    [MSG_BEAT] = {on_beat, ROLE_WORKER},
    [MSG_OFFER] = {on_offer, ROLE_WORKER},
    [MSG_OFFERS] = {on_offers, ROLE_WORKER},
    [MSG_FAILED] = {on_failed, ROLE_WORKER},
    [MSG_RELEASE] = {on_release, ROLE_WORKER},
    [MSG_CHUNK] = {on_chunk, ROLE_WORKER},
};

static void handle(struct broker *b, struct ask *a)
{
    unsigned kind = a->m->kind;

    if (kind == MSG_HELLO) {
        on_hello(b, a);
        return;
    }
    if (!a->session) {
        if (kind != MSG_BYE) broker_error(b, a, WIRE_UNKNOWN_SESSION, 0, "say HELLO first: this broker does not know you (any more)");
        return;
    }
    a->session->seen_ms = a->now_ms;
    if (a->session->worker) a->session->worker->seen_ms = a->now_ms;
    if (kind >= sizeof handler / sizeof *handler || !handler[kind].f) {
        b->stats.protocol_errors++;
        broker_error(b, a, WIRE_UNSUPPORTED, 0, "%s is not a message for a broker", msg_kind_name(a->m->kind));
    } else if (handler[kind].role && handler[kind].role != a->session->role) {
        b->stats.protocol_errors++;
        broker_error(b, a, WIRE_PROTOCOL, 0, "%s is a %s's message, and you said HELLO as a %s", msg_kind_name(a->m->kind),
                     handler[kind].role == ROLE_CLIENT ? "client" : "worker", a->session->role == ROLE_CLIENT ? "client" : "worker");
    } else if (!gate_may_say(a->session->rank, a->m)) {
        b->stats.denied++;
        broker_error(b, a, WIRE_DENIED, 0, "%s is a %s here: this is for admins (zfarm-keys add NAME --role admin)", a->session->account,
                     key_role_name(a->session->rank));
    } else if (handler[kind].reads && session_behind(a->session)) {
        b->stats.sends_refused++;
    } else {
        handler[kind].f(b, a);
    }
}

static void on_message(void *ctx, struct peer *p, int64_t now)
{
    struct broker *b = ctx;

    for (int i = 0; i < MESSAGES_A_TURN; i++) {
        struct msg m;
        struct err e = {0};
        struct ask a = {.peer = p, .m = &m, .now_ms = now};
        int        rc;

        arena_reset(&b->in, 0);
        rc = peer_recv(p, &b->in, &a.from, &m, &e);
        if (rc == ERR_BUSY) break;
        if (rc == 0 || a.from.len) a.session = broker_session(b, p, &a.from);
        if ((rc == 0 || rc == ERR_PROTO) && a.from.len && !broker_lets(b, &a)) continue;
        if (rc == 0) {
            handle(b, &a);
        } else if (rc == ERR_PROTO) {
            b->stats.protocol_errors++;
            log_debug("bad_message", "error=\"%s\"", e.text);
            if (a.from.len) broker_error(b, &a, a.session && m.kind == MSG_SUBMIT ? WIRE_INVALID : WIRE_PROTOCOL, 0, "%s", e.text);
        } else {
            log_error("receive_failed", "error=\"%s\"", e.text);
            break;
        }
    }
    broker_settle(b, now);
}

static void stop_when_quiet(struct broker *b);

static void on_synced(void *ctx, int fd, int64_t now)
{
    struct broker *b = ctx;

    (void)fd;
    syncer_reap(b->syncer);
    stop_when_quiet(b);
    broker_settle(b, now);
}

static void on_journal(void *ctx, int fd, int64_t now)
{
    struct broker *b = ctx;

    (void)fd;
    journal_reap(b->journal);
    broker_settle(b, now);
    broker_news(b, now);
}

/* ---- time ---- */
static void on_progress_tick(void *ctx, int64_t now)
{
    broker_wake(ctx, now);
}

static void expire(struct broker *b, int64_t now)
{
    struct journal_req *r = NULL;
    struct worker      *w;
    struct grant       *g, *next;
    struct session     *s, *next_session;

    while ((w = roster_lost(&b->roster, now))) {
        b->stats.workers_lost++;
        broker_worker_gone(b, w, "silent too long", now);
    }
    DL_FOREACH(b->roster.worker, w)
    DL_FOREACH_SAFE(w->grant, g, next)
    {
        struct task *t = g->task;

        if (!t || now < g->deadline_ms) continue;
        log_warn("budget_passed", "task=%" PRIu64 " worker=\"%s\"", g->task_id, w->name);
        if (!r) r = broker_begin(b, JOURNAL_SYNC, NULL, NULL);
        t->avoid = w->id;
        broker_ungrant(b, g, true);
        broker_requeue(b, r, t, 0, now);
    }
    if (b->grace && now >= b->grace_until_ms) {
        b->grace = false;
        DL_FOREACH_SAFE(b->roster.orphans, g, next)
        {
            struct task *t = g->task;

            if (!r) r = broker_begin(b, JOURNAL_SYNC, NULL, NULL);
            broker_ungrant(b, g, false);
            broker_requeue(b, r, t, 0, now);
        }
    }
    for (struct job *j = b->book.due, *next_due; j; j = next_due) {
        next_due = j->next_due;
        if (now < j->due_ms) continue;
        if (!r) r = broker_begin(b, JOURNAL_SYNC, NULL, NULL);
        broker_job_expire(b, r, j);
    }
    if (r) broker_commit(b, r);
    HASH_ITER(hh, b->session, s, next_session)
        if (s->role == ROLE_CLIENT && !s->n_waiters && now - s->seen_ms > CLIENT_FORGET_MS) broker_session_drop(b, s);
}

/* What is being made will want room; when it is gone, or comes back, everybody who waits is told. */
static void look_at_disk(struct broker *b)
{
    struct worker *w;
    struct grant  *g;
    struct job    *j, *next;
    bool           low;

    b->reserve_bytes = 0;
    DL_FOREACH(b->roster.worker, w)
    DL_FOREACH(w->grant, g)
        if (g->task) b->reserve_bytes += (uint64_t)lot_px(g->task->lot) * BYTES_PER_PX;
    low = broker_disk_low(b, b->reserve_bytes);
    if (low == b->disk_low) return;
    b->disk_low = low;
    if (low) log_warn("disk_low", "free_bytes=%" PRId64 " next=\"no new work, and nothing is leased\"", b->free_bytes);
    else log_info("disk_low_over", "free_bytes=%" PRId64, b->free_bytes);
    HASH_ITER(by_id, b->book.by_id, j, next) j->tick = ++b->book.tick;
}

int64_t broker_wall(struct broker *b)
{
    int64_t wall = wall_ms(), ahead = wall - now_ms(), step = ahead - b->wall_ahead_ms;

    b->wall_ahead_ms = ahead;
    if (step <= -STEP_MS || step >= STEP_MS) {
        b->stepped_ms += step;
        log_warn("clock_set", "by_ms=%" PRId64 " next=\"what is kept for a time is kept as long as before\"", step);
    }
    return wall - b->stepped_ms;
}

static void on_tick(void *ctx, int64_t now)
{
    struct broker *b = ctx;
    int64_t        gap = now - b->tick_ms - TICK_MS, wall;

    if (gap > STALL_MS) { /* stopped, or a disk hung: what the workers said meanwhile is still in the sockets */
        b->stats.stalls_forgiven++;
        log_warn("stalled", "gap_ms=%" PRId64, gap);
        roster_forgive(&b->roster, gap, now);
        b->grace_until_ms += gap;
    }
    b->tick_ms = now;
    if (b->stopping) {
        if (now >= b->stop_by_ms) loop_stop(b->loop);
        return;
    }
    look_at_disk(b);
    wall = broker_wall(b);
    broker_keys_again(b, false, now);
    b->stats.handshakes_failed = 0;
    for (size_t i = 0; i < b->n_peers; i++) b->stats.handshakes_failed += peer_n_refused(b->peer[i]);
    expire(b, now);
    queue_age(&b->queue);
    if (now >= b->purge_ms) {
        b->purge_ms = restore_purge(b, wall < wall_ms() ? wall : wall_ms()) ? now : now + PURGE_MS;
        tenants_sweep(&b->book.tenant, now);
        standing_sweep(&b->roster.standing, now);
    }
    restore_expire(b, wall);
    broker_settle(b, now);
}

static void on_stopped(void *ctx, int rc, const struct err *e)
{
    struct broker *b = ctx;

    if (rc)
        broker_fail(b, e);
    else
        loop_stop(b->loop);
}

/* All that was begun is made durable, written and answered before the end: first the results, then the rows. */
static void stop_when_quiet(struct broker *b)
{
    if (!b->stopping || b->drained || syncer_n(b->syncer)) return;
    b->drained = true;
    journal_send(b->journal, journal_req(JOURNAL_SYNC, on_stopped, b));
}

static void on_signal(void *ctx, int signo, int64_t now)
{
    struct broker  *b = ctx;
    struct session *s, *next;
    struct msg      m = {.kind = MSG_GOAWAY, .error = {.code = WIRE_BUSY, .retry_after_ms = 1000, .text = str_of("the broker is shutting down")}};

    if (signo == SIGHUP) broker_keys_again(b, true, now);
    if (signo != SIGTERM && signo != SIGINT) return;
    log_info("stopping", "signal=%d", signo);
    if (b->stopping) {
        loop_stop(b->loop);
        return;
    }
    b->stopping = true;
    b->stop_by_ms = now + STOP_MS;
    HASH_ITER(hh, b->session, s, next) broker_send(b, s->peer, &s->route, &m);
    stop_when_quiet(b);
}

/* ---- opening and closing ---- */
static int say_ready(const struct broker *b, struct err *e)
{
    const char *at = peer_endpoint(b->peer[0]);

    for (size_t i = 0; i < b->n_peers; i++) log_info("listening", "endpoint=%s keys=%s", peer_endpoint(b->peer[i]), peer_keyed(b->peer[i]) ? "asked" : "none");
    if (b->conf.ready_fd < 0) return 0;
    if (dprintf(b->conf.ready_fd, "%s\n", at) < 0) return err_errno(e, ERR_IO, "writing to --ready-fd %d", b->conf.ready_fd);
    close(b->conf.ready_fd);
    return 0;
}

int broker_open(struct broker **out, const struct broker_conf *c, struct err *e)
{
    struct broker *b = calloc(1, sizeof *b);
    struct rlimit  files;
    int64_t        now = now_ms();
    int            rc;

    if (!b) return err_set(e, ERR_NOMEM, "no memory for a broker");
    b->conf = *c;
    b->tick_ms = b->queue.now_ms = now;
    b->wall_ahead_ms = wall_ms() - now;
    b->purge_ms = now + PURGE_MS;
    if ((rc = arena_init(&b->in, "message", MSG_ARENA_BYTES)) || (rc = arena_init(&b->out, "answer", MSG_ARENA_BYTES))) {
        err_set(e, rc, "no memory for messages");
        goto done;
    }
    if ((rc = loop_open(&b->loop, e)) || (rc = loop_signal(b->loop, on_signal, b, e))) goto done; /* before any thread */
    if ((rc = gate_open(&b->gate, c->keys, e))) goto done;
    if ((rc = journal_open(&b->journal, c->data, e)) || (rc = store_open(&b->store, c->data, b->journal, e)) || (rc = syncer_open(&b->syncer, e)) ||
        (rc = restore_all(b, e)))
        goto done;
    b->crash_loop = c->crash_guard && journal_n_unclean(b->journal) >= c->crash_guard;
    b->paused |= b->crash_loop;
    if (b->crash_loop) log_error("crash_loop", "starts=%d within_min=5 dispatch=paused next=\"find out why, then zfarm resume\"", journal_n_unclean(b->journal));
    b->grace = b->roster.orphans != NULL;
    b->grace_until_ms = now + RESTART_GRACE_MS;
    if ((rc = journal_start(b->journal, e))) goto done;
    for (; b->n_peers < c->n_listen && !rc; b->n_peers += rc == 0)
        rc = peer_bind(&b->peer[b->n_peers], c->listen[b->n_peers], &(struct peer_opts){.key = gate_key(&b->gate)}, e);
    if (rc) goto done;
    if (getrlimit(RLIMIT_NOFILE, &files)) files.rlim_cur = 1024;
    b->sessions_max = files.rlim_cur / 5 * 4; /* the rest is for the spool and for handshakes */
    loop_fd(b->loop, journal_fd(b->journal), on_journal, b);
    loop_fd(b->loop, syncer_fd(b->syncer), on_synced, b);
    for (size_t i = 0; i < b->n_peers; i++) loop_peer(b->loop, b->peer[i], on_message, b);
    loop_timer(b->loop, TICK_MS, on_tick, b);
    loop_timer(b->loop, PROGRESS_MS, on_progress_tick, b);
    b->pump_timer = loop_timer(b->loop, 60000, transfer_pump, b);
    rc = say_ready(b, e);
done:
    if (rc)
        broker_close(b);
    else
        *out = b;
    return rc;
}

int broker_run(struct broker *b, struct err *e)
{
    char text[1000];
    int  rc = loop_run(b->loop, e);

    gate_count(&b->gate, &b->stats.keys_let_in, &b->stats.keys_refused);
    stats_text(&b->stats, text, sizeof text);
    log_info("stopped", "%s", text);
    if (b->exit_code) {
        if (e) *e = b->fatal;
        return b->exit_code;
    }
    return rc ? 1 : 0;
}

void broker_close(struct broker *b)
{
    struct session *s, *next;
    struct worker  *w, *next_worker;
    struct grant   *g, *next_grant;

    if (!b) return;
    b->closing = true; /* what could not be finished comes back now, and is nobody's failure */
    syncer_close(b->syncer);
    journal_close(b->journal);
    transfer_release(b);
    if (b->n_peers) sleep_ms(50); /* the last answers leave, and are read: ZeroMQ drops what was not, when a connection ends */
    for (size_t i = 0; i < b->n_peers; i++) peer_close(b->peer[i]);
    gate_close(&b->gate);
    HASH_ITER(hh, b->session, s, next) broker_session_drop(b, s);
    DL_FOREACH_SAFE(b->roster.orphans, g, next_grant) grant_free(&b->roster, g);
    DL_FOREACH_SAFE(b->roster.worker, w, next_worker)
    {
        DL_FOREACH_SAFE(w->grant, g, next_grant) grant_free(&b->roster, g);
        roster_drop(&b->roster, w);
    }
    standing_release(&b->roster.standing);
    rates_release(&b->rates);
    book_release(&b->book);
    store_release(&b->store);
    loop_free(b->loop);
    arena_release(&b->in);
    arena_release(&b->out);
    free(b->keep);
    free(b);
}
