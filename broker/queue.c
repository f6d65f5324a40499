/* queue.c - which task is next: lanes in a ring, two lists in a lane, one bag of those in back-off.
 * Not here: fairness between clients (the same two functions, queue_first and queue_after, will ask shares). */
#include "broker/queue.h"

#include <assert.h>
#include <utlist.h>

static void lane_join(struct queue *q, struct lane *l)
{
    if (!l->fresh && !l->retry) DL_APPEND(q->lane, l);
}

static void lane_leave(struct queue *q, struct lane *l)
{
    if (l->fresh || l->retry) return;
    DL_DELETE(q->lane, l);
    l->prev = l->next = NULL;
}

void queue_push(struct queue *q, struct task *t)
{
    struct lane *l = t->lot->lane;

    assert(t->place == PLACE_NONE && t->state == TASK_QUEUED);
    lane_join(q, l);
    DL_APPEND(l->fresh, t);
    t->place = PLACE_FRESH;
    q->n_ready++;
}

void queue_push_front(struct queue *q, struct task *t)
{
    struct lane *l = t->lot->lane;

    assert(t->place == PLACE_NONE && t->state == TASK_QUEUED);
    lane_join(q, l);
    DL_APPEND(l->retry, t);
    t->place = PLACE_RETRY;
    q->n_ready++;
}

void queue_delay(struct queue *q, struct task *t, int64_t ready_ms)
{
    assert(t->place == PLACE_NONE && t->state == TASK_QUEUED);
    DL_APPEND(q->delayed, t);
    t->place = PLACE_DELAYED;
    t->ready_ms = ready_ms;
    if (q->n_delayed++ == 0 || ready_ms < q->ripe_ms) q->ripe_ms = ready_ms;
}

void queue_remove(struct queue *q, struct task *t)
{
    struct lane *l = t->lot->lane;

    assert(t->place != PLACE_NONE);
    if (t->place == PLACE_DELAYED) {
        DL_DELETE(q->delayed, t);
        q->n_delayed--;
    } else {
        if (t->place == PLACE_FRESH)
            DL_DELETE(l->fresh, t);
        else
            DL_DELETE(l->retry, t);
        q->n_ready--;
        lane_leave(q, l);
    }
    t->place = PLACE_NONE;
    t->prev = t->next = NULL;
}

void queue_take(struct queue *q, struct task *t)
{
    struct lane *l = t->lot->lane;

    assert(t->place == PLACE_FRESH || t->place == PLACE_RETRY);
    queue_remove(q, t);
    if (l->fresh || l->retry) {
        DL_DELETE(q->lane, l);
        DL_APPEND(q->lane, l);
    }
}

void queue_ripen(struct queue *q, int64_t now_ms)
{
    struct task *t, *next;

    if (!q->n_delayed || now_ms < q->ripe_ms) return;
    q->ripe_ms = INT64_MAX;
    DL_FOREACH_SAFE(q->delayed, t, next)
    {
        if (t->ready_ms <= now_ms) {
            queue_remove(q, t);
            queue_push_front(q, t);
        } else if (t->ready_ms < q->ripe_ms) {
            q->ripe_ms = t->ready_ms;
        }
    }
}

struct lane *queue_first(const struct queue *q)
{
    return q->lane;
}

struct lane *queue_after(const struct queue *q, const struct lane *l)
{
    (void)q;
    return l->next;
}

struct task *lane_first(const struct lane *l)
{
    return l->retry ? l->retry : l->fresh;
}

struct task *lane_after(const struct lane *l, const struct task *t)
{
    return t->next ? t->next : t->place == PLACE_RETRY ? l->fresh : NULL;
}
