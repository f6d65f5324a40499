/* broker.h - message in -> state change -> journal -> message out.
 *
 *   broker_open(&b, &conf, &e); code = broker_run(b, &e); broker_close(b); peer_shutdown();
 *
 * One loop thread owns everything here; the journal's thread sees only requests. Rooms behind this header: broker.c (start, loop,
 * promises), broker_session.c (HELLO, keys), broker_lease.c (leases: given, hedged, called back), broker_client.c, broker_worker.c and broker_result.c (one handler per message kind), broker_control.c (requeue, drain, pause), broker_info.c (job_info, task_info and
 * progress for people), transfer.c (uploads and downloads), restore.c (from the journal at the start; what time takes away).
 * The pattern of every handler that changes something: move the memory (task_move), put the rows into one journal request, and let the
 * promise - the answer - leave when that request is durable. Memory runs ahead of the disk; what is shown does not (book_durable). */
#ifndef BROKER_BROKER_H
#define BROKER_BROKER_H

#include "broker/conf.h"
#include "broker/dispatch.h"
#include "broker/gate.h"
#include "broker/journal.h"
#include "broker/queue.h"
#include "broker/roster.h"
#include "broker/stats.h"
#include "broker/store.h"
#include "broker/syncer.h"
#include "proto/loop.h"

#define EXIT_DISK           74 /* EX_IOERR: the journal or the spool failed */
#define CLIENT_FORGET_MS    600000
#define WAITERS_PER_SESSION 16
#define OWED_MAX_BYTES      (1 << 20) /* that a session has not taken yet: no more answers then. Chunks are not counted: they have their credit */
#define SPARE_BYTES         (16 << 20) /* below this much free disk no new work and no new result is taken */

struct broker;

struct session { /* one connection that said HELLO */
    struct {
        uint8_t listener, len, id[16];
    } key;
    struct peer   *peer;
    struct route   route;
    enum role      role;
    char           name[NAME_MAX_BYTES + 1];
    uint32_t       minor; /* of its protocol */
    char           account[NAME_MAX_BYTES + 1]; /* whose jobs it sees, and whose share it takes: of its key; without keys, of its name */
    enum key_role  rank;                        /* without keys: KEY_ADMIN */
    bool           keyed;
    uint8_t        user[CURVE_BYTES]; /* keyed: its public key */
    int64_t        seen_ms, progress_ms; /* progress was told last */
    uint64_t       tick_seen; /* book.tick then */
    size_t         n_waiters, n_downloads;
    uint64_t       owed_bytes, arrived_mark; /* answers sent that may not have arrived; for session_behind() */
    struct worker *worker; /* ROLE_WORKER */
    UT_hash_handle hh;
};

struct waiter { /* an EVENTS not yet answered */
    struct session *session;
    uint64_t        correlation;
    struct events   ask;
    int64_t         until_ms;
    struct job     *job; /* NULL: all */
    struct waiter  *prev, *next;
    struct waiter  *prev_of_job, *next_of_job;
};

struct ask { /* one message that came */
    struct peer      *peer;
    struct route      from;
    struct session   *session; /* NULL: unknown */
    const struct account *account; /* whose key it came with; NULL: a listener without keys */
    const struct msg *m;
    int64_t           now_ms;
};

struct keep { /* a collected task whose images go at until_wall_ms, by broker_wall() */
    uint64_t task;
    int64_t  until_wall_ms;
};

