/* fake.h - a scripted broker in a thread, for tests of the client: it answers by the protocol, and misbehaves on demand.
 * Every job has n_tasks tasks, all done; task k+1 is made of fake_bytes(k). */
#ifndef TESTS_CLIENT_FAKE_H
#define TESTS_CLIENT_FAKE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/hash.h"
#include "proto/peer.h"

#define FAKE_PART_BYTES (700 * 1024 + 13) /* several chunks, more than the first credit would hold twice over */

struct fake {
    char       endpoint[256];
    uint32_t   n_tasks;
    atomic_int end;
    /* misbehaviour; each is counted down */
    atomic_int forget;    /* answer with UNKNOWN_SESSION */
    atomic_int busy;      /* answer with BUSY */
    atomic_int busy_ms;   /* and ask to wait that long; 0: 50 ms */
    atomic_int mute;      /* do not answer */
    atomic_int refuse;    /* answer SUBMIT with INVALID */
    atomic_int corrupt;   /* break a byte of a part */
    atomic_int gone;      /* answer FETCH with NOT_FOUND */
    atomic_int fail_task; /* index + 1 of a task that failed */
    /* what was seen */
    atomic_int   n_hello, n_submit, n_items, n_fetch, n_collected;
    uint64_t     transfer, task; /* being sent */
    size_t       sent;
    uint64_t     credit;
    struct part  part;
    pthread_t    thread;
    struct peer *peer;
};

static inline void fake_bytes(uint32_t k, uint8_t *at)
{
    for (size_t i = 0; i < FAKE_PART_BYTES; i++) at[i] = (uint8_t)(i * 31 + k * 7 + (i >> 9));
}

static inline struct part fake_part(uint32_t k)
{
    uint8_t    *at = malloc(FAKE_PART_BYTES);
    struct part p = {.kind = PART_IMAGE, .size_bytes = FAKE_PART_BYTES};

    fake_bytes(k, at);
    sha256_of(at, FAKE_PART_BYTES, p.sha256);
    free(at);
    return p;
}

static inline bool fake_take(atomic_int *n)
{
    if (atomic_load(n) <= 0) return false;
    atomic_fetch_sub(n, 1);
    return true;
}

static inline void fake_chunks(struct fake *f, const struct route *to)
{
    uint8_t *at = malloc(FAKE_PART_BYTES);

    fake_bytes((uint32_t)f->task - 1, at);
    while (f->transfer && f->credit && f->sent < FAKE_PART_BYTES) {
        struct msg m = {.kind = MSG_CHUNK};
        size_t     n = FAKE_PART_BYTES - f->sent;

        if (n > CHUNK_MAX_BYTES) n = CHUNK_MAX_BYTES;
        if (n > f->credit) n = f->credit;
        if (f->sent == 0 && fake_take(&f->corrupt)) at[3] ^= 1;
        m.chunk = (struct chunk){
            .transfer = f->transfer, .offset = f->sent, .last = f->sent + n == FAKE_PART_BYTES, .bytes = {(char *)at + f->sent, n}};
        if (peer_send(f->peer, to, &m, NULL)) break;
        f->sent += n;
        f->credit -= n;
    }
    free(at);
}

