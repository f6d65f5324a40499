/* fake_broker.h - a scripted broker, for test_worker.c: it starts the worker, listens to it, and says what the test tells it to say.
 *
 *   start_worker(f, "turbo"); welcome(f, NULL, 0); lease(f, 1, "a cat", 4, false); m = expect(f, MSG_OFFER);
 *
 * Believes: what must come comes within WAIT_MS however busy the machine is; beats are answered while anything else is waited for. What must still be
 * under way when something else happens does not end by itself, however fast the machine: its prompt is "held" (it does not come to its last step) or
 * "kept" (its picture is not written), until let_go(f, "held"). */
#ifndef TESTS_WORKER_FAKE_BROKER_H
#define TESTS_WORKER_FAKE_BROKER_H

#include <setjmp.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/clock.h"
#include "proto/peer.h"
#include "worker/worker.h"

#define BEAT_TEST_MS 2000   /* three missed begin a new session: a busy machine must not look like a broker that is gone */
#define WAIT_MS      60000  /* for what must come; what comes sooner is not waited for */
#define DRAIN_MS     600000 /* longer than any guess of how long a task still takes, for a guess is as wrong as a stalled machine makes it */
#define HOLD_ENV     "ZFARM_TEST_HOLD" /* the folder where a file "held" or "kept" holds the pictures of that prompt */

extern char **environ;

struct fake { /* the broker */
    char          folder[32], endpoint[64];
    struct peer  *peer;
    struct arena  arena;
    struct route  worker;
    pid_t         pid;
    uint32_t      n_beats, restarts;
    uint32_t      minor; /* of the protocol it speaks */
    struct progress progress[LEASES_MAX]; /* in the last beat with any */
    size_t        n_progress;
    int64_t       patience_ms, drain_ms; /* of the worker: what it gives the engine; set before start_worker() */
    const char   *place;                 /* likewise; "": none */
    struct rank   rank[RANKS_MAX];       /* in the last beat with any; without their names */
    size_t        n_ranks;
};

/* In the engine: does the test still hold pictures of this prompt? */
static bool is_held(const char *prompt)
{
    const char *folder = getenv(HOLD_ENV);
    char        path[128];

    snprintf(path, sizeof path, "%.64s/%.32s", folder ? folder : "", prompt);
    return folder && access(path, F_OK) == 0;
}

static void let_go(struct fake *f, const char *prompt)
{
    char path[128];

    snprintf(path, sizeof path, "%s/%s", f->folder, prompt);
    unlink(path);
}

static void hold(struct fake *f, const char *prompt)
{
    char  path[128];
    FILE *file;

    snprintf(path, sizeof path, "%s/%s", f->folder, prompt);
    file = fopen(path, "w");
    assert_non_null(file);
    fclose(file);
}

static int run_worker(char **argv)
{
    struct worker_conf c;
    struct err         e = {0};
    int                rc;

    prctl(PR_SET_PDEATHSIG, SIGKILL); /* a test that fails leaves nothing behind */
    worker_conf_init(&c);
    c.broker = argv[2];
    snprintf(c.name, sizeof c.name, "test");
    if (worker_conf_model(&c, argv[3], &e)) return 2;
    if (*argv[6]) {
        struct place p;

        if (place_parse(&p, argv[6], &e)) return 2;
        worker_conf_placed(&c, &p);
    }
    c.watch = (struct watch){.load_ms = WAIT_MS, .first_ms = strtol(argv[4], NULL, 10), .floor_ms = strtol(argv[4], NULL, 10), .kill_ms = 300, .backoff_ms = 50,
                             .backoff_max_ms = 400, .drain_ms = strtol(argv[5], NULL, 10)};
    c.log_level = getenv("ZFARM_TEST_LOG") ? LOG_DEBUG : LOG_NONE;
    log_level_set(c.log_level);
    rc = worker_run(&c, &e);
    return rc == 0 ? 0 : rc == ERR_ARG ? 2 : 1;
}

static void start_worker(struct fake *f, const char *model)
{
    char  patience[24], drain[24];
    char *argv[] = {(char *)(uintptr_t)"test", (char *)(uintptr_t)"--worker", f->endpoint, (char *)(uintptr_t)model, patience, drain, (char *)(uintptr_t)f->place, NULL};

    snprintf(patience, sizeof patience, "%lld", (long long)f->patience_ms);
    snprintf(drain, sizeof drain, "%lld", (long long)f->drain_ms);
    assert_int_equal(posix_spawn(&f->pid, "/proc/self/exe", NULL, NULL, argv, environ), 0);
}

static int worker_status(struct fake *f)
{
    int status = 0;

    for (int64_t until = now_ms() + WAIT_MS; now_ms() < until; usleep(5000))
        if (waitpid(f->pid, &status, WNOHANG) == f->pid) {
            f->pid = 0;
            return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
        }
    return -1;
}