struct broker {
    struct broker_conf conf;
    struct gate        gate;
    struct book        book;
    struct queue       queue;
    struct roster      roster;
    struct store       store;
    struct rates       rates;
    struct journal    *journal;
    struct syncer     *syncer;
    struct loop       *loop;
    struct peer       *peer[LISTEN_MAX];
    size_t             n_peers;
    struct session    *session;
    size_t             sessions_max;
    struct waiter     *waiter, *waiter_all; /* utlists: everybody; those who ask for all jobs */
    size_t             n_waiters;
    struct upload     *upload;
    struct download   *download;
    uint64_t           next_transfer;
    struct stats       stats;
    struct arena       in, out; /* the message being handled; the answer being made */
    struct keep       *keep;
    size_t             keep_at, n_keep, keep_cap;
    uint32_t           n_epochs; /* given since this start */
    int64_t            stepped_ms, wall_ahead_ms; /* by how much the wall clock was set since the start; the wall clock less the monotonic one */
    int64_t            grace_until_ms, tick_ms, purge_ms, stop_by_ms;
    int                pump_timer;
    bool               grace, stopping, closing, drained; /* drained: stopping, and the journal was asked to say when it is through */
    int64_t            free_bytes, looked_ms; /* on the disk of the data folder, when it was looked at last */
    bool               paused;   /* the whole farm: nothing is leased */
    bool               crash_loop; /* paused by nobody: this is one more start after ends in disorder */
    uint64_t           reserve_bytes; /* of the disk: what is being made may want, at the last tick */
    int64_t            hedge_ms, recall_ms; /* not before: looking at all leases costs */
    bool               disk_low; /* seen at the last tick: nothing more is leased, whose result could not be kept */
    int                exit_code;
    struct err         fatal;
};

/* Opens the data folder, reads the journal, listens. Errors say what to do. */
int  broker_open(struct broker **out, const struct broker_conf *c, struct err *e);
int  broker_run(struct broker *b, struct err *e); /* until SIGTERM, SIGINT or a failure; the exit code */
void broker_close(struct broker *b);

/* ---- between the rooms ---- */
/* An answer that leaves when its request is durable. */
struct promise {
    struct broker *b;
    struct peer   *peer;
    struct route   to;
    uint64_t       seq; /* everything up to here is durable then */
    struct msg     m;   /* kind 0: no answer; points nowhere but into offer_ok */
    struct offer_ok offer_ok[]; /* of OFFERS_OK: see broker_begin_rows() */
};

/* 0; ERR_BUSY: its queue is full, or it reads too slowly (session_behind()); ERR_NOTFOUND: it is gone. Counted. Who hears no answer asks again, idempotently. */
int  broker_send(struct broker *b, struct peer *p, const struct route *to, const struct msg *m);
bool session_behind(struct session *s); /* more than OWED_MAX_BYTES of answers are on their way to it */
void broker_reply(struct broker *b, const struct ask *a, struct msg *m); /* m with the asker's correlation */
void broker_error(struct broker *b, const struct ask *a, enum wire_error code, uint32_t retry_after_ms, const char *fmt, ...)
    __attribute__((format(printf, 5, 6)));
/* A request with a promise of *m to the asker (a and m may be NULL: no answer). Send it with broker_commit(). */
/* with room for n rows of OFFERS_OK in the promise. */
struct journal_req *broker_begin_rows(struct broker *b, enum journal_mode mode, size_t n);
struct journal_req *broker_begin(struct broker *b, enum journal_mode mode, const struct ask *a, const struct msg *m);
void broker_promise(struct journal_req *r, const struct ask *a, const struct msg *m); /* the answer, when it is known only after the rows */
void broker_commit(struct broker *b, struct journal_req *r);
void broker_put_task(struct journal_req *r, const struct task *t);
void broker_put_job(struct journal_req *r, struct job *j, bool only_when_over); /* over: all its tasks are final */
void broker_fail(struct broker *b, const struct err *e); /* the disk failed: stop, exit EXIT_DISK */
/* The wall clock as it would be had nobody set it since the start. Leases and deadlines know the monotonic clock only; retention goes by the wall clock,
 * which alone counts while no broker runs, but nothing is older because somebody set it. */
int64_t broker_wall(struct broker *b);
void broker_settle(struct broker *b, int64_t now_ms);    /* leases what can be leased */
void broker_wake(struct broker *b, int64_t now_ms);      /* answers all waiters that have something, or waited long enough */
void broker_news(struct broker *b, int64_t now_ms);      /* after a commit: only those whose jobs have something new */
struct session *broker_session(struct broker *b, const struct peer *p, const struct route *from); /* NULL: unknown */
void broker_session_drop(struct broker *b, struct session *s);
bool broker_lets(struct broker *b, struct ask *a);                              /* its key counts; fills a->account. False: answered */
void broker_keys_again(struct broker *b, bool in_any_case, int64_t now_ms);     /* looks at the accounts; ends the sessions of keys that went */
bool session_sees(const struct session *s, const struct job *j);
struct job  *broker_job(struct broker *b, const struct ask *a, uint64_t id);    /* NULL: unknown, or not the asker's: the same to it */
struct task *broker_task(struct broker *b, const struct ask *a, uint64_t id);
bool broker_disk_low(struct broker *b, uint64_t need_bytes);

