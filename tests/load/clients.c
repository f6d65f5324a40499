/* clients.c - clients: jobs submitted in pieces, followed by EVENTS, results taken, checked and collected. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/hash.h"
#include "tests/load/load.h"

#define FETCHES_MAX 4

enum ask { ASK_SUBMIT = 1, ASK_EVENTS, ASK_FETCH, ASK_COLLECTED, ASK_CANCEL }; /* in the low byte of a correlation; above it the job's place */

struct order { /* an open job */
    uint64_t job;
    uint8_t  key[KEY_BYTES];
    uint32_t n_tasks, n_sent, n_acked, n_done;
    uint64_t cursor;
    bool     asking, canceled;
    uint8_t *seen; /* per task: DONE was heard */
    int64_t  sent_us; /* the last SUBMIT */
};

struct client {
    struct tie   tie;
    struct order order[OPEN_MAX];
    long         left;   /* tasks it has still to submit in new jobs */
    int          n_open, n_unacked, n_uncollected; /* SUBMITs and CANCELs, COLLECTEDs without their answer */
    uint64_t     collect[COLLECTED_MAX];
    size_t       n_collect;
    struct task_info *fetch; /* to be fetched, a ring */
    size_t       fetch_at, n_fetch, fetch_cap;
    uint64_t     transfer;
    struct { struct task_info t; struct buf bytes; uint64_t transfer; } fetching[FETCHES_MAX];
    bool         up;
};

static void submit_piece(struct client *c, struct order *o)
{
    static struct item item[SUBMIT_ITEMS_MAX];
    char               prompt[SUBMIT_ITEMS_MAX][32];
    struct load       *l = c->tie.load;
    uint32_t           n = o->n_tasks - o->n_sent < SUBMIT_ITEMS_MAX ? o->n_tasks - o->n_sent : SUBMIT_ITEMS_MAX;
    struct msg         m = {.kind = MSG_SUBMIT, .correlation = (uint64_t)(o - c->order) << 8 | ASK_SUBMIT,
                            .submit = {.n_tasks = o->n_tasks, .first_task = o->n_sent, .item = item, .n_items = n}};

    memcpy(m.submit.key, o->key, KEY_BYTES);
    for (uint32_t i = 0; i < n; i++) {
        item[i].n_images = 1;
        spec_init(&item[i].spec);
        snprintf(prompt[i], sizeof prompt[i], "a cat, number %ld", l->n_given++);
        item[i].spec.prompt = str_of(prompt[i]);
        item[i].spec.width_px = item[i].spec.height_px = 64;
    }
    o->n_sent += n;
    o->sent_us = now_us();
    c->n_unacked++;
    tie_send(&c->tie, &m);
}

static void ask_events(struct client *c, struct order *o)
{
    const struct load *l = c->tie.load;
    struct msg         m = {.kind = MSG_EVENTS, .correlation = (uint64_t)(o - c->order) << 8 | ASK_EVENTS,
                            .events = {.job = o->job, .cursor = o->cursor, .limit = EVENTS_MAX, .wait_ms = 30000,
                                       .inline_bytes = l->o.fetch || l->o.bytes > INLINE_MAX_BYTES ? 0 : (uint32_t)l->o.bytes}};

    if (o->asking || !l->o.workers) return;
    o->asking = true;
    tie_send(&c->tie, &m);
}

static void open_job(struct client *c)
{
    const struct load *l = c->tie.load;

    for (int i = 0; i < l->o.open; i++) {
        struct order *o = &c->order[i];

        if (o->n_tasks) continue;
        *o = (struct order){.n_tasks = (uint32_t)(c->left < l->o.items ? c->left : l->o.items)};
        random_bytes(o->key, KEY_BYTES);
        o->seen = calloc(o->n_tasks, 1);
        if (!o->seen) abort();
        c->left -= o->n_tasks;
        c->n_open++;
        submit_piece(c, o);
        return;
    }
}

static void flush_collected(struct client *c)
{
    struct msg m = {.kind = MSG_COLLECTED, .correlation = ASK_COLLECTED, .collected = {c->collect, c->n_collect}};

    if (!c->n_collect) return;
    tie_send(&c->tie, &m);
    c->n_collect = 0;
    c->n_uncollected++;
}

