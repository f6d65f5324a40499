/* broker_world.h - the world around a broker, made of memory, for fuzz_dispatch.c: its journal, sockets, timers, disk and clock. The broker's own
 * rooms are the real ones; what they call below is defined here, so that the linker never takes the real journal.c, peer.c, loop.c ...
 *
 *   world_reset(); broker_open(&b, &conf, &e); world_say(route, &msg); world_hear(b); world_commit(n); world_pass(ms); world_crash(...)
 *
 * Believes: a commit is the only thing that makes a request durable; a crash forgets all others, whole requests from the end (J2).
 * Invariants checked here: W1 no epoch is sent in two leases.  W2 RESULT_OK and HAVE only for a task whose row is final on disk.  W3 a task that
 *   is DONE on disk stays DONE; CANCELED and EXPIRED stay, too.  W4 an answer to SUBMIT only for a job on disk. */
#ifndef TESTS_FUZZ_BROKER_WORLD_H
#define TESTS_FUZZ_BROKER_WORLD_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/file.h"
#include "broker/broker.h"
#include "proto/check.h"
#include "proto/loop.h"

#define WORLD_ROUTES 8    /* 0..3 clients, 4..7 workers */
#define WORLD_JOURNAL_FD 7
#define WORLD_EPOCHS 4096
#define CHECK(yes)   do { if (!(yes)) { fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #yes); abort(); } } while (0)

/* ---- memory for messages: taken once ---- */
int         __wrap_arena_init(struct arena *a, const char *name, size_t cap);
void        __wrap_arena_release(struct arena *a);
static char world_memory[2][MSG_ARENA_BYTES];

int __wrap_arena_init(struct arena *a, const char *name, size_t cap)
{
    memset(a, 0, sizeof *a);
    a->name = name;
    a->base = world_memory[strcmp(name, "answer") == 0];
    a->cap = cap;
    return cap > sizeof world_memory[0];
}

void __wrap_arena_release(struct arena *a)
{
    memset(a, 0, sizeof *a);
}

/* ---- the clock ---- */
static int64_t world_ms;

int64_t now_ms(void) { return world_ms; }
int64_t now_us(void) { return world_ms * 1000; }
int64_t wall_ms(void) { return 1700000000000 + world_ms; }
void    sleep_ms(int64_t ms) { (void)ms; }
int     clock_cond_init(pthread_cond_t *c) { return pthread_cond_init(c, NULL); }
bool    clock_cond_wait(pthread_cond_t *c, pthread_mutex_t *held, int64_t until_ms) { (void)c, (void)held, (void)until_ms; return false; }
void    clock_iso(int64_t ms, char out[CLOCK_ISO_BYTES]) { snprintf(out, CLOCK_ISO_BYTES, "%lld", (long long)ms); }

/* ---- the journal ---- */
enum { ROW_JOB, ROW_BATCH, ROW_ITEM, ROW_TASK, ROW_FORGET, ROW_SETTING };
struct row {
    int kind;
    union {
        struct job_row   job;
        struct batch_row batch;
        struct item_row  item;
        struct task_row  task;
        uint64_t         forget;
        struct { enum setting_kind kind; bool on; } setting;
    };
    char  text[3][NAME_MAX_BYTES + 1], *long_text; /* what strs of the row point to */
    struct row *next;
};
struct journal_req {
    journal_done_f *done;
    void           *ctx;
    struct row     *row, **end;
    struct journal_req *next;
};
struct journal {
    struct journal_req *waiting, **end;
    uint64_t            boot, seq, next_job;
};
static struct row *disk; /* applied rows, oldest first; settings and tasks replace their like */
static struct journal the_journal;
static uint64_t disk_boot, disk_seq;
static loop_fd_f *world_on_journal;
static void      *world_ctx;

static void row_free(struct row *r)
{
    free(r->long_text);
    free(r);
}

static uint64_t row_id(const struct row *r)
{
    switch (r->kind) {
    case ROW_JOB: return r->job.job;
    case ROW_BATCH: return r->batch.job << 20 | r->batch.first_task;
    case ROW_ITEM: return r->item.job << 20 | r->item.first_task;
    case ROW_TASK: return r->task.task;
    default: return 0;
    }
}

