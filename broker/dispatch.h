/* dispatch.h - who runs what: pure, one pair at a time.
 *
 *   while (dispatch_next(&q, &r, now_ms, &pair)) { ... move the task, lease it to pair.worker ... }
 *
 * A task fits a worker that is free, has the task's model, and is not the one it crashed last - unless no other worker of that model is
 * there at all. An empty model is the farm's default (roster_default) at the job's first lease, and stays it for the whole job
 * (job.model): one job never mixes models. Among those that fit, the least loaded worker, then the fastest.
 * Room for later: affinity to a loaded model, batches, hedging - all choose inside best_worker(). */
#ifndef BROKER_DISPATCH_H
#define BROKER_DISPATCH_H

#include "broker/queue.h"
#include "broker/roster.h"

struct pair {
    struct task   *task;
    struct worker *worker;
    struct str     model; /* the name resolved; borrowed from the lane, the job or the worker */
};

/* The model a lane's tasks run on now; empty when that is the default and nobody is there to say what it is. */
struct str dispatch_model(const struct lane *l, const struct roster *r);
/* True with the next pair, its task already out of the queue; the caller must lease it before the next call. */
bool dispatch_next(struct queue *q, const struct roster *r, int64_t now_ms, struct pair *out);

#endif