/* The bytes of a task are here. */
static void got_bytes(struct client *c, const struct task_info *t, struct str bytes)
{
    struct load *l = c->tie.load;
    uint8_t      sha[32];

    sha256_of(bytes.at, bytes.len, sha);
    if (bytes.len != (size_t)l->o.bytes || memcmp(bytes.at, &t->task, sizeof t->task) != 0 || memcmp(sha, t->part[0].sha256, 32) != 0) l->n_garbled++;
    if (c->n_collect == COLLECTED_MAX) flush_collected(c);
    c->collect[c->n_collect++] = t->task;
    l->n_collected++;
}

static void fetch_next(struct client *c)
{
    for (size_t i = 0; i < FETCHES_MAX && c->n_fetch; i++) {
        struct msg m = {.kind = MSG_FETCH, .correlation = i << 8 | ASK_FETCH};

        if (c->fetching[i].transfer) continue;
        c->fetching[i].t = c->fetch[c->fetch_at];
        c->fetch_at = (c->fetch_at + 1) % c->fetch_cap;
        c->n_fetch--;
        c->fetching[i].transfer = ++c->transfer;
        buf_init(&c->fetching[i].bytes, BYTES_MAX);
        m.fetch = (struct fetch){c->fetching[i].t.task, PART_IMAGE, 0, CREDIT_MAX_BYTES, c->transfer};
        tie_send(&c->tie, &m);
    }
}

static void fetch_later(struct client *c, const struct task_info *t)
{
    if (c->n_fetch == c->fetch_cap) { /* unrolled into a larger ring */
        size_t            cap = c->fetch_cap ? 2 * c->fetch_cap : 64;
        struct task_info *ring = calloc(cap, sizeof *ring);

        if (!ring) abort();
        for (size_t i = 0; i < c->n_fetch; i++) ring[i] = c->fetch[(c->fetch_at + i) % c->fetch_cap];
        free(c->fetch);
        c->fetch = ring;
        c->fetch_at = 0;
        c->fetch_cap = cap;
    }
    c->fetch[(c->fetch_at + c->n_fetch++) % c->fetch_cap] = *t;
}

static void fetched(struct client *c, size_t i, struct str bytes)
{
    got_bytes(c, &c->fetching[i].t, bytes);
    buf_release(&c->fetching[i].bytes);
    c->fetching[i].transfer = 0;
}

static void on_chunk(struct client *c, const struct chunk *k)
{
    for (size_t i = 0; i < FETCHES_MAX; i++) {
        if (c->fetching[i].transfer != k->transfer || buf_put(&c->fetching[i].bytes, k->bytes.at, k->bytes.len)) continue;
        if (k->last) fetched(c, i, buf_str(&c->fetching[i].bytes));
        return;
    }
    load_fail("a chunk nobody asked for");
}

static void order_over(struct client *c, struct order *o)
{
    c->tie.load->n_jobs_over++;
    free(o->seen);
    *o = (struct order){0};
    c->n_open--;
}

static void on_events(struct client *c, struct order *o, const struct events_ok *m)
{
    struct load *l = c->tie.load;

    o->asking = false;
    o->cursor = m->next_cursor;
    for (size_t i = 0; i < m->n_events; i++) {
        const struct task_info *t = &m->event[i];

        if (t->state != TASK_DONE && t->state != TASK_CANCELED) continue;
        if (t->index >= o->n_tasks || o->seen[t->index]++) {
            l->n_twice++;
            continue;
        }
        o->n_done++;
        if (t->state == TASK_CANCELED) l->n_canceled++;
        else if (t->bytes[0].len) got_bytes(c, t, t->bytes[0]);
        else fetch_later(c, t);
    }
    if (o->n_done < o->n_tasks) {
        ask_events(c, o);
        return;
    }
    order_over(c, o);
}

static void on_submitted(struct client *c, struct order *o, const struct submit_ok *m)
{
    struct load *l = c->tie.load;
    uint32_t     before = o->n_acked;
    int64_t      now = now_us();

    o->job = m->job;
    o->n_acked = m->n_tasks_known;
    l->n_acked += o->n_acked - before;
    c->n_unacked--;
    times_put(&l->submit, now - o->sent_us);
    if (l->o.rate && m->job < l->queued_cap) l->queued_us[m->job] = now;
    if (o->n_sent < o->n_tasks) submit_piece(c, o);
    if (l->o.hold && o->n_acked == o->n_tasks && !l->worker && c->left) { /* only submitting: the next place */
        free(o->seen);
        *o = (struct order){0};
        c->n_open--;
    } else if (!l->o.hold) {
        ask_events(c, o);
    }
}

static void may_submit(struct client *c)
{
    const struct load *l = c->tie.load;

    while (c->up && !l->o.rate && c->left && c->n_open < l->o.open) open_job(c);
}

