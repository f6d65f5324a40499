/* actors.h - a broker process, and clients and workers who say what the test tells them; for test_broker.c and test_restart.c.
 *
 *   struct farm f; farm_open(&f); farm_start(&f);   struct actor c; actor_open(&c, f.endpoint, ROLE_CLIENT); actor_hello(&c, NULL, 0);
 *   m = actor_ask(&c, &(struct msg){.kind = MSG_JOBS, ...}, MSG_JOBS_OK);   farm_kill(&f); farm_start(&f); ...
 *
 * The broker is this very program, started again with --broker (actors_main). Nothing here sleeps for longer than it takes. A worker that waits says
 * a word now and then, as workers do: a test that is slow must not look like a worker that is gone. */
#ifndef TESTS_BROKER_ACTORS_H
#define TESTS_BROKER_ACTORS_H

#include <setjmp.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/clock.h"
#include "base/hash.h"
#include "broker/broker.h"
#include "tests/tmp.h"

#define ACTOR_STASH   4096
#define ACTOR_WAIT_MS 60000
#define ACTOR_SAY_MS  1000
#define UNUSED        __attribute__((unused))

/* ---- the broker ---- */
struct farm {
    struct tmp  tmp;
    char        data[300], endpoint[300]; /* with port "*": it is known when the broker has started */
    const char *retention; /* NULL: the default */
    pid_t       pid;
};

/* The syncing of a large result, in the broker: held while there is a file of the name in ACTORS_HOLD. */
UNUSED static int held_fsync(int fd)
{
    while (access(getenv("ACTORS_HOLD"), F_OK) == 0) sleep_ms(2);
    return fsync(fd);
}

/* In main(): when the program was started as a broker, runs it and returns its exit code; else -1. */
UNUSED static int actors_main(int argc, char **argv)
{
    struct broker_conf conf;
    struct broker     *b = NULL;
    struct err         e = {0};
    int                code;

    if (argc < 2 || strcmp(argv[1], "--broker") != 0) return -1;
    conf_parse(&conf, argc - 1, argv + 1);
    log_level_set(conf.level);
    log_name_set("broker");
    code = broker_open(&b, &conf, &e) ? 1 : 0;
    if (!code && getenv("ACTORS_HOLD")) b->store.spool.os.fsync = held_fsync;
    if (!code) code = broker_run(b, &e);
    if (code) fprintf(stderr, "zfarm-broker: %s\n", e.text);
    broker_close(b);
    peer_shutdown();
    return code;
}

/* Starts a broker on data; *said receives what it wrote to its ready-fd, "" when it ended first. err_fd: its stderr, or -1. */
UNUSED static pid_t spawn_broker(const char *data, const char *endpoint, const char *retention, int err_fd, char *said, size_t cap)
{
    int     ready[2];
    pid_t   pid;
    ssize_t n = 0, got;
    char    fd[16];

    if (pipe(ready)) abort();
    pid = fork();
    if (pid == 0) {
        snprintf(fd, sizeof fd, "%d", ready[1]);
        prctl(PR_SET_PDEATHSIG, SIGKILL); /* a test that fails leaves nothing behind */
        close(ready[0]);
        if (err_fd >= 0) dup2(err_fd, 2);
        execl("/proc/self/exe", "zfarm-broker", "--broker", "--listen", endpoint, "--data", data, "--ready-fd", fd, "--log-level",
              getenv("ACTORS_LOG") ? getenv("ACTORS_LOG") : "none", "--retention", retention ? retention : "24", "--crash-guard", getenv("ACTORS_GUARD") ? getenv("ACTORS_GUARD") : "0",
              "--quota", getenv("ACTORS_QUOTA") ? getenv("ACTORS_QUOTA") : "queued=1000000", NULL);
        _exit(99);
    }
    close(ready[1]);
    while (n < (ssize_t)cap - 1 && (got = read(ready[0], said + n, cap - 1 - (size_t)n)) > 0) n += got;
    said[n] = 0;
    close(ready[0]);
    return pid;
}

UNUSED static void farm_open(struct farm *f)
{
    memset(f, 0, sizeof *f);
    tmp_open(&f->tmp);
    snprintf(f->data, sizeof f->data, "%s/data", f->tmp.dir);
    snprintf(f->endpoint, sizeof f->endpoint, "ipc://%s/sock", f->tmp.dir);
}

