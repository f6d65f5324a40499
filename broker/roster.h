/* roster.h - the workers: who is there, what they hold, who fell silent.
 *
 *   w = roster_hello(&r, &hello, peer, &route, now_ms);  roster_grant(w, t, epoch, now_ms);  ...  while ((w = roster_lost(&r, now_ms))) ...
 *
 * A worker is known by the instance its process drew at random; a new route of the same instance is the same worker.
 * A grant is a lease given: it ties a task to a worker under an epoch. A grant revoked (canceled, or done elsewhere) has no task any more but still
 * fills the worker's slot until the worker lets go of it.
 * A task has one grant, and while workers stand idle a second one on one of them (a hedge): whichever result comes first ends both.
 * What a worker's name stands for beyond its connection - drained, quarantined - is its standing (standing.h).
 * Invariants: R1 every grant is in exactly one worker's list, or in r->orphans (after a restart, until its worker says HELLO).
 *   R2 grant.task->grant or ->hedge == grant, or grant.task is NULL (revoked).
 * Pure: now_ms is given. Not here: what happens to a lost worker's tasks (broker_worker.c). */
#ifndef BROKER_ROSTER_H
#define BROKER_ROSTER_H

#include "base/hash.h"
#include "broker/job.h"
#include "broker/standing.h"
#include "proto/peer.h"

#define DENIALS_MAX     8      /* sizes a worker is remembered to have no memory for */
#define DENIED_MS       600000
#define PROMPTS_KEPT    16     /* as many as an engine keeps (engine/cache.h) */
#define CUT_OFF_MS      3000
#define LEASE_BUDGET_MS 600000 /* without any progress; a step of a big picture on a CPU may take minutes */

struct grant {
    struct task   *task; /* NULL: revoked */
    struct worker *worker; /* NULL: an orphan */
    uint64_t       task_id, epoch;
    int64_t        leased_ms, deadline_ms, reported_ms; /* reported: the last BEAT that named it */
    bool           sent;      /* LEASE is on its way; before, only the journal knows */
    uint8_t        n_batch;   /* leases given with it, itself included, to be made together */
    int64_t        begun_ms;  /* its worker does something with it; 0: it waits there */
    struct turn    turn;      /* of the pair it came with */
    int64_t        recalled_ms; /* it was called back; 0: not */
    double         usual_ms;  /* expected of this worker; 0: not known */
    struct job    *canceling; /* revoked because this job was canceled; counted there */
    enum stage     stage;
    uint32_t       step, steps;
    int64_t        moved_ms; /* when stage or step last changed */
    struct grant  *prev, *next;
};

struct worker {
    uint64_t      id; /* counts HELLOs of new instances; never 0 */
    struct peer  *peer; /* which of our listeners, and its route there */
    struct route  route;
    uint8_t       instance[KEY_BYTES];
    uint8_t       key[CURVE_BYTES]; /* the public key it speaks with; zero: none is asked for */
    char          name[NAME_MAX_BYTES + 1], device[NAME_MAX_BYTES + 1], about[ERROR_MAX_BYTES + 1], version[NAME_MAX_BYTES + 1];
    struct model_info model[MODELS_MAX]; /* names and profiles are owned */
    size_t        n_models;
    struct rank   rank[RANKS_MAX]; /* their names are in rank_device */
    char          rank_device[RANKS_MAX][RANK_DEVICE_BYTES + 1];
    size_t        n_ranks;
    uint32_t      capacity, n_held, max_batch;
    struct standing *standing;
    struct {
        int64_t px, until_ms;
    } denied[DENIALS_MAX]; /* pictures of so many pixels and more: out of memory */
    uint64_t      prompt[PROMPTS_KEPT]; /* lot.prompt of what it made lately */
    size_t        n_prompts;
    struct grant *grant;
    int64_t       hello_ms, seen_ms;
    uint64_t      n_done, n_failed;
    uint32_t      ms_per_image; /* recent mean; 0: none yet */
    uint32_t      engine_restarts;
    bool          beaten; /* engine_restarts is known: more of them are news */
    struct worker *prev, *next; /* in order of arrival */
};

