/* test_worker.c - a whole worker (supervisor and engine child, with a fake engine) against a scripted broker.
 * This program is all three: the test and broker, with --worker the supervisor, with --engine-child the engine. */
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

static void hello(void **state)
{
    struct fake *f = *state;
    struct msg   m;
    int64_t      from;

    start_worker(f, "dir/turbo");
    m = welcome(f, NULL, 0);
    assert_int_equal(m.hello.role, ROLE_WORKER);
    assert_int_equal(m.hello.capacity, 2);
    assert_int_equal(m.hello.n_held, 0);
    assert_int_equal(m.hello.n_models, 1);
    assert_true(str_is(m.hello.name, "test") && str_is(m.hello.model[0].name, "turbo") && str_is(m.hello.model[0].profile, "fake"));
    assert_true(str_is(m.hello.about, "a fake engine") && str_is(m.hello.device, "cuda:0"));
    assert_int_equal(m.hello.model[0].steps, 4);
    assert_int_equal(expect(f, MSG_READY).ready.capacity, 2);
    from = now_ms();
    while (f->n_beats < 4 && now_ms() - from < WAIT_MS) expect_for(f, (enum msg_kind)0, BEAT_TEST_MS);
    assert_true(f->n_beats >= 4 && f->n_beats <= 2 + (now_ms() - from) / BEAT_TEST_MS);
}

