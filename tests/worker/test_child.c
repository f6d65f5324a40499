/* test_child.c - an engine that dies, hangs or fails: who is to blame, what is made again, when the next engine comes. As test_worker.c, this
 * program is test, broker, supervisor and engine. */
#include <setjmp.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/clock.h"
#include "base/hash.h"
#include "base/png.h"
#include "proto/peer.h"
#include "tests/worker/fake_broker.h"
#include "tests/worker/fake_engine.c"
#include "worker/engine_child.h"
#include "worker/worker.h"

/* The engine is killed in the middle: the task it made is failed, the one that waited is made by the next engine. */
static void engine_killed(void **state)
{
    struct fake *f = *state;
    pid_t        before;

    start_worker(f, "turbo");
    welcome(f, NULL, 0);
    lease(f, 1, "held", 8, false);
    lease(f, 2, "a dog", 3, false);
    wait_step(f, 1, 2);
    wait_held(f, 2);
    before = engine_pid(f);
    assert_true(before > 0);
    kill(before, SIGKILL);
    assert_int_equal(expect(f, MSG_READY).ready.capacity, 0);
    expect_failed(f, 1, FAIL_CRASHED, "engine ended by signal 9 in stage denoise step");
    assert_int_equal(expect(f, MSG_READY).ready.capacity, 2);
    finish(f, 2);
    assert_true(engine_pid(f) != before);
    wait_restarts(f, 1);
}

/* While a picture is written the next one is made, and its engine may die of either. */
static void written_while_the_next_is_made(void **state)
{
    struct fake *f = *state;

    start_worker(f, "turbo");
    welcome(f, NULL, 0);
    assert_int_equal(expect(f, MSG_READY).ready.capacity, 2);
    lease(f, 1, "kept", 1, false);
    assert_int_equal(expect(f, MSG_READY).ready.capacity, 3); /* it has left the device */
    lease(f, 2, "held", 8, false);
    wait_step(f, 2, 1);
    kill(engine_pid(f), SIGKILL); /* of no known cause: the one on the device is to blame, the other is made again */
    expect_failed(f, 2, FAIL_CRASHED, "engine ended by signal 9 in stage denoise step");
    let_go(f, "kept");
    finish(f, 1);
    quiet(f);
}

/* The writing thread crashes: its own task is to blame, not the one on the device. */
static void torn_while_the_next_is_made(void **state)
{
    struct fake *f = *state;
    struct msg   offer;

    start_worker(f, "turbo");
    welcome(f, NULL, 0);
    lease(f, 1, "kept", 1, false); /* the writer is at this when the torn one comes */
    lease(f, 2, "torn", 1, false);
    lease(f, 3, "held", 8, false);
    wait_step(f, 3, 1);
    let_go(f, "kept");
    offer = expect(f, MSG_OFFER);
    assert_int_equal(offer.offer.task, 1);
    expect_failed(f, 2, FAIL_CRASHED, "engine ended by signal 11 writing a picture");
    tell(f, (struct msg){.kind = MSG_OFFER_OK, .correlation = offer.correlation, .offer_ok = {.task = 1, .verdict = OFFER_HAVE}});
    let_go(f, "held");
    finish(f, 3);
    quiet(f);
}

static void failures(void **state)
{
    struct fake *f = *state;
    struct msg   m;

    f->patience_ms = 6000; /* only one is to be stuck, also where an engine waits seconds for its CPU */
    start_worker(f, "turbo");
    welcome(f, NULL, 0);
    lease(f, 1, "crash", 4, false);
    expect_failed(f, 1, FAIL_CRASHED, "engine ended by signal 6 in stage denoise step 1");
    lease(f, 2, "nan", 4, false);
    expect_failed(f, 2, FAIL_NAN, "not finite");
    lease(f, 3, "oom", 4, false);
    expect_failed(f, 3, FAIL_OOM, "90 GiB");
    lease(f, 4, "device", 4, false);
    expect_failed(f, 4, FAIL_CRASHED, "illegal address");
    lease(f, 5, "hang", 4, false);
    expect_failed(f, 5, FAIL_STUCK, "engine did not move");
    lease(f, 9, "cut", 4, false); /* its engine would fail every task from now on */
    expect_failed(f, 9, FAIL_CRASHED, "was cut while in use");
    lease(f, 6, "a cat", 4, false);
    finish(f, 6);
    wait_restarts(f, 4); /* crash, device, hang, cut */
    m = (struct msg){.kind = MSG_LEASE, .lease = {.task = 7, .epoch = 107, .job = 1, .budget_ms = 30000}};
    spec_init(&m.lease.spec);
    m.lease.spec.width_px = 4096;
    tell(f, m);
    expect_failed(f, 7, FAIL_INVALID, "too much for a fake");
    m.lease.task = 8;
    m.lease.spec.model = str_of("other");
    tell(f, m);
    assert_int_equal(expect(f, MSG_RELEASE).release.task, 8);
}