static struct row *disk_find(int kind, uint64_t id)
{
    struct row *r = disk;

    while (r && (r->kind != kind || row_id(r) != id)) r = r->next;
    return r;
}

static bool final_on_disk(uint64_t task)
{
    const struct row *r = disk_find(ROW_TASK, task);

    return !r || task_state_final((enum task_state)r->task.state); /* no row: its job was forgotten */
}

static bool row_replaces(const struct row *r, const struct row *old)
{
    if (r->kind != old->kind) return false;
    if (r->kind == ROW_SETTING) return r->setting.kind == old->setting.kind && !strcmp(r->text[0], old->text[0]);
    return r->kind != ROW_FORGET && row_id(r) == row_id(old);
}

static void disk_apply(struct row *r)
{
    struct row **at = &disk, *old;

    if (r->kind == ROW_TASK && (old = disk_find(ROW_TASK, r->task.task))) { /* W3 */
        CHECK(r->task.state == old->task.state || (old->task.state != TASK_DONE && old->task.state != TASK_CANCELED && old->task.state != TASK_EXPIRED));
        CHECK(r->task.seq >= old->task.seq && r->task.leases <= LEASES_PER_TASK_MAX && r->task.crashes <= CRASHES_MAX && r->task.nans <= NANS_MAX);
    }
    if (r->kind == ROW_TASK && r->task.seq > disk_seq) disk_seq = r->task.seq;
    while (*at) {
        old = *at;
        if (row_replaces(r, old) || (r->kind == ROW_FORGET && (row_id(old) >> 20 == r->forget || (old->kind == ROW_JOB && row_id(old) == r->forget)))) {
            *at = old->next;
            row_free(old);
        } else {
            at = &old->next;
        }
    }
    r->next = NULL;
    if (r->kind == ROW_FORGET || (r->kind == ROW_SETTING && !r->setting.on))
        row_free(r);
    else
        *at = r;
}

static void req_free(struct journal_req *r)
{
    for (struct row *w = r->row, *next; w; w = next) {
        next = w->next;
        row_free(w);
    }
    free(r);
}

int journal_open(struct journal **out, const char *dir, struct err *e)
{
    (void)dir, (void)e;
    the_journal = (struct journal){.boot = ++disk_boot, .seq = disk_seq, .next_job = 1};
    the_journal.end = &the_journal.waiting;
    for (const struct row *r = disk; r; r = r->next)
        if (r->kind == ROW_JOB && r->job.job >= the_journal.next_job) the_journal.next_job = r->job.job + 1;
    *out = &the_journal;
    return 0;
}

int journal_load(struct journal *j, const struct journal_reader *r, struct err *e)
{
    static const int order[] = {ROW_SETTING, ROW_JOB, ROW_BATCH, ROW_ITEM, ROW_TASK};
    int              rc = 0;

    (void)j;
    for (size_t k = 0; k < sizeof order / sizeof *order; k++)
        for (const struct row *w = disk; w && rc == 0; w = w->next) {
            if (w->kind != order[k]) continue;
            if (w->kind == ROW_SETTING) rc = r->setting(r->ctx, w->setting.kind, str_of(w->text[0]), e);
            if (w->kind == ROW_JOB) rc = r->job(r->ctx, &w->job, e);
            if (w->kind == ROW_BATCH) rc = r->batch(r->ctx, &w->batch, e);
            if (w->kind == ROW_ITEM) rc = r->item(r->ctx, &w->item, e);
            if (w->kind == ROW_TASK) rc = r->task(r->ctx, &w->task, e);
        }
    return rc;
}

