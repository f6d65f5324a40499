/* test_split.c - a worker whose engine is placed on several devices, with every process and thread of the product, and fake_engine.c behind engine.h:
 * one rank falls, the right task is to blame, the engine starts again, and nothing else is lost or made twice. */
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
#include "base/hash.h"
#include "proto/peer.h"
#include "tests/worker/fake_broker.h"
#include "tests/worker/fake_engine.c"
#include "worker/engine_child.h"
#include "worker/worker.h"

static struct msg begin(struct fake *f, const char *place)
{
    f->place = place;
    start_worker(f, "turbo");
    return welcome(f, NULL, 0);
}

/* Offers of these tasks, in any order, each once. */
static void finish_all(struct fake *f, uint64_t from, uint64_t to)
{
    bool done[64] = {0};

    for (uint64_t n = from; n <= to; n++) {
        struct msg offer = expect(f, MSG_OFFER);
        uint64_t   t = offer.offer.task;

        assert_true(t >= from && t <= to && !done[t]);
        done[t] = true;
        tell(f, (struct msg){.kind = MSG_OFFER_OK, .correlation = offer.correlation, .offer_ok = {.task = t, .verdict = OFFER_HAVE}});
    }
    quiet(f);
}

static void all_ranks_work(void **state)
{
    struct fake *f = *state;
    struct msg   m = begin(f, "text=cpu image=cpu,cpu vae=cpu");

    assert_int_equal(m.hello.n_ranks, 3);
    assert_int_equal(m.hello.rank[0].parts, RANK_TEXT | RANK_VAE);
    assert_int_equal(m.hello.rank[1].parts, RANK_IMAGE);
    for (uint64_t t = 1; t <= 4; t++) lease(f, t, "held", 8, true);
    wait_step(f, 1, 1);
    wait_step(f, 2, 1);
    for (int64_t until = now_ms() + WAIT_MS; (f->n_ranks == 0 || f->rank[1].busy_permille < 500) && now_ms() < until;) expect_for(f, (enum msg_kind)0, 20);
    assert_int_equal(f->n_ranks, 3);
    assert_true(f->rank[1].busy_permille >= 500); /* it paints */
    assert_int_equal(f->rank[2].total_bytes, 1u << 30);
    let_go(f, "held");
    finish_all(f, 1, 4);
    for (uint64_t t = 5; t <= 8; t++) lease(f, t, "a cat", 2, false);
    finish_all(f, 5, 8);
    assert_int_equal(f->restarts, 0);
}

/* While another rank works on something long, which is made again by the next engine, for it was not its fault (or was done by then). */
static void falls(struct fake *f, const char *prompt, enum fail_class why, const char *says)
{
    bool failed = false, offered = false;

    lease(f, 1, "slow", STEPS_MAX / 2, false);
    wait_step(f, 1, 1);
    lease(f, 2, prompt, 4, false);
    for (int64_t until = now_ms() + WAIT_MS; !(failed && offered) && now_ms() < until;) {
        struct route from;
        struct msg   m;
        char         text[600];

        if (peer_recv(f->peer, &f->arena, &from, &m, NULL)) {
            peer_wait(f->peer, 10);
        } else if (m.kind == MSG_BEAT) {
            hear_beat(f, &m);
        } else if (m.kind == MSG_FAILED) {
            snprintf(text, sizeof text, "%.*s", (int)m.failed.text.len, m.failed.text.at);
            if (failed || m.failed.task != 2 || m.failed.why != why || !strstr(text, says)) fail_msg("task %d, class %d: %s", (int)m.failed.task, (int)m.failed.why, text);
            failed = true;
            tell(f, (struct msg){.kind = MSG_FAILED_OK, .correlation = m.correlation, .failed_ok = {2, 102}});
        } else if (m.kind == MSG_OFFER) {
            assert_true(!offered && m.offer.task == 1);
            offered = true;
            tell(f, (struct msg){.kind = MSG_OFFER_OK, .correlation = m.correlation, .offer_ok = {.task = 1, .verdict = OFFER_HAVE}});
        }
    }
    assert_true(failed && offered);
    quiet(f);
}

static void one_falls(void **state)
{
    struct fake *f = *state;

    f->patience_ms = 6000;
    begin(f, "text=cpu image=cpu,cpu vae=cpu");
    falls(f, "crash", FAIL_CRASHED, "engine ended by signal 6 on cuda:0 in stage denoise step 1");
    falls(f, "device", FAIL_CRASHED, "illegal address");
    falls(f, "lost on its way", FAIL_CRASHED, "did not come");
    falls(f, "cut", FAIL_CRASHED, "was cut while in use");
    falls(f, "hang", FAIL_STUCK, "engine did not move for");
    wait_restarts(f, 5);
    lease(f, 3, "nan", 4, false); /* a task's own fault costs nothing else */
    expect_failed(f, 3, FAIL_NAN, "not finite");
    lease(f, 4, "a dog", 4, false);
    finish_all(f, 4, 4);
    assert_int_equal(f->restarts, 5);
}

