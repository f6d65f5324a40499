/* group.c - see group.h.
 * Believes: a picture is in one place: on a shelf, in a rank's hands, or given back; who takes it from there has it alone.
 * One lock for shelves and hands: they move some ten times a second. No hook is called with it held. */
#include "worker/group.h"

#include <assert.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/hash.h"
#include "base/log.h"
#include "worker/selftest.h"

#define TASKS_MAX  (PLACE_IMAGE_MAX + 2)
#define SAMPLE_MS  1000

enum seat_state { SEAT_OPENING, SEAT_OPEN, SEAT_REFUSED };

struct seat { /* a station and its thread */
    struct group    *g;
    struct station   station;
    pthread_t        thread;
    bool             started;
    int64_t          sampled_ms;              /* its thread's */
    /* shared: under g->mtx */
    enum seat_state  state;
    struct err       why;
    int64_t          done_bytes, all_bytes;   /* while it opens */
    struct picture  *in_hand;
    int64_t          since_us, busy_us, said_us; /* in_hand since; worked in all; that much was told */
    struct engine_memory memory;
};

struct shelf { /* oldest first */
    struct picture *at[TASKS_MAX];
    int             n;
};

struct group {
    const struct group_conf *conf; /* while it opens */
    struct group_hooks hooks;
    int                n, n_tasks_max;
    struct seat        seat[PLACE_RANKS_MAX];
    pthread_mutex_t    loading; /* one on_loading at a time */
    pthread_mutex_t    mtx;     /* all below */
    pthread_cond_t     moved;
    struct shelf       shelf[STATION_WORKS];
    struct picture    *orphan[PLACE_RANKS_MAX]; /* of ranks that stopped after another one was lost */
    int                n_orphans, n_tasks;
    uint64_t           n_tickets;
    int64_t            said_us;
    bool               running, ending, lost;
};

/* For a signal handler, which has no context: what each rank has in hand. A process has one group. */
static struct {
    volatile uint64_t task, epoch;
} making[PLACE_RANKS_MAX];
static _Thread_local volatile int my_rank = -1;

uint64_t group_task(uint64_t *epoch)
{
    int mine = my_rank, n = 0;

    for (int i = 0; i < PLACE_RANKS_MAX && my_rank < 0; i++)
        if (making[i].task) {
            mine = i;
            n++;
        }
    if (mine < 0 || n > 1) return 0;
    *epoch = making[mine].epoch;
    return making[mine].task;
}

static void shelf_put(struct shelf *s, struct picture *p)
{
    assert(s->n < TASKS_MAX);
    s->at[s->n++] = p;
}

static struct picture *shelf_take(struct shelf *s, int i)
{
    struct picture *p = s->at[i];

    memmove(s->at + i, s->at + i + 1, (size_t)(--s->n - i) * sizeof *s->at);
    return p;
}

/* ---- hooks of the pictures ---- */

static void on_stage(void *ctx, const struct picture *cp, enum stage stage, int step)
{
    struct seat    *s = ctx;
    struct picture *p = (struct picture *)(uintptr_t)cp; /* in this rank's hands */

    p->rank = s->station.index;
    p->stage = stage;
    s->g->hooks.on_stage(s->g->hooks.ctx, p, stage, step);
}

static void sample(struct seat *s)
{
    struct engine_memory m;

    engine_memory(s->station.engine, &m);
    s->sampled_ms = now_ms();
    pthread_mutex_lock(&s->g->mtx);
    s->memory = m;
    pthread_mutex_unlock(&s->g->mtx);
}

static bool on_step(void *ctx, struct picture *p, int done)
{
    struct seat *s = ctx;

    on_stage(s, p, STAGE_DENOISE, done);
    if (now_ms() - s->sampled_ms >= SAMPLE_MS) sample(s);
    return p->canceled;
}

/* ---- work ---- */

/* The lock is held. */
static struct picture *pick(struct group *g, const struct station *r, enum station_work *work)
{
    static const enum station_work order[] = {STATION_ENCODE, STATION_DECODE, STATION_PAINT}; /* what others wait for first */

    for (int i = 0; i < STATION_WORKS; i++) {
        *work = order[i];
        if (g->shelf[*work].n > 0 && station_does(r, *work)) return shelf_take(&g->shelf[*work], 0);
    }
    return NULL;
}

static int work_on(struct seat *s, enum station_work work, struct picture *p, enum station_work *next, struct err *e)
{
    const struct picture_hooks hooks = {s, on_stage, on_step};
    int                        rc;

    if (!p->canceled) {
        rc = station_do(&s->station, work, p, &hooks, next, e);
        sample(s);
        return rc;
    }
    picture_drop(p);
    return err_set(e, ERR_CANCELED, "canceled");
}