static void listen_again(struct fake *f)
{
    struct err e = {0};

    if (peer_bind(&f->peer, f->endpoint, NULL, &e)) fail_msg("%s", e.text);
}

static int setup(void **state)
{
    struct fake *f = calloc(1, sizeof *f);

    snprintf(f->folder, sizeof f->folder, "/tmp/zfarm-worker-XXXXXX");
    if (!mkdtemp(f->folder)) return -1;
    snprintf(f->endpoint, sizeof f->endpoint, "ipc://%s/s", f->folder);
    arena_init(&f->arena, "fake", 8 * MSG_ARENA_BYTES);
    listen_again(f);
    setenv(HOLD_ENV, f->folder, 1);
    hold(f, "held");
    hold(f, "kept");
    f->patience_ms = WAIT_MS;
    f->drain_ms = DRAIN_MS;
    f->place = "";
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fake *f = *state;

    if (f->pid > 0) {
        kill(f->pid, SIGKILL);
        waitpid(f->pid, NULL, 0);
    }
    peer_close(f->peer);
    peer_shutdown();
    arena_release(&f->arena);
    let_go(f, "held");
    let_go(f, "kept");
    if (rmdir(f->folder)) return -1;
    free(f);
    return 0;
}

static void tell(struct fake *f, struct msg m)
{
    struct err e = {0};
    int        rc = peer_send(f->peer, &f->worker, &m, &e);

    if (rc) fail_msg("telling %s: %s", msg_kind_name(m.kind), e.text);
}

static void hear_beat(struct fake *f, const struct msg *m)
{
    struct msg answer = {.kind = MSG_BEAT_OK, .correlation = m->correlation, .beat_ok = {.seq = m->beat.seq}};
    int        rc = peer_send(f->peer, &f->worker, &answer, NULL);

    f->n_beats++;
    f->restarts = m->beat.engine_restarts;
    f->n_progress = m->beat.n_progress;
    memcpy(f->progress, m->beat.progress, m->beat.n_progress * sizeof *f->progress);
    if (m->beat.n_ranks) {
        f->n_ranks = m->beat.n_ranks;
        memcpy(f->rank, m->beat.rank, m->beat.n_ranks * sizeof *f->rank);
    }
    assert_true(rc == 0 || rc == ERR_NOTFOUND); /* one that drains may be gone right after its beat */
}

/* The next message of this kind; beats are answered on the way, READYs are passed over. 0 in kind: only listens for a while. */
static struct msg expect_for(struct fake *f, enum msg_kind kind, int64_t wait_ms)
{
    struct msg m;
    struct err e = {0};

    for (int64_t until = now_ms() + wait_ms;;) {
        struct route from;
        bool         late = now_ms() >= until; /* asked before it is looked whether something is there: who stood still meanwhile looks once more */
        int          rc = peer_recv(f->peer, &f->arena, &from, &m, &e);

        if (rc == ERR_BUSY) {
            if (late) break;
            peer_wait(f->peer, 20);
            continue;
        }
        if (rc) fail_msg("%s", e.text);
        f->worker = from;
        if (m.kind == kind) return m;
        if (m.kind == MSG_BEAT) hear_beat(f, &m);
        else if (m.kind != MSG_READY) fail_msg("%s came where %s was expected: %.*s", msg_kind_name(m.kind), msg_kind_name(kind),
                                               m.kind == MSG_FAILED ? (int)m.failed.text.len : 0, m.kind == MSG_FAILED ? m.failed.text.at : "");
    }
    if (kind) fail_msg("no %s within %d ms", msg_kind_name(kind), (int)wait_ms);
    memset(&m, 0, sizeof m);
    return m;
}

static struct msg expect(struct fake *f, enum msg_kind kind)
{
    return expect_for(f, kind, WAIT_MS);
}

static struct msg greet(struct fake *f, struct msg hello, struct held *drop, size_t n_drop)
{
    tell(f, (struct msg){.kind = MSG_WELCOME, .correlation = hello.correlation,
                         .welcome = {.major = 1, .minor = f->minor, .boot_id = 1, .beat_ms = BEAT_TEST_MS, .drop = drop, .n_drop = n_drop}});
    return hello;
}

static struct msg welcome(struct fake *f, struct held *drop, size_t n_drop)
{
    return greet(f, expect(f, MSG_HELLO), drop, n_drop);
}

static void lease(struct fake *f, uint64_t task, const char *prompt, int steps, bool latents)
{
    struct msg m = {.kind = MSG_LEASE, .lease = {.task = task, .epoch = task + 100, .job = 7, .index = 3, .budget_ms = 30000}};

    spec_init(&m.lease.spec);
    m.lease.spec.prompt = str_of(prompt);
    m.lease.spec.width_px = 64;
    m.lease.spec.height_px = 48;
    m.lease.spec.steps = steps;
    m.lease.spec.seed = task;
    m.lease.spec.want_latents = latents;
    tell(f, m);
}