/* Killed from outside again and again, after so many pictures that each engine makes some: every picture arrives once, unless it was in a rank's hands too often, which the broker counts. */
static void killed_again_and_again(void **state)
{
    struct fake *f = *state;
    uint64_t     next = 1, n_done = 0, kill_at = 0;
    bool         done[41] = {0}, again[41] = {0};

    begin(f, "text=cpu image=cpu,cpu");
    for (int64_t until = now_ms() + 4 * WAIT_MS; n_done < 40 && now_ms() < until;) {
        struct route from;
        struct msg   m;
        size_t       held = (size_t)(next - 1 - n_done);

        if (n_done >= kill_at && f->n_progress && engine_pid(f) > 0) {
            kill(engine_pid(f), SIGKILL);
            kill_at = n_done + 3;
        }
        for (uint64_t t = 1; t < next; t++)
            if (again[t]) { /* as the broker does */
                again[t] = false;
                lease(f, t, "slow", 4, false);
            }
        if (held < 3 && next <= 40) lease(f, next++, "slow", 4, false);
        if (peer_recv(f->peer, &f->arena, &from, &m, NULL)) {
            peer_wait(f->peer, 10);
            continue;
        }
        if (m.kind == MSG_BEAT) hear_beat(f, &m);
        if (m.kind == MSG_FAILED) {
            assert_int_equal(m.failed.why, FAIL_CRASHED);
            assert_false(done[m.failed.task]);
            again[m.failed.task] = true;
            tell(f, (struct msg){.kind = MSG_FAILED_OK, .correlation = m.correlation, .failed_ok = {m.failed.task, m.failed.epoch}});
        }
        if (m.kind != MSG_OFFER) continue;
        assert_false(done[m.offer.task]);
        done[m.offer.task] = true;
        n_done++;
        tell(f, (struct msg){.kind = MSG_OFFER_OK, .correlation = m.correlation, .offer_ok = {.task = m.offer.task, .verdict = OFFER_HAVE}});
    }
    assert_int_equal(n_done, 40);
    quiet(f);
}

static void canceled(void **state)
{
    struct fake *f = *state;
    struct held  held[2] = {{1, 101}, {3, 103}};
    bool         waits = false;

    begin(f, "text=cpu image=cpu,cpu");
    lease(f, 1, "held", 8, false);
    lease(f, 2, "held", 8, false);
    wait_step(f, 1, 1);
    wait_step(f, 2, 1);
    lease(f, 3, "held", 8, false); /* encoded, on its shelf */
    for (int64_t until = now_ms() + WAIT_MS; !waits && now_ms() < until;) {
        expect_for(f, (enum msg_kind)0, 20);
        for (size_t i = 0; i < f->n_progress; i++) waits |= f->progress[i].task == 3 && f->progress[i].stage == STAGE_WAITING;
    }
    assert_true(waits);
    tell(f, (struct msg){.kind = MSG_BEAT_OK, .beat_ok = {.seq = 0, .cancel = held, .n_cancel = 2}});
    for (int i = 0; i < 2; i++) { /* either first */
        struct msg m = expect(f, MSG_FAILED);

        assert_int_equal(m.failed.why, FAIL_CANCELED);
        assert_true(m.failed.task == 1 || m.failed.task == 3);
        tell(f, (struct msg){.kind = MSG_FAILED_OK, .correlation = m.correlation, .failed_ok = {m.failed.task, m.failed.epoch}});
    }
    lease(f, 4, "a dog", 2, false); /* the rank is free again */
    finish(f, 4);
}

/* SIGTERM: what is at hand is finished, and every process goes. */
static void drained(void **state)
{
    struct fake *f = *state;

    begin(f, "text=cpu image=cpu,cpu vae=cpu");
    for (uint64_t t = 1; t <= 2; t++) lease(f, t, "held", 8, false);
    wait_step(f, 1, 1);
    wait_step(f, 2, 1);
    kill(f->pid, SIGTERM);
    assert_int_equal(expect(f, MSG_READY).ready.capacity, 0);
    let_go(f, "held");
    for (int i = 0; i < 2; i++) {
        struct msg offer = expect(f, MSG_OFFER);

        tell(f, (struct msg){.kind = MSG_OFFER_OK, .correlation = offer.correlation, .offer_ok = {.task = offer.offer.task, .verdict = OFFER_HAVE}});
    }
    expect(f, MSG_BYE);
    assert_int_equal(worker_status(f), 0);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
        T(all_ranks_work), T(one_falls), T(killed_again_and_again), T(canceled), T(drained),
    };

    if (engine_child_is(argc, argv)) return engine_child_main(argc, argv);
    if (argc == 7 && !strcmp(argv[1], "--worker")) return run_worker(argv);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
