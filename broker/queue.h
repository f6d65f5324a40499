/* queue.h - which task is next.
 *
 *   queue_push(&q, t); ... for (l = queue_first(&q); l; l = queue_after(&q, l)) if (a worker fits lane_next(l, ...)) queue_take(&q, t, cost_ms, true);
 *   queue_settle(&q, t, worth_ms) when it is made: what it cost is now known
 *
 * Order: the class that has had least for its weight (8:4:1), in it the client that has had least; in its share first the jobs with a
 * deadline, the earliest before all, then round robin over lanes (a job's tasks of one model), so one image need not wait for a batch of
 * ten thousand; in a lane retries first, then as submitted.
 * What was had is counted in milliseconds of GPU, estimated when a task is taken (virtual time: start-time fair queueing) and corrected
 * when it is made. Who comes back after a pause, or could not be served, joins at the present: sleeping saves nothing. The present is where
 * those stood whose task was begun last, not those who got a lease last: what only waits at a worker is ahead of nobody.
 * Ageing: a client of normal (bulk) that has got nothing for 10 (30) minutes stands for one task in the class above.
 * Tasks in back-off wait outside until queue_ripen().
 * Invariants: Q1 a task is in here iff place != PLACE_NONE.  Q2 a lane is linked iff it has a task, a share iff it has a lane and is not
 *   parked.  Q3 a class's shares stand in order of share.used_ms.  Q4 no used_ms ever shrinks, but when a share comes home from above.
 * Pure: time comes with queue_ripen(); no I/O. Not here: who runs it (dispatch.c). */
#ifndef BROKER_QUEUE_H
#define BROKER_QUEUE_H

#include "broker/job.h"

struct queue_class {
    struct share *share; /* utlist, by used_ms */
    size_t        n_shares;
    uint64_t      used_ms, credit_ms; /* as a share's, among classes, for its weight */
    uint64_t      present_ms; /* used_ms, before, of the share whose task began last: where one that comes back joins */
};

struct queue {
    struct queue_class of[CLASS_BULK + 1]; /* by enum job_class */
    uint64_t     present_ms; /* the same among classes */
    struct task *delayed; /* utlist, any order */
    size_t       n_ready, n_delayed;
    int64_t      ripe_ms; /* the earliest ready_ms of delayed */
    int64_t      now_ms;  /* of the last queue_ripen() */
};

void queue_push(struct queue *q, struct task *t);       /* behind the lane's others */
void queue_push_front(struct queue *q, struct task *t); /* a retry: before them */
void queue_delay(struct queue *q, struct task *t, int64_t ready_ms);
void queue_remove(struct queue *q, struct task *t); /* canceled, or done by a late result */
/* It is given away, and its share pays, unless it has paid for it before: its lane goes to the back. head: it was its turn; false: it only filled
 * another one's batch. When it begins, the head's turn is the present. */
struct turn queue_take(struct queue *q, struct task *t, uint32_t cost_ms, bool head);
void queue_begun(struct queue *q, const struct turn *turn);
void queue_settle(struct queue *q, struct task *t, uint32_t worth_ms); /* it was made: the difference to what was paid */
void queue_ripen(struct queue *q, int64_t now_ms);  /* those whose back-off is over become retries */
void queue_age(struct queue *q);                    /* shares that waited too long move up a class */
void queue_park(struct queue *q, struct share *s, bool parked); /* out of all turns, or back at the present */

struct lane *queue_first(const struct queue *q);
struct lane *queue_after(const struct queue *q, const struct lane *l); /* NULL at the end */
struct task *lane_first(const struct lane *l);
struct task *lane_after(const struct lane *l, const struct task *t); /* retries, then fresh; NULL at the end */

#endif