struct roster {
    struct worker *worker;
    struct grant  *orphans;
    struct standing *standing;
    size_t         n_workers;
    uint64_t       next_id;
};

/* The worker of this instance, refreshed, or a new one. Counts as a sign of life. NULL when WORKERS_MAX are there. */
struct worker *roster_hello(struct roster *r, const struct hello *h, struct peer *peer, const struct route *route, int64_t now_ms);
struct worker *roster_find(const struct roster *r, const uint8_t instance[KEY_BYTES]); /* NULL: unknown */
/* Its devices as HELLO or BEAT has them; n == 0 changes nothing. */
void           worker_ranks(struct worker *w, const struct rank *r, size_t n);
/* Another worker that announces one of h's names with other content (digest): the two must not share a job. *model names it. NULL: none. */
const struct worker *roster_clash(const struct roster *r, const struct hello *h, struct str *model);
void           roster_drop(struct roster *r, struct worker *w); /* its grants must be gone */
struct worker *roster_lost(const struct roster *r, int64_t now_ms); /* one silent for WORKER_LOST_MS, or NULL */
bool           worker_suspect(const struct worker *w, int64_t now_ms);
/* Its connection is gone. Suspect from now on, and lost CUT_OFF_MS later, unless it says HELLO on another: after a pause of ours its own may be on its way. */
void           worker_cut_off(struct worker *w, int64_t now_ms);
void           worker_deny(struct worker *w, int64_t px, int64_t now_ms); /* it had no memory for such a picture */
bool           worker_denies(const struct worker *w, int64_t px, int64_t now_ms);
void           worker_prompt(struct worker *w, uint64_t prompt); /* it has it at hand from now on */
bool           worker_knows(const struct worker *w, uint64_t prompt);
struct str     worker_kind(const struct worker *w); /* equal for equal devices: for rates.h */
struct worker *roster_by_id(const struct roster *r, uint64_t id); /* NULL: gone */
bool           worker_serves(const struct worker *w, int64_t now_ms); /* takes part: free, or will be */
bool           worker_free(const struct worker *w, int64_t now_ms); /* may have one more lease now, or as many as it makes at once */
uint32_t       worker_batch(const struct worker *w); /* how many that is: 1 .. capacity */
uint32_t       worker_lanes(const struct worker *w); /* pictures it makes at the same time, each in its own time: its transformers, at least 1 */
bool           worker_has(const struct worker *w, struct str model);
const char    *worker_state(const struct worker *w, int64_t now_ms);
struct str     roster_default(const struct roster *r); /* the farm's default model: the first name of the worker longest here */
/* Why nobody runs a task of this model now; empty when somebody might. cap >= 1. */
void roster_why(const struct roster *r, struct str model, int64_t now_ms, char *text, size_t cap);
void worker_took(struct worker *w, uint32_t took_ms);

/* The task's grant, or its second one. */
struct grant *roster_grant(struct worker *w, struct task *t, uint64_t epoch, int64_t now_ms);
struct grant *roster_orphan(struct roster *r, struct task *t, uint64_t epoch);
void          roster_adopt(struct roster *r, struct grant *l, struct worker *w, int64_t now_ms); /* an orphan finds its worker */
struct grant *worker_grant(const struct worker *w, uint64_t task, uint64_t epoch);
void          grant_revoke(struct grant *l); /* parts it from its task; the slot stays taken */
void          grant_free(struct roster *r, struct grant *l); /* parts it from its task and its worker */
/* Progress told by a beat: true when it moved. Extends the deadline when it did. */
bool          grant_progress(struct grant *l, const struct progress *p, int64_t now_ms);
/* The loop stood still for gap_ms until now_ms: everybody gets that much longer, but nobody was heard in the future: some were, since it goes on. */
void          roster_forgive(struct roster *r, int64_t gap_ms, int64_t now_ms);

#endif