/* The broker's time for a lease without progress passes before the watchdog's: given back, and the engine is free for the next. */
static void over_budget(void **state)
{
    struct fake *f = *state;
    struct msg   m = {.kind = MSG_LEASE, .lease = {.task = 1, .epoch = 101, .job = 1, .budget_ms = 700}}, back;

    f->patience_ms = 6000;
    start_worker(f, "turbo");
    welcome(f, NULL, 0);
    spec_init(&m.lease.spec);
    m.lease.spec.prompt = str_of("hang");
    m.lease.spec.width_px = m.lease.spec.height_px = 64;
    m.lease.spec.steps = 4;
    tell(f, m);
    back = expect(f, MSG_RELEASE);
    assert_int_equal(back.release.task, 1);
    assert_true(str_is(back.release.why, "no progress within the lease's time"));
    lease(f, 2, "a dog", 3, false); /* made when the watchdog has replaced the hanging engine */
    finish(f, 2);
}

/* The model's folder goes away: the engine cannot start again, and what waits here goes to others. It comes back: so does the worker, and
 * when it is another model by then, the broker hears of it. */
static void model_goes_away(void **state)
{
    struct fake *f = *state;
    char         model[64], other[80];
    struct msg   m;

    snprintf(model, sizeof model, "%s/model", f->folder);
    snprintf(other, sizeof other, "%s/other", model);
    assert_int_equal(mkdir(model, 0700), 0);
    start_worker(f, model);
    assert_int_equal(welcome(f, NULL, 0).hello.model[0].digest[0], 1);
    lease(f, 1, "held", 8, false);
    lease(f, 2, "a dog", 3, false);
    wait_step(f, 1, 2);
    wait_held(f, 2);
    assert_int_equal(rmdir(model), 0);
    kill(engine_pid(f), SIGBUS);
    expect_failed(f, 1, FAIL_CRASHED, "a file of the model was cut");
    m = expect(f, MSG_RELEASE);
    assert_int_equal(m.release.task, 2);
    assert_true(str_is(m.release.why, "the engine does not start again"));
    assert_int_equal(mkdir(model, 0700), 0);
    assert_int_equal(expect(f, MSG_READY).ready.capacity, 2); /* the same again: no new session */
    assert_int_equal(mkdir(other, 0700), 0);
    kill(engine_pid(f), SIGKILL);
    m = welcome(f, NULL, 0);
    assert_int_equal(m.hello.model[0].digest[0], 9);
    assert_int_equal(m.hello.capacity, 2);
    lease(f, 3, "a cat", 3, false);
    finish(f, 3);
    assert_int_equal(rmdir(other), 0);
    assert_int_equal(rmdir(model), 0);
}

/* Supervisor and engine are frozen together for longer than the watchdog's patience: nobody was stuck. */
static void frozen(void **state)
{
    struct fake *f = *state;
    pid_t        engine;

    f->patience_ms = 5000;
    start_worker(f, "turbo");
    welcome(f, NULL, 0);
    lease(f, 1, "held", 8, false);
    wait_step(f, 1, 2);
    engine = engine_pid(f);
    kill(engine, SIGSTOP);
    kill(f->pid, SIGSTOP);
    expect_for(f, (enum msg_kind)0, 6000);
    kill(f->pid, SIGCONT);
    expect(f, MSG_BEAT); /* the supervisor is awake, and has looked at its engine */
    kill(engine, SIGCONT);
    let_go(f, "held");
    finish(f, 1);
}

/* The supervisor is killed: its engine does not outlive it. */
static void supervisor_killed(void **state)
{
    struct fake *f = *state;
    pid_t        engine;

    start_worker(f, "turbo");
    welcome(f, NULL, 0);
    engine = engine_pid(f);
    kill(f->pid, SIGKILL);
    assert_int_equal(worker_status(f), 1000 + SIGKILL);
    for (int64_t until = now_ms() + WAIT_MS; kill(engine, 0) == 0 && now_ms() < until;) usleep(10000);
    assert_int_equal(kill(engine, 0), -1);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
        T(engine_killed), T(written_while_the_next_is_made), T(torn_while_the_next_is_made), T(failures),
        T(over_budget), T(model_goes_away), T(frozen), T(supervisor_killed),
    };

    if (engine_child_is(argc, argv)) return engine_child_main(argc, argv);
    if (argc == 7 && !strcmp(argv[1], "--worker")) return run_worker(argv);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
