/* dispatch.h - who runs what: pure, one deal at a time.
 *
 *   while (dispatch_next(&q, &r, &rates, now_ms, &pair)) { ... move the tasks, lease them to pair.worker ... }
 *   if (dispatch_hedge(...)) lease pair.task a second time     while ((g = dispatch_recall(...))) call g back
 *
 * A task fits a worker that is free, has the task's model, has not run out of memory for such a picture lately, and is not the one it
 * crashed last - unless no other worker of that model is there at all. An empty model is the farm's default (roster_default) at the job's
 * first lease, and stays it for the whole job (job.model): one job never mixes models. Among those that fit, the least loaded worker, then
 * one that has the prompt at hand, then the fastest.
 * Affinity: the head of the queue chooses the worker; if that worker does not know the head's prompt, but one of the next tasks of the same
 * job that it does know, that one goes first; or one that nobody knows, when the head's is at another worker. At most PASSED_MAX times in a row.
 * Batches: the head is chosen by fairness alone; then tasks of the same shape and model, whoever's, ride along up to what the worker makes
 * at once, each paid by its own client. Nobody waits for a batch to fill. A task that failed in a batch, or crashed, rides alone.
 * Hedging: a worker with nothing to do gets, a second time, a task that would be made much sooner there: one that only waits at its worker,
 * or one whose worker is slow. One of equal idle workers is asked for all of them: every lease is looked at, ten times a second.
 * Recall: a task that has not begun at its worker is called back, once, for somebody's first urgent image, or for a client of the same class
 * that holds less: so that nobody waits behind what only waits itself. */
#ifndef BROKER_DISPATCH_H
#define BROKER_DISPATCH_H

#include "broker/queue.h"
#include "broker/rates.h"
#include "broker/roster.h"

struct pair {
    struct task   *task, *also[BATCH_MAX - 1]; /* also: of the same shape, in the same batch */
    size_t         n_also;
    struct worker *worker;
    struct str     model; /* the name resolved; borrowed from the lane, the job or the worker */
    double         usual_ms; /* how long such a worker takes for it; 0: not known */
    struct turn    turn;     /* queue_begun() when it begins */
};

/* The model a lane's tasks run on now; empty when that is the default and nobody is there to say what it is. */
struct str dispatch_model(const struct lane *l, const struct roster *r);
/* True with the next deal, its tasks already out of the queue and paid; the caller must lease them before the next call. */
bool dispatch_next(struct queue *q, const struct roster *r, const struct rates *rates, int64_t now_ms, struct pair *out);
/* A RUNNING task for a worker that dispatch_next() found nothing for. The task is nobody's to pay again. */
bool dispatch_hedge(const struct roster *r, const struct rates *rates, int64_t now_ms, struct pair *out);
/* A lease to be called back, already marked so; NULL: none. */
struct grant *dispatch_recall(const struct queue *q, const struct roster *r, int64_t now_ms);
/* How long this lease will still take, by its steps or by what its worker usually takes; < 0: nobody knows. */
double grant_left_ms(const struct grant *g, int64_t now_ms);
/* Has every worker of the model that is here run out of memory for such a picture? */
bool dispatch_denied(const struct roster *r, struct str model, int64_t px, int64_t now_ms);

#endif
