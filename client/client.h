/* client.h - the library: everything a client may ask a broker, as calls that answer or say why not.
 *
 *   struct client *c;
 *   struct client_opts o = {.endpoint = "tcp://127.0.0.1:7777", .name = "me"};
 *   client_open(&c, &o, &e);                                  HELLO answered, or "no answer from the broker at ... within 10 s"
 *   client_submit(c, key, "cats", item, n_items, &job, &e);   durable at the broker when it returns
 *   client_events(c, job, &cursor, 1000, &m, &e);             long poll; m lives until the next call
 *   client_fetch(c, task, &part, &bytes, &e);                 size and SHA-256 verified
 *   client_collected(c, tasks, n, &e);  client_close(c);
 *
 * Every call is one question and its answer. When the broker is away (silence, restart, unknown session) the call goes on a new socket,
 * says HELLO and asks again; every question is idempotent, so nothing is lost or done twice. A broker that is busy (its disk is full), or
 * says that this client has its full share there for now, is asked again, too. It gives up after patience_ms of either.
 * One thread owns a client. *stop set from a signal handler ends any wait with ERR_CANCELED.
 * Not here: files (gather.c), what is shown (progress.c), which process the broker is (local.c). */
#ifndef CLIENT_CLIENT_H
#define CLIENT_CLIENT_H

#include <signal.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/str.h"
#include "proto/key.h"
#include "proto/msg.h"

struct client;

typedef void client_away_f(void *ctx, bool away);     /* the broker stopped answering / answers again */
typedef void client_busy_f(void *ctx, struct str why); /* the broker asks to wait, for a second and more, and says why; "": no longer */
typedef int  client_idle_f(void *ctx, struct err *e); /* called in every wait, a few times a second; non-zero ends the call with it */

struct client_opts {
    const char            *endpoint;
    const struct key      *key;         /* who asks, of a broker with keys (its owner copies it); NULL: none */
    const char            *name;        /* shown by the broker, which shares out by what stands before its last ':'; NULL: uid@host:pid */
    enum job_class         job_class;   /* of the jobs it submits; 0: CLASS_NORMAL */
    uint64_t               deadline_ms; /* of the jobs it submits: what has not begun by then expires; 0: never */
    int64_t                timeout_ms;  /* for the first answer; 0: CLIENT_TIMEOUT_MS */
    int64_t                patience_ms; /* for a broker that answered once, or is busy; 0: 10 minutes */
    client_away_f         *away;        /* may be NULL */
    client_busy_f         *busy;        /* may be NULL */
    client_idle_f         *idle;        /* may be NULL */
    void                  *ctx;
    volatile sig_atomic_t *stop; /* may be NULL */
};

/* ERR_TIMEOUT when nobody answers, ERR_STATE when the broker wants a key, another key, or none (the sentence says which),
 * ERR_PROTO for another protocol, ERR_ARG for an endpoint that is none. */
int            client_open(struct client **out, const struct client_opts *o, struct err *e);
void           client_close(struct client *c); /* NULL is fine */
const char    *client_endpoint(const struct client *c);
const uint8_t *client_store(const struct client *c); /* KEY_BYTES: names the broker's journal; another store, another cursor */

/* A whole job, in as many SUBMITs as it takes. The key makes it idempotent. */
int client_submit(struct client *c, const uint8_t key[KEY_BYTES], const char *name, const struct item *item, size_t n_items, uint64_t *job,
                  struct err *e);
/* The answers below live in *m, whose memory is the client's until its next call. */
int client_events(struct client *c, uint64_t job, uint64_t cursor, uint32_t wait_ms, struct msg *m, struct err *e);
int client_jobs(struct client *c, uint64_t job, uint32_t limit, struct msg *m, struct err *e);
int client_show(struct client *c, uint64_t job, uint32_t first_task, uint32_t limit, struct msg *m, struct err *e);
int client_workers(struct client *c, struct msg *m, struct err *e);
int client_cancel(struct client *c, uint64_t job, struct cancel_ok *out, struct err *e);
/* Failed images of a job (index < 0: all) into the queue again; a worker gets no new work, or again, also out of a quarantine.
 * out->n: how many that changed. */
int client_requeue(struct client *c, uint64_t job, int64_t index, struct control_ok *out, struct err *e);
int client_drain(struct client *c, const char *worker, bool undo, struct control_ok *out, struct err *e);
/* Nothing more of a client's work ("": of anybody's) is given to workers, or again; what runs is finished. */
int client_pause(struct client *c, const char *whose, bool resume, struct control_ok *out, struct err *e);
/* The whole part into bytes (cleared first). ERR_FORMAT when its size or SHA-256 is not the promised one. */
int client_fetch(struct client *c, uint64_t task, const struct part *part, struct buf *bytes, struct err *e);
/* Any number of tasks; written and fsynced here. */
int client_collected(struct client *c, const uint64_t *task, size_t n_tasks, struct err *e);

#endif
