/* queue.c - which task is next: classes and shares by what they have had, lanes in a ring, two lists in a lane, one bag of those in back-off.
 * Believes: Q1 to Q4 of queue.h; 64 bits of virtual milliseconds never run over. */
#include "broker/queue.h"

#include <assert.h>
#include <utlist.h>

static const uint64_t class_price[] = {[CLASS_INTERACTIVE] = 1, [CLASS_NORMAL] = 2, [CLASS_BULK] = 8}; /* 8 by weight */

static const int64_t age_ms[] = {[CLASS_INTERACTIVE] = INT64_MAX, [CLASS_NORMAL] = 600000, [CLASS_BULK] = 1800000};

/* Into its place by used_ms, behind those that have had as much; found from the end, where who was just served belongs. */
static void share_place(struct queue_class *c, struct share *s)
{
    struct share *at = c->share ? c->share->prev : NULL; /* the last */

    c->n_shares++;
    while (at && at->used_ms > s->used_ms) at = at == c->share ? NULL : at->prev;
    if (!c->share)
        DL_APPEND(c->share, s);
    else if (!at)
        DL_PREPEND(c->share, s);
    else
        DL_APPEND_ELEM(c->share, at, s);
}

static void share_join(struct queue *q, struct share *s)
{
    struct queue_class *c = &q->of[s->level];

    if (!c->share && c->used_ms < q->present_ms) c->used_ms = q->present_ms;
    if (s->used_ms < c->present_ms) s->used_ms = c->present_ms;
    s->since_ms = q->now_ms;
    share_place(c, s);
}

static void share_leave(struct queue *q, struct share *s)
{
    q->of[s->level].n_shares--;
    DL_DELETE(q->of[s->level].share, s);
    s->prev = s->next = NULL;
}

/* Back to the class that its jobs asked for; it must stand in none. */
static void share_home(struct share *s)
{
    if (s->level == s->key.job_class) return;
    s->level = s->key.job_class;
    s->used_ms = s->home_ms;
}

static void lane_join(struct queue *q, struct lane *l)
{
    struct share *s = l->job->share;
    struct lane  *at;

    if (l->fresh || l->retry) return;
    if (!s->lane && !s->parked) share_join(q, s);
    DL_FOREACH(s->lane, at)
        if (l->job->due_ms && (!at->job->due_ms || at->job->due_ms > l->job->due_ms)) break;
    if (at)
        DL_PREPEND_ELEM(s->lane, at, l);
    else
        DL_APPEND(s->lane, l);
}

static void lane_leave(struct queue *q, struct lane *l)
{
    struct share *s = l->job->share;

    if (l->fresh || l->retry) return;
    DL_DELETE(s->lane, l);
    l->prev = l->next = NULL;
    l->n_passed = 0;
    if (s->lane || s->parked) return;
    share_leave(q, s);
    share_home(s);
}

void queue_park(struct queue *q, struct share *s, bool parked)
{
    if (s->parked == parked) return;
    s->parked = parked;
    if (!s->lane) return;
    if (parked) {
        share_leave(q, s);
        share_home(s);
    } else {
        share_join(q, s);
    }
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

/* Credit is spent first: what was paid too much comes back, and used_ms only grows. */
static void pay(uint64_t *used_ms, uint64_t *credit_ms, uint64_t ms)
{
    uint64_t back = *credit_ms < ms ? *credit_ms : ms;

    *credit_ms -= back;
    *used_ms += ms - back;
}

struct turn queue_take(struct queue *q, struct task *t, uint32_t cost_ms, bool head)
{
    struct lane        *l = t->lot->lane;
    struct share       *s = l->job->share;
    struct queue_class *c = &q->of[s->level];
    uint32_t            charge_ms = t->charged_ms ? 0 : cost_ms;
    struct turn         turn;

    assert((t->place == PLACE_FRESH || t->place == PLACE_RETRY) && !s->parked);
    t->charged_ms += charge_ms;
    if (head) { /* who was passed over, because no worker fitted, has saved nothing */
        if (c->used_ms < q->present_ms) c->used_ms = q->present_ms;
        if (s->used_ms < c->present_ms) s->used_ms = c->present_ms;
    }
    turn = (struct turn){.share_ms = s->used_ms, .class_ms = c->used_ms, .level = (uint8_t)s->level};
    l->n_passed = lane_first(l) == t ? 0 : (uint8_t)(l->n_passed + 1);
    share_leave(q, s);
    share_home(s);
    pay(&c->used_ms, &c->credit_ms, charge_ms * class_price[c - q->of]);
    pay(&s->used_ms, &s->credit_ms, charge_ms);
    s->since_ms = q->now_ms;
    share_place(&q->of[s->level], s);
    queue_remove(q, t); /* with its last task the share leaves */
    if ((l->fresh || l->retry) && !l->job->due_ms) {
        DL_DELETE(s->lane, l);
        DL_APPEND(s->lane, l);
    }
    return turn;
}

void queue_begun(struct queue *q, const struct turn *turn)
{
    struct queue_class *c = &q->of[turn->level];

    if (q->present_ms < turn->class_ms) q->present_ms = turn->class_ms;
    if (c->present_ms < turn->share_ms) c->present_ms = turn->share_ms;
}

void queue_settle(struct queue *q, struct task *t, uint32_t worth_ms)
{
    struct share       *s = task_job(t)->share;
    struct queue_class *c = &q->of[s->key.job_class];
    uint64_t            price = class_price[s->key.job_class];
    bool                home = s->level == s->key.job_class, linked = s->lane && !s->parked && home;

    if (!t->charged_ms) return; /* taken before a restart */
    if (worth_ms < t->charged_ms) {
        s->credit_ms += t->charged_ms - worth_ms;
        c->credit_ms += price * (t->charged_ms - worth_ms);
    } else {
        if (linked) share_leave(q, s);
        pay(home ? &s->used_ms : &s->home_ms, &s->credit_ms, worth_ms - t->charged_ms);
        pay(&c->used_ms, &c->credit_ms, price * (worth_ms - t->charged_ms));
        if (linked) share_place(c, s);
    }
    t->charged_ms = 0;
}

void queue_age(struct queue *q)
{
    for (int k = CLASS_NORMAL; k <= CLASS_BULK; k++) {
        struct share *s, *next;

        DL_FOREACH_SAFE(q->of[k].share, s, next)
        {
            if (s->level != s->key.job_class || q->now_ms - s->since_ms < age_ms[k]) continue;
            share_leave(q, s);
            s->home_ms = s->used_ms;
            s->used_ms = 0; /* it joins at the present, before all who had anything since */
            s->level--;
            share_join(q, s);
        }
    }
}

void queue_ripen(struct queue *q, int64_t now_ms)
{
    struct task *t, *next;

    q->now_ms = now_ms;
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
        if (!c->share || (last && (c->used_ms < last->used_ms || (c->used_ms == last->used_ms && c <= last)))) continue;
        if (!best || c->used_ms < best->used_ms) best = c;
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
    const struct queue_class *c = &q->of[s->level];

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