static void give_up(struct seat *s, struct picture *p, const struct err *e)
{
    struct group *g = s->g;
    bool          first;

    pthread_mutex_lock(&g->mtx);
    first = !g->lost;
    g->lost = true;
    if (!first) g->orphan[g->n_orphans++] = p;
    pthread_cond_broadcast(&g->moved);
    pthread_mutex_unlock(&g->mtx);
    if (first) g->hooks.on_lost(g->hooks.ctx, p, e);
}

/* p goes on, or is given back. */
static void pass_on(struct seat *s, struct picture *p, int rc, enum station_work next, struct err *e)
{
    struct group *g = s->g;
    bool          back = rc || next == STATION_DONE, lost;

    if (rc == ERR_DEVICE || rc == ERR_IO) { /* IO: a file of the model was cut: this rank would fail whatever comes next */
        give_up(s, p, e);
        return;
    }
    if (rc && s->station.linked) engine_drop(s->station.engine, p->ticket);
    if (!back && g->n > 1) on_stage(s, p, STAGE_WAITING, 0);
    pthread_mutex_lock(&g->mtx);
    lost = g->lost;
    if (lost) g->orphan[g->n_orphans++] = p;
    else if (back) g->n_tasks--;
    else shelf_put(&g->shelf[next], p);
    pthread_cond_broadcast(&g->moved);
    pthread_mutex_unlock(&g->mtx);
    if (lost || !back) return;
    if (rc) g->hooks.on_failed(g->hooks.ctx, p, rc, e);
    else g->hooks.on_pixels(g->hooks.ctx, p);
}

static void serve(struct seat *s)
{
    struct group *g = s->g;

    pthread_mutex_lock(&g->mtx);
    while (!g->ending && !g->lost) {
        struct err      e = {0};
        enum station_work  work, next = STATION_DONE;
        struct picture *p = g->running ? pick(g, &s->station, &work) : NULL;
        int             rc;

        if (!p) {
            pthread_cond_wait(&g->moved, &g->mtx);
            continue;
        }
        s->in_hand = p;
        s->since_us = now_us();
        pthread_mutex_unlock(&g->mtx);
        making[s->station.index].epoch = p->epoch;
        making[s->station.index].task = p->task;
        rc = work_on(s, work, p, &next, &e);
        making[s->station.index].task = 0;
        pthread_mutex_lock(&g->mtx);
        s->in_hand = NULL;
        s->busy_us += now_us() - s->since_us;
        pthread_mutex_unlock(&g->mtx);
        pass_on(s, p, rc, next, &e);
        pthread_mutex_lock(&g->mtx);
    }
    pthread_mutex_unlock(&g->mtx);
}

/* ---- open ---- */

/* On the seat's thread. */
static void on_progress(void *ctx, int64_t done_bytes, int64_t all_bytes, const char *what)
{
    struct seat  *s = ctx;
    struct group *g = s->g;
    int64_t       done = 0, all = 0;

    if (strcmp(what, "ready") == 0) return; /* this rank is; open_seats() says when all are */
    pthread_mutex_lock(&g->loading);
    pthread_mutex_lock(&g->mtx);
    s->done_bytes = done_bytes;
    s->all_bytes = all_bytes;
    for (int i = 0; i < g->n; i++) {
        done += g->seat[i].done_bytes;
        all += g->seat[i].all_bytes;
    }
    pthread_mutex_unlock(&g->mtx);
    g->hooks.on_loading(g->hooks.ctx, done, all, what);
    pthread_mutex_unlock(&g->loading);
}

static void *run(void *arg)
{
    struct seat       *s = arg;
    struct group      *g = s->g;
    struct engine_opts o = g->conf->engine;
    struct err         e = {0};
    int                rc;

    my_rank = s->station.index;
    o.on_progress = on_progress;
    o.ctx = s;
    rc = station_open(&s->station, &o, &e);
    if (!rc) sample(s);
    pthread_mutex_lock(&g->mtx);
    s->state = rc ? SEAT_REFUSED : SEAT_OPEN;
    s->why = e;
    s->done_bytes = s->all_bytes;
    pthread_cond_broadcast(&g->moved);
    pthread_mutex_unlock(&g->mtx);
    if (!rc) serve(s);
    return NULL;
}