static void result_with_small_credit(void **state)
{
    struct fake    *f = *state;
    struct buf      out[PARTS_MAX] = {0}, again[PARTS_MAX] = {0};
    struct png_text text[4];
    struct image    img = {0};
    size_t          n_text = 4;
    struct msg      offer;
    struct err      e = {0};

    start_worker(f, "turbo=some/dir");
    welcome(f, NULL, 0);
    lease(f, 5, "a cat", 0, true);
    offer = expect(f, MSG_OFFER);
    assert_int_equal(offer.offer.epoch, 105);
    assert_int_equal(offer.offer.n_parts, 2);
    assert_int_equal(offer.offer.width_px, 64);
    upload(f, &offer, 1000, out);
    if (png_read(buf_str(&out[0]), &img, text, &n_text, &e)) fail_msg("%s", e.text);
    assert_int_equal(img.width_px, 64);
    assert_int_equal(img.height_px, 48);
    assert_int_equal(n_text, 2);
    assert_string_equal(text[0].key, "parameters");
    assert_non_null(strstr(text[0].value.at, "a cat\nSteps: 4, Sampler: Euler"));
    assert_string_equal(text[1].key, "zfarm");
    png_texts_free(text, n_text);
    image_free(&img);
    assert_true(out[1].len > 16 * 8 * 6 * 4);
    lease(f, 5, "a cat", 0, true); /* the same spec again: the same bytes */
    offer = expect(f, MSG_OFFER);
    upload(f, &offer, CHUNK_MAX_BYTES, again);
    for (int p = 0; p < 2; p++) {
        assert_true(str_eq(buf_str(&out[p]), buf_str(&again[p])));
        buf_release(&out[p]);
        buf_release(&again[p]);
    }
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

/* The engine is killed in the middle: the task it made is failed, the one that waited is made by the next engine. */
static void engine_killed(void **state)
{
    struct fake *f = *state;
    pid_t        before;

    start_worker(f, "turbo");
    welcome(f, NULL, 0);
    lease(f, 1, "slow", 200, false);
    lease(f, 2, "a dog", 3, false);
    wait_step(f, 1, 2);
    assert_int_equal(f->n_progress, 2);
    before = engine_pid(f);
    assert_true(before > 0);
    kill(before, SIGKILL);
    assert_int_equal(expect(f, MSG_READY).ready.capacity, 0);
    expect_failed(f, 1, FAIL_CRASHED, "engine ended by signal 9 in stage denoise step");
    assert_int_equal(expect(f, MSG_READY).ready.capacity, 2);
    finish(f, 2);
    assert_true(engine_pid(f) != before);
    for (int64_t until = now_ms() + WAIT_MS; f->restarts == 0 && now_ms() < until;) expect_for(f, (enum msg_kind)0, 20);
    assert_int_equal(f->restarts, 1);
}

/* A picture so large that writing it takes seconds: meanwhile the next one is made, and its engine may die of either. */
static void lease_large(struct fake *f, uint64_t task, const char *prompt)
{
    struct msg m = {.kind = MSG_LEASE, .lease = {.task = task, .epoch = task + 100, .job = 1, .budget_ms = 60000}};

    spec_init(&m.lease.spec);
    m.lease.spec.prompt = str_of(prompt);
    m.lease.spec.width_px = m.lease.spec.height_px = 4000;
    m.lease.spec.steps = 1;
    tell(f, m);
}

static void written_while_the_next_is_made(void **state)
{
    struct fake *f = *state;

    start_worker(f, "turbo");
    welcome(f, NULL, 0);
    assert_int_equal(expect(f, MSG_READY).ready.capacity, 2);
    lease_large(f, 1, "a large one");
    assert_int_equal(expect(f, MSG_READY).ready.capacity, 3); /* it has left the device */
    lease(f, 2, "slow", 200, false);
    wait_step(f, 2, 1);
    kill(engine_pid(f), SIGKILL); /* of no known cause: the one on the device is to blame, the other is made again */
    expect_failed(f, 2, FAIL_CRASHED, "engine ended by signal 9 in stage denoise step");
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
    lease_large(f, 1, "a large one"); /* the writer is at this when the torn one comes */
    lease(f, 2, "torn", 1, false);
    lease(f, 3, "slow", 100, false);
    wait_step(f, 3, 1);
    offer = expect(f, MSG_OFFER);
    assert_int_equal(offer.offer.task, 1);
    expect_failed(f, 2, FAIL_CRASHED, "engine ended by signal 11 writing a picture");
    tell(f, (struct msg){.kind = MSG_OFFER_OK, .correlation = offer.correlation, .offer_ok = {.task = 1, .verdict = OFFER_HAVE}});
    finish(f, 3);
    quiet(f);
}

static void failures(void **state)
{
    struct fake *f = *state;
    struct msg   m;

    f->patience_ms = 3000;
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
    assert_int_equal(f->restarts, 4); /* crash, device, hang, cut */
    m = (struct msg){.kind = MSG_LEASE, .lease = {.task = 7, .epoch = 107, .job = 1, .budget_ms = 1}};
    spec_init(&m.lease.spec);
    m.lease.spec.width_px = 4096;
    tell(f, m);
    expect_failed(f, 7, FAIL_INVALID, "too much for a fake");
    m.lease.task = 8;
    m.lease.spec.model = str_of("other");
    tell(f, m);
    assert_int_equal(expect(f, MSG_RELEASE).release.task, 8);
}

/* What has not begun is given back when it is called for; what runs is not, nor what was leased anew. */
static void recall(void **state)
{
    struct fake *f = *state;
    struct held  held[] = {{1, 101}, {2, 999}, {2, 102}};
    struct msg   m;

    start_worker(f, "turbo");
    assert_int_equal(welcome(f, NULL, 0).hello.max_batch, 1);
    lease(f, 1, "slow", 30, false);
    lease(f, 2, "a dog", 3, false);
    wait_step(f, 1, 1);
    assert_int_equal(f->n_progress, 2);
    tell(f, (struct msg){.kind = MSG_BEAT_OK, .beat_ok = {.recall = held, .n_recall = 3}});
    m = expect(f, MSG_RELEASE);
    assert_int_equal(m.release.task, 2);
    assert_int_equal(m.release.epoch, 102);
    finish(f, 1);
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
    lease(f, 1, "slow", 200, false);
    lease(f, 2, "a dog", 3, false);
    wait_step(f, 1, 2);
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

    f->patience_ms = 2000;
    start_worker(f, "turbo");
    welcome(f, NULL, 0);
    lease(f, 1, "slow", 20, false);
    wait_step(f, 1, 2);
    engine = engine_pid(f);
    kill(engine, SIGSTOP);
    kill(f->pid, SIGSTOP);
    usleep(3000000);
    kill(f->pid, SIGCONT);
    usleep(150000);
    kill(engine, SIGCONT);
    finish(f, 1);
}

/* An answer to the failure of an older lease does not make the worker forget that of the newer one. */
static void failed_ok_of_an_older_lease(void **state)
{
    struct fake *f = *state;
    struct msg   m;

    start_worker(f, "turbo");
    welcome(f, NULL, 0);
    lease(f, 1, "nan", 4, false);
    m = expect(f, MSG_FAILED);
    tell(f, (struct msg){.kind = MSG_FAILED_OK, .correlation = m.correlation, .failed_ok = {1, 55}});
    m = expect(f, MSG_BEAT);
    tell(f, (struct msg){.kind = MSG_ERROR, .correlation = m.correlation, .error = {WIRE_UNKNOWN_SESSION, 0, {"who are you", 11}}});
    assert_int_equal(welcome(f, NULL, 0).hello.n_held, 1);
    expect_failed(f, 1, FAIL_NAN, "not finite");
}

static void cancel(void **state)
{
    struct fake *f = *state;
    struct held  both[2] = {{1, 101}, {2, 102}};
    int64_t      from;

    start_worker(f, "turbo");
    welcome(f, NULL, 0);
    lease(f, 1, "slow", 200, false);
    lease(f, 2, "a dog", 3, false);
    wait_step(f, 1, 2);
    from = now_ms();
    tell(f, (struct msg){.kind = MSG_BEAT_OK, .beat_ok = {.seq = 0, .cancel = both, .n_cancel = 2}});
    expect_failed(f, 2, FAIL_CANCELED, "before it began");
    expect_failed(f, 1, FAIL_CANCELED, "canceled after step");
    assert_true(now_ms() - from < 1000);
    lease(f, 3, "a cat", 3, false);
    finish(f, 3);
}

/* The broker goes while a result is offered, another lease runs, and comes back as if nothing had been. */
static void broker_vanishes(void **state)
{
    struct fake *f = *state;
    struct held  drop = {2, 102};
    struct msg   m, first;

    start_worker(f, "turbo");
    first = welcome(f, NULL, 0);
    lease(f, 1, "a cat", 3, false);
    expect(f, MSG_OFFER);
    lease(f, 2, "slow", 200, false);
    expect_for(f, (enum msg_kind)0, 100);
    peer_close(f->peer);
    usleep((3 * BEAT_TEST_MS + 1000) * 1000); /* until the worker has noticed: its next word is HELLO */
    listen_again(f);
    m = welcome(f, &drop, 1);
    assert_memory_equal(m.hello.instance, first.hello.instance, KEY_BYTES);
    assert_int_equal(m.hello.n_held, 2);
    finish(f, 1);
    quiet(f); /* the other was dropped */
    lease(f, 3, "a bird", 3, false);
    finish(f, 3);
}

static void unknown_session(void **state)
{
    struct fake *f = *state;
    struct route before;
    struct msg   m;

    start_worker(f, "turbo");
    welcome(f, NULL, 0);
    m = expect(f, MSG_BEAT);
    before = f->worker;
    tell(f, (struct msg){.kind = MSG_ERROR, .correlation = m.correlation, .error = {WIRE_UNKNOWN_SESSION, 0, {"who are you", 11}}});
    welcome(f, NULL, 0);
    assert_false(route_eq(&before, &f->worker));
    lease(f, 1, "a cat", 3, false);
    m = expect(f, MSG_OFFER);
    for (int i = 0; i < 6; i++) { /* a busy broker (its disk is full) is no refusal: offered again, however often */
        tell(f, (struct msg){.kind = MSG_ERROR, .correlation = m.correlation, .error = {WIRE_BUSY, 10, {"later", 5}}});
        m = expect(f, MSG_OFFER);
    }
    tell(f, (struct msg){.kind = MSG_OFFER_OK, .correlation = m.correlation, .offer_ok = {.task = 1, .verdict = OFFER_HAVE}});
    quiet(f);
}

/* To a broker that understands it: small results inside OFFER, several of them in OFFERS; what it will not have so comes by itself. */
static void small_results_ride(void **state)
{
    struct fake    *f = *state;
    struct offer_ok ok[2] = {{.verdict = OFFER_HAVE}, {.verdict = OFFER_UPLOAD}};
    uint8_t         sha[32];
    struct msg      m;

    f->minor = 1;
    start_worker(f, "turbo");
    welcome(f, NULL, 0);
    for (uint64_t task = 1; task <= 2; task++) {
        lease(f, task, "a cat", 3, task == 2);
        m = expect(f, MSG_OFFER);
        assert_int_equal(m.offer.n_parts, task);
        for (size_t p = 0; p < task; p++) {
            sha256_of(m.offer.bytes[p].at, m.offer.bytes[p].len, sha);
            assert_memory_equal(sha, m.offer.part[p].sha256, 32);
        }
    }
    m = expect(f, MSG_BEAT); /* both unanswered; in a new session they are said together */
    tell(f, (struct msg){.kind = MSG_ERROR, .correlation = m.correlation, .error = {WIRE_UNKNOWN_SESSION, 0, {"who are you", 11}}});
    assert_int_equal(welcome(f, NULL, 0).hello.n_held, 2);
    m = expect(f, MSG_OFFERS);
    assert_int_equal(m.offers.n_offers, 2);
    for (size_t i = 0; i < 2; i++) ok[i].task = m.offers.offer[i].task;
    tell(f, (struct msg){.kind = MSG_OFFERS_OK, .correlation = m.correlation, .offers_ok = {ok, 2}});
    m = expect(f, MSG_OFFER);
    assert_int_equal(m.offer.task, ok[1].task);
    tell(f, (struct msg){.kind = MSG_RESULT_OK, .correlation = m.correlation, .result_ok = {m.offer.task, m.offer.epoch}});
    quiet(f);
}

static void drain(void **state)
{
    struct fake *f = *state;

    start_worker(f, "turbo");
    welcome(f, NULL, 0);
    lease(f, 1, "slow", 20, false);
    lease(f, 2, "a dog", 3, false);
    wait_step(f, 1, 2);
    kill(f->pid, SIGTERM);
    assert_int_equal(expect(f, MSG_READY).ready.capacity, 0);
    assert_int_equal(expect(f, MSG_RELEASE).release.task, 2);
    finish(f, 1);
    expect(f, MSG_BYE);
    assert_int_equal(worker_status(f), 0);
}

static void drain_too_long(void **state)
{
    struct fake *f = *state;

    f->drain_ms = 2000;
    start_worker(f, "turbo");
    welcome(f, NULL, 0);
    lease(f, 1, "slow", 200, false); /* 6 s, and 2 s are given */
    wait_step(f, 1, 3);
    kill(f->pid, SIGTERM);
    assert_int_equal(expect(f, MSG_RELEASE).release.task, 1);
    expect(f, MSG_BYE);
    assert_int_equal(worker_status(f), 0);
}

static void second_signal(void **state)
{
    struct fake *f = *state;
    pid_t        engine;

    start_worker(f, "turbo");
    welcome(f, NULL, 0);
    lease(f, 1, "slow", 50, false);
    wait_step(f, 1, 1);
    engine = engine_pid(f);
    kill(f->pid, SIGINT);
    usleep(50000);
    kill(f->pid, SIGINT);
    assert_int_equal(worker_status(f), 0);
    assert_int_equal(kill(engine, 0), -1); /* no engine is left behind */
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

static void model_does_not_open(void **state)
{
    struct fake *f = *state;

    start_worker(f, "missing");
    assert_int_equal(worker_status(f), 1);
    start_worker(f, "crashes");
    assert_int_equal(worker_status(f), 1);
}

static void version_refused(void **state)
{
    struct fake *f = *state;
    struct msg   m;

    start_worker(f, "turbo");
    m = expect(f, MSG_HELLO);
    tell(f, (struct msg){.kind = MSG_ERROR, .correlation = m.correlation, .error = {WIRE_VERSION, 0, {"2.0 is spoken here", 18}}});
    assert_int_equal(worker_status(f), 1);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
        T(hello), T(result_with_small_credit), T(engine_killed), T(written_while_the_next_is_made), T(torn_while_the_next_is_made), T(failures), T(recall), T(model_goes_away), T(frozen),
        T(failed_ok_of_an_older_lease), T(cancel), T(broker_vanishes), T(unknown_session), T(small_results_ride),
        T(drain), T(drain_too_long), T(second_signal), T(supervisor_killed), T(model_does_not_open), T(version_refused),
    };

    if (engine_child_is(argc, argv)) return engine_child_main(argc, argv);
    if (argc == 6 && !strcmp(argv[1], "--worker")) return run_worker(argv);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
