/* broker_session.c - who is on a connection: HELLO, BYE, the session between them, and whether its key still counts.
 * Believes: a route is one connection and never comes again (peer.c lets nobody choose one), so a session is one connection's. Through a
 * listener with keys each message brings its key, and each is judged: ZeroMQ cannot end a connection whose key was revoked.
 * Invariants: S1 a session of a keyed listener is of one active key from HELLO to its end.  S2 a refused message changes nothing but counters
 * and, when its key counts no more, the end of that key's own session.
 * Not here: what a worker's HELLO means (broker_worker.c), which messages are whose (broker.c's table and gate.c). */
#include "broker/broker.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#define SESSIONS_PER_CLIENT 64     /* connections of one client account that spoke lately */
#define LATELY_MS           60000  /* a client that waits asks again sooner (EVENTS_WAIT_MAX_MS) */

static void session_key(const struct broker *b, const struct peer *p, const struct route *from, struct session *s)
{
    memset(&s->key, 0, sizeof s->key);
    while (s->key.listener < b->n_peers && b->peer[s->key.listener] != p) s->key.listener++;
    s->key.len = from->len;
    memcpy(s->key.id, from->id, from->len);
}

struct session *broker_session(struct broker *b, const struct peer *p, const struct route *from)
{
    struct session probe, *s;

    session_key(b, p, from, &probe);
    HASH_FIND(hh, b->session, &probe.key, sizeof probe.key, s);
    return s;
}

void broker_session_drop(struct broker *b, struct session *s)
{
    struct waiter *w, *next;

    DL_FOREACH_SAFE(b->waiter, w, next)
    {
        if (w->session == s) waiter_drop(b, w);
    }
    download_forget(b, s);
    HASH_DEL(b->session, s);
    free(s);
}

struct job *broker_job(struct broker *b, const struct ask *a, uint64_t id)
{
    struct job *j = book_find(&b->book, id);

    return j && session_sees(a->session, j) ? j : NULL;
}

struct task *broker_task(struct broker *b, const struct ask *a, uint64_t id)
{
    struct task *t = book_task(&b->book, id);

    return t && session_sees(a->session, task_job(t)) ? t : NULL;
}

bool session_sees(const struct session *s, const struct job *j)
{
    return s->rank == KEY_ADMIN || str_is(str_of(j->share->key.client), s->account);
}

/* ---- keys ---- */
static bool is_of(const struct session *s, const struct account *k)
{
    return memcmp(s->user, k->public_key, CURVE_BYTES) == 0 && s->rank == k->role && !strcmp(s->account, k->name);
}

/* The session's key is nobody's any more; who held it is told, and what it held goes to others. */
static void turn_out(struct broker *b, struct session *s, int64_t now_ms)
{
    struct msg m = {.kind = MSG_ERROR, .error = {.code = WIRE_DENIED, .text = str_of("this key was revoked: ask the farm's owner for another one (zfarm-keys add)")}};

    log_info("session_ended", "account=%s name=\"%s\" why=\"its key was revoked\"", s->account, s->name);
    broker_send(b, s->peer, &s->route, &m);
    if (s->worker) broker_worker_gone(b, s->worker, "its key was revoked", now_ms); /* drops the session, too */
    else broker_session_drop(b, s);
}

bool broker_lets(struct broker *b, struct ask *a)
{
    const uint8_t *user = peer_user(a->peer);

    if (!user) return true;
    a->account = gate_account(&b->gate, user);
    if (a->account && (!a->session || !memcmp(a->session->user, user, CURVE_BYTES))) return true;
    b->stats.denied++;
    if (a->account) {
        broker_error(b, a, WIRE_DENIED, 0, "this connection belongs to another key");
        return false;
    }
    if (a->session && !memcmp(a->session->user, user, CURVE_BYTES)) turn_out(b, a->session, a->now_ms);
    broker_error(b, a, WIRE_DENIED, 0, "this key is not known here, or was revoked: ask the farm's owner for one (zfarm-keys add)");
    return false;
}

void broker_keys_again(struct broker *b, bool in_any_case, int64_t now_ms)
{
    struct session *s, *next;

    if (!gate_reload(&b->gate, in_any_case)) return;
    HASH_ITER(hh, b->session, s, next)
    {
        const struct account *k = s->keyed ? gate_account(&b->gate, s->user) : NULL;

        if (!s->keyed || (k && is_of(s, k))) continue;
        b->stats.denied++;
        turn_out(b, s, now_ms);
    }
}

