/* worker.h - zfarm-worker: one model, one engine child, one broker.
 *
 *   struct worker_conf c; worker_conf_init(&c); ... ; rc = worker_run(&c, &e);
 *
 * Everything happens on one thread, in one loop: session.c talks with the broker, child.c with the engine, work.c holds the leases,
 * worker.c decides. The broker hears of a model only after it is open. */
#ifndef WORKER_WORKER_H
#define WORKER_WORKER_H

#include "base/arena.h"
#include "proto/loop.h"
#include "worker/child.h"
#include "worker/conf.h"
#include "worker/work.h"

enum session_state { SESSION_QUIET, SESSION_HELLO, SESSION_UP }; /* quiet: the model is not open yet */

struct session {
    enum session_state state;
    struct peer       *peer;
    uint8_t            instance[KEY_BYTES];
    struct arena       arena;        /* the message being read */
    int64_t            hello_ms;     /* HELLO went out; 0: not yet */
    int64_t            retry_ms;     /* not before */
    int64_t            heard_ms, beat_sent_ms, interval_ms;
    uint64_t           seq, correlation, hello_correlation;
    uint32_t           capacity_said, minor; /* minor: of the broker's protocol */
    uint8_t            digest_said[32]; /* of the model in the last HELLO */
    bool               moved;        /* progress to tell */
    bool               said_absent, said_refused;
    int64_t            knock_ms;     /* turned away at the handshake: a new socket then; 0: not so */
};

struct worker {
    struct worker_conf conf;
    struct key         key; /* when conf.key is said */
    struct loop       *loop;
    struct child       child;
    struct works       works;
    struct session     session;
    bool               draining;
    int64_t            drain_until_ms, tick_ms;
    int                status;       /* ERR_* when the worker has to end */
    struct err         why;
};

/* Until drained (0), or until the model cannot be opened or the broker speaks another version (ERR_*, a sentence for people).
 * ERR_ARG: the endpoint is not one. */
int worker_run(const struct worker_conf *conf, struct err *e);

/* For session.c */
uint32_t worker_capacity(const struct worker *w);
void     worker_feed(struct worker *w, int64_t now_ms);               /* the next tasks to the engine, while it has room */
void     worker_cancel(struct worker *w, struct work *k, int64_t now_ms);
void     worker_forget(struct worker *w, struct work *k);             /* lease, result and all; stops it when it is running */
void     worker_end(struct worker *w, int code, const char *words);   /* a reason to stop */

#endif