static inline void fake_answer(struct fake *f, const struct route *from, const struct msg *m)
{
    struct msg        r = {.correlation = m->correlation};
    struct task_info *all = NULL;

    if (m->kind == MSG_CREDIT) {
        f->credit += m->credit.credit_bytes;
        fake_chunks(f, from);
        return;
    }
    if (m->kind == MSG_BYE) return;
    if (m->kind != MSG_HELLO && fake_take(&f->mute)) return;
    if (m->kind != MSG_HELLO && (atomic_load(&f->forget) > 0 || atomic_load(&f->busy) > 0)) {
        bool busy = !fake_take(&f->forget) && fake_take(&f->busy);

        r.kind = MSG_ERROR;
        r.error = (struct error){.code = busy ? WIRE_BUSY : WIRE_UNKNOWN_SESSION, .retry_after_ms = busy && atomic_load(&f->busy_ms) ? (uint32_t)atomic_load(&f->busy_ms) : 50, .text = {"try later", 9}};
        peer_send(f->peer, from, &r, NULL);
        return;
    }
    switch (m->kind) {
    case MSG_HELLO:
        atomic_fetch_add(&f->n_hello, 1);
        r.kind = MSG_WELCOME;
        r.welcome =
            (struct welcome){.major = WIRE_MAJOR, .minor = WIRE_MINOR, .boot_id = 1, .store = "0123456789abcde", .beat_ms = BEAT_MS};
        break;
    case MSG_SUBMIT:
        atomic_fetch_add(&f->n_submit, 1);
        atomic_fetch_add(&f->n_items, (int)m->submit.n_items);
        f->n_tasks = m->submit.n_tasks;
        r.kind = MSG_SUBMIT_OK;
        r.submit_ok = (struct submit_ok){.job = 7, .n_tasks_known = m->submit.first_task};
        if (fake_take(&f->refuse)) {
            r.kind = MSG_ERROR;
            r.error = (struct error){.code = WIRE_INVALID, .text = {"the broker does not like it", 27}};
        }
        break;
    case MSG_EVENTS:
        all = calloc(f->n_tasks + 1, sizeof *all);
        r.kind = MSG_EVENTS_OK;
        memcpy(r.events_ok.store, "0123456789abcde", 16);
        r.events_ok.job = (struct job_info){.job = 7, .n_tasks = f->n_tasks, .n_done = f->n_tasks, .eta_ms = -1};
        for (uint64_t k = m->events.cursor; k < f->n_tasks && r.events_ok.n_events < m->events.limit && r.events_ok.n_events < EVENTS_MAX;
             k++) {
            bool failed = atomic_load(&f->fail_task) == (int)k + 1;

            all[r.events_ok.n_events++] = (struct task_info){.seq = k + 1,
                                                             .job = 7,
                                                             .task = k + 1,
                                                             .index = (uint32_t)k,
                                                             .seed = 100 + k,
                                                             .state = failed ? TASK_FAILED : TASK_DONE,
                                                             .width_px = 64,
                                                             .height_px = 64,
                                                             .part = {fake_part((uint32_t)k)},
                                                             .n_parts = !failed,
                                                             .took_ms = 5,
                                                             .attempts = 1,
                                                             .worker = {"w", 1}, .label = {"../../x", k == 4 ? 7 : 0},
                                                             .error = {"not finite", failed ? 10 : 0}};
        }
        r.events_ok.event = all;
        r.events_ok.next_cursor = m->events.cursor + r.events_ok.n_events;
        break;
    case MSG_JOBS:
        r.kind = MSG_JOBS_OK;
        break;
    case MSG_FETCH:
        atomic_fetch_add(&f->n_fetch, 1);
        r.kind = MSG_FETCH_OK;
        f->part = fake_part((uint32_t)m->fetch.task - 1);
        r.fetch_ok = (struct fetch_ok){.transfer = m->fetch.transfer, .part = f->part};
        if (fake_take(&f->gone)) {
            r.kind = MSG_ERROR;
            r.error = (struct error){.code = WIRE_NOT_FOUND, .text = {"no longer kept", 14}};
        }
        f->transfer = m->fetch.transfer;
        f->task = m->fetch.task;
        f->sent = m->fetch.offset;
        f->credit = m->fetch.credit_bytes;
        break;
    case MSG_COLLECTED:
        atomic_fetch_add(&f->n_collected, (int)m->collected.n_tasks);
        r.kind = MSG_COLLECTED_OK;
        r.collected_ok.n_known = (uint32_t)m->collected.n_tasks;
        break;
    case MSG_CANCEL:
        r.kind = MSG_CANCEL_OK;
        r.cancel_ok = (struct cancel_ok){.n_canceled = 2, .n_canceling = 1, .n_finished = 3};
        break;
    default:
        return;
    }
    peer_send(f->peer, from, &r, NULL);
    if (r.kind == MSG_FETCH_OK) fake_chunks(f, from);
    free(all);
}

static inline void *fake_run(void *ctx)
{
    struct fake *f = ctx;
    struct arena a;

    arena_init(&a, "fake", MSG_ARENA_BYTES);
    while (!atomic_load(&f->end)) {
        struct route from;
        struct msg   m;

        arena_reset(&a, 0);
        if (peer_recv(f->peer, &a, &from, &m, NULL) == 0)
            fake_answer(f, &from, &m);
        else
            peer_wait(f->peer, 20);
    }
    arena_release(&a);
    peer_close(f->peer);
    return NULL;
}

static inline int fake_open(struct fake *f, const char *dir)
{
    snprintf(f->endpoint, sizeof f->endpoint, "ipc://%.240s/fake", dir);
    if (peer_bind(&f->peer, f->endpoint, NULL, NULL)) return -1;
    atomic_store(&f->end, 0);
    return pthread_create(&f->thread, NULL, fake_run, f);
}

static inline void fake_close(struct fake *f)
{
    atomic_store(&f->end, 1);
    pthread_join(f->thread, NULL);
}

#endif