UNUSED static void farm_start(struct farm *f)
{
    char said[400];

    f->pid = spawn_broker(f->data, f->endpoint, f->retention, -1, said, sizeof said);
    if (!said[0]) fail_msg("the broker did not start");
    if (strchr(f->endpoint, '*')) snprintf(f->endpoint, sizeof f->endpoint, "%.*s", (int)strcspn(said, "\n"), said);
}

UNUSED static int farm_end(struct farm *f, int signo)
{
    int status;

    kill(f->pid, signo);
    if (waitpid(f->pid, &status, 0) != f->pid) abort();
    f->pid = 0;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

UNUSED static void farm_kill(struct farm *f)
{
    assert_int_equal(farm_end(f, SIGKILL), 128 + SIGKILL);
}

UNUSED static void farm_close(struct farm *f)
{
    if (f->pid) assert_int_equal(farm_end(f, SIGTERM), 0);
    tmp_close(&f->tmp);
}

/* ---- actors ---- */
struct actor {
    struct peer *peer;
    struct arena arena;
    enum role    role;
    uint8_t      instance[KEY_BYTES];
    uint64_t     correlation, beat;
    struct msg   stash[ACTOR_STASH];
    size_t       n_stash;
    bool         up; /* of a worker: it has a session */
    int64_t      said_ms;
    const char  *model, *name, *about; /* name, about: NULL as all others' */
    uint32_t     capacity, max_batch;
};

UNUSED static void actor_open(struct actor *a, const char *endpoint, enum role role)
{
    struct err e;

    memset(a, 0, sizeof *a);
    a->role = role;
    a->model = "turbo";
    a->capacity = 1;
    random_bytes(a->instance, sizeof a->instance);
    if (arena_init(&a->arena, "actor", 256u << 20)) abort();
    if (peer_connect(&a->peer, endpoint, &e)) fail_msg("%s", e.text);
}

UNUSED static void actor_close(struct actor *a)
{
    peer_close(a->peer);
    arena_release(&a->arena);
}

/* A new connection of the same process; what came on the old one is forgotten. */
UNUSED static void actor_again(struct actor *a, const char *endpoint)
{
    struct err e;

    peer_close(a->peer);
    a->n_stash = 0;
    a->up = false;
    if (peer_connect(&a->peer, endpoint, &e)) fail_msg("%s", e.text);
}

UNUSED static uint64_t actor_send(struct actor *a, struct msg *m)
{
    struct err e = {0};
    int64_t    until = now_ms() + ACTOR_WAIT_MS;
    int        rc;

    if (!m->correlation) m->correlation = ++a->correlation;
    while ((rc = peer_send(a->peer, NULL, m, &e)) == ERR_BUSY && now_ms() < until) sleep_ms(1);
    if (rc) fail_msg("sending %s: %s", msg_kind_name(m->kind), e.text);
    a->said_ms = now_ms();
    if (m->kind == MSG_BYE) a->up = false;
    return m->correlation;
}

/* Of a lease that there is not: changes nothing, and is not answered. */
UNUSED static void actor_is_here(struct actor *a)
{
    if (!a->up || now_ms() - a->said_ms < ACTOR_SAY_MS) return;
    peer_send(a->peer, NULL, &(struct msg){.kind = MSG_RELEASE, .release = {.task = 1, .epoch = 1}}, NULL);
    a->said_ms = now_ms();
}

/* Reads what is there, waiting up to wait_ms for the first. False: nothing came. */
UNUSED static bool actor_read(struct actor *a, int64_t wait_ms)
{
    struct err e = {0};
    int        rc;
    bool       any = false;

    actor_is_here(a);
    peer_wait(a->peer, wait_ms);
    while (a->n_stash < ACTOR_STASH && (rc = peer_recv(a->peer, &a->arena, NULL, &a->stash[a->n_stash], &e)) != ERR_BUSY) {
        if (rc) fail_msg("receiving: %s", e.text);
        any = true;
        if (a->stash[a->n_stash].kind == MSG_LEASES) { /* as many LEASEs */
            const struct leases l = a->stash[a->n_stash].leases;

            if (a->n_stash + l.n_leases > ACTOR_STASH) fail_msg("more leases than the stash takes");
            for (size_t i = 0; i < l.n_leases; i++) a->stash[a->n_stash++] = (struct msg){.kind = MSG_LEASE, .lease = l.lease[i]};
        } else {
            a->n_stash++;
        }
    }
    return any;
}

/* The oldest stashed message of this kind (0: any) and correlation (0: any), or false. */
UNUSED static bool actor_find(struct actor *a, unsigned kind, uint64_t correlation, struct msg *out)
{
    for (size_t i = 0; i < a->n_stash; i++) {
        if ((kind && a->stash[i].kind != kind) || (correlation && a->stash[i].correlation != correlation)) continue;
        *out = a->stash[i];
        memmove(&a->stash[i], &a->stash[i + 1], (--a->n_stash - i) * sizeof *a->stash);
        return true;
    }
    return false;
}

UNUSED static struct msg actor_take(struct actor *a, enum msg_kind kind)
{
    struct msg m = {0}, error;
    int64_t    until = now_ms() + ACTOR_WAIT_MS;

    for (bool late = false; !actor_find(a, kind, 0, &m); late = now_ms() > until) {
        if (kind != MSG_ERROR && actor_find(a, MSG_ERROR, 0, &error))
            fail_msg("waiting for %s: ERROR %d %.*s", msg_kind_name(kind), (int)error.error.code, (int)error.error.text.len, error.error.text.at);
        if (late) fail_msg("no %s came", msg_kind_name(kind));
        actor_read(a, 100);
    }
    return m;
}

/* The broker ends: did it say GOAWAY? An unread one is dropped when its connection ends, so it need not be heard. */
UNUSED static bool actor_sees_end(struct actor *a)
{
    struct msg m;
    int64_t    until = now_ms() + ACTOR_WAIT_MS;

    for (bool over = false; !over; over = peer_cut_off(a->peer)) {
        actor_read(a, 20);
        if (actor_find(a, MSG_GOAWAY, 0, &m)) return true;
        assert_true(now_ms() < until);
    }
    return false;
}

/* The answer to m, which must be of this kind. */
UNUSED static struct msg actor_ask(struct actor *a, struct msg *m, enum msg_kind kind)
{
    uint64_t   correlation;
    struct msg got = {0};
    int64_t    until = now_ms() + ACTOR_WAIT_MS;

    m->correlation = 0;
    correlation = actor_send(a, m);
    for (bool late = false; !actor_find(a, 0, correlation, &got); late = now_ms() > until) {
        if (late) fail_msg("no answer to %s", msg_kind_name(m->kind));
        actor_read(a, 100);
    }
    if (got.kind != kind && got.kind == MSG_ERROR)
        fail_msg("%s was answered ERROR %d %.*s", msg_kind_name(m->kind), (int)got.error.code, (int)got.error.text.len, got.error.text.at);
    assert_int_equal(got.kind, kind);
    return got;
}

UNUSED static struct msg actor_hello(struct actor *a, struct held *held, size_t n_held)
{
    struct model_info model = {.name = str_of(a->model), .profile = str_of("turbo"), .steps = 8};
    struct msg m = {.kind = MSG_HELLO, .hello = {.role = a->role, .major = WIRE_MAJOR, .minor = WIRE_MINOR, .name = str_of(a->name ? a->name : a->role == ROLE_WORKER ? "wk" : "cl"),
                                                 .version = str_of("0.1.0")}};

    memcpy(m.hello.instance, a->instance, KEY_BYTES);
    if (a->role == ROLE_WORKER) {
        m.hello.device = str_of("cpu");
        m.hello.about = str_of(a->about ? a->about : "a fake");
        m.hello.max_batch = a->max_batch;
        m.hello.capacity = a->capacity;
        m.hello.model = &model;
        m.hello.n_models = 1;
        m.hello.held = held;
        m.hello.n_held = n_held;
    }
    m = actor_ask(a, &m, MSG_WELCOME);
    a->up = a->role == ROLE_WORKER;
    return m;
}

/* A job of n_items items of n_images each; key from name. Returns its id. */
UNUSED static struct msg actor_submit(struct actor *a, const char *name, uint32_t n_items, uint32_t n_images, const char *model, enum msg_kind expect)
{
    struct item item[SUBMIT_ITEMS_MAX];
    struct msg  m = {.kind = MSG_SUBMIT, .submit = {.name = str_of(name), .n_tasks = n_items * n_images, .item = item, .n_items = n_items}};
    uint8_t     sha[32];

    sha256_of(name, strlen(name), sha);
    memcpy(m.submit.key, sha, KEY_BYTES);
    for (uint32_t i = 0; i < n_items; i++) {
        item[i] = (struct item){.n_images = n_images, .label = str_of("a")};
        spec_init(&item[i].spec);
        item[i].spec.prompt = str_of("a cat");
        item[i].spec.width_px = item[i].spec.height_px = 64;
        item[i].spec.seed = 100 * i;
        item[i].spec.model = str_of(model);
    }
    return actor_ask(a, &m, expect);
}

UNUSED static struct msg actor_events(struct actor *a, uint64_t job, uint64_t cursor, uint32_t wait_ms)
{
    return actor_ask(a, &(struct msg){.kind = MSG_EVENTS, .events = {.job = job, .cursor = cursor, .limit = EVENTS_MAX, .wait_ms = wait_ms}}, MSG_EVENTS_OK);
}

UNUSED static struct msg actor_beat(struct actor *a, const struct lease *l, size_t n_leases, enum stage stage, uint32_t step)
{
    struct progress p[LEASES_MAX];
    struct msg      m = {.kind = MSG_BEAT, .beat = {.seq = ++a->beat, .progress = p, .n_progress = n_leases}};

    for (size_t i = 0; i < n_leases; i++)
        p[i] = (struct progress){.job = l[i].job, .task = l[i].task, .epoch = l[i].epoch, .index = l[i].index, .stage = stage, .step = step, .steps = 8};
    return actor_ask(a, &m, MSG_BEAT_OK);
}

UNUSED static struct offer offer_of(const struct lease *l, struct str image, struct str latents)
{
    struct offer o = {.task = l->task, .epoch = l->epoch, .width_px = l->spec.width_px ? l->spec.width_px : 64, .height_px = l->spec.height_px ? l->spec.height_px : 64, .took_ms = 10, .n_parts = latents.len ? 2 : 1};

    o.part[0] = (struct part){.kind = PART_IMAGE, .size_bytes = image.len};
    sha256_of(image.at, image.len, o.part[0].sha256);
    if (latents.len) {
        o.part[1] = (struct part){.kind = PART_LATENTS, .size_bytes = latents.len};
        sha256_of(latents.at, latents.len, o.part[1].sha256);
    }
    return o;
}

/* Sends a part from the credit given, waiting for more; up to until bytes. */
UNUSED static void actor_upload(struct actor *a, uint64_t transfer, uint64_t credit, struct str bytes, size_t until)
{
    size_t chunk = CHUNK_MAX_BYTES;

    for (size_t at = 0; at < until;) {
        size_t     n = bytes.len - at < chunk ? bytes.len - at : chunk;
        struct msg m = {.kind = MSG_CHUNK, .chunk = {.transfer = transfer, .offset = at}};

        while (credit < n) {
            struct msg more = actor_take(a, MSG_CREDIT);

            if (more.credit.transfer == transfer) credit += more.credit.credit_bytes; /* else of one that ended */
        }
        m.chunk.bytes = str_sub(bytes, at, n);
        m.chunk.last = at + n == bytes.len;
        actor_send(a, &m);
        at += n;
        credit -= n;
    }
}

/* OFFER to RESULT_OK of a lease with one part; by chunks, however small. */
UNUSED static void actor_deliver(struct actor *a, const struct lease *l, struct str image)
{
    struct msg offer = {.kind = MSG_OFFER, .offer = offer_of(l, image, (struct str){0})}, ok = actor_ask(a, &offer, MSG_OFFER_OK);

    assert_int_equal(ok.offer_ok.verdict, OFFER_UPLOAD);
    actor_upload(a, ok.offer_ok.transfer[0], ok.offer_ok.credit_bytes, image, image.len);
    ok = actor_take(a, MSG_RESULT_OK);
    assert_int_equal(ok.result_ok.task, l->task);
}

/* A part's bytes from offset, into buf; the transfer id must be new on this connection. */
UNUSED static size_t actor_fetch(struct actor *a, uint64_t task, enum part_kind kind, uint64_t offset, uint64_t transfer, char *buf, size_t cap)
{
    struct msg ok = actor_ask(a, &(struct msg){.kind = MSG_FETCH, .fetch = {.task = task, .kind = kind, .offset = offset, .credit_bytes = CHUNK_MAX_BYTES, .transfer = transfer}},
                              MSG_FETCH_OK);
    size_t     n = 0;

    assert_true(ok.fetch_ok.part.size_bytes - offset <= cap);
    if (ok.fetch_ok.bytes.len) {
        assert_int_equal(offset, 0);
        memcpy(buf, ok.fetch_ok.bytes.at, ok.fetch_ok.bytes.len);
        return ok.fetch_ok.bytes.len;
    }
    while (offset + n < ok.fetch_ok.part.size_bytes) {
        struct msg c = actor_take(a, MSG_CHUNK);

        assert_int_equal(c.chunk.transfer, transfer);
        assert_int_equal(c.chunk.offset, offset + n);
        memcpy(buf + n, c.chunk.bytes.at, c.chunk.bytes.len);
        n += c.chunk.bytes.len;
        assert_int_equal(c.chunk.last, offset + n == ok.fetch_ok.part.size_bytes);
        if (!c.chunk.last) actor_send(a, &(struct msg){.kind = MSG_CREDIT, .credit = {.transfer = transfer, .credit_bytes = c.chunk.bytes.len}});
    }
    return n;
}

/* ---- what tests ask again and again ---- */
#define BIG (3 * 1024 * 1024 + 123) /* more than a window */

UNUSED static char big[BIG];

UNUSED static struct str image(void)
{
    for (size_t i = 0; i < BIG; i++) big[i] = (char)(i * 2654435761u >> 13);
    return (struct str){big, BIG};
}

UNUSED static struct str small(void)
{
    return str_of("not a picture, but the broker does not look");
}

UNUSED static struct msg show(struct actor *c, uint64_t job)
{
    return actor_ask(c, &(struct msg){.kind = MSG_SHOW, .show = {.job = job, .limit = SHOW_TASKS_MAX}}, MSG_SHOW_OK);
}

UNUSED static void expect_error(struct actor *a, struct msg *m, enum wire_error code, const char *word)
{
    struct msg got = actor_ask(a, m, MSG_ERROR);
    char       text[ERROR_MAX_BYTES + 1];

    snprintf(text, sizeof text, "%.*s", (int)got.error.text.len, got.error.text.at);
    if (got.error.code != code || !strstr(text, word)) fail_msg("error %d '%s', expected %d with '%s'", (int)got.error.code, text, (int)code, word);
}

/* Runs sql on a journal: of a broker that has ended, or (copy) on what another connection would see of a running one. The first number, or 0. */
UNUSED static int64_t journal_sql(const struct farm *f, bool copy, const char *sql)
{
    char          cmd[1300], path[400];
    sqlite3      *db;
    sqlite3_stmt *s = NULL;
    int64_t       n = 0;

    snprintf(path, sizeof path, "%s/journal.db", copy ? f->tmp.dir : f->data);
    snprintf(cmd, sizeof cmd, "f=%.250s; t=%.250s; for i in $(seq 1000); do cp $f/journal.db $t/ && cp $f/journal.db-wal $t/ && cmp -s $f/journal.db $t/journal.db && exit; done; exit 1",
             f->data, f->tmp.dir);
    if (copy && system(cmd)) abort(); /* the two belong together when nothing was copied from the one into the other meanwhile */
    if (sqlite3_open_v2(path, &db, SQLITE_OPEN_READWRITE, NULL) != SQLITE_OK || sqlite3_prepare_v2(db, sql, -1, &s, NULL) != SQLITE_OK) abort();
    if (sqlite3_step(s) == SQLITE_ROW) n = sqlite3_column_int64(s, 0);
    sqlite3_finalize(s);
    sqlite3_close(db);
    return n;
}

/* Results the broker keeps: files, and rows of small ones. */
UNUSED static int n_blobs(const struct farm *f)
{
    char  cmd[400], line[32] = "";
    FILE *p;

    snprintf(cmd, sizeof cmd, "find %s/blobs -type f | wc -l", f->data);
    p = popen(cmd, "r");
    if (!p || !fgets(line, sizeof line, p)) abort();
    pclose(p);
    return (int)strtol(line, NULL, 10) + (int)journal_sql(f, true, "SELECT count(*) FROM result");
}

#endif
