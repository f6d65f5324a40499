/* broker_events.c - EVENTS: long polls that wait for news of a job, or of all.
 * Believes: what is durable is news, and book.news says of which jobs, so that a commit looks at their waiters alone, not at everybody's;
 * time-outs and progress are looked at in their own rhythm. A crowd hears progress less often than one: it must not crowd out the work.
 * Invariants: E1 every waiter is in b->waiter and either in its job's list or, asking for all, in b->waiter_all.  E2 a job with waiters is not
 * forgotten (restore_purge).
 * Not here: what an event is (job.c). */
#include "broker/broker.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#define CROWD 64 /* waiters; with twice as many progress comes half as often */

/* As book_events(); of all jobs, those that s sees: the cursor moves over the others, so that they are looked at once. */
static size_t events_of(struct broker *b, const struct session *s, const struct job *j, uint64_t *cursor, struct task **task, size_t cap)
{
    size_t   n, n_seen = 0;
    uint64_t next = *cursor;

    do {
        *cursor = next;
        n = book_events(&b->book, j, *cursor, task, cap, &next);
        for (size_t i = 0; i < n; i++)
            if (j || session_sees(s, task_job(task[i]))) task[n_seen++] = task[i];
    } while (n && !n_seen);
    *cursor = next;
    return n_seen;
}

static bool news(struct broker *b, struct waiter *w, const struct job *j)
{
    struct task *task[EVENTS_MAX];
    uint64_t     cursor = w->ask.cursor;

    if (j || w->session->rank == KEY_ADMIN) return book_news(&b->book, j, w->ask.cursor);
    if (events_of(b, w->session, NULL, &cursor, task, EVENTS_MAX)) return true;
    w->ask.cursor = cursor;
    return false;
}

static bool progress_due(const struct broker *b, const struct session *s, int64_t now_ms)
{
    return now_ms - s->progress_ms >= PROGRESS_MS * (1 + (int64_t)b->n_waiters / CROWD);
}

/* Is it to be answered now? */
static bool due(struct broker *b, struct waiter *w, int64_t now_ms)
{
    const struct job *j = w->ask.job ? book_find(&b->book, w->ask.job) : NULL;
    uint64_t          tick = j ? j->tick : b->book.tick;

    if (session_behind(w->session)) return false;
    if (now_ms >= w->until_ms || w->ask.cursor > b->book.seq || (w->ask.job && !j)) return true;
    if (news(b, w, j)) return true;
    return tick > w->session->tick_seen && progress_due(b, w->session, now_ms);
}

void waiter_drop(struct broker *b, struct waiter *w)
{
    DL_DELETE(b->waiter, w);
    b->n_waiters--;
    w->session->n_waiters--;
    if (w->job) DL_DELETE2(w->job->waiter, w, prev_of_job, next_of_job);
    else DL_DELETE2(b->waiter_all, w, prev_of_job, next_of_job);
    free(w);
}

/* Small parts of a result that are in memory come with its event. */
static void ride(struct broker *b, const struct task *t, size_t most_bytes, size_t *left_bytes, struct task_info *out)
{
    for (size_t i = 0; i < out->n_parts && most_bytes; i++) {
        struct str bytes = out->part[i].size_bytes <= most_bytes ? store_peek(&b->store, &out->part[i], t->out->home[i]) : (struct str){0};

        if (bytes.len > *left_bytes) continue;
        out->bytes[i] = bytes;
        *left_bytes -= bytes.len;
    }
}

static void answer(struct broker *b, struct waiter *w, int64_t now_ms)
{
    struct session *s = w->session;
    struct job     *j = w->ask.job ? book_find(&b->book, w->ask.job) : NULL;
    struct msg      m = {.kind = MSG_EVENTS_OK, .correlation = w->correlation};
    size_t          cap = w->ask.limit < EVENTS_MAX ? w->ask.limit : EVENTS_MAX;
    struct task    *task[EVENTS_MAX];
    size_t          n_running = j && j->n[TASK_RUNNING] < WORKERS_MAX ? j->n[TASK_RUNNING] : WORKERS_MAX;
    bool            progress = progress_due(b, s, now_ms); /* in a flood of events not with each of them */
    size_t          left_bytes = BULK_MAX_BYTES / 2; /* the events themselves take the other half at most */

    arena_reset(&b->out, 0);
    memcpy(m.events_ok.store, journal_store(b->journal), KEY_BYTES);
    m.events_ok.next_cursor = w->ask.cursor;
    m.events_ok.n_events = events_of(b, s, j, &m.events_ok.next_cursor, task, cap);
    m.events_ok.event = arena_array(&b->out, m.events_ok.n_events, sizeof *m.events_ok.event); /* made as large as they are: they are zeroed first */
    for (size_t i = 0; i < m.events_ok.n_events; i++) {
        task_describe(task[i], &m.events_ok.event[i]);
        ride(b, task[i], w->ask.inline_bytes, &left_bytes, &m.events_ok.event[i]);
    }
    if (progress) {
        m.events_ok.progress = arena_array(&b->out, n_running, sizeof *m.events_ok.progress);
        m.events_ok.n_progress = info_progress(b, j, NULL, s, now_ms, m.events_ok.progress, n_running);
        s->progress_ms = now_ms;
        s->tick_seen = b->book.tick;
    }
    if (j) info_job(b, j, now_ms, &m.events_ok.job);
    broker_send(b, s->peer, &s->route, &m);
    waiter_drop(b, w);
}

void broker_wake(struct broker *b, int64_t now)
{
    struct waiter *w, *next;

    DL_FOREACH_SAFE(b->waiter, w, next)
        if (due(b, w, now)) answer(b, w, now);
}

void broker_news(struct broker *b, int64_t now)
{
    struct waiter *w, *next;
    struct job    *j;
    bool           any = b->book.news != NULL;

    while ((j = book_news_take(&b->book)))
        DL_FOREACH_SAFE2(j->waiter, w, next, next_of_job)
            if (due(b, w, now)) answer(b, w, now);
    if (any)
        DL_FOREACH_SAFE2(b->waiter_all, w, next, next_of_job)
            if (due(b, w, now)) answer(b, w, now);
}

void on_events(struct broker *b, const struct ask *a)
{
    const struct events *q = &a->m->events;
    struct waiter       *w;

    if (q->job && !broker_job(b, a, q->job)) {
        broker_error(b, a, WIRE_NOT_FOUND, 0, "there is no job %" PRIu64, q->job);
        return;
    }
    if (a->session->n_waiters >= WAITERS_PER_SESSION) {
        broker_error(b, a, WIRE_BUSY, 1000, "%d EVENTS of this connection wait already", WAITERS_PER_SESSION);
        return;
    }
    w = calloc(1, sizeof *w);
    if (!w) abort();
    *w = (struct waiter){.session = a->session, .correlation = a->m->correlation, .ask = *q, .until_ms = a->now_ms + q->wait_ms,
                         .job = q->job ? book_find(&b->book, q->job) : NULL};
    DL_APPEND(b->waiter, w);
    if (w->job) DL_APPEND2(w->job->waiter, w, prev_of_job, next_of_job);
    else DL_APPEND2(b->waiter_all, w, prev_of_job, next_of_job);
    b->n_waiters++;
    a->session->n_waiters++;
    if (due(b, w, a->now_ms)) answer(b, w, a->now_ms);
}
