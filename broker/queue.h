/* queue.h - which task is next.
 *
 *   queue_push(&q, t); ... for (l = queue_first(&q); l; l = queue_after(&q, l)) if (a worker fits lane_next(l, ...)) queue_take(&q, t);
 *
 * Order: the class that has had least for its weight (8:4:1), in it the client that has had least, in its share round robin over lanes (a
 * job's tasks of one model), so one image need not wait for a batch of ten thousand; in a lane retries first, then as submitted.
 * What was had is counted in lot.cost when a task is taken (virtual time: start-time fair queueing). Who comes back after a pause joins at
 * the present: sleeping saves nothing. Tasks in back-off wait outside until queue_ripen().
 * Invariants: Q1 a task is in here iff place != PLACE_NONE.  Q2 a lane is linked iff it has a task, a share iff it has a lane.
 *   Q3 a class's shares stand in order of share.used.
 * Pure: no clock, no I/O. Not here: who runs it (dispatch.c). */
#ifndef BROKER_QUEUE_H
#define BROKER_QUEUE_H

#include "broker/job.h"

struct queue_class {
    struct share *share; /* utlist, by used */
    uint64_t      used;  /* as share.used, among classes, for its weight */
    uint64_t      present; /* used of the share served last, before: where one that comes back joins */
};

struct queue {
    struct queue_class of[CLASS_BULK + 1]; /* by enum job_class */
    uint64_t     present; /* the same among classes */
    struct task *delayed; /* utlist, any order */
    size_t       n_ready, n_delayed;
    int64_t      ripe_ms; /* the earliest ready_ms of delayed */
};

void queue_push(struct queue *q, struct task *t);       /* behind the lane's others */
void queue_push_front(struct queue *q, struct task *t); /* a retry: before them */
void queue_delay(struct queue *q, struct task *t, int64_t ready_ms);
void queue_remove(struct queue *q, struct task *t); /* canceled, or done by a late result */
void queue_take(struct queue *q, struct task *t);   /* it runs: its lane goes to the back */
void queue_ripen(struct queue *q, int64_t now_ms);  /* those whose back-off is over become retries */

struct lane *queue_first(const struct queue *q);
struct lane *queue_after(const struct queue *q, const struct lane *l); /* NULL at the end */
struct task *lane_first(const struct lane *l);
struct task *lane_after(const struct lane *l, const struct task *t); /* retries, then fresh; NULL at the end */

#endif