/* One lease ends: it is revoked when its worker still has it (and is told to stop), else freed. The task's other one goes on, if there is one. */
void broker_ungrant(struct broker *b, struct grant *g, bool tell_worker);
/* All leases of a RUNNING task end. */
void broker_unlease(struct broker *b, struct task *t, bool tell_worker);
/* What of the job waits has passed its deadline: EXPIRED. */
void broker_job_expire(struct broker *b, struct journal_req *r, struct job *j);
/* Back to QUEUED after delay_ms, at the front; or FAILED with the last words when it was leased too often; or EXPIRED. Not while a lease of it goes on: then
 * only its row is written. */
void broker_requeue(struct broker *b, struct journal_req *r, struct task *t, int64_t delay_ms, int64_t now_ms);
void broker_quarantined(struct broker *b, const struct worker *w); /* it was, just now: counted and said */
void broker_task_failed(struct broker *b, struct journal_req *r, struct task *t, struct str text);
void broker_worker_gone(struct broker *b, struct worker *w, const char *why, int64_t now_ms); /* its leases go back; w is freed */

typedef void broker_on_f(struct broker *b, const struct ask *a);
broker_on_f on_hello, on_bye;                                                                    /* broker_session.c */
broker_on_f on_submit, on_cancel, on_jobs, on_show, on_collected, on_workers;            /* broker_client.c */
broker_on_f on_events;                                                                           /* broker_events.c */
broker_on_f on_control;                                                                          /* broker_control.c */
broker_on_f on_worker_hello, on_ready, on_beat, on_failed, on_release;                           /* broker_worker.c */
broker_on_f on_offer, on_offers;                                                                 /* broker_result.c */
broker_on_f on_fetch, on_credit, on_chunk;                                                       /* transfer.c */

/* A whole result: files durable, bytes of small parts given and checked. The task is DONE, its rows in r, if nobody was first: else false.
 * s: of the worker that made it, NULL when it is gone. */
bool result_take(struct broker *b, struct journal_req *r, const struct offer *o, const struct str bytes[PARTS_MAX], struct session *s, int64_t now_ms);
/* The same in a request of its own; RESULT_OK goes to the worker at peer, to. */
void broker_result(struct broker *b, const struct offer *o, const struct str bytes[PARTS_MAX], struct peer *peer, const struct route *to, int64_t now_ms);
bool broker_epoch_known(const struct broker *b, uint64_t epoch); /* some lease had it */
void waiter_drop(struct broker *b, struct waiter *w); /* broker_events.c */

void   info_job(struct broker *b, struct job *j, int64_t now_ms, struct job_info *out); /* strs in b->out */
struct str info_worker(struct broker *b, const struct worker *w, int64_t now_ms); /* why it gets nothing; in b->out */
size_t info_progress(struct broker *b, const struct job *j, const struct worker *only, const struct session *whose, int64_t now_ms,
                     struct progress *out, size_t cap); /* of jobs that whose sees */

/* transfer.c */
int  upload_begin(struct broker *b, const struct ask *a, struct msg *ok); /* of an OFFER: fills OFFER_OK; else answered with an error */
bool upload_active(const struct broker *b, uint64_t task, const struct worker *w);
void upload_forget(struct broker *b, uint64_t task, const struct worker *w); /* task 0: all of w; w NULL: all of the task */
void download_forget(struct broker *b, const struct session *s);
void transfer_release(struct broker *b); /* after the syncer is closed: its threads may be at work on an upload */
void transfer_pump(void *ctx, int64_t now_ms); /* a loop_timer_f: downloads that found a full queue */

#endif