int            journal_start(struct journal *j, struct err *e) { (void)j, (void)e; return 0; }
uint64_t       journal_boot_id(const struct journal *j) { return j->boot; }
uint64_t       journal_next_job(const struct journal *j) { return j->next_job; }
uint64_t       journal_seq(const struct journal *j) { return j->seq; }
int            journal_n_unclean(const struct journal *j) { (void)j; return 0; }
uint64_t       journal_next_result(const struct journal *j) { (void)j; return 1ull << 32 | disk_boot << 16; }
bool           journal_full(const struct journal *j) { (void)j; return false; }
int            journal_fd(const struct journal *j) { (void)j; return WORLD_JOURNAL_FD; }
void           journal_reap(struct journal *j) { (void)j; }
const uint8_t *journal_store(const struct journal *j) { (void)j; return (const uint8_t *)"the fuzzed store"; }

struct journal_req *journal_req(enum journal_mode mode, journal_done_f *done, void *ctx)
{
    struct journal_req *r = calloc(1, sizeof *r);

    (void)mode;
    r->done = done;
    r->ctx = ctx;
    r->end = &r->row;
    return r;
}

void *journal_ctx(const struct journal_req *r) { return r->ctx; }

static struct row *row_add(struct journal_req *r, int kind)
{
    struct row *w = calloc(1, sizeof *w);

    w->kind = kind;
    *r->end = w;
    r->end = &w->next;
    return w;
}

static struct str row_keep(struct row *w, int k, struct str s)
{
    CHECK(s.len <= NAME_MAX_BYTES);
    if (s.len) memcpy(w->text[k], s.at, s.len);
    return (struct str){w->text[k], s.len};
}

static struct str row_keep_long(struct row *w, struct str s)
{
    w->long_text = calloc(1, s.len + 1);
    if (s.len) memcpy(w->long_text, s.at, s.len);
    return (struct str){w->long_text, s.len};
}

void journal_put_job(struct journal_req *r, const struct job_row *row)
{
    struct row *w = row_add(r, ROW_JOB);

    w->job = *row;
    w->job.name = row_keep(w, 0, row->name);
    w->job.model = row_keep(w, 1, row->model);
    w->job.client = row_keep(w, 2, row->client);
}

void journal_put_batch(struct journal_req *r, const struct batch_row *row) { row_add(r, ROW_BATCH)->batch = *row; }

void journal_put_item(struct journal_req *r, const struct item_row *row)
{
    struct row *w = row_add(r, ROW_ITEM);

    w->item = *row;
    w->item.bytes = row_keep_long(w, row->bytes);
}

void journal_put_task(struct journal_req *r, const struct task_row *row)
{
    struct row *w = row_add(r, ROW_TASK);

    w->task = *row;
    w->task.worker = row_keep(w, 0, row->worker);
    w->task.error = row_keep_long(w, row->error);
}

void journal_put_setting(struct journal_req *r, enum setting_kind kind, struct str name, bool on)
{
    struct row *w = row_add(r, ROW_SETTING);

    row_keep(w, 0, name);
    w->setting.kind = kind;
    w->setting.on = on;
}

void journal_put_result(struct journal_req *r, uint64_t row, struct str bytes) { (void)r, (void)row, (void)bytes; }
void journal_forget_result(struct journal_req *r, uint64_t row) { (void)r, (void)row; }
void journal_forget_job(struct journal_req *r, uint64_t job, uint64_t seq)
{
    row_add(r, ROW_FORGET)->forget = job;
    if (seq > disk_seq) disk_seq = seq;
}
void journal_read_result(struct journal *j, uint64_t row, journal_read_f *done, void *ctx) { (void)j, (void)row, (void)done, (void)ctx; CHECK(!"nobody fetches here"); }

void journal_send(struct journal *j, struct journal_req *r)
{
    *j->end = r;
    j->end = &r->next;
}

/* The next n requests become durable, and are answered. */
static void world_commit(int n)
{
    struct journal_req *r;

    for (; n && (r = the_journal.waiting); n--) {
        if (!(the_journal.waiting = r->next)) the_journal.end = &the_journal.waiting;
        for (struct row *w = r->row, *next; w; w = next) {
            next = w->next;
            disk_apply(w);
        }
        r->row = NULL;
        if (r->done) r->done(r->ctx, 0, NULL);
        req_free(r);
    }
    world_on_journal(world_ctx, WORLD_JOURNAL_FD, world_ms);
}