/* Answers an OFFER with so little credit that it is granted anew again and again; gives back the bytes. */
static void upload(struct fake *f, const struct msg *offer, uint64_t credit, struct buf out[PARTS_MAX])
{
    struct msg ok = {.kind = MSG_OFFER_OK, .correlation = offer->correlation,
                     .offer_ok = {.task = offer->offer.task, .verdict = OFFER_UPLOAD, .transfer = {31, 32}, .credit_bytes = credit}};

    tell(f, ok);
    for (size_t p = 0; p < offer->offer.n_parts; p++) {
        uint64_t left = p ? 0 : credit;
        uint8_t  sha[32];
        bool     last = false;

        buf_init(&out[p], PART_MAX_BYTES);
        while (!last) {
            struct msg m;

            if (left == 0) tell(f, (struct msg){.kind = MSG_CREDIT, .credit = {31 + p, left = credit}});
            m = expect(f, MSG_CHUNK);
            assert_int_equal(m.chunk.transfer, 31 + p);
            assert_int_equal(m.chunk.offset, out[p].len);
            assert_true(m.chunk.bytes.len <= left);
            left -= m.chunk.bytes.len;
            buf_put(&out[p], m.chunk.bytes.at, m.chunk.bytes.len);
            last = m.chunk.last;
        }
        assert_int_equal(out[p].len, offer->offer.part[p].size_bytes);
        sha256_of(out[p].at, out[p].len, sha);
        assert_memory_equal(sha, offer->offer.part[p].sha256, 32);
    }
    tell(f, (struct msg){.kind = MSG_RESULT_OK, .result_ok = {offer->offer.task, offer->offer.epoch}});
}

static void finish(struct fake *f, uint64_t task)
{
    struct buf out[PARTS_MAX] = {0};
    struct msg offer = expect(f, MSG_OFFER);

    assert_int_equal(offer.offer.task, task);
    upload(f, &offer, WINDOW_CHUNKS * CHUNK_MAX_BYTES, out);
    buf_release(&out[0]);
    buf_release(&out[1]);
}

static pid_t engine_pid(struct fake *f)
{
    char  path[64];
    FILE *file;
    int   pid = 0;

    snprintf(path, sizeof path, "/proc/%d/task/%d/children", (int)f->pid, (int)f->pid);
    file = fopen(path, "r");
    assert_non_null(file);
    if (fscanf(file, "%d", &pid) != 1) pid = 0;
    fclose(file);
    return pid;
}

static void wait_step(struct fake *f, uint64_t task, uint32_t step)
{
    for (int64_t until = now_ms() + WAIT_MS; now_ms() < until;) {
        expect_for(f, (enum msg_kind)0, 20);
        for (size_t i = 0; i < f->n_progress; i++)
            if (f->progress[i].task == task && f->progress[i].stage == STAGE_DENOISE && f->progress[i].step >= step) return;
    }
    fail_msg("no progress of %zu tasks: stage %s step %u", f->n_progress, stage_name(f->progress[0].stage), f->progress[0].step);
}

/* The beats say that so many leases are held: the worker has heard of all of them. */
__attribute__((unused)) static void wait_held(struct fake *f, size_t n)
{
    for (int64_t until = now_ms() + WAIT_MS; f->n_progress != n && now_ms() < until;) expect_for(f, (enum msg_kind)0, 20);
    assert_int_equal(f->n_progress, n);
}

/* The beats say that the engine was started again so often. */
__attribute__((unused)) static void wait_restarts(struct fake *f, uint32_t n)
{
    for (int64_t until = now_ms() + WAIT_MS; f->restarts < n && now_ms() < until;) expect_for(f, (enum msg_kind)0, 20);
    assert_int_equal(f->restarts, n);
}

/* The next beats say that nothing is held any more. */
static void quiet(struct fake *f)
{
    f->n_progress = 1;
    for (int64_t until = now_ms() + WAIT_MS; f->n_progress && now_ms() < until;) expect_for(f, (enum msg_kind)0, 20);
    assert_int_equal(f->n_progress, 0);
}

static struct msg expect_failed(struct fake *f, uint64_t task, enum fail_class why, const char *says)
{
    struct msg m = expect(f, MSG_FAILED);
    char       text[600];

    snprintf(text, sizeof text, "%.*s", (int)m.failed.text.len, m.failed.text.at);
    assert_int_equal(m.failed.task, task);
    assert_int_equal(m.failed.epoch, task + 100);
    if (m.failed.why != why || !strstr(text, says)) fail_msg("class %d: %s", (int)m.failed.why, text);
    tell(f, (struct msg){.kind = MSG_FAILED_OK, .correlation = m.correlation, .failed_ok = {task, task + 100}});
    return m;
}

#endif
