/* test_child_group.c - a supervisor whose engine has several devices: all of them get work, and one death is the right task's fault.
 * As test_child.c, this program is test, broker, supervisor and engine; the engine is fake_group.h. */
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
#include "tests/worker/fake_group.h"
#include "worker/worker.h"

static struct msg begin(struct fake *f, const char *place)
{
    f->place = place;
    start_worker(f, "turbo");
    return welcome(f, NULL, 0);
}

static size_t n_in(const struct fake *f, enum stage stage)
{
    size_t n = 0;

    for (size_t i = 0; i < f->n_progress; i++) n += f->progress[i].stage == stage;
    return n;
}

static void wait_stages(struct fake *f, size_t n_denoise, size_t n_waiting)
{
    for (int64_t until = now_ms() + WAIT_MS; now_ms() < until;) {
        expect_for(f, (enum msg_kind)0, 20);
        if (n_in(f, STAGE_DENOISE) == n_denoise && n_in(f, STAGE_WAITING) == n_waiting) return;
    }
    fail_msg("of %zu tasks %zu denoise and %zu wait", f->n_progress, n_in(f, STAGE_DENOISE), n_in(f, STAGE_WAITING));
}

/* The next offer: of which task, under which epoch. */
static struct held have(struct fake *f)
{
    struct msg  m = expect(f, MSG_OFFER);
    struct held h = {m.offer.task, m.offer.epoch};

    tell(f, (struct msg){.kind = MSG_OFFER_OK, .correlation = m.correlation, .offer_ok = {.task = h.task, .verdict = OFFER_HAVE}});
    return h;
}

/* Offers of these tasks, in any order. */
static void finish_all(struct fake *f, uint64_t from, uint64_t to)
{
    bool done[64] = {0};

    for (uint64_t n = from; n <= to; n++) {
        uint64_t t = have(f).task;

        assert_true(t >= from && t <= to && !done[t]);
        done[t] = true;
    }
    quiet(f);
}

/* As many leases as ranks need, and what the ranks are and do. */
static void kept_busy(void **state)
{
    struct fake *f = *state;
    struct msg   m = begin(f, "text=cpu image=cpu,cpu vae=cpu");

    assert_int_equal(m.hello.capacity, 4);
    assert_int_equal(m.hello.n_ranks, 3);
    assert_true(str_is(m.hello.rank[0].device, "cpu"));
    assert_int_equal(m.hello.rank[0].parts, RANK_TEXT | RANK_VAE);
    assert_int_equal(m.hello.rank[2].parts, RANK_IMAGE);
    for (uint64_t t = 1; t <= 4; t++) lease(f, t, "held", 8, false);
    wait_stages(f, 2, 2);
    for (int64_t until = now_ms() + WAIT_MS; f->n_ranks == 0 && now_ms() < until;) expect_for(f, (enum msg_kind)0, 20);
    assert_int_equal(f->n_ranks, 3);
    assert_int_equal(f->rank[2].busy_permille, 20);
    assert_int_equal(f->rank[1].used_bytes, 2);
    assert_int_equal(f->rank[1].total_bytes, 100);
    let_go(f, "held");
    finish_all(f, 1, 4);
}

/* Killed from outside: those in the ranks' hands are blamed, who waited is made by the next engine. */
static void killed(void **state)
{
    struct fake *f = *state;
    bool         failed[4] = {0};

    begin(f, "text=cpu image=cpu,cpu");
    for (uint64_t t = 1; t <= 2; t++) lease(f, t, "held", 8, false);
    wait_stages(f, 2, 0);
    lease(f, 3, "a dog", 4, false);
    wait_stages(f, 2, 1);
    kill(engine_pid(f), SIGKILL);
    for (int i = 0; i < 2; i++) {
        struct msg m = expect(f, MSG_FAILED);

        assert_true(m.failed.task <= 2 && !failed[m.failed.task]);
        failed[m.failed.task] = true;
        assert_int_equal(m.failed.why, FAIL_CRASHED);
        tell(f, (struct msg){.kind = MSG_FAILED_OK, .correlation = m.correlation, .failed_ok = {m.failed.task, m.failed.epoch}});
    }
    finish_all(f, 3, 3);
}

/* Last words name one of several; the others are made again. */
static void crashed(void **state)
{
    struct fake *f = *state;

    begin(f, "text=cpu image=cpu,cpu");
    lease(f, 1, "held", 8, false);
    wait_step(f, 1, 1);
    lease(f, 2, "crash", 4, false);
    lease(f, 3, "a dog", 4, false);
    expect_failed(f, 2, FAIL_CRASHED, "engine ended by signal 6 on cpu in stage denoise step 2");
    lease(f, 4, "a bird", 4, false);
    let_go(f, "held");
    for (int i = 0; i < 3; i++) assert_int_not_equal(have(f).task, 2); /* in whatever order */
    quiet(f);
}