void journal_close(struct journal *j)
{
    struct err e = {0};

    err_set(&e, ERR_STATE, "closed");
    for (struct journal_req *r = j->waiting, *next; r; r = next) {
        next = r->next;
        if (r->done) r->done(r->ctx, ERR_STATE, &e);
        req_free(r);
    }
    j->waiting = NULL;
}

/* ---- sockets, timers, disk: see what is sent, call what is due ---- */
struct peer { int unused; };
struct loop { int unused; };
static struct peer  the_peer;
static struct loop  the_loop;
static loop_peer_f *world_on_message;
static loop_timer_f *world_timer[8];
static int          world_n_timers, world_send_rc[WORLD_ROUTES];
static struct msg   world_said;
static uint8_t      world_from;
static bool         world_speaks;
static uint64_t     world_epoch[WORLD_EPOCHS];
static size_t       world_n_epochs;
static void         world_lease(int route, const struct lease *l);
static void         world_beat_ok(int route, const struct beat_ok *m);
static void         world_forget(int route, uint64_t task);

static void sent_lease(int route, const struct lease *l)
{
    for (size_t i = 0; i < world_n_epochs; i++) CHECK(world_epoch[i] != l->epoch); /* W1 */
    CHECK(world_n_epochs < WORLD_EPOCHS);
    world_epoch[world_n_epochs++] = l->epoch;
    world_lease(route, l);
}

int peer_send(struct peer *p, const struct route *to, const struct msg *m, struct err *e)
{
    int route = to->id[0];

    (void)p;
    CHECK(to->len == 1 && route < WORLD_ROUTES);
    if (world_send_rc[route]) return err_set(e, world_send_rc[route], "the fuzzer says so");
    if (m->kind == MSG_LEASE) sent_lease(route, &m->lease);
    for (size_t i = 0; m->kind == MSG_LEASES && i < m->leases.n_leases; i++) sent_lease(route, &m->leases.lease[i]);
    if (m->kind == MSG_BEAT_OK) world_beat_ok(route, &m->beat_ok);
    if (m->kind == MSG_RESULT_OK) {
        CHECK(final_on_disk(m->result_ok.task)); /* W2 */
        world_forget(route, m->result_ok.task);
    }
    if (m->kind == MSG_OFFER_OK && m->offer_ok.verdict != OFFER_UPLOAD) {
        CHECK(m->offer_ok.verdict == OFFER_DROP || final_on_disk(m->offer_ok.task));
        world_forget(route, m->offer_ok.task);
    }
    if (m->kind == MSG_SUBMIT_OK) CHECK(disk_find(ROW_JOB, m->submit_ok.job)); /* W4 */
    return 0;
}

int peer_recv(struct peer *p, struct arena *a, struct route *from, struct msg *m, struct err *e)
{
    (void)p, (void)a, (void)e;
    if (!world_speaks) return ERR_BUSY;
    world_speaks = false;
    *from = (struct route){.len = 1, .id = {world_from}};
    *m = world_said;
    return 0;
}