/* ---- HELLO ---- */
/* One more session? The longest silent client's goes when there are too many of all; one account's clients may have so many. False: answered. */
static bool room(struct broker *b, const struct ask *a)
{
    struct session *s, *next, *oldest = NULL;
    size_t          n = 0;

    HASH_ITER(hh, b->session, s, next)
    {
        if (s->role != ROLE_CLIENT) continue;
        if (!oldest || s->seen_ms < oldest->seen_ms) oldest = s;
        n += a->account && a->account->role == KEY_CLIENT && s->keyed && !strcmp(s->account, a->account->name) && a->now_ms - s->seen_ms < LATELY_MS;
    }
    if (n >= SESSIONS_PER_CLIENT) {
        broker_error(b, a, WIRE_BUSY, 5000, "%s has %d connections already: close some", a->account->name, SESSIONS_PER_CLIENT);
        return false;
    }
    if (HASH_COUNT(b->session) < b->sessions_max) return true;
    if (!oldest || a->now_ms - oldest->seen_ms < LATELY_MS) {
        broker_error(b, a, WIRE_BUSY, 5000, "%zu connections are open already, as many as this broker may have (ulimit -n)", b->sessions_max);
        return false;
    }
    broker_session_drop(b, oldest);
    return true;
}

static void introduce(struct session *s, const struct ask *a)
{
    const struct hello *h = &a->m->hello;
    const char         *colon;

    snprintf(s->name, sizeof s->name, "%.*s", (int)h->name.len, h->name.len ? h->name.at : "");
    s->keyed = a->account != NULL;
    if (s->keyed) {
        snprintf(s->account, sizeof s->account, "%s", a->account->name);
        s->rank = a->account->role;
        memcpy(s->user, a->account->public_key, CURVE_BYTES);
        return;
    }
    colon = strrchr(s->name, ':'); /* "user@host:pid": all processes of a user are one client. A claim, of somebody on this machine */
    snprintf(s->account, sizeof s->account, "%.*s", colon ? (int)(colon - s->name) : (int)strlen(s->name), s->name);
    s->rank = KEY_ADMIN;
}

void on_hello(struct broker *b, const struct ask *a)
{
    const struct hello *h = &a->m->hello;
    struct session     *s = a->session;

    if (h->major != WIRE_MAJOR) {
        broker_error(b, a, WIRE_VERSION, 0, "this broker speaks protocol %d.%d, you speak %u.%u", WIRE_MAJOR, WIRE_MINOR, h->major, h->minor);
        return;
    }
    if (s && s->role != h->role) {
        broker_error(b, a, WIRE_PROTOCOL, 0, "a connection is a client's or a worker's, not both: open another one");
        return;
    }
    if (a->account && !gate_may_be(a->account->role, h->role)) {
        b->stats.denied++;
        broker_error(b, a, WIRE_DENIED, 0, "the key of %s is for a %s, not for a %s: ask for one made with `zfarm-keys add NAME --role %s`", a->account->name,
                     key_role_name(a->account->role), h->role == ROLE_WORKER ? "worker" : "client", h->role == ROLE_WORKER ? "worker" : "client");
        return;
    }
    if (!s) {
        if (!room(b, a)) return;
        s = calloc(1, sizeof *s);
        if (!s) abort();
        session_key(b, a->peer, &a->from, s);
        HASH_ADD(hh, b->session, key, sizeof s->key, s);
        s->peer = a->peer;
        s->route = a->from;
        s->role = h->role;
    }
    s->seen_ms = a->now_ms;
    s->minor = h->minor;
    introduce(s, a);
    if (h->role == ROLE_WORKER) {
        struct ask known = *a;

        known.session = s;
        on_worker_hello(b, &known);
        return;
    }
    struct msg m = {.kind = MSG_WELCOME, .welcome = {.major = WIRE_MAJOR, .minor = WIRE_MINOR, .boot_id = journal_boot_id(b->journal), .beat_ms = BEAT_MS}};

    memcpy(m.welcome.store, journal_store(b->journal), KEY_BYTES);
    log_debug("client", "name=\"%s\" account=\"%s\"", s->name, s->account);
    broker_reply(b, a, &m);
}

void on_bye(struct broker *b, const struct ask *a)
{
    if (a->session->worker)
        broker_worker_gone(b, a->session->worker, "said bye", a->now_ms); /* drops the session, too */
    else
        broker_session_drop(b, a->session);
}