static int open_seats(struct group *g, struct err *e)
{
    int rc = 0;

    for (int i = 0; i < g->n && !rc; i++) {
        struct seat *s = &g->seat[i];

        if (pthread_create(&s->thread, NULL, run, s)) rc = err_set(e, ERR_NOMEM, "no thread for the rank on %s", s->station.device);
        else s->started = true;
    }
    pthread_mutex_lock(&g->mtx);
    for (int i = 0; i < g->n; i++) {
        struct seat *s = &g->seat[i];

        while (s->started && s->state == SEAT_OPENING) pthread_cond_wait(&g->moved, &g->mtx);
        if (rc || s->state != SEAT_REFUSED) continue;
        rc = err_set(e, s->why.code, "%s", s->why.text);
        if (g->n > 1) err_in(e, "rank %d on %s", i, s->station.device);
    }
    pthread_mutex_unlock(&g->mtx);
    return rc;
}

static struct engine *engine_with(const struct group *g, enum engine_part part, int n)
{
    for (int i = 0; i < g->n; i++)
        if ((g->seat[i].station.parts & part) && n-- == 0) return g->seat[i].station.engine;
    return NULL;
}

/* Every rank that paints, with those that encode and decode for it: also what opens the ways between them. */
static int self_test(struct group *g, struct err *e)
{
    struct engine *text = engine_with(g, ENGINE_TEXT, 0), *image;
    int            rc = 0;

    for (int i = 0; !rc && (image = engine_with(g, ENGINE_DIT, i)); i++) {
        struct engine              *vae = engine_with(g, ENGINE_VAE, engine_with(g, ENGINE_VAE, 1) ? i : 0); /* each its own, or one for all */
        const struct selftest_ranks ranks = {text, image, vae};
        int64_t                     from = now_ms();
        uint8_t                     sha[SHA256_BYTES];
        char                        text_of_sha[SHA256_HEX];

        if ((rc = selftest_run(&ranks, sha, e))) break;
        hex_of(sha, 8, text_of_sha); /* the same after every restart on the same device */
        log_info("self_test", "device=%s pixels=%s took_ms=%lld", engine_profile(image)->device, text_of_sha, (long long)(now_ms() - from));
    }
    return rc;
}

/* All ranks are open, and their threads wait: this one may use their engines. */
static int meet(struct group *g, const struct group_conf *c, struct err *e)
{
    struct engine *engine[PLACE_RANKS_MAX];
    int            rc;

    for (int i = 0; i < g->n; i++) engine[i] = g->seat[i].station.engine;
    if (g->n > 1) {
        g->hooks.on_loading(g->hooks.ctx, 0, 0, "linking devices");
        if ((rc = engine_link(engine, g->n, c->transfer_ms, e))) return rc;
        log_info("link", "ranks=%d over=\"%s\"", g->n, engine_link_about(engine[0]));
    }
    return self_test(g, e);
}

int group_open(struct group **out, const struct group_conf *c, const struct group_hooks *hooks, struct err *e)
{
    struct group *g = calloc(1, sizeof *g);
    int64_t       all = 0;
    int           rc;

    if (!g) return err_set(e, ERR_NOMEM, "no memory for a group of ranks");
    g->conf = c;
    g->hooks = *hooks;
    g->n = place_ranks(c->place);
    g->n_tasks_max = place_tasks(c->place);
    pthread_mutex_init(&g->loading, NULL);
    pthread_mutex_init(&g->mtx, NULL);
    pthread_cond_init(&g->moved, NULL);
    for (int i = 0; i < g->n; i++) {
        g->seat[i].g = g;
        station_init(&g->seat[i].station, i, c->place, c->engine.device, c->engine.n_threads);
    }
    if ((rc = open_seats(g, e)) || (rc = meet(g, c, e))) {
        group_free(g);
        return rc;
    }
    for (int i = 0; i < g->n; i++) all += g->seat[i].all_bytes;
    hooks->on_loading(hooks->ctx, all, all, "ready");
    pthread_mutex_lock(&g->mtx);
    g->conf = NULL;
    g->said_us = now_us();
    g->running = true;
    pthread_cond_broadcast(&g->moved);
    pthread_mutex_unlock(&g->mtx);
    *out = g;
    return 0;
}