/* One rank stands still while another works on: noticed, and only its task has failed. */
static void hung(void **state)
{
    struct fake *f = *state;

    f->patience_ms = 6000;
    begin(f, "text=cpu image=cpu,cpu");
    lease(f, 1, "hang", 4, false);
    lease(f, 2, "held", 8, false);
    wait_step(f, 2, 1);
    expect_failed(f, 1, FAIL_STUCK, " s on cpu in stage denoise step 2");
    let_go(f, "held");
    finish_all(f, 2, 2);
    assert_int_equal(f->restarts, 1);
}

/* A task that no rank has taken, with nothing else to do: the group has lost it. Before that it was patient, for the other took its time. */
static void lost_between(void **state)
{
    struct fake *f = *state;

    f->patience_ms = 4000;
    begin(f, "text=cpu image=cpu");
    lease(f, 1, "held", 4, false);
    wait_step(f, 1, 1);
    lease(f, 2, "lost", 4, false);
    wait_stages(f, 1, 1);
    expect_for(f, (enum msg_kind)0, 5000);
    let_go(f, "held");
    have(f);
    expect_failed(f, 2, FAIL_STUCK, "engine did nothing for");
}

static void canceled_and_failed(void **state)
{
    struct fake *f = *state;
    struct held  one = {2, 102};

    begin(f, "text=cpu image=cpu,cpu");
    lease(f, 1, "held", 8, false);
    lease(f, 2, "held", 8, false);
    wait_step(f, 2, 2);
    tell(f, (struct msg){.kind = MSG_BEAT_OK, .beat_ok = {.seq = 0, .cancel = &one, .n_cancel = 1}});
    expect_failed(f, 2, FAIL_CANCELED, "canceled after");
    lease(f, 3, "fail", 4, false);
    expect_failed(f, 3, FAIL_NAN, "not finite");
    let_go(f, "held");
    finish_all(f, 1, 1);
    assert_int_equal(f->restarts, 0);
}

/* Forgotten, and leased again while the engine still has it: the end of the old one is not the new one's. */
static void leased_again(void **state)
{
    struct fake *f = *state;
    struct held  drop = {1, 101};
    struct msg   m;

    begin(f, "text=cpu image=cpu,cpu");
    lease(f, 1, "held", 8, false);
    wait_step(f, 1, 1);
    m = expect(f, MSG_BEAT);
    tell(f, (struct msg){.kind = MSG_ERROR, .correlation = m.correlation, .error = {WIRE_UNKNOWN_SESSION, 0, {"who are you", 11}}});
    welcome(f, &drop, 1); /* the engine is told to stop it */
    m = (struct msg){.kind = MSG_LEASE, .lease = {.task = 1, .epoch = 202, .job = 7, .budget_ms = 30000}};
    spec_init(&m.lease.spec);
    m.lease.spec.width_px = 64;
    m.lease.spec.height_px = 48;
    m.lease.spec.steps = 4;
    tell(f, m);
    assert_int_equal(have(f).epoch, 202); /* not FAILED{canceled} */
    quiet(f);
}

/* Nonsense from the engine costs the engine. */
static void stray_rank(void **state)
{
    struct fake *f = *state;

    begin(f, "text=cpu image=cpu");
    lease(f, 1, "stray", 4, false);
    expect(f, MSG_FAILED); /* between two devices, alone: nobody else can be blamed */
    tell(f, (struct msg){.kind = MSG_FAILED_OK, .failed_ok = {1, 101}});
    lease(f, 2, "a cat", 4, false);
    finish(f, 2);
}

static void drain(void **state)
{
    struct fake *f = *state;

    begin(f, "text=cpu image=cpu,cpu");
    for (uint64_t t = 1; t <= 5; t++) lease(f, t, "held", 8, false);
    wait_step(f, 1, 2);
    wait_held(f, 5);
    kill(f->pid, SIGTERM);
    for (int i = 0; i < 2; i++) assert_true(expect(f, MSG_RELEASE).release.task >= 4); /* the engine has the first three */
    let_go(f, "held");
    for (int i = 0; i < 3; i++) have(f);
    expect(f, MSG_BYE);
    assert_int_equal(worker_status(f), 0);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
        T(kept_busy), T(killed), T(crashed), T(hung), T(lost_between), T(canceled_and_failed), T(leased_again), T(stray_rank), T(drain),
    };

    if (engine_child_is(argc, argv)) return fake_group_main(argc, argv);
    if (argc == 7 && !strcmp(argv[1], "--worker")) return run_worker(argv);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
