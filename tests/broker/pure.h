/* pure.h - jobs, workers and time made up, for test_queue.c, test_roster.c and test_dispatch.c. */
#ifndef TESTS_BROKER_PURE_H
#define TESTS_BROKER_PURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>
#include <utlist.h>

#include "broker/dispatch.h"

struct pure {
    struct book   book;
    struct queue  queue;
    struct roster roster;
    struct rates  rates;
    uint64_t      n_keys, n_workers, epoch;
};

__attribute__((unused)) static void pure_open(struct pure *p)
{
    memset(p, 0, sizeof *p);
    book_init(&p->book, 1, 0);
}

__attribute__((unused)) static void pure_close(struct pure *p)
{
    struct worker *w, *next;
    struct grant  *g, *next_grant;

    DL_FOREACH_SAFE(p->roster.orphans, g, next_grant) grant_free(&p->roster, g);
    DL_FOREACH_SAFE(p->roster.worker, w, next)
    {
        DL_FOREACH_SAFE(w->grant, g, next_grant) grant_free(&p->roster, g);
        roster_drop(&p->roster, w);
    }
    standing_release(&p->roster.standing);
    rates_release(&p->rates);
    book_release(&p->book);
}

/* A job of n images of one model (NULL ends the list), all in the queue. */
__attribute__((unused)) static struct job *pure_job(struct pure *p, uint32_t n_each, ...)
{
    uint8_t       key[KEY_BYTES] = {0}, sha[32] = {0};
    struct item   it = {.n_images = n_each};
    struct batch *c, *same;
    struct job   *j;
    const char   *model;
    uint32_t      n = 0;
    va_list       ap;

    va_start(ap, n_each);
    while (va_arg(ap, const char *)) n += n_each;
    va_end(ap);
    p->n_keys++;
    memcpy(key, &p->n_keys, 8);
    j = book_job(&p->book, key, str_of("j"), n, 0);
    c = job_batch(j, 0, n, sha, &same);
    spec_init(&it.spec);
    va_start(ap, n_each);
    while ((model = va_arg(ap, const char *))) {
        it.spec.model = str_of(model);
        batch_lot(c, &it, str_of("b"));
    }
    va_end(ap);
    batch_seal(&p->book, c);
    for (uint32_t i = 0; i < n; i++) queue_push(&p->queue, &c->task[i]);
    return j;
}

/* A job of n images of one spec for one client, all in the queue; due_ms 0: no deadline. */
__attribute__((unused)) static struct job *pure_of(struct pure *p, uint32_t n, const char *client, enum job_class c, const struct spec *s, int64_t due_ms)
{
    uint8_t       key[KEY_BYTES] = {0}, sha[32] = {0};
    struct item   it = {.n_images = n, .spec = *s};
    struct batch *b, *same;
    struct job   *j;

    p->n_keys++;
    memcpy(key, &p->n_keys, 8);
    j = book_job(&p->book, key, str_of("j"), n, 0);
    book_share(&p->book, j, str_of(client), c);
    if (due_ms) book_due(&p->book, j, due_ms);
    b = job_batch(j, 0, n, sha, &same);
    batch_lot(b, &it, str_of("b"));
    batch_seal(&p->book, b);
    for (uint32_t i = 0; i < n; i++) queue_push(&p->queue, &b->task[i]);
    return j;
}

/* A spec of that size and prompt, on the model "turbo". */
__attribute__((unused)) static struct spec pure_spec(int32_t px, const char *prompt)
{
    struct spec s;

    spec_init(&s);
    s.width_px = s.height_px = px;
    s.prompt = str_of(prompt);
    s.model = str_of("turbo");
    return s;
}

__attribute__((unused)) static struct worker *pure_worker(struct pure *p, uint32_t capacity, const char *model, const char *model2, int64_t now)
{
    struct model_info m[2] = {{.name = str_of(model), .profile = str_of("turbo")}, {.name = str_of(model2), .profile = str_of("base")}};
    char              name[20];
    struct hello      h = {.role = ROLE_WORKER, .capacity = capacity, .model = m, .n_models = model2 ? 2 : model ? 1 : 0};
    struct route      route = {.len = 1, .id = {(uint8_t)p->n_workers}};

    snprintf(name, sizeof name, "w%d", (int)++p->n_workers);
    h.name = str_of(name);
    memcpy(h.instance, &p->n_workers, 8);
    return roster_hello(&p->roster, &h, NULL, &route, now);
}

/* Leases a pair as the broker does. */
__attribute__((unused)) static bool pure_next(struct pure *p, int64_t now, struct pair *pair)
{
    queue_ripen(&p->queue, now);
    if (!dispatch_next(&p->queue, &p->roster, &p->rates, now, pair)) return false;
    for (size_t i = 0; i <= pair->n_also; i++) {
        struct task  *t = i ? pair->also[i - 1] : pair->task;
        struct grant *g;

        if (!t->lot->lane->model.len) snprintf(task_job(t)->model, MODEL_MAX_BYTES + 1, "%.*s", (int)pair->model.len, pair->model.at);
        g = roster_grant(pair->worker, t, ++p->epoch, now);
        g->sent = true;
        g->n_batch = (uint8_t)(1 + pair->n_also);
        g->usual_ms = pair->usual_ms;
        g->turn = pair->turn;
        task_move(&p->book, t, TASK_RUNNING);
    }
    return true;
}

/* Its worker says that it works on it. */
__attribute__((unused)) static void pure_begin(struct pure *p, struct task *t)
{
    t->grant->begun_ms = 1;
    queue_begun(&p->queue, &t->grant->turn);
}

/* The worker is through with it; to is DONE, or QUEUED (not pushed). */
__attribute__((unused)) static void pure_end(struct pure *p, struct task *t, enum task_state to)
{
    grant_free(&p->roster, t->grant);
    task_move(&p->book, t, to);
}

#endif
