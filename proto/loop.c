/* loop.c - one poll over peers, descriptors, timers, wake-ups and signals.
 * Believes: all state belongs to the loop's thread; other threads only wake it. A late timer fires once, not as often as it was missed.
 * Invariants: L1 callbacks may add and remove anything, themselves included.  L2 what was added in a turn is first polled in the next.
 * Not here: what the callbacks do; reading peers (each reads a bounded number of messages per call). */
#include "proto/loop.h"

#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <unistd.h>
#include <zmq.h>

#include "base/clock.h"

#define SOURCES_MAX 64
#define TIMERS_MAX  64
#define WAIT_MAX_MS 60000

struct source { /* a peer or a descriptor */
    bool         used;
    uint64_t     born; /* turn */
    struct peer *peer;
    int          fd;
    loop_peer_f *on_peer;
    loop_fd_f   *on_fd;
    void        *ctx;
};

struct timer {
    bool          used;
    int64_t       period_ms, at_ms;
    loop_timer_f *f;
    void         *ctx;
};

struct loop {
    struct source  source[SOURCES_MAX];
    struct timer   timer[TIMERS_MAX];
    uint64_t       turn;
    int            wake_fd, signal_fd;
    loop_timer_f  *on_wake;
    void          *wake_ctx;
    loop_signal_f *on_signal;
    void          *signal_ctx;
    bool           stop;
};

int loop_open(struct loop **out, struct err *e)
{
    struct loop *l = calloc(1, sizeof *l);

    if (!l) return err_set(e, ERR_NOMEM, "no memory for a loop");
    l->signal_fd = -1;
    l->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (l->wake_fd < 0) {
        free(l);
        return err_errno(e, ERR_IO, "an eventfd");
    }
    *out = l;
    return 0;
}

void loop_free(struct loop *l)
{
    if (!l) return;
    close(l->wake_fd);
    if (l->signal_fd >= 0) close(l->signal_fd);
    free(l);
}

static int add_source(struct loop *l, struct source s)
{
    for (size_t i = 0; i < SOURCES_MAX; i++)
        if (!l->source[i].used) {
            l->source[i] = s;
            l->source[i].used = true;
            l->source[i].born = l->turn;
            return 0;
        }
    return ERR_LIMIT;
}

int loop_peer(struct loop *l, struct peer *p, loop_peer_f *f, void *ctx)
{
    return add_source(l, (struct source){.peer = p, .fd = -1, .on_peer = f, .ctx = ctx});
}

void loop_peer_gone(struct loop *l, struct peer *p)
{
    for (size_t i = 0; i < SOURCES_MAX; i++)
        if (l->source[i].used && l->source[i].peer == p && p) l->source[i].used = false;
}

int loop_fd(struct loop *l, int fd, loop_fd_f *f, void *ctx)
{
    return add_source(l, (struct source){.fd = fd, .on_fd = f, .ctx = ctx});
}

void loop_fd_gone(struct loop *l, int fd)
{
    for (size_t i = 0; i < SOURCES_MAX; i++)
        if (l->source[i].used && !l->source[i].peer && l->source[i].fd == fd) l->source[i].used = false;
}

int loop_timer(struct loop *l, int64_t period_ms, loop_timer_f *f, void *ctx)
{
    if (period_ms < 1) return ERR_ARG;
    for (int i = 0; i < TIMERS_MAX; i++)
        if (!l->timer[i].used) {
            l->timer[i] = (struct timer){true, period_ms, now_ms() + period_ms, f, ctx};
            return i;
        }
    return ERR_LIMIT;
}

void loop_timer_set(struct loop *l, int id, int64_t at_ms)
{
    if (id >= 0 && id < TIMERS_MAX) l->timer[id].at_ms = at_ms;
}

void loop_timer_gone(struct loop *l, int id)
{
    if (id >= 0 && id < TIMERS_MAX) l->timer[id].used = false;
}

int loop_on_wake(struct loop *l, loop_timer_f *f, void *ctx)
{
    l->on_wake = f;
    l->wake_ctx = ctx;
    return 0;
}

void loop_wake(struct loop *l)
{
    uint64_t one = 1;
    ssize_t  rc;

    do rc = write(l->wake_fd, &one, sizeof one);
    while (rc < 0 && errno == EINTR); /* EAGAIN: it is awake already */
}