void group_free(struct group *g)
{
    struct engine *engine[PLACE_RANKS_MAX];
    int            n = 0;

    if (!g) return;
    pthread_mutex_lock(&g->mtx);
    g->ending = true;
    for (int i = 0; i < g->n; i++)
        if (g->seat[i].in_hand) g->seat[i].in_hand->canceled = true;
    pthread_cond_broadcast(&g->moved);
    pthread_mutex_unlock(&g->mtx);
    for (int i = 0; i < g->n; i++)
        if (g->seat[i].started) pthread_join(g->seat[i].thread, NULL);
    for (int w = 0; w < STATION_WORKS; w++)
        while (g->shelf[w].n) picture_free(shelf_take(&g->shelf[w], 0));
    while (g->n_orphans) picture_free(g->orphan[--g->n_orphans]);
    for (int i = 0; i < g->n; i++)
        if (g->seat[i].station.engine) engine[n++] = g->seat[i].station.engine;
    engine_unlink(engine, n);
    while (n) engine_free(engine[--n]);
    pthread_cond_destroy(&g->moved);
    pthread_mutex_destroy(&g->mtx);
    pthread_mutex_destroy(&g->loading);
    free(g);
}

/* ---- what others ask ---- */

const struct engine_profile *group_profile(const struct group *g)
{
    return engine_profile(engine_with(g, ENGINE_DIT, 0));
}

int group_ranks(const struct group *g)
{
    return g->n;
}

const struct engine_profile *group_rank_profile(const struct group *g, int rank)
{
    return engine_profile(g->seat[rank].station.engine);
}

const char *group_link_about(const struct group *g)
{
    return engine_link_about(g->seat[0].station.engine);
}

int group_put(struct group *g, struct picture *p, struct err *e)
{
    int rc = 0;

    pthread_mutex_lock(&g->mtx);
    if (g->n_tasks == g->n_tasks_max) rc = err_set(e, ERR_BUSY, "the engine has %d tasks in its hands: no more fit", g->n_tasks);
    else {
        g->n_tasks++;
        p->ticket = ++g->n_tickets;
        shelf_put(&g->shelf[STATION_ENCODE], p);
        pthread_cond_broadcast(&g->moved);
    }
    pthread_mutex_unlock(&g->mtx);
    return rc;
}

static bool is(const struct picture *p, uint64_t task, uint64_t epoch)
{
    return p && p->task == task && p->epoch == epoch;
}

/* The lock is held. *out: taken from its shelf. One that holds parts of an engine stays there for that engine's thread. */
static bool find(struct group *g, uint64_t task, uint64_t epoch, struct picture **out)
{
    for (int i = 0; i < g->n; i++)
        if (is(g->seat[i].in_hand, task, epoch)) {
            g->seat[i].in_hand->canceled = true;
            return true;
        }
    for (int w = 0; w < STATION_WORKS; w++)
        for (int i = 0; i < g->shelf[w].n; i++) {
            struct picture *p = g->shelf[w].at[i];

            if (!is(p, task, epoch)) continue;
            p->canceled = true;
            if (p->pos) return true;
            *out = shelf_take(&g->shelf[w], i);
            g->n_tasks--;
            return true;
        }
    return false;
}

bool group_cancel(struct group *g, uint64_t task, uint64_t epoch)
{
    struct picture *p = NULL;
    struct err      e;
    bool            here;

    pthread_mutex_lock(&g->mtx);
    here = find(g, task, epoch, &p);
    pthread_mutex_unlock(&g->mtx);
    if (!p) return here;
    engine_drop(g->seat[0].station.engine, p->ticket);
    err_set(&e, ERR_CANCELED, "canceled");
    g->hooks.on_failed(g->hooks.ctx, p, ERR_CANCELED, &e);
    return true;
}

bool group_idle(struct group *g)
{
    bool idle;

    pthread_mutex_lock(&g->mtx);
    idle = g->n_tasks == 0;
    pthread_mutex_unlock(&g->mtx);
    return idle;
}

void group_loads(struct group *g, struct group_load loads[PLACE_RANKS_MAX])
{
    pthread_mutex_lock(&g->mtx);
    int64_t now = now_us(), passed = now > g->said_us ? now - g->said_us : 1;
    for (int i = 0; i < g->n; i++) {
        struct seat *s = &g->seat[i];
        int64_t      busy = s->busy_us + (s->in_hand ? now - s->since_us : 0), permille = (busy - s->said_us) * 1000 / passed;

        loads[i] = (struct group_load){s->memory.used_bytes, s->memory.total_bytes, (uint32_t)(permille < 1000 ? permille : 1000)};
        s->said_us = busy;
    }
    g->said_us = now;
    pthread_mutex_unlock(&g->mtx);
}

void group_abort(struct group *g, const char *words)
{
    engine_link_fail(g->seat[0].station.engine, words);
}
