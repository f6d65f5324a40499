/* fake_broker.h - a scripted broker, for test_worker.c: it starts the worker, listens to it, and says what the test tells it to say.
 *
 *   start_worker(f, "turbo"); welcome(f, NULL, 0); lease(f, 1, "a cat", 4, false); m = expect(f, MSG_OFFER);
 *
 * Believes: what must come comes within WAIT_MS however busy the machine is; beats are answered while anything else is waited for. */
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
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/clock.h"
#include "proto/peer.h"
#include "worker/worker.h"

#define BEAT_TEST_MS 1000  /* three missed begin a new session: a busy machine must not look like a broker that is gone */
#define WAIT_MS      30000 /* for what must come; what comes sooner is not waited for */

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
};

static int run_worker(char **argv)
{
    struct worker_conf c;
    struct err         e = {0};
    int                rc;

    worker_conf_init(&c);
    c.broker = argv[2];
    snprintf(c.name, sizeof c.name, "test");
    if (worker_conf_model(&c, argv[3], &e)) return 2;
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
    char *argv[] = {(char *)(uintptr_t)"test", (char *)(uintptr_t)"--worker", f->endpoint, (char *)(uintptr_t)model, patience, drain, NULL};

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
    f->patience_ms = f->drain_ms = WAIT_MS;
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
    assert_true(rc == 0 || rc == ERR_NOTFOUND); /* one that drains may be gone right after its beat */
}

/* The next message of this kind; beats are answered on the way, READYs are passed over. 0 in kind: only listens for a while. */
static struct msg expect_for(struct fake *f, enum msg_kind kind, int64_t wait_ms)
{
    struct msg m;
    struct err e = {0};

    for (int64_t until = now_ms() + wait_ms; now_ms() < until;) {
        struct route from;
        int          rc = peer_recv(f->peer, &f->arena, &from, &m, &e);

        if (rc == ERR_BUSY) {
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

static struct msg welcome(struct fake *f, struct held *drop, size_t n_drop)
{
    struct msg hello = expect(f, MSG_HELLO);

    tell(f, (struct msg){.kind = MSG_WELCOME, .correlation = hello.correlation,
                         .welcome = {.major = 1, .minor = f->minor, .boot_id = 1, .beat_ms = BEAT_TEST_MS, .drop = drop, .n_drop = n_drop}});
    return hello;
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

#endif