size_t   peer_sent_bytes(const struct peer *p) { (void)p; return 0; }
uint64_t peer_arrived(const struct route *to, uint64_t *mark) { (void)to, (void)mark; return UINT64_MAX; }
bool route_eq(const struct route *a, const struct route *b) { return a->len == b->len && !memcmp(a->id, b->id, a->len); }
int  peer_bind(struct peer **out, const char *endpoint, const struct peer_opts *o, struct err *e) { (void)endpoint, (void)o, (void)e; *out = &the_peer; return 0; }
const char    *peer_endpoint(const struct peer *p) { (void)p; return "fuzz"; }
void           peer_close(struct peer *p) { (void)p; }
bool           peer_keyed(const struct peer *p) { (void)p; return false; }
const uint8_t *peer_user(const struct peer *p) { (void)p; return NULL; }
uint64_t       peer_n_refused(struct peer *p) { (void)p; return 0; }
void          *peer_context(struct err *e) { (void)e; return NULL; }
int  loop_open(struct loop **out, struct err *e) { (void)e; *out = &the_loop; return 0; }
void loop_free(struct loop *l) { (void)l; }
int  loop_fd(struct loop *l, int fd, loop_fd_f *f, void *ctx) { (void)l, (void)ctx; if (fd == WORLD_JOURNAL_FD) world_on_journal = f; return 0; }
int  loop_peer(struct loop *l, struct peer *p, loop_peer_f *f, void *ctx) { (void)l, (void)p; world_on_message = f; world_ctx = ctx; return 0; }
int  loop_timer(struct loop *l, int64_t period_ms, loop_timer_f *f, void *ctx) { (void)l, (void)period_ms, (void)ctx; world_timer[world_n_timers] = f; return world_n_timers++; }
void loop_timer_set(struct loop *l, int id, int64_t at_ms) { (void)l, (void)id, (void)at_ms; }
int  loop_signal(struct loop *l, loop_signal_f *f, void *ctx, struct err *e) { (void)l, (void)f, (void)ctx, (void)e; return 0; }
int  loop_run(struct loop *l, struct err *e) { (void)l, (void)e; return 0; }
void loop_stop(struct loop *l) { (void)l; CHECK(!"the broker gave up"); }
int  syncer_open(struct syncer **out, struct err *e) { (void)out, (void)e; return 0; }
void syncer_put(struct syncer *s, syncer_work_f *work, syncer_done_f *done, void *ctx) { struct err e = {0}; (void)s; done(ctx, work(ctx, &e), &e); }
int  syncer_fd(const struct syncer *s) { (void)s; return -1; }
void syncer_reap(struct syncer *s) { (void)s; }
size_t syncer_n(const struct syncer *s) { (void)s; return 0; }
void   syncer_close(struct syncer *s) { (void)s; }
int    spool_open(struct spool *s, const char *dir, struct err *e) { (void)s, (void)dir, (void)e; return 0; }
void   spool_release(struct spool *s) { (void)s; }
int    spool_begin(struct spool *s, const struct part *p, struct spool_put **out, struct err *e) { (void)s, (void)p, (void)out; return err_set(e, ERR_LIMIT, "no files here"); }
int    spool_write(struct spool_put *put, uint64_t offset, struct str bytes, struct err *e) { (void)put, (void)offset, (void)bytes; return err_set(e, ERR_PROTO, "no files here"); }
int    spool_check(struct spool_put *put, struct err *e) { (void)put; return err_set(e, ERR_FORMAT, "no files here"); }
int    spool_commit(struct spool_put *put, struct err *e) { (void)put, (void)e; return 0; }
struct str spool_bytes(const struct spool_put *put) { (void)put; return (struct str){0}; }
void   spool_end(struct spool_put *put) { (void)put; }
void   spool_ref(struct spool *s, const uint8_t sha256[32]) { (void)s, (void)sha256; }
void   spool_unref(struct spool *s, const uint8_t sha256[32]) { (void)s, (void)sha256; }
int    spool_get(struct spool *s, const struct part *p, bool verify, int *fd, struct err *e) { (void)s, (void)p, (void)verify, (void)fd; return err_set(e, ERR_NOTFOUND, "no files here"); }
size_t spool_sweep(struct spool *s) { (void)s; return 0; }

/* One message from route, through the broker's own door. What is no message at all (msg_check) is not sent: wire.c never lets it in. */
static void world_say(int route, const struct msg *m)
{
    struct err e;

    if (msg_check(m, &e)) return;
    world_said = *m;
    world_from = (uint8_t)route;
    world_speaks = true;
    world_on_message(world_ctx, &the_peer, world_ms);
}

static void world_pass(int64_t ms)
{
    world_ms += ms;
    for (int i = 0; i < world_n_timers; i++) world_timer[i](world_ctx, world_ms);
}

static void world_reset(void)
{
    for (struct row *r = disk, *next; r; r = next) {
        next = r->next;
        row_free(r);
    }
    disk = NULL;
    disk_boot = disk_seq = 0;
    world_ms = 1000;
    world_n_timers = 0;
    world_n_epochs = 0;
    memset(world_send_rc, 0, sizeof world_send_rc);
}

#endif