int loop_signal(struct loop *l, loop_signal_f *f, void *ctx, struct err *e)
{
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGHUP);
    sigaddset(&set, SIGCHLD);
    if (pthread_sigmask(SIG_BLOCK, &set, NULL)) return err_set(e, ERR_STATE, "signals cannot be blocked");
    l->signal_fd = signalfd(l->signal_fd, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    if (l->signal_fd < 0) return err_errno(e, ERR_IO, "a signalfd");
    l->on_signal = f;
    l->signal_ctx = ctx;
    return 0;
}

void loop_stop(struct loop *l)
{
    l->stop = true;
}

static long wait_of(const struct loop *l, int64_t now)
{
    int64_t wait = WAIT_MAX_MS;

    for (size_t i = 0; i < TIMERS_MAX; i++)
        if (l->timer[i].used && l->timer[i].at_ms - now < wait) wait = l->timer[i].at_ms - now;
    return wait < 0 ? 0 : (long)wait;
}

static void fire_timers(struct loop *l, int64_t now)
{
    for (size_t i = 0; i < TIMERS_MAX && !l->stop; i++) {
        struct timer *t = &l->timer[i];

        if (!t->used || t->at_ms > now) continue;
        t->at_ms += t->period_ms;
        if (t->at_ms <= now) t->at_ms = now + t->period_ms;
        t->f(t->ctx, now);
    }
}

static void fire_wake(struct loop *l, int64_t now)
{
    uint64_t count;

    if (read(l->wake_fd, &count, sizeof count) > 0 && l->on_wake) l->on_wake(l->wake_ctx, now);
}

static void fire_signals(struct loop *l, int64_t now)
{
    struct signalfd_siginfo info;

    while (read(l->signal_fd, &info, sizeof info) == (ssize_t)sizeof info)
        if (l->on_signal) l->on_signal(l->signal_ctx, (int)info.ssi_signo, now);
}

static int turn(struct loop *l, struct err *e)
{
    zmq_pollitem_t item[2 * SOURCES_MAX + 2];
    size_t         of[2 * SOURCES_MAX + 2];
    int            n = 0;
    int64_t        now = now_ms();

    item[n++] = (zmq_pollitem_t){.fd = l->wake_fd, .events = ZMQ_POLLIN};
    item[n++] = (zmq_pollitem_t){.fd = l->signal_fd >= 0 ? l->signal_fd : l->wake_fd, .events = ZMQ_POLLIN};
    for (size_t i = 0; i < SOURCES_MAX; i++) {
        const struct source *s = &l->source[i];

        if (!s->used) continue;
        of[n] = i;
        item[n++] = (zmq_pollitem_t){.socket = s->peer ? peer_socket(s->peer) : NULL, .fd = s->fd, .events = ZMQ_POLLIN};
        if (!s->peer || !peer_watch_socket(s->peer)) continue;
        of[n] = i;
        item[n++] = (zmq_pollitem_t){.socket = peer_watch_socket(s->peer), .events = ZMQ_POLLIN};
    }
    if (zmq_poll(item, n, wait_of(l, now)) < 0 && zmq_errno() != EINTR)
        return err_set(e, ERR_IO, "polling: %s", zmq_strerror(zmq_errno()));
    l->turn++;
    now = now_ms();
    if (item[0].revents) fire_wake(l, now);
    if (l->signal_fd >= 0 && item[1].revents) fire_signals(l, now);
    for (int k = 2; k < n && !l->stop; k++) {
        struct source *s = &l->source[of[k]];

        if (!item[k].revents || !s->used || s->born == l->turn) continue;
        if (s->peer && item[k].socket != peer_socket(s->peer)) peer_tend(s->peer);
        else if (s->peer) s->on_peer(s->ctx, s->peer, now);
        else s->on_fd(s->ctx, s->fd, now);
    }
    if (!l->stop) fire_timers(l, now_ms());
    return 0;
}

int loop_run(struct loop *l, struct err *e)
{
    int rc = 0;

    while (!l->stop && !rc) rc = turn(l, e);
    l->stop = false;
    return rc;
}
