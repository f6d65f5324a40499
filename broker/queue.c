/* queue.c - which task is next: classes and shares by what they have had, lanes in a ring, two lists in a lane, one bag of those in back-off.
 * Believes: Q1 to Q3 of queue.h; 64 bits of virtual time never run over (a million images a second, each 4096 x 4096 of 200 steps, for a week). */
#include "broker/queue.h"

#include <assert.h>
#include <utlist.h>

static const uint64_t class_price[] = {[CLASS_INTERACTIVE] = 1, [CLASS_NORMAL] = 2, [CLASS_BULK] = 8}; /* 8 by weight */

/* Into its place by used; behind those that have had as much. */
static void share_place(struct queue_class *c, struct share *s)
{
    struct share *at;

    DL_FOREACH(c->share, at)
        if (at->used > s->used) break;
    if (at)
        DL_PREPEND_ELEM(c->share, at, s);
    else
        DL_APPEND(c->share, s);
}

static void share_join(struct queue *q, struct share *s)
{
    struct queue_class *c = &q->of[s->key.job_class];

    if (!c->share && c->used < q->present) c->used = q->present;
    if (s->used < c->present) s->used = c->present;
    share_place(c, s);
}

static void lane_join(struct queue *q, struct lane *l)
{
    struct share *s = l->job->share;

    if (l->fresh || l->retry) return;
    if (!s->lane) share_join(q, s);
    DL_APPEND(s->lane, l);
}

static void lane_leave(struct queue *q, struct lane *l)
{
    struct share *s = l->job->share;

    if (l->fresh || l->retry) return;
    DL_DELETE(s->lane, l);
    l->prev = l->next = NULL;
    if (s->lane) return;
    DL_DELETE(q->of[s->key.job_class].share, s);
    s->prev = s->next = NULL;
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
    struct lane        *l = t->lot->lane;
    struct share       *s = l->job->share;
    struct queue_class *c = &q->of[s->key.job_class];

    assert(t->place == PLACE_FRESH || t->place == PLACE_RETRY);
    queue_remove(q, t);
    q->present = c->used;
    c->present = s->used;
    c->used += t->lot->cost * class_price[s->key.job_class];
    s->used += t->lot->cost;
    if (l->fresh || l->retry) {
        DL_DELETE(s->lane, l);
        DL_APPEND(s->lane, l);
    }
    if (!s->lane) return;
    DL_DELETE(c->share, s);
    share_place(c, s);
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

/* The class after (used, class) in that order, or NULL. */
static const struct queue_class *class_after(const struct queue *q, const struct queue_class *last)
{
    const struct queue_class *best = NULL;

    for (const struct queue_class *c = &q->of[CLASS_INTERACTIVE]; c <= &q->of[CLASS_BULK]; c++) {
        if (!c->share || (last && (c->used < last->used || (c->used == last->used && c <= last)))) continue;
        if (!best || c->used < best->used) best = c;
    }
    return best;
}

struct lane *queue_first(const struct queue *q)
{
    const struct queue_class *c = class_after(q, NULL);

    return c ? c->share->lane : NULL;
}

struct lane *queue_after(const struct queue *q, const struct lane *l)
{
    const struct share       *s = l->job->share;
    const struct queue_class *c = &q->of[s->key.job_class];

    if (l->next) return l->next;
    if (s->next) return s->next->lane;
    c = class_after(q, c);
    return c ? c->share->lane : NULL;
}

struct task *lane_first(const struct lane *l)
{
    return l->retry ? l->retry : l->fresh;
}

struct task *lane_after(const struct lane *l, const struct task *t)
{
    return t->next ? t->next : t->place == PLACE_RETRY ? l->fresh : NULL;
}