static void on_client(struct tie *t, const struct msg *m)
{
    struct client *c = (struct client *)(void *)t;
    struct order  *o = m ? &c->order[(m->correlation >> 8) % OPEN_MAX] : NULL;

    if (!m) {
        fetch_next(c);
        flush_collected(c);
        may_submit(c);
        return;
    }
    switch (m->kind) {
    case MSG_CANCEL_OK: c->n_unacked--; break;
    case MSG_COLLECTED_OK: c->n_uncollected--; break;
    case MSG_WELCOME: c->up = true; break;
    case MSG_SUBMIT_OK: on_submitted(c, o, &m->submit_ok); break;
    case MSG_EVENTS_OK: on_events(c, o, &m->events_ok); break;
    case MSG_FETCH_OK:
        if (m->fetch_ok.bytes.len) fetched(c, m->correlation >> 8, m->fetch_ok.bytes);
        break;
    case MSG_CHUNK: on_chunk(c, &m->chunk); break;
    case MSG_ERROR:
        if (m->error.code != WIRE_NOT_FOUND || (m->correlation & 255) != ASK_EVENTS || !o->canceled)
            load_fail("a client is told: %.*s", (int)m->error.text.len, m->error.text.at);
        c->tie.load->n_canceled += o->n_tasks - o->n_done; /* canceled, and forgotten while nobody asked */
        order_over(c, o);
        break;
    default: break;
    }
}

bool client_cancel_one(struct load *l, int i, uint32_t dice)
{
    struct client *c = &l->client[i];

    for (int k = 0; k < l->o.open; k++) {
        int           at = (int)((dice + (uint32_t)k) % (uint32_t)l->o.open);
        struct order *o = &c->order[at];
        struct msg    m = {.kind = MSG_CANCEL, .correlation = (uint64_t)at << 8 | ASK_CANCEL, .cancel.job = o->job};

        if (!o->n_tasks || o->n_acked < o->n_tasks || o->canceled) continue;
        o->canceled = true;
        c->n_unacked++;
        tie_send(&c->tie, &m);
        return true;
    }
    return false;
}

bool client_again(struct load *l, int i)
{
    struct client *c = &l->client[i];

    if (!c->up || c->n_unacked || c->n_uncollected || c->n_fetch) return false;
    for (int k = 0; k < FETCHES_MAX; k++)
        if (c->fetching[k].transfer) return false;
    tie_again(&c->tie, NULL, 0);
    for (int k = 0; k < l->o.open; k++) {
        struct order *o = &c->order[k];

        o->asking = false;
        if (o->n_tasks) ask_events(c, o);
    }
    return true;
}

void clients_open(struct load *l)
{
    l->client = calloc((size_t)l->o.clients, sizeof *l->client);
    if (!l->client) abort();
    if (l->o.rate) {
        l->queued_cap = (uint64_t)l->o.tasks + 2;
        l->queued_us = calloc(l->queued_cap, sizeof *l->queued_us);
        if (!l->queued_us) abort();
        l->pace_us = now_us() + 1000000;
    }
    for (int i = 0; i < l->o.clients; i++) {
        l->client[i].left = l->o.tasks / l->o.clients + (i < l->o.tasks % l->o.clients);
        tie_open(l, &l->client[i].tie, on_client, ROLE_CLIENT);
        if (i % 32 == 31) load_turn(l, 1);
    }
}

void clients_turn(struct load *l)
{
    static int at;
    int64_t    now = now_us();

    if (!l->client) return;
    if (l->o.hold && l->worker) { /* workers have come: now the clients ask */
        for (int i = 0; i < l->o.clients; i++)
            for (int k = 0; k < l->o.open; k++)
                if (l->client[i].order[k].n_tasks && !l->client[i].order[k].asking && l->client[i].order[k].job) ask_events(&l->client[i], &l->client[i].order[k]);
    }
    if (l->o.soak_min && l->pace_us < now - 1000000) l->pace_us = now - 1000000; /* what a starved machine missed is not made up for: the rate is the most there is */
    for (int tried = 0; l->o.rate && now >= l->pace_us && l->n_given < l->o.tasks && tried < l->o.clients; tried++) { /* one more by the next that may */
        struct client *c = &l->client[at++ % l->o.clients];

        if (!c->up || !c->left || c->n_open == l->o.open) continue;
        open_job(c);
        l->pace_us += 1000000 / l->o.rate;
        tried = 0;
    }
}
